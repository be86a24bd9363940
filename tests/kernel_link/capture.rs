//! What is on the wire: packets as the kernel's packet sockets see them, and a host behind a forwarding kernel.
// Packet sockets have no safe wrapper.
#![allow(unsafe_code)]

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::Failure;

const PACKET_VNET_HDR: i32 = 15;
/// `struct virtio_net_hdr`.
const VNET_LEN: usize = 10;

fn check(result: i32, what: &str) -> io::Result<i32> {
    let error = io::Error::last_os_error();
    if result < 0 { Err(io::Error::new(error.kind(), format!("{what}: {error}"))) } else { Ok(result) }
}

fn set_int(fd: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option's value is an int, and `len` its size.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    check(result, "setsockopt").map(|_| ())
}

/// The largest segment the kernel's socket announces.
pub fn set_max_segment(socket: &impl AsRawFd, bytes: i32) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes)
}

/// One IPv4 packet with TCP in it, from a given host.
pub struct Captured {
    /// From the vnet header; 0 without one.
    pub gso_size: usize,
    pub packet: Vec<u8>,
}

impl Captured {
    fn header_len(&self) -> usize {
        usize::from(self.packet[0] & 15) * 4
    }

    /// Bytes of TCP payload.
    pub fn text(&self) -> usize {
        let at = self.header_len();
        let total = usize::from(u16::from_be_bytes([self.packet[2], self.packet[3]]));
        total - at - usize::from(self.packet[at + 12] >> 4) * 4
    }

    /// Both checksums hold.
    pub fn is_sound(&self) -> bool {
        let total = usize::from(u16::from_be_bytes([self.packet[2], self.packet[3]]));
        let (header, tcp) = self.packet[..total].split_at(self.header_len());
        let pseudo = 6 + tcp.len() as u32 + sum(&header[12..20]);
        fold(sum(header)) == 0xffff && fold(pseudo + sum(tcp)) == 0xffff
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum()
}

fn fold(mut sum: u32) -> u32 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// Collects what a host sends over an interface.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Captured>>>,
}

impl Capture {
    /// `vnet`: an interface without link-layer headers, and the offload metadata of each packet too.
    pub fn start(interface: &str, from: Ipv4Addr, vnet: bool) -> io::Result<Capture> {
        let all = i32::from((libc::ETH_P_ALL as u16).to_be());
        let kind = if vnet { libc::SOCK_RAW } else { libc::SOCK_DGRAM };
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, all) }, "a packet socket")?;
        // SAFETY: just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if vnet {
            set_int(&fd, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
        }
        set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20)
            .or_else(|_| set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 64 << 20))?;
        // SAFETY: all zeros are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = rustix::net::netdevice::name_to_index(&fd, interface)? as i32;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of `len` bytes.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) }, "binding the capture")?;
        let wait = Some(std::time::Duration::from_millis(50));
        rustix::net::sockopt::set_socket_timeout(&fd, rustix::net::sockopt::Timeout::Recv, wait)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || collect(&fd, from, if vnet { VNET_LEN } else { 0 }, &stopped));
        Ok(Capture { stop, thread })
    }

    pub fn finish(self) -> Result<Vec<Captured>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the capture panicked")??)
    }
}

fn collect(fd: &OwnedFd, from: Ipv4Addr, skip: usize, stop: &AtomicBool) -> io::Result<Vec<Captured>> {
    let (mut found, mut buffer) = (Vec::new(), vec![0; 70_000]);
    loop {
        let len = match rustix::net::recv(fd, &mut buffer[..], rustix::net::RecvFlags::empty()) {
            Ok((len, _)) => len,
            // Stops only once it has run dry.
            Err(rustix::io::Errno::AGAIN) if stop.load(Ordering::Relaxed) => return Ok(found),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let (header, packet) = buffer[..len].split_at(skip.min(len));
        if packet.len() >= 40 && packet[0] >> 4 == 4 && packet[9] == 6 && packet[12..16] == from.octets() {
            let gso_size = header.get(4..6).map_or(0, |size| usize::from(u16::from_ne_bytes([size[0], size[1]])));
            found.push(Captured { gso_size, packet: packet.to_vec() });
        }
    }
}

/// Runs a program of the system.
fn run(line: &str) -> Result<(), Failure> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Whether the programs that [`Behind`] needs are there.
pub fn has_programs() -> bool {
    ["ip", "ethtool"].iter().all(|program| Command::new(program).arg("--version").output().is_ok())
}

/// Bytes read to the end, their hash, and what was captured meanwhile.
pub type Arrived = (usize, Vec<u8>, Vec<Captured>);

/// A host in a network namespace of its own, behind a veth whose two ends neither merge nor split nor defer checksums.
pub struct Behind {
    pub address: SocketAddrV4,
    thread: JoinHandle<Result<Arrived, Failure>>,
}

impl Behind {
    /// Accepts one connection and reads it to the end. `from`: whose packets to capture.
    pub fn start(index: u8, from: Ipv4Addr) -> Result<Behind, Failure> {
        let (tell_task, task) = mpsc::channel();
        let (tell_link, link) = mpsc::channel();
        let (tell_address, address) = mpsc::channel();
        let thread = std::thread::spawn(move || -> Result<Arrived, Failure> {
            // SAFETY: no pointers; only this thread changes its namespace.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) }, "a second network namespace")?;
            tell_task.send(rustix::thread::gettid().as_raw_nonzero().get())?;
            link.recv()?;
            run("ip link set lo up")?;
            run(&format!("ip address add 10.201.{index}.2/24 dev vb{index}"))?;
            run(&format!("ethtool -K vb{index} tx off sg off tso off gso off gro off"))?;
            run(&format!("ip link set vb{index} up"))?;
            run(&format!("ip route add default via 10.201.{index}.1"))?;
            let listener = TcpListener::bind((Ipv4Addr::new(10, 201, index, 2), 0))?;
            let capture = Capture::start(&format!("vb{index}"), from, false)?;
            tell_address.send(listener.local_addr()?)?;
            let (mut stream, _) = listener.accept()?;
            let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
            loop {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Ok((bytes, hash.finalize().to_vec(), capture.finish()?));
                }
                hash.update(&buffer[..count]);
                bytes += count;
            }
        });
        let wired = || -> Result<SocketAddrV4, Failure> {
            let task = task.recv()?;
            run(&format!("ip link add va{index} type veth peer name vb{index} netns {task}"))?;
            run(&format!("ip address add 10.201.{index}.1/24 dev va{index}"))?;
            run(&format!("ethtool -K va{index} tx off sg off tso off gso off gro off"))?;
            run(&format!("ip link set va{index} up"))?;
            tell_link.send(())?;
            match address.recv()? {
                std::net::SocketAddr::V4(address) => Ok(address),
                std::net::SocketAddr::V6(_) => Err("an IPv4 listener".into()),
            }
        };
        match wired() {
            Ok(address) => Ok(Behind { address, thread }),
            Err(error) => {
                // Its failure, if it has one, explains ours.
                drop(tell_link);
                Err(thread.join().map_err(|_| "the host panicked")?.err().map_or(error, |cause| cause))
            }
        }
    }

    pub fn finish(self) -> Result<Arrived, Failure> {
        self.thread.join().map_err(|_| "the host panicked")?
    }
}
