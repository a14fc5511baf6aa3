use super::*;
use crate::conntrack::{FlowKey, Protocol, SeqShift, Stage};
use crate::neighbor::tests::Sent;
use crate::wire::checksum;
use crate::wire::options::{OptionsBuf, SackBlock, Summary};
use crate::wire::packet::{PROTOCOL_ICMP, PROTOCOL_UDP, flags};
use crate::wire::segment::tests::checksums_hold;
use crate::wire::segment::{self, SegmentHeader};
use proptest::prelude::*;

mod desk;
mod faults;
mod following;
mod fragments;
mod lent;
mod nat;
mod requirements;
mod served;
mod storm;
mod text;

const LAN_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const WAN_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const AIR_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 3]);
const CLIENT_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 9, 1]);
const OTHER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 9, 3]);
const GATEWAY_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 9, 2]);
const ROUTER: Ipv4Address = Ipv4Address::new(192, 168, 1, 1);
const CLIENT: Ipv4Address = Ipv4Address::new(192, 168, 1, 100);
/// A second host of the LAN.
const OTHER: Ipv4Address = Ipv4Address::new(192, 168, 1, 20);
const WAN: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const GATEWAY: Ipv4Address = Ipv4Address::new(203, 0, 113, 1);
const ORIGIN: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);
const AIR: Ipv4Address = Ipv4Address::new(10, 77, 0, 1);

struct Bench {
    router: Router<'static>,
    out: Sent,
    now: Instant,
}

impl Bench {
    /// A router that knows its addresses and nobody around.
    fn cold() -> Self {
        let memory = Box::leak(Box::new(Memory::new()));
        let mut router = Router::new(memory, [LAN_MAC, WAN_MAC, AIR_MAC], Random::repeatable(5));
        // No DHCP: the line is addressed below.
        let mut settings = Settings::new();
        settings.wan.address = crate::settings::WanAddress::None;
        router.apply_settings(&settings);
        let set = |router: &mut Router, port, address, prefix, gateway| {
            let cidr = Some(Ipv4Cidr::new(address, prefix));
            router.set_address(
                port,
                PortAddress {
                    mac: LAN_MAC,
                    cidr,
                    gateway,
                },
            );
        };
        set(&mut router, Port::Lan, ROUTER, 24, None);
        set(&mut router, Port::Wan, WAN, 26, Some(GATEWAY));
        set(&mut router, Port::Air, AIR, 24, None);
        router.set_acceleration(Acceleration {
            enabled: true,
            ports: [80, 0, 0, 0],
        });
        Self {
            router,
            out: Sent::new(),
            now: Instant::from_secs(1),
        }
    }

    /// A router that knows client and gateway, too.
    fn new() -> Self {
        let mut bench = Self::cold();
        bench.introduce();
        bench
    }

    fn arp_request(
        &mut self,
        port: Port,
        mac: EthernetAddress,
        sender: Ipv4Address,
        target: Ipv4Address,
    ) {
        let mut frame = vec![0; 42];
        frame[0..6].fill(0xFF);
        frame[6..12].copy_from_slice(&mac.0);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame[22..28].copy_from_slice(&mac.0);
        frame[28..32].copy_from_slice(&sender.octets());
        frame[38..42].copy_from_slice(&target.octets());
        assert_eq!(self.feed(port, &mut frame), Verdict::Answer);
    }

    fn feed(&mut self, port: Port, frame: &mut [u8]) -> Verdict {
        self.router.on_frame(self.now, port, frame, &mut self.out)
    }

    /// Feeds a frame; gives all that leaves, in order.
    fn run(&mut self, port: Port, mut frame: Vec<u8>) -> Vec<(Port, Vec<u8>)> {
        let verdict = self.feed(port, &mut frame);
        let mut left = self.out.take();
        if let Verdict::Forward(to) = verdict {
            left.push((to, frame));
        }
        for (to, frame) in &left {
            if frame[12..14] == [8, 0] {
                assert!(packet(frame).is_fragment() || checksums_hold(frame));
                assert!(*to != Port::Wan || packet(frame).src == WAN);
            }
        }
        left
    }

    /// Feeds a frame of which exactly one comes.
    fn one(&mut self, port: Port, frame: Vec<u8>) -> (Port, Vec<u8>) {
        let mut left = self.run(port, frame);
        assert_eq!(left.len(), 1, "{:?}", self.reasons());
        left.remove(0)
    }

    /// Feeds a frame of which nothing comes.
    fn nothing(&mut self, port: Port, frame: Vec<u8>) {
        assert_eq!(self.run(port, frame), []);
    }

