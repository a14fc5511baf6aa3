//! The part of an exchange in which the origin's own reply goes to the client while neighbours already fetch its end.
//!
//! ```text
//!            reply's head fits       client has all up to the cut, and more is held there
//! Listening --------------------> Racing -----------------------------------------------> Stitching
//!     |                              |      (or the origin dies after a link has proven itself)
//!     v any doubt                    v no link proves itself
//!   plain                         Leaving --window told--> plain
//! ```
//!
//! The request has gone on as it came, and both directions pass through plain translation, judged by conntrack
//! before anything here believes them. The one thing that is changed is the window of the client's segments: it never
//! reaches past the *cut*, where others go on, so that the origin sends nothing in vain. All of it can be undone: with the
//! next segment, or one in the client's name, the origin is told the whole window again.
//!
//! At the cut there is only one sender: the router answers the client once it has acknowledged all that passed. The
//! origin's connection, which cannot send any more, is reset.
//!
//! Where the cut lies: a neighbour's first bytes come two round trips after it was asked, and the origin must never be
//! made to wait for them. Of a small object both lines should end together; of a large one the neighbour's part must fit
//! the reorder window, and the own second connection, opened shortly before the cut, starts slowly again, which
//! costs the less the longer the first one runs beside it. So the cut lies as far as the shares and the window allow.
//!
//! Follows: RFC 9293 section 3.8.6 (windows, probes), RFC 7323 section 2.3 (an edge may move back by less than one
//! unit of the scale, as the rounding here does), FAULTS.md 2.2, 2.5.
//! Units: positions in the stream from the first byte of the reply's head, bytes; rates in bytes/s.

use smoltcp::time::Instant;

use super::flow::{ClientSegment, Outgoing, Reply, Way};
use super::{Exchange, State, Why};
use crate::budget::{
    HANDSHAKE_WINDOW_MAX, LINK_STALL, LISTEN_TIMEOUT, PORT_FULL_WAIT, RACE_CUT_BYTES_MAX,
    RACE_GUARD_BYTES_MIN, RACE_IDLE_TIMEOUT, RACE_OWN_ROUND_TRIPS, RACE_PART_BYTES_MIN,
    RACE_PEER_ROUND_TRIPS, RACE_PROOF_BYTES, RACE_RAISE_BYTES, RACE_RAISES_MAX, RACE_RATE_ASSUMED,
    RACE_RTT_US_MAX, RATE_RATIO_MAX, STITCH_BLOCK_BYTES, WINDOW_BLOCKS,
};
use crate::links::{LINKS_MAX, LinkId};
use crate::stitch::extents::Pool;
use crate::wire::packet::flags;

/// A cut never lies inside the reply's head: offsets of the object begin behind it.
const _: () = assert!(crate::budget::REPLY_HEAD_BYTES_MAX as u64 <= RACE_PROOF_BYTES);

/// A race between the origin's own reply and the links' ranges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Race {
    /// The client has acknowledged everything before.
    pub(super) acked: u64,
    /// The highest byte that passed to the client lies before.
    pub(super) passed: u64,
    /// The origin is told that the client takes no more than this.
    pub(super) cut: u64,
    /// When the request was whole.
    asked_at: Instant,
    /// When the reply's head was whole.
    head_at: Instant,
    /// From the request to the reply, µs.
    rtt_us: u64,
    /// Last time that the client acknowledged something.
    progress_at: Instant,
    /// Bytes and FIN of the client that the origin has seen.
    pub(super) sent: u32,
    raises: u8,
    /// The origin knows a smaller window than the client has.
    is_narrowed: bool,
    /// The origin must be told the window; when it is tried.
    pub(super) tell_at: Option<Instant>,
}

impl Race {
    pub(super) const fn none() -> Self {
        Self {
            acked: 0,
            passed: 0,
            cut: 0,
            asked_at: Instant::ZERO,
            head_at: Instant::ZERO,
            rtt_us: 0,
            progress_at: Instant::ZERO,
            sent: 0,
            raises: 0,
            is_narrowed: false,
            tell_at: None,
        }
    }
}

