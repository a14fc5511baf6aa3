//! Why downloads were left alone.

use crate::budget::WHY_TEXT_BYTES;
use smoltcp::time::Instant;

use crate::classify::Reason;
use crate::fetch::Failure;

/// Why a request was not split, as shown by `why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Why {
    /// The request or the probe's reply said so.
    Plain(Reason),
    /// No peer is up.
    NoPeer,
    /// The client takes only tiny segments.
    TinySegments,
    /// The own line did not answer the probe in time.
    Late,
    /// The own line's connection failed.
    Line(Failure),
    /// No free exchange or no free block.
    NoRoom,
    /// The client or the origin did something else meanwhile.
    Interrupted,
    /// The client asked for more on the same connection.
    Pipelined,
    /// What is left of the response is not worth a neighbour's connection, or the origin may send it already.
    TooLate,
    /// No neighbour brought anything in time.
    NoHelp,
}

impl Why {
    /// One line for people.
    pub fn text(self) -> &'static str {
        match self {
            Why::Plain(reason) => reason.text(),
            Why::NoPeer => "no peer is up",
            Why::TinySegments => "the client takes only tiny segments",
            Why::Late => "the origin did not answer the probe within 1 s",
            Why::Line(Failure::Connect) => "the origin took no second connection",
            Why::Line(Failure::EarlyEnd) => "the origin closed the probe's connection",
            Why::Line(Failure::Grammar) => "the probe's reply is not strict HTTP/1.1",
            Why::Line(Failure::Unasked) => "the origin sent bytes nobody asked for",
            Why::Line(Failure::Refused(_)) => "the first range's reply may not be joined",
            Why::NoRoom => "all exchanges or blocks are in use",
            Why::Interrupted => "client or origin went on while the request was held",
            Why::Pipelined => "the client asked for more on the same connection",
            Why::TooLate => "the origin had sent too much to share the rest",
            Why::NoHelp => "no peer brought anything in time",
        }
    }
}

/// A declined download.
#[derive(Clone, Debug)]
pub struct Declined {
    /// When.
    pub at: Instant,
    /// Host and the beginning of the target.
    pub what: heapless::String<WHY_TEXT_BYTES>,
    /// Why.
    pub why: Why,
}
