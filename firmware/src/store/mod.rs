//! What outlives a reset: settings, leases and the random seed, as records appended to flash sectors.
//!
//! ```text
//! sector:  mark │ slot 0 │ slot 1 │ … │ slot n−1      two sectors a kind, filled in turn
//! slot:    magic, kind, version, sequence, length, CRC-32 │ body │ blank
//! ```
//! A save goes into the next blank slot; when a sector is full, the one that does not hold the newest record is erased
//! and used. The newest record whose CRC is right counts; the sector's mark is written when its erase is complete,
//! so a sector whose erase was cut short is never written to.
//!
//! A power cut at any step leaves the newest record or the one before it: the newest is never erased, and a
//! record is none before its last word is written. A slot that was begun and not finished is skipped.
//!
//! Calling order: [`Store::open`] and [`Store::load`] before the main loop, then [`Store::poll`] in every turn. Work a
//! call is bounded by [`STORE_CHUNK_BYTES`]; the wait for an erase is not part of it.
//!
//! Follows: CRC-32 of ISO/IEC 8802-3, as in zlib.
//! Units: bytes; offsets from the start of the flash.
//! Invariants: I1 the sector that holds the newest record is not erased; I2 a slot is programmed at most once
//! between two erases; I3 sequence numbers grow (2^32 records are beyond the endurance of any flash).
//! Budget: one [`Store`] of [`STORE_BODY_BYTES_MAX`](crate::budget::STORE_BODY_BYTES_MAX) bytes and little more.

mod layout;
mod log;
#[cfg(any(test, feature = "malta"))]
mod nor;
mod ram;
mod record;
mod writer;

use core::fmt;

use smoltcp::time::Instant;

pub use layout::{Layout, Range};
pub use ram::{RamFlash, provision};
pub use writer::Store;

/// Offsets and lengths given to [`Flash::program`] and [`Flash::read`] are multiples of this: the widest bus.
pub const FLASH_ALIGN: u32 = 4;

/// A NOR flash: erase sets a sector's bits, programming only clears bits.
///
/// `erase` and `program` start their work and answer `WouldBlock`; they are called again **with the same arguments**
/// until they answer otherwise. Meanwhile a call with other arguments, and every `read`, gets `WouldBlock` too.
/// So users take turns by being called in turn; one that has started something calls until it is done.
pub trait Flash {
    /// Bytes of the whole flash.
    fn size(&self) -> u32;

    /// The sector that holds `offset`; `None` beyond the end.
    fn sector(&self, offset: u32) -> Option<Sector>;

    /// Reads `out.len()` bytes from `offset`.
    ///
    /// # Errors
    /// `WouldBlock` while something else is under way; [`FlashError`].
    fn read(&mut self, now: Instant, offset: u32, out: &mut [u8]) -> nb::Result<(), FlashError>;

    /// Erases the sector that starts at `start`; its bytes are then 0xFF. Up to seconds.
    ///
    /// # Errors
    /// `WouldBlock` until it is done; [`FlashError`].
    fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError>;

    /// Clears the bits that are 0 in `bytes`, from `offset` on.
    ///
    /// # Errors
    /// `WouldBlock` until it is done; [`FlashError`], after which any part may be programmed.
    fn program(&mut self, now: Instant, offset: u32, bytes: &[u8]) -> nb::Result<(), FlashError>;
}

/// A unit of erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Sector {
    /// Offset of its first byte.
    pub start: u32,
    /// Its length, bytes.
    pub bytes: u32,
}

/// What a flash cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum FlashError {
    /// There is no flash, or none that is known.
    Missing,
    /// Beyond the end, or not the start of a sector.
    Bounds,
    /// Offset or length is no multiple of [`FLASH_ALIGN`].
    Unaligned,
    /// The chip reports that a word could not be programmed.
    Program,
    /// The chip reports that a sector could not be erased.
    Erase,
    /// The sector is protected.
    Locked,
    /// The chip is busy beyond every time it promised.
    Timeout,
}

impl FlashError {
    /// What it is, on the console.
    pub const fn text(self) -> &'static str {
        match self {
            FlashError::Missing => "no usable flash",
            FlashError::Bounds => "outside the flash",
            FlashError::Unaligned => "unaligned access to the flash",
            FlashError::Program => "the flash does not take what is written",
            FlashError::Erase => "a sector of the flash cannot be erased",
            FlashError::Locked => "a sector of the flash is protected",
            FlashError::Timeout => "the flash stays busy",
        }
    }
}

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A flash that may be missing: then everything answers [`FlashError::Missing`].
impl<F: Flash> Flash for Option<F> {
    fn size(&self) -> u32 {
        self.as_ref().map_or(0, Flash::size)
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        self.as_ref()?.sector(offset)
    }

