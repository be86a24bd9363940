//! A bounded queue of packets in one block of memory: one direction of an in-memory link.
//!
//! Owns the bytes between a push and the pop that follows, and the two wakers. Never allocates after its creation, never
//! looks into a packet. Called by `pair` and `channel`.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::{Offload, Outgoing};

/// What a push or a pop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The other side is gone.
    Gone,
}

/// One direction. Both sides may be used from any thread; each has one waker slot.
#[derive(Debug)]
pub(super) struct PacketQueue {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `[head, head + used)` modulo the length holds the packets of `packets`, end to end.
    bytes: Box<[u8]>,
    head: usize,
    used: usize,
    packets: VecDeque<(usize, Offload)>,
    max_packets: usize,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

impl PacketQueue {
    /// A queue for at most `max_packets` packets and `max_bytes` bytes. The memory is not touched before it is used.
    pub(super) fn new(max_packets: usize, max_bytes: usize) -> PacketQueue {
        let max_packets = max_packets.max(1);
        PacketQueue {
            inner: Mutex::new(Inner {
                bytes: vec![0; max_bytes].into_boxed_slice(),
                head: 0,
                used: 0,
                packets: VecDeque::with_capacity(max_packets),
                max_packets,
                receiver: None,
                sender: None,
                sender_gone: false,
                receiver_gone: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock; if one did, the queue would still be consistent enough to drop.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a packet, or registers `waker` to be called when there is room (`Pending`).
    pub(super) fn push(&self, waker: Option<&Waker>, packet: &Outgoing<'_>) -> Poll<Result<(), Closed>> {
        let mut inner = self.lock();
        if inner.receiver_gone {
            return Poll::Ready(Err(Closed::Gone));
        }
        if !inner.has_room(packet.len()) {
            set(&mut inner.sender, waker);
            return Poll::Pending;
        }
        inner.append(packet);
        let receiver = inner.receiver.take();
        drop(inner);
        wake(receiver);
        Poll::Ready(Ok(()))
    }

    /// Takes the oldest packet into `bufs` and returns the number of bytes stored (the rest of a longer packet is
    /// discarded) or registers the waker of `cx`. What was queued is delivered before [`Closed::Gone`].
    pub(super) fn poll_pop(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<Result<(usize, Offload), Closed>> {
        self.pop(Some(cx.waker()), bufs)
    }

    /// [`Self::poll_pop`] with an optional waker.
    pub(super) fn pop(
        &self,
        waker: Option<&Waker>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<Result<(usize, Offload), Closed>> {
        let mut inner = self.lock();
        let Some((len, offload)) = inner.packets.pop_front() else {
            if inner.sender_gone {
                return Poll::Ready(Err(Closed::Gone));
            }
            set(&mut inner.receiver, waker);
            return Poll::Pending;
        };
        let stored = inner.take(len, bufs);
        let sender = inner.sender.take();
        drop(inner);
        wake(sender);
        Poll::Ready(Ok((stored, offload)))
    }

    /// The sending side is gone: the receiver gets what is queued, then [`Closed::Gone`].
    pub(super) fn close_sender(&self) {
        let mut inner = self.lock();
        inner.sender_gone = true;
        let receiver = inner.receiver.take();
        drop(inner);
        wake(receiver);
    }

    /// The receiving side is gone: every push fails from now on.
    pub(super) fn close_receiver(&self) {
        let mut inner = self.lock();
        inner.receiver_gone = true;
        let sender = inner.sender.take();
        drop(inner);
        wake(sender);
    }
}

/// Remembers who waits, without cloning a waker that is already there.
fn set(slot: &mut Option<Waker>, waker: Option<&Waker>) {
    match (slot, waker) {
        (Some(old), Some(new)) => old.clone_from(new),
        (slot @ None, Some(new)) => *slot = Some(new.clone()),
        (_, None) => {}
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Inner {
    fn has_room(&self, len: usize) -> bool {
        self.packets.len() < self.max_packets && self.used + len <= self.bytes.len()
    }

    fn append(&mut self, packet: &Outgoing<'_>) {
        let len = packet.len();
        let [first, second] = packet.payload;
        let mut at = self.wrap(self.head + self.used);
        for part in [packet.header, first, second] {
            self.write(at, part);
            at = self.wrap(at + part.len());
        }
        self.used += len;
        self.packets.push_back((len, packet.offload));
    }

    /// Copies `part` to offset `at`, round the end if need be. The caller has checked that it fits.
    fn write(&mut self, at: usize, part: &[u8]) {
        let (start, end) = self.bytes.split_at_mut(at);
        let (near, far) = part.split_at(part.len().min(end.len()));
        copy(end, near);
        copy(start, far);
    }

    /// Removes `len` bytes and stores as many of them as `bufs` take.
    fn take(&mut self, len: usize, bufs: &mut [IoSliceMut<'_>]) -> usize {
        let mut stored = 0;
        for buf in bufs {
            let want = buf.len().min(len - stored);
            let at = self.wrap(self.head + stored);
            let near = self.bytes.get(at..).unwrap_or_default();
            let (first, rest) = buf.split_at_mut(want.min(near.len()));
            copy_prefix(first, near);
            copy_prefix(rest.get_mut(..want - first.len()).unwrap_or_default(), &self.bytes);
            stored += want;
        }
        self.used -= len;
        // An empty queue rewinds, so that a quiet link lives in a few pages of the block.
        self.head = if self.used == 0 { 0 } else { self.wrap(self.head + len) };
        stored
    }

    fn wrap(&self, at: usize) -> usize {
        if at >= self.bytes.len() { at - self.bytes.len() } else { at }
    }
}

/// Copies all of `from` to the beginning of `to`.
fn copy(to: &mut [u8], from: &[u8]) {
    if let Some(to) = to.get_mut(..from.len()) {
        to.copy_from_slice(from);
    }
}

/// Fills `to` from the beginning of `from`.
fn copy_prefix(to: &mut [u8], from: &[u8]) {
    if let Some(from) = from.get(..to.len()) {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(header: &'a [u8], first: &'a [u8], second: &'a [u8]) -> Outgoing<'a> {
        Outgoing { header, payload: [first, second], offload: Offload::default() }
    }

    fn pop(queue: &PacketQueue, sizes: &[usize]) -> Option<Vec<u8>> {
        let mut storage: Vec<Vec<u8>> = sizes.iter().map(|size| vec![0xee; *size]).collect();
        let mut bufs: Vec<_> = storage.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        match queue.pop(None, &mut bufs) {
            Poll::Ready(Ok((len, _))) => Some(storage.concat()[..len].to_vec()),
            _ => None,
        }
    }

    #[test]
    fn packets_come_out_as_they_went_in_whatever_the_wrap_and_the_slices() {
        let mut rng = fastrand::Rng::with_seed(7);
        let queue = PacketQueue::new(8, 97);
        let mut model = VecDeque::new();
        for round in 0..20_000_u32 {
            if rng.bool() {
                let bytes: Vec<u8> = (0..rng.usize(..60)).map(|_| rng.u8(..)).collect();
                let (header, rest) = bytes.split_at(rng.usize(..=bytes.len()));
                let (first, second) = rest.split_at(rng.usize(..=rest.len()));
                let fits = model.len() < 8 && model.iter().map(Vec::len).sum::<usize>() + bytes.len() <= 97;
                let pushed = queue.push(None, &packet(header, first, second)).is_ready();
                assert_eq!(pushed, fits, "round {round}");
                if pushed {
                    model.push_back(bytes);
                }
            } else {
                let sizes = [rng.usize(..40), rng.usize(..40), 60];
                assert_eq!(pop(&queue, &sizes), model.pop_front(), "round {round}");
            }
        }
    }

    #[test]
    fn a_packet_longer_than_the_slices_is_cut_and_the_next_one_is_whole() {
        let queue = PacketQueue::new(8, 97);
        assert!(queue.push(None, &packet(b"head", b"pay", b"load")).is_ready());
        assert!(queue.push(None, &packet(b"next", b"", b"")).is_ready());
        assert_eq!(pop(&queue, &[3, 3]).as_deref(), Some(&b"headpa"[..]));
        assert_eq!(pop(&queue, &[9]).as_deref(), Some(&b"next"[..]));
    }

    #[test]
    fn closing_delivers_what_is_queued_first() {
        let queue = PacketQueue::new(8, 97);
        assert!(queue.push(None, &packet(b"last", b"", b"")).is_ready());
        queue.close_sender();
        assert_eq!(pop(&queue, &[9]).as_deref(), Some(&b"last"[..]));
        assert_eq!(queue.pop(None, &mut []), Poll::Ready(Err(Closed::Gone)));
        queue.close_receiver();
        assert_eq!(queue.push(None, &packet(b"x", b"", b"")), Poll::Ready(Err(Closed::Gone)));
    }
}
