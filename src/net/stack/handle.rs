//! [`Stack`]: the public handle.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::ToSocketAddrs;

use super::builder::StackBuilder;
use super::current::{self, DefaultGuard};
use crate::net::listener::{UserListener, bind_any};
use crate::net::socket::UserSocket;
use crate::net::stream::{UserStream, connect_any};
use crate::reactor::Handle;
use crate::stats::Stats;

/// A handle of one TCP/IP stack: its addresses, its device, its reactor task.
///
/// Cheap to clone. The reactor lives while a `Stack`, socket, stream or listener of it exists, and until the background
/// has delivered what dropped streams left behind.
///
/// # The current stack
///
/// [`UserSocket::new`], [`UserStream::connect`] and [`UserListener::bind`] name no stack. They use
/// 1. the stack of the [`scope`](Stack::scope) they run in; else
/// 2. the one that is [default](Stack::set_default) for this tokio runtime; else
/// 3. an embedded stack in memory that owns 127.0.0.0/8 and ::1, started at the first use in a runtime. It is not the
///    host's loopback: only sockets of this runtime meet there. Any other destination gives `NetworkUnreachable`.
#[derive(Clone)]
pub struct Stack {
    pub(super) handle: Arc<Handle>,
}

// A panic can leave no broken invariant behind: all state sits behind short locks without user code.
impl UnwindSafe for Stack {}
impl RefUnwindSafe for Stack {}

impl Stack {
    pub(super) fn new(handle: Arc<Handle>) -> Stack {
        Stack { handle }
    }

    /// Starts building a stack. See [`StackBuilder`].
    ///
    /// ```
    /// let error = usernet::Stack::builder().build().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput); // no address
    /// ```
    pub fn builder() -> StackBuilder {
        StackBuilder::new()
    }

    /// Returns the current stack, starting the embedded one if there is no other.
    ///
    /// # Errors
    ///
    /// `Unsupported` without a tokio runtime with timers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = usernet::Stack::current()?.bind("127.0.0.1:0").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn current() -> io::Result<Stack> {
        current::current().map(Stack::new)
    }

    /// Creates a socket of this stack. See [`UserSocket::new`].
    ///
    /// # Errors
    ///
    /// `OutOfMemory`: no address space left, in the process or by `max_reserved`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let socket = usernet::Stack::current()?.socket()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn socket(&self) -> io::Result<UserSocket> {
        UserSocket::on_stack(&self.handle)
    }

    /// Creates an IPv4 socket of this stack. See [`UserSocket::new_v4`].
    ///
    /// # Errors
    ///
    /// `OutOfMemory`: no address space left, in the process or by `max_reserved`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let socket = usernet::Stack::current()?.new_v4()?;
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::new_ret_no_self, clippy::wrong_self_convention)]
    pub fn new_v4(&self) -> io::Result<UserSocket> {
        UserSocket::on_stack_v4(&self.handle)
    }

    /// Creates an IPv6 socket of this stack. See [`UserSocket::new_v6`].
    ///
    /// # Errors
    ///
    /// `OutOfMemory`: no address space left, in the process or by `max_reserved`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let socket = usernet::Stack::current()?.new_v6()?;
    /// # Ok(())
    /// # }
    /// ```
    #[allow(clippy::new_ret_no_self, clippy::wrong_self_convention)]
    pub fn new_v6(&self) -> io::Result<UserSocket> {
        UserSocket::on_stack_v6(&self.handle)
    }

    /// Opens a connection through this stack. See [`UserStream::connect`].
    ///
    /// # Errors
    ///
    /// Those of [`UserStream::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the connection and gives back port and buffers.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = usernet::Stack::current()?;
    /// let error = stack.connect("127.0.0.1:9").await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<UserStream> {
        connect_any(Some(self), addr).await
    }

    /// Creates a listener on this stack. See [`UserListener::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`UserListener::bind`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: only the resolution of a host name waits.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let listener = usernet::Stack::current()?.bind("[::]:0").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind<A: ToSocketAddrs>(&self, addr: A) -> io::Result<UserListener> {
        bind_any(Some(self), addr).await
    }

    /// Runs a future with this stack as the current one. Tasks it spawns are not covered.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::net::Ipv4Addr;
    /// use usernet::{Stack, UserListener};
    ///
    /// let stack = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 1), 24).build()?;
    /// let listener = stack.scope(UserListener::bind("10.0.0.1:80")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        current::scope(self.clone(), future)
    }

    /// Makes this stack the default of the current tokio runtime, for all its tasks, until the guard is dropped. The guard
    /// keeps the stack alive.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`: the runtime has a default. `Unsupported`: no tokio runtime on this thread.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::net::Ipv4Addr;
    /// use usernet::{Stack, UserListener};
    ///
    /// let stack = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 1), 24).build()?;
    /// let _default = stack.set_default()?;
    /// let listener = UserListener::bind("10.0.0.1:80").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_default(&self) -> io::Result<DefaultGuard> {
        current::set_default(self.clone())
    }

    /// Returns the stack's counters as of the reactor's last turn.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// assert_eq!(usernet::Stack::current()?.stats().dropped_total(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        self.handle.shared().stats()
    }

    /// Ends the stack in good order: waits until everything that was sent (FINs of dropped streams included) is
    /// acknowledged, at most for `grace`, then ends the reactor. Whatever still exists fails with `NetworkDown`.
    ///
    /// Call it at the end of `main`: a runtime that is dropped does not wait for the background.
    ///
    /// # Errors
    ///
    /// `TimedOut` if `grace` ran out first (the stack has ended all the same); `NetworkDown` if it had ended before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take the order back once it was given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # use tokio::io::AsyncWriteExt;
    /// let stack = usernet::Stack::current()?;
    /// let listener = stack.bind("127.0.0.1:0").await?;
    /// let mut stream = stack.connect(listener.local_addr()?).await?;
    /// let (peer, _) = listener.accept().await?;
    /// stream.write_all(b"last words").await?;
    /// drop(stream);
    /// stack.shutdown(std::time::Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self, grace: Duration) -> io::Result<()> {
        if self.handle.shutdown(grace).await? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the stack ended with unacknowledged data"))
    }

    /// Waits until the reactor is gone: shut down, its device lost, its runtime ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = usernet::Stack::current()?;
    /// stack.shutdown(std::time::Duration::ZERO).await?;
    /// stack.closed().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn closed(&self) {
        self.handle.closed().await;
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("addresses", &self.handle.shared().config.addresses)
            .field("device", &self.handle.device_name())
            .field("closed", &self.handle.is_closed())
            .finish()
    }
}
