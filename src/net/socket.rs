//! [`UserSocket`]: the first act of a socket's life. Both buffers exist and can not carry data.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::info::{SocketInfo, SocketWatch};
use super::listener::UserListener;
use super::options::invalid;
use super::stack::{current, explicit};
use super::stream::UserStream;
use crate::config::SocketOptions;
use crate::error::ConnError;
use crate::pipe::{Region, StackEnd, UserEnd, pipe};
use crate::reactor::{Binding, ConnectOrder, Handle};

/// A TCP socket that is not yet a [`UserStream`] or a [`UserListener`].
///
/// Creating it allocates the control block and **both** buffers, as address space whose pages are untouched.
/// [`connect`](UserSocket::connect) allocates no payload memory: it wires these buffers up. Until then they can not carry
/// data; the type has no read or write.
///
/// It needs no runtime. It joins a stack when it is created by [`Stack::socket`](crate::Stack::socket) or while a stack
/// is [current](crate::Stack::current) by `scope` or `set_default`, else at bind, connect or listen.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use usernet::{UserListener, UserSocket};
///
/// let listener = UserListener::bind("127.0.0.1:0").await?;
/// let socket = UserSocket::new()?;
/// socket.set_nodelay(true)?;
/// let stream = socket.connect(listener.local_addr()?).await?;
/// assert!(stream.nodelay()?);
/// # Ok(())
/// # }
/// ```
pub struct UserSocket {
    inner: Box<Mutex<Inner>>,
}

// A panic can leave no broken invariant behind: the lock is never held while foreign code runs.
impl UnwindSafe for UserSocket {}
impl RefUnwindSafe for UserSocket {}

/// Which addresses a socket works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Fixed by the first bind or connect.
    Any,
    V4,
    V6,
}

impl Family {
    fn of(addr: SocketAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    fn check(self, addr: SocketAddr) -> Result<Family, ConnError> {
        let family = Family::of(addr);
        if self == Family::Any || self == family { Ok(family) } else { Err(ConnError::InvalidInput) }
    }

    fn unspecified(self) -> SocketAddr {
        match self {
            Family::Any | Family::V4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Family::V6 => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        }
    }
}

struct Inner {
    family: Family,
    user: UserEnd,
    pipe: StackEnd,
    binding: Option<Binding>,
    handle: Option<Arc<Handle>>,
}

impl Inner {
    /// The stack this socket belongs to, joining the current one if there is none yet.
    fn join(&mut self) -> io::Result<Arc<Handle>> {
        if let Some(handle) = &self.handle {
            return Ok(Arc::clone(handle));
        }
        let handle = current()?;
        self.user.region().join(&handle.shared().budget)?;
        self.handle = Some(Arc::clone(&handle));
        Ok(handle)
    }

    /// Reserves buffers of other sizes in place of the old ones.
    fn reserve(&mut self, options: SocketOptions) -> Result<(), ConnError> {
        (self.user, self.pipe) = reserve(options, self.handle.as_ref(), Some(self.user.region()))?;
        Ok(())
    }

    fn bind(&mut self, addr: SocketAddr) -> io::Result<()> {
        if self.binding.is_some() {
            return Err(invalid("the socket is bound already"));
        }
        let family = self.family.check(addr)?;
        let handle = self.join()?;
        handle.check_alive()?;
        self.binding = Some(handle.shared().bind(addr, &self.user.options())?);
        self.family = family;
        Ok(())
    }
}

/// Reserves both buffers, charged to the stack if there is one; in place of `old`, which is about to go.
fn reserve(
    options: SocketOptions,
    handle: Option<&Arc<Handle>>,
    old: Option<&Region>,
) -> Result<(UserEnd, StackEnd), ConnError> {
    let size = |bytes: u32| usize::try_from(bytes).map_err(|_| ConnError::InvalidInput);
    let (send, recv) = (size(options.send_buffer)?, size(options.recv_buffer)?);
    let region = match (handle.map(|handle| &handle.shared().budget), old) {
        (Some(budget), Some(old)) => budget.region_in_place_of(old, send, recv)?,
        (Some(budget), None) => budget.region(send, recv)?,
        (None, _) => Region::map(send, recv)?,
    };
    Ok(pipe(region, options))
}

impl UserSocket {
    /// Creates a socket and reserves both buffers, 1 MiB to send and 4 MiB to receive unless the stack says otherwise.
    /// Its family is fixed by the first bind or connect.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if no address space is left, in the process or by the stack's `max_reserved`.
    ///
    /// ```
    /// let socket = usernet::UserSocket::new()?;
    /// assert_eq!(socket.info().send_buffer.fill, 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn new() -> io::Result<UserSocket> {
        UserSocket::open(Family::Any, explicit().as_ref())
    }

