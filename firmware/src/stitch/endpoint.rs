//! The listening end of one TCP connection: the lender's side of the peer hop.
//!
//! Small in what it receives (requests), good in what it sends: the stream is sent by [`Sender`], which
//! recovers from loss on the air. The bytes of the stream are the caller's: it appends them to an
//! [`Extents`](super::Extents), tells [`Endpoint::set_available`], and releases to
//! [`Endpoint::acked_position`].
//!
//! Follows: RFC 9293 (3.5, 3.10), RFC 5961 (resets, SYNs and ACKs from off the path), RFC 7323 (window
//! scale of the other side; the own is 0), RFC 2018 (SACK of the other side), RFC 1122 4.2.3.2 and
//! 4.2.3.6 (delayed ACK, keep-alive).
//!
//! Calling order: [`Endpoint::listen`]; `on_segment` for each segment; [`Endpoint::recv`];
//! `set_available`; [`Endpoint::poll_transmit`] until `None`; [`Endpoint::poll_at`].
//!
//! | from | input | to |
//! | --- | --- | --- |
//! | `Closed` | `listen` | `Listen` |
//! | `Listen` | SYN | `SynReceived`, SYN and ACK go out |
//! | `SynReceived` | ACK of the SYN | `Established` |
//! | `SynReceived` | no ACK after 5 tries, exact RST | `Closed` |
//! | `Established` | FIN / `close` | `CloseWait` / `FinWait1` |
//! | `CloseWait` | `close` | `LastAck` |
//! | `FinWait1` | ACK of FIN / FIN / both | `FinWait2` / `Closing` / `TimeWait` |
//! | `FinWait2` | FIN / silence of 10 s | `TimeWait` / `Closed` |
//! | `Closing` | ACK of FIN | `TimeWait` |
//! | `LastAck` | ACK of FIN | `Closed` |
//! | `TimeWait` | 10 s, or a new SYN | `Closed` |
//! | any but `Listen` | exact RST | `Closed` |
//! | any but `Listen` | `abort`, no answer for [`PEER_TCP_GIVE_UP`] | `Closed`, RST goes out |
//!
//! Units: bytes, sequence numbers. Invariants: I1 what is advertised never shrinks; I2 the receive
//! buffer has room for all that is advertised.
//!
//! Not done: bytes out of order are dropped (the requests of a peer fit a segment each); urgent data;
//! data in the SYN.

mod receive;

use crate::budget::{
    PEER_TCP_ACK_DELAY, PEER_TCP_CHALLENGE_EVERY, PEER_TCP_GIVE_UP, PEER_TCP_KEEP_ALIVE_AFTER,
    PEER_TCP_KEEP_ALIVE_EVERY, PEER_TCP_KEEP_ALIVE_TRIES, PEER_TCP_LINGER, PEER_TCP_RTO_MAX,
    PEER_TCP_SYN_TRIES, PEER_TCP_SYN_WAIT,
};
use smoltcp::time::Instant;

use super::sender::{AckInfo, AckOutcome, Kind, Sender, SenderConfig};
use super::{at_or_before, before};
use crate::wire::options::{OptionsBuf, SACK_BLOCKS_MAX, Summary};
use crate::wire::packet::flags;

/// Own MSS: 1500 bytes of IP without the headers.
const MSS: u16 = 1460;
/// Least MSS of the other side that is believed.
const MSS_MIN: u16 = 216;
/// MSS without the option (RFC 9293, 3.7.1).
const MSS_DEFAULT: u16 = 536;

/// A received segment, checksums verified.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits, see [`flags`].
    pub flags: u8,
    /// Window field as it came.
    pub window: u16,
    /// Options.
    pub options: &'a Summary,
    /// Payload.
    pub payload: &'a [u8],
}

/// A segment to be sent; the payload is at `position` of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
    /// Window field as on the wire.
    pub window: u16,
    /// Options.
    pub options: OptionsBuf,
    /// Position of the payload in the stream.
    pub position: u64,
    /// Payload, bytes.
    pub len: u16,
    /// Whether the payload was sent before.
    pub is_again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
