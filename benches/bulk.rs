//! A first measurement against the kernel, over a TUN in a private network namespace: `cargo bench --bench bulk`.
//!
//! Prints Gbit/s each way and microseconds per round trip of one byte. The kernel's side is plain blocking sockets on a
//! thread of its own with the congestion control named per socket. Every byte count is verified at the other end.
#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program that prints, and measures its own buffers"
)]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::Stack;
use usernet::device::Tun;

const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
const CHUNK: usize = 256 * 1024;

/// Bulk throughput each way and round trips against the kernel over a TUN.
#[derive(Parser)]
struct Args {
    /// Bytes of each bulk transfer.
    #[arg(long, value_name = "N", default_value_t = 2 << 30)]
    bytes: u64,
    /// Round trips of one byte.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    rounds: u32,
    /// Largest IP packet.
    #[arg(long, value_name = "N", default_value_t = 1500)]
    mtu: usize,
    /// One packet per system call, checksums computed here (no IFF_VNET_HDR).
    #[arg(long)]
    no_offload: bool,
    /// Repetitions of each measurement.
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u32,
    /// Congestion control of the kernel's sockets.
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: String,
    /// Worker threads of the runtime; 0 runs the reactor and the user's task on one thread.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Runs the reactor on a thread of its own.
    #[arg(long)]
    dedicated_thread: bool,
    /// Microseconds that the reactor polls by itself after the last packet.
    #[arg(long, value_name = "N", default_value_t = 0)]
    busy_poll: u64,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let entered = usernet::device::tun::namespace::enter_private().map(drop).map_err(|error| error.to_string());
    let measured = entered.and_then(|()| measure(&args).map_err(|error| error.to_string()));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> io::Result<()> {
    let mut builder = match args.threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(args.threads.max(1)).enable_all().build()?;
    runtime.block_on(async {
        let tun = Tun::builder()
            .name("bench0")
            .kernel_address(KERNEL.into(), 24)
            .mtu(args.mtu)
            .offload(!args.no_offload)
            .build()?;
        let mut builder =
            Stack::builder().address(OURS, 24).device(tun).busy_poll(Duration::from_micros(args.busy_poll));
        if args.dedicated_thread {
            builder = builder.dedicated_thread();
        }
        let stack = builder.build()?;
        println!(
            "bulk: against the kernel over a TUN, mtu {}, offload {}, kernel congestion control {}, {} bytes a run",
            args.mtu,
            if args.no_offload { "off" } else { "on" },
            args.congestion,
            args.bytes
        );
        for _ in 0..args.runs {
            let took = to_the_kernel(&stack, args).await?;
            println!("to the kernel:     {}", rate(args.bytes, took));
        }
        for _ in 0..args.runs {
            let took = from_the_kernel(&stack, args).await?;
            println!("from the kernel:   {}", rate(args.bytes, took));
        }
        for _ in 0..args.runs {
            let took = round_trips(&stack, args).await?;
            let each = took.as_secs_f64() * 1e6 / f64::from(args.rounds);
            println!("1-byte round trip: {each:8.1} µs    ({} round trips, each byte verified)", args.rounds);
        }
        stack.shutdown(Duration::from_secs(3)).await
    })
}

fn rate(bytes: u64, took: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let gbits = bytes as f64 * 8.0 / took.as_secs_f64() / 1e9;
    format!("{gbits:8.2} Gbit/s ({bytes} bytes in {:.2} s, count verified)", took.as_secs_f64())
}

/// A listener of the kernel; `serve` runs on a thread with the first connection.
fn kernel<T: Send + 'static>(
    args: &Args,
    serve: impl FnOnce(TcpStream) -> io::Result<T> + Send + 'static,
) -> io::Result<(SocketAddr, JoinHandle<io::Result<T>>)> {
    let listener = TcpListener::bind((KERNEL, 0))?;
    rustix::net::sockopt::set_tcp_congestion(&listener, &args.congestion)?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept()?;
        serve(stream)
    });
    Ok((address, server))
}

fn join<T>(server: JoinHandle<io::Result<T>>) -> io::Result<T> {
    server.join().map_err(|_| io::Error::other("the kernel's side panicked"))?
}

fn verified(name: &str, came: u64, expected: u64) -> io::Result<()> {
    if came == expected { Ok(()) } else { Err(io::Error::other(format!("{name}: {came} of {expected} bytes"))) }
}

async fn to_the_kernel(stack: &Stack, args: &Args) -> io::Result<Duration> {
    let (address, server) = kernel(args, |mut stream| {
        let mut buffer = vec![0; CHUNK];
        let mut bytes = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(bytes),
                count => bytes += count as u64,
            }
        }
    })?;
    let mut stream = stack.connect(address).await?;
    let chunk = vec![1; CHUNK];
    let began = Instant::now();
    let mut left = args.bytes;
    while left > 0 {
        let part = &chunk[..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
        stream.write_all(part).await?;
        left -= part.len() as u64;
    }
    stream.shutdown().await?;
    // The kernel closes once it has read everything.
    stream.read_to_end(&mut Vec::new()).await?;
    let took = began.elapsed();
    verified("to the kernel", join(server)?, args.bytes)?;
    Ok(took)
}

async fn from_the_kernel(stack: &Stack, args: &Args) -> io::Result<Duration> {
    let bytes = args.bytes;
    let (address, server) = kernel(args, move |mut stream| {
        let chunk = vec![2; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let part = &chunk[..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
            stream.write_all(part)?;
            left -= part.len() as u64;
        }
        Ok(())
    })?;
    let mut stream = stack.connect(address).await?;
    let began = Instant::now();
    let mut buffer = vec![0; CHUNK];
    let mut came = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => came += count as u64,
        }
    }
    let took = began.elapsed();
    join(server)?;
    verified("from the kernel", came, args.bytes)?;
    Ok(took)
}

async fn round_trips(stack: &Stack, args: &Args) -> io::Result<Duration> {
    let (address, server) = kernel(args, |mut stream| {
        stream.set_nodelay(true)?;
        let mut byte = [0];
        let mut rounds = 0;
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
            rounds += 1;
        }
        Ok(rounds)
    })?;
    let mut stream = stack.connect(address).await?;
    stream.set_nodelay(true)?;
    let began = Instant::now();
    let mut back = [0];
    for round in 0..args.rounds {
        let sent = [round.to_le_bytes()[0]];
        stream.write_all(&sent).await?;
        stream.read_exact(&mut back).await?;
        if back != sent {
            return Err(io::Error::other(format!("round {round}: a wrong byte came back")));
        }
    }
    let took = began.elapsed();
    // The end must have been seen before this thread blocks in join: it may be the reactor's.
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    verified("round trips", join(server)?, u64::from(args.rounds))?;
    Ok(took)
}
