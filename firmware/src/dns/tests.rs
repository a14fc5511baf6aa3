use super::*;
use crate::budget::{
    DNS_CACHE_ENTRIES, DNS_PENDING, DNS_PENDING_PER_HOST, DNS_WAITERS, LOCAL_PORT_FIRST,
};
use message::kind;
use proptest::prelude::*;
use smoltcp::time::Duration;
use smoltcp::wire::EthernetAddress;
use std::collections::HashSet;

const LAN: Ipv4Cidr = Ipv4Cidr::new(Ipv4Address::new(192, 168, 1, 1), 24);
const WAN: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const FIRST: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);
const SECOND: Ipv4Address = Ipv4Address::new(198, 51, 100, 11);
const LAPTOP: Ipv4Address = Ipv4Address::new(192, 168, 1, 120);
const CLIENT: (Ipv4Address, u16) = (Ipv4Address::new(192, 168, 1, 100), 40_000);
const OTHER: (Ipv4Address, u16) = (Ipv4Address::new(192, 168, 1, 101), 40_001);

fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [id, flags, counts[0], counts[1], counts[2], counts[3]];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn opt(size: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    let mut record = vec![0];
    record.extend(kind::OPT.to_be_bytes());
    record.extend(size.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend((options.len() as u16).to_be_bytes());
    record.extend_from_slice(options);
    record
}

fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = name.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend(1u16.to_be_bytes());
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend_from_slice(data);
    record
}

/// A pointer to the question's name.
const QNAME: &[u8] = &[0xc0, 12];

fn a(ttl: u32, address: [u8; 4]) -> Vec<u8> {
    record(QNAME, 1, ttl, &address)
}

fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let mut data = vec![0xc0, 12, 1, b'x', 0];
    for word in [1u32, 2, 3, 4, minimum] {
        data.extend(word.to_be_bytes());
    }
    record(QNAME, kind::SOA, ttl, &data)
}

fn ask(id: u16, text: &str, kind: u16) -> Vec<u8> {
    let mut message = header(id, flags::RECURSION_DESIRED, [1, 0, 0, 0]);
    message.extend(name(text));
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message
}

fn ask_edns(id: u16, text: &str, size: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    let mut message = ask(id, text, 1);
    message[11] = 1;
    message.extend(opt(size, ttl, options));
    message
}

/// The answer to a question as relayed: its id and question, and these records.
fn answer(asked: &[u8], rcode: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let counts = sections.map(|section| section.len() as u16);
    let mut message = header(
        message::word(asked, 0).unwrap(),
        flags::RESPONSE | flags::RECURSION_DESIRED | flags::RECURSION_AVAILABLE | rcode,
        [1, counts[0], counts[1], counts[2]],
    );
    message.extend_from_slice(question_bytes(asked));
    sections
        .into_iter()
        .flatten()
        .for_each(|record| message.extend_from_slice(record));
    message
}

#[derive(Default)]
struct Sent {
    datagrams: Vec<(Outgoing, Vec<u8>)>,
    is_full: bool,
}

impl SendUdp for Sent {
    fn send_udp(
        &mut self,
        _now: Instant,
        to: &Outgoing,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Full> {
        if self.is_full || len > usize::from(UDP_PAYLOAD_MAX) {
            return Err(Full);
        }
        let mut payload = vec![0xa5; len];
        fill(&mut payload);
        self.datagrams.push((*to, payload));
        Ok(())
    }
}

struct Bench {
    relay: Box<Relay>,
    out: Sent,
    random: Random,
    now: Instant,
    resolvers: [Option<Ipv4Address>; WAN_DNS_MAX],
    wan: Option<Ipv4Address>,
}

impl Bench {
    fn new() -> Self {
        Self {
            relay: Box::new(Relay::new()),
            out: Sent::default(),
            random: Random::repeatable(7),
            now: Instant::from_secs(100),
            resolvers: [Some(FIRST), Some(SECOND), None],
            wan: Some(WAN),
        }
    }

