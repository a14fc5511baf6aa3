//! One HTTP request and its response, from the first byte of the GET to the last ACK of the client.
//!
//! With the `reply` probe the request passes at once and its reply is read as it passes, see [`racing`]. With the
//! `head` probe the request is held:
//!
//! ```text
//!            GET whole, wanted, a peer is up      HEAD fits        first own 206 is good
//! Collecting ---------------------------> Probing --------> Opening ------------------> Stitching
//!     |                                      |                 |                            |
//!     +---- any doubt, or 1 s passed --------+-----------------+                  last byte acknowledged
//!     v                                                                                     v
//! released: the held GET goes out as it came, plain NAT for ever        Resume (sequence numbers translated)
//!                                                                       or Closing (FIN sent) -> Gone
//! ```
//!
//! Until `Stitching` the router has acknowledged nothing to the client and, with `head`, sent nothing to the origin on
//! the client's own connection, so giving up costs nothing. From then on the router is the client's TCP
//! peer: bytes come from any link, go into [`Extents`] once, and leave by the [`Sender`] in order.
//!
//! Calling order: [`Exchanges::start`] for a first request segment, then every segment of the flow by
//! [`Exchanges::on_client_segment`] and [`Exchanges::on_origin_segment`]; [`Exchanges::poll`] each loop;
//! [`Exchanges::poll_outcome`] until `None` after each of them.
//!
//! Follows: RFC 9110 (ranges, validators), RFC 9293 (segments), FAULTS.md sections 2.1 to 2.5.
//! Units: stream positions count from the first byte of the response head; offsets from the first
//! byte of the object; `position = head length + offset - first offset that the client asked for`.
//! Budget: below 24 KiB an exchange (asserted), [`EXCHANGES_MAX`] of them, and the blocks it guarantees itself.

mod flow;
pub(crate) mod framing;
mod hosts;
mod racing;
mod saved;
mod slot;
mod stitching;
mod why;

use heapless::Vec;
use smoltcp::time::Instant;

pub use flow::{ClientSegment, Decision, Ends, Flow, Outcome, Outgoing, Reply, Way};
pub use hosts::Habit;
use hosts::Hosts;
use racing::Step;
pub use saved::{Account, Saved};
use slot::{Exchange, State};
pub use why::{Download, Help, Said, Verdict, Verdicts, Why};

use crate::budget::{
    EXCHANGE_HOLD_MAX, EXCHANGES_MAX, HANDSHAKE_WINDOW_MAX, LINK_FAILURES_MAX, LINK_STALL,
    PEERS_MAX, RACE_RTT_US_MAX, REQUEST_BYTES_MAX, STALL_DOUBLINGS_MAX, WINDOW_BLOCKS,
};
use crate::classify;
use crate::fetch::response::{PartRefused, ReplyHead, judge_probe, judge_reply};
use crate::fetch::{self, Failure};
use crate::links::peer::{self, Peer};
use crate::links::{LINKS_MAX, LinkId};
use crate::settings::{Accel, Probe};
use crate::split::Plan;
use crate::stack::{SocketId, Stack};
use crate::stitch::extents::Pool;
use crate::wire::http::{self};
use crate::wire::peer::Refusal;

crate::counter_stage! {
    /// What became of exchanges.
    pub enum Counter {
        /// Request heads looked at.
        Seen = "seen",
        /// Requests held for a probe.
        Held = "held",
        /// Held requests sent on unchanged.
        Released = "released",
        /// Responses whose end was asked of links while the origin sent the beginning.
        Raced = "raced",
        /// Times that the place where links go on moved, because none was there in time.
        Raised = "raised",
        /// Raced responses that the origin sent to their end.
        Left = "left",
        /// Raced responses whose origin closed, reset or fell silent before its part was through.
        Rescued = "rescued",
        /// Responses taken over.
        Stitched = "stitched",
        /// Responses stitched to the last byte.
        Completed = "completed",
        /// Responses the client gave up.
        Aborted = "aborted",
        /// Responses that ended early because no link could fetch the rest.
        Cut = "cut",
        /// Body bytes the own line brought.
        BytesUplink = "bytes-uplink",
        /// Body bytes peers brought.
        BytesPeers = "bytes-peers",
        /// Bytes that came twice.
        BytesDuplicate = "bytes-duplicate",
        /// Bytes that differed from the same bytes held already; the first were kept.
        BytesConflict = "bytes-conflict",
        /// Ranges asked of any link.
        Ranges = "ranges",
        /// Ranges taken back from a link.
        RangesLost = "ranges-lost",
        /// Ranges asked of a second link because the first was late or slow.
        Hedged = "hedged",
        /// Times that a plan had to start again at a byte it had forgotten; never, unless there is a bug.
        Holes = "holes",
        /// Links that brought nothing for too long.
        Stalls = "stalls",
        /// Segments of the client that came after its request and before its response was through.
        Pipelined = "pipelined",
        /// Origins that closed the client's connection while its response was stitched.
        OriginClosed = "origin-closed",
        /// Segments sent to clients.
        Segments = "segments",
        /// Segments sent to clients again.
        SegmentsAgain = "segments-again",
        /// No slot, or no block: the download stayed plain.
        NoRoom = "no-room",
    }
}

