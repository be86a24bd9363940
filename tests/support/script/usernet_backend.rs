//! Scripts on usernet's engine, without a runtime.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use super::backend::{Backend, Output};
use super::parse::{Case, Step};
use super::run::{PUPPET, USER};
use crate::support::host::{Host, address};
use crate::support::pattern;
use usernet::config::{SocketOptions, StackConfig};
use usernet::error::ConnError;
use usernet::internals::pipe::{State, TryError, UserEnd};
use usernet::internals::stack::Listening;
use usernet::internals::wire::{FourTuple, Offload, Seq};
use usernet::stats::DropReason;

const LISTEN_PORT: u16 = 80;
const CONNECT_PORT: u16 = 40_000;
const PEER_PORT: u16 = 8_080;

/// One end of a connection that a user holds, and how far its streams are.
struct User {
    end: UserEnd,
    written: u64,
    read: u64,
}

/// See the module.
pub struct UsernetBackend {
    host: Host,
    v6: bool,
    options: SocketOptions,
    listening: Option<Listening>,
    users: BTreeMap<usize, User>,
    connected: BTreeMap<usize, u16>,
    held: bool,
}

impl UsernetBackend {
    /// An engine as the configuration lines of `case` (those before its first other step) ask for; they are removed.
    pub fn new(case: &mut Case) -> Result<UsernetBackend, String> {
        let mut config = StackConfig { addresses: Vec::new(), ..StackConfig::default() };
        let (mut v6, mut iss, mut large) = (false, None, None);
        let mut rest = Vec::new();
        for line in std::mem::take(&mut case.lines) {
            match &line.step {
                Step::Config(key, value) if key != "irs" => {
                    let applied = match key.as_str() {
                        "ip" => {
                            v6 = value == "6";
                            Ok(())
                        }
                        "iss" => value.parse().map(|n: u32| iss = Some(n)).map_err(|_| "`iss` needs a number".into()),
                        "tso" => value.parse().map(|n: usize| large = Some(n)).map_err(|_| "`tso BYTES`".into()),
                        key => configure(&mut config, key, value),
                    };
                    applied.map_err(|message: String| format!("{}: {message}", line.at))?;
                }
                _ => rest.push(line),
            }
        }
        case.lines = rest;
        config.addresses = vec![(address(v6, 1), if v6 { 64 } else { 24 })];
        let (options, mtu) = (config.socket, config.mtu);
        let mut host = Host::new(config, 1);
        host.set_path(mtu, large);
        if let Some(iss) = iss {
            host.force_isn(Seq::new(iss));
        }
        Ok(UsernetBackend {
            host,
            v6,
            options,
            listening: None,
            users: BTreeMap::new(),
            connected: BTreeMap::new(),
            held: false,
        })
    }

    fn turn(&mut self) {
        if !self.held {
            self.host.turn();
        }
    }

    fn user_mut(&mut self, flow: usize) -> Result<&mut User, String> {
        self.users.get_mut(&flow).ok_or_else(|| format!("no user holds flow {flow}"))
    }

    fn listen(&mut self, backlog: &str) -> Result<String, String> {
        let backlog = backlog.parse().map_err(|_| "a backlog is a number")?;
        let at = SocketAddr::new(address(self.v6, 1), LISTEN_PORT);
        Ok(match self.host.listen(at, self.options, backlog) {
            Ok(listening) => {
                self.listening = Some(listening);
                "ok".into()
            }
            Err(error) => name(error).into(),
        })
    }

    fn connect(&mut self, flow: usize) -> String {
        let port = CONNECT_PORT + flow as u16 - 1;
        let local = SocketAddr::new(address(self.v6, 1), port);
        let peer = self.peer(flow);
        match self.host.connect(Some(local), peer, self.options) {
            Ok((end, _)) => {
                self.connected.insert(flow, port);
                self.users.insert(flow, User { end, written: 0, read: 0 });
                "ok".into()
            }
            Err(error) => name(error).into(),
        }
    }

    fn accept(&mut self, flow: usize) -> Result<String, String> {
        let listening = self.listening.as_ref().ok_or("nobody listens")?;
        Ok(match listening.queue.try_pop() {
            Ok(Some((end, _))) => {
                self.users.insert(flow, User { end, written: 0, read: 0 });
                "ok".into()
            }
            Ok(None) => "WOULDBLOCK".into(),
            Err(error) => name(error).into(),
        })
    }

    fn state(&mut self, flow: usize) -> String {
        let tuple = FourTuple { local: self.local(flow), remote: self.peer(flow) };
        state_name(self.host.state(&tuple)).into()
    }

