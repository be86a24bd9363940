//! What is measured: subjects, workloads, and the rows of the table with the ratios that the project wants.

use clap::ValueEnum;

/// Whose TCP is measured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The kernel: tokio::net over a veth pair between two namespaces.
    TokioVeth,
    /// usernet over a TUN with offload.
    Usernet,
    /// usernet over a TUN without offload: one packet of at most 1500 bytes per system call.
    UsernetPlain,
    /// The same with threaded NAPI: a thread of the kernel processes what usernet sends.
    UsernetThreaded,
    /// tokio-smoltcp 0.7 over a TUN.
    Smoltcp,
    /// Two usernet stacks in one process over an in-memory link.
    UsernetPair,
}

impl Subject {
    pub fn title(self) -> &'static str {
        match self {
            Subject::TokioVeth => "tokio::net, veth",
            Subject::Usernet => "usernet, TUN",
            Subject::UsernetPlain => "usernet, TUN without offload",
            Subject::UsernetThreaded => "… and with threaded NAPI",
            Subject::Smoltcp => "tokio-smoltcp, TUN",
            Subject::UsernetPair => "usernet, pair()",
        }
    }

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Where usernet's reactor runs.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reactor {
    /// A task of the program's runtime: the default.
    Task,
    /// A thread of its own.
    Thread,
    /// A task that looks for packets for 50 µs before it waits.
    Busy,
    /// Both.
    BusyThread,
}

impl Reactor {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// One connection, the subject sends.
    BulkSend,
    /// One connection, the subject receives.
    BulkReceive,
    /// One byte there and back.
    PingPong,
    /// The same with both processes on one CPU.
    PingPongOneCpu,
    /// Connect, one byte there and back, close from both ends.
    Connect,
    /// The same with both processes on one CPU.
    ConnectOneCpu,
    /// 1,000 connections that echo 1 KiB messages.
    Echo,
    /// Opening connections that then do nothing; their memory.
    Idle,
    /// Bulk between two usernet stacks in one process on one CPU.
    Pair,
    /// Messages on random ones of very many connections between two usernet stacks in one process on one CPU.
    Many,
}

impl Workload {
    pub const CONNECTIONS_THAT_ECHO: u64 = 1_000;
    /// In [`Workload::Many`]; with all that belongs to both ends they take 2.5 GiB of memory.
    pub const VERY_MANY: u64 = 100_000;

    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn subjects(self) -> &'static [Subject] {
        match self {
            Workload::Pair | Workload::Many => &[Subject::UsernetPair],
            Workload::BulkSend | Workload::BulkReceive | Workload::PingPong | Workload::Connect => &COLUMNS,
            _ => &[Subject::TokioVeth, Subject::Usernet, Subject::UsernetPlain, Subject::Smoltcp],
        }
    }

    pub fn is_bulk(self) -> bool {
        matches!(self, Workload::BulkSend | Workload::BulkReceive | Workload::Pair)
    }

    /// Whether one process is both ends.
    pub fn is_alone(self) -> bool {
        matches!(self, Workload::Pair | Workload::Many)
    }

    /// Both ends on this CPU.
    pub fn cpu(self) -> Option<usize> {
        (self.is_alone() || matches!(self, Workload::PingPongOneCpu | Workload::ConnectOneCpu)).then_some(0)
    }
}

/// Which way is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    More,
    Less,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub workload: Workload,
    pub metric: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    pub better: Better,
    pub wanted: Wanted,
}

/// What the project wants of usernet.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    Nothing,
    /// The ratio to the kernel that it must reach, and the one that is the goal.
    Ratio(f64, f64),
    /// The figure itself.
    Figure(&'static str),
}

const fn row(workload: Workload, metric: &'static str, text: (&'static str, &'static str), better: Better) -> Row {
    Row { workload, metric, title: text.0, unit: text.1, better, wanted: Wanted::Nothing }
}

const fn wanted(row: Row, must: f64, goal: f64) -> Row {
    Row { wanted: Wanted::Ratio(must, goal), ..row }
}

const fn figure(row: Row, text: &'static str) -> Row {
    Row { wanted: Wanted::Figure(text), ..row }
}

/// The table.
pub const ROWS: &[Row] = &[
    wanted(row(Workload::BulkSend, "gbits", ("bulk, sending", "Gbit/s"), Better::More), 0.75, 1.0),
    wanted(row(Workload::BulkReceive, "gbits", ("bulk, receiving", "Gbit/s"), Better::More), 0.75, 1.0),
    wanted(row(Workload::BulkSend, "cpu", ("CPU sending, both ends", "s/GiB"), Better::Less), 1.5, 1.0),
    wanted(row(Workload::BulkReceive, "cpu", ("CPU receiving, both ends", "s/GiB"), Better::Less), 1.5, 1.0),
    row(Workload::PingPong, "p50", ("1-byte ping-pong, p50", "µs"), Better::Less),
    row(Workload::PingPong, "p99", ("1-byte ping-pong, p99", "µs"), Better::Less),
    wanted(row(Workload::PingPongOneCpu, "p50", ("… on one CPU, p50", "µs"), Better::Less), 1.0, 0.8),
    row(Workload::PingPongOneCpu, "p99", ("… on one CPU, p99", "µs"), Better::Less),
    row(Workload::Connect, "p50", ("connect + echo + close, p50", "µs"), Better::Less),
    wanted(row(Workload::ConnectOneCpu, "p50", ("… on one CPU, p50", "µs"), Better::Less), 0.9, 0.8),
    wanted(row(Workload::Echo, "rate", ("1,000 connections × 1 KiB echo", "k/s"), Better::More), 1.1, 1.5),
    wanted(row(Workload::Idle, "rate", ("opening 10,000 connections", "k/s"), Better::More), 1.0, 1.5),
    row(Workload::Idle, "kib", ("idle connection, memory of its end", "KiB"), Better::Less),
    figure(row(Workload::Pair, "gbits", ("bulk, both ends usernet, one CPU", "Gbit/s"), Better::More), "20, goal 40"),
    figure(row(Workload::Many, "ratio", ("message among 100,000 connections ÷ among 100", "×"), Better::Less), "1.5"),
    figure(
        row(Workload::Many, "ratio_idle", ("… on 100 of them, the others idle ÷ among 100", "×"), Better::Less),
        "1.5",
    ),
    figure(row(Workload::Many, "accepts", ("accepting 100,000 connections, one CPU", "k/s"), Better::More), "30"),
];

/// The columns of the table.
pub const COLUMNS: [Subject; 5] =
    [Subject::TokioVeth, Subject::Usernet, Subject::UsernetPlain, Subject::UsernetThreaded, Subject::Smoltcp];

/// What ratios refer to.
pub const BASE: Subject = Subject::TokioVeth;
