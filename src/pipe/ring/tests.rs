use super::*;

/// What two reads find, whatever that is.
#[cfg(usernet_loom)]
fn read_twice(consumer: &mut Consumer) -> Vec<u8> {
    let mut got = Vec::new();
    for _ in 0..2 {
        let part = consumer.slices(0, 3).concat();
        consumer.consume(part.len());
        got.extend(part);
    }
    got
}

/// One producer thread and one consumer thread over a ring of 2 bytes: every byte arrives once, in order; loom sees each
/// access of each byte and fails if two of them are not ordered by the positions.
#[cfg(usernet_loom)]
#[test]
fn loom_publication_wrap_and_rewind() {
    loom::model(|| {
        let Rings { mut send_producer, mut send_consumer, .. } = rings(Region::map(2, 1).unwrap());
        let consumer = loom::thread::spawn(move || (read_twice(&mut send_consumer), send_consumer));
        let mut written = 0;
        // One byte, then two: the second write wraps, is cut short, or rewinds, as the consumer happens to be.
        for data in [&[1][..], &[2, 3]] {
            written += send_producer.write(data);
        }
        let (mut got, send_consumer) = consumer.join().unwrap();
        got.extend(send_consumer.slices(0, 2).concat());
        assert_eq!(got, [1, 2, 3].into_iter().take(written).collect::<Vec<u8>>());
    });
}

/// Out-of-order bytes are written in place while the consumer reads, and are published later.
#[cfg(usernet_loom)]
#[test]
fn loom_bytes_beyond_the_tail() {
    loom::model(|| {
        let Rings { mut recv_producer, mut recv_consumer, .. } = rings(Region::map(1, 3).unwrap());
        recv_producer.write(&[1]);
        let consumer = loom::thread::spawn(move || {
            let part = recv_consumer.slices(0, 3).concat();
            recv_consumer.consume(part.len());
            (part, recv_consumer)
        });
        recv_producer.write_at(1, &[3]);
        recv_producer.rewind();
        recv_producer.write_at(0, &[2]);
        recv_producer.publish(2);
        let (mut got, recv_consumer) = consumer.join().unwrap();
        got.extend(recv_consumer.slices(0, 3).concat());
        assert_eq!(got, [1, 2, 3]);
    });
}

/// The consumer trims whenever the ring looks empty, the producer writes: no byte is written while it trims, none is lost.
/// A producer that was refused asks and tries again, the consumer looks for the question after it let go, as
/// `UserEnd::claim` and `StackEnd::send_trim` do: one of the two knows.
#[cfg(usernet_loom)]
#[test]
fn loom_trimming_and_writing() {
    use loom::sync::atomic::{AtomicBool, fence};
    loom::model(|| {
        let Rings { mut send_producer, mut send_consumer, .. } = rings(Region::map(2, 1).unwrap());
        let waits = Arc::new(AtomicBool::new(false));
        send_producer.write(&[1]);
        let consumer = loom::thread::spawn({
            let waits = Arc::clone(&waits);
            move || {
                let mut got = send_consumer.slices(0, 2).concat();
                send_consumer.consume(got.len());
                send_consumer.trim();
                fence(Ordering::SeqCst);
                let heard = waits.load(Ordering::SeqCst);
                let part = send_consumer.slices(0, 2).concat();
                send_consumer.consume(part.len());
                got.extend(part);
                (got, heard, send_consumer)
            }
        });
        let mut written = send_producer.write(&[2]);
        let refused = written == 0 && {
            waits.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            written = send_producer.write(&[2]);
            written == 0
        };
        let (mut got, heard, send_consumer) = consumer.join().unwrap();
        assert!(heard || !refused, "a wake-up is lost");
        got.extend(send_consumer.slices(0, 2).concat());
        assert_eq!(got, [1, 2].into_iter().take(1 + written).collect::<Vec<u8>>());
    });
}

/// Text lands beyond the tail while the consumer empties the ring; it is looked at again, and published where it lies.
#[cfg(usernet_loom)]
#[test]
fn loom_bytes_that_land() {
    loom::model(|| {
        let Rings { mut recv_producer, mut recv_consumer, .. } = rings(Region::map(1, 3).unwrap());
        recv_producer.write(&[1]);
        let consumer = loom::thread::spawn(move || {
            let part = recv_consumer.slices(0, 3).concat();
            recv_consumer.consume(part.len());
            (part, recv_consumer)
        });
        recv_producer.rewind();
        // The room may grow meanwhile, the place stays.
        for part in recv_producer.free_slices(0, 2) {
            part.fill(2);
        }
        assert_eq!(recv_producer.free_slices(0, 2).concat(), [2, 2]);
        recv_producer.publish(2);
        let (mut got, recv_consumer) = consumer.join().unwrap();
        got.extend(recv_consumer.slices(0, 3).concat());
        assert_eq!(got, [1, 2, 2]);
    });
}

