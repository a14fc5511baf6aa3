//! Version 0 of the stored settings: all addresses static, no DHCP, no lists. Frozen.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Accel, Air, Net, Settings, Types, Wan, WanAddress};
use crate::store::Refused;

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct SettingsV0 {
    pub(super) lan: Option<NetV0>,
    pub(super) wan: WanV0,
    pub(super) air: Option<NetV0>,
    pub(super) accel: AccelV0,
    pub(super) peers: [Option<Ipv4Addr>; 4],
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct WanV0 {
    pub(super) net: Option<NetV0>,
    pub(super) gateway: Option<Ipv4Addr>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct NetV0 {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct AccelV0 {
    pub(super) enabled: bool,
    pub(super) threshold_bytes: u64,
    pub(super) ports: [u16; 4],
    pub(super) types: u8,
}

impl From<NetV0> for Net {
    fn from(old: NetV0) -> Self {
        Net {
            address: old.address,
            prefix: old.prefix,
        }
    }
}

/// Reads version 0 as settings of today. What had no address then is as the factory ships it today, where that
/// does not collide with an address that is set.
///
/// # Errors
/// The bytes are of another form.
pub(super) fn read(bytes: &[u8]) -> Result<Settings, Refused> {
    let (old, rest) =
        postcard::take_from_bytes::<SettingsV0>(bytes).map_err(|_| Refused::Malformed)?;
    if !rest.is_empty() {
        return Err(Refused::Malformed);
    }
    let blank = Settings::without_addresses();
    let mut settings = Settings {
        wan: Wan {
            address: old
                .wan
                .net
                .map_or(WanAddress::Dhcp, |net| WanAddress::Static(net.into())),
            gateway: old.wan.gateway,
            ..blank.wan
        },
        accel: Accel {
            enabled: old.accel.enabled,
            threshold_bytes: old.accel.threshold_bytes,
            ports: old.accel.ports,
            types: Types(old.accel.types),
            ..Accel::new()
        },
        peers: old.peers,
        ..blank
    };
    settings.lan.net = old.lan.map(Net::from);
    if let Some(net) = old.air {
        settings.air = Air::Static(net.into());
    } else {
        // A collision leaves it without one.
        let _kept = settings.set("air.address", "auto").is_err();
    }
    if settings.lan.net.is_none() {
        // As above.
        let _kept = settings.set("lan.address", "192.168.1.1/24").is_err();
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Restored;

    /// `set lan.address 192.168.2.1/24`, `wan.address 203.0.113.66/26`, `wan.gateway 203.0.113.65`,
    /// `air.address 10.77.0.2/24`, `accel.ports 80,8080`, `peer add 10.77.0.1`, as a program of version 0 encoded them.
    const STORED: [u8; 44] = [
        1, 192, 168, 2, 1, 24, // lan
        1, 203, 0, 113, 66, 26, 1, 203, 0, 113, 65, // wan
        1, 10, 77, 0, 2, 24, // air
        1, 0x80, 0x80, 0x10, 80, 0x90, 0x3f, 0, 0, 15, // accel
        1, 10, 77, 0, 1, 0, 0, 0, // peers
        0, 0, 0, // cut off below
    ];

    fn decode(bytes: &[u8]) -> Result<(Settings, Restored), Refused> {
        Settings::decode(0, bytes)
    }

    #[test]
    fn settings_of_version_0_keep_what_was_set() {
        let (settings, restored) = decode(&STORED[..41]).unwrap();
        assert_eq!(restored, Restored::Migrated);
        let mut expected = Settings::new();
        for (key, value) in [
            ("lan.address", "192.168.2.1/24"),
            ("wan.address", "203.0.113.66/26"),
            ("wan.gateway", "203.0.113.65"),
            ("air.address", "10.77.0.2/24"),
            ("accel.ports", "80,8080"),
            ("peers", "10.77.0.1"),
        ] {
            expected.set(key, value).unwrap();
        }
        assert_eq!(settings, expected);
        assert_eq!(decode(&STORED[..40]), Err(Refused::Malformed));
        assert_eq!(decode(&STORED), Err(Refused::Malformed));
    }

    #[test]
    fn what_version_0_had_not_set_is_as_the_factory_ships_it() {
        let nothing = [0, 0, 0, 0, 1, 0x80, 0x80, 0x10, 80, 0, 0, 0, 15, 0, 0, 0, 0];
        let (settings, _) = decode(&nothing).unwrap();
        assert_eq!(settings, Settings::new());
    }

    #[test]
    fn a_factory_net_that_collides_with_a_set_one_is_left_out() {
        let mut collides = std::vec![0];
        collides.extend([1, 192, 168, 1, 9, 24, 0]); // wan
        collides.extend([0, 1, 0x80, 0x80, 0x10, 80, 0, 0, 0, 15, 0, 0, 0, 0]);
        let (settings, _) = decode(&collides).unwrap();
        assert_eq!(settings.lan.net, None);
        assert_eq!(settings.air, Air::Auto);
    }
}
