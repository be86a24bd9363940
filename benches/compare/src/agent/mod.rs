//! One end of one measurement, in a process of its own. Takes its orders from the command line ([`Job`]), says
//! `ready PORT` and `done NAME=VALUE …` on standard output, works until done or, as a server of many connections, until
//! standard input is closed.

mod bulk;
mod connect;
mod echo;
mod idle;
mod many;
mod meter;
mod net;
mod pattern;
mod pingpong;
mod smoltcp;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::{CpuSet, LinkNameSpaceType};
use tokio::net::{TcpListener, TcpStream};
use usernet::device::tun::link;

use crate::args::{Job, Role};
use crate::lab;
use crate::plan::{Subject, Workload};
use bulk::{Does, Transfer};
use net::{Net, Usernet};

/// What an agent found out.
pub type Figures = Vec<(&'static str, f64)>;

/// Nothing here takes this long unless it hangs.
pub const LIMIT: Duration = Duration::from_secs(90);

pub fn main(job: &Job) -> io::Result<()> {
    // Nothing outlives the program, however it ends.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if job.role == Role::Holder {
        return lab::hold();
    }
    raise_open_files()?;
    if let Some(process) = job.namespace_of {
        let file = File::open(format!("/proc/{process}/ns/net"))?;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    if let Some(cpu) = job.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let mut builder = match job.threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(job.threads.max(1)).enable_all().build()?;
    let figures = runtime.block_on(async {
        let work = async {
            match job.role {
                Role::Peer => {
                    let before = meter::kernel_retransmits()?;
                    let mut figures = serve(job).await?;
                    // A full queue of the TUN shows here.
                    figures.push(("peer_retransmits", meter::kernel_retransmits()? - before));
                    Ok(figures)
                }
                _ => measure(job).await,
            }
        };
        tokio::time::timeout(LIMIT, work).await.map_err(|_| io::Error::other("it hangs"))?
    })?;
    let text: Vec<String> = figures.iter().map(|(name, value)| format!("{}={value}", name.replace(' ', "_"))).collect();
    println!("done {}", text.join(" "));
    Ok(())
}

/// Files this process may open: the hard limit, which is what is left of it.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The peer: `tokio::net` in namespace K.
async fn serve(job: &Job) -> io::Result<Figures> {
    let listener = net::kernel_listener(&job.congestion)?;
    println!("ready {}", listener.local_addr()?.port());
    let one = async |listener: &TcpListener| io::Result::Ok(listener.accept().await?.0);
    match job.workload {
        Workload::BulkSend => bulk::flows(several(&listener, job).await?, Transfer::of(job), Does::Receive).await,
        Workload::BulkReceive => bulk::flows(several(&listener, job).await?, Transfer::of(job), Does::Send).await,
        Workload::PingPong | Workload::PingPongOneCpu => in_a_task(pingpong::serve(one(&listener).await?)).await,
        Workload::Connect | Workload::ConnectOneCpu => until_done(connect::serve(&listener)).await,
        Workload::Echo => until_done(echo::serve(&listener)).await,
        Workload::Idle => idle::serve(&listener, job.count, orders_end()).await,
        Workload::Pair | Workload::Many => Err(io::Error::other("a pair has no peer")),
    }
}

/// As a server would; tokio wakes the future of `block_on` at a higher price.
async fn in_a_task(work: impl Future<Output = io::Result<Figures>> + Send + 'static) -> io::Result<Figures> {
    tokio::spawn(work).await.map_err(io::Error::other)?
}

async fn several(listener: &TcpListener, job: &Job) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..job.flows {
        streams.push(listener.accept().await?.0);
    }
    Ok(streams)
}

/// Works until standard input is closed.
async fn until_done(work: impl Future<Output = io::Result<()>>) -> io::Result<Figures> {
    tokio::select! {
        result = work => result?,
        () = orders_end() => {}
    }
    Ok(Figures::new())
}

async fn orders_end() {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Ended or broken, both mean that nobody is there any more.
        let _end = io::stdin().read_to_end(&mut Vec::new());
        let _nobody_asks = tell.send(());
    });
    let _told = told.await;
}

/// The subject.
async fn measure(job: &Job) -> io::Result<Figures> {
    match job.subject {
        Subject::TokioVeth => against_peer(job, &net::Kernel { congestion: job.congestion.clone() }).await,
        Subject::Usernet | Subject::UsernetPlain | Subject::UsernetThreaded => over_usernet(job).await,
        Subject::Smoltcp => against_peer(job, &smoltcp::Smoltcp::over_tun(job.workload)?).await,
        Subject::UsernetPair if job.workload == Workload::Many => {
            many::measure(job.count, Duration::from_millis(job.millis)).await
        }
        Subject::UsernetPair => bulk::pair(Transfer::of(job)).await,
    }
}

async fn over_usernet(job: &Job) -> io::Result<Figures> {
    let net = Usernet::over_tun(job.subject, job.reactor)?;
    let mut figures = against_peer(job, &net).await?;
    figures.extend(net.counters());
    net.end().await?;
    Ok(figures)
}

async fn against_peer<N: Net>(job: &Job, net: &N) -> io::Result<Figures> {
    let peer: SocketAddr = job.connect.ok_or_else(|| io::Error::other("no --connect"))?;
    let time = Duration::from_millis(job.millis);
    if let Some(packets) = job.tun_queue.filter(|_| !net.is_kernel()) {
        link::set_tx_queue_len(lab::TUN, packets)?;
    }
    match job.workload {
        Workload::BulkSend => bulk::flows(echo::open(net, peer, job.flows).await?, Transfer::of(job), Does::Send).await,
        Workload::BulkReceive => {
            bulk::flows(echo::open(net, peer, job.flows).await?, Transfer::of(job), Does::Receive).await
        }
        Workload::PingPong | Workload::PingPongOneCpu => {
            in_a_task(pingpong::measure(net.connect(peer).await?, time)).await
        }
        Workload::Connect | Workload::ConnectOneCpu => in_a_task(connect::measure(net.clone(), peer, time)).await,
        Workload::Echo => echo::measure(net, peer, job.count, time).await,
        Workload::Idle => idle::measure(net, peer, job.count).await,
        Workload::Pair | Workload::Many => Err(io::Error::other("a pair has no peer")),
    }
}
