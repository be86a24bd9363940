//! The deterministic simulation: two engines, a bad link, users who write, read, wait, cancel and vanish.
//!
//! One seed is one exact run. [`plan`] draws what a seed is about, [`link`] loses and delays packets, [`user`] is one
//! program at one end of a connection with its oracle, [`hostile`] forges segments, [`world`] runs it all.

pub mod hostile;
pub mod link;
pub mod plan;
pub mod user;
pub mod world;
