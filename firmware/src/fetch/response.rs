//! Is this answer the one asked for?
//!
//! [`parse_reply`] reads a reply's head as strictly as a request's; [`judge_probe`] decides whether
//! the object that a probe found may be split, [`judge_reply`] whether a client's own reply may, [`judge_part`] whether a fetch's reply may be joined
//! to it. What was asked never proves what was answered: each reply is judged by its own head.
//!
//! Follows: RFC 9112 section 4 and 6.3, RFC 9110 sections 8.3 to 8.8, 14.1.2, 14.3, 14.4, 15.3.7, RFC 9111
//! section 5.2.2.
//! Units: bytes; offsets in the object.
//! Invariants: I1 what a prefix of a head is refused for, every longer one is; I2 a part that
//! passed [`judge_part`] lies inside the range asked for and inside the object, and starts at the
//! range's first byte.
//! Budget: one [`ReplyHead`] of below 320 bytes, on the stack while a head is judged.
//! Not done: multipart parts, trailers, HTTP/1.0 replies, folded lines: all refused.

mod head;

use heapless::Vec;

use crate::classify::{Reason, kind};
use crate::settings::Accel;
use crate::split::validator::{NotStrong, Validator};
use crate::wire::http::{AskedRange, ByteRange};
use crate::wire::peer::Refusal;

pub use head::{ContentRange, ContentType, NoValidator, ReplyHead, ReplyRefused, parse_reply};

/// What a probe, or a client's own reply, found: an object that may be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Complete length, bytes, below 2^63, also where the client asked for a part of it.
    pub total: u64,
    /// What every part must carry.
    pub validator: Validator,
    /// `Content-Type`, if there is one.
    pub content_type: Option<ContentType>,
}

impl Object {
    /// The object that a neighbour's `Fetch` describes; `None` when its type is too long.
    pub fn new(total: u64, validator: Validator, content_type: Option<&[u8]>) -> Option<Self> {
        let content_type = match content_type {
            Some(value) => Some(Vec::from_slice(value).ok()?),
            None => None,
        };
        Some(Self {
            total,
            validator,
            content_type,
        })
    }
}

/// Decides whether the object that `reply` describes may be split.
///
/// # Errors
/// Why it is left alone; the first reason found.
pub fn judge_probe(reply: &ReplyHead, target: &[u8], settings: &Accel) -> Result<Object, Reason> {
    if reply.status != 200 {
        return Err(Reason::ReplyStatus);
    }
    let length = judge_framing(reply)?;
    judge_object(reply, length, length, target, settings)
}

/// Decides whether the reply to a client's own request, for `asked` or the whole, may be split; the object, and the
/// interval of it that the body is.
///
/// A `206` must be exactly the interval asked for, as far as the object has it: a client that gets another one may
/// have its reasons to go on all the same, this router has none.
///
/// # Errors
/// Why it is left alone; the first reason found.
pub fn judge_reply(
    reply: &ReplyHead,
    asked: Option<AskedRange>,
    target: &[u8],
    settings: &Accel,
) -> Result<(Object, ByteRange), Reason> {
    let Some(asked) = asked else {
        let object = judge_probe(reply, target, settings)?;
        // Cannot fail: a length is at least 1, and below 2^63.
        let whole = ByteRange::new(0, object.total - 1).ok_or(Reason::ReplyNoLength)?;
        return Ok((object, whole));
    };
    match reply.status {
        206 => {}
        200 => return Err(Reason::ReplyRangeIgnored),
        _ => return Err(Reason::ReplyStatus),
    }
    let length = judge_framing(reply)?;
    if reply.multipart {
        return Err(Reason::ReplyMultipart);
    }
    let found = reply.content_range.ok_or(Reason::ReplyPlace)?;
    if asked.of(found.total) != Some(found.range) {
        return Err(Reason::ReplyPlace);
    }
    if length != found.range.len_bytes() {
        return Err(Reason::ReplyLength);
    }
    let object = judge_object(reply, found.total, length, target, settings)?;
    Ok((object, found.range))
}

/// The body's length, where nothing but `Content-Length` tells it and nothing changes it.
fn judge_framing(reply: &ReplyHead) -> Result<u64, Reason> {
    if reply.version_minor != 1 {
        return Err(Reason::ReplyVersion);
    }
    if reply.chunked {
        return Err(Reason::ReplyChunked);
    }
    if reply.coded {
        return Err(Reason::ReplyCoded);
    }
    if reply.upgrade {
        return Err(Reason::ReplyUpgrade);
    }
    reply.content_length.ok_or(Reason::ReplyNoLength)
}

