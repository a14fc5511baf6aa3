//! The ways to an origin: the own uplink, and peers.

pub mod lender;
mod nat;
pub mod peer;

use crate::budget::PEERS_MAX;

/// Links an exchange can use: the uplink and every peer.
pub const LINKS_MAX: usize = 1 + PEERS_MAX;

/// One way to the origin: the uplink, or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct LinkId(u8);

impl LinkId {
    /// The router's own line.
    pub const UPLINK: LinkId = LinkId(0);

    /// The link of the peer in slot `index`, below [`PEERS_MAX`].
    pub const fn peer(index: usize) -> LinkId {
        assert!(index < PEERS_MAX);
        LinkId(1 + index as u8)
    }

    /// The link at `index` of tables, below [`LINKS_MAX`].
    pub const fn from_index(index: usize) -> LinkId {
        assert!(index < LINKS_MAX);
        LinkId(index as u8)
    }

    /// Position in tables, below [`LINKS_MAX`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The peer's slot, or `None` for the uplink.
    pub const fn peer_index(self) -> Option<usize> {
        match self.0 {
            0 => None,
            n => Some(n as usize - 1),
        }
    }
}
