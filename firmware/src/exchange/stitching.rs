//! The part of an exchange in which the router is the client's TCP peer.

use smoltcp::time::{Duration, Instant};

use super::flow::{ClientSegment, Outgoing, Way};
use super::{CLOSING_MAX, Counter, Exchange, STARVED_MAX, Shared, State};
use crate::counters::Counts;
use crate::stitch::extents::Pool;
use crate::stitch::sender::{AckInfo, AckOutcome, Kind};
use crate::wire::packet::flags;

/// Segments sent a call: a quarter of a port's ring, so that other flows find room.
const BURST_MAX: usize = 16;
/// When a full port is tried again.
const PORT_FULL_WAIT: Duration = Duration::from_millis(1);

/// How a stitched stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Bytes are missing, or not acknowledged.
    GoOn,
    /// All is acknowledged and the connection stays.
    Resume,
    /// All is acknowledged, and both sides have closed or had their time to.
    Closed,
    /// The rest cannot be had, or the client is gone.
    Cut,
}

impl Exchange {
    /// The first own range is good: from here on the router answers the client.
    pub(super) fn commit(&mut self, now: Instant) {
        self.sender = self.flow.sender(now);
        self.owes_ack = true;
        self.progress_at = now;
        self.state = State::Stitching;
    }

    /// The next byte expected of the client, as it counts.
    fn client_next(&self) -> u32 {
        self.flow
            .request_seq
            .wrapping_add(self.held.len() as u32)
            .wrapping_add(u32::from(self.client_fin))
    }

    /// Takes a segment of the client; `true` when the client reset the connection.
    pub(super) fn on_client<W: Way>(
        &mut self,
        now: Instant,
        segment: &ClientSegment<'_>,
        counts: &mut Counts<Counter>,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) -> bool {
        let next = self.client_next();
        if segment.rst {
            // RFC 5961 section 3.2: only the exact number resets; others are answered.
            if segment.seq == next {
                return true;
            }
            self.owes_ack = true;
        } else if segment.syn {
            // RFC 5961 section 4.2.
            self.owes_ack = true;
        } else if let Some(ack) = segment.ack {
            self.flow.window = segment.window;
            let mut sack = [(0, 0); 4];
            for (pair, block) in sack.iter_mut().zip(segment.sack) {
                *pair = (block.left, block.right);
            }
            let info = AckInfo {
                seq: segment.seq,
                ack,
                window: segment.window,
                sack: &sack[..segment.sack.len().min(sack.len())],
                payload_len: segment.payload.len(),
                fin: segment.fin,
            };
            // RFC 9293 section 3.10.7.4: an ACK of what was never sent is answered and ignored (FAULTS T15).
            match self.sender.on_ack(now, &info) {
                AckOutcome::NeverSent => self.owes_ack = true,
                // A client that reads slowly leaves no room to ask for more: that is not the links' silence.
                AckOutcome::Advanced(_) => self.progress_at = now,
                AckOutcome::Unchanged | AckOutcome::Old => {}
            }
            self.extents.release_to(
                shared.pool,
                self.sender.acked_position().min(self.stream_len),
            );
            self.take_payload(segment, next, counts);
        }
        self.transmit(now, counts, shared.pool, way);
        false
    }

    fn take_payload(
        &mut self,
        segment: &ClientSegment<'_>,
        next: u32,
        counts: &mut Counts<Counter>,
    ) {
        let len = segment.payload.len() as u32 + u32::from(segment.fin);
        if len == 0 {
            // A keep-alive probe asks for an answer (RFC 1122 section 4.2.3.6).
            self.owes_ack |= segment.seq != next;
            return;
        }
        if !segment.payload.is_empty() && segment.seq == next {
            // Not acknowledged, so the client keeps it and sends it again when the response is through.
            counts.bump(Counter::Pipelined);
            return;
        }
        let fin_at = segment.seq.wrapping_add(segment.payload.len() as u32);
        if segment.fin && fin_at == next && !self.client_fin {
            self.client_fin = true;
        }
        self.owes_ack = true;
    }

    /// Sends what may be sent now, and an ACK if one is owed and no data carried it.
    pub(super) fn transmit<W: Way>(
        &mut self,
        now: Instant,
        counts: &mut Counts<Counter>,
        pool: &mut Pool<'_>,
        way: &mut W,
    ) {
        let available = self.extents.contiguous_end();
        self.sender.set_available(available);
        if available == self.stream_len && (self.closes || self.client_fin || self.origin_gone) {
            self.sender.finish();
        } else if available == self.stream_len {
            self.sender.flush();
        }
        self.again_at = Some(now);
        for _ in 0..BURST_MAX {
            if way.room(self.flow.ends.client.0) == 0 {
                self.again_at = Some(now + PORT_FULL_WAIT);
                break;
            }
            let Some(transmit) = self.sender.poll_transmit(now) else {
                self.again_at = None;
                break;
            };
            let mut bits = flags::ACK;
            if transmit.push {
                bits |= flags::PSH;
            }
            if transmit.fin {
                bits |= flags::FIN;
            }
            let segment = Outgoing {
                seq: transmit.seq,
                ack: self.client_next(),
                flags: bits,
                window: self.flow.window_to_client(),
                options: &[],
                payload_len: usize::from(transmit.len),
            };
            counts.bump(Counter::Segments);
            if transmit.kind != Kind::New {
                counts.bump(Counter::SegmentsAgain);
            }
            let (extents, pool) = (&self.extents, &*pool);
            let sent = way.send_tcp(
                now,
                self.flow.ends.origin,
                self.flow.ends.client,
                &segment,
                |payload| {
                    let filled = extents.read(pool, transmit.position, payload);
                    debug_assert_eq!(
                        filled,
                        payload.len(),
                        "the sender asked for bytes that are not held"
                    );
                },
            );
            if sent.is_err() {
                self.again_at = Some(now + PORT_FULL_WAIT);
                break;
            }
            self.owes_ack = false;
        }
        if self.owes_ack {
            if self.send_control(now, flags::ACK, way) {
                self.owes_ack = false;
            } else {
                self.again_at = Some(now + PORT_FULL_WAIT);
            }
        }
    }

