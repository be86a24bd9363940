//! The state machine of RFC 9293 §3.3.2 as one total function. The only place that assigns a [`State`].
//!
//! ```text
//!             passive OPEN            CLOSE          FIN arrives
//!   LISTEN ──────────────▶ SYN-RCVD ─────────▶ FIN-WAIT-1 ─────────▶ CLOSING
//!                             │ ACK of SYN        │ ACK of FIN          │ ACK of FIN
//!   SYN-SENT ─ SYN,ACK ──▶ ESTABLISHED ──────▶ FIN-WAIT-2 ── FIN ─▶ TIME-WAIT ── 2MSL ─▶ CLOSED
//!                             │ FIN                                    CLOSED ▲
//!                             ▼            CLOSE                              │ ACK of FIN
//!                          CLOSE-WAIT ─────────────────▶ LAST-ACK ────────────┘
//! ```

use crate::pipe::State;

/// What can move a connection from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The user connects: a SYN is owed.
    ActiveOpen,
    /// A SYN arrives at a listener, or in SYN-SENT without an ACK of ours.
    SynArrives,
    /// Our SYN is acknowledged and the peer's has come.
    SynAcked,
    /// The user closes, shuts down its direction, or drops the stream.
    Close,
    /// The peer's FIN is next in sequence.
    FinArrives,
    /// Our FIN is acknowledged.
    FinAcked,
    /// 2·MSL passed, a reset, a give-up, an abort.
    End,
}

/// All events, for the table test.
#[cfg(test)]
const EVENTS: [Event; 7] = [
    Event::ActiveOpen,
    Event::SynArrives,
    Event::SynAcked,
    Event::Close,
    Event::FinArrives,
    Event::FinAcked,
    Event::End,
];

/// The state of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    state: State,
}

impl Lifecycle {
    /// The user connects.
    pub const fn active_open() -> Lifecycle {
        Lifecycle { state: next(State::Closed, Event::ActiveOpen) }
    }

    /// A SYN has reached a listener.
    pub const fn passive_open() -> Lifecycle {
        Lifecycle { state: next(State::Listen, Event::SynArrives) }
    }

    /// The state.
    pub const fn state(self) -> State {
        self.state
    }

    /// Applies an event; one that means nothing in this state changes nothing.
    pub const fn on(&mut self, event: Event) {
        self.state = next(self.state, event);
    }

    /// Whether the peer's FIN has been taken in.
    pub const fn has_received_fin(self) -> bool {
        matches!(self.state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
    }

    /// Whether our direction may still take new data from the user.
    pub const fn is_sending(self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }
}

/// RFC 9293 §3.3.2, figure 5.
pub const fn next(state: State, event: Event) -> State {
    use State::{
        CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived, SynSent, TimeWait,
    };
    match (state, event) {
        (Closed, Event::ActiveOpen) => SynSent,
        (Listen | SynSent, Event::SynArrives) => SynReceived,
        (SynSent | SynReceived, Event::SynAcked) => Established,
        (SynReceived | Established, Event::Close) => FinWait1,
        (CloseWait, Event::Close) => LastAck,
        (Established, Event::FinArrives) => CloseWait,
        (FinWait1, Event::FinArrives) => Closing,
        (FinWait2, Event::FinArrives) => TimeWait,
        (FinWait1, Event::FinAcked) => FinWait2,
        (Closing, Event::FinAcked) => TimeWait,
        (LastAck, Event::FinAcked) | (_, Event::End) => Closed,
        (unchanged, _) => unchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::*;

    const STATES: [State; 11] =
        [Closed, Listen, SynSent, SynReceived, Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait];

    /// Every (state, event) pair; columns in the order of `EVENTS`.
    #[test]
    fn every_pair_of_state_and_event() {
        let expected: [[State; 7]; 11] = [
            [SynSent, Closed, Closed, Closed, Closed, Closed, Closed],
            [Listen, SynReceived, Listen, Listen, Listen, Listen, Closed],
            [SynSent, SynReceived, Established, SynSent, SynSent, SynSent, Closed],
            [SynReceived, SynReceived, Established, FinWait1, SynReceived, SynReceived, Closed],
            [Established, Established, Established, FinWait1, CloseWait, Established, Closed],
            [FinWait1, FinWait1, FinWait1, FinWait1, Closing, FinWait2, Closed],
            [FinWait2, FinWait2, FinWait2, FinWait2, TimeWait, FinWait2, Closed],
            [CloseWait, CloseWait, CloseWait, LastAck, CloseWait, CloseWait, Closed],
            [Closing, Closing, Closing, Closing, Closing, TimeWait, Closed],
            [LastAck, LastAck, LastAck, LastAck, LastAck, Closed, Closed],
            [TimeWait, TimeWait, TimeWait, TimeWait, TimeWait, TimeWait, Closed],
        ];
        for (row, state) in expected.iter().zip(STATES) {
            for (&want, event) in row.iter().zip(EVENTS) {
                assert_eq!(next(state, event), want, "{state:?} on {event:?}");
            }
        }
    }
}
