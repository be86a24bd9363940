//! Starts the agents of one measurement after the other and collects what they found out. Owns the order of things; knows
//! no socket.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::agent;
use crate::args::Options;
use crate::lab::{self, Lab};
use crate::plan::{Subject, Workload};
use crate::report::{self, Machine, Sample};

/// Bytes after the timed ones, each compared.
const TAIL: u64 = 32 << 20;
/// Bytes of the first, untimed transfer, from which the size of the others follows.
const PROBE: u64 = 64 << 20;
const LONGEST: u64 = 64 << 30;
/// What an agent may take beyond its own limit.
const GRACE: Duration = Duration::from_secs(10);
/// Files an agent opens besides its connections.
const OTHER_FILES: u64 = 64;

type Found = BTreeMap<String, f64>;

pub fn main(options: &Options) -> io::Result<()> {
    std::fs::create_dir_all(&options.out)?;
    let files = agent::raise_open_files()?;
    let idle = options.idle.min(files.saturating_sub(OTHER_FILES));
    if idle < options.idle {
        eprintln!("compare: the limit of open files (ulimit -Hn) is {files}: only {idle} idle connections");
    }
    let lab = Lab::build()?;
    let machine = Machine::here(options);
    let mut run = Run { options, idle, lab, rates: BTreeMap::new() };
    let samples = run.all()?;
    report::write(&machine, &samples, &options.out)
}

struct Run<'a> {
    options: &'a Options,
    idle: u64,
    lab: Lab,
    /// Bytes per second of the last bulk transfer.
    rates: BTreeMap<(Workload, Subject), f64>,
}

impl Run<'_> {
    fn all(&mut self) -> io::Result<Vec<Sample>> {
        let cases = self.cases();
        let rounds = self.options.rounds();
        let bar = ProgressBar::new(u64::from(rounds) * cases.len() as u64);
        let style = "{bar:40} {pos}/{len}  {elapsed_precise} (about {eta} left)  {msg}";
        bar.set_style(ProgressStyle::with_template(style).map_err(io::Error::other)?);
        let shown = io::stderr().is_terminal();
        let mut samples = Vec::new();
        for round in 0..rounds {
            for (number, &(workload, subject)) in cases.iter().enumerate() {
                bar.set_message(format!("{}: {}", workload.name(), subject.title()));
                bar.tick();
                match self.measure(workload, subject) {
                    Ok(found) => samples.extend(Sample::of(round, workload, subject, found)),
                    // The others go on; the table shows a gap.
                    Err(error) => {
                        bar.suspend(|| eprintln!("compare: {} of {}: {error}", workload.name(), subject.title()));
                    }
                }
                bar.inc(1);
                if !shown && number + 1 == cases.len() {
                    eprintln!("compare: round {} of {rounds} done", round + 1);
                }
            }
        }
        bar.finish_and_clear();
        Ok(samples)
    }

    fn cases(&self) -> Vec<(Workload, Subject)> {
        let chosen = |workload: &Workload| self.options.only.is_empty() || self.options.only.contains(workload);
        let wanted = |subject: &Subject| self.options.subject.is_empty() || self.options.subject.contains(subject);
        let workloads = Workload::value_variants().iter().copied().filter(|workload| chosen(workload));
        let with_subjects = workloads.flat_map(|workload| workload.subjects().iter().map(move |one| (workload, *one)));
        with_subjects.filter(|(_, subject)| wanted(subject)).collect()
    }

    fn measure(&mut self, workload: Workload, subject: Subject) -> io::Result<Found> {
        if !workload.is_bulk() {
            return self.once(workload, subject, 0);
        }
        let seconds = self.options.duration().as_secs_f64();
        let key = (workload, subject);
        if !self.rates.contains_key(&key) {
            let probe = self.once(workload, subject, PROBE)?;
            self.rates.insert(key, rate(&probe));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rough positive number")]
        let bytes = (self.rates[&key] * seconds) as u64;
        let found = self.once(workload, subject, bytes.clamp(PROBE, LONGEST))?;
        self.rates.insert(key, rate(&found));
        Ok(found)
    }

    /// One measurement: the peer, then the subject.
    fn once(&self, workload: Workload, subject: Subject, bytes: u64) -> io::Result<Found> {
        let flows = if workload.is_alone() { 1 } else { self.options.flows };
        let bytes = bytes - bytes % flows;
        let mut common = vec!["--workload".to_owned(), workload.name(), "--subject".to_owned(), subject.name()];
        let mut say = |name: &str, value: String| common.extend([format!("--{name}"), value]);
        say("congestion", self.options.congestion.clone());
        say("threads", self.options.threads.to_string());
        say("reactor", self.options.reactor.name());
        say("bytes", bytes.to_string());
        say("flows", flows.to_string());
        say("tail", TAIL.to_string());
        say("millis", self.options.duration().as_millis().to_string());
        let count = match workload {
            Workload::Echo => Workload::CONNECTIONS_THAT_ECHO,
            Workload::Many => Workload::VERY_MANY,
            _ => self.idle,
        };
        say("count", count.to_string());
        if let Some(packets) = self.options.tun_queue {
            say("tun-queue", packets.to_string());
        }
        if let Some(cpu) = workload.cpu() {
            say("cpu", cpu.to_string());
        }
        if workload.is_alone() {
            return derived((workload, subject), bytes, Found::new(), Agent::start("subject", &common, &[])?.finish()?);
        }
        let peer = Agent::start("peer", &common, &[])?;
        let port = peer.answer("ready")?.trim().parse().map_err(io::Error::other)?;
        let mut extra = Vec::new();
        let ip = if subject == Subject::TokioVeth {
            extra.extend(["--namespace-of".to_owned(), self.lab.namespace().to_string()]);
            Lab::over_veth()
        } else {
            lab::TUN_KERNEL.into()
        };
        extra.extend(["--connect".to_owned(), SocketAddr::new(ip, port).to_string()]);
        let found = Agent::start("subject", &common, &extra)?.finish()?;
        derived((workload, subject), bytes, peer.finish()?, found)
    }
}

