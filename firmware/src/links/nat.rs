//! A connection of our own that leads through a neighbour: ranges by the path `nat`.
//!
//! The neighbour translates our address on the air to its own on its line (`router/lent.rs` there). Nothing of what
//! comes back is the neighbour's word: request, reply and ranges are judged here as on the own line. One exchange
//! at a time has the connection; its requests are those that the neighbour would write (FAULTS D6).
//!
//! Calling order: [`Nat::ask`] whenever the session is up, [`Nat::pump`] until `None` after what moved.
//!
//! Units: offsets in bytes of the object.
//! Budget: one [`Fetch`] and two waiting requests, below 24 KiB a peer.

use heapless::{Deque, Vec};
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::lender::refusal_of;
use super::peer::{Event, Wanted};
use crate::budget::{ASKS_PER_LINK, FETCH_ASKS_MAX, NAT_AGAIN, REQUEST_BYTES_MAX};
use crate::exchange::ExchangeId;
use crate::fetch::response::{ContentType, Object};
use crate::fetch::{self, Busy, Failure, Fetch};
use crate::stack::{SocketId, Stack};
use crate::wire::http::{self, ByteRange};
use crate::wire::peer::Refusal;

/// A request that waits for the connection.
struct Waiting {
    range: ByteRange,
    request: Vec<u8, REQUEST_BYTES_MAX>,
}

/// What the connection is for.
struct Use {
    exchange: ExchangeId,
    object: Object,
}

/// One neighbour's connection.
pub(super) struct Nat {
    socket: SocketId,
    fetch: Fetch,
    used: Option<Use>,
    /// First offsets of ranges asked of the origin, oldest first.
    asked: Deque<u64, FETCH_ASKS_MAX>,
    waiting: Deque<Waiting, ASKS_PER_LINK>,
    /// The origin closes behind the range that was done last: nothing else that was asked comes.
    is_cut_off: bool,
    /// No connection is tried before.
    not_before: Instant,
    /// When the connection was wanted last.
    tried_at: Instant,
    bytes: u64,
}

impl Nat {
    /// No connection yet.
    pub(super) fn new(socket: SocketId) -> Self {
        Self {
            socket,
            fetch: Fetch::new(socket),
            used: None,
            asked: Deque::new(),
            waiting: Deque::new(),
            is_cut_off: false,
            not_before: Instant::ZERO,
            tried_at: Instant::ZERO,
            bytes: 0,
        }
    }

    /// Sets through whom the connection leads.
    pub(super) fn set_hop(&mut self, stack: &mut Stack<'_>, hop: Option<Ipv4Address>) {
        stack.set_hop(self.socket, hop);
    }

    /// A connection may be tried at once, whatever became of the last.
    pub(super) fn forget_failure(&mut self) {
        self.not_before = Instant::ZERO;
    }

    /// Body bytes it has brought.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ranges asked and not done.
    pub(super) fn asks(&self) -> usize {
        self.asked.len() + self.waiting.len()
    }

