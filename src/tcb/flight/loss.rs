//! What of the flight is presumed lost: marks only, the policy is the caller's.

use std::time::Duration;

use super::Flight;
use crate::time::Instant;
use crate::wire::Seq;

/// As many records are judged at every ACK.
const MANY: usize = 1_024;

impl Flight {
    /// RFC 8985 §6.2 step 5, RACK_detect_loss: lost is what was sent before the newest delivery and is `window`
    /// (RACK.reo_wnd) later than reordering explains. Returns when the rest of what was overtaken will be. Linear in the
    /// records up to the newest delivered one.
    pub fn detect_lost(&mut self, now: Instant, window: Duration) -> Option<Instant> {
        let mut until: Option<Instant> = None;
        let mut first_lost: Option<Seq> = None;
        for record in &mut self.records {
            if record.is_in_flight() {
                let Some(patience) = self.rack.patience(record, window) else {
                    // What was sent once lies in the order of its sending: nothing behind it was overtaken.
                    if record.transmissions == 1 { break } else { continue }
                };
                let deadline = record.sent_at + patience;
                if now < deadline {
                    until = until.max(Some(deadline));
                    continue;
                }
                record.lost = true;
                self.highest_lost = Some(self.highest_lost.map_or(record.end, |highest| highest.max(record.end)));
                self.lost = self.lost.saturating_add(record.len());
                self.in_flight = self.in_flight.saturating_sub(record.len());
            }
            if record.lost {
                first_lost = first_lost.or(Some(record.start));
            }
        }
        self.first_lost = first_lost.unwrap_or(self.first_lost);
        until
    }

    /// The retransmission timer expired: everything must be sent again that was not SACKed.
    ///
    /// Deviates from RFC 2018 §8 (turn off all SACKed bits), as Linux's tcp_timeout_mark_lost: SACKed bits are turned off
    /// only if the peer has reneged, which shows when the record at SND.UNA is SACKed. What a reneging peer wants again
    /// reaches SND.UNA sooner or later.
    pub fn mark_all_lost(&mut self) {
        let Some(first) = self.records.front().copied() else { return };
        (self.lost, self.in_flight, self.sacked_records) = (0, 0, 0);
        self.first_lost = first.start;
        for record in &mut self.records {
            record.sacked &= !first.sacked;
            record.lost = !record.sacked;
            self.sacked_records += usize::from(record.sacked);
            self.lost += if record.lost { record.len() } else { 0 };
        }
    }

    /// Whether judging may bring something. Where there are very many records a peer must have received a segment of
    /// `mss` bytes since the last time, or each of its bytes would cost us a walk (reliability.md A12).
    pub fn is_worth_judging(&mut self, mss: u32) -> bool {
        let worth = self.records.len() <= MANY || self.rate.delivered.saturating_sub(self.judged) >= u64::from(mss);
        if worth {
            self.judged = self.rate.delivered;
        }
        worth
    }

    /// Whether anything beyond `una` was found lost, sent again since or not.
    pub fn has_lost_beyond(&self, una: Seq) -> bool {
        self.highest_lost.is_some_and(|highest| highest.is_after(una))
    }

    /// Whether anything that was sent again is in the network.
    pub fn has_retransmissions(&self) -> bool {
        self.records.iter().any(|record| record.transmissions > 1 && record.is_in_flight())
    }

    /// Nothing was lost: what is marked so is in the network.
    pub fn unmark_lost(&mut self) {
        self.records.iter_mut().for_each(|record| record.lost = false);
        self.in_flight = self.in_flight.saturating_add(self.lost);
        self.lost = 0;
        self.highest_lost = None;
    }

    /// Nothing larger than `max_bytes` gets through: such records are presumed lost. Several segments of one record may each
    /// have been smaller; they go with it.
    pub fn mark_larger_lost(&mut self, max_bytes: u32) {
        for record in self.records.iter_mut().filter(|r| r.is_in_flight() && r.len() > max_bytes) {
            record.lost = true;
            self.lost = self.lost.saturating_add(record.len());
            self.in_flight = self.in_flight.saturating_sub(record.len());
        }
        if let Some(first) = self.records.iter().find(|r| r.lost) {
            self.first_lost = first.start;
        }
    }

    /// The segment at SND.UNA, at most `max_bytes` long, is presumed lost (fast retransmit, RFC 6582 partial ACK).
    ///
    /// The limit is the SMSS: a record may be many segments, and only the first of them is known to be missing.
    pub fn mark_first_lost(&mut self, max_bytes: u32) {
        let Some(first) = self.records.front().copied().filter(|r| !r.lost) else { return };
        if max_bytes < first.len() {
            self.split(first.start + max_bytes);
        }
        let Some(first) = self.records.front_mut() else { return };
        let (len, start) = (first.len(), first.start);
        if first.sacked {
            // The peer reneged: it reported what it now does not acknowledge.
            first.sacked = false;
            self.sacked_records = self.sacked_records.saturating_sub(1);
        } else {
            self.in_flight = self.in_flight.saturating_sub(len);
        }
        first.lost = true;
        self.lost = self.lost.saturating_add(len);
        self.first_lost = start;
    }

    /// The first range to send again. O(log n).
    pub fn first_lost(&self) -> Option<(Seq, Seq)> {
        let record = self.records.get(self.index_of(self.first_lost)).filter(|r| r.lost && self.lost > 0)?;
        Some((record.start, record.end))
    }

    /// Moves `first_lost` forward to the first lost record. Amortised O(1): it moves back only where a record is marked.
    pub(super) fn settle_first_lost(&mut self) {
        if self.lost == 0 {
            return;
        }
        let from = self.index_of(self.first_lost);
        if let Some(record) = self.records.range(from..).find(|r| r.lost) {
            self.first_lost = record.start;
        }
    }
}
