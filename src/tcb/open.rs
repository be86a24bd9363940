//! [`Open`]: the control block of the seven synchronized states.

use super::congestion::{Algorithm, Congestion, LossEvent};
use super::flight::Flight;
use super::handshake::{Synchronized, fixed_options_len, syn_window};
use super::prr::Prr;
use super::recovery::Recovery;
use super::recv::{OwedAcks, RecvSpace, first_promise};
use super::rtt::RttEstimator;
use super::send::{SendSpace, effective_mss};
use super::spurious::Doubt;
use super::state::{Event, Lifecycle};
use super::tail_loss::TailProbe;
use super::time_wait::TimeWait;
use super::timer::Timers;
use super::{Cx, Identity, Path};
use crate::config::SocketOptions;
use crate::error::ConnError;
use crate::pipe::{ConnInfo, StackEnd, State};
use crate::time::Instant;
use crate::wire::Seq;

/// Timestamps in use (RFC 7323).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimestampState {
    /// TS.Recent
    pub(super) recent: u32,
    /// When TS.Recent was taken: older than 24 days it proves nothing (RFC 7323 §5.5).
    pub(super) recent_at: Instant,
}

/// What the persist and retransmission timers have tried in vain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attempts {
    /// Timeouts since the peer last acknowledged anything (or, with a closed window, last answered).
    pub(super) timeouts: u32,
    /// Probes into a closed window since it closed; bounds an orphan's life (reliability.md A14).
    pub(super) probes: u32,
    /// Keepalive probes since the peer was last heard.
    pub(super) keepalives: u32,
    /// When the oldest thing the peer owes an answer for was first sent (RFC 5482).
    pub(super) since: Option<Instant>,
}

/// A synchronized connection.
#[derive(Debug)]
pub struct Open {
    pub(super) id: Identity,
    pub(super) life: Lifecycle,
    pub(super) options: SocketOptions,
    pub(super) pipe: StackEnd,
    pub(super) path: Path,
    pub(super) snd: SendSpace,
    pub(super) rcv: RecvSpace,
    pub(super) rtt: RttEstimator,
    pub(super) congestion: Algorithm,
    pub(super) flight: Flight,
    pub(super) recovery: Recovery,
    /// The last reduction of cwnd may have been needless.
    pub(super) doubt: Option<Doubt>,
    pub(super) prr: Option<Prr>,
    pub(super) tail_probe: Option<TailProbe>,
    /// A tail loss probe must go out.
    pub(super) tail_probe_owed: bool,
    pub(super) timers: Timers,
    pub(super) timestamps: Option<TimestampState>,
    pub(super) sack: bool,
    /// Whether both SYNs carried a window scale.
    pub(super) scaled: bool,
    pub(super) owed: OwedAcks,
    pub(super) attempts: Attempts,
    pub(super) last_challenge: Option<Instant>,
    /// When the peer was last heard, when we last sent text.
    pub(super) last_heard: Instant,
    /// When text last arrived.
    pub(super) last_text: Instant,
    pub(super) last_sent: Instant,
    /// A RST is the last thing to send.
    pub(super) reset_owed: bool,
    /// Why the connection ends with a RST once what can go out now is out.
    pub(super) reset_last: Option<ConnError>,
    /// A segment must go out although the window is closed.
    pub(super) probe_owed: bool,
    /// A keepalive probe must go out.
    pub(super) keepalive_owed: bool,
    /// The user's end is gone.
    pub(super) orphaned: bool,
    /// The last transmission stopped because of the congestion window.
    pub(super) cwnd_limited: bool,
    /// Bytes of the send buffer in use, before rounding; `None`: all.
    pub(super) share: Option<usize>,
    /// Note of [`super::Senders`].
    pub(super) counted_as_sender: u64,
    /// An ICMP error that explains a later give-up (RFC 1122 §4.2.3.9).
    pub(super) soft_error: Option<ConnError>,
    pub(super) retransmits: u64,
    pub(super) bytes_acked: u64,
    pub(super) bytes_received: u64,
}

