//! A connection from one request that is left alone to the next.

use super::*;
use crate::console::{Host, Table};
use crate::exchange::{Counter as Seen, Said, Verdict as Word};

const GET: &[u8] = b"GET /film.mp4 HTTP/1.1\r\nHost: o.example\r\nRange: bytes=0-9,20-29\r\n\r\n";
const HEAD: &[u8] = b"HEAD /film.mp4 HTTP/1.1\r\nHost: o.example\r\n\r\n";
const REPLY: &[u8] = b"HTTP/1.1 206 Part\r\nContent-Length: 10\r\n\r\n0123456789";
const DATA: u8 = flags::ACK | flags::PSH;

/// A connection of which both ends' next numbers are known.
struct Followed {
    bench: Bench,
    client: u32,
    origin: u32,
}

impl Followed {
    /// `shift`: scale of the client's windows, if both ends scale.
    fn with_scale(shift: Option<u8>) -> Self {
        let mut bench = Bench::new();
        let scale = |shift: u8| [1, 3, 3, shift];
        let (mine, theirs) = (shift.map(scale), shift.map(|_| scale(4)));
        let options = |given: &Option<[u8; 4]>| given.map_or(Vec::new(), |given| given.to_vec());
        let syn = tcp_out(flags::SYN, 1000, 0, &options(&mine), b"");
        bench.pass(Port::Lan, syn);
        let syn = flags::SYN | flags::ACK;
        bench.pass(Port::Wan, tcp_in(syn, 5000, 1001, &options(&theirs), b""));
        bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], b""));
        Self {
            bench,
            client: 1001,
            origin: 5001,
        }
    }

    fn new() -> Self {
        Self::with_scale(None)
    }

    /// The client sends; gives the window that the origin is told.
    fn say(&mut self, payload: &[u8]) -> u16 {
        let frame = tcp_out(DATA, self.client, self.origin, &[], payload);
        self.client = self.client.wrapping_add(payload.len() as u32);
        let sent = self.bench.pass(Port::Lan, frame);
        packet(&sent).tcp().unwrap().window
    }

    /// The client acknowledges all; gives the window that the origin is told.
    fn acknowledge(&mut self) -> u16 {
        let frame = tcp_out(flags::ACK, self.client, self.origin, &[], b"");
        let sent = self.bench.pass(Port::Lan, frame);
        packet(&sent).tcp().unwrap().window
    }

    fn answer(&mut self, payload: &[u8]) {
        let frame = tcp_in(DATA, self.origin, self.client, &[], payload);
        self.origin = self.origin.wrapping_add(payload.len() as u32);
        self.bench.pass(Port::Wan, frame);
    }

    fn stage(&mut self) -> Stage {
        self.bench.entry().tcp.stage
    }

    fn seen(&self) -> u64 {
        let exchanges = &self.bench.router.accelerator.exchanges;
        exchanges.counts().get(Seen::Seen)
    }

    fn said(&self, said: Said) -> u64 {
        let exchanges = &self.bench.router.accelerator.exchanges;
        exchanges.verdicts().counts().get(said)
    }
}

#[test]
fn every_request_of_a_connection_is_looked_at_and_has_one_verdict() {
    let mut flow = Followed::new();
    for turn in 1..=5 {
        flow.say(GET);
        assert_eq!(flow.stage(), Stage::Asked);
        flow.answer(REPLY);
        assert_eq!(flow.stage(), Stage::Answered);
        flow.acknowledge();
        assert_eq!((flow.seen(), flow.said(Said::Declined)), (turn, turn));
    }
    // The reply to HEAD has no body, whatever length it tells; a body may come in pieces.
    flow.say(HEAD);
    flow.answer(&REPLY[..REPLY.len() - 10]);
    flow.say(GET);
    flow.answer(&REPLY[..REPLY.len() - 7]);
    flow.acknowledge();
    flow.answer(&REPLY[REPLY.len() - 7..]);
    flow.say(b"GET /page.html HTTP/1.1\r\nHost: o.example\r\n\r\n");
    flow.answer(b"HTTP/1.1 304 Not\r\nContent-Length: 10\r\n\r\n");
    flow.say(GET);
    assert_eq!((flow.seen(), flow.said(Said::Declined)), (9, 9));
    let expected = Word::Declined(crate::exchange::Why::Plain(crate::classify::Reason::Range));
    assert_eq!(flow.bench.entry().tcp.verdict, expected);
}

