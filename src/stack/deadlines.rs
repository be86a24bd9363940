//! [`Deadlines`]: which connection must be looked at next.
//!
//! In two places, because most connections of a large stack wait for something far away, the end of their idle time, and a
//! few for something near, an acknowledgment: a message must not be sorted in among all of them and out again, past a cold
//! cache line at each level. What is near stands in an indexed heap. What is far stands unsorted in buckets, where an entry
//! is not moved when its deadline is: it comes up early, with its bucket, and is put where it belongs.
//!
//! Where keepalive is on, its entry in `far` comes up too late for the idle time, which then stands in `near`: one heap for all,
//! as if there were nothing else.
//!
//! O(log n) an update of what is near or of a bucket's beginning, O(1) else; allocates when it grows, and for a bucket now and
//! then. Called by the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Instant;

/// No place in the heap.
const ABSENT: u32 = u32::MAX;
/// No time at all.
const NEVER: Instant = Instant::FAR_FUTURE;
/// Entries of buckets that have come up that are put where they belong in one turn.
const MOVED: usize = 1_024;
/// From here on a deadline is far: longer than an ACK mostly takes, that of a SYN too (1 s), shorter than the silence after
/// which a connection is idle (5 s).
const FAR: Duration = Duration::from_secs(2);
/// Microseconds of a bucket: so much earlier than its deadline an entry may come up, and be near from then on. Less than
/// [`FAR`].
const BUCKET: u64 = 1 << 18;

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
    /// The slot behind it in its bucket, or [`ABSENT`].
    next: u32,
}

const NOWHERE: Standing = Standing { due: NEVER, comes_up: NEVER, place: ABSENT, next: ABSENT };

/// When the bucket of this number comes up.
fn beginning(number: u64) -> Instant {
    Instant::from_micros(number.saturating_mul(BUCKET))
}

/// Earliest deadline first.
#[derive(Default)]
pub(super) struct Deadlines {
    /// `near[i].at <= near[2i+1].at, near[2i+2].at`
    near: Vec<Entry>,
    /// The first slot of each bucket, by its number. A slot is in one at most; that of one that is not in `near` comes up not
    /// after its deadline.
    far: BTreeMap<u64, u32>,
    /// By slot. In `near` is who has a deadline and no entry in `far`, or one that would come up too late.
    slots: Vec<Standing>,
}

impl Deadlines {
    /// Sets, moves or removes the deadline of a slot.
    pub(super) fn set(&mut self, now: Instant, slot: u32, at: Option<Instant>) {
        let due = at.unwrap_or(NEVER);
        if due != self.standing(slot).due {
            self.update(slot, |standing| standing.due = due);
            self.place(now, slot);
        }
    }

