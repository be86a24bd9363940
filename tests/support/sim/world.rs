//! Two hosts, two links, the users, and one queue of events under virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use usernet::config::{SocketOptions, StackConfig};
use usernet::error::ConnError;
use usernet::internals::stack::Listening;
use usernet::internals::time::Instant;
use usernet::internals::wire::{Offload, Seq};

use super::hostile;
use super::link::Link;
use super::plan::Plan;
use super::user::User;
use crate::support::host::{Host, address};
use crate::support::packet;

/// More events than any honest run needs.
const MAX_EVENTS: u64 = 3_000_000;
/// A polite run that takes longer hangs; in a rude one everybody leaves then.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// Then both engines must be empty: orphans have given up, TIME-WAIT is over.
const TIDY: Duration = Duration::from_secs(20 * 3600);
const PORT: u16 = 80;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive { to: usize, bytes: Vec<u8>, large: Option<(u16, u16)> },
    Start { conn: usize },
    Go { conn: usize, side: usize },
    Forge,
}

struct Conn {
    /// `users[0]` connects, `users[1]` accepts.
    users: [User; 2],
    hosts: [usize; 2],
    port: u16,
}

/// What a run amounts to; equal for equal seeds.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    pub trace: u64,
    pub packets: u64,
    pub virtual_time: Duration,
    /// When the last user was done.
    pub done_at: Duration,
    pub retransmits: u64,
    pub timeouts: u64,
}

pub struct World {
    plan: Plan,
    rng: Rng,
    now: Duration,
    skew: Duration,
    hosts: [Host; 2],
    listening: [Option<Listening>; 2],
    links: [Link; 2],
    conns: Vec<Conn>,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    order: u64,
    recent: Vec<(usize, Vec<u8>)>,
    trace: std::hash::DefaultHasher,
    packets: u64,
    verbose: bool,
}

impl World {
    pub fn new(plan: Plan, verbose: bool) -> World {
        let hosts = [0, 1].map(|side| make_host(&plan, side));
        let links = [0, 1].map(|direction| Link::new(&plan, direction));
        let conns = (plan.conns.iter().zip(0u8..)).map(|(conn, index)| {
            let streams = (2 * index + 1, 2 * index + 2);
            let [first, second] = conn.users.clone();
            Conn {
                users: [
                    User::new(first, streams, conn.bytes[0]),
                    User::new(second, (streams.1, streams.0), conn.bytes[1]),
                ],
                hosts: [conn.from, 1 - conn.from],
                port: 5_000 + u16::from(index),
            }
        });
        let mut world = World {
            conns: conns.collect(),
            rng: Rng::with_seed(plan.seed ^ 0x5EED),
            now: Duration::ZERO,
            skew: Duration::ZERO,
            hosts,
            listening: [None, None],
            links,
            queue: BinaryHeap::new(),
            order: 0,
            recent: Vec::new(),
            trace: std::hash::DefaultHasher::new(),
            packets: 0,
            verbose,
            plan,
        };
        for side in 0..2 {
            let at = SocketAddr::new(address(world.plan.v6, side as u8 + 1), PORT);
            let options = world.options(side);
            world.listening[side] = Some(world.hosts[side].listen(at, options, 64).expect("the port is free"));
        }
        for conn in 0..world.conns.len() {
            world.schedule(world.plan.conns[conn].start, Event::Start { conn });
        }
        if world.plan.hostile > 0 {
            world.schedule(Duration::from_millis(100), Event::Forge);
        }
        world
    }

