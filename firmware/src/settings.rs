//! What the owner decides: addresses, what is accelerated, which neighbours are asked.
//!
//! Values are set and read as text by key, from the console. Each `set` checks its value alone and
//! against the other settings, and changes nothing when it refuses.
//!
//! Units: bytes where the key's name or doc says so.
//! Budget: one [`Settings`] of below 512 bytes, copied when somebody changes it.

mod lists;
mod parse;
mod stored;
mod v0;
mod v1;
mod v2;

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::budget::{
    ACCEL_PORTS_MAX, LAN_LEASE_SECONDS, LAN_LEASE_SECONDS_MAX, LAN_LEASE_SECONDS_MIN, PEERS_MAX,
    POOL_HOST_FIRST, POOL_HOST_LAST, WAN_DNS_MAX, WAN_MTU_MAX, WAN_MTU_MIN,
};
use crate::port::overlap;
pub use lists::{Forward, ForwardProtocol, Forwards, Reservation, Reservations};
pub(crate) use parse::parse_host;
use parse::{
    is_host, parse_net, parse_number, parse_on_off, parse_option, write_list, write_option,
};
pub use stored::VERSION;

/// Everything the owner can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The owner's own network.
    pub lan: Lan,
    /// The internet line: how the router gets its address there.
    pub wan: Wan,
    /// The wireless link to the neighbours: the router's address there.
    pub air: Air,
    /// Ports of the WAN address that lead to hosts of the LAN.
    pub forwards: Forwards,
    /// Which downloads are accelerated.
    pub accel: Accel,
    /// Air addresses of the neighbours that are asked and served; filled from the front.
    pub peers: [Option<Ipv4Addr>; PEERS_MAX],
    /// Whether neighbours' own TCP may leave by this internet line, see `router/lent.rs`.
    pub lend_nat: bool,
    /// Those of the neighbours through whom this router's own TCP goes, if they lend so; others fetch and relay.
    /// Filled from the front.
    pub by_nat: [Option<Ipv4Addr>; PEERS_MAX],
}

/// The owner's own network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lan {
    /// The router's address there.
    pub net: Option<Net>,
    /// Whether the router gives addresses by DHCP.
    pub dhcp: bool,
    /// First and last address that are given; `None` chooses them from the net, see
    /// [`pool`](Self::pool).
    pub range: Option<(Ipv4Addr, Ipv4Addr)>,
    /// How long an address is given, seconds.
    pub lease_seconds: u32,
    /// Addresses that belong to one host each; those outside the net wait for it.
    pub reservations: Reservations,
}

/// How the internet line is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wan {
    /// Where the address comes from.
    pub address: WanAddress,
    /// Next hop for everything beyond the line's net, unless DHCP names one; inside the net of a
    /// static address.
    pub gateway: Option<Ipv4Addr>,
    /// Resolvers, from the front; none means those that DHCP names.
    pub dns: [Option<Ipv4Addr>; WAN_DNS_MAX],
    /// Largest IP packet of the line, bytes.
    pub mtu: u16,
}

/// Where the address on the internet line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WanAddress {
    /// Nowhere: the line is not used.
    None,
    /// From the provider's DHCP server.
    Dhcp,
    /// From the owner.
    Static(Net),
}

/// The router's address on the wireless link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Air {
    /// None: the link is not used.
    None,
    /// In [`AIR_AUTO`], made of the last two bytes of the port's MAC address.
    Auto,
    /// From the owner.
    Static(Net),
}

/// The net of addresses that routers give themselves on the air.
pub const AIR_AUTO: Net = Net {
    address: Ipv4Addr::new(10, 77, 0, 0),
    prefix: 16,
};

/// An address with the length of its net's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// The router's own address.
    pub address: Ipv4Addr,
    /// Prefix length, 8 to 30.
    pub prefix: u8,
}

/// Which downloads are accelerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accel {
    /// Off: every flow is plain NAT.
    pub enabled: bool,
    /// The smallest object that is split, bytes.
    ///
    /// A split saves `size / (2 × rate)` with two equal lines and costs about two round trips for
    /// the probe and one to open the neighbour's connection: at 8 Mbit/s and 50 ms the two meet
    /// near 300 kB. Half of that would still gain on slower lines; below, nothing is won.
    pub threshold_bytes: u64,
    /// Origin ports whose flows are read as HTTP; 0 is an unused place.
    pub ports: [u16; ACCEL_PORTS_MAX],
    /// Kinds of content that are split.
    pub types: Types,
    /// How the router learns what an origin will answer.
    pub probe: Probe,
}

