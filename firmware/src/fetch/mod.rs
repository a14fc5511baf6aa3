//! One link's connection to an origin: requests out, checked ranges in.
//!
//! A [`Fetch`] keeps one persistent HTTP/1.1 connection on a smoltcp socket and up to
//! [`FETCH_ASKS_MAX`] requests in flight on it. It hands body bytes to the caller with their offset in
//! the object, straight out of the socket's receive ring, and only after the reply's head was judged.
//!
//! Calling order: [`Fetch::open`], then [`Fetch::pump`] until it returns `None` whenever the socket
//! may have moved; [`Fetch::ask_head`]/[`Fetch::ask_range`] while [`Fetch::can_ask`].
//!
//! ```text
//! Idle --open--> Connecting --established--> Open --close/abort--> Closing --closed--> Idle
//! ```
//!
//! Follows: RFC 9112 section 9.3 (persistence, pipelining), RFC 9110 section 14 and 15.3.7 (ranges).
//! Budget: [`budget::FETCH_RX_BYTES`](crate::budget::FETCH_RX_BYTES) of receive ring a socket.

pub mod response;

use heapless::{Deque, Vec};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use crate::budget::{
    CONNECT_AGAIN, FETCH_ASKS_MAX, FETCH_CLOSE_TIMEOUT, FETCH_CONNECT_TIMEOUT, FETCH_IDLE_TIMEOUT,
    REPLY_HEAD_BYTES_MAX,
};
use crate::stack::{SocketId, Stack};
use crate::wire::http::ByteRange;
use response::{Object, PartRefused, ReplyHead, ReplyRefused, judge_part, parse_reply};

/// Why a connection ended with requests on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Failure {
    /// It did not open: refused or no answer.
    Connect,
    /// The origin closed it before the last byte asked for.
    EarlyEnd,
    /// The reply's head is not one this router reads.
    Grammar,
    /// Bytes came that nobody asked for.
    Unasked,
    /// The reply is well-formed but may not be joined.
    Refused(PartRefused),
}

/// What a pump saw.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, on the stack, and is taken apart at once"
)]
pub enum Event {
    /// The reply to a HEAD is complete; its bytes are [`Fetch::head_bytes`].
    Probe(ReplyHead),
    /// A range's reply was judged good; this much of it is granted (never more than asked).
    Begun(ByteRange),
    /// The last byte of the oldest range was handed over.
    Done,
    /// The connection is lost, and with it everything asked on it.
    Lost(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Connecting {
        since: Instant,
        /// When the socket is asked to connect again, while its last reset has not been sent.
        again_at: Option<Instant>,
    },
    Open {
        used_at: Instant,
    },
    Closing {
        since: Instant,
    },
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Head,
    /// A range whose reply has not begun.
    Range(ByteRange),
    /// A range whose body arrives.
    Body {
        next: u64,
        end: u64,
        /// The connection ends with this reply.
        last: bool,
    },
}

/// One connection to one origin.
#[derive(Debug)]
pub struct Fetch {
    socket: SocketId,
    state: State,
    remote: (Ipv4Address, u16),
    asks: Deque<Ask, FETCH_ASKS_MAX>,
    head: Vec<u8, REPLY_HEAD_BYTES_MAX>,
}

impl Fetch {
    /// An idle fetch on a socket of the stack.
    pub fn new(socket: SocketId) -> Self {
        Self {
            socket,
            state: State::Idle,
            remote: (Ipv4Address::UNSPECIFIED, 0),
            asks: Deque::new(),
            head: Vec::new(),
        }
    }

    /// Connects to `remote`, or keeps the connection that is already there.
    pub fn open(&mut self, now: Instant, stack: &mut Stack<'_>, remote: (Ipv4Address, u16)) {
        let reusable = matches!(self.state, State::Open { .. })
            && self.remote == remote
            && self.asks.is_empty()
            && stack.tcp(self.socket).state() == tcp::State::Established
            && !stack.tcp(self.socket).can_recv();
        if reusable {
            return;
        }
        if self.state != State::Idle {
            self.abort(stack);
        }
        self.remote = remote;
        self.asks.clear();
        self.head.clear();
        // Where the last connection's reset has not left yet, `pump` tries again.
        let is_asked = stack.connect(self.socket, remote).is_ok();
        self.state = State::Connecting {
            since: now,
            again_at: (!is_asked).then(|| now + CONNECT_AGAIN),
        };
    }

    /// The origin this connection leads to.
    pub fn remote(&self) -> (Ipv4Address, u16) {
        self.remote
    }

    /// Whether nothing is asked and nothing is under way.
    pub fn is_resting(&self) -> bool {
        self.asks.is_empty()
    }

    /// Whether no connection exists at all.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Requests in flight.
    pub fn asks(&self) -> usize {
        self.asks.len()
    }

