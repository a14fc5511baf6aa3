//! The bytes held: one stream's extents, in blocks of a pool that all streams share.
//!
//! One buffer is reorder buffer and retransmit buffer at once: a byte is copied in when it arrives
//! and stays until the receiver of the stream acknowledged it ([`Extents::release_to`]).
//!
//! A byte that is held is never overwritten, so a retransmission carries the bytes of the first
//! sending. What arrives a second time is compared and a difference reported.
//!
//! Units: positions are bytes from the start of the stream (`u64`); blocks are of
//! [`STITCH_BLOCK_BYTES`].
//!
//! Invariants (`check`):
//! - I1: intervals are sorted, not empty, neither overlap nor touch, and lie in `base..limit`.
//! - I2: a block is assigned wherever an interval touches one, and only inside the window.
//! - I3: `held` is the sum of the intervals; `blocks` the number of assigned blocks.
//! - I4: the pool's free blocks always cover what it promised.
//! - I5: the last place for an interval is that of the bytes due next, so that they can always be held.
//!
//! Budget: [`STITCH_BLOCKS`](crate::budget::STITCH_BLOCKS) blocks for all; a stream itself is about
//! 1.5 KiB (block table and interval list).

mod pool;

use heapless::Vec;

use self::pool::NONE;
pub use self::pool::{Block, Loan, Pool};

use crate::budget::{STITCH_BLOCK_BYTES, STITCH_INTERVALS, STITCH_SPAN_BLOCKS};

/// What a write found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, defmt::Format)]
pub struct Written {
    /// Bytes taken, now held.
    pub fresh: usize,
    /// Bytes that were held already or lie below the released position.
    pub duplicate: usize,
    /// A byte differed from the one already held; the first is kept.
    pub conflict: bool,
}

/// Why a write took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Refused {
    /// The last byte lies beyond [`Extents::limit`].
    Span,
    /// Another disjoint interval would be one too many. Never for the bytes at [`Extents::base`].
    Intervals,
    /// No free block that is not promised to another stream.
    Blocks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interval {
    start: u64,
    end: u64,
}

/// The held bytes of one stream.
///
/// Dropping it leaks its blocks: [`clear`](Self::clear) gives them back.
pub struct Extents {
    /// Everything below was released.
    base: u64,
    intervals: Vec<Interval, STITCH_INTERVALS>,
    /// Block of each position, by block number modulo the span.
    table: [u16; STITCH_SPAN_BLOCKS],
    held: u32,
    blocks: u16,
    /// Blocks this stream may hold whatever others do.
    guarantee: u16,
}

const _: () = assert!(STITCH_SPAN_BLOCKS.is_power_of_two() && STITCH_BLOCK_BYTES.is_power_of_two());

fn block_of(position: u64) -> u64 {
    position / STITCH_BLOCK_BYTES as u64
}

fn slot_of(position: u64) -> usize {
    block_of(position) as usize & (STITCH_SPAN_BLOCKS - 1)
}

fn offset_in_block(position: u64) -> usize {
    position as usize & (STITCH_BLOCK_BYTES - 1)
}

impl Extents {
    /// Nothing held; the stream begins at position 0.
    pub const fn new() -> Self {
        Extents::at(0)
    }

    /// Nothing held; the stream begins at `base`.
    pub const fn at(base: u64) -> Self {
        Extents {
            base,
            intervals: Vec::new(),
            table: [NONE; STITCH_SPAN_BLOCKS],
            held: 0,
            blocks: 0,
            guarantee: 0,
        }
    }

    /// First position that was not released.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// First position that can not be held yet, whatever the pool has.
    pub fn limit(&self) -> u64 {
        (block_of(self.base) + STITCH_SPAN_BLOCKS as u64).saturating_mul(STITCH_BLOCK_BYTES as u64)
    }

    /// Bytes held, contiguous or not.
    pub fn held_bytes(&self) -> usize {
        self.held as usize
    }