    /// What was counted so far.
    fn reasons(&self) -> Vec<(&'static str, u64)> {
        let counted = self.router.counts.iter();
        counted.filter(|count| count.1 > 0).collect()
    }

    /// Lets time pass, with a call of `poll` each second.
    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += smoltcp::time::Duration::from_secs(1);
            self.router.poll(self.now, &mut self.out);
        }
        self.out.take();
        // Neighbors are known for ever in these tests.
        self.introduce();
    }

    /// Lets the router know the hosts of these tests.
    fn introduce(&mut self) {
        self.arp_request(Port::Lan, CLIENT_MAC, CLIENT, ROUTER);
        self.arp_request(Port::Lan, OTHER_MAC, OTHER, ROUTER);
        self.arp_request(Port::Wan, GATEWAY_MAC, GATEWAY, WAN);
        self.out.take();
    }

    fn forward(&mut self, forwards: &[(Protocol, u16, Ipv4Address, u16)]) {
        let forwards = forwards.iter();
        self.router.conntrack.set_forwards(forwards.map(
            |&(protocol, wan_port, client, client_port)| crate::conntrack::Forward {
                protocol,
                wan_port,
                client,
                client_port,
            },
        ));
    }

    /// Feeds a frame that must be forwarded; gives it as it leaves.
    fn pass(&mut self, port: Port, mut frame: Vec<u8>) -> Vec<u8> {
        let to = if port == Port::Lan {
            Port::Wan
        } else {
            Port::Lan
        };
        let counts = format!(
            "{:?}",
            self.router
                .counts
                .iter()
                .filter(|count| count.1 > 0)
                .collect::<Vec<_>>()
        );
        assert_eq!(
            self.feed(port, &mut frame),
            Verdict::Forward(to),
            "before: {counts}"
        );
        assert!(checksums_hold(&frame));
        frame
    }

    fn dropped(&mut self, port: Port, mut frame: Vec<u8>, reason: Counter) {
        let before = self.router.counts.get(reason);
        assert_eq!(self.feed(port, &mut frame), Verdict::Drop, "{reason:?}");
        assert_eq!(self.router.counts.get(reason), before + 1, "{reason:?}");
    }

    /// A connection from port 40000 of the client to port 80 of the origin: client at 1001,
    /// origin at 5001.
    fn connect(&mut self) {
        self.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
        self.pass(
            Port::Wan,
            tcp_in(flags::SYN | flags::ACK, 5000, 1001, &[], b""),
        );
        self.pass(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], b""));
    }

    fn entry(&mut self) -> &mut crate::conntrack::Entry {
        let key = FlowKey {
            client: CLIENT,
            remote: ORIGIN,
            client_port: 40_000,
            remote_port: 80,
            protocol: Protocol::Tcp,
        };
        let id = self.router.conntrack.find(&key).unwrap();
        self.router.conntrack.get_mut(id).unwrap()
    }
}

fn tcp(
    macs: [EthernetAddress; 2],
    ends: [(Ipv4Address, u16); 2],
    bits: u8,
    seq: u32,
    ack: u32,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let [(src, src_port), (dst, dst_port)] = ends;
    let header = SegmentHeader {
        src_mac: macs[0],
        dst_mac: macs[1],
        src,
        dst,
        src_port,
        dst_port,
        seq,
        ack,
        flags: bits,
        window: 50_000,
        ident: 7,
        options,
    };
    let mut frame = vec![0; segment::frame_len(options.len(), payload.len())];
    segment::emit(&mut frame, &header, |room| room.copy_from_slice(payload));
    frame
}

fn tcp_out(bits: u8, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    tcp(
        [CLIENT_MAC, LAN_MAC],
        [(CLIENT, 40_000), (ORIGIN, 80)],
        bits,
        seq,
        ack,
        options,
        payload,
    )
}

fn tcp_in(bits: u8, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    tcp(
        [GATEWAY_MAC, WAN_MAC],
        [(ORIGIN, 80), (WAN, 40_000)],
        bits,
        seq,
        ack,
        options,
        payload,
    )
}

/// A segment from a LAN host, or from somebody on the WAN.
fn segment_of(
    out: bool,
    src: (Ipv4Address, u16),
    dst: (Ipv4Address, u16),
    bits: u8,
    seq: u32,
    ack: u32,
) -> Vec<u8> {
    let macs = if out {
        [CLIENT_MAC, LAN_MAC]
    } else {
        [GATEWAY_MAC, WAN_MAC]
    };
    tcp(macs, [src, dst], bits, seq, ack, &[], b"")
}

