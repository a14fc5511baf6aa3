//! A flow's first bytes: split this exchange, or leave it alone.
//!
//! [`classify`] is called with all the bytes since the flow, or the last exchange on it, began;
//! again with more of them while it says [`Outcome::More`]. It reads from the left and stops at
//! the first thing that is not ordinary, so a flow that is no download is let go at once.
//!
//! Follows: RFC 9112 and RFC 9110 as [`wire::http`](crate::wire::http) lists them.
//! Units: bytes.
//! Invariants: I1 a [`Outcome::Plain`] of a prefix is the verdict of every longer one, with the
//! same reason; I2 a prefix of a head that ends as a candidate is `More`; I3 a candidate was read
//! alike by this module and by httparse.
//! Budget: no state; a call reads at most [`REQUEST_HEAD_BYTES_MAX`] bytes.
//! Not done: HTTP/1.0 requests, several ranges: both stay plain.

pub mod kind;

use crate::budget::{REQUEST_FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};
use crate::counters::Stage;
use crate::settings::{Accel, Probe};
use crate::wire::http::{
    AskedRange, Bytes, Field, HostFault, Irregular, LineEnd, Request, Span, check_host, is_target,
    line_end, peer_may_see, split_field,
};
use kind::PathSays;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // moved once a request, and there is no heap to box it on
pub enum Outcome {
    /// Not enough yet: hold them and ask again with more.
    More,
    /// Leave the flow alone, for this reason.
    Plain(Reason),
    /// A request that may be split.
    Candidate(Request),
}

crate::counter_stage! {
    /// Why a download is left alone; each is its own counter.
    pub enum Reason {
        /// Acceleration is switched off.
        Disabled = "disabled",
        /// The origin's port is not in `accel.ports`.
        Port = "port-not-listed",
        /// The first bytes are not `GET `.
        NotGet = "not-get",
        /// The request line is not three parts with one space between.
        RequestLine = "request-line",
        /// Another version than HTTP/1.1.
        Version = "version",
        /// The target is not in origin-form, or has a byte it may not have.
        Target = "target",
        /// CR without LF.
        BareCr = "bare-cr",
        /// LF without CR.
        BareLf = "bare-lf",
        /// A control byte.
        Control = "control-byte",
        /// A tab.
        Tab = "tab",
        /// A byte of 0x80 or more.
        EightBit = "eight-bit",
        /// A folded field line.
        Folded = "folded-line",
        /// A blank before a field's colon.
        BlankBeforeColon = "blank-before-colon",
        /// A field line without colon.
        NoColon = "no-colon",
        /// A field without name.
        EmptyName = "empty-name",
        /// A field name that is no token.
        NameByte = "name-byte",
        /// More field lines than the table holds.
        TooManyFields = "too-many-fields",
        /// No end of the head within the bytes that are held.
        HeadTooLong = "head-too-long",
        /// No `Host`.
        NoHost = "no-host",
        /// A field that may stand once stands twice.
        Repeated = "repeated-field",
        /// `Host` is not a plain name or address.
        HostName = "host-name",
        /// `Host` names another port than the client connected to.
        HostPort = "host-port",
        /// A `Range` that is not one interval of bytes, or any while a `HEAD` is asked first.
        Range = "range",
        /// `If-…` in the request.
        Conditional = "conditional",
        /// `Authorization` or `Cookie`.
        Credential = "credential",
        /// `Expect`.
        Expect = "expect",
        /// `Upgrade`, `HTTP2-Settings`.
        Upgrade = "upgrade",
        /// `TE`, `Trailer` or `Transfer-Encoding`.
        Transfer = "transfer-coding",
        /// `Content-Length` other than 0.
        ContentLength = "content-length",
        /// `Connection` other than `close` or `keep-alive`.
        Connection = "connection",
        /// A field for proxies.
        Proxy = "proxy-field",
        /// A field that means another method.
        Method = "method-override",
        /// The path names a page or a part of one.
        PartOfPage = "part-of-page",
        /// The client wants a page, and the path says nothing else.
        WantsPage = "wants-page",
        /// The path names a kind that the settings leave alone.
        KindOff = "kind-off",
        /// Bytes follow the head.
        Pipelined = "pipelined",
        /// Two readers of the head do not agree.
        ReadersDisagree = "readers-disagree",

        /// The probe's reply was no strict HTTP head.
        ReplyMalformed = "reply-malformed",
        /// The probe's reply is HTTP/1.0.
        ReplyVersion = "reply-version",
        /// The reply's status is not 200, or not 206 to a client's range.
        ReplyStatus = "reply-status",
        /// 200 to a client's range: the origin sends the whole object.
        ReplyRangeIgnored = "reply-range-ignored",
        /// The reply's `Content-Range` is missing, or not the interval that the client asked for.
        ReplyPlace = "reply-other-range",
        /// `Content-Length` is not the length of the interval.
        ReplyLength = "reply-other-length",
        /// Several parts in one body.
        ReplyMultipart = "reply-multipart",
        /// The reply announces chunks or another transfer coding.
        ReplyChunked = "reply-chunked",
        /// The reply tells no length.
        ReplyNoLength = "reply-no-length",
        /// The object is below the threshold.
        ReplySmall = "reply-small",
        /// The reply's type makes up pages.
        ReplyType = "reply-type",
        /// The reply's type is a kind that the settings leave alone.
        ReplyKindOff = "reply-kind-off",
        /// The reply has a content coding.
        ReplyCoded = "reply-coded",
        /// The origin says that it serves no ranges.
        ReplyNoRanges = "reply-no-ranges",
        /// The reply has no validator.
        ReplyNoValidator = "reply-no-validator",
        /// The reply's ETag is weak.
        ReplyWeakEtag = "reply-weak-etag",
        /// The reply's ETag is not a quoted one of ordinary bytes.
        ReplyOddEtag = "reply-odd-etag",
        /// The reply's `Last-Modified` is not strong.
        ReplyDate = "reply-date",
        /// The reply is for this client only, or must not be stored.
        ReplyPrivate = "reply-private",
        /// The reply sets a cookie.
        ReplyCookie = "reply-cookie",
        /// The reply varies by cookie or by anything.
        ReplyVary = "reply-vary",
        /// The reply offers another protocol, or trailers.
        ReplyUpgrade = "reply-upgrade",
    }
}

