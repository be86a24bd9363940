//! Attacks in numbers (reliability.md §1): what a script says of one forged packet must hold for a hundred thousand.
//! A puppet against one engine under a virtual clock; every random number follows from the seed of its test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_sign_loss)]

mod support;

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use support::host::{Host, address};
use support::packet::{self, Seen, SeenTcp, Tcp};
use support::pattern;
use usernet::config::{SocketOptions, StackConfig};
use usernet::internals::pipe::{State, TryError, UserEnd};
use usernet::internals::stack::Listening;
use usernet::internals::wire::{Flags, Offload};
use usernet::stats::DropReason;

const MANY: u32 = 100_000;
const PEER_ISN: u32 = 5_000;

/// One established connection of `host`, seen from the puppet.
struct Victim {
    host: Host,
    listening: Listening,
    user: UserEnd,
    local: SocketAddr,
    peer: SocketAddr,
    /// usernet's ISN.
    iss: u32,
}

fn config() -> StackConfig {
    StackConfig { addresses: vec![(address(false, 1), 24)], ..StackConfig::default() }
}

fn plain(src: SocketAddr, dst: SocketAddr, flags: Flags, seq: u32, ack: u32) -> Tcp {
    let (options, payload) = (Vec::new(), Vec::new());
    Tcp { src, dst, seq, ack, flags, wnd: 65_535, urgent: 0, options, payload, bad_checksum: false }
}

fn listener(host: &mut Host) -> (Listening, SocketAddr) {
    let local = SocketAddr::new(address(false, 1), 80);
    (host.listen(local, SocketOptions::default(), 128).unwrap(), local)
}

impl Victim {
    fn new() -> Victim {
        let mut host = Host::new(config(), 1);
        let (listening, local) = listener(&mut host);
        let peer = SocketAddr::new(address(false, 2), 8_080);
        let mut syn = plain(peer, local, Flags::SYN, PEER_ISN, 0);
        syn.options = vec![2, 4, 0x05, 0xb4, 4, 2, 3, 3, 7];
        host.receive(&packet::tcp(&syn), Offload::default());
        host.turn();
        let iss = tcp(&host.sent[0].bytes).seq;
        let ack = plain(peer, local, Flags::ACK, PEER_ISN + 1, iss.wrapping_add(1));
        host.receive(&packet::tcp(&ack), Offload::default());
        host.turn();
        let (user, _) = listening.queue.try_pop().unwrap().unwrap();
        host.sent.clear();
        Victim { host, listening, user, local, peer, iss }
    }

    /// A segment from the peer: numbers relative to the first byte of each side.
    fn segment(&self, flags: Flags, seq: u32, ack: u32) -> Tcp {
        let (seq, ack) = (PEER_ISN.wrapping_add(1).wrapping_add(seq), self.iss.wrapping_add(1).wrapping_add(ack));
        plain(self.peer, self.local, flags, seq, ack)
    }

    /// Injects and takes the turn; returns what was answered.
    fn attack(&mut self, segment: &Tcp) -> Vec<SeenTcp> {
        self.host.receive(&packet::tcp(segment), Offload::default());
        self.host.turn();
        self.host.sent.drain(..).map(|sent| tcp(&sent.bytes)).collect()
    }

    fn state(&self) -> State {
        self.user.info().0.state
    }

    fn reads(&self) -> Result<usize, TryError> {
        self.user.try_read_with(1, &mut |_| {})
    }
}

fn tcp(bytes: &[u8]) -> SeenTcp {
    match packet::see(bytes).unwrap() {
        Seen::Tcp(seg) => seg,
        other => panic!("not TCP: {other:?}"),
    }
}

#[test]
fn a1_blind_resets_reset_nothing() {
    let mut victim = Victim::new();
    let mut rng = Rng::with_seed(1);
    let mut answers = 0;
    for _ in 0..MANY {
        let seq = rng.u32(1..);
        let flags = if rng.bool() { Flags::RST } else { Flags::RST | Flags::ACK };
        answers += victim.attack(&victim.segment(flags, seq, 0)).len();
        victim.host.advance(Duration::from_millis(1));
    }
    assert_eq!((victim.state(), victim.host.shared.stats().resets_in), (State::Established, 0));
    // 100 s: two challenge ACKs a second at most.
    assert!(answers <= 201, "{answers} challenge ACKs");
}

#[test]
fn a3_blind_data_delivers_nothing() {
    let mut victim = Victim::new();
    let mut rng = Rng::with_seed(2);
    for _ in 0..MANY {
        // Never the one acceptable pair of numbers: ACK 0 with a segment in the window.
        let mut segment = victim.segment(Flags::ACK | Flags::PSH, rng.u32(..), rng.u32(1..));
        segment.payload = vec![0xEE; 1 + rng.usize(..40)];
        let answers = victim.attack(&segment);
        assert!(answers.len() <= 1 && answers.iter().all(|seg| seg.payload.is_empty()));
    }
    assert_eq!((victim.reads(), victim.state()), (Err(TryError::WouldBlock), State::Established));
}

