//! One TCP connection as a state machine: [`Tcb`].
//!
//! Owns the control block of RFC 9293 §3.3.1 and the reactor's end of the pipe. Sans-IO: segments, orders and time come in
//! through `on_*`, segments go out through [`Tcb::poll_transmit`] and nowhere else. Never reads a clock, never blocks,
//! never allocates per segment. Called by `stack` only.
//!
//! Where to find what: `syn_sent`, `syn_received` and what they share, `handshake`; `input` arrival in the order of
//! RFC 9293 §3.10.7.4; `ack` its fifth check; `text` its seventh and eighth; `output` what to send next; `timeout` what
//! deadlines do; `user` what orders do; `send` and `recv` the two sequence spaces; `time_wait` the small record after it all.
//! Loss: `flight` what is lost, `loss` what is done about it, `recovery` when that begins and ends, `prr` how much goes
//! meanwhile, `spurious` whether it was needless, `tail_loss` the probe where nothing tells.

mod ack;
pub mod assembler;
pub mod congestion;
pub mod flight;
mod handshake;
mod input;
mod loss;
mod open;
mod output;
mod prr;
mod recovery;
mod recv;
pub mod rtt;
mod send;
mod senders;
mod spurious;
mod state;
mod syn_received;
mod syn_sent;
mod tail_loss;
mod text;
mod time_wait;
mod timeout;
mod timer;
mod user;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use handshake::{ActiveOpen, PassiveOpen};
pub use open::Open;
pub use senders::Senders;
pub use syn_received::SynReceived;
pub use syn_sent::SynSent;
pub use time_wait::TimeWait;

use crate::config::{SocketOptions, StackConfig};
use crate::error::ConnError;
use crate::pipe::{ConnInfo, StackEnd, State};
use crate::stats::Stats;
use crate::time::Instant;
use crate::wire::{Flags, FourTuple, Header, IcmpKind, Segment, Seq};

/// What every call needs from the outside.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The time of the turn.
    pub now: Instant,
    /// Settings of the stack.
    pub config: &'a StackConfig,
    /// Counters of the stack.
    pub stats: &'a mut Stats,
    /// Who sends as much as it can.
    pub senders: &'a mut Senders,
    /// The way to the peer.
    pub path: Path,
}

/// What the way to the peer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Largest IP packet in bytes.
    pub mtu: usize,
    /// Largest IP packet in bytes that is split further down, if the device does that.
    pub max_large: Option<usize>,
}

/// What the engine has to do about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Nothing.
    Done,
    /// Answer it with a RST (RFC 9293 §3.10.7.1).
    Reset,
    /// A half-open connection is complete: reserve buffers, call [`Tcb::establish`], then feed the segment again.
    WantsPipe,
    /// A SYN may reuse this TIME-WAIT record (RFC 6191): drop the record, give the segment to the listener.
    NewSyn,
}

/// One segment to send. The payload stays in the send ring: see [`Tcb::payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// Everything but the payload.
    pub header: Header,
    /// First byte of the payload, counted from SND.UNA.
    pub offset: usize,
    /// Bytes of payload.
    pub len: usize,
    /// Payload bytes per packet, if the device has to split it.
    pub segment_size: Option<u16>,
}

/// A transmission control block. Types differ where data differs; the seven synchronized states share [`Open`].
#[derive(Debug)]
pub enum Tcb {
    /// SYN-SENT.
    SynSent(Box<SynSent>),
    /// SYN-RECEIVED: sizes only, no buffers (unless both sides opened).
    SynReceived(SynReceived),
    /// ESTABLISHED to LAST-ACK.
    Open(Box<Open>),
    /// TIME-WAIT.
    TimeWait(TimeWait),
    /// Nothing is left.
    Closed,
}

impl Tcb {
    /// Begins an active open: a SYN is owed.
    pub fn connect(cx: &mut Cx<'_>, open: ActiveOpen) -> Tcb {
        Tcb::SynSent(Box::new(SynSent::new(cx, open)))
    }

