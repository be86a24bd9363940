//! The rival: tokio-smoltcp over a TUN of its own, with a device that does one system call per packet (it knows no
//! offload).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_smoltcp::device::{AsyncDevice, DeviceCapabilities, Packet};
use tokio_smoltcp::smoltcp::iface::Config;
use tokio_smoltcp::smoltcp::phy::Medium;
use tokio_smoltcp::smoltcp::wire::{HardwareAddress, IpCidr};
use tokio_smoltcp::{BufferSize, Net as Stack, NetConfig, TcpStream};
use usernet::device::tun::link;

use super::net::Net;
use crate::lab;
use crate::plan::Workload;

const MTU: usize = 1500;

#[derive(Clone)]
pub struct Smoltcp(Arc<Stack>);

impl Smoltcp {
    pub fn over_tun(workload: Workload) -> io::Result<Smoltcp> {
        let mut interface = Config::new(HardwareAddress::Ip);
        // Its initial sequence numbers; a constant would be the same in every process.
        interface.random_seed = std::process::id().into();
        let address = IpCidr::new(lab::TUN_STACK.into(), lab::PREFIX);
        let mut config = NetConfig::new(interface, address, vec![lab::TUN_KERNEL.into()]);
        if workload.is_bulk() {
            // usernet's default. Its own, 8 KiB, would make it wait for every window.
            config.buffer_size = BufferSize { tcp_rx_size: 4 << 20, tcp_tx_size: 1 << 20, ..BufferSize::default() };
        }
        Ok(Smoltcp(Arc::new(Stack::new(Device::new()?, config))))
    }
}

impl Net for Smoltcp {
    type Stream = TcpStream;

    /// It has no switch for Nagle's algorithm; no workload waits for that.
    async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        self.0.tcp_connect(peer).await
    }
}

struct Device {
    tun: tun::AsyncDevice,
    capabilities: DeviceCapabilities,
    buffer: Vec<u8>,
    /// A packet that was taken and not yet written.
    outgoing: Option<Packet>,
}

impl Device {
    fn new() -> io::Result<Device> {
        let mut config = tun::Configuration::default();
        config.tun_name(lab::TUN);
        config.platform_config(|platform| {
            platform.ensure_root_privileges(false);
        });
        let tun = tun::create_as_async(&config)?;
        link::add_address(lab::TUN, lab::TUN_KERNEL.into(), lab::PREFIX)?;
        // Not measured is how the kernel's 500 packets overflow.
        link::set_tx_queue_len(lab::TUN, lab::TUN_QUEUE)?;
        link::set_up(lab::TUN)?;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        Ok(Device { tun, capabilities, buffer: vec![0; MTU], outgoing: None })
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(packet) = &self.outgoing {
            ready!(Pin::new(&mut self.tun).poll_write(cx, packet))?;
            self.outgoing = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncDevice for Device {
    fn capabilities(&self) -> &DeviceCapabilities {
        &self.capabilities
    }
}

impl Stream for Device {
    type Item = io::Result<Packet>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let device = &mut *self;
        let mut buffer = ReadBuf::new(&mut device.buffer);
        ready!(Pin::new(&mut device.tun).poll_read(cx, &mut buffer))?;
        Poll::Ready(Some(Ok(buffer.filled().to_vec())))
    }
}

impl Sink<Packet> for Device {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_out(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, packet: Packet) -> io::Result<()> {
        self.outgoing = Some(packet);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_out(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_out(cx)
    }
}
