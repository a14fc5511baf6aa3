//! Who is in the neighbourhood, at which address, and on which line.
//!
//! ```text
//! client ── lan-a ── router a ── wan-a ──┐
//!                      │ air             origin
//! client-b ─ lan-b ─ router b ── wan-b ──┘
//! ```
//!
//! A third router is on the same air, with `client-c` behind it on `lan-c` and its line `wan-c`. With one router, the host `stranger` sits on its air where the neighbour would be.
//!
//! Each line has two ends: `a` is the router's (of `air`: router a's), `b` the host's (of `air`: router b's; router c is its
//! end `c`).
//! Without routers the clients sit on the internet lines themselves, at the addresses that the routers would have:
//! what a line carries with nothing in between, and the test of the lab by itself.

use anyhow::{Result, bail};
use firmware::settings::Settings;
use serde::{Deserialize, Serialize};

/// The address of the origin that the routers' clients download from.
pub const ORIGIN: &str = "198.51.100.10";

/// A name for [`ORIGIN`] that the lab's resolver knows.
pub const ORIGIN_NAME: &str = "origin.test";

/// A TAP device of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapPlan {
    /// Its name inside the host.
    pub name: String,
    /// Its Ethernet address.
    pub mac: String,
    /// Its address with prefix length; without one the host asks for it by DHCP.
    pub address: Option<String>,
}

/// A network namespace with real programs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// `client`, `client-b`, `client-c`, `stranger` or `origin`.
    pub name: String,
    /// Its devices.
    pub taps: Vec<TapPlan>,
    /// Addresses that belong to the host itself.
    pub loopback: Vec<String>,
    /// Its default route; DHCP may bring another.
    pub gateway: Option<String>,
    /// Whom it asks for names; DHCP may bring another.
    pub nameserver: String,
    /// Whether it forwards packets between its devices.
    pub forward: bool,
}

/// An end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A router's NIC, by indices.
    Nic {
        /// Index of the router.
        router: usize,
        /// 0 LAN, 1 WAN, 2 air.
        port: usize,
    },
    /// A host's TAP, by indices.
    Tap {
        /// Index of the host.
        host: usize,
        /// Index of the TAP in the host.
        tap: usize,
    },
}

/// A line and what it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePlan {
    /// `wan-a`, `wan-b`, `wan-c`, `air`, `lan-a`, `lan-b` or `lan-c`.
    pub name: String,
    /// Ends `a` and `b`; of an air of three routers also `c`.
    pub ends: Vec<End>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterPlan {
    /// `a`, `b` or `c`.
    pub name: String,
    /// Ethernet addresses of LAN, WAN, air.
    pub macs: [String; 3],
    /// What its owner has set, by key: only what makes it this router and not another.
    pub settings: Vec<(String, String)>,
}

impl RouterPlan {
    /// All its settings: the factory's, and its own.
    ///
    /// # Errors
    /// One of them is none.
    pub fn stored(&self) -> Result<Settings> {
        let mut settings = Settings::new();
        for (key, value) in &self.settings {
            if let Err(error) = settings.set(key, value) {
                bail!("router {}: {key} {value}: {error}", self.name);
            }
        }
        Ok(settings)
    }
}

/// The whole neighbourhood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The hosts: the clients, a stranger if there is one, the origin.
    pub hosts: Vec<HostPlan>,
    /// How many of them are clients: as many as internet lines.
    pub clients: usize,
    /// The routers.
    pub routers: Vec<RouterPlan>,
    /// The lines.
    pub lines: Vec<LinePlan>,
}

/// Most routers that this lab has addresses for.
pub const ROUTERS_MAX: usize = 3;
/// Internet lines of a lab without routers.
const BARE_LINES: usize = 2;

const NAMES: [&str; ROUTERS_MAX] = ["a", "b", "c"];
const CLIENTS: [&str; ROUTERS_MAX] = ["client", "client-b", "client-c"];
/// What tells a router's LAN and WAN ports from another's; those on the air share 0x0c.
const MAC_BYTES: [u8; ROUTERS_MAX] = [0x0a, 0x0b, 0x1c];
/// First address of each internet line's network: 64 addresses each (203.0.113.0/24 is for documentation, RFC 5737).
const WAN_BASE: [u8; ROUTERS_MAX] = [0, 64, 128];

/// The address of router `index` on its internet line.
pub fn wan_address(index: usize) -> String {
    format!("203.0.113.{}", WAN_BASE[index] + 2)
}

/// The address of the provider's side of internet line `index`: router `index`'s gateway and DHCP server.
pub fn wan_gateway(index: usize) -> String {
    format!("203.0.113.{}", WAN_BASE[index] + 1)
}

