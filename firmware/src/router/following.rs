//! A connection from one request that is left alone to the next one.
//!
//! | stage | sees | next |
//! | --- | --- | --- |
//! | `Watched`, `Answered` | a request that is left alone, whole in its segment and without body | `Asked` |
//! | `Asked` | the reply's first segment, with the whole head, which tells the length | `Answered` |
//! | `Answered` | a request exactly behind the request and the reply | as `Watched` |
//! | any | anything else | `Plain`, for ever |
//!
//! A request that an exchange has read comes to `Answered` as well, by [`Outcome::Answered`]. While the reply passes, its
//! segments and the client's acknowledgments go the way of plain ones; nothing is copied.
//!
//! Follows: RFC 9112 section 9.3.2 (pipelining), FAULTS.md Q4, G7.
//!
//! [`Outcome::Answered`]: crate::exchange::Outcome::Answered

use smoltcp::time::Instant;

use super::Verdict;
use super::accelerator::{Accelerator, Counter, Lent};
use crate::classify::Reason;
use crate::conntrack::{Direction, EntryId, Place, Stage, Tcp};
use crate::exchange::{self, Why, framing};
use crate::port::Egress;
use crate::settings::{Accel, Probe};
use crate::wire::packet::{self, Packet, flags};
use crate::wire::seq;

impl Tcp {
    /// Whether a segment of a connection whose reply's end is known goes the plain way.
    #[inline]
    pub(super) fn passes_between_requests(&self, direction: Direction, packet: &Packet) -> bool {
        self.stage == Stage::Answered
            && (direction == Direction::Reply || packet.payload_len() == 0)
    }

    /// A request in pieces is not read, nor what follows it; what is to be said of that.
    pub(super) fn stop_following(&mut self) -> exchange::Verdict {
        let verdict = match self.stage {
            Stage::Plain | Stage::Exchange(_) => return exchange::Verdict::None,
            Stage::Watched => exchange::Verdict::NotARequest,
            Stage::Asked | Stage::Answered => exchange::Verdict::LostTrack,
        };
        self.stage = Stage::Plain;
        self.verdict = verdict;
        verdict
    }

    /// The window field for a segment of the client while the connection is followed, if not its own.
    #[inline]
    pub(super) fn window_while_followed(&self, segment: &packet::Tcp) -> Option<u16> {
        if segment.has_any(flags::SYN | flags::RST) {
            return None;
        }
        let ack = segment.ack.wrapping_sub(self.shift.reply_bytes);
        let shift = self.window_shift(Direction::Original);
        self.follow.window_to_origin(ack, segment.window, shift)
    }
}

impl Accelerator<'_> {
    /// A request is left alone: the connection is followed if that is sure to be right.
    pub(super) fn follow_request(
        tcp: &mut Tcp,
        payload: &[u8],
        why: Why,
        port: u16,
        accel: &Accel,
    ) {
        tcp.stage = Stage::Plain;
        let may_change = match why {
            // What is so for all of the connection.
            Why::Plain(Reason::Disabled | Reason::Port) | Why::TinySegments => false,
            Why::Plain(_)
            | Why::NoPeer
            | Why::NoRoom
            | Why::TooLate
            | Why::NoHelp
            | Why::Host(_) => true,
            Why::Late | Why::Line(_) | Why::Interrupted | Why::Pipelined | Why::AddressChanged => {
                false
            }
        };
        // With a probe of its own a request may be held, for which the window need not be known.
        if !may_change || accel.probe != Probe::Reply {
            return;
        }
        if let Some(framed) = framing::request(payload, port) {
            tcp.follow.ask(payload, framed.head_only);
            tcp.stage = Stage::Asked;
        }
    }

    /// A segment of a connection that is followed, beside those that pass anyway. Conntrack has judged it.
    pub(super) fn on_followed<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        frame: &[u8],
        lent: &mut Lent<'_, E>,
    ) -> Option<Verdict> {
        let tcp = &mut lent.table.get_mut(id)?.tcp;
        let segment = packet.tcp()?;
        let len = packet.payload_len();
        if len == 0 {
            return None;
        }
        let view = tcp.in_origin_view(direction, segment, packet.sequence_len());
        let payload = packet.payload(frame);
        let is_ordinary = !segment.has_any(flags::SYN | flags::RST | flags::URG);
        let place = match (direction, tcp.stage) {
            (Direction::Original, Stage::Asked) => tcp.follow.place_while_asked(view.seq, payload),
            (Direction::Original, _) => {
                // The origin may have sent more than the reply: what comes then is not read as this one's answer.
                let is_all = tcp.origin.next == tcp.follow.reply;
                match tcp.follow.place(view.seq, view.ack, len as u32) {
                    Place::Next if is_all => Place::Next,
                    Place::Next | Place::Astray => Place::Astray,
                    Place::Again => Place::Again,
                }
            }
            (Direction::Reply, Stage::Asked) => {
                let is_old = seq::le(view.seq.wrapping_add(len as u32), tcp.follow.reply);
                let is_first = view.seq == tcp.follow.reply && view.ack == tcp.follow.request;
                let bytes = framing::reply(payload, tcp.follow.head_only)
                    .filter(|&bytes| is_first && len as u32 <= bytes);
                match (is_old, bytes) {
                    (true, _) => Place::Again,
                    (false, Some(bytes)) => {
                        tcp.follow.answer(bytes);
                        tcp.stage = Stage::Answered;
                        self.counts.bump(Counter::Followed);
                        Place::Again
                    }
                    (false, None) => Place::Astray,
                }
            }
            (Direction::Reply, _) => Place::Again,
        };
        match place {
            Place::Again if is_ordinary => None,
            Place::Next if is_ordinary && lent.settings.accel.probe == Probe::Reply => {
                self.on_watched(now, id, packet, frame, lent)
            }
            Place::Again | Place::Next | Place::Astray => {
                self.leave(lent.table, id, exchange::Verdict::LostTrack);
                None
            }
        }
    }
}
