//! What an exchange knows of its flow, and the way its segments leave.

use heapless::{CapacityError, Vec};
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::why::Verdict;
use crate::conntrack::EntryId;
use crate::port::Full;
use crate::stitch::sender::{Sender, SenderConfig};
use crate::wire::segment::SackBlock;

/// Largest segment the router sends to a client: 1500 bytes of IP, no options.
const MSS_MAX: u16 = 1460;
/// Clients with a smaller MSS are left alone (FAULTS T1), origins' are taken as this.
const MSS_MIN: u16 = 216;
/// RFC 9293 section 3.7.1: what a peer takes that named no MSS.
const MSS_DEFAULT: u16 = 536;

/// Addresses and ports of a flow; first the side, then its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client on the LAN.
    pub client: (Ipv4Address, u16),
    /// The origin.
    pub origin: (Ipv4Address, u16),
    /// What the origin sees as the client: the WAN address and the translated port.
    pub wan: (Ipv4Address, u16),
}

/// A flow as it stood when its request came.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Its entry in conntrack.
    pub entry: Option<EntryId>,
    /// Who talks to whom.
    pub ends: Ends,
    /// Sequence number of the request's first byte, as the client counts.
    pub request_seq: u32,
    /// Sequence number of the reply's first byte, as the client counts.
    pub reply_seq: u32,
    /// Request bytes of this flow that never reached the origin: subtract from the client's seq.
    pub request_shift: u32,
    /// Reply bytes of this flow that the origin never sent: subtract from the client's ack.
    pub reply_shift: u32,
    /// The client's MSS option.
    pub client_mss: Option<u16>,
    /// The origin's MSS option.
    pub origin_mss: Option<u16>,
    /// The shift of windows the client advertises; 0 unless both sides scale (RFC 7323 section 2.2).
    pub client_window_shift: u8,
    /// The shift of windows the origin advertises, likewise.
    pub origin_window_shift: u8,
    /// Both sides permitted SACK.
    pub sack: bool,
    /// The client's window field seen last.
    pub window: u16,
    /// How much of the reply the origin was told it may send, bytes: the most that was ever advertised.
    pub edge: u32,
    /// What was said of the request, once that is known.
    pub verdict: Verdict,
}

impl Flow {
    /// A flow that is none, to fill a free slot.
    pub(super) fn none() -> Self {
        let nobody = (Ipv4Address::UNSPECIFIED, 0);
        Self {
            entry: None,
            ends: Ends {
                client: nobody,
                origin: nobody,
                wan: nobody,
            },
            request_seq: 0,
            reply_seq: 0,
            request_shift: 0,
            reply_shift: 0,
            client_mss: None,
            origin_mss: None,
            client_window_shift: 0,
            origin_window_shift: 0,
            sack: false,
            window: 0,
            edge: 0,
            verdict: Verdict::None,
        }
    }

    /// A sender that continues the origin's stream to the client.
    pub(super) fn sender(&self, now: Instant) -> Sender {
        self.sender_at(now, 0)
    }

    /// The same from a position of the stream on, all before which the client has acknowledged.
    pub(super) fn sender_at(&self, now: Instant, position: u64) -> Sender {
        let mss = self.client_mss.unwrap_or(MSS_DEFAULT).clamp(1, MSS_MAX);
        let window = u32::from(self.window) << self.client_window_shift;
        let mut config = SenderConfig::new(
            // Sequence numbers are positions modulo 2^32.
            self.reply_seq.wrapping_add(position as u32),
            mss,
            window,
            self.client_window_shift,
            self.sack,
        );
        config.first_position = position;
        Sender::new(config, now)
    }

    /// Largest segment of the client's that goes to the origin: what both of them take.
    pub(super) fn mss_to_origin(&self) -> u16 {
        let client = self.client_mss.unwrap_or(MSS_MAX);
        let origin = self.origin_mss.unwrap_or(MSS_DEFAULT);
        client.min(origin).clamp(MSS_MIN, MSS_MAX)
    }

    /// Whether the client takes segments too small to be worth making (FAULTS T1).
    pub(super) fn is_tiny(&self) -> bool {
        self.client_mss.is_some_and(|mss| mss < MSS_MIN)
    }

    /// The window field that tells the client to send on: 64 KiB, as the origin's scale has it.
    pub(super) fn window_to_client(&self) -> u16 {
        (u16::MAX >> self.origin_window_shift).max(1)
    }
}

