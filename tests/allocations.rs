//! Nothing is allocated per segment or per ACK once a connection is warm.
//!
//! The counter belongs to the thread, and everything measured runs on the thread that asks.

// A test's helpers may panic too; `allow-…-in-tests` covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
// A counting allocator is the one thing that needs it here.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::Stack;
use usernet::config::{SocketOptions, StackConfig};
use usernet::device::{PairOptions, pair_with};
use usernet::internals::pipe::{Region, UserEnd, pipe};
use usernet::internals::stack::{Connect, Engine, Secrets};
use usernet::internals::tcb::Path;
use usernet::internals::time::Instant;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    // A thread that ends may allocate after its locals are gone.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's contract is the callee's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Allocations of this thread so far.
fn allocations() -> u64 {
    COUNT.with(Cell::get)
}

/// Two engines joined in memory, one connection, both users.
struct Line {
    now: Instant,
    engines: [Engine; 2],
    users: [UserEnd; 2],
    packet: Vec<u8>,
    segments: u64,
    /// Every how many-th packet with text is lost; 0: none.
    lose: u64,
    block: Vec<u8>,
}

const LARGE: Option<usize> = Some(65_535);
const MIB: u64 = 1 << 20;

fn engine(host: u8, max_large: Option<usize>) -> Engine {
    let config = StackConfig { addresses: vec![(ip(host), 24)], ..StackConfig::default() };
    let mut engine = Engine::new(config, Secrets { key: [host; 32] }).unwrap();
    engine.set_path(Path { mtu: 1500, max_large }, true);
    engine
}

fn ip(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, host).into()
}

impl Line {
    fn new(max_large: Option<usize>) -> Line {
        let [mut client, server] = [engine(1, max_large), engine(2, max_large)];
        let options = SocketOptions::default();
        let shared = server.shared().clone();
        let binding = shared.bind(SocketAddr::new(ip(2), 80), &options).unwrap();
        let listening = shared.listen(binding, options, 8).unwrap();
        let tuple = client.shared().claim(None, SocketAddr::new(ip(2), 80), &options).unwrap();
        let region = Region::map(options.send_buffer as usize, options.recv_buffer as usize).unwrap();
        region.join(&client.shared().budget).unwrap();
        let (user, end) = pipe(region, options);
        let now = Instant::from_millis(1);
        client.connect(now, Connect { pipe: end, tuple, options });
        let (spare, _) = pipe(Region::map(1, 1).unwrap(), options);
        let (packet, block) = (Vec::with_capacity(1 << 16), vec![7; 64 << 10]);
        let users = [user, spare];
        let mut line = Line { now, engines: [client, server], users, packet, segments: 0, lose: 0, block };
        for _ in 0..4 {
            line.turn(0);
            line.turn(1);
        }
        line.users[1] = listening.queue.try_pop().unwrap().unwrap().0;
        line
    }

    /// One turn of an engine; its packets arrive at once.
    fn turn(&mut self, index: usize) -> bool {
        let [left, right] = &mut self.engines;
        let (engine, peer) = if index == 0 { (left, right) } else { (right, left) };
        engine.poll_orders(self.now);
        engine.on_deadlines(self.now);
        let mut moved = false;
        while let Some(out) = engine.poll_transmit(self.now) {
            moved = true;
            let text = !out.payload[0].is_empty();
            self.segments += 1;
            self.packet.clear();
            self.packet.extend_from_slice(out.header);
            out.payload.iter().for_each(|part| self.packet.extend_from_slice(part));
            if !(text && self.lose > 0 && self.segments.is_multiple_of(self.lose)) {
                peer.receive(self.now, &self.packet, out.offload);
            }
        }
        engine.end_turn();
        moved
    }

