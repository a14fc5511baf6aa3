//! The PHY: MDIO transfers, its reset, the link.
//!
//! Follows: IEEE 802.3 clause 22; the registers of the internal PHY as public drivers use them.
//! A transfer takes 26 µs at 2.5 MHz; its wait ends after a millisecond.

use super::regs::*;
use super::{B44, Error, Wait};
use crate::arch::time::{Delay, wait_until};
use crate::dma::Dma;
use crate::mmio::Regs;

/// PHY address of a switch: it has no PHY registers of its own, and its port is fixed at 100 Mbit/s, full duplex.
pub const SWITCH_PHY: u8 = 30;
/// PHY address that means there is none.
pub const NO_PHY: u8 = 31;

/// Pause between two looks at a transfer, µs, and looks: 1 ms.
const LOOK_US: u32 = 10;
const LOOKS: u32 = 100;
/// The PHY's reset, µs.
const RESET_US: u32 = 100;

/// What was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Link {
    /// 100 Mbit/s, not 10.
    pub is_fast: bool,
    /// Both directions at once.
    pub is_full_duplex: bool,
}

impl Link {
    const FIXED: Self = Self {
        is_fast: true,
        is_full_duplex: true,
    };

    /// The best that both sides can: IEEE 802.3, annex 28B.3.
    fn negotiated(common: u16) -> Self {
        Self {
            is_fast: common & (phy::CAN_100_FULL | phy::CAN_100_HALF) != 0,
            is_full_duplex: common & phy::CAN_100_FULL != 0
                || common & (phy::CAN_100_HALF | phy::CAN_10_FULL) == phy::CAN_10_FULL,
        }
    }
}

/// The MDIO divider for 2.5 MHz; `None` for a clock beyond its seven bits.
pub(super) const fn divider(backplane_hz: u32) -> Option<u32> {
    let divider = (backplane_hz + 2_500_000) / 5_000_000;
    if divider == 0 || divider > 0x7f {
        None
    } else {
        Some(divider)
    }
}

impl<R: Regs, D: Dma, W: Delay> B44<R, D, W> {
    /// Reads a register of any PHY on the bus, a switch's pseudo-PHY too.
    ///
    /// # Errors
    /// [`Wait::Mdio`].
    pub fn mdio_read(&mut self, phy: u8, register: u8) -> Result<u16, Error> {
        self.mdio(MDIO_READ, phy, register)?;
        Ok(self.regs.read32(MDIO_DATA) as u16)
    }

    /// Writes a register.
    ///
    /// # Errors
    /// [`Wait::Mdio`].
    pub fn mdio_write(&mut self, phy: u8, register: u8, value: u16) -> Result<(), Error> {
        self.mdio(MDIO_WRITE | u32::from(value), phy, register)
    }

    fn mdio(&mut self, operation: u32, phy: u8, register: u8) -> Result<(), Error> {
        let address =
            u32::from(phy & 31) << MDIO_PHY_SHIFT | u32::from(register & 31) << MDIO_REGISTER_SHIFT;
        self.regs.write32(EMAC_ISTAT, EMAC_MDIO);
        self.regs
            .write32(MDIO_DATA, MDIO_FRAME | operation | address);
        let regs = &mut self.regs;
        let is_done = wait_until(&mut self.delay, LOOK_US, LOOKS, || {
            regs.read32(EMAC_ISTAT) & EMAC_MDIO != 0
        });
        if is_done {
            Ok(())
        } else {
            self.counters.mdio_timeouts = self.counters.mdio_timeouts.wrapping_add(1);
            Err(Error::Timeout(Wait::Mdio))
        }
    }

    /// Resets the internal PHY and lets it negotiate; other PHYs are left as they are, a switch has none.
    pub(super) fn start_phy(&mut self) -> Result<(), Error> {
        let address = self.config.phy;
        if address == SWITCH_PHY && !self.has_internal_phy {
            return Ok(());
        }
        if self.has_internal_phy {
            self.mdio_write(address, phy::BMCR, phy::BMCR_RESET)?;
            self.delay.us(RESET_US);
            if self.mdio_read(address, phy::BMCR)? & phy::BMCR_RESET != 0 {
                return Err(Error::Timeout(Wait::PhyReset));
            }
            let activity = self.mdio_read(address, phy::ACTIVITY)?;
            self.mdio_write(address, phy::ACTIVITY, activity & phy::ACTIVITY_KEEP)?;
            let traffic = self.mdio_read(address, phy::TRAFFIC)?;
            self.mdio_write(address, phy::TRAFFIC, traffic | phy::TRAFFIC_ON)?;
        }
        self.mdio_write(address, phy::ADVERTISE, phy::ADVERTISE_ALL)?;
        self.mdio_write(address, phy::BMCR, phy::BMCR_NEGOTIATE)
    }

    /// The link as the PHY has it now.
    ///
    /// # Errors
    /// [`Wait::Mdio`]; a PHY that answers with all ones has said nothing, which is the former link.
    pub(super) fn read_link(&mut self) -> Result<Option<Link>, Error> {
        let address = self.config.phy;
        if address == SWITCH_PHY && !self.has_internal_phy {
            return Ok(Some(Link::FIXED));
        }
        // The first read tells of the past: "latching low", clause 22.2.4.2.13.
        self.mdio_read(address, phy::BMSR)?;
        let status = self.mdio_read(address, phy::BMSR)?;
        if status == u16::MAX {
            return Ok(self.link);
        }
        if status & phy::BMSR_LINK == 0 {
            return Ok(None);
        }
        if self.has_internal_phy {
            let result = self.mdio_read(address, phy::RESULT)?;
            return Ok(Some(Link {
                is_fast: result & phy::RESULT_100 != 0,
                is_full_duplex: result & phy::RESULT_FULL != 0,
            }));
        }
        let common =
            self.mdio_read(address, phy::ADVERTISE)? & self.mdio_read(address, phy::PARTNER)?;
        Ok(Some(Link::negotiated(common)))
    }

    /// Sets the MAC's duplex to the link's.
    pub(super) fn apply_link(&mut self, link: Link) {
        let control = self.regs.read32(TX_CTRL) & !TX_DUPLEX;
        let duplex = if link.is_full_duplex { TX_DUPLEX } else { 0 };
        self.regs.write32(TX_CTRL, control | duplex);
    }
}

impl<R: Regs, D: Dma, W: Delay> crate::switch::Mdio for B44<R, D, W> {
    fn read(&mut self, phy: u8, register: u8) -> Result<u16, Error> {
        self.mdio_read(phy, register)
    }

    fn write(&mut self, phy: u8, register: u8, value: u16) -> Result<(), Error> {
        self.mdio_write(phy, register, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divider_makes_2_5_mhz() {
        for (hertz, divided) in [
            (100_000_000, Some(0x14)),
            (108_000_000, Some(0x16)),
            (125_000_000, Some(0x19)),
            (62_500_000, Some(0x0d)),
            (0, None),
            (1_000_000_000, None),
        ] {
            assert_eq!(divider(hertz), divided, "{hertz}");
        }
    }

    #[test]
    fn the_best_common_mode_is_taken() {
        let (fast, full) = (true, true);
        for (common, is_fast, is_full_duplex) in [
            (0x01e0, fast, full),
            (0x00e0, fast, !full), // 100 half goes before 10 full
            (0x0060, !fast, full),
            (0x0020, !fast, !full),
            (0, !fast, !full),
        ] {
            let link = Link {
                is_fast,
                is_full_duplex,
            };
            assert_eq!(Link::negotiated(common), link, "{common:#x}");
        }
    }
}
