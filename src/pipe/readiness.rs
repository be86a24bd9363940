//! [`Readiness`]: the stored word that says what a connection is ready for, and everyone who waits for it.
//!
//! tokio's semantics (`runtime/io/scheduled_io.rs`): the reactor sets bits and thereby wakes; only an operation that found
//! nothing clears a bit, and only if no newer event came in between (the tick); the closed bits are final. Wakers are
//! called outside of the lock. Never reads the rings. `StackEnd` sets, `net` waits and clears.
//!
//! No wake-up is lost: an event stores its bits before it takes the lock to look for waiters; whoever waits stores its
//! waker under the lock and looks at the bits again before it lets go. One of the two sees the other.

use std::fmt;
use std::future::Future;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

#[cfg(test)]
#[cfg(not(usernet_loom))]
mod tests;

/// A set of things a connection can be ready for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ready(u8);

impl Ready {
    /// Nothing.
    pub const EMPTY: Ready = Ready(0);
    /// A read may find something.
    pub const READABLE: Ready = Ready(1);
    /// A write may find room.
    pub const WRITABLE: Ready = Ready(1 << 1);
    /// Nothing more will come. Final.
    pub const READ_CLOSED: Ready = Ready(1 << 2);
    /// Nothing more can go, and nothing more will come: both halves are closed, or the connection is over. Final.
    pub const WRITE_CLOSED: Ready = Ready(1 << 3);
    /// The connection failed.
    pub const ERROR: Ready = Ready(1 << 4);
    /// Bytes were acknowledged; set only while someone waits for it (`UserEnd::drained`).
    pub const DRAINED: Ready = Ready(1 << 5);
    /// Everything.
    pub const ALL: Ready = Ready(0b11_1111);
    /// What a reader waits for (tokio's `Interest::READABLE`).
    pub const READ: Ready = Ready(Ready::READABLE.0 | Ready::READ_CLOSED.0);
    /// What a writer waits for (tokio's `Interest::WRITABLE`).
    pub const WRITE: Ready = Ready(Ready::WRITABLE.0 | Ready::WRITE_CLOSED.0);
    /// Bits that are never cleared.
    const CLOSED: Ready = Ready(Ready::READ_CLOSED.0 | Ready::WRITE_CLOSED.0);

    /// Whether it is the empty set.
    pub fn is_empty(self) -> bool {
        self == Ready::EMPTY
    }

    /// Whether all of `other` are in it.
    pub fn contains(self, other: Ready) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in it.
    pub fn intersects(self, other: Ready) -> bool {
        self.0 & other.0 != 0
    }

    /// Readable, or closed for reading.
    pub fn is_readable(self) -> bool {
        self.intersects(Ready::READ)
    }

    /// Writable, or closed for writing.
    pub fn is_writable(self) -> bool {
        self.intersects(Ready::WRITE)
    }

    /// Closed for reading.
    pub fn is_read_closed(self) -> bool {
        self.contains(Ready::READ_CLOSED)
    }

    /// Closed for writing.
    pub fn is_write_closed(self) -> bool {
        self.contains(Ready::WRITE_CLOSED)
    }

    /// Failed.
    pub fn is_error(self) -> bool {
        self.contains(Ready::ERROR)
    }
}

impl BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

impl BitOrAssign for Ready {
    fn bitor_assign(&mut self, other: Ready) {
        self.0 |= other.0;
    }
}

impl BitAnd for Ready {
    type Output = Ready;

    fn bitand(self, other: Ready) -> Ready {
        Ready(self.0 & other.0)
    }
}

impl Sub for Ready {
    type Output = Ready;

    fn sub(self, other: Ready) -> Ready {
        Ready(self.0 & !other.0)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("is_readable", &self.is_readable())
            .field("is_writable", &self.is_writable())
            .field("is_read_closed", &self.is_read_closed())
            .field("is_write_closed", &self.is_write_closed())
            .field("is_error", &self.is_error())
            .finish()
    }
}

/// What was ready, and as of which event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyEvent {
    /// The bits that were asked for and set.
    pub ready: Ready,
    /// The reactor is gone: the operation fails.
    pub is_shutdown: bool,
    tick: u32,
}

/// A half of the connection; each has one poll slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `poll_read` and its like.
    Read,
    /// `poll_write` and its like.
    Write,
}

impl Direction {
    fn mask(self) -> Ready {
        match self {
            Direction::Read => Ready::READ,
            Direction::Write => Ready::WRITE,
        }
    }
}

/// The word, split: bits 0–7 `Ready`, bit 8 shut down, bits 16–47 tick.
#[derive(Clone, Copy)]
struct Word {
    ready: Ready,
    is_shutdown: bool,
    tick: u32,
}

const SHUTDOWN: u64 = 1 << 8;
const TICK_SHIFT: u32 = 16;

impl Word {
    fn unpack(word: u64) -> Word {
        let [low, ..] = word.to_le_bytes();
        let tick = u32::try_from(word >> TICK_SHIFT).unwrap_or(u32::MAX);
        Word { ready: Ready(low), is_shutdown: word & SHUTDOWN != 0, tick }
    }

    fn pack(self) -> u64 {
        let shutdown = if self.is_shutdown { SHUTDOWN } else { 0 };
        u64::from(self.ready.0) | shutdown | u64::from(self.tick) << TICK_SHIFT
    }

