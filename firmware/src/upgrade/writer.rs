//! Writes a judged image to the slot that does not run, in small steps.
//!
//! ```text
//! Look (both slots) → Erase → Payload → Compare → Header → Record → Check → done
//! ```
//! The sectors are erased from the first on, so that what was there before is none from the first moment; the record,
//! which makes a slot one, is written last, when the payload has been read back. A power cut at any step leaves the
//! running slot as it is and the other one without a record (I1, I2 of [`super::slot`]).
//!
//! Calling order: [`Writer::poll`] until it says [`Progress::Written`] or fails.
//! Bounds: a call does one flash operation of at most [`UPGRADE_CHUNK_BYTES`], or looks at one that goes on.

use smoltcp::time::Instant;

use super::image::{Board, HEADER_BYTES, Header};
use super::slot::{self, PAYLOAD_AT, RECORD_AT, RECORD_BYTES, SLOTS, SlotId, Standing};
use super::{Refusal, Staging};
use crate::budget::UPGRADE_CHUNK_BYTES;
use crate::stitch::Pool;
use crate::store::{Flash, Range};

const _: () = assert!(PAYLOAD_AT <= UPGRADE_CHUNK_BYTES && UPGRADE_CHUNK_BYTES.is_power_of_two());

/// What a writer does next; `at` counts bytes that are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look { slot: SlotId },
    Erase { at: u32 },
    Payload { at: u32 },
    Compare { at: u32 },
    Header,
    Record,
    Check,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    Working,
    /// The chip is busy, or has done what it may in one call: call again in the next turn.
    Waiting,
    /// The slot is whole, and the next start takes it.
    Written,
}

/// One image on its way into one slot.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    board: Board,
    slots: [Range; SLOTS],
    target: SlotId,
    header: Header,
    generation: u32,
    found: [Option<Standing>; SLOTS],
    step: Step,
}

impl Writer {
    /// Will write the image of `header` to the slot beside `running`.
    pub const fn new(board: Board, slots: [Range; SLOTS], running: SlotId, header: Header) -> Self {
        Self {
            board,
            slots,
            target: running.other(),
            header,
            generation: 0,
            found: [None; SLOTS],
            step: Step::Look { slot: SlotId::A },
        }
    }

    /// Which slot is written.
    pub const fn target(&self) -> SlotId {
        self.target
    }

    /// How much of the work is done, percent.
    pub fn percent(&self) -> u32 {
        let whole = self.header.length.max(1);
        match self.step {
            Step::Look { .. } => 0,
            Step::Erase { at } => at.min(whole) / (whole / 30 + 1),
            Step::Payload { at } => 30 + at.min(whole) / (whole / 40 + 1),
            Step::Compare { at } => 70 + at.min(whole) / (whole / 30 + 1),
            Step::Header | Step::Record | Step::Check => 99,
        }
    }

