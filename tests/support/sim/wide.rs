//! What goes beyond an ordinary [`Plan`]: devices that cut and merge, crowds, budgets nobody can live on, clocks that jump
//! alone, users who wait for readiness. An ordinary plan has none of it.

use std::time::Duration;

use fastrand::Rng;

use super::plan::{Plan, Rude, chance, draw_conn, millis, spread};

/// What only wide seeds draw; pairs are one for each host.
#[derive(Clone, Debug, Default)]
pub struct Wide {
    /// Turns are the reactor's: orders first, ACKs linger, users run between two turns.
    pub reactor: bool,
    /// The device completes checksums.
    pub partial: [bool; 2],
    /// The device cuts large segments itself; else the other one gets them whole.
    pub split: [bool; 2],
    /// The device hands over what has arrived at multiples of this, and merges segments in a row.
    pub merge: [Option<Duration>; 2],
    /// Jumps of one clock alone: when and how far.
    pub jumps: [Option<(Duration, Duration)>; 2],
    /// Length of the accept queue, and how long the program takes to accept one.
    pub backlog: Option<(u32, Duration)>,
    /// The listener of this host is dropped then, and for so long there is none.
    pub relisten: Option<(usize, Duration, Duration)>,
    /// Retries are limited as by default.
    pub impatient: bool,
    /// The buffers are the stack's default: short ways take a share.
    pub shares: bool,
    /// One in so many connections is of a host with itself.
    pub local_every: Option<usize>,
    /// Ports are chosen by the stack.
    pub ephemeral: bool,
    /// Genuine segments per second that arrive once more and changed: nothing is promised then but to end well.
    pub vandal: u32,
}

impl Wide {
    /// Whether a connection may die although its users and the link are alive.
    pub fn is_shaky(&self) -> bool {
        let jumps = self.jumps.iter().any(Option::is_some);
        self.vandal > 0 || self.impatient || self.relisten.is_some() || jumps
    }

    /// Nothing that costs a connection its life, or a segment.
    pub fn calm_down(&mut self) {
        self.vandal = 0;
        self.impatient = false;
        self.relisten = None;
        self.jumps = [None; 2];
        self.backlog = None;
    }
}

impl Plan {
    /// The plan of the same seed and more.
    pub fn draw_wide(seed: u64) -> Plan {
        let mut plan = Plan::draw(seed);
        let rng = &mut Rng::with_seed(seed ^ 0x7769_6465);
        plan.draw_devices(rng);
        if chance(rng, 10) {
            plan.links[rng.usize(..2)].lose_acks = 0.3 + 0.69 * rng.f64();
        }
        plan.wide = Wide {
            reactor: chance(rng, 70),
            jumps: [0, 1]
                .map(|_| chance(rng, 5).then(|| (millis(rng.u64(0..20_000)), spread_millis(rng, 2_000_000_000)))),
            backlog: chance(rng, 30).then(|| ([0, 1, 2, 8][rng.usize(..4)], spread_millis(rng, 2_000))),
            relisten: chance(rng, 10).then(|| (rng.usize(..2), spread_millis(rng, 5_000), spread_millis(rng, 5_000))),
            impatient: chance(rng, 15),
            shares: chance(rng, 40),
            local_every: chance(rng, 30).then(|| rng.usize(1..=3)),
            ephemeral: chance(rng, 30),
            vandal: if chance(rng, 10) { rng.u32(1..30) } else { 0 },
            ..plan.wide
        };
        if chance(rng, 25) {
            let rude = chance(rng, 50);
            plan.gather(rng, 120, rude);
            if chance(rng, 50) {
                plan.memory_budget = [0, 1].map(|_| spread(rng, 16 << 10, 1 << 20));
            }
        }
        let waits = chance(rng, 60);
        plan.draw_manners(rng, waits);
        plan
    }

    /// Dozens of polite users who wait for readiness, and stacks without memory.
    pub fn draw_crowd(seed: u64) -> Plan {
        let mut plan = Plan::draw_wide(seed);
        let rng = &mut Rng::with_seed(seed ^ 0x0063_726F_7764);
        let backlog = plan.wide.backlog;
        plan.wide.calm_down();
        plan.gather(rng, 100, false);
        if chance(rng, 50) {
            plan = plan.on_a_clean_link();
        }
        plan.wide.backlog = backlog;
        plan.memory_budget = [0, 1].map(|_| spread(rng, 8 << 10, 512 << 10));
        plan.draw_manners(rng, true);
        plan
    }

    fn draw_devices(&mut self, rng: &mut Rng) {
        self.wide.partial = [0, 1].map(|_| chance(rng, 40));
        self.wide.split = [0, 1].map(|_| chance(rng, 60));
        self.wide.merge = [0, 1].map(|_| chance(rng, 40).then(|| Duration::from_micros(spread(rng, 20, 5_000))));
        if self.mtu >= 1280 {
            self.large = [0, 1].map(|_| chance(rng, 50).then(|| spread(rng, 3_000, 65_535) as usize));
        }
        if self.mtu >= 576 && self.router_mtu.is_none() && chance(rng, 15) {
            let floor = if self.v6 { 1280 } else { 576 };
            let to = spread(rng, floor, 2 * self.mtu as u64) as usize;
            self.mtu_change = Some((millis(rng.u64(0..3_000)), to));
            self.large = self.large.map(|large| large.filter(|large| *large >= to));
        }
    }

    /// Up to `most` connections instead of a few.
    fn gather(&mut self, rng: &mut Rng, most: u64, rude: bool) {
        let count = spread(rng, 2, most);
        let bytes = (self.mtu as u64 - 40).saturating_mul(800) / count;
        self.conns = (0..count).map(|_| draw_conn(rng, bytes.max(1), rude)).collect();
    }

    fn draw_manners(&mut self, rng: &mut Rng, waits: bool) {
        for conn in &mut self.conns {
            conn.simultaneous &= self.wide.local_every.is_none() && !self.wide.ephemeral;
            for user in &mut conn.users {
                user.waits = waits;
                user.quickack = chance(rng, 10);
                user.mss = chance(rng, 10).then(|| rng.u16(1..2_000));
                if self.wide.is_shaky() {
                    user.user_timeout = chance(rng, 20).then(|| spread_millis(rng, 60_000));
                    // Nobody waits for ever for a peer that is gone.
                    user.rude.get_or_insert((spread_millis(rng, 200_000), Rude::Drop));
                }
            }
        }
    }
}

fn spread_millis(rng: &mut Rng, most: u64) -> Duration {
    millis(spread(rng, 1, most))
}
