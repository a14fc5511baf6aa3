//! The switch between the sockets on the case and the processor's Ethernet core: WAN apart from LAN, by 802.1Q tags.
//!
//! Follows: what public drivers program; the port numbers are the board's, from its nvram. All of it is programmed anew,
//! whatever the boot loader left: it leaves the processor's port untagged in the LAN, so that nothing tells WAN from LAN.
//!
//! ```text
//! LAN sockets ── VLAN 0 ─┐
//!                        ├─ processor's port, tagged ── Ethernet core ── `Tagged` ── two interfaces
//! WAN socket ─── VLAN 1 ─┘
//! ```
//! Calling order: the switch out of reset (inside the SoC: `backplane::control::enable` of its core; else the pin that the
//! board calls `robo_reset`), the Ethernet core's driver with [`SWITCH_PHY`](crate::eth::SWITCH_PHY), whose
//! address filter hangs while the switch is in reset, [`Robo::start`], [`Tagged::new`].
//! Invariants: I1 forwarding is off from before the first VLAN is touched until all are right: no frame of the WAN
//! reaches the LAN past the router.
//! Not done: the ADM6996 of the oldest boards (WRT54G v1, v2.0, WRT54GS v1.0); counters; nothing here has met a real switch.

#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod regs;
mod tagged;
#[cfg(test)]
mod tests;

use crate::arch::time::Delay;
use crate::eth;
use crate::soc::nvram::Nvram;
use regs::*;

pub use tagged::{Side, Tagged};

/// Looks at an access until it is done, and the pause between, µs: 1 ms.
const LOOKS: u32 = 50;
const LOOK_US: u32 = 20;
/// After a reset of the switch, µs: none is documented.
const RESET_US: u32 = 20_000;
/// Port of the processor in the VLAN table's masks.
const PROCESSOR: u8 = 5;
/// Jack ports.
pub const JACKS: u8 = 5;

/// A management bus.
pub trait Mdio {
    /// Reads a register.
    ///
    /// # Errors
    /// The bus's own, when the transfer does not end.
    fn read(&mut self, phy: u8, register: u8) -> Result<u16, eth::Error>;

    /// Writes a register.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn write(&mut self, phy: u8, register: u8, value: u16) -> Result<(), eth::Error>;
}

/// Why a switch cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// MDIO.
    Bus(eth::Error),
    /// Nothing answers at the pseudo-PHY: it is held in reset, or is of another kind.
    NoSwitch,
    /// An access does not end.
    Busy {
        /// Page and register.
        page: u8,
        /// See `page`.
        register: u8,
    },
    /// A register does not keep what it is told.
    Refused {
        /// Page and register.
        page: u8,
        /// See `page`.
        register: u8,
        /// What it shows.
        found: u16,
    },
}

impl From<eth::Error> for Error {
    fn from(error: eth::Error) -> Self {
        Self::Bus(error)
    }
}

/// Which sockets are LAN and which is WAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Mask of jack ports of the LAN.
    pub lan: u8,
    /// Mask of jack ports of the WAN.
    pub wan: u8,
    /// The switch is a chip of its own, a BCM5325E, not part of the SoC.
    pub is_external: bool,
}

impl Ports {
    /// WRT54G v4, WRT54GL, WRT54GS v3 and v4: the switch inside the BCM5352.
    pub const BOARD_0467: Self = Self {
        lan: 0b0_1111,
        wan: 0b1_0000,
        is_external: false,
    };
    /// WRT54G v2.2, v3: a BCM5325E, numbered the other way round.
    pub const BOARD_0708: Self = Self {
        lan: 0b1_1110,
        wan: 0b0_0001,
        is_external: true,
    };

    /// From a board's variables; where they say nothing sensible about the ports, its type decides. `None` for a board
    /// whose switch is not known.
    pub fn of(nvram: &Nvram<'_>) -> Option<Self> {
        let board = match nvram.number("boardtype")? {
            0x0467 => Self::BOARD_0467,
            0x0708 => Self::BOARD_0708,
            _ => return None,
        };
        let told = |name| ports(nvram.get(name)?);
        match (told("vlan0ports"), told("vlan1ports")) {
            (Some(lan), Some(wan)) if lan & wan == 0 => Some(Self { lan, wan, ..board }),
            _ => Some(board),
        }
    }

