//! TIME-WAIT: a small record that acknowledges a repeated FIN and nothing else (RFC 9293 §3.10.7.4, RFC 1337, RFC 6191).

use super::{Cx, Identity, Transmission, Verdict};
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Flags, Segment, Seq, Timestamps};

/// What is left of a connection for 2·MSL.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    id: Identity,
    snd_nxt: Seq,
    rcv_nxt: Seq,
    /// Window field of our ACKs: what the peer was last told.
    wnd: u16,
    ts_recent: Option<u32>,
    deadline: Instant,
    ack_owed: bool,
}

impl TimeWait {
    pub(super) fn new(
        cx: &Cx<'_>,
        id: Identity,
        (snd_nxt, rcv_nxt, wnd): (Seq, Seq, u16),
        ts_recent: Option<u32>,
        ack_owed: bool,
    ) -> TimeWait {
        TimeWait { id, snd_nxt, rcv_nxt, wnd, ts_recent, deadline: cx.now + cx.config.time_wait, ack_owed }
    }

    /// SND.NXT of the connection that was: an ISS beyond it is safe (RFC 9293 §3.6.1).
    pub const fn snd_nxt(&self) -> Seq {
        self.snd_nxt
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn on_segment(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Verdict {
        // RFC 1337 §3 (fix F1): a RST does not end TIME-WAIT.
        if seg.has(Flags::RST) {
            cx.stats.drop_packet(DropReason::BadRst);
            return Verdict::Done;
        }
        if seg.has(Flags::SYN) && !seg.has(Flags::ACK) && self.may_reuse(seg) {
            return Verdict::NewSyn;
        }
        // Only a retransmission of the peer's FIN can be meant; whatever occupies sequence space, or was never in the
        // window, gets the ACK. Deviates from RFC 9293 §3.10.7.4, first check: a pure ACK gets none, whatever its numbers, so that
        // two such records can't answer each other.
        if seg.is_empty() {
            cx.stats.drop_packet(DropReason::BadState);
            return Verdict::Done;
        }
        if seg.has(Flags::FIN) && seg.end() == self.rcv_nxt {
            // RFC 9293 §3.10.7.4, eighth check: restart the 2 MSL timeout.
            self.deadline = cx.now + cx.config.time_wait;
        } else {
            cx.stats.drop_packet(DropReason::OutOfWindow);
        }
        self.ack_owed = true;
        Verdict::Done
    }

    /// RFC 6191 §2: larger timestamp, or no timestamps and a larger sequence number.
    fn may_reuse(&self, seg: &Segment<'_>) -> bool {
        match (self.ts_recent, seg.options.timestamps) {
            (Some(recent), Some(ts)) => {
                let (val, recent) = (Seq::new(ts.val), Seq::new(recent));
                val.is_after(recent) || (val == recent && seg.seq.is_after(self.rcv_nxt))
            }
            _ => seg.seq.is_after(self.rcv_nxt),
        }
    }

    pub(super) fn poll_transmit(&mut self, cx: &mut Cx<'_>) -> Option<Transmission> {
        if !self.ack_owed {
            return None;
        }
        self.ack_owed = false;
        let mut header = self.id.header(self.snd_nxt);
        header.flags = Flags::ACK;
        header.ack = self.rcv_nxt;
        header.wnd = self.wnd;
        header.options.timestamps = self.ts_recent.map(|ecr| Timestamps { val: self.id.ts_val(cx.now), ecr });
        Some(Transmission { header, offset: 0, len: 0, segment_size: None })
    }
}
