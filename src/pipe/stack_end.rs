//! [`StackEnd`]: the reactor's end of a connection.
//!
//! Owns the send ring's consumer, the receive ring's producer and the readiness that is to be delivered this turn. Never
//! waits for the user, decides nothing about TCP: `tcb` reads, writes and acknowledges through it, `stack` adopts, takes
//! orders and wakes.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::doorbell::{ConnId, Doorbell, Orders};
use super::ring::{Consumer, Producer};
use super::shared::{Flags, Link, Shared};
use super::user_end::is_writable;
use super::{Budget, BufferInfo, ConnInfo, Demand, Ready};
use crate::config::SocketOptions;
use crate::error::ConnError;

/// What is taken from the budget for received text at a time.
pub(super) const PAGE: usize = 4096;

/// What every waiter hears at the end.
const ENDED: Ready = Ready::ALL;

/// The reactor's end of a connection. Dropping it before [`StackEnd::finish`] or [`StackEnd::fail`] means that the
/// reactor died: everything the user does fails with `NetworkDown` from then on.
#[derive(Debug)]
pub struct StackEnd {
    shared: Arc<Shared>,
    send: Consumer,
    recv: Producer,
    /// To be delivered by [`StackEnd::wake`].
    pending: Ready,
    /// Bytes of the receive buffer that are taken from the budget: no more of it is ever resident, but for rounding.
    covered: usize,
    /// The connection has its ending.
    ended: bool,
    /// A writer waits for budget and there was none when it asked.
    starved: bool,
}

impl StackEnd {
    pub(super) fn new(shared: Arc<Shared>, send: Consumer, recv: Producer) -> StackEnd {
        StackEnd { shared, send, recv, pending: Ready::EMPTY, covered: 0, ended: false, starved: false }
    }

    /// The engine takes the connection into its table as `id`. Orders given before ring the bell now.
    pub fn adopt(&mut self, id: ConnId, doorbell: &Arc<Doorbell>, budget: &Arc<Budget>) {
        self.shared.adopt(Link { id, doorbell: Arc::clone(doorbell), budget: Arc::clone(budget) });
    }

    /// The connection is IPv4, the user's socket or listener IPv6: the user sees IPv4-mapped addresses (RFC 3493 §3.7).
    pub fn show_mapped(&self) {
        self.shared.set_flags(Flags::MAPPED);
    }

    /// What the user has ordered since the last call.
    pub fn take_orders(&mut self) -> Orders {
        self.shared.take_orders()
    }

    /// The socket's options.
    pub fn options(&self) -> SocketOptions {
        *self.shared.options()
    }

    /// Bytes queued and not acknowledged.
    pub fn send_len(&self) -> usize {
        self.send.len()
    }

    /// Size of the send buffer in bytes.
    pub fn send_capacity(&self) -> usize {
        self.send.capacity()
    }

    /// Where the send buffer lies and how much is in it.
    pub fn send_info(&self) -> BufferInfo {
        self.send.info()
    }

    /// `len` queued bytes at `offset` beyond SND.UNA; clamped to what is there.
    pub fn send_slices(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        self.send.slices(offset, len)
    }

    /// The peer has acknowledged `n` more bytes: their room and their budget are free again.
    pub fn send_acked(&mut self, n: usize) {
        let n = n.min(self.send.len());
        self.send.consume(n);
        self.shared.discharge(n);
        self.answer_writer();
        // Looked at after `answer_writer`'s fence. Who waits for more than this asks again.
        if self.shared.drain_waits.load(Ordering::SeqCst) {
            self.shared.drain_waits.store(false, Ordering::SeqCst);
            self.pending |= Ready::DRAINED;
        }
    }

    /// Whether a writer waits for room.
    pub fn has_waiting_writer(&self) -> bool {
        self.shared.writer_waits.load(Ordering::Relaxed)
    }

    /// No more bytes are queued from now on than `share`, or than fit. What is queued already stays.
    pub fn set_send_share(&mut self, share: usize) {
        let share = share.clamp(1, self.send.capacity());
        // Relaxed: a writer that sees the old one errs by a write; one that waits is answered after the next ACK.
        if self.shared.send_share.load(Ordering::Relaxed) != share {
            self.shared.send_share.store(share, Ordering::Relaxed);
        }
    }

    /// As many bytes are queued from now on as fit; a writer that waits hears of it.
    pub fn release_send_share(&mut self) {
        self.set_send_share(usize::MAX);
        self.answer_writer();
    }

    /// A writer that waits hears of it if there is room now. Call after whatever made room.
    fn answer_writer(&mut self) {
        // The other half of the arguments in `UserEnd::wait_for_room` and `UserEnd::claim`.
        fence(Ordering::SeqCst);
        // Not by the span, although it may be smaller yet: only a writer that is awake can fit it to the share.
        let share = self.shared.send_share.load(Ordering::Relaxed);
        if self.shared.writer_waits.load(Ordering::SeqCst) && is_writable(self.send.len(), share) {
            self.shared.writer_waits.store(false, Ordering::SeqCst);
            self.pending |= Ready::WRITABLE;
        }
    }