fn rate(found: &Found) -> f64 {
    found.get("gbits").copied().unwrap_or_default() * 1e9 / 8.0
}

/// What only both ends together know.
fn derived((workload, whose): (Workload, Subject), bytes: u64, peer: Found, subject: Found) -> io::Result<Found> {
    let cpu = [&peer, &subject].iter().filter_map(|found| found.get("cpu")).sum::<f64>();
    let cpu_of_subject = subject.get("cpu").copied().unwrap_or_default();
    let mut found = peer;
    found.extend(subject);
    let stamp = |found: &Found, name: &str| {
        found.get(name).copied().ok_or_else(|| io::Error::other(format!("an agent said no {name}")))
    };
    if workload.is_bulk() {
        let took = stamp(&found, "ended")? - stamp(&found, "began")?;
        let gib = bytes as f64 / f64::from(1 << 30);
        let gbits = bytes as f64 * 8.0 / took / 1e9;
        found.extend([("gbits", gbits), ("cpu", cpu / gib)].map(|(name, value)| (name.to_owned(), value)));
        found.insert("cpu_subject".to_owned(), cpu_of_subject / gib);
        found.insert("gib".to_owned(), gib);
        if whose == Subject::UsernetThreaded {
            // Of three threads that worked, one is the kernel's.
            found.remove("cpu");
            found.remove("cpu_subject");
        }
    }
    if workload == Workload::Idle {
        let took = stamp(&found, "accepted")?.max(stamp(&found, "opened")?) - stamp(&found, "began")?;
        let count = stamp(&found, "count")?;
        found.insert("rate".to_owned(), count / took / 1e3);
    }
    for name in ["began", "ended", "opened", "accepted"] {
        found.remove(name);
    }
    Ok(found)
}

/// A child of this process; killed when dropped.
struct Agent {
    role: &'static str,
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Agent {
    fn start(role: &'static str, common: &[String], extra: &[String]) -> io::Result<Agent> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["agent", "--role", role])
            .args(common)
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Agent { role, child, orders, lines })
    }

    /// The rest of the next line, which begins with `word`.
    fn answer(&self, word: &str) -> io::Result<String> {
        let failed = || io::Error::other(format!("the {} failed or hung (its error is above)", self.role));
        let line = self.lines.recv_timeout(agent::LIMIT + GRACE).map_err(|_| failed())?;
        line.strip_prefix(word).map(str::to_owned).ok_or_else(failed)
    }

    /// Tells it that there are no more orders, and waits for what it found out.
    fn finish(mut self) -> io::Result<Found> {
        self.orders = None;
        let line = self.answer("done")?;
        let pair =
            |word: &str| word.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        let found = line.split_whitespace().filter_map(pair).collect();
        self.child.wait()?;
        Ok(found)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _status = self.child.wait();
    }
}
