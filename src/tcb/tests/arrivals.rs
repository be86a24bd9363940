//! Tables: what one segment causes in each state. A row is the rule, the segment, and the whole answer: what is sent, the new
//! state, the verdict for the engine, what the user sees.
//!
//! Numbers as in [`super::puppet`]: our ISS is 100, the peer's 0, both windows 1,000. LISTEN and CLOSED are `stack`'s.

use super::puppet::{Puppet, User, plain};
use super::*;
use crate::wire::{Segment, seg};

mod after_fin;
mod established;
mod fin_wait;
mod syn_received;
mod syn_sent;
mod time_wait;

type Seg = Segment<'static>;

/// The whole answer to one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    sent: Vec<Seg>,
    state: State,
    verdict: Verdict,
    /// Bytes read, and what comes after them.
    user: (usize, User),
}

#[derive(Clone, Debug)]
struct Row {
    rule: &'static str,
    seg: Seg,
    answer: Answer,
}

impl Row {
    fn verdict(mut self, verdict: Verdict) -> Row {
        self.answer.verdict = verdict;
        self
    }

    fn user(mut self, bytes: usize, then: User) -> Row {
        self.answer.user = (bytes, then);
        self
    }
}

/// Nothing for the engine to do, nothing for the user to see.
fn row(rule: &'static str, seg: Seg, sent: &[Seg], state: State) -> Row {
    let answer = Answer { sent: sent.to_vec(), state, verdict: Verdict::Done, user: (0, User::Waits) };
    Row { rule, seg, answer }
}

/// Each row starts afresh.
fn check(start: impl Fn() -> Puppet, rows: &[Row]) {
    for Row { rule, seg, answer } in rows {
        let mut puppet = start();
        let verdict = puppet.arrive(seg);
        let sent = puppet.sent();
        let state = puppet.end.tcb.state();
        let got = Answer { sent, state, verdict, user: puppet.user() };
        assert_eq!(&got, answer, "{rule}: {seg:?}");
    }
}

/// Where a synchronized connection stands.
#[derive(Clone, Copy)]
struct Place {
    state: State,
    /// RCV.NXT and RCV.WND.
    nxt: u32,
    wnd: u16,
    /// SND.UNA and SND.NXT.
    una: u32,
    end: u32,
    /// What the user sees now, and after a reset.
    now: User,
    reset: User,
}

/// What holds in every synchronized state: the first, second and fourth check, and the range of the fifth.
fn in_every_synchronized_state(place: Place) -> Vec<Row> {
    let Place { state, nxt, wnd, una, end, now, reset } = place;
    let edge = nxt + u32::from(wnd);
    let ack = seg!(seq end, ack nxt, wnd wnd);
    let same = |rule, seg, sent: &[Seg]| row(rule, seg, sent, state).user(0, now);
    let over = |rule, seg| row(rule, seg, &[], State::Closed).user(0, reset);
    vec![
        // RST
        same("RFC 9293 §3.10.7.4 first: RST outside the window is dropped", seg!(rst, seq nxt - 1), &[]),
        over("RFC 5961 §3.2: RST at RCV.NXT", seg!(rst, seq nxt)),
        over("RFC 5961 §3.2: RST at RCV.NXT, whatever its ACK", seg!(rst, ack 7, seq nxt)),
        same("RFC 5961 §3.2: RST in the window is challenged", seg!(rst, seq nxt + 1), &[ack]),
        same("RFC 5961 §3.2: RST in the window is challenged", seg!(rst, seq nxt + u32::from(wnd) / 2), &[ack]),
        same("RFC 5961 §3.2: RST in the window is challenged", seg!(rst, seq edge - 1), &[ack]),
        same("RFC 9293 §3.10.7.4 first: RST outside the window is dropped", seg!(rst, seq edge), &[]),
        over("RFC 9293 §3.10.7.4: the RST bit comes before the SYN bit", seg!(rst, syn, seq nxt)),
        over("RFC 9293 §3.10.7.4: all flags", seg!(fin, syn, rst, psh, urg, ece, cwr, ack una, seq nxt)),
        // SYN
        same("RFC 5961 §4.2: SYN in the window", seg!(syn, seq nxt, mss 1460), &[ack]),
        same("RFC 5961 §4.2: SYN below the window", seg!(syn, seq nxt - 1, mss 1460), &[ack]),
        same("RFC 5961 §4.2: SYN beyond the window", seg!(syn, seq edge + 5, mss 1460), &[ack]),
        same("RFC 5961 §4.2: SYN with text", seg!(syn, seq nxt, len 10), &[ack]),
        same("RFC 5961 §4.2: SYN and FIN", seg!(syn, fin, seq nxt), &[ack]),
        same("RFC 5961 §4.2: a repeated SYN-ACK", seg!(syn, ack 101, seq 0, wnd 1000), &[ack]),
        // ACK
        same("RFC 9293 §3.10.7.4 fifth: no ACK bit", seg!(seq nxt), &[]),
        same("RFC 9293 §3.10.7.4 fifth: text without the ACK bit", seg!(seq nxt, len 1), &[]),
        same("RFC 9293 §3.10.7.4 fifth: FIN without the ACK bit", seg!(fin, seq nxt), &[]),
        same("RFC 5961 §5.2: ACK of what was never sent", seg!(ack end + 1, seq nxt, wnd 1000), &[ack]),
        same("RFC 5961 §5.2: ... with text", seg!(ack end + 1, seq nxt, wnd 1000, len 1), &[ack]),
        same("RFC 5961 §5.2: ACK far away", seg!(ack una + (1 << 31), seq nxt, wnd 1000), &[ack]),
        same("reliability.md A3: ACK of ISS", seg!(ack 100, seq nxt, wnd 1000), &[ack]),
        same("reliability.md A3: ACK of ISS - 1", seg!(ack 99, seq nxt, wnd 1000, len 1), &[ack]),
        same("RFC 9293 §3.10.7.4: an ACK that says nothing new", seg!(ack una, seq nxt, wnd 1000), &[]),
        // Sequence number
        same("RFC 9293 §3.10.7.4 first: ACK below the window", seg!(ack una, seq nxt - 1, wnd 1000), &[ack]),
        same("as Linux: ACK at the edge", seg!(ack una, seq edge, wnd 1000), &[]),
        same("RFC 9293 §3.10.7.4 first: ACK beyond the window", seg!(ack una, seq edge + 1, wnd 1000), &[ack]),
        same("RFC 9293 §3.10.7.4 first: an old byte", seg!(ack una, seq nxt - 1, wnd 1000, len 1), &[ack]),
        same("RFC 9293 §3.10.7.4 first: old text", seg!(ack una, seq nxt.wrapping_sub(500), wnd 1000, len 500), &[ack]),
        same("RFC 9293 §3.10.7.4 first: an old FIN", seg!(fin, ack una, seq nxt - 1, wnd 1000), &[ack]),
        same("RFC 9293 §3.10.7.4 first: a byte beyond", seg!(ack una, seq edge, wnd 1000, len 1), &[ack]),
        same("RFC 9293 §3.10.7.4 first: far beyond", seg!(ack una, seq nxt + (1 << 30), wnd 1000, len 9), &[ack]),
    ]
}

