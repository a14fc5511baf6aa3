//! Peer messages: what two routers say to each other over a byte stream.
//!
//! A message is its body's length (`u16`, little endian) and the body in postcard. `Data` alone is
//! followed by raw bytes, outside the body so that they are never copied to be read: the decoder
//! hands out where they stand in its input.
//!
//! ```text
//! each side, once   Hello
//! asking side       Fetch … Cancel
//! serving side      Start, Data + bytes …, End      or Refused, at any time
//! either side       Ping → Pong
//! ```
//!
//! The first message must be a `Hello` of this [`VERSION`]; the place of the version in it never
//! changes, so that any two versions can tell that they differ. Anything malformed ends the session.
//!
//! Follows: the postcard wire format (varint integers, length-prefixed strings, variant number first).
//! Units: bytes; offsets in the object; ranges with inclusive ends.
//! Invariants: I1 a message that was handed out passed [`Message::is_sane`]; I2 each call of
//! [`Decoder::next`] consumes at least one byte of an input that is not empty; I3 after an error
//! the decoder gives only that error.
//! Budget: a [`Decoder`] of below 9 KiB for each peer.
//! Not done: encryption and authentication.

use serde::{Deserialize, Serialize};

use crate::budget::{
    CONTENT_TYPE_BYTES_MAX, PEER_DATA_BYTES_MAX, PEER_MESSAGE_BYTES_MAX, REQUEST_HEAD_BYTES_MAX,
    VALIDATOR_BYTES_MAX,
};
use crate::split::validator::{NotStrong, Validator, ValidatorKind};
use crate::wire::http::{ByteRange, PeerRequest, TooLong};

/// The version of the protocol that this program speaks.
pub const VERSION: u16 = 1;

/// Bytes of the length before each body.
const LENGTH_BYTES: usize = 2;

/// The longest encoded message that is not a `Fetch`, bytes: `Start` with all numbers at their largest.
pub const CONTROL_BYTES_MAX: usize = LENGTH_BYTES + 1 + 5 + 3 * 10;

/// All of a `Fetch` body but its texts: variant, id, address, port, lengths, options, offsets, kind.
const FETCH_FIXED_BYTES_MAX: usize = 1
    + 5
    + 4
    + 3
    + 2 * 3
    + 3 * (1 + 3)
    + 3 * 10
    + 1
    + 2
    + VALIDATOR_BYTES_MAX
    + 1
    + 1
    + CONTENT_TYPE_BYTES_MAX;

const _: () = assert!(REQUEST_HEAD_BYTES_MAX + FETCH_FIXED_BYTES_MAX <= PEER_MESSAGE_BYTES_MAX);
const _: () = assert!(PEER_MESSAGE_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(CONTROL_BYTES_MAX <= PEER_MESSAGE_BYTES_MAX);
const _: () = assert!(core::mem::size_of::<Decoder>() <= 9 * 1024);
const _: () = assert!(core::mem::size_of::<Message<'_>>() <= 192);

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<'a> {
    /// The first message of each side.
    Hello {
        /// The sender's [`VERSION`].
        version: u16,
        /// A number drawn at the sender's start: another one means that it has restarted.
        boot: u32,
    },
    /// Asks for a range of an object.
    #[serde(borrow)]
    Fetch(Fetch<'a>),
    /// The answer to this fetch is no longer wanted.
    Cancel {
        /// The fetch's number.
        id: u32,
    },
    /// The origin's reply was the one asked for; its body follows.
    Start {
        /// The fetch's number.
        id: u32,
        /// Offset of the body's first byte.
        first: u64,
        /// Offset of its last byte; may lie before the one asked for.
        last: u64,
        /// Length of the object.
        total: u64,
    },
    /// Bytes of the body: `len` raw bytes follow this message on the stream.
    Data {
        /// The fetch's number.
        id: u32,
        /// Offset in the object of the first byte.
        offset: u64,
        /// How many, 1 to [`PEER_DATA_BYTES_MAX`].
        len: u16,
    },
    /// All bytes that `Start` told have been sent.
    End {
        /// The fetch's number.
        id: u32,
    },
    /// The fetch ends without all its bytes.
    Refused {
        /// The fetch's number.
        id: u32,
        /// Why.
        reason: Refusal,
    },
    /// Asks for a `Pong`.
    Ping {
        /// Comes back in it.
        nonce: u32,
    },
    /// Answers a `Ping`.
    Pong {
        /// That of the `Ping`.
        nonce: u32,
    },
}

/// A range of an object, and all that a neighbour needs to ask the origin for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch<'a> {
    /// The asking side's number for it; not in use for another fetch of the session.
    pub id: u32,
    /// The origin's address: the neighbour connects here and never resolves a name.
    pub address: [u8; 4],
    /// The origin's port.
    pub port: u16,
    /// The value of `Host`.
    pub host: &'a str,
    /// The target in origin-form.
    pub target: &'a str,
    /// The value of `Accept`.
    pub accept: Option<&'a str>,
    /// The value of `Accept-Encoding`.
    pub accept_encoding: Option<&'a str>,
    /// The value of `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// Offset of the first byte wanted.
    pub first: u64,
    /// Offset of the last byte wanted.
    pub last: u64,
    /// Length of the object, which the reply must tell too.
    pub total: u64,
    /// Which field the validator comes from.
    pub validator_kind: ValidatorKind,
    /// The validator, which the reply must carry too.
    pub validator: &'a [u8],
    /// `Content-Type` of the object, which a reply may not contradict.
    pub content_type: Option<&'a [u8]>,
}

impl<'a> Fetch<'a> {
    /// The values for the request to the origin; not yet checked.
    pub fn request(&self) -> PeerRequest<'a> {
        PeerRequest {
            host: self.host,
            target: self.target,
            accept: self.accept,
            accept_encoding: self.accept_encoding,
            user_agent: self.user_agent,
        }
    }

    /// The range wanted; `None` if there is none, which a decoded message never has.
    pub fn range(&self) -> Option<ByteRange> {
        ByteRange::new(self.first, self.last)
    }

    /// The validator.
    ///
    /// # Errors
    /// Why it is none that may stand in a request.
    pub fn validator(&self) -> Result<Validator, NotStrong> {
        Validator::from_parts(self.validator_kind, self.validator)
    }
}

