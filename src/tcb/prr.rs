//! Proportional rate reduction (RFC 9937, as Linux's tcp_cwnd_reduction): in a recovery with SACK what is sent follows what
//! arrives, so that neither half a round trip is silent nor half a window leaves at once.
//!
//! Owns the counters of one recovery. Called by `loss` (ACKs) and `output` (what is sent).

/// One recovery. Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prr {
    /// RecoverFS: cwnd before it, at least 1.
    before: u32,
    /// prr_delivered
    delivered: u64,
    /// prr_out
    out: u64,
    /// What may be in flight until the next ACK.
    cwnd: u32,
}

impl Prr {
    /// A recovery begins with `before` as congestion window; until the next ACK `cwnd` may be in flight.
    pub fn new(before: u32, cwnd: u32) -> Prr {
        Prr { before: before.max(1), delivered: 0, out: 0, cwnd }
    }

    /// What may be in flight until the next ACK.
    pub const fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// `len` bytes leave.
    pub fn on_sent(&mut self, len: u32) {
        self.out = self.out.saturating_add(u64::from(len));
    }

    /// An ACK has `delivered` so many bytes. `steady`: SND.UNA has moved and nothing more was found lost (RFC 9937's
    /// SafeACK).
    pub fn on_ack(&mut self, delivered: u32, in_flight: u32, target: Target, steady: bool) {
        let Target { ssthresh, mss } = target;
        self.delivered = self.delivered.saturating_add(u64::from(delivered));
        let lag = self.delivered.saturating_sub(self.out);
        let allowed = if in_flight > ssthresh {
            // Proportional: whole segments, or small windows would wait for their rests.
            let share = self.delivered.saturating_mul(u64::from(ssthresh)).div_ceil(u64::from(self.before));
            share.next_multiple_of(u64::from(mss.max(1))).saturating_sub(self.out)
        } else {
            // Slow start reduction bound.
            let more = if steady { mss } else { 0 };
            let most = lag.max(u64::from(delivered)).saturating_add(u64::from(more));
            most.min(u64::from(ssthresh - in_flight))
        };
        // The fast retransmission leaves in any case.
        let least = if self.out == 0 { u64::from(mss) } else { 0 };
        let allowed = u32::try_from(allowed.max(least)).unwrap_or(u32::MAX);
        self.cwnd = in_flight.saturating_add(allowed);
    }
}

/// Where the reduction leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The slow start threshold.
    pub ssthresh: u32,
    /// Bytes of a full segment.
    pub mss: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { ssthresh: 5_000, mss: 1_000 };

    #[test]
    fn above_the_threshold_every_second_segment_is_answered() {
        let mut prr = Prr::new(10_000, 0);
        // delivered, in flight; what may be sent then, all of which is
        for (delivered, in_flight, sent) in
            [(1_000, 9_000, 1_000), (1_000, 9_000, 0), (1_000, 8_000, 1_000), (1_000, 8_000, 0), (2_000, 6_000, 1_000)]
        {
            prr.on_ack(delivered, in_flight, TARGET, false);
            assert_eq!(prr.cwnd() - in_flight, sent, "{delivered} {in_flight}");
            prr.on_sent(sent);
        }
    }

    #[test]
    fn below_it_what_arrives_is_replaced() {
        // delivered before, sent before, delivered now, in flight, steady; what may be sent
        const CASES: &[(u32, u32, u32, u32, bool, u32)] = &[
            (0, 0, 0, 0, false, 1_000),
            (0, 0, 1_000, 0, false, 1_000),
            (3_000, 1_000, 1_000, 0, false, 3_000),
            (1_000, 2_000, 1_000, 2_000, false, 1_000),
            (1_000, 2_000, 1_000, 2_000, true, 2_000),
            (9_000, 1_000, 1_000, 4_500, true, 500),
            (u32::MAX, 1, u32::MAX, 0, true, 5_000),
        ];
        for &(delivered, sent, now, in_flight, steady, allowed) in CASES {
            let mut prr = Prr::new(10_000, 0);
            prr.on_ack(delivered, 9_000, TARGET, false);
            prr.on_sent(sent);
            prr.on_ack(now, in_flight, TARGET, steady);
            assert_eq!(prr.cwnd() - in_flight, allowed, "{delivered} {sent} {now} {in_flight} {steady}");
        }
    }
}
