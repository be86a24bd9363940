//! The bodies of the fuzz targets: plain functions that panic on a finding.
//!
//! `fuzz/fuzz_targets/NAME.rs` runs `NAME::run` under libFuzzer, `tests/fuzz_replay.rs` runs it under `cargo test`. To add a
//! target: a file with `pub fn run(data: &[u8])` here, its name in [`ALL`], a target and a `[[bin]]` in `fuzz/`, seeds in
//! `fuzz/corpus/NAME/`. A body names nothing but `usernet::internals` (and `std`), never depends on time or randomness,
//! and is file-local: libFuzzer includes it alone.

pub mod assembler_model;
pub mod options_roundtrip;
pub mod parse_segment;
pub mod ring_model;
pub mod tcb_ops;

/// A fuzz target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: &[Target] = &[
    ("assembler_model", assembler_model::run),
    ("options_roundtrip", options_roundtrip::run),
    ("parse_segment", parse_segment::run),
    ("ring_model", ring_model::run),
    ("tcb_ops", tcb_ops::run),
];
