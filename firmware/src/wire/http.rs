//! HTTP/1.1 heads as strictly as the grammar allows, and requests written new from their values.
//!
//! Reading is line by line and left to right, so that what a prefix shows for certain never changes
//! when more bytes come. What is read here is only what splitting needs; whatever is unusual is an
//! [`Irregular`], which means plain forwarding for a request and a refusal for a reply.
//!
//! Follows: RFC 9112 (sections 2.2, 3, 5), RFC 9110 (sections 5.5, 5.6, 7.2, 8.6, 14.1, 14.4), RFC 3986
//! (section 3.3) for targets, RFC 1123 (section 2.1) for host names.
//! Units: bytes; [`ByteRange`] has inclusive ends, as in HTTP.
//! Invariants: I1 a [`Span`] lies inside the head it was made from, whose values are visible ASCII
//! and spaces; I2 no writer copies a byte of a head that was not parsed as part of a value.
//! Budget: one [`Request`] of below 376 bytes a held exchange.
//! Not done: obs-fold, quoted strings, HTTP/1.0 requests, content of chunked bodies.

mod date;
mod range;
mod write;

use crate::budget::{REQUEST_FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};

pub use date::parse_date;
pub use range::AskedRange;
pub use write::{PeerRequest, PeerRequestFault, TooLong, write_get, write_head, write_peer_get};

/// A byte interval of an object; both ends belong to it, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte.
    pub last: u64,
}

impl ByteRange {
    /// The interval from `first` to `last`; `None` if that is none.
    pub const fn new(first: u64, last: u64) -> Option<Self> {
        if first <= last && last < u64::MAX {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// Bytes in it; at least 1.
    pub const fn len_bytes(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Where a value stands in its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte in the head.
    pub start: u16,
    /// Length, bytes; may be 0.
    pub len: u16,
}

impl Span {
    /// The bytes from `start` up to, not with, `end`.
    ///
    /// # Panics
    /// When the end lies before the start or past the largest head; both are this program's mistake.
    pub(crate) fn between(start: usize, end: usize) -> Self {
        assert!(start <= end && end <= REQUEST_HEAD_BYTES_MAX);
        Self {
            start: start as u16,
            len: (end - start) as u16,
        }
    }

    /// The value's bytes; empty when `head` is not the head it was made from and is shorter.
    pub fn of(self, head: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        head.get(start..start + usize::from(self.len))
            .unwrap_or_default()
    }

    /// The value as text; empty when it is not UTF-8, which a value of a [`Request`] always is.
    pub fn text(self, head: &[u8]) -> &str {
        core::str::from_utf8(self.of(head)).unwrap_or_default()
    }
}

/// One field line's name and value; the value without the blanks around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name as it was written.
    pub name: Span,
    /// The value; may be empty.
    pub value: Span,
}

/// A request that may be split: values as spans into its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The target in origin-form.
    pub target: Span,
    /// The value of `Host`: a name or an IPv4 address, with or without the right port.
    pub host: Span,
    /// The value of `Accept`.
    pub accept: Option<Span>,
    /// The value of `Accept-Encoding`.
    pub accept_encoding: Option<Span>,
    /// The value of `User-Agent`.
    pub user_agent: Option<Span>,
    /// The client's own `Range`: none of [`fields`](Self::fields), so that no request for a part repeats it.
    pub range: Option<AskedRange>,
    /// Whether the client asked to close the connection after the reply.
    pub close: bool,
    /// Whether a neighbour may see the target: it holds nothing that looks like a signature.
    pub peer_may_see: bool,
    /// Length of the head with its empty line, bytes.
    pub head_len: u16,
    field_count: u8,
    fields: [Field; REQUEST_FIELDS_MAX],
}

impl Request {
    /// A request for `target` of `host` with no field yet.
    pub(crate) const fn new(target: Span) -> Self {
        const NOWHERE: Span = Span { start: 0, len: 0 };
        Self {
            target,
            host: NOWHERE,
            accept: None,
            accept_encoding: None,
            user_agent: None,
            range: None,
            close: false,
            peer_may_see: false,
            head_len: 0,
            field_count: 0,
            fields: [Field {
                name: NOWHERE,
                value: NOWHERE,
            }; REQUEST_FIELDS_MAX],
        }
    }

