//! Attacks on translation: rows A3 to A7, A12 and S7 of the fault matrix.

use super::fragments::{cut, feed_all, join, long_udp};
use super::*;
use crate::budget::{
    FLOWS, FLOWS_FRESH_OUTSIDE_MAX, FLOWS_FRESH_PER_HOST_MAX, FLOWS_OUTSIDE_MAX,
    INBOUND_PER_FORWARD_MAX, INBOUND_PER_MAPPING_MAX,
};
use crate::router::fragments::FragmentCounter;
use smoltcp::time::Duration;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// A connection at whose ends both sides agree with what the router knows.
struct Transfer {
    client: (Ipv4Address, u16),
    next: u32,
}

impl Transfer {
    fn start(bench: &mut Bench) -> Self {
        bench.connect();
        Self {
            client: (CLIENT, 40_000),
            next: 5001,
        }
    }

    /// The origin sends a segment and the client acknowledges it.
    fn step(&mut self, bench: &mut Bench) {
        let data = bench.pass(
            Port::Wan,
            tcp_in(flags::ACK, self.next, 1001, &[], &[7; 100]),
        );
        assert_eq!(ends(&data)[1], self.client);
        self.next = self.next.wrapping_add(100);
        bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, self.next, &[], b""));
    }
}

#[test]
fn a3_blind_segments_into_a_plain_connection_change_nothing() {
    let mut bench = Bench::new();
    let mut transfer = Transfer::start(&mut bench);
    let mut dice = Dice(3);
    for n in 0..1u32 << 16 {
        let bits = [
            flags::RST,
            flags::RST | flags::ACK,
            flags::SYN,
            flags::SYN | flags::ACK,
            flags::ACK,
            flags::FIN | flags::ACK,
        ][n as usize % 6];
        // Half of them try the whole space evenly, as an attacker would.
        let seq = if n % 2 == 0 { n << 16 } else { dice.roll() };
        let payload: &[u8] = if n % 5 == 0 { b"evil" } else { b"" };
        bench.run(Port::Wan, tcp_in(bits, seq, dice.roll(), &[], payload));
        if n % 1024 == 0 {
            transfer.step(&mut bench);
        }
    }
    transfer.step(&mut bench);
    let entry = bench.entry();
    assert_eq!(entry.tcp.state, crate::conntrack::tcp::State::Established);
    // What was let through had to be in the window, some 2 × 65,535 of 2^32 numbers.
    let passed = bench.router.counts.get(Counter::ForwardedIn);
    assert!(passed < 100 + 65, "{passed}");
}

#[test]
fn a3_a_reset_that_is_nearly_right_ends_nothing() {
    let mut bench = Bench::new();
    bench.connect();
    for off in [1, 2, 100, 10_000, u32::MAX, u32::MAX - 100] {
        bench.run(
            Port::Wan,
            tcp_in(flags::RST, 5001u32.wrapping_add(off), 0, &[], b""),
        );
        assert_eq!(
            bench.entry().tcp.state,
            crate::conntrack::tcp::State::Established
        );
    }
    bench.pass(Port::Wan, tcp_in(flags::RST, 5001, 0, &[], b""));
    assert_eq!(
        bench.entry().tcp.state,
        crate::conntrack::tcp::State::Closed
    );
}

#[test]
fn a4_forged_errors_are_believed_only_about_what_is_in_flight() {
    let mut bench = Bench::new();
    bench.connect();
    let sent = bench.pass(
        Port::Lan,
        tcp_out(flags::ACK, 1001, 5001, &[], &[b'x'; 1000]),
    );
    let mut dice = Dice(4);
    let (mut passed, tries) = (0, 20_000u32);
    for n in 0..tries {
        let mut forged = sent.clone();
        forged[38..42].copy_from_slice(&dice.roll().to_be_bytes());
        let (kind, code) = [(3, 1), (3, 3), (3, 4), (11, 0)][n as usize % 4];
        passed += bench
            .run(Port::Wan, error_about(&forged, kind, code, 1000, 28))
            .len();
    }
    assert_eq!(passed, 0);
    let in_flight = |bench: &mut Bench, kind, code, mtu| {
        bench
            .run(Port::Wan, error_about(&sent, kind, code, mtu, 28))
            .len()
    };
    for (kind, code, mtu) in [
        (4, 0, 0),
        (5, 0, 0),
        (5, 1, 0),
        (3, 4, 0),
        (3, 4, 68),
        (3, 4, 575),
    ] {
        assert_eq!(
            in_flight(&mut bench, kind, code, mtu),
            0,
            "{kind}/{code} {mtu}"
        );
    }
    assert_eq!(in_flight(&mut bench, 3, 4, 576), 1, "this one may be true");
    // What has been acknowledged is in flight no more.
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 2001, &[], b""));
    assert_eq!(in_flight(&mut bench, 3, 1, 0), 0);
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 2001, &[], b"alive"));
}

