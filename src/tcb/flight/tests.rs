use super::*;

const BASE: Seq = Seq::new(u32::MAX - 5_000);

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn seq(offset: u32) -> Seq {
    BASE + offset
}

fn block(left: u32, right: u32) -> SackBlock {
    SackBlock { left: seq(left), right: seq(right) }
}

/// Ten segments of 1,000 bytes, sent at 0, 10, .. 90 µs.
fn ten() -> Flight {
    let mut flight = Flight::new();
    for i in 0..10 {
        flight.on_send(at(u64::from(i) * 10), seq(i * 1_000), seq(i * 1_000 + 1_000), false);
        flight.check_invariants();
    }
    flight
}

/// (start, end, mark, transmissions) of each record; marks: `.` in flight, `s` SACKed, `x` lost.
fn shape(flight: &Flight) -> Vec<(u32, u32, char, u8)> {
    flight.check_invariants();
    let mark = |r: &Record| {
        if r.sacked {
            's'
        } else if r.lost {
            'x'
        } else {
            '.'
        }
    };
    let offset = |s: Seq| s.offset_from(BASE).unwrap();
    flight.iter().map(|r| (offset(r.start), offset(r.end), mark(r), r.transmissions)).collect()
}

#[test]
fn what_is_sent_at_once_is_one_record() {
    let mut flight = Flight::new();
    flight.on_send(at(5), seq(0), seq(1_000), false);
    flight.on_send(at(5), seq(1_000), seq(3_000), false);
    flight.on_send(at(5), seq(3_000), seq(3_000), false);
    flight.on_send(at(6), seq(3_000), seq(4_000), false);
    flight.on_send(at(6), seq(4_000), seq(4_001), true);
    assert_eq!(shape(&flight), [(0, 3_000, '.', 1), (3_000, 4_000, '.', 1), (4_000, 4_001, '.', 1)]);
    assert_eq!((flight.bytes_in_flight(), flight.first().unwrap().sent_at), (4_001, at(5)));
}

#[test]
fn an_ack_pops_and_trims() {
    // una, bytes, rtt at 1,000 µs, first record
    type Case = (u32, u32, Option<u64>, Option<(u32, u32)>);
    const CASES: &[Case] = &[
        (0, 0, None, Some((0, 1_000))),
        (1, 1, Some(1_000), Some((1, 1_000))),
        (1_000, 1_000, Some(1_000), Some((1_000, 2_000))),
        (2_500, 2_500, Some(980), Some((2_500, 3_000))),
        (10_000, 10_000, Some(910), None),
        (12_000, 10_000, Some(910), None),
    ];
    for &(una, bytes, rtt, first) in CASES {
        let mut flight = ten();
        let acked = flight.on_ack(at(1_000), seq(una));
        assert_eq!((acked.bytes, acked.rtt), (bytes, rtt.map(us)), "una {una}");
        let shape = shape(&flight);
        assert_eq!(shape.first().map(|r| (r.0, r.1)), first, "una {una}");
        assert_eq!((flight.bytes_in_flight(), flight.is_empty()), (10_000 - bytes, first.is_none()));
        assert_eq!(flight.on_ack(at(1_001), seq(0)), Acked::default(), "an old ACK brings nothing");
    }
}

#[test]
fn retransmitted_data_gives_no_round_trip() {
    // RFC 6298 §3, Karn's rule
    let mut flight = ten();
    flight.mark_first_lost(1_000);
    assert_eq!(flight.first_lost(), Some((seq(0), seq(1_000))));
    flight.on_retransmit(at(500), seq(0), seq(1_000));
    assert_eq!((flight.first_lost(), flight.bytes_in_flight()), (None, 10_000));
    let acked = flight.on_ack(at(1_000), seq(4_000));
    assert_eq!((acked.bytes, acked.rtt), (4_000, None));
    assert_eq!(flight.on_ack(at(1_000), seq(5_000)).rtt, Some(us(960)));
}

