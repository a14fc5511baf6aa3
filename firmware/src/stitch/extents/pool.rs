//! The blocks that all streams share.
//!
//! Units: blocks of [`STITCH_BLOCK_BYTES`]. The free list lives in the free blocks; a block that was
//! never used is not touched, so that a pool costs nothing to build.

use crate::budget::STITCH_BLOCK_BYTES;

/// No block: end of the free list, or an empty place in a stream's table.
pub(super) const NONE: u16 = u16::MAX;

/// Memory of one block.
#[repr(C, align(16))]
pub struct Block(pub(super) [u8; STITCH_BLOCK_BYTES]);

impl Block {
    /// All zero, so that a static array of blocks costs no flash.
    pub const EMPTY: Block = Block([0; STITCH_BLOCK_BYTES]);
}

/// A block that [`Pool::borrow_block`] gave out. Whoever drops it instead of giving it back loses the block until the
/// next start.
#[derive(Debug)]
#[must_use]
pub struct Loan(u16);

/// The blocks that all streams share.
pub struct Pool<'m> {
    pub(super) blocks: &'m mut [Block],
    /// First free block that was used before; the next index is in a free block's first two bytes.
    free_head: u16,
    /// Blocks from this index on were never used; they are not in the list.
    untouched: u16,
    pub(super) free: u16,
    /// Blocks that streams were guaranteed and do not hold yet.
    pub(super) promised: u16,
}

impl<'m> Pool<'m> {
    /// All of `blocks` free; blocks beyond 65,534 are left alone.
    pub fn new(blocks: &'m mut [Block]) -> Self {
        let count = blocks.len().min(usize::from(NONE) - 1);
        let blocks = &mut blocks[..count];
        Pool {
            free: blocks.len() as u16,
            blocks,
            free_head: NONE,
            untouched: 0,
            promised: 0,
        }
    }

    /// Blocks in all.
    pub fn blocks_total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that hold nothing; equals [`blocks_total`](Self::blocks_total) at rest.
    pub fn blocks_free(&self) -> usize {
        usize::from(self.free)
    }

    /// Free blocks that no stream was guaranteed.
    pub fn blocks_unpromised(&self) -> usize {
        usize::from(self.free - self.promised)
    }

    /// Takes a free block that no stream was guaranteed, for something that is no stream; `None` when there is none.
    /// It comes back by [`Self::give_back`].
    pub fn borrow_block(&mut self) -> Option<Loan> {
        if self.free <= self.promised {
            return None;
        }
        self.take().map(Loan)
    }

    /// Takes a lent block back.
    pub fn give_back(&mut self, loan: Loan) {
        self.give(loan.0);
    }

    /// The bytes of a lent block.
    pub fn lent(&self, loan: &Loan) -> &[u8; STITCH_BLOCK_BYTES] {
        &self.blocks[usize::from(loan.0)].0
    }

    /// The bytes of a lent block, to be written.
    pub fn lent_mut(&mut self, loan: &Loan) -> &mut [u8; STITCH_BLOCK_BYTES] {
        &mut self.blocks[usize::from(loan.0)].0
    }

    pub(super) fn take(&mut self) -> Option<u16> {
        let index = if self.free_head != NONE {
            let index = self.free_head;
            let block = &self.blocks[usize::from(index)].0;
            self.free_head = u16::from_le_bytes([block[0], block[1]]);
            index
        } else if usize::from(self.untouched) < self.blocks.len() {
            self.untouched += 1;
            self.untouched - 1
        } else {
            return None;
        };
        self.free -= 1;
        Some(index)
    }

    pub(super) fn give(&mut self, index: u16) {
        let block = &mut self.blocks[usize::from(index)].0;
        block[..2].copy_from_slice(&self.free_head.to_le_bytes());
        self.free_head = index;
        self.free += 1;
    }
}