    /// Blocks assigned to this stream.
    pub fn blocks_held(&self) -> usize {
        usize::from(self.blocks)
    }

    /// End of the bytes held without a gap from the released position on.
    pub fn contiguous_end(&self) -> u64 {
        match self.intervals.first() {
            Some(first) if first.start == self.base => first.end,
            Some(_) | None => self.base,
        }
    }

    /// End of the last byte held, or the released position.
    pub fn end(&self) -> u64 {
        self.intervals.last().map_or(self.base, |last| last.end)
    }

    /// The first gap at or after `from`: its start, and where bytes are held again (`None`: nowhere).
    pub fn first_gap(&self, from: u64) -> (u64, Option<u64>) {
        let mut start = from.max(self.base);
        for interval in &self.intervals {
            if start < interval.start {
                return (start, Some(interval.start));
            }
            start = start.max(interval.end);
        }
        (start, None)
    }

    /// Guarantees this stream `blocks` blocks in all, held ones included, against other streams.
    ///
    /// A stream that asks for no more bytes than it was guaranteed is never refused for
    /// [`Refused::Blocks`]; streams that fill up with bytes after a gap would otherwise keep each
    /// other from filling their gaps. `0` ends the guarantee. A range that does not start at a
    /// block boundary touches one block more than its length.
    ///
    /// # Errors
    /// [`Refused::Blocks`] when that many are not there; the former guarantee stays.
    pub fn guarantee(&mut self, pool: &mut Pool<'_>, blocks: usize) -> Result<(), Refused> {
        let blocks = u16::try_from(blocks).map_err(|_| Refused::Blocks)?;
        let before = self.owed();
        let after = blocks.saturating_sub(self.blocks);
        if after > before && after - before > pool.free - pool.promised {
            return Err(Refused::Blocks);
        }
        pool.promised = pool.promised - before + after;
        self.guarantee = blocks;
        Ok(())
    }

    /// Blocks guaranteed and not held yet.
    fn owed(&self) -> u16 {
        self.guarantee.saturating_sub(self.blocks)
    }

    /// Takes `bytes` at `position`; all or, on error, none.
    ///
    /// Bytes below the released position count as duplicates, unseen. Bytes already held are compared
    /// and kept.
    ///
    /// # Errors
    /// [`Refused`], by what there was no space for; nothing was taken.
    pub fn write(
        &mut self,
        pool: &mut Pool<'_>,
        position: u64,
        bytes: &[u8],
    ) -> Result<Written, Refused> {
        let end = position
            .checked_add(bytes.len() as u64)
            .ok_or(Refused::Span)?;
        let skip = self.base.saturating_sub(position).min(bytes.len() as u64) as usize;
        let bytes = &bytes[skip..];
        let position = position + skip as u64;
        let mut written = Written {
            fresh: 0,
            duplicate: skip,
            conflict: false,
        };
        if bytes.is_empty() {
            return Ok(written);
        }
        if end > self.limit() {
            return Err(Refused::Span);
        }

        // Intervals first..last overlap or touch the new bytes.
        let count = self.intervals.len();
        let mut first = 0;
        while first < count && self.intervals[first].end < position {
            first += 1;
        }
        let mut last = first;
        while last < count && self.intervals[last].start <= end {
            last += 1;
        }
        // The last place is for the bytes that are due next: else those behind gaps could keep them out for ever.
        let is_due = position == self.base;
        let places = STITCH_INTERVALS - usize::from(!is_due);
        if first == last && self.intervals.len() >= places {
            return Err(Refused::Intervals);
        }
        self.assign(pool, position, end)?;

        let mut cursor = position;
        for index in first..last {
            let held = self.intervals[index];
            if cursor < held.start {
                let gap_end = held.start.min(end);
                self.copy_in(
                    pool,
                    cursor,
                    &bytes[(cursor - position) as usize..(gap_end - position) as usize],
                );
                written.fresh += (gap_end - cursor) as usize;
                cursor = gap_end;
            }
            let same_end = held.end.min(end);
            if cursor < same_end {
                let again = &bytes[(cursor - position) as usize..(same_end - position) as usize];
                written.conflict |= !self.is_same(pool, cursor, again);
                written.duplicate += again.len();
                cursor = same_end;
            }
        }
        if cursor < end {
            self.copy_in(pool, cursor, &bytes[(cursor - position) as usize..]);
            written.fresh += (end - cursor) as usize;
        }
        self.held += written.fresh as u32;
        self.join(
            first,
            last,
            Interval {
                start: position,
                end,
            },
        );
        self.check();
        Ok(written)
    }

