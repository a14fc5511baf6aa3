//! What the owner decides: addresses, what is accelerated, which neighbours are asked.
//!
//! Values are set and read as text by key, from the console. Each `set` checks its value alone and
//! against the other settings, and changes nothing when it refuses.
//!
//! Units: bytes where the key's name or doc says so.
//! Budget: one [`Settings`] of below 128 bytes, copied freely.
//! Not done: storing in flash.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use smoltcp::wire::Ipv4Cidr;

use crate::budget::{ACCEL_PORTS_MAX, PEERS_MAX};

/// Everything the owner can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The owner's own network: the router's address there.
    pub lan: Option<Net>,
    /// The internet line: the router's address there and its gateway.
    pub wan: Wan,
    /// The wireless link to the neighbours: the router's address there.
    pub air: Option<Net>,
    /// Which downloads are accelerated.
    pub accel: Accel,
    /// Air addresses of the neighbours that are asked and served; filled from the front.
    pub peers: [Option<Ipv4Addr>; PEERS_MAX],
}

/// How the internet line is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wan {
    /// The router's address on the line.
    pub net: Option<Net>,
    /// Next hop for everything beyond the line's net; inside `net` whenever both are set.
    pub gateway: Option<Ipv4Addr>,
}

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
    /// Neither `on` nor `off`.
    NotOnOff,
    /// Not a number of bytes between the bounds.
    Threshold,
    /// Not 1 to 4 different ports.
    Ports,
    /// Not kinds of content.
    Types,
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
            SettingError::NotOnOff => "write `on` or `off`",
            SettingError::Threshold => "write bytes from 65536 to 1073741824, or 256K, 4M",
            SettingError::Ports => "write 1 to 4 different ports, as 80,8080",
            SettingError::Types => "write a list of video,audio,application,binary",
            SettingError::PeersFull => "4 peers are the most; remove one first",
            SettingError::PeerListed => "this peer is listed already",
            SettingError::PeerUnknown => "no such peer; `peer list` shows them",
        })
    }
}

/// Every key, in the order in which `get` lists them.
pub const KEYS: [&str; 9] = [
    "lan.address",
    "wan.address",
    "wan.gateway",
    "air.address",
    "accel.enabled",
    "accel.threshold",
    "accel.ports",
    "accel.types",
    "peers",
];

/// Bounds of `accel.threshold`, bytes.
const THRESHOLD_BYTES: core::ops::RangeInclusive<u64> = 65_536..=1 << 30;

impl Settings {
    /// As the factory ships it: no addresses, acceleration on for port 80.
    pub const fn new() -> Self {
        Self {
            lan: None,
            wan: Wan {
                net: None,
                gateway: None,
            },
            air: None,
            accel: Accel::new(),
            peers: [None; PEERS_MAX],
        }
    }

