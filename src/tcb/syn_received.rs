//! SYN-RECEIVED: both SYNs are out, ours is not acknowledged (RFC 9293 §3.10.7.4).

use super::handshake::{Limits, Negotiated, PassiveOpen, Resend, Synchronized, allow_challenge, syn_window};
use super::recv::window_scale;
use super::send::announced_mss;
use super::state::{Event, Lifecycle};
use super::{Cx, Identity, Open, Transmission, Verdict};
use crate::error::ConnError;
use crate::pipe::{ConnInfo, Orders, StackEnd, State};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, Options, Segment, Seq, Timestamps};

/// What became of a half-open connection.
pub(super) enum HalfOpen {
    /// The ACK of our SYN is there.
    Complete,
    /// Not yet, or it is over.
    Stay(Verdict),
}

/// What is to be sent beside the SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    Nothing,
    Ack,
    Reset,
}

/// Whoever opened from this side too.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) pipe: StackEnd,
    pub(super) limits: Limits,
}

/// SYN-RECEIVED. Passive: a few dozen bytes, so that a flood of SYNs buys no memory.
#[derive(Debug)]
pub struct SynReceived {
    pub(super) life: Lifecycle,
    pub(super) id: Identity,
    pub(super) iss: Seq,
    pub(super) irs: Seq,
    pub(super) agreed: Negotiated,
    pub(super) wnd: u16,
    pub(super) last_challenge: Option<Instant>,
    pub(super) owed: Owed,
    pub(super) resend: Resend,
    /// Only after a simultaneous open.
    pub(super) opener: Option<Box<Opener>>,
}

impl SynReceived {
    pub(super) fn new(cx: &Cx<'_>, open: PassiveOpen, syn: &Segment<'_>) -> SynReceived {
        let id = Identity::new(open.tuple, open.ts_offset, &open.options);
        let capacity = usize::try_from(open.options.recv_buffer).unwrap_or(usize::MAX);
        SynReceived {
            life: Lifecycle::passive_open(),
            id,
            iss: open.iss,
            irs: syn.seq,
            agreed: Negotiated::new(cx, &id, window_scale(capacity), syn),
            wnd: syn_window(cx, capacity),
            last_challenge: None,
            owed: Owed::Nothing,
            resend: Resend::new(),
            opener: None,
        }
    }

