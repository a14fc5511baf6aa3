//! The two descriptor rings: layout, and which slot is whose.
//!
//! The hardware writes no descriptor back; its progress is a byte offset in a register. It runs until it reaches the first
//! slot that is not posted, so one slot stays empty: else a full ring would look like an empty one.
//!
//! The descriptors lie past the cache (an uncached page), the buffers are handed over one by one (`dma`).
//!
//! Invariants: I1 indices are below [`RING_SLOTS`]; I2 a slot holds something exactly from its posting until it is taken;
//! I3 `posted` never reaches `taken` from behind.

use crate::dma::{BUFFER_BYTES, Dma, Frame, Piece, RING_SLOTS, Reading, Shared, Writing, Written};

use super::regs::{
    DESCRIPTOR_BYTES, DESCRIPTOR_END_OF_FRAME, DESCRIPTOR_END_OF_TABLE, DESCRIPTOR_INTERRUPT,
    DESCRIPTOR_LENGTH, DESCRIPTOR_START_OF_FRAME, DMA_CURRENT,
};

const SLOTS: usize = RING_SLOTS;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= super::regs::DESCRIPTORS_MAX);
const _: () = assert!(BUFFER_BYTES <= DESCRIPTOR_LENGTH as usize);

/// A sent slot in so many asks for an interrupt; whether one comes is the mask's matter.
const INTERRUPT_EVERY: usize = 8;

const fn next(slot: usize) -> usize {
    (slot + 1) % SLOTS
}

/// Slots from `first` up to, not including, `end`.
const fn distance(first: usize, end: usize) -> usize {
    (end + SLOTS - first) % SLOTS
}

/// The slot that a status register names; `None` for a slot that the ring does not have.
pub(super) fn current(status: u32) -> Option<usize> {
    let slot = (status & DMA_CURRENT) as usize / DESCRIPTOR_BYTES;
    (slot < SLOTS && status != u32::MAX).then_some(slot)
}

/// A ring's descriptors, and how far each side is.
struct Table {
    page: Shared,
    address: u32,
    posted: usize,
    taken: usize,
    /// What the device was last told of.
    shown: usize,
    /// Where the device was when last asked.
    done: usize,
}

impl Table {
    fn new<D: Dma>(dma: &D) -> Option<Self> {
        let (page, address) = Shared::uncached(dma)?;
        Some(Self {
            page,
            address,
            posted: 0,
            taken: 0,
            shown: 0,
            done: 0,
        })
    }

    fn room(&self) -> usize {
        SLOTS - 1 - distance(self.taken, self.posted)
    }

    /// Writes a descriptor at `slot`.
    fn write(&mut self, slot: usize, control: u32, address: u32) {
        let at = slot % SLOTS * DESCRIPTOR_BYTES;
        let end = if slot == SLOTS - 1 {
            DESCRIPTOR_END_OF_TABLE
        } else {
            0
        };
        self.page.write32(at, (control | end).to_le());
        self.page.write32(at + 4, address.to_le());
    }

    /// Takes note of the device's place; false when it is none that the device can be at.
    fn advance(&mut self, status: u32) -> bool {
        match current(status) {
            Some(slot) if distance(self.taken, slot) <= distance(self.taken, self.shown) => {
                self.done = slot;
                true
            }
            Some(_) | None => false,
        }
    }

    fn restart(&mut self) {
        (self.posted, self.taken, self.shown, self.done) = (0, 0, 0, 0);
    }

    /// What to tell the device, if anything new is posted.
    fn show(&mut self) -> Option<u32> {
        if self.shown == self.posted {
            return None;
        }
        self.shown = self.posted;
        Some((self.posted * DESCRIPTOR_BYTES) as u32)
    }
}

/// The receive ring.
pub(super) struct ReceiveRing {
    table: Table,
    held: [Option<Writing>; SLOTS],
}

impl ReceiveRing {
    pub(super) fn new<D: Dma>(dma: &D) -> Option<Self> {
        Some(Self {
            table: Table::new(dma)?,
            held: [const { None }; SLOTS],
        })
    }

    /// Where the device finds it.
    pub(super) fn address(&self) -> u32 {
        self.table.address
    }

    /// Buffers that it could take.
    pub(super) fn room(&self) -> usize {
        self.table.room()
    }

    /// Gives the device a buffer, seen at the next `show`.
    ///
    /// # Errors
    /// The frame, when the ring is full or the device cannot reach it.
    pub(super) fn post<D: Dma>(&mut self, frame: Frame, dma: &D) -> Result<(), Frame> {
        if self.table.room() == 0 {
            return Err(frame);
        }
        let (lent, address) = frame.lend_to_write(dma)?;
        let slot = self.table.posted;
        self.table.write(slot, BUFFER_BYTES as u32, address);
        self.held[slot] = Some(lent);
        self.table.posted = next(slot);
        Ok(())
    }

    /// What `DMARX_PTR` is to be, if it changes.
    pub(super) fn show(&mut self) -> Option<u32> {
        self.table.show()
    }

    /// Takes note of `DMARX_STAT`; false when it makes no sense.
    pub(super) fn advance(&mut self, status: u32) -> bool {
        self.table.advance(status)
    }

