//! The bytes of a record's head and of a sector's mark.
//!
//! | record | | mark | |
//! | --- | --- | --- | --- |
//! | 0 | magic "TDR1" | 0 | magic "TDS1" |
//! | 4 | kind, u8; 0 | 4 | kind, u8; 0, 0, 0 |
//! | 6 | version of the body, u16 | 8 | generation, u32 |
//! | 8 | sequence, u32 | 12 | CRC-32 of the bytes before it |
//! | 12 | bytes of the body, u32 | | |
//! | 16 | CRC-32 of the bytes before it, the body, and 0xFF up to a multiple of 4 | | |
//!
//! Little endian.

use super::Kind;
use crate::crc::Crc32;

/// Bytes of a record's head.
pub(super) const HEAD_BYTES: usize = 20;
/// Bytes before a sector's first slot; the mark takes the first [`MARK_BYTES`] of them.
pub(super) const MARK_ROOM: u32 = 64;
/// Bytes of a sector's mark.
pub(super) const MARK_BYTES: usize = 16;

const RECORD_MAGIC: [u8; 4] = *b"TDR1";
const SECTOR_MAGIC: [u8; 4] = *b"TDS1";

/// What a record says of itself, beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) version: u16,
    pub(super) sequence: u32,
    pub(super) length: u32,
    pub(super) crc: u32,
}

impl Head {
    /// The head of a record with this body; `padded` is the body with 0xFF up to a multiple of 4.
    pub(super) fn seal(
        kind: Kind,
        version: u16,
        sequence: u32,
        length: u32,
        padded: &[u8],
    ) -> Self {
        let mut head = Head {
            kind,
            version,
            sequence,
            length,
            crc: 0,
        };
        let mut sum = head.digest();
        sum.update(padded);
        head.crc = sum.value();
        head
    }

    /// A CRC that has taken in the head; the padded body follows.
    pub(super) fn digest(&self) -> Crc32 {
        let mut sum = Crc32::new();
        sum.update(&self.bytes()[..HEAD_BYTES - 4]);
        sum
    }

    pub(super) fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4] = self.kind.index() as u8;
        bytes[6..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// Reads a head of `kind`; its CRC is not checked here.
    pub(super) fn parse(kind: Kind, bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let head = Head {
            kind,
            version: u16::from_le_bytes([bytes[6], bytes[7]]),
            sequence: word(8),
            length: word(12),
            crc: word(16),
        };
        // What was not kept must be as it is written.
        (head.bytes() == *bytes).then_some(head)
    }
}

/// The mark of a sector that was erased whole.
pub(super) fn mark(kind: Kind, generation: u32) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..4].copy_from_slice(&SECTOR_MAGIC);
    bytes[4] = kind.index() as u8;
    bytes[8..12].copy_from_slice(&generation.to_le_bytes());
    let sum = Crc32::of(&bytes[..12]);
    bytes[12..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The generation told by a sector's mark, if it is one.
pub(super) fn generation(kind: Kind, bytes: &[u8; MARK_BYTES]) -> Option<u32> {
    let generation = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    (mark(kind, generation) == *bytes).then_some(generation)
}

/// `length` with the padding to whole words.
pub(super) const fn padded(length: u32) -> u32 {
    length.next_multiple_of(super::FLASH_ALIGN)
}