/// Who floods, and with what.
#[derive(Clone, Copy, Debug)]
enum Flood {
    SynsOfOneHost,
    SynsOfAll,
    /// Not of those who open connections meanwhile, whose answers take a second.
    SynsOfAllOthers,
    DatagramsOfOneHostToAllPorts,
    DatagramsOfAll,
    MixedOfAll,
}

impl Flood {
    fn frame(self, n: u32, dice: &mut Dice) -> Vec<u8> {
        let one = Ipv4Address::new(192, 168, 1, 66);
        let any = Ipv4Address::new(192, 168, 1, 2 + (dice.roll() % 250) as u8);
        let port = dice.roll() as u16;
        let target = (
            Ipv4Address::from((0x0B00_0000 | dice.roll() & 0x00FF_FFFF).to_be_bytes()),
            dice.roll() as u16 | 1,
        );
        let syn = |src| segment_of(true, (src, port), target, flags::SYN, n, 0);
        match self {
            Self::SynsOfOneHost => syn(one),
            Self::SynsOfAll => syn(any),
            Self::SynsOfAllOthers => {
                let other = Ipv4Address::new(192, 168, 1, 2 + (n % 190) as u8);
                segment_of(true, (other, port), target, flags::SYN, n, 0)
            }
            Self::DatagramsOfOneHostToAllPorts => {
                udp(true, (one, 7777), (ORIGIN, n as u16), b"flood")
            }
            Self::DatagramsOfAll => udp(true, (any, port), target, b"flood"),
            Self::MixedOfAll if n.is_multiple_of(2) => syn(any),
            Self::MixedOfAll => udp(true, (any, port), target, b"flood"),
        }
    }
}

/// 100,000 new flows in ten seconds, while a transfer runs and others open connections whose
/// answers take 50 ms.
fn flood(kind: Flood) {
    const FLOWS_NEW: u32 = 100_000;
    let rtt_frames = match kind {
        Flood::SynsOfAllOthers => 10_000,
        Flood::SynsOfOneHost
        | Flood::SynsOfAll
        | Flood::DatagramsOfOneHostToAllPorts
        | Flood::DatagramsOfAll
        | Flood::MixedOfAll => 500,
    };
    let mut bench = Bench::new();
    let mut transfer = Transfer::start(&mut bench);
    let mut dice = Dice(5);
    let size_before = std::mem::size_of_val(&*bench.router.conntrack);
    let (mut begun, mut answered, mut whole) = (0u32, 0u32, 0u32);
    let end = |k: u32| {
        (
            (
                Ipv4Address::new(192, 168, 1, 200 + (k % 20) as u8),
                3000 + k as u16,
            ),
            (Ipv4Address::new(198, 51, 100, 30), 443),
        )
    };
    for n in 0..FLOWS_NEW {
        bench.now += Duration::from_micros(100);
        let mut frame = kind.frame(n, &mut dice);
        bench.feed(Port::Lan, &mut frame);
        if n % 10 == 0 {
            transfer.step(&mut bench);
        }
        if n % 100 == 0 {
            bench.router.poll(bench.now, &mut bench.out);
        }
        if n % 5000 == 0 {
            // Their hosts are known, as they would be.
            for last in 200..220 {
                bench.arp_request(
                    Port::Lan,
                    CLIENT_MAC,
                    Ipv4Address::new(192, 168, 1, last),
                    ROUTER,
                );
            }
            bench.introduce();
        }
        bench.out.take();
        let at_port = |bench: &Bench, k: u32| {
            let ((client, client_port), (remote, remote_port)) = end(k);
            let key = FlowKey {
                client,
                remote,
                client_port,
                remote_port,
                protocol: Protocol::Tcp,
            };
            let id = bench.router.conntrack.find(&key)?;
            bench
                .router
                .conntrack
                .get(id)
                .map(crate::conntrack::Entry::wan_port)
        };
        if n % 250 == 0 {
            let (src, dst) = end(begun);
            bench.run(Port::Lan, segment_of(true, src, dst, flags::SYN, 100, 0));
            begun += 1;
        }
        if n % 250 == 0 && n >= rtt_frames {
            let (src, dst) = end(answered);
            if let Some(port) = at_port(&bench, answered) {
                let answer = segment_of(false, dst, (WAN, port), flags::SYN | flags::ACK, 900, 101);
                let came = bench.run(Port::Wan, answer).len();
                let acked = bench
                    .run(Port::Lan, segment_of(true, src, dst, flags::ACK, 101, 901))
                    .len();
                whole += u32::from(came == 1 && acked == 1);
            }
            answered += 1;
        }
    }
    assert!(
        whole * 100 >= answered * 95,
        "{kind:?}: {whole} of {answered}"
    );
    assert_eq!(std::mem::size_of_val(&*bench.router.conntrack), size_before);
    assert!(bench.router.conntrack.len() <= FLOWS);
    let flooder = Ipv4Address::new(192, 168, 1, 66);
    let flows = bench.router.conntrack.iter();
    let flows = flows.filter(|(_, entry)| entry.key().client == flooder);
    assert!(flows.count() <= FLOWS_FRESH_PER_HOST_MAX, "{kind:?}");
    bench.router.conntrack.check();
    for _ in 0..10 {
        transfer.step(&mut bench);
    }
}

