//! One direction of a link: what happens to a packet on its way.

use std::time::Duration;

use fastrand::Rng;

use super::plan::{LinkPlan, Plan};
use crate::support::packet;

/// A packet that will arrive.
#[derive(Debug)]
pub struct Arrival {
    pub after: Duration,
    pub bytes: Vec<u8>,
}

/// See the module. Times are since the run began.
#[derive(Debug)]
pub struct Link {
    plan: LinkPlan,
    heal: Duration,
    blackout: Option<(Duration, Duration)>,
    bad: bool,
    /// When the last queued byte has left a rate-limited link.
    drained: Duration,
    count: u64,
}

impl Link {
    pub fn new(plan: &Plan, direction: usize) -> Link {
        let blackout = plan.blackout.map(|(start, len)| (start, start + len));
        let link = plan.links[direction].clone();
        Link { plan: link, heal: plan.heal, blackout, bad: false, drained: Duration::ZERO, count: 0 }
    }

    /// Sends a packet at `now`: nothing, one or two arrivals.
    pub fn send(&mut self, rng: &mut Rng, now: Duration, bytes: Vec<u8>) -> Vec<Arrival> {
        let healed = now >= self.heal;
        let dark = self.blackout.is_some_and(|(start, end)| (start..end).contains(&now));
        let state = usize::from(self.bad);
        if rng.f64() < self.plan.turn[state] {
            self.bad = !self.bad;
        }
        let unlucky = self.plan.lose_one == Some(self.count);
        self.count += 1;
        let mut lost = (rng.f64() < self.plan.loss[state] && !healed) || unlucky;
        if self.plan.lose_acks > 0.0 && !healed && packet::parts(&bytes).is_some_and(|(_, text)| text == bytes.len()) {
            lost |= rng.f64() < self.plan.lose_acks;
        }
        let Some(queued) = self.queue(now, bytes.len()).filter(|_| !lost && !dark) else {
            return Vec::new();
        };
        let mut out = Vec::with_capacity(1);
        let copies = if !healed && rng.f64() < self.plan.duplicate { 2 } else { 1 };
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if !healed && rng.f64() < self.plan.corrupt {
                let bit = rng.usize(..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            let mut after = queued + self.plan.delay + self.plan.jitter.mul_f64(rng.f64());
            if rng.f64() < self.plan.reorder {
                after += Duration::from_micros(rng.u64(..100_000));
            }
            out.push(Arrival { after, bytes });
        }
        out
    }

    /// Time in the queue of a rate-limited link; `None` if it is full.
    fn queue(&mut self, now: Duration, len: usize) -> Option<Duration> {
        let Some((rate, limit)) = self.plan.rate else { return Some(Duration::ZERO) };
        let backlog = self.drained.saturating_sub(now);
        if backlog.as_secs_f64() * rate as f64 > limit as f64 {
            return None;
        }
        self.drained = now.max(self.drained) + Duration::from_secs_f64(len as f64 / rate as f64);
        Some(self.drained - now)
    }
}
