//! TCP options, walked by hand: etherparse's iterator ends at the first unknown kind.

use super::Options;
use crate::stats::DropReason;

/// Most option bytes a TCP header can carry.
pub const MAX_OPTIONS: usize = 40;

/// Parses the option bytes of a TCP header.
///
/// # Errors
/// [`DropReason::TcpOptions`]: a length of 0 or 1, or past the end (reliability.md A17).
/// A known kind with another length than its RFC gives is skipped as unknown.
pub fn parse_options(_bytes: &[u8]) -> Result<Options, DropReason> {
    todo!()
}

/// Bytes that [`emit_options`] will write, padding included: a multiple of four, at most 40.
pub fn options_len(_options: &Options) -> usize {
    todo!()
}

/// Writes options in Linux's order and padding (MSS, SACK-permitted, TS, WS; NOP NOP TS; NOP NOP SACK);
/// SACK blocks that do not fit are left out from the end. Returns the bytes written.
pub fn emit_options(_options: &Options, _out: &mut [u8; MAX_OPTIONS]) -> usize {
    todo!()
}
