//! What comes out: a table for people, a TSV of every figure, an SVG chart.

mod chart;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::args::Options;
use crate::plan::{Reactor, Row, Subject, Workload};

/// One figure of one measurement.
pub struct Sample {
    round: u32,
    workload: Workload,
    subject: Subject,
    metric: String,
    value: f64,
}

impl Sample {
    pub fn of(
        round: u32,
        workload: Workload,
        subject: Subject,
        found: BTreeMap<String, f64>,
    ) -> impl Iterator<Item = Sample> {
        found.into_iter().map(move |(metric, value)| Sample { round, workload, subject, metric, value })
    }
}

/// Median of a row for a subject; `None` without a measurement.
fn median(samples: &[Sample], row: &Row, subject: Subject) -> Option<f64> {
    let matches =
        |sample: &&Sample| sample.workload == row.workload && sample.metric == row.metric && sample.subject == subject;
    let mut values: Vec<f64> = samples.iter().filter(matches).map(|sample| sample.value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Where and how the figures were made.
pub struct Machine(String);

impl Machine {
    pub fn here(options: &Options) -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let model = model.map_or("unknown CPU", |(_, model)| model.trim());
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = read("/proc/sys/kernel/osrelease");
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let day = date.split('T').next().unwrap_or_default();
        let (rounds, seconds) = (options.rounds(), options.duration().as_secs_f64());
        let noisy = if options.quick { " Quick run: noisy." } else { "" };
        let runtime = match options.threads {
            0 => "current-thread runtimes".to_owned(),
            count => format!("runtimes with {count} workers"),
        };
        let reactor = match options.reactor {
            Reactor::Task => String::new(),
            other => format!(", reactor: {}", other.name()),
        };
        let flows = if options.flows > 1 { format!(", bulk over {} flows", options.flows) } else { String::new() };
        let queue = options.tun_queue.map_or_else(String::new, |packets| format!(", TUN queue of {packets} packets"));
        Machine(format!(
            "{day}, {model}, {cores} cores, Linux {}; MTU 1500, {}{queue}{flows}, {runtime}{reactor}; medians of {rounds} round(s) of {seconds} s.{noisy}",
            kernel.trim(),
            options.congestion
        ))
    }
}

pub fn write(machine: &Machine, samples: &[Sample], out: &Path) -> io::Result<()> {
    let table = table::markdown(machine, samples);
    fs::write(out.join("table.md"), &table)?;
    fs::write(out.join("results.tsv"), tsv(machine, samples))?;
    chart::draw(machine, samples, &out.join("chart.svg"))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{table}")?;
    writeln!(stdout, "In {}: table.md, results.tsv (every figure of every round), chart.svg", out.display())
}

fn tsv(machine: &Machine, samples: &[Sample]) -> String {
    let mut text = format!("# {}\nround\tworkload\tsubject\tmetric\tvalue\n", machine.0);
    for sample in samples {
        let (workload, subject) = (sample.workload.name(), sample.subject.name());
        text += &format!("{}\t{workload}\t{subject}\t{}\t{}\n", sample.round + 1, sample.metric, sample.value);
    }
    text
}
