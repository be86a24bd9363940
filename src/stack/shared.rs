//! [`Shared`]: what `net` reaches of a stack without asking the reactor. The registry behind its mutex, the doorbell, the
//! memory budget, the published counters.
//!
//! Never touches a connection. The engine and every handle hold it in an `Arc`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::addresses::{canonical, check, destination, is_local, source_for};
use super::demux::Key;
use super::keys::Secrets;
use super::listener::{Binding, Bound, Listener, Listening, Scope};
use super::registry::{Registry, Reuse};
use crate::config::{SocketOptions, StackConfig};
use crate::error::ConnError;
use crate::pipe::{AcceptQueue, Budget, Doorbell, ListenerId, Published, Rung};
use crate::stats::Stats;
use crate::wire::FourTuple;

/// The synchronous half of a stack.
pub struct Shared {
    registry: Mutex<Registry>,
    /// Where user operations ring.
    pub doorbell: Arc<Doorbell>,
    /// Memory of every connection.
    pub budget: Arc<Budget>,
    /// Counters as of the end of the reactor's last turn.
    pub stats: Published<Stats>,
    /// Settings.
    pub config: StackConfig,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("addresses", &self.config.addresses).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(config: StackConfig, secrets: &Secrets) -> Result<Arc<Shared>, ConnError> {
        check(&config.addresses)?;
        let (low, high) = config.ephemeral_ports;
        if low == 0 || low > high {
            return Err(ConnError::InvalidInput);
        }
        Ok(Arc::new(Shared {
            registry: Mutex::new(Registry::new(secrets, config.ephemeral_ports)),
            doorbell: Doorbell::new(),
            budget: Budget::new(config.max_reserved, config.memory_budget),
            stats: Published::default(),
            config,
        }))
    }

    /// The registry, locked. A panic elsewhere leaves it consistent: every method finishes its updates or none.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a local address and port (0: an ephemeral one) until the [`Binding`] is dropped.
    ///
    /// # Errors
    /// `AddrNotAvailable`: not one of ours. `AddrInUse`. `NetworkDown`.
    pub fn bind(self: &Arc<Self>, addr: SocketAddr, options: &SocketOptions) -> Result<Binding, ConnError> {
        let ip = canonical(addr.ip());
        if !ip.is_unspecified() && !is_local(&self.config.addresses, ip) {
            return Err(ConnError::AddrNotAvailable);
        }
        let scope = Scope { ip, only_v6: options.only_v6 && ip.is_ipv6() };
        let new = Bound { id: 0, scope, reuseaddr: options.reuseaddr, reuseport: options.reuseport, listener: None };
        let (id, port) = self.registry().bind(new, addr.port())?;
        let mut addr = addr;
        addr.set_port(port);
        Ok(Binding { shared: Arc::clone(self), id, addr, only_v6: scope.only_v6 })
    }

    pub(super) fn unbind(&self, port: u16, id: u64) {
        self.registry().unbind(port, id);
    }

    /// Listens on a bound address: a SYN that comes after this is answered.
    ///
    /// # Errors
    /// `AddrInUse`: another listener has the port. `NetworkDown`.
    pub fn listen(
        self: &Arc<Self>,
        binding: Binding,
        options: SocketOptions,
        backlog: u32,
    ) -> Result<Listening, ConnError> {
        let queue = AcceptQueue::new(usize::try_from(backlog).unwrap_or(usize::MAX));
        let listener = Listener {
            queue: Arc::clone(&queue),
            options,
            max_syn_backlog: self.config.max_syn_backlog,
            v6: binding.addr.is_ipv6(),
        };
        let id = self.registry().listen(binding.addr.port(), binding.id, listener)?;
        Ok(Listening { id, local: binding.addr, queue, binding })
    }

    pub(super) fn close_listener(&self, id: ListenerId, port: u16, binding: u64) {
        // The listener's queue must not be dropped under the lock: that would drop connections.
        let closed = self.registry().close_listener(id, port, binding);
        drop(closed);
    }

    /// Chooses source address and port for a connection to `remote` and claims the 4-tuple. The engine releases it when the
    /// control block (TIME-WAIT included) ends; [`Shared::release`] does if the order never reached the engine.
    ///
    /// # Errors
    /// `InvalidInput`: families differ. `EmbeddedOnly`, `NetworkUnreachable`: no way there. `TupleInUse`. `PortsExhausted`.
    /// `Refused`: port 0. `NetworkDown`.
    pub fn claim(
        &self,
        binding: Option<&Binding>,
        remote: SocketAddr,
        options: &SocketOptions,
    ) -> Result<FourTuple, ConnError> {
        let remote_ip = destination(&self.config.addresses, canonical(remote.ip()));
        let bound = binding.map(|binding| binding.addr);
        if let Some(bound) = bound {
            // An IPv6 socket reaches IPv4 by mapped addresses only, and not with IPV6_V6ONLY.
            let only_v6 = options.only_v6 || binding.is_some_and(|binding| binding.only_v6);
            if bound.is_ipv4() != remote.is_ipv4() || (only_v6 && bound.is_ipv6() && remote_ip.is_ipv4()) {
                return Err(ConnError::InvalidInput);
            }
        }
        if remote.port() == 0 {
            // Nobody listens on port 0; answering here saves a segment that parsers drop.
            return Err(ConnError::Refused);
        }
        let mut source = source_for(&self.config, remote_ip)?;
        if let Some(ip) = bound.map(|bound| canonical(bound.ip())).filter(|ip| !ip.is_unspecified()) {
            let leaves = !is_local(&self.config.addresses, remote_ip);
            if ip.is_ipv4() != remote_ip.is_ipv4() || (ip.is_loopback() && leaves) {
                return Err(ConnError::InvalidInput);
            }
            source = ip;
        }
        let local = SocketAddr::new(source, bound.map_or(0, |bound| bound.port()));
        self.registry().claim(local, SocketAddr::new(remote_ip, remote.port()), Reuse::of(options))
    }

    /// Gives back a tuple whose connect order never reached the engine.
    pub fn release(&self, tuple: &FourTuple) {
        self.registry().release(&Key::new(tuple));
    }

    /// Options that connections of a listener inherit; `None` if it is closed.
    pub fn listener_options(&self, id: ListenerId) -> Option<SocketOptions> {
        self.registry().listener(id).map(|listener| listener.options)
    }

    /// Changes what later connections of a listener inherit.
    pub fn set_listener_options(&self, id: ListenerId, f: impl FnOnce(&mut SocketOptions)) {
        if let Some(listener) = self.registry().listener_mut(id) {
            f(&mut listener.options);
        }
    }

    /// Connections that wait in a listener's accept queue.
    pub fn backlog_len(&self, id: ListenerId) -> usize {
        let queue = self.registry().listener(id).map(|listener| Arc::clone(&listener.queue));
        queue.map_or(0, |queue| queue.len())
    }

    /// Bounds a listener's half-open connections.
    pub fn set_max_syn_backlog(&self, id: ListenerId, max: usize) {
        if let Some(listener) = self.registry().listener_mut(id) {
            listener.max_syn_backlog = max;
        }
    }

    /// Whether packets to `ip` end in this stack.
    pub fn is_local(&self, ip: std::net::IpAddr) -> bool {
        is_local(&self.config.addresses, ip)
    }

    /// Counters as of the end of the reactor's last turn.
    pub fn stats(&self) -> Stats {
        self.stats.look(Stats::clone, || self.doorbell.ring(Rung::Counters))
    }
}