    /// The deadline of a slot.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn due(&self, slot: u32) -> Option<Instant> {
        Some(self.standing(slot).due).filter(|due| *due != NEVER)
    }

    /// The slot has no deadline any more: neither near nor far, whatever time it is.
    pub(super) fn forget(&mut self, slot: u32) {
        self.set(Instant::ZERO, slot, None);
    }

    /// No deadline is earlier; a bucket that comes up may be.
    pub(super) fn earliest(&self) -> Option<Instant> {
        let near = self.near.first().map(|entry| entry.at);
        let far = self.far.first_key_value().map(|(&number, _)| beginning(number));
        near.into_iter().chain(far).min()
    }

    /// Puts where they belong entries whose bucket has come up: once a turn, before [`Deadlines::pop_due`]. A turn does not pay
    /// for all of them; while there are more, [`Deadlines::earliest`] is not after `now`.
    pub(super) fn come_up(&mut self, now: Instant) {
        for _ in 0..MOVED {
            let Some(slot) = self.pop_far(now) else { break };
            self.place(now, slot);
        }
    }

    /// Takes out one slot whose deadline is not after `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let slot = self.near.first().filter(|entry| entry.at <= now)?.slot;
        self.forget(slot);
        Some(slot)
    }

    fn push_far(&mut self, slot: u32, due: Instant) {
        let number = due.as_micros() / BUCKET;
        let next = self.far.insert(number, slot).unwrap_or(ABSENT);
        self.update(slot, |standing| (standing.comes_up, standing.next) = (beginning(number), next));
    }

    /// Takes a slot out of the first bucket if that has come up.
    fn pop_far(&mut self, now: Instant) -> Option<u32> {
        let (&number, &slot) = self.far.first_key_value().filter(|(number, _)| beginning(**number) <= now)?;
        match self.standing(slot).next {
            ABSENT => self.far.remove(&number),
            next => self.far.insert(number, next),
        };
        self.update(slot, |standing| (standing.comes_up, standing.next) = (NEVER, ABSENT));
        Some(slot)
    }

    /// Puts a slot whose deadline has changed where it belongs.
    fn place(&mut self, now: Instant, slot: u32) {
        let Standing { due, comes_up, place, .. } = self.standing(slot);
        if comes_up > due && (comes_up != NEVER || due.since(now) < FAR) {
            self.set_near(place, Entry { at: due, slot });
            return;
        }
        self.remove_near(place);
        if comes_up == NEVER && due != NEVER {
            self.push_far(slot, due);
        }
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
                let Standing { due, comes_up, place, .. } = self.standing(entry.slot);
                assert_eq!((due, place as usize), (entry.at, index));
                assert!(comes_up > due, "in both places");
            }
            let placed = self.slots.iter().filter(|standing| standing.place != ABSENT).count();
            assert_eq!(placed, self.near.len());
            let mut in_buckets = 0;
            for (&number, &first) in &self.far {
                let mut slot = first;
                while slot != ABSENT {
                    assert_eq!(self.standing(slot).comes_up, beginning(number));
                    in_buckets += 1;
                    slot = self.standing(slot).next;
                }
            }
            let coming_up = self.slots.iter().filter(|standing| standing.comes_up != NEVER).count();
            assert_eq!(in_buckets, coming_up, "in one bucket each");
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
                        deadlines.come_up(now);
                        match deadlines.pop_due(now) {
                            Some(due) => assert_eq!(model.remove(&due), earliest, "seed {seed}"),
                            None => {
                                assert!(earliest.is_none_or(|at| at > now), "seed {seed}");
                                assert!(deadlines.earliest().is_none_or(|at| at > now), "seed {seed}: spins");
                            }
                        }
                    }
                }
                let earliest = model.values().min().copied().unwrap_or(NEVER);
                let told = deadlines.earliest().unwrap_or(NEVER);
                let is_exact = deadlines.far.keys().next().is_none_or(|&number| beginning(number) > earliest);
                assert!(if is_exact { told == earliest } else { told <= earliest }, "seed {seed}");
                deadlines.check();
            }
        }
    }

    #[test]
    fn thousands_of_entries_that_come_up_too_early_are_not_moved_at_once() {
        const SLOTS: u32 = 10_000;
        const WAITING: usize = SLOTS as usize;
        let mut deadlines = Deadlines::default();
        let (first, later) = (Instant::from_millis(5_000), Instant::from_millis(9_000));
        for slot in 0..SLOTS {
            deadlines.set(Instant::ZERO, slot, Some(first));
        }
        for slot in 1..SLOTS {
            deadlines.set(Instant::ZERO, slot, Some(later));
        }
        deadlines.set(Instant::ZERO, SLOTS, Some(Instant::from_millis(10)));
        let comes_up = deadlines.standing(0).comes_up;
        assert!(comes_up <= first && first.since(comes_up) < Duration::from_micros(BUCKET));
        let waiting = |deadlines: &Deadlines| deadlines.slots.iter().filter(|slot| slot.comes_up == comes_up).count();
        assert_eq!(waiting(&deadlines), WAITING);
        // What is near does not wait for them, however much is due, and they are all moved in time.
        let mut turn = || {
            deadlines.come_up(first);
            let due: Vec<u32> = std::iter::from_fn(|| deadlines.pop_due(first)).collect();
            deadlines.check();
            (due, waiting(&deadlines), deadlines.earliest())
        };
        assert_eq!(turn(), (vec![SLOTS], WAITING - MOVED, Some(comes_up)));
        let mut found = Vec::new();
        for _ in 0..WAITING / MOVED {
            found.extend(turn().0);
        }
        let (_, left, earliest) = turn();
        assert_eq!((found, left), (vec![0], 0));
        assert!(earliest.is_some_and(|at| at > first && at <= later));
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
            assert_eq!(deadlines.near.len(), 0);
            deadlines.check();
        }
    }
}
