//! [`Tun`]: the Linux TUN device, where the kernel's network begins.
//!
//! Owns the descriptor of the device. The `tun` crate creates or attaches it; ioctls, rtnetlink and packet I/O are here.
//! Never looks into a packet beyond what the vnet header needs. Called by the reactor; [`link`] and [`namespace`] also by
//! the examples and tests.

mod builder;
pub mod link;
pub mod namespace;
mod napi;
mod readiness;
mod sys;
mod vnet;

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::{Errno, readv, write, writev};

pub use builder::TunBuilder;
use readiness::ReadyFd;

use super::{Capabilities, Device, Offload, Outgoing, Received};
use crate::time::Instant;

/// Largest MTU, and largest packet with offload, in bytes.
const MAX_MTU: usize = 65_535;
/// Most slices a received packet is scattered into.
const MAX_SLICES: usize = 7;
/// So many bytes, headers included, cost less to copy than it costs the kernel to walk a list of slices.
const ONE_PIECE: usize = 2048;
/// How long a device that was empty is not asked again unless it reports readiness.
const ASK_AGAIN: Duration = Duration::from_micros(200);

/// A TUN device: every packet the kernel routes to its interface is received here, every packet sent here reaches the
/// kernel as if it came from a wire.
///
/// Works in a runtime with I/O enabled; it registers there when it first has to wait. When the last descriptor is
/// dropped the interface disappears, unless it is persistent. While the interface is down, packets sent are dropped;
/// when it is deleted the device fails with [`NetworkDown`](io::ErrorKind::NetworkDown).
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use usernet::device::Tun;
///
/// let tun = Tun::builder()
///     .name("usernet0")
///     .mtu(1500)
///     .kernel_address("10.7.0.1".parse().unwrap(), 24)
///     .build()?;
/// println!("{} is up", tun.interface());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Tun {
    fd: ReadyFd,
    interface: String,
    mtu: usize,
    /// Bytes of the vnet header in front of each packet; 0 without `IFF_VNET_HDR`.
    vnet_len: usize,
    /// When the device was last seen empty.
    empty_at: Instant,
    /// [`ASK_AGAIN`], or always.
    ask_again: Duration,
}

impl Tun {
    /// Creates a device or attaches to a persistent one.
    pub fn builder() -> TunBuilder {
        TunBuilder::default()
    }

