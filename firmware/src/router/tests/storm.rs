//! Row A13 of the fault matrix at its full rate: ten thousand requests a second through one router, while a download
//! over both lines and a plain connection go on.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::budget::{EXCHANGES_MAX, FLOWS, FLOWS_PER_HOST_MAX};
use crate::exchange;
use crate::settings::Settings;

const ATTACKER: Ipv4Address = Ipv4Address::new(192, 168, 1, 66);
/// Bytes of the download that goes on meanwhile: 50,000 in flight, 20 ms to the client and back, some 3 s.
const FILM_BYTES: u64 = 6 << 20;
/// Bytes of the objects that the storm asks for.
const STORM_BYTES: u64 = 300_000;
const STORM_FROM_MS: u64 = 400;
/// For two seconds nearly all connections are given up after their first byte; then none is, for one.
const STORM_MS: u64 = 3_000;
const GETS_A_MS: u64 = 10;
const MSS: [u8; 4] = [2, 4, 5, 0xb4];

/// Where a frame is on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Router(usize, Port),
    Lan(usize),
    Internet(usize),
}

/// The byte of an object at an offset: of a block of 256 no two repeat, and no two blocks are alike.
fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn macs(router: usize) -> [EthernetAddress; 3] {
    [1, 2, 3].map(|port| EthernetAddress([2, 0, 0, 1, router as u8, port]))
}

/// A router with its neighbour on the air.
fn router(index: usize) -> Router<'static> {
    let memory = Box::leak(Box::new(Memory::new()));
    let mut router = Router::new(memory, macs(index), Random::repeatable(7 + index as u64));
    let mut settings = Settings::new();
    for (key, value) in [
        ("lan.address", format!("192.168.{}.1/24", 1 + index)),
        ("wan.address", format!("203.0.113.{}/26", 2 + 64 * index)),
        ("wan.gateway", format!("203.0.113.{}", 1 + 64 * index)),
        ("air.address", format!("10.77.0.{}/24", 1 + index)),
        // The probe that holds requests and asks more.
        ("accel.probe", "head".to_owned()),
    ] {
        settings.set(key, &value).unwrap();
    }
    settings.peers[0] = Some(Ipv4Address::new(10, 77, 0, 2 - index as u8));
    router.apply_settings(&settings);
    router
}

/// One TCP connection as its end without timers sees it; nothing is lost here.
struct Conn {
    next: u32,
    acked: u32,
    sent: u32,
    window: u32,
    request: Vec<u8>,
    queue: Vec<u8>,
    queue_from: usize,
}

/// What the origin was asked for by connections of the routers' own.
#[derive(Default)]
struct Asked {
    heads: usize,
    ranges: Vec<(String, u64, u64)>,
    gets: usize,
}

/// The only origin: a film and the storm's objects, with ranges and strong tags.
#[derive(Default)]
struct Origin {
    conns: HashMap<(Ipv4Address, u16, u16), Conn>,
    asked: Asked,
    film_by: [u64; 2],
}

