//! Where things lie on the BCM47xx: the routers.
//!
//! Physical addresses as the sheet of the chips has them, seen through kseg1, uncached: cores from 0x18000000 on, 4 KiB
//! each; the flash from 0x1c000000 on, whole.
//! Not done: the BCM4702's external interface, the PCI windows of the chips that are host of a bus.

use super::Mmio;
use crate::arch::cell::TakeCell;
use crate::soc::backplane::Soc;
use crate::soc::backplane::regs::{FIRST_CORE, WINDOW_BYTES};

const KSEG1: usize = 0xa000_0000;
const FLASH: usize = 0x1c00_0000;
/// ChipCommon's first UART: its registers lie 1 byte apart.
const UART_0: usize = 0x300;

/// The chip's register blocks.
pub struct Blocks {
    /// Every core's window; how many there are is found by `backplane::scan`.
    pub backplane: Soc<Mmio>,
    /// The first UART, inside ChipCommon.
    pub uart0: Mmio,
    /// The flash chip.
    pub flash: Mmio,
}

static TAKEN: TakeCell<()> = TakeCell::new(());

impl Blocks {
    /// The blocks, on the first call only.
    pub fn take() -> Option<Self> {
        TAKEN.take()?;
        let core = |index| KSEG1 + FIRST_CORE as usize + index * WINDOW_BYTES;
        Some(Self {
            // SAFETY: fixed addresses of this chip, uncached; each block is named once and `take` gives it out once. A window
            // beyond the count of cores is not touched (`backplane`, I1).
            backplane: Soc::new(core::array::from_fn(|index| unsafe {
                Mmio::new(core(index))
            })),
            // SAFETY: as above; nobody else uses the UART's registers.
            uart0: unsafe { Mmio::new(core(0) + UART_0) },
            // SAFETY: as above.
            flash: unsafe { Mmio::new(KSEG1 + FLASH) },
        })
    }
}