/// Why a neighbour does not fetch, or not to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, defmt::Format)]
pub enum Refusal {
    /// Lending is switched off.
    Disabled,
    /// No room for one more fetch.
    Busy,
    /// Its owner's own traffic needs the line.
    Limit,
    /// The origin's address is not a public one, or the neighbour's own.
    Address,
    /// The origin's port is not allowed.
    Port,
    /// A value of the request is not what a request may hold.
    Request,
    /// The origin cannot be reached from there.
    Unreachable,
    /// The origin closed before the end.
    Closed,
    /// The origin sent nothing for too long.
    Stalled,
    /// The origin's reply was no strict HTTP head.
    Malformed,
    /// The origin sent the whole object.
    RangeIgnored,
    /// The origin points elsewhere.
    Redirected,
    /// The origin denies the neighbour.
    Denied,
    /// The origin wants fewer requests.
    OriginBusy,
    /// The origin has another version of the object.
    Changed,
    /// The reply is otherwise not the part asked for.
    NotThePart,
}

impl Message<'_> {
    /// Whether the numbers and lengths in it are possible.
    fn is_sane(&self) -> bool {
        match self {
            Message::Fetch(fetch) => {
                is_part(fetch.first, fetch.last, fetch.total)
                    && fetch.port != 0
                    && fetch.validator.len() <= VALIDATOR_BYTES_MAX
                    && fetch.content_type.unwrap_or_default().len() <= CONTENT_TYPE_BYTES_MAX
            }
            Message::Start {
                first, last, total, ..
            } => is_part(*first, *last, *total),
            Message::Data { offset, len, .. } => {
                (1..=PEER_DATA_BYTES_MAX).contains(len) && *offset < (1 << 63) - u64::from(*len)
            }
            Message::Hello { .. }
            | Message::Cancel { .. }
            | Message::End { .. }
            | Message::Refused { .. }
            | Message::Ping { .. }
            | Message::Pong { .. } => true,
        }
    }
}

fn is_part(first: u64, last: u64, total: u64) -> bool {
    first <= last && last < total && total < 1 << 63
}

/// Writes `message` with its length to the start of `out`; how many bytes.
///
/// The raw bytes of a `Data` follow it, written by the caller.
///
/// # Errors
/// [`TooLong`] when it does not fit `out` or is longer than a decoder takes; `out` is then unspecified.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> Result<usize, TooLong> {
    let (length, body) = out.split_first_chunk_mut::<LENGTH_BYTES>().ok_or(TooLong)?;
    let room = body.len().min(PEER_MESSAGE_BYTES_MAX);
    let used = postcard::to_slice(message, &mut body[..room]).map_err(|_| TooLong)?;
    let used = used.len();
    *length = (used as u16).to_le_bytes(); // at most PEER_MESSAGE_BYTES_MAX
    Ok(LENGTH_BYTES + used)
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum PeerError {
    /// A body of 0 bytes, or of more than any message has.
    Length,
    /// A body that is no message, or more than one.
    Malformed,
    /// A message with impossible numbers.
    Insane,
    /// The first message is no `Hello`.
    NoHello,
    /// A second `Hello`.
    SecondHello,
    /// The other side speaks another version.
    Version {
        /// This program's.
        expected: u16,
        /// The other side's.
        found: u16,
    },
}

