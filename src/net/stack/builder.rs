//! [`StackBuilder`]: every check happens before anything is created.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::handle::Stack;
use crate::config::StackConfig;
use crate::device::Device;
use crate::error::ConnError;
use crate::net::options::{check_buffer, check_keepalive, check_mss, check_ttl, invalid};
use crate::reactor::{Runs, Setup, start};

/// Smallest IPv4 MTU (RFC 791 §3.2).
const MIN_MTU: usize = 68;
/// Smallest IPv6 MTU (RFC 8200 §5).
const MIN_MTU_V6: usize = 1_280;
/// An IP packet's length field has 16 bits.
const MAX_MTU: usize = 65_535;

/// The secret of a stack: initial sequence numbers, ports, hash seeds derive from it. Fixed only in tests.
#[derive(Clone, Copy)]
pub struct Seed([u8; 32]);

impl From<[u8; 32]> for Seed {
    fn from(key: [u8; 32]) -> Seed {
        Seed(key)
    }
}

impl From<u64> for Seed {
    fn from(seed: u64) -> Seed {
        let mut key = [0; 32];
        for (place, byte) in key.iter_mut().zip(seed.to_le_bytes()) {
            *place = byte;
        }
        Seed(key)
    }
}

impl fmt::Debug for Seed {
    /// Shows nothing: it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Builds a [`Stack`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use std::net::Ipv4Addr;
/// use usernet::Stack;
///
/// let (left, right) = usernet::device::pair(1500);
/// let a = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 1), 24).device(left).build()?;
/// let b = Stack::builder().address(Ipv4Addr::new(10, 0, 0, 2), 24).device(right).build()?;
/// let listener = b.bind("10.0.0.2:80").await?;
/// let stream = a.connect("10.0.0.2:80").await?;
/// assert_eq!(stream.local_addr()?.ip(), Ipv4Addr::new(10, 0, 0, 1));
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder builds nothing before `build`"]
pub struct StackBuilder {
    config: StackConfig,
    mtu: Option<usize>,
    seed: Option<Seed>,
    device: Option<Box<dyn Device>>,
    runs: Runs,
    busy_poll: Duration,
}

impl StackBuilder {
    pub(super) fn new() -> StackBuilder {
        StackBuilder {
            config: StackConfig::default(),
            mtu: None,
            seed: None,
            device: None,
            runs: Runs::Task,
            busy_poll: Duration::ZERO,
        }
    }

    /// Adds an address of the stack with the prefix length of its network, in bits. At least one is needed.
    pub fn address(mut self, ip: impl Into<IpAddr>, prefix: u8) -> StackBuilder {
        self.config.addresses.push((ip.into(), prefix));
        self
    }

    /// Sets the largest IP packet in bytes: 68 to 65,535, at least 1,280 with an IPv6 address. Default: the device's.
    pub fn mtu(mut self, bytes: usize) -> StackBuilder {
        self.mtu = Some(bytes);
        self
    }

    /// Sets the device. Without one the stack reaches only its own addresses.
    pub fn device(mut self, device: impl Device + 'static) -> StackBuilder {
        self.device = Some(Box::new(device));
        self
    }

    /// Limits the bytes resident in buffers. Default: 1 GiB.
    ///
    /// An idle connection takes none of it. Receive windows beyond 64 KiB can take three eighths of it together. When those
    /// and received bytes that nobody has read take half, new connections of peers have to wait; when they take three
    /// quarters, more are dropped, for the peer to send again, and `connect` fails with `OutOfMemory`. Writers can take
    /// three quarters too, then they wait.
    pub fn memory_budget(mut self, bytes: u64) -> StackBuilder {
        self.config.memory_budget = bytes;
        self
    }

    /// Limits the address space of buffers, in bytes. Default: 4 TiB. What a connection reserves is rounded up to pages, from
    /// 2 MiB on to whole multiples of 2 MiB: 6 MiB with the default sizes.
    pub fn max_reserved(mut self, bytes: u64) -> StackBuilder {
        self.config.max_reserved = bytes;
        self
    }

    /// Fixes the stack's secret: a 32-byte key, or a number in tests. Default: drawn from the operating system.
    pub fn seed(mut self, seed: impl Into<Seed>) -> StackBuilder {
        self.seed = Some(seed.into());
        self
    }

    /// Runs the reactor on a thread of its own, with a runtime of its own, instead of as a task of the current runtime.
    ///
    /// A task that blocks the user's runtime then no longer stops TCP, and copying overlaps with the device's system
    /// calls; each request and its answer cross threads, which costs latency. Default: a task. Refused where the
    /// clock is paused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = usernet::Stack::builder().address(std::net::Ipv4Addr::new(10, 0, 0, 1), 24).dedicated_thread().build()?;
    /// stack.shutdown(std::time::Duration::ZERO).await?; // the thread ends with the reactor
    /// # Ok(())
    /// # }
    /// ```
    pub fn dedicated_thread(mut self) -> StackBuilder {
        self.runs = Runs::Thread;
        self
    }

