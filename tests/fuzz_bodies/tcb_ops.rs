//! One engine, one connection at a time: segments with any numbers, user calls, time. Both roles.
//!
//! Every byte that is injected says its sequence number, every byte the user writes its position, so that whatever is
//! delivered or sent can be checked without a model. Also checked: the engine's own invariants, no spin (deadlines move
//! forward), output bounded by input, and an engine that is empty with its budget back once everybody has left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_sign_loss)] // A model that is wrong shall panic.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use usernet::config::{SocketOptions, StackConfig};
use usernet::internals::pipe::{Region, State, TryError, UserEnd, pipe};
use usernet::internals::stack::{Connect, Engine, Listening, Secrets, Shared};
use usernet::internals::tcb::Path;
use usernet::internals::time::Instant;
use usernet::internals::wire::{
    self, Body, Checksum, Flags, FourTuple, Header, MAX_HEADER, Offload, Options, SackBlock, SackBlocks, Seq,
    Timestamps,
};

/// Operations of one input; the rest is ignored.
const MAX_OPS: usize = 120;
/// Packets of one turn of a sane engine with these buffers.
const MAX_TURN: usize = 2_000;

/// Interprets `data` as a setting and operations.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut machine = Machine::new(&mut input);
    for _ in 0..MAX_OPS {
        if input.0.is_empty() {
            break;
        }
        machine.op(&mut input);
    }
    machine.finish();
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// Mostly small, sometimes anything: what a distance or a length is.
    fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..=0x9f => u32::from(small),
            middle @ 0xa0..=0xdf => u32::from(middle & 0x3f) << 8 | u32::from(self.byte()),
            _ => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }

    fn signed(&mut self) -> u32 {
        let number = self.number();
        if number & 1 == 0 { number / 2 } else { 0u32.wrapping_sub(number / 2 + 1) }
    }
}

/// The byte that stands for a sequence number, or for a position in what the user writes.
fn code(at: u32) -> u8 {
    ((at ^ (at >> 8)).wrapping_mul(0x9E37_79B1) >> 24) as u8
}

struct User {
    end: UserEnd,
    written: u32,
    /// Sequence number of the next byte to read, once known.
    reads_at: Option<u32>,
}

struct Machine {
    engine: Engine,
    shared: Arc<Shared>,
    listening: Option<Listening>,
    user: Option<User>,
    now: Instant,
    local: SocketAddr,
    peer: SocketAddr,
    options: SocketOptions,
    /// What usernet's segments said last.
    iss: u32,
    sent_to: u32,
    acked_to: u32,
    window: u32,
    ts_seen: u32,
    /// Packets in, calls, deadlines; pure ACKs and RSTs out.
    causes: u64,
    answers: u64,
    inbox: Vec<u8>,
}

const ISNS: [u32; 8] = [0, 1, 0x7FFF_FFFE, 0x7FFF_FFFF, 0x8000_0000, u32::MAX - 1, u32::MAX, 123_456_789];

