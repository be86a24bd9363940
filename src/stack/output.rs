//! Packets out: replies first, then one segment of each connection in turn.
//!
//! Owns the header buffer. Packets to our own addresses go into the loopback queue, the others to the caller. Payload is
//! never copied on its way to the device; the one packet a full device refused is the reactor's to keep.

use super::Engine;
use super::demux::{Claim, Conns, Phase};
use super::reply::Reply;
use crate::pipe::ConnId;
use crate::tcb::Transmission;
use crate::time::Instant;
use crate::wire::{self, Checksum, MAX_HEADER, Offload};

/// One IP packet for the device: header, then both parts of the payload.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// IP and TCP (or ICMP) header.
    pub header: &'a [u8],
    /// Payload, possibly empty.
    pub payload: [&'a [u8]; 2],
    /// What the device has to do.
    pub offload: Offload,
}

impl Transmit<'_> {
    /// Bytes of the packet.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.iter().map(|part| part.len()).sum::<usize>()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the payload of the packet in the outbox is.
#[derive(Clone, Copy, Debug, Default)]
enum Payload {
    /// There is no packet.
    #[default]
    Nothing,
    /// In the outbox: an echo reply.
    Copied,
    /// In a connection's send ring.
    Ring(u32, Transmission),
}

/// The packet under way.
pub(super) struct Outbox {
    header: [u8; MAX_HEADER],
    header_len: usize,
    offload: Offload,
    payload: Payload,
    copy: Vec<u8>,
    checksum_offload: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox {
            header: [0; MAX_HEADER],
            header_len: 0,
            offload: Offload::default(),
            payload: Payload::Nothing,
            copy: Vec::new(),
            checksum_offload: false,
        }
    }
}

impl Outbox {
    pub(super) fn set_checksum_offload(&mut self, on: bool) {
        self.checksum_offload = on;
    }

    fn header(&self) -> &[u8] {
        self.header.get(..self.header_len).unwrap_or_default()
    }

    /// The packet under way.
    fn packet<'a>(&'a self, conns: &'a Conns) -> Option<Transmit<'a>> {
        let payload: [&[u8]; 2] = match &self.payload {
            Payload::Nothing => return None,
            Payload::Copied => [&self.copy, &[]],
            Payload::Ring(slot, transmission) => conns.get(*slot)?.tcb.payload(transmission),
        };
        Some(Transmit { header: self.header(), payload, offload: self.offload })
    }
}

/// Which queue of dirty connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Device,
    Loopback,
}

impl Engine {
    /// Whether [`Engine::poll_transmit`] may have something: a packet, or work for the loopback.
    pub fn wants_transmit(&self) -> bool {
        !self.replies.is_empty() || !self.dirty.is_empty() || (!self.dirty_local.is_empty() && self.loopback.has_room())
    }

