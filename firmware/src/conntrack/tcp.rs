//! The state of a TCP connection as seen from the middle, and which segments belong to it.
//!
//! Follows: RFC 9293 section 3.10 (states), RFC 5382 (behaviour of translators), RFC 5961 (blind
//! attacks), RFC 7323 section 2 (window scale). The window checks are those of van Rooij, "Real
//! Stateful TCP Packet Filtering in IP Filter" (2000), made wider by [`SLACK_BYTES`].
//! Units: sequence numbers and bytes.
//!
//! **Numbers.** Everything kept here is in the origin's view: what the client numbers is turned
//! into what the origin sees of it by [`SeqShift`] before it is compared or kept. While no
//! exchange was ever answered by the router the two views are the same.
//!
//! | state | segment | next |
//! | --- | --- | --- |
//! | `SynSent` | SYN of the origin, acknowledging ours or none (RFC 9293 figure 8) | `SynReceived` |
//! | `SynSent` | RST that acknowledges the SYN | `Closed` |
//! | `SynReceived` | ACK of the client | `Established` |
//! | `SynReceived`, `Established` | FIN of one side | `HalfClosed` |
//! | `HalfClosed` | FIN of the other side | `Closing` |
//! | `Closing` | both FINs acknowledged | `TimeWait` |
//! | any but `SynSent` | RST exactly where the other side expects it (RFC 5961 section 3.2) | `Closed` |
//! | `TimeWait`, `Closed` | SYN of the client | `SynSent`, all forgotten |
//!
//! In every state from `SynReceived` on, `Closed` too, a segment passes only if its numbers fit.
//!
//! Invariants:
//! - I1 `ack` of a side never lies beyond `next` of the other.
//! - I2 stage is `Plain` before `Established`.

use crate::exchange::Verdict;
use crate::wire::options::{Summary, WINDOW_SCALE_MAX};
use crate::wire::packet::flags;
use crate::wire::seq;

use super::{Direction, Follow};

/// Added to every lower bound: old duplicates that are harmless need not be told from attacks
/// more exactly than to the largest unscaled window.
pub const SLACK_BYTES: u32 = 65_535;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum State {
    /// The client's SYN has passed.
    SynSent,
    /// The origin's SYN has passed.
    SynReceived,
    /// Both SYNs are acknowledged.
    Established,
    /// One side has sent FIN.
    HalfClosed,
    /// Both sides have sent FIN.
    Closing,
    /// Both FINs are acknowledged.
    TimeWait,
    /// A side has sent RST.
    Closed,
}

impl State {
    /// The state's word on the console.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::Closing => "closing",
            Self::TimeWait => "time-wait",
            Self::Closed => "closed",
        }
    }
}

/// An exchange that the router answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct ExchangeId(pub u8);

/// What the accelerator has to do with the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Stage {
    /// Nothing, for ever: plain translation.
    Plain,
    /// The client's next bytes may be a request head.
    Watched,
    /// A request passed; the head of its reply is awaited.
    Asked,
    /// A reply passes whose end is known: behind it the client's next bytes may be a request head.
    Answered,
    /// The router is the client's TCP peer for now.
    Exchange(ExchangeId),
}

/// How far the two ends' numbers have come apart, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, defmt::Format)]
pub struct SeqShift {
    /// Bytes of the client that the router absorbed and the origin never saw.
    pub request_bytes: u32,
    /// Bytes that the router sent to the client and the origin never did.
    pub reply_bytes: u32,
}

impl SeqShift {
    /// No number has to be changed.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.request_bytes | self.reply_bytes == 0
    }

    /// What to add to the sequence number and to the acknowledgment number (SACK edges too) of a
    /// segment in this direction.
    #[inline]
    pub const fn additions(&self, direction: Direction) -> (u32, u32) {
        match direction {
            Direction::Original => (
                self.request_bytes.wrapping_neg(),
                self.reply_bytes.wrapping_neg(),
            ),
            Direction::Reply => (self.reply_bytes, self.request_bytes),
        }
    }
}