/// The provider's network of internet line `index`.
pub fn wan_network(index: usize) -> String {
    format!("203.0.113.{}", WAN_BASE[index])
}

/// The address of router `index` on its own network.
pub fn lan_address(index: usize) -> String {
    format!("192.168.{}.1", index + 1)
}

/// The address that router `index` gives itself on the air, after its Ethernet address there.
pub fn air_address(index: usize) -> String {
    format!("10.77.0.{}", index + 1)
}

/// Ethernet addresses of LAN, WAN, air of router `index`.
pub fn router_macs(index: usize) -> [String; 3] {
    let byte = MAC_BYTES[index];
    [
        format!("52:54:00:{byte:02x}:00:01"),
        format!("52:54:00:{byte:02x}:00:02"),
        format!("52:54:00:0c:00:{:02x}", index + 1),
    ]
}

fn client(index: usize, routers: usize) -> HostPlan {
    let (address, gateway, nameserver) = match routers {
        0 => (
            Some(format!("{}/26", wan_address(index))),
            Some(wan_gateway(index)),
            ORIGIN.to_owned(),
        ),
        _ => (None, None, lan_address(index)),
    };
    HostPlan {
        name: CLIENTS[index].to_owned(),
        taps: vec![TapPlan {
            name: "eth0".to_owned(),
            mac: format!("02:00:00:00:01:{:02x}", index + 1),
            address,
        }],
        loopback: Vec::new(),
        gateway,
        nameserver,
        forward: false,
    }
}

/// Who is in reach of a router's radio and no neighbour of its owner's.
fn stranger() -> HostPlan {
    HostPlan {
        name: "stranger".to_owned(),
        taps: vec![TapPlan {
            name: "air".to_owned(),
            mac: "02:00:00:00:03:01".to_owned(),
            address: Some("10.77.0.99/16".to_owned()),
        }],
        loopback: Vec::new(),
        gateway: None,
        nameserver: ORIGIN.to_owned(),
        forward: false,
    }
}

fn origin(lines: usize) -> HostPlan {
    HostPlan {
        name: "origin".to_owned(),
        taps: (0..lines)
            .map(|index| TapPlan {
                name: format!("wan-{}", NAMES[index]),
                mac: format!("02:00:00:00:02:{:02x}", index + 1),
                address: Some(format!("{}/26", wan_gateway(index))),
            })
            .collect(),
        loopback: (10..=15)
            .map(|last| format!("198.51.100.{last}/32"))
            .collect(),
        gateway: None,
        nameserver: ORIGIN.to_owned(),
        forward: true,
    }
}

fn router(index: usize, routers: usize, accel: bool) -> RouterPlan {
    let mut settings: Vec<(&str, String)> = Vec::new();
    // Router a's is what the factory sets.
    if index > 0 {
        settings.push(("lan.address", format!("{}/24", lan_address(index))));
    }
    let peers: Vec<_> = (0..routers)
        .filter(|peer| *peer != index)
        .map(air_address)
        .collect();
    if !peers.is_empty() {
        settings.push(("peers", peers.join(",")));
    }
    if !accel {
        settings.push(("accel.enabled", "off".to_owned()));
    }
    RouterPlan {
        name: NAMES[index].to_owned(),
        macs: router_macs(index),
        settings: settings
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    }
}

