//! [`OwnedReadHalf`] and [`OwnedWriteHalf`]: a stream shared by two owners.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

use super::stream::UserStream;

/// Owned read half of a [`UserStream`], made by [`into_split`](UserStream::into_split).
#[derive(Debug)]
pub struct OwnedReadHalf {
    inner: Arc<UserStream>,
}

/// Owned write half of a [`UserStream`], made by [`into_split`](UserStream::into_split).
///
/// `poll_shutdown` shuts the stream down in the write direction, and so does dropping the half, unless by
/// [`forget`](OwnedWriteHalf::forget).
#[derive(Debug)]
pub struct OwnedWriteHalf {
    inner: Arc<UserStream>,
    shutdown_on_drop: bool,
}

/// Two halves that are not from the same stream.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves that are not from the same socket")
    }
}

impl Error for ReuniteError {}

pub(super) fn split_owned(stream: UserStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let inner = Arc::new(stream);
    (OwnedReadHalf { inner: Arc::clone(&inner) }, OwnedWriteHalf { inner, shutdown_on_drop: true })
}

fn reunite(read: OwnedReadHalf, write: OwnedWriteHalf) -> Result<UserStream, ReuniteError> {
    if !Arc::ptr_eq(&read.inner, &write.inner) {
        return Err(ReuniteError(read, write));
    }
    let inner = Arc::clone(&write.inner);
    write.forget();
    drop(read);
    match Arc::try_unwrap(inner) {
        Ok(stream) => Ok(stream),
        // Not reachable: halves can't be cloned, so no third owner exists. Handing both back is the answer without a panic.
        Err(inner) => Err(ReuniteError(
            OwnedReadHalf { inner: Arc::clone(&inner) },
            OwnedWriteHalf { inner, shutdown_on_drop: true },
        )),
    }
}

impl OwnedReadHalf {
    /// Puts the two halves of a stream together again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which gives both halves back, if they are not from the same stream.
    ///
    #[doc = example!("let (read, write) = stream.into_split();" "let stream = read.reunite(write)?;")]
    pub fn reunite(self, other: OwnedWriteHalf) -> Result<UserStream, ReuniteError> {
        reunite(self, other)
    }

    /// See [`UserStream::poll_peek`].
    ///
    /// # Errors
    ///
    /// Those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (mut read, _write) = stream.into_split();"
        "let mut buf = [0; 8];"
        "let mut buf = tokio::io::ReadBuf::new(&mut buf);"
        "assert_eq!(std::future::poll_fn(|cx| read.poll_peek(cx, &mut buf)).await?, 1);"
    )]
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.inner.poll_peek(cx, buf)
    }

    /// See [`UserStream::peek`].
    ///
    /// # Errors
    ///
    /// Those of [`UserStream`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: peeking consumes nothing.
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (mut read, _write) = stream.into_split();"
        "assert_eq!(read.peek(&mut [0; 8]).await?, 1);"
    )]
    pub async fn peek(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        poll_fn(|cx| self.poll_peek(cx, &mut buf)).await
    }

    /// See [`UserStream::ready`].
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`UserStream::ready`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _write) = stream.into_split();"
        "assert!(read.ready(Interest::READABLE).await?.is_readable());"
    )]
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.inner.ready(interest).await
    }

    /// See [`UserStream::readable`].
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`UserStream::readable`].
    ///
    #[doc = example!("peer.write_all(b\"x\").await?;" "let (read, _write) = stream.into_split();" "read.readable().await?;")]
    pub async fn readable(&self) -> io::Result<()> {
        self.inner.readable().await
    }

    /// See [`UserStream::try_read`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _write) = stream.into_split();"
        "read.readable().await?;"
        "assert_eq!(read.try_read(&mut [0; 8])?, 1);"
    )]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.try_read(buf)
    }

    /// See [`UserStream::try_read_vectored`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _write) = stream.into_split();"
        "read.readable().await?;"
        "assert_eq!(read.try_read_vectored(&mut [std::io::IoSliceMut::new(&mut [0; 8])])?, 1);"
    )]
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.inner.try_read_vectored(bufs)
    }

    /// See [`UserStream::try_read_buf`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _write) = stream.into_split();"
        "read.readable().await?;"
        "assert_eq!(read.try_read_buf(&mut Vec::with_capacity(8))?, 1);"
    )]
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.inner.try_read_buf(buf)
    }

    /// Returns the remote address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (read, _write) = stream.into_split();" "assert_eq!(read.peer_addr()?, listener.local_addr()?);")]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (read, _write) = stream.into_split();" "assert_eq!(read.local_addr()?, peer.peer_addr()?);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl OwnedWriteHalf {
    /// Puts the two halves of a stream together again.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which gives both halves back, if they are not from the same stream.
    ///
    #[doc = example!("let (read, write) = stream.into_split();" "let stream = write.reunite(read)?;")]
    pub fn reunite(self, other: OwnedReadHalf) -> Result<UserStream, ReuniteError> {
        reunite(other, self)
    }

    /// Destroys the write half without FIN: the stream is closed when the read half drops, or now if it has dropped.
    ///
    #[doc = example!("let (read, write) = stream.into_split();" "write.forget();")]
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }

    /// See [`UserStream::ready`].
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`UserStream::ready`].
    ///
    #[doc = example!(
        "let (_read, write) = stream.into_split();"
        "assert!(write.ready(Interest::WRITABLE).await?.is_writable());"
    )]
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.inner.ready(interest).await
    }

    /// See [`UserStream::writable`].
    ///
    /// # Errors
    ///
    /// `NetworkDown` once the reactor is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`UserStream::writable`].
    ///
    #[doc = example!("let (_read, write) = stream.into_split();" "write.writable().await?;")]
    pub async fn writable(&self) -> io::Result<()> {
        self.inner.writable().await
    }

    /// See [`UserStream::try_write`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, `BrokenPipe`, and those of [`UserStream`].
    ///
    #[doc = example!("let (_read, write) = stream.into_split();" "assert_eq!(write.try_write(b\"x\")?, 1);")]
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.try_write(buf)
    }

    /// See [`UserStream::try_write_vectored`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, `BrokenPipe`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "let (_read, write) = stream.into_split();"
        "assert_eq!(write.try_write_vectored(&[std::io::IoSlice::new(b\"x\")])?, 1);"
    )]
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write_vectored(bufs)
    }

    /// Returns the remote address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (_read, write) = stream.into_split();" "assert_eq!(write.peer_addr()?, listener.local_addr()?);")]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.peer_addr()
    }

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (_read, write) = stream.into_split();" "assert_eq!(write.local_addr()?, peer.peer_addr()?);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            // A dead reactor has nobody to tell.
            let _ = self.inner.shutdown_write();
        }
    }
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_read_shared(cx, buf)
    }
}

impl AsyncWrite for OwnedWriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write_shared(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_write_shared(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.inner.shutdown_write())
    }
}

impl AsRef<UserStream> for OwnedReadHalf {
    fn as_ref(&self) -> &UserStream {
        &self.inner
    }
}

impl AsRef<UserStream> for OwnedWriteHalf {
    fn as_ref(&self) -> &UserStream {
        &self.inner
    }
}