#[test]
fn a5_a_flood_of_syns_from_one_host_meets_itself() {
    flood(Flood::SynsOfOneHost);
}

#[test]
fn a5_a_flood_of_syns_from_random_sources_spares_transfers_and_newcomers() {
    flood(Flood::SynsOfAll);
}

#[test]
fn a5_a_flood_of_syns_from_many_hosts_spares_the_slow_answers_of_those_who_open_few() {
    flood(Flood::SynsOfAllOthers);
}

#[test]
fn a5_a_flood_of_datagrams_to_all_ports_meets_itself() {
    flood(Flood::DatagramsOfOneHostToAllPorts);
}

#[test]
fn a5_a_flood_of_datagrams_from_random_sources_spares_transfers_and_newcomers() {
    flood(Flood::DatagramsOfAll);
    flood(Flood::MixedOfAll);
}

#[test]
fn a6_one_open_port_is_no_way_to_fill_the_table_from_outside() {
    let mut bench = Bench::new();
    let out = bench.pass(Port::Lan, udp(true, (CLIENT, 40_000), (ORIGIN, 9000), b"?"));
    let ours = ends(&out)[0];
    for port in 0..=65_535 {
        bench.run(Port::Wan, udp(false, (ORIGIN, port), ours, b"!"));
    }
    assert_eq!(
        bench.router.conntrack.len(),
        1 + usize::from(INBOUND_PER_MAPPING_MAX)
    );
    // Answering all of them does not help either.
    for port in 0..=65_535 {
        bench.run(Port::Wan, udp(false, (ORIGIN, port), ours, b"!"));
        if bench.router.counts.get(Counter::ForwardedIn) < 1000 && port < 10 {
            bench.run(Port::Lan, udp(true, (CLIENT, 40_000), (ORIGIN, port), b"!"));
        }
    }
    assert!(bench.router.conntrack.len() <= 12 + usize::from(INBOUND_PER_MAPPING_MAX));
    bench.router.conntrack.check();
}

