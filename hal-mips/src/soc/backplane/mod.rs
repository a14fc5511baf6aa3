//! The Sonics silicon backplane of Broadcom's chips: which cores there are, their registers, reset, interrupts.
//!
//! Follows: what public drivers and boot messages show of it; each figure's origin stands beside it. Offsets are in
//! `regs.rs`.
//!
//! A driver knows only [`Regs`] of its own core. Where those are is a [`Backplane`]'s business:
//! ```text
//! Soc    every core has 4 KiB of the processor's address space         BCM4712, BCM5352: the routers
//! Card   one window in PCI's base address 0, moved by configuration    BCM4401: the network card
//! ```
//! Calling order: [`scan`], [`control::enable`] of a core, its driver; on a card [`Card::bring_up`] first.
//!
//! Units: µs; every wait has a bound. Invariants: I1 no core is touched whose index is not below the count, since on the SoC
//! that is a bus error.
//! Not done: address match registers, error logs, buses of more than one chip; the SoC as host of a PCI bus (WRT54G v1).

mod card;
pub mod control;
pub mod interrupt;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod regs;
mod soc;
#[cfg(test)]
mod tests;

use crate::mmio::Regs;

pub use card::{Card, CardError};
pub use soc::Soc;

/// Cores of a chip at most: the count is four bits wide.
pub const CORES_MAX: usize = 16;
/// Broadcom, in IDHIGH.
const VENDOR: u16 = 0x4243;

/// What a core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct CoreId(pub u16);

impl CoreId {
    /// Clock, UART, GPIO, watchdog.
    pub const CHIP_COMMON: Self = Self(0x800);
    /// PCI, host or card.
    pub const PCI: Self = Self(0x804);
    /// The BCM4702's processor.
    pub const MIPS: Self = Self(0x805);
    /// 10/100 Ethernet.
    pub const ETHERNET: Self = Self(0x806);
    /// A modem's codec, on the network card for no reason of ours.
    pub const V90: Self = Self(0x807);
    /// What the BCM4702 has in place of ChipCommon.
    pub const EXTIF: Self = Self(0x811);
    /// IEEE 802.11.
    pub const WIRELESS: Self = Self(0x812);
    /// The processor of later chips.
    pub const MIPS_3302: Self = Self(0x816);
    /// The switch inside the BCM5352 and 5354.
    pub const ROBO_SWITCH: Self = Self(0x81c);
}

/// One core of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Core {
    /// Its place.
    pub index: u8,
    /// What it is.
    pub id: CoreId,
    /// Its revision.
    pub revision: u8,
    /// Number of its interrupt flag; `None` when it has none.
    pub flag: Option<u8>,
}

/// What a chip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Chip {
    /// Its number: 0x5352, 0x4712, …
    pub id: u16,
    /// Its revision.
    pub revision: u8,
    /// Its package.
    pub package: u8,
}

/// A chip and its cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The chip.
    pub chip: Chip,
    /// Its cores in the order of their indices.
    pub list: heapless::Vec<Core, CORES_MAX>,
}

impl Cores {
    /// The first core of a kind.
    pub fn find(&self, id: CoreId) -> Option<Core> {
        self.list.iter().copied().find(|core| core.id == id)
    }
}

/// Why a backplane cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// What answers at the first core is none of Broadcom's.
    NotBroadcom {
        /// IDHIGH as read.
        found: u32,
    },
    /// A chip without ChipCommon's count whose number of cores is not known.
    UnknownChip {
        /// Its number.
        id: u16,
    },
    /// No such core.
    NoCore {
        /// The index asked for.
        index: u8,
    },
    /// The window of a card does not move.
    Window {
        /// What its register shows.
        found: u32,
    },
    /// A core does not do what it is told.
    Stuck(control::Stuck),
}

impl From<control::Stuck> for Error {
    fn from(stuck: control::Stuck) -> Self {
        Self::Stuck(stuck)
    }
}

/// Access to the registers of every core.
pub trait Backplane {
    /// Registers of one core.
    type Core: Regs;

    /// The registers of the core at `index`, until the next call.
    ///
    /// # Errors
    /// [`Error::NoCore`], [`Error::Window`].
    fn core(&mut self, index: u8) -> Result<&mut Self::Core, Error>;

    /// The chip that it is when core 0 is not ChipCommon, which would tell.
    fn implied_chip(&self) -> Chip;
}

/// Finds the chip and its cores.
///
/// # Errors
/// [`Error::NotBroadcom`], [`Error::UnknownChip`], and those of [`Backplane::core`].
pub fn scan<B: Backplane>(bus: &mut B) -> Result<Cores, Error> {
    let first = bus.core(0)?.read32(regs::IDHIGH);
    if (first >> 16) as u16 != VENDOR {
        return Err(Error::NotBroadcom { found: first });
    }
    let (id, revision) = decode(first);
    let (chip, told) = if id == CoreId::CHIP_COMMON {
        let word = bus.core(0)?.read32(regs::CHIP_ID);
        let chip = Chip {
            id: word as u16,
            revision: (word >> 16 & 0xf) as u8,
            package: (word >> 20 & 0xf) as u8,
        };
        // The count is there from ChipCommon revision 4 on.
        let told = (revision >= 4).then_some((word >> 24 & 0xf) as u8);
        (chip, told)
    } else {
        (bus.implied_chip(), None)
    };
    let count = match told.filter(|&count| count != 0) {
        Some(count) => count,
        None => count_of(chip.id).ok_or(Error::UnknownChip { id: chip.id })?,
    };
    let mut list = heapless::Vec::new();
    for index in 0..count {
        let window = bus.core(index)?;
        let (id, revision) = decode(window.read32(regs::IDHIGH));
        let flag = (window.read32(regs::TPSFLAG) & regs::TPSFLAG_NUMBER) as u8;
        // `count` is at most 15.
        let _room = list.push(Core {
            index,
            id,
            revision,
            flag: (flag != 0).then_some(flag),
        });
    }
    Ok(Cores { chip, list })
}

/// Core and revision, from IDHIGH.
const fn decode(id_high: u32) -> (CoreId, u8) {
    let revision = (id_high & 0xf) | ((id_high & 0x7000) >> 8);
    (
        CoreId(((id_high & 0x8ff0) >> 4) as u16),
        revision as u8, // seven bits
    )
}

/// Number of cores of the chips that do not tell it.
const fn count_of(chip: u16) -> Option<u8> {
    match chip {
        0x4710 | 0x4610 | 0x4704 => Some(9),
        0x4310 => Some(8),
        0x5365 => Some(7),
        0x4306 => Some(6),
        0x4307 | 0x4301 => Some(5),
        0x4401 | 0x4402 => Some(3),
        _ => None,
    }
}
