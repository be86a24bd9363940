//! Whether a recovery was needless: what was sent again had arrived (RFC 3522, the Eifel detection; RFC 3708, by D-SACK), as in
//! Linux's tcp_may_undo.
//!
//! Owns the evidence, not the remedy: `loss` takes a needless reduction back (RFC 4015).

use super::congestion::Windows;
use crate::wire::{SackBlock, Seq};

/// The largest window (RFC 7323 §2.3): what is reported as a duplicate is not older.
const STALE: u32 = 1 << 30;

/// A recovery that may turn out to have been needless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// SND.UNA when it began.
    from: Seq,
    /// What congestion control allowed before.
    pub before: Windows,
    /// TSval of the first retransmission (RFC 3522 §3.2 step 1); `None` before it.
    first: Option<u32>,
    /// Bytes sent again that the peer has not reported as duplicates.
    unexplained: u32,
}

impl Doubt {
    /// A recovery begins.
    pub const fn new(una: Seq, before: Windows) -> Doubt {
        Doubt { from: una, before, first: None, unexplained: 0 }
    }

    /// `len` bytes are sent again in a segment with `ts_val`.
    pub const fn on_retransmit(&mut self, ts_val: u32, len: u32) {
        if self.first.is_none() {
            self.first = Some(ts_val);
        }
        self.unexplained = self.unexplained.saturating_add(len);
    }

    /// Something is acknowledged that was outstanding, with the echo of a timestamp if they are in use. RFC 3522 §3.2 steps
    /// 3 and 4: an echo older than the first retransmission answers what was sent before it.
    pub fn is_refuted_by_ack(&self, echo: Option<u32>) -> bool {
        match (self.first, echo) {
            (None, _) => true,
            (Some(first), Some(echo)) => echo != 0 && Seq::new(echo).is_before(Seq::new(first)),
            (Some(_), None) => false,
        }
    }

    /// Whether the D-SACK may be about something that was sent again.
    pub fn concerns(&self, block: SackBlock) -> bool {
        self.unexplained > 0 && block.left.is_at_or_after(self.from)
    }

    /// Whether so much was acknowledged since that comparing sequence numbers will say nothing soon.
    pub fn is_stale(&self, una: Seq) -> bool {
        una.is_after(self.from + STALE)
    }

    /// It is: these bytes have arrived twice.
    pub fn explain(&mut self, block: SackBlock) {
        self.unexplained = self.unexplained.saturating_sub(block.right.saturating_offset_from(block.left));
    }

    /// Whether everything that was sent again has arrived twice by now.
    pub const fn is_refuted(&self) -> bool {
        self.first.is_some() && self.unexplained == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Windows = Windows { cwnd: 10_000, ssthresh: 20_000 };

    fn doubt() -> Doubt {
        let mut doubt = Doubt::new(Seq::new(1_000), BEFORE);
        doubt.on_retransmit(77, 1_000);
        doubt.on_retransmit(78, 1_000);
        doubt
    }

    #[test]
    fn an_older_echo_than_the_first_retransmissions_refutes() {
        // echo, refuted
        const CASES: &[(Option<u32>, bool)] =
            &[(None, false), (Some(0), false), (Some(76), true), (Some(77), false), (Some(78), false)];
        for &(echo, refuted) in CASES {
            assert_eq!(doubt().is_refuted_by_ack(echo), refuted, "{echo:?}");
        }
        assert!(Doubt::new(Seq::new(0), BEFORE).is_refuted_by_ack(None), "nothing was sent again");
    }

    #[test]
    fn all_that_was_sent_again_must_be_reported() {
        let block = |left, right| SackBlock { left: Seq::new(left), right: Seq::new(right) };
        let mut doubt = doubt();
        assert!(!doubt.concerns(block(0, 1_000)), "of an earlier time");
        assert!(!doubt.is_stale(Seq::new(1_000 + (1 << 30))) && doubt.is_stale(Seq::new(1_001 + (1 << 30))));
        for (left, right, refuted) in [(1_000, 2_000, false), (3_000, 4_000, true)] {
            assert!(doubt.concerns(block(left, right)));
            doubt.explain(block(left, right));
            assert_eq!(doubt.is_refuted(), refuted);
        }
        assert!(!doubt.concerns(block(3_000, 4_000)), "once");
    }
}