    /// Gives the send buffer's pages back to the system if it is empty and the user is not writing at this moment. Returns
    /// whether none of them is left. A write meanwhile finds no room, and its writer is woken.
    pub fn send_trim(&mut self) -> bool {
        let trimmed = self.send.trim();
        self.answer_writer();
        trimmed
    }

    /// Bytes the user has not read.
    pub fn recv_len(&self) -> usize {
        self.recv.len()
    }

    /// Bytes that may still be received, in order or not.
    pub fn recv_free(&self) -> usize {
        self.recv.free()
    }

    /// Size of the receive buffer in bytes.
    pub fn recv_capacity(&self) -> usize {
        self.recv.capacity()
    }

    /// Where the receive buffer lies and how much is in it.
    pub fn recv_info(&self) -> BufferInfo {
        self.recv.info()
    }

    /// Places bytes at `offset` beyond RCV.NXT. The user does not see them before [`StackEnd::recv_publish`].
    pub fn recv_write_at(&mut self, offset: usize, data: &[u8]) {
        self.recv.write_at(offset, data);
    }

    /// `len` bytes at RCV.NXT for text to land in; clamped to what is free. Publish them before anything else is done to
    /// the ring, or forget them.
    pub fn recv_landing(&mut self, len: usize) -> [&mut [u8]; 2] {
        self.recv.free_slices(0, len)
    }

    /// `n` more bytes are in order: the user may read them.
    pub fn recv_publish(&mut self, n: usize) {
        if n > 0 {
            self.recv.publish(n);
            self.pending |= Ready::READABLE;
        }
    }

    /// Uses `bytes` of the receive buffer, no less than was promised, if nothing in it has to move for that: text lies no
    /// further from its first byte, and no more of it is paid for.
    pub fn fit_recv(&mut self, bytes: usize) {
        self.recv.fit(bytes);
    }

    /// Bytes of the receive buffer in use.
    pub fn recv_span(&self) -> usize {
        self.recv.span()
    }

    /// Goes back to the first byte of the buffer if everything was read and no bytes wait out of order; else nothing.
    pub fn recv_rewind(&mut self) {
        self.recv.rewind();
    }

    /// Out-of-order bytes further than `offset` beyond RCV.NXT were given up; they no longer hold off a rewind or a trim.
    pub fn recv_discard_beyond(&mut self, offset: usize) {
        self.recv.discard_beyond(offset);
    }

    /// Gives the receive buffer's pages back to the system, and to the budget, if nothing is in it, read or out of order.
    /// Returns whether none of them is left.
    pub fn recv_trim(&mut self) -> bool {
        let trimmed = self.recv.trim();
        if trimmed {
            self.uncover();
        }
        trimmed
    }

