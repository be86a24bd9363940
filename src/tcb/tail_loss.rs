//! Tail loss probes (RFC 8985 §7): what is lost at the end of a flight has nothing behind it that could tell, and a timeout
//! is long. The last segment once more, after two round trips, makes the peer say what it has.

use std::time::Duration;

use super::congestion::{Congestion, LossEvent};
use super::loss::{Report, TIMEOUT_MIN};
use super::output::What;
use super::{Cx, Open};
use crate::time::Instant;
use crate::wire::{Segment, Seq};

/// RFC 8985 §7.2's PTO without a measured round trip.
const UNMEASURED: Duration = Duration::from_secs(1);
/// How long a probe waits for a peer that talks.
const AGAIN: Duration = Duration::from_millis(10);

/// A probe that has been sent and not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailProbe {
    /// TLP.end_seq: SND.NXT after it.
    end: Seq,
    /// TLP.is_retrans: it carried nothing new.
    repeats: bool,
}

impl Open {
    /// RFC 8985 §7.2, TLP_calc_PTO: armed with each transmission of new data and each ACK that brings something, while
    /// nothing tells of loss. Never later than the RTO, whose place it then takes.
    pub(super) fn arm_tail_probe(&mut self, cx: &Cx<'_>) {
        self.timers.tail_probe = None;
        self.tail_probe_owed = false;
        let calm = self.tail_probe.is_none() && !self.flight.has_sacked() && !self.recovery.is_recovering(self.snd.una);
        if !(self.sack && cx.config.tail_loss_probe && calm) || self.flight.is_empty() || self.snd.wnd == 0 {
            return;
        }
        // The ACK of a lone segment may be delayed: TLP.max_ack_delay, as Linux the floor of the RTO.
        let alone = self.flight.len() == 1 && self.snd.outstanding() <= u32::from(self.snd.mss);
        let extra = if alone { cx.config.rto_min } else { TIMEOUT_MIN };
        let pto = self.rtt.srtt().map_or(UNMEASURED, |srtt| srtt.saturating_mul(2).saturating_add(extra));
        self.timers.tail_probe = self.timers.retransmit.map(|rto| rto.min(cx.now + pto));
    }

    /// RFC 8985 §7.3: one probe leaves whatever cwnd says, and the RTO starts anew. Not while the peer talks: what we wait
    /// for may be behind what it says, in the queue of a TUN that we have not read yet. The RTO does not wait.
    pub(super) fn on_tail_probe_timeout(&mut self, now: Instant) {
        let talks = now.since(self.last_heard) < TIMEOUT_MIN;
        if let Some(rto) = self.timers.retransmit.filter(|rto| talks && *rto > now) {
            self.timers.tail_probe = Some(rto.min(now + AGAIN));
            return;
        }
        self.tail_probe_owed = self.plan_tail_probe().is_some();
        if self.tail_probe_owed {
            self.arm_retransmit(now);
        }
    }

    /// New data if there is some and the peer has room for a whole segment of it, else the last segment.
    pub(super) fn plan_tail_probe(&self) -> Option<What> {
        let mss = u32::from(self.current_mss());
        let len = self.unsent().min(mss);
        if len > 0 && len <= self.snd.usable() {
            return Some(What::Data { len, fin: false });
        }
        let end = self.snd.nxt;
        let last = self.flight.last().filter(|record| record.end == end && !record.sacked)?;
        let fin = u32::from(self.snd.fin.is_some_and(|fin| end.is_after(fin)));
        let text = last.len().saturating_sub(fin).min(mss);
        // Beyond a window that has shrunk nothing is sent.
        let fits = self.snd.outstanding() <= self.snd.wnd.saturating_add(fin);
        fits.then_some(What::Retransmit { start: end - fin - text, end })
    }

    /// What [`Self::plan_tail_probe`] planned is sent.
    pub(super) fn on_tail_probe_sent(&mut self, cx: &mut Cx<'_>, what: What) {
        cx.stats.tail_probes += 1;
        let repeats = matches!(what, What::Retransmit { .. });
        self.tail_probe = Some(TailProbe { end: self.snd.nxt, repeats });
    }

    /// RFC 8985 §7.4.2, TLP_process_ack.
    pub(super) fn judge_tail_probe(&mut self, cx: &Cx<'_>, seg: &Segment<'_>, report: Report) {
        let Some(probe) = self.tail_probe.filter(|probe| seg.ack.is_at_or_after(probe.end)) else { return };
        // A duplicate ACK, without SACK blocks or with a D-SACK.
        let is_duplicate = report.is_bare && self.flight.delivered_since(report.delivered_before) == 0;
        let both_arrived = is_duplicate || report.duplicate.is_some_and(|block| block.right == probe.end);
        if !probe.repeats || both_arrived {
            self.tail_probe = None;
        } else if seg.ack.is_after(probe.end) {
            // The probe has repaired a loss that nothing else has shown: congestion all the same.
            self.tail_probe = None;
            let flight_size = self.congestion.cwnd();
            self.congestion.on_loss(cx.now, LossEvent::DupAck { flight_size, left_network: 0 });
        }
    }
}
