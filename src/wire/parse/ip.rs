//! IP headers of both versions: where the upper layer begins and ends.

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6Header, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice};

use crate::stats::DropReason;
use crate::wire::IpInfo;
use crate::wire::checksum::Sum;
use crate::wire::emit::put;

/// Most extension headers walked (reliability.md A18). RFC 8200 §4.1 names six, each at most once but for one.
const MAX_EXTENSIONS: usize = 8;
/// Most bytes of extension headers walked: work a sender can ask of us per packet.
const MAX_EXTENSION_BYTES: usize = 1024;

/// An IP packet, taken apart.
#[derive(Clone, Copy)]
pub(in crate::wire) struct Ip<'a> {
    pub(in crate::wire) info: IpInfo,
    /// The upper layer.
    pub(in crate::wire) protocol: IpNumber,
    /// Bytes in front of it, IPv4 options and IPv6 extension headers included.
    pub(in crate::wire) header_len: usize,
    /// The upper layer's bytes, without what trails the IP packet; those of them that are here.
    pub(in crate::wire) payload: &'a [u8],
    /// How many more of them lie elsewhere.
    pub(in crate::wire) elsewhere: usize,
}

impl<'a> Ip<'a> {
    pub(in crate::wire) fn parse(packet: &'a [u8]) -> Result<Ip<'a>, DropReason> {
        Ip::parse_front(packet, 0)
    }

    /// [`Ip::parse`] for the front of a packet whose last `elsewhere` bytes are not at hand.
    pub(in crate::wire) fn parse_front(packet: &'a [u8], elsewhere: usize) -> Result<Ip<'a>, DropReason> {
        match packet.first().map(|byte| byte >> 4) {
            None => Err(DropReason::Truncated),
            Some(4) => Ip::parse_v4(packet, elsewhere),
            Some(6) => Ip::parse_v6(packet, elsewhere),
            Some(_) => Err(DropReason::IpVersion),
        }
    }

    /// RFC 791 §3.1. Options are accepted and skipped, as RFC 1122 §3.2.1.8 allows for those we do not act on.
    fn parse_v4(packet: &'a [u8], elsewhere: usize) -> Result<Ip<'a>, DropReason> {
        let header = Ipv4HeaderSlice::from_slice(packet).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) => DropReason::Truncated,
            ipv4::HeaderSliceError::Content(_) => DropReason::IpHeader,
        })?;
        // RFC 1122 §3.2.1.2: must verify, and discard silently.
        if !Sum::default().add(header.slice()).is_valid() {
            return Err(DropReason::IpChecksum);
        }
        let (datagram, elsewhere) = cut(packet, usize::from(header.total_len()), elsewhere)?;
        let header_len = header.slice().len();
        let payload = datagram.get(header_len..).ok_or(DropReason::IpHeader)?;
        if header.is_fragmenting_payload() {
            return Err(DropReason::Fragment);
        }
        let info = IpInfo {
            src: header.source_addr().into(),
            dst: header.destination_addr().into(),
            hop_limit: header.ttl(),
            traffic_class: header.dcp().value() << 2 | header.ecn().value(),
        };
        Ok(Ip { info, protocol: header.protocol(), header_len, payload, elsewhere })
    }