    fn with<R>(
        &mut self,
        run: impl FnOnce(&mut Relay, Instant, &mut dyn SendUdp, &mut Around<'_>) -> R,
    ) -> R {
        let hosts = |name: &[u8]| (name == b"laptop").then_some(LAPTOP);
        let mut around = Around {
            lan: LAN,
            wan: self.wan,
            resolvers: self.resolvers,
            hosts: &hosts,
            random: &mut self.random,
        };
        run(&mut self.relay, self.now, &mut self.out, &mut around)
    }

    fn feed(&mut self, datagram: &Datagram<'_>) -> Vec<(Outgoing, Vec<u8>)> {
        self.with(|relay, now, out, around| relay.on_datagram(now, datagram, out, around));
        self.relay.pending.check();
        std::mem::take(&mut self.out.datagrams)
    }

    /// A datagram of a client; gives what is sent.
    fn lan(
        &mut self,
        (src, src_port): (Ipv4Address, u16),
        payload: &[u8],
    ) -> Vec<(Outgoing, Vec<u8>)> {
        self.feed(&Datagram {
            port: Port::Lan,
            src_mac: EthernetAddress([2, 0, 0, 0, 9, 1]),
            src,
            src_port,
            dst: LAN.address(),
            dst_port: PORT,
            payload,
        })
    }

    /// A datagram of the line; gives what is sent.
    fn wan(
        &mut self,
        src: Ipv4Address,
        src_port: u16,
        dst_port: u16,
        payload: &[u8],
    ) -> Vec<(Outgoing, Vec<u8>)> {
        self.feed(&Datagram {
            port: Port::Wan,
            src_mac: EthernetAddress([2, 0, 0, 0, 9, 2]),
            src,
            src_port,
            dst: WAN,
            dst_port,
            payload,
        })
    }

    /// A question that has to go out; gives it as the resolver sees it, and where its answer goes.
    fn relayed(&mut self, client: (Ipv4Address, u16), question: &[u8]) -> (Outgoing, Vec<u8>) {
        let mut sent = self.lan(client, question);
        assert_eq!(sent.len(), 1, "{sent:?}");
        let (to, payload) = sent.remove(0);
        assert_eq!(to.port, Port::Wan, "{payload:?}");
        assert_eq!((to.src, to.dst_port), (WAN, PORT));
        assert!(to.src_port >= LOCAL_PORT_FIRST);
        assert!(self.relay.owns_port(to.src_port));
        (to, payload)
    }

    /// A question that is answered at once.
    fn answered(&mut self, client: (Ipv4Address, u16), question: &[u8]) -> Vec<u8> {
        let mut sent = self.lan(client, question);
        assert_eq!(sent.len(), 1, "{sent:?}");
        let (to, payload) = sent.remove(0);
        assert_eq!(
            to,
            Outgoing {
                port: Port::Lan,
                src: LAN.address(),
                src_port: PORT,
                dst: client.0,
                dst_port: client.1,
                mac: None
            }
        );
        payload
    }

    /// The resolver answers what `to` asked.
    fn resolve(&mut self, to: &Outgoing, payload: &[u8]) -> Vec<(Outgoing, Vec<u8>)> {
        self.wan(to.dst, PORT, to.src_port, payload)
    }

    /// Asks, and lets the resolver answer with these records.
    fn fetch(&mut self, question: &[u8], rcode: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
        let (to, asked) = self.relayed(CLIENT, question);
        let mut sent = self.resolve(&to, &answer(&asked, rcode, sections));
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0).1
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn poll(&mut self) -> Vec<(Outgoing, Vec<u8>)> {
        self.with(|relay, now, out, around| relay.poll(now, out, around));
        self.relay.pending.check();
        std::mem::take(&mut self.out.datagrams)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.relay.counts.get(counter)
    }
}

fn rcode_of(message: &[u8]) -> u16 {
    Header::parse(message).unwrap().rcode()
}

#[test]
fn a_question_is_relayed_and_its_answer_comes_back_under_its_own_number() {
    let mut bench = Bench::new();
    let question = ask(0x1234, "Example.COM", 1);
    let (to, asked) = bench.relayed(CLIENT, &question);
    assert_eq!(to.dst, FIRST);
    assert_eq!(asked[2..], question[2..]);
    let reply = answer(&asked, 0, [&[a(300, [192, 0, 2, 1])], &[], &[]]);
    let sent = bench.resolve(&to, &reply);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0.dst, sent[0].0.dst_port), CLIENT);
    assert_eq!((sent[0].0.src, sent[0].0.src_port), (LAN.address(), PORT));
    assert_eq!(sent[0].1[..2], [0x12, 0x34]);
    assert_eq!(sent[0].1[2..], reply[2..]);
    assert!(!bench.relay.owns_port(to.src_port));
    assert_eq!(bench.relay.poll_at(), None);
}

#[test]
fn an_answer_is_kept_and_its_ttl_counted_down_until_it_is_over() {
    let mut bench = Bench::new();
    let sections: [&[Vec<u8>]; 3] = [&[a(300, [192, 0, 2, 1]), a(200, [192, 0, 2, 2])], &[], &[]];
    bench.fetch(&ask(1, "example.com", 1), 0, sections);
    bench.pass(Duration::from_secs(50));
    // Letters do not matter, and come back as asked.
    let question = ask(77, "eXample.cOM", 1);
    let held = bench.answered(OTHER, &question);
    let mut expected = answer(
        &question,
        0,
        [&[a(250, [192, 0, 2, 1]), a(150, [192, 0, 2, 2])], &[], &[]],
    );
    assert_eq!(held, expected);
    bench.pass(Duration::from_secs(149));
    let held = bench.answered(CLIENT, &question);
    expected = answer(
        &question,
        0,
        [&[a(101, [192, 0, 2, 1]), a(1, [192, 0, 2, 2])], &[], &[]],
    );
    assert_eq!(held, expected);
    bench.pass(Duration::from_secs(1));
    bench.relayed(CLIENT, &question);
    // Other types and classes are other questions.
    bench.relayed(CLIENT, &ask(5, "example.com", 28));
    assert_eq!(bench.count(Counter::Hit), 2);
}