    /// Moves `bytes` bytes each way.
    fn transfer(&mut self, bytes: u64) {
        let (mut written, mut read) = ([0; 2], [0; 2]);
        while read.iter().any(|&read| read < bytes) {
            for (index, user) in self.users.iter().enumerate() {
                let want = (bytes - written[index]).min(self.block.len() as u64) as usize;
                let slice = [IoSlice::new(&self.block[..want])];
                if want > 0 {
                    written[index] += user.try_write(&slice).unwrap_or(0) as u64;
                }
                let got = user.try_read_with(usize::MAX, &mut |part| assert!(part.iter().all(|&byte| byte == 7)));
                read[index] += got.unwrap_or(0) as u64;
            }
            let moved = self.turn(0) | self.turn(1);
            self.now = self.now + Duration::from_micros(50);
            if !moved {
                let next = self.engines.iter().filter_map(Engine::next_deadline).min();
                self.now = self.now.max(next.unwrap_or(self.now));
            }
        }
    }

    /// Allocations and segments of a transfer of `bytes` each way.
    fn measure(&mut self, bytes: u64) -> (u64, u64) {
        let (before, segments) = (allocations(), self.segments);
        self.transfer(bytes);
        (allocations() - before, self.segments - segments)
    }
}

#[test]
fn no_segment_and_no_ack_allocates() {
    for max_large in [None, LARGE] {
        let mut line = Line::new(max_large);
        // The windows grow to their full size, the tables to what they hold then.
        line.transfer(32 * MIB);
        let (allocated, segments) = line.measure(32 * MIB);
        println!("large segments {max_large:?}: {allocated} allocations in {segments} segments");
        assert!(segments > 500);
        assert_eq!(allocated, 0, "in {segments} segments, large ones: {max_large:?}");
    }
}

#[test]
fn no_loss_and_no_retransmission_allocates() {
    for max_large in [None, LARGE] {
        let mut line = Line::new(max_large);
        line.transfer(8 * MIB);
        line.lose = 61;
        line.transfer(16 * MIB);
        let (allocated, segments) = line.measure(16 * MIB);
        let retransmits: u64 = line.engines.iter().map(|engine| engine.shared().stats().retransmits).sum();
        println!("large segments {max_large:?}: {allocated} allocations, {segments} segments, {retransmits} repeated");
        assert!(retransmits > 50);
        assert_eq!(allocated, 0, "in {segments} segments, large ones: {max_large:?}");
    }
}

/// Streams, reactor, device and runtime together: a few allocations a MiB would not be per segment, none is asked for.
#[test]
fn no_turn_of_the_reactor_allocates() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for offload in [false, true] {
            let (left, right) = pair_with(PairOptions { offload, ..PairOptions::default() });
            let client = Stack::builder().address(ip(1), 24).device(left).build().unwrap();
            let server = Stack::builder().address(ip(2), 24).device(right).build().unwrap();
            let listener = server.bind((ip(2), 80)).await.unwrap();
            let mut stream = client.connect((ip(2), 80)).await.unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            let (data, mut buffer) = (vec![1; MIB as usize], vec![0; 256 << 10]);
            let mut echo = vec![0; 1024];
            let mut measured = [0; 2];
            for (round, rounds) in [16_u64, 16].into_iter().enumerate() {
                let before = allocations();
                for _ in 0..rounds {
                    let (sent, ()) = tokio::join!(stream.write_all(&data), async {
                        for _ in 0..4 {
                            peer.read_exact(&mut buffer).await.unwrap();
                        }
                    });
                    sent.unwrap();
                }
                for _ in 0..1_000 {
                    stream.write_all(&data[..1024]).await.unwrap();
                    peer.read_exact(&mut echo).await.unwrap();
                    peer.write_all(&echo).await.unwrap();
                    stream.read_exact(&mut echo).await.unwrap();
                }
                measured[round] = allocations() - before;
            }
            println!("offload {offload}: {} allocations in 16 MiB and 1,000 echoes", measured[1]);
            assert!(measured[1] <= 16, "{} allocations, offload {offload}", measured[1]);
        }
    });
}
