//! Peer messages: any bytes in any pieces say the same or end the session; nothing is held beyond one message.

use firmware::budget::{CONTENT_TYPE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX, VALIDATOR_BYTES_MAX};
use firmware::wire::peer::{Decoder, Event, Message, VERSION, encode};

use crate::input::Numbers;

/// Length before each body, bytes.
const LENGTH_BYTES: usize = 2;

/// Runs the target. The first byte says whether the session is greeted for the input.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let mut bytes = Vec::new();
    if first % 2 == 0 {
        let mut out = [0; 64];
        let hello = Message::Hello {
            version: VERSION,
            boot: 7,
        };
        let len = encode(&hello, &mut out).expect("it fits");
        bytes.extend(&out[..len]);
    }
    bytes.extend(rest);
    let whole = decode(&bytes, usize::MAX);
    let mut numbers = Numbers::of(data);
    for most in [1, 2, 3, 64, 1460] {
        assert_eq!(
            decode(&bytes, most),
            whole,
            "in pieces of {most} bytes at most"
        );
        let random = numbers.next_u64();
        assert_eq!(decode_random(&bytes, random), whole, "in random pieces");
    }
}

fn decode(bytes: &[u8], most: usize) -> Vec<String> {
    decode_pieces(bytes, || most)
}

fn decode_random(bytes: &[u8], seed: u64) -> Vec<String> {
    let mut numbers = Numbers(seed);
    decode_pieces(bytes, || 1 + numbers.below(48))
}

/// All that a decoder says; the pieces of a `Data` are joined.
fn decode_pieces(bytes: &[u8], mut most: impl FnMut() -> usize) -> Vec<String> {
    let mut decoder = Decoder::new();
    let mut said: Vec<String> = Vec::new();
    let mut raw: Option<(u32, u64, Vec<u8>)> = None;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, tail) = rest.split_at(most().min(rest.len()));
        rest = tail;
        while !piece.is_empty() {
            let (used, event) = match decoder.next(piece) {
                Ok(found) => found,
                Err(error) => {
                    for again in [&b"x"[..], piece] {
                        assert_eq!(decoder.next(again), Err(error), "the error stays");
                    }
                    said.extend(raw.take().map(|raw| format!("{raw:?}")));
                    said.push(format!("{error:?}"));
                    return said;
                }
            };
            assert!((1..=piece.len()).contains(&used), "each call takes some");
            match event {
                Some(Event::Bytes { id, offset, place }) => {
                    assert_eq!(place, 0..used);
                    // A message that came between ends the run; so does a Data of its own that does not continue it.
                    let continues = raw.as_ref().is_some_and(|(held, at, bytes)| {
                        *held == id && *at + bytes.len() as u64 == offset
                    });
                    if !continues {
                        said.extend(raw.take().map(|raw| format!("{raw:?}")));
                    }
                    let held = raw.get_or_insert((id, offset, Vec::new()));
                    held.2.extend(&piece[place]);
                    assert!(
                        offset + (used as u64) < 1 << 63,
                        "an offset that no object has"
                    );
                }
                Some(Event::Message(message)) => {
                    check(&message, said.is_empty() && raw.is_none());
                    said.extend(raw.take().map(|raw| format!("{raw:?}")));
                    said.push(format!("{message:?}"));
                }
                None => {}
            }
            piece = &piece[used..];
        }
    }
    said.extend(raw.take().map(|raw| format!("{raw:?}")));
    said
}

/// What any message that comes out of a decoder is like, and that it is the same there and back.
fn check(message: &Message<'_>, is_first: bool) {
    assert_eq!(
        matches!(message, Message::Hello { .. }),
        is_first,
        "one hello, first"
    );
    match message {
        Message::Hello { version, .. } => assert_eq!(*version, VERSION),
        Message::Fetch(fetch) => {
            let range = fetch.range().expect("a range");
            assert!(range.last < fetch.total && fetch.total < 1 << 63 && fetch.port != 0);
            assert!(fetch.validator.len() <= VALIDATOR_BYTES_MAX);
            assert!(fetch.content_type.unwrap_or_default().len() <= CONTENT_TYPE_BYTES_MAX);
            // Whatever the texts are: looked at, they are refused or taken, not more.
            let _faulty_or_not = (fetch.request().check(fetch.port), fetch.validator());
        }
        Message::Start {
            first, last, total, ..
        } => assert!(first <= last && last < total && *total < 1 << 63),
        Message::Data { len, .. } => panic!("a Data of {len} bytes is no message to its receiver"),
        Message::Cancel { .. }
        | Message::End { .. }
        | Message::Refused { .. }
        | Message::Ping { .. }
        | Message::Pong { .. } => {}
    }
    let mut out = vec![0; LENGTH_BYTES + PEER_MESSAGE_BYTES_MAX];
    let len = encode(message, &mut out).expect("what was read can be written");
    let mut decoder = Decoder::new();
    if !is_first {
        let mut greeting = [0; 64];
        let hello = Message::Hello {
            version: VERSION,
            boot: 1,
        };
        let len = encode(&hello, &mut greeting).expect("it fits");
        feed(&mut decoder, &greeting[..len], |_| ());
    }
    let mut back = Vec::new();
    feed(&mut decoder, &out[..len], |message| {
        back.push(format!("{message:?}"));
    });
    assert_eq!(back, [format!("{message:?}")]);
}

/// Feeds whole messages without raw bytes.
fn feed(decoder: &mut Decoder, mut bytes: &[u8], mut take: impl FnMut(Message<'_>)) {
    while !bytes.is_empty() {
        let (used, event) = decoder.next(bytes).expect("what was written can be read");
        match event {
            Some(Event::Message(message)) => take(message),
            Some(Event::Bytes { .. }) => panic!("no raw bytes were written"),
            None => {}
        }
        bytes = &bytes[used..];
    }
}
