//! What origins say, by the rows of the fault list: what is split, what is joined, what is not.

use proptest::prelude::*;

use super::*;
use crate::budget::{REPLY_FIELDS_MAX, REPLY_HEAD_BYTES_MAX};
use crate::counters::Stage;

const ETAG: &str = "ETag: \"v1\"\r\n";
const KIB_512: u64 = 512 * 1024;

fn parse(head: impl AsRef<[u8]>) -> Result<Option<ReplyHead>, ReplyRefused> {
    parse_reply(head.as_ref())
}

/// A probe's reply with these lines added to a status and a length.
fn probe(lines: &str) -> Result<Object, Reason> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {KIB_512}\r\n{lines}\r\n");
    judge(&head)
}

fn judge(head: &str) -> Result<Object, Reason> {
    let reply = parse(head).unwrap_or_else(|refused| panic!("{refused:?}: {head}"));
    judge_probe(&reply.expect("a whole head"), b"/download", &Accel::new())
}

fn object() -> Object {
    probe(&format!("{ETAG}Content-Type: application/zip\r\n")).unwrap()
}

const ASKED: ByteRange = ByteRange {
    first: 1000,
    last: 1999,
};

/// A part's reply with these lines; the good ones unless named.
fn part(lines: &str) -> Result<ByteRange, PartRefused> {
    part_with_status("206 Partial Content", lines)
}

fn part_with_status(status: &str, lines: &str) -> Result<ByteRange, PartRefused> {
    let mut head = format!("HTTP/1.1 {status}\r\n{lines}");
    for (name, line) in [
        (
            "content-range:",
            "Content-Range: bytes 1000-1999/524288\r\n",
        ),
        ("content-length:", "Content-Length: 1000\r\n"),
        ("etag:", ETAG),
    ] {
        let chunked = name == "content-length:" && lines.contains("Transfer-Encoding");
        if !head.to_ascii_lowercase().contains(name) && !chunked {
            head.push_str(line);
        }
    }
    head.push_str("\r\n");
    let reply = parse(&head).unwrap_or_else(|refused| panic!("{refused:?}: {head}"));
    judge_part(&reply.expect("a whole head"), &object(), ASKED)
}

#[test]
fn nginx_and_apache_replies_are_split() {
    for (head, total) in [
        (
            "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: 33554432\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\
             ETag: \"65c0f1c2-2000000\"\r\nAccept-Ranges: bytes\r\n\r\n",
            33_554_432,
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\nServer: Apache/2.4 (Debian)\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"100000-5f1\"\r\n\
             Accept-Ranges: bytes\r\nContent-Length: 1048576\r\nKeep-Alive: timeout=5, max=100\r\n\
             Connection: Keep-Alive\r\nContent-Type: application/zip\r\n\r\n",
            1_048_576,
        ),
    ] {
        let reply = parse(head).unwrap().unwrap();
        assert_eq!(
            (reply.len, reply.status, reply.close),
            (head.len(), 200, false)
        );
        assert_eq!(judge(head).map(|object| object.total), Ok(total));
    }
}

#[test]
fn o3_an_origin_that_says_it_has_no_ranges_is_not_split() {
    for value in ["none", "NONE", "items", ""] {
        let lines = format!("{ETAG}Accept-Ranges: {value}\r\n");
        assert_eq!(probe(&lines), Err(Reason::ReplyNoRanges), "{value}");
    }
    assert!(probe(&format!("{ETAG}Accept-Ranges: bytes\r\n")).is_ok());
    assert!(probe(ETAG).is_ok());
}

#[test]
fn o8_a_probe_that_fails_is_not_split() {
    for status in [
        "405 No",
        "404 No",
        "403 No",
        "501 No",
        "302 Found",
        "206 Partial",
        "103 Early",
    ] {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {KIB_512}\r\n{ETAG}\r\n");
        assert_eq!(judge(&head), Err(Reason::ReplyStatus), "{status}");
    }
}

#[test]
fn o13_weak_etag_is_not_split() {
    assert_eq!(probe("ETag: W/\"v1\"\r\n"), Err(Reason::ReplyWeakEtag));
    let also_a_date = "ETag: W/\"v1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                       Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
    assert_eq!(probe(also_a_date), Err(Reason::ReplyWeakEtag));
}

