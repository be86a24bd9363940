//! RFC 9293 §3.10.7.4 in TIME-WAIT: both FINs are acknowledged, SND.NXT is 102, RCV.NXT 2.

use super::*;

fn time_wait_with(config: StackConfig, ts: Option<u32>) -> Puppet {
    let stamp = |mut seg: Seg| {
        seg.options.timestamps = ts.map(|val| crate::wire::Timestamps { val, ecr: 0 });
        seg
    };
    let mut puppet = Puppet::half_open(config, &stamp(seg!(syn, seq 0, wnd 1000, mss 1460)));
    puppet.after(&[stamp(seg!(ack 101, seq 1, wnd 1000))]);
    puppet.end.shutdown(puppet.now);
    puppet.sent();
    puppet.after(&[stamp(seg!(fin, ack 102, seq 1, wnd 1000))]);
    assert_eq!(puppet.end.tcb.state(), State::TimeWait);
    puppet
}

#[test]
fn segment_arrives_when_time_wait() {
    let ack = [seg!(seq 102, ack 2, wnd 999)];
    let stay = |rule, seg, sent: &[Seg]| row(rule, seg, sent, State::TimeWait).user(0, User::Eof);
    let renew = |rule, seg| stay(rule, seg, &[]).verdict(Verdict::NewSyn);
    let rows = [
        stay("RFC 1337 §3: RST below RCV.NXT", seg!(rst, seq 1), &[]),
        stay("RFC 1337 §3: RST at RCV.NXT", seg!(rst, seq 2), &[]),
        stay("RFC 1337 §3: RST and ACK", seg!(rst, ack 102, seq 2), &[]),
        stay("RFC 1337 §3: RST in the window", seg!(rst, seq 1000), &[]),
        stay("RFC 1337 §3: RST and SYN", seg!(rst, syn, seq 2000), &[]),
        renew("RFC 6191 §2: a SYN beyond RCV.NXT", seg!(syn, seq 3, wnd 1000)),
        renew("RFC 6191 §2: a SYN far beyond", seg!(syn, seq 1 << 30, wnd 1000)),
        stay("RFC 6191 §2: a SYN at RCV.NXT", seg!(syn, seq 2, wnd 1000), &ack),
        stay("RFC 6191 §2: an old SYN", seg!(syn, seq 0, wnd 1000), &ack),
        stay("a SYN-ACK is no new connection", seg!(syn, ack 102, seq 5000, wnd 1000), &ack),
        stay("eighth: the FIN again", seg!(fin, ack 102, seq 1, wnd 1000), &ack),
        stay("eighth: the FIN again, with text before it", seg!(fin, ack 102, seq 0, wnd 1000, len 1), &ack),
        stay("first: an old byte", seg!(ack 102, seq 1, wnd 1000, len 1), &ack),
        stay("first: a byte beyond the FIN", seg!(ack 102, seq 2, wnd 1000, len 1), &ack),
        stay("an ACK is not answered, or two records would talk for ever", seg!(ack 102, seq 2, wnd 1000), &[]),
        stay("an old ACK", seg!(ack 50, seq 2, wnd 1000), &[]),
        stay("an ACK of what was never sent", seg!(ack 5000, seq 2, wnd 1000), &[]),
        stay("no flag at all", seg!(seq 2), &[]),
    ];
    check(|| time_wait_with(plain(), None), &rows);
}

#[test]
fn syn_arrives_when_time_wait_with_timestamps() {
    // RFC 6191 §2; TS.Recent is 50, our clock reads 1,099.
    let ack = [seg!(seq 102, ack 2, wnd 999, ts(1099, 50))];
    let stay = |rule, seg| row(rule, seg, &ack, State::TimeWait).user(0, User::Eof);
    let renew = |rule, seg| row(rule, seg, &[], State::TimeWait).user(0, User::Eof).verdict(Verdict::NewSyn);
    let rows = [
        renew("a larger timestamp, a larger number", seg!(syn, seq 3, ts(51, 0))),
        renew("a larger timestamp, a smaller number", seg!(syn, seq 0, ts(51, 0))),
        renew("the same timestamp, a larger number", seg!(syn, seq 3, ts(50, 0))),
        stay("the same timestamp, a smaller number", seg!(syn, seq 0, ts(50, 0))),
        stay("a smaller timestamp, a larger number", seg!(syn, seq 3, ts(49, 0))),
        renew("no timestamp, a larger number", seg!(syn, seq 3)),
        stay("no timestamp, a smaller number", seg!(syn, seq 0)),
    ];
    check(|| time_wait_with(StackConfig { timestamps: true, ..plain() }, Some(50)), &rows);
}

#[test]
fn only_the_fin_restarts_time_wait() {
    // RFC 9293 §3.10.7.4, eighth check; RFC 1337 (old duplicates must not prolong it)
    for (seg, restarted) in [
        (seg!(fin, ack 102, seq 1, wnd 1000), true),
        (seg!(ack 102, seq 1, wnd 1000, len 1), false),
        (seg!(syn, seq 0, wnd 1000), false),
        (seg!(rst, seq 2), false),
    ] {
        let mut puppet = time_wait_with(plain(), None);
        let before = puppet.end.tcb.next_deadline();
        puppet.now = puppet.now + Duration::from_secs(10);
        puppet.after(&[seg]);
        assert_eq!(puppet.end.tcb.next_deadline() > before, restarted, "{seg:?}");
    }
}
