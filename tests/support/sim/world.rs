//! Two hosts, two links, the users, and one queue of events under virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hasher;
use std::time::Duration;

use fastrand::Rng;
use usernet::config::StackConfig;
use usernet::error::ConnError;
use usernet::internals::stack::Listening;
use usernet::internals::time::Instant;
use usernet::internals::wire::Seq;

use super::link::Link;
use super::plan::Plan;
use super::user::User;
use crate::support::host::{Host, address};

mod programs;
mod traffic;

/// More events than any honest run needs.
const MAX_EVENTS: u64 = 3_000_000;
/// A polite run that takes longer hangs; in a rude one everybody leaves then.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// Then both engines must be empty: orphans have given up, TIME-WAIT is over.
const TIDY: Duration = Duration::from_secs(20 * 3600);
const PORT: u16 = 80;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive {
        to: usize,
        bytes: Vec<u8>,
        large: Option<(u16, u16)>,
    },
    /// The reactor's next turn.
    Turn {
        side: usize,
    },
    /// A program accepts one connection.
    Accept {
        side: usize,
    },
    /// Time for a user who waits to do something of its own accord.
    Alarm {
        conn: usize,
        side: usize,
    },
    /// The listener is dropped, or comes back.
    Close {
        side: usize,
    },
    Listen {
        side: usize,
    },
    Start {
        conn: usize,
    },
    Go {
        conn: usize,
        side: usize,
    },
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
    pub tail_probes: u64,
}

pub struct World {
    plan: Plan,
    rng: Rng,
    now: Duration,
    /// How far the hosts' clocks are ahead.
    skew: [Duration; 2],
    /// Whether [`Event::Turn`] and [`Event::Accept`] are scheduled.
    turn_due: [bool; 2],
    accepting: [bool; 2],
    /// A virtual second, and the turns in vain in it.
    idle_turns: (u64, u64),
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
            let streams = (index.wrapping_mul(2).wrapping_add(1), index.wrapping_mul(2).wrapping_add(2));
            let user = |side: usize, streams| {
                let mut user = User::new(conn.users[side].clone(), streams, conn.bytes[side]);
                user.lenient = plan.wide.vandal > 0;
                user
            };
            let local = plan.wide.local_every.is_some_and(|every| usize::from(index).is_multiple_of(every));
            Conn {
                users: [user(0, streams), user(1, (streams.1, streams.0))],
                hosts: [conn.from, if local { conn.from } else { 1 - conn.from }],
                port: 5_000 + u16::from(index),
            }
        });
        let mut world = World {
            conns: conns.collect(),
            rng: Rng::with_seed(plan.seed ^ 0x5EED),
            now: Duration::ZERO,
            skew: [Duration::ZERO; 2],
            turn_due: [false; 2],
            accepting: [false; 2],
            idle_turns: (0, 0),
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
            world.listen(side);
        }
        if let Some((side, at, after)) = world.plan.wide.relisten {
            world.schedule(at, Event::Close { side });
            world.schedule(at + after, Event::Listen { side });
        }
        for conn in 0..world.conns.len() {
            world.schedule(world.plan.conns[conn].start, Event::Start { conn });
        }
        if world.plan.hostile + world.plan.wide.vandal > 0 {
            world.schedule(Duration::from_millis(100), Event::Forge);
        }
        world
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
            assert!(events < MAX_EVENTS, "livelock: {events} events, {} packets, {}", self.packets, self.state());
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
            tail_probes: stats.iter().map(|stats| stats.tail_probes).sum(),
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
        let due = |(host, skew): (&Host, &Duration)| {
            host.engine.next_deadline().map(|at| Duration::from_micros(at.as_micros()).saturating_sub(*skew))
        };
        let deadline = self.hosts.iter().zip(&self.skew).filter_map(due).min();
        let event = self.queue.peek().map(|Reverse((at, ..))| *at);
        let Some(next) = deadline.into_iter().chain(event).min() else {
            self.nobody_will_come();
            return;
        };
        self.now = self.now.max(next);
        if let Some((_, far)) = self.plan.jump.take_if(|(at, _)| *at <= next) {
            self.skew.iter_mut().for_each(|skew| *skew += far);
        }
        for (skew, jump) in self.skew.iter_mut().zip(&mut self.plan.wide.jumps) {
            *skew += jump.take_if(|(at, _)| *at <= next).map_or(Duration::ZERO, |(_, far)| far);
        }
        self.change_mtu();
        if event.is_some_and(|at| at <= self.now) {
            if let Some(Reverse((_, _, event))) = self.queue.pop() {
                self.happen(event);
            }
        } else {
            let before = self.packets;
            (0..2).for_each(|side| self.turn(side));
            self.count_idle_turn(self.packets == before);
        }
    }

    /// Deadlines that come up without anything to send must not come up all the time.
    fn count_idle_turn(&mut self, in_vain: bool) {
        let second = self.now.as_secs();
        if self.idle_turns.0 != second {
            self.idle_turns = (second, 0);
        }
        self.idle_turns.1 += u64::from(in_vain);
        let most = 100 + 60 * self.conns.len() as u64;
        assert!(self.idle_turns.1 < most, "spins: {:?} turns in vain, {}", self.idle_turns, self.state());
    }

    /// The MTU of the link changes at both ends at once.
    fn change_mtu(&mut self) {
        if let Some((_, mtu)) = self.plan.mtu_change.take_if(|(at, _)| *at <= self.now) {
            self.plan.mtu = mtu;
            for side in 0..2 {
                self.hosts[side].set_path(mtu, self.plan.large[side]);
                self.turn(side);
            }
        }
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
        let waits = self.users().any(|user| user.plan.waits);
        if waiting == 0 && !empty && waits && !self.plan.is_polite() {
            // The peer is gone, its RST was lost, nobody asked for keepalive, and readiness never comes.
            self.conns.iter_mut().flat_map(|conn| &mut conn.users).for_each(User::leave);
            (0..2).for_each(|side| self.turn(side));
            return;
        }
        assert!(waiting > 0 || empty, "nothing will ever happen: {}", self.state());
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { to, bytes, large } => self.arrive(to, (bytes, traffic::offload(large))),
            Event::Turn { side } => {
                self.turn_due[side] = false;
                self.turn(side);
            }
            Event::Accept { side } => self.accept_late(side),
            Event::Alarm { conn, side } => {
                if self.conns[conn].users[side].take_alarm() {
                    self.go(conn, side);
                }
            }
            Event::Close { side } => {
                self.listening[side] = None;
                self.turn(side);
            }
            Event::Listen { side } => {
                if self.users().any(|user| !user.gone) {
                    self.listen(side);
                }
            }
            Event::Start { conn } => self.start(conn),
            Event::Go { conn, side } => self.go(conn, side),
            Event::Forge => self.forge(),
        }
    }

    fn set_clock(&mut self, side: usize) {
        let micros = u64::try_from((self.now + self.skew[side]).as_micros()).unwrap_or(u64::MAX);
        self.hosts[side].now = Instant::from_micros(micros);
    }
}

