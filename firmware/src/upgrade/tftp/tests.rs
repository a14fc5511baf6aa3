//! The server against packets of hand, and against a sender over a line that loses, doubles and disorders.

use super::*;
use crate::port::Full;
use crate::upgrade::image::Fault;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

const SENDER: Ipv4Address = Ipv4Address::new(192, 168, 1, 100);
const ROUTER: Ipv4Address = Ipv4Address::new(192, 168, 1, 1);
const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const OURS: u16 = TRANSFER_PORT_FIRST + 7;

/// Keeps what is sent.
#[derive(Default)]
struct Sent(VecDeque<(Outgoing, Vec<u8>)>);

impl SendUdp for Sent {
    fn send_udp(
        &mut self,
        _: Instant,
        to: &Outgoing,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Full> {
        let mut bytes = std::vec![0xee; len];
        fill(&mut bytes);
        self.0.push_back((*to, bytes));
        Ok(())
    }
}

impl Sent {
    /// The payload of the only answer.
    fn only(&mut self) -> Vec<u8> {
        assert_eq!(self.0.len(), 1, "{:?}", self.0);
        self.0.pop_front().unwrap().1
    }
}

fn at(ms: i64) -> Instant {
    Instant::from_millis(ms)
}

fn from(src_port: u16, dst_port: u16, payload: &[u8]) -> Datagram<'_> {
    Datagram {
        port: Port::Lan,
        src_mac: MAC,
        src: SENDER,
        src_port,
        dst: ROUTER,
        dst_port,
        payload,
    }
}

fn request(opcode: u8, words: &[&str]) -> Vec<u8> {
    let mut bytes = std::vec![0, opcode];
    for word in words {
        bytes.extend(word.bytes());
        bytes.push(0);
    }
    bytes
}

fn data(number: u16, bytes: &[u8]) -> Vec<u8> {
    [&[0, 3][..], &number.to_be_bytes(), bytes].concat()
}

fn ack(number: u16) -> Vec<u8> {
    [&[0, 4][..], &number.to_be_bytes()].concat()
}

/// A server that has answered a request without options at 0 ms.
fn receiving() -> (Server, Sent) {
    let mut server = Server::new(at(0), 7);
    let mut out = Sent::default();
    let wrq = request(2, &["x.img", "octet"]);
    assert_eq!(
        server.on_datagram(at(0), &from(3000, PORT, &wrq), &mut out),
        Taken::Nothing
    );
    let (to, bytes) = out.0.pop_front().unwrap();
    assert_eq!(bytes, ack(0));
    assert_eq!(
        (to.src, to.src_port, to.dst, to.dst_port, to.mac),
        (ROUTER, OURS, SENDER, 3000, Some(MAC))
    );
    (server, out)
}

#[test]
fn a_file_comes_in_blocks_and_ends_with_a_short_one() {
    let (mut server, mut out) = receiving();
    let first = data(1, &[7; 512]);
    assert_eq!(
        server.on_datagram(at(1), &from(3000, OURS, &first), &mut out),
        Taken::Block(&[7; 512])
    );
    assert!(out.0.is_empty(), "not before it was taken");
    server.accept(at(2), &mut out);
    assert_eq!(out.only(), ack(1));
    let last = data(2, &[]);
    assert_eq!(
        server.on_datagram(at(3), &from(3000, OURS, &last), &mut out),
        Taken::Last(&[])
    );
    server.accept(at(4), &mut out);
    assert_eq!(out.only(), ack(2));
    assert!(!server.is_done(), "the answer may be lost");
    assert_eq!(
        server.on_datagram(at(1004), &from(3000, OURS, &last), &mut out),
        Taken::Nothing
    );
    assert_eq!(out.only(), ack(2));
    assert_eq!(server.poll(at(3004), &mut out), Taken::Nothing);
    assert!(server.is_done() && !server.listens_on(PORT) && !server.listens_on(OURS));
}

