//! Position-coded bytes: a byte that is lost, doubled or moved shows itself.

/// The byte at stream position `at` of stream `stream`. Neighbouring positions differ, and so do positions a segment, a
/// window or a power of two apart.
pub fn byte(stream: u8, at: u64) -> u8 {
    let mixed = (at ^ (at >> 7)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_be_bytes()[0] ^ stream
}

/// `len` bytes of `stream` from position `at`.
pub fn bytes(stream: u8, at: u64, len: usize) -> Vec<u8> {
    (at..at + len as u64).map(|position| byte(stream, position)).collect()
}

/// The first position at which `data` is not the stream from `at`.
pub fn first_difference(stream: u8, at: u64, data: &[u8]) -> Option<u64> {
    (at..).zip(data).find(|&(position, &got)| got != byte(stream, position)).map(|(position, _)| position)
}
