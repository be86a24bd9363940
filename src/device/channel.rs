//! [`channel`]: raw IP packets in and out, for a VPN or a test.
//!
//! Owns one bounded queue each way. One side is a [`Device`] for a stack, the other a handle for a program that carries
//! the packets itself. The program sees only complete packets: at most MTU bytes, every checksum in place.

use std::io::{self, IoSliceMut};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Notify;

use super::queue::{Closed, PacketQueue};
use super::{Capabilities, Device, Offload, Outgoing, Received};
use crate::time::Instant;

/// Largest IP packet there is.
const MAX_PACKET: usize = 65_535;

/// A device whose packets a program carries: every packet the stack sends comes out of the handle, every packet sent
/// into the handle reaches the stack. Each direction holds at most `queue` packets of `mtu` bytes.
///
/// ```
/// use usernet::device::{Device, channel};
///
/// let (device, packets) = channel(1400, 64);
/// assert_eq!(device.capabilities().mtu, 1400);
/// packets.try_send(&[0x45; 20])?; // the stack receives it (and drops it: it is not a packet)
/// # std::io::Result::Ok(())
/// ```
pub fn channel(mtu: usize, queue: usize) -> (ChannelDevice, ChannelHandle) {
    let mtu = mtu.clamp(1, MAX_PACKET);
    let bytes = queue.max(1).saturating_mul(mtu);
    let link = Arc::new(Link {
        mtu,
        to_stack: PacketQueue::new(queue, bytes),
        to_user: PacketQueue::new(queue, bytes),
        room: Notify::new(),
        data: Notify::new(),
    });
    let user = Arc::new(UserSide(Arc::clone(&link)));
    let handle = ChannelHandle { sender: PacketSender(Arc::clone(&user)), receiver: PacketReceiver(user) };
    (ChannelDevice(link), handle)
}

#[derive(Debug)]
struct Link {
    mtu: usize,
    to_stack: PacketQueue,
    to_user: PacketQueue,
    /// Users waiting to send. `Notify` because any number of tasks may wait through `&self` and go away at any time.
    room: Notify,
    /// Users waiting to receive.
    data: Notify,
}

/// Exists as long as one half of the user's side does.
#[derive(Debug)]
struct UserSide(Arc<Link>);

impl Drop for UserSide {
    fn drop(&mut self) {
        self.0.to_stack.close_sender();
    }
}

impl Drop for PacketReceiver {
    fn drop(&mut self) {
        self.link().to_user.close_receiver();
    }
}

/// The stack's side of a [`channel`].
///
/// When the whole user side is dropped the device is gone: it delivers what was queued, then fails with
/// [`NetworkDown`](io::ErrorKind::NetworkDown) from `poll_recv`. If only the [`PacketReceiver`] is dropped, packets the
/// stack sends vanish.
#[derive(Debug)]
pub struct ChannelDevice(Arc<Link>);

fn user_gone() -> io::Error {
    io::Error::new(io::ErrorKind::NetworkDown, "the handle of the channel device was dropped")
}

impl Device for ChannelDevice {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mtu: self.0.mtu, max_large_packet: None, checksum: false }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<Received>> {
        let popped = self.0.to_stack.poll_pop(cx, bufs);
        if let Poll::Ready(Ok(_)) = popped {
            self.0.room.notify_waiters();
        }
        popped.map_ok(|(len, offload)| Received { len, offload, at: now }).map_err(|_| user_gone())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, _now: Instant, packet: &Outgoing<'_>) -> Poll<io::Result<()>> {
        if packet.len() > self.0.mtu {
            // Too long for the link: dropped, as a wire would.
            return Poll::Ready(Ok(()));
        }
        let pushed = self.0.to_user.push(Some(cx.waker()), packet);
        if let Poll::Ready(Ok(())) = pushed {
            self.0.data.notify_waiters();
        }
        // Nobody receives any more: the packet vanishes; `poll_recv` tells if the sending half is gone too.
        pushed.map(|_| Ok(()))
    }

    fn name(&self) -> String {
        "channel".to_owned()
    }

    fn scatters(&self) -> bool {
        true
    }
}

impl Drop for ChannelDevice {
    fn drop(&mut self) {
        self.0.to_user.close_sender();
        self.0.to_stack.close_receiver();
        self.0.room.notify_waiters();
        self.0.data.notify_waiters();
    }
}

