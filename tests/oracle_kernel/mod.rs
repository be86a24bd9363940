//! Scripts on the Linux kernel: the puppet owns a TUN in a private network namespace, the user has real sockets.
//!
//! [`KernelBackend`] plays one case. The kernel answers a packet within the write that brings it (a TUN has no queue of
//! its own on the way in), so "at once" means the same as under the virtual clock; only timers take real time.

mod facts;
mod settings;
mod user;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use usernet::device::Tun;

use crate::support::host::address;
use crate::support::script::backend::{Backend, Exactness, NOT_ASKED, Output};
use crate::support::script::parse::{Case, Step};
pub use settings::{enter, prepare, unplayable};
use user::{User, name};

/// Ports of the first case; each further one has its own, so that nothing of an earlier case is mistaken for this one's.
const LISTEN_PORT: u16 = 20_000;
const CONNECT_PORT: u16 = 40_000;
const PEER_PORT: u16 = 8_080;
/// Flows of a case, and so the distance of its ports from the next case's.
const FLOWS: u16 = 64;

/// See the module.
pub struct KernelBackend<'a> {
    tun: &'a Tun,
    start: Instant,
    v6: bool,
    case: u16,
    options: Vec<(String, String)>,
    listening: Option<OwnedFd>,
    users: BTreeMap<usize, User>,
    connected: BTreeMap<usize, u16>,
    queue: Vec<Output>,
    /// The script's time: the last event, and what `+T` added.
    clock: Instant,
}

/// The device of a case: the addresses the scripts speak of.
pub fn tun(case: &Case) -> Result<Tun, String> {
    let mtu = settings::mtu(case)?;
    // One packet, one segment, every checksum complete: what the puppet reads is what would be on a wire.
    let mut builder = Tun::builder().kernel_address(address(false, 1), 24).mtu(mtu).offload(false);
    if mtu >= 1280 {
        builder = builder.kernel_address(address(true, 1), 64);
    }
    builder.build().map_err(|error| error.to_string())
}

impl<'a> KernelBackend<'a> {
    /// The kernel as the configuration lines of `case` ask for (they are removed); `index` tells cases on one device
    /// apart.
    pub fn new(case: &mut Case, index: usize, tun: &'a Tun) -> Result<KernelBackend<'a>, String> {
        let mut v6 = false;
        let mut options = Vec::new();
        settings::baseline()?;
        for line in &case.lines {
            match &line.step {
                Step::Config(key, value) if key == "ip" => v6 = value == "6",
                Step::Config(key, value) => match key.strip_prefix("sockopt ") {
                    Some(option) => options.push((option.to_string(), value.clone())),
                    None => settings::configure(key, value)?,
                },
                _ => {}
            }
        }
        case.lines.retain(|line| !matches!(&line.step, Step::Config(key, _) if key != "irs"));
        let case = u16::try_from(index).map_err(|_| "too many cases")?;
        let mut backend = KernelBackend {
            tun,
            start: Instant::now(),
            v6,
            case,
            options,
            listening: None,
            users: BTreeMap::new(),
            connected: BTreeMap::new(),
            queue: Vec::new(),
            clock: Instant::now(),
        };
        backend.read();
        backend.queue.clear();
        Ok(backend)
    }

    fn listen_port(&self) -> u16 {
        LISTEN_PORT + self.case
    }

    fn connect_port(&self, flow: usize) -> u16 {
        CONNECT_PORT + FLOWS * self.case + flow as u16 - 1
    }

    fn socket(&self) -> Result<OwnedFd, String> {
        let family = if self.v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd =
            rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(|e| format!("socket: {e}"))?;
        // A port of a case that was tried before may be in TIME-WAIT.
        rustix::net::sockopt::set_socket_reuseaddr(&fd, true).map_err(|e| e.to_string())?;
        // RFC 6093 §6: urgent bytes in line; usernet knows no other way.
        rustix::net::sockopt::set_socket_oobinline(&fd, true).map_err(|e| e.to_string())?;
        for (name, value) in &self.options {
            user::set_option(&fd, self.v6, name, value)?;
        }
        Ok(fd)
    }

    fn listen(&mut self, backlog: &str) -> Result<String, String> {
        let backlog = backlog.parse().map_err(|_| "a backlog is a number")?;
        let fd = self.socket()?;
        let at = SocketAddr::new(address(self.v6, 1), self.listen_port());
        let result = rustix::net::bind(&fd, &at).and_then(|()| rustix::net::listen(&fd, backlog));
        self.listening = Some(fd);
        Ok(result.map_or_else(name, |()| "ok".into()))
    }

    fn connect(&mut self, flow: usize) -> Result<String, String> {
        let fd = self.socket()?;
        let local = SocketAddr::new(address(self.v6, 1), self.connect_port(flow));
        rustix::net::bind(&fd, &local).map_err(|e| format!("bind: {e}"))?;
        let result = rustix::net::connect(&fd, &self.peer(flow));
        self.connected.insert(flow, local.port());
        self.users.insert(flow, User::new(fd, self.v6));
        Ok(match result {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => "ok".into(),
            Err(error) => name(error),
        })
    }

    fn accept(&mut self, flow: usize) -> Result<String, String> {
        let listening = self.listening.as_ref().ok_or("nobody listens")?;
        Ok(match rustix::net::accept_with(listening, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => {
                self.users.insert(flow, User::new(fd, self.v6));
                "ok".into()
            }
            Err(error) => name(error),
        })
    }

    fn user_mut(&mut self, flow: usize) -> Result<&mut User, String> {
        self.users.get_mut(&flow).ok_or_else(|| format!("no user holds flow {flow}"))
    }

    /// Takes every packet that is there.
    fn read(&mut self) {
        let mut buffer = vec![0; 70_000];
        while let Ok(len) = rustix::io::read(self.tun.as_fd(), &mut buffer[..]) {
            let at_micros = self.now_micros();
            let bytes = buffer[..len].to_vec();
            if self.concerns_us(&bytes) {
                self.queue.push(Output { at_micros, bytes });
            }
        }
    }

    /// TCP of this case's ports and ICMP; not the kernel's neighbour discovery and multicast reports, nor what an
    /// earlier case still sends.
    fn concerns_us(&self, packet: &[u8]) -> bool {
        let (protocol, body) = match packet[0] >> 4 {
            4 => (packet[9], &packet[4 * usize::from(packet[0] & 15)..]),
            _ => (packet[6], &packet[40..]),
        };
        match protocol {
            6 => {
                let from = u16::from_be_bytes([body[0], body[1]]);
                let first = self.connect_port(1);
                from == self.listen_port() || (first..first + FLOWS).contains(&from)
            }
            58 => matches!(body[0], 1..=4 | 128 | 129),
            other => other == 1,
        }
    }

    /// Waits for a packet, at most until `deadline`.
    fn wait_until(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(self.tun, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0) > 0;
        self.read();
        ready || Instant::now() < deadline
    }
}

impl Backend for KernelBackend<'_> {
    fn inject(&mut self, packet: &[u8]) {
        // Linux acknowledges at once while a connection is young and after each delayed ACK; that is its choice
        // (RFC 9293 leaves it), so it is told each time that this is an interactive session.
        self.users.values_mut().for_each(User::delay_acks);
        // A packet that is no IP packet is refused by the driver: lost, as on a wire.
        let _ = rustix::io::write(self.tun.as_fd(), packet);
        self.clock = Instant::now();
        self.read();
    }

