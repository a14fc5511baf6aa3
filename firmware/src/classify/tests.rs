//! Rows G1 to G18 of the fault list, each as the bytes it names, and the verdict's invariants.

use proptest::prelude::*;

use super::*;
use crate::wire::http::{ByteRange, write_get, write_head};

const GOOD: &str =
    "GET /a.bin HTTP/1.1\r\nHost: h.example\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";

fn on_port_80(bytes: impl AsRef<[u8]>) -> Outcome {
    classify(bytes.as_ref(), &Accel::new(), 80)
}

/// The verdict on a good head with `line` as a further field line, line end included.
fn with(line: impl AsRef<[u8]>) -> Outcome {
    let head = b"GET /a.bin HTTP/1.1\r\nHost: h\r\n";
    on_port_80([head, line.as_ref(), b"\r\n"].concat())
}

fn request_line(line: &str) -> Outcome {
    on_port_80(format!("{line}\r\nHost: h\r\n\r\n"))
}

fn taken(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Candidate(_))
}

fn candidate(bytes: impl AsRef<[u8]>) -> Request {
    match on_port_80(bytes) {
        Outcome::Candidate(request) => request,
        Outcome::More | Outcome::Plain(_) => panic!("not taken"),
    }
}

/// Every prefix shorter than the one that decides says `More`, every longer one the verdict.
fn check_every_prefix(bytes: &[u8]) {
    let whole = on_port_80(bytes);
    let mut decided = None;
    for len in 0..=bytes.len() {
        let outcome = on_port_80(&bytes[..len]);
        match (decided, outcome) {
            (None, Outcome::More) => {}
            (None, Outcome::Plain(_)) => decided = Some(outcome),
            (None, Outcome::Candidate(request)) => {
                assert_eq!(usize::from(request.head_len), len);
                decided = Some(Outcome::Plain(Reason::Pipelined));
            }
            (Some(before), _) => assert_eq!(outcome, before, "at {len}"),
        }
    }
    match whole {
        Outcome::Plain(_) => assert_eq!(decided, Some(whole)),
        Outcome::More => assert_eq!(decided, None),
        Outcome::Candidate(_) => assert!(decided.is_some()),
    }
}

#[test]
fn a_plain_download_is_a_candidate() {
    let request = candidate(GOOD);
    let head = GOOD.as_bytes();
    assert_eq!(request.target.of(head), b"/a.bin");
    assert_eq!(request.host.of(head), b"h.example");
    assert_eq!(request.accept.map(|span| span.of(head)), Some(&b"*/*"[..]));
    assert_eq!(
        request.user_agent.map(|span| span.of(head)),
        Some(&b"curl/8"[..])
    );
    assert_eq!(request.accept_encoding, None);
    assert!(!request.close && request.peer_may_see);
    assert_eq!(usize::from(request.head_len), head.len());
    let names: Vec<_> = request
        .fields()
        .iter()
        .map(|field| field.name.text(head))
        .collect();
    assert_eq!(names, ["User-Agent", "Accept"]);
}

#[test]
fn real_clients_are_candidates() {
    for head in [
        "GET /32m.bin HTTP/1.1\r\nHost: 198.51.100.10\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        "GET /32m.bin HTTP/1.1\r\nHost: 198.51.100.10\r\nUser-Agent: Wget/1.21.3\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\nConnection: Keep-Alive\r\n\r\n",
        "GET /32m.bin HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: 198.51.100.10\r\n\
         User-Agent: Python-urllib/3.11\r\nConnection: close\r\n\r\n",
        "GET /32m.bin HTTP/1.1\r\nUser-Agent: aria2/1.36.0\r\nAccept: */*\r\nHost: 198.51.100.10\r\n\
         Pragma: no-cache\r\nCache-Control: no-cache\r\nWant-Digest: SHA-512;q=1\r\n\r\n",
        "GET /download HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    ] {
        assert!(taken(on_port_80(head)), "{head}");
    }
}

#[test]
fn switched_off_or_on_another_port_everything_is_plain() {
    let mut settings = Accel::new();
    assert_eq!(
        classify(GOOD.as_bytes(), &settings, 8080),
        Outcome::Plain(Reason::Port)
    );
    assert_eq!(classify(b"", &settings, 0), Outcome::Plain(Reason::Port));
    settings.enabled = false;
    assert_eq!(
        classify(GOOD.as_bytes(), &settings, 80),
        Outcome::Plain(Reason::Disabled)
    );
}

