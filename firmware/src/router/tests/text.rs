//! Row A15 of the fault matrix through the whole router: what strangers may write, and what the console shows of it.

use super::*;
use crate::events::{Event, Text};

/// What a terminal would act on, in forms that are bent in different ways; each as long as its field allows.
const EVIL: [&[u8]; 6] = [
    b"\x1b[2J\x1b[1;1Hroot",
    b"line\r\ntandem> reboot\r\n* WAN address lost",
    b"\x00\x07\x08\x7f\x9b31m\xff\xfe",
    "\u{202e}\u{e4}\u{1f480}\u{2028}".as_bytes(),
    b"name=\"x\" y\\x1b\\",
    b"error: \x0b\x0c\t",
];

impl Bench {
    /// What the console says to a line, without the echo of the line.
    fn listing(&mut self, line: &str) -> String {
        let mut out = String::new();
        for byte in line.bytes().chain([b'\r']) {
            self.router.on_console_byte(self.now, byte, &mut out);
        }
        let answer = out.split_once("\r\n").expect("the echo").1;
        answer
            .strip_suffix("tandem> ")
            .expect("the prompt")
            .to_owned()
    }

    /// What the console tells of itself.
    fn told(&mut self) -> String {
        let mut out = String::new();
        while self.router.console_is_ready(usize::MAX) {
            self.router.poll_console(self.now, usize::MAX, &mut out);
        }
        out
    }

    /// A host asks for an address, calls itself `name`, and takes what it is offered.
    fn join(&mut self, number: u8, name: &[u8]) {
        let mac = EthernetAddress([2, 0, 0, 0, 7, number]);
        let mut offered = [0; 4];
        for kind in [1, 3] {
            let mut body = vec![0; 236];
            body[..4].copy_from_slice(&[1, 1, 6, 0]);
            body[7] = number;
            body[28..34].copy_from_slice(&mac.0);
            // "file" and "sname" are texts as well.
            body[44..44 + name.len().min(60)].copy_from_slice(&name[..name.len().min(60)]);
            body.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
            for code in [12, 60, 81] {
                body.extend([code, name.len() as u8]);
                body.extend(name);
            }
            if kind == 3 {
                body.extend([&[54, 4][..], &ROUTER.octets(), &[50, 4], &offered].concat());
            }
            body.push(255);
            let ends = [(Ipv4Address::UNSPECIFIED, 68), (Ipv4Address::BROADCAST, 67)];
            let mut frame = udp(true, ends[0], ends[1], &body);
            frame[0..6].fill(0xFF);
            frame[6..12].copy_from_slice(&mac.0);
            self.feed(Port::Lan, &mut frame);
            self.router.poll(self.now, &mut self.out);
            let answers = self.out.take();
            let answer = answers
                .iter()
                .find(|(_, frame)| frame.len() > 282 && frame[23] == 17);
            offered.copy_from_slice(&answer.expect("an answer").1[58..62]);
        }
    }

    /// A request, from the SYN on, by a connection of its own.
    fn request(&mut self, port: u16, head: &[u8]) {
        let (client, origin) = ((CLIENT, port), (ORIGIN, 80));
        self.run(
            Port::Lan,
            segment_of(true, client, origin, flags::SYN, 100, 0),
        );
        self.run(
            Port::Wan,
            segment_of(
                false,
                origin,
                (WAN, port),
                flags::SYN | flags::ACK,
                900,
                101,
            ),
        );
        let ends = [client, origin];
        let macs = [CLIENT_MAC, LAN_MAC];
        for payload in [&b""[..], head] {
            self.run(
                Port::Lan,
                tcp(macs, ends, flags::ACK, 101, 901, &[], payload),
            );
        }
    }
}

/// The listings of a router that has seen `text` wherever a stranger can put some.
fn listings(text: &dyn Fn(usize, usize) -> Vec<u8>) -> Vec<(String, String)> {
    let mut bench = Bench::new();
    bench
        .router
        .on_console_byte(bench.now, b'\r', &mut String::new());
    for n in 0..EVIL.len() {
        bench.join(n as u8, &text(n, 255));
        // Events that strangers cause count as one within a minute.
        bench.wait(61);
        for (kind, head) in [
            [b"GET /", &text(n, 255)[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
            [b"GET / HTTP/1.1\r\nHost: ", &text(n, 255)[..], b"\r\n\r\n"].concat(),
            [
                b"GET /a HTTP/1.1\r\nHost: a\r\n",
                &text(n, 30)[..],
                b": b\r\n\r\n",
            ]
            .concat(),
            [&text(n, 255)[..], b" / HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        ]
        .iter()
        .enumerate()
        {
            bench.request(20_000 + (n * 4 + kind) as u16, head);
        }
    }
    let mut heard = vec![("told".to_owned(), bench.told())];
    let take = |bench: &mut Bench, heard: &mut Vec<(String, String)>| {
        for name in ["leases", "flows", "log", "why", "status", "counters"] {
            for line in [name.to_owned(), format!("{name} --kv")] {
                let answer = bench.listing(&line);
                heard.push((line, answer));
            }
        }
    };
    take(&mut bench, &mut heard);
    // Texts of a crash and of an image are from outside as well, though not from the net.
    for n in 0..EVIL.len() {
        let (why, place) = ("panic", Text::new(&text(n, 255)));
        bench.router.event(
            bench.now,
            Event::Reset {
                why,
                place,
                crashes: 1,
            },
        );
        let version = Text::new(&text(n, 255));
        bench
            .router
            .event(bench.now, Event::UpgradeWritten { version });
    }
    heard.push(("told".to_owned(), bench.told()));
    take(&mut bench, &mut heard);
    heard
}

#[test]
fn a15_no_text_of_a_stranger_reaches_a_listing_but_as_printable_ascii_on_its_own_line() {
    let evil = listings(&|n, len| {
        let repeated: Vec<u8> = EVIL[n].iter().copied().cycle().take(len).collect();
        repeated
    });
    let harmless = listings(&|_, len| vec![b'a'; len]);
    assert_eq!(evil.len(), harmless.len());
    for ((line, evil), (_, harmless)) in evil.iter().zip(&harmless) {
        // Notices redraw the line of the prompt: that one sequence is ours.
        let plain = evil.replace("\r\x1b[J", "");
        assert!(
            plain
                .split("\r\n")
                .all(|row| row.bytes().all(|byte| matches!(byte, b' '..=b'~'))),
            "{line}: {evil:?}"
        );
        assert_eq!(
            evil.matches("\x1b[J").count(),
            harmless.matches("\x1b[J").count(),
            "{line}"
        );
        assert_eq!(
            evil.lines().count(),
            harmless.lines().count(),
            "{line}: {evil}"
        );
    }
    // The texts are there: this is no test of an empty router.
    let of = |name: &str| &evil.iter().find(|(line, _)| line == name).unwrap().1;
    assert_eq!(of("leases --kv").lines().count(), EVIL.len());
    assert!(of("leases --kv").contains("\\x1b[2J\\x1b[1;1Hroot"));
    assert!(of("log --kv").contains("line\\x0d\\x0atandem> reboot"));
    assert!(of("why --kv").lines().count() >= 8);
    assert!(of("flows --kv").lines().count() >= 4 * EVIL.len());
    for row in of("leases --kv").lines() {
        assert!(row.starts_with("lease=192.168.1."), "{row}");
    }
}
