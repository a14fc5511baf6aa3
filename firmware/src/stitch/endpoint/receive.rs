//! What a received segment does to the endpoint (RFC 9293, 3.10.7).

use smoltcp::time::Instant;

use super::*;

impl<const RX: usize> Endpoint<RX> {
    /// Takes a segment of this connection, or, while listening, any of its port.
    pub fn on_segment(&mut self, now: Instant, segment: &Received<'_>) {
        let has = |mask| segment.flags & mask != 0;
        match self.state {
            State::Closed => {
                // RFC 9293, 3.10.7.1: nothing is here.
                if has(flags::ACK) && !has(flags::RST) {
                    self.reset = Some(segment.ack);
                }
                return;
            }
            State::Listen => {
                if has(flags::SYN) && !has(flags::ACK | flags::RST | flags::FIN) {
                    self.on_syn(now, segment);
                }
                return;
            }
            State::TimeWait
                if has(flags::SYN) && !has(flags::RST) && before(self.rcv_nxt, segment.seq) =>
            {
                // RFC 9293, 3.10.7.4: a new connection; its next SYN finds the port listening.
                self.closed();
                return;
            }
            State::SynReceived
                if has(flags::SYN) && segment.seq.wrapping_add(1) == self.rcv_nxt =>
            {
                self.syn_due = true;
                return;
            }
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }

        // First, the sequence number.
        let len = segment.payload.len() as u32 + u32::from(has(flags::FIN));
        if !self.is_acceptable(segment.seq, len) {
            if !has(flags::RST) {
                // Old data and keep-alives are answered at once; they cost their sender a segment each.
                let is_probe = len == 0 && segment.seq.wrapping_add(1) == self.rcv_nxt;
                if len > 0 || is_probe {
                    self.ack_due = AckDue::Now
                } else {
                    self.challenge(now)
                }
                self.heard(now);
            }
            return;
        }
        if has(flags::RST) {
            // RFC 5961, 3.2: only the exact number ends the connection.
            if segment.seq == self.rcv_nxt {
                self.closed()
            } else {
                self.challenge(now)
            }
            return;
        }
        if has(flags::SYN) {
            self.challenge(now); // RFC 5961, 4.2
            return;
        }
        if !has(flags::ACK) {
            return;
        }
        self.heard(now);
        if self.on_ack(now, segment) {
            self.on_payload(now, segment);
        }
    }

    pub(super) fn on_syn(&mut self, now: Instant, segment: &Received<'_>) {
        let options = segment.options;
        self.rcv_nxt = segment.seq.wrapping_add(1);
        self.edge = self.rcv_nxt.wrapping_add(RX as u32);
        self.sack = options.sack_permitted;
        self.scaled = options.window_scale.is_some();
        let mss = options.mss.unwrap_or(MSS_DEFAULT).clamp(MSS_MIN, MSS);
        let shift = options.window_scale.unwrap_or(0);
        // RFC 7323, 2.2: the window of a SYN is not scaled.
        let window = u32::from(segment.window);
        let mut config = SenderConfig::new(self.isn.wrapping_add(1), mss, window, shift, self.sack);
        config.give_up = PEER_TCP_GIVE_UP;
        config.rto_max = PEER_TCP_RTO_MAX;
        self.sender = Sender::new(config, now);
        self.state = State::SynReceived;
        self.syn_due = true;
        self.tries = 0;
        self.timer = None;
        self.filled = 0;
        self.unacked = 0;
        self.challenge_at = now;
    }

    /// RFC 9293, 3.10.7.4: whether any of the segment lies in the window that was told.
    pub(super) fn is_acceptable(&self, seq: u32, len: u32) -> bool {
        let window = self.edge.wrapping_sub(self.rcv_nxt);
        let inside = |seq: u32| at_or_before(self.rcv_nxt, seq) && before(seq, self.edge);
        match (len, window) {
            (0, 0) => seq == self.rcv_nxt,
            (0, _) => inside(seq),
            (_, 0) => false,
            (_, _) => inside(seq) || inside(seq.wrapping_add(len - 1)),
        }
    }

