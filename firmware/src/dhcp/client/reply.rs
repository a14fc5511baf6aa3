//! A server's message: read, then judged before anything of it is used.
//!
//! Follows: RFC 2131 sections 2, 4.1 and 4.4, RFC 2132, RFC 3021 (nets of two addresses).
//! Units: seconds as on the wire, [`Duration`] in a [`Lease`].
//!
//! Options are read leniently (unknown ones, any number, any order; the first of a kind counts), values
//! strictly. What [`Reply::judge`] lets through is all that the rest of the router ever sees.
//!
//! Not done: RFC 3396 (an option in pieces), RFC 3442 (classless routes).

use smoltcp::time::Duration;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, EthernetAddress, Ipv4Address, Ipv4Cidr};

use super::{Lease, Refusal};
use crate::budget::{
    DHCP_LEASE_DEFAULT, DHCP_LEASE_MIN, DHCP_RENEW_MIN, FRAME_BYTES_MAX, WAN_DNS_MAX,
};
use crate::port::overlap;
use crate::wire::packet::ETHERNET_BYTES;

const MAGIC: u32 = 0x6382_5363;
const OP_REPLY: u8 = 2;
const SNAME: core::ops::Range<usize> = 44..108;
const FILE: core::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;

/// Option codes of RFC 2132.
pub(super) mod option {
    pub(in crate::dhcp::client) const PAD: u8 = 0;
    pub(in crate::dhcp::client) const SUBNET_MASK: u8 = 1;
    pub(in crate::dhcp::client) const ROUTER: u8 = 3;
    pub(in crate::dhcp::client) const DNS: u8 = 6;
    pub(in crate::dhcp::client) const MTU: u8 = 26;
    pub(in crate::dhcp::client) const LEASE_TIME: u8 = 51;
    pub(in crate::dhcp::client) const OVERLOAD: u8 = 52;
    pub(in crate::dhcp::client) const MESSAGE_TYPE: u8 = 53;
    pub(in crate::dhcp::client) const SERVER_ID: u8 = 54;
    pub(in crate::dhcp::client) const T1: u8 = 58;
    pub(in crate::dhcp::client) const T2: u8 = 59;
    pub(in crate::dhcp::client) const END: u8 = 255;
}

/// The smallest MTU that is believed: every host must take datagrams of 576 bytes (RFC 791 section 3.1).
const MTU_MIN: u16 = 576;
/// Prefixes that a line may have: shorter ones are no net of a line but a mistake or an attack.
const PREFIX: core::ops::RangeInclusive<u8> = 8..=32;

/// What a server says, by message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Offer,
    Ack,
    Nak,
}

/// A server's message to this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    pub(super) xid: u32,
    /// `yiaddr`; unspecified in a NAK.
    pub(super) address: Ipv4Address,
    pub(super) server: Option<Ipv4Address>,
    mask: Option<Ipv4Address>,
    gateway: Option<Ipv4Address>,
    dns: [Option<Ipv4Address>; WAN_DNS_MAX],
    mtu: Option<u16>,
    lease_s: Option<u32>,
    t1_s: Option<u32>,
    t2_s: Option<u32>,
}

