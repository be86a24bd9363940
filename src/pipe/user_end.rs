//! [`UserEnd`]: the user's end of a connection.
//!
//! Owns the send ring's producer and the receive ring's consumer, each under a mutex that serialises several callers of
//! `&self` methods and that the reactor never takes. Never blocks on the reactor. Answers as design.md §7 says, which is
//! as Linux does; `net` turns that into tokio's API.

use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};

use super::doorbell::Orders;
use super::ring::{Consumer, Producer};
use super::shared::{Flags, Shared, TryError, lock};
use super::stack_end::PAGE;
use super::{BufferInfo, ConnInfo, Readiness, Ready, Region, Side};
use crate::config::SocketOptions;
use crate::error::ConnError;

/// The user's end of a connection. Dropping it orders the engine to close (`Orders::DROPPED`).
pub struct UserEnd {
    shared: Arc<Shared>,
    writer: Mutex<Producer>,
    reader: Mutex<Reader>,
}

struct Reader {
    ring: Consumer,
    /// Bytes read since the reactor was last told.
    untold: usize,
}

/// Whether a read takes the bytes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    Consume,
    Peek,
}

impl UserEnd {
    pub(super) fn new(shared: Arc<Shared>, writer: Producer, reader: Consumer) -> UserEnd {
        UserEnd { shared, writer: Mutex::new(writer), reader: Mutex::new(Reader { ring: reader, untold: 0 }) }
    }

    /// Hands up to `want` bytes to `sink`, in order, in at most two parts, and consumes them. `Ok(0)` is the end (or
    /// `want` is 0 and there is something).
    ///
    /// Unread bytes come first. Then, if the peer's FIN came, the end; else the error of the connection, once, to
    /// whoever takes it first; else the end if the connection is over.
    ///
    /// # Errors
    ///
    /// [`TryError::WouldBlock`] if nothing is there yet; the connection's error; always `NetworkDown` if the reactor died.
    pub fn try_read_with(&self, want: usize, sink: &mut dyn FnMut(&[u8])) -> Result<usize, TryError> {
        self.read(want, sink, Take::Consume)
    }

    /// As [`UserEnd::try_read_with`], and leaves the bytes.
    ///
    /// # Errors
    ///
    /// As [`UserEnd::try_read_with`].
    pub fn try_peek_with(&self, want: usize, sink: &mut dyn FnMut(&[u8])) -> Result<usize, TryError> {
        self.read(want, sink, Take::Peek)
    }

    fn read(&self, want: usize, sink: &mut dyn FnMut(&[u8]), take: Take) -> Result<usize, TryError> {
        let mut reader = lock(&self.reader);
        // Before the ring: FIN is flagged after the bytes before it were published, so an empty ring then is the end.
        let flags = self.shared.flags();
        if flags.any(Flags::DEAD) {
            return Err(TryError::Failed(ConnError::NetworkDown));
        }
        if reader.ring.is_empty() {
            drop(reader);
            return self.read_nothing(flags);
        }
        let [first, second] = reader.ring.slices(0, want);
        for part in [first, second] {
            if !part.is_empty() {
                sink(part);
            }
        }
        let n = first.len() + second.len();
        if take == Take::Consume {
            reader.ring.consume(n);
            reader.untold += n;
            // The position first, then the step; the other half of the argument is in `StackEnd::set_read_step`.
            fence(Ordering::SeqCst);
            if self.shared.has_inherited() && reader.ring.is_empty() {
                // The other half of the argument is in `leave_to_user`.
                self.shared.settle();
            }
            let step = self.shared.read_step.load(Ordering::Relaxed);
            if reader.untold >= step && !flags.any(Flags::FIN.and(Flags::OVER)) {
                reader.untold = 0;
                drop(reader);
                self.shared.order(Orders::READ);
            }
        }
        Ok(n)
    }

    fn read_nothing(&self, flags: Flags) -> Result<usize, TryError> {
        // Linux: after the FIN a read is at the end, also if an error came later (SOCK_DONE); the writer gets the error.
        if flags.any(Flags::FIN) {
            return Ok(0);
        }
        if flags.any(Flags::OVER) {
            return self.shared.take_error().map_or(Ok(0), |error| Err(TryError::Failed(error)));
        }
        Err(TryError::WouldBlock)
    }