#[test]
fn a6_a_flood_through_a_forwarded_port_meets_itself() {
    let mut bench = Bench::new();
    bench.forward(&[
        (Protocol::Tcp, 8080, OTHER, 80),
        (Protocol::Udp, 8080, OTHER, 80),
        (Protocol::Tcp, 8081, OTHER, 81),
        (Protocol::Tcp, 8082, OTHER, 82),
    ]);
    let mut transfer = Transfer::start(&mut bench);
    let mine = bench.pass(
        Port::Lan,
        segment_of(true, (OTHER, 3000), (ORIGIN, 81), flags::SYN, 1, 0),
    );
    let mut dice = Dice(6);
    for n in 0..50_000u32 {
        let src = (
            Ipv4Address::from((0x0B00_0000 | dice.roll() & 0x00FF_FFFF).to_be_bytes()),
            dice.roll() as u16 | 1,
        );
        let frame = if n % 2 == 0 {
            segment_of(false, src, (WAN, 8080), flags::SYN, n, 0)
        } else {
            udp(false, src, (WAN, 8080), b"flood")
        };
        assert_eq!(
            bench.run(Port::Wan, frame).len(),
            1,
            "the newest is served, the oldest goes"
        );
        if n % 100 == 0 {
            transfer.step(&mut bench);
        }
    }
    assert_eq!(bench.router.conntrack.len(), FLOWS_FRESH_OUTSIDE_MAX + 2);
    // The half-open connection of the host itself is not what went.
    let answer = segment_of(
        false,
        (ORIGIN, 81),
        ends(&mine)[0],
        flags::SYN | flags::ACK,
        5,
        2,
    );
    assert_eq!(bench.run(Port::Wan, answer).len(), 1);
    // A crowd whose connections are all answered: bounded by the port, and then refused.
    let crowd = |bench: &mut Bench, door: u16| {
        for n in 0..u32::from(INBOUND_PER_FORWARD_MAX) + 200 {
            let src = (Ipv4Address::from((0x0C00_0000 | n).to_be_bytes()), 1000);
            let (ours, host) = ((WAN, 8080 + door), (OTHER, 80 + door));
            let both = flags::SYN | flags::ACK;
            bench.run(Port::Wan, segment_of(false, src, ours, flags::SYN, 1, 0));
            bench.run(Port::Lan, segment_of(true, host, src, both, 1, 2));
            bench.run(Port::Wan, segment_of(false, src, ours, flags::ACK, 2, 2));
        }
    };
    crowd(&mut bench, 0);
    let inbound = bench
        .router
        .conntrack
        .iter()
        .filter(|(_, entry)| entry.is_inbound() && entry.key().protocol == Protocol::Tcp);
    assert!(inbound.count() <= usize::from(INBOUND_PER_FORWARD_MAX));
    // At three ports: all together have half of the table.
    crowd(&mut bench, 1);
    crowd(&mut bench, 2);
    assert!(bench.router.conntrack.len() <= FLOWS_OUTSIDE_MAX + 2);
    transfer.step(&mut bench);
    bench.router.conntrack.check();
}

#[test]
fn a7_fragments_without_end_cost_neither_memory_nor_others() {
    let mut bench = Bench::new();
    bench.forward(&[(Protocol::Udp, 8080, OTHER, 80)]);
    let mut transfer = Transfer::start(&mut bench);
    bench.pass(Port::Lan, udp(true, (CLIENT, 50_000), (ORIGIN, 9000), b"?"));
    let size = std::mem::size_of_val(&*bench.router.fragments);
    let mut dice = Dice(7);
    let firsts = cut(&long_udp(false, (ORIGIN, 9000), (WAN, 50_000), 3000), 1480);
    let good = cut(&long_udp(false, (ORIGIN, 9000), (WAN, 50_000), 2900), 1480);
    for n in 0..20_000u32 {
        // Firsts without rest, later ones without first, tiny ones, overlapping ones, of any id.
        let mut piece = firsts[n as usize % 3].clone();
        if n % 7 == 0 {
            piece[20..22].copy_from_slice(&(dice.roll() as u16 & 0x3FFF).to_be_bytes());
        }
        if n % 11 == 0 {
            piece.truncate(34 + 8);
            piece[16..18].copy_from_slice(&28u16.to_be_bytes());
        }
        piece[18..20].copy_from_slice(&(dice.roll() as u16 | 1).to_be_bytes());
        bench.run(Port::Wan, fix_ip(piece));
        if n % 50 == 0 {
            transfer.step(&mut bench);
            bench.now += Duration::from_millis(1);
        }
        if n % 500 == 0 {
            let good: Vec<_> = good
                .iter()
                .map(|piece| {
                    let mut piece = piece.clone();
                    piece[18..20].copy_from_slice(&((n / 500 * 2) as u16).to_be_bytes());
                    fix_ip(piece)
                })
                .collect();
            join(feed_all(&mut bench, Port::Wan, Port::Lan, good));
        }
    }
    assert_eq!(std::mem::size_of_val(&*bench.router.fragments), size);
    // The moment the flood is over, what comes in the wrong order finds a place again.
    let backwards = good.iter().rev().map(|piece| {
        let mut piece = piece.clone();
        piece[18..20].copy_from_slice(&4242u16.to_be_bytes());
        fix_ip(piece)
    });
    join(feed_all(
        &mut bench,
        Port::Wan,
        Port::Lan,
        backwards.collect(),
    ));
    // The LAN's own stores were not touched.
    let out = cut(
        &long_udp(true, (CLIENT, 50_000), (ORIGIN, 9000), 3000),
        1480,
    );
    join(feed_all(
        &mut bench,
        Port::Lan,
        Port::Wan,
        out.into_iter().rev().collect(),
    ));
    bench.router.conntrack.check();
}

