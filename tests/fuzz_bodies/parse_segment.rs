//! IP packets: no panic whatever comes, and a TCP segment that is accepted survives being written, completed, split.

use std::net::IpAddr;

use usernet::internals::wire::{
    Body, Checksum, Flags, Header, MAX_HEADER, Offload, Packet, Segment, complete_checksum, emit_echo_reply, emit_tcp,
    parse, split_large,
};

/// The first byte chooses: bit 0 repairs the IPv4 header checksum, bit 1 trusts the transport checksum, bit 7 repairs the
/// IP length, the bits between say where the payload is split. The packet follows.
pub fn run(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let mut packet = bytes.to_vec();
    if choice & 0x80 != 0 {
        repair_length(&mut packet);
    }
    if choice & 1 != 0 {
        repair_checksum(&mut packet);
    }
    let checksum = if choice & 2 == 0 { Checksum::Complete } else { Checksum::Verified };
    let Ok(parsed) = parse(&packet, checksum) else { return };
    // What passes the check also passes without it, and says the same.
    assert_eq!(parse(&packet, Checksum::Verified), Ok(parsed));
    match parsed.body {
        Body::Tcp { seg, .. } => check_tcp(&parsed, &seg, usize::from(choice >> 2 & 31)),
        Body::EchoRequest { rest } => check_echo(&parsed, rest),
        Body::IcmpError(error) => {
            assert_eq!(error.tuple.local.is_ipv4(), parsed.ip.src.is_ipv4(), "an error quotes its own family");
        }
    }
}

/// Longest packet that has a length field.
const MAX_PACKET: usize = 65_535;

fn check_tcp(parsed: &Packet<'_>, seg: &Segment<'_>, split: usize) {
    let Body::Tcp { tuple, .. } = parsed.body else { return };
    assert_eq!((tuple.local.ip(), tuple.remote.ip()), (parsed.ip.dst, parsed.ip.src));
    let header = Header {
        local: tuple.remote,
        remote: tuple.local,
        hop_limit: parsed.ip.hop_limit,
        traffic_class: parsed.ip.traffic_class,
        seq: seg.seq,
        ack: seg.ack,
        flags: seg.flags,
        wnd: seg.wnd,
        options: seg.options,
    };
    let (first, second) = seg.payload.split_at_checked(split).unwrap_or((seg.payload, &[]));
    if MAX_HEADER + seg.payload.len() > MAX_PACKET {
        return;
    }
    let mut out = [0; MAX_HEADER];
    let (len, _) = emit_tcp(&mut out, &header, [first, second], false);
    let complete = whole(&out, len, seg.payload);
    assert_eq!(parse(&complete, Checksum::Complete).as_ref(), Ok(parsed), "written again");

    let (len, checksum) = emit_tcp(&mut out, &header, [first, second], true);
    let mut partial = whole(&out, len, seg.payload);
    let size = u16::try_from(split + 1).unwrap_or(1);
    let header_len = u16::try_from(len).unwrap_or(0);
    let offload = Offload { checksum, segment_size: Some(size), header_len };
    check_split(&partial, offload, seg);
    complete_checksum(&mut partial, offload);
    assert_eq!(partial, complete, "completed");
}

/// The pieces of a large segment say together what it says.
fn check_split(packet: &[u8], offload: Offload, seg: &Segment<'_>) {
    let mut text = Vec::new();
    let mut flags = Flags::NONE;
    let mut scratch = Vec::new();
    split_large(packet, offload, &mut scratch, &mut |piece| {
        let parsed = parse(piece, Checksum::Complete).expect("a piece is a packet");
        let Body::Tcp { seg: piece, .. } = parsed.body else { panic!("a piece is a segment: {parsed:?}") };
        let at = u32::try_from(text.len()).expect("a packet's length");
        assert_eq!(piece.seq, seg.seq + at);
        assert!(piece.payload.len() <= usize::from(offload.segment_size.unwrap_or(u16::MAX)));
        assert!(!flags.intersects(Flags::FIN | Flags::PSH), "FIN or PSH before the last piece");
        text.extend_from_slice(piece.payload);
        flags |= piece.flags;
    });
    assert_eq!(text, seg.payload);
    assert_eq!(flags, seg.flags);
}

fn check_echo(parsed: &Packet<'_>, rest: &[u8]) {
    if MAX_HEADER + rest.len() > MAX_PACKET {
        return;
    }
    let mut out = [0; MAX_HEADER];
    let len = emit_echo_reply(&mut out, &parsed.ip, rest);
    let mut reply = whole(&out, len, rest);
    // Seen as a request, the reply differs from the request in its ends only.
    if let Some(kind) = reply.get_mut(len - 4) {
        *kind = if parsed.ip.src.is_ipv4() { 8 } else { 128 };
    }
    let turned = parse(&reply, Checksum::Verified).expect("a reply is a packet");
    assert_eq!((turned.ip.src, turned.ip.dst), (parsed.ip.dst, parsed.ip.src));
    assert_eq!(turned.body, parsed.body);
    assert!(matches!(turned.ip.src, IpAddr::V4(_)) == (len == 24));
}

fn whole(header: &[u8], len: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = header.get(..len).expect("length of a header").to_vec();
    packet.extend_from_slice(payload);
    packet
}

/// Makes the packet end where its bytes end.
fn repair_length(packet: &mut [u8]) {
    let (at, len) = match packet.first().map(|byte| byte >> 4) {
        Some(4) => (2, packet.len()),
        Some(6) => (4, packet.len().saturating_sub(40)),
        _ => return,
    };
    for (to, byte) in packet.iter_mut().skip(at).zip(u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()) {
        *to = byte;
    }
}

/// Puts the IPv4 header checksum right, which no fuzzer guesses (RFC 1071).
fn repair_checksum(packet: &mut [u8]) {
    let Some(&first) = packet.first() else { return };
    let len = usize::from(first & 15) * 4;
    let Some(header) = packet.get_mut(..len).filter(|header| header.len() >= 20) else { return };
    let mut sum = 0u32;
    for (at, word) in header.chunks_exact(2).enumerate().filter(|(at, _)| *at != 5) {
        let word: [u8; 2] = word.try_into().unwrap_or_else(|_| panic!("word {at}"));
        sum += u32::from(u16::from_be_bytes(word));
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (!sum).to_be_bytes();
    for (to, byte) in header.iter_mut().skip(10).zip([high, low]) {
        *to = byte;
    }
}