    /// Begins a passive open: a SYN-ACK is owed. `syn` is a SYN without ACK and RST.
    pub fn accept(cx: &mut Cx<'_>, open: PassiveOpen, syn: &Segment<'_>) -> Tcb {
        Tcb::SynReceived(SynReceived::new(cx, open, syn))
    }

    /// How long the headers of the next packet, of at most `len` bytes, will be, and for how much of its text there is a
    /// place in the receive ring: see [`Tcb::landing`].
    pub fn prepare_landing(&mut self, len: usize) -> (usize, usize) {
        match self {
            Tcb::Open(open) => {
                let header_len = open.expected_header_len();
                (header_len, open.prepare_landing(len.saturating_sub(header_len)))
            }
            _ => (0, 0),
        }
    }

    /// The first `len` bytes of that place, if nothing else happened to the connection since.
    pub fn landing(&mut self, len: usize) -> [&mut [u8]; 2] {
        match self {
            Tcb::Open(open) => open.landing(len),
            _ => [&mut [], &mut []],
        }
    }

    /// Whether `seg`, whose text has landed, is the segment it was held for. If so, [`Tcb::on_segment`] comes next.
    pub fn expects(&self, seg: &Segment<'_>) -> bool {
        matches!(self, Tcb::Open(open) if open.expects(seg))
    }

    /// A segment of this connection arrives.
    pub fn on_segment(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Verdict {
        let verdict = match self {
            Tcb::SynSent(syn_sent) => {
                let (next, verdict) = syn_sent.on_segment(cx, seg);
                if let Some(next) = next {
                    *self = next;
                }
                verdict
            }
            Tcb::SynReceived(half_open) => match half_open.on_segment(cx, seg) {
                syn_received::HalfOpen::Complete => match half_open.opener.take() {
                    Some(opener) => {
                        self.establish(cx, opener.pipe);
                        if let Tcb::Open(open) = self {
                            open.snd.path_mtu = opener.limits.path_mtu;
                            open.on_path(cx.path);
                        }
                        let verdict = self.on_segment(cx, &handshake::without_syn(seg));
                        if let Tcb::Open(open) = self
                            && seg.has(Flags::SYN)
                        {
                            open.take_syn_window(seg);
                        }
                        return verdict;
                    }
                    None => Verdict::WantsPipe,
                },
                syn_received::HalfOpen::Stay(verdict) => verdict,
            },
            Tcb::Open(open) => open.on_segment(cx, seg),
            Tcb::TimeWait(record) => record.on_segment(cx, seg),
            Tcb::Closed => Verdict::Reset,
        };
        self.settle(cx);
        verdict
    }

    /// Wires the buffers up: the half-open connection becomes ESTABLISHED.
    pub fn establish(&mut self, cx: &mut Cx<'_>, pipe: StackEnd) {
        if let Tcb::SynReceived(half_open) = self {
            *self = Tcb::Open(Box::new(Open::from_syn_received(cx, half_open, pipe)));
        }
    }

    /// The user rang.
    pub fn on_orders(&mut self, cx: &mut Cx<'_>) {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.on_orders(),
            Tcb::SynReceived(half_open) => half_open.on_orders(cx),
            Tcb::Open(open) => open.on_orders(cx),
            Tcb::TimeWait(_) | Tcb::Closed => {}
        }
        self.settle(cx);
    }