    /// Goes on by one operation.
    ///
    /// # Errors
    /// The flash fails; the slot that runs is untouched.
    pub fn poll<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        staging: &Staging,
        pool: &Pool<'_>,
    ) -> Result<Progress, Refusal> {
        match self.advance(now, flash, staging, pool) {
            Ok(progress) => Ok(progress),
            Err(nb::Error::WouldBlock) => Ok(Progress::Waiting),
            Err(nb::Error::Other(refusal)) => Err(refusal),
        }
    }

    fn advance<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        staging: &Staging,
        pool: &Pool<'_>,
    ) -> nb::Result<Progress, Refusal> {
        let place = self.slots[self.target.index()];
        let mut chunk = [0; UPGRADE_CHUNK_BYTES];
        let step = |at: u32, end: u32| {
            let chunk = UPGRADE_CHUNK_BYTES as u32;
            (end - at).min(chunk - (PAYLOAD_AT as u32 + at) % chunk)
        };
        // Whole words; `Staging::read` fills up with what erased flash holds.
        let end = self.header.length.next_multiple_of(4);
        self.step = match self.step {
            Step::Look { slot } => {
                self.found[slot.index()] =
                    examine(now, flash, self.board, self.slots[slot.index()])?.ok();
                match slot {
                    SlotId::A => Step::Look { slot: SlotId::B },
                    SlotId::B => {
                        self.generation = slot::next_generation(&self.found);
                        Step::Erase { at: 0 }
                    }
                }
            }
            Step::Erase { at } if at < PAYLOAD_AT as u32 + end => {
                let sector = flash
                    .sector(place.start + at)
                    .filter(|sector| {
                        sector.start >= place.start && sector.start + sector.bytes <= place.end
                    })
                    .ok_or(Refusal::Layout)?;
                flash.erase(now, sector.start).map_err(refuse)?;
                Step::Erase {
                    at: sector.start + sector.bytes - place.start,
                }
            }
            Step::Erase { .. } => Step::Payload { at: 0 },
            Step::Payload { at } if at < end => {
                let count = step(at, end);
                let bytes = &mut chunk[..count as usize];
                staging.read(pool, at, bytes);
                flash
                    .program(now, place.start + PAYLOAD_AT as u32 + at, bytes)
                    .map_err(refuse)?;
                Step::Payload { at: at + count }
            }
            Step::Payload { .. } => Step::Compare { at: 0 },
            Step::Compare { at } if at < end => {
                let count = step(at, end);
                let bytes = &mut chunk[..count as usize];
                flash
                    .read(now, place.start + PAYLOAD_AT as u32 + at, bytes)
                    .map_err(refuse)?;
                let mut wanted = [0; UPGRADE_CHUNK_BYTES];
                staging.read(pool, at, &mut wanted[..count as usize]);
                if bytes != &wanted[..count as usize] {
                    return Err(nb::Error::Other(Refusal::Worn));
                }
                Step::Compare { at: at + count }
            }
            Step::Compare { .. } => Step::Header,
            Step::Header => {
                let bytes: [u8; HEADER_BYTES] = self.header.emit();
                flash.program(now, place.start, &bytes).map_err(refuse)?;
                Step::Record
            }
            Step::Record => {
                let bytes: [u8; RECORD_BYTES] = slot::record(self.generation);
                flash
                    .program(now, place.start + RECORD_AT as u32, &bytes)
                    .map_err(refuse)?;
                Step::Check
            }
            Step::Check => {
                let found = examine(now, flash, self.board, place)?;
                let whole = found.is_ok_and(|found| {
                    found.header == self.header
                        && found.generation == self.generation
                        && found.is_trusted()
                });
                return if whole {
                    Ok(Progress::Written)
                } else {
                    Err(nb::Error::Other(Refusal::Worn))
                };
            }
        };
        Ok(Progress::Working)
    }
}

/// Reads what a slot is.
pub(super) fn examine<F: Flash>(
    now: Instant,
    flash: &mut F,
    board: Board,
    place: Range,
) -> nb::Result<Result<Standing, slot::SlotFault>, Refusal> {
    let mut start = [0; PAYLOAD_AT];
    flash.read(now, place.start, &mut start).map_err(refuse)?;
    Ok(slot::examine(
        &start,
        board,
        (place.end - place.start) as usize,
    ))
}

