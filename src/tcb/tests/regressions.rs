//! What once went wrong, named for the symptom.

use super::puppet::{Puppet, User, plain};
use super::*;
use crate::config::StackConfig;
use crate::tcb::congestion::Congestion as _;
use crate::wire::{IcmpKind, Segment, seg};

const SECOND: Duration = Duration::from_secs(1);

fn scaled() -> StackConfig {
    StackConfig { window_scaling: true, ..plain() }
}

#[test]
fn the_window_of_a_syn_ack_with_text_is_not_scaled() {
    // RFC 7323 §2.2; also at the end of a simultaneous open (xarxa 002).
    let mut puppet = Puppet::connecting(scaled());
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 500, ws 7, len 10)]);
    assert_eq!((puppet.open().snd.wnd, puppet.open().snd.max_wnd), (500, 500));
    let mut puppet = Puppet::connecting(scaled());
    puppet.after(&[seg!(syn, seq 0, wnd 500, ws 7), seg!(syn, ack 101, seq 0, wnd 500, ws 7)]);
    assert_eq!((puppet.open().snd.wnd, puppet.open().snd.max_wnd), (500, 500));
    puppet.after(&[seg!(ack 101, seq 1, wnd 500)]);
    assert_eq!(puppet.open().snd.wnd, 500 << 7);
}

#[test]
fn a_syn_ack_in_the_turn_of_the_syn_is_no_round_trip_sample() {
    let mut puppet = Puppet::connecting(plain());
    let _ = puppet.arrive(&seg!(syn, seq 0, wnd 500));
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 500)]);
    assert_eq!(puppet.open().rtt.srtt(), None);
}

#[test]
fn a_repeated_syn_makes_the_round_trip_ambiguous() {
    // RFC 6298 §3 (Karn)
    let mut puppet = Puppet::half_open(plain(), &seg!(syn, seq 0, wnd 1000));
    puppet.now = puppet.now + SECOND / 2;
    assert_eq!(puppet.answer(&seg!(syn, seq 0, wnd 1000)).len(), 1);
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000)]);
    assert_eq!(puppet.open().rtt.srtt(), None);
}

#[test]
fn a_listener_s_mss_option_holds_for_what_it_accepts() {
    let mut config = plain();
    config.socket.mss = Some(500);
    assert_eq!(Puppet::established(config).open().snd.mss, 500);
}

#[test]
fn a_lost_syn_ack_means_an_initial_window_of_one_segment() {
    // RFC 5681 §3.1
    assert_eq!(Puppet::established(plain()).open().congestion.cwnd(), 14_600);
    let mut puppet = Puppet::half_open(plain(), &seg!(syn, seq 0, wnd 1000, mss 1460));
    assert_eq!(puppet.wait(SECOND).len(), 1);
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000)]);
    assert_eq!(puppet.open().congestion.cwnd(), 1_460);
    let mut puppet = Puppet::connecting(plain());
    assert_eq!(puppet.wait(SECOND).len(), 1);
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 1000, mss 1460)]);
    assert_eq!(puppet.open().congestion.cwnd(), 1_460);
}

#[test]
fn a_lost_syn_shrinks_only_the_first_window() {
    // RFC 5681 §4.1: RW = min(IW, cwnd); Linux: tcp_cwnd_restart knows nothing of the SYN.
    let mut puppet = Puppet::connecting(plain());
    puppet.wait(SECOND);
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 60000, mss 1460)]);
    let mut una = 101;
    while puppet.open().congestion.cwnd() < 20_000 {
        let cwnd = puppet.open().congestion.cwnd();
        puppet.write(cwnd as usize);
        puppet.sent();
        una += cwnd;
        puppet.after(&[seg!(ack una, seq 1, wnd 60000)]);
    }
    puppet.wait(SECOND * 60);
    puppet.write(1);
    assert_eq!(puppet.sent().len(), 1);
    assert_eq!(puppet.open().congestion.cwnd(), 14_600);
}

