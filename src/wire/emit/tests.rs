use super::*;
use crate::wire::testing::{V4, V6, header};
use crate::wire::{Body, FourTuple, Offload, Options, Packet, Segment, Timestamps, complete_checksum, parse, seg};

static TEXT: [u8; 4000] = {
    let mut text = [0; 4000];
    let mut at = 0;
    while at < text.len() {
        text[at] = (at * 7 % 251) as u8;
        at += 1;
    }
    text
};

fn segments() -> Vec<Segment<'static>> {
    let mut segments = vec![
        seg!(syn, seq 7, wnd 65535),
        seg!(syn, ack 1, seq u32::MAX, wnd 1),
        seg!(rst, seq 5),
        seg!(ack 9, seq 1, psh, fin, wnd 500),
        seg!(ack 9, ece, cwr, urg),
        seg!(ack 2, sack(1..2), sack(3..4), sack(5..6), sack(7..8)),
        seg!(ack 2, ts(1, 2), sack(1..2), sack(3..4), sack(5..6)),
        seg!(ack 2, ts(u32::MAX, 0)),
    ];
    for bits in 0..16 {
        let options = Options {
            mss: (bits & 1 != 0).then_some(1460),
            window_scale: (bits & 2 != 0).then_some(14),
            sack_permitted: bits & 4 != 0,
            timestamps: (bits & 8 != 0).then_some(Timestamps { val: 1, ecr: 2 }),
            ..Options::default()
        };
        segments.push(Segment { options, ..seg!(syn, seq 1, wnd 3) });
    }
    segments
}

fn check(ends: [&str; 2], seg: &Segment<'static>, split: usize) {
    let header = header(ends, seg);
    let (first, second) = seg.payload.split_at(split);
    let mut out = [0; MAX_HEADER];
    let (len, checksum) = emit_tcp(&mut out, &header, [first, second], false);
    assert_eq!(checksum, Checksum::Complete);
    let bytes = [&out[..len], seg.payload].concat();
    let expected = Packet {
        ip: IpInfo { src: header.local.ip(), dst: header.remote.ip(), hop_limit: 61, traffic_class: 0xb9 },
        body: Body::Tcp { tuple: FourTuple { local: header.remote, remote: header.local }, seg: *seg },
    };
    assert_eq!(parse(&bytes, Checksum::Complete), Ok(expected), "split {split}");

    let (partial_len, checksum) = emit_tcp(&mut out, &header, [first, second], true);
    let mut partial = [&out[..partial_len], seg.payload].concat();
    assert_eq!(parse(&partial, checksum), Ok(expected));
    complete_checksum(&mut partial, Offload { checksum, ..Offload::default() });
    assert_eq!(partial, bytes);
}

#[test]
fn what_is_emitted_parses_to_the_same() {
    for ends in [V4, V6] {
        for seg in segments() {
            for len in [0, 1, 2, 3, 31, 32, 33, 1459, 1460, 4000] {
                for split in [0, 1, 2, 3, len / 2, len / 2 + 1, len] {
                    check(ends, &Segment { payload: &TEXT[..len], ..seg }, split.min(len));
                }
            }
        }
    }
}

/// A SYN, its checksums computed by hand.
#[test]
fn known_bytes() {
    let mut header = header(V4, &seg!(syn, seq 0x0102_0304, wnd 0xfaf0, mss 1460));
    (header.hop_limit, header.traffic_class) = (64, 0);
    let mut out = [0; MAX_HEADER];
    let (len, _) = emit_tcp(&mut out, &header, [&[]; 2], false);
    #[rustfmt::skip]
    let expected = [
        0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0x26, 0xca, 10, 0, 0, 1, 10, 0, 0, 2,
        0x04, 0xd2, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0x60, 0x02, 0xfa, 0xf0, 0x80, 0x0b, 0, 0, 2, 4, 5, 0xb4,
    ];
    assert_eq!(out[..len], expected);
}

