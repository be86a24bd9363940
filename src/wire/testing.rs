//! What tests write packets with: `seg!`, a [`Segment`] literal (design.md §8.1), and whole packets, good and repaired.

use std::net::SocketAddr;

use super::checksum::Sum;
use super::{Header, MAX_HEADER, Segment, emit_tcp};

/// Payload of `len`.
pub(crate) static ZEROS: [u8; 65_536] = [0; 65_536];

/// Builds a `Segment<'static>`; what is not named is zero, empty or absent (`wnd` too). Fields in any order:
///
/// - `seq N`, `ack N` (sets ACK), `wnd N`, `len N` (that many zero bytes), `data BYTES`
/// - flags: `syn fin rst psh urg ece cwr`
/// - options: `mss N`, `ws N`, `sackok`, `ts(VAL, ECR)`, `sack(L..R)` (repeatable)
///
/// `seg!(syn, seq 100, wnd 65535, mss 1460, sackok, ts(1, 0), ws 7)`
macro_rules! seg {
    (@ $s:ident) => {};
    (@ $s:ident , $($rest:tt)*) => { $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident seq $v:expr $(, $($rest:tt)*)?) => { $s.seq = $crate::wire::Seq::new($v); $crate::wire::seg!(@ $s $($($rest)*)?) };
    (@ $s:ident ack $v:expr $(, $($rest:tt)*)?) => {
        $s.ack = $crate::wire::Seq::new($v);
        $s.flags |= $crate::wire::Flags::ACK;
        $crate::wire::seg!(@ $s $($($rest)*)?)
    };
    (@ $s:ident wnd $v:expr $(, $($rest:tt)*)?) => { $s.wnd = $v; $crate::wire::seg!(@ $s $($($rest)*)?) };
    (@ $s:ident len $v:expr $(, $($rest:tt)*)?) => {
        $s.payload = $crate::wire::ZEROS.get(..$v).expect("len at most 65536");
        $crate::wire::seg!(@ $s $($($rest)*)?)
    };
    (@ $s:ident data $v:expr $(, $($rest:tt)*)?) => { $s.payload = $v; $crate::wire::seg!(@ $s $($($rest)*)?) };
    (@ $s:ident mss $v:expr $(, $($rest:tt)*)?) => { $s.options.mss = Some($v); $crate::wire::seg!(@ $s $($($rest)*)?) };
    (@ $s:ident ws $v:expr $(, $($rest:tt)*)?) => { $s.options.window_scale = Some($v); $crate::wire::seg!(@ $s $($($rest)*)?) };
    (@ $s:ident sackok $($rest:tt)*) => { $s.options.sack_permitted = true; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident ts($val:expr, $ecr:expr) $($rest:tt)*) => {
        $s.options.timestamps = Some($crate::wire::Timestamps { val: $val, ecr: $ecr });
        $crate::wire::seg!(@ $s $($rest)*)
    };
    (@ $s:ident sack($range:expr) $($rest:tt)*) => {
        let ::std::ops::Range { start, end } = $range;
        let (left, right) = ($crate::wire::Seq::new(start), $crate::wire::Seq::new(end));
        $s.options.sack.push($crate::wire::SackBlock { left, right });
        $crate::wire::seg!(@ $s $($rest)*)
    };
    (@ $s:ident syn $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::SYN; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident fin $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::FIN; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident rst $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::RST; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident psh $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::PSH; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident urg $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::URG; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident ece $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::ECE; $crate::wire::seg!(@ $s $($rest)*) };
    (@ $s:ident cwr $($rest:tt)*) => { $s.flags |= $crate::wire::Flags::CWR; $crate::wire::seg!(@ $s $($rest)*) };
    ($($field:tt)*) => {{
        #[allow(unused_mut)]
        let mut segment = $crate::wire::Segment::<'static>::default();
        $crate::wire::seg!(@ segment $($field)*);
        segment
    }};
}
pub(crate) use seg;

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

mod tests {
    use crate::wire::{Flags, Options, SackBlock, SackBlocks, Segment, Seq, Timestamps};

    #[test]
    fn builds_every_field_in_any_order() {
        let mut sack = SackBlocks::EMPTY;
        sack.push(SackBlock { left: Seq::new(5), right: Seq::new(7) });
        sack.push(SackBlock { left: Seq::new(9), right: Seq::new(12) });
        let options = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            sack,
            timestamps: Some(Timestamps { val: 1, ecr: 2 }),
        };
        let expected = Segment {
            seq: Seq::new(1),
            ack: Seq::new(101),
            flags: Flags::SYN | Flags::ACK | Flags::PSH | Flags::FIN,
            wnd: 1000,
            options,
            payload: &[0; 10],
            landed: 0,
        };
        let made = seg!(ts(1, 2), ack 100 + 1, sack(5..7), psh, len 10, syn, ws 7, sack(9..12), wnd 1000, mss 1460, fin, sackok, seq 1);
        assert_eq!(made, expected);
        assert_eq!(seg!(), Segment::default());
        assert_eq!(seg!(rst, data b"x",), Segment { flags: Flags::RST, payload: b"x", ..Segment::default() });
        assert_eq!(seg!(urg, ece, cwr).flags, Flags::URG | Flags::ECE | Flags::CWR);
    }
}