#[test]
fn a5_two_desynchronised_peers_do_not_storm() {
    // Two connections that share addresses and ports and nothing else, joined by a wire.
    let mut victim = Victim::new();
    let there = StackConfig { addresses: vec![(address(false, 2), 24)], ..StackConfig::default() };
    let mut other = Host::new(there, 2);
    let (far, _) = other.connect(Some(victim.peer), victim.local, SocketOptions::default()).unwrap();
    other.turn();
    let syn = tcp(&other.sent[0].bytes);
    let syn_ack = plain(victim.local, victim.peer, Flags::SYN | Flags::ACK, 0x7000_0000, syn.seq.wrapping_add(1));
    other.receive(&packet::tcp(&syn_ack), Offload::default());
    other.turn();
    assert_eq!(far.info().0.state, State::Established);
    other.sent.clear();
    victim.user.try_write(&[IoSlice::new(b"?")]).unwrap();
    let mut packets = 0;
    for _ in 0..10_000 {
        packets += exchange(&mut victim.host, &mut other);
        packets += exchange(&mut other, &mut victim.host);
        victim.host.advance(Duration::from_millis(1));
        other.advance(Duration::from_millis(1));
    }
    // 10 s: four a second, and the retransmissions of the one byte with their answers.
    assert!(packets <= 40 + 16, "{packets} packets in 10 s");
}

fn exchange(from: &mut Host, to: &mut Host) -> usize {
    from.turn();
    let sent = std::mem::take(&mut from.sent);
    for sent in &sent {
        to.receive(&sent.bytes, sent.offload);
    }
    to.turn();
    sent.len()
}

#[test]
fn a8_syn_flood_buys_no_memory() {
    let mut host = Host::new(config(), 3);
    let (listening, local) = listener(&mut host);
    let mut rng = Rng::with_seed(3);
    for i in 0..MANY {
        let peer = SocketAddr::new(address(false, rng.u8(2..255)), rng.u16(1_024..));
        let syn = packet::tcp(&plain(peer, local, Flags::SYN, rng.u32(..), 0));
        // Each retransmitted (clash-rs #1070).
        host.receive(&syn, Offload::default());
        host.receive(&syn, Offload::default());
        if i % 64 == 0 {
            host.turn();
            host.sent.clear();
        }
    }
    host.turn();
    let config = config();
    assert!(host.engine.half_open() <= config.max_syn_backlog, "{} half-open", host.engine.half_open());
    assert_eq!((host.shared.budget.used(), host.shared.budget.reserved(), host.engine.live()), (0, 0, 0));
    assert!(host.shared.stats().dropped(DropReason::SynQueueFull) > 0);
    // The flood ends: the listener recovers by itself (memberlist #166).
    host.advance(Duration::from_secs(300));
    host.sent.clear();
    assert_eq!((host.engine.half_open(), listening.queue.len()), (0, 0));
    let peer = SocketAddr::new(address(false, 2), 9);
    host.receive(&packet::tcp(&plain(peer, local, Flags::SYN, 1, 0)), Offload::default());
    host.turn();
    assert!(tcp(&host.sent[0].bytes).flags.contains(Flags::SYN | Flags::ACK));
}

#[test]
fn a11_every_second_byte_costs_bounded_memory_and_no_stream() {
    let mut victim = Victim::new();
    let stream = 7;
    for round in 0..2 {
        for at in (0..40_000u32).filter(|at| at % 2 != round) {
            // Worst order: from the far end.
            let at = if round == 0 { 39_999 - at } else { at };
            let mut segment = victim.segment(Flags::ACK, at, 0);
            segment.payload = pattern::bytes(stream, u64::from(at), 1);
            victim.host.receive(&packet::tcp(&segment), Offload::default());
        }
        victim.host.turn();
        victim.host.sent.clear();
    }
    assert!(victim.host.shared.stats().dropped(DropReason::TooManyRanges) > 0);
    // The sender repeats what was not acknowledged, as a sender does.
    for start in (0..40_000u32).step_by(1_000) {
        let mut segment = victim.segment(Flags::ACK, start, 0);
        segment.payload = pattern::bytes(stream, u64::from(start), 1_000);
        victim.attack(&segment);
    }
    let mut got = Vec::new();
    while got.len() < 40_000 {
        victim.user.try_read_with(1 << 20, &mut |bytes| got.extend_from_slice(bytes)).unwrap();
    }
    assert_eq!(pattern::first_difference(stream, 0, &got), None);
}

