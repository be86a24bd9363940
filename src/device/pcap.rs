//! [`Pcap`]: records what passes through a device, for Wireshark.
//!
//! Owns the capture's writer and nothing of the traffic: packets pass unchanged, and if the writer fails the capture
//! ends, not the traffic. Called by the reactor in place of the device it wraps.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IoSliceMut, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::{DataLink, PcapError};

use super::{Capabilities, Device, Outgoing, Received};
use crate::time::Instant;
use crate::wire::split_large;

type Sink = Box<dyn Write + Send>;

/// Wraps a device and writes every packet of both directions to a pcapng capture (link type RAW, nanosecond stamps,
/// direction flags).
///
/// The capture shows what a plain wire would carry: in its copy, large segments are split and checksums completed. It
/// is flushed whenever the device has nothing to receive, and when the wrapper is dropped. If writing fails the capture
/// stops, the traffic goes on, and [`PcapHandle::error`] says why.
///
/// ```
/// use usernet::device::{Pcap, pair};
///
/// let (a, _b) = pair(1500);
/// let device = Pcap::new(a, Vec::new()); // or Pcap::file(a, "capture.pcapng")?
/// let handle = device.handle();
/// assert!(handle.error().is_none());
/// assert_eq!(handle.packets(), 0);
/// ```
pub struct Pcap<D> {
    device: D,
    recorder: Recorder,
}

struct Recorder {
    /// `None` after a write error.
    writer: Option<PcapNgWriter<Sink>>,
    status: PcapHandle,
    /// The wall clock when the stack's clock was zero; taken with the first packet.
    base: Option<Duration>,
    packet: Vec<u8>,
    scratch: Vec<u8>,
    dirty: bool,
}

/// Tells how a capture goes while a stack owns the [`Pcap`]. A clone is the same handle.
#[derive(Clone, Debug, Default)]
pub struct PcapHandle(Arc<Mutex<Status>>);

#[derive(Debug, Default)]
struct Status {
    packets: u64,
    error: Option<(io::ErrorKind, String)>,
}

impl PcapHandle {
    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packets written, after splitting.
    pub fn packets(&self) -> u64 {
        self.lock().packets
    }

    /// The error that ended the capture, if one did.
    pub fn error(&self) -> Option<io::Error> {
        self.lock().error.as_ref().map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }
}

#[derive(Clone, Copy)]
enum Direction {
    In,
    Out,
}

impl Direction {
    /// pcapng (draft-ietf-opsawg-pcapng) §4.3.1: `epb_flags`, bits 0 and 1.
    fn flags(self) -> u32 {
        match self {
            Direction::In => 0b01,
            Direction::Out => 0b10,
        }
    }
}

impl<D: Device> Pcap<D> {
    /// Records into `writer`. Give it a buffered one.
    pub fn new(device: D, writer: impl Write + Send + 'static) -> Pcap<D> {
        let recorder = Recorder::new(Box::new(writer), &device.name());
        Pcap { device, recorder }
    }

    /// Records into a file, which is created or emptied.
    ///
    /// # Errors
    /// Those of [`File::create`], with the path in the text.
    pub fn file(device: D, path: impl AsRef<Path>) -> io::Result<Pcap<D>> {
        let path = path.as_ref();
        let file = File::create(path).map_err(|error| {
            io::Error::new(error.kind(), format!("creating the capture file {}: {error}", path.display()))
        })?;
        Ok(Pcap::new(device, BufWriter::new(file)))
    }

    /// A handle to watch the capture after the device was given to a stack.
    pub fn handle(&self) -> PcapHandle {
        self.recorder.status.clone()
    }
}

