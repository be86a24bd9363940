//! `cargo +nightly fuzz run parse_segment`
#![no_main]

#[path = "../../tests/fuzz_bodies/parse_segment.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