    /// The VLAN table's data for a mask of jacks: they and the processor are members, the processor's frames are tagged.
    const fn entry(jacks: u8, vlan: u32, is_new: bool) -> u32 {
        let members = jacks as u32 | 1 << PROCESSOR;
        let untagged = (jacks as u32) << 6;
        // From chip revision 3 on the bit moved, and the VLAN's number is in the entry.
        let valid = if is_new {
            1 << 24 | vlan << 12
        } else {
            1 << 20
        };
        members | untagged | valid
    }
}

/// Jacks of a text like `3 2 1 0 5*`, which must name the processor too; `None` for one that makes no sense.
fn ports(text: &[u8]) -> Option<u8> {
    let mut mask = 0;
    for word in text
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
    {
        // Suffixes say how the boot loader tags, which is not our business.
        let digits = match word {
            [digit, b't' | b'u' | b'*'] | [digit] => *digit,
            _ => return None,
        };
        let port = digits.checked_sub(b'0').filter(|port| *port <= PROCESSOR)?;
        mask |= 1 << port;
    }
    let jacks = mask & !(1 << PROCESSOR);
    (jacks != mask && jacks != 0).then_some(jacks)
}

/// A RoboSwitch: BCM5325E, or the one inside the BCM5352 and 5354.
#[derive(Debug)]
pub struct Robo {
    ports: Ports,
    /// The page that is selected; `None` when that is not known.
    page: Option<u8>,
    revision: u8,
}

/// Which sockets have a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Links {
    /// Mask of LAN jacks.
    pub lan: u8,
    /// The WAN's.
    pub wan: bool,
}

impl Robo {
    /// Programs a switch that was just reset, and lets it forward. The Ethernet core's MDIO must work already.
    ///
    /// # Errors
    /// [`Error`]; forwarding is off then, if it can be switched off at all.
    pub fn start<M: Mdio, W: Delay>(
        mdio: &mut M,
        delay: &mut W,
        ports: Ports,
    ) -> Result<Self, Error> {
        delay.us(RESET_US);
        let id = mdio.read(PSEUDO_PHY, MII_ID)?;
        if id == u16::MAX {
            return Err(Error::NoSwitch);
        }
        let mut robo = Self {
            ports,
            page: None,
            revision: 0,
        };
        let mut bus = Access { mdio, delay };
        robo.program(&mut bus)?;
        Ok(robo)
    }

    /// The chip's revision.
    pub fn revision(&self) -> u8 {
        self.revision
    }

    /// The sockets' links; to be asked once a second or so.
    ///
    /// # Errors
    /// [`Error`].
    pub fn links<M: Mdio, W: Delay>(
        &mut self,
        mdio: &mut M,
        delay: &mut W,
    ) -> Result<Links, Error> {
        let mut bus = Access { mdio, delay };
        let links = self.read(&mut bus, PAGE_STATUS, LINKS)? as u8;
        Ok(Links {
            lan: links & self.ports.lan,
            wan: links & self.ports.wan != 0,
        })
    }