#[test]
fn retransmission_splits_at_the_edges() {
    let mut flight = Flight::new();
    flight.on_send(at(0), seq(0), seq(10_000), false);
    flight.mark_first_lost(1_000);
    assert_eq!(shape(&flight), [(0, 1_000, 'x', 1), (1_000, 10_000, '.', 1)]);
    flight.mark_all_lost();
    assert_eq!((flight.bytes_in_flight(), flight.lost_bytes()), (0, 10_000));
    flight.on_retransmit(at(9), seq(0), seq(600));
    assert_eq!(shape(&flight), [(0, 600, '.', 2), (600, 1_000, 'x', 1), (1_000, 10_000, 'x', 1)]);
    assert_eq!(flight.first_lost(), Some((seq(600), seq(1_000))));
    flight.on_retransmit(at(9), seq(600), seq(3_000));
    assert_eq!(shape(&flight), [(0, 1_000, '.', 2), (1_000, 3_000, '.', 2), (3_000, 10_000, 'x', 1)]);
    flight.on_retransmit(at(9), seq(3_000), seq(4_000));
    assert_eq!(shape(&flight), [(0, 1_000, '.', 2), (1_000, 4_000, '.', 2), (4_000, 10_000, 'x', 1)]);
    flight.on_retransmit(at(10), seq(5_000), seq(6_000));
    assert_eq!(flight.first_lost(), Some((seq(4_000), seq(5_000))));
    assert_eq!(flight.first().unwrap().sent_at, at(9));
    flight.on_retransmit(at(11), seq(2_000), seq(2_000));
    flight.clear();
    assert_eq!(
        (shape(&flight), flight.bytes_in_flight(), flight.lost_bytes(), flight.first_lost()),
        (vec![], 0, 0, None)
    );
}

#[test]
fn transmissions_saturate() {
    let mut flight = ten();
    for _ in 0..300 {
        flight.on_retransmit(at(1_000), seq(0), seq(1_000));
    }
    assert_eq!(shape(&flight)[0], (0, 1_000, '.', u8::MAX));
}

#[test]
fn sack_marks_splits_and_joins() {
    let mut flight = ten();
    assert_eq!(flight.on_sack(at(1_000), &[block(2_000, 3_000), block(5_500, 7_000)]), 2_500);
    let expected = [
        (2_000, 3_000, 's', 1),
        (3_000, 4_000, '.', 1),
        (4_000, 5_000, '.', 1),
        (5_000, 5_500, '.', 1),
        (5_500, 7_000, 's', 1),
    ];
    assert_eq!(shape(&flight)[2..7], expected);
    assert_eq!(flight.bytes_in_flight(), 7_500);
    // The same again, and inside.
    assert_eq!(flight.on_sack(at(1_001), &[block(2_000, 3_000), block(5_500, 7_000), block(6_000, 6_500)]), 0);
    // Bridging: everything from 2,000 to 8,000 becomes one record.
    assert_eq!(flight.on_sack(at(1_002), &[block(2_500, 8_000)]), 3_500);
    assert_eq!(shape(&flight)[2..], [(2_000, 8_000, 's', 1), (8_000, 9_000, '.', 1), (9_000, 10_000, '.', 1)]);
    // A lost record that was SACKed is lost no more; retransmission leaves SACKed bytes alone.
    flight.mark_first_lost(1_000);
    flight.on_retransmit(at(1_003), seq(0), seq(3_000));
    assert_eq!(shape(&flight)[..3], [(0, 1_000, '.', 2), (1_000, 2_000, '.', 2), (2_000, 3_000, 's', 1)]);
    let acked = flight.on_ack(at(1_004), seq(9_000));
    assert_eq!((acked.bytes, flight.bytes_in_flight(), flight.delivered()), (9_000, 1_000, 9_000));
}

#[test]
fn implausible_sack_blocks_are_ignored() {
    let mut flight = ten();
    flight.on_ack(at(100), seq(1_000));
    let blocks = [block(0, 2_000), block(0, 500), block(9_000, 10_001), block(3_000, 3_000), block(4_000, 3_000)];
    assert_eq!(flight.on_sack(at(101), &blocks), 0);
    assert_eq!(flight.on_sack(at(101), &[SackBlock { left: seq(2_000), right: seq(2_000) + (1 << 31) }]), 0);
    assert_eq!(Flight::new().on_sack(at(101), &blocks), 0);
    assert_eq!((flight.bytes_in_flight(), flight.on_sack(at(102), &[block(1_000, 10_000)])), (9_000, 9_000));
}

