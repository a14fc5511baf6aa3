//! Parallel NOR flash of either command set, found and measured by its CFI query.
//!
//! Follows: JEDEC JESD68.01 (CFI), Intel 28F320C3 data sheet 290645, AMD Am29LV320D data sheet 23579.
//! Units: bytes from the start of the chip; µs.
//! Invariants: I1 while nothing is under way the chip shows its array; I2 nothing below `writable_from` is erased or
//! programmed; I3 one operation at a time, driven by its caller.
//! Not done: chips side by side on one bus (refused), write buffers of the AMD set (the boxes' chips have none), erase suspension, the SST variant of the AMD set.
//!
//! An operation is started by [`Nor::erase`] or [`Nor::program`] and driven by calls with the same arguments, each of a
//! bounded number of bus cycles, until the answer is no longer `WouldBlock`. Others are held off meanwhile, unless the
//! caller stays away for [`ABANDONED_US`].

mod cfi;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod regs;
#[cfg(test)]
mod tests;

use crate::mmio::{Regs, Regs16};
pub use cfi::{CommandSet, Identity, REGIONS_MAX, Region};
use regs::{amd, intel};

/// Words programmed in one call, unless a write buffer takes more.
const WORDS_PER_CALL: u32 = 32;
/// Most words given to a write buffer at once, however large it is: some 50 us on the bus.
const BUFFER_WORDS_MAX: u32 = 256;
/// Looks at a busy chip in one call while programming: a word takes some 10 us, a look 0.1 us and more.
const LOOKS_PER_CALL: usize = 128;
/// An operation whose caller has stayed away so long may be ended by another one, us.
pub const ABANDONED_US: u64 = 5_000_000;

/// A chip's data bus: words at word addresses.
pub trait Bus {
    /// Bytes of a word.
    const BYTES: u32;
    /// Reads a word.
    fn read(&mut self, word: u32) -> u32;
    /// Writes a word.
    fn write(&mut self, word: u32, value: u32);
}

/// A chip on 16 data lines.
#[derive(Debug)]
pub struct Bus16<R>(pub R);

impl<R: Regs16> Bus for Bus16<R> {
    const BYTES: u32 = 2;
    #[inline]
    fn read(&mut self, word: u32) -> u32 {
        u32::from(self.0.read16(word as usize * 2))
    }
    #[inline]
    fn write(&mut self, word: u32, value: u32) {
        self.0.write16(word as usize * 2, value as u16);
    }
}

/// A chip on 32 data lines.
#[derive(Debug)]
pub struct Bus32<R>(pub R);

impl<R: Regs> Bus for Bus32<R> {
    const BYTES: u32 = 4;
    #[inline]
    fn read(&mut self, word: u32) -> u32 {
        self.0.read32(word as usize * 4)
    }
    #[inline]
    fn write(&mut self, word: u32, value: u32) {
        self.0.write32(word as usize * 4, value);
    }
}

/// Why there is no usable chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum ProbeError {
    /// Nothing answers the query.
    NoChip,
    /// Two chips answer, side by side.
    Interleaved,
    /// A command set that is not known here.
    CommandSet {
        /// Its code.
        found: u32,
    },
    /// Larger than the window it is seen through.
    Size {
        /// Its size, 2^n bytes.
        exponent: u32,
    },
    /// Its sectors do not add up to its size.
    Regions,
}

impl core::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ProbeError::NoChip => f.write_str("nothing answers"),
            ProbeError::Interleaved => f.write_str("two chips side by side are not supported"),
            ProbeError::CommandSet { found } => write!(f, "unknown command set {found:#06x}"),
            ProbeError::Size { exponent } => write!(f, "2^{exponent} bytes do not fit"),
            ProbeError::Regions => f.write_str("its sectors do not add up"),
        }
    }
}

/// What an operation ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// Beyond the end, below the writable part, or not the start of a sector.
    Bounds,
    /// No whole words.
    Unaligned,
    /// The chip reports a failure, or reads back another word.
    Program,
    /// The chip reports a failure.
    Erase,
    /// The sector is protected, or the programming voltage is missing.
    Locked,
    /// Still busy after the longest time told.
    Timeout,
}

/// What is asked for: equal requests belong to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Erase { start: u32 },
    Program { offset: u32, length: u32 },
}

/// An operation under way.
#[derive(Clone, Copy, Debug)]
struct Work {
    request: Request,
    /// Words that are done.
    done: u32,
    /// Words behind them that the chip is busy with.
    in_flight: u32,
    /// Since when the chip is busy with a word or a sector.
    busy_since: Option<u64>,
    /// The last call of its caller.
    called: u64,
}

