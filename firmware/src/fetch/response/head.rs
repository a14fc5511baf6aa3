//! A reply's head in values, read strictly.

use heapless::Vec;

use crate::budget::{CONTENT_TYPE_BYTES_MAX, REPLY_FIELDS_MAX, REPLY_HEAD_BYTES_MAX};
use crate::split::validator::{NotStrong, Validator};
use crate::wire::http::{ByteRange, Bytes, Irregular, line_end, parse_length, split_field};

/// A `Content-Type` value.
pub type ContentType = Vec<u8, CONTENT_TYPE_BYTES_MAX, u8>;

/// The head of a reply, in values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// Length with the empty line: where the body begins.
    pub len: usize,
    /// The status code, 100 to 599. One below 200 is an interim reply: another head follows.
    pub status: u16,
    /// The minor version: 0 or 1.
    pub version_minor: u8,
    /// `Content-Length`, below 2^63.
    pub content_length: Option<u64>,
    /// `Content-Range` of a part; that of a refusal (`bytes */5`) is none.
    pub content_range: Option<ContentRange>,
    /// The origin says that it serves no byte ranges.
    pub accept_ranges_none: bool,
    /// What names the object's version, or why nothing does.
    pub validator: Result<Validator, NoValidator>,
    /// `Content-Type`, if there is one.
    pub content_type: Option<ContentType>,
    /// A content coding other than identity.
    pub coded: bool,
    /// A transfer coding: the length is told by the body itself.
    pub chunked: bool,
    /// The connection ends with this reply.
    pub close: bool,
    /// The body is `multipart/byteranges`.
    pub multipart: bool,
    /// `Cache-Control` has `private` or `no-store`.
    pub private: bool,
    /// `Set-Cookie`.
    pub set_cookie: bool,
    /// `Vary` has `*`, `Cookie` or `Authorization`.
    pub vary_private: bool,
    /// `Upgrade`, `Alt-Svc` or `Trailer`: more than a plain reply.
    pub upgrade: bool,
    /// `Retry-After` in seconds; a date there is none.
    pub retry_after_s: Option<u64>,
}

const _: () = assert!(core::mem::size_of::<ReplyHead>() <= 320);

/// A part's place: `bytes first-last/total`, `first <= last < total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct ContentRange {
    /// The part.
    pub range: ByteRange,
    /// Length of the whole object, bytes, below 2^63.
    pub total: u64,
}

/// Why a reply names no version of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum NoValidator {
    /// Neither `ETag` nor `Last-Modified`.
    Absent,
    /// The one there is joins nothing.
    NotStrong(NotStrong),
}

crate::counter_stage! {
    /// Why a reply's head is not read; each is its own counter.
    pub enum ReplyRefused {
        /// Not `HTTP/1.0` or `1.1`, a status of three digits from 100 to 599, a reason in ASCII.
        StatusLine = "reply-status-line",
        /// A line end or control byte out of place, a tab.
        Line = "reply-line",
        /// A field line that is folded, or has no colon or no proper name.
        Field = "reply-field",
        /// A quoted string that its line does not close.
        OpenQuote = "reply-open-quote",
        /// No end within the bytes that are held.
        TooLong = "reply-head-too-long",
        /// More field lines than are counted.
        TooManyFields = "reply-too-many-fields",
        /// A field that may stand once stands twice.
        Repeated = "reply-repeated-field",
        /// `Content-Length` is not digits below 2^63.
        ContentLength = "reply-content-length",
        /// Both a length and a transfer coding.
        LengthAndCoding = "reply-length-and-coding",
        /// `Content-Range` is not one well-formed interval of bytes.
        ContentRange = "reply-content-range",
        /// `Content-Type` is longer than is compared.
        ContentType = "reply-content-type-too-long",
    }
}

impl From<Irregular> for ReplyRefused {
    fn from(irregular: Irregular) -> Self {
        match irregular {
            Irregular::BareCr
            | Irregular::BareLf
            | Irregular::Control
            | Irregular::Tab
            | Irregular::EightBit => ReplyRefused::Line,
            Irregular::Folded
            | Irregular::BlankBeforeColon
            | Irregular::NoColon
            | Irregular::EmptyName
            | Irregular::NameByte => ReplyRefused::Field,
        }
    }
}