/// Size of a [`Counts`](crate::counters::Counts) table of [`Reason`].
pub const REASONS: usize = <Reason as Stage>::NAMES.len();

impl Reason {
    /// The reason as the console and counters show it.
    pub fn text(self) -> &'static str {
        <Self as Stage>::NAMES[self.index()]
    }
}

impl From<Irregular> for Reason {
    fn from(irregular: Irregular) -> Self {
        match irregular {
            Irregular::BareCr => Reason::BareCr,
            Irregular::BareLf => Reason::BareLf,
            Irregular::Control => Reason::Control,
            Irregular::Tab => Reason::Tab,
            Irregular::EightBit => Reason::EightBit,
            Irregular::Folded => Reason::Folded,
            Irregular::BlankBeforeColon => Reason::BlankBeforeColon,
            Irregular::NoColon => Reason::NoColon,
            Irregular::EmptyName => Reason::EmptyName,
            Irregular::NameByte => Reason::NameByte,
        }
    }
}

/// Judges `bytes`, all that came since the exchange began, of a flow to port `dst_port`.
pub fn classify(bytes: &[u8], settings: &Accel, dst_port: u16) -> Outcome {
    match read(bytes, settings, dst_port) {
        Ok(Some(request)) => Outcome::Candidate(request),
        Ok(None) => Outcome::More,
        Err(reason) => Outcome::Plain(reason),
    }
}

