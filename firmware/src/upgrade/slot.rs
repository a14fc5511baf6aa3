//! A slot of the flash: an image, and what the loader must know to choose between two.
//!
//! ```text
//! 0x000  header of the image (`image`)
//! 0x040  record: magic, generation, CRC-32 of both; written last
//! 0x080  trial marks, one word each: cleared before each start of an image that has not confirmed itself
//! 0x0c0  confirmation, one word: cleared by the image once it has run for a while
//! 0x100  payload
//! ```
//! A mark is "not yet" while its word has all bits set, and "done" in every other case: NOR flash clears bits without an
//! erase. A slot is whole when header, record and payload are; the record comes last, so a cut write leaves none.
//!
//! The loader takes the greatest generation that is whole and confirmed or has trial marks left. An image that crashes
//! or is reset [`UPGRADE_TRIALS`] times before it confirms itself is thereby given up for the older one. Where nothing else is
//! left, an image without marks is started all the same.
//!
//! Invariants: I1 the slot that runs is never erased; I2 at every moment of an upgrade one slot is whole.

use crate::budget::UPGRADE_TRIALS;
use core::fmt;

use super::image::{Board, Fault, HEADER_BYTES, Header, Wanted};
use crate::crc::Crc32;

/// Slots there are.
pub const SLOTS: usize = 2;
/// Where the record begins, bytes from the slot's start.
pub const RECORD_AT: usize = HEADER_BYTES;
/// Bytes of the record.
pub const RECORD_BYTES: usize = 12;
/// Where the trial marks begin.
pub const TRIALS_AT: usize = 0x80;
/// Where the confirmation is.
pub const CONFIRMED_AT: usize = 0xc0;
/// Where the payload begins.
pub const PAYLOAD_AT: usize = 0x100;
/// Bytes of one mark.
pub const MARK_BYTES: usize = 4;

const RECORD_MAGIC: u32 = 0x544f_4c53;

/// A slot's number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum SlotId {
    /// The first.
    A,
    /// The second.
    B,
}

impl SlotId {
    /// Both, in order.
    pub const ALL: [Self; SLOTS] = [Self::A, Self::B];

    /// 0 or 1.
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// What a slot's first [`PAYLOAD_AT`] bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The image's header.
    pub header: Header,
    /// The greater, the newer.
    pub generation: u32,
    /// Starts left before the image is given up, unless it is confirmed.
    pub trials_left: u8,
    /// The image has said that it works.
    pub confirmed: bool,
}

impl Standing {
    /// Whether the loader takes it when there is a choice.
    pub const fn is_trusted(&self) -> bool {
        self.confirmed || self.trials_left > 0
    }

    /// Where the next trial mark is, bytes from the slot's start; `None` when there is none to clear.
    pub const fn next_trial(&self) -> Option<usize> {
        match self.trials_left {
            0 => None,
            left if !self.confirmed => {
                Some(TRIALS_AT + (UPGRADE_TRIALS - left as usize) * MARK_BYTES)
            }
            _ => None,
        }
    }
}

/// Why a slot holds nothing to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotFault {
    /// Erased.
    Empty,
    /// What was written last is not there: a write was cut.
    Unfinished,
    /// The image itself.
    Image(Fault),
}

impl fmt::Display for SlotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Unfinished => f.write_str("a write was cut"),
            Self::Image(fault) => fault.fmt(f),
        }
    }
}

