use super::super::{Algorithm, Congestion};
use super::*;
use crate::config::CongestionControl;

const MSS: u32 = 1_000;
const NOW: Instant = Instant::ZERO;

fn reno() -> NewReno {
    NewReno::new(MSS, 10)
}

/// An ACK of `acked` bytes with the window full.
fn ack(acked: u32) -> AckEvent {
    AckEvent { acked, cwnd_limited: true, ..AckEvent::default() }
}

fn at(cwnd: u32, ssthresh: u32) -> NewReno {
    let mut reno = reno();
    (reno.cwnd, reno.ssthresh) = (cwnd, ssthresh);
    reno
}

#[test]
fn the_initial_window_is_that_of_rfc_6928() {
    // RFC 6928 §2: min(10·MSS, max(2·MSS, 14600)); mss, segments, cwnd
    const CASES: &[(u32, u32, u32)] = &[
        (536, 10, 5_360),
        (1_220, 10, 12_200),
        (1_460, 10, 14_600),
        (2_000, 10, 14_600),
        (8_960, 10, 17_920),
        (1_460, 1, 1_460),
        (8_960, 1, 8_960),
        (1_460, 4, 5_840),
        (0, 0, 1),
        (u32::MAX, 10, u32::MAX),
        (1_460, u32::MAX, MAX_CWND),
    ];
    for &(mss, segments, cwnd) in CASES {
        let reno = NewReno::new(mss, segments);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (cwnd, u32::MAX), "mss {mss}, {segments} segments");
    }
}

#[test]
fn slow_start_counts_every_byte_acknowledged_once() {
    // Linux tcp_slow_start; one ACK of 64 KiB grows the window as 45 ACKs of a segment do.
    for acked in [1, 1_000, 2_000, 65_000] {
        for after_timeout in [false, true] {
            let mut reno = at(4_000, u32::MAX);
            if after_timeout {
                reno.on_loss(NOW, LossEvent::Timeout { first: true, flight_size: 1 << 20 });
            }
            let before = reno.cwnd();
            reno.on_ack(&ack(acked));
            assert_eq!(reno.cwnd() - before, acked, "acked {acked}, after timeout {after_timeout}");
        }
    }
    // What is left of an ACK that reaches ssthresh counts for congestion avoidance.
    let mut reno = at(9_500, 10_000);
    reno.on_ack(&ack(2_000));
    assert_eq!((reno.cwnd(), reno.bytes_acked, reno.is_slow_start()), (10_000, 1_500, false));
}

#[test]
fn ack_division_gains_nothing() {
    // reliability.md A15 (Savage '99): one segment acknowledged byte by byte.
    for ssthresh in [u32::MAX, 2 * MSS] {
        let (mut whole, mut divided) = (at(10_000, ssthresh), at(10_000, ssthresh));
        whole.on_ack(&ack(MSS));
        (0..MSS).for_each(|_| divided.on_ack(&ack(1)));
        assert_eq!(divided.cwnd(), whole.cwnd());
        assert!(divided.cwnd() - 10_000 <= MSS);
    }
}

#[test]
fn congestion_avoidance_adds_one_segment_per_window() {
    // RFC 5681 §3.1
    let mut reno = at(10_000, 10_000);
    (0..9).for_each(|_| reno.on_ack(&ack(1_000)));
    assert_eq!(reno.cwnd(), 10_000);
    reno.on_ack(&ack(1_000));
    assert_eq!(reno.cwnd(), 11_000);
    (0..11).for_each(|_| reno.on_ack(&ack(1_000)));
    assert_eq!(reno.cwnd(), 12_000);
    // One ACK of a whole window, and of far more than it, add one segment.
    reno.on_ack(&ack(12_000));
    reno.on_ack(&ack(u32::MAX));
    assert_eq!(reno.cwnd(), 14_000);
}

#[test]
fn an_unused_window_does_not_grow() {
    // RFC 7661 §4.3, Linux tcp_is_cwnd_limited; ssthresh, cwnd limited, in flight before, grows
    const CASES: &[(u32, bool, u32, bool)] = &[
        (u32::MAX, true, 0, true),
        (u32::MAX, false, 5_001, true),
        (u32::MAX, false, 5_000, false),
        (8_000, false, 10_000, false),
        (8_000, true, 10_000, true),
    ];
    for &(ssthresh, cwnd_limited, in_flight_before, grows) in CASES {
        let mut reno = at(10_000, ssthresh);
        reno.bytes_acked = 9_500;
        reno.on_ack(&AckEvent { acked: 1_000, cwnd_limited, in_flight_before, ..AckEvent::default() });
        assert_eq!(reno.cwnd() > 10_000, grows, "ssthresh {ssthresh} limited {cwnd_limited} flight {in_flight_before}");
    }
    let mut recovering = at(10_000, u32::MAX);
    recovering.on_ack(&AckEvent { in_recovery: true, ..ack(1_000) });
    assert_eq!(recovering.cwnd(), 10_000);
}

