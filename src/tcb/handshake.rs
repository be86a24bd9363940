//! SYN-SENT and SYN-RECEIVED: the three-way handshake, both openings and the simultaneous one (RFC 9293 §3.5).

use super::recv::{FIRST_PROMISE, window_scale};
use super::rtt::RttEstimator;
use super::send::{TIMESTAMPS_LEN, announced_mss, default_mss};
use super::state::{Event, Lifecycle};
use super::{Cx, Identity, Open, Tcb, Transmission, Verdict};
use crate::config::SocketOptions;
use crate::error::ConnError;
use crate::pipe::{ConnInfo, Orders, StackEnd, State};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, FourTuple, IcmpKind, Options, Segment, Seq, Timestamps};

/// An order to connect.
#[derive(Debug)]
pub struct ActiveOpen {
    /// Both ends; claimed in the registry.
    pub tuple: FourTuple,
    /// Initial send sequence number (RFC 6528).
    pub iss: Seq,
    /// Offset of the timestamp clock.
    pub ts_offset: u32,
    /// Options of the socket.
    pub options: SocketOptions,
    /// The buffers, adopted by the engine.
    pub pipe: StackEnd,
}

/// A SYN at a listener.
#[derive(Clone, Copy, Debug)]
pub struct PassiveOpen {
    /// Both ends.
    pub tuple: FourTuple,
    /// Initial send sequence number (RFC 6528).
    pub iss: Seq,
    /// Offset of the timestamp clock.
    pub ts_offset: u32,
    /// Options of the listener.
    pub options: SocketOptions,
}

/// What both sides' SYNs agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Negotiated {
    /// The peer's MSS option, or the default.
    pub(super) peer_mss: u16,
    /// Scale of the peer's windows and of ours.
    pub(super) scales: Option<(u8, u8)>,
    /// TSval of the peer's SYN.
    pub(super) ts_recent: Option<u32>,
    /// SACK may be used.
    pub(super) sack: bool,
}

impl Negotiated {
    /// An option counts only if both SYNs carry it (RFC 7323 §2.2, §3.2; RFC 2018 §2).
    fn new(cx: &Cx<'_>, id: &Identity, our_scale: u8, syn: &Segment<'_>) -> Negotiated {
        let options = &syn.options;
        Negotiated {
            // RFC 9293 §3.7.1 (MUST-15); an MSS of 0 says nothing (reliability.md A13).
            peer_mss: options.mss.filter(|&mss| mss > 0).unwrap_or(default_mss(&id.tuple.remote)),
            scales: options.window_scale.filter(|_| cx.config.window_scaling).map(|theirs| (theirs.min(14), our_scale)),
            ts_recent: options.timestamps.filter(|_| cx.config.timestamps).map(|ts| ts.val),
            sack: options.sack_permitted && cx.config.sack,
        }
    }
}

/// Sending and resending a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug)]
struct Resend {
    owed: bool,
    /// Times sent; only a single one gives an unambiguous round trip.
    sent: u16,
    /// Timeouts.
    retries: u16,
    sent_at: Instant,
    deadline: Option<Instant>,
}

impl Resend {
    const fn new() -> Resend {
        Resend { owed: true, sent: 0, retries: 0, sent_at: Instant::ZERO, deadline: None }
    }

    fn on_sent(&mut self, cx: &Cx<'_>) {
        // RFC 6298 §5.5: the timeout doubles with each retransmission.
        let factor = 1u32.checked_shl(u32::from(self.retries)).unwrap_or(u32::MAX);
        let rto = cx.config.rto_initial.saturating_mul(factor).min(cx.config.rto_max);
        self.owed = false;
        self.sent = self.sent.saturating_add(1);
        self.sent_at = cx.now;
        // An answer to a repeated SYN does not postpone the retransmission that is already due.
        self.deadline = self.deadline.or(Some(cx.now + rto));
    }

    /// Whether the retries are used up.
    fn on_timeout(&mut self, cx: &mut Cx<'_>, limit: u32) -> bool {
        if self.deadline.is_none_or(|at| at > cx.now) {
            return false;
        }
        self.deadline = None;
        cx.stats.timeouts += 1;
        if u32::from(self.retries) >= limit {
            return true;
        }
        self.retries = self.retries.saturating_add(1);
        self.owed = true;
        cx.stats.retransmits += 1;
        false
    }

    /// The estimator of the new connection, with the handshake's sample if it is unambiguous (Karn).
    pub(super) fn estimator(&self, cx: &Cx<'_>) -> RttEstimator {
        let mut rtt = RttEstimator::new(cx.config.rto_initial, cx.config.rto_min, cx.config.rto_max);
        if self.retries > 0 {
            rtt.after_syn_timeout();
        } else if self.sent == 1 {
            rtt.on_sample(cx.now.since(self.sent_at));
        }
        rtt
    }