    fn collect(&mut self) -> Vec<Output> {
        self.read();
        std::mem::take(&mut self.queue)
    }

    fn advance(&mut self, by: Duration) {
        self.clock += by;
        while self.wait_until(self.clock) {}
    }

    fn clock_micros(&self) -> u64 {
        self.clock.duration_since(self.start).as_micros() as u64
    }

    fn now_micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The kernel knows no turns: calls and packets are taken one by one.
    fn hold(&mut self) {}

    fn release(&mut self) {}

    fn user(&mut self, flow: usize, op: &[&str]) -> Result<String, String> {
        let count = |text: &str| text.parse::<usize>().map_err(|_| format!("not a count: `{text}`"));
        self.clock = Instant::now();
        Ok(match op {
            ["listen"] => self.listen("128")?,
            ["listen", backlog] => self.listen(backlog)?,
            ["unlisten"] => {
                self.listening = None;
                "ok".into()
            }
            ["connect"] => self.connect(flow)?,
            ["accept"] => self.accept(flow)?,
            ["write", n] => self.user_mut(flow)?.write(count(n)?),
            ["read"] => self.user_mut(flow)?.read(1 << 20, false)?,
            ["read", n] => self.user_mut(flow)?.read(count(n)?, false)?,
            ["peek", n] => self.user_mut(flow)?.read(count(n)?, true)?,
            ["shutdown"] => self.user_mut(flow)?.shutdown(),
            ["abort"] => {
                self.user_mut(flow)?.set_option("linger", "0")?;
                self.users.remove(&flow);
                "ok".into()
            }
            ["drop"] => self.users.remove(&flow).map(|_| "ok".to_string()).ok_or("no user holds it")?,
            ["error"] => self.user_mut(flow)?.error()?,
            ["setopt", name, value] => self.user_mut(flow)?.set_option(name, value)?,
            other => return Err(format!("unknown operation {other:?}")),
        })
    }

    fn inspect(&mut self, flow: usize, what: &[&str]) -> Result<String, String> {
        let ours = |local: u16, peer: u16| {
            let first = PEER_PORT + FLOWS * self.case;
            (local == self.listen_port() || (first..first + FLOWS).contains(&peer)) && peer != 0
        };
        Ok(match what {
            ["state"] => match self.users.get(&flow).and_then(User::state) {
                Some(state) => state.into(),
                None => facts::state(self.local(flow).port(), self.peer(flow).port())?.into(),
            },
            ["count", phase @ ("live" | "half_open" | "time_wait")] => facts::count(phase, ours)?.to_string(),
            ["info", field] => self.user_mut(flow)?.info(field)?,
            // Counters, memory and readiness are usernet's own.
            _ => NOT_ASKED.into(),
        })
    }

    fn local(&self, flow: usize) -> SocketAddr {
        let port = self.connected.get(&flow).copied().unwrap_or(self.listen_port());
        SocketAddr::new(address(self.v6, 1), port)
    }

    fn peer(&self, flow: usize) -> SocketAddr {
        SocketAddr::new(address(self.v6, 2), PEER_PORT + FLOWS * self.case + flow as u16 - 1)
    }

    fn exactness(&self) -> Exactness {
        Exactness::Oracle
    }

    fn wait(&mut self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        while self.queue.is_empty() && self.wait_until(deadline) {}
        let came = self.queue.first().map(|first| self.start + Duration::from_micros(first.at_micros));
        self.clock = came.map_or(self.clock, |came| came.max(self.clock));
    }
}

impl Drop for KernelBackend<'_> {
    /// Leaves nothing behind that would send again.
    fn drop(&mut self) {
        for user in self.users.values_mut() {
            let _ = user.set_option("linger", "0");
        }
    }
}