    fn options(&self, side: usize) -> SocketOptions {
        let [send_buffer, recv_buffer] = self.plan.buffers[side];
        SocketOptions { send_buffer, recv_buffer, ..SocketOptions::default() }
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, event)));
    }

    /// Runs to the end and checks everything there is to check.
    pub fn run(mut self) -> Summary {
        let mut events = 0;
        let mut told_to_leave = false;
        let mut done_at = Duration::ZERO;
        while !self.is_over() {
            assert!(events < MAX_EVENTS, "livelock: {events} events, {} packets, {:?}", self.packets, self.now);
            events += 1;
            if !told_to_leave && (self.now > PATIENCE || self.users().all(User::is_done)) {
                told_to_leave = true;
                done_at = self.now;
                self.all_leave();
            }
            assert!(self.now < TIDY, "leak: {}", self.state());
            self.step();
        }
        for (side, host) in self.hosts.iter().enumerate() {
            let budget = &host.shared.budget;
            assert_eq!((budget.used(), budget.reserved()), (0, 0), "host {side}: budget not given back");
        }
        let stats = self.hosts.each_ref().map(|host| host.shared.stats());
        Summary {
            trace: self.trace.finish(),
            packets: self.packets,
            virtual_time: self.now,
            done_at,
            retransmits: stats.iter().map(|stats| stats.retransmits).sum(),
            timeouts: stats.iter().map(|stats| stats.timeouts).sum(),
        }
    }

    fn users(&self) -> impl Iterator<Item = &User> {
        self.conns.iter().flat_map(|conn| &conn.users)
    }

    fn is_over(&self) -> bool {
        let closed = self.listening.iter().all(Option::is_none);
        self.users().all(User::is_done) && self.hosts.iter().all(is_empty) && closed
    }

    fn state(&self) -> String {
        let counts = |host: &Host| {
            let engine = &host.engine;
            (engine.live(), engine.half_open(), engine.time_wait(), engine.orphans(), engine.next_deadline())
        };
        let users: Vec<String> = self.users().map(|user| format!("{user:?}")).collect();
        let hosts = self.hosts.iter().map(counts).collect::<Vec<_>>();
        format!("at {:?}: (live, half-open, TIME-WAIT, orphans, deadline) {hosts:?}\n{}", self.now, users.join("\n"))
    }

    /// Polite users are done by now, or they hang. Rude ones leave what they hold.
    fn all_leave(&mut self) {
        if self.plan.is_polite() {
            for conn in &self.conns {
                let [first, second] = &conn.users;
                let refused =
                    |user: &User| user.error == Some(ConnError::MemoryBudget) && user.written + user.read == 0;
                if refused(first) || refused(second) {
                    // A connect that finds the budget spent says so.
                    continue;
                }
                for (user, peer) in [(first, second), (second, first)] {
                    let whole = user.saw_eof && user.read == peer.written && peer.shut && user.error.is_none();
                    assert!(whole && user.is_done(), "not everything arrived: {}", self.state());
                }
            }
        }
        self.conns.iter_mut().flat_map(|conn| &mut conn.users).for_each(User::leave);
        self.listening = [None, None];
        (0..2).for_each(|side| self.turn(side));
    }

    /// Goes to the next moment at which something happens.
    fn step(&mut self) {
        let skew = self.skew;
        let due = |host: &Host| {
            host.engine.next_deadline().map(|at| Duration::from_micros(at.as_micros()).saturating_sub(skew))
        };
        let deadline = self.hosts.iter().filter_map(due).min();
        let event = self.queue.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = deadline.into_iter().chain(event).min() else {
            self.nobody_will_come();
            return;
        };
        self.now = self.now.max(next);
        if let Some((_, far)) = self.plan.jump.take_if(|(at, _)| *at <= next) {
            self.skew += far;
        }
        self.change_mtu();
        if event.is_some_and(|at| at <= self.now) {
            if let Some(Reverse((_, _, event))) = self.queue.pop() {
                self.happen(event);
            }
        } else {
            (0..2).for_each(|side| self.turn(side));
        }
    }

    /// The MTU of the link changes at both ends at once.
    fn change_mtu(&mut self) {
        if let Some((_, mtu)) = self.plan.mtu_change.take_if(|(at, _)| *at <= self.now) {
            self.plan.mtu = mtu;
            for side in 0..2 {
                self.hosts[side].set_path(mtu, None);
                self.turn(side);
            }
        }
    }

    /// A router between the two carries no more than this: the packet is lost, its sender hears of it.
    fn is_refused(&mut self, side: usize, bytes: &[u8]) -> bool {
        let Some(mtu) = self.plan.router_mtu.filter(|mtu| bytes.len() > *mtu) else { return false };
        let (router, sender) = (address(self.plan.v6, 9), address(self.plan.v6, side as u8 + 1));
        let too_big = packet::icmp_error(router, sender, packet::Icmp::TooBig(mtu as u32), bytes);
        // The word itself can get lost, like anything on this link.
        for arrival in self.links[1 - side].send(&mut self.rng, self.now, too_big) {
            self.schedule(self.now + arrival.after, Event::Arrive { to: side, bytes: arrival.bytes, large: None });
        }
        true
    }

    /// Nothing will ever happen: all that is allowed to be left is programs whose client gave up before it was accepted.
    fn nobody_will_come(&mut self) {
        let mut waiting = 0;
        for conn in &mut self.conns {
            let [client, server] = &mut conn.users;
            if client.is_done() && !server.is_open() && !server.is_done() {
                server.gone = true;
                waiting += 1;
            }
        }
        let empty = self.hosts.iter().all(is_empty) && self.users().all(User::is_done);
        assert!(waiting > 0 || empty, "nothing will ever happen: {}", self.state());
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { to, bytes, large } => {
                let mut offload = Offload::default();
                if let Some((segment_size, header_len)) = large {
                    offload.segment_size = Some(segment_size);
                    offload.header_len = header_len;
                }
                self.set_clock(to);
                self.hosts[to].receive(&bytes, offload);
                self.turn(to);
            }
            Event::Start { conn } => self.start(conn),
            Event::Go { conn, side } => self.go(conn, side),
            Event::Forge => self.forge(),
        }
    }

    fn set_clock(&mut self, side: usize) {
        let micros = u64::try_from((self.now + self.skew).as_micros()).unwrap_or(u64::MAX);
        self.hosts[side].now = Instant::from_micros(micros);
    }

    fn turn(&mut self, side: usize) {
        self.set_clock(side);
        let host = &mut self.hosts[side];
        host.turn();
        for sent in std::mem::take(&mut host.sent) {
            let limit = if sent.offload.segment_size.is_some() { 65_535 } else { self.plan.mtu };
            assert!(sent.bytes.len() <= limit, "a packet of {} bytes on a link of {limit}", sent.bytes.len());
            self.note(side, &sent.bytes);
            self.packets += 1;
            if self.plan.hostile > 0 && self.rng.u8(..20) == 0 && self.recent.len() < 50 {
                self.recent.push((1 - side, sent.bytes.clone()));
            }
            if self.is_refused(side, &sent.bytes) {
                continue;
            }
            let large = sent.offload.segment_size.map(|size| (size, sent.offload.header_len));
            for arrival in self.links[side].send(&mut self.rng, self.now, sent.bytes) {
                self.schedule(self.now + arrival.after, Event::Arrive { to: 1 - side, bytes: arrival.bytes, large });
            }
        }
        self.accept(side);
    }

    fn note(&mut self, side: usize, bytes: &[u8]) {
        self.trace.write_u128(self.now.as_micros());
        self.trace.write_usize(side);
        self.trace.write(bytes);
        match packet::see(bytes) {
            Ok(seen) if self.verbose => println!("{:12.6} {side}> {}", self.now.as_secs_f64(), show(&seen)),
            Ok(_) => {}
            Err(message) => panic!("host {side} sent a bad packet: {message}"),
        }
    }

    fn start(&mut self, conn: usize) {
        let simultaneous = self.plan.conns[conn].simultaneous;
        for side in 0..if simultaneous { 2 } else { 1 } {
            let (from, to) = (self.conns[conn].hosts[side], self.conns[conn].hosts[1 - side]);
            let port = self.conns[conn].port;
            let local = SocketAddr::new(address(self.plan.v6, from as u8 + 1), port);
            let remote = SocketAddr::new(address(self.plan.v6, to as u8 + 1), if simultaneous { port } else { PORT });
            let options = self.options(from);
            self.set_clock(from);
            let (end, _) = self.hosts[from].connect(Some(local), remote, options).expect("connect");
            self.conns[conn].users[side].open(end);
            self.schedule(self.now, Event::Go { conn, side });
        }
        (0..2).for_each(|side| self.turn(side));
    }

    fn accept(&mut self, side: usize) {
        while let Some((end, remote)) =
            self.listening[side].as_ref().and_then(|listening| listening.queue.try_pop().expect("the stack lives"))
        {
            let found = self.conns.iter().position(|conn| conn.hosts[1] == side && conn.port == remote.port());
            let conn = found.expect("nobody else connects");
            let user = &mut self.conns[conn].users[1];
            // A second copy of an old SYN that a third ACK completed would be another connection.
            assert!(!user.is_open(), "accepted twice");
            if !user.gone {
                user.open(end);
                self.schedule(self.now, Event::Go { conn, side: 1 });
            }
        }
    }

    fn go(&mut self, conn: usize, side: usize) {
        let peer = &self.conns[conn].users[1 - side];
        let facts = (peer.written, peer.shut || peer.gone || peer.is_done());
        let user = &mut self.conns[conn].users[side];
        let next = user.go(&mut self.rng, self.now, facts);
        if let Some(after) = next {
            self.schedule(self.now + after, Event::Go { conn, side });
        }
        self.turn(self.conns[conn].hosts[side]);
    }

    fn forge(&mut self) {
        let conn = self.rng.usize(..self.conns.len());
        let side = self.rng.usize(..2);
        let host = self.conns[conn].hosts[side];
        let forged = if self.rng.u8(..4) == 0 && !self.recent.is_empty() {
            // An old packet once more, exactly as it was sent.
            let index = self.rng.usize(..self.recent.len());
            Some(self.recent.swap_remove(index))
        } else {
            let info = self.conns[conn].users[side].end().map(|end| end.info().0);
            info.and_then(|info| hostile::forge(&mut self.rng, &info)).map(|bytes| (host, bytes))
        };
        if let Some((to, bytes)) = forged {
            if self.verbose {
                let seen = packet::see(&bytes).map(|seen| show(&seen));
                println!("{:12.6} forged at {to}: {seen:?}", self.now.as_secs_f64());
            }
            self.set_clock(to);
            self.hosts[to].receive(&bytes, Offload::default());
            self.turn(to);
        }
        if self.now < Duration::from_secs(60) {
            let every = Duration::from_secs(1) / self.plan.hostile.max(1);
            self.schedule(self.now + every, Event::Forge);
        }
    }
}

