use super::*;
use crate::wire::testing::{V4, V6, fix_ip, header, packet, wrap};
use crate::wire::{Flags, seg};

const COMPLETE: Checksum = Checksum::Complete;

/// `packet` with one change.
fn with(packet: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = packet.to_vec();
    change(&mut packet);
    packet
}

/// The same with the IPv4 checksum put right afterwards.
fn fixed(packet: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = with(packet, change);
    fix_ip(&mut packet);
    packet
}

fn tcp_v4() -> Vec<u8> {
    packet(V4, &seg!(ack 1, seq 2, wnd 3, ts(4, 5), len 20))
}

fn tcp_v6() -> Vec<u8> {
    packet(V6, &seg!(ack 1, seq 2, wnd 3, ts(4, 5), len 20))
}

#[test]
fn malformed_ipv4() {
    use DropReason::*;
    let good = tcp_v4();
    let len = good.len();
    let table: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("empty", vec![], Truncated),
        ("one byte", vec![0x45], Truncated),
        ("19 bytes", good[..19].to_vec(), Truncated),
        ("cut payload", good[..len - 1].to_vec(), Truncated),
        ("version 0", fixed(&good, |p| p[0] = 0x05), IpVersion),
        ("version 5", fixed(&good, |p| p[0] = 0x55), IpVersion),
        ("version 15", vec![0xff; 60], IpVersion),
        ("ihl 0", fixed(&good, |p| p[0] = 0x40), IpHeader),
        ("ihl 4", fixed(&good, |p| p[0] = 0x44), IpHeader),
        ("ihl 15 of 32 bytes", fixed(&good[..32], |p| p[0] = 0x4f), Truncated),
        ("total length 0", fixed(&good, |p| p[2..4].fill(0)), IpHeader),
        ("total length 19", fixed(&good, |p| p[2..4].copy_from_slice(&[0, 19])), IpHeader),
        ("total length one more", fixed(&good, |p| p[3] += 1), Truncated),
        ("total length 65535", fixed(&good, |p| p[2..4].fill(255)), Truncated),
        ("total length in the options", fixed(&good, |p| (p[0], p[3]) = (0x46, 22)), IpHeader),
        ("checksum", with(&good, |p| p[10] ^= 1), IpChecksum),
        ("a bit of the source", with(&good, |p| p[13] ^= 4), IpChecksum),
        ("more fragments", fixed(&good, |p| p[6] |= 0x20), Fragment),
        ("offset 1", fixed(&good, |p| p[7] = 1), Fragment),
        ("largest offset", fixed(&good, |p| (p[6], p[7]) = (0x1f, 0xff)), Fragment),
        ("no protocol", fixed(&good, |p| p[9] = 0), Protocol),
        ("udp", fixed(&good, |p| p[9] = 17), Protocol),
        ("icmpv6 in ipv4", fixed(&good, |p| p[9] = 58), Protocol),
        ("length 20, no tcp", fixed(&good, |p| p[3] = 20), TcpHeader),
        ("19 bytes of tcp", fixed(&good, |p| p[3] = 39), TcpHeader),
        ("data offset 0", fixed(&good, |p| p[32] = 0), TcpHeader),
        ("data offset 4", fixed(&good, |p| p[32] = 0x40), TcpHeader),
        ("data offset 15 of 52 bytes", fixed(&good, |p| p[32] = 0xf0), TcpHeader),
        ("tcp checksum", with(&good, |p| p[36] ^= 1), TcpChecksum),
        ("last byte", with(&good, |p| p[len - 1] ^= 0x80), TcpChecksum),
        ("other destination", fixed(&good, |p| p[19] ^= 1), TcpChecksum),
    ];
    for (name, bytes, reason) in table {
        assert_eq!(parse(&bytes, COMPLETE), Err(reason), "{name}");
    }
}

/// An IPv6 packet whose TCP segment stands behind `extensions`, the first of kind `first`.
fn extended(first: u8, extensions: &[u8]) -> Vec<u8> {
    let good = tcp_v6();
    let mut packet = good[..40].to_vec();
    packet[4..6].copy_from_slice(&u16::try_from(good.len() - 40 + extensions.len()).unwrap().to_be_bytes());
    packet[6] = first;
    packet.extend_from_slice(extensions);
    packet.extend_from_slice(&good[40..]);
    packet
}

