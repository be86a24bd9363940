//! [`pipe`] makes the two ends of a connection; [`Shared`] is what both hold beside the rings.
//!
//! Owns readiness, orders, the error slot, the ending, options and the snapshot for `info()`. Everything is atomic or
//! under a mutex held for O(1), never across a copy of payload, a wake or a system call. Only `user_end` and `stack_end`
//! look inside.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::doorbell::{ConnId, Doorbell, Orders, Rung};
use super::ring::{Memory, Rings, rings};
use super::{Budget, ConnInfo, Published, Readiness, Region, Side, StackEnd, UserEnd};
use crate::config::SocketOptions;
use crate::error::ConnError;

/// Makes the two ends of a connection over its reserved memory. Nothing can be read or written before
/// [`StackEnd::on_established`].
pub fn pipe(region: Region, options: SocketOptions) -> (UserEnd, StackEnd) {
    let Rings { memory, send_producer, send_consumer, recv_producer, recv_consumer } = rings(region);
    let half = memory.region().capacity(Side::Recv) / 2;
    let shared = Arc::new(Shared {
        readiness: Readiness::default(),
        orders: AtomicU32::new(0),
        flags: AtomicU32::new(0),
        error: OnceLock::new(),
        link: OnceLock::new(),
        writer_waits: AtomicBool::new(false),
        drain_waits: AtomicBool::new(false),
        read_step: AtomicUsize::new(half.max(1)),
        send_share: AtomicUsize::new(memory.region().capacity(Side::Send)),
        charged: AtomicUsize::new(0),
        inherited: AtomicUsize::new(0),
        options: Mutex::new(options),
        info: Published::default(),
        memory,
    });
    let user = UserEnd::new(Arc::clone(&shared), send_producer, recv_consumer);
    (user, StackEnd::new(shared, send_consumer, recv_producer))
}

/// Why a `try_` operation did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryError {
    /// Nothing to read, or no room: wait for readiness.
    WouldBlock,
    /// The connection failed or the operation is not possible any more.
    Failed(ConnError),
}

/// Facts about a connection; each is set once and stays, except [`Flags::ERROR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u32);

impl Flags {
    /// The handshake is complete.
    pub(super) const ESTABLISHED: Flags = Flags(1);
    /// The peer's FIN has come; every byte before it is in the ring.
    pub(super) const FIN: Flags = Flags(1 << 1);
    /// The user has shut the writing half.
    pub(super) const WRITE_SHUT: Flags = Flags(1 << 2);
    /// The connection is over: failed or closed in good order.
    pub(super) const OVER: Flags = Flags(1 << 3);
    /// The error has not been taken yet.
    pub(super) const ERROR: Flags = Flags(1 << 4);
    /// The reactor died before the connection was over.
    pub(super) const DEAD: Flags = Flags(1 << 5);
    /// The user's socket is IPv6 and the connection IPv4: addresses are shown as ::ffff:a.b.c.d.
    pub(super) const MAPPED: Flags = Flags(1 << 6);
    /// The user's end was dropped.
    pub(super) const ABANDONED: Flags = Flags(1 << 7);

    pub(super) fn any(self, of: Flags) -> bool {
        self.0 & of.0 != 0
    }

    pub(super) const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// How a connection reaches its engine, once adopted.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnId,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) budget: Arc<Budget>,
}

/// For the test that keeps an idle connection small.
#[cfg(test)]
#[cfg(not(usernet_loom))]
pub(super) const SIZE: usize = size_of::<Shared>();

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) readiness: Readiness,
    orders: AtomicU32,
    flags: AtomicU32,
    error: OnceLock<ConnError>,
    link: OnceLock<Link>,
    /// A writer found no room and wants to hear of it.
    pub(super) writer_waits: AtomicBool,
    /// Someone waits in `UserEnd::drained`.
    pub(super) drain_waits: AtomicBool,
    /// The user rings READ after this many bytes.
    pub(super) read_step: AtomicUsize,
    /// Bytes of the send buffer in use; more are not queued.
    pub(super) send_share: AtomicUsize,
    /// Bytes taken from the budget that go back with this: queued bytes.
    charged: AtomicUsize,
    /// Bytes taken for received text that was unread when the engine forgot the connection.
    inherited: AtomicUsize,
    options: Mutex<SocketOptions>,
    pub(super) info: Published<ConnInfo>,
    pub(super) memory: Arc<Memory>,
}

impl Shared {
    /// The user's side orders. The bell is rung when there was no order before.
    pub(super) fn order(&self, orders: Orders) {
        let before = self.orders.fetch_or(orders.0, Ordering::SeqCst);
        if before != 0 {
            // Whoever made it nonzero has rung or will; `take_orders` comes after that and sees these too.
            return;
        }
        // Orders first, then the link; `adopt` stores the link first, then looks at the orders. Between the two is a
        // SeqCst fence on both sides, so at least one of them sees the other's store: an order given before the
        // connection is adopted cannot get lost. If both see it the bell rings twice, which `take_orders` shrugs off.
        fence(Ordering::SeqCst);
        self.ring();
    }

