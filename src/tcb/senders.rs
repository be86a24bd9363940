//! [`Senders`]: how much of its send buffer a connection uses on a way so short that more of it gains nothing.
//!
//! Between programs of one machine what was queued leaves with the next turn of the reactor and is acknowledged with the one
//! after it. More in the buffer than one turn needs makes no transfer faster, but takes every byte through the main memory
//! instead of a core's cache: with 64 connections that halves what they move together. On any longer way a connection
//! uses its whole buffer. One per stack, lent to control blocks by [`super::Cx`].

use std::time::Duration;

use crate::time::Instant;

/// What all who send at a time have queued together: about what the cache of a core holds. Measured for 1 to 64
/// connections (`benches/compare -- --only bulk-send --flows N`).
const TOGETHER: usize = 2 << 20;
/// The most one connection queues: best for one and for two, also measured.
const MOST: usize = 512 << 10;
/// The least: one segment as large as can be.
const LEAST: usize = 64 << 10;
/// A way is short if a round trip has been shorter than this ...
const SHORT: Duration = Duration::from_micros(250);
/// ... and now takes no longer than this and what all shares together take at a gigabyte a second. So a way that has become
/// long is told from queues of our own making, and a wrong verdict costs no one's share of that speed.
const STILL_SHORT: Duration = Duration::from_millis(2);
const BYTES_PER_MICROSECOND: usize = 1_000;
/// A connection counts as sending if it waited for room in this period or the one before, in microseconds.
const PERIOD: u64 = 20_000;

/// How many connections send as much as they can.
#[derive(Clone, Copy, Debug)]
pub struct Senders {
    period: u64,
    so_far: u32,
    before: u32,
    /// Each one's, in bytes.
    share: usize,
    still_short: Duration,
}

impl Default for Senders {
    fn default() -> Self {
        let mut senders = Senders { period: 0, so_far: 0, before: 0, share: 0, still_short: STILL_SHORT };
        senders.divide();
        senders
    }
}

impl Senders {
    /// Bytes of its buffer that a connection uses whose round trip takes `srtt` now and took `min_rtt` at best.
    /// `None`: all.
    pub fn share(&mut self, now: Instant, srtt: Option<Duration>, min_rtt: Option<Duration>) -> Option<usize> {
        if min_rtt? >= SHORT {
            return None;
        }
        self.roll(now);
        (srtt? < self.still_short).then_some(self.share)
    }

    /// A connection that has a share had to wait for room. `counted` is its own note of the period in which it was counted
    /// last.
    pub fn count(&mut self, now: Instant, counted: &mut u64) {
        self.roll(now);
        if std::mem::replace(counted, self.period) != self.period {
            self.so_far += 1;
            self.divide();
        }
    }

    fn roll(&mut self, now: Instant) {
        // Periods count from 1: a connection that was never counted says 0.
        let period = now.as_micros() / PERIOD + 1;
        if period != self.period {
            self.before = if period == self.period + 1 { self.so_far } else { 0 };
            self.so_far = 0;
            self.period = period;
            self.divide();
        }
    }

    fn divide(&mut self) {
        let senders = usize::try_from(self.so_far.max(self.before)).unwrap_or(usize::MAX).max(1);
        self.share = (TOGETHER / senders).clamp(LEAST, MOST);
        let together = senders.saturating_mul(self.share) / BYTES_PER_MICROSECOND;
        self.still_short = STILL_SHORT + Duration::from_micros(u64::try_from(together).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(senders: &mut Senders, ms: u64, srtt: u64, min_rtt: u64) -> Option<usize> {
        let rtt = |us| Some(Duration::from_micros(us));
        senders.share(Instant::from_micros(ms * 1_000), rtt(srtt), rtt(min_rtt))
    }

    #[test]
    fn senders_on_short_ways_share_and_others_take_all() {
        let mut senders = Senders::default();
        assert_eq!(share(&mut senders, 0, 100, 100), Some(MOST), "alone");
        assert_eq!(share(&mut senders, 0, 300, 300), None, "a long way");
        assert_eq!(share(&mut senders, 0, 2_500, 100), Some(MOST), "its own queue");
        assert_eq!(share(&mut senders, 0, 2_600, 100), None, "the way has become long");
        assert_eq!(senders.share(Instant::ZERO, None, None), None, "unknown");
        let mut counted = [0; 64];
        for (n, counted) in (1..).zip(&mut counted) {
            let now = Instant::from_micros(5_000);
            senders.count(now, counted);
            senders.count(now, counted);
            assert_eq!(share(&mut senders, 5, 100, 100), Some((TOGETHER / n).clamp(LEAST, MOST)), "{n} senders");
        }
        assert_eq!(share(&mut senders, 20, 100, 100), Some(LEAST), "the period before counts");
        assert_eq!(share(&mut senders, 20, 6_000, 100), Some(LEAST), "the queue of all");
        assert_eq!(share(&mut senders, 20, 6_300, 100), None, "the way has become long");
        senders.count(Instant::from_micros(20_000), &mut counted[0]);
        assert_eq!(share(&mut senders, 40, 100, 100), Some(MOST), "the others have ended");
        senders.count(Instant::from_micros(45_000), &mut counted[0]);
        assert_eq!(share(&mut senders, 1_000, 100, 100), Some(MOST), "long ago");
    }
}
