//! `cargo +nightly fuzz run assembler_model`
#![no_main]

#[path = "../../tests/fuzz_bodies/assembler_model.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
