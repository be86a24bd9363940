// Addresses, options, readiness, halves, accept. Included once per stack by tests/parity.rs, which defines `net`.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use net::{TcpListener, TcpSocket, TcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use tokio::task::JoinSet;

/// A hang guard, never an expectation.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("the test hangs")
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A connected pair: client, server.
async fn connected() -> (TcpStream, TcpStream) {
    let (listener, addr) = listener().await;
    let (client, server) = within(async { tokio::join!(TcpStream::connect(addr), listener.accept()) }).await;
    (client.unwrap(), server.unwrap().0)
}

async fn read_exactly(stream: &mut (impl tokio::io::AsyncRead + Unpin), n: usize) -> Vec<u8> {
    let mut buf = vec![0; n];
    within(stream.read_exact(&mut buf)).await.unwrap();
    buf
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut buf = Vec::new();
    within(stream.read_to_end(&mut buf)).await.map(|_| buf)
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.expect_err("an error is expected").kind()
}

// ---- addresses ----

#[tokio::test]
async fn port_zero_gets_distinct_ports() {
    let (a, addr_a) = listener().await;
    let (b, addr_b) = listener().await;
    assert_ne!(addr_a.port(), 0);
    assert_ne!(addr_a.port(), addr_b.port());
    drop((a, b));
}