    /// RFC 8200 §3 and §4. A jumbogram says length 0 and ends as truncated.
    fn parse_v6(packet: &'a [u8], elsewhere: usize) -> Result<Ip<'a>, DropReason> {
        let header = Ipv6HeaderSlice::from_slice(packet).map_err(|error| match error {
            ipv6::HeaderSliceError::Len(_) => DropReason::Truncated,
            ipv6::HeaderSliceError::Content(_) => DropReason::IpHeader,
        })?;
        let after = packet.get(Ipv6Header::LEN..).ok_or(DropReason::Truncated)?;
        let (datagram, elsewhere) = cut(after, usize::from(header.payload_length()), elsewhere)?;
        let (protocol, payload) = skip_extensions(header.next_header(), datagram)?;
        let info = IpInfo {
            src: header.source_addr().into(),
            dst: header.destination_addr().into(),
            hop_limit: header.hop_limit(),
            traffic_class: header.traffic_class(),
        };
        Ok(Ip { info, protocol, header_len: Ipv6Header::LEN + datagram.len() - payload.len(), payload, elsewhere })
    }

    /// The start of an upper-layer checksum that covers a pseudo-header.
    pub(super) fn pseudo(&self) -> Sum {
        Sum::pseudo(self.info.src, self.info.dst, self.protocol, self.payload.len() + self.elsewhere)
    }

    /// Corrects a copy of this packet's header for an upper layer of `len` bytes.
    pub(in crate::wire) fn set_payload_len(&self, header: &mut [u8], len: usize) {
        let len = self.header_len + len;
        if self.info.src.is_ipv4() {
            put(header, 2, &u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
            put(header, 10, &[0, 0]);
            let checksum = Sum::default().add(header).checksum();
            put(header, 10, &checksum.to_be_bytes());
        } else {
            let len = u16::try_from(len.saturating_sub(Ipv6Header::LEN)).unwrap_or(u16::MAX);
            put(header, 4, &len.to_be_bytes());
        }
    }
}

/// The first `len` bytes of `packet` and `elsewhere` more: those at hand, and how many are not.
fn cut(packet: &[u8], len: usize, elsewhere: usize) -> Result<(&[u8], usize), DropReason> {
    match packet.get(..len) {
        Some(whole) => Ok((whole, 0)),
        None => {
            let missing = len.saturating_sub(packet.len());
            if missing <= elsewhere { Ok((packet, missing)) } else { Err(DropReason::Truncated) }
        }
    }
}

/// Walks the extension headers that do not change what the packet is; returns the upper layer.
fn skip_extensions(mut next: IpNumber, packet: &[u8]) -> Result<(IpNumber, &[u8]), DropReason> {
    let mut rest = packet;
    // The last round only finds the upper layer behind the eighth header.
    for walked in 0..=MAX_EXTENSIONS {
        match next {
            // RFC 8200 §4.3: only directly after the IPv6 header.
            IpNumber::IPV6_HEADER_HOP_BY_HOP if walked > 0 => return Err(DropReason::IpHeader),
            IpNumber::IPV6_HEADER_HOP_BY_HOP | IpNumber::IPV6_DESTINATION_OPTIONS | IpNumber::IPV6_ROUTE_HEADER => {}
            // Atomic fragments too. Deviates from RFC 6946 §4: they are legal, but nobody needs to send one.
            IpNumber::IPV6_FRAGMENTATION_HEADER => return Err(DropReason::Fragment),
            _ => return Ok((next, rest)),
        }
        let extension = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| DropReason::Truncated)?;
        rest = rest.get(extension.slice().len()..).ok_or(DropReason::Truncated)?;
        if packet.len() - rest.len() > MAX_EXTENSION_BYTES {
            break;
        }
        match next {
            IpNumber::IPV6_ROUTE_HEADER => check_routing(extension.payload())?,
            _ => check_options(extension.payload())?,
        }
        next = extension.next_header();
    }
    Err(DropReason::IpHeader)
}

/// RFC 8200 §4.4: we know no routing type, and route for nobody (RFC 5095).
fn check_routing(text: &[u8]) -> Result<(), DropReason> {
    match text {
        [_type, 0, ..] => Ok(()),
        _ => Err(DropReason::IpHeader),
    }
}

/// RFC 8200 §4.2: an option we do not know is skipped if its two highest bits are zero; else the packet is discarded.
fn check_options(mut text: &[u8]) -> Result<(), DropReason> {
    const PAD1: u8 = 0;
    while let Some((&kind, after)) = text.split_first() {
        if kind == PAD1 {
            text = after;
            continue;
        }
        let (&len, after) = after.split_first().ok_or(DropReason::IpHeader)?;
        text = after.get(usize::from(len)..).ok_or(DropReason::IpHeader)?;
        if kind >> 6 != 0 {
            return Err(DropReason::IpHeader);
        }
    }
    Ok(())
}
