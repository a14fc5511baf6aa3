//! Port forwards, hairpinning, redirection, segment sizes, the router's own errors.

use super::*;
use crate::conntrack::Refused;

const SERVER: (Ipv4Address, u16) = (OTHER, 80);
const STRANGER: (Ipv4Address, u16) = (Ipv4Address::new(198, 51, 100, 77), 5000);
const FORWARDED: (Ipv4Address, u16) = (WAN, 8080);

fn with_server() -> Bench {
    let mut bench = Bench::new();
    bench.forward(&[
        (Protocol::Tcp, 8080, OTHER, 80),
        (Protocol::Udp, 8080, OTHER, 80),
    ]);
    bench
}

#[test]
fn a_forwarded_port_leads_to_its_host_which_sees_who_asks() {
    let mut bench = with_server();
    let syn = segment_of(false, STRANGER, FORWARDED, flags::SYN, 100, 0);
    let (port, frame) = bench.one(Port::Wan, syn);
    assert_eq!((port, ends(&frame)), (Port::Lan, [STRANGER, SERVER]));
    assert_eq!(&frame[0..6], &OTHER_MAC.0);
    let answer = segment_of(true, SERVER, STRANGER, flags::SYN | flags::ACK, 900, 101);
    let (port, frame) = bench.one(Port::Lan, answer);
    assert_eq!((port, ends(&frame)), (Port::Wan, [FORWARDED, STRANGER]));
    let (_, frame) = bench.one(
        Port::Wan,
        segment_of(false, STRANGER, FORWARDED, flags::ACK, 101, 901),
    );
    assert_eq!(ends(&frame), [STRANGER, SERVER]);
    bench.nothing(
        Port::Wan,
        segment_of(false, STRANGER, FORWARDED, flags::ACK, 900_000, 901),
    );
    assert_eq!(
        bench.router.counts.get(Counter::Invalid),
        1,
        "its connection is tracked"
    );
    let udp_question = udp(false, STRANGER, FORWARDED, b"?");
    assert_eq!(
        ends(&bench.one(Port::Wan, udp_question).1),
        [STRANGER, SERVER]
    );
    bench.router.conntrack.check();
}

#[test]
fn a_connection_to_a_forwarded_port_begins_with_a_syn() {
    let mut bench = with_server();
    for bits in [
        flags::ACK,
        flags::SYN | flags::ACK,
        flags::RST,
        flags::FIN | flags::ACK,
    ] {
        bench.nothing(
            Port::Wan,
            segment_of(false, STRANGER, FORWARDED, bits, 100, 1),
        );
    }
    bench.nothing(
        Port::Wan,
        segment_of(false, STRANGER, (WAN, 8081), flags::SYN, 100, 0),
    );
    let mut corrupt = segment_of(false, STRANGER, FORWARDED, flags::SYN, 100, 0);
    corrupt[50] ^= 1;
    bench.nothing(Port::Wan, corrupt);
    assert!(bench.router.conntrack.is_empty());
}

#[test]
fn the_host_behind_a_forward_speaks_from_that_port_too() {
    let mut bench = with_server();
    let out = bench.pass(Port::Lan, udp(true, SERVER, STRANGER, b"!"));
    assert_eq!(ends(&out), [FORWARDED, STRANGER]);
    // Who had the port of ours by chance when it was forwarded has it no more.
    let mut bench = Bench::new();
    let mine = bench.pass(Port::Lan, udp(true, (CLIENT, 8080), STRANGER, b"!"));
    assert_eq!(ends(&mine)[0], FORWARDED);
    bench.forward(&[(Protocol::Udp, 8080, OTHER, 80)]);
    assert!(bench.router.conntrack.is_empty());
    let mine = bench.pass(Port::Lan, udp(true, (CLIENT, 8080), STRANGER, b"!"));
    assert_ne!(ends(&mine)[0], FORWARDED);
    bench.router.conntrack.check();
}

#[test]
fn what_came_in_by_a_forward_ends_with_it_and_with_no_other() {
    let mut bench = with_server();
    bench.one(
        Port::Wan,
        segment_of(false, STRANGER, FORWARDED, flags::SYN, 100, 0),
    );
    bench.one(Port::Wan, udp(false, STRANGER, FORWARDED, b"?"));
    bench.connect();
    bench.forward(&[(Protocol::Tcp, 8080, OTHER, 80)]);
    assert_eq!(
        bench.router.conntrack.len(),
        2,
        "the datagrams' forward is gone, and they with it"
    );
    bench.router.conntrack.check();
    bench.forward(&[]);
    assert_eq!(
        bench.router.conntrack.len(),
        1,
        "what the client opened goes on"
    );
    bench.nothing(
        Port::Wan,
        segment_of(false, STRANGER, FORWARDED, flags::SYN, 100, 0),
    );
    bench.router.conntrack.check();
}

