//! Ephemeral port selection (RFC 6056).
//!
//! Owns the step counters; knows nothing of which ports are taken, it asks. Called by the registry.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use super::demux::octets;
use super::keys::{CounterHash, Domain, Secrets, SipKey, low32};

/// Step counters: as many as destinations that must not learn from each other (RFC 6056 §3.3.4 suggests a small table;
/// Linux has 256 and more).
const COUNTERS: usize = 1_024;
/// Largest random step past the last port given out.
const MAX_STEP: u64 = 8;

/// Chooses ports so that what one destination sees says nothing of another (reliability.md A7).
pub(super) struct Ports {
    offset: SipKey,
    index: SipKey,
    random: CounterHash,
    counters: Vec<u32>,
    low: u16,
    count: u32,
}

impl Ports {
    /// Ports of `range`, both ends included.
    pub(super) fn new(secrets: &Secrets, range: (u16, u16)) -> Ports {
        let mut random = CounterHash::new(secrets);
        let counters = (0..COUNTERS).map(|_| low32(random.next())).collect();
        Ports {
            offset: SipKey::derive(secrets, Domain::PortOffset),
            index: SipKey::derive(secrets, Domain::PortIndex),
            random,
            counters,
            low: range.0,
            count: u32::from(range.1.saturating_sub(range.0)) + 1,
        }
    }

    /// The next port from `local` to `remote` for which `is_free`; `None` if there is none.
    ///
    /// RFC 6056 §3.3.4 (double-hash): offset = F(tuple), counter = table[G(tuple)]; §3.3.5: the counter advances by a random
    /// step, so that a port seen does not tell the next one.
    pub(super) fn pick(
        &mut self,
        local: IpAddr,
        remote: Option<SocketAddr>,
        is_free: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let feed = |hasher: &mut siphasher::sip::SipHasher24| {
            hasher.write(&octets(local));
            if let Some(remote) = remote {
                hasher.write(&octets(remote.ip()));
                hasher.write_u16(remote.port());
            }
        };
        let offset = low32(self.offset.hash(feed));
        let index = usize::try_from(self.index.hash(feed) % COUNTERS as u64).unwrap_or(0);
        let step = low32(self.random.next() % MAX_STEP) + 1;
        let counter = self.counters.get_mut(index)?;
        for tried in 0..self.count {
            let at = offset.wrapping_add(*counter).wrapping_add(tried) % self.count;
            let port = self.low.wrapping_add(u16::try_from(at).unwrap_or(0));
            if is_free(port) {
                *counter = counter.wrapping_add(tried).wrapping_add(step);
                return Some(port);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const RANGE: (u16, u16) = (32_768, 60_999);

    fn ports(seed: u8) -> Ports {
        Ports::new(&Secrets { key: [seed; 32] }, RANGE)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("literal")
    }

    fn remote(text: &str) -> Option<SocketAddr> {
        Some(text.parse().expect("literal"))
    }

    #[test]
    fn every_port_of_the_range_is_found_and_then_none() {
        let mut ports = ports(1);
        let mut taken = HashSet::new();
        while let Some(port) = ports.pick(ip("10.0.0.1"), remote("10.0.0.2:80"), |port| !taken.contains(&port)) {
            assert!((RANGE.0..=RANGE.1).contains(&port));
            assert!(taken.insert(port));
        }
        assert_eq!(taken.len(), 28_232);
    }

    #[test]
    fn a_range_of_one_port_works() {
        let mut ports = Ports::new(&Secrets { key: [2; 32] }, (5, 5));
        assert_eq!(ports.pick(ip("::1"), None, |_| true), Some(5));
        assert_eq!(ports.pick(ip("::1"), None, |_| false), None);
    }

    #[test]
    fn steps_are_small_and_not_constant() {
        // RFC 6056 §3.4: small steps keep the reuse interval of a port long.
        let mut ports = ports(3);
        let seen: Vec<u32> = (0..200)
            .filter_map(|_| ports.pick(ip("10.0.0.1"), remote("10.0.0.2:80"), |_| true))
            .map(u32::from)
            .collect();
        let steps: HashSet<u32> = seen.windows(2).map(|pair| (pair[1] + 28_232 - pair[0]) % 28_232).collect();
        assert!(steps.iter().all(|&step| (1..=8).contains(&step)), "{steps:?}");
        assert!(steps.len() > 4, "{steps:?}");
    }

    #[test]
    fn ports_to_one_destination_say_nothing_of_another() {
        // reliability.md A7: after A has seen a port, B's lies anywhere. Chi² over 32 buckets of the difference.
        let mut buckets = [0u32; 32];
        let mut ports = ports(4);
        for n in 0..10_000u32 {
            let a = ports.pick(ip("10.0.0.1"), remote("10.0.0.2:80"), |_| true).expect("free");
            let b = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 80));
            let b = ports.pick(ip("10.0.0.1"), Some(b), |_| true).expect("free");
            let difference = (u32::from(b) + 28_232 - u32::from(a)) % 28_232;
            buckets[(difference * 32 / 28_232) as usize] += 1;
        }
        let expected = 10_000.0 / 32.0;
        let chi: f64 = buckets.iter().map(|&seen| (f64::from(seen) - expected).powi(2) / expected).sum();
        assert!(chi < 70.0, "chi² {chi}");
    }
}