#[test]
fn malformed_ipv6() {
    use DropReason::*;
    let good = tcp_v6();
    let len = good.len();
    let dest = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let nine = [dest(60), dest(60), dest(60), dest(60), dest(60), dest(60), dest(60), dest(60), dest(6)].concat();
    let long = [vec![6, 255], vec![0; 2046]].concat();
    let table: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("39 bytes", good[..39].to_vec(), Truncated),
        ("cut payload", good[..len - 1].to_vec(), Truncated),
        ("payload length one more", with(&good, |p| p[5] += 1), Truncated),
        ("payload length 0", with(&good, |p| p[4..6].fill(0)), TcpHeader),
        ("jumbo", with(&extended(0, &[6, 0, 0xc2, 4, 0, 1, 0, 0]), |p| p[4..6].fill(0)), Truncated),
        ("jumbo with a length", extended(0, &[6, 0, 0xc2, 4, 0, 1, 0, 0]), IpHeader),
        ("nothing follows", with(&good, |p| p[6] = 59), Protocol),
        ("esp", with(&good, |p| p[6] = 50), Protocol),
        ("authentication", with(&good, |p| p[6] = 51), Protocol),
        ("icmpv4 in ipv6", with(&good, |p| p[6] = 1), Protocol),
        ("fragment", extended(44, &[6, 0, 0, 1, 0, 0, 0, 1]), Fragment),
        ("atomic fragment", extended(44, &[6, 0, 0, 0, 0, 0, 0, 1]), Fragment),
        ("fragment behind options", extended(60, &[dest(44), [6, 0, 0, 0, 0, 0, 0, 1]].concat()), Fragment),
        ("cut fragment header", with(&good, |p| p[6] = 44), Fragment),
        ("hop-by-hop second", extended(60, &[dest(0), dest(6)].concat()), IpHeader),
        ("hop-by-hop twice", extended(0, &[dest(0), dest(6)].concat()), IpHeader),
        ("routing with segments left", extended(43, &[6, 0, 4, 1, 0, 0, 0, 0]), IpHeader),
        ("unknown option: discard", extended(60, &[6, 0, 0x41, 4, 0, 0, 0, 0]), IpHeader),
        ("unknown option: discard and report", extended(0, &[6, 0, 0x85, 4, 0, 0, 0, 0]), IpHeader),
        ("home address", extended(60, &[6, 0, 0xc9, 4, 0, 0, 0, 0]), IpHeader),
        ("option past the end", extended(60, &[6, 0, 1, 5, 0, 0, 0, 0]), IpHeader),
        ("option without length", extended(60, &[6, 0, 0, 0, 0, 0, 0, 1]), IpHeader),
        ("extension past the end", extended(60, &[6, 200, 1, 4, 0, 0, 0, 0]), Truncated),
        ("extension header cut", with(&good[..44], |p| (p[5], p[6]) = (4, 60)), Truncated),
        ("nine extensions", extended(60, &nine), IpHeader),
        ("2,048 bytes of extensions", extended(60, &long), IpHeader),
        ("data offset 4", with(&good, |p| p[52] = 0x40), TcpHeader),
        ("tcp checksum", with(&good, |p| p[len - 1] ^= 1), TcpChecksum),
        ("source", with(&good, |p| p[8] ^= 1), TcpChecksum),
    ];
    for (name, bytes, reason) in table {
        assert_eq!(parse(&bytes, COMPLETE), Err(reason), "{name}");
    }
}

#[test]
fn ipv6_extensions_are_skipped() {
    let good = tcp_v6();
    let expected = parse(&good, COMPLETE).unwrap();
    let dest = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let eight = [dest(60), dest(60), dest(60), dest(60), dest(60), dest(60), dest(60), dest(6)].concat();
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("destination options", extended(60, &dest(6))),
        ("router alert", extended(0, &[6, 0, 5, 2, 0, 0, 1, 0])),
        ("pad1 only", extended(60, &[6, 0, 0, 0, 0, 0, 0, 0])),
        ("unknown, skippable", extended(60, &[6, 0, 0x1e, 4, 1, 2, 3, 4])),
        ("routing, none left", extended(43, &[6, 0, 4, 0, 0, 0, 0, 0])),
        ("all three", extended(0, &[dest(60), dest(43), [6, 0, 0, 0, 0, 0, 0, 0]].concat())),
        ("eight", extended(60, &eight)),
        ("1,024 bytes", extended(60, &[vec![6, 127], vec![0; 1022]].concat())),
    ];
    for (name, bytes) in table {
        assert_eq!(parse(&bytes, COMPLETE), Ok(expected), "{name}");
    }
}