impl Open {
    pub(super) fn new(cx: &mut Cx<'_>, start: Synchronized, pipe: StackEnd) -> Open {
        let options = pipe.options();
        let Synchronized { life, id, iss, irs, agreed, rtt, syn_lost } = start;
        let ts_len = fixed_options_len(agreed.ts_recent.is_some());
        let mss = effective_mss((agreed.peer_mss, None), cx.path, &id.tuple.remote, ts_len);
        let capacity = pipe.recv_capacity();
        let granted = first_promise(capacity, cx.config.memory_budget);
        let (their_scale, our_scale) = agreed.scales.unwrap_or((0, 0));
        // Half of what is granted, not of the buffer: a loopback segment fills the whole first promise.
        pipe.set_read_step((2 * usize::from(mss)).min(granted / 2).max(1));
        let mut congestion = Algorithm::new(options.congestion, u32::from(mss), cx.config.initial_window);
        if syn_lost {
            congestion.on_loss(cx.now, LossEvent::Syn);
        }
        let mut open = Open {
            id,
            life,
            options,
            pipe,
            path: cx.path,
            snd: SendSpace {
                una: iss + 1,
                nxt: iss + 1,
                wnd: 0,
                wl1: irs,
                wl2: iss,
                iss,
                max_wnd: 0,
                wscale: their_scale,
                peer_mss: agreed.peer_mss,
                path_mtu: None,
                mss,
                fin: None,
                fin_queued: false,
                small_end: None,
            },
            rcv: RecvSpace::new(irs, syn_window(cx, capacity), our_scale, granted, cx.now),
            congestion,
            rtt,
            flight: Flight::default(),
            recovery: Recovery::new(iss + 1),
            doubt: None,
            prr: None,
            tail_probe: None,
            tail_probe_owed: false,
            timers: Timers::default(),
            timestamps: agreed.ts_recent.map(|recent| TimestampState { recent, recent_at: cx.now }),
            sack: agreed.sack,
            scaled: agreed.scales.is_some(),
            owed: OwedAcks::default(),
            attempts: Attempts::default(),
            last_challenge: None,
            last_heard: cx.now,
            last_text: cx.now,
            last_sent: cx.now,
            reset_owed: false,
            reset_last: None,
            probe_owed: false,
            keepalive_owed: false,
            orphaned: false,
            cwnd_limited: false,
            share: None,
            counted_as_sender: 0,
            soft_error: None,
            retransmits: 0,
            bytes_acked: 0,
            bytes_received: 0,
        };
        if let Some(rtt) = open.rtt.min_rtt() {
            open.flight.rack().on_round_trip(rtt);
        }
        let info = open.info();
        open.pipe.on_established(info);
        open.arm_keepalive(cx.now);
        open.pipe.fit_recv(open.ring_span());
        open.fit_send_buffer(cx);
        open
    }

    /// The way to the peer has changed, or is known for the first time.
    pub(super) fn on_path(&mut self, path: Path) {
        self.path = path;
        let ts_len = fixed_options_len(self.timestamps.is_some());
        let mss = effective_mss((self.snd.peer_mss, self.snd.path_mtu), path, &self.id.tuple.remote, ts_len);
        let mss = self.id.mss_clamp.map_or(mss, |clamp| mss.min(clamp.saturating_sub(ts_len).max(1)));
        if mss != self.snd.mss {
            self.snd.mss = mss;
            self.congestion.on_mss_change(u32::from(mss));
            // Rounded anew with the next ACK.
            self.share = Some(0);
        }
    }

    /// Bytes in front of the text of a segment with no other options than the ones on every segment.
    pub(super) fn expected_header_len(&self) -> usize {
        let ip = if self.id.tuple.remote.is_ipv4() { 20 } else { 40 };
        ip + 20 + usize::from(fixed_options_len(self.timestamps.is_some()))
    }

    /// Whether the user's end is gone.
    pub(super) const fn is_orphan(&self) -> bool {
        self.orphaned
    }

    /// Bytes and FIN that the peer has not acknowledged.
    pub(super) fn unacked(&self) -> usize {
        let fin = self.snd.fin_queued && self.snd.fin.is_none_or(|fin| fin.is_at_or_after(self.snd.una));
        self.pipe.send_len() + usize::from(fin)
    }

    /// First sequence number after the last byte the user has queued.
    pub(super) fn queued_end(&self) -> Seq {
        self.snd.una + u32::try_from(self.pipe.send_len()).unwrap_or(u32::MAX)
    }

    /// Bytes queued and never sent.
    pub(super) fn unsent(&self) -> u32 {
        if self.snd.fin.is_some() { 0 } else { self.queued_end().saturating_offset_from(self.snd.nxt) }
    }

    /// Whether a FIN must still be sent for the first time.
    pub(super) const fn is_fin_pending(&self) -> bool {
        self.snd.fin_queued && self.snd.fin.is_none()
    }

    /// RST received, give-up or abort: tells the user and forgets everything else.
    pub(super) fn end(&mut self, error: ConnError) {
        self.life.on(Event::End);
        self.timers.clear();
        self.pipe.fail(error);
    }