#[test]
fn rfc2308_there_is_none_is_kept_as_long_as_the_soa_says() {
    for (rcode, soa, holds) in [
        (rcode::NO_NAME, Some(soa(3600, 60)), Some(60)),
        (rcode::NO_ERROR, Some(soa(30, 600)), Some(30)),
        (rcode::NO_NAME, Some(soa(86_400, 86_400)), Some(900)),
        (rcode::NO_NAME, None, None),
        (rcode::NO_ERROR, None, None),
        (rcode::NO_NAME, Some(soa(0, 600)), None),
        (rcode::NO_NAME, Some(soa(0x8000_0000, 600)), None),
    ] {
        let mut bench = Bench::new();
        let authority: Vec<_> = soa.into_iter().collect();
        let question = ask(1, "none.example.com", 1);
        bench.fetch(&question, rcode, [&[], &authority, &[]]);
        match holds {
            Some(seconds) => {
                bench.pass(Duration::from_secs(seconds - 1));
                assert_eq!(rcode_of(&bench.answered(CLIENT, &question)), rcode);
                bench.pass(Duration::from_secs(1));
                bench.relayed(CLIENT, &question);
            }
            None => {
                bench.relayed(CLIENT, &question);
            }
        }
    }
}

#[test]
fn what_must_not_be_kept_is_not() {
    let one = a(300, [192, 0, 2, 1]);
    let referral = record(QNAME, 2, 300, &[0xc0, 12]);
    for (case, question, rcode, sections) in [
        (
            "ttl 0",
            ask(1, "a.example", 1),
            0,
            [vec![a(0, [1, 1, 1, 1])], vec![]],
        ),
        ("failure", ask(1, "b.example", 1), 2, [vec![], vec![]]),
        ("refused", ask(1, "b.example", 1), 5, [vec![], vec![]]),
        (
            "any",
            ask(1, "c.example", 255),
            0,
            [vec![one.clone()], vec![]],
        ),
        (
            "referral",
            ask(1, "e.example", 1),
            0,
            [vec![], vec![referral]],
        ),
        (
            "for one net only",
            ask_edns(1, "f.example", 1232, 0, &[0, 8, 0, 4, 0, 1, 0, 0]),
            0,
            [vec![one.clone()], vec![]],
        ),
        (
            "too long",
            ask(1, "g.example", 16),
            0,
            [vec![record(QNAME, 16, 300, &[7; 490])], vec![]],
        ),
    ] {
        let mut bench = Bench::new();
        bench.resolvers = [Some(FIRST), None, None];
        let (to, asked) = bench.relayed(CLIENT, &question);
        bench.resolve(
            &to,
            &answer(&asked, rcode, [&sections[0], &sections[1], &[]]),
        );
        assert_eq!(bench.relay.active(), (0, 0), "{case}");
        bench.relayed(CLIENT, &question);
    }
}

#[test]
fn an_answer_with_more_to_say_than_its_header_is_not_kept() {
    let one = [a(300, [192, 0, 2, 1])];
    // BADCOOKIE: its upper bits stand in the OPT record (RFC 7873 section 5.2.3).
    for (flag, additional) in [
        (0, vec![opt(1232, 0x0100_0000, &[])]),
        (flags::TRUNCATED, vec![]),
        // Behind its OPT record lies another one, which may be pointed to.
        (0, vec![opt(1232, 0, &[]), a(300, [192, 0, 2, 2])]),
    ] {
        let mut bench = Bench::new();
        let question = ask_edns(1, "example.com", 1232, 0, &[]);
        let (to, asked) = bench.relayed(CLIENT, &question);
        let mut reply = answer(&asked, 0, [&one, &[], &additional]);
        reply[2] |= (flag >> 8) as u8;
        assert_eq!(bench.resolve(&to, &reply)[0].1[2..], reply[2..]);
        assert_eq!(bench.relay.active(), (0, 0), "{additional:?}");
    }
}

#[test]
fn a_kept_answer_too_long_for_its_client_is_asked_for_anew() {
    let mut bench = Bench::new();
    let question = ask(1, "example.com", 16);
    let empty = answer(&question, 0, [&[record(QNAME, 16, 300, &[])], &[], &[]]).len();
    let full = record(QNAME, 16, 300, &vec![7; 512 - empty]);
    bench.fetch(&question, 0, [&[full], &[], &[]]);
    assert_eq!(bench.answered(CLIENT, &question).len(), 512);
    // With an OPT record it has 523 bytes.
    let mut small = ask(1, "example.com", 16);
    small[11] = 1;
    small.extend(opt(512, 0, &[]));
    bench.relayed(CLIENT, &small);
}

#[test]
fn two_questions_never_wait_at_one_port() {
    let mut bench = Bench::new();
    let mut ports = HashSet::new();
    for i in 0..10 {
        // The same numbers are drawn each time.
        bench.random = Random::repeatable(7);
        let (to, _) = bench.relayed(CLIENT, &ask(i, &format!("n{i}.example"), 1));
        assert!(ports.insert(to.src_port));
    }
}