#[test]
fn o14_an_older_last_modified_is_split_and_its_parts_must_carry_it() {
    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n";
    const OLD: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    const OTHER: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:36 GMT\r\n";
    let object = probe(&format!("{OLD}{DATE}")).unwrap();
    let judge = |lines: &str| {
        let head = format!(
            "HTTP/1.1 206 P\r\nContent-Range: bytes 1000-1999/524288\r\n\
             Content-Length: 1000\r\n{DATE}{lines}\r\n"
        );
        judge_part(&parse(&head).unwrap().unwrap(), &object, ASKED)
    };
    assert_eq!(judge(OLD), Ok(ASKED));
    assert_eq!(judge(OTHER), Err(PartRefused::Validator));
    assert_eq!(judge(""), Err(PartRefused::Validator));
    assert_eq!(judge(&format!("{OLD}{ETAG}")), Err(PartRefused::Validator));
}

#[test]
fn o15_a_last_modified_that_is_not_strong_is_not_split() {
    let modified = |date: &str, lines: &str| {
        probe(&format!(
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nLast-Modified: {date}\r\n{lines}"
        ))
    };
    for date in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Mon, 07 Nov 1994 08:49:37 GMT",
        "0",
        "",
    ] {
        assert_eq!(modified(date, ""), Err(Reason::ReplyDate), "{date}");
    }
    let no_date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(probe(no_date), Err(Reason::ReplyDate));
}

#[test]
fn o16_without_a_validator_nothing_is_split() {
    assert_eq!(probe(""), Err(Reason::ReplyNoValidator));
}

#[test]
fn o17_an_odd_etag_is_not_split() {
    for etag in [
        "v1",
        "\"\"",
        "",
        "\"a,b\"",
        "'v1'",
        &format!("\"{}\"", "a".repeat(3000)),
    ] {
        let lines = format!("ETag: {etag}\r\n");
        assert_eq!(probe(&lines), Err(Reason::ReplyOddEtag), "{etag}");
    }
    let eight_bit = b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\nETag: \"\xe4\"\r\n\r\n";
    let reply = parse(eight_bit).unwrap().unwrap();
    assert_eq!(
        judge_probe(&reply, b"/download", &Accel::new()),
        Err(Reason::ReplyOddEtag)
    );
    let twice = format!("HTTP/1.1 200 OK\r\n{ETAG}ETag: \"v2\"\r\n\r\n");
    assert_eq!(parse(twice), Err(ReplyRefused::Repeated));
}

#[test]
fn o18_a_content_coding_is_not_split() {
    for coding in ["gzip", "br", "identity, gzip", ""] {
        let lines = format!("{ETAG}Content-Encoding: {coding}\r\nVary: Accept-Encoding\r\n");
        assert_eq!(probe(&lines), Err(Reason::ReplyCoded), "{coding}");
    }
    assert!(
        probe(&format!(
            "{ETAG}Content-Encoding: identity\r\nVary: Accept-Encoding\r\n"
        ))
        .is_ok()
    );
}

#[test]
fn o19_a_part_with_a_content_coding_is_refused() {
    assert_eq!(part("Content-Encoding: gzip\r\n"), Err(PartRefused::Coded));
}

#[test]
fn o20_a_body_that_tells_its_own_length_is_not_split() {
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{ETAG}\r\n");
    assert_eq!(judge(&head), Err(Reason::ReplyChunked));
    let head = format!("HTTP/1.1 200 OK\r\n{ETAG}\r\n");
    assert_eq!(judge(&head), Err(Reason::ReplyNoLength));
    assert_eq!(
        part("Transfer-Encoding: chunked\r\n"),
        Err(PartRefused::Chunked)
    );
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(parse(both), Err(ReplyRefused::LengthAndCoding));
}

#[test]
fn o21_a_multipart_reply_is_refused() {
    let lines = "Content-Type: multipart/byteranges; boundary=x\r\n";
    assert_eq!(part(lines), Err(PartRefused::Multipart));
}

