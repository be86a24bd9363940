//! One transfer over a bad line, in a network namespace of its own.
//!
//! Where both ends are the kernel's, [`reflect`] makes two hosts of one: a packet to `FAR` comes back with its addresses
//! exchanged, which no checksum notices, so the kernel hears from `FAR` what it has said itself.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as Clock};

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use usernet::device::tun::namespace;
use usernet::device::{Device, Fault, Offload, Outgoing, Tun};
use usernet::time::Instant;

use crate::pattern::{CHUNK, Pattern};
use crate::plan::{Case, Subject};

const KERNEL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 80, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 80, 0, 2));
const PORT: u16 = 5000;
/// The kernel's receive buffer. Grown by itself it was found at 64 KiB in most runs and at MiBs in others, on a line without
/// faults: the line is to be measured, not that.
const KERNEL_BUFFER: &str = "4096 8388608 8388608";
/// Nothing here takes longer, unless it hangs.
const LONGEST: Duration = Duration::from_secs(300);
/// Packets the line moves before others get their turn.
const BATCH: usize = 64;

/// Seconds from the first byte asked for to the last one that arrived.
pub fn run(case: &Case, subject: Subject, seed: u64) -> io::Result<Duration> {
    namespace::enter_private()?;
    std::fs::write("/proc/sys/net/ipv4/tcp_rmem", KERNEL_BUFFER)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let transfer = transfer(case, subject, seed);
        tokio::time::timeout(LONGEST, transfer).await.map_err(|_| io::Error::other("the transfer hangs"))?
    })
}

async fn transfer(case: &Case, subject: Subject, seed: u64) -> io::Result<Duration> {
    // One packet is one segment, so that each meets its own fate.
    let tun = Tun::builder().kernel_address(KERNEL, 24).offload(false).build()?;
    let line = Fault::new(tun, seed);
    let listener = reno(TcpSocket::new_v4()?)?;
    listener.bind(SocketAddr::new(KERNEL, PORT))?;
    let listener = listener.listen(1)?;
    let bytes = case.bytes;
    match subject {
        Subject::Kernel => {
            tokio::spawn(reflect(line.rx(case.faults())));
            let near = reno(TcpSocket::new_v4()?)?;
            let (near, far) = tokio::try_join!(near.connect(SocketAddr::new(FAR, PORT)), accept(&listener))?;
            move_bytes(near, far, bytes).await
        }
        Subject::Sends | Subject::Receives => {
            let stack = usernet::Stack::builder().address(FAR, 24).device(line.both(case.faults())).build()?;
            let near = stack.connect(SocketAddr::new(KERNEL, PORT));
            let (near, far) = tokio::try_join!(near, accept(&listener))?;
            if subject == Subject::Sends {
                move_bytes(near, far, bytes).await
            } else {
                move_bytes(far, near, bytes).await
            }
        }
    }
}

fn reno(socket: TcpSocket) -> io::Result<TcpSocket> {
    sockopt::set_tcp_congestion(&socket, "reno")?;
    Ok(socket)
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.accept().await.map(|(stream, _)| stream)
}

async fn move_bytes(
    mut from: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut to: impl AsyncRead + AsyncWrite + Send + Unpin,
    bytes: u64,
) -> io::Result<Duration> {
    let pattern = Pattern::shared();
    let begin = Clock::now();
    let sender = tokio::spawn(async move {
        let mut at = 0;
        while at < bytes {
            let len = usize::try_from(bytes - at).unwrap_or(CHUNK).min(CHUNK);
            from.write_all(pattern.at(at, len)).await?;
            at += len as u64;
        }
        from.shutdown().await?;
        // Until the other side has closed: what it needs may have to be sent again.
        from.read(&mut [0]).await
    });
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let came = to.read(&mut buffer).await?;
        if came == 0 {
            break;
        }
        pattern.check(at, &buffer[..came])?;
        at += came as u64;
    }
    let taken = begin.elapsed();
    if at != bytes {
        return Err(io::Error::other(format!("{at} of {bytes} bytes arrived")));
    }
    drop(to);
    sender.await.map_err(io::Error::other)??;
    Ok(taken)
}

/// Sends every packet back with its addresses exchanged.
async fn reflect(mut line: Fault<Tun>) -> io::Result<()> {
    let begin = Clock::now();
    let mut buffer = vec![0; 65_536];
    let mut waiting: Option<usize> = None;
    poll_fn(move |cx| {
        for _ in 0..BATCH {
            let now = Instant::from_micros(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
            match pass_one(&mut line, cx, now, &mut buffer, &mut waiting) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

fn pass_one(
    line: &mut Fault<Tun>,
    cx: &mut Context<'_>,
    now: Instant,
    buffer: &mut [u8],
    waiting: &mut Option<usize>,
) -> Poll<io::Result<()>> {
    let len = match *waiting {
        Some(len) => len,
        None => {
            let received = std::task::ready!(line.poll_recv(cx, now, &mut [IoSliceMut::new(buffer)]))?;
            if received.len >= 20 && buffer[0] >> 4 == 4 {
                let (source, destination) = buffer[12..20].split_at_mut(4);
                source.swap_with_slice(destination);
            }
            received.len
        }
    };
    *waiting = Some(len);
    let packet = Outgoing { header: &buffer[..len], payload: [&[], &[]], offload: Offload::default() };
    std::task::ready!(line.poll_send(cx, now, &packet))?;
    *waiting = None;
    Poll::Ready(Ok(()))
}
