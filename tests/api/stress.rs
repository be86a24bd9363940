//! Real threads: reactors and users on different ones, small buffers, small budgets, futures dropped in passing. What is
//! looked for is a wake-up that gets lost; the bytes are checked all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use usernet::device::{PairOptions, pair_with};
use usernet::{Stack, State, UserListener, UserStream};

use super::common::host;

fn threads(n: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap()
}

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

async fn connect(stack: &Stack, addr: std::net::SocketAddr, sizes: (u32, u32)) -> UserStream {
    loop {
        let socket = stack.socket().unwrap();
        socket.set_send_buffer_size(sizes.0).unwrap();
        socket.set_recv_buffer_size(sizes.1).unwrap();
        match socket.connect(addr).await {
            Ok(stream) => return stream,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Sends `total` bytes, some by `write` dropped at its first wait, some by readiness; then FIN.
async fn send(stream: Arc<UserStream>, total: usize, mut random: fastrand::Rng) {
    let mut sent = 0;
    while sent < total {
        let chunk: Vec<u8> = (sent..total.min(sent + random.usize(1..20_000))).map(byte).collect();
        if random.u8(0..4) == 0 {
            let _ = tokio::time::timeout(Duration::from_micros(random.u64(0..300)), stream.writable()).await;
        }
        stream.writable().await.unwrap();
        match stream.try_write(&chunk) {
            Ok(n) => sent += n,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
        }
    }
}

async fn receive(stream: Arc<UserStream>, total: usize, mut random: fastrand::Rng) {
    let mut got = 0;
    let mut buf = vec![0; 30_000];
    while got < total {
        stream.readable().await.unwrap();
        let most = random.usize(1..buf.len());
        match stream.try_read(&mut buf[..most]) {
            Ok(0) => panic!("end after {got} of {total}"),
            Ok(n) => {
                for (at, seen) in buf[..n].iter().enumerate() {
                    assert_eq!(*seen, byte(got + at));
                }
                got += n;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
        }
        if random.u8(0..50) == 0 {
            tokio::time::sleep(Duration::from_micros(random.u64(0..500))).await;
        }
    }
}

async fn both_ways(stream: UserStream, total: usize, seed: u64) {
    let stream = Arc::new(stream);
    let random = fastrand::Rng::with_seed;
    let writer = tokio::spawn(send(Arc::clone(&stream), total, random(seed)));
    receive(Arc::clone(&stream), total, random(seed + 1)).await;
    writer.await.unwrap();
    let mut stream = Arc::into_inner(stream).unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

async fn serve(listener: UserListener, connections: usize, total: usize) {
    let mut tasks = JoinSet::new();
    for n in 0..connections {
        let (stream, _) = listener.accept().await.unwrap();
        tasks.spawn(both_ways(stream, total, n as u64));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

async fn storm(one: Stack, two: Stack, addr: &str, connections: usize, total: usize) {
    let listener = two.bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, connections, total));
    let mut tasks = JoinSet::new();
    for n in 0..connections {
        let one = one.clone();
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(n as u64);
            let sizes = (random.u32(66_000..200_000), random.u32(1_000..100_000));
            both_ways(connect(&one, addr, sizes).await, total, 1_000 + n as u64).await;
        });
    }
    let all = async {
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        server.await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("somebody waits for ever");
}

#[test]
fn threads_lose_no_wake_up_inside_a_stack() {
    let runtime = threads(4);
    let stack = {
        let _inside = runtime.enter();
        host(1).build().unwrap()
    };
    runtime.block_on(storm(stack.clone(), stack, "10.0.0.1:0", 20, 200_000));
}

#[test]
fn threads_lose_no_wake_up_across_a_narrow_link() {
    let (reactors, users) = (threads(2), threads(3));
    for queue_packets in [1, 256] {
        let (one, two) = {
            let _inside = reactors.enter();
            let (left, right) = pair_with(PairOptions { queue_packets, ..PairOptions::default() });
            (host(1).device(left).build().unwrap(), host(2).device(right).build().unwrap())
        };
        users.block_on(storm(one, two, "10.0.0.2:0", 20, 200_000));
    }
}

#[test]
fn threads_lose_no_wake_up_when_the_budget_is_spent() {
    let (reactors, users) = (threads(2), threads(3));
    let (one, two) = {
        let _inside = reactors.enter();
        let (left, right) = pair_with(PairOptions::default());
        (host(1).memory_budget(400_000).device(left).build().unwrap(), host(2).device(right).build().unwrap())
    };
    users.block_on(storm(one, two, "10.0.0.2:0", 20, 200_000));
}

/// Somebody looks at the snapshot all the time, also at the end of the connection, after which nothing is published any more.
#[test]
fn a_watch_sees_the_end() {
    let runtime = threads(2);
    runtime.block_on(async {
        let stack = host(1).build().unwrap();
        let listener = stack.bind("10.0.0.1:0").await.unwrap();
        for _ in 0..300 {
            let (ours, theirs) = tokio::join!(stack.connect(listener.local_addr().unwrap()), listener.accept());
            let watch = ours.as_ref().unwrap().watch();
            let looker = std::thread::spawn(move || {
                let began = std::time::Instant::now();
                while watch.info().state != State::Closed {
                    assert!(began.elapsed() < Duration::from_secs(60), "it looks alive for ever");
                }
            });
            theirs.unwrap().0.abort();
            assert!(ours.unwrap().read(&mut [0]).await.is_err());
            looker.join().unwrap();
        }
    });
}

#[test]
fn who_hears_of_a_refusal_finds_the_port_free() {
    let runtime = threads(3);
    runtime.block_on(async {
        for _ in 0..1_000 {
            let socket = usernet::UserSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:4000".parse().unwrap()).expect("the refused connection still has the port");
            let refused = socket.connect("127.0.0.1:4001".parse().unwrap()).await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    });
}
