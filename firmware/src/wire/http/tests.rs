//! The grammar of lines, fields, lengths, hosts and targets, value by value.

use super::*;

fn field(line: &str) -> Result<(&str, &str), Irregular> {
    split_field(line.as_bytes(), 0, line.len()).map(|field| {
        (
            field.name.text(line.as_bytes()),
            field.value.text(line.as_bytes()),
        )
    })
}

#[test]
fn a_line_ends_at_crlf_and_nowhere_else() {
    let end = |bytes: &[u8]| line_end(bytes, 0, Bytes::Ascii);
    let found = LineEnd {
        content_end: 2,
        next: 4,
    };
    assert_eq!(end(b"ab\r\n"), Ok(Some(found)));
    assert_eq!(end(b"ab\r\ncd"), Ok(Some(found)));
    assert_eq!(end(b"ab"), Ok(None));
    assert_eq!(end(b"ab\r"), Ok(None));
    assert_eq!(end(b"ab\rc"), Err(Irregular::BareCr));
    assert_eq!(end(b"ab\r\r\n"), Err(Irregular::BareCr));
    assert_eq!(end(b"ab\n"), Err(Irregular::BareLf));
    assert_eq!(end(b"a\tb"), Err(Irregular::Tab));
    assert_eq!(end(b"a\0"), Err(Irregular::Control));
    assert_eq!(end(b"a\x7f"), Err(Irregular::Control));
    assert_eq!(end(b"a\xa0"), Err(Irregular::EightBit));
    assert_eq!(
        line_end(b"\xa0\r\n", 0, Bytes::EightBit).map(|end| end.is_some()),
        Ok(true)
    );
}

#[test]
fn a_field_line_is_a_token_a_colon_and_a_value_without_outer_blanks() {
    assert_eq!(field("Host: a"), Ok(("Host", "a")));
    assert_eq!(field("Host:a"), Ok(("Host", "a")));
    assert_eq!(field("Host:   a b  "), Ok(("Host", "a b")));
    assert_eq!(field("Host:"), Ok(("Host", "")));
    assert_eq!(field("Host:    "), Ok(("Host", "")));
    assert_eq!(field("a: b:c"), Ok(("a", "b:c")));
    assert_eq!(field(" Host: a"), Err(Irregular::Folded));
    assert_eq!(field("Host : a"), Err(Irregular::BlankBeforeColon));
    assert_eq!(field("Ho st: a"), Err(Irregular::NameByte));
    assert_eq!(field("Ho(st: a"), Err(Irregular::NameByte));
    assert_eq!(field(": a"), Err(Irregular::EmptyName));
    assert_eq!(field("Host"), Err(Irregular::NoColon));
}

#[test]
fn o30_a_length_is_digits_below_2_to_the_63() {
    assert_eq!(parse_length(b"0"), Some(0));
    assert_eq!(parse_length(b"007"), Some(7));
    assert_eq!(parse_length(b"9223372036854775807"), Some((1 << 63) - 1));
    for bad in [
        "",
        "+5",
        "-5",
        " 5",
        "5 ",
        "5, 5",
        "0x5",
        "9223372036854775808",
        "18446744073709551616",
        "1111111111111111111111111111111111111111",
    ] {
        assert_eq!(parse_length(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn g9_only_a_plain_name_or_address_with_the_right_port_is_a_host() {
    for good in [
        "a",
        "example.org",
        "a-b.c1",
        "198.51.100.10",
        "EXAMPLE.org",
        "a.b:80",
    ] {
        assert_eq!(check_host(good.as_bytes(), 80), Ok(()), "{good}");
    }
    assert_eq!(check_host(b"a:8080", 8080), Ok(()));
    for (bad, port) in [
        ("a:8080", 80),
        ("a", 8080),
        ("a:", 80),
        ("a:080", 80),
        ("a:80:80", 80),
        ("a:65616", 80),
    ] {
        assert_eq!(
            check_host(bad.as_bytes(), port),
            Err(HostFault::Port),
            "{bad}"
        );
    }
    for bad in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "[::1]",
        "u@a",
        "a,b",
        "a b",
        "a%41",
        "-a",
        "a-",
        "a_b",
        "1.2.3",
        "1.2.3.256",
        "0x7f.1",
        "2130706433",
        ":80",
        "a/b",
        "01.2.3.4",
    ] {
        assert_eq!(
            check_host(bad.as_bytes(), 80),
            Err(HostFault::Name),
            "{bad}"
        );
    }
    assert_eq!(
        check_host("a".repeat(64).as_bytes(), 80),
        Err(HostFault::Name)
    );
    let long = ["a"; 128].join(".");
    assert_eq!(check_host(long.as_bytes(), 80), Err(HostFault::Name));
}

#[test]
fn g11_legal_target_bytes_are_taken_and_others_are_not() {
    for good in [
        "/",
        "/a/../b",
        "//a",
        "/%00",
        "/%0d%0a",
        "/a?b=c&d",
        "/a;b=c@d:e!$'()*+,~",
        "/?a?b",
    ] {
        assert!(is_target(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        "a",
        "*",
        "http://h/p",
        "/a#b",
        "/a b",
        "/a%",
        "/a%4",
        "/a%4g",
        "/a\"",
        "/<a>",
        "/a\\b",
        "/a|b",
        "/[a]",
        "/{a}",
        "/\u{e4}",
    ] {
        assert!(!is_target(bad.as_bytes()), "{bad}");
    }
    let long = "/".repeat(8000);
    assert!(is_target(long.as_bytes()));
}

#[test]
fn q9_a_target_with_a_signature_stays_on_the_own_line() {
    for open in [
        "/a.bin",
        "/a.bin?id=5&name=x",
        "/sig/token.bin",
        "/a?v=token",
    ] {
        assert!(peer_may_see(open.as_bytes()), "{open}");
    }
    for secret in [
        "/a?sig=1",
        "/a?x=1&Signature=2",
        "/a?access_token=1",
        "/a?Expires=5",
        "/a?Policy=p",
        "/a?X-Amz-Date=1",
        "/a?X-Goog-Date=1",
        "/a;sig=1",
        "/a?%73ig=1",
        "/a?b;hmac=1",
        "/u:p@h/a",
    ] {
        assert!(!peer_may_see(secret.as_bytes()), "{secret}");
    }
}

#[test]
fn a_byte_range_holds_both_of_its_ends() {
    assert_eq!(ByteRange::new(0, 0).map(ByteRange::len_bytes), Some(1));
    assert_eq!(ByteRange::new(5, 9).map(ByteRange::len_bytes), Some(5));
    assert_eq!(ByteRange::new(5, 4), None);
    assert_eq!(ByteRange::new(0, u64::MAX), None);
}