#[test]
fn o4_o5_o27_k10_k11_k13_another_status_than_206_is_refused() {
    for (status, refused) in [
        ("200 OK", PartRefused::RangeIgnored),
        ("302 Found", PartRefused::Redirected),
        ("304 Not Modified", PartRefused::Redirected),
        ("401 No", PartRefused::Denied),
        ("403 No", PartRefused::Denied),
        ("451 No", PartRefused::Denied),
        ("416 No", PartRefused::Unsatisfiable),
        ("429 No", PartRefused::Busy),
        ("503 No", PartRefused::Busy),
        ("404 No", PartRefused::Status),
        ("100 Continue", PartRefused::Status),
    ] {
        assert_eq!(part_with_status(status, ""), Err(refused), "{status}");
    }
}

#[test]
fn o6_o11_a_part_of_another_version_is_refused() {
    assert_eq!(part(""), Ok(ASKED));
    for etag in ["\"v2\"", "W/\"v1\"", "v1", ""] {
        let lines = format!("ETag: {etag}\r\n");
        assert_eq!(part(&lines), Err(PartRefused::Validator), "{etag}");
    }
    let none =
        "HTTP/1.1 206 P\r\nContent-Range: bytes 1000-1999/524288\r\nContent-Length: 1000\r\n\r\n";
    let reply = parse(none).unwrap().unwrap();
    assert_eq!(
        judge_part(&reply, &object(), ASKED),
        Err(PartRefused::Validator)
    );
}

#[test]
fn o12_a_part_of_another_total_is_refused() {
    for total in ["524287", "524289"] {
        let lines = format!("Content-Range: bytes 1000-1999/{total}\r\n");
        assert_eq!(part(&lines), Err(PartRefused::Total), "{total}");
    }
}

#[test]
fn o22_a_content_range_of_another_place_or_form_is_refused() {
    for (range, length) in [
        ("1001-1999", 999),
        ("999-1999", 1001),
        ("1000-2000", 1001),
        ("0-0", 1),
    ] {
        let lines = format!("Content-Range: bytes {range}/524288\r\nContent-Length: {length}\r\n");
        assert_eq!(part(&lines), Err(PartRefused::Place), "{range}");
    }
    assert_eq!(
        part("Content-Range: bytes */524288\r\n"),
        Err(PartRefused::NoContentRange)
    );
    for value in [
        "bytes 1999-1000/524288",
        "bytes 0-524288/524288",
        "bytes 1000-1999/*",
        "bytes=0-9/10",
        "items 0-9/10",
        "Bytes 0-9/10",
        "bytes 0-9",
        "bytes 0-9/10, bytes 0-9/10",
        "bytes  0-9/10",
        "bytes -9/10",
        "bytes 0-/10",
        "bytes 0-9/",
        "bytes +0-9/10",
        "",
        "bytes 0 - 9/10",
        "bytes 0-9/9223372036854775808",
    ] {
        let head = format!("HTTP/1.1 206 P\r\nContent-Range: {value}\r\n\r\n");
        assert_eq!(parse(&head), Err(ReplyRefused::ContentRange), "{value}");
    }
    let two =
        "HTTP/1.1 206 P\r\nContent-Range: bytes 0-9/10\r\nContent-Range: bytes 0-9/10\r\n\r\n";
    assert_eq!(parse(two), Err(ReplyRefused::Repeated));
}

#[test]
fn o24_an_honestly_shorter_part_is_taken_for_what_it_is() {
    let lines = "Content-Range: bytes 1000-1499/524288\r\nContent-Length: 500\r\n";
    assert_eq!(part(lines), Ok(ByteRange::new(1000, 1499).unwrap()));
}

#[test]
fn o25_a_part_whose_length_and_range_disagree_is_refused() {
    for length in [0, 999, 1001] {
        let lines = format!("Content-Length: {length}\r\n");
        assert_eq!(part(&lines), Err(PartRefused::Length), "{length}");
    }
    let none = format!("HTTP/1.1 206 P\r\nContent-Range: bytes 1000-1999/524288\r\n{ETAG}\r\n");
    let reply = parse(none).unwrap().unwrap();
    assert_eq!(
        judge_part(&reply, &object(), ASKED),
        Err(PartRefused::Length)
    );
}

#[test]
fn a_part_of_another_type_is_refused_and_one_without_type_is_not() {
    assert_eq!(part("Content-Type: application/zip\r\n"), Ok(ASKED));
    assert_eq!(
        part("Content-Type: text/html\r\n"),
        Err(PartRefused::ContentType)
    );
}