    /// Creates an IPv4 socket. See [`new`](UserSocket::new).
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if no address space is left, in the process or by the stack's `max_reserved`.
    ///
    #[doc = socket_example!("assert!(socket.local_addr()?.is_ipv4());")]
    pub fn new_v4() -> io::Result<UserSocket> {
        UserSocket::open(Family::V4, explicit().as_ref())
    }

    /// Creates an IPv6 socket. See [`new`](UserSocket::new).
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if no address space is left, in the process or by the stack's `max_reserved`.
    ///
    #[doc = socket_example!("let socket = usernet::net::TcpSocket::new_v6()?;" "assert!(socket.local_addr()?.is_ipv6());")]
    pub fn new_v6() -> io::Result<UserSocket> {
        UserSocket::open(Family::V6, explicit().as_ref())
    }

    pub(super) fn on_stack(handle: &Arc<Handle>) -> io::Result<UserSocket> {
        UserSocket::open(Family::Any, Some(handle))
    }

    pub(super) fn on_stack_v4(handle: &Arc<Handle>) -> io::Result<UserSocket> {
        UserSocket::open(Family::V4, Some(handle))
    }

    pub(super) fn on_stack_v6(handle: &Arc<Handle>) -> io::Result<UserSocket> {
        UserSocket::open(Family::V6, Some(handle))
    }

    fn open(family: Family, handle: Option<&Arc<Handle>>) -> io::Result<UserSocket> {
        let options = handle.map(|handle| handle.shared().config.socket).unwrap_or_default();
        let (user, pipe) = reserve(options, handle, None)?;
        let inner = Inner { family, user, pipe, binding: None, handle: handle.map(Arc::clone) };
        Ok(UserSocket { inner: Box::new(Mutex::new(inner)) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn into_inner(self) -> Inner {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn options(&self) -> SocketOptions {
        self.lock().user.options()
    }

    pub(super) fn set_options(&self, f: impl FnOnce(&mut SocketOptions)) {
        self.lock().user.set_options(f);
    }

    /// Changes options that say how large the buffers are.
    pub(super) fn set_sizes(&self, f: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        let mut inner = self.lock();
        let mut options = inner.user.options();
        f(&mut options);
        inner.reserve(options).map_err(io::Error::from)
    }

    /// Returns the address the socket is bound to; unspecified, with port 0, before `bind`.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert_eq!(socket.local_addr()?.port(), 0);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let inner = self.lock();
        Ok(inner.binding.as_ref().map_or(inner.family.unspecified(), |binding| binding.local_addr()))
    }

    /// Takes the pending error (`SO_ERROR`). A socket that is not connected has none.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = socket_example!("assert!(socket.take_error()?.is_none());")]
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.lock().user.take_error().map(io::Error::from))
    }

    /// A snapshot of the control block: state CLOSED, and where both buffers lie.
    ///
    #[doc = socket_example!("assert_eq!(socket.info().recv_buffer.capacity, 4 << 20);")]
    pub fn info(&self) -> SocketInfo {
        let inner = self.lock();
        let mut info = SocketInfo::new(inner.user.info());
        info.local_addr = inner.binding.as_ref().map(|binding| binding.local_addr());
        info
    }

    /// A look at this socket that outlives it: it sees what becomes of the socket in `connect`. Changing the size of a
    /// buffer ends it: set sizes first.
    ///
    #[doc = socket_example!("let watch = socket.watch();" "assert_eq!(watch.info(), socket.info());")]
    pub fn watch(&self) -> SocketWatch {
        SocketWatch::new(self.lock().user.watch())
    }

    /// Binds the socket to an address of the stack. Port 0 chooses a free one; `0.0.0.0` and `[::]` stand for every
    /// address. It takes effect before it returns.
    ///
    /// # Errors
    ///
    /// `AddrInUse` (also if no port is free); `AddrNotAvailable` (not an address of the stack); `InvalidInput` (wrong
    /// family, or bound already); `OutOfMemory` (`max_reserved`); `NetworkDown`; `Unsupported` without a tokio runtime
    /// with timers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let socket = usernet::UserSocket::new()?;
    /// socket.bind("127.0.0.1:0".parse().unwrap())?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.lock().bind(addr)
    }