fn read(bytes: &[u8], settings: &Accel, dst_port: u16) -> Result<Option<Request>, Reason> {
    const METHOD: &[u8] = b"GET ";
    if !settings.enabled {
        return Err(Reason::Disabled);
    }
    if !settings.has_port(dst_port) {
        return Err(Reason::Port);
    }
    if bytes
        .iter()
        .zip(METHOD)
        .any(|(byte, wanted)| byte != wanted)
    {
        return Err(Reason::NotGet);
    }
    let window = &bytes[..bytes.len().min(REQUEST_HEAD_BYTES_MAX)];
    let more = if bytes.len() < REQUEST_HEAD_BYTES_MAX {
        Ok(None)
    } else {
        Err(Reason::HeadTooLong)
    };
    let Some(line) = line_end(window, 0, Bytes::Ascii)? else {
        return more;
    };
    let target = read_request_line(window, METHOD.len(), line)?;
    let says = kind::by_target(target.of(window));
    match says {
        PathSays::PartOfPage => return Err(Reason::PartOfPage),
        PathSays::Is(kind) if !settings.types.has(kind) => return Err(Reason::KindOff),
        PathSays::Is(_) | PathSays::Nothing => {}
    }
    let mut request = Request::new(target);
    request.peer_may_see = peer_may_see(target.of(window));
    let mut seen = Seen::default();
    let mut start = line.next;
    loop {
        let Some(line) = line_end(window, start, Bytes::Ascii)? else {
            return more;
        };
        if line.content_end == start {
            request.head_len = line.next as u16; // at most REQUEST_HEAD_BYTES_MAX
            break;
        }
        let field = split_field(window, start, line.content_end)?;
        seen.lines += 1;
        if seen.lines > REQUEST_FIELDS_MAX {
            return Err(Reason::TooManyFields);
        }
        read_field(&mut request, &mut seen, field, window, settings, dst_port)?;
        start = line.next;
    }
    if !seen.host {
        return Err(Reason::NoHost);
    }
    if says == PathSays::Nothing && wants_page(&request, window) {
        return Err(Reason::WantsPage);
    }
    let head = &window[..usize::from(request.head_len)];
    if !httparse_agrees(&request, &seen, head) {
        return Err(Reason::ReadersDisagree);
    }
    if bytes.len() > head.len() {
        return Err(Reason::Pipelined);
    }
    Ok(Some(request))
}

/// Takes the target out of `GET SP request-target SP HTTP-version`; `start` is past the first space.
fn read_request_line(bytes: &[u8], start: usize, line: LineEnd) -> Result<Span, Reason> {
    let rest = &bytes[start..line.content_end];
    let space = rest.iter().position(|&byte| byte == b' ');
    let space = space.ok_or(Reason::Version)?; // none at all: HTTP/0.9
    let (target, version) = (&rest[..space], &rest[space + 1..]);
    if target.is_empty() || version.contains(&b' ') {
        return Err(Reason::RequestLine);
    }
    if version != b"HTTP/1.1" {
        return Err(Reason::Version);
    }
    if !is_target(target) {
        return Err(Reason::Target);
    }
    Ok(Span::between(start, start + space))
}

/// Fields that may stand only once, seen so far.
#[derive(Default)]
struct Seen {
    lines: usize,
    host: bool,
    connection: bool,
    content_length: bool,
    keep_alive: bool,
}

