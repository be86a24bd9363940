//! A TUN descriptor that can be waited for in a tokio runtime.
//!
//! Owns the descriptor and its registration, which it makes at the first wait. Knows the traps of readiness: what must
//! be asked again before it is cleared, and that a deleted interface reports nothing but an error. Called by `tun`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::sys;

#[derive(Debug)]
pub(super) struct ReadyFd {
    fd: Arc<OwnedFd>,
    registered: Option<AsyncFd<Arc<OwnedFd>>>,
}

impl ReadyFd {
    pub(super) fn new(fd: OwnedFd) -> ReadyFd {
        ReadyFd { fd: Arc::new(fd), registered: None }
    }

    pub(super) fn get(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Registers with the current runtime unless that is done.
    ///
    /// # Errors
    /// `Unsupported` outside a runtime or in one without I/O.
    pub(super) fn register(&mut self) -> io::Result<()> {
        if self.registered.is_some() {
            return Ok(());
        }
        let fd = Arc::clone(&self.fd);
        // tokio has no question for "is I/O enabled here"; it panics.
        let made = catch_unwind(AssertUnwindSafe(|| sys::register(fd)));
        let made = made.map_err(|_| {
            let text = "a TUN device needs a tokio runtime with I/O (Builder::enable_io or enable_all)";
            io::Error::new(io::ErrorKind::Unsupported, text)
        })?;
        self.registered = Some(made?);
        Ok(())
    }

    /// Waits until `attempt`, which has just found nothing, may find something; then repeats it.
    pub(super) fn poll_read<T>(
        &self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let Some(fd) = &self.registered else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        while let Poll::Ready(guard) = fd.poll_read_ready(cx) {
            let mut guard = guard?;
            // Tried again after the readiness was seen: clearing it can then hide no packet.
            if let Some(done) = attempt() {
                return Poll::Ready(Ok(done));
            }
            if guard.ready().is_read_closed() {
                self.check_attached()?;
                break;
            }
            guard.clear_ready();
        }
        self.watch_for_the_end(fd, cx)?;
        Poll::Pending
    }

    /// The same for writing.
    pub(super) fn poll_write<T>(
        &self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let Some(fd) = &self.registered else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        loop {
            let Poll::Ready(guard) = fd.poll_write_ready(cx) else { return self.poll_room(cx, attempt) };
            let mut guard = guard?;
            if let Some(done) = attempt() {
                return Poll::Ready(Ok(done));
            }
            if self.has_ended(&guard)? {
                return Poll::Pending;
            }
            guard.clear_ready();
        }
    }

    /// The driver tells of room only if poll(2) has found none before (Linux's `tun_chr_poll` sets `SOCKWQ_ASYNC_NOSPACE`,
    /// which `tun_sock_write_space` waits for; a refused write doesn't), and an edge-triggered epoll asks it at events only.
    fn poll_room<T>(&self, cx: &Context<'_>, attempt: impl FnOnce() -> Option<T>) -> Poll<io::Result<T>> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        // A signal interrupts it although it does not wait.
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&Timespec::default())))? == 0 {
            return Poll::Pending;
        }
        // There is room since the attempt before.
        match attempt() {
            Some(done) => Poll::Ready(Ok(done)),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// A deleted interface shows as EPOLLERR alone, which tokio reports to writers only (`WRITE_CLOSED`). So a reader
    /// that waits must wait as a writer too, which takes clearing the write readiness first. That harms no writer:
    /// `poll_send` tries before it looks at readiness.
    fn watch_for_the_end(&self, fd: &AsyncFd<Arc<OwnedFd>>, cx: &mut Context<'_>) -> io::Result<()> {
        while let Poll::Ready(guard) = fd.poll_write_ready(cx) {
            let mut guard = guard?;
            if self.has_ended(&guard)? {
                break;
            }
            guard.clear_ready();
        }
        Ok(())
    }

    /// `WRITE_CLOSED` is never cleared, so whoever sees it must not wait for writing again. An error if the interface is
    /// really gone.
    fn has_ended(&self, guard: &AsyncFdReadyGuard<'_, Arc<OwnedFd>>) -> io::Result<bool> {
        if !guard.ready().is_write_closed() {
            return Ok(false);
        }
        self.check_attached()?;
        Ok(true)
    }

    /// Whether the descriptor still has an interface. The ioctl waits for the lock under which interfaces are deleted,
    /// so it can't answer yes in the middle of that.
    fn check_attached(&self) -> io::Result<()> {
        match sys::interface(&self.fd) {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(io::ErrorKind::NetworkDown, format!("the interface is gone: {error}"))),
        }
    }
}
