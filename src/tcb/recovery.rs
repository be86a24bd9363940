//! Fast recovery: when it begins and ends (RFC 5681 §3.2, RFC 6582, RFC 3042). Without SACK three duplicate ACKs begin it;
//! with SACK it begins when `flight` has found something lost (RFC 8985). How much to send then is `congestion`'s business.

use crate::wire::Seq;

/// RFC 5681 §3.2: three duplicates.
const DUP_THRESH: u32 = 3;

/// The state of loss recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    dup_acks: u32,
    /// RFC 6582 §3.2: SND.NXT when recovery (or the last timeout) began; pulled along behind SND.UNA, or it would lie ahead
    /// of it again after 2³¹ bytes.
    recover: Seq,
    in_recovery: bool,
    /// SND.NXT at the first duplicate: what limited transmit sends comes behind it.
    before_limited: Seq,
}

/// What a duplicate ACK asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// Limited transmit at most.
    Wait,
    /// Enter fast recovery: retransmit the first segment.
    FastRetransmit,
    /// One more segment has left the network.
    Inflate,
}

/// What a new ACK means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNewAck {
    /// No recovery under way.
    Normal,
    /// A partial ACK: without SACK, the next segment is lost too.
    Partial,
    /// Everything sent before recovery is acknowledged.
    Exit,
}

impl Recovery {
    /// Nothing has been lost yet.
    pub fn new(snd_una: Seq) -> Recovery {
        Recovery::behind(snd_una - 1)
    }

    const fn behind(recover: Seq) -> Recovery {
        Recovery { dup_acks: 0, recover, in_recovery: false, before_limited: recover }
    }

    /// Whether fast recovery is under way.
    pub const fn is_active(&self) -> bool {
        self.in_recovery
    }

    /// Whether fast recovery, or that from a timeout, is under way.
    pub fn is_recovering(&self, una: Seq) -> bool {
        self.in_recovery || una.is_before(self.recover)
    }

    /// Whether an ACK of `una` does not end the fast recovery under way.
    pub fn is_partial(&self, una: Seq) -> bool {
        self.in_recovery && una.is_before(self.recover)
    }

    /// Segments beyond cwnd that limited transmit allows: two, for the first two duplicates (RFC 3042 §2).
    pub fn limited_transmit(&self) -> u32 {
        if self.in_recovery { 0 } else { self.dup_acks.min(2) }
    }

    /// FlightSize when fast retransmit begins: without what limited transmit has sent (RFC 5681 §3.2 step 2, MUST NOT).
    pub fn flight_size(&self, una: Seq, nxt: Seq) -> u32 {
        let end = if self.dup_acks == 0 { nxt } else { self.before_limited };
        end.saturating_offset_from(una)
    }

    /// A duplicate ACK, by the definition of RFC 5681 §2: without SACK.
    pub fn on_duplicate(&mut self, una: Seq, nxt: Seq) -> OnDuplicate {
        self.count_duplicate(nxt);
        if self.in_recovery {
            return OnDuplicate::Inflate;
        }
        // RFC 6582 §3.2 step 2, §4: duplicates caused by our own retransmissions after a timeout don't count. Those of the last
        // retransmissions acknowledge all that was sent, so more has to be acknowledged (Linux: tcp_try_undo_recovery, "MUST
        // to prevent false fast retransmits").
        if self.dup_acks == DUP_THRESH && una.is_after(self.recover) {
            self.begin(nxt);
            return OnDuplicate::FastRetransmit;
        }
        OnDuplicate::Wait
    }

    /// One more segment behind the hole at SND.UNA was reported.
    pub fn count_duplicate(&mut self, nxt: Seq) {
        self.dup_acks = self.dup_acks.saturating_add(1);
        if self.dup_acks == 1 {
            self.before_limited = nxt;
        }
    }

    /// Whether DupThresh segments behind SND.UNA were reported.
    pub const fn has_dup_thresh(&self) -> bool {
        self.dup_acks >= DUP_THRESH
    }

    /// With SACK, something was found lost. Whether fast recovery begins with it: not if it goes on already, nor while what
    /// a timeout marked is unacknowledged.
    pub fn on_loss_found(&mut self, una: Seq, nxt: Seq) -> bool {
        let begins = !self.in_recovery && una.is_at_or_after(self.recover);
        if begins {
            self.begin(nxt);
        }
        begins
    }

    fn begin(&mut self, nxt: Seq) {
        self.in_recovery = true;
        self.recover = nxt;
    }

    /// SND.UNA has moved to `una`.
    pub fn on_new_ack(&mut self, una: Seq) -> OnNewAck {
        self.dup_acks = 0;
        if !self.in_recovery {
            if una.is_after(self.recover) {
                self.recover = una - 1;
            }
            return OnNewAck::Normal;
        }
        if una.is_at_or_after(self.recover) {
            self.in_recovery = false;
            return OnNewAck::Exit;
        }
        OnNewAck::Partial
    }

    /// It was needless: duplicates count anew from `una`.
    pub fn undo(&mut self, una: Seq) {
        *self = Recovery::new(una);
    }

    /// A retransmission timeout (RFC 6582 §3.2 step 4).
    pub fn on_timeout(&mut self, nxt: Seq) {
        *self = Recovery::behind(nxt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_duplicates_enter_and_the_recovery_point_ends_it() {
        let (una, nxt) = (Seq::new(u32::MAX - 10), Seq::new(5_000));
        let mut recovery = Recovery::new(una);
        assert_eq!(recovery.on_duplicate(una, nxt), OnDuplicate::Wait);
        assert_eq!(recovery.limited_transmit(), 1);
        assert_eq!(recovery.on_duplicate(una, nxt), OnDuplicate::Wait);
        assert_eq!(recovery.on_duplicate(una, nxt), OnDuplicate::FastRetransmit);
        assert_eq!(recovery.on_duplicate(una, nxt), OnDuplicate::Inflate);
        assert_eq!(recovery.on_new_ack(Seq::new(100)), OnNewAck::Partial);
        assert_eq!(recovery.on_new_ack(Seq::new(200)), OnNewAck::Partial);
        assert_eq!(recovery.on_new_ack(nxt), OnNewAck::Exit);
        assert!(!recovery.is_active());
    }

    #[test]
    fn duplicates_after_a_timeout_do_not_enter_recovery() {
        let mut recovery = Recovery::new(Seq::new(0));
        recovery.on_timeout(Seq::new(1_000));
        for _ in 0..10 {
            assert_eq!(recovery.on_duplicate(Seq::new(500), Seq::new(1_000)), OnDuplicate::Wait);
        }
    }

    #[test]
    fn two_gibibytes_without_loss_do_not_forbid_fast_retransmit() {
        // RFC 6582 §3.2 step 2: every ACK covers more than `recover` here, however far back that lies.
        let mut recovery = Recovery::new(Seq::new(1));
        let mut una = Seq::new(1);
        for _ in 0..3 {
            una += 1 << 30;
            assert_eq!(recovery.on_new_ack(una), OnNewAck::Normal);
        }
        let nxt = una + 14_600;
        let answers = [(); 3].map(|()| recovery.on_duplicate(una, nxt));
        assert_eq!(answers, [OnDuplicate::Wait, OnDuplicate::Wait, OnDuplicate::FastRetransmit]);
    }
}
