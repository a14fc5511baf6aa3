//! Ways in which an origin's reply is bent after it was made: heads, lengths, what stands before and behind a reply.
//!
//! Follows: RFC 9110 sections 8, 14, 15.2 (interim responses); RFC 9112 sections 6, 9.
//! Units: bytes, µs, bytes a second.

use super::behaviour::{Object, Reply, Request};

/// One change of a finished reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// These whole lines are added to the head of whole replies, HEAD's included.
    Fields(&'static str),
    /// These whole lines are added to the head of `206` replies.
    RangeFields(&'static str),
    /// This many made-up fields are added to the head of whole replies; see [`unknown_fields`].
    ManyFields(u32),
    /// The value of Content-Length in whole replies, and the connection ends after the body.
    Length(&'static str),
    /// No Content-Length in whole replies: the connection's end is the body's.
    NoLength,
    /// The ETag of whole replies, nothing else of them.
    Etag(&'static str),
    /// `a-b` is answered whole, `a-` is honoured.
    OpenRangesOnly,
    /// `206` as a multipart body of one part.
    Multipart,
    /// `206` with one body byte more than its Content-Range names, and a Content-Length that says so.
    LengthDisagrees,
    /// Behind the body of a `206` come bytes that no head announces.
    Trailing(&'static [u8]),
    /// HEAD tells this length.
    HeadLength(u64),
    /// HEAD tells another ETag than GET.
    HeadEtag,
    /// HEAD tells another type than GET.
    HeadType,
    /// HEAD is answered with the body behind its head.
    HeadBody,
    /// So many interim replies of this status before each reply.
    Interim(u16, u32),
    /// Bytes of head a second.
    SlowHead(u64),
    /// After so many body bytes nothing for so many µs, then the rest.
    Pause(u64, u64),
    /// RST once all of the reply is acknowledged.
    ResetAtEnd,
}

/// The lines of [`Bend::ManyFields`].
pub fn unknown_fields(count: u32) -> String {
    (0..count)
        .map(|number| format!("X-Unknown-{number}: \"{number}, a;b=c\" \u{e4}\r\n"))
        .collect()
}

/// The head with the value of a field replaced; without `value`, with the field taken out.
fn with_field(head: &str, name: &str, value: Option<&str>) -> String {
    let mut text = String::new();
    for line in head.split_inclusive("\r\n") {
        match line.strip_prefix(name).filter(|rest| rest.starts_with(':')) {
            None => text.push_str(line),
            Some(_) => {
                if let Some(value) = value {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
            }
        }
    }
    text
}

/// The head with whole lines added at its end.
fn with_lines(head: &str, lines: &str) -> String {
    let end = head.len() - 2;
    format!("{}{lines}\r\n", &head[..end])
}

/// The request as an origin with this bend reads it.
pub fn read_request(bend: Bend, request: &mut Request) {
    match bend {
        Bend::OpenRangesOnly => {
            request.range = request.range.take().filter(|range| range.ends_with('-'));
        }
        Bend::Fields(_)
        | Bend::RangeFields(_)
        | Bend::ManyFields(_)
        | Bend::Length(_)
        | Bend::NoLength
        | Bend::Etag(_)
        | Bend::Multipart
        | Bend::LengthDisagrees
        | Bend::Trailing(_)
        | Bend::HeadLength(_)
        | Bend::HeadEtag
        | Bend::HeadType
        | Bend::HeadBody
        | Bend::Interim(..)
        | Bend::SlowHead(_)
        | Bend::Pause(..)
        | Bend::ResetAtEnd => {}
    }
}

/// Bends the reply to `request`.
pub fn bend(bend: Bend, request: &Request, object: Option<Object>, reply: &mut Reply) {
    let head = String::from_utf8_lossy(&reply.head).into_owned();
    let (is_head, is_whole, is_part) = (
        request.method == "HEAD",
        reply.status == 200,
        reply.status == 206,
    );
    let body = reply.body_to - reply.body_from;
    let changed = match bend {
        Bend::Fields(lines) if is_whole => Some(with_lines(&head, lines)),
        Bend::RangeFields(lines) if is_part => Some(with_lines(&head, lines)),
        Bend::ManyFields(count) if is_whole => Some(with_lines(&head, &unknown_fields(count))),
        Bend::Length(value) if is_whole => {
            reply.close = true;
            Some(with_field(&head, "Content-Length", Some(value)))
        }
        Bend::NoLength if is_whole => {
            reply.close = true;
            Some(with_field(&head, "Content-Length", None))
        }
        Bend::Etag(tag) if is_whole => {
            let dated = with_field(&head, "Last-Modified", None);
            Some(with_field(&dated, "ETag", Some(tag)))
        }
        Bend::Multipart if is_part => {
            let range = head
                .lines()
                .find(|line| line.starts_with("Content-Range: "))
                .unwrap_or("Content-Range: bytes */*");
            let part = format!("--b\r\nContent-Type: video/mp4\r\n{range}\r\n\r\n");
            reply.tail = b"\r\n--b--\r\n".to_vec();
            let length = (body + (part.len() + reply.tail.len()) as u64).to_string();
            let plain = with_field(&head, "Content-Range", None);
            let kind = Some("multipart/byteranges; boundary=b");
            let plain = with_field(&plain, "Content-Type", kind);
            let plain = with_field(&plain, "Content-Length", Some(&length));
            Some(plain + &part)
        }
        Bend::LengthDisagrees if is_part => {
            reply.body_to += 1;
            let length = (body + 1).to_string();
            Some(with_field(&head, "Content-Length", Some(&length)))
        }
        Bend::Trailing(bytes) if is_part => {
            reply.tail = bytes.to_vec();
            None
        }
        Bend::HeadLength(length) if is_head => {
            let length = length.to_string();
            Some(with_field(&head, "Content-Length", Some(&length)))
        }
        Bend::HeadEtag if is_head => Some(with_field(&head, "ETag", Some("\"another-0\""))),
        Bend::HeadType if is_head => Some(with_field(&head, "Content-Type", Some("audio/mpeg"))),
        Bend::HeadBody if is_head => {
            reply.body_to = reply.body_from + object.map_or(0, |object| object.size.min(50_000));
            None
        }
        Bend::Interim(status, count) if reply.status != 0 => {
            let interim = format!("HTTP/1.1 {status} Interim\r\nX-Early: hint\r\n\r\n");
            Some(interim.repeat(count as usize) + &head)
        }
        Bend::SlowHead(rate) => {
            reply.head_rate = rate;
            None
        }
        Bend::Pause(after, us) => {
            reply.pause = Some((after, us));
            None
        }
        Bend::ResetAtEnd => {
            reply.reset_at_end = true;
            None
        }
        Bend::Fields(_)
        | Bend::RangeFields(_)
        | Bend::ManyFields(_)
        | Bend::Length(_)
        | Bend::NoLength
        | Bend::Etag(_)
        | Bend::OpenRangesOnly
        | Bend::Multipart
        | Bend::LengthDisagrees
        | Bend::Trailing(_)
        | Bend::HeadLength(_)
        | Bend::HeadEtag
        | Bend::HeadType
        | Bend::HeadBody
        | Bend::Interim(..) => None,
    };
    if let Some(head) = changed {
        reply.head = head.into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n";

    #[test]
    fn a_field_is_replaced_taken_out_or_added_and_the_rest_stays() {
        let replaced = "HTTP/1.1 200 OK\r\nETag: W/x\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(with_field(HEAD, "ETag", Some("W/x")), replaced);
        let without = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\n\r\n";
        assert_eq!(with_field(HEAD, "Content-Length", None), without);
        let added = "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nContent-Length: 5\r\nA: b\r\n\r\n";
        assert_eq!(with_lines(HEAD, "A: b\r\n"), added);
    }
}
