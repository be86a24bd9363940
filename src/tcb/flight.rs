//! [`Flight`]: what has been sent and is not acknowledged, one [`Record`] per transmission.
//!
//! Owns no bytes (those stay in the send ring), no timer, no policy: who marks records lost decides what is sent
//! again. Round-trip times obey Karn's rule here; delivery rates follow draft-cheng-iccrg-delivery-rate-estimation.
//! Called by `tcb::output` (sending), `tcb::ack` and `tcb::loss`.
//!
//! ```text
//!   SND.UNA                                                SND.NXT
//!      |  record  |  record, lost  |  record, sacked  |  record  |      contiguous, in sequence order
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;
use crate::wire::{SackBlock, Seq};

mod loss;
mod rack;
mod rate;
#[cfg(test)]
mod tests;

use rack::Rack;
use rate::RateEstimator;
pub use rate::RateSample;

/// Most records kept; beyond it records get coarser, never more.
pub const MAX_RECORDS: usize = 4_096;
/// Most separate SACKed ranges remembered (CVE-2019-11478, SACK Slowness); beyond it new ones are ignored.
pub const MAX_SACKED: usize = 256;
/// Records an idle flight keeps room for.
const IDLE_CAPACITY: usize = 4;

/// One transmission (or several of the same `now` with the same fate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// First sequence number.
    pub start: Seq,
    /// Sequence number after the last; counts the FIN when it was sent.
    pub end: Seq,
    /// Time of the latest transmission.
    pub sent_at: Instant,
    /// C.delivered when it was sent.
    pub delivered: u64,
    /// C.delivered_time when it was sent.
    pub delivered_at: Instant,
    /// C.first_sent_time when it was sent.
    pub first_sent_at: Instant,
    /// The application had no more to send.
    pub app_limited: bool,
    /// Transmissions of one lap left in sequence order, and before those of the next one. Wraps.
    pub lap: u32,
    /// 1 = sent for the first time only.
    pub transmissions: u8,
    /// Reported by a SACK block.
    pub sacked: bool,
    /// Presumed lost and not retransmitted since.
    pub lost: bool,
    /// Counted in C.delivered: once SACKed, also after the mark was withdrawn.
    counted: bool,
}

impl Record {
    /// Sequence numbers covered.
    pub const fn len(&self) -> u32 {
        self.end.saturating_offset_from(self.start)
    }

    /// Whether nothing is covered; never true of a record in a [`Flight`].
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the record is thought to be in the network.
    fn is_in_flight(&self) -> bool {
        !self.sacked && !self.lost
    }

    /// Whether `next` follows directly and differs in nothing but its place.
    fn is_continued_by(&self, next: &Record) -> bool {
        self.end == next.start && Record { start: next.start, end: next.end, ..*self } == *next
    }
}

/// What one ACK brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acked {
    /// Sequence numbers newly acknowledged cumulatively, FIN included, SACKed ones too.
    pub bytes: u32,
    /// Round trip of the newest acknowledged record. `None` if anything this ACK covers was ever retransmitted
    /// (RFC 6298 §3, Karn's rule).
    pub rtt: Option<Duration>,
    /// Delivery rate.
    pub rate: RateSample,
}

/// The records of one connection.
#[derive(Clone, Debug, Default)]
pub struct Flight {
    /// Contiguous, in sequence order, none empty, at most [`MAX_RECORDS`].
    records: VecDeque<Record>,
    rate: RateEstimator,
    rack: Rack,
    /// Sum of the records neither sacked nor lost.
    in_flight: u32,
    /// Sum of the lost records.
    lost: u32,
    /// Number of sacked records, at most [`MAX_SACKED`] plus what splits make of them.
    sacked_records: usize,
    /// Start of the first lost record; meaningful while `lost > 0`.
    first_lost: Seq,
    /// C.delivered when the records were judged last.
    judged: u64,
    /// End of the highest record that was found lost.
    highest_lost: Option<Seq>,
    /// See [`Record::lap`]; and where the last transmission ended.
    lap: (u32, Seq),
}

impl Flight {
    /// Nothing in flight; allocates nothing.
    pub fn new() -> Flight {
        Flight::default()
    }