    fn info(&mut self, flow: usize, field: &str) -> Result<String, String> {
        let user = self.user_mut(flow)?;
        let (info, send, recv) = user.end.info();
        Ok(match field {
            "cwnd" => info.cwnd.to_string(),
            "ssthresh" => info.ssthresh.to_string(),
            "mss" => info.mss.to_string(),
            "snd_wnd" => info.snd_wnd.to_string(),
            "rcv_wnd" => info.rcv_wnd.to_string(),
            "rto" => info.rto.as_secs_f64().to_string(),
            "srtt" => info.srtt.map_or("none".into(), |srtt| srtt.as_secs_f64().to_string()),
            "timestamps" => info.timestamps.to_string(),
            "sack" => info.sack.to_string(),
            "ws" => info.window_scale.map_or("none".into(), |(peer, ours)| format!("{peer}/{ours}")),
            "retransmits" => info.retransmits.to_string(),
            "send_fill" => send.fill.to_string(),
            "recv_fill" => recv.fill.to_string(),
            other => return Err(format!("unknown field `{other}`")),
        })
    }

    fn set_option(&mut self, flow: usize, name: &str, value: &str) -> Result<String, String> {
        let mut options = self.user_mut(flow)?.end.options();
        set_socket_option(&mut options, name, value)?;
        self.user_mut(flow)?.end.set_options(|slot| *slot = options);
        Ok("ok".into())
    }
}

impl User {
    fn write(&mut self, count: usize) -> String {
        let bytes = pattern::bytes(USER, self.written, count);
        let result = self.end.try_write(&[IoSlice::new(&bytes)]);
        if let Ok(n) = result {
            self.written += n as u64;
        }
        answer(result, false)
    }

    fn read(&mut self, want: usize, peek: bool) -> Result<String, String> {
        let mut got = Vec::new();
        let mut sink = |bytes: &[u8]| got.extend_from_slice(bytes);
        let result =
            if peek { self.end.try_peek_with(want, &mut sink) } else { self.end.try_read_with(want, &mut sink) };
        if let Some(at) = pattern::first_difference(PUPPET, self.read, &got) {
            return Err(format!("the user read a wrong byte at {at}"));
        }
        if let (Ok(n), false) = (&result, peek) {
            self.read += *n as u64;
        }
        Ok(answer(result, true))
    }
}

fn answer(result: Result<usize, TryError>, read: bool) -> String {
    match result {
        Ok(0) if read => "EOF".into(),
        Ok(n) => n.to_string(),
        Err(TryError::WouldBlock) => "WOULDBLOCK".into(),
        Err(TryError::Failed(error)) => name(error).into(),
    }
}

impl Backend for UsernetBackend {
    fn inject(&mut self, packet: &[u8]) {
        self.host.receive(packet, Offload::default());
        self.turn();
    }

    fn collect(&mut self) -> Vec<Output> {
        let sent = std::mem::take(&mut self.host.sent);
        sent.into_iter().map(|sent| Output { at_micros: sent.at.as_micros(), bytes: sent.bytes }).collect()
    }

    fn advance(&mut self, by: Duration) {
        self.host.advance(by);
    }

    fn now_micros(&self) -> u64 {
        self.host.now.as_micros()
    }

    fn hold(&mut self) {
        self.held = true;
    }

    fn release(&mut self) {
        self.held = false;
        self.turn();
    }

    fn user(&mut self, flow: usize, op: &[&str]) -> Result<String, String> {
        let count = |text: &str| text.parse::<usize>().map_err(|_| format!("not a count: `{text}`"));
        let answer = match op {
            ["listen"] => self.listen("128")?,
            ["listen", backlog] => self.listen(backlog)?,
            ["unlisten"] => {
                self.listening = None;
                "ok".into()
            }
            ["connect"] => self.connect(flow),
            ["accept"] => self.accept(flow)?,
            ["write", n] => self.user_mut(flow)?.write(count(n)?),
            ["read"] => self.user_mut(flow)?.read(1 << 20, false)?,
            ["read", n] => self.user_mut(flow)?.read(count(n)?, false)?,
            ["peek", n] => self.user_mut(flow)?.read(count(n)?, true)?,
            ["shutdown"] => {
                self.user_mut(flow)?.end.shutdown_write();
                "ok".into()
            }
            ["abort"] => {
                self.user_mut(flow)?.end.abort();
                "ok".into()
            }
            ["drop"] => self.users.remove(&flow).map(|_| "ok".to_string()).ok_or("no user holds it")?,
            ["error"] => self.user_mut(flow)?.end.take_error().map_or("none", name).into(),
            ["setopt", name, value] => self.set_option(flow, name, value)?,
            other => return Err(format!("unknown operation {other:?}")),
        };
        self.turn();
        Ok(answer)
    }

    fn inspect(&mut self, flow: usize, what: &[&str]) -> Result<String, String> {
        let engine = &self.host.engine;
        Ok(match what {
            ["state"] => self.state(flow),
            ["info", field] => self.info(flow, field)?,
            ["count", "live"] => engine.live().to_string(),
            ["count", "half_open"] => engine.half_open().to_string(),
            ["count", "time_wait"] => engine.time_wait().to_string(),
            ["count", "orphans"] => engine.orphans().to_string(),
            ["count", "used"] => self.host.shared.budget.used().to_string(),
            ["ready"] => {
                format!("{:?}", self.user_mut(flow)?.end.readiness().event(usernet::internals::pipe::Ready::ALL).ready)
            }
            ["stat", name] => statistic(&self.host.shared.stats(), name)?.to_string(),
            other => return Err(format!("unknown check {other:?}")),
        })
    }

