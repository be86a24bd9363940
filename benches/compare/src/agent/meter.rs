//! Clocks and memory of this process.

use std::fs;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::Figures;

fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds of the clock that all processes of this machine share.
pub fn now() -> f64 {
    seconds(clock_gettime(ClockId::Monotonic))
}

/// Seconds of CPU of this process, in user mode and in the kernel. What the kernel does for it in a softirq is charged to
/// whoever runs at that moment: mostly the sender, or the peer.
pub fn cpu() -> f64 {
    seconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// Resident KiB of this process, exact.
pub fn resident_kib() -> io::Result<f64> {
    field("/proc/self/smaps_rollup", "Rss:")
}

/// KiB of the kernel's slab: sockets are there.
pub fn slab_kib() -> io::Result<f64> {
    field("/proc/meminfo", "Slab:")
}

/// Segments that the kernel's TCP of this network namespace has sent again.
pub fn kernel_retransmits() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap_or_default(), tcp.next().unwrap_or_default());
    let both = names.split_whitespace().zip(values.split_whitespace());
    let value = both.filter(|(name, _)| *name == "RetransSegs").find_map(|(_, value)| value.parse().ok());
    value.ok_or_else(|| io::Error::other("no RetransSegs in /proc/net/snmp"))
}

fn field(path: &str, name: &str) -> io::Result<f64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no {name} in {path}")))
}

/// Durations of many equal operations.
pub struct Times(Histogram<u64>);

impl Times {
    pub fn new() -> io::Result<Times> {
        // One nanosecond to a minute, three digits.
        Histogram::new_with_bounds(1, 60_000_000_000, 3).map(Times).map_err(io::Error::other)
    }

    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn figures(&self) -> Figures {
        let micros = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        vec![
            ("p50", micros(0.5)),
            ("p99", micros(0.99)),
            ("mean", self.0.mean() / 1e3),
            ("max", self.0.max() as f64 / 1e3),
            ("count", self.0.len() as f64),
        ]
    }
}
