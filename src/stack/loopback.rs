//! Packets from us to us: a bounded queue of reused buffers.
//!
//! Owns copies of whole packets (the only copies the stack makes). When it is full, local connections wait until it
//! drains. Filled by `output`, emptied by `input`.

use std::collections::VecDeque;

/// Segments that may wait. A segment has at most 64 KiB, so this bounds the memory at 4 MiB.
const CAPACITY: usize = 64;
/// Replies (RST, echo) find room beyond it: each was caused by a packet that has left the queue.
const CAPACITY_FOR_REPLIES: usize = 2 * CAPACITY;

/// See the module.
#[derive(Default)]
pub(super) struct Loopback {
    queue: VecDeque<Vec<u8>>,
    /// Emptied buffers, their capacity kept.
    spare: Vec<Vec<u8>>,
}

impl Loopback {
    /// Whether a segment may enter.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < CAPACITY
    }

    /// Whether a reply may enter.
    pub(super) fn has_room_for_reply(&self) -> bool {
        self.queue.len() < CAPACITY_FOR_REPLIES
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Copies a packet in.
    pub(super) fn push(&mut self, header: &[u8], payload: [&[u8]; 2]) {
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.extend_from_slice(header);
        for part in payload {
            packet.extend_from_slice(part);
        }
        self.queue.push_back(packet);
    }

    /// Takes the oldest packet out; hand it back with [`Loopback::recycle`].
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        self.queue.pop_front()
    }

    /// Keeps the buffer for a later packet.
    pub(super) fn recycle(&mut self, mut packet: Vec<u8>) {
        packet.clear();
        self.spare.push(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_whole_and_in_order_and_buffers_are_reused() {
        let mut loopback = Loopback::default();
        for n in 0..CAPACITY {
            assert!(loopback.has_room());
            loopback.push(&[n as u8], [b"ab", b"c"]);
        }
        assert!(!loopback.has_room() && loopback.has_room_for_reply());
        let mut buffers = Vec::new();
        for n in 0..CAPACITY {
            let packet = loopback.pop().expect("queued");
            assert_eq!(packet, [n as u8, b'a', b'b', b'c']);
            buffers.push(packet.as_ptr());
            loopback.recycle(packet);
        }
        assert!(loopback.is_empty());
        loopback.push(b"x", [b"", b""]);
        assert!(buffers.contains(&loopback.pop().expect("queued").as_ptr()));
    }
}
