//! [`Region`]: the reserved address space of one connection, and [`Budget`]: what a stack may reserve and keep resident.
//!
//! A region is one private anonymous mapping that holds both buffers, each starting on a page of its own: nothing is
//! resident until a byte is written. Charged to a stack by [`Region::join`]. Never looks at the bytes. Called by `net`
//! and `stack` (which create regions) and by `ring` (which alone reads and writes them).
//!
//! Mapping and unmapping, and the page faults after it, are a tenth of what a short connection costs. So a stack keeps a
//! few mappings of regions that are gone, wiped, for its next connections ([`Budget::region`]): every byte is zero again,
//! and at most the first page of each buffer is resident.
//!
//! # Safety argument
//!
//! [`Region::forget`] calls `madvise(MADV_DONTNEED)`. On a private anonymous mapping it replaces the pages of the range by
//! zero pages; the bytes stay readable, writable and initialised. What changes is their value, so nobody may hold a
//! reference into the range or count on its contents; that is the contract of `forget`, an `unsafe fn` whose one caller,
//! `ring`, holds the only handle that can reach the range at that moment.
//!
//! [`Region::wipe`] is called by `drop` alone, so no other handle exists: it may write zeros, or `forget`.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::BufferInfo;
use super::shared::lock;
use crate::error::ConnError;

/// Most mappings a stack keeps for its next connections: with two pages each, half a MiB.
const SPARES: usize = 64;

/// What a stack may reserve and keep resident. One per stack; every connection of it takes from here.
#[derive(Debug)]
pub struct Budget {
    max_reserved: u64,
    memory_budget: u64,
    reserved: AtomicU64,
    used: AtomicU64,
    /// Part of `used`.
    received: AtomicU64,
    /// Wiped mappings of regions that are gone. Locked for O(1), never across a system call.
    spares: Mutex<VecDeque<Mapping>>,
}

impl Budget {
    /// `max_reserved`: bytes of address space; `memory_budget`: bytes that may be resident.
    pub fn new(max_reserved: u64, memory_budget: u64) -> Arc<Budget> {
        Arc::new(Budget {
            max_reserved,
            memory_budget,
            reserved: AtomicU64::new(0),
            used: AtomicU64::new(0),
            received: AtomicU64::new(0),
            spares: Mutex::new(VecDeque::new()),
        })
    }

    /// Reserves two buffers of exactly these sizes and charges them to this stack: [`Region::map`] and [`Region::join`].
    ///
    /// # Errors
    ///
    /// As these.
    pub fn region(self: &Arc<Self>, send: usize, recv: usize) -> Result<Region, ConnError> {
        let region = self.uncharged(send, recv)?;
        region.join(self)?;
        Ok(region)
    }

