//! The router's three ports, and where outgoing frames go.
//!
//! Units: bytes. A frame here is an Ethernet II frame without preamble and FCS.

use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

/// One side of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Port {
    /// The owner's own network.
    Lan,
    /// The internet line.
    Wan,
    /// The wireless link to the neighbours.
    Air,
}

impl Port {
    /// Every port, in index order.
    pub const ALL: [Port; 3] = [Port::Lan, Port::Wan, Port::Air];

    /// Position of the port in tables; below `ALL.len()`.
    pub const fn index(self) -> usize {
        match self {
            Port::Lan => 0,
            Port::Wan => 1,
            Port::Air => 2,
        }
    }
}

/// How one port is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAddress {
    /// The port's own MAC address; given by the board.
    pub mac: EthernetAddress,
    /// The router's address and net on this port; `None` until configured.
    pub cidr: Option<Ipv4Cidr>,
    /// Next hop for everything that is on no port's net; only meaningful on `Wan`.
    pub gateway: Option<Ipv4Address>,
}

/// Whether any address is in both nets.
pub fn overlap(one: &Ipv4Cidr, other: &Ipv4Cidr) -> bool {
    one.contains_addr(&other.address()) || other.contains_addr(&one.address())
}

/// No transmit slot is free: the frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Full;

/// Where the router puts frames that it makes itself.
///
/// Frames that are merely forwarded do not pass here: for them
/// [`Verdict::Forward`](crate::router::Verdict) names the port and the caller moves the buffer.
pub trait Egress {
    /// Lends a zero-length-safe slot of exactly `len` bytes on `port` to `fill`, then queues it.
    ///
    /// The slot's content before `fill` is unspecified: `fill` writes every byte.
    ///
    /// # Errors
    /// [`Full`] when the port has no free slot; `fill` was not called.
    fn transmit<R>(
        &mut self,
        port: Port,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, Full>;

    /// Free transmit slots of `port`.
    fn room(&self, port: Port) -> usize;

    /// Frames in transmit slots of `port` that have not left yet, as far as the board knows.
    fn queued(&self, port: Port) -> usize;
}
