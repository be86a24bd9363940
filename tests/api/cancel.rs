//! Every future dropped after every number of polls: nothing is lost, nothing leaks.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::common::{connected, host, kind, two_hosts, within};

/// Polls `future` up to `polls` times, letting others run in between, and drops it. `Some`: it was done before.
async fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn connect_dropped_anywhere_gives_back_port_and_buffers() {
    let (left, right) = usernet::device::pair(1500);
    // Room for one socket and four ports: what leaks is missed at once.
    let one = host(1)
        .device(left)
        .max_reserved(6 << 20)
        .configure(|config| {
            config.ephemeral_ports = (40_000, 40_003);
            config.time_wait = Duration::from_millis(1);
        })
        .build()
        .unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    for polls in 0..64 {
        let done = poll_times(one.connect("10.0.0.2:80"), polls).await;
        let finished = match done {
            Some(stream) => {
                stream.unwrap().abort();
                true
            }
            None => false,
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        while poll_times(listener.accept(), 1).await.is_some() {}
        if finished && polls > 8 {
            break;
        }
    }
    let stream = within(one.connect("10.0.0.2:80")).await.unwrap();
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn accept_dropped_anywhere_loses_no_connection() {
    let (one, two) = two_hosts();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let mut accepted = 0;
    let mut clients = Vec::new();
    for polls in 0..24 {
        let connect = tokio::spawn({
            let one = one.clone();
            async move { one.connect("10.0.0.2:80").await }
        });
        accepted += usize::from(poll_times(listener.accept(), polls % 8).await.is_some());
        clients.push(within(connect).await.unwrap().unwrap());
    }
    while accepted < clients.len() {
        within(listener.accept()).await.unwrap();
        accepted += 1;
    }
    assert_eq!(
        kind(tokio::time::timeout(Duration::from_secs(1), listener.accept()).await.map_err(Into::into)),
        ErrorKind::TimedOut
    );
}

#[tokio::test(start_paused = true)]
async fn reads_and_writes_dropped_anywhere_keep_the_stream_whole() {
    let (one, two) = two_hosts();
    let (mut client, mut server) = connected(&one, &two).await;
    let data: Vec<u8> = (0..400_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    let expected = data.clone();
    let writer = tokio::spawn(async move {
        let mut sent = 0;
        let mut polls = 0;
        while sent < data.len() {
            polls = (polls + 1) % 4;
            let chunk = &data[sent..data.len().min(sent + 9_999)];
            // A write that is dropped without an answer has written nothing.
            if let Some(n) = poll_times(client.write(chunk), polls).await {
                sent += n.unwrap();
            }
        }
        while poll_times(client.shutdown(), polls).await.is_none() {
            polls += 1;
        }
        client
    });
    let mut got = Vec::new();
    let mut polls = 0;
    let mut buf = vec![0; 7_777];
    loop {
        polls = (polls + 1) % 3;
        let _ = poll_times(server.peek(&mut buf), polls).await;
        let _ = poll_times(server.readable(), polls).await;
        match poll_times(server.read(&mut buf), polls).await.transpose().unwrap() {
            Some(0) => break,
            Some(n) => got.extend_from_slice(&buf[..n]),
            None => tokio::task::yield_now().await,
        }
    }
    assert!(got == expected);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_dropped_anywhere_leaves_no_trace() {
    let (one, two) = two_hosts();
    let (client, server) = connected(&one, &two).await;
    for polls in 0..6 {
        assert!(poll_times(server.peek(&mut [0]), polls).await.is_none());
        let _ = poll_times(client.drain(), polls).await;
        let _ = poll_times(client.writable(), polls).await;
        assert!(poll_times(one.closed(), polls).await.is_none());
    }
    client.try_write(b"x").unwrap();
    within(server.readable()).await.unwrap();
    assert_eq!(server.try_read(&mut [0; 4]).unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn resolving_dropped_anywhere_is_harmless() {
    let (one, two) = two_hosts();
    let _listener = two.bind("10.0.0.2:80").await.unwrap();
    for polls in 0..4 {
        let _ = poll_times(one.connect("10.0.0.2:80".to_owned()), polls).await;
        let _ = poll_times(one.bind("10.0.0.1:0".to_owned()), polls).await;
    }
    within(one.connect("10.0.0.2:80")).await.unwrap();
}
