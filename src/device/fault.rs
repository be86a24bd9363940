//! [`Fault`]: any device, with a bad network behind it.
//!
//! Owns the packets it delays and the dice. Deterministic: the same seed, packets and times give the same fates. Never
//! reads a clock but to arm its timer (`tokio::time`, so `pause()` works). Called by the reactor in place of the device
//! it wraps.

mod config;
mod lane;

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

pub use config::{BurstLoss, FaultConfig, FaultStats, RateLimit};
use lane::Lane;

use super::{Capabilities, Device, Offload, Outgoing, Received};
use crate::time::Instant;
use crate::wire::split_large;

/// Room for any packet a device can deliver.
const SCRATCH: usize = 65_535 + 100;
/// Packets read from the device in one poll that all came to nothing, before others get their turn.
const READS_PER_POLL: usize = 64;

/// Wraps a device in a bad network: loss, bursts of loss, delay, jitter, reordering, duplicates, flipped bits, a slow
/// line with a short queue, blackouts; each direction has its own [`FaultConfig`].
///
/// Every packet meets its own fate, so large packets and partial checksums are off in
/// [`capabilities`](Device::capabilities), and what the device delivers that way is split and completed first. A delayed
/// packet is released with its exact time in [`Received::at`], however coarse the timer is.
///
/// Both methods of the device must be polled from one task, and, if anything is delayed, in a runtime with time enabled.
///
/// ```
/// use std::time::Duration;
/// use usernet::device::{Fault, FaultConfig, pair};
///
/// let (a, b) = pair(1500);
/// // A 40 ms round trip that loses every hundredth packet each way.
/// let config = FaultConfig { loss: 0.01, delay: Duration::from_millis(20), ..FaultConfig::default() };
/// let bad = Fault::new(a, 42).both(config);
/// let handle = bad.handle(); // change or count the faults while a stack owns the device
/// assert_eq!(handle.stats_tx().lost, 0);
/// # drop(b);
/// ```
pub struct Fault<D> {
    device: D,
    tx: Lane,
    rx: Lane,
    shared: FaultHandle,
    timer: Timer,
    /// Why the device has ended: told once nothing is under way to us any more.
    ended: Option<io::Error>,
    scratch: Box<[u8]>,
    split: Vec<u8>,
}

impl<D: Device> Fault<D> {
    /// Wraps `device`; nothing is wrong with it yet. All chance comes from `seed`.
    pub fn new(device: D, seed: u64) -> Fault<D> {
        let mut rng = fastrand::Rng::with_seed(seed);
        Fault {
            device,
            tx: Lane::new(rng.fork()),
            rx: Lane::new(rng.fork()),
            shared: FaultHandle::default(),
            timer: Timer::default(),
            ended: None,
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            split: Vec::new(),
        }
    }

    /// Sets the fate of packets sent.
    #[must_use]
    pub fn tx(self, config: FaultConfig) -> Fault<D> {
        self.shared.set_tx(config);
        self
    }

    /// Sets the fate of packets received.
    #[must_use]
    pub fn rx(self, config: FaultConfig) -> Fault<D> {
        self.shared.set_rx(config);
        self
    }

    /// Sets the fate of packets in both directions.
    #[must_use]
    pub fn both(self, config: FaultConfig) -> Fault<D> {
        self.tx(config.clone()).rx(config)
    }

    /// A handle to change and count the faults after the device was given to a stack.
    pub fn handle(&self) -> FaultHandle {
        self.shared.clone()
    }

