//! What an acknowledgement changes: window, scoreboard, losses, measurements.

use smoltcp::time::Instant;

use super::*;

impl Sender {
    /// Takes the acknowledgement of a segment that passed the receiver's checks.
    pub fn on_ack(&mut self, now: Instant, info: &AckInfo<'_>) -> AckOutcome {
        if before(self.nxt, info.ack) {
            return AckOutcome::NeverSent;
        }
        let edge = info.ack.wrapping_add(u32::from(info.window) << self.shift);
        if before(info.ack, self.una) {
            // An ACK overtaken by a later one, or of bytes that came before this sender's first. The
            // edge it advertises was advertised: it may widen the window, never narrow it.
            if self.una.wrapping_sub(info.ack) <= self.window_max && before(self.right, edge) {
                self.right = edge;
                self.on_window(now, true);
            }
            return AckOutcome::Old;
        }

        let advanced = info.ack.wrapping_sub(self.una);
        let old_right = self.right;
        if self
            .window_seq
            .is_none_or(|seq| at_or_before(seq, info.seq))
            || advanced > 0
        {
            self.right = edge;
            self.window_seq = Some(info.seq);
            self.window_max = self.window_max.max(edge.wrapping_sub(info.ack));
        }
        let limited = before(self.una, self.limited_to);
        let delivered_before = self.una.wrapping_add(self.board.sacked());

        if advanced > 0 {
            self.on_advance(now, info.ack);
        } else if info.sack.is_empty()
            && self.flight() > 0
            && info.payload_len == 0
            && !info.fin
            && old_right == self.right
            && self.wait != Wait::Persist
        {
            // RFC 5681, 2: the definition of a duplicate.
            self.dup_acks = self.dup_acks.saturating_add(1).min(1 << 14);
        }
        if self.sack && !info.sack.is_empty() {
            for &(start, end) in info.sack.iter().take(4) {
                self.on_sack_block(now, start, end);
            }
        }
        if !self.board.is_clean() || self.dup_acks > 0 {
            self.find_losses(now);
        } else {
            self.reorder = None;
        }
        if self.timed.is_some() {
            self.measure(now);
        }

        let delivered = self
            .una
            .wrapping_add(self.board.sacked())
            .wrapping_sub(delivered_before);
        let grows = matches!(self.recovery, Recovery::Open | Recovery::Timeout);
        if advanced > 0 && limited && grows && (delivered as i32) > 0 {
            self.control.on_ack(delivered);
        }
        if self.wait == Wait::Persist || old_right != self.right {
            self.on_window(now, old_right != self.right);
        }
        if advanced > 0 {
            self.arm(now);
        }
        self.check();
        if advanced > 0 {
            AckOutcome::Advanced(advanced)
        } else {
            AckOutcome::Unchanged
        }
    }

    pub(super) fn on_advance(&mut self, now: Instant, ack: u32) {
        let mut bytes = ack.wrapping_sub(self.una);
        if self.fin == Fin::Sent && ack == self.nxt {
            self.fin = Fin::Acked;
            bytes -= 1;
        }
        if !self.board.is_clean() {
            if !self.board.is_partial()
                && let Some(top) = self.board.top()
            {
                let heard = if before(ack, top) { ack } else { top };
                if let Some(late) = self.board.first_unheard(self.una, heard) {
                    self.on_reordering(top.wrapping_sub(late));
                }
            }
            self.board.advance(
                ack,
                micros(now),
                if self.sack {
                    self.rtt.min_us()
                } else {
                    u32::MAX
                },
            );
        }
        if self.recovery == Recovery::Open {
            self.dup_acks = 0;
        } else if before(self.recover, ack) || ack == self.recover {
            self.recovery = Recovery::Open;
            self.dup_acks = 0;
        } else {
            // RFC 6582, 3.2, step 3: a partial ACK deflates by what it acknowledges.
            let segments = ack.wrapping_sub(self.una) / self.mss;
            self.dup_acks = self.dup_acks.saturating_sub(segments);
            if self.recovery == Recovery::NewReno && self.board.lost() == 0 {
                // The next hole begins where the ACK ends.
                let hole_end = ack.wrapping_add(self.mss.min(self.nxt.wrapping_sub(ack)));
                if self.board.first_unheard(ack, hole_end) == Some(ack) {
                    self.board.on_lost(ack, hole_end);
                    self.forced = true;
                }
            }
        }
        self.una = ack;
        self.una_position += u64::from(bytes);
        // Marks that lie behind are drawn along, so that they never seem to lie ahead after 2^31 bytes.
        for mark in [&mut self.limited_to, &mut self.small_end, &mut self.push_to] {
            if before(*mark, ack) {
                *mark = ack;
            }
        }
        if before(self.recover, ack) {
            self.recover = ack.wrapping_sub(1);
        }
        self.backoff = 0;
        self.attempts = 0;
        self.progress_at = now;
        self.tail_probe = false;
        self.tail_probed = false;
    }

