//! DNS relay: the LAN asks the router, the router asks the line's resolvers and remembers for a while.
//!
//! ```text
//! LAN, UDP 53 → a local name? → held in the cache? → asked already? → resolver 1, 2 s, resolver 2, …
//!                 answer          answer               wait for it       answer, or failure after 10 s
//! ```
//!
//! Follows: RFC 1035 (messages), RFC 5452 (against forged answers), RFC 2308 (there is none), RFC 5625
//! (how a relay in a router behaves), RFC 6891 (EDNS).
//! Units: bytes and [`Instant`]s.
//!
//! What is relayed is the message, not what is understood of it: unknown types, classes, operations and
//! options pass. Of a question the relay changes the id, the port, and the size it announces
//! ([`DNS_UDP_BYTES`], so that no answer comes in fragments). An answer is believed when it comes
//! from the resolver asked, to the port it was asked from (drawn anew each time), with the id
//! (likewise) and the question; what then is in it is the resolver's word and passes as it is,
//! private addresses too. An answer longer than its client takes is cut to the question, with TC:
//! the client comes again by TCP, which the router hands on to a resolver.
//!
//! Only hosts of the LAN are answered. One host has at most [`DNS_PENDING_PER_HOST`] questions on
//! their way, and loses the oldest to a host that has fewer when all places are taken.
//!
//! Calling order: [`Relay::on_datagram`] for datagrams of the LAN to port 53 of the router and for those of
//! the WAN to a port that [`Relay::owns_port`]; [`Relay::poll`] when [`Relay::poll_at`] has come;
//! [`Relay::forget`] when the line is another one.
//!
//! Budget: one [`Relay`], see [`cache`] and [`pending`].
//!
//! Not done: TCP (the router's NAT), DNSSEC validation (clients may, with CD), TSIG over EDNS (its
//! signature does not survive the changed size).

mod cache;
mod local;
mod message;
mod pending;

use smoltcp::time::Instant;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

use crate::budget::{
    DNS_FULL_RETRY, DNS_GIVE_UP, DNS_QUERY_BYTES_MAX, DNS_RETRY, DNS_UDP_BYTES, UDP_PAYLOAD_MAX,
    WAN_DNS_MAX,
};
use crate::counters::Counts;
use crate::port::{Full, Port};
use crate::random::Random;
use crate::udp::{Datagram, Outgoing, SendUdp};
use cache::Cache;
use message::{
    Contents, Edns, Header, Options, Plain, Question, flags, is_same_question, question_bytes,
    rcode, set_word,
};
use pending::{Pending, Refused, Table, Waiter};

/// UDP port of resolvers, and of the relay on the LAN.
pub const PORT: u16 = 53;
/// The longest answer to a client without EDNS, bytes (RFC 1035 section 2.3.4).
const PLAIN_BYTES: u16 = 512;

crate::counter_stage! {
    /// What became of questions and answers.
    pub enum Counter {
        /// Questions of the LAN.
        Asked = "asked",
        /// Answered from the names of this house.
        Local = "local",
        /// Answered from the cache.
        Hit = "hit",
        /// Answered by the same answer as an earlier question.
        Joined = "joined",
        /// Questions sent to a resolver, repeated ones too.
        Sent = "sent",
        /// Questions sent again, to the next resolver.
        Repeated = "repeated",
        /// Answers of resolvers taken.
        Answered = "answered",
        /// Answers kept.
        Kept = "kept",
        /// Answers cut because the client takes no longer ones.
        Cut = "cut",
        /// Questions without an answer in time.
        GivenUp = "given-up",
        /// Questions while no resolver was known.
        NoResolver = "no-resolver",
        /// Questions above a host's share.
        Share = "share",
        /// Questions that lost their place to a host with fewer.
        Displaced = "displaced",
        /// Questions for whose answer too many wait.
        Waiters = "waiters",
        /// Questions longer than can be kept.
        TooLong = "too-long",
        /// Questions that are none.
        Malformed = "malformed",
        /// Questions not from the LAN's net.
        Stranger = "stranger",
        /// Answers to a port where nothing waits.
        Stray = "stray",
        /// Answers with another sender, id or question than what waits there: forged, or late.
        Forged = "forged",
        /// Answers that are not whole.
        Broken = "broken",
        /// Datagrams that found no free slot or no way.
        NoRoom = "no-room",
    }
}

