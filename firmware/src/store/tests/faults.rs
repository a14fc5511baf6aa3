//! S3: a flash that fails; S4: a flash that is to last.

use smoltcp::time::Duration;

use super::*;
use crate::budget::{LEASE_SAVES_AT_ONCE, SECTOR_ERASES_MAX, STORE_ERASE_LOOK};

/// Sectors of the settings on the small chip.
const SETTINGS_SECTORS: [usize; 2] = [6, 7];

/// A flash in memory that counts.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    flash: RamFlash<'a>,
    /// Bytes read and programmed.
    pub(super) bytes: u64,
    programs: u64,
    erases: std::collections::BTreeMap<u32, u32>,
}

impl<'a> Counted<'a> {
    pub(super) fn new(image: &'a mut [u8], sector_bytes: u32) -> Self {
        Self {
            flash: RamFlash::new(image, sector_bytes),
            bytes: 0,
            programs: 0,
            erases: Default::default(),
        }
    }
}

impl Flash for Counted<'_> {
    fn size(&self) -> u32 {
        self.flash.size()
    }
    fn sector(&self, offset: u32) -> Option<Sector> {
        self.flash.sector(offset)
    }
    fn read(&mut self, now: Instant, offset: u32, out: &mut [u8]) -> nb::Result<(), FlashError> {
        self.bytes += out.len() as u64;
        self.flash.read(now, offset, out)
    }
    fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError> {
        *self.erases.entry(start).or_default() += 1;
        self.flash.erase(now, start)
    }
    fn program(&mut self, now: Instant, offset: u32, bytes: &[u8]) -> nb::Result<(), FlashError> {
        self.bytes += bytes.len() as u64;
        self.programs += 1;
        self.flash.program(now, offset, bytes)
    }
}

/// After `before` saves a fault comes: the save fails with `error`, the old settings stay, and when the fault goes a save
/// works again.
fn fails(before: u32, fault: impl Fn(&mut hal_mips::soc::flash::model::Faults), error: SaveError) {
    for part in parts() {
        let regs = ModelRegs::new(part);
        let mut life = Life::begin(&regs);
        for number in 0..before {
            assert_eq!(life.save(numbered(number)), Ok(Saved::Written));
        }
        fault(&mut regs.0.borrow_mut().faults);
        assert_eq!(life.save(numbered(1000)), Err(error));
        assert_eq!(life.save(numbered(1001)), Err(error), "and again");
        regs.0.borrow_mut().faults = Default::default();
        let mut life = Life::begin(&regs);
        assert_eq!(life.owner.settings, numbered(before - 1));
        assert_eq!(life.save(numbered(1002)), Ok(Saved::Written));
        assert_eq!(Life::begin(&regs).owner.settings, numbered(1002));
    }
}

#[test]
fn s3_when_words_cannot_be_programmed_the_old_settings_stay() {
    let error = SaveError::Flash(FlashError::Program);
    for before in [1, 31, 32] {
        fails(
            before,
            |faults| faults.program_fails = SETTINGS_SECTORS.to_vec(),
            error,
        );
    }
}

#[test]
fn s3_when_a_sector_cannot_be_erased_the_old_settings_stay() {
    let error = SaveError::Flash(FlashError::Erase);
    fails(
        32,
        |faults| faults.erase_fails = SETTINGS_SECTORS.to_vec(),
        error,
    );
}

#[test]
fn s3_when_a_sector_is_worn_the_old_settings_stay() {
    // The sector that is to be used next; it claims to be erased.
    fails(
        32,
        |faults| faults.worn = std::vec![SETTINGS_SECTORS[1]],
        SaveError::Worn,
    );
}

#[test]
fn s3_when_the_chip_stays_busy_the_save_ends_and_the_old_settings_stay() {
    let error = SaveError::Flash(FlashError::Timeout);
    for before in [1, 32] {
        fails(before, |faults| faults.stuck_busy = true, error);
    }
}

#[test]
fn s3_when_one_sector_fails_the_other_takes_the_settings() {
    for part in parts() {
        let regs = ModelRegs::new(part);
        let mut life = Life::begin(&regs);
        assert_eq!(life.save(numbered(0)), Ok(Saved::Written));
        regs.0.borrow_mut().faults.program_fails = std::vec![SETTINGS_SECTORS[0]];
        for number in 1..40 {
            let saved = life.save(numbered(number));
            if number <= 32 {
                assert_eq!(saved, Ok(Saved::Written), "{number}");
            } else {
                assert!(saved.is_err(), "{number}");
            }
        }
        assert_eq!(Life::begin(&regs).owner.settings, numbered(32));
    }
}