    /// The next packet for the device; call until `None`. A connection that got its turn goes to the end of the queue.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<'_>> {
        self.fill_loopback(now);
        self.outbox.payload = Payload::Nothing;
        if !self.emit_reply() {
            let (slot, transmission) = self.next_transmission(now, Lane::Device)?;
            self.emit(slot, &transmission, self.outbox.checksum_offload);
        }
        let Engine { stats, outbox, conns, .. } = self;
        let packet = outbox.packet(conns)?;
        stats.packets_out += 1;
        stats.bytes_out += u64::try_from(packet.len()).unwrap_or(0);
        Some(packet)
    }

    /// Builds the headers of a segment in the outbox.
    fn emit(&mut self, slot: u32, transmission: &Transmission, partial: bool) {
        let Engine { conns, outbox, .. } = self;
        let Some(conn) = conns.get(slot) else { return };
        let payload = conn.tcb.payload(transmission);
        let (len, checksum) = wire::emit_tcp(&mut outbox.header, &transmission.header, payload, partial);
        outbox.header_len = len;
        outbox.offload = Offload {
            checksum,
            segment_size: transmission.segment_size,
            header_len: u16::try_from(len).unwrap_or(u16::MAX),
        };
        outbox.payload = Payload::Ring(slot, *transmission);
    }

    /// Moves what goes to ourselves into the loopback queue, as far as there is room.
    fn fill_loopback(&mut self, now: Instant) {
        while self.loopback.has_room() {
            let Some((slot, transmission)) = self.next_transmission(now, Lane::Loopback) else { return };
            // Nobody will verify it: no checksum over the payload.
            self.emit(slot, &transmission, true);
            let Some(conn) = self.conns.get(slot) else { continue };
            self.loopback.push(self.outbox.header(), conn.tcb.payload(&transmission));
        }
    }

    /// The device takes nothing now: only what goes to ourselves moves on.
    pub fn transmit_local(&mut self, now: Instant) {
        self.fill_loopback(now);
        let shared = std::sync::Arc::clone(&self.shared);
        while let Some(reply) = self.replies.pop_first(|destination| shared.is_local(destination)) {
            self.build_reply(reply);
            self.loop_reply();
        }
        self.outbox.payload = Payload::Nothing;
    }

    /// The next segment of the connections of one lane, round robin.
    fn next_transmission(&mut self, now: Instant, lane: Lane) -> Option<(u32, Transmission)> {
        loop {
            let id = self.lane(lane).pop_front()?;
            let Some(slot) = self.conns.slot_of(id) else { continue };
            let Some((conn, mut cx)) = self.at(now, slot) else { continue };
            match conn.tcb.poll_transmit(&mut cx) {
                Some(transmission) => {
                    self.lane(lane).push_back(id);
                    self.mark(slot);
                    return Some((slot, transmission));
                }
                None => {
                    conn.queued = false;
                    self.settle(now, slot);
                }
            }
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut std::collections::VecDeque<ConnId> {
        match lane {
            Lane::Device => &mut self.dirty,
            Lane::Loopback => &mut self.dirty_local,
        }
    }

    /// A connection has nothing more to send for now: it ends, or says when to look at it again.
    fn settle(&mut self, now: Instant, slot: u32) {
        let Some(conn) = self.conns.get(slot) else { return };
        if conn.tcb.is_closed() {
            self.remove(slot);
            return;
        }
        self.deadlines.set(now, slot, conn.tcb.next_deadline());
        self.count(now, slot);
        // Only now: the SYN of the next connection must not overtake the last ACK of this one.
        if let Some(conn) = self.conns.get_mut(slot)
            && (conn.phase, conn.local, conn.claim) == (Phase::TimeWait, true, Claim::Held)
        {
            conn.claim = Claim::Retired;
            self.shared.registry().retire(&conn.key);
        }
    }

    /// Builds the next reply for the device in the outbox; those to ourselves go to the loopback. False: none is left.
    fn emit_reply(&mut self) -> bool {
        while let Some(reply) = self.replies.pop() {
            let local = self.shared.is_local(reply.destination());
            self.build_reply(reply);
            if !local {
                return true;
            }
            self.loop_reply();
        }
        false
    }

    fn build_reply(&mut self, reply: Reply) {
        let Outbox { header: out, header_len, offload, payload, copy, .. } = &mut self.outbox;
        match reply {
            Reply::Reset(header) => {
                *header_len = wire::emit_tcp(out, &header, [&[], &[]], false).0;
                copy.clear();
                self.stats.resets_out += 1;
            }
            Reply::Echo { ip, rest } => {
                *header_len = wire::emit_echo_reply(out, &ip, &rest);
                self.replies.recycle(std::mem::replace(copy, rest));
            }
        }
        *offload = Offload { checksum: Checksum::Complete, ..Offload::default() };
        *payload = Payload::Copied;
    }

    /// The reply in the outbox goes to ourselves.
    fn loop_reply(&mut self) {
        self.outbox.payload = Payload::Nothing;
        if self.loopback.has_room_for_reply() {
            self.loopback.push(self.outbox.header(), [&self.outbox.copy, &[]]);
        }
    }
}
