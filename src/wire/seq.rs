//! [`Seq`]: a 32-bit TCP sequence number. All sequence arithmetic of the crate goes through it.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number, compared modulo 2³² (RFC 9293 §3.4).
///
/// Deliberately not `Ord`: the order is not total. Distances are only meaningful below 2³¹.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(u32);

impl Seq {
    /// Wraps a number off the wire.
    pub const fn new(raw: u32) -> Seq {
        Seq(raw)
    }

    /// The number as it goes on the wire.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Bytes from `base` up to `self`; `None` if `self` lies before `base`.
    pub const fn offset_from(self, base: Seq) -> Option<u32> {
        let distance = self.0.wrapping_sub(base.0);
        if distance < 1 << 31 { Some(distance) } else { None }
    }

    /// Bytes from `base` up to `self`; zero if `self` lies before `base`.
    pub const fn saturating_offset_from(self, base: Seq) -> u32 {
        match self.offset_from(base) {
            Some(distance) => distance,
            None => 0,
        }
    }

    /// `self < other`.
    pub const fn is_before(self, other: Seq) -> bool {
        self.offset_from(other).is_none()
    }

    /// `self > other`.
    pub const fn is_after(self, other: Seq) -> bool {
        other.offset_from(self).is_none()
    }

    /// `self <= other`.
    pub const fn is_at_or_before(self, other: Seq) -> bool {
        other.offset_from(self).is_some()
    }

    /// `self >= other`.
    pub const fn is_at_or_after(self, other: Seq) -> bool {
        self.offset_from(other).is_some()
    }

    /// `low <= self < low + len`.
    pub const fn is_within(self, low: Seq, len: u32) -> bool {
        self.0.wrapping_sub(low.0) < len
    }

    /// The later of the two.
    pub const fn max(self, other: Seq) -> Seq {
        if other.is_after(self) { other } else { self }
    }

    /// The earlier of the two.
    pub const fn min(self, other: Seq) -> Seq {
        if other.is_before(self) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    fn add(self, rhs: u32) -> Seq {
        Seq(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, rhs: u32) {
        *self = *self + rhs;
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    fn sub(self, rhs: u32) -> Seq {
        Seq(self.0.wrapping_sub(rhs))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        for base in [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX - 1, u32::MAX] {
            let (a, b) = (Seq::new(base), Seq::new(base) + 5);
            assert!(a.is_before(b) && b.is_after(a) && a.is_at_or_before(a) && b.is_at_or_after(a));
            assert_eq!((b.offset_from(a), a.offset_from(b), a.saturating_offset_from(b)), (Some(5), None, 0));
            assert_eq!((a.max(b), a.min(b), b - 5), (b, a, a));
            assert!((a + 4).is_within(a, 5) && !b.is_within(a, 5) && !(a - 1).is_within(a, 5));
        }
    }
}