#[test]
fn a_timeout_forgets_what_was_sacked_if_the_peer_reneged() {
    let mut flight = ten();
    flight.on_sack(at(1_000), &[block(5_000, 10_000)]);
    flight.mark_all_lost();
    assert_eq!((flight.lost_bytes(), flight.first_lost()), (5_000, Some((seq(0), seq(1_000)))));
    flight.check_invariants();
    // RFC 2018 §8: SND.UNA has come to what the peer said it had.
    flight.on_retransmit(at(1_500), seq(0), seq(5_000));
    flight.on_ack(at(1_600), seq(5_000));
    flight.mark_all_lost();
    assert_eq!((flight.lost_bytes(), flight.first_lost()), (5_000, Some((seq(5_000), seq(10_000)))));
    flight.check_invariants();
    let mut flight = ten();
    flight.on_sack(at(1_000), &[block(0, 1_000), block(5_000, 10_000)]);
    flight.mark_all_lost();
    assert_eq!((flight.lost_bytes(), flight.first_lost()), (10_000, Some((seq(0), seq(1_000)))));
    flight.check_invariants();
    flight.on_retransmit(at(2_000), seq(0), seq(10_000));
    flight.on_ack(at(3_000), seq(10_000));
    assert_eq!(flight.delivered(), 10_000, "nothing is delivered twice");
    let mut reneged = ten();
    reneged.on_sack(at(1_000), &[block(0, 3_000)]);
    reneged.mark_first_lost(500);
    reneged.mark_first_lost(500);
    assert_eq!(shape(&reneged)[..2], [(0, 500, 'x', 1), (500, 3_000, 's', 1)]);
}

#[test]
fn rate_samples_follow_the_draft() {
    // Two segments 10 µs apart, acknowledged one by one 100 µs later: 1,000 bytes per 10 µs once the pipe is full.
    let mut flight = ten();
    let first = flight.on_ack(at(100), seq(1_000)).rate;
    let expected =
        RateSample { delivered: 1_000, interval: us(100), prior_delivered: 0, app_limited: false, rtt: Some(us(100)) };
    assert_eq!(first, expected);
    flight.on_send(at(100), seq(10_000), seq(11_000), true);
    let second = flight.on_ack(at(110), seq(2_000)).rate;
    assert_eq!(
        second,
        RateSample { delivered: 2_000, interval: us(110), ..RateSample { rtt: Some(us(100)), ..expected } }
    );
    // Everything else at once: the newest record decides, sent when 1,000 bytes were delivered.
    let last = flight.on_ack(at(200), seq(11_000)).rate;
    let newest = RateSample {
        delivered: 10_000,
        interval: us(100),
        prior_delivered: 1_000,
        app_limited: true,
        rtt: Some(us(100)),
    };
    assert_eq!(last, newest);
    // Idle time is in no interval.
    flight.on_send(at(1_000_000), seq(11_000), seq(12_000), false);
    assert_eq!(flight.on_ack(at(1_000_100), seq(12_000)).rate.interval, us(100));
    // A SACK is a delivery; the sample comes with the ACK that carries it.
    let mut sacked = ten();
    sacked.on_sack(at(150), &[block(5_000, 6_000)]);
    let rate = sacked.on_ack(at(150), seq(0)).rate;
    assert_eq!(
        (rate.delivered, rate.rtt, sacked.on_ack(at(151), seq(0)).rate),
        (1_000, Some(us(100)), RateSample::default())
    );
}

#[test]
fn records_are_bounded() {
    let mut flight = Flight::new();
    for i in 0..10_000 {
        flight.on_send(at(u64::from(i)), seq(i), seq(i + 1), false);
    }
    assert_eq!((flight.len(), flight.bytes_in_flight()), (MAX_RECORDS, 10_000));
    flight.check_invariants();
    assert_eq!(flight.iter().last().unwrap().sent_at, at(4_095), "the older stamp stays");
    // Nothing can be split any more; marks stay consistent all the same.
    assert_eq!(flight.on_sack(at(20_000), &[block(5_000, 6_000)]), 0);
    flight.on_retransmit(at(20_000), seq(5_000), seq(5_001));
    flight.check_invariants();
    assert_eq!(flight.on_sack(at(20_000), &[block(4_095, 10_000)]), 5_905);
    flight.on_send(at(20_001), seq(10_000), seq(10_001), false);
    flight.check_invariants();
    flight.mark_all_lost();
    flight.on_send(at(20_002), seq(10_001), seq(10_002), false);
    flight.check_invariants();
    assert_eq!(flight.on_ack(at(30_000), seq(10_002)).bytes, 10_002);
    flight.trim();
    assert!(flight.records.capacity() <= 2 * IDLE_CAPACITY);
}

#[test]
fn hostile_sack_blocks_are_bounded() {
    let mut flight = Flight::new();
    flight.on_send(at(0), seq(0), seq(1 << 24), false);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let left = rng.u32(..(1 << 24) - 10);
        flight.on_sack(at(1), &[block(left, left + 1 + rng.u32(..9))]);
    }
    flight.check_invariants();
    assert!(flight.len() <= 2 * MAX_SACKED + 1, "{} records", flight.len());
}

