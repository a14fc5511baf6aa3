//! Over a reboot, and how often the flash is written.

use super::*;
use crate::budget::{LEASE_SAVE_SOON, LEASES_BYTES_MAX, STORED_NAME_BYTES_MAX};
use crate::store::Refused as Lost;

fn reboot(net: &mut Net) -> Result<usize, Lost> {
    let mut bytes = [0; LEASES_BYTES_MAX];
    let len = net.server.encode(net.now, &mut bytes);
    // The clock begins again.
    net.now = Instant::ZERO;
    net.server = Server::new();
    let lan = net.lan;
    net.server.restore(
        net.now,
        &Context::new(&lan).unwrap(),
        STORED_VERSION,
        &bytes[..len],
    )
}

#[test]
fn leases_and_memories_survive_a_reboot() {
    let mut net = Net::new();
    let (one, two, three) = (net.join(1), net.join(2), net.discover(3).unwrap());
    let named = Ask::new(REQUEST, 1).at(one).option(12, b"printer");
    net.ask(&named).unwrap();
    net.pass(Duration::from_secs(1_000));
    net.ask(&Ask::new(RELEASE, 2).at(two));
    net.pass(Duration::from_secs(500));
    assert_eq!(reboot(&mut net), Ok(1));
    let leases: Vec<_> = net.server.leases(net.now, None).collect();
    let one_lease = leases.iter().find(|lease| lease.address == one).unwrap();
    assert_eq!(one_lease.remaining, Duration::from_secs(86_400 - 1_500));
    assert_eq!((one_lease.mac, one_lease.name.0), (mac(1), &b"printer"[..]));
    assert_eq!(net.state(two), Some(LeaseState::Ended));
    assert_eq!(net.state(three), None, "an offer is not worth it");
    assert_eq!(net.renew(1, one), ACK);
    assert_eq!(net.discover(2), Some(two));
    // The order in which memories go is kept as well.
    assert_eq!(reboot(&mut net), Ok(1));
    assert_eq!(net.join(2), two);
}

#[test]
fn a_full_table_of_long_names_fits_its_bytes() {
    let mut net = Net::with_pool(2, 254);
    for number in 0..LEASES as u16 {
        let name = [b'n'; 255];
        let address = net.ask(&Ask::new(DISCOVER, number)).unwrap().address();
        let ask = Ask::new(REQUEST, number).server(SERVER).wish(address);
        assert_eq!(net.ask(&ask.option(12, &name)).unwrap().kind(), ACK);
    }
    let mut bytes = [0; LEASES_BYTES_MAX];
    assert!(net.server.encode(net.now, &mut bytes) <= LEASES_BYTES_MAX);
    assert_eq!(reboot(&mut net), Ok(LEASES));
    let is_cut = |lease: Lease<'_>| lease.name.0.len() == STORED_NAME_BYTES_MAX;
    assert!(net.server.leases(net.now, None).all(is_cut));
    // Too little room: what fits.
    let mut small = [0; 100];
    let len = net.server.encode(net.now, &mut small);
    let lan = net.lan;
    let context = Context::new(&lan).unwrap();
    let kept = Server::new().restore(net.now, &context, STORED_VERSION, &small[..len]);
    assert!(kept.is_ok_and(|kept| kept >= 2));
}