#[test]
fn a_simultaneous_open_keeps_what_syn_sent_knew() {
    // RFC 5482 (the user timeout counts from the connect) and RFC 1191 (a report that quoted our SYN).
    let mut config = plain();
    config.socket.user_timeout = Some(SECOND * 4);
    let crossed = || {
        let mut puppet = Puppet::connecting(config.clone());
        puppet.end.with(puppet.now, |tcb, cx| tcb.on_icmp(cx, Seq::new(100), IcmpKind::PacketTooBig { mtu: 1000 }));
        puppet.after(&[seg!(syn, seq 0, wnd 1000, mss 1460)]);
        assert_eq!(puppet.end.tcb.state(), State::SynReceived);
        puppet
    };
    let mut puppet = crossed();
    puppet.after(&[seg!(syn, ack 101, seq 0, wnd 1000)]);
    assert_eq!(puppet.open().snd.mss, 960);
    let mut puppet = crossed();
    let due = puppet.now + SECOND * 4;
    puppet.wait(SECOND * 4);
    assert_eq!((puppet.now, puppet.end.tcb.is_closed()), (due, true));
    assert_eq!(puppet.user().1, User::Error(ConnError::TimedOut));
}

#[test]
fn whatever_ends_a_half_open_connection_from_our_side_is_told_to_the_peer() {
    // RFC 9293 §3.10.5, ABORT in SYN-RECEIVED: <SEQ=SND.NXT><CTL=RST>
    for end in [Tcb::abort as fn(&mut Tcb, &mut Cx<'_>), Tcb::last_gasp] {
        let mut puppet = Puppet::half_open(plain(), &seg!(syn, seq 0, wnd 1000));
        puppet.end.with(puppet.now, end);
        puppet.end.with(puppet.now, end);
        assert_eq!((puppet.end.tcb.is_closed(), puppet.end.tcb.next_deadline()), (false, None));
        assert_eq!(puppet.answer(&seg!(ack 101, seq 1, wnd 1000)), [seg!(rst, ack 1, seq 101, wnd 0)]);
        assert_eq!((puppet.end.tcb.is_closed(), puppet.end.stats.resets_out), (true, 1));
    }
}

#[test]
fn an_acknowledgment_that_comes_late_still_gives_memory_back() {
    let mut puppet = Puppet::established(plain());
    puppet.write(1_000);
    puppet.sent();
    // The fifth retransmission waits longer than the idle time.
    puppet.wait(SECOND * 17);
    assert!(puppet.open().timers.retransmit.is_some());
    assert_eq!(puppet.open().timers.idle, None);
    puppet.after(&[seg!(ack 1101, seq 1, wnd 1000)]);
    assert_eq!(puppet.open().timers.idle, Some(puppet.now + SECOND * 5));
}

/// The peer has closed its window; our probe byte at 101 is out, refused.
fn probing() -> Puppet {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 0)]);
    puppet.write(5_000);
    assert_eq!(puppet.sent(), []);
    assert_eq!(puppet.wait(SECOND * 3 / 10), [seg!(seq 101, ack 1, wnd 1000, len 1)]);
    puppet
}

#[test]
fn acks_while_probing_are_acceptable_to_a_peer_with_a_closed_window() {
    // RFC 9293 §3.4: with RCV.WND = 0 only SEG.SEQ = RCV.NXT is acceptable, and the refused byte has not moved RCV.NXT.
    // Two peers that probe each other would otherwise never see each other's ACKs (as Linux's tcp_acceptable_seq).
    let mut puppet = probing();
    assert_eq!(puppet.answer(&seg!(ack 101, seq 1, wnd 0, len 10)), [seg!(seq 101, ack 11, wnd 990)]);
    // Shrunk below what is in flight: the edge of the window is the last acceptable number.
    let mut puppet = Puppet::established(plain());
    puppet.write(1_000);
    assert_eq!(puppet.sent().len(), 1);
    assert_eq!(puppet.answer(&seg!(ack 101, seq 1, wnd 300, len 10)), [seg!(seq 401, ack 11, wnd 990)]);
}

#[test]
fn answers_to_probes_are_no_duplicate_acks() {
    let mut puppet = probing();
    for _ in 0..5 {
        puppet.after(&[seg!(ack 101, seq 1, wnd 0)]);
    }
    let open = puppet.open();
    assert_eq!((open.recovery.is_active(), open.congestion.ssthresh()), (false, u32::MAX));
}

#[test]
fn text_refused_by_our_closed_window_is_no_duplicate_ack() {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 1000)]);
    puppet.write(900);
    puppet.sent();
    for _ in 0..5 {
        puppet.after(&[seg!(ack 101, seq 1001, wnd 1000, len 1)]);
    }
    assert!(!puppet.open().recovery.is_active());
}

