//! ACKs that wait until the owner has had one pass.

use super::puppet::{Puppet, plain};
use super::*;
use crate::wire::seg;

/// Without quick ACKs.
fn receiver() -> Puppet {
    let mut config = plain();
    config.socket.recv_buffer = 40_000;
    config.socket.quickack = false;
    Puppet::established(config)
}

/// What goes out before the owner has had its pass.
fn at_once(puppet: &mut Puppet) -> bool {
    let now = puppet.now;
    puppet.end.with(now, |tcb, cx| tcb.poll_transmit(cx)).is_some()
}

#[test]
fn a_large_segment_and_the_rest_behind_it_share_an_ack_after_the_owner() {
    let mut puppet = receiver();
    let _ = puppet.arrive(&seg!(ack 101, seq 1, wnd 1000, len 10_000));
    let _ = puppet.arrive(&seg!(ack 101, seq 10_001, wnd 1000, len 100));
    assert!(!at_once(&mut puppet));
    // Not for ever, if the owner keeps the runtime to itself.
    assert!(puppet.end.tcb.next_deadline().is_some_and(|at| at <= puppet.now + puppet.end.config.delayed_ack));
    assert_eq!(puppet.user().0, 10_100);
    let acks: Vec<Segment<'_>> = puppet.sent();
    assert_eq!(acks.iter().map(|seg| (seg.ack, seg.wnd)).collect::<Vec<_>>(), [(Seq::new(10_101), 40_000)]);
}

/// An owner that computes may hold the thread on which its pass would end.
#[test]
fn the_acks_of_a_handshake_and_of_a_fin_wait_no_longer_than_any_other() {
    let mut config = plain();
    config.socket.quickack = false;
    let mut puppet = Puppet::connecting(config);
    let _ = puppet.arrive(&seg!(syn, ack 101, seq 0, wnd 1000, mss 1460));
    for (seg, at) in [(seg!(fin, ack 101, seq 1, wnd 1000), 1), (seg!(rst, seq 0), 2)] {
        assert_eq!(puppet.end.tcb.state(), if at == 1 { State::Established } else { State::CloseWait });
        assert!(!at_once(&mut puppet));
        assert_eq!(
            puppet.wait(puppet.end.config.delayed_ack).iter().map(|seg| seg.ack.raw()).collect::<Vec<_>>(),
            [at]
        );
        let _ = puppet.arrive(&seg);
    }
}

#[test]
fn two_full_segments_share_an_ack_after_the_owner() {
    let mut puppet = receiver();
    for seq in [1, 1001, 2001] {
        let _ = puppet.arrive(&seg!(ack 101, seq seq, wnd 1000, len 1000));
        assert!(!at_once(&mut puppet));
    }
    assert_eq!(puppet.user().0, 3_000);
    let acks: Vec<Segment<'_>> = puppet.sent();
    assert_eq!(acks.iter().map(|seg| (seg.ack, seg.wnd)).collect::<Vec<_>>(), [(Seq::new(3_001), 40_000)]);
}

#[test]
fn three_segments_behind_a_hole_are_three_duplicates_of_the_ack_that_waited() {
    for owner_first in [false, true] {
        let mut puppet = receiver();
        for seq in [1, 1001] {
            let _ = puppet.arrive(&seg!(ack 101, seq seq, wnd 1000, len 1000));
        }
        if owner_first {
            puppet.end.tcb.stop_lingering();
        }
        for seq in [3001, 4001, 5001] {
            let _ = puppet.arrive(&seg!(ack 101, seq seq, wnd 1000, len 1000));
        }
        let acks: Vec<Segment<'_>> = puppet.sent();
        assert_eq!(acks.iter().map(|seg| seg.ack.raw()).collect::<Vec<_>>(), [2001; 4], "owner first: {owner_first}");
    }
}

#[test]
fn a_reactor_that_dies_acknowledges_what_was_read() {
    let mut puppet = receiver();
    puppet.end.shutdown(puppet.now);
    puppet.sent();
    puppet.after(&[seg!(ack 102, seq 1, wnd 1000)]);
    assert_eq!(puppet.end.tcb.state(), State::FinWait2);
    let _ = puppet.arrive(&seg!(ack 102, seq 1, wnd 1000, len 10_000));
    assert_eq!(puppet.user().0, 10_000);
    assert!(!at_once(&mut puppet));
    let now = puppet.now;
    puppet.end.with(now, |tcb, cx| tcb.last_gasp(cx));
    assert!(at_once(&mut puppet));
}

#[test]
fn a_reactor_that_dies_sends_what_was_written_before_it_resets() {
    let mut puppet = receiver();
    // Unread: the end can only be a reset.
    let _ = puppet.arrive(&seg!(ack 101, seq 1, wnd 1000, len 10));
    puppet.write(100);
    let now = puppet.now;
    puppet.end.with(now, |tcb, cx| tcb.last_gasp(cx));
    let sent: Vec<_> = puppet.sent().iter().map(|seg| (seg.text_len(), seg.has(Flags::RST))).collect();
    assert_eq!(sent, [(100, false), (0, true)]);
}
