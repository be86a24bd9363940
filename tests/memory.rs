//! What memory a socket costs, and when. One test at a time: the allocator's counters and the resident set belong to the
//! whole process.

// A test's helpers may panic too; `allow-…-in-tests` covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::excessive_nesting)]
// A counting allocator is the one thing that needs it here.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::device::{Fault, FaultConfig, PairOptions, pair_with};
use usernet::{Stack, StackConfig, UserListener, UserStream};

/// An allocation of this size or more could be a buffer in disguise: the smallest buffer here is 1 MiB, and what the
/// runtime, the queues and the tables need is far below.
const BUFFER_SIZE: usize = 256 << 10;

/// Remembers the largest allocation since it was last asked.
struct Counting;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(size: usize) {
    LARGEST.fetch_max(size, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size);
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// One test at a time: they measure the process.
static ALONE: Mutex<()> = Mutex::new(());

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A rest takes no time.
fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Pages of the process: (mapped, resident), in bytes.
fn statm() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut pages = text.split(' ').map(|field| field.parse::<usize>().unwrap());
    let page = rustix::param::page_size();
    (pages.next().unwrap() * page, pages.next().unwrap() * page)
}

fn mib(bytes: usize) -> usize {
    bytes >> 20
}

#[test]
fn connecting_and_carrying_data_allocates_no_buffer() {
    let _alone = ALONE.lock().unwrap();
    runtime().block_on(async {
        let (left, right) = pair_with(PairOptions::default());
        let one = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 1), 24).device(left).build().unwrap();
        let two = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 2), 24).device(right).build().unwrap();
        let listener = two.bind("10.0.0.2:80").await.unwrap();
        let size = 1 << 20;
        let data = vec![7; size];
        let mut there = vec![0; size];
        let mut back = vec![0; size];
        // The passive side reserves its buffers at ESTABLISHED: that one mapping is expected, so it is made before.
        let warm = one.connect("10.0.0.2:80").await.unwrap();
        let warm_peer = listener.accept().await.unwrap();
        drop((warm, warm_peer));
        tokio::time::sleep(Duration::from_millis(20)).await;

        let socket = one.socket().unwrap();
        tokio::task::yield_now().await;
        LARGEST.store(0, Ordering::Relaxed);
        let (mapped, _) = statm();
        let mut client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::join!(
            async {
                client.write_all(&data).await.unwrap();
                client.read_exact(&mut back).await.unwrap();
            },
            async {
                server.read_exact(&mut there).await.unwrap();
                server.write_all(&there).await.unwrap();
            }
        );
        let (mapped_after, _) = statm();
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(there == data && back == data);
        assert!(largest < BUFFER_SIZE, "an allocation of {largest} bytes");
        // The server's region is one that was used before, and nothing else is of that size.
        let grown = mapped_after.saturating_sub(mapped);
        assert!(grown < BUFFER_SIZE, "{grown} bytes of new mappings");
    });
}

