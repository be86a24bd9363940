//! One direction of a [`Fault`](super::Fault): decides the fate of each packet and holds those that are under way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::config::{FaultConfig, FaultStats};
use crate::time::Instant;

/// Packet buffers kept for reuse; each has held at most one packet of MTU size.
const SPARE_BUFFERS: usize = 256;

#[derive(Debug)]
pub(super) struct Lane {
    rng: fastrand::Rng,
    /// State of the burst model.
    bad: bool,
    /// Packets under way: earliest first, then in the order they came.
    queue: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    next_order: u64,
    /// Due time of the latest packet that was not reordered.
    last_due: Instant,
    /// When the rate-limited line is free again, in nanoseconds of the stack's clock.
    line_free_nanos: u64,
}

/// Ordered by due time and arrival; the bytes take no part because `order` is unique.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    order: u64,
    packet: Vec<u8>,
}

impl Lane {
    pub(super) fn new(rng: fastrand::Rng) -> Lane {
        Lane {
            rng,
            bad: false,
            queue: BinaryHeap::new(),
            bytes: 0,
            spare: Vec::new(),
            next_order: 0,
            last_due: Instant::ZERO,
            line_free_nanos: 0,
        }
    }

    /// The oldest packet if it is due.
    pub(super) fn peek_due(&self, now: Instant) -> Option<&[u8]> {
        self.queue.peek().filter(|held| held.0.due <= now).map(|held| held.0.packet.as_slice())
    }

    /// When the next packet is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.peek().map(|held| held.0.due)
    }

    /// Forgets the packet last peeked.
    pub(super) fn pop(&mut self) {
        if let Some(Reverse(Held { packet, .. })) = self.queue.pop() {
            self.bytes -= packet.len();
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(packet);
            }
        }
    }

    /// A packet arrives: it is lost, or it will be due some time.
    pub(super) fn admit(&mut self, config: &FaultConfig, stats: &mut FaultStats, now: Instant, packet: &[u8]) {
        if config.blackouts.iter().any(|window| window.contains(&now.since(Instant::ZERO))) {
            stats.blacked_out += 1;
            return;
        }
        if self.is_lost(config) {
            stats.lost += 1;
            return;
        }
        let copies = if self.chance(config.duplicate) { 2 } else { 1 };
        stats.duplicated += copies - 1;
        for _ in 0..copies {
            self.enqueue(config, stats, now, packet);
        }
    }

    fn enqueue(&mut self, config: &FaultConfig, stats: &mut FaultStats, now: Instant, packet: &[u8]) {
        if self.bytes + packet.len() > config.limit_bytes {
            stats.overflowed += 1;
            return;
        }
        let Some(sent) = self.pass_line(config, now, packet.len()) else {
            stats.overflowed += 1;
            return;
        };
        let mut due = sent + config.delay + config.jitter.mul_f64(self.fraction_if(!config.jitter.is_zero()));
        if self.chance(config.reorder) {
            stats.reordered += 1;
            due = due.max(self.last_due) + config.reorder_by;
        } else {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(packet);
        if self.chance(config.corrupt) {
            stats.corrupted += 1;
            self.flip_bits(&mut copy);
        }
        stats.passed += 1;
        self.bytes += copy.len();
        self.queue.push(Reverse(Held { due, order: self.next_order, packet: copy }));
        self.next_order += 1;
    }

    fn is_lost(&mut self, config: &FaultConfig) -> bool {
        let lost = self.chance(config.loss);
        let Some(burst) = config.burst else { return lost };
        self.bad = if self.bad { !self.chance(burst.leave) } else { self.chance(burst.enter) };
        lost | (self.bad && self.chance(burst.loss))
    }

    /// Puts a packet on the rate-limited line. `None`: its queue is full. Otherwise when its last bit has left.
    fn pass_line(&mut self, config: &FaultConfig, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = config.rate else { return Some(now) };
        let speed = u128::from(rate.bytes_per_second.max(1));
        let now_nanos = now.as_micros().saturating_mul(1_000);
        let backlog_nanos = u128::from(self.line_free_nanos.saturating_sub(now_nanos));
        let backlog = backlog_nanos * speed / 1_000_000_000;
        let waiting = usize::try_from(backlog).unwrap_or(usize::MAX);
        // An idle line takes a packet of any size at once; only what waits is bounded.
        if waiting > 0 && waiting.saturating_add(len) > rate.queue_bytes {
            return None;
        }
        let takes = len as u128 * 1_000_000_000 / speed;
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        self.line_free_nanos = self.line_free_nanos.max(now_nanos).saturating_add(takes);
        Some(Instant::from_micros(self.line_free_nanos.div_ceil(1_000)))
    }

    fn flip_bits(&mut self, packet: &mut [u8]) {
        for _ in 0..self.rng.usize(1..=3) {
            let at = self.rng.usize(..packet.len().max(1));
            let bit = self.rng.u8(..8);
            if let Some(byte) = packet.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// Draws only if there is something to decide, so that a fault that is off does not shift the dice of the others.
    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    fn fraction_if(&mut self, wanted: bool) -> f64 {
        if wanted { self.rng.f64() } else { 0.0 }
    }
}
