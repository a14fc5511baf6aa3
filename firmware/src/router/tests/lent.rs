//! What leaves by the WAN for a neighbour that borrows it packet by packet, and what does not.

use super::*;
use crate::budget::{
    LENT_FLOWS_MAX, LENT_OPENS_PER_SECOND_MAX, LENT_OPENS_SPAN, LENT_TIMEOUT, TCP_RESET_TIMEOUT,
};

const PEER: Ipv4Address = Ipv4Address::new(10, 77, 0, 2);
const SECOND_PEER: Ipv4Address = Ipv4Address::new(10, 77, 0, 3);
const STRANGER: Ipv4Address = Ipv4Address::new(10, 77, 0, 9);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 9, 5]);

fn set(bench: &mut Bench, key: &str, value: &str) {
    let mut settings = bench.router.settings;
    settings.set(key, value).unwrap();
    // `apply_settings` would take the addresses from the settings.
    bench.router.settings = settings;
    bench.router.apply_lent();
}

/// A router that lends to two neighbours.
fn lender() -> Bench {
    let mut bench = Bench::new();
    set(&mut bench, "peers", "10.77.0.2,10.77.0.3");
    set(&mut bench, "lend.nat", "on");
    for peer in [PEER, SECOND_PEER, STRANGER] {
        bench.arp_request(Port::Air, PEER_MAC, peer, AIR);
    }
    bench.out.take();
    bench
}

fn from_air(
    src: (Ipv4Address, u16),
    dst: (Ipv4Address, u16),
    bits: u8,
    seq: u32,
    ack: u32,
    payload: &[u8],
) -> Vec<u8> {
    // Tests give every port the MAC address of the LAN in settings, but the board's stay.
    tcp(
        [PEER_MAC, AIR_MAC],
        [src, dst],
        bits,
        seq,
        ack,
        &[2, 4, 5, 0xB4],
        payload,
    )
}

fn syn_to(dst: (Ipv4Address, u16)) -> Vec<u8> {
    from_air((PEER, 61_000), dst, flags::SYN, 1000, 0, b"")
}

/// An open connection of the neighbour to the origin; the port of ours it has.
fn open(bench: &mut Bench) -> u16 {
    let (port, out) = bench.one(Port::Air, syn_to((ORIGIN, 80)));
    assert_eq!(port, Port::Wan);
    let [src, dst] = ends(&out);
    assert_eq!((src.0, dst), (WAN, (ORIGIN, 80)));
    let answer = tcp(
        [GATEWAY_MAC, WAN_MAC],
        [dst, src],
        flags::SYN | flags::ACK,
        5000,
        1001,
        &[],
        b"",
    );
    let (port, back) = bench.one(Port::Wan, answer);
    assert_eq!(
        (port, ends(&back)),
        (Port::Air, [(ORIGIN, 80), (PEER, 61_000)])
    );
    assert_eq!(&back[0..6], &PEER_MAC.0);
    let ack = from_air((PEER, 61_000), dst, flags::ACK, 1001, 5001, b"");
    assert_eq!(bench.one(Port::Air, ack).0, Port::Wan);
    src.1
}

fn data_in(port: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let ends = [(ORIGIN, 80), (WAN, port)];
    tcp(
        [GATEWAY_MAC, WAN_MAC],
        ends,
        flags::ACK,
        seq,
        1001,
        &[],
        payload,
    )
}

