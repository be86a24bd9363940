//! `cargo +nightly fuzz run options_roundtrip`
#![no_main]

#[path = "../../tests/fuzz_bodies/options_roundtrip.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