#[test]
fn a_small_window_that_moves_does_not_repeat_what_is_in_flight() {
    // A peer whose buffer is smaller than a segment: nothing was refused, nothing is lost.
    let mut config = plain();
    config.socket.nodelay = true;
    let mut puppet = Puppet::established(config);
    puppet.write(400);
    puppet.sent();
    puppet.write(400);
    puppet.sent();
    assert_eq!(puppet.answer(&seg!(ack 501, seq 1, wnd 1000)), []);
    assert_eq!(puppet.end.stats.retransmits, 0);
}

#[test]
fn a_window_that_reopens_gets_the_refused_byte_at_once_and_a_fresh_timer() {
    let mut puppet = probing();
    puppet.wait(SECOND * 60);
    let sent = puppet.answer(&seg!(ack 101, seq 1, wnd 5000));
    assert_eq!(sent.first(), Some(&seg!(seq 101, ack 1, wnd 1000, len 1)));
    let due = puppet.open().timers.retransmit.unwrap();
    assert!(due.since(puppet.now) <= SECOND * 2, "{:?}", due.since(puppet.now));
}

#[test]
fn a_bare_fin_is_taken_although_our_window_is_closed() {
    // A FIN needs no room; a peer that repeats it until then would wait for our user for ever (as Linux's tcp_data_queue).
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 1000)]);
    assert_eq!(puppet.answer(&seg!(fin, ack 101, seq 1001, wnd 1000)), [seg!(seq 101, ack 1002)]);
    assert_eq!((puppet.end.tcb.state(), puppet.user()), (State::CloseWait, (1000, User::Eof)));
}

#[test]
fn a_fin_out_of_order_gets_its_duplicate_ack() {
    // RFC 5681 §4.2
    let mut puppet = Puppet::established(plain());
    assert_eq!(puppet.answer(&seg!(fin, ack 101, seq 11, wnd 1000)), [seg!(seq 101, ack 1, wnd 1000)]);
    assert_eq!(puppet.answer(&seg!(ack 101, seq 1, wnd 1000, len 10)), [seg!(seq 101, ack 12, wnd 989)]);
    assert_eq!(puppet.end.tcb.state(), State::CloseWait);
}

#[test]
fn a_partial_repetition_is_answered_once_with_the_new_number() {
    let mut config = plain();
    config.socket.quickack = false;
    let mut puppet = Puppet::established(config);
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 10)]);
    let sent = puppet.answer(&seg!(ack 101, seq 6, wnd 1000, len 10));
    assert_eq!(sent, [seg!(seq 101, ack 16, wnd 985)]);
}

#[test]
fn a_wrong_ack_does_not_poison_the_timestamp() {
    // reliability.md A21: what PAWS compares with comes from segments that pass every check.
    let config = StackConfig { timestamps: true, ..plain() };
    let mut puppet = Puppet::half_open(config, &seg!(syn, seq 0, wnd 1000, ts(10, 0)));
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, ts(11, 0))]);
    puppet.after(&[seg!(ack 5000, seq 1, wnd 1000, ts(1 << 30, 0), len 1)]);
    assert_eq!(puppet.open().timestamps.unwrap().recent, 11);
}

#[test]
fn a_syn_without_timestamps_is_challenged() {
    // RFC 5961 §4.2: a rebooted peer learns from the challenge that we are still here.
    let config = StackConfig { timestamps: true, ..plain() };
    let mut puppet = Puppet::half_open(config, &seg!(syn, seq 0, wnd 1000, ts(10, 0)));
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, ts(11, 0))]);
    assert_eq!(puppet.answer(&seg!(syn, seq 7000, wnd 1000)).len(), 1);
}

#[test]
fn a_connection_being_made_when_the_reactor_dies_hears_network_down() {
    let mut puppet = Puppet::connecting(plain());
    let now = puppet.now;
    puppet.end.with(now, |tcb, cx| tcb.last_gasp(cx));
    assert_eq!(puppet.user().1, User::Error(crate::error::ConnError::NetworkDown));
}

