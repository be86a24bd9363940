//! Lets any TCP program of this machine run over usernet: accepts on the kernel's TCP and forwards through ours, or the
//! other way round.
#![allow(clippy::print_stdout, reason = "a program that prints")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::link::Link;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use usernet::Stack;

/// Bytes copied at a time: tokio's 8 KiB would make the system calls of the kernel's end the limit.
const CHUNK: usize = 64 << 10;
/// How long open connections may take to finish after Ctrl-C.
const GRACE: Duration = Duration::from_secs(3);

/// Forward TCP connections through usernet, a TCP/IP stack inside this process.
///
/// Listens with the kernel's TCP and connects to the target through usernet and a TUN device; --reverse listens with
/// usernet and connects with the kernel's TCP. So iperf3, psql or ssh run over usernet unchanged. Needs root or
/// CAP_NET_ADMIN for the TUN. Ends with Ctrl-C.
#[derive(Parser)]
#[command(
    version,
    after_help = "EXAMPLES:
    iperf3 over usernet to an iperf3 server on this machine's side of the TUN:
        iperf3 -s &
        sudo forward --listen 127.0.0.1:5200 --target 10.77.0.1:5201 --tun usernet0
        iperf3 -c 127.0.0.1 -p 5200
    The kernel's clients reach a local server through usernet:
        sudo forward --reverse --listen 10.77.0.2:8000 --target 127.0.0.1:8000 --tun usernet0
        curl http://10.77.0.2:8000/"
)]
struct Args {
    /// Where connections come in: an address of the host, with --reverse one of this stack.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where they go to: through usernet, with --reverse through the host's network.
    #[arg(long, value_name = "ADDRESS:PORT")]
    target: SocketAddr,
    /// Listen with usernet, connect with the kernel.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    link: Link,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forward: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> io::Result<()> {
    let (stack, _) = args.link.open()?;
    let (listen, target) = (args.listen, args.target);
    let sides = if args.reverse { ["usernet", "the kernel"] } else { ["the kernel", "usernet"] };
    println!("forward: {listen} ({}) to {target} ({})", sides[0], sides[1]);
    tokio::select! {
        ended = accept_all(&stack, args.reverse, listen, target) => ended?,
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    println!("\nforward: ending");
    stack.shutdown(GRACE).await
}

async fn accept_all(stack: &Stack, reverse: bool, listen: SocketAddr, target: SocketAddr) -> io::Result<()> {
    if reverse {
        let listener = stack.bind(listen).await?;
        loop {
            let (inbound, peer) = listener.accept().await?;
            tokio::spawn(async move { relay(peer, inbound, tokio::net::TcpStream::connect(target).await).await });
        }
    }
    let listener = tokio::net::TcpListener::bind(listen).await?;
    loop {
        let (inbound, peer) = listener.accept().await?;
        let stack = stack.clone();
        tokio::spawn(async move { relay(peer, inbound, stack.connect(target).await).await });
    }
}

/// Copies both ways until both sides are done.
async fn relay<A, B>(peer: SocketAddr, mut inbound: A, outbound: io::Result<B>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let copied = match outbound {
        Ok(mut outbound) => copy_bidirectional_with_sizes(&mut inbound, &mut outbound, CHUNK, CHUNK).await,
        Err(error) => Err(error),
    };
    match copied {
        Ok((there, back)) => println!("{peer}: {there} bytes there, {back} back"),
        Err(error) => println!("{peer}: {error}"),
    }
}