/// How the router learns size, type and validator of what a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, defmt::Format)]
pub enum Probe {
    /// The request waits while a `HEAD` is asked on a connection of the router's own; afterwards the client's
    /// connection goes on.
    Head,
    /// The request goes on at once and the origin's own reply is read as it passes: no round trip is added, and nothing
    /// is asked that the client did not ask. The client's connection ends with a response that was split.
    Reply,
}

impl Probe {
    /// The word in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Probe::Head => "head",
            Probe::Reply => "reply",
        }
    }
}

/// How the bytes of a range come from a neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, defmt::Format)]
pub enum Path {
    /// The neighbour fetches them and passes them on.
    #[default]
    Relay,
    /// This router's own connection leads through the neighbour, which translates its address.
    Nat,
}

impl Path {
    /// Both.
    pub const ALL: [Path; 2] = [Path::Relay, Path::Nat];

    /// Its word on the console.
    pub const fn name(self) -> &'static str {
        match self {
            Path::Relay => "relay",
            Path::Nat => "nat",
        }
    }
}

/// A kind of content that can be chosen for splitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Kind {
    /// `video/*`.
    Video,
    /// `audio/*`.
    Audio,
    /// `application/*`, except what makes up a page (JSON, scripts, XML).
    Application,
    /// Bytes that nobody named: `application/octet-stream`, or no type at all.
    Binary,
}

impl Kind {
    /// Every kind, in the order in which settings list them.
    pub const ALL: [Kind; 4] = [Kind::Video, Kind::Audio, Kind::Application, Kind::Binary];

    /// The kind's word in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Audio => "audio",
            Kind::Application => "application",
            Kind::Binary => "binary",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Kind::Video => 1,
            Kind::Audio => 2,
            Kind::Application => 4,
            Kind::Binary => 8,
        }
    }
}

/// A set of [`Kind`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types(u8);

impl Types {
    /// Every kind.
    pub const ALL: Types = Types(15);

    /// Whether `kind` is in the set.
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }
}

/// Why a setting was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum SettingError {
    /// No such key.
    UnknownKey,
    /// Not `A.B.C.D/PREFIX`.
    NotANet,
    /// Prefix outside 8 to 30.
    Prefix,
    /// Not `A.B.C.D`.
    NotAnAddress,
    /// A net's own address, its broadcast address, loopback, multicast or the like.
    NotAHost,
    /// The net overlaps that of another port.
    Overlap,
    /// The gateway is not in the line's net.
    GatewayOutside,
    /// The gateway is the router's own address.
    GatewayIsSelf,
    /// Not one to three addresses.
    Resolvers,
    /// Not a number of bytes between the bounds.
    Mtu,
    /// Not two addresses of the LAN in order.
    Pool,
    /// Not a number of seconds between the bounds.
    Lease,
    /// Not `MAC=ADDRESS`.
    Reservation,
    /// A host or an address is reserved twice.
    ReservedTwice,
    /// Not `tcp:8080=192.168.1.20:80`.
    Forward,
    /// A port of the WAN address that is forwarded twice, or the router's own.
    ForwardPort,
    /// The list has no place left.
    ListFull,
    /// Neither `on` nor `off`.
    NotOnOff,
    /// Not a number of bytes between the bounds.
    Threshold,
    /// Not 1 to 4 different ports.
    Ports,
    /// Not kinds of content.
    Types,
    /// Neither `reply` nor `head`.
    Probe,
    /// The list of neighbours is full.
    PeersFull,
    /// The neighbour is listed already.
    PeerListed,
    /// No such neighbour in the list.
    PeerUnknown,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SettingError::UnknownKey => "no such setting; `get` lists them",
            SettingError::NotANet => "write it as 192.168.1.1/24, or `none`",
            SettingError::Prefix => "the prefix must be from 8 to 30",
            SettingError::NotAnAddress => "write it as 192.168.1.1, or `none`",
            SettingError::NotAHost => "this address cannot be a host's",
            SettingError::Overlap => "this net overlaps that of another port",
            SettingError::GatewayOutside => "the gateway must be in the net of wan.address",
            SettingError::GatewayIsSelf => "the gateway cannot be the router itself",
            SettingError::Resolvers => "write 1 to 3 addresses as 9.9.9.9,1.1.1.1, or `auto`",
            SettingError::Mtu => "write bytes from 576 to 1500",
            SettingError::Pool => "write addresses of the LAN: 192.168.1.100-192.168.1.199",
            SettingError::Lease => "write seconds from 120 to 604800",
            SettingError::Reservation => "write it as 02:00:00:00:01:01=192.168.1.20",
            SettingError::ReservedTwice => "a host or an address is there twice",
            SettingError::Forward => "write it as tcp:8080=192.168.1.20:80",
            SettingError::ForwardPort => "that port is forwarded already, or the router's own",
            SettingError::ListFull => "the list has no place left",
            SettingError::NotOnOff => "write `on` or `off`",
            SettingError::Threshold => "write bytes from 65536 to 1073741824, or 256K, 4M",
            SettingError::Ports => "write 1 to 4 different ports, as 80,8080",
            SettingError::Types => "write a list of video,audio,application,binary",
            SettingError::Probe => "write `reply` or `head`",
            SettingError::PeersFull => "4 peers are the most; remove one first",
            SettingError::PeerListed => "this peer is listed already",
            SettingError::PeerUnknown => "no such peer; `peer list` shows them",
        })
    }
}