#[test]
fn text_for_an_orphan_with_a_closed_window_is_reset() {
    // RFC 9293 §3.6.1; not zero-window ACKs for ever (DragonOS #1900)
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 1000)]);
    puppet.user();
    // The order to read has not been taken: the promise is still spent.
    puppet.end.user = None;
    let now = puppet.now;
    let seg: Segment<'static> = seg!(ack 101, seq 1001, wnd 1000, len 1);
    puppet.end.with(now, |tcb, cx| {
        tcb.on_orders(cx);
        assert_eq!(tcb.on_segment(cx, &seg), Verdict::Reset);
    });
}

#[test]
fn the_ack_that_ends_recovery_does_not_grow_the_window() {
    // RFC 6675 §5: cwnd is half of what was in flight, before and after.
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 60_000)]);
    puppet.write(50_000);
    let sent = puppet.sent();
    assert_eq!(sent.len(), 10);
    for at in 1..=9 {
        puppet.after(&[seg!(ack 101, seq 1, wnd 60_000, sack(1561..1561 + 1460 * at))]);
    }
    assert!(puppet.open().recovery.is_active());
    let nxt = puppet.open().snd.nxt;
    puppet.after(&[seg!(ack nxt.raw(), seq 1, wnd 60_000)]);
    let open = puppet.open();
    assert!(!open.recovery.is_active());
    assert_eq!(open.congestion.cwnd(), 5 * 1_460);
}

#[test]
fn duplicates_of_an_earlier_number_tell_the_same_edge() {
    let mut puppet = Puppet::established(plain());
    let _ = puppet.arrive(&seg!(ack 101, seq 11, wnd 1000, len 10));
    let sent = puppet.answer(&seg!(ack 101, seq 1, wnd 1000, len 10));
    let edges: Vec<u32> = sent.iter().map(|seg| seg.ack.raw() + u32::from(seg.wnd)).collect();
    assert_eq!(edges, [1001, 1001], "{sent:?}");
}

#[test]
fn what_sack_takes_out_of_the_flight_does_not_inflate_the_window_too() {
    // RFC 6675 §5: with SACK the pipe shrinks with each duplicate; inflating cwnd as well would send two for each one.
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 60_000)]);
    puppet.write(50_000);
    assert_eq!(puppet.sent().len(), 10);
    for at in 1..=9 {
        puppet.after(&[seg!(ack 101, seq 1, wnd 60_000, sack(1561..1561 + 1460 * at))]);
    }
    let open = puppet.open();
    assert_eq!(open.congestion.ssthresh(), 5 * 1_460);
    assert!(open.flight.bytes_in_flight() <= 5 * 1_460, "{}", open.flight.bytes_in_flight());
    // A partial ACK deflates nothing that was not inflated.
    puppet.after(&[seg!(ack 1561, seq 1, wnd 60_000, sack(3021..1561 + 1460 * 9))]);
    assert_eq!(puppet.open().congestion.cwnd(), 5 * 1_460);
}

#[test]
fn an_orphan_dies_although_its_closed_window_is_acknowledged() {
    // reliability.md A14; the connection of a living user does not.
    for orphan in [true, false] {
        let mut puppet = Puppet::established(plain());
        puppet.after(&[seg!(ack 101, seq 1, wnd 0)]);
        puppet.write(5_000);
        if orphan {
            puppet.end.close(puppet.now);
        }
        puppet.sent();
        let begin = puppet.now;
        while !puppet.end.tcb.is_closed() && puppet.now.since(begin) < SECOND * 24 * 3600 {
            puppet.now = puppet.end.tcb.next_deadline().unwrap();
            let now = puppet.now;
            puppet.end.with(now, |tcb, cx| tcb.on_timeout(cx));
            puppet.sent();
            puppet.after(&[seg!(ack 101, seq 1, wnd 0)]);
        }
        assert_eq!(puppet.end.tcb.is_closed(), orphan);
        assert!(!orphan || puppet.now.since(begin) <= SECOND * 130, "{:?}", puppet.now.since(begin));
    }
}

