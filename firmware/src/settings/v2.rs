//! Version 2 of the stored settings: as version 3, without the paths by NAT.
//!
//! The parts that have not changed since are today's types: who changes one of them freezes it here first.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Accel, Air, Forwards, Lan, Settings, Wan};
use crate::store::Refused;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct SettingsV2 {
    lan: Lan,
    wan: Wan,
    air: Air,
    forwards: Forwards,
    accel: Accel,
    peers: [Option<Ipv4Addr>; 4],
}

/// Reads version 2 as settings of today; every path is the factory's.
///
/// # Errors
/// The bytes are of another form.
pub(super) fn read(bytes: &[u8]) -> Result<Settings, Refused> {
    let (old, rest) =
        postcard::take_from_bytes::<SettingsV2>(bytes).map_err(|_| Refused::Malformed)?;
    if !rest.is_empty() {
        return Err(Refused::Malformed);
    }
    Ok(Settings {
        lan: old.lan,
        wan: old.wan,
        air: old.air,
        forwards: old.forwards,
        accel: old.accel,
        peers: old.peers,
        ..Settings::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Restored;

    /// `set accel.ports 80,8080`, `set accel.probe head`, `set peers 10.77.0.1` on the factory's settings, as a program
    /// of version 2 encoded them.
    const STORED: &[u8] = &[
        1, 192, 168, 1, 1, 24, 1, 0, 128, 163, 5, // lan: address, DHCP, pool, lease
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // lan: reservations
        1, 0, 0, 0, 0, 220, 11, // wan
        1,  // air
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // forwards
        1, 128, 128, 16, 80, 144, 63, 0, 0, 15, 0, // accel
        1, 10, 77, 0, 1, 0, 0, 0, // peers
    ];

    #[test]
    fn settings_of_version_2_keep_what_was_set() {
        let (settings, restored) = Settings::decode(2, STORED).unwrap();
        assert_eq!(restored, Restored::Migrated);
        let mut expected = Settings::new();
        for (key, value) in [
            ("accel.ports", "80,8080"),
            ("accel.probe", "head"),
            ("peers", "10.77.0.1"),
        ] {
            expected.set(key, value).unwrap();
        }
        assert_eq!(settings, expected);
        let cut = STORED.len() - 1;
        assert_eq!(Settings::decode(2, &STORED[..cut]), Err(Refused::Malformed));
    }
}
