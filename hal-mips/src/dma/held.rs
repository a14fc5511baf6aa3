//! Bytes that stay where they are while devices send them as parts of frames.
//!
//! A held byte is written once, and lent as often as it is sent: a retransmission is another loan. While any block of it is
//! lent, its bytes cannot be changed: [`Held::write`] refuses.
//!
//! Units: bytes; blocks of [`Held`]'s own size. Invariants: I1 a block's count is the number of pieces out that touch it.

use core::ptr::NonNull;

use super::Dma;

/// Blocks that one piece may touch.
pub const PIECE_BLOCKS_MAX: usize = 8;

/// Memory that is held: `BLOCKS` blocks of `BLOCK_BYTES` bytes.
#[derive(Debug)]
pub struct Held<const BLOCKS: usize, const BLOCK_BYTES: usize> {
    memory: NonNull<u8>,
    lent: [u8; BLOCKS],
}

// SAFETY: it is the only handle of its memory, but for the pieces, which cannot be read or written.
unsafe impl<const BLOCKS: usize, const BLOCK_BYTES: usize> Send for Held<BLOCKS, BLOCK_BYTES> {}

/// A part of a frame in a device's hands.
#[derive(Debug)]
#[must_use = "its memory stays lent until it is given back"]
pub struct Piece {
    memory: NonNull<u8>,
    /// Start of the memory it belongs to.
    origin: NonNull<u8>,
    length: u16,
}

// SAFETY: a piece is an address and a length; it gives no access.
unsafe impl Send for Piece {}

impl Piece {
    /// Bytes.
    pub fn length(&self) -> usize {
        usize::from(self.length)
    }

    /// Makes the bytes visible to a device; where it finds them. `None` when it cannot reach them.
    #[inline]
    pub(crate) fn show<D: Dma>(&self, dma: &D) -> Option<u32> {
        let start = self.memory.as_ptr() as usize;
        let address = dma.device_address(start, self.length())?;
        dma.write_back(start, self.length());
        Some(address)
    }
}

impl<const BLOCKS: usize, const BLOCK_BYTES: usize> Held<BLOCKS, BLOCK_BYTES> {
    /// Takes memory into its care.
    pub fn new(memory: &'static mut [[u8; BLOCK_BYTES]; BLOCKS]) -> Self {
        Self {
            memory: NonNull::from(memory).cast(),
            lent: [0; BLOCKS],
        }
    }

    /// The blocks that `length` bytes from `offset` touch; `None` when they are not within, none, or too many.
    fn blocks(offset: usize, length: usize) -> Option<core::ops::RangeInclusive<usize>> {
        let last = offset.checked_add(length.checked_sub(1)?)?;
        let blocks = offset / BLOCK_BYTES..=last / BLOCK_BYTES;
        let fits = last < BLOCKS * BLOCK_BYTES && blocks.end() - blocks.start() < PIECE_BLOCKS_MAX;
        (fits && length <= usize::from(u16::MAX)).then_some(blocks)
    }

    /// The bytes, to be read.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `new` was given so many bytes; devices only read, and `write` needs `&mut self`.
        unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), BLOCKS * BLOCK_BYTES) }
    }

    /// Bytes to be written; `None` while a device reads from a block of theirs, or when they are not within.
    pub fn write(&mut self, offset: usize, length: usize) -> Option<&mut [u8]> {
        let blocks = Self::blocks(offset, length)?;
        if self.lent.get(blocks)?.iter().any(|&count| count != 0) {
            return None;
        }
        // SAFETY: within the memory (`blocks`); `self` is borrowed exclusively, and no device reads here (I1).
        Some(unsafe { core::slice::from_raw_parts_mut(self.memory.as_ptr().add(offset), length) })
    }

    /// Lends bytes to be sent; `None` when they are not within, or a block is out 255 times already.
    pub fn lend(&mut self, offset: usize, length: usize) -> Option<Piece> {
        let blocks = Self::blocks(offset, length)?;
        let lent = self.lent.get_mut(blocks)?;
        if lent.contains(&u8::MAX) {
            return None;
        }
        lent.iter_mut().for_each(|count| *count += 1);
        Some(Piece {
            // SAFETY: within the memory.
            memory: unsafe { self.memory.add(offset) },
            origin: self.memory,
            length: length as u16, // `blocks` has seen to it
        })
    }

    /// Takes a piece back that a device has sent.
    ///
    /// # Errors
    /// The piece, when it belongs elsewhere.
    pub fn give_back(&mut self, piece: Piece) -> Result<(), Piece> {
        if piece.origin != self.memory {
            return Err(piece);
        }
        let offset = piece.memory.as_ptr() as usize - self.memory.as_ptr() as usize;
        if let Some(lent) =
            Self::blocks(offset, piece.length()).and_then(|blocks| self.lent.get_mut(blocks))
        {
            // Each was counted when the piece was lent, and a piece comes back once.
            lent.iter_mut().for_each(|count| *count -= 1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held<4, 64> {
        Held::new(Box::leak(Box::new([[0; 64]; 4])))
    }

    #[test]
    fn bytes_that_a_device_reads_cannot_be_written() {
        let mut held = held();
        held.write(60, 8).unwrap().copy_from_slice(b"sendthis");
        let (one, two) = (held.lend(60, 8).unwrap(), held.lend(64, 4).unwrap());
        assert!(held.write(0, 64).is_none());
        assert!(held.write(127, 1).is_none());
        assert!(held.write(128, 128).is_some(), "other blocks are free");
        held.give_back(one).unwrap();
        assert!(held.write(0, 64).is_some());
        assert!(held.write(64, 1).is_none(), "still lent once");
        held.give_back(two).unwrap();
        assert!(held.write(64, 1).is_some());
        assert_eq!(&held.bytes()[60..68], b"sendthis");
    }

    #[test]
    fn a_piece_returns_only_to_its_own_memory() {
        let (mut one, mut two) = (held(), held());
        let piece = one.lend(0, 1).unwrap();
        let piece = two.give_back(piece).unwrap_err();
        assert!(one.give_back(piece).is_ok());
    }

    #[test]
    fn nothing_outside_the_memory_is_lent_or_written() {
        let mut held = held();
        for (offset, length) in [(0, 0), (0, 257), (256, 1), (usize::MAX, 2), (255, 2)] {
            assert!(held.lend(offset, length).is_none(), "{offset} {length}");
            assert!(held.write(offset, length).is_none(), "{offset} {length}");
        }
    }

    #[test]
    fn the_count_of_loans_does_not_wrap() {
        let mut held = held();
        let pieces: Vec<_> = core::iter::from_fn(|| held.lend(3, 1)).collect();
        assert_eq!(pieces.len(), 255);
        for piece in pieces {
            held.give_back(piece).unwrap();
        }
        assert!(held.write(3, 1).is_some());
    }
}
