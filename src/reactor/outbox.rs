//! [`Outbox`]: the device's way out, with room for the one packet it would not take yet.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::device::{Device, Offload, Outgoing};
use crate::time::Instant;

/// How long a packet waits for the device; after that it and its successors are lost, as on a wire (reliability.md F7).
/// Without it a device that is stuck for good would stop every timer of every connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// A packet the device refused with `Pending`, copied because the ring bytes it pointed at may be acknowledged meanwhile.
/// The buffer is allocated at the first refusal and kept.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    header_len: usize,
    offload: Offload,
    full: bool,
    /// Since when the device has taken nothing.
    refused: Option<Instant>,
}

impl Outbox {
    /// Whether a packet waits for the device.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// When the packet that waits has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.refused.filter(|_| self.full).map(|since| since + PATIENCE)
    }

    /// The device took a packet.
    pub(super) fn on_sent(&mut self) {
        self.full = false;
        self.refused = None;
    }

    /// The device has refused a packet. Whether it is to be held; if not it is lost, and so is one that was held.
    pub(super) fn on_refused(&mut self, now: Instant) -> bool {
        let since = *self.refused.get_or_insert(now);
        let patient = now.since(since) < PATIENCE;
        self.full &= patient;
        patient
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
        self.on_sent();
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