pub(super) fn refuse(error: nb::Error<crate::store::FlashError>) -> nb::Error<Refusal> {
    error.map(Refusal::Flash)
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::{WANTED, image};
    use super::super::image::{Version, check};
    use super::*;
    use crate::stitch::Block;
    use crate::store::{FlashError, RamFlash, Sector};

    const SECTOR: u32 = 0x1000;
    const SLOTS_HERE: [Range; 2] = [
        Range {
            start: 0x2000,
            end: 0xa000,
        },
        Range {
            start: 0xa000,
            end: 0x1_2000,
        },
    ];
    const FLASH_BYTES: usize = 0x1_4000;

    /// A flash whose power fails after so many operations, the last of which is done in part.
    struct Failing<'a> {
        inner: RamFlash<'a>,
        operations_left: usize,
        /// Of the cut operation, how many bytes are done.
        part: usize,
        done: usize,
    }

    impl Failing<'_> {
        fn is_cut(&mut self) -> bool {
            self.done += 1;
            if self.operations_left == 0 {
                return true;
            }
            self.operations_left -= 1;
            false
        }
    }

    impl Flash for Failing<'_> {
        fn size(&self) -> u32 {
            self.inner.size()
        }
        fn sector(&self, offset: u32) -> Option<Sector> {
            self.inner.sector(offset)
        }
        fn read(
            &mut self,
            now: Instant,
            offset: u32,
            out: &mut [u8],
        ) -> nb::Result<(), FlashError> {
            self.inner.read(now, offset, out)
        }
        fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError> {
            if self.is_cut() {
                // Half erased: noise where it was.
                let mut sector = [0; SECTOR as usize];
                self.inner.read(now, start, &mut sector)?;
                self.inner.erase(now, start)?;
                for (at, byte) in sector.iter_mut().enumerate() {
                    *byte |= if at < self.part * 16 {
                        0xff
                    } else {
                        (at * 37) as u8
                    };
                }
                self.inner.program(now, start, &sector)?;
                return Err(nb::Error::Other(FlashError::Timeout));
            }
            self.inner.erase(now, start)
        }
        fn program(
            &mut self,
            now: Instant,
            offset: u32,
            bytes: &[u8],
        ) -> nb::Result<(), FlashError> {
            if self.is_cut() {
                let done = self.part.min(bytes.len()) / 4 * 4;
                self.inner.program(now, offset, &bytes[..done])?;
                return Err(nb::Error::Other(FlashError::Timeout));
            }
            self.inner.program(now, offset, bytes)
        }
    }

    /// What the loader would start.
    fn boots(flash: &[u8]) -> Option<(SlotId, Version)> {
        let read = |id: SlotId| {
            let place = SLOTS_HERE[id.index()];
            let slot = &flash[place.start as usize..place.end as usize];
            slot::examine(slot.first_chunk().unwrap(), Board::MALTA, slot.len()).ok()
        };
        let found = SlotId::ALL.map(read);
        slot::order(&found).into_iter().flatten().find_map(|id| {
            let header = found[id.index()].unwrap().header;
            let at = SLOTS_HERE[id.index()].start as usize + PAYLOAD_AT;
            let payload = &flash[at..at + header.length as usize];
            let whole = [&header.emit()[..], payload].concat();
            let wanted = super::super::image::Wanted {
                not_before: None,
                ..WANTED
            };
            check(&whole, &wanted)
                .is_ok()
                .then_some((id, header.version))
        })
    }

    fn flash_with(image: &[u8], id: SlotId) -> std::vec::Vec<u8> {
        let mut flash = std::vec![0xff; FLASH_BYTES];
        let header = Header::parse(image).unwrap();
        let at = SLOTS_HERE[id.index()].start as usize;
        flash[at..at + PAYLOAD_AT].copy_from_slice(&slot::factory_start(&header, 7));
        let payload = &image[HEADER_BYTES..];
        flash[at + PAYLOAD_AT..at + PAYLOAD_AT + payload.len()].copy_from_slice(payload);
        flash
    }

    fn newer(length: usize) -> std::vec::Vec<u8> {
        let old = image(length);
        let mut header = Header::parse(&old).unwrap();
        header.version = Version::parse("0.3.0");
        super::super::image::tests::pack(&header, &old[HEADER_BYTES..])
    }

    /// Writes `image` beside `running` until it ends or the power does; how many operations that took.
    fn write(
        flash: &mut [u8],
        image: &[u8],
        running: SlotId,
        cut: usize,
        part: usize,
    ) -> (Result<Progress, Refusal>, usize) {
        let mut memory: std::vec::Vec<Block> = (0..16).map(|_| Block::EMPTY).collect();
        let mut pool = Pool::new(&mut memory);
        let mut staging = Staging::new(WANTED, false);
        staging.push(&mut pool, image).unwrap();
        let header = staging.finish().unwrap();
        let mut writer = Writer::new(Board::MALTA, SLOTS_HERE, running, header);
        let mut flash = Failing {
            inner: RamFlash::new(flash, SECTOR),
            operations_left: cut,
            part,
            done: 0,
        };
        let mut last = 0;
        for _ in 0..10_000 {
            let came = writer.poll(Instant::ZERO, &mut flash, &staging, &pool);
            assert!(writer.percent() >= last && writer.percent() < 100);
            last = writer.percent();
            if came != Ok(Progress::Working) {
                staging.release(&mut pool);
                return (came, flash.done);
            }
        }
        panic!("the writer does not end");
    }

    #[test]
    fn the_new_image_is_started_next_and_the_old_one_kept() {
        for running in SlotId::ALL {
            let old = image(9000);
            let mut flash = flash_with(&old, running);
            let before = flash.clone();
            assert_eq!(
                write(&mut flash, &newer(10_001), running, usize::MAX, 0).0,
                Ok(Progress::Written)
            );
            assert_eq!(
                boots(&flash),
                Some((running.other(), Version::parse("0.3.0")))
            );
            let place = SLOTS_HERE[running.index()];
            let range = place.start as usize..place.end as usize;
            assert_eq!(flash[range.clone()], before[range]);
            // Nothing outside the slots.
            assert_eq!(flash[..0x2000], before[..0x2000]);
            assert_eq!(flash[0x1_2000..], before[0x1_2000..]);
            // And once more, back into the first slot.
            assert_eq!(
                write(&mut flash, &newer(5), running.other(), usize::MAX, 0).0,
                Ok(Progress::Written)
            );
            assert_eq!(boots(&flash).unwrap().0, running);
        }
    }

    #[test]
    fn a_power_cut_at_every_operation_leaves_the_old_image_or_the_whole_new_one() {
        let old = image(9000);
        // The other slot holds an image too, older still.
        let mut prepared = flash_with(&old, SlotId::A);
        let (_, operations) = write(
            &mut prepared.clone(),
            &newer(10_001),
            SlotId::A,
            usize::MAX,
            0,
        );
        assert!(
            write(&mut prepared, &image(7000), SlotId::A, usize::MAX, 0)
                .0
                .is_ok()
        );
        // Which becomes the running one's elder: A is written anew, as generation 9.
        assert!(
            write(&mut prepared, &image(8000), SlotId::B, usize::MAX, 0)
                .0
                .is_ok()
        );
        assert_eq!(boots(&prepared), Some((SlotId::A, Version::parse("0.2.0"))));
        assert!(operations > 12, "{operations}");
        for cut in 0..operations {
            for part in [0, 4, 8, 100, 252, 700, 1020] {
                let mut flash = prepared.clone();
                let (came, _) = write(&mut flash, &newer(10_001), SlotId::A, cut, part);
                assert!(came.is_err());
                // The last operation writes the record; the power may go when that is through.
                let is_through = cut == operations - 1 && part >= RECORD_BYTES;
                let expected = if is_through {
                    (SlotId::B, Version::parse("0.3.0"))
                } else {
                    (SlotId::A, Version::parse("0.2.0"))
                };
                assert_eq!(boots(&flash), Some(expected), "cut at {cut}, {part} bytes");
                // And the next try works.
                if part == 4 {
                    assert_eq!(
                        write(&mut flash, &newer(10_001), SlotId::A, usize::MAX, 0).0,
                        Ok(Progress::Written)
                    );
                    assert_eq!(boots(&flash), Some((SlotId::B, Version::parse("0.3.0"))));
                }
            }
        }
    }

    #[test]
    fn a_bit_that_does_not_program_is_seen_before_the_slot_becomes_one() {
        let mut flash = flash_with(&image(100), SlotId::A);
        struct Stuck<'a>(RamFlash<'a>);
        impl Flash for Stuck<'_> {
            fn size(&self) -> u32 {
                self.0.size()
            }
            fn sector(&self, offset: u32) -> Option<Sector> {
                self.0.sector(offset)
            }
            fn read(
                &mut self,
                now: Instant,
                offset: u32,
                out: &mut [u8],
            ) -> nb::Result<(), FlashError> {
                self.0.read(now, offset, out)?;
                let at = 0xa000 + PAYLOAD_AT as u32 + 259;
                if let Some(byte) = at
                    .checked_sub(offset)
                    .and_then(|at| out.get_mut(at as usize))
                {
                    *byte ^= 0x10;
                }
                Ok(())
            }
            fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError> {
                self.0.erase(now, start)
            }
            fn program(
                &mut self,
                now: Instant,
                offset: u32,
                bytes: &[u8],
            ) -> nb::Result<(), FlashError> {
                self.0.program(now, offset, bytes)
            }
        }
        let mut memory: std::vec::Vec<Block> = (0..16).map(|_| Block::EMPTY).collect();
        let mut pool = Pool::new(&mut memory);
        let mut staging = Staging::new(WANTED, false);
        staging.push(&mut pool, &newer(1000)).unwrap();
        let mut writer = Writer::new(
            Board::MALTA,
            SLOTS_HERE,
            SlotId::A,
            staging.finish().unwrap(),
        );
        let mut stuck = Stuck(RamFlash::new(&mut flash, SECTOR));
        let came = (0..1000).find_map(|_| {
            let came = writer.poll(Instant::ZERO, &mut stuck, &staging, &pool);
            (came != Ok(Progress::Working)).then_some(came)
        });
        assert_eq!(came, Some(Err(Refusal::Worn)));
        assert_eq!(boots(&flash), Some((SlotId::A, Version::parse("0.2.0"))));
        staging.release(&mut pool);
    }
}