#[test]
fn o28_offsets_and_lengths_past_4_gib_are_exact() {
    for total in [1_u64 << 31, (1 << 32) - 1, 1 << 32, 5 * (1 << 30) + 1] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{ETAG}\r\n");
        let object = judge(&head).unwrap();
        assert_eq!(object.total, total);
        let asked = ByteRange::new(total - 10, total - 1).unwrap();
        let head = format!(
            "HTTP/1.1 206 P\r\nContent-Length: 10\r\n{ETAG}Content-Range: bytes {}-{}/{total}\r\n\r\n",
            asked.first, asked.last
        );
        let reply = parse(&head).unwrap().unwrap();
        assert_eq!(judge_part(&reply, &object, asked), Ok(asked));
    }
}

#[test]
fn o29_objects_below_the_threshold_are_not_split() {
    let settings = Accel::new();
    let judge = |total: u64| {
        judge(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n{ETAG}\r\n"
        ))
        .map(|object| object.total)
    };
    let threshold = settings.threshold_bytes;
    for total in [0, 1, threshold - 1] {
        assert_eq!(judge(total), Err(Reason::ReplySmall), "{total}");
    }
    for total in [threshold, threshold + 1] {
        assert_eq!(judge(total), Ok(total));
    }
}

#[test]
fn o30_a_length_that_is_not_plain_digits_is_refused() {
    for value in [
        "+5",
        "5, 5",
        "5, 6",
        "0x5",
        "",
        "1".repeat(19 + 1).as_str(),
        &"9".repeat(40),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {value}\r\n\r\n");
        assert_eq!(parse(&head), Err(ReplyRefused::ContentLength), "{value}");
    }
    let nineteen = "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n";
    let reply = parse(nineteen).unwrap().unwrap();
    assert_eq!(reply.content_length, Some((1 << 63) - 1));
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(parse(twice), Err(ReplyRefused::Repeated));
}

#[test]
fn o31_private_and_varying_replies_are_not_split() {
    for (line, reason) in [
        ("Cache-Control: no-store", Reason::ReplyPrivate),
        ("Cache-Control: max-age=5, Private", Reason::ReplyPrivate),
        ("Cache-Control: private=\"x\"", Reason::ReplyPrivate),
        ("Set-Cookie: a=b", Reason::ReplyCookie),
        ("Vary: *", Reason::ReplyVary),
        ("Vary: Accept, cookie", Reason::ReplyVary),
        ("Upgrade: h2c", Reason::ReplyUpgrade),
        ("Connection: upgrade, keep-alive", Reason::ReplyUpgrade),
        ("Alt-Svc: h3=\":443\"", Reason::ReplyUpgrade),
        ("Trailer: x", Reason::ReplyUpgrade),
        ("Content-Type: text/html", Reason::ReplyType),
        ("Content-Type: application/json", Reason::ReplyType),
    ] {
        assert_eq!(probe(&format!("{ETAG}{line}\r\n")), Err(reason), "{line}");
    }
    for line in [
        "Cache-Control: no-transform",
        "Cache-Control: public",
        "Vary: Accept-Encoding",
    ] {
        assert!(probe(&format!("{ETAG}{line}\r\n")).is_ok(), "{line}");
    }
}

#[test]
fn o32_unknown_and_eight_bit_fields_do_not_matter() {
    let many = "X-Unknown: y\r\n".repeat(60);
    assert!(
        probe(&format!(
            "{ETAG}{many}Content-Disposition: attachment; filename=\"a\"\r\n"
        ))
        .is_ok()
    );
    let name = b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\nETag: \"v1\"\r\nX: \"\xe4\"\r\n\r\n";
    let reply = parse(name).unwrap().unwrap();
    assert!(judge_probe(&reply, b"/download", &Accel::new()).is_ok());
}

#[test]
fn k16_k17_versions_and_connection_tell_whether_it_stays_open() {
    for (head, close) in [
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\n\r\n",
            true,
        ),
    ] {
        assert_eq!(parse(head).unwrap().unwrap().close, close, "{head}");
    }
    let old = format!("HTTP/1.0 200 OK\r\nContent-Length: {KIB_512}\r\n{ETAG}\r\n");
    assert_eq!(judge(&old), Err(Reason::ReplyVersion));
    let busy = "HTTP/1.1 503 No\r\nRetry-After: 30\r\n\r\n";
    assert_eq!(parse(busy).unwrap().unwrap().retry_after_s, Some(30));
}

