//! Which core raises which interrupt of the processor: the router in the processor's own core.
//!
//! Each core has one numbered flag. IPSFLAG wires four flags to lines 1 to 4, a field each; INTVEC gathers any number of
//! them on line 0. All lines are level; the cause is cleared in the core.

use super::regs::{INTVEC, IPSFLAG};
use crate::mmio::Regs;

/// A field of IPSFLAG that is wired to nothing.
const NOTHING: u32 = 0x3f;

/// An interrupt line of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Line {
    /// None: the core's interrupt is not seen.
    Off,
    /// Line 0, IP2, which any number of cores may share.
    Shared,
    /// Line 1, IP3.
    One,
    /// Line 2, IP4.
    Two,
    /// Line 3, IP5.
    Three,
    /// Line 4, IP6.
    Four,
}

impl Line {
    /// Its bit in Cause and Status; 0 for [`Off`](Self::Off).
    pub const fn mask(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Shared => 1 << 10,
            Self::One => 1 << 11,
            Self::Two => 1 << 12,
            Self::Three => 1 << 13,
            Self::Four => 1 << 14,
        }
    }

    const fn field(self) -> Option<u32> {
        match self {
            Self::Off | Self::Shared => None,
            Self::One => Some(0),
            Self::Two => Some(8),
            Self::Three => Some(16),
            Self::Four => Some(24),
        }
    }
}

/// Takes every flag off every line, whatever the boot loader wired.
pub fn clear<R: Regs>(mips: &mut R) {
    mips.write32(INTVEC, 0);
    mips.write32(
        IPSFLAG,
        NOTHING << 24 | NOTHING << 16 | NOTHING << 8 | NOTHING,
    );
}

/// Wires a core's flag (below 64) to a line, and off every other; the line's former flag, if it had one to itself, is off.
pub fn route<R: Regs>(mips: &mut R, flag: u8, line: Line) {
    let flag = u32::from(flag) & 0x3f;
    let mut wired = mips.read32(IPSFLAG);
    for shift in [0, 8, 16, 24] {
        if wired >> shift & 0x3f == flag || line.field() == Some(shift) {
            wired |= NOTHING << shift;
        }
    }
    // INTVEC has 32 bits: a flag above has no place on the shared line.
    let bit = 1u32.checked_shl(flag).unwrap_or(0);
    let shared = mips.read32(INTVEC) & !bit;
    if let Some(shift) = line.field() {
        wired = (wired & !(NOTHING << shift)) | flag << shift;
    }
    let shared = if line == Line::Shared {
        shared | bit
    } else {
        shared
    };
    mips.write32(IPSFLAG, wired);
    mips.write32(INTVEC, shared);
}
