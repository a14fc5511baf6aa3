//! The borrower's side of a peer link: one TCP session to a neighbour, requests out, ranges in.
//!
//! ```text
//! Unset --set--> Down --retry--> Connecting --established, Hello sent--> Greeting --Hello--> Up
//!                  ^------------------- silence, error, close ---------------------------------/
//! ```
//!
//! Several exchanges share the session; each asked range has an id. Bytes come in as
//! [`wire::peer`](crate::wire::peer) messages and go to the caller straight out of the receive ring.
//! Only what was asked is asked for, and only what fits the reorder window, so the session never has
//! to wait for one exchange before it serves the next.
//!
//! By the path `nat` a range is fetched by a connection of our own through the neighbour ([`Nat`]), and the session only
//! tells that the neighbour is there. Where that connection is busy with another exchange, or did not open lately, the
//! neighbour relays.
//!
//! Units: offsets in bytes of the object.
//! Budget: `PEER_RX_BYTES + PEER_TX_BYTES + NAT_RX_BYTES + FETCH_TX_BYTES` of rings and at most 9 KiB of decoder a peer.

use heapless::Vec;
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::nat::Nat;
use crate::budget::{
    ASKS_PER_LINK, CONNECT_AGAIN, EXCHANGES_MAX, PEER_EVENTS_MAX, PEER_GREETING_TIMEOUT,
    PEER_MESSAGE_BYTES_MAX, PEER_PING_INTERVAL, PEER_PORT, PEER_RETRY, PEER_SILENCE_MAX,
};
use crate::exchange::ExchangeId;
use crate::fetch::Busy;
use crate::settings::Path;
use crate::stack::{SocketId, Stack};
use crate::wire::http::ByteRange;
use crate::wire::peer::{self, Decoder, Message, Refusal};

/// Ranges that can be asked of one peer at once, all exchanges together.
const ASKS_MAX: usize = EXCHANGES_MAX * ASKS_PER_LINK;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unset,
    Down { retry_at: Instant },
    Connecting { since: Instant },
    Greeting { since: Instant },
    Up,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u32,
    exchange: ExchangeId,
    first: u64,
    next: u64,
    end: u64,
    has_begun: bool,
}

/// What a pump saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Event {
    /// The peer's origin granted a range.
    Begun(ExchangeId),
    /// The last byte of the range that starts at this offset was handed over.
    Done(ExchangeId, u64),
    /// The exchange did not take the bytes; everything it had asked of this peer was cancelled.
    Dropped(ExchangeId),
    /// The peer did not or could not fetch a range; what else the exchange had asked of it was
    /// cancelled, the session goes on.
    Refused(ExchangeId, Refusal),
    /// The session is lost, and with it everything asked on it.
    Lost,
}

/// What the exchange wants of a peer.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The exchange that asks.
    pub exchange: ExchangeId,
    /// The interval asked for.
    pub range: ByteRange,
    /// The request to carry; its `id`, `first` and `last` are filled in here.
    pub message: peer::Fetch<'a>,
}

/// One neighbour, as a link to borrow.
pub struct Peer {
    address: Option<Ipv4Address>,
    socket: SocketId,
    state: State,
    decoder: Decoder,
    asks: Vec<Asked, ASKS_MAX>,
    next_id: u32,
    heard_at: Instant,
    pinged_at: Instant,
    bytes: u64,
    /// The last call ended before the receive ring was empty.
    has_more: bool,
    /// Tells the neighbour when this router has restarted.
    boot: u32,
    path: Path,
    nat: Nat,
}

impl Peer {
    /// A peer slot without an address; `socket` is for its session, `nat` for connections through it.
    pub fn new(socket: SocketId, nat: SocketId, boot: u32) -> Self {
        Self {
            address: None,
            socket,
            state: State::Unset,
            decoder: Decoder::new(),
            asks: Vec::new(),
            next_id: 1,
            heard_at: Instant::ZERO,
            pinged_at: Instant::ZERO,
            bytes: 0,
            has_more: false,
            boot,
            path: Path::Relay,
            nat: Nat::new(nat),
        }
    }