#[test]
fn g16_odd_status_lines_are_refused() {
    for line in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 ",
        "HTTP/1.1 200OK",
        "HTTP/1.1 99 OK",
        "HTTP/1.1 1000 OK",
        "HTTP/1.1 2OO OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 099 OK",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 \u{e4}",
        "HTTP/1.1 200  OK",
    ] {
        let head = format!("{line}\r\n\r\n");
        assert_eq!(parse(&head), Err(ReplyRefused::StatusLine), "{line}");
    }
}

#[test]
fn g17_heads_that_could_be_read_to_end_elsewhere_are_refused() {
    for (lines, refused) in [
        ("X: \"a\r\n\r\nb\"\r\n", ReplyRefused::OpenQuote),
        ("X: \"a\\\"\r\n", ReplyRefused::OpenQuote),
        ("X: a\r\n b\r\n", ReplyRefused::Field),
        ("X: a\r\n\tb\r\n", ReplyRefused::Line),
        ("X: a\n\n", ReplyRefused::Line),
        ("X: a\r\r\n", ReplyRefused::Line),
        ("X : a\r\n", ReplyRefused::Field),
        ("X\r\n", ReplyRefused::Field),
        (": a\r\n", ReplyRefused::Field),
        ("X: \0\r\n", ReplyRefused::Line),
        ("\u{e4}: a\r\n", ReplyRefused::Field),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        assert_eq!(parse(&head), Err(refused), "{lines:?}");
    }
}

#[test]
fn g5_a_reply_head_past_the_limits_is_refused() {
    let with = |len: usize| {
        let fixed = "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(len - fixed))
    };
    let largest = parse(with(REPLY_HEAD_BYTES_MAX)).unwrap().unwrap();
    assert_eq!(largest.len, REPLY_HEAD_BYTES_MAX);
    assert_eq!(
        parse(with(REPLY_HEAD_BYTES_MAX + 1)),
        Err(ReplyRefused::TooLong)
    );
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "X: y\r\n".repeat(REPLY_FIELDS_MAX + 1)
    );
    assert_eq!(parse(many), Err(ReplyRefused::TooManyFields));
}

#[test]
fn refusals_have_texts_of_their_own() {
    let mut names = [
        <ReplyRefused as Stage>::NAMES,
        <PartRefused as Stage>::NAMES,
    ]
    .concat();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Every prefix says "more" until one decides, and that verdict stays; body bytes do not matter.
fn check_every_prefix(bytes: &[u8]) {
    let mut decided = None;
    for len in 0..=bytes.len() {
        let verdict = parse_reply(&bytes[..len]);
        match &decided {
            None if verdict == Ok(None) => {}
            None => decided = Some(verdict),
            Some(before) => assert_eq!(&verdict, before, "at {len}"),
        }
    }
}

fn near_heads() -> impl Strategy<Value = std::vec::Vec<u8>> {
    let line = prop::sample::select(vec![
        "Content-Length: 5",
        "Content-Length: 5 ",
        "content-length:6",
        "ETag: \"a\"",
        "ETag: W/\"a\"",
        "Content-Range: bytes 0-4/5",
        "Content-Range: bytes 4-0/5",
        "Transfer-Encoding: chunked",
        "X: \"y\"",
        "X: \"",
        "X:",
        ":",
        " X: y",
        "",
        "Connection: close",
        "Content-Type: a/b",
        "Date: Sun, 06 Nov 1994 08:49:38 GMT",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (prop::collection::vec(line, 0..6), changes).prop_map(|(lines, changes)| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut head = format!("HTTP/1.1 206 Partial\r\n{lines}\r\nbody").into_bytes();
        for (index, byte) in changes {
            let at = index.index(head.len());
            head[at] = byte;
        }
        head
    })
}

proptest! {
    #[test]
    fn g18_a_reply_split_anywhere_reads_alike(head in near_heads()) {
        check_every_prefix(&head);
    }

    #[test]
    fn g18_random_replies_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_every_prefix(&bytes);
        check_every_prefix(&[b"HTTP/1.1 200 OK\r\nETag: ", &bytes[..]].concat());
    }

    #[test]
    fn g18_what_is_read_is_read_alike_by_httparse(head in near_heads()) {
        if let Ok(Some(reply)) = parse_reply(&head) {
            let mut table = [httparse::EMPTY_HEADER; 16];
            let mut other = httparse::Response::new(&mut table);
            let end = other.parse(&head);
            prop_assert_eq!(end, Ok(httparse::Status::Complete(reply.len)));
            prop_assert_eq!(other.code, Some(reply.status));
            prop_assert_eq!(other.version, Some(reply.version_minor));
            let lengths: Vec<u64, 16> = other
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case("content-length"))
                .map(|field| std::str::from_utf8(field.value).unwrap().trim().parse().unwrap())
                .collect();
            prop_assert_eq!(lengths.as_slice(), reply.content_length.as_slice());
        }
    }
}