#[test]
fn ten_thousand_sockets_are_address_space() {
    let _alone = ALONE.lock().unwrap();
    let runtime = runtime();
    let listener = runtime.block_on(UserListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let open = |count: usize| -> Vec<usernet::UserSocket> {
        (0..count).map(|_| usernet::UserSocket::new().unwrap()).collect()
    };
    let (_, before) = statm();
    let sockets = open(10_000);
    let (_, with) = statm();
    assert!(sockets[9_999].info().send_buffer.capacity >= 1 << 20);
    assert!(mib(with.saturating_sub(before)) < 60, "{} MiB for 10,000 sockets", mib(with - before));
    drop(sockets);

    // 1,000 of 10,000 carry data, then all are dropped.
    let mut sockets = open(10_000);
    runtime.block_on(async {
        let data = vec![1; 100_000];
        let mut got = vec![0; data.len()];
        for socket in sockets.drain(..1_000) {
            let mut client: UserStream = socket.connect(addr).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            let (sent, received) = tokio::join!(client.write_all(&data), server.read_exact(&mut got));
            sent.unwrap();
            received.unwrap();
        }
        drop(sockets);
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    let (_, after) = statm();
    assert!(mib(after.saturating_sub(before)) < 60, "{} MiB stay after all were dropped", mib(after - before));
    let sockets = open(10_000);
    let (_, again) = statm();
    assert!(mib(again.saturating_sub(before)) < 60, "{} MiB for 10,000 sockets, later", mib(again - before));
    drop(sockets);
}

#[test]
fn a_thousand_open_connections_that_rest_are_small() {
    let _alone = ALONE.lock().unwrap();
    runtime().block_on(async {
        let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        let (_, before) = statm();
        for _ in 0..1_000 {
            let mut client = UserStream::connect(addr).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            client.write_all(b"ping").await.unwrap();
            server.read_exact(&mut [0; 4]).await.unwrap();
            streams.push((client, server));
        }
        let (_, after) = statm();
        // Two control blocks and two touched pages (one each way) a connection.
        let each = after.saturating_sub(before) / 1_000;
        println!("{each} bytes resident per connection, both ends");
        assert!(each < 40 << 10, "{each} bytes per connection");
    });
}

#[test]
fn a_thousand_busy_connections_become_small_again() {
    const COUNT: usize = 1_000;
    let _alone = ALONE.lock().unwrap();
    paused().block_on(async {
        let listener = UserListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (_, before) = statm();
        let (mut streams, message) = (Vec::with_capacity(COUNT), [5; 1024]);
        let mut echo = [0; 1024];
        for index in 0..COUNT {
            let mut client = UserStream::connect(addr).await.unwrap();
            let (mut server, _) = listener.accept().await.unwrap();
            // One in a hundred echoes 10 MiB: what a rewound buffer does not touch again does not depend on the number.
            for _ in 0..if index % 100 == 0 { 10_240 } else { 100 } {
                client.write_all(&message).await.unwrap();
                server.read_exact(&mut echo).await.unwrap();
                server.write_all(&echo).await.unwrap();
                client.read_exact(&mut echo).await.unwrap();
            }
            streams.push((client, server));
        }
        let (_, with) = statm();
        let each = with.saturating_sub(before) / (2 * COUNT);
        println!("{each} bytes resident per end after echoing");
        assert!(each < 12 << 10, "{each} bytes per end");
        // A burst touches many pages of the send buffer here and the receive buffer there.
        let (burst, mut sink) = (vec![6; 128 << 10], vec![0; 128 << 10]);
        for (client, server) in streams.iter_mut().take(200) {
            let (sent, got) = tokio::join!(client.write_all(&burst), server.read_exact(&mut sink));
            sent.unwrap();
            got.unwrap();
        }
        let (_, burst) = statm();
        tokio::time::sleep(Duration::from_millis(6_500)).await;
        let (_, rested) = statm();
        let (each, given) = (rested.saturating_sub(before) / (2 * COUNT), burst.saturating_sub(rested));
        println!("{each} bytes resident per end after a rest, {} MiB given back", mib(given));
        // 128 KiB of 200 pairs and two pages of each of the 1,600 other ends.
        assert!(mib(given) >= 60, "only {given} bytes were given back");
        assert!(each < 4 << 10, "{each} bytes per end");
        drop(streams);
    });
}

#[test]
fn a_burst_that_is_acknowledged_leaves_no_pages_in_the_send_buffer() {
    const BURST: usize = 4 << 20;
    let _alone = ALONE.lock().unwrap();
    paused().block_on(async {
        let (left, right) = pair_with(PairOptions::default());
        // On a shorter way not all of the buffer would be used.
        let left = Fault::new(left, 1).tx(FaultConfig { delay: Duration::from_millis(1), ..FaultConfig::default() });
        let stack = |address| {
            let sizes = |config: &mut StackConfig| {
                (config.socket.send_buffer, config.socket.recv_buffer) = (BURST as u32, 64 << 10);
            };
            Stack::builder().address(address, 24).configure(sizes)
        };
        let one = stack(Ipv4Addr::new(10, 0, 0, 1)).device(left).build().unwrap();
        let two = stack(Ipv4Addr::new(10, 0, 0, 2)).device(right).build().unwrap();
        let listener = two.bind("10.0.0.2:80").await.unwrap();
        let mut client = one.connect("10.0.0.2:80").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let (burst, mut sink) = (vec![6; BURST], vec![7; BURST]);
        for _ in 0..2 {
            let (_, before) = statm();
            let (sent, got) = tokio::join!(client.write_all(&burst), server.read_exact(&mut sink));
            sent.unwrap();
            got.unwrap();
            let (_, touched) = statm();
            assert!(touched - before > BURST * 3 / 4, "the burst went through {} KiB", (touched - before) >> 10);
            assert_eq!(sink, burst);
            tokio::time::sleep(Duration::from_millis(6_500)).await;
            let (_, rested) = statm();
            assert!(rested.saturating_sub(before) < BURST / 16, "{} KiB stay", (rested - before) >> 10);
            assert_eq!(client.info().send_buffer.fill, 0);
        }
    });
}
