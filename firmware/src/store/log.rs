//! One kind's two sectors as they are: where the newest record lies, and where the next may go.

use smoltcp::time::Instant;

use super::layout::slots;
use super::record::{self, HEAD_BYTES, Head, MARK_BYTES, MARK_ROOM, padded};
use super::{FLASH_ALIGN, Flash, FlashError, Kind};
use crate::budget::{STORE_BODY_BYTES_MAX, STORE_CHUNK_BYTES};

/// A slot of one of the two sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sector: usize,
    pub(super) slot: u32,
}

/// A record and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) place: Place,
    /// Generation of its sector; 0 when its mark is gone.
    generation: u32,
}

impl Found {
    /// Grows with age's opposite. Two records of one sequence number: the first was cut short and came back to life.
    pub(super) fn order(&self) -> (u32, u32, u32) {
        (self.head.sequence, self.generation, self.place.slot)
    }
}

/// What a slot holds.
enum Slot {
    Blank,
    Bad,
    Good(Head),
}

/// One kind's sectors.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) kind: Kind,
    starts: [u32; 2],
    slot_bytes: u32,
    /// Each sector's generation; `None`: not known to be erased whole, so not to be written to.
    pub(super) generations: [Option<u32>; 2],
    /// The first slot behind all that were ever begun, in each sector.
    pub(super) next: [u32; 2],
    pub(super) newest: Option<Found>,
    /// The newest record may be missing.
    pub(super) doubtful: bool,
}

/// Reads at boot, when nothing else is under way.
fn read<F: Flash>(
    now: Instant,
    flash: &mut F,
    offset: u32,
    out: &mut [u8],
) -> Result<(), FlashError> {
    flash.read(now, offset, out).map_err(|error| match error {
        nb::Error::WouldBlock => FlashError::Timeout,
        nb::Error::Other(error) => error,
    })
}

/// `bytes` from `at` on in pieces of [`STORE_CHUNK_BYTES`]: offset and length of each.
fn pieces(at: u32, bytes: u32) -> impl Iterator<Item = (u32, usize)> {
    (0..bytes)
        .step_by(STORE_CHUNK_BYTES)
        .map(move |done| (at + done, STORE_CHUNK_BYTES.min((bytes - done) as usize)))
}

impl Log {
    pub(super) const fn new(kind: Kind, starts: [u32; 2]) -> Self {
        Self {
            kind,
            starts,
            slot_bytes: 0,
            generations: [None; 2],
            next: [0; 2],
            newest: None,
            doubtful: false,
        }
    }

    /// Bytes of body that a slot takes.
    pub(super) fn capacity(&self) -> usize {
        (self.slot_bytes as usize)
            .saturating_sub(HEAD_BYTES)
            .min(STORE_BODY_BYTES_MAX)
    }

    /// First byte of a sector.
    pub(super) fn start(&self, sector: usize) -> u32 {
        self.starts[sector]
    }

    /// First byte of a slot.
    pub(super) fn offset(&self, place: Place) -> u32 {
        self.starts[place.sector] + MARK_ROOM + place.slot * self.slot_bytes
    }

    /// The sector that records go to: the one erased last.
    fn active(&self) -> Option<usize> {
        let [first, second] = self.generations;
        match (first, second) {
            (None, None) => None,
            (Some(_), None) => Some(0),
            (None, Some(_)) => Some(1),
            (Some(first), Some(second)) => Some(usize::from(second > first)),
        }
    }

    /// Where the next record goes; `None` when a sector must be erased first.
    pub(super) fn room(&self) -> Option<Place> {
        let sector = self.active()?;
        let slot = self.next[sector];
        (slot < slots(self.kind)).then_some(Place { sector, slot })
    }

    /// The sector that may be erased: never the one with the newest record (I1).
    pub(super) fn victim(&self) -> usize {
        match (&self.newest, self.active()) {
            (Some(newest), _) => 1 - newest.place.sector,
            (None, Some(active)) => 1 - active,
            (None, None) => 0,
        }
    }

