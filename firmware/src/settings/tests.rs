//! Each key: what it takes, what it refuses, how it reads back.

use super::*;

fn get(settings: &Settings, key: &str) -> String {
    let mut text = String::new();
    settings.get(key, &mut text).unwrap();
    text
}

#[test]
fn every_key_can_be_read_and_its_value_set_again() {
    let mut settings = Settings::new();
    for (key, value) in [
        ("lan.address", "192.168.1.1/24"),
        ("wan.address", "203.0.113.2/26"),
        ("wan.gateway", "203.0.113.1"),
        ("air.address", "10.77.0.1/24"),
        ("wan.dns", "9.9.9.9,1.1.1.1"),
        ("wan.mtu", "1492"),
        ("lan.dhcp", "off"),
        ("lan.pool", "192.168.1.20-192.168.1.40"),
        ("lan.lease", "3600"),
        (
            "lan.reservations",
            "02:00:00:00:01:01=192.168.1.20,02:00:00:00:01:02=192.168.1.21",
        ),
        (
            "nat.forwards",
            "tcp:8080=192.168.1.20:80,udp:8080=192.168.1.20:81",
        ),
        ("peers", "10.77.0.2,10.77.0.3"),
        ("accel.enabled", "off"),
        ("accel.types", "video,binary"),
        ("accel.ports", "80,8080"),
        ("accel.threshold", "1048576"),
        ("accel.probe", "head"),
    ] {
        assert_eq!(settings.set(key, value), Ok(()), "{key}");
        assert_eq!(get(&settings, key), value, "{key}");
    }
    for key in KEYS {
        let value = get(&settings, key);
        let before = settings;
        assert_eq!(settings.set(key, &value), Ok(()), "{key}");
        assert_eq!(settings, before, "{key}");
    }
}

#[test]
fn a_refused_value_changes_nothing_and_says_why() {
    let mut settings = Settings::new();
    settings.set("lan.address", "192.168.1.1/24").unwrap();
    settings.set("wan.address", "203.0.113.2/26").unwrap();
    let before = settings;
    for (key, value, error) in [
        ("lan.adress", "1.2.3.4/24", SettingError::UnknownKey),
        ("lan.address", "192.168.1.1", SettingError::NotANet),
        ("lan.address", "192.168.1.1/", SettingError::NotANet),
        ("lan.address", "192.168.1/24", SettingError::NotANet),
        ("lan.address", "192.168.1.1/+24", SettingError::NotANet),
        ("lan.address", "192.168.1.1/31", SettingError::Prefix),
        ("lan.address", "192.168.1.1/7", SettingError::Prefix),
        ("lan.address", "192.168.1.1/300", SettingError::Prefix),
        ("lan.address", "192.168.1.0/24", SettingError::NotAHost),
        ("lan.address", "192.168.1.255/24", SettingError::NotAHost),
        ("lan.address", "127.0.0.1/8", SettingError::NotAHost),
        ("lan.address", "224.0.0.1/24", SettingError::NotAHost),
        ("lan.address", "203.0.113.9/24", SettingError::Overlap),
        ("air.address", "192.168.1.7/30", SettingError::NotAHost),
        ("air.address", "192.168.1.6/30", SettingError::Overlap),
        ("air.address", "192.168.0.1/16", SettingError::Overlap),
        ("wan.gateway", "203.0.113.65", SettingError::GatewayOutside),
        ("wan.gateway", "203.0.113.2", SettingError::GatewayIsSelf),
        ("wan.gateway", "gateway", SettingError::NotAnAddress),
        ("wan.gateway", "0.0.0.0", SettingError::NotAHost),
        ("air.address", "10.77.0.1", SettingError::NotANet),
        ("wan.address", "auto", SettingError::NotANet),
        ("wan.address", "10.77.9.9/24", SettingError::Overlap),
        ("lan.address", "10.0.0.1/8", SettingError::Overlap),
        ("wan.dns", "", SettingError::Resolvers),
        (
            "wan.dns",
            "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4",
            SettingError::Resolvers,
        ),
        ("wan.dns", "127.0.0.1", SettingError::Resolvers),
        ("wan.mtu", "575", SettingError::Mtu),
        ("wan.mtu", "1501", SettingError::Mtu),
        ("lan.dhcp", "auto", SettingError::NotOnOff),
        ("lan.pool", "192.168.1.9", SettingError::Pool),
        ("lan.pool", "192.168.1.9-192.168.1.8", SettingError::Pool),
        ("lan.pool", "192.168.1.0-192.168.1.8", SettingError::Pool),
        ("lan.pool", "192.168.1.9-192.168.1.255", SettingError::Pool),
        ("lan.pool", "192.168.2.9-192.168.2.10", SettingError::Pool),
        ("lan.lease", "119", SettingError::Lease),
        ("lan.lease", "604801", SettingError::Lease),
        (
            "lan.reservations",
            "02:00:00:00:01=192.168.1.20",
            SettingError::Reservation,
        ),
        (
            "lan.reservations",
            "02:00:00:00:01:01:01=192.168.1.20",
            SettingError::Reservation,
        ),
        (
            "lan.reservations",
            "ff:ff:ff:ff:ff:ff=192.168.1.20",
            SettingError::Reservation,
        ),
        (
            "lan.reservations",
            "02:00:00:00:01:+1=192.168.1.20",
            SettingError::Reservation,
        ),
        (
            "lan.reservations",
            "02:00:00:00:01:01=192.168.1.20,02:00:00:00:01:01=192.168.1.21",
            SettingError::ReservedTwice,
        ),
        (
            "nat.forwards",
            "tcp:0=192.168.1.20:80",
            SettingError::Forward,
        ),
        ("nat.forwards", "tcp:80=192.168.1.20", SettingError::Forward),
        (
            "nat.forwards",
            "icmp:80=192.168.1.20:1",
            SettingError::Forward,
        ),
        (
            "nat.forwards",
            "tcp:61000=192.168.1.20:80",
            SettingError::ForwardPort,
        ),
        (
            "nat.forwards",
            "tcp:80=192.168.1.20:80,tcp:80=192.168.1.21:80",
            SettingError::ForwardPort,
        ),
        ("accel.enabled", "yes", SettingError::NotOnOff),
        ("accel.enabled", "", SettingError::NotOnOff),
        ("accel.threshold", "65535", SettingError::Threshold),
        ("accel.threshold", "1025M", SettingError::Threshold),
        ("accel.threshold", "-1", SettingError::Threshold),
        ("accel.threshold", "K", SettingError::Threshold),
        (
            "accel.threshold",
            "99999999999999999999M",
            SettingError::Threshold,
        ),
        ("accel.ports", "0", SettingError::Ports),
        ("accel.ports", "80,80", SettingError::Ports),
        ("accel.ports", "80,", SettingError::Ports),
        ("accel.ports", "1,2,3,4,5", SettingError::Ports),
        ("accel.ports", "65536", SettingError::Ports),
        ("accel.types", "pictures", SettingError::Types),
        ("accel.types", "", SettingError::Types),
        ("accel.probe", "Head", SettingError::Probe),
        ("peers", "10.0.0.1,10.0.0.1", SettingError::PeerListed),
        (
            "peers",
            "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5",
            SettingError::PeersFull,
        ),
        ("peers", "10.0.0.1,x", SettingError::NotAnAddress),
    ] {
        assert_eq!(settings.set(key, value), Err(error), "{key} {value}");
        assert_eq!(settings, before, "{key} {value}");
        let text = error.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{key} {value}");
    }
}