    fn read(&mut self, now: Instant, offset: u32, out: &mut [u8]) -> nb::Result<(), FlashError> {
        self.as_mut()
            .ok_or(FlashError::Missing)?
            .read(now, offset, out)
    }

    fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError> {
        self.as_mut().ok_or(FlashError::Missing)?.erase(now, start)
    }

    fn program(&mut self, now: Instant, offset: u32, bytes: &[u8]) -> nb::Result<(), FlashError> {
        self.as_mut()
            .ok_or(FlashError::Missing)?
            .program(now, offset, bytes)
    }
}

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Kind {
    /// What the random generator starts from.
    Seed,
    /// The addresses given to hosts of the LAN.
    Leases,
    /// What the owner has set.
    Settings,
}

impl Kind {
    /// Every kind, by index.
    pub const ALL: [Kind; 3] = [Kind::Seed, Kind::Leases, Kind::Settings];

    /// Position in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        match self {
            Kind::Seed => 0,
            Kind::Leases => 1,
            Kind::Settings => 2,
        }
    }

    /// Its word on the console.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Seed => "seed",
            Kind::Leases => "leases",
            Kind::Settings => "settings",
        }
    }
}

/// Whose values are stored: takes them at boot, and gives them out when they have changed.
pub trait Client {
    /// Puts a stored body in force.
    ///
    /// # Errors
    /// Why it cannot; nothing was changed, and an older record is offered.
    fn restore(
        &mut self,
        now: Instant,
        kind: Kind,
        version: u16,
        body: &[u8],
    ) -> Result<Restored, Refused>;

    /// Whether values of `kind` wait to be stored. Cheap: asked in every turn.
    fn wants(&self, kind: Kind) -> bool;

    /// Writes the values to be stored to `out` and returns their version and length; nothing waits from then on,
    /// until values change again. `None`: nothing to store after all.
    fn pending(&mut self, now: Instant, kind: Kind, out: &mut [u8]) -> Option<Pending>;

    /// Tells what became of the last [`pending`](Self::pending).
    fn on_stored(&mut self, now: Instant, kind: Kind, result: Result<Saved, SaveError>);
}

/// A body to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Version of the body's form.
    pub version: u16,
    /// Bytes of the body.
    pub length: usize,
}

/// How a stored body was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Restored {
    /// It is of this program's version.
    AsStored,
    /// It is of an older version, and was translated.
    Migrated,
}

/// Why a stored body with a right CRC was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Refused {
    /// Its version is not known here: newer, or too old.
    Version,
    /// Its values cannot be.
    Malformed,
}

/// What became of a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Saved {
    /// It was written, and read back.
    Written,
    /// The newest record says the same: nothing was written.
    Unchanged,
}

/// Why a save failed; what was stored before is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum SaveError {
    /// The flash refuses.
    Flash(FlashError),
    /// What was erased or written reads back wrong: worn out.
    Worn,
    /// The body is longer than a slot.
    TooLong,
    /// Another save is under way.
    Busy,
}

impl From<FlashError> for SaveError {
    fn from(error: FlashError) -> Self {
        SaveError::Flash(error)
    }
}

impl SaveError {
    /// What it is, on the console.
    pub const fn text(self) -> &'static str {
        match self {
            SaveError::Flash(error) => error.text(),
            SaveError::Worn => "the flash is worn out: it reads back other bytes",
            SaveError::TooLong => "too long for its place in the flash",
            SaveError::Busy => "another save is under way",
        }
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What boot found of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Boot {
    /// The newest record is in force.
    Loaded,
    /// The newest record is in force; it was of this older version.
    Migrated(u16),
    /// An earlier record is in force.
    Earlier(Lost),
    /// No record could be used.
    Defaults(Lost),
}

/// Why the newest values are not in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Lost {
    /// Nothing has ever been stored.
    Empty,
    /// A record is damaged, or its save was cut short.
    Damaged,
    /// Stored by a program with this version of the form, which is not known here.
    Version(u16),
    /// The values cannot be.
    Malformed,
    /// The flash cannot be read.
    Flash(FlashError),
}

impl Lost {
    /// What it is, on the console.
    pub const fn text(self) -> &'static str {
        match self {
            Lost::Empty => "nothing is stored",
            Lost::Damaged => "the last record is damaged, or its save was cut short",
            Lost::Version(_) => "what is stored is of a newer version of the program",
            Lost::Malformed => "the stored values cannot be",
            Lost::Flash(error) => error.text(),
        }
    }
}

#[cfg(test)]
mod tests;
