//! The fifth check of RFC 9293 §3.10.7.4: what an acknowledgment tells us.

use std::time::Duration;

use super::congestion::{AckEvent, Congestion, LossEvent};
use super::flight::Acked;
use super::input::{Check, DROP};
use super::recovery::OnNewAck;
use super::state::Event;
use super::{Cx, Open};
use crate::pipe::State;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, Segment, Seq};

impl Open {
    pub(super) fn check_ack(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Check {
        if !seg.has(Flags::ACK) {
            cx.stats.drop_packet(DropReason::BadState);
            return DROP;
        }
        // RFC 5961 §5.2: SND.UNA − MAX.SND.WND =< SEG.ACK =< SND.NXT, and never below the first byte ever sent.
        let fin_acked = self.snd.fin.is_some_and(|fin| fin.is_before(self.snd.una));
        let sent = self.bytes_acked.saturating_add(u64::from(fin_acked));
        let reach = u32::try_from(sent).unwrap_or(u32::MAX).min(self.snd.max_wnd);
        let too_old = seg.ack.is_before(self.snd.una - reach);
        if too_old || seg.ack.is_after(self.snd.nxt) {
            cx.stats.drop_packet(DropReason::BadAck);
            self.owe_ack_for(cx, seg);
            return DROP;
        }
        self.note_heard(cx);
        if seg.ack.is_before(self.snd.una) {
            // An old duplicate: its ACK and window say nothing, its text may still be new.
            return Check::Continue(());
        }
        let report = self.take_sack(cx, seg);
        let duplicates = self.count_duplicates(seg, report.newly_sacked);
        let opened = self.update_window(seg);
        let new = seg.ack.is_after(self.snd.una);
        if new {
            self.on_new_ack(cx, seg, report.delivered_before);
        } else {
            (0..duplicates).for_each(|_| self.on_duplicate_ack(cx));
            if report.newly_sacked > 0 && self.flight.rack().is_reordering() {
                // Linux's tcp_may_raise_cwnd: late is not lost, so what overtakes counts like what comes in order.
                self.grow(cx.now, report.delivered_before, Acked::default(), self.recovery.is_active());
            }
        }
        if self.sack {
            self.judge_loss(cx, seg, report, new);
        }
        if opened {
            self.on_window_opened(cx);
        }
        if self.life.state() == State::Closed {
            // LAST-ACK: our FIN is acknowledged, the connection is over.
            return DROP;
        }
        Check::Continue(())
    }

    /// The peer lives: idle timers start again.
    fn note_heard(&mut self, cx: &Cx<'_>) {
        self.last_heard = cx.now;
        self.attempts.keepalives = 0;
        self.arm_keepalive(cx.now);
        // RFC 9293 §3.8.6.1 (MUST-37): as long as the peer answers probes, the connection stays open.
        if self.snd.wnd == 0 {
            self.attempts.timeouts = 0;
        }
    }

    /// RFC 5681 §2: data outstanding, no text, no SYN or FIN, ACK of SND.UNA, window unchanged. While the window is closed
    /// it is the answer to a probe and says nothing about loss.
    fn is_duplicate(&self, seg: &Segment<'_>) -> bool {
        seg.is_empty()
            && seg.ack == self.snd.una
            && self.snd.outstanding() > 0
            && self.snd.wnd > 0
            && u32::from(seg.wnd) << self.snd.wscale == self.snd.wnd
    }

    /// How many segments have arrived behind a gap. Without SACK an ACK stands for one; with SACK it says so itself, whatever
    /// its window does (RFC 6675 §2), and one ACK may report many: Linux compresses them, and ACKs are lost as well.
    fn count_duplicates(&self, seg: &Segment<'_>, newly_sacked: u32) -> u32 {
        if seg.ack != self.snd.una || self.snd.wnd == 0 {
            return 0;
        }
        if self.sack { newly_sacked.div_ceil(u32::from(self.snd.mss)) } else { u32::from(self.is_duplicate(seg)) }
    }

    /// RFC 9293 §3.10.7.4: SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK). Returns whether the
    /// window that kept everything back has become larger.
    fn update_window(&mut self, seg: &Segment<'_>) -> bool {
        // As if what has been received before had been trimmed off.
        let seq = seg.seq.max(self.rcv.nxt);
        let newer = self.snd.wl1.is_before(seq) || (self.snd.wl1 == seq && self.snd.wl2.is_at_or_before(seg.ack));
        if !newer {
            return false;
        }
        let (old_edge, old_wnd) = (self.snd.una + self.snd.wnd, self.snd.wnd);
        self.snd.wnd = u32::from(seg.wnd) << self.snd.wscale;
        self.snd.max_wnd = self.snd.max_wnd.max(self.snd.wnd);
        self.snd.wl1 = seq;
        self.snd.wl2 = seg.ack;
        let edge = seg.ack + self.snd.wnd;
        self.snd.wnd > 0 && edge.is_after(old_edge) && (old_wnd == 0 || self.flight.is_empty())
    }

    /// The window was closed and is open again: what probes carried may have been refused, so it is sent anew at once.
    fn on_window_opened(&mut self, cx: &Cx<'_>) {
        if self.attempts.probes == 0 && !self.flight.is_empty() {
            // No probe: what is in flight left before the window closed. That it has opened is no sign of loss.
            return;
        }
        self.attempts.probes = 0;
        self.attempts.timeouts = 0;
        self.probe_owed = false;
        self.rtt.reset_backoff();
        if self.flight.is_empty() {
            self.timers.retransmit = None;
            self.attempts.since = None;
        } else {
            self.flight.mark_all_lost();
            self.arm_retransmit(cx.now);
        }
    }

    /// SND.UNA < SEG.ACK =< SND.NXT.
    fn on_new_ack(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>, delivered_before: u64) {
        let outstanding = self.flight.bytes_in_flight();
        let mss = u32::from(self.snd.mss);
        let fin_acked = self.snd.fin.is_some_and(|fin| seg.ack.is_after(fin));
        let acked = seg.ack.saturating_offset_from(self.snd.una);
        let text = acked.saturating_sub(u32::from(fin_acked));
        let report = self.flight.on_ack(cx.now, seg.ack);
        self.fit_send_buffer(cx);
        self.pipe.send_acked(text as usize);
        self.arm_idle(cx.now);
        let old_una = std::mem::replace(&mut self.snd.una, seg.ack);
        self.bytes_acked = self.bytes_acked.saturating_add(u64::from(text));
        self.snd.small_end = self.snd.small_end.filter(|end| end.is_after(seg.ack));
        self.attempts.timeouts = 0;
        self.soft_error = None;

        let sample = report.rtt.or_else(|| self.rtt_from_echo(cx, seg));
        if let Some(rtt) = sample {
            // RFC 7323 App. G: several samples a round trip must not shorten the memory of the estimator.
            let expected = outstanding.div_ceil(2 * mss).max(1);
            // RFC 6298 §5, Karn's rule (RFC 9293 MUST-18): only a new sample takes the back-off back, as in Linux
            // (tcp_ack_update_rtt).
            match report.rtt {
                Some(rtt) => self.rtt.on_sample_scaled(rtt, expected),
                None => self.rtt.on_coarse_sample(rtt, expected),
            }
        }

        self.undo_if_refuted(cx, seg, old_una);
        // The ACK that ends recovery must not grow the window that recovery has just set.
        let in_recovery = self.recovery.is_active();
        match self.recovery.on_new_ack(seg.ack) {
            OnNewAck::Normal => {}
            // What the retransmission has overtaken shows when it is delivered: `detect_lost`.
            OnNewAck::Partial if self.sack => {}
            OnNewAck::Partial => {
                self.congestion.on_loss(cx.now, LossEvent::PartialAck { acked });
                self.flight.mark_first_lost(mss);
            }
            OnNewAck::Exit => {
                self.flight.rack().on_recovery_exit();
                let flight_size = (!self.sack).then(|| self.snd.outstanding());
                self.congestion.on_recovery_exit(cx.now, flight_size);
            }
        }
        self.grow(cx.now, delivered_before, Acked { rtt: sample, ..report }, in_recovery);
        if self.flight.is_empty() {
            self.timers.retransmit = None;
            self.attempts.since = None;
            self.attempts.probes = 0;
            self.probe_owed = false;
        } else {
            self.attempts.since = Some(cx.now);
            // RFC 6298 §5.3, in recovery too (RFC 6675 §6): the slow but steady variant of RFC 6582 §4, as Linux.
            self.arm_retransmit(cx.now);
        }
        if fin_acked {
            self.on_fin_acked(cx);
        }
    }

    /// Tells congestion control what has arrived since `delivered_before`.
    fn grow(&mut self, now: Instant, delivered_before: u64, report: Acked, in_recovery: bool) {
        let delivered = self.flight.delivered_since(delivered_before);
        let in_flight = self.flight.bytes_in_flight();
        self.congestion.on_ack(&AckEvent {
            now,
            acked: delivered,
            in_flight_before: in_flight.saturating_add(delivered),
            in_flight,
            rtt: report.rtt,
            rate: report.rate,
            cwnd_limited: self.cwnd_limited,
            in_recovery,
        });
    }

    /// How much of its send buffer the connection uses from now on: all of a size that was set for the socket itself, as
    /// SO_SNDBUF ends Linux's autotuning.
    pub(super) fn fit_send_buffer(&mut self, cx: &mut Cx<'_>) {
        if self.options.send_buffer != cx.config.socket.send_buffer {
            return;
        }
        let share = cx.senders.share(cx.now, self.rtt.srtt(), self.rtt.min_rtt());
        if share.is_some() && self.pipe.has_waiting_writer() {
            cx.senders.count(cx.now, &mut self.counted_as_sender);
        }
        if std::mem::replace(&mut self.share, share) == share {
            return;
        }
        // Whole segments as they leave: a rest would be one more packet each time the buffer is sent. And more than the two
        // full-sized ones for which the peer may delay its ACK.
        let (mss, largest) = (usize::from(self.snd.mss), self.largest_of(self.snd.mss) as usize);
        let whole = share.map(|share| ((share + largest / 2) / largest).max(1) * largest);
        self.pipe.set_send_share(whole.map_or(usize::MAX, |share| share.max(4 * mss)));
    }

    /// The peer has not read for a while: a program may count on the buffer to hold what it will read later.
    pub(super) fn use_whole_send_buffer(&mut self) {
        self.share = None;
        self.pipe.release_send_share();
    }

    /// RFC 7323 §4.1: the echo of a timestamp we sent, when Karn's rule forbids the better sample.
    fn rtt_from_echo(&self, cx: &Cx<'_>, seg: &Segment<'_>) -> Option<Duration> {
        // A sample longer than the connection can have waited is a lie or a wrapped clock.
        let limit = cx.config.rto_max.saturating_mul(2);
        self.echo_age(cx, seg).map(|age| Duration::from_millis(u64::from(age))).filter(|rtt| *rtt <= limit)
    }

    /// How many milliseconds ago we sent the timestamp that `seg` echoes.
    pub(super) fn echo_age(&self, cx: &Cx<'_>, seg: &Segment<'_>) -> Option<u32> {
        let ts = self.timestamps.and(seg.options.timestamps).filter(|ts| ts.ecr != 0)?;
        Seq::new(self.id.ts_val(cx.now)).offset_from(Seq::new(ts.ecr))
    }

    fn on_fin_acked(&mut self, cx: &Cx<'_>) {
        self.life.on(Event::FinAcked);
        match self.life.state() {
            State::FinWait2 => self.arm_fin_wait2(cx),
            State::Closed => {
                self.timers.clear();
                self.pipe.finish();
            }
            _ => {}
        }
    }
}
