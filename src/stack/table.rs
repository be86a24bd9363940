//! What happens to a connection between input and output: opening, orders, deadlines, the bounded tables, the end.
//!
//! Every call into a control block is followed by [`Engine::after_event`]: nothing else decides where a connection counts,
//! when it is looked at next and when it is forgotten.

use super::demux::{Claim, Conn, Key, Orphan, Phase};
use super::{Connect, Engine, LOOPBACK};
use crate::error::ConnError;
use crate::pipe::{Demand, ListenerId, Rung};
use crate::tcb::{ActiveOpen, Cx, Tcb};
use crate::time::Instant;

/// Connections asked in one turn to give back memory.
const ASKED_PER_TURN: usize = 64;

impl Engine {
    /// Opens a connection: the SYN goes out at the next [`Engine::poll_transmit`].
    ///
    /// A stack whose `max_connections` is spent fails the pipe with `ConnectionLimit`, one without memory to receive anything
    /// with `MemoryBudget`.
    pub fn connect(&mut self, now: Instant, order: Connect) {
        // Or this SYN would overtake the ACK that ends an earlier connection's handshake, and find its place in the accept queue.
        self.stop_lingering();
        let Connect { mut pipe, tuple, options } = order;
        let key = Key::new(&tuple);
        // The registry made sure that no live connection has the tuple; a half-open one gives way, and so does a TIME-WAIT
        // if both ends are ours (Linux: `tcp_tw_reuse`, by default for loopback only, of records that are a second old).
        // Younger ones do here too: nothing overtakes anything in the loopback queue, and the ISS is beyond all that was.
        let iss = match self.conns.find(&key) {
            Some(slot) => {
                let iss = self.iss_after(now, slot, &tuple);
                self.remove(slot);
                iss
            }
            None => self.isn.iss(now, &tuple),
        };
        let limit = if self.counts.live >= self.shared.config.max_connections {
            Some(ConnError::ConnectionLimit)
        } else {
            // What comes for it could not be taken.
            (self.shared.budget.left_for(Demand::FirstPage) == 0).then_some(ConnError::MemoryBudget)
        };
        if let Some(limit) = limit {
            self.shared.registry().release(&key);
            pipe.fail(limit);
            self.stats.wakes += u64::try_from(pipe.wake()).unwrap_or(0);
            return;
        }
        let local = self.shared.is_local(tuple.remote.ip());
        let ts_offset = self.isn.ts_offset(&tuple);
        self.stats.active_opens += 1;
        let Engine { conns, shared, stats, senders, path, .. } = self;
        let path = if local { LOOPBACK } else { *path };
        let id = conns.insert(key, |id| {
            pipe.adopt(id, &shared.doorbell, &shared.budget);
            let mut cx = Cx { now, config: &shared.config, stats, senders, path };
            let tcb = Tcb::connect(&mut cx, ActiveOpen { tuple, iss, ts_offset, options, pipe });
            Conn { claim: Claim::Held, ..Conn::new(tcb, key, id, local) }
        });
        self.counts.live += 1;
        self.after_event(now, id.index);
    }

    /// Drains the doorbell: users have written, read, shut down or dropped; listeners have closed. ACKs that waited for
    /// their users wait no longer.
    pub fn poll_orders(&mut self, now: Instant) {
        self.stop_lingering();
        let mut rungs = std::mem::take(&mut self.rungs);
        self.shared.doorbell.drain(&mut rungs);
        for rung in rungs.drain(..) {
            match rung {
                Rung::Conn(id) => {
                    if let Some(slot) = self.conns.slot_of(id) {
                        if self.take_orders(now, slot) {
                            self.starved.push(id);
                        }
                        self.after_event(now, slot);
                    }
                }
                Rung::Listener(id) => self.forget_half_open(id),
                // This turn ends as every turn.
                Rung::Counters => {}
            }
        }
        self.rungs = rungs;
    }

