//! [`Engine`]: every connection of one stack, from IP packets in to IP packets out.
//!
//! Owns the control blocks, the demultiplexer, the deadlines, the queues of what wants to be sent. Sans-IO: no device, no
//! clock, no task, no randomness (the secret is given). Never allocates, locks or hashes per segment beyond one lookup of
//! the 4-tuple. Called by the reactor and, through [`Shared`], by `net`.
//!
//! Where to find what: `input` packets in, listeners; `landing` text that is received straight into its buffer; `output`
//! packets out, round robin; `table` what happens to a connection between the two; `registry` ports and listeners behind a
//! mutex; `demux` the connection table; `ports`, `isn` and `keys` what a peer must not guess; `reply` and `icmp` answers
//! without a connection; `loopback` packets to ourselves.

mod addresses;
mod deadlines;
mod demux;
mod icmp;
mod input;
mod isn;
mod keys;
mod landing;
mod listener;
mod loopback;
mod output;
mod ports;
mod registry;
mod reply;
mod shared;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

pub use isn::IsnHook;
pub use keys::Secrets;
pub use landing::Landing;
pub use listener::{Binding, Listening};
pub use output::Transmit;
pub use shared::Shared;

use deadlines::Deadlines;
use demux::{Ages, Conns};
use isn::Isn;
use keys::{Domain, KeyedState};
use landing::Prediction;
use loopback::Loopback;
use output::Outbox;
use reply::Replies;

use crate::config::{SocketOptions, StackConfig};
use crate::error::ConnError;
use crate::pipe::{ConnId, ListenerId, Rung, StackEnd};
use crate::stats::Stats;
pub use crate::tcb::Path;
use crate::tcb::Senders;
use crate::time::Instant;
use crate::wire::FourTuple;
#[cfg(any(test, feature = "internals"))]
use crate::{pipe::State, wire::Seq};

/// The way to ourselves: no wire, so packets are as large as IP allows and never split.
const LOOPBACK: Path = Path { mtu: 65_535, max_large: None };

/// An order to connect.
#[derive(Debug)]
pub struct Connect {
    /// The reactor's end of the buffers, joined to the stack's budget.
    pub pipe: StackEnd,
    /// From [`Shared::claim`].
    pub tuple: FourTuple,
    /// Options of the socket.
    pub options: SocketOptions,
}

/// How many connections are in which bounded table.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    half_open: usize,
    live: usize,
    time_wait: usize,
    orphans: usize,
}

/// The TCP/IP engine of one stack. See the module.
pub struct Engine {
    shared: Arc<Shared>,
    stats: Stats,
    path: Path,
    isn: Isn,
    conns: Conns,
    counts: Counts,
    /// Half-open connections of each listener that has some.
    half_open: HashMap<ListenerId, usize, KeyedState>,
    time_waits: Ages,
    orphans: Ages,
    deadlines: Deadlines,
    /// Connections that may have something for the device, in the order of their turn. A connection is in at most one of
    /// the two queues, once ([`demux::Conn::queued`]).
    dirty: VecDeque<ConnId>,
    /// The same for the loopback, which can be full while the device is not.
    dirty_local: VecDeque<ConnId>,
    /// Connections that something happened to since the last `end_turn`, once each.
    touched: Vec<ConnId>,
    rungs: Vec<Rung>,
    /// Connections whose ACK waits for their owner's answer: due at the next [`Engine::poll_orders`].
    lingering: Vec<ConnId>,
    /// Connections whose writers wait for the memory budget, each once.
    starved: Vec<ConnId>,
    senders: Senders,
    /// The slot that memory pressure asks next.
    asked_next: u32,
    replies: Replies,
    loopback: Loopback,
    outbox: Outbox,
    prediction: Prediction,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("counts", &self.counts).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without connections.
    ///
    /// # Errors
    /// `InvalidInput`: an address no host can have, or an empty range of ephemeral ports.
    pub fn new(config: StackConfig, secrets: Secrets) -> Result<Engine, ConnError> {
        let path = Path { mtu: config.mtu, max_large: None };
        let replies = Replies::new(config.rst_per_second);
        let shared = Shared::new(config, &secrets)?;
        Ok(Engine {
            shared,
            stats: Stats::default(),
            path,
            isn: Isn::new(&secrets),
            conns: Conns::new(&secrets),
            counts: Counts::default(),
            half_open: HashMap::with_hasher(KeyedState::new(&secrets, Domain::Registry)),
            time_waits: Ages::default(),
            orphans: Ages::default(),
            deadlines: Deadlines::default(),
            dirty: VecDeque::new(),
            dirty_local: VecDeque::new(),
            touched: Vec::new(),
            rungs: Vec::new(),
            lingering: Vec::new(),
            starved: Vec::new(),
            senders: Senders::default(),
            asked_next: 0,
            replies,
            loopback: Loopback::default(),
            outbox: Outbox::default(),
            prediction: Prediction::default(),
        })
    }

