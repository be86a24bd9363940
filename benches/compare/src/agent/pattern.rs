//! Content that says where it belongs: pseudo-random bytes with a prime period, so that lost, repeated or exchanged bytes
//! show at any place. Byte counts, which are always verified too, show what a shift by whole periods would hide.

use std::io;
use std::sync::LazyLock;

/// A prime just below 64 KiB: coprime to every segment size.
const PERIOD: usize = 65_521;
/// Bytes per read and write of a bulk transfer.
pub const CHUNK: usize = 128 * 1024;
/// One place of this many bytes is compared while the clock runs: at least two in every full segment.
const STRIDE: usize = 512;
const SAMPLE: usize = 8;

pub struct Pattern(Vec<u8>);

/// One for all connections of a process, as a file that many ask for.
static SHARED: LazyLock<Pattern> = LazyLock::new(Pattern::new);

impl Pattern {
    pub fn shared() -> &'static Pattern {
        &SHARED
    }

    fn new() -> Pattern {
        let mut state: u64 = 0x7573_6572_6e65_7421;
        let mut random = || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_le_bytes()[0]
        };
        let period: Vec<u8> = (0..PERIOD).map(|_| random()).collect();
        Pattern(period.into_iter().cycle().take(PERIOD + CHUNK).collect())
    }

    /// What belongs at `position` of the stream; at most [`CHUNK`] bytes.
    pub fn at(&self, position: u64, len: usize) -> &[u8] {
        let start = usize::try_from(position % PERIOD as u64).unwrap_or(0);
        &self.0[start..start + len]
    }

    /// Compares every byte.
    pub fn check(&self, position: u64, came: &[u8]) -> io::Result<()> {
        if came == self.at(position, came.len()) { Ok(()) } else { Err(wrong(position)) }
    }

    /// Compares the samples.
    pub fn check_samples(&self, position: u64, came: &[u8]) -> io::Result<()> {
        let expected = self.at(position, came.len());
        // The samples are at fixed places of the stream, however it was cut.
        let skip = (STRIDE - usize::try_from(position % STRIDE as u64).unwrap_or(0)) % STRIDE;
        let mut from = skip;
        while from < came.len() {
            let to = came.len().min(from + SAMPLE);
            if came[from..to] != expected[from..to] {
                return Err(wrong(position + from as u64));
            }
            from += STRIDE;
        }
        Ok(())
    }
}

fn wrong(position: u64) -> io::Error {
    io::Error::other(format!("wrong content at or soon after byte {position}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_a_swap_and_a_flip_show() {
        let pattern = Pattern::new();
        let good = pattern.at(1_000, 4_096).to_vec();
        pattern.check(1_000, &good).unwrap();
        pattern.check_samples(1_000, &good).unwrap();
        assert!(pattern.check(1_001, &good).is_err());
        assert!(pattern.check_samples(1_001, &good).is_err());
        assert!(pattern.check_samples(1_000 + 1_448, &good).is_err());
        let mut flipped = good.clone();
        flipped[24] ^= 1; // byte 1,024 of the stream is a sample
        assert!(pattern.check_samples(1_000, &flipped).is_err());
    }
}