    /// Connects to `addr`: three-way handshake, then the buffers of this socket carry data.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` (RST), `TimedOut`, `HostUnreachable`, `NetworkUnreachable`, `AddrNotAvailable` (no port left, or
    /// the bound port already has this connection), `InvalidInput` (wrong family), `OutOfMemory` (a limit of the stack),
    /// `NetworkDown`, `Unsupported` without a tokio runtime with timers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the connection and gives back port and buffers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = usernet::UserListener::bind("[::1]:0").await?;
    /// let stream = usernet::UserSocket::new_v6()?.connect(listener.local_addr()?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self, addr: SocketAddr) -> io::Result<UserStream> {
        let (order, stream) = self.order_connect(addr)?;
        order.send().await?;
        poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(*stream)
    }

    /// The stream is boxed until it is connected, which keeps the future small.
    fn order_connect(self, addr: SocketAddr) -> io::Result<(ConnectOrder, Box<UserStream>)> {
        let mut inner = self.into_inner();
        inner.family.check(addr)?;
        let handle = inner.join()?;
        let order = handle.order_connect(inner.pipe, inner.binding.as_ref(), addr)?;
        Ok((order, Box::new(UserStream::new(inner.user, inner.binding, handle))))
    }

    /// Turns the socket into a listener. It exists for the next segment when this returns.
    ///
    /// `backlog` bounds the connections that wait for `accept`; half-open ones are counted apart (see
    /// [`UserListener::set_max_syn_backlog`]). While the queue is full, new connections are ignored and their peers try
    /// again, as on Linux. The buffers of this socket are given back: accepted connections get their own, of the same
    /// sizes, when they are established.
    ///
    /// # Errors
    ///
    /// `AddrInUse`; those of [`bind`](UserSocket::bind) if it was not called: then a free port of every address is used.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let socket = usernet::UserSocket::new_v4()?;
    /// socket.bind("127.0.0.1:0".parse().unwrap())?;
    /// let listener = socket.listen(1024)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(self, backlog: u32) -> io::Result<UserListener> {
        let mut inner = self.into_inner();
        if inner.binding.is_none() {
            let addr = inner.family.unspecified();
            inner.bind(addr)?;
        }
        let handle = inner.join()?;
        handle.check_alive()?;
        let Some(binding) = inner.binding.take() else {
            return Err(ConnError::InvalidInput.into());
        };
        // As the kernel: a backlog is an int.
        let backlog = backlog.min(i32::MAX.unsigned_abs());
        let listening = handle.shared().listen(binding, inner.user.options(), backlog)?;
        Ok(UserListener::new(listening, handle))
    }
}

impl fmt::Debug for UserSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        let (_, send, recv) = inner.user.info();
        f.debug_struct("UserSocket")
            .field("family", &inner.family)
            .field("addr", &inner.binding.as_ref().map(|binding| binding.local_addr()))
            .field("send", &send)
            .field("recv", &recv)
            .finish()
    }
}
