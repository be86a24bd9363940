//! [`Outbox`]: the device's way out, with room for the one packet it would not take yet.

use std::io;
use std::task::{Context, Poll};

use crate::device::{Device, Offload, Outgoing};
use crate::time::Instant;

/// A packet the device refused with `Pending`, copied because the ring bytes it pointed at may be acknowledged meanwhile.
/// The buffer is allocated at the first refusal and kept.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    header_len: usize,
    offload: Offload,
    full: bool,
}

impl Outbox {
    /// Whether a packet waits for the device.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Tries again to send the packet that waits. `Ready` when there is none.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        device: &mut dyn Device,
    ) -> Poll<io::Result<()>> {
        if !self.full {
            return Poll::Ready(Ok(()));
        }
        let Some((header, payload)) = self.bytes.split_at_checked(self.header_len) else {
            self.full = false;
            return Poll::Ready(Ok(()));
        };
        let packet = Outgoing { header, payload: [payload, &[]], offload: self.offload };
        let sent = std::task::ready!(device.poll_send(cx, now, &packet));
        self.full = false;
        Poll::Ready(sent)
    }

    /// Keeps a copy of a packet that the device refused. The caller stops transmitting until it went out.
    pub(super) fn hold(&mut self, packet: &Outgoing<'_>) {
        self.bytes.clear();
        self.bytes.reserve(packet.len());
        self.bytes.extend_from_slice(packet.header);
        for part in packet.payload {
            self.bytes.extend_from_slice(part);
        }
        self.header_len = packet.header.len();
        self.offload = packet.offload;
        self.full = true;
    }
}