/// Every key, in the order in which `get` lists them.
pub const KEYS: [&str; 19] = [
    "lan.address",
    "lan.dhcp",
    "lan.pool",
    "lan.lease",
    "lan.reservations",
    "wan.address",
    "wan.gateway",
    "wan.dns",
    "wan.mtu",
    "air.address",
    "nat.forwards",
    "accel.enabled",
    "accel.threshold",
    "accel.ports",
    "accel.types",
    "accel.probe",
    "peers",
    "lend.nat",
    "borrow.nat",
];

/// Bounds of `accel.threshold`, bytes.
const THRESHOLD_BYTES: core::ops::RangeInclusive<u64> = 65_536..=1 << 30;
/// Bounds of `lan.lease`, seconds.
const LEASE_SECONDS: core::ops::RangeInclusive<u32> = LAN_LEASE_SECONDS_MIN..=LAN_LEASE_SECONDS_MAX;
/// Bounds of `wan.mtu`, bytes.
const MTU_BYTES: core::ops::RangeInclusive<u16> = WAN_MTU_MIN..=WAN_MTU_MAX;

impl Settings {
    /// As the factory ships it: a router that works when it is plugged in.
    pub const fn new() -> Self {
        Self {
            lan: Lan::new(),
            wan: Wan::new(),
            air: Air::Auto,
            forwards: Forwards::NONE,
            accel: Accel::new(),
            peers: [None; PEERS_MAX],
            lend_nat: false,
            by_nat: [None; PEERS_MAX],
        }
    }

    /// Writes the value of `key`, on one line and without a line end.
    ///
    /// # Errors
    /// [`SettingError::UnknownKey`]; nothing was written.
    pub fn get(&self, key: &str, out: &mut dyn Write) -> Result<(), SettingError> {
        let accel = &self.accel;
        let written = match key {
            "lan.address" => write_option(out, self.lan.net),
            "lan.dhcp" => out.write_str(on_off(self.lan.dhcp)),
            "lan.pool" => match self.lan.range {
                Some((first, last)) => write!(out, "{first}-{last}"),
                None => out.write_str("auto"),
            },
            "lan.lease" => write!(out, "{}", self.lan.lease_seconds),
            "lan.reservations" => write_list(out, self.lan.reservations.iter()),
            "wan.address" => match self.wan.address {
                WanAddress::None => out.write_str("none"),
                WanAddress::Dhcp => out.write_str("dhcp"),
                WanAddress::Static(net) => write!(out, "{net}"),
            },
            "wan.gateway" => write_option(out, self.wan.gateway),
            "wan.dns" if self.wan.dns == [None; WAN_DNS_MAX] => out.write_str("auto"),
            "wan.dns" => write_list(out, self.wan.dns.iter().flatten()),
            "wan.mtu" => write!(out, "{}", self.wan.mtu),
            "air.address" => match self.air {
                Air::None => out.write_str("none"),
                Air::Auto => out.write_str("auto"),
                Air::Static(net) => write!(out, "{net}"),
            },
            "nat.forwards" => write_list(out, self.forwards.iter()),
            "accel.enabled" => out.write_str(on_off(accel.enabled)),
            "accel.threshold" => write!(out, "{}", accel.threshold_bytes),
            "accel.ports" => write_list(out, accel.ports.iter().filter(|&&port| port != 0)),
            "accel.types" => write_list(
                out,
                Kind::ALL
                    .iter()
                    .filter(|&&kind| accel.types.has(kind))
                    .map(|kind| kind.name()),
            ),
            "accel.probe" => out.write_str(accel.probe.name()),
            "peers" => write_list(out, self.peers.iter().flatten()),
            "lend.nat" => out.write_str(on_off(self.lend_nat)),
            "borrow.nat" => write_list(out, self.by_nat.iter().flatten()),
            _ => return Err(SettingError::UnknownKey),
        };
        // A full output is the reader's loss: there is nobody to tell.
        written.unwrap_or(());
        Ok(())
    }

