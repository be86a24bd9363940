//! [`Secrets`] and what is derived from them: one SipHash key per purpose, keyed hash tables, a counter hash.
//!
//! Never draws randomness: the builder does that once. Called by everything in `stack` that must not be predictable.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use siphasher::sip::{SipHasher13, SipHasher24};
use siphasher::sip128::{Hasher128, SipHasher24 as SipHasher24x128};

use super::demux::Key;

/// The one secret of a stack. Everything keyed is derived from it with domain separation.
#[derive(Clone)]
pub struct Secrets {
    /// 256 bits from the operating system, or from a seed in a simulation.
    pub key: [u8; 32],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A secret that reaches a log is none.
        f.write_str("Secrets(..)")
    }
}

/// What a derived key is for. The discriminant is the domain separator.
#[derive(Clone, Copy)]
pub(super) enum Domain {
    /// The connection table.
    Demux = 1,
    /// Initial sequence numbers.
    Isn,
    /// Timestamp offsets.
    Timestamps,
    /// Where the port search of a destination starts.
    PortOffset,
    /// Which step counter a destination uses.
    PortIndex,
    /// Spreading connections over listeners.
    Spread,
    /// The registry's tables.
    Registry,
    /// The counter hash.
    Counter,
}

/// A 128-bit SipHash key for one purpose.
#[derive(Clone, Copy)]
pub(super) struct SipKey([u8; 16]);

impl SipKey {
    /// Derives the key of `domain`.
    pub(super) fn derive(secrets: &Secrets, domain: Domain) -> SipKey {
        let (outer, inner) = secrets.key.split_at(16);
        let outer: [u8; 16] = outer.try_into().unwrap_or_default();
        let mut hasher = SipHasher24x128::new_with_key(&outer);
        hasher.write(inner);
        hasher.write_u8(domain as u8);
        SipKey(hasher.finish128().as_bytes())
    }

    /// Keyed hash of what `write` feeds.
    pub(super) fn hash(&self, write: impl FnOnce(&mut SipHasher24)) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        write(&mut hasher);
        hasher.finish()
    }

    /// Keyed hash of both ends of a connection.
    pub(super) fn hash_tuple(&self, key: &Key) -> u64 {
        self.hash(|hasher| key.feed(hasher))
    }
}

/// Hash tables whose keys a peer may choose (reliability.md A30: no HashDoS).
#[derive(Clone, Copy)]
pub(super) struct KeyedState(SipKey);

impl KeyedState {
    /// A hasher factory for `domain`.
    pub(super) fn new(secrets: &Secrets, domain: Domain) -> KeyedState {
        KeyedState(SipKey::derive(secrets, domain))
    }
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0.0)
    }
}

/// Unpredictable numbers without randomness: the keyed hash of a counter.
pub(super) struct CounterHash {
    key: SipKey,
    next: u64,
}

impl CounterHash {
    /// Starts at zero.
    pub(super) fn new(secrets: &Secrets) -> CounterHash {
        CounterHash { key: SipKey::derive(secrets, Domain::Counter), next: 0 }
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        let count = self.next;
        self.next = self.next.wrapping_add(1);
        self.key.hash(|hasher| hasher.write_u64(count))
    }
}

/// The low half of a hash.
pub(super) const fn low32(hash: u64) -> u32 {
    (hash & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_stacks_share_nothing() {
        let one = Secrets { key: [1; 32] };
        let two = Secrets { key: [2; 32] };
        let hash = |secrets: &Secrets, domain| SipKey::derive(secrets, domain).hash(|h| h.write_u32(7));
        let all = [
            hash(&one, Domain::Isn),
            hash(&one, Domain::Timestamps),
            hash(&two, Domain::Isn),
            hash(&two, Domain::Timestamps),
        ];
        for (index, value) in all.iter().enumerate() {
            assert!(all.iter().skip(index + 1).all(|other| other != value));
        }
        assert_eq!(hash(&one, Domain::Isn), hash(&one, Domain::Isn));
        assert_eq!(format!("{one:?}"), "Secrets(..)");
    }
}
