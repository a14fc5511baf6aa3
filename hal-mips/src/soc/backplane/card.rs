//! The backplane behind PCI: one window in base address 0, which configuration space moves from core to core.

use super::regs::{
    ACTCFG, BAR_SPROM, BROADCAST_ADDRESS, BROADCAST_DATA, CONFIG_GPIO_ENABLE, CONFIG_GPIO_IN,
    CONFIG_GPIO_OUT, CONFIG_INTERRUPT_MASK, CONFIG_WINDOW, FIRST_CORE, GPIO_CRYSTAL, GPIO_PLL_OFF,
    IMCFGLO, INTVEC, PCI_SHADOW, SBTOPCI_BURST, SBTOPCI_PREFETCH, SBTOPCI_READ_MULTIPLE, SBTOPCI2,
    WINDOW_BYTES,
};
use super::{Backplane, CORES_MAX, Chip, Core, CoreId, Cores, Error, scan};
use crate::arch::time::Delay;
use crate::mmio::Regs16;
use crate::pci::Config;
use crate::soc::sprom::{self, Sprom};

/// Vendor and device of the cards that carry the Ethernet core: BCM4401, 4402 and 4401-B0.
const DEVICES: [u16; 3] = [0x4401, 0x4402, 0x170c];
const VENDOR: u16 = 0x14e4;

/// Looks at the window's register until it shows what was written, and the pause between, µs.
const WINDOW_LOOKS: u32 = 50;
const WINDOW_LOOK_US: u32 = 10;

/// Why a card cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum CardError {
    /// Not a card that is known.
    Device {
        /// Device and vendor, as configuration space has them.
        found: u32,
    },
    /// Its backplane.
    Backplane(Error),
    /// Its identity cannot be read: the address in it is not to be believed.
    Sprom(sprom::Error),
}

impl From<Error> for CardError {
    fn from(error: Error) -> Self {
        Self::Backplane(error)
    }
}

/// A backplane on a PCI card.
#[derive(Debug)]
pub struct Card<C, R, W> {
    config: C,
    window: R,
    delay: W,
    device: u16,
    /// The core that the window shows.
    selected: Option<u8>,
}

impl<C: Config, R: Regs16, W: Delay> Card<C, R, W> {
    /// Whether a device is such a card, by the first word of its configuration space.
    pub fn is_known(id: u32) -> bool {
        id as u16 == VENDOR && DEVICES.contains(&((id >> 16) as u16))
    }

    /// A card whose base address 0 is `window`; nothing is touched but its identity.
    ///
    /// # Errors
    /// [`CardError::Device`].
    pub fn new(mut config: C, window: R, delay: W) -> Result<Self, CardError> {
        let found = config.read32(0);
        if !Self::is_known(found) {
            return Err(CardError::Device { found });
        }
        Ok(Self {
            config,
            window,
            delay,
            device: (found >> 16) as u16,
            selected: None,
        })
    }