#[test]
fn every_packet_of_a_large_segment_fits_the_mtu() {
    // tailscale#20026: segments above the MSS. Options count, SACK blocks too.
    for mtu in [68, 88, 100, 300, 576, 1500, 9000] {
        for timestamps in [false, true] {
            for holes in 0..5u32 {
                let mut puppet = Puppet::new(StackConfig { timestamps, ..plain() });
                puppet.end.path = Path { mtu, max_large: Some(65_535) };
                let stamp = |mut seg: Segment<'static>| {
                    seg.options.timestamps = timestamps.then_some(crate::wire::Timestamps { val: 1, ecr: 0 });
                    seg
                };
                puppet.after(&[
                    stamp(seg!(syn, seq 0, wnd 60_000, mss 9000, sackok)),
                    stamp(seg!(ack 101, seq 1, wnd 60_000)),
                ]);
                for hole in 0..holes {
                    puppet.after(&[stamp(seg!(ack 101, seq 11 + 20 * hole, wnd 60_000, len 1))]);
                }
                puppet.write(50_000);
                let now = puppet.now;
                let mut bytes = 0;
                while let Some(transmission) = puppet.end.with(now, |tcb, cx| tcb.poll_transmit(cx)) {
                    let mut header = [0; crate::wire::MAX_HEADER];
                    let (len, _) = crate::wire::emit_tcp(&mut header, &transmission.header, [&[], &[]], false);
                    let text = transmission.segment_size.map_or(transmission.len, usize::from);
                    assert!(len + text <= mtu, "{len} + {text} > {mtu}, timestamps {timestamps}, {holes} holes");
                    assert!(len + transmission.len <= 65_535);
                    bytes += transmission.len;
                }
                assert!(bytes > 0);
            }
        }
    }
}

#[test]
fn too_big_packets_are_sent_again_in_pieces_that_fit() {
    // RFC 8201 §4, RFC 1191 §3: not congestion; only for what is in flight, only downwards.
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 60_000)]);
    puppet.write(14_600);
    assert_eq!(puppet.sent().len(), 10);
    let now = puppet.now;
    for (seq, mtu, pieces) in [(50, 576, 0), (14_701, 576, 0), (101, 1500, 0), (101, 1000, 15), (101, 1400, 0)] {
        puppet.end.with(now, |tcb, cx| tcb.on_icmp(cx, Seq::new(seq), IcmpKind::PacketTooBig { mtu }));
        let sent = puppet.sent();
        assert!(sent.iter().all(|seg| seg.payload.len() <= 960), "{seq} {mtu}");
        // cwnd shrinks in proportion: it is the same number of packets.
        assert_eq!(sent.len().min(pieces), sent.len().min(10), "{seq} {mtu}: {}", sent.len());
    }
    assert_eq!(puppet.end.stats.timeouts, 0);
}

#[test]
fn keepalive_probes_before_it_kills() {
    // RFC 9293 §3.8.4, reliability.md F12
    let mut config = plain();
    config.socket.keepalive = true;
    let mut puppet = Puppet::established(config);
    assert_eq!(puppet.wait(SECOND * 7199), []);
    assert_eq!(puppet.wait(SECOND), [seg!(seq 100, ack 1, wnd 1000)]);
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000)]);
    assert_eq!(puppet.wait(SECOND * 7199), []);
    assert_eq!(puppet.wait(SECOND + SECOND * 75 * 8).len(), 9);
    assert_eq!(puppet.wait(SECOND * 75), [seg!(rst, seq 101, ack 1, wnd 1000)]);
    assert_eq!(puppet.user().1, User::Error(crate::error::ConnError::TimedOut));
}

#[test]
fn the_user_timeout_counts_from_the_oldest_unanswered_byte() {
    // RFC 5482; in persist too (reliability.md A14)
    for wnd in [0, 1000] {
        let mut config = plain();
        config.socket.user_timeout = Some(SECOND * 5);
        let mut puppet = Puppet::established(config);
        puppet.after(&[seg!(ack 101, seq 1, wnd wnd)]);
        puppet.wait(SECOND * 100);
        puppet.write(100);
        puppet.sent();
        puppet.wait(SECOND * 4);
        puppet.write(100);
        puppet.wait(SECOND * 99 / 100);
        assert!(!puppet.end.tcb.is_closed(), "window {wnd}");
        puppet.wait(SECOND / 50);
        assert!(puppet.end.tcb.is_closed(), "window {wnd}");
        assert_eq!(puppet.user().1, User::Error(crate::error::ConnError::TimedOut));
    }
}

