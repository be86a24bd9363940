//! SYN-RECEIVED: both SYNs are out, ours is not acknowledged (RFC 9293 §3.10.7.4).

use super::handshake::{Negotiated, PassiveOpen, Resend, Synchronized, allow_challenge, syn_window};
use super::recv::window_scale;
use super::send::announced_mss;
use super::state::{Event, Lifecycle};
use super::{Cx, Identity, Open, Transmission, Verdict};
use crate::error::ConnError;
use crate::pipe::{ConnInfo, Orders, StackEnd};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, Options, Segment, Seq, Timestamps};

/// What became of a half-open connection.
pub(super) enum HalfOpen {
    /// The ACK of our SYN is there.
    Complete,
    /// Nothing changed.
    Stay(Verdict),
    /// It is over.
    Over(Verdict),
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
    pub(super) ack_owed: bool,
    pub(super) resend: Resend,
    /// Only after a simultaneous open.
    pub(super) pipe: Option<Box<StackEnd>>,
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
            ack_owed: false,
            resend: Resend::new(),
            pipe: None,
        }
    }

    /// RFC 9293 §3.10.7.4 for SYN-RECEIVED, in its order.
    pub(super) fn on_segment(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> HalfOpen {
        let rcv_nxt = self.irs + 1;
        // A repeated SYN: our SYN-ACK was lost (RFC 9293 §3.10.7.4, first check, as Linux answers it).
        if seg.has(Flags::SYN) && !seg.flags.intersects(Flags::ACK | Flags::RST) && seg.seq == self.irs {
            self.resend.owed = true;
            return HalfOpen::Stay(Verdict::Done);
        }
        // A simultaneous open ends with the peer's SYN-ACK: its SYN is known, the ACK counts.
        let repeated_syn = seg.has(Flags::SYN | Flags::ACK) && seg.seq == self.irs && self.pipe.is_some();
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
            return HalfOpen::Over(Verdict::Done);
        }
        cx.stats.drop_packet(DropReason::BadRst);
        if in_window {
            self.challenge(cx);
        }
        HalfOpen::Stay(Verdict::Done)
    }

    fn challenge(&mut self, cx: &mut Cx<'_>) {
        if allow_challenge(&mut self.last_challenge, cx) {
            self.ack_owed = true;
        }
    }

    pub(super) fn take_pipe(&mut self) -> Option<StackEnd> {
        self.pipe.take().map(|pipe| *pipe)
    }

    /// Tells the user of a simultaneous open that it failed.
    pub(super) fn fail(&mut self, error: ConnError) {
        if let Some(pipe) = &mut self.pipe {
            pipe.fail(error);
            pipe.wake();
        }
    }

    /// Whether the connection is over.
    pub(super) fn on_orders(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        let over = pipe.take_orders().intersects(Orders::DROPPED | Orders::ABORT);
        if over {
            self.fail(ConnError::Aborted);
        }
        over
    }

    /// Whether the connection is over.
    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>) -> bool {
        let limit = if self.pipe.is_some() { cx.config.syn_retries } else { cx.config.synack_retries };
        let over = self.resend.on_timeout(cx, limit);
        if over {
            self.fail(ConnError::TimedOut);
        }
        over
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.resend.deadline
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        let mut header = if self.resend.owed {
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
        } else if self.ack_owed {
            let mut header = self.id.header(self.iss + 1);
            header.flags = Flags::ACK;
            header.wnd = self.wnd >> self.agreed.scales.map_or(0, |(_, ours)| ours);
            header
        } else {
            return None;
        };
        self.ack_owed = false;
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
        self.pipe.as_mut().map_or(0, |pipe| {
            pipe.publish_info(&info);
            pipe.wake()
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
            initial_window: half_open.resend.initial_window(cx),
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
