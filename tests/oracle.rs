//! `tests/scripts/*.pkt` against the Linux kernel: the oracle that says whether a script expects what Linux does.
//!
//! Plays the scripts listed in `tests/scripts/kernel.toml`, which says of each whether the kernel does the same ("equal") or
//! why not ("differs: …"); a change of either is a failure. With `USERNET_ORACLE_ALL=1` all are played and a table is
//! printed. The kernel's timers are real, so nearly all of the time is waiting: many cases run at once, each group in a
//! child process with its own network namespace and TUN. Without TUN everything is reported as ignored; with
//! `USERNET_REQUIRE_TUN=1` that is a failure.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, clippy::cast_sign_loss)]

mod oracle_kernel;
mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use oracle_kernel::KernelBackend;
use serde::Deserialize;
use support::script::parse::{self, Case, Step};
use support::script::run;

/// What a child is to do: `probe`, or `NAME FROM TO TRIES` for these cases of a script.
const JOB: &str = "USERNET_ORACLE_JOB";
/// Children at once. They sleep; two cores are enough for all of them.
const CHILDREN: usize = 24;
/// How much script time one child is given.
const SHARE: Duration = Duration::from_secs(2);
/// How often a case may be played until it goes as the script says: a timer is late on a busy machine.
const TRIES: usize = 3;

/// `tests/scripts/kernel.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// The release with which the verdicts were found. With another one a difference is reported, not a failure.
    kernel: String,
    scripts: BTreeMap<String, String>,
}

/// What came of a case or of a script.
#[derive(Clone, Debug)]
enum Verdict {
    Equal,
    Skipped(String),
    Differs(String),
}

fn main() -> ExitCode {
    if let Ok(job) = std::env::var(JOB) {
        return child(&job);
    }
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(CHILDREN);
    let listed: Listed = toml::from_str(&std::fs::read_to_string(folder().join("kernel.toml")).unwrap()).unwrap();
    let all = std::env::var_os("USERNET_ORACLE_ALL").is_some_and(|value| value == "1");
    let step = if args.list { None } else { oracle_kernel::enter().and_then(|()| probe()).err() };
    if let Some(step) = &step {
        eprintln!("oracle: the kernel cannot be asked: {step}");
    } else if all {
        return print_table(&args, &listed);
    }
    let required = std::env::var_os("USERNET_REQUIRE_TUN").is_some_and(|value| value == "1");
    let known = release().starts_with(&format!("{}.", listed.kernel));
    // The longest first: they bound the whole.
    let mut scripts: Vec<(String, String)> = listed.scripts.into_iter().collect();
    scripts.sort_by_cached_key(|(name, _)| std::cmp::Reverse(load(name).map_or(Duration::ZERO, |c| longest(&c))));
    let trials = scripts.into_iter().map(|(name, expected)| {
        let step = step.clone();
        let ignored = step.is_some() && !required;
        let play = {
            let name = name.clone();
            move || match step {
                Some(step) => Err(format!("USERNET_REQUIRE_TUN=1, but: {step}")),
                None => compare(&name, &expected, known),
            }
        };
        Trial::test(name, move || play().map_err(Failed::from)).with_ignored_flag(ignored)
    });
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

fn load(name: &str) -> Result<Vec<Case>, String> {
    parse::load(&folder().join(format!("{name}.pkt")))
}

/// How long the longest case waits.
fn longest(cases: &[Case]) -> Duration {
    cases.iter().map(|case| case.lines.iter().filter_map(|line| line.delay).sum()).max().unwrap_or_default()
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether the verdict on a script is the listed one.
fn compare(name: &str, expected: &str, known: bool) -> Result<(), String> {
    let verdict = match expected {
        // The second time in other namespaces: whatever was late in the first is not met again.
        "equal" => match play(name, TRIES) {
            Verdict::Differs(_) => play(name, TRIES),
            verdict => verdict,
        },
        // On a busy machine a delayed answer may look like one at once, too.
        _ => (0..TRIES).map(|_| play(name, 1)).find(|v| !matches!(v, Verdict::Equal)).unwrap_or(Verdict::Equal),
    };
    let result = match (verdict, expected == "equal") {
        (Verdict::Equal, true) | (Verdict::Differs(_), false) => Ok(()),
        (Verdict::Equal, false) => Err(format!("the kernel does what the script says; listed as: {expected}")),
        (Verdict::Skipped(reason), _) => Err(format!("cannot be played on the kernel: {reason}")),
        (Verdict::Differs(message), true) => Err(format!("the kernel does otherwise\n{message}")),
    };
    match result {
        Err(message) if !known => {
            eprintln!("{name}: not as listed, but this is kernel {}: {message}", release());
            Ok(())
        }
        result => result,
    }
}

fn print_table(args: &Arguments, listed: &Listed) -> ExitCode {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pkt"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| args.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())))
        .collect();
    names.sort();
    let table = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for chunk in names.chunks(names.len().div_ceil(CHILDREN).max(1)) {
            let table = &table;
            scope.spawn(move || {
                for name in chunk {
                    let verdict = play(name, TRIES);
                    table.lock().unwrap().insert(name.clone(), verdict);
                }
            });
        }
    });
    let mut counts = [0; 3];
    let mut stale = false;
    for (name, verdict) in table.into_inner().unwrap() {
        let (index, word, text) = match verdict {
            Verdict::Equal => (0, "equal", String::new()),
            Verdict::Differs(message) => (1, "differs", message),
            Verdict::Skipped(reason) => (2, "skipped", reason),
        };
        counts[index] += 1;
        let before = listed.scripts.get(&name).map_or("not listed", |text| text.split(':').next().unwrap_or_default());
        stale |= before != "not listed" && before != word;
        println!("{word:8} {before:11} {name} {text}");
    }
    println!("\nkernel {}: {} equal, {} differ, {} skipped", release(), counts[0], counts[1], counts[2]);
    ExitCode::from(u8::from(stale))
}

