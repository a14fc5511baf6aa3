//! One exchange: its data, and what happens to it until the router answers the client.

use heapless::Vec;
use smoltcp::time::Instant;

use super::flow::{self, ClientSegment, Flow};
use super::hosts::{Habit, Key};
use super::racing::Race;
use super::{Counter, ExchangeId, Why};
use crate::budget::{
    EXCHANGE_HOLD_MAX, HEDGE_BYTES, HEDGE_SHARE, LINK_FAILURES_MAX, LINK_PAUSE, OWN_FAULTS_MAX,
    REPLY_HEAD_BYTES_MAX, REQUEST_BYTES_MAX, REQUEST_HEAD_BYTES_MAX, STITCH_BLOCK_BYTES,
};
use crate::classify;
use crate::counters::Counts;
use crate::fetch::Fetch;
use crate::fetch::response::{Object, ReplyHead};
use crate::links::peer::{Peer, Wanted};
use crate::links::{LINKS_MAX, LinkId};
use crate::port::Full;
use crate::settings::Accel;
use crate::split::Plan;
use crate::stack::{SocketId, Stack};
use crate::stitch::extents::{Extents, Pool};
use crate::stitch::sender::Sender;
use crate::wire::http::{self, PeerRequest, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// The request, then the head of its reply, is read as it passes.
    Listening,
    /// The reply passes while links fetch its end.
    Racing,
    /// Plain as soon as the origin knows the client's window.
    Leaving,
    Collecting,
    Probing {
        is_asked: bool,
    },
    Opening,
    Stitching,
    Closing {
        since: Instant,
    },
}

/// One exchange.
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    pub(super) state: State,
    pub(super) flow: Flow,
    pub(super) held_at: Instant,
    /// The client's request bytes, not acknowledged before `Stitching`.
    pub(super) held: Vec<u8, REQUEST_HEAD_BYTES_MAX>,
    pub(super) request: Option<Request>,
    pub(super) fetch: Fetch,
    pub(super) object: Option<Object>,
    /// Bytes of the response head in the stream.
    pub(super) head_len: u64,
    pub(super) plan: Plan,
    pub(super) window_blocks: usize,
    pub(super) extents: Extents,
    pub(super) sender: Sender,
    /// Stream length, response head included.
    pub(super) stream_len: u64,
    pub(super) failures: [u8; LINKS_MAX],
    pub(super) paused_until: [Instant; LINKS_MAX],
    /// Refusals and breaks of the own line since its last byte.
    pub(super) own_faults: u8,
    /// No link is left that could bring what is missing.
    pub(super) is_hopeless: bool,
    pub(super) bytes: [u64; LINKS_MAX],
    /// Bytes that came twice.
    pub(super) duplicates: u64,
    /// What was seen of the origin that makes help useless.
    pub(super) barred_by: Option<Habit>,
    pub(super) progress_at: Instant,
    /// The reply, or the client's request, says that the connection ends with this response.
    pub(super) closes: bool,
    pub(super) client_fin: bool,
    pub(super) origin_gone: bool,
    pub(super) race: Race,
    /// Length of the reply that passes, once its head has told it without doubt.
    pub(super) reply_bytes: Option<u32>,
    /// First offset of the object that the stream carries; 0 but for a client's own range.
    pub(super) body_first: u64,
    /// The client is owed an ACK of its own bytes.
    pub(super) owes_ack: bool,
    /// The own line brought other bytes than those held: what is held is not the origin's.
    pub(super) is_doubtful: bool,
    /// When more is to be sent than the last call could.
    pub(super) again_at: Option<Instant>,
}

impl Exchange {
    pub(super) fn free(id: ExchangeId, socket: SocketId) -> Self {
        let flow = Flow::none();
        Self {
            id,
            state: State::Free,
            flow,
            held_at: Instant::ZERO,
            held: Vec::new(),
            request: None,
            fetch: Fetch::new(socket),
            object: None,
            head_len: 0,
            plan: Plan::new(Instant::ZERO, 0, 0),
            window_blocks: 0,
            extents: Extents::new(),
            sender: flow.sender(Instant::ZERO),
            stream_len: 0,
            failures: [0; LINKS_MAX],
            own_faults: 0,
            is_hopeless: false,
            paused_until: [Instant::ZERO; LINKS_MAX],
            bytes: [0; LINKS_MAX],
            duplicates: 0,
            barred_by: None,
            progress_at: Instant::ZERO,
            closes: false,
            client_fin: false,
            origin_gone: false,
            race: Race::none(),
            reply_bytes: None,
            body_first: 0,
            owes_ack: false,
            is_doubtful: false,
            again_at: None,
        }
    }

