//! What `Stack::stats` counts is what the device saw.

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::device::{Capabilities, Device, Outgoing, PairEnd, Received, pair};
use usernet::time::Instant;

use crate::common::{connected, host, within};

const MIB: u64 = 1 << 20;

#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Seen {
    fn values(&self) -> [u64; 4] {
        [&self.reads, &self.writes, &self.bytes_in, &self.bytes_out].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Counts what passes.
struct Recording {
    link: PairEnd,
    seen: Arc<Seen>,
}

impl Device for Recording {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        let result = self.link.poll_recv(cx, now, bufs);
        if let Poll::Ready(Ok(received)) = &result {
            self.seen.reads.fetch_add(1, Ordering::Relaxed);
            self.seen.bytes_in.fetch_add(received.len as u64, Ordering::Relaxed);
        }
        result
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        let result = self.link.poll_send(cx, now, packet);
        if let Poll::Ready(Ok(())) = &result {
            self.seen.writes.fetch_add(1, Ordering::Relaxed);
            self.seen.bytes_out.fetch_add(packet.len() as u64, Ordering::Relaxed);
        }
        result
    }

    fn name(&self) -> String {
        self.link.name()
    }
}

#[tokio::test]
async fn stats_count_what_the_device_saw_and_bulk_takes_few_writes() {
    let (left, right) = pair(1500);
    let seen = Arc::new(Seen::default());
    let recording = Recording { link: left, seen: Arc::clone(&seen) };
    let one = host(1).device(recording).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let (mut client, mut server) = connected(&one, &two).await;
    let before = one.stats();
    let (block, mut there) = (vec![3; MIB as usize], vec![0; MIB as usize]);
    for _ in 0..16 {
        let (sent, got) = within(async { tokio::join!(client.write_all(&block), server.read_exact(&mut there)) }).await;
        sent.unwrap();
        got.unwrap();
        assert!(there == block);
    }
    // A turn publishes what it did; this one comes after the last ACK.
    server.write_all(b"end").await.unwrap();
    within(client.read_exact(&mut there[..3])).await.unwrap();
    let (stats, mut seen_now) = (one.stats(), seen.values());
    while stats_of(&one.stats()) != seen_now {
        tokio::task::yield_now().await;
        seen_now = seen.values();
    }
    assert_eq!((stats.packets_in, stats.packets_out), (stats.device_reads, stats.device_writes));
    let per_mib = (stats.device_writes - before.device_writes) / 16;
    println!("{per_mib} device writes per MiB");
    assert!(per_mib <= 20, "{per_mib} device writes per MiB");
    assert!(stats.turns > before.turns && stats.wakes > before.wakes);
    // Neither a turn nor a wake per segment of MSS size.
    assert!(stats.turns - before.turns < 16 * 60, "{} turns", stats.turns - before.turns);
    assert!(stats.wakes - before.wakes < 16 * 60, "{} wakes", stats.wakes - before.wakes);
    assert_eq!(stats.dropped_total(), 0);
    // Most of it was received straight into the buffer: in segments of at most 64 KiB.
    let there = two.stats();
    assert!(there.landed > 8 * 16, "{} landed", there.landed);
    assert!(there.recalled <= there.landed / 16, "{} recalled", there.recalled);
}

fn stats_of(stats: &usernet::Stats) -> [u64; 4] {
    [stats.device_reads, stats.device_writes, stats.bytes_in, stats.bytes_out]
}
