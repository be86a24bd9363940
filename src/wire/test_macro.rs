//! `seg!`: a [`Segment`](super::Segment) literal for tests (design.md §8.1).

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

#[cfg(test)]
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
        };
        let made = seg!(ts(1, 2), ack 100 + 1, sack(5..7), psh, len 10, syn, ws 7, sack(9..12), wnd 1000, mss 1460, fin, sackok, seq 1);
        assert_eq!(made, expected);
        assert_eq!(seg!(), Segment::default());
        assert_eq!(seg!(rst, data b"x",), Segment { flags: Flags::RST, payload: b"x", ..Segment::default() });
        assert_eq!(seg!(urg, ece, cwr).flags, Flags::URG | Flags::ECE | Flags::CWR);
    }
}