/// The neighbourhood of so many routers, at most [`ROUTERS_MAX`]; `accel` is whether they split downloads at first.
pub fn neighbourhood(routers: usize, accel: bool) -> Plan {
    let streets = if routers == 0 {
        BARE_LINES
    } else {
        routers.min(ROUTERS_MAX)
    };
    let mut hosts: Vec<_> = (0..streets).map(|index| client(index, routers)).collect();
    if routers == 1 {
        hosts.push(stranger());
    }
    hosts.push(origin(streets));
    let origin = hosts.len() - 1;
    let mut lines = Vec::new();
    for (index, name) in NAMES.iter().enumerate().take(streets) {
        lines.push(LinePlan {
            name: format!("wan-{name}"),
            ends: vec![
                match routers {
                    0 => End::Tap {
                        host: index,
                        tap: 0,
                    },
                    _ => End::Nic {
                        router: index,
                        port: 1,
                    },
                },
                End::Tap {
                    host: origin,
                    tap: index,
                },
            ],
        });
    }
    if routers > 0 {
        let radios = (0..routers.min(ROUTERS_MAX)).map(|router| End::Nic { router, port: 2 });
        let stranger = (routers == 1).then_some(End::Tap { host: 1, tap: 0 });
        lines.push(LinePlan {
            name: "air".to_owned(),
            ends: radios.chain(stranger).collect(),
        });
    }
    for (index, name) in NAMES.iter().enumerate().take(routers) {
        lines.push(LinePlan {
            name: format!("lan-{name}"),
            ends: vec![
                End::Nic {
                    router: index,
                    port: 0,
                },
                End::Tap {
                    host: index,
                    tap: 0,
                },
            ],
        });
    }
    Plan {
        hosts,
        clients: streets,
        routers: (0..routers.min(ROUTERS_MAX))
            .map(|index| router(index, routers, accel))
            .collect(),
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_end_is_used_twice(plan: &Plan) {
        let ends: Vec<_> = plan
            .lines
            .iter()
            .flat_map(|line| line.ends.clone())
            .collect();
        for (index, end) in ends.iter().enumerate() {
            assert!(!ends[..index].contains(end), "{end:?}");
        }
        for host in 0..plan.hosts.len() {
            for tap in 0..plan.hosts[host].taps.len() {
                assert!(ends.contains(&End::Tap { host, tap }));
            }
        }
    }

    #[test]
    fn two_routers_have_five_lines_and_three_have_seven_with_one_air() {
        let names = |plan: &Plan| -> Vec<String> {
            plan.lines.iter().map(|line| line.name.clone()).collect()
        };
        let two = neighbourhood(2, true);
        assert_eq!(names(&two), ["wan-a", "wan-b", "air", "lan-a", "lan-b"]);
        no_end_is_used_twice(&two);
        let three = neighbourhood(3, true);
        let lines = ["wan-a", "wan-b", "wan-c", "air", "lan-a", "lan-b", "lan-c"];
        assert_eq!(names(&three), lines);
        assert_eq!(three.lines[3].ends.len(), 3);
        no_end_is_used_twice(&three);
        let peers = ["lan.address=192.168.3.1/24", "peers=10.77.0.1,10.77.0.2"];
        assert_eq!(settings(&three.routers[2]), peers);
        let mut macs: Vec<_> = three
            .routers
            .iter()
            .flat_map(|router| &router.macs)
            .collect();
        macs.sort();
        macs.dedup();
        assert_eq!(macs.len(), 9);
    }

    fn settings(router: &RouterPlan) -> Vec<String> {
        let pairs = router.settings.iter();
        pairs.map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn router_b_is_told_its_network_and_its_neighbour_and_nothing_else() {
        let plan = neighbourhood(2, true);
        assert_eq!(settings(&plan.routers[0]), ["peers=10.77.0.2"]);
        assert_eq!(
            settings(&plan.routers[1]),
            ["lan.address=192.168.2.1/24", "peers=10.77.0.1"]
        );
        assert_eq!(plan.routers[1].macs[1], "52:54:00:0b:00:02");
        assert_eq!(plan.routers[0].macs[0], "52:54:00:0a:00:01");
        assert!(plan.hosts[0].taps[0].address.is_none());
    }

    #[test]
    fn the_settings_of_every_router_are_settings_and_give_its_addresses() {
        for accel in [true, false] {
            for (index, router) in neighbourhood(3, accel).routers.iter().enumerate() {
                let found = router.stored().unwrap();
                assert_eq!(found.accel.enabled, accel);
                assert_eq!(
                    found.lan.net.unwrap().address.to_string(),
                    lan_address(index)
                );
                let mac: Vec<u8> = router.macs[2]
                    .split(':')
                    .map(|part| u8::from_str_radix(part, 16).unwrap())
                    .collect();
                let mac = smoltcp::wire::EthernetAddress::from_bytes(&mac);
                let air = found.air_net(mac).unwrap();
                assert_eq!(air.address.to_string(), air_address(index));
            }
        }
    }

    #[test]
    fn without_routers_the_clients_sit_on_the_internet_lines() {
        let plan = neighbourhood(0, true);
        assert!(plan.routers.is_empty());
        assert_eq!(plan.lines.len(), 2);
        let address = plan.hosts[1].taps[0].address.as_deref();
        assert_eq!(address, Some("203.0.113.66/26"));
        assert_eq!(
            plan.lines[1].ends,
            [End::Tap { host: 1, tap: 0 }, End::Tap { host: 2, tap: 1 }]
        );
    }

    #[test]
    fn one_router_has_a_stranger_on_its_air_and_no_second_client() {
        let plan = neighbourhood(1, true);
        let names: Vec<_> = plan.hosts.iter().map(|host| host.name.as_str()).collect();
        assert_eq!(names, ["client", "stranger", "origin"]);
        assert_eq!((plan.lines.len(), plan.clients), (3, 1));
        assert_eq!(plan.lines[1].ends[1], End::Tap { host: 1, tap: 0 });
        assert_eq!(plan.lines[0].ends[1], End::Tap { host: 2, tap: 0 });
        assert!(plan.routers[0].settings.is_empty());
    }
}
