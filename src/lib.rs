//! usernet: a TCP/IP stack inside a tokio program.
pub mod config;
pub mod device;
pub mod error;
pub mod pipe;
pub mod stack;
pub mod stats;
pub mod tcb;
pub mod time;
pub mod wire;

/// The core, for `tests/` and `fuzz/`. No stability promise.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::{pipe, stack, tcb, time, wire};
}
