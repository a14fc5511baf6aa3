//! Round-trip time and retransmission timeout.
//!
//! Follows: RFC 6298. Units: µs. Clock granularity G is 1 ms: the main loop may be that late.
//!
//! Not done: timestamps (RFC 7323); one segment is timed at a time, never a retransmitted one (Karn).

use crate::budget::{RTO_INITIAL_US, RTO_MAX_US, RTT_MIN_WINDOW};
use smoltcp::time::{Duration, Instant};

/// RFC 6298, 2.2: G.
const GRANULARITY_US: u32 = 1_000;

/// The estimator of one path.
pub(super) struct Rtt {
    /// Smoothed RTT times 8; 0 before the first sample.
    srtt8: u32,
    /// Variation times 4.
    var4: u32,
    /// Smallest samples of this window and of the one before.
    min_now: u32,
    min_before: u32,
    min_since: Instant,
    rto_us: u32,
    rto_min_us: u32,
    rto_max_us: u32,
}

impl Rtt {
    pub(super) fn new(rto_min: Duration, rto_max: Duration, now: Instant) -> Self {
        let rto_max_us = rto_max.total_micros().min(u64::from(RTO_MAX_US)) as u32;
        Rtt {
            srtt8: 0,
            var4: 0,
            min_now: u32::MAX,
            min_before: u32::MAX,
            min_since: now,
            rto_us: RTO_INITIAL_US.min(rto_max_us),
            rto_min_us: (rto_min.total_micros() as u32).clamp(GRANULARITY_US, rto_max_us),
            rto_max_us,
        }
    }

    /// Takes one sample.
    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration) {
        let rtt_us = rtt.total_micros().clamp(1, u64::from(RTO_MAX_US)) as u32;
        if self.srtt8 == 0 {
            self.srtt8 = rtt_us << 3;
            self.var4 = rtt_us << 1;
        } else {
            let error = rtt_us.abs_diff(self.srtt8 >> 3);
            self.var4 = self.var4 - (self.var4 >> 2) + error;
            self.srtt8 = (self.srtt8 - (self.srtt8 >> 3) + rtt_us).max(1);
        }
        self.rto_us = (self.srtt8 >> 3)
            .saturating_add(self.var4.max(GRANULARITY_US))
            .clamp(self.rto_min_us, self.rto_max_us);
        if now - self.min_since >= RTT_MIN_WINDOW {
            self.min_before = self.min_now;
            self.min_now = u32::MAX;
            self.min_since = now;
        }
        self.min_now = self.min_now.min(rtt_us);
    }

    /// Smoothed RTT; `None` before the first sample.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        (self.srtt8 != 0).then(|| Duration::from_micros(u64::from(self.srtt8 >> 3)))
    }

    /// The smallest sample of the last 10 to 20 s, µs; 0 before the first.
    pub(super) fn min_us(&self) -> u32 {
        let min = self.min_now.min(self.min_before);
        if min == u32::MAX { 0 } else { min }
    }

    /// The timeout after `backoff` doublings.
    pub(super) fn rto(&self, backoff: u8) -> Duration {
        if backoff == 0 {
            return Duration::from_micros(u64::from(self.rto_us));
        }
        let us = u64::from(self.rto_us) << backoff.min(20);
        Duration::from_micros(us.min(u64::from(self.rto_max_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples_ms: &[u64]) -> Rtt {
        let mut rtt = Rtt::new(
            Duration::from_millis(200),
            Duration::from_secs(60),
            Instant::ZERO,
        );
        for &ms in samples_ms {
            rtt.on_sample(Instant::ZERO, Duration::from_millis(ms));
        }
        rtt
    }

    #[test]
    fn the_first_sample_gives_three_times_itself() {
        // RFC 6298, 2.2: SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 * RTTVAR.
        assert_eq!(after(&[]).rto(0), Duration::from_secs(1));
        assert_eq!(after(&[100]).rto(0), Duration::from_millis(300));
    }

    #[test]
    fn a_steady_path_ends_at_the_minimum_and_backs_off_to_a_minute() {
        let rtt = after(&[5; 50]);
        assert_eq!(rtt.rto(0), Duration::from_millis(200));
        assert_eq!(rtt.rto(2), Duration::from_millis(800));
        assert_eq!(rtt.rto(255), Duration::from_secs(60));
        assert_eq!(rtt.min_us(), 5_000);
    }

    #[test]
    fn the_smallest_sample_is_forgotten_after_two_windows() {
        let mut rtt = after(&[5]);
        for second in [11, 22, 33] {
            rtt.on_sample(Instant::from_secs(second), Duration::from_millis(50));
        }
        assert_eq!(rtt.min_us(), 50_000);
    }
}