#[test]
fn one_timeout_for_one_jump_of_the_clock() {
    // reliability.md F13
    let mut puppet = Puppet::established(StackConfig { tail_loss_probe: false, ..plain() });
    puppet.write(100);
    puppet.sent();
    puppet.now = puppet.now + SECOND * 3600 * 24 * 30;
    let now = puppet.now;
    puppet.end.with(now, |tcb, cx| tcb.on_timeout(cx));
    assert_eq!((puppet.sent().len(), puppet.end.stats.timeouts), (1, 1));
    assert!(puppet.end.tcb.next_deadline().is_some_and(|at| at > now));
}

#[test]
fn a_user_timeout_that_passes_while_the_machine_sleeps_allows_one_more_try() {
    // reliability.md F13: the peer did not go away. Linux: retransmits_timed_out
    for answered in [true, false] {
        let mut config = plain();
        config.socket.user_timeout = Some(SECOND * 30);
        let mut puppet = Puppet::established(config);
        puppet.write(100);
        puppet.sent();
        puppet.now = puppet.now + SECOND * 3600;
        let now = puppet.now;
        puppet.end.with(now, |tcb, cx| tcb.on_timeout(cx));
        assert_eq!((puppet.sent().len(), puppet.end.tcb.is_closed()), (1, false));
        if answered {
            puppet.after(&[seg!(ack 201, seq 1, wnd 1000)]);
        }
        puppet.wait(SECOND * 30);
        assert_eq!(puppet.end.tcb.is_closed(), !answered);
    }
}

#[test]
fn a_drop_in_the_turn_of_a_gap_sends_its_duplicates_once() {
    // Simulation, wide seed 7171: the ACK in front of the RST left duplicates owed, and was sent for ever.
    let mut puppet = Puppet::established(plain());
    let now = puppet.now;
    let _ = puppet.arrive(&seg!(ack 101, seq 1, wnd 1000, len 10));
    let _ = puppet.arrive(&seg!(ack 101, seq 21, wnd 1000, len 10));
    puppet.end.close(now);
    let sent: Vec<_> = puppet.sent().iter().map(|seg| (seg.ack, seg.has(Flags::RST))).collect();
    // What is new, its duplicate, the end.
    assert_eq!(sent, [(Seq::new(11), false), (Seq::new(11), false), (Seq::new(11), true)]);
    assert!(puppet.end.tcb.is_closed());
}

#[test]
fn a_fin_waits_for_the_window_and_is_repeated() {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 0)]);
    puppet.end.shutdown(puppet.now);
    assert_eq!(puppet.sent(), []);
    let fin = seg!(fin, seq 101, ack 1, wnd 1000);
    // As a probe, then as a retransmission, then because the window has opened.
    assert_eq!(puppet.wait(SECOND * 3 / 10), [fin]);
    assert_eq!(puppet.wait(SECOND / 2), [fin]);
    assert_eq!(puppet.answer(&seg!(ack 101, seq 1, wnd 1000)), [fin]);
    assert_eq!(puppet.wait(SECOND * 3 / 10), [fin]);
    puppet.after(&[seg!(ack 102, seq 1, wnd 1000)]);
    assert_eq!(puppet.end.tcb.state(), State::FinWait2);
}

#[test]
fn text_and_fin_acknowledged_in_parts() {
    let mut puppet = Puppet::established(plain());
    puppet.write(10);
    puppet.end.shutdown(puppet.now);
    assert_eq!(puppet.sent(), [seg!(fin, psh, seq 101, ack 1, wnd 1000, len 10)]);
    puppet.after(&[seg!(ack 106, seq 1, wnd 1000)]);
    assert_eq!(puppet.wait(SECOND / 4), [seg!(fin, psh, seq 106, ack 1, wnd 1000, len 5)]);
    puppet.after(&[seg!(ack 111, seq 1, wnd 1000)]);
    assert_eq!((puppet.end.tcb.state(), puppet.end.tcb.unacked()), (State::FinWait1, 1));
    assert_eq!(puppet.wait(SECOND / 2), [seg!(fin, seq 111, ack 1, wnd 1000)]);
    puppet.after(&[seg!(ack 112, seq 1, wnd 1000)]);
    assert_eq!((puppet.end.tcb.state(), puppet.end.tcb.unacked()), (State::FinWait2, 0));
}

/// Ten segments of 1,000 bytes are in flight to a peer that sends SACK blocks.
fn ten_in_flight() -> Puppet {
    let mut puppet = Puppet::half_open(plain(), &seg!(syn, seq 0, wnd 60000, mss 1000, sackok));
    puppet.after(&[seg!(ack 101, seq 1, wnd 60000)]);
    puppet.write(50_000);
    assert_eq!(puppet.sent().len(), 10);
    puppet
}

