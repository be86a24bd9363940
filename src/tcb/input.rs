//! A segment arrives at a synchronized connection: the checks of RFC 9293 §3.10.7.4, in its order.
//!
//! Nothing here sends: arrival records what is owed, `output` sends it.

use std::ops::ControlFlow;
use std::time::Duration;

use super::handshake::{allow_challenge, believed_mtu};
use super::{Cx, Open, Verdict};
use crate::error::ConnError;
use crate::pipe::State;
use crate::stats::DropReason;
use crate::wire::{Flags, IcmpKind, Segment, Seq};

/// `Break` ends processing with a verdict.
pub(super) type Check = ControlFlow<Verdict>;

/// Processing ends here, nothing more to do.
pub(super) const DROP: Check = ControlFlow::Break(Verdict::Done);

/// TS.Recent proves nothing after 24 days: the clock may have wrapped (RFC 7323 §5.5).
const PAWS_IDLE: Duration = Duration::from_secs(24 * 24 * 3600);

impl Open {
    pub(super) fn on_segment(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Verdict {
        if self.life.state() == State::Closed || self.reset_last.is_some() {
            return Verdict::Done;
        }
        if self.path != cx.path {
            self.on_path(cx.path);
        }
        match self.arrive(cx, *seg) {
            ControlFlow::Break(verdict) => verdict,
            ControlFlow::Continue(()) => Verdict::Done,
        }
    }

    fn arrive(&mut self, cx: &mut Cx<'_>, mut seg: Segment<'_>) -> Check {
        let whole = seg;
        self.check_timestamps(cx, &seg)?;
        self.check_sequence(cx, &mut seg)?;
        self.check_reset(cx, &seg)?;
        self.check_syn(cx, &seg)?;
        self.check_ack(cx, &whole)?;
        // Behind the check of the ACK, as in Linux: what is not acceptable must not decide what is (reliability.md A21).
        self.note_timestamps(cx, &whole);
        // Sixth, the URG bit: ignored, urgent data is delivered in line (RFC 6093; ARCHITECTURE.md, deviations).
        self.check_text(cx, &seg)?;
        self.check_fin(cx, &seg);
        Check::Continue(())
    }

    /// RFC 7323 §5.3 R1 (PAWS) and §3.2: once negotiated, every segment but a RST carries timestamps.
    fn check_timestamps(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Check {
        let Some(state) = self.timestamps.filter(|_| !seg.has(Flags::RST)) else { return Check::Continue(()) };
        let Some(ts) = seg.options.timestamps else {
            cx.stats.drop_packet(DropReason::Paws);
            if seg.has(Flags::SYN) {
                // RFC 5961 §4.2, whatever else is wrong with it: a peer that has rebooted must learn of us.
                self.challenge(cx);
            }
            return DROP;
        };
        let fresh = cx.now.since(state.recent_at) < PAWS_IDLE;
        if fresh && Seq::new(ts.val).is_before(Seq::new(state.recent)) {
            cx.stats.drop_packet(DropReason::Paws);
            self.owe_ack_for(cx, seg);
            return DROP;
        }
        Check::Continue(())
    }

    /// First, check the sequence number; then trim the segment to the window.
    fn check_sequence(&mut self, cx: &mut Cx<'_>, seg: &mut Segment<'_>) -> Check {
        let wnd = self.rcv.wnd();
        if !is_acceptable(seg, self.rcv.nxt, wnd) {
            // RFC 9293 §3.8.6 (MUST-66, "special allowance"): with the window closed, a segment at RCV.NXT still has its
            // ACK and RST processed; only its text is refused.
            if wnd == 0 && seg.seq == self.rcv.nxt && !seg.has(Flags::SYN) {
                self.refuse_text(cx, seg);
                return Check::Continue(());
            }
            cx.stats.drop_packet(DropReason::OutOfWindow);
            if !seg.has(Flags::RST) {
                self.owe_ack_for(cx, seg);
            }
            return DROP;
        }
        if seg.has(Flags::RST) || seg.has(Flags::SYN) {
            return Check::Continue(());
        }
        self.trim(seg, wnd);
        Check::Continue(())
    }

    /// The window is closed: takes the text off a segment at RCV.NXT.
    fn refuse_text(&mut self, cx: &mut Cx<'_>, seg: &mut Segment<'_>) {
        // A bare FIN needs no room (as Linux's tcp_data_queue); text for an orphan is answered by a RST in its turn.
        if seg.text_len() > 0 && !self.orphaned {
            self.owe_ack_for(cx, seg);
            seg.payload = &[];
            seg.flags = seg.flags.without(Flags::FIN);
        }
    }

    /// Cuts what lies before RCV.NXT, beyond the window and beyond the peer's FIN.
    fn trim(&mut self, seg: &mut Segment<'_>, wnd: u32) {
        let old = self.rcv.nxt.saturating_offset_from(seg.seq).min(seg.text_len());
        if old > 0 {
            seg.payload = seg.payload.get(old as usize..).unwrap_or_default();
            seg.seq += old;
            // Part of it is a retransmission of what we have: its sender waits, the answer must not be delayed.
            self.owed.owe_shared();
        }
        // RFC 9293 §3.3.2: a FIN ends the stream; its place is fixed at first sight (reliability.md A19).
        let edge = self.rcv.nxt + wnd;
        let limit = self.rcv.fin.map_or(edge, |fin| fin.min(edge));
        let room = limit.saturating_offset_from(seg.seq);
        if seg.text_len() > room {
            seg.payload = seg.payload.get(..room as usize).unwrap_or_default();
            // The FIN stood behind the text that was cut.
            seg.flags = seg.flags.without(Flags::FIN);
        }
    }

    /// Second, check the RST bit (RFC 5961 §3.2).
    fn check_reset(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Check {
        if !seg.has(Flags::RST) {
            return Check::Continue(());
        }
        if seg.seq != self.rcv.nxt {
            cx.stats.drop_packet(DropReason::BadRst);
            self.challenge(cx);
            return DROP;
        }
        cx.stats.resets_in += 1;
        // As Linux's tcp_reset: EPIPE for whom the peer had closed already.
        let error = if self.life.state() == State::CloseWait { ConnError::BrokenPipe } else { ConnError::Reset };
        self.end(error);
        DROP
    }

    /// Fourth, check the SYN bit (RFC 5961 §4.2): never anything but a challenge ACK.
    fn check_syn(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) -> Check {
        if !seg.has(Flags::SYN) {
            return Check::Continue(());
        }
        cx.stats.drop_packet(DropReason::BadSyn);
        self.challenge(cx);
        DROP
    }

    /// RFC 7323 §4.3: TS.Recent is taken from segments that cover Last.ACK.sent, and only forwards.
    fn note_timestamps(&mut self, cx: &Cx<'_>, seg: &Segment<'_>) {
        if let (Some(state), Some(ts)) = (&mut self.timestamps, seg.options.timestamps)
            && seg.seq.is_at_or_before(self.rcv.acked)
            && (Seq::new(ts.val).is_at_or_after(Seq::new(state.recent)) || cx.now.since(state.recent_at) >= PAWS_IDLE)
        {
            state.recent = ts.val;
            state.recent_at = cx.now;
        }
    }

    /// An ACK for a segment that was not acceptable. Throttled for segments without text, so that two confused peers
    /// can't answer each other for ever; never for text, whose sender waits for it (reliability.md A5).
    pub(super) fn owe_ack_for(&mut self, cx: &mut Cx<'_>, seg: &Segment<'_>) {
        let control = Flags::SYN | Flags::RST;
        if (seg.text_len() > 0 || seg.has(Flags::FIN)) && !seg.flags.intersects(control) {
            self.owed.owe(self.rcv.nxt);
        } else {
            self.challenge(cx);
        }
    }

    /// A challenge ACK (RFC 5961 §7), rate-limited per connection.
    pub(super) fn challenge(&mut self, cx: &mut Cx<'_>) {
        if allow_challenge(&mut self.last_challenge, cx) {
            self.owed.owe(self.rcv.nxt);
        }
    }

    /// RFC 5927: in synchronized states ICMP errors are soft, and only if they quote something in flight.
    pub(super) fn on_icmp(&mut self, cx: &mut Cx<'_>, seq: Seq, kind: IcmpKind) {
        if !seq.is_within(self.snd.una, self.snd.outstanding()) {
            cx.stats.drop_packet(DropReason::IcmpStale);
            return;
        }
        match kind {
            IcmpKind::NetworkUnreachable => self.soft_error = Some(ConnError::NetworkUnreachable),
            IcmpKind::HostUnreachable => self.soft_error = Some(ConnError::HostUnreachable),
            IcmpKind::PortUnreachable => self.soft_error = Some(ConnError::Refused),
            IcmpKind::PacketTooBig { mtu } => match believed_mtu(&self.id, mtu) {
                Some(mtu) => self.on_packet_too_big(mtu),
                None => cx.stats.drop_packet(DropReason::IcmpIgnored),
            },
            IcmpKind::Soft => {}
        }
    }

    /// RFC 1191, RFC 8201: the path MTU only shrinks.
    fn on_packet_too_big(&mut self, mtu: usize) {
        let known = self.snd.path_mtu.unwrap_or(self.path.mtu).min(self.path.mtu);
        if mtu >= known {
            return;
        }
        let before = self.snd.mss;
        self.snd.path_mtu = Some(mtu);
        self.on_path(self.path);
        if self.snd.mss == before {
            return;
        }
        // What was too big is sent again in smaller pieces, which is not congestion (RFC 8201 §4).
        self.flight.mark_larger_lost(u32::from(self.current_mss()));
    }
}

/// RFC 9293 §3.10.7.4, the four cases of the acceptability test; a segment that reaches beyond the window on both sides
/// is acceptable too, as in Linux's tcp_sequence.
fn is_acceptable(seg: &Segment<'_>, nxt: Seq, wnd: u32) -> bool {
    let len = seg.len();
    match (len, wnd) {
        (0, 0) => seg.seq == nxt,
        (0, wnd) => seg.seq.is_within(nxt, wnd) || seg.seq == nxt + wnd && seg.flags == Flags::ACK,
        (_, 0) => false,
        (len, wnd) => seg.seq.is_before(nxt + wnd) && (seg.seq + len).is_after(nxt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acceptability_is_the_table_of_rfc_9293() {
        let zeros = [0u8; 64];
        let nxt = Seq::new(u32::MAX - 3);
        let seg = |offset: i32, len: usize| Segment {
            seq: if offset < 0 { nxt - offset.unsigned_abs() } else { nxt + offset.unsigned_abs() },
            payload: &zeros[..len],
            flags: Flags::NONE,
            ..Segment::default()
        };
        for (offset, len, wnd, expected) in [
            (0, 0, 0, true),
            (1, 0, 0, false),
            (-1, 0, 0, false),
            (0, 0, 10, true),
            (9, 0, 10, true),
            (10, 0, 10, false),
            (-1, 0, 10, false),
            (0, 1, 0, false),
            (0, 1, 10, true),
            (9, 5, 10, true),
            (10, 5, 10, false),
            (-4, 5, 10, true),
            (-5, 5, 10, false),
            (-10, 64, 10, true),
        ] {
            assert_eq!(is_acceptable(&seg(offset, len), nxt, wnd), expected, "{offset} {len} {wnd}");
        }
    }
}