enum State {
    Closed,
    Listen,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckDue {
    No,
    /// By then, unless data goes before.
    At(Instant),
    Now,
}

/// One passive connection with a receive buffer of `RX` bytes (at most 65,535).
pub struct Endpoint<const RX: usize = 4096> {
    state: State,
    /// First sequence number of this side: the SYN's.
    isn: u32,
    rcv_nxt: u32,
    /// Right edge of the advertised window.
    edge: u32,
    sack: bool,
    scaled: bool,
    ack_due: AckDue,
    /// Segments received since the last ACK went out.
    unacked: u8,
    tries: u8,
    /// Sequence number of a reset to be sent.
    reset: Option<u32>,
    syn_due: bool,
    /// Of the state: SYN again, end of TIME-WAIT or FIN-WAIT-2, keep-alive.
    timer: Option<Instant>,
    challenge_at: Instant,
    filled: usize,
    buffer: [u8; RX],
    sender: Sender,
}

impl<const RX: usize> Default for Endpoint<RX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const RX: usize> Endpoint<RX> {
    /// Closed.
    pub fn new() -> Self {
        const { assert!(RX >= 1 && RX <= 65_535, "windows are not scaled") };
        Endpoint {
            state: State::Closed,
            isn: 0,
            rcv_nxt: 0,
            edge: 0,
            sack: false,
            scaled: false,
            ack_due: AckDue::No,
            unacked: 0,
            tries: 0,
            reset: None,
            syn_due: false,
            timer: None,
            challenge_at: Instant::ZERO,
            filled: 0,
            buffer: [0; RX],
            sender: Sender::new(SenderConfig::new(0, MSS, 0, 0, false), Instant::ZERO),
        }
    }

    /// Waits for a SYN; `isn` is unpredictable (RFC 6528). Whatever was there before is forgotten.
    pub fn listen(&mut self, isn: u32) {
        self.state = State::Listen;
        self.isn = isn;
        self.filled = 0;
        self.reset = None;
        self.syn_due = false;
        self.ack_due = AckDue::No;
        self.timer = None;
    }

    /// Whether nothing is left of the connection, and nothing more is to be sent.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed && self.reset.is_none()
    }

