//! [`UserStream`]: an established connection. Addresses, options and what tokio does not have; bytes are in `stream_io`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{ToSocketAddrs, lookup_host};

use super::info::{SocketInfo, SocketWatch};
use super::options::{check_keepalive, check_ttl, invalid};
use super::socket::UserSocket;
use super::split::{ReadHalf, WriteHalf, split};
use super::split_owned::{OwnedReadHalf, OwnedWriteHalf, split_owned};
use super::stack::Stack;
use crate::config::KeepaliveParams;
use crate::pipe::UserEnd;
use crate::reactor::{Binding, Handle};

/// A TCP connection between a local and a remote socket.
///
/// Made by [`connect`](UserStream::connect), by [`UserSocket::connect`] or by
/// [`UserListener::accept`](super::UserListener::accept). Reading and writing is usually done with the methods of
/// [`AsyncReadExt`](tokio::io::AsyncReadExt) and [`AsyncWriteExt`](tokio::io::AsyncWriteExt).
///
/// Dropping it sends what is queued and then FIN, in the background; with unread data, or
/// [`set_zero_linger`](UserStream::set_zero_linger), it sends RST. The end of `main` does not wait for the background:
/// see [`Stack::shutdown`].
///
/// # Errors
///
/// After the peer's RST a read gives the bytes that came before it, then `ConnectionReset` once, then end of file. Once
/// the reactor or its device is gone, everything gives `NetworkDown`.
///
/// # Cancel safety
///
/// Every `poll_*` of `AsyncRead` and `AsyncWrite` consumes or queues bytes only when it answers `Ready`: a dropped
/// `read` loses nothing, a dropped `write` has written nothing.
///
#[doc = example!(
    "let mut stream = usernet::UserStream::connect(listener.local_addr()?).await?;"
    "stream.write_all(b\"hello world!\").await?;"
)]
pub struct UserStream {
    /// Dropped first: its order must reach the doorbell before the last handle lets the reactor end.
    pub(super) end: UserEnd,
    /// Keeps an explicitly bound port ours.
    _binding: Option<Binding>,
    _handle: Arc<Handle>,
}

// A panic can leave no broken invariant behind: all state sits behind atomics and short locks without user code.
impl UnwindSafe for UserStream {}
impl RefUnwindSafe for UserStream {}

impl UserStream {
    pub(super) fn new(end: UserEnd, binding: Option<Binding>, handle: Arc<Handle>) -> UserStream {
        UserStream { end, _binding: binding, _handle: handle }
    }

    /// Opens a connection to a remote host through the [current stack](Stack::current).
    ///
    /// `addr` is resolved by [`lookup_host`], host names by the host's resolver. If it yields several addresses each is
    /// tried until one connects. To set options before connecting, use [`UserSocket`].
    ///
    /// # Errors
    ///
    /// That of the last address: `ConnectionRefused` (RST), `TimedOut`, `HostUnreachable`, `NetworkUnreachable`,
    /// `AddrNotAvailable` (no port left), `OutOfMemory` (a limit of the stack), `NetworkDown`; `InvalidInput` if `addr`
    /// resolves to nothing; `Unsupported` without a tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the connection and gives back port and buffers.
    ///
    #[doc = example!("let stream = usernet::UserStream::connect(listener.local_addr()?).await?;")]
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<UserStream> {
        connect_any(None, addr).await
    }

