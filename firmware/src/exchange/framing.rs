//! Where a request that is left alone ends, and where its reply does; known exactly or not at all.
//!
//! Follows: RFC 9112 sections 6.3 (length of a message) and 9.3 (persistence), RFC 9110 sections 6.4.1 and 9.3.2.
//! Units: bytes.
//! Not done: bodies of requests; replies in chunks, of HTTP/1.0, or that end with the connection.

use crate::budget::{FOLLOW_BYTES_MAX, REQUEST_FIELDS_MAX, REQUEST_HEAD_BYTES_MAX};
use crate::fetch::response::{ReplyHead, parse_reply};
use crate::wire::http::{Bytes, check_host, is_target, line_end, split_field};

/// A request without body, whole, and nothing behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framed {
    /// Its reply has no body whatever its head says: HEAD.
    pub(crate) head_only: bool,
}

/// Reads the request that `bytes` are; `None` unless they are exactly one request of strict grammar to `port`, by a
/// method without body, that leaves the connection as it is.
pub(crate) fn request(bytes: &[u8], port: u16) -> Option<Framed> {
    if bytes.len() > REQUEST_HEAD_BYTES_MAX {
        return None;
    }
    let line = line_end(bytes, 0, Bytes::Ascii).ok()??;
    let mut parts = bytes[..line.content_end].split(|&byte| byte == b' ');
    let head_only = match parts.next()? {
        b"GET" => false,
        b"HEAD" => true,
        [..] => return None,
    };
    let is_ordinary = is_target(parts.next()?) && parts.next() == Some(b"HTTP/1.1");
    if !is_ordinary || parts.next().is_some() {
        return None;
    }
    let (mut hosts, mut lengths, mut connections) = (0, 0, 0);
    let mut start = line.next;
    for _ in 0..=REQUEST_FIELDS_MAX {
        let line = line_end(bytes, start, Bytes::Ascii).ok()??;
        if line.content_end == start {
            let is_one = hosts == 1 && lengths <= 1 && connections <= 1;
            return (is_one && line.next == bytes.len()).then_some(Framed { head_only });
        }
        let field = split_field(bytes, start, line.content_end).ok()?;
        let (name, value) = (field.name.of(bytes), field.value.of(bytes));
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let begins = |other: &str| {
            let start = name.get(..other.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(other.as_bytes()))
        };
        if is("host") {
            hosts += 1;
            check_host(value, port).ok()?;
        } else if is("content-length") {
            lengths += 1;
            if value != b"0" {
                return None;
            }
        } else if is("connection") {
            connections += 1;
            if !value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
        } else if ["te", "trailer", "transfer-encoding", "expect", "upgrade"]
            .into_iter()
            .any(is)
            || is("http2-settings")
            || begins("proxy-")
            || begins("x-http-method")
            || is("x-method-override")
        {
            return None;
        }
        start = line.next;
    }
    None
}

/// Length of the reply whose first segment brought `payload`; `None` unless the whole head is in it and says it.
pub(crate) fn reply(payload: &[u8], head_only: bool) -> Option<u32> {
    let head = parse_reply(payload).ok()??;
    reply_bytes(&head, head_only)
}

