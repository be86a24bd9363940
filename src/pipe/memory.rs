//! [`Region`]: the reserved address space of one connection, and [`Budget`]: what a stack may reserve and keep resident.
//!
//! A region is one private anonymous mapping that holds both buffers, each starting on a page of its own: nothing is
//! resident until a byte is written, and unmapping gives everything back. It is never reused for another connection, so
//! there are no dirty pages to hand on. Charged to a stack by [`Region::join`]. Never looks at the bytes. Called by `net`
//! and `stack` (which create regions) and by `ring` (which alone reads and writes them).
//!
//! # Safety argument
//!
//! The only unsafe call is `madvise(MADV_DONTNEED)` in [`Region::forget`]. On a private anonymous mapping it replaces the
//! pages of the range by zero pages; the bytes stay readable, writable and initialised. What changes is their value, so
//! nobody may hold a reference into the range or count on its contents; that is the contract of `forget`, an `unsafe fn`
//! whose one caller, `ring`, holds the only handle that can reach the range at that moment.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::BufferInfo;
use crate::error::ConnError;

/// What a stack may reserve and keep resident. One per stack; every connection of it takes from here.
#[derive(Debug)]
pub struct Budget {
    max_reserved: u64,
    memory_budget: u64,
    reserved: AtomicU64,
    used: AtomicU64,
    starved: AtomicBool,
}

impl Budget {
    /// `max_reserved`: bytes of address space; `memory_budget`: bytes that may be resident.
    pub fn new(max_reserved: u64, memory_budget: u64) -> Arc<Budget> {
        Arc::new(Budget {
            max_reserved,
            memory_budget,
            reserved: AtomicU64::new(0),
            used: AtomicU64::new(0),
            starved: AtomicBool::new(false),
        })
    }

    /// Takes all of `bytes` or nothing; `false` marks the budget starved.
    pub fn try_take(&self, bytes: usize) -> bool {
        let taken = add_within(&self.used, bytes as u64, self.memory_budget);
        if !taken {
            self.starved.store(true, Ordering::Relaxed);
        }
        taken
    }

    /// Takes as much of `bytes` as there is; less than asked marks the budget starved.
    pub fn take_up_to(&self, bytes: usize) -> usize {
        self.take_within(bytes, self.memory_budget)
    }

    /// As [`Budget::take_up_to`], for receive windows: a quarter stays for writers. A promise is kept for as long as its
    /// connection lives, written bytes return when they are acknowledged; were everything promised, nobody could write.
    pub fn take_promise(&self, bytes: usize) -> usize {
        self.take_within(bytes, self.for_promises())
    }

    /// Whether a new connection could be promised anything.
    pub fn can_promise(&self) -> bool {
        self.used() < self.for_promises()
    }

    fn for_promises(&self) -> u64 {
        self.memory_budget - self.memory_budget / 4
    }

    fn take_within(&self, bytes: usize, limit: u64) -> usize {
        let mut granted = 0;
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            granted = (bytes as u64).min(limit.saturating_sub(used));
            Some(used + granted)
        });
        if granted < bytes as u64 {
            self.starved.store(true, Ordering::Relaxed);
        }
        // Not more than `bytes`, which is a usize.
        usize::try_from(granted).unwrap_or(bytes)
    }

    /// Returns what was taken.
    pub fn give_back(&self, bytes: usize) {
        subtract(&self.used, bytes as u64);
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes left.
    pub fn available(&self) -> u64 {
        self.memory_budget.saturating_sub(self.used())
    }

    /// Bytes of address space reserved.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Whether someone got less than he asked for since the last [`Budget::relieved`].
    pub fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// Whether someone had been starved and there is something to give again: time for `StackEnd::retry_budget`.
    pub fn relieved(&self) -> bool {
        self.is_starved() && self.available() > 0 && self.starved.swap(false, Ordering::Relaxed)
    }
}

/// Adds if the sum stays within `limit`.
fn add_within(counter: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let sum = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= limit);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
}

fn subtract(counter: &AtomicU64, bytes: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
        debug_assert!(now >= bytes, "gave back {bytes} of {now}");
        Some(now.saturating_sub(bytes))
    });
}

