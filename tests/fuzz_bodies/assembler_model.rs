//! The assembler against a bitmap: every answer of [`Assembler`] is recomputed from one flag per byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A model that is wrong shall panic.

use usernet::internals::tcb::assembler::{Assembler, MAX_RANGES, TooManyRanges};
use usernet::internals::wire::Seq;

const SPACE: usize = 1024;

/// Interprets `data` as operations of five bytes each.
pub fn run(data: &[u8]) {
    let mut real = Assembler::new();
    let mut model = vec![false; SPACE];
    let mut base = Seq::new(u32::MAX - 3000);
    for op in data.chunks_exact(5) {
        let &[kind, a, b, c, d] = op else { unreachable!() };
        let start = usize::from(u16::from_le_bytes([a, b])) % SPACE;
        let len = usize::from(u16::from_le_bytes([c, d])) % (if kind & 0x40 == 0 { 4 } else { SPACE });
        let end = (start + len).min(SPACE);
        if kind & 0x80 == 0 {
            insert(&mut real, &mut model, start, end);
            if start < end && real.contains(narrow(start), narrow(end)) {
                let latest = real.sack_blocks(base, 4).as_slice()[0];
                assert!(
                    latest.left.is_at_or_before(base + narrow(start))
                        && latest.right.is_at_or_after(base + narrow(end))
                );
            }
        } else {
            base += advance(&mut real, &mut model, start % 64);
        }
        real.check_invariants();
        compare(&real, &model, base, (start, end));
    }
}

fn insert(real: &mut Assembler, model: &mut [bool], start: usize, end: usize) {
    let before = model.to_vec();
    let mut copied = vec![false; SPACE];
    let result = real.insert(narrow(start), narrow(end), &mut |offset, len| {
        assert!(len > 0);
        for byte in offset..offset + len {
            let byte = usize::try_from(byte).unwrap();
            assert!(!before[byte] && !copied[byte] && (start..end).contains(&byte), "byte {byte} is not new");
            copied[byte] = true;
        }
    });
    if result == Err(TooManyRanges) {
        assert_eq!(runs(model).len(), MAX_RANGES);
        assert!(runs(model).iter().all(|&(_, last)| last < start) && !copied.contains(&true));
        return;
    }
    model[start..end].fill(true);
    assert!((0..SPACE).all(|i| copied[i] == (model[i] && !before[i])), "not all new bytes were reported");
    let after = runs(model);
    if let Some(&(from, to)) = after.get(MAX_RANGES) {
        model[from..to].fill(false);
    }
}

fn advance(real: &mut Assembler, model: &mut Vec<bool>, n: usize) -> u32 {
    let more = model[n..].iter().take_while(|held| **held).count();
    assert_eq!(real.advance(narrow(n)), narrow(more));
    model.drain(..n + more);
    model.resize(SPACE, false);
    narrow(n + more)
}

fn compare(real: &Assembler, model: &[bool], base: Seq, (start, end): (usize, usize)) {
    let runs = runs(model);
    assert_eq!(real.len(), runs.len());
    assert_eq!(real.is_empty(), runs.is_empty());
    assert_eq!(real.highest(), runs.last().map(|run| narrow(run.1)));
    let gap = match runs.as_slice() {
        [] | [(0, _)] => None,
        [(0, end), next, ..] => Some((narrow(*end), narrow(next.0))),
        [first, ..] => Some((0, narrow(first.0))),
    };
    assert_eq!(real.first_gap(), gap);
    assert_eq!(real.contains(narrow(start), narrow(end)), model[start..end].iter().all(|held| *held));
    let blocks = real.sack_blocks(base, 4);
    assert_eq!(blocks.as_slice().len(), runs.len().min(4));
    for (i, block) in blocks.as_slice().iter().enumerate() {
        let found = |run: &(usize, usize)| block.left == base + narrow(run.0) && block.right == base + narrow(run.1);
        assert!(runs.iter().any(found), "{block:?} is not held");
        assert!(!blocks.as_slice()[..i].contains(block), "{block:?} twice");
    }
}

fn runs(model: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in model.iter().enumerate().filter(|(_, held)| **held) {
        match runs.last_mut() {
            Some(run) if run.1 == at => run.1 = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    runs
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap()
}
