//! The connection table: [`Conns`] owns every control block, finds it by 4-tuple (one keyed lookup a segment) or by [`ConnId`].
//!
//! Knows nothing of what a control block does. Called by the engine only.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hashbrown::HashTable;
use slab::Slab;

use super::keys::{Domain, KeyedState, Secrets, low32};
use crate::pipe::{ConnId, ListenerId};
use crate::tcb::Tcb;
use crate::wire::FourTuple;

/// A [`FourTuple`] in 36 bytes instead of 64: a half-open connection must stay small (reliability.md A8).
///
/// IPv4 is stored as ::ffff:a.b.c.d; nothing collides, for mapped addresses never come off the wire (A16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
}

impl Key {
    /// The key of a tuple. Scope and flow label are not part of it.
    pub(super) fn new(tuple: &FourTuple) -> Key {
        Key {
            local: octets(tuple.local.ip()),
            remote: octets(tuple.remote.ip()),
            local_port: tuple.local.port(),
            remote_port: tuple.remote.port(),
        }
    }

    /// Our end.
    pub(super) fn local(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.local).to_canonical(), self.local_port)
    }

    /// The peer's end.
    pub(super) fn remote(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.remote).to_canonical(), self.remote_port)
    }

    /// The peer's address as an IPv6 socket shows it.
    pub(super) fn mapped_remote(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.remote)
    }

    /// Feeds all 36 bytes to a hasher, in one piece: SipHash is slow with the ends of pieces.
    pub(super) fn feed(&self, hasher: &mut impl Hasher) {
        let mut bytes = [0; 36];
        let (addresses, ports) = bytes.split_at_mut(32);
        let (local, remote) = addresses.split_at_mut(16);
        local.copy_from_slice(&self.local);
        remote.copy_from_slice(&self.remote);
        let both = u32::from(self.local_port) << 16 | u32::from(self.remote_port);
        ports.copy_from_slice(&both.to_ne_bytes());
        hasher.write(&bytes);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.feed(state);
    }
}

/// An address as 16 bytes, IPv4 mapped.
pub(super) fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Which bounded table a connection counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// SYN-RECEIVED after a passive open: no buffers yet. (After a simultaneous open there are, and it is live.)
    HalfOpen,
    /// Has buffers.
    Live,
    /// A small record with a deadline.
    TimeWait,
}

/// Whether a connection counts against the bound on orphans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orphan {
    /// It has an owner.
    No,
    /// The owner is gone, the bytes are not.
    Counted,
    /// It was the oldest orphan over the bound; its RST is under way.
    Evicted,
}

/// Whether the registry holds a connection's tuple for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    No,
    Held,
    /// It is in TIME-WAIT, between our own addresses, and has nothing left to send: the next claim may have the tuple.
    Retired,
}

/// What the engine keeps beside a control block.
pub(super) struct Conn {
    pub(super) tcb: Tcb,
    pub(super) key: Key,
    pub(super) generation: u32,
    /// Who accepts it, while half-open.
    pub(super) listener: Option<ListenerId>,
    pub(super) phase: Phase,
    pub(super) orphan: Orphan,
    /// In a transmit queue.
    pub(super) queued: bool,
    /// In the list of `end_turn`.
    pub(super) touched: bool,
    /// The peer is one of our own addresses: packets take the loopback.
    pub(super) local: bool,
    /// The registry holds its tuple.
    pub(super) claim: Claim,
}

impl Conn {
    /// A live connection that nothing has happened to.
    pub(super) fn new(tcb: Tcb, key: Key, id: ConnId, local: bool) -> Conn {
        Conn {
            tcb,
            key,
            generation: id.generation,
            listener: None,
            phase: Phase::Live,
            orphan: Orphan::No,
            queued: false,
            touched: false,
            local,
            claim: Claim::No,
        }
    }

    /// The phase its control block is in now.
    pub(super) fn current_phase(&self) -> Phase {
        match &self.tcb {
            Tcb::SynReceived(_) if self.listener.is_some() => Phase::HalfOpen,
            Tcb::TimeWait(_) => Phase::TimeWait,
            Tcb::SynSent(_) | Tcb::SynReceived(_) | Tcb::Open(_) | Tcb::Closed => Phase::Live,
        }
    }

    /// Its id in this slot.
    pub(super) fn id(&self, slot: u32) -> ConnId {
        ConnId { index: slot, generation: self.generation }
    }
}

/// Where the connection with a certain key is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Of the key, so that a table that grows need not look at it again.
    hash: u32,
    slot: u32,
}