/// The program's side of a [`channel`]: both directions. [`split`](Self::split) gives them to different tasks.
#[derive(Debug)]
pub struct ChannelHandle {
    sender: PacketSender,
    receiver: PacketReceiver,
}

/// Packets into the stack; see [`channel`].
#[derive(Debug)]
pub struct PacketSender(Arc<UserSide>);

/// Packets out of the stack; see [`channel`].
#[derive(Debug)]
pub struct PacketReceiver(Arc<UserSide>);

fn stack_gone(_: Closed) -> io::Error {
    io::Error::new(io::ErrorKind::NetworkDown, "the stack of the channel device is gone")
}

impl PacketSender {
    fn link(&self) -> &Link {
        &self.0.0
    }

    /// Sends one IP packet to the stack, waiting while the queue is full.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the packet is empty or longer than the MTU;
    /// [`NetworkDown`](io::ErrorKind::NetworkDown) if the stack is gone.
    ///
    /// # Cancel safety
    /// A cancelled call has sent nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (device, packets) = usernet::device::channel(1500, 8);
    /// packets.send(&[0x60; 40]).await?;
    /// drop(device);
    /// assert_eq!(packets.send(&[0x60; 40]).await.unwrap_err().kind(), std::io::ErrorKind::NetworkDown);
    /// # Ok(()) }
    /// ```
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        wait_for(&self.link().room, || self.try_send(packet)).await
    }

    /// Sends one IP packet to the stack if the queue has room.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`WouldBlock`](io::ErrorKind::WouldBlock) if the queue is full.
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        let mtu = self.link().mtu;
        if packet.is_empty() || packet.len() > mtu {
            let text = format!("a packet of {} bytes on a channel with MTU {mtu}", packet.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let outgoing = Outgoing { header: packet, payload: [&[], &[]], offload: Offload::default() };
        match self.link().to_stack.push(None, &outgoing) {
            Poll::Ready(result) => result.map_err(stack_gone),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl PacketReceiver {
    fn link(&self) -> &Link {
        &self.0.0
    }

    /// Receives the next IP packet the stack sends and returns its length. A buffer of MTU bytes always suffices; what
    /// does not fit into a shorter one is discarded.
    ///
    /// # Errors
    /// [`NetworkDown`](io::ErrorKind::NetworkDown) if the stack is gone and every packet it sent was received.
    ///
    /// # Cancel safety
    /// A cancelled call has taken no packet.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let (device, packets) = usernet::device::channel(1500, 8);
    /// let mut buf = [0; 1500];
    /// drop(device);
    /// assert_eq!(packets.recv(&mut buf).await.unwrap_err().kind(), std::io::ErrorKind::NetworkDown);
    /// # }
    /// ```
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        wait_for(&self.link().data, || self.try_recv(buf)).await
    }

    /// Receives the next IP packet if one is queued.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self.link().to_user.pop(None, &mut [IoSliceMut::new(buf)]) {
            Poll::Ready(result) => result.map(|(len, _)| len).map_err(stack_gone),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl ChannelHandle {
    /// See [`PacketSender::send`].
    ///
    /// # Errors
    /// See [`PacketSender::send`].
    ///
    /// # Cancel safety
    /// A cancelled call has sent nothing.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.sender.send(packet).await
    }

    /// See [`PacketSender::try_send`].
    ///
    /// # Errors
    /// See [`PacketSender::try_send`].
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        self.sender.try_send(packet)
    }

    /// See [`PacketReceiver::recv`].
    ///
    /// # Errors
    /// See [`PacketReceiver::recv`].
    ///
    /// # Cancel safety
    /// A cancelled call has taken no packet.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receiver.recv(buf).await
    }

    /// See [`PacketReceiver::try_recv`].
    ///
    /// # Errors
    /// See [`PacketReceiver::try_recv`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.receiver.try_recv(buf)
    }

    /// The two directions, for two tasks.
    pub fn split(self) -> (PacketSender, PacketReceiver) {
        (self.sender, self.receiver)
    }
}

/// Repeats `attempt` after each notification until it answers something else than `WouldBlock`.
async fn wait_for<T>(notify: &Notify, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        let mut notified = pin!(notify.notified());
        // Registered before the attempt, so that what happens between the two is not missed.
        notified.as_mut().enable();
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => notified.await,
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests;