impl Machine {
    fn new(input: &mut Input<'_>) -> Machine {
        let (setup, sizes, isn) = (input.byte(), input.byte(), input.byte());
        let v6 = setup & 1 != 0;
        let ip = |host: u16| -> std::net::IpAddr {
            if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, host].into() } else { [10, 0, 0, host as u8].into() }
        };
        let mtu = [1500, 1280, 576, 68, 9000, 1500, 1500, 1500][usize::from(sizes & 7)];
        let mtu = if v6 { mtu.max(1280) } else { mtu };
        let config = StackConfig {
            addresses: vec![(ip(1), if v6 { 64 } else { 24 })],
            mtu,
            timestamps: setup & 4 != 0,
            sack: setup & 8 != 0,
            window_scaling: setup & 16 != 0,
            memory_budget: if setup & 0x60 == 0x60 { 3_000 } else { 1 << 30 },
            ..StackConfig::default()
        };
        let buffer = |bits: u8| [2_048u32, 4_096, 20_000, 200_000][usize::from(bits & 3)];
        let options =
            SocketOptions { send_buffer: buffer(sizes >> 3), recv_buffer: buffer(sizes >> 5), ..Default::default() };
        let mut engine = Engine::new(config, Secrets { key: [7; 32] }).unwrap();
        let large = (setup & 0x80 != 0).then_some(65_535);
        engine.set_path(Path { mtu, max_large: large }, false);
        if sizes & 0x80 != 0 {
            engine.set_landing(1, sizes & 0x40 != 0);
        }
        let iss = ISNS[usize::from(isn & 7)];
        engine.set_isn_hook(move |_| Some(Seq::new(iss)));
        let shared = Arc::clone(engine.shared());
        let active = setup & 2 != 0;
        let mut machine = Machine {
            engine,
            shared,
            listening: None,
            user: None,
            now: Instant::from_micros(u64::from(isn >> 6) * 1_000_000_007),
            local: SocketAddr::new(ip(1), if active { 40_000 } else { 80 }),
            peer: SocketAddr::new(ip(2), 9_000),
            options,
            iss,
            sent_to: iss,
            acked_to: ISNS[usize::from(isn >> 3 & 7)],
            window: 65_535,
            ts_seen: 0,
            causes: 0,
            answers: 0,
            inbox: vec![0; 65_536],
        };
        if active {
            machine.connect();
        } else {
            let binding = machine.shared.bind(machine.local, &options).unwrap();
            machine.listening = Some(machine.shared.listen(binding, options, 4).unwrap());
        }
        machine.turn();
        machine
    }

    fn connect(&mut self) {
        let Ok(binding) = self.shared.bind(self.local, &self.options) else { return };
        let Ok(tuple) = self.shared.claim(Some(&binding), self.peer, &self.options) else { return };
        let region = Region::map(self.options.send_buffer as usize, self.options.recv_buffer as usize).unwrap();
        region.join(&self.shared.budget).unwrap();
        let (end, stack) = pipe(region, self.options);
        self.engine.connect(self.now, Connect { pipe: stack, tuple, options: self.options });
        self.user = Some(User { end, written: 0, reads_at: None });
    }

    fn op(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        self.causes += 1;
        match op & 0x1f {
            0..=15 => self.segment(input),
            16 | 17 => self.write(input.number()),
            18 | 19 => self.read(input.number()),
            20 => self.with_user(|user| user.end.shutdown_write()),
            21 => self.user = None,
            22 => self.with_user(|user| user.end.abort()),
            23 => self.set_options(input.byte()),
            24..=26 => self.wait(input.byte()),
            27 => self.icmp(input),
            28 => self.garbage(input),
            29 => self.handshake(input.byte()),
            30 => self.in_order(input),
            _ => {
                if self.user.is_none() && self.listening.is_none() {
                    self.connect();
                }
            }
        }
        // The high bit leaves the turn open: what follows happens in the same one.
        if op & 0x80 == 0 {
            self.turn();
        }
    }

    fn with_user(&mut self, f: impl FnOnce(&mut User)) {
        if let Some(user) = &mut self.user {
            f(user);
        }
    }

    fn write(&mut self, len: u32) {
        self.with_user(|user| {
            let bytes: Vec<u8> = (0..len % 8_192).map(|i| code(user.written.wrapping_add(i))).collect();
            if let Ok(n) = user.end.try_write(&[IoSlice::new(&bytes)]) {
                assert!(n <= bytes.len());
                user.written = user.written.wrapping_add(n as u32);
            }
        });
    }

    fn read(&mut self, want: u32) {
        // `info()` is as of the last turn's end; what says where reading begins must not lag behind the bytes.
        self.engine.end_turn();
        self.with_user(|user| {
            let mut got = Vec::new();
            let result = user.end.try_read_with(want as usize, &mut |bytes| got.extend_from_slice(bytes));
            let at =
                *user.reads_at.get_or_insert_with(|| user.end.info().0.irs.unwrap_or_default().raw().wrapping_add(1));
            for (byte, at) in got.iter().zip(0u32..).map(|(byte, i)| (*byte, at.wrapping_add(i))) {
                assert_eq!(byte, code(at), "a wrong byte was delivered for sequence number {at}");
            }
            match result {
                Ok(n) => assert_eq!(n, got.len()),
                Err(TryError::WouldBlock | TryError::Failed(_)) => assert!(got.is_empty()),
            }
            // Before the handshake nothing is known; nothing was read then either.
            user.reads_at = if user.end.is_established() { Some(at.wrapping_add(got.len() as u32)) } else { None };
        });
    }

    fn set_options(&mut self, bits: u8) {
        self.with_user(|user| {
            user.end.set_options(|options| {
                options.nodelay = bits & 1 != 0;
                options.quickack = bits & 2 != 0;
                options.keepalive = bits & 4 != 0;
                options.keepalive_params.idle = Duration::from_secs(10);
                options.linger = (bits & 8 != 0).then(|| Duration::from_secs(u64::from(bits >> 6)));
                options.user_timeout = (bits & 16 != 0).then(|| Duration::from_millis(u64::from(bits) * 10));
                options.mss = (bits & 32 != 0).then(|| u16::from(bits) * 4);
            });
        });
    }

    /// From a millisecond to days; or exactly to the next deadline.
    fn wait(&mut self, how: u8) {
        let to = match how {
            0..=0x7f => self.engine.next_deadline().unwrap_or(self.now),
            _ => self.now + Duration::from_millis(1 << (how & 0x1f).min(29)),
        };
        // A jump: everything that is due by then is handled in one turn.
        self.now = self.now.max(to);
    }

    /// A SYN, a SYN-ACK or the last ACK that fits what is known: random numbers alone would seldom get past it.
    fn handshake(&mut self, bits: u8) {
        let flags = [Flags::SYN, Flags::SYN | Flags::ACK, Flags::ACK, Flags::ACK | Flags::FIN][usize::from(bits & 3)];
        let options = Options {
            mss: (bits & 4 != 0).then_some(u16::from(bits) * 8),
            window_scale: (bits & 8 != 0).then_some(bits >> 4),
            sack_permitted: bits & 16 != 0,
            timestamps: (bits & 32 != 0).then_some(Timestamps { val: 1_000, ecr: self.ts_seen }),
            ..Options::default()
        };
        self.inject(self.acked_to, self.sent_to, flags, 60_000, options, 0);
    }

    /// The next text in order, and an ACK of everything.
    fn in_order(&mut self, input: &mut Input<'_>) {
        let len = input.number() % 3_000;
        let timestamps = Some(Timestamps { val: 1_000, ecr: self.ts_seen });
        let options = Options { timestamps, ..Options::default() };
        self.inject(self.acked_to, self.sent_to, Flags::ACK, 60_000, options, len as usize);
    }

    fn segment(&mut self, input: &mut Input<'_>) {
        let (flags, bits) = (Flags::from_bits(input.byte()), input.byte());
        let seq_base =
            [self.acked_to, self.acked_to, self.acked_to.wrapping_add(self.window), 0][usize::from(bits & 3)];
        let ack_base = [self.sent_to, self.sent_to, self.iss, 0][usize::from(bits >> 2 & 3)];
        let seq = seq_base.wrapping_add(input.signed());
        let ack = ack_base.wrapping_add(input.signed());
        let len = if bits & 0x10 != 0 { input.number() as usize % 4_000 } else { 0 };
        let wnd = if bits & 0x20 != 0 { input.number() as u16 } else { 60_000 };
        let mut options = Options::default();
        if bits & 0x40 != 0 {
            options.timestamps = Some(Timestamps { val: 1_000u32.wrapping_add(input.signed()), ecr: self.ts_seen });
        }
        if bits & 0x80 != 0 {
            let kinds = input.byte();
            options.mss = (kinds & 1 != 0).then(|| input.number() as u16);
            options.window_scale = (kinds & 2 != 0).then(|| input.byte());
            options.sack_permitted = kinds & 4 != 0;
            let mut sack = SackBlocks::EMPTY;
            for _ in 0..kinds >> 6 {
                let left = Seq::new(self.iss.wrapping_add(input.signed()));
                sack.push(SackBlock { left, right: left + input.number() });
            }
            options.sack = sack;
        }
        self.inject(seq, ack, flags, wnd, options, len);
    }

    #[allow(clippy::too_many_arguments)]
    fn inject(&mut self, seq: u32, ack: u32, flags: Flags, wnd: u16, options: Options, len: usize) {
        let header = Header {
            local: self.peer,
            remote: self.local,
            hop_limit: 64,
            traffic_class: 0,
            seq: Seq::new(seq),
            ack: Seq::new(ack),
            flags,
            wnd,
            options,
        };
        // A SYN takes a number: text in it begins one later.
        let start = seq.wrapping_add(u32::from(flags.contains(Flags::SYN)));
        let payload: Vec<u8> = (0..len as u32).map(|i| code(start.wrapping_add(i))).collect();
        let mut out = [0; MAX_HEADER];
        let (header_len, _) = wire::emit_tcp(&mut out, &header, [&payload, &[]], false);
        let mut packet = out[..header_len].to_vec();
        packet.extend_from_slice(&payload);
        self.receive(&packet, Offload::default());
    }

    /// As the reactor does: text may land in the ring before anything is known of it.
    fn receive(&mut self, packet: &[u8], offload: Offload) {
        let Some(landing) = self.engine.landing(self.now) else {
            self.engine.receive(self.now, packet, offload);
            return;
        };
        let mut rest = packet;
        for slice in self.engine.landing_slices(landing, &mut self.inbox) {
            let (here, after) = rest.split_at(rest.len().min(slice.len()));
            slice[..here.len()].copy_from_slice(here);
            rest = after;
        }
        self.engine.receive_landed(self.now, landing, &mut self.inbox, (packet.len(), offload));
    }

    fn icmp(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        let seq = self.iss.wrapping_add(input.signed());
        let header = Header {
            local: self.local,
            remote: self.peer,
            hop_limit: 64,
            traffic_class: 0,
            seq: Seq::new(seq),
            ack: Seq::new(0),
            flags: Flags::ACK,
            wnd: 0,
            options: Options::default(),
        };
        let mut quoted = [0; MAX_HEADER];
        let (len, _) = wire::emit_tcp(&mut quoted, &header, [&[], &[]], false);
        let mtu = input.number();
        let packet = icmp_error(self.peer, self.local, kind, mtu, &quoted[..len]);
        // Checksums are not what this target is about.
        self.receive(&packet, Offload { checksum: Checksum::Verified, ..Offload::default() });
    }

    fn garbage(&mut self, input: &mut Input<'_>) {
        let len = usize::from(input.byte()).min(input.0.len());
        let (bytes, rest) = input.0.split_at(len);
        input.0 = rest;
        self.receive(bytes, Offload::default());
    }

    /// What the reactor does in a turn. An order may make something due at once, but not for ever.
    fn turn(&mut self) {
        let mut again = 0;
        self.turn_once();
        while self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            again += 1;
            assert!(again <= 3, "spins in {:?}: {:?} at {:?}", self.state(), self.engine.next_deadline(), self.now);
            self.turn_once();
        }
    }

    fn turn_once(&mut self) {
        self.engine.poll_orders(self.now);
        if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.causes += 1;
            self.engine.on_deadlines(self.now);
        }
        let mut packets = 0;
        while let Some(transmit) = self.engine.poll_transmit(self.now) {
            packets += 1;
            assert!(packets <= MAX_TURN, "the engine spins");
            let mut bytes = transmit.header.to_vec();
            transmit.payload.iter().for_each(|part| bytes.extend_from_slice(part));
            self.check_output(&bytes);
        }
        self.engine.end_turn();
        if let Some(listening) = &self.listening
            && let Ok(Some((end, _))) = listening.queue.try_pop()
        {
            self.user = Some(User { end, written: 0, reads_at: None });
        }
        let bound = 4 * self.causes + 100;
        assert!(self.answers <= bound, "{} answers to {} causes", self.answers, self.causes);
    }

    fn state(&self) -> State {
        self.engine.state_of(&FourTuple { local: self.local, remote: self.peer })
    }

    fn check_output(&mut self, bytes: &[u8]) {
        let packet = wire::parse(bytes, Checksum::Complete).expect("an engine sends what it would accept");
        let Body::Tcp { seg, .. } = packet.body else { return };
        if seg.is_empty() {
            self.answers += 1;
        }
        if seg.has(Flags::RST) {
            return;
        }
        if seg.has(Flags::SYN) {
            // The number that was forced, or a later one where TIME-WAIT was reused.
            self.iss = seg.seq.raw();
        }
        let first = seg.seq.raw().wrapping_sub(self.iss).wrapping_sub(1);
        for (byte, i) in seg.payload.iter().zip(0u32..) {
            assert_eq!(*byte, code(first.wrapping_add(i)), "a wrong byte was sent at {}", first.wrapping_add(i));
        }
        self.sent_to = seg.end().raw();
        if seg.has(Flags::ACK) {
            self.acked_to = seg.ack.raw();
            self.window = u32::from(seg.wnd);
        }
        self.ts_seen = seg.options.timestamps.map_or(self.ts_seen, |ts| ts.val);
    }

    /// Everybody leaves; the engine has to become empty by itself.
    fn finish(mut self) {
        self.user = None;
        self.listening = None;
        for _ in 0..1_000 {
            self.turn();
            let Some(at) = self.engine.next_deadline() else { break };
            self.now = at;
        }
        let engine = &self.engine;
        let left = (engine.live(), engine.half_open(), engine.time_wait(), engine.orphans());
        assert_eq!(left, (0, 0, 0, 0), "(live, half-open, TIME-WAIT, orphans) are left");
        assert_eq!((self.shared.budget.used(), self.shared.budget.reserved()), (0, 0), "budget not given back");
    }
}

