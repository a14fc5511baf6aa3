//! Requests written new from values; no byte of a client's head is copied but as part of a value.
//!
//! Follows: RFC 9112 section 3, RFC 9110 sections 7.6.1 (what a hop may not pass on), 13.1.5, 14.2.

use core::fmt::{self, Write};

use super::{ByteRange, HostFault, Request, check_host, is_field_value, is_target};
use crate::split::validator::Validator;

/// The request does not fit the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct TooLong;

/// The values of a request that a neighbour may be told: an allow list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRequest<'a> {
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
}

/// Which value of a neighbour's request is not what a request line or field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum PeerRequestFault {
    /// The host, or its port.
    Host(HostFault),
    /// The target.
    Target,
    /// One of the field values.
    Field,
}

impl<'a> PeerRequest<'a> {
    /// What a neighbour is told of `request`, whose bytes are `head`.
    pub fn of(request: &Request, head: &'a [u8]) -> Self {
        Self {
            host: request.host.text(head),
            target: request.target.text(head),
            accept: request.accept.map(|span| span.text(head)),
            accept_encoding: request.accept_encoding.map(|span| span.text(head)),
            user_agent: request.user_agent.map(|span| span.text(head)),
        }
    }

    /// Checks values that came from a neighbour as strictly as a client's own, for `port`.
    ///
    /// # Errors
    /// Which value is refused.
    pub fn check(&self, port: u16) -> Result<(), PeerRequestFault> {
        check_host(self.host.as_bytes(), port).map_err(PeerRequestFault::Host)?;
        if !is_target(self.target.as_bytes()) {
            return Err(PeerRequestFault::Target);
        }
        let fields = [self.accept, self.accept_encoding, self.user_agent];
        if !fields
            .iter()
            .flatten()
            .all(|value| is_field_value(value.as_bytes()))
        {
            return Err(PeerRequestFault::Field);
        }
        Ok(())
    }
}

/// Writes a `HEAD` for what `request` asks, with all the client's end-to-end fields; its length.
///
/// # Errors
/// [`TooLong`]; the buffer's content is then unspecified.
pub fn write_head(out: &mut [u8], request: &Request, head: &[u8]) -> Result<usize, TooLong> {
    let mut line = Cursor { out, used: 0 };
    line.request("HEAD", request, head)?;
    line.put(b"\r\n")?;
    Ok(line.used)
}

/// Writes a `GET` for `range` of what `request` asks, for the own line; its length.
///
/// All the client's end-to-end fields are in it. With `if_range`, an origin whose object has
/// changed answers with the whole instead.
///
/// # Errors
/// [`TooLong`]; the buffer's content is then unspecified.
pub fn write_get(
    out: &mut [u8],
    request: &Request,
    head: &[u8],
    range: ByteRange,
    if_range: Option<&Validator>,
) -> Result<usize, TooLong> {
    let mut line = Cursor { out, used: 0 };
    line.request("GET", request, head)?;
    line.range(range, if_range)?;
    Ok(line.used)
}

/// Writes a `GET` for `range` on behalf of a neighbour, from values that passed
/// [`PeerRequest::check`]; its length.
///
/// # Errors
/// [`TooLong`]; the buffer's content is then unspecified.
pub fn write_peer_get(
    out: &mut [u8],
    request: &PeerRequest<'_>,
    range: ByteRange,
    if_range: Option<&Validator>,
) -> Result<usize, TooLong> {
    let mut line = Cursor { out, used: 0 };
    line.start("GET", request.target.as_bytes(), request.host.as_bytes())?;
    for (name, value) in [
        ("Accept", request.accept),
        ("Accept-Encoding", request.accept_encoding),
        ("User-Agent", request.user_agent),
    ] {
        if let Some(value) = value {
            line.field(name.as_bytes(), value.as_bytes())?;
        }
    }
    line.range(range, if_range)?;
    Ok(line.used)
}

struct Cursor<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let end = self.used + bytes.len();
        let place = self.out.get_mut(self.used..end).ok_or(TooLong)?;
        place.copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), TooLong> {
        self.put(name)?;
        self.put(b": ")?;
        self.put(value)?;
        self.put(b"\r\n")
    }

    fn start(&mut self, method: &str, target: &[u8], host: &[u8]) -> Result<(), TooLong> {
        self.put(method.as_bytes())?;
        self.put(b" ")?;
        self.put(target)?;
        self.put(b" HTTP/1.1\r\n")?;
        self.field(b"Host", host)?;
        self.field(b"Connection", b"keep-alive")
    }

    fn request(&mut self, method: &str, request: &Request, head: &[u8]) -> Result<(), TooLong> {
        self.start(method, request.target.of(head), request.host.of(head))?;
        for field in request.fields() {
            self.field(field.name.of(head), field.value.of(head))?;
        }
        Ok(())
    }

    fn range(&mut self, range: ByteRange, if_range: Option<&Validator>) -> Result<(), TooLong> {
        write!(self, "Range: bytes={}-{}\r\n", range.first, range.last).map_err(|_| TooLong)?;
        if let Some(validator) = if_range {
            self.field(b"If-Range", validator.bytes())?;
        }
        self.put(b"\r\n")
    }
}