/// Both ends of a packet that is no fragment.
fn ends(frame: &[u8]) -> [(Ipv4Address, u16); 2] {
    let packet = packet(frame);
    let (src, dst) = match packet.transport {
        Transport::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
        Transport::Udp(udp) => (udp.src_port, udp.dst_port),
        Transport::Icmp(icmp) => (icmp.ident, icmp.ident),
        Transport::Fragment | Transport::Other => (0, 0),
    };
    [(packet.src, src), (packet.dst, dst)]
}

/// A datagram with `body` as its transport header and payload, whose checksum field is at `field`.
fn datagram(
    out: bool,
    src: Ipv4Address,
    dst: Ipv4Address,
    protocol: u8,
    body: &[u8],
    field: usize,
) -> Vec<u8> {
    let (src_mac, dst_mac) = if out {
        (CLIENT_MAC, LAN_MAC)
    } else {
        (GATEWAY_MAC, WAN_MAC)
    };
    let mut frame = vec![0; 34 + body.len()];
    Ethernet {
        dst: dst_mac,
        src: src_mac,
        ethertype: ETHERTYPE_IPV4,
    }
    .emit(&mut frame);
    segment::emit_ipv4(&mut frame, protocol, src, dst, 3);
    frame[34..].copy_from_slice(body);
    frame[34 + field..36 + field].fill(0);
    let pseudo = match protocol {
        PROTOCOL_ICMP => 0,
        _ => checksum::pseudo_header(src, dst, protocol, body.len() as u16),
    };
    let sum = checksum::finish(checksum::combine(pseudo, checksum::sum(&frame[34..])));
    frame[34 + field..36 + field].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn udp(out: bool, src: (Ipv4Address, u16), dst: (Ipv4Address, u16), payload: &[u8]) -> Vec<u8> {
    let mut body = [
        src.1.to_be_bytes(),
        dst.1.to_be_bytes(),
        (8 + payload.len() as u16).to_be_bytes(),
        [0, 0],
    ]
    .concat();
    body.extend(payload);
    datagram(out, src.0, dst.0, PROTOCOL_UDP, &body, 6)
}

fn icmp(
    out: bool,
    src: Ipv4Address,
    dst: Ipv4Address,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    payload: &[u8],
) -> Vec<u8> {
    let body = [&[kind, code, 0, 0][..], &rest, payload].concat();
    datagram(out, src, dst, PROTOCOL_ICMP, &body, 2)
}

fn packet(frame: &[u8]) -> Packet {
    Packet::parse(frame).unwrap()
}

/// Makes the IP checksum right after an edit of the header.
fn fix_ip(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    let field = checksum::finish(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&field.to_be_bytes());
    frame
}

#[test]
fn a_connection_is_translated_out_and_back() {
    let mut bench = Bench::new();
    let out = bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
    let there = packet(&out);
    assert_eq!((there.src, there.dst, there.ttl), (WAN, ORIGIN, 63));
    assert_eq!(
        (out[0..6].to_vec(), out[6..12].to_vec()),
        (GATEWAY_MAC.0.to_vec(), WAN_MAC.0.to_vec())
    );
    assert_eq!(there.tcp().unwrap().src_port, 40_000);
    let back = bench.pass(
        Port::Wan,
        tcp_in(flags::SYN | flags::ACK, 5000, 1001, &[], b""),
    );
    let here = packet(&back);
    assert_eq!(
        (here.src, here.dst, here.tcp().unwrap().dst_port),
        (ORIGIN, CLIENT, 40_000)
    );
    assert_eq!(
        (back[0..6].to_vec(), back[6..12].to_vec()),
        (CLIENT_MAC.0.to_vec(), LAN_MAC.0.to_vec())
    );
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], b""));
    assert_eq!(bench.entry().tcp.stage, Stage::Watched);
    bench.router.conntrack.check();
}

#[test]
fn the_first_packet_waits_for_arp_and_then_leaves() {
    let mut bench = Bench::cold();
    let mut frame = tcp_out(flags::SYN, 1000, 0, &[], b"");
    assert_eq!(bench.feed(Port::Lan, &mut frame), Verdict::Intercept);
    let asked = bench.out.take();
    assert_eq!(
        (asked.len(), asked[0].0, &asked[0].1[12..14]),
        (1, Port::Wan, &[8, 6][..])
    );
    bench.arp_request(Port::Wan, GATEWAY_MAC, GATEWAY, WAN);
    let sent = bench.out.take();
    let (port, released) = &sent[0];
    assert_eq!(
        (*port, packet(released).src, &released[0..6]),
        (Port::Wan, WAN, &GATEWAY_MAC.0[..])
    );
    assert!(checksums_hold(released));
}