/// What a race comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on.
    Wait,
    /// The router answers the client from here on.
    TakeOver,
    /// The cut lies further on.
    Raise,
    /// The origin sends the rest.
    Leave(Why),
}

/// What decides where the cut lies.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// First place that the origin was not yet told it may send.
    edge: u64,
    /// Length of the stream.
    len: u64,
    /// Rate of the own line.
    own: u64,
    /// Rates of the neighbours together.
    peers: u64,
    rtt_us: u64,
    /// Bytes that may be held ahead of what the client has acknowledged.
    window: u64,
}

impl Course {
    /// Where others go on; `None` when they would have nothing to do.
    fn cut(&self) -> Option<u64> {
        let ahead = |rate: u64, round_trips: u64| {
            rate.saturating_mul(self.rtt_us * round_trips) / 1_000_000
        };
        // A neighbour that is asked now begins two round trips late; the own line has one in flight.
        let lead = ahead(self.own, RACE_PEER_ROUND_TRIPS + 1) + RACE_PROOF_BYTES;
        let late = u128::from(ahead(self.peers, RACE_PEER_ROUND_TRIPS));
        let both = u128::from(self.own + self.peers).max(1);
        let share = (u128::from(self.len) + late) * u128::from(self.own) / both;
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        let far = self.window / 4 * 3;
        let cut = share.min(far).max(lead).max(self.edge);
        (cut <= RACE_CUT_BYTES_MAX && cut + RACE_PART_BYTES_MIN <= self.len).then_some(cut)
    }
}

impl Exchange {
    /// Whether both directions pass through plain translation.
    pub(super) fn passes(&self) -> bool {
        match self.state {
            State::Listening | State::Racing | State::Leaving => true,
            State::Free
            | State::Collecting
            | State::Probing { .. }
            | State::Opening
            | State::Stitching
            | State::Closing { .. } => false,
        }
    }

    /// The request is whole: its reply is awaited.
    pub(super) fn listen(&mut self, now: Instant) {
        self.race.asked_at = now;
        self.race.progress_at = now;
        self.fetch.begin_overhearing();
    }

    /// Where the origin's next segment would begin, as the origin counts.
    fn origin_first(&self) -> u32 {
        self.flow.reply_seq.wrapping_sub(self.flow.reply_shift)
    }

    /// The next byte of the client, as it counts.
    fn next_of_client(&self) -> u32 {
        self.flow
            .request_seq
            .wrapping_add(self.held.len() as u32)
            .wrapping_add(u32::from(self.client_fin))
    }

    /// The window field for a segment of the client, when it must not be the client's own.
    pub(super) fn window_to_origin(&self, ack: u32, window: u16) -> Option<u16> {
        let limit = match self.state {
            State::Listening => u64::from(self.flow.edge).max(HANDSHAKE_WINDOW_MAX),
            State::Racing => self.race.cut,
            // All of this reply, and no more of the next one than before the first.
            State::Leaving => u64::from(self.reply_bytes?) + HANDSHAKE_WINDOW_MAX,
            State::Free
            | State::Collecting
            | State::Probing { .. }
            | State::Opening
            | State::Stitching
            | State::Closing { .. } => return None,
        };
        // Old acknowledgments lie before the reply.
        let at = i64::from(ack.wrapping_sub(self.flow.reply_seq) as i32);
        let room = (limit as i64 - at).max(0) as u64;
        let unit = 1_u64 << self.flow.client_window_shift;
        // Rounded up: a place that the origin may not reach would never be acknowledged.
        let field = room.div_ceil(unit).min(u64::from(u16::MAX)) as u16;
        (field < window).then_some(field)
    }

    /// Takes bytes of the reply in order; the state's doubt, or the head once it is whole.
    pub(super) fn overhear(
        &mut self,
        reply: &Reply<'_>,
    ) -> Result<Option<crate::fetch::response::ReplyHead>, Why> {
        if self.request.is_none() && !reply.payload.is_empty() {
            return Err(Why::Interrupted);
        }
        let at = reply.seq.wrapping_sub(self.origin_first());
        let known = self.fetch.head_bytes().len() as u32;
        let skip = known.wrapping_sub(at) as i32;
        if let Ok(skip) = usize::try_from(skip)
            && let Some(new) = reply.payload.get(skip..)
            && !new.is_empty()
        {
            return self
                .fetch
                .overhear(new)
                .map_err(|_| Why::Plain(crate::classify::Reason::ReplyMalformed));
        }
        // A retransmission, or bytes behind a gap: the missing ones will come.
        Ok(None)
    }

