//! [`UserListener`] and [`Incoming`].

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::net::{ToSocketAddrs, lookup_host};
use tokio::task::coop::poll_proceed;

use super::options::{check_ttl, invalid};
use super::socket::UserSocket;
use super::stack::Stack;
use super::stream::UserStream;
use crate::pipe::UserEnd;
use crate::reactor::{Handle, Listening};

/// Connections that may wait for `accept` of a listener made by `bind`. mio asks the system for a platform value
/// between 128 and 4,096; this is what busy servers ask for.
const BACKLOG: u32 = 1_024;

/// A TCP socket server, listening for connections.
///
/// Dropping it frees the port at once and resets the connections nobody accepted.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use usernet::{UserListener, UserStream};
///
/// let listener = UserListener::bind("127.0.0.1:0").await?;
/// let client = UserStream::connect(listener.local_addr()?).await?;
/// let (stream, addr) = listener.accept().await?;
/// assert_eq!(addr, client.local_addr()?);
/// # Ok(())
/// # }
/// ```
pub struct UserListener {
    listening: Listening,
    handle: Arc<Handle>,
}

// A panic can leave no broken invariant behind: all state sits behind short locks without user code.
impl UnwindSafe for UserListener {}
impl RefUnwindSafe for UserListener {}

impl UserListener {
    pub(super) fn new(listening: Listening, handle: Arc<Handle>) -> UserListener {
        UserListener { listening, handle }
    }

    /// Creates a listener on the [current stack](Stack::current), bound to `addr` and ready for connections.
    ///
    /// Port 0 chooses a free port: see [`local_addr`](UserListener::local_addr). `0.0.0.0` and `[::]` stand for every
    /// address of the stack; `[::]` takes IPv4 connections too. If `addr` yields several addresses the first that binds is
    /// used. As tokio's on Unix it sets `reuseaddr`; its backlog is 1,024.
    ///
    /// # Errors
    ///
    /// That of the last address: `AddrInUse`, `AddrNotAvailable` (not an address of the stack), `OutOfMemory`,
    /// `NetworkDown`; `InvalidInput` if `addr` resolves to nothing; `Unsupported` without a tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: only the resolution of a host name waits.
    ///
    #[doc = example!("let listener = usernet::UserListener::bind(\"127.0.0.1:0\").await?;")]
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UserListener> {
        bind_any(None, addr).await
    }

    /// Accepts a connection. It starts readable and writable.
    ///
    /// A connection that is half-closed or reset already is still handed out, as on Linux.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone. Nothing else: a failed handshake never shows here.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future has accepted no connection. Any number of tasks may accept at once.
    ///
    #[doc = example!(
        "let client = usernet::UserStream::connect(listener.local_addr()?).await?;"
        "let (stream, addr) = listener.accept().await?;"
    )]
    pub async fn accept(&self) -> io::Result<(UserStream, SocketAddr)> {
        let mut accepting = self.listening.queue.wait();
        let accepted = poll_fn(|cx| {
            // Budget first: nothing may wait between taking a connection out of the queue and returning it.
            let coop = ready!(poll_proceed(cx));
            let accepted = ready!(Pin::new(&mut accepting).poll(cx));
            coop.made_progress();
            Poll::Ready(accepted)
        });
        Ok(self.adopt(accepted.await?))
    }

    /// Polls for a connection; only the waker of the latest call is woken.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](UserListener::accept).
    ///
    #[doc = example!(
        "let client = usernet::UserStream::connect(listener.local_addr()?).await?;"
        "let (stream, addr) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;"
    )]
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UserStream, SocketAddr)>> {
        let coop = ready!(poll_proceed(cx));
        let accepted = ready!(self.listening.queue.poll_accept(cx))?;
        coop.made_progress();
        Poll::Ready(Ok(self.adopt(accepted)))
    }

    fn adopt(&self, (end, peer): (UserEnd, SocketAddr)) -> (UserStream, SocketAddr) {
        (UserStream::new(end, None, Arc::clone(&self.handle)), peer)
    }

    /// Returns the address this listener is bound to, with the real port.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert_ne!(listener.local_addr()?.port(), 0);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listening.local)
    }

    /// Returns the TTL (IPv4) or hop limit (IPv6) that accepted streams inherit.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert_eq!(listener.ttl()?, 64);")]
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(u32::from(self.handle.shared().listener_options(self.listening.id).unwrap_or_default().ttl))
    }

    /// Sets the TTL (IPv4) or hop limit (IPv6) that streams inherit, from the next handshake on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside of 1 to 255.
    ///
    #[doc = example!("listener.set_ttl(100)?;" "assert_eq!(listener.ttl()?, 100);")]
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = check_ttl(ttl)?;
        self.handle.shared().set_listener_options(self.listening.id, |options| options.ttl = ttl);
        Ok(())
    }

    // ---- what tokio does not have ----

    /// Turns the listener into a [`Stream`] of connections.
    ///
    #[doc = example!(
        "use futures::StreamExt;"
        "let client = usernet::UserStream::connect(listener.local_addr()?).await?;"
        "let mut incoming = listener.into_incoming();"
        "let stream = incoming.next().await.unwrap()?;"
        "assert_eq!(stream.peer_addr()?, client.local_addr()?);"
    )]
    pub fn into_incoming(self) -> Incoming {
        Incoming { listener: self, over: false }
    }

    /// Connections that are established and wait for `accept`.
    ///
    #[doc = example!("assert_eq!(listener.backlog_len(), 0);")]
    pub fn backlog_len(&self) -> usize {
        self.listening.queue.len()
    }

    /// Bounds the half-open connections of this listener (Linux: `tcp_max_syn_backlog`); over it SYNs are ignored.
    ///
    #[doc = example!("listener.set_max_syn_backlog(256);")]
    pub fn set_max_syn_backlog(&self, max: usize) {
        self.handle.shared().set_max_syn_backlog(self.listening.id, max);
    }
}

impl fmt::Debug for UserListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserListener")
            .field("addr", &self.listening.local)
            .field("backlog_len", &self.backlog_len())
            .finish()
    }
}

/// The connections of a listener as a [`Stream`], made by [`UserListener::into_incoming`].
///
/// After an error (`NetworkDown`: the reactor is gone) it ends.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming {
    listener: UserListener,
    over: bool,
}

impl Stream for Incoming {
    type Item = io::Result<UserStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let accepted = ready!(self.listener.poll_accept(cx));
        self.over = accepted.is_err();
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}

impl AsRef<UserListener> for Incoming {
    fn as_ref(&self) -> &UserListener {
        &self.listener
    }
}

/// Resolves and binds the first address that can be bound, on `stack` or the current one.
pub(super) async fn bind_any<A: ToSocketAddrs>(stack: Option<&Stack>, addr: A) -> io::Result<UserListener> {
    let mut last = None;
    for addr in lookup_host(addr).await? {
        match bind_one(stack, addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| invalid("could not resolve to any address")))
}

fn bind_one(stack: Option<&Stack>, addr: SocketAddr) -> io::Result<UserListener> {
    let socket = match stack {
        Some(stack) => stack.socket()?,
        None => UserSocket::new()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
