//! Packets in: address checks, demultiplexing, listeners, completion of half-open connections.
//!
//! Answers nothing itself: resets and echoes are queued in `reply`, everything else is a control block's business.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::addresses::{is_bad_source, is_local};
use super::demux::{Claim, Conn, Key, Phase};
use super::listener::Accepting;
use super::registry::Reuse;
use super::reply::reset_for;
use super::{Engine, LOOPBACK};
use crate::pipe::{ConnId, pipe};
use crate::stats::DropReason;
use crate::tcb::{Cx, PassiveOpen, Tcb, Verdict};
use crate::time::Instant;
use crate::wire::{self, Body, Checksum, Flags, FourTuple, Offload, Segment, Seq};

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The device: anybody may have made it.
    Device,
    /// Ourselves.
    Loopback,
}

impl Engine {
    /// An IP packet arrives from the device; a large one carries its segment size in `offload`.
    pub fn receive(&mut self, now: Instant, packet: &[u8], offload: Offload) {
        self.count_in(packet.len());
        self.process(now, Origin::Device, packet, offload);
    }

    pub(super) fn count_in(&mut self, len: usize) {
        self.stats.packets_in += 1;
        self.stats.bytes_in += u64::try_from(len).unwrap_or(0);
    }

    /// Whether packets to our own addresses wait.
    pub fn has_local(&self) -> bool {
        !self.loopback.is_empty()
    }

    /// Processes up to `budget` packets to our own addresses; returns how many there were.
    pub fn receive_local(&mut self, now: Instant, budget: usize) -> usize {
        for done in 0..budget {
            let Some(packet) = self.loopback.pop() else { return done };
            // It never left this memory: there is nothing to verify.
            let offload = Offload { checksum: Checksum::Verified, ..Offload::default() };
            self.process(now, Origin::Loopback, &packet, offload);
            self.loopback.recycle(packet);
        }
        budget
    }

    fn process(&mut self, now: Instant, origin: Origin, packet: &[u8], offload: Offload) {
        match wire::parse_received(packet, offload) {
            Err(reason) => self.stats.drop_packet(reason),
            Ok(parsed) => match parsed.body {
                Body::Tcp { tuple, seg } => self.on_tcp(now, origin, &tuple, &seg),
                Body::EchoRequest { rest } => self.on_echo_request(origin, parsed.ip, rest),
                Body::IcmpError(error) => self.on_icmp_error(now, origin, parsed.ip, error),
            },
        }
    }

    /// Whether a packet may come from `src` to `dst`. Not asked for segments of a connection: both were checked when it
    /// was opened.
    ///
    /// # Errors
    /// `NotForUs`, `BadSource`.
    pub(super) fn check_addresses(&self, origin: Origin, src: IpAddr, dst: IpAddr) -> Result<(), DropReason> {
        let addresses = &self.shared.config.addresses;
        // RFC 1122 §3.2.1.3: addresses of the form 127/8 must not appear outside of a host.
        if !is_local(addresses, dst) || (origin == Origin::Device && dst.is_loopback()) {
            return Err(DropReason::NotForUs);
        }
        if origin == Origin::Device && is_bad_source(addresses, src) {
            return Err(DropReason::BadSource);
        }
        Ok(())
    }

    fn on_tcp(&mut self, now: Instant, origin: Origin, tuple: &FourTuple, seg: &Segment<'_>) {
        let key = Key::new(tuple);
        let Some(slot) = self.conns.find(&key) else {
            self.on_unknown(now, origin, tuple, seg);
            return;
        };
        let Some((conn, mut cx)) = self.at(now, slot) else { return };
        if conn.local != (origin == Origin::Loopback) {
            // Off the device with our own address as its source (LAND, reliability.md A16).
            self.stats.drop_packet(DropReason::BadSource);
            return;
        }
        let (id, verdict) = (conn.id(slot), conn.tcb.on_segment(&mut cx, seg));
        if origin == Origin::Device {
            self.prediction.on_segment(now, id, seg);
        }
        self.on_verdict(now, slot, verdict, (tuple, seg));
    }

