//! Congestion control: how much may be in the network.
//!
//! Owns cwnd and ssthresh. Never detects loss, never counts duplicate ACKs, never sends: `tcb::loss` decides that
//! something was lost and reports it as a [`LossEvent`]; `tcb::input` reports progress as an [`AckEvent`]; `tcb::send`
//! reads [`Congestion::cwnd`].

use std::time::Duration;

use super::flight::RateSample;
use crate::config::CongestionControl;
use crate::time::Instant;

mod new_reno;

pub use new_reno::NewReno;

/// No window grows beyond this: the largest that window scaling can express (RFC 7323 §2.3).
pub const MAX_CWND: u32 = 1 << 30;

/// New data was acknowledged or, on a path that reorders, reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckEvent {
    /// When the ACK arrived.
    pub now: Instant,
    /// Bytes newly delivered: acknowledged without having been reported before, and newly reported (as Linux counts).
    pub acked: u32,
    /// Bytes in flight before the ACK.
    pub in_flight_before: u32,
    /// Bytes in flight after the ACK.
    pub in_flight: u32,
    /// Round trip, if it could be measured.
    pub rtt: Option<Duration>,
    /// Delivery rate.
    pub rate: RateSample,
    /// Since the previous ACK, cwnd (not the application, not the peer's window) kept data from being sent.
    pub cwnd_limited: bool,
    /// Fast recovery is going on (not the slow start after a timeout).
    pub in_recovery: bool,
}

/// Something was lost, or the recovery from it goes on. `flight_size` is FlightSize of RFC 5681: SND.NXT − SND.UNA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossEvent {
    /// The SYN or SYN-ACK: the first window is one segment (RFC 5681 §3.1). Said once, before anything is sent.
    Syn,
    /// The third duplicate ACK: fast retransmit, fast recovery begins (RFC 5681 §3.2 steps 2 and 3).
    DupAck {
        /// Outstanding data in bytes.
        flight_size: u32,
        /// Bytes that have left the network and still count as in flight: three segments, none with SACK.
        left_network: u32,
    },
    /// A further duplicate ACK in recovery (step 4). Not with SACK, which takes the bytes out of the flight.
    ExtraDupAck,
    /// An ACK in recovery of some but not all of what was outstanding (RFC 6582 §3.2 step 3). Not with SACK.
    PartialAck {
        /// Newly acknowledged bytes.
        acked: u32,
    },
    /// The retransmission timer expired.
    Timeout {
        /// The data is not one that timed out before.
        first: bool,
        /// Outstanding data in bytes.
        flight_size: u32,
    },
}

/// What a reduction takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The congestion window.
    pub cwnd: u32,
    /// The slow start threshold.
    pub ssthresh: u32,
}

/// A congestion control algorithm. All quantities are bytes.
pub trait Congestion {
    /// New data was acknowledged.
    fn on_ack(&mut self, event: &AckEvent);
    /// Loss was detected, or recovery goes on.
    fn on_loss(&mut self, now: Instant, event: LossEvent);
    /// Fast recovery ends: all that was outstanding at its start is acknowledged. `flight_size`: what is outstanding now,
    /// without SACK, where cwnd was no bound.
    fn on_recovery_exit(&mut self, now: Instant, flight_size: Option<u32>);
    /// The reductions since `before` were needless (RFC 4015): nothing was lost.
    fn on_undo(&mut self, now: Instant, before: Windows);
    /// Data is about to be sent after more than one RTO of silence (RFC 5681 §4.1).
    fn on_idle_restart(&mut self, now: Instant);
    /// The sender's MSS is another now.
    fn on_mss_change(&mut self, mss: u32);
    /// The congestion window; never below one SMSS, never above [`MAX_CWND`].
    fn cwnd(&self) -> u32;
    /// The slow start threshold; `u32::MAX` before the first loss.
    fn ssthresh(&self) -> u32;
    /// Bytes per second to pace at; `None`: not paced.
    fn pacing_rate(&self) -> Option<u64>;
}

/// The algorithm of one connection.
#[derive(Clone, Debug)]
pub enum Algorithm {
    /// RFC 5681, RFC 6582.
    NewReno(NewReno),
}

impl Algorithm {
    /// `mss` is the SMSS in bytes, `initial_window` counts segments.
    pub fn new(kind: CongestionControl, mss: u32, initial_window: u32) -> Algorithm {
        match kind {
            CongestionControl::NewReno => Algorithm::NewReno(NewReno::new(mss, initial_window)),
        }
    }
}

impl Congestion for Algorithm {
    fn on_ack(&mut self, event: &AckEvent) {
        match self {
            Algorithm::NewReno(inner) => inner.on_ack(event),
        }
    }

    fn on_loss(&mut self, now: Instant, event: LossEvent) {
        match self {
            Algorithm::NewReno(inner) => inner.on_loss(now, event),
        }
    }

    fn on_recovery_exit(&mut self, now: Instant, flight_size: Option<u32>) {
        match self {
            Algorithm::NewReno(inner) => inner.on_recovery_exit(now, flight_size),
        }
    }

    fn on_undo(&mut self, now: Instant, before: Windows) {
        match self {
            Algorithm::NewReno(inner) => inner.on_undo(now, before),
        }
    }

    fn on_idle_restart(&mut self, now: Instant) {
        match self {
            Algorithm::NewReno(inner) => inner.on_idle_restart(now),
        }
    }

    fn on_mss_change(&mut self, mss: u32) {
        match self {
            Algorithm::NewReno(inner) => inner.on_mss_change(mss),
        }
    }

    fn cwnd(&self) -> u32 {
        match self {
            Algorithm::NewReno(inner) => inner.cwnd(),
        }
    }

    fn ssthresh(&self) -> u32 {
        match self {
            Algorithm::NewReno(inner) => inner.ssthresh(),
        }
    }

    fn pacing_rate(&self) -> Option<u64> {
        match self {
            Algorithm::NewReno(inner) => inner.pacing_rate(),
        }
    }
}
