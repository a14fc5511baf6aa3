//! The store: finds what is stored at boot, and writes what has changed in small steps.
//!
//! ```text
//! begin → Compare ─equal─→ Unchanged
//!            └→ room? ─yes─→ Body → Head → Verify → Written
//!                └─no→ Erase → Blank → Mark ─┘ ↑        └─wrong: next slot, twice; then the other sector, once
//! ```

use smoltcp::time::Instant;

use super::log::{Found, Log, Place};
use super::record::{self, HEAD_BYTES, Head, padded};
use super::{
    Boot, Client, Flash, FlashError, Kind, Layout, Lost, Refused, Restored, SaveError, Saved,
};
use crate::budget::{
    LEASE_SAVE_INTERVAL, LEASE_SAVES_AT_ONCE, STORE_BODY_BYTES_MAX, STORE_CHUNK_BYTES,
    STORE_ERASE_LOOK, STORE_OFFERS_MAX, STORE_SAVE_TIMEOUT, STORE_SLOT_TRIES,
};

/// What a save does next; `at` counts bytes that are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Is it what the newest record says already?
    Compare { newest: Found, at: u32 },
    /// The sector is being erased.
    Erase { sector: usize },
    /// Is it all 0xFF?
    Blank { sector: usize, at: u32 },
    /// The mark that says so.
    Mark { sector: usize },
    /// The body first: without a head it is no record.
    Body { place: Place, at: u32 },
    /// The head, which makes it one.
    Head { place: Place },
    /// Does it read back?
    Verify { place: Place, at: u32 },
}

/// A save under way; the body, padded, is in the store's buffer.
#[derive(Clone, Copy, Debug)]
struct Job {
    head: Head,
    step: Step,
    /// Slots of the present sector that did not take the record.
    failures: u8,
    erased: bool,
}

/// How often leases may be written: a bucket of saves that fills with time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    saves: u8,
    since: Instant,
}

impl Pace {
    fn refill(&mut self, now: Instant) {
        while self.saves < LEASE_SAVES_AT_ONCE && now >= self.since + LEASE_SAVE_INTERVAL {
            self.saves += 1;
            self.since += LEASE_SAVE_INTERVAL;
        }
        if self.saves == LEASE_SAVES_AT_ONCE {
            self.since = now;
        }
    }
}

/// All records of a board's flash.
#[derive(Clone, Debug)]
pub struct Store {
    logs: [Log; Kind::ALL.len()],
    /// What stands in the way of using a log at all.
    fault: [Option<FlashError>; Kind::ALL.len()],
    job: Option<Job>,
    pace: Pace,
    buffer: [u8; STORE_BODY_BYTES_MAX],
}

impl Store {
    /// A store that has not looked at its flash yet.
    pub const fn new(layout: Layout) -> Self {
        Self {
            logs: [
                Log::new(Kind::Seed, layout.records[0]),
                Log::new(Kind::Leases, layout.records[1]),
                Log::new(Kind::Settings, layout.records[2]),
            ],
            fault: [Some(FlashError::Missing); Kind::ALL.len()],
            job: None,
            pace: Pace {
                saves: LEASE_SAVES_AT_ONCE,
                since: Instant::ZERO,
            },
            buffer: [0; STORE_BODY_BYTES_MAX],
        }
    }

    /// Looks at all sectors, before anything else. Reads some 400 KiB; what cannot be read is told by
    /// [`load`](Self::load) and by saves.
    pub fn open<F: Flash>(&mut self, now: Instant, flash: &mut F) {
        self.job = None;
        for (log, fault) in self.logs.iter_mut().zip(&mut self.fault) {
            *fault = log.scan(now, flash).err();
        }
    }

