//! What a seed draws: the link, the sockets, the transfers, the manners of the users.

use std::time::Duration;

use fastrand::Rng;

use super::wide::Wide;

/// One direction of the link.
#[derive(Clone, Debug, Default)]
pub struct LinkPlan {
    /// Probability of loss, in the good and in the bad state of a Gilbert model.
    pub loss: [f64; 2],
    /// Probability per packet of going to the bad state and back.
    pub turn: [f64; 2],
    pub delay: Duration,
    pub jitter: Duration,
    pub duplicate: f64,
    pub corrupt: f64,
    /// Probability of an extra delay of up to 100 ms.
    pub reorder: f64,
    /// Bytes per second and bytes of queue.
    pub rate: Option<(u64, u64)>,
    /// Probability of loss of a segment without text.
    pub lose_acks: f64,
    /// Lose exactly this packet, counted from 0.
    pub lose_one: Option<u64>,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct ConnPlan {
    /// Which host connects; both, for a simultaneous open.
    pub from: usize,
    pub simultaneous: bool,
    pub start: Duration,
    /// Bytes written by the connecting and by the accepting side.
    pub bytes: [u64; 2],
    pub users: [UserPlan; 2],
}

/// How the program at one end behaves.
#[derive(Clone, Debug)]
pub struct UserPlan {
    /// Largest write and read.
    pub chunk: usize,
    /// Longest time between two calls.
    pub pace: Duration,
    /// A pause before reading begins.
    pub deaf_until: Duration,
    /// When and how it gives up, if it does.
    pub rude: Option<(Duration, Rude)>,
    pub nodelay: bool,
    pub keepalive: bool,
    /// Waits for readiness between two calls that got nowhere, instead of trying again.
    pub waits: bool,
    pub user_timeout: Option<Duration>,
    pub quickack: bool,
    pub mss: Option<u16>,
}

/// Ways to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rude {
    Drop,
    Abort,
    /// Zero linger, then drop.
    LingerZero,
    /// Shuts its writing half early and reads on.
    ShutdownEarly,
}

/// Everything about a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub v6: bool,
    pub mtu: usize,
    /// The largest packets the two devices take, if larger than the MTU.
    pub large: [Option<usize>; 2],
    /// The link's MTU changes, and both devices know: when, and what it is then.
    pub mtu_change: Option<(Duration, usize)>,
    /// A router on the way carries less and says so by ICMP.
    pub router_mtu: Option<usize>,
    pub links: [LinkPlan; 2],
    /// After this the link only delays.
    pub heal: Duration,
    pub blackout: Option<(Duration, Duration)>,
    /// A jump of the clock: when and how far.
    pub jump: Option<(Duration, Duration)>,
    pub isn: [Option<u32>; 2],
    pub timestamps: bool,
    pub sack: bool,
    pub window_scaling: bool,
    pub buffers: [[u32; 2]; 2],
    /// Bytes both directions of all connections may hold, each host.
    pub memory_budget: [u64; 2],
    pub conns: Vec<ConnPlan>,
    /// Forged segments per second of the first minute, and old packets replayed.
    pub hostile: u32,
    pub wide: Wide,
}

/// Log-uniform in `low..=high`.
pub(super) fn spread(rng: &mut Rng, low: u64, high: u64) -> u64 {
    let (low, high) = (low.max(1) as f64, high.max(1) as f64);
    (low * (high / low).powf(rng.f64())) as u64
}