#[test]
fn m12_a_listed_neighbours_connection_leaves_by_the_line_and_comes_back_to_it_alone() {
    let mut bench = lender();
    let port = open(&mut bench);
    assert!(port < LOCAL_PORT_FIRST, "{port} is the router's own");
    let (to, back) = bench.one(Port::Wan, data_in(port, 5001, &[b'x'; 1460]));
    assert_eq!((to, ends(&back)[1]), (Port::Air, (PEER, 61_000)));
    let counts = &bench.router.counts;
    assert_eq!(
        [Counter::LentOut, Counter::LentIn].map(|counter| counts.get(counter)),
        [2, 2]
    );
    assert_eq!(counts.get(Counter::ForwardedOut), 0);
    // It is never read as a request: what looks like one goes on as it is.
    let get = b"GET /film.mp4 HTTP/1.1\r\nHost: a\r\n\r\n";
    let frame = from_air((PEER, 61_000), (ORIGIN, 80), flags::ACK, 1001, 6461, get);
    let (to, out) = bench.one(Port::Air, frame);
    assert_eq!((to, packet(&out).payload(&out)), (Port::Wan, &get[..]));
    assert_eq!(bench.router.accelerator.exchanges.active(), 0);
    bench.router.conntrack.check();
}

#[test]
fn m12_nothing_is_lent_unless_the_owner_says_so() {
    let mut bench = lender();
    assert!(!Settings::new().lend_nat);
    set(&mut bench, "lend.nat", "off");
    bench.nothing(Port::Air, syn_to((ORIGIN, 80)));
    assert_eq!(bench.router.counts.get(Counter::Destination), 1);
}

#[test]
fn m12_any_other_source_reaches_nothing() {
    let mut bench = lender();
    // A station that is no neighbour, a host of the LAN, of the WAN, the router itself, an origin.
    for (src, reason) in [
        (STRANGER, Counter::Destination),
        (CLIENT, Counter::Source),
        (GATEWAY, Counter::Source),
        (AIR, Counter::Source),
        (WAN, Counter::Source),
        (Ipv4Address::new(198, 51, 100, 77), Counter::Source),
        (Ipv4Address::new(10, 77, 0, 255), Counter::Source),
    ] {
        let frame = from_air((src, 61_000), (ORIGIN, 80), flags::SYN, 1, 0, b"");
        bench.dropped(Port::Air, frame, reason);
        assert_eq!(bench.out.take(), [], "{src}");
    }
    assert!(bench.router.conntrack.is_empty());
}

#[test]
fn m12_udp_icmp_other_protocols_and_fragments_reach_nothing() {
    let mut bench = lender();
    open(&mut bench);
    let to_air = |mut frame: Vec<u8>| {
        frame[0..6].copy_from_slice(&AIR_MAC.0);
        frame[6..12].copy_from_slice(&PEER_MAC.0);
        frame
    };
    let fragment = |more: u8, offset: u8| {
        let mut frame = from_air(
            (PEER, 61_000),
            (ORIGIN, 80),
            flags::ACK,
            1001,
            5001,
            &[1; 80],
        );
        frame[20..22].copy_from_slice(&[more, offset]);
        fix_ip(frame)
    };
    let echo = icmp(true, PEER, ORIGIN, 8, 0, [0, 1, 0, 1], b"ping");
    let unreachable = icmp(
        true,
        PEER,
        ORIGIN,
        3,
        1,
        [0; 4],
        &data_in(61_000, 5001, b"")[14..],
    );
    let mut other = echo.clone();
    other[23] = 47;
    for (frame, reason) in [
        (
            udp(true, (PEER, 61_000), (ORIGIN, 80), b"x"),
            Counter::Protocol,
        ),
        (
            udp(true, (PEER, 61_000), (ORIGIN, 53), b"x"),
            Counter::Protocol,
        ),
        (echo, Counter::Protocol),
        (unreachable, Counter::Protocol),
        (fix_ip(other), Counter::Protocol),
        (fragment(0x20, 0), Counter::Fragment),
        (fragment(0x20, 9), Counter::Fragment),
        (fragment(0, 9), Counter::Fragment),
    ] {
        bench.dropped(Port::Air, to_air(frame), reason);
        assert_eq!(bench.out.take(), []);
    }
    assert_eq!(bench.router.conntrack.len(), 1);
}