#[test]
fn timestamps_leave_the_syn_of_a_flow_that_may_be_accelerated_only() {
    let options = [
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    let mptcp = [&options[..], &[30, 4, 0, 0]].concat();
    for (port, enabled, options, blanked) in [
        (80, true, &options[..], true),
        (81, true, &options, false),
        (80, false, &options, false),
        (80, true, &mptcp, false),
    ] {
        let mut bench = Bench::new();
        bench.router.set_acceleration(Acceleration {
            enabled,
            ports: [80, 0, 0, 0],
        });
        let ends = [(CLIENT, 40_000), (ORIGIN, port)];
        let syn = tcp(
            [CLIENT_MAC, LAN_MAC],
            ends,
            flags::SYN,
            1000,
            0,
            options,
            b"",
        );
        let out = bench.pass(Port::Lan, syn);
        let before = Summary::of(options);
        let timestamps = if blanked { None } else { before.timestamps };
        assert_eq!(
            Summary::of(packet(&out).tcp_options(&out)),
            Summary {
                timestamps,
                ..before
            }
        );
    }
}

#[test]
fn numbers_and_sack_blocks_are_shifted_after_an_exchange() {
    let mut bench = Bench::new();
    bench.connect();
    let entry = bench.entry();
    entry.tcp.shift = SeqShift {
        request_bytes: 200,
        reply_bytes: 3000,
    };
    let options = OptionsBuf::new().sack(&[SackBlock {
        left: 8001,
        right: 8101,
    }]);
    let reply = bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 1001, &[], b"reply"));
    let tcp_of = |frame: &[u8]| *packet(frame).tcp().unwrap();
    assert_eq!((tcp_of(&reply).seq, tcp_of(&reply).ack), (8001, 1201));
    let out = bench.pass(
        Port::Lan,
        tcp_out(flags::ACK, 1201, 8001, options.as_bytes(), b"GET"),
    );
    assert_eq!((tcp_of(&out).seq, tcp_of(&out).ack), (1001, 5001));
    let sack = Summary::of(packet(&out).tcp_options(&out));
    assert_eq!(
        sack.sack_blocks(),
        &[SackBlock {
            left: 5001,
            right: 5101
        }]
    );
}

#[test]
fn nothing_from_the_wan_enters_without_a_flow() {
    let mut bench = Bench::new();
    bench.dropped(
        Port::Wan,
        tcp_in(flags::SYN, 1, 0, &[], b""),
        Counter::NoFlow,
    );
    bench.dropped(
        Port::Wan,
        udp(false, (ORIGIN, 53), (WAN, 40_000), b"x"),
        Counter::NoFlow,
    );
    bench.dropped(
        Port::Wan,
        icmp(false, ORIGIN, WAN, 0, 0, [0, 1, 0, 1], b""),
        Counter::NoFlow,
    );
    bench.dropped(
        Port::Wan,
        icmp(false, ORIGIN, WAN, 8, 0, [0, 1, 0, 1], b""),
        Counter::IcmpIgnored,
    );
    bench.dropped(
        Port::Wan,
        udp(false, (ORIGIN, 53), (CLIENT, 40_000), b"x"),
        Counter::Destination,
    );
    bench.connect();
    let other = Ipv4Address::new(198, 51, 100, 11);
    let ends = [(other, 80), (WAN, 40_000)];
    bench.dropped(
        Port::Wan,
        tcp(
            [GATEWAY_MAC, WAN_MAC],
            ends,
            flags::ACK,
            5001,
            1001,
            &[],
            b"",
        ),
        Counter::NoFlow,
    );
    assert_eq!(bench.out.take().len(), 0, "silent to strangers");
}

#[test]
fn blind_segments_do_not_reach_a_connection() {
    let mut bench = Bench::new();
    bench.connect();
    bench.dropped(
        Port::Wan,
        tcp_in(flags::RST, 900_000_000, 0, &[], b""),
        Counter::Invalid,
    );
    bench.dropped(
        Port::Wan,
        tcp_in(flags::ACK, 900_000_000, 1001, &[], b"evil"),
        Counter::Invalid,
    );
    let mut corrupt = tcp_in(flags::RST, 5001, 0, &[], b"");
    corrupt[40] ^= 0xFF;
    bench.dropped(Port::Wan, corrupt, Counter::TransportChecksum);
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 1001, &[], b"good"));
}

