//! [`Producer`] and [`Consumer`]: the two ends of a byte ring, single producer, single consumer, lock-free.
//!
//! Owns the positions and the only code that touches payload memory. Never blocks, never wakes anyone, knows no TCP.
//! `UserEnd` produces into the send ring and consumes the receive ring; `StackEnd` does the reverse.
//!
//! ```text
//!            base         head             tail                      head + span
//!   ──────────┴────────────┴────────────────┴─────────────────────────────┴──────  absolute positions, u64
//!                          │ consumer reads │ producer writes, in any     │
//!                          │ [head, tail)   │ order, then publishes       │
//!
//!   a position lies at byte (position − base) mod span of the buffer; span ≤ capacity
//! ```
//!
//! # Safety argument
//!
//! Both ends reach the same mapping through raw pointers; what keeps them apart is the positions.
//!
//! 1. *Disjoint.* The consumer hands out `[head, tail)` only, the producer writes `[tail, head + span)` only (each
//!    clamps to that, in release builds too). `head` is stored by the consumer alone and `tail` by the producer alone,
//!    and each end sees an old value of the other's at worst, which makes its own range smaller, never larger. Two
//!    distinct positions less than `span` apart lie at distinct bytes.
//! 2. *No reference outlives its range.* `Consumer::slices` borrows the consumer, and only `Consumer::consume`, which
//!    needs `&mut`, moves `head`; `Producer::free_slices` borrows the producer mutably, so nothing else writes. Who fills
//!    them (a copy, a system call of the device) makes no difference.
//! 3. *Published.* `tail` is stored with Release after the bytes were written and loaded with Acquire before they are
//!    read; `head` likewise after they were read and before they are overwritten.
//! 4. *Rewinding.* Only the producer stores `base`, only when it has seen (Acquire) `head == tail`. The consumer loads
//!    `tail` first: either it sees the old tail, then its range is empty and `base` is not used, or a tail published
//!    after the rewind, then Acquire makes the new base visible. While the range is not empty no rewind can happen,
//!    because `head` is the consumer's own. `base ≤ head` always, so the subtraction does not wrap.
//! 5. *Unique ends.* [`rings`] consumes the [`Region`] and makes each end once; no end can be cloned.
//! 6. *Alive and initialised.* Each end holds the [`Memory`], so the mapping outlives it; anonymous pages are zero.
//! 7. *Trimming.* The reactor gives the pages of an empty ring back, and it is the producer of the receive ring but the
//!    consumer of the send ring, where the free region is not its own. There `claim` decides: the producer touches the
//!    free region only between [`Producer::claim`] (FREE → WRITING) and [`Producer::release`], the consumer trims only
//!    between FREE → TRIMMING and FREE again, so never both. Release and Acquire on `claim` show the consumer every tail
//!    published before: the ring it then finds empty is empty, and nothing can be published into it meanwhile; and they
//!    put the producer's next byte after the trim.
//!
//! 8. *Fitting.* Only the producer stores `span`, only while `[head, tail)` lies in one run from the place of `base` or of a
//!    multiple of the old span after it, and ends within the new span. Then it moves `base` to the beginning of that run
//!    first, which changes no byte's place under the old span, and stores the new span after it (Release), which changes
//!    none either. The consumer loads the span first (Acquire): with the new one it sees the new base, with the old one
//!    either will do. A tail published after a change (3) shows it the new pair.
//!
//! `loom` checks 1, 3, 4, 7 and 8 (`RUSTFLAGS="--cfg usernet_loom" cargo test --release --lib pipe::ring`).

#![allow(unsafe_code)]

use std::fmt;
use std::sync::Arc;

#[cfg(not(usernet_loom))]
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

#[cfg(usernet_loom)]
use loom::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::{BufferInfo, Region, Side};

#[cfg(test)]
mod tests;

/// Own cache line: each end stores its own position often.
#[repr(align(64))]
#[derive(Debug)]
struct Padded<T>(T);

/// What the producer stores; the consumer stores `claim` when it trims.
#[derive(Debug)]
struct ProducerSide {
    tail: AtomicU64,
    base: AtomicU64,
    span: AtomicUsize,
    claim: AtomicU8,
}

/// Values of `claim` (safety argument, 7).
const FREE: u8 = 0;
const WRITING: u8 = 1;
const TRIMMING: u8 = 2;

