//! Initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 §5.4).
//!
//! Owns two keys and no counter: both numbers are functions of the tuple and the clock. Called at every open.

use std::hash::Hasher;

use super::demux::{Key, octets};
use super::keys::{Domain, Secrets, SipKey, low32};
use crate::time::Instant;
use crate::wire::{FourTuple, Seq};

/// Replaces the ISS of some connections; simulation only (sequence numbers near 2³¹ and 2³²).
pub type IsnHook = Box<dyn FnMut(&FourTuple) -> Option<Seq> + Send>;

/// Chooses the numbers a connection starts with.
pub(super) struct Isn {
    isn: SipKey,
    timestamps: SipKey,
    hook: Option<IsnHook>,
}

impl Isn {
    /// Keys from the stack's secret.
    pub(super) fn new(secrets: &Secrets) -> Isn {
        Isn {
            isn: SipKey::derive(secrets, Domain::Isn),
            timestamps: SipKey::derive(secrets, Domain::Timestamps),
            hook: None,
        }
    }

    /// ISS of a new connection.
    pub(super) fn iss(&mut self, now: Instant, tuple: &FourTuple) -> Seq {
        if let Some(forced) = self.hook.as_mut().and_then(|hook| hook(tuple)) {
            return forced;
        }
        // RFC 6528 §3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M a 4 µs timer.
        // RFC 9293 §3.4.1 (MUST-8, SHLD-1): clock driven, with a keyed function.
        let clock = low32(now.as_micros() / 4);
        Seq::new(low32(self.isn.hash_tuple(&Key::new(tuple)))) + clock
    }

    /// What is added to the timestamp clock of a connection.
    ///
    /// RFC 7323 §5.4: a random offset per connection hides uptime; keyed by the address pair (as Linux) it stays monotonic
    /// from one connection to the next, which RFC 6191 needs to reuse a TIME-WAIT.
    pub(super) fn ts_offset(&self, tuple: &FourTuple) -> u32 {
        low32(self.timestamps.hash(|hasher| {
            hasher.write(&octets(tuple.local.ip()));
            hasher.write(&octets(tuple.remote.ip()));
        }))
    }

    /// Forces ISNs.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn set_hook(&mut self, hook: Option<IsnHook>) {
        self.hook = hook;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(local_port: u16, remote: &str) -> FourTuple {
        FourTuple {
            local: std::net::SocketAddr::from(([10, 0, 0, 1], local_port)),
            remote: remote.parse().expect("literal"),
        }
    }

    #[test]
    fn iss_grows_with_time_by_one_every_four_microseconds() {
        let mut isn = Isn::new(&Secrets { key: [3; 32] });
        let tuple = tuple(40_000, "10.0.0.2:80");
        let first = isn.iss(Instant::ZERO, &tuple);
        assert_eq!(isn.iss(Instant::from_micros(3), &tuple), first);
        assert_eq!(isn.iss(Instant::from_micros(4), &tuple), first + 1);
        assert_eq!(isn.iss(Instant::from_millis(1_000), &tuple), first + 250_000);
        // The clock wraps after 4.77 h without a jump.
        let wrap = Instant::from_micros(4 << 32);
        assert_eq!(isn.iss(wrap, &tuple), first);
    }

    #[test]
    fn iss_of_many_tuples_is_flat_and_uncorrelated() {
        // reliability.md A6: chi² over 256 buckets (255 degrees of freedom: 99.99 % below 350) and lag-1 autocorrelation.
        let mut isn = Isn::new(&Secrets { key: [4; 32] });
        let mut buckets = [0u32; 256];
        let mut values = Vec::new();
        for n in 0..100_000u32 {
            let remote = format!("10.{}.{}.{}:80", 1 + n / 50_000, n / 250 % 200, n % 250 + 1);
            let value = isn.iss(Instant::ZERO, &tuple((n % 60_000) as u16 + 1, &remote)).raw();
            buckets[(value >> 24) as usize] += 1;
            values.push(f64::from(value) / f64::from(u32::MAX) - 0.5);
        }
        let expected = 100_000.0 / 256.0;
        let chi: f64 = buckets.iter().map(|&seen| (f64::from(seen) - expected).powi(2) / expected).sum();
        assert!(chi < 350.0, "chi² {chi}");
        let lag: f64 = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / 100_000.0 * 12.0;
        assert!(lag.abs() < 0.02, "autocorrelation {lag}");
    }

    #[test]
    fn two_stacks_share_nothing_and_offsets_differ_per_pair() {
        let (mut one, mut two) = (Isn::new(&Secrets { key: [5; 32] }), Isn::new(&Secrets { key: [6; 32] }));
        let (a, b) = (tuple(1, "10.0.0.2:80"), tuple(2, "10.0.0.3:80"));
        assert_ne!(one.iss(Instant::ZERO, &a), two.iss(Instant::ZERO, &a));
        assert_ne!(one.ts_offset(&a), one.ts_offset(&b));
        assert_ne!(one.ts_offset(&a), two.ts_offset(&a));
        // Same pair of hosts, other ports: same offset.
        assert_eq!(one.ts_offset(&a), one.ts_offset(&tuple(9, "10.0.0.2:99")));
    }
}