/// The first word of `bytes`, which has one.
fn word_of<B: Bus>(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    let count = (B::BYTES as usize).min(bytes.len());
    word[..count].copy_from_slice(&bytes[..count]);
    u32::from_le_bytes(word)
}

/// What a busy chip shows.
enum Look {
    Busy,
    Done,
    Failed(Error),
}

/// One chip.
#[derive(Debug)]
pub struct Nor<B: Bus> {
    bus: B,
    identity: Identity,
    writable_from: u32,
    work: Option<Work>,
    /// Was still busy when it was last given up.
    stuck: bool,
}

impl<B: Bus> Nor<B> {
    /// Asks the chip what it is; it is seen through a window of `window_bytes`, and nothing below `writable_from` (the boot
    /// loader) is ever changed.
    ///
    /// # Errors
    /// No chip, or none that is understood. Nothing was changed.
    pub fn probe(mut bus: B, window_bytes: u32, writable_from: u32) -> Result<Self, ProbeError> {
        let identity = cfi::identify(&mut bus, window_bytes)?;
        Ok(Self {
            bus,
            identity,
            writable_from,
            work: None,
            stuck: false,
        })
    }

    /// What the chip says of itself.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Reads whole words from `offset` on.
    ///
    /// # Errors
    /// `WouldBlock` while an operation is under way; [`Error::Bounds`], [`Error::Unaligned`], and [`Error::Timeout`] from a
    /// chip that has not become ready since it was given up.
    pub fn read(&mut self, now_us: u64, offset: u32, out: &mut [u8]) -> nb::Result<(), Error> {
        self.check(offset, out.len(), 0)?;
        self.make_way(now_us)?;
        self.make_ready()?;
        let first = offset / B::BYTES;
        for (word, bytes) in (first..).zip(out.chunks_exact_mut(B::BYTES as usize)) {
            bytes.copy_from_slice(&self.bus.read(word).to_le_bytes()[..B::BYTES as usize]);
        }
        Ok(())
    }

    /// Erases the sector that starts at `start`.
    ///
    /// # Errors
    /// `WouldBlock` until it is done, or while another operation is; [`Error`].
    pub fn erase(&mut self, now_us: u64, start: u32) -> nb::Result<(), Error> {
        let request = Request::Erase { start };
        if self.identity.sector(start).map(|(first, _)| first) != Some(start)
            || start < self.writable_from
        {
            return Err(nb::Error::Other(Error::Bounds));
        }
        let mut work = self.claim(now_us, request)?;
        if work.busy_since.is_none() {
            self.start_erase(start / B::BYTES);
            work.busy_since = Some(now_us);
        }
        let look = self.look(start / B::BYTES, None);
        self.settle(now_us, work, look, self.identity.erase_us)
    }

    /// Programs whole words from `offset` on; words of all ones are left as they are.
    ///
    /// # Errors
    /// `WouldBlock` until it is done, or while another operation is; [`Error`], after which a part is programmed.
    pub fn program(&mut self, now_us: u64, offset: u32, bytes: &[u8]) -> nb::Result<(), Error> {
        self.check(offset, bytes.len(), self.writable_from)?;
        let length = bytes.len() as u32;
        let mut work = self.claim(now_us, Request::Program { offset, length })?;
        let (mut looks, mut words) = (LOOKS_PER_CALL, WORDS_PER_CALL);
        while work.done < length / B::BYTES && words > 0 {
            let address = offset / B::BYTES + work.done;
            let left = &bytes[(work.done * B::BYTES) as usize..];
            if work.in_flight == 0 {
                let count = self.batch(address, left);
                if count == 0 {
                    work.done += 1;
                    words -= 1;
                    continue;
                }
                work.busy_since.get_or_insert(now_us);
                if !self.start_words(address, left, count, work.done == 0) {
                    // No write buffer is free yet.
                    return self.settle(now_us, work, Look::Busy, self.identity.buffer_us);
                }
                work.in_flight = count;
            }
            let datum = (work.in_flight == 1).then(|| word_of::<B>(left));
            let mut look = Look::Busy;
            while looks > 0 && matches!(look, Look::Busy) {
                look = self.look(address, Some(datum.unwrap_or_default()));
                looks -= 1;
            }
            match look {
                Look::Done => {
                    work.done += work.in_flight;
                    words = words.saturating_sub(work.in_flight);
                    work.in_flight = 0;
                    work.busy_since = None;
                }
                Look::Busy | Look::Failed(_) => {
                    let patience_us = match datum {
                        Some(_) => self.identity.word_us,
                        None => self.identity.buffer_us,
                    };
                    return self.settle(now_us, work, look, patience_us);
                }
            }
        }
        if work.done < length / B::BYTES {
            self.work = Some(work);
            return Err(nb::Error::WouldBlock);
        }
        self.end();
        Ok(())
    }

