use super::wire::HEADERS;
use super::*;
use crate::neighbor::tests::Sent;
use crate::port::Port;
use proptest::prelude::*;
use smoltcp::phy;
use smoltcp::wire::{
    DhcpPacket, DhcpRepr, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr,
    UdpPacket, UdpRepr,
};
use std::vec::Vec;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const STATION: EthernetAddress = EthernetAddress([2, 0, 0, 0, 9, 1]);
const SERVER: Ipv4Address = Ipv4Address::new(203, 0, 113, 1);
const ADDRESS: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const OTHER: Ipv4Address = Ipv4Address::new(203, 0, 113, 9);
const LAN: Ipv4Cidr = Ipv4Cidr::new(Ipv4Address::new(192, 168, 1, 1), 24);
const AIR: Ipv4Cidr = Ipv4Cidr::new(Ipv4Address::new(10, 77, 0, 1), 16);
const HOUR: u32 = 3600;

type Options = Vec<(u8, Vec<u8>)>;

/// A message of the client as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    kind: DhcpMessageType,
    xid: u32,
    src: Ipv4Address,
    dst: Ipv4Address,
    station: EthernetAddress,
    client: Ipv4Address,
    requested: Option<Ipv4Address>,
    server: Option<Ipv4Address>,
}

fn read(frame: &[u8]) -> Asked {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    assert_eq!(ethernet.src_addr(), MAC);
    let packet = Packet::parse(frame).unwrap();
    assert!(packet.transport_checksum_ok(frame));
    let Transport::Udp(udp) = &packet.transport else {
        panic!("not UDP")
    };
    assert_eq!((udp.src_port, udp.dst_port), (CLIENT_PORT, SERVER_PORT));
    let message = DhcpPacket::new_checked(packet.payload(frame)).unwrap();
    let repr = DhcpRepr::parse(&message).unwrap();
    assert!(!repr.broadcast);
    assert_eq!(repr.client_hardware_address, MAC);
    Asked {
        kind: repr.message_type,
        xid: repr.transaction_id,
        src: packet.src,
        dst: packet.dst,
        station: ethernet.dst_addr(),
        client: repr.client_ip,
        requested: repr.requested_ip,
        server: repr.server_identifier,
    }
}

