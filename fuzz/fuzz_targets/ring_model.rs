//! `cargo +nightly fuzz run ring_model`
#![no_main]

#[path = "../../tests/fuzz_bodies/ring_model.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
