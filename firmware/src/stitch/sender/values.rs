//! What goes into a sender and what comes out.

use crate::budget::{SENDER_FLIGHT_BYTES_MAX, SENDER_GIVE_UP, SENDER_RTO_MAX, SENDER_RTO_MIN};
use smoltcp::time::Duration;

use super::LossResponse;

/// What a sender starts from.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// Sequence number of the first byte to send.
    pub first_seq: u32,
    /// Position of that byte in its stream.
    pub first_position: u64,
    /// Largest payload of a segment, bytes; 0 is taken as 1.
    pub mss: u16,
    /// Window the peer advertised last, scaled, counted from `first_seq`, bytes.
    pub peer_window: u32,
    /// Scale of the windows in its coming segments; above 14 is taken as 14.
    pub peer_shift: u8,
    /// Whether both ends agreed on selective acknowledgement.
    pub sack: bool,
    /// First congestion window, bytes; 0 for RFC 6928's ten segments.
    pub initial_cwnd: u32,
    /// Most bytes ever in flight.
    pub flight_max: u32,
    /// What a loss does to the congestion window.
    pub loss_response: LossResponse,
    /// Least retransmission timeout.
    pub rto_min: Duration,
    /// Largest timeout after backing off; RFC 6298 wants 60 s, one hop to a known neighbour less.
    pub rto_max: Duration,
    /// Round trip known beforehand, from a handshake.
    pub rtt: Option<Duration>,
    /// Without progress for so long the peer is given up (RFC 9293, 3.8.3: R2 of 100 s at least).
    pub give_up: Duration,
}

impl SenderConfig {
    /// Usual values; the caller names what the connection negotiated.
    pub const fn new(
        first_seq: u32,
        mss: u16,
        peer_window: u32,
        peer_shift: u8,
        sack: bool,
    ) -> Self {
        SenderConfig {
            first_seq,
            first_position: 0,
            mss,
            peer_window,
            peer_shift,
            sack,
            initial_cwnd: 0,
            flight_max: SENDER_FLIGHT_BYTES_MAX,
            loss_response: LossResponse::Measured,
            rto_min: SENDER_RTO_MIN,
            rto_max: SENDER_RTO_MAX,
            rtt: None,
            give_up: SENDER_GIVE_UP,
        }
    }
}

/// What a received segment says to the sender. SYN and RST segments are not given to it.
#[derive(Clone, Copy, Debug)]
pub struct AckInfo<'a> {
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Its window field as it came, not scaled.
    pub window: u16,
    /// Its SACK blocks, start and end.
    pub sack: &'a [(u32, u32)],
    /// Its payload, bytes.
    pub payload_len: usize,
    /// Whether it has FIN.
    pub fin: bool,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum AckOutcome {
    /// So many sequence numbers were acknowledged for the first time.
    Advanced(u32),
    /// Nothing new was acknowledged; window and SACK were taken.
    Unchanged,
    /// It acknowledges less than an earlier one: ignored.
    Old,
    /// It acknowledges what was never sent: ignored, to be answered by an ACK (RFC 9293, 3.10.7.4).
    NeverSent,
}

/// Why a segment is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Kind {
    /// For the first time.
    New,
    /// Again.
    Retransmit,
    /// To make the peer tell its window: no payload, one sequence number below what it wants.
    Probe,
}

/// One segment to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Position of the payload in the stream.
    pub position: u64,
    /// Sequence number of the segment.
    pub seq: u32,
    /// Payload, bytes; at most the MSS.
    pub len: u16,
    /// Whether FIN follows the payload.
    pub fin: bool,
    /// Whether PSH is due: nothing more is available behind it.
    pub push: bool,
    /// Why.
    pub kind: Kind,
}