    /// New data `[start, end)` leaves, directly after what is in flight.
    pub fn on_send(&mut self, now: Instant, start: Seq, end: Seq, app_limited: bool) {
        let mut record = self.stamp(now, start, end);
        if record.is_empty() {
            return;
        }
        record.app_limited = app_limited;
        self.in_flight = self.in_flight.saturating_add(record.len());
        let full = self.records.len() >= MAX_RECORDS;
        match self.records.back_mut() {
            Some(last) if last.is_continued_by(&record) => last.end = end,
            // Bounded: the new bytes share the older stamp. A round trip then looks longer and a rate lower than it
            // is, and a time-based loss detection acts at worst too early: all of it costs throughput, never data.
            Some(last) if full => {
                last.app_limited |= app_limited;
                last.end = end;
                // New bytes are in flight, so the whole record must be: forgetting a SACK (RFC 2018 §8) or a loss
                // mark delays a retransmission until the timeout at worst.
                self.revive_last(record.len());
            }
            _ => self.records.push_back(record),
        }
    }

    /// Takes the SACK and loss marks off the last record, whose newest `new` bytes are counted already.
    fn revive_last(&mut self, new: u32) {
        let Some(last) = self.records.back_mut() else { return };
        let old = last.len().saturating_sub(new);
        if last.sacked {
            self.sacked_records = self.sacked_records.saturating_sub(1);
            self.in_flight = self.in_flight.saturating_add(old);
        }
        if last.lost {
            self.lost = self.lost.saturating_sub(old);
            self.in_flight = self.in_flight.saturating_add(old);
        }
        last.sacked = false;
        last.lost = false;
    }

    /// A record sent `now` for the first time.
    fn stamp(&mut self, now: Instant, start: Seq, end: Seq) -> Record {
        if self.in_flight == 0 {
            self.rate.restart(now);
        }
        if start.is_before(self.lap.1) {
            self.lap.0 = self.lap.0.wrapping_add(1);
        }
        self.lap.1 = end;
        Record {
            start,
            end,
            sent_at: now,
            delivered: self.rate.delivered,
            delivered_at: self.rate.delivered_at,
            first_sent_at: self.rate.first_sent_at,
            lap: self.lap.0,
            app_limited: false,
            transmissions: 1,
            sacked: false,
            lost: false,
            counted: false,
        }
    }

    /// `[start, end)`, sent before, leaves again. SACKed parts stay as they are.
    pub fn on_retransmit(&mut self, now: Instant, start: Seq, end: Seq) {
        let stamp = self.stamp(now, start, end);
        // Where the bound forbids a split, the whole record counts as retransmitted: Karn's rule errs on the safe side,
        // and the timeout sends what was not.
        let low = self.split(start);
        self.split(end);
        let high = self.records.partition_point(|r| r.start.is_before(end));
        for record in self.records.range_mut(low.min(high)..high).filter(|r| !r.sacked) {
            if record.lost {
                self.lost = self.lost.saturating_sub(record.len());
                self.in_flight = self.in_flight.saturating_add(record.len());
            }
            *record = Record {
                start: record.start,
                end: record.end,
                app_limited: record.app_limited,
                transmissions: record.transmissions.saturating_add(1),
                counted: record.counted,
                ..stamp
            };
        }
        self.merge_with_previous(low);
        self.settle_first_lost();
    }

    /// The peer acknowledged everything before `una`; call it after [`Self::on_sack`], also if `una` is not new.
    pub fn on_ack(&mut self, now: Instant, una: Seq) -> Acked {
        let mut acked = Acked::default();
        let mut retransmitted = false;
        let highest = self.rack.highest();
        while let Some(record) = self.records.front_mut() {
            let taken = Record { end: record.end.min(una), ..*record };
            if taken.end.is_at_or_before(taken.start) {
                break;
            }
            let whole = taken.end == record.end;
            record.start = taken.end;
            if whole {
                self.records.pop_front();
            }
            self.forget(&taken, whole);
            acked.bytes = acked.bytes.saturating_add(taken.len());
            retransmitted |= taken.transmissions > 1;
            if !taken.counted {
                self.rate.on_delivered(now, &taken);
                self.rack.on_delivered(now, &taken, highest);
                acked.rtt = Some(now.since(taken.sent_at));
            }
        }
        if retransmitted {
            // Also the newer records: without SACK they may have waited at the peer for the retransmission, as in
            // Linux's FLAG_RETRANS_DATA_ACKED.
            acked.rtt = None;
        }
        self.highest_lost = self.highest_lost.filter(|highest| highest.is_after(una));
        if self.first_lost.is_before(una) {
            self.first_lost = una;
        }
        self.settle_first_lost();
        self.rack.on_acknowledged(una);
        acked.rate = self.rate.take_sample();
        acked
    }

