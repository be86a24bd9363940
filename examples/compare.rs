//! One program, two networks: the same source is compiled against `tokio::net` and against `usernet::net`; only the
//! imports differ. Prints what both did and how long it took, side by side.
#![allow(clippy::print_stdout, reason = "a program that prints")]

mod common;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;

/// Run the same program on tokio::net (the kernel's loopback) and on usernet::net (the embedded stack) and compare.
///
/// The embedded stack lives in this process: no device, no root, no set-up. Exit code 0 only if both networks gave the
/// same results.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Bytes of the bulk transfers.
    #[arg(long, value_name = "N", default_value_t = 64 << 20)]
    bytes: usize,
    /// Round trips of one byte.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    rounds: usize,
    /// Connections opened, used once and closed.
    #[arg(long, value_name = "N", default_value_t = 500)]
    connections: usize,
}

/// What a run did, as text that must be equal on both networks, and how long it took.
struct Outcome {
    what: String,
    took: Duration,
}

/// The program. `$net` is the only thing that changes.
macro_rules! program {
    ($name:ident, $($net:ident)::+) => {
        mod $name {
            use super::*;
            use $($net)::+::{TcpListener, TcpStream};
            use tokio::io::{AsyncReadExt, AsyncWriteExt};

            pub async fn run(args: &Args) -> io::Result<Vec<Outcome>> {
                Ok(vec![
                    timed(bulk(args.bytes)).await?,
                    timed(rounds(args.rounds)).await?,
                    timed(connections(args.connections)).await?,
                    timed(half_close()).await?,
                    timed(refused()).await?,
                ])
            }

            async fn timed(work: impl Future<Output = io::Result<String>>) -> io::Result<Outcome> {
                let began = Instant::now();
                let what = work.await?;
                Ok(Outcome { what, took: began.elapsed() })
            }

            /// A connected pair: the client's end and the server's.
            async fn connected() -> io::Result<(TcpStream, TcpStream)> {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
                Ok((client?, accepted?.0))
            }

            async fn bulk(bytes: usize) -> io::Result<String> {
                let (mut client, mut server) = connected().await?;
                let body = Arc::new(common::body(bytes));
                let sent = Arc::clone(&body);
                let sender = tokio::spawn(async move {
                    client.write_all(&sent).await?;
                    client.shutdown().await
                });
                let mut came = Vec::with_capacity(bytes);
                server.read_to_end(&mut came).await?;
                sender.await??;
                let verdict = if came == *body { "intact" } else { "DAMAGED" };
                Ok(format!("{} bytes {verdict}", came.len()))
            }

            async fn rounds(count: usize) -> io::Result<String> {
                let (mut client, mut server) = connected().await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                let echo = tokio::spawn(async move {
                    let mut byte = [0];
                    while server.read(&mut byte).await? == 1 {
                        server.write_all(&byte).await?;
                    }
                    io::Result::Ok(())
                });
                let mut byte = [0];
                for round in 0..count {
                    let sent = [round.to_le_bytes()[0]];
                    client.write_all(&sent).await?;
                    client.read_exact(&mut byte).await?;
                    if byte != sent {
                        return Ok(format!("round {round}: a wrong byte"));
                    }
                }
                drop(client);
                echo.await??;
                Ok(format!("{count} round trips"))
            }

            async fn connections(count: usize) -> io::Result<String> {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                let server = tokio::spawn(async move {
                    let mut sum = 0_usize;
                    for _ in 0..count {
                        let (mut stream, _) = listener.accept().await?;
                        let mut text = Vec::new();
                        stream.read_to_end(&mut text).await?;
                        sum += text.len();
                    }
                    io::Result::Ok(sum)
                });
                for _ in 0..count {
                    let mut stream = TcpStream::connect(address).await?;
                    stream.write_all(b"hello").await?;
                    stream.shutdown().await?;
                }
                Ok(format!("{count} connections, {} bytes", server.await??))
            }

            async fn half_close() -> io::Result<String> {
                let (mut client, mut server) = connected().await?;
                client.write_all(b"question").await?;
                client.shutdown().await?;
                let mut question = String::new();
                server.read_to_string(&mut question).await?;
                server.write_all(b"answer after the question's end").await?;
                drop(server);
                let mut answer = String::new();
                client.read_to_string(&mut answer).await?;
                Ok(format!("{question:?} then {answer:?}"))
            }

            async fn refused() -> io::Result<String> {
                let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
                let error = TcpStream::connect(address).await.map(drop).expect_err("nobody listens there");
                Ok(format!("{:?}", error.kind()))
            }
        }
    };
}

program!(kernel, tokio::net);
program!(embedded, usernet::net);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> io::Result<bool> {
    let theirs = kernel::run(args).await?;
    let ours = embedded::run(args).await?;
    let names = ["bulk", "round trips", "connections", "half-close", "refused"];
    println!("{:<12} {:>12} {:>12}  result", "", "tokio::net", "usernet::net");
    let mut same = true;
    for ((name, theirs), ours) in names.iter().zip(&theirs).zip(&ours) {
        let [kernel, user] = [theirs, ours].map(|outcome| format!("{:.1} ms", outcome.took.as_secs_f64() * 1e3));
        let result = if theirs.what == ours.what {
            ours.what.clone()
        } else {
            same = false;
            format!("DIFFERENT: {} / {}", theirs.what, ours.what)
        };
        println!("{name:<12} {kernel:>12} {user:>12}  {result}");
    }
    println!("{}", if same { "ok: the same results" } else { "the results differ" });
    usernet::Stack::current()?.shutdown(Duration::from_secs(3)).await?;
    Ok(same)
}
