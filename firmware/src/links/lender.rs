//! The lender's side of peer links: fetches ranges for neighbours through the own line.
//!
//! A neighbour opens one TCP session to [`PEER_PORT`]; each `Fetch` it sends becomes a request on a
//! connection of the lender's own to the named address, written new from the message's values. The
//! reply is judged here as the borrower would judge it; only body bytes of the asked range go back, in
//! `Data` messages on the session, which our own [`Endpoint`] sends (it recovers from loss on the air;
//! smoltcp as a bulk sender does not).
//!
//! What a neighbour may not have: any other port than the allowed ones, any address that is not
//! public, any address of this router's own nets (FAULTS D5). Names are never resolved, redirects
//! never followed.
//!
//! Backpressure: a session holds at most [`LENDER_STREAM_BYTES_MAX`] unacknowledged bytes; while it is full,
//! the origin's connection is not read, so its window closes.
//!
//! Budget: [`LENDINGS_MAX`] connections with two waiting requests each, [`PEERS_MAX`] sessions.

use heapless::{Deque, Vec};
use smoltcp::time::Instant;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

use crate::budget::{
    FETCH_ASKS_MAX, LENDER_CONTROL_BYTES, LENDER_DATA_BYTES_MAX, LENDER_MESSAGES_MAX,
    LENDER_STREAM_BYTES_MAX, LENDING_STALL, LENDING_WAITING_MAX, LENDINGS_MAX, PEER_PORT,
    PEERS_MAX, PORT_FULL_WAIT, REQUEST_BYTES_MAX, SEND_BURST_MAX, STITCH_BLOCK_BYTES,
};
use crate::exchange::{Outgoing, Way};
use crate::fetch::response::{ContentType, Object, PartRefused};
use crate::fetch::{self, Failure, Fetch};
use crate::settings::Accel;
use crate::stack::{SocketId, Stack};
use crate::stitch::endpoint::{Endpoint, Received};
use crate::stitch::extents::{Extents, Pool};
use crate::wire::http::{self, ByteRange};
use crate::wire::options::Summary;
use crate::wire::packet::{Tcp, flags};
use crate::wire::peer::{self, Decoder, Fetch as Asked, Message, Refusal};

crate::counter_stage! {
    /// What was lent.
    pub enum Counter {
        /// Sessions neighbours opened.
        Sessions = "sessions",
        /// Sessions that ended by a malformed or unexpected message.
        SessionsBroken = "sessions-broken",
        /// Ranges asked for.
        Asked = "asked",
        /// Ranges fetched to the last byte.
        Done = "done",
        /// Ranges refused because of their address or port.
        RefusedAddress = "refused-address",
        /// Ranges refused because of their request's values.
        RefusedRequest = "refused-request",
        /// Ranges refused because all connections are in use.
        RefusedBusy = "refused-busy",
        /// Ranges whose reply may not be joined.
        RefusedReply = "refused-reply",
        /// Ranges whose connection failed.
        FailedOrigin = "failed-origin",
        /// Body bytes sent to neighbours.
        Bytes = "bytes",
        /// Segments from addresses that are no peer.
        Strangers = "strangers",
        /// Segments sent to neighbours.
        Segments = "segments",
        /// Segments sent to neighbours again.
        SegmentsAgain = "segments-again",
    }
}

type Counts = crate::counters::Counts<Counter>;

struct Session {
    endpoint: Endpoint,
    decoder: Decoder,
    stream: Extents,
    stream_end: u64,
    is_used: bool,
    /// A message was added that the neighbour must not wait for.
    is_urgent: bool,
    /// When work is left over from the last call: messages not read, segments not sent.
    again_at: Option<Instant>,
    peer: (Ipv4Address, u16),
}

struct Waiting {
    id: u32,
    range: ByteRange,
    request: Vec<u8, REQUEST_BYTES_MAX>,
}

struct Lending {
    session: usize,
    fetch: Fetch,
    object: Option<Object>,
    /// Ids of ranges asked of the origin, oldest first.
    asked: Deque<u32, FETCH_ASKS_MAX>,
    waiting: Deque<Waiting, LENDING_WAITING_MAX>,
    progress_at: Instant,
}