    /// Initial window in segments. RFC 5681 §3.1: one segment if the SYN or SYN-ACK was lost.
    fn initial_window(&self, cx: &Cx<'_>) -> u32 {
        if self.retries > 0 { 1 } else { cx.config.initial_window }
    }
}

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
    path_mtu: Option<usize>,
    user_deadline: Option<Instant>,
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
            path_mtu: None,
            user_deadline: open.options.user_timeout.map(|limit| cx.now + limit),
        }
    }

    /// RFC 9293 §3.10.7.3. Returns the control block that replaces this one, if any.
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
            return (Some(Tcb::Closed), Verdict::Done);
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
            wnd: syn_window(self.recv_capacity),
            last_challenge: None,
            ack_owed: false,
            resend: Resend::new(),
            pipe: self.pipe.take().map(Box::new),
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
            initial_window: self.resend.initial_window(cx),
        };
        let mut open = Open::new(cx, start, pipe);
        open.snd.path_mtu = self.path_mtu;
        open.on_path(cx.path);
        open.take_syn_window(seg);
        open.snd.wl1 = seg.seq;
        open.snd.wl2 = seg.ack;
        // The handshake's ACK is due even if nothing else is.
        open.owed.owe_shared();
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

    /// Whether the connection is over: the user dropped the future.
    pub(super) fn on_orders(&mut self) -> bool {
        let Some(pipe) = &mut self.pipe else { return true };
        let over = pipe.take_orders().intersects(Orders::DROPPED | Orders::ABORT);
        if over {
            self.abort();
        }
        over
    }

    pub(super) fn abort(&mut self) {
        self.fail(ConnError::Aborted);
    }

    pub(super) fn fail(&mut self, error: ConnError) {
        if let Some(pipe) = &mut self.pipe {
            pipe.publish_info(&ConnInfo { state: State::Closed, ..self.id.info() });
            pipe.fail(error);
            pipe.wake();
        }
    }

    /// Whether the connection is over.
    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>) -> bool {
        let over =
            self.user_deadline.is_some_and(|at| at <= cx.now) || self.resend.on_timeout(cx, cx.config.syn_retries);
        if over {
            self.fail(ConnError::TimedOut);
        }
        over
    }

    /// Whether the connection is over. RFC 5461 §4.1: while connecting, ICMP errors are believed if they quote our SYN.
    pub(super) fn on_icmp(&mut self, cx: &mut Cx<'_>, seq: Seq, kind: IcmpKind) -> bool {
        if seq != self.iss {
            cx.stats.drop_packet(DropReason::IcmpStale);
            return false;
        }
        let error = match kind {
            IcmpKind::NetworkUnreachable => ConnError::NetworkUnreachable,
            IcmpKind::HostUnreachable => ConnError::HostUnreachable,
            IcmpKind::PortUnreachable => ConnError::Refused,
            IcmpKind::PacketTooBig { mtu } => {
                self.path_mtu = Some(usize::try_from(mtu).unwrap_or(usize::MAX).max(min_path_mtu(&self.id)));
                return false;
            }
            IcmpKind::Soft => return false,
        };
        self.fail(error);
        true
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.resend.deadline, self.user_deadline].into_iter().flatten().min()
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        if !self.resend.owed {
            return None;
        }
        self.resend.on_sent(cx);
        let mut header = self.id.header(self.iss);
        header.flags = Flags::SYN;
        header.wnd = syn_window(self.recv_capacity);
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
            pipe.publish_info(&info);
            pipe.wake()
        })
    }
}

/// The rest of a segment whose SYN has been dealt with.
pub(super) fn without_syn<'a>(seg: &Segment<'a>) -> Segment<'a> {
    let advance = u32::from(seg.has(Flags::SYN));
    Segment { seq: seg.seq + advance, flags: seg.flags.without(Flags::SYN), ..*seg }
}

/// The window of a SYN: never scaled (RFC 7323 §2.2), at most the first promise.
pub(super) fn syn_window(capacity: usize) -> u16 {
    u16::try_from(capacity.min(FIRST_PROMISE)).unwrap_or(u16::MAX)
}

/// Smallest path MTU believed of an ICMP error (RFC 1191 §3 as Linux's `min_pmtu`, RFC 8201 §4).
pub(super) const fn min_path_mtu(id: &Identity) -> usize {
    if id.tuple.remote.is_ipv4() { 576 } else { 1280 }
}

/// Everything an [`Open`] starts from.
#[derive(Debug)]
pub(super) struct Synchronized {
    pub(super) life: Lifecycle,
    pub(super) id: Identity,
    pub(super) iss: Seq,
    pub(super) irs: Seq,
    pub(super) agreed: Negotiated,
    pub(super) rtt: RttEstimator,
    pub(super) initial_window: u32,
}

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
    id: Identity,
    iss: Seq,
    irs: Seq,
    agreed: Negotiated,
    wnd: u16,
    last_challenge: Option<Instant>,
    ack_owed: bool,
    resend: Resend,
    /// Only after a simultaneous open.
    pipe: Option<Box<StackEnd>>,
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
            wnd: syn_window(capacity),
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

/// RFC 5961 §7, limited per connection: a counter shared between connections would be a side channel (CVE-2016-5696).
pub(super) fn allow_challenge(last: &mut Option<Instant>, cx: &mut Cx<'_>) -> bool {
    if last.is_some_and(|last| cx.now.since(last) < cx.config.challenge_ack_interval) {
        return false;
    }
    *last = Some(cx.now);
    cx.stats.challenge_acks += 1;
    true
}

/// Option bytes in every segment of a connection.
pub(super) const fn fixed_options_len(timestamps: bool) -> u16 {
    if timestamps { TIMESTAMPS_LEN } else { 0 }
}