fn read_field(
    request: &mut Request,
    seen: &mut Seen,
    field: Field,
    head: &[u8],
    settings: &Accel,
    dst_port: u16,
) -> Result<(), Reason> {
    let value = field.value.of(head);
    let mut lower = [0; 32];
    let name = field.name.of(head);
    // No name of interest is longer than the buffer; a longer one is an unknown field.
    let name = lower.get_mut(..name.len()).map_or("", |lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        core::str::from_utf8(lower).unwrap_or_default()
    });
    match name {
        "host" => {
            once(&mut seen.host)?;
            check_host(value, dst_port).map_err(|fault| match fault {
                HostFault::Name => Reason::HostName,
                HostFault::Port => Reason::HostPort,
            })?;
            request.host = field.value;
            return Ok(());
        }
        "connection" => {
            once(&mut seen.connection)?;
            request.close = value.eq_ignore_ascii_case(b"close");
            if !request.close && !value.eq_ignore_ascii_case(b"keep-alive") {
                return Err(Reason::Connection);
            }
            return Ok(());
        }
        "keep-alive" => return once(&mut seen.keep_alive),
        "content-length" => {
            once(&mut seen.content_length)?;
            return if value == b"0" {
                Ok(())
            } else {
                Err(Reason::ContentLength)
            };
        }
        "accept" => once_value(&mut request.accept, field)?,
        "accept-encoding" => once_value(&mut request.accept_encoding, field)?,
        "user-agent" => once_value(&mut request.user_agent, field)?,
        "range" => {
            // A reply to HEAD tells nothing of a range: RFC 9110 section 14.2 defines it for GET only.
            let asked = match settings.probe {
                Probe::Reply => AskedRange::parse(value),
                Probe::Head => None,
            };
            let asked = asked.ok_or(Reason::Range)?;
            return match request.range.replace(asked) {
                Some(_) => Err(Reason::Repeated),
                None => Ok(()),
            };
        }
        "authorization" | "cookie" | "cookie2" => return Err(Reason::Credential),
        "expect" => return Err(Reason::Expect),
        "upgrade" | "http2-settings" => return Err(Reason::Upgrade),
        "te" | "trailer" | "transfer-encoding" => return Err(Reason::Transfer),
        "x-http-method-override" | "x-http-method" | "x-method-override" => {
            return Err(Reason::Method);
        }
        _ if name.starts_with("if-") => return Err(Reason::Conditional),
        _ if name.starts_with("proxy-") => return Err(Reason::Proxy),
        _ => {}
    }
    if request.push(field) {
        Ok(())
    } else {
        Err(Reason::TooManyFields)
    }
}

fn once(seen: &mut bool) -> Result<(), Reason> {
    if core::mem::replace(seen, true) {
        Err(Reason::Repeated)
    } else {
        Ok(())
    }
}

fn once_value(place: &mut Option<Span>, field: Field) -> Result<(), Reason> {
    match place.replace(field.value) {
        Some(_) => Err(Reason::Repeated),
        None => Ok(()),
    }
}

/// Whether `Accept` names what pages are made of, as browsers do when they load one.
fn wants_page(request: &Request, head: &[u8]) -> bool {
    const PARTS: [&[u8]; 3] = [b"text/", b"image/", b"application/json"];
    let accept = request.accept.map_or(&[][..], |span| span.of(head));
    PARTS.iter().any(|part| {
        accept
            .windows(part.len())
            .any(|window| window.eq_ignore_ascii_case(part))
    })
}

/// Reads the head a second time, by httparse, and compares all that matters.
fn httparse_agrees(request: &Request, seen: &Seen, head: &[u8]) -> bool {
    let mut table = [httparse::EMPTY_HEADER; REQUEST_FIELDS_MAX];
    let mut other = httparse::Request::new(&mut table);
    if other.parse(head) != Ok(httparse::Status::Complete(head.len())) {
        return false;
    }
    let named = |name: &'static str| {
        let is_named = move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
        let field = other.headers.iter().find(is_named);
        field.map(|field| field.value.trim_ascii())
    };
    let end_to_end = other.headers.iter().filter(|field| {
        ![
            "host",
            "connection",
            "keep-alive",
            "content-length",
            "range",
        ]
        .iter()
        .any(|name| field.name.eq_ignore_ascii_case(name))
    });
    other.method == Some("GET")
        && other.version == Some(1)
        && other.path.map(str::as_bytes) == Some(request.target.of(head))
        && other.headers.len() == seen.lines
        && named("host") == Some(request.host.of(head))
        && named("range").and_then(AskedRange::parse) == request.range
        && named("transfer-encoding").is_none()
        && named("content-length").is_none_or(|value| value == b"0")
        && end_to_end
            .map(|field| (field.name.as_bytes(), field.value.trim_ascii()))
            .eq(request
                .fields()
                .iter()
                .map(|field| (field.name.of(head), field.value.of(head))))
}

#[cfg(test)]
mod tests;