/// A DHCP message byte by byte, so that nothing that can be wrong is left out.
fn message(op: u8, xid: u32, address: Ipv4Address, mac: EthernetAddress, tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..3].copy_from_slice(&[op, 1, 6]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[16..20].copy_from_slice(&address.octets());
    bytes[28..34].copy_from_slice(&mac.0);
    bytes[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    bytes.extend_from_slice(tail);
    bytes
}

/// A datagram from port 67 to port 68 in a frame to the client.
fn frame(src: Ipv4Address, dst: Ipv4Address, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr {
        src_port: SERVER_PORT,
        dst_port: CLIENT_PORT,
    };
    let ip = Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; HEADERS + payload.len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr {
        src_addr: STATION,
        dst_addr: MAC,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut ethernet);
    let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    let checksums = phy::ChecksumCapabilities::default();
    ip.emit(&mut packet, &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &src.into(),
        &dst.into(),
        payload.len(),
        |body| body.copy_from_slice(payload),
        &checksums,
    );
    bytes
}

fn flat(options: &Options) -> Vec<u8> {
    let mut tail = Vec::new();
    for (code, value) in options {
        tail.extend_from_slice(&[*code, value.len() as u8]);
        tail.extend_from_slice(value);
    }
    tail.push(option::END);
    tail
}

fn set(options: &mut Options, code: u8, value: &[u8]) {
    options.retain(|(other, _)| *other != code);
    options.push((code, value.to_vec()));
}

/// What a good server says: an hour, /26, itself as gateway and resolver.
fn good() -> Options {
    vec![
        (option::SERVER_ID, SERVER.octets().to_vec()),
        (option::LEASE_TIME, HOUR.to_be_bytes().to_vec()),
        (option::SUBNET_MASK, vec![255, 255, 255, 192]),
        (option::ROUTER, SERVER.octets().to_vec()),
        (option::DNS, SERVER.octets().to_vec()),
    ]
}

fn with(code: u8, value: &[u8]) -> Options {
    let mut options = good();
    set(&mut options, code, value);
    options
}

fn without(code: u8) -> Options {
    let mut options = good();
    options.retain(|(other, _)| *other != code);
    options
}

struct Bench {
    client: Client<'static>,
    out: Sent,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let storage = Box::leak(Box::new(Storage::new()));
        let now = Instant::from_secs(5);
        let mut client = Client::new(storage, MAC, 0x1234_5678_9abc_def0);
        client.restart(now);
        Self {
            client,
            out: Sent::new(),
            now,
        }
    }

    /// Runs what is due now; gives what was sent.
    fn poll(&mut self) -> Vec<Asked> {
        self.client.poll(self.now, &mut self.out);
        self.sent()
    }

    fn sent(&mut self) -> Vec<Asked> {
        let frames = self.out.take();
        assert!(frames.iter().all(|(port, _)| *port == Port::Wan));
        frames.iter().map(|(_, frame)| read(frame)).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.client.poll_event()).collect()
    }

    /// Lets the time pass to `end`, in the client's own steps; gives what was sent and when.
    fn until(&mut self, end: Instant) -> Vec<(Instant, Asked)> {
        let mut sent = Vec::new();
        for _step in 0..100_000 {
            match self.client.poll_at() {
                Some(at) if at <= end => self.now = self.now.max(at),
                Some(_) | None => {
                    self.now = end;
                    return sent;
                }
            }
            let now = self.now;
            sent.extend(self.poll().into_iter().map(|asked| (now, asked)));
        }
        panic!("the client spins");
    }

    fn pass(&mut self, seconds: u64) -> Vec<(Instant, Asked)> {
        self.until(self.now + Duration::from_secs(seconds))
    }

    fn feed(&mut self, frame: &[u8]) -> Vec<Asked> {
        self.client
            .on_frame(self.now, frame, &[LAN, AIR], &mut self.out);
        self.sent()
    }

    fn say(&mut self, kind: u8, xid: u32, address: Ipv4Address, options: &Options) -> Vec<Asked> {
        let mut all = vec![(option::MESSAGE_TYPE, vec![kind])];
        all.extend_from_slice(options);
        // Unicast to the address that is being given, as RFC 2131 has it without the broadcast flag.
        let message = message(2, xid, address, MAC, &flat(&all));
        self.feed(&frame(SERVER, address, &message))
    }

    fn offer(&mut self, xid: u32, address: Ipv4Address, options: &Options) -> Vec<Asked> {
        self.say(2, xid, address, options)
    }

    fn ack(&mut self, xid: u32, address: Ipv4Address, options: &Options) -> Vec<Asked> {
        self.say(5, xid, address, options)
    }

    fn nak(&mut self, xid: u32) -> Vec<Asked> {
        let server = vec![(option::SERVER_ID, SERVER.octets().to_vec())];
        self.say(6, xid, Ipv4Address::UNSPECIFIED, &server)
    }

    /// From DISCOVER to the acknowledgment.
    fn obtain(&mut self, address: Ipv4Address, options: &Options) -> Vec<Event> {
        let discover = self.poll();
        assert_eq!(discover.len(), 1, "{discover:?}");
        self.obtain_by(&discover[0], address, options)
    }

    fn obtain_by(
        &mut self,
        discover: &Asked,
        address: Ipv4Address,
        options: &Options,
    ) -> Vec<Event> {
        assert_eq!(discover.kind, DhcpMessageType::Discover);
        let request = self.offer(discover.xid, address, options);
        if let [request] = &request[..] {
            assert_eq!(request.kind, DhcpMessageType::Request);
            assert_eq!(request.requested, Some(address));
            self.ack(request.xid, address, options);
        }
        self.events()
    }

    /// A client with the good lease.
    fn bound() -> Self {
        let mut bench = Self::new();
        let events = bench.obtain(ADDRESS, &good());
        assert!(matches!(events[..], [Event::Leased(_)]), "{events:?}");
        bench
    }
}

fn leased(events: &[Event]) -> Lease {
    match events {
        [Event::Leased(lease)] => *lease,
        _ => panic!("no lease: {events:?}"),
    }
}

fn refused(events: &[Event]) -> Refusal {
    match events {
        [Event::Refused { why, .. }] => *why,
        _ => panic!("not refused: {events:?}"),
    }
}