#[test]
fn g1_line_ends_and_control_bytes_out_of_place_are_plain() {
    for (line, reason) in [
        (&b"X: a\n"[..], Reason::BareLf),
        (b"X: a\rb\r\n", Reason::BareCr),
        (b"X: a\r\r\n", Reason::BareCr),
        (b"X: a\0\r\n", Reason::Control),
        (b"X: a\x01\r\n", Reason::Control),
        (b"X: a\x7f\r\n", Reason::Control),
    ] {
        assert_eq!(with(line), Outcome::Plain(reason), "{line:?}");
    }
    assert_eq!(
        on_port_80("GET /a.bin HTTP/1.1\nHost: h\n\n"),
        Outcome::Plain(Reason::BareLf)
    );
}

#[test]
fn g2_bent_field_lines_are_plain() {
    for (line, reason) in [
        ("X: a\r\n b\r\n", Reason::Folded),
        ("X: a\r\n\tb\r\n", Reason::Tab),
        ("X : a\r\n", Reason::BlankBeforeColon),
        ("X\r\n", Reason::NoColon),
        (": a\r\n", Reason::EmptyName),
        ("X Y: a\r\n", Reason::NameByte),
        ("X\"Y: a\r\n", Reason::NameByte),
    ] {
        assert_eq!(with(line), Outcome::Plain(reason), "{line}");
    }
    let folded_first = "GET /a.bin HTTP/1.1\r\n Host: h\r\n\r\n";
    assert_eq!(on_port_80(folded_first), Outcome::Plain(Reason::Folded));
}

#[test]
fn g3_transfer_encoding_in_a_request_is_plain() {
    for line in [
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: chunked, x\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n",
        "TE: trailers\r\n",
        "Trailer: x\r\n",
    ] {
        assert_eq!(with(line), Outcome::Plain(Reason::Transfer), "{line}");
    }
    assert_eq!(
        with("Transfer-Encoding:\tchunked\r\n"),
        Outcome::Plain(Reason::Tab)
    );
    assert_eq!(
        with("Transfer-Encoding: \x0bchunked\r\n"),
        Outcome::Plain(Reason::Control)
    );
    assert_eq!(
        with(b"Transfer-Encoding: \xa0chunked\r\n"),
        Outcome::Plain(Reason::EightBit)
    );
}

#[test]
fn g4_a_content_length_other_than_one_0_is_plain() {
    assert!(taken(with("Content-Length: 0\r\n")));
    for value in ["5", "00", "+0", "", "0, 0", "-0"] {
        let line = format!("Content-Length: {value}\r\n");
        assert_eq!(with(&line), Outcome::Plain(Reason::ContentLength), "{line}");
    }
    let twice = "Content-Length: 0\r\nContent-Length: 0\r\n";
    assert_eq!(with(twice), Outcome::Plain(Reason::Repeated));
}

#[test]
fn g5_a_head_larger_than_the_limit_is_plain() {
    let fill = REQUEST_HEAD_BYTES_MAX - "GET /a.bin HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n".len();
    let line = |len| format!("X: {}\r\n", "a".repeat(len));
    assert!(taken(with(line(fill))));
    assert_eq!(with(line(fill + 1)), Outcome::Plain(Reason::HeadTooLong));
    assert_eq!(with(line(60 * 1024)), Outcome::Plain(Reason::HeadTooLong));
    let endless = format!("GET /{}", "a".repeat(REQUEST_HEAD_BYTES_MAX - 5));
    assert_eq!(on_port_80(&endless), Outcome::Plain(Reason::HeadTooLong));
    assert_eq!(on_port_80(&endless[1..]), Outcome::Plain(Reason::NotGet));
    assert_eq!(on_port_80(&endless[..endless.len() - 1]), Outcome::More);

    assert!(taken(with("A: b\r\n".repeat(REQUEST_FIELDS_MAX - 1))));
    for count in [REQUEST_FIELDS_MAX, 300] {
        assert_eq!(
            with("A: b\r\n".repeat(count)),
            Outcome::Plain(Reason::TooManyFields)
        );
    }
}

