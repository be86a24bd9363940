//! What the examples share: a body with a known hash, an HTTP server, a TUN with both of its ends set up.
#![allow(dead_code, reason = "each example uses its own part")]

pub mod http;
pub mod life;
pub mod link;

use std::io;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

/// `N` bytes that no compressor, cache or off-by-one can produce by accident (xorshift from a fixed seed).
pub fn body(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// SHA-256 of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An address with a prefix length: `10.0.0.2/24`.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    pub ip: IpAddr,
    pub prefix: u8,
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let (ip, prefix) = text.split_once('/').ok_or("write ADDRESS/PREFIX, such as 10.0.0.2/24")?;
        let ip: IpAddr = ip.parse().map_err(|error| format!("{ip}: {error}"))?;
        let prefix: u8 = prefix.parse().map_err(|error| format!("{prefix}: {error}"))?;
        let widest = if ip.is_ipv4() { 32 } else { 128 };
        (prefix <= widest).then_some(Network { ip, prefix }).ok_or(format!("a prefix is at most {widest}"))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// An error of kind `Other` with this text.
pub fn failure(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}