    /// Gives back what a busy time has allocated.
    pub fn trim(&mut self) {
        self.records.shrink_to(IDLE_CAPACITY);
    }

    /// Takes acknowledged bytes out of the counters.
    fn forget(&mut self, taken: &Record, whole: bool) {
        if taken.is_in_flight() {
            self.in_flight = self.in_flight.saturating_sub(taken.len());
        }
        if taken.lost {
            self.lost = self.lost.saturating_sub(taken.len());
        }
        if taken.sacked && whole {
            self.sacked_records = self.sacked_records.saturating_sub(1);
        }
    }

    /// The peer reported `blocks`; returns the bytes newly SACKed.
    ///
    /// Blocks not wholly within SND.UNA and SND.NXT are ignored (reliability.md A12), D-SACK (RFC 2883) among them.
    /// Work is O(log n) per block plus what is newly SACKed: a SACKed range is one record.
    pub fn on_sack(&mut self, now: Instant, blocks: &[SackBlock]) -> u32 {
        let mut newly = 0u32;
        let highest = self.rack.highest();
        for block in blocks.iter().filter(|b| b.left.is_before(b.right)) {
            if self.covers(block) {
                newly = newly.saturating_add(self.sack_block(now, block, highest));
            }
        }
        self.settle_first_lost();
        newly
    }

    /// Whether `block` lies within SND.UNA and SND.NXT.
    fn covers(&self, block: &SackBlock) -> bool {
        let (Some(first), Some(last)) = (self.records.front(), self.records.back()) else { return false };
        let flight = last.end.saturating_offset_from(first.start);
        block.left.is_at_or_after(first.start) && block.right.offset_from(first.start).is_some_and(|at| at <= flight)
    }

    fn sack_block(&mut self, now: Instant, block: &SackBlock, highest: Option<Seq>) -> u32 {
        let held = self.records.get(self.index_of(block.left)).copied();
        let Some(held) = held.filter(|r| !r.sacked || r.end.is_before(block.right)) else { return 0 };
        if !held.sacked && self.sacked_records >= MAX_SACKED {
            return 0;
        }
        let (low, high) = self.split_around(block);
        if low >= high {
            return 0;
        }
        let mut newly = 0u32;
        let mut merged: Option<Record> = None;
        for record in self.records.range_mut(low..high) {
            if record.sacked {
                self.sacked_records = self.sacked_records.saturating_sub(1);
            } else {
                newly = newly.saturating_add(record.len());
                let counter = if record.lost { &mut self.lost } else { &mut self.in_flight };
                *counter = counter.saturating_sub(record.len());
            }
            if !record.counted {
                self.rate.on_delivered(now, record);
                self.rack.on_delivered(now, record, highest);
            }
            let base = *merged.get_or_insert(*record);
            let transmissions = base.transmissions.max(record.transmissions);
            merged = Some(Record { end: record.end, transmissions, sacked: true, lost: false, counted: true, ..base });
        }
        if let (Some(slot), Some(merged)) = (self.records.get_mut(low), merged) {
            *slot = merged;
            self.sacked_records += 1;
        }
        self.records.drain(low + 1..high);
        self.join_sacked(low + 1);
        self.join_sacked(low);
        newly
    }

    /// The indices of the records to mark for `block`. SACKed records at its edges are taken whole, they are marked
    /// already; where the bound forbids a split, the partly covered record is left out, for a SACK is only advice.
    fn split_around(&mut self, block: &SackBlock) -> (usize, usize) {
        let mut low = self.index_of(block.left);
        if self.records.get(low).is_some_and(|r| !r.sacked) {
            low = self.split(block.left);
            let whole = self.records.get(low).is_some_and(|r| r.start.is_at_or_after(block.left));
            low += usize::from(!whole);
        }
        let mut high = self.index_of(block.right);
        match self.records.get(high) {
            Some(record) if record.sacked && record.start.is_before(block.right) => high += 1,
            Some(_) => high = self.split(block.right),
            None => {}
        }
        (low, high)
    }

