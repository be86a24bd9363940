//! The registry: who holds which port, address and 4-tuple, and who listens where.
//!
//! Owns no connection and no payload; every method is short (the mutex round it is never held across a copy, a wake or a
//! system call). Called through [`Shared`](super::Shared) by `net` and the engine.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::demux::Key;
use super::keys::{Domain, KeyedState, Secrets, SipKey};
use super::listener::{Accepting, Bound, Listener, Scope};
use super::ports::Ports;
use crate::config::SocketOptions;
use crate::error::ConnError;
use crate::pipe::{AcceptQueue, ListenerId};
use crate::wire::FourTuple;

/// See the module.
pub(super) struct Registry {
    ports: Ports,
    spread: SipKey,
    bound: BoundSockets,
    listeners: HashMap<ListenerId, Listener, KeyedState>,
    /// Every 4-tuple with buffers or in TIME-WAIT; half-open ones live in the engine only.
    tuples: HashMap<Key, Held, KeyedState>,
    uses: Uses,
    next_id: u64,
    /// The engine is gone.
    dead: bool,
}

/// A 4-tuple that is taken.
#[derive(Clone, Copy)]
struct Held {
    reuse: Reuse,
    /// By what is left of a connection to one of our own addresses: a new one may take it over.
    retired: bool,
}

/// Whether a connection's socket, or its listener's, had set SO_REUSEADDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    No,
    Yes,
}

impl Reuse {
    pub(super) fn of(options: &SocketOptions) -> Reuse {
        if options.reuseaddr { Reuse::Yes } else { Reuse::No }
    }
}

impl Registry {
    /// An empty registry.
    pub(super) fn new(secrets: &Secrets, ephemeral: (u16, u16)) -> Registry {
        let state = KeyedState::new(secrets, Domain::Registry);
        Registry {
            ports: Ports::new(secrets, ephemeral),
            spread: SipKey::derive(secrets, Domain::Spread),
            bound: BoundSockets(HashMap::with_hasher(state)),
            listeners: HashMap::with_hasher(state),
            tuples: HashMap::with_hasher(state),
            uses: Uses { by_address: HashMap::with_hasher(state), by_port: HashMap::with_hasher(state) },
            next_id: 0,
            dead: false,
        }
    }

    /// # Errors
    /// `NetworkDown` once the engine is gone.
    pub(super) fn check_alive(&self) -> Result<(), ConnError> {
        if self.dead { Err(ConnError::NetworkDown) } else { Ok(()) }
    }

