//! [`Deadlines`]: which connection must be looked at next.
//!
//! Two heaps, because most connections of a large stack wait for something far away, the end of their idle time, and a few
//! for something near, an acknowledgment: a message must not be sorted in among all of them and out again, past a cold
//! cache line at each level. What is near stands in an indexed heap. What is far stands in a plain one, where an entry is
//! not moved when its deadline is: it comes up early and is put where it belongs.
//!
//! Where keepalive is on, its entry in `far` comes up too late for the idle time, which then stands in `near`: one heap for all,
//! as if there were no other.
//!
//! O(log n) an update, O(1) when nothing changed, no allocation but growth. Called by the engine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::time::Instant;

/// No place in the heap.
const ABSENT: u32 = u32::MAX;
/// No time at all.
const NEVER: Instant = Instant::FAR_FUTURE;
/// Entries that came up too early and are put where they belong in one step, so that no turn pays for all of them.
const TIDIED: usize = 8;
/// Such steps in one search for what is due.
const STEPS: usize = 8;
/// From here on a deadline is far: longer than an ACK mostly takes, that of a SYN too (1 s), shorter than the silence after
/// which a connection is idle (5 s).
const FAR: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
struct Entry {
    at: Instant,
    slot: u32,
}

/// Where a slot stands.
#[derive(Clone, Copy)]
struct Standing {
    /// Its deadline, or [`NEVER`].
    due: Instant,
    /// When its entry in `far` comes up, or [`NEVER`] if it has none there.
    comes_up: Instant,
    /// Its place in `near`, or [`ABSENT`].
    place: u32,
}

const NOWHERE: Standing = Standing { due: NEVER, comes_up: NEVER, place: ABSENT };

/// Earliest deadline first.
#[derive(Default)]
pub(super) struct Deadlines {
    /// `near[i].at <= near[2i+1].at, near[2i+2].at`
    near: Vec<Entry>,
    /// At most one entry a slot; of one that is not in `near`, not after its deadline.
    far: BinaryHeap<Reverse<(Instant, u32)>>,
    /// As of the last call that told it.
    now: Instant,
    /// By slot. In `near` is who has a deadline and no entry in `far`, or one that would come up too late.
    slots: Vec<Standing>,
}

impl Deadlines {
    /// Sets, moves or removes the deadline of a slot.
    pub(super) fn set(&mut self, now: Instant, slot: u32, at: Option<Instant>) {
        self.now = now;
        let due = at.unwrap_or(NEVER);
        if due != self.standing(slot).due {
            self.update(slot, |standing| standing.due = due);
            self.place(slot);
            self.tidy();
        }
    }

    /// The slot has no deadline any more.
    pub(super) fn forget(&mut self, slot: u32) {
        self.set(self.now, slot, None);
    }

    /// No deadline is earlier. Mostly there is one at that moment.
    pub(super) fn earliest(&self) -> Option<Instant> {
        let near = self.near.first().map(|entry| entry.at);
        near.into_iter().chain(self.first_far().map(|(at, _)| at)).min()
    }

    /// Takes out one slot whose deadline is not after `now`. If there may be more, [`Deadlines::earliest`] says so.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.now = now;
        for _ in 0..STEPS {
            if self.first_far().is_none_or(|(at, _)| at > now) || self.tidy() {
                break;
            }
        }
        let near = self.near.first().map(|entry| (entry.at, entry.slot));
        let far = self.first_far().filter(|&(at, slot)| self.standing(slot).due == at);
        let (_, slot) = near.into_iter().chain(far).min().filter(|(at, _)| *at <= now)?;
        self.forget(slot);
        Some(slot)
    }

    fn first_far(&self) -> Option<(Instant, u32)> {
        self.far.peek().map(|Reverse(first)| *first)
    }

    /// Puts a slot whose deadline has changed where it belongs.
    fn place(&mut self, slot: u32) {
        let Standing { due, comes_up, place } = self.standing(slot);
        if comes_up > due && (comes_up != NEVER || due.since(self.now) < FAR) {
            self.set_near(place, Entry { at: due, slot });
            return;
        }
        self.remove_near(place);
        if comes_up == NEVER && due != NEVER {
            self.far.push(Reverse((due, slot)));
            self.update(slot, |standing| standing.comes_up = due);
        }
    }

    /// Puts some entries that are the first of `far` too early where they belong. Returns whether the first now is one that
    /// is in its place.
    fn tidy(&mut self) -> bool {
        for _ in 0..TIDIED {
            let Some((at, slot)) = self.first_far() else { return true };
            if self.standing(slot).due == at {
                return true;
            }
            self.far.pop();
            self.update(slot, |standing| standing.comes_up = NEVER);
            self.place(slot);
        }
        false
    }

    fn standing(&self, slot: u32) -> Standing {
        usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot)).copied().unwrap_or(NOWHERE)
    }

    fn update(&mut self, slot: u32, change: impl FnOnce(&mut Standing)) {
        let Ok(slot) = usize::try_from(slot) else { return };
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, NOWHERE);
        }
        if let Some(standing) = self.slots.get_mut(slot) {
            change(standing);
        }
    }

    /// Places an entry anew, or for the first time.
    fn set_near(&mut self, place: u32, entry: Entry) {
        let index = index_of(place).unwrap_or(self.near.len());
        if index == self.near.len() {
            self.near.push(entry);
        }
        self.restore(index, entry);
    }

    fn remove_near(&mut self, place: u32) {
        let Some(index) = index_of(place).filter(|index| *index < self.near.len()) else { return };
        let gone = self.near.swap_remove(index);
        self.update(gone.slot, |standing| standing.place = ABSENT);
        if let Some(&last) = self.near.get(index) {
            self.restore(index, last);
        }
    }

    /// Puts `entry` where it belongs, beginning with `index`, whose own entry is of no use.
    fn restore(&mut self, index: usize, entry: Entry) {
        let top = self.sift_up(index, entry.at);
        let index = if top == index { self.sift_down(index, entry.at) } else { top };
        self.put(index, entry);
    }

    fn put(&mut self, index: usize, entry: Entry) {
        if let Some(there) = self.near.get_mut(index) {
            *there = entry;
            let place = u32::try_from(index).unwrap_or(ABSENT);
            self.update(entry.slot, |standing| standing.place = place);
        }
    }

    /// Moves down what stands above `index` and is later than `at`. Returns the index that is free then.
    fn sift_up(&mut self, mut index: usize, at: Instant) -> usize {
        while index > 0 {
            let above = (index - 1) / 2;
            let Some(&parent) = self.near.get(above).filter(|parent| parent.at > at) else { break };
            self.put(index, parent);
            index = above;
        }
        index
    }

    /// Moves up what stands below `index` and is earlier than `at`. Returns the index that is free then.
    fn sift_down(&mut self, mut index: usize, at: Instant) -> usize {
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let Some(&first) = self.near.get(left) else { break };
            let (below, child) = match self.near.get(right) {
                Some(&second) if second.at < first.at => (right, second),
                _ => (left, first),
            };
            if at <= child.at {
                break;
            }
            self.put(index, child);
            index = below;
        }
        index
    }
}