    /// Handles every deadline that is due.
    pub fn on_timeout(&mut self, cx: &mut Cx<'_>) {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.on_timeout(cx),
            Tcb::SynReceived(half_open) => half_open.on_timeout(cx),
            Tcb::Open(open) => open.on_timeout(cx),
            Tcb::TimeWait(record) => {
                if record.deadline() <= cx.now {
                    *self = Tcb::Closed;
                }
            }
            Tcb::Closed => {}
        }
        self.settle(cx);
    }

    /// An ICMP error quotes a segment with sequence number `seq` of this connection.
    pub fn on_icmp(&mut self, cx: &mut Cx<'_>, seq: Seq, kind: IcmpKind) {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.on_icmp(cx, seq, kind),
            Tcb::Open(open) => open.on_icmp(cx, seq, kind),
            // RFC 5927 §4.1: nothing an ICMP error says may end a connection the peer has answered.
            Tcb::SynReceived(_) | Tcb::TimeWait(_) | Tcb::Closed => {
                cx.stats.drop_packet(crate::stats::DropReason::IcmpStale);
            }
        }
    }

    /// The next segment to send; call until `None`.
    pub fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        let transmission = match self {
            Tcb::SynSent(syn_sent) => syn_sent.poll_transmit(cx),
            Tcb::SynReceived(half_open) => half_open.poll_transmit(cx),
            Tcb::Open(open) => open.poll_transmit(cx),
            Tcb::TimeWait(record) => record.poll_transmit(cx),
            Tcb::Closed => None,
        };
        self.check_invariants();
        transmission
    }

    /// When to call [`Tcb::on_timeout`]. Valid after `poll_transmit` answered `None`.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.deadline(),
            Tcb::SynReceived(half_open) => half_open.deadline(),
            Tcb::Open(open) => open.timers.next(),
            Tcb::TimeWait(record) => Some(record.deadline()),
            Tcb::Closed => None,
        }
    }

    /// The payload of a transmission, in place.
    pub fn payload(&self, transmission: &Transmission) -> [&[u8]; 2] {
        match self {
            Tcb::Open(open) if transmission.len > 0 => open.pipe.send_slices(transmission.offset, transmission.len),
            _ => [&[], &[]],
        }
    }

    /// The state of RFC 9293 §3.3.2.
    pub fn state(&self) -> State {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.life.state(),
            Tcb::SynReceived(half_open) => half_open.life.state(),
            Tcb::Open(open) => open.life.state(),
            Tcb::TimeWait(_) => State::TimeWait,
            Tcb::Closed => State::Closed,
        }
    }

    /// Whether the engine can forget it: nothing is left to send or wait for.
    pub fn is_closed(&self) -> bool {
        match self {
            Tcb::Closed => true,
            Tcb::SynSent(syn_sent) => syn_sent.life.state() == State::Closed,
            Tcb::SynReceived(half_open) => {
                half_open.life.state() == State::Closed && half_open.owed != syn_received::Owed::Reset
            }
            Tcb::Open(open) => open.life.state() == State::Closed && !open.reset_owed,
            Tcb::TimeWait(_) => false,
        }
    }

    /// Whether the user's end is gone while bytes or a FIN may still have to be delivered.
    pub fn is_orphan(&self) -> bool {
        matches!(self, Tcb::Open(open) if open.is_orphan())
    }

    /// Bytes queued or sent that the peer has not acknowledged, FIN included.
    pub fn unacked(&self) -> usize {
        match self {
            Tcb::Open(open) => open.unacked(),
            _ => 0,
        }
    }

    /// Whether an ACK waits for the owner's answer: [`Tcb::stop_lingering`] once the owner has had its pass.
    pub fn is_lingering(&self) -> bool {
        matches!(self, Tcb::Open(open) if open.owed.is_lingering())
    }

    /// The owner has had its pass: an ACK that its answer did not carry is due.
    pub fn stop_lingering(&mut self) {
        if let Tcb::Open(open) = self {
            open.owed.stop_lingering();
        }
    }

    /// Whether a writer waits for the stack's memory budget: [`Tcb::retry_budget`] when there is some.
    pub fn is_starved(&self) -> bool {
        matches!(self, Tcb::Open(open) if open.pipe.is_starved())
    }

    /// There is budget again: wakes a writer that waits for it.
    pub fn retry_budget(&mut self) {
        if let Tcb::Open(open) = self {
            open.pipe.retry_budget();
        }
    }

    /// The stack is short of memory: gives back what nobody waits for.
    pub fn on_pressure(&mut self, cx: &mut Cx<'_>) {
        if let Tcb::Open(open) = self {
            open.on_pressure(cx);
        }
        self.check_invariants();
    }

    /// Ends a turn: publishes the snapshot, delivers wakes. Returns how many tasks were woken.
    pub fn end_turn(&mut self) -> usize {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.end_turn(),
            Tcb::SynReceived(half_open) => half_open.end_turn(),
            Tcb::Open(open) => open.end_turn(),
            Tcb::TimeWait(_) | Tcb::Closed => 0,
        }
    }

    /// Ends the connection from our side: a RST is owed where the peer knows of it (RFC 9293 §3.10.5).
    pub fn abort(&mut self, cx: &mut Cx<'_>) {
        match self {
            Tcb::SynSent(syn_sent) => syn_sent.fail(ConnError::Aborted),
            Tcb::SynReceived(half_open) => half_open.abort(cx, ConnError::Aborted),
            Tcb::Open(open) => open.abort(cx, ConnError::Aborted),
            Tcb::TimeWait(_) | Tcb::Closed => {}
        }
    }

    /// The reactor is being dropped: FIN where everything has been sent, else RST. Poll for transmissions afterwards.
    pub fn last_gasp(&mut self, cx: &mut Cx<'_>) {
        match self {
            Tcb::Open(open) => open.last_gasp(),
            Tcb::SynSent(syn_sent) => syn_sent.fail(ConnError::NetworkDown),
            Tcb::SynReceived(half_open) => half_open.abort(cx, ConnError::NetworkDown),
            Tcb::TimeWait(_) | Tcb::Closed => {}
        }
    }

    /// Turns a connection that has reached TIME-WAIT into the small record.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        if let Tcb::Open(open) = self
            && open.life.state() == State::TimeWait
        {
            *self = Tcb::TimeWait(open.enter_time_wait(cx));
        }
        self.check_invariants();
    }

    /// What must hold between calls.
    pub fn check_invariants(&self) {
        if let Tcb::Open(open) = self {
            open.check_invariants();
        }
    }
}

