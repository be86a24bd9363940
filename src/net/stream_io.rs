//! Bytes and readiness of [`UserStream`], with tokio's semantics: an operation runs only while the stored readiness says
//! so, and only one that answered `WouldBlock` clears it.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::task::coop::poll_proceed;

use super::stream::UserStream;
use crate::error::ConnError;
use crate::pipe::{self, Direction, ReadyEvent, TryError};

impl UserStream {
    /// Waits for any of the requested ready states.
    ///
    /// Usually paired with `try_read` or `try_write`. It may complete although nothing is ready (the operation then gives
    /// `WouldBlock`), and with an empty set: check, and wait again.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone; `InvalidInput` for an interest that no TCP stream has. A broken connection
    /// is *ready*: the next operation reports its error.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Once an event occurred the method returns at once until an operation consumes it with `WouldBlock`.
    ///
    #[doc = example!("assert!(stream.ready(Interest::WRITABLE).await?.is_writable());")]
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        let event = self.end.readiness().wait(mask(interest)?).await;
        if event.is_shutdown {
            return Err(ConnError::NetworkDown.into());
        }
        Ok(to_tokio(event.ready))
    }

    /// Waits until the stream is readable. The same as `ready(Interest::READABLE)`.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Once an event occurred the method returns at once until a read consumes it with `WouldBlock`.
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "stream.readable().await?;"
        "assert_eq!(stream.try_read(&mut [0; 8])?, 1);"
    )]
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// Polls for readability; only the waker of the latest `poll_read`, `poll_peek` or `poll_read_ready` is woken.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    #[doc = example!("peer.write_all(b\"x\").await?;" "std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await?;")]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_event(cx, Direction::Read).map_ok(drop)
    }

    /// Waits until the stream is writable. The same as `ready(Interest::WRITABLE)`.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Once an event occurred the method returns at once until a write consumes it with `WouldBlock`.
    ///
    #[doc = example!("stream.writable().await?;" "assert_eq!(stream.try_write(b\"x\")?, 1);")]
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Polls for writability; only the waker of the latest `poll_write` or `poll_write_ready` is woken.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    #[doc = example!("std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await?;")]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_event(cx, Direction::Write).map_ok(drop)
    }

    /// Reads what is there without waiting. `Ok(0)`: the peer sent FIN (or `buf` is empty and something is there).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing is there, else those of the [type](UserStream#errors).
    ///
    #[doc = example!("assert_eq!(stream.try_read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);")]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.attempt(pipe::Ready::READ, || self.read_now(&mut [IoSliceMut::new(buf)]))
    }

    /// Like [`try_read`](UserStream::try_read), filling several buffers in order.
    ///
    /// # Errors
    ///
    /// Those of `try_read`.
    ///
    #[doc = example!(
        "peer.write_all(b\"xyz\").await?;"
        "stream.readable().await?;"
        "let (mut a, mut b) = ([0; 1], [0; 8]);"
        "let mut bufs = [std::io::IoSliceMut::new(&mut a), std::io::IoSliceMut::new(&mut b)];"
        "assert_eq!(stream.try_read_vectored(&mut bufs)?, 3);"
    )]
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // As `readv`, which does not ask the socket for nothing; `recv` does: a `try_read` of nothing finds what any read would.
        let wants_nothing = bufs.iter().all(|buf| buf.is_empty());
        self.attempt(pipe::Ready::READ, || if wants_nothing { Ok(0) } else { self.read_now(bufs) })
    }

    /// Like [`try_read`](UserStream::try_read), into a [`BufMut`], whose cursor it advances.
    ///
    /// # Errors
    ///
    /// Those of `try_read`.
    ///
    #[doc = example!(
        "peer.write_all(b\"xyz\").await?;"
        "stream.readable().await?;"
        "let mut buf = Vec::with_capacity(8);"
        "assert_eq!(stream.try_read_buf(&mut buf)?, 3);"
        "assert_eq!(buf, b\"xyz\");"
    )]
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        // One system call of tokio's fills one chunk; so here.
        let want = buf.chunk_mut().len();
        self.attempt(pipe::Ready::READ, || self.end.try_read_with(want, &mut |part| buf.put_slice(part)).map_err(to_io))
    }

    /// Queues bytes without waiting and returns how many it took.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the send buffer is full; `BrokenPipe` after shutdown; else those of the [type](UserStream#errors).
    ///
    #[doc = example!("assert_eq!(stream.try_write(b\"hello\")?, 5);")]
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(buf)])
    }

    /// Like [`try_write`](UserStream::try_write), from several buffers in order.
    ///
    /// # Errors
    ///
    /// Those of `try_write`.
    ///
    #[doc = example!(
        "let bufs = [std::io::IoSlice::new(b\"a\"), std::io::IoSlice::new(b\"bc\")];"
        "assert_eq!(stream.try_write_vectored(&bufs)?, 3);"
    )]
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.attempt(pipe::Ready::WRITE, || self.end.try_write(bufs).map_err(to_io))
    }

    /// Runs `f` if the stream is ready for `interest`. If `f` answers `WouldBlock` that readiness is cleared.
    ///
    /// As in tokio `f` must try an operation of *this* stream, else later waits may hang. There is no file descriptor to
    /// use here: `f` calls what the stream itself offers.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it is not ready; `NetworkDown` once the reactor is gone; those of `f`.
    ///
    #[doc = example!("assert_eq!(stream.try_io(Interest::WRITABLE, || stream.try_write(b\"x\"))?, 1);")]
    pub fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.attempt(mask(interest)?, f)
    }

    /// Waits for `interest` and runs `f` until it answers something else than `WouldBlock`.
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone; those of `f`.
    ///
    /// # Cancel safety
    ///
    /// Waiting is cancel safe; whatever `f` did before it answered `WouldBlock` is done.
    ///
    #[doc = example!("assert_eq!(stream.async_io(Interest::WRITABLE, || stream.try_write(b\"x\")).await?, 1);")]
    pub async fn async_io<R>(&self, interest: Interest, mut f: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        let mask = mask(interest)?;
        loop {
            let event = self.end.readiness().wait(mask).await;
            if event.is_shutdown {
                return Err(ConnError::NetworkDown.into());
            }
            let coop = poll_fn(poll_proceed).await;
            match f() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.end.readiness().clear(event),
                result => {
                    coop.made_progress();
                    return result;
                }
            }
        }
    }

    /// Reads without consuming, waiting until there is something. `Ok(0)`: the peer sent FIN.
    ///
    /// # Errors
    ///
    /// Those of the [type](UserStream#errors).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: peeking consumes nothing.
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "assert_eq!(stream.peek(&mut [0; 8]).await?, 1);"
        "assert_eq!(stream.read(&mut [0; 8]).await?, 1);"
    )]
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.async_io(Interest::READABLE, || {
            let mut buf = ReadBuf::new(buf);
            self.peek_now(&mut buf)
        })
        .await
    }

    /// Polls for bytes without consuming them; only the waker of the latest `poll_read`, `poll_peek` or
    /// `poll_read_ready` is woken.
    ///
    /// # Errors
    ///
    /// Those of the [type](UserStream#errors); never `WouldBlock`.
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let mut buf = [0; 8];"
        "let mut buf = tokio::io::ReadBuf::new(&mut buf);"
        "assert_eq!(std::future::poll_fn(|cx| stream.poll_peek(cx, &mut buf)).await?, 1);"
    )]
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.poll_attempt(cx, Direction::Read, || self.peek_now(buf))
    }

    pub(super) fn poll_read_shared(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_attempt(cx, Direction::Read, || {
            self.end.try_read_with(buf.remaining(), &mut |part| buf.put_slice(part)).map(drop).map_err(to_io)
        })
    }

    pub(super) fn poll_write_shared(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_attempt(cx, Direction::Write, || self.end.try_write(bufs).map_err(to_io))
    }

    /// The only place that waits on a poll slot; it consumes tokio's cooperative budget as tokio's does.
    fn poll_event(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<ReadyEvent>> {
        let coop = ready!(poll_proceed(cx));
        let event = ready!(self.end.readiness().poll_ready(cx, direction));
        if event.is_shutdown {
            return Poll::Ready(Err(ConnError::NetworkDown.into()));
        }
        coop.made_progress();
        Poll::Ready(Ok(event))
    }

    fn poll_attempt<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut f: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let event = ready!(self.poll_event(cx, direction))?;
            match f() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.end.readiness().clear(event),
                result => return Poll::Ready(result),
            }
        }
    }

    fn attempt<R>(&self, mask: pipe::Ready, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        let event = self.end.readiness().event(mask);
        if event.is_shutdown {
            return Err(ConnError::NetworkDown.into());
        }
        if event.ready.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let result = f();
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.end.readiness().clear(event);
        }
        result
    }

    fn read_now(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let want = bufs.iter().map(|buf| buf.len()).sum();
        let mut bufs = bufs.iter_mut();
        let mut current: &mut [u8] = &mut [];
        self.end
            .try_read_with(want, &mut |mut part| {
                while !part.is_empty() {
                    if current.is_empty() {
                        match bufs.next() {
                            Some(buf) => current = buf,
                            None => return,
                        }
                    }
                    let n = part.len().min(current.len());
                    let (taken, rest) = part.split_at(n);
                    let (place, left) = std::mem::take(&mut current).split_at_mut(n);
                    place.copy_from_slice(taken);
                    (part, current) = (rest, left);
                }
            })
            .map_err(to_io)
    }

    fn peek_now(&self, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        self.end.try_peek_with(buf.remaining(), &mut |part| buf.put_slice(part)).map_err(to_io)
    }
}