    fn local(&self, flow: usize) -> SocketAddr {
        SocketAddr::new(address(self.v6, 1), self.connected.get(&flow).copied().unwrap_or(LISTEN_PORT))
    }

    fn peer(&self, flow: usize) -> SocketAddr {
        SocketAddr::new(address(self.v6, 2), PEER_PORT + flow as u16 - 1)
    }
}

fn statistic(stats: &usernet::stats::Stats, name: &str) -> Result<u64, String> {
    let reason = DropReason::ALL.iter().find(|reason| format!("{reason:?}") == name);
    Ok(match (reason, name) {
        (Some(reason), _) => stats.dropped(*reason),
        (None, "retransmits") => stats.retransmits,
        (None, "timeouts") => stats.timeouts,
        (None, "tail_probes") => stats.tail_probes,
        (None, "resets_out") => stats.resets_out,
        (None, "resets_in") => stats.resets_in,
        (None, "challenge_acks") => stats.challenge_acks,
        (None, "active_opens") => stats.active_opens,
        (None, "passive_opens") => stats.passive_opens,
        _ => return Err(format!("unknown counter `{name}`")),
    })
}

fn name(error: ConnError) -> &'static str {
    match error {
        ConnError::Refused => "ECONNREFUSED",
        ConnError::Reset => "ECONNRESET",
        ConnError::BrokenPipe => "EPIPE",
        ConnError::TimedOut => "ETIMEDOUT",
        ConnError::HostUnreachable => "EHOSTUNREACH",
        ConnError::NetworkUnreachable | ConnError::EmbeddedOnly => "ENETUNREACH",
        ConnError::NetworkDown => "ENETDOWN",
        ConnError::AddrInUse => "EADDRINUSE",
        ConnError::AddrNotAvailable | ConnError::TupleInUse | ConnError::PortsExhausted => "EADDRNOTAVAIL",
        ConnError::InvalidInput => "EINVAL",
        ConnError::Aborted => "ECONNABORTED",
        _ => "ENOMEM",
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Closed => "CLOSED",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECEIVED",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
    }
}

fn parse<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("not a value: `{value}`"))
}

fn seconds(value: &str) -> Result<Duration, String> {
    parse::<f64>(value).map(Duration::from_secs_f64)
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" | "1" => Ok(true),
        "off" | "0" => Ok(false),
        other => Err(format!("`{other}` is neither on nor off")),
    }
}

fn configure(config: &mut StackConfig, key: &str, value: &str) -> Result<(), String> {
    if let Some(option) = key.strip_prefix("sockopt ") {
        return set_socket_option(&mut config.socket, option, value);
    }
    match key {
        "mtu" => config.mtu = parse(value)?,
        "timestamps" => config.timestamps = switch(value)?,
        "sack" => config.sack = switch(value)?,
        "tail_loss_probe" => config.tail_loss_probe = switch(value)?,
        "window_scaling" => config.window_scaling = switch(value)?,
        "rto_min" => config.rto_min = seconds(value)?,
        "rto_max" => config.rto_max = seconds(value)?,
        "rto_initial" => config.rto_initial = seconds(value)?,
        "syn_retries" => config.syn_retries = parse(value)?,
        "synack_retries" => config.synack_retries = parse(value)?,
        "retries" => config.retries = parse(value)?,
        "orphan_retries" => config.orphan_retries = parse(value)?,
        "max_orphans" => config.max_orphans = parse(value)?,
        "max_time_wait" => config.max_time_wait = parse(value)?,
        "max_half_open" => config.max_half_open = parse(value)?,
        "max_syn_backlog" => config.max_syn_backlog = parse(value)?,
        "rst_per_second" => config.rst_per_second = parse(value)?,
        "initial_window" => config.initial_window = parse(value)?,
        "delayed_ack" => config.delayed_ack = seconds(value)?,
        "memory_budget" => config.memory_budget = parse(value)?,
        other => return Err(format!("unknown setting `{other}`")),
    }
    Ok(())
}

fn set_socket_option(options: &mut SocketOptions, name: &str, value: &str) -> Result<(), String> {
    match name {
        "send_buffer" => options.send_buffer = parse(value)?,
        "recv_buffer" => options.recv_buffer = parse(value)?,
        "nodelay" => options.nodelay = switch(value)?,
        "quickack" => options.quickack = switch(value)?,
        "keepalive" => options.keepalive = switch(value)?,
        "keepalive_idle" => options.keepalive_params.idle = seconds(value)?,
        "keepalive_interval" => options.keepalive_params.interval = seconds(value)?,
        "keepalive_count" => options.keepalive_params.count = parse(value)?,
        "linger" => options.linger = if value == "off" { None } else { Some(seconds(value)?) },
        "user_timeout" => options.user_timeout = if value == "off" { None } else { Some(seconds(value)?) },
        "ttl" => options.ttl = parse(value)?,
        "tos" => options.tos = parse(value)?,
        "mss" => options.mss = Some(parse(value)?),
        "reuseaddr" => options.reuseaddr = switch(value)?,
        other => return Err(format!("unknown option `{other}`")),
    }
    Ok(())
}