/// One of a connection's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// User to peer.
    Send,
    /// Peer to user.
    Recv,
}

/// The address space of one connection: both buffers, reserved and untouched.
#[derive(Debug)]
pub struct Region {
    map: MmapRaw,
    /// Where the receive buffer begins: the send capacity rounded up to a page.
    recv_offset: usize,
    send: usize,
    recv: usize,
    /// The stack that this region is charged to.
    stack: OnceLock<Arc<Budget>>,
}

impl Region {
    /// Reserves two buffers of exactly these sizes. No page of them is resident, no stack is charged yet.
    ///
    /// # Errors
    ///
    /// [`ConnError::InvalidInput`] if a size is 0 or above `u32::MAX`; [`ConnError::ReservedLimit`] if the system refuses.
    pub fn map(send: usize, recv: usize) -> Result<Region, ConnError> {
        for size in [send, recv] {
            if size == 0 || u32::try_from(size).is_err() {
                return Err(ConnError::InvalidInput);
            }
        }
        let page = rustix::param::page_size();
        let recv_offset = send.checked_next_multiple_of(page).ok_or(ConnError::ReservedLimit)?;
        let recv_pages = recv.checked_next_multiple_of(page).ok_or(ConnError::ReservedLimit)?;
        let len = recv_offset.checked_add(recv_pages).ok_or(ConnError::ReservedLimit)?;
        let map = MmapOptions::new().len(len).no_reserve_swap().map_anon().map_err(|_| ConnError::ReservedLimit)?;
        let map = MmapRaw::from(map);
        // A huge page would make 2 MiB resident for one byte. A kernel without huge pages refuses the advice: as good.
        #[cfg(target_os = "linux")]
        let _ = map.advise(Advice::NoHugePage);
        Ok(Region { map, recv_offset, send, recv, stack: OnceLock::new() })
    }

    /// Charges `max_reserved` of a stack; given back on drop. Joining twice changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConnError::ReservedLimit`] if the stack's `max_reserved` is spent.
    pub fn join(&self, budget: &Arc<Budget>) -> Result<(), ConnError> {
        if self.stack.get().is_some() {
            return Ok(());
        }
        if !add_within(&budget.reserved, self.reserved(), budget.max_reserved) {
            return Err(ConnError::ReservedLimit);
        }
        if self.stack.set(Arc::clone(budget)).is_err() {
            // Another thread joined in between; one charge is enough.
            subtract(&budget.reserved, self.reserved());
        }
        Ok(())
    }

    /// Bytes of address space, both buffers, in whole pages.
    pub fn reserved(&self) -> u64 {
        self.map.len() as u64
    }

    /// Size of a buffer in bytes.
    pub fn capacity(&self, side: Side) -> usize {
        match side {
            Side::Send => self.send,
            Side::Recv => self.recv,
        }
    }

    /// Where a buffer lies; its fill is not known here and 0.
    pub fn buffer(&self, side: Side) -> BufferInfo {
        BufferInfo { address: self.start(side).addr(), capacity: self.capacity(side), fill: 0 }
    }

    /// First byte of a buffer; [`Region::capacity`] bytes from here are mapped for as long as the region lives.
    pub(super) fn start(&self, side: Side) -> *mut u8 {
        match side {
            Side::Send => self.map.as_mut_ptr(),
            // Within the mapping: `map` made it longer than this.
            Side::Recv => self.map.as_mut_ptr().wrapping_add(self.recv_offset),
        }
    }

    /// Gives the pages of one buffer back to the system; its bytes are zero afterwards.
    ///
    /// # Safety
    ///
    /// While this runs nobody may hold a reference to, or access, any byte of that buffer, and no byte of it may be
    /// needed afterwards.
    pub(super) unsafe fn forget(&self, side: Side) {
        let (offset, len) = match side {
            Side::Send => (0, self.recv_offset),
            Side::Recv => (self.recv_offset, self.map.len() - self.recv_offset),
        };
        // SAFETY: the range lies inside the mapping and covers whole pages of one buffer alone; by this function's
        // contract no reference into it exists. Zero pages are valid `u8`s.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(budget) = self.stack.get() {
            subtract(&budget.reserved, self.reserved());
        }
    }
}
