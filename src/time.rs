//! [`Instant`]: the only notion of time the core has.
//!
//! Owns nothing and never reads a clock: the reactor (or a test) says what time it is.

use std::fmt;
use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since the stack began. All arithmetic saturates.
///
/// One more is stored, so that an `Option<Instant>` takes eight bytes: a control block has ten of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The moment the stack began.
    pub const ZERO: Instant = Instant(NonZeroU64::MIN);
    /// Later than every other instant, and all that [`Instant::from_micros`] makes of `u64::MAX` and the number before it.
    pub const FAR_FUTURE: Instant = Instant(NonZeroU64::MAX);

    /// The instant `micros` microseconds after the stack began.
    pub const fn from_micros(micros: u64) -> Instant {
        Instant(NonZeroU64::MIN.saturating_add(micros))
    }

    /// The instant `millis` milliseconds after the stack began.
    pub const fn from_millis(millis: u64) -> Instant {
        Instant::from_micros(millis.saturating_mul(1_000))
    }

    /// Microseconds since the stack began.
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// Milliseconds since the stack began, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.as_micros() / 1_000
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instant").field(&self.as_micros()).finish()
    }
}

impl Default for Instant {
    fn default() -> Instant {
        Instant::ZERO
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(micros(rhs)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant::from_micros(self.as_micros().saturating_sub(micros(rhs)))
    }
}

/// As [`Duration::as_micros`], which counts in 128 bits.
const fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::FAR_FUTURE + Duration::MAX, Instant::FAR_FUTURE);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(Instant::FAR_FUTURE), Duration::ZERO);
        assert_eq!(Instant::from_millis(2) + Duration::from_micros(5), Instant::from_micros(2_005));
        assert_eq!(Instant::from_micros(u64::MAX), Instant::FAR_FUTURE);
        assert_eq!(Instant::from_micros(7).as_micros(), 7);
    }

    #[test]
    fn an_option_costs_nothing() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
        assert_eq!(format!("{:?}", Instant::from_micros(7)), "Instant(7)");
    }
}