    /// Assigns the blocks of `start..end` that have none, all or none.
    fn assign(&mut self, pool: &mut Pool<'_>, start: u64, end: u64) -> Result<(), Refused> {
        let blocks = block_of(start)..block_of(end - 1) + 1;
        let mask = STITCH_SPAN_BLOCKS - 1;
        let missing = blocks
            .clone()
            .filter(|&block| self.table[block as usize & mask] == NONE)
            .count();
        if missing == 0 {
            return Ok(());
        }
        let owed = self.owed();
        if missing > usize::from(pool.free - pool.promised + owed) {
            return Err(Refused::Blocks);
        }
        for block in blocks {
            let slot = &mut self.table[block as usize & mask];
            if *slot == NONE {
                *slot = pool.take().ok_or(Refused::Blocks)?;
            }
        }
        self.blocks += missing as u16;
        pool.promised -= owed - self.owed();
        Ok(())
    }

    /// Replaces intervals `first..last` by their union with `new`.
    fn join(&mut self, first: usize, last: usize, new: Interval) {
        if first == last {
            let inserted = self.intervals.insert(first, new);
            debug_assert!(
                inserted.is_ok(),
                "room was checked before anything was taken"
            );
            return;
        }
        let start = self.intervals[first].start.min(new.start);
        let end = self.intervals[last - 1].end.max(new.end);
        self.intervals[first] = Interval { start, end };
        if last > first + 1 {
            self.intervals.copy_within(last.., first + 1);
            self.intervals
                .truncate(self.intervals.len() - (last - first - 1));
        }
    }

    fn copy_in(&mut self, pool: &mut Pool<'_>, mut position: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let offset = offset_in_block(position);
            let len = bytes.len().min(STITCH_BLOCK_BYTES - offset);
            let block = &mut pool.blocks[usize::from(self.table[slot_of(position)])].0;
            block[offset..offset + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            position += len as u64;
        }
    }