#[test]
fn m10_each_refused_range_is_refused_by_nat_at_its_first_and_last_address() {
    let mut bench = lender();
    for (first, last) in [
        ([0, 0, 0, 0], [0, 255, 255, 255]),
        ([10, 0, 0, 0], [10, 255, 255, 255]),
        ([100, 64, 0, 0], [100, 127, 255, 255]),
        ([127, 0, 0, 0], [127, 255, 255, 255]),
        ([169, 254, 0, 0], [169, 254, 255, 255]),
        ([172, 16, 0, 0], [172, 31, 255, 255]),
        ([192, 0, 0, 0], [192, 0, 0, 255]),
        ([192, 168, 0, 0], [192, 168, 255, 255]),
        ([198, 18, 0, 0], [198, 19, 255, 255]),
        ([224, 0, 0, 0], [239, 255, 255, 255]),
        ([240, 0, 0, 0], [255, 255, 255, 255]),
        // The nets of its own WAN, LAN and air, and its own addresses there.
        ([203, 0, 113, 0], [203, 0, 113, 63]),
        (WAN.octets(), GATEWAY.octets()),
        (ROUTER.octets(), CLIENT.octets()),
        (PEER.octets(), SECOND_PEER.octets()),
    ] {
        for address in [first, last] {
            let frame = syn_to((Ipv4Address::from(address), 80));
            bench.dropped(Port::Air, frame, Counter::LentAddress);
            assert_eq!(bench.out.take(), [], "{address:?}");
        }
    }
    // Just beside them somebody may be.
    for address in [[172, 32, 0, 0], [203, 0, 113, 64], [198, 51, 100, 10]] {
        let out = bench.one(Port::Air, syn_to((Ipv4Address::from(address), 80)));
        assert_eq!(out.0, Port::Wan, "{address:?}");
    }
}

#[test]
fn m10_only_allowed_ports_are_lent_by_nat() {
    let mut bench = lender();
    for port in [0, 22, 25, 53, 443, 445, 4377, 8080] {
        // Port 0 is refused as no packet's.
        let mut frame = syn_to((ORIGIN, port));
        assert_eq!(bench.feed(Port::Air, &mut frame), Verdict::Drop, "{port}");
        assert_eq!(bench.out.take(), []);
    }
    assert!(bench.router.conntrack.is_empty());
}

#[test]
fn m12_only_a_syn_opens_a_flow() {
    let mut bench = lender();
    for bits in [
        flags::ACK,
        flags::ACK | flags::PSH,
        flags::SYN | flags::ACK,
        flags::RST,
        flags::FIN | flags::ACK,
        flags::SYN | flags::FIN,
        0,
    ] {
        let frame = from_air((PEER, 61_000), (ORIGIN, 80), bits, 1000, 7, b"x");
        bench.dropped(Port::Air, frame, Counter::NoFlow);
        // In silence: a reset would go to the air.
        assert_eq!(bench.out.take(), [], "{bits:#x}");
    }
    // Nor may the second neighbour speak in the first one's connection.
    open(&mut bench);
    let frame = from_air(
        (SECOND_PEER, 61_000),
        (ORIGIN, 80),
        flags::ACK,
        1001,
        5001,
        b"x",
    );
    bench.dropped(Port::Air, frame, Counter::NoFlow);
    let mut expired = syn_to((Ipv4Address::new(198, 51, 100, 11), 80));
    expired[22] = 1;
    bench.dropped(Port::Air, fix_ip(expired), Counter::Expired);
    assert_eq!(bench.router.conntrack.len(), 1);
}