/// An ICMP error without a transport checksum (verified by the device, so to say).
fn icmp_error(src: SocketAddr, dst: SocketAddr, kind: u8, mtu: u32, quoted: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match (src.ip(), dst.ip()) {
        (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) => {
            let (kind, code) =
                [(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0), (4, 0), (5, 0)][usize::from(kind & 7)];
            out.extend([0x45, 0]);
            out.extend((28 + quoted.len() as u16).to_be_bytes());
            out.extend([0, 0, 0, 0, 64, 1, 0, 0]);
            out.extend(src.octets());
            out.extend(dst.octets());
            let sum: u32 = out.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
            let sum = !((sum & 0xFFFF) + (sum >> 16)) as u16;
            out[10..12].copy_from_slice(&sum.to_be_bytes());
            out.extend([kind, code, 0, 0]);
        }
        (std::net::IpAddr::V6(src), std::net::IpAddr::V6(dst)) => {
            let (kind, code) = [(1, 0), (1, 3), (1, 4), (2, 0), (3, 0), (4, 0), (1, 1), (1, 5)][usize::from(kind & 7)];
            out.extend([0x60, 0, 0, 0]);
            out.extend((8 + quoted.len() as u16).to_be_bytes());
            out.extend([58, 64]);
            out.extend(src.octets());
            out.extend(dst.octets());
            out.extend([kind, code, 0, 0]);
        }
        _ => return out,
    }
    out.extend(mtu.to_be_bytes());
    out.extend(quoted);
    out
}