    fn is_same(&self, pool: &Pool<'_>, mut position: u64, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let offset = offset_in_block(position);
            let len = bytes.len().min(STITCH_BLOCK_BYTES - offset);
            let block = &pool.blocks[usize::from(self.table[slot_of(position)])].0;
            if block[offset..offset + len] != bytes[..len] {
                return false;
            }
            bytes = &bytes[len..];
            position += len as u64;
        }
        true
    }

    /// Bytes held without a gap from `position` on, at most `len`.
    fn held_from(&self, position: u64, len: usize) -> usize {
        for interval in &self.intervals {
            if position < interval.end {
                if position < interval.start {
                    return 0;
                }
                return (interval.end - position).min(len as u64) as usize;
            }
        }
        0
    }

    /// Lends up to `len` bytes from `position`, in at most two parts.
    ///
    /// Shorter where a gap or the second block ends; a `len` up to a block's size is only cut by a gap.
    pub fn slices<'p>(
        &self,
        pool: &'p Pool<'_>,
        position: u64,
        len: usize,
    ) -> (&'p [u8], &'p [u8]) {
        let len = self.held_from(position, len);
        if len == 0 {
            return (&[], &[]);
        }
        let offset = offset_in_block(position);
        let first = len.min(STITCH_BLOCK_BYTES - offset);
        let head =
            &pool.blocks[usize::from(self.table[slot_of(position)])].0[offset..offset + first];
        if first == len {
            return (head, &[]);
        }
        let second = (len - first).min(STITCH_BLOCK_BYTES);
        let next = self.table[slot_of(position + first as u64)];
        (head, &pool.blocks[usize::from(next)].0[..second])
    }

    /// Copies from `position` into `out`; returns the number of bytes until `out` is full or a gap begins.
    pub fn read(&self, pool: &Pool<'_>, position: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let (head, tail) = self.slices(pool, position + done as u64, out.len() - done);
            if head.is_empty() {
                break;
            }
            out[done..done + head.len()].copy_from_slice(head);
            done += head.len();
            out[done..done + tail.len()].copy_from_slice(tail);
            done += tail.len();
        }
        done
    }

    /// Releases everything below `position`, held or not, and frees the blocks that hold nothing more.
    ///
    /// A position below the released one changes nothing.
    pub fn release_to(&mut self, pool: &mut Pool<'_>, position: u64) {
        if position <= self.base {
            return;
        }
        let gone = self
            .intervals
            .iter()
            .take_while(|interval| interval.end <= position)
            .count();
        for interval in &self.intervals[..gone] {
            self.held -= (interval.end - interval.start) as u32;
        }
        if gone > 0 {
            self.intervals.copy_within(gone.., 0);
            self.intervals.truncate(self.intervals.len() - gone);
        }
        if let Some(first) = self.intervals.first_mut()
            && first.start < position
        {
            self.held -= (position - first.start) as u32;
            first.start = position;
        }
        // With nothing held, the block that `position` is in is free as well.
        let keep_from = if self.intervals.is_empty() {
            block_of(position) + 1
        } else {
            block_of(position)
        };
        let from = block_of(self.base);
        for block in from..keep_from.min(from + STITCH_SPAN_BLOCKS as u64) {
            self.free_slot(pool, block as usize & (STITCH_SPAN_BLOCKS - 1));
        }
        self.base = position;
        self.check();
    }

    fn free_slot(&mut self, pool: &mut Pool<'_>, slot: usize) {
        let index = self.table[slot];
        if index != NONE {
            self.table[slot] = NONE;
            let owed = self.owed();
            self.blocks -= 1;
            pool.give(index);
            pool.promised += self.owed() - owed;
        }
    }

    /// Frees every block and ends the guarantee; the released position stays.
    pub fn clear(&mut self, pool: &mut Pool<'_>) {
        pool.promised -= self.owed();
        self.guarantee = 0;
        if self.blocks > 0 {
            for slot in 0..STITCH_SPAN_BLOCKS {
                self.free_slot(pool, slot);
            }
        }
        self.intervals.clear();
        self.held = 0;
        self.check();
    }

    /// Asserts the invariants of the header, in debug builds.
    fn check(&self) {
        if cfg!(debug_assertions) {
            let mut last = None;
            let mut held = 0;
            for interval in &self.intervals {
                assert!(
                    interval.start < interval.end && interval.start >= self.base,
                    "I1"
                );
                assert!(interval.end <= self.limit(), "I1");
                assert!(last.is_none_or(|end| end < interval.start), "I1");
                last = Some(interval.end);
                held += interval.end - interval.start;
                for block in block_of(interval.start)..=block_of(interval.end - 1) {
                    assert!(
                        self.table[block as usize & (STITCH_SPAN_BLOCKS - 1)] != NONE,
                        "I2"
                    );
                }
            }
            let is_due_held = self.contiguous_end() > self.base;
            assert!(!self.intervals.is_full() || is_due_held, "I5");
            assert_eq!(held, u64::from(self.held), "I3");
            assert_eq!(
                self.table.iter().filter(|&&slot| slot != NONE).count(),
                usize::from(self.blocks),
                "I3"
            );
        }
    }
}

impl Default for Extents {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
