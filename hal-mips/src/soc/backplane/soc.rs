//! The backplane as the SoC's own bus: each core at its place in the processor's address space.

use super::{Backplane, CORES_MAX, Chip, Error};
use crate::mmio::Regs;

/// The windows of a SoC's cores, core 0 at physical 0x18000000, each 4 KiB.
#[derive(Debug)]
pub struct Soc<R> {
    windows: [Option<R>; CORES_MAX],
}

impl<R: Regs> Soc<R> {
    /// A bus of these windows, in the order of their indices.
    pub fn new(windows: [R; CORES_MAX]) -> Self {
        Self {
            windows: windows.map(Some),
        }
    }

    /// Takes a core's registers for its driver; the bus has no more to do with it.
    pub fn take(&mut self, index: u8) -> Option<R> {
        self.windows.get_mut(usize::from(index))?.take()
    }
}

impl<R: Regs> Backplane for Soc<R> {
    type Core = R;

    fn core(&mut self, index: u8) -> Result<&mut R, Error> {
        let window = self.windows.get_mut(usize::from(index));
        window
            .and_then(Option::as_mut)
            .ok_or(Error::NoCore { index })
    }

    fn implied_chip(&self) -> Chip {
        // "Core 0 is not ChipCommon" is how the BCM4702 is told from all others.
        Chip {
            id: 0x4710,
            revision: 0,
            package: 0,
        }
    }
}