    /// Ends the connection from our side with a RST (RFC 9293 §3.10.5).
    pub(super) fn abort(&mut self, cx: &mut Cx<'_>, error: ConnError) {
        if self.life.state() == State::Closed {
            return;
        }
        self.reset_owed = true;
        cx.stats.resets_out += 1;
        self.end(error);
    }

    /// Ends the connection with a RST behind what the windows allow: the peer has what was written, and learns that it is
    /// not all. As with Linux, where a write has sent it by then.
    pub(super) fn reset_at_last(&mut self, error: ConnError) {
        self.owed.stop_lingering();
        self.reset_last = Some(error);
    }

    /// The reactor is being dropped: a FIN where all has been sent and taken, else a RST.
    pub(super) fn last_gasp(&mut self) {
        let room = self.send_window().saturating_sub(self.flight.bytes_in_flight());
        if self.unsent() > self.snd.usable().min(room) || self.pipe.recv_len() > 0 {
            self.reset_at_last(ConnError::NetworkDown);
        } else {
            self.owed.stop_lingering();
            self.close();
        }
    }

    /// The record that stays behind (RFC 9293 §3.3.2, TIME-WAIT).
    pub(super) fn enter_time_wait(&mut self, cx: &mut Cx<'_>) -> TimeWait {
        let ack_owed = !self.owed.is_empty();
        self.pipe.finish();
        self.pipe.publish_info(|info| {
            self.show(info);
            info.state = State::TimeWait;
        });
        cx.stats.wakes += u64::try_from(self.pipe.wake()).unwrap_or(0);
        let wnd = u16::try_from(self.rcv.wnd() >> self.rcv.wscale).unwrap_or(u16::MAX);
        TimeWait::new(cx, self.id, (self.snd.nxt, self.rcv.nxt, wnd), self.timestamps.map(|ts| ts.recent), ack_owed)
    }

    pub(super) fn end_turn(&mut self) -> usize {
        if self.life.state() == State::Closed {
            self.pipe.finish();
        }
        self.pipe.publish_info(|info| self.show(info));
        self.pipe.wake()
    }

    fn info(&self) -> ConnInfo {
        let mut info = ConnInfo {
            iss: Some(self.snd.iss),
            irs: Some(self.rcv.irs),
            window_scale: self.scaled.then_some((self.snd.wscale, self.rcv.wscale)),
            timestamps: self.timestamps.is_some(),
            sack: self.sack,
            ..self.id.info()
        };
        self.show(&mut info);
        info
    }

    /// What changes while the connection lives.
    fn show(&self, info: &mut ConnInfo) {
        info.state = self.life.state();
        info.snd_una = self.snd.una;
        info.snd_nxt = self.snd.nxt;
        info.snd_wnd = self.snd.wnd;
        info.rcv_nxt = self.rcv.nxt;
        info.rcv_wnd = self.rcv.wnd();
        info.mss = self.snd.mss;
        info.srtt = self.rtt.srtt();
        info.rttvar = self.rtt.rttvar();
        info.rto = self.rtt.rto();
        info.cwnd = self.send_window();
        info.ssthresh = self.congestion.ssthresh();
        info.retransmits = self.retransmits;
        info.bytes_acked = self.bytes_acked;
        info.bytes_received = self.bytes_received;
    }

    /// What must hold between calls.
    pub(super) fn check_invariants(&self) {
        if cfg!(debug_assertions) && self.life.state() != State::Closed {
            assert!(self.snd.nxt.is_at_or_after(self.snd.una), "SND.NXT before SND.UNA");
            assert!(self.rcv.adv.is_at_or_after(self.rcv.nxt), "the promise lies behind RCV.NXT");
            let room = self.pipe.recv_free() + usize::from(self.rcv.fin == Some(self.rcv.nxt - 1));
            assert!(self.rcv.wnd() as usize <= room, "promised {} of {room} free bytes", self.rcv.wnd());
            let highest = self.rcv.assembler.highest().unwrap_or(0);
            assert!(self.pipe.is_covered(highest as usize), "bytes in the ring that nobody paid for");
            assert!(self.snd.outstanding_text() as usize <= self.pipe.send_len(), "sent more than queued");
            assert!(self.snd.mss > 0, "no room for payload");
            if self.snd.outstanding() > 0 && !self.flight.is_empty() {
                assert!(self.timers.retransmit.is_some(), "in flight without a timer");
            }
        }
    }
}