    /// Lets the reactor look for packets by itself for so long after the last one, instead of waiting to be woken: lower
    /// latency for a busy core. Default: zero, off. Refused where the clock is paused.
    ///
    /// ```
    /// let builder = usernet::Stack::builder().busy_poll(std::time::Duration::from_micros(50));
    /// ```
    pub fn busy_poll(mut self, window: Duration) -> StackBuilder {
        self.busy_poll = window;
        self
    }

    /// Changes any other setting. The MTU is set by [`mtu`](StackBuilder::mtu) only.
    ///
    /// ```
    /// let builder = usernet::Stack::builder().configure(|config| {
    ///     config.max_connections = 1_000;
    ///     config.socket.nodelay = true;
    /// });
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut StackConfig)) -> StackBuilder {
        change(&mut self.config);
        self
    }

    /// Builds the stack and spawns its reactor on the current tokio runtime, unless it gets a
    /// [thread of its own](StackBuilder::dedicated_thread).
    ///
    /// The runtime needs a time driver (`enable_time`). tokio offers no question for that, only a panic, which is caught
    /// here: in that case the process's panic hook prints one message beside the error.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, before anything is created: no address, one given twice, one that no host may have, a prefix too
    /// long, an MTU out of bounds or above the device's, an empty port range, defaults of
    /// sockets that their setters would refuse, a retransmission timeout of zero. `Unsupported`: no tokio runtime on this
    /// thread, or one without a time driver; a dedicated thread or busy polling where the clock is paused. What the operating system says when it has no randomness.
    pub fn build(self) -> io::Result<Stack> {
        self.build_with(Box::new(|| {}))
    }

    /// As [`build`](StackBuilder::build); `on_end` runs when the reactor is gone.
    pub(super) fn build_with(mut self, on_end: Box<dyn FnOnce() + Send>) -> io::Result<Stack> {
        check_addresses(&self.config)?;
        check_settings(&self.config)?;
        self.config.mtu = self.checked_mtu()?;
        self.config.embedded = self.device.is_none();
        let key = match self.seed {
            Some(Seed(key)) => key,
            None => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                key
            }
        };
        let StackBuilder { config, device, runs, busy_poll, .. } = self;
        start(Setup { config, key, device, runs, busy_poll, on_end }).map(Stack::new)
    }

    fn checked_mtu(&self) -> io::Result<usize> {
        let device = self.device.as_ref().map(|device| device.capabilities().mtu);
        let mtu = self.mtu.or(device).unwrap_or(MAX_MTU);
        let has_v6 = self.config.addresses.iter().any(|(ip, _)| ip.is_ipv6());
        if !(MIN_MTU..=MAX_MTU).contains(&mtu) {
            return Err(invalid("an MTU lies between 68 and 65,535 bytes"));
        }
        if has_v6 && mtu < MIN_MTU_V6 {
            return Err(invalid("the MTU of a stack with an IPv6 address is at least 1,280 bytes (RFC 8200)"));
        }
        if device.is_some_and(|device| mtu > device) {
            return Err(invalid("the MTU is larger than the device's"));
        }
        Ok(mtu)
    }
}

fn check_addresses(config: &StackConfig) -> io::Result<()> {
    if config.addresses.is_empty() {
        return Err(invalid("a stack needs at least one address"));
    }
    for (n, (ip, prefix)) in config.addresses.iter().enumerate() {
        if *prefix > if ip.is_ipv4() { 32 } else { 128 } {
            return Err(invalid("a prefix length is at most 32 (IPv4) or 128 (IPv6) bits"));
        }
        if ip.is_unspecified() || ip.is_multicast() || ip.to_canonical() != *ip {
            return Err(invalid("an address of a stack is a unicast address"));
        }
        if config.addresses.iter().take(n).any(|(other, _)| other == ip) {
            return Err(io::Error::new(ConnError::InvalidInput.kind(), format!("the address {ip} is given twice")));
        }
    }
    Ok(())
}

/// What a socket's setters would refuse is no default either; and a timer that is due at once would never let go.
fn check_settings(config: &StackConfig) -> io::Result<()> {
    let socket = &config.socket;
    check_ttl(u32::from(socket.ttl))?;
    check_buffer(socket.send_buffer)?;
    check_buffer(socket.recv_buffer)?;
    check_keepalive(socket.keepalive_params)?;
    socket.mss.map(check_mss).transpose()?;
    if socket.user_timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(invalid("a user timeout is greater than zero"));
    }
    if config.rto_min.is_zero() || config.rto_initial.is_zero() || config.rto_min > config.rto_max {
        return Err(invalid("retransmission timeouts are greater than zero, and rto_min is at most rto_max"));
    }
    Ok(())
}

impl fmt::Debug for StackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackBuilder")
            .field("config", &self.config)
            .field("mtu", &self.mtu)
            .field("device", &self.device.as_ref().map(|device| device.name()))
            .finish_non_exhaustive()
    }
}
