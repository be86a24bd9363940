use super::*;
use crate::wire::seg;

fn emitted(options: &Options) -> Vec<u8> {
    let mut out = [0; MAX_OPTIONS];
    let len = emit_options(options, &mut out);
    assert_eq!(len, options_len(options));
    out[..len].to_vec()
}

#[test]
fn layout_is_linux_s() {
    let syn = seg!(syn, mss 1460, sackok, ts(0x0102_0304, 0), ws 7).options;
    assert_eq!(emitted(&syn), [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]);
    assert_eq!(emitted(&seg!(mss 536, sackok).options), [2, 4, 2, 24, 1, 1, 4, 2]);
    assert_eq!(emitted(&seg!(ts(1, 2)).options), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(emitted(&seg!(sack(1..2)).options), [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(emitted(&Options::default()), []);
}

#[test]
fn blocks_that_do_not_fit_are_left_out() {
    let mut options = seg!(sack(1..2), sack(3..4), sack(5..6), sack(7..8)).options;
    assert_eq!(options_len(&options), 36);
    options.timestamps = Some(Timestamps { val: 9, ecr: 9 });
    let parsed = parse_options(&emitted(&options)).unwrap();
    assert_eq!((options_len(&options), parsed.sack.as_slice().len()), (40, 3));
    options.mss = Some(1);
    options.window_scale = Some(1);
    options.sack_permitted = true;
    assert_eq!((options_len(&options), parse_options(&emitted(&options)).unwrap().sack.as_slice().len()), (40, 2));
}

/// Every combination of presence survives; blocks may be fewer, never others.
#[test]
fn round_trip_of_every_combination() {
    for bits in 0..16 {
        for blocks in 0..=4u32 {
            let mut options = Options {
                mss: (bits & 1 != 0).then_some(1460),
                window_scale: (bits & 2 != 0).then_some(14),
                sack_permitted: bits & 4 != 0,
                timestamps: (bits & 8 != 0).then_some(Timestamps { val: u32::MAX, ecr: 1 }),
                ..Options::default()
            };
            for n in 0..blocks {
                options.sack.push(SackBlock { left: Seq::new(u32::MAX - n), right: Seq::new(n) });
            }
            let parsed = parse_options(&emitted(&options)).unwrap();
            let mut expected = options;
            expected.sack.truncate(parsed.sack.as_slice().len());
            assert_eq!(parsed, expected);
            assert!(options_len(&options).is_multiple_of(4) && options_len(&options) <= MAX_OPTIONS);
        }
    }
}

/// reliability.md A17.
#[test]
fn malformed_options_are_errors() {
    let table: &[&[u8]] = &[
        &[2],
        &[2, 0],
        &[2, 1],
        &[2, 4],
        &[2, 4, 5],
        &[8, 0],
        &[8, 10, 0, 0, 0, 0, 0, 0, 0],
        &[5, 255],
        &[254, 0],
        &[254, 1],
        &[254, 3],
        &[1, 1, 1, 3],
        &[2, 4, 5, 180, 8],
        &[1, 3, 3, 7, 5, 0],
    ];
    for bytes in table {
        assert_eq!(parse_options(bytes), Err(DropReason::TcpOptions), "{bytes:?}");
    }
    // A length of zero at the very end of a full header (MINIX #7).
    let mut full = [NOP; MAX_OPTIONS];
    full[38] = 2;
    full[39] = 0;
    assert_eq!(parse_options(&full), Err(DropReason::TcpOptions));
}

#[test]
fn odd_but_harmless_options_are_accepted() {
    let table: &[(&[u8], Options)] = &[
        (&[], seg!().options),
        (&[0, 2, 0, 0], seg!().options),
        (&[1; 40], seg!().options),
        (&[2, 4, 0, 0], seg!().options),
        (&[2, 4, 0, 1, 2, 4, 0, 2], seg!(mss 1).options),
        (&[2, 4, 0, 0, 2, 4, 0, 2], seg!(mss 2).options),
        (&[2, 3, 5], seg!().options),
        (&[2, 5, 5, 180, 0], seg!().options),
        (&[3, 3, 15], seg!(ws 14).options),
        (&[3, 3, 255, 3, 3, 1], seg!(ws 14).options),
        (&[3, 2, 3, 4, 1, 1], seg!().options),
        (&[4, 2, 4, 2, 4, 3, 9], seg!(sackok).options),
        (&[4, 3, 0], seg!().options),
        (&[5, 2, 5, 3, 0], seg!().options),
        (&[5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4], seg!(sack(1..2)).options),
        (&[5, 11, 0, 0, 0, 1, 0, 0, 0, 2, 0], seg!().options),
        (&[8, 9, 0, 0, 0, 0, 0, 0, 0], seg!().options),
        (&[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 8, 10, 0, 0, 0, 3, 0, 0, 0, 4], seg!(ts(1, 2)).options),
        // MD5, TCP-AO, Fast Open, an experiment: skipped, what follows counts.
        (&[19, 4, 0, 0, 29, 4, 1, 1, 34, 2, 254, 4, 1, 2, 3, 3, 7], seg!(ws 7).options),
    ];
    for (bytes, expected) in table {
        assert_eq!(parse_options(bytes), Ok(*expected), "{bytes:?}");
    }
}

/// Every option field of up to three bytes: an oracle that knows only the framing.
#[test]
fn exhaustive_up_to_three_bytes() {
    fn framed(bytes: &[u8]) -> bool {
        match bytes {
            [] | [END, ..] => true,
            [NOP, rest @ ..] => framed(rest),
            [_, len, ..] if *len >= 2 && usize::from(*len) <= bytes.len() => framed(&bytes[usize::from(*len)..]),
            _ => false,
        }
    }
    let check = |bytes: &[u8]| {
        let parsed = parse_options(bytes);
        assert_eq!(parsed.is_ok(), framed(bytes), "{bytes:?}");
        if let Ok(parsed) = parsed {
            assert_eq!(parse_options(&emitted(&parsed)), Ok(parsed), "{bytes:?}");
        }
    };
    check(&[]);
    for a in 0..=255 {
        check(&[a]);
        for b in 0..=255 {
            check(&[a, b]);
            // Past 3 the third byte's value matters only as text or as a kind without length; a few stand for all.
            for c in (0..=255u8).filter(|&c| b <= 3 || c <= 15 || c >= 250) {
                check(&[a, b, c]);
            }
        }
    }
}

#[test]
fn random_options_never_panic_and_survive_emission() {
    let mut rng = fastrand::Rng::with_seed(17);
    for round in 0..20_000 {
        let len = rng.usize(..=MAX_OPTIONS);
        let bytes: Vec<u8> = (0..len).map(|_| if rng.bool() { rng.u8(..12) } else { rng.u8(..) }).collect();
        if let Ok(parsed) = parse_options(&bytes) {
            let again = parse_options(&emitted(&parsed)).unwrap();
            let mut expected = parsed;
            expected.sack.truncate(again.sack.as_slice().len());
            assert_eq!(again, expected, "seed 17 round {round}: {bytes:?}");
        }
    }
}
