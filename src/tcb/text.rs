//! The seventh and eighth checks of RFC 9293 §3.10.7.4: text and FIN. Text lands in the receive ring at once, in order or not.

use std::ops::ControlFlow;

use super::input::{Check, DROP};
use super::recv::{Room, choose_window, first_promise};
use super::send::announced_mss;
use super::state::Event;
use super::{Cx, Open, Verdict};
use crate::error::ConnError;
use crate::pipe::State;
use crate::stats::DropReason;
use crate::wire::{Flags, Segment};

/// Bytes of text that are full-sized before any has been seen (Linux's TCP_MSS_DEFAULT for `rcv_mss`).
const ASSUMED_MSS: u16 = 536;

impl Open {
    /// For how much text there is a place to land before anything is known of it: the part of the free region that was
    /// promised and is paid for. None while bytes wait out of order, for a stranger's packet may land on them; nor when no
    /// more text is expected.
    pub(super) fn prepare_landing(&mut self, len: usize) -> usize {
        if !self.expects_text() {
            return 0;
        }
        self.pipe.recv_rewind();
        len.min(usize::try_from(self.rcv.wnd()).unwrap_or(0)).min(self.pipe.recv_covered())
    }

    /// That place. The user may have read since; the ring must not rewind before the text is published or forgotten.
    pub(super) fn landing(&mut self, len: usize) -> [&mut [u8]; 2] {
        self.pipe.recv_landing(len)
    }

    /// Whether the segment, whose text has landed, is the one that belongs there: every check of its arrival will leave
    /// text and sequence number as they are.
    pub(super) fn expects(&self, seg: &Segment<'_>) -> bool {
        seg.seq == self.rcv.nxt
            && seg.flags.without(Flags::PSH) == Flags::ACK
            && seg.text_len() <= self.rcv.wnd()
            && self.expects_text()
    }

    fn expects_text(&self) -> bool {
        let open = self.life.state() != State::Closed && self.rcv.fin.is_none() && !self.orphaned;
        open && self.rcv.assembler.is_empty()
    }