/// What the relay must know of the rest of the router.
pub struct Around<'a> {
    /// The router's address and net on the LAN.
    pub lan: Ipv4Cidr,
    /// The router's address on the WAN.
    pub wan: Option<Ipv4Address>,
    /// Resolvers, the first is asked first.
    pub resolvers: [Option<Ipv4Address>; WAN_DNS_MAX],
    /// The address of a host of the LAN by its name, which is given in small letters and without suffix.
    pub hosts: &'a dyn Fn(&[u8]) -> Option<Ipv4Address>,
    /// Draws ids and ports.
    pub random: &'a mut Random,
}

/// A question as read.
struct Query {
    header: Header,
    question: Question,
    edns: Option<Edns>,
}

impl Query {
    fn parse(message: &[u8]) -> Option<Self> {
        let header = Header::parse(message)?;
        if header.questions != 1 {
            return None;
        }
        let question = Question::parse(message)?;
        let contents = Contents::read(message, &header, &question).ok()?;
        Some(Self {
            header,
            question,
            edns: contents.edns,
        })
    }

    /// Whether others who ask the same may have the answer.
    fn is_shared(&self) -> bool {
        self.edns
            .is_none_or(|edns| edns.options != Options::Own && !edns.is_extended)
    }

    /// Whether its bytes say all: no option that is this client's only.
    fn is_bare(&self) -> bool {
        self.edns
            .is_none_or(|edns| edns.options == Options::None && !edns.is_extended)
    }

    /// The longest answer that the client takes, bytes.
    fn limit(&self) -> u16 {
        let size = self.edns.map_or(PLAIN_BYTES, |edns| edns.size);
        size.min(UDP_PAYLOAD_MAX)
    }

    /// What an OPT record of ours says.
    fn opt(&self) -> Option<(u16, bool)> {
        self.edns.map(|edns| (DNS_UDP_BYTES, edns.wants_dnssec))
    }
}

/// The relay.
pub struct Relay {
    cache: Cache,
    pending: Table,
    counts: Counts<Counter, 24>,
}

impl Relay {
    /// Nothing known, nothing asked; all zero, so that a static of it costs no image bytes.
    pub const fn new() -> Self {
        Self {
            cache: Cache::new(),
            pending: Table::new(),
            counts: Counts::new(),
        }
    }

