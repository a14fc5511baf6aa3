//! Datagrams of the router's own services: DHCP, DNS, TFTP.
//!
//! A service is a state machine: it gets a [`Datagram`] and the time, and sends by [`SendUdp`].
//! smoltcp's UDP sockets would copy each datagram twice more and bring an interface's pass with
//! each, for services that answer one datagram with one other.
//!
//! Follows: RFC 768.
//! Units: bytes.

use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address};

use crate::port::{Full, Port};

/// A received datagram for the router itself; its checksum was right.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it came in.
    pub port: Port,
    /// Hardware address of the sender, or of the router that forwarded it.
    pub src_mac: EthernetAddress,
    /// Sender; unspecified (0.0.0.0) of a host that has no address yet.
    pub src: Ipv4Address,
    /// Port of the sender.
    pub src_port: u16,
    /// Receiver: the router's address on the port, or a broadcast address.
    pub dst: Ipv4Address,
    /// Port of the receiver.
    pub dst_port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Where a datagram of the router's own goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// By which port it leaves.
    pub port: Port,
    /// The router's address.
    pub src: Ipv4Address,
    /// The router's port.
    pub src_port: u16,
    /// Receiver.
    pub dst: Ipv4Address,
    /// Port of the receiver.
    pub dst_port: u16,
    /// Hardware address of the receiver, for one that does not answer ARP yet; `None` looks for
    /// the next hop to `dst` on the port.
    pub mac: Option<EthernetAddress>,
}

/// Sends the services' datagrams.
pub trait SendUdp {
    /// Sends a datagram with `len` bytes of payload, at most 1472, which `fill` writes all.
    ///
    /// # Errors
    /// [`Full`] when the port has no slot, the payload is too long, or there is no way to the
    /// receiver; `fill` was not called.
    fn send_udp(
        &mut self,
        now: Instant,
        to: &Outgoing,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Full>;
}
