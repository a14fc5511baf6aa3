//! The board's chip as a [`Flash`]: the one place where the logic names a driver, so that tests run the very glue of the
//! image.

use hal_mips::soc::flash::{Bus, Error, Nor};
use smoltcp::time::Instant;

use super::{Flash, FlashError, Sector};

impl From<Error> for FlashError {
    fn from(error: Error) -> Self {
        match error {
            Error::Bounds => FlashError::Bounds,
            Error::Unaligned => FlashError::Unaligned,
            Error::Program => FlashError::Program,
            Error::Erase => FlashError::Erase,
            Error::Locked => FlashError::Locked,
            Error::Timeout => FlashError::Timeout,
        }
    }
}

fn micros(now: Instant) -> u64 {
    u64::try_from(now.total_micros()).unwrap_or(0)
}

impl<B: Bus> Flash for Nor<B> {
    fn size(&self) -> u32 {
        self.identity().bytes
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        let (start, bytes) = self.identity().sector(offset)?;
        Some(Sector { start, bytes })
    }

    fn read(&mut self, now: Instant, offset: u32, out: &mut [u8]) -> nb::Result<(), FlashError> {
        Nor::read(self, micros(now), offset, out).map_err(|error| error.map(FlashError::from))
    }

    fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError> {
        Nor::erase(self, micros(now), start).map_err(|error| error.map(FlashError::from))
    }

    fn program(&mut self, now: Instant, offset: u32, bytes: &[u8]) -> nb::Result<(), FlashError> {
        Nor::program(self, micros(now), offset, bytes).map_err(|error| error.map(FlashError::from))
    }
}
