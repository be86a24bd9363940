//! The idea of the crate, seen from outside: the buffers of a socket are those of its stream, and the device gathers
//! payload straight out of them.

use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::SocketInfo;
use usernet::device::{Capabilities, Device, Outgoing, PairOptions, Received, pair_with};
use usernet::time::Instant;

use super::common::{host, within};

/// Where the payload of each packet lay when it was sent.
struct Recorder<D> {
    inner: D,
    seen: Arc<Mutex<Vec<Range<usize>>>>,
}

impl<D: Device> Device for Recorder<D> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        self.inner.poll_recv(cx, now, bufs)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        for part in packet.payload.iter().filter(|part| !part.is_empty()) {
            let start = part.as_ptr().addr();
            self.seen.lock().unwrap().push(start..start + part.len());
        }
        self.inner.poll_send(cx, now, packet)
    }

    fn name(&self) -> String {
        "recorder".to_owned()
    }
}

fn places(info: SocketInfo) -> [(usize, usize); 2] {
    [info.send_buffer, info.recv_buffer].map(|buffer| (buffer.address, buffer.capacity))
}

#[tokio::test(start_paused = true)]
async fn the_buffers_of_a_socket_are_those_of_its_stream() {
    // A link that never makes the sender wait: the one packet a device refuses is held in a copy.
    let (left, right) = pair_with(PairOptions { queue_packets: 16_384, ..PairOptions::default() });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let one = host(1).device(Recorder { inner: left, seen: Arc::clone(&seen) }).build().unwrap();
    let two = host(2).device(right).build().unwrap();
    let listener = two.bind("10.0.0.2:80").await.unwrap();

    let socket = one.socket().unwrap();
    let before = socket.info();
    assert!(before.send_buffer.capacity >= 1 << 20 && before.recv_buffer.capacity >= 1 << 20);
    let mut client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
    assert_eq!(places(client.info()), places(before));

    let (mut server, _) = listener.accept().await.unwrap();
    let size = 3 << 20;
    let reader = tokio::spawn(async move {
        let mut got = vec![0; size];
        server.read_exact(&mut got).await.unwrap();
        server.write_all(&got).await.unwrap();
        server
    });
    let data: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    client.write_all(&data).await.unwrap();
    let mut back = vec![0; size];
    within(client.read_exact(&mut back)).await.unwrap();
    assert!(back == data);
    assert_eq!(places(client.info()), places(before));
    drop(reader.await.unwrap());

    let buffer = client.info().send_buffer;
    let inside = buffer.address..buffer.address + buffer.capacity;
    let seen = seen.lock().unwrap();
    let carried: usize = seen.iter().map(|range| range.len()).sum();
    assert!(carried >= size, "{carried} bytes went by");
    assert!(seen.iter().all(|range| inside.start <= range.start && range.end <= inside.end));
}
