//! What both halves of the three-way handshake share (RFC 9293 §3.5): orders to open, negotiation of options, sending a SYN
//! again. The halves are `syn_sent` and `syn_received`.

use super::recv::first_promise;
use super::rtt::RttEstimator;
use super::send::{TIMESTAMPS_LEN, default_mss};
use super::state::Lifecycle;
use super::{Cx, Identity};
use crate::config::SocketOptions;
use crate::pipe::StackEnd;
use crate::time::Instant;
use crate::wire::{Flags, FourTuple, Segment, Seq};

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
    pub(super) fn new(cx: &Cx<'_>, id: &Identity, our_scale: u8, syn: &Segment<'_>) -> Negotiated {
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
pub(super) struct Resend {
    pub(super) owed: bool,
    /// Times sent; only a single one gives an unambiguous round trip.
    pub(super) sent: u16,
    /// Timeouts.
    pub(super) retries: u16,
    pub(super) sent_at: Instant,
    pub(super) deadline: Option<Instant>,
}

impl Resend {
    pub(super) const fn new() -> Resend {
        Resend { owed: true, sent: 0, retries: 0, sent_at: Instant::ZERO, deadline: None }
    }

    pub(super) fn on_sent(&mut self, cx: &Cx<'_>) {
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
    pub(super) fn on_timeout(&mut self, cx: &mut Cx<'_>, limit: u32) -> bool {
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
        if self.was_lost() {
            rtt.after_syn_timeout();
        } else if self.sent == 1 {
            rtt.on_sample(cx.now.since(self.sent_at));
        }
        rtt
    }

    /// Whether a SYN or SYN-ACK was lost, as far as the timer knows.
    pub(super) const fn was_lost(&self) -> bool {
        self.retries > 0
    }
}

/// What an active open knows of its own and keeps through a simultaneous open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A packet-too-big that quoted our SYN.
    pub(super) path_mtu: Option<usize>,
    /// The user timeout, counted from the call.
    pub(super) deadline: Option<Instant>,
}

impl Limits {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| at <= now)
    }
}

/// The rest of a segment whose SYN has been dealt with.
pub(super) fn without_syn<'a>(seg: &Segment<'a>) -> Segment<'a> {
    let advance = u32::from(seg.has(Flags::SYN));
    Segment { seq: seg.seq + advance, flags: seg.flags.without(Flags::SYN), ..*seg }
}

/// The window of a SYN: never scaled (RFC 7323 §2.2), at most the first promise.
pub(super) fn syn_window(cx: &Cx<'_>, capacity: usize) -> u16 {
    u16::try_from(first_promise(capacity, cx.config.memory_budget)).unwrap_or(u16::MAX)
}

/// The path MTU that a packet-too-big is believed to report; `None`: it is to be discarded.
pub(super) fn believed_mtu(id: &Identity, mtu: u32) -> Option<usize> {
    let mtu = usize::try_from(mtu).unwrap_or(usize::MAX);
    if id.tuple.remote.is_ipv4() {
        // RFC 1191 §3, as Linux's `min_pmtu`: links below 576 are rarer than lies.
        return Some(mtu.max(576));
    }
    // RFC 8201 §4: a report below IPv6's minimum link MTU must be discarded.
    (mtu >= 1280).then_some(mtu)
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
    /// [`Resend::was_lost`]
    pub(super) syn_lost: bool,
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