    pub(super) fn begin(&mut self, now: Instant, flow: Flow, window_blocks: usize) {
        self.state = State::Collecting;
        self.flow = flow;
        self.held_at = now;
        self.held.clear();
        self.request = None;
        self.object = None;
        self.head_len = 0;
        self.plan = Plan::new(now, 0, 0);
        self.window_blocks = window_blocks;
        self.stream_len = 0;
        self.failures = [0; LINKS_MAX];
        self.own_faults = 0;
        self.is_hopeless = false;
        self.paused_until = [now; LINKS_MAX];
        self.bytes = [0; LINKS_MAX];
        self.duplicates = 0;
        self.barred_by = None;
        self.progress_at = now;
        self.closes = false;
        self.client_fin = false;
        self.origin_gone = false;
        self.race = Race::none();
        self.reply_bytes = None;
        self.body_first = 0;
        self.owes_ack = false;
        self.is_doubtful = false;
        self.again_at = None;
    }

    /// Back to rest: blocks freed, peers told, the own connection kept for the next request if it is clean.
    pub(super) fn rest(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        pool: &mut Pool<'_>,
        peers: &mut [Peer],
    ) {
        if self.state == State::Free {
            return;
        }
        self.state = State::Free;
        self.drop_help(now, stack, pool, peers);
    }

    /// Frees the blocks, tells peers, and keeps the own connection if it is clean.
    pub(super) fn drop_help(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        pool: &mut Pool<'_>,
        peers: &mut [Peer],
    ) {
        self.request = None;
        self.object = None;
        self.extents.clear(pool);
        self.extents = Extents::new();
        self.plan = Plan::new(now, 0, 0);
        if !self.fetch.is_resting() {
            self.fetch.abort(stack);
        }
        for peer in peers {
            peer.cancel(stack, self.id);
        }
    }

    /// Adds request bytes; sets `request` once the head is whole and wanted.
    pub(super) fn collect(&mut self, payload: &[u8], accel: &Accel) -> Result<(), Why> {
        if self.held.extend_from_slice(payload).is_err() {
            return Err(Why::Interrupted);
        }
        match classify::classify(&self.held, accel, self.flow.ends.origin.1) {
            classify::Outcome::More => Ok(()),
            classify::Outcome::Plain(reason) => Err(Why::Plain(reason)),
            // The setting changed while the head came: what is held is asked by HEAD, which knows no ranges.
            classify::Outcome::Candidate(request)
                if request.range.is_some() && self.state == State::Collecting =>
            {
                Err(Why::Plain(classify::Reason::Range))
            }
            classify::Outcome::Candidate(request) => {
                self.closes = request.close;
                self.request = Some(request);
                Ok(())
            }
        }
    }

    /// A client segment while nothing is acknowledged yet.
    pub(super) fn hold(&mut self, segment: &ClientSegment<'_>, accel: &Accel) -> Result<(), Why> {
        if segment.rst || segment.syn || segment.fin || segment.urg {
            return Err(Why::Interrupted);
        }
        self.flow.window = segment.window;
        if segment.payload.is_empty() {
            return Ok(());
        }
        let next = self.flow.request_seq.wrapping_add(self.held.len() as u32);
        let ahead = segment.seq.wrapping_sub(next) as i32;
        if ahead == 0 && self.state == State::Collecting {
            return self.collect(segment.payload, accel);
        }
        // A retransmission of what is held changes nothing; anything else is not worth a guess (FAULTS G7).
        let end = segment.seq.wrapping_add(segment.payload.len() as u32);
        let is_again = (end.wrapping_sub(next) as i32) <= 0
            && (segment.seq.wrapping_sub(self.flow.request_seq) as i32) >= 0
            && {
                let from = segment.seq.wrapping_sub(self.flow.request_seq) as usize;
                self.held.get(from..from + segment.payload.len()) == Some(segment.payload)
            };
        if is_again {
            Ok(())
        } else {
            Err(Why::Interrupted)
        }
    }

