//! usernet: a TCP/IP stack inside a tokio program.
pub mod config;
pub mod error;
pub mod stats;
pub mod time;
pub mod wire;
pub mod device;