    /// Sets `key` from text.
    ///
    /// Setting `wan.address` to a net that does not hold the gateway clears the gateway.
    ///
    /// # Errors
    /// What is wrong with key or value; nothing was changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        match key {
            "lan.address" => {
                let others = [self.wan.address.net(), self.air.net()];
                self.lan.net = parse_option(value, |value| parse_net(value, others))?;
                if !self.lan.is_range_inside() {
                    self.lan.range = None;
                }
            }
            "lan.dhcp" => self.lan.dhcp = parse_on_off(value)?,
            "lan.pool" => self.lan.range = self.parse_pool(value)?,
            "lan.lease" => {
                self.lan.lease_seconds = parse_number(value)
                    .and_then(|seconds| u32::try_from(seconds).ok())
                    .filter(|seconds| LEASE_SECONDS.contains(seconds))
                    .ok_or(SettingError::Lease)?;
            }
            "lan.reservations" => self.lan.reservations = Reservations::parse(value)?,
            "air.address" => {
                self.air = match value {
                    "none" => Air::None,
                    "auto" => {
                        let others = [self.wan.address.net(), self.lan.net];
                        if others.iter().flatten().any(|net| net.overlaps(AIR_AUTO)) {
                            return Err(SettingError::Overlap);
                        }
                        Air::Auto
                    }
                    net => Air::Static(parse_net(net, [self.wan.address.net(), self.lan.net])?),
                }
            }
            "wan.address" => {
                self.wan.address = match value {
                    "none" => WanAddress::None,
                    "dhcp" => WanAddress::Dhcp,
                    net => WanAddress::Static(parse_net(net, [self.lan.net, self.air.net()])?),
                };
                if check_gateway(self.wan).is_err() {
                    self.wan.gateway = None;
                }
            }
            "wan.gateway" => {
                let gateway = parse_option(value, parse_host)?;
                check_gateway(Wan {
                    gateway,
                    ..self.wan
                })?;
                self.wan.gateway = gateway;
            }
            "wan.dns" => self.wan.dns = parse_resolvers(value)?,
            "wan.mtu" => {
                self.wan.mtu = parse_number(value)
                    .and_then(|bytes| u16::try_from(bytes).ok())
                    .filter(|bytes| MTU_BYTES.contains(bytes))
                    .ok_or(SettingError::Mtu)?;
            }
            "nat.forwards" => self.forwards = Forwards::parse(value)?,
            "accel.enabled" => self.accel.enabled = parse_on_off(value)?,
            "accel.threshold" => self.accel.threshold_bytes = parse_threshold(value)?,
            "accel.ports" => self.accel.ports = parse_ports(value)?,
            "accel.types" => self.accel.types = parse_types(value)?,
            "accel.probe" => {
                self.accel.probe = [Probe::Head, Probe::Reply]
                    .into_iter()
                    .find(|probe| probe.name() == value)
                    .ok_or(SettingError::Probe)?;
            }
            "peers" => {
                let mut next = Settings {
                    peers: [None; PEERS_MAX],
                    ..*self
                };
                lists::each(value, |address| next.add_peer(parse_host(address)?))?;
                *self = next;
            }
            "lend.nat" => self.lend_nat = parse_on_off(value)?,
            "borrow.nat" => {
                let mut list = Settings {
                    peers: [None; PEERS_MAX],
                    ..*self
                };
                lists::each(value, |address| list.add_peer(parse_host(address)?))?;
                self.by_nat = list.peers;
            }
            _ => return Err(SettingError::UnknownKey),
        }
        Ok(())
    }

    /// The router's address on the air, whose port has the MAC address `mac`.
    pub fn air_net(&self, mac: EthernetAddress) -> Option<Net> {
        match self.air {
            Air::None => None,
            Air::Static(net) => Some(net),
            Air::Auto => {
                let [.., third, fourth] = mac.0;
                // The net's own address and its broadcast address are no host's.
                let (third, fourth) = match (third, fourth) {
                    (0, 0) => (0, 1),
                    (255, 255) => (255, 254),
                    host => host,
                };
                let [first, second, ..] = AIR_AUTO.address.octets();
                Some(Net {
                    address: Ipv4Addr::new(first, second, third, fourth),
                    prefix: AIR_AUTO.prefix,
                })
            }
        }
    }

    fn parse_pool(&self, value: &str) -> Result<Option<(Ipv4Addr, Ipv4Addr)>, SettingError> {
        if value == "auto" {
            return Ok(None);
        }
        let (first, last) = value.split_once('-').ok_or(SettingError::Pool)?;
        let address = |text: &str| text.parse().map_err(|_| SettingError::Pool);
        let lan = Lan {
            range: Some((address(first)?, address(last)?)),
            ..self.lan
        };
        if lan.is_range_inside() {
            Ok(lan.range)
        } else {
            Err(SettingError::Pool)
        }
    }

    /// Adds a neighbour behind those listed.
    ///
    /// # Errors
    /// The list is full, holds it already, or the address is no host's.
    pub fn add_peer(&mut self, address: Ipv4Addr) -> Result<(), SettingError> {
        if !is_host(address) {
            return Err(SettingError::NotAHost);
        }
        if self.peers.contains(&Some(address)) {
            return Err(SettingError::PeerListed);
        }
        let free = self.peers.iter_mut().find(|peer| peer.is_none());
        *free.ok_or(SettingError::PeersFull)? = Some(address);
        Ok(())
    }

    /// Removes a neighbour, and the choice of its path; those behind it move up.
    ///
    /// # Errors
    /// It is not listed.
    pub fn remove_peer(&mut self, address: Ipv4Addr) -> Result<(), SettingError> {
        if !take_out(&mut self.peers, address) {
            return Err(SettingError::PeerUnknown);
        }
        take_out(&mut self.by_nat, address);
        Ok(())
    }

    /// Chooses the path by which a neighbour of the list brings ranges.
    ///
    /// # Errors
    /// The other choices leave no place for it; nothing was changed.
    pub fn set_path(&mut self, address: Ipv4Addr, path: Path) -> Result<(), SettingError> {
        match path {
            Path::Relay => {
                take_out(&mut self.by_nat, address);
            }
            Path::Nat if self.by_nat.contains(&Some(address)) => {}
            Path::Nat => {
                let free = self.by_nat.iter_mut().find(|peer| peer.is_none());
                *free.ok_or(SettingError::PeersFull)? = Some(address);
            }
        }
        Ok(())
    }

    /// The path by which a neighbour brings ranges.
    pub fn path_of(&self, address: Ipv4Addr) -> Path {
        match self.by_nat.contains(&Some(address)) {
            true => Path::Nat,
            false => Path::Relay,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Lan {
    /// As the factory ships it.
    pub const fn new() -> Self {
        Self {
            net: Some(Net {
                address: Ipv4Addr::new(192, 168, 1, 1),
                prefix: 24,
            }),
            dhcp: true,
            range: None,
            lease_seconds: LAN_LEASE_SECONDS,
            reservations: Reservations::NONE,
        }
    }

    /// First and last address that DHCP gives: those set, else hosts 100 to 199 of the net, or all
    /// of a net that is smaller. The router's own address may lie between them. `None` without a
    /// net, or when DHCP is off.
    pub fn pool(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let net = self.net.filter(|_| self.dhcp)?;
        if let Some(range) = self.range {
            return Some(range);
        }
        let base = net.address.to_bits() & net.mask();
        let hosts_last = !net.mask() - 1;
        let (first, last) = if hosts_last > POOL_HOST_LAST {
            (POOL_HOST_FIRST, POOL_HOST_LAST)
        } else {
            (1, hosts_last)
        };
        Some((
            Ipv4Addr::from_bits(base + first),
            Ipv4Addr::from_bits(base + last),
        ))
    }

    /// No range, or one of hosts of the net, in order.
    fn is_range_inside(&self) -> bool {
        let Some((first, last)) = self.range else {
            return true;
        };
        first <= last
            && self
                .net
                .is_some_and(|net| net.has_host(first) && net.has_host(last))
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Wan {
    /// As the factory ships it.
    pub const fn new() -> Self {
        Self {
            address: WanAddress::Dhcp,
            gateway: None,
            dns: [None; WAN_DNS_MAX],
            mtu: WAN_MTU_MAX,
        }
    }
}

impl Default for Wan {
    fn default() -> Self {
        Self::new()
    }
}

impl WanAddress {
    /// The net, if the owner named it.
    pub const fn net(self) -> Option<Net> {
        match self {
            WanAddress::None | WanAddress::Dhcp => None,
            WanAddress::Static(net) => Some(net),
        }
    }
}

impl Air {
    /// The net in which the address is; the address in it is the router's only if the owner named it.
    const fn net(self) -> Option<Net> {
        match self {
            Air::None => None,
            Air::Auto => Some(AIR_AUTO),
            Air::Static(net) => Some(net),
        }
    }
}

impl Accel {
    /// As the factory ships it.
    pub const fn new() -> Self {
        Self {
            enabled: true,
            threshold_bytes: 262_144,
            ports: [80, 0, 0, 0],
            types: Types::ALL,
            probe: Probe::Reply,
        }
    }

    /// Whether flows to `port` are read as HTTP.
    pub fn has_port(&self, port: u16) -> bool {
        port != 0 && self.ports.contains(&port)
    }
}

impl Default for Accel {
    fn default() -> Self {
        Self::new()
    }
}

impl Net {
    /// The same in smoltcp's type.
    pub fn cidr(self) -> Ipv4Cidr {
        Ipv4Cidr::new(self.address, self.prefix)
    }

    fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }

    /// Whether the address is in the net.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.cidr().contains_addr(&address)
    }

    /// Whether the address is that of a host of the net: neither the net's own nor its broadcast.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        let host = address.to_bits() & !self.mask();
        self.contains(address) && host != 0 && host != !self.mask()
    }

    /// Whether any address is in both nets.
    pub fn overlaps(self, other: Net) -> bool {
        overlap(&self.cidr(), &other.cidr())
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

const fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// Takes an address out of a list that is filled from the front; false if it is not there.
fn take_out(list: &mut [Option<Ipv4Addr>; PEERS_MAX], address: Ipv4Addr) -> bool {
    let Some(place) = list.iter().position(|&peer| peer == Some(address)) else {
        return false;
    };
    list[place..].rotate_left(1);
    list[PEERS_MAX - 1] = None;
    true
}

fn check_gateway(wan: Wan) -> Result<(), SettingError> {
    match (wan.address.net(), wan.gateway) {
        (Some(net), Some(gateway)) if net.address == gateway => Err(SettingError::GatewayIsSelf),
        (Some(net), Some(gateway)) if !net.contains(gateway) => Err(SettingError::GatewayOutside),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

fn parse_resolvers(value: &str) -> Result<[Option<Ipv4Addr>; WAN_DNS_MAX], SettingError> {
    let mut resolvers = [None; WAN_DNS_MAX];
    if value != "auto" {
        for (index, text) in value.split(',').enumerate() {
            let place = resolvers.get_mut(index).ok_or(SettingError::Resolvers)?;
            *place = Some(parse_host(text).map_err(|_| SettingError::Resolvers)?);
        }
    }
    Ok(resolvers)
}

fn parse_threshold(value: &str) -> Result<u64, SettingError> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'K' | b'k') => (&value[..value.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&value[..value.len() - 1], 1 << 20),
        Some(_) | None => (value, 1),
    };
    parse_number(digits)
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| THRESHOLD_BYTES.contains(bytes))
        .ok_or(SettingError::Threshold)
}

fn parse_ports(value: &str) -> Result<[u16; ACCEL_PORTS_MAX], SettingError> {
    let mut ports = [0; ACCEL_PORTS_MAX];
    for (index, text) in value.split(',').enumerate() {
        let port = parse_number(text)
            .and_then(|number| u16::try_from(number).ok())
            .filter(|&port| port != 0 && !ports.contains(&port))
            .ok_or(SettingError::Ports)?;
        *ports.get_mut(index).ok_or(SettingError::Ports)? = port;
    }
    Ok(ports)
}

fn parse_types(value: &str) -> Result<Types, SettingError> {
    let mut types = Types(0);
    lists::each(value, |name| {
        let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
        types.0 |= kind.ok_or(SettingError::Types)?.bit();
        Ok(())
    })?;
    Ok(types)
}

const _: () = assert!(core::mem::size_of::<Settings>() <= 512);

#[cfg(test)]
mod tests;
