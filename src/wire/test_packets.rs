//! Packets for the tests of this room, good and repaired.

use std::net::SocketAddr;

use super::checksum::Sum;
use super::{Header, MAX_HEADER, Segment, emit_tcp};

pub(super) const V4: [&str; 2] = ["10.0.0.1:1234", "10.0.0.2:80"];
pub(super) const V6: [&str; 2] = ["[fd00::1]:1234", "[fd00::2]:80"];

/// A header with the segment's fields between two ends.
pub(super) fn header(ends: [&str; 2], seg: &Segment<'_>) -> Header {
    let [local, remote] = ends.map(|end| end.parse::<SocketAddr>().unwrap());
    Header {
        local,
        remote,
        hop_limit: 61,
        traffic_class: 0xb9,
        seq: seg.seq,
        ack: seg.ack,
        flags: seg.flags,
        wnd: seg.wnd,
        options: seg.options,
    }
}

/// A whole packet.
pub(super) fn packet(ends: [&str; 2], seg: &Segment<'_>) -> Vec<u8> {
    let mut out = [0; MAX_HEADER];
    let (len, _) = emit_tcp(&mut out, &header(ends, seg), [seg.payload, &[]], false);
    [&out[..len], seg.payload].concat()
}

/// Makes the IPv4 header checksum right, where there is such a header.
pub(super) fn fix_ip(packet: &mut [u8]) {
    let ihl = usize::from(packet[0] & 15) * 4;
    if packet[0] >> 4 == 4 && ihl >= 20 && ihl <= packet.len() {
        packet[10..12].fill(0);
        let checksum = Sum::default().add(&packet[..ihl]).checksum();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// An IPv4 or IPv6 packet round any upper layer; `offset` is where its checksum stands, if it has one.
pub(super) fn wrap(ends: [&str; 2], protocol: u8, upper: &[u8], offset: Option<usize>) -> Vec<u8> {
    let mut upper = upper.to_vec();
    let [src, dst] = ends.map(|end| end.parse::<SocketAddr>().unwrap().ip());
    if let Some(at) = offset {
        let pseudo = match protocol {
            1 => Sum::default(),
            _ => Sum::pseudo(src, dst, protocol.into(), upper.len()),
        };
        upper[at..at + 2].fill(0);
        let checksum = pseudo.add(&upper).checksum();
        upper[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    let seg = Segment::default();
    let mut packet = packet(ends, &seg);
    if src.is_ipv4() {
        packet.truncate(20);
        packet[2..4].copy_from_slice(&u16::try_from(20 + upper.len()).unwrap().to_be_bytes());
        packet[9] = protocol;
        fix_ip(&mut packet);
    } else {
        packet.truncate(40);
        packet[4..6].copy_from_slice(&u16::try_from(upper.len()).unwrap().to_be_bytes());
        packet[6] = protocol;
    }
    packet.extend_from_slice(&upper);
    packet
}
