//! usernet: a TCP/IP stack that lives inside a tokio program.
//!
//! The API is tokio's. Replace `tokio::net` by [`usernet::net`](net) and the program's bytes travel through a packet
//! device, such as a Linux TUN, instead of through the kernel's TCP:
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use usernet::{UserListener, UserSocket};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = UserListener::bind("127.0.0.1:0").await?;
//! let addr = listener.local_addr()?;
//! tokio::spawn(async move {
//!     let (mut stream, _) = listener.accept().await?;
//!     let (mut read, mut write) = stream.split();
//!     tokio::io::copy(&mut read, &mut write).await
//! });
//!
//! let socket = UserSocket::new()?; // both buffers exist from here on
//! let mut stream = socket.connect(addr).await?; // and can carry data from here on
//! stream.write_all(b"hello").await?;
//! let mut buf = [0; 5];
//! stream.read_exact(&mut buf).await?;
//! assert_eq!(&buf, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! **A socket's life has two acts.** [`UserSocket::new`] allocates a control block and both buffers; no data can flow.
//! [`UserSocket::connect`] makes the three-way handshake and wires up the same memory; the result is a [`UserStream`],
//! which reads and writes. On the passive side a [`UserListener`] hands out streams whose buffers were reserved when
//! their handshake was complete.
//!
//! **A [`Stack`]** is addresses, a [`device`] and one *reactor*: a tokio task that owns every control block.
//! Streams share byte rings with it and tell it by a doorbell when there is something to do; it tells them by readiness,
//! as tokio's own driver does. With no set-up at all an embedded stack in memory serves 127.0.0.0/8 and ::1 of the
//! current runtime; [`Stack::builder`] makes real ones, [`Stack::set_default`] and [`Stack::scope`] make them current.
//!
//! **Inside**, the core is sans-IO: it knows no tokio, no clock, no sockets, so that tests and fuzzers drive the code
//! that users run. From the bottom up: `wire` (packets as bytes), `pipe` (what user and reactor share), `tcb` (one
//! connection), `stack` (all of them), [`device`], `reactor` (the task), [`net`] (what you call). ARCHITECTURE.md is the
//! map.
//!
//! **Three things to know.** The embedded stack is not the host's loopback. A task that blocks a current-thread runtime
//! stops TCP itself, since the reactor runs there. And end `main` with [`Stack::shutdown`]: a runtime that is dropped
//! does not wait until written bytes are acknowledged.

pub mod config;
pub mod device;
pub mod error;
pub mod net;
// The rooms of the core serve `internals` too: what only that shows is not unused.
#[cfg_attr(not(feature = "internals"), allow(unused_imports, dead_code))]
mod pipe;
mod reactor;
#[cfg_attr(not(feature = "internals"), allow(unused_imports, dead_code))]
mod stack;
pub mod stats;
#[cfg_attr(not(feature = "internals"), allow(unused_imports, dead_code))]
mod tcb;
pub mod time;
#[cfg_attr(not(feature = "internals"), allow(unused_imports, dead_code))]
mod wire;

pub use config::{CongestionControl, KeepaliveParams, SocketOptions, StackConfig};
pub use error::ConnError;
pub use net::{
    DefaultGuard, Incoming, Seed, SocketInfo, SocketWatch, Stack, StackBuilder, UserListener, UserSocket, UserStream,
};
pub use pipe::{BufferInfo, State};
pub use stats::{DropReason, Stats};

/// The core, for `tests/` and `fuzz/`. No stability promise.
#[cfg(feature = "internals")]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals {
    pub use crate::time;

    pub mod pipe {
        pub use crate::pipe::*;
    }
    pub mod stack {
        pub use crate::stack::*;
    }
    pub mod tcb {
        pub use crate::tcb::*;
    }
    pub mod wire {
        pub use crate::wire::*;
    }
}

/// The examples of README are doc tests.
#[cfg(all(doctest, feature = "tun"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