/// The record of a slot.
pub fn record(generation: u32) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..4].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
    bytes[4..8].copy_from_slice(&generation.to_le_bytes());
    let crc = Crc32::of(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the first [`PAYLOAD_AT`] bytes of a slot of `slot_bytes`; the payload is not looked at.
///
/// # Errors
/// What is missing or wrong.
pub fn examine(
    start: &[u8; PAYLOAD_AT],
    board: Board,
    slot_bytes: usize,
) -> Result<Standing, SlotFault> {
    if start[..HEADER_BYTES].iter().all(|&byte| byte == 0xff) {
        return Err(SlotFault::Empty);
    }
    let header = Header::parse(start).map_err(SlotFault::Image)?;
    let wanted = Wanted {
        board,
        payload_bytes_max: payload_bytes_max(slot_bytes),
        not_before: None,
    };
    header.check(&wanted).map_err(SlotFault::Image)?;
    let found = &start[RECORD_AT..RECORD_AT + RECORD_BYTES];
    let generation = u32::from_le_bytes([found[4], found[5], found[6], found[7]]);
    if found != record(generation) {
        return Err(SlotFault::Unfinished);
    }
    let is_set = |at: usize| start[at..at + MARK_BYTES] == [0xff; MARK_BYTES];
    // Marks are cleared in order; one that is set behind a cleared one counts as cleared.
    let used = (0..UPGRADE_TRIALS)
        .rposition(|mark| !is_set(TRIALS_AT + mark * MARK_BYTES))
        .map_or(0, |last| last + 1);
    Ok(Standing {
        header,
        generation,
        trials_left: (UPGRADE_TRIALS - used) as u8,
        confirmed: !is_set(CONFIRMED_AT),
    })
}

/// Bytes of payload that a slot holds.
pub const fn payload_bytes_max(slot_bytes: usize) -> u32 {
    slot_bytes.saturating_sub(PAYLOAD_AT) as u32
}

/// The slots in the order in which they are to be tried; whether a payload is whole is seen only then.
pub fn order(slots: &[Option<Standing>; SLOTS]) -> [Option<SlotId>; SLOTS] {
    let rank = |slot: SlotId| {
        slots[slot.index()].map(|standing| (standing.is_trusted(), standing.generation))
    };
    let first = if rank(SlotId::B) > rank(SlotId::A) {
        SlotId::B
    } else {
        SlotId::A
    };
    [first, first.other()].map(|slot| rank(slot).map(|_| slot))
}

/// The generation that a new image gets so that it comes before both.
pub fn next_generation(slots: &[Option<Standing>; SLOTS]) -> u32 {
    let newest = slots.iter().flatten().map(|standing| standing.generation);
    newest.max().unwrap_or(0).saturating_add(1)
}

/// The first [`PAYLOAD_AT`] bytes of a slot with a confirmed image, as a factory writes them.
pub fn factory_start(header: &Header, generation: u32) -> [u8; PAYLOAD_AT] {
    let mut start = [0xff; PAYLOAD_AT];
    start[..HEADER_BYTES].copy_from_slice(&header.emit());
    start[RECORD_AT..RECORD_AT + RECORD_BYTES].copy_from_slice(&record(generation));
    start[CONFIRMED_AT..CONFIRMED_AT + MARK_BYTES].fill(0);
    start
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::image;
    use super::*;
    use proptest::prelude::*;

    const SLOT_BYTES: usize = 0x1c_0000;

    fn start(generation: u32) -> [u8; PAYLOAD_AT] {
        let header = Header::parse(&image(100)).unwrap();
        let mut start = factory_start(&header, generation);
        start[CONFIRMED_AT..CONFIRMED_AT + MARK_BYTES].fill(0xff);
        start
    }

    fn read(start: &[u8; PAYLOAD_AT]) -> Result<Standing, SlotFault> {
        examine(start, Board::MALTA, SLOT_BYTES)
    }

    #[test]
    fn a_new_image_gets_its_trials_and_is_then_given_up_for_the_older_one() {
        let mut old = start(4);
        old[CONFIRMED_AT] = 0;
        let mut new = start(5);
        for left in (1..=UPGRADE_TRIALS).rev() {
            let standing = read(&new).unwrap();
            assert_eq!(usize::from(standing.trials_left), left);
            let slots = [Some(read(&old).unwrap()), Some(standing)];
            assert_eq!(order(&slots)[0], Some(SlotId::B));
            let mark = standing.next_trial().unwrap();
            new[mark..mark + MARK_BYTES].fill(0);
        }
        let standing = read(&new).unwrap();
        assert_eq!(standing.next_trial(), None);
        let slots = [Some(read(&old).unwrap()), Some(standing)];
        assert_eq!(order(&slots), [Some(SlotId::A), Some(SlotId::B)]);
        // The last resort.
        assert_eq!(order(&[None, Some(standing)])[0], Some(SlotId::B));
    }

    #[test]
    fn a_confirmed_image_uses_no_trial() {
        let mut bytes = start(1);
        bytes[CONFIRMED_AT + 3] = 0x7f; // one bit is enough
        let standing = read(&bytes).unwrap();
        assert!(standing.confirmed);
        assert_eq!(standing.next_trial(), None);
    }

    #[test]
    fn an_erased_slot_is_empty_and_one_without_record_unfinished() {
        assert_eq!(read(&[0xff; PAYLOAD_AT]), Err(SlotFault::Empty));
        let mut bytes = start(1);
        bytes[RECORD_AT..RECORD_AT + RECORD_BYTES].fill(0xff);
        assert_eq!(read(&bytes), Err(SlotFault::Unfinished));
    }

    #[test]
    fn no_slot_no_choice() {
        assert_eq!(order(&[None, None]), [None, None]);
        assert_eq!(next_generation(&[None, None]), 1);
    }

    proptest! {
        #[test]
        fn a_record_of_which_any_bit_is_not_written_yet_is_none(
            generation in any::<u32>(), written in 0usize..RECORD_BYTES * 8
        ) {
            let whole = start(generation);
            let mut cut = whole;
            cut[RECORD_AT..RECORD_AT + RECORD_BYTES].fill(0xff);
            for bit in 0..written {
                let at = RECORD_AT + bit / 8;
                let mask = 1 << (bit % 8);
                cut[at] = cut[at] & !mask | whole[at] & mask;
            }
            // The bits that are left may all be set in the record anyway: then it is whole.
            prop_assert_eq!(read(&cut).is_ok(), cut == whole);
        }

        #[test]
        fn the_next_generation_comes_before_both(a in 0..u32::MAX - 1, b in 0..u32::MAX - 1) {
            let standing = |generation| Some(read(&start(generation)).unwrap());
            let next = next_generation(&[standing(a), standing(b)]);
            prop_assert_eq!(order(&[standing(next), standing(b)])[0], Some(SlotId::A));
            prop_assert_eq!(order(&[standing(a), standing(next)])[0], Some(SlotId::B));
        }
    }
}