    /// The engine is gone: hands out every accept queue, for the caller to fail outside of the lock.
    pub(super) fn die(&mut self) -> Vec<Arc<AcceptQueue>> {
        self.dead = true;
        self.listeners.values().map(|listener| Arc::clone(&listener.queue)).collect()
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Binds `new` to a port (0: chooses one); returns id and port.
    ///
    /// # Errors
    /// `AddrInUse`; for port 0 too, as `inet_csk_get_port`.
    pub(super) fn bind(&mut self, mut new: Bound, port: u16) -> Result<(u64, u16), ConnError> {
        self.check_alive()?;
        let port = if port == 0 { self.pick_bind_port(new.scope)? } else { port };
        let taken = self.bound.at(port).iter().any(|old| old.refuses(&new));
        // What lives on of an earlier socket (connections, TIME-WAIT) refuses the port unless both have set SO_REUSEADDR
        // (Linux's `inet_bind_conflict`). A socket that shares the port with a bound one shares its connections too.
        let shared = new.reuseport && self.bound.overlap(new.scope, port);
        let refusing = if new.reuseaddr { Count::without_reuse } else { Count::all };
        if taken || (!shared && self.uses.overlap(new.scope, port, refusing)) {
            return Err(ConnError::AddrInUse);
        }
        new.id = self.next_id();
        self.bound.0.entry(port).or_default().push(new);
        Ok((new.id, port))
    }

    fn pick_bind_port(&mut self, scope: Scope) -> Result<u16, ConnError> {
        let Registry { ports, bound, uses, .. } = self;
        // TIME-WAIT counts, whatever the socket has set: as Linux without `ip_autobind_reuse`.
        let free = |port| !bound.overlap(scope, port) && !uses.overlap(scope, port, Count::all);
        ports.pick(scope.ip, None, free).ok_or(ConnError::AddrInUse)
    }

    /// Releases a bound socket.
    pub(super) fn unbind(&mut self, port: u16, id: u64) {
        if let Some(all) = self.bound.0.get_mut(&port) {
            all.retain(|bound| bound.id != id);
            if all.is_empty() {
                self.bound.0.remove(&port);
            }
        }
    }

    /// Makes a bound socket a listener.
    ///
    /// # Errors
    /// `AddrInUse`: another one listens there and does not share the port.
    pub(super) fn listen(&mut self, port: u16, id: u64, listener: Listener) -> Result<ListenerId, ConnError> {
        self.check_alive()?;
        let listener_id = ListenerId(self.next_id());
        let all = self.bound.at_mut(port);
        let Some(new) = all.iter().find(|bound| bound.id == id).copied() else { return Err(ConnError::InvalidInput) };
        if all.iter().any(|old| old.id != id && old.refuses_listener(&new)) {
            return Err(ConnError::AddrInUse);
        }
        if let Some(bound) = all.iter_mut().find(|bound| bound.id == id) {
            bound.listener = Some(listener_id);
        }
        self.listeners.insert(listener_id, listener);
        Ok(listener_id)
    }

    /// Forgets a listener and hands it out, to be dropped outside of the lock; its socket stays bound.
    pub(super) fn close_listener(&mut self, id: ListenerId, port: u16, binding: u64) -> Option<Listener> {
        if let Some(bound) = self.bound.at_mut(port).iter_mut().find(|bound| bound.id == binding) {
            bound.listener = None;
        }
        self.listeners.remove(&id)
    }

    /// The listener of an id.
    pub(super) fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(&id)
    }

    /// The listener of an id.
    pub(super) fn listener_mut(&mut self, id: ListenerId) -> Option<&mut Listener> {
        self.listeners.get_mut(&id)
    }

    /// Number of listeners.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// The listener a SYN on `key` belongs to: the most specific; several of a `reuseport` group share by hash.
    pub(super) fn find_listener(&self, key: &Key) -> Option<Accepting> {
        let local = key.local();
        let all = self.bound.at(local.port());
        let scored = || all.iter().filter_map(|bound| Some((bound.scope.score(local.ip())?, bound.listener?)));
        let best = scored().map(|(score, _)| score).max()?;
        let fitting = || scored().filter(|&(score, _)| score == best);
        let count = fitting().count();
        let nth = match count {
            0 | 1 => 0,
            _ => usize::try_from(self.spread.hash_tuple(key) % count as u64).unwrap_or(0),
        };
        let (_, id) = fitting().nth(nth)?;
        self.accepting(id)
    }

    /// What the engine needs of a listener.
    pub(super) fn accepting(&self, id: ListenerId) -> Option<Accepting> {
        let listener = self.listeners.get(&id)?;
        Some(Accepting {
            id,
            queue: Arc::clone(&listener.queue),
            options: listener.options,
            max_syn_backlog: listener.max_syn_backlog,
            v6: listener.v6,
        })
    }

    /// Claims the tuple from `local` (port 0: chooses one) to `remote`.
    ///
    /// # Errors
    /// `TupleInUse`. `PortsExhausted`.
    pub(super) fn claim(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        reuse: Reuse,
    ) -> Result<FourTuple, ConnError> {
        self.check_alive()?;
        let local = match local.port() {
            0 => SocketAddr::new(local.ip(), self.pick_connect_port(local.ip(), remote)?),
            _ => local,
        };
        let tuple = FourTuple { local, remote };
        if self.adopt(&Key::new(&tuple), reuse) { Ok(tuple) } else { Err(ConnError::TupleInUse) }
    }

    fn pick_connect_port(&mut self, ip: IpAddr, remote: SocketAddr) -> Result<u16, ConnError> {
        let Registry { ports, bound, tuples, .. } = self;
        let scope = Scope { ip, only_v6: false };
        let free = |port| {
            let local = SocketAddr::new(ip, port);
            // A port of the range that happens to be the destination would connect the socket to itself.
            let held = || tuples.get(&Key::new(&FourTuple { local, remote }));
            local != remote && !bound.overlap(scope, port) && held().is_none_or(|held| held.retired)
        };
        ports.pick(ip, Some(remote), free).ok_or(ConnError::PortsExhausted)
    }

