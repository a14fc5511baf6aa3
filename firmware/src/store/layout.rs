//! Where things lie in a board's flash.

use super::Kind;
use crate::budget::{STORE_SLOTS_LEASES, STORE_SLOTS_SEED, STORE_SLOTS_SETTINGS};

/// A part of the flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Range {
    /// Offset of its first byte.
    pub start: u32,
    /// Offset behind its last byte.
    pub end: u32,
}

/// A board's flash map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Two places for a whole image.
    pub images: [Range; 2],
    /// First bytes of each kind's two sectors, by [`Kind::index`].
    pub records: [[u32; 2]; Kind::ALL.len()],
}

impl Layout {
    /// The Malta board: 4 MiB in sectors of 64 KiB. The first two belong to the boot loader (QEMU writes its own
    /// there when it is given a kernel).
    pub const MALTA: Layout = Layout {
        images: [
            Range {
                start: 0x02_0000,
                end: 0x1e_0000,
            },
            Range {
                start: 0x1e_0000,
                end: 0x3a_0000,
            },
        ],
        records: [
            [0x3a_0000, 0x3b_0000],
            [0x3c_0000, 0x3d_0000],
            [0x3e_0000, 0x3f_0000],
        ],
    };
}

/// Records that a sector of `kind` takes.
pub(super) const fn slots(kind: Kind) -> u32 {
    match kind {
        Kind::Seed => STORE_SLOTS_SEED,
        Kind::Leases => STORE_SLOTS_LEASES,
        Kind::Settings => STORE_SLOTS_SETTINGS,
    }
}
