//! [`Rack`]: what was delivered last, and how far the path reorders (RFC 8985 §5.2, §6.2 steps 2 to 4).
//!
//! Owns no records: `flight` tells it of deliveries and asks it which transmissions came before the newest of them.

use std::time::Duration;

use super::Record;
use crate::time::Instant;
use crate::wire::Seq;

/// RFC 8985 §6.2 step 4: recoveries without a D-SACK until a widened window is forgotten.
const PERSIST: u8 = 16;

/// The newest transmission known to have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    /// See [`Record::lap`].
    lap: u32,
    /// RACK.end_seq
    end: Seq,
    /// RACK.rtt
    rtt: Duration,
}

/// The connection's part of RACK.
#[derive(Clone, Debug)]
pub struct Rack {
    newest: Option<Newest>,
    /// RACK.min_RTT, from what was sent only once.
    min_rtt: Option<Duration>,
    /// What was sent from here on is not what the ACK answers (RFC 7323 timestamps). Of the ACK being processed.
    not_answered: Option<Instant>,
    /// RACK.fack: the highest sequence number delivered.
    highest: Option<Seq>,
    /// RACK.reordering_seen
    reordering_seen: bool,
    /// RACK.reo_wnd_mult
    steps: u8,
    /// RACK.reo_wnd_persist
    persist: u8,
    /// RACK.dsack_round: SND.NXT when the window was last widened, until that is acknowledged.
    round_end: Option<Seq>,
}

impl Default for Rack {
    fn default() -> Self {
        Rack {
            newest: None,
            min_rtt: None,
            not_answered: None,
            highest: None,
            reordering_seen: false,
            steps: 1,
            persist: 0,
            round_end: None,
        }
    }
}

impl Rack {
    /// An ACK comes, with the echo of a timestamp from before `not_answered`.
    pub const fn on_echo(&mut self, not_answered: Option<Instant>) {
        self.not_answered = not_answered;
    }

    /// The first transmission of something was answered.
    ///
    /// Deviates from RFC 8985 §6.2 step 1 (SHOULD be a windowed minimum): it is the connection's. Where the answer came in the
    /// turn of its question no time can be told.
    pub fn on_round_trip(&mut self, rtt: Duration) {
        if rtt.is_zero() {
            return;
        }
        self.min_rtt = Some(self.min_rtt.map_or(rtt, |min| min.min(rtt)));
    }

    /// `record` arrived at the peer. `highest`: what [`Rack::highest`] was before the ACK that told it.
    pub(super) fn on_delivered(&mut self, now: Instant, record: &Record, highest: Option<Seq>) {
        let rtt = now.since(record.sent_at);
        let once = record.transmissions == 1;
        if once {
            self.on_round_trip(rtt);
            // Step 3: it was overtaken by what had been reported already.
            self.reordering_seen |= highest.is_some_and(|highest| record.end.is_before(highest));
        }
        self.highest = Some(self.highest.map_or(record.end, |highest| highest.max(record.end)));
        // Step 2: too early for the answer to a retransmission, it is that to what was sent before.
        let too_early = self.min_rtt.is_some_and(|min| rtt < min);
        if !once && (too_early || self.not_answered.is_some_and(|from| record.sent_at >= from)) {
            return;
        }
        if self.newest.is_none_or(|newest| newest.is_before(record)) {
            self.newest = Some(Newest { lap: record.lap, end: record.end, rtt });
        }
    }

    /// The highest sequence number delivered.
    pub(super) const fn highest(&self) -> Option<Seq> {
        self.highest
    }

    /// Everything before `una` is acknowledged.
    pub(super) fn on_acknowledged(&mut self, una: Seq) {
        self.round_end = self.round_end.filter(|end| una.is_before(*end));
    }

    /// The peer has received something twice: what was presumed lost was only late. At most once a round trip.
    pub fn on_duplicate_report(&mut self, nxt: Seq) {
        if self.round_end.is_some() {
            return;
        }
        self.round_end = Some(nxt);
        self.steps = self.steps.saturating_add(1);
        self.persist = PERSIST;
    }

    /// What was presumed lost has arrived.
    pub const fn on_reordering(&mut self) {
        self.reordering_seen = true;
    }

    /// Whether the path has reordered.
    pub const fn is_reordering(&self) -> bool {
        self.reordering_seen
    }

    /// Everything that was outstanding when a fast recovery began is acknowledged.
    pub fn on_recovery_exit(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// RACK.reo_wnd: by how much something sent earlier may come later. Nothing where `certain` (three segments were
    /// reported, or recovery is under way) and the path has not reordered before.
    pub fn window(&self, certain: bool, srtt: Option<Duration>) -> Duration {
        if certain && !self.reordering_seen {
            return Duration::ZERO;
        }
        let quarter = self.min_rtt.unwrap_or_default() / 4;
        let most = srtt.unwrap_or(quarter);
        // Never nothing: what left in one burst has one time.
        quarter.saturating_mul(u32::from(self.steps)).min(most).max(Duration::from_micros(1))
    }

    /// How long after its transmission `record` is lost, if it left before the newest delivery did.
    pub(super) fn patience(&self, record: &Record, window: Duration) -> Option<Duration> {
        self.newest.filter(|newest| !newest.is_before(record)).map(|newest| newest.rtt.saturating_add(window))
    }
}

impl Newest {
    /// RACK_sent_after, the other way round, by the order of transmissions instead of their times: what leaves in one turn has
    /// one time, and its answer may come in the same turn.
    fn is_before(&self, record: &Record) -> bool {
        match Seq::new(self.lap).offset_from(Seq::new(record.lap)) {
            Some(0) => self.end.is_before(record.end),
            later => later.is_none(),
        }
    }
}