#[test]
fn each_sacked_segment_lets_one_go_at_most() {
    // RFC 3042 and RFC 5681 §3.2 without SACK; with it the flight shrinks and nothing is added to cwnd.
    let mut puppet = ten_in_flight();
    let mut sent = Vec::new();
    for arrived in 1..=11 {
        let right = 1_101 + 1_000 * arrived;
        sent.push(puppet.answer(&seg!(ack 101, seq 1, wnd 60000, sack(1_101..right))).len());
    }
    // Two beyond the loss, the lost one, then one for every second (RFC 9937) until half of what was in flight is left.
    assert_eq!(sent, [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1]);
}

#[test]
fn duplicates_with_sack_blocks_count_whatever_their_window_says() {
    // RFC 6675 §2. Linux tunes its window all the time; by RFC 5681's definition none of these is a duplicate.
    let mut puppet = ten_in_flight();
    puppet.after(&[
        seg!(ack 101, seq 1, wnd 60010, sack(1_101..2_101)),
        seg!(ack 101, seq 1, wnd 60020, sack(1_101..3_101)),
    ]);
    let sent = puppet.answer(&seg!(ack 101, seq 1, wnd 60030, sack(1_101..4_101)));
    assert_eq!(sent.first().map(|seg| seg.seq), Some(Seq::new(101)));
}

#[test]
fn one_ack_that_reports_three_segments_is_three_duplicates() {
    // Linux compresses SACKs (tcp_comp_sack_nr), and ACKs are lost.
    let mut puppet = ten_in_flight();
    let sent = puppet.answer(&seg!(ack 101, seq 1, wnd 60000, sack(1_101..4_101)));
    assert_eq!(sent.first().map(|seg| seg.seq), Some(Seq::new(101)));
    // Reported again it says nothing new, and two segments don't make three.
    assert_eq!(puppet.answer(&seg!(ack 101, seq 1, wnd 60001, sack(1_101..4_101))), []);
    let mut puppet = ten_in_flight();
    let sent = puppet.answer(&seg!(ack 101, seq 1, wnd 60000, sack(1_101..3_101)));
    assert!(sent.iter().all(|seg| seg.seq.is_at_or_after(Seq::new(10_101))));
}

/// The snapshot of the first moment may stay for long: at the end of the turn the user may just be copying it, and then nothing
/// may happen.
#[test]
fn a_connection_is_shown_as_established_from_its_first_moment() {
    let mut puppet = Puppet::half_open(plain(), &seg!(syn, seq 0, wnd 1000, mss 1460, sackok));
    let _ = puppet.arrive(&seg!(ack 101, seq 1, wnd 1000));
    let (info, ..) = puppet.end.user.as_ref().unwrap().info();
    assert_eq!((info.state, info.mss, info.irs), (State::Established, 1_460, Some(Seq::new(0))));
    assert!(info.cwnd > 0 && info.rto > Duration::ZERO);
}

/// The turn of the reactor takes orders, then receives, then transmits.
fn what_leaves_in_the_turn_of_the_drop(puppet: &mut Puppet, seg: &Segment<'_>) -> Vec<Segment<'static>> {
    let now = puppet.now;
    puppet.end.close(now);
    puppet.answer(seg)
}

#[test]
fn text_in_the_turn_of_a_drop_does_not_swallow_what_was_written() {
    // Linux's write has sent it by then.
    let mut puppet = Puppet::established(plain());
    puppet.write(100);
    let sent = what_leaves_in_the_turn_of_the_drop(&mut puppet, &seg!(ack 101, seq 1, wnd 1000, len 10));
    assert_eq!(sent.iter().map(|seg| seg.text_len()).sum::<u32>(), 100, "{sent:?}");
}

#[test]
fn text_in_the_turn_of_a_drop_that_resets_does_not_swallow_what_was_written() {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 10)]);
    puppet.write(100);
    let sent = what_leaves_in_the_turn_of_the_drop(&mut puppet, &seg!(ack 101, seq 11, wnd 1000, len 10));
    assert_eq!(sent.iter().map(|seg| seg.text_len()).sum::<u32>(), 100, "{sent:?}");
}

