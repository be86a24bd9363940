//! [`RttEstimator`]: the smoothed round-trip time and the retransmission timeout (RFC 6298).
//!
//! Owns no timer and never decides which segment may be measured (Karn's rule is `flight`'s). Called by `tcb::input`
//! with samples and by `tcb::timer` for the RTO.

use std::time::Duration;

/// Clock granularity G (RFC 6298 §2): the core counts microseconds, but what fires a timer is tokio's wheel, which
/// turns once a millisecond.
const GRANULARITY: Duration = Duration::from_millis(1);
/// RFC 6298 §5.7.
const RTO_AFTER_SYN_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest believable sample; keeps all arithmetic far from overflow.
const MAX_SAMPLE: Duration = Duration::from_secs(3_600);
/// 1/alpha of RFC 6298 §2.3.
const SRTT_GAIN: u32 = 8;
/// 1/beta of RFC 6298 §2.3.
const RTTVAR_GAIN: u32 = 4;

/// SRTT, RTTVAR and RTO of one connection, in nanoseconds: every ACK asks.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    /// [`NO_SAMPLE`] before the first.
    srtt: u64,
    rttvar: u64,
    /// Timeouts in a row: the RTO is doubled that often.
    backoff: u32,
    /// RTO without back-off, within `rto_max`.
    rto: u64,
    /// As `srtt`.
    min_rtt: u64,
    rto_min: u64,
    rto_max: u64,
}

const NO_SAMPLE: u64 = u64::MAX;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn sampled(nanos: u64) -> Option<Duration> {
    (nanos != NO_SAMPLE).then_some(Duration::from_nanos(nanos))
}

impl RttEstimator {
    /// No sample yet: the RTO is `initial` (RFC 6298 §2.1), at most `max`.
    pub fn new(initial: Duration, min: Duration, max: Duration) -> RttEstimator {
        RttEstimator {
            srtt: NO_SAMPLE,
            rttvar: 0,
            backoff: 0,
            rto: nanos(initial.max(GRANULARITY).min(max)),
            min_rtt: NO_SAMPLE,
            rto_min: nanos(min.max(GRANULARITY)),
            rto_max: nanos(max),
        }
    }

    /// A round trip was measured, at most one per round trip.
    pub fn on_sample(&mut self, rtt: Duration) {
        self.on_sample_scaled(rtt, 1);
    }

    /// A round trip was measured, one of `expected_samples` per round trip; also ends the back-off.
    ///
    /// RFC 7323 §4.2 and appendix G: with timestamps every ACK is a sample, and alpha and beta must be divided by
    /// ExpectedSamples = ceil(FlightSize / (2·SMSS)), or the history would be forgotten within one round trip.
    pub fn on_sample_scaled(&mut self, rtt: Duration, expected_samples: u32) {
        self.min_rtt = self.min_rtt.min(nanos(rtt.min(MAX_SAMPLE)));
        self.on_coarse_sample(rtt, expected_samples);
    }

    /// The same in whole milliseconds: too coarse for the minimum, which it could make zero.
    pub fn on_coarse_sample(&mut self, rtt: Duration, expected_samples: u32) {
        let rtt = nanos(rtt.min(MAX_SAMPLE));
        let samples = expected_samples.max(1);
        if self.srtt == NO_SAMPLE {
            // RFC 6298 §2.2
            (self.srtt, self.rttvar) = (rtt, rtt / 2);
        } else {
            // RFC 6298 §2.3: RTTVAR first, from the SRTT before this sample.
            let beta = u64::from(RTTVAR_GAIN.saturating_mul(samples));
            self.rttvar = self.rttvar - self.rttvar / beta + self.srtt.abs_diff(rtt) / beta;
            let alpha = u64::from(SRTT_GAIN.saturating_mul(samples));
            self.srtt = self.srtt - self.srtt / alpha + rtt / alpha;
        }
        // Deviates from RFC 6298 §2.4 (RTO of at least 1 s): as Linux does, the floor is 200 ms and stands under the
        // variance term, not under the sum (tcp_rtt_estimator keeps rttvar_us, scaled by 4, at tcp_rto_min_us or
        // above; __tcp_set_rto adds it to srtt). So a peer's delayed ACK never looks like a loss, however long the path.
        let variance = self.rttvar.saturating_mul(4).max(self.rto_min);
        self.rto = self.srtt.saturating_add(variance).min(self.rto_max);
        // RFC 6298 §5.7 and Linux tcp_ack_update_rtt: a valid measurement ends the back-off.
        self.backoff = 0;
    }