#[test]
fn options_are_answered_as_agreed_and_unknown_ones_left_out() {
    let mut server = Server::new(at(0), 7);
    let mut out = Sent::default();
    let wrq = request(
        2,
        &[
            "x",
            "OCTET",
            "BlkSize",
            "65464",
            "windowsize",
            "64",
            "tsize",
            "5000",
            "timeout",
            "3",
        ],
    );
    assert_eq!(
        server.on_datagram(at(0), &from(3000, PORT, &wrq), &mut out),
        Taken::Announced(5000)
    );
    assert!(out.0.is_empty(), "the length is judged first");
    server.accept(at(0), &mut out);
    assert_eq!(
        out.only(),
        [
            &[0, 6][..],
            b"blksize\x001468\0timeout\x003\0tsize\x005000\0"
        ]
        .concat()
    );
    // Three seconds, as agreed.
    assert_eq!(server.poll_at(), Some(at(3000)));
    let block = data(1, &[1; 1468]);
    assert_eq!(
        server.on_datagram(at(1), &from(3000, OURS, &block), &mut out),
        Taken::Block(&[1; 1468])
    );
}

#[test]
fn options_out_of_bounds_are_not_agreed_to() {
    for words in [
        ["blksize", "7"],
        ["blksize", "65465"],
        ["timeout", "0"],
        ["timeout", "255"],
        ["tsize", "99999999999"],
        ["blksize", "+8"],
    ] {
        let mut server = Server::new(at(0), 7);
        let mut out = Sent::default();
        let wrq = request(2, &[&["x", "octet"], &words[..]].concat());
        assert_eq!(
            server.on_datagram(at(0), &from(3000, PORT, &wrq), &mut out),
            Taken::Nothing
        );
        assert_eq!(out.only(), ack(0), "{words:?}");
    }
}

#[test]
fn an_announced_length_that_does_not_fit_is_refused_with_a_reason() {
    let mut server = Server::new(at(0), 7);
    let mut out = Sent::default();
    let wrq = request(2, &["x", "octet", "tsize", "99999999"]);
    assert_eq!(
        server.on_datagram(at(0), &from(3000, PORT, &wrq), &mut out),
        Taken::Announced(99_999_999)
    );
    server.refuse(
        at(0),
        &Refusal::Image(Fault::TooLong {
            most: 1_834_816,
            found: 99_999_999,
        }),
        &mut out,
    );
    let error = out.only();
    assert_eq!(error[..4], [0, 5, 0, 3]);
    assert!(error.ends_with(b"image too long: 99999999 bytes, at most 1834816\0"));
    // Said again to a sender that goes on, then no more.
    server.on_datagram(at(1000), &from(3000, OURS, &data(1, &[0; 512])), &mut out);
    assert_eq!(out.only(), error);
    server.poll(at(3000), &mut out);
    assert!(server.is_done());
}

#[test]
fn what_is_not_a_write_in_octet_mode_is_refused_and_the_server_stays_armed() {
    let mut server = Server::new(at(0), 7);
    let mut out = Sent::default();
    for bytes in [
        request(1, &["x", "octet"]),
        request(2, &["x", "netascii"]),
        request(2, &["x"]),
        data(1, b"x"),
        std::vec![0, 2],
        std::vec![0, 2, b'x', 0, b'o'],
        std::vec![2],
        std::vec![],
    ] {
        assert_eq!(
            server.on_datagram(at(0), &from(3000, PORT, &bytes), &mut out),
            Taken::Nothing
        );
        assert_eq!(out.only()[..4], [0, 5, 0, 4], "{bytes:?}");
    }
    // An error is never answered with one.
    server.on_datagram(at(0), &from(3000, PORT, &[0, 5, 0, 0, 0]), &mut out);
    assert!(out.0.is_empty());
    let wrq = request(2, &["x", "octet"]);
    server.on_datagram(at(0), &from(3000, PORT, &wrq), &mut out);
    assert_eq!(out.only(), ack(0));
}