impl Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes()).map_err(|TooLong| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::{Outcome, classify};
    use crate::settings::Accel;

    const HEAD: &[u8] = b"GET /a%20b/../c.bin?x=1 HTTP/1.1\r\nhost: h.example\r\n\
        User-Agent:  curl/8 \r\nAccept: */*\r\nConnection: close\r\nKeep-Alive: 5\r\nX-Other: a:b\r\n\
        Content-Length: 0\r\nReferer: http://h/\r\n\r\n";

    fn request() -> Request {
        match classify(HEAD, &Accel::new(), 80) {
            Outcome::Candidate(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn text(out: &[u8], written: Result<usize, TooLong>) -> &str {
        std::str::from_utf8(&out[..written.unwrap()]).unwrap()
    }

    #[test]
    fn a_head_request_has_all_end_to_end_fields_of_the_client_and_keeps_the_connection() {
        let mut out = [0; 1024];
        let written = write_head(&mut out, &request(), HEAD);
        assert_eq!(
            text(&out, written),
            "HEAD /a%20b/../c.bin?x=1 HTTP/1.1\r\nHost: h.example\r\nConnection: keep-alive\r\n\
             User-Agent: curl/8\r\nAccept: */*\r\nX-Other: a:b\r\nReferer: http://h/\r\n\r\n"
        );
    }

    #[test]
    fn o28_a_range_request_names_offsets_past_4_gib_and_the_validator() {
        let mut out = [0; 1024];
        let range = ByteRange::new(4_294_967_295, 5_368_709_120).unwrap();
        let etag = Validator::etag(b"\"v-1\"").unwrap();
        let written = write_get(&mut out, &request(), HEAD, range, Some(&etag));
        assert_eq!(
            text(&out, written),
            "GET /a%20b/../c.bin?x=1 HTTP/1.1\r\nHost: h.example\r\nConnection: keep-alive\r\n\
             User-Agent: curl/8\r\nAccept: */*\r\nX-Other: a:b\r\nReferer: http://h/\r\n\
             Range: bytes=4294967295-5368709120\r\nIf-Range: \"v-1\"\r\n\r\n"
        );
    }

    #[test]
    fn d3_a_neighbours_request_has_only_the_allowed_fields() {
        let mut out = [0; 1024];
        let request = request();
        let values = PeerRequest::of(&request, HEAD);
        assert_eq!(values.check(80), Ok(()));
        let range = ByteRange::new(0, 9).unwrap();
        let written = write_peer_get(&mut out, &values, range, None);
        assert_eq!(
            text(&out, written),
            "GET /a%20b/../c.bin?x=1 HTTP/1.1\r\nHost: h.example\r\nConnection: keep-alive\r\n\
             Accept: */*\r\nUser-Agent: curl/8\r\nRange: bytes=0-9\r\n\r\n"
        );
    }

    #[test]
    fn q1_no_request_for_a_part_repeats_the_clients_own_range() {
        const HEAD: &[u8] = b"GET /a.bin HTTP/1.1\r\nHost: h\r\nrange: bytes=5-\r\n\r\n";
        let request = match classify(HEAD, &Accel::new(), 80) {
            Outcome::Candidate(request) => request,
            other => panic!("{other:?}"),
        };
        let mut out = [0; 1024];
        let range = ByteRange::new(70, 79).unwrap();
        let wanted = "GET /a.bin HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\
                      Range: bytes=70-79\r\n\r\n";
        let written = write_get(&mut out, &request, HEAD, range, None);
        assert_eq!(text(&out, written), wanted);
        let written = write_peer_get(&mut out, &PeerRequest::of(&request, HEAD), range, None);
        assert_eq!(text(&out, written), wanted);
    }

    #[test]
    fn d10_a_neighbour_cannot_put_a_line_into_the_request() {
        let good = PeerRequest {
            host: "h",
            target: "/",
            accept: None,
            accept_encoding: None,
            user_agent: Some("u"),
        };
        assert_eq!(good.check(80), Ok(()));
        assert_eq!(good.check(81), Err(PeerRequestFault::Host(HostFault::Port)));
        for host in ["h\r\nX: y", "", "h/", "127.0.0.1 x"] {
            let bad = PeerRequest { host, ..good };
            assert_eq!(
                bad.check(80),
                Err(PeerRequestFault::Host(HostFault::Name)),
                "{host}"
            );
        }
        for target in ["/ HTTP/1.1\r\n", "x", "http://h/", "/\u{e4}"] {
            let bad = PeerRequest { target, ..good };
            assert_eq!(bad.check(80), Err(PeerRequestFault::Target), "{target}");
        }
        for value in ["a\r\nb", "a\n", "\t", " a", "\u{e4}"] {
            for bad in [
                PeerRequest {
                    accept: Some(value),
                    ..good
                },
                PeerRequest {
                    accept_encoding: Some(value),
                    ..good
                },
                PeerRequest {
                    user_agent: Some(value),
                    ..good
                },
            ] {
                assert_eq!(bad.check(80), Err(PeerRequestFault::Field), "{value:?}");
            }
        }
    }

    #[test]
    fn a_request_that_does_not_fit_is_refused_at_every_length() {
        let mut out = [0; 1024];
        let range = ByteRange::new(0, 9).unwrap();
        let full = write_get(&mut out, &request(), HEAD, range, None).unwrap();
        for len in 0..full {
            let written = write_get(&mut out[..len], &request(), HEAD, range, None);
            assert_eq!(written, Err(TooLong), "{len}");
        }
        assert!(write_get(&mut out[..full], &request(), HEAD, range, None).is_ok());
    }
}