    /// Counts what passes to the client.
    pub(super) fn note_passed(&mut self, reply: &Reply<'_>) {
        let end = reply
            .seq
            .wrapping_sub(self.origin_first())
            .wrapping_add(reply.payload.len() as u32);
        if end as i32 > 0 {
            self.race.passed = self.race.passed.max(u64::from(end));
        }
    }

    /// The reply fits: links are asked for what lies behind the cut.
    pub(super) fn race(
        &mut self,
        now: Instant,
        rates: &[u64; LINKS_MAX],
        peers_up: u64,
        pool: &mut Pool<'_>,
    ) -> Result<(), Why> {
        let window = WINDOW_BLOCKS
            .into_iter()
            .find(|&blocks| self.extents.guarantee(pool, blocks).is_ok());
        self.window_blocks = window.ok_or(Why::NoRoom)?;
        let rtt_us = (now - self.race.asked_at).total_micros();
        let own = match rates[0] {
            0 => RACE_RATE_ASSUMED,
            rate => rate,
        };
        let known: u64 = rates[1..].iter().sum();
        let course = Course {
            edge: u64::from(self.flow.edge),
            len: self.stream_len,
            own,
            // A neighbour that was slow then is tried all the same, or it would be so for good.
            peers: match known {
                0 => own * peers_up,
                _ => known.max(own / (RATE_RATIO_MAX / 2)),
            },
            rtt_us: rtt_us.clamp(1, RACE_RTT_US_MAX),
            window: (self.window_blocks * STITCH_BLOCK_BYTES) as u64,
        };
        let cut = course.cut().ok_or(Why::TooLate)?;
        let head = self.fetch.head_bytes();
        // Should the origin die before the client has the head.
        if self.extents.write(pool, 0, head).is_err() {
            return Err(Why::NoRoom);
        }
        self.race.cut = cut;
        self.race.rtt_us = course.rtt_us;
        self.race.head_at = now;
        self.race.progress_at = now;
        self.plan = crate::split::Plan::new(now, self.offset_of(cut), self.body_end());
        self.plan.assume_rates(rates);
        self.plan.set_round_trip(course.rtt_us);
        self.state = State::Racing;
        Ok(())
    }

    /// The own line's rate in this race so far, bytes/s.
    fn own_pace(&self, now: Instant) -> u64 {
        let elapsed_us = (now - self.race.head_at).total_micros();
        match self.plan.rate(LinkId::UPLINK) {
            0 if elapsed_us >= 4 * self.race.rtt_us => {
                self.race.acked.saturating_mul(1_000_000) / elapsed_us.max(1)
            }
            0 => RACE_RATE_ASSUMED,
            rate => rate,
        }
    }

    fn pace_bytes(&self, now: Instant, round_trips: u64) -> u64 {
        let us = self.race.rtt_us * round_trips;
        self.own_pace(now).saturating_mul(us) / 1_000_000
    }

    /// Whether the own line should fetch ranges as well, on a connection of its own.
    ///
    /// In a race not before the first connection is nearly through; then, and while it is opened, only where the
    /// neighbours have so much left that it comes in time.
    pub(super) fn own_line_is_worth_it(&self, now: Instant, usable: &[bool; LINKS_MAX]) -> bool {
        if self.race.rtt_us == 0 {
            return true;
        }
        if self.state == State::Racing
            && self.race.acked + self.pace_bytes(now, RACE_OWN_ROUND_TRIPS) < self.race.cut
        {
            return false;
        }
        if !self.fetch.is_idle() {
            return true;
        }
        if !usable[1..].contains(&true) {
            return self.state != State::Racing;
        }
        let peers: u64 = (1..LINKS_MAX)
            .filter(|&i| usable[i])
            .map(|i| match self.plan.pace(now, LinkId::from_index(i)) {
                0 => self.own_pace(now),
                pace => pace,
            })
            .sum();
        let soon = peers.saturating_mul(self.race.rtt_us * (RACE_OWN_ROUND_TRIPS + 1)) / 1_000_000;
        self.plan.unasked() > soon
    }

