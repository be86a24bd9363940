use super::*;

fn filled(ranges: &[(u32, u32)]) -> Assembler {
    let mut assembler = Assembler::new();
    for &(start, end) in ranges {
        insert(&mut assembler, start, end).unwrap();
    }
    assembler
}

/// The parts that were new.
fn insert(assembler: &mut Assembler, start: u32, end: u32) -> Result<Vec<(u32, u32)>, TooManyRanges> {
    let mut new = Vec::new();
    assembler.insert(start, end, &mut |offset, len| new.push((offset, offset + len)))?;
    assembler.check_invariants();
    Ok(new)
}

fn ranges(assembler: &Assembler) -> Vec<(u32, u32)> {
    assembler.ranges.iter().map(|r| (r.start, r.end)).collect()
}

#[test]
fn insert_reports_only_holes_and_merges() {
    type Case = (&'static [(u32, u32)], (u32, u32), &'static [(u32, u32)], &'static [(u32, u32)]);
    const CASES: &[Case] = &[
        (&[], (5, 5), &[], &[]),
        (&[], (5, 9), &[(5, 9)], &[(5, 9)]),
        (&[(5, 9)], (5, 9), &[], &[(5, 9)]),
        (&[(5, 9)], (6, 8), &[], &[(5, 9)]),
        (&[(5, 9)], (9, 12), &[(9, 12)], &[(5, 12)]),
        (&[(5, 9)], (2, 5), &[(2, 5)], &[(2, 9)]),
        (&[(5, 9)], (10, 12), &[(10, 12)], &[(5, 9), (10, 12)]),
        (&[(5, 9)], (1, 4), &[(1, 4)], &[(1, 4), (5, 9)]),
        (&[(5, 9), (12, 14)], (9, 12), &[(9, 12)], &[(5, 14)]),
        (&[(5, 9), (12, 14)], (7, 13), &[(9, 12)], &[(5, 14)]),
        (&[(5, 9), (12, 14), (20, 21)], (1, 30), &[(1, 5), (9, 12), (14, 20), (21, 30)], &[(1, 30)]),
        (
            &[(u32::MAX - 2, u32::MAX - 1)],
            (0, u32::MAX),
            &[(0, u32::MAX - 2), (u32::MAX - 1, u32::MAX)],
            &[(0, u32::MAX)],
        ),
    ];
    for &(before, (start, end), new, after) in CASES {
        let mut assembler = filled(before);
        assert_eq!(insert(&mut assembler, start, end).unwrap(), new, "new of {before:?} + {start}..{end}");
        assert_eq!(ranges(&assembler), after, "{before:?} + {start}..{end}");
    }
}

#[test]
fn advance_returns_what_became_contiguous() {
    type Case = (&'static [(u32, u32)], u32, u32, &'static [(u32, u32)]);
    const CASES: &[Case] = &[
        (&[], 10, 0, &[]),
        (&[(5, 9)], 4, 0, &[(1, 5)]),
        (&[(5, 9)], 5, 4, &[]),
        (&[(5, 9)], 7, 2, &[]),
        (&[(5, 9)], 9, 0, &[]),
        (&[(5, 9), (12, 14)], 5, 4, &[(3, 5)]),
        (&[(5, 9), (12, 14), (20, 22)], 13, 1, &[(6, 8)]),
        (&[(5, 9), (12, 14)], 40, 0, &[]),
        (&[(0, 9), (12, 14)], 0, 9, &[(3, 5)]),
    ];
    for &(before, n, more, after) in CASES {
        let mut assembler = filled(before);
        assert_eq!(assembler.advance(n), more, "{before:?} advance {n}");
        assembler.check_invariants();
        assert_eq!(ranges(&assembler), after, "{before:?} advance {n}");
    }
}

#[test]
fn sack_blocks_start_with_the_latest_segment() {
    // RFC 2018 §4 with the segments of its example: 5000 lost, then every second segment arrives.
    let nxt = Seq::new(u32::MAX - 600);
    let block = |left, right| SackBlock { left: nxt + left, right: nxt + right };
    let mut assembler = filled(&[(500, 1000), (1500, 2000), (2500, 3000)]);
    assert_eq!(assembler.sack_blocks(nxt, 4).as_slice(), [block(2500, 3000), block(1500, 2000), block(500, 1000)]);
    insert(&mut assembler, 1000, 1500).unwrap();
    assert_eq!(assembler.sack_blocks(nxt, 3).as_slice(), [block(500, 2000), block(2500, 3000)]);
    // A duplicate is the latest segment too.
    insert(&mut assembler, 2600, 2700).unwrap();
    assert_eq!(assembler.sack_blocks(nxt, 1).as_slice(), [block(2500, 3000)]);
    assert_eq!(assembler.advance(500), 1500);
    assert_eq!(assembler.sack_blocks(nxt + 2000, 9).as_slice(), [block(2500, 3000)]);
    assert!(Assembler::new().sack_blocks(nxt, 4).is_empty());
}

#[test]
fn a_full_set_forgets_the_farthest() {
    let mut assembler = Assembler::new();
    for i in 1..=64 {
        insert(&mut assembler, 10 * i, 10 * i + 5).unwrap();
    }
    assert_eq!(assembler.len(), MAX_RANGES);
    assert_eq!(insert(&mut assembler, 1000, 1001), Err(TooManyRanges));
    // What merges needs no room.
    assert_eq!(insert(&mut assembler, 645, 650), Ok(vec![(645, 650)]));
    assert_eq!(assembler.highest(), Some(650));
    // Nearer wins, in order always fits.
    assert_eq!(insert(&mut assembler, 636, 638), Ok(vec![(636, 638)]));
    assert_eq!((assembler.len(), assembler.highest()), (MAX_RANGES, Some(638)));
    assert_eq!(insert(&mut assembler, 0, 3), Ok(vec![(0, 3)]));
    assert_eq!((assembler.len(), assembler.highest()), (MAX_RANGES, Some(635)));
    assert_eq!(assembler.advance(0), 3);
}

#[test]
fn questions_are_answered() {
    let assembler = filled(&[(5, 9), (12, 14)]);
    assert_eq!((assembler.first_gap(), assembler.highest(), assembler.is_empty()), (Some((0, 5)), Some(14), false));
    assert_eq!(filled(&[(0, 9), (12, 14)]).first_gap(), Some((9, 12)));
    assert_eq!((Assembler::new().first_gap(), Assembler::new().highest()), (None, None));
    assert!(
        assembler.contains(5, 9) && assembler.contains(6, 7) && assembler.contains(13, 14) && assembler.contains(3, 3)
    );
    assert!(!assembler.contains(4, 6) && !assembler.contains(8, 13) && !assembler.contains(14, 15));
}

#[test]
fn an_idle_connection_has_no_heap() {
    let mut assembler = filled(&[(5, 9)]);
    assembler.advance(5);
    assembler.trim();
    assert_eq!(assembler.ranges.capacity(), 0);
}
