//! Device registers: the trait drivers are generic over, and its one volatile implementation.
//!
//! Units: offsets in bytes from the device's base.

pub mod bcm47xx;
pub mod malta;

/// Access to a block of device registers.
///
/// A read may have side effects in the device, so it takes `&mut self`.
pub trait Regs {
    /// Reads an 8-bit register.
    fn read8(&mut self, offset: usize) -> u8;
    /// Writes an 8-bit register.
    fn write8(&mut self, offset: usize, value: u8);
    /// Reads a 32-bit register; `offset` is a multiple of 4.
    fn read32(&mut self, offset: usize) -> u32;
    /// Writes a 32-bit register; `offset` is a multiple of 4.
    fn write32(&mut self, offset: usize, value: u32);
}

/// Registers that are also reached 16 bits at a time.
pub trait Regs16: Regs {
    /// Reads a 16-bit register; `offset` is a multiple of 2.
    fn read16(&mut self, offset: usize) -> u16;
    /// Writes a 16-bit register; `offset` is a multiple of 2.
    fn write16(&mut self, offset: usize, value: u16);
}

/// Registers in the processor's uncached address space.
#[derive(Debug)]
pub struct Mmio {
    base: usize,
}

impl Mmio {
    /// Names the registers at virtual address `base`.
    ///
    /// # Safety
    /// `base` is an uncached mapping of a device's registers, larger than every offset used, and no
    /// other `Mmio` drives the same registers in a way that disturbs this one.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }
}

impl Regs for Mmio {
    #[inline(always)]
    fn read8(&mut self, offset: usize) -> u8 {
        // SAFETY: `new`'s caller vouches for the block.
        unsafe { ((self.base + offset) as *const u8).read_volatile() }
    }
    #[inline(always)]
    fn write8(&mut self, offset: usize, value: u8) {
        // SAFETY: as above.
        unsafe { ((self.base + offset) as *mut u8).write_volatile(value) }
    }
    #[inline(always)]
    fn read32(&mut self, offset: usize) -> u32 {
        // SAFETY: as above.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }
    #[inline(always)]
    fn write32(&mut self, offset: usize, value: u32) {
        // SAFETY: as above.
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) }
    }
}

impl Regs16 for Mmio {
    #[inline(always)]
    fn read16(&mut self, offset: usize) -> u16 {
        // SAFETY: as for `Regs`.
        unsafe { ((self.base + offset) as *const u16).read_volatile() }
    }
    #[inline(always)]
    fn write16(&mut self, offset: usize, value: u16) {
        // SAFETY: as above.
        unsafe { ((self.base + offset) as *mut u16).write_volatile(value) }
    }
}
