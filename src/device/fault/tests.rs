use std::task::Waker;
use std::time::Duration;

use super::super::testing::{Count, assert_split, failure, large_segment, recv, recv_with, send, send_with};
use super::super::{PairEnd, pair};
use super::*;

const START: Instant = Instant::from_micros(1_000);
const MS: Duration = Duration::from_millis(1);

fn tx(config: FaultConfig) -> (Fault<PairEnd>, PairEnd) {
    let (a, b) = pair(1500);
    (Fault::new(a, 3).tx(config), b)
}

/// Sends `count` numbered packets at `now` and returns the numbers of those that arrive at once.
fn burst(device: &mut Fault<PairEnd>, peer: &mut PairEnd, now: Instant, count: u32) -> Vec<u32> {
    let mut seen = Vec::new();
    for n in 0..count {
        assert!(send(device, now, &n.to_be_bytes()).is_ready());
        seen.extend(drain(peer, now));
    }
    seen
}

fn drain(peer: &mut impl Device, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| recv(peer, now)).map(|packet| u32::from_be_bytes(packet.try_into().unwrap())).collect()
}

#[test]
fn without_faults_it_is_transparent_but_for_offload() {
    let (mut device, mut peer) = tx(FaultConfig::default());
    assert_eq!(device.capabilities(), Capabilities { mtu: 1500, max_large_packet: None, checksum: false });
    assert_eq!(device.name(), "fault over pair");
    assert_eq!(burst(&mut device, &mut peer, START, 5), [0, 1, 2, 3, 4]);
    assert!(send(&mut peer, START, b"back").is_ready());
    assert_eq!(recv(&mut device, START).as_deref(), Some(&b"back"[..]));
    drop(peer);
    assert_eq!(failure(recv_with(&mut device, Waker::noop(), START)), Some(io::ErrorKind::NetworkDown));
}

#[test]
fn loss_is_seeded_and_about_as_frequent_as_asked() {
    let run = |seed| {
        let (a, mut peer) = pair(1500);
        let config = FaultConfig { loss: 0.1, ..FaultConfig::default() };
        let mut device = Fault::new(a, seed).both(config);
        let seen = burst(&mut device, &mut peer, START, 10_000);
        assert_eq!(device.handle().stats_tx().lost + seen.len() as u64, 10_000);
        seen
    };
    let seen = run(1);
    assert!((8_800..9_200).contains(&seen.len()), "{} of 10000 passed", seen.len());
    assert_eq!(seen, run(1));
    assert_ne!(seen, run(2));
}

#[test]
fn bursts_lose_runs_of_packets() {
    let burst_loss = BurstLoss { enter: 0.01, leave: 0.1, loss: 1.0 };
    let (mut device, mut peer) = tx(FaultConfig { burst: Some(burst_loss), ..FaultConfig::default() });
    let seen = burst(&mut device, &mut peer, START, 20_000);
    let gaps: Vec<u32> = seen.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|gap| *gap > 0).collect();
    let mean = f64::from(gaps.iter().sum::<u32>()) / gaps.len() as f64;
    assert!((7.0..13.0).contains(&mean), "mean burst {mean}");
}

#[test]
fn a_delayed_packet_is_released_with_its_exact_time() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _context = rt.enter();
    let (a, mut peer) = pair(1500);
    let mut device = Fault::new(a, 3).rx(FaultConfig { delay: 10 * MS, ..FaultConfig::default() });
    assert!(send(&mut peer, START, b"one").is_ready());
    assert_eq!(recv(&mut device, START), None);
    assert_eq!(recv(&mut device, START + 9 * MS), None);
    let late = START + 25 * MS;
    let Poll::Ready(Ok((received, _))) = recv_with(&mut device, Waker::noop(), late) else { panic!("not released") };
    assert_eq!(received.at, START + 10 * MS);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_arrives_before_the_end() {
    let (a, mut peer) = pair(1500);
    let mut device = Fault::new(a, 3).rx(FaultConfig { delay: 10 * MS, ..FaultConfig::default() });
    assert!(send(&mut peer, START, b"last words").is_ready());
    drop(peer);
    assert_eq!(recv(&mut device, START), None);
    assert_eq!(recv(&mut device, START + 10 * MS), Some(b"last words".to_vec()));
    assert_eq!(failure(recv_with(&mut device, Waker::noop(), START + 10 * MS)), Some(io::ErrorKind::NetworkDown));
}

#[tokio::test(start_paused = true)]
async fn the_timer_wakes_for_either_direction() {
    let (a, mut peer) = pair(1500);
    let mut device = Fault::new(a, 3).both(FaultConfig { delay: 10 * MS, ..FaultConfig::default() });
    let start = tokio::time::Instant::now();
    let clock = move || START + start.elapsed();
    // Delayed on the way out: the waker of the pending `poll_recv` must lead to the release.
    assert!(send(&mut device, clock(), b"ping").is_ready());
    let reply = std::future::poll_fn(|cx| {
        let result = recv_with(&mut device, cx.waker(), clock());
        if let Some(ping) = recv(&mut peer, clock()) {
            assert_eq!(ping, b"ping");
            assert_eq!(clock().since(START), 10 * MS);
            assert!(send(&mut peer, clock(), b"pong").is_ready());
            cx.waker().wake_by_ref();
        }
        result
    });
    let (received, bytes) = reply.await.unwrap();
    assert_eq!(bytes, b"pong");
    assert_eq!(received.at, START + 20 * MS);
    assert!(start.elapsed() <= 21 * MS);
}

