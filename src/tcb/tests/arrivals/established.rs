//! RFC 9293 §3.10.7.4 in ESTABLISHED.

use super::*;
use crate::error::ConnError;

const PLACE: Place = Place {
    state: State::Established,
    nxt: 1,
    wnd: 1000,
    una: 101,
    end: 101,
    now: User::Waits,
    reset: User::Error(ConnError::Reset),
};

#[test]
fn segment_arrives_when_established() {
    check(|| Puppet::established(plain()), &in_every_synchronized_state(PLACE));
    check(|| Puppet::established(plain()), &text_in(State::Established, 101, 101, State::CloseWait));
}

#[test]
fn segment_arrives_when_established_with_text_in_flight() {
    // [201, 601) and [601, 1101) are in flight, the window is 1,000.
    let start = || {
        let mut config = plain();
        config.socket.nodelay = true;
        let mut puppet = Puppet::established(config);
        puppet.write(500);
        puppet.sent();
        puppet.write(500);
        puppet.sent();
        puppet.after(&[seg!(ack 201, seq 1, wnd 1000)]);
        puppet
    };
    let place = Place { una: 201, end: 1101, ..PLACE };
    let state = State::Established;
    let challenge = [seg!(seq 1101, ack 1, wnd 1000)];
    let rows = [
        row("fifth: SND.UNA < SEG.ACK =< SND.NXT", seg!(ack 1101, seq 1, wnd 100), &[], state),
        row("fifth: part of it", seg!(ack 601, seq 1, wnd 600), &[], state),
        row("fifth: a duplicate", seg!(ack 201, seq 1, wnd 1000), &[], state),
        row("fifth: an old duplicate (RFC 5961 §5.2)", seg!(ack 101, seq 1, wnd 1000), &[], state),
        row("RFC 5961 §5.2: never below ISS", seg!(ack 100, seq 1, wnd 1000), &challenge, state),
        row("RFC 5961 §5.2: SND.NXT + 1", seg!(ack 1102, seq 1, wnd 1000), &challenge, state),
        row("reliability.md A23: the window shrinks to nothing", seg!(ack 201, seq 1, wnd 0), &[], state),
        row(
            "RFC 2018: a block beyond SND.NXT is ignored",
            seg!(ack 201, seq 1, wnd 1000, sack(1101..1201)),
            &[],
            state,
        ),
        row(
            "the text of an old duplicate counts",
            seg!(ack 101, seq 1, wnd 1000, len 9),
            &[seg!(seq 1101, ack 10, wnd 991)],
            state,
        )
        .user(9, User::Waits),
    ];
    check(start, &rows);
    check(start, &in_every_synchronized_state(place));
}

#[test]
fn segment_arrives_when_established_with_a_closed_window() {
    // RFC 9293 §3.10.7.4: "special allowance should be made to accept valid ACKs, URGs, and RSTs".
    let start = || {
        let mut puppet = Puppet::established(plain());
        puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 1000)]);
        puppet.write(10);
        puppet.sent();
        puppet
    };
    let closed = [seg!(seq 111, ack 1001)];
    let state = State::Established;
    let stay = |rule, seg, sent: &[Seg]| row(rule, seg, sent, state).user(1000, User::Waits);
    let rows = [
        stay("an ACK at RCV.NXT", seg!(ack 111, seq 1001, wnd 1000), &[]),
        stay("a probe of one byte", seg!(ack 111, seq 1001, wnd 1000, len 1), &closed),
        stay("a probe below RCV.NXT (Linux)", seg!(ack 101, seq 1000, wnd 1000), &closed),
        stay("a probe at RCV.NXT + 1", seg!(ack 101, seq 1002, wnd 1000, len 1), &closed),
        stay("RST below RCV.NXT", seg!(rst, seq 1000), &[]),
        stay("RST beyond RCV.NXT", seg!(rst, seq 1002), &[]),
        stay("a SYN", seg!(syn, seq 1001), &closed),
        row("RST at RCV.NXT", seg!(rst, seq 1001), &[], State::Closed).user(1000, User::Error(ConnError::Reset)),
        row("a bare FIN", seg!(fin, ack 111, seq 1001, wnd 1000), &[seg!(seq 111, ack 1002)], State::CloseWait)
            .user(1000, User::Eof),
        stay("a FIN behind text", seg!(fin, ack 111, seq 1001, wnd 1000, len 1), &closed),
    ];
    check(start, &rows);
}