    /// How many words of `bytes`, which begin at the word `address`, are programmed at once: none where the first is left
    /// as it is; several only where they share a write buffer, which ends at multiples of its size.
    fn batch(&self, address: u32, bytes: &[u8]) -> u32 {
        let to_border = match self.identity.buffer_bytes / B::BYTES {
            0 => 1,
            words => words - address % words,
        };
        let most = to_border.min(BUFFER_WORDS_MAX) as usize;
        let written = bytes
            .chunks_exact(B::BYTES as usize)
            .take(most)
            .take_while(|word| word.iter().any(|&byte| byte != 0xff));
        // At most `BUFFER_WORDS_MAX`.
        written.count() as u32
    }

    /// Starts the programming of `count` words; false when the chip has no write buffer free for them.
    fn start_words(&mut self, address: u32, bytes: &[u8], count: u32, first: bool) -> bool {
        if count == 1 {
            self.start_word(address, word_of::<B>(bytes), first);
            return true;
        }
        self.open_sector_at(address, first);
        self.bus.write(address, intel::WRITE_BUFFER);
        if self.bus.read(address) & intel::SR_READY == 0 {
            return false;
        }
        self.bus.write(address, count - 1);
        for (at, word) in (address..address + count).zip(bytes.chunks_exact(B::BYTES as usize)) {
            self.bus.write(at, word_of::<B>(word));
        }
        self.bus.write(address, intel::CONFIRM);
        true
    }

    /// Whether whole words from `offset` on are in the chip and not below `from`.
    fn check(&self, offset: u32, length: usize, from: u32) -> nb::Result<(), Error> {
        if !offset.is_multiple_of(B::BYTES) || !length.is_multiple_of(B::BYTES as usize) {
            return Err(nb::Error::Other(Error::Unaligned));
        }
        let end = u32::try_from(length)
            .ok()
            .and_then(|length| offset.checked_add(length));
        if offset < from || end.is_none_or(|end| end > self.identity.bytes) {
            return Err(nb::Error::Other(Error::Bounds));
        }
        Ok(())
    }

    /// The work that belongs to a request: the one under way, or a new one on a chip that is ready.
    fn claim(&mut self, now_us: u64, request: Request) -> nb::Result<Work, Error> {
        if let Some(work) = self.work
            && work.request == request
        {
            return Ok(Work {
                called: now_us,
                ..work
            });
        }
        self.make_way(now_us)?;
        self.make_ready()?;
        Ok(Work {
            request,
            done: 0,
            in_flight: 0,
            busy_since: None,
            called: now_us,
        })
    }

    /// Ends an operation whose caller stays away.
    fn make_way(&mut self, now_us: u64) -> nb::Result<(), Error> {
        match &self.work {
            None => Ok(()),
            Some(work) if now_us < work.called.saturating_add(ABANDONED_US) => {
                Err(nb::Error::WouldBlock)
            }
            Some(_) => {
                self.stuck = true;
                self.work = None;
                Ok(())
            }
        }
    }

    /// Brings a chip that was given up back to its array.
    fn make_ready(&mut self) -> nb::Result<(), Error> {
        if !self.stuck {
            return Ok(());
        }
        let ready = match self.identity.command_set {
            CommandSet::Intel => {
                self.bus.write(0, intel::READ_STATUS);
                self.bus.read(0) & intel::SR_READY != 0
            }
            CommandSet::Amd => {
                let toggled = self.bus.read(0) ^ self.bus.read(0);
                toggled & amd::DQ6 == 0
            }
        };
        if !ready {
            return Err(nb::Error::Other(Error::Timeout));
        }
        self.end();
        self.stuck = false;
        Ok(())
    }