#[test]
fn impossible_addresses_are_dropped() {
    let mut bench = Bench::new();
    for src in [
        [203, 0, 113, 2],
        [127, 0, 0, 1],
        [192, 168, 1, 255],
        [192, 168, 1, 0],
        [192, 168, 1, 1],
        [10, 0, 0, 1],
        [224, 0, 0, 1],
    ] {
        bench.dropped(
            Port::Lan,
            udp(true, (src.into(), 1), (ORIGIN, 2), b""),
            Counter::Source,
        );
    }
    for dst in [
        [192, 168, 1, 7],
        [192, 168, 1, 255],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
        [10, 77, 0, 2],
        [203, 0, 113, 63],
        [0, 0, 0, 1],
        [169, 254, 1, 1],
    ] {
        bench.dropped(
            Port::Lan,
            udp(true, (CLIENT, 1), (dst.into(), 2), b""),
            Counter::Destination,
        );
    }
    for src in [CLIENT, WAN, Ipv4Address::LOCALHOST, Ipv4Address::BROADCAST] {
        bench.dropped(
            Port::Wan,
            udp(false, (src, 1), (WAN, 2), b""),
            Counter::Source,
        );
    }
    let mut other = udp(true, (CLIENT, 1), (ORIGIN, 2), b"");
    other[5] ^= 0x40;
    bench.dropped(Port::Lan, other, Counter::NotForUs);
    let mut to_all = udp(true, (CLIENT, 1), (ORIGIN, 2), b"");
    to_all[0..6].fill(0xFF);
    bench.dropped(Port::Lan, to_all, Counter::Destination);
}

#[test]
fn the_air_is_never_forwarded() {
    let mut bench = Bench::new();
    let neighbor = Ipv4Address::new(10, 77, 0, 2);
    let mut from_air = |dst: Ipv4Address, reason| {
        let mut frame = udp(true, (neighbor, 1), (dst, 2), b"");
        frame[0..6].copy_from_slice(&AIR_MAC.0);
        bench.dropped(Port::Air, frame, reason);
    };
    from_air(ORIGIN, Counter::Destination);
    from_air(CLIENT, Counter::Destination);
    from_air(WAN, Counter::Destination);
    from_air(AIR, Counter::LocalUnwanted);
}

#[test]
fn the_router_answers_a_ping_on_its_own_nets_only() {
    let mut bench = Bench::new();
    let mut frame = icmp(true, CLIENT, ROUTER, 8, 0, [1, 2, 3, 4], b"ping");
    frame[22] = 7;
    let mut frame = fix_ip(frame);
    assert_eq!(
        bench.feed(Port::Lan, &mut frame),
        Verdict::Forward(Port::Lan)
    );
    assert!(checksums_hold(&frame));
    let answer = packet(&frame);
    assert_eq!((answer.src, answer.dst, answer.ttl), (ROUTER, CLIENT, 64));
    assert_eq!(
        (&frame[0..6], &frame[6..12]),
        (&CLIENT_MAC.0[..], &LAN_MAC.0[..])
    );
    assert_eq!(
        (frame[34], &frame[38..42], &frame[42..46]),
        (0, &[1, 2, 3, 4][..], &b"ping"[..])
    );
    let mut corrupt = icmp(true, CLIENT, ROUTER, 8, 0, [1, 2, 3, 4], b"ping");
    corrupt[45] ^= 1;
    bench.dropped(Port::Lan, corrupt, Counter::TransportChecksum);
}

#[test]
fn a_ping_through_the_router_comes_back_with_its_own_identifier() {
    let mut bench = Bench::new();
    // The identifier is one of the router's own, so it is translated for sure.
    let out = bench.pass(
        Port::Lan,
        icmp(true, CLIENT, ORIGIN, 8, 0, [0xFF, 77, 0, 1], b"data"),
    );
    let Transport::Icmp(request) = packet(&out).transport else {
        panic!()
    };
    assert_ne!(request.ident, 0xFF4D);
    let [high, low] = request.ident.to_be_bytes();
    let back = bench.pass(
        Port::Wan,
        icmp(false, ORIGIN, WAN, 0, 0, [high, low, 0, 1], b"data"),
    );
    assert_eq!(
        (packet(&back).dst, &back[38..42]),
        (CLIENT, &[0xFF, 77, 0, 1][..])
    );
}

