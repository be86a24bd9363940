//! SYN-SENT: our SYN is out (RFC 9293 §3.10.7.3), the active opening and one half of the simultaneous one.

use super::handshake::{ActiveOpen, Limits, Negotiated, Resend, Synchronized, believed_mtu, syn_window, without_syn};
use super::recv::window_scale;
use super::send::announced_mss;
use super::state::{Event, Lifecycle};
use super::syn_received::{Opener, Owed, SynReceived};
use super::{Cx, Identity, Open, Tcb, Transmission, Verdict};
use crate::error::ConnError;
use crate::pipe::{ConnInfo, Orders, StackEnd, State};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, IcmpKind, Options, Segment, Seq, Timestamps};

/// SYN-SENT.
#[derive(Debug)]
pub struct SynSent {
    pub(super) life: Lifecycle,
    id: Identity,
    iss: Seq,
    /// Taken when the connection moves on.
    pipe: Option<StackEnd>,
    recv_capacity: usize,
    resend: Resend,
    limits: Limits,
}

impl SynSent {
    pub(super) fn new(cx: &Cx<'_>, open: ActiveOpen) -> SynSent {
        SynSent {
            life: Lifecycle::active_open(),
            id: Identity::new(open.tuple, open.ts_offset, &open.options),
            iss: open.iss,
            recv_capacity: open.pipe.recv_capacity(),
            pipe: Some(open.pipe),
            resend: Resend::new(),
            limits: Limits { path_mtu: None, deadline: open.options.user_timeout.map(|limit| cx.now + limit) },
        }
    }

    /// RFC 9293 §3.10.7.3. Returns the control block that replaces this one, if any. After a failure this one stays, in
    /// CLOSED: the user hears of it when the engine drops it, and has let the tuple go.
    pub(super) fn on_segment(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> (Option<Tcb>, Verdict) {
        // First, the ACK bit: only our SYN can have been acknowledged.
        if seg.has(Flags::ACK) && seg.ack != self.iss + 1 {
            cx.stats.drop_packet(DropReason::BadAck);
            return (None, if seg.has(Flags::RST) { Verdict::Done } else { Verdict::Reset });
        }
        // Second, the RST bit (RFC 5961 §3.2: only with an acceptable ACK).
        if seg.has(Flags::RST) {
            if !seg.has(Flags::ACK) {
                cx.stats.drop_packet(DropReason::BadRst);
                return (None, Verdict::Done);
            }
            cx.stats.resets_in += 1;
            self.fail(ConnError::Refused);
            return (None, Verdict::Done);
        }
        // Fourth, the SYN bit.
        if !seg.has(Flags::SYN) {
            cx.stats.drop_packet(DropReason::BadState);
            return (None, Verdict::Done);
        }
        let agreed = Negotiated::new(cx, &self.id, window_scale(self.recv_capacity), seg);
        if seg.has(Flags::ACK) {
            return self.establish(cx, agreed, seg);
        }
        // Simultaneous open: our SYN stands, it is sent again with an ACK.
        self.life.on(Event::SynArrives);
        let half_open = SynReceived {
            life: self.life,
            id: self.id,
            iss: self.iss,
            irs: seg.seq,
            agreed,
            wnd: syn_window(cx, self.recv_capacity),
            last_challenge: None,
            owed: Owed::Nothing,
            resend: Resend::new(),
            opener: self.pipe.take().map(|pipe| Box::new(Opener { pipe, limits: self.limits })),
        };
        (Some(Tcb::SynReceived(half_open)), Verdict::Done)
    }

    fn establish(&mut self, cx: &mut Cx<'_>, agreed: Negotiated, seg: &Segment<'_>) -> (Option<Tcb>, Verdict) {
        let Some(pipe) = self.pipe.take() else { return (Some(Tcb::Closed), Verdict::Done) };
        self.life.on(Event::SynAcked);
        let rtt = self.resend.estimator(cx);
        let start = Synchronized {
            life: self.life,
            id: self.id,
            iss: self.iss,
            irs: seg.seq,
            agreed,
            rtt,
            syn_lost: self.resend.was_lost(),
        };
        let mut open = Open::new(cx, start, pipe);
        open.snd.path_mtu = self.limits.path_mtu;
        open.on_path(cx.path);
        open.take_syn_window(seg);
        open.snd.wl1 = seg.seq;
        open.snd.wl2 = seg.ack;
        // The handshake's ACK is due even if nothing else is; the first text may carry it.
        open.owe_after_owner(cx);
        // Text and FIN of the SYN-ACK are processed as if they came behind it (RFC 9293 §3.10.7.3, last paragraph).
        let verdict = if seg.payload.is_empty() && !seg.has(Flags::FIN) {
            Verdict::Done
        } else {
            let verdict = open.on_segment(cx, &without_syn(seg));
            open.take_syn_window(seg);
            verdict
        };
        (Some(Tcb::Open(Box::new(open))), verdict)
    }

    /// The user may have dropped the future.
    pub(super) fn on_orders(&mut self) {
        let orders = self.pipe.as_mut().map_or(Orders::NONE, StackEnd::take_orders);
        if orders.intersects(Orders::DROPPED | Orders::ABORT) {
            self.fail(ConnError::Aborted);
        }
    }

    /// The connection is over.
    pub(super) fn fail(&mut self, error: ConnError) {
        self.life.on(Event::End);
        (self.resend.deadline, self.limits.deadline) = (None, None);
        if let Some(pipe) = &mut self.pipe {
            pipe.fail(error);
        }
    }

    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.limits.is_over(cx.now) || self.resend.on_timeout(cx, cx.config.syn_retries) {
            self.fail(ConnError::TimedOut);
        }
    }