    /// The engine gets a turn without an order. On a user's thread, perhaps long after it forgot the connection: a writer
    /// that waits for the budget hears of it by a turn only.
    fn ring(&self) {
        if let Some(link) = self.link.get() {
            link.doorbell.ring(Rung::Conn(link.id));
        }
    }

    /// The engine takes the connection into its table. A second call changes nothing.
    pub(super) fn adopt(&self, link: Link) {
        if self.link.set(link).is_err() {
            debug_assert!(false, "adopted twice");
            return;
        }
        // The other half of the argument in `order`.
        fence(Ordering::SeqCst);
        if self.orders.load(Ordering::SeqCst) != 0 {
            self.ring();
        }
    }

    /// An address as the user's socket shows it.
    pub(super) fn shown(&self, addr: SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(v4) if self.flags().any(Flags::MAPPED) => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            _ => addr,
        }
    }

    /// Looks at the snapshot.
    pub(super) fn look<R>(&self, look: impl FnOnce(&ConnInfo) -> R) -> R {
        self.info.look(look, || self.ring())
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.link.get()
    }

    pub(super) fn take_orders(&self) -> Orders {
        Orders(self.orders.swap(0, Ordering::SeqCst))
    }

    pub(super) fn flags(&self) -> Flags {
        Flags(self.flags.load(Ordering::Acquire))
    }

    pub(super) fn set_flags(&self, flags: Flags) {
        self.flags.fetch_or(flags.0, Ordering::AcqRel);
    }

    /// The first error wins; a connection that is over keeps its ending.
    pub(super) fn fail(&self, error: ConnError) {
        if self.error.set(error).is_ok() {
            // The error is stored before the flag that shows it.
            self.set_flags(Flags::ERROR.and(Flags::OVER));
        }
    }

    /// The error, for exactly one caller.
    pub(super) fn take_error(&self) -> Option<ConnError> {
        if !self.flags().any(Flags::ERROR) {
            return None;
        }
        let before = Flags(self.flags.fetch_and(!Flags::ERROR.0, Ordering::AcqRel));
        before.any(Flags::ERROR).then(|| self.error.get().copied()).flatten()
    }

    pub(super) fn options(&self) -> MutexGuard<'_, SocketOptions> {
        lock(&self.options)
    }

    /// What was taken for text that is unread at the engine's end of the connection goes back once all of it was read or
    /// nobody is there to read it, however long a handle is kept. A user's end reads the last byte or is dropped, then looks
    /// here; this stores first, then looks at both. Between is a SeqCst fence on both sides: one of the two sees the other's.
    pub(super) fn leave_to_user(&self, bytes: usize, all_read: impl FnOnce() -> bool) {
        self.inherited.store(bytes, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if all_read() || self.flags().any(Flags::ABANDONED) {
            self.settle();
        }
    }

    /// Whether something was left to the user's end.
    pub(super) fn has_inherited(&self) -> bool {
        self.inherited.load(Ordering::Relaxed) > 0
    }

    /// Gives that back.
    pub(super) fn settle(&self) {
        let bytes = self.inherited.swap(0, Ordering::Relaxed);
        if let Some(link) = self.link.get().filter(|_| bytes > 0) {
            link.budget.give_back(bytes);
            self.ring();
        }
    }

    /// Takes up to `bytes` from the stack's budget for bytes to be queued; if there are none, up to `first` of what is kept for
    /// who has nothing queued.
    pub(super) fn charge(&self, bytes: usize, first: usize) -> usize {
        let Some(link) = self.link.get() else {
            // Not adopted: no stack to charge (only in tests can a connection be established and not adopted).
            return bytes;
        };
        let mut granted = link.budget.take_written(bytes);
        if granted == 0 && first > 0 {
            granted = link.budget.take_first_written(first);
        }
        self.charged.fetch_add(granted, Ordering::Relaxed);
        granted
    }

    /// Gives up to `bytes` of what was charged back to the stack's budget.
    /// Returns how much that was.
    pub(super) fn discharge(&self, bytes: usize) -> usize {
        let mut given = 0;
        let _ = self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |charged| {
            given = charged.min(bytes);
            Some(charged - given)
        });
        if let Some(link) = self.link.get().filter(|_| given > 0) {
            link.budget.give_back(given);
        }
        given
    }
}

impl Drop for Shared {
    /// Both ends are gone: what they had taken goes back (the reservation goes with the region).
    fn drop(&mut self) {
        self.settle();
        if self.discharge(usize::MAX) > 0 {
            self.ring();
        }
    }
}

/// A poisoned lock is taken all the same: no state in here can be left half-changed by a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
