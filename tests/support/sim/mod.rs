//! The deterministic simulation: two engines, a bad link, users who write, read, wait, cancel and vanish.
//!
//! One seed is one exact run. [`plan`] draws what a seed is about, [`wide`] what goes beyond the ordinary, [`link`] loses and
//! delays packets, [`device`] cuts and merges them, [`user`] is one program at one end of a connection with its oracle,
//! [`hostile`] forges segments, [`world`] runs it all.
//!
//! To add a fault: a field in [`wide::Wide`], its draw beside it, its deed in `link` or in `world/`. If connections may
//! die of it, `Wide::is_shaky` says so.

pub mod device;
pub mod hostile;
pub mod link;
pub mod plan;
pub mod user;
pub mod wide;
pub mod world;