/// Plays a script in as many children as its time asks for.
fn play(name: &str, tries: usize) -> Verdict {
    let cases = match load(name) {
        Ok(cases) => cases,
        Err(message) => return Verdict::Differs(message),
    };
    let verdicts: Vec<Verdict> = thread::scope(|scope| {
        let jobs: Vec<_> = shares(&cases)
            .into_iter()
            .map(|(from, to)| scope.spawn(move || ask_child(&format!("{name} {from} {to} {tries}"))))
            .collect();
        jobs.into_iter().flat_map(|job| job.join().unwrap()).collect()
    });
    let different: Vec<&String> =
        verdicts.iter().filter_map(|v| if let Verdict::Differs(m) = v { Some(m) } else { None }).collect();
    if let Some(first) = different.first() {
        return Verdict::Differs(format!(
            "{} of {} cases differ; the first:\n{first}",
            different.len(),
            verdicts.len()
        ));
    }
    let skipped = verdicts.iter().find(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let any = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Equal));
    skipped.filter(|_| !any).cloned().unwrap_or(Verdict::Equal)
}

/// Ranges of cases; each is a child's share.
fn shares(cases: &[Case]) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let (mut from, mut time) = (0, Duration::ZERO);
    for (index, case) in cases.iter().enumerate() {
        // A path MTU that was learnt, and an MTU that was set, are the device's: they get their own.
        let alone = case.lines.iter().any(|line| match &line.step {
            Step::InjectIcmp(..) => true,
            Step::Config(key, _) => key == "mtu",
            _ => false,
        });
        time += case.lines.iter().filter_map(|line| line.delay).sum::<Duration>() + Duration::from_millis(20);
        if alone || time > SHARE || index + 1 == cases.len() {
            out.push((from, index + 1));
            (from, time) = (index + 1, Duration::ZERO);
        }
    }
    out
}

/// Bounds the number of children.
static FREE: (Mutex<usize>, Condvar) = (Mutex::new(CHILDREN), Condvar::new());

fn run_child(job: &str) -> Result<String, String> {
    let mut free = FREE.1.wait_while(FREE.0.lock().unwrap(), |free| *free == 0).unwrap();
    *free -= 1;
    drop(free);
    let output = std::env::current_exe().and_then(|program| Command::new(program).env(JOB, job).output());
    *FREE.0.lock().unwrap() += 1;
    FREE.1.notify_one();
    let output = output.map_err(|error| format!("starting a child: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{}{}", text, String::from_utf8_lossy(&output.stderr))) }
}

fn probe() -> Result<(), String> {
    run_child("probe").map(drop).map_err(|text| text.trim().to_string())
}

/// One verdict per case: a letter, a text without line ends.
fn ask_child(job: &str) -> Vec<Verdict> {
    let answer = match run_child(job) {
        Ok(answer) => answer,
        Err(message) => return vec![Verdict::Differs(format!("{job}: {message}"))],
    };
    let verdict = |line: &str| {
        let text = line.get(1..).unwrap_or_default().replace('\u{1}', "\n");
        match line.chars().next() {
            Some('=') => Verdict::Equal,
            Some('-') => Verdict::Skipped(text),
            _ => Verdict::Differs(text),
        }
    };
    answer.lines().map(verdict).collect()
}

fn child(job: &str) -> ExitCode {
    if let Err(step) = oracle_kernel::prepare() {
        eprintln!("{step}");
        return ExitCode::FAILURE;
    }
    let words: Vec<&str> = job.split_whitespace().collect();
    let [name, from, to, tries] = words.as_slice() else {
        return match usernet::device::tun::namespace::probe() {
            Ok(()) => ExitCode::SUCCESS,
            Err(step) => {
                eprintln!("{step}");
                ExitCode::FAILURE
            }
        };
    };
    let [from, to, tries] = [from, to, tries].map(|word| word.parse::<usize>().unwrap());
    let mut tun = None;
    for index in from..to {
        let mut verdict = Verdict::Equal;
        for attempt in 0..tries {
            // Every try has its own ports, and a second one its own device: the first may have taught it a path MTU.
            tun = if attempt == 0 { tun } else { None };
            let result = match tun.take().map_or_else(|| oracle_kernel::tun(&load(name).unwrap()[index]), Ok) {
                Ok(tun) => tun,
                Err(step) => {
                    eprintln!("{step}");
                    return ExitCode::FAILURE;
                }
            };
            verdict = play_case(&mut load(name).unwrap()[index], (index - from) * tries + attempt, tun.insert(result));
            if !matches!(verdict, Verdict::Differs(_)) {
                break;
            }
        }
        let (letter, text) = match verdict {
            Verdict::Equal => ('=', String::new()),
            Verdict::Skipped(text) => ('-', text),
            Verdict::Differs(text) => ('!', text),
        };
        println!("{letter}{}", text.replace('\n', "\u{1}"));
    }
    ExitCode::SUCCESS
}

fn play_case(case: &mut Case, index: usize, tun: &usernet::device::Tun) -> Verdict {
    if let Some(reason) = oracle_kernel::unplayable(case) {
        return Verdict::Skipped(reason);
    }
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut backend = KernelBackend::new(case, index, tun)?;
        run::run(case, &mut backend)
    }));
    match result {
        Ok(Ok(())) => Verdict::Equal,
        Ok(Err(message)) => Verdict::Differs(message),
        Err(_) => Verdict::Differs("the puppet panicked".into()),
    }
}