/// The hash as the table wants it: it takes its tag from the upper bits, and from the lower ones where to look.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Every connection of a stack.
pub(super) struct Conns {
    slab: Slab<Conn>,
    by_key: HashTable<Place>,
    hashing: KeyedState,
    /// Grows with every insertion, so that an id of a dead connection never names a new one.
    generation: u32,
}

impl Conns {
    /// An empty table.
    pub(super) fn new(secrets: &Secrets) -> Conns {
        let hashing = KeyedState::new(secrets, Domain::Demux);
        Conns { slab: Slab::new(), by_key: HashTable::new(), hashing, generation: 0 }
    }

    /// Adds a connection that `make` builds, knowing its id. The caller has made sure that the key is free.
    pub(super) fn insert(&mut self, key: Key, make: impl FnOnce(ConnId) -> Conn) -> ConnId {
        debug_assert!(self.find(&key).is_none(), "two connections with one key");
        let hash = self.hash(&key);
        let entry = self.slab.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let slot = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let id = ConnId { index: slot, generation: self.generation };
        entry.insert(make(id));
        self.by_key.insert_unique(spread(hash), Place { hash, slot }, |place| spread(place.hash));
        id
    }

    /// The slot of a 4-tuple.
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hash(key);
        let is_it = |place: &Place| place.hash == hash && self.get(place.slot).is_some_and(|conn| conn.key == *key);
        self.by_key.find(spread(hash), is_it).map(|place| place.slot)
    }

    fn hash(&self, key: &Key) -> u32 {
        low32(self.hashing.hash_one(key))
    }

    /// The slot of an id, if that connection still lives.
    pub(super) fn slot_of(&self, id: ConnId) -> Option<u32> {
        self.get(id.index).filter(|conn| conn.generation == id.generation).map(|_| id.index)
    }

    /// The connection in a slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Conn> {
        self.slab.get(usize::try_from(slot).ok()?)
    }

    /// The connection in a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Conn> {
        self.slab.get_mut(usize::try_from(slot).ok()?)
    }

    /// Takes a connection out of both tables.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Conn> {
        let conn = self.slab.try_remove(usize::try_from(slot).ok()?)?;
        if let Ok(place) = self.by_key.find_entry(spread(self.hash(&conn.key)), |place| place.slot == slot) {
            place.remove();
        }
        Some(conn)
    }

    /// All slots are below this.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slab.capacity()).unwrap_or(u32::MAX)
    }

    /// All slots, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        self.slab.iter().filter_map(|(slot, conn)| Some((u32::try_from(slot).ok()?, conn)))
    }
}

/// Connections by age, for a table that evicts its oldest. Ids of connections that left are skipped and, when they
/// outnumber the others, swept out: amortised O(1).
#[derive(Default)]
pub(super) struct Ages(VecDeque<ConnId>);

impl Ages {
    /// Adds the youngest. `alive` says how many of the entries still count, `keep` which.
    pub(super) fn push(&mut self, id: ConnId, alive: usize, keep: impl Fn(ConnId) -> bool) {
        if self.0.len() > alive.saturating_mul(2) + 64 {
            self.0.retain(|&old| keep(old));
        }
        self.0.push_back(id);
    }

    /// Takes the oldest entry, alive or not.
    pub(super) fn pop_oldest(&mut self) -> Option<ConnId> {
        self.0.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn finds_what_a_map_finds() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut conns = Conns::new(&Secrets { key: [3; 32] });
        let mut model: HashMap<(u16, u16), u32> = HashMap::new();
        // Grows to some thousands, through several tables, and shrinks, twice.
        for step in 0..60_000u32 {
            let ports = (random.u16(0..64), random.u16(0..256));
            let key = Key { local: [1; 16], remote: [2; 16], local_port: ports.0, remote_port: ports.1 };
            assert_eq!(conns.find(&key), model.get(&ports).copied(), "step {step}");
            match model.remove(&ports) {
                Some(slot) if step / 15_000 % 2 == 1 => assert!(conns.remove(slot).is_some_and(|conn| conn.key == key)),
                Some(slot) => assert_eq!(model.insert(ports, slot), None),
                None if step / 15_000 % 2 == 1 => {}
                None => {
                    let id = conns.insert(key, |id| Conn::new(Tcb::Closed, key, id, false));
                    assert_eq!(conns.slot_of(id), Some(id.index));
                    model.insert(ports, id.index);
                }
            }
        }
        assert_eq!(conns.iter().count(), model.len());
        assert!(model.len() > 1_000);
    }
}
