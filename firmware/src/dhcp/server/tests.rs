//! The server by messages: what a client of each kind gets, and what a hostile one does not.

mod hostile;
mod model;
mod storing;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::budget::{DECLINED_TIMEOUT, OFFER_TIMEOUT};
use crate::settings::Reservation;

const SERVER: Ipv4Address = Ipv4Address::new(192, 168, 1, 1);
const NOBODY: Ipv4Address = Ipv4Address::UNSPECIFIED;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

fn host(last: u8) -> Ipv4Address {
    Ipv4Address::new(192, 168, 1, last)
}

fn mac(number: u16) -> EthernetAddress {
    let [high, low] = number.to_be_bytes();
    EthernetAddress([0x02, 0, 0, 0, high, low])
}

/// A client's message, written by hand as RFC 2131 figure 1 has it.
#[derive(Clone, Debug)]
struct Ask {
    kind: u8,
    mac: EthernetAddress,
    station: EthernetAddress,
    flags: u16,
    ciaddr: Ipv4Address,
    giaddr: Ipv4Address,
    options: Vec<u8>,
    from: Ipv4Address,
}

impl Ask {
    fn new(kind: u8, number: u16) -> Self {
        Self {
            kind,
            mac: mac(number),
            station: mac(number),
            flags: 0,
            ciaddr: NOBODY,
            giaddr: NOBODY,
            options: Vec::new(),
            from: NOBODY,
        }
    }

    fn option(mut self, code: u8, data: &[u8]) -> Self {
        self.options
            .extend([code, u8::try_from(data.len()).unwrap()]);
        self.options.extend(data);
        self
    }

    fn wish(self, address: Ipv4Address) -> Self {
        self.option(50, &address.octets())
    }

    fn server(self, address: Ipv4Address) -> Self {
        self.option(54, &address.octets())
    }

    fn id(self, id: &[u8]) -> Self {
        self.option(61, id)
    }

    fn at(mut self, ciaddr: Ipv4Address) -> Self {
        self.ciaddr = ciaddr;
        self.from = ciaddr;
        self
    }

    fn by(mut self, station: EthernetAddress) -> Self {
        self.station = station;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0xde, 0xad, self.mac.0[4], self.mac.0[5]]);
        bytes[10..12].copy_from_slice(&self.flags.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[24..28].copy_from_slice(&self.giaddr.octets());
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend([53, 1, self.kind]);
        bytes.extend(&self.options);
        bytes.push(255);
        bytes
    }
}

/// A reply, read without the code under test.
#[derive(Clone, Debug)]
struct Got {
    to: Outgoing,
    bytes: Vec<u8>,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Got {
    fn read(to: Outgoing, bytes: Vec<u8>) -> Self {
        assert_eq!(bytes[..3], [2, 1, 6], "a reply for Ethernet");
        assert_eq!(bytes[236..240], [99, 130, 83, 99]);
        assert!(bytes.len() >= 300 && bytes.len() <= 548);
        let mut options = BTreeMap::new();
        let mut at = 240;
        while bytes[at] != 255 {
            let len = usize::from(bytes[at + 1]);
            let old = options.insert(bytes[at], bytes[at + 2..at + 2 + len].to_vec());
            assert_eq!(old, None, "an option twice");
            at += 2 + len;
        }
        Self { to, bytes, options }
    }

    fn kind(&self) -> u8 {
        self.options[&53][0]
    }

    fn address(&self) -> Ipv4Address {
        Ipv4Address::from_octets(self.bytes[16..20].try_into().unwrap())
    }

    fn number(&self, code: u8) -> u32 {
        u32::from_be_bytes(self.options[&code][..].try_into().unwrap())
    }
}

/// A LAN with its server.
struct Net {
    server: Server,
    lan: Lan,
    now: Instant,
    side: Side,
    event: Option<Event>,
}

#[derive(Default)]
struct Side {
    sent: Option<(Outgoing, Vec<u8>)>,
    neighbors: BTreeMap<Ipv4Address, EthernetAddress>,
    full: bool,
}

impl SendUdp for Side {
    fn send_udp(
        &mut self,
        _now: Instant,
        to: &Outgoing,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Full> {
        if self.full {
            return Err(Full);
        }
        assert!(self.sent.is_none(), "two replies to one message");
        let mut payload = vec![0x55; len];
        fill(&mut payload);
        self.sent = Some((*to, payload));
        Ok(())
    }
}

impl LanSide for Side {
    fn who_has(&self, address: Ipv4Address) -> Option<EthernetAddress> {
        self.neighbors.get(&address).copied()
    }
}

impl Net {
    fn new() -> Self {
        Self {
            server: Server::new(),
            lan: Lan::new(),
            now: Instant::from_secs(1_000),
            side: Side::default(),
            event: None,
        }
    }

