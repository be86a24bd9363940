//! Every item of `tokio::net`'s TCP surface, used once: the same source compiled against `tokio::net` on the kernel's
//! loopback and against `usernet::net` on the embedded stack. What compiles for one has the signature of the other, and
//! what is asserted holds on both.
#![allow(clippy::indexing_slicing, reason = "a test")]

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What a pair of halves can do, borrowed or owned; `$end` sends the FIN.
macro_rules! halves {
    ($reader:ident, $writer:ident, $theirs:ident, $addresses:expr, $end:expr) => {
        assert_eq!(($reader.local_addr()?, $reader.peer_addr()?), $addresses);
        assert_eq!(($writer.local_addr()?, $writer.peer_addr()?), $addresses);
        AsRef::<TcpStream>::as_ref(&$reader).set_nodelay(true)?;
        assert!(AsRef::<TcpStream>::as_ref(&$writer).nodelay()?);
        $writer.writable().await?;
        assert!($writer.ready(Interest::WRITABLE).await?.is_writable());
        assert_eq!($writer.try_write(b"ab")?, 2);
        assert_eq!($writer.try_write_vectored(&[IoSlice::new(b"cd")])?, 2);
        assert_eq!($writer.write(b"ef").await?, 2);
        $end;
        let mut there = String::new();
        $theirs.read_to_string(&mut there).await?;
        assert_eq!(there, "abcdef");
        $theirs.write_all(b"0123456789").await?;
        let mut buf = [0; 10];
        while $reader.peek(&mut buf).await? < 10 {}
        let mut peeked = ReadBuf::new(&mut buf);
        assert_eq!(poll_fn(|cx| $reader.poll_peek(cx, &mut peeked)).await?, 10);
        $reader.readable().await?;
        assert!($reader.ready(Interest::READABLE).await?.is_readable());
        assert_eq!($reader.try_read(&mut [0; 2])?, 2);
        assert_eq!($reader.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 2])])?, 2);
        assert_eq!($reader.try_read_buf(&mut Vec::<u8>::with_capacity(2))?, 2);
        assert_eq!($reader.read(&mut buf).await?, 4);
        assert_eq!(&buf[..4], b"6789");
    };
}

