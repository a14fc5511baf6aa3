//! Settings as they are stored: postcard bytes with a version, and older versions translated.
//!
//! A change of anything that [`Settings`] is made of, the length of a list included, is another form: the old one is
//! kept beside this file as [`v0`](super::v0) is, and [`VERSION`] grows.

use heapless::String;

use super::{Air, Settings, Wan, WanAddress, v0, v1, v2};
use crate::budget::{SETTING_CHARACTERS_MAX, SETTINGS_BYTES_MAX};
use crate::settings::KEYS;
use crate::store::{Refused, Restored};

/// Version of the stored form.
pub const VERSION: u16 = 3;

impl Settings {
    /// Writes the stored form to `out`, which has [`SETTINGS_BYTES_MAX`]; returns its length. `None` when it does not fit.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        postcard::to_slice(self, out).ok().map(|bytes| bytes.len())
    }

    /// Reads a stored form of any version known.
    ///
    /// # Errors
    /// The version is not known, or the bytes are no settings that [`set`](Self::set) would accept.
    pub fn decode(version: u16, bytes: &[u8]) -> Result<(Settings, Restored), Refused> {
        let (settings, restored) = match version {
            0 => (v0::read(bytes)?, Restored::Migrated),
            1 => (v1::read(bytes)?, Restored::Migrated),
            2 => (v2::read(bytes)?, Restored::Migrated),
            VERSION => {
                let (settings, rest) =
                    postcard::take_from_bytes::<Settings>(bytes).map_err(|_| Refused::Malformed)?;
                if !rest.is_empty() {
                    return Err(Refused::Malformed);
                }
                (settings, Restored::AsStored)
            }
            _ => return Err(Refused::Version),
        };
        if settings.is_sound() {
            Ok((settings, restored))
        } else {
            Err(Refused::Malformed)
        }
    }

    /// Settings without any address, the start for others.
    pub(super) fn without_addresses() -> Settings {
        let mut settings = Settings::new();
        settings.lan.net = None;
        settings.air = Air::None;
        settings.wan = Wan {
            address: WanAddress::None,
            ..settings.wan
        };
        settings
    }

    /// Whether the same settings come about by setting each key, so that every check has been made.
    fn is_sound(&self) -> bool {
        let mut built = Settings::without_addresses();
        let set_all = KEYS.iter().all(|key| {
            let mut value: String<SETTING_CHARACTERS_MAX> = String::new();
            self.get(key, &mut value).is_ok() && built.set(key, &value).is_ok()
        });
        set_all && built == *self
    }
}

const _: () = assert!(core::mem::size_of::<Settings>() <= SETTINGS_BYTES_MAX);

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn full() -> Settings {
        let mut settings = Settings::new();
        let many = |each: &dyn Fn(usize) -> std::string::String, count: usize| {
            (0..count).map(each).collect::<Vec<_>>().join(",")
        };
        for (key, value) in [
            ("lan.address", "192.168.77.254/24".into()),
            ("lan.pool", "192.168.77.100-192.168.77.253".into()),
            ("lan.lease", "604800".into()),
            ("wan.address", "203.0.113.130/25".into()),
            ("wan.gateway", "203.0.113.254".into()),
            (
                "wan.dns",
                "198.51.100.100,223.255.255.254,203.0.113.250".into(),
            ),
            ("air.address", "100.100.100.101/30".into()),
            (
                "lan.reservations",
                many(
                    &|i| format!("fe:ff:ff:ff:ff:{:02x}=192.168.177.{}", 200 + i, 200 + i),
                    16,
                ),
            ),
            (
                "nat.forwards",
                many(
                    &|i| format!("tcp:{}=192.168.177.{}:65535", 60000 + i, 200 + i),
                    16,
                ),
            ),
            ("accel.threshold", "1073741824".into()),
            ("accel.ports", "65532,65533,65534,65535".into()),
            (
                "peers",
                "100.100.100.201,100.100.100.202,100.100.100.203,100.100.100.204".into(),
            ),
        ] {
            assert_eq!(settings.set(key, &value), Ok(()), "{key} {value}");
        }
        settings
    }

    #[test]
    fn the_fullest_settings_fit_and_read_back() {
        for settings in [Settings::new(), full()] {
            let mut bytes = [0; SETTINGS_BYTES_MAX];
            let length = settings.encode(&mut bytes).unwrap();
            assert_eq!(
                Settings::decode(VERSION, &bytes[..length]),
                Ok((settings, Restored::AsStored))
            );
        }
    }

    #[test]
    fn every_truncation_and_every_addition_is_malformed() {
        let mut bytes = [0; SETTINGS_BYTES_MAX];
        let length = full().encode(&mut bytes).unwrap();
        for cut in 0..length {
            assert_eq!(
                Settings::decode(VERSION, &bytes[..cut]),
                Err(Refused::Malformed)
            );
        }
        assert_eq!(
            Settings::decode(VERSION, &bytes[..length + 1]),
            Err(Refused::Malformed)
        );
    }

    #[test]
    fn values_that_cannot_be_set_are_refused_though_the_form_is_right() {
        let bad: [fn(&mut Settings); 5] = [
            |settings| settings.wan.mtu = 0,
            |settings| settings.lan.lease_seconds = 1,
            |settings| settings.lan.net.as_mut().unwrap().prefix = 33,
            |settings| settings.air = Air::Static(settings.lan.net.unwrap()),
            |settings| settings.peers[2] = Some(Ipv4Addr::new(10, 77, 0, 9)),
        ];
        for spoil in bad {
            let mut settings = Settings::new();
            spoil(&mut settings);
            let mut bytes = [0; SETTINGS_BYTES_MAX];
            let length = settings.encode(&mut bytes).unwrap();
            assert_eq!(
                Settings::decode(VERSION, &bytes[..length]),
                Err(Refused::Malformed)
            );
        }
    }

    #[test]
    fn unknown_versions_are_refused() {
        let mut bytes = [0; SETTINGS_BYTES_MAX];
        let length = Settings::new().encode(&mut bytes).unwrap();
        for version in [VERSION + 1, 0x0100, u16::MAX] {
            assert_eq!(
                Settings::decode(version, &bytes[..length]),
                Err(Refused::Version)
            );
        }
    }
}
