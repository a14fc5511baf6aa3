//! Floods, lies and broken messages.

use std::format;
use std::string::ToString;

use proptest::prelude::*;

use super::*;
use crate::budget::{DECLINED_MAX, LEASES_PER_STATION_MAX, OFFERS_MAX, OFFERS_PER_STATION_MAX};

#[test]
fn a9_a_flood_of_questions_takes_no_lease_and_no_memory() {
    let mut net = Net::new();
    let live: Vec<_> = (0..70).map(|number| net.join(number)).collect();
    let away: Vec<_> = (70..90).map(|number| net.join(number)).collect();
    for (number, &address) in (70..).zip(&away) {
        net.ask(&Ask::new(RELEASE, number).at(address));
    }
    for number in 1_000..11_000 {
        assert!(net.discover(number).is_some(), "each gets some offer");
        if number % 100 == 0 {
            net.pass(Duration::from_secs(1));
        }
    }
    let offered = |state: &&(_, LeaseState)| state.1 == LeaseState::Offered;
    assert!(net.states().iter().filter(offered).count() <= OFFERS_MAX);
    assert!(net.count(Counter::OfferRecycled) > 9_000);
    for (number, &address) in (0..).zip(&live) {
        assert_eq!(net.renew(number, address), ACK);
    }
    // Ten places were nobody's; at most the flood's other offers cost memories of absent ones.
    let back = (70..).zip(&away);
    let back = back.filter(|&(number, &address)| net.discover(number) == Some(address));
    assert!(back.count() >= away.len() - (25 - 10));
}

#[test]
fn a9_a_client_comes_in_during_a_flood() {
    let mut net = Net::with_pool(100, 107);
    for number in 0..7 {
        net.join(number);
    }
    // One address is left, and each question of the flood gets it offered.
    for turn in 0..50 {
        let address = net.discover(500).unwrap();
        for number in 0..10 {
            net.discover(1_000 + turn * 10 + number);
        }
        assert_eq!(net.select(500, address), ACK, "the first who takes it");
        assert_eq!(net.discover(600), None, "a lease is not given away");
        net.ask(&Ask::new(RELEASE, 500).at(address));
    }
}

#[test]
fn a9_what_invented_clients_have_leased_comes_back_soon() {
    let mut net = Net::new();
    let live: Vec<_> = (0..40).map(|number| net.join(number)).collect();
    for number in 1_000..1_200 {
        if let Some(address) = net.discover(number) {
            assert_eq!(net.select(number, address), ACK);
        }
    }
    assert_eq!(net.discover(500), None);
    net.pass(LEASE_SCARCE);
    // The last quarter of the pool is free again, and a host that stays gets the full time.
    let address = net.join(500);
    let renewed = net.ask(&Ask::new(REQUEST, 500).at(address)).unwrap();
    assert_eq!(renewed.number(51), 86_400);
    for (number, &address) in (0..).zip(&live) {
        assert_eq!(net.renew(number, address), ACK);
    }
}

#[test]
fn a9_one_station_has_a_share() {
    let mut net = Net::new();
    for number in 1_000..1_020 {
        assert!(net.ask(&Ask::new(DISCOVER, number).by(mac(9))).is_some());
    }
    assert_eq!(net.states().len(), OFFERS_PER_STATION_MAX);
    let mut given = 0;
    for number in 2_000..2_200 {
        let Some(offer) = net.ask(&Ask::new(DISCOVER, number).by(mac(9))) else {
            continue;
        };
        let ask = Ask::new(REQUEST, number)
            .server(SERVER)
            .wish(offer.address());
        given += usize::from(net.ask(&ask.by(mac(9))).unwrap().kind() == ACK);
    }
    assert_eq!(given, LEASES_PER_STATION_MAX);
    assert!(net.count(Counter::StationFull) > 0);
    let ask = Ask::new(REQUEST, 3_000).wish(host(100)).by(mac(9));
    assert_eq!(net.ask(&ask).unwrap().kind(), NAK, "by the other door");
    net.join(9);
    net.join(10);
}

#[test]
fn a9_a_forged_release_or_decline_is_ignored() {
    let mut net = Net::new();
    let address = net.join(1);
    let forged = [
        Ask::new(RELEASE, 2).at(address),
        Ask::new(RELEASE, 1).at(address).by(mac(2)),
        Ask::new(RELEASE, 1).at(address).id(b"another"),
        Ask::new(RELEASE, 1).at(address).server(host(77)),
        Ask::new(RELEASE, 1).at(host(199)),
        Ask::new(RELEASE, 1),
        Ask::new(DECLINE, 2).wish(address),
        Ask::new(DECLINE, 1).wish(address).by(mac(2)),
        Ask::new(DECLINE, 1).wish(SERVER),
    ];
    for ask in &forged {
        assert!(net.ask(ask).is_none());
        assert_eq!(net.state(address), Some(LeaseState::Bound), "{ask:?}");
    }
    assert_eq!(net.count(Counter::NotOwner), forged.len() as u64);
}

#[test]
fn a9_a_liar_who_declines_everything_does_not_empty_the_pool() {
    for (first, last) in [(100, 199), (100, 107)] {
        let mut net = Net::with_pool(first, last);
        for number in 1_000..1_300 {
            if let Some(address) = net.discover(number) {
                net.ask(&Ask::new(DECLINE, number).wish(address));
            }
        }
        let declined = |state: &&(_, LeaseState)| state.1 == LeaseState::Declined;
        assert!(net.states().iter().filter(declined).count() <= DECLINED_MAX);
        net.join(1);
        net.join(2);
    }
}