/// What loom knows of each byte of the buffer.
#[cfg(usernet_loom)]
#[derive(Debug)]
struct Shadow(Vec<loom::cell::UnsafeCell<()>>);

// SAFETY: the cells hold nothing; loom tracks accesses to them from every thread, which is what they are for.
#[cfg(usernet_loom)]
unsafe impl Sync for Shadow {}

/// The positions of one ring.
#[derive(Debug)]
struct Positions {
    head: Padded<AtomicU64>,
    produced: Padded<ProducerSide>,
    #[cfg(usernet_loom)]
    shadow: Shadow,
}

impl Positions {
    fn starting_at(position: u64, capacity: usize) -> Positions {
        Positions {
            head: Padded(AtomicU64::new(position)),
            produced: Padded(ProducerSide {
                tail: AtomicU64::new(position),
                base: AtomicU64::new(position),
                span: AtomicUsize::new(capacity),
                claim: AtomicU8::new(FREE),
            }),
            #[cfg(usernet_loom)]
            shadow: Shadow((0..capacity).map(|_| loom::cell::UnsafeCell::new(())).collect()),
        }
    }

    fn head(&self, order: Ordering) -> u64 {
        self.head.0.load(order)
    }

    fn tail(&self, order: Ordering) -> u64 {
        self.produced.0.tail.load(order)
    }

    fn base(&self) -> u64 {
        self.produced.0.base.load(Ordering::Relaxed)
    }

    fn span(&self) -> usize {
        self.produced.0.span.load(Ordering::Acquire)
    }

    /// Where positions lie: span and base, in this order (safety argument, 8).
    fn mapping(&self) -> (usize, u64) {
        let span = self.span();
        (span, self.base())
    }