/// Index of an exchange, below [`EXCHANGES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct ExchangeId(u8);

impl ExchangeId {
    /// The exchange at `index` of tables.
    pub const fn from_index(index: u8) -> Self {
        Self(index)
    }

    /// Position in tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// All exchanges of the router.
pub struct Exchanges<'m> {
    slots: &'m mut [Exchange],
    outcomes: Vec<(Flow, Outcome), { EXCHANGES_MAX * 2 }>,
    verdicts: Verdicts,
    saved: Saved,
    /// Rates measured by earlier exchanges, bytes/s.
    rates: [u64; LINKS_MAX],
    hosts: Hosts,
    counts: crate::counters::Counts<Counter>,
}

const _: () = assert!(core::mem::size_of::<Exchange>() <= 24 * 1024);

/// Storage of all exchanges; empty it costs no image bytes.
pub struct Slots(Vec<Exchange, EXCHANGES_MAX>);

impl Slots {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl<'m> Exchanges<'m> {
    /// No exchange yet; one fetch socket each.
    pub fn new(slots: &'m mut Slots, sockets: &[SocketId]) -> Self {
        slots.0.clear();
        for (i, &socket) in sockets.iter().enumerate() {
            // One at a time: all of them together would not fit the board's stack.
            let _fits = slots
                .0
                .push(Exchange::free(ExchangeId(i as u8), socket))
                .is_ok();
        }
        Self {
            slots: slots.0.as_mut_slice(),
            outcomes: Vec::new(),
            verdicts: Verdicts::new(),
            saved: Saved::new(),
            rates: [0; LINKS_MAX],
            hosts: Hosts::new(),
            counts: crate::counters::Counts::new(),
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &crate::counters::Counts<Counter> {
        &self.counts
    }

    /// What became of requests.
    pub const fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    /// A connection is not looked at any more, without a request.
    pub fn note_flow(&mut self, verdict: Verdict) {
        self.verdicts.note_flow(verdict);
    }

    /// What neighbours brought and saved.
    pub const fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Rates measured by the last exchanges, bytes/s; zero while unknown.
    pub fn rates(&self) -> &[u64; LINKS_MAX] {
        &self.rates
    }

    /// Exchanges that hold anything.
    pub fn active(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.state != State::Free)
            .count()
    }

    /// The next exchange that ended, to be told to conntrack.
    pub fn poll_outcome(&mut self) -> Option<(Flow, Outcome)> {
        self.outcomes.pop()
    }

    /// Whether the flow's segments go on as they are unless something else is decided: conntrack judges them first.
    pub fn passes(&self, id: ExchangeId) -> bool {
        self.slots[id.index()].passes()
    }

    /// The window field with which a segment of the client goes on, if it is not its own.
    pub fn window_to_origin(&self, id: ExchangeId, ack: u32, window: u16) -> Option<u16> {
        self.slots[id.index()].window_to_origin(ack, window)
    }

    /// Looks at the first payload of a request on a watched flow; an exchange begins unless it is left alone. The segment
    /// is kept unless the exchange [`passes`](Self::passes).
    ///
    /// # Errors
    /// Why the request is left alone: the segment goes on unchanged.
    #[expect(
        clippy::too_many_arguments,
        reason = "what it looks at, what decides, what it takes"
    )]
    pub fn start(
        &mut self,
        now: Instant,
        flow: Flow,
        payload: &[u8],
        accel: &Accel,
        peer_is_up: bool,
        stack: &mut Stack<'_>,
        pool: &mut Pool<'_>,
    ) -> Result<ExchangeId, Why> {
        self.counts.bump(Counter::Seen);
        // Most flows are decided by their first segment and never take a slot.
        let verdict = classify::classify(payload, accel, flow.ends.origin.1);
        if let classify::Outcome::Plain(reason) = verdict {
            self.verdicts.decline(now, payload, Why::Plain(reason));
            return Err(Why::Plain(reason));
        }
        if !peer_is_up {
            self.verdicts.decline(now, payload, Why::NoPeer);
            return Err(Why::NoPeer);
        }
        if flow.is_tiny() {
            self.verdicts.decline(now, payload, Why::TinySegments);
            return Err(Why::TinySegments);
        }
        let same_origin =
            |slot: &Exchange| slot.state == State::Free && slot.fetch.remote() == flow.ends.origin;
        let free = |slot: &Exchange| slot.state == State::Free;
        let at = self
            .slots
            .iter()
            .position(same_origin)
            .or_else(|| self.slots.iter().position(free));
        let Some(at) = at else {
            self.counts.bump(Counter::NoRoom);
            self.verdicts.decline(now, payload, Why::NoRoom);
            return Err(Why::NoRoom);
        };
        let slot = &mut self.slots[at];
        if accel.probe == Probe::Reply {
            slot.begin(now, flow, 0);
            slot.state = State::Listening;
            if let Err(why) = slot.collect(payload, accel) {
                self.verdicts.decline(now, payload, why);
                self.slots[at].rest(now, stack, pool, &mut []);
                return Err(why);
            }
            self.slots[at].listen(now);
            return Ok(ExchangeId(at as u8));
        }
        let window = WINDOW_BLOCKS
            .into_iter()
            .find(|&blocks| slot.extents.guarantee(pool, blocks).is_ok());
        let Some(window_blocks) = window else {
            self.counts.bump(Counter::NoRoom);
            self.verdicts.decline(now, payload, Why::NoRoom);
            return Err(Why::NoRoom);
        };
        slot.begin(now, flow, window_blocks);
        self.counts.bump(Counter::Held);
        match slot.collect(payload, accel) {
            Ok(()) => {}
            Err(why) => {
                self.verdicts.decline(now, payload, why);
                self.slots[at].rest(now, stack, pool, &mut []);
                return Err(why);
            }
        }
        let slot = &mut self.slots[at];
        if slot.request.is_some() {
            slot.probe(now, stack);
        }
        Ok(ExchangeId(at as u8))
    }

