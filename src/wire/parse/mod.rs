//! From bytes to [`Packet`]. Every length is checked, every checksum verified here.

mod icmp;
mod ip;
mod tcp;

use etherparse::IpNumber;

pub(super) use self::ip::Ip;
use super::emit::TCP_CHECKSUM_OFFSET;
use super::{Checksum, FourTuple, IpInfo, Offload, Segment, Seq};
use crate::stats::DropReason;

/// Where the checksum of ICMP stands.
const ICMP_CHECKSUM_OFFSET: u16 = 2;
/// Where TCP says how long its header is.
const TCP_DATA_OFFSET: usize = 12;

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
    parse_body(&ip, checksum)
}

/// [`parse`] for a packet as a device delivered it: what stands beside the packet must agree with it in every field.
///
/// # Errors
/// As [`parse`]; [`DropReason::Offload`] for metadata that contradicts the packet.
// Inlined: what it returns is large, and made for every packet.
#[inline]
pub fn parse_received(packet: &[u8], offload: Offload) -> Result<Packet<'_>, DropReason> {
    let ip = Ip::parse(packet)?;
    if offload != Offload::default() {
        check_offload(&ip, offload)?;
    }
    parse_body(&ip, offload.checksum)
}

/// [`parse_received`] for a TCP segment whose text landed elsewhere: `header` is exactly what comes before the text.
/// `None`: it is not such a packet, or there is something wrong with it.
pub fn parse_landed<'a>(header: &'a [u8], text: [&[u8]; 2], offload: Offload) -> Option<(FourTuple, Segment<'a>)> {
    let len = text.iter().map(|part| part.len()).sum::<usize>();
    let ip = Ip::parse_front(header, len).ok()?;
    if ip.protocol != IpNumber::TCP || ip.elsewhere != len || check_offload(&ip, offload).is_err() {
        return None;
    }
    match tcp::parse(&ip, text, offload.checksum == Checksum::Complete) {
        Ok(Body::Tcp { tuple, seg }) if seg.payload.is_empty() => Some((tuple, seg)),
        _ => None,
    }
}

/// A device may have its metadata from anywhere (a vnet header, a user's program): it is as hostile as the packet.
fn check_offload(ip: &Ip<'_>, offload: Offload) -> Result<(), DropReason> {
    let is_tcp = ip.protocol == IpNumber::TCP;
    if let Checksum::Partial { start, offset } = offload.checksum {
        let place = match ip.protocol {
            IpNumber::TCP => Some(TCP_CHECKSUM_OFFSET),
            IpNumber::ICMP | IpNumber::IPV6_ICMP => Some(ICMP_CHECKSUM_OFFSET),
            // Counted as what it is: a protocol nobody here speaks.
            _ => None,
        };
        if place.is_some_and(|place| usize::from(start) != ip.header_len || offset != place) {
            return Err(DropReason::Offload);
        }
    }
    let Some(size) = offload.segment_size else { return Ok(()) };
    let tcp_header = usize::from(ip.payload.get(TCP_DATA_OFFSET).copied().unwrap_or(0) >> 4) * 4;
    if size == 0 || !is_tcp || usize::from(offload.header_len) != ip.header_len + tcp_header {
        return Err(DropReason::Offload);
    }
    Ok(())
}

#[inline]
fn parse_body<'a>(ip: &Ip<'a>, checksum: Checksum) -> Result<Packet<'a>, DropReason> {
    let verify = checksum == Checksum::Complete;
    let body = match ip.protocol {
        IpNumber::TCP => tcp::parse(ip, [&[], &[]], verify)?,
        IpNumber::ICMP if ip.info.src.is_ipv4() => icmp::parse_v4(ip, verify)?,
        IpNumber::IPV6_ICMP if ip.info.src.is_ipv6() => icmp::parse_v6(ip, verify)?,
        _ => return Err(DropReason::Protocol),
    };
    Ok(Packet { ip: ip.info, body })
}

#[cfg(test)]
mod tests;