/// Reads the head at the start of `buf`; `None` when more bytes are needed: call again with them.
///
/// # Errors
/// How the head is not strict HTTP; more bytes never mend it.
pub fn parse_reply(buf: &[u8]) -> Result<Option<ReplyHead>, ReplyRefused> {
    let window = &buf[..buf.len().min(REPLY_HEAD_BYTES_MAX)];
    let more = if buf.len() < REPLY_HEAD_BYTES_MAX {
        Ok(None)
    } else {
        Err(ReplyRefused::TooLong)
    };
    const VERSION: &[u8] = b"HTTP/1.";
    if window
        .iter()
        .zip(VERSION)
        .any(|(byte, wanted)| byte != wanted)
    {
        return Err(ReplyRefused::StatusLine);
    }
    let first = match line_end(window, 0, Bytes::Ascii) {
        Ok(Some(line)) => line,
        Ok(None) => return more,
        Err(Irregular::EightBit) => return Err(ReplyRefused::StatusLine),
        Err(irregular) => return Err(irregular.into()),
    };
    let (version_minor, status) = parse_status_line(&window[..first.content_end])?;
    let mut fields = Fields::new(version_minor);
    let mut start = first.next;
    for _ in 0..=REPLY_FIELDS_MAX {
        let Some(line) = line_end(window, start, Bytes::EightBit)? else {
            return more;
        };
        if line.content_end == start {
            return Ok(Some(fields.finish(line.next, status, version_minor)));
        }
        let field = split_field(window, start, line.content_end)?;
        fields.read(field.name.of(window), field.value.of(window))?;
        start = line.next;
    }
    Err(ReplyRefused::TooManyFields)
}

/// `HTTP/1.x SP 3DIGIT SP reason`; a missing reason is refused although the grammar allows it.
fn parse_status_line(line: &[u8]) -> Result<(u8, u16), ReplyRefused> {
    let (version, rest) = line.split_at_checked(9).ok_or(ReplyRefused::StatusLine)?;
    let version_minor = match version {
        b"HTTP/1.0 " => 0,
        b"HTTP/1.1 " => 1,
        [..] => return Err(ReplyRefused::StatusLine),
    };
    match rest {
        [
            a @ b'1'..=b'5',
            b @ b'0'..=b'9',
            c @ b'0'..=b'9',
            b' ',
            b'!'..=b'~',
            ..,
        ] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Ok((version_minor, digit(a) * 100 + digit(b) * 10 + digit(c)))
        }
        [..] => Err(ReplyRefused::StatusLine),
    }
}

/// What the field lines read so far say.
struct Fields<'a> {
    content_length: Option<u64>,
    content_range: Option<Option<ContentRange>>,
    etag: Option<&'a [u8]>,
    last_modified: Option<&'a [u8]>,
    date: Option<&'a [u8]>,
    content_type: Option<ContentType>,
    accept_ranges_none: bool,
    coded: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    private: bool,
    set_cookie: bool,
    vary_private: bool,
    upgrade: bool,
    retry_after_s: Option<u64>,
}

impl<'a> Fields<'a> {
    fn new(version_minor: u8) -> Self {
        Self {
            content_length: None,
            content_range: None,
            etag: None,
            last_modified: None,
            date: None,
            content_type: None,
            accept_ranges_none: false,
            coded: false,
            chunked: false,
            close: false,
            keep_alive: version_minor == 1,
            private: false,
            set_cookie: false,
            vary_private: false,
            upgrade: false,
            retry_after_s: None,
        }
    }