/// The verdict on the reply to a client's `Range`, its lines the good ones unless named.
fn own(asked: &str, lines: &str) -> Result<(Object, ByteRange), Reason> {
    own_with_status("206 Partial Content", asked, lines)
}

fn own_with_status(status: &str, asked: &str, lines: &str) -> Result<(Object, ByteRange), Reason> {
    let mut head = format!("HTTP/1.1 {status}\r\n{lines}");
    for (name, line) in [
        (
            "content-range:",
            "Content-Range: bytes 100000-599999/1000000\r\n",
        ),
        ("content-length:", "Content-Length: 500000\r\n"),
        ("etag:", ETAG),
    ] {
        let chunked = name == "content-length:" && lines.contains("Transfer-Encoding");
        if !head.to_ascii_lowercase().contains(name) && !chunked {
            head.push_str(line);
        }
    }
    head.push_str("\r\n");
    let reply = parse(&head).unwrap_or_else(|refused| panic!("{refused:?}: {head}"));
    let asked = AskedRange::parse(asked.as_bytes());
    assert!(asked.is_some());
    let reply = reply.expect("a whole head");
    judge_reply(&reply, asked, b"/download", &Accel::new())
}

const OWN: &str = "bytes=100000-599999";

#[test]
fn q1_the_exact_interval_that_a_client_asked_for_is_split() {
    for (asked, first, last, total) in [
        (OWN, 100_000, 599_999, 1_000_000),
        ("bytes=100000-", 100_000, 599_999, 600_000),
        ("bytes=100000-999999999", 100_000, 599_999, 600_000),
        ("bytes=-500000", 100_000, 599_999, 600_000),
        ("bytes=-500000", 0, 499_999, 500_000),
        ("bytes=-999999999", 0, 499_999, 500_000),
        ("bytes=0-", 0, 499_999, 500_000),
        (
            "bytes=9000000000-",
            9_000_000_000,
            9_000_499_999,
            9_000_500_000,
        ),
    ] {
        let lines = format!("Content-Range: bytes {first}-{last}/{total}\r\n");
        let (object, body) = own(asked, &lines).unwrap_or_else(|why| panic!("{asked}: {why:?}"));
        assert_eq!(object.total, total, "{asked}");
        assert_eq!((body.first, body.last), (first, last), "{asked}");
    }
}

#[test]
fn q1_a_reply_of_another_interval_than_asked_for_is_left_alone() {
    for (asked, place) in [
        // Beginning or end elsewhere, although the length is right.
        (OWN, "99999-599998/1000000"),
        (OWN, "100001-600000/1000000"),
        // Shorter, longer.
        (OWN, "100000-599998/1000000"),
        (OWN, "100000-600000/1000000"),
        // Not clipped where the object ends, or the end of another object.
        ("bytes=100000-", "100000-599999/600001"),
        ("bytes=100000-999999999", "100000-599999/600001"),
        ("bytes=-500000", "100000-599999/600001"),
        ("bytes=-500000", "99999-599998/600000"),
        ("bytes=-400000", "100000-599999/600000"),
        ("bytes=-600000", "100000-599999/600000"),
        // Nothing of what was asked for.
        ("bytes=700000-", "100000-599999/600000"),
    ] {
        let lines = format!("Content-Range: bytes {place}\r\n");
        assert_eq!(
            own(asked, &lines),
            Err(Reason::ReplyPlace),
            "{asked} {place}"
        );
    }
    let unsatisfied = own(OWN, "Content-Range: bytes */1000000\r\n");
    assert_eq!(unsatisfied, Err(Reason::ReplyPlace));
    let head = format!("HTTP/1.1 206 P\r\nContent-Length: 500000\r\n{ETAG}\r\n");
    let reply = parse(&head).unwrap().unwrap();
    assert_eq!(
        judge_reply(
            &reply,
            AskedRange::parse(OWN.as_bytes()),
            b"/d",
            &Accel::new()
        ),
        Err(Reason::ReplyPlace)
    );
}

