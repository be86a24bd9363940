//! Drives `fuzz_bodies/assembler_model.rs` with seeded random operations: `cargo test --features internals`.
#![cfg(feature = "internals")]

#[path = "fuzz_bodies/assembler_model.rs"]
mod assembler_model;

#[test]
fn random_operations_agree_with_a_bitmap() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut data = vec![0; 5 * rng.usize(1..400)];
        rng.fill(&mut data);
        let outcome = std::panic::catch_unwind(|| assembler_model::run(&data));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