#[test]
fn a_packet_at_the_end_of_its_life_is_reported_to_the_lan_and_the_reports_are_limited() {
    let mut bench = Bench::new();
    let mut frame = udp(true, (CLIENT, 1000), (ORIGIN, 33_434), b"trace");
    frame[22] = 1;
    let frame = fix_ip(frame);
    bench.dropped(Port::Lan, frame.clone(), Counter::Expired);
    let sent = bench.out.take();
    let (port, error) = &sent[0];
    assert_eq!(
        (*port, packet(error).src, packet(error).dst),
        (Port::Lan, ROUTER, CLIENT)
    );
    assert!(checksums_hold(error));
    assert_eq!(
        (error[34], error[35], &error[42..70]),
        (11, 0, &frame[14..42])
    );
    for _ in 0..1000 {
        bench.dropped(Port::Lan, frame.clone(), Counter::Expired);
    }
    assert!(bench.out.take().len() <= 50);
    bench.connect();
    let mut from_wan = tcp_in(flags::ACK, 5001, 1001, &[], b"");
    from_wan[22] = 1;
    bench.dropped(Port::Wan, fix_ip(from_wan), Counter::Expired);
    assert_eq!(bench.out.take().len(), 0, "nothing to the WAN");
}

#[test]
fn a_connection_nobody_knows_is_reset_towards_the_lan() {
    let mut bench = Bench::new();
    bench.dropped(
        Port::Lan,
        tcp_out(flags::ACK, 1001, 5001, &[], b"old"),
        Counter::NoFlow,
    );
    let (port, reset) = bench.out.take().remove(0);
    let tcp = *packet(&reset).tcp().unwrap();
    assert_eq!(
        (port, tcp.flags, tcp.seq, packet(&reset).dst),
        (Port::Lan, flags::RST, 5001, CLIENT)
    );
    assert!(checksums_hold(&reset));
    bench.dropped(
        Port::Lan,
        tcp_out(flags::RST, 1001, 0, &[], b""),
        Counter::NoFlow,
    );
    assert_eq!(bench.out.take().len(), 0, "no answer to a reset");
}

/// An error from the WAN that quotes `sent`, a frame that left by the WAN.
fn error_about(sent: &[u8], kind: u8, code: u8, mtu: u16, quoted_bytes: usize) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let quoted = &sent[14..(14 + quoted_bytes).min(sent.len())];
    icmp(false, GATEWAY, WAN, kind, code, [0, 0, high, low], quoted)
}

#[test]
fn an_error_about_a_segment_in_flight_reaches_the_client_in_its_own_terms() {
    let mut bench = Bench::new();
    bench.connect();
    bench.entry().tcp.shift = SeqShift {
        request_bytes: 200,
        reply_bytes: 3000,
    };
    let payload = [7; 600];
    let sent = bench.pass(Port::Lan, tcp_out(flags::ACK, 1201, 8001, &[], &payload));
    for quoted in [28, 576] {
        let back = bench.pass(Port::Wan, error_about(&sent, 3, 4, 1280, quoted));
        assert_eq!(
            (packet(&back).dst, &back[38..42]),
            (CLIENT, &[0, 0, 5, 0][..])
        );
        let inner = &back[42..];
        assert_eq!(
            (&inner[12..16], &inner[16..20]),
            (&CLIENT.octets()[..], &ORIGIN.octets()[..])
        );
        assert_eq!(
            checksum::finish(checksum::sum(&inner[..20])),
            0,
            "the quoted header is intact"
        );
        assert_eq!(
            (&inner[20..24], &inner[24..28]),
            (&[0x9c, 0x40, 0, 80][..], &1201u32.to_be_bytes()[..])
        );
    }
    assert_eq!(bench.router.counts.get(Counter::IcmpTranslated), 2);
}

#[test]
fn errors_that_prove_nothing_are_ignored() {
    let mut bench = Bench::new();
    bench.connect();
    let sent = bench.pass(
        Port::Lan,
        tcp_out(flags::ACK, 1001, 5001, &[], b"GET / HTTP/1.1"),
    );
    let ignored = |bench: &mut Bench, frame| bench.dropped(Port::Wan, frame, Counter::IcmpIgnored);
    ignored(&mut bench, error_about(&sent, 3, 4, 68, 28));
    ignored(&mut bench, error_about(&sent, 3, 4, 0, 28));
    ignored(&mut bench, error_about(&sent, 4, 0, 0, 28));
    ignored(&mut bench, error_about(&sent, 5, 1, 0, 28));
    ignored(&mut bench, error_about(&sent, 11, 0, 0, 27));
    let mut forged = sent.clone();
    forged[40] ^= 1;
    ignored(&mut bench, error_about(&forged, 3, 1, 0, 28));
    let mut corrupt = error_about(&sent, 3, 1, 0, 28);
    corrupt[60] ^= 1;
    ignored(&mut bench, corrupt);
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 1015, &[], b""));
    ignored(&mut bench, error_about(&sent, 3, 1, 0, 28));
}