#[test]
fn s4_a_hundred_thousand_saves_of_the_same_value_write_nothing() {
    let mut image = std::vec![0xff; SMALL_BYTES];
    let mut flash = Counted::new(&mut image, SMALL_SECTOR);
    let mut store = Store::new(SMALL);
    store.open(Instant::ZERO, &mut flash);
    let mut owner = Owner {
        settings: numbered(7),
        ..Owner::default()
    };
    for round in 0..100_000 {
        owner.wants = true;
        while owner.results.is_empty() {
            store.poll(Instant::ZERO, &mut flash, &mut owner);
        }
        let expected = if round == 0 {
            Saved::Written
        } else {
            Saved::Unchanged
        };
        assert_eq!(owner.results.pop(), Some((Kind::Settings, Ok(expected))));
    }
    // Two marks, the body and the head of the first.
    assert_eq!((flash.programs, flash.erases.values().sum::<u32>()), (4, 2));
}

/// Polls until nothing is to be done now; when there will be.
fn settle<F: Flash>(
    store: &mut Store,
    now: Instant,
    flash: &mut F,
    owner: &mut Owner,
) -> Option<Instant> {
    loop {
        match store.poll(now, flash, owner) {
            Some(at) if at <= now + STORE_ERASE_LOOK => {}
            later => return later,
        }
    }
}

#[test]
fn s4_a_year_of_lease_changes_stays_within_the_endurance_of_the_flash() {
    const YEAR_S: u32 = 365 * 24 * 3600;
    const CHANGE_S: u32 = 30;
    let mut image = std::vec![0xff; 4 << 20];
    let mut flash = Counted::new(&mut image, 0x1_0000);
    let mut store = Store::new(Layout::MALTA);
    store.open(Instant::ZERO, &mut flash);
    let mut owner = Owner::default();
    let mut newest = std::vec::Vec::new();
    let mut last_save = Instant::ZERO;
    let mut longest_wait = Duration::ZERO;
    for second in (0..YEAR_S).step_by(CHANGE_S as usize) {
        let now = Instant::from_secs(i64::from(second));
        newest = second.to_le_bytes().repeat(64);
        owner.leases = Some(newest.clone());
        settle(&mut store, now, &mut flash, &mut owner);
        for (kind, result) in owner.results.drain(..) {
            assert_eq!((kind, result), (Kind::Leases, Ok(Saved::Written)));
            longest_wait = longest_wait.max(now - last_save);
            last_save = now;
        }
    }
    // A change waits ten minutes at most.
    assert!(longest_wait <= Duration::from_secs(600), "{longest_wait}");
    let end = Instant::from_secs(i64::from(YEAR_S + 600));
    settle(&mut store, end, &mut flash, &mut owner);
    let (_, body) = store.newest(end, &mut flash, Kind::Leases).unwrap();
    assert_eq!(body, newest);
    assert_eq!(flash.erases.len(), 2, "only the sectors of leases");
    let [first, second] = [0x3c_0000, 0x3d_0000].map(|start| flash.erases[&start]);
    assert!(first.abs_diff(second) <= 1, "levelled: {first} {second}");
    assert!(first > 1000, "the year was written: {first}");
    assert!(first <= SECTOR_ERASES_MAX / 25, "25 years: {first}");
}

#[test]
fn s4_leases_that_change_rarely_are_stored_at_once() {
    let mut image = std::vec![0xff; SMALL_BYTES];
    let mut flash = RamFlash::new(&mut image, SMALL_SECTOR);
    let mut store = Store::new(SMALL);
    store.open(Instant::ZERO, &mut flash);
    let mut owner = Owner::default();
    let mut stored = 0;
    for change in 0..=LEASE_SAVES_AT_ONCE {
        let now = Instant::from_secs(i64::from(change));
        owner.leases = Some(std::vec![change; 8]);
        let next = settle(&mut store, now, &mut flash, &mut owner);
        stored += owner.results.drain(..).count();
        if change == LEASE_SAVES_AT_ONCE {
            assert!(
                next.is_some_and(|at| at > now + Duration::from_secs(500)),
                "{next:?}"
            );
        }
    }
    assert_eq!(stored, usize::from(LEASE_SAVES_AT_ONCE));
}