#[test]
fn a_lease_is_asked_for_at_once_and_taken_with_all_its_values() {
    let mut bench = Bench::new();
    assert_eq!(bench.client.poll_at(), Some(bench.now));
    let mut options = good();
    set(&mut options, option::MTU, &1492u16.to_be_bytes());
    set(
        &mut options,
        option::DNS,
        &[9, 9, 9, 9, 0, 0, 0, 0, 8, 8, 8, 8, 1, 1, 1, 1, 4, 4, 4, 4],
    );
    // Two gateways: the first counts.
    set(
        &mut options,
        option::ROUTER,
        &[203, 0, 113, 1, 203, 0, 113, 3],
    );
    let discover = bench.poll().remove(0);
    assert_eq!(discover.src, Ipv4Address::UNSPECIFIED);
    assert_eq!(discover.dst, Ipv4Address::BROADCAST);
    assert_eq!(discover.station, EthernetAddress::BROADCAST);
    let request = bench.offer(discover.xid, ADDRESS, &options).remove(0);
    assert_eq!(request.server, Some(SERVER));
    assert_eq!(request.dst, Ipv4Address::BROADCAST);
    assert_eq!(request.xid, discover.xid);
    bench.ack(request.xid, ADDRESS, &options);
    let lease = leased(&bench.events());
    assert_eq!(lease.address, Ipv4Cidr::new(ADDRESS, 26));
    assert_eq!(lease.gateway, Some(SERVER));
    assert_eq!(
        lease.dns,
        [
            Some(Ipv4Address::new(9, 9, 9, 9)),
            Some(Ipv4Address::new(8, 8, 8, 8)),
            Some(Ipv4Address::new(1, 1, 1, 1))
        ]
    );
    assert_eq!(lease.mtu, Some(1492));
    assert_eq!(lease.t1, Duration::from_secs(1800));
    assert_eq!(lease.t2, Duration::from_secs(3150));
    assert_eq!(lease.duration, Duration::from_secs(3600));
    assert_eq!(bench.client.lease(), Some(&lease));
    assert_eq!(bench.client.poll_at(), Some(bench.now + lease.t1));
}

#[test]
fn silence_is_met_by_discovers_further_and_further_apart() {
    let mut bench = Bench::new();
    let start = bench.now;
    let sent = bench.pass(200);
    let at: Vec<u64> = sent.iter().map(|(at, _)| (*at - start).secs()).collect();
    assert_eq!(at[0], 0);
    assert!((3..=5).contains(&at[1]), "{at:?}");
    assert!((7..=9).contains(&(at[2] - at[1])), "{at:?}");
    let gaps = at.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap <= 33), "{at:?}");
    assert!((7..=9).contains(&at.len()), "{at:?}");
    let mut xids: Vec<u32> = sent.iter().map(|(_, asked)| asked.xid).collect();
    xids.sort_unstable();
    xids.dedup();
    assert_eq!(xids.len(), sent.len());
}

#[test]
fn a_renewal_goes_by_unicast_to_the_server_without_a_question_on_the_line() {
    let mut bench = Bench::bound();
    let start = bench.now;
    let sent = bench.pass(1800);
    assert_eq!(sent.len(), 1, "{sent:?}");
    let (at, request) = &sent[0];
    assert_eq!(*at - start, Duration::from_secs(1800));
    assert_eq!(request.kind, DhcpMessageType::Request);
    assert_eq!((request.src, request.client), (ADDRESS, ADDRESS));
    assert_eq!((request.dst, request.station), (SERVER, STATION));
    assert_eq!((request.requested, request.server), (None, None));
    bench.ack(request.xid, ADDRESS, &good());
    let events = bench.events();
    assert!(matches!(events[..], [Event::Renewed(_)]), "{events:?}");
    assert_eq!(
        bench.client.poll_at(),
        Some(bench.now + Duration::from_secs(1800))
    );
}

#[test]
fn a10_renewals_that_are_lost_are_repeated_then_broadcast_then_the_lease_ends() {
    let mut bench = Bench::bound();
    let start = bench.now;
    let sent = bench.until(start + Duration::from_secs(3599));
    let (unicast, broadcast): (Vec<_>, Vec<_>) =
        sent.iter().partition(|(_, asked)| asked.dst == SERVER);
    assert!(unicast.len() >= 3 && broadcast.len() >= 2, "{sent:?}");
    for (at, asked) in &broadcast {
        assert!(*at - start >= Duration::from_secs(3150));
        assert_eq!(asked.dst, Ipv4Address::BROADCAST);
        assert_eq!(asked.client, ADDRESS);
    }
    for kind in [unicast, broadcast] {
        let mut gaps = kind.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.all(|gap| gap >= Duration::from_secs(60)), "{kind:?}");
    }
    assert_eq!(bench.events(), []);
    // The end is told at its second, and a new lease is looked for at once.
    let sent = bench.pass(1);
    assert_eq!(bench.events(), [Event::Lost(Lost::Expired)]);
    assert_eq!(bench.client.lease(), None);
    let discover = &sent[0].1;
    assert_eq!(discover.kind, DhcpMessageType::Discover);
    assert_eq!(discover.src, Ipv4Address::UNSPECIFIED);
    assert!(matches!(
        bench.obtain_by(&discover.clone(), OTHER, &good())[..],
        [Event::Leased(_)]
    ));
}