#[test]
fn only_one_sender_is_served_and_strangers_do_not_disturb() {
    let (mut server, mut out) = receiving();
    let wrq = request(2, &["y", "octet"]);
    server.on_datagram(at(1), &from(4000, PORT, &wrq), &mut out);
    assert!(out.only().ends_with(b"another transfer is under way\0"));
    // RFC 1350, 4: a wrong transfer identifier.
    let stranger = data(1, &[9; 512]);
    assert_eq!(
        server.on_datagram(at(1), &from(4000, OURS, &stranger), &mut out),
        Taken::Nothing
    );
    let (to, bytes) = out.0.pop_front().unwrap();
    assert_eq!((to.dst_port, &bytes[..4]), (4000, &[0, 5, 0, 5][..]));
    let mut other = from(3000, OURS, &stranger);
    other.src = Ipv4Address::new(192, 168, 1, 101);
    assert_eq!(server.on_datagram(at(1), &other, &mut out), Taken::Nothing);
    out.only();
    assert_eq!(
        server.on_datagram(at(2), &from(3000, OURS, &data(1, b"end")), &mut out),
        Taken::Last(b"end")
    );
}

#[test]
fn a_lost_answer_is_repeated_and_a_doubled_block_is_not_answered_twice() {
    let (mut server, mut out) = receiving();
    let block = data(1, &[7; 512]);
    server.on_datagram(at(10), &from(3000, OURS, &block), &mut out);
    server.accept(at(10), &mut out);
    assert_eq!(out.only(), ack(1));
    // Doubled by the network: RFC 1123, 4.2.3.1.
    server.on_datagram(at(11), &from(3000, OURS, &block), &mut out);
    assert!(out.0.is_empty());
    // Sent again: our answer was lost.
    server.on_datagram(at(1010), &from(3000, OURS, &block), &mut out);
    assert_eq!(out.only(), ack(1));
    // The request again, of which no answer came.
    let wrq = request(2, &["x.img", "octet"]);
    server.on_datagram(at(1200), &from(3000, PORT, &wrq), &mut out);
    assert!(out.0.is_empty(), "too late for that");
    // From the future, from the past, too long.
    for (number, length) in [(3, 512), (0, 512), (2, 513), (65_535, 1)] {
        assert_eq!(
            server.on_datagram(
                at(1300),
                &from(3000, OURS, &data(number, &std::vec![1; length])),
                &mut out
            ),
            Taken::Nothing
        );
        assert!(out.0.is_empty());
    }
}

#[test]
fn silence_brings_the_answer_again_and_then_the_end() {
    let (mut server, mut out) = receiving();
    for turn in 1..=i64::from(TFTP_RETRIES) {
        assert_eq!(server.poll_at(), Some(at(1000 * turn)));
        assert_eq!(server.poll(at(1000 * turn - 1), &mut out), Taken::Nothing);
        assert!(out.0.is_empty());
        assert_eq!(server.poll(at(1000 * turn), &mut out), Taken::Nothing);
        assert_eq!(out.only(), ack(0));
    }
    assert_eq!(
        server.poll(at(7000), &mut out),
        Taken::Ended(Ending::Silence)
    );
    assert_eq!(out.only()[..4], [0, 5, 0, 0]);
    assert!(server.is_done());
}

#[test]
fn nobody_comes_for_two_minutes() {
    let mut server = Server::new(at(0), 7);
    let mut out = Sent::default();
    assert_eq!(server.poll(at(119_999), &mut out), Taken::Nothing);
    assert_eq!(
        server.poll(at(120_000), &mut out),
        Taken::Ended(Ending::NobodySent)
    );
    assert!(server.is_done() && out.0.is_empty());
}

#[test]
fn an_error_of_the_sender_ends_it() {
    let (mut server, mut out) = receiving();
    assert_eq!(
        server.on_datagram(at(1), &from(3000, OURS, &[0, 5, 0, 0, b'x', 0]), &mut out),
        Taken::Ended(Ending::BySender)
    );
    assert!(out.0.is_empty() && server.is_done());
}

/// A plain sender of RFC 1350 with a timeout of 1 s that gives up after 30.
struct Client {
    file: Vec<u8>,
    number: u16,
    to: u16,
    last: Vec<u8>,
    sent: Instant,
    tries: u32,
    done: bool,
}