#[test]
fn m12_nobody_outside_and_no_lan_host_reaches_a_neighbour_by_its_port() {
    let mut bench = lender();
    let port = open(&mut bench);
    // The very origin, from another of its ports, and a stranger.
    for src in [(ORIGIN, 81), (Ipv4Address::new(198, 51, 100, 77), 80)] {
        let syn = segment_of(false, src, (WAN, port), flags::SYN, 1, 0);
        bench.nothing(Port::Wan, syn);
    }
    // A LAN host by our own address is told that there is nothing; the air stays silent.
    let syn = segment_of(true, (CLIENT, 40_000), (WAN, port), flags::SYN, 1, 0);
    let left = bench.run(Port::Lan, syn);
    assert!(left.iter().all(|(to, _)| *to == Port::Lan), "{left:?}");
    // And a LAN host with the neighbour's address is none of ours.
    let spoofed = segment_of(true, (PEER, 61_000), (ORIGIN, 80), flags::ACK, 1001, 5001);
    bench.dropped(Port::Lan, spoofed, Counter::Source);
    assert_eq!(bench.router.conntrack.len(), 1);
}

#[test]
fn m12_errors_and_fragments_of_origins_do_not_reach_the_air() {
    let mut bench = lender();
    let port = open(&mut bench);
    let get = from_air(
        (PEER, 61_000),
        (ORIGIN, 80),
        flags::ACK,
        1001,
        5001,
        b"GET / HTTP/1.1\r\n",
    );
    let (_, out) = bench.one(Port::Air, get);
    let error = icmp(false, GATEWAY, WAN, 3, 4, [0, 0, 2, 0x58], &out[14..42]);
    bench.dropped(Port::Wan, error, Counter::IcmpIgnored);
    let mut piece = data_in(port, 5001, &[b'x'; 80]);
    piece[20] = 0x20;
    bench.dropped(Port::Wan, fix_ip(piece), Counter::Fragment);
    assert_eq!(bench.out.take(), []);
}

#[test]
fn m12_a_neighbour_opens_so_many_in_a_second_and_has_so_many_at_once() {
    let mut bench = lender();
    let syn = |peer, number: usize| {
        let src = (peer, 20_000 + number as u16);
        from_air(src, (ORIGIN, 80), flags::SYN, 1000, 0, b"")
    };
    let mut opened = 0;
    for number in 0..100 {
        opened += bench.run(Port::Air, syn(PEER, number)).len();
    }
    assert_eq!(opened, usize::from(LENT_OPENS_PER_SECOND_MAX));
    assert!(bench.router.counts.get(Counter::LentRate) > 0);
    // The other neighbour has its own rate.
    assert_eq!(bench.run(Port::Air, syn(SECOND_PEER, 0)).len(), 1);
    let answered = |bench: &mut Bench, number: usize| {
        let left = bench.run(Port::Air, syn(PEER, number));
        let Some((_, out)) = left.first() else {
            return false;
        };
        let [src, dst] = ends(out);
        let bits = flags::SYN | flags::ACK;
        let answer = tcp(
            [GATEWAY_MAC, WAN_MAC],
            [dst, src],
            bits,
            5000,
            1001,
            &[],
            b"",
        );
        assert_eq!(bench.one(Port::Wan, answer).0, Port::Air);
        let src = (PEER, 20_000 + number as u16);
        let ack = from_air(src, (ORIGIN, 80), flags::ACK, 1001, 5001, b"");
        assert_eq!(bench.one(Port::Air, ack).0, Port::Wan);
        true
    };
    let mut established = 0;
    for number in 200..200 + 4 * LENT_FLOWS_MAX {
        bench.now += LENT_OPENS_SPAN;
        established += usize::from(answered(&mut bench, number));
    }
    assert_eq!(established, LENT_FLOWS_MAX);
    assert!(bench.router.counts.get(Counter::FlowRefused) > 0);
    bench.router.conntrack.check();
}