    /// A client segment that passes: nothing is held, and anything odd ends the reading.
    pub(super) fn hear_client(
        &mut self,
        now: Instant,
        segment: &ClientSegment<'_>,
        accel: &Accel,
        pool: &mut Pool<'_>,
    ) -> Result<(), Why> {
        if self.state != State::Leaving && !segment.payload.is_empty() && !segment.rst {
            let from = segment.seq.wrapping_sub(self.flow.request_seq) as usize;
            let known = self
                .held
                .get(from..from.saturating_add(segment.payload.len()));
            let is_next = from == self.held.len() && self.request.is_none();
            if segment.urg || segment.syn || (segment.fin && self.request.is_none()) {
                return Err(Why::Interrupted);
            }
            if is_next {
                self.collect(segment.payload, accel)?;
                self.listen(now);
            } else if known != Some(segment.payload) && from < self.held.len() {
                // Other bytes than those that were judged (FAULTS G7).
                return Err(Why::Interrupted);
            } else if from > self.held.len() && self.request.is_none() {
                return Err(Why::Interrupted);
            }
        }
        self.on_racing_client(now, segment, pool)
    }

    pub(super) fn probe(&mut self, now: Instant, stack: &mut Stack<'_>) {
        self.fetch.open(now, stack, self.flow.ends.origin);
        self.state = State::Probing { is_asked: false };
        self.try_probe(now, stack);
    }

    pub(super) fn try_probe(&mut self, now: Instant, stack: &mut Stack<'_>) {
        let State::Probing { is_asked: false } = self.state else {
            return;
        };
        let Some(request) = self.request else { return };
        if !self.fetch.can_ask(stack, REQUEST_BYTES_MAX) {
            return;
        }
        let mut bytes = [0; REQUEST_BYTES_MAX];
        if let Ok(len) = http::write_head(&mut bytes, &request, &self.held)
            && self.fetch.ask_head(now, stack, &bytes[..len]).is_ok()
        {
            self.state = State::Probing { is_asked: true };
        }
        // Not asked: the hold's bound ends it.
    }

    /// The probe fits: the response head goes to the front of the stream, ranges may be asked.
    pub(super) fn open(
        &mut self,
        now: Instant,
        object: Object,
        head: &ReplyHead,
        pool: &mut Pool<'_>,
    ) -> Result<(), Full> {
        let mut bytes: Vec<u8, { REPLY_HEAD_BYTES_MAX + 64 }> = Vec::new();
        flow::client_head(self.fetch.head_bytes(), self.closes, &mut bytes).map_err(|_| Full)?;
        self.closes |= head.close;
        self.head_len = bytes.len() as u64;
        self.stream_len = self.head_len + object.total;
        self.plan = Plan::new(now, 0, object.total);
        self.object = Some(object);
        match self.extents.write(pool, 0, &bytes) {
            Ok(_) => {}
            Err(_full) => return Err(Full),
        }
        self.state = State::Opening;
        Ok(())
    }

    /// The stream is a head of so many bytes and then `body` of `object`.
    pub(super) fn carry(&mut self, head_len: u64, object: Object, body: http::ByteRange) {
        debug_assert!(body.last < object.total);
        self.head_len = head_len;
        self.body_first = body.first;
        self.stream_len = head_len + body.len_bytes();
        self.object = Some(object);
    }

