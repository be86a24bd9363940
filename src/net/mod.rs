//! tokio's names for the types of this crate: change `use tokio::net::…` to `use usernet::net::…`.
//!
//! [`TcpStream`] *is* [`UserStream`], [`TcpListener`] *is* [`UserListener`],
//! [`TcpSocket`] *is* [`UserSocket`]. Methods have tokio's names, signatures and meaning; README lists
//! the differences. Which stack they use is told at [`Stack::current`](crate::Stack::current).
//!
//! ```
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use usernet::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let (mut server, _) = listener.accept().await?;
//! client.write_all(b"hello").await?;
//! let mut buf = [0; 5];
//! server.read_exact(&mut buf).await?;
//! assert_eq!(&buf, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! Host names are resolved by tokio's [`lookup_host`], that is by the *host's* resolver on the host's network: no query
//! travels through the stack.

// Room: net. Owns the public types, the current stack and nothing else; never touches a packet or a control block.
// Everything it wants goes through a `UserEnd`, the registry or a command. Called by users.

/// The example of a method: a connected `stream`, its `peer`, their `listener`, then the given lines.
macro_rules! example {
    ($($line:literal)*) => {
        concat!(
            "# Examples\n\n```\n",
            "# use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};\n",
            "# #[tokio::main(flavor = \"current_thread\")]\n",
            "# async fn main() -> Result<(), Box<dyn std::error::Error>> {\n",
            "# let listener = usernet::net::TcpListener::bind(\"127.0.0.1:0\").await?;\n",
            "# let mut stream = usernet::net::TcpStream::connect(listener.local_addr()?).await?;\n",
            "# let (mut peer, _) = listener.accept().await?;\n",
            $($line, "\n",)*
            "# Ok(())\n# }\n```\n",
        )
    };
}

/// The example of an option: a fresh `socket`, no runtime.
macro_rules! socket_example {
    ($($line:literal)*) => {
        concat!(
            "# Examples\n\n```\n",
            "# fn main() -> std::io::Result<()> {\n",
            "let socket = usernet::net::TcpSocket::new_v4()?;\n",
            $($line, "\n",)*
            "# Ok(())\n# }\n```\n",
        )
    };
}

mod info;
mod listener;
mod options;
mod socket;
mod socket_options;
mod split;
mod split_owned;
mod stack;
mod stream;
mod stream_io;

pub use info::{SocketInfo, SocketWatch};
pub use listener::{Incoming, UserListener};
pub use socket::UserSocket;
pub use stack::{DefaultGuard, Seed, Stack, StackBuilder};
pub use stream::UserStream;

#[doc(inline)]
pub use listener::UserListener as TcpListener;
#[doc(inline)]
pub use socket::UserSocket as TcpSocket;
#[doc(inline)]
pub use stream::UserStream as TcpStream;
pub use tokio::net::{ToSocketAddrs, lookup_host};

pub mod tcp {
    //! The halves of a stream and what goes with them, as in `tokio::net::tcp`.

    pub use super::listener::Incoming;
    pub use super::split::{ReadHalf, WriteHalf};
    pub use super::split_owned::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
}