fn is_empty(host: &Host) -> bool {
    host.engine.live() + host.engine.half_open() + host.engine.time_wait() == 0
}

fn make_host(plan: &Plan, side: usize) -> Host {
    let default = StackConfig::default();
    let mut socket = default.socket;
    if plan.wide.shares {
        [socket.send_buffer, socket.recv_buffer] = plan.buffers[side];
    }
    // The link may lose a third of everything for minutes; giving up is tested elsewhere, and by wide seeds.
    let retries = |default| if plan.wide.impatient || plan.wide.vandal > 0 { default } else { 100 };
    let config = StackConfig {
        addresses: vec![(address(plan.v6, side as u8 + 1), if plan.v6 { 64 } else { 24 })],
        mtu: plan.mtu,
        memory_budget: plan.memory_budget[side],
        syn_retries: retries(default.syn_retries),
        synack_retries: retries(default.synack_retries),
        retries: retries(default.retries),
        orphan_retries: retries(default.orphan_retries),
        socket,
        timestamps: plan.timestamps,
        sack: plan.sack,
        window_scaling: plan.window_scaling,
        ..default
    };
    let mut host = Host::new(config, plan.seed.wrapping_mul(2).wrapping_add(side as u64));
    host.leave_checksums(plan.wide.partial[side]);
    host.set_path(plan.mtu, plan.large[side]);
    host.expect_text(!plan.seed.is_multiple_of(4));
    host.take_orders_late(plan.seed.is_multiple_of(3));
    if let Some(iss) = plan.isn[side] {
        host.force_isn(Seq::new(iss));
    }
    host
}