    /// After how many bytes read the user rings READ: min(2·MSS, half the buffer). Whoever looks at what was read after
    /// this misses nothing: the user stores its position before it looks at the step.
    pub fn set_read_step(&self, bytes: usize) {
        self.shared.read_step.store(bytes.max(1), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes up to `bytes` from the budget for a larger receive window; returns how much the window may grow.
    pub fn promise(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.recv.capacity());
        let more = bytes.min(self.recv.capacity() - self.covered);
        let missing = more - self.take(Demand::Growth, more);
        bytes - missing
    }

    /// Text is about to land up to `end` bytes beyond RCV.NXT: takes its pages from the budget. Returns up to where it
    /// may land: less if the budget is spent.
    pub fn cover(&mut self, end: usize) -> usize {
        let reach = self.recv.reach();
        let needed = reach.saturating_add(end).min(self.recv.span());
        if needed > self.covered {
            self.cover_pages(needed);
        }
        self.landing(self.covered, reach)
    }

    /// Up to where beyond RCV.NXT text may land without taking anything from the budget.
    pub fn recv_covered(&self) -> usize {
        self.landing(self.covered, self.recv.reach())
    }

    #[cold]
    fn cover_pages(&mut self, needed: usize) {
        let pages = needed.saturating_add(PAGE - 1) / PAGE * PAGE;
        let pages = pages.min(self.recv.span());
        self.take(Demand::FirstPage, pages.min(PAGE).saturating_sub(self.covered));
        self.take(Demand::Text, pages.saturating_sub(self.covered));
    }

    fn take(&mut self, demand: Demand, bytes: usize) -> usize {
        let taken = match self.shared.link() {
            Some(link) if bytes > 0 => link.budget.take_received(demand, bytes),
            // Not adopted: no stack to charge.
            _ => bytes,
        };
        self.covered += taken;
        taken
    }

    /// Up to where beyond RCV.NXT text may land if `covered` bytes of the buffer were paid for.
    fn landing(&self, covered: usize, reach: usize) -> usize {
        // All of it: then it does not matter how often the ring has gone round.
        if covered >= self.recv.span() { self.recv.free() } else { covered.saturating_sub(reach) }
    }

    /// Up to where beyond RCV.NXT the budget would let text land now. Reserves nothing.
    pub fn recv_affordable(&self) -> usize {
        if self.covered >= self.recv.span() {
            return self.recv.free();
        }
        let left = self.shared.link().map_or(usize::MAX, |link| link.budget.left_for(Demand::Text));
        // Empty, it begins at the first byte again.
        let reach = if self.recv.holds_nothing() { 0 } else { self.recv.reach() };
        self.landing(self.covered.saturating_add(left), reach)
    }

    /// Whether everything in the ring, and what waits up to `beyond` bytes beyond RCV.NXT, is taken from the budget.
    pub fn is_covered(&self, beyond: usize) -> bool {
        let reach = self.recv.reach();
        beyond <= self.landing(self.covered, reach) && self.covered >= reach
    }

    fn uncover(&mut self) {
        let covered = std::mem::take(&mut self.covered);
        if let Some(link) = self.shared.link().filter(|_| covered > 0) {
            link.budget.give_back_received(covered);
        }
    }

    /// Bytes of the receive buffer taken from the budget.
    pub fn covered(&self) -> usize {
        self.covered
    }

    /// A writer rang BUDGET: wakes it if there is some now; `false` if not, then ask again later.
    pub fn retry_budget(&mut self) -> bool {
        let first = self.send.is_empty();
        let left = |budget: &Budget| if first { budget.available_first() } else { budget.available() };
        let available = self.shared.link().is_none_or(|link| left(&link.budget) > 0);
        if available {
            self.pending |= Ready::WRITABLE;
        }
        self.starved = !available;
        available
    }

    /// Whether a writer still waits for [`StackEnd::retry_budget`] to find some.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// The handshake is complete: the stream is writable, as in tokio. (`AcceptQueue::push` makes it readable too.)
    pub fn on_established(&mut self, info: ConnInfo) {
        self.shared.info.publish_for_sure(|shown| *shown = info);
        self.shared.set_flags(Flags::ESTABLISHED);
        self.pending |= Ready::WRITABLE;
    }

    /// The peer's FIN is in order and every byte before it published.
    pub fn on_fin(&mut self) {
        self.shared.set_flags(Flags::FIN);
        self.pending |= Ready::READABLE | Ready::READ_CLOSED;
        self.on_half_closed();
    }

    /// Our FIN has been placed behind the last byte.
    pub fn on_write_closed(&mut self) {
        self.shared.set_flags(Flags::WRITE_SHUT);
        self.pending |= Ready::WRITABLE;
        self.on_half_closed();
    }

    /// Linux shows the writing half as closed (EPOLLHUP) when both are; an own shutdown alone makes it writable: the write
    /// fails at once (`tcp_poll`).
    fn on_half_closed(&mut self) {
        let flags = self.shared.flags();
        if flags.any(Flags::FIN) && flags.any(Flags::WRITE_SHUT) {
            self.pending |= Ready::WRITE_CLOSED;
        }
    }

    /// The connection failed. The first ending wins. `NetworkDown` is final and fails everything, like a dead reactor.
    pub fn fail(&mut self, error: ConnError) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if error == ConnError::NetworkDown {
            self.die();
            return;
        }
        self.shared.fail(error);
        self.pending |= ENDED;
    }

    /// The connection is closed in good order. Bytes in the receive buffer stay readable.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.shared.set_flags(Flags::OVER);
        self.pending |= ENDED - Ready::ERROR;
    }

    fn die(&mut self) {
        self.shared.set_flags(Flags::DEAD);
        self.shared.readiness.shutdown();
    }

    /// Brings the user's snapshot up to date, in place. Skipped if the user is copying the last one right now, who rings for
    /// another; but not after the end, when there may be no later turn.
    pub fn publish_info(&self, update: impl FnOnce(&mut ConnInfo)) {
        if self.ended {
            self.shared.info.publish_for_sure(update);
        } else {
            self.shared.info.publish(update);
        }
    }

    /// Delivers the readiness of this turn; returns how many tasks it woke.
    pub fn wake(&mut self) -> usize {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() { 0 } else { self.shared.readiness.set(pending) }
    }
}

impl Drop for StackEnd {
    fn drop(&mut self) {
        if !self.ended {
            self.die();
        }
        self.wake();
        if self.recv.is_empty() {
            self.uncover();
        } else {
            // Unread bytes stay resident until they are read, and so does their charge.
            let covered = std::mem::take(&mut self.covered);
            if let Some(link) = self.shared.link() {
                link.budget.leave_to_user(covered);
                self.shared.leave_to_user(covered, || self.recv.is_empty());
            }
        }
    }
}
