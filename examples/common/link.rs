//! A TUN device between this stack and the kernel of this machine: its options and how it is made.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use usernet::Stack;
use usernet::device::{Device, Tun};

use super::Network;

/// This stack's end of the link, unless told otherwise.
pub const OURS: Network = Network { ip: IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), prefix: 24 };
/// The kernel's end.
pub const KERNELS: Network = Network { ip: IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), prefix: 24 };

/// How packets go through a TUN.
#[derive(clap::Args)]
pub struct Wire {
    /// Largest IP packet on a TUN that is made here.
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub mtu: usize,
    /// One packet per system call, checksums computed here (no IFF_VNET_HDR).
    #[arg(long)]
    pub no_offload: bool,
}

impl Wire {
    /// Makes a TUN and gives the kernel an address on it.
    pub fn make(&self, name: &str, kernel: Network) -> io::Result<Tun> {
        let tun = Tun::builder().name(name).kernel_address(kernel.ip, kernel.prefix).mtu(self.mtu);
        tun.offload(!self.no_offload).build()
    }

    /// Attaches to a TUN that somebody has made.
    pub fn attach(&self, name: &str) -> io::Result<Tun> {
        Tun::builder().name(name).offload(!self.no_offload).build()
    }
}

/// A TUN and who has which address on it.
#[derive(clap::Args)]
pub struct Link {
    /// Name of the TUN device to make.
    #[arg(long, value_name = "NAME", default_value = "usernet0")]
    tun: String,
    /// Address of this stack.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value_t = OURS)]
    pub address: Network,
    /// Address of the kernel on the TUN.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value_t = KERNELS)]
    kernel: Network,
    #[command(flatten)]
    wire: Wire,
}

impl Link {
    /// Makes the TUN and the stack on it; answers with the name of the device.
    pub fn open(&self) -> io::Result<(Stack, String)> {
        let tun = self.wire.make(&self.tun, self.kernel)?;
        let name = tun.name();
        let stack = Stack::builder().address(self.address.ip, self.address.prefix).device(tun).build()?;
        Ok((stack, name))
    }
}
