//! From [`Header`] to bytes. Only headers: payload stays where it is.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader};

use super::checksum::Sum;
use super::options::{MAX_OPTIONS, emit_options};
use super::{Checksum, Header, IpInfo};

/// Longest IP and TCP header: IPv6 (40) and TCP with 40 bytes of options (60).
pub const MAX_HEADER: usize = 100;

/// Where the checksum stands in a TCP header (RFC 9293 §3.1).
pub(super) const TCP_CHECKSUM_OFFSET: u16 = 16;

/// Hop limit of replies that belong to no connection (RFC 1122 §3.2.1.7 as updated by RFC 1700: 64).
const REPLY_HOP_LIMIT: u8 = 64;

/// The ECN field of a traffic class (RFC 3168 §5).
const ECN: u8 = 0b11;

/// Writes the IP and TCP header of a segment whose payload is the two slices; returns the header length in bytes.
///
/// IPv4: DF set, ID 0 (RFC 6864). With `partial` the TCP checksum field gets the pseudo-header sum and the caller passes
/// the returned [`Checksum::Partial`] on with the packet; otherwise it is computed.
/// The payload may make the IP length exceed 65,535 only by a caller's bug: the length field then saturates.
/// Ends of different families are a caller's bug too: nothing is written and the length is 0.
pub fn emit_tcp(out: &mut [u8; MAX_HEADER], header: &Header, payload: [&[u8]; 2], partial: bool) -> (usize, Checksum) {
    let (tcp, tcp_len) = tcp_header(header);
    let tcp = tcp.get(..tcp_len).unwrap_or_default();
    let len = payload.iter().fold(tcp_len, |len, part| len + part.len());
    let ip = IpInfo {
        src: header.local.ip(),
        dst: header.remote.ip(),
        hop_limit: header.hop_limit,
        traffic_class: header.traffic_class,
    };
    let ip_len = emit_ip(out, &ip, [IpNumber::TCP; 2], len);
    if ip_len == 0 {
        return (0, Checksum::Complete);
    }
    put(out, ip_len, tcp);
    let pseudo = Sum::pseudo(ip.src, ip.dst, IpNumber::TCP, len);
    let (value, checksum) = if partial {
        let start = u16::try_from(ip_len).unwrap_or(u16::MAX);
        (pseudo.folded(), Checksum::Partial { start, offset: TCP_CHECKSUM_OFFSET })
    } else {
        let [first, second] = payload;
        (pseudo.add(tcp).add(first).add(second).checksum(), Checksum::Complete)
    };
    put(out, ip_len + usize::from(TCP_CHECKSUM_OFFSET), &value.to_be_bytes());
    (ip_len + tcp_len, checksum)
}

/// The TCP header with a checksum of zero, and its length (RFC 9293 §3.1). By hand, because etherparse builds it byte by byte:
/// every small segment would notice.
fn tcp_header(header: &Header) -> ([u8; TcpHeader::MIN_LEN + MAX_OPTIONS], usize) {
    let mut bytes = [0; TcpHeader::MIN_LEN + MAX_OPTIONS];
    let (fixed, options) = bytes.split_at_mut(TcpHeader::MIN_LEN);
    let len = TcpHeader::MIN_LEN + emit_options(&header.options, options);
    let ports = u32::from(header.local.port()) << 16 | u32::from(header.remote.port());
    // Words of four bytes in the upper half of the octet, reserved bits in the lower: `len` is a multiple of four, at most 60.
    let data_offset = u8::try_from(len << 2).unwrap_or(u8::MAX);
    let [wnd0, wnd1] = header.wnd.to_be_bytes();
    let words = [
        ports.to_be_bytes(),
        header.seq.raw().to_be_bytes(),
        header.ack.raw().to_be_bytes(),
        [data_offset, header.flags.bits(), wnd0, wnd1],
        // Checksum and urgent pointer.
        [0; 4],
    ];
    fixed.copy_from_slice(words.as_flattened());
    (bytes, len)
}

/// Writes the answer to an echo request: IP header and the four bytes of ICMP type, code and checksum; `rest` follows.
/// `ip` is the request's; source and destination are exchanged. Returns the header length.
pub fn emit_echo_reply(out: &mut [u8; MAX_HEADER], ip: &IpInfo, rest: &[u8]) -> usize {
    let reply = IpInfo {
        src: ip.dst,
        dst: ip.src,
        hop_limit: REPLY_HOP_LIMIT,
        // RFC 1122 §3.2.2.6: the TOS of the request. Its congestion mark says nothing about the way back.
        traffic_class: ip.traffic_class & !ECN,
    };
    let len = ICMP_HEAD + rest.len();
    let ip_len = emit_ip(out, &reply, [IpNumber::ICMP, IpNumber::IPV6_ICMP], len);
    if ip_len == 0 {
        return 0;
    }
    let (kind, pseudo) = match reply.src {
        IpAddr::V4(_) => (ECHO_REPLY_V4, Sum::default()),
        IpAddr::V6(_) => (ECHO_REPLY_V6, Sum::pseudo(reply.src, reply.dst, IpNumber::IPV6_ICMP, len)),
    };
    let [high, low] = pseudo.add(&[kind, 0, 0, 0]).add(rest).checksum().to_be_bytes();
    put(out, ip_len, &[kind, 0, high, low]);
    ip_len + ICMP_HEAD
}

/// Type, code and checksum of an ICMP message.
const ICMP_HEAD: usize = 4;
const ECHO_REPLY_V4: u8 = etherparse::icmpv4::TYPE_ECHO_REPLY;
const ECHO_REPLY_V6: u8 = etherparse::icmpv6::TYPE_ECHO_REPLY;

/// Writes the IP header in front of `len` bytes; `protocol` is the one for IPv4 and the one for IPv6.
/// Returns its length, 0 if the families differ.
fn emit_ip(out: &mut [u8; MAX_HEADER], ip: &IpInfo, protocol: [IpNumber; 2], len: usize) -> usize {
    let [v4, v6] = protocol;
    match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = Ipv4Header {
                dscp: (ip.traffic_class >> 2).try_into().unwrap_or_default(),
                ecn: (ip.traffic_class & ECN).try_into().unwrap_or_default(),
                total_len: saturate(Ipv4Header::MIN_LEN + len),
                // RFC 6864 §4.1: the ID of an atomic datagram means nothing, so it must not leak a counter.
                identification: 0,
                dont_fragment: true,
                time_to_live: ip.hop_limit,
                protocol: v4,
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv4Header::default()
            };
            header.header_checksum = header.calc_header_checksum();
            put(out, 0, &header.to_bytes())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                traffic_class: ip.traffic_class,
                flow_label: Default::default(),
                payload_length: saturate(len),
                next_header: v6,
                hop_limit: ip.hop_limit,
                source: src.octets(),
                destination: dst.octets(),
            };
            put(out, 0, &header.to_bytes())
        }
        _ => 0,
    }
}

fn saturate(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Copies `bytes` to `at`; returns their number, 0 if they do not fit.
pub(super) fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let Some(to) = at.checked_add(bytes.len()).and_then(|end| out.get_mut(at..end)) else { return 0 };
    to.copy_from_slice(bytes);
    bytes.len()
}

#[cfg(test)]
mod tests;