    pub(super) fn wanted<'a>(
        &'a self,
        id: ExchangeId,
        range: http::ByteRange,
        request: &Request,
    ) -> Option<Wanted<'a>> {
        let object = self.object.as_ref()?;
        let values = PeerRequest::of(request, &self.held);
        let message = crate::wire::peer::Fetch {
            id: 0,
            address: self.flow.ends.origin.0.octets(),
            port: self.flow.ends.origin.1,
            host: values.host,
            target: values.target,
            accept: values.accept,
            accept_encoding: values.accept_encoding,
            user_agent: values.user_agent,
            first: range.first,
            last: range.last,
            total: object.total,
            validator_kind: object.validator.kind(),
            validator: object.validator.bytes(),
            content_type: object.content_type.as_ref().map(|kind| kind.as_slice()),
        };
        Some(Wanted {
            exchange: id,
            range,
            message,
        })
    }

    /// An own line that is silent is never given up: as long as it may fetch, the client must not see an
    /// early end. One whose origin breaks off or refuses, again and again without a byte, is.
    pub(super) fn may_use(&self, link: LinkId) -> bool {
        match link.peer_index() {
            None => self.own_faults < OWN_FAULTS_MAX,
            Some(_) => self.failures[link.index()] < LINK_FAILURES_MAX,
        }
    }

    pub(super) fn on_link_failed(
        &mut self,
        now: Instant,
        link: LinkId,
        counts: &mut Counts<Counter>,
    ) {
        if self.plan.current(link).is_none() && link != LinkId::UPLINK {
            return;
        }
        counts.bump(Counter::RangesLost);
        self.plan.on_failed(link);
        self.failures[link.index()] = self.failures[link.index()].saturating_add(1);
        let times = u32::from(self.failures[link.index()].min(8));
        self.paused_until[link.index()] = now + LINK_PAUSE * times;
    }

    /// Takes body bytes of a peer; `false` when the peer must not go on.
    pub(super) fn on_body(
        &mut self,
        now: Instant,
        link: LinkId,
        offset: u64,
        bytes: &[u8],
        pool: &mut Pool<'_>,
        counts: &mut Counts<Counter>,
    ) -> bool {
        if matches!(
            self.state,
            State::Free
                | State::Listening
                | State::Leaving
                | State::Collecting
                | State::Probing { .. }
        ) {
            return true;
        }
        let position = self.position_of(offset);
        match self.extents.write(pool, position, bytes) {
            Ok(written) => {
                counts.add(Counter::BytesPeers, bytes.len() as u64);
                counts.add(Counter::BytesDuplicate, written.duplicate as u64);
                self.duplicates += written.duplicate as u64;
                if written.conflict {
                    // The bytes held stay; what this peer brought is not counted as arrived, and it
                    // is not asked again (FAULTS M1).
                    counts.bump(Counter::BytesConflict);
                    defmt::warn!("{} brought other bytes than another link", link);
                    self.failures[link.index()] = LINK_FAILURES_MAX;
                    return false;
                }
                self.plan.on_bytes(now, link, offset, bytes.len() as u64);
                self.bytes[link.index()] += bytes.len() as u64;
                self.failures[link.index()] = 0;
                self.progress_at = now;
                true
            }
            Err(_full) => false,
        }
    }

    /// First offset that may not be asked for: the guaranteed window's end.
    pub(super) fn plan_limit(&self) -> u64 {
        let block = STITCH_BLOCK_BYTES as u64;
        let window_end = (self.extents.base() / block + self.window_blocks as u64) * block;
        self.offset_of(window_end.max(self.head_len))
    }

    /// The origin host, once the request is whole.
    pub(super) fn host(&self) -> Option<Key> {
        let request = self.request.as_ref()?;
        Some(Key::new(self.flow.ends.origin, request.host.of(&self.held)))
    }

    /// The first byte of the object that is missing where the stream goes on, or will behind the cut of a race.
    pub(super) fn waited_for(&self) -> u64 {
        let missing = match self.state {
            State::Racing => self.extents.first_gap(self.race.cut).0,
            State::Free
            | State::Listening
            | State::Leaving
            | State::Collecting
            | State::Probing { .. }
            | State::Opening
            | State::Stitching
            | State::Closing { .. } => self.extents.contiguous_end(),
        };
        self.offset_of(missing.max(self.head_len))
    }

    /// Whether what a late link was asked for may be asked of another: not without end.
    pub(super) fn may_hedge(&self) -> bool {
        self.duplicates < HEDGE_BYTES + self.stream_len / HEDGE_SHARE
    }

    /// Where a byte of the object stands in the stream.
    pub(super) fn position_of(&self, offset: u64) -> u64 {
        self.head_len + (offset - self.body_first)
    }

    /// What byte of the object stands at a position behind the head.
    pub(super) fn offset_of(&self, position: u64) -> u64 {
        self.body_first + (position - self.head_len)
    }

    /// First offset of the object behind what the stream carries.
    pub(super) fn body_end(&self) -> u64 {
        self.offset_of(self.stream_len)
    }

    pub(super) fn poll_at(&self, now: Instant) -> Option<Instant> {
        // While a head is overheard the own connection rests untouched, its deadlines too.
        let fetch = match self.state == State::Listening {
            true => None,
            false => self.fetch.poll_at(),
        };
        let own = match self.state {
            State::Free => None,
            State::Listening | State::Racing | State::Leaving => self.racing_poll_at(now),
            State::Collecting | State::Probing { .. } | State::Opening => {
                Some(self.held_at + EXCHANGE_HOLD_MAX)
            }
            State::Stitching | State::Closing { .. } => self.stitching_poll_at(now),
        };
        let plan = match self.state {
            State::Opening | State::Racing | State::Stitching => {
                let stalled = self.plan.poll_at();
                [stalled, self.plan.late_at(now)]
                    .into_iter()
                    .flatten()
                    .min()
            }
            State::Free
            | State::Listening
            | State::Leaving
            | State::Collecting
            | State::Probing { .. }
            | State::Closing { .. } => None,
        };
        [fetch, own, plan].into_iter().flatten().min()
    }
}