#[test]
fn q4_q6_what_is_not_a_whole_request_in_its_place_ends_the_following() {
    type Do = fn(&mut Followed);
    const CASES: [(&str, Do); 12] = [
        ("a second request before the reply", |flow| {
            flow.say(GET);
            flow.say(GET);
        }),
        ("a second request within the reply", |flow| {
            flow.say(GET);
            flow.answer(&REPLY[..REPLY.len() - 1]);
            flow.say(GET);
        }),
        ("two requests in one segment", |flow| {
            flow.say(&[GET, GET].concat());
        }),
        ("a request in two segments", |flow| {
            flow.say(&GET[..40]);
            flow.say(&GET[40..]);
        }),
        ("a request behind a gap", |flow| {
            flow.say(GET);
            flow.answer(REPLY);
            flow.client += 3;
            flow.say(GET);
        }),
        ("more than the reply told", |flow| {
            flow.say(GET);
            flow.answer(REPLY);
            flow.answer(b"x");
            flow.say(GET);
        }),
        ("more than the reply told, not yet acknowledged", |flow| {
            flow.say(GET);
            flow.answer(REPLY);
            flow.answer(b"x");
            flow.origin -= 1;
            flow.say(GET);
        }),
        ("more than the reply told in its first segment", |flow| {
            flow.say(GET);
            flow.answer(&[REPLY, b"x"].concat());
        }),
        ("a request with a body", |flow| {
            flow.say(b"POST /a HTTP/1.1\r\nHost: o.example\r\nContent-Length: 1\r\n\r\nx");
        }),
        ("a reply in chunks", |flow| {
            flow.say(GET);
            flow.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        }),
        ("a reply whose head is in two segments", |flow| {
            flow.say(GET);
            flow.answer(&REPLY[..30]);
        }),
        ("the request again with other bytes", |flow| {
            flow.say(GET);
            flow.client -= GET.len() as u32;
            let mut other = GET.to_vec();
            other[5] = b'F';
            flow.say(&other);
        }),
    ];
    for (what, act) in CASES {
        let mut flow = Followed::new();
        act(&mut flow);
        assert_eq!(flow.stage(), Stage::Plain, "{what}");
        // Nothing is looked at any more, and everything passes.
        let seen = flow.seen();
        assert_eq!(seen, flow.said(Said::Declined), "{what}");
        flow.answer(REPLY);
        flow.say(GET);
        flow.answer(REPLY);
        assert_eq!((flow.seen(), flow.stage()), (seen, Stage::Plain), "{what}");
    }
}

#[test]
fn t20_what_comes_again_changes_nothing() {
    let mut flow = Followed::new();
    let again = |flow: &mut Followed| {
        flow.client -= GET.len() as u32;
        flow.say(GET);
    };
    flow.say(GET);
    again(&mut flow);
    assert_eq!(flow.stage(), Stage::Asked);
    flow.answer(REPLY);
    again(&mut flow);
    flow.origin -= REPLY.len() as u32;
    flow.answer(REPLY);
    // A keep-alive probe with its one byte.
    flow.client -= 1;
    flow.say(b"x");
    assert_eq!(flow.stage(), Stage::Answered);
    flow.say(GET);
    assert_eq!((flow.stage(), flow.seen()), (Stage::Asked, 2));
    // The last reply once more, while the next is awaited.
    flow.origin -= REPLY.len() as u32;
    flow.answer(REPLY);
    assert_eq!(flow.stage(), Stage::Asked);
}

#[test]
fn a_reply_out_of_order_ends_the_following_and_reaches_the_client() {
    let mut flow = Followed::new();
    flow.say(GET);
    flow.origin += 5;
    flow.answer(&REPLY[5..]);
    assert_eq!(flow.stage(), Stage::Plain);
    assert_eq!(flow.said(Said::LostTrack), 1);
}

#[test]
fn the_origin_learns_a_window_that_ends_64_kib_behind_the_reply_and_never_a_narrower_one_within() {
    let mut flow = Followed::with_scale(Some(7));
    // 50,000 units of 128 bytes are the client's own word.
    let handshake = u16::MAX >> 7;
    assert_eq!(flow.say(GET), handshake);
    assert_eq!(flow.acknowledge(), handshake);
    flow.answer(REPLY);
    assert_eq!(flow.acknowledge(), handshake);
    assert_eq!(flow.say(GET), handshake);
    // A long reply is not slowed: the whole window, as soon as its length is known.
    flow.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n");
    assert_eq!(flow.acknowledge(), 50_000);
    // What cannot be followed gets all of it, too.
    let mut flow = Followed::with_scale(Some(7));
    flow.say(GET);
    flow.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(flow.acknowledge(), 50_000);
}

#[test]
fn a_probe_of_its_own_follows_nothing() {
    let mut flow = Followed::new();
    let mut settings = flow.bench.router.settings;
    settings.accel.probe = crate::settings::Probe::Head;
    flow.bench.router.settings = settings;
    flow.say(GET);
    assert_eq!(flow.stage(), Stage::Plain);
    // Nor goes on with one that was followed until the setting changed.
    let mut flow = Followed::new();
    flow.say(GET);
    flow.answer(REPLY);
    flow.bench.router.settings = settings;
    flow.say(GET);
    assert_eq!((flow.stage(), flow.seen()), (Stage::Plain, 1));
}

#[test]
fn the_console_tells_what_became_of_each_connection() {
    let row = |flow: &Followed, kv| {
        let mut text = String::new();
        let host: &dyn Host = &flow.bench.router;
        host.write_row(Table::Flows, kv, 0, &mut text).unwrap();
        text
    };
    let mut flow = Followed::new();
    assert!(row(&flow, true).ends_with(" no-request\n"));
    flow.say(GET);
    assert!(row(&flow, true).ends_with(" established 0 range\n"));
    let line = row(&flow, false);
    assert!(line.contains(" range ") && line.len() <= 80, "{line:?}");
    flow.say(GET);
    assert!(row(&flow, true).ends_with(" lost-track\n"));
    // A connection that ends without a request is counted, too.
    let mut flow = Followed::new();
    let key = *flow.bench.entry().key();
    let table = &mut flow.bench.router.conntrack;
    let id = table.find(&key).unwrap();
    table.remove(id);
    let counter = crate::conntrack::Counter::EndedUnasked;
    assert_eq!(table.counts.get(counter), 1);
}
