//! One TUN with a stack on our side and the kernel on the other, and what the cases need from the kernel.

pub mod capture;
pub mod full;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::net::{AddressFamily, SocketType};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use usernet::Stack;
use usernet::device::Tun;
use usernet::device::tun::namespace::{self, Namespace};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An assertion that names itself.
pub fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

/// Enters a private network namespace and shows that a TUN can be made and configured there. On failure: which step.
pub fn prepare() -> Result<Namespace, String> {
    let entered = || {
        let namespace = namespace::enter_private()?;
        namespace::probe()?;
        Ok(namespace)
    };
    entered().map_err(|error: io::Error| error.to_string())
}

/// Makes the kernel forward packets, in the private namespace.
pub fn forward() -> Result<(), String> {
    let file = "/proc/sys/net/ipv4/ip_forward";
    std::fs::write(file, "1").map_err(|error| format!("writing {file}: {error}"))
}

/// Shows that a TUN can have threaded NAPI, which takes more than the private namespace of an unprivileged user gives.
pub fn thread_napi() -> Result<(), String> {
    Tun::builder().threaded_napi(true).build().map(drop).map_err(|error| error.to_string())
}

fn tun(name: &str, index: u8, mtu: usize, (offload, threaded): (bool, bool)) -> io::Result<Tun> {
    let mut builder = Tun::builder().name(name).kernel_address(kernel4(index), 24).mtu(mtu).offload(offload);
    builder = builder.threaded_napi(threaded);
    if mtu >= 1280 {
        builder = builder.kernel_address(kernel6(index), 64);
    }
    builder.build()
}

fn kernel4(index: u8) -> IpAddr {
    Ipv4Addr::new(10, 100, index, 1).into()
}

fn kernel6(index: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, u16::from(index), 0, 0, 0, 1).into()
}

/// The link of one case.
pub struct Link {
    pub stack: Stack,
    pub offload: bool,
    pub name: String,
    pub ours4: IpAddr,
    pub ours6: IpAddr,
    pub kernel4: IpAddr,
    pub kernel6: IpAddr,
}

impl Link {
    pub fn new(index: usize, mtu: usize, (offload, threaded): (bool, bool)) -> io::Result<Link> {
        let index = u8::try_from(index).map_err(io::Error::other)?;
        let name = format!("user{index}");
        let ours4 = Ipv4Addr::new(10, 100, index, 2).into();
        let ours6 = Ipv6Addr::new(0xfd00, 0, 0, u16::from(index), 0, 0, 0, 2).into();
        let mut builder = Stack::builder().address(ours4, 24).device(tun(&name, index, mtu, (offload, threaded))?);
        if mtu >= 1280 {
            builder = builder.address(ours6, 64);
        }
        let stack = builder.build()?;
        Ok(Link { stack, offload, name, ours4, ours6, kernel4: kernel4(index), kernel6: kernel6(index) })
    }
}

/// Writes `bytes` bytes that are different at every position, shuts down; their hash.
pub async fn pump(mut writer: impl AsyncWrite + Unpin, bytes: usize, seed: u8) -> io::Result<Vec<u8>> {
    // Not a power of two, so that a repeated or swapped block never lines up with itself.
    let mut block: Vec<u8> =
        (0..200_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let mut hash = Sha256::new();
    let mut left = bytes;
    let mut round = 0_u64;
    while left > 0 {
        block[..8].copy_from_slice(&(round ^ (u64::from(seed) << 56)).to_le_bytes());
        let part = &block[..left.min(block.len())];
        writer.write_all(part).await?;
        hash.update(part);
        left -= part.len();
        round += 1;
    }
    writer.shutdown().await?;
    Ok(hash.finalize().to_vec())
}

/// Reads to the end; how many bytes came and their hash.
pub async fn drain(mut reader: impl AsyncRead + Unpin) -> io::Result<(usize, Vec<u8>)> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok((bytes, hash.finalize().to_vec())),
            count => {
                hash.update(&buffer[..count]);
                bytes += count;
            }
        }
    }
}

/// The kernel sends an ICMP echo request to our IPv4 address and waits for the reply.
pub fn ping(link: &Link) -> Result<(), Failure> {
    let IpAddr::V4(target) = link.ours4 else { return Err("not an IPv4 address".into()) };
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(rustix::net::ipproto::ICMP))?;
    let wait = Some(std::time::Duration::from_secs(5));
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, wait)?;
    // Type 8, code 0, checksum, identifier 0x1234, sequence 1, payload.
    let mut request = *b"\x08\x00\x00\x00\x12\x34\x00\x01usernet!";
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    request[2..4].copy_from_slice(&(!u16::try_from(folded)?).to_be_bytes());
    let address = std::net::SocketAddrV4::new(target, 0);
    rustix::net::sendto(&socket, &request, rustix::net::SendFlags::empty(), &address)?;
    // A raw socket sees the IP header too, and other ICMP messages of the namespace.
    let mut buffer = [0; 256];
    loop {
        let (count, _) = rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty())?;
        let Some(message) = buffer[..count].get(20..) else { continue };
        if message.first() == Some(&0) && message.get(4..) == request.get(4..) && buffer[12..16] == target.octets() {
            return Ok(());
        }
    }
}

/// Whether a thread of the kernel processes what `link` sends: it bears the interface's name. Where the kernel's threads
/// cannot be seen (a process namespace of our own), the builder's word must do.
pub fn has_napi_thread(link: &Link) -> Result<bool, Failure> {
    let wanted = format!("napi/{}-", link.name);
    let mut found = std::fs::read_to_string("/proc/2/comm").map_or(true, |name| name != "kthreadd\n");
    for process in std::fs::read_dir("/proc")? {
        // What is no process has no such file, and processes end at any time.
        let name = std::fs::read_to_string(process?.path().join("comm"));
        found |= name.is_ok_and(|name| name.starts_with(&wanted));
    }
    Ok(found)
}