    /// Enters a tuple; false if it is taken.
    pub(super) fn adopt(&mut self, key: &Key, reuse: Reuse) -> bool {
        if self.tuples.get(key).is_some_and(|held| !held.retired) {
            return false;
        }
        self.forget(key);
        self.tuples.insert(*key, Held { reuse, retired: false });
        self.uses.count(key.local(), |count| count.add(reuse));
        true
    }

    /// The connection of a claimed tuple is in TIME-WAIT, and was one to our own addresses: the next claim may have it.
    pub(super) fn retire(&mut self, key: &Key) {
        if let Some(held) = self.tuples.get_mut(key) {
            held.retired = true;
        }
    }

    /// Gives a tuple back. Does nothing if it is not claimed.
    pub(super) fn release(&mut self, key: &Key) {
        if self.tuples.get(key).is_some_and(|held| !held.retired) {
            self.forget(key);
        }
    }

    /// The same for a retired one. Does nothing if another connection has taken it over.
    pub(super) fn release_retired(&mut self, key: &Key) {
        if self.tuples.get(key).is_some_and(|held| held.retired) {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(held) = self.tuples.remove(key) {
            self.uses.count(key.local(), |count| count.remove(held.reuse));
        }
    }
}

/// Bound sockets by port.
struct BoundSockets(HashMap<u16, Vec<Bound>, KeyedState>);

impl BoundSockets {
    fn at(&self, port: u16) -> &[Bound] {
        self.0.get(&port).map(Vec::as_slice).unwrap_or_default()
    }

    fn at_mut(&mut self, port: u16) -> &mut [Bound] {
        self.0.get_mut(&port).map(Vec::as_mut_slice).unwrap_or_default()
    }

    fn overlap(&self, scope: Scope, port: u16) -> bool {
        self.at(port).iter().any(|bound| bound.scope.overlaps(scope))
    }
}

/// How many tuples use a local address and port.
struct Uses {
    by_address: HashMap<SocketAddr, Count, KeyedState>,
    /// IPv4 and IPv6: what a wildcard bind asks.
    by_port: HashMap<u16, [Count; 2], KeyedState>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    all: u32,
    without_reuse: u32,
}

impl Count {
    fn all(self) -> u32 {
        self.all
    }

    fn without_reuse(self) -> u32 {
        self.without_reuse
    }

    fn add(&mut self, reuse: Reuse) {
        self.all += 1;
        self.without_reuse += u32::from(reuse == Reuse::No);
    }

    fn remove(&mut self, reuse: Reuse) {
        self.all = self.all.saturating_sub(1);
        self.without_reuse = self.without_reuse.saturating_sub(u32::from(reuse == Reuse::No));
    }
}

impl Uses {
    /// Whether a tuple of those that `counted` counts uses the port in this scope.
    fn overlap(&self, scope: Scope, port: u16, counted: fn(Count) -> u32) -> bool {
        if !scope.ip.is_unspecified() {
            return self.by_address.get(&SocketAddr::new(scope.ip, port)).is_some_and(|&count| counted(count) > 0);
        }
        let [v4, v6] = self.by_port.get(&port).copied().unwrap_or_default().map(counted);
        (v4 > 0 && scope.takes_v4()) || (v6 > 0 && scope.ip.is_ipv6())
    }

    /// Changes the counts of a local address; empty ones are forgotten.
    fn count(&mut self, local: SocketAddr, change: impl Fn(&mut Count)) {
        let count = self.by_address.entry(local).or_default();
        change(count);
        if *count == Count::default() {
            self.by_address.remove(&local);
        }
        let counts = self.by_port.entry(local.port()).or_default();
        let [v4, v6] = counts;
        change(if local.is_ipv4() { v4 } else { v6 });
        if *counts == <[Count; 2]>::default() {
            self.by_port.remove(&local.port());
        }
    }
}