    fn read(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), ReplyRefused> {
        if !quotes_close(value) {
            return Err(ReplyRefused::OpenQuote);
        }
        let mut lower = [0; 20];
        // No name of interest is longer than the buffer; a longer one is an unknown field.
        let name = lower.get_mut(..name.len()).map_or("", |lower| {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            core::str::from_utf8(lower).unwrap_or_default()
        });
        match name {
            "content-length" => {
                let length = parse_length(value).ok_or(ReplyRefused::ContentLength)?;
                once(&mut self.content_length, length)?;
            }
            "content-range" => once(&mut self.content_range, parse_content_range(value)?)?,
            "etag" => once(&mut self.etag, value)?,
            "last-modified" => once(&mut self.last_modified, value)?,
            "date" => once(&mut self.date, value)?,
            "content-type" => {
                let value = Vec::from_slice(value).map_err(|_| ReplyRefused::ContentType)?;
                once(&mut self.content_type, value)?;
            }
            "accept-ranges" => self.accept_ranges_none |= !has_token(value, &["bytes"]),
            "content-encoding" => self.coded |= !value.eq_ignore_ascii_case(b"identity"),
            "transfer-encoding" => self.chunked = true,
            "connection" => {
                self.close |= has_token(value, &["close"]);
                self.keep_alive |= has_token(value, &["keep-alive"]);
                self.upgrade |= has_token(value, &["upgrade"]);
            }
            "cache-control" => self.private |= has_token(value, &["private", "no-store"]),
            "set-cookie" | "set-cookie2" => self.set_cookie = true,
            "vary" => self.vary_private |= has_token(value, &["*", "cookie", "authorization"]),
            "upgrade" | "alt-svc" | "trailer" => self.upgrade = true,
            "retry-after" => self.retry_after_s = parse_length(value),
            _ => {}
        }
        if self.chunked && self.content_length.is_some() {
            return Err(ReplyRefused::LengthAndCoding);
        }
        Ok(())
    }

    fn finish(self, len: usize, status: u16, version_minor: u8) -> ReplyHead {
        let validator = match (self.etag, self.last_modified) {
            (Some(etag), Some(_) | None) => Validator::etag(etag).map_err(NoValidator::NotStrong),
            (None, Some(modified)) => {
                Validator::last_modified(modified, self.date.unwrap_or_default())
                    .map_err(NoValidator::NotStrong)
            }
            (None, None) => Err(NoValidator::Absent),
        };
        let multipart = self.content_type.as_deref().is_some_and(|value| {
            value
                .get(..10)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
        });
        ReplyHead {
            len,
            status,
            version_minor,
            content_length: self.content_length,
            content_range: self.content_range.flatten(),
            accept_ranges_none: self.accept_ranges_none,
            validator,
            content_type: self.content_type,
            coded: self.coded,
            chunked: self.chunked,
            close: self.close || !self.keep_alive,
            multipart,
            private: self.private,
            set_cookie: self.set_cookie,
            vary_private: self.vary_private,
            upgrade: self.upgrade,
            retry_after_s: self.retry_after_s,
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), ReplyRefused> {
    match place.replace(value) {
        Some(_) => Err(ReplyRefused::Repeated),
        None => Ok(()),
    }
}

/// Whether every quoted string of the value ends in it.
fn quotes_close(value: &[u8]) -> bool {
    let (mut inside, mut escaped) = (false, false);
    for &byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    !inside
}

/// Whether the comma-separated list has one of `tokens`, alone or with a `=value`.
fn has_token(list: &[u8], tokens: &[&str]) -> bool {
    list.split(|&byte| byte == b',').any(|element| {
        let name = element.split(|&byte| byte == b'=').next();
        let name = name.unwrap_or_default().trim_ascii();
        tokens
            .iter()
            .any(|token| name.eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// `bytes first-last/total`; `None` for `bytes */total`, which tells that no part was sent.
fn parse_content_range(value: &[u8]) -> Result<Option<ContentRange>, ReplyRefused> {
    let read = || {
        let value = value.strip_prefix(b"bytes ")?;
        let slash = value.iter().position(|&byte| byte == b'/')?;
        let (part, total) = (&value[..slash], parse_length(&value[slash + 1..])?);
        if part == b"*" {
            return Some(None);
        }
        let dash = part.iter().position(|&byte| byte == b'-')?;
        let first = parse_length(&part[..dash])?;
        let last = parse_length(&part[dash + 1..])?;
        let range = ByteRange::new(first, last).filter(|range| range.last < total)?;
        Some(Some(ContentRange { range, total }))
    };
    read().ok_or(ReplyRefused::ContentRange)
}