    /// Takes a segment that the client sent on a flow with an exchange.
    ///
    /// [`Decision::Forward`]: the flow is plain from now on, held bytes went out, the segment follows.
    pub fn on_client_segment<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        segment: &ClientSegment<'_>,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) -> Decision {
        let slot = &mut self.slots[id.index()];
        match slot.state {
            State::Free => Decision::Forward,
            State::Listening | State::Racing | State::Leaving => {
                match slot.hear_client(now, segment, accel, shared.pool) {
                    Ok(()) => self.advance(now, id, shared, way),
                    Err(why) => {
                        self.leave(now, id, why, shared);
                        Decision::Forward
                    }
                }
            }
            State::Collecting | State::Probing { .. } | State::Opening => {
                let why = match slot.hold(segment, accel) {
                    Ok(()) => {
                        if slot.state == State::Collecting && slot.request.is_some() {
                            slot.probe(now, shared.stack);
                        }
                        return Decision::Taken;
                    }
                    Err(why) => why,
                };
                self.release(now, id, why, shared, way);
                Decision::Forward
            }
            State::Stitching | State::Closing { .. } => {
                let aborted = slot.on_client(now, segment, &mut self.counts, shared, way);
                if aborted {
                    self.counts.bump(Counter::Aborted);
                    self.end(now, id, Outcome::Gone, shared, way);
                } else {
                    self.settle(now, id, shared, way);
                }
                Decision::Taken
            }
        }
    }

    /// Takes a segment that the origin sent on a flow with an exchange.
    pub fn on_origin_segment<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        reply: Reply<'_>,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) -> Decision {
        let slot = &mut self.slots[id.index()];
        let is_quiet = !reply.fin && !reply.rst && reply.payload.is_empty();
        if slot.passes() {
            return self.on_passing_reply(now, id, &reply, accel, shared, way);
        }
        if reply.syn && !reply.rst && slot.state != State::Free {
            // The ACK of its SYN was lost. The request that would have carried another is held here, and what
            // the client says now may be an answer to a stitched segment: only the router can repeat it.
            slot.acknowledge_origin(now, way);
            return Decision::Taken;
        }
        match slot.state {
            State::Free | State::Listening | State::Racing | State::Leaving => Decision::Forward,
            State::Collecting | State::Probing { .. } | State::Opening => {
                if !is_quiet {
                    self.release(now, id, Why::Interrupted, shared, way);
                }
                Decision::Forward
            }
            State::Stitching | State::Closing { .. } => {
                if !is_quiet && !slot.origin_gone {
                    // Its connection never saw the request: an idle time-out. The response goes on by ranges.
                    slot.origin_gone = true;
                    self.counts.bump(Counter::OriginClosed);
                }
                // Probes of a closed window carry nothing: the reset at the cut may have been lost.
                let is_probe = slot.race.passed > 0;
                if !reply.rst && (is_probe || !is_quiet) {
                    slot.reset_origin(now, way);
                }
                Decision::Taken
            }
        }
    }

    /// Takes body bytes a peer brought; `false` when the peer must not go on for this exchange.
    pub fn on_body(
        &mut self,
        now: Instant,
        id: ExchangeId,
        link: LinkId,
        offset: u64,
        bytes: &[u8],
        pool: &mut Pool<'_>,
    ) -> bool {
        self.slots[id.index()].on_body(now, link, offset, bytes, pool, &mut self.counts)
    }

    /// Takes what a peer's session said about an exchange's range.
    pub fn on_peer_event(&mut self, now: Instant, link: LinkId, event: peer::Event) {
        match event {
            peer::Event::Begun(_) => {}
            peer::Event::Done(id, first) => self.on_range(now, id, link, first),
            peer::Event::Dropped(id) => {
                self.slots[id.index()].on_link_failed(now, link, &mut self.counts);
            }
            peer::Event::Refused(id, reason) => {
                // Bytes behind a range (FAULTS O26) end its connection as a close does.
                let is_end = matches!(reason, Refusal::Closed | Refusal::Malformed);
                if is_end && self.closes_each(now, id, link) {
                    return;
                }
                match reason {
                    Refusal::RangeIgnored => self.learn(now, id, Habit::NoRanges),
                    Refusal::OriginBusy => self.learn(now, id, Habit::Busy),
                    Refusal::Denied | Refusal::Changed => {
                        self.learn(now, id, Habit::Denies(link));
                    }
                    Refusal::Disabled
                    | Refusal::Busy
                    | Refusal::Limit
                    | Refusal::Address
                    | Refusal::Port
                    | Refusal::Request
                    | Refusal::Unreachable
                    | Refusal::Closed
                    | Refusal::Stalled
                    | Refusal::Malformed
                    | Refusal::Redirected
                    | Refusal::NotThePart => {}
                }
                let slot = &mut self.slots[id.index()];
                slot.on_link_failed(now, link, &mut self.counts);
                match reason {
                    Refusal::Busy
                    | Refusal::Limit
                    | Refusal::OriginBusy
                    | Refusal::Unreachable
                    | Refusal::Closed
                    | Refusal::Stalled
                    | Refusal::Malformed => {}
                    // What is refused once is refused again (FAULTS K13, K14).
                    Refusal::Disabled
                    | Refusal::Address
                    | Refusal::Port
                    | Refusal::Request
                    | Refusal::RangeIgnored
                    | Refusal::Redirected
                    | Refusal::Denied
                    | Refusal::Changed
                    | Refusal::NotThePart => slot.failures[link.index()] = LINK_FAILURES_MAX,
                }
            }
            peer::Event::Lost => {
                for slot in self.slots.iter_mut() {
                    slot.on_link_failed(now, link, &mut self.counts);
                }
            }
        }
    }

    /// Ends a range of a link.
    fn on_range(&mut self, now: Instant, id: ExchangeId, link: LinkId, first: u64) {
        if self.slots[id.index()].plan.lacks(link, first) {
            self.learn(now, id, Habit::ShortRanges);
        }
        self.slots[id.index()].plan.on_done(now, link, first);
    }

    /// Takes the end of a link's connection between two ranges for the way of its origin; `false` if it is a failure.
    fn closes_each(&mut self, now: Instant, id: ExchangeId, link: LinkId) -> bool {
        let slot = &mut self.slots[id.index()];
        let is_way = slot.plan.is_between_ranges(link);
        if is_way {
            slot.plan.on_closed(link);
            self.learn(now, id, Habit::ClosesEach);
        }
        is_way
    }

    /// Remembers a habit of an exchange's origin host.
    fn learn(&mut self, now: Instant, id: ExchangeId, habit: Habit) {
        let slot = &mut self.slots[id.index()];
        let Some(key) = slot.host() else { return };
        let has_worked = slot.bytes.iter().any(|&bytes| bytes > 0);
        let is_sure = match habit {
            // After other ranges it is a changed object, or one server of many.
            Habit::NoRanges => !has_worked,
            Habit::ShortRanges
            | Habit::Busy
            | Habit::OneConnection
            | Habit::ClosesEach
            | Habit::Denies(_) => true,
        };
        if is_sure {
            slot.barred_by = match habit {
                Habit::Denies(_) => slot.barred_by,
                Habit::NoRanges
                | Habit::ShortRanges
                | Habit::Busy
                | Habit::OneConnection
                | Habit::ClosesEach => Some(habit),
            };
            self.hosts.note(now, key, habit);
        }
    }

    /// Whether what is known of an exchange's origin host, or its reply, leaves help any sense.
    fn judge_host(&mut self, now: Instant, id: ExchangeId, head: &ReplyHead) -> Result<(), Why> {
        let slot = &mut self.slots[id.index()];
        let (Some(key), Some(request)) = (slot.host(), slot.request) else {
            return Ok(());
        };
        // A client that wants the connection closed is told so by every origin.
        if head.close && !request.close {
            return Err(Why::Host(Habit::ClosesEach));
        }
        if let Some(habit) = self.hosts.bars(now, key) {
            return Err(Why::Host(habit));
        }
        for link in (0..LINKS_MAX).map(LinkId::from_index) {
            if self.hosts.denies(now, key, link) {
                slot.failures[link.index()] = LINK_FAILURES_MAX;
            }
        }
        Ok(())
    }

    /// Runs every exchange: fetches, plans, segments to the client, timers.
    pub fn poll<W: Way>(
        &mut self,
        now: Instant,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        for at in 0..self.slots.len() {
            let id = ExchangeId(at as u8);
            self.pump_uplink(now, id, accel, shared, way);
            match self.slots[at].state {
                State::Free => {}
                State::Listening => {
                    if self.slots[at].has_listened_enough(now) {
                        self.leave(now, id, Why::Late, shared);
                    }
                }
                State::Racing => {
                    self.advance(now, id, shared, way);
                    if self.slots[at].state == State::Racing {
                        self.ask(now, id, shared);
                        // What is owed is tried again in time.
                        self.slots[at].tell_window(now, way);
                    }
                }
                State::Leaving => {
                    if self.slots[at].tell_window(now, way) {
                        self.pass(now, id, shared);
                    }
                }
                State::Collecting | State::Probing { .. } => {
                    self.slots[at].try_probe(now, shared.stack);
                    if now >= self.slots[at].held_at + EXCHANGE_HOLD_MAX {
                        self.release(now, id, Why::Late, shared, way);
                    }
                }
                State::Opening => {
                    if now >= self.slots[at].held_at + EXCHANGE_HOLD_MAX {
                        self.release(now, id, Why::Late, shared, way);
                    } else {
                        self.ask(now, id, shared);
                    }
                }
                State::Stitching | State::Closing { .. } => {
                    self.ask(now, id, shared);
                    self.slots[at].transmit(now, &mut self.counts, shared.pool, way);
                    self.settle(now, id, shared, way);
                }
            }
        }
    }

    fn pump_uplink<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        // While it listens, the place of the fetch's heads has the one that passes.
        if self.slots[id.index()].state == State::Listening {
            return;
        }
        loop {
            let slot = &mut self.slots[id.index()];
            let Exchange {
                fetch,
                plan,
                extents,
                object,
                head_len,
                body_first,
                bytes,
                duplicates,
                failures,
                own_faults,
                progress_at,
                is_doubtful,
                ..
            } = slot;
            let counts = &mut self.counts;
            let pool = &mut *shared.pool;
            let (head_len, body_first) = (*head_len, *body_first);
            let mut body = |offset: u64, part: &[u8]| match extents.write(
                pool,
                head_len + (offset - body_first),
                part,
            ) {
                Ok(written) => {
                    plan.on_bytes(now, LinkId::UPLINK, offset, part.len() as u64);
                    bytes[0] += part.len() as u64;
                    failures[0] = 0;
                    *own_faults = 0;
                    *progress_at = now;
                    counts.add(Counter::BytesUplink, part.len() as u64);
                    counts.add(Counter::BytesDuplicate, written.duplicate as u64);
                    *duplicates += written.duplicate as u64;
                    if written.conflict {
                        counts.bump(Counter::BytesConflict);
                        *is_doubtful = true;
                    }
                    part.len()
                }
                Err(_full) => 0,
            };
            let Some(event) = fetch.pump(now, shared.stack, object.as_ref(), &mut body) else {
                return;
            };
            let state = slot.state;
            match event {
                fetch::Event::Probe(head) => self.on_probe(now, id, &head, accel, shared, way),
                fetch::Event::Begun(granted) => {
                    let is_short = slot
                        .plan
                        .current(LinkId::UPLINK)
                        .is_some_and(|(_, end)| granted.last + 1 < end);
                    if slot.state == State::Opening && is_short {
                        self.learn(now, id, Habit::ShortRanges);
                        self.release(now, id, Why::Host(Habit::ShortRanges), shared, way);
                    } else if slot.state == State::Opening {
                        slot.commit(now);
                        self.counts.bump(Counter::Stitched);
                        defmt::info!(
                            "exchange {=u8}: stitching {=u64} bytes",
                            id.0,
                            slot.stream_len
                        );
                    }
                }
                fetch::Event::Done => {
                    if let Some(first) = slot.plan.oldest(LinkId::UPLINK) {
                        self.on_range(now, id, LinkId::UPLINK, first);
                    }
                    let slot = &mut self.slots[id.index()];
                    if slot.fetch.is_resting() {
                        // Asked behind a reply that closed the connection: never answered.
                        slot.plan.on_failed(LinkId::UPLINK);
                    }
                }
                fetch::Event::Lost(Failure::EarlyEnd | Failure::Grammar | Failure::Unasked)
                    if matches!(state, State::Racing | State::Stitching)
                        && self.closes_each(now, id, LinkId::UPLINK) => {}
                fetch::Event::Lost(failure) => match self.note_failure(now, id, failure) {
                    State::Free | State::Listening | State::Leaving => {}
                    // The first connection is still there.
                    State::Racing => {
                        let slot = &mut self.slots[id.index()];
                        slot.on_link_failed(now, LinkId::UPLINK, &mut self.counts);
                    }
                    State::Collecting | State::Probing { .. } | State::Opening => {
                        self.release(now, id, Why::Line(failure), shared, way);
                    }
                    State::Stitching | State::Closing { .. } => {
                        let slot = &mut self.slots[id.index()];
                        match failure {
                            // Silence may end.
                            Failure::Connect => {}
                            Failure::EarlyEnd
                            | Failure::Grammar
                            | Failure::Unasked
                            | Failure::Refused(_) => {
                                slot.own_faults = slot.own_faults.saturating_add(1);
                            }
                        }
                        slot.on_link_failed(now, LinkId::UPLINK, &mut self.counts);
                    }
                },
            }
        }
    }

    /// Remembers what the failure of an own connection says of its host; the exchange's state.
    fn note_failure(&mut self, now: Instant, id: ExchangeId, failure: Failure) -> State {
        match failure {
            Failure::Refused(PartRefused::RangeIgnored) => self.learn(now, id, Habit::NoRanges),
            Failure::Refused(PartRefused::Busy) => self.learn(now, id, Habit::Busy),
            Failure::Refused(_)
            | Failure::Connect
            | Failure::EarlyEnd
            | Failure::Grammar
            | Failure::Unasked => {}
        }
        self.slots[id.index()].state
    }

    fn on_probe<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        head: &ReplyHead,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        let slot = &mut self.slots[id.index()];
        if !matches!(slot.state, State::Probing { .. }) {
            return;
        }
        let target = slot
            .request
            .map_or(&[][..], |request| request.target.of(&slot.held));
        let judged = judge_probe(head, target, accel).map_err(Why::Plain);
        let judged = match self.judge_host(now, id, head) {
            Ok(()) => judged,
            Err(why) => judged.and(Err(why)),
        };
        let slot = &mut self.slots[id.index()];
        let judged = judged.and_then(|object| {
            let done = slot.open(now, object, head, shared.pool);
            done.map_err(|_| Why::NoRoom)
        });
        match judged {
            Ok(()) => {
                slot.plan.assume_rates(&self.rates);
                // A connection is opened, then the HEAD answered.
                let us = (now - slot.held_at).total_micros() / 2;
                slot.plan.set_round_trip(us.min(RACE_RTT_US_MAX));
                self.ask(now, id, shared);
            }
            Err(why) => self.release(now, id, why, shared, way),
        }
    }

    /// Gives links their next ranges while they can take one.
    fn ask(&mut self, now: Instant, id: ExchangeId, shared: &mut Shared<'_, '_>) {
        let slot = &mut self.slots[id.index()];
        if slot.plan.is_done() {
            if slot.state != State::Stitching || slot.extents.contiguous_end() >= slot.stream_len {
                return;
            }
            // The plan counts as arrived what is not held: asking for a byte twice is allowed,
            // forgetting one is not.
            self.counts.bump(Counter::Holes);
            let first = slot.offset_of(slot.extents.contiguous_end().max(slot.head_len));
            slot.plan = Plan::new(now, first, slot.body_end());
        }
        let mut usable: [bool; LINKS_MAX] = core::array::from_fn(|i| {
            let link = LinkId::from_index(i);
            let is_up = |peer: usize| shared.peers.get(peer).is_some_and(Peer::is_up);
            link.peer_index().is_none_or(is_up) && slot.may_use(link)
        });
        slot.is_hopeless = !usable.contains(&true);
        // An own line that is alone may think longer each time: nobody else could take over (FAULTS K8).
        let patience = match usable[1..].contains(&true) {
            true => 0,
            false => slot.failures[0].min(STALL_DOUBLINGS_MAX),
        };
        slot.plan
            .set_stall(LinkId::UPLINK, LINK_STALL * (1 << patience));
        for i in 0..LINKS_MAX {
            let link = LinkId::from_index(i);
            if slot.plan.is_stalled(now, link, &usable) {
                self.counts.bump(Counter::Stalls);
                defmt::info!("exchange {=u8}: {} stalled", id.0, link);
                match link.peer_index() {
                    None => slot.fetch.abort(shared.stack),
                    Some(peer) => shared.peers[peer].cancel(shared.stack, id),
                }
                slot.on_link_failed(now, link, &mut self.counts);
            }
            // A late one keeps what it has and gets nothing more meanwhile.
            usable[i] &=
                slot.may_use(link) && now >= slot.paused_until[i] && !slot.plan.is_late(now, link);
        }
        usable[0] = usable[0] && slot.own_line_is_worth_it(now, &usable);
        if slot.state == State::Racing {
            // What a link failed to bring and the origin sends itself.
            slot.plan.forget_below(slot.offset_of(slot.race.cut));
        }
        slot.plan.set_head(slot.waited_for());
        if slot.may_hedge() {
            let hedged = slot.plan.hedge(now, &usable);
            self.counts.add(Counter::Hedged, u64::from(hedged));
        }
        let Some(request) = slot.request else { return };
        let limit = slot.plan_limit();
        // Not for a client that reads nothing: an origin closes connections without requests.
        if usable[0] && slot.fetch.is_idle() && slot.plan.has_work(limit) {
            slot.fetch.open(now, shared.stack, slot.flow.ends.origin);
        }
        for i in 0..LINKS_MAX {
            let link = LinkId::from_index(i);
            loop {
                let can_ask = match link.peer_index() {
                    None => slot.fetch.can_ask(shared.stack, REQUEST_BYTES_MAX),
                    Some(peer) => {
                        http::peer_may_see(request.target.of(&slot.held))
                            && shared.peers[peer].can_ask(shared.stack)
                    }
                };
                if !can_ask {
                    break;
                }
                let Some(range) = slot.plan.next(now, link, limit, &usable) else {
                    break;
                };
                let asked = match link.peer_index() {
                    None => {
                        let mut bytes = [0; REQUEST_BYTES_MAX];
                        match http::write_get(&mut bytes, &request, &slot.held, range, None) {
                            Ok(len) => slot
                                .fetch
                                .ask_range(now, shared.stack, &bytes[..len], range)
                                .is_ok(),
                            Err(_too_long) => false,
                        }
                    }
                    Some(peer) => match slot.wanted(id, range, &request) {
                        Some(wanted) => shared.peers[peer].ask(now, shared.stack, wanted).is_ok(),
                        None => false,
                    },
                };
                self.counts.bump(Counter::Ranges);
                if !asked {
                    slot.on_link_failed(now, link, &mut self.counts);
                    break;
                }
            }
        }
    }

    /// Takes a segment of the origin that goes to the client unless the router takes its place.
    fn on_passing_reply<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        reply: &Reply<'_>,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) -> Decision {
        let slot = &mut self.slots[id.index()];
        if reply.syn && !reply.rst {
            return Decision::Forward;
        }
        let ends = reply.rst || reply.fin;
        if ends && slot.state == State::Racing && !slot.fetch.is_idle() {
            // Its first connection ends when a second one is there (FAULTS K12).
            self.learn(now, id, Habit::OneConnection);
        }
        let slot = &mut self.slots[id.index()];
        if ends && slot.state == State::Racing && slot.is_proven() {
            // Its connection dies before its part is through: links can bring the rest (FAULTS K12).
            self.rescue(now, id, shared, way);
            return Decision::Taken;
        }
        slot.note_passed(reply);
        if ends {
            self.leave(now, id, Why::Interrupted, shared);
            return Decision::Forward;
        }
        if slot.state == State::Listening {
            match slot.overhear(reply) {
                Ok(None) => {}
                Ok(Some(head)) => self.on_reply_head(now, id, &head, accel, shared),
                Err(why) => self.leave(now, id, why, shared),
            }
        }
        Decision::Forward
    }

    /// Judges the reply that passes; the neighbours are asked for its end at once.
    fn on_reply_head(
        &mut self,
        now: Instant,
        id: ExchangeId,
        head: &ReplyHead,
        accel: &Accel,
        shared: &mut Shared<'_, '_>,
    ) {
        let peers_up = shared.peers.iter().filter(|peer| peer.is_up()).count() as u64;
        let slot = &mut self.slots[id.index()];
        let Some(request) = slot.request else { return };
        // Should it be left alone: where the next request will begin.
        slot.reply_bytes = framing::reply_bytes(head, false)
            .filter(|_| !request.close && usize::from(request.head_len) == slot.held.len());
        let target = request.target.of(&slot.held);
        let judged = if peers_up == 0 || !http::peer_may_see(target) {
            Err(Why::NoPeer)
        } else {
            judge_reply(head, request.range, target, accel).map_err(Why::Plain)
        };
        let judged = match self.judge_host(now, id, head) {
            Ok(()) => judged,
            Err(why) => judged.and(Err(why)),
        };
        let slot = &mut self.slots[id.index()];
        let raced = judged.and_then(|(object, body)| {
            slot.carry(head.len as u64, object, body);
            slot.race(now, &self.rates, peers_up, shared.pool)
        });
        match raced {
            Ok(()) => {
                self.counts.bump(Counter::Raced);
                self.ask(now, id, shared);
            }
            Err(why) => self.leave(now, id, why, shared),
        }
    }

    /// Does what a race has come to; [`Decision::Taken`] once the router answers the client.
    fn advance<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) -> Decision {
        let slot = &mut self.slots[id.index()];
        if slot.state != State::Racing {
            return Decision::Forward;
        }
        let has_peer = (1..LINKS_MAX).map(LinkId::from_index).any(|link| {
            let peer = link.peer_index().and_then(|peer| shared.peers.get(peer));
            peer.is_some_and(Peer::is_up) && slot.may_use(link)
        });
        match slot.step(now, has_peer) {
            Step::Wait => Decision::Forward,
            Step::TakeOver => {
                if slot.race.acked < slot.race.cut {
                    self.rescue(now, id, shared, way);
                } else {
                    self.take_over(now, id, shared, way);
                }
                Decision::Taken
            }
            Step::Raise => {
                self.counts.bump(Counter::Raised);
                if !slot.raise(now) {
                    self.leave(now, id, Why::NoHelp, shared);
                }
                Decision::Forward
            }
            Step::Leave(why) => {
                self.leave(now, id, why, shared);
                Decision::Forward
            }
        }
    }

    fn rescue<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        self.counts.bump(Counter::Rescued);
        self.take_over(now, id, shared, way);
    }

    fn take_over<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        let slot = &mut self.slots[id.index()];
        slot.take_over(now, shared.pool, way);
        self.counts.bump(Counter::Stitched);
        defmt::info!(
            "exchange {=u8}: stitching {=u64} bytes from {=u64} on",
            id.0,
            slot.stream_len,
            slot.race.acked
        );
        slot.transmit(now, &mut self.counts, shared.pool, way);
    }

    /// Gives up to help: the origin sends the rest, and is told first what the client takes.
    fn leave(&mut self, now: Instant, id: ExchangeId, why: Why, shared: &mut Shared<'_, '_>) {
        let slot = &mut self.slots[id.index()];
        match why {
            // Something else is under way on the connection.
            Why::Interrupted | Why::Pipelined | Why::AddressChanged => slot.reply_bytes = None,
            Why::Plain(_)
            | Why::NoPeer
            | Why::TinySegments
            | Why::Late
            | Why::Line(_)
            | Why::NoRoom
            | Why::TooLate
            | Why::NoHelp
            | Why::Host(_) => {}
        }
        if slot.state == State::Racing {
            self.counts.bump(Counter::Left);
        }
        if slot.state != State::Leaving {
            self.verdicts.decline(now, &slot.held, why);
            slot.flow.verdict = Verdict::Declined(why);
        }
        // A reply that may come whole as it is needs no word.
        let fits = slot
            .reply_bytes
            .is_some_and(|bytes| u64::from(bytes) <= HANDSHAKE_WINDOW_MAX);
        if !fits {
            slot.owe_window(now);
        }
        if slot.race.tell_at.is_some() {
            slot.drop_help(now, shared.stack, shared.pool, shared.peers);
            slot.state = State::Leaving;
        } else {
            self.pass(now, id, shared);
        }
    }

    /// The flow is plain from now on, as it stands; where the reply's end is known, the next request is looked at.
    fn pass(&mut self, now: Instant, id: ExchangeId, shared: &mut Shared<'_, '_>) {
        let slot = &mut self.slots[id.index()];
        let outcome = match slot.reply_bytes {
            Some(reply_bytes) => Outcome::Answered {
                request_bytes: slot.held.len() as u32,
                reply_bytes,
            },
            None => Outcome::Passed,
        };
        let outcome = (slot.flow, outcome);
        slot.rest(now, shared.stack, shared.pool, shared.peers);
        self.push_outcome(outcome);
    }

    /// Sends the held request on as it came and leaves the flow alone for ever.
    fn release<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        why: Why,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        let slot = &mut self.slots[id.index()];
        slot.send_held(now, way);
        self.counts.bump(Counter::Released);
        self.verdicts.decline(now, &slot.held, why);
        slot.flow.verdict = Verdict::Declined(why);
        let request_bytes = slot.held.len() as u32;
        let outcome = (slot.flow, Outcome::Plain { request_bytes });
        slot.rest(now, shared.stack, shared.pool, shared.peers);
        self.push_outcome(outcome);
    }

    /// Ends an exchange whose stream is through, or cannot go on.
    fn settle<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        let slot = &mut self.slots[id.index()];
        match slot.verdict(now) {
            stitching::Verdict::GoOn => {
                if matches!(slot.state, State::Closing { .. }) {
                    // All is acknowledged: the blocks are for others. A smaller guarantee never fails.
                    let _smaller = slot.extents.guarantee(shared.pool, 0).is_ok();
                }
            }
            stitching::Verdict::Resume => {
                self.counts.bump(Counter::Completed);
                let outcome = Outcome::Resume {
                    request_bytes: slot.held.len() as u32,
                    reply_bytes: slot.stream_len as u32,
                };
                self.end(now, id, outcome, shared, way);
            }
            stitching::Verdict::Closed => {
                self.counts.bump(Counter::Completed);
                self.end(now, id, Outcome::Gone, shared, way);
            }
            stitching::Verdict::Cut => {
                defmt::warn!(
                    "exchange {=u8}: cut at {=u64}",
                    id.0,
                    slot.sender.acked_position()
                );
                self.counts.bump(Counter::Cut);
                slot.reset_client(now, way);
                self.end(now, id, Outcome::Gone, shared, way);
            }
        }
    }

    fn end<W: Way>(
        &mut self,
        now: Instant,
        id: ExchangeId,
        outcome: Outcome,
        shared: &mut Shared<'_, '_>,
        way: &mut W,
    ) {
        let slot = &mut self.slots[id.index()];
        if matches!(outcome, Outcome::Gone) && !slot.origin_gone {
            slot.reset_origin(now, way);
        }
        for link in 0..LINKS_MAX {
            let rate = slot.plan.rate(LinkId::from_index(link));
            if rate != 0 {
                self.rates[link] = rate;
            }
        }
        let help = slot.help(self.rates[LinkId::UPLINK.index()]);
        self.verdicts.accelerate(now, &slot.held, help);
        let client = slot.flow.ends.client.0;
        let address = |at: usize| shared.peers.get(at).and_then(Peer::address);
        let peers: [_; PEERS_MAX] = core::array::from_fn(address);
        self.saved.add(now, client, peers, &help);
        slot.flow.verdict = Verdict::Accelerated;
        let outcome = (slot.flow, outcome);
        slot.rest(now, shared.stack, shared.pool, shared.peers);
        self.push_outcome(outcome);
    }

    fn push_outcome(&mut self, outcome: (Flow, Outcome)) {
        // Twice the exchanges, and the caller takes them after every call.
        let _fits = self.outcomes.push(outcome).is_ok();
        debug_assert!(_fits, "an outcome was not taken");
    }

    /// Ends every exchange without a word to anybody: their flows are gone.
    pub fn forget_all(&mut self, now: Instant, shared: &mut Shared<'_, '_>) {
        for slot in self.slots.iter_mut() {
            match slot.state {
                // Of one that leaves it is said already.
                State::Free | State::Leaving => {}
                State::Listening
                | State::Racing
                | State::Collecting
                | State::Probing { .. }
                | State::Opening => {
                    self.verdicts.decline(now, &slot.held, Why::AddressChanged);
                }
                State::Stitching | State::Closing { .. } => {
                    let help = slot.help(self.rates[LinkId::UPLINK.index()]);
                    self.verdicts.accelerate(now, &slot.held, help);
                }
            }
            slot.rest(now, shared.stack, shared.pool, shared.peers);
            // Idle connections as well: they may be bound to an address that is gone.
            slot.fetch.abort(shared.stack);
        }
    }

    /// When [`Self::poll`] must run although nothing came.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.poll_at(now)).min()
    }
}

/// What exchanges share with the rest of the router.
pub struct Shared<'a, 'm> {
    /// The router's own sockets.
    pub stack: &'a mut Stack<'m>,
    /// The blocks of all streams.
    pub pool: &'a mut Pool<'m>,
    /// The neighbours.
    pub peers: &'a mut [Peer],
}
