//! [`Doorbell`]: how a user's side tells the reactor that there is something to look at; [`Orders`]: what it is.
//!
//! Owns one queue of ids per stack and the reactor's waker. Carries no payload, never blocks beyond a short mutex. A
//! connection pushes its id only when its orders go from none to some, a listener once when it is dropped: the queue
//! is bounded by what exists. `pipe` and `net` ring; the reactor registers, drains and passes the ids to the engine.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Names a connection of one engine; the generation tells a reused index apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Slot in the engine's table.
    pub index: u32,
    /// How often the slot has been used.
    pub generation: u32,
}

/// Names a listener of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u64);

/// What the user's side wants from the reactor. A set of bits: repeating an order changes nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Orders(pub(super) u32);

impl Orders {
    /// Nothing.
    pub const NONE: Orders = Orders(0);
    /// Bytes were queued in the send ring.
    pub const WRITTEN: Orders = Orders(1);
    /// So much was read that the window should open.
    pub const READ: Orders = Orders(1 << 1);
    /// No more bytes will be written: send FIN after the queued ones.
    pub const SHUTDOWN: Orders = Orders(1 << 2);
    /// The owner is gone.
    pub const DROPPED: Orders = Orders(1 << 3);
    /// Reset the connection.
    pub const ABORT: Orders = Orders(1 << 4);
    /// An option was set.
    pub const OPTIONS: Orders = Orders(1 << 5);
    /// A writer got less memory than it wanted: wake it when there is some (`StackEnd::retry_budget`).
    pub const BUDGET: Orders = Orders(1 << 6);

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Orders) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is among these.
    pub fn intersects(self, other: Orders) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Orders {
    type Output = Orders;

    fn bitor(self, other: Orders) -> Orders {
        Orders(self.0 | other.0)
    }
}

impl BitOrAssign for Orders {
    fn bitor_assign(&mut self, other: Orders) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 7] = ["WRITTEN", "READ", "SHUTDOWN", "DROPPED", "ABORT", "OPTIONS", "BUDGET"];
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}

/// Who rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rung {
    /// A connection has orders.
    Conn(ConnId),
    /// A listener was dropped.
    Listener(ListenerId),
    /// Somebody was looking at the counters when they were published.
    Counters,
}

/// The queue of those who rang, and the waker of the reactor. One per stack.
#[derive(Debug, Default)]
pub struct Doorbell {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Vec<Rung>,
    /// Taken by the first who rings: one wake per registration.
    reactor: Option<Waker>,
}

impl Doorbell {
    /// An empty queue without a reactor.
    pub fn new() -> Arc<Doorbell> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues and wakes the reactor.
    pub fn ring(&self, who: Rung) {
        let reactor = {
            let mut state = self.lock();
            state.queue.push(who);
            state.reactor.take()
        };
        if let Some(reactor) = reactor {
            reactor.wake();
        }
    }

    /// Appends everyone who rang, in order, and empties the queue. Keeps its capacity.
    pub fn drain(&self, into: &mut Vec<Rung>) {
        into.append(&mut self.lock().queue);
    }

    /// Who is to be woken by the next ring: once per call. If someone has rung already, at once, so that the order of
    /// `register` and `drain` in a turn cannot lose a ring.
    pub fn register(&self, reactor: &Waker) {
        let rung = {
            let mut state = self.lock();
            let rung = !state.queue.is_empty();
            state.reactor = (!rung).then(|| reactor.clone());
            rung
        };
        if rung {
            reactor.wake_by_ref();
        }
    }

    /// Whether nobody has rung since the last drain.
    pub fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }
}