    /// Queues as much of `bufs` as fits and the stack's memory budget grants. `Ok(0)` only for no bytes.
    ///
    /// # Errors
    ///
    /// [`TryError::WouldBlock`] if there is no room or no budget, or if the reactor is giving the pages of the idle ring
    /// back at this moment; the connection's error, once, to whoever takes it first; `BrokenPipe` after that, after [`UserEnd::shutdown_write`] and after the end; always `NetworkDown` if the
    /// reactor died.
    pub fn try_write(&self, bufs: &[IoSlice<'_>]) -> Result<usize, TryError> {
        let mut writer = lock(&self.writer);
        let flags = self.shared.flags();
        if flags.any(Flags::DEAD) {
            return Err(TryError::Failed(ConnError::NetworkDown));
        }
        // Linux: a pending error goes before EPIPE, also after an own shutdown (sk_stream_error).
        if let Some(error) = self.shared.take_error() {
            return Err(TryError::Failed(error));
        }
        if flags.any(Flags::WRITE_SHUT.and(Flags::OVER)) {
            return Err(TryError::Failed(ConnError::BrokenPipe));
        }
        if !flags.any(Flags::ESTABLISHED) {
            return Err(TryError::WouldBlock);
        }
        let (queued, orders) = self.queue(&mut writer, bufs);
        drop(writer);
        if !orders.is_empty() {
            self.shared.order(orders);
        }
        let wanted_nothing = bufs.iter().all(|buf| buf.is_empty());
        if queued == 0 && !wanted_nothing { Err(TryError::WouldBlock) } else { Ok(queued) }
    }

    /// Copies into the ring. Returns how much, and what the reactor must know.
    fn queue(&self, writer: &mut Producer, bufs: &[IoSlice<'_>]) -> (usize, Orders) {
        let wanted = bufs.iter().fold(0_usize, |sum, buf| sum.saturating_add(buf.len()));
        let mut queued = 0;
        let mut orders = Orders::NONE;
        if wanted == 0 || !self.claim(writer) {
            return (queued, orders);
        }
        while queued < wanted {
            let room = self.limit(writer).saturating_sub(writer.len()).min(wanted - queued);
            let first = if writer.is_empty() { room.min(PAGE) } else { 0 };
            let granted = self.shared.charge(room, first);
            if granted > 0 {
                gather(writer, bufs, queued, granted);
                writer.publish(granted);
                queued += granted;
                orders |= Orders::WRITTEN;
            }
            if granted < room {
                orders |= Orders::BUDGET;
                break;
            }
            if queued < wanted && !self.wait_for_room(writer) {
                break;
            }
        }
        writer.release();
        (queued, orders)
    }

    /// Most bytes that may be in the ring now.
    fn limit(&self, writer: &mut Producer) -> usize {
        let share = self.shared.send_share.load(Ordering::Relaxed);
        writer.fit(share);
        share.min(writer.span())
    }

    /// Keeps the reactor from giving the ring's pages back while we write. `false` if it is at it; it wakes us after.
    fn claim(&self, writer: &mut Producer) -> bool {
        if writer.claim() {
            return true;
        }
        // The question first, then another attempt; `StackEnd::send_trim` lets the ring go first, then looks for the
        // question. With a SeqCst fence between, one of the two sees the other: no wake-up is lost.
        self.shared.writer_waits.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        writer.claim()
    }

    /// The ring is full: asks to be woken. `true` if there is room by now and nobody may have heard the question.
    fn wait_for_room(&self, writer: &mut Producer) -> bool {
        // The question first, then the look at the head; `StackEnd::send_acked` stores the head first, then looks for
        // the question. With a SeqCst fence between, one of the two sees the other: no wake-up is lost.
        self.shared.writer_waits.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        is_writable(writer.len(), self.limit(writer))
    }

    /// Waits until every byte written before the call is acknowledged.
    ///
    /// # Errors
    ///
    /// The connection's error, taken, or `BrokenPipe` if it ended before.
    ///
    /// # Cancel safety
    ///
    /// Waiting changes nothing.
    pub async fn drained(&self) -> Result<(), ConnError> {
        let (readiness, memory) = (self.readiness(), &self.shared.memory);
        let end = memory.published(Side::Send);
        loop {
            // The question first, then the look at the ring: as in `wait_for_room`.
            let event = readiness.event(Ready::DRAINED | Ready::ERROR);
            self.shared.drain_waits.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if self.is_dead() {
                return Err(ConnError::NetworkDown);
            }
            if memory.has_consumed(Side::Send, end) {
                return Ok(());
            }
            if self.is_over() {
                return Err(self.take_error().unwrap_or(ConnError::BrokenPipe));
            }
            readiness.clear(event);
            readiness.wait(Ready::DRAINED | Ready::ERROR).await;
        }
    }

    /// No more bytes will be written: the peer gets FIN after the queued ones. Never fails, never blocks.
    pub fn shutdown_write(&self) {
        {
            // Under the writer's lock: no write that began before may publish after the engine has placed the FIN.
            let _writer = lock(&self.writer);
            if self.shared.flags().any(Flags::WRITE_SHUT) {
                return;
            }
            self.shared.set_flags(Flags::WRITE_SHUT);
        }
        self.shared.order(Orders::SHUTDOWN);
        // A writer in another task that waits for room learns it by trying (inet_shutdown: sk_state_change).
        self.shared.readiness.set(Ready::WRITABLE);
    }

    /// Orders a reset.
    pub fn abort(&self) {
        self.shared.order(Orders::ABORT);
    }

    /// What this end is ready for, and waiting for it.
    pub fn readiness(&self) -> &Readiness {
        &self.shared.readiness
    }

    /// The socket's options.
    pub fn options(&self) -> SocketOptions {
        *self.shared.options()
    }

    /// Changes options and tells the engine.
    pub fn set_options(&self, change: impl FnOnce(&mut SocketOptions)) {
        change(&mut self.shared.options());
        self.shared.order(Orders::OPTIONS);
    }

    /// The control block as of the reactor's last turn, the send buffer, the receive buffer.
    pub fn info(&self) -> (ConnInfo, BufferInfo, BufferInfo) {
        info(&self.shared)
    }

    #[cfg(test)]
    #[cfg(not(usernet_loom))]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A look at the connection from elsewhere.
    pub fn watch(&self) -> Watch {
        Watch { shared: Arc::clone(&self.shared) }
    }

    /// The address space of both buffers.
    pub fn region(&self) -> &Region {
        self.shared.memory.region()
    }

    /// The error of the connection, if nobody has taken it yet. Always `NetworkDown` if the reactor died.
    pub fn take_error(&self) -> Option<ConnError> {
        if self.is_dead() {
            return Some(ConnError::NetworkDown);
        }
        self.shared.take_error()
    }

    /// Our address, once established.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let local = self.shared.look(|info| info.local);
        local.map(|addr| self.shared.shown(addr))
    }

    /// The peer's address, once established.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        let remote = self.shared.look(|info| info.remote);
        remote.map(|addr| self.shared.shown(addr))
    }