    /// The end-to-end fields but `Host` and `Range`, in the client's order.
    pub fn fields(&self) -> &[Field] {
        &self.fields[..usize::from(self.field_count)]
    }

    /// Adds a field; `false` when the table is full.
    pub(crate) fn push(&mut self, field: Field) -> bool {
        match self.fields.get_mut(usize::from(self.field_count)) {
            Some(place) => {
                *place = field;
                self.field_count += 1;
                true
            }
            None => false,
        }
    }
}

const _: () = assert!(core::mem::size_of::<Request>() <= 376);
const _: () = assert!(REQUEST_FIELDS_MAX <= u8::MAX as usize);
const _: () = assert!(REQUEST_HEAD_BYTES_MAX <= u16::MAX as usize);

/// How a head breaks the strict grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Irregular {
    /// CR that no LF follows.
    BareCr,
    /// LF that follows no CR.
    BareLf,
    /// A control byte, NUL or DEL.
    Control,
    /// A tab, which the grammar allows and some readers do not.
    Tab,
    /// A byte of 0x80 or more where only ASCII is taken.
    EightBit,
    /// A field line that begins with a blank (obs-fold).
    Folded,
    /// A blank between field name and colon.
    BlankBeforeColon,
    /// A field line without a colon.
    NoColon,
    /// A colon with no name before it.
    EmptyName,
    /// A field name with a byte that no token has.
    NameByte,
}

/// Where a complete line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineEnd {
    /// One past the line's last byte.
    pub(crate) content_end: usize,
    /// Where the next line begins.
    pub(crate) next: usize,
}

/// Which bytes a line may have beside visible ASCII and space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// None.
    Ascii,
    /// Those of 0x80 and more, opaque (`obs-text`).
    EightBit,
}

/// Finds the end of the line that begins at `start`; `None` while it is not there.
///
/// # Errors
/// The first byte from the left that no line may have.
pub(crate) fn line_end(
    bytes: &[u8],
    start: usize,
    allowed: Bytes,
) -> Result<Option<LineEnd>, Irregular> {
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' '..=b'~' => at += 1,
            b'\r' => {
                return match bytes.get(at + 1) {
                    Some(b'\n') => Ok(Some(LineEnd {
                        content_end: at,
                        next: at + 2,
                    })),
                    Some(_) => Err(Irregular::BareCr),
                    None => Ok(None),
                };
            }
            b'\n' => return Err(Irregular::BareLf),
            b'\t' => return Err(Irregular::Tab),
            0x80.. => match allowed {
                Bytes::EightBit => at += 1,
                Bytes::Ascii => return Err(Irregular::EightBit),
            },
            0..b' ' | 0x7f => return Err(Irregular::Control),
        }
    }
    Ok(None)
}

/// Splits the field line `bytes[start..end]` at its colon.
///
/// # Errors
/// How the line breaks `field-name ":" OWS field-value OWS` (RFC 9112, section 5).
pub(crate) fn split_field(bytes: &[u8], start: usize, end: usize) -> Result<Field, Irregular> {
    let line = &bytes[start..end];
    if line.first() == Some(&b' ') {
        return Err(Irregular::Folded);
    }
    let colon = line.iter().position(|&byte| byte == b':');
    let colon = colon.ok_or(Irregular::NoColon)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name.last() {
        None => return Err(Irregular::EmptyName),
        Some(b' ') => return Err(Irregular::BlankBeforeColon),
        Some(_) => {}
    }
    if !name.iter().copied().all(is_token_byte) {
        return Err(Irregular::NameByte);
    }
    let blanks = value.iter().take_while(|&&byte| byte == b' ').count();
    let value_start = start + colon + 1 + blanks;
    let value_end = end - line.iter().rev().take_while(|&&byte| byte == b' ').count();
    Ok(Field {
        name: Span::between(start, start + colon),
        value: Span::between(value_start, value_end.max(value_start)),
    })
}

