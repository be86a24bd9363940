//! Where IP packets come from and go to: [`Device`] and its implementations.
//!
//! A device moves packets and nothing else: it knows no connections, no sockets, no stack. Called by the reactor.

mod channel;
mod fault;
mod pair;
#[cfg(feature = "pcap")]
mod pcap;
mod queue;
#[cfg(test)]
mod testing;
#[cfg(all(feature = "tun", target_os = "linux"))]
pub mod tun;

use std::io::{self, IoSliceMut};
use std::task::{Context, Poll};

#[cfg(all(feature = "tun", target_os = "linux"))]
pub use self::tun::{Tun, TunBuilder};
use crate::time::Instant;
pub use crate::wire::{Checksum, Offload};
pub use channel::{ChannelDevice, ChannelHandle, PacketReceiver, PacketSender, channel};
pub use fault::{BurstLoss, Fault, FaultConfig, FaultHandle, FaultStats, RateLimit};
pub use pair::{PairEnd, PairOptions, pair, pair_with};
#[cfg(feature = "pcap")]
pub use pcap::{Pcap, PcapHandle};

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Largest IP packet it carries, in bytes.
    pub mtu: usize,
    /// Largest IP packet it accepts and delivers with [`Offload::segment_size`] set, in bytes; at most 65,535.
    /// `None`: every packet must fit the MTU.
    pub max_large_packet: Option<usize>,
    /// Whether it takes packets with [`Checksum::Partial`].
    pub checksum: bool,
}

/// One received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of the IP packet, filled into the slices in order. A packet longer than the slices is truncated by the
    /// device and reported with the number of bytes that were stored (the IP length check then drops it).
    pub len: usize,
    /// Offload metadata.
    pub offload: Offload,
    /// When it arrived: never later than the `now` of the call.
    pub at: Instant,
}

/// One packet to send: a header and the two slices of the payload, which follow each other.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// IP and TCP (or ICMP) header.
    pub header: &'a [u8],
    /// Payload, possibly empty.
    pub payload: [&'a [u8]; 2],
    /// Offload metadata; within [`Capabilities`].
    pub offload: Offload,
}

impl Outgoing<'_> {
    /// Bytes of the IP packet.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.iter().map(|part| part.len()).sum::<usize>()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A packet device: a TUN, one end of an in-memory link, or a wrapper round another device.
///
/// `now` is the stack's clock. `poll_recv` and `poll_send` follow the rules of `poll`: on `Pending` the waker of `cx` is
/// called when trying again makes sense. An error is final: the device is gone and the stack ends with `NetworkDown`. A packet that
/// the device can't carry (ENOBUFS, too long) is dropped with `Ok`, like loss on a wire.
pub trait Device: Send {
    /// What the device can do; asked once, when its stack begins.
    fn capabilities(&self) -> Capabilities;

    /// Receives one packet into `bufs`.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>>;

    /// Sends one packet. On `Pending` nothing of it was taken.
    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>>;

    /// A name for messages: `tun usernet0`, `pair`.
    fn name(&self) -> String;

    /// Whether `poll_recv` fills several slices. `false`, the default: it is always given a single one with room for any
    /// packet. `true`: large packets can be received straight into the buffer of their connection. A wrapper that passes the
    /// slices on passes the answer on, and `on_busy_poll` too.
    fn scatters(&self) -> bool {
        false
    }

    /// Called once, before anything else, if the stack polls busily
    /// ([`StackBuilder::busy_poll`](crate::StackBuilder::busy_poll)): `poll_recv` is then also called when nothing has woken
    /// the stack, and should look for a packet each time. By default nothing happens: a device that always looks needs no
    /// word.
    fn on_busy_poll(&mut self) {}
}

/// A boxed device is a device, so that a program can choose at run time and still wrap it.
impl<D: Device + ?Sized> Device for Box<D> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        (**self).poll_recv(cx, now, bufs)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        (**self).poll_send(cx, now, packet)
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn scatters(&self) -> bool {
        (**self).scatters()
    }

    fn on_busy_poll(&mut self) {
        (**self).on_busy_poll();
    }
}