#[test]
fn q1_a_content_range_of_another_form_is_not_read_at_all() {
    for value in [
        "bytes 100000-599999/*",
        "bytes=100000-599999/1000000",
        "bytes 100000-599999",
        "bytes  100000-599999/1000000",
        "bytes 100000 -599999/1000000",
        "bytes 100000-1000000/1000000",
        "bytes 599999-100000/1000000",
        "Bytes 100000-599999/1000000",
        "items 100000-599999/1000000",
        "bytes 100000-599999/1000000, bytes 1-2/3",
    ] {
        let head = format!(
            "HTTP/1.1 206 P\r\nContent-Range: {value}\r\nContent-Length: 500000\r\n{ETAG}\r\n"
        );
        assert_eq!(parse(&head), Err(ReplyRefused::ContentRange), "{value}");
    }
    let twice = "Content-Range: bytes 100000-599999/1000000\r\n".repeat(2);
    let head = format!("HTTP/1.1 206 P\r\n{twice}Content-Length: 500000\r\n{ETAG}\r\n");
    assert_eq!(parse(&head), Err(ReplyRefused::Repeated));
}

#[test]
fn q1_other_statuses_than_206_to_a_clients_range_are_left_alone() {
    for status in [
        "416 No",
        "404 No",
        "302 Found",
        "304 No",
        "503 Busy",
        "201 C",
    ] {
        let said = own_with_status(status, OWN, "");
        assert_eq!(said, Err(Reason::ReplyStatus), "{status}");
    }
    // RFC 9110 section 14.2: "A server MAY ignore the Range header field."
    let whole = own_with_status("200 OK", OWN, "Content-Length: 1000000\r\n");
    assert_eq!(whole, Err(Reason::ReplyRangeIgnored));
    // Nobody asked for a part.
    let head = format!(
        "HTTP/1.1 206 P\r\nContent-Range: bytes 0-499999/500000\r\nContent-Length: 500000\r\n{ETAG}\r\n"
    );
    let reply = parse(&head).unwrap().unwrap();
    assert_eq!(
        judge_reply(&reply, None, b"/download", &Accel::new()),
        Err(Reason::ReplyStatus)
    );
}

#[test]
fn q1_a_206_is_judged_as_strictly_as_a_200() {
    for (lines, reason) in [
        ("Content-Length: 499999\r\n", Reason::ReplyLength),
        ("Content-Length: 500001\r\n", Reason::ReplyLength),
        ("Content-Length: 1000000\r\n", Reason::ReplyLength),
        ("Transfer-Encoding: chunked\r\n", Reason::ReplyChunked),
        ("Content-Encoding: gzip\r\n", Reason::ReplyCoded),
        (
            "Content-Type: multipart/byteranges; boundary=x\r\n",
            Reason::ReplyMultipart,
        ),
        ("Content-Type: text/html\r\n", Reason::ReplyType),
        ("ETag: W/\"a\"\r\n", Reason::ReplyWeakEtag),
        ("ETag: \"a,b\"\r\n", Reason::ReplyOddEtag),
        ("Accept-Ranges: none\r\n", Reason::ReplyNoRanges),
        ("Cache-Control: private\r\n", Reason::ReplyPrivate),
        ("Cache-Control: no-store\r\n", Reason::ReplyPrivate),
        ("Set-Cookie: a=b\r\n", Reason::ReplyCookie),
        ("Vary: Cookie\r\n", Reason::ReplyVary),
        ("Alt-Svc: h2\r\n", Reason::ReplyUpgrade),
    ] {
        assert_eq!(own(OWN, lines), Err(reason), "{lines}");
    }
    let judge = |head: &str| {
        let reply = parse(head).unwrap().unwrap();
        judge_reply(
            &reply,
            AskedRange::parse(OWN.as_bytes()),
            b"/download",
            &Accel::new(),
        )
    };
    const PLACE: &str = "Content-Range: bytes 100000-599999/1000000\r\n";
    let no_length = format!("HTTP/1.1 206 P\r\n{PLACE}{ETAG}\r\n");
    assert_eq!(judge(&no_length), Err(Reason::ReplyNoLength));
    let nameless = format!("HTTP/1.1 206 P\r\n{PLACE}Content-Length: 500000\r\n\r\n");
    assert_eq!(judge(&nameless), Err(Reason::ReplyNoValidator));
    let old = format!("HTTP/1.0 206 P\r\n{PLACE}Content-Length: 500000\r\n{ETAG}\r\n");
    assert_eq!(judge(&old), Err(Reason::ReplyVersion));
}

