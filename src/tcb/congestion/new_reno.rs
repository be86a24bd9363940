//! [`NewReno`]: RFC 5681 with the fast recovery of RFC 6582 and the byte counting of RFC 3465.

use super::{AckEvent, Congestion, LossEvent, MAX_CWND, Windows};
use crate::time::Instant;

#[cfg(test)]
mod tests;

/// cwnd and ssthresh of RFC 5681, in bytes.
#[derive(Clone, Debug)]
pub struct NewReno {
    /// SMSS; at least 1.
    mss: u32,
    /// IW in segments.
    initial_window: u32,
    /// `mss <= cwnd <= max(MAX_CWND, mss)`
    cwnd: u32,
    ssthresh: u32,
    /// Acknowledged bytes that have not yet grown cwnd in congestion avoidance (RFC 3465 §2.1).
    bytes_acked: u32,
    /// How far further duplicate ACKs may still inflate cwnd.
    inflatable: u32,
}

impl NewReno {
    /// `mss` is the SMSS in bytes, `initial_window` counts segments; both at least 1.
    pub fn new(mss: u32, initial_window: u32) -> NewReno {
        let (mss, initial_window) = (mss.max(1), initial_window.max(1));
        let mut this = NewReno {
            mss,
            initial_window,
            cwnd: mss,
            // RFC 5681 §3.1: arbitrarily high at first.
            ssthresh: u32::MAX,
            bytes_acked: 0,
            inflatable: 0,
        };
        this.set_cwnd(this.initial_cwnd());
        this
    }

    /// RFC 6928 §2: min(10·MSS, max(2·MSS, 14600)), for another number of segments than 10 in proportion.
    fn initial_cwnd(&self) -> u32 {
        let segments = self.mss.saturating_mul(self.initial_window);
        segments.min(self.mss.saturating_mul(2).max(self.initial_window.saturating_mul(1_460)))
    }

    fn set_cwnd(&mut self, cwnd: u32) {
        self.cwnd = cwnd.min(MAX_CWND).max(self.mss);
    }

    /// RFC 5681 §3.1 equation (4).
    fn lower_ssthresh(&mut self, flight_size: u32) {
        self.ssthresh = (flight_size / 2).max(self.mss.saturating_mul(2));
        self.bytes_acked = 0;
    }

    fn is_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Whether the window was used, so that this ACK says something about it.
    fn is_validated(&self, event: &AckEvent) -> bool {
        // RFC 7661 §4.3 and Linux tcp_is_cwnd_limited: an unused window must not grow; in slow start, doubling up to
        // twice what was in flight is fine, since a sender that fills half the window may be about to fill it.
        let half_used = self.is_slow_start() && self.cwnd / 2 < event.in_flight_before;
        event.cwnd_limited || half_used
    }
}

impl Congestion for NewReno {
    fn on_ack(&mut self, event: &AckEvent) {
        if event.in_recovery || event.acked == 0 || !self.is_validated(event) {
            return;
        }
        let mut left = event.acked;
        if self.is_slow_start() {
            // Deviates from RFC 3465 §2.3: as Linux tcp_slow_start, all bytes acknowledged count, also after a timeout. One
            // ACK may stand for 64 KiB (receive offload), and a limit of two segments an ACK would make slow start
            // crawl. Dividing ACKs gains nothing, bytes are counted once (reliability.md A15).
            let growth = left.min(self.ssthresh - self.cwnd);
            self.set_cwnd(self.cwnd.saturating_add(growth));
            left -= growth;
            if self.is_slow_start() {
                return;
            }
        }
        // RFC 5681 §3.1 (byte counting, RFC 3465 §2.1): one SMSS for each window acknowledged.
        self.bytes_acked = self.bytes_acked.saturating_add(left);
        if self.bytes_acked >= self.cwnd {
            self.bytes_acked = (self.bytes_acked - self.cwnd).min(self.cwnd);
            self.set_cwnd(self.cwnd.saturating_add(self.mss));
        }
    }

