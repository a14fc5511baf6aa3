//! Settings of which there are several: forwarded ports, reserved addresses.

use core::fmt;
use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use smoltcp::wire::EthernetAddress;

use super::SettingError;
use super::parse::{parse_host, parse_number};
use crate::budget::{FORWARDS_MAX, LOCAL_PORT_FIRST, RESERVATIONS_MAX};
use crate::console::Mac;

/// A port of the WAN address that leads to a host of the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Protocol of the port.
    pub protocol: ForwardProtocol,
    /// Port of the WAN address; below [`LOCAL_PORT_FIRST`], not 0.
    pub wan_port: u16,
    /// The host.
    pub host: Ipv4Addr,
    /// Its port; not 0.
    pub port: u16,
}

/// What can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ForwardProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl ForwardProtocol {
    /// Its word in settings.
    pub const fn name(self) -> &'static str {
        match self {
            ForwardProtocol::Tcp => "tcp",
            ForwardProtocol::Udp => "udp",
        }
    }
}

/// An address that belongs to one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// MAC address of the host.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
}

/// The forwarded ports; filled from the front, each port of a protocol once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwards([Option<Forward>; FORWARDS_MAX]);

/// The reserved addresses; filled from the front, each host and each address once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservations([Option<Reservation>; RESERVATIONS_MAX]);

impl Forwards {
    /// No port is forwarded.
    pub const NONE: Self = Self([None; FORWARDS_MAX]);

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Forward> {
        self.0.iter().flatten()
    }

    /// Where a port of the WAN address leads.
    pub fn find(&self, protocol: ForwardProtocol, wan_port: u16) -> Option<&Forward> {
        self.iter()
            .find(|forward| forward.protocol == protocol && forward.wan_port == wan_port)
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    /// The port is taken or the router's own, or the list is full; nothing was changed.
    pub fn add(&mut self, forward: Forward) -> Result<(), SettingError> {
        if forward.wan_port >= LOCAL_PORT_FIRST
            || self.find(forward.protocol, forward.wan_port).is_some()
        {
            return Err(SettingError::ForwardPort);
        }
        push(&mut self.0, forward)
    }

    pub(super) fn parse(value: &str) -> Result<Self, SettingError> {
        let mut list = Self::NONE;
        each(value, |text| {
            list.add(parse_forward(text).ok_or(SettingError::Forward)?)
        })?;
        Ok(list)
    }
}

impl Reservations {
    /// No address is reserved.
    pub const NONE: Self = Self([None; RESERVATIONS_MAX]);

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Reservation> {
        self.0.iter().flatten()
    }

    /// The address that belongs to a host.
    pub fn address_of(&self, mac: EthernetAddress) -> Option<Ipv4Addr> {
        self.iter()
            .find(|reservation| reservation.mac == mac.0)
            .map(|reservation| reservation.address)
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    /// The host or the address is listed already, or the list is full; nothing was changed.
    pub fn add(&mut self, reservation: Reservation) -> Result<(), SettingError> {
        let is_listed = |other: &Reservation| {
            other.mac == reservation.mac || other.address == reservation.address
        };
        if self.iter().any(is_listed) {
            return Err(SettingError::ReservedTwice);
        }
        push(&mut self.0, reservation)
    }

    pub(super) fn parse(value: &str) -> Result<Self, SettingError> {
        let mut list = Self::NONE;
        each(value, |text| {
            list.add(parse_reservation(text).ok_or(SettingError::Reservation)?)
        })?;
        Ok(list)
    }
}

/// Puts `item` behind the others.
///
/// # Errors
/// There is no place; nothing was changed.
fn push<T>(places: &mut [Option<T>], item: T) -> Result<(), SettingError> {
    let free = places.iter_mut().find(|place| place.is_none());
    *free.ok_or(SettingError::ListFull)? = Some(item);
    Ok(())
}

/// Calls `take` with each item of a list as it is written; `none` has none.
///
/// # Errors
/// The first of `take`'s.
pub(super) fn each(
    value: &str,
    take: impl FnMut(&str) -> Result<(), SettingError>,
) -> Result<(), SettingError> {
    if value == "none" {
        return Ok(());
    }
    value.split(',').try_for_each(take)
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.name();
        write!(
            f,
            "{protocol}:{}={}:{}",
            self.wan_port, self.host, self.port
        )
    }
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Mac(EthernetAddress(self.mac)), self.address)
    }
}

fn parse_forward(text: &str) -> Option<Forward> {
    let (protocol, rest) = text.split_once(':')?;
    let (wan_port, target) = rest.split_once('=')?;
    let (host, port) = target.split_once(':')?;
    Some(Forward {
        protocol: match protocol {
            "tcp" => ForwardProtocol::Tcp,
            "udp" => ForwardProtocol::Udp,
            _ => return None,
        },
        wan_port: parse_port(wan_port)?,
        host: parse_host(host).ok()?,
        port: parse_port(port)?,
    })
}

fn parse_port(text: &str) -> Option<u16> {
    let number = parse_number(text)?;
    u16::try_from(number).ok().filter(|&port| port != 0)
}

fn parse_reservation(text: &str) -> Option<Reservation> {
    let (mac, address) = text.split_once('=')?;
    let mac = parse_mac(mac)?;
    Some(Reservation {
        mac,
        address: parse_host(address).ok()?,
    })
}

/// Six bytes as two hexadecimal digits each, between colons or dashes; a station's own address.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let digits = parts.next().filter(|digits| digits.len() == 2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    let is_unicast = EthernetAddress(mac).is_unicast();
    (parts.next().is_none() && is_unicast).then_some(mac)
}
