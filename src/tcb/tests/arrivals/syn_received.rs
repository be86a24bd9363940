//! RFC 9293 §3.10.7.4 in SYN-RECEIVED. The peer's SYN came to a listener, our SYN-ACK is out.

use super::*;
use crate::error::ConnError;

#[test]
fn segment_arrives_when_syn_received() {
    use State::{CloseWait, Closed, Established, SynReceived};
    let challenge = [seg!(seq 101, ack 1, wnd 1000)];
    let syn_ack = [seg!(syn, seq 100, ack 1, wnd 1000, mss 1460, sackok)];
    let stay = |rule, seg, sent: &[Seg]| row(rule, seg, sent, SynReceived);
    let reset = |rule, seg| row(rule, seg, &[], SynReceived).verdict(Verdict::Reset);
    let open = |rule, seg, sent: &[Seg], bytes| row(rule, seg, sent, Established).user(bytes, User::Waits);
    let rows = [
        // First, the sequence number.
        stay("first: ACK below the window", seg!(ack 101, seq 0), &challenge),
        stay("first: ACK beyond the window", seg!(ack 101, seq 1001), &challenge),
        stay("first: old text", seg!(ack 101, seq 0, len 1), &challenge),
        stay("first: text beyond the window", seg!(ack 101, seq 1001, len 1), &challenge),
        // Second, the RST bit.
        row("second: RST at RCV.NXT returns to LISTEN", seg!(rst, seq 1), &[], Closed),
        row("second: RST and ACK at RCV.NXT", seg!(rst, ack 7, seq 1), &[], Closed),
        stay("RFC 5961 §3.2: RST below the window", seg!(rst, seq 0), &[]),
        stay("RFC 5961 §3.2: RST in the window", seg!(rst, seq 2), &challenge),
        stay("RFC 5961 §3.2: RST at the last number", seg!(rst, seq 1000), &challenge),
        stay("RFC 5961 §3.2: RST beyond the window", seg!(rst, seq 1001), &[]),
        // Fourth, the SYN bit.
        stay("as Linux: the SYN again, our SYN-ACK was lost", seg!(syn, seq 0, wnd 1000, mss 1460, sackok), &syn_ack),
        stay("RFC 5961 §4.2: another SYN", seg!(syn, seq 1, wnd 1000), &challenge),
        stay("RFC 5961 §4.2: another SYN beyond the window", seg!(syn, seq 5000, wnd 1000), &challenge),
        stay("RFC 5961 §4.2: a SYN-ACK to a listener", seg!(syn, ack 101, seq 0, wnd 1000), &challenge),
        // Fifth, the ACK field.
        stay("fifth: no ACK bit", seg!(seq 1, len 1), &[]),
        stay("fifth: no flag at all", seg!(seq 1), &[]),
        stay("fifth: FIN without ACK", seg!(fin, seq 1), &[]),
        reset("fifth: SEG.ACK = ISS (smoltcp f95b0bf6)", seg!(ack 100, seq 1, wnd 1000)),
        reset("fifth: SEG.ACK = ISS - 1", seg!(ack 99, seq 1, wnd 1000)),
        reset("fifth: SEG.ACK > SND.NXT", seg!(ack 102, seq 1, wnd 1000)),
        reset("fifth: ... with text", seg!(ack 102, seq 1, wnd 1000, len 1)),
        open("fifth: the handshake is complete", seg!(ack 101, seq 1, wnd 1000), &[], 0),
        open("fifth: with a closed window (xarxa 001)", seg!(ack 101, seq 1), &[], 0),
        open("seventh: with text", seg!(ack 101, seq 1, wnd 1000, len 10), &[seg!(seq 101, ack 11, wnd 990)], 10),
        open(
            "seventh: with text out of order",
            seg!(ack 101, seq 2, wnd 1000, len 1),
            &[seg!(seq 101, ack 1, wnd 1000, sack(2..3))],
            0,
        ),
        row("eighth: with FIN", seg!(fin, ack 101, seq 1, wnd 1000), &[seg!(seq 101, ack 2, wnd 999)], CloseWait)
            .user(0, User::Eof),
    ];
    let syn = seg!(syn, seq 0, wnd 1000, mss 1460, sackok);
    check(|| Puppet::half_open(plain(), &syn), &rows);
}

#[test]
fn segment_arrives_when_syn_received_after_a_simultaneous_open() {
    // RFC 9293 §3.5, figure 8: both SYNs crossed.
    use State::{Closed, Established, SynReceived};
    let challenge = [seg!(seq 101, ack 1, wnd 1000)];
    let rows = [
        row("figure 8: the peer's SYN-ACK", seg!(syn, ack 101, seq 0, wnd 1000), &[], Established),
        row("the peer's ACK", seg!(ack 101, seq 1, wnd 1000), &[], Established),
        row("the SYN again", seg!(syn, seq 0, wnd 1000), &[seg!(syn, seq 100, ack 1, wnd 1000, mss 1460)], SynReceived),
        row("second: connection refused", seg!(rst, seq 1), &[], Closed).user(0, User::Error(ConnError::Refused)),
        row("RFC 5961 §3.2: RST in the window", seg!(rst, seq 2), &challenge, SynReceived),
        row("fifth: a wrong ACK", seg!(ack 100, seq 1), &[], SynReceived).verdict(Verdict::Reset),
        row("fifth: a SYN-ACK with a wrong ACK", seg!(syn, ack 100, seq 0), &[], SynReceived).verdict(Verdict::Reset),
    ];
    let start = || {
        let mut puppet = Puppet::connecting(plain());
        puppet.after(&[seg!(syn, seq 0, wnd 1000)]);
        puppet
    };
    check(start, &rows);
}

#[test]
fn paws_when_syn_received() {
    // RFC 7323 §5.3 R1. Our clock: 77 or 99 ahead of virtual time.
    let start =
        || Puppet::half_open(StackConfig { timestamps: true, ..plain() }, &seg!(syn, seq 0, wnd 1000, ts(10, 0)));
    let challenge = [seg!(seq 101, ack 1, wnd 1000, ts(1099, 10))];
    let rows = [
        row("R1: an older timestamp", seg!(ack 101, seq 1, wnd 1000, ts(9, 0)), &challenge, State::SynReceived),
        row("§3.2: no timestamp", seg!(ack 101, seq 1, wnd 1000), &challenge, State::SynReceived),
        row("the same timestamp", seg!(ack 101, seq 1, wnd 1000, ts(10, 0)), &[], State::Established),
        row("a RST needs none", seg!(rst, seq 1), &[], State::Closed),
    ];
    check(start, &rows);
}
