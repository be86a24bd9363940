//! What deadlines do: retransmission, persist, RACK's two timers, delayed ACK, keepalive, the end of orphans,
//! memory of idle connections.

use std::time::Duration;

use super::congestion::{Congestion, LossEvent};
use super::timer::Timer;
use super::{Cx, Open};
use crate::error::ConnError;
use crate::pipe::State;
use crate::time::Instant;

/// Without a segment for so long a connection gives back what it does not need.
const IDLE: Duration = Duration::from_secs(5);

/// Under memory pressure this much is enough.
const QUIET: Duration = Duration::from_millis(10);

impl Open {
    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        while self.life.state() != State::Closed {
            let Some(timer) = self.timers.take_due(cx.now) else { break };
            match timer {
                Timer::Lifetime => self.on_lifetime_over(cx),
                Timer::Retransmit => self.on_retransmit_timeout(cx),
                Timer::TailProbe => self.on_tail_probe_timeout(cx.now),
                Timer::Reorder => self.on_reorder_timeout(cx),
                Timer::DelayedAck => self.owed.owe_shared(),
                Timer::Keepalive => self.on_keepalive_timeout(cx),
                Timer::Idle => self.on_idle_timeout(cx),
            }
        }
    }

    /// Linger or FIN-WAIT-2 of an orphan is over. In FIN-WAIT-2 nothing is owed to the peer; else it gets a RST.
    fn on_lifetime_over(&mut self, cx: &mut Cx<'_>) {
        if self.life.state() == State::FinWait2 {
            self.end(ConnError::TimedOut);
        } else {
            self.abort(cx, ConnError::TimedOut);
        }
    }

    /// RFC 6298 §5.4–5.7; with nothing in flight, the persist timer of RFC 9293 §3.8.6.1.
    fn on_retransmit_timeout(&mut self, cx: &mut Cx<'_>) {
        cx.stats.timeouts += 1;
        if self.must_give_up(cx) {
            let error = self.soft_error.unwrap_or(ConnError::TimedOut);
            self.abort(cx, error);
            return;
        }
        self.attempts.timeouts = self.attempts.timeouts.saturating_add(1);
        self.tail_probe_owed = false;
        if self.snd.wnd == 0 || self.flight.is_empty() {
            // A closed window is not congestion: one segment goes out, as a probe (MUST-36).
            self.attempts.probes = self.attempts.probes.saturating_add(1);
            self.flight.mark_first_lost(u32::from(self.snd.mss));
            self.probe_owed = true;
            self.use_whole_send_buffer();
        } else {
            let first = self.attempts.timeouts == 1;
            if !self.recovery.is_recovering(self.snd.una) {
                self.doubt_loss();
            }
            self.congestion.on_loss(cx.now, LossEvent::Timeout { first, flight_size: self.snd.outstanding() });
            self.recovery.on_timeout(self.snd.nxt);
            self.timers.reorder = None;
            self.prr = None;
            self.tail_probe = None;
            self.flight.mark_all_lost();
        }
        self.rtt.on_timeout();
        self.arm_retransmit(cx.now);
    }

    /// RFC 9293 §3.8.3 (R2), RFC 5482 user timeout, orphans (reliability.md A14, A27).
    fn must_give_up(&self, cx: &Cx<'_>) -> bool {
        let waited = self.attempts.since.map_or(Duration::ZERO, |since| cx.now.since(since));
        if let Some(limit) = self.options.user_timeout {
            return self.has_tried() && waited >= limit;
        }
        let limit = if self.orphaned { cx.config.orphan_retries } else { cx.config.retries };
        self.attempts.timeouts >= limit || (self.orphaned && self.attempts.probes >= limit)
    }

    /// Whether anything was sent again. A user timeout may have passed while the machine slept, before the peer could say
    /// that it lives (reliability.md F13); Linux (`retransmits_timed_out`) tries once more too.
    fn has_tried(&self) -> bool {
        self.attempts.timeouts > 0 || self.attempts.probes > 0
    }

    /// Arms the retransmission (or persist) timer, cut short by the user timeout: by what is left of it or, if that is
    /// nothing, to all of it. The first try waits for its time.
    pub(super) fn arm_retransmit(&mut self, now: Instant) {
        let since = *self.attempts.since.get_or_insert(now);
        let rto = self.rtt.rto();
        let limit = self.options.user_timeout.filter(|_| self.has_tried()).map(|limit| {
            let end = since + limit;
            if end > now { end.since(now) } else { limit }
        });
        self.timers.retransmit = Some(now + limit.map_or(rto, |limit| rto.min(limit)));
    }

    /// Text moves: some time after the last of it memory goes back. Costs a comparison while armed.
    pub(super) fn arm_idle(&mut self, now: Instant) {
        if self.timers.idle.is_none() {
            self.timers.idle = Some(now + IDLE);
        }
    }

    /// Counts from the last text, not from the last segment: bare ACKs must not keep memory. Armed again while something
    /// is left to give back; else not before text moves.
    fn on_idle_timeout(&mut self, cx: &Cx<'_>) {
        let quiet_since = self.last_text.max(self.last_sent);
        if cx.now.since(quiet_since) < IDLE {
            self.timers.idle = Some(quiet_since + IDLE);
            return;
        }
        self.flight.trim();
        self.rcv.assembler.trim();
        self.release_memory(cx);
        let is_sent = self.pipe.send_len() == 0;
        if (!self.pipe.send_trim() && is_sent) || self.pipe.covered() > 0 {
            // The user was writing at this moment, perhaps in vain, or has not read yet: then no text moves.
            self.timers.idle = Some(cx.now + IDLE);
        }
    }

    /// Memory pressure (reliability.md A29): who has been quiet gives back what holds nothing for its user.
    pub(super) fn on_pressure(&mut self, cx: &Cx<'_>) {
        if self.pipe.covered() == 0 || cx.now.since(self.last_text) < QUIET {
            return;
        }
        if self.pipe.recv_len() == 0 && !self.rcv.assembler.is_empty() {
            // RFC 2018 §8: what was reported may be discarded; the peer keeps it until it is acknowledged.
            self.rcv.assembler.clear();
            self.pipe.recv_discard_beyond(0);
        }
        self.release_memory(cx);
    }

    /// RFC 9293 §3.8.4: probes only when nothing else would find out that the peer is gone.
    pub(super) fn arm_keepalive(&mut self, now: Instant) {
        let params = self.options.keepalive_params;
        let wait = if self.attempts.keepalives == 0 { params.idle } else { params.interval };
        self.timers.keepalive = (self.options.keepalive && !self.orphaned).then(|| now + wait);
    }

    fn on_keepalive_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.snd.outstanding() > 0 || self.unsent() > 0 {
            // The retransmission timer is on the case.
            self.arm_keepalive(cx.now);
            return;
        }
        let exhausted = match self.options.user_timeout {
            // RFC 5482 as Linux: the user timeout overrides the count of probes.
            Some(limit) => self.attempts.keepalives > 0 && cx.now.since(self.last_heard) >= limit,
            None => self.attempts.keepalives >= self.options.keepalive_params.count,
        };
        if exhausted {
            self.abort(cx, self.soft_error.unwrap_or(ConnError::TimedOut));
            return;
        }
        self.attempts.keepalives += 1;
        self.keepalive_owed = true;
        self.arm_keepalive(cx.now);
    }
}