macro_rules! surface {
    ($name:ident, $($net:ident)::+) => {
        mod $name {
            use super::*;
            use $($net)::+::tcp::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
            use $($net)::+::{TcpListener, TcpSocket, TcpStream, lookup_host};

            async fn connected() -> std::io::Result<(TcpStream, TcpStream)> {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
                Ok((ours?, theirs?.0))
            }

            #[tokio::test]
            async fn stream_addresses_and_options() -> Outcome {
                let (ours, theirs) = connected().await?;
                assert_eq!(ours.local_addr()?, theirs.peer_addr()?);
                assert_eq!(ours.peer_addr()?, theirs.local_addr()?);
                assert!(ours.take_error()?.is_none());
                for on in [true, false] {
                    ours.set_nodelay(on)?;
                    assert_eq!(ours.nodelay()?, on);
                    ours.set_quickack(on)?;
                    ours.quickack()?;
                }
                assert_eq!(ours.linger()?, None);
                #[allow(deprecated, reason = "as in tokio")]
                ours.set_linger(Some(Duration::from_secs(2)))?;
                assert_eq!(ours.linger()?, Some(Duration::from_secs(2)));
                ours.set_zero_linger()?;
                assert_eq!(ours.linger()?, Some(Duration::ZERO));
                ours.set_ttl(77)?;
                assert_eq!(ours.ttl()?, 77);
                assert!(format!("{ours:?}").starts_with(stringify!($name)) || !format!("{ours:?}").is_empty());
                Ok(())
            }

            #[tokio::test]
            async fn stream_try_methods() -> Outcome {
                let (ours, theirs) = connected().await?;
                assert_eq!(ours.try_read(&mut [0; 1]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
                ours.writable().await?;
                assert_eq!(ours.try_write(b"abc")?, 3);
                assert_eq!(ours.try_write_vectored(&[IoSlice::new(b"de"), IoSlice::new(b"f")])?, 3);
                let mut got = Vec::<u8>::new();
                while got.len() < 6 {
                    theirs.readable().await?;
                    let (mut one, mut two) = ([0; 2], [0; 2]);
                    let mut bufs = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                    match theirs.try_read_vectored(&mut bufs) {
                        Ok(count) => got.extend(one.iter().chain(&two).take(count)),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                assert_eq!(got, b"abcdef");
                ours.try_write(b"xy")?;
                let mut got = Vec::<u8>::with_capacity(8);
                while got.len() < 2 {
                    theirs.readable().await?;
                    match theirs.try_read_buf(&mut got) {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
                        _ => {}
                    }
                }
                assert_eq!(got, b"xy");
                Ok(())
            }

            #[tokio::test]
            async fn stream_readiness() -> Outcome {
                let (ours, mut theirs) = connected().await?;
                assert!(ours.ready(Interest::WRITABLE).await?.is_writable());
                poll_fn(|cx| ours.poll_write_ready(cx)).await?;
                theirs.write_all(b"hello").await?;
                assert!(ours.ready(Interest::READABLE).await?.is_readable());
                poll_fn(|cx| ours.poll_read_ready(cx)).await?;
                let mut buf = [0; 5];
                while ours.peek(&mut buf).await? < 5 {}
                let mut peeked = ReadBuf::new(&mut buf);
                assert_eq!(poll_fn(|cx| ours.poll_peek(cx, &mut peeked)).await?, 5);
                assert_eq!(peeked.filled(), b"hello");
                assert_eq!(ours.try_io(Interest::READABLE, || ours.try_read(&mut [0; 2]))?, 2);
                assert_eq!(ours.async_io(Interest::READABLE, || ours.try_read(&mut [0; 9])).await?, 3);
                theirs.shutdown().await?;
                let ready = loop {
                    let ready = ours.ready(Interest::READABLE).await?;
                    if ready.is_read_closed() {
                        break ready;
                    }
                    let _ = ours.try_read(&mut []);
                    tokio::task::yield_now().await;
                };
                assert!(ready.is_readable());
                assert_eq!(ours.try_read(&mut [0; 1])?, 0);
                Ok(())
            }

            #[tokio::test]
            async fn async_read_and_async_write() -> Outcome {
                let (mut ours, mut theirs) = connected().await?;
                assert!(ours.is_write_vectored());
                let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
                let count = poll_fn(|cx| Pin::new(&mut ours).poll_write_vectored(cx, &parts)).await?;
                assert_eq!(count, 4);
                ours.flush().await?;
                ours.shutdown().await?;
                ours.shutdown().await?;
                assert_eq!(ours.write(b"x").await.map_err(|error| error.kind()), Err(ErrorKind::BrokenPipe));
                let mut buf = [0; 16];
                let mut filled = ReadBuf::new(&mut buf);
                while filled.filled().len() < 4 {
                    poll_fn(|cx| Pin::new(&mut theirs).poll_read(cx, &mut filled)).await?;
                }
                assert_eq!(filled.filled(), b"abcd");
                assert_eq!(theirs.read(&mut buf).await?, 0);
                theirs.write_all(b"back").await?;
                drop(theirs);
                let mut back = String::new();
                ours.read_to_string(&mut back).await?;
                assert_eq!(back, "back");
                Ok(())
            }

            #[tokio::test]
            async fn borrowed_halves() -> Outcome {
                let (mut ours, mut theirs) = connected().await?;
                let (local, peer) = (ours.local_addr()?, ours.peer_addr()?);
                let (mut reader, mut writer) = ours.split();
                halves!(reader, writer, theirs, (local, peer), writer.shutdown().await?);
                assert!(!format!("{reader:?} {writer:?}").is_empty());
                Ok(())
            }

            #[tokio::test]
            async fn owned_halves() -> Outcome {
                let (ours, mut theirs) = connected().await?;
                let (local, peer) = (ours.local_addr()?, ours.peer_addr()?);
                let (mut reader, mut writer) = ours.into_split();
                halves!(reader, writer, theirs, (local, peer), drop(writer));
                Ok(())
            }

            #[tokio::test]
            async fn reunite_and_forget() -> Outcome {
                let (ours, mut theirs) = connected().await?;
                let (other, _peer) = connected().await?;
                let (reader, writer) = ours.into_split();
                let (other_reader, other_writer) = other.into_split();
                let error: ReuniteError = reader.reunite(other_writer).expect_err("halves of two streams");
                assert!(!error.to_string().is_empty());
                let (reader, other_writer): (OwnedReadHalf, OwnedWriteHalf) = (error.0, error.1);
                other_writer.reunite(other_reader)?;
                let ours = reader.reunite(writer)?;
                let (mut reader, writer) = ours.into_split();
                writer.forget(); // no FIN: the other side still waits
                theirs.write_all(b"x").await?;
                assert_eq!(reader.read(&mut [0; 1]).await?, 1);
                assert_eq!(theirs.try_read(&mut [0; 1]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
                drop(reader); // now it is closed
                assert_eq!(theirs.read(&mut [0; 1]).await?, 0);
                Ok(())
            }

            #[tokio::test]
            async fn dropping_a_stream_sends_what_was_written() -> Outcome {
                let (mut ours, mut theirs) = connected().await?;
                ours.write_all(&[7; 100_000]).await?;
                drop(ours);
                let mut came = Vec::new();
                theirs.read_to_end(&mut came).await?;
                assert_eq!(came.len(), 100_000);
                Ok(())
            }

            #[tokio::test]
            async fn listener() -> Outcome {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                assert_ne!(address.port(), 0);
                listener.set_ttl(33)?;
                assert_eq!(listener.ttl()?, 33);
                let client = TcpStream::connect(address).await?;
                let (accepted, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
                assert_eq!(peer, client.local_addr()?);
                assert_eq!(accepted.ttl()?, 33);
                let again = TcpListener::bind(address).await.expect_err("taken");
                assert_eq!(again.kind(), ErrorKind::AddrInUse);
                let _second = TcpStream::connect(address).await?;
                listener.accept().await?;
                assert!(!format!("{listener:?}").is_empty());
                Ok(())
            }

            #[tokio::test]
            async fn socket_options() -> Outcome {
                let socket = TcpSocket::new_v4()?;
                for on in [true, false] {
                    socket.set_keepalive(on)?;
                    assert_eq!(socket.keepalive()?, on);
                    socket.set_reuseaddr(on)?;
                    assert_eq!(socket.reuseaddr()?, on);
                    socket.set_reuseport(on)?;
                    assert_eq!(socket.reuseport()?, on);
                    socket.set_nodelay(on)?;
                    assert_eq!(socket.nodelay()?, on);
                }
                socket.set_send_buffer_size(65_536)?;
                assert!(socket.send_buffer_size()? >= 65_536);
                socket.set_recv_buffer_size(65_536)?;
                assert!(socket.recv_buffer_size()? >= 65_536);
                socket.set_zero_linger()?;
                assert_eq!(socket.linger()?, Some(Duration::ZERO));
                #[allow(deprecated, reason = "as in tokio")]
                {
                    socket.set_linger(Some(Duration::from_secs(3)))?;
                    assert_eq!(socket.linger()?, Some(Duration::from_secs(3)));
                    socket.set_tos(0x20)?;
                    assert_eq!(socket.tos()?, 0x20);
                }
                socket.set_tos_v4(0x10)?;
                assert_eq!(socket.tos_v4()?, 0x10);
                let socket = TcpSocket::new_v6()?;
                socket.set_tclass_v6(0x40)?;
                assert_eq!(socket.tclass_v6()?, 0x40);
                Ok(())
            }

            #[tokio::test]
            async fn socket_bind_listen_connect() -> Outcome {
                let socket = TcpSocket::new_v4()?;
                assert!(socket.take_error()?.is_none());
                socket.bind("127.0.0.1:0".parse()?)?;
                let address = socket.local_addr()?;
                assert_ne!(address.port(), 0);
                let listener = socket.listen(8)?;
                let client = TcpSocket::new_v4()?;
                client.bind("127.0.0.1:0".parse()?)?;
                let bound = client.local_addr()?;
                let stream = client.connect(address).await?;
                assert_eq!(stream.local_addr()?, bound);
                assert_eq!(listener.accept().await?.1, bound);
                Ok(())
            }

            #[tokio::test]
            async fn ipv6() -> Outcome {
                let listener = TcpListener::bind("[::1]:0").await?;
                let client = TcpSocket::new_v6()?;
                let (stream, accepted) = tokio::join!(client.connect(listener.local_addr()?), listener.accept());
                assert_eq!(stream?.local_addr()?, accepted?.1);
                Ok(())
            }

            #[tokio::test]
            async fn addresses_of_every_kind() -> Outcome {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
                let address = listener.local_addr()?;
                let port = address.port();
                drop(TcpStream::connect(address).await?);
                drop(TcpStream::connect((address.ip(), port)).await?);
                drop(TcpStream::connect(format!("127.0.0.1:{port}")).await?);
                drop(TcpStream::connect((String::from("127.0.0.1"), port)).await?);
                // Each address is tried: the first refuses.
                let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
                drop(TcpStream::connect(&[closed, address][..]).await?);
                assert_eq!(lookup_host(("127.0.0.1", port)).await?.collect::<Vec<_>>(), [address]);
                Ok(())
            }

            #[tokio::test]
            async fn io_split_and_copy_bidirectional() -> Outcome {
                let (client, mut inbound) = connected().await?;
                let (mut outbound, mut server) = connected().await?;
                let proxy = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await });
                let (mut reader, mut writer) = tokio::io::split(client);
                let body = vec![9; 300_000];
                let sent = body.clone();
                let sender = tokio::spawn(async move {
                    writer.write_all(&sent).await?;
                    writer.shutdown().await
                });
                let mut came = Vec::new();
                server.read_to_end(&mut came).await?;
                assert_eq!(came, body);
                server.write_all(b"answer").await?;
                drop(server);
                let mut answer = String::new();
                reader.read_to_string(&mut answer).await?;
                assert_eq!(answer, "answer");
                sender.await??;
                assert_eq!(proxy.await??, (300_000, 6));
                Ok(())
            }

            #[tokio::test]
            async fn a_dropped_read_loses_nothing() -> Outcome {
                let (mut ours, mut theirs) = connected().await?;
                let mut buf = [0; 16];
                {
                    let mut read = pin!(ours.read(&mut buf));
                    assert!(futures::poll!(&mut read).is_pending());
                }
                theirs.write_all(b"kept").await?;
                let mut kept = [0; 4];
                ours.read_exact(&mut kept).await?;
                assert_eq!(&kept, b"kept");
                Ok(())
            }
        }
    };
}

surface!(kernel, tokio::net);
surface!(embedded, usernet::net);
