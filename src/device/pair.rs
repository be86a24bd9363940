//! [`pair`]: an in-memory link with two ends.
//!
//! Owns one bounded queue each way and nothing else: no delay, no loss (see [`Fault`](super::Fault)), no clock, so it
//! runs under `tokio::time::pause()`. Called by the reactors of two stacks.

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use super::queue::PacketQueue;
use super::{Capabilities, Device, Outgoing, Received};
use crate::time::Instant;

/// Largest IP packet there is.
const MAX_PACKET: usize = 65_535;
/// Bytes a direction holds at least: sixteen packets of the largest size. Address space until used.
const MIN_QUEUE_BYTES: usize = 1 << 20;

/// How [`pair_with`] makes a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairOptions {
    /// Largest ordinary IP packet, in bytes; at most 65,535.
    pub mtu: usize,
    /// Whether packets of up to 65,535 bytes (with a segment size beside them) and unfinished checksums may cross.
    /// The bytes never leave memory, so this is right unless a test wants to see what a plain wire would carry.
    pub offload: bool,
    /// Packets a direction holds before the sender has to wait.
    pub queue_packets: usize,
}

impl Default for PairOptions {
    /// MTU 1500, offload on, 256 packets.
    fn default() -> Self {
        PairOptions { mtu: 1500, offload: true, queue_packets: 256 }
    }
}

/// Two ends of an in-memory link with the given MTU; what one sends the other receives, in order and unharmed.
///
/// When an end is dropped the device of the other end is gone: it delivers what was queued, then fails with
/// [`NetworkDown`](io::ErrorKind::NetworkDown), which ends its stack. For a link that stays but carries nothing, see
/// the blackouts of [`Fault`](super::Fault).
///
/// ```
/// use usernet::device::{Device, pair};
///
/// let (a, b) = pair(1500);
/// assert_eq!(a.capabilities().mtu, 1500);
/// assert!(a.capabilities().checksum); // checksums are skipped: the data never leaves memory
/// assert!(!b.without_offload().capabilities().checksum);
/// ```
pub fn pair(mtu: usize) -> (PairEnd, PairEnd) {
    pair_with(PairOptions { mtu, ..PairOptions::default() })
}

/// [`pair`] with options.
///
/// ```
/// use usernet::device::{Device, PairOptions, pair_with};
///
/// let (a, _b) = pair_with(PairOptions { mtu: 576, offload: false, ..PairOptions::default() });
/// assert_eq!(a.capabilities().max_large_packet, None);
/// ```
pub fn pair_with(options: PairOptions) -> (PairEnd, PairEnd) {
    let mtu = options.mtu.min(MAX_PACKET);
    let bytes = options.queue_packets.saturating_mul(mtu).max(MIN_QUEUE_BYTES);
    let one = Arc::new(PacketQueue::new(options.queue_packets, bytes));
    let other = Arc::new(PacketQueue::new(options.queue_packets, bytes));
    let offload = Arc::new(AtomicBool::new(options.offload));
    let a = PairEnd { mtu, offload: Arc::clone(&offload), out: Arc::clone(&one), into: Arc::clone(&other) };
    let b = PairEnd { mtu, offload, out: other, into: one };
    (a, b)
}

/// One end of a [`pair`].
#[derive(Debug)]
pub struct PairEnd {
    mtu: usize,
    /// Shared by both ends: what one end accepts the other must be able to receive.
    offload: Arc<AtomicBool>,
    out: Arc<PacketQueue>,
    into: Arc<PacketQueue>,
}

impl PairEnd {
    /// Turns large packets and partial checksums off, for both ends: the link then carries what a wire would.
    /// To be called before either end is given to a stack.
    #[must_use]
    pub fn without_offload(self) -> PairEnd {
        self.offload.store(false, Ordering::Relaxed);
        self
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NetworkDown, "the other end of the pair was dropped")
}

impl Device for PairEnd {
    fn capabilities(&self) -> Capabilities {
        let offload = self.offload.load(Ordering::Relaxed);
        Capabilities { mtu: self.mtu, max_large_packet: offload.then_some(MAX_PACKET), checksum: offload }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        self.into.poll_pop(cx, bufs).map_ok(|(len, offload)| Received { len, offload, at: now }).map_err(|_| gone())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, _now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        let limit = if packet.offload.segment_size.is_some() { MAX_PACKET } else { self.mtu };
        if packet.len() > limit {
            // Too long for the link: dropped, as a wire would.
            return Poll::Ready(Ok(()));
        }
        // Where nobody receives any more it vanishes: that the other end is gone `poll_recv` tells, after what was queued.
        self.out.push(Some(cx.waker()), packet).map(|_| Ok(()))
    }

    fn name(&self) -> String {
        "pair".to_owned()
    }

    fn scatters(&self) -> bool {
        true
    }
}

impl Drop for PairEnd {
    fn drop(&mut self) {
        self.out.close_sender();
        self.into.close_receiver();
    }
}

#[cfg(test)]
mod tests;