    fn send_control<W: Way>(&mut self, now: Instant, bits: u8, way: &mut W) -> bool {
        let segment = Outgoing {
            seq: self.sender.next_seq(),
            ack: self.client_next(),
            flags: bits,
            window: self.flow.window_to_client(),
            options: &[],
            payload_len: 0,
        };
        way.send_tcp(
            now,
            self.flow.ends.origin,
            self.flow.ends.client,
            &segment,
            |_| {},
        )
        .is_ok()
    }

    /// Resets the client's connection: it sees one that ended early.
    pub(super) fn reset_client<W: Way>(&mut self, now: Instant, way: &mut W) {
        if !self.send_control(now, flags::RST | flags::ACK, way) {
            defmt::debug!("no room for a reset; the client's own time-out ends it");
        }
    }

    /// Resets the origin's side of the client's connection, which never carried the request.
    pub(super) fn reset_origin<W: Way>(&mut self, now: Instant, way: &mut W) {
        if !self.control_origin(now, flags::RST | flags::ACK, 0, way) {
            defmt::debug!("no room for a reset; the origin's own time-out ends it");
        }
    }

    /// Acknowledges to the origin, in the client's name, what it sent before the exchange: its SYN.
    pub(super) fn acknowledge_origin<W: Way>(&mut self, now: Instant, way: &mut W) {
        if !self.control_origin(now, flags::ACK, self.flow.window, way) {
            defmt::debug!("no room for an ACK; the origin asks again");
        }
    }

    fn control_origin<W: Way>(&mut self, now: Instant, bits: u8, window: u16, way: &mut W) -> bool {
        let segment = Outgoing {
            seq: self.flow.request_seq.wrapping_sub(self.flow.request_shift),
            ack: self.flow.reply_seq.wrapping_sub(self.flow.reply_shift),
            flags: bits,
            window,
            options: &[],
            payload_len: 0,
        };
        way.send_tcp(
            now,
            self.flow.ends.wan,
            self.flow.ends.origin,
            &segment,
            |_| {},
        )
        .is_ok()
    }

    /// Sends the held request to the origin as the client sent it.
    ///
    /// What finds no room is not lost: it was never acknowledged, so the client sends it again.
    pub(super) fn send_held<W: Way>(&mut self, now: Instant, way: &mut W) {
        let mss = usize::from(self.flow.mss_to_origin());
        let mut seq = self.flow.request_seq.wrapping_sub(self.flow.request_shift);
        let mut parts = self.held.chunks(mss).peekable();
        while let Some(part) = parts.next() {
            let segment = Outgoing {
                seq,
                ack: self.flow.reply_seq.wrapping_sub(self.flow.reply_shift),
                flags: if parts.peek().is_none() {
                    flags::ACK | flags::PSH
                } else {
                    flags::ACK
                },
                window: self.flow.window,
                options: &[],
                payload_len: part.len(),
            };
            let sent = way.send_tcp(
                now,
                self.flow.ends.wan,
                self.flow.ends.origin,
                &segment,
                |payload| payload.copy_from_slice(part),
            );
            if sent.is_err() {
                return;
            }
            seq = seq.wrapping_add(part.len() as u32);
        }
    }

    pub(super) fn verdict(&mut self, now: Instant) -> Verdict {
        let acked = self.sender.acked_position() >= self.stream_len;
        if self.sender.dead() || (self.is_doubtful && !acked) {
            return Verdict::Cut;
        }
        match self.state {
            State::Free | State::Collecting | State::Probing { .. } | State::Opening => {
                Verdict::GoOn
            }
            State::Stitching if !acked => {
                let is_starved = self.extents.contiguous_end() < self.stream_len
                    && self.sender.acked_position() == self.extents.contiguous_end()
                    && (self.is_hopeless || now >= self.progress_at + STARVED_MAX);
                if is_starved {
                    Verdict::Cut
                } else {
                    Verdict::GoOn
                }
            }
            State::Stitching => {
                let stays = !(self.closes || self.client_fin || self.origin_gone);
                if stays {
                    return Verdict::Resume;
                }
                if self.sender.is_done() {
                    self.state = State::Closing { since: now };
                }
                Verdict::GoOn
            }
            State::Closing { since } => {
                // The client's FIN may still come and must find somebody who answers it.
                let is_over = (self.client_fin && !self.owes_ack) || now >= since + CLOSING_MAX;
                if is_over {
                    Verdict::Closed
                } else {
                    Verdict::GoOn
                }
            }
        }
    }

    pub(super) fn stitching_poll_at(&self, now: Instant) -> Option<Instant> {
        let due = match self.state {
            State::Closing { since } => Some(since + CLOSING_MAX),
            State::Stitching => Some(self.progress_at + STARVED_MAX),
            State::Free | State::Collecting | State::Probing { .. } | State::Opening => None,
        };
        let pause = self
            .paused_until
            .iter()
            .copied()
            .filter(|&at| at > now)
            .min();
        // Where the port is full, the sender's deadlines wait for it.
        let sender = match self.again_at {
            Some(at) => Some(at),
            None => self.sender.poll_at(),
        };
        [due.filter(|&at| at > now), sender, pause]
            .into_iter()
            .flatten()
            .min()
    }
}