/// Whether `byte` is a `tchar` (RFC 9110, section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Parses `1*DIGIT` below 2^63, the largest body that is split; nothing else, no sign, no blank.
pub fn parse_length(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))
            .filter(|&value| value < 1 << 63)?;
    }
    Some(value)
}

/// Whether `target` is origin-form of legal bytes: `absolute-path [ "?" query ]` (RFC 9112, 3.2.1).
pub fn is_target(target: &[u8]) -> bool {
    if target.first() != Some(&b'/') {
        return false;
    }
    let mut rest = target;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    tail
                }
                [..] => return false,
            },
            _ if is_target_byte(byte) => tail,
            _ => return false,
        };
    }
    true
}

/// `pchar / "/" / "?"` without the percent sign (RFC 3986, section 3.3).
const fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
                | b'?'
        )
}

/// What is wrong with a `Host` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum HostFault {
    /// Neither a plain name nor an IPv4 address.
    Name,
    /// Its port is not the one that the client connected to.
    Port,
}

/// Checks a `Host` value: a plain name or IPv4 address whose port, 80 if none, is `port`.
///
/// # Errors
/// Which part is wrong.
pub fn check_host(host: &[u8], port: u16) -> Result<(), HostFault> {
    let (name, named_port) = match host.iter().position(|&byte| byte == b':') {
        Some(colon) => (&host[..colon], parse_port(&host[colon + 1..])),
        None => (host, Some(80)),
    };
    if !is_host_name(name) {
        return Err(HostFault::Name);
    }
    if named_port != Some(port) {
        return Err(HostFault::Port);
    }
    Ok(())
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if digits.first() == Some(&b'0') {
        return None;
    }
    parse_length(digits).and_then(|port| u16::try_from(port).ok())
}

/// Letters, digits and inner hyphens in labels of 1 to 63; a numeric last label only in an address.
fn is_host_name(name: &[u8]) -> bool {
    let label_is_good = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
            && label
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.len() > 253 || !name.split(|&byte| byte == b'.').all(label_is_good) {
        return false;
    }
    let last = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    if !last.iter().all(u8::is_ascii_digit) {
        return true;
    }
    core::str::from_utf8(name).is_ok_and(|text| text.parse::<core::net::Ipv4Addr>().is_ok())
}

/// Whether `value` is visible ASCII with inner blanks only: it can stand in a field line.
pub fn is_field_value(value: &[u8]) -> bool {
    value.first() != Some(&b' ')
        && value.last() != Some(&b' ')
        && value.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// Whether a neighbour may see `target`: no query parameter's name looks like a signature.
///
/// Such a target is a secret that opens the object by itself; it stays on the own line.
pub fn peer_may_see(target: &[u8]) -> bool {
    const SECRET_PARTS: [&[u8]; 13] = [
        b"sig", b"token", b"expires", b"policy", b"x-amz-", b"x-goog-", b"key", b"auth", b"pass",
        b"secret", b"session", b"hash", b"hmac",
    ];
    let mut parts = target.splitn(2, |&byte| byte == b'?');
    let path = parts.next().unwrap_or_default();
    let query = parts.next().unwrap_or_default();
    // A name can hide behind escapes and matrix parameters: `%73ig=`, `/a;sig=`.
    let names_are_plain = query
        .split(|&byte| byte == b'&' || byte == b';')
        .chain(path.split(|&byte| byte == b';').skip(1))
        .all(|parameter| {
            let name = parameter.split(|&byte| byte == b'=').next();
            let name = name.unwrap_or_default();
            !name.contains(&b'%')
                && !SECRET_PARTS.iter().any(|part| {
                    name.windows(part.len())
                        .any(|window| window.eq_ignore_ascii_case(part))
                })
        });
    names_are_plain && !path.contains(&b'@')
}

#[cfg(test)]
mod tests;
