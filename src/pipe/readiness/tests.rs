use std::future::Future;
use std::pin::pin;

use super::*;
use crate::pipe::tests::Count;

fn poll(waiting: Pin<&mut Waiting<'_>>, waker: &Waker) -> Poll<ReadyEvent> {
    waiting.poll(&mut Context::from_waker(waker))
}

#[test]
fn only_the_newest_event_clears() {
    let io = Readiness::default();
    assert!(io.event(Ready::ALL).ready.is_empty());
    io.set(Ready::READABLE);
    let old = io.event(Ready::READ);
    assert_eq!(old.ready, Ready::READABLE);
    io.set(Ready::WRITABLE);
    io.clear(old);
    assert_eq!(io.event(Ready::ALL).ready, Ready::READABLE | Ready::WRITABLE, "a newer event came");
    io.clear(io.event(Ready::READ));
    assert_eq!(io.event(Ready::ALL).ready, Ready::WRITABLE, "only what was asked for");
}

#[test]
fn closed_is_final_and_the_rest_is_not() {
    let io = Readiness::default();
    io.set(Ready::ALL);
    io.clear(io.event(Ready::ALL));
    assert_eq!(io.event(Ready::ALL).ready, Ready::READ_CLOSED | Ready::WRITE_CLOSED);
    assert!(io.event(Ready::READ).ready.is_readable() && io.event(Ready::WRITE).ready.is_writable());
}

#[test]
fn the_word_survives_packing() {
    for tick in [0, 1, u32::MAX] {
        for is_shutdown in [false, true] {
            let word = Word::unpack(Word { ready: Ready::ALL, is_shutdown, tick }.pack());
            assert_eq!((word.ready, word.is_shutdown, word.tick), (Ready::ALL, is_shutdown, tick));
        }
    }
    let io = Readiness {
        word: AtomicU64::new(Word { ready: Ready::EMPTY, is_shutdown: false, tick: u32::MAX }.pack()),
        ..Default::default()
    };
    io.set(Ready::READABLE);
    assert_eq!(io.event(Ready::ALL), ReadyEvent { ready: Ready::READABLE, is_shutdown: false, tick: 0 });
}

#[test]
fn an_event_wakes_the_slot_and_every_waiter_of_its_direction_and_nobody_else() {
    let io = Readiness::default();
    let (reads, reader) = Count::new();
    let (writes, writer) = Count::new();
    let (replaced, latest) = Count::new();
    assert!(io.poll_ready(&mut Context::from_waker(&reader), Direction::Read).is_pending());
    assert!(io.poll_ready(&mut Context::from_waker(&latest), Direction::Read).is_pending());
    assert!(io.poll_ready(&mut Context::from_waker(&writer), Direction::Write).is_pending());
    let mut waiting: Vec<_> = (0..40).map(|_| Box::pin(io.wait(Ready::READ))).collect();
    let mut errors = pin!(io.wait(Ready::ERROR));
    for waiting in &mut waiting {
        assert!(poll(waiting.as_mut(), &reader).is_pending());
    }
    assert!(poll(errors.as_mut(), &writer).is_pending());
    assert_eq!(io.set(Ready::READ_CLOSED), 41);
    assert_eq!((reads.get(), replaced.get(), writes.get()), (40, 1, 0), "the latest waker wins the slot");
    for waiting in &mut waiting {
        assert_eq!(poll(waiting.as_mut(), &reader), Poll::Ready(io.event(Ready::READ)));
    }
    assert_eq!(io.set(Ready::READABLE), 0, "nobody waits twice");
    assert_eq!(io.set(Ready::ERROR), 1);
    assert_eq!(io.set(Ready::WRITABLE), 1);
    assert_eq!(writes.get(), 2);
}

#[test]
fn a_waiter_keeps_its_latest_waker_and_leaves_no_trace() {
    let io = Readiness::default();
    let (old, old_waker) = Count::new();
    let (new, new_waker) = Count::new();
    {
        let mut cancelled = pin!(io.wait(Ready::READ));
        assert!(poll(cancelled.as_mut(), &old_waker).is_pending());
        let mut moved = pin!(io.wait(Ready::READ));
        assert!(poll(moved.as_mut(), &old_waker).is_pending());
        assert!(poll(moved.as_mut(), &new_waker).is_pending());
        assert_eq!(io.lock().many.len(), 2);
        assert_eq!(io.set(Ready::READABLE), 2);
        assert_eq!((old.get(), new.get()), (1, 1));
        // Another task was quicker and cleared: as in tokio the future still completes.
        io.clear(io.event(Ready::READ));
        assert!(matches!(poll(moved.as_mut(), &new_waker), Poll::Ready(event) if event.ready.is_empty()));
        // It may be polled again and waits again.
        assert!(poll(moved.as_mut(), &new_waker).is_pending());
    }
    assert!(io.lock().many.is_empty());
    assert!(size_of::<Waiting<'_>>() < 64, "{}", size_of::<Waiting<'_>>());
}

#[test]
fn shutdown_wakes_all_and_ends_all_waiting() {
    let io = Readiness::default();
    let (count, waker) = Count::new();
    assert!(io.poll_ready(&mut Context::from_waker(&waker), Direction::Write).is_pending());
    let mut waiting = pin!(io.wait(Ready::ERROR));
    assert!(poll(waiting.as_mut(), &waker).is_pending());
    io.shutdown();
    assert_eq!(count.get(), 2);
    assert!(matches!(poll(waiting.as_mut(), &waker), Poll::Ready(event) if event.is_shutdown));
    io.clear(io.event(Ready::ALL));
    assert!(io.is_shutdown());
    assert!(io.poll_ready(&mut Context::from_waker(&waker), Direction::Read).is_ready());
    assert!(poll(pin!(io.wait(Ready::READ)).as_mut(), &waker).is_ready());
}

#[test]
fn an_event_that_races_with_a_registration_is_not_lost() {
    for _ in 0..3000 {
        let io = Readiness::default();
        std::thread::scope(|scope| {
            scope.spawn(|| io.set(Ready::READABLE));
            let event = futures::executor::block_on(io.wait(Ready::READ));
            assert_eq!(event.ready, Ready::READABLE);
        });
    }
}