#[test]
fn a9_another_server_on_the_lan_is_told_and_counted() {
    let mut net = Net::new();
    net.ask(&Ask::new(REQUEST, 1).server(host(250)).wish(host(100)));
    let told = Event::OtherServer {
        address: host(250),
        mac: mac(1),
    };
    assert_eq!(net.event, Some(told));
    // Its reply itself, should one come here.
    let mut reply = Ask::new(OFFER, 1).bytes();
    reply[0] = 2;
    assert!(net.ask_bytes(&reply, mac(66), host(250)).is_none());
    let told = Event::OtherServer {
        address: host(250),
        mac: mac(66),
    };
    assert_eq!(net.event, Some(told));
    assert_eq!(net.count(Counter::OtherServer), 2);
}

/// A message whose options are these bytes behind the message type.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut bytes = Ask::new(DISCOVER, 1).bytes();
    bytes.pop();
    bytes.extend(options);
    bytes
}

#[test]
fn a9_malformed_messages_are_counted_and_change_nothing() {
    let whole = Ask::new(DISCOVER, 1).bytes();
    let edited = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let mut bad: Vec<Vec<u8>> = (0..240).map(|len| whole[..len].to_vec()).collect();
    bad.extend([
        edited(0, 3),   // neither request nor reply
        edited(1, 6),   // not Ethernet
        edited(2, 16),  // a longer hardware address
        edited(28, 1),  // a group's address
        edited(236, 0), // BOOTP
        edited(242, OFFER),
        edited(242, 0),
        edited(242, 18),
        with_options(&[50]),
        with_options(&[50, 4, 1, 2, 3]),
        with_options(&[50, 3, 1, 2, 3, 255]),
        with_options(&[50, 5, 1, 2, 3, 4, 5, 255]),
        with_options(&[53, 1, 3, 255]), // two types
        with_options(&[54, 0, 255]),
        with_options(&[51, 2, 0, 0, 255]),
        with_options(&[52, 1, 4, 255]),
        with_options(&[61, 1, 7, 255]),
        with_options(&[12, 200, b'a']),
    ]);
    let mut no_type = whole.clone();
    no_type[240..243].fill(0);
    bad.push(no_type);
    let mut long_id = vec![61, 255];
    long_id.extend([7; 255]);
    bad.push(with_options(&long_id));
    let mut net = Net::new();
    for bytes in &bad {
        assert!(net.ask_bytes(bytes, mac(1), NOBODY).is_none(), "{bytes:?}");
        assert_eq!(net.event, None);
    }
    assert_eq!(net.count(Counter::Malformed), bad.len() as u64);
    assert_eq!(net.states(), []);
    assert!(net.ask_bytes(&whole, mac(1), NOBODY).is_some());
    assert!(
        net.ask(&Ask::new(REQUEST, 1)).is_none(),
        "a request for nothing"
    );
}

#[test]
fn a9_the_longest_identifier_still_fits_what_every_client_takes() {
    let mut net = Net::new();
    let id = [7; crate::budget::CLIENT_ID_BYTES_MAX];
    let got = net.ask(&Ask::new(DISCOVER, 1).id(&id)).unwrap();
    assert_eq!(got.options[&61], id);
    assert!(got.bytes.len() <= 548);
}

#[test]
fn a9_options_in_the_fields_for_names_are_read() {
    // Padding, no end marker, an unknown option, and the rest in `file` and `sname`.
    let mut bytes = with_options(&[0, 0, 224, 2, 9, 9, 52, 1, 3, 0]);
    bytes[108..115].copy_from_slice(&[50, 4, 192, 168, 1, 150, 255]);
    bytes[44..50].copy_from_slice(&[12, 3, b'b', b'o', b'x', 0]);
    let mut net = Net::new();
    let got = net.ask_bytes(&bytes, mac(1), NOBODY).unwrap();
    assert_eq!(got.address(), host(150));
    let lan = net.lan;
    let context = Context::new(&lan);
    let lease = net.server.leases(net.now, context.as_ref()).next().unwrap();
    assert_eq!(lease.name.to_string(), "box");
    // An option that reaches out of its field.
    bytes[44..46].copy_from_slice(&[12, 63]);
    assert!(net.ask_bytes(&bytes, mac(1), NOBODY).is_none());
}

#[test]
fn a15_a_name_from_the_net_is_shown_escaped_on_one_line() {
    let mut net = Net::new();
    let name = b"\x1b[2J\r\nadmin\xe4\\ and much more than thirty-two bytes";
    let ask = Ask::new(DISCOVER, 1).option(12, name);
    let address = net.ask(&ask).unwrap().address();
    let ask = Ask::new(REQUEST, 1).server(SERVER).wish(address);
    net.ask(&ask.option(12, name)).unwrap();
    let lease = net.server.leases(net.now, None).next().unwrap();
    let shown = r"\x1b[2J\x0d\x0aadmin\xe4\\ and much more than";
    assert_eq!(lease.name.to_string(), shown);
    let Some(Event::HostLeased { name, .. }) = net.event else {
        panic!("a lease is told");
    };
    assert_eq!(format!("{name}"), shown);
}

proptest! {
    #[test]
    fn a9_no_bytes_panic(
        tail in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((0usize..300, any::<u8>()), 0..6),
        kind in 0u8..10,
    ) {
        let mut net = Net::new();
        net.join(1);
        let mut bytes = Ask::new(kind, 1).bytes();
        bytes.pop();
        bytes.extend(&tail);
        for &(at, byte) in &flips {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        net.ask_bytes(&bytes, mac(1), NOBODY);
        net.server.check();
    }
}