/// What the kernel expects with VIRTIO_NET_HDR_F_NEEDS_CSUM: the folded sum of the pseudo-header, not inverted.
#[test]
fn partial_checksum_is_the_pseudo_header_sum() {
    let mut out = [0; MAX_HEADER];
    let (len, checksum) = emit_tcp(&mut out, &header(V4, &seg!(ack 1)), [&TEXT[..100], &TEXT[..11]], true);
    assert_eq!((len, checksum), (40, Checksum::Partial { start: 20, offset: 16 }));
    // 10.0.0.1 + 10.0.0.2 + protocol 6 + length 20 + 111
    assert_eq!(u16::from_be_bytes([out[36], out[37]]), 0x0a00 + 1 + 0x0a00 + 2 + 6 + 131);
    let (len, checksum) = emit_tcp(&mut out, &header(V6, &seg!(ack 1)), [&[], &[]], true);
    assert_eq!((len, checksum), (60, Checksum::Partial { start: 40, offset: 16 }));
    assert_eq!(u16::from_be_bytes([out[56], out[57]]), (0xfd00u32 * 2 + 3 + 6 + 20 - 0xffff) as u16);
}

#[test]
fn ipv4_header_says_dont_fragment_and_id_zero() {
    let mut out = [0; MAX_HEADER];
    emit_tcp(&mut out, &header(V4, &seg!(ack 1)), [&[], &[]], false);
    assert_eq!(&out[4..8], &[0, 0, 0x40, 0]);
}

#[test]
fn largest_packets_and_the_callers_bugs() {
    let mut out = [0; MAX_HEADER];
    let all = vec![0x5a; 65_535];
    let len_field = |out: &[u8], at| u16::from_be_bytes([out[at], out[at + 1]]);
    for (ends, at, most) in [(V4, 2, 65_495), (V6, 4, 65_515)] {
        let (len, _) = emit_tcp(&mut out, &header(ends, &seg!(ack 1)), [&all[..most], &[]], false);
        let bytes = [&out[..len], &all[..most]].concat();
        assert_eq!(len_field(&out, at), 65_535);
        assert!(parse(&bytes, Checksum::Complete).is_ok());
        emit_tcp(&mut out, &header(ends, &seg!(ack 1)), [&all[..], &all[..]], false);
        assert_eq!(len_field(&out, at), 65_535);
    }
    let mixed = Header { remote: V6[1].parse().unwrap(), ..header(V4, &seg!()) };
    assert_eq!(emit_tcp(&mut out, &mixed, [&[], &[]], true), (0, Checksum::Complete));
    let mixed = IpInfo { src: mixed.local.ip(), dst: mixed.remote.ip(), hop_limit: 1, traffic_class: 0 };
    assert_eq!(emit_echo_reply(&mut out, &mixed, &[0; 4]), 0);
}

#[test]
fn longest_header_fits() {
    let seg = seg!(ack 1, ts(1, 2), sack(1..2), sack(3..4), sack(5..6));
    let mut out = [0; MAX_HEADER];
    assert_eq!(emit_tcp(&mut out, &header(V6, &seg), [&[], &[]], false).0, MAX_HEADER);
}

#[test]
fn echo_replies_mirror_requests() {
    for (ends, kind) in [(V4, 0), (V6, 129)] {
        let request = header(ends, &seg!());
        let ip = IpInfo { src: request.local.ip(), dst: request.remote.ip(), hop_limit: 3, traffic_class: 0x0b };
        for len in [4, 5, 64, 1473] {
            let rest = &TEXT[..len];
            let mut out = [0; MAX_HEADER];
            let header_len = emit_echo_reply(&mut out, &ip, rest);
            let bytes = [&out[..header_len], rest].concat();
            let head = header_len - 4;
            assert_eq!(out[head..head + 2], [kind, 0]);
            // A reply is nothing we act on: the reason shows that both checksums were right.
            assert_eq!(parse(&bytes, Checksum::Complete), Err(crate::stats::DropReason::IcmpIgnored));
            // As a request again it says who sent it: code and checksum apart, only the type differs.
            let mut turned = bytes.clone();
            turned[head] = if kind == 0 { 8 } else { 128 };
            let parsed = parse(&turned, Checksum::Verified).unwrap();
            let expected = IpInfo { src: ip.dst, dst: ip.src, hop_limit: 64, traffic_class: 0x08 };
            assert_eq!(parsed, Packet { ip: expected, body: Body::EchoRequest { rest } });
        }
    }
}