#[test]
fn a10_a_broadcast_renewal_may_be_answered_by_another_server() {
    let mut bench = Bench::bound();
    let sent = bench.pass(3200);
    let last = sent.last().unwrap().1.clone();
    assert_eq!(last.dst, Ipv4Address::BROADCAST);
    bench.ack(
        last.xid,
        ADDRESS,
        &with(option::SERVER_ID, &[203, 0, 113, 7]),
    );
    assert!(matches!(bench.events()[..], [Event::Renewed(_)]));
}

#[test]
fn a10_a_lease_of_no_second_or_one_is_refused() {
    for seconds in [0u32, 1, 9] {
        let mut bench = Bench::new();
        let options = with(option::LEASE_TIME, &seconds.to_be_bytes());
        assert_eq!(
            refused(&bench.obtain(ADDRESS, &options)),
            Refusal::LeaseTime
        );
        let sent = bench.pass(600);
        assert!(sent.len() < 25, "{} messages in ten minutes", sent.len());
    }
}

#[test]
fn a10_a_lease_of_ten_seconds_is_kept_by_renewals() {
    let mut bench = Bench::new();
    let options = with(option::LEASE_TIME, &10u32.to_be_bytes());
    leased(&bench.obtain(ADDRESS, &options));
    for _ in 0..50 {
        // The first request is lost each time.
        let sent = bench.pass(8);
        assert!(sent.len() >= 2, "{sent:?}");
        bench.ack(sent.last().unwrap().1.xid, ADDRESS, &options);
        let events = bench.events();
        assert!(matches!(events[..], [Event::Renewed(_)]), "{events:?}");
    }
}

#[test]
fn a10_a_short_lease_is_asked_for_several_times_before_it_ends() {
    let mut bench = Bench::new();
    let options = with(option::LEASE_TIME, &120u32.to_be_bytes());
    leased(&bench.obtain(ADDRESS, &options));
    let sent = bench.pass(119);
    assert!((4..10).contains(&sent.len()), "{sent:?}");
    assert_eq!(bench.events(), []);
}

#[test]
fn what_is_left_of_a_lease_shrinks_until_it_is_renewed() {
    let mut bench = Bench::new();
    assert_eq!(bench.client.lease_left(bench.now), None);
    bench.obtain(ADDRESS, &good());
    let left = |bench: &Bench| bench.client.lease_left(bench.now).map(|left| left.secs());
    assert_eq!(left(&bench), Some(u64::from(HOUR)));
    let asked = bench.pass(1800);
    assert_eq!(left(&bench), Some(1800));
    bench.ack(asked[0].1.xid, ADDRESS, &good());
    assert_eq!(left(&bench), Some(u64::from(HOUR)));
    let forever = with(option::LEASE_TIME, &[0xff; 4]);
    let mut bench = Bench::new();
    bench.obtain(ADDRESS, &forever);
    assert_eq!(left(&bench), None);
}

#[test]
fn a10_an_infinite_lease_is_never_renewed_and_never_ends() {
    let mut bench = Bench::new();
    let options = with(option::LEASE_TIME, &u32::MAX.to_be_bytes());
    assert!(leased(&bench.obtain(ADDRESS, &options)).is_infinite());
    assert_eq!(bench.pass(20 * 365 * 86_400), []);
    assert_eq!(bench.events(), []);
}

#[test]
fn a10_times_out_of_order_are_replaced() {
    for (t1, t2) in [
        (3000u32, 2000u32),
        (0, 1),
        (1, 3599),
        (1800, 3600),
        (u32::MAX, u32::MAX),
        (1800, 1800),
        (4000, 5000),
    ] {
        let mut bench = Bench::new();
        let mut options = with(option::T1, &t1.to_be_bytes());
        set(&mut options, option::T2, &t2.to_be_bytes());
        let lease = leased(&bench.obtain(ADDRESS, &options));
        assert_eq!((lease.t1.secs(), lease.t2.secs()), (1800, 3150));
        assert_eq!(bench.pass(1799), []);
    }
    let mut bench = Bench::new();
    let mut options = with(option::T1, &600u32.to_be_bytes());
    set(&mut options, option::T2, &1200u32.to_be_bytes());
    let lease = leased(&bench.obtain(ADDRESS, &options));
    assert_eq!((lease.t1.secs(), lease.t2.secs()), (600, 1200));
    let start = bench.now;
    let sent = bench.pass(1200);
    let broadcast = sent.iter().find(|(_, asked)| asked.dst != SERVER);
    assert_eq!(sent[0].0 - start, lease.t1);
    assert_eq!(broadcast.unwrap().0 - start, lease.t2);
}

