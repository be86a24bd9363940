//! The namespace's sysctls: which script settings have one, and what Linux does beyond the RFCs of usernet, switched off.

use std::fs;
use std::io;
use std::time::Duration;

use usernet::device::tun::namespace;

use crate::support::script::parse::{Case, Step};

/// A case that takes longer is not played.
const LONGEST: Duration = Duration::from_secs(14);

/// The sysctls of every case, relative to `/proc/sys/net/`.
const BASELINE: &[(&str, &str)] = &[
    // Same algorithms: Reno without F-RTO, D-SACK, delayed SACKs, memory of earlier connections.
    ("ipv4/tcp_congestion_control", "reno"),
    ("ipv4/tcp_no_metrics_save", "1"),
    ("ipv4/tcp_frto", "0"),
    ("ipv4/tcp_dsack", "0"),
    ("ipv4/tcp_comp_sack_nr", "0"),
    ("ipv4/tcp_ecn", "0"),
    ("ipv4/tcp_autocorking", "0"),
    ("ipv4/tcp_syncookies", "0"),
    ("ipv4/tcp_syn_linear_timeouts", "0"),
    // The floor of usernet (RFC 1122: 576 must be accepted).
    ("ipv4/route/min_pmtu", "576"),
    // RFC 1337: Linux offers it, usernet always does it.
    ("ipv4/tcp_rfc1337", "1"),
    // What a script may change.
    ("ipv4/tcp_timestamps", "1"),
    ("ipv4/tcp_sack", "1"),
    // On in usernet; scripts that are about it ask the kernel for it.
    ("ipv4/tcp_early_retrans", "0"),
    ("ipv4/tcp_window_scaling", "1"),
    ("ipv4/tcp_syn_retries", "6"),
    ("ipv4/tcp_synack_retries", "5"),
    ("ipv4/tcp_retries2", "15"),
    ("ipv4/tcp_orphan_retries", "0"),
    ("ipv4/tcp_max_syn_backlog", "4096"),
    ("ipv4/tcp_max_tw_buckets", "4096"),
    ("ipv4/tcp_rto_max_ms", "120000"),
    ("ipv4/tcp_rto_min_us", "200000"),
];

/// Before the device exists: its IPv6 address is to be usable at once.
const DEVICE: &[(&str, &str)] =
    &[("ipv6/conf/default/accept_dad", "0"), ("ipv6/conf/all/accept_dad", "0"), ("ipv4/conf/all/rp_filter", "0")];

/// The parent's part: a namespace whose children have a small connection table. `/proc/net/tcp` walks the whole table,
/// and that of the host is large. To be called in plain `main`. On failure: which step.
pub fn enter() -> Result<(), String> {
    namespace::enter_private().map_err(|error| error.to_string())?;
    write("ipv4/tcp_child_ehash_entries", "64")
}

/// A child's part: its own namespace, and what every case needs. To be called in plain `main`. On failure: which step.
pub fn prepare() -> Result<(), String> {
    namespace::enter_private().map_err(|error| error.to_string())?;
    DEVICE.iter().chain(BASELINE).try_for_each(|(file, value)| write(file, value))
}

pub fn baseline() -> Result<(), String> {
    BASELINE.iter().try_for_each(|(file, value)| write(file, value))
}

/// A sysctl that this kernel does not have is left alone.
fn write(file: &str, value: &str) -> Result<(), String> {
    match fs::write(format!("/proc/sys/net/{file}"), value) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("writing {value} to {file}: {error}")),
        _ => Ok(()),
    }
}

/// A `config` line as a sysctl.
pub fn configure(key: &str, value: &str) -> Result<(), String> {
    let switch = || if value == "on" || value == "1" { "1" } else { "0" };
    let seconds = || value.parse::<f64>().map_err(|_| format!("not a time: `{value}`"));
    match key {
        "timestamps" => write("ipv4/tcp_timestamps", switch()),
        "sack" => write("ipv4/tcp_sack", switch()),
        "tail_loss_probe" => write("ipv4/tcp_early_retrans", if switch() == "1" { "3" } else { "0" }),
        "window_scaling" => write("ipv4/tcp_window_scaling", switch()),
        "rto_max" => write("ipv4/tcp_rto_max_ms", &(seconds()? * 1e3).to_string()),
        "rto_min" => write("ipv4/tcp_rto_min_us", &(seconds()? * 1e6).to_string()),
        "syn_retries" => write("ipv4/tcp_syn_retries", value),
        "synack_retries" => write("ipv4/tcp_synack_retries", value),
        "retries" => write("ipv4/tcp_retries2", value),
        "orphan_retries" => write("ipv4/tcp_orphan_retries", value),
        "max_syn_backlog" => write("ipv4/tcp_max_syn_backlog", value),
        "max_time_wait" => write("ipv4/tcp_max_tw_buckets", value),
        _ => Ok(()),
    }
}

pub fn mtu(case: &Case) -> Result<usize, String> {
    let set = case.lines.iter().find_map(|line| match &line.step {
        Step::Config(key, value) if key == "mtu" => Some(value),
        _ => None,
    });
    set.map_or(Ok(1500), |value| value.parse().map_err(|_| format!("not an MTU: `{value}`")))
}

/// Why the kernel cannot play this case.
pub fn unplayable(case: &Case) -> Option<String> {
    let time: Duration = case.lines.iter().filter_map(|line| line.delay).sum();
    if time > LONGEST {
        return Some(format!("takes {} s of real time", time.as_secs()));
    }
    case.lines.iter().find_map(|line| match &line.step {
        Step::Config(key, value) => no_counterpart(key, value),
        Step::User(words, _) => match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["setopt", name, value] => no_counterpart(&format!("sockopt {name}"), value),
            _ => None,
        },
        _ => None,
    })
}

fn no_counterpart(key: &str, value: &str) -> Option<String> {
    let reason = match key {
        "sockopt recv_buffer" | "sockopt send_buffer" => "Linux counts its overhead in a socket's buffers",
        "sockopt linger" if value != "0" && value != "off" => "with a linger time Linux's close waits",
        "tso" => "the size of a segment under way is not seen on a TUN without offload",
        "rto_initial" | "initial_window" | "delayed_ack" | "memory_budget" | "rst_per_second" | "max_orphans"
        | "max_half_open" | "max_connections" | "max_reserved" => "no sysctl of a namespace",
        _ => return None,
    };
    Some(format!("{key}: {reason}"))
}
