//! usernet against the Linux kernel, through a real TUN in a private network namespace.
//!
//! `main` enters the namespace while the process has one thread, then probes: a TUN counts as available once it has
//! been created and configured. Where it is not, every case is reported as ignored with the step that failed; with
//! `USERNET_REQUIRE_TUN=1` that is a failure. Each case has its own device, addresses, stack and runtime.
#![allow(clippy::indexing_slicing, reason = "a test")]

mod kernel_link;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kernel_link::capture::{self, Behind, Capture, set_max_segment};
use kernel_link::full;
use kernel_link::{Failure, Link, drain, ensure, has_napi_thread, ping, pump};
use libtest_mimic::{Arguments, Trial};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Barrier;
use usernet::UserStream;
use usernet::device::tun::namespace::Namespace;

/// Only a guard against hangs; no case needs a fraction of it.
const HANG_GUARD: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

type Verdict = Result<(), Failure>;
type Case = fn(Arc<Link>) -> Pin<Box<dyn Future<Output = Verdict>>>;

/// Builds the table of cases: name, MTU, body.
macro_rules! cases {
    ($($name:ident: $mtu:literal => $body:expr;)*) => {
        &[$((stringify!($name), $mtu, {
            fn case(link: Arc<Link>) -> Pin<Box<dyn Future<Output = Verdict>>> { Box::pin($body(link)) }
            case as Case
        })),*]
    };
}

/// Every case runs in both. Off: one packet per system call, checksums computed here. On: `IFF_VNET_HDR`, packets of up to
/// 65,535 bytes, checksums left to the other side.
const OFFLOAD: [bool; 2] = [false, true];

