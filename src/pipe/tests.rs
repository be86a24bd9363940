//! The two ends of a pipe against each other: every row of design.md §7 that can be told without TCP, orders, budget.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use static_assertions::assert_impl_all;

use super::*;
use crate::config::SocketOptions;
use crate::error::ConnError;

assert_impl_all!(UserEnd: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(StackEnd: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(AcceptQueue: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Doorbell: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Readiness: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Waiting<'static>: Send, Sync, Unpin, UnwindSafe);
assert_impl_all!(Accepting<'static>: Send, Sync, Unpin, UnwindSafe);
assert_impl_all!(Region: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Budget: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Producer: Send, Sync, Unpin);
assert_impl_all!(Consumer: Send, Sync, Unpin);

const DOWN: Result<usize, TryError> = Err(TryError::Failed(ConnError::NetworkDown));
const BLOCKED: Result<usize, TryError> = Err(TryError::WouldBlock);
const BROKEN: Result<usize, TryError> = Err(TryError::Failed(ConnError::BrokenPipe));
const RESET: Result<usize, TryError> = Err(TryError::Failed(ConnError::Reset));
const ID: ConnId = ConnId { index: 7, generation: 3 };

/// A waker that counts.
#[derive(Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    pub(super) fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// A pipe that no engine has adopted.
pub(super) fn raw(send: usize, recv: usize) -> (UserEnd, StackEnd) {
    pipe(Region::map(send, recv).unwrap(), SocketOptions::default())
}

struct Pipe {
    user: UserEnd,
    stack: StackEnd,
    bell: Arc<Doorbell>,
    budget: Arc<Budget>,
}

fn established_with(send: usize, recv: usize, budget: u64) -> Pipe {
    charged_to(&Budget::new(1 << 30, budget), send, recv)
}

fn charged_to(budget: &Arc<Budget>, send: usize, recv: usize) -> Pipe {
    let region = Region::map(send, recv).unwrap();
    let budget = Arc::clone(budget);
    region.join(&budget).unwrap();
    let (user, mut stack) = pipe(region, SocketOptions::default());
    let bell = Doorbell::new();
    stack.adopt(ID, &bell, &budget);
    stack.on_established(ends());
    stack.wake();
    Pipe { user, stack, bell, budget }
}

fn ends() -> ConnInfo {
    ConnInfo { local: Some(address(1)), remote: Some(address(2)), ..ConnInfo::default() }
}

fn established() -> Pipe {
    established_with(64, 64, 1 << 20)
}

fn write(user: &UserEnd, data: &[u8]) -> Result<usize, TryError> {
    user.try_write(&[IoSlice::new(data)])
}

fn read(user: &UserEnd, want: usize) -> Result<Vec<u8>, TryError> {
    let mut got = Vec::new();
    let n = user.try_read_with(want, &mut |part| got.extend_from_slice(part))?;
    assert_eq!(n, got.len());
    Ok(got)
}

fn peek(user: &UserEnd, want: usize) -> Result<usize, TryError> {
    user.try_peek_with(want, &mut |_| ())
}

fn receive(stack: &mut StackEnd, data: &[u8]) {
    stack.recv_write_at(0, data);
    stack.recv_publish(data.len());
}

fn sent(stack: &StackEnd) -> Vec<u8> {
    stack.send_slices(0, stack.send_len()).concat()
}

fn rung(bell: &Doorbell) -> Vec<Rung> {
    let mut rung = Vec::new();
    bell.drain(&mut rung);
    rung
}

#[test]
fn bytes_go_both_ways_and_wrap() {
    let mut p = established_with(10, 10, 1 << 20);
    for round in 0..50_u8 {
        let data: Vec<u8> = (0..7).map(|i| round.wrapping_mul(7).wrapping_add(i)).collect();
        let (a, b) = data.split_at(3);
        assert_eq!(p.user.try_write(&[IoSlice::new(a), IoSlice::new(&[]), IoSlice::new(b)]), Ok(7));
        assert_eq!(sent(&p.stack), data);
        p.stack.send_acked(4);
        assert_eq!(write(&p.user, b"xyz"), Ok(3));
        assert_eq!(sent(&p.stack), [&data[4..], b"xyz"].concat());
        p.stack.send_acked(6);
        receive(&mut p.stack, &data);
        assert_eq!(peek(&p.user, 9), Ok(7));
        assert_eq!(read(&p.user, 2), Ok(data[..2].to_vec()));
        p.stack.recv_write_at(0, b"abcd");
        assert_eq!(read(&p.user, 9), Ok(data[2..].to_vec()), "not published yet");
        p.stack.recv_publish(4);
        assert_eq!(read(&p.user, 9), Ok(b"abcd".to_vec()));
        assert_eq!(read(&p.user, 9), Err(TryError::WouldBlock));
    }
}

#[test]
fn a_vectored_write_is_cut_at_the_capacity() {
    let p = established_with(10, 10, 1 << 20);
    let bufs = [IoSlice::new(b"0123456"), IoSlice::new(b"789abc"), IoSlice::new(b"def")];
    assert_eq!(p.user.try_write(&bufs), Ok(10));
    assert_eq!(sent(&p.stack), b"0123456789");
    assert_eq!(p.user.try_write(&bufs), BLOCKED);
    assert_eq!(p.user.try_write(&[]), Ok(0));
    assert_eq!(write(&p.user, b""), Ok(0));
}

#[test]
fn a_request_response_connection_stays_in_one_page() {
    let mut p = established_with(8192, 8192, 1 << 20);
    let (_, send, recv) = p.user.info();
    for _ in 0..20 {
        assert_eq!(write(&p.user, &[1; 1000]), Ok(1000));
        assert_eq!(p.stack.send_slices(0, 1)[0].as_ptr().addr(), send.address);
        p.stack.send_acked(1000);
        p.stack.recv_rewind();
        receive(&mut p.stack, &[2; 1000]);
        p.user.try_read_with(1000, &mut |part| assert_eq!(part.as_ptr().addr(), recv.address)).unwrap();
    }
}

#[test]
fn before_the_handshake_everything_would_block() {
    let (user, mut stack) = raw(64, 64);
    assert!(!user.is_established());
    assert_eq!(write(&user, b"x"), BLOCKED);
    assert_eq!(peek(&user, 1), BLOCKED);
    assert_eq!((user.local_addr(), user.peer_addr()), (None, None));
    stack.on_established(ends());
    assert_eq!(stack.wake(), 0);
    assert!(user.is_established());
    assert_eq!((user.local_addr(), user.peer_addr()), (Some(address(1)), Some(address(2))));
    assert_eq!(user.readiness().event(Ready::ALL).ready, Ready::WRITABLE, "a connected stream starts writable");
}

#[test]
fn a_refused_or_timed_out_connect_shows_its_error_once() {
    for error in [ConnError::Refused, ConnError::TimedOut, ConnError::HostUnreachable, ConnError::NetworkUnreachable] {
        let (user, mut stack) = raw(64, 64);
        let (count, waker) = Count::new();
        let mut cx = Context::from_waker(&waker);
        assert!(user.readiness().poll_ready(&mut cx, Direction::Write).is_pending());
        stack.fail(error);
        assert_eq!(stack.wake(), 1);
        assert_eq!(count.get(), 1);
        assert!(!user.is_established());
        assert_eq!(user.take_error(), Some(error));
        assert_eq!(user.take_error(), None);
        assert_eq!(write(&user, b"x"), BROKEN);
        assert_eq!(read(&user, 1), Ok(vec![]));
    }
}

#[test]
fn after_a_reset_unread_bytes_then_the_error_once_then_the_end() {
    let mut p = established();
    receive(&mut p.stack, b"unread");
    p.stack.fail(ConnError::Reset);
    p.stack.fail(ConnError::TimedOut);
    p.stack.finish();
    p.stack.wake();
    assert_eq!(p.user.readiness().event(Ready::ALL).ready, Ready::ALL);
    assert_eq!(read(&p.user, 4), Ok(b"unre".to_vec()));
    assert_eq!(peek(&p.user, 9), Ok(2));
    assert_eq!(read(&p.user, 9), Ok(b"ad".to_vec()));
    assert_eq!(read(&p.user, 9).map(|data| data.len()), RESET, "the first error wins");
    assert_eq!(read(&p.user, 9), Ok(vec![]));
    assert_eq!(peek(&p.user, 9), Ok(0));
    assert_eq!(write(&p.user, b"x"), BROKEN);
    assert_eq!(p.user.take_error(), None);
}

#[test]
fn a_writer_or_take_error_may_take_the_error_first() {
    let mut p = established();
    receive(&mut p.stack, b"unread");
    p.stack.fail(ConnError::Reset);
    assert_eq!(write(&p.user, b"x"), RESET);
    assert_eq!(write(&p.user, b"x"), BROKEN);
    assert_eq!(read(&p.user, 9), Ok(b"unread".to_vec()));
    assert_eq!(read(&p.user, 9), Ok(vec![]));

    let mut p = established();
    p.stack.fail(ConnError::TimedOut);
    assert_eq!(p.user.take_error(), Some(ConnError::TimedOut));
    assert_eq!(write(&p.user, b"x"), BROKEN);
    assert_eq!(read(&p.user, 9), Ok(vec![]));
}

#[test]
fn a_reset_in_close_wait_leaves_reads_at_the_end_and_breaks_the_pipe_of_writes() {
    let mut p = established();
    receive(&mut p.stack, b"last");
    p.stack.on_fin();
    p.stack.fail(ConnError::BrokenPipe);
    assert_eq!(read(&p.user, 9), Ok(b"last".to_vec()));
    assert_eq!(read(&p.user, 9), Ok(vec![]), "Linux: SOCK_DONE goes before sk_err");
    assert_eq!(p.user.take_error(), Some(ConnError::BrokenPipe));
    assert_eq!(write(&p.user, b"x"), BROKEN);
}

#[test]
fn the_peers_fin_alone_changes_nothing_for_writes() {
    let mut p = established();
    receive(&mut p.stack, b"last");
    p.stack.on_fin();
    p.stack.wake();
    assert!(p.user.readiness().event(Ready::READ).ready.is_read_closed());
    assert_eq!(write(&p.user, b"more"), Ok(4));
    assert_eq!(read(&p.user, 9), Ok(b"last".to_vec()));
    assert_eq!(read(&p.user, 9), Ok(vec![]));
    assert_eq!(read(&p.user, 9), Ok(vec![]));
    assert_eq!(write(&p.user, b"more"), Ok(4));
}

#[test]
fn a_write_after_the_own_shutdown_breaks_the_pipe() {
    let mut p = established();
    assert_eq!(write(&p.user, b"last"), Ok(4));
    p.stack.take_orders();
    rung(&p.bell);
    p.user.shutdown_write();
    p.user.shutdown_write();
    assert_eq!(rung(&p.bell), [Rung::Conn(ID)]);
    assert_eq!(p.stack.take_orders(), Orders::SHUTDOWN);
    assert_eq!(write(&p.user, b"x"), BROKEN);
    assert_eq!(sent(&p.stack), b"last");
    p.stack.on_write_closed();
    p.stack.wake();
    assert_eq!(p.user.readiness().event(Ready::WRITE).ready, Ready::WRITABLE);
    receive(&mut p.stack, b"answer");
    assert_eq!(read(&p.user, 9), Ok(b"answer".to_vec()));
    p.stack.on_fin();
    p.stack.wake();
    assert!(p.user.readiness().event(Ready::WRITE).ready.is_write_closed());
    // Linux: the error of the connection goes before the shutdown's EPIPE, once.
    p.stack.fail(ConnError::Reset);
    assert_eq!(write(&p.user, b"x"), RESET);
    assert_eq!(write(&p.user, b"x"), BROKEN);
    p.user.shutdown_write();
}

#[test]
fn a_shutdown_wakes_the_blocked_writer() {
    let p = established_with(4, 4, 1 << 20);
    assert_eq!(write(&p.user, b"12345"), Ok(4));
    p.user.readiness().clear(p.user.readiness().event(Ready::WRITE));
    let (count, waker) = Count::new();
    assert!(p.user.readiness().poll_ready(&mut Context::from_waker(&waker), Direction::Write).is_pending());
    p.user.shutdown_write();
    assert_eq!(count.get(), 1);
}

#[test]
fn an_orderly_end_keeps_buffered_bytes_readable() {
    let mut p = established();
    receive(&mut p.stack, b"kept");
    p.user.shutdown_write();
    p.stack.on_fin();
    p.stack.finish();
    let Pipe { user, stack, .. } = p;
    drop(stack);
    assert!(user.is_over() && !user.is_dead() && !user.readiness().is_shutdown());
    assert_eq!(read(&user, 9), Ok(b"kept".to_vec()));
    assert_eq!(read(&user, 9), Ok(vec![]));
    assert_eq!(write(&user, b"x"), BROKEN);
    assert_eq!(user.take_error(), None);
}

#[test]
fn when_the_reactor_dies_everything_fails_for_ever() {
    let by_drop = |stack: StackEnd| drop(stack);
    let by_fail = |mut stack: StackEnd| stack.fail(ConnError::NetworkDown);
    for die in [by_drop as fn(StackEnd), by_fail] {
        let mut p = established();
        receive(&mut p.stack, b"buffered");
        p.stack.wake();
        let read_event = p.user.readiness().event(Ready::READ);
        let (count, waker) = Count::new();
        p.user.readiness().clear(read_event);
        let mut waiting = Box::pin(p.user.readiness().wait(Ready::ERROR));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        die(p.stack);
        assert_eq!(count.get(), 1);
        let Poll::Ready(event) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) else { panic!("still waits") };
        assert!(event.is_shutdown && p.user.readiness().is_shutdown());
        for _ in 0..3 {
            assert_eq!(read(&p.user, 9).map(|data| data.len()), DOWN);
            assert_eq!(peek(&p.user, 9), DOWN);
            assert_eq!(write(&p.user, b"x"), DOWN);
            assert_eq!(write(&p.user, b""), DOWN);
            assert_eq!(p.user.take_error(), Some(ConnError::NetworkDown));
        }
        p.user.shutdown_write();
        p.user.abort();
        assert!(p.user.is_dead());
    }
}

#[test]
fn an_ending_in_order_outlives_the_reactor() {
    let mut p = established();
    p.stack.fail(ConnError::Reset);
    // No wake() before the reactor went: its drop must deliver what was pending.
    let (count, waker) = Count::new();
    assert!(p.user.readiness().poll_ready(&mut Context::from_waker(&waker), Direction::Read).is_pending());
    drop(p.stack);
    assert_eq!(count.get(), 1);
    assert_eq!(read(&p.user, 9).map(|data| data.len()), RESET);
    assert_eq!(read(&p.user, 9), Ok(vec![]));
}

#[test]
fn orders_ring_once_until_they_are_taken() {
    let mut p = established();
    assert_eq!(write(&p.user, b"a"), Ok(1));
    assert_eq!(write(&p.user, b"b"), Ok(1));
    p.user.set_options(|options| options.nodelay = true);
    assert_eq!(rung(&p.bell), [Rung::Conn(ID)]);
    assert_eq!(p.stack.take_orders(), Orders::WRITTEN | Orders::OPTIONS);
    assert!(p.stack.options().nodelay && p.user.options().nodelay);
    assert!(p.stack.take_orders().is_empty());
    p.user.abort();
    drop(p.user);
    assert_eq!(rung(&p.bell), [Rung::Conn(ID)]);
    assert_eq!(p.stack.take_orders(), Orders::ABORT | Orders::DROPPED);
}

#[test]
fn an_order_given_before_adoption_rings_at_adoption() {
    let (user, mut stack) = raw(64, 64);
    let (bell, budget) = (Doorbell::new(), Budget::new(1, 1));
    drop(user);
    stack.adopt(ID, &bell, &budget);
    assert_eq!(rung(&bell), [Rung::Conn(ID)]);
    assert_eq!(stack.take_orders(), Orders::DROPPED);
}

#[test]
fn an_order_that_races_with_adoption_is_not_lost() {
    for _ in 0..2000 {
        let (user, mut stack) = raw(1, 1);
        let (bell, budget) = (Doorbell::new(), Budget::new(1, 1));
        std::thread::scope(|scope| {
            scope.spawn(|| user.abort());
            stack.adopt(ID, &bell, &budget);
        });
        assert!(!bell.is_empty(), "the order was lost");
        stack.finish();
    }
}

#[test]
fn the_doorbell_wakes_once_per_registration_and_never_loses_a_ring() {
    let bell = Doorbell::new();
    let (count, waker) = Count::new();
    bell.register(&waker);
    bell.ring(Rung::Listener(ListenerId(1)));
    bell.ring(Rung::Conn(ID));
    assert_eq!(count.get(), 1);
    bell.register(&waker);
    assert_eq!(count.get(), 2, "rang before the registration and was not drained");
    assert_eq!(rung(&bell), [Rung::Listener(ListenerId(1)), Rung::Conn(ID)]);
    assert!(bell.is_empty());
}

#[test]
fn reads_ring_only_after_a_step() {
    let mut p = established();
    receive(&mut p.stack, &[0; 64]);
    assert_eq!(read(&p.user, 31).unwrap().len(), 31);
    assert!(p.bell.is_empty(), "less than half the buffer");
    assert_eq!(read(&p.user, 1).unwrap().len(), 1);
    assert_eq!(rung(&p.bell), [Rung::Conn(ID)]);
    assert_eq!(p.stack.take_orders(), Orders::READ);
    p.stack.set_read_step(10);
    assert_eq!(read(&p.user, 9).unwrap().len(), 9);
    assert_eq!(peek(&p.user, 9), Ok(9));
    assert!(p.bell.is_empty());
    assert_eq!(read(&p.user, 1).unwrap().len(), 1);
    assert_eq!(p.stack.take_orders(), Orders::READ);
    p.stack.on_fin();
    rung(&p.bell);
    assert_eq!(read(&p.user, 99).unwrap().len(), 22);
    assert!(p.bell.is_empty(), "no window to open after the FIN");
}

#[test]
fn a_full_ring_wakes_its_writer_at_a_third_of_room() {
    let mut p = established_with(30, 30, 1 << 20);
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(write(&p.user, &[0; 10]), Ok(10));
    p.stack.send_acked(5);
    assert_eq!(p.stack.wake(), 0, "nobody had asked");
    assert_eq!(write(&p.user, &[0; 40]), Ok(25));
    let event = p.user.readiness().event(Ready::WRITE);
    assert_eq!(write(&p.user, &[0; 40]), BLOCKED);
    p.user.readiness().clear(event);
    assert!(p.user.readiness().poll_ready(&mut cx, Direction::Write).is_pending());
    p.stack.send_acked(9);
    assert_eq!(p.stack.wake(), 0);
    p.stack.send_acked(1);
    assert_eq!((p.stack.wake(), count.get()), (1, 1));
    assert_eq!(write(&p.user, &[0; 40]), Ok(10));
}

#[test]
fn a_share_bounds_what_is_queued_and_wakes_its_writer_by_its_own_measure() {
    let mut p = established_with(30, 30, 1 << 20);
    p.stack.set_send_share(10);
    assert_eq!(write(&p.user, &[1; 40]), Ok(10));
    let event = p.user.readiness().event(Ready::WRITE);
    assert_eq!(write(&p.user, &[1; 40]), BLOCKED);
    p.user.readiness().clear(event);
    assert!(p.stack.has_waiting_writer());
    p.stack.send_acked(2);
    assert_eq!((p.user.readiness().event(Ready::WRITE).ready, p.stack.has_waiting_writer()), (Ready::EMPTY, true));
    p.stack.send_acked(1);
    p.stack.wake();
    assert_eq!((p.user.readiness().event(Ready::WRITE).ready, p.stack.has_waiting_writer()), (Ready::WRITABLE, false));
    assert_eq!(write(&p.user, &[2; 40]), Ok(3));
    assert_eq!(p.stack.send_slices(0, 10).map(<[u8]>::len), [7, 3], "it wraps at the share");
    // Smaller than what is queued: that stays, and nothing is added before it has drained.
    p.stack.set_send_share(4);
    p.stack.send_acked(6);
    assert_eq!(write(&p.user, &[3; 40]), BLOCKED);
    p.stack.send_acked(2);
    assert_eq!(write(&p.user, &[3; 40]), Ok(2));
    assert_eq!(sent(&p.stack), [2, 2, 3, 3]);
    // Larger: the next ACK tells the writer.
    assert_eq!(write(&p.user, &[4; 40]), BLOCKED);
    p.stack.set_send_share(usize::MAX);
    p.stack.send_acked(4);
    p.stack.wake();
    assert!(!p.stack.has_waiting_writer());
    assert_eq!(write(&p.user, &[4; 40]), Ok(30));
}

#[test]
fn a_write_takes_from_the_budget_and_an_ack_gives_back() {
    let mut p = established_with(100, 100, 60);
    assert_eq!(write(&p.user, &[0; 80]), Ok(45), "as much as the budget grants");
    assert_eq!((p.budget.used(), p.budget.available()), (45, 0));
    assert_eq!(p.stack.take_orders(), Orders::WRITTEN | Orders::BUDGET);
    let event = p.user.readiness().event(Ready::WRITE);
    assert_eq!(write(&p.user, b"x"), BLOCKED);
    p.user.readiness().clear(event);
    assert_eq!(p.stack.take_orders(), Orders::BUDGET);
    assert!(!p.stack.retry_budget());
    assert_eq!(p.stack.wake(), 0);
    p.stack.send_acked(20);
    assert_eq!(p.budget.used(), 25);
    assert!(p.stack.retry_budget());
    p.stack.wake();
    assert!(p.user.readiness().event(Ready::WRITE).ready.is_writable());
    assert_eq!(write(&p.user, &[0; 80]), Ok(20));
    // Windows come out of the same budget.
    assert_eq!(p.stack.promise(10), 0);
    p.stack.send_acked(40);
    assert_eq!(p.stack.promise(10), 10);
    assert_eq!((p.stack.covered(), p.budget.used()), (10, 15));
    assert!(p.stack.recv_trim());
    assert_eq!((p.stack.covered(), p.budget.used()), (0, 5));
}

#[test]
fn whatever_was_taken_goes_back_exactly_once() {
    for stack_first in [true, false] {
        let mut p = established_with(5000, 100, 1 << 20);
        assert_eq!(p.budget.reserved(), Region::map(5000, 100).unwrap().reserved());
        assert_eq!(write(&p.user, &[0; 80]), Ok(80));
        p.stack.send_acked(30);
        assert_eq!(p.stack.promise(64), 64);
        assert_eq!(p.stack.cover(20), 64);
        receive(&mut p.stack, &[0; 20]);
        assert_eq!(p.budget.used(), 114);
        if stack_first {
            drop(p.stack);
            assert_eq!(p.budget.used(), 114, "unsent and unread bytes are still resident");
            drop(p.user);
        } else {
            drop(p.user);
            p.stack.send_acked(10);
            assert_eq!(p.budget.used(), 104);
            drop(p.stack);
        }
        assert_eq!((p.budget.used(), p.budget.reserved()), (0, 0));
    }
}

#[test]
fn budget_that_returns_late_rings_for_those_who_wait_for_it() {
    let mut p = established();
    assert_eq!(write(&p.user, &[0; 20]), Ok(20));
    let watch = p.user.watch();
    p.stack.fail(ConnError::Reset);
    drop((p.user, p.stack));
    let mut rungs = Vec::new();
    p.bell.drain(&mut rungs);
    assert_eq!(p.budget.used(), 20, "the memory is still there");
    drop(watch);
    assert_eq!((p.budget.used(), p.bell.is_empty()), (0, false));
}

/// The peer of one connection does not read: it takes all that writers may take, but for the first page of the others.
#[test]
fn writers_cannot_shut_each_other_out() {
    let budget = Budget::new(1 << 30, 1 << 20);
    let hoarder = charged_to(&budget, 1 << 20, 1 << 20);
    assert_eq!(write(&hoarder.user, &vec![0; 1 << 20]), Ok(3 << 18));
    let mut others: Vec<Pipe> = (0..33).map(|_| charged_to(&budget, 1 << 20, 1 << 20)).collect();
    let last = others.pop().unwrap();
    for other in &others {
        assert_eq!((write(&other.user, &[0; 10_000]), write(&other.user, b"more")), (Ok(4_096), BLOCKED));
    }
    assert_eq!((write(&last.user, b"x"), budget.left_for(Demand::Text)), (BLOCKED, 1 << 17), "text gets the rest");
    let mut other = others.pop().unwrap();
    assert!(!other.stack.retry_budget());
    other.stack.send_acked(4_095);
    assert!(!other.stack.retry_budget(), "something is queued still");
    other.stack.send_acked(1);
    assert!(other.stack.retry_budget());
    assert_eq!(write(&other.user, &[0; 10_000]), Ok(4_096));
}

#[test]
fn received_text_leaves_a_quarter_to_writers() {
    let mut p = established_with(100_000, 100_000, 80_000);
    let left = |p: &Pipe, demand| p.budget.left_for(demand);
    assert_eq!(p.stack.promise(100_000), 30_000);
    assert!(!p.budget.is_tight(), "windows alone keep no connection out");
    assert_eq!((p.stack.promise(1), p.stack.cover(100_000)), (0, 50_000), "text gets more than windows");
    assert!(p.budget.is_tight());
    assert_eq!((p.stack.cover(100_000), left(&p, Demand::Text)), (50_000, 0));
    // The first page of others.
    let mut firsts: Vec<Pipe> = (0..3).map(|_| charged_to(&p.budget, 100, 10_000)).collect();
    assert_eq!(firsts.iter_mut().map(|other| other.stack.cover(9_000)).collect::<Vec<_>>(), [4_096, 4_096, 1_808]);
    assert_eq!(left(&p, Demand::FirstPage), 0);
    assert_eq!(write(&p.user, &[0; 80_000]), Ok(20_000));
    drop(firsts);
    assert_eq!((left(&p, Demand::Text), left(&p, Demand::FirstPage)), (0, 10_000));
}

#[test]
fn writers_leave_a_quarter_to_received_text() {
    let mut p = established_with(100_000, 100_000, 80_000);
    assert_eq!(write(&p.user, &[0; 80_000]), Ok(60_000));
    assert!(p.budget.is_tight());
    assert_eq!((p.stack.promise(1), p.stack.cover(100_000)), (0, 20_000));
    receive(&mut p.stack, &[0; 20_000]);
    p.stack.send_acked(50_000);
    assert_eq!(write(&p.user, &[0; 80_000]), Ok(50_000), "nothing has to be kept any more");
    // Unread bytes outlive the reactor's end; they are nobody's hindrance then.
    let heir = charged_to(&p.budget, 100, 10_000);
    drop(p.stack);
    assert_eq!((heir.budget.used(), heir.budget.available()), (80_000, 0));
    drop(p.user);
    assert_eq!((heir.budget.used(), heir.budget.available()), (0, 60_000));
}

#[test]
fn received_text_is_paid_for_by_the_page_and_by_where_it_lies() {
    let mut p = established_with(100, 10_000, 1 << 20);
    assert_eq!((p.stack.covered(), p.stack.recv_affordable()), (0, 10_000));
    assert_eq!((p.stack.cover(1), p.budget.used()), (4_096, 4_096));
    receive(&mut p.stack, &[1; 4_000]);
    assert_eq!(p.user.try_read_with(3_999, &mut |_| ()), Ok(3_999));
    // One byte is unread: the ring can't rewind, the next ones lie on the second page.
    p.stack.recv_rewind();
    assert_eq!((p.stack.cover(96), p.stack.covered()), (96, 4_096));
    assert_eq!((p.stack.cover(97), p.stack.covered()), (4_192, 8_192));
    assert!(p.stack.is_covered(4_192) && !p.stack.is_covered(4_193));
    receive(&mut p.stack, &[1; 97]);
    // Going round: all of it is resident, however little is in it.
    assert_eq!((p.stack.cover(8_000), p.stack.covered()), (p.stack.recv_free(), 10_000));
    receive(&mut p.stack, &[1; 8_000]);
    assert_eq!(p.user.try_read_with(9_000, &mut |_| ()), Ok(8_098));
    p.stack.recv_rewind();
    assert!(p.stack.is_covered(10_000));
    assert_eq!((p.stack.recv_trim(), p.stack.covered(), p.budget.used()), (true, 0, 0));
}

#[test]
fn a_region_is_exact_and_charged_to_its_stack() {
    let region = Region::map(4097, 3).unwrap();
    let (send, recv) = (region.buffer(Side::Send), region.buffer(Side::Recv));
    assert_eq!((send.capacity, recv.capacity), (4097, 3));
    assert_eq!(recv.address % rustix::param::page_size(), 0);
    assert!(recv.address >= send.address + 4097);
    let reserved = region.reserved();
    let budget = Budget::new(reserved + 1, 0);
    region.join(&budget).unwrap();
    region.join(&budget).unwrap();
    assert_eq!(budget.reserved(), reserved);
    assert_eq!(Region::map(1, 1).unwrap().join(&budget), Err(ConnError::ReservedLimit));
    let (user, stack) = pipe(region, SocketOptions::default());
    let (_, send_after, recv_after) = user.info();
    assert_eq!((send_after, recv_after), (send, recv), "the same memory");
    assert_eq!((stack.send_info(), stack.recv_info()), (send, recv));
    drop((user, stack));
    assert_eq!(budget.reserved(), 0);
    for (send, recv) in [(0, 1), (1, 0), (1 << 32, 1)] {
        assert_eq!(Region::map(send, recv).unwrap_err(), ConnError::InvalidInput);
    }
}

/// Fills both buffers of a region with that many bytes, drops it and looks at the next one the stack hands out.
fn reuse(fill: usize) {
    let budget = Budget::new(1 << 30, 1 << 30);
    let region = budget.region(20_000, 10_000).unwrap();
    let before = [region.buffer(Side::Send), region.buffer(Side::Recv)];
    let mut rings = super::ring::rings(region);
    let data = vec![0xaa; fill];
    let written = [rings.send_producer.write(&data), rings.recv_producer.write(&data)];
    assert_eq!(written, [fill, fill.min(10_000)]);
    drop(rings);
    assert_eq!(budget.reserved(), 0);

    // Another shape gets a mapping of its own.
    let other = budget.region(10_000, 20_000).unwrap();
    assert_ne!(other.buffer(Side::Send).address, before[0].address);

    let again = budget.region(20_000, 10_000).unwrap();
    let after = [again.buffer(Side::Send), again.buffer(Side::Recv)];
    let mut again = super::ring::rings(again);
    // What was there is gone: publish without writing and look.
    again.send_producer.publish(20_000);
    again.recv_producer.publish(10_000);
    for ring in [&again.send_consumer, &again.recv_consumer] {
        assert!(ring.slices(0, 20_000).concat().iter().all(|byte| *byte == 0), "{fill} bytes shine through");
    }
    assert_eq!(after, before, "the mapping is used again");
}

#[test]
fn a_mapping_is_used_again_wiped() {
    for fill in [0, 1, 4096, 4097, 10_000, 20_000] {
        reuse(fill);
    }
}

#[test]
fn a_stack_keeps_a_few_mappings_only() {
    let budget = Budget::new(1 << 30, 1 << 30);
    let regions: Vec<Region> = (0..100).map(|_| budget.region(4096, 4096).unwrap()).collect();
    let addresses: Vec<usize> = regions.iter().map(|region| region.buffer(Side::Send).address).collect();
    drop(regions);
    assert_eq!(budget.spares(), 64);
    let last = budget.region(4096, 4096).unwrap();
    assert_eq!(Some(&last.buffer(Side::Send).address), addresses.last(), "the one whose pages are in the cache");
}

#[test]
fn info_is_published_and_never_waits_for_the_user() {
    let mut p = established();
    let info = ConnInfo { cwnd: 5, ..ends() };
    p.stack.publish_info(|shown| shown.cwnd = 5);
    assert_eq!(write(&p.user, b"abc"), Ok(3));
    receive(&mut p.stack, b"de");
    let (seen, send, recv) = p.user.info();
    assert_eq!((seen, send.fill, recv.fill), (info, 3, 2));
}

/// The engine publishes while the user copies the last snapshot.
#[test]
fn a_snapshot_that_was_missed_is_published_again() {
    let p = established();
    p.user.shared().look(|_| p.stack.publish_info(|shown| shown.cwnd = 5));
    assert_eq!(rung(&p.bell), [Rung::Conn(ID)], "the engine gets a turn");
    p.stack.publish_info(|shown| shown.cwnd = 5);
    assert_eq!((p.user.info().0.cwnd, rung(&p.bell)), (5, Vec::new()));
}

#[test]
fn an_idle_connection_is_small() {
    let arc = 2 * size_of::<usize>();
    let memory = (arc + size_of::<Memory>()).next_multiple_of(64);
    let bytes = arc + shared::SIZE + memory + size_of::<UserEnd>() + size_of::<StackEnd>();
    println!(
        "idle: {bytes} bytes (shared {}, memory {memory}, user {}, stack {})",
        shared::SIZE,
        size_of::<UserEnd>(),
        size_of::<StackEnd>()
    );
    assert!(bytes <= 1100, "{bytes}");
}

/// Resident pages of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}

#[test]
#[cfg(target_os = "linux")]
fn trimming_gives_the_pages_back() {
    const SIZE: usize = 64 << 20;
    const NEAR: usize = 16 << 20;
    let mut p = established_with(SIZE, SIZE, 1 << 40);
    let before = resident();
    let chunk = vec![1; 1 << 20];
    for n in 0..64 {
        p.stack.recv_write_at(n << 20, &chunk);
    }
    assert!(!p.stack.recv_trim(), "bytes wait out of order");
    p.stack.recv_publish(SIZE);
    assert!(!p.stack.recv_trim(), "unread");
    assert!(resident() > before + SIZE - NEAR);
    assert_eq!(p.user.try_read_with(SIZE, &mut |_| ()), Ok(SIZE));
    assert!(p.stack.recv_trim());
    assert!(resident() < before + NEAR);
    receive(&mut p.stack, b"usable");
    assert_eq!(read(&p.user, 9), Ok(b"usable".to_vec()));

    assert_eq!(write(&p.user, &vec![1; SIZE]), Ok(SIZE));
    p.stack.send_acked(SIZE - 1);
    assert!(!p.stack.send_trim(), "not acknowledged");
    assert!(resident() > before + SIZE - NEAR);
    p.stack.send_acked(1);
    assert!(p.stack.send_trim());
    assert!(resident() < before + NEAR);
    assert_eq!(write(&p.user, b"usable"), Ok(6));
    assert_eq!(sent(&p.stack), b"usable");
}

/// Reactor and user in threads of their own, rings far smaller than the data, trimmed as often as they may be: no byte and
/// no wake-up is lost.
#[test]
fn an_echo_between_threads_loses_nothing() {
    use futures::executor::block_on;
    use std::future::poll_fn;
    const TOTAL: usize = 200_000;
    let Pipe { user, mut stack, bell, .. } = established_with(61, 53, 97);
    stack.set_read_step(10);
    let byte = |at: usize| (at % 251) as u8;
    let reactor = std::thread::spawn(move || {
        let mut buffer = Vec::new();
        block_on(poll_fn(|cx| {
            bell.register(cx.waker());
            rung(&bell);
            let dropped = stack.take_orders().intersects(Orders::DROPPED);
            let n = stack.send_len().min(stack.recv_free());
            buffer.clear();
            stack.send_slices(0, n).iter().for_each(|part| buffer.extend_from_slice(part));
            stack.recv_rewind();
            receive(&mut stack, &buffer);
            stack.send_acked(n);
            stack.send_trim();
            stack.recv_trim();
            stack.retry_budget();
            stack.wake();
            if dropped { Poll::Ready(()) } else { Poll::Pending }
        }));
        stack.finish();
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut done = 0;
            while done < TOTAL {
                let data: Vec<u8> = (done..TOTAL.min(done + 40)).map(byte).collect();
                done += block_on(retry(&user, Direction::Write, || write(&user, &data)));
            }
        });
        let mut done = 0;
        while done < TOTAL {
            for got in block_on(retry(&user, Direction::Read, || read(&user, 50))) {
                assert_eq!(got, byte(done), "at {done}");
                done += 1;
            }
        }
    });
    drop(user);
    reactor.join().unwrap();
}

/// As `net` does: wait for readiness, try, clear what was seen if there was nothing.
async fn retry<T>(user: &UserEnd, direction: Direction, mut attempt: impl FnMut() -> Result<T, TryError>) -> T {
    loop {
        let event = std::future::poll_fn(|cx| user.readiness().poll_ready(cx, direction)).await;
        match attempt() {
            Err(TryError::WouldBlock) => user.readiness().clear(event),
            result => return result.unwrap_or_else(|error| panic!("{error:?}")),
        }
    }
}

/// What is unread when a connection ends is charged until it is read or nobody is there to read it; a handle that is kept
/// longer keeps address space only, and writers of the stack do not wait for it.
#[test]
fn what_was_left_to_the_user_goes_back_when_it_is_read_or_given_up() {
    for reads in [true, false] {
        let budget = Budget::new(1 << 30, 80_000);
        let mut done = charged_to(&budget, 100, 60_000);
        assert!(done.stack.cover(50_000) >= 50_000);
        receive(&mut done.stack, &[1; 50_000]);
        done.stack.on_fin();
        done.stack.finish();
        let Pipe { user, stack, .. } = done;
        drop(stack);
        assert_eq!(user.try_read_with(40_000, &mut |_| ()), Ok(40_000));
        assert!(budget.used() >= 50_000);
        if reads {
            assert_eq!(user.try_read_with(40_000, &mut |_| ()), Ok(10_000));
            assert_eq!(budget.used(), 0);
        }
        let watch = user.watch();
        drop(user);
        assert_eq!(budget.used(), 0);
        drop(watch);
    }
}

/// The engine's end goes while the user reads the last bytes: one of the two gives back what was unread.
#[test]
fn a_read_that_races_with_the_end_leaves_nothing_behind() {
    for _ in 0..2_000 {
        let mut p = established_with(100, 10_000, 1 << 20);
        assert!(p.stack.cover(9_000) >= 9_000);
        receive(&mut p.stack, &[1; 9_000]);
        p.stack.set_read_step(1);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(p.user.try_read_with(9_000, &mut |_| ()), Ok(9_000)));
            p.stack.finish();
            drop(p.stack);
        });
        assert_eq!(p.budget.used(), 0);
    }
}