#[test]
fn g6_a_head_in_pieces_has_the_verdict_of_the_whole() {
    for head in [
        GOOD,
        "GET /a.bin HTTP/1.1\r\nHost: h\r\n\r\nGET /b.bin HTTP/1.1\r\n",
        "GET /a.bin HTTP/1.0\r\nHost: h\r\n\r\n",
        "POST /a.bin HTTP/1.1\r\n",
        "GET /a.bin HTTP/1.1\r\nHost: h\rX",
        "GET /a.bin HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET /a.html HTTP/1.1\r\n",
    ] {
        check_every_prefix(head.as_bytes());
    }
}

#[test]
fn g8_absolute_and_other_target_forms_are_plain() {
    for target in ["http://h/a.bin", "http://other/a.bin", "*", "h:80", "a.bin"] {
        let outcome = request_line(&format!("GET {target} HTTP/1.1"));
        assert_eq!(outcome, Outcome::Plain(Reason::Target), "{target}");
    }
}

#[test]
fn g9_a_host_that_is_not_one_plain_name_is_plain() {
    let host = |lines: &str| on_port_80(format!("GET /a.bin HTTP/1.1\r\n{lines}\r\n"));
    assert_eq!(host(""), Outcome::Plain(Reason::NoHost));
    assert_eq!(
        host("Host: h\r\nHost: h\r\n"),
        Outcome::Plain(Reason::Repeated)
    );
    for name in ["", "[::1]", "h.", "u@h", "a,b", "a b", "%61", "a_b"] {
        let outcome = host(&format!("Host: {name}\r\n"));
        assert_eq!(outcome, Outcome::Plain(Reason::HostName), "{name}");
    }
    for name in ["h:81", "h:", "h:8o"] {
        let outcome = host(&format!("Host: {name}\r\n"));
        assert_eq!(outcome, Outcome::Plain(Reason::HostPort), "{name}");
    }
    for name in ["h:80", "H.Example", "198.51.100.10"] {
        assert!(taken(host(&format!("Host: {name}\r\n"))), "{name}");
    }
}

#[test]
fn g11_illegal_target_bytes_are_plain_and_legal_ones_pass_unchanged() {
    for target in ["/a#b.bin", "/%zz.bin", "/a|b.bin", "/\"a.bin"] {
        let outcome = request_line(&format!("GET {target} HTTP/1.1"));
        assert_eq!(outcome, Outcome::Plain(Reason::Target), "{target}");
    }
    assert_eq!(
        request_line("GET /\u{e4}.bin HTTP/1.1"),
        Outcome::Plain(Reason::EightBit)
    );
    let long = format!("/{}.bin", "a".repeat(7995));
    for target in ["/../a.bin", "//a.bin", "/%00.bin", "/%0d%0a.bin", &long] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(candidate(&head).target.text(head.as_bytes()), target);
    }
}

#[test]
fn g12_other_methods_are_plain_at_the_first_byte_that_shows_it() {
    for bytes in [
        "get /a.bin",
        "GETS",
        "HEAD",
        "POST",
        "CONNECT",
        "TRACE",
        "PRI * HTTP/2.0\r\n\r\nSM",
        "P",
        "GEt",
        "GET\t",
        "\u{16}\u{3}\u{1}",
        "SSH-2.0-x\r\n",
    ] {
        assert_eq!(on_port_80(bytes), Outcome::Plain(Reason::NotGet), "{bytes}");
    }
    for bytes in ["", "G", "GE", "GET", "GET "] {
        assert_eq!(on_port_80(bytes), Outcome::More, "{bytes}");
    }
}

#[test]
fn g13_other_versions_are_plain() {
    for version in [
        "HTTP/1.0",
        "HTTP/1.2",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/1.10",
        "HTTP/01.1",
        "",
    ] {
        let outcome = request_line(&format!("GET /a.bin {version}"));
        assert_eq!(outcome, Outcome::Plain(Reason::Version), "{version}");
    }
    assert_eq!(request_line("GET /a.bin"), Outcome::Plain(Reason::Version));
}