#[test]
fn the_cache_is_bounded_and_loses_what_was_not_used() {
    let mut bench = Bench::new();
    let one = [a(3000, [192, 0, 2, 1])];
    for i in 0..DNS_CACHE_ENTRIES + 20 {
        bench.pass(Duration::from_millis(10));
        bench.fetch(&ask(1, &format!("n{i}.example"), 1), 0, [&one, &[], &[]]);
        // One is asked for again and again.
        bench.answered(CLIENT, &ask(2, "n0.example", 1));
    }
    assert_eq!(bench.relay.active().0, DNS_CACHE_ENTRIES);
    bench.relayed(CLIENT, &ask(3, "n1.example", 1));
    bench.answered(CLIENT, &ask(3, "n30.example", 1));
    bench.relay.forget();
    assert_eq!(bench.relay.active(), (0, 0));
}

#[test]
fn an_opt_record_is_not_kept_but_made_anew() {
    let mut bench = Bench::new();
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    // dig sends a cookie, and asks for more than a frame carries.
    let (to, asked) = bench.relayed(CLIENT, &ask_edns(9, "example.com", 4096, 0, &cookie));
    assert_eq!(asked.len(), 12 + 13 + 4 + 11 + 12);
    let edns = Query::parse(&asked).unwrap().edns.unwrap();
    assert_eq!((edns.size, edns.options), (DNS_UDP_BYTES, Options::Hop));
    let one = [a(300, [192, 0, 2, 1])];
    let reply = answer(&asked, 0, [&one, &[], &[opt(1232, 0, &cookie)]]);
    let sent = bench.resolve(&to, &reply);
    assert_eq!(sent[0].1[2..], reply[2..], "passes as it is");
    // From the cache, without EDNS and with it.
    let plain = ask(10, "example.com", 1);
    assert_eq!(
        bench.answered(CLIENT, &plain),
        answer(&plain, 0, [&one, &[], &[]])
    );
    let question = ask_edns(11, "example.com", 512, 0, &cookie);
    assert_eq!(
        bench.answered(CLIENT, &question),
        answer(&question, 0, [&one, &[], &[opt(DNS_UDP_BYTES, 0, &[])]])
    );
    // DNSSEC records, CD and AD ask for other answers.
    bench.relayed(CLIENT, &ask_edns(12, "example.com", 1232, 0x8000, &[]));
    let mut checked = ask(13, "example.com", 1);
    checked[3] |= flags::CHECKING_DISABLED as u8;
    bench.relayed(CLIENT, &checked);
    checked[3] = flags::AUTHENTIC_DATA as u8;
    bench.relayed(CLIENT, &checked);
}

#[test]
fn the_same_question_of_several_clients_is_asked_once() {
    let mut bench = Bench::new();
    let (to, asked) = bench.relayed(CLIENT, &ask(1, "example.com", 1));
    for i in 1..DNS_WAITERS as u16 {
        let client = (Ipv4Address::new(192, 168, 1, 110), 5000 + i);
        assert_eq!(bench.lan(client, &ask(i, "example.com", 1)), []);
    }
    // Impatience changes nothing.
    assert_eq!(bench.lan(CLIENT, &ask(1, "example.com", 1)), []);
    assert_eq!(bench.lan((LAPTOP, 1), &ask(1, "example.com", 1)), []);
    assert_eq!(bench.count(Counter::Waiters), 1);
    let sent = bench.resolve(&to, &answer(&asked, 0, [&[a(9, [1, 2, 3, 4])], &[], &[]]));
    assert_eq!(sent.len(), DNS_WAITERS);
    for (to, payload) in &sent[1..] {
        assert_eq!(to.dst_port - 5000, message::word(payload, 0).unwrap());
    }
}

#[test]
fn silence_is_met_by_the_next_resolver_and_ends_in_a_failure() {
    let mut bench = Bench::new();
    let start = bench.now;
    let question = ask(42, "example.com", 1);
    let (first, asked) = bench.relayed(CLIENT, &question);
    let mut ports = HashSet::from([first.src_port]);
    let mut ids = HashSet::from([asked[..2].to_vec()]);
    for turn in 1..5 {
        bench.now = bench.relay.poll_at().unwrap();
        assert_eq!(bench.now, start + Duration::from_secs(2 * turn));
        let sent = bench.poll();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].0.dst, if turn % 2 == 1 { SECOND } else { FIRST });
        assert_eq!(sent[0].1[2..], question[2..]);
        ports.insert(sent[0].0.src_port);
        ids.insert(sent[0].1[..2].to_vec());
    }
    assert_eq!((ports.len(), ids.len()), (5, 5), "drawn anew each time");
    bench.now = bench.relay.poll_at().unwrap();
    assert_eq!(bench.now, start + Duration::from_secs(10));
    let sent = bench.poll();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].0.dst, sent[0].0.dst_port), CLIENT);
    assert_eq!(rcode_of(&sent[0].1), rcode::SERVER_FAILURE);
    assert_eq!(sent[0].1[..2], [0, 42]);
    assert_eq!(bench.relay.poll_at(), None);
}