#[test]
fn a12_a_lan_host_with_an_impossible_source_reaches_nobody() {
    let mut bench = Bench::new();
    bench.forward(&[(Protocol::Udp, 8080, OTHER, 80)]);
    let sources = [
        [203, 0, 113, 2],
        [203, 0, 113, 1],
        [127, 0, 0, 1],
        [255, 255, 255, 255],
        [192, 168, 1, 255],
        [192, 168, 1, 0],
        [192, 168, 1, 1],
        [224, 0, 0, 1],
        [0, 0, 0, 0],
        [169, 254, 1, 1],
        [10, 77, 0, 2],
        [198, 51, 100, 10],
    ];
    for src in sources {
        for dst in [(ORIGIN, 9000), (ROUTER, 80), (WAN, 8080), (CLIENT, 80)] {
            bench.dropped(
                Port::Lan,
                udp(true, (src.into(), 1), dst, b"x"),
                Counter::Source,
            );
            bench.dropped(
                Port::Lan,
                segment_of(true, (src.into(), 1), dst, flags::SYN, 1, 0),
                Counter::Source,
            );
            bench.dropped(
                Port::Lan,
                icmp(true, src.into(), dst.0, 8, 0, [0; 4], b"x"),
                Counter::Source,
            );
        }
    }
    assert!(bench.router.conntrack.is_empty());
    assert_eq!(bench.out.take().len(), 0, "not even an error");
}

#[test]
fn s7_all_places_for_flows_and_fragments_taken_at_once_refuse_and_recover() {
    let mut bench = Bench::new();
    let mut transfer = Transfer::start(&mut bench);
    let mut dice = Dice(8);
    let pieces = cut(
        &long_udp(true, (CLIENT, 50_000), (ORIGIN, 9000), 3000),
        1480,
    );
    for n in 0..6000u32 {
        let host = Ipv4Address::new(192, 168, 1, 100 + (n % 5) as u8);
        let (src, dst) = ((host, 2000 + (n / 5) as u16), (ORIGIN, 443));
        // Connections that are answered, as far as there is room.
        if let [(_, syn)] = &bench.run(Port::Lan, segment_of(true, src, dst, flags::SYN, 1, 0))[..]
            && packet(syn).dst == ORIGIN
        {
            let ours = ends(syn)[0];
            bench.run(
                Port::Wan,
                segment_of(false, dst, ours, flags::SYN | flags::ACK, 1, 2),
            );
            bench.run(Port::Lan, segment_of(true, src, dst, flags::ACK, 2, 2));
        }
        let mut piece = pieces[n as usize % 3].clone();
        piece[18..20].copy_from_slice(&(dice.roll() as u16).to_be_bytes());
        bench.run(Port::Lan, fix_ip(piece));
        bench.now += Duration::from_millis(1);
    }
    assert_eq!(bench.router.conntrack.len(), FLOWS);
    assert!(bench.router.counts.get(Counter::FlowRefused) > 0);
    for counter in [
        FragmentCounter::HoldReplaced,
        FragmentCounter::TrackReplaced,
    ] {
        assert!(
            bench.router.fragments.counts().get(counter) > 0,
            "{counter:?}"
        );
    }
    bench.router.conntrack.check();
    transfer.step(&mut bench);
    // What is silent for a quarter of an hour goes for what is new.
    bench.wait(16 * 60);
    transfer.step(&mut bench);
    for n in 0..200 {
        let left = bench.run(
            Port::Lan,
            segment_of(true, (OTHER, 2000 + n), (ORIGIN, 443), flags::SYN, 1, 0),
        );
        assert_eq!((left.len(), left[0].0), (1, Port::Wan));
    }
    join(feed_all(
        &mut bench,
        Port::Lan,
        Port::Wan,
        cut(&long_udp(true, (OTHER, 50_000), (ORIGIN, 9000), 3000), 1480)
            .into_iter()
            .rev()
            .collect(),
    ));
    bench.wait(3 * 3600);
    assert!(bench.router.conntrack.is_empty());
}
