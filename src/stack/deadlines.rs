//! [`Deadlines`]: which connection must be looked at next. An indexed binary heap, one entry a connection.
//!
//! O(log n) an update, O(1) when nothing changed, no allocation but growth. Called by the engine.

use crate::time::Instant;

/// No place in the heap.
const ABSENT: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Entry {
    at: Instant,
    slot: u32,
}

/// Earliest deadline first.
#[derive(Default)]
pub(super) struct Deadlines {
    /// `heap[i].at <= heap[2i+1].at, heap[2i+2].at`
    heap: Vec<Entry>,
    /// Slot to place in the heap: `heap[place[slot]].slot == slot`, or [`ABSENT`].
    place: Vec<u32>,
}

impl Deadlines {
    /// Sets, moves or removes the deadline of a slot.
    pub(super) fn set(&mut self, slot: u32, at: Option<Instant>) {
        match (self.place_of(slot), at) {
            (None, None) => {}
            (Some(index), None) => self.remove(index),
            (None, Some(at)) => self.insert(Entry { at, slot }),
            (Some(index), Some(at)) => {
                let Some(entry) = self.heap.get_mut(index) else { return };
                if entry.at != at {
                    entry.at = at;
                    self.restore(index);
                }
            }
        }
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Takes out one slot whose deadline is not after `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let first = *self.heap.first().filter(|entry| entry.at <= now)?;
        self.remove(0);
        Some(first.slot)
    }

    fn place_of(&self, slot: u32) -> Option<usize> {
        let place = *self.place.get(usize::try_from(slot).ok()?)?;
        if place == ABSENT { None } else { usize::try_from(place).ok() }
    }

    fn set_place(&mut self, slot: u32, place: u32) {
        let Ok(slot) = usize::try_from(slot) else { return };
        if slot >= self.place.len() {
            self.place.resize(slot + 1, ABSENT);
        }
        if let Some(entry) = self.place.get_mut(slot) {
            *entry = place;
        }
    }

    fn note(&mut self, index: usize) {
        if let Some(entry) = self.heap.get(index) {
            self.set_place(entry.slot, u32::try_from(index).unwrap_or(ABSENT));
        }
    }

    fn insert(&mut self, entry: Entry) {
        let index = self.heap.len();
        self.heap.push(entry);
        self.note(index);
        self.restore(index);
    }

    fn remove(&mut self, index: usize) {
        if index >= self.heap.len() {
            return;
        }
        let gone = self.heap.swap_remove(index);
        self.set_place(gone.slot, ABSENT);
        self.note(index);
        self.restore(index);
    }

    /// Moves the entry at `index` up or down to where it belongs.
    fn restore(&mut self, index: usize) {
        let index = self.sift_up(index);
        self.sift_down(index);
    }

    fn at(&self, index: usize) -> Option<Instant> {
        self.heap.get(index).map(|entry| entry.at)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    fn sift_up(&mut self, mut index: usize) -> usize {
        while let Some(here) = self.at(index).filter(|_| index > 0) {
            let parent = (index - 1) / 2;
            if self.at(parent).is_none_or(|parent| parent <= here) {
                break;
            }
            self.swap(parent, index);
            index = parent;
        }
        index
    }

    fn sift_down(&mut self, mut index: usize) {
        while let Some(here) = self.at(index) {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let Some(left_at) = self.at(left) else { break };
            let (child, child_at) = match self.at(right) {
                Some(right_at) if right_at < left_at => (right, right_at),
                _ => (left, left_at),
            };
            if here <= child_at {
                break;
            }
            self.swap(index, child);
            index = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut heap = Deadlines::default();
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            for _ in 0..2_000 {
                let slot = random.u32(0..64);
                match random.u8(0..10) {
                    0..6 => {
                        let at = Instant::from_micros(random.u64(0..1_000));
                        heap.set(slot, Some(at));
                        model.insert(slot, at);
                    }
                    6..8 => {
                        heap.set(slot, None);
                        model.remove(&slot);
                    }
                    _ => {
                        let now = Instant::from_micros(random.u64(0..300));
                        let earliest = model.values().min().copied();
                        match heap.pop_due(now) {
                            Some(due) => assert_eq!(model.remove(&due), earliest, "seed {seed}"),
                            None => assert!(earliest.is_none_or(|at| at > now), "seed {seed}"),
                        }
                    }
                }
                assert_eq!(heap.earliest(), model.values().min().copied(), "seed {seed}");
                assert_eq!(heap.heap.len(), model.len(), "seed {seed}");
            }
        }
    }
}
