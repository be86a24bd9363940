//! From [`Header`] to bytes. Only headers: payload stays where it is.

use super::{Checksum, Header, IpInfo};

/// Longest IP and TCP header: IPv6 (40) and TCP with 40 bytes of options (60).
pub const MAX_HEADER: usize = 100;

/// Writes the IP and TCP header of a segment whose payload is the two slices; returns the header length in bytes.
///
/// IPv4: DF set, ID 0 (RFC 6864). With `checksum: Partial` the TCP checksum field gets the pseudo-header sum and the
/// caller passes the returned start and offset on; with `Complete` it is computed. `Verified` is treated as `Complete`.
/// The payload may make the IP length exceed 65,535 only by a caller's bug: the length field then saturates.
pub fn emit_tcp(_out: &mut [u8; MAX_HEADER], _header: &Header, _payload: [&[u8]; 2], _partial: bool) -> (usize, Checksum) {
    todo!()
}

/// Writes the answer to an echo request: IP header and the four bytes of ICMP type, code and checksum; `rest` follows.
/// `ip` is the request's; source and destination are exchanged. Returns the header length.
pub fn emit_echo_reply(_out: &mut [u8; MAX_HEADER], _ip: &IpInfo, _rest: &[u8]) -> usize {
    todo!()
}
