//! What is on its way between the two hosts: turns that send and receive, devices that merge, routers, forged segments.

use std::cmp::Reverse;
use std::hash::Hasher;
use std::time::Duration;

use usernet::internals::wire::{Checksum, Offload};

use super::{Event, World};
use crate::support::host::address;
use crate::support::packet;
use crate::support::sim::device::{self, Packet};
use crate::support::sim::hostile;

/// Packets the reactor reads in one go.
const BATCH: usize = 64;

impl World {
    /// Packets arrive now, and are answered.
    pub(super) fn arrive(&mut self, to: usize, first: Packet) {
        let batch = self.batch(to, first);
        if self.plan.wide.reactor {
            self.pass(to, &batch);
        } else {
            self.set_clock(to);
            batch.iter().for_each(|(bytes, offload)| self.hosts[to].receive(bytes, *offload));
            self.turn(to);
        }
    }

    /// What arrives at this moment, as a device hands it over.
    fn batch(&mut self, to: usize, first: Packet) -> Vec<Packet> {
        let mut batch = vec![first];
        let merges = self.plan.wide.merge[to].is_some();
        if !self.plan.wide.reactor && !merges {
            return batch;
        }
        let checksum = if self.plan.seed.is_multiple_of(2) { Checksum::Verified } else { Checksum::Complete };
        while batch.len() < BATCH
            && let Some(next) = self.next_arrival(to)
        {
            let merged = merges && batch.last_mut().is_some_and(|last| device::merge(last, &next, checksum));
            if !merged {
                batch.push(next);
            }
        }
        batch
    }

    fn next_arrival(&mut self, host: usize) -> Option<Packet> {
        self.queue.peek().filter(|Reverse((at, _, event))| {
            *at <= self.now && matches!(event, Event::Arrive { to, .. } if *to == host)
        })?;
        let Some(Reverse((_, _, Event::Arrive { bytes, large, .. }))) = self.queue.pop() else { return None };
        Some((bytes, offload(large)))
    }

    /// A host takes orders and sends.
    pub(super) fn turn(&mut self, side: usize) {
        if self.plan.wide.reactor {
            self.pass(side, &[]);
            return;
        }
        self.set_clock(side);
        self.hosts[side].turn();
        self.deliver(side);
    }

    fn pass(&mut self, side: usize, packets: &[Packet]) {
        self.set_clock(side);
        self.hosts[side].pass(packets);
        self.deliver(side);
        self.ask_for_turn(side);
    }

    /// Orders are taken by the reactor's next turn, after whoever can run has run.
    pub(super) fn ask_for_turn(&mut self, side: usize) {
        if !self.turn_due[side] && self.hosts[side].wants_turn() {
            self.turn_due[side] = true;
            let users = Duration::from_micros(self.rng.u64(..50));
            self.schedule(self.now + users, Event::Turn { side });
        }
    }

    /// What a host has sent goes its way; whoever was told something runs.
    fn deliver(&mut self, side: usize) {
        self.hosts[side].engine.check_invariants();
        for sent in std::mem::take(&mut self.hosts[side].sent) {
            let large = sent.offload.segment_size.map(|size| (size, sent.offload.header_len));
            let size = large.map_or(sent.bytes.len(), |(size, header)| usize::from(size + header));
            assert!(size <= self.plan.mtu, "a packet of {size} bytes on a link of {}", self.plan.mtu);
            let most = self.plan.large[side].unwrap_or(0).max(self.plan.mtu);
            assert!(sent.bytes.len() <= most, "a packet of {} bytes on a device of {most}", sent.bytes.len());
            match large {
                Some((size, _)) if self.plan.wide.split[side] => {
                    let pieces = device::split(&sent.bytes, usize::from(size));
                    pieces.into_iter().for_each(|piece| self.send(side, piece, None));
                }
                _ => self.send(side, sent.bytes, large),
            }
        }
        self.come_to_accept(side);
        self.wake_users(side);
    }

    fn send(&mut self, side: usize, bytes: Vec<u8>, large: Option<(u16, u16)>) {
        self.note(side, &bytes);
        self.packets += 1;
        let wanted = self.plan.hostile + self.plan.wide.vandal > 0;
        if wanted && self.rng.u8(..20) == 0 && self.recent.len() < 50 {
            self.recent.push((1 - side, bytes.clone()));
        }
        if large.is_none() && self.is_refused(side, &bytes) {
            return;
        }
        for arrival in self.links[side].send(&mut self.rng, self.now, bytes) {
            let mut at = self.now + arrival.after;
            if let Some(merge) = self.plan.wide.merge[1 - side] {
                at = Duration::from_nanos((at.as_nanos() as u64).next_multiple_of(merge.as_nanos() as u64));
            }
            self.schedule(at, Event::Arrive { to: 1 - side, bytes: arrival.bytes, large });
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

    /// Somebody else sends a packet, now and regularly in the first minute.
    pub(super) fn forge(&mut self) {
        let conn = self.rng.usize(..self.conns.len());
        let side = self.rng.usize(..2);
        let host = self.conns[conn].hosts[side];
        let old = !self.recent.is_empty();
        let forged = if self.plan.wide.vandal > 0 && old && self.rng.bool() {
            let index = self.rng.usize(..self.recent.len());
            let (to, mut bytes) = self.recent.swap_remove(index);
            hostile::mangle(&mut self.rng, &mut bytes);
            Some((to, bytes))
        } else if self.rng.u8(..4) == 0 && old {
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
            self.arrive(to, (bytes, Offload::default()));
        }
        if self.now < Duration::from_secs(60) {
            let every = Duration::from_secs(1) / (self.plan.hostile + self.plan.wide.vandal).max(1);
            self.schedule(self.now + every, Event::Forge);
        }
    }
}

/// What a device says of a packet: the size of its segments and of its header, if it is a large one.
pub(super) fn offload(large: Option<(u16, u16)>) -> Offload {
    let (segment_size, header_len) = large.map_or((None, 0), |(size, len)| (Some(size), len));
    Offload { segment_size, header_len, ..Offload::default() }
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