    /// Uses a descriptor of a TUN device that somebody else opened and configured. Its flags are asked and obeyed:
    /// with `IFF_VNET_HDR` the device takes large packets and partial checksums. The MTU is that of the interface, which must
    /// be in the caller's network namespace; if it is not, see [`Tun::from_fd_with_mtu`].
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no TUN descriptor or not opened with `IFF_NO_PI`; otherwise
    /// the failing step is in the text.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Tun> {
        let mut tun = Tun::from_fd_with_mtu(fd, MAX_MTU)?;
        tun.mtu = link::query(&tun.interface)?.mtu.min(MAX_MTU);
        Ok(tun)
    }

    /// [`Tun::from_fd`] for an interface with an MTU of `mtu` bytes, at most 65,535, in whatever network namespace: rootless
    /// containers open a TUN inside and hand its descriptor out, and a descriptor does not tell the MTU.
    ///
    /// # Errors
    /// As [`Tun::from_fd`].
    ///
    /// ```no_run
    /// # fn receive_fd() -> std::os::fd::OwnedFd { unimplemented!() }
    /// # fn main() -> std::io::Result<()> {
    /// let tun = usernet::device::Tun::from_fd_with_mtu(receive_fd(), 1500)?;
    /// # Ok(()) }
    /// ```
    pub fn from_fd_with_mtu(fd: OwnedFd, mtu: usize) -> io::Result<Tun> {
        let request = sys::interface(&fd).map_err(|error| {
            let text = format!("asking the descriptor for its interface (TUNGETIFF): {error}: not an attached TUN");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let interface = String::from_utf8_lossy(request.name.split(|byte| *byte == 0).next().unwrap_or_default());
        let interface = interface.into_owned();
        if request.flags & sys::IFF_TUN == 0 || request.flags & sys::IFF_NO_PI == 0 {
            let text = format!("{interface} must be opened with IFF_TUN | IFF_NO_PI (flags {:#x})", request.flags);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut vnet_len = 0;
        if request.flags & sys::IFF_VNET_HDR != 0 {
            vnet_len = sys::vnet_header_len(&fd).map_err(|error| failed("asking for the vnet header size", &error))?;
            if !(vnet::LEN..=vnet::MAX_LEN).contains(&vnet_len) {
                let text = format!("{interface} has a vnet header of {vnet_len} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        rustix::io::ioctl_fionbio(&fd, true)
            .map_err(|error| failed("making the descriptor non-blocking", &error.into()))?;
        let mtu = mtu.min(MAX_MTU);
        Ok(Tun { fd: ReadyFd::new(fd), interface, mtu, vnet_len, empty_at: Instant::ZERO, ask_again: ASK_AGAIN })
    }

    /// Name of the kernel's interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Reads one packet without waiting. `Ok(None)`: not even a whole vnet header and a byte.
    fn read(&self, now: Instant, bufs: &mut [IoSliceMut<'_>]) -> Result<Option<Received>, Errno> {
        if self.vnet_len == 0 {
            let len = readv(self.fd.get(), bufs)?;
            return if len == 0 {
                Err(Errno::BADFD)
            } else {
                Ok(Some(Received { len, offload: Offload::default(), at: now }))
            };
        }
        let mut header = [0; vnet::MAX_LEN];
        let mut first = header.get_mut(..self.vnet_len);
        let bufs_len = bufs.len();
        let mut rest = bufs.iter_mut();
        let mut slices: [IoSliceMut<'_>; MAX_SLICES + 1] = std::array::from_fn(|_| match first.take() {
            Some(first) => IoSliceMut::new(first),
            None => IoSliceMut::new(rest.next().map_or(&mut [], |buf| &mut **buf)),
        });
        // The kernel copies every slice descriptor, used or not.
        let used = bufs_len + 1;
        let len = readv(self.fd.get(), slices.get_mut(..used).unwrap_or_default())?;
        if len == 0 {
            return Err(Errno::BADFD);
        }
        let Some(len) = len.checked_sub(self.vnet_len).filter(|len| *len > 0) else { return Ok(None) };
        // The stack drops and counts what contradicts itself.
        let offload = vnet::decode(&header, bufs, len).unwrap_or(vnet::CONTRADICTORY);
        Ok(Some(Received { len, offload, at: now }))
    }

    fn write(&self, packet: &Outgoing<'_>) -> Result<(), Errno> {
        let [first, second] = packet.payload;
        let header = vnet::encode(packet);
        let slices = [header.get(..self.vnet_len).unwrap_or_default(), packet.header, first, second];
        // The driver takes a packet whole or not at all.
        let len = self.vnet_len + packet.len();
        if len <= ONE_PIECE {
            let mut piece = [0; ONE_PIECE];
            let mut rest = piece.as_mut_slice();
            for slice in slices {
                let (here, after) = rest.split_at_mut_checked(slice.len()).ok_or(Errno::MSGSIZE)?;
                here.copy_from_slice(slice);
                rest = after;
            }
            return write(self.fd.get(), piece.get(..len).unwrap_or_default()).map(|_| ());
        }
        let slices = slices.map(IoSlice::new);
        // The kernel copies every slice descriptor, empty or not.
        let from = usize::from(self.vnet_len == 0);
        let to = if !second.is_empty() { 4 } else { 2 + usize::from(!first.is_empty()) };
        writev(self.fd.get(), slices.get(from..to).unwrap_or_default()).map(|_| ())
    }

    /// One attempt to receive. `None`: there is nothing now.
    fn try_recv(&self, now: Instant, bufs: &mut [IoSliceMut<'_>]) -> Option<io::Result<Received>> {
        loop {
            match self.read(now, bufs) {
                Ok(Some(received)) => return Some(Ok(received)),
                Ok(None) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(error) => return Some(Err(self.gone(error))),
            }
        }
    }

    /// One attempt to send. `None`: the device is full.
    fn try_send(&self, packet: &Outgoing<'_>) -> Option<io::Result<()>> {
        loop {
            match self.write(packet) {
                Ok(()) => return Some(Ok(())),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                // The interface is down (EIO), memory is short, or the driver does not like this packet: lost, as on a
                // wire. Nothing is gained by trying again.
                Err(Errno::IO | Errno::NOBUFS | Errno::NOMEM | Errno::INVAL | Errno::MSGSIZE | Errno::TOOBIG) => {
                    return Some(Ok(()));
                }
                Err(error) => return Some(Err(self.gone(error))),
            }
        }
    }

    /// The final error. The kernel says EBADFD once the interface is deleted, EFAULT to a read that was under way.
    fn gone(&self, error: Errno) -> io::Error {
        let name = &self.interface;
        let text = match error {
            Errno::BADFD | Errno::FAULT => format!("the interface {name} was deleted"),
            other => format!("packet I/O on {name}: {}", io::Error::from(other)),
        };
        io::Error::new(io::ErrorKind::NetworkDown, text)
    }
}

impl Device for Tun {
    fn capabilities(&self) -> Capabilities {
        let offload = self.vnet_len != 0;
        Capabilities { mtu: self.mtu, max_large_packet: offload.then_some(MAX_MTU), checksum: offload }
    }

    /// `bufs` has at most seven slices.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        self.fd.register()?;
        // Without readiness a read would only answer EAGAIN: that costs as much as a small packet. But a runtime that
        // never rests looks for events every 61 polls only; then the device is asked now and then all the same.
        let ask = now.since(self.empty_at) >= self.ask_again;
        if ask && let Some(result) = self.try_recv(now, bufs) {
            return Poll::Ready(result);
        }
        let polled = flatten(self.fd.poll_read(cx, || self.try_recv(now, bufs)));
        if ask && polled.is_pending() {
            self.empty_at = now;
        }
        polled
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, _now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        if let Some(result) = self.try_send(packet) {
            return Poll::Ready(result);
        }
        self.fd.register()?;
        flatten(self.fd.poll_write(cx, || self.try_send(packet)))
    }

    fn name(&self) -> String {
        format!("tun {}", self.interface)
    }

    fn scatters(&self) -> bool {
        true
    }

    fn on_busy_poll(&mut self) {
        self.ask_again = Duration::ZERO;
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get()
    }
}

/// The error of the wait and that of the attempt are one to the caller.
fn flatten<T>(poll: Poll<io::Result<io::Result<T>>>) -> Poll<io::Result<T>> {
    poll.map(|waited| waited?)
}

fn failed(step: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{step}: {error}"))
}

#[cfg(test)]
mod tests;