    /// With a pool of these last bytes.
    fn with_pool(first: u8, last: u8) -> Self {
        let mut net = Self::new();
        net.lan.range = Some((host(first), host(last)));
        net
    }

    fn reserve(&mut self, number: u16, address: Ipv4Address) {
        let mac = mac(number).0;
        self.lan
            .reservations
            .add(Reservation { mac, address })
            .unwrap();
        self.settle();
    }

    fn settle(&mut self) {
        let lan = self.lan;
        self.server
            .on_settings(self.now, Context::new(&lan).as_ref());
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.server.poll(self.now);
    }

    fn ask(&mut self, ask: &Ask) -> Option<Got> {
        self.ask_bytes(&ask.bytes(), ask.station, ask.from)
    }

    fn ask_bytes(
        &mut self,
        payload: &[u8],
        src_mac: EthernetAddress,
        src: Ipv4Address,
    ) -> Option<Got> {
        let datagram = Datagram {
            port: Port::Lan,
            src_mac,
            src,
            src_port: CLIENT_PORT,
            dst: Ipv4Address::BROADCAST,
            dst_port: SERVER_PORT,
            payload,
        };
        let lan = self.lan;
        let lan = Context::new(&lan).unwrap();
        self.event = self
            .server
            .on_datagram(self.now, &datagram, &lan, &mut self.side);
        let (to, bytes) = self.side.sent.take()?;
        Some(Got::read(to, bytes))
    }

    fn count(&self, counter: Counter) -> u64 {
        self.server.counts().get(counter)
    }

    fn discover(&mut self, number: u16) -> Option<Ipv4Address> {
        self.ask(&Ask::new(DISCOVER, number)).map(|got| {
            assert_eq!(got.kind(), OFFER);
            got.address()
        })
    }

    fn select(&mut self, number: u16, address: Ipv4Address) -> u8 {
        let ask = Ask::new(REQUEST, number).server(SERVER).wish(address);
        self.ask(&ask).unwrap().kind()
    }

    fn renew(&mut self, number: u16, address: Ipv4Address) -> u8 {
        self.ask(&Ask::new(REQUEST, number).at(address))
            .unwrap()
            .kind()
    }

    /// Both steps of a client that comes.
    fn join(&mut self, number: u16) -> Ipv4Address {
        let address = self.discover(number).expect("an offer");
        assert_eq!(self.select(number, address), ACK);
        address
    }

    fn states(&self) -> Vec<(Ipv4Address, LeaseState)> {
        let leases = self.server.leases(self.now, None);
        leases.map(|lease| (lease.address, lease.state)).collect()
    }