    /// RFC 5461 §4.1: while connecting, ICMP errors are believed if they quote our SYN.
    pub(super) fn on_icmp(&mut self, cx: &mut Cx<'_>, seq: Seq, kind: IcmpKind) {
        if seq != self.iss {
            cx.stats.drop_packet(DropReason::IcmpStale);
            return;
        }
        let error = match kind {
            IcmpKind::NetworkUnreachable => ConnError::NetworkUnreachable,
            IcmpKind::HostUnreachable => ConnError::HostUnreachable,
            IcmpKind::PortUnreachable => ConnError::Refused,
            IcmpKind::PacketTooBig { mtu } => {
                match believed_mtu(&self.id, mtu) {
                    Some(mtu) => self.limits.path_mtu = Some(mtu),
                    None => cx.stats.drop_packet(DropReason::IcmpIgnored),
                }
                return;
            }
            IcmpKind::Soft => return,
        };
        self.fail(error);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.resend.deadline, self.limits.deadline].into_iter().flatten().min()
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        if !self.resend.owed || self.life.state() == State::Closed {
            return None;
        }
        self.resend.on_sent(cx);
        let mut header = self.id.header(self.iss);
        header.flags = Flags::SYN;
        header.wnd = syn_window(cx, self.recv_capacity);
        header.options = Options {
            mss: Some(announced_mss(cx.path, &self.id.tuple.remote, self.id.mss_clamp)),
            window_scale: cx.config.window_scaling.then(|| window_scale(self.recv_capacity)),
            sack_permitted: cx.config.sack,
            timestamps: cx.config.timestamps.then(|| Timestamps { val: self.id.ts_val(cx.now), ecr: 0 }),
            ..Options::default()
        };
        Some(Transmission { header, offset: 0, len: 0, segment_size: None })
    }

    pub(super) fn end_turn(&mut self) -> usize {
        let info = ConnInfo {
            state: self.life.state(),
            iss: Some(self.iss),
            snd_una: self.iss,
            snd_nxt: self.iss + 1,
            ..self.id.info()
        };
        self.pipe.as_mut().map_or(0, |pipe| {
            pipe.publish_info(|shown| *shown = info);
            pipe.wake()
        })
    }
}