/// An index into `near`.
fn index_of(place: u32) -> Option<usize> {
    if place == ABSENT { None } else { usize::try_from(place).ok() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Deadlines {
        fn check(&self) {
            for (index, entry) in self.near.iter().enumerate() {
                let Standing { due, comes_up, place } = self.standing(entry.slot);
                assert_eq!((due, place as usize), (entry.at, index));
                assert!(comes_up > due, "in both heaps");
            }
            let placed = self.slots.iter().filter(|standing| standing.place != ABSENT).count();
            assert_eq!(placed, self.near.len());
            let entries = self.slots.iter().filter(|standing| standing.comes_up != NEVER).count();
            assert_eq!(entries, self.far.len());
        }
    }

    #[test]
    fn agrees_with_a_sorted_map() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            // From where nearly all deadlines are near to where nearly all are far.
            let span = FAR * (1 << (seed % 6)) / 2;
            let mut deadlines = Deadlines::default();
            let mut model: BTreeMap<u32, Instant> = BTreeMap::new();
            let mut now = Instant::ZERO;
            for _ in 0..4_000 {
                let slot = random.u32(0..64);
                match random.u8(0..10) {
                    0..6 => {
                        let at = now + span.mul_f64(random.f64());
                        deadlines.set(now, slot, Some(at));
                        model.insert(slot, at);
                    }
                    6..8 => {
                        deadlines.set(now, slot, None);
                        model.remove(&slot);
                    }
                    _ => {
                        now = now + span.mul_f64(random.f64() / 16.0);
                        let earliest = model.values().min().copied();
                        // As many steps as slots are enough.
                        match deadlines.pop_due(now) {
                            Some(due) => assert_eq!(model.remove(&due), earliest, "seed {seed}"),
                            None => assert!(earliest.is_none_or(|at| at > now), "seed {seed}"),
                        }
                    }
                }
                let earliest = model.values().min().copied().unwrap_or(NEVER);
                let told = deadlines.earliest().unwrap_or(NEVER);
                let is_exact = deadlines.first_far().is_none_or(|(at, slot)| deadlines.standing(slot).due == at);
                assert!(if is_exact { told == earliest } else { told <= earliest }, "seed {seed}");
                deadlines.check();
            }
        }
    }

    #[test]
    fn a_thousand_entries_that_came_up_too_early_are_not_moved_at_once() {
        let mut deadlines = Deadlines::default();
        let (first, later) = (Instant::from_millis(5_000), Instant::from_millis(9_000));
        for slot in 0..1_000 {
            deadlines.set(Instant::ZERO, slot, Some(first));
        }
        for slot in 1..1_000 {
            deadlines.set(Instant::ZERO, slot, Some(later));
        }
        deadlines.set(Instant::ZERO, 1_000, Some(Instant::from_millis(10)));
        let waiting = |deadlines: &Deadlines| deadlines.slots.iter().filter(|slot| slot.comes_up == first).count();
        assert_eq!(waiting(&deadlines), 1_000);
        deadlines.forget(0);
        assert_eq!(waiting(&deadlines), 1_000 - TIDIED);
        // What is near does not wait for them, and they are all moved in time.
        assert_eq!(deadlines.pop_due(first), Some(1_000));
        for _ in 0..1_000 / TIDIED {
            assert_eq!(deadlines.pop_due(first), None);
        }
        assert_eq!((waiting(&deadlines), deadlines.earliest()), (0, Some(later)));
    }

    /// A message on an idle connection is waited for near the root of a small heap.
    #[test]
    fn what_is_far_stays_where_it_is() {
        let mut deadlines = Deadlines::default();
        let idle = Duration::from_secs(5);
        for slot in 0..1_000 {
            deadlines.set(Instant::ZERO, slot, Some(Instant::ZERO + idle));
        }
        for round in 1..1_000 {
            let now = Instant::from_millis(round);
            let slot = u32::try_from(round).unwrap();
            deadlines.set(now, slot, Some(now + Duration::from_millis(200)));
            assert_eq!(deadlines.near.len(), 1);
            deadlines.set(now, slot, Some(now + idle));
            assert_eq!((deadlines.near.len(), deadlines.far.len()), (0, 1_000));
        }
    }
}
