//! What the router serves and tells itself: leases, errors, neighbours, what a reboot will find.

use super::*;
use crate::budget::ERRORS_PER_SECOND_MAX;
use crate::dhcp::server;
use crate::events::{Event, Stored};
use crate::store::{Client as _, Kind};

/// A DHCPDISCOVER from a port, through a relay agent if it has an address.
fn discover(src_port: u16, relay: Ipv4Address) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..3].copy_from_slice(&[1, 1, 6]);
    message[24..28].copy_from_slice(&relay.octets());
    message[28..34].copy_from_slice(&CLIENT_MAC.0);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, 1, 255]);
    let nobody = (Ipv4Address::UNSPECIFIED, src_port);
    let everybody = (Ipv4Address::BROADCAST, server::SERVER_PORT);
    let mut frame = udp(true, nobody, everybody, &message);
    frame[..6].fill(0xff);
    frame
}

#[test]
fn a_client_is_served_from_whatever_port_it_sends_and_a_relay_is_counted() {
    let mut bench = Bench::new();
    let served = |bench: &Bench, counter| bench.router.services.dhcp_server.counts().get(counter);
    for (sent, port) in [server::CLIENT_PORT, server::SERVER_PORT, 40_000]
        .into_iter()
        .enumerate()
    {
        bench.run(Port::Lan, discover(port, Ipv4Address::UNSPECIFIED));
        assert_eq!(served(&bench, server::Counter::Discover), sent as u64 + 1);
    }
    bench.run(Port::Lan, discover(server::SERVER_PORT, OTHER));
    assert_eq!(served(&bench, server::Counter::Relayed), 1);
    assert_eq!(served(&bench, server::Counter::Discover), 3);
}

#[test]
fn d12_a_host_that_scans_leaves_another_its_errors() {
    let mut bench = Bench::new();
    let errors = |bench: &mut Bench, src| {
        let closed = udp(true, (src, 5000), (ROUTER, 9), b"x");
        bench.run(Port::Lan, closed).len()
    };
    let scanned: usize = (0..500).map(|_| errors(&mut bench, CLIENT)).sum();
    assert_eq!(scanned, usize::from(ERRORS_PER_SECOND_MAX));
    assert_eq!(errors(&mut bench, OTHER), 1);
}

#[test]
fn a_neighbour_that_comes_changes_or_goes_is_told_once() {
    let mut bench = Bench::new();
    let [one, other] = [1, 2].map(|last| Ipv4Address::new(10, 77, 0, last));
    let desk = &mut bench.router.desk;
    assert_eq!(desk.on_peer(1, Some(one)), [None, Some(Event::PeerUp(one))]);
    assert_eq!(desk.on_peer(1, Some(one)), [None; 2]);
    let changed = [Some(Event::PeerLost(one)), Some(Event::PeerUp(other))];
    assert_eq!(desk.on_peer(1, Some(other)), changed);
    assert_eq!(desk.on_peer(1, None), [Some(Event::PeerLost(other)), None]);
    assert_eq!(desk.on_peer(1, None), [None; 2]);
}

/// The store has taken the settings, and says so after `between`.
fn save(bench: &mut Bench, between: impl FnOnce(&mut Bench)) {
    let now = bench.now;
    assert!(bench.router.wants(Kind::Settings));
    let given = bench.router.pending(now, Kind::Settings, &mut [0; 1024]);
    assert!(given.is_some());
    between(bench);
    bench.router.event(now, Event::Stored(Stored::Settings));
}

#[test]
fn a_reboot_finds_what_the_store_was_given_whatever_was_set_before_or_after() {
    let mut bench = Bench::new();
    bench.router.save();
    // Before the store asks for it: kept.
    let mut settings = bench.router.settings;
    settings.accel.threshold_bytes = 1 << 20;
    bench.router.apply_settings(&settings);
    save(&mut bench, |_| {});
    assert!(bench.router.desk.is_saved(&bench.router.settings));
    // After: not.
    bench.router.save();
    save(&mut bench, |bench| {
        let mut settings = bench.router.settings;
        settings.accel.threshold_bytes = 1 << 21;
        bench.router.apply_settings(&settings);
    });
    assert!(!bench.router.desk.is_saved(&bench.router.settings));
    assert!(bench.router.desk.is_saved(&settings));
}

#[test]
fn a2_the_air_is_silent_to_strangers_and_answers_neighbours() {
    let mut bench = Bench::new();
    let [neighbour, stranger] = [2, 99].map(|last| Ipv4Address::new(10, 77, 0, last));
    let mut settings = bench.router.settings;
    settings.peers[0] = Some(neighbour);
    bench.router.settings = settings;
    // The bench addresses its ports behind the accelerator's back.
    let own = bench.router.addresses.map(|port| port.cidr);
    bench.router.accelerator.stack.set_addresses(&own);
    let mac = EthernetAddress([2, 0, 0, 0, 9, 9]);
    for host in [neighbour, stranger] {
        bench.arp_request(Port::Air, mac, host, AIR);
    }
    bench.out.take();
    let by_air = |mut frame: Vec<u8>| {
        frame[0..6].copy_from_slice(&AIR_MAC.0);
        frame[6..12].copy_from_slice(&mac.0);
        frame
    };
    let syn = |from, port| {
        let ends = [(from, 4000), (AIR, port)];
        tcp([mac, AIR_MAC], ends, flags::SYN, 7, 0, &[], b"")
    };
    let ping = |from| by_air(icmp(true, from, AIR, 8, 0, [1, 2, 3, 4], b"ping"));
    let answers = |bench: &mut Bench, frame| {
        let left = bench.run(Port::Air, frame);
        bench.router.poll(bench.now, &mut bench.out);
        left.len() + bench.out.take().len()
    };
    for port in [1, 22, 53, 80, 4377, 61_000, 65_535] {
        assert_eq!(answers(&mut bench, syn(stranger, port)), 0, "port {port}");
    }
    assert_eq!(answers(&mut bench, ping(stranger)), 0);
    // A neighbour that asks for what is no more is told so, and can begin anew at once.
    assert_eq!(answers(&mut bench, syn(neighbour, 61_000)), 1);
    assert_eq!(answers(&mut bench, ping(neighbour)), 1);
}
