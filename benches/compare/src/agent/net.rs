//! What a workload needs of a TCP ([`Net`]), and it for the kernel and for usernet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use usernet::device::Tun;
use usernet::{DropReason, Stack, UserStream};

use super::Figures;
use crate::lab;
use crate::plan::{Reactor, Subject};

const BACKLOG: u32 = 4_096;
/// About a round trip between two processes here.
const BUSY: Duration = Duration::from_micros(50);

/// The side that connects.
pub trait Net: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// A connection without Nagle's algorithm.
    fn connect(&self, peer: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Whether the memory of a connection is the kernel's.
    fn is_kernel(&self) -> bool {
        false
    }
}

/// `tokio::net` in the network namespace of this process.
#[derive(Clone)]
pub struct Kernel {
    pub congestion: String,
}

fn kernel_socket(congestion: &str) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    sockopt::set_tcp_congestion(&socket, congestion).map_err(|error| {
        io::Error::other(format!("choosing the congestion control {congestion} (TCP_CONGESTION): {error}"))
    })?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Accepted sockets inherit its options.
pub fn kernel_listener(congestion: &str) -> io::Result<TcpListener> {
    let socket = kernel_socket(congestion)?;
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    socket.listen(BACKLOG)
}

impl Net for Kernel {
    type Stream = TcpStream;

    async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        kernel_socket(&self.congestion)?.connect(peer).await
    }

    fn is_kernel(&self) -> bool {
        true
    }
}

/// usernet over a TUN of its own.
#[derive(Clone)]
pub struct Usernet(Stack);

impl Usernet {
    pub fn over_tun(subject: Subject, reactor: Reactor) -> io::Result<Usernet> {
        let tun = Tun::builder()
            .name(lab::TUN)
            .mtu(1500)
            .kernel_address(lab::TUN_KERNEL.into(), lab::PREFIX)
            .offload(subject == Subject::Usernet)
            .threaded_napi(subject == Subject::UsernetThreaded)
            .build()?;
        let mut builder = Stack::builder().address(lab::TUN_STACK, lab::PREFIX).device(tun);
        if matches!(reactor, Reactor::Thread | Reactor::BusyThread) {
            builder = builder.dedicated_thread();
        }
        if matches!(reactor, Reactor::Busy | Reactor::BusyThread) {
            builder = builder.busy_poll(BUSY);
        }
        builder.build().map(Usernet)
    }

    /// The last FINs are out and acknowledged.
    pub async fn end(&self) -> io::Result<()> {
        self.0.shutdown(Duration::from_secs(5)).await
    }

    pub fn counters(&self) -> Figures {
        let stats = self.0.stats();
        let mut figures = vec![
            ("retransmits", stats.retransmits as f64),
            ("device_reads", stats.device_reads as f64),
            ("landed", stats.landed as f64),
            ("recalled", stats.recalled as f64),
            ("device_writes", stats.device_writes as f64),
            ("turns", stats.turns as f64),
            ("wakes", stats.wakes as f64),
        ];
        let reasons = DropReason::ALL.iter().map(|reason| (reason.text(), stats.dropped(*reason) as f64));
        figures.extend(reasons.filter(|(_, count)| *count > 0.0));
        figures
    }
}

impl Net for Usernet {
    type Stream = UserStream;

    async fn connect(&self, peer: SocketAddr) -> io::Result<UserStream> {
        let stream = self.0.connect(peer).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