/// What one end has said; numbers in the origin's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Initial sequence number.
    pub isn: u32,
    /// Highest sequence number behind anything it sent (SND.NXT as seen from here).
    pub next: u32,
    /// Highest acknowledgment number it sent.
    pub ack: u32,
    /// Highest acknowledgment plus window: nothing of the other side may lie beyond.
    pub limit: u32,
    /// Largest window it offered, bytes.
    pub window_bytes_max: u32,
    /// Window field of its last segment, not scaled.
    pub window: u16,
    /// Maximum segment size of its SYN, bytes.
    pub mss: Option<u16>,
    /// Window scale of its SYN; used only if both sides sent one.
    pub window_scale: Option<u8>,
    /// SACK permitted in its SYN; used only if both sides sent it.
    pub sack_permitted: bool,
    /// Sequence number behind its FIN.
    pub fin: Option<u32>,
    /// Its SYN was seen.
    pub open: bool,
}

impl Side {
    const NONE: Self = Self {
        isn: 0,
        next: 0,
        ack: 0,
        limit: 0,
        window_bytes_max: 0,
        window: 0,
        mss: None,
        window_scale: None,
        sack_permitted: false,
        fin: None,
        open: false,
    };

    fn opened(segment: &Segment, options: &Summary) -> Self {
        Self {
            isn: segment.seq,
            next: segment.end(),
            ack: segment.ack,
            limit: segment.ack.wrapping_add(u32::from(segment.window)),
            window_bytes_max: u32::from(segment.window).max(1),
            window: segment.window,
            mss: options.mss,
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            fin: None,
            open: true,
        }
    }
}

/// A segment's numbers in the origin's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number, 0 without ACK.
    pub ack: u32,
    /// Length in sequence space: payload, SYN, FIN.
    pub len: u32,
    /// Window field.
    pub window: u16,
    /// Control bits.
    pub flags: u8,
}

impl Segment {
    const fn has(&self, mask: u8) -> bool {
        self.flags & mask != 0
    }

    const fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }
}

/// Why a segment does not belong to the connection; it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Invalid {
    /// Control bits that no state allows.
    Flags,
    /// Sequence numbers outside the window.
    Window,
    /// Acknowledges what was never sent, or what was acknowledged long ago.
    Ack,
}

/// A tracked connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Where the connection stands.
    pub state: State,
    /// What the accelerator has to do with it.
    pub stage: Stage,
    /// Difference of the two ends' numbers.
    pub shift: SeqShift,
    /// Where the next request begins; of no meaning while the stage is `Plain`.
    pub follow: Follow,
    /// What became of the last request.
    pub verdict: Verdict,
    /// What the client said.
    pub client: Side,
    /// What the origin said.
    pub origin: Side,
    /// The port is one that may be accelerated.
    pub candidate: bool,
    /// The port and the options of the SYNs so far allow acceleration; then the client's SYN
    /// leaves without its timestamps.
    pub watchable: bool,
}

impl Tcp {
    /// Before any segment.
    pub const NONE: Self = Self {
        state: State::SynSent,
        stage: Stage::Plain,
        shift: SeqShift {
            request_bytes: 0,
            reply_bytes: 0,
        },
        follow: Follow::from(0, 0),
        verdict: Verdict::None,
        client: Side::NONE,
        origin: Side::NONE,
        candidate: false,
        watchable: false,
    };

    /// A connection whose first SYN has come from the client; `candidate` when its port is one
    /// that may be accelerated.
    pub fn opened(segment: &Segment, options: &Summary, candidate: bool) -> Self {
        Self {
            client: Side::opened(segment, options),
            candidate,
            watchable: candidate && allows_forging(options),
            ..Self::NONE
        }
    }

    /// What one end said.
    pub const fn side(&self, sender: Direction) -> &Side {
        match sender {
            Direction::Original => &self.client,
            Direction::Reply => &self.origin,
        }
    }

    /// Initial sequence number of the client.
    pub const fn client_isn(&self) -> u32 {
        self.client.isn
    }

    /// Initial sequence number of the origin.
    pub const fn origin_isn(&self) -> u32 {
        self.origin.isn
    }

    /// Both ends take and send SACK.
    pub const fn sack_permitted(&self) -> bool {
        self.client.sack_permitted && self.origin.sack_permitted
    }

    /// Shift of the window fields that this end sends, outside of SYNs; 0 unless both ends scale.
    #[inline]
    pub const fn window_shift(&self, sender: Direction) -> u8 {
        match (
            self.side(sender).window_scale,
            self.side(sender.opposite()).window_scale,
        ) {
            (Some(shift), Some(_)) if shift <= WINDOW_SCALE_MAX => shift,
            (Some(_), Some(_)) => WINDOW_SCALE_MAX,
            (Some(_), None) | (None, Some(_)) | (None, None) => 0,
        }
    }

