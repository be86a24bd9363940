//! What a synchronized connection does about loss: when recovery begins, with and without SACK, and how a needless one is
//! taken back.

use std::time::Duration;

use super::congestion::{Congestion, LossEvent, Windows};
use super::prr::{Prr, Target};
use super::recovery::OnDuplicate;
use super::spurious::Doubt;
use super::{Cx, Open};
use crate::time::Instant;
use crate::wire::{SackBlock, Segment, Seq};

/// Linux's TCP_TIMEOUT_MIN, two ticks of 1 ms: what is late by a moment may be on its way through another queue.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(2);

/// What is not judged at once waits no longer.
const DEFERRED: Duration = Duration::from_millis(10);

/// What an ACK has brought, besides SND.UNA.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Report {
    /// C.delivered before it.
    pub(super) delivered_before: u64,
    /// Bytes newly SACKed.
    pub(super) newly_sacked: u32,
    /// D-SACK: what has arrived twice.
    pub(super) duplicate: Option<SackBlock>,
    /// No text, no SACK block, no change of the window.
    pub(super) is_bare: bool,
}

impl Open {
    /// The SACK option of an acceptable ACK, before SND.UNA moves.
    pub(super) fn take_sack(&mut self, cx: &Cx<'_>, seg: &Segment<'_>) -> Report {
        let mut report = Report { delivered_before: self.flight.delivered(), ..Report::default() };
        let blocks = seg.options.sack.as_slice();
        report.is_bare = seg.is_empty() && blocks.is_empty() && u32::from(seg.wnd) << self.snd.wscale == self.snd.wnd;
        let sent_again = self.tail_probe.is_some() || self.recovery.is_recovering(self.snd.una);
        if !self.sack || !sent_again && blocks.is_empty() {
            self.flight.rack().on_echo(None);
            return report;
        }
        let age = if sent_again { self.echo_age(cx, seg) } else { None };
        let sent = age.map(|age| cx.now.as_millis().saturating_sub(u64::from(age)));
        self.flight.rack().on_echo(sent.map(|millis| Instant::from_millis(millis.saturating_add(1))));
        report.duplicate = self.take_duplicate_report(cx, seg);
        report.newly_sacked = self.flight.on_sack(cx.now, blocks);
        report
    }

    /// After SND.UNA has moved, if it has (`new`): what is lost, and what the tail loss probe found.
    pub(super) fn judge_loss(&mut self, cx: &Cx<'_>, seg: &Segment<'_>, report: Report, new: bool) {
        if new || report.newly_sacked > 0 {
            let lost_before = self.flight.lost_bytes();
            if !self.may_have_lost() || self.flight.is_worth_judging(u32::from(self.snd.mss)) {
                self.detect_lost(cx);
            } else {
                self.timers.reorder.get_or_insert(cx.now + DEFERRED);
            }
            let steady = new && self.flight.lost_bytes() <= lost_before;
            self.reduce(self.flight.delivered_since(report.delivered_before), steady);
            self.judge_tail_probe(cx, seg, report);
            self.arm_tail_probe(cx);
        } else {
            self.judge_tail_probe(cx, seg, report);
        }
    }

    /// What may be in flight: as congestion control says or, in a recovery with SACK, on the way there.
    pub(super) fn send_window(&self) -> u32 {
        self.prr.map_or(self.congestion.cwnd(), |prr| prr.cwnd())
    }

    /// An ACK in recovery.
    fn reduce(&mut self, delivered: u32, steady: bool) {
        self.prr = self.prr.filter(|_| self.recovery.is_active());
        if let Some(prr) = &mut self.prr {
            let target = Target { ssthresh: self.congestion.ssthresh(), mss: u32::from(self.snd.mss) };
            prr.on_ack(delivered, self.flight.bytes_in_flight(), target, steady);
        }
    }

    /// RACK's reordering timer.
    pub(super) fn on_reorder_timeout(&mut self, cx: &Cx<'_>) {
        let lost_before = self.flight.lost_bytes();
        self.detect_lost(cx);
        if self.flight.lost_bytes() > lost_before {
            // As Linux's tcp_rack_reo_timeout: one segment may go, and has its time.
            self.reduce(u32::from(self.snd.mss), false);
            self.arm_retransmit(cx.now);
        }
    }

    pub(super) fn on_duplicate_ack(&mut self, cx: &Cx<'_>) {
        if self.sack {
            self.recovery.count_duplicate(self.snd.nxt);
            return;
        }
        match self.recovery.on_duplicate(self.snd.una, self.snd.nxt) {
            OnDuplicate::Wait => {}
            OnDuplicate::FastRetransmit => {
                let mss = u32::from(self.snd.mss);
                self.on_recovery_begins(cx, mss.saturating_mul(3));
                self.flight.mark_first_lost(mss);
            }
            OnDuplicate::Inflate => self.congestion.on_loss(cx.now, LossEvent::ExtraDupAck),
        }
    }

