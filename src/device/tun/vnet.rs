//! The vnet header (`struct virtio_net_hdr`) in front of each packet of a TUN with `IFF_VNET_HDR`.
//!
//! Owns nothing. Every field that comes in is checked as if the kernel were hostile: a descriptor may have come from
//! anywhere. Called by `tun`.

use std::io::IoSliceMut;

use super::super::{Checksum, Offload, Outgoing};

/// Bytes of the header as this crate asks for it.
pub(super) const LEN: usize = 10;
/// Longest header accepted on an inherited descriptor; what follows the first ten bytes is zero.
pub(super) const MAX_LEN: usize = 24;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// What stands beside a packet whose header makes no sense: no packet has segments of no bytes.
pub(super) const CONTRADICTORY: Offload =
    Offload { checksum: Checksum::Complete, segment_size: Some(0), header_len: 0 };

/// The header for a packet to send.
pub(super) fn encode(packet: &Outgoing<'_>) -> [u8; MAX_LEN] {
    let mut out = [0; MAX_LEN];
    let (flags, start, offset) = match packet.offload.checksum {
        Checksum::Partial { start, offset } => (NEEDS_CSUM, start, offset),
        Checksum::Complete | Checksum::Verified => (0, 0, 0),
    };
    let (gso_type, header_len, size) = match packet.offload.segment_size {
        Some(size) => (gso_of(packet.header.first()), packet.offload.header_len, size),
        None => (GSO_NONE, 0, 0),
    };
    let words = [header_len, size, start, offset].map(u16::to_ne_bytes);
    for (to, from) in out.iter_mut().zip([flags, gso_type].iter().chain(words.as_flattened())) {
        *to = *from;
    }
    out
}

fn gso_of(first: Option<&u8>) -> u8 {
    if first.is_some_and(|byte| byte >> 4 == 6) { GSO_TCPV6 } else { GSO_TCPV4 }
}

/// Reads the header of a received packet whose first `len` bytes are in `bufs`. `None` if header and packet contradict
/// each other.
pub(super) fn decode(header: &[u8; MAX_LEN], bufs: &[IoSliceMut<'_>], len: usize) -> Option<Offload> {
    let [flags, gso_type, rest @ ..] = header;
    let word = |at: usize| rest.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    // The first word, hdr_len, is a hint only (the kernel puts the length of its linear part there).
    let (size, start, offset) = (word(2)?, word(4)?, word(6)?);
    let checksum = if flags & NEEDS_CSUM != 0 {
        if usize::from(start) + usize::from(offset) + 2 > len {
            return None;
        }
        Checksum::Partial { start, offset }
    } else if flags & DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Complete
    };
    if *gso_type == GSO_NONE {
        return Some(Offload { checksum, segment_size: None, header_len: 0 });
    }
    // A large segment has an unfinished TCP checksum, a size, the type of its IP version, and a whole header.
    let Checksum::Partial { start, offset: 16 } = checksum else { return None };
    if size == 0 || *gso_type != gso_of(byte_at(bufs, 0)) {
        return None;
    }
    let data_offset = u16::from(byte_at(bufs, usize::from(start) + 12)? >> 4) * 4;
    let header_len = start.checked_add(data_offset)?;
    if start < 20 || data_offset < 20 || usize::from(header_len) > len {
        return None;
    }
    Some(Offload { checksum, segment_size: Some(size), header_len })
}

fn byte_at<'a>(bufs: &'a [IoSliceMut<'_>], mut at: usize) -> Option<&'a u8> {
    for buf in bufs {
        match buf.get(at) {
            Some(byte) => return Some(byte),
            None => at -= buf.len(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(version: u8) -> (Vec<u8>, Offload) {
        let start: u16 = if version == 6 { 40 } else { 20 };
        let mut packet = vec![0; 4_000];
        packet[0] = version << 4;
        packet[usize::from(start) + 12] = 8 << 4;
        let checksum = Checksum::Partial { start, offset: 16 };
        (packet, Offload { checksum, segment_size: Some(1_400), header_len: start + 32 })
    }

    fn decoded(header: &[u8; MAX_LEN], packet: &mut [u8]) -> Option<Offload> {
        let len = packet.len();
        let (head, tail) = packet.split_at_mut(25.min(len));
        decode(header, &[IoSliceMut::new(head), IoSliceMut::new(tail)], len)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for version in [4, 6] {
            let (mut packet, large) = large(version);
            let ordinary = Offload { segment_size: None, header_len: 0, ..large };
            for offload in [large, ordinary, Offload::default()] {
                let (header, payload) = packet.split_at(52);
                let encoded = encode(&Outgoing { header, payload: [payload, &[]], offload });
                assert_eq!(decoded(&encoded, &mut packet), Some(offload));
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let (mut packet, offload) = large(4);
        let good = encode(&Outgoing { header: &packet, payload: [&[], &[]], offload });
        assert!(decoded(&good, &mut packet).is_some());
        let bad = |at: usize, value: u8| {
            let mut header = good;
            header[at] = value;
            header
        };
        let cases = [
            ("a large segment with a finished checksum", bad(0, 0)),
            ("IPv6 type on an IPv4 packet", bad(1, GSO_TCPV6)),
            ("UDP", bad(1, 3)),
            ("unknown type", bad(1, 0x85)),
            ("checksum start beyond the packet", bad(7, 0x80)),
            ("checksum field beyond the packet", bad(9, 0x80)),
            ("checksum field elsewhere", bad(8, 6)),
            ("start inside the IP header", bad(6, 4)),
        ];
        for (what, header) in cases {
            assert_eq!(decoded(&header, &mut packet), None, "{what}");
        }
        let mut no_size = good;
        no_size[4..6].fill(0);
        assert_eq!(decoded(&no_size, &mut packet), None, "segment size zero");
        packet[32] = 4 << 4;
        assert_eq!(decoded(&good, &mut packet), None, "TCP header shorter than 20");
        assert_eq!(decoded(&good, &mut packet[..34]), None, "cut packet");
        assert_eq!(decoded(&good, &mut []), None, "empty packet");
    }
}