#[test]
fn g14_expectations_and_upgrades_are_plain() {
    for (line, reason) in [
        ("Expect: 100-continue\r\n", Reason::Expect),
        ("Upgrade: websocket\r\n", Reason::Upgrade),
        ("Connection: Upgrade\r\n", Reason::Connection),
        ("Connection: keep-alive, x\r\n", Reason::Connection),
        ("Connection: close, keep-alive\r\n", Reason::Connection),
        ("Connection:\r\n", Reason::Connection),
        (
            "Connection: close\r\nConnection: close\r\n",
            Reason::Repeated,
        ),
        ("HTTP2-Settings: x\r\n", Reason::Upgrade),
        ("Proxy-Connection: keep-alive\r\n", Reason::Proxy),
        ("X-HTTP-Method-Override: DELETE\r\n", Reason::Method),
    ] {
        assert_eq!(with(line), Outcome::Plain(reason), "{line}");
    }
    let closing = "GET /a.bin HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n";
    assert!(candidate(closing).close);
    assert!(taken(with("Connection: Keep-Alive\r\nKeep-Alive: 300\r\n")));
}

#[test]
fn g15_blanks_around_the_request_line_are_plain() {
    assert_eq!(
        on_port_80(format!("\r\n{GOOD}")),
        Outcome::Plain(Reason::NotGet)
    );
    for (line, reason) in [
        ("GET  /a.bin HTTP/1.1", Reason::RequestLine),
        ("GET /a.bin  HTTP/1.1", Reason::RequestLine),
        ("GET /a.bin HTTP/1.1 ", Reason::RequestLine),
        ("GET /a b.bin HTTP/1.1", Reason::RequestLine),
        ("GET /a.bin\tHTTP/1.1", Reason::Tab),
    ] {
        assert_eq!(request_line(line), Outcome::Plain(reason), "{line}");
    }
}

#[test]
fn q2_q3_q9_ranges_conditions_and_credentials_are_plain() {
    for (line, reason) in [
        ("Range: bytes=0-1,5-6\r\n", Reason::Range),
        ("range: items=0-5\r\n", Reason::Range),
        ("Range:\r\n", Reason::Range),
        ("Range: bytes=5-4\r\n", Reason::Range),
        ("Range: bytes=-0\r\n", Reason::Range),
        ("Range: bytes = 0-5\r\n", Reason::Range),
        ("Range: bytes=0-5\r\nRANGE: bytes=0-5\r\n", Reason::Repeated),
        ("Range: bytes=0-5\r\nRange: bytes=6-\r\n", Reason::Repeated),
        ("If-Range: \"a\"\r\n", Reason::Conditional),
        ("If-None-Match: *\r\n", Reason::Conditional),
        ("If-Modified-Since: x\r\n", Reason::Conditional),
        ("If-Match: *\r\n", Reason::Conditional),
        ("Authorization: Basic eDp5\r\n", Reason::Credential),
        ("COOKIE: a=b\r\n", Reason::Credential),
        ("Proxy-Authorization: x\r\n", Reason::Proxy),
    ] {
        assert_eq!(with(line), Outcome::Plain(reason), "{line}");
    }
    let signed = "GET /a.bin?sig=1 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert!(!candidate(signed).peer_may_see);
}

#[test]
fn q1_one_interval_of_bytes_is_read_and_is_no_field_that_requests_for_parts_repeat() {
    for (value, asked) in [
        (
            "bytes=1000-1500999",
            AskedRange::Between(ByteRange::new(1000, 1_500_999).unwrap()),
        ),
        ("bytes=0-", AskedRange::From(0)),
        ("bytes=-500000", AskedRange::Last(500_000)),
    ] {
        for name in ["Range", "range", "RANGE"] {
            let head = format!(
                "GET /a.bin HTTP/1.1\r\nHost: h\r\nA: b\r\n{name}:  {value} \r\nC: d\r\n\r\n"
            );
            check_every_prefix(head.as_bytes());
            let request = candidate(&head);
            assert_eq!(request.range, Some(asked), "{head}");
            let fields = request.fields().iter();
            let names: Vec<_> = fields
                .map(|field| field.name.text(head.as_bytes()))
                .collect();
            assert_eq!(names, ["A", "C"]);
        }
    }
    assert_eq!(candidate(GOOD).range, None);
}

#[test]
fn q1_a_range_with_a_condition_or_a_credential_is_plain_in_either_order() {
    const RANGE: &str = "Range: bytes=0-\r\n";
    for (line, reason) in [
        ("If-Range: \"a\"\r\n", Reason::Conditional),
        ("If-Unmodified-Since: x\r\n", Reason::Conditional),
        ("Cookie: a=b\r\n", Reason::Credential),
        ("Authorization: Basic eDp5\r\n", Reason::Credential),
    ] {
        for lines in [format!("{RANGE}{line}"), format!("{line}{RANGE}")] {
            assert_eq!(with(&lines), Outcome::Plain(reason), "{lines}");
        }
    }
}

