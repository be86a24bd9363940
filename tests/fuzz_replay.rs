//! The fuzz targets under plain `cargo test`: committed corpora, mutations of them, and random bytes, all seeded.
//!
//! A finding prints the target and either the file or the seed. `USERNET_FUZZ_SEED=N` repeats one seed,
//! `USERNET_FUZZ_INPUTS=N` runs more inputs than the default. A finding of cargo-fuzz becomes a file of the corpus.

mod fuzz_bodies;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use fuzz_bodies::{ALL, Target};

/// Inputs per target beside the corpus.
const INPUTS: u64 = 20_000;
/// Longest input made here.
const MAX_LEN: usize = 2048;

fn corpus_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// Files of the corpus, by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = corpus_dir(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("directory entry").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("corpus file")))
        .collect();
    files.sort();
    files
}

/// Runs one input; a panic is reported with where the input came from.
fn run((name, body): Target, input: &[u8], origin: &dyn Fn() -> String) {
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("panic");
        panic!("{name}, {}: {text}\ninput: {input:02x?}", origin());
    }
}

#[test]
fn every_corpus_is_there_and_passes() {
    for &target in ALL {
        let files = corpus(target.0);
        assert!(files.len() >= 12, "{}: only {} seeds", target.0, files.len());
        for (path, bytes) in files {
            run(target, &bytes, &|| path.clone());
        }
    }
}

#[test]
fn seeded_inputs_pass() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let inputs = number("USERNET_FUZZ_INPUTS").unwrap_or(INPUTS);
    let seeds = number("USERNET_FUZZ_SEED").map_or(0..inputs, |seed| seed..seed + 1);
    for &target in ALL {
        let files: Vec<Vec<u8>> = corpus(target.0).into_iter().map(|(_, bytes)| bytes).collect();
        for seed in seeds.clone() {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Three of four are mutations: random bytes alone never get past the first length check.
            let input = if seed % 4 == 0 { random(&mut rng) } else { mutated(&mut rng, &files) };
            run(target, &input, &|| format!("USERNET_FUZZ_SEED={seed}"));
        }
    }
}

fn random(rng: &mut fastrand::Rng) -> Vec<u8> {
    let len = 1 << rng.u32(..10);
    let len = rng.usize(..=len);
    (0..len).map(|_| if rng.bool() { rng.u8(..16) } else { rng.u8(..) }).collect()
}

/// A file of the corpus with up to eight small changes.
fn mutated(rng: &mut fastrand::Rng, files: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(files).cloned().unwrap_or_default();
    let most = 1 << rng.u8(..4);
    for _ in 0..rng.usize(..=most) {
        mutate(rng, &mut bytes, files);
    }
    bytes.truncate(MAX_LEN);
    bytes
}

fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>, files: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    let len = rng.usize(..=8).min(bytes.len() - at);
    match rng.u8(..8) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.u8(..)),
        2 => drop(bytes.drain(at..at + len)),
        3 => {
            let piece: Vec<u8> = bytes.iter().skip(at).take(len).copied().collect();
            bytes.splice(at..at, piece);
        }
        4 => {
            let other = rng.choice(files).map(Vec::as_slice).unwrap_or_default();
            let from = rng.usize(..=other.len());
            bytes.truncate(at);
            bytes.extend(other.iter().skip(from));
        }
        kind => {
            let any = rng.u8(..);
            let value = rng.choice([0, 1, 0x7f, 0x80, 0xff, any]).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(at) {
                match kind {
                    5 => *byte ^= 1 << rng.u8(..8),
                    6 => *byte = value,
                    _ => *byte = byte.wrapping_add(rng.u8(..4).wrapping_sub(2)),
                }
            }
        }
    }
}