#[test]
fn fast_recovery_inflates_and_deflates() {
    // RFC 5681 §3.2, RFC 6582 §3.2: 20 segments outstanding, two of them lost.
    let mut reno = at(20_000, u32::MAX);
    reno.on_loss(NOW, LossEvent::DupAck { flight_size: 20_000, left_network: 3 * MSS });
    assert_eq!((reno.ssthresh(), reno.cwnd()), (10_000, 13_000));
    (0..15).for_each(|_| reno.on_loss(NOW, LossEvent::ExtraDupAck));
    assert_eq!(reno.cwnd(), 28_000);
    reno.on_loss(NOW, LossEvent::PartialAck { acked: 5_000 });
    assert_eq!(reno.cwnd(), 24_000);
    reno.on_loss(NOW, LossEvent::PartialAck { acked: 500 });
    assert_eq!(reno.cwnd(), 23_500);
    reno.on_loss(NOW, LossEvent::PartialAck { acked: u32::MAX });
    assert_eq!(reno.cwnd(), MSS);
    // flight size at the end of recovery, cwnd
    for (flight_size, cwnd) in [(0, 2_000), (4_000, 5_000), (9_000, 10_000), (50_000, 10_000), (u32::MAX, 10_000)] {
        let mut reno = reno.clone();
        reno.on_recovery_exit(NOW, Some(flight_size).filter(|size| *size != 50_000));
        assert_eq!((reno.cwnd(), reno.ssthresh()), (cwnd, 10_000), "flight {flight_size}");
    }
}

#[test]
fn forged_duplicate_acks_inflate_no_further_than_what_was_outstanding() {
    // RFC 5681 §4, reliability.md A15
    let mut reno = at(20_000, u32::MAX);
    reno.on_loss(NOW, LossEvent::DupAck { flight_size: 20_000, left_network: 3 * MSS });
    (0..10_000).for_each(|_| reno.on_loss(NOW, LossEvent::ExtraDupAck));
    assert_eq!(reno.cwnd(), 10_000 + 20_000);
}

#[test]
fn ssthresh_is_half_the_flight_and_at_least_two_segments() {
    // RFC 5681 §3.1 equation (4)
    for (flight_size, ssthresh) in [(0, 2_000), (3_000, 2_000), (4_002, 2_001), (u32::MAX, u32::MAX / 2)] {
        let (mut dup, mut timeout) = (at(20_000, u32::MAX), at(20_000, u32::MAX));
        dup.on_loss(NOW, LossEvent::DupAck { flight_size, left_network: 3 * MSS });
        timeout.on_loss(NOW, LossEvent::Timeout { first: true, flight_size });
        assert_eq!((dup.ssthresh(), timeout.ssthresh()), (ssthresh, ssthresh), "flight {flight_size}");
    }
}

#[test]
fn a_timeout_starts_over_and_repeats_do_not_lower_ssthresh() {
    // RFC 5681 §3.1
    let mut reno = at(20_000, u32::MAX);
    reno.on_loss(NOW, LossEvent::Timeout { first: true, flight_size: 20_000 });
    assert_eq!((reno.cwnd(), reno.ssthresh()), (MSS, 10_000));
    reno.on_loss(NOW, LossEvent::Timeout { first: false, flight_size: 1_000 });
    assert_eq!((reno.cwnd(), reno.ssthresh()), (MSS, 10_000));
    (0..9).for_each(|_| reno.on_ack(&ack(1_000)));
    assert_eq!((reno.cwnd(), reno.is_slow_start()), (10_000, false));
}

#[test]
fn idle_restart_never_raises_the_window() {
    // RFC 5681 §4.1: RW = min(IW, cwnd)
    for (cwnd, after) in [(50_000, 10_000), (10_000, 10_000), (3_000, 3_000)] {
        let mut reno = at(cwnd, 7_777);
        reno.on_idle_restart(NOW);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (after, 7_777));
    }
}

#[test]
fn a_smaller_mss_shrinks_the_window_in_proportion() {
    // RFC 5681 §3.1; mss, cwnd
    for (mss, cwnd) in [(500, 5_000), (1, 10), (2_000, 10_000), (50_000, 50_000), (0, 10)] {
        let mut reno = at(10_000, 1_500);
        reno.on_mss_change(mss);
        assert_eq!((reno.cwnd(), reno.ssthresh() >= 2 * mss), (cwnd, true), "mss {mss}");
    }
}

#[test]
fn any_order_of_events_stays_within_bounds() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut algorithm = Algorithm::new(CongestionControl::NewReno, MSS, 10);
        let mut mss = MSS;
        for _ in 0..500 {
            let bytes = if rng.u8(..) < 20 { rng.u32(..) } else { rng.u32(..200_000) };
            match rng.u8(..9) {
                0 => algorithm.on_loss(NOW, LossEvent::DupAck { flight_size: bytes, left_network: rng.u32(..4 * MSS) }),
                1 => algorithm.on_loss(NOW, LossEvent::ExtraDupAck),
                2 => algorithm.on_loss(NOW, LossEvent::PartialAck { acked: bytes }),
                3 => algorithm.on_loss(NOW, LossEvent::Timeout { first: rng.bool(), flight_size: bytes }),
                4 => algorithm.on_recovery_exit(NOW, Some(bytes).filter(|_| rng.bool())),
                5 => algorithm.on_idle_restart(NOW),
                6 => {
                    mss = rng.u32(36..65_000);
                    algorithm.on_mss_change(mss);
                }
                _ => algorithm.on_ack(&AckEvent { in_recovery: rng.bool(), ..ack(bytes) }),
            }
            let (cwnd, ssthresh) = (algorithm.cwnd(), algorithm.ssthresh());
            assert!((mss..=MAX_CWND).contains(&cwnd) && ssthresh >= 2 * mss, "seed {seed}: {algorithm:?}");
            assert_eq!(algorithm.pacing_rate(), None);
        }
    }
}
