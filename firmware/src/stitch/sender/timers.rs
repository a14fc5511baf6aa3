//! The timers: which runs, until when, and what its end does.

use smoltcp::time::Instant;

use super::*;

impl Sender {
    /// Starts the timer that fits the state, from now.
    pub(super) fn arm(&mut self, now: Instant) {
        let rto = self.rtt.rto(self.backoff);
        if self.una == self.nxt {
            self.wait = Wait::Idle;
            return;
        }
        if at_or_before(self.right, self.una) {
            self.wait = Wait::Persist;
            self.deadline = now + rto;
            return;
        }
        self.wait = Wait::Retransmit;
        self.deadline = now + rto;
        if self.sack
            && self.recovery == Recovery::Open
            && !self.tail_probed
            && self.board.is_clean()
        {
            // RFC 8985, 7.2. Half the least timeout at least: a receiver that is slow to acknowledge a
            // short flight must not be sent a needless segment on a link without loss.
            if let Some(rtt) = self.rtt.smoothed() {
                let mut wait = (rtt * 2).max(self.rtt.rto(0) / 2);
                if self.flight() <= self.mss {
                    wait += SENDER_ACK_DELAY_MAX;
                }
                if wait < rto {
                    self.wait = Wait::TailProbe;
                    self.deadline = now + wait;
                }
            }
        }
    }

    /// When `poll_transmit` must be called next; `None` when only an input can change anything.
    ///
    /// To be asked after `poll_transmit` gave `None`.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let wait = (self.wait != Wait::Idle).then_some(self.deadline);
        match (wait, self.reorder) {
            (Some(wait), Some((reorder, _))) => Some(wait.min(reorder)),
            (None, Some((reorder, _))) => Some(reorder),
            (wait, None) => wait,
        }
    }

    /// Runs the timers that are due. `poll_transmit` does it first.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.dead {
            return;
        }
        if let Some((at, reached)) = self.reorder
            && now >= at
        {
            self.reorder = None;
            if self.board.judge(self.una, reached, 0) {
                self.recover_from_loss(Recovery::Fast);
            }
        }
        if self.wait == Wait::Idle || now < self.deadline {
            return;
        }
        match self.wait {
            Wait::Idle => {}
            Wait::TailProbe => {
                self.tail_probe = true;
                self.tail_probed = true;
                self.wait = Wait::Retransmit;
                self.deadline = now + self.rtt.rto(self.backoff);
            }
            Wait::Retransmit | Wait::Persist => self.on_no_answer(now),
        }
        self.check();
    }

    pub(super) fn on_no_answer(&mut self, now: Instant) {
        // RFC 9293, 3.8.3: R2.
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts > SENDER_ATTEMPTS_MIN && now - self.progress_at >= self.give_up {
            self.dead = true;
            return;
        }
        let first = self.backoff == 0;
        self.backoff = (self.backoff + 1).min(20);
        if at_or_before(self.right, self.una) {
            // The window is closed over what is in flight, or over what waits (SHLD-17: not a timeout).
            self.probe = true;
            self.wait = Wait::Persist;
        } else if self.una == self.nxt {
            // RFC 9293, 3.8.6.2.1: the override of silly window avoidance.
            self.small_window = true;
            self.wait = Wait::Persist;
        } else {
            self.control.on_timeout(self.flight(), first);
            self.board.clear();
            self.board.on_lost(self.una, self.nxt);
            self.dup_acks = 0;
            self.reorder = None;
            self.timed = None;
            self.tail_probe = false;
            self.recovery = Recovery::Timeout;
            self.recover = self.nxt;
            self.forced = true;
            self.wait = Wait::Retransmit;
        }
        self.deadline = now + self.rtt.rto(self.backoff);
    }
}
