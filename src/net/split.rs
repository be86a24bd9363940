//! [`ReadHalf`] and [`WriteHalf`]: a stream borrowed in two.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

use super::stream::UserStream;

/// Borrowed read half of a [`UserStream`], made by [`split`](UserStream::split).
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a UserStream);

/// Borrowed write half of a [`UserStream`], made by [`split`](UserStream::split).
///
/// `poll_shutdown` shuts the stream down in the write direction. Dropping the half does nothing.
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a UserStream);

pub(super) fn split(stream: &mut UserStream) -> (ReadHalf<'_>, WriteHalf<'_>) {
    (ReadHalf(stream), WriteHalf(stream))
}

impl ReadHalf<'_> {
    /// See [`UserStream::poll_peek`].
    ///
    /// # Errors
    ///
    /// Those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (mut read, _) = stream.split();"
        "let mut buf = [0; 8];"
        "let mut buf = tokio::io::ReadBuf::new(&mut buf);"
        "assert_eq!(std::future::poll_fn(|cx| read.poll_peek(cx, &mut buf)).await?, 1);"
    )]
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.0.poll_peek(cx, buf)
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
        "let (mut read, _) = stream.split();"
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
        "let (read, _) = stream.split();"
        "assert!(read.ready(Interest::READABLE).await?.is_readable());"
    )]
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.0.ready(interest).await
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
    #[doc = example!("peer.write_all(b\"x\").await?;" "let (read, _) = stream.split();" "read.readable().await?;")]
    pub async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// See [`UserStream::try_read`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _) = stream.split();"
        "read.readable().await?;"
        "assert_eq!(read.try_read(&mut [0; 8])?, 1);"
    )]
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }

    /// See [`UserStream::try_read_vectored`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _) = stream.split();"
        "read.readable().await?;"
        "assert_eq!(read.try_read_vectored(&mut [std::io::IoSliceMut::new(&mut [0; 8])])?, 1);"
    )]
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.try_read_vectored(bufs)
    }

    /// See [`UserStream::try_read_buf`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "peer.write_all(b\"x\").await?;"
        "let (read, _) = stream.split();"
        "read.readable().await?;"
        "assert_eq!(read.try_read_buf(&mut Vec::with_capacity(8))?, 1);"
    )]
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.0.try_read_buf(buf)
    }

    /// Returns the remote address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (read, _) = stream.split();" "assert_eq!(read.peer_addr()?, listener.local_addr()?);")]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (read, _) = stream.split();" "assert_eq!(read.local_addr()?, peer.peer_addr()?);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl WriteHalf<'_> {
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
        "let (_, write) = stream.split();"
        "assert!(write.ready(Interest::WRITABLE).await?.is_writable());"
    )]
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.0.ready(interest).await
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
    #[doc = example!("let (_, write) = stream.split();" "write.writable().await?;")]
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// See [`UserStream::try_write`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, `BrokenPipe`, and those of [`UserStream`].
    ///
    #[doc = example!("let (_, write) = stream.split();" "assert_eq!(write.try_write(b\"x\")?, 1);")]
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    /// See [`UserStream::try_write_vectored`].
    ///
    /// # Errors
    ///
    /// `WouldBlock`, `BrokenPipe`, and those of [`UserStream`].
    ///
    #[doc = example!(
        "let (_, write) = stream.split();"
        "assert_eq!(write.try_write_vectored(&[std::io::IoSlice::new(b\"x\")])?, 1);"
    )]
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    /// Returns the remote address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (_, write) = stream.split();" "assert_eq!(write.peer_addr()?, listener.local_addr()?);")]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// None in practice; the signature is tokio's.
    ///
    #[doc = example!("let (_, write) = stream.split();" "assert_eq!(write.local_addr()?, peer.peer_addr()?);")]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_shared(cx, buf)
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write_shared(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_shared(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown_write())
    }
}

impl AsRef<UserStream> for ReadHalf<'_> {
    fn as_ref(&self) -> &UserStream {
        self.0
    }
}

impl AsRef<UserStream> for WriteHalf<'_> {
    fn as_ref(&self) -> &UserStream {
        self.0
    }
}