    /// Hands the device every sent packet that is due. `Pending` only if the device refused one.
    fn flush(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        while let Some(packet) = self.tx.peek_due(now) {
            let outgoing = Outgoing { header: packet, payload: [&[], &[]], offload: Offload::default() };
            let sent = ready!(self.device.poll_send(cx, now, &outgoing));
            self.tx.pop();
            sent?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads one packet from the device into the receive lane.
    fn fill(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        let received = ready!(self.device.poll_recv(cx, now, &mut [IoSliceMut::new(&mut self.scratch)]))?;
        let packet = self.scratch.get(..received.len).unwrap_or_default();
        if packet.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut sides = self.shared.lock();
        let Side { config, stats } = &mut sides.rx;
        let rx = &mut self.rx;
        split_large(packet, received.offload, &mut self.split, &mut |part| rx.admit(config, stats, received.at, part));
        Poll::Ready(Ok(()))
    }

    /// Arms the timer for whatever becomes due next.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        // A sent packet that is due already waits for the device, whose waker is set.
        let tx = self.tx.next_due().filter(|due| *due > now);
        if let Some(due) = [tx, self.rx.next_due()].into_iter().flatten().min() {
            self.timer.arm(cx, now, due);
        }
    }
}

impl<D: Device> Device for Fault<D> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { max_large_packet: None, checksum: false, ..self.device.capabilities() }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        if self.ended.is_none()
            && let Poll::Ready(Err(error)) = self.flush(cx, now)
        {
            self.ended = Some(error);
        }
        for _ in 0..READS_PER_POLL {
            if let Some(packet) = self.rx.peek_due(now) {
                let len = scatter(packet, bufs);
                let at = self.rx.next_due().unwrap_or(now);
                self.rx.pop();
                return Poll::Ready(Ok(Received { len, offload: Offload::default(), at }));
            }
            let filled = if self.ended.is_some() { Poll::Pending } else { self.fill(cx, now) };
            match filled {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.ended = Some(error),
                Poll::Pending => {
                    if self.rx.next_due().is_none()
                        && let Some(error) = self.ended.take()
                    {
                        return Poll::Ready(Err(error));
                    }
                    self.arm(cx, now);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        ready!(self.flush(cx, now))?;
        // Gathered into the scratch block: the fates need one slice.
        let len = gather(packet, &mut self.scratch);
        let bytes = self.scratch.get(..len).unwrap_or_default();
        {
            let mut sides = self.shared.lock();
            let Side { config, stats } = &mut sides.tx;
            let tx = &mut self.tx;
            split_large(bytes, packet.offload, &mut self.split, &mut |part| tx.admit(config, stats, now, part));
        }
        // The packet is taken: if the device refuses it now, it waits here and the next call is `Pending`.
        if let Poll::Ready(Err(error)) = self.flush(cx, now) {
            return Poll::Ready(Err(error));
        }
        self.arm(cx, now);
        Poll::Ready(Ok(()))
    }

    fn name(&self) -> String {
        format!("fault over {}", self.device.name())
    }

    fn scatters(&self) -> bool {
        true
    }

    fn on_busy_poll(&mut self) {
        self.device.on_busy_poll();
    }
}

impl<D: fmt::Debug> fmt::Debug for Fault<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("device", &self.device).field("tx", &self.tx).field("rx", &self.rx).finish()
    }
}

/// Copies a packet into one slice; returns how many bytes fitted.
fn gather(packet: &Outgoing<'_>, mut to: &mut [u8]) -> usize {
    let [first, second] = packet.payload;
    let mut len = 0;
    for part in [packet.header, first, second] {
        let Some((here, rest)) = to.split_at_mut_checked(part.len()) else { break };
        here.copy_from_slice(part);
        to = rest;
        len += part.len();
    }
    len
}

/// Copies a packet into the slices; returns how many bytes fitted.
fn scatter(mut packet: &[u8], bufs: &mut [IoSliceMut<'_>]) -> usize {
    let mut len = 0;
    for buf in bufs {
        let (here, rest) = packet.split_at(packet.len().min(buf.len()));
        if let Some(to) = buf.get_mut(..here.len()) {
            to.copy_from_slice(here);
        }
        len += here.len();
        packet = rest;
    }
    len
}

/// Wakes the reactor when the next delayed packet is due.
#[derive(Debug, Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// What `sleep` is armed for, on the stack's clock.
    due: Option<Instant>,
}

impl Timer {
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant, due: Instant) {
        // The two clocks tick alike; `now` and tokio's now name the same moment.
        let deadline = || tokio::time::Instant::now() + due.since(now);
        let changed = self.due != Some(due);
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if changed {
                    sleep.as_mut().reset(deadline());
                }
                sleep
            }
            slot @ None => slot.insert(Box::pin(tokio::time::sleep_until(deadline()))),
        };
        self.due = Some(due);
        if sleep.as_mut().poll(cx).is_ready() {
            // Due by tokio's clock though not by `now`: come again.
            self.due = None;
            cx.waker().wake_by_ref();
        }
    }
}

#[derive(Debug, Default)]
struct Side {
    config: FaultConfig,
    stats: FaultStats,
}

#[derive(Debug, Default)]
struct Sides {
    tx: Side,
    rx: Side,
}

/// Changes and counts the faults of a [`Fault`] that a stack owns. A clone is the same handle.
///
/// ```
/// use usernet::device::{Fault, FaultConfig, pair};
///
/// let (a, _b) = pair(1500);
/// let device = Fault::new(a, 1);
/// let handle = device.handle();
/// // later, while a stack runs on `device`: nothing arrives any more
/// handle.set_rx(FaultConfig { loss: 1.0, ..FaultConfig::default() });
/// ```
#[derive(Clone, Debug, Default)]
pub struct FaultHandle(Arc<Mutex<Sides>>);

impl FaultHandle {
    fn lock(&self) -> MutexGuard<'_, Sides> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the fate of packets sent from now on; those already delayed keep their time.
    pub fn set_tx(&self, config: FaultConfig) {
        self.lock().tx.config = config;
    }

    /// Sets the fate of packets received from now on; those already delayed keep their time.
    pub fn set_rx(&self, config: FaultConfig) {
        self.lock().rx.config = config;
    }

    /// What happened to packets sent.
    pub fn stats_tx(&self) -> FaultStats {
        self.lock().tx.stats
    }

    /// What happened to packets received.
    pub fn stats_rx(&self) -> FaultStats {
        self.lock().rx.stats
    }
}

#[cfg(test)]
mod tests;