impl Client {
    fn on_answer(&mut self, now: Instant, from: u16, bytes: &[u8]) {
        let expected = ack(self.number);
        if self.done || bytes != expected {
            return; // a duplicate answer is never answered
        }
        if self.number == 0 {
            self.to = from;
        }
        let at = usize::from(self.number) * 512;
        if self.number > 0 && self.last.len() < 516 {
            self.done = true;
            return;
        }
        self.number += 1;
        let end = self.file.len().min(at + 512);
        self.last = data(self.number, &self.file[at..end]);
        self.sent = now - Duration::from_secs(1);
        self.tries = 0;
    }

    fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.done || now < self.sent + Duration::from_secs(1) || self.tries == 30 {
            return None;
        }
        self.sent = now;
        self.tries += 1;
        Some(self.last.clone())
    }
}

proptest! {
    #[test]
    fn over_any_line_the_file_arrives_whole_or_the_transfer_ends(
        length in 0usize..5000,
        fates in proptest::collection::vec(0u8..8, 400),
    ) {
        let file: Vec<u8> = (0..length).map(|at| (at * 31 / 7) as u8).collect();
        let mut client = Client {
            file: file.clone(), number: 0, to: PORT, last: request(2, &["x", "octet"]),
            sent: at(-1000), tries: 0, done: false,
        };
        let mut server = Server::new(at(0), 7);
        let mut fates = fates.into_iter();
        let (mut got, mut whole, mut ended) = (Vec::new(), false, false);
        // What is under way: when it arrives, whether to the server, port, bytes.
        let mut line: Vec<(i64, bool, u16, Vec<u8>)> = Vec::new();
        let mut fate = |line: &mut Vec<(i64, bool, u16, Vec<u8>)>, ms: i64, up: bool, port: u16, bytes: Vec<u8>| {
            match fates.next().unwrap_or(3) {
                0 => {}
                1 => {
                    line.push((ms + 1, up, port, bytes.clone()));
                    line.push((ms + 30, up, port, bytes));
                }
                2 => line.push((ms + 700, up, port, bytes)),
                _ => line.push((ms + 1, up, port, bytes)),
            }
        };
        for ms in 0..300_000i64 {
            if client.done || server.is_done() && whole {
                break;
            }
            let mut out = Sent::default();
            if let Some(bytes) = client.poll(at(ms)) {
                fate(&mut line, ms, true, client.to, bytes);
            }
            let due: Vec<_> = line.extract_if(.., |entry| entry.0 <= ms).collect();
            for (_, up, port, bytes) in due {
                if !up {
                    client.on_answer(at(ms), port, &bytes);
                } else if server.listens_on(port) {
                    match server.on_datagram(at(ms), &from(3000, port, &bytes), &mut out) {
                        Taken::Nothing => {}
                        Taken::Block(bytes) => { got.extend(bytes); server.accept(at(ms), &mut out); }
                        Taken::Last(bytes) => { got.extend(bytes); whole = true; server.accept(at(ms), &mut out); }
                        Taken::Announced(_) => unreachable!(),
                        Taken::Ended(_) => ended = true,
                    }
                }
            }
            ended |= matches!(server.poll(at(ms), &mut out), Taken::Ended(_));
            for (to, bytes) in out.0 {
                fate(&mut line, ms, false, to.src_port, bytes);
            }
        }
        prop_assert!(file.starts_with(&got));
        prop_assert!(whole || ended);
        prop_assert_eq!(whole, got.len() == file.len() && !ended);
        // A sender that was told so has told the truth.
        prop_assert!(!client.done || whole);
    }

    #[test]
    fn noise_never_panics_and_never_ends_an_armed_server(
        packets in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..40)
    ) {
        let mut server = Server::new(at(0), 7);
        let mut out = Sent::default();
        for (is_request, bytes) in packets {
            let port = if is_request { PORT } else { OURS };
            if server.listens_on(port) {
                server.on_datagram(at(1), &from(3000, port, &bytes), &mut out);
            }
            prop_assert!(out.0.len() <= 1);
            out.0.clear();
        }
        prop_assert!(server.listens_on(PORT) || server.is_done());
    }
}