#[test]
fn a12_random_sack_blocks_do_no_harm() {
    let mut victim = Victim::new();
    let mut rng = Rng::with_seed(4);
    let bytes = pattern::bytes(9, 0, 1 << 20);
    victim.user.try_write(&[IoSlice::new(&bytes)]).unwrap();
    victim.host.turn();
    let mut sent = victim.host.sent.len();
    victim.host.sent.clear();
    for _ in 0..MANY / 10 {
        let mut segment = victim.segment(Flags::ACK, 0, 0);
        segment.options = vec![1, 1, 5, 34];
        for _ in 0..4 {
            let left = victim.iss.wrapping_add(rng.u32(..40_000)).wrapping_sub(5_000);
            segment.options.extend(left.to_be_bytes());
            segment.options.extend(left.wrapping_add(rng.u32(..4_000)).wrapping_sub(500).to_be_bytes());
        }
        sent += victim.attack(&segment).len();
    }
    // Dup-ACK spoofing (A15): nothing was acknowledged, so at most the flight is sent twice.
    assert!(sent < 2_000, "{sent} segments for no acknowledgment");
    assert_eq!(victim.state(), State::Established);
}

#[test]
fn a15_optimistic_acks_grow_nothing() {
    let mut victim = Victim::new();
    let bytes = pattern::bytes(9, 0, 1 << 20);
    victim.user.try_write(&[IoSlice::new(&bytes)]).unwrap();
    victim.host.turn();
    let flight: u32 = victim.host.sent.iter().map(|sent| tcp(&sent.bytes).payload.len() as u32).sum();
    victim.host.sent.clear();
    for ahead in 1..1_000 {
        victim.attack(&victim.segment(Flags::ACK, 0, flight + ahead));
    }
    let info = victim.user.info().0;
    assert_eq!((info.bytes_acked, info.cwnd), (0, 14_600));
}

#[test]
fn a24_fragments_leave_nothing() {
    let mut victim = Victim::new();
    let mut rng = Rng::with_seed(5);
    let mut segment = victim.segment(Flags::ACK, 0, 0);
    segment.payload = vec![0xEE; 100];
    let whole = packet::tcp(&segment);
    for _ in 0..MANY {
        let mut fragment = whole.clone();
        let offset = rng.u16(..0x1FFF) | if rng.bool() { 0x2000 } else { 0 };
        fragment[6..8].copy_from_slice(&offset.max(1).to_be_bytes());
        let sum = fragment[..20].chunks(2).enumerate().filter(|(i, _)| *i != 5);
        let sum: u32 = sum.map(|(_, pair)| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = !((sum & 0xFFFF) + (sum >> 16)) as u16;
        fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        victim.host.receive(&fragment, Offload::default());
    }
    victim.host.turn();
    assert!(victim.host.sent.is_empty());
    assert_eq!(victim.host.shared.stats().dropped(DropReason::Fragment), u64::from(MANY));
    assert_eq!(victim.reads(), Err(TryError::WouldBlock));
}

#[test]
fn a28_strangers_get_at_most_one_small_packet() {
    let mut host = Host::new(config(), 6);
    let (_listening, local) = listener(&mut host);
    let mut rng = Rng::with_seed(6);
    let mut resets = 0;
    for i in 0..MANY {
        let peer = SocketAddr::new(address(false, rng.u8(2..255)), rng.u16(..));
        let mut at = local;
        at.set_port(if rng.bool() { 80 } else { rng.u16(81..) });
        let mut segment = plain(peer, at, Flags::from_bits(rng.u8(..)), rng.u32(..), rng.u32(..));
        segment.payload = vec![0; rng.usize(..20)];
        let bytes = packet::tcp(&segment);
        host.receive(&bytes, Offload::default());
        host.turn();
        assert!(host.sent.len() <= 1, "one packet in, {} out", host.sent.len());
        for sent in host.sent.drain(..) {
            assert!(sent.bytes.len() <= bytes.len() + 20, "{} bytes for {}", sent.bytes.len(), bytes.len());
            assert!(!segment.flags.contains(Flags::RST), "an answer to a RST");
            resets += u32::from(tcp(&sent.bytes).flags.contains(Flags::RST));
        }
        if i % 1_000 == 999 {
            // The RST limit is per second.
            assert!(resets <= 1_000);
        }
    }
    assert!(resets <= 1_001, "{resets} RSTs in one moment");
}

#[test]
fn a4_challenges_on_one_connection_leave_another_alone() {
    // The same questions to a quiet stack and to one where a neighbour is under attack: the same answers, byte for byte.
    let answers = |attack: bool| {
        let mut victim = Victim::new();
        let neighbour = SocketAddr::new(address(false, 3), 7_777);
        let local = victim.local;
        victim.attack(&plain(neighbour, local, Flags::SYN, 10, 0));
        let mut answers = Vec::new();
        for i in 0..1_000u32 {
            if attack {
                victim.attack(&victim.segment(Flags::RST, 100 + i, 0));
            }
            let question = plain(neighbour, local, Flags::RST, 20 + i, 0);
            victim.host.receive(&packet::tcp(&question), Offload::default());
            victim.host.turn();
            let at = victim.host.now;
            answers.extend(victim.host.sent.drain(..).map(|sent| (at, sent.bytes)));
            victim.host.advance(Duration::from_millis(7));
            victim.host.sent.clear();
        }
        drop(victim.listening);
        answers
    };
    let quiet = answers(false);
    assert!(!quiet.is_empty());
    assert_eq!(quiet, answers(true));
}
