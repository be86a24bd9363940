//! Bound addresses and listeners: which of them an arriving SYN belongs to, which may not exist side by side.
//!
//! Owns no connection. [`Binding`] and [`Listening`] are what `net` holds; both let go on drop.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::shared::Shared;
use crate::config::SocketOptions;
use crate::pipe::{AcceptQueue, ListenerId, Rung};

/// The address part of a bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// Canonical: IPv4-mapped addresses are stored as IPv4.
    pub(super) ip: IpAddr,
    /// `[::]` without IPv4.
    pub(super) only_v6: bool,
}

impl Scope {
    /// Whether IPv4 destinations may belong to it.
    pub(super) fn takes_v4(self) -> bool {
        self.ip.is_ipv4() || (self.ip.is_unspecified() && !self.only_v6)
    }

    /// How well this scope fits a destination, the best highest; `None`: not at all. As Linux's `compute_score`.
    pub(super) fn score(self, ip: IpAddr) -> Option<u8> {
        if self.ip == ip {
            return Some(3);
        }
        match (self.ip.is_unspecified(), self.ip.is_ipv4() == ip.is_ipv4()) {
            (true, true) => Some(2),
            (true, false) if ip.is_ipv4() && self.takes_v4() => Some(1),
            _ => None,
        }
    }

    /// Whether some destination belongs to both.
    pub(super) fn overlaps(self, other: Scope) -> bool {
        match (self.ip.is_unspecified(), other.ip.is_unspecified()) {
            (_, false) => self.score(other.ip).is_some(),
            (false, true) => other.score(self.ip).is_some(),
            (true, true) => (self.takes_v4() && other.takes_v4()) || (self.ip.is_ipv6() && other.ip.is_ipv6()),
        }
    }
}

/// One bound socket of a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) id: u64,
    pub(super) scope: Scope,
    pub(super) reuseaddr: bool,
    pub(super) reuseport: bool,
    pub(super) listener: Option<ListenerId>,
}

impl Bound {
    /// Whether `new` may not be bound beside this one (Linux's `inet_csk_bind_conflict`).
    pub(super) fn refuses(&self, new: &Bound) -> bool {
        let shared_port = self.reuseport && new.reuseport;
        let shared_addr = self.reuseaddr && new.reuseaddr && self.listener.is_none();
        self.scope.overlaps(new.scope) && !shared_port && !shared_addr
    }

    /// Whether `new` may not listen beside this one.
    pub(super) fn refuses_listener(&self, new: &Bound) -> bool {
        self.listener.is_some() && self.scope.overlaps(new.scope) && !(self.reuseport && new.reuseport)
    }
}

/// A listener as the registry knows it.
pub(super) struct Listener {
    pub(super) queue: Arc<AcceptQueue>,
    pub(super) options: SocketOptions,
    pub(super) max_syn_backlog: usize,
    /// The socket is IPv6: its IPv4 peers appear as mapped addresses.
    pub(super) v6: bool,
}

/// What the engine needs of a listener for one connection.
pub(super) struct Accepting {
    pub(super) id: ListenerId,
    pub(super) queue: Arc<AcceptQueue>,
    pub(super) options: SocketOptions,
    pub(super) max_syn_backlog: usize,
    pub(super) v6: bool,
}

/// A bound address: nobody else gets it (but for `reuseaddr` and `reuseport`). Released on drop.
pub struct Binding {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) addr: SocketAddr,
    pub(super) only_v6: bool,
}

impl Binding {
    /// The bound address, its port chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Binding").field(&self.addr).finish()
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        self.shared.unbind(self.addr.port(), self.id);
    }
}

/// A listener's handle. Dropping it closes the listener: the queue's connections are reset, half-open ones forgotten.
pub struct Listening {
    /// Names it at the doorbell and in [`Shared`]'s methods.
    pub id: ListenerId,
    /// The bound address.
    pub local: SocketAddr,
    /// Connections that wait for `accept`.
    pub queue: Arc<AcceptQueue>,
    pub(super) binding: Binding,
}

impl Listening {
    /// The stack it belongs to.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.binding.shared
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("id", &self.id).field("local", &self.local).finish_non_exhaustive()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let shared = &self.binding.shared;
        // In this order no SYN finds the listener once its queue is closed.
        shared.close_listener(self.id, self.local.port(), self.binding.id);
        self.queue.close();
        shared.doorbell.ring(Rung::Listener(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        let (ip, only_v6) = text.strip_suffix(" only").map_or((text, false), |ip| (ip, true));
        Scope { ip: ip.parse().expect("literal"), only_v6 }
    }

    #[test]
    fn scopes_overlap_as_on_linux() {
        for (a, b, overlap) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0", "10.0.0.1", true),
            ("0.0.0.0", "0.0.0.0", true),
            ("0.0.0.0", "::", true),
            ("0.0.0.0", ":: only", false),
            ("::", "10.0.0.1", true),
            (":: only", "10.0.0.1", false),
            ("::", "fd00::1", true),
            (":: only", "fd00::1", true),
            ("::", ":: only", true),
            ("0.0.0.0", "fd00::1", false),
            ("fd00::1", "10.0.0.1", false),
        ] {
            assert_eq!(scope(a).overlaps(scope(b)), overlap, "{a} {b}");
            assert_eq!(scope(b).overlaps(scope(a)), overlap, "{b} {a}");
        }
    }

    #[test]
    fn the_most_specific_scope_wins() {
        let ip = "10.0.0.1".parse().expect("literal");
        let scores: Vec<_> =
            ["10.0.0.1", "0.0.0.0", "::", ":: only", "10.0.0.2"].iter().map(|text| scope(text).score(ip)).collect();
        assert_eq!(scores, [Some(3), Some(2), Some(1), None, None]);
    }

    #[test]
    fn who_may_share_a_port() {
        let bound = |reuseaddr, reuseport, listens: bool| Bound {
            id: 0,
            scope: scope("0.0.0.0"),
            reuseaddr,
            reuseport,
            listener: listens.then_some(ListenerId(1)),
        };
        let plain = bound(false, false, false);
        assert!(plain.refuses(&plain));
        assert!(!bound(true, false, false).refuses(&bound(true, false, false)));
        assert!(bound(true, false, true).refuses(&bound(true, false, false)));
        assert!(!bound(false, true, true).refuses(&bound(false, true, false)));
        assert!(bound(false, true, true).refuses(&bound(true, false, false)));
        assert!(bound(true, false, true).refuses_listener(&bound(true, false, false)));
        assert!(!bound(true, false, false).refuses_listener(&bound(true, false, false)));
    }
}