#[test]
fn q1_the_threshold_is_the_intervals_not_the_objects() {
    let threshold = Accel::new().threshold_bytes;
    let says = |length: u64| {
        let last = 100_000 + length - 1;
        let lines =
            format!("Content-Range: bytes 100000-{last}/90000000\r\nContent-Length: {length}\r\n");
        own(&format!("bytes=100000-{last}"), &lines)
    };
    assert_eq!(says(threshold - 1), Err(Reason::ReplySmall));
    assert!(says(threshold).is_ok());
}

#[test]
fn q1_without_a_range_of_the_clients_the_whole_object_is_the_body() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {KIB_512}\r\n{ETAG}\r\n");
    let reply = parse(&head).unwrap().unwrap();
    let (object, body) = judge_reply(&reply, None, b"/download", &Accel::new()).unwrap();
    assert_eq!(object.total, KIB_512);
    assert_eq!((body.first, body.last), (0, KIB_512 - 1));
}

proptest! {
    /// Of all intervals near the one that an object has of the client's, exactly that one is taken.
    #[test]
    fn q1_only_the_interval_asked_for_is_taken(
        total in 300_000u64..1_000_000,
        first in 0u64..1_200_000,
        length in 1u64..1_200_000,
        form in 0u8..3,
        bent in (-2i64..3, -2i64..3, -2i64..3),
    ) {
        let asked = match form {
            0 => format!("bytes={first}-{}", first + length - 1),
            1 => format!("bytes={first}-"),
            _ => format!("bytes=-{length}"),
        };
        let (from, to) = match form {
            0 => (first, (first + length).min(total)),
            1 => (first, total),
            _ => (total.saturating_sub(length), total),
        };
        prop_assume!(from < to && to - from > 262_144 + 2);
        let moved = |value: u64, by: i64| value.checked_add_signed(by);
        let (Some(said_first), Some(said_end), Some(said_total)) =
            (moved(from, bent.0), moved(to, bent.1), moved(total, bent.2))
        else {
            return Ok(());
        };
        prop_assume!(said_end <= said_total);
        let lines = format!(
            "Content-Range: bytes {said_first}-{}/{said_total}\r\nContent-Length: {}\r\n",
            said_end - 1,
            said_end - said_first,
        );
        // What the object would have of it if it were as long as the reply says.
        let (right_from, right_to) = match form {
            0 => (first, (first + length).min(said_total)),
            1 => (first, said_total),
            _ => (said_total.saturating_sub(length), said_total),
        };
        let verdict = own(&asked, &lines);
        if (said_first, said_end) == (right_from, right_to) {
            let (object, body) = verdict.unwrap();
            prop_assert_eq!(object.total, said_total);
            prop_assert_eq!((body.first, body.last), (said_first, said_end - 1));
        } else {
            prop_assert_eq!(verdict, Err(Reason::ReplyPlace));
        }
    }
}

#[test]
fn plain_text_is_what_its_path_names() {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 524288\r\nContent-Type: text/plain; charset=utf-8\r\n{ETAG}\r\n"
    );
    let reply = parse(&head).unwrap().unwrap();
    assert!(judge_probe(&reply, b"/a.iso", &Accel::new()).is_ok());
    for target in [&b"/download"[..], b"/a.txt", b"/"] {
        assert_eq!(
            judge_probe(&reply, target, &Accel::new()),
            Err(Reason::ReplyType)
        );
    }
    let page = head.replace("text/plain", "text/html");
    let reply = parse(&page).unwrap().unwrap();
    assert_eq!(
        judge_probe(&reply, b"/a.iso", &Accel::new()),
        Err(Reason::ReplyType)
    );
}