    /// Makes one of the record at `index` and the one before it if both are SACKed.
    fn join_sacked(&mut self, index: usize) {
        let Some(second) = self.records.get(index).copied().filter(|r| r.sacked) else { return };
        let Some(first) = index.checked_sub(1).and_then(|i| self.records.get_mut(i)).filter(|r| r.sacked) else {
            return;
        };
        first.end = second.end;
        first.transmissions = first.transmissions.max(second.transmissions);
        self.records.remove(index);
        self.sacked_records = self.sacked_records.saturating_sub(1);
    }

    /// The oldest record.
    pub fn first(&self) -> Option<&Record> {
        self.records.front()
    }

    /// The newest record.
    pub fn last(&self) -> Option<&Record> {
        self.records.back()
    }

    /// All records, in sequence order.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Sequence numbers thought to be in the network: not SACKed, not lost unless retransmitted (RFC 6675's pipe).
    pub const fn bytes_in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Sequence numbers presumed lost and not retransmitted since.
    pub const fn lost_bytes(&self) -> u32 {
        self.lost
    }

    /// Bytes delivered to the peer so far (C.delivered).
    pub const fn delivered(&self) -> u64 {
        self.rate.delivered
    }

    /// Bytes delivered since C.delivered was `before`.
    pub fn delivered_since(&self, before: u64) -> u32 {
        u32::try_from(self.delivered().saturating_sub(before)).unwrap_or(u32::MAX)
    }

    /// Whether everything sent is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether the peer has reported anything beyond SND.UNA.
    pub const fn has_sacked(&self) -> bool {
        self.sacked_records > 0
    }

    /// What RACK knows of the path.
    pub const fn rack(&mut self) -> &mut Rack {
        &mut self.rack
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Forgets all records; what was delivered stays counted.
    pub fn clear(&mut self) {
        self.records = VecDeque::new();
        self.in_flight = 0;
        self.lost = 0;
        self.sacked_records = 0;
    }

    /// Index of the first record that ends after `seq`.
    fn index_of(&self, seq: Seq) -> usize {
        self.records.partition_point(|r| r.end.is_at_or_before(seq))
    }

    /// Makes a record begin at `seq`, unless that would exceed [`MAX_RECORDS`]; the index of the record with `seq`.
    fn split(&mut self, seq: Seq) -> usize {
        let index = self.index_of(seq);
        let full = self.records.len() >= MAX_RECORDS;
        let Some(record) = self.records.get_mut(index) else { return index };
        if full || record.start.is_at_or_after(seq) {
            return index;
        }
        let front = Record { end: seq, ..*record };
        record.start = seq;
        self.sacked_records += usize::from(record.sacked);
        self.records.insert(index, front);
        index + 1
    }

    /// Joins the record at `index` with the one before it if they differ in nothing but their place.
    fn merge_with_previous(&mut self, index: usize) {
        let Some(second) = self.records.get(index).copied() else { return };
        let Some(first) = index.checked_sub(1).and_then(|i| self.records.get_mut(i)) else { return };
        if !second.sacked && first.is_continued_by(&second) {
            first.end = second.end;
            self.records.remove(index);
        }
    }

    /// Panics if an invariant of this module is broken.
    pub fn check_invariants(&self) {
        let sum = |pick: fn(&Record) -> bool| self.records.iter().filter(|r| pick(r)).map(Record::len).sum::<u32>();
        assert!(self.records.len() <= MAX_RECORDS, "too many records");
        assert!(self.records.iter().all(|r| !r.is_empty() && r.transmissions > 0), "empty record");
        assert!(!self.records.iter().any(|r| r.sacked && r.lost), "sacked and lost");
        assert!(self.records.iter().zip(self.records.iter().skip(1)).all(|(a, b)| a.end == b.start), "not contiguous");
        assert_eq!(self.in_flight, sum(Record::is_in_flight), "in flight");
        assert_eq!(self.lost, sum(|r| r.lost), "lost");
        assert_eq!(self.sacked_records, self.records.iter().filter(|r| r.sacked).count(), "sacked records");
        let first_lost = self.records.iter().find(|r| r.lost).map(|r| (r.start, r.end));
        assert_eq!(self.first_lost(), first_lost, "first lost");
    }
}
