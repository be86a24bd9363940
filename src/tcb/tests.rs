//! Two control blocks wired back to back, and tables for what arrives in each state.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::StackConfig;
use crate::pipe::{Budget, ConnId, Doorbell, Region, UserEnd, pipe};
use crate::wire::{Flags, FourTuple, Segment};

mod arrivals;
mod memory;
mod puppet;
mod regressions;
mod riding;
mod transfer;

const MTU: usize = 1500;

/// One end: a control block and the user's half of its pipe.
struct End {
    tcb: Tcb,
    user: Option<UserEnd>,
    config: StackConfig,
    stats: Stats,
    path: Path,
    budget: Arc<Budget>,
    doorbell: Arc<Doorbell>,
}

impl End {
    fn new(config: StackConfig) -> End {
        let budget = Budget::new(config.max_reserved, config.memory_budget);
        let path = Path { mtu: MTU, max_large: None };
        End { tcb: Tcb::Closed, user: None, config, stats: Stats::default(), path, budget, doorbell: Doorbell::new() }
    }

    fn buffers(&mut self) -> StackEnd {
        let options = self.config.socket;
        let region = Region::map(options.send_buffer as usize, options.recv_buffer as usize).unwrap();
        region.join(&self.budget).unwrap();
        let (user, mut stack) = pipe(region, options);
        stack.adopt(ConnId { index: 0, generation: 0 }, &self.doorbell, &self.budget);
        self.user = Some(user);
        stack
    }

    fn with<R>(&mut self, now: Instant, f: impl FnOnce(&mut Tcb, &mut Cx<'_>) -> R) -> R {
        let mut cx =
            Cx { now, config: &self.config, stats: &mut self.stats, senders: &mut Senders::default(), path: self.path };
        f(&mut self.tcb, &mut cx)
    }

    fn connect(&mut self, now: Instant, tuple: FourTuple, iss: u32) {
        let pipe = self.buffers();
        let open = ActiveOpen { tuple, iss: Seq::new(iss), ts_offset: 77, options: self.config.socket, pipe };
        self.tcb = self.with(now, |_, cx| Tcb::connect(cx, open));
    }

    /// Feeds one segment as the engine does. `port` is ours.
    fn receive(&mut self, now: Instant, tuple: FourTuple, iss: u32, seg: &Segment<'_>) -> Verdict {
        if matches!(self.tcb, Tcb::Closed) && seg.flags == Flags::SYN {
            let open = PassiveOpen { tuple, iss: Seq::new(iss), ts_offset: 99, options: self.config.socket };
            self.tcb = self.with(now, |_, cx| Tcb::accept(cx, open, seg));
            return Verdict::Done;
        }
        match self.with(now, |tcb, cx| tcb.on_segment(cx, seg)) {
            Verdict::WantsPipe => {
                let pipe = self.buffers();
                self.with(now, |tcb, cx| {
                    tcb.establish(cx, pipe);
                    tcb.on_segment(cx, seg)
                })
            }
            verdict => verdict,
        }
    }

    /// All segments to send now, payload copied. The user has had its pass.
    fn transmit(&mut self, now: Instant) -> Vec<(Header, Vec<u8>)> {
        let mut out = Vec::new();
        self.tcb.stop_lingering();
        while let Some(transmission) = self.with(now, |tcb, cx| tcb.poll_transmit(cx)) {
            let [first, second] = self.tcb.payload(&transmission);
            let payload = [first, second].concat();
            assert_eq!(payload.len(), transmission.len);
            out.push((transmission.header, payload));
            assert!(out.len() < 10_000, "endless transmission");
        }
        out
    }

    fn orders(&mut self, now: Instant) {
        self.with(now, |tcb, cx| tcb.on_orders(cx));
    }

    fn write(&mut self, now: Instant, data: &[u8]) -> usize {
        let written = self.user.as_ref().unwrap().try_write(&[IoSlice::new(data)]).unwrap_or(0);
        self.orders(now);
        written
    }

    fn read(&mut self, now: Instant, want: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = self.user.as_ref().unwrap().try_read_with(want, &mut |part| out.extend_from_slice(part));
        self.orders(now);
        out
    }

    fn shutdown(&mut self, now: Instant) {
        self.user.as_ref().unwrap().shutdown_write();
        self.orders(now);
    }

    fn close(&mut self, now: Instant) {
        self.user = None;
        self.orders(now);
    }
}

fn segment<'a>(header: &Header, payload: &'a [u8]) -> Segment<'a> {
    Segment {
        seq: header.seq,
        ack: header.ack,
        flags: header.flags,
        wnd: header.wnd,
        options: header.options,
        payload,
        landed: 0,
    }
}

/// Whether the n-th packet of a side is lost, by its header and the length of its text.
type Loses = Box<dyn FnMut(usize, &Header, usize) -> bool>;

/// Two ends and a perfect wire with `delay` each way, unless `lose` says otherwise.
struct Net {
    a: End,
    b: End,
    now: Instant,
    delay: Duration,
    wire: Vec<(Instant, bool, Header, Vec<u8>)>,
    sent: usize,
    lose: Loses,
}

const A: FourTuple = FourTuple {
    local: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 1000),
    remote: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 80),
};
const B: FourTuple = FourTuple { local: A.remote, remote: A.local };

impl Net {
    fn new(config: StackConfig) -> Net {
        Net {
            a: End::new(config.clone()),
            b: End::new(config),
            now: Instant::from_millis(1),
            delay: Duration::from_millis(10),
            wire: Vec::new(),
            sent: 0,
            lose: Box::new(|_, _, _| false),
        }
    }

    fn established(config: StackConfig) -> Net {
        let mut net = Net::new(config);
        net.a.connect(net.now, A, u32::MAX - 5);
        net.run_for(Duration::from_millis(100));
        assert_eq!((net.a.tcb.state(), net.b.tcb.state()), (State::Established, State::Established));
        net
    }

    fn flush(&mut self) {
        for from_a in [true, false] {
            let end = if from_a { &mut self.a } else { &mut self.b };
            for (header, payload) in end.transmit(self.now) {
                self.sent += 1;
                if !(self.lose)(self.sent, &header, payload.len()) {
                    self.wire.push((self.now + self.delay, from_a, header, payload));
                }
            }
            end.tcb.end_turn();
        }
    }

    /// Runs until nothing happens any more or the time is over.
    fn run_for(&mut self, limit: Duration) {
        let end = self.now + limit;
        loop {
            self.flush();
            let arrival = self.wire.iter().map(|(at, ..)| *at).min();
            let deadlines = [arrival, self.a.tcb.next_deadline(), self.b.tcb.next_deadline()];
            let Some(next) = deadlines.into_iter().flatten().min().filter(|at| *at <= end) else { break };
            assert!(next > self.now || arrival == Some(next), "time stands still at {:?}", self.now);
            self.now = next.max(self.now);
            let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|(at, ..)| *at <= self.now);
            self.wire = later;
            let due: Vec<_> = due;
            for (_, from_a, header, payload) in due {
                let (end, tuple, iss) = if from_a { (&mut self.b, B, 5) } else { (&mut self.a, A, 0) };
                let _ = end.receive(self.now, tuple, iss, &segment(&header, &payload));
            }
            let now = self.now;
            for end in [&mut self.a, &mut self.b] {
                if end.tcb.next_deadline().is_some_and(|at| at <= now) {
                    end.with(now, |tcb, cx| tcb.on_timeout(cx));
                }
            }
        }
        self.now = end;
    }
}