#[test]
fn stored_bytes_that_are_none_change_nothing() {
    let mut net = Net::new();
    net.join(1);
    let mut bytes = [0; LEASES_BYTES_MAX];
    let len = net.server.encode(net.now, &mut bytes);
    let lan = net.lan;
    let context = Context::new(&lan).unwrap();
    let restore = |bytes: &[u8]| {
        let mut server = Server::new();
        let result = server.restore(Instant::ZERO, &context, STORED_VERSION, bytes);
        (result, server.leases(Instant::ZERO, None).count())
    };
    assert_eq!(restore(&bytes[..len]), (Ok(1), 1));
    assert_eq!(restore(&[]), (Ok(0), 0));
    for cut in 1..len {
        assert_eq!(restore(&bytes[..cut]), (Err(Lost::Malformed), 0));
    }
    let newer = Server::new().restore(Instant::ZERO, &context, 2, &bytes[..len]);
    assert_eq!(newer, Err(Lost::Version));
    // Whatever the bytes, an address stands once and inside the settings.
    let row = bytes[..len].to_vec();
    bytes[len..2 * len].copy_from_slice(&row);
    assert_eq!(restore(&bytes[..2 * len]), (Ok(1), 1));
    bytes[..4].copy_from_slice(&[10, 0, 0, 1]);
    assert_eq!(restore(&bytes[..len]), (Ok(0), 0));
}

#[test]
fn a_reboot_ends_no_lease_before_its_client_does() {
    let mut net = Net::new();
    let address = net.join(1);
    let mut bytes = [0; LEASES_BYTES_MAX];
    let len = net.server.encode(net.now, &mut bytes);
    // Power fails an hour later, before anything else was stored.
    net.pass(Duration::from_secs(3_600));
    let lan = net.lan;
    let context = Context::new(&lan).unwrap();
    let mut server = Server::new();
    server
        .restore(net.now, &context, STORED_VERSION, &bytes[..len])
        .unwrap();
    let lease = server.leases(net.now, None).next().unwrap();
    assert_eq!(lease.address, address);
    assert!(lease.remaining >= Duration::from_secs(86_400 - 3_600));
}

#[test]
fn s4_the_table_is_written_soon_after_a_change() {
    let mut net = Net::new();
    let mut bytes = [0; LEASES_BYTES_MAX];
    net.discover(1);
    net.pass(Duration::from_secs(1));
    let address = net.join(1);
    assert!(!net.server.wants_save());
    assert_eq!(net.server.poll_at(), Some(net.now + LEASE_SAVE_SOON));
    net.pass(LEASE_SAVE_SOON);
    assert!(net.server.wants_save());
    net.server.encode(net.now, &mut bytes);
    assert!(!net.server.wants_save());
    net.renew(1, address);
    assert_eq!(net.server.poll_at(), Some(net.now + LEASE_SAVE_SOON));
    net.pass(LEASE_SAVE_SOON);
    assert!(net.server.wants_save());
    // A change after the encoding is not forgotten, nor is a write that failed.
    net.server.encode(net.now, &mut bytes);
    net.renew(1, address);
    net.pass(LEASE_SAVE_SOON);
    assert!(net.server.wants_save());
    net.server.encode(net.now, &mut bytes);
    net.server.on_save_failed(net.now);
    net.pass(LEASE_SAVE_SOON);
    assert!(net.server.wants_save());
}

#[test]
fn s4_messages_that_change_nothing_ask_for_no_write() {
    let mut net = Net::new();
    let address = net.join(1);
    net.pass(LEASE_SAVE_SOON);
    net.server.encode(net.now, &mut [0; LEASES_BYTES_MAX]);
    for number in 2..500 {
        net.discover(number);
        net.ask(&Ask::new(REQUEST, number).wish(address));
        net.ask(&Ask::new(RELEASE, number).at(address));
        net.ask(&Ask::new(INFORM, number).at(host(30)));
    }
    net.pass(LEASE_SAVE_SOON);
    assert!(!net.server.wants_save());
}

#[test]
fn s4_a_house_that_comes_home_asks_for_one_write() {
    let mut net = Net::new();
    for number in 0..20 {
        let address = net.join(number);
        net.pass(LEASE_SAVE_SOON / 60);
        assert_eq!(net.renew(number, address), ACK);
        assert!(!net.server.wants_save());
    }
    net.pass(LEASE_SAVE_SOON);
    assert!(net.server.wants_save());
    net.server.encode(net.now, &mut [0; LEASES_BYTES_MAX]);
    net.pass(LEASE_SAVE_SOON);
    assert!(!net.server.wants_save());
}
