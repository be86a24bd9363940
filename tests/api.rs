//! The API as a contract: the list of tokio's items, auto traits, sizes of futures, cancellation at every await, what
//! dies with a reactor, which stack is current, where payload lies.

// A test's helpers may panic too; `allow-…-in-tests` covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::excessive_nesting)]

mod source;

#[path = "api/buffers.rs"]
mod buffers;
#[path = "api/cancel.rs"]
mod cancel;
#[path = "api/common.rs"]
mod common;
#[path = "api/counters.rs"]
mod counters;
#[path = "api/current.rs"]
mod current;
#[path = "api/death.rs"]
mod death;
#[path = "api/edges.rs"]
mod edges;
#[path = "api/mirror.rs"]
mod mirror;
#[path = "api/riding.rs"]
mod riding;
#[path = "api/sockets.rs"]
mod sockets;
#[path = "api/statics.rs"]
mod statics;
#[path = "api/stress.rs"]
mod stress;
#[path = "api/threads.rs"]
mod threads;