/// What states that still take text do with it. `una` is SND.UNA, `end` SND.NXT; RCV.NXT is 1, the window 1,000.
fn text_in(state: State, una: u32, end: u32, after_fin: State) -> Vec<Row> {
    let take = |rule, seg, ack: u32, wnd: u16, bytes| {
        row(rule, seg, &[seg!(seq end, ack ack, wnd wnd)], state).user(bytes, User::Waits)
    };
    let hole = |rule, seg, left: u32, right: u32| {
        let duplicate = seg!(seq end, ack 1, wnd 1000, sack(left..right));
        row(rule, seg, &[duplicate], state)
    };
    let fin = |rule, seg, ack: u32, wnd: u16, bytes| {
        row(rule, seg, &[seg!(seq end, ack ack, wnd wnd)], after_fin).user(bytes, User::Eof)
    };
    vec![
        take("RFC 9293 §3.10.7.4 seventh: one byte", seg!(ack una, seq 1, wnd 1000, len 1), 2, 999, 1),
        take("RFC 9293 §3.10.7.4 seventh: text in order", seg!(ack una, seq 1, wnd 1000, len 10), 11, 990, 10),
        take("RFC 6093: urgent text in line", seg!(urg, ack una, seq 1, wnd 1000, len 10), 11, 990, 10),
        take("RFC 9293 §3.10.7.4: a full window", seg!(ack una, seq 1, wnd 1000, len 1000), 1001, 0, 1000),
        take("reliability.md A23: trimmed at the right", seg!(ack una, seq 1, wnd 1000, len 1500), 1001, 0, 1000),
        take("RFC 9293 §3.10.7.4: trimmed at the left", seg!(ack una, seq 0, wnd 1000, len 11), 11, 990, 10),
        take("RFC 9293 §3.4: trimmed at both ends", seg!(ack una, seq 0, wnd 1000, len 2000), 1001, 0, 1000),
        take(
            "the FIN behind text that was cut is cut too",
            seg!(fin, ack una, seq 1, wnd 1000, len 1001),
            1001,
            0,
            1000,
        ),
        hole("RFC 5681 §4.2, RFC 2018 §4: out of order", seg!(ack una, seq 2, wnd 1000, len 1), 2, 3),
        hole("RFC 5681 §4.2: out of order at the edge", seg!(ack una, seq 1000, wnd 1000, len 1), 1000, 1001),
        hole("RFC 5681 §4.2: out of order across the edge", seg!(ack una, seq 901, wnd 1000, len 500), 901, 1001),
        hole(
            "RFC 9293 §3.10.7.4 eighth: a FIN out of order waits",
            seg!(fin, ack una, seq 11, wnd 1000, len 10),
            11,
            21,
        ),
        row(
            "RFC 5681 §4.2: a bare FIN out of order",
            seg!(fin, ack una, seq 11, wnd 1000),
            &[seg!(seq end, ack 1, wnd 1000)],
            state,
        ),
        fin("RFC 9293 §3.10.7.4 eighth: FIN", seg!(fin, ack una, seq 1, wnd 1000), 2, 999, 0),
        fin("RFC 9293 §3.10.7.4 eighth: FIN behind text", seg!(fin, ack una, seq 1, wnd 1000, len 10), 12, 989, 10),
        fin("a FIN behind a full window", seg!(fin, ack una, seq 1, wnd 1000, len 1000), 1002, 0, 1000),
        fin("a FIN behind old text", seg!(fin, ack una, seq 0, wnd 1000, len 1), 2, 999, 0),
    ]
}
