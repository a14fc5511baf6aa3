//! A flash in memory: prepares flash images on the host, and stands in for one in tests.

use smoltcp::time::Instant;

use super::{FLASH_ALIGN, Flash, FlashError, Kind, Layout, SaveError, Saved, Sector, Store};
use crate::budget::SETTINGS_BYTES_MAX;
use crate::settings::{self, Settings};

/// A NOR flash over bytes in memory; every operation is done at once.
#[derive(Debug)]
pub struct RamFlash<'a> {
    bytes: &'a mut [u8],
    sector_bytes: u32,
}

impl<'a> RamFlash<'a> {
    /// Takes `bytes` as the content of a flash with sectors of `sector_bytes`.
    pub fn new(bytes: &'a mut [u8], sector_bytes: u32) -> Self {
        Self {
            bytes,
            sector_bytes,
        }
    }

    fn slice(&mut self, offset: u32, length: usize) -> Result<&mut [u8], FlashError> {
        if !offset.is_multiple_of(FLASH_ALIGN) || !length.is_multiple_of(FLASH_ALIGN as usize) {
            return Err(FlashError::Unaligned);
        }
        let start = offset as usize;
        let end = start.checked_add(length).ok_or(FlashError::Bounds)?;
        self.bytes.get_mut(start..end).ok_or(FlashError::Bounds)
    }
}

impl Flash for RamFlash<'_> {
    fn size(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        (offset < self.size()).then(|| Sector {
            start: offset - offset % self.sector_bytes,
            bytes: self.sector_bytes,
        })
    }

    fn read(&mut self, _now: Instant, offset: u32, out: &mut [u8]) -> nb::Result<(), FlashError> {
        out.copy_from_slice(self.slice(offset, out.len())?);
        Ok(())
    }

    fn erase(&mut self, _now: Instant, start: u32) -> nb::Result<(), FlashError> {
        if !start.is_multiple_of(self.sector_bytes) {
            return Err(FlashError::Bounds.into());
        }
        let length = self.sector_bytes as usize;
        self.slice(start, length)?.fill(0xff);
        Ok(())
    }

    fn program(&mut self, _now: Instant, offset: u32, bytes: &[u8]) -> nb::Result<(), FlashError> {
        for (cell, byte) in self.slice(offset, bytes.len())?.iter_mut().zip(bytes) {
            *cell &= byte;
        }
        Ok(())
    }
}

/// Stores `settings` in a flash image laid out as [`Layout::MALTA`], exactly as `save` on the console would.
///
/// # Errors
/// As a save; [`SaveError::TooLong`] does not happen with settings that can be set.
pub fn provision(image: &mut [u8], settings: &Settings) -> Result<Saved, SaveError> {
    let mut flash = RamFlash::new(image, 0x1_0000);
    let mut clock = || Instant::ZERO;
    let mut store = Store::new(Layout::MALTA);
    store.open(clock(), &mut flash);
    let mut body = [0; SETTINGS_BYTES_MAX];
    let length = settings.encode(&mut body).ok_or(SaveError::TooLong)?;
    store.save_now(
        &mut clock,
        &mut flash,
        Kind::Settings,
        settings::VERSION,
        &body[..length],
    )
}