#[test]
fn a_resolvers_failure_is_believed_after_the_others_were_asked() {
    let mut bench = Bench::new();
    let (to, asked) = bench.relayed(CLIENT, &ask(1, "example.com", 1));
    let sent = bench.resolve(&to, &answer(&asked, rcode::SERVER_FAILURE, [&[], &[], &[]]));
    assert_eq!((sent.len(), sent[0].0.dst), (1, SECOND));
    // A resolver that leaves the question out of its failure is understood too.
    let mut bare = answer(&sent[0].1, rcode::REFUSED, [&[], &[], &[]]);
    bare.truncate(12);
    bare[5] = 0;
    let sent = bench.wan(SECOND, PORT, sent[0].0.src_port, &bare);
    assert_eq!((sent.len(), sent[0].0.dst), (1, CLIENT.0));
    assert_eq!(rcode_of(&sent[0].1), rcode::REFUSED);
}

#[test]
fn without_a_resolver_or_a_line_the_answer_is_a_failure_at_once() {
    for is_line_down in [false, true] {
        let mut bench = Bench::new();
        if is_line_down {
            bench.wan = None;
        } else {
            bench.resolvers = [None; WAN_DNS_MAX];
        }
        let failed = bench.answered(CLIENT, &ask_edns(3, "example.com", 1232, 0, &[]));
        assert_eq!(rcode_of(&failed), rcode::SERVER_FAILURE);
        assert!(Query::parse(&failed).unwrap().edns.is_some());
        assert_eq!(bench.relay.active(), (0, 0));
    }
}

#[test]
fn names_of_this_house_are_answered_here() {
    let mut bench = Bench::new();
    for (text, address) in [
        ("router.lan", LAN.address()),
        ("TanDem.LAN", LAN.address()),
        ("Laptop.lan", LAPTOP),
    ] {
        let question = ask(8, text, 1);
        let expected = {
            let mut message = answer(&question, 0, [&[a(60, address.octets())], &[], &[]]);
            message[2] |= (flags::AUTHORITATIVE >> 8) as u8;
            message
        };
        assert_eq!(bench.answered(CLIENT, &question), expected);
        let other = bench.answered(CLIENT, &ask(8, text, 28));
        assert_eq!(Header::parse(&other).unwrap().records, [0; 3]);
        assert_eq!(rcode_of(&other), rcode::NO_ERROR);
    }
    for text in ["nobody.lan", "a.router.lan", "x.y.z.lan"] {
        let none = bench.answered(CLIENT, &ask(8, text, 1));
        assert_eq!(rcode_of(&none), rcode::NO_NAME, "{text}");
    }
    assert_eq!(rcode_of(&bench.answered(CLIENT, &ask(8, "lan", 1))), 0);
    // The root, and names that only look like ours.
    for text in ["", "router", "router.lan.example", "router.plan"] {
        bench.relayed(CLIENT, &ask(8, text, 1));
    }
}

#[test]
fn only_the_lan_may_ask() {
    let mut bench = Bench::new();
    let question = ask(1, "router.lan", 1);
    for src in [[10, 77, 0, 2], [203, 0, 113, 9], [0; 4], [192, 168, 1, 1]] {
        assert_eq!(bench.lan((Ipv4Address::from(src), 5), &question), []);
    }
    assert_eq!(bench.wan(FIRST, PORT, 61_000, &question), []);
    assert_eq!(bench.wan(FIRST, 5000, PORT, &question), []);
    assert_eq!(bench.count(Counter::Stranger), 4);
}

#[test]
fn one_host_cannot_take_the_others_places() {
    let mut bench = Bench::new();
    let flooder = |i: u16| (Ipv4Address::new(192, 168, 1, 50), 1024 + i);
    for i in 0..1000 {
        bench.lan(flooder(i), &ask(i, &format!("n{i}.example"), 1));
    }
    assert_eq!(bench.relay.active().1, DNS_PENDING_PER_HOST);
    // A second one fills the table.
    for i in 0..1000 {
        let client = (Ipv4Address::new(192, 168, 1, 51), 1024 + i);
        bench.lan(client, &ask(i, &format!("m{i}.example"), 1));
    }
    assert_eq!(bench.relay.active().1, DNS_PENDING);
    // The third is still served: the greediest gives way.
    for i in 0..20 {
        let (to, asked) = bench.relayed(CLIENT, &ask(i, &format!("page{i}.example"), 1));
        let sent = bench.resolve(&to, &answer(&asked, 0, [&[a(60, [1, 2, 3, 4])], &[], &[]]));
        assert_eq!(sent.len(), 1);
        bench.lan(flooder(i), &ask(i, &format!("again{i}.example"), 1));
    }
    assert!(bench.relay.active().1 >= DNS_PENDING - 1);
}

