//! The Internet checksum (RFC 1071) over scattered bytes.

use std::net::IpAddr;

use etherparse::IpNumber;

/// A ones' complement sum in the byte order of the machine; the order is turned once, at the end (RFC 1071 §2 (B)).
#[derive(Clone, Copy, Default)]
pub(super) struct Sum {
    /// Never more than a few folded values above 2³² per 4 GiB summed: cannot overflow.
    total: u64,
    /// An odd number of bytes came so far: the next byte is the low half of a word.
    odd: bool,
}

impl Sum {
    /// The pseudo-header of RFC 9293 §3.1 and RFC 8200 §8.1. Both lengths are 32 bits here: zeros do not count.
    pub(super) fn pseudo(src: IpAddr, dst: IpAddr, protocol: IpNumber, len: usize) -> Sum {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Sum::default().address(src).address(dst).add(&[0, protocol.0]).add(&len.to_be_bytes())
    }

    fn address(self, ip: IpAddr) -> Sum {
        match ip {
            IpAddr::V4(ip) => self.add(&ip.octets()),
            IpAddr::V6(ip) => self.add(&ip.octets()),
        }
    }

    /// Appends bytes; the parts may have any length, odd ones too.
    pub(super) fn add(self, bytes: &[u8]) -> Sum {
        let part = sum_native(bytes);
        // RFC 1071 §2 (B): bytes that stand at odd places contribute their sum with the two halves exchanged.
        let part = if self.odd { u64::from(fold(part).swap_bytes()) } else { part };
        Sum { total: self.total + part, odd: self.odd ^ (bytes.len() % 2 == 1) }
    }

    /// The 16-bit sum, not inverted. 0xffff means "valid" when a checksum field was part of the sum.
    pub(super) fn folded(self) -> u16 {
        u16::from_be(fold(self.total))
    }

    /// The value for a checksum field.
    pub(super) fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether bytes that include their checksum field are intact.
    pub(super) fn is_valid(self) -> bool {
        self.folded() == u16::MAX
    }
}

/// Sums native-order 32-bit halves in four independent 64-bit lanes, so that the compiler can vectorise.
fn sum_native(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut lanes = [0u64; 4];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane += halves(u64::from_ne_bytes(*word));
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    let mut sum: u64 = lanes.iter().sum();
    for word in words {
        sum += halves(u64::from_ne_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    sum + halves(u64::from_ne_bytes(last))
}

const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// Adds the carries back until 16 bits are left.
fn fold(mut sum: u64) -> u16 {
    sum = halves(sum);
    sum = halves(sum);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §4.1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn equals_the_reference_for_every_length_and_split() {
        let mut rng = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..) | rng.u8(..)).take(131).collect();
        for len in 0..bytes.len() {
            let bytes = &bytes[..len];
            assert_eq!(Sum::default().add(bytes).folded(), reference(bytes), "len {len}");
            for at in 0..=len {
                let (head, tail) = bytes.split_at(at);
                let (middle, tail) = tail.split_at(tail.len() / 3);
                let sum = Sum::default().add(head).add(middle).add(tail);
                assert_eq!(sum.folded(), reference(bytes), "len {len} split at {at}");
            }
        }
    }

    #[test]
    fn carries_do_not_get_lost() {
        for len in [1, 2, 7, 8, 64, 65_535] {
            let bytes = vec![0xff; len];
            assert_eq!(Sum::default().add(&bytes).folded(), reference(&bytes), "len {len}");
            assert_eq!(Sum::default().add(&[0xff]).add(&bytes).folded(), reference(&vec![0xff; len + 1]), "len {len}");
        }
    }

    #[test]
    fn example_of_rfc_1071() {
        let sum = Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.folded(), sum.checksum()), (0xddf2, 0x220d));
    }
}
