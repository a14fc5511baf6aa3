//! What the driver tells: errors, trouble, events, counters.

use super::Link;
use crate::soc::backplane::control::Stuck;

/// A configuration that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum ConfigError {
    /// The address is a multicast address, or zero.
    Mac,
    /// There is no PHY: the port is not used ([`NO_PHY`](super::NO_PHY)), or the address is out of range.
    Phy {
        /// The address given.
        found: u8,
    },
    /// A clock that the MDIO divider cannot serve.
    Clock,
}

/// A wait that ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Wait {
    /// The MAC does not stop.
    MacDisable,
    /// The address filter takes no entry.
    Cam,
    /// An MDIO transfer does not end: no clock from the PHY, or the switch is held in reset.
    Mdio,
    /// The PHY does not come out of its reset.
    PhyReset,
}

/// Why an interface does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// Not an Ethernet core of this kind.
    NotEthernet {
        /// IDHIGH as read.
        found: u32,
    },
    /// It cannot be as it was told to be.
    Config(ConfigError),
    /// No page is left for its rings, or the device cannot reach them.
    Memory,
    /// The core does not reset.
    Core(Stuck),
    /// The MAC does not do what it is told.
    Timeout(Wait),
}

impl From<Stuck> for Error {
    fn from(stuck: Stuck) -> Self {
        Self::Core(stuck)
    }
}

/// Why the interface was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Trouble {
    /// The receive FIFO ran over, which wedges the receiver.
    Overrun,
    /// A descriptor or a buffer could not be used, or a FIFO ran empty.
    Dma {
        /// `ISTAT`'s error bits.
        status: u32,
    },
    /// Nothing was sent for [`STUCK_US`](super::STUCK_US) although there was something.
    TransmitStuck,
    /// A register shows what it cannot: the card may be gone.
    Nonsense,
    /// The last reset failed.
    Down,
}

/// What `poll` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Event {
    /// The link came or changed.
    LinkUp(Link),
    /// The link went.
    LinkDown,
    /// There was trouble; a reset ended it.
    Reset(Trouble),
    /// There was trouble, and the reset failed: the interface is down until one succeeds.
    Failed(Error),
}

/// What happened since the start; each wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, defmt::Format)]
pub struct Counters {
    /// Frames handed to the main loop.
    pub received: u32,
    /// Frames that left, as their slots tell.
    pub sent: u32,
    /// Dropped: flagged as damaged or too long.
    pub bad: u32,
    /// Dropped: shorter than an Ethernet header, or of an impossible length.
    pub runts: u32,
    /// Dropped: the header never came.
    pub headerless: u32,
    /// Frames that were waiting to be sent when the interface was reset.
    pub discarded: u32,
    /// Resets for an overrun.
    pub overruns: u32,
    /// Resets for descriptor and bus errors.
    pub dma_errors: u32,
    /// Resets of a stuck transmitter.
    pub stuck: u32,
    /// Resets for nonsense in a register.
    pub nonsense: u32,
    /// Resets that failed.
    pub failed: u32,
    /// MDIO transfers that did not end.
    pub mdio_timeouts: u32,
    /// The hardware's: frames lost for want of room.
    pub missed: u32,
    /// The hardware's: wrong check sequence, half bytes, code errors.
    pub damaged: u32,
    /// The hardware's: too short or too long.
    pub wrong_length: u32,
    /// The hardware's: not sent, for collisions or an empty FIFO.
    pub unsent: u32,
}