#[test]
fn a10_masks_that_no_line_has_are_refused() {
    for mask in [
        [0u8, 0, 0, 0],
        [128, 0, 0, 0],
        [254, 0, 0, 0],
        [255, 0, 255, 0],
        [0, 0, 0, 255],
        [255, 255, 255, 193],
    ] {
        let mut bench = Bench::new();
        let events = bench.obtain(ADDRESS, &with(option::SUBNET_MASK, &mask));
        assert_eq!(refused(&events), Refusal::Mask, "{mask:?}");
    }
}

#[test]
fn a10_nets_of_two_addresses_and_of_one_are_used() {
    for (mask, prefix) in [([255u8, 255, 255, 254], 31), ([255; 4], 32)] {
        let mut bench = Bench::new();
        let lease = leased(&bench.obtain(ADDRESS, &with(option::SUBNET_MASK, &mask)));
        assert_eq!(lease.address, Ipv4Cidr::new(ADDRESS, prefix));
        // The gateway is outside its net: a host of the link all the same.
        assert_eq!(lease.gateway, Some(SERVER));
        let sent = bench.pass(1800);
        assert_eq!(sent[0].1.dst, SERVER);
    }
    // No mask at all: everything goes by the gateway.
    let mut bench = Bench::new();
    let lease = leased(&bench.obtain(ADDRESS, &without(option::SUBNET_MASK)));
    assert_eq!(lease.address.prefix_len(), 32);
    // A net of one address without a gateway leads nowhere; the offer alone may still lack it.
    let mut bench = Bench::new();
    let mut options = with(option::SUBNET_MASK, &[255; 4]);
    options.retain(|(code, _)| *code != option::ROUTER);
    assert_eq!(refused(&bench.obtain(ADDRESS, &options)), Refusal::Gateway);
}