    fn program<M: Mdio, W: Delay>(&mut self, bus: &mut Access<'_, M, W>) -> Result<(), Error> {
        let mode = self.read(bus, PAGE_CONTROL, MODE)? & !(MODE_MANAGED | MODE_FORWARD);
        self.write_checked(bus, PAGE_CONTROL, MODE, mode, MODE_MANAGED | MODE_FORWARD)?;
        self.revision = self.read(bus, PAGE_STATUS, REVISION)? as u8;
        let is_new = self.revision >= 3;
        for vlan in 0..VLANS {
            let data = match vlan {
                0 => Ports::entry(self.ports.lan, 0, is_new),
                1 => Ports::entry(self.ports.wan, 1, is_new),
                _ => 0,
            };
            self.write32(bus, PAGE_VLAN, VLAN_DATA, data)?;
            self.write(bus, PAGE_VLAN, VLAN_ACCESS, VLAN_ACCESS_WRITE | vlan)?;
        }
        for jack in 0..JACKS {
            let vlan = u16::from(self.ports.wan >> jack & 1);
            self.write(bus, PAGE_VLAN, DEFAULT_TAG + 2 * jack, vlan)?;
        }
        self.write(bus, PAGE_VLAN, DEFAULT_TAG_MII, 0)?;
        self.write(bus, PAGE_VLAN, VLAN_CONTROL_0, VLAN_CONTROL_0_ON)?;
        self.write(bus, PAGE_VLAN, VLAN_CONTROL_1, 0x0e)?;
        self.write(bus, PAGE_VLAN, VLAN_CONTROL_4, 0x40)?;
        self.write(bus, PAGE_VLAN, VLAN_CONTROL_5, 0x08)?;
        // What forwarding depends on is read back before it is switched on.
        self.check(bus, PAGE_VLAN, VLAN_CONTROL_0, VLAN_CONTROL_0_ON, 0x80)?;
        for jack in 0..JACKS {
            let vlan = u16::from(self.ports.wan >> jack & 1);
            self.check(bus, PAGE_VLAN, DEFAULT_TAG + 2 * jack, vlan, 0x0fff)?;
            self.write(bus, PAGE_CONTROL, PORT_CONTROL + jack, 0)?;
        }
        self.write(bus, PAGE_CONTROL, MII_CONTROL, 0)?;
        if self.ports.is_external {
            let value = self.read(bus, PAGE_CONTROL, MII_OVERRIDE)? | OVERRIDE_REVERSE_MII;
            self.write_checked(bus, PAGE_CONTROL, MII_OVERRIDE, value, OVERRIDE_REVERSE_MII)?;
        }
        // Without it the WAN socket's light stays dark.
        self.write(bus, PAGE_CONTROL, LIGHTS, 0x001f)?;
        let on = mode | MODE_FORWARD;
        self.write_checked(bus, PAGE_CONTROL, MODE, on, MODE_MANAGED | MODE_FORWARD)
    }

    fn write_checked<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
        register: u8,
        value: u16,
        mask: u16,
    ) -> Result<(), Error> {
        self.write(bus, page, register, value)?;
        self.check(bus, page, register, value, mask)
    }

    fn check<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
        register: u8,
        value: u16,
        mask: u16,
    ) -> Result<(), Error> {
        let found = self.read(bus, page, register)?;
        if (found ^ value) & mask == 0 {
            Ok(())
        } else {
            Err(Error::Refused {
                page,
                register,
                found,
            })
        }
    }

    /// Reads the low 16 bits of a register.
    fn read<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
        register: u8,
    ) -> Result<u16, Error> {
        self.select(bus, page)?;
        self.start_access(bus, page, register, MII_READ)?;
        Ok(bus.mdio.read(PSEUDO_PHY, MII_DATA)?)
    }

    /// Writes a register of at most 16 bits.
    fn write<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
        register: u8,
        value: u16,
    ) -> Result<(), Error> {
        self.select(bus, page)?;
        bus.mdio.write(PSEUDO_PHY, MII_DATA, value)?;
        self.start_access(bus, page, register, MII_WRITE)
    }

    /// Writes a register of 32 bits.
    fn write32<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
        register: u8,
        value: u32,
    ) -> Result<(), Error> {
        self.select(bus, page)?;
        bus.mdio.write(PSEUDO_PHY, MII_DATA, value as u16)?;
        bus.mdio
            .write(PSEUDO_PHY, MII_DATA + 1, (value >> 16) as u16)?;
        self.start_access(bus, page, register, MII_WRITE)
    }

    fn select<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
    ) -> Result<(), Error> {
        if self.page != Some(page) {
            self.page = None;
            let value = u16::from(page) << 8 | MII_PAGE_ENABLE;
            bus.mdio.write(PSEUDO_PHY, MII_PAGE, value)?;
            self.page = Some(page);
        }
        Ok(())
    }

    fn start_access<M: Mdio, W: Delay>(
        &mut self,
        bus: &mut Access<'_, M, W>,
        page: u8,
        register: u8,
        operation: u16,
    ) -> Result<(), Error> {
        let value = u16::from(register) << 8 | operation;
        bus.mdio.write(PSEUDO_PHY, MII_ADDRESS, value)?;
        for look in 0..LOOKS {
            if look != 0 {
                bus.delay.us(LOOK_US);
            }
            if bus.mdio.read(PSEUDO_PHY, MII_ADDRESS)? & MII_BUSY == 0 {
                return Ok(());
            }
        }
        self.page = None;
        Err(Error::Busy { page, register })
    }
}

/// What an access needs.
struct Access<'a, M, W> {
    mdio: &'a mut M,
    delay: &'a mut W,
}
