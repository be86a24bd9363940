//! An echo server on usernet for the kernel's clients: `nc`, `telnet`, any program of this machine.
#![allow(clippy::print_stdout, reason = "a program that prints")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use common::failure;
use common::link::Link;
use usernet::{UserListener, UserStream};

/// How long open connections may take to finish after Ctrl-C.
const GRACE: Duration = Duration::from_secs(3);

/// Echo what the kernel's clients send, from a TCP/IP stack inside this process.
///
/// Makes a TUN device (needs root or CAP_NET_ADMIN), gives the kernel one address on it and serves on the other. Ends
/// with Ctrl-C. With --self-test it needs no root: in a private network namespace a client of the kernel talks to the
/// server, then both end.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    link: Link,
    /// Port to serve.
    #[arg(long, default_value_t = 7)]
    port: u16,
    /// In a private network namespace: one client of the kernel sends 1 MiB, reads it back and compares.
    #[arg(long)]
    self_test: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.self_test
        && let Err(error) = usernet::device::tun::namespace::enter_private()
    {
        eprintln!("echo: {error}");
        return ExitCode::FAILURE;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> io::Result<()> {
    let (stack, device) = args.link.open()?;
    let address = SocketAddr::new(args.link.address.ip, args.port);
    let listener = stack.bind(address).await?;
    println!("echo: serving on {address} through {device}; try from this machine:");
    println!("    ping {}", args.link.address.ip);
    println!("    echo hello | nc -N {} {}", args.link.address.ip, args.port);
    println!("    head -c 100M /dev/zero | nc -N {} {} | sha256sum", args.link.address.ip, args.port);
    let server = tokio::spawn(serve(listener));
    if args.self_test {
        self_test(address).await?;
        println!("ok: 1 MiB there and back");
    } else {
        tokio::signal::ctrl_c().await?;
        println!("\necho: ending");
    }
    server.abort();
    stack.shutdown(GRACE).await
}

async fn serve(listener: UserListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(echo(stream, peer))),
            // The device or the reactor is gone: nobody will come any more.
            Err(error) if error.kind() == io::ErrorKind::NetworkDown => return eprintln!("echo: {error}"),
            Err(error) => eprintln!("echo: {error}"),
        }
    }
}

async fn echo(mut stream: UserStream, peer: SocketAddr) {
    let (mut reader, mut writer) = stream.split();
    match tokio::io::copy(&mut reader, &mut writer).await {
        Ok(bytes) => println!("{peer}: {bytes} bytes"),
        Err(error) => println!("{peer}: {error}"),
    }
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
}

/// The kernel as a client.
async fn self_test(address: SocketAddr) -> io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let sent = common::body(1 << 20);
    let (mut reader, mut writer) = tokio::net::TcpStream::connect(address).await?.into_split();
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        writer.write_all(&copy).await?;
        writer.shutdown().await
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).await?;
    sender.await??;
    if back == sent { Ok(()) } else { Err(failure("the echo differs from what was sent")) }
}