impl Origin {
    fn reply(&mut self, head: &str, router: usize) -> Vec<u8> {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap().trim());
        if target == "/range" {
            self.asked.gets += 1;
            return b"HTTP/1.1 206 Partial Content\r\n\r\nx".to_vec();
        }
        if target == "/echo" {
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
        }
        let total = if target == "/film.mp4" {
            FILM_BYTES
        } else {
            STORM_BYTES
        };
        let range = head
            .lines()
            .find_map(|line| line.strip_prefix("Range: bytes="));
        let kind = "ETag: \"v1\"\r\nAccept-Ranges: bytes\r\nContent-Type: video/mp4\r\n";
        if method == "HEAD" {
            self.asked.heads += 1;
            return format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {total}\r\n\r\n")
                .into_bytes();
        }
        let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
            // Its client gives up after the head.
            self.asked.gets += 1;
            return format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {total}\r\n\r\nx")
                .into_bytes();
        };
        let first: u64 = first.parse().unwrap();
        let last = last.parse().unwrap_or(total - 1).min(total - 1);
        self.asked.ranges.push((target.to_owned(), first, last));
        let len = last + 1 - first;
        if target == "/film.mp4" {
            self.film_by[router] += len;
        }
        let mut bytes = format!(
            "HTTP/1.1 206 Partial Content\r\n{kind}Content-Range: bytes {first}-{last}/{total}\r\n\
             Content-Length: {len}\r\n\r\n"
        )
        .into_bytes();
        bytes.extend((first..=last).map(byte_at));
        bytes
    }

    fn on_frame(&mut self, router: usize, frame: &[u8]) -> Vec<Vec<u8>> {
        let packet = packet(frame);
        let Some(tcp) = packet.tcp() else {
            return Vec::new();
        };
        assert_eq!(packet.dst, ORIGIN, "nobody asked for {}", packet.dst);
        let key = (packet.src, tcp.src_port, tcp.dst_port);
        if tcp.has(flags::RST) {
            self.conns.remove(&key);
            return Vec::new();
        }
        let mut out = Vec::new();
        let send = |bits, seq, ack, options: &[u8], payload: &[u8]| {
            let ends = [(packet.dst, key.2), (packet.src, key.1)];
            let macs = [GATEWAY_MAC, macs(router)[Port::Wan.index()]];
            super::tcp(macs, ends, bits, seq, ack, options, payload)
        };
        if tcp.has(flags::SYN) {
            let conn = Conn {
                next: tcp.seq.wrapping_add(1),
                acked: 5001,
                sent: 5001,
                window: tcp.window.into(),
                request: Vec::new(),
                queue: Vec::new(),
                queue_from: 0,
            };
            out.push(send(flags::SYN | flags::ACK, 5000, conn.next, &MSS, b""));
            self.conns.insert(key, conn);
            return out;
        }
        let Some(mut conn) = self.conns.remove(&key) else {
            return out;
        };
        conn.window = tcp.window.into();
        if tcp.ack.wrapping_sub(conn.acked) as i32 > 0 {
            conn.acked = tcp.ack;
        }
        let payload = packet.payload(frame);
        if tcp.seq == conn.next && (!payload.is_empty() || tcp.has(flags::FIN)) {
            conn.next = conn.next.wrapping_add(packet.sequence_len());
            conn.request.extend(payload);
            while let Some(end) = conn.request.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = conn.request.drain(..end + 4).collect();
                let bytes = self.reply(std::str::from_utf8(&head).unwrap(), router);
                conn.queue.drain(..conn.queue_from);
                conn.queue_from = 0;
                conn.queue.extend(bytes);
            }
            out.push(send(flags::ACK, conn.sent, conn.next, &[], b""));
            if tcp.has(flags::FIN) {
                out.push(send(
                    flags::FIN | flags::ACK,
                    conn.sent,
                    conn.next,
                    &[],
                    b"",
                ));
                return out;
            }
        }
        while conn.queue_from < conn.queue.len() {
            let room = conn.window - conn.sent.wrapping_sub(conn.acked).min(conn.window);
            let left = conn.queue.len() - conn.queue_from;
            let len = left.min(1460).min(room as usize);
            if len == 0 {
                break;
            }
            let part = &conn.queue[conn.queue_from..conn.queue_from + len];
            out.push(send(
                flags::ACK | flags::PSH,
                conn.sent,
                conn.next,
                &[],
                part,
            ));
            conn.queue_from += len;
            conn.sent = conn.sent.wrapping_add(len as u32);
        }
        self.conns.insert(key, conn);
        out
    }
}

/// The client of the download: takes bytes in order, and compares each.
#[derive(Default)]
struct Film {
    next: u32,
    head: Vec<u8>,
    body: u64,
}

const FILM_END: (Ipv4Address, u16) = (OTHER, 30_000);
const FILM_GET: &[u8] = b"GET /film.mp4 HTTP/1.1\r\nHost: films.example\r\n\r\n";

impl Film {
    fn send(bits: u8, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let macs = [OTHER_MAC, macs(0)[Port::Lan.index()]];
        super::tcp(
            macs,
            [FILM_END, (ORIGIN, 80)],
            bits,
            seq,
            ack,
            options,
            payload,
        )
    }

    fn on_frame(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let packet = packet(frame);
        let tcp = packet.tcp().expect("no error");
        assert!(
            !tcp.has_any(flags::RST | flags::FIN),
            "cut at {}",
            self.body
        );
        if tcp.has(flags::SYN) {
            self.next = tcp.seq.wrapping_add(1);
            let ack = Self::send(flags::ACK, 101, self.next, &[], b"");
            return vec![ack, Self::send(flags::ACK, 101, self.next, &[], FILM_GET)];
        }
        let payload = packet.payload(frame);
        if tcp.seq == self.next {
            self.next = self.next.wrapping_add(payload.len() as u32);
            for &byte in payload {
                if !self.head.ends_with(b"\r\n\r\n") {
                    self.head.push(byte);
                    continue;
                }
                assert_eq!(byte, byte_at(self.body), "a wrong byte at {}", self.body);
                self.body += 1;
            }
        }
        if payload.is_empty() {
            return Vec::new();
        }
        let seq = 101 + FILM_GET.len() as u32;
        vec![Self::send(flags::ACK, seq, self.next, &[], b"")]
    }
}