    /// As [`Budget::region`], in place of `old`, which is charged to this stack and about to go: only the difference is
    /// charged, so smaller buffers always fit.
    ///
    /// # Errors
    ///
    /// As [`Budget::region`]; `old` then keeps its charge.
    pub fn region_in_place_of(self: &Arc<Self>, old: &Region, send: usize, recv: usize) -> Result<Region, ConnError> {
        let region = self.uncharged(send, recv)?;
        let before = old.charged.swap(0, Ordering::Relaxed);
        match region.charge(self, before) {
            Ok(()) => Ok(region),
            Err(error) => {
                old.charged.store(before, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    fn uncharged(&self, send: usize, recv: usize) -> Result<Region, ConnError> {
        self.take_spare(send, recv).map_or_else(|| Region::map(send, recv), |mapping| Ok(Region::over(mapping)))
    }

    /// A mapping of this shape, the last one that came back: its pages are in the cache.
    fn take_spare(&self, send: usize, recv: usize) -> Option<Mapping> {
        let mut spares = lock(&self.spares);
        let found = spares.iter().rposition(|spare| (spare.send, spare.recv) == (send, recv))?;
        spares.remove(found)
    }

    /// Keeps a wiped mapping. Hands back one that had to go for it, so that it is unmapped outside the lock.
    fn keep(&self, mapping: Mapping) -> Option<Mapping> {
        let mut spares = lock(&self.spares);
        spares.push_back(mapping);
        if spares.len() > SPARES { spares.pop_front() } else { None }
    }

    /// Mappings that wait for the next connections.
    #[cfg(test)]
    pub fn spares(&self) -> usize {
        lock(&self.spares).len()
    }

    /// Takes as much of `bytes` as there is for what a user writes. A quarter is kept for received text: were everything
    /// written, no peer could say that it has read.
    pub fn take_written(&self, bytes: usize) -> usize {
        self.take_within(bytes, self.for_writers(4))
    }

    /// As [`Budget::take_written`], for the first page of an empty send buffer: half of what is kept. However much others
    /// have queued for peers that do not read, a short answer fits.
    pub fn take_first_written(&self, bytes: usize) -> usize {
        self.take_within(bytes, self.for_writers(8))
    }

    /// Takes as much of `bytes` as there is for received text. A quarter is kept for writers: were everything received,
    /// no user could answer.
    pub fn take_received(&self, demand: Demand, bytes: usize) -> usize {
        let taken = self.take_within(bytes.min(self.left_for(demand)), self.memory_budget);
        self.received.fetch_add(taken as u64, Ordering::Relaxed);
        taken
    }

    /// What [`Budget::take_received`] would grant.
    pub fn left_for(&self, demand: Demand) -> usize {
        let eighth = self.memory_budget / 8;
        let (received, used) = (self.received.load(Ordering::Relaxed), self.used());
        let left = match demand {
            // Less than what is tight: windows alone must not keep new connections out.
            Demand::Growth => (self.memory_budget - 5 * eighth).saturating_sub(used),
            Demand::Text => (self.memory_budget - 3 * eighth).saturating_sub(received),
            Demand::FirstPage => (self.memory_budget - 2 * eighth).saturating_sub(received),
        };
        usize::try_from(left.min(self.memory_budget.saturating_sub(used))).unwrap_or(usize::MAX)
    }

    /// Memory pressure: SYNs are refused, and who needs nothing gives back (reliability.md A29).
    pub fn is_tight(&self) -> bool {
        let half = self.memory_budget - self.memory_budget / 2;
        self.received.load(Ordering::Relaxed) >= half || self.used() >= half + self.memory_budget / 4
    }

    /// What writers may use up to, if the `part`th part is kept for received text.
    fn for_writers(&self, part: u64) -> u64 {
        let kept = (self.memory_budget / part).saturating_sub(self.received.load(Ordering::Relaxed));
        self.memory_budget - kept
    }

    fn take_within(&self, bytes: usize, limit: u64) -> usize {
        let mut granted = 0;
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            granted = (bytes as u64).min(limit.saturating_sub(used));
            Some(used + granted)
        });
        // Not more than `bytes`, which is a usize.
        usize::try_from(granted).unwrap_or(bytes)
    }

    /// Returns what was taken for what a user wrote, or had been left to him.
    pub fn give_back(&self, bytes: usize) {
        subtract(&self.used, bytes as u64);
    }

    /// Returns what was taken for received text.
    pub fn give_back_received(&self, bytes: usize) {
        self.leave_to_user(bytes);
        self.give_back(bytes);
    }

    /// What was taken for received text stays taken until the user has read it, and counts no longer as received.
    pub fn leave_to_user(&self, bytes: usize) {
        subtract(&self.received, bytes as u64);
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes left for writers.
    pub fn available(&self) -> u64 {
        self.for_writers(4).saturating_sub(self.used())
    }

    /// Bytes left for the first pages of empty send buffers; no less than [`Budget::available`].
    pub fn available_first(&self) -> u64 {
        self.for_writers(8).saturating_sub(self.used())
    }

    /// Bytes of address space reserved.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }
}

/// What memory for received text is wanted for. The later ones still get some when the earlier get none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A window larger than the first.
    Growth,
    /// Text that has arrived.
    Text,
    /// The first page of an empty ring: however much the others hoard, a request fits.
    FirstPage,
}

fn subtract(counter: &AtomicU64, bytes: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        debug_assert!(now >= bytes, "gave back {bytes} of {now}");
        Some(now.saturating_sub(bytes))
    });
}

