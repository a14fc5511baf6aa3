//! What stands between the processor's memory and a device: its addresses, and the cache that it does not see.

/// The way from memory to a device.
///
/// Units: addresses are the processor's where they are `usize`, the device's where they are `u32`.
///
/// # Safety
/// The operations do to the cache what they say and nothing else, and [`uncached`](Self::uncached) names the same
/// memory: frames and pages are read and written on the strength of it.
pub unsafe trait Dma {
    /// Where the device finds this memory; `None` when it cannot reach all of it.
    fn device_address(&self, address: usize, bytes: usize) -> Option<u32>;

    /// What the processor wrote reaches memory, and every store before it.
    fn write_back(&self, address: usize, bytes: usize);

    /// The same, and no line of the range stays in the cache, so none can be written back later.
    fn write_back_invalidate(&self, address: usize, bytes: usize);

    /// What the device wrote is what the processor reads next. Whole lines are dropped.
    fn invalidate(&self, address: usize, bytes: usize);

    /// The same memory, reached past the cache.
    fn uncached(&self, address: usize) -> usize;
}

/// Where a backplane core behind PCI sees the bus: its own addresses less this are those of the bus, for 1 GiB.
pub const PCI_WINDOW: u32 = 0x4000_0000;

/// A device without a view of the D-cache, which sees physical memory from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Bus {
    #[cfg_attr(
        not(target_arch = "mips"),
        expect(dead_code, reason = "on the host the bus is `model::TwoCopies`")
    )]
    offset: u32,
}

impl Bus {
    /// A core on the SoC's own backplane: it sees physical addresses.
    pub const SOC: Self = Self { offset: 0 };
    /// A backplane core behind PCI.
    pub const PCI_CORE: Self = Self { offset: PCI_WINDOW };
}

#[cfg(target_arch = "mips")]
mod machine {
    use super::{Bus, Dma};
    use crate::arch::cache;

    /// kseg0 and kseg1 are the same 512 MiB, with and without cache.
    const PHYSICAL: usize = 0x1fff_ffff;
    const KSEG1: usize = 0xa000_0000;

    // SAFETY: kseg0 memory, to which the arguments belong, is what the operations of `cache` work on, and kseg1 is the
    // same memory without cache.
    unsafe impl Dma for Bus {
        #[inline]
        fn device_address(&self, address: usize, bytes: usize) -> Option<u32> {
            // All of kseg0 is within the first GiB.
            let physical = (address & PHYSICAL) as u32;
            (physical as usize + bytes <= PHYSICAL + 1).then(|| physical + self.offset)
        }

        #[inline]
        fn write_back(&self, address: usize, bytes: usize) {
            cache::write_back(address, bytes);
        }

        #[inline]
        fn write_back_invalidate(&self, address: usize, bytes: usize) {
            cache::write_back_invalidate(address, bytes);
        }

        #[inline]
        fn invalidate(&self, address: usize, bytes: usize) {
            // SAFETY: called for buffers that a device has written, whose lines were written back before it got them
            // and which nobody could reach meanwhile (`lend`); they own their lines (I2).
            unsafe { cache::invalidate(address, bytes) };
        }

        #[inline]
        fn uncached(&self, address: usize) -> usize {
            address & PHYSICAL | KSEG1
        }
    }
}