    /// Takes the free region for one of the ends. Acquire: after whatever the other end did with it.
    fn claim(&self, purpose: u8) -> bool {
        self.produced.0.claim.compare_exchange(FREE, purpose, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Release: whatever was done with the free region is done.
    fn release(&self) {
        self.produced.0.claim.store(FREE, Ordering::Release);
    }
}

/// The region of a connection and the positions of its two rings. Shared by the four ends; lives as long as any of them.
pub struct Memory {
    region: Region,
    send: Positions,
    recv: Positions,
}

impl Memory {
    fn positions(&self, side: Side) -> &Positions {
        match side {
            Side::Send => &self.send,
            Side::Recv => &self.recv,
        }
    }

    /// The address space under the rings.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Where a ring lies and how much is in it.
    pub fn info(&self, side: Side) -> BufferInfo {
        let positions = self.positions(side);
        // Head first: it never passes a tail loaded later.
        let head = positions.head(Ordering::Acquire);
        let fill = distance(head, positions.tail(Ordering::Acquire)).min(self.region.capacity(side));
        BufferInfo { fill, ..self.region.buffer(side) }
    }

    /// Whether the consumer of a ring has given up every byte before `position`.
    pub fn has_consumed(&self, side: Side, position: u64) -> bool {
        self.positions(side).head(Ordering::Acquire) >= position
    }

    /// The position behind the last byte published in a ring.
    pub fn published(&self, side: Side) -> u64 {
        self.positions(side).tail(Ordering::Acquire)
    }

    /// Cuts `len` bytes (≤ span) at `position` into the part before and the part after the end of the span.
    fn cut(&self, side: Side, position: u64, len: usize) -> Cut {
        let (span, base) = self.positions(side).mapping();
        // Less than the span, which is a usize and never 0.
        let index = usize::try_from(position.wrapping_sub(base) % span as u64).unwrap_or(0);
        let first = len.min(span - index);
        Cut {
            start: index,
            first: (self.region.start(side).wrapping_add(index), first),
            second: (self.region.start(side), len - first),
        }
    }

    /// Tells loom which bytes are accessed, and how.
    #[cfg(usernet_loom)]
    fn trace(&self, side: Side, position: u64, len: usize, writes: bool) {
        let positions = self.positions(side);
        let (span, base) = positions.mapping();
        for at in position..position + len as u64 {
            let cell = &positions.shadow.0[(at - base) as usize % span];
            if writes { cell.with_mut(|_| ()) } else { cell.with(|_| ()) }
        }
    }

    #[cfg(not(usernet_loom))]
    fn trace(&self, _side: Side, _position: u64, _len: usize, _writes: bool) {}

    /// Tells loom that the whole buffer is written, whatever its span.
    fn trace_all(&self, _side: Side) {
        #[cfg(usernet_loom)]
        self.positions(_side).shadow.0.iter().for_each(|cell| cell.with_mut(|_| ()));
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (send, recv) = (self.info(Side::Send), self.info(Side::Recv));
        f.debug_struct("Memory").field("send", &send).field("recv", &recv).finish()
    }
}

/// Two runs of bytes in a buffer; the second begins at its start.
struct Cut {
    /// Where the first run begins, counted from the start of the buffer.
    start: usize,
    first: (*mut u8, usize),
    second: (*mut u8, usize),
}

/// Bytes between two positions.
fn distance(from: u64, to: u64) -> usize {
    usize::try_from(to.wrapping_sub(from)).unwrap_or(usize::MAX)
}

/// The four ends of a connection's two rings.
#[derive(Debug)]
pub struct Rings {
    /// The memory all four ends hold.
    pub memory: Arc<Memory>,
    /// The user's end of the send ring.
    pub send_producer: Producer,
    /// The reactor's end of the send ring.
    pub send_consumer: Consumer,
    /// The reactor's end of the receive ring.
    pub recv_producer: Producer,
    /// The user's end of the receive ring.
    pub recv_consumer: Consumer,
}

/// Makes the rings of a connection over its region. Takes the region, so that no byte can belong to two rings.
pub fn rings(region: Region) -> Rings {
    rings_at(region, 0)
}

/// [`rings`] whose positions begin at `position`.
pub fn rings_at(region: Region, position: u64) -> Rings {
    let send = Positions::starting_at(position, region.capacity(Side::Send));
    let recv = Positions::starting_at(position, region.capacity(Side::Recv));
    let memory = Arc::new(Memory { region, send, recv });
    let producer = |side, access| Producer { memory: Arc::clone(&memory), side, access, written: position };
    let consumer = |side| Consumer { memory: Arc::clone(&memory), side };
    Rings {
        send_producer: producer(Side::Send, Access::Unclaimed),
        send_consumer: consumer(Side::Send),
        recv_producer: producer(Side::Recv, Access::Own),
        recv_consumer: consumer(Side::Recv),
        memory,
    }
}

/// How a producer comes by its free region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Receive ring: nobody else trims, the region is always its own.
    Own,
    /// Send ring, before [`Producer::claim`]: the consumer may be giving the pages back.
    Unclaimed,
    /// Send ring, until [`Producer::release`].
    Claimed,
}

/// The writing end of a ring.
#[derive(Debug)]
pub struct Producer {
    memory: Arc<Memory>,
    side: Side,
    access: Access,
    /// End of the furthest byte written; beyond `tail` while out-of-order bytes wait in place.
    written: u64,
}

impl Producer {
    fn positions(&self) -> &Positions {
        self.memory.positions(self.side)
    }

    /// Own variable: nobody else stores it.
    fn tail(&self) -> u64 {
        self.positions().tail(Ordering::Relaxed)
    }

    /// Size of the buffer in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.region.capacity(self.side)
    }

    /// Published bytes that are not consumed yet.
    pub fn len(&self) -> usize {
        distance(self.positions().head(Ordering::Acquire), self.tail())
    }

    /// Whether everything published has been consumed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that may be written beyond the tail.
    pub fn free(&self) -> usize {
        self.positions().span().saturating_sub(self.len())
    }

    /// Bytes of the buffer in use: what it holds at most.
    pub fn span(&self) -> usize {
        self.positions().span()
    }

    /// Uses the first `span` bytes of the buffer from now on, if what is in it need not move for that and nothing waits beyond
    /// the tail; else changes nothing. A ring that is never empty comes to it once a lap, an empty one begins anew at once.
    pub fn fit(&mut self, span: usize) {
        self.rewind();
        let span = span.clamp(1, self.capacity());
        let (old, base) = self.positions().mapping();
        let tail = self.tail();
        if span == old || self.written > tail {
            return;
        }
        let head = self.positions().head(Ordering::Acquire);
        let end = tail.wrapping_sub(base) % old as u64;
        // At the end of a lap: what is in the ring lies in the lap that ends, not in the one that begins.
        let end = if end == 0 && head < tail { old as u64 } else { end };
        let start = tail - end;
        if end <= span as u64 && start <= head {
            let produced = &self.positions().produced.0;
            produced.base.store(start, Ordering::Relaxed);
            // Release: whoever sees it sees the base (safety argument, 8).
            produced.span.store(span, Ordering::Release);
        }
    }

