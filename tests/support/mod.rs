//! What the puppet scripts, the simulation and the fuzz bodies share: an engine with a virtual clock ([`host`]), packets
//! built by hand ([`packet`]) and bytes that know their position ([`pattern`]).
//!
//! Nothing in here sleeps, reads a clock or draws randomness from the operating system.
#![allow(dead_code, unreachable_pub, missing_docs, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::cast_sign_loss)]

pub mod host;
pub mod packet;
pub mod pattern;
pub mod script;
pub mod sim;