#[test]
fn ipv4_options_and_trailing_bytes_are_skipped() {
    let good = tcp_v4();
    let expected = parse(&good, COMPLETE).unwrap();
    assert_eq!(parse(&[&good[..], &[0xaa; 6]].concat(), COMPLETE), Ok(expected));
    let trailing = [&tcp_v6()[..], &[0xaa; 6]].concat();
    assert_eq!(parse(&trailing, COMPLETE), parse(&tcp_v6(), COMPLETE));
    for words in 1..=10u8 {
        let options = vec![0x01; usize::from(words) * 4];
        let bytes = fixed(&[&good[..20], &options[..], &good[20..]].concat(), |p| {
            p[0] += words;
            p[3] += words * 4;
        });
        assert_eq!(parse(&bytes, COMPLETE), Ok(expected), "{words} words");
    }
    // The reserved bit is nobody's fragment (RFC 3514).
    assert_eq!(parse(&fixed(&good, |p| p[6] |= 0x80), COMPLETE), Ok(expected));
}

#[test]
fn checksums_are_verified_only_when_complete() {
    for good in [tcp_v4(), tcp_v6()] {
        let bad = with(&good, |p| *p.last_mut().unwrap() ^= 1);
        assert_eq!(parse(&bad, COMPLETE), Err(DropReason::TcpChecksum));
        assert!(parse(&bad, Checksum::Verified).is_ok());
        assert!(parse(&bad, Checksum::Partial { start: 20, offset: 16 }).is_ok());
    }
    let bad = with(&tcp_v4(), |p| p[10] ^= 1);
    assert_eq!(parse(&bad, Checksum::Verified), Err(DropReason::IpChecksum), "the IP header's always");
}

/// Each single flipped bit of a packet is noticed (a one-bit error never cancels out).
#[test]
fn every_flipped_bit_changes_the_verdict() {
    for good in [tcp_v4(), tcp_v6(), wrap(V4, 1, &[8, 0, 0, 0, 1, 2, 3, 4, 5], Some(2))] {
        let verdict = parse(&good, COMPLETE);
        assert!(verdict.is_ok());
        // No checksum covers the IPv6 flow label, and nobody reads it.
        let unread = if good[0] >> 4 == 6 { [8..12, 16..32] } else { [0..0, 0..0] };
        for bit in (0..good.len() * 8).filter(|bit| !unread.iter().any(|range| range.contains(bit))) {
            let bad = with(&good, |p| p[bit / 8] ^= 1 << (bit % 8));
            assert_ne!(parse(&bad, COMPLETE), verdict, "bit {bit}");
        }
    }
}

#[test]
fn options_count_only_where_they_are_allowed() {
    let all = seg!(mss 1, ws 2, sackok, ts(3, 4), sack(5..6));
    for ends in [V4, V6] {
        let parsed = |seg: Segment<'_>| match parse(&packet(ends, &seg), COMPLETE) {
            Ok(Packet { body: Body::Tcp { seg, .. }, .. }) => seg.options,
            other => panic!("{other:?}"),
        };
        let syn = Segment { flags: Flags::SYN, ..all };
        assert_eq!(parsed(syn), seg!(mss 1, ws 2, sackok, ts(3, 4)).options);
        let ack = Segment { flags: Flags::ACK, ..all };
        assert_eq!(parsed(ack), seg!(ts(3, 4), sack(5..6)).options);
    }
}

#[test]
fn malformed_tcp_options_are_counted_apart() {
    for ends in [V4, V6] {
        let mut header = packet(ends, &seg!(ack 1, ts(1, 2)));
        let ip = header.len() - 32;
        for bad in [[8, 0], [8, 1], [8, 11], [99, 0]] {
            header[ip + 22..ip + 24].copy_from_slice(&bad);
            assert_eq!(parse(&header, Checksum::Verified), Err(DropReason::TcpOptions), "{bad:?}");
            // Damage must show as damage, not as a hostile peer.
            assert_eq!(parse(&header, COMPLETE), Err(DropReason::TcpChecksum), "{bad:?}");
        }
    }
}