    /// Whether one more request of at most `len` bytes can be sent now.
    pub fn can_ask(&self, stack: &Stack<'_>, len: usize) -> bool {
        let socket = stack.tcp_ref(self.socket);
        let pipelined = self
            .asks
            .iter()
            .any(|ask| matches!(ask, Ask::Body { last: true, .. }));
        matches!(self.state, State::Open { .. })
            && !self.asks.is_full()
            && !pipelined
            && socket.may_send()
            && socket.send_capacity() - socket.send_queue() >= len
    }

    /// Sends a HEAD that `request` holds.
    ///
    /// # Errors
    /// The socket could not take it whole; nothing was sent (see [`Self::can_ask`]).
    pub fn ask_head(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        request: &[u8],
    ) -> Result<(), Busy> {
        self.send(now, stack, request, Ask::Head)
    }

    /// Sends a GET for `range` that `request` holds.
    ///
    /// # Errors
    /// As [`Self::ask_head`].
    pub fn ask_range(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        request: &[u8],
        range: ByteRange,
    ) -> Result<(), Busy> {
        self.send(now, stack, request, Ask::Range(range))
    }

    fn send(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        request: &[u8],
        ask: Ask,
    ) -> Result<(), Busy> {
        if !self.can_ask(stack, request.len()) {
            return Err(Busy);
        }
        match stack.tcp(self.socket).send_slice(request) {
            Ok(sent) if sent == request.len() => {}
            Ok(_) | Err(_) => return Err(Busy),
        }
        stack.touch();
        self.state = State::Open { used_at: now };
        self.asks.push_back(ask).map_err(|_| Busy)
    }

    /// Takes bytes of a head that came on another connection, in order; the head once it is whole. The place is
    /// that of this connection's own heads, so nothing may be asked meanwhile.
    ///
    /// # Errors
    /// The head is not one this router reads.
    pub fn overhear(&mut self, bytes: &[u8]) -> Result<Option<ReplyHead>, ReplyRefused> {
        let room = self.head.capacity() - self.head.len();
        // Cannot fail: at most `room`.
        let _fits = self
            .head
            .extend_from_slice(&bytes[..bytes.len().min(room)])
            .is_ok();
        let head = parse_reply(&self.head)?;
        match &head {
            Some(head) => self.head.truncate(head.len),
            None if self.head.is_full() => return Err(ReplyRefused::TooLong),
            None => {}
        }
        Ok(head)
    }

    /// Begins to take a head that comes on another connection, see [`Self::overhear`].
    pub fn begin_overhearing(&mut self) {
        self.head.clear();
    }

    /// The raw bytes of the reply head seen last.
    pub fn head_bytes(&self) -> &[u8] {
        &self.head
    }

    /// Moves the connection on and hands body bytes to `body(offset, bytes) -> taken`.
    ///
    /// `object` is what ranges must belong to. Returns at most one event; call until `None`.
    pub fn pump(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        object: Option<&Object>,
        body: &mut dyn FnMut(u64, &[u8]) -> usize,
    ) -> Option<Event> {
        match self.state {
            State::Idle => return None,
            State::Connecting { since, again_at } => {
                let mut is_asked = again_at.is_none();
                if again_at.is_some_and(|at| now >= at) {
                    is_asked = stack.connect(self.socket, self.remote).is_ok();
                    self.state = State::Connecting {
                        since,
                        again_at: (!is_asked).then(|| now + CONNECT_AGAIN),
                    };
                }
                let socket = stack.tcp(self.socket);
                if is_asked && socket.may_send() {
                    self.state = State::Open { used_at: now };
                    return None;
                }
                let refused = is_asked && socket.state() == tcp::State::Closed;
                if refused || now >= since + FETCH_CONNECT_TIMEOUT {
                    return Some(self.lose(stack, Failure::Connect));
                }
                return None;
            }
            State::Open { used_at } => {
                if self.asks.is_empty() {
                    let socket = stack.tcp(self.socket);
                    if socket.can_recv() {
                        return Some(self.lose(stack, Failure::Unasked));
                    }
                    if !socket.may_recv() || now >= used_at + FETCH_IDLE_TIMEOUT {
                        self.close(now, stack);
                    }
                    return None;
                }
            }
            State::Closing { since } => {
                let socket = stack.tcp(self.socket);
                match socket.state() {
                    tcp::State::Closed | tcp::State::TimeWait => self.state = State::Idle,
                    _ if now >= since + FETCH_CLOSE_TIMEOUT => {
                        socket.abort();
                        stack.touch();
                        self.state = State::Idle;
                    }
                    _ => {}
                }
                return None;
            }
        }
        self.pump_open(now, stack, object, body)
    }