    /// Erases of both sectors together, as far as their marks tell.
    pub(super) fn erases(&self) -> u32 {
        self.generations.into_iter().flatten().max().unwrap_or(0)
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// The flash cannot be read, or its sectors are not those of the layout.
    pub(super) fn scan<F: Flash>(&mut self, now: Instant, flash: &mut F) -> Result<(), FlashError> {
        *self = Self::new(self.kind, self.starts);
        let sectors = self.starts.map(|start| flash.sector(start));
        let [Some(first), Some(second)] = sectors else {
            return Err(if flash.size() == 0 {
                FlashError::Missing
            } else {
                FlashError::Bounds
            });
        };
        if [first.start, second.start] != self.starts || first.bytes != second.bytes {
            return Err(FlashError::Bounds);
        }
        let room = first.bytes.saturating_sub(MARK_ROOM) / slots(self.kind);
        self.slot_bytes = room - room % FLASH_ALIGN;
        if self.slot_bytes as usize <= HEAD_BYTES {
            return Err(FlashError::Bounds);
        }
        let mut last_bad = [None; 2];
        for (sector, last_bad) in last_bad.iter_mut().enumerate() {
            let mut mark = [0; MARK_BYTES];
            read(now, flash, self.starts[sector], &mut mark)?;
            self.generations[sector] = record::generation(self.kind, &mark);
            for slot in 0..slots(self.kind) {
                let place = Place { sector, slot };
                match self.examine(now, flash, place)? {
                    Slot::Blank => continue,
                    Slot::Bad => *last_bad = Some(slot),
                    Slot::Good(head) => self.offer(head, place),
                }
                self.next[sector] = slot + 1;
            }
        }
        self.doubtful = self.is_doubtful(last_bad);
        Ok(())
    }

    /// The newest record that is older than `than`.
    ///
    /// # Errors
    /// The flash cannot be read.
    pub(super) fn older<F: Flash>(
        &self,
        now: Instant,
        flash: &mut F,
        than: &Found,
    ) -> Result<Option<Found>, FlashError> {
        let mut best: Option<Found> = None;
        for sector in 0..2 {
            for slot in 0..self.next[sector] {
                let place = Place { sector, slot };
                if let Slot::Good(head) = self.examine(now, flash, place)? {
                    let found = self.found(head, place);
                    if found.order() < than.order()
                        && best.is_none_or(|best| found.order() > best.order())
                    {
                        best = Some(found);
                    }
                }
            }
        }
        Ok(best)
    }

    /// Reads a record's body.
    ///
    /// # Errors
    /// The flash cannot be read.
    pub(super) fn body<'b, F: Flash>(
        &self,
        now: Instant,
        flash: &mut F,
        found: &Found,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], FlashError> {
        let body = buffer
            .get_mut(..padded(found.head.length) as usize)
            .ok_or(FlashError::Bounds)?;
        read(
            now,
            flash,
            self.offset(found.place) + HEAD_BYTES as u32,
            body,
        )?;
        Ok(&body[..found.head.length as usize])
    }

    pub(super) fn found(&self, head: Head, place: Place) -> Found {
        Found {
            head,
            place,
            generation: self.generations[place.sector].unwrap_or(0),
        }
    }

    fn offer(&mut self, head: Head, place: Place) {
        let found = self.found(head, place);
        if self
            .newest
            .is_none_or(|newest| found.order() >= newest.order())
        {
            self.newest = Some(found);
        }
    }

    fn examine<F: Flash>(
        &self,
        now: Instant,
        flash: &mut F,
        place: Place,
    ) -> Result<Slot, FlashError> {
        let at = self.offset(place);
        let mut bytes = [0; HEAD_BYTES];
        read(now, flash, at, &mut bytes)?;
        let mut piece = [0; STORE_CHUNK_BYTES];
        let body_at = at + HEAD_BYTES as u32;
        let head =
            Head::parse(self.kind, &bytes).filter(|head| head.length as usize <= self.capacity());
        if let Some(head) = head {
            let mut sum = head.digest();
            for (offset, length) in pieces(body_at, padded(head.length)) {
                read(now, flash, offset, &mut piece[..length])?;
                sum.update(&piece[..length]);
            }
            return Ok(if sum.value() == head.crc {
                Slot::Good(head)
            } else {
                Slot::Bad
            });
        }
        if bytes.iter().any(|&byte| byte != 0xff) {
            return Ok(Slot::Bad);
        }
        for (offset, length) in pieces(body_at, self.slot_bytes - HEAD_BYTES as u32) {
            read(now, flash, offset, &mut piece[..length])?;
            if piece[..length].iter().any(|&byte| byte != 0xff) {
                return Ok(Slot::Bad);
            }
        }
        Ok(Slot::Blank)
    }

    /// Whether a record newer than the newest that is good was begun, as far as the flash tells.
    fn is_doubtful(&self, last_bad: [Option<u32>; 2]) -> bool {
        let Some(newest) = &self.newest else {
            return last_bad.iter().any(Option::is_some);
        };
        let Place { sector, slot } = newest.place;
        let other = 1 - sector;
        let Some(own) = self.generations[sector] else {
            return true;
        };
        // The other sector is used when this one is full; it is then the older one, or something went wrong in it.
        let full = self.next[sector] == slots(self.kind);
        let other_is_older = self.generations[other].is_some_and(|other| other < own);
        last_bad[sector].is_some_and(|bad| bad > slot)
            || (full && !other_is_older)
            || (!other_is_older && self.generations[other].is_some())
    }
}