/// All neighbours this router lends to.
pub struct Lender<'m> {
    sessions: &'m mut [Session],
    lendings: &'m mut [Lending],
    counts: Counts,
    boot: u32,
}

/// What a lender needs of its surroundings.
pub struct Terms<'a> {
    /// Neighbours that may borrow.
    pub peers: &'a [Option<Ipv4Address>],
    /// Which origin ports are allowed.
    pub accel: &'a Accel,
    /// Nets of the router's own interfaces.
    pub own: [Option<Ipv4Cidr>; 3],
    /// The router's own address on the air.
    pub air: Ipv4Address,
}

/// Storage of sessions and lendings; empty it costs no image bytes.
pub struct Slots {
    sessions: Vec<Session, PEERS_MAX>,
    lendings: Vec<Lending, LENDINGS_MAX>,
}

impl Slots {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            sessions: Vec::new(),
            lendings: Vec::new(),
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl<'m> Lender<'m> {
    /// Nobody is served yet; one fetch socket for each lending.
    pub fn new(slots: &'m mut Slots, sockets: &[SocketId], boot: u32) -> Self {
        slots.sessions.clear();
        slots.lendings.clear();
        // One at a time: all of them together would not fit the board's stack.
        while slots.sessions.push(Session::unused()).is_ok() {}
        for &socket in sockets {
            let _fits = slots.lendings.push(Lending::free(socket)).is_ok();
        }
        Self {
            sessions: slots.sessions.as_mut_slice(),
            lendings: slots.lendings.as_mut_slice(),
            counts: Counts::new(),
            boot,
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sessions in use and lendings under way.
    pub fn active(&self) -> (usize, usize) {
        let sessions = self
            .sessions
            .iter()
            .filter(|session| session.is_used)
            .count();
        (
            sessions,
            self.lendings
                .iter()
                .filter(|lending| lending.is_busy())
                .count(),
        )
    }

    /// Takes a TCP segment to [`PEER_PORT`] that came over the air.
    #[expect(
        clippy::too_many_arguments,
        reason = "one segment in its parts, and what serving it takes"
    )]
    pub fn on_segment<W: Way>(
        &mut self,
        now: Instant,
        from: Ipv4Address,
        tcp: &Tcp,
        options: &[u8],
        payload: &[u8],
        terms: &Terms<'_>,
        isn: u32,
        pool: &mut Pool<'_>,
        stack: &mut Stack<'_>,
        way: &mut W,
    ) {
        if !terms.peers.contains(&Some(from)) {
            self.counts.bump(Counter::Strangers);
            return;
        }
        let peer = (from, tcp.src_port);
        let at = match self
            .sessions
            .iter()
            .position(|session| session.is_used && session.peer == peer)
        {
            Some(at) => at,
            None if tcp.has(flags::SYN) && !tcp.has(flags::ACK) => {
                // One session a neighbour: a new one means that it lost the old one.
                let same = |session: &Session| session.is_used && session.peer.0 == from;
                let free = |session: &Session| !session.is_used;
                let at = self
                    .sessions
                    .iter()
                    .position(same)
                    .or_else(|| self.sessions.iter().position(free));
                let Some(at) = at else { return };
                self.end_session(at, stack, pool);
                let session = &mut self.sessions[at];
                if session
                    .stream
                    // A stream starts anywhere in a block, and control messages may go past its bound.
                    .guarantee(
                        pool,
                        LENDER_STREAM_BYTES_MAX as usize / STITCH_BLOCK_BYTES + 2,
                    )
                    .is_err()
                {
                    defmt::warn!("lender: no blocks for a session");
                    return;
                }
                session.peer = peer;
                session.is_used = true;
                session.endpoint.listen(isn);
                self.counts.bump(Counter::Sessions);
                at
            }
            None => {
                // A session from before our reset: the neighbour learns at once that it is gone.
                if !tcp.has(flags::RST) {
                    let reset = Outgoing {
                        seq: tcp.ack,
                        ack: 0,
                        flags: flags::RST,
                        window: 0,
                        options: &[],
                        payload_len: 0,
                    };
                    if way
                        .send_tcp(now, (terms.air, PEER_PORT), peer, &reset, |_| {})
                        .is_err()
                    {
                        defmt::debug!("lender: no room for a reset");
                    }
                }
                return;
            }
        };
        let received = Received {
            seq: tcp.seq,
            ack: tcp.ack,
            flags: tcp.flags,
            window: tcp.window,
            options: &Summary::of(options),
            payload,
        };
        let session = &mut self.sessions[at];
        session.endpoint.on_segment(now, &received);
        session
            .stream
            .release_to(pool, session.endpoint.acked_position());
    }

    /// Ends every session: the router's address on the air has changed or is gone.
    pub fn end_all(&mut self, stack: &mut Stack<'_>, pool: &mut Pool<'_>) {
        for at in 0..self.sessions.len() {
            if self.sessions[at].is_used {
                self.end_session(at, stack, pool);
            }
        }
    }

    /// Ends a session and everything that was fetched for it.
    fn end_session(&mut self, at: usize, stack: &mut Stack<'_>, pool: &mut Pool<'_>) {
        for lending in self
            .lendings
            .iter_mut()
            .filter(|lending| lending.session == at)
        {
            lending.stop(stack);
        }
        let session = &mut self.sessions[at];
        session.stream.clear(pool);
        session.stream = Extents::new();
        session.stream_end = 0;
        session.decoder = Decoder::new();
        session.endpoint = Endpoint::new();
        session.is_used = false;
        session.is_urgent = false;
        session.again_at = None;
    }

    /// Runs sessions and lendings: messages in, origin bytes through, segments out.
    pub fn poll<W: Way>(
        &mut self,
        now: Instant,
        terms: &Terms<'_>,
        stack: &mut Stack<'_>,
        pool: &mut Pool<'_>,
        way: &mut W,
    ) {
        for at in 0..self.sessions.len() {
            self.sessions[at].again_at = None;
            if self.sessions[at].is_used {
                self.read(now, at, terms, stack, pool);
            }
        }
        for at in 0..self.lendings.len() {
            self.pump(now, at, stack, pool);
        }
        for at in 0..self.sessions.len() {
            if !self.sessions[at].is_used {
                continue;
            }
            self.sessions[at].transmit(now, terms.air, pool, &mut self.counts, way);
            if self.sessions[at].endpoint.is_closed() {
                self.end_session(at, stack, pool);
            }
        }
    }

    /// Takes the messages a session has received.
    fn read(
        &mut self,
        now: Instant,
        at: usize,
        terms: &Terms<'_>,
        stack: &mut Stack<'_>,
        pool: &mut Pool<'_>,
    ) {
        let Self {
            sessions,
            lendings,
            counts,
            boot,
        } = self;
        let boot = *boot;
        let session = &mut sessions[at];
        if session.endpoint.is_remote_closed() {
            session.endpoint.close();
        }
        for _ in 0..LENDER_MESSAGES_MAX {
            if session.room() < LENDER_CONTROL_BYTES {
                return;
            }
            let decoder = &mut session.decoder;
            let mut answer = None;
            let mut cancelled = None;
            let mut broken = false;
            let taken = session.endpoint.recv(|input| {
                if input.is_empty() {
                    return 0;
                }
                let (consumed, event) = match decoder.next(input) {
                    Ok(step) => step,
                    Err(error) => {
                        defmt::warn!("lender: malformed message: {}", error);
                        broken = true;
                        return input.len();
                    }
                };
                match event {
                    None => {}
                    Some(peer::Event::Bytes { .. }) => broken = true,
                    Some(peer::Event::Message(message)) => match message {
                        Message::Hello { .. } => {
                            // The decoder has compared the versions and lets nothing pass before a greeting.
                            answer = Some(Message::Hello {
                                version: peer::VERSION,
                                boot,
                            });
                        }
                        Message::Ping { nonce } => answer = Some(Message::Pong { nonce }),
                        Message::Fetch(request) => {
                            counts.bump(Counter::Asked);
                            if let Err(reason) =
                                lend(now, lendings, at, &request, terms, stack, counts)
                            {
                                answer = Some(Message::Refused {
                                    id: request.id,
                                    reason,
                                });
                            }
                        }
                        Message::Cancel { id } => cancelled = Some(id),
                        Message::Start { .. }
                        | Message::Data { .. }
                        | Message::End { .. }
                        | Message::Refused { .. }
                        | Message::Pong { .. } => broken = true,
                    },
                }
                consumed
            });
            if broken {
                counts.bump(Counter::SessionsBroken);
                session.endpoint.abort();
                return;
            }
            if let Some(message) = answer {
                session.say(pool, &message);
            }
            if let Some(id) = cancelled {
                for lending in lendings.iter_mut().filter(|lending| lending.session == at) {
                    lending.cancel(id, session, stack, pool);
                }
            }
            if taken == 0 {
                return;
            }
        }
        session.again_at = Some(now);
    }

    /// Moves one lending on.
    fn pump(&mut self, now: Instant, at: usize, stack: &mut Stack<'_>, pool: &mut Pool<'_>) {
        let Self {
            sessions,
            lendings,
            counts,
            boot: _,
        } = self;
        let lending = &mut lendings[at];
        let session = &mut sessions[lending.session];
        lending.ask_waiting(now, stack);
        // Bounded by the session's room: each turn moves bytes or ends.
        loop {
            let Lending {
                fetch,
                object,
                asked,
                progress_at,
                ..
            } = lending;
            let front = asked.front().copied();
            let mut body = |offset: u64, bytes: &[u8]| {
                let Some(id) = front else { return bytes.len() };
                let taken = session.data(pool, id, offset, bytes);
                if taken > 0 {
                    *progress_at = now;
                    counts.add(Counter::Bytes, taken as u64);
                }
                taken
            };
            let Some(event) = fetch.pump(now, stack, object.as_ref(), &mut body) else {
                break;
            };
            match event {
                fetch::Event::Probe(_) => {}
                fetch::Event::Begun(granted) => {
                    lending.progress_at = now;
                    let total = lending.object.as_ref().map_or(0, |object| object.total);
                    if let Some(&id) = lending.asked.front() {
                        let ByteRange { first, last } = granted;
                        session.say(
                            pool,
                            &Message::Start {
                                id,
                                first,
                                last,
                                total,
                            },
                        );
                    }
                }
                fetch::Event::Done => {
                    counts.bump(Counter::Done);
                    if let Some(id) = lending.asked.pop_front() {
                        session.say(pool, &Message::End { id });
                    }
                    if lending.fetch.is_resting() {
                        // What was asked behind a reply that closed the connection is never answered.
                        lending.refuse_all(session, pool, Refusal::Stalled);
                    }
                    lending.ask_waiting(now, stack);
                }
                fetch::Event::Lost(failure) => {
                    let reason = refusal_of(failure);
                    counts.bump(match failure {
                        Failure::Refused(_) => Counter::RefusedReply,
                        Failure::Connect
                        | Failure::EarlyEnd
                        | Failure::Grammar
                        | Failure::Unasked => Counter::FailedOrigin,
                    });
                    lending.refuse_all(session, pool, reason);
                }
            }
        }
        // The connection may have opened just now.
        lending.ask_waiting(now, stack);
        if !lending.waits_for_origin(session) {
            // A full session is the neighbour's slowness: the origin's time starts after it.
            lending.progress_at = now;
        } else if now >= lending.progress_at + LENDING_STALL {
            counts.bump(Counter::FailedOrigin);
            lending.fetch.abort(stack);
            lending.refuse_all(session, pool, Refusal::Stalled);
        }
    }

    /// When [`Self::poll`] must run although nothing came.
    pub fn poll_at(&self) -> Option<Instant> {
        let sessions = self
            .sessions
            .iter()
            .filter(|session| session.is_used)
            .flat_map(|session| [session.endpoint.poll_at(), session.again_at])
            .flatten();
        let lendings = self
            .lendings
            .iter()
            .filter(|lending| lending.waits_for_origin(&self.sessions[lending.session]))
            .map(|lending| lending.progress_at + LENDING_STALL);
        let fetches = self
            .lendings
            .iter()
            .filter_map(|lending| lending.fetch.poll_at());
        sessions.chain(lendings).chain(fetches).min()
    }
}

/// Takes a neighbour's request onto a connection.
fn lend(
    now: Instant,
    lendings: &mut [Lending],
    session: usize,
    asked: &Asked<'_>,
    terms: &Terms<'_>,
    stack: &mut Stack<'_>,
    counts: &mut Counts,
) -> Result<(), Refusal> {
    let address = Ipv4Address::from(asked.address);
    if !may_fetch_from(address, asked.port, terms) {
        counts.bump(Counter::RefusedAddress);
        return Err(Refusal::Address);
    }
    let values = asked.request();
    let validator = asked.validator().ok();
    let (Ok(()), Some(validator), Some(range)) =
        (values.check(asked.port), validator, asked.range())
    else {
        counts.bump(Counter::RefusedRequest);
        return Err(Refusal::Request);
    };
    let content_type = asked
        .content_type
        .and_then(|kind| ContentType::from_slice(kind).ok());
    let object = Object {
        total: asked.total,
        validator,
        content_type,
    };
    let mut waiting = Waiting {
        id: asked.id,
        range,
        request: Vec::new(),
    };
    let mut bytes = [0; REQUEST_BYTES_MAX];
    let len =
        http::write_peer_get(&mut bytes, &values, range, None).map_err(|_| Refusal::Request)?;
    waiting
        .request
        .extend_from_slice(&bytes[..len])
        .map_err(|_| Refusal::Request)?;

    let remote = (address, asked.port);
    let same = |lending: &Lending| {
        lending.session == session
            && !lending.fetch.is_idle()
            && lending.fetch.remote() == remote
            && lending.object.as_ref() == Some(&object)
            && !lending.waiting.is_full()
    };
    let free = |lending: &Lending| !lending.is_busy();
    let at = lendings
        .iter()
        .position(same)
        .or_else(|| lendings.iter().position(free));
    let Some(at) = at else {
        counts.bump(Counter::RefusedBusy);
        return Err(Refusal::Busy);
    };
    let lending = &mut lendings[at];
    if !lending.is_busy() {
        lending.session = session;
        lending.object = Some(object);
        lending.progress_at = now;
        lending.fetch.open(now, stack, remote);
    }
    lending
        .waiting
        .push_back(waiting)
        .map_err(|_| Refusal::Busy)?;
    lending.ask_waiting(now, stack);
    Ok(())
}

/// What a neighbour is told of a connection that failed.
pub(super) fn refusal_of(failure: Failure) -> Refusal {
    match failure {
        Failure::Connect => Refusal::Unreachable,
        Failure::EarlyEnd => Refusal::Closed,
        Failure::Grammar | Failure::Unasked => Refusal::Malformed,
        Failure::Refused(PartRefused::RangeIgnored) => Refusal::RangeIgnored,
        Failure::Refused(PartRefused::Redirected) => Refusal::Redirected,
        Failure::Refused(PartRefused::Denied) => Refusal::Denied,
        Failure::Refused(_) => Refusal::NotThePart,
    }
}

/// Whether a neighbour may have this router connect there, or lead its own segments there (FAULTS D5).
pub(crate) fn may_fetch_from(address: Ipv4Address, port: u16, terms: &Terms<'_>) -> bool {
    const REFUSED: [(Ipv4Address, u8); 11] = [
        (Ipv4Address::new(0, 0, 0, 0), 8),
        (Ipv4Address::new(10, 0, 0, 0), 8),
        (Ipv4Address::new(100, 64, 0, 0), 10),
        (Ipv4Address::new(127, 0, 0, 0), 8),
        (Ipv4Address::new(169, 254, 0, 0), 16),
        (Ipv4Address::new(172, 16, 0, 0), 12),
        (Ipv4Address::new(192, 0, 0, 0), 24),
        (Ipv4Address::new(192, 168, 0, 0), 16),
        (Ipv4Address::new(198, 18, 0, 0), 15),
        (Ipv4Address::new(224, 0, 0, 0), 4),
        (Ipv4Address::new(240, 0, 0, 0), 4),
    ];
    let is_refused = REFUSED
        .iter()
        .any(|&(net, prefix)| Ipv4Cidr::new(net, prefix).contains_addr(&address));
    let is_own = terms
        .own
        .iter()
        .flatten()
        .any(|cidr| cidr.contains_addr(&address));
    !is_refused && !is_own && terms.accel.has_port(port)
}

impl Lending {
    fn free(socket: SocketId) -> Self {
        Self {
            session: 0,
            fetch: Fetch::new(socket),
            object: None,
            asked: Deque::new(),
            waiting: Deque::new(),
            progress_at: Instant::ZERO,
        }
    }