    /// Sets or clears the neighbour's address on the air; a change ends the session.
    pub fn set_address(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        address: Option<Ipv4Address>,
    ) {
        if self.address == address {
            return;
        }
        stack.tcp(self.socket).abort();
        stack.touch();
        self.nat.abort(stack);
        self.nat.set_hop(stack, address);
        self.address = address;
        self.state = match address {
            Some(_) => State::Down { retry_at: now },
            None => State::Unset,
        };
    }

    /// Sets the path of ranges that are asked from now on.
    pub fn set_path(&mut self, stack: &mut Stack<'_>, path: Path) {
        if self.path != path {
            self.path = path;
            self.nat.forget_failure();
        }
        // What runs goes on; a change of address has ended it.
        self.nat.set_hop(stack, self.address);
    }

    /// Ends the connection through the neighbour: the address it has is none of ours any more.
    pub fn end_nat(&mut self, stack: &mut Stack<'_>) {
        self.nat.abort(stack);
    }

    /// Body bytes that came through the neighbour on connections of our own since boot.
    pub fn bytes_by_nat(&self) -> u64 {
        self.nat.bytes()
    }

    /// The neighbour's address, if the slot is in use.
    pub fn address(&self) -> Option<Ipv4Address> {
        self.address
    }

    /// Whether the peer can be asked.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// The state in a word, for the console.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Unset => "unset",
            State::Down { .. } => "down",
            State::Connecting { .. } => "connecting",
            State::Greeting { .. } => "greeting",
            State::Up => "up",
        }
    }

    /// Body bytes this peer has brought since boot.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.nat.bytes()
    }

    /// Ranges asked and not done.
    pub fn asks(&self) -> usize {
        self.asks.len() + self.nat.asks()
    }

    /// Whether one more request of any size can be sent now.
    pub fn can_ask(&self, stack: &Stack<'_>) -> bool {
        let socket = stack.tcp_ref(self.socket);
        self.is_up()
            && !self.asks.is_full()
            && socket.may_send()
            && socket.send_capacity() - socket.send_queue() >= PEER_MESSAGE_BYTES_MAX
    }

    /// Asks the peer for a range.
    ///
    /// # Errors
    /// [`Busy`]: see [`Self::can_ask`]; or the request does not fit a message. Nothing was sent.
    pub fn ask(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        wanted: Wanted<'_>,
    ) -> Result<(), Busy> {
        if !self.can_ask(stack) {
            return Err(Busy);
        }
        let is_by_nat = match self.path {
            Path::Relay => false,
            Path::Nat => self.nat.ask(now, stack, &wanted).is_ok(),
        };
        if is_by_nat {
            return Ok(());
        }
        while self.asks.iter().any(|asked| asked.id == self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        let request = peer::Fetch {
            id,
            first: wanted.range.first,
            last: wanted.range.last,
            ..wanted.message
        };
        self.send(stack, &Message::Fetch(request))?;
        self.next_id = self.next_id.wrapping_add(1);
        let asked = Asked {
            id,
            exchange: wanted.exchange,
            first: wanted.range.first,
            next: wanted.range.first,
            end: wanted.range.last + 1,
            has_begun: false,
        };
        self.asks.push(asked).map_err(|_| Busy)
    }

    /// Tells the peer to stop everything an exchange has asked for, and forgets it.
    pub fn cancel(&mut self, stack: &mut Stack<'_>, exchange: ExchangeId) {
        self.nat.cancel(stack, exchange);
        while let Some(at) = self
            .asks
            .iter()
            .position(|asked| asked.exchange == exchange)
        {
            let asked = self.asks.remove(at);
            if self.send(stack, &Message::Cancel { id: asked.id }).is_err() {
                defmt::debug!(
                    "peer: no room for a cancel of {=u32}; its bytes will be ignored",
                    asked.id
                );
            }
        }
    }

    fn send(&mut self, stack: &mut Stack<'_>, message: &Message<'_>) -> Result<(), Busy> {
        let mut bytes = [0; PEER_MESSAGE_BYTES_MAX];
        let len = peer::encode(message, &mut bytes).map_err(|_| Busy)?;
        let socket = stack.tcp(self.socket);
        if !socket.may_send() || socket.send_capacity() - socket.send_queue() < len {
            return Err(Busy);
        }
        let sent = socket.send_slice(&bytes[..len]);
        stack.touch();
        match sent {
            Ok(n) if n == len => Ok(()),
            Ok(_) | Err(_) => Err(Busy),
        }
    }

    /// Moves the session on; body bytes go to `body(exchange, offset, bytes)`, which tells whether it
    /// took them.
    ///
    /// Returns at most one event; call until `None`.
    pub fn pump(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        body: &mut dyn FnMut(ExchangeId, u64, &[u8]) -> bool,
    ) -> Option<Event> {
        self.has_more = false;
        let address = self.address?;
        match self.state {
            State::Unset => return None,
            State::Down { retry_at } => {
                if now >= retry_at {
                    self.decoder = Decoder::new();
                    self.asks.clear();
                    let is_asked = stack.connect(self.socket, (address, PEER_PORT)).is_ok();
                    // Where the last connection's reset has not left yet, the next attempt is soon.
                    self.state = if is_asked {
                        State::Connecting { since: now }
                    } else {
                        State::Down {
                            retry_at: now + CONNECT_AGAIN,
                        }
                    };
                }
                return None;
            }
            State::Connecting { since } => {
                let socket = stack.tcp(self.socket);
                if socket.may_send() {
                    if self
                        .send(
                            stack,
                            &Message::Hello {
                                version: peer::VERSION,
                                boot: self.boot,
                            },
                        )
                        .is_err()
                    {
                        return Some(self.lose(now, stack));
                    }
                    self.state = State::Greeting { since };
                } else if socket.state() == tcp::State::Closed
                    || now >= since + PEER_GREETING_TIMEOUT
                {
                    return Some(self.lose(now, stack));
                }
                return None;
            }
            State::Greeting { since } => {
                if now >= since + PEER_GREETING_TIMEOUT {
                    return Some(self.lose(now, stack));
                }
            }
            State::Up => {
                if now >= self.heard_at + PEER_SILENCE_MAX {
                    defmt::info!("peer: silent, session ends");
                    return Some(self.lose(now, stack));
                }
                if now >= self.heard_at.max(self.pinged_at) + PEER_PING_INTERVAL {
                    self.pinged_at = now;
                    if self
                        .send(
                            stack,
                            &Message::Ping {
                                nonce: self.next_id,
                            },
                        )
                        .is_err()
                    {
                        defmt::debug!("peer: no room for a ping");
                    }
                }
            }
        }
        if let Some(event) = self.nat.pump(now, stack, body) {
            if let Event::Refused(exchange, _) | Event::Dropped(exchange) = event {
                self.cancel(stack, exchange);
            }
            return Some(event);
        }
        for _ in 0..PEER_EVENTS_MAX {
            match self.take(now, stack, body) {
                Ok(Some(event)) => {
                    match event {
                        Event::Refused(exchange, _) | Event::Dropped(exchange) => {
                            self.cancel(stack, exchange);
                        }
                        Event::Begun(_) | Event::Done(..) | Event::Lost => {}
                    }
                    return Some(event);
                }
                Ok(None) => {}
                Err(Stop::Empty) => return None,
                Err(Stop::Broken) => return Some(self.lose(now, stack)),
            }
        }
        self.has_more = true;
        None
    }

    /// Takes one message or one run of bytes.
    fn take(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        body: &mut dyn FnMut(ExchangeId, u64, &[u8]) -> bool,
    ) -> Result<Option<Event>, Stop> {
        let socket = stack.tcp(self.socket);
        if !socket.can_recv() {
            return Err(if socket.may_recv() {
                Stop::Empty
            } else {
                Stop::Broken
            });
        }
        let decoder = &mut self.decoder;
        let asks = &mut self.asks;
        let state = &mut self.state;
        let total = &mut self.bytes;
        let taken = socket.recv(|input| {
            let (consumed, event) = match decoder.next(input) {
                Ok(step) => step,
                Err(error) => {
                    defmt::warn!("peer: malformed message: {}", error);
                    return (input.len(), Err(Stop::Broken));
                }
            };
            let outcome = match event {
                None => Ok(None),
                Some(peer::Event::Bytes { id, offset, place }) => {
                    *total += place.len() as u64;
                    on_bytes(asks, id, offset, &input[place], body)
                }
                Some(peer::Event::Message(message)) => on_message(asks, state, &message),
            };
            (consumed, outcome)
        });
        stack.touch();
        self.heard_at = now;
        taken.unwrap_or(Err(Stop::Broken))
    }

    fn lose(&mut self, now: Instant, stack: &mut Stack<'_>) -> Event {
        stack.tcp(self.socket).abort();
        stack.touch();
        self.asks.clear();
        self.nat.abort(stack);
        self.state = State::Down {
            retry_at: now + PEER_RETRY,
        };
        Event::Lost
    }

    /// When [`Self::pump`] must run although no segment came.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.has_more {
            return Some(Instant::ZERO);
        }
        let session = match self.state {
            State::Unset => None,
            State::Down { retry_at } => Some(retry_at),
            State::Connecting { since } | State::Greeting { since } => {
                Some(since + PEER_GREETING_TIMEOUT)
            }
            State::Up => Some(
                (self.heard_at.max(self.pinged_at) + PEER_PING_INTERVAL)
                    .min(self.heard_at + PEER_SILENCE_MAX),
            ),
        };
        let nat = self.nat.poll_at().filter(|_| self.is_up());
        [session, nat].into_iter().flatten().min()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Empty,
    Broken,
}