    /// Lets ACKs go that waited for their users.
    fn stop_lingering(&mut self) {
        let mut lingering = std::mem::take(&mut self.lingering);
        for id in lingering.drain(..) {
            let Some(slot) = self.conns.slot_of(id) else { continue };
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.tcb.stop_lingering();
            }
            self.mark(slot);
        }
        self.lingering = lingering;
    }

    /// Answers whether the connection's writer waits for the memory budget from now on.
    fn take_orders(&mut self, now: Instant, slot: u32) -> bool {
        let Some((conn, mut cx)) = self.at(now, slot) else { return false };
        let was_starved = conn.tcb.is_starved();
        conn.tcb.on_orders(&mut cx);
        conn.tcb.is_starved() && !was_starved
    }

    /// Wakes writers that found the memory budget spent, once there is some again. All are asked, also if there is some only
    /// for those whose send buffer is empty.
    fn feed_starved(&mut self) {
        if self.starved.is_empty() || self.shared.budget.available_first() == 0 {
            return;
        }
        for id in std::mem::take(&mut self.starved) {
            let Some(slot) = self.conns.slot_of(id) else { continue };
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.tcb.retry_budget();
                if conn.tcb.is_starved() {
                    // None for this one, or another thread wrote in between and took it.
                    self.starved.push(id);
                    continue;
                }
            }
            self.mark(slot);
        }
    }

    /// A listener is gone: its half-open connections go with it, silently; a peer's next segment is answered by RST.
    fn forget_half_open(&mut self, id: ListenerId) {
        if !self.half_open.contains_key(&id) || self.shared.registry().listener(id).is_some() {
            return;
        }
        let slots: Vec<u32> =
            self.conns.iter().filter(|(_, conn)| conn.listener == Some(id)).map(|(slot, _)| slot).collect();
        for slot in slots {
            self.remove(slot);
        }
    }

    /// Under memory pressure, asks some connections in turn for what they do not need. As many as a turn reads packets,
    /// so that a page comes back for each that is filled.
    fn relieve(&mut self, now: Instant) {
        if !self.shared.budget.is_tight() {
            return;
        }
        for _ in 0..ASKED_PER_TURN {
            let slot = self.asked_next;
            self.asked_next = if slot < self.conns.slots() { slot + 1 } else { 0 };
            if let Some((conn, mut cx)) = self.at(now, slot) {
                conn.tcb.on_pressure(&mut cx);
            }
        }
    }

    /// Handles every deadline that is due, and memory pressure.
    pub fn on_deadlines(&mut self, now: Instant) {
        self.relieve(now);
        self.deadlines.come_up(now);
        // A deadline that a control block sets anew is placed when it has nothing more to send: this loop ends.
        while let Some(slot) = self.deadlines.pop_due(now) {
            if let Some((conn, mut cx)) = self.at(now, slot) {
                conn.tcb.on_timeout(&mut cx);
            }
            self.after_event(now, slot);
        }
    }

    /// Resets every connection: RSTs are owed.
    pub fn abort_all(&mut self, now: Instant) {
        self.for_all(now, |conn, cx| conn.tcb.abort(cx));
    }

    /// The reactor is about to be dropped: FIN where everything is sent, else RST. Transmit afterwards, then drop.
    ///
    /// Not between our own addresses: there the other end would take the FIN for the end of the text, and both are about to
    /// hear that the network is down.
    pub fn last_gasp(&mut self, now: Instant) {
        self.for_all(now, |conn, cx| {
            if !conn.local {
                conn.tcb.last_gasp(cx);
            }
        });
    }

    fn for_all(&mut self, now: Instant, mut f: impl FnMut(&mut Conn, &mut Cx<'_>)) {
        let slots: Vec<u32> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            if let Some((conn, mut cx)) = self.at(now, slot) {
                f(conn, &mut cx);
            }
            self.after_event(now, slot);
        }
    }

    /// Ends a turn: users are woken and see what happened, the counters are published.
    pub fn end_turn(&mut self) {
        self.feed_starved();
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            let Some(slot) = self.conns.slot_of(id) else { continue };
            if let Some(conn) = self.conns.get_mut(slot) {
                conn.touched = false;
                self.stats.wakes += u64::try_from(conn.tcb.end_turn()).unwrap_or(0);
            }
        }
        self.touched = touched;
        self.shared.stats.publish(|published| published.clone_from(&self.stats));
    }

    /// A connection and what its control block needs from outside.
    pub(super) fn at(&mut self, now: Instant, slot: u32) -> Option<(&mut Conn, Cx<'_>)> {
        let conn = self.conns.get_mut(slot)?;
        let path = if conn.local { LOOPBACK } else { self.path };
        let Engine { shared, stats, senders, .. } = self;
        Some((conn, Cx { now, config: &shared.config, stats, senders, path }))
    }

    /// Something happened to the connection in `slot`: it gets a turn to transmit and one to wake its user.
    pub(super) fn after_event(&mut self, now: Instant, slot: u32) {
        let Some(conn) = self.conns.get(slot) else { return };
        if conn.tcb.is_closed() {
            self.remove(slot);
            return;
        }
        let lingers = conn.tcb.is_lingering().then(|| conn.id(slot));
        self.count(now, slot);
        self.mark(slot);
        if let Some(id) = lingers
            && self.lingering.last() != Some(&id)
        {
            self.lingering.push(id);
        }
    }

    /// Queues a connection for transmission and for `end_turn`.
    pub(super) fn mark(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let id = conn.id(slot);
        if !std::mem::replace(&mut conn.queued, true) {
            let queue = if conn.local { &mut self.dirty_local } else { &mut self.dirty };
            queue.push_back(id);
        }
        if !std::mem::replace(&mut conn.touched, true) {
            self.touched.push(id);
        }
    }

    /// Keeps the counts, and the bounds on TIME-WAIT records and orphans.
    pub(super) fn count(&mut self, now: Instant, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let (id, before, phase) = (conn.id(slot), conn.phase, conn.current_phase());
        conn.phase = phase;
        let was_orphan = conn.orphan;
        if was_orphan != Orphan::Evicted {
            let is_orphan = phase == Phase::Live && conn.tcb.is_orphan();
            conn.orphan = if is_orphan { Orphan::Counted } else { Orphan::No };
        }
        let is_orphan = conn.orphan;
        if before != phase {
            *self.counter(before) -= 1;
            *self.counter(phase) += 1;
            if phase == Phase::TimeWait {
                let (conns, alive) = (&self.conns, self.counts.time_wait);
                self.time_waits.push(id, alive, |id| {
                    conns.slot_of(id).and_then(|slot| conns.get(slot)).is_some_and(|conn| conn.phase == Phase::TimeWait)
                });
                self.evict_time_waits();
            }
        }
        match (was_orphan, is_orphan) {
            (Orphan::No, Orphan::Counted) => {
                self.counts.orphans += 1;
                let (conns, alive) = (&self.conns, self.counts.orphans);
                self.orphans.push(id, alive, |id| {
                    conns
                        .slot_of(id)
                        .and_then(|slot| conns.get(slot))
                        .is_some_and(|conn| conn.orphan == Orphan::Counted)
                });
                self.evict_orphans(now);
            }
            (Orphan::Counted, Orphan::No) => self.counts.orphans -= 1,
            _ => {}
        }
    }

    pub(super) fn counter(&mut self, phase: Phase) -> &mut usize {
        match phase {
            Phase::HalfOpen => &mut self.counts.half_open,
            Phase::Live => &mut self.counts.live,
            Phase::TimeWait => &mut self.counts.time_wait,
        }
    }

    /// Linux drops the newest when `tcp_max_tw_buckets` is reached; the oldest is nearest to its end anyway.
    fn evict_time_waits(&mut self) {
        while self.counts.time_wait > self.shared.config.max_time_wait {
            let Some(oldest) = self.time_waits.pop_oldest() else { return };
            let slot = self.conns.slot_of(oldest);
            let slot = slot.filter(|&slot| self.conns.get(slot).is_some_and(|conn| conn.phase == Phase::TimeWait));
            if let Some(slot) = slot {
                self.remove(slot);
            }
        }
    }

    /// reliability.md A27: over the bound the oldest orphan is reset.
    fn evict_orphans(&mut self, now: Instant) {
        while self.counts.orphans > self.shared.config.max_orphans {
            let Some(oldest) = self.orphans.pop_oldest() else { return };
            let Some(slot) = self.conns.slot_of(oldest) else { continue };
            let Some((conn, mut cx)) = self.at(now, slot) else { continue };
            if conn.orphan != Orphan::Counted {
                continue;
            }
            conn.orphan = Orphan::Evicted;
            conn.tcb.abort(&mut cx);
            self.counts.orphans -= 1;
            self.mark(slot);
        }
    }

    /// Forgets a connection: its tuple is free, its user is told.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(mut conn) = self.conns.remove(slot) else { return };
        self.deadlines.forget(slot);
        *self.counter(conn.phase) -= 1;
        if conn.orphan == Orphan::Counted {
            self.counts.orphans -= 1;
        }
        if let Some(listener) = conn.listener {
            self.leave_listener(listener);
        }
        // Before the user hears of the end: its next bind or connect finds the tuple free.
        match conn.claim {
            Claim::No => {}
            Claim::Held => self.shared.registry().release(&conn.key),
            Claim::Retired => self.shared.registry().release_retired(&conn.key),
        }
        self.stats.wakes += u64::try_from(conn.tcb.end_turn()).unwrap_or(0);
    }

    /// A half-open connection of a listener is none any more.
    pub(super) fn leave_listener(&mut self, id: ListenerId) {
        if let Some(count) = self.half_open.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.half_open.remove(&id);
            }
        }
    }
}