/// What one page of a page table maps, with pages of 4 KiB. Linux with huge pages aligns to it what is a multiple of it long
/// (6.7 and later); then a connection that uses only the beginnings of its two buffers needs one such page, if that to send is
/// shorter than this. With two a message among 100,000 connections cost twice as much.
const PAGE_TABLE: usize = 2 << 20;

/// One of a connection's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// User to peer.
    Send,
    /// Peer to user.
    Recv,
}

/// A mapping that holds two buffers.
#[derive(Debug)]
struct Mapping {
    map: MmapRaw,
    /// Where the receive buffer begins: the send capacity rounded up to a page.
    recv_offset: usize,
    send: usize,
    recv: usize,
}

impl Mapping {
    fn new(send: usize, recv: usize) -> Result<Mapping, ConnError> {
        for size in [send, recv] {
            if size == 0 || u32::try_from(size).is_err() {
                return Err(ConnError::InvalidInput);
            }
        }
        let page = rustix::param::page_size();
        let recv_offset = send.checked_next_multiple_of(page).ok_or(ConnError::ReservedLimit)?;
        let recv_pages = recv.checked_next_multiple_of(page).ok_or(ConnError::ReservedLimit)?;
        let len = recv_offset.checked_add(recv_pages).ok_or(ConnError::ReservedLimit)?;
        let unit = if len < PAGE_TABLE { 1 } else { PAGE_TABLE };
        let len = len.checked_next_multiple_of(unit).ok_or(ConnError::ReservedLimit)?;
        let map = MmapOptions::new().len(len).no_reserve_swap().map_anon().map_err(|_| ConnError::ReservedLimit)?;
        let map = MmapRaw::from(map);
        // A huge page would make 2 MiB resident for one byte. A kernel without huge pages refuses the advice: as good.
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::NoHugePage);
        Ok(Mapping { map, recv_offset, send, recv })
    }
}

/// The address space of one connection: both buffers, reserved and all zero.
#[derive(Debug)]
pub struct Region {
    mapping: ManuallyDrop<Mapping>,
    /// Bytes from the start of each buffer that may have been written since it was last wiped.
    touched: [AtomicUsize; 2],
    /// The stack that this region belongs to.
    stack: OnceLock<Arc<Budget>>,
    /// Bytes charged to it: none of a region whose successor has taken the charge over.
    charged: AtomicU64,
}

impl Region {
    /// Reserves two buffers of exactly these sizes. No page of them is resident, no stack is charged yet.
    ///
    /// # Errors
    ///
    /// [`ConnError::InvalidInput`] if a size is 0 or above `u32::MAX`; [`ConnError::ReservedLimit`] if the system refuses.
    pub fn map(send: usize, recv: usize) -> Result<Region, ConnError> {
        Mapping::new(send, recv).map(Region::over)
    }

    fn over(mapping: Mapping) -> Region {
        Region {
            mapping: ManuallyDrop::new(mapping),
            touched: Default::default(),
            stack: OnceLock::new(),
            charged: AtomicU64::new(0),
        }
    }

    /// Charges `max_reserved` of a stack; given back on drop. Joining twice changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConnError::ReservedLimit`] if the stack's `max_reserved` is spent.
    pub fn join(&self, budget: &Arc<Budget>) -> Result<(), ConnError> {
        if self.stack.get().is_some() { Ok(()) } else { self.charge(budget, 0) }
    }

    /// Charges this region in place of `before` bytes.
    fn charge(&self, budget: &Arc<Budget>, before: u64) -> Result<(), ConnError> {
        let bytes = self.reserved();
        let charged = |all: u64| {
            let sum = all.saturating_sub(before).checked_add(bytes)?;
            (bytes <= before || sum <= budget.max_reserved).then_some(sum)
        };
        let limit = |_| ConnError::ReservedLimit;
        budget.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged).map_err(limit)?;
        if self.stack.set(Arc::clone(budget)).is_err() {
            // Another thread joined in between; one charge is enough.
            subtract(&budget.reserved, bytes);
        }
        self.charged.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of address space, both buffers, in whole pages.
    pub fn reserved(&self) -> u64 {
        self.mapping.map.len() as u64
    }