    /// Takes a datagram of the LAN to [`PORT`], or one of the WAN to a port of the relay's.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        out: &mut dyn SendUdp,
        around: &mut Around<'_>,
    ) {
        match datagram.port {
            Port::Lan => self.on_question(now, datagram, out, around),
            Port::Wan => self.on_answer(now, datagram, out, around),
            Port::Air => self.counts.bump(Counter::Stranger),
        }
        #[cfg(debug_assertions)]
        self.pending.check();
    }

    /// Whether answers are waited for at a port of the WAN address.
    pub fn owns_port(&self, port: u16) -> bool {
        self.pending.at_port(port).is_some()
    }

    /// Asks again where no answer came, and gives up where none will come.
    pub fn poll(&mut self, now: Instant, out: &mut dyn SendUdp, around: &mut Around<'_>) {
        for index in (0..self.pending.len()).rev() {
            let Some(pending) = self.pending.get(index) else {
                continue;
            };
            if pending.end <= now {
                self.give_up(now, index, out, around);
            } else if pending.due <= now {
                self.send(now, index, out, around);
            }
        }
    }

    /// When [`Self::poll`] has something to do.
    pub fn poll_at(&self) -> Option<Instant> {
        self.pending
            .iter()
            .map(|pending| pending.due.min(pending.end))
            .min()
    }

    /// Forgets all answers and questions: the line is another one, and so may be what its resolvers say.
    pub fn forget(&mut self) {
        self.cache.clear();
        self.pending.clear();
    }

    /// Answers kept and questions on their way.
    pub fn active(&self) -> (usize, usize) {
        (self.cache.len(), self.pending.len())
    }

    /// What became of questions and answers.
    pub const fn counts(&self) -> &Counts<Counter, 24> {
        &self.counts
    }

    fn on_question(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        out: &mut dyn SendUdp,
        around: &mut Around<'_>,
    ) {
        if !around.lan.contains_addr(&datagram.src) || datagram.src == around.lan.address() {
            return self.counts.bump(Counter::Stranger);
        }
        let asked = datagram.payload;
        let header = match Header::parse(asked) {
            Some(header) if !header.is_response() => header,
            Some(_) | None => return self.counts.bump(Counter::Malformed),
        };
        self.counts.bump(Counter::Asked);
        let mut waiter = Waiter {
            address: datagram.src,
            port: datagram.src_port,
            id: header.id,
            limit: PLAIN_BYTES,
        };
        if header.opcode() != 0 {
            // Not a question as we know them; the resolver may know better.
            return self.relay(now, asked, None, waiter, out, around);
        }
        let Some(query) = Query::parse(asked) else {
            self.counts.bump(Counter::Malformed);
            return self.say(now, &waiter, &failure(asked, rcode::FORMAT), out, around);
        };
        waiter.limit = query.limit();
        if let Some(local) = local::answer(asked, &query, around.lan.address(), around.hosts) {
            self.counts.bump(Counter::Local);
            let answer = local_answer(asked, &query, local);
            return self.say(now, &waiter, &answer, out, around);
        }
        if query.is_shared()
            && let Some(hit) = self.cache.find(now, asked, &query)
            && hit.len(&query) <= usize::from(waiter.limit)
        {
            let to = back(&waiter, around);
            let sent = out.send_udp(now, &to, hit.len(&query), &mut |place| {
                hit.emit(asked, &query, place);
            });
            self.counts.bump(match sent {
                Ok(()) => Counter::Hit,
                Err(Full) => Counter::NoRoom,
            });
            return;
        }
        self.relay(now, asked, Some(&query), waiter, out, around);
    }

    /// Lets a question wait for an answer, and sends it if nobody asked it before.
    fn relay(
        &mut self,
        now: Instant,
        asked: &[u8],
        query: Option<&Query>,
        waiter: Waiter,
        out: &mut dyn SendUdp,
        around: &mut Around<'_>,
    ) {
        if around.wan.is_none() || around.resolvers.iter().all(Option::is_none) {
            self.counts.bump(Counter::NoResolver);
            let answer = failure(asked, rcode::SERVER_FAILURE);
            return self.say(now, &waiter, &answer, out, around);
        }
        let mut copy = [0; DNS_QUERY_BYTES_MAX];
        let Some(copy) = copy.get_mut(..asked.len()) else {
            self.counts.bump(Counter::TooLong);
            let answer = failure(asked, rcode::SERVER_FAILURE);
            return self.say(now, &waiter, &answer, out, around);
        };
        copy.copy_from_slice(asked);
        if let Some(edns) = query.and_then(|query| query.edns) {
            set_word(copy, edns.size_at(), edns.size.min(DNS_UDP_BYTES));
        }
        let is_shared = query.is_some_and(Query::is_bare);
        match self.pending.join(copy, is_shared, waiter) {
            Some(Ok(())) => return self.counts.bump(Counter::Joined),
            Some(Err(refused)) => return self.refuse(refused),
            None => {}
        }
        let times = (now, now + DNS_GIVE_UP);
        match self.pending.add(copy, is_shared, waiter, times) {
            Ok((index, has_displaced)) => {
                if has_displaced {
                    self.counts.bump(Counter::Displaced);
                }
                self.send(now, index, out, around);
            }
            // No answer: the client asks again, and then there may be room.
            Err(refused) => self.refuse(refused),
        }
    }

    fn refuse(&mut self, refused: Refused) {
        match refused {
            // The answer is on its way.
            Refused::Known => {}
            Refused::Share => self.counts.bump(Counter::Share),
            Refused::Waiters => self.counts.bump(Counter::Waiters),
        }
    }

    /// Asks the next resolver, from another port and by another id each time (RFC 5452 section 9.2).
    fn send(&mut self, now: Instant, index: usize, out: &mut dyn SendUdp, around: &mut Around<'_>) {
        let port = self.pending.fresh_port(around.random);
        let id = around.random.next_u16();
        let Some(pending) = self.pending.get_mut(index) else {
            return;
        };
        let next = next_resolver(&around.resolvers, usize::from(pending.tries));
        let (Some(server), Some(src)) = (next, around.wan) else {
            return self.give_up(now, index, out, around);
        };
        pending.set_id(id);
        pending.port = port;
        pending.server = Some(server);
        let to = Outgoing {
            port: Port::Wan,
            src,
            src_port: port,
            dst: server,
            dst_port: PORT,
            mac: None,
        };
        let message = pending.message();
        let sent = out.send_udp(now, &to, message.len(), &mut |place| {
            place.copy_from_slice(message);
        });
        match sent {
            Ok(()) => {
                self.counts.bump(Counter::Sent);
                if pending.tries > 0 {
                    self.counts.bump(Counter::Repeated);
                }
                pending.tries = pending.tries.saturating_add(1);
                pending.due = now + DNS_RETRY;
            }
            Err(Full) => {
                self.counts.bump(Counter::NoRoom);
                pending.due = now + DNS_FULL_RETRY;
            }
        }
    }

    fn on_answer(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        out: &mut dyn SendUdp,
        around: &mut Around<'_>,
    ) {
        let Some(index) = self.pending.at_port(datagram.dst_port) else {
            return self.counts.bump(Counter::Stray);
        };
        let Some(pending) = self.pending.get(index) else {
            return;
        };
        let answer = datagram.payload;
        let Some(header) = answer_header(pending, datagram) else {
            return self.counts.bump(Counter::Forged);
        };
        let query = Query::parse(pending.message()).filter(|query| query.header.opcode() == 0);
        let mut contents = None;
        if let Some(query) = &query {
            // What a resolver cuts may end anywhere.
            let read = Contents::read(answer, &header, &query.question);
            if read.is_err() && !header.is_truncated() && header.questions == 1 {
                return self.counts.bump(Counter::Broken);
            }
            contents = read.ok();
            if is_failure(&header) && self.has_more_resolvers(index, around) {
                // Another resolver may know; each is asked once before one's failure is believed.
                return self.send(now, index, out, around);
            }
        }
        self.counts.bump(Counter::Answered);
        let Some(pending) = self.pending.remove(index) else {
            return;
        };
        for waiter in &pending.waiters {
            self.pass(now, waiter, &pending, &header, answer, out, around);
        }
        if let (Some(query), Some(contents)) = (query, contents)
            && self.cache.store(now, &query, answer, &contents)
        {
            self.counts.bump(Counter::Kept);
        }
    }

    fn has_more_resolvers(&self, index: usize, around: &Around<'_>) -> bool {
        let known = around.resolvers.iter().flatten().count();
        self.pending
            .get(index)
            .is_some_and(|pending| usize::from(pending.tries) < known)
    }

    /// Hands an answer to one who waits for it, under the number he gave it.
    #[expect(
        clippy::too_many_arguments,
        reason = "one who waits, what he asked and what came"
    )]
    fn pass(
        &mut self,
        now: Instant,
        waiter: &Waiter,
        pending: &Pending,
        header: &Header,
        answer: &[u8],
        out: &mut dyn SendUdp,
        around: &Around<'_>,
    ) {
        if answer.len() > usize::from(waiter.limit) {
            self.counts.bump(Counter::Cut);
            let cut = Plain {
                id: waiter.id,
                flags: header.flags | flags::TRUNCATED,
                question: question_bytes(pending.message()),
                address: None,
                opt: None,
            };
            return self.say(now, waiter, &cut, out, around);
        }
        let to = back(waiter, around);
        let sent = out.send_udp(now, &to, answer.len(), &mut |place| {
            place.copy_from_slice(answer);
            set_word(place, 0, waiter.id);
        });
        if sent.is_err() {
            self.counts.bump(Counter::NoRoom);
        }
    }

    fn give_up(&mut self, now: Instant, index: usize, out: &mut dyn SendUdp, around: &Around<'_>) {
        self.counts.bump(Counter::GivenUp);
        let Some(pending) = self.pending.remove(index) else {
            return;
        };
        for waiter in &pending.waiters {
            let answer = failure(pending.message(), rcode::SERVER_FAILURE);
            self.say(now, waiter, &answer, out, around);
        }
    }

    /// Sends a message of the relay's own.
    fn say(
        &mut self,
        now: Instant,
        waiter: &Waiter,
        answer: &Plain<'_>,
        out: &mut dyn SendUdp,
        around: &Around<'_>,
    ) {
        let answer = Plain {
            id: waiter.id,
            ..*answer
        };
        let to = back(waiter, around);
        let sent = out.send_udp(now, &to, answer.len(), &mut |place| answer.emit(place));
        if sent.is_err() {
            self.counts.bump(Counter::NoRoom);
        }
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

/// The way back to a client.
fn back(waiter: &Waiter, around: &Around<'_>) -> Outgoing {
    Outgoing {
        port: Port::Lan,
        src: around.lan.address(),
        src_port: PORT,
        dst: waiter.address,
        dst_port: waiter.port,
        mac: None,
    }
}

/// The resolver of a try: they take turns.
fn next_resolver(
    resolvers: &[Option<Ipv4Address>; WAN_DNS_MAX],
    tries: usize,
) -> Option<Ipv4Address> {
    let known = resolvers.iter().flatten().count();
    let turn = tries.checked_rem(known)?;
    resolvers.iter().flatten().nth(turn).copied()
}

/// The header of an answer, if it answers this question (RFC 5452 section 9.1).
fn answer_header(pending: &Pending, datagram: &Datagram<'_>) -> Option<Header> {
    let asked = Header::parse(pending.message())?;
    let header = Header::parse(datagram.payload)?;
    if Some(datagram.src) != pending.server
        || datagram.src_port != PORT
        || !header.is_response()
        || header.id != asked.id
        || header.opcode() != asked.opcode()
    {
        return None;
    }
    if asked.opcode() != 0 {
        return Some(header);
    }
    // Servers that do not understand a question may leave it out.
    let is_bare = header.questions == 0
        && header.records == [0; 3]
        && matches!(
            header.rcode(),
            rcode::FORMAT | rcode::SERVER_FAILURE | rcode::NOT_IMPLEMENTED | rcode::REFUSED
        );
    let question = Question::parse(pending.message())?;
    let is_same =
        header.questions == 1 && is_same_question(pending.message(), &question, datagram.payload);
    (is_same || is_bare).then_some(header)
}

/// The resolver could not, or would not.
const fn is_failure(header: &Header) -> bool {
    matches!(header.rcode(), rcode::SERVER_FAILURE | rcode::REFUSED)
}

/// Flags of an answer of ours to a question with the flags `asked`.
const fn own_flags(asked: u16, rcode: u16) -> u16 {
    let copied = flags::OPCODE | flags::RECURSION_DESIRED | flags::CHECKING_DISABLED;
    flags::RESPONSE | flags::RECURSION_AVAILABLE | (asked & copied) | rcode
}

/// An answer that says that there is none; numbered by [`Relay::say`].
fn failure(asked: &[u8], rcode: u16) -> Plain<'_> {
    let flags = message::word(asked, 2).unwrap_or(0);
    Plain {
        id: 0,
        flags: own_flags(flags, rcode),
        question: if flags & flags::OPCODE == 0 {
            question_bytes(asked)
        } else {
            &[]
        },
        address: None,
        opt: Query::parse(asked).and_then(|query| query.opt()),
    }
}

fn local_answer<'a>(asked: &'a [u8], query: &Query, (rcode, address): local::Local) -> Plain<'a> {
    Plain {
        id: query.header.id,
        flags: own_flags(query.header.flags, rcode) | flags::AUTHORITATIVE,
        question: question_bytes(asked),
        address,
        opt: query.opt(),
    }
}

#[cfg(test)]
mod tests;
