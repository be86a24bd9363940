//! The lines and the subjects.

use std::time::Duration;

use usernet::device::{BurstLoss, FaultConfig, RateLimit};

/// Who moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The kernel to itself.
    Kernel,
    /// usernet to the kernel.
    Sends,
    /// The kernel to usernet.
    Receives,
}

impl Subject {
    pub const ALL: [Subject; 3] = [Subject::Kernel, Subject::Sends, Subject::Receives];

    pub const fn title(self) -> &'static str {
        match self {
            Subject::Kernel => "kernel",
            Subject::Sends => "usernet sends",
            Subject::Receives => "usernet receives",
        }
    }
}

/// A line, the same in both directions, and how much crosses it.
pub struct Case {
    pub name: &'static str,
    pub bytes: u64,
    /// Milliseconds one way.
    delay: u64,
    loss: f64,
    /// Probability that a burst of losses begins; it lasts four packets on average.
    burst: f64,
    /// Probability that a packet is overtaken by 5 ms.
    reorder: f64,
    duplicate: f64,
    /// Mbit/s; none is unlimited. The queue holds 100,000 bytes.
    rate: Option<u64>,
}

const PLAIN: Case =
    Case { name: "", bytes: 8 << 20, delay: 10, loss: 0.0, burst: 0.0, reorder: 0.0, duplicate: 0.0, rate: None };

pub const CASES: &[Case] = &[
    Case { name: "20 ms", ..PLAIN },
    Case { name: "20 ms, loss 0.1 %", loss: 0.001, ..PLAIN },
    Case { name: "20 ms, loss 1 %", loss: 0.01, bytes: 2 << 20, ..PLAIN },
    Case { name: "20 ms, loss 3 %", loss: 0.03, bytes: 1 << 20, ..PLAIN },
    Case { name: "20 ms, loss 10 %", loss: 0.1, bytes: 256 << 10, ..PLAIN },
    Case { name: "20 ms, bursts of loss", burst: 0.002, bytes: 2 << 20, ..PLAIN },
    Case { name: "20 ms, 5 % are 5 ms late", reorder: 0.05, ..PLAIN },
    Case { name: "20 ms, 5 % come twice", duplicate: 0.05, ..PLAIN },
    Case { name: "20 ms, 50 Mbit/s, short queue", rate: Some(50), ..PLAIN },
    Case { name: "2 ms, loss 1 %", delay: 1, loss: 0.01, ..PLAIN },
    Case { name: "100 ms, loss 1 %", delay: 50, loss: 0.01, bytes: 1 << 20, ..PLAIN },
];

impl Case {
    pub fn faults(&self) -> FaultConfig {
        FaultConfig {
            loss: self.loss,
            burst: (self.burst > 0.0).then_some(BurstLoss { enter: self.burst, leave: 0.25, loss: 1.0 }),
            delay: Duration::from_millis(self.delay),
            reorder: self.reorder,
            reorder_by: Duration::from_millis(5),
            duplicate: self.duplicate,
            rate: self.rate.map(|mbits| RateLimit { bytes_per_second: mbits * 125_000, queue_bytes: 100_000 }),
            ..FaultConfig::default()
        }
    }
}