#[test]
fn q1_while_a_head_is_asked_first_any_range_is_plain() {
    let mut settings = Accel::new();
    settings.probe = Probe::Head;
    let head = b"GET /a.bin HTTP/1.1\r\nHost: h\r\nRange: bytes=0-\r\n\r\n";
    assert_eq!(classify(head, &settings, 80), Outcome::Plain(Reason::Range));
    assert!(taken(classify(GOOD.as_bytes(), &settings, 80)));
}

#[test]
fn q4_a_second_request_behind_the_first_is_plain() {
    assert_eq!(
        on_port_80(format!("{GOOD}G")),
        Outcome::Plain(Reason::Pipelined)
    );
}

#[test]
fn fields_that_the_fetches_repeat_may_stand_once() {
    for name in ["Accept", "Accept-Encoding", "User-Agent"] {
        let twice = format!("{name}: a\r\n{name}: b\r\n");
        assert_eq!(with(&twice), Outcome::Plain(Reason::Repeated), "{name}");
    }
    assert!(taken(with("X: a\r\nX: b\r\n")));
}

#[test]
fn pages_and_their_parts_are_never_held() {
    for target in [
        "/", "/a/", "/a.html", "/a.css", "/a.js", "/a.png", "/?a.zip",
    ] {
        let outcome = on_port_80(format!("GET {target} HTTP/1.1\r\n"));
        assert_eq!(outcome, Outcome::Plain(Reason::PartOfPage), "{target}");
    }
    let page = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n\r\n";
    let load = |target| on_port_80(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{page}"));
    assert_eq!(load("/about"), Outcome::Plain(Reason::WantsPage));
    assert!(taken(load("/about.zip")));
}

#[test]
fn a_kind_that_is_switched_off_is_plain_by_its_path() {
    let mut settings = crate::settings::Settings::new();
    settings.set("accel.types", "video").unwrap();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let says = |path| classify(get(path).as_bytes(), &settings.accel, 80);
    assert_eq!(says("/a.zip"), Outcome::Plain(Reason::KindOff));
    assert!(taken(says("/a.mp4")));
    assert!(taken(says("/a")));
}

#[test]
fn reasons_have_texts_of_their_own() {
    let mut names = <Reason as Stage>::NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), REASONS);
    assert_eq!(Reason::NotGet.text(), "not-get");
}

/// A strict reader written independently, on whole text: what the other must agree with (G18).
fn second_reader(head: &[u8]) -> Option<(&str, &str, bool, Option<&str>)> {
    let text = std::str::from_utf8(head).ok()?;
    let text = text.strip_suffix("\r\n\r\n")?;
    if text.contains("\r\n\r\n") {
        return None;
    }
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if (method, version, words.next()) != ("GET", "HTTP/1.1", None) || !target.starts_with('/') {
        return None;
    }
    let (mut host, mut close, mut range) = (None, None, None);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let bad_value = |c: char| c != ' ' && !c.is_ascii_graphic();
        if name.is_empty() || value.contains(bad_value) {
            return None;
        }
        if name.contains(|c: char| !c.is_ascii_graphic() || "\"(),/:;<=>?@[\\]{}".contains(c)) {
            return None;
        }
        let value = value.trim_matches(' ');
        match name.to_ascii_lowercase().as_str() {
            "host" if host.replace(value).is_some() => return None,
            "connection" if close.replace(value.eq_ignore_ascii_case("close")).is_some() => {
                return None;
            }
            "range" if range.replace(value).is_some() => return None,
            "transfer-encoding" => return None,
            name if name.starts_with("if-") => return None,
            "content-length" if value != "0" => return None,
            _ => {}
        }
    }
    Some((target, host?, close.unwrap_or(false), range))
}