#[test]
fn segment_arrives_when_established_behind_a_hole() {
    // [101, 201) is missing, [201, 301) is held, the FIN stands at 301.
    let start = || {
        let mut puppet = Puppet::established(plain());
        puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 100), seg!(fin, ack 101, seq 201, wnd 1000, len 100)]);
        puppet
    };
    let hole = |left: u32, right: u32| seg!(seq 101, ack 101, wnd 900, sack(left..right));
    let state = State::Established;
    let stay = |rule, seg, sent: &[Seg]| row(rule, seg, sent, state).user(100, User::Waits);
    let rows = [
        stay("RFC 5681 §4.2: a repeated segment", seg!(ack 101, seq 201, wnd 1000, len 100), &[hole(201, 301)]),
        stay("RFC 2018 §4: the block grows", seg!(ack 101, seq 151, wnd 1000, len 50), &[hole(151, 301)]),
        stay("reliability.md A19: text beyond the FIN is dropped", seg!(ack 101, seq 301, wnd 1000, len 50), &[]),
        stay(
            "reliability.md A19: the FIN stays where it was",
            seg!(fin, ack 101, seq 251, wnd 1000, len 10),
            &[hole(201, 301)],
        ),
        row(
            "the hole is filled: text and FIN at once",
            seg!(ack 101, seq 101, wnd 1000, len 100),
            &[seg!(seq 101, ack 302, wnd 699)],
            State::CloseWait,
        )
        .user(300, User::Eof),
    ];
    check(start, &rows);
}

#[test]
fn paws_when_established() {
    // RFC 7323 §5.3; TS.Recent is 11, our clock reads 1,099.
    let start = || {
        let config = StackConfig { timestamps: true, ..plain() };
        let mut puppet = Puppet::half_open(config, &seg!(syn, seq 0, wnd 1000, ts(10, 0)));
        puppet.after(&[seg!(ack 101, seq 1, wnd 1000, ts(11, 1099))]);
        puppet
    };
    let state = State::Established;
    let ack = |ack: u32, wnd: u16, recent: u32| [seg!(seq 101, ack ack, wnd wnd, ts(1099, recent))];
    let rows = [
        row("R1: an older text", seg!(ack 101, seq 1, wnd 1000, ts(10, 0), len 10), &ack(1, 1000, 11), state),
        row("R1: an older ACK", seg!(ack 101, seq 1, wnd 1000, ts(10, 0)), &ack(1, 1000, 11), state),
        row(
            "R1: half the circle behind",
            seg!(ack 101, seq 1, wnd 1000, ts(12 + (1 << 31), 0)),
            &ack(1, 1000, 11),
            state,
        ),
        row("R1: an older SYN", seg!(syn, seq 1, wnd 1000, ts(10, 0)), &ack(1, 1000, 11), state),
        row("§3.2: text without timestamp", seg!(ack 101, seq 1, wnd 1000, len 10), &[], state),
        row("RFC 5961 §4.2: a SYN without timestamp", seg!(syn, seq 1, wnd 1000), &ack(1, 1000, 11), state),
        row("R3: the same timestamp", seg!(ack 101, seq 1, wnd 1000, ts(11, 0), len 1), &ack(2, 999, 11), state)
            .user(1, User::Waits),
        row("R3: a newer one is echoed", seg!(ack 101, seq 1, wnd 1000, ts(12, 0), len 1), &ack(2, 999, 12), state)
            .user(1, User::Waits),
        row(
            "§4.3: not beyond Last.ACK.sent",
            seg!(ack 101, seq 2, wnd 1000, ts(99, 0), len 1),
            &ack(1, 1000, 11),
            state,
        ),
        row(
            "§4.3: not outside the window",
            seg!(ack 101, seq 5000, wnd 1000, ts(99, 0), len 1),
            &ack(1, 1000, 11),
            state,
        ),
        row("R1: not for a RST", seg!(rst, seq 1, ts(1, 0)), &[], State::Closed).user(0, User::Error(ConnError::Reset)),
    ];
    check(start, &rows);
}