impl<D: Device> Device for Pcap<D> {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        let result = self.device.poll_recv(cx, now, bufs);
        match &result {
            Poll::Ready(Ok(received)) => {
                let parts = bufs.iter().map(|buf| &**buf);
                self.recorder.record(Direction::In, *received, parts);
            }
            Poll::Ready(Err(_)) | Poll::Pending => self.recorder.flush(),
        }
        result
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        let result = self.device.poll_send(cx, now, packet);
        if let Poll::Ready(Ok(())) = result {
            let [first, second] = packet.payload;
            let meta = Received { len: packet.len(), offload: packet.offload, at: now };
            self.recorder.record(Direction::Out, meta, [packet.header, first, second].into_iter());
        }
        result
    }

    fn name(&self) -> String {
        format!("pcap over {}", self.device.name())
    }

    fn scatters(&self) -> bool {
        self.device.scatters()
    }

    fn on_busy_poll(&mut self) {
        self.device.on_busy_poll();
    }
}

impl<D> Drop for Pcap<D> {
    fn drop(&mut self) {
        self.recorder.flush();
    }
}

impl<D: fmt::Debug> fmt::Debug for Pcap<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pcap").field("device", &self.device).field("status", &self.recorder.status).finish()
    }
}

impl Recorder {
    fn new(sink: Sink, interface: &str) -> Recorder {
        let mut recorder = Recorder {
            writer: None,
            status: PcapHandle::default(),
            base: None,
            packet: Vec::new(),
            scratch: Vec::new(),
            dirty: true,
        };
        match Recorder::begin(sink, interface) {
            Ok(writer) => recorder.writer = Some(writer),
            Err(error) => recorder.stop(error),
        }
        recorder
    }

    fn begin(sink: Sink, interface: &str) -> Result<PcapNgWriter<Sink>, PcapError> {
        let mut writer = PcapNgWriter::new(sink)?;
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::RAW,
            // No limit on the bytes kept of a packet.
            snaplen: 0,
            // Stamps count 10^-9 s.
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(interface)),
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        })?;
        Ok(writer)
    }

    /// Writes the packet whose first `meta.len` bytes are in `parts`.
    fn record<'a>(&mut self, direction: Direction, meta: Received, parts: impl Iterator<Item = &'a [u8]>) {
        let Some(writer) = &mut self.writer else { return };
        let base = *self.base.get_or_insert_with(|| {
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            wall.saturating_sub(meta.at.since(Instant::ZERO))
        });
        let stamp = base + meta.at.since(Instant::ZERO);
        self.packet.clear();
        for part in parts {
            let rest = meta.len - self.packet.len();
            self.packet.extend_from_slice(part.get(..rest).unwrap_or(part));
        }
        let mut result = Ok(());
        let mut packets = 0;
        let mut write = |packet: &[u8]| {
            if result.is_ok() {
                result = write_packet(writer, direction, stamp, packet);
                packets += 1;
            }
        };
        split_large(&self.packet, meta.offload, &mut self.scratch, &mut write);
        self.dirty = true;
        match result {
            Ok(()) => self.status.lock().packets += packets,
            Err(error) => self.stop(error),
        }
    }

    fn flush(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if let Some(Err(error)) = self.writer.as_mut().map(|writer| writer.get_mut().flush()) {
            self.stop(PcapError::IoError(error));
        }
    }

    fn stop(&mut self, error: PcapError) {
        let kind = match &error {
            PcapError::IoError(error) => error.kind(),
            _ => io::ErrorKind::Other,
        };
        self.status.lock().error = Some((kind, format!("writing the capture: {error}")));
        self.writer = None;
    }
}

fn write_packet(
    writer: &mut PcapNgWriter<Sink>,
    direction: Direction,
    timestamp: Duration,
    packet: &[u8],
) -> Result<(), PcapError> {
    let block = EnhancedPacketBlock {
        interface_id: 0,
        timestamp,
        original_len: u32::try_from(packet.len()).unwrap_or(u32::MAX),
        data: Cow::Borrowed(packet),
        options: vec![EnhancedPacketOption::Flags(direction.flags())],
    };
    writer.write_pcapng_block(block).map(|_| ())
}

#[cfg(test)]
mod tests;
