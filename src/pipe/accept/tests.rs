use std::pin::pin;

use super::*;
use crate::pipe::tests::{Count, address, raw};
use crate::pipe::{Orders, StackEnd};

fn push(queue: &AcceptQueue, port: u16) -> (usize, StackEnd) {
    let (user, stack) = raw(1, 1);
    (queue.push(user, address(port)), stack)
}

fn port(result: Poll<Result<Accepted, ConnError>>) -> Option<u16> {
    match result {
        Poll::Ready(Ok((_, remote))) => Some(remote.port()),
        Poll::Ready(Err(error)) => panic!("{error:?}"),
        Poll::Pending => None,
    }
}

#[test]
fn connections_come_out_in_order_readable_and_writable() {
    let queue = AcceptQueue::new(2);
    let ends: Vec<_> = (1..=3).map(|port| push(&queue, port).1).collect();
    assert!(!queue.has_room(), "as in Linux a backlog of 2 holds 3");
    let (end, remote) = queue.try_pop().unwrap().unwrap();
    assert_eq!(remote, address(1));
    assert_eq!(end.readiness().event(Ready::ALL).ready, Ready::READABLE | Ready::WRITABLE);
    assert!(queue.has_room());
    assert_eq!(queue.try_pop().unwrap().unwrap().1, address(2));
    assert_eq!((queue.len(), queue.is_empty(), ends.len()), (1, false, 3));
}

#[test]
fn a_connection_without_room_is_reset() {
    let queue = AcceptQueue::new(0);
    let (_, _first) = push(&queue, 1);
    let (wakes, mut second) = push(&queue, 2);
    assert_eq!(wakes, 0);
    assert!(second.take_orders().contains(Orders::ABORT | Orders::DROPPED));
    assert_eq!(queue.len(), 1);
}

#[test]
fn every_waiter_is_woken_when_a_connection_enters_and_only_then() {
    let queue = AcceptQueue::new(8);
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    let (mut a, mut b) = (pin!(queue.wait()), pin!(queue.wait()));
    assert!(a.as_mut().poll(cx).is_pending());
    assert!(b.as_mut().poll(cx).is_pending());
    assert!(queue.poll_accept(cx).is_pending());
    let (wakes, _end) = push(&queue, 1);
    assert_eq!((wakes, count.get()), (3, 3));
    assert_eq!(port(b.as_mut().poll(cx)), Some(1));
    assert!(a.as_mut().poll(cx).is_pending());
    assert_eq!(count.get(), 3, "taking one wakes nobody");
    let (wakes, _end) = push(&queue, 2);
    assert_eq!(wakes, 1, "the two others have not come back");
    assert_eq!(port(queue.poll_accept(cx)), Some(2));
}

#[test]
fn a_woken_waiter_that_is_dropped_loses_no_connection() {
    let queue = AcceptQueue::new(8);
    let (_, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    let mut kept = pin!(queue.wait());
    let _end = {
        let mut dropped = Box::pin(queue.wait());
        assert!(dropped.as_mut().poll(cx).is_pending());
        assert!(kept.as_mut().poll(cx).is_pending());
        push(&queue, 1).1
    };
    assert_eq!(queue.lock().many.len(), 1);
    assert_eq!(port(kept.as_mut().poll(cx)), Some(1));
    assert!(queue.lock().many.is_empty());
}

#[test]
fn a_connection_that_is_over_is_still_handed_out() {
    let queue = AcceptQueue::new(8);
    let (_, mut end) = push(&queue, 1);
    end.fail(ConnError::Reset);
    drop(end);
    let (user, _) = queue.try_pop().unwrap().unwrap();
    assert_eq!(user.take_error(), Some(ConnError::Reset));
}

#[test]
fn closing_resets_the_queue_and_what_comes_later() {
    let queue = AcceptQueue::new(8);
    let mut ends = vec![push(&queue, 1).1, push(&queue, 2).1];
    queue.close();
    ends.push(push(&queue, 3).1);
    for end in &mut ends {
        assert!(end.take_orders().contains(Orders::ABORT | Orders::DROPPED));
        end.finish();
    }
    assert!(queue.is_empty() && !queue.has_room());
}

#[test]
fn a_dead_reactor_fails_all_who_wait_or_call() {
    let queue = AcceptQueue::new(8);
    let (count, waker) = Count::new();
    let cx = &mut Context::from_waker(&waker);
    let mut waiting = pin!(queue.wait());
    assert!(waiting.as_mut().poll(cx).is_pending());
    assert!(queue.poll_accept(cx).is_pending());
    queue.fail();
    assert_eq!(count.get(), 2);
    assert!(matches!(waiting.as_mut().poll(cx), Poll::Ready(Err(ConnError::NetworkDown))));
    assert!(matches!(queue.poll_accept(cx), Poll::Ready(Err(ConnError::NetworkDown))));
    assert!(matches!(queue.try_pop(), Err(ConnError::NetworkDown)));
}