#[test]
fn a_fin_in_the_turn_of_a_drop_with_unread_text_is_no_clean_end() {
    let mut puppet = Puppet::established(plain());
    let now = puppet.now;
    puppet.end.shutdown(now);
    puppet.sent();
    puppet.after(&[seg!(ack 102, seq 1, wnd 1000, len 10)]);
    assert_eq!(puppet.end.tcb.state(), State::FinWait2);
    let sent = what_leaves_in_the_turn_of_the_drop(&mut puppet, &seg!(fin, ack 102, seq 11, wnd 1000));
    assert!(sent.iter().any(|seg| seg.has(Flags::RST)), "{:?} {sent:?}", puppet.end.tcb.state());
}

#[test]
fn an_ack_in_the_turn_of_a_drop_with_unread_text_is_no_clean_end() {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(fin, ack 101, seq 1, wnd 1000, len 10)]);
    let now = puppet.now;
    puppet.end.shutdown(now);
    puppet.sent();
    assert_eq!(puppet.end.tcb.state(), State::LastAck);
    let sent = what_leaves_in_the_turn_of_the_drop(&mut puppet, &seg!(ack 102, seq 12, wnd 1000));
    assert!(sent.iter().any(|seg| seg.has(Flags::RST)), "{:?} {sent:?}", puppet.end.tcb.state());
}

/// The probe is due, the device takes nothing in this turn, and before the next transmission an ACK arrives.
fn tail_probe_owed_and_not_sent(puppet: &mut Puppet) {
    let at = puppet.open().timers.tail_probe.expect("armed");
    puppet.now = at;
    puppet.end.with(at, |tcb, cx| tcb.on_timeout(cx));
    assert!(puppet.open().tail_probe_owed);
}

#[test]
fn a_tail_probe_that_has_nothing_left_does_not_keep_the_fin_back() {
    let mut puppet = Puppet::established(plain());
    puppet.write(100);
    puppet.sent();
    tail_probe_owed_and_not_sent(&mut puppet);
    let _ = puppet.arrive(&seg!(ack 201, seq 1, wnd 1000));
    puppet.sent();
    let now = puppet.now;
    puppet.end.shutdown(now);
    let sent = puppet.sent();
    assert!(sent.iter().any(|seg| seg.has(Flags::FIN)), "{sent:?} {:?}", puppet.open().tail_probe_owed);
}

#[test]
fn a_tail_probe_that_has_nothing_left_does_not_keep_retransmissions_back() {
    let mut puppet = Puppet::established(plain());
    puppet.after(&[seg!(ack 101, seq 1, wnd 60_000)]);
    puppet.write(14_600);
    puppet.sent();
    tail_probe_owed_and_not_sent(&mut puppet);
    let _ = puppet.arrive(&seg!(ack 101, seq 1, wnd 60_000, sack(1561..14_701)));
    let sent = puppet.sent();
    assert!(puppet.open().flight.lost_bytes() > 0 || !sent.is_empty());
    assert!(sent.iter().any(|seg| seg.seq.raw() == 101), "{sent:?} lost {}", puppet.open().flight.lost_bytes());
}

#[test]
fn what_many_records_left_unjudged_is_judged_by_the_timer() {
    let config = StackConfig { initial_window: 1_200, ..plain() };
    let mut puppet = Puppet::half_open(config, &seg!(syn, seq 0, wnd 60000, mss 50, sackok));
    puppet.after(&[seg!(ack 101, seq 1, wnd 60000)]);
    // Each segment has its own moment, and record.
    for _ in 0..1_100 {
        puppet.write(50);
        puppet.now = puppet.now + std::time::Duration::from_micros(10);
        puppet.sent();
    }
    assert!(puppet.open().flight.len() > 1_024);
    let first = seg!(ack 101, seq 1, wnd 60000, sack(20_101..20_251));
    assert!(puppet.answer(&first).iter().any(|seg| seg.seq.raw() == 101));
    // One byte more tells of everything before it, but it is not worth the walk at once.
    let lost = puppet.open().flight.lost_bytes();
    puppet.after(&[seg!(ack 101, seq 1, wnd 60000, sack(45_101..45_102))]);
    assert!(puppet.open().flight.lost_bytes() <= lost);
    puppet.wait(SECOND / 100);
    assert!(puppet.open().flight.lost_bytes() > lost + 5_000);
}
