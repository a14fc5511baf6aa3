//! Who is in the neighbourhood, at which address, and on which line.
//!
//! ```text
//! client ── lan-a ── router a ── wan-a ──┐
//!                      │ air             origin
//! client-b ─ lan-b ─ router b ── wan-b ──┘
//! ```
//!
//! Each line has two ends: `a` is the router's (of `air`: router a's), `b` the host's (of `air`: router b's).
//! Without routers the clients sit on the internet lines themselves, at the addresses that the routers would have:
//! what a line carries with nothing in between, and the test of the lab by itself.

use serde::{Deserialize, Serialize};

/// The address of the origin that the routers' clients download from.
pub const ORIGIN: &str = "198.51.100.10";

/// A name for [`ORIGIN`] that every host of the lab knows.
pub const ORIGIN_NAME: &str = "origin.test";

/// A TAP device of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapPlan {
    /// Its name inside the host.
    pub name: String,
    /// Its Ethernet address.
    pub mac: String,
    /// Its address with prefix length.
    pub address: String,
}

/// A network namespace with real programs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// `client`, `client-b` or `origin`.
    pub name: String,
    /// Its devices.
    pub taps: Vec<TapPlan>,
    /// Addresses that belong to the host itself.
    pub loopback: Vec<String>,
    /// Its default route.
    pub gateway: Option<String>,
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
    /// `wan-a`, `wan-b`, `air`, `lan-a` or `lan-b`.
    pub name: String,
    /// Ends `a` and `b`.
    pub ends: [End; 2],
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterPlan {
    /// `a` or `b`.
    pub name: String,
    /// Ethernet addresses of LAN, WAN, air.
    pub macs: [String; 3],
    /// Console commands that make the router part of this neighbourhood.
    pub configuration: Vec<String>,
}

/// The whole neighbourhood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The hosts; the origin is the last.
    pub hosts: Vec<HostPlan>,
    /// The routers.
    pub routers: Vec<RouterPlan>,
    /// The lines.
    pub lines: Vec<LinePlan>,
}

/// Most routers that this lab has addresses for.
pub const ROUTERS_MAX: usize = 2;

const NAMES: [&str; ROUTERS_MAX] = ["a", "b"];
const CLIENTS: [&str; ROUTERS_MAX] = ["client", "client-b"];
/// First address of each internet line's network: 64 addresses each (203.0.113.0/24 is for documentation, RFC 5737).
const WAN_BASE: [u8; ROUTERS_MAX] = [0, 64];

/// The address of router `index` on its internet line.
pub fn wan_address(index: usize) -> String {
    format!("203.0.113.{}", WAN_BASE[index] + 2)
}

fn air_address(index: usize) -> String {
    format!("10.77.0.{}", index + 1)
}

fn client(index: usize, routers: usize) -> HostPlan {
    let (address, gateway) = if routers == 0 {
        (
            format!("{}/26", wan_address(index)),
            format!("203.0.113.{}", WAN_BASE[index] + 1),
        )
    } else {
        (
            format!("192.168.{}.100/24", index + 1),
            format!("192.168.{}.1", index + 1),
        )
    };
    HostPlan {
        name: CLIENTS[index].to_owned(),
        taps: vec![TapPlan {
            name: "eth0".to_owned(),
            mac: format!("02:00:00:00:01:{:02x}", index + 1),
            address,
        }],
        loopback: Vec::new(),
        gateway: Some(gateway),
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
                address: format!("203.0.113.{}/26", WAN_BASE[index] + 1),
            })
            .collect(),
        loopback: (10..15)
            .map(|last| format!("198.51.100.{last}/32"))
            .collect(),
        gateway: None,
        forward: true,
    }
}

fn router(index: usize, routers: usize, accel: bool) -> RouterPlan {
    let mut configuration = vec![
        format!("set lan.address 192.168.{}.1/24", index + 1),
        format!("set wan.address {}/26", wan_address(index)),
        format!("set wan.gateway 203.0.113.{}", WAN_BASE[index] + 1),
        format!("set air.address {}/24", air_address(index)),
    ];
    for peer in (0..routers).filter(|peer| *peer != index) {
        configuration.push(format!("peer add {}", air_address(peer)));
    }
    configuration.push(format!(
        "set accel.enabled {}",
        if accel { "on" } else { "off" }
    ));
    RouterPlan {
        name: NAMES[index].to_owned(),
        macs: [1, 2, 3].map(|port| format!("52:54:00:0{}:00:{port:02x}", NAMES[index])),
        configuration,
    }
}

/// The neighbourhood of so many routers, at most [`ROUTERS_MAX`]; `accel` is whether they split downloads at first.
pub fn neighbourhood(routers: usize, accel: bool) -> Plan {
    let streets = if routers == 0 {
        ROUTERS_MAX
    } else {
        routers.min(ROUTERS_MAX)
    };
    let mut hosts: Vec<_> = (0..streets).map(|index| client(index, routers)).collect();
    hosts.push(origin(streets));
    let origin = streets;
    let mut lines = Vec::new();
    for (index, name) in NAMES.iter().enumerate().take(streets) {
        lines.push(LinePlan {
            name: format!("wan-{name}"),
            ends: [
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
    if routers == 2 {
        lines.push(LinePlan {
            name: "air".to_owned(),
            ends: [
                End::Nic { router: 0, port: 2 },
                End::Nic { router: 1, port: 2 },
            ],
        });
    }
    for (index, name) in NAMES.iter().enumerate().take(routers) {
        lines.push(LinePlan {
            name: format!("lan-{name}"),
            ends: [
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
        routers: (0..routers.min(ROUTERS_MAX))
            .map(|index| router(index, routers, accel))
            .collect(),
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_routers_have_five_lines_and_no_end_is_used_twice() {
        let plan = neighbourhood(2, true);
        let names: Vec<_> = plan.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["wan-a", "wan-b", "air", "lan-a", "lan-b"]);
        let ends: Vec<_> = plan.lines.iter().flat_map(|line| line.ends).collect();
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
    fn router_b_is_the_mirror_of_router_a() {
        let plan = neighbourhood(2, false);
        assert_eq!(
            plan.routers[1].configuration,
            [
                "set lan.address 192.168.2.1/24",
                "set wan.address 203.0.113.66/26",
                "set wan.gateway 203.0.113.65",
                "set air.address 10.77.0.2/24",
                "peer add 10.77.0.1",
                "set accel.enabled off",
            ]
        );
        assert_eq!(plan.routers[1].macs[2], "52:54:00:0b:00:03");
        assert_eq!(plan.routers[0].macs[0], "52:54:00:0a:00:01");
    }

    #[test]
    fn without_routers_the_clients_sit_on_the_internet_lines() {
        let plan = neighbourhood(0, true);
        assert!(plan.routers.is_empty());
        assert_eq!(plan.lines.len(), 2);
        assert_eq!(plan.hosts[1].taps[0].address, "203.0.113.66/26");
        assert_eq!(
            plan.lines[1].ends,
            [End::Tap { host: 1, tap: 0 }, End::Tap { host: 2, tap: 1 }]
        );
    }

    #[test]
    fn one_router_has_no_air_and_no_second_client() {
        let plan = neighbourhood(1, true);
        assert_eq!(plan.lines.len(), 2);
        assert_eq!(plan.hosts.len(), 2);
        assert!(
            !plan.routers[0]
                .configuration
                .iter()
                .any(|command| command.starts_with("peer"))
        );
    }
}