    /// Whether the handshake is done and this side may send.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
    }

    /// Whether the other side sends nothing more; received bytes may still wait for [`recv`](Self::recv).
    pub fn is_remote_closed(&self) -> bool {
        match self.state {
            State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => true,
            State::Listen
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2 => false,
        }
    }

    /// Position of the stream up to which the other side acknowledged.
    pub fn acked_position(&self) -> u64 {
        self.sender.acked_position()
    }

    /// The sending half, for its figures.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Bytes of the stream up to `position` are held and may be sent.
    pub fn set_available(&mut self, position: u64) {
        self.sender.set_available(position);
    }

    /// Sends what is available without waiting for a fuller segment.
    pub fn flush(&mut self) {
        self.sender.flush();
    }

    /// Lends the received bytes to `take`, which says how many it is done with; returns that number.
    ///
    /// `take` is not called when there are none.
    pub fn recv(&mut self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        if self.filled == 0 {
            return 0;
        }
        let taken = take(&self.buffer[..self.filled]).min(self.filled);
        self.buffer.copy_within(taken..self.filled, 0);
        self.filled -= taken;
        // A window that had become too small for a segment is told to be open again.
        let told = self.edge.wrapping_sub(self.rcv_nxt);
        if taken > 0
            && told < Self::step()
            && self.wanted_edge().wrapping_sub(self.edge) >= Self::step()
        {
            self.ack_due = AckDue::Now;
        }
        taken
    }

    /// Sends FIN after the last available byte. Received bytes are still taken.
    pub fn close(&mut self) {
        match self.state {
            State::Listen => self.state = State::Closed,
            State::SynReceived => self.abort(),
            State::Established => {
                self.sender.finish();
                self.state = State::FinWait1;
            }
            State::CloseWait => {
                self.sender.finish();
                self.state = State::LastAck;
            }
            State::Closed
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
    }

    /// Ends the connection with a reset.
    pub fn abort(&mut self) {
        match self.state {
            State::Closed | State::Listen | State::TimeWait => {}
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => self.reset = Some(self.sender.next_seq()),
        }
        self.closed();
    }

    fn closed(&mut self) {
        self.state = State::Closed;
        self.timer = None;
        self.syn_due = false;
        self.ack_due = AckDue::No;
    }

    /// How far the window must open to be told (RFC 9293, 3.8.6.2.2).
    const fn step() -> u32 {
        if RX as u32 / 2 < MSS as u32 {
            RX as u32 / 2
        } else {
            MSS as u32
        }
    }

    fn wanted_edge(&self) -> u32 {
        self.rcv_nxt.wrapping_add((RX - self.filled) as u32)
    }

    /// The window to be told now.
    fn window(&mut self) -> u16 {
        let wanted = self.wanted_edge();
        if !self.is_remote_closed()
            && wanted.wrapping_sub(self.edge) as i32 >= Self::step().max(1) as i32
        {
            self.edge = wanted;
        }
        self.edge.wrapping_sub(self.rcv_nxt) as u16
    }

    /// When [`poll_transmit`](Self::poll_transmit) must be called next; to be asked after it gave `None`.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.reset.is_some() || self.syn_due {
            return Some(Instant::ZERO);
        }
        let ack = match self.ack_due {
            AckDue::No => None,
            AckDue::At(at) => Some(at),
            AckDue::Now => Some(Instant::ZERO),
        };
        let sender = if self.sends() {
            self.sender.poll_at()
        } else {
            None
        };
        [ack, self.timer, sender].into_iter().flatten().min()
    }

    fn sends(&self) -> bool {
        match self.state {
            State::Established
            | State::CloseWait
            | State::FinWait1
            | State::Closing
            | State::LastAck => true,
            State::Closed
            | State::Listen
            | State::SynReceived
            | State::FinWait2
            | State::TimeWait => false,
        }
    }

    /// The next segment to be sent now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if self.timer.is_some_and(|at| now >= at) {
            self.timer = None;
            if let Some(probe) = self.on_timer(now) {
                return Some(probe);
            }
        }
        if let Some(seq) = self.reset.take() {
            return Some(self.bare(seq, flags::RST | flags::ACK));
        }
        if self.syn_due {
            self.syn_due = false;
            if self.timer.is_none() {
                self.timer = Some(now + PEER_TCP_SYN_WAIT * (1 << self.tries));
            }
            let mut options = OptionsBuf::new().mss(MSS);
            if self.scaled {
                options = options.window_scale(0);
            }
            if self.sack {
                options = options.sack_permitted();
            }
            return Some(Outgoing {
                options,
                ..self.bare(self.isn, flags::SYN | flags::ACK)
            });
        }
        if self.sends() {
            if let Some(next) = self.sender.poll_transmit(now) {
                let mut control = flags::ACK;
                if next.push {
                    control |= flags::PSH;
                }
                if next.fin {
                    control |= flags::FIN;
                }
                let mut outgoing = self.bare(next.seq, control);
                outgoing.position = next.position;
                outgoing.len = next.len;
                outgoing.is_again = next.kind == Kind::Retransmit;
                return Some(outgoing);
            }
            if self.sender.dead() {
                self.abort();
                return self
                    .reset
                    .take()
                    .map(|seq| self.bare(seq, flags::RST | flags::ACK));
            }
        }
        let due = match self.ack_due {
            AckDue::No => false,
            AckDue::At(at) => now >= at,
            AckDue::Now => true,
        };
        due.then(|| self.bare(self.sender.next_seq(), flags::ACK))
    }

    /// The state's time is over.
    fn on_timer(&mut self, now: Instant) -> Option<Outgoing> {
        match self.state {
            State::SynReceived => {
                self.tries += 1;
                if self.tries < PEER_TCP_SYN_TRIES {
                    self.syn_due = true
                } else {
                    self.closed()
                }
                None
            }
            State::FinWait2 | State::TimeWait => {
                self.closed();
                None
            }
            State::Established | State::CloseWait => {
                if !self.sender.is_drained() {
                    // The sender's own timers find out.
                    self.timer = Some(now + PEER_TCP_KEEP_ALIVE_AFTER);
                    return None;
                }
                self.tries += 1;
                if self.tries > PEER_TCP_KEEP_ALIVE_TRIES {
                    self.abort();
                    return None;
                }
                self.timer = Some(now + PEER_TCP_KEEP_ALIVE_EVERY);
                // RFC 1122, 4.2.3.6: one below what the other side wants.
                Some(self.bare(self.sender.next_seq().wrapping_sub(1), flags::ACK))
            }
            State::Closed | State::Listen | State::FinWait1 | State::Closing | State::LastAck => {
                None
            }
        }
    }

    /// A segment without payload; it acknowledges.
    fn bare(&mut self, seq: u32, control: u8) -> Outgoing {
        self.ack_due = AckDue::No;
        self.unacked = 0;
        Outgoing {
            seq,
            ack: self.rcv_nxt,
            flags: control,
            window: self.window(),
            options: OptionsBuf::new(),
            position: 0,
            len: 0,
            is_again: false,
        }
    }
}

#[cfg(test)]
mod tests;