/// The object of `total` bytes, `length` of which the reply brings, if it is of a kind that is split and names its
/// version.
fn judge_object(
    reply: &ReplyHead,
    total: u64,
    length: u64,
    target: &[u8],
    settings: &Accel,
) -> Result<Object, Reason> {
    if length < settings.threshold_bytes.max(1) {
        return Err(Reason::ReplySmall);
    }
    // Servers call what they do not know plain text; then the path's word counts.
    let said = match kind::by_content_type(reply.content_type.as_deref()) {
        None if kind::is_plain_text(reply.content_type.as_deref()) => {
            kind::by_target(target).kind()
        }
        said => said,
    };
    match said {
        None => return Err(Reason::ReplyType),
        Some(kind) if !settings.types.has(kind) => return Err(Reason::ReplyKindOff),
        Some(_) => {}
    }
    if reply.accept_ranges_none {
        return Err(Reason::ReplyNoRanges);
    }
    if reply.private {
        return Err(Reason::ReplyPrivate);
    }
    if reply.set_cookie {
        return Err(Reason::ReplyCookie);
    }
    if reply.vary_private {
        return Err(Reason::ReplyVary);
    }
    let validator = reply.validator.clone().map_err(|why| match why {
        NoValidator::Absent => Reason::ReplyNoValidator,
        NoValidator::NotStrong(NotStrong::Weak) => Reason::ReplyWeakEtag,
        NoValidator::NotStrong(NotStrong::Malformed) => Reason::ReplyOddEtag,
        NoValidator::NotStrong(NotStrong::Date) => Reason::ReplyDate,
    })?;
    Ok(Object {
        total,
        validator,
        content_type: reply.content_type.clone(),
    })
}

crate::counter_stage! {
    /// Why a part is not joined; each is its own counter.
    pub enum PartRefused {
        /// 200: the whole object instead of the range.
        RangeIgnored = "part-range-ignored",
        /// 3xx: elsewhere; never followed.
        Redirected = "part-redirected",
        /// 401, 403, 451: not for this link.
        Denied = "part-denied",
        /// 416: the origin's object is shorter.
        Unsatisfiable = "part-unsatisfiable",
        /// 429, 503: too many connections or requests.
        Busy = "part-busy",
        /// Any other status.
        Status = "part-status",
        /// HTTP/1.0.
        Version = "part-version",
        /// A content coding.
        Coded = "part-coded",
        /// A transfer coding.
        Chunked = "part-chunked",
        /// Several parts in one body.
        Multipart = "part-multipart",
        /// Another protocol or trailers announced.
        Upgrade = "part-upgrade",
        /// No `Content-Range`.
        NoContentRange = "part-no-content-range",
        /// Another first byte than asked for, or a last byte behind the range.
        Place = "part-place",
        /// Another length of the object.
        Total = "part-total",
        /// `Content-Length` is missing or is not the part's length.
        Length = "part-length",
        /// Another validator, a weak one or none.
        Validator = "part-validator",
        /// Another `Content-Type`.
        ContentType = "part-content-type",
    }
}

impl From<PartRefused> for Refusal {
    fn from(refused: PartRefused) -> Self {
        match refused {
            PartRefused::RangeIgnored => Refusal::RangeIgnored,
            PartRefused::Redirected => Refusal::Redirected,
            PartRefused::Denied => Refusal::Denied,
            PartRefused::Busy => Refusal::OriginBusy,
            PartRefused::Total | PartRefused::Validator | PartRefused::Unsatisfiable => {
                Refusal::Changed
            }
            PartRefused::Status
            | PartRefused::Version
            | PartRefused::Coded
            | PartRefused::Chunked
            | PartRefused::Multipart
            | PartRefused::Upgrade
            | PartRefused::NoContentRange
            | PartRefused::Place
            | PartRefused::Length
            | PartRefused::ContentType => Refusal::NotThePart,
        }
    }
}

/// Decides whether the body after `reply` is the `asked` range of `object`; the range it gives.
///
/// The range given starts where the one asked for does and may end earlier, if the origin says so.
/// A missing `Content-Type` is no difference: an origin that answers `If-Range` leaves it out
/// (RFC 9110, section 15.3.7: "the sender SHOULD NOT generate other representation header fields").
///
/// # Errors
/// Why no byte of the body may be joined.
pub fn judge_part(
    reply: &ReplyHead,
    object: &Object,
    asked: ByteRange,
) -> Result<ByteRange, PartRefused> {
    match reply.status {
        206 => {}
        200 => return Err(PartRefused::RangeIgnored),
        300..=399 => return Err(PartRefused::Redirected),
        401 | 403 | 451 => return Err(PartRefused::Denied),
        416 => return Err(PartRefused::Unsatisfiable),
        429 | 503 => return Err(PartRefused::Busy),
        _ => return Err(PartRefused::Status),
    }
    if reply.version_minor != 1 {
        return Err(PartRefused::Version);
    }
    if reply.multipart {
        return Err(PartRefused::Multipart);
    }
    if reply.coded {
        return Err(PartRefused::Coded);
    }
    if reply.chunked {
        return Err(PartRefused::Chunked);
    }
    if reply.upgrade {
        return Err(PartRefused::Upgrade);
    }
    let found = reply.content_range.ok_or(PartRefused::NoContentRange)?;
    if found.total != object.total {
        return Err(PartRefused::Total);
    }
    let given = found.range;
    if given.first != asked.first || given.last > asked.last {
        return Err(PartRefused::Place);
    }
    if reply.content_length != Some(given.len_bytes()) {
        return Err(PartRefused::Length);
    }
    if reply.validator.as_ref() != Ok(&object.validator) {
        return Err(PartRefused::Validator);
    }
    if reply.content_type.is_some() && reply.content_type != object.content_type {
        return Err(PartRefused::ContentType);
    }
    Ok(given)
}

#[cfg(test)]
mod tests;