fn on_bytes(
    asks: &mut Vec<Asked, ASKS_MAX>,
    id: u32,
    offset: u64,
    bytes: &[u8],
    body: &mut dyn FnMut(ExchangeId, u64, &[u8]) -> bool,
) -> Result<Option<Event>, Stop> {
    // Bytes of a cancelled range are still on their way for a while.
    let Some(asked) = asks.iter_mut().find(|asked| asked.id == id) else {
        return Ok(None);
    };
    if !asked.has_begun || offset != asked.next || bytes.len() as u64 > asked.end - asked.next {
        defmt::warn!("peer: bytes that were not asked for");
        return Err(Stop::Broken);
    }
    asked.next += bytes.len() as u64;
    if body(asked.exchange, offset, bytes) {
        Ok(None)
    } else {
        Ok(Some(Event::Dropped(asked.exchange)))
    }
}

fn on_message(
    asks: &mut Vec<Asked, ASKS_MAX>,
    state: &mut State,
    message: &Message<'_>,
) -> Result<Option<Event>, Stop> {
    match *message {
        // The decoder has compared the versions.
        Message::Hello { .. } => {
            *state = State::Up;
            Ok(None)
        }
        Message::Start {
            id,
            first,
            last,
            total: _,
        } => {
            let Some(asked) = asks.iter_mut().find(|asked| asked.id == id) else {
                return Ok(None);
            };
            if first != asked.next || last >= asked.end {
                return Err(Stop::Broken);
            }
            asked.has_begun = true;
            asked.end = last + 1;
            Ok(Some(Event::Begun(asked.exchange)))
        }
        Message::End { id } => {
            let Some(at) = asks.iter().position(|asked| asked.id == id) else {
                return Ok(None);
            };
            let asked = asks.remove(at);
            if asked.next != asked.end {
                return Err(Stop::Broken);
            }
            Ok(Some(Event::Done(asked.exchange, asked.first)))
        }
        Message::Refused { id, reason } => {
            let Some(at) = asks.iter().position(|asked| asked.id == id) else {
                return Ok(None);
            };
            Ok(Some(Event::Refused(asks.remove(at).exchange, reason)))
        }
        Message::Pong { nonce: _ } => Ok(None),
        // A lender asks for nothing, and the decoder turns `Data` into bytes.
        Message::Fetch(_)
        | Message::Cancel { .. }
        | Message::Data { .. }
        | Message::Ping { .. } => Err(Stop::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: ExchangeId = ExchangeId::from_index(2);

    fn asked(id: u32, first: u64, end: u64) -> Vec<Asked, ASKS_MAX> {
        let one = Asked {
            id,
            exchange: EXCHANGE,
            first,
            next: first,
            end,
            has_begun: false,
        };
        let mut asks = Vec::new();
        asks.extend([one]);
        asks
    }

    fn start(id: u32, first: u64, last: u64) -> Message<'static> {
        let total = 1 << 20;
        Message::Start {
            id,
            first,
            last,
            total,
        }
    }

    fn hear(asks: &mut Vec<Asked, ASKS_MAX>, message: &Message<'_>) -> Result<Option<Event>, Stop> {
        on_message(asks, &mut State::Up, message)
    }

    fn bring(
        asks: &mut Vec<Asked, ASKS_MAX>,
        id: u32,
        offset: u64,
        len: usize,
    ) -> Result<Option<Event>, Stop> {
        on_bytes(asks, id, offset, &[7; 64][..len], &mut |_, _, _| true)
    }

    #[test]
    fn a_range_begins_arrives_and_ends_by_the_offset_it_was_asked_with() {
        let mut asks = asked(9, 100, 132);
        let begun = hear(&mut asks, &start(9, 100, 131));
        assert_eq!(begun, Ok(Some(Event::Begun(EXCHANGE))));
        assert_eq!(bring(&mut asks, 9, 100, 20), Ok(None));
        assert_eq!(bring(&mut asks, 9, 120, 12), Ok(None));
        let done = hear(&mut asks, &Message::End { id: 9 });
        assert_eq!(done, Ok(Some(Event::Done(EXCHANGE, 100))));
        assert!(asks.is_empty());
    }

    #[test]
    fn bytes_before_the_start_at_another_offset_or_past_the_end_end_the_session() {
        assert_eq!(bring(&mut asked(9, 100, 132), 9, 100, 1), Err(Stop::Broken));
        for (offset, len) in [(101, 1), (99, 1), (100, 33)] {
            let mut asks = asked(9, 100, 132);
            assert!(hear(&mut asks, &start(9, 100, 131)).is_ok());
            assert_eq!(bring(&mut asks, 9, offset, len), Err(Stop::Broken));
        }
    }

    #[test]
    fn a_start_of_another_place_or_past_what_was_asked_ends_the_session() {
        for (first, last) in [(99, 131), (101, 131), (100, 132)] {
            let mut asks = asked(9, 100, 132);
            assert_eq!(hear(&mut asks, &start(9, first, last)), Err(Stop::Broken));
        }
    }

    #[test]
    fn an_end_before_the_last_byte_ends_the_session() {
        let mut asks = asked(9, 100, 132);
        assert!(hear(&mut asks, &start(9, 100, 131)).is_ok());
        assert_eq!(bring(&mut asks, 9, 100, 31), Ok(None));
        assert_eq!(hear(&mut asks, &Message::End { id: 9 }), Err(Stop::Broken));
    }

    #[test]
    fn what_comes_for_a_cancelled_range_is_ignored() {
        let mut asks = Vec::new();
        assert_eq!(hear(&mut asks, &start(9, 0, 10)), Ok(None));
        assert_eq!(bring(&mut asks, 9, 0, 10), Ok(None));
        assert_eq!(hear(&mut asks, &Message::End { id: 9 }), Ok(None));
    }

    #[test]
    fn a_lender_that_asks_ends_the_session() {
        let mut asks = asked(9, 0, 10);
        let ask = Message::Cancel { id: 9 };
        assert_eq!(hear(&mut asks, &ask), Err(Stop::Broken));
    }

    #[test]
    fn bytes_that_find_no_room_end_the_exchanges_ranges_here() {
        let mut asks = asked(9, 0, 10);
        assert!(hear(&mut asks, &start(9, 0, 9)).is_ok());
        let refused = on_bytes(&mut asks, 9, 0, &[7; 4], &mut |_, _, _| false);
        assert_eq!(refused, Ok(Some(Event::Dropped(EXCHANGE))));
    }
}