    /// Ends an exchange in which the router absorbed `request_bytes` that had passed this
    /// tracker and sent `reply_bytes` of its own: the origin is where it was before.
    ///
    /// `client_window` is the window field of the client's last segment.
    pub fn absorb(&mut self, request_bytes: u32, reply_bytes: u32, client_window: u16) {
        self.shift.request_bytes = self.shift.request_bytes.wrapping_add(request_bytes);
        self.shift.reply_bytes = self.shift.reply_bytes.wrapping_add(reply_bytes);
        self.client.next = self.client.next.wrapping_sub(request_bytes);
        self.client.window = client_window;
    }

    /// A segment's numbers in the origin's view.
    #[inline]
    pub fn in_origin_view(
        &self,
        direction: Direction,
        tcp: &crate::wire::packet::Tcp,
        len: u32,
    ) -> Segment {
        let has_ack = tcp.flags & flags::ACK != 0;
        let (seq, ack) = match direction {
            Direction::Original => (
                tcp.seq.wrapping_sub(self.shift.request_bytes),
                tcp.ack.wrapping_sub(self.shift.reply_bytes),
            ),
            Direction::Reply => (tcp.seq, tcp.ack),
        };
        Segment {
            seq,
            ack: if has_ack { ack } else { 0 },
            len,
            window: tcp.window,
            flags: tcp.flags,
        }
    }

    /// Takes a segment; `options` is called for SYNs only.
    ///
    /// # Errors
    /// [`Invalid`] when the segment is no part of the connection: nothing has changed.
    #[inline]
    pub fn on_segment(
        &mut self,
        direction: Direction,
        segment: &Segment,
        options: impl FnOnce() -> Summary,
    ) -> Result<(), Invalid> {
        if self.state == State::Established && !segment.has(flags::SYN | flags::FIN | flags::RST) {
            self.check_window(direction, segment)?;
            self.advance(direction, segment);
            return Ok(());
        }
        self.on_control(direction, segment, options)
    }

    /// Whether a segment belongs to the connection as it stands, a reset exactly where it is expected (RFC 5961
    /// section 3.2); nothing changes.
    pub fn fits(&self, direction: Direction, segment: &Segment) -> bool {
        if segment.has(flags::RST) {
            let expected = self.side(direction.opposite()).ack;
            return segment.seq == expected || segment.seq == self.side(direction).next;
        }
        self.check_window(direction, segment).is_ok()
    }

    /// Takes the sequence number behind a later fragment of an accepted segment.
    ///
    /// # Errors
    /// [`Invalid::Window`] when it lies beyond what the other side takes.
    pub fn on_fragment(&mut self, direction: Direction, end: u32) -> Result<(), Invalid> {
        if seq::diff(end, self.side(direction.opposite()).limit) > 1 {
            return Err(Invalid::Window);
        }
        let side = self.side_mut(direction);
        if seq::gt(end, side.next) {
            side.next = end;
        }
        Ok(())
    }

    /// Everything but a plain segment of an established connection.
    fn on_control(
        &mut self,
        direction: Direction,
        segment: &Segment,
        options: impl FnOnce() -> Summary,
    ) -> Result<(), Invalid> {
        if segment.has(flags::SYN) && segment.has(flags::FIN | flags::RST)
            || !segment.has(flags::SYN | flags::ACK | flags::RST)
        {
            return Err(Invalid::Flags);
        }
        if segment.has(flags::RST) {
            return self.on_reset(direction, segment);
        }
        if segment.has(flags::SYN) {
            return self.on_syn(direction, segment, options);
        }
        match self.state {
            // "If the segment acknowledges something not yet sent … send a reset": the client must
            // see an old connection's challenge ACK to be able to (RFC 9293 section 3.5.1).
            State::SynSent => match direction {
                Direction::Reply => Ok(()),
                Direction::Original => Err(Invalid::Flags),
            },
            // What was on the way when the reset passed; nothing else reaches an end that is gone.
            State::Closed => self.check_window(direction, segment),
            State::SynReceived
            | State::Established
            | State::HalfClosed
            | State::Closing
            | State::TimeWait => {
                self.check_window(direction, segment)?;
                self.advance(direction, segment);
                self.transit(direction, segment);
                Ok(())
            }
        }
    }