    /// Whether a filled buffer waits, as of the last `advance`.
    pub(super) fn has_done(&self) -> bool {
        self.table.taken != self.table.done
    }

    /// The next filled buffer.
    pub(super) fn take<D: Dma>(&mut self, dma: &D) -> Option<Written> {
        if !self.has_done() {
            return None;
        }
        let slot = self.table.taken;
        self.table.taken = next(slot);
        // By I2 the slot holds one.
        Some(self.held[slot].take()?.device_is_done(dma))
    }

    /// Takes every buffer back from a device that was stopped, and begins anew.
    pub(super) fn empty(&mut self, mut put: impl FnMut(Frame)) {
        for held in &mut self.held {
            if let Some(lent) = held.take() {
                put(lent.take_back());
            }
        }
        self.table.restart();
    }
}

/// What a transmit slot holds.
enum Part {
    Frame(Reading),
    Piece(Piece),
}

/// The transmit ring.
pub(super) struct TransmitRing {
    table: Table,
    held: [Option<Part>; SLOTS],
}

impl TransmitRing {
    pub(super) fn new<D: Dma>(dma: &D) -> Option<Self> {
        Some(Self {
            table: Table::new(dma)?,
            held: [const { None }; SLOTS],
        })
    }

    /// Where the device finds it.
    pub(super) fn address(&self) -> u32 {
        self.table.address
    }

    /// Free slots.
    pub(super) fn room(&self) -> usize {
        self.table.room()
    }

    /// Queues a frame and the pieces that follow it, drained from `pieces`; the device sees it at the next `show`.
    ///
    /// # Errors
    /// The frame, and `pieces` as they were, when there are not enough slots or the device cannot reach a part.
    pub(super) fn post<D: Dma, const N: usize>(
        &mut self,
        frame: Frame,
        pieces: &mut heapless::Vec<Piece, N>,
        dma: &D,
    ) -> Result<(), Frame> {
        if self.table.room() <= pieces.len() {
            return Err(frame);
        }
        let mut addresses = [0; N];
        for (address, piece) in addresses.iter_mut().zip(pieces.iter()) {
            let Some(found) = piece.show(dma) else {
                return Err(frame);
            };
            *address = found;
        }
        let length = frame.length() as u32;
        let (lent, address) = frame.lend_to_read(dma)?;
        let first = self.table.posted;
        let last = (first + pieces.len()) % SLOTS;
        let asks = (0..=pieces.len()).any(|part| (first + part).is_multiple_of(INTERRUPT_EVERY));
        let flags = |slot: usize| {
            let mut flags = 0;
            if slot == first {
                flags |= DESCRIPTOR_START_OF_FRAME;
            }
            if slot == last {
                flags |= DESCRIPTOR_END_OF_FRAME;
                flags |= if asks { DESCRIPTOR_INTERRUPT } else { 0 };
            }
            flags
        };
        self.table.write(first, flags(first) | length, address);
        self.held[first] = Some(Part::Frame(lent));
        let mut slot = first;
        for (piece, address) in core::mem::take(pieces).into_iter().zip(addresses) {
            slot = next(slot);
            let length = piece.length() as u32;
            self.table.write(slot, flags(slot) | length, address);
            self.held[slot] = Some(Part::Piece(piece));
        }
        self.table.posted = next(slot);
        Ok(())
    }

    /// What `DMATX_PTR` is to be, if it changes.
    pub(super) fn show(&mut self) -> Option<u32> {
        self.table.show()
    }

    /// Takes note of `DMATX_STAT`; false when it makes no sense.
    pub(super) fn advance(&mut self, status: u32) -> bool {
        self.table.advance(status)
    }

    /// Whether the device has something to send.
    pub(super) fn is_busy(&self) -> bool {
        self.table.taken != self.table.shown
    }

    /// Whether a sent slot waits, as of the last `advance`.
    pub(super) fn has_done(&self) -> bool {
        self.table.taken != self.table.done
    }

    /// Whether the next sent slot to be taken is a piece.
    pub(super) fn next_is_piece(&self) -> bool {
        self.has_done() && matches!(self.held[self.table.taken], Some(Part::Piece(_)))
    }

    /// Takes the next sent slot; exactly one of the two is called.
    pub(super) fn take(&mut self, frame: impl FnOnce(Frame), piece: impl FnOnce(Piece)) -> bool {
        if !self.has_done() {
            return false;
        }
        let slot = self.table.taken;
        self.table.taken = next(slot);
        match self.held[slot].take() {
            Some(Part::Frame(lent)) => frame(lent.take_back()),
            Some(Part::Piece(lent)) => piece(lent),
            None => {} // not by I2
        }
        true
    }

    /// Takes everything back from a device that was stopped, and begins anew; whether there was anything.
    pub(super) fn empty(&mut self, mut frame: impl FnMut(Frame), mut piece: impl FnMut(Piece)) {
        for held in &mut self.held {
            match held.take() {
                Some(Part::Frame(lent)) => frame(lent.take_back()),
                Some(Part::Piece(lent)) => piece(lent),
                None => {}
            }
        }
        self.table.restart();
    }
}
