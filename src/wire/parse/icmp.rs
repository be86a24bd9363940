//! ICMP of both versions: echo requests and errors about our segments (RFC 792, RFC 1191, RFC 4443).

use std::net::{IpAddr, SocketAddr};

use etherparse::{Icmpv4Slice, Icmpv6Slice, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, icmpv4 as v4, icmpv6 as v6};

use super::{Body, IcmpError, IcmpKind, Ip};
use crate::stats::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::{FourTuple, Seq};

/// Type, code and checksum; an echo reply carries what follows them.
const HEAD: usize = 4;

pub(super) fn parse_v4<'a>(ip: &Ip<'a>, verify: bool) -> Result<Body<'a>, DropReason> {
    let icmp = Icmpv4Slice::from_slice(ip.payload).map_err(|_| DropReason::IcmpHeader)?;
    if verify && !Sum::default().add(ip.payload).is_valid() {
        return Err(DropReason::IcmpChecksum);
    }
    let [_, _, mtu_high, mtu_low] = icmp.bytes5to8();
    let mtu = u32::from(u16::from_be_bytes([mtu_high, mtu_low]));
    let kind = match (icmp.type_u8(), icmp.code_u8()) {
        (v4::TYPE_ECHO_REQUEST, 0) => return Ok(echo(ip)),
        (v4::TYPE_DEST_UNREACH, code) => unreachable_v4(code, mtu).ok_or(DropReason::IcmpIgnored)?,
        (v4::TYPE_TIME_EXCEEDED | v4::TYPE_PARAMETER_PROBLEM, _) => IcmpKind::Soft,
        // Source quench among them: RFC 6633 §3.
        _ => return Err(DropReason::IcmpIgnored),
    };
    quote_v4(icmp.payload(), kind)
}

pub(super) fn parse_v6<'a>(ip: &Ip<'a>, verify: bool) -> Result<Body<'a>, DropReason> {
    let icmp = Icmpv6Slice::from_slice(ip.payload).map_err(|_| DropReason::IcmpHeader)?;
    if verify && !ip.pseudo().add(ip.payload).is_valid() {
        return Err(DropReason::IcmpChecksum);
    }
    let kind = match (icmp.type_u8(), icmp.code_u8()) {
        (v6::TYPE_ECHO_REQUEST, 0) => return Ok(echo(ip)),
        (v6::TYPE_DST_UNREACH, code) => unreachable_v6(code),
        // RFC 4443 §3.2: the code is ignored by the receiver.
        (v6::TYPE_PACKET_TOO_BIG, _) => IcmpKind::PacketTooBig { mtu: u32::from_be_bytes(icmp.bytes5to8()) },
        (v6::TYPE_TIME_EXCEEDED | v6::TYPE_PARAMETER_PROBLEM, _) => IcmpKind::Soft,
        _ => return Err(DropReason::IcmpIgnored),
    };
    quote_v6(icmp.payload(), kind)
}

fn echo<'a>(ip: &Ip<'a>) -> Body<'a> {
    Body::EchoRequest { rest: ip.payload.get(HEAD..).unwrap_or_default() }
}

/// As Linux's `icmp_err_convert`; codes above 15 are ignored, as there.
fn unreachable_v4(code: u8, mtu: u32) -> Option<IcmpKind> {
    match code {
        v4::CODE_DST_UNREACH_NEED_FRAG => Some(IcmpKind::PacketTooBig { mtu }),
        v4::CODE_DST_UNREACH_PROTOCOL | v4::CODE_DST_UNREACH_PORT => Some(IcmpKind::PortUnreachable),
        v4::CODE_DST_UNREACH_NET
        | v4::CODE_DST_UNREACH_NET_UNKNOWN
        | v4::CODE_DST_UNREACH_NET_PROHIB
        | v4::CODE_DST_UNREACH_TOS_NET => Some(IcmpKind::NetworkUnreachable),
        0..=15 => Some(IcmpKind::HostUnreachable),
        _ => None,
    }
}

/// RFC 4443 §3.1.
fn unreachable_v6(code: u8) -> IcmpKind {
    match code {
        v6::CODE_DST_UNREACH_NO_ROUTE => IcmpKind::NetworkUnreachable,
        v6::CODE_DST_UNREACH_PORT => IcmpKind::PortUnreachable,
        _ => IcmpKind::HostUnreachable,
    }
}

/// The quoted packet is cut off (RFC 792: 8 bytes are enough) and may have been changed on its way: neither its length
/// nor its checksums are looked at. What protects us is the sequence number, which the connection checks (RFC 5927 §4.1).
fn quote_v4(quote: &[u8], kind: IcmpKind) -> Result<Body<'_>, DropReason> {
    let ip = Ipv4HeaderSlice::from_slice(quote).map_err(|_| DropReason::IcmpHeader)?;
    if ip.protocol() != IpNumber::TCP || ip.fragments_offset().value() != 0 {
        return Err(DropReason::IcmpIgnored);
    }
    let tcp = quote.get(ip.slice().len()..).unwrap_or_default();
    quoted_tcp([ip.source_addr().into(), ip.destination_addr().into()], tcp, kind)
}

/// As [`quote_v4`]. We send no extension headers, so a quote with one is not of ours.
fn quote_v6(quote: &[u8], kind: IcmpKind) -> Result<Body<'_>, DropReason> {
    let ip = Ipv6HeaderSlice::from_slice(quote).map_err(|_| DropReason::IcmpHeader)?;
    if ip.next_header() != IpNumber::TCP {
        return Err(DropReason::IcmpIgnored);
    }
    let tcp = quote.get(ip.slice().len()..).unwrap_or_default();
    quoted_tcp([ip.source_addr().into(), ip.destination_addr().into()], tcp, kind)
}

/// Ports and sequence number: all that is sure to be there.
fn quoted_tcp<'a>(ends: [IpAddr; 2], tcp: &[u8], kind: IcmpKind) -> Result<Body<'a>, DropReason> {
    let &[a, b, c, d, e, f, g, h] = tcp.first_chunk::<8>().ok_or(DropReason::IcmpHeader)?;
    let [src, dst] = ends;
    let tuple = FourTuple {
        local: SocketAddr::new(src, u16::from_be_bytes([a, b])),
        remote: SocketAddr::new(dst, u16::from_be_bytes([c, d])),
    };
    Ok(Body::IcmpError(IcmpError { tuple, seq: Seq::new(u32::from_be_bytes([e, f, g, h])), kind }))
}