/// A segment of the client, as far as an exchange cares; sequence numbers as the client counts.
#[derive(Clone, Copy, Debug)]
pub struct ClientSegment<'a> {
    /// Sequence number of its first byte.
    pub seq: u32,
    /// Acknowledgment number, if the ACK bit is set.
    pub ack: Option<u32>,
    /// Window field.
    pub window: u16,
    /// FIN bit.
    pub fin: bool,
    /// SYN bit.
    pub syn: bool,
    /// RST bit.
    pub rst: bool,
    /// URG bit.
    pub urg: bool,
    /// SACK blocks in the order received.
    pub sack: &'a [SackBlock],
    /// Data.
    pub payload: &'a [u8],
}

/// A segment of the origin on the client's own connection.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Sequence number, as the origin counts.
    pub seq: u32,
    /// Acknowledgment number, as the origin counts.
    pub ack: u32,
    /// SYN bit.
    pub syn: bool,
    /// FIN bit.
    pub fin: bool,
    /// RST bit.
    pub rst: bool,
    /// Data.
    pub payload: &'a [u8],
}

/// What becomes of a segment shown to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Decision {
    /// It goes on as on any flow.
    Forward,
    /// The exchange dealt with it.
    Taken,
}

/// How an exchange ended, for conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Outcome {
    /// The held request went out as it came: the flow is plain for ever.
    Plain {
        /// Bytes of it.
        request_bytes: u32,
    },
    /// Nothing was held and nothing was added: plain from now on, as it stands.
    Passed,
    /// The same, but the reply's end is known: behind it the next request may come.
    Answered {
        /// Bytes of the request.
        request_bytes: u32,
        /// Bytes of its reply, head and body.
        reply_bytes: u32,
    },
    /// The response is through: the connection goes on, translated by these many more bytes.
    Resume {
        /// Request bytes that never reached the origin.
        request_bytes: u32,
        /// Reply bytes that the origin never sent (modulo 2^32, as sequence numbers are).
        reply_bytes: u32,
    },
    /// Both sides are closed or reset.
    Gone,
}

/// Header fields of a segment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Control bits, see [`flags`](crate::wire::packet::flags).
    pub flags: u8,
    /// Window field.
    pub window: u16,
    /// Option bytes.
    pub options: &'a [u8],
    /// Bytes of payload.
    pub payload_len: usize,
}

/// Sends TCP segments by the port and to the neighbor their destination asks for.
pub trait Way {
    /// Queues one segment; `fill` writes its payload.
    ///
    /// # Errors
    /// [`Full`] when the port has no slot or the neighbor is unknown; `fill` may not have been called.
    fn send_tcp(
        &mut self,
        now: Instant,
        from: (Ipv4Address, u16),
        to: (Ipv4Address, u16),
        segment: &Outgoing<'_>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Full>;

    /// Frames that the router's own streams may queue now on the port that leads to `to`: the others' wait is bounded.
    fn room(&self, to: Ipv4Address) -> usize;
}

/// Writes the response head as the client gets it: the origin's bytes, but `Connection: close` where
/// the client asked for that and our own request, which keeps its connection, did not.
///
/// # Errors
/// The head does not fit `out`.
pub(super) fn client_head<const N: usize>(
    head: &[u8],
    close: bool,
    out: &mut Vec<u8, N>,
) -> Result<(), CapacityError> {
    if !close {
        return out.extend_from_slice(head);
    }
    let mut is_told = false;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"connection") || (line == b"\r\n" && !is_told) {
            if !is_told {
                out.extend_from_slice(b"Connection: close\r\n")?;
                is_told = true;
            }
            if line == b"\r\n" {
                out.extend_from_slice(line)?;
            }
        } else if !name.eq_ignore_ascii_case(b"keep-alive") {
            out.extend_from_slice(line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(head: &[u8], close: bool) -> std::string::String {
        let mut out: Vec<u8, 512> = Vec::new();
        client_head(head, close, &mut out).unwrap();
        std::string::String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_head_passes_byte_for_byte() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive\r\nX:  y \r\n\r\n";
        assert_eq!(told(head, false).as_bytes(), head);
    }

    #[test]
    fn a_client_that_asked_to_close_is_told_so_in_the_same_place() {
        let head = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nETag: \"a\"\r\n\r\n";
        assert_eq!(
            told(head, true),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"a\"\r\n\r\n"
        );
    }

    #[test]
    fn a_client_that_asked_to_close_is_told_so_where_the_origin_said_nothing() {
        assert_eq!(
            told(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", true),
            "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n\r\n"
        );
    }
}