#[test]
fn settings_open_and_close_ports() {
    let mut bench = Bench::new();
    let mut settings = bench.router.settings;
    for (key, value) in [
        ("wan.address", "203.0.113.2/26"),
        ("wan.gateway", "203.0.113.1"),
        ("nat.forwards", "tcp:8080=192.168.1.20:80"),
    ] {
        settings.set(key, value).unwrap();
    }
    bench.router.apply_settings(&settings);
    bench.introduce();
    let syn = segment_of(false, STRANGER, FORWARDED, flags::SYN, 100, 0);
    assert_eq!(
        ends(&bench.one(Port::Wan, syn.clone()).1),
        [STRANGER, SERVER]
    );
    settings.set("nat.forwards", "none").unwrap();
    bench.router.apply_settings(&settings);
    bench.nothing(Port::Wan, syn);
}

#[test]
fn a_lan_host_reaches_a_forwarded_port_by_our_address() {
    let mut bench = with_server();
    let client = (CLIENT, 40_000);
    let (port, frame) = bench.one(
        Port::Lan,
        segment_of(true, client, FORWARDED, flags::SYN, 100, 0),
    );
    assert_eq!((port, ends(&frame)), (Port::Lan, [(WAN, 40_000), SERVER]));
    assert_eq!(
        (&frame[0..6], &frame[6..12], frame[22]),
        (&OTHER_MAC.0[..], &LAN_MAC.0[..], 63)
    );
    let answer = segment_of(
        true,
        SERVER,
        (WAN, 40_000),
        flags::SYN | flags::ACK,
        900,
        101,
    );
    let (port, frame) = bench.one(Port::Lan, answer);
    assert_eq!((port, ends(&frame)), (Port::Lan, [FORWARDED, client]));
    bench.one(
        Port::Lan,
        segment_of(true, client, FORWARDED, flags::ACK, 101, 901),
    );
    assert_eq!(bench.router.conntrack.len(), 2);
    assert_eq!(bench.router.counts.get(Counter::Hairpinned), 3);
    bench.nothing(
        Port::Lan,
        segment_of(true, client, FORWARDED, flags::RST, 777_777, 0),
    );
    bench.one(
        Port::Lan,
        segment_of(true, client, FORWARDED, flags::RST, 101, 0),
    );
    bench.router.conntrack.check();
}

#[test]
fn a_port_of_ours_that_leads_nowhere_is_refused_to_the_lan_and_silent_to_the_wan() {
    let mut bench = Bench::new();
    for to in [WAN, ROUTER] {
        let (port, reset) = bench.one(
            Port::Lan,
            segment_of(true, (CLIENT, 40_000), (to, 81), flags::SYN, 100, 0),
        );
        let header = *packet(&reset).tcp().unwrap();
        assert_eq!(
            (port, ends(&reset)),
            (Port::Lan, [(to, 81), (CLIENT, 40_000)])
        );
        assert_eq!((header.flags, header.ack), (flags::RST | flags::ACK, 101));
        let (_, error) = bench.one(Port::Lan, udp(true, (CLIENT, 40_000), (to, 81), b"?"));
        assert_eq!((packet(&error).dst, error[34], error[35]), (CLIENT, 3, 3));
    }
    bench.nothing(
        Port::Wan,
        segment_of(false, STRANGER, (WAN, 81), flags::SYN, 100, 0),
    );
    bench.nothing(Port::Wan, udp(false, STRANGER, (WAN, 81), b"?"));
    // Nor is there an answer from where the router's own sockets are.
    for control in [flags::SYN, flags::ACK, flags::FIN, flags::SYN | flags::ACK] {
        for port in [61_000, 65_535] {
            bench.nothing(
                Port::Wan,
                segment_of(false, STRANGER, (WAN, port), control, 100, 1),
            );
        }
    }
    bench.nothing(Port::Wan, icmp(false, STRANGER.0, WAN, 8, 0, [0; 4], b""));
    // Our own address on the line answers a ping of the LAN.
    let (port, answer) = bench.one(
        Port::Lan,
        icmp(true, CLIENT, WAN, 8, 0, [0, 1, 0, 2], b"ping"),
    );
    assert_eq!((port, packet(&answer).src, answer[34]), (Port::Lan, WAN, 0));
}