    /// Offers the stored records of `kind` to the client, newest first, until it takes one.
    /// At boot: the buffer is used.
    pub fn load<F: Flash, C: Client>(
        &mut self,
        now: Instant,
        flash: &mut F,
        kind: Kind,
        client: &mut C,
    ) -> Boot {
        let log = &self.logs[kind.index()];
        if let Some(error) = self.fault[kind.index()] {
            return Boot::Defaults(Lost::Flash(error));
        }
        let mut lost = log.doubtful.then_some(Lost::Damaged);
        let mut candidate = log.newest;
        for _ in 0..STORE_OFFERS_MAX {
            let Some(found) = candidate else {
                return Boot::Defaults(lost.unwrap_or(Lost::Empty));
            };
            let version = found.head.version;
            let body = match log.body(now, flash, &found, &mut self.buffer) {
                Ok(body) => body,
                Err(error) => return Boot::Defaults(Lost::Flash(error)),
            };
            let refused = match (client.restore(now, kind, version, body), lost) {
                (Ok(Restored::AsStored), None) => return Boot::Loaded,
                (Ok(Restored::Migrated), None) => return Boot::Migrated(version),
                (Ok(Restored::AsStored | Restored::Migrated), Some(lost)) => {
                    return Boot::Earlier(lost);
                }
                (Err(Refused::Version), _) => Lost::Version(version),
                (Err(Refused::Malformed), _) => Lost::Malformed,
            };
            // The reason told is that of the newest.
            lost.get_or_insert(refused);
            candidate = match log.older(now, flash, &found) {
                Ok(older) => older,
                Err(error) => return Boot::Defaults(Lost::Flash(error)),
            };
        }
        Boot::Defaults(lost.unwrap_or(Lost::Malformed))
    }

    /// The newest record of `kind`, its version and body, taken as it is. `None`: there is none, or it cannot be read.
    pub fn newest<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        kind: Kind,
    ) -> Option<(u16, &[u8])> {
        let log = &self.logs[kind.index()];
        let found = log.newest?;
        let body = log.body(now, flash, &found, &mut self.buffer).ok()?;
        Some((found.head.version, body))
    }

    /// Does a step of what waits to be stored. To be called again at the time returned; `None`: when the client
    /// wants something.
    pub fn poll<F: Flash, C: Client>(
        &mut self,
        now: Instant,
        flash: &mut F,
        client: &mut C,
    ) -> Option<Instant> {
        let later = if self.job.is_none() {
            self.start(now, client)
        } else {
            None
        };
        let Some(job) = &self.job else { return later };
        let (kind, step) = (job.head.kind, job.step);
        match self.step(now, flash) {
            Err(nb::Error::WouldBlock) => Some(match step {
                Step::Erase { .. } => now + STORE_ERASE_LOOK,
                Step::Compare { .. }
                | Step::Blank { .. }
                | Step::Mark { .. }
                | Step::Body { .. }
                | Step::Head { .. }
                | Step::Verify { .. } => now,
            }),
            Ok(saved) => {
                client.on_stored(now, kind, Ok(saved));
                Some(now)
            }
            Err(nb::Error::Other(error)) => {
                client.on_stored(now, kind, Err(error));
                Some(now)
            }
        }
    }

    /// Stores a body and waits for it, seconds perhaps: at boot, or on the host. Not in the main loop.
    ///
    /// # Errors
    /// As told to [`Client::on_stored`].
    pub fn save_now<F: Flash>(
        &mut self,
        clock: &mut dyn FnMut() -> Instant,
        flash: &mut F,
        kind: Kind,
        version: u16,
        body: &[u8],
    ) -> Result<Saved, SaveError> {
        if self.job.is_some() {
            return Err(SaveError::Busy);
        }
        let room = self.buffer.get_mut(..body.len());
        room.ok_or(SaveError::TooLong)?.copy_from_slice(body);
        self.begin(kind, version, body.len())?;
        let deadline = clock() + STORE_SAVE_TIMEOUT;
        loop {
            let now = clock();
            match self.step(now, flash) {
                Ok(saved) => return Ok(saved),
                Err(nb::Error::Other(error)) => return Err(error),
                Err(nb::Error::WouldBlock) if now < deadline => {}
                Err(nb::Error::WouldBlock) => {
                    self.job = None;
                    return Err(FlashError::Timeout.into());
                }
            }
        }
    }

    /// Erases of the two sectors of `kind` together since they were first used, as far as their marks tell.
    pub fn erases(&self, kind: Kind) -> u32 {
        self.logs[kind.index()].erases()
    }

    /// Takes up what the client wants most. Returns when something may be taken up that may not yet.
    fn start<C: Client>(&mut self, now: Instant, client: &mut C) -> Option<Instant> {
        self.pace.refill(now);
        let mut later = None;
        // The owner waits for settings.
        for kind in [Kind::Settings, Kind::Seed, Kind::Leases] {
            if !client.wants(kind) {
                continue;
            }
            if kind == Kind::Leases && self.pace.saves == 0 {
                later = Some(self.pace.since + LEASE_SAVE_INTERVAL);
                continue;
            }
            let Some(pending) = client.pending(now, kind, &mut self.buffer) else {
                continue;
            };
            match self.begin(kind, pending.version, pending.length) {
                Ok(()) => return None,
                Err(error) => client.on_stored(now, kind, Err(error)),
            }
        }
        later
    }

    /// Begins to store the first `length` bytes of the buffer.
    fn begin(&mut self, kind: Kind, version: u16, length: usize) -> Result<(), SaveError> {
        if let Some(error) = self.fault[kind.index()] {
            return Err(error.into());
        }
        let log = &self.logs[kind.index()];
        if length > log.capacity() {
            return Err(SaveError::TooLong);
        }
        let padded = padded(length as u32) as usize;
        self.buffer[length..padded].fill(0xff);
        let sequence = log.newest.map_or(0, |newest| newest.head.sequence) + 1;
        let head = Head::seal(
            kind,
            version,
            sequence,
            length as u32,
            &self.buffer[..padded],
        );
        let same =
            |newest: &Found| newest.head.version == version && newest.head.length == length as u32;
        let step = match log.newest.filter(same) {
            Some(newest) => Step::Compare { newest, at: 0 },
            None => aim(log),
        };
        self.job = Some(Job {
            head,
            step,
            failures: 0,
            erased: false,
        });
        Ok(())
    }

    /// One step of the save under way.
    fn step<F: Flash>(&mut self, now: Instant, flash: &mut F) -> nb::Result<Saved, SaveError> {
        let Some(mut job) = self.job else {
            return Err(nb::Error::WouldBlock);
        };
        let log = &mut self.logs[job.head.kind.index()];
        let body = &self.buffer[..padded(job.head.length) as usize];
        let result = job.advance(now, flash, log, body);
        match &result {
            Err(nb::Error::WouldBlock) => self.job = Some(job),
            Ok(Saved::Unchanged) => self.job = None,
            // A save that failed may have cost an erase too.
            Ok(Saved::Written) | Err(nb::Error::Other(_)) => {
                self.job = None;
                if job.head.kind == Kind::Leases {
                    self.pace.saves = self.pace.saves.saturating_sub(1);
                }
            }
        }
        result
    }
}

