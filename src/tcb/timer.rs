//! The timers of one connection: deadlines, nothing more. The engine keeps one entry per connection, the earliest.

use crate::time::Instant;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Retransmission (something is in flight) or persist (nothing is, and the window is closed).
    Retransmit,
    /// Nothing was heard for two round trips, or for the RTO (RFC 8985 §7: PTO).
    TailProbe,
    /// What was overtaken is lost now (RFC 8985 §6.2: RACK's reordering timer).
    Reorder,
    /// A delayed ACK.
    DelayedAck,
    /// Keepalive: idle time is over or a probe went unanswered.
    Keepalive,
    /// The end of an orphan: FIN-WAIT-2 or linger.
    Lifetime,
    /// No text for a while: what idle memory holds goes back.
    Idle,
}

/// Deadlines; `None` is not armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// See [`Timer::Retransmit`].
    pub retransmit: Option<Instant>,
    /// See [`Timer::TailProbe`].
    pub tail_probe: Option<Instant>,
    /// See [`Timer::Reorder`].
    pub reorder: Option<Instant>,
    /// See [`Timer::DelayedAck`].
    pub delayed_ack: Option<Instant>,
    /// See [`Timer::Keepalive`].
    pub keepalive: Option<Instant>,
    /// See [`Timer::Lifetime`].
    pub lifetime: Option<Instant>,
    /// See [`Timer::Idle`].
    pub idle: Option<Instant>,
}

impl Timers {
    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        let all = [
            self.retransmit,
            self.tail_probe,
            self.reorder,
            self.delayed_ack,
            self.keepalive,
            self.lifetime,
            self.idle,
        ];
        let first = all.iter().fold(Instant::FAR_FUTURE, |first, at| first.min(at.unwrap_or(Instant::FAR_FUTURE)));
        (first != Instant::FAR_FUTURE).then_some(first)
    }

    /// Takes one timer that is due, disarming it.
    pub fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due = |slot: &mut Option<Instant>| slot.take_if(|at| *at <= now).is_some();
        if due(&mut self.lifetime) {
            Some(Timer::Lifetime)
        } else if due(&mut self.tail_probe) {
            Some(Timer::TailProbe)
        } else if due(&mut self.reorder) {
            // What it sends again starts the RTO anew, should both be late.
            Some(Timer::Reorder)
        } else if due(&mut self.retransmit) {
            Some(Timer::Retransmit)
        } else if due(&mut self.delayed_ack) {
            Some(Timer::DelayedAck)
        } else if due(&mut self.keepalive) {
            Some(Timer::Keepalive)
        } else if due(&mut self.idle) {
            Some(Timer::Idle)
        } else {
            None
        }
    }

    /// Disarms everything.
    pub fn clear(&mut self) {
        *self = Timers::default();
    }
}