#[test]
fn an_error_of_the_client_leaves_with_our_address() {
    let mut bench = Bench::new();
    bench.pass(
        Port::Lan,
        udp(true, (CLIENT, 500), (ORIGIN, 9000), b"question"),
    );
    let port = bench.router.conntrack.iter().next().unwrap().1.wan_port();
    let answer = bench.pass(
        Port::Wan,
        udp(false, (ORIGIN, 9000), (WAN, port), b"answer"),
    );
    let out = bench.pass(
        Port::Lan,
        icmp(true, CLIENT, ORIGIN, 3, 3, [0; 4], &answer[14..]),
    );
    assert_eq!((packet(&out).src, packet(&out).dst), (WAN, ORIGIN));
    let inner = &out[42..];
    assert_eq!(
        (&inner[12..16], &inner[16..20]),
        (&ORIGIN.octets()[..], &WAN.octets()[..])
    );
    assert_eq!(inner[22..24], port.to_be_bytes());
    assert_eq!(checksum::finish(checksum::sum(&inner[..20])), 0);
    let pseudo = checksum::pseudo_header(ORIGIN, WAN, PROTOCOL_UDP, 14);
    assert!(
        checksum::is_valid(checksum::combine(pseudo, checksum::sum(&inner[20..]))),
        "the quoted datagram is intact"
    );
}

#[test]
fn a_new_wan_address_ends_the_flows_of_the_old_one() {
    let mut bench = Bench::new();
    bench.connect();
    let cidr = Some(Ipv4Cidr::new(Ipv4Address::new(203, 0, 113, 9), 26));
    bench.router.set_address(
        Port::Wan,
        PortAddress {
            mac: WAN_MAC,
            cidr,
            gateway: Some(GATEWAY),
        },
    );
    assert!(bench.router.conntrack.is_empty());
    assert_eq!(bench.router.next_hop_mac(Port::Wan, ORIGIN), None);
}

#[test]
fn own_datagrams_leave_by_the_known_next_hop_or_wait() {
    let mut bench = Bench::cold();
    let fill = |ip: &mut [u8]| ip.fill(0x45);
    bench
        .router
        .send_ip(bench.now, Port::Wan, ORIGIN, 60, fill, &mut bench.out)
        .unwrap();
    assert_eq!(bench.out.take()[0].1[12..14], [8, 6]);
    bench.arp_request(Port::Wan, GATEWAY_MAC, GATEWAY, WAN);
    assert_eq!(
        bench.out.take()[0].1[..14],
        [&GATEWAY_MAC.0[..], &WAN_MAC.0, &[8, 0]].concat()
    );
    bench
        .router
        .send_ip(bench.now, Port::Wan, ORIGIN, 60, fill, &mut bench.out)
        .unwrap();
    assert_eq!(
        bench.out.take()[0].1[..15],
        [&GATEWAY_MAC.0[..], &WAN_MAC.0, &[8, 0, 0x45]].concat()
    );
    let nowhere = bench
        .router
        .send_ip(bench.now, Port::Air, ORIGIN, 60, fill, &mut bench.out);
    assert_eq!(nowhere, Err(Unsent));
}