    /// The retransmission timer expired: RFC 6298 §5.5, the RTO doubles, up to the maximum.
    pub fn on_timeout(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// New data was acknowledged: the next RTO is not backed off.
    ///
    /// Linux does this only with a valid sample, which [`Self::on_sample`] does by itself; call it where an ACK of
    /// retransmitted data alone shall be enough.
    pub fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    /// The handshake is complete and our SYN or SYN-ACK timed out on the way.
    ///
    /// RFC 6298 §5.7: the RTO is 3 s when data transmission begins. As Linux does, not if a timestamp gave a valid
    /// sample nevertheless: the reason for the rule, a path longer than the initial RTO, is measured then.
    pub fn after_syn_timeout(&mut self) {
        self.backoff = 0;
        if self.srtt == NO_SAMPLE {
            self.rto = self.rto.max(nanos(RTO_AFTER_SYN_TIMEOUT)).min(self.rto_max);
        }
    }

    /// The retransmission timeout, back-off included.
    pub fn rto(&self) -> Duration {
        // 2³¹ ms are beyond any maximum; the shift must not overflow after endless timeouts (smoltcp 1ee7a056).
        Duration::from_nanos(self.rto.saturating_mul(1 << self.backoff.min(31)).min(self.rto_max))
    }

    /// Timeouts since the last reset.
    pub const fn backoff(&self) -> u32 {
        self.backoff
    }

    /// The smoothed round-trip time, if there was a sample.
    pub fn srtt(&self) -> Option<Duration> {
        sampled(self.srtt)
    }

    /// The round-trip time variation; zero before the first sample.
    pub const fn rttvar(&self) -> Duration {
        Duration::from_nanos(self.rttvar)
    }

    /// The smallest round trip ever measured.
    pub fn min_rtt(&self) -> Option<Duration> {
        sampled(self.min_rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn estimator() -> RttEstimator {
        RttEstimator::new(ms(1_000), ms(200), ms(120_000))
    }

    #[test]
    fn follows_rfc_6298_section_2() {
        let mut rtt = estimator();
        assert_eq!((rtt.rto(), rtt.srtt(), rtt.rttvar(), rtt.min_rtt()), (ms(1_000), None, Duration::ZERO, None));
        // sample, SRTT, RTTVAR, RTO (µs)
        const STEPS: &[(u64, u64, u64, u64)] = &[
            (400_000, 400_000, 200_000, 1_200_000),
            (400_000, 400_000, 150_000, 1_000_000),
            (800_000, 450_000, 212_500, 1_300_000),
            (50_000, 400_000, 259_375, 1_437_500),
        ];
        for &(sample, srtt, rttvar, rto) in STEPS {
            rtt.on_sample(Duration::from_micros(sample));
            let seen = (rtt.srtt().unwrap().as_micros(), rtt.rttvar().as_micros(), rtt.rto().as_micros());
            assert_eq!(seen, (srtt.into(), rttvar.into(), rto.into()), "after {sample}");
        }
        assert_eq!(rtt.min_rtt(), Some(ms(50)));
    }

    #[test]
    fn the_floor_stands_under_the_variance() {
        let mut rtt = estimator();
        for _ in 0..1_000 {
            rtt.on_sample(ms(300));
        }
        assert_eq!(rtt.rto().as_millis(), 500);
        let mut short = RttEstimator::new(ms(1_000), Duration::ZERO, ms(120_000));
        for _ in 0..1_000 {
            short.on_sample(Duration::from_micros(40));
        }
        // RFC 6298 §2.3: max(G, K·RTTVAR)
        assert_eq!(short.rto().as_micros(), 1_040);
    }

    #[test]
    fn many_samples_per_round_trip_weigh_like_one() {
        // RFC 7323 appendix G: 50 samples of one round trip move SRTT about as far as a single one would.
        let (mut one, mut many) = (estimator(), estimator());
        one.on_sample(ms(100));
        many.on_sample(ms(100));
        one.on_sample(ms(200));
        for _ in 0..50 {
            many.on_sample_scaled(ms(200), 50);
        }
        let (one, many) = (one.srtt().unwrap().as_millis(), many.srtt().unwrap().as_millis());
        assert!(one.abs_diff(many) <= 1, "{one} against {many}");
        let mut zero = estimator();
        zero.on_sample_scaled(ms(100), 0);
        zero.on_sample_scaled(ms(100), u32::MAX);
        assert_eq!(zero.srtt(), Some(ms(100)));
    }

    #[test]
    fn endless_timeouts_stop_at_the_maximum() {
        let mut rtt = estimator();
        let rtos: Vec<u64> = (0..9)
            .map(|_| {
                rtt.on_timeout();
                rtt.rto().as_secs()
            })
            .collect();
        assert_eq!(rtos, [2, 4, 8, 16, 32, 64, 120, 120, 120]);
        for _ in 0..100_000 {
            rtt.on_timeout();
            assert_eq!(rtt.rto(), ms(120_000));
        }
        rtt.reset_backoff();
        assert_eq!(rtt.rto(), ms(1_000));
        rtt.on_timeout();
        rtt.on_sample(Duration::MAX);
        assert_eq!((rtt.rto(), rtt.backoff()), (ms(120_000), 0));
        rtt.on_sample(Duration::ZERO);
        assert_eq!(rtt.min_rtt(), Some(Duration::ZERO));
    }

    #[test]
    fn a_lost_syn_makes_the_first_rto_three_seconds() {
        let mut rtt = estimator();
        rtt.on_timeout();
        assert_eq!(rtt.rto(), ms(2_000));
        rtt.after_syn_timeout();
        assert_eq!(rtt.rto(), ms(3_000));
        let mut measured = estimator();
        measured.on_timeout();
        measured.on_sample(ms(100));
        measured.after_syn_timeout();
        assert_eq!(measured.rto(), ms(300));
    }
}
