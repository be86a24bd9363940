//! The idea of the crate, seen from outside: the buffers of a socket are those of its stream, and the device gathers
//! payload straight out of them.

use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::time::timeout;
use usernet::SocketInfo;
use usernet::device::{Capabilities, Device, Fault, FaultConfig, Outgoing, PairOptions, Received, pair, pair_with};
use usernet::time::Instant;

use super::common::{host, within};

/// Where the payload of each packet lay when it was sent.
struct Recorder<D> {
    inner: D,
    seen: Arc<Mutex<Vec<Range<usize>>>>,
}

impl<D: Device> Device for Recorder<D> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        assert_eq!(bufs.len(), 1, "it does not say that it fills several");
        self.inner.poll_recv(cx, now, bufs)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        for part in packet.payload.iter().filter(|part| !part.is_empty()) {
            let start = part.as_ptr().addr();
            self.seen.lock().unwrap().push(start..start + part.len());
        }
        self.inner.poll_send(cx, now, packet)
    }

    fn name(&self) -> String {
        "recorder".to_owned()
    }
}

fn places(info: SocketInfo) -> [(usize, usize); 2] {
    [info.send_buffer, info.recv_buffer].map(|buffer| (buffer.address, buffer.capacity))
}

#[tokio::test(start_paused = true)]
async fn the_buffers_of_a_socket_are_those_of_its_stream() {
    // A link that never makes the sender wait: the one packet a device refuses is held in a copy.
    let (left, right) = pair_with(PairOptions { queue_packets: 16_384, ..PairOptions::default() });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let one = host(1).device(Recorder { inner: left, seen: Arc::clone(&seen) }).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();

    let socket = one.socket().unwrap();
    let before = socket.info();
    assert!(before.send_buffer.capacity >= 1 << 20 && before.recv_buffer.capacity >= 1 << 20);
    let mut client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
    assert_eq!(places(client.info()), places(before));

    let (mut server, _) = listener.accept().await.unwrap();
    let size = 3 << 20;
    let reader = tokio::spawn(async move {
        let mut got = vec![0; size];
        server.read_exact(&mut got).await.unwrap();
        server.write_all(&got).await.unwrap();
        server
    });
    let data: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    client.write_all(&data).await.unwrap();
    let mut back = vec![0; size];
    within(client.read_exact(&mut back)).await.unwrap();
    assert!(back == data);
    assert_eq!(places(client.info()), places(before));
    drop(reader.await.unwrap());

    let buffer = client.info().send_buffer;
    let inside = buffer.address..buffer.address + buffer.capacity;
    let seen = seen.lock().unwrap();
    let carried: usize = seen.iter().map(|range| range.len()).sum();
    assert!(carried >= size, "{carried} bytes went by");
    assert!(seen.iter().all(|range| inside.start <= range.start && range.end <= inside.end));
}

/// Most bytes that a writer queues on a way that takes `delay` there, in a buffer of the default size or its own, for a peer
/// that reads or does not.
async fn fullest(delay: Duration, own_size: Option<u32>, reads: bool) -> usize {
    let (left, right) = pair(1500);
    let left = Fault::new(left, 1).tx(FaultConfig { delay, ..FaultConfig::default() });
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let socket = one.socket().unwrap();
    if let Some(size) = own_size {
        socket.set_send_buffer_size(size).unwrap();
    }
    let mut client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    let reader = async {
        if reads {
            tokio::io::copy(&mut server, &mut tokio::io::sink()).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let part = vec![7; 64 << 10];
    let mut fullest = 0;
    let writer = async {
        for _ in 0..256 {
            client.write_all(&part).await.unwrap();
            fullest = fullest.max(client.info().send_buffer.fill);
        }
    };
    let ended = timeout(Duration::from_secs(20), async { tokio::select!(() = writer => (), () = reader => ()) }).await;
    assert_eq!(ended.is_ok(), reads, "a write waits for ever if and only if nobody reads");
    fullest.max(client.info().send_buffer.fill)
}

#[tokio::test(start_paused = true)]
async fn a_short_way_does_not_fill_a_large_buffer() {
    let (near, far) = (Duration::ZERO, Duration::from_millis(1));
    let part = 300 << 10..=512 << 10;
    let short = fullest(near, None, true).await;
    assert!(part.contains(&short), "{short} bytes on a short way");
    for (delay, own_size, reads) in [(far, None, true), (near, Some(900_000), true), (near, None, false)] {
        let fill = fullest(delay, own_size, reads).await;
        assert!(fill > 700_000, "{fill} bytes at {delay:?}, own size {own_size:?}, read {reads}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_send_on_a_short_way_queue_a_segment_each() {
    const MANY: usize = 64;
    let (left, right) = pair(1500);
    let one = host(1).device(left).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let mut writers = Vec::new();
    let together = Arc::new(Barrier::new(MANY));
    for _ in 0..MANY {
        let mut client = one.connect("10.0.0.2:80").await.unwrap();
        let (mut server, _) = within(listener.accept()).await.unwrap();
        tokio::spawn(async move { tokio::io::copy(&mut server, &mut tokio::io::sink()).await });
        let together = Arc::clone(&together);
        writers.push(tokio::spawn(async move {
            together.wait().await;
            let part = vec![7; 64 << 10];
            let mut fullest = 0;
            for n in 0..128 {
                client.write_all(&part).await.unwrap();
                // How many they are shows when each has waited for room.
                let fill = client.info().send_buffer.fill;
                fullest = if n < 64 { 0 } else { fullest.max(fill) };
            }
            fullest
        }));
    }
    for writer in writers {
        let fullest = within(writer).await.unwrap();
        assert!((1..=64 << 10).contains(&fullest), "{fullest} bytes queued");
    }
}

/// On the loopback a segment is as large as a small share, and a lone segment's ACK may be delayed.
#[tokio::test(start_paused = true)]
async fn many_who_send_large_segments_do_not_wait_for_delayed_acks() {
    const MANY: usize = 40;
    let stack = host(1).build().unwrap();
    let listener = stack.bind("10.0.0.1:80").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut writers = Vec::new();
    for _ in 0..MANY {
        let mut client = stack.connect("10.0.0.1:80").await.unwrap();
        let (mut server, _) = within(listener.accept()).await.unwrap();
        tokio::spawn(async move { tokio::io::copy(&mut server, &mut tokio::io::sink()).await });
        writers.push(tokio::spawn(async move { client.write_all(&vec![7; 4 << 20]).await }));
    }
    for writer in writers {
        within(writer).await.unwrap().unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(40), "{:?} passed", began.elapsed());
}
