//! Messages to bytes and back, in any pieces; and what ends a session.

use proptest::prelude::*;

use super::*;

const HELLO: Message<'static> = Message::Hello {
    version: VERSION,
    boot: 7,
};

fn fetch() -> Fetch<'static> {
    Fetch {
        id: 1,
        address: [198, 51, 100, 10],
        port: 80,
        host: "h.example",
        target: "/a.bin",
        accept: Some("*/*"),
        accept_encoding: None,
        user_agent: Some("curl/8"),
        first: 1 << 32,
        last: (1 << 33) - 1,
        total: 1 << 40,
        validator_kind: ValidatorKind::ETag,
        validator: b"\"v1\"",
        content_type: Some(b"application/zip"),
    }
}

fn every_message() -> Vec<Message<'static>> {
    let (id, nonce) = (u32::MAX, u32::MAX);
    let mut all = vec![
        Message::Fetch(fetch()),
        Message::Cancel { id },
        Message::Start {
            id,
            first: 0,
            last: (1 << 63) - 3,
            total: (1 << 63) - 1,
        },
        Message::Data {
            id,
            offset: (1 << 63) - 20_000,
            len: 3,
        },
        Message::End { id },
        Message::Ping { nonce },
        Message::Pong { nonce },
    ];
    for reason in [Refusal::Disabled, Refusal::Changed, Refusal::NotThePart] {
        all.push(Message::Refused { id, reason });
    }
    all
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = vec![0; LENGTH_BYTES + PEER_MESSAGE_BYTES_MAX];
    let used = encode(message, &mut out).unwrap();
    out.truncate(used);
    out
}

/// A session of all messages; each `Data` with its raw bytes.
fn session() -> Vec<u8> {
    let mut bytes = encoded(&HELLO);
    for message in every_message() {
        bytes.extend(encoded(&message));
        if let Message::Data { len, .. } = message {
            bytes.extend((0..len).map(|n| n as u8));
        }
    }
    bytes
}

/// All that a decoder says of `bytes` in pieces of these lengths; pieces of a `Data` are joined.
fn decode(bytes: &[u8], mut pieces: impl Iterator<Item = usize>) -> Vec<String> {
    let mut decoder = Decoder::new();
    let mut said: Vec<String> = Vec::new();
    let mut raw: Option<(u32, u64, Vec<u8>)> = None;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, tail) =
            rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = tail;
        while !piece.is_empty() {
            match decoder.next(piece) {
                Ok((used, event)) => {
                    assert!((1..=piece.len()).contains(&used));
                    match event {
                        Some(Event::Bytes { id, offset, place }) => {
                            assert_eq!(place, 0..used);
                            let held = raw.get_or_insert((id, offset, Vec::new()));
                            assert_eq!((held.0, held.1 + held.2.len() as u64), (id, offset));
                            held.2.extend(&piece[place]);
                        }
                        Some(Event::Message(message)) => {
                            said.extend(raw.take().map(|raw| format!("{raw:?}")));
                            said.push(format!("{message:?}"));
                        }
                        None => {}
                    }
                    piece = &piece[used..];
                }
                Err(error) => {
                    assert_eq!(decoder.next(b"x"), Err(error), "the error stays");
                    said.extend(raw.take().map(|raw| format!("{raw:?}")));
                    said.push(format!("{error:?}"));
                    return said;
                }
            }
        }
    }
    said.extend(raw.take().map(|raw| format!("{raw:?}")));
    said
}

fn whole(bytes: &[u8]) -> Vec<String> {
    decode(bytes, std::iter::empty())
}

fn after_hello(bytes: &[u8]) -> String {
    let said = whole(&[&encoded(&HELLO), bytes].concat());
    assert_eq!(said[0], format!("{HELLO:?}"));
    said.get(1).cloned().unwrap_or_default()
}