/// One byte of the model.
#[derive(Clone, Copy, PartialEq)]
enum Byte {
    Flying,
    Lost,
    Sacked,
}

#[test]
fn random_operations_agree_with_a_map_of_bytes() {
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut flight, mut model, mut una, mut now) = (Flight::new(), Vec::<Byte>::new(), 0u32, 0u64);
        for step in 0..300 {
            now += rng.u64(..3);
            let len = u32::try_from(model.len()).unwrap();
            let (from, to) = (rng.u32(..=len), rng.u32(..=len));
            let (from, to) = (from.min(to), from.max(to));
            let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            match rng.u8(..8) {
                0..=2 => {
                    let more = rng.u32(..40);
                    flight.on_send(at(now), seq(una + len), seq(una + len + more), rng.bool());
                    model.resize(model.len() + usize::try_from(more).unwrap(), Byte::Flying);
                }
                3 => {
                    flight.on_retransmit(at(now), seq(una + from), seq(una + to));
                    model[range].iter_mut().filter(|b| **b == Byte::Lost).for_each(|b| *b = Byte::Flying);
                }
                4 => {
                    let newly = model[range.clone()].iter().filter(|b| **b != Byte::Sacked).count();
                    let seen = flight.on_sack(at(now), &[block(una + from, una + to)]);
                    assert_eq!(usize::try_from(seen).unwrap(), newly, "seed {seed} step {step}");
                    model[range].fill(Byte::Sacked);
                }
                5 if rng.u8(..4) == 0 => {
                    flight.mark_all_lost();
                    let reneged = model.first() == Some(&Byte::Sacked);
                    model.iter_mut().filter(|b| reneged || **b != Byte::Sacked).for_each(|b| *b = Byte::Lost);
                }
                5 => mark_first_lost(&mut flight, &mut model),
                _ => {
                    let ack = from / 2;
                    assert_eq!(flight.on_ack(at(now), seq(una + ack)).bytes, ack, "seed {seed} step {step}");
                    model.drain(..usize::try_from(ack).unwrap());
                    una += ack;
                }
            }
            flight.check_invariants();
            let seen: Vec<Byte> = flight
                .iter()
                .flat_map(|r| {
                    let mark = if r.sacked {
                        Byte::Sacked
                    } else if r.lost {
                        Byte::Lost
                    } else {
                        Byte::Flying
                    };
                    std::iter::repeat_n(mark, usize::try_from(r.len()).unwrap())
                })
                .collect();
            assert!(seen == model, "seed {seed} step {step}");
            assert!(flight.first().is_none_or(|r| r.start == seq(una)), "seed {seed} step {step}");
        }
    }
}

fn mark_first_lost(flight: &mut Flight, model: &mut [Byte]) {
    let Some(first) = flight.first().copied() else { return };
    flight.mark_first_lost(10);
    if !first.lost {
        let len = usize::try_from(first.len().min(10)).unwrap();
        model[..len].fill(Byte::Lost);
    }
}

/// RFC 8985 §6.2: what the window lets pass, and when the rest is due.
#[test]
fn what_was_overtaken_is_lost_after_the_window() {
    let mut flight = ten();
    // The round trip of what was delivered is 970 µs, so record 2 may take until 20 + 970 + 100.
    flight.on_sack(at(1_000), &[block(3_000, 4_000)]);
    assert_eq!(flight.detect_lost(at(1_000), us(100)), Some(at(1_090)));
    assert_eq!(flight.lost_bytes(), 0);
    assert_eq!(flight.detect_lost(at(1_070), us(100)), Some(at(1_090)));
    assert_eq!(shape(&flight)[..2], [(0, 1_000, 'x', 1), (1_000, 2_000, '.', 1)]);
    assert_eq!(flight.detect_lost(at(1_090), us(100)), None);
    assert_eq!((flight.first_lost(), flight.lost_bytes()), (Some((seq(0), seq(1_000))), 3_000));
    // What left after it is not judged.
    assert_eq!(shape(&flight)[4], (4_000, 5_000, '.', 1));
}

#[test]
fn a_burst_is_judged_by_its_order() {
    let mut flight = Flight::new();
    flight.on_send(at(0), seq(0), seq(10_000), false);
    flight.on_sack(at(500), &[block(4_000, 6_000)]);
    assert_eq!(flight.detect_lost(at(500), us(0)), None);
    assert_eq!(shape(&flight), [(0, 4_000, 'x', 1), (4_000, 6_000, 's', 1), (6_000, 10_000, '.', 1)]);
}