    /// Bytes of a receive buffer, from its first, that may have been touched up to the tail since the last
    /// rewind or fit.
    pub fn reach(&self) -> usize {
        distance(self.positions().base(), self.tail()).min(self.span())
    }

    /// Where the ring lies and how much is in it.
    pub fn info(&self) -> BufferInfo {
        self.memory.info(self.side)
    }

    /// Takes the free region of a send ring: the consumer does not trim before [`Producer::release`]. `false` if it is
    /// trimming at this moment: there is no room until it is done. A receive ring's is always the producer's own.
    pub fn claim(&mut self) -> bool {
        if self.access == Access::Unclaimed && self.positions().claim(WRITING) {
            self.access = Access::Claimed;
        }
        self.access != Access::Unclaimed
    }

    /// The end of what [`Producer::claim`] began.
    pub fn release(&mut self) {
        if self.access == Access::Claimed {
            self.access = Access::Unclaimed;
            self.positions().release();
        }
    }

    /// Goes back to the first byte of the buffer if the ring is empty and nothing waits beyond the tail; otherwise
    /// changes nothing. Keeps a request/response connection in one page.
    pub fn rewind(&mut self) {
        let tail = self.tail();
        if self.positions().base() != tail && self.holds_nothing() {
            // Relaxed: made visible by the Release store of the next tail (safety argument, 4).
            self.positions().produced.0.base.store(tail, Ordering::Relaxed);
        }
    }

    /// Copies `data` to `offset` bytes beyond the tail. Not published. What does not fit is ignored.
    pub fn write_at(&mut self, offset: usize, data: &[u8]) {
        let [first, second] = self.free_slices(offset, data.len());
        let len = first.len() + second.len();
        debug_assert_eq!(len, data.len(), "the caller writes what fits");
        let (head, rest) = data.split_at_checked(first.len()).unwrap_or((data, &[]));
        first.copy_from_slice(head);
        second.copy_from_slice(rest.get(..second.len()).unwrap_or(rest));
        if len > 0 {
            self.written = self.written.max(self.tail() + offset as u64 + len as u64);
        }
    }

    /// Makes `n` bytes beyond the tail readable; clamped to what is free, nothing without a claim.
    pub fn publish(&mut self, n: usize) {
        let n = if self.access == Access::Unclaimed { 0 } else { n.min(self.free()) };
        let tail = self.tail() + n as u64;
        self.positions().produced.0.tail.store(tail, Ordering::Release);
    }

    /// Claims, rewinds if it may, copies what fits, publishes it, releases. Returns how much that was.
    pub fn write(&mut self, data: &[u8]) -> usize {
        if !self.claim() {
            return 0;
        }
        self.rewind();
        let fits = data.get(..self.free()).unwrap_or(data);
        self.write_at(0, fits);
        self.publish(fits.len());
        self.release();
        fits.len()
    }

    /// `len` bytes at `offset` beyond the tail, to be filled by the caller; clamped to what is free, nothing without a
    /// claim. Bytes placed here beyond the tail do not hold off a rewind or a trim, as those of [`Producer::write_at`]
    /// do: publish them at once, or forget them. Until a rewind, a trim or a publish the same offset is the same bytes.
    pub fn free_slices(&mut self, offset: usize, len: usize) -> [&mut [u8]; 2] {
        let len = len.min(self.free().saturating_sub(offset));
        if len == 0 || self.access == Access::Unclaimed {
            return [&mut [], &mut []];
        }
        let position = self.tail() + offset as u64;
        self.memory.trace(self.side, position, len, true);
        let cut = self.memory.cut(self.side, position, len);
        self.memory.region.touch(self.side, cut.start + cut.first.1);
        // SAFETY: [position, position + len) lies in [tail, head + span), which the consumer does not touch until
        // this producer publishes it, for which it needs `&mut self`, borrowed here (1, 2), nor trims before this
        // producer releases it, for which it needs `&mut self` too (7). The two runs are disjoint
        // and inside the mapping (len ≤ span ≤ capacity), which `self` keeps alive (6); Acquire in `free` ordered the
        // consumer's last reads before this (3).
        unsafe {
            [
                std::slice::from_raw_parts_mut(cut.first.0, cut.first.1),
                std::slice::from_raw_parts_mut(cut.second.0, cut.second.1),
            ]
        }
    }