/// Everything around the two routers.
struct World {
    routers: [Router<'static>; 2],
    out: Sent,
    now_us: u64,
    order: u64,
    under_way: BTreeMap<(u64, u64), (Place, Vec<u8>)>,
    origin: Origin,
    film: Film,
    /// Connections of the storm so far, and requests that they have sent.
    storm: (u64, u64),
    echoes: u64,
    is_lasting: bool,
    exchanges_most: usize,
    flows_most: usize,
}

impl World {
    fn new() -> Self {
        Self {
            routers: [router(0), router(1)],
            out: Sent::new(),
            now_us: 1_000_000,
            order: 0,
            under_way: BTreeMap::new(),
            origin: Origin::default(),
            film: Film::default(),
            storm: (0, 0),
            echoes: 0,
            is_lasting: false,
            exchanges_most: 0,
            flows_most: 0,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us as i64)
    }

    fn send(&mut self, place: Place, frame: Vec<u8>) {
        let delay_us = match place {
            Place::Router(_, Port::Air) => 1_000,
            Place::Router(_, Port::Lan | Port::Wan) | Place::Lan(_) | Place::Internet(_) => 10_000,
        };
        self.order += 1;
        let at = (self.now_us + delay_us, self.order);
        self.under_way.insert(at, (place, frame));
    }

    fn leave(&mut self, router: usize, port: Port, frame: Vec<u8>) {
        let place = match port {
            Port::Lan => Place::Lan(router),
            Port::Wan => Place::Internet(router),
            Port::Air => Place::Router(1 - router, Port::Air),
        };
        self.send(place, frame);
    }

    fn deliver(&mut self, place: Place, mut frame: Vec<u8>) {
        match place {
            Place::Router(router, port) => {
                let now = self.now();
                let verdict = self.routers[router].on_frame(now, port, &mut frame, &mut self.out);
                for (port, frame) in self.out.take() {
                    self.leave(router, port, frame);
                }
                if let Verdict::Forward(port) = verdict {
                    self.leave(router, port, frame);
                }
            }
            Place::Lan(router) | Place::Internet(router) if frame[12..14] == [8, 6] => {
                // Whoever is asked for is there.
                if frame[20..22] == [0, 1] {
                    let mac = match (place, frame[41]) {
                        (Place::Internet(_), _) => GATEWAY_MAC,
                        (_, 20) => OTHER_MAC,
                        _ => CLIENT_MAC,
                    };
                    let port = match place {
                        Place::Internet(_) => Port::Wan,
                        Place::Lan(_) | Place::Router(..) => Port::Lan,
                    };
                    let asker: Vec<u8> = frame[22..32].to_vec();
                    let target: Vec<u8> = frame[38..42].to_vec();
                    frame[21] = 2;
                    frame[0..6].copy_from_slice(&asker[..6]);
                    frame[6..12].copy_from_slice(&mac.0);
                    frame[22..28].copy_from_slice(&mac.0);
                    frame[28..32].copy_from_slice(&target);
                    frame[32..42].copy_from_slice(&asker);
                    self.send(Place::Router(router, port), frame);
                }
            }
            Place::Internet(router) => {
                for frame in self.origin.on_frame(router, &frame) {
                    self.send(Place::Router(router, Port::Wan), frame);
                }
            }
            Place::Lan(router) => self.on_lan(router, &frame),
        }
    }

    fn on_lan(&mut self, router: usize, frame: &[u8]) {
        assert_eq!(
            router, 0,
            "nothing of the storm comes out behind the neighbour"
        );
        let packet = packet(frame);
        let Some(tcp) = packet.tcp().filter(|_| packet.src == ORIGIN) else {
            return;
        };
        let frames = match packet.dst {
            OTHER => self.film.on_frame(frame),
            CLIENT if tcp.has(flags::SYN) => {
                vec![tcp_of((CLIENT, 40_000), flags::ACK, 101, 5001, b"")]
            }
            CLIENT => {
                self.echoes += u64::from(packet.payload_len() > 0);
                Vec::new()
            }
            _ => self.on_storm(tcp.dst_port, tcp.seq, tcp.flags, packet.payload_len()),
        };
        for frame in frames {
            self.send(Place::Router(0, Port::Lan), frame);
        }
    }