#[test]
fn a_lost_retransmission_is_found() {
    let mut flight = ten();
    flight.on_sack(at(1_000), &[block(3_000, 4_000)]);
    flight.detect_lost(at(1_000), us(0));
    flight.on_retransmit(at(1_000), seq(0), seq(1_000));
    flight.on_retransmit(at(1_010), seq(1_000), seq(2_000));
    // Nothing that left after the retransmissions has arrived.
    flight.on_sack(at(1_020), &[block(3_000, 10_000)]);
    flight.detect_lost(at(1_020), us(0));
    assert_eq!((flight.first_lost(), flight.lost_bytes()), (Some((seq(2_000), seq(3_000))), 1_000));
    // The second retransmission has.
    flight.on_sack(at(2_010), &[block(1_000, 2_000)]);
    flight.detect_lost(at(2_010), us(0));
    assert_eq!(shape(&flight)[0], (0, 1_000, 'x', 2));
}

#[test]
fn an_answer_too_early_for_a_retransmission_judges_nothing() {
    // RFC 8985 §6.2 step 2: it is the answer to the first transmission.
    let mut flight = ten();
    flight.on_sack(at(1_000), &[block(3_000, 4_000)]);
    flight.detect_lost(at(1_000), us(0));
    flight.on_retransmit(at(1_000), seq(0), seq(1_000));
    flight.on_ack(at(1_100), seq(1_000));
    flight.detect_lost(at(1_100), us(0));
    assert_eq!(shape(&flight).last(), Some(&(9_000, 10_000, '.', 1)));
}

#[test]
fn the_window_of_a_path_that_reorders() {
    // srtt, certain, reordered, duplicates reported; window. The shortest round trip is 400 µs.
    const CASES: &[(Option<u64>, bool, bool, usize, u64)] = &[
        (None, true, false, 0, 0),
        (None, false, false, 0, 100),
        (None, true, true, 0, 100),
        (Some(1_000), true, true, 2, 300),
        (Some(250), true, true, 2, 250),
    ];
    for &(srtt, certain, reordered, duplicates, window) in CASES {
        let mut flight = Flight::new();
        for i in 0..4 {
            flight.on_send(at(i), seq(i as u32 * 1_000), seq(i as u32 * 1_000 + 1_000), false);
        }
        flight.on_sack(at(402), &[block(2_000, 3_000)]);
        if reordered {
            flight.on_sack(at(403), &[block(1_000, 2_000)]);
        }
        let rack = flight.rack();
        for i in 0..duplicates as u32 {
            // Once a round trip.
            rack.on_acknowledged(seq(i * 1_000));
            rack.on_duplicate_report(seq(i * 1_000 + 500));
            rack.on_acknowledged(seq(i * 1_000 + 499));
            rack.on_duplicate_report(seq(i * 1_000 + 900));
        }
        assert_eq!(rack.window(certain, srtt.map(us)), us(window), "{srtt:?} {certain} {reordered} {duplicates}");
        (0..16).for_each(|_| rack.on_recovery_exit());
        let calm = if certain && !reordered { 0 } else { 100 };
        assert_eq!(rack.window(certain, None), us(calm));
    }
}

#[test]
fn a_report_widens_the_window_after_two_gibibytes_too() {
    let mut flight = ten();
    flight.on_sack(at(1_000), &[block(3_000, 4_000)]);
    flight.on_sack(at(1_001), &[block(1_000, 2_000)]);
    let wide = |flight: &mut Flight, end| {
        flight.rack().on_duplicate_report(end);
        flight.rack().window(true, Some(us(100_000)))
    };
    let first = wide(&mut flight, seq(10_000));
    assert_eq!(wide(&mut flight, seq(10_000)), first, "once a round trip");
    flight.on_ack(at(2_000), seq(10_000));
    let una = seq(10_000) + (1 << 31) - 1;
    assert!(wide(&mut flight, una + 500) > first);
}

#[test]
fn many_records_are_judged_once_a_segment() {
    let mut flight = Flight::new();
    for i in 0..1_100u32 {
        flight.on_send(at(u64::from(i)), seq(i * 1_000), seq(i * 1_000 + 1_000), false);
    }
    let mut judged = 0;
    for i in 0..1_000 {
        flight.on_sack(at(2_000 + u64::from(i)), &[block(90_000 + i, 90_001 + i)]);
        judged += u32::from(flight.is_worth_judging(100));
    }
    assert_eq!(judged, 10);
    assert!(ten().is_worth_judging(100), "few");
}
