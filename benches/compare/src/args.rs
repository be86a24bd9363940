//! The command line: what a person may ask for, and what this program tells its own agents.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::plan::{Reactor, Subject, Workload};

/// Compares usernet over a TUN with the kernel's TCP over a veth pair and with tokio-smoltcp over a TUN, in one run.
///
/// Root is not needed where user namespaces are allowed. Takes about seven minutes, one with --quick; ends by itself.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub agent: Option<Command>,
}

#[derive(clap::Args)]
pub struct Options {
    /// One short round: shows that everything works; its figures are noisy.
    #[arg(long)]
    pub quick: bool,
    /// Only this workload (may be given several times).
    #[arg(long, value_name = "WORKLOAD", value_enum)]
    pub only: Vec<Workload>,
    /// Only this subject (may be given several times); ratios need tokio-veth.
    #[arg(long, value_name = "SUBJECT", value_enum)]
    pub subject: Vec<Subject>,
    /// Rounds; the table shows medians over them [default: 5, with --quick 1].
    #[arg(long, value_name = "N")]
    pub runs: Option<u32>,
    /// Seconds of one measurement [default: 2, with --quick 0.3].
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Where results.tsv, table.md and chart.svg are written.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/results"))]
    pub out: PathBuf,
    /// Congestion control of all kernel sockets.
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    pub congestion: String,
    /// Packets that the TUN's queue holds, for all subjects with a TUN [default: 10000].
    #[arg(long, value_name = "N")]
    pub tun_queue: Option<u32>,
    /// Worker threads of each process' runtime; 0: a current-thread runtime.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where usernet's reactor runs.
    #[arg(long, value_name = "WHERE", value_enum, default_value = "task")]
    pub reactor: Reactor,
    /// Connections that share a bulk transfer.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub flows: u64,
    /// Connections of the idle workload (bounded by the limit of open files).
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub idle: u64,
}

impl Options {
    pub fn rounds(&self) -> u32 {
        self.runs.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    pub fn duration(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.3 } else { 2.0 });
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(2)).max(Duration::from_millis(50))
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// One end of one measurement; started by this program only.
    #[command(hide = true)]
    Agent(Job),
}

/// What an agent does.
#[derive(clap::Args, Clone, Debug)]
pub struct Job {
    #[arg(long, value_enum)]
    pub role: Role,
    #[arg(long, value_enum, default_value = "bulk-send")]
    pub workload: Workload,
    #[arg(long, value_enum, default_value = "tokio-veth")]
    pub subject: Subject,
    /// Where the subject connects to.
    #[arg(long)]
    pub connect: Option<SocketAddr>,
    /// Process in whose network namespace to work.
    #[arg(long)]
    pub namespace_of: Option<u32>,
    #[arg(long)]
    pub cpu: Option<usize>,
    #[arg(long, default_value = "cubic")]
    pub congestion: String,
    #[arg(long)]
    pub tun_queue: Option<u32>,
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    #[arg(long, value_enum, default_value = "task")]
    pub reactor: Reactor,
    /// Bytes of a bulk transfer that are timed, and bytes after it that are compared one by one.
    #[arg(long, default_value_t = 0)]
    pub bytes: u64,
    #[arg(long, default_value_t = 0)]
    pub tail: u64,
    /// Milliseconds of a measurement that ends by time.
    #[arg(long, default_value_t = 0)]
    pub millis: u64,
    #[arg(long, default_value_t = 1)]
    pub flows: u64,
    /// Connections.
    #[arg(long, default_value_t = 0)]
    pub count: u64,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Keeps the second namespace alive.
    Holder,
    /// The end in the kernel of the first namespace.
    Peer,
    /// The end that is measured.
    Subject,
}
