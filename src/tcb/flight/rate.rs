//! [`RateSample`]: how fast data reaches the peer (draft-cheng-iccrg-delivery-rate-estimation-02).
//!
//! Owns the connection's delivery counters (C.*); the per-packet ones (P.*) are in the records. Called by `flight`.

use std::time::Duration;

use super::Record;
use crate::time::Instant;

/// The delivery rate seen by one ACK; the default is "no sample".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes delivered within `interval`; zero without a sample.
    pub delivered: u64,
    /// The longer of the time it took to send these bytes and the time it took to see them acknowledged.
    /// Draft §3.3: a sample with an interval below the connection's minimum RTT is to be ignored.
    pub interval: Duration,
    /// C.delivered when the newest of these bytes was sent.
    pub prior_delivered: u64,
    /// The application had run out of data when it was sent: the rate is a lower bound.
    pub app_limited: bool,
    /// Round trip of that transmission, unless it was a retransmission.
    pub rtt: Option<Duration>,
}

/// The newest transmission that the current ACK (or SACK) delivered.
#[derive(Clone, Copy, Debug)]
struct Newest {
    sent_at: Instant,
    prior_delivered: u64,
    prior_at: Instant,
    send_elapsed: Duration,
    app_limited: bool,
    rtt: Option<Duration>,
}

/// The connection's part of the estimator.
#[derive(Clone, Debug, Default)]
pub(super) struct RateEstimator {
    /// C.delivered
    pub(super) delivered: u64,
    /// C.delivered_time
    pub(super) delivered_at: Instant,
    /// C.first_sent_time
    pub(super) first_sent_at: Instant,
    newest: Option<Newest>,
}

impl RateEstimator {
    /// Draft §3.2: sending begins with nothing in flight, so idle time is in no interval.
    pub(super) fn restart(&mut self, now: Instant) {
        self.delivered_at = now;
        self.first_sent_at = now;
    }

    /// Draft §3.3, UpdateRateSample: `record` arrived at the peer.
    pub(super) fn on_delivered(&mut self, now: Instant, record: &Record) {
        self.delivered = self.delivered.saturating_add(u64::from(record.len()));
        self.delivered_at = now;
        let order = (record.delivered, record.sent_at);
        if self.newest.is_some_and(|newest| order < (newest.prior_delivered, newest.sent_at)) {
            return;
        }
        self.newest = Some(Newest {
            sent_at: record.sent_at,
            prior_delivered: record.delivered,
            prior_at: record.delivered_at,
            send_elapsed: record.sent_at.since(record.first_sent_at),
            app_limited: record.app_limited,
            rtt: (record.transmissions == 1).then(|| now.since(record.sent_at)),
        });
        self.first_sent_at = record.sent_at;
    }

    /// Draft §3.3, GenerateRateSample: the sample of the ACK that has been processed.
    pub(super) fn take_sample(&mut self) -> RateSample {
        let Some(newest) = self.newest.take() else { return RateSample::default() };
        RateSample {
            delivered: self.delivered.saturating_sub(newest.prior_delivered),
            interval: newest.send_elapsed.max(self.delivered_at.since(newest.prior_at)),
            prior_delivered: newest.prior_delivered,
            app_limited: newest.app_limited,
            rtt: newest.rtt,
        }
    }
}