#[test]
fn an_operation_that_is_no_question_passes_unread() {
    let mut bench = Bench::new();
    // An UPDATE with bytes that no query has.
    let mut update = header(7, 5 << 11, [1, 2, 3, 4]);
    update.extend([0xff; 40]);
    let (to, asked) = bench.relayed(CLIENT, &update);
    assert_eq!(asked[2..], update[2..]);
    let mut reply = header(
        message::word(&asked, 0).unwrap(),
        0x8000 | (5 << 11) | 4,
        [9; 4],
    );
    reply.extend([0xee; 5]);
    let sent = bench.resolve(&to, &reply);
    assert_eq!(sent[0].1[2..], reply[2..]);
    assert_eq!(sent[0].1[..2], [0, 7]);
}

#[test]
fn unknown_types_and_classes_pass() {
    let mut bench = Bench::new();
    let mut question = ask(1, "example.com", 65_280);
    let class_at = question.len() - 2;
    question[class_at..].copy_from_slice(&3u16.to_be_bytes());
    let odd = record(QNAME, 65_280, 60, &[0xc0; 30]);
    let reply = bench.fetch(&question, 0, [core::slice::from_ref(&odd), &[], &[]]);
    assert_eq!(reply, answer(&question, 0, [&[odd], &[], &[]]));
}

#[test]
fn a_full_port_delays_a_question_and_does_not_lose_it() {
    let mut bench = Bench::new();
    bench.out.is_full = true;
    assert_eq!(bench.lan(CLIENT, &ask(1, "example.com", 1)), []);
    bench.out.is_full = false;
    bench.now = bench.relay.poll_at().unwrap();
    let sent = bench.poll();
    assert_eq!((sent.len(), sent[0].0.dst), (1, FIRST));
    assert_eq!(bench.count(Counter::Repeated), 0);
}

#[test]
fn a11_forged_answers_are_dropped_and_the_true_one_is_awaited() {
    let mut bench = Bench::new();
    let question = ask(1, "example.com", 1);
    let (to, asked) = bench.relayed(CLIENT, &question);
    let good = answer(&asked, 0, [&[a(300, [192, 0, 2, 1])], &[], &[]]);
    let evil = answer(&asked, 0, [&[a(300, [6, 6, 6, 6])], &[], &[]]);
    let id = message::word(&asked, 0).unwrap();
    // Wrong server, wrong port of the server, wrong port of ours.
    assert_eq!(bench.wan(SECOND, PORT, to.src_port, &evil), []);
    assert_eq!(bench.wan(FIRST, 5353, to.src_port, &evil), []);
    assert_eq!(bench.wan(FIRST, PORT, to.src_port ^ 1, &evil), []);
    // Wrong id.
    let mut other = evil.clone();
    for wrong in [id ^ 1, id ^ 0x8000, id.wrapping_add(1), 1] {
        set_word(&mut other, 0, wrong);
        assert_eq!(bench.resolve(&to, &other), []);
    }
    // Wrong question: name, type, class; none at all with an answer; a question that is none.
    for wrong in [
        ask(id, "example.net", 1),
        ask(id, "example.com.evil", 1),
        ask(id, "example.com", 28),
    ] {
        let other = answer(&wrong, 0, [&[a(300, [6, 6, 6, 6])], &[], &[]]);
        assert_eq!(bench.resolve(&to, &other), []);
    }
    let mut other = evil.clone();
    other[5] = 0;
    assert_eq!(bench.resolve(&to, &other), []);
    // A failure without question, but with an address all the same.
    other[3] |= rcode::REFUSED as u8;
    assert_eq!(bench.resolve(&to, &other), []);
    // Not an answer.
    assert_eq!(bench.resolve(&to, &asked), []);
    assert_eq!(bench.count(Counter::Forged), 2 + 4 + 3 + 2 + 1);
    assert_eq!(bench.count(Counter::Stray), 1);
    assert_eq!(bench.relay.active(), (0, 1));
    let sent = bench.resolve(&to, &good);
    assert_eq!(sent[0].1[2..], good[2..]);
    // Too late.
    assert_eq!(bench.resolve(&to, &evil), []);
    let held = bench.answered(OTHER, &question);
    assert_eq!(held[held.len() - 4..], [192, 0, 2, 1]);
}

#[test]
fn a11_an_answer_of_the_resolver_asked_before_is_late() {
    let mut bench = Bench::new();
    let (old, asked) = bench.relayed(CLIENT, &ask(1, "example.com", 1));
    bench.pass(Duration::from_secs(2));
    let (new, _) = bench.poll().remove(0);
    let late = answer(&asked, 0, [&[a(300, [6, 6, 6, 6])], &[], &[]]);
    assert_eq!(bench.resolve(&old, &late), []);
    assert_eq!(bench.wan(FIRST, PORT, new.src_port, &late), []);
    assert!(bench.relay.owns_port(new.src_port) && !bench.relay.owns_port(old.src_port));
}