#[test]
fn a10_a_gateway_outside_the_net_is_a_host_of_the_link() {
    let mut bench = Bench::new();
    let lease = leased(&bench.obtain(ADDRESS, &with(option::ROUTER, &[198, 18, 0, 1])));
    assert_eq!(lease.gateway, Some(Ipv4Address::new(198, 18, 0, 1)));
    for gateway in [
        [0u8, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [169, 254, 1, 1],
        ADDRESS.octets(),
        [192, 168, 1, 77],
        [10, 77, 3, 3],
    ] {
        let mut bench = Bench::new();
        let events = bench.obtain(ADDRESS, &with(option::ROUTER, &gateway));
        assert_eq!(refused(&events), Refusal::Gateway, "{gateway:?}");
    }
}

#[test]
fn a10_no_gateway_still_gives_the_line() {
    let mut bench = Bench::new();
    assert_eq!(
        leased(&bench.obtain(ADDRESS, &without(option::ROUTER))).gateway,
        None
    );
}

#[test]
fn a10_a_net_equal_to_or_overlapping_our_own_is_refused_once() {
    for (address, mask) in [
        ([192u8, 168, 1, 50], [255u8, 255, 255, 0]),
        ([192, 168, 1, 1], [255, 255, 255, 0]),
        ([192, 168, 200, 50], [255, 255, 0, 0]),
        ([192, 168, 1, 50], [255, 255, 255, 252]),
        ([192, 168, 1, 50], [255; 4]),
        ([10, 1, 2, 3], [255, 0, 0, 0]),
        ([10, 77, 200, 1], [255, 255, 255, 0]),
    ] {
        let mut bench = Bench::new();
        let address = Ipv4Address::from(address);
        let mut options = with(option::SUBNET_MASK, &mask);
        set(&mut options, option::ROUTER, &SERVER.octets());
        let events = bench.obtain(address, &options);
        assert_eq!(refused(&events), Refusal::Overlap, "{address}");
        // The next offers are refused too, but the console has one line.
        for _ in 0..5 {
            let sent = bench.pass(40);
            let xid = sent.last().unwrap().1.xid;
            assert_eq!(bench.offer(xid, address, &options), []);
        }
        assert_eq!(bench.events(), []);
        // Another server is listened to all the while.
        let sent = bench.pass(40);
        let discover = sent.last().unwrap().1.clone();
        leased(&bench.obtain_by(&discover, ADDRESS, &good()));
    }
}

#[test]
fn a10_an_address_that_no_host_has_is_refused() {
    for address in [
        [0u8, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 5],
        [255; 4],
        [240, 0, 0, 1],
        [169, 254, 7, 7],
        [203, 0, 113, 0],
        [203, 0, 113, 63],
        SERVER.octets(),
    ] {
        let mut bench = Bench::new();
        let why = refused(&bench.obtain(Ipv4Address::from(address), &good()));
        let expected = if address == SERVER.octets() {
            Refusal::NoServer
        } else {
            Refusal::Address
        };
        assert_eq!(why, expected, "{address:?}");
    }
}

#[test]
fn a10_a_server_without_identifier_or_with_an_absurd_one_is_refused() {
    let mut bench = Bench::new();
    let events = bench.obtain(ADDRESS, &without(option::SERVER_ID));
    assert_eq!(refused(&events), Refusal::NoServer);
    // smoltcp would take 0.0.0.0 and end in an assertion at the first renewal.
    for server in [[0u8; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
        let mut bench = Bench::new();
        let events = bench.obtain(ADDRESS, &with(option::SERVER_ID, &server));
        assert_eq!(refused(&events), Refusal::NoServer, "{server:?}");
    }
}

#[test]
fn a10_a_server_that_sends_from_no_address_is_renewed_by_its_identifier() {
    let mut bench = Bench::new();
    let discover = bench.poll().remove(0);
    let say = |kind: u8, xid| {
        let mut options = vec![(option::MESSAGE_TYPE, vec![kind])];
        options.extend(good());
        let message = message(2, xid, ADDRESS, MAC, &flat(&options));
        frame(Ipv4Address::UNSPECIFIED, Ipv4Address::BROADCAST, &message)
    };
    let request = bench.feed(&say(2, discover.xid)).remove(0);
    bench.feed(&say(5, request.xid));
    leased(&bench.events());
    assert_eq!(bench.pass(1800)[0].1.dst, SERVER);
}

#[test]
fn a10_sixty_options_and_options_in_the_name_fields_are_read() {
    let mut bench = Bench::new();
    let mut options: Options = (0..60)
        .map(|i| (100 + i, vec![i; usize::from(i % 9)]))
        .collect();
    options.extend(good());
    // Whoever is asked twice, the first answer counts.
    options.extend(with(option::ROUTER, &[192, 168, 1, 1]));
    leased(&bench.obtain(ADDRESS, &options));

    let mut bench = Bench::new();
    let discover = bench.poll().remove(0);
    let overloaded = |kind: u8, xid| {
        let tail = flat(&vec![
            (option::MESSAGE_TYPE, vec![kind]),
            (option::OVERLOAD, vec![3]),
            (option::SERVER_ID, SERVER.octets().to_vec()),
        ]);
        let mut message = message(2, xid, ADDRESS, MAC, &tail);
        let file = flat(&vec![
            (option::LEASE_TIME, HOUR.to_be_bytes().to_vec()),
            (option::SUBNET_MASK, vec![255, 255, 255, 192]),
        ]);
        message[108..108 + file.len()].copy_from_slice(&file);
        let name = flat(&vec![(option::ROUTER, SERVER.octets().to_vec())]);
        message[44..44 + name.len()].copy_from_slice(&name);
        frame(SERVER, ADDRESS, &message)
    };
    let request = bench.feed(&overloaded(2, discover.xid)).remove(0);
    bench.feed(&overloaded(5, request.xid));
    let lease = leased(&bench.events());
    assert_eq!(lease.address.prefix_len(), 26);
    assert_eq!(lease.gateway, Some(SERVER));
    assert_eq!(lease.duration.secs(), u64::from(HOUR));
}

#[test]
fn a10_a_nak_ends_the_lease_only_when_something_was_asked() {
    let mut bench = Bench::bound();
    let old = bench.client.xid.unwrap();
    // Nothing was asked since the acknowledgment: forged or late.
    assert_eq!(bench.nak(old), []);
    assert_eq!(bench.events(), []);
    assert!(bench.client.lease().is_some());
    let xid = bench.pass(1800)[0].1.xid;
    bench.nak(xid.wrapping_add(1));
    assert_eq!(bench.events(), []);
    let sent = bench.nak(xid);
    assert_eq!(bench.events(), [Event::Lost(Lost::Nak)]);
    assert_eq!(bench.client.lease(), None);
    // A new one is looked for at once.
    assert_eq!(sent[0].kind, DhcpMessageType::Discover);
    leased(&bench.obtain_by(&sent[0], OTHER, &good()));
}

#[test]
fn a10_a_server_that_offers_and_refuses_in_turn_gets_few_messages() {
    let mut bench = Bench::new();
    let end = bench.now + Duration::from_secs(600);
    let mut count = 0;
    let mut waiting = bench.poll();
    for _round in 0..1000 {
        count += waiting.len();
        let Some(asked) = waiting.pop() else {
            match bench.client.poll_at() {
                Some(at) if at <= end => bench.now = at,
                Some(_) | None => break,
            }
            waiting = bench.poll();
            continue;
        };
        waiting = match asked.kind {
            DhcpMessageType::Discover => bench.offer(asked.xid, ADDRESS, &good()),
            _ => bench.nak(asked.xid),
        };
    }
    assert!((20..60).contains(&count), "{count} messages");
    assert_eq!(bench.events(), []);
}

#[test]
fn a10_an_acknowledgment_worse_than_its_offer_is_not_used() {
    let mut bench = Bench::new();
    let discover = bench.poll().remove(0);
    let request = bench.offer(discover.xid, ADDRESS, &good()).remove(0);
    let sent = bench.ack(request.xid, Ipv4Address::new(192, 168, 1, 1), &good());
    assert_eq!((sent, refused(&bench.events())), (vec![], Refusal::Overlap));
    let sent = bench.pass(120);
    assert!((2..12).contains(&sent.len()), "{sent:?}");
    assert!(bench.client.lease().is_none());
}

#[test]
fn a10_a_renewal_that_becomes_unusable_leaves_the_lease_to_its_end() {
    let mut bench = Bench::bound();
    let xid = bench.pass(1800)[0].1.xid;
    bench.ack(xid, ADDRESS, &with(option::LEASE_TIME, &0u32.to_be_bytes()));
    assert_eq!(refused(&bench.events()), Refusal::LeaseTime);
    assert!(bench.client.lease().is_some());
    bench.pass(1800);
    assert_eq!(bench.events(), [Event::Lost(Lost::Expired)]);
}

#[test]
fn a10_a_lease_that_is_shortened_or_changed_is_followed() {
    let mut bench = Bench::bound();
    let xid = bench.pass(1800)[0].1.xid;
    bench.ack(
        xid,
        ADDRESS,
        &with(option::LEASE_TIME, &120u32.to_be_bytes()),
    );
    let events = bench.events();
    let [Event::Renewed(lease)] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((lease.t1.secs(), lease.duration.secs()), (60, 120));
    let sent = bench.pass(60);
    assert_eq!(sent.len(), 1);
    // Another gateway is another way out: told as a lease.
    bench.ack(
        sent[0].1.xid,
        ADDRESS,
        &with(option::ROUTER, &[203, 0, 113, 3]),
    );
    assert!(leased(&bench.events()).gateway == Some(Ipv4Address::new(203, 0, 113, 3)));
    let sent = bench.pass(1800);
    bench.ack(sent[0].1.xid, OTHER, &good());
    assert_eq!(leased(&bench.events()).address.address(), OTHER);
    // From now on renewals come from the new address.
    assert_eq!(bench.pass(1800)[0].1.src, OTHER);
}

#[test]
fn s6_a_renewed_lease_disturbs_nothing_and_a_changed_one_is_told() {
    let mut bench = Bench::bound();
    for round in 0..100u32 {
        let sent = bench.pass(1800);
        let options = with(option::DNS, &[9, 9, 9, (round % 3) as u8 + 1]);
        bench.ack(sent[0].1.xid, ADDRESS, &options);
        assert!(matches!(bench.events()[..], [Event::Renewed(_)]));
    }
    let sent = bench.pass(1800);
    bench.ack(sent[0].1.xid, OTHER, &good());
    assert_eq!(leased(&bench.events()).address.address(), OTHER);
}

#[test]
fn a10_messages_for_others_or_from_other_servers_are_strays() {
    let mut bench = Bench::new();
    let discover = bench.poll().remove(0);
    let mut options = vec![(option::MESSAGE_TYPE, vec![2])];
    options.extend(good());
    let other = EthernetAddress([2, 0, 0, 0, 0, 66]);
    let message_to_other = message(2, discover.xid, ADDRESS, other, &flat(&options));
    assert_eq!(bench.feed(&frame(SERVER, ADDRESS, &message_to_other)), []);
    let question = message(1, discover.xid, ADDRESS, MAC, &flat(&options));
    assert_eq!(bench.feed(&frame(SERVER, ADDRESS, &question)), []);
    assert_eq!(bench.offer(discover.xid ^ 1, ADDRESS, &good()), []);
    assert_eq!(bench.ack(discover.xid, ADDRESS, &good()), []);
    assert_eq!(bench.nak(discover.xid), []);
    let mut wrong = frame(
        SERVER,
        ADDRESS,
        &message(2, discover.xid, ADDRESS, MAC, &flat(&options)),
    );
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(bench.feed(&wrong), []);
    let request = bench.offer(discover.xid, ADDRESS, &good()).remove(0);
    let stranger = with(option::SERVER_ID, &[203, 0, 113, 7]);
    assert_eq!(bench.ack(request.xid, ADDRESS, &stranger), []);
    assert_eq!(bench.offer(request.xid, OTHER, &good()), []);
    assert_eq!(bench.events(), []);
    assert!(bench.client.lease().is_none());
    bench.ack(request.xid, ADDRESS, &good());
    leased(&bench.events());
}

#[test]
fn a_full_port_delays_the_client_and_does_not_make_it_spin() {
    let mut bench = Bench::new();
    bench.out.room = 0;
    let start = bench.now;
    assert_eq!(bench.pass(10), []);
    assert!(bench.client.counts().get(Counter::NoRoom) <= 101);
    bench.out.room = usize::MAX;
    let sent = bench.pass(1);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].0 > start);
}