    fn state(&self, address: Ipv4Address) -> Option<LeaseState> {
        let mut states = self.states().into_iter();
        states.find(|state| state.0 == address).map(|state| state.1)
    }
}

#[test]
fn a_client_gets_an_address_and_all_that_it_needs() {
    let mut net = Net::new();
    let offer = net
        .ask(&Ask::new(DISCOVER, 7).option(55, &[1, 3, 6, 15, 28, 51, 58, 59]))
        .unwrap();
    assert_eq!(offer.kind(), OFFER);
    let address = offer.address();
    assert!((host(100)..=host(199)).contains(&address));
    assert_eq!(net.state(address), Some(LeaseState::Offered));
    let ask = Ask::new(REQUEST, 7).server(SERVER).wish(address);
    let ack = net.ask(&ask).unwrap();
    assert_eq!((ack.kind(), ack.address()), (ACK, address));
    for reply in [offer, ack] {
        assert_eq!(reply.bytes[4..8], [0xde, 0xad, 0, 7], "the client's xid");
        assert_eq!(reply.bytes[28..34], mac(7).0);
        assert_eq!(reply.options[&54], SERVER.octets());
        assert_eq!(reply.options[&1], [255, 255, 255, 0]);
        assert_eq!(reply.options[&3], SERVER.octets());
        assert_eq!(reply.options[&6], SERVER.octets());
        assert_eq!(reply.options[&28], [192, 168, 1, 255]);
        assert_eq!(reply.number(51), 86_400);
        assert_eq!(reply.number(58), 43_200);
        assert_eq!(reply.number(59), 75_600);
        assert_eq!((reply.to.src, reply.to.src_port), (SERVER, 67));
        // No broadcast flag: to the address that the client does not answer ARP for yet.
        assert_eq!((reply.to.dst, reply.to.dst_port), (address, 68));
        assert_eq!(reply.to.mac, Some(mac(7)));
    }
    assert_eq!(net.state(address), Some(LeaseState::Bound));
    assert_eq!(
        net.event,
        Some(Event::HostLeased {
            address,
            mac: mac(7),
            name: Text::EMPTY
        })
    );
}

#[test]
fn a_reply_goes_where_rfc_2131_section_4_1_has_it() {
    let mut net = Net::new();
    let broadcast = (Ipv4Address::BROADCAST, Some(EthernetAddress::BROADCAST));
    let dst = |got: Option<Got>| got.map(|got| (got.to.dst, got.to.mac)).unwrap();
    let mut ask = Ask::new(DISCOVER, 1);
    ask.flags = 0x8000;
    let got = net.ask(&ask).unwrap();
    assert_eq!(got.bytes[10..12], [0x80, 0], "the flag comes back");
    assert_eq!(dst(Some(got)), broadcast);
    // The bit that some servers take for it.
    ask.flags = 0x0080;
    assert_eq!(dst(net.ask(&ask)).1, Some(mac(1)));
    let address = net.join(1);
    let got = net.ask(&Ask::new(REQUEST, 1).at(address)).unwrap();
    assert_eq!(got.bytes[12..16], address.octets(), "ciaddr in the ACK");
    assert_eq!(
        dst(Some(got)),
        (address, None),
        "a client that renews answers ARP"
    );
    let nak = net.ask(&Ask::new(REQUEST, 1).at(host(9))).unwrap();
    assert_eq!(nak.kind(), NAK);
    assert_eq!((nak.address(), nak.options.get(&51)), (NOBODY, None));
    assert_eq!(dst(Some(nak)), broadcast);
    // A relay agent, or somebody who would have replies sent elsewhere.
    ask.giaddr = host(2);
    assert!(net.ask(&ask).is_none());
    assert_eq!(net.count(Counter::Relayed), 1);
    let stray = Ask::new(DISCOVER, 1).at(Ipv4Address::new(198, 51, 100, 10));
    assert_eq!(dst(net.ask(&stray)), (address, Some(mac(1))));
}

#[test]
fn an_inform_is_answered_without_a_lease() {
    let mut net = Net::new();
    let got = net.ask(&Ask::new(INFORM, 3).at(host(20))).unwrap();
    assert_eq!((got.kind(), got.address()), (ACK, NOBODY));
    assert_eq!((got.to.dst, got.to.mac), (host(20), None));
    assert_eq!(got.options[&6], SERVER.octets());
    assert!(
        [51, 58, 59]
            .iter()
            .all(|code| !got.options.contains_key(code))
    );
    assert_eq!(net.states(), []);
    for stray in [NOBODY, SERVER, Ipv4Address::new(8, 8, 8, 8), host(255)] {
        assert!(net.ask(&Ask::new(INFORM, 3).at(stray)).is_none());
    }
}

#[test]
fn an_offer_is_kept_and_then_lapses() {
    let mut net = Net::with_pool(100, 103);
    let address = net.discover(1).unwrap();
    net.pass(OFFER_TIMEOUT - Duration::from_secs(1));
    assert_eq!(net.discover(1), Some(address), "the same while it is kept");
    assert_ne!(net.discover(2), Some(address));
    net.pass(OFFER_TIMEOUT);
    assert_eq!(net.states(), []);
    // Late, but the address is still free.
    assert_eq!(net.select(1, address), ACK);
}

#[test]
fn a_client_that_took_another_server_frees_its_offer() {
    let mut net = Net::new();
    let address = net.discover(1).unwrap();
    let ask = Ask::new(REQUEST, 1).server(host(77)).wish(address);
    assert!(net.ask(&ask).is_none());
    assert_eq!(net.state(address), None);
    assert_eq!(
        net.event,
        Some(Event::OtherServer {
            address: host(77),
            mac: mac(1)
        })
    );
}

#[test]
fn a_client_that_starts_again_keeps_its_address() {
    let mut net = Net::new();
    let address = net.join(1);
    net.pass(Duration::from_secs(600));
    let reboot = net.ask(&Ask::new(REQUEST, 1).wish(address)).unwrap();
    assert_eq!((reboot.kind(), reboot.address()), (ACK, address));
    assert_eq!(reboot.number(51), 86_400);
    assert_eq!(net.event, None, "no news");
    // With an address of another net, of somebody else, of no host.
    let other = net.join(2);
    for wrong in [
        Ipv4Address::new(10, 0, 0, 5),
        other,
        host(0),
        host(255),
        SERVER,
        host(50),
    ] {
        assert_eq!(
            net.ask(&Ask::new(REQUEST, 1).wish(wrong)).unwrap().kind(),
            NAK
        );
    }
    assert_eq!(
        net.state(address),
        Some(LeaseState::Bound),
        "what it has is still its own"
    );
}

#[test]
fn a_router_that_lost_its_memory_confirms_what_its_clients_have() {
    let mut net = Net::new();
    assert_eq!(
        net.ask(&Ask::new(REQUEST, 1).wish(host(150)))
            .unwrap()
            .kind(),
        ACK
    );
    assert_eq!(net.renew(2, host(151)), ACK);
    assert_eq!(net.renew(3, host(151)), NAK, "the second who claims it");
    // The client itself answers for the address; another host does not count as the client.
    net.side.neighbors.insert(host(152), mac(4));
    net.side.neighbors.insert(host(153), mac(99));
    assert_eq!(net.renew(4, host(152)), ACK);
    assert_eq!(net.renew(5, host(153)), NAK);
}

#[test]
fn a_lease_ends_in_time_and_is_remembered() {
    let mut net = Net::new();
    let address = net.join(1);
    net.pass(Duration::from_secs(86_399));
    assert_eq!(net.state(address), Some(LeaseState::Bound));
    assert_eq!(net.server.poll_at(), Some(net.now + Duration::from_secs(1)));
    net.pass(Duration::from_secs(1));
    assert_eq!(net.state(address), Some(LeaseState::Ended));
    assert_eq!(net.count(Counter::Expired), 1);
    // Others come and go for a month; the address waits.
    for number in 100..150 {
        assert_ne!(net.join(number), address);
        net.pass(Duration::from_secs(50_000));
    }
    assert_eq!(net.discover(1), Some(address));
}

#[test]
fn the_longest_absent_client_loses_its_address_first() {
    let mut net = Net::with_pool(100, 103);
    let mut addresses = Vec::new();
    for number in 0..4 {
        addresses.push(net.join(number));
        net.pass(Duration::from_secs(10));
    }
    // Scarce: the last ones had a short lease; all end, 0 renews late.
    assert_eq!(net.renew(0, addresses[0]), ACK);
    net.pass(Duration::from_secs(200_000));
    assert!(
        net.states()
            .iter()
            .all(|state| state.1 == LeaseState::Ended)
    );
    let taken = net.join(50);
    // 0 and 1 had the full day and 2 and 3 ten minutes.
    assert!(taken == addresses[2] || taken == addresses[3]);
    assert_eq!(net.join(0), addresses[0]);
}

#[test]
fn a_wished_address_is_given_if_it_is_free() {
    let mut net = Net::new();
    let wish = |number, address| Ask::new(DISCOVER, number).wish(address);
    assert_eq!(net.ask(&wish(1, host(142))).unwrap().address(), host(142));
    assert_eq!(net.select(1, host(142)), ACK);
    for wrong in [
        host(142),
        SERVER,
        host(99),
        host(255),
        Ipv4Address::new(10, 1, 1, 1),
    ] {
        let got = net.ask(&wish(2, wrong)).unwrap().address();
        assert!(got != wrong && (host(100)..=host(199)).contains(&got));
    }
}

#[test]
fn an_address_that_a_neighbor_uses_is_not_offered() {
    let mut net = Net::with_pool(100, 101);
    let first = net.discover(1).unwrap();
    net.pass(OFFER_TIMEOUT);
    net.side.neighbors.insert(first, mac(200));
    let second = net.discover(1).unwrap();
    assert_ne!(second, first);
    net.side.neighbors.insert(second, mac(201));
    assert_eq!(
        net.select(1, second),
        ACK,
        "what was offered is found out by the client"
    );
    net.pass(Duration::from_secs(100_000));
    assert_eq!(
        net.discover(1),
        None,
        "its own address is used by another, the rest too"
    );
    // Its own answer is no obstacle.
    net.side.neighbors.insert(first, mac(1));
    assert_eq!(net.discover(1), Some(first));
}

#[test]
fn a_declined_address_is_put_aside_for_a_while() {
    let mut net = Net::new();
    let address = net.join(1);
    let ask = Ask::new(DECLINE, 1).server(SERVER).wish(address);
    assert!(net.ask(&ask).is_none());
    assert_eq!(
        net.event,
        Some(Event::AddressConflict {
            address,
            mac: mac(1)
        })
    );
    assert_eq!(net.state(address), Some(LeaseState::Declined));
    let next = net.join(1);
    assert_ne!(next, address);
    assert_eq!(
        net.ask(&Ask::new(REQUEST, 2).wish(address)).unwrap().kind(),
        NAK
    );
    net.pass(DECLINED_TIMEOUT);
    assert_eq!(net.state(address), None);
    assert_eq!(net.join(1), next, "it stays where it is now");
}

#[test]
fn a_released_address_waits_for_its_owner() {
    let mut net = Net::new();
    let address = net.join(1);
    assert!(
        net.ask(&Ask::new(RELEASE, 1).server(SERVER).at(address))
            .is_none()
    );
    assert_eq!(net.state(address), Some(LeaseState::Ended));
    assert_eq!(net.count(Counter::Release), 1);
    assert_eq!(net.join(1), address);
}

#[test]
fn a_shorter_lease_is_given_when_it_is_asked_for() {
    let mut net = Net::new();
    let mut lease = |seconds: u32| {
        let ask = Ask::new(DISCOVER, 1).option(51, &seconds.to_be_bytes());
        net.ask(&ask).unwrap().number(51)
    };
    assert_eq!(lease(3_600), 3_600);
    assert_eq!(lease(0), 120);
    assert_eq!(lease(u32::MAX), 86_400);
}

#[test]
fn the_client_identifier_is_the_key_and_comes_back() {
    let mut net = Net::new();
    let id = b"\xff\0\0\0\x01\0\x02duid-of-a-host";
    let discover = net.ask(&Ask::new(DISCOVER, 1).id(id)).unwrap();
    assert_eq!(discover.options[&61], id, "RFC 6842");
    let address = discover.address();
    let ask = Ask::new(REQUEST, 1).server(SERVER).wish(address).id(id);
    assert_eq!(net.ask(&ask).unwrap().kind(), ACK);
    // The same client by another interface.
    let again = net.ask(&Ask::new(DISCOVER, 2).id(id)).unwrap();
    assert_eq!(again.address(), address);
    // An identifier in two pieces (RFC 3396) is one.
    let pieces = Ask::new(DISCOVER, 2).id(&id[..5]).id(&id[5..]);
    assert_eq!(net.ask(&pieces).unwrap().address(), address);
    // One that repeats the MAC address is none.
    let plain = net.join(9);
    let mut hardware = vec![1];
    hardware.extend(mac(9).0);
    assert_eq!(
        net.ask(&Ask::new(DISCOVER, 9).id(&hardware))
            .unwrap()
            .address(),
        plain
    );
}

#[test]
fn s13_two_clients_with_one_mac_have_two_addresses() {
    let mut net = Net::new();
    let mut join = |id: &[u8]| {
        let address = net.ask(&Ask::new(DISCOVER, 1).id(id)).unwrap().address();
        let ask = Ask::new(REQUEST, 1).server(SERVER).wish(address).id(id);
        assert_eq!(net.ask(&ask).unwrap().kind(), ACK);
        address
    };
    let one = join(b"first system");
    let two = join(b"second system");
    assert_ne!(one, two);
    let mut renew = |id: &[u8], address| {
        net.ask(&Ask::new(REQUEST, 1).at(address).id(id))
            .unwrap()
            .kind()
    };
    assert_eq!(renew(b"first system", one), ACK);
    assert_eq!(renew(b"second system", two), ACK);
    assert_eq!(renew(b"second system", one), NAK);
}

#[test]
fn s13_a_lease_is_stable_over_a_month_of_renewals() {
    let mut net = Net::new();
    let addresses: Vec<_> = (0..50).map(|number| net.join(number)).collect();
    for _ in 0..60 {
        net.pass(Duration::from_secs(43_200));
        for (number, &address) in (0..).zip(&addresses) {
            assert_eq!(net.renew(number, address), ACK);
        }
    }
    // A host that moves to another port of the switch asks from the start.
    for (number, &address) in (0..).zip(&addresses) {
        assert_eq!(net.join(number), address);
    }
    assert_eq!(net.count(Counter::Nak) + net.count(Counter::Expired), 0);
}

#[test]
fn s13_two_hundred_clients_on_a_pool_of_a_hundred() {
    let mut net = Net::new();
    let mut owners = BTreeMap::new();
    for number in 0..200 {
        if let Some(address) = net.discover(number) {
            assert_eq!(net.select(number, address), ACK);
            assert_eq!(owners.insert(address, number), None, "an address twice");
        } else {
            assert_eq!(net.event, Some(Event::PoolFull { mac: mac(number) }));
        }
    }
    assert_eq!(owners.len(), 100);
    assert_eq!(net.count(Counter::Full), 100);
    // s7: as leases end, the others come in; those who stay keep theirs.
    for (&address, &number) in &owners {
        if number % 2 == 0 {
            net.ask(&Ask::new(RELEASE, number).at(address));
        }
    }
    let free = net
        .states()
        .iter()
        .filter(|state| state.1 == LeaseState::Ended)
        .count();
    for number in 100..100 + free as u16 {
        let address = net.join(number);
        assert_eq!(owners.insert(address, number).unwrap() % 2, 0);
    }
    assert_eq!(net.discover(199), None);
}

#[test]
fn s7_a_full_table_refuses_the_newest_and_recovers() {
    let mut net = Net::with_pool(10, 250);
    let mut number = 0;
    while let Some(address) = net.discover(number) {
        assert_eq!(net.select(number, address), ACK);
        number += 1;
    }
    assert_eq!(usize::from(number), LEASES);
    assert_eq!(
        net.ask(&Ask::new(REQUEST, 999).wish(host(9)))
            .unwrap()
            .kind(),
        NAK
    );
    assert_eq!(net.count(Counter::Full), 1);
    // Nobody renews: the strangers' short leases first.
    net.pass(LEASE_SCARCE);
    assert!(net.discover(999).is_some());
    net.pass(Duration::from_secs(86_400));
    for number in 0..2 * LEASES as u16 {
        assert!(net.discover(number).is_some());
    }
}

#[test]
fn a_reserved_address_is_for_its_host_alone() {
    let mut net = Net::with_pool(100, 101);
    net.reserve(1, host(20));
    net.reserve(2, host(100));
    assert_eq!(net.join(1), host(20), "outside the pool");
    assert_eq!(net.join(3), host(101), "the other one is reserved");
    assert_eq!(net.discover(4), None);
    assert_eq!(
        net.ask(&Ask::new(REQUEST, 4).wish(host(100)))
            .unwrap()
            .kind(),
        NAK
    );
    assert_eq!(net.join(2), host(100));
    let lan = net.lan;
    let context = Context::new(&lan);
    let reserved: Vec<_> = net
        .server
        .leases(net.now, context.as_ref())
        .map(|lease| (lease.address, lease.reserved))
        .collect();
    assert_eq!(
        reserved,
        [(host(20), true), (host(100), true), (host(101), false)]
    );
}

#[test]
fn a_reserved_host_keeps_its_address_whichever_system_it_runs() {
    let mut net = Net::new();
    net.reserve(1, host(20));
    let ask = |id| Ask::new(DISCOVER, 1).id(id);
    assert_eq!(net.ask(&ask(b"one system")).unwrap().address(), host(20));
    assert_eq!(net.select(1, host(20)), ACK);
    assert_eq!(net.ask(&ask(b"the other")).unwrap().address(), host(20));
}

#[test]
fn a_reservation_of_the_address_in_use_changes_nothing_for_its_host() {
    let mut net = Net::new();
    let id = b"some identifier";
    let address = net.ask(&Ask::new(DISCOVER, 1).id(id)).unwrap().address();
    let renew = Ask::new(REQUEST, 1).at(address).id(id);
    assert_eq!(net.ask(&renew).unwrap().kind(), ACK);
    net.reserve(1, address);
    assert_eq!(net.ask(&renew).unwrap().kind(), ACK);
    net.lan.reservations = Reservations::NONE;
    net.settle();
    assert_eq!(net.ask(&renew).unwrap().kind(), ACK);
}

#[test]
fn a_host_moves_to_its_reserved_address_when_it_renews() {
    let mut net = Net::new();
    let (one, two) = (net.join(1), net.join(2));
    net.reserve(1, two);
    assert_eq!(net.renew(1, one), ACK, "2 still has the address");
    assert_eq!(net.renew(2, two), NAK);
    assert_eq!(net.renew(1, one), NAK);
    assert_eq!(net.join(1), two);
    assert_eq!(net.state(one), None);
    assert!(![one, two].contains(&net.join(2)));
}

#[test]
fn leases_outside_of_changed_settings_go() {
    let mut net = Net::new();
    let address = net.join(1);
    net.lan.range = Some((host(10), host(20)));
    net.settle();
    assert_eq!(net.states(), []);
    assert_eq!(net.renew(1, address), NAK);
    let address = net.join(1);
    assert!((host(10)..=host(20)).contains(&address));
    // DHCP off and on again forgets nobody.
    net.lan.dhcp = false;
    net.settle();
    net.lan.dhcp = true;
    net.settle();
    assert_eq!(net.renew(1, address), ACK);
    net.lan.range = None;
    net.lan.net = Some(crate::settings::Net {
        address: Ipv4Address::new(10, 0, 0, 1),
        prefix: 8,
    });
    net.settle();
    assert_eq!(net.states(), []);
    let nak = net.ask(&Ask::new(REQUEST, 1).at(address)).unwrap();
    assert_eq!(nak.kind(), NAK);
    assert!(
        (Ipv4Address::new(10, 0, 0, 100)..=Ipv4Address::new(10, 0, 0, 199))
            .contains(&net.discover(1).unwrap())
    );
}

#[test]
fn the_router_and_the_edges_of_the_net_are_never_given() {
    let mut net = Net::new();
    net.lan.net = Some(crate::settings::Net {
        address: host(2),
        prefix: 29,
    });
    net.lan.range = Some((host(0), host(7)));
    let mut given: Vec<_> = (0..20).filter_map(|number| net.discover(number)).collect();
    for number in 0..5 {
        let address = net.discover(number).unwrap();
        let ask = Ask::new(REQUEST, number).server(host(2)).wish(address);
        assert_eq!(net.ask(&ask).unwrap().kind(), ACK);
        given.push(address);
    }
    assert_eq!(net.discover(9), None);
    given.sort_unstable();
    given.dedup();
    assert_eq!(given, [host(1), host(3), host(4), host(5), host(6)]);
}

#[test]
fn a_full_egress_costs_the_client_only_time() {
    let mut net = Net::new();
    net.side.full = true;
    assert_eq!(net.discover(1), None);
    assert_eq!(net.count(Counter::EgressFull), 1);
    net.side.full = false;
    net.join(1);
}