pub(super) fn chance(rng: &mut Rng, percent: u32) -> bool {
    rng.u32(..100) < percent
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Plan {
    /// Everything follows from `seed`.
    pub fn draw(seed: u64) -> Plan {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x75_73_65_72);
        let rng = &mut rng;
        let v6 = rng.bool();
        let floor = if v6 { 1280 } else { 68 };
        let mtu = match rng.u8(..10) {
            0..=4 => 1500,
            5 => floor,
            6 => 9000,
            _ => spread(rng, floor, 9000),
        };
        let mtu = mtu as usize;
        let large = (mtu >= 1280 && chance(rng, 15)).then_some(65_535);
        let rtt = if chance(rng, 20) { 0 } else { spread(rng, 1, 600) };
        let links = [draw_link(rng, rtt, large.is_some()), draw_link(rng, rtt, large.is_some())];
        let heal = millis(spread(rng, 10_000, 300_000));
        let blackout = chance(rng, 15).then(|| (millis(rng.u64(0..5_000)), millis(spread(rng, 1_000, 300_000))));
        let isn = [0, 1].map(|_| chance(rng, 20).then(|| near_wrap(rng)));
        let buffers = [0, 1].map(|_| [0, 1].map(|_| spread(rng, 2 << 10, 4 << 20) as u32));
        let count = if chance(rng, 60) { 1 } else { rng.usize(2..=4) };
        let rude = chance(rng, 35);
        let most = (mtu as u64 - 40).saturating_mul(300) / count as u64;
        let conns = (0..count).map(|_| draw_conn(rng, most, rude)).collect();
        let ordinary = large.is_none() && mtu >= 576;
        let mtu_change = (ordinary && chance(rng, 10))
            .then(|| (millis(rng.u64(0..3_000)), spread(rng, floor.max(576), 2 * mtu as u64) as usize));
        let memory_budget = [0, 1].map(|_| if chance(rng, 8) { spread(rng, 16 << 10, 1 << 20) } else { 1 << 30 });
        let believed = if v6 { 1280 } else { 576 };
        let router_mtu =
            (ordinary && mtu_change.is_none() && mtu > believed && chance(rng, 15)).then(|| rng.usize(believed..mtu));
        Plan {
            seed,
            v6,
            mtu,
            large: [large; 2],
            mtu_change,
            router_mtu,
            links,
            heal,
            blackout,
            jump: chance(rng, 8).then(|| (millis(rng.u64(0..20_000)), millis(spread(rng, 1_000, 3_600_000)))),
            isn,
            timestamps: chance(rng, 70),
            sack: chance(rng, 70),
            window_scaling: chance(rng, 80),
            buffers,
            memory_budget,
            conns,
            hostile: if chance(rng, 20) { rng.u32(1..50) } else { 0 },
            wide: Wide::default(),
        }
    }

    /// The same on a link that only delays, with users who are quick and stay.
    #[must_use]
    pub fn on_a_clean_link(mut self) -> Plan {
        for link in &mut self.links {
            *link = LinkPlan { delay: link.delay, turn: [0.0, 1.0], ..LinkPlan::default() };
        }
        self.blackout = None;
        self.jump = None;
        self.hostile = 0;
        // Text beyond the budget is dropped, as if the link had lost it (reliability.md A29).
        self.memory_budget = [1 << 30; 2];
        self.mtu_change = None;
        self.router_mtu = None;
        self.wide.calm_down();
        for conn in &mut self.conns {
            conn.simultaneous = false;
            for user in &mut conn.users {
                user.rude = None;
                user.user_timeout = None;
                user.deaf_until = Duration::ZERO;
                user.pace = user.pace.min(millis(1));
            }
        }
        self
    }

    /// Whether every user stays to the end, so that everything must arrive.
    pub fn is_polite(&self) -> bool {
        self.conns.iter().flat_map(|conn| &conn.users).all(|user| user.rude.is_none())
    }
}

fn near_wrap(rng: &mut Rng) -> u32 {
    let base = [0u32, 1 << 31, u32::MAX][rng.usize(..3)];
    base.wrapping_add(rng.u32(..3000)).wrapping_sub(1500)
}

fn draw_link(rng: &mut Rng, rtt: u64, large: bool) -> LinkPlan {
    let mut link = LinkPlan { delay: millis(rtt) / 2, turn: [0.0, 1.0], ..LinkPlan::default() };
    if chance(rng, 70) {
        link.loss[0] = if chance(rng, 50) { rng.f64() * 0.03 } else { rng.f64() * 0.3 };
    }
    if chance(rng, 20) {
        link.loss[1] = 0.5 + rng.f64() * 0.5;
        link.turn = [rng.f64() * 0.02, 0.05 + rng.f64() * 0.3];
    }
    if chance(rng, 50) {
        link.jitter = millis(rng.u64(..=rtt.clamp(5, 100)));
    }
    if chance(rng, 30) {
        link.duplicate = rng.f64() * 0.2;
    }
    if chance(rng, 30) && !large {
        link.corrupt = rng.f64() * 0.05;
    }
    if chance(rng, 30) {
        link.reorder = rng.f64() * 0.2;
    }
    if chance(rng, 25) {
        link.rate = Some((spread(rng, 50_000, 50_000_000), spread(rng, 20_000, 1_000_000)));
    }
    link
}

pub(super) fn draw_conn(rng: &mut Rng, most: u64, rude: bool) -> ConnPlan {
    let simultaneous = chance(rng, 5);
    let bytes = [0, 1].map(|_| if chance(rng, 15) { 0 } else { spread(rng, 1, most) });
    let users = [0, 1].map(|_| draw_user(rng, rude));
    // Tiny calls: a thousand of them say as much as a million.
    let calls = 1_000 * users.iter().map(|user| user.chunk as u64).min().unwrap_or(1);
    ConnPlan {
        from: rng.usize(..2),
        simultaneous,
        start: millis(rng.u64(..2_000)),
        bytes: bytes.map(|bytes| bytes.min(calls)),
        users,
    }
}

fn draw_user(rng: &mut Rng, rude: bool) -> UserPlan {
    let ways = [Rude::Drop, Rude::Drop, Rude::Abort, Rude::LingerZero, Rude::ShutdownEarly];
    UserPlan {
        chunk: spread(rng, 1, 256 << 10) as usize,
        pace: Duration::from_micros(spread(rng, 10, 50_000)),
        deaf_until: if chance(rng, 10) { millis(spread(rng, 10, 60_000)) } else { Duration::ZERO },
        rude: (rude && chance(rng, 60)).then(|| (millis(spread(rng, 1, 20_000)), ways[rng.usize(..ways.len())])),
        nodelay: rng.bool(),
        keepalive: chance(rng, 10),
        waits: false,
        user_timeout: None,
        quickack: false,
        mss: None,
    }
}
