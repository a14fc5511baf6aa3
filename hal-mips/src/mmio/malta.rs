//! Where things lie on the MIPS Malta board with a GT-64120, as the boot loader (QEMU's, YAMON) maps it.
//!
//! Follows: Malta user's manual MD00048; PIIX4 data sheet 290562; QEMU `hw/mips/malta.c`.
//! kseg1 addresses, uncached. The windows are programmed by the loader: registers at 0x1be00000,
//! PCI I/O at 0x18000000, PCI memory at 0x10000000.

use super::{Mmio, Regs};
use crate::arch::cell::TakeCell;

const KSEG1: usize = 0xa000_0000;

/// PCI memory window: first bus address, equal to its physical address.
pub const PCI_MEMORY: u32 = 0x1000_0000;
/// Bytes of the PCI memory window.
pub const PCI_MEMORY_BYTES: u32 = 0x0800_0000;

/// Bytes of the monitor flash.
pub const FLASH_BYTES: u32 = 0x40_0000;
/// Bytes at its start that belong to the boot loader.
pub const FLASH_BOOT_BYTES: u32 = 0x2_0000;

/// The board's register blocks.
pub struct Blocks {
    /// First serial port, COM1.
    pub uart0: Mmio,
    /// Second serial port, COM2.
    pub uart1: Mmio,
    /// The two 8259 interrupt controllers, in I/O space.
    pub pic: Mmio,
    /// The 8254 timer, in I/O space.
    pub timer: Mmio,
    /// The GT-64120 system controller.
    pub gt64120: Mmio,
    /// The monitor flash, [`FLASH_BYTES`] on a 32-bit bus.
    pub flash: Mmio,
    /// LEDs and display, in the FPGA.
    pub panel: Mmio,
}

static BLOCKS: TakeCell<Option<Blocks>> = TakeCell::new(Some(Blocks {
    // SAFETY: fixed addresses of this board, uncached; each block is named once and `take` gives it out once.
    uart0: unsafe { Mmio::new(KSEG1 + 0x1800_03f8) },
    // SAFETY: as above.
    uart1: unsafe { Mmio::new(KSEG1 + 0x1800_02f8) },
    // SAFETY: as above; offsets are I/O ports, and only 8259 ports are used.
    pic: unsafe { Mmio::new(KSEG1 + 0x1800_0000) },
    // SAFETY: as above; only 8254 ports are used.
    timer: unsafe { Mmio::new(KSEG1 + 0x1800_0040) },
    // SAFETY: as above.
    gt64120: unsafe { Mmio::new(KSEG1 + 0x1be0_0000) },
    // SAFETY: as above.
    flash: unsafe { Mmio::new(KSEG1 + 0x1e00_0000) },
    // SAFETY: as above; only LEDBAR and the display's registers are used.
    panel: unsafe { Mmio::new(KSEG1 + 0x1f00_0400) },
}));

impl Blocks {
    /// The blocks, on the first call only.
    pub fn take() -> Option<Self> {
        BLOCKS.take().and_then(Option::take)
    }
}

/// Virtual address of a range of the PCI memory window; `None` when it lies outside.
pub fn pci_memory(bus_address: u64, bytes: usize) -> Option<usize> {
    let offset = bus_address.checked_sub(u64::from(PCI_MEMORY))?;
    let end = offset.checked_add(bytes as u64)?;
    (end <= u64::from(PCI_MEMORY_BYTES)).then_some(KSEG1 + PCI_MEMORY as usize + offset as usize)
}

/// Registers of a PCI device, whose base address lies in the PCI memory window; `None` when it does not.
///
/// Asked for twice, it gives the same registers twice: two drivers would confuse the device, but not memory.
pub fn pci_registers(base: u32, bytes: usize) -> Option<Mmio> {
    let address = pci_memory(u64::from(base), bytes)?;
    // SAFETY: the window holds nothing but device registers, uncached; what a device does to memory is told it by
    // way of `dma`.
    Some(unsafe { Mmio::new(address) })
}

/// A second view of COM1 for the crash path, which never gives control back to the first.
pub fn crash_uart() -> Mmio {
    // SAFETY: COM1's registers; the caller has taken the machine over.
    unsafe { Mmio::new(KSEG1 + 0x1800_03f8) }
}

/// As [`crash_uart`], COM2.
pub fn crash_log_uart() -> Mmio {
    // SAFETY: COM2's registers; the caller has taken the machine over.
    unsafe { Mmio::new(KSEG1 + 0x1800_02f8) }
}

/// Resets the board by its SOFTRES register.
pub fn reset() -> ! {
    // SAFETY: the board's FPGA registers; SOFTRES at offset 0x500.
    let mut softres = unsafe { Mmio::new(KSEG1 + 0x1f00_0500) };
    loop {
        softres.write32(0, 0x42); // the magic value GORESET
    }
}