    /// Writes the value of `key`, on one line and without a line end.
    ///
    /// # Errors
    /// [`SettingError::UnknownKey`]; nothing was written.
    pub fn get(&self, key: &str, out: &mut dyn Write) -> Result<(), SettingError> {
        let accel = &self.accel;
        let written = match key {
            "lan.address" => write_option(out, self.lan),
            "wan.address" => write_option(out, self.wan.net),
            "wan.gateway" => write_option(out, self.wan.gateway),
            "air.address" => write_option(out, self.air),
            "accel.enabled" => out.write_str(if accel.enabled { "on" } else { "off" }),
            "accel.threshold" => write!(out, "{}", accel.threshold_bytes),
            "accel.ports" => write_list(out, accel.ports.iter().filter(|&&port| port != 0)),
            "accel.types" => write_list(
                out,
                Kind::ALL
                    .iter()
                    .filter(|&&kind| accel.types.has(kind))
                    .map(|kind| kind.name()),
            ),
            "peers" => write_list(out, self.peers.iter().flatten()),
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
            "lan.address" => self.lan = parse_net(value, [self.wan.net, self.air])?,
            "air.address" => self.air = parse_net(value, [self.wan.net, self.lan])?,
            "wan.address" => {
                self.wan.net = parse_net(value, [self.lan, self.air])?;
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
            "accel.enabled" => {
                self.accel.enabled = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(SettingError::NotOnOff),
                }
            }
            "accel.threshold" => self.accel.threshold_bytes = parse_threshold(value)?,
            "accel.ports" => self.accel.ports = parse_ports(value)?,
            "accel.types" => self.accel.types = parse_types(value)?,
            "peers" => {
                let mut next = Settings {
                    peers: [None; PEERS_MAX],
                    ..*self
                };
                if value != "none" {
                    for address in value.split(',') {
                        next.add_peer(parse_host(address)?)?;
                    }
                }
                *self = next;
            }
            _ => return Err(SettingError::UnknownKey),
        }
        Ok(())
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

    /// Removes a neighbour; those behind it move up.
    ///
    /// # Errors
    /// It is not listed.
    pub fn remove_peer(&mut self, address: Ipv4Addr) -> Result<(), SettingError> {
        let place = self.peers.iter().position(|&peer| peer == Some(address));
        let place = place.ok_or(SettingError::PeerUnknown)?;
        self.peers[place..].rotate_left(1);
        self.peers[PEERS_MAX - 1] = None;
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
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

    fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    fn overlaps(self, other: Net) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn write_option(out: &mut dyn Write, value: Option<impl fmt::Display>) -> fmt::Result {
    match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_str("none"),
    }
}

fn write_list(out: &mut dyn Write, values: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    let mut any = false;
    for value in values {
        if any {
            out.write_str(",")?;
        }
        write!(out, "{value}")?;
        any = true;
    }
    if any { Ok(()) } else { out.write_str("none") }
}

fn parse_option<T>(
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, SettingError>,
) -> Result<Option<T>, SettingError> {
    if value == "none" {
        Ok(None)
    } else {
        parse(value).map(Some)
    }
}

/// Parses an address that a host can have.
pub(crate) fn parse_host(value: &str) -> Result<Ipv4Addr, SettingError> {
    let address = value.parse().map_err(|_| SettingError::NotAnAddress)?;
    if is_host(address) {
        Ok(address)
    } else {
        Err(SettingError::NotAHost)
    }
}

fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn parse_net(value: &str, others: [Option<Net>; 2]) -> Result<Option<Net>, SettingError> {
    let net = parse_option(value, |value| {
        let (address, prefix) = value.split_once('/').ok_or(SettingError::NotANet)?;
        let address = address.parse().map_err(|_| SettingError::NotANet)?;
        let prefix = parse_number(prefix).ok_or(SettingError::NotANet)?;
        let prefix = u8::try_from(prefix).map_err(|_| SettingError::Prefix)?;
        if !(8..=30).contains(&prefix) {
            return Err(SettingError::Prefix);
        }
        Ok(Net { address, prefix })
    })?;
    if let Some(net) = net {
        let host_bits = net.address.to_bits() & !net.mask();
        if !is_host(net.address) || host_bits == 0 || host_bits == !net.mask() {
            return Err(SettingError::NotAHost);
        }
        if others.iter().flatten().any(|&other| net.overlaps(other)) {
            return Err(SettingError::Overlap);
        }
    }
    Ok(net)
}

fn check_gateway(wan: Wan) -> Result<(), SettingError> {
    match (wan.net, wan.gateway) {
        (Some(net), Some(gateway)) if net.address == gateway => Err(SettingError::GatewayIsSelf),
        (Some(net), Some(gateway)) if !net.contains(gateway) => Err(SettingError::GatewayOutside),
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

/// Digits only: `str::parse` would take a plus sign.
fn parse_number(value: &str) -> Option<u64> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().ok()
    } else {
        None
    }
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
    if value != "none" {
        for name in value.split(',') {
            let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
            types.0 |= kind.ok_or(SettingError::Types)?.bit();
        }
    }
    Ok(types)
}

const _: () = assert!(core::mem::size_of::<Settings>() <= 128);

#[cfg(test)]
mod tests;