#[test]
fn a_move_to_another_net_clears_a_gateway_that_is_left_outside() {
    let mut settings = Settings::new();
    settings.set("wan.gateway", "203.0.113.1").unwrap();
    settings.set("wan.address", "203.0.113.2/26").unwrap();
    assert_eq!(get(&settings, "wan.gateway"), "203.0.113.1");
    settings.set("wan.address", "203.0.113.66/26").unwrap();
    assert_eq!(get(&settings, "wan.gateway"), "none");
}

#[test]
fn the_factory_ships_a_router_that_works_when_it_is_plugged_in() {
    let settings = Settings::new();
    assert_eq!(get(&settings, "lan.address"), "192.168.1.1/24");
    assert_eq!(get(&settings, "wan.address"), "dhcp");
    let pool = settings
        .lan
        .pool()
        .map(|(first, last)| (first.octets(), last.octets()));
    assert_eq!(pool, Some(([192, 168, 1, 100], [192, 168, 1, 199])));
}

#[test]
fn the_pool_fits_the_net_and_goes_with_it() {
    let mut settings = Settings::new();
    settings
        .set("lan.pool", "192.168.1.20-192.168.1.40")
        .unwrap();
    settings.set("lan.address", "192.168.1.33/28").unwrap();
    assert_eq!(get(&settings, "lan.pool"), "auto");
    let pool = settings
        .lan
        .pool()
        .map(|(first, last)| (first.octets(), last.octets()));
    assert_eq!(pool, Some(([192, 168, 1, 33], [192, 168, 1, 46])));
    settings.set("lan.dhcp", "off").unwrap();
    assert_eq!(settings.lan.pool(), None);
}

#[test]
fn the_air_address_comes_from_the_last_bytes_of_the_mac_address_and_is_a_hosts() {
    let settings = Settings::new();
    for (mac, address) in [
        ([2, 0, 0, 0, 0, 1], "10.77.0.1/16"),
        ([2, 0, 0, 0, 0, 0], "10.77.0.1/16"),
        ([2, 0, 0, 0, 255, 255], "10.77.255.254/16"),
        ([2, 0, 0, 0, 18, 52], "10.77.18.52/16"),
    ] {
        let net = settings.air_net(EthernetAddress(mac)).unwrap();
        assert_eq!(net.to_string(), address);
        assert!(net.has_host(net.address));
    }
}

#[test]
fn removing_a_peer_moves_the_others_up() {
    let mut settings = Settings::new();
    settings.set("peers", "10.0.0.1,10.0.0.2,10.0.0.3").unwrap();
    let second = Ipv4Addr::new(10, 0, 0, 2);
    assert_eq!(settings.remove_peer(second), Ok(()));
    assert_eq!(get(&settings, "peers"), "10.0.0.1,10.0.0.3");
    assert_eq!(settings.remove_peer(second), Err(SettingError::PeerUnknown));
    assert_eq!(
        settings.peers[2..],
        [None, None],
        "listed peers stand in front"
    );
}

#[test]
fn sizes_may_be_written_with_a_unit() {
    let mut settings = Settings::new();
    settings.set("accel.threshold", "256K").unwrap();
    assert_eq!(settings.accel.threshold_bytes, 262_144);
    settings.set("accel.threshold", "1024M").unwrap();
    assert_eq!(settings.accel.threshold_bytes, 1 << 30);
}

#[test]
fn settings_survive_their_wire_form() {
    let mut settings = Settings::new();
    settings.set("lan.address", "192.168.1.1/24").unwrap();
    settings.set("peers", "10.0.0.1").unwrap();
    settings
        .set("nat.forwards", "tcp:80=192.168.1.20:80")
        .unwrap();
    let mut bytes = [0; 512];
    let used = postcard::to_slice(&settings, &mut bytes).unwrap();
    assert_eq!(postcard::from_bytes::<Settings>(used), Ok(settings));
}