#[test]
fn every_message_comes_back_as_it_was_sent() {
    let mut expected = vec![format!("{HELLO:?}")];
    for message in every_message() {
        expected.push(match message {
            Message::Data { id, offset, .. } => format!("{:?}", (id, offset, [0, 1, 2])),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(whole(&session()), expected);
}

#[test]
fn the_wire_form_is_the_one_that_version_1_has() {
    assert_eq!(encoded(&HELLO), [3, 0, 0, 1, 7]);
    let data = Message::Data {
        id: 300,
        offset: 1 << 20,
        len: 1460,
    };
    assert_eq!(
        encoded(&data),
        [8, 0, 4, 0xac, 2, 0x80, 0x80, 0x40, 0xb4, 11]
    );
    assert_eq!(encoded(&Message::Ping { nonce: 1 }), [2, 0, 7, 1]);
    let refused = Message::Refused {
        id: 2,
        reason: Refusal::Busy,
    };
    assert_eq!(encoded(&refused), [3, 0, 6, 2, 1]);
    assert_eq!(
        encoded(&Message::Fetch(fetch()))[..12],
        [77, 0, 1, 1, 198, 51, 100, 10, 80, 9, b'h', b'.']
    );
}

#[test]
fn the_largest_messages_fit_their_bounds() {
    let (id, len) = (u32::MAX, PEER_DATA_BYTES_MAX);
    let start = Message::Start {
        id,
        first: u64::MAX,
        last: u64::MAX,
        total: u64::MAX,
    };
    assert_eq!(encoded(&start).len(), CONTROL_BYTES_MAX);
    assert!(
        encoded(&Message::Data {
            id,
            offset: u64::MAX,
            len
        })
        .len()
            <= CONTROL_BYTES_MAX
    );
    let target = "/".repeat(REQUEST_HEAD_BYTES_MAX - 300);
    let fields = "a".repeat(100);
    let largest = Fetch {
        id,
        port: u16::MAX,
        target: &target,
        host: &fields,
        accept: Some(&fields),
        accept_encoding: Some(&fields),
        user_agent: None,
        first: u64::MAX,
        last: u64::MAX,
        total: u64::MAX,
        validator: &[b'a'; VALIDATOR_BYTES_MAX],
        content_type: Some(&[b'a'; CONTENT_TYPE_BYTES_MAX]),
        ..fetch()
    };
    let used = encoded(&Message::Fetch(largest)).len();
    assert!(used <= LENGTH_BYTES + REQUEST_HEAD_BYTES_MAX + FETCH_FIXED_BYTES_MAX);
    let over = "/".repeat(PEER_MESSAGE_BYTES_MAX);
    let over = Message::Fetch(Fetch {
        target: &over,
        ..fetch()
    });
    assert_eq!(encode(&over, &mut [0; 20_000]), Err(TooLong));
}

#[test]
fn a_message_that_does_not_fit_is_refused_at_every_length() {
    let message = Message::Fetch(fetch());
    let full = encoded(&message).len();
    for len in 0..full {
        assert_eq!(encode(&message, &mut vec![0; len]), Err(TooLong), "{len}");
    }
    assert_eq!(encode(&message, &mut vec![0; full]), Ok(full));
}

#[test]
fn p7_another_version_is_told_apart_whatever_else_its_hello_holds() {
    let expected = PeerError::Version {
        expected: VERSION,
        found: 2,
    };
    assert_eq!(whole(&[2, 0, 0, 2]), [format!("{expected:?}")]);
    assert_eq!(whole(&[5, 0, 0, 2, 9, 9, 9]), [format!("{expected:?}")]);
}

#[test]
fn a_session_begins_with_one_hello() {
    let ping = encoded(&Message::Ping { nonce: 1 });
    assert_eq!(whole(&ping), [format!("{:?}", PeerError::NoHello)]);
    assert_eq!(
        whole(b"GET / HTTP/1.1\r\n"),
        [format!("{:?}", PeerError::Length)]
    );
    assert_eq!(
        after_hello(&encoded(&HELLO)),
        format!("{:?}", PeerError::SecondHello)
    );
}

#[test]
fn m8_malformed_messages_end_the_session() {
    for (bytes, error) in [
        (&[0, 0][..], PeerError::Length),
        (&[0xff, 0xff], PeerError::Length),
        (&[1, 0x22], PeerError::Length),
        (&[1, 0, 200], PeerError::Malformed),
        (&[1, 0, 9], PeerError::Malformed),
        (&[1, 0, 7], PeerError::Malformed),
        (&[3, 0, 7, 1, 1], PeerError::Malformed),
        (
            &[6, 0, 7, 0xff, 0xff, 0xff, 0xff, 0xff],
            PeerError::Malformed,
        ),
        (&[3, 0, 6, 1, 99], PeerError::Malformed),
        // A host of 2^32 - 1 bytes.
        (
            &[
                13, 0, 1, 1, 1, 2, 3, 4, 80, 0xff, 0xff, 0xff, 0xff, 0x0f, b'h',
            ],
            PeerError::Malformed,
        ),
        // A host that is not UTF-8.
        (&[9, 0, 1, 1, 1, 2, 3, 4, 80, 1, 0xff], PeerError::Malformed),
    ] {
        assert_eq!(after_hello(bytes), format!("{error:?}"), "{bytes:?}");
    }
}

#[test]
fn m8_impossible_numbers_end_the_session() {
    let id = 1;
    let long = [b'a'; VALIDATOR_BYTES_MAX + 1];
    for message in [
        Message::Start {
            id,
            first: 1,
            last: 0,
            total: 5,
        },
        Message::Start {
            id,
            first: 0,
            last: 5,
            total: 5,
        },
        Message::Start {
            id,
            first: 0,
            last: 5,
            total: 1 << 63,
        },
        Message::Data {
            id,
            offset: 0,
            len: 0,
        },
        Message::Data {
            id,
            offset: 0,
            len: PEER_DATA_BYTES_MAX + 1,
        },
        Message::Data {
            id,
            offset: u64::MAX,
            len: 1,
        },
        Message::Data {
            id,
            offset: (1 << 63) - 1,
            len: 1,
        },
        Message::Fetch(Fetch { port: 0, ..fetch() }),
        Message::Fetch(Fetch { last: 1, ..fetch() }),
        Message::Fetch(Fetch {
            total: 1 << 33,
            last: 1 << 33,
            ..fetch()
        }),
        Message::Fetch(Fetch {
            validator: &long,
            ..fetch()
        }),
        Message::Fetch(Fetch {
            content_type: Some(&long),
            ..fetch()
        }),
    ] {
        let said = after_hello(&encoded(&message));
        assert_eq!(said, format!("{:?}", PeerError::Insane), "{message:?}");
    }
}

#[test]
fn a_fetch_gives_its_request_range_and_validator() {
    let fetch = fetch();
    assert_eq!(fetch.request().check(fetch.port), Ok(()));
    assert_eq!(fetch.range(), ByteRange::new(fetch.first, fetch.last));
    assert_eq!(fetch.validator(), Validator::etag(b"\"v1\""));
}

proptest! {
    #[test]
    fn a_session_split_anywhere_decodes_alike(pieces in prop::collection::vec(1_usize..40, 0..200)) {
        let bytes = session();
        prop_assert_eq!(decode(&bytes, pieces.into_iter()), whole(&bytes));
    }

    #[test]
    fn m8_changed_bytes_never_panic_and_split_alike(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        pieces in prop::collection::vec(1_usize..40, 0..200),
    ) {
        let mut bytes = session();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(decode(&bytes, pieces.into_iter()), whole(&bytes));
    }

    #[test]
    fn m8_random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        whole(&bytes);
        whole(&[&encoded(&HELLO), &bytes[..]].concat());
        let body = [&(bytes.len() as u16).to_le_bytes(), &bytes[..]].concat();
        whole(&[&encoded(&HELLO), &body[..]].concat());
    }
}
