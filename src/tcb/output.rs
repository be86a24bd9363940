//! What to send next. [`Open::plan`] is pure and the only place that decides; [`Open::poll_transmit`] executes it and is the
//! only place that builds segments of a synchronized connection.

use super::congestion::Congestion;
use super::send::header_len;
use super::{Cx, Open, Transmission};
use crate::pipe::State;
use crate::time::Instant;
use crate::wire::{Flags, Header, SackBlocks, Seq, Timestamps};

/// The answer to "what now?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Send(What),
    WaitUntil(Instant),
    Idle,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The last segment of an aborted connection.
    Reset,
    /// One duplicate ACK.
    Duplicate,
    /// `[start, end)` again, FIN included where it lies there.
    Retransmit { start: Seq, end: Seq },
    /// New text, and the FIN behind it.
    Data { len: u32, fin: bool },
    /// A keepalive probe.
    Keepalive,
    /// A pure ACK.
    Ack,
}

impl Open {
    pub(super) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        if self.path != cx.path {
            self.on_path(cx.path);
        }
        // RFC 5681 §4.1: after an idle RTO the old cwnd says nothing about the path.
        let begins = self.unsent() > 0 && self.flight.is_empty();
        if begins && cx.now.since(self.last_sent) > self.rtt.rto() {
            self.congestion.on_idle_restart(cx.now);
            self.last_sent = cx.now;
        }
        if let Plan::Send(what) = self.plan() {
            return Some(self.execute(cx, what));
        }
        // RFC 9293 §3.8.6.1: with nothing in flight only the persist timer can find out that the window has opened.
        let waiting = self.unsent() > 0 || self.is_fin_pending();
        if waiting && self.flight.is_empty() && self.timers.retransmit.is_none() && self.life.state() != State::Closed {
            self.arm_retransmit(cx.now);
        }
        self.cwnd_limited = self.unsent().min(self.snd.usable()) >= u32::from(self.snd.mss);
        None
    }

    fn plan(&self) -> Plan {
        if self.reset_owed {
            return Plan::Send(What::Reset);
        }
        if self.life.state() == State::Closed {
            return Plan::Idle;
        }
        if self.owed.has_duplicates() {
            return Plan::Send(What::Duplicate);
        }
        let what = if self.probe_owed {
            self.plan_probe()
        } else {
            let probe = if self.tail_probe_owed { self.plan_tail_probe() } else { None };
            probe.or_else(|| self.plan_retransmit()).or_else(|| self.plan_data())
        };
        if let Some(what) = what {
            return Plan::Send(what);
        }
        if self.keepalive_owed {
            return Plan::Send(What::Keepalive);
        }
        if !self.owed.is_empty() {
            return Plan::Send(What::Ack);
        }
        if self.reset_last.is_some() {
            return Plan::Send(What::Reset);
        }
        self.timers.next().map_or(Plan::Idle, Plan::WaitUntil)
    }

    /// What has been marked lost, as far as cwnd and the peer's window allow.
    fn plan_retransmit(&self) -> Option<What> {
        let (start, end) = self.flight.first_lost()?;
        let in_flight = self.flight.bytes_in_flight();
        let room = self.send_window().saturating_sub(in_flight);
        let mss = u32::from(self.current_mss());
        // The first segment of recovery goes out whatever cwnd says (RFC 5681 §3.2 step 2).
        let first = start == self.snd.una;
        if room < mss.min(end.saturating_offset_from(start)) && in_flight > 0 && !first {
            return None;
        }
        // RFC 9293 §3.8.6: what lies beyond a shrunk window waits, but for the first segment.
        let edge = self.snd.una + self.snd.wnd;
        if !first && start.is_at_or_after(edge) || self.snd.wnd == 0 {
            return None;
        }
        let most = self.largest_text().min(room.max(mss) / mss * mss);
        Some(What::Retransmit { start, end: self.limit(start, end, most) })
    }

    /// `end`, or less if more than `most` bytes of text would go out. The FIN takes no room.
    fn limit(&self, start: Seq, end: Seq, most: u32) -> Seq {
        let text_end = self.snd.fin.map_or(end, |fin| end.min(fin));
        if text_end.saturating_offset_from(start) > most { start + most } else { end }
    }

    /// New text: RFC 9293 §3.8.6.2.1 (sender SWS avoidance), Nagle in Minshall's form, cwnd.
    fn plan_data(&self) -> Option<What> {
        let unsent = self.unsent();
        let fin = self.is_fin_pending();
        if unsent == 0 && !fin {
            return None;
        }
        let mss = u32::from(self.current_mss());
        let in_flight = self.flight.bytes_in_flight();
        // With SACK the flight has shrunk by what was reported: that is the room RFC 3042 means (RFC 6675 §5 (3)).
        let limited = if self.sack { 0 } else { self.recovery.limited_transmit() };
        let extra = limited.saturating_mul(mss);
        let mut room = self.send_window().saturating_add(extra).saturating_sub(in_flight);
        if in_flight == 0 {
            room = room.max(mss);
        }
        let usable = self.snd.usable();
        if unsent == 0 {
            // RFC 9293 §3.10.4: a lone FIN occupies one sequence number of the window.
            return (usable > 0).then_some(What::Data { len: 0, fin: true });
        }
        let len = unsent.min(usable).min(room).min(self.largest_text());
        let tail = len % mss;
        let all = len == unsent;
        let may_send_tail = if all {
            // Nagle: a small segment waits while another small one is unacknowledged.
            fin || self.options.nodelay || !self.snd.has_small_outstanding()
        } else {
            // Fs = 1/2 of the largest window ever offered.
            len == usable && len > 0 && len >= self.snd.max_wnd / 2
        };
        let len = if tail > 0 && !may_send_tail { len - tail } else { len };
        let fin = fin && len == unsent && usable > len;
        (len > 0).then_some(What::Data { len, fin })
    }

    /// RFC 9293 §3.8.6.1 (MUST-36): at least one octet, although the window is closed.
    fn plan_probe(&self) -> Option<What> {
        if let Some(record) = self.flight.first() {
            let end = self.limit(record.start, record.end, u32::from(self.current_mss()));
            return Some(What::Retransmit { start: record.start, end });
        }
        let unsent = self.unsent();
        let len = unsent.min(self.snd.usable().clamp(1, u32::from(self.current_mss())));
        let fin = self.is_fin_pending() && len == unsent;
        (len > 0 || fin).then_some(What::Data { len, fin })
    }

    /// Text of a full segment now: SACK blocks take their room (RFC 6691 §2).
    pub(super) fn current_mss(&self) -> u16 {
        self.snd.mss.saturating_sub(self.sack_len()).max(1)
    }

    /// Most text of one transmission now: a multiple of the segment size.
    fn largest_text(&self) -> u32 {
        self.largest_of(self.current_mss())
    }

    /// Most text of one transmission in segments of `mss` bytes.
    pub(super) fn largest_of(&self, mss: u16) -> u32 {
        let mss = u32::from(mss);
        let headers = header_len(&self.id.tuple.remote) + 60 - 20;
        let large = self.path.max_large.map_or(0, |large| large.saturating_sub(headers));
        let large = u32::try_from(large).unwrap_or(u32::MAX);
        // A path MTU below the link's is the sender's to keep; the device splits by the segment size it is given.
        (large / mss * mss).max(mss)
    }

    /// Option bytes of the SACK blocks that go with every segment now; none if they would leave no room for text.
    fn sack_len(&self) -> u16 {
        let blocks = u16::try_from(self.sack_blocks().as_slice().len()).unwrap_or(0);
        if blocks == 0 { 0 } else { 4 + 8 * blocks }
    }

    /// RFC 2018 §4: three blocks fit beside timestamps, four without.
    fn sack_blocks(&self) -> SackBlocks {
        if !self.sack || self.rcv.assembler.is_empty() {
            return SackBlocks::EMPTY;
        }
        let most = if self.timestamps.is_some() { 3 } else { 4 };
        // 4 + 8·n bytes of blocks must leave at least half a segment of text.
        let fit = usize::from((self.snd.mss / 2).saturating_sub(4) / 8);
        self.rcv.assembler.sack_blocks(self.rcv.nxt, most.min(fit))
    }

    fn execute(&mut self, cx: &mut Cx<'_>, what: What) -> Transmission {
        let probes = self.tail_probe_owed && !self.probe_owed && self.plan_tail_probe() == Some(what);
        let transmission = self.perform(cx, what);
        if matches!(what, What::Data { .. } | What::Retransmit { .. }) {
            if probes {
                self.on_tail_probe_sent(cx, what);
            }
            if let Some(prr) = &mut self.prr {
                prr.on_sent(u32::try_from(transmission.len).unwrap_or(u32::MAX));
            }
            self.arm_tail_probe(cx);
        }
        transmission
    }

    fn perform(&mut self, cx: &mut Cx<'_>, what: What) -> Transmission {
        match what {
            What::Reset => {
                if let Some(error) = self.reset_last.take() {
                    self.abort(cx, error);
                }
                self.reset_owed = false;
                let mut header = self.header(cx, self.snd.acceptable(), self.rcv.nxt);
                header.flags |= Flags::RST;
                header.options.sack = SackBlocks::EMPTY;
                bare(header)
            }
            What::Duplicate => {
                let ack = self.owed.take_duplicate(self.rcv.nxt).unwrap_or(self.rcv.nxt);
                bare(self.header(cx, self.snd.acceptable(), ack))
            }
            What::Ack => bare(self.header(cx, self.snd.acceptable(), self.rcv.nxt)),
            What::Keepalive => {
                self.keepalive_owed = false;
                // RFC 9293 §3.8.4: SEG.SEQ = SND.NXT−1 asks for an answer and carries nothing.
                bare(self.header(cx, self.snd.nxt - 1, self.rcv.nxt))
            }
            What::Retransmit { start, end } => self.retransmit(cx, start, end),
            What::Data { len, fin } => self.transmit(cx, len, fin),
        }
    }

    fn transmit(&mut self, cx: &mut Cx<'_>, len: u32, fin: bool) -> Transmission {
        let mss = self.current_mss();
        let start = self.snd.nxt;
        let all = len == self.unsent();
        self.probe_owed = false;
        let transmission = self.text(cx, start, len, text_flags(len, fin, all));
        let end = start + len + u32::from(fin);
        if fin {
            self.snd.fin = Some(start + len);
        }
        self.snd.nxt = end;
        if !len.is_multiple_of(u32::from(mss)) {
            self.snd.small_end = Some(end);
        }
        let app_limited = all && self.flight.bytes_in_flight().saturating_add(len) < self.send_window();
        let idle = self.flight.is_empty();
        self.flight.on_send(cx.now, start, end, app_limited);
        self.last_sent = cx.now;
        self.arm_idle(cx.now);
        if idle || self.timers.retransmit.is_none() {
            // RFC 6298 §5.1; what may still run is the persist timer, backed off.
            self.arm_retransmit(cx.now);
        }
        transmission
    }

    fn retransmit(&mut self, cx: &mut Cx<'_>, start: Seq, end: Seq) -> Transmission {
        let fin = self.snd.fin.is_some_and(|fin| end.is_after(fin));
        let len = end.saturating_offset_from(start).saturating_sub(u32::from(fin));
        self.probe_owed = false;
        self.flight.on_retransmit(cx.now, start, end);
        if let Some(doubt) = &mut self.doubt {
            doubt.on_retransmit(self.id.ts_val(cx.now), len);
        }
        self.last_sent = cx.now;
        self.retransmits = self.retransmits.saturating_add(1);
        cx.stats.retransmits += 1;
        if start == self.snd.una || self.timers.retransmit.is_none() {
            // As Linux's tcp_xmit_retransmit_queue: a fast retransmission needs a whole round trip, too, and the floor of
            // the RTO does not leave room for a second one.
            self.arm_retransmit(cx.now);
        }
        let last = (start + len).is_at_or_after(self.snd.fin.unwrap_or(self.queued_end()));
        self.text(cx, start, len, text_flags(len, fin, last))
    }

    fn text(&mut self, cx: &Cx<'_>, start: Seq, len: u32, flags: Flags) -> Transmission {
        let mss = self.current_mss();
        let mut header = self.header(cx, start, self.rcv.nxt);
        header.flags |= flags;
        let offset = start.saturating_offset_from(self.snd.una) as usize;
        let segment_size = (len > u32::from(mss)).then_some(mss);
        Transmission { header, offset, len: len as usize, segment_size }
    }

    /// The header of any segment; it carries the newest window, and what it acknowledges is no longer owed.
    fn header(&mut self, cx: &Cx<'_>, seq: Seq, ack: Seq) -> Header {
        let mut header = self.id.header(seq);
        header.options.sack = self.sack_blocks();
        header.flags = Flags::ACK;
        header.ack = ack;
        header.wnd = self.advertise();
        if ack.is_before(self.rcv.nxt) {
            // A duplicate of an earlier moment of this turn: its window counts from its own number.
            let wnd = self.rcv.adv.saturating_offset_from(ack) >> self.rcv.wscale;
            header.wnd = u16::try_from(wnd).unwrap_or(u16::MAX);
        }
        header.options.timestamps =
            self.timestamps.map(|state| Timestamps { val: self.id.ts_val(cx.now), ecr: state.recent });
        // A duplicate that is the first to carry this number is a new ACK to the peer: the shared one still follows it.
        if ack == self.rcv.nxt && (self.rcv.acked == ack || !self.owed.has_duplicates()) {
            self.owed.on_ack_sent();
        }
        if ack == self.rcv.nxt {
            self.rcv.acked = ack;
            self.rcv.unacked = 0;
            self.timers.delayed_ack = None;
        }
        header
    }
}

/// RFC 9293 §3.9.1.2 (MUST-61): PSH where no more is queued.
fn text_flags(len: u32, fin: bool, last: bool) -> Flags {
    let fin = if fin { Flags::FIN } else { Flags::NONE };
    if last && len > 0 { fin | Flags::PSH } else { fin }
}

const fn bare(header: Header) -> Transmission {
    Transmission { header, offset: 0, len: 0, segment_size: None }
}