#[test]
fn stopping_and_restarting_tell_the_end_of_the_lease() {
    let mut bench = Bench::bound();
    bench.client.stop();
    assert_eq!(bench.events(), [Event::Lost(Lost::Stopped)]);
    assert_eq!(bench.client.poll_at(), None);
    assert_eq!(bench.pass(10_000), []);
    assert_eq!(
        bench.ack(bench.client.xid.unwrap_or(0), ADDRESS, &good()),
        []
    );
    bench.client.restart(bench.now);
    leased(&bench.obtain(ADDRESS, &good()));
    bench.client.restart(bench.now);
    assert_eq!(bench.events(), [Event::Lost(Lost::Restarted)]);
    leased(&bench.obtain(OTHER, &good()));
}

#[test]
fn s14_two_hundred_days_of_renewals_pass_every_clock_limit() {
    let mut bench = Bench::bound();
    let start = bench.now;
    // Past 2^31 and 2^32 ms (49.7 days) and many times 2^32 µs.
    while bench.now - start < Duration::from_secs(200 * 86_400) {
        let sent = bench.pass(1800);
        assert_eq!(sent.len(), 1);
        bench.ack(sent[0].1.xid, ADDRESS, &good());
        assert!(matches!(bench.events()[..], [Event::Renewed(_)]));
    }
    assert_eq!(bench.client.counts().get(Counter::Discover), 1);
}

