//! The choice of the next segment.

use smoltcp::time::Instant;

use super::*;

impl Sender {
    /// The next segment to be sent now. The caller sends it: there is no way back.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.wait != Wait::Idle && now >= self.deadline || self.reorder.is_some() {
            self.on_timeout(now);
        }
        if self.dead || self.fin == Fin::Acked {
            return None;
        }
        if self.probe {
            self.probe = false;
            return Some(Transmit {
                position: self.una_position,
                seq: self.una.wrapping_sub(1),
                len: 0,
                fin: false,
                push: false,
                kind: Kind::Probe,
            });
        }
        let sent = if self.board.lost() > 0 {
            self.resend(now)
        } else {
            self.send_new(now)
        };
        self.check();
        sent
    }

    /// Sends the lowest lost bytes again, as far as both windows allow.
    pub(super) fn resend(&mut self, now: Instant) -> Option<Transmit> {
        let (start, end) = self.board.first_lost()?;
        if !before(start, self.right) {
            return None; // U3: not even again beyond the edge
        }
        let room = self.right.wrapping_sub(start);
        let len = end.wrapping_sub(start).min(self.mss).min(room);
        let pipe = self.pipe();
        if !self.forced && pipe > 0 && pipe + len > self.control.cwnd() {
            self.limited_to = self.nxt;
            return None;
        }
        self.forced = false;
        Some(self.again(now, start, start.wrapping_add(len)))
    }

    /// Sends `start..end`, which was sent before.
    pub(super) fn again(&mut self, now: Instant, start: u32, mut end: u32) -> Transmit {
        // FIN takes a sequence number but no payload.
        let mut fin = self.fin == Fin::Sent && end == self.nxt;
        let mut len = end.wrapping_sub(start);
        if fin {
            len -= 1;
        } else if self.fin == Fin::Sent
            && end == self.end
            && before(end, self.right)
            && self.nxt.wrapping_sub(start) <= self.mss
        {
            // Payload up to the last byte takes the FIN along.
            fin = true;
            end = self.nxt;
        }
        self.board.on_resent(start, end, self.nxt, micros(now));
        if self.timed.is_some_and(|timed| before(start, timed.seq)) {
            self.timed = None; // Karn
        }
        self.last_sent = now;
        if start == self.una && self.wait == Wait::Retransmit {
            // The oldest bytes are under way again: the timer times them, not their first sending.
            self.deadline = now + self.rtt.rto(self.backoff);
        }
        Transmit {
            position: self.position_of(start),
            seq: start,
            len: len as u16,
            fin,
            push: fin || end == self.end,
            kind: Kind::Retransmit,
        }
    }

    pub(super) fn send_new(&mut self, now: Instant) -> Option<Transmit> {
        let unsent = self.unsent();
        if unsent == 0 && self.fin != Fin::Wanted {
            return self.send_tail_probe(now);
        }
        let room = if before(self.nxt, self.right) {
            self.right.wrapping_sub(self.nxt)
        } else {
            0
        };
        let flight = self.flight();
        let mut len = unsent.min(self.mss);
        if room < len.max(1) {
            // RFC 9293, 3.8.6.2.1: a part only if it is half the largest window seen, or after a wait.
            if room == 0 || !(room >= self.window_max / 2 || self.small_window) {
                return self.wait_for_window(now);
            }
            len = room;
        } else if len < self.mss && self.fin != Fin::Wanted && self.holds_back(len) {
            return self.send_tail_probe(now);
        }
        if flight == 0 {
            if now - self.last_sent > self.rtt.rto(0) {
                self.control.on_idle();
            }
            self.progress_at = now;
        }
        let pipe = self.pipe();
        if pipe > 0 && pipe + len > self.control.cwnd() && !self.tail_probe {
            self.limited_to = self.nxt;
            return None;
        }
        self.tail_probe = false;
        self.small_window = false;

        let seq = self.nxt;
        self.nxt = seq.wrapping_add(len);
        let fin = self.fin == Fin::Wanted && self.nxt == self.end && room > len;
        if len < self.mss {
            self.small_end = self.nxt;
        }
        if fin {
            self.fin = Fin::Sent;
            self.nxt = self.nxt.wrapping_add(1);
        }
        if self.timed.is_none() && self.recovery != Recovery::Timeout {
            let delivered = self.una.wrapping_add(self.board.sacked());
            self.timed = Some(Timed {
                seq: self.nxt,
                at: now,
                delivered,
            });
        }
        self.last_sent = now;
        if self.wait == Wait::Idle || self.wait == Wait::Persist {
            self.arm(now);
        }
        Some(Transmit {
            position: self.position_of(seq),
            seq,
            len: len as u16,
            fin,
            push: fin || self.nxt == self.end,
            kind: Kind::New,
        })
    }

    /// Whether a segment of `len` bytes waits to be filled: only while an earlier short one is in flight.
    pub(super) fn holds_back(&self, len: u32) -> bool {
        before(self.una, self.small_end) && !at_or_before(self.nxt.wrapping_add(len), self.push_to)
    }

    /// Nothing fits into the window; with nothing in flight nobody else would ever ask for more.
    pub(super) fn wait_for_window(&mut self, now: Instant) -> Option<Transmit> {
        if self.wait == Wait::Idle {
            self.wait = Wait::Persist;
            self.progress_at = now;
            self.deadline = now + self.rtt.rto(self.backoff);
        }
        self.send_tail_probe(now)
    }

    /// Sends the last segment again if its probe is due and there was nothing new to send instead.
    pub(super) fn send_tail_probe(&mut self, now: Instant) -> Option<Transmit> {
        if !core::mem::take(&mut self.tail_probe) || self.flight() == 0 || !self.board.is_clean() {
            return None;
        }
        let start = self.nxt.wrapping_sub(self.flight().min(self.mss));
        before(start, self.right).then(|| {
            let room = self.right.wrapping_sub(start);
            self.again(
                now,
                start,
                start.wrapping_add(self.nxt.wrapping_sub(start).min(room)),
            )
        })
    }
}