    /// Takes a segment of the client in a race; `Err` when the flow is plain from now on.
    pub(super) fn on_racing_client(
        &mut self,
        now: Instant,
        segment: &ClientSegment<'_>,
        pool: &mut Pool<'_>,
    ) -> Result<(), Why> {
        let next = self.next_of_client();
        if segment.rst || segment.syn {
            // What resets exactly was seen by conntrack; the flow is over or the origin answers.
            return if segment.rst && segment.seq == next {
                Err(Why::Interrupted)
            } else {
                Ok(())
            };
        }
        if !segment.payload.is_empty() && segment.seq.wrapping_sub(next) as i32 >= 0 {
            // The origin is to answer something else on this connection: it must live.
            return Err(Why::Pipelined);
        }
        let fin_at = segment.seq.wrapping_add(segment.payload.len() as u32);
        if segment.fin && fin_at == next && !self.client_fin {
            self.client_fin = true;
        }
        let Some(ack) = segment.ack else {
            return Ok(());
        };
        let acked = ack.wrapping_sub(self.flow.reply_seq);
        if (acked as i32) < 0 || u64::from(acked) > self.race.passed {
            return Ok(());
        }
        let acked = u64::from(acked);
        if acked < self.race.acked {
            return Ok(());
        }
        self.flow.window = segment.window;
        if acked > self.race.acked {
            self.race.acked = acked;
            self.race.progress_at = now;
            if self.state == State::Racing {
                self.extents.release_to(pool, acked.min(self.stream_len));
            }
        }
        self.race.is_narrowed = self.window_to_origin(ack, segment.window).is_some();
        if !self.race.is_narrowed {
            self.race.tell_at = None;
        }
        Ok(())
    }

    /// Bytes held from the cut on.
    fn held_at_cut(&self) -> u64 {
        self.extents.first_gap(self.race.cut).0 - self.race.cut
    }

    /// Whether a link has brought what shows that it can go on from the cut.
    pub(super) fn is_proven(&self) -> bool {
        self.held_at_cut() >= RACE_PROOF_BYTES.min(self.stream_len - self.race.cut)
    }

    /// What a race comes to now; `has_peer`: some neighbour may still bring something.
    pub(super) fn step(&self, now: Instant, has_peer: bool) -> Step {
        if let Some(habit) = self.barred_by {
            return Step::Leave(Why::Host(habit));
        }
        let race = &self.race;
        let held = self.held_at_cut();
        let is_proven = self.is_proven();
        let end = race.cut + held;
        if is_proven && race.acked >= race.cut && race.passed <= race.acked && end > race.acked {
            return Step::TakeOver;
        }
        if !has_peer && (held == 0 || end < self.stream_len) {
            return Step::Leave(Why::NoHelp);
        }
        let idle = now - race.progress_at;
        if idle >= LINK_STALL && self.flow.window > 0 && is_proven {
            return Step::TakeOver;
        }
        if idle >= RACE_IDLE_TIMEOUT {
            return Step::Leave(Why::NoHelp);
        }
        let guard = self.pace_bytes(now, 1).max(RACE_GUARD_BYTES_MIN);
        let is_near = race.acked + guard >= race.cut;
        let is_behind = race.acked >= end && race.acked >= race.cut;
        if is_near && (!is_proven || is_behind) {
            return if race.raises < RACE_RAISES_MAX {
                Step::Raise
            } else {
                Step::Leave(Why::NoHelp)
            };
        }
        Step::Wait
    }

    /// Moves the cut on, to where bytes are to come; false when there is no such place.
    pub(super) fn raise(&mut self, now: Instant) -> bool {
        let guard = self.pace_bytes(now, 1).max(RACE_GUARD_BYTES_MIN);
        let wanted = self.race.acked + guard + (RACE_RAISE_BYTES << self.race.raises);
        let wanted = wanted.max(self.race.cut + 1);
        self.race.raises += 1;
        let cut = self.position_of(self.plan.beginning_after(self.offset_of(wanted)));
        if cut > RACE_CUT_BYTES_MAX || cut + RACE_PART_BYTES_MIN > self.stream_len {
            return false;
        }
        self.race.cut = cut;
        self.plan.forget_below(self.offset_of(cut));
        self.owe_window(now);
        true
    }