/// Length of a reply, head and body; `None` when more than one reading is possible, or the connection does not go on.
pub(crate) fn reply_bytes(head: &ReplyHead, head_only: bool) -> Option<u32> {
    if head.version_minor != 1 || head.close || head.chunked || head.upgrade {
        return None;
    }
    let body = match head.status {
        // Interim replies: another head follows, or another protocol.
        ..200 => return None,
        // "terminated by the first empty line after the header fields", whatever lengths they tell.
        304 => 0,
        204 => match head.content_length {
            None | Some(0) => 0,
            Some(_) => return None,
        },
        // Whether a body may follow is told differently by different readers.
        205 => return None,
        _ if head_only => 0,
        _ => head.content_length?,
    };
    let bytes = body.checked_add(head.len as u64)?;
    // Below 2^32 by far.
    (bytes <= FOLLOW_BYTES_MAX).then_some(bytes as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::String;

    fn get(fields: &str) -> String {
        format!("GET /a.html HTTP/1.1\r\nHost: o.example\r\n{fields}\r\n")
    }

    #[test]
    fn ordinary_requests_without_a_body_are_framed() {
        for fields in [
            "",
            "Range: bytes=0-5\r\n",
            "If-Modified-Since: x\r\nCache-Control: max-age=0\r\n",
            "Cookie: a=b\r\nAuthorization: c\r\nConnection: Keep-Alive\r\n",
            "Content-Length: 0\r\n",
        ] {
            let framed = request(get(fields).as_bytes(), 80);
            assert_eq!(framed, Some(Framed { head_only: false }), "{fields}");
        }
        let head = get("").replace("GET", "HEAD");
        assert_eq!(
            request(head.as_bytes(), 80),
            Some(Framed { head_only: true })
        );
    }

    #[test]
    fn g3_g4_g14_requests_that_may_be_read_in_two_ways_are_not_framed() {
        for fields in [
            "Transfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, Upgrade\r\n",
            "Connection: keep-alive\r\nConnection: keep-alive\r\n",
            "Upgrade: websocket\r\n",
            "Expect: 100-continue\r\n",
            "Host: another\r\n",
            "TE: trailers\r\n",
            "Proxy-Connection: keep-alive\r\n",
            "X-HTTP-Method-Override: POST\r\n",
            " folded\r\n",
            "A : b\r\n",
            "A: b\n",
            "A: b\rc\r\n",
            "A: \u{7f}\r\n",
        ] {
            assert_eq!(request(get(fields).as_bytes(), 80), None, "{fields:?}");
        }
    }

    #[test]
    fn g8_g12_g13_q4_other_lines_and_other_lengths_are_not_framed() {
        for (from, to) in [
            ("GET ", "POST "),
            ("GET ", "get "),
            ("GET ", "CONNECT "),
            ("GET ", "\r\nGET "),
            ("/a.html", "http://o.example/a.html"),
            ("HTTP/1.1", "HTTP/1.0"),
            (" HTTP/1.1", "  HTTP/1.1"),
            (" HTTP/1.1", " HTTP/1.1 x"),
            ("Host: o.example", "Host: o.example:8080"),
            ("Host: o.example\r\n", ""),
        ] {
            let text = get("").replacen(from, to, 1);
            assert_eq!(request(text.as_bytes(), 80), None, "{text:?}");
        }
        let whole = get("Range: bytes=0-5\r\n");
        for len in 0..whole.len() {
            assert_eq!(request(&whole.as_bytes()[..len], 80), None, "{len}");
        }
        let two = format!("{whole}{whole}");
        assert_eq!(request(two.as_bytes(), 80), None);
    }

    #[test]
    fn a_reply_with_one_length_is_framed() {
        let told = |text: &str, head_only| reply(text.as_bytes(), head_only);
        for status in ["200 OK", "206 Part", "301 Moved", "404 Not", "503 Busy"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 70\r\n\r\n");
            let len = head.len() as u32;
            assert_eq!(told(&format!("{head}first"), false), Some(len + 70));
            assert_eq!(told(&head, true), Some(len));
        }
        let head = "HTTP/1.1 304 Not\r\nContent-Length: 70\r\n\r\n";
        assert_eq!(told(head, false), Some(head.len() as u32));
        let head = "HTTP/1.1 204 No\r\n\r\n";
        assert_eq!(told(head, false), Some(head.len() as u32));
    }

    #[test]
    fn k16_k17_k18_k19_o20_o30_other_replies_are_not_framed() {
        for text in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +7\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n",
            "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 7\n\n",
            "",
        ] {
            assert_eq!(reply(text.as_bytes(), false), None, "{text:?}");
        }
    }
}