    fn on_loss(&mut self, _now: Instant, event: LossEvent) {
        match event {
            // RFC 5681 §3.1. IW itself stays: §4.1 restarts from it.
            LossEvent::Syn => self.set_cwnd(self.mss),
            LossEvent::DupAck { flight_size, left_network } => {
                self.lower_ssthresh(flight_size);
                // RFC 5681 §3.2 step 3: the three segments that have left the network.
                self.set_cwnd(self.ssthresh.saturating_add(left_network));
                self.inflatable = flight_size.saturating_sub(left_network);
            }
            LossEvent::ExtraDupAck => {
                // RFC 5681 §3.2 step 4: one more segment has left. §4 (Savage '99): at most as much as was outstanding,
                // or forged duplicate ACKs would open the window without end.
                let growth = self.mss.min(self.inflatable);
                self.inflatable -= growth;
                self.set_cwnd(self.cwnd.saturating_add(growth));
            }
            LossEvent::PartialAck { acked } => {
                // RFC 6582 §3.2 step 3: deflate by what was acknowledged, then add back one SMSS if it was that much.
                let add_back = if acked >= self.mss { self.mss } else { 0 };
                self.set_cwnd(self.cwnd.saturating_sub(acked).saturating_add(add_back));
                self.inflatable = self.inflatable.saturating_add(acked).min(MAX_CWND);
            }
            LossEvent::Timeout { first, flight_size } => {
                // RFC 5681 §3.1: ssthresh is held constant when the same data times out again.
                if first {
                    self.lower_ssthresh(flight_size);
                }
                // LW, the loss window.
                self.set_cwnd(self.mss);
                self.bytes_acked = 0;
                self.inflatable = 0;
            }
        }
    }

    fn on_recovery_exit(&mut self, _now: Instant, flight_size: Option<u32>) {
        // RFC 6582 §3.2 step 3, full acknowledgment, option (1): no burst when little is left in flight. RFC 6675 keeps cwnd,
        // which has been a bound all the time.
        let flight = flight_size.map_or(u32::MAX, |flight| flight.max(self.mss).saturating_add(self.mss));
        self.set_cwnd(self.ssthresh.min(flight));
        self.bytes_acked = 0;
        self.inflatable = 0;
    }

    fn on_undo(&mut self, _now: Instant, before: Windows) {
        // Deviates from RFC 4015 §3.2 step 4 (a burst of IW at most): as Linux tcp_undo_cwnd_reduction, all of it comes back.
        // ACKs clock what is sent.
        // Without SACK duplicates may have inflated it beyond ssthresh.
        self.set_cwnd(self.cwnd.min(self.ssthresh).max(before.cwnd));
        self.ssthresh = self.ssthresh.max(before.ssthresh);
        self.inflatable = 0;
    }

    fn on_idle_restart(&mut self, _now: Instant) {
        // RFC 5681 §4.1: RW = min(IW, cwnd). ssthresh remembers what the path could carry.
        self.set_cwnd(self.initial_cwnd().min(self.cwnd));
        self.bytes_acked = 0;
    }

    fn on_mss_change(&mut self, mss: u32) {
        let (old, new) = (self.mss, mss.max(1));
        self.mss = new;
        // RFC 5681 §3.1: when the MSS turns out too large, cwnd shrinks in proportion, or the same bytes would leave as
        // a burst of more packets. A larger MSS keeps the bytes.
        let scaled = u64::from(self.cwnd) * u64::from(new) / u64::from(old);
        let cwnd = u32::try_from(scaled).unwrap_or(u32::MAX).min(self.cwnd);
        self.set_cwnd(cwnd);
        self.ssthresh = self.ssthresh.max(new.saturating_mul(2));
    }

    fn cwnd(&self) -> u32 {
        self.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }
}