    /// Whether nothing is in it, neither published nor beyond the tail.
    pub fn holds_nothing(&self) -> bool {
        self.written <= self.tail() && self.is_empty()
    }

    /// Forgets bytes written further than `offset` beyond the tail: they will be written again.
    pub fn discard_beyond(&mut self, offset: usize) {
        self.written = self.written.min(self.tail() + offset as u64);
    }

    /// Gives the pages of the buffer back to the system if nothing is in it, neither published nor beyond the tail, and
    /// this end may touch it. Returns whether none of them is left; free of charge if none was touched since.
    pub fn trim(&mut self) -> bool {
        if self.access == Access::Unclaimed || !self.holds_nothing() {
            return false;
        }
        self.rewind();
        if !self.memory.region.is_touched(self.side) {
            return true;
        }
        // SAFETY: the ring is empty and only this producer can change that: the consumer's range is empty, so it holds
        // no reference to a byte of the buffer, and `&mut self` shows that no slice of `free_slices` is alive. Nothing
        // written is lost: nothing waits beyond the tail. Acquire in `is_empty` ordered the consumer's reads before. The
        // consumer does not trim at the same time: it never does, or the claim keeps it from it (7).
        unsafe { self.memory.region.forget(self.side) }
    }
}

/// The reading end of a ring.
#[derive(Debug)]
pub struct Consumer {
    memory: Arc<Memory>,
    side: Side,
}

impl Consumer {
    fn positions(&self) -> &Positions {
        self.memory.positions(self.side)
    }

    /// Own variable: nobody else stores it.
    fn head(&self) -> u64 {
        self.positions().head(Ordering::Relaxed)
    }

    /// Size of the buffer in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.region.capacity(self.side)
    }

    /// Bytes to read.
    pub fn len(&self) -> usize {
        distance(self.head(), self.positions().tail(Ordering::Acquire))
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the ring lies and how much is in it.
    pub fn info(&self) -> BufferInfo {
        self.memory.info(self.side)
    }

    /// `len` bytes at `offset` beyond the head; clamped to what is there.
    pub fn slices(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        // The tail is loaded here, before `cut` loads the base (safety argument, 4).
        let len = len.min(self.len().saturating_sub(offset));
        if len == 0 {
            return [&[], &[]];
        }
        let position = self.head() + offset as u64;
        self.memory.trace(self.side, position, len, false);
        let cut = self.memory.cut(self.side, position, len);
        // SAFETY: [position, position + len) lies in [head, tail), which the producer does not write until this consumer
        // gives it up by `consume`, for which it needs `&mut self`, borrowed here (1, 2). The bytes are inside the
        // mapping, which `self` keeps alive, and initialised (6); Acquire in `len` made them visible (3).
        unsafe {
            [
                std::slice::from_raw_parts(cut.first.0, cut.first.1),
                std::slice::from_raw_parts(cut.second.0, cut.second.1),
            ]
        }
    }

    /// Gives `n` bytes back to the producer; clamped to what is there.
    pub fn consume(&mut self, n: usize) {
        let head = self.head() + n.min(self.len()) as u64;
        self.positions().head.0.store(head, Ordering::Release);
    }

    /// Gives the pages of the buffer back to the system if nothing is in it and the producer is not writing; only in a
    /// send ring, whose producer claims what it writes. Returns whether none of them is left; free of charge if none was
    /// touched since. A producer that was refused meanwhile has to be told afterwards, also if this answers `false`.
    pub fn trim(&mut self) -> bool {
        if self.side != Side::Send || !self.is_empty() {
            return false;
        }
        if !self.memory.region.is_touched(self.side) {
            return true;
        }
        if !self.positions().claim(TRIMMING) {
            return false;
        }
        // Again: the tail that was stored before the producer's last release is seen now.
        let mut trimmed = self.is_empty();
        if trimmed {
            self.memory.trace_all(self.side);
            // SAFETY: the claim keeps the producer out of the free region, which is the whole buffer, because the ring is
            // empty and stays so: publishing needs the claim as well (7). `&mut self` shows that no slice of `slices` is
            // alive. Nothing in the buffer is needed: every byte was consumed.
            trimmed = unsafe { self.memory.region.forget(self.side) };
        }
        self.positions().release();
        trimmed
    }
}