/// The part of a control block that exists before synchronization: who talks to whom, and how headers look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) tuple: FourTuple,
    pub(crate) ts_offset: u32,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
    pub(crate) mss_clamp: Option<u16>,
}

impl Identity {
    fn new(tuple: FourTuple, ts_offset: u32, options: &SocketOptions) -> Identity {
        let traffic_class = match tuple.remote {
            SocketAddr::V4(_) => options.tos,
            SocketAddr::V6(_) => options.tclass,
        };
        // RFC 3168 §5: the two ECN bits are not the user's.
        Identity { tuple, ts_offset, ttl: options.ttl, traffic_class: traffic_class & !3, mss_clamp: options.mss }
    }

    /// TSval at `now` (RFC 7323 §5.4: 1 ms ticks, offset per connection).
    fn ts_val(&self, now: Instant) -> u32 {
        let millis = u32::try_from(now.as_millis() & u64::from(u32::MAX)).unwrap_or(0);
        millis.wrapping_add(self.ts_offset)
    }

    fn header(&self, seq: Seq) -> Header {
        Header {
            local: self.tuple.local,
            remote: self.tuple.remote,
            hop_limit: self.ttl,
            traffic_class: self.traffic_class,
            seq,
            ack: Seq::default(),
            flags: Flags::NONE,
            wnd: 0,
            options: crate::wire::Options::default(),
        }
    }

    fn info(&self) -> ConnInfo {
        ConnInfo { local: Some(self.tuple.local), remote: Some(self.tuple.remote), ..ConnInfo::default() }
    }
}