    /// The state after an accepted segment with ACK and perhaps FIN.
    fn transit(&mut self, direction: Direction, segment: &Segment) {
        if self.state == State::SynReceived && direction == Direction::Original {
            self.state = State::Established;
            if self.watchable && self.stage == Stage::Plain {
                self.stage = Stage::Watched;
                let first = |isn: u32| isn.wrapping_add(1);
                self.follow = Follow::from(first(self.client.isn), first(self.origin.isn));
            }
        }
        if segment.has(flags::FIN)
            && matches!(
                self.state,
                State::SynReceived | State::Established | State::HalfClosed
            )
        {
            self.side_mut(direction).fin = Some(segment.end());
        }
        self.state = match (self.state, self.client.fin, self.origin.fin) {
            (State::Closing, Some(client), Some(origin))
                if seq::ge(self.origin.ack, client) && seq::ge(self.client.ack, origin) =>
            {
                State::TimeWait
            }
            (State::Established | State::SynReceived | State::HalfClosed, Some(_), Some(_)) => {
                State::Closing
            }
            (State::Established | State::SynReceived, Some(_), None)
            | (State::Established | State::SynReceived, None, Some(_)) => State::HalfClosed,
            (state, _, _) => state,
        };
    }

    fn on_syn(
        &mut self,
        direction: Direction,
        segment: &Segment,
        options: impl FnOnce() -> Summary,
    ) -> Result<(), Invalid> {
        match (self.state, direction) {
            (State::TimeWait | State::Closed, Direction::Original) if !segment.has(flags::ACK) => {
                let isn = segment.seq.wrapping_add(self.shift.request_bytes);
                *self = Self::opened(
                    &Segment {
                        seq: isn,
                        ..*segment
                    },
                    &options(),
                    self.candidate,
                );
                Ok(())
            }
            (State::SynSent, Direction::Original) if !segment.has(flags::ACK) => {
                // A retransmission, perhaps with fewer options, or another try with another number.
                *self = Self::opened(segment, &options(), self.candidate);
                Ok(())
            }
            (State::SynSent, Direction::Reply) => {
                let first = self.client.isn.wrapping_add(1);
                let acknowledged =
                    seq::ge(segment.ack, first) && seq::le(segment.ack, self.client.next);
                if segment.has(flags::ACK) && !acknowledged {
                    // For the client to reset, as above.
                    return Ok(());
                }
                let options = options();
                self.watchable &= allows_forging(&options) && options.timestamps.is_none();
                self.origin = Side::opened(segment, &options);
                if !segment.has(flags::ACK) {
                    self.origin.ack = self.client.isn;
                    self.origin.limit = first.wrapping_add(u32::from(segment.window));
                }
                // The client's SYN could not say yet what it acknowledges.
                self.client.ack = self.origin.isn;
                self.client.limit = self.origin.next.wrapping_add(u32::from(self.client.window));
                self.state = State::SynReceived;
                Ok(())
            }
            // Repeated, or SYN and ACK of a simultaneous open: passes and changes nothing.
            (_, _) if self.side(direction).open && segment.seq == self.side(direction).isn => {
                Ok(())
            }
            // RFC 5961 section 4: the receiver answers with a challenge ACK, "irrespective of the
            // sequence number"; of the client any SYN may pass, of the origin's side only one in
            // the window.
            (
                State::SynReceived | State::Established | State::HalfClosed | State::Closing,
                Direction::Original,
            ) => Ok(()),
            (
                State::SynReceived | State::Established | State::HalfClosed | State::Closing,
                Direction::Reply,
            ) => self.check_sequence(direction, segment),
            (State::SynSent | State::TimeWait | State::Closed, _) => Err(Invalid::Flags),
        }
    }

