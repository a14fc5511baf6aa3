//! A lease, and what can happen to it.

use smoltcp::time::Duration;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

use crate::budget::WAN_DNS_MAX;

/// An address and what comes with it, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Own address and net; prefix 8 to 32.
    pub address: Ipv4Cidr,
    /// The way out, which need not be on the net: it is a host of the link.
    pub gateway: Option<Ipv4Address>,
    /// Resolvers in the server's order, from the first place on but with gaps.
    pub dns: [Option<Ipv4Address>; WAN_DNS_MAX],
    /// The server's identifier.
    pub server: Ipv4Address,
    /// Largest IP datagram of the line if the server names one, 576 to 1500 bytes.
    pub mtu: Option<u16>,
    /// From the acknowledgment to the first attempt to renew.
    pub t1: Duration,
    /// From the acknowledgment to the first attempt with any server.
    pub t2: Duration,
    /// From the acknowledgment to the end.
    pub duration: Duration,
}

impl Lease {
    /// The lease never ends (RFC 2131 section 3.3: all ones).
    pub const fn is_infinite(&self) -> bool {
        self.duration.secs() == u32::MAX as u64
    }
}

/// Why a server's lease is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Refusal {
    /// No identifier of the server, or none that can be spoken to.
    NoServer,
    /// The address is no host's, or the net's own.
    Address,
    /// The mask is not contiguous, or shorter than 8.
    Mask,
    /// The gateway is no host's, this router itself, or on another port's net; or there is none and nobody else is on the net.
    Gateway,
    /// The net is the LAN's or the air's, or overlaps them.
    Overlap,
    /// The lease is over before it can be renewed.
    LeaseTime,
}

impl Refusal {
    /// The reason as the console prints it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoServer => "it names no server",
            Self::Address => "its address is no host's",
            Self::Mask => "its mask is wrong",
            Self::Gateway => "its gateway is wrong",
            Self::Overlap => "its net is that of the LAN or the air",
            Self::LeaseTime => "it ends too soon",
        }
    }
}

/// Why there is no lease any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Lost {
    /// No server renewed it in its time.
    Expired,
    /// The server took it back.
    Nak,
    /// [`Client::restart`].
    Restarted,
    /// [`Client::stop`].
    Stopped,
}

impl Lost {
    /// The reason as the console prints it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Nak => "refused by the server",
            Self::Restarted => "asked for anew",
            Self::Stopped => "no longer wanted",
        }
    }
}

/// What the router is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a lease, and before there was none or another address or gateway.
    Leased(Lease),
    /// The lease goes on; address and gateway are as before, the rest may have changed.
    Renewed(Lease),
    /// The lease has ended: its address must not be used any more.
    Lost(Lost),
    /// A server's lease is not used; told once for each reason until there is a lease.
    Refused {
        /// Why.
        why: Refusal,
        /// The address offered.
        address: Ipv4Address,
    },
}
