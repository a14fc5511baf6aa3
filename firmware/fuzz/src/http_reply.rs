//! Replies: what is read does not depend on the pieces they come in, and whoever reads what is joined reads the same.

use firmware::fetch::response::{
    Object, PartRefused, ReplyHead, judge_part, judge_probe, parse_reply,
};
use firmware::settings::Accel;
use firmware::wire::http::ByteRange;

use crate::{input, reader};

/// Runs the target.
pub fn run(data: &[u8]) {
    let whole = parse_reply(data);
    for cut in input::cuts(data) {
        match parse_reply(&data[..cut]) {
            Ok(None) => {}
            verdict @ (Ok(Some(_)) | Err(_)) => {
                assert_eq!(whole, verdict, "what {cut} bytes show is final");
            }
        }
    }
    if let Ok(Some(reply)) = whole {
        check_taken(&reply, data);
    }
}

fn check_taken(reply: &ReplyHead, data: &[u8]) {
    let head = reader::read(data).expect("an independent reader takes it, too");
    assert_eq!(head.len, reply.len);
    let [version, status, _] = &head.first;
    assert_eq!(*version, format!("HTTP/1.{}", reply.version_minor));
    assert_eq!(status.parse(), Ok(reply.status));
    assert!(status.len() == 3 && (100..600).contains(&reply.status));
    // Framing.
    let length = head.single("content-length").map(reader::number);
    assert!(head.values("content-length").len() <= 1);
    assert_eq!(length.is_some(), reply.content_length.is_some());
    assert_eq!(length.flatten(), reply.content_length);
    assert_eq!(head.has("transfer-encoding"), reply.chunked);
    assert!(
        !reply.chunked || length.is_none(),
        "two ways to tell the end"
    );
    assert!(head.values("content-range").len() <= 1);
    let found = head.single("content-range").and_then(reader::content_range);
    let told = reply
        .content_range
        .map(|told| (told.range.first, told.range.last, told.total));
    assert_eq!(found, told);
    check_httparse(reply, data, &head);

    if let Ok(object) = judge_probe(reply, b"/a.bin", &Accel::new()) {
        check_object(reply, &head, &object);
        assert_eq!((status.as_str(), version.as_str()), ("200", "HTTP/1.1"));
        assert_eq!(length.flatten(), Some(object.total));
    }
    // As a part of the object that it may be a part of; then of others, whose part it is not.
    let (Some(told), Ok(validator)) = (reply.content_range, &reply.validator) else {
        return;
    };
    let kind = reply.content_type.as_deref();
    let object = Object::new(told.total, validator.clone(), kind).expect("the type fits");
    if judge_part(reply, &object, told.range).is_ok() {
        check_object(reply, &head, &object);
        assert_eq!((status.as_str(), version.as_str()), ("206", "HTTP/1.1"));
        assert_eq!(length.flatten(), Some(told.range.len_bytes()));
        let longer = Object {
            total: told.total + 1,
            ..object.clone()
        };
        assert_eq!(
            judge_part(reply, &longer, told.range),
            Err(PartRefused::Total)
        );
        let ranges = [
            ByteRange::new(
                told.range.first + 1,
                told.range.last.max(told.range.first + 1),
            ),
            told.range
                .first
                .checked_sub(1)
                .and_then(|first| ByteRange::new(first, told.range.last)),
            told.range
                .last
                .checked_sub(1)
                .and_then(|last| ByteRange::new(told.range.first, last)),
        ];
        for other in ranges.into_iter().flatten() {
            assert_eq!(
                judge_part(reply, &object, other),
                Err(PartRefused::Place),
                "{other:?}"
            );
        }
    }
}

/// What both kinds of reply that are joined have in common.
fn check_object(reply: &ReplyHead, head: &reader::Head, object: &Object) {
    assert!(!head.has("transfer-encoding") && !head.has("upgrade") && !head.has("trailer"));
    for coding in head.values("content-encoding") {
        assert!(coding.eq_ignore_ascii_case(b"identity"));
    }
    let tag = head.values("etag");
    assert!(tag.len() <= 1);
    match tag.first() {
        Some(tag) => {
            assert!(tag.len() >= 2 && tag.starts_with(b"\"") && tag.ends_with(b"\""));
            assert_eq!(object.validator.bytes(), *tag);
        }
        None => assert_eq!(
            head.single("last-modified"),
            Some(object.validator.bytes()),
            "one or the other"
        ),
    }
    assert_eq!(reply.content_type, object.content_type);
    assert_eq!(head.single("content-type"), object.content_type.as_deref());
}

fn check_httparse(reply: &ReplyHead, data: &[u8], head: &reader::Head) {
    let mut table = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Response::new(&mut table);
    assert_eq!(other.parse(data), Ok(httparse::Status::Complete(reply.len)));
    assert_eq!(other.code, Some(reply.status));
    assert_eq!(other.version, Some(reply.version_minor));
    let fields: Vec<_> = other
        .headers
        .iter()
        .map(|field| {
            (
                field.name.to_ascii_lowercase(),
                field.value.trim_ascii().to_vec(),
            )
        })
        .collect();
    assert_eq!(fields, head.fields);
}
