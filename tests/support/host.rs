//! One engine, its clock and its users: what the reactor does in a turn, without a runtime.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use usernet::config::{SocketOptions, StackConfig};
use usernet::error::ConnError;
use usernet::internals::pipe::{Region, State, UserEnd, pipe};
use usernet::internals::stack::{Connect, Engine, Listening, Secrets, Shared};
use usernet::internals::tcb::Path;
use usernet::internals::time::Instant;
use usernet::internals::wire::{self, FourTuple, Offload, Seq};

/// A packet an engine sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Instant,
    pub bytes: Vec<u8>,
    pub offload: Offload,
}

/// An engine under a virtual clock.
pub struct Host {
    pub engine: Engine,
    pub shared: Arc<Shared>,
    pub now: Instant,
    /// What came out and was not taken yet, in order.
    pub sent: Vec<Sent>,
    orders_late: bool,
    partial_checksums: bool,
}

/// Segments between own addresses in one turn of the reactor.
const LOCAL: usize = 64;

/// More packets than any turn of a sane engine sends: beyond it the engine spins.
const SPIN: usize = 100_000;

impl Host {
    pub fn new(config: StackConfig, key: u64) -> Host {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&key.to_le_bytes());
        let mtu = config.mtu;
        let mut engine = Engine::new(config, Secrets { key: secret }).expect("the configuration is valid");
        engine.set_path(Path { mtu, max_large: None }, false);
        // Text of any length lands: all tests are tests of that too. Whenever it can, or by the rule.
        engine.set_landing(1, key % 4 != 3);
        let shared = engine.shared().clone();
        Host { engine, shared, now: Instant::ZERO, sent: Vec::new(), orders_late: false, partial_checksums: false }
    }

    /// Every connection from now on starts at `iss`.
    pub fn force_isn(&mut self, iss: Seq) {
        self.engine.set_isn_hook(move |_| Some(iss));
    }

    /// The state of a connection, also of one that nobody holds.
    pub fn state(&self, tuple: &FourTuple) -> State {
        self.engine.state_of(tuple)
    }

    /// Lets the device take large segments of at most `max_large` bytes.
    pub fn set_path(&mut self, mtu: usize, max_large: Option<usize>) {
        self.engine.set_path(Path { mtu, max_large }, self.partial_checksums);
    }

    /// Lets the device complete checksums; call before [`Host::set_path`].
    pub fn leave_checksums(&mut self, on: bool) {
        self.partial_checksums = on;
    }

    /// One turn exactly as the reactor makes it: users run before the next one, which [`Host::wants_turn`] asks for.
    pub fn pass(&mut self, packets: &[(Vec<u8>, Offload)]) {
        self.engine.poll_orders(self.now);
        let mut quiet = packets.is_empty() && !self.engine.has_local();
        assert!(!self.engine.has_lingering(), "an ACK lingers after its owner's pass");
        for (bytes, offload) in packets {
            self.receive(bytes, *offload);
        }
        self.engine.on_deadlines(self.now);
        self.transmit();
        let mut local = LOCAL;
        while self.engine.has_local() && local > 0 {
            quiet = false;
            local = local.saturating_sub(self.engine.receive_local(self.now, local).max(1));
            self.transmit();
        }
        self.engine.end_turn();
        assert!(!quiet || !self.engine.has_lingering(), "an ACK lingers that nothing asked for");
    }

    /// Whether the reactor would run again at once.
    pub fn wants_turn(&self) -> bool {
        let due = self.engine.next_deadline().is_some_and(|at| at <= self.now);
        due || self.engine.has_lingering() || self.engine.has_local() || !self.shared.doorbell.is_empty()
    }

    /// Starts a connection from `local` (or wherever the stack likes) to `remote`.
    pub fn connect(
        &mut self,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        options: SocketOptions,
    ) -> Result<(UserEnd, FourTuple), ConnError> {
        let binding = local.map(|local| self.shared.bind(local, &options)).transpose()?;
        let tuple = self.shared.claim(binding.as_ref(), remote, &options)?;
        let region = Region::map(options.send_buffer as usize, options.recv_buffer as usize)?;
        region.join(&self.shared.budget)?;
        let (user, stack) = pipe(region, options);
        self.engine.connect(self.now, Connect { pipe: stack, tuple, options });
        Ok((user, tuple))
    }

    pub fn listen(&mut self, at: SocketAddr, options: SocketOptions, backlog: u32) -> Result<Listening, ConnError> {
        let binding = self.shared.bind(at, &options)?;
        self.shared.listen(binding, options, backlog)
    }

    /// One packet arrives, straight in a receive ring if the engine expects it there. Call [`Host::turn`] afterwards.
    pub fn receive(&mut self, packet: &[u8], offload: Offload) {
        receive(&mut self.engine, self.now, packet, offload);
    }

    /// Whether the text of every segment is expected for the connection that had the one before, or none ever.
    pub fn expect_text(&mut self, expects: bool) {
        let threshold = if expects { 1 } else { u32::MAX };
        self.engine.set_landing(threshold, true);
    }

    /// Whether what arrived is answered before users' orders are taken.
    pub fn take_orders_late(&mut self, late: bool) {
        self.orders_late = late;
    }

    /// The rest of a turn: orders, deadlines, transmit, wake.
    pub fn turn(&mut self) {
        self.turn_once();
        // An order (a user timeout that is already over) may make something due at once, but not for ever.
        for _ in 0..3 {
            if self.engine.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.turn_once();
        }
        assert!(self.engine.next_deadline().is_none_or(|at| at > self.now), "the engine spins at {:?}", self.now);
    }

    fn turn_once(&mut self) {
        if self.orders_late {
            // The reactor takes orders first, receives then, and transmits while ACKs wait for their owners.
            self.transmit();
            self.engine.end_turn();
        }
        self.engine.poll_orders(self.now);
        while self.engine.has_local() && self.engine.receive_local(self.now, 64) > 0 {}
        if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.engine.on_deadlines(self.now);
        }
        self.transmit();
        self.engine.end_turn();
    }

    fn transmit(&mut self) {
        for _ in 0..SPIN {
            let Some(transmit) = self.engine.poll_transmit(self.now) else {
                return;
            };
            let mut bytes = transmit.header.to_vec();
            transmit.payload.iter().for_each(|part| bytes.extend_from_slice(part));
            // As a device does that was left a partial checksum.
            wire::complete_checksum(&mut bytes, transmit.offload);
            let sent = Sent { at: self.now, bytes, offload: transmit.offload };
            self.sent.push(sent);
        }
        panic!("the engine spins: {SPIN} packets in one turn");
    }

    /// Runs every deadline up to `to`; afterwards it is `to`.
    pub fn advance_to(&mut self, to: Instant) {
        self.turn();
        for _ in 0..SPIN {
            match self.engine.next_deadline() {
                Some(at) if at <= to => {
                    self.now = self.now.max(at);
                    self.turn();
                }
                _ => {
                    self.now = self.now.max(to);
                    return;
                }
            }
        }
        panic!("the engine spins: {SPIN} deadlines before {to:?}");
    }

    pub fn advance(&mut self, by: Duration) {
        self.advance_to(self.now + by);
    }
}

/// An address of the 10/8 or fd00::/64 network the tests live in.
pub fn address(v6: bool, host: u8) -> IpAddr {
    if v6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)]) } else { IpAddr::from([10, 0, 0, host]) }
}

/// What the reactor does with a packet.
fn receive(engine: &mut Engine, now: Instant, packet: &[u8], offload: Offload) {
    let Some(landing) = engine.landing(now) else {
        engine.receive(now, packet, offload);
        return;
    };
    let mut inbox = vec![0xee; 65_536];
    let mut rest = packet;
    for slice in engine.landing_slices(landing, &mut inbox) {
        let (here, after) = rest.split_at(rest.len().min(slice.len()));
        slice[..here.len()].copy_from_slice(here);
        rest = after;
    }
    engine.receive_landed(now, landing, &mut inbox, (packet.len(), offload));
}