    /// Does what a control block asks for about a segment.
    pub(super) fn on_verdict(
        &mut self,
        now: Instant,
        slot: u32,
        verdict: Verdict,
        (tuple, seg): (&FourTuple, &Segment<'_>),
    ) {
        match verdict {
            Verdict::Done => self.after_event(now, slot),
            Verdict::Reset => {
                // Asked before the connection may be gone.
                let origin = self.origin_of(slot);
                self.after_event(now, slot);
                self.reset(now, origin, tuple, seg);
            }
            Verdict::WantsPipe => self.complete(now, slot, tuple, seg),
            Verdict::NewSyn => self.reuse_time_wait(now, slot, tuple, seg),
        }
    }

    /// RFC 9293 §3.10.7.1 and §3.10.7.2: no connection has this tuple.
    fn on_unknown(&mut self, now: Instant, origin: Origin, tuple: &FourTuple, seg: &Segment<'_>) {
        if let Err(reason) = self.check_addresses(origin, tuple.remote.ip(), tuple.local.ip()) {
            self.stats.drop_packet(reason);
            return;
        }
        // RFC 9293 §3.10.7.2: a RST is ignored; an ACK is answered by RST whether or not somebody listens.
        let listener = if seg.flags.intersects(Flags::RST | Flags::ACK) {
            None
        } else {
            self.shared.registry().find_listener(&Key::new(tuple))
        };
        let refused = match listener {
            None => {
                self.reset(now, origin, tuple, seg);
                Some(DropReason::NoSocket)
            }
            // §3.10.7.2: other control or text: dropped. SYN with FIN is no way to begin, as in Linux.
            Some(_) if !seg.has(Flags::SYN) || seg.has(Flags::FIN) => Some(DropReason::BadState),
            Some(listener) => self.passive_open(now, None, &listener, (tuple, seg)).err(),
        };
        if let Some(reason) = refused {
            self.stats.drop_packet(reason);
        }
    }

    /// A SYN at a listener becomes a half-open connection: a record, no buffers (reliability.md A8). `iss`: forced.
    fn passive_open(
        &mut self,
        now: Instant,
        iss: Option<Seq>,
        listener: &Accepting,
        (tuple, seg): (&FourTuple, &Segment<'_>),
    ) -> Result<(), DropReason> {
        let config = &self.shared.config;
        let of_listener = self.half_open.get(&listener.id).copied().unwrap_or(0);
        if self.counts.half_open >= config.max_half_open || of_listener >= listener.max_syn_backlog {
            return Err(DropReason::SynQueueFull);
        }
        // As Linux: a listener that can't hand out what it has takes no more.
        if !listener.queue.has_room() {
            return Err(DropReason::AcceptQueueFull);
        }
        // reliability.md A29: under memory pressure SYNs are refused first.
        if self.counts.live >= config.max_connections || self.shared.budget.is_tight() {
            return Err(DropReason::NoMemory);
        }
        let key = Key::new(tuple);
        let local = self.shared.is_local(tuple.remote.ip());
        let iss = iss.unwrap_or_else(|| self.isn.iss(now, tuple));
        let ts_offset = self.isn.ts_offset(tuple);
        let open = PassiveOpen { tuple: *tuple, iss, ts_offset, options: listener.options };
        let Engine { conns, shared, stats, senders, path, .. } = self;
        let path = if local { LOOPBACK } else { *path };
        let id = conns.insert(key, |id| {
            let mut cx = Cx { now, config: &shared.config, stats, senders, path };
            let tcb = Tcb::accept(&mut cx, open, seg);
            Conn { listener: Some(listener.id), phase: Phase::HalfOpen, ..Conn::new(tcb, key, id, local) }
        });
        self.counts.half_open += 1;
        *self.half_open.entry(listener.id).or_default() += 1;
        self.after_event(now, id.index);
        Ok(())
    }

    /// The handshake of a half-open connection is complete: now it gets its buffers (design.md §1).
    fn complete(&mut self, now: Instant, slot: u32, tuple: &FourTuple, seg: &Segment<'_>) {
        let Some(conn) = self.conns.get(slot) else { return };
        let id = conn.id(slot);
        let accepting = conn.listener.and_then(|listener| self.shared.registry().accepting(listener));
        let Some(accepting) = accepting else {
            // The listener is gone, its doorbell not heard yet.
            self.reset(now, self.origin_of(slot), tuple, seg);
            self.stats.drop_packet(DropReason::NoSocket);
            self.remove(slot);
            return;
        };
        match self.hand_out(now, id, &accepting, seg) {
            Ok(Verdict::Reset) => self.reset(now, self.origin_of(slot), tuple, seg),
            Ok(_) => {}
            // As Linux: the final ACK is ignored, the SYN-ACK's retransmission or the client's data brings it again.
            Err(reason) => {
                self.stats.drop_packet(reason);
                if reason == DropReason::BadState {
                    self.remove(slot);
                }
            }
        }
        self.after_event(now, slot);
    }

    fn origin_of(&self, slot: u32) -> Origin {
        if self.conns.get(slot).is_some_and(|conn| conn.local) { Origin::Loopback } else { Origin::Device }
    }

    /// Reserves the buffers, wires them up, feeds the segment again and puts the user's end into the accept queue.
    fn hand_out(
        &mut self,
        now: Instant,
        id: ConnId,
        accepting: &Accepting,
        seg: &Segment<'_>,
    ) -> Result<Verdict, DropReason> {
        if !accepting.queue.has_room() {
            return Err(DropReason::AcceptQueueFull);
        }
        if self.counts.live >= self.shared.config.max_connections {
            return Err(DropReason::NoMemory);
        }
        let options = accepting.options;
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let region = self.shared.budget.region(size(options.send_buffer), size(options.recv_buffer));
        let region = region.map_err(|_| DropReason::NoMemory)?;
        let (slot, shared) = (id.index, std::sync::Arc::clone(&self.shared));
        let Some((conn, mut cx)) = self.at(now, slot) else { return Err(DropReason::BadState) };
        let key = conn.key;
        // A connect of ours from the listening port to that very peer came first.
        if !shared.registry().adopt(&key, Reuse::of(&options)) {
            return Err(DropReason::BadState);
        }
        let (user, mut stack_end) = pipe(region, options);
        stack_end.adopt(id, &shared.doorbell, &shared.budget);
        let mut remote = key.remote();
        if accepting.v6 && remote.is_ipv4() {
            stack_end.show_mapped();
            remote = SocketAddr::V6(SocketAddrV6::new(key.mapped_remote(), remote.port(), 0, 0));
        }
        conn.claim = Claim::Held;
        conn.listener = None;
        conn.tcb.establish(&mut cx, stack_end);
        let verdict = conn.tcb.on_segment(&mut cx, seg);
        self.leave_listener(accepting.id);
        self.count(now, slot);
        self.stats.passive_opens += 1;
        // Also if it is half-closed or reset by now: accept hands out what was established, as Linux does.
        let woken = accepting.queue.push(user, remote);
        self.stats.wakes += u64::try_from(woken).unwrap_or(0);
        Ok(verdict)
    }

    /// A SYN that may take over a TIME-WAIT (RFC 6191), if somebody listens.
    fn reuse_time_wait(&mut self, now: Instant, slot: u32, tuple: &FourTuple, seg: &Segment<'_>) {
        if seg.has(Flags::FIN) {
            // As in `on_unknown`.
            self.stats.drop_packet(DropReason::BadState);
            return;
        }
        let origin = self.origin_of(slot);
        let listener = self.shared.registry().find_listener(&Key::new(tuple));
        let Some(listener) = listener else {
            self.reset(now, origin, tuple, seg);
            self.stats.drop_packet(DropReason::NoSocket);
            return;
        };
        let iss = self.iss_after(now, slot, tuple);
        self.remove(slot);
        if let Err(reason) = self.passive_open(now, Some(iss), &listener, (tuple, seg)) {
            self.stats.drop_packet(reason);
        }
    }

    /// The ISS of a connection that takes the place of the one in `slot`.
    pub(super) fn iss_after(&mut self, now: Instant, slot: u32, tuple: &FourTuple) -> Seq {
        let clock = self.isn.iss(now, tuple);
        match self.conns.get(slot).map(|conn| &conn.tcb) {
            // RFC 9293 §3.6.1 (MAY-2): larger than any number of the connection before; the distance is Linux's.
            Some(Tcb::TimeWait(record)) => clock.max(record.snd_nxt() + 65_537),
            _ => clock,
        }
    }

    /// Owes a RST for `seg`, where one may be sent.
    fn reset(&mut self, now: Instant, origin: Origin, tuple: &FourTuple, seg: &Segment<'_>) {
        if let Some(header) = reset_for(tuple, seg, self.shared.config.socket.ttl) {
            // Over the limit the segment has died for another reason already, under which it is counted.
            let _ = self.replies.push_reset(now, header, origin == Origin::Device);
        }
    }
}