    /// Returns the local address of this connection.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert_eq!(stream.local_addr()?, peer.peer_addr()?);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.end.local_addr().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Returns the remote address of this connection.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert_eq!(stream.peer_addr()?, listener.local_addr()?);")]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.end.peer_addr().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Takes the pending error (`SO_ERROR`): a RST, a timeout, an ICMP error. Taking it clears it.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert!(stream.take_error()?.is_none());")]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.end.take_error().map(io::Error::from))
    }

    /// Returns whether small segments are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert!(!stream.nodelay()?);")]
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.end.options().nodelay)
    }

    /// Sends small segments at once (`TCP_NODELAY`), that is: switches Nagle's algorithm off. A segment held back by it
    /// goes out now.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("stream.set_nodelay(true)?;" "assert!(stream.nodelay()?);")]
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.end.set_options(|options| options.nodelay = nodelay);
        Ok(())
    }

    /// Returns whether ACKs are never delayed (`TCP_QUICKACK`; on every system here).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert!(!stream.quickack()?);")]
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(self.end.options().quickack)
    }

    /// Never delays an ACK (`TCP_QUICKACK`). A pending one goes out now. Unlike Linux's it does not switch itself off.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("stream.set_quickack(true)?;" "assert!(stream.quickack()?);")]
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.end.set_options(|options| options.quickack = quickack);
        Ok(())
    }

    /// Returns the linger duration (`SO_LINGER`).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert!(stream.linger()?.is_none());")]
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.end.options().linger)
    }

    /// Sets the linger duration (`SO_LINGER`).
    ///
    /// Deprecated as in tokio, although drop never blocks here: unsent data is delivered in the background for up to
    /// `dur` and then reset; `None` (the default) delivers it without limit.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("#[allow(deprecated)]" "stream.set_linger(None)?;")]
    #[deprecated = "`SO_LINGER` causes the socket to block the thread on drop"]
    pub fn set_linger(&self, dur: Option<Duration>) -> io::Result<()> {
        self.end.set_options(|options| options.linger = dur);
        Ok(())
    }

    /// Makes drop send a RST (`SO_LINGER` of zero).
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!(
        "stream.set_zero_linger()?;"
        "drop(stream);"
        "let error = peer.read(&mut [0; 1]).await.unwrap_err();"
        "assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);"
    )]
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.end.set_options(|options| options.linger = Some(Duration::ZERO));
        Ok(())
    }

    /// Returns the TTL (IPv4) or hop limit (IPv6) of packets sent.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("assert_eq!(stream.ttl()?, 64);")]
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(u32::from(self.end.options().ttl))
    }

    /// Sets the TTL (IPv4) or hop limit (IPv6) of packets sent.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside of 1 to 255.
    ///
    #[doc = example!("stream.set_ttl(100)?;" "assert_eq!(stream.ttl()?, 100);")]
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = check_ttl(ttl)?;
        self.end.set_options(|options| options.ttl = ttl);
        Ok(())
    }

    /// Splits a stream into a read half and a write half that borrow it. No allocation, no cost.
    ///
    #[doc = example!(
        "let (mut read, mut write) = stream.split();"
        "write.write_all(b\"x\").await?;"
    )]
    // The lifetime is written out, as tokio's documentation does, to show that this split borrows.
    #[allow(clippy::needless_lifetimes)]
    pub fn split<'a>(&'a mut self) -> (ReadHalf<'a>, WriteHalf<'a>) {
        split(self)
    }

    /// Splits a stream into two owned halves, which may move to different tasks. Dropping the write half sends FIN.
    ///
    #[doc = example!(
        "let (read, mut write) = stream.into_split();"
        "write.write_all(b\"x\").await?;"
        "let stream = read.reunite(write)?;"
    )]
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split_owned(self)
    }

    // ---- what tokio does not have ----

    /// A snapshot of the control block and both buffers.
    ///
    #[doc = example!("let info = stream.info();" "assert!(info.rtt.is_some() && info.cwnd > 0);")]
    pub fn info(&self) -> SocketInfo {
        SocketInfo::new(self.end.info())
    }

    /// A look at this stream that outlives it.
    ///
    #[doc = example!("let watch = stream.watch();" "drop(stream);" "assert!(watch.info().iss.is_some());")]
    pub fn watch(&self) -> SocketWatch {
        SocketWatch::new(self.end.watch())
    }

    /// Resets the connection: the peer sees `ConnectionReset`, queued data is discarded.
    ///
    #[doc = example!(
        "stream.abort();"
        "let error = peer.read(&mut [0; 1]).await.unwrap_err();"
        "assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);"
    )]
    pub fn abort(self) {
        self.end.abort();
    }

    /// Limits how long sent data may stay unacknowledged (RFC 5482, `TCP_USER_TIMEOUT`) before the connection fails with
    /// `TimedOut`. `None`: by the retry limit, about 15 minutes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for zero.
    ///
    #[doc = example!(
        "let limit = Some(std::time::Duration::from_secs(30));"
        "stream.set_user_timeout(limit)?;"
        "assert_eq!(stream.user_timeout()?, limit);"
    )]
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(invalid("a user timeout is greater than zero"));
        }
        self.end.set_options(|options| options.user_timeout = timeout);
        Ok(())
    }

    /// Returns the user timeout.
    ///
    /// # Errors
    ///
    /// None in practice; shaped like the other options.
    ///
    #[doc = example!("assert!(stream.user_timeout()?.is_none());")]
    pub fn user_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.end.options().user_timeout)
    }

    /// Sends keepalive probes with this timing; `None` switches them off. What tokio users do with
    /// `socket2::TcpKeepalive`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a value is zero.
    ///
    #[doc = example!("stream.set_keepalive_params(Some(usernet::KeepaliveParams::default()))?;")]
    pub fn set_keepalive_params(&self, params: Option<KeepaliveParams>) -> io::Result<()> {
        let params = params.map(check_keepalive).transpose()?;
        self.end.set_options(|options| {
            options.keepalive = params.is_some();
            options.keepalive_params = params.unwrap_or(options.keepalive_params);
        });
        Ok(())
    }

    /// Bytes written but not yet sent for the first time (`SIOCOUTQNSD`), as of the reactor's last turn.
    ///
    #[doc = example!("assert_eq!(stream.unsent(), 0);")]
    pub fn unsent(&self) -> usize {
        let (conn, send, _) = self.end.info();
        let in_flight = conn.snd_nxt.saturating_offset_from(conn.snd_una);
        send.fill.saturating_sub(usize::try_from(in_flight).unwrap_or(usize::MAX))
    }

    /// Bytes written but not yet acknowledged by the peer, sent or not (`SIOCOUTQ`).
    ///
    #[doc = example!("assert_eq!(stream.unacked(), 0);")]
    pub fn unacked(&self) -> usize {
        self.end.info().1.fill
    }

    /// Waits until the peer's TCP has acknowledged every byte written before the call, whatever is written meanwhile. That is
    /// what `flush` can not promise: as in tokio, it waits for nothing.
    ///
    /// # Errors
    ///
    /// Those of a write (the pending error is taken) if the connection ends before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    ///
    #[doc = example!("stream.write_all(b\"x\").await?;" "stream.drain().await?;" "assert_eq!(stream.unacked(), 0);")]
    pub async fn drain(&self) -> io::Result<()> {
        self.end.drained().await.map_err(io::Error::from)
    }
}

impl fmt::Debug for UserStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (conn, send, recv) = self.end.info();
        f.debug_struct("UserStream")
            .field("addr", &self.end.local_addr())
            .field("peer", &self.end.peer_addr())
            .field("state", &conn.state)
            .field("snd_una", &conn.snd_una.raw())
            .field("snd_nxt", &conn.snd_nxt.raw())
            .field("rcv_nxt", &conn.rcv_nxt.raw())
            .field("send", &send.fill)
            .field("recv", &recv.fill)
            .finish()
    }
}

impl AsRef<Self> for UserStream {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Resolves and tries each address in turn, on `stack` or the current one.
pub(super) async fn connect_any<A: ToSocketAddrs>(stack: Option<&Stack>, addr: A) -> io::Result<UserStream> {
    let mut last = None;
    for addr in lookup_host(addr).await? {
        let socket = match stack {
            Some(stack) => stack.socket(),
            None => UserSocket::new(),
        };
        match socket?.connect(addr).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| invalid("could not resolve to any address")))
}
