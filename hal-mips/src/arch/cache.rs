//! Cache maintenance on address ranges, MIPS32 release 1.
//!
//! Follows: MIPS32 volume II, CACHE instruction. Lines are 16 bytes on the 4K cores; stepping by 16 is
//! right, if slow, on a core with longer lines. Every loop ends: a range is at most its length / 16 + 1 lines.
//! QEMU has no caches; what only runs there (virtio) needs none of this.

use core::arch::asm;

/// Bytes of the shortest cache line.
pub const LINE_BYTES: usize = 16;

macro_rules! for_each_line {
    ($address:expr, $length:expr, $operation:literal) => {{
        let length: usize = $length;
        if length != 0 {
            let mut line = $address & !(LINE_BYTES - 1);
            let last = ($address + length - 1) & !(LINE_BYTES - 1);
            loop {
                // SAFETY: the caller owns the range; a hit operation on a line that is not cached does nothing.
                unsafe { asm!(".set noat", concat!("cache ", $operation, ", 0({})"), in(reg) line, options(nostack, preserves_flags)) };
                if line == last {
                    break;
                }
                line += LINE_BYTES;
            }
            // SAFETY: a barrier.
            unsafe { asm!("sync", options(nostack, preserves_flags)) };
        }
    }};
}

/// Writes dirty lines of the range back to memory and drops them.
pub fn write_back_invalidate(address: usize, length: usize) {
    for_each_line!(address, length, "0x15");
}

/// Makes freshly written code visible to instruction fetch.
pub fn synchronise_code(address: usize, length: usize) {
    write_back_invalidate(address, length);
    for_each_line!(address, length, "0x10");
}