    /// What `net` may reach.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The counters of this turn, for the reactor's own.
    pub fn stats_mut(&mut self) -> &mut Stats {
        &mut self.stats
    }

    /// Sets what the device carries, and whether it completes transport checksums. Packets to ourselves go another way.
    pub fn set_path(&mut self, path: Path, checksum_offload: bool) {
        self.path = path;
        self.outbox.set_checksum_offload(checksum_offload);
    }

    /// Live connections; half-open and TIME-WAIT not counted.
    pub fn live(&self) -> usize {
        self.counts.live
    }

    /// Half-open connections.
    pub fn half_open(&self) -> usize {
        self.counts.half_open
    }

    /// TIME-WAIT records.
    pub fn time_wait(&self) -> usize {
        self.counts.time_wait
    }

    /// Connections whose owner is gone.
    pub fn orphans(&self) -> usize {
        self.counts.orphans
    }

    /// Bytes (a FIN counts as one) that were queued and not acknowledged, over all connections. Walks them all.
    pub fn unacked(&self) -> usize {
        self.conns.iter().map(|(_, conn)| conn.tcb.unacked()).sum()
    }

    /// Whether nothing is left that a peer could wait for: no connection but TIME-WAIT, no listener.
    pub fn is_idle(&self) -> bool {
        self.counts.live == 0 && self.counts.half_open == 0 && self.shared.registry().listeners() == 0
    }

    /// Whether ACKs wait for one pass of the users: another turn is due as soon as these have run.
    pub fn has_lingering(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// The earliest moment at which [`Engine::on_deadlines`] may have something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.earliest()
    }

    /// Forces initial sequence numbers; for simulations.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn set_isn_hook(&mut self, hook: impl FnMut(&FourTuple) -> Option<Seq> + Send + 'static) {
        self.isn.set_hook(Some(Box::new(hook)));
    }

    /// Panics if a connection that waits for nothing else would be looked at too late, or never; for simulations.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        for (slot, conn) in self.conns.iter() {
            let id = conn.id(slot);
            let lingers = conn.tcb.is_lingering();
            assert!(!lingers || self.lingering.contains(&id), "an ACK that lingers is forgotten");
            assert!(!conn.tcb.is_starved() || self.starved.contains(&id), "a writer that is starved is forgotten");
            if conn.queued {
                let lane = if conn.local { &self.dirty_local } else { &self.dirty };
                assert!(lane.contains(&id), "queued nowhere");
            } else {
                assert_eq!(self.deadlines.due(slot), conn.tcb.next_deadline(), "a deadline that nobody knows");
            }
        }
    }

    /// The state of a connection; for tests.
    #[cfg(any(test, feature = "internals"))]
    #[doc(hidden)]
    pub fn state_of(&self, tuple: &FourTuple) -> State {
        let slot = self.conns.find(&demux::Key::new(tuple));
        slot.and_then(|slot| self.conns.get(slot)).map_or(State::Closed, |conn| conn.tcb.state())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Connections fail by their pipe's own drop; waiters in accept and later calls have to be told.
        let queues = self.shared.registry().die();
        for queue in queues {
            queue.fail();
        }
    }
}