    /// RFC 5961 section 3.2: only a RST at exactly the expected number ends the connection; one
    /// elsewhere in the window passes, for the receiver to challenge.
    fn on_reset(&mut self, direction: Direction, segment: &Segment) -> Result<(), Invalid> {
        match (self.state, direction) {
            (State::SynSent, Direction::Reply) => {
                if segment.has(flags::ACK) && segment.ack == self.client.next {
                    self.state = State::Closed;
                    Ok(())
                } else {
                    Err(Invalid::Ack)
                }
            }
            // The answer to a challenge ACK of an older connection, or the client gave up.
            (State::SynSent, Direction::Original) => Ok(()),
            (State::Closed, _) => self.check_sequence(direction, segment),
            (
                State::SynReceived
                | State::Established
                | State::HalfClosed
                | State::Closing
                | State::TimeWait,
                _,
            ) => {
                self.check_sequence(direction, segment)?;
                let expected = self.side(direction.opposite()).ack;
                if segment.seq == expected || segment.seq == self.side(direction).next {
                    self.state = State::Closed;
                }
                Ok(())
            }
        }
    }

    /// Sequence and acknowledgment numbers lie where the two sides can be.
    #[inline]
    fn check_window(&self, direction: Direction, segment: &Segment) -> Result<(), Invalid> {
        if !segment.has(flags::ACK) {
            return Err(Invalid::Flags);
        }
        self.check_sequence(direction, segment)?;
        let (sender, receiver) = (self.side(direction), self.side(direction.opposite()));
        let unacknowledged = receiver.next.wrapping_sub(segment.ack);
        // I1: what the other side never sent cannot be acknowledged.
        if unacknowledged > sender.window_bytes_max.saturating_add(2 * SLACK_BYTES) {
            return Err(Invalid::Ack);
        }
        Ok(())
    }

    #[inline]
    fn check_sequence(&self, direction: Direction, segment: &Segment) -> Result<(), Invalid> {
        let (sender, receiver) = (self.side(direction), self.side(direction.opposite()));
        // One byte more: a probe of a closed window (RFC 9293 section 3.8.6.1).
        let beyond = seq::diff(segment.end(), receiver.limit) > 1;
        let back = seq::diff(sender.next, segment.seq);
        let back_max = receiver.window_bytes_max.saturating_add(SLACK_BYTES);
        if beyond || (back > 0 && back as u32 > back_max) {
            return Err(Invalid::Window);
        }
        Ok(())
    }

    /// Notes what an accepted segment says.
    #[inline]
    fn advance(&mut self, direction: Direction, segment: &Segment) {
        let bytes = u32::from(segment.window) << self.window_shift(direction);
        let side = self.side_mut(direction);
        if seq::gt(segment.end(), side.next) {
            side.next = segment.end();
        }
        if seq::ge(segment.ack, side.ack) {
            side.ack = segment.ack;
            side.window = segment.window;
        }
        let limit = segment.ack.wrapping_add(bytes);
        if seq::gt(limit, side.limit) {
            side.limit = limit;
        }
        if bytes > side.window_bytes_max {
            side.window_bytes_max = bytes;
        }
    }

    fn side_mut(&mut self, sender: Direction) -> &mut Side {
        match sender {
            Direction::Original => &mut self.client,
            Direction::Reply => &mut self.origin,
        }
    }

    /// Whether `seq`, quoted by an ICMP error from a segment of `sender`, is in flight: sent and
    /// not yet acknowledged (RFC 5927 section 4.1). In the origin's view.
    pub const fn is_in_flight(&self, sender: Direction, quoted: u32) -> bool {
        let una = self.side(sender.opposite()).ack;
        let next = self.side(sender).next;
        match self.state {
            State::SynSent => quoted == self.client.isn,
            State::SynReceived
            | State::Established
            | State::HalfClosed
            | State::Closing
            | State::TimeWait
            | State::Closed => seq::ge(quoted, una) && seq::lt(quoted, next),
        }
    }

    /// Asserts the invariants of the module header; in debug builds only.
    pub fn check(&self) {
        if cfg!(debug_assertions) && self.client.open && self.origin.open {
            assert!(seq::le(self.origin.ack, self.client.next), "I1 {self:?}");
            assert!(seq::le(self.client.ack, self.origin.next), "I1 {self:?}");
            assert!(
                self.stage == Stage::Plain
                    || !matches!(self.state, State::SynSent | State::SynReceived),
                "I2 {self:?}"
            );
        }
    }
}

/// No option is there that binds a segment to its sender, or of which we do not know whether it does.
const fn allows_forging(options: &Summary) -> bool {
    !options.binding && !options.unknown && !options.malformed
}

#[cfg(test)]
mod tests;
