//! RFC 9293 §3.10.7.3. ISS is 100, the SYN is out.

use super::*;
use crate::error::ConnError;

#[test]
fn segment_arrives_when_syn_sent() {
    use State::{CloseWait, Closed, Established, SynReceived, SynSent};
    let stay = |rule, seg| row(rule, seg, &[], SynSent);
    let reset = |rule, seg| row(rule, seg, &[], SynSent).verdict(Verdict::Reset);
    let open = |rule, seg, ack: u32, wnd: u16, bytes| {
        row(rule, seg, &[seg!(seq 101, ack ack, wnd wnd)], Established).user(bytes, User::Waits)
    };
    let syn_ack = seg!(syn, seq 100, ack 1, wnd 1000, mss 1460);
    let rows = [
        // First, the ACK bit.
        reset("first: SEG.ACK = ISS", seg!(ack 100, seq 0)),
        reset("first: SEG.ACK = ISS - 1 (smoltcp c3a06024)", seg!(syn, ack 99, seq 0, wnd 1000)),
        reset("first: SEG.ACK > SND.NXT", seg!(syn, ack 102, seq 0, wnd 1000)),
        reset("first: text with a wrong ACK", seg!(ack 7, seq 0, len 1)),
        stay("first: no answer to a RST", seg!(rst, ack 102, seq 0)),
        stay("first: no answer to a RST", seg!(rst, ack 100, seq 0)),
        // Second, the RST bit.
        row("second: connection refused", seg!(rst, ack 101, seq 0), &[], Closed)
            .user(0, User::Error(ConnError::Refused)),
        stay("second: RST without ACK is dropped", seg!(rst, seq 0)),
        stay("second: RST and SYN without ACK", seg!(rst, syn, seq 0)),
        // Fourth, the SYN bit.
        open("fourth: SYN-ACK", seg!(syn, ack 101, seq 0, wnd 1000, mss 1460), 1, 1000, 0),
        open("fourth: SYN-ACK with a closed window", seg!(syn, ack 101, seq 0), 1, 1000, 0),
        open("fourth: SYN-ACK with text", seg!(syn, ack 101, seq 0, wnd 1000, len 10), 11, 990, 10),
        open("fourth: SYN-ACK with one byte", seg!(syn, ack 101, seq 0, wnd 1000, len 1), 2, 999, 1),
        open("fourth: SYN-ACK with too much text", seg!(syn, ack 101, seq 0, wnd 1000, len 1400), 1001, 0, 1000),
        row(
            "fourth: SYN-ACK with FIN",
            seg!(syn, fin, ack 101, seq 0, wnd 1000),
            &[seg!(seq 101, ack 2, wnd 999)],
            CloseWait,
        )
        .user(0, User::Eof),
        row("fourth: simultaneous open", seg!(syn, seq 0, wnd 1000, mss 1460), &[syn_ack], SynReceived),
        row("fourth: simultaneous open with text", seg!(syn, seq 0, wnd 1000, len 9), &[syn_ack], SynReceived),
        // Fifth, neither SYN nor RST.
        stay("fifth: an acceptable ACK without SYN", seg!(ack 101, seq 0)),
        stay("fifth: text", seg!(seq 0, len 1)),
        stay("fifth: FIN", seg!(fin, seq 0)),
        stay("fifth: no flag at all", seg!(seq 0)),
    ];
    let config = || StackConfig { sack: false, ..plain() };
    check(|| Puppet::connecting(config()), &rows);
}

#[test]
fn options_count_only_if_both_sides_sent_them() {
    // RFC 7323 §2.2, §3.2, RFC 2018 §2
    let mut puppet = Puppet::connecting(plain());
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 1000, mss 900, ws 7, sackok, ts(5, 0))]);
    let open = puppet.open();
    let agreed = (open.snd.wscale, open.rcv.wscale, open.sack, open.timestamps, open.snd.mss);
    assert_eq!(agreed, (0, 0, true, None, 900));
    let mut puppet = Puppet::connecting(StackConfig::default());
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 1000)]);
    let open = puppet.open();
    let agreed = (open.snd.wscale, open.rcv.wscale, open.sack, open.timestamps, open.snd.mss);
    assert_eq!(agreed, (0, 0, false, None, 536));
}