    /// A connection of the storm: handshake, request, and gone with the first byte of the reply, or never.
    fn on_storm(&mut self, port: u16, seq: u32, bits: u8, len: usize) -> Vec<Vec<u8>> {
        let me = (ATTACKER, port);
        // Film-like, already ranges, of a host in the neighbour's LAN.
        let request = match port % 3 {
            0 => format!("GET /{port}.mp4 HTTP/1.1\r\nHost: a.example\r\n\r\n"),
            1 => format!("GET /range HTTP/1.1\r\nHost: a.example\r\nRange: bytes={port}-\r\n\r\n"),
            _ => format!("GET /{port}.mp4 HTTP/1.1\r\nHost: 192.168.2.1\r\n\r\n"),
        };
        let stays = self.is_lasting || port.is_multiple_of(64);
        if bits & flags::RST != 0 {
            return Vec::new();
        }
        if bits & flags::SYN != 0 {
            self.storm.1 += 1;
            let next = seq.wrapping_add(1);
            return vec![
                tcp_of(me, flags::ACK, 101, next, b""),
                tcp_of(me, flags::ACK, 101, next, request.as_bytes()),
            ];
        }
        if len > 0 && !stays {
            let next = 101 + request.len() as u32;
            return vec![tcp_of(me, flags::RST, next, 0, b"")];
        }
        Vec::new()
    }

    /// All that happens in a millisecond.
    fn tick(&mut self) {
        self.pass(1_000);
    }

    /// All that happens in so many microseconds, seen at their end.
    fn pass(&mut self, us: u64) {
        self.now_us += us;
        while let Some(entry) = self.under_way.first_entry()
            && entry.key().0 <= self.now_us
        {
            let (place, frame) = entry.remove();
            self.deliver(place, frame);
        }
        for index in 0..2 {
            let now = self.now();
            self.routers[index].poll(now, &mut self.out);
            for (port, frame) in self.out.take() {
                self.leave(index, port, frame);
            }
        }
        let router = &self.routers[0];
        self.exchanges_most = self
            .exchanges_most
            .max(router.accelerator.exchanges.active());
        self.flows_most = self.flows_most.max(router.conntrack.len());
    }

    fn client_sends(&mut self, frame: Vec<u8>) {
        self.send(Place::Router(0, Port::Lan), frame);
    }