    /// Size of a buffer in bytes.
    pub fn capacity(&self, side: Side) -> usize {
        match side {
            Side::Send => self.mapping.send,
            Side::Recv => self.mapping.recv,
        }
    }

    /// Where a buffer lies; its fill is not known here and 0.
    pub fn buffer(&self, side: Side) -> BufferInfo {
        BufferInfo { address: self.start(side).addr(), capacity: self.capacity(side), fill: 0 }
    }

    /// First byte of a buffer; [`Region::capacity`] bytes from here are mapped for as long as the region lives.
    pub(super) fn start(&self, side: Side) -> *mut u8 {
        match side {
            Side::Send => self.mapping.map.as_mut_ptr(),
            // Within the mapping: `new` made it longer than this.
            Side::Recv => self.mapping.map.as_mut_ptr().wrapping_add(self.mapping.recv_offset),
        }
    }

    fn touched(&self, side: Side) -> &AtomicUsize {
        let [send, recv] = &self.touched;
        match side {
            Side::Send => send,
            Side::Recv => recv,
        }
    }

    /// Notes that the buffer's first `len` bytes may be written. The one producer of `side` says so before it writes.
    pub(super) fn touch(&self, side: Side, len: usize) {
        let touched = self.touched(side);
        if len > touched.load(Ordering::Relaxed) {
            touched.store(len, Ordering::Relaxed);
        }
    }

    /// Whether any byte of the buffer may have been written since it was last wiped.
    pub(super) fn is_touched(&self, side: Side) -> bool {
        self.touched(side).load(Ordering::Relaxed) > 0
    }

    /// Gives the pages of one buffer back to the system: its bytes are zero afterwards. `false` if the system refused,
    /// as it does for locked memory; then all is as it was.
    ///
    /// # Safety
    ///
    /// While this runs nobody may hold a reference to, or access, any byte of that buffer, and no byte of it may be
    /// needed afterwards.
    pub(super) unsafe fn forget(&self, side: Side) -> bool {
        let (offset, len) = match side {
            Side::Send => (0, self.mapping.recv_offset),
            Side::Recv => (self.mapping.recv_offset, self.mapping.map.len() - self.mapping.recv_offset),
        };
        // SAFETY: the range lies inside the mapping and covers whole pages of one buffer alone; by this function's
        // contract no reference into it exists. Zero pages are valid `u8`s.
        let forgotten = unsafe { self.mapping.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        if forgotten.is_ok() {
            self.touched(side).store(0, Ordering::Relaxed);
        }
        forgotten.is_ok()
    }

    /// Makes every byte zero. Answers whether that worked.
    fn wipe(&mut self, side: Side) -> bool {
        let touched = self.touched(side).load(Ordering::Relaxed).min(self.capacity(side));
        if touched <= rustix::param::page_size() {
            // Cheaper than the fault that brings the page back.
            // SAFETY: `touched` bytes from `start` are mapped, and `&mut self` is the only handle left.
            unsafe { self.start(side).write_bytes(0, touched) };
            return true;
        }
        // SAFETY: `&mut self` is the only handle left, and the contents are of no use to anybody.
        unsafe { self.forget(side) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let stack = self.stack.take();
        if let Some(budget) = &stack {
            subtract(&budget.reserved, self.charged.load(Ordering::Relaxed));
        }
        let keep = stack.filter(|_| self.wipe(Side::Send) && self.wipe(Side::Recv));
        // SAFETY: `drop` runs once and nothing uses `mapping` after this.
        let mapping = unsafe { ManuallyDrop::take(&mut self.mapping) };
        drop(match keep {
            Some(budget) => budget.keep(mapping),
            None => Some(mapping),
        });
    }
}
