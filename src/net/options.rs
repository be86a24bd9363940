//! Checks of option values, as the kernel's `setsockopt` does them.

use std::io;
use std::time::Duration;

use crate::config::KeepaliveParams;
use crate::error::ConnError;

/// The two ECN bits of a traffic class belong to the stack (RFC 3168 §5).
const ECN_BITS: u8 = 0b11;

/// A TTL or hop limit: 1 to 255.
pub(super) fn check_ttl(ttl: u32) -> io::Result<u8> {
    match u8::try_from(ttl) {
        Ok(ttl) if ttl > 0 => Ok(ttl),
        _ => Err(invalid("a TTL lies between 1 and 255")),
    }
}

/// A type of service or traffic class, ECN bits masked.
pub(super) fn check_tos(tos: u32) -> io::Result<u8> {
    match u8::try_from(tos) {
        Ok(tos) => Ok(tos & !ECN_BITS),
        Err(_) => Err(invalid("a type of service lies between 0 and 255")),
    }
}

/// A buffer of at least one byte.
pub(super) fn check_buffer(size: u32) -> io::Result<u32> {
    if size == 0 { Err(invalid("a buffer has at least one byte")) } else { Ok(size) }
}

/// An MSS that leaves room for payload beside the longest options (Linux: `TCP_MIN_MSS`).
pub(super) fn check_mss(mss: u16) -> io::Result<u16> {
    if mss < 88 { Err(invalid("an MSS has at least 88 bytes")) } else { Ok(mss) }
}

/// Keepalive timing without zeros.
pub(super) fn check_keepalive(params: KeepaliveParams) -> io::Result<KeepaliveParams> {
    if params.idle == Duration::ZERO || params.interval == Duration::ZERO || params.count == 0 {
        return Err(invalid("keepalive idle, interval and count are greater than zero"));
    }
    Ok(params)
}

/// `InvalidInput` with a text.
pub(super) fn invalid(text: &'static str) -> io::Error {
    io::Error::new(ConnError::InvalidInput.kind(), text)
}