proptest! {
    #[test]
    fn a_datagram_and_its_answer_come_through_unchanged(
        client in 2u8..255, client_port: u16, remote_port: u16, payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bench = Bench::cold();
        bench.arp_request(Port::Wan, GATEWAY_MAC, GATEWAY, WAN);
        let host = Ipv4Address::new(192, 168, 1, client);
        bench.arp_request(Port::Lan, CLIENT_MAC, host, ROUTER);
        let out = bench.pass(Port::Lan, udp(true, (host, client_port), (ORIGIN, remote_port), &payload));
        let Transport::Udp(there) = packet(&out).transport else { panic!() };
        prop_assert!((1..61_000).contains(&there.src_port));
        prop_assert_eq!((packet(&out).payload(&out), there.dst_port), (&payload[..], remote_port));
        let back = bench.pass(Port::Wan, udp(false, (ORIGIN, remote_port), (WAN, there.src_port), &payload));
        let mut wanted = udp(false, (ORIGIN, remote_port), (host, client_port), &payload);
        Ethernet { dst: CLIENT_MAC, src: LAN_MAC, ethertype: ETHERTYPE_IPV4 }.emit(&mut wanted);
        wanted[22] -= 1;
        prop_assert_eq!(back, fix_ip(wanted));
    }

    #[test]
    fn any_frames_are_survived_and_none_leaves_the_wan_with_a_private_source(
        frames in proptest::collection::vec((0usize..3, proptest::collection::vec(any::<u8>(), 0..80), 0u8..9, any::<u16>()), 1..60),
    ) {
        let mut bench = Bench::new();
        bench.forward(&[(Protocol::Udp, 8080, OTHER, 80), (Protocol::Tcp, 8080, OTHER, 80)]);
        bench.connect();
        for (port, bytes, shape, noise) in frames {
            let port = Port::ALL[port];
            let mut frame = match shape {
                0 => bytes,
                1 => tcp_out(noise as u8, 1001 + u32::from(noise >> 8), 5001, &[], &bytes),
                2 => tcp_in(noise as u8, 5001 + u32::from(noise >> 8), 1001, &[], &bytes),
                3 => icmp(noise & 1 == 0, if noise & 1 == 0 { CLIENT } else { GATEWAY }, if noise & 1 == 0 { ORIGIN } else { WAN },
                          (noise >> 8) as u8 % 16, noise as u8, [0; 4], &bytes),
                4 => {
                    let mut frame = udp(true, (CLIENT, noise), (ORIGIN, noise), &bytes);
                    let at = usize::from(noise) % frame.len();
                    frame[at] = bytes.first().copied().unwrap_or(0);
                    if noise & 1 == 0 { fix_ip(frame) } else { frame }
                }
                6 | 7 => {
                    // Pieces of few datagrams, of flows, of a forwarded port and of none.
                    let (src, dst) = if shape == 6 { (CLIENT, WAN) } else { (ORIGIN, WAN) };
                    let dst_port = [8080, 40_000, 9][usize::from(noise % 3)];
                    let mut frame = udp(shape == 6, (src, 40_000), (dst, dst_port), &bytes);
                    frame[23] = [6, 17, 1, 17][usize::from(noise >> 2) % 4];
                    frame[20] = (noise >> 8) as u8 & 0x60;
                    frame[21] = noise as u8 % 4;
                    fix_ip(frame)
                }
                8 => segment_of(noise & 1 == 0, (CLIENT, 40_000), (WAN, 8080), noise as u8, u32::from(noise >> 8), 1),
                _ => {
                    let mut frame = bytes;
                    frame.resize(42, 0);
                    Ethernet { dst: EthernetAddress::BROADCAST, src: CLIENT_MAC, ethertype: ETHERTYPE_ARP }.emit(&mut frame);
                    frame
                }
            };
            let verdict = bench.feed(port, &mut frame);
            let mut left: Vec<_> = bench.out.take().into_iter().collect();
            if let Verdict::Forward(to) = verdict {
                left.push((to, frame));
            }
            for (to, frame) in left {
                if to == Port::Wan && frame[12..14] == [8, 0] {
                    prop_assert_eq!(packet(&frame).src, WAN);
                }
            }
            bench.now += smoltcp::time::Duration::from_millis(u64::from(noise));
            bench.router.poll(bench.now, &mut bench.out);
        }
        bench.router.conntrack.check();
        bench.router.neighbors.check();
    }
}

#[test]
fn the_panel_shows_the_line_and_a_long_press_brings_the_factorys_settings_back() {
    let mut bench = Bench::new();
    let panel = bench.router.panel();
    assert!(panel.wan && panel.lan && panel.air && !panel.peer);
    assert_eq!(panel.text, "UP");
    bench.router.set_address(
        Port::Wan,
        PortAddress {
            mac: WAN_MAC,
            cidr: None,
            gateway: None,
        },
    );
    assert_eq!(bench.router.panel().text, "NO WAN");
    let mut settings = bench.router.settings;
    settings.set("lan.address", "192.168.7.1/24").unwrap();
    bench.router.apply_settings(&settings);
    let short = crate::button::Press::Reboot;
    assert_eq!(bench.router.on_press(short), Action::Reboot);
    assert_eq!(bench.router.settings, settings);
    let long = crate::button::Press::Defaults;
    assert_eq!(bench.router.on_press(long), Action::Reboot);
    assert_eq!(bench.router.settings, Settings::new());
}