/// Heads near the edge: good lines and bent ones in any order, then a few bytes changed.
fn near_heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "Host: h",
        "Host: h:80",
        "host:h",
        "HOST: h ",
        "Host: h\r",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: x",
        "Content-Length: 0",
        "Content-Length: 1",
        "Transfer-Encoding: chunked",
        "Accept: */*",
        "X: y",
        "X:",
        ":",
        " X: y",
        "X : y",
        "",
        "Accept-Encoding: gzip",
        "User-Agent: u",
        "Range: bytes=0-1",
        "range: bytes=70-",
        "Range: bytes=-9",
        "Range: bytes=0-1,4-5",
        "If-Range: x",
    ]);
    let first = prop::sample::select(vec![
        "GET /a.bin HTTP/1.1",
        "GET /a HTTP/1.1",
        "GET /a.bin HTTP/1.0",
        "GET  /a HTTP/1.1",
        "GET http://h/a HTTP/1.1",
        "HEAD /a HTTP/1.1",
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (first, prop::collection::vec(line, 0..6), changes).prop_map(|(first, lines, changes)| {
        let mut head = format!("{first}\r\nHost: h\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes();
        if changes.len() > 1 {
            head.drain(first.len() + 2..first.len() + 11); // without the sure Host
        }
        for (index, byte) in changes {
            let at = index.index(head.len());
            head[at] = byte;
        }
        head
    })
}

proptest! {
    #[test]
    fn g18_the_verdict_does_not_depend_on_segmentation(head in near_heads()) {
        check_every_prefix(&head);
    }

    #[test]
    fn g18_what_is_taken_is_read_alike_by_an_independent_reader(head in near_heads()) {
        if let Outcome::Candidate(request) = on_port_80(&head) {
            let second = second_reader(&head);
            let read = (request.target.text(&head), request.host.text(&head), request.close);
            prop_assert_eq!(second.map(|second| (second.0, second.1, second.2)), Some(read));
            let written = request.range.map(|range| match range {
                AskedRange::Between(range) => format!("bytes={}-{}", range.first, range.last),
                AskedRange::From(first) => format!("bytes={first}-"),
                AskedRange::Last(length) => format!("bytes=-{length}"),
            });
            let digits = |text: &str| {
                // Zeros in front change no number.
                let mut shown = String::new();
                for (at, char) in text.char_indices() {
                    let in_front = !shown.ends_with(|last: char| last.is_ascii_digit());
                    let more = text[at + 1..].starts_with(|next: char| next.is_ascii_digit());
                    if !(char == '0' && in_front && more) {
                        shown.push(char);
                    }
                }
                shown
            };
            prop_assert_eq!(second.and_then(|second| second.3).map(digits), written);
        }
    }

    #[test]
    fn d10_what_is_written_of_a_request_reads_back_as_the_same_values(head in near_heads()) {
        if let Outcome::Candidate(request) = on_port_80(&head) {
            let mut out = [0; 1024];
            let used = write_head(&mut out, &request, &head).unwrap();
            let written = [b"GET", out[..used].strip_prefix(b"HEAD").unwrap()].concat();
            let again = candidate(&written);
            prop_assert_eq!(again.target.text(&written), request.target.text(&head));
            prop_assert_eq!(again.host.text(&written), request.host.text(&head));
            let values = |request: &Request, head: &[u8]| -> Vec<(String, String)> {
                let text = |span: Span| span.text(head).to_owned();
                let fields = request.fields().iter();
                fields.map(|field| (text(field.name), text(field.value))).collect()
            };
            prop_assert_eq!(values(&again, &written), values(&request, &head));
            // Of a request for a part the only range is the part.
            let part = ByteRange::new(7, 77).unwrap();
            let used = write_get(&mut out, &request, &head, part, None).unwrap();
            let again = candidate(&out[..used]);
            prop_assert_eq!(again.range, Some(AskedRange::Between(part)));
            prop_assert_eq!(values(&again, &out[..used]), values(&request, &head));
        }
    }

    #[test]
    fn g18_random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_every_prefix(&bytes);
        check_every_prefix(&[b"GET /", &bytes[..]].concat());
        check_every_prefix(&[b"GET /a.bin HTTP/1.1\r\nHost: h\r\nX: ", &bytes[..]].concat());
    }
}

#[test]
fn g18_the_heads_of_the_property_are_taken_often_enough_to_show_something() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let heads = near_heads();
    let mut take = || {
        heads
            .new_tree(&mut runner)
            .map(|tree| tree.current())
            .unwrap()
    };
    let count = (0..2000).filter(|_| taken(on_port_80(take()))).count();
    assert!(count >= 20, "{count} of 2000");
}
