//! Receive memory: the first window is address space, what arrives is paid for, what is not needed goes back.

use super::puppet::{Puppet, User};
use super::*;
use crate::pipe::Demand;
use crate::stats::DropReason;
use crate::wire::{ZEROS, seg};

const PAGE: u64 = 4_096;

/// Established with a receive buffer of `recv` bytes, charged to `budget`.
fn connected(recv: u32, budget: &Arc<Budget>) -> Puppet {
    let mut config = StackConfig { timestamps: false, ..StackConfig::default() };
    config.socket.recv_buffer = recv;
    config.socket.quickack = true;
    let mut puppet = Puppet::new(config);
    puppet.end.budget = Arc::clone(budget);
    puppet.after(&[seg!(syn, seq 0, wnd 1000, mss 1460, sackok, ws 7), seg!(ack 101, seq 1, wnd 1000)]);
    assert_eq!(puppet.end.tcb.state(), State::Established);
    puppet
}

fn budget(bytes: u64) -> Arc<Budget> {
    Budget::new(1 << 30, bytes)
}

/// Others receive all that can be received.
fn spend(budget: &Budget) -> usize {
    budget.take_received(Demand::FirstPage, usize::MAX)
}

/// In-order text from `seq` to `end`.
fn text(puppet: &mut Puppet, seq: u32, end: u32) {
    for at in (seq..end).step_by(1_000) {
        let payload = &ZEROS[..1_000.min(end - at) as usize];
        let segment = Segment { seq: Seq::new(at), payload, ..seg!(ack 101, wnd 1000) };
        let _ = puppet.arrive(&segment);
        puppet.sent();
    }
}

#[test]
fn an_idle_connection_costs_nothing_and_a_small_message_a_page() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    assert_eq!((puppet.open().rcv.wnd(), budget.used()), (65_535, 0));
    text(&mut puppet, 1, 65);
    assert_eq!((puppet.user(), budget.used()), ((64, User::Waits), PAGE));
    // Read: the ring rewinds, the page is the same.
    text(&mut puppet, 65, 1_001);
    assert_eq!((puppet.user().0, budget.used()), (936, PAGE));
    puppet.wait(Duration::from_secs(6));
    assert_eq!(budget.used(), 0);
    text(&mut puppet, 1_001, 1_101);
    assert_eq!((puppet.user().0, budget.used()), (100, PAGE));
}

#[test]
fn unread_text_keeps_what_it_took() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    text(&mut puppet, 1, 5_001);
    puppet.wait(Duration::from_secs(60));
    assert_eq!(budget.used(), 2 * PAGE);
    assert_eq!(puppet.user().0, 5_000);
    puppet.end.close(puppet.now);
    puppet.after(&[seg!(rst, seq 5001, wnd 0)]);
    puppet.end.tcb = Tcb::Closed;
    assert_eq!(budget.used(), 0);
}

#[test]
fn windows_grow_on_credit_of_half_the_budget_only_and_shrink_when_idle() {
    let budget = budget(400_000);
    let mut puppet = connected(1 << 20, &budget);
    for from in (1..600_001).step_by(10_000) {
        text(&mut puppet, from, from + 10_000);
        assert_eq!(puppet.user().0, 10_000);
        puppet.end.orders(puppet.now);
        puppet.sent();
        assert!(budget.used() <= 200_000, "{}", budget.used());
    }
    let grown = puppet.open().rcv.granted;
    assert!(grown > 150_000, "{grown}");
    let told = puppet.open().rcv.adv;
    puppet.wait(Duration::from_secs(6));
    assert_eq!((budget.used(), puppet.open().rcv.granted), (0, 64 << 10));
    assert_eq!(puppet.open().rcv.adv, told, "what was promised stands");
    text(&mut puppet, 600_001, 700_001);
    assert_eq!(puppet.user().0, 100_000);
}

#[test]
fn text_without_memory_is_dropped_and_taken_when_it_comes_again() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    let spent = spend(&budget);
    let message = seg!(ack 101, seq 1, wnd 1000, len 1000);
    for dropped in 1..4 {
        assert_eq!(puppet.answer(&message), [], "not acknowledged");
        assert_eq!(puppet.end.stats.dropped(DropReason::NoMemory), dropped);
    }
    // A FIN behind text that was not taken does not count either.
    assert_eq!(puppet.answer(&seg!(fin, ack 101, seq 1, wnd 1000, len 1000)), []);
    assert_eq!(puppet.end.tcb.state(), State::Established);
    assert_eq!((budget.used(), puppet.user()), (spent as u64, (0, User::Waits)));
    budget.give_back_received(spent);
    assert_eq!(puppet.answer(&message).len(), 1);
    assert_eq!(puppet.user().0, 1_000);
}

#[test]
fn as_much_is_taken_of_a_segment_as_there_is_memory_for() {
    let budget = budget(16_000);
    let mut puppet = connected(1 << 20, &budget);
    let large = Segment { seq: Seq::new(1), payload: &ZEROS[..30_000], ..seg!(fin, ack 101, wnd 1000) };
    let answer = puppet.answer(&large);
    assert_eq!((answer.len(), answer[0].ack, budget.used()), (1, Seq::new(10_001), 10_000));
    assert_eq!(answer[0].wnd, 55_535_u16.div_ceil(1 << 5), "the edge does not move left");
    assert_eq!((puppet.user(), puppet.end.stats.dropped_total()), ((10_000, User::Waits), 0));
    // Read meanwhile: the memory serves again.
    let rest = Segment { seq: Seq::new(10_001), payload: &ZEROS[..10_000], ..seg!(fin, ack 101, wnd 1000) };
    puppet.after(&[rest]);
    assert_eq!((puppet.user(), budget.used()), ((10_000, User::Eof), 10_000));
}

