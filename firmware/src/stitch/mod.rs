//! From held bytes to a TCP stream: what is held, and the sender that hands it out.
//!
//! ```text
//! fetched bytes ──> Extents (one copy, held until acknowledged) ──> Sender says which ──> frame
//!                      │ contiguous_end                               ▲ ACKs
//!                      └──────────── set_available ──────────────────-┘ acked_position → release_to
//! ```
//!
//! - [`extents`]: the bytes of one stream by position, reorder and retransmit buffer at once, in
//!   blocks of a [`Pool`] that all streams share.
//! - [`sender`]: a TCP sender over positions; it holds no byte. It continues the origin's stream to
//!   the client, and sends the peer hop.
//! - [`endpoint`]: a passive TCP endpoint on top of both, for the listening side of the peer hop.
//!
//! Units: positions are `u64` bytes from the start of a stream; sequence numbers are `u32` and are
//! never mixed with them.

mod control;
pub mod endpoint;
pub mod extents;
mod rtt;
mod scoreboard;
pub mod sender;

#[cfg(test)]
mod smoltcp_peer;
#[cfg(test)]
mod testnet;

pub use endpoint::{Endpoint, Outgoing, Received};
pub use extents::{Block, Extents, Loan, Pool, Refused, Written};
pub use sender::{AckInfo, AckOutcome, Kind, Sender, SenderConfig, Transmit};

/// Whether `a` comes before `b` in sequence space (RFC 9293, 3.4).
#[inline]
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Whether `a` comes before `b`, or is `b`.
#[inline]
const fn at_or_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) <= 0
}