#[tokio::test(start_paused = true)]
async fn jitter_keeps_order_and_reordering_breaks_it() {
    let config = FaultConfig { delay: 5 * MS, jitter: 5 * MS, ..FaultConfig::default() };
    let (mut device, mut peer) = tx(config.clone());
    assert!(burst(&mut device, &mut peer, START, 100).is_empty());
    assert_eq!(recv(&mut device, START + 10 * MS), None);
    assert_eq!(drain(&mut peer, START), (0..100).collect::<Vec<_>>());

    let (mut device, mut peer) = tx(FaultConfig { reorder: 0.2, ..config });
    assert!(burst(&mut device, &mut peer, START, 100).is_empty());
    assert_eq!(recv(&mut device, START + 20 * MS), None);
    let mut seen = drain(&mut peer, START);
    assert!(!seen.is_sorted());
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
    assert!(device.handle().stats_tx().reordered > 5);
}

#[test]
fn duplicates_and_corruption_are_counted_and_visible() {
    let (mut device, mut peer) = tx(FaultConfig { duplicate: 0.5, ..FaultConfig::default() });
    let seen = burst(&mut device, &mut peer, START, 1_000);
    let stats = device.handle().stats_tx();
    assert!((400..600).contains(&stats.duplicated));
    assert_eq!(seen.len() as u64, 1_000 + stats.duplicated);

    let (mut device, mut peer) = tx(FaultConfig { corrupt: 1.0, ..FaultConfig::default() });
    for _ in 0..100 {
        assert!(send(&mut device, START, &[0; 100]).is_ready());
        let ones: u32 = recv(&mut peer, START).unwrap().iter().map(|byte| byte.count_ones()).sum();
        assert!(ones <= 3);
    }
    assert_eq!(device.handle().stats_tx().corrupted, 100);
}

#[tokio::test(start_paused = true)]
async fn the_rate_spaces_packets_and_its_queue_overflows() {
    // 1000 bytes a millisecond, four packets of 1000 may wait behind the one on the line.
    let rate = RateLimit { bytes_per_second: 1_000_000, queue_bytes: 5_000 };
    let (a, mut peer) = pair(1500);
    let mut device = Fault::new(a, 3).rx(FaultConfig { rate: Some(rate), ..FaultConfig::default() });
    for n in 0..10_u8 {
        assert!(send(&mut peer, START, &[n; 1_000]).is_ready());
    }
    let mut seen = Vec::new();
    for step in 0..10 {
        let now = START + step * MS;
        while let Poll::Ready(Ok((received, packet))) = recv_with(&mut device, Waker::noop(), now) {
            seen.push((received.at.since(START), packet[0]));
        }
    }
    let expected: Vec<_> = (0..5_u8).map(|n| (MS * (u32::from(n) + 1), n)).collect();
    assert_eq!(seen, expected);
    assert_eq!(device.handle().stats_rx().overflowed, 5);
}

#[test]
fn a_blackout_swallows_everything_and_ends() {
    let window = Duration::from_millis(10)..Duration::from_millis(20);
    let (mut device, mut peer) = tx(FaultConfig { blackouts: vec![window], ..FaultConfig::default() });
    for (at, passes) in [(9, true), (10, false), (19, false), (20, true)] {
        assert!(send(&mut device, Instant::from_millis(at), b"x").is_ready());
        assert_eq!(recv(&mut peer, START).is_some(), passes, "at {at} ms");
    }
    assert_eq!(device.handle().stats_tx().blacked_out, 2);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let config = FaultConfig { delay: MS, limit_bytes: 10_000, ..FaultConfig::default() };
    let (mut device, _peer) = tx(config);
    for _ in 0..100 {
        assert!(send(&mut device, START, &[0; 1_000]).is_ready());
    }
    let stats = device.handle().stats_tx();
    assert_eq!((stats.passed, stats.overflowed), (10, 90));
}

#[test]
fn a_full_device_pushes_back_without_losing_the_packet() {
    let (mut a, mut peer) = pair(1500);
    while send(&mut a, START, &9_u32.to_be_bytes()).is_ready() {}
    let mut device = Fault::new(a, 3);
    let (count, waker) = Count::new();
    assert!(send_with(&mut device, &waker, START, &1_u32.to_be_bytes(), Offload::default()).is_ready());
    assert!(send_with(&mut device, &waker, START, &2_u32.to_be_bytes(), Offload::default()).is_pending());
    let before = drain(&mut peer, START);
    assert!(before.iter().all(|n| *n == 9));
    assert_eq!(count.woken(), 1);
    assert!(send(&mut device, START, &2_u32.to_be_bytes()).is_ready());
    assert_eq!(drain(&mut peer, START), [1, 2]);
}

#[test]
fn the_handle_changes_a_device_in_use() {
    let (mut device, mut peer) = tx(FaultConfig::default());
    let handle = device.handle();
    assert_eq!(burst(&mut device, &mut peer, START, 2), [0, 1]);
    handle.set_tx(FaultConfig { loss: 1.0, ..FaultConfig::default() });
    assert!(burst(&mut device, &mut peer, START, 2).is_empty());
}

#[test]
fn large_segments_are_split_and_completed_whichever_way_they_come() {
    let (packet, offload) = large_segment();
    let (a, mut peer) = pair(1500);
    let mut device = Fault::new(a, 3);
    assert!(send_with(&mut peer, Waker::noop(), START, &packet, offload).is_ready());
    assert_split(&std::iter::from_fn(|| recv(&mut device, START)).collect::<Vec<_>>());
    assert!(send_with(&mut device, Waker::noop(), START, &packet, offload).is_ready());
    assert_split(&std::iter::from_fn(|| recv(&mut peer, START)).collect::<Vec<_>>());
}