    pub(super) fn on_sack_block(&mut self, now: Instant, start: u32, end: u32) {
        // Blocks below `una` are D-SACKs (RFC 2883) or old; blocks beyond `nxt` or backwards are wrong.
        if !before(start, end) || before(start, self.una) || before(self.nxt, end) {
            return;
        }
        if !self.board.is_partial()
            && let Some(top) = self.board.top()
            && before(start, top)
        {
            let heard = if before(end, top) { end } else { top };
            if let Some(late) = self.board.first_unheard(start, heard) {
                self.on_reordering(top.wrapping_sub(late));
            }
        }
        self.board
            .on_sacked(start, end, micros(now), self.rtt.min_us());
    }

    /// A segment sent once arrived although bytes up to `distance` behind it had come first.
    pub(super) fn on_reordering(&mut self, distance: u32) {
        let segments = distance / self.mss + 1;
        self.dup_threshold = self
            .dup_threshold
            .max(segments)
            .min(SENDER_DUP_THRESHOLD_MAX);
    }

    pub(super) fn find_losses(&mut self, now: Instant) {
        if self.board.take_hasty() {
            self.dup_threshold = (2 * self.dup_threshold).min(SENDER_DUP_THRESHOLD_MAX);
        }
        let margin = (self.dup_threshold - 1) * self.mss;
        if let Some(reached) = self.board.reached()
            && self.board.judge(self.una, reached, margin)
        {
            self.recover_from_loss(Recovery::Fast);
        }
        if self.board.sacked() == 0
            && self.recovery == Recovery::Open
            && self.dup_acks >= self.dup_threshold
            && before(self.recover, self.una)
        {
            // RFC 6582, 3.2, step 2: the first segment in flight is what is missing.
            let hole_end = self.una.wrapping_add(self.mss.min(self.flight()));
            self.board.on_lost(self.una, hole_end);
            self.recover_from_loss(Recovery::NewReno);
        }
        // RFC 8985, 6.2, step 5: what is missing below `reached` may still come, for a quarter of a round trip.
        if self.board.has_doubt(self.una) {
            if self.reorder.is_none()
                && let Some(reached) = self.board.reached()
            {
                let rtt = self.rtt.smoothed().unwrap_or(SENDER_ACK_DELAY_MAX);
                // On a path that was seen to reorder, the wait is a whole round trip.
                let quarter = if self.dup_threshold > DUP_THRESHOLD {
                    rtt
                } else {
                    rtt / 4
                };
                self.reorder = Some((now + quarter.max(SENDER_REORDER_WAIT_MIN), reached));
            }
        } else {
            self.reorder = None;
        }
    }

    pub(super) fn recover_from_loss(&mut self, how: Recovery) {
        if self.recovery == Recovery::Open {
            self.recovery = how;
            self.recover = self.nxt;
            self.control.on_loss(self.flight());
            self.forced = true;
            if self.wait == Wait::TailProbe {
                self.wait = Wait::Retransmit;
                self.deadline = self.last_sent + self.rtt.rto(self.backoff);
            }
        }
    }

    /// Ends the measurement if its segment arrived (by ACK or SACK).
    pub(super) fn measure(&mut self, now: Instant) {
        let Some(timed) = self.timed else { return };
        if !at_or_before(timed.seq, self.una)
            && (self.board.sacked() == 0 || !self.board.is_sacked_before(timed.seq))
        {
            return;
        }
        self.timed = None;
        let rtt = now - timed.at;
        self.rtt.on_sample(now, rtt);
        let delivered = self
            .una
            .wrapping_add(self.board.sacked())
            .wrapping_sub(timed.delivered);
        if (delivered as i32) > 0 {
            let limited = before(self.una, self.limited_to);
            let rtt_us = rtt.total_micros() as u32;
            self.control
                .on_sample(delivered, rtt_us, self.rtt.min_us(), limited);
        }
    }

    /// The right edge `moved`, or a probe was answered.
    pub(super) fn on_window(&mut self, now: Instant, moved: bool) {
        if self.wait == Wait::Persist {
            // RFC 9293, 3.8.6.1: as long as probes are answered the connection stays.
            self.attempts = 0;
            self.progress_at = now;
            if moved && before(self.una, self.right) && !self.small_window {
                self.backoff = 0;
                self.arm(now);
            }
        } else if at_or_before(self.right, self.una) && self.flight() > 0 {
            self.arm(now);
        }
    }
}
