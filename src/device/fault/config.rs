//! What can go wrong with a packet, and how often it did.

use std::ops::Range;
use std::time::Duration;

/// The fate of the packets of one direction. Probabilities are per packet, 0 to 1. The default does no harm.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultConfig {
    /// Probability that a packet is lost.
    pub loss: f64,
    /// Loss in bursts, besides `loss`.
    pub burst: Option<BurstLoss>,
    /// Time every packet takes.
    pub delay: Duration,
    /// A uniform random part of this is added to `delay`. Order is kept: a packet never overtakes an earlier one
    /// because of jitter.
    pub jitter: Duration,
    /// Probability that a packet is held back by `reorder_by`, so that later ones overtake it.
    pub reorder: f64,
    /// How long a reordered packet is held back beyond its delay.
    pub reorder_by: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that one to three bits of a packet flip.
    pub corrupt: f64,
    /// A line of limited speed with a queue in front of it.
    pub rate: Option<RateLimit>,
    /// Times, since the stack began, during which nothing passes.
    pub blackouts: Vec<Range<Duration>>,
    /// Most bytes held back at a time; packets above that are dropped. Bounds the memory of the wrapper.
    pub limit_bytes: usize,
}

impl Default for FaultConfig {
    /// No fault; 16 MiB may be under way.
    fn default() -> Self {
        FaultConfig {
            loss: 0.0,
            burst: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: 0.0,
            reorder_by: Duration::from_millis(5),
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            blackouts: Vec::new(),
            limit_bytes: 16 << 20,
        }
    }
}

/// Loss in bursts: the two-state model of Gilbert and Elliott. In the good state nothing is lost, in the bad state
/// packets are lost with probability `loss`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstLoss {
    /// Probability per packet to go from good to bad.
    pub enter: f64,
    /// Probability per packet to go from bad to good; the mean length of a burst is its inverse.
    pub leave: f64,
    /// Probability that a packet is lost in the bad state.
    pub loss: f64,
}

/// A line of limited speed with a bounded queue in front of it (tail drop).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Speed of the line; zero counts as one.
    pub bytes_per_second: u64,
    /// Bytes that may wait; a packet that does not fit is dropped.
    pub queue_bytes: usize,
}

/// How often each fate was met. A duplicated packet counts twice in `passed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultStats {
    /// Packets let through, now or later.
    pub passed: u64,
    /// Lost by chance (single or burst).
    pub lost: u64,
    /// Lost in a blackout.
    pub blacked_out: u64,
    /// Dropped because the queue of the rate limit or the memory limit was full.
    pub overflowed: u64,
    /// Passed with flipped bits.
    pub corrupted: u64,
    /// Passed twice.
    pub duplicated: u64,
    /// Held back so that others overtake.
    pub reordered: u64,
}