const CASES: &[(&str, usize, Case)] = cases! {
    connect_to_the_kernel_over_ipv4: 1500 => |link: Arc<Link>| connect(link.kernel4, link);
    connect_to_the_kernel_over_ipv6: 1500 => |link: Arc<Link>| connect(link.kernel6, link);
    accept_from_the_kernel_over_ipv4: 1500 => |link: Arc<Link>| accept(link.ours4, link);
    accept_from_the_kernel_over_ipv6: 1500 => |link: Arc<Link>| accept(link.ours6, link);
    sixty_four_mib_each_way_over_ipv4: 1500 => |link: Arc<Link>| bulk(link.kernel4, link, 64 * MIB);
    sixty_four_mib_each_way_over_ipv6: 1500 => |link: Arc<Link>| bulk(link.kernel6, link, 64 * MIB);
    bulk_with_mtu_576: 576 => |link: Arc<Link>| bulk(link.kernel4, link, 8 * MIB);
    bulk_with_mtu_1280_over_ipv6: 1280 => |link: Arc<Link>| bulk(link.kernel6, link, 8 * MIB);
    bulk_with_mtu_9000: 9000 => |link: Arc<Link>| bulk_on_both_families(link, 16 * MIB);
    bulk_with_mtu_65535: 65535 => |link: Arc<Link>| bulk_on_both_families(link, 16 * MIB);
    half_close_by_us: 1500 => half_close_by_us;
    half_close_by_the_kernel: 1500 => half_close_by_the_kernel;
    reset_by_the_kernel_after_data: 1500 => reset_by_the_kernel;
    reset_by_zero_linger: 1500 => reset_by_zero_linger;
    reset_by_dropping_unread_data: 1500 => reset_by_dropping_unread_data;
    refused_by_the_kernel: 1500 => refused_by_the_kernel;
    refused_by_us: 1500 => refused_by_us;
    our_backlog_overflows_and_all_get_in: 1500 => our_backlog_overflows;
    the_kernels_backlog_overflows_and_all_get_in: 1500 => the_kernels_backlog_overflows;
    five_hundred_connections_at_once: 1500 => five_hundred_connections;
    dropped_streams_deliver_before_shutdown_returns: 1500 => dropped_streams_deliver;
    icmp_unreachable_ends_connect: 1500 => icmp_unreachable;
    the_kernel_pings_us: 1500 => |link: Arc<Link>| async move { ping(&link) };
    bulk_with_threaded_napi: 1500 => bulk_with_threaded_napi;
    a_full_device_tells_of_room: 1500 => |link: Arc<Link>| async move { full::wait_for_room(&format!("{}f", link.name)).await };
    few_device_writes_per_mib: 1500 => few_device_writes;
    no_segment_exceeds_the_peers_mss: 1500 => mss_is_kept;
    forwarded_segments_fit_a_plain_wire: 1500 => forwarded;
    link_deleted_in_mid_transfer_is_network_down: 1500 => link_deleted;
};

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Every case brings its own threads, and two cores are all there is.
    args.test_threads.get_or_insert(1);
    let prepared = if args.list { Ok(Namespace::Network) } else { kernel_link::prepare() };
    let step = prepared.as_ref().err().cloned();
    // Never without a namespace of our own: it would be the host's setting.
    let no_forwarding = if args.list || step.is_some() { None } else { kernel_link::forward().err() };
    let no_threads = if args.list || step.is_some() { None } else { kernel_link::thread_napi().err() };
    let required = std::env::var_os("USERNET_REQUIRE_TUN").is_some_and(|value| value == "1");
    if let Some(step) = &step {
        eprintln!("kernel: no TUN can be had: {step}");
    }
    if let Some(step) = &no_forwarding {
        eprintln!("kernel: forwarding cannot be switched on: {step}");
    }
    if let Some(step) = &no_threads {
        eprintln!("kernel: no threaded NAPI: {step}");
    }
    let modes = CASES.iter().flat_map(|case| OFFLOAD.map(|offload| (case, offload)));
    let trials = modes.enumerate().map(|(index, ((name, mtu, case), offload))| {
        let forwards = matches!(*name, "icmp_unreachable_ends_connect" | "forwarded_segments_fit_a_plain_wire");
        let threaded = matches!(*name, "bulk_with_threaded_napi" | "a_full_device_tells_of_room");
        let unavailable = step.clone().or_else(|| no_forwarding.clone().filter(|_| forwards));
        let unavailable = unavailable.or_else(|| no_threads.clone().filter(|_| threaded));
        // A user namespace of an unprivileged user has no right to mount, whatever is required.
        let required = required && !(threaded && matches!(prepared, Ok(Namespace::UserAndNetwork)));
        let ignored = unavailable.is_some() && !required;
        let name = if offload { format!("{name}_with_offload") } else { (*name).to_owned() };
        Trial::test(name, move || match unavailable {
            Some(step) => Err(format!("USERNET_REQUIRE_TUN=1, but: {step}").into()),
            None => run(index, *mtu, (offload, threaded), *case).map_err(Into::into),
        })
        .with_ignored_flag(ignored)
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

/// `how`: with offload, with threaded NAPI.
fn run(index: usize, mtu: usize, how: (bool, bool), case: Case) -> Verdict {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let verdict = runtime.block_on(async {
        let link = Arc::new(Link::new(index, mtu, how)?);
        match tokio::time::timeout(HANG_GUARD, case(Arc::clone(&link))).await {
            Ok(verdict) => verdict.map_err(|failure| format!("{failure}; stats: {:?}", link.stack.stats()).into()),
            Err(_) => Err(format!("hangs; stats: {:?}", link.stack.stats()).into()),
        }
    });
    runtime.shutdown_background();
    verdict
}

/// A listener of the kernel on `ip` and a stream of ours connected to it: (ours, the kernel's).
async fn ours_to_kernel(link: &Link, ip: IpAddr) -> io::Result<(UserStream, tokio::net::TcpStream)> {
    let listener = tokio::net::TcpListener::bind((ip, 0)).await?;
    let target = listener.local_addr()?;
    let (ours, theirs) = tokio::try_join!(link.stack.connect(target), listener.accept())?;
    Ok((ours, theirs.0))
}

/// A listener of ours on `ip` and a stream of the kernel connected to it: (ours, the kernel's).
async fn kernel_to_ours(link: &Link, ip: IpAddr) -> io::Result<(UserStream, tokio::net::TcpStream)> {
    let listener = link.stack.bind((ip, 0)).await?;
    let target = listener.local_addr()?;
    let (ours, theirs) = tokio::try_join!(listener.accept(), tokio::net::TcpStream::connect(target))?;
    Ok((ours.0, theirs))
}

async fn connect(ip: IpAddr, link: Arc<Link>) -> Verdict {
    let (ours, theirs) = ours_to_kernel(&link, ip).await?;
    ensure(ours.peer_addr()? == theirs.local_addr()?, "our peer is the kernel's end")?;
    ensure(ours.local_addr()? == theirs.peer_addr()?, "the kernel's peer is our end")?;
    ask_and_answer(ours, theirs).await
}

async fn accept(ip: IpAddr, link: Arc<Link>) -> Verdict {
    let (ours, theirs) = kernel_to_ours(&link, ip).await?;
    ensure(ours.peer_addr()? == theirs.local_addr()?, "our peer is the kernel's end")?;
    ensure(ours.local_addr()? == theirs.peer_addr()?, "the kernel's peer is our end")?;
    ask_and_answer(theirs, ours).await
}

/// One asks, one answers, both see the other's end of stream.
async fn ask_and_answer<A, B>(mut asks: A, mut answers: B) -> Verdict
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    asks.write_all(b"question").await?;
    let mut question = [0; 8];
    answers.read_exact(&mut question).await?;
    ensure(&question == b"question", "the question arrives")?;
    answers.write_all(b"answer").await?;
    answers.shutdown().await?;
    let mut answer = Vec::new();
    asks.read_to_end(&mut answer).await?;
    ensure(answer == b"answer", "the answer arrives, then the end")?;
    asks.shutdown().await?;
    ensure(answers.read(&mut question).await? == 0, "the end arrives")
}

/// Both ways at once, checked by hash.
async fn bulk(ip: IpAddr, link: Arc<Link>, bytes: usize) -> Verdict {
    let (ours, theirs) = ours_to_kernel(&link, ip).await?;
    let (our_reader, our_writer) = ours.into_split();
    let (their_reader, their_writer) = theirs.into_split();
    let out = tokio::spawn(pump(our_writer, bytes, 1));
    let into = tokio::spawn(pump(their_writer, bytes, 2));
    let arrived_there = tokio::spawn(drain(their_reader));
    let arrived_here = drain(our_reader).await?;
    let (out, into, arrived_there) = (out.await??, into.await??, arrived_there.await??);
    ensure(arrived_there == (bytes, out), "what we sent arrived")?;
    ensure(arrived_here == (bytes, into), "what the kernel sent arrived")
}

async fn bulk_with_threaded_napi(link: Arc<Link>) -> Verdict {
    ensure(has_napi_thread(&link)?, "a thread of the kernel bears the interface's name")?;
    bulk_on_both_families(link, 16 * MIB).await
}

async fn bulk_on_both_families(link: Arc<Link>, bytes: usize) -> Verdict {
    bulk(link.kernel4, Arc::clone(&link), bytes).await?;
    bulk(link.kernel6, link, bytes).await
}

/// Issue 3, 4: at most 20 device writes per MiB sent where one write carries 64 KiB.
async fn few_device_writes(link: Arc<Link>) -> Verdict {
    const BYTES: usize = 64 * MIB;
    let (ours, theirs) = ours_to_kernel(&link, link.kernel4).await?;
    let before = link.stack.stats();
    let sent = tokio::spawn(pump(ours, BYTES, 5));
    let came = drain(theirs).await?;
    ensure(came == (BYTES, sent.await??), "what we sent arrived")?;
    let after = link.stack.stats();
    let per_mib = (after.device_writes - before.device_writes) as usize / (BYTES / MIB);
    let limit = if link.offload { 20 } else { 800 };
    eprintln!("{per_mib} device writes per MiB, offload {}", link.offload);
    ensure(per_mib <= limit, &format!("{per_mib} device writes per MiB are at most {limit}"))
}

/// What the kernel is told to split by, read from a packet socket on its side of the TUN.
async fn mss_is_kept(link: Arc<Link>) -> Verdict {
    // RFC 6691 §2: 12 of its bytes are the timestamps'.
    const ANNOUNCED: i32 = 700;
    const TEXT: usize = 688;
    let IpAddr::V4(ours) = link.ours4 else { return Err("not an IPv4 address".into()) };
    let capture = Capture::start(&link.name, ours, true)?;
    let socket = tokio::net::TcpSocket::new_v4()?;
    set_max_segment(&socket, ANNOUNCED)?;
    socket.bind(SocketAddr::new(link.kernel4, 0))?;
    let listener = socket.listen(4)?;
    let (stream, theirs) = tokio::try_join!(link.stack.connect(listener.local_addr()?), listener.accept())?;
    let sent = tokio::spawn(pump(stream, 8 * MIB, 6));
    ensure(drain(theirs.0).await? == (8 * MIB, sent.await??), "what we sent arrived")?;
    let packets = tokio::task::spawn_blocking(|| capture.finish()).await??;
    let large = packets.iter().filter(|packet| packet.gso_size > 0).count();
    eprintln!("{} packets captured, {large} of them large", packets.len());
    for packet in &packets {
        let most = if packet.gso_size > 0 { packet.gso_size } else { packet.text() };
        ensure(most <= TEXT, &format!("{most} bytes of text are at most {TEXT}"))?;
    }
    ensure(packets.iter().any(|packet| packet.text() > 0), "text was captured")?;
    ensure((large > 0) == link.offload, "large packets with offload and only then")
}

/// A host behind a forwarding kernel and a veth that merges, splits and sums nothing.
async fn forwarded(link: Arc<Link>) -> Verdict {
    if !capture::has_programs() {
        eprintln!("skipped: needs the programs ip and ethtool");
        return Ok(());
    }
    let (IpAddr::V4(ours), IpAddr::V4(kernel)) = (link.ours4, link.kernel4) else { return Err("IPv4".into()) };
    let index = kernel.octets()[2];
    let behind = tokio::task::spawn_blocking(move || Behind::start(index, ours)).await??;
    let stream = link.stack.connect(SocketAddr::V4(behind.address)).await?;
    let sent = pump(stream, 16 * MIB, 7).await?;
    let (bytes, hash, packets) = tokio::task::spawn_blocking(|| behind.finish()).await??;
    ensure((bytes, hash) == (16 * MIB, sent), "what we sent arrived")?;
    eprintln!("{} packets captured behind the veth", packets.len());
    ensure(packets.len() > 5_000, "the packets of the stream were captured")?;
    let longest = packets.iter().map(|packet| packet.packet.len()).max().unwrap_or(0);
    ensure(longest <= 1500, &format!("the longest packet has {longest} bytes, at most 1500"))?;
    ensure(packets.iter().all(capture::Captured::is_sound), "every checksum holds")
}

async fn half_close_by_us(link: Arc<Link>) -> Verdict {
    let (mut ours, mut theirs) = ours_to_kernel(&link, link.kernel4).await?;
    ours.write_all(b"all").await?;
    ours.shutdown().await?;
    let mut read = Vec::new();
    theirs.read_to_end(&mut read).await?;
    ensure(read == b"all", "the kernel reads to our end")?;
    let sent = tokio::spawn(pump(theirs, MIB, 3));
    let came = drain(&mut ours).await?;
    ensure(came == (MIB, sent.await??), "we read on after our FIN")?;
    let error = ours.write(b"more").await.expect_err("our side is shut");
    ensure(error.kind() == io::ErrorKind::BrokenPipe, "a write after shutdown is BrokenPipe")
}

async fn half_close_by_the_kernel(link: Arc<Link>) -> Verdict {
    let (mut ours, mut theirs) = kernel_to_ours(&link, link.ours4).await?;
    theirs.write_all(b"all").await?;
    theirs.shutdown().await?;
    let mut read = Vec::new();
    ours.read_to_end(&mut read).await?;
    ensure(read == b"all", "we read to the kernel's end")?;
    let sent = tokio::spawn(pump(ours, MIB, 4));
    let came = drain(&mut theirs).await?;
    ensure(came == (MIB, sent.await??), "the kernel reads on after its FIN")
}

async fn reset_by_the_kernel(link: Arc<Link>) -> Verdict {
    let (mut ours, mut theirs) = ours_to_kernel(&link, link.kernel4).await?;
    theirs.write_all(b"last words").await?;
    let mut peeked = [0; 10];
    while ours.peek(&mut peeked).await? < 10 {
        tokio::task::yield_now().await;
    }
    theirs.set_zero_linger()?;
    drop(theirs);
    // Wait for the reset to arrive, then read what came before it.
    while !ours.ready(tokio::io::Interest::READABLE).await?.is_read_closed() {
        tokio::task::yield_now().await;
    }
    ours.read_exact(&mut peeked).await?;
    ensure(&peeked == b"last words", "unread bytes come first")?;
    let error = ours.read(&mut peeked).await.expect_err("then the error");
    ensure(error.kind() == io::ErrorKind::ConnectionReset, "the error is ConnectionReset")?;
    ensure(ours.read(&mut peeked).await? == 0, "the error comes once, then the end")
}

async fn reset_by_zero_linger(link: Arc<Link>) -> Verdict {
    let (ours, mut theirs) = ours_to_kernel(&link, link.kernel4).await?;
    ours.set_zero_linger()?;
    drop(ours);
    expect_reset(&mut theirs).await
}

async fn reset_by_dropping_unread_data(link: Arc<Link>) -> Verdict {
    let (ours, mut theirs) = kernel_to_ours(&link, link.ours4).await?;
    theirs.write_all(b"never read").await?;
    // Not `readable`: an accepted stream begins readable, as tokio's, and a drop before the text came is a FIN.
    ensure(ours.peek(&mut [0; 10]).await? > 0, "the text is here")?;
    drop(ours);
    expect_reset(&mut theirs).await
}

async fn expect_reset(theirs: &mut tokio::net::TcpStream) -> Verdict {
    let error = theirs.read(&mut [0; 16]).await.expect_err("the kernel was reset");
    ensure(error.kind() == io::ErrorKind::ConnectionReset, "the kernel sees ConnectionReset")
}

async fn refused_by_the_kernel(link: Arc<Link>) -> Verdict {
    for ip in [link.kernel4, link.kernel6] {
        let error = link.stack.connect((ip, 9)).await.expect_err("nobody listens");
        ensure(error.kind() == io::ErrorKind::ConnectionRefused, "we are refused")?;
    }
    Ok(())
}

async fn refused_by_us(link: Arc<Link>) -> Verdict {
    for ip in [link.ours4, link.ours6] {
        let error = tokio::net::TcpStream::connect((ip, 9)).await.expect_err("nobody listens");
        ensure(error.kind() == io::ErrorKind::ConnectionRefused, "the kernel is refused")?;
    }
    Ok(())
}

async fn our_backlog_overflows(link: Arc<Link>) -> Verdict {
    const CLIENTS: usize = 16;
    let socket = link.stack.socket()?;
    socket.bind(SocketAddr::new(link.ours4, 0))?;
    let listener = socket.listen(4)?;
    let target = listener.local_addr()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(async move { knock(tokio::net::TcpStream::connect(target).await?).await }))
        .collect();
    while listener.backlog_len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..CLIENTS {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0; 2]).await?;
    }
    for client in clients {
        client.await??;
    }
    Ok(())
}

