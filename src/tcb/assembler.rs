//! [`Assembler`]: which out-of-order bytes the receive ring already holds.
//!
//! Owns ranges only: the bytes themselves land in place in the receive ring (reliability.md A11). Never sees payload,
//! never knows absolute sequence numbers except to word SACK blocks. Called by `tcb::recv`.
//!
//! ```text
//!        RCV.NXT                                        offsets are relative to RCV.NXT
//!          |  gap   |#### range ####|  gap  |## range ##|
//!          0        start           end
//! ```

use crate::wire::{SackBlock, SackBlocks, Seq};

#[cfg(test)]
mod tests;

/// Most disjoint ranges remembered; bounds both memory and the work per segment (CVE-2018-5390, SegmentSmack).
pub const MAX_RANGES: usize = 64;

/// The segment was not remembered: [`MAX_RANGES`] ranges nearer to RCV.NXT are held already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRanges;

/// Bytes `[start, end)` that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    end: u32,
    /// [`Assembler::clock`] at the latest segment that touched the range: the order of SACK blocks.
    touched: u64,
}

/// The out-of-order bytes held, as a set of ranges relative to RCV.NXT.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    /// Sorted, disjoint, not adjacent, none empty, at most [`MAX_RANGES`]. Its heap block stays until [`Assembler::trim`].
    ranges: Vec<Range>,
    /// Counts inserted segments.
    clock: u64,
}

impl Assembler {
    /// Holds nothing; allocates nothing.
    pub const fn new() -> Assembler {
        Assembler { ranges: Vec::new(), clock: 0 }
    }

    /// Records that bytes `[start, end)` have arrived, `start` and `end` relative to RCV.NXT.
    ///
    /// `new(offset, len)` is called, in order, for each part not held yet; the caller copies only those, so the byte
    /// that arrived first wins (reliability.md A19). A segment that starts at RCV.NXT may be inserted too, followed
    /// by `advance(0)`; it is never refused.
    ///
    /// When the set is full, the farthest range is forgotten in favour of a nearer one: its bytes will be sent again.
    ///
    /// # Errors
    /// [`TooManyRanges`]: the set is full and the segment lies beyond all of it; `new` was not called.
    pub fn insert(&mut self, start: u32, end: u32, new: &mut dyn FnMut(u32, u32)) -> Result<(), TooManyRanges> {
        if start >= end {
            return Ok(());
        }
        // Touching counts as overlapping, so that adjacent ranges become one.
        let low = self.ranges.partition_point(|r| r.end < start);
        let high = self.ranges.partition_point(|r| r.start <= end);
        self.clock = self.clock.saturating_add(1);
        let mut merged = Range { start, end, touched: self.clock };
        if low == high {
            self.make_room(low)?;
            new(start, end - start);
            self.ranges.insert(low, merged);
            return Ok(());
        }
        self.holes(start, end, new);
        if let Some([first, .., last] | [first @ last]) = self.ranges.get(low..high) {
            merged.start = first.start.min(start);
            merged.end = last.end.max(end);
        }
        if let Some(slot) = self.ranges.get_mut(low) {
            *slot = merged;
            self.ranges.drain(low + 1..high);
        }
        Ok(())
    }

    /// Makes sure that one more range fits at index `at`.
    fn make_room(&mut self, at: usize) -> Result<(), TooManyRanges> {
        if self.ranges.len() < MAX_RANGES {
            return Ok(());
        }
        // RFC 2018 §8: a receiver may discard data it has reported in a SACK option. Reneging is discouraged, yet the
        // bytes nearest to RCV.NXT are worth more: only they can become deliverable next.
        if at == self.ranges.len() {
            return Err(TooManyRanges);
        }
        self.ranges.pop();
        Ok(())
    }

    /// Calls `new(offset, len)`, in order, for each part of `[start, end)` that is not held; changes nothing.
    pub fn holes(&self, start: u32, end: u32, new: &mut dyn FnMut(u32, u32)) {
        let low = self.ranges.partition_point(|r| r.end <= start);
        let mut at = start;
        for range in self.ranges.iter().skip(low).take_while(|r| r.start < end) {
            if range.start > at {
                new(at, range.start - at);
            }
            at = range.end;
        }
        if at < end {
            new(at, end - at);
        }
    }

    /// RCV.NXT moved forward by `n` bytes of in-order text, which may cover or overlap ranges.
    ///
    /// Returns how many further bytes are contiguous beyond `n`: RCV.NXT moves by `n` plus that, and so do all offsets.
    pub fn advance(&mut self, n: u32) -> u32 {
        let mut reach = n;
        let mut used = 0;
        for range in self.ranges.iter().take_while(|r| r.start <= n) {
            reach = reach.max(range.end);
            used += 1;
        }
        if used == self.ranges.len() {
            self.ranges.clear();
            return reach - n;
        }
        self.ranges.drain(..used);
        for range in &mut self.ranges {
            range.start -= reach;
            range.end -= reach;
        }
        reach - n
    }

    /// The SACK blocks to report, at most `max` and at most four.
    ///
    /// RFC 2018 §4: the first block contains the segment that triggered this ACK; the others repeat the blocks that
    /// were first most recently. They are distinct because ranges are.
    pub fn sack_blocks(&self, rcv_nxt: Seq, max: usize) -> SackBlocks {
        let mut blocks = SackBlocks::EMPTY;
        let mut before = u64::MAX;
        for _ in 0..max.min(4) {
            let older = self.ranges.iter().filter(|r| r.touched < before);
            let Some(range) = older.max_by_key(|r| r.touched) else { break };
            before = range.touched;
            blocks.push(SackBlock { left: rcv_nxt + range.start, right: rcv_nxt + range.end });
        }
        blocks
    }

    /// Whether no out-of-order byte is held.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Number of disjoint ranges held.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The first missing `[start, end)` before a held byte; `None` if nothing held is waiting for anything.
    pub fn first_gap(&self) -> Option<(u32, u32)> {
        let mut ranges = self.ranges.iter();
        let first = ranges.next()?;
        if first.start > 0 {
            return Some((0, first.start));
        }
        ranges.next().map(|second| (first.end, second.start))
    }

    /// The offset after the farthest byte held.
    pub fn highest(&self) -> Option<u32> {
        self.ranges.last().map(|r| r.end)
    }

    /// Whether every byte of `[start, end)` is held.
    pub fn contains(&self, start: u32, end: u32) -> bool {
        let index = self.ranges.partition_point(|r| r.end <= start);
        start >= end || self.ranges.get(index).is_some_and(|r| r.start <= start && end <= r.end)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ranges = Vec::new();
    }

    /// Gives back what no range needs.
    pub fn trim(&mut self) {
        self.ranges.shrink_to_fit();
    }

    /// Panics if an invariant of this module is broken.
    pub fn check_invariants(&self) {
        assert!(self.ranges.len() <= MAX_RANGES, "too many ranges");
        assert!(self.ranges.iter().all(|r| r.start < r.end && r.touched <= self.clock), "bad range: {:?}", self.ranges);
        let apart = self.ranges.iter().zip(self.ranges.iter().skip(1)).all(|(a, b)| a.end < b.start);
        assert!(apart, "not sorted, disjoint and apart: {:?}", self.ranges);
    }
}