    /// Seventh, process the segment text.
    pub(super) fn check_text(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Check {
        if seg.text_len() == 0 {
            return Check::Continue(());
        }
        if self.life.has_received_fin() {
            // Trimmed to the FIN already; whatever is left lies before it and has been taken.
            self.owed.owe(self.rcv.nxt);
            return Check::Continue(());
        }
        if self.orphaned {
            // RFC 9293 §3.10.7.4 and §3.6.1: nobody will read it. Linux: tcp_rcv_state_process, TCPABORTONDATA.
            cx.stats.drop_packet(DropReason::NoSocket);
            if self.unsent() > 0 {
                // Written before the drop, in this turn perhaps: Linux's write has sent it by then.
                self.reset_at_last(ConnError::Aborted);
                return DROP;
            }
            self.end(ConnError::Aborted);
            return ControlFlow::Break(Verdict::Reset);
        }
        self.last_text = cx.now;
        self.arm_idle(cx.now);
        let offset = seg.seq.saturating_offset_from(self.rcv.nxt);
        let mss = announced_mss(self.path, &self.id.tuple.remote, self.id.mss_clamp);
        self.rcv.mss = self.rcv.mss.max(u16::try_from(seg.text_len()).unwrap_or(u16::MAX).min(mss));
        let in_order = offset == 0 && self.rcv.assembler.is_empty();
        if seg.landed > 0 {
            // In place and paid for; the ring must not rewind any more.
            debug_assert!(in_order, "landed where it does not belong");
            self.on_text_in_order(cx, seg.landed);
            return Check::Continue(());
        }
        if in_order {
            self.pipe.recv_rewind();
        }
        let Some(paid) = self.pay_for(seg, offset) else {
            // Not acknowledged: the peer sends it again.
            cx.stats.drop_packet(DropReason::NoMemory);
            return DROP;
        };
        if in_order {
            self.pipe.recv_write_at(0, paid.payload);
            self.on_text_in_order(cx, paid.text_len());
        } else {
            self.on_text_with_holes(cx, &paid, offset);
        }
        if paid.text_len() < seg.text_len() { DROP } else { Check::Continue(()) }
    }

    /// Takes the memory for a segment's text from the stack's budget: as much of the text as there is memory for. The
    /// window was promised when there was some, perhaps; others may have filled theirs first.
    fn pay_for<'a>(&mut self, seg: &Segment<'a>, offset: u32) -> Option<Segment<'a>> {
        let offset = offset as usize;
        let end = offset.saturating_add(seg.payload.len());
        let room = self.pipe.cover(end).saturating_sub(offset);
        let payload = seg.payload.get(..room).unwrap_or(seg.payload);
        (!payload.is_empty()).then_some(Segment { payload, ..*seg })
    }

    /// RFC 5681 §4.2: out of order, or filling a gap: an ACK of its own either way.
    fn on_text_with_holes(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>, offset: u32) {
        let end = offset.saturating_add(seg.text_len());
        let pipe = &mut self.pipe;
        let taken = self.rcv.assembler.insert(offset, end, &mut |start, len| {
            let from = start.saturating_sub(offset) as usize;
            let part = seg.payload.get(from..from.saturating_add(len as usize)).unwrap_or_default();
            pipe.recv_write_at(start as usize, part);
        });
        if taken.is_err() {
            cx.stats.drop_packet(DropReason::TooManyRanges);
        } else if offset == 0 {
            let further = self.rcv.assembler.advance(end);
            self.on_text_in_order(cx, end.saturating_add(further));
        }
        // The assembler may have given up its farthest range for this one: that must not keep the memory.
        self.pipe.recv_discard_beyond(self.rcv.assembler.highest().unwrap_or(0) as usize);
        if offset > 0 && self.rcv.acked != self.rcv.nxt && self.owed.is_only_shared(self.rcv.nxt) {
            // To the peer the first ACK with a number is a new one, and it counts duplicates.
            self.owed.owe(self.rcv.nxt);
        }
        if offset > 0 || self.rcv.fin != Some(self.rcv.nxt) {
            self.owed.owe(self.rcv.nxt);
        }
        // Else the FIN behind the gap is reached: its ACK covers both.
    }

    /// `len` bytes at RCV.NXT are in the ring.
    fn on_text_in_order(&mut self, cx: &Cx<'_>, len: u32) {
        self.pipe.recv_publish(len as usize);
        self.rcv.nxt += len;
        self.bytes_received = self.bytes_received.saturating_add(u64::from(len));
        self.rcv.unacked = self.rcv.unacked.saturating_add(len);
        self.tune_window(cx, len as usize);
        if self.options.quickack {
            self.owed.owe_shared();
            return;
        }
        // RFC 9293 §3.8.6.3 (MUST-40): within the delay. Deviates from SHLD-19, an ACK for every second full-sized segment:
        // one that left before the owner has read would tell of less room, so that a second must follow. So it waits until
        // the owner could. Linux waits as well where the window would shrink (`__tcp_ack_snd_check`).
        if self.rcv.unacked >= 2 * u32::from(self.rcv.mss.max(ASSUMED_MSS)) {
            self.owe_after_owner(cx);
        } else {
            self.arm_delayed_ack(cx);
        }
    }

    /// An ACK that waits for its owner's pass; like each that waits not longer than the delay of RFC 9293 §3.8.6.3 (MUST-40): an
    /// owner that computes may hold the thread on which its pass would end.
    pub(super) fn owe_after_owner(&mut self, cx: &Cx<'_>) {
        self.owed.owe_after_owner();
        self.arm_delayed_ack(cx);
    }

    fn arm_delayed_ack(&mut self, cx: &Cx<'_>) {
        self.timers.delayed_ack.get_or_insert(cx.now + cx.config.delayed_ack);
    }

    /// Receive window auto-tuning: the promise doubles when the peer fills half of it within two round trips and the user
    /// keeps up (after Linux's tcp_rcv_space_adjust). Every byte is taken from the stack's budget first.
    fn tune_window(&mut self, cx: &Cx<'_>, len: usize) {
        // No more than the window field can say.
        let capacity = self.pipe.recv_capacity().min(usize::from(u16::MAX) << self.rcv.wscale);
        // It may not have been possible when the window grew.
        self.widen_ring();
        let (since, bytes) = &mut self.rcv.measured;
        *bytes = bytes.saturating_add(len);
        if self.rcv.granted >= capacity {
            return;
        }
        let period = self.rtt.srtt().unwrap_or_default().max(std::time::Duration::from_millis(10)) * 2;
        if cx.now.since(*since) > period {
            self.rcv.measured = (cx.now, len);
        } else if *bytes >= self.rcv.granted / 2 && self.pipe.recv_len().saturating_sub(len) <= self.rcv.granted / 2 {
            // What came just now the user could not have read yet: one large segment may fill the promise.
            let more = self.rcv.granted.min(capacity - self.rcv.granted);
            self.grow_promise(more);
            self.rcv.measured = (cx.now, 0);
        }
    }

    /// Without text for a while, or under memory pressure: what an empty ring holds goes back, and the promise shrinks to
    /// the first as the peer uses it up. Text that comes all the same is paid for when it comes.
    pub(super) fn release_memory(&mut self, cx: &Cx<'_>) {
        if self.pipe.recv_trim() {
            self.rcv.granted = first_promise(self.pipe.recv_capacity(), cx.config.memory_budget);
            self.pipe.set_read_step(self.unread_step());
        }
    }

    /// Takes up to `more` bytes of promise from the budget. The user tells of reads when they open the window: how much
    /// that takes has changed.
    fn grow_promise(&mut self, more: usize) {
        self.rcv.granted += self.pipe.promise(more);
        self.widen_ring();
        self.pipe.set_read_step(self.unread_step());
    }

    /// The ring goes round within what is granted, and what rounding the window may add: the text of a slow reader does not
    /// wander through the whole buffer, page by page on the budget.
    pub(super) fn ring_span(&self) -> usize {
        (self.rcv.granted + (1 << self.rcv.wscale)).min(self.pipe.recv_capacity())
    }

    /// Never narrower: more may be promised still.
    fn widen_ring(&mut self) {
        let span = self.ring_span();
        if self.pipe.recv_span() < span {
            self.pipe.fit_recv(span);
        }
    }

    /// How many bytes must still be read for the window to open by two segments or half of what is granted.
    fn unread_step(&self) -> usize {
        let mss = announced_mss(self.path, &self.id.tuple.remote, self.id.mss_clamp);
        // No less than what moves the edge in `choose_window`.
        let segments = usize::from(self.rcv.mss.max(ASSUMED_MSS)).saturating_mul(2).max(usize::from(mss));
        // Nor more than the window field can say.
        let most = usize::from(u16::MAX) << self.rcv.wscale;
        let step = segments.min(self.rcv.granted.min(most) / 2).max(1);
        let wanted = self.rcv.granted.saturating_sub(self.pipe.recv_len()).min(self.pipe.recv_free()).min(most);
        step.saturating_sub(wanted.saturating_sub(usize::try_from(self.rcv.wnd()).unwrap_or(usize::MAX)))
    }

    /// Eighth, check the FIN bit.
    pub(super) fn check_fin(&mut self, cx: &Cx<'_>, seg: &Segment<'_>) {
        if seg.has(Flags::FIN) {
            let at = seg.seq + seg.text_len();
            // What was taken beyond the FIN is not part of the stream; whoever sent it contradicts himself.
            let beyond = self.rcv.assembler.highest().is_some_and(|end| (self.rcv.nxt + end).is_after(at));
            if self.rcv.fin.is_none() && !beyond {
                self.rcv.fin = Some(at);
            }
            if at.is_after(self.rcv.nxt) && seg.payload.is_empty() {
                // RFC 5681 §4.2: out of order. With text in front of it, the text owes the ACK.
                self.owed.owe(self.rcv.nxt);
            }
            if self.life.has_received_fin() {
                // A repeated FIN: its ACK was lost.
                self.owed.owe(self.rcv.nxt);
            }
        }
        if self.rcv.fin != Some(self.rcv.nxt) || self.life.has_received_fin() {
            return;
        }
        self.rcv.nxt += 1;
        self.rcv.adv = self.rcv.adv.max(self.rcv.nxt);
        self.pipe.on_fin();
        if self.life.state() == State::Established && !self.orphaned {
            // Most owners close at once: then one segment says both.
            self.owe_after_owner(cx);
        } else {
            self.owed.owe_shared();
        }
        self.life.on(Event::FinArrives);
    }

    /// The window field of the next segment; moves RCV.ADV, never to the left.
    pub(super) fn advertise(&mut self) -> u16 {
        let (edge, field) = self.window();
        self.rcv.adv = self.rcv.nxt + edge;
        field
    }

    /// The right edge, from RCV.NXT, that the next segment would tell, and its window field.
    pub(super) fn window(&self) -> (u32, u16) {
        // After the FIN nothing more is expected; the promise simply stands.
        let free = if self.life.has_received_fin() { self.rcv.wnd() as usize } else { self.pipe.recv_free() };
        let mss = announced_mss(self.path, &self.id.tuple.remote, self.id.mss_clamp);
        let wanted = self.rcv.granted.saturating_sub(self.pipe.recv_len());
        let room = Room {
            free,
            // reliability.md A29: when the budget is spent, windows close.
            wanted: wanted.min(self.pipe.recv_affordable()),
            capacity: self.rcv.granted,
            mss,
        };
        choose_window(self.rcv.wnd(), room, self.rcv.wscale)
    }

    /// The user has read: tell the peer if the window opens by two segments or half the buffer (RFC 9293 §3.8.6.2.2).
    pub(super) fn on_read(&mut self) {
        let mut opened = self.unread_step() == 0;
        if !opened {
            // ACKs have opened part of it meanwhile. The next order has to come when the rest is read, not a whole step
            // later, which may be never; and what was read while this was being said is looked at again.
            self.pipe.set_read_step(self.unread_step());
            opened = self.unread_step() == 0;
        }
        if opened {
            let mss = announced_mss(self.path, &self.id.tuple.remote, self.id.mss_clamp);
            let most = usize::from(u16::MAX) << self.rcv.wscale;
            self.pipe.set_read_step((2 * usize::from(mss)).min(self.rcv.granted.min(most) / 2));
        }
        // An ACK that moves no edge would count as a duplicate.
        let mut moves = self.window().0 > self.rcv.wnd();
        if opened && !moves {
            // Short of budget: the window opens when the ring is empty, so the last byte has to be told; it is looked at
            // again, for it may have been read while this was being said.
            self.pipe.set_read_step(self.pipe.recv_len().max(1));
            moves = self.window().0 > self.rcv.wnd();
        }
        if opened && moves && self.life.state() != State::Closed && !self.life.has_received_fin() {
            self.owed.owe_shared();
        }
    }
}