    fn exchanges(&self, counter: exchange::Counter) -> u64 {
        self.routers[0].accelerator.exchanges.counts().get(counter)
    }
}

fn tcp_of(src: (Ipv4Address, u16), bits: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    let macs = [CLIENT_MAC, macs(0)[Port::Lan.index()]];
    let options: &[u8] = if bits & flags::SYN != 0 { &MSS } else { &[] };
    let port = if src.0 == CLIENT { 443 } else { 80 };
    tcp(
        macs,
        [src, (ORIGIN, port)],
        bits,
        seq,
        ack,
        options,
        payload,
    )
}

#[test]
fn a13_ten_thousand_requests_a_second_are_plain_or_refused_and_a_download_goes_on() {
    let mut world = World::new();
    for _ in 0..100 {
        world.tick();
    }
    assert!(world.routers[0].accelerator.peers[0].is_up());
    // The neighbours' sessions have their share of the blocks, and keep it.
    let unpromised = [0, 1].map(|index| {
        let router: &Router<'_> = &world.routers[index];
        router.accelerator.pool.blocks_unpromised()
    });
    world.client_sends(Film::send(flags::SYN, 100, 0, &MSS, b""));
    world.client_sends(tcp_of((CLIENT, 40_000), flags::SYN, 100, 0, b""));
    let (mut echo_seq, mut asked) = (101, 0);
    const ECHO: &[u8] = b"GET /echo\r\n\r\n";
    let mut ms = 0;
    while ms < STORM_FROM_MS + STORM_MS + 500 || world.film.body < FILM_BYTES {
        ms += 1;
        assert!(ms < 20_000, "the download stands at {}", world.film.body);
        world.tick();
        if ms > 100 && ms % 10 == 0 && ms < STORM_FROM_MS + STORM_MS {
            // The origin's replies are not acknowledged: 50,000 bytes of window are enough for 1,000.
            let echo = tcp_of((CLIENT, 40_000), flags::ACK, echo_seq, 5001, ECHO);
            world.client_sends(echo);
            echo_seq += ECHO.len() as u32;
            asked += 1;
        }
        if (STORM_FROM_MS..STORM_FROM_MS + STORM_MS).contains(&ms) {
            world.is_lasting = ms >= STORM_FROM_MS + STORM_MS * 2 / 3;
            for _ in 0..GETS_A_MS {
                let port = 1024 + world.storm.0 as u16;
                world.storm.0 += 1;
                world.client_sends(tcp_of((ATTACKER, port), flags::SYN, 100, 0, b""));
            }
        }
    }
    let counts = &world.routers[0].counts;
    let requests = world.storm.1;
    let (held, declined) = (
        world.exchanges(exchange::Counter::Held) - 1,
        world.exchanges(exchange::Counter::NoRoom),
    );
    // Beyond the attacker's share of flows a new one costs it its own oldest unanswered one, or is refused.
    let evicted = crate::conntrack::Counter::EvictedFresh;
    let given_up =
        counts.get(Counter::FlowRefused) + world.routers[0].conntrack.counts.get(evicted);
    let story = format!(
        "{requests} requests, {held} held, {declined} had no room, {given_up} flows too many, {} HEADs, most flows {}, {:?} by line",
        world.origin.asked.heads, world.flows_most, world.origin.film_by,
    );
    // The rate was there, and what was beyond the bounds was passed on or refused, each with its count.
    assert!(requests >= 20_000, "{story}");
    assert!(
        (2..=EXCHANGES_MAX).contains(&world.exchanges_most),
        "{story}"
    );
    assert!(held >= 20 && declined > 10_000, "{story}");
    assert!(given_up > 1_000, "{story}");
    assert!(world.flows_most <= FLOWS, "{story}");
    // The download was shared and is whole, and so is the plain connection.
    assert_eq!(world.film.body, FILM_BYTES);
    assert!(
        world
            .origin
            .film_by
            .iter()
            .all(|&bytes| bytes > FILM_BYTES / 16),
        "{story}"
    );
    assert_eq!(world.echoes, asked, "{story}");
    // The origin: one probe for a held request, no range twice, no byte more than each client would have got.
    assert!(world.origin.asked.heads as u64 <= held + 1, "{story}");
    let mut by_target: HashMap<&str, u64> = HashMap::new();
    for (target, first, last) in &world.origin.asked.ranges {
        *by_target.entry(target).or_default() += last + 1 - first;
    }
    for (target, bytes) in by_target {
        let total = if target == "/film.mp4" {
            FILM_BYTES
        } else {
            STORM_BYTES
        };
        assert!(bytes <= total, "{bytes} bytes of {target}, {story}");
    }
    let attackers = world.routers[0].conntrack.iter();
    let attackers = attackers.filter(|(_, entry)| entry.key().client == ATTACKER);
    let open =
        attackers.filter(|(_, entry)| entry.tcp.state != crate::conntrack::tcp::State::Closed);
    let open = open.count();
    assert!(open <= FLOWS_PER_HOST_MAX, "{open} flows of one host");
    for router in &world.routers {
        router.conntrack.check();
    }
    all_is_gone(&mut world, unpromised);
}

/// Hours later nothing is left of it.
fn all_is_gone(world: &mut World, unpromised: [usize; 2]) {
    // Clients that have gone without a word are given up when they have not answered for minutes.
    for _ in 0..15 * 60 * 20 {
        world.pass(50_000);
    }
    for (index, router) in world.routers.iter().enumerate() {
        let parts = &router.accelerator;
        assert_eq!(parts.exchanges.active(), 0, "{index}");
        assert_eq!(parts.lender.active().1, 0, "{index}");
        assert_eq!(
            parts.pool.blocks_free(),
            parts.pool.blocks_total(),
            "{index}"
        );
        assert_eq!(parts.pool.blocks_unpromised(), unpromised[index], "{index}");
        assert_eq!(parts.peers[0].asks(), 0, "{index}");
    }
    for _ in 0..3 * 3600 {
        world.now_us += 1_000_000;
        let now = world.now();
        world.routers[0].poll(now, &mut world.out);
        world.out.take();
    }
    assert!(world.routers[0].conntrack.is_empty());
    world.routers[0].conntrack.check();
}