#[test]
fn a11_an_answer_longer_than_its_client_takes_is_cut() {
    for (question, limit) in [
        (ask(1, "example.com", 16), 512usize),
        (ask_edns(1, "example.com", 700, 0, &[]), 700),
        (ask_edns(1, "example.com", 100, 0, &[]), 512),
        (ask_edns(1, "example.com", 65_535, 0, &[]), 1472),
    ] {
        for extra in [0, 1] {
            let mut bench = Bench::new();
            let (to, asked) = bench.relayed(CLIENT, &question);
            let empty = answer(&asked, 0, [&[record(QNAME, 16, 300, &[])], &[], &[]]).len();
            let data = vec![7; limit - empty + extra];
            let reply = answer(&asked, 0, [&[record(QNAME, 16, 300, &data)], &[], &[]]);
            let sent = bench.resolve(&to, &reply);
            assert_eq!(sent.len(), 1);
            let header = Header::parse(&sent[0].1).unwrap();
            assert_eq!(header.is_truncated(), extra == 1, "{limit}");
            if extra == 1 {
                assert_eq!(header.records, [0; 3]);
                assert_eq!(sent[0].1[12..], *question_bytes(&question));
            } else {
                assert_eq!(sent[0].1[2..], reply[2..]);
            }
        }
    }
    // What the resolver itself cut passes, wherever it ends, and is not kept.
    let mut bench = Bench::new();
    let (to, asked) = bench.relayed(CLIENT, &ask(1, "example.com", 1));
    let mut reply = answer(&asked, 0, [&[a(300, [1, 2, 3, 4])], &[], &[]]);
    reply[2] |= (flags::TRUNCATED >> 8) as u8;
    reply.truncate(reply.len() - 7);
    assert_eq!(bench.resolve(&to, &reply)[0].1[2..], reply[2..]);
    assert_eq!(bench.relay.active(), (0, 0));
}

#[test]
fn a11_loops_of_pointers_pass_and_go_round_nowhere() {
    let mut bench = Bench::new();
    // A record whose name points to itself, and two that point to each other.
    let question = ask(1, "example.com", 1);
    let at = question.len() as u8;
    for names in [[at, at], [at + 16, at], [0xff, 0xff]] {
        let records = names.map(|to| record(&[0xc0, to], 1, 300, &[1, 2, 3, 4]));
        let (to, asked) = bench.relayed(CLIENT, &question);
        let reply = answer(&asked, 0, [&records, &[], &[]]);
        assert_eq!(bench.resolve(&to, &reply)[0].1[2..], reply[2..]);
        bench.answered(CLIENT, &question);
        bench.relay.forget();
    }
    // In a question there is no pointer to be followed.
    let mut looped = header(1, 0x0100, [1, 0, 0, 0]);
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(rcode_of(&bench.answered(CLIENT, &looped)), rcode::FORMAT);
}

#[test]
fn a11_cut_answers_are_dropped_and_another_resolver_is_asked() {
    let mut bench = Bench::new();
    let question = ask(1, "example.com", 1);
    let (to, asked) = bench.relayed(CLIENT, &question);
    let records = [
        a(300, [1, 2, 3, 4]),
        record(b"\x03www\xc0\x0c", 16, 300, &[9; 40]),
    ];
    let reply = answer(&asked, 0, [&records, &[soa(60, 60)], &[opt(1232, 0, &[])]]);
    for len in 0..reply.len() {
        assert_eq!(bench.resolve(&to, &reply[..len]), [], "{len}");
    }
    // Counts that promise more than there is.
    let mut more = reply.clone();
    set_word(&mut more, 6, 0xffff);
    assert_eq!(bench.resolve(&to, &more), []);
    assert_eq!(bench.relay.active(), (0, 1));
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.poll()[0].0.dst, SECOND);
}

#[test]
fn a11_private_addresses_for_public_names_pass() {
    let mut bench = Bench::new();
    for (i, address) in [
        [192, 168, 1, 1],
        [10, 0, 0, 1],
        [127, 0, 0, 1],
        [169, 254, 1, 1],
    ]
    .into_iter()
    .enumerate()
    {
        let question = ask(1, &format!("n{i}.example.com"), 1);
        let reply = bench.fetch(&question, 0, [&[a(300, address)], &[], &[]]);
        assert_eq!(reply, answer(&question, 0, [&[a(300, address)], &[], &[]]));
        assert_eq!(bench.answered(OTHER, &question), reply);
    }
}

