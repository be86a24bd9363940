//! `cargo +nightly fuzz run tcb_ops`
#![no_main]

#[path = "../../tests/fuzz_bodies/tcb_ops.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
