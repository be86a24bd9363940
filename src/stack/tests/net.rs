//! The harness: engines on a perfect wire, a virtual clock, user ends without tasks.

use std::io::IoSlice;

use super::*;
use crate::pipe::{Region, UserEnd, pipe};
use crate::wire::Offload;

pub(super) fn secrets(seed: u8) -> Secrets {
    Secrets { key: [seed; 32] }
}

pub(super) fn config(addresses: &[(&str, u8)]) -> StackConfig {
    let addresses = addresses.iter().map(|&(text, prefix)| (ip(text), prefix)).collect();
    let socket = SocketOptions { send_buffer: 64 << 10, recv_buffer: 64 << 10, ..SocketOptions::default() };
    StackConfig { addresses, socket, ..StackConfig::default() }
}

/// A user's end and what belongs to it.
pub(super) struct Stream(pub(super) UserEnd);

impl Stream {
    pub(super) fn write(&self, data: &[u8]) -> Result<usize, TryError> {
        self.0.try_write(&[IoSlice::new(data)])
    }

    pub(super) fn read(&self, want: usize) -> Result<Vec<u8>, TryError> {
        let mut data = Vec::new();
        self.0.try_read_with(want, &mut |part| data.extend_from_slice(part)).map(|_| data)
    }
}

/// Receives a packet as the reactor does: straight into a ring if the engine says so.
pub(super) fn deliver(engine: &mut Engine, now: Instant, packet: &[u8], offload: Offload) {
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

/// Decides which packets arrive: sender, bytes.
type Wire = Box<dyn FnMut(usize, &[u8]) -> bool>;

/// Up to two engines: what one sends, the other receives.
pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) engines: Vec<Engine>,
    /// Packets sent, by engine.
    pub(super) sent: Vec<u64>,
    pub(super) wire: Wire,
}

impl Net {
    pub(super) fn new(configs: Vec<StackConfig>) -> Net {
        let engine = |(index, config)| Engine::new(config, secrets(index as u8 + 1)).expect("config");
        let engines: Vec<Engine> = configs.into_iter().enumerate().map(engine).collect();
        let sent = vec![0; engines.len()];
        Net { now: Instant::from_millis(1), engines, sent, wire: Box::new(|_, _| true) }
    }

    /// 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2.
    pub(super) fn pair() -> Net {
        Net::pair_of(|config| config)
    }

    pub(super) fn pair_of(change: impl Fn(StackConfig) -> StackConfig) -> Net {
        Net::new(vec![
            change(config(&[("10.0.0.1", 24), ("fd00::1", 64)])),
            change(config(&[("10.0.0.2", 24), ("fd00::2", 64)])),
        ])
    }

    /// One stack alone with loopback addresses.
    pub(super) fn embedded() -> Net {
        Net::new(vec![StackConfig { embedded: true, ..config(&[("127.0.0.1", 8), ("::1", 128)]) }])
    }

    pub(super) fn shared(&self, of: usize) -> Arc<Shared> {
        Arc::clone(self.engines[of].shared())
    }

    pub(super) fn options(&self, of: usize) -> SocketOptions {
        self.engines[of].shared.config.socket
    }

    pub(super) fn connect(&mut self, of: usize, remote: &str) -> Stream {
        self.try_connect(of, None, remote).expect("claimed")
    }

    pub(super) fn try_connect(&mut self, of: usize, from: Option<&Binding>, to: &str) -> Result<Stream, ConnError> {
        let options = self.options(of);
        let tuple = self.shared(of).claim(from, addr(to), &options)?;
        Ok(self.open(of, tuple))
    }

    pub(super) fn open(&mut self, of: usize, tuple: FourTuple) -> Stream {
        let options = self.options(of);
        let region = Region::map(options.send_buffer as usize, options.recv_buffer as usize).expect("mapped");
        let (user, stack_end) = pipe(region, options);
        user.region().join(&self.engines[of].shared.budget).expect("within the limit");
        self.engines[of].connect(self.now, Connect { pipe: stack_end, tuple, options });
        Stream(user)
    }

    pub(super) fn listen(&self, of: usize, local: &str, backlog: u32) -> Listening {
        let options = SocketOptions { reuseaddr: true, ..self.options(of) };
        let binding = self.shared(of).bind(addr(local), &options).expect("bound");
        self.shared(of).listen(binding, options, backlog).expect("listening")
    }

    /// Turns of all engines at the present moment until nothing moves.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for index in 0..self.engines.len() {
                moved |= self.turn(index);
            }
            if !moved {
                return;
            }
        }
        panic!("the engines never come to rest");
    }

    pub(super) fn one_turn(&mut self) -> bool {
        self.turn(0)
    }

    fn turn(&mut self, index: usize) -> bool {
        let now = self.now;
        let mut packets = Vec::new();
        let engine = &mut self.engines[index];
        let mut moved = !engine.shared.doorbell.is_empty();
        engine.poll_orders(now);
        engine.on_deadlines(now);
        moved |= engine.receive_local(now, 64) > 0;
        while let Some(packet) = engine.poll_transmit(now) {
            let mut bytes = packet.header.to_vec();
            packet.payload.iter().for_each(|part| bytes.extend_from_slice(part));
            packets.push((bytes, packet.offload));
        }
        engine.end_turn();
        moved |= !packets.is_empty() || engine.has_local() || engine.wants_transmit();
        for (packet, offload) in packets {
            self.sent[index] += 1;
            let arrives = (self.wire)(index, &packet);
            if arrives && let Some(peer) = self.engines.get_mut(1 - index) {
                deliver(peer, now, &packet, offload);
            }
        }
        moved
    }

    /// Lets time pass, with a turn at every deadline on the way.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        self.settle();
        while let Some(next) = self.engines.iter().filter_map(Engine::next_deadline).min() {
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// Accepts one connection.
    pub(super) fn accept(&mut self, listening: &Listening) -> Option<(Stream, SocketAddr)> {
        self.settle();
        listening.queue.try_pop().expect("listener lives").map(|(end, peer)| (Stream(end), peer))
    }

    /// A connection from engine 0 to engine 1.
    pub(super) fn connected(&mut self) -> (Stream, Stream, Listening) {
        let listening = self.listen(1, "10.0.0.2:80", 8);
        let client = self.connect(0, "10.0.0.2:80");
        let (server, peer) = self.accept(&listening).expect("connected");
        assert_eq!(Some(peer), client.0.local_addr());
        (client, server, listening)
    }

    /// Writes all of `data` at one end while reading it at the other.
    pub(super) fn transfer(&mut self, from: &Stream, to: &Stream, data: &[u8]) {
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < data.len() {
            let before = (sent, received.len());
            if let Ok(n) = from.write(&data[sent..]) {
                sent += n;
            }
            self.settle();
            if let Ok(part) = to.read(usize::MAX) {
                received.extend(part);
            }
            if before == (sent, received.len()) {
                // A delayed ACK or a window update by timer.
                self.advance(Duration::from_millis(200));
            }
        }
        assert!(received == data, "bytes differ");
    }
}