/// The producer asks for another span while what is in the ring may wrap: it changes when no byte has to move, or not.
#[cfg(usernet_loom)]
#[test]
fn loom_fitting_a_ring_that_wraps() {
    loom::model(|| {
        let Rings { mut send_producer, mut send_consumer, .. } = rings(Region::map(3, 1).unwrap());
        send_producer.fit(2);
        send_producer.write(&[1]);
        let consumer = loom::thread::spawn(move || (read_twice(&mut send_consumer), send_consumer));
        let mut written = 1 + send_producer.write(&[2]);
        send_producer.fit(3);
        written += send_producer.write(&[3, 4]);
        let (mut got, send_consumer) = consumer.join().unwrap();
        got.extend(send_consumer.slices(0, 3).concat());
        assert_eq!(got, [1, 2, 3, 4].into_iter().take(written).collect::<Vec<u8>>());
    });
}

/// The producer widens the span on its second lap while the consumer reads: every byte is found where it was put.
#[cfg(usernet_loom)]
#[test]
fn loom_fitting() {
    loom::model(|| {
        let Rings { mut send_producer, mut send_consumer, .. } = rings(Region::map(3, 1).unwrap());
        send_producer.fit(2);
        send_producer.write(&[1, 2]);
        send_consumer.consume(1);
        send_producer.write(&[3]);
        send_consumer.consume(1);
        let consumer = loom::thread::spawn(move || (read_twice(&mut send_consumer), send_consumer));
        send_producer.fit(3);
        assert_eq!(send_producer.span(), 3);
        let written = send_producer.write(&[4, 5]);
        let (mut got, send_consumer) = consumer.join().unwrap();
        got.extend(send_consumer.slices(0, 3).concat());
        assert_eq!((written, got), (2, vec![3, 4, 5]));
    });
}

#[cfg(not(usernet_loom))]
#[test]
fn the_span_changes_when_nothing_need_move() {
    let Rings { mut send_producer, mut send_consumer, mut recv_producer, .. } = rings(Region::map(8, 8).unwrap());
    send_producer.write(b"abcde");
    send_producer.fit(4);
    assert_eq!((send_producer.span(), send_producer.free()), (8, 3), "the fifth byte would have to move");
    send_producer.fit(5);
    assert_eq!((send_producer.span(), send_producer.free()), (5, 0));
    // Full to the last byte, and yet it can grow: nothing has wrapped.
    send_producer.fit(6);
    assert_eq!((send_producer.span(), send_producer.free()), (6, 1));
    send_producer.fit(5);
    send_consumer.consume(2);
    // It wraps at the span.
    assert_eq!(send_producer.write(b"fgh"), 2);
    assert_eq!(send_consumer.slices(0, 9), [&b"cde"[..], b"fg"]);
    send_producer.fit(8);
    assert_eq!(send_producer.span(), 5, "what lies at the end of the span would not be followed by its beginning");
    send_consumer.consume(3);
    send_producer.fit(8);
    assert_eq!(send_producer.write(b"hijklmnop"), 6);
    assert_eq!(send_consumer.slices(0, 9), [&b"fghijklm"[..], b""]);
    send_consumer.consume(8);
    send_producer.fit(0);
    assert_eq!((send_producer.span(), send_producer.write(b"xy")), (1, 1));
    recv_producer.write_at(4, b"z");
    recv_producer.fit(4);
    assert_eq!(recv_producer.span(), 8, "a byte waits beyond the tail");
    recv_producer.discard_beyond(0);
    recv_producer.fit(4);
    assert_eq!((recv_producer.span(), recv_producer.write(b"abcdef"), recv_producer.reach()), (4, 4, 4));
}

