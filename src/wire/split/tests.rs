use super::*;
use crate::wire::testing::{V4, V6, fix_ip, header};
use crate::wire::{Body, Flags, MAX_HEADER, Segment, Seq, emit_tcp, parse, seg};

static TEXT: [u8; 9000] = {
    let mut text = [0; 9000];
    let mut at = 0;
    while at < text.len() {
        text[at] = (at * 11 % 253) as u8;
        at += 1;
    }
    text
};

fn large(ends: [&str; 2], seg: &Segment<'_>, size: u16) -> (Vec<u8>, Offload) {
    let mut out = [0; MAX_HEADER];
    let (len, checksum) = emit_tcp(&mut out, &header(ends, seg), [seg.payload, &[]], true);
    let offload = Offload { checksum, segment_size: Some(size), header_len: len as u16 };
    ([&out[..len], seg.payload].concat(), offload)
}

fn pieces(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    split_large(packet, offload, &mut Vec::new(), &mut |piece| pieces.push(piece.to_vec()));
    pieces
}

fn segment(piece: &[u8]) -> Segment<'_> {
    match parse(piece, Checksum::Complete) {
        Ok(packet) => match packet.body {
            Body::Tcp { seg, .. } => seg,
            body => panic!("{body:?}"),
        },
        Err(reason) => panic!("{reason:?}"),
    }
}

#[test]
fn pieces_are_what_a_segmenting_device_sends() {
    for ends in [V4, V6] {
        for (len, size) in [(9000, 1448), (9000, 1000), (4345, 1448), (3, 1), (1449, 1448), (7, 3)] {
            let whole = seg!(seq u32::MAX - 2000, ack 5, wnd 6, psh, fin, cwr, ts(7, 8), data &TEXT[..len]);
            let (packet, offload) = large(ends, &whole, size);
            let pieces = pieces(&packet, offload);
            assert_eq!(pieces.len(), len.div_ceil(usize::from(size)));
            let mut at = 0;
            for (n, piece) in pieces.iter().enumerate() {
                let seg = segment(piece);
                let last = n + 1 == pieces.len();
                let text = &TEXT[at..len.min(at + usize::from(size))];
                let mut flags = Flags::ACK;
                if n == 0 {
                    flags |= Flags::CWR;
                }
                if last {
                    flags |= Flags::FIN | Flags::PSH;
                }
                let expected = Segment { seq: whole.seq + at as u32, flags, payload: text, ..whole };
                assert_eq!(seg, expected, "piece {n}");
                at += text.len();
            }
            assert_eq!(at, len);
        }
    }
}

#[test]
fn what_need_not_be_split_is_handed_on_whole() {
    for ends in [V4, V6] {
        let (packet, offload) = large(ends, &seg!(ack 1, psh, data &TEXT[..1448]), 1448);
        let made = pieces(&packet, offload);
        assert_eq!((made.len(), segment(&made[0])), (1, seg!(ack 1, psh, data &TEXT[..1448])));
        let no_size = Offload { segment_size: None, ..offload };
        assert_eq!(pieces(&packet, no_size), made);
        assert_eq!(pieces(&packet, Offload { segment_size: Some(0), ..offload }), made);
        assert_eq!(pieces(&made[0], Offload::default()), made);
        assert_eq!(pieces(b"no packet", Offload { segment_size: Some(1), ..Offload::default() }), [b"no packet"]);
    }
}

#[test]
fn ip_options_and_extension_headers_stay() {
    let (packet, offload) = large(V4, &seg!(seq 1, ack 1, data &TEXT[..5000]), 1400);
    let mut with_options = [&packet[..20], &[1; 8], &packet[20..]].concat();
    with_options[0] = 0x47;
    with_options[2..4].copy_from_slice(&(packet.len() as u16 + 8).to_be_bytes());
    fix_ip(&mut with_options);
    let (packet, _) = large(V6, &seg!(seq 1, ack 1, data &TEXT[..5000]), 1400);
    let mut extended = [&packet[..40], &[6, 0, 1, 4, 0, 0, 0, 0], &packet[40..]].concat();
    extended[4..6].copy_from_slice(&(packet.len() as u16 - 32).to_be_bytes());
    extended[6] = 60;
    for (packet, header_len) in [(with_options, 28), (extended, 48)] {
        let pieces = pieces(&packet, offload);
        assert_eq!(pieces.len(), 4);
        for (n, piece) in pieces.iter().enumerate() {
            assert_eq!(segment(piece).seq, Seq::new(1) + n as u32 * 1400);
            assert_eq!(piece.len(), header_len + 20 + segment(piece).payload.len());
        }
    }
}

#[test]
fn offsets_outside_the_packet_do_nothing() {
    for (start, offset) in [(0, 39), (39, 0), (40, 0), (41, 16), (20, 19), (20, u16::MAX), (u16::MAX, u16::MAX)] {
        let offload = Offload { checksum: Checksum::Partial { start, offset }, ..Offload::default() };
        let mut packet = [1; 40];
        complete_checksum(&mut packet, offload);
        assert_eq!(packet, [1; 40], "{start} {offset}");
    }
    let mut packet = [1; 40];
    complete_checksum(&mut packet, Offload::default());
    assert_eq!(packet, [1; 40]);
}