    fn pump_open(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        object: Option<&Object>,
        body: &mut dyn FnMut(u64, &[u8]) -> usize,
    ) -> Option<Event> {
        // Each turn takes a head, part of a body or ends; a ring wraps once, so this is short.
        loop {
            let front = *self.asks.front()?;
            let socket = stack.tcp(self.socket);
            if !socket.can_recv() {
                return match socket.may_recv() {
                    true => None,
                    false => Some(self.lose(stack, Failure::EarlyEnd)),
                };
            }
            match front {
                Ask::Head | Ask::Range(_) => {
                    if matches!(self.asks.front(), Some(Ask::Head | Ask::Range(_)))
                        && self.head_is_complete()
                    {
                        self.head.clear();
                    }
                    let head = match self.take_head(stack) {
                        Ok(Some(head)) => head,
                        Ok(None) => continue,
                        Err(failure) => return Some(self.lose(stack, failure)),
                    };
                    self.state = State::Open { used_at: now };
                    if let Ask::Range(asked) = front {
                        let judged = match object {
                            Some(object) => judge_part(&head, object, asked),
                            None => return Some(self.lose(stack, Failure::Unasked)),
                        };
                        return match judged {
                            Ok(granted) => {
                                if let Some(ask) = self.asks.front_mut() {
                                    *ask = Ask::Body {
                                        next: granted.first,
                                        end: granted.last + 1,
                                        last: head.close,
                                    };
                                }
                                Some(Event::Begun(granted))
                            }
                            Err(refused) => Some(self.lose(stack, Failure::Refused(refused))),
                        };
                    }
                    self.asks.pop_front();
                    if head.close {
                        self.close(now, stack);
                    }
                    return Some(Event::Probe(head));
                }
                Ask::Body { next, end, last } => {
                    let left = usize::try_from(end - next).unwrap_or(usize::MAX);
                    let taken = socket
                        .recv(|bytes| {
                            let offered = bytes.len().min(left);
                            let taken = body(next, &bytes[..offered]).min(offered);
                            (taken, taken)
                        })
                        .unwrap_or(0);
                    if taken == 0 {
                        return None;
                    }
                    stack.touch();
                    self.state = State::Open { used_at: now };
                    let next = next + taken as u64;
                    if let Some(ask) = self.asks.front_mut() {
                        *ask = Ask::Body { next, end, last };
                    }
                    if next == end {
                        self.asks.pop_front();
                        if last {
                            let more = !self.asks.is_empty();
                            self.close(now, stack);
                            if more {
                                // Pipelined requests behind a closing reply are never answered.
                                self.asks.clear();
                                return Some(Event::Done);
                            }
                        }
                        return Some(Event::Done);
                    }
                }
            }
        }
    }

    fn head_is_complete(&self) -> bool {
        self.head.ends_with(b"\r\n\r\n")
    }

    fn take_head(&mut self, stack: &mut Stack<'_>) -> Result<Option<ReplyHead>, Failure> {
        let head = &mut self.head;
        let taken = stack.tcp(self.socket).recv(|bytes| {
            let before = head.len();
            let room = (head.capacity() - before).min(bytes.len());
            // Cannot fail: `room` is what is left.
            let _fits = head.extend_from_slice(&bytes[..room]).is_ok();
            match parse_reply(head) {
                Ok(Some(parsed)) => {
                    let len = parsed.len;
                    head.truncate(len);
                    (len - before, Ok(Some(parsed)))
                }
                Ok(None) if head.is_full() => (room, Err(Failure::Grammar)),
                Ok(None) => (room, Ok(None)),
                Err(_refused) => (0, Err(Failure::Grammar)),
            }
        });
        stack.touch();
        taken.unwrap_or(Err(Failure::EarlyEnd))
    }

    fn lose(&mut self, stack: &mut Stack<'_>, failure: Failure) -> Event {
        self.abort(stack);
        Event::Lost(failure)
    }

    /// Ends the connection in good order; anything asked is forgotten.
    pub fn close(&mut self, now: Instant, stack: &mut Stack<'_>) {
        match self.state {
            State::Idle | State::Closing { .. } => {}
            State::Connecting { .. } => self.abort(stack),
            State::Open { .. } if !self.asks.is_empty() => self.abort(stack),
            State::Open { .. } => {
                stack.tcp(self.socket).close();
                stack.touch();
                self.state = State::Closing { since: now };
            }
        }
    }

    /// Resets the connection at once; anything asked is forgotten.
    pub fn abort(&mut self, stack: &mut Stack<'_>) {
        stack.tcp(self.socket).abort();
        stack.touch();
        self.asks.clear();
        self.head.clear();
        self.state = State::Idle;
    }

    /// When [`Self::pump`] must run although no segment came.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Connecting { since, again_at } => {
                Some(again_at.unwrap_or(since + FETCH_CONNECT_TIMEOUT))
            }
            State::Open { used_at } if self.asks.is_empty() => Some(used_at + FETCH_IDLE_TIMEOUT),
            State::Open { .. } => None,
            State::Closing { since } => Some(since + FETCH_CLOSE_TIMEOUT),
        }
    }
}

/// The connection cannot take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Busy;

#[cfg(test)]
mod tests;