#[cfg(not(usernet_loom))]
#[test]
fn what_lands_stays_where_it_is_until_it_is_published_or_forgotten() {
    let Rings { mut recv_producer, mut recv_consumer, .. } = rings(Region::map(1, 8).unwrap());
    recv_producer.write(b"abcdef");
    let [first, second] = recv_producer.free_slices(0, 2);
    assert_eq!((first.len(), second.len()), (2, 0));
    first.copy_from_slice(b"gh");
    let at = first.as_ptr().addr();
    recv_consumer.consume(6);
    assert_eq!(recv_producer.free_slices(0, 2).map(|part| part.to_vec()), [b"gh".to_vec(), vec![]]);
    assert_eq!(recv_producer.free_slices(0, 2)[0].as_ptr().addr(), at);
    // Forgotten: it holds nothing off.
    assert_eq!(recv_producer.len(), 0);
    assert!(recv_producer.trim());
    assert_eq!(recv_consumer.slices(0, 9).concat(), b"");
    assert_eq!(recv_producer.free_slices(0, 8).concat(), [0; 8], "wiped");
}

#[cfg(not(usernet_loom))]
#[test]
fn out_of_order_bytes_hold_off_the_rewind() {
    let Rings { mut recv_producer, mut recv_consumer, .. } = rings(Region::map(1, 8).unwrap());
    recv_producer.write(b"abc");
    recv_consumer.consume(3);
    recv_producer.write_at(2, b"xyz");
    recv_producer.rewind();
    assert!(!recv_producer.trim());
    recv_producer.write_at(0, b"vw");
    recv_producer.publish(5);
    assert_eq!(recv_consumer.slices(0, 9).concat(), b"vwxyz");
    assert_eq!(recv_consumer.slices(0, 9).map(<[u8]>::len), [5, 0]);
    recv_consumer.consume(5);
    recv_producer.write(b"123");
    assert_eq!(recv_consumer.slices(0, 9)[0].as_ptr().addr(), recv_consumer.info().address, "rewound");
    recv_consumer.consume(3);
    assert!(recv_producer.trim());
    assert!(!recv_consumer.trim(), "its producer claims nothing");
}

#[cfg(not(usernet_loom))]
#[test]
fn the_send_ring_is_written_or_trimmed_never_both() {
    let Rings { mut send_producer, mut send_consumer, .. } = rings(Region::map(8, 1).unwrap());
    assert!(send_consumer.trim(), "nothing was touched");
    assert_eq!(send_producer.free_slices(0, 9).map(|part| part.len()), [0, 0], "not claimed");
    send_producer.publish(1);
    assert!(!send_producer.trim() && send_producer.is_empty(), "not claimed");
    assert_eq!(send_producer.write(b"abc"), 3);
    assert!(!send_consumer.trim(), "not consumed");
    send_consumer.consume(3);
    assert!(send_producer.claim() && send_producer.claim());
    assert!(!send_consumer.trim(), "claimed");
    send_producer.write_at(0, b"xyz");
    send_producer.release();
    assert!(send_consumer.trim());
    assert!(send_producer.claim());
    send_producer.publish(3);
    assert_eq!(send_consumer.slices(0, 9).concat(), [0; 3], "the pages were gone");
    assert!(!send_consumer.trim());
}

#[cfg(not(usernet_loom))]
#[test]
fn what_does_not_fit_is_cut() {
    let Rings { mut send_producer, mut send_consumer, .. } = rings(Region::map(4, 1).unwrap());
    assert_eq!(send_producer.write(b"abcdef"), 4);
    assert_eq!(send_producer.write(b"x"), 0);
    send_producer.publish(9);
    assert_eq!((send_producer.len(), send_producer.free()), (4, 0));
    assert_eq!(send_producer.free_slices(0, 9).map(|part| part.len()), [0, 0]);
    assert_eq!(send_consumer.slices(3, 9).concat(), b"d");
    assert_eq!(send_consumer.slices(5, 9).concat(), b"");
    send_consumer.consume(9);
    assert_eq!((send_consumer.len(), send_producer.free()), (0, 4));
}

#[cfg(not(usernet_loom))]
#[test]
fn a_slice_is_filled_in_place() {
    let Rings { mut recv_producer, mut recv_consumer, .. } =
        rings_at(Region::map(1, 5).unwrap(), u64::from(u32::MAX) - 2);
    recv_producer.write(b"abc");
    recv_consumer.consume(2);
    let [first, second] = recv_producer.free_slices(0, 9);
    first.copy_from_slice(b"de");
    second.copy_from_slice(b"fg");
    recv_producer.publish(4);
    assert_eq!(recv_consumer.slices(0, 9).concat(), b"cdefg");
}