    /// Whether the segment's text is to be taken.
    pub(super) fn on_ack(&mut self, now: Instant, segment: &Received<'_>) -> bool {
        if self.state == State::SynReceived {
            if segment.ack != self.isn.wrapping_add(1) {
                self.reset = Some(segment.ack); // RFC 9293, 3.10.7.4; the state stays
                return false;
            }
            self.state = State::Established;
            self.tries = 0;
            self.timer = Some(now + PEER_TCP_KEEP_ALIVE_AFTER);
        }
        let count = usize::from(segment.options.sack_count).min(SACK_BLOCKS_MAX);
        let mut sack = [(0, 0); SACK_BLOCKS_MAX];
        for (pair, block) in sack.iter_mut().zip(&segment.options.sack[..count]) {
            *pair = (block.left, block.right);
        }
        let info = AckInfo {
            seq: segment.seq,
            ack: segment.ack,
            window: segment.window,
            sack: &sack[..count],
            payload_len: segment.payload.len(),
            fin: segment.flags & flags::FIN != 0,
        };
        match self.sender.on_ack(now, &info) {
            AckOutcome::NeverSent => {
                self.challenge(now);
                return false;
            }
            AckOutcome::Advanced(_) | AckOutcome::Unchanged | AckOutcome::Old => {}
        }
        if self.sender.is_done() {
            match self.state {
                State::FinWait1 => {
                    self.state = State::FinWait2;
                    self.timer = Some(now + PEER_TCP_LINGER);
                }
                State::Closing => self.time_wait(now),
                State::LastAck => {
                    self.closed();
                    return false;
                }
                State::Closed
                | State::Listen
                | State::SynReceived
                | State::Established
                | State::FinWait2
                | State::CloseWait
                | State::TimeWait => {}
            }
        }
        true
    }

    pub(super) fn on_payload(&mut self, now: Instant, segment: &Received<'_>) {
        match self.state {
            State::Established | State::FinWait1 | State::FinWait2 => {}
            State::TimeWait => {
                // RFC 9293, 3.10.7.4: the FIN again.
                self.ack_due = AckDue::Now;
                self.time_wait(now);
                return;
            }
            State::Closed
            | State::Listen
            | State::SynReceived
            | State::CloseWait
            | State::Closing
            | State::LastAck => return,
        }
        let fin = segment.flags & flags::FIN != 0;
        if segment.payload.is_empty() && !fin {
            return;
        }
        if before(self.rcv_nxt, segment.seq) {
            self.ack_due = AckDue::Now; // a duplicate ACK tells of the gap
            return;
        }
        let old = (self.rcv_nxt.wrapping_sub(segment.seq) as usize).min(segment.payload.len());
        let news = &segment.payload[old..];
        let window = self.edge.wrapping_sub(self.rcv_nxt) as usize;
        let taken = news.len().min(window).min(RX - self.filled);
        self.buffer[self.filled..self.filled + taken].copy_from_slice(&news[..taken]);
        self.filled += taken;
        self.rcv_nxt = self.rcv_nxt.wrapping_add(taken as u32);
        if taken < news.len() {
            self.ack_due = AckDue::Now;
            return;
        }
        if fin {
            self.on_fin(now);
            return;
        }
        self.unacked = self.unacked.saturating_add(1);
        if self.unacked >= 2 || taken == 0 {
            self.ack_due = AckDue::Now;
        } else if self.ack_due == AckDue::No {
            self.ack_due = AckDue::At(now + PEER_TCP_ACK_DELAY);
        }
    }

    pub(super) fn on_fin(&mut self, now: Instant) {
        self.rcv_nxt = self.rcv_nxt.wrapping_add(1);
        if before(self.edge, self.rcv_nxt) {
            self.edge = self.rcv_nxt;
        }
        self.ack_due = AckDue::Now;
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.time_wait(now),
            State::Closed
            | State::Listen
            | State::SynReceived
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
    }

    pub(super) fn time_wait(&mut self, now: Instant) {
        self.state = State::TimeWait;
        self.timer = Some(now + PEER_TCP_LINGER);
    }

    pub(super) fn challenge(&mut self, now: Instant) {
        if now >= self.challenge_at {
            self.challenge_at = now + PEER_TCP_CHALLENGE_EVERY;
            self.ack_due = AckDue::Now;
        }
    }

    /// The other side lives.
    pub(super) fn heard(&mut self, now: Instant) {
        match self.state {
            State::Established | State::CloseWait => {
                self.tries = 0;
                self.timer = Some(now + PEER_TCP_KEEP_ALIVE_AFTER);
            }
            State::FinWait2 => self.timer = Some(now + PEER_TCP_LINGER),
            State::Closed
            | State::Listen
            | State::SynReceived
            | State::FinWait1
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
    }
}
