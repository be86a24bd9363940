//! RFC 9293 §3.10.7.4 after the peer's FIN at 1: CLOSE-WAIT, CLOSING, LAST-ACK. Ours stands at 101.

use super::*;

fn close_wait() -> Puppet {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(fin, ack 101, seq 1, wnd 1000)]);
    puppet
}

fn closing() -> Puppet {
    let mut puppet = Puppet::established(plain());
    puppet.end.shutdown(puppet.now);
    puppet.sent();
    puppet.after(&[seg!(fin, ack 101, seq 1, wnd 1000)]);
    puppet
}

fn last_ack() -> Puppet {
    let mut puppet = close_wait();
    puppet.end.shutdown(puppet.now);
    assert_eq!(puppet.sent(), [seg!(fin, seq 101, ack 2, wnd 999)]);
    puppet
}

/// Who has read the end of the stream stays there, also after a reset (as Linux: SOCK_DONE).
const PLACE: Place =
    Place { state: State::CloseWait, nxt: 2, wnd: 999, una: 101, end: 101, now: User::Eof, reset: User::Eof };

/// Nothing may follow a FIN.
fn beyond(state: State, end: u32) -> Vec<Row> {
    let stay = |rule, seg, sent: &[Seg]| row(rule, seg, sent, state).user(0, User::Eof);
    let ack = [seg!(seq end, ack 2, wnd 999)];
    vec![
        stay("seventh: text after the FIN is ignored", seg!(ack 101, seq 2, wnd 1000, len 1), &[]),
        stay("seventh: text after the FIN is ignored", seg!(ack 101, seq 900, wnd 1000, len 100), &[]),
        stay("eighth: a repeated FIN", seg!(fin, ack 101, seq 1, wnd 1000), &ack),
        stay("eighth: a repeated FIN with its text", seg!(fin, ack 101, seq 0, wnd 1000, len 1), &ack),
        stay("eighth: a second FIN is acknowledged as it was", seg!(fin, ack 101, seq 2, wnd 1000), &ack),
    ]
}

#[test]
fn segment_arrives_when_close_wait() {
    check(close_wait, &in_every_synchronized_state(PLACE));
    check(close_wait, &beyond(State::CloseWait, 101));
    let start = || {
        let mut puppet = close_wait();
        puppet.write(10);
        assert_eq!(puppet.sent(), [seg!(psh, seq 101, ack 2, wnd 999, len 10)]);
        puppet
    };
    let state = State::CloseWait;
    let rows = [
        row("fifth: our text is acknowledged", seg!(ack 111, seq 2, wnd 1000), &[], state).user(0, User::Eof),
        row("fifth: a window update", seg!(ack 101, seq 2, wnd 2000), &[], state).user(0, User::Eof),
    ];
    check(start, &rows);
}

#[test]
fn segment_arrives_when_closing() {
    check(closing, &in_every_synchronized_state(Place { state: State::Closing, end: 102, ..PLACE }));
    check(closing, &beyond(State::Closing, 102));
    let fin_acked = row("fifth: our FIN is acknowledged", seg!(ack 102, seq 2, wnd 1000), &[], State::TimeWait);
    check(closing, &[fin_acked.user(0, User::Eof)]);
}

#[test]
fn segment_arrives_when_last_ack() {
    check(last_ack, &in_every_synchronized_state(Place { state: State::LastAck, end: 102, ..PLACE }));
    check(last_ack, &beyond(State::LastAck, 102));
    let rows = [
        row("fifth: our FIN is acknowledged", seg!(ack 102, seq 2, wnd 1000), &[], State::Closed).user(0, User::Eof),
        row("fifth: ... by a segment that carries more", seg!(ack 102, seq 2, wnd 1000, len 9), &[], State::Closed)
            .user(0, User::Eof),
    ];
    check(last_ack, &rows);
}