/// A client of a backlog test: two bytes, then it waits to be closed.
async fn knock(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<usize> {
    stream.write_all(b"in").await?;
    stream.read_to_end(&mut Vec::new()).await
}

async fn the_kernels_backlog_overflows(link: Arc<Link>) -> Verdict {
    const CLIENTS: usize = 8;
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(link.kernel4, 0))?;
    let listener = socket.listen(2)?;
    let target = listener.local_addr()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let stack = link.stack.clone();
            tokio::spawn(async move { knock(stack.connect(target).await?).await })
        })
        .collect();
    // Long enough for the first SYNs to find the queue full.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..CLIENTS {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0; 2]).await?;
    }
    for client in clients {
        client.await??;
    }
    Ok(())
}

async fn five_hundred_connections(link: Arc<Link>) -> Verdict {
    const EACH: usize = 250;
    let all_open = Arc::new(Barrier::new(2 * EACH));
    let theirs = tokio::net::TcpListener::bind((link.kernel4, 0)).await?;
    let ours = link.stack.bind((link.ours6, 0)).await?;
    let (their_address, our_address) = (theirs.local_addr()?, ours.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = theirs.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = ours.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    let mut clients = Vec::new();
    for number in 0..EACH {
        let (stack, barrier) = (link.stack.clone(), Arc::clone(&all_open));
        clients.push(tokio::spawn(async move {
            let stream = stack.connect(their_address).await?;
            barrier.wait().await;
            echo_there_and_back(stream, number).await
        }));
        let barrier = Arc::clone(&all_open);
        clients.push(tokio::spawn(async move {
            let stream = tokio::net::TcpStream::connect(our_address).await?;
            barrier.wait().await;
            echo_there_and_back(stream, number).await
        }));
    }
    for client in clients {
        ensure(client.await??, "every connection echoes its own bytes")?;
    }
    Ok(())
}

async fn echo_there_and_back(mut stream: impl AsyncRead + AsyncWrite + Unpin, number: usize) -> io::Result<bool> {
    let sent: Vec<u8> = (0..4096_usize).map(|at| (at * 7 + number).to_le_bytes()[0]).collect();
    stream.write_all(&sent).await?;
    stream.shutdown().await?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await?;
    Ok(back == sent)
}

async fn dropped_streams_deliver(link: Arc<Link>) -> Verdict {
    let (mut ours, theirs) = ours_to_kernel(&link, link.kernel4).await?;
    let sent = vec![7; 512 * 1024];
    ours.write_all(&sent).await?;
    drop(ours);
    let reader = tokio::spawn(drain(theirs));
    link.stack.shutdown(Duration::from_secs(10)).await?;
    let (bytes, _) = reader.await??;
    ensure(bytes == sent.len(), "everything queued before the drop arrives")
}

async fn icmp_unreachable(link: Arc<Link>) -> Verdict {
    // The kernel forwards, has no route, and says so by ICMP.
    let nowhere = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 80));
    let error = link.stack.connect(nowhere).await.expect_err("there is no route");
    ensure(error.kind() == io::ErrorKind::NetworkUnreachable, &format!("{error:?} is NetworkUnreachable"))
}

async fn link_deleted(link: Arc<Link>) -> Verdict {
    let (ours, theirs) = ours_to_kernel(&link, link.kernel4).await?;
    let idle = ours_to_kernel(&link, link.kernel6).await?;
    let listener = link.stack.bind((link.ours4, 0)).await?;
    let (mut reader, writer) = ours.into_split();
    let (their_reader, their_writer) = theirs.into_split();
    tokio::spawn(pump(their_writer, usize::MAX, 5));
    tokio::spawn(drain(their_reader));
    let writes = tokio::spawn(pump(writer, usize::MAX, 6));
    let accepts = tokio::spawn(async move { listener.accept().await.map(drop) });
    reader.read_exact(&mut vec![0; MIB]).await?;
    usernet::device::tun::link::delete(&link.name)?;
    let down = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NetworkDown => Ok(()),
        other => Err(Failure::from(format!("{other:?} is not NetworkDown"))),
    };
    // What arrived before may still be read; then the error.
    let mut buffer = vec![0; MIB];
    down(loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    })?;
    down(writes.await?.map(drop))?;
    down(accepts.await?)?;
    down(idle.0.readable().await)?;
    down(link.stack.connect((link.kernel4, 9)).await.map(drop))
}
