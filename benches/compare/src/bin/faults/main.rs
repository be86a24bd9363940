//! usernet beside the kernel on a bad line, in one run:
//! `cargo run --release --manifest-path benches/compare/Cargo.toml --bin faults` (`-- --help`).
//!
//! One connection moves some bytes over a line that loses, delays, reorders, duplicates or queues; the same line for all
//! subjects, made of usernet's own `Fault`, seeded. Reno on the kernel's sockets, so that the same congestion control is
//! compared, and a large receive buffer; everything else of the kernel is as it comes. Every seed meets other packets in every subject, so single runs say
//! little: the table shows all bytes over all seconds. Each transfer is a process of its own ([`transfer`]) in a network namespace
//! of its own; nothing of the host's network is touched. Every byte is compared.

#[path = "../../agent/pattern.rs"]
#[allow(dead_code, reason = "shared with the other program, which samples")]
mod pattern;
mod plan;
mod transfer;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use plan::{CASES, Case, Subject};

/// Goodput on bad lines: the kernel's TCP with itself, usernet sending to it, usernet receiving from it.
#[derive(Parser)]
struct Args {
    /// Runs per case and subject.
    #[arg(long, default_value_t = 7)]
    seeds: u64,
    /// Only cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Where faults.tsv and faults.md go.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/results"))]
    out: PathBuf,
    /// One transfer: case, subject, seed. Prints its seconds.
    #[arg(long, hide = true, num_args = 3)]
    transfer: Option<Vec<String>>,
}

type Found = BTreeMap<(usize, Subject), Vec<f64>>;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.transfer.as_deref() {
        Some([case, subject, seed]) => one(case, subject, seed),
        _ => all(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The child's part.
fn one(case: &str, subject: &str, seed: &str) -> io::Result<()> {
    let wrong = || io::Error::other("--transfer CASE SUBJECT SEED");
    let case = CASES.iter().find(|known| known.name == case).ok_or_else(wrong)?;
    let subject = Subject::ALL.into_iter().find(|known| known.title() == subject).ok_or_else(wrong)?;
    let seed = seed.parse().map_err(|_| wrong())?;
    println!("{}", transfer::run(case, subject, seed)?.as_secs_f64());
    Ok(())
}

fn all(args: &Args) -> io::Result<()> {
    std::fs::create_dir_all(&args.out)?;
    let wanted = |case: &Case| args.only.as_ref().is_none_or(|only| case.name.contains(only.as_str()));
    let cases: Vec<(usize, &Case)> = CASES.iter().enumerate().filter(|(_, case)| wanted(case)).collect();
    let bar = ProgressBar::new(args.seeds * cases.len() as u64 * Subject::ALL.len() as u64);
    let style = "{bar:40} {pos}/{len}  {elapsed_precise} (about {eta} left)  {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(io::Error::other)?);
    let mut found = Found::new();
    let mut tsv = String::from("seed\tcase\tsubject\tmbit_s\n");
    for seed in 1..=args.seeds {
        for &(number, case) in &cases {
            for subject in Subject::ALL {
                bar.set_message(format!("{}: {}", case.name, subject.title()));
                let mbits = measure(case, subject, seed)?;
                let _ = writeln!(tsv, "{seed}\t{}\t{}\t{mbits:.3}", case.name, subject.title());
                found.entry((number, subject)).or_default().push(mbits);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let table = table(&cases, &mut found);
    println!("{table}");
    std::fs::write(args.out.join("faults.tsv"), tsv)?;
    std::fs::write(args.out.join("faults.md"), table)
}

/// Mbit/s of one transfer in a process of its own.
fn measure(case: &Case, subject: Subject, seed: u64) -> io::Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--transfer", case.name, subject.title(), &seed.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds: f64 = text.trim().parse().map_err(|_| {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        io::Error::other(format!("{}, {}, seed {seed}: {error}", case.name, subject.title()))
    })?;
    Ok(case.bytes as f64 * 8e-6 / seconds)
}

fn table(cases: &[(usize, &Case)], found: &mut Found) -> String {
    let mut out = String::from("| line | kernel, Mbit/s | usernet sends | usernet receives |\n|---|---|---|---|\n");
    for &(number, case) in cases {
        // All bytes over all seconds: of medians and means, lucky runs without an early loss would make lotteries.
        let mut goodput = |subject| {
            let values = found.entry((number, subject)).or_default();
            values.len() as f64 / values.iter().map(|mbits| mbits.recip()).sum::<f64>()
        };
        let kernel = goodput(Subject::Kernel);
        let mut cell = |subject| {
            let value = goodput(subject);
            format!("{value:.1} ({:.2}×)", value / kernel)
        };
        let (sends, receives) = (cell(Subject::Sends), cell(Subject::Receives));
        let _ = writeln!(out, "| {} | {kernel:.1} | {sends} | {receives} |", case.name);
    }
    out
}