impl AsyncRead for UserStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_shared(cx, buf)
    }
}

impl AsyncWrite for UserStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_shared(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_shared(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Waits for nothing, as in tokio: written bytes are already the stack's. See [`UserStream::drain`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Queues FIN and returns at once; `Ok` also on a connection that is shut, reset or closed already.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

impl UserStream {
    /// Waits for the end of the handshake.
    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let event = ready!(self.poll_event(cx, Direction::Write))?;
            // As in tokio: a connection that was established and reset before anyone looked has failed.
            if let Some(error) = self.end.take_error() {
                return Poll::Ready(Err(error.into()));
            }
            if self.end.is_established() {
                return Poll::Ready(Ok(()));
            }
            if event.ready.is_write_closed() {
                return Poll::Ready(Err(ConnError::Aborted.into()));
            }
            self.end.readiness().clear(event);
        }
    }

    /// Queues FIN.
    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        if self.end.readiness().is_shutdown() {
            return Err(ConnError::NetworkDown.into());
        }
        self.end.shutdown_write();
        Ok(())
    }
}

fn to_io(error: TryError) -> io::Error {
    match error {
        TryError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        TryError::Failed(error) => error.into(),
    }
}

/// What an interest waits for. Unlike tokio's, a combination works in `try_io` too.
fn mask(interest: Interest) -> io::Result<pipe::Ready> {
    let mut mask = pipe::Ready::EMPTY;
    if interest.is_readable() {
        mask |= pipe::Ready::READ;
    }
    if interest.is_writable() {
        mask |= pipe::Ready::WRITE;
    }
    if interest.is_error() {
        mask |= pipe::Ready::ERROR;
    }
    // RFC 6093: no out-of-band data here; what is left of a priority interest is the end of the stream.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if interest.is_priority() {
        mask |= pipe::Ready::READ_CLOSED;
    }
    if mask.is_empty() { Err(super::options::invalid("not an interest of a TCP stream")) } else { Ok(mask) }
}

fn to_tokio(ready: pipe::Ready) -> Ready {
    let pairs = [
        (pipe::Ready::READABLE, Ready::READABLE),
        (pipe::Ready::WRITABLE, Ready::WRITABLE),
        (pipe::Ready::READ_CLOSED, Ready::READ_CLOSED),
        (pipe::Ready::WRITE_CLOSED, Ready::WRITE_CLOSED),
        (pipe::Ready::ERROR, Ready::ERROR),
    ];
    pairs.into_iter().filter(|(ours, _)| ready.contains(*ours)).fold(Ready::EMPTY, |sum, (_, theirs)| sum | theirs)
}