#[test]
fn windows_close_when_the_budget_is_spent_and_open_when_asked_later() {
    let budget = budget(160_000);
    let mut puppet = connected(1 << 20, &budget);
    let spent = budget.take_received(Demand::Text, 60_000);
    text(&mut puppet, 1, 40_001);
    assert_eq!((puppet.user().0, budget.used()), (40_000, 100_000));
    // The edge stands where it was; nothing beyond it is promised.
    text(&mut puppet, 40_001, 65_537);
    puppet.user();
    puppet.end.orders(puppet.now);
    puppet.sent();
    let taken = 160_000 * 5 / 8 - 60_000;
    assert!(puppet.open().rcv.wnd() <= taken, "{} of {taken}", puppet.open().rcv.wnd());
    budget.give_back_received(spent);
    puppet.wait(Duration::from_secs(6));
    let nxt = puppet.open().rcv.nxt.raw();
    assert_eq!(puppet.answer(&Segment { seq: Seq::new(nxt - 1), ..seg!(ack 101, wnd 1000) }).len(), 1);
    assert_eq!(puppet.open().rcv.wnd(), 64 << 10);
}

#[test]
fn under_pressure_who_is_quiet_gives_back_even_what_came_out_of_order() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    puppet.after(&[seg!(ack 101, seq 1001, wnd 1000, len 1000)]);
    assert_eq!(budget.used(), PAGE);
    let press = |puppet: &mut Puppet| puppet.end.with(puppet.now, |tcb, cx| tcb.on_pressure(cx));
    press(&mut puppet);
    assert_eq!(budget.used(), PAGE, "it came just now");
    puppet.wait(Duration::from_millis(10));
    press(&mut puppet);
    assert_eq!((budget.used(), puppet.open().rcv.assembler.is_empty()), (0, true));
    // RFC 2018 §8: the peer sends it again.
    puppet.after(&[seg!(ack 101, seq 1, wnd 1000, len 1000), seg!(ack 101, seq 1001, wnd 1000, len 1000)]);
    puppet.wait(Duration::from_millis(10));
    press(&mut puppet);
    assert_eq!((budget.used(), puppet.user().0), (PAGE, 2_000), "unread bytes stay");
    press(&mut puppet);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_slow_reader_does_not_wander_through_its_buffer() {
    let budget = budget(1 << 30);
    let mut puppet = connected(4 << 20, &budget);
    text(&mut puppet, 1, 1_001);
    for at in (1_001..1_000_000).step_by(1_000) {
        // Never empty, so it never begins anew.
        text(&mut puppet, at, at + 1_000);
        assert_eq!(puppet.read(1_000), 1_000);
        puppet.wait(Duration::from_millis(50));
    }
    assert_eq!(budget.used(), (64 << 10) + 128, "what is granted, and a unit of the window");
}

#[test]
fn what_is_read_late_goes_back_too() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    text(&mut puppet, 1, 101);
    puppet.wait(Duration::from_secs(60));
    // Too little for the reactor to be told.
    assert_eq!((puppet.user().0, budget.used()), (100, PAGE));
    puppet.wait(Duration::from_secs(6));
    assert_eq!(budget.used(), 0);
}

#[test]
fn bare_acks_keep_no_memory() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    for (pressure, from) in [(true, 1), (false, 1_001)] {
        text(&mut puppet, from, from + 1_000);
        assert_eq!((puppet.user().0, budget.used()), (1_000, PAGE));
        for _ in 0..if pressure { 2 } else { 700 } {
            puppet.wait(Duration::from_millis(9));
            puppet.after(&[Segment { seq: Seq::new(from + 1_000), ..seg!(ack 101, wnd 1000) }]);
        }
        if pressure {
            puppet.end.with(puppet.now, |tcb, cx| tcb.on_pressure(cx));
        }
        assert_eq!(budget.used(), 0, "under pressure: {pressure}");
    }
}

/// A range that was given up for nearer ones (`Assembler::make_room`) must not hold the ring's pages for ever.
#[test]
fn a_range_that_was_given_up_holds_no_memory() {
    let budget = budget(1 << 20);
    let mut puppet = connected(1 << 20, &budget);
    // 64 one-byte ranges with holes between, the last far out.
    let hole = |at: u32| Segment { seq: Seq::new(at), payload: &ZEROS[..1], ..seg!(ack 101, wnd 1000) };
    for n in 1..64 {
        puppet.after(&[hole(1 + 4 * n)]);
    }
    puppet.after(&[hole(60_001)]);
    // One more, nearer: the one far out goes.
    puppet.after(&[hole(3)]);
    assert_eq!(budget.used(), 15 * PAGE);
    // All that is still held comes into order and is read.
    text(&mut puppet, 1, 254);
    assert_eq!((puppet.user().0, puppet.open().rcv.assembler.is_empty()), (253, true));
    puppet.wait(Duration::from_secs(6));
    assert_eq!(budget.used(), 0);
}