    /// The origin is what it waits for: a full session is the neighbour's slowness.
    fn waits_for_origin(&self, session: &Session) -> bool {
        self.is_busy() && session.room() >= LENDER_CONTROL_BYTES * 2
    }

    fn is_busy(&self) -> bool {
        !self.asked.is_empty() || !self.waiting.is_empty()
    }

    fn ask_waiting(&mut self, now: Instant, stack: &mut Stack<'_>) {
        while let Some(first) = self.waiting.front() {
            if !self.fetch.can_ask(stack, first.request.len()) {
                return;
            }
            let asked = self
                .fetch
                .ask_range(now, stack, &first.request, first.range)
                .is_ok();
            if !asked || self.asked.push_back(first.id).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn refuse_all(&mut self, session: &mut Session, pool: &mut Pool<'_>, reason: Refusal) {
        while let Some(id) = self.asked.pop_front() {
            session.say(pool, &Message::Refused { id, reason });
        }
        while let Some(waiting) = self.waiting.pop_front() {
            session.say(
                pool,
                &Message::Refused {
                    id: waiting.id,
                    reason,
                },
            );
        }
        self.object = None;
    }

    /// Drops one range. What else was asked on its connection goes with it, and its asker is told.
    fn cancel(
        &mut self,
        id: u32,
        session: &mut Session,
        stack: &mut Stack<'_>,
        pool: &mut Pool<'_>,
    ) {
        for _ in 0..self.waiting.len() {
            let Some(one) = self.waiting.pop_front() else {
                break;
            };
            if one.id != id && self.waiting.push_back(one).is_err() {
                unreachable!("one was taken out");
            }
        }
        if !self.asked.iter().any(|&asked| asked == id) {
            return;
        }
        self.fetch.abort(stack);
        let mut others = core::mem::take(&mut self.asked);
        while let Some(other) = others.pop_front() {
            if other != id {
                session.say(
                    pool,
                    &Message::Refused {
                        id: other,
                        reason: Refusal::Closed,
                    },
                );
            }
        }
        self.refuse_all(session, pool, Refusal::Closed);
    }

    fn stop(&mut self, stack: &mut Stack<'_>) {
        if self.is_busy() {
            self.fetch.abort(stack);
        }
        self.asked.clear();
        self.waiting.clear();
        self.object = None;
    }
}

impl Session {
    fn unused() -> Self {
        Self {
            endpoint: Endpoint::new(),
            decoder: Decoder::new(),
            stream: Extents::new(),
            stream_end: 0,
            is_used: false,
            is_urgent: false,
            again_at: None,
            peer: (Ipv4Address::UNSPECIFIED, 0),
        }
    }

    /// Bytes that may still be added to the stream.
    fn room(&self) -> u64 {
        LENDER_STREAM_BYTES_MAX.saturating_sub(self.stream_end - self.stream.base())
    }

    /// Adds a message to the stream.
    fn say(&mut self, pool: &mut Pool<'_>, message: &Message<'_>) {
        let mut bytes = [0; 128];
        let Ok(len) = peer::encode(message, &mut bytes) else {
            return;
        };
        self.append(pool, &bytes[..len]);
        self.is_urgent = true;
    }

    /// Adds body bytes to the stream; returns how many were taken.
    fn data(&mut self, pool: &mut Pool<'_>, id: u32, offset: u64, bytes: &[u8]) -> usize {
        let room = self.room().saturating_sub(LENDER_CONTROL_BYTES);
        let len = bytes
            .len()
            .min(LENDER_DATA_BYTES_MAX)
            .min(usize::try_from(room).unwrap_or(0));
        if len == 0 {
            return 0;
        }
        let mut header = [0; 64];
        let Ok(header_len) = peer::encode(
            &Message::Data {
                id,
                offset,
                len: len as u16,
            },
            &mut header,
        ) else {
            return 0;
        };
        self.append(pool, &header[..header_len]);
        self.append(pool, &bytes[..len]);
        len
    }

    fn append(&mut self, pool: &mut Pool<'_>, bytes: &[u8]) {
        match self.stream.write(pool, self.stream_end, bytes) {
            Ok(_) => self.stream_end += bytes.len() as u64,
            Err(_) => {
                // The guarantee covers the room that was checked; a hole must never be sent.
                defmt::error!("lender: the session's blocks are gone");
                self.endpoint.abort();
            }
        }
    }

    fn transmit<W: Way>(
        &mut self,
        now: Instant,
        air: Ipv4Address,
        pool: &mut Pool<'_>,
        counts: &mut Counts,
        way: &mut W,
    ) {
        self.endpoint.set_available(self.stream_end);
        if core::mem::take(&mut self.is_urgent) {
            self.endpoint.flush();
        }
        for _ in 0..SEND_BURST_MAX {
            if way.room(self.peer.0) == 0 {
                self.again_at = Some(now + PORT_FULL_WAIT);
                return;
            }
            let Some(segment) = self.endpoint.poll_transmit(now) else {
                return;
            };
            counts.bump(Counter::Segments);
            if segment.is_again {
                counts.bump(Counter::SegmentsAgain);
            }
            let outgoing = Outgoing {
                seq: segment.seq,
                ack: segment.ack,
                flags: segment.flags,
                window: segment.window,
                options: segment.options.as_bytes(),
                payload_len: usize::from(segment.len),
            };
            let (stream, pool) = (&self.stream, &*pool);
            let sent = way.send_tcp(now, (air, PEER_PORT), self.peer, &outgoing, |payload| {
                let filled = stream.read(pool, segment.position, payload);
                debug_assert_eq!(filled, payload.len());
            });
            if sent.is_err() {
                self.again_at = Some(now + PORT_FULL_WAIT);
                return;
            }
        }
        self.again_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(address: [u8; 4], port: u16) -> bool {
        let accel = Accel::new();
        let own = Ipv4Cidr::new(Ipv4Address::new(203, 0, 113, 66), 26);
        let terms = Terms {
            peers: &[],
            accel: &accel,
            own: [None, Some(own), None],
            air: Ipv4Address::new(10, 77, 0, 2),
        };
        may_fetch_from(Ipv4Address::from(address), port, &terms)
    }

    #[test]
    fn m10_each_refused_range_is_refused_at_its_first_and_last_address() {
        for (first, last) in [
            ([0, 0, 0, 0], [0, 255, 255, 255]),
            ([10, 0, 0, 0], [10, 255, 255, 255]),
            ([100, 64, 0, 0], [100, 127, 255, 255]),
            ([127, 0, 0, 0], [127, 255, 255, 255]),
            ([169, 254, 0, 0], [169, 254, 255, 255]),
            ([172, 16, 0, 0], [172, 31, 255, 255]),
            ([192, 0, 0, 0], [192, 0, 0, 255]),
            ([192, 168, 0, 0], [192, 168, 255, 255]),
            ([198, 18, 0, 0], [198, 19, 255, 255]),
            ([224, 0, 0, 0], [239, 255, 255, 255]),
            ([240, 0, 0, 0], [255, 255, 255, 255]),
            ([203, 0, 113, 64], [203, 0, 113, 127]),
        ] {
            assert!(!may(first, 80), "{first:?}");
            assert!(!may(last, 80), "{last:?}");
        }
        assert!(may([198, 51, 100, 10], 80));
        assert!(may([172, 32, 0, 0], 80));
        assert!(may([203, 0, 113, 63], 80));
    }

    #[test]
    fn m10_ports_that_are_not_allowed_are_refused() {
        for port in [22, 25, 445, 0, 8080] {
            assert!(!may([198, 51, 100, 10], port), "{port}");
        }
    }
}
