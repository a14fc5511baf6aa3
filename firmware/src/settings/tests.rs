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
        ("peers", "10.77.0.2,10.77.0.3"),
        ("accel.enabled", "off"),
        ("accel.types", "video,binary"),
        ("accel.ports", "80,8080"),
        ("accel.threshold", "1048576"),
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
    let mut bytes = [0; 128];
    let used = postcard::to_slice(&settings, &mut bytes).unwrap();
    assert_eq!(postcard::from_bytes::<Settings>(used), Ok(settings));
}
