use std::task::Waker;

use super::super::testing::{Count, failure, recv, recv_with, send, send_with};
use super::*;

const NOW: Instant = Instant::from_micros(5);

#[tokio::test]
async fn packets_cross_both_ways() {
    let (mut device, handle) = channel(1500, 4);
    handle.send(b"into the stack").await.unwrap();
    assert_eq!(recv(&mut device, NOW).as_deref(), Some(&b"into the stack"[..]));
    assert!(send(&mut device, NOW, b"out of the stack").is_ready());
    let mut buf = [0; 1500];
    assert_eq!(handle.recv(&mut buf).await.unwrap(), 16);
    assert_eq!(&buf[..16], b"out of the stack");
    assert_eq!(handle.try_recv(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn every_waiting_sender_gets_its_turn() {
    let (mut device, handle) = channel(1500, 1);
    let (sender, _receiver) = handle.split();
    let sender = Arc::new(sender);
    let tasks: Vec<_> = (0..5_u8)
        .map(|n| {
            let sender = Arc::clone(&sender);
            tokio::spawn(async move { sender.send(&[n; 10]).await })
        })
        .collect();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        tokio::task::yield_now().await;
        if let Some(packet) = recv(&mut device, NOW) {
            seen.push(packet[0]);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_recv_takes_nothing_and_a_cancelled_send_sends_nothing() {
    let (mut device, handle) = channel(1500, 1);
    let mut buf = [0; 1500];
    assert!(futures::poll!(Box::pin(handle.recv(&mut buf))).is_pending());
    assert!(send(&mut device, NOW, b"kept").is_ready());
    assert_eq!(handle.try_recv(&mut buf).unwrap(), 4);

    handle.try_send(b"first").unwrap();
    assert_eq!(handle.try_send(b"full").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(futures::poll!(Box::pin(handle.send(b"cancelled"))).is_pending());
    assert_eq!(recv(&mut device, NOW).as_deref(), Some(&b"first"[..]));
    assert_eq!(recv(&mut device, NOW), None);
}

#[test]
fn the_device_is_woken_by_a_packet_and_by_room() {
    let (mut device, handle) = channel(1500, 1);
    let (count, waker) = Count::new();
    assert!(recv_with(&mut device, &waker, NOW).is_pending());
    handle.try_send(b"x").unwrap();
    assert_eq!(count.woken(), 1);
    assert!(send(&mut device, NOW, b"1").is_ready());
    assert!(send_with(&mut device, &waker, NOW, b"2", Offload::default()).is_pending());
    handle.try_recv(&mut [0; 1]).unwrap();
    assert_eq!(count.woken(), 2);
}

#[test]
fn sizes_are_checked_on_both_sides() {
    let (mut device, handle) = channel(100, 4);
    assert_eq!(handle.try_send(&[1; 101]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(handle.try_send(&[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert!(send(&mut device, NOW, &[1; 101]).is_ready());
    assert_eq!(handle.try_recv(&mut [0; 200]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn either_side_learns_that_the_other_is_gone() {
    let (mut device, handle) = channel(1500, 4);
    assert!(send(&mut device, NOW, b"last").is_ready());
    let waiting = tokio::spawn(async move {
        let mut buf = [0; 10];
        assert_eq!(handle.recv(&mut buf).await.unwrap(), 4);
        handle.recv(&mut buf).await.map_err(|error| error.kind())
    });
    tokio::task::yield_now().await;
    drop(device);
    assert_eq!(waiting.await.unwrap(), Err(io::ErrorKind::NetworkDown));

    let (mut device, handle) = channel(1500, 4);
    let (count, waker) = Count::new();
    assert!(recv_with(&mut device, &waker, NOW).is_pending());
    let (sender, receiver) = handle.split();
    drop(receiver);
    assert_eq!(count.woken(), 0);
    for _ in 0..10 {
        assert!(send(&mut device, NOW, b"vanishes").is_ready());
    }
    drop(sender);
    assert_eq!(count.woken(), 1);
    assert_eq!(failure(recv_with(&mut device, Waker::noop(), NOW)), Some(io::ErrorKind::NetworkDown));
}