    /// The origin is to be told that the client takes more.
    pub(super) fn owe_window(&mut self, now: Instant) {
        if self.race.is_narrowed {
            self.race.tell_at = Some(now);
        }
    }

    /// Tells the origin, in the client's name, how much the client takes; true when nothing is owed any more.
    ///
    /// Should it be lost, the origin's probes of a closed window are answered by the client.
    pub(super) fn tell_window<W: Way>(&mut self, now: Instant, way: &mut W) -> bool {
        let Some(at) = self.race.tell_at else {
            return true;
        };
        if now < at {
            return false;
        }
        // Positions of a race fit 32 bits.
        let ack = self.flow.reply_seq.wrapping_add(self.race.acked as u32);
        let window = self.flow.window;
        let told = self.window_to_origin(ack, window);
        let segment = Outgoing {
            seq: self.next_of_client().wrapping_sub(self.flow.request_shift),
            ack: ack.wrapping_sub(self.flow.reply_shift),
            flags: flags::ACK,
            window: told.unwrap_or(window),
            options: &[],
            payload_len: 0,
        };
        let (from, to) = (self.flow.ends.wan, self.flow.ends.origin);
        match way.send_tcp(now, from, to, &segment, |_| {}) {
            Ok(()) => {
                self.race.is_narrowed = told.is_some();
                self.race.tell_at = None;
                true
            }
            Err(_full) => {
                self.race.tell_at = Some(now + PORT_FULL_WAIT);
                false
            }
        }
    }

    /// The router answers the client from what it has acknowledged on; the origin's connection ends.
    pub(super) fn take_over<W: Way>(&mut self, now: Instant, pool: &mut Pool<'_>, way: &mut W) {
        let at = self.race.acked;
        self.plan.assume_rate(LinkId::UPLINK, self.own_pace(now));
        self.extents.release_to(pool, at);
        if at < self.race.cut {
            let start = self.offset_of(at.max(self.head_len));
            self.plan.want_before(start, self.offset_of(self.race.cut));
        } else {
            self.plan.forget_below(self.offset_of(at));
        }
        self.sender = self.flow.sender_at(now, at);
        self.progress_at = now;
        self.closes = true;
        self.origin_gone = true;
        self.own_faults = 0;
        self.race.sent = self.next_of_client().wrapping_sub(self.flow.request_seq);
        self.state = State::Stitching;
        self.reset_origin(now, way);
    }

    /// An acknowledgment of bytes that the origin sent before the router took over: the stream goes on behind them.
    pub(super) fn skip_to(&mut self, now: Instant, ack: u32) {
        let ahead = ack.wrapping_sub(self.sender.next_seq());
        let position = self.sender.sent_position() + u64::from(ahead);
        if (ahead as i32) > 0 && position <= self.race.passed {
            self.sender = self.flow.sender_at(now, position);
        }
    }

    pub(super) fn racing_poll_at(&self, now: Instant) -> Option<Instant> {
        let race = &self.race;
        match self.state {
            State::Listening => Some(race.progress_at + LISTEN_TIMEOUT),
            State::Racing => {
                let stall = Some(race.progress_at + LINK_STALL).filter(|&at| at > now);
                let pause = self.paused_until.iter().copied().filter(|&at| at > now);
                [
                    stall,
                    Some(race.progress_at + RACE_IDLE_TIMEOUT),
                    race.tell_at,
                ]
                .into_iter()
                .flatten()
                .chain(pause)
                .min()
            }
            State::Leaving => race.tell_at,
            State::Free
            | State::Collecting
            | State::Probing { .. }
            | State::Opening
            | State::Stitching
            | State::Closing { .. } => None,
        }
    }

    /// Whether nothing was heard for longer than anybody waits.
    pub(super) fn has_listened_enough(&self, now: Instant) -> bool {
        now >= self.race.progress_at + LISTEN_TIMEOUT
    }
}

#[cfg(test)]
mod tests;
