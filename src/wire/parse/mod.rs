//! From bytes to [`Packet`]. Every length is checked, every checksum verified here.

mod icmp;
mod ip;
mod tcp;

use etherparse::IpNumber;

pub(super) use self::ip::Ip;
use super::{Checksum, FourTuple, IpInfo, Segment, Seq};
use crate::stats::DropReason;

/// A parsed IP packet, payload borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The IP header's facts.
    pub ip: IpInfo,
    /// What it carries.
    pub body: Body<'a>,
}

/// The upper layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A TCP segment. `tuple.local` is the destination.
    Tcp {
        /// Both ends.
        tuple: FourTuple,
        /// The segment.
        seg: Segment<'a>,
    },
    /// An echo request; the reply carries the same bytes after the type.
    EchoRequest {
        /// Identifier, sequence number and data.
        rest: &'a [u8],
    },
    /// An ICMP error that quotes a TCP segment of ours.
    IcmpError(IcmpError),
}

/// An ICMP error about a TCP segment (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The quoted connection; `local` is the quoted source.
    pub tuple: FourTuple,
    /// The quoted sequence number.
    pub seq: Seq,
    /// What happened.
    pub kind: IcmpKind,
}

/// ICMP errors this stack distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Network unreachable, no route.
    NetworkUnreachable,
    /// Host unreachable, administratively prohibited, and the rest of the unreachables.
    HostUnreachable,
    /// Port (or protocol) unreachable.
    PortUnreachable,
    /// Packet too big / fragmentation needed.
    PacketTooBig {
        /// The next hop's MTU as claimed; 0 from old routers.
        mtu: u32,
    },
    /// Time exceeded or parameter problem: never fatal.
    Soft,
}

/// Parses one IP packet. Trailing bytes after the IP total length are ignored. Transport checksums are verified when
/// `checksum` is [`Checksum::Complete`].
///
/// # Errors
/// The [`DropReason`] under which the packet is counted.
pub fn parse(packet: &[u8], checksum: Checksum) -> Result<Packet<'_>, DropReason> {
    let ip = Ip::parse(packet)?;
    let verify = checksum == Checksum::Complete;
    let body = match ip.protocol {
        IpNumber::TCP => tcp::parse(&ip, verify)?,
        IpNumber::ICMP if ip.info.src.is_ipv4() => icmp::parse_v4(&ip, verify)?,
        IpNumber::IPV6_ICMP if ip.info.src.is_ipv6() => icmp::parse_v6(&ip, verify)?,
        _ => return Err(DropReason::Protocol),
    };
    Ok(Packet { ip: ip.info, body })
}

#[cfg(test)]
mod tests;
