//! Fetches a body over HTTP through usernet and prints the life of the socket that carried it.
//!
//! Without arguments it needs nothing but this machine: in a private network namespace it makes a TUN, lets the kernel
//! serve on one side of it and fetches from the other side. See `get --help`.
#![allow(clippy::print_stdout, reason = "a program that prints")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use common::life::Life;
use common::link::{KERNELS, OURS, Wire};
use common::{Network, failure};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use usernet::device::tun::namespace;
use usernet::device::{Device, Pcap, pair};
use usernet::{Stack, UserSocket};

/// How long a stack may take to get its last bytes acknowledged.
const GRACE: Duration = Duration::from_secs(3);

/// Fetch a body over HTTP through usernet, a TCP/IP stack inside this process.
///
/// Without arguments: enters a private network namespace, makes a TUN device there, serves a body on the kernel's side
/// of it and fetches that body through UserSocket::new() and connect().await. Needs no root, changes nothing of the host.
#[derive(Parser)]
#[command(
    version,
    after_help = "EXAMPLES:
    get
    get --bytes 67108864 --pcap /tmp/get.pcapng
    sudo get http://93.184.215.14/ --tun usernet0 --address 10.0.0.2/24
        (README, \"To a real network\", has the commands that make usernet0 and its route)"
)]
struct Args {
    /// What to fetch (http only). Host names are resolved by the host's resolver.
    #[arg(requires = "tun")]
    url: Option<Uri>,
    /// An existing TUN device to go through, instead of one in a private namespace.
    #[arg(long, value_name = "NAME", requires = "url")]
    tun: Option<String>,
    /// The address of this stack on the TUN.
    #[arg(long, value_name = "ADDRESS/PREFIX", default_value_t = OURS)]
    address: Network,
    /// Write every packet to a capture file that Wireshark opens.
    #[arg(long, value_name = "FILE")]
    pcap: Option<std::path::PathBuf>,
    /// Size of the body that is served when there is no URL.
    #[arg(long, value_name = "N", default_value_t = 8 << 20)]
    bytes: usize,
    #[command(flatten)]
    wire: Wire,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A namespace can only be entered while the process has one thread: before any runtime.
    let private = match args.url {
        None => Some(namespace::enter_private().map(drop).map_err(|error| error.to_string())),
        Some(_) => None,
    };
    match run(&args, private) {
        Ok(last) => {
            println!("{last}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("get: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is fetched, and where the bytes go through.
struct Job {
    device: Box<dyn Device>,
    /// `tun NAME` or `pair() (REASON)`.
    path: String,
    host: String,
    target: SocketAddr,
    uri: Uri,
    /// What the server serves, where that is known.
    served: Option<Bytes>,
}

// One thread for the client, so that the table can look at the socket between two turns of the reactor.
#[tokio::main(flavor = "current_thread")]
async fn run(args: &Args, private: Option<Result<(), String>>) -> io::Result<String> {
    let mut job = match private {
        Some(entered) => local_job(args, entered)?,
        None => remote_job(args).await?,
    };
    if let Some(file) = &args.pcap {
        job.device = Box::new(Pcap::file(job.device, file)?);
        println!("capture: {}", file.display());
    }
    // A task, not the future of block_on: tokio lets tasks take turns, and that one only now and then.
    tokio::spawn(fetch(args.address, args.bytes / 4, job)).await?
}

/// A server of our own: the kernel behind a TUN, or a second usernet stack where no TUN can be had.
fn local_job(args: &Args, entered: Result<(), String>) -> io::Result<Job> {
    let body = Bytes::from(common::body(args.bytes));
    let target = SocketAddr::new(KERNELS.ip, 8080);
    let uri = format!("http://{target}/body").parse().map_err(io::Error::other)?;
    let tun = entered.and_then(|()| args.wire.make("usernet0", KERNELS).map_err(|error| error.to_string()));
    let (device, path): (Box<dyn Device>, String) = match tun {
        Ok(tun) => {
            let path = tun.name();
            serve_from_kernel(target, body.clone())?;
            (Box::new(tun), path)
        }
        Err(reason) => {
            let (near, far) = pair(args.wire.mtu);
            serve_from_usernet(far, target, body.clone())?;
            (Box::new(near), format!("pair() ({reason})"))
        }
    };
    Ok(Job { device, path, host: target.to_string(), target, uri, served: Some(body) })
}

fn serve_from_kernel(address: SocketAddr, body: Bytes) -> io::Result<()> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    in_thread(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        common::http::serve_on_kernel(listener, body).await.map(drop)
    })
}

fn serve_from_usernet(device: impl Device + 'static, address: SocketAddr, body: Bytes) -> io::Result<()> {
    let (ready, is_ready) = std::sync::mpsc::channel();
    in_thread(async move {
        let stack = Stack::builder().address(KERNELS.ip, KERNELS.prefix).device(device).build()?;
        let listener = stack.bind(address).await?;
        ready.send(()).map_err(io::Error::other)?;
        common::http::serve_on_usernet(listener, body).await.map(drop)
    })?;
    is_ready.recv().map_err(|_| failure("the second stack did not start"))
}

/// Runs a server on a thread and a runtime of its own, so that it shares nothing with the client but the wire.
fn in_thread(server: impl Future<Output = io::Result<()>> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("server".into()).spawn(move || {
        match runtime.block_on(server) {
            // The other end of the pair is gone: the client has all it wanted.
            Err(error) if error.kind() == io::ErrorKind::NetworkDown => {}
            Err(error) => eprintln!("server: {error}"),
            Ok(()) => {}
        }
    })?;
    Ok(())
}

/// Someone else's server behind an existing TUN.
async fn remote_job(args: &Args) -> io::Result<Job> {
    let (Some(uri), Some(name)) = (args.url.clone(), &args.tun) else { return Err(failure("a URL needs --tun")) };
    if uri.scheme_str() != Some("http") {
        return Err(failure("only http:// URLs"));
    }
    let host = uri.host().ok_or_else(|| failure("the URL has no host"))?.to_owned();
    let port = uri.port_u16().unwrap_or(80);
    let bare = host.trim_matches(['[', ']']).to_owned();
    let mut found = usernet::net::lookup_host((bare, port)).await?;
    let target = found
        .find(|address| address.is_ipv4() == args.address.ip.is_ipv4())
        .ok_or_else(|| failure(format!("{host} has no address of the family of {}", args.address)))?;
    let device = args.wire.attach(name)?;
    Ok(Job { path: format!("tun {name}"), device: Box::new(device), host, target, uri, served: None })
}

async fn fetch(address: Network, step: usize, job: Job) -> io::Result<String> {
    let stack = Stack::builder().address(address.ip, address.prefix).device(job.device).build()?;
    let current = stack.set_default()?;
    // The kernel greets a new interface with packets of its own; the reactor shall see them before our SYN, not with it.
    tokio::task::yield_now().await;

    let socket = UserSocket::new()?;
    let mut life = Life::new(socket.watch(), step as u64);
    life.note("UserSocket::new()");
    let stream = life.during("connect()", socket.connect(job.target)).await?;

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection.without_shutdown());
    let request = Request::get(job.uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(hyper::header::HOST, &job.host)
        .header(hyper::header::USER_AGENT, "usernet-get")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = life.during("request", sender.send_request(request)).await.map_err(io::Error::other)?;
    let status = response.status();
    let body = life.during("body", response.into_body().collect()).await.map_err(io::Error::other)?.to_bytes();
    life.note("body complete");

    // With the sender gone hyper gives the stream back; now it is ours to close, state by state.
    drop(sender);
    let mut stream = life.during("closing", connection).await?.map_err(io::Error::other)?.io.into_inner();
    life.during("shutdown()", stream.shutdown()).await?;
    life.during("read to the end", stream.read_to_end(&mut Vec::new())).await?;
    drop(stream);
    drop(current);
    life.during("stack.shutdown()", stack.shutdown(GRACE)).await?;
    life.note("end");

    life.print();
    println!();
    let verdict = report(&job.served, status, &body);
    println!();
    println!("path: {}", job.path);
    let sha256 = verdict?;
    if !life.buffers_unchanged() {
        return Err(failure("a buffer moved or changed its size between new() and the end"));
    }
    Ok(format!("ok: {} bytes, sha256 {sha256}, buffers unchanged", body.len()))
}

/// Prints status, length and hash; the hash if all is as it was served.
fn report(served: &Option<Bytes>, status: StatusCode, body: &Bytes) -> io::Result<String> {
    let sha256 = common::sha256(body);
    println!("status: {status}");
    println!("length: {} bytes", body.len());
    println!("sha256: {sha256}");
    let Some(served) = served else { return Ok(sha256) };
    let expected = common::sha256(served);
    let verdict = if expected == sha256 { "the same" } else { "DIFFERENT" };
    println!("served: {expected} ({} bytes): {verdict}", served.len());
    if status == StatusCode::OK && expected == sha256 && served.len() == body.len() {
        Ok(sha256)
    } else {
        Err(failure("the body that arrived is not the one that was served"))
    }
}