    /// Whether anything can have been overtaken.
    fn may_have_lost(&self) -> bool {
        self.flight.has_sacked() || self.recovery.is_recovering(self.snd.una)
    }

    /// RFC 8985 §6.2: with SACK, loss is what later transmissions have overtaken for too long.
    fn detect_lost(&mut self, cx: &Cx<'_>) {
        self.timers.reorder = None;
        if !self.may_have_lost() {
            return;
        }
        let recovers = self.recovery.is_recovering(self.snd.una);
        // RFC 6675 §4, IsLost(SND.UNA): more than two segments were reported, by this ACK and those before.
        let missing = self.flight.bytes_in_flight().saturating_add(self.flight.lost_bytes());
        let sacked = self.snd.outstanding().saturating_sub(missing);
        let certain = recovers || self.recovery.has_dup_thresh() || sacked > 2 * u32::from(self.snd.mss);
        let window = self.flight.rack().window(certain, self.rtt.srtt());
        let until = self.flight.detect_lost(cx.now, window);
        self.timers.reorder = until.map(|until| until.max(cx.now + TIMEOUT_MIN));
        // Also what was sent, and lost, in the recovery that has just ended.
        if self.flight.has_lost_beyond(self.snd.una) && self.recovery.on_loss_found(self.snd.una, self.snd.nxt) {
            // RFC 6675 §5: with SACK the flight shrinks with each report; inflating cwnd as well would send twice.
            self.on_recovery_begins(cx, 0);
        }
    }

    fn on_recovery_begins(&mut self, cx: &Cx<'_>, left_network: u32) {
        self.doubt_loss();
        // What the probe has shown is repaired, and reduced for, by recovery.
        self.tail_probe = None;
        let one_more = self.flight.bytes_in_flight().saturating_add(u32::from(self.snd.mss));
        self.prr = self.sack.then(|| Prr::new(self.congestion.cwnd(), one_more));
        let flight_size = self.recovery.flight_size(self.snd.una, self.snd.nxt);
        self.congestion.on_loss(cx.now, LossEvent::DupAck { flight_size, left_network });
    }

    /// Recovery begins: it may turn out to be needless. To be called before the windows are reduced.
    pub(super) fn doubt_loss(&mut self) {
        let before = Windows { cwnd: self.congestion.cwnd(), ssthresh: self.congestion.ssthresh() };
        self.doubt = Some(Doubt::new(self.snd.una, before));
    }

    /// D-SACK: the peer has received something twice.
    fn take_duplicate_report(&mut self, cx: &Cx<'_>, seg: &Segment<'_>) -> Option<SackBlock> {
        let block = duplicate_report(seg)?;
        // What the network duplicated says nothing about how it reorders.
        if let Some(mut doubt) = self.doubt.filter(|doubt| doubt.concerns(block)) {
            self.flight.rack().on_duplicate_report(self.snd.nxt);
            doubt.explain(block);
            self.doubt = Some(doubt);
            if doubt.is_refuted() {
                self.undo(cx, doubt);
            }
        }
        Some(block)
    }

    /// Something was acknowledged while recovery was under way.
    pub(super) fn undo_if_refuted(&mut self, cx: &Cx<'_>, seg: &Segment<'_>, old_una: Seq) {
        let echo = self.timestamps.and(seg.options.timestamps).map(|ts| ts.ecr);
        self.doubt = self.doubt.filter(|doubt| !doubt.is_stale(self.snd.una));
        let doubt = self.doubt.filter(|doubt| doubt.is_refuted_by_ack(echo));
        let Some(doubt) = doubt.filter(|_| self.recovery.is_recovering(old_una)) else { return };
        // As Linux's tcp_try_undo_partial: this hole was late, others may be lost.
        if !(self.recovery.is_partial(self.snd.una) && self.flight.has_retransmissions()) {
            self.undo(cx, doubt);
        }
    }

    /// RFC 4015 §3.2 as Linux's tcp_undo_cwnd_reduction: nothing was lost, only late.
    fn undo(&mut self, cx: &Cx<'_>, doubt: Doubt) {
        self.doubt = None;
        self.prr = None;
        self.recovery.undo(self.snd.una);
        self.flight.unmark_lost();
        self.flight.rack().on_reordering();
        self.congestion.on_undo(cx.now, doubt.before);
    }
}

/// RFC 2883 §4: the first block reports what had arrived before, below the acknowledgment or within the second block.
fn duplicate_report(seg: &Segment<'_>) -> Option<SackBlock> {
    let blocks = seg.options.sack.as_slice();
    let first = *blocks.first()?;
    let within =
        |second: &SackBlock| second.left.is_at_or_before(first.left) && first.right.is_at_or_before(second.right);
    (first.right.is_at_or_before(seg.ack) || blocks.get(1).is_some_and(within)).then_some(first)
}
