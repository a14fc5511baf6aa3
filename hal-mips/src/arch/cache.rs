//! Cache maintenance on address ranges, MIPS32 release 1; the BMIPS3300 of the BCM47xx, and its errata.
//!
//! Follows: MIPS32 volume II, CACHE instruction; volume III, Config1. Lines are 16 bytes on the BMIPS3300 and on the 4K
//! cores; stepping by 16 is right, if slow, on a core with longer lines. Every loop ends: a range is at most its
//! length / 16 + 1 lines. QEMU has no caches and takes each operation as nothing.
//!
//! The D-cache of the BCM47xx does not see what devices write, nor they what it holds. Who hands memory to a
//! device calls these by way of [`dma`](crate::dma), never directly.
//!
//! Errata: on the BCM4702's first silicon (PRId [`PRID_4710_A0`]) each D-cache operation wants an uncached read of a
//! backplane register before it, and an I-cache range wants the whole I-cache invalidated after it: [`init`] finds out.
//! Not done: that silicon's need to load from a mapped address first, since all of our memory is unmapped (kseg0).
//!
//! Units: bytes.

/// Bytes of the shortest cache line.
pub const LINE_BYTES: usize = 16;
/// PRId of the BCM4702 (or 4710) of revision A0.
pub const PRID_4710_A0: u32 = 0x0002_4000;

/// Size and shape of one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Lines of one way.
    pub sets: u32,
    /// Bytes of a line.
    pub line_bytes: u32,
    /// Ways.
    pub ways: u32,
}

impl Shape {
    /// The instruction cache as Config1 tells it; `None` when there is none.
    pub const fn instruction(config1: u32) -> Option<Self> {
        Self::decode(config1 >> 16)
    }

    /// The data cache.
    pub const fn data(config1: u32) -> Option<Self> {
        Self::decode(config1 >> 7)
    }

    const fn decode(fields: u32) -> Option<Self> {
        let line = fields >> 3 & 7;
        // Line size 7 and set size 7 are reserved: volume III, table of Config1.
        if line == 0 || line == 7 || fields >> 6 & 7 == 7 {
            return None;
        }
        Some(Self {
            sets: 64 << (fields >> 6 & 7),
            line_bytes: 2 << line,
            ways: (fields & 7) + 1,
        })
    }

    /// All of it, bytes.
    pub const fn bytes(&self) -> u32 {
        self.sets * self.line_bytes * self.ways
    }
}

/// First line of a range, and how many: both ends are widened to whole lines.
#[cfg(any(target_arch = "mips", test, feature = "model"))]
#[inline(always)]
pub(crate) const fn lines(address: usize, length: usize) -> (usize, usize) {
    let first = address & !(LINE_BYTES - 1);
    if length == 0 {
        return (first, 0);
    }
    let last = (address + (length - 1)) & !(LINE_BYTES - 1);
    (first, (last - first) / LINE_BYTES + 1)
}

#[cfg(target_arch = "mips")]
mod machine {
    use core::arch::asm;
    use core::sync::atomic::{AtomicBool, Ordering};

    use super::{LINE_BYTES, PRID_4710_A0, Shape, lines};
    use crate::arch::cp0;

    /// The processor is the first silicon of the BCM4702.
    static IS_4710_A0: AtomicBool = AtomicBool::new(false);

    macro_rules! cache {
        ($line:expr, $operation:literal) => {
            // SAFETY: the caller owns the line; a hit operation on a line that is not cached does nothing.
            unsafe { asm!(".set noat", concat!("cache ", $operation, ", 0({})"), in(reg) $line, options(nostack, preserves_flags)) }
        };
    }

    macro_rules! for_each_line {
        ($address:expr, $length:expr, $operation:literal) => {{
            let (first, count) = lines($address, $length);
            if count != 0 {
                if IS_4710_A0.load(Ordering::Relaxed) {
                    for index in 0..count {
                        dummy_read();
                        cache!(first + index * LINE_BYTES, $operation);
                    }
                } else {
                    let mut line = first;
                    for _ in 0..count {
                        cache!(line, $operation);
                        line += LINE_BYTES;
                    }
                }
                barrier();
            }
        }};
    }

    /// Waits until stores have left the processor and its write buffer.
    #[inline(always)]
    pub fn barrier() {
        // SAFETY: a barrier.
        unsafe { asm!("sync", options(nostack, preserves_flags)) };
    }

    /// An uncached read of the first backplane register, as the BCM4702 wants it.
    fn dummy_read() {
        // SAFETY: only on that chip: its external interface core lies there, and the read has no side effect.
        let _ = unsafe { (0xb800_0000 as *const u32).read_volatile() };
    }

    /// Learns which workarounds the processor needs; before it none is applied. No operation precedes it but those
    /// of the start code.
    pub fn init() {
        IS_4710_A0.store(cp0::prid() == PRID_4710_A0, Ordering::Relaxed);
    }

    /// Writes dirty lines of the range back to memory; they stay in the cache.
    pub fn write_back(address: usize, length: usize) {
        for_each_line!(address, length, "0x19");
    }

    /// Writes dirty lines of the range back to memory and drops all of its lines.
    pub fn write_back_invalidate(address: usize, length: usize) {
        for_each_line!(address, length, "0x15");
    }

    /// Drops the lines of the range, dirty or not.
    ///
    /// # Safety
    /// Nothing that anybody wants was written by the processor to these whole lines since they were written back.
    pub unsafe fn invalidate(address: usize, length: usize) {
        for_each_line!(address, length, "0x11");
    }

    /// Makes freshly written code visible to instruction fetch.
    pub fn synchronise_code(address: usize, length: usize) {
        write_back_invalidate(address, length);
        for_each_line!(address, length, "0x10");
        if IS_4710_A0.load(Ordering::Relaxed)
            && let Some(shape) = Shape::instruction(cp0::config1())
        {
            let mut line = 0x8000_0000usize;
            for _ in 0..shape.bytes() / shape.line_bytes {
                cache!(line, "0x00");
                line += shape.line_bytes as usize;
            }
            barrier();
        }
    }
}

#[cfg(target_arch = "mips")]
pub use machine::{barrier, init, invalidate, synchronise_code, write_back, write_back_invalidate};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_those_of_the_known_chips() {
        // BCM5352, BCM5354: values of Config1 and sizes as their boot messages tell them.
        for (config1, instruction, data) in [
            (0x3ed9_4c82, (16, 2), (8, 2)),
            (0x3e9b_6c86, (16, 4), (16, 2)),
        ] {
            for (shape, (kib, ways)) in [
                (Shape::instruction(config1), instruction),
                (Shape::data(config1), data),
            ] {
                let shape = shape.unwrap();
                assert_eq!((shape.bytes(), shape.ways), (kib * 1024, ways));
                assert_eq!(shape.line_bytes as usize, LINE_BYTES);
            }
        }
        // A processor without caches; reserved codes.
        for config1 in [0, u32::MAX] {
            assert_eq!(Shape::instruction(config1), None);
            assert_eq!(Shape::data(config1), None);
        }
    }

    #[test]
    fn a_range_covers_every_line_that_it_touches_and_no_other() {
        assert_eq!(lines(0x1000, 0), (0x1000, 0));
        assert_eq!(lines(0x1000, 1), (0x1000, 1));
        assert_eq!(lines(0x100f, 1), (0x1000, 1));
        assert_eq!(lines(0x100f, 2), (0x1000, 2));
        assert_eq!(lines(0x1000, 1568), (0x1000, 98));
        assert_eq!(lines(usize::MAX, 1), (usize::MAX & !15, 1));
    }
}
