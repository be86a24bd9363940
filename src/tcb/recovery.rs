//! When a duplicate ACK means loss: fast retransmit, fast recovery, limited transmit (RFC 5681 §3.2, RFC 6582, RFC 3042).
//! How much to send then is `congestion`'s business.

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

/// How a duplicate ACK is known for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Without SACK: by its form.
    Count,
    /// It reports something new.
    Sacked {
        /// RFC 6675 §4, IsLost(SND.UNA): more than two segments were reported behind it, by this ACK and those before.
        lost: bool,
    },
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
    /// A partial ACK: the next segment is lost too.
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

    /// Segments beyond cwnd that limited transmit allows: two, for the first two duplicates (RFC 3042 §2).
    pub fn limited_transmit(&self) -> u32 {
        if self.in_recovery { 0 } else { self.dup_acks.min(2) }
    }

    /// FlightSize when fast retransmit begins: without what limited transmit has sent (RFC 5681 §3.2 step 2, MUST NOT).
    pub fn flight_size(&self, una: Seq) -> u32 {
        self.before_limited.saturating_offset_from(una)
    }

    /// A duplicate ACK, by the definition of RFC 5681 §2 or, with SACK, of RFC 6675 §2.
    pub fn on_duplicate(&mut self, una: Seq, nxt: Seq, evidence: Evidence) -> OnDuplicate {
        self.dup_acks = self.dup_acks.saturating_add(1);
        if self.dup_acks == 1 {
            self.before_limited = nxt;
        }
        if self.in_recovery {
            return OnDuplicate::Inflate;
        }
        // RFC 6582 §3.2 step 2, §4: duplicates caused by our own retransmissions after a timeout don't count. Those of the last
        // retransmissions acknowledge all that was sent, so without SACK more has to be acknowledged (Linux:
        // tcp_try_undo_recovery, "MUST to prevent false fast retransmits"); SACK blocks say of themselves what is new.
        let (enough, covered) = match evidence {
            Evidence::Count => (self.dup_acks == DUP_THRESH, una.is_after(self.recover)),
            Evidence::Sacked { lost } => (self.dup_acks == DUP_THRESH || lost, una.is_at_or_after(self.recover)),
        };
        if enough && covered {
            self.in_recovery = true;
            self.recover = nxt;
            return OnDuplicate::FastRetransmit;
        }
        OnDuplicate::Wait
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
        assert_eq!(recovery.on_duplicate(una, nxt, Evidence::Count), OnDuplicate::Wait);
        assert_eq!(recovery.limited_transmit(), 1);
        assert_eq!(recovery.on_duplicate(una, nxt, Evidence::Count), OnDuplicate::Wait);
        assert_eq!(recovery.on_duplicate(una, nxt, Evidence::Count), OnDuplicate::FastRetransmit);
        assert_eq!(recovery.on_duplicate(una, nxt, Evidence::Count), OnDuplicate::Inflate);
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
            assert_eq!(recovery.on_duplicate(Seq::new(500), Seq::new(1_000), Evidence::Count), OnDuplicate::Wait);
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
        let answers = [(); 3].map(|()| recovery.on_duplicate(una, nxt, Evidence::Count));
        assert_eq!(answers, [OnDuplicate::Wait, OnDuplicate::Wait, OnDuplicate::FastRetransmit]);
    }
}
