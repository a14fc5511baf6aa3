//! The part of an exchange in which the router is the client's TCP peer.

use crate::budget::{CLIENT_CLOSING_MAX, CLIENT_STARVED_MAX, PORT_FULL_WAIT, SEND_BURST_MAX};
use smoltcp::time::Instant;

use super::flow::{ClientSegment, Outgoing, Way};
use super::{Counter, Exchange, Shared, State};
use crate::counters::Counts;
use crate::stitch::extents::Pool;
use crate::stitch::sender::{AckInfo, AckOutcome, Kind};
use crate::wire::packet::flags;

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
            self.skip_to(now, ack);
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
        for _ in 0..SEND_BURST_MAX {
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
        // Twice: nobody sends it again, and a client that only waits for bytes would never ask.
        for _ in 0..2 {
            if !self.send_control(now, flags::RST | flags::ACK, way) {
                defmt::debug!("no room for a reset; the client's own time-out ends it");
            }
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
        // After a race the origin has seen the request, and the client acknowledged part of its reply.
        let (sent, got) = (self.race.sent, self.race.acked as u32);
        let segment = Outgoing {
            seq: self
                .flow
                .request_seq
                .wrapping_sub(self.flow.request_shift)
                .wrapping_add(sent),
            ack: self
                .flow
                .reply_seq
                .wrapping_sub(self.flow.reply_shift)
                .wrapping_add(got),
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
            State::Free
            | State::Listening
            | State::Racing
            | State::Leaving
            | State::Collecting
            | State::Probing { .. }
            | State::Opening => Verdict::GoOn,
            State::Stitching if !acked => {
                let is_starved = self.extents.contiguous_end() < self.stream_len
                    && self.sender.acked_position() == self.extents.contiguous_end()
                    && (self.is_hopeless || now >= self.progress_at + CLIENT_STARVED_MAX);
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
                let is_over =
                    (self.client_fin && !self.owes_ack) || now >= since + CLIENT_CLOSING_MAX;
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
            State::Closing { since } => Some(since + CLIENT_CLOSING_MAX),
            State::Stitching => Some(self.progress_at + CLIENT_STARVED_MAX),
            State::Free
            | State::Listening
            | State::Racing
            | State::Leaving
            | State::Collecting
            | State::Probing { .. }
            | State::Opening => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::LINK_FAILURES_MAX;
    use crate::budget::Memory;
    use crate::exchange::ExchangeId;
    use crate::exchange::flow::Flow;
    use crate::exchange::slot::State;
    use crate::links::LinkId;
    use crate::port::Full;
    use crate::split::Plan;
    use crate::stack::{SocketId, Stack};
    use smoltcp::time::Duration;
    use smoltcp::wire::Ipv4Address;
    use std::boxed::Box;

    const T0: Instant = Instant::from_micros_const(1_000_000);
    const REQUEST: u32 = 1000;
    const REPLY: u32 = 5000;
    const PEER: LinkId = LinkId::peer(0);

    /// A way that keeps headers: seq, ack, flags, payload bytes.
    struct Fake {
        room: usize,
        sent: std::vec::Vec<(u32, u32, u8, usize)>,
    }

    impl Way for Fake {
        fn send_tcp(
            &mut self,
            _now: Instant,
            _from: (Ipv4Address, u16),
            _to: (Ipv4Address, u16),
            segment: &Outgoing<'_>,
            fill: impl FnOnce(&mut [u8]),
        ) -> Result<(), Full> {
            if self.room == 0 {
                return Err(Full);
            }
            fill(&mut std::vec![0; segment.payload_len]);
            self.sent
                .push((segment.seq, segment.ack, segment.flags, segment.payload_len));
            Ok(())
        }

        fn room(&self, _to: Ipv4Address) -> usize {
            self.room
        }
    }

    struct Bench {
        slot: Exchange,
        stack: Stack<'static>,
        pool: Pool<'static>,
        counts: Counts<Counter>,
        way: Fake,
    }

    impl Bench {
        /// A stream of `len` bytes, `held` of them here, taken over from a client with this window.
        fn new(len: u64, held: usize, window: u16) -> Self {
            let memory = Box::leak(Box::new(Memory::new()));
            let (stack, _, _) =
                Stack::new(&mut memory.buffers, crate::random::Random::repeatable(1));
            let mut pool = Pool::new(&mut memory.blocks);
            let mut slot = Exchange::free(ExchangeId::from_index(0), SocketId::default());
            let flow = Flow {
                request_seq: REQUEST,
                reply_seq: REPLY,
                client_mss: Some(1000),
                origin_mss: Some(500),
                sack: true,
                window,
                ..Flow::none()
            };
            slot.extents.guarantee(&mut pool, 64).unwrap();
            slot.begin(T0, flow, 64);
            slot.held.extend_from_slice(&[b'g'; 1200]).unwrap();
            slot.stream_len = len;
            slot.plan = Plan::new(T0, 0, len);
            slot.extents
                .write(&mut pool, 0, &std::vec![1; held])
                .unwrap();
            slot.commit(T0);
            Self {
                slot,
                stack,
                pool,
                counts: Counts::new(),
                way: Fake {
                    room: 64,
                    sent: std::vec::Vec::new(),
                },
            }
        }

        fn transmit(&mut self, now: Instant) {
            self.slot
                .transmit(now, &mut self.counts, &mut self.pool, &mut self.way);
        }

        /// A segment of the client; whether it reset the connection.
        fn hear(&mut self, now: Instant, segment: ClientSegment<'_>) -> bool {
            let mut shared = Shared {
                stack: &mut self.stack,
                pool: &mut self.pool,
                peers: &mut [],
            };
            self.slot
                .on_client(now, &segment, &mut self.counts, &mut shared, &mut self.way)
        }

        fn body(&mut self, offset: u64, bytes: &[u8]) -> bool {
            self.slot
                .on_body(T0, PEER, offset, bytes, &mut self.pool, &mut self.counts)
        }
    }

    fn ack(ack: u32, window: u16) -> ClientSegment<'static> {
        ClientSegment {
            seq: REQUEST + 1200,
            ack: Some(ack),
            window,
            fin: false,
            syn: false,
            rst: false,
            urg: false,
            sack: &[],
            payload: &[],
        }
    }

    #[test]
    fn a_client_that_read_nothing_for_a_minute_is_not_taken_for_silent_links() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        bench.transmit(T0);
        assert!(!bench.hear(T0, ack(REPLY, 0)));
        let now = T0 + Duration::from_secs(60);
        assert_eq!(bench.slot.verdict(now), Verdict::GoOn);
        assert!(!bench.hear(now, ack(REPLY + 3_000, 4_000)));
        // All that is held is through, the next byte has had no time to come.
        assert_eq!(bench.slot.verdict(now), Verdict::GoOn);
        assert_eq!(bench.slot.verdict(now + CLIENT_STARVED_MAX), Verdict::Cut);
    }

    #[test]
    fn a_full_port_is_tried_again_soon_but_not_for_ever_at_once() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        bench.way.room = 0;
        bench.transmit(T0);
        let late = T0 + Duration::from_secs(5);
        bench.transmit(late);
        let at = bench.slot.poll_at(late).unwrap();
        assert!(late < at && at <= late + Duration::from_millis(1), "{at}");
        bench.way.room = 64;
        bench.transmit(at);
        assert!(!bench.way.sent.is_empty());
        assert!(bench.slot.again_at.is_none());
    }

    #[test]
    fn only_the_exact_reset_ends_a_stream_and_others_are_answered() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        bench.transmit(T0);
        for seq in [REQUEST, REQUEST + 1199, REQUEST + 1201] {
            let before = bench.way.sent.len();
            let reset = ClientSegment {
                seq,
                rst: true,
                ..ack(REPLY, 4_000)
            };
            assert!(!bench.hear(T0, reset));
            assert_eq!(bench.way.sent.len(), before + 1, "a challenge ACK");
        }
        let reset = ClientSegment {
            rst: true,
            ..ack(REPLY, 4_000)
        };
        assert!(bench.hear(T0, reset));
    }

    #[test]
    fn a_request_that_comes_again_is_acknowledged_and_a_second_one_is_not() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        bench.transmit(T0);
        bench.way.sent.clear();
        let payload = [b'g'; 1200];
        let again = ClientSegment {
            seq: REQUEST,
            payload: &payload,
            ..ack(REPLY, 4_000)
        };
        assert!(!bench.hear(T0, again));
        assert_eq!(bench.way.sent.last().unwrap().1, REQUEST + 1200);
        let second = ClientSegment {
            payload: b"GET / HTTP/1.1\r\n",
            ..ack(REPLY, 4_000)
        };
        assert!(!bench.hear(T0, second));
        assert!(bench.way.sent.iter().all(|sent| sent.1 == REQUEST + 1200));
        assert_eq!(bench.counts.get(Counter::Pipelined), 1);
    }

    #[test]
    fn a_closed_side_of_the_client_gets_the_rest_and_a_fin() {
        let mut bench = Bench::new(3_000, 3_000, 4_000);
        bench.transmit(T0);
        let fin = ClientSegment {
            fin: true,
            ..ack(REPLY, 4_000)
        };
        assert!(!bench.hear(T0, fin));
        let through = ClientSegment {
            seq: REQUEST + 1201,
            ..ack(REPLY + 3_000, 4_000)
        };
        assert!(!bench.hear(T0, through));
        let last = *bench.way.sent.last().unwrap();
        assert_eq!(last.0, REPLY + 3_000);
        assert_eq!(last.1, REQUEST + 1201);
        assert_ne!(last.2 & flags::FIN, 0);
        let closed = ClientSegment {
            seq: REQUEST + 1201,
            ..ack(REPLY + 3_001, 4_000)
        };
        assert!(!bench.hear(T0, closed));
        assert_eq!(bench.slot.verdict(T0), Verdict::GoOn);
        assert!(matches!(bench.slot.state, State::Closing { .. }));
        assert_eq!(bench.slot.verdict(T0), Verdict::Closed);
    }

    #[test]
    fn other_bytes_of_a_peer_are_counted_never_kept_and_end_its_help() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        assert!(!bench.body(2_000, &[2; 10]));
        assert_eq!(bench.counts.get(Counter::BytesConflict), 1);
        assert_eq!(bench.slot.failures[PEER.index()], LINK_FAILURES_MAX);
        let mut held = [0; 10];
        bench.slot.extents.read(&bench.pool, 2_000, &mut held);
        assert_eq!(held, [1; 10]);
    }

    #[test]
    fn bytes_of_a_peer_that_find_no_room_are_still_missing() {
        let mut bench = Bench::new(9 << 20, 3_000, 4_000);
        let usable = [true; crate::links::LINKS_MAX];
        let asked = bench.slot.plan.next(T0, PEER, 1 << 20, &usable).unwrap();
        assert!(!bench.body(8 << 20, &[2; 10]));
        assert_eq!(bench.slot.plan.current(PEER).unwrap().0, asked.first);
    }

    #[test]
    fn an_own_line_that_contradicts_what_is_held_ends_the_stream() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        bench.slot.is_doubtful = true;
        assert_eq!(bench.slot.verdict(T0), Verdict::Cut);
    }

    #[test]
    fn the_held_request_leaves_in_segments_that_both_ends_take() {
        let mut bench = Bench::new(9_000, 3_000, 4_000);
        bench.slot.send_held(T0, &mut bench.way);
        let sent: std::vec::Vec<_> = bench.way.sent.iter().map(|s| (s.0, s.3)).collect();
        let expected = [(1000, 500), (1500, 500), (2000, 200)];
        assert_eq!(sent, expected);
    }
}