#[test]
fn a11_malformed_questions_are_told_so_or_dropped() {
    let mut bench = Bench::new();
    let whole = ask_edns(1, "example.com", 1232, 0, &[0, 10, 0, 2, 1, 2]);
    for len in 0..whole.len() {
        let sent = bench.lan(CLIENT, &whole[..len]);
        if len < 12 {
            assert_eq!(sent, []);
        } else {
            assert_eq!(rcode_of(&sent[0].1), rcode::FORMAT, "{len}");
        }
    }
    let mut two = whole.clone();
    two[5] = 2;
    assert_eq!(rcode_of(&bench.answered(CLIENT, &two)), rcode::FORMAT);
    let long = [63u8; 64].repeat(5);
    let mut endless = header(1, 0x0100, [1, 0, 0, 0]);
    endless.extend(long);
    assert_eq!(rcode_of(&bench.answered(CLIENT, &endless)), rcode::FORMAT);
    // A label of 64, and one longer name than there can be, of which each label is right.
    let labels = |label: &[u8], count: usize| {
        let mut message = header(1, 0x0100, [1, 0, 0, 0]);
        message.extend(label.repeat(count));
        message.extend([0, 0, 1, 0, 1]);
        message
    };
    for (label, count) in [([64; 65].as_slice(), 1), (&[63; 64], 4), (&[1; 2], 127)] {
        let is_wrong = count != 127;
        let sent = bench.lan(CLIENT, &labels(label, count));
        assert_eq!(sent[0].0.port == Port::Lan, is_wrong, "{count}");
    }
    bench.relay.forget();
    // Longer than any question.
    let padded = ask_edns(
        1,
        "example.com",
        1232,
        0,
        &[[0, 12, 1, 0xf4].as_slice(), &[0; 500]].concat(),
    );
    assert_eq!(
        rcode_of(&bench.answered(CLIENT, &padded)),
        rcode::SERVER_FAILURE
    );
    // An answer sent to our service's port starts no talk between relays.
    let reply = answer(&ask(1, "example.com", 1), 0, [&[], &[], &[]]);
    assert_eq!(bench.lan(CLIENT, &reply), []);
    assert_eq!(bench.relay.active(), (0, 0));
}

#[test]
fn a8_ids_and_ports_of_two_boots_differ_and_do_not_count_up() {
    let draw = |seed| {
        let mut bench = Bench::new();
        bench.random = Random::repeatable(seed);
        (0..20u16)
            .map(|i| {
                let (to, asked) = bench.relayed(CLIENT, &ask(i, &format!("n{i}.example"), 1));
                (to.src_port, message::word(&asked, 0).unwrap())
            })
            .collect::<Vec<_>>()
    };
    let (one, two) = (draw(1), draw(2));
    assert!(one.iter().zip(&two).all(|(one, two)| one != two));
    for drawn in [&one, &two] {
        let near = |pair: &[(u16, u16)]| {
            pair[1].1.wrapping_sub(pair[0].1) < 16 || pair[1].0.wrapping_sub(pair[0].0) < 4
        };
        assert!(drawn.windows(2).filter(|pair| near(pair)).count() < 3);
    }
}

#[test]
fn s14_answers_grow_old_over_every_clock_limit() {
    let mut bench = Bench::new();
    let question = ask(1, "example.com", 1);
    for start in [0i64, i64::from(i32::MAX), i64::from(u32::MAX)] {
        for unit in [1, 1000, 1_000_000] {
            bench.relay.forget();
            bench.now = Instant::from_micros(start * unit) - Duration::from_secs(30);
            bench.fetch(&question, 0, [&[a(60, [1, 2, 3, 4])], &[], &[]]);
            bench.pass(Duration::from_secs(59));
            bench.answered(CLIENT, &question);
            bench.pass(Duration::from_secs(1));
            bench.relayed(CLIENT, &question);
        }
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        Just(QNAME.to_vec()),
        Just(name("example.com")),
        Just(a(300, [1, 2, 3, 4])),
        Just(soa(60, 60)),
        Just(opt(1232, 0, &[0, 10, 0, 1, 7])),
        Just(vec![0, 41, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff]),
    ]
}

proptest! {
    #[test]
    fn a11_random_bytes_never_panic(
        head in proptest::collection::vec(any::<u8>(), 12),
        counts in proptest::collection::vec(0u16..4, 4),
        pieces in proptest::collection::vec(piece(), 0..12),
        is_query in any::<bool>(),
        flips in proptest::collection::vec((0usize..400, any::<u8>()), 0..4),
    ) {
        let mut bench = Bench::new();
        let mut message = head;
        if is_query {
            message[2] &= 0x07;
            for (i, count) in counts.iter().enumerate() {
                set_word(&mut message, 4 + 2 * i, *count);
            }
        }
        message.extend(pieces.concat());
        bench.lan(CLIENT, &message);
        // As an answer that comes from the right place with the right number and question.
        let question = ask_edns(1, "example.com", 1232, 0, &[]);
        for sent in bench.lan(OTHER, &question) {
            if sent.0.port != Port::Wan {
                continue;
            }
            let mut reply = answer(&sent.1, 0, [&[], &[], &[]]);
            for (i, count) in counts.iter().skip(1).enumerate() {
                set_word(&mut reply, 6 + 2 * i, *count);
            }
            reply.extend(pieces.concat());
            for (at, value) in &flips {
                if let Some(byte) = reply.get_mut(*at) {
                    *byte = *value;
                }
            }
            bench.resolve(&sent.0, &reply);
            bench.resolve(&sent.0, &message);
            bench.pass(Duration::from_secs(3));
            bench.lan(OTHER, &question);
        }
        for _ in 0..12 {
            bench.pass(Duration::from_secs(2));
            bench.poll();
        }
        prop_assert_eq!(bench.relay.active().1, 0);
    }
}
