//! RFC 9293 §3.10.7.4 in FIN-WAIT-1 and FIN-WAIT-2: our FIN stands at 101.

use super::*;
use crate::error::ConnError;

fn fin_wait_1() -> Puppet {
    let mut puppet = Puppet::established(plain());
    puppet.end.shutdown(puppet.now);
    assert_eq!(puppet.sent(), [seg!(fin, seq 101, ack 1, wnd 1000)]);
    puppet
}

fn fin_wait_2() -> Puppet {
    let mut puppet = fin_wait_1();
    puppet.after(&[seg!(ack 102, seq 1, wnd 1000)]);
    puppet
}

const PLACE: Place = Place {
    state: State::FinWait1,
    nxt: 1,
    wnd: 1000,
    una: 101,
    end: 102,
    now: User::Waits,
    reset: User::Error(ConnError::Reset),
};

#[test]
fn segment_arrives_when_fin_wait_1() {
    use State::{Closing, FinWait1, FinWait2, TimeWait};
    check(fin_wait_1, &in_every_synchronized_state(PLACE));
    check(fin_wait_1, &text_in(FinWait1, 101, 102, Closing));
    let last = [seg!(seq 102, ack 2, wnd 999)];
    let rows = [
        row("fifth: our FIN is acknowledged", seg!(ack 102, seq 1, wnd 1000), &[], FinWait2),
        row("fifth, eighth: and the peer's has come", seg!(fin, ack 102, seq 1, wnd 1000), &last, TimeWait)
            .user(0, User::Eof),
        row(
            "seventh: half-closed, text is still taken",
            seg!(ack 102, seq 1, wnd 1000, len 5),
            &[seg!(seq 102, ack 6, wnd 995)],
            FinWait2,
        )
        .user(5, User::Waits),
    ];
    check(fin_wait_1, &rows);
}

#[test]
fn segment_arrives_when_fin_wait_2() {
    check(fin_wait_2, &in_every_synchronized_state(Place { state: State::FinWait2, una: 102, ..PLACE }));
    check(fin_wait_2, &text_in(State::FinWait2, 102, 102, State::TimeWait));
    let old = row(
        "RFC 5961 §5.2: text with an ACK from before our FIN",
        seg!(ack 101, seq 1, wnd 1000, len 5),
        &[seg!(seq 102, ack 6, wnd 995)],
        State::FinWait2,
    );
    check(fin_wait_2, &[old.user(5, User::Waits)]);
}

#[test]
fn segment_arrives_when_fin_wait_1_and_nobody_reads() {
    // RFC 9293 §3.6.1, reliability.md §4.8: the owner has dropped the stream.
    let start = || {
        let mut puppet = Puppet::established(plain());
        let now = puppet.now;
        puppet.end.close(now);
        puppet.sent();
        puppet
    };
    let rows = [
        row("text is answered by RST", seg!(ack 101, seq 1, wnd 1000, len 1), &[], State::Closed)
            .verdict(Verdict::Reset),
        row("out of order too", seg!(ack 101, seq 9, wnd 1000, len 1), &[], State::Closed).verdict(Verdict::Reset),
        row("an ACK is not", seg!(ack 102, seq 1, wnd 1000), &[], State::FinWait2),
        row("a FIN is not", seg!(fin, ack 102, seq 1, wnd 1000), &[seg!(seq 102, ack 2, wnd 999)], State::TimeWait),
    ];
    check(start, &rows);
}