#[tokio::test]
async fn both_ends_agree_on_their_addresses() {
    let (listener, addr) = listener().await;
    let client = TcpStream::connect(addr).await.unwrap();
    let (server, from) = listener.accept().await.unwrap();
    assert_eq!(client.peer_addr().unwrap(), addr);
    assert_eq!(server.local_addr().unwrap(), addr);
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(from, client.local_addr().unwrap());
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    let (_listener, addr) = listener().await;
    assert_eq!(kind(TcpListener::bind(addr).await), ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_foreign_address_is_not_available() {
    assert_eq!(kind(TcpListener::bind("192.0.2.1:0").await), ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn nobody_listens_is_connection_refused() {
    let (listener, addr) = listener().await;
    drop(listener);
    assert_eq!(kind(within(TcpStream::connect(addr)).await), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_first_address_that_answers_wins() {
    let (gone, refused) = listener().await;
    drop(gone);
    let (_listener, addr) = listener().await;
    let stream = within(TcpStream::connect(&[refused, addr][..])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
}

#[tokio::test]
async fn the_last_error_of_several_addresses_is_returned() {
    let (a, first) = listener().await;
    let (b, second) = listener().await;
    drop((a, b));
    assert_eq!(kind(within(TcpStream::connect(&[first, second][..])).await), ErrorKind::ConnectionRefused);
    assert_eq!(kind(TcpStream::connect(&[][..]).await), ErrorKind::InvalidInput);
    assert_eq!(kind(TcpListener::bind(&[][..]).await), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_host_name_resolves() {
    let (_listener, addr) = listener().await;
    let name = format!("localhost:{}", addr.port());
    let found: Vec<SocketAddr> = net::lookup_host(&name).await.unwrap().collect();
    assert!(found.contains(&addr), "{found:?}");
    let stream = within(TcpStream::connect(name)).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    assert!(TcpStream::connect("no port").await.is_err());
}

#[tokio::test]
async fn a_bound_socket_connects_from_its_port() {
    let (listener, addr) = listener().await;
    let socket = TcpSocket::new_v4().unwrap();
    assert_eq!(socket.local_addr().unwrap(), "0.0.0.0:0".parse().unwrap());
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let bound = socket.local_addr().unwrap();
    assert_eq!(kind(socket.bind("127.0.0.1:0".parse().unwrap())), ErrorKind::InvalidInput);
    let stream = within(socket.connect(addr)).await.unwrap();
    assert_eq!(stream.local_addr().unwrap(), bound);
    assert_eq!(listener.accept().await.unwrap().1, bound);
}

#[tokio::test]
async fn listening_without_bind_uses_every_address() {
    let listener = TcpSocket::new_v4().unwrap().listen(16).unwrap();
    let addr = listener.local_addr().unwrap();
    assert!(addr.ip().is_unspecified() && addr.port() != 0);
    within(TcpStream::connect(("127.0.0.1", addr.port()))).await.unwrap();
}

#[tokio::test]
async fn the_unspecified_address_reaches_this_host() {
    let (_listener, addr) = listener().await;
    within(TcpStream::connect(("0.0.0.0", addr.port()))).await.unwrap();
}

#[tokio::test]
async fn the_wildcard_takes_both_families() {
    let Ok(listener) = TcpListener::bind("[::]:0").await else { return }; // a kernel without IPv6
    let port = listener.local_addr().unwrap().port();
    let four = within(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
    let (stream, from) = within(listener.accept()).await.unwrap();
    assert!(matches!(from.ip(), std::net::IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()), "{from}");
    assert_eq!(from, stream.peer_addr().unwrap());
    assert_eq!(from.port(), four.local_addr().unwrap().port());
    let six = within(TcpStream::connect(("::1", port))).await.unwrap();
    let (_, from) = within(listener.accept()).await.unwrap();
    assert_eq!(from, six.local_addr().unwrap());
}

#[tokio::test]
async fn a_port_is_free_again_when_its_listener_is_gone() {
    let (listener, addr) = listener().await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    drop((server, listener)); // leaves TIME-WAIT behind
    assert_eq!(read_all(&mut client).await.unwrap(), b"");
    drop(client);
    TcpListener::bind(addr).await.unwrap();
}

#[tokio::test]
async fn several_listeners_share_a_port() {
    let open = |addr: SocketAddr| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        assert!(socket.reuseport().unwrap());
        socket.bind(addr).unwrap();
        socket.listen(128).unwrap()
    };
    let one = open("127.0.0.1:0".parse().unwrap());
    let addr = one.local_addr().unwrap();
    let two = open(addr);
    let mut clients = Vec::new();
    let mut counts = [0; 2];
    for _ in 0..64 {
        clients.push(within(TcpStream::connect(addr)).await.unwrap());
        within(async {
            tokio::select! {
                accepted = one.accept() => { accepted.unwrap(); counts[0] += 1 }
                accepted = two.accept() => { accepted.unwrap(); counts[1] += 1 }
            }
        })
        .await;
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}

// ---- options ----

#[tokio::test]
async fn socket_options_read_back() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_keepalive(true).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_tos_v4(0x28).unwrap();
    assert!(socket.linger().unwrap().is_none());
    socket.set_zero_linger().unwrap();
    assert!(socket.keepalive().unwrap() && socket.reuseaddr().unwrap() && socket.nodelay().unwrap());
    assert_eq!(socket.tos_v4().unwrap(), 0x28);
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    assert!(socket.take_error().unwrap().is_none());
    assert!(!socket.reuseport().unwrap());
}

#[tokio::test]
async fn ecn_bits_of_a_type_of_service_are_not_ours() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_tos_v4(0x2b).unwrap();
    assert_eq!(socket.tos_v4().unwrap(), 0x28);
}

#[tokio::test]
async fn options_of_a_socket_reach_its_stream() {
    let (_listener, addr) = listener().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_nodelay(true).unwrap();
    let stream = within(socket.connect(addr)).await.unwrap();
    assert!(stream.nodelay().unwrap());
    stream.set_nodelay(false).unwrap();
    assert!(!stream.nodelay().unwrap());
}

#[tokio::test]
async fn stream_options_read_back() {
    let (stream, _peer) = connected().await;
    assert_eq!(stream.ttl().unwrap(), 64);
    stream.set_ttl(100).unwrap();
    assert_eq!(stream.ttl().unwrap(), 100);
    assert_eq!(kind(stream.set_ttl(256)), ErrorKind::InvalidInput);
    assert_eq!(kind(stream.set_ttl(0)), ErrorKind::InvalidInput);
    stream.set_zero_linger().unwrap();
    assert_eq!(stream.linger().unwrap(), Some(Duration::ZERO));
    #[allow(deprecated)]
    stream.set_linger(None).unwrap();
    assert!(stream.linger().unwrap().is_none());
    stream.set_quickack(true).unwrap();
    assert!(stream.quickack().unwrap());
    assert!(stream.take_error().unwrap().is_none());
}

#[tokio::test]
async fn accepted_streams_inherit_from_their_listener() {
    let (listener, addr) = listener().await;
    listener.set_ttl(77).unwrap();
    assert_eq!(listener.ttl().unwrap(), 77);
    let _client = TcpStream::connect(addr).await.unwrap();
    let (server, _) = within(listener.accept()).await.unwrap();
    assert_eq!(server.ttl().unwrap(), 77);
}

// ---- readiness ----

#[tokio::test]
async fn a_connected_stream_is_writable_and_an_accepted_one_both() {
    let (client, server) = connected().await;
    assert!(within(client.ready(Interest::WRITABLE)).await.unwrap().is_writable());
    let ready = within(server.ready(Interest::READABLE | Interest::WRITABLE)).await.unwrap();
    assert!(ready.is_writable());
}

#[tokio::test]
async fn nothing_to_read_would_block() {
    let (client, server) = connected().await;
    assert_eq!(kind(client.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
    assert_eq!(kind(server.try_read(&mut [0; 8])), ErrorKind::WouldBlock);
    assert!(tokio::time::timeout(Duration::from_millis(20), server.readable()).await.is_err());
}

#[tokio::test]
async fn readable_then_try_read_finds_the_bytes() {
    let (client, mut server) = connected().await;
    server.write_all(b"hello").await.unwrap();
    within(client.readable()).await.unwrap();
    let mut buf = [0; 16];
    assert_eq!(client.try_read(&mut buf).unwrap(), 5);
    assert_eq!(&buf[..5], b"hello");
}

#[tokio::test]
async fn would_block_from_a_closure_clears_readiness() {
    let (client, mut server) = connected().await;
    server.write_all(b"a").await.unwrap();
    within(client.readable()).await.unwrap();
    let refused: io::Result<()> = client.try_io(Interest::READABLE, || Err(ErrorKind::WouldBlock.into()));
    assert_eq!(kind(refused), ErrorKind::WouldBlock);
    assert_eq!(kind(client.try_read(&mut [0; 8])), ErrorKind::WouldBlock, "a byte is there but nobody said so");
    server.write_all(b"b").await.unwrap();
    within(client.readable()).await.unwrap();
    let mut both = [0; 2];
    while client.peek(&mut both).await.unwrap() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(&both, b"ab");
}

#[tokio::test]
async fn async_io_waits_until_its_closure_has_an_answer() {
    let (client, mut server) = connected().await;
    let mut buf = [0; 8];
    let read = client.async_io(Interest::READABLE, || client.try_read(&mut buf));
    let (n, written) = within(async { tokio::join!(read, server.write_all(b"xyz")) }).await;
    written.unwrap();
    assert_eq!(n.unwrap(), 3);
    let failed: io::Result<()> = client.async_io(Interest::WRITABLE, || Err(ErrorKind::Other.into())).await;
    assert_eq!(kind(failed), ErrorKind::Other);
}

#[tokio::test]
async fn a_full_stream_would_block_until_the_peer_reads() {
    let (client, mut server) = connected().await;
    let chunk = vec![7; 64 << 10];
    let mut written = 0;
    loop {
        match client.try_write(&chunk) {
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let more = tokio::time::timeout(Duration::from_millis(200), client.writable()).await;
                if more.is_err() {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(written > chunk.len());
    let reader = tokio::spawn(async move {
        let mut sink = vec![0; 1 << 20];
        let mut read = 0;
        while read < written {
            read += within(server.read(&mut sink)).await.unwrap();
        }
        (server, read)
    });
    within(client.writable()).await.unwrap();
    let (_server, read) = reader.await.unwrap();
    assert_eq!(read, written);
}

#[tokio::test]
async fn an_event_wakes_every_waiter() {
    let (client, mut server) = connected().await;
    let client = Arc::new(client);
    assert_eq!(kind(client.try_read(&mut [0; 1])), ErrorKind::WouldBlock);
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let client = Arc::clone(&client);
        tasks.spawn(async move { client.readable().await });
    }
    tokio::task::yield_now().await;
    server.write_all(b"x").await.unwrap();
    while let Some(done) = within(tasks.join_next()).await {
        done.unwrap().unwrap();
    }
}

#[tokio::test]
async fn poll_style_readiness_works() {
    let (client, mut server) = connected().await;
    within(poll_fn(|cx| client.poll_write_ready(cx))).await.unwrap();
    let pending = poll_fn(|cx| Poll::Ready(client.poll_read_ready(cx).is_pending())).await;
    assert!(pending);
    server.write_all(b"x").await.unwrap();
    within(poll_fn(|cx| client.poll_read_ready(cx))).await.unwrap();
}

#[tokio::test]
async fn peeking_consumes_nothing() {
    let (mut client, mut server) = connected().await;
    server.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    while within(client.peek(&mut buf)).await.unwrap() < 5 {}
    let mut space = [0; 5];
    let mut space = ReadBuf::new(&mut space);
    assert_eq!(within(poll_fn(|cx| client.poll_peek(cx, &mut space))).await.unwrap(), 5);
    assert_eq!(space.filled(), b"hello");
    assert_eq!(read_exactly(&mut client, 5).await, b"hello");
}

#[tokio::test]
async fn vectored_operations_keep_the_order() {
    let (mut client, server) = connected().await;
    assert!(tokio::io::AsyncWrite::is_write_vectored(&client));
    let n = within(client.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two ")])).await;
    assert_eq!(n.unwrap(), 8);
    assert_eq!(client.try_write_vectored(&[IoSlice::new(b"th"), IoSlice::new(b"ree")]).unwrap(), 5);
    let (mut a, mut b) = ([0; 6], [0; 20]);
    let mut buf = [0; 13];
    while within(server.peek(&mut buf)).await.unwrap() < 13 {
        tokio::task::yield_now().await;
    }
    let n = server.try_read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap();
    assert_eq!((n, &a, &b[..7]), (13, b"one tw", &b"o three"[..]));
}

#[tokio::test]
async fn try_read_buf_appends() {
    let (client, mut server) = connected().await;
    server.write_all(b"world").await.unwrap();
    within(client.readable()).await.unwrap();
    let mut buf = Vec::with_capacity(64);
    buf.extend_from_slice(b"hello ");
    assert_eq!(client.try_read_buf(&mut buf).unwrap(), 5);
    assert_eq!(buf, b"hello world");
}

#[tokio::test]
async fn empty_buffers_move_nothing() {
    let (client, mut server) = connected().await;
    server.write_all(b"x").await.unwrap();
    within(client.readable()).await.unwrap();
    assert_eq!(client.try_read(&mut []).unwrap(), 0);
    assert_eq!(client.try_write(&[]).unwrap(), 0);
    assert_eq!(client.try_read(&mut [0; 8]).unwrap(), 1);
}

// ---- halves ----

#[tokio::test]
async fn borrowed_halves_work_at_the_same_time() {
    let (mut client, mut server) = connected().await;
    let (mut read, mut write) = client.split();
    assert_eq!(read.local_addr().unwrap(), write.local_addr().unwrap());
    assert_eq!(read.as_ref().peer_addr().unwrap(), write.peer_addr().unwrap());
    server.write_all(b"to you").await.unwrap();
    let (got, wrote) = tokio::join!(read_exactly(&mut read, 6), write.write_all(b"to me"));
    wrote.unwrap();
    assert_eq!(got, b"to you");
    within(read.ready(Interest::WRITABLE)).await.unwrap();
    within(write.writable()).await.unwrap();
    assert_eq!(write.try_write(b"!").unwrap(), 1);
    assert_eq!(read_exactly(&mut server, 6).await, b"to me!");
    write.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
}

#[tokio::test]
async fn owned_halves_move_to_different_tasks() {
    let (client, mut server) = connected().await;
    let (mut read, mut write) = client.into_split();
    let writer = tokio::spawn(async move {
        write.write_all(b"ping").await.unwrap();
        write
    });
    let reader = tokio::spawn(async move { (read_exactly(&mut read, 4).await, read) });
    assert_eq!(read_exactly(&mut server, 4).await, b"ping");
    server.write_all(b"pong").await.unwrap();
    let (got, read) = reader.await.unwrap();
    assert_eq!(got, b"pong");
    let stream = read.reunite(writer.await.unwrap()).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), server.local_addr().unwrap());
}

#[tokio::test]
async fn halves_of_two_streams_do_not_reunite() {
    let (a, b) = connected().await;
    let (read_a, write_a): (OwnedReadHalf, OwnedWriteHalf) = a.into_split();
    let (read_b, write_b) = b.into_split();
    let error = read_a.reunite(write_b).unwrap_err();
    assert_eq!(error.to_string(), "tried to reunite halves that are not from the same socket");
    let net::tcp::ReuniteError(read_a, write_b) = error;
    write_a.reunite(read_a).unwrap();
    read_b.reunite(write_b).unwrap();
}

#[tokio::test]
async fn dropping_the_write_half_sends_fin_and_forgetting_does_not() {
    let (client, mut server) = connected().await;
    let (mut read, write) = client.into_split();
    drop(write);
    assert_eq!(read_all(&mut server).await.unwrap(), b"");
    server.write_all(b"still here").await.unwrap();
    assert_eq!(read_exactly(&mut read, 10).await, b"still here");

    let (client, server) = connected().await;
    let (read, write) = client.into_split();
    write.forget();
    assert_eq!(kind(server.try_read(&mut [0; 1])), ErrorKind::WouldBlock);
    assert!(tokio::time::timeout(Duration::from_millis(20), server.readable()).await.is_err());
    drop(read);
    within(server.readable()).await.unwrap();
    assert_eq!(server.try_read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test]
async fn halves_of_io_split_wake_apart() {
    let (client, server) = connected().await;
    let (mut read, mut write) = tokio::io::split(client);
    let (mut peer_read, mut peer_write) = tokio::io::split(server);
    let reader = tokio::spawn(async move { read_all(&mut read).await.unwrap().len() });
    let sink = tokio::spawn(async move { read_all(&mut peer_read).await.unwrap().len() });
    let size = 1 << 20;
    let (a, b) = (vec![1; size], vec![2; size]);
    let (one, two) = within(async { tokio::join!(write.write_all(&a), peer_write.write_all(&b)) }).await;
    one.unwrap();
    two.unwrap();
    write.shutdown().await.unwrap();
    peer_write.shutdown().await.unwrap();
    assert_eq!((reader.await.unwrap(), sink.await.unwrap()), (size, size));
}

// ---- accept ----

#[tokio::test]
async fn several_tasks_accept_at_once() {
    let (listener, addr) = listener().await;
    let listener = Arc::new(listener);
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let listener = Arc::clone(&listener);
        tasks.spawn(async move {
            let mut count = 0;
            while count < 4 {
                listener.accept().await.unwrap();
                count += 1;
            }
            count
        });
    }
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(within(TcpStream::connect(addr)).await.unwrap());
    }
    let mut sum = 0;
    while let Some(count) = within(tasks.join_next()).await {
        sum += count.unwrap();
    }
    assert_eq!(sum, 16);
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let (listener, addr) = listener().await;
    for _ in 0..20 {
        {
            let mut accept = std::pin::pin!(listener.accept());
            assert!(poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_pending())).await);
        }
        let client = within(TcpStream::connect(addr)).await.unwrap();
        let (_, from) = within(listener.accept()).await.unwrap();
        assert_eq!(from, client.local_addr().unwrap());
    }
}

#[tokio::test]
async fn poll_accept_yields_streams() {
    let (listener, addr) = listener().await;
    assert!(poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_pending())).await);
    let client = TcpStream::connect(addr).await.unwrap();
    let (_, from) = within(poll_fn(|cx| listener.poll_accept(cx))).await.unwrap();
    assert_eq!(from, client.local_addr().unwrap());
}

#[tokio::test]
async fn a_connection_closed_before_accept_is_still_handed_out() {
    let (listener, addr) = listener().await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(b"bye").await.unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let (mut server, _) = within(listener.accept()).await.unwrap();
    assert_eq!(read_all(&mut server).await.unwrap(), b"bye");
}

#[tokio::test]
async fn everything_has_a_debug_form() {
    let (listener, addr) = listener().await;
    let mut client = TcpStream::connect(addr).await.unwrap();
    assert!(format!("{client:?}").contains(&addr.port().to_string()));
    assert!(format!("{listener:?}").contains(&addr.port().to_string()));
    assert!(!format!("{:?}", client.split()).is_empty());
    assert!(!format!("{:?}", TcpSocket::new_v4().unwrap()).is_empty());
}