proptest! {
    #[test]
    fn a10_random_bytes_behind_the_header_never_panic(
        kind in 0u8..9,
        address: [u8; 4],
        tail in proptest::collection::vec(any::<u8>(), 0..700),
        codes in proptest::collection::vec((prop_oneof![Just(1u8), Just(3), Just(6), Just(26), Just(51), Just(52), Just(54), Just(58), Just(59), any::<u8>()],
            proptest::collection::vec(any::<u8>(), 0..9)), 0..60),
        cut in 0usize..1000,
    ) {
        for is_bound in [false, true] {
            let mut bench = if is_bound { Bench::bound() } else { Bench::new() };
            let sent = bench.pass(1800);
            let xid = sent.last().unwrap().1.xid;
            let mut options = vec![(option::MESSAGE_TYPE, vec![kind])];
            options.extend(codes.clone());
            options.extend(good());
            let mut payload = message(2, xid, Ipv4Address::from(address), MAC, &flat(&options));
            bench.feed(&frame(SERVER, ADDRESS, &payload));
            payload.extend_from_slice(&tail);
            payload.truncate(cut);
            bench.feed(&frame(SERVER, ADDRESS, &payload));
            let sent = bench.pass(4000);
            prop_assert!(sent.len() < 1500);
        }
    }
}