impl Reply {
    /// Reads a UDP payload; `None` if it is no server's message, or for another client.
    pub(super) fn parse(message: &[u8], mac: EthernetAddress) -> Option<Self> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let op = u8::from(packet.opcode());
        if op != OP_REPLY
            || u16::from(packet.hardware_type()) != 1
            || packet.hardware_len() != 6
            || packet.client_hardware_address() != mac
            || packet.magic_number() != MAGIC
        {
            return None;
        }
        let mut reply = Self {
            kind: Kind::Nak,
            xid: packet.transaction_id(),
            address: packet.your_ip(),
            server: None,
            mask: None,
            gateway: None,
            dns: [None; WAN_DNS_MAX],
            mtu: None,
            lease_s: None,
            t1_s: None,
            t2_s: None,
        };
        let mut kind = None;
        let mut overload = 0;
        for (code, value) in options(message.get(OPTIONS..)?) {
            match (code, value) {
                (option::MESSAGE_TYPE, &[value]) if kind.is_none() => {
                    kind = Some(DhcpMessageType::from(value));
                }
                (option::OVERLOAD, &[value]) => overload = value,
                (code, value) => reply.take(code, value),
            }
        }
        // RFC 2131 section 4.1: "the options in the 'file' field … MUST be interpreted next".
        if overload & 1 != 0 {
            options(message.get(FILE)?).for_each(|(code, value)| reply.take(code, value));
        }
        if overload & 2 != 0 {
            options(message.get(SNAME)?).for_each(|(code, value)| reply.take(code, value));
        }
        reply.kind = match kind? {
            DhcpMessageType::Offer => Kind::Offer,
            DhcpMessageType::Ack => Kind::Ack,
            DhcpMessageType::Nak => Kind::Nak,
            DhcpMessageType::Discover
            | DhcpMessageType::Request
            | DhcpMessageType::Decline
            | DhcpMessageType::Release
            | DhcpMessageType::Inform
            | DhcpMessageType::Unknown(_) => return None,
        };
        Some(reply)
    }

    /// Keeps an option's value if it is the first of its kind and long enough.
    fn take(&mut self, code: u8, value: &[u8]) {
        let word = value.first_chunk::<4>().copied();
        let address = || word.map(Ipv4Address::from);
        let seconds = || word.map(u32::from_be_bytes);
        match code {
            option::SUBNET_MASK => self.mask = self.mask.or_else(address),
            option::ROUTER => self.gateway = self.gateway.or_else(address),
            option::SERVER_ID => self.server = self.server.or_else(address),
            option::LEASE_TIME => self.lease_s = self.lease_s.or_else(seconds),
            option::T1 => self.t1_s = self.t1_s.or_else(seconds),
            option::T2 => self.t2_s = self.t2_s.or_else(seconds),
            option::MTU => {
                let mtu = value.first_chunk::<2>().copied().map(u16::from_be_bytes);
                self.mtu = self.mtu.or(mtu);
            }
            option::DNS if self.dns == [None; WAN_DNS_MAX] => {
                let (servers, _) = value.as_chunks::<4>();
                let servers = servers.iter().map(|&server| Ipv4Address::from(server));
                // Some servers fill the list up with 0.0.0.0.
                let servers = servers.filter(|&server| is_unicast(server));
                for (place, server) in self.dns.iter_mut().zip(servers) {
                    *place = Some(server);
                }
            }
            // Not asked for, or known already.
            _ => {}
        }
    }

    /// The server's identifier, if it is one that can be spoken to.
    ///
    /// # Errors
    /// [`Refusal::NoServer`]: RFC 2131 table 3, "MUST" in each of a server's messages.
    pub(super) fn server(&self) -> Result<Ipv4Address, Refusal> {
        self.server
            .filter(|&server| is_unicast(server) && server != self.address)
            .ok_or(Refusal::NoServer)
    }

    /// Makes a lease of an offer or acknowledgment. `taken` are the nets of the other ports.
    ///
    /// An offer may lack what only the acknowledgment must have; what it has is judged alike.
    ///
    /// # Errors
    /// Why it is not usable.
    pub(super) fn judge(&self, taken: &[Ipv4Cidr]) -> Result<Lease, Refusal> {
        let server = self.server()?;
        if !is_unicast(self.address) {
            return Err(Refusal::Address);
        }
        let address = Ipv4Cidr::new(self.address, self.prefix()?);
        if !is_host_of(&address) {
            return Err(Refusal::Address);
        }
        if taken.iter().any(|net| overlap(net, &address)) {
            return Err(Refusal::Overlap);
        }
        let is_elsewhere = |host: Ipv4Address| taken.iter().any(|net| net.contains_addr(&host));
        if let Some(gateway) = self.gateway
            && (!is_unicast(gateway) || gateway == self.address || is_elsewhere(gateway))
        {
            return Err(Refusal::Gateway);
        }
        // A net of one address has nobody on it: without a gateway it leads nowhere.
        if self.gateway.is_none() && address.prefix_len() == 32 && self.kind == Kind::Ack {
            return Err(Refusal::Gateway);
        }
        let (t1_s, t2_s, lease_s) = self.times()?;
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        // A resolver at one of our own addresses would be asked for ever: nobody is there.
        let dns = self
            .dns
            .map(|server| server.filter(|&server| server != self.address && !is_elsewhere(server)));
        Ok(Lease {
            address,
            gateway: self.gateway,
            dns,
            server,
            mtu: self
                .mtu
                .filter(|&mtu| mtu >= MTU_MIN)
                .map(|mtu| mtu.min(IP_BYTES_MAX)),
            t1: seconds(t1_s),
            t2: seconds(t2_s),
            duration: seconds(lease_s),
        })
    }

    /// Without a mask (RFC 2131 does not demand one) all goes by the gateway.
    fn prefix(&self) -> Result<u8, Refusal> {
        let mask = self.mask.unwrap_or(Ipv4Address::BROADCAST).to_bits();
        let prefix = mask.leading_ones() as u8;
        if mask.count_ones() != u32::from(prefix) || !PREFIX.contains(&prefix) {
            return Err(Refusal::Mask);
        }
        Ok(prefix)
    }

    /// T1, T2 and the lease's time: those of the server if they are in order (RFC 2131 section 4.4.5),
    /// else the defaults.
    fn times(&self) -> Result<(u32, u32, u32), Refusal> {
        let lease = self.lease_s.unwrap_or(DHCP_LEASE_DEFAULT.secs() as u32);
        if u64::from(lease) < DHCP_LEASE_MIN.secs() {
            return Err(Refusal::LeaseTime);
        }
        let in_order =
            |t1: u32, t2: u32| u64::from(t1) >= DHCP_RENEW_MIN.secs() && t1 < t2 && t2 < lease;
        let defaults = (lease / 2, lease - lease.div_ceil(8));
        let t1 = self.t1_s.unwrap_or(defaults.0);
        let t2 = self.t2_s.unwrap_or(defaults.1);
        let (t1, t2) = if in_order(t1, t2) { (t1, t2) } else { defaults };
        Ok((t1, t2, lease))
    }
}

/// The largest IP datagram of a port, bytes.
const IP_BYTES_MAX: u16 = (FRAME_BYTES_MAX - ETHERNET_BYTES) as u16;

/// Code and value of each option; ends at the end mark or at the first that does not fit.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    core::iter::from_fn(move || {
        while let [option::PAD, rest @ ..] = bytes {
            bytes = rest;
        }
        let (&code, rest) = bytes.split_first()?;
        if code == option::END {
            return None;
        }
        let (&len, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(len))?;
        bytes = rest;
        Some((code, value))
    })
}

/// A host of some net can have this address.
fn is_unicast(address: Ipv4Address) -> bool {
    let [first, second, ..] = address.octets();
    !matches!(first, 0 | 127 | 224..) && (first, second) != (169, 254)
}

/// Neither the net itself nor its broadcast; in nets of two addresses or one (RFC 3021) all are hosts.
fn is_host_of(net: &Ipv4Cidr) -> bool {
    let address = net.address();
    net.prefix_len() >= 31
        || (address != net.network().address() && Some(address) != net.broadcast())
}