    /// Whether the handshake was ever completed.
    pub fn is_established(&self) -> bool {
        self.shared.flags().any(Flags::ESTABLISHED)
    }

    /// Whether the connection has ended, by error or in good order.
    pub fn is_over(&self) -> bool {
        self.shared.flags().any(Flags::OVER.and(Flags::DEAD))
    }

    /// Whether the reactor died before the connection was over: everything fails with `NetworkDown`.
    pub fn is_dead(&self) -> bool {
        self.shared.flags().any(Flags::DEAD)
    }
}

fn info(shared: &Shared) -> (ConnInfo, BufferInfo, BufferInfo) {
    let mut info = shared.look(|info| *info);
    info.local = info.local.map(|addr| shared.shown(addr));
    info.remote = info.remote.map(|addr| shared.shown(addr));
    (info, shared.memory.info(Side::Send), shared.memory.info(Side::Recv))
}

/// Sees what [`UserEnd::info`] sees, without being an owner: the connection closes as if nobody looked. Its memory stays
/// mapped while somebody does.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// As [`UserEnd::info`].
    pub fn info(&self) -> (ConnInfo, BufferInfo, BufferInfo) {
        info(&self.shared)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("info", &self.info().0).finish_non_exhaustive()
    }
}

/// Copies `bufs[skip..skip + len]`, taken as one run of bytes, to the free region.
fn gather(writer: &mut Producer, bufs: &[IoSlice<'_>], mut skip: usize, len: usize) {
    let mut done = 0;
    for buf in bufs {
        let Some(part) = buf.get(skip..) else {
            skip -= buf.len();
            continue;
        };
        skip = 0;
        let part = part.get(..len - done).unwrap_or(part);
        writer.write_at(done, part);
        done += part.len();
        if done == len {
            return;
        }
    }
}

/// Linux's `sk_stream_is_writeable`: with `queued` bytes there is room for half as much again, so that a writer is not woken
/// per segment.
pub(super) fn is_writable(queued: usize, capacity: usize) -> bool {
    let free = capacity.saturating_sub(queued);
    free > 0 && free >= queued / 2
}

impl Drop for UserEnd {
    fn drop(&mut self) {
        // The other half of the argument is in `leave_to_user`.
        self.shared.set_flags(Flags::ABANDONED);
        fence(Ordering::SeqCst);
        self.shared.settle();
        self.shared.order(Orders::DROPPED);
    }
}

impl fmt::Debug for UserEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserEnd")
            .field("flags", &self.shared.flags())
            .field("readiness", &self.shared.readiness.event(Ready::ALL).ready)
            .field("memory", &self.shared.memory)
            .finish_non_exhaustive()
    }
}
