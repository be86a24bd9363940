//! What the device tests share: a waker that counts, and short forms of the two polls.

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::{Device, Offload, Outgoing, Received};
use crate::time::Instant;
use crate::wire::{Body, Checksum, Flags, Header, MAX_HEADER, Options, Seq, emit_tcp, parse};

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    pub(super) fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    pub(super) fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

pub(super) fn send_with(
    device: &mut impl Device,
    waker: &Waker,
    now: Instant,
    packet: &[u8],
    offload: Offload,
) -> Poll<io::Result<()>> {
    let (header, rest) = packet.split_at(packet.len() / 3);
    let (first, second) = rest.split_at(rest.len() / 2);
    let outgoing = Outgoing { header, payload: [first, second], offload };
    device.poll_send(&mut Context::from_waker(waker), now, &outgoing)
}

pub(super) fn send(device: &mut impl Device, now: Instant, packet: &[u8]) -> Poll<io::Result<()>> {
    send_with(device, Waker::noop(), now, packet, Offload::default())
}

pub(super) fn recv_with(
    device: &mut impl Device,
    waker: &Waker,
    now: Instant,
) -> Poll<io::Result<(Received, Vec<u8>)>> {
    let (mut head, mut tail) = (vec![0; 24], vec![0; 66_000]);
    let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
    match device.poll_recv(&mut Context::from_waker(waker), now, &mut bufs) {
        Poll::Ready(Ok(received)) => {
            head.extend_from_slice(&tail);
            head.truncate(received.len);
            Poll::Ready(Ok((received, head)))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// The next packet if there is one now.
pub(super) fn recv(device: &mut impl Device, now: Instant) -> Option<Vec<u8>> {
    match recv_with(device, Waker::noop(), now) {
        Poll::Ready(Ok((_, packet))) => Some(packet),
        Poll::Ready(Err(error)) => panic!("device failed: {error}"),
        Poll::Pending => None,
    }
}

/// The kind of the error a poll ended with.
pub(super) fn failure<T>(poll: Poll<io::Result<T>>) -> Option<io::ErrorKind> {
    match poll {
        Poll::Ready(Err(error)) => Some(error.kind()),
        _ => None,
    }
}

/// A large TCP segment with 3,000 bytes of text to be split every 1,000, checksum unfinished.
pub(super) fn large_segment() -> (Vec<u8>, Offload) {
    let text: Vec<u8> = (0..3_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let header = Header {
        local: "10.0.0.1:1000".parse().unwrap(),
        remote: "10.0.0.2:2000".parse().unwrap(),
        hop_limit: 64,
        traffic_class: 0,
        seq: Seq::new(u32::MAX - 1_500),
        ack: Seq::new(7),
        flags: Flags::ACK | Flags::PSH,
        wnd: 1_000,
        options: Options::default(),
    };
    let mut bytes = [0; MAX_HEADER];
    let (len, checksum) = emit_tcp(&mut bytes, &header, [&text, &[]], true);
    let offload = Offload { checksum, segment_size: Some(1_000), header_len: u16::try_from(len).unwrap() };
    ([&bytes[..len], &text].concat(), offload)
}

/// Checks that `packets` are what a plain wire would carry for [`large_segment`].
pub(super) fn assert_split(packets: &[Vec<u8>]) {
    let mut text = Vec::new();
    for (n, packet) in packets.iter().enumerate() {
        let parsed = parse(packet, Checksum::Complete).expect("a checksum or length is wrong");
        let Body::Tcp { seg, .. } = parsed.body else { panic!("not TCP") };
        assert_eq!(seg.seq, Seq::new(u32::MAX - 1_500) + u32::try_from(n * 1_000).unwrap());
        assert_eq!(seg.payload.len(), 1_000);
        text.extend_from_slice(seg.payload);
    }
    assert!(large_segment().0.ends_with(&text) && text.len() == 3_000);
}