/// Where a new record goes: into the next slot, or into a sector to be erased. Before the first record both are, so that
/// from then on a sector without a mark is one whose erase was cut short, or a damaged one.
fn aim(log: &Log) -> Step {
    let unmarked = [1, 0]
        .into_iter()
        .find(|&sector| log.newest.is_none() && log.generations[sector].is_none());
    match (unmarked, log.room()) {
        (Some(sector), _) => Step::Erase { sector },
        (None, Some(place)) => Step::Body { place, at: 0 },
        (None, None) => Step::Erase {
            sector: log.victim(),
        },
    }
}

/// The piece of `body` at `at`.
fn piece(body: &[u8], at: u32) -> &[u8] {
    let rest = &body[at as usize..];
    &rest[..rest.len().min(STORE_CHUNK_BYTES)]
}

/// `WouldBlock`: there is more to do.
const MORE: nb::Result<Saved, SaveError> = Err(nb::Error::WouldBlock);

impl Job {
    /// One step; `WouldBlock` while there is more to do.
    fn advance<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        log: &mut Log,
        body: &[u8],
    ) -> nb::Result<Saved, SaveError> {
        match self.step {
            Step::Compare { newest, at } => self.compare(now, flash, log, body, (newest, at)),
            Step::Erase { sector } => {
                self.erased = true;
                log.generations[sector] = None;
                flash.erase(now, log.start(sector)).map_err(from_flash)?;
                log.next[sector] = 0;
                self.step = Step::Blank { sector, at: 0 };
                MORE
            }
            Step::Blank { sector, at } => self.check_blank(now, flash, log, (sector, at)),
            Step::Mark { sector } => {
                let generation = log.erases() + 1;
                let mark = record::mark(log.kind, generation);
                flash
                    .program(now, log.start(sector), &mark)
                    .map_err(from_flash)?;
                log.generations[sector] = Some(generation);
                self.failures = 0;
                self.step = aim(log);
                MORE
            }
            Step::Body { place, at } => {
                // Begun is used (I2).
                log.next[place.sector] = place.slot + 1;
                let piece = piece(body, at);
                if piece.is_empty() {
                    self.step = Step::Head { place };
                    return MORE;
                }
                let offset = log.offset(place) + HEAD_BYTES as u32 + at;
                match flash.program(now, offset, piece) {
                    Ok(()) => {
                        let at = at + piece.len() as u32;
                        self.step = Step::Body { place, at };
                        MORE
                    }
                    Err(nb::Error::WouldBlock) => MORE,
                    Err(nb::Error::Other(error)) => self.elsewhere(log, error.into()),
                }
            }
            Step::Head { place } => match flash.program(now, log.offset(place), &self.head.bytes())
            {
                Ok(()) => {
                    self.step = Step::Verify { place, at: 0 };
                    MORE
                }
                Err(nb::Error::WouldBlock) => MORE,
                Err(nb::Error::Other(error)) => self.elsewhere(log, error.into()),
            },
            Step::Verify { place, at } => {
                if !self.reads_back(now, flash, log, body, (place, at))? {
                    return self.elsewhere(log, SaveError::Worn);
                }
                let next = at + piece(body, at).len() as u32;
                if (next as usize) < body.len() {
                    self.step = Step::Verify { place, at: next };
                    return MORE;
                }
                log.newest = Some(log.found(self.head, place));
                Ok(Saved::Written)
            }
        }
    }

    /// Compares a piece of the newest record; different ones are written.
    fn compare<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        log: &Log,
        body: &[u8],
        (newest, at): (Found, u32),
    ) -> nb::Result<Saved, SaveError> {
        let same = if at == 0 {
            let mut head = [0; HEAD_BYTES];
            let offset = log.offset(newest.place);
            flash.read(now, offset, &mut head).map_err(from_flash)?;
            head == newest.head.bytes()
        } else {
            true
        };
        if !same || !is_stored(now, flash, log, body, (newest.place, at))? {
            self.step = aim(log);
            return MORE;
        }
        let next = at + piece(body, at).len() as u32;
        if next as usize == body.len() {
            return Ok(Saved::Unchanged);
        }
        self.step = Step::Compare { newest, at: next };
        MORE
    }

    fn check_blank<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        log: &Log,
        (sector, at): (usize, u32),
    ) -> nb::Result<Saved, SaveError> {
        let start = log.start(sector);
        let bytes = flash.sector(start).map_or(0, |sector| sector.bytes);
        let mut read = [0; STORE_CHUNK_BYTES];
        let read = &mut read[..STORE_CHUNK_BYTES.min((bytes - at) as usize)];
        flash.read(now, start + at, read).map_err(from_flash)?;
        if read.iter().any(|&byte| byte != 0xff) {
            return Err(nb::Error::Other(SaveError::Worn));
        }
        let at = at + read.len() as u32;
        self.step = if at < bytes {
            Step::Blank { sector, at }
        } else {
            Step::Mark { sector }
        };
        MORE
    }

    /// Whether the head, the first time, and a piece of the body are in the flash.
    fn reads_back<F: Flash>(
        &self,
        now: Instant,
        flash: &mut F,
        log: &Log,
        body: &[u8],
        (place, at): (Place, u32),
    ) -> nb::Result<bool, SaveError> {
        if at == 0 {
            let mut head = [0; HEAD_BYTES];
            flash
                .read(now, log.offset(place), &mut head)
                .map_err(from_flash)?;
            if head != self.head.bytes() {
                return Ok(false);
            }
        }
        is_stored(now, flash, log, body, (place, at))
    }

    /// A slot did not take the record: another one may.
    fn elsewhere(&mut self, log: &Log, error: SaveError) -> nb::Result<Saved, SaveError> {
        self.failures += 1;
        self.step = match log.room() {
            Some(place) if self.failures < STORE_SLOT_TRIES => Step::Body { place, at: 0 },
            Some(_) | None if self.erased => return Err(nb::Error::Other(error)),
            Some(_) | None => Step::Erase {
                sector: log.victim(),
            },
        };
        MORE
    }
}

/// Whether the piece of the body at `at` is in the flash.
fn is_stored<F: Flash>(
    now: Instant,
    flash: &mut F,
    log: &Log,
    body: &[u8],
    (place, at): (Place, u32),
) -> nb::Result<bool, SaveError> {
    let piece = piece(body, at);
    let mut read = [0; STORE_CHUNK_BYTES];
    let read = &mut read[..piece.len()];
    let offset = log.offset(place) + HEAD_BYTES as u32 + at;
    flash.read(now, offset, read).map_err(from_flash)?;
    Ok(read == piece)
}

fn from_flash(error: nb::Error<FlashError>) -> nb::Error<SaveError> {
    error.map(SaveError::Flash)
}