#[test]
fn m12_a_full_table_of_the_owners_flows_gives_none_away() {
    let mut bench = lender();
    let table = &mut bench.router.conntrack;
    let mut number = 0;
    while table.len() < crate::budget::FLOWS {
        let key = FlowKey {
            client: Ipv4Address::new(192, 168, 1, 2 + (number / 100) as u8),
            remote: ORIGIN,
            client_port: 1024 + number as u16,
            remote_port: 53,
            protocol: Protocol::Udp,
        };
        let _refused = table.open(bench.now, key, None).is_err();
        number += 1;
        assert!(number < 20_000);
    }
    let before = table.counts.get(crate::conntrack::Counter::EvictedFresh);
    bench.nothing(Port::Air, syn_to((ORIGIN, 80)));
    let table = &bench.router.conntrack;
    assert_eq!(
        table.counts.get(crate::conntrack::Counter::EvictedFresh),
        before
    );
    assert_eq!(bench.router.counts.get(Counter::FlowRefused), 1);
}

#[test]
fn m12_lent_flows_end_with_the_neighbour_the_setting_the_address_and_silence() {
    let ends: [fn(&mut Bench); 4] = [
        |bench| set(bench, "peers", "10.77.0.3"),
        |bench| set(bench, "lend.nat", "off"),
        |bench| {
            let cidr = Some(Ipv4Cidr::new(Ipv4Address::new(10, 77, 0, 8), 24));
            let address = PortAddress {
                mac: AIR_MAC,
                cidr,
                gateway: None,
            };
            bench.router.set_address(Port::Air, address);
        },
        |bench| bench.wait(LENT_TIMEOUT.secs() + 2),
    ];
    for end in ends {
        let mut bench = lender();
        let port = open(&mut bench);
        bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
        let all = bench.router.conntrack.len();
        end(&mut bench);
        assert_eq!(bench.router.conntrack.len(), all - 1);
        bench.nothing(Port::Wan, data_in(port, 5001, b"late"));
        let more = from_air((PEER, 61_000), (ORIGIN, 80), flags::ACK, 1001, 5001, b"x");
        bench.nothing(Port::Air, more);
        bench.router.conntrack.check();
    }
    assert!(LENT_TIMEOUT < TCP_RESET_TIMEOUT);
}

#[test]
fn a_lent_connections_segments_are_lowered_to_the_line() {
    let mut bench = lender();
    bench.router.wan_mtu = 1400;
    let (_, out) = bench.one(Port::Air, syn_to((ORIGIN, 80)));
    let there = packet(&out);
    assert_eq!(Summary::of(there.tcp_options(&out)).mss, Some(1360));
    let [src, dst] = ends(&out);
    let bits = flags::SYN | flags::ACK;
    let mss = [2, 4, 0x05, 0xB4];
    let answer = tcp(
        [GATEWAY_MAC, WAN_MAC],
        [dst, src],
        bits,
        5000,
        1001,
        &mss,
        b"",
    );
    let (_, back) = bench.one(Port::Wan, answer);
    assert_eq!(
        Summary::of(packet(&back).tcp_options(&back)).mss,
        Some(1360)
    );
    let ack = from_air((PEER, 61_000), dst, flags::ACK, 1001, 5001, &[b'x'; 1400]);
    bench.dropped(Port::Air, ack, Counter::TooLong);
    assert_eq!(bench.out.take(), []);
}

#[test]
fn what_comes_by_the_air_from_beyond_it_is_taken_for_a_connection_of_our_own_only() {
    let mut bench = lender();
    let stack = &mut bench.router.accelerator.stack;
    let nets = [(ROUTER, 24), (WAN, 26), (AIR, 24)];
    stack.set_addresses(&nets.map(|(address, prefix)| Some(Ipv4Cidr::new(address, prefix))));
    for port in [61_000, 61_001, 4377, 80] {
        for bits in [flags::SYN | flags::ACK, flags::ACK, flags::SYN, flags::RST] {
            let frame = from_air((ORIGIN, 80), (AIR, port), bits, 1, 1, b"");
            bench.dropped(Port::Air, frame, Counter::Source);
            assert_eq!(bench.out.take(), []);
        }
    }
}