    /// Asks for a range.
    ///
    /// # Errors
    /// [`Busy`]: another exchange has the connection, all places are taken, or none opened lately; nothing was sent.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<(), Busy> {
        let message = &wanted.message;
        let is_ours = |used: &Use| used.exchange == wanted.exchange;
        let is_busy = self.asks() > 0 && !self.used.as_ref().is_some_and(is_ours);
        if is_busy || self.waiting.is_full() || now < self.not_before {
            return Err(Busy);
        }
        let values = message.request();
        values.check(message.port).map_err(|_| Busy)?;
        let object = Object {
            total: message.total,
            validator: message.validator().map_err(|_| Busy)?,
            content_type: message
                .content_type
                .and_then(|kind| ContentType::from_slice(kind).ok()),
        };
        let mut bytes = [0; REQUEST_BYTES_MAX];
        let len =
            http::write_peer_get(&mut bytes, &values, wanted.range, None).map_err(|_| Busy)?;
        let mut request = Vec::new();
        request.extend_from_slice(&bytes[..len]).map_err(|_| Busy)?;
        let remote = (Ipv4Address::from(message.address), message.port);
        if self.asks() == 0 {
            self.used = Some(Use {
                exchange: wanted.exchange,
                object,
            });
            self.fetch.open(now, stack, remote);
            self.tried_at = now;
        }
        let range = wanted.range;
        let waiting = Waiting { range, request };
        self.waiting.push_back(waiting).map_err(|_| Busy)?;
        self.ask_waiting(now, stack);
        Ok(())
    }

    fn ask_waiting(&mut self, now: Instant, stack: &mut Stack<'_>) {
        while let Some(first) = self.waiting.front() {
            if self.asked.is_full() || !self.fetch.can_ask(stack, first.request.len()) {
                return;
            }
            let range = first.range;
            if self
                .fetch
                .ask_range(now, stack, &first.request, range)
                .is_err()
            {
                return;
            }
            // There is room: it was looked at.
            let _fits = self.asked.push_back(range.first).is_ok();
            self.waiting.pop_front();
        }
    }

    /// Moves the connection on; body bytes go to `body(exchange, offset, bytes)`, which tells whether it took them.
    ///
    /// Returns at most one event; call until `None`.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        stack: &mut Stack<'_>,
        body: &mut dyn FnMut(ExchangeId, u64, &[u8]) -> bool,
    ) -> Option<Event> {
        let (mut is_dropped, mut brought) = (false, 0);
        let exchange = self.used.as_ref().map(|used| used.exchange);
        if core::mem::take(&mut self.is_cut_off) {
            self.abort_asked(stack);
            return exchange.map(|exchange| Event::Refused(exchange, Refusal::Closed));
        }
        let used = self.used.as_ref();
        let mut take = |offset: u64, bytes: &[u8]| {
            let taken = exchange.is_some_and(|exchange| body(exchange, offset, bytes));
            is_dropped |= !taken;
            brought += if taken { bytes.len() } else { 0 };
            if taken { bytes.len() } else { 0 }
        };
        let object = used.map(|used| &used.object);
        let event = self.fetch.pump(now, stack, object, &mut take);
        self.bytes += brought as u64;
        if is_dropped {
            self.abort(stack);
            return exchange.map(Event::Dropped);
        }
        let told = match event {
            None => None,
            Some(fetch::Event::Begun(_)) => exchange.map(Event::Begun),
            Some(fetch::Event::Done) => {
                let first = self.asked.pop_front();
                let can_go_on = self.waiting.front().is_none_or(|next| {
                    !self.asked.is_empty() || self.fetch.can_ask(stack, next.request.len())
                });
                let is_forgotten = self.fetch.is_resting() && !self.asked.is_empty();
                self.is_cut_off = is_forgotten || !can_go_on;
                exchange
                    .zip(first)
                    .map(|(exchange, first)| Event::Done(exchange, first))
            }
            // No HEAD is asked here.
            Some(fetch::Event::Probe(_)) => None,
            Some(fetch::Event::Lost(failure)) => {
                let was_asked = self.asks() > 0;
                if failure == Failure::Connect {
                    self.not_before = now + NAT_AGAIN;
                }
                self.abort_asked(stack);
                let exchange = exchange.filter(|_| was_asked);
                return exchange.map(|exchange| Event::Refused(exchange, refusal_of(failure)));
            }
        };
        self.ask_waiting(now, stack);
        told
    }

    /// Forgets what an exchange asked for.
    pub(super) fn cancel(&mut self, stack: &mut Stack<'_>, exchange: ExchangeId) {
        if self
            .used
            .as_ref()
            .is_some_and(|used| used.exchange == exchange)
        {
            if self.asked.is_empty() && !self.waiting.is_empty() {
                // It did not open in the time that the exchange had.
                self.not_before = self.tried_at + NAT_AGAIN;
            }
            if self.asks() > 0 {
                self.abort_asked(stack);
            }
            self.used = None;
        }
    }

    fn abort_asked(&mut self, stack: &mut Stack<'_>) {
        self.fetch.abort(stack);
        self.is_cut_off = false;
        self.asked.clear();
        self.waiting.clear();
    }

    /// Ends the connection and forgets everything asked.
    pub(super) fn abort(&mut self, stack: &mut Stack<'_>) {
        self.abort_asked(stack);
        self.used = None;
    }

    /// When [`pump`](Self::pump) must run although no segment came.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        match self.is_cut_off {
            true => Some(Instant::ZERO),
            false => self.fetch.poll_at(),
        }
    }
}