impl PeerError {
    /// The error in words, on one line.
    pub const fn text(self) -> &'static str {
        match self {
            PeerError::Length => "impossible message length",
            PeerError::Malformed => "malformed message",
            PeerError::Insane => "impossible numbers in a message",
            PeerError::NoHello => "first message is no hello",
            PeerError::SecondHello => "second hello",
            PeerError::Version { .. } => "other protocol version",
        }
    }
}

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message; never a `Data`.
    Message(Message<'a>),
    /// Bytes of a `Data`, or of the next piece of one.
    Bytes {
        /// The fetch's number.
        id: u32,
        /// Offset in the object of the first of them.
        offset: u64,
        /// Where they stand in the input of this call.
        place: core::ops::Range<usize>,
    },
}

/// Reads messages from a byte stream, in pieces of any size.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    greeted: bool,
    body: [u8; PEER_MESSAGE_BYTES_MAX],
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the length's first byte.
    Idle,
    /// After the length's first byte.
    Length { low: u8 },
    /// In a body of `len` bytes, of which `have` are here.
    Body { len: usize, have: usize },
    /// In the raw bytes of a `Data`.
    Raw { id: u32, offset: u64, left: u16 },
    /// The session is over.
    Failed(PeerError),
}

impl Decoder {
    /// A decoder at the start of a session.
    pub const fn new() -> Self {
        Self {
            state: State::Idle,
            greeted: false,
            body: [0; PEER_MESSAGE_BYTES_MAX],
        }
    }

    /// Reads from the start of `input`: how many bytes were used, and what they completed.
    ///
    /// Call it again with the rest until `input` is empty; a call may use bytes and complete nothing.
    ///
    /// # Errors
    /// Why the session must end; every later call gives the same.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Option<Event<'_>>), PeerError> {
        let Some(&byte) = input.first() else {
            return Ok((0, None));
        };
        match self.state {
            State::Failed(error) => Err(error),
            State::Idle => {
                self.state = State::Length { low: byte };
                Ok((1, None))
            }
            State::Length { low } => {
                let len = usize::from(u16::from_le_bytes([low, byte]));
                if len == 0 || len > PEER_MESSAGE_BYTES_MAX {
                    self.state = State::Failed(PeerError::Length);
                    return Err(PeerError::Length);
                }
                self.state = State::Body { len, have: 0 };
                Ok((1, None))
            }
            State::Body { len, have } => {
                let used = input.len().min(len - have);
                self.body[have..have + used].copy_from_slice(&input[..used]);
                if have + used < len {
                    self.state = State::Body {
                        len,
                        have: have + used,
                    };
                    return Ok((used, None));
                }
                let outcome = read(&self.body[..len], self.greeted);
                self.greeted = true;
                match outcome {
                    Ok(Message::Data { id, offset, len }) => {
                        let left = len;
                        self.state = State::Raw { id, offset, left };
                        Ok((used, None))
                    }
                    Ok(message) => {
                        self.state = State::Idle;
                        Ok((used, Some(Event::Message(message))))
                    }
                    Err(error) => {
                        self.state = State::Failed(error);
                        Err(error)
                    }
                }
            }
            State::Raw { id, offset, left } => {
                let used = input.len().min(usize::from(left));
                let rest = left - used as u16; // at most `left`
                self.state = if rest == 0 {
                    State::Idle
                } else {
                    State::Raw {
                        id,
                        offset: offset + used as u64,
                        left: rest,
                    }
                };
                let place = 0..used;
                Ok((used, Some(Event::Bytes { id, offset, place })))
            }
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads one body, the first of the session unless `greeted`.
fn read(body: &[u8], greeted: bool) -> Result<Message<'_>, PeerError> {
    if !greeted {
        // Only the variant and the version stand where every version of the protocol has them.
        match postcard::take_from_bytes::<(u32, u16)>(body) {
            Ok(((0, VERSION), _)) => {}
            Ok(((0, found), _)) => {
                let expected = VERSION;
                return Err(PeerError::Version { expected, found });
            }
            Ok(_) | Err(_) => return Err(PeerError::NoHello),
        }
    }
    let (message, rest) =
        postcard::take_from_bytes::<Message<'_>>(body).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    if !message.is_sane() {
        return Err(PeerError::Insane);
    }
    if greeted && matches!(message, Message::Hello { .. }) {
        return Err(PeerError::SecondHello);
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