    /// `None` if there is no reason to return yet.
    fn event(self, mask: Ready) -> Option<ReadyEvent> {
        let ready = if self.is_shutdown { mask } else { self.ready & mask };
        (!ready.is_empty() || self.is_shutdown).then_some(ReadyEvent {
            ready,
            is_shutdown: self.is_shutdown,
            tick: self.tick,
        })
    }
}

/// What a connection is ready for and who waits for it.
#[derive(Debug, Default)]
pub struct Readiness {
    word: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Those of [`Readiness::wait`], any number.
    many: Slab<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    mask: Ready,
    /// `None` once notified.
    waker: Option<Waker>,
}

/// How many wakers are collected under one lock; more take another round.
const BATCH: usize = 16;

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Word {
        Word::unpack(self.word.load(Ordering::Acquire))
    }

    /// Those of `mask` that are set now.
    pub fn event(&self, mask: Ready) -> ReadyEvent {
        let word = self.load();
        let empty = ReadyEvent { ready: Ready::EMPTY, is_shutdown: false, tick: word.tick };
        word.event(mask).unwrap_or(empty)
    }

    /// An event: stores the bits and wakes the poll slot and every waiter of the directions. Returns how many it woke.
    pub fn set(&self, ready: Ready) -> usize {
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let word = Word::unpack(word);
            Some(Word { ready: word.ready | ready, tick: word.tick.wrapping_add(1), ..word }.pack())
        });
        self.wake(ready)
    }

    /// An operation found nothing. Clears what `event` showed, except what is final, unless a newer event came.
    pub fn clear(&self, event: ReadyEvent) {
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let word = Word::unpack(word);
            let gone = event.ready - Ready::CLOSED;
            (word.tick == event.tick).then(|| Word { ready: word.ready - gone, ..word }.pack())
        });
    }

    /// The reactor is gone: everyone wakes, nobody waits any more.
    pub fn shutdown(&self) {
        self.word.fetch_or(SHUTDOWN, Ordering::AcqRel);
        self.wake(Ready::ALL);
    }

    /// Whether the reactor is gone.
    pub fn is_shutdown(&self) -> bool {
        self.load().is_shutdown
    }

    fn wake(&self, ready: Ready) -> usize {
        let mut woken = 0;
        loop {
            let mut batch: [Option<Waker>; BATCH] = Default::default();
            let mut waiters = self.lock();
            let Waiters { reader, writer, many } = &mut *waiters;
            let reader = reader.take_if(|_| ready.is_readable());
            let writer = writer.take_if(|_| ready.is_writable());
            let many = many.iter_mut().filter(|(_, waiter)| waiter.mask.intersects(ready));
            let mut wakers = reader.into_iter().chain(writer).chain(many.filter_map(|(_, waiter)| waiter.waker.take()));
            // `batch` leads the zip: when it is full no waker has been taken in vain.
            let mut taken = 0;
            for (place, waker) in batch.iter_mut().zip(&mut wakers) {
                *place = Some(waker);
                taken += 1;
            }
            drop(waiters);
            batch.into_iter().flatten().for_each(Waker::wake);
            woken += taken;
            if taken < BATCH {
                return woken;
            }
        }
    }

    /// Ready, or remembers the caller in the one slot of the direction; the latest caller wins.
    pub fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<ReadyEvent> {
        let mask = direction.mask();
        if let Some(event) = self.load().event(mask) {
            return Poll::Ready(event);
        }
        let mut waiters = self.lock();
        let slot = match direction {
            Direction::Read => &mut waiters.reader,
            Direction::Write => &mut waiters.writer,
        };
        store(slot, cx.waker());
        // Again under the lock: an event may have come in between.
        self.load().event(mask).map_or(Poll::Pending, Poll::Ready)
    }

    /// Waits until any of `mask` is set. Any number may wait at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no trace and takes no event from anyone else.
    pub fn wait(&self, mask: Ready) -> Waiting<'_> {
        Waiting { readiness: self, mask, key: None }
    }
}

/// Stores a waker without cloning one that would wake the same task.
fn store(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(stored) => stored.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

/// Future of [`Readiness::wait`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Waiting<'a> {
    readiness: &'a Readiness,
    mask: Ready,
    /// Our entry among the waiters, while registered.
    key: Option<usize>,
}

impl Future for Waiting<'_> {
    type Output = ReadyEvent;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ReadyEvent> {
        let (readiness, mask) = (self.readiness, self.mask);
        let Some(key) = self.key else {
            if let Some(event) = readiness.load().event(mask) {
                return Poll::Ready(event);
            }
            let mut waiters = readiness.lock();
            // Again under the lock: an event may have come in between.
            if let Some(event) = readiness.load().event(mask) {
                return Poll::Ready(event);
            }
            self.key = Some(waiters.many.insert(Waiter { mask, waker: Some(cx.waker().clone()) }));
            return Poll::Pending;
        };
        let mut waiters = readiness.lock();
        if let Some(Waiter { waker: Some(waker), .. }) = waiters.many.get_mut(key) {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        // Notified. As in tokio the bits may have been cleared again by another task: the event is then empty.
        waiters.many.try_remove(key);
        drop(waiters);
        self.key = None;
        Poll::Ready(readiness.event(mask))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // The waker is dropped outside of the lock: its drop may run foreign code.
            let waiter = self.readiness.lock().many.try_remove(key);
            drop(waiter);
        }
    }
}
