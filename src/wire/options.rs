//! TCP options, walked by hand: etherparse's iterator ends at the first unknown kind.

use super::{Options, SackBlock, SackBlocks, Seq, Timestamps};
use crate::stats::DropReason;

/// Most option bytes a TCP header can carry.
pub const MAX_OPTIONS: usize = 40;

// https://www.iana.org/assignments/tcp-parameters: kinds and lengths.
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Bytes of one SACK block.
const BLOCK_LEN: usize = 8;
/// NOP, NOP, kind and length in front of the blocks.
const SACK_HEAD: usize = 4;

/// Parses the option bytes of a TCP header.
///
/// An MSS of 0 counts as absent, a window scale above 14 as 14, the first of duplicates counts.
///
/// # Errors
/// [`DropReason::TcpOptions`]: a length of 0 or 1, or past the end (reliability.md A17).
/// A known kind with another length than its RFC gives is skipped as unknown.
pub fn parse_options(bytes: &[u8]) -> Result<Options, DropReason> {
    let mut options = Options::default();
    let mut rest = bytes;
    while let Some((&kind, after)) = rest.split_first() {
        match kind {
            END => break,
            NOP => rest = after,
            _ => {
                // RFC 9293 §3.1: the length counts kind and length octets too, so below 2 it cannot be true.
                let &len = after.first().ok_or(DropReason::TcpOptions)?;
                let text = usize::from(len).checked_sub(2).ok_or(DropReason::TcpOptions)?;
                let (_, after) = after.split_first().ok_or(DropReason::TcpOptions)?;
                let (text, after) = after.split_at_checked(text).ok_or(DropReason::TcpOptions)?;
                record(&mut options, kind, text);
                rest = after;
            }
        }
    }
    Ok(options)
}

/// Notes one option; unknown kinds, wrong lengths and duplicates leave no trace.
fn record(options: &mut Options, kind: u8, text: &[u8]) {
    match (kind, text) {
        // A peer that claims to take no data: as Linux, the option is ignored (reliability.md A13).
        (MSS, [0, 0]) => {}
        (MSS, &[high, low]) if options.mss.is_none() => options.mss = Some(u16::from_be_bytes([high, low])),
        // RFC 7323 §2.3: a shift above 14 is used as 14.
        (WINDOW_SCALE, &[shift]) if options.window_scale.is_none() => options.window_scale = Some(shift.min(14)),
        (SACK_PERMITTED, []) => options.sack_permitted = true,
        (SACK, blocks) if options.sack.is_empty() => options.sack = parse_blocks(blocks),
        (TIMESTAMPS, text) if options.timestamps.is_none() => {
            options.timestamps = pair(text).map(|(val, ecr)| Timestamps { val, ecr });
        }
        _ => {}
    }
}

/// RFC 2018 §3: a length of 8·n + 2.
fn parse_blocks(bytes: &[u8]) -> SackBlocks {
    let mut blocks = SackBlocks::EMPTY;
    if bytes.len().is_multiple_of(BLOCK_LEN) {
        for (left, right) in bytes.chunks_exact(BLOCK_LEN).filter_map(pair) {
            blocks.push(SackBlock { left: Seq::new(left), right: Seq::new(right) });
        }
    }
    blocks
}

/// Two numbers, if there are exactly eight bytes.
fn pair(bytes: &[u8]) -> Option<(u32, u32)> {
    let &[a, b, c, d, e, f, g, h] = bytes else { return None };
    Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

/// Bytes that [`emit_options`] will write, padding included: a multiple of four, at most 40.
pub fn options_len(options: &Options) -> usize {
    let head = head_len(options);
    match blocks_that_fit(options, head) {
        0 => head,
        blocks => head + SACK_HEAD + blocks * BLOCK_LEN,
    }
}

/// Everything but the SACK blocks: at most 20 bytes.
fn head_len(options: &Options) -> usize {
    let timestamps = if options.timestamps.is_some() { 12 } else { 0 };
    // SACK-permitted takes the place of the two NOPs in front of the timestamps.
    let permitted = if options.sack_permitted && options.timestamps.is_none() { 4 } else { 0 };
    let mss = if options.mss.is_some() { 4 } else { 0 };
    let scale = if options.window_scale.is_some() { 4 } else { 0 };
    mss + timestamps + permitted + scale
}

fn blocks_that_fit(options: &Options, head: usize) -> usize {
    let room = (MAX_OPTIONS - SACK_HEAD).saturating_sub(head) / BLOCK_LEN;
    options.sack.as_slice().len().min(room)
}

/// Writes options in Linux's order and padding (MSS, SACK-permitted, TS, WS; NOP NOP TS; NOP NOP SACK);
/// SACK blocks that do not fit are left out from the end. Returns the bytes written.
/// `out` has room for [`MAX_OPTIONS`].
pub fn emit_options(options: &Options, out: &mut [u8]) -> usize {
    let mut writer = Writer { out, at: 0 };
    if let Some(mss) = options.mss {
        let [high, low] = mss.to_be_bytes();
        writer.put([MSS, 4, high, low]);
    }
    match options.timestamps {
        Some(Timestamps { val, ecr }) => {
            let [a, b] = if options.sack_permitted { [SACK_PERMITTED, 2] } else { [NOP, NOP] };
            writer.put([a, b, TIMESTAMPS, 10]);
            writer.put(val.to_be_bytes());
            writer.put(ecr.to_be_bytes());
        }
        None if options.sack_permitted => writer.put([NOP, NOP, SACK_PERMITTED, 2]),
        None => {}
    }
    if let Some(shift) = options.window_scale {
        writer.put([NOP, WINDOW_SCALE, 3, shift]);
    }
    let blocks = blocks_that_fit(options, head_len(options));
    if blocks > 0 {
        let len = u8::try_from(2 + blocks * BLOCK_LEN).unwrap_or(u8::MAX);
        writer.put([NOP, NOP, SACK, len]);
        for block in options.sack.as_slice().iter().take(blocks) {
            writer.put(block.left.raw().to_be_bytes());
            writer.put(block.right.raw().to_be_bytes());
        }
    }
    writer.at
}

/// Appends whole words.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, word: [u8; 4]) {
        if let Some(to) = self.out.get_mut(self.at..self.at + word.len()) {
            to.copy_from_slice(&word);
            self.at += word.len();
        }
    }
}

#[cfg(test)]
mod tests;