    /// What comes of a look: the end, more waiting, or the end of patience.
    fn settle(
        &mut self,
        now_us: u64,
        work: Work,
        look: Look,
        patience_us: u64,
    ) -> nb::Result<(), Error> {
        match look {
            Look::Done => {
                self.end();
                Ok(())
            }
            Look::Failed(error) => {
                self.end();
                Err(nb::Error::Other(error))
            }
            // Ready counts more than late: whoever runs this may have been stopped meanwhile.
            Look::Busy
                if work
                    .busy_since
                    .is_some_and(|since| now_us > since.saturating_add(patience_us)) =>
            {
                self.work = None;
                self.stuck = true;
                Err(nb::Error::Other(Error::Timeout))
            }
            Look::Busy => {
                self.work = Some(work);
                Err(nb::Error::WouldBlock)
            }
        }
    }

    /// Back to the array (I1).
    fn end(&mut self) {
        self.work = None;
        match self.identity.command_set {
            CommandSet::Intel => {
                self.bus.write(0, intel::CLEAR_STATUS);
                self.bus.write(0, intel::READ_ARRAY);
            }
            CommandSet::Amd => self.bus.write(0, amd::RESET),
        }
    }

    fn command(&mut self, command: u32) {
        for (address, data) in [amd::UNLOCK_1, amd::UNLOCK_2, (amd::COMMAND, command)] {
            self.bus.write(address, data);
        }
    }

    fn start_erase(&mut self, address: u32) {
        match self.identity.command_set {
            CommandSet::Intel => {
                self.open_sector(address);
                self.bus.write(address, intel::ERASE);
                self.bus.write(address, intel::CONFIRM);
            }
            CommandSet::Amd => {
                self.command(amd::ERASE_SETUP);
                for (address, data) in [amd::UNLOCK_1, amd::UNLOCK_2, (address, amd::SECTOR_ERASE)]
                {
                    self.bus.write(address, data);
                }
            }
        }
    }

    fn start_word(&mut self, address: u32, datum: u32, first: bool) {
        match self.identity.command_set {
            CommandSet::Intel => {
                self.open_sector_at(address, first);
                self.bus.write(address, intel::PROGRAM);
                self.bus.write(address, datum);
            }
            CommandSet::Amd => {
                self.command(amd::PROGRAM);
                self.bus.write(address, datum);
            }
        }
    }

    /// Opens the sector of a word that is the first of an operation or of a sector.
    fn open_sector_at(&mut self, address: u32, first: bool) {
        let offset = address * B::BYTES;
        if first || self.identity.sector(offset).map(|(start, _)| start) == Some(offset) {
            self.open_sector(address);
        }
    }

    /// Forgets old failures and, where the chip locks its sectors at power-up, unlocks this one; that takes no time.
    fn open_sector(&mut self, address: u32) {
        self.bus.write(address, intel::CLEAR_STATUS);
        if self.identity.locks {
            self.bus.write(address, intel::LOCK_SETUP);
            self.bus.write(address, intel::CONFIRM);
        }
    }

    /// One look at a busy chip; `datum` is the word being programmed.
    fn look(&mut self, address: u32, datum: Option<u32>) -> Look {
        match self.identity.command_set {
            CommandSet::Intel => {
                let status = self.bus.read(address);
                if status & intel::SR_READY == 0 {
                    Look::Busy
                } else if status & (intel::SR_LOCKED | intel::SR_VPP) != 0 {
                    Look::Failed(Error::Locked)
                } else if status & (intel::SR_PROGRAM | intel::SR_ERASE) != 0 {
                    Look::Failed(if datum.is_some() {
                        Error::Program
                    } else {
                        Error::Erase
                    })
                } else {
                    Look::Done
                }
            }
            CommandSet::Amd => {
                // "Data# polling": DQ7 shows its datum when the chip is done; DQ5 may rise in the same moment.
                let wanted = datum.unwrap_or(u32::MAX);
                let shown = self.bus.read(address);
                if (shown ^ wanted) & amd::DQ7 == 0 {
                    return self.check_word(address, datum);
                }
                if shown & amd::DQ5 == 0 {
                    return Look::Busy;
                }
                if (self.bus.read(address) ^ wanted) & amd::DQ7 == 0 {
                    return self.check_word(address, datum);
                }
                Look::Failed(if datum.is_some() {
                    Error::Program
                } else {
                    Error::Erase
                })
            }
        }
    }

    /// A word that is done must read as it was written: the other lines may change after DQ7, so it is read again.
    fn check_word(&mut self, address: u32, datum: Option<u32>) -> Look {
        let shown = self.bus.read(address);
        match datum {
            Some(datum) if shown != datum => Look::Failed(Error::Program),
            Some(_) | None => Look::Done,
        }
    }
}
