use super::super::testing::{Count, failure, recv, recv_with, send, send_with};
use super::super::{Checksum, Offload};
use super::*;

const NOW: Instant = Instant::from_micros(5);

#[test]
fn a_packet_crosses_with_its_metadata_and_wakes_the_receiver_once() {
    let (mut a, mut b) = pair(1500);
    let (count, waker) = Count::new();
    assert!(recv_with(&mut b, &waker, NOW).is_pending());
    let packet = vec![7; 40_000];
    let offload =
        Offload { checksum: Checksum::Partial { start: 20, offset: 16 }, segment_size: Some(1460), header_len: 40 };
    assert!(matches!(send_with(&mut a, &waker, NOW, &packet, offload), Poll::Ready(Ok(()))));
    assert_eq!(count.woken(), 1);
    let Poll::Ready(Ok((received, bytes))) = recv_with(&mut b, &waker, NOW) else { panic!("no packet") };
    assert_eq!(received, Received { len: 40_000, offload, at: NOW });
    assert_eq!(bytes, packet);
}

#[test]
fn a_full_queue_is_pending_and_one_pop_wakes_the_sender() {
    let (mut a, mut b) = pair_with(PairOptions { queue_packets: 3, ..PairOptions::default() });
    for n in 0..3 {
        assert!(send(&mut a, NOW, &[n; 100]).is_ready());
    }
    let (count, waker) = Count::new();
    assert!(send_with(&mut a, &waker, NOW, &[3; 100], Offload::default()).is_pending());
    assert_eq!(count.woken(), 0);
    assert_eq!(recv(&mut b, NOW), Some(vec![0; 100]), "a refused packet must not be there");
    assert_eq!(count.woken(), 1);
    assert!(send(&mut a, NOW, &[3; 100]).is_ready());
    assert_eq!(recv(&mut b, NOW), Some(vec![1; 100]));
}

#[test]
fn bytes_are_bounded_too() {
    let (mut a, mut b) = pair(1500);
    let large = Offload { segment_size: Some(1460), header_len: 40, ..Offload::default() };
    let mut sent = 0;
    while send_with(&mut a, std::task::Waker::noop(), NOW, &[1; 65_535], large).is_ready() {
        sent += 1;
    }
    assert_eq!(sent, MIN_QUEUE_BYTES / 65_535);
    assert!(recv(&mut b, NOW).is_some());
    assert!(send_with(&mut a, std::task::Waker::noop(), NOW, &[1; 65_535], large).is_ready());
}

#[test]
fn a_packet_above_the_mtu_vanishes() {
    let (mut a, mut b) = pair(576);
    assert!(send(&mut a, NOW, &[1; 577]).is_ready());
    assert_eq!(recv(&mut b, NOW), None);
    assert!(send(&mut a, NOW, &[1; 576]).is_ready());
    assert_eq!(recv(&mut b, NOW), Some(vec![1; 576]));
}

#[test]
fn dropping_an_end_delivers_the_rest_then_fails_and_wakes_both_waiters() {
    let (mut a, mut b) = pair_with(PairOptions { queue_packets: 1, ..PairOptions::default() });
    assert!(send(&mut a, NOW, b"last words").is_ready());
    assert!(send(&mut b, NOW, b"unheard").is_ready());
    let (count, waker) = Count::new();
    assert!(send_with(&mut b, &waker, NOW, b"waiting", Offload::default()).is_pending());
    drop(a);
    assert_eq!(count.woken(), 1);
    // An answer to what is still queued is no reason to fail before the rest of it.
    assert!(matches!(send(&mut b, NOW, b"answer"), Poll::Ready(Ok(()))));
    assert_eq!(recv(&mut b, NOW), Some(b"last words".to_vec()));
    assert_eq!(failure(recv_with(&mut b, &waker, NOW)), Some(io::ErrorKind::NetworkDown));

    let (a, mut b) = pair(1500);
    assert!(recv_with(&mut b, &waker, NOW).is_pending());
    drop(a);
    assert_eq!(count.woken(), 2);
}