    /// RFC 9293 §3.10.7.4 for SYN-RECEIVED, in its order.
    pub(super) fn on_segment(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> HalfOpen {
        if self.life.state() == State::Closed {
            // Aborted, and the RST has not gone out yet.
            return HalfOpen::Stay(Verdict::Done);
        }
        let rcv_nxt = self.irs + 1;
        // A repeated SYN: our SYN-ACK was lost (RFC 9293 §3.10.7.4, first check, as Linux answers it).
        if seg.has(Flags::SYN) && !seg.flags.intersects(Flags::ACK | Flags::RST) && seg.seq == self.irs {
            self.resend.owed = true;
            return HalfOpen::Stay(Verdict::Done);
        }
        // A simultaneous open ends with the peer's SYN-ACK: its SYN is known, the ACK counts.
        let repeated_syn = seg.has(Flags::SYN | Flags::ACK) && seg.seq == self.irs && self.opener.is_some();
        let in_window = seg.seq.is_within(rcv_nxt, u32::from(self.wnd).max(1));
        // RFC 7323 §5.3 R1: an old timestamp is an old duplicate.
        let paws = match (self.agreed.ts_recent, seg.options.timestamps) {
            (Some(recent), Some(ts)) => Seq::new(ts.val).is_before(Seq::new(recent)),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if seg.has(Flags::RST) {
            return self.on_reset(cx, seg, in_window);
        }
        if (!in_window && !repeated_syn) || paws {
            cx.stats.drop_packet(if paws { DropReason::Paws } else { DropReason::OutOfWindow });
            self.challenge(cx);
            return HalfOpen::Stay(Verdict::Done);
        }
        if seg.has(Flags::SYN) && !repeated_syn {
            // RFC 5961 §4.2: a challenge ACK, whatever the sequence number.
            cx.stats.drop_packet(DropReason::BadSyn);
            self.challenge(cx);
            return HalfOpen::Stay(Verdict::Done);
        }
        if !seg.has(Flags::ACK) {
            cx.stats.drop_packet(DropReason::BadState);
            return HalfOpen::Stay(Verdict::Done);
        }
        // RFC 9293 §3.10.7.4, fifth check: SND.UNA < SEG.ACK =< SND.NXT, else RST.
        if seg.ack != self.iss + 1 {
            cx.stats.drop_packet(DropReason::BadAck);
            return HalfOpen::Stay(Verdict::Reset);
        }
        HalfOpen::Complete
    }

    fn on_reset(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>, in_window: bool) -> HalfOpen {
        if seg.seq == self.irs + 1 {
            cx.stats.resets_in += 1;
            self.fail(ConnError::Refused);
            return HalfOpen::Stay(Verdict::Done);
        }
        cx.stats.drop_packet(DropReason::BadRst);
        if in_window {
            self.challenge(cx);
        }
        HalfOpen::Stay(Verdict::Done)
    }

    fn challenge(&mut self, cx: &mut Cx<'_>) {
        if allow_challenge(&mut self.last_challenge, cx) {
            self.owed = Owed::Ack;
        }
    }

    /// The connection is over; whoever opened it from this side hears of it when the engine drops it.
    fn fail(&mut self, error: ConnError) {
        self.life.on(Event::End);
        self.resend.deadline = None;
        if let Some(opener) = &mut self.opener {
            opener.limits.deadline = None;
            opener.pipe.fail(error);
        }
    }

    /// Ends the connection from our side with a RST (RFC 9293 §3.10.5).
    pub(super) fn abort(&mut self, cx: &mut Cx<'_>, error: ConnError) {
        if self.life.state() == State::Closed {
            return;
        }
        self.owed = Owed::Reset;
        cx.stats.resets_out += 1;
        self.fail(error);
    }

    pub(super) fn on_orders(&mut self, cx: &mut Cx<'_>) {
        let orders = self.opener.as_mut().map_or(Orders::NONE, |opener| opener.pipe.take_orders());
        if orders.intersects(Orders::DROPPED | Orders::ABORT) {
            self.abort(cx, ConnError::Aborted);
        }
    }

    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        let limit = if self.opener.is_some() { cx.config.syn_retries } else { cx.config.synack_retries };
        let is_over = self.opener.as_ref().is_some_and(|opener| opener.limits.is_over(cx.now));
        if is_over || self.resend.on_timeout(cx, limit) {
            self.fail(ConnError::TimedOut);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let user = self.opener.as_ref().and_then(|opener| opener.limits.deadline);
        [self.resend.deadline, user].into_iter().flatten().min()
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        let owed = std::mem::replace(&mut self.owed, Owed::Nothing);
        let mut header = if owed == Owed::Reset {
            // The ACK makes it acceptable also to a peer in SYN-SENT, which has not seen our SYN.
            let mut header = self.id.header(self.iss + 1);
            header.flags = Flags::RST | Flags::ACK;
            header
        } else if self.life.state() == State::Closed {
            return None;
        } else if self.resend.owed {
            self.resend.on_sent(cx);
            let mut header = self.id.header(self.iss);
            header.flags = Flags::SYN | Flags::ACK;
            header.options = Options {
                mss: Some(announced_mss(cx.path, &self.id.tuple.remote, self.id.mss_clamp)),
                window_scale: self.agreed.scales.map(|(_, ours)| ours),
                sack_permitted: self.agreed.sack,
                ..Options::default()
            };
            header.wnd = self.wnd;
            header
        } else if owed == Owed::Ack {
            let mut header = self.id.header(self.iss + 1);
            header.flags = Flags::ACK;
            header.wnd = self.wnd >> self.agreed.scales.map_or(0, |(_, ours)| ours);
            header
        } else {
            return None;
        };
        header.ack = self.irs + 1;
        header.options.timestamps = self.agreed.ts_recent.map(|ecr| Timestamps { val: self.id.ts_val(cx.now), ecr });
        Some(Transmission { header, offset: 0, len: 0, segment_size: None })
    }

    pub(super) fn end_turn(&mut self) -> usize {
        let info = ConnInfo {
            state: self.life.state(),
            iss: Some(self.iss),
            irs: Some(self.irs),
            snd_una: self.iss,
            snd_nxt: self.iss + 1,
            rcv_nxt: self.irs + 1,
            rcv_wnd: u32::from(self.wnd),
            ..self.id.info()
        };
        self.opener.as_mut().map_or(0, |opener| {
            opener.pipe.publish_info(|shown| *shown = info);
            opener.pipe.wake()
        })
    }
}

impl Open {
    /// The half-open connection is complete; `pipe` is wired up now.
    pub(super) fn from_syn_received(cx: &mut Cx<'_>, half_open: &SynReceived, pipe: StackEnd) -> Open {
        let mut life = half_open.life;
        life.on(Event::SynAcked);
        let start = Synchronized {
            life,
            id: half_open.id,
            iss: half_open.iss,
            irs: half_open.irs,
            agreed: half_open.agreed,
            rtt: half_open.resend.estimator(cx),
            syn_lost: half_open.resend.was_lost(),
        };
        let mut open = Open::new(cx, start, pipe);
        open.on_path(cx.path);
        // The segment that completes the handshake brings the first window: its sequence number lies after the SYN's.
        open.snd.wl1 = half_open.irs;
        open.snd.wl2 = half_open.iss;
        open
    }

    /// RFC 7323 §2.2: the window of a SYN is never scaled, also if the segment brought more than the SYN.
    pub(super) fn take_syn_window(&mut self, seg: &Segment<'_>) {
        self.snd.wnd = u32::from(seg.wnd);
        self.snd.max_wnd = self.snd.wnd;
    }
}