fn is_empty(host: &Host) -> bool {
    host.engine.live() + host.engine.half_open() + host.engine.time_wait() == 0
}

fn make_host(plan: &Plan, side: usize) -> Host {
    let config = StackConfig {
        addresses: vec![(address(plan.v6, side as u8 + 1), if plan.v6 { 64 } else { 24 })],
        mtu: plan.mtu,
        memory_budget: plan.memory_budget[side],
        // The link may lose a third of everything for minutes; giving up is tested elsewhere.
        syn_retries: 100,
        synack_retries: 100,
        retries: 100,
        orphan_retries: 100,
        timestamps: plan.timestamps,
        sack: plan.sack,
        window_scaling: plan.window_scaling,
        ..StackConfig::default()
    };
    let mut host = Host::new(config, plan.seed.wrapping_mul(2).wrapping_add(side as u64));
    host.set_path(plan.mtu, plan.large);
    host.expect_text(!plan.seed.is_multiple_of(4));
    host.take_orders_late(plan.seed.is_multiple_of(3));
    if let Some(iss) = plan.isn[side] {
        host.force_isn(Seq::new(iss));
    }
    host
}

fn show(seen: &packet::Seen) -> String {
    match seen {
        packet::Seen::Tcp(seg) => format!(
            "{:?} {} seq {} len {} ack {} win {} {:?}",
            seg.flags,
            seg.tuple.local,
            seg.seq,
            seg.payload.len(),
            seg.ack,
            seg.wnd,
            seg.options
        ),
        packet::Seen::EchoReply { len } => format!("echo reply {len}"),
    }
}