    /// Gives the chip its clock, finds its cores, sets its PCI core up, and reads the SPROM.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn bring_up(&mut self) -> Result<(Cores, Sprom), CardError> {
        self.power_up();
        self.clear_retry_timeout();
        let cores = scan(self)?;
        if let Some(pci) = cores.find(CoreId::PCI) {
            self.set_up_pci(pci)?;
        }
        let mut words = [0; sprom::WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.window.read16(BAR_SPROM + 2 * index);
        }
        // Chips of this family are of layout 1, whatever the revision says.
        let sprom = Sprom::parse_44xx(&words).map_err(CardError::Sprom)?;
        Ok((cores, sprom))
    }

    /// Switches the crystal on, unless it runs, then the PLL.
    fn power_up(&mut self) {
        if self.config.read32(CONFIG_GPIO_IN) & GPIO_CRYSTAL != 0 {
            return;
        }
        let out = self.config.read32(CONFIG_GPIO_OUT) | GPIO_CRYSTAL | GPIO_PLL_OFF;
        let enable = self.config.read32(CONFIG_GPIO_ENABLE) | GPIO_CRYSTAL | GPIO_PLL_OFF;
        self.config.write32(CONFIG_GPIO_OUT, out);
        self.config.write32(CONFIG_GPIO_ENABLE, enable);
        self.delay.us(1000);
        self.config.write32(CONFIG_GPIO_OUT, out & !GPIO_PLL_OFF);
        self.delay.us(5000);
        // Accesses before were aborted: "signalled target abort" (bit 27 with the command) is cleared by writing it.
        let command = self.config.read32(4) & 0xffff;
        self.config.write32(4, command | 1 << 27);
    }

    /// A non-zero retry timeout disturbs later transfers; Linux's driver clears it.
    fn clear_retry_timeout(&mut self) {
        let value = self.config.read32(0x40);
        if value & 0xff00 != 0 {
            self.config.write32(0x40, value & !0xff00);
        }
    }

    fn set_up_pci(&mut self, pci: Core) -> Result<(), Error> {
        let read_multiple = if pci.revision >= 11 {
            SBTOPCI_READ_MULTIPLE
        } else {
            0
        };
        let regs = self.core(pci.index)?;
        let window = regs.read32(SBTOPCI2) | SBTOPCI_PREFETCH | SBTOPCI_BURST | read_multiple;
        regs.write32(SBTOPCI2, window);
        if pci.revision < 5 {
            // Service timeout 2, request timeout 3, and the commit that makes it hold.
            let limits = regs.read32(IMCFGLO) & !0x77 | 3 << 4 | 2;
            regs.write32(IMCFGLO, limits);
            regs.write32(BROADCAST_ADDRESS, ACTCFG);
            regs.read32(BROADCAST_ADDRESS);
            regs.write32(BROADCAST_DATA, 0);
            regs.read32(BROADCAST_DATA);
        }
        regs.write32(INTVEC, 0);
        let word = regs.read16(PCI_SHADOW);
        let own = u16::from(pci.index) << 12;
        if word & 0xf000 != own {
            regs.write16(PCI_SHADOW, word & 0x0fff | own);
        }
        Ok(())
    }

    /// Lets a core raise the card's interrupt.
    ///
    /// # Errors
    /// [`Error::NoCore`] when the core has no flag and the card would need it.
    pub fn enable_interrupt(&mut self, cores: &Cores, core: Core) -> Result<(), Error> {
        let index = core.index;
        match cores.find(CoreId::PCI) {
            Some(pci) if pci.revision < 6 => {
                let flag = core.flag.filter(|&flag| flag < 32);
                let flag = flag.ok_or(Error::NoCore { index })?;
                let regs = self.core(pci.index)?;
                let mask = regs.read32(INTVEC);
                regs.write32(INTVEC, mask | 1 << flag);
            }
            Some(_) | None => {
                let mask = self.config.read32(CONFIG_INTERRUPT_MASK);
                self.config
                    .write32(CONFIG_INTERRUPT_MASK, mask | 1 << (8 + u32::from(index)));
            }
        }
        Ok(())
    }

    /// Gives a core's registers to its driver for good: the window is not moved any more.
    ///
    /// # Errors
    /// [`Error::Window`], [`Error::NoCore`].
    pub fn into_core(mut self, index: u8) -> Result<(R, W), Error> {
        self.core(index)?;
        Ok((self.window, self.delay))
    }
}

impl<C: Config, R: Regs16, W: Delay> Backplane for Card<C, R, W> {
    type Core = R;

    fn core(&mut self, index: u8) -> Result<&mut R, Error> {
        if usize::from(index) >= CORES_MAX {
            return Err(Error::NoCore { index });
        }
        if self.selected != Some(index) {
            self.selected = None;
            let address = FIRST_CORE + u32::from(index) * WINDOW_BYTES as u32;
            let mut found = 0;
            let mut looks = 0;
            while found != address {
                if looks == WINDOW_LOOKS {
                    return Err(Error::Window { found });
                }
                if looks != 0 {
                    self.delay.us(WINDOW_LOOK_US);
                }
                self.config.write32(CONFIG_WINDOW, address);
                found = self.config.read32(CONFIG_WINDOW);
                looks += 1;
            }
            self.selected = Some(index);
        }
        Ok(&mut self.window)
    }

    fn implied_chip(&self) -> Chip {
        // All three are a 4401 inside.
        let id = if self.device == 0x4402 {
            0x4402
        } else {
            0x4401
        };
        Chip {
            id,
            revision: 0,
            package: 0,
        }
    }
}
