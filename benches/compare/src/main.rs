//! usernet beside the kernel and a userspace rival, in one run:
//! `cargo run --release --manifest-path benches/compare/Cargo.toml` (`-- --help`, `-- --quick`).
//!
//! Two network namespaces are made, nothing of the host's network is touched:
//!
//! ```text
//!   namespace K: the peer (tokio::net), always the same program
//!     ├── TUN bench0 ── usernet, usernet without offload, or tokio-smoltcp; a process in K that holds the device
//!     └── veth ──────── namespace V: tokio::net
//! ```
//!
//! Every measurement starts two fresh processes, the peer and the subject, so that CPU and memory belong to somebody.
//! The kernel's sockets use CUBIC on both ends (`--congestion`). Measurements are interleaved: each round runs every
//! subject once per workload. Every byte count is verified, and the content by its position (see `agent::pattern`).
//!
//! This process ([`run`]) makes the namespaces ([`lab`]), starts the agents ([`agent`]), collects their figures and
//! reports them ([`report`]): a table, a TSV of every measurement, an SVG chart.

mod agent;
mod args;
mod lab;
mod plan;
mod report;
mod run;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let done = match &args.agent {
        Some(args::Command::Agent(job)) => agent::main(job),
        None => run::main(&args.options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}