/// reliability.md A18: every IHL and data offset with every total length that a 64-byte packet makes interesting.
#[test]
fn exhaustive_length_lies() {
    let mut packet = packet(V4, &seg!(ack 1));
    packet.resize(64, 0);
    let mut check = |ihl: u8, total: u16, doff: u8| {
        packet.fill(1); // NOPs, wherever options turn out to be
        let header =
            [0x40 | ihl, 0, (total >> 8) as u8, total as u8, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet[..20].copy_from_slice(&header);
        let start = usize::from(ihl.max(5)) * 4;
        if let Some(byte) = packet.get_mut(start + 12) {
            *byte = doff << 4;
        }
        fix_ip(&mut packet);
        let (start, total, tcp) = (usize::from(ihl) * 4, usize::from(total), usize::from(doff) * 4);
        let expected = match () {
            () if start < 20 => Err(DropReason::IpHeader),
            () if total > 64 => Err(DropReason::Truncated),
            () if total < start => Err(DropReason::IpHeader),
            () if total - start < 20 || tcp < 20 || tcp > total - start => Err(DropReason::TcpHeader),
            () => Ok(total - start - tcp),
        };
        let found = parse(&packet, Checksum::Verified).map(|packet| match packet.body {
            Body::Tcp { seg, .. } => seg.payload.len(),
            body => panic!("{body:?}"),
        });
        assert_eq!(found, expected, "ihl {ihl} total {total} doff {doff}");
    };
    for ihl in 0..16 {
        for doff in 0..16 {
            for total in (0..=130).chain((131..=65_535).step_by(1021)).chain([65_534, 65_535]) {
                check(ihl, total, doff);
            }
        }
    }
    for total in 0..=u16::MAX {
        check(5, total, 5);
    }
}

#[test]
fn every_prefix_of_a_packet_is_an_error() {
    for good in [tcp_v4(), tcp_v6()] {
        for len in 0..good.len() {
            assert_eq!(parse(&good[..len], Checksum::Verified), Err(DropReason::Truncated), "length {len}");
        }
    }
}

#[test]
fn echo_requests() {
    let request = |kind, code| [kind, code, 0, 0, 1, 2, 3, 4, 5, 6, 7];
    for (ends, protocol, kind) in [(V4, 1, 8), (V6, 58, 128)] {
        let good = wrap(ends, protocol, &request(kind, 0), Some(2));
        let body = parse(&good, COMPLETE).unwrap().body;
        assert_eq!(body, Body::EchoRequest { rest: &[1, 2, 3, 4, 5, 6, 7] });
        let bad = with(&good, |p| *p.last_mut().unwrap() ^= 1);
        assert_eq!(parse(&bad, COMPLETE), Err(DropReason::IcmpChecksum));
        assert!(parse(&bad, Checksum::Verified).is_ok());
        let short = wrap(ends, protocol, &request(kind, 0)[..7], Some(2));
        assert_eq!(parse(&short, COMPLETE), Err(DropReason::IcmpHeader));
        assert_eq!(parse(&wrap(ends, protocol, &[], None), COMPLETE), Err(DropReason::IcmpHeader));
        let code = wrap(ends, protocol, &request(kind, 1), Some(2));
        assert_eq!(parse(&code, COMPLETE), Err(DropReason::IcmpIgnored));
    }
}

/// The error a router at the far end sends about a segment of `ends[0]`.
fn icmp_error(ends: [&'static str; 2], head: [u8; 8], quote: &[u8]) -> Vec<u8> {
    let protocol = if ends == V4 { 1 } else { 58 };
    let [local, remote] = ends;
    wrap([remote, local], protocol, &[&head[..], quote].concat(), Some(2))
}

fn icmp_kind(ends: [&'static str; 2], kind: u8, code: u8) -> Result<IcmpKind, DropReason> {
    let sent = packet(ends, &seg!(ack 1, seq 77, len 50));
    let bytes = icmp_error(ends, [kind, code, 0, 0, 0x00, 0x01, 0x05, 0x14], &sent[..if ends == V4 { 28 } else { 48 }]);
    parse(&bytes, COMPLETE).map(|packet| match packet.body {
        Body::IcmpError(error) => {
            let header = header(ends, &seg!());
            assert_eq!(error.tuple, FourTuple { local: header.local, remote: header.remote });
            assert_eq!(error.seq, Seq::new(77));
            error.kind
        }
        body => panic!("{body:?}"),
    })
}

#[test]
fn icmp_errors_are_mapped_as_linux_does() {
    use IcmpKind::*;
    let host = Ok(HostUnreachable);
    let net = Ok(NetworkUnreachable);
    let port = Ok(PortUnreachable);
    let too_big = Ok(PacketTooBig { mtu: 1300 });
    let v4 = [net, host, port, port, too_big, host, net, host, host, net, host, net, host, host, host, host];
    for (code, expected) in (0..).zip(v4) {
        assert_eq!(icmp_kind(V4, 3, code), expected, "v4 code {code}");
    }
    assert_eq!(icmp_kind(V4, 3, 16), Err(DropReason::IcmpIgnored));
    for (code, expected) in (0..).zip([net, host, host, host, port, host, host]) {
        assert_eq!(icmp_kind(V6, 1, code), expected, "v6 code {code}");
    }
    for code in [0, 1] {
        assert_eq!(icmp_kind(V6, 2, code), Ok(PacketTooBig { mtu: 66_836 }));
        for (ends, kind) in [(V4, 11), (V4, 12), (V6, 3), (V6, 4)] {
            assert_eq!(icmp_kind(ends, kind, code), Ok(Soft));
        }
    }
    // Echo reply, source quench, redirect, timestamp reply; unknown error, echo reply, neighbour discovery.
    for kind in [0, 4, 5, 13, 17, 42] {
        assert_eq!(icmp_kind(V4, kind, 1), Err(DropReason::IcmpIgnored), "v4 type {kind}");
    }
    for kind in [0, 5, 100, 129, 133, 135, 136, 255] {
        assert_eq!(icmp_kind(V6, kind, 0), Err(DropReason::IcmpIgnored), "v6 type {kind}");
    }
}

#[test]
fn malformed_quotes() {
    use DropReason::*;
    let v4 = tcp_v4();
    let v6 = tcp_v6();
    let table: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("v4 nothing", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &[]), IcmpHeader),
        ("v4 half a header", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &v4[..19]), IcmpHeader),
        ("v4 seven bytes of tcp", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &v4[..27]), IcmpHeader),
        ("v4 ihl 4", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &with(&v4, |p| p[0] = 0x44)), IcmpHeader),
        (
            "v4 ihl past the end",
            icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &with(&v4[..28], |p| p[0] = 0x4f)),
            IcmpHeader,
        ),
        ("v4 quotes v6", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &v6), IcmpHeader),
        ("v4 quotes udp", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &with(&v4, |p| p[9] = 17)), IcmpIgnored),
        ("v4 quotes a later fragment", icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &with(&v4, |p| p[7] = 9)), IcmpIgnored),
        ("v6 nothing", icmp_error(V6, [1, 4, 0, 0, 0, 0, 0, 0], &[]), IcmpHeader),
        ("v6 seven bytes of tcp", icmp_error(V6, [1, 4, 0, 0, 0, 0, 0, 0], &v6[..47]), IcmpHeader),
        ("v6 quotes v4", icmp_error(V6, [1, 4, 0, 0, 0, 0, 0, 0], &v4), IcmpHeader),
        ("v6 quotes udp", icmp_error(V6, [1, 4, 0, 0, 0, 0, 0, 0], &with(&v6, |p| p[6] = 17)), IcmpIgnored),
        ("v6 quotes a fragment", icmp_error(V6, [1, 4, 0, 0, 0, 0, 0, 0], &with(&v6, |p| p[6] = 44)), IcmpIgnored),
    ];
    for (name, bytes, reason) in table {
        assert_eq!(parse(&bytes, COMPLETE), Err(reason), "{name}");
    }
    // A quote whose TTL a router has changed without telling its checksum, and whose length a tunnel has: still ours.
    let changed = icmp_error(V4, [3, 3, 0, 0, 0, 0, 0, 0], &with(&v4[..28], |p| (p[3], p[8]) = (9, 1)));
    assert!(matches!(parse(&changed, COMPLETE), Ok(Packet { body: Body::IcmpError(_), .. })));
}

