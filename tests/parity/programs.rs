// Whole programs: echo, proxy, bulk transfer, HTTP. Included once per stack by tests/parity.rs.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};

/// A server that sends back what it gets, one task per connection.
async fn echo_server() -> SocketAddr {
    let (listener, addr) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

/// Bytes that no shift or loss maps to themselves.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(step).take(len).collect()
}

#[tokio::test]
async fn echo() {
    let addr = echo_server().await;
    let mut client = within(TcpStream::connect(addr)).await.unwrap();
    for round in 0..50_u32 {
        let data = pattern(1 + 97 * round as usize, round);
        client.write_all(&data).await.unwrap();
        assert_eq!(read_exactly(&mut client, data.len()).await, data);
    }
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await.unwrap(), b"");
}

#[tokio::test]
async fn echo_over_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return }; // a kernel without IPv6
    let addr = listener.local_addr().unwrap();
    let mut client = within(TcpStream::connect(addr)).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    client.write_all(b"six").await.unwrap();
    assert_eq!(read_exactly(&mut server, 3).await, b"six");
}

#[tokio::test]
async fn bulk_data_arrives_unharmed_both_ways() {
    let (client, server) = connected().await;
    let size = 8 << 20;
    let mut tasks = JoinSet::new();
    for (stream, seed) in [(client, 1), (server, 2)] {
        tasks.spawn(async move {
            let data = pattern(size, seed);
            let (mut read, mut write) = stream.into_split();
            let sum = Sha256::digest(&data);
            let writer = tokio::spawn(async move {
                write.write_all(&data).await.unwrap();
                write.shutdown().await.unwrap();
                write
            });
            let mut hash = Sha256::new();
            let mut buf = vec![0; 100_000];
            loop {
                let n = within(read.read(&mut buf)).await.unwrap();
                if n == 0 {
                    break;
                }
                hash.update(&buf[..n]);
            }
            within(writer).await.unwrap();
            (sum, hash.finalize())
        });
    }
    let (sent_a, got_a) = within(tasks.join_next()).await.unwrap().unwrap();
    let (sent_b, got_b) = within(tasks.join_next()).await.unwrap().unwrap();
    assert_eq!((sent_a, sent_b), (got_b, got_a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_data_on_two_threads() {
    let addr = echo_server().await;
    let stream = within(TcpStream::connect(addr)).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let data = pattern(4 << 20, 3);
    let sum = Sha256::digest(&data);
    let writer = tokio::spawn(async move {
        for chunk in data.chunks(70_001) {
            write.write_all(chunk).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let got = read_all(&mut read).await.unwrap();
    writer.await.unwrap();
    assert_eq!(Sha256::digest(&got), sum);
}

#[tokio::test]
async fn many_connections() {
    let addr = echo_server().await;
    let mut tasks = JoinSet::new();
    for n in 0..200_u32 {
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let data = pattern(2_000, n);
            stream.write_all(&data).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(read_all(&mut stream).await.unwrap(), data);
        });
    }
    while let Some(done) = within(tasks.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_connections_on_four_threads() {
    let addr = echo_server().await;
    let mut tasks = JoinSet::new();
    for n in 0..100_u32 {
        tasks.spawn(async move {
            let stream = TcpStream::connect(addr).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let data = pattern(50_000 + 1_003 * n as usize, n);
            let expected = data.clone();
            let writer = tokio::spawn(async move {
                for chunk in data.chunks(3_001) {
                    write.write_all(chunk).await.unwrap();
                }
            });
            assert!(read_all(&mut read).await.unwrap() == expected);
            writer.await.unwrap();
        });
    }
    while let Some(done) = within(tasks.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_read_cancelled_by_select_loses_nothing() {
    let (mut client, mut server) = connected().await;
    let data = pattern(200_000, 9);
    let expected = data.clone();
    let writer = tokio::spawn(async move {
        for chunk in data.chunks(777) {
            server.write_all(chunk).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut got = Vec::new();
    let mut buf = [0; 5_000];
    let mut cancelled = 0;
    while got.len() < expected.len() {
        tokio::select! {
            biased;
            n = client.read(&mut buf) => got.extend_from_slice(&buf[..n.unwrap()]),
            // A read that is polled once and dropped: at least the first, before the writer has run.
            () = std::future::ready(()) => cancelled += 1,
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(cancelled > 0 && got == expected);
}

#[tokio::test]
async fn a_proxy_by_copy_bidirectional() {
    let target = echo_server().await;
    let (front, addr) = listener().await;
    let proxy = tokio::spawn(async move {
        let (mut inbound, _) = front.accept().await.unwrap();
        let mut outbound = TcpStream::connect(target).await.unwrap();
        tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await.unwrap()
    });
    let client = within(TcpStream::connect(addr)).await.unwrap();
    let data = pattern(1 << 20, 4);
    let expected = data.clone();
    let (mut read, mut write) = client.into_split();
    let writer = tokio::spawn(async move {
        write.write_all(&data).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    assert!(read_all(&mut read).await.unwrap() == expected);
    writer.await.unwrap();
    assert_eq!(within(proxy).await.unwrap(), (1 << 20, 1 << 20));
}

#[tokio::test]
async fn a_busy_reader_lets_others_run() {
    let (mut client, mut server) = connected().await;
    let size = 20_000;
    server.write_all(&vec![1; size]).await.unwrap();
    let mut all = vec![0; size];
    while within(client.peek(&mut all)).await.unwrap() < size {
        tokio::task::yield_now().await;
    }
    // Everything is there, so nothing but tokio's cooperative budget makes this task yield.
    let others = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let (others, stop) = (Arc::clone(&others), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                others.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..size {
        client.read_u8().await.unwrap();
    }
    let ran = others.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    other.await.unwrap();
    // The budget is 128 operations: 20,000 of them yield about 156 times.
    assert!(ran >= 100, "the other task ran {ran} times");
}

#[tokio::test]
async fn try_operations_cost_no_budget() {
    let (client, _server) = connected().await;
    for _ in 0..1_000 {
        client.writable().await.unwrap();
        assert_eq!(kind(client.try_read(&mut [0; 1])), ErrorKind::WouldBlock);
    }
    assert!(tokio::task::coop::has_budget_remaining());
}

#[tokio::test]
async fn hyper_serves_and_fetches() {
    let (listener, addr) = listener().await;
    let body = Bytes::from(pattern(3 << 20, 5));
    let served = body.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let served = served.clone();
            async move {
                assert_eq!(request.uri().path(), "/file");
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(served)))
            }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    });
    let stream = within(TcpStream::connect(addr)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..2 {
        let request = Request::get("/file").header("host", "test").body(Full::<Bytes>::default()).unwrap();
        let response = within(sender.send_request(request)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(within(response.into_body().collect()).await.unwrap().to_bytes() == body);
    }
}

#[tokio::test]
async fn a_tower_of_proxies_carries_bytes_and_the_end() {
    let mut to = echo_server().await;
    for _ in 0..10 {
        let (listener, addr) = listener().await;
        let next = std::mem::replace(&mut to, addr);
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(next).await.unwrap();
                    tokio::io::copy_bidirectional(&mut here, &mut there).await
                });
            }
        });
    }
    let (mut reader, mut writer) = within(TcpStream::connect(to)).await.unwrap().into_split();
    let sent = tokio::spawn(async move {
        writer.write_all(&vec![7; 2_000_000]).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    assert_eq!(read_all(&mut reader).await.unwrap().len(), 2_000_000);
    sent.await.unwrap();
}
