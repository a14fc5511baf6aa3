//! Numbers and places in heads: taken exactly when they are what the grammar says, and the same there and back.

use firmware::classify::{Outcome, classify};
use firmware::fetch::response::parse_reply;
use firmware::settings::Accel;
use firmware::wire::http::{ByteRange, parse_length, write_get};

use crate::{input::Input, reader};

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.byte().is_multiple_of(2) {
        any_value(input.rest());
    } else {
        there_and_back(&mut input);
    }
}

fn any_value(value: &[u8]) {
    assert_eq!(
        parse_length(value),
        reader::number(value),
        "a length is digits alone"
    );
    let is_clean = |byte: &u8| matches!(byte, b' '..=b'~' | 0x80..);
    if !value.iter().all(is_clean) || value.len() > 2048 {
        return;
    }
    let stripped: &[u8] = {
        let text = value.iter().position(|&byte| byte != b' ');
        let end = value.iter().rposition(|&byte| byte != b' ');
        text.zip(end)
            .map_or(&[], |(start, end)| &value[start..=end])
    };
    let read = |name: &str| {
        let mut head = format!("HTTP/1.1 206 P\r\n{name}:").into_bytes();
        head.extend(value);
        head.extend(b"\r\n\r\n");
        parse_reply(&head)
    };
    let length = reader::number(stripped);
    match read("Content-Length") {
        Ok(Some(reply)) => assert!(length.is_some() && reply.content_length == length),
        Ok(None) => panic!("a whole head"),
        Err(_) => assert_eq!(length, None, "refused without a reason"),
    }
    let place = reader::content_range(stripped);
    let unsatisfied = stripped
        .strip_prefix(b"bytes */")
        .is_some_and(|total| reader::number(total).is_some());
    match read("Content-Range") {
        Ok(Some(reply)) => {
            let told = reply.content_range;
            let told = told.map(|told| (told.range.first, told.range.last, told.total));
            assert_eq!(told, place);
            assert!(place.is_some() || unsatisfied, "taken although it is none");
        }
        Ok(None) => panic!("a whole head"),
        Err(_) => assert!(place.is_none() && !unsatisfied, "refused without a reason"),
    }
}

fn there_and_back(input: &mut Input<'_>) {
    // Small, large, and around each other.
    let mut number = || {
        let shift = input.byte() % 64;
        input.u64() >> shift
    };
    let (first, last, total) = (number(), number(), number());
    let is_possible = first <= last && last < total && total < 1 << 63;
    let head = format!("HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{total}\r\n\r\n");
    match parse_reply(head.as_bytes()) {
        Ok(Some(reply)) => {
            assert!(is_possible, "{head}");
            let told = reply.content_range.expect("a place");
            assert_eq!(
                (told.range.first, told.range.last, told.total),
                (first, last, total)
            );
            assert_eq!(told.range.len_bytes(), last - first + 1);
        }
        Ok(None) => panic!("a whole head"),
        Err(_) => assert!(!is_possible, "{head}"),
    }
    let Some(range) = ByteRange::new(first, last) else {
        assert!(first > last || last == u64::MAX);
        return;
    };
    const REQUEST: &[u8] = b"GET /a.bin HTTP/1.1\r\nHost: h\r\n\r\n";
    let Outcome::Candidate(request) = classify(REQUEST, &Accel::new(), 80) else {
        panic!("an ordinary request");
    };
    let mut out = [0; 256];
    let len = write_get(&mut out, &request, REQUEST, range, None).expect("there is room");
    let written = reader::read(&out[..len]).expect("what is written is strict");
    let value = written.single("range").expect("one range");
    let value = std::str::from_utf8(value).expect("text");
    let (a, b) = value
        .strip_prefix("bytes=")
        .and_then(|value| value.split_once('-'))
        .expect("a range");
    assert_eq!((a.parse(), b.parse()), (Ok(first), Ok(last)));
}