#[test]
fn random_packets_never_panic() {
    let mut rng = fastrand::Rng::with_seed(18);
    let seeds = [tcp_v4(), tcp_v6(), extended(60, &[6, 0, 1, 4, 0, 0, 0, 0]), icmp_error(V4, [3; 8], &tcp_v4())];
    let mut parsed = 0;
    for _ in 0..20_000 {
        let mut bytes = rng.choice(&seeds).unwrap().clone();
        for _ in 0..rng.usize(..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(bytes.len() / 2..=bytes.len() * 2));
        fix_ip(&mut bytes);
        parsed += usize::from(parse(&bytes, Checksum::Verified).is_ok());
    }
    assert!(parsed > 1000, "only {parsed} got through");
}

#[test]
fn offload_metadata_must_agree_with_the_packet() {
    const DROPPED: Option<DropReason> = Some(DropReason::Offload);
    let partial = |start: u16, offset: u16| Checksum::Partial { start, offset };
    let v4_options = fixed(&tcp_v4(), |p| {
        p.splice(20..20, [1, 1, 1, 1]);
        p[0] = 0x46;
        p[3] += 4;
    });
    let ping = wrap(V4, 1, &[8, 0, 0, 0, 0, 1, 0, 1], Some(2));
    let udp = wrap(V4, 17, &[0; 20], None);
    for (packet, start) in [(tcp_v4(), 20), (tcp_v6(), 40), (v4_options, 24)] {
        let (header, past) = (start + 32, packet.len() as u16);
        let table = [
            ("nothing", Checksum::Verified, None, 0, None),
            ("where it belongs", partial(start, 16), None, 0, None),
            ("segments", partial(start, 16), Some(10), header, None),
            ("one segment", partial(start, 16), Some(9_000), header, None),
            ("segments, verified", Checksum::Verified, Some(10), header, None),
            ("header length without segments", partial(start, 16), None, 7, None),
            ("start 0", partial(0, 16), None, 0, DROPPED),
            ("start one early", partial(start - 1, 16), None, 0, DROPPED),
            ("start one late", partial(start + 1, 16), None, 0, DROPPED),
            ("the other version's start", partial(60 - start, 16), None, 0, DROPPED),
            ("start past the end", partial(past, 16), None, 0, DROPPED),
            ("largest start", partial(u16::MAX, 16), None, 0, DROPPED),
            ("offset 0", partial(start, 0), None, 0, DROPPED),
            ("UDP's offset", partial(start, 6), None, 0, DROPPED),
            ("offset past the end", partial(start, past), None, 0, DROPPED),
            ("largest of both", partial(u16::MAX, u16::MAX), Some(10), header, DROPPED),
            ("segments of no bytes", partial(start, 16), Some(0), header, DROPPED),
            ("segments of no bytes, verified", Checksum::Verified, Some(0), 0, DROPPED),
            ("segments, start late", partial(start + 4, 16), Some(10), header, DROPPED),
            ("header length 0", partial(start, 16), Some(10), 0, DROPPED),
            ("header without TCP options", partial(start, 16), Some(10), start + 20, DROPPED),
            ("header one longer", partial(start, 16), Some(10), header + 1, DROPPED),
            ("header past the end", partial(start, 16), Some(10), past + 1, DROPPED),
            ("largest header", partial(start, 16), Some(10), u16::MAX, DROPPED),
        ];
        for (what, checksum, segment_size, header_len, expected) in table {
            if what.starts_with("the other") && start == 24 {
                continue;
            }
            let offload = Offload { checksum, segment_size, header_len };
            assert_eq!(parse_received(&packet, offload).err(), expected, "{what}, TCP at {start}");
        }
    }
    let offload = |checksum, segment_size, header_len| Offload { checksum, segment_size, header_len };
    assert_eq!(parse_received(&ping, offload(partial(20, 2), None, 0)).err(), None);
    assert_eq!(parse_received(&ping, offload(partial(20, 16), None, 0)).err(), DROPPED);
    assert_eq!(parse_received(&ping, offload(partial(20, 2), Some(10), 40)).err(), DROPPED);
    assert_eq!(parse_received(&udp, offload(partial(20, 6), None, 0)).err(), Some(DropReason::Protocol));
    assert_eq!(parse_received(&udp, offload(partial(20, 6), Some(10), 28)).err(), DROPPED);
    // What is wrong with the packet itself comes first.
    let broken = with(&tcp_v4(), |p| p[10] ^= 1);
    assert_eq!(parse_received(&broken, offload(partial(0, 0), Some(0), 0)).err(), Some(DropReason::IpChecksum));
}
