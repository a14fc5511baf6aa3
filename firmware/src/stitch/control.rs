//! How many bytes may be in flight.
//!
//! Follows: RFC 5681 (slow start, congestion avoidance, by bytes acknowledged as RFC 3465 has it, so
//! that an ACK split in many is worth no more), RFC 6928 (ten segments to begin with), RFC 7661 in
//! spirit (the window grows only while it is what limits), RFC 9406 (slow start ends when a queue
//! builds up; one sample a round trip is all there is).
//!
//! After a loss, [`LossResponse`] decides. `Halve` is RFC 5681. `Measured` is Westwood+'s: what was
//! delivered in a round trip, scaled to the smallest round trip, is what the path holds without a
//! queue; a loss on a path without a queue is taken for a radio's. Both links of ours are one hop of a
//! private network (client's LAN, neighbour's air), where random loss is common and Reno would
//! leave half of the air unused at 1 %.
//!
//! Units: bytes, µs. Invariants: `mss <= cwnd <= flight_max`, `ssthresh >= 2 * mss`.

/// Bounds of the delay that shows a queue (RFC 9406: MIN_RTT_THRESH, MAX_RTT_THRESH).
const QUEUE_US: (u32, u32) = (4_000, 16_000);
/// Below this the delay is not looked at (as in the first HyStart).
const SLOW_START_SEGMENTS: u32 = 16;

/// What a loss does to the congestion window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum LossResponse {
    /// Half of what was in flight (RFC 5681).
    Halve,
    /// The measured content of the path without its queue (Westwood+), never more than before.
    Measured,
}

/// Congestion state of one sender.
pub(super) struct Control {
    response: LossResponse,
    mss: u32,
    cwnd: u32,
    initial: u32,
    ssthresh: u32,
    flight_max: u32,
    /// Bytes acknowledged towards the next segment of growth.
    credit: u32,
    /// What the path holds without queue; 0 before the first sample.
    content: u32,
}

impl Control {
    pub(super) fn new(response: LossResponse, mss: u32, initial: u32, flight_max: u32) -> Self {
        let flight_max = flight_max.max(2 * mss);
        // RFC 6928: min(10 * MSS, max(2 * MSS, 14600)).
        let rfc_6928 = (10 * mss).min((2 * mss).max(14_600));
        let initial = if initial == 0 { rfc_6928 } else { initial }.clamp(mss, flight_max);
        Control {
            response,
            mss,
            cwnd: initial,
            initial,
            ssthresh: u32::MAX,
            flight_max,
            credit: 0,
            content: 0,
        }
    }

    /// Bytes that may be in flight.
    #[inline]
    pub(super) fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// New bytes were acknowledged while the window was what limited.
    pub(super) fn on_ack(&mut self, acked: u32) {
        if self.cwnd < self.ssthresh {
            self.cwnd += acked.min(self.cwnd);
        } else {
            self.credit += acked.min(self.cwnd);
            if self.credit < self.cwnd {
                return;
            }
            self.credit -= self.cwnd;
            self.cwnd += self.mss;
        }
        self.cwnd = self.cwnd.min(self.flight_max);
    }

    /// Takes one measurement: `delivered` bytes within a timed round trip.
    ///
    /// `limited`: the window was what limited meanwhile.
    pub(super) fn on_sample(
        &mut self,
        delivered: u32,
        rtt_us: u32,
        rtt_us_min: u32,
        limited: bool,
    ) {
        // RFC 9406, 4.2: a queue builds up, so slow start has found the path's rate. Without this it
        // ends by losing half a window.
        let queue_us = (rtt_us_min / 8).clamp(QUEUE_US.0, QUEUE_US.1);
        if limited
            && self.cwnd < self.ssthresh
            && self.cwnd >= SLOW_START_SEGMENTS * self.mss
            && rtt_us >= rtt_us_min.saturating_add(queue_us)
        {
            self.ssthresh = self.cwnd;
        }
        // In 32 bits, as the target divides them: the share of the round trip that is not queue in
        // 4096ths. Times from a second on lose their last six bits, so that they fit 20.
        let coarse = if rtt_us >= 1 << 20 { 6 } else { 0 };
        let (rtt, min) = ((rtt_us >> coarse).max(1), rtt_us_min >> coarse);
        let content = if min >= rtt {
            delivered
        } else {
            let share = (min << 12) / rtt;
            (delivered >> 12) * share + (((delivered & 0xfff) * share) >> 12)
        };
        if content >= self.content {
            self.content = content;
        } else {
            self.content -= (self.content - content) >> 3;
        }
    }

    /// A loss was found by duplicate ACKs; once for each window.
    pub(super) fn on_loss(&mut self, flight: u32) {
        self.reduce(flight);
        self.cwnd = self.ssthresh.min(self.cwnd).max(self.mss);
        self.credit = 0;
    }

    /// The retransmission timer ran out; `first` unless it did before without progress since.
    pub(super) fn on_timeout(&mut self, flight: u32, first: bool) {
        if first {
            self.reduce(flight);
        }
        self.cwnd = self.mss;
        self.credit = 0;
    }

    /// Nothing was sent for a whole timeout (RFC 5681, 4.1).
    pub(super) fn on_idle(&mut self) {
        self.cwnd = self.cwnd.min(self.initial);
    }

    fn reduce(&mut self, flight: u32) {
        let half = flight / 2;
        let kept = match self.response {
            LossResponse::Halve => half,
            LossResponse::Measured => half.max(self.content.min(self.cwnd)),
        };
        self.ssthresh = kept.max(2 * self.mss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_acks_are_worth_no_more_than_one() {
        for response in [LossResponse::Halve, LossResponse::Measured] {
            let mut whole = Control::new(response, 1460, 0, 1 << 20);
            let mut split = Control::new(response, 1460, 0, 1 << 20);
            whole.on_loss(20_000);
            split.on_loss(20_000);
            for _ in 0..20 {
                whole.on_ack(1460);
                (0..1460).for_each(|_| split.on_ack(1));
            }
            assert_eq!(whole.cwnd(), split.cwnd());
        }
    }

    #[test]
    fn a_timeout_leaves_one_segment_and_halves_once() {
        let mut control = Control::new(LossResponse::Halve, 1000, 40_000, 1 << 20);
        control.on_timeout(40_000, true);
        control.on_timeout(1000, false);
        assert_eq!(control.cwnd(), 1000);
        for _ in 0..19 {
            control.on_ack(1000);
        }
        assert_eq!(control.cwnd(), 20_000, "slow start up to half the flight");
        control.on_ack(1000);
        assert_eq!(control.cwnd(), 20_000);
    }

    #[test]
    fn a_measured_response_keeps_what_the_path_holds() {
        let mut control = Control::new(LossResponse::Measured, 1000, 40_000, 1 << 20);
        control.on_sample(30_000, 10_000, 9_000, true);
        control.on_loss(40_000);
        assert!((26_990..=27_000).contains(&control.cwnd()));
    }
}