#[test]
fn a_redirected_flow_shows_the_client_whom_it_asked_and_the_far_end_who_asks() {
    let mut bench = Bench::new();
    let (client, asked, resolver) = ((CLIENT, 40_000), (ROUTER, 53), (ORIGIN, 53));
    let redirect = |bench: &mut Bench, mut frame: Vec<u8>| {
        let packet = packet(&frame);
        let verdict = bench.router.forward_redirected(
            bench.now,
            &packet,
            resolver,
            &mut frame,
            &mut bench.out,
        );
        assert_eq!(verdict, Verdict::Forward(Port::Wan));
        assert!(checksums_hold(&frame));
        frame
    };
    let syn = redirect(
        &mut bench,
        segment_of(true, client, asked, flags::SYN, 100, 0),
    );
    assert_eq!(ends(&syn), [(WAN, 40_000), resolver]);
    let answer = segment_of(
        false,
        resolver,
        (WAN, 40_000),
        flags::SYN | flags::ACK,
        900,
        101,
    );
    assert_eq!(ends(&bench.pass(Port::Wan, answer)), [asked, client]);
    let ack = redirect(
        &mut bench,
        tcp(
            [CLIENT_MAC, LAN_MAC],
            [client, asked],
            flags::ACK,
            101,
            901,
            &[],
            b"question",
        ),
    );
    assert_eq!(ends(&ack), [(WAN, 40_000), resolver]);
    // An error about it is told in the client's words, too.
    let error = bench.pass(Port::Wan, error_about(&ack, 3, 1, 0, 28));
    assert_eq!(
        &error[42 + 12..42 + 24],
        &[
            &CLIENT.octets()[..],
            &ROUTER.octets(),
            &40_000u16.to_be_bytes(),
            &53u16.to_be_bytes()
        ]
        .concat()[..]
    );
    let from_resolver = {
        let mut frame = error_about(&ack, 3, 3, 0, 28);
        frame[26..30].copy_from_slice(&ORIGIN.octets());
        fix_ip(frame)
    };
    assert_eq!(packet(&bench.pass(Port::Wan, from_resolver)).src, ROUTER);
    bench.router.conntrack.check();
    // The same far end by its own name would be the same flow to it.
    let direct = crate::conntrack::FlowKey {
        client: CLIENT,
        remote: ORIGIN,
        client_port: 40_000,
        remote_port: 53,
        protocol: Protocol::Tcp,
    };
    let state = crate::conntrack::Tcp::NONE;
    assert_eq!(
        bench.router.conntrack.open(bench.now, direct, Some(state)),
        Err(Refused::Port)
    );
    bench.router.conntrack.check();
}

#[test]
fn segment_sizes_are_lowered_to_the_line_both_ways() {
    let mut bench = Bench::new();
    bench.router.wan_mtu = 1400;
    let mss = OptionsBuf::new().mss(1460);
    let of = |frame: &[u8]| Summary::of(packet(frame).tcp_options(frame)).mss;
    let out = bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, mss.as_bytes(), b""));
    assert_eq!(of(&out), Some(1360));
    let back = bench.pass(
        Port::Wan,
        tcp_in(flags::SYN | flags::ACK, 5000, 1001, mss.as_bytes(), b""),
    );
    assert_eq!(of(&back), Some(1360));
    let entry = bench.entry();
    assert_eq!(
        (entry.tcp.client.mss, entry.tcp.origin.mss),
        (Some(1360), Some(1360)),
        "what the router itself keeps to"
    );
    let mut bench = Bench::new();
    let out = bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, mss.as_bytes(), b""));
    assert_eq!(of(&out), Some(1460), "an ordinary line takes it as it is");
}

#[test]
fn a_line_that_is_down_is_told_at_once() {
    let mut bench = Bench::new();
    for (cidr, reason) in [
        (Some(Ipv4Cidr::new(WAN, 26)), Counter::NoRoute),
        (None, Counter::Unconfigured),
    ] {
        let mac = WAN_MAC;
        bench.router.set_address(
            Port::Wan,
            PortAddress {
                mac,
                cidr,
                gateway: None,
            },
        );
        let (port, error) = bench.one(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
        assert_eq!((port, error[34], error[35]), (Port::Lan, 3, 0));
        assert_eq!(bench.router.counts.get(reason), 1);
    }
}

#[test]
fn s5_a_packet_of_a_flow_from_before_the_start_is_refused_and_never_read_as_a_request() {
    let mut bench = Bench::new();
    let request = b"GET /film.mp4 HTTP/1.1\r\nHost: origin.example\r\n\r\n";
    let frame = tcp_out(flags::ACK | flags::PSH, 7_000, 9_000, &[], request);
    let (port, reset) = bench.one(Port::Lan, frame);
    let header = *packet(&reset).tcp().unwrap();
    assert_eq!((port, header.flags & flags::RST), (Port::Lan, flags::RST));
    assert_eq!(bench.router.conntrack.len(), 0);
    assert_eq!(bench.router.accelerator.exchanges.active(), 0);
}
