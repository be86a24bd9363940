//! ACKs that ride: the ACK of the handshake, that of two full segments and that of a FIN wait until the owner has had one
//! pass, and not longer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use usernet::device::{PairOptions, pair_with};
use usernet::{Stack, State, UserStream};

use super::common::{connected, host, two_hosts, within};

#[tokio::test(start_paused = true)]
async fn the_first_text_carries_the_ack_of_the_handshake() {
    let (one, two) = two_hosts();
    let listener = two.bind("10.0.0.2:80").await.unwrap();
    let mut client = one.connect("10.0.0.2:80").await.unwrap();
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    assert_eq!(within(server.read_u8()).await.unwrap(), b'x');
    // SYN, then ACK and text in one.
    assert_eq!(one.stats().packets_out, 2);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_acknowledged_at_once_if_there_is_no_text() {
    let (one, two) = two_hosts();
    let began = Instant::now();
    let (_client, _server) = connected(&one, &two).await;
    assert_eq!((one.stats().packets_out, began.elapsed().as_nanos()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_closes_at_once_says_so_with_the_ack_of_the_fin() {
    let (one, two) = two_hosts();
    let (mut client, mut server) = connected(&one, &two).await;
    let closes = tokio::spawn(async move {
        assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        drop(client);
    });
    tokio::task::yield_now().await;
    let before = one.stats().packets_out;
    server.shutdown().await.unwrap();
    assert_eq!(within(server.read_to_end(&mut Vec::new())).await.unwrap(), 0);
    closes.await.unwrap();
    assert_eq!(one.stats().packets_out - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_fin_is_acknowledged_at_once_if_the_owner_stays() {
    let (one, two) = two_hosts();
    let (client, mut server) = connected(&one, &two).await;
    let (began, before) = (Instant::now(), one.stats().packets_out);
    server.shutdown().await.unwrap();
    // Passes, not time: a deadline of the delayed ACK would move the paused clock.
    while server.info().state != State::FinWait2 {
        tokio::task::yield_now().await;
        assert_eq!(began.elapsed().as_nanos(), 0);
    }
    assert_eq!((one.stats().packets_out - before, began.elapsed().as_nanos()), (1, 0));
    drop(client);
}

/// Passes, not time: a deadline of the delayed ACK would move the paused clock.
async fn all_acknowledged(stream: &UserStream, bytes: u64) {
    for _ in 0..1_000 {
        if stream.info().bytes_acked == bytes {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} of {bytes} bytes acknowledged", stream.info().bytes_acked);
}

/// How many packets carry 10,000 bytes to a reader that waits for them, and how many go back.
async fn packets_of_a_read(one: &Stack, two: &Stack) -> (u64, u64) {
    let (mut client, mut server) = connected(one, two).await;
    tokio::task::yield_now().await;
    let before = (one.stats().packets_out, two.stats().packets_out);
    let reads = tokio::spawn(async move {
        server.read_exact(&mut [0; 10_000]).await.unwrap();
        server
    });
    client.write_all(&[7; 10_000]).await.unwrap();
    let _server = within(reads).await.unwrap();
    all_acknowledged(&client, 10_000).await;
    (one.stats().packets_out - before.0, two.stats().packets_out - before.1)
}

#[tokio::test(start_paused = true)]
async fn the_ack_of_a_large_segment_tells_of_what_its_reader_made_room_for() {
    let (one, two) = two_hosts();
    assert_eq!(packets_of_a_read(&one, &two).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_large_segment_that_nobody_reads_is_acknowledged_at_once() {
    let (one, two) = two_hosts();
    let (mut client, _server) = connected(&one, &two).await;
    let (began, before) = (Instant::now(), two.stats().packets_out);
    client.write_all(&[7; 10_000]).await.unwrap();
    all_acknowledged(&client, 10_000).await;
    assert_eq!((two.stats().packets_out - before, began.elapsed().as_nanos()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_ordinary_packets_that_is_read_costs_one_ack() {
    let (left, right) = pair_with(PairOptions { offload: false, ..PairOptions::default() });
    let (one, two) = (host(1).device(left).build().unwrap(), host(2).device(right).build().unwrap());
    assert_eq!(packets_of_a_read(&one, &two).await, (7, 1));
}
