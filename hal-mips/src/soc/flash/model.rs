//! NOR chips of both command sets, with the faults that real ones have.
//!
//! A word or a sector is busy for a number of looks; programming only clears bits. The power can be cut at any bus cycle
//! and in the middle of any operation: [`Chip::cut_after`] counts both. Behind the cut nothing answers until
//! [`Chip::power_on`].

use std::cell::RefCell;
use std::rc::Rc;

use super::cfi::{CommandSet, Region};
use super::regs::{CFI_ADDRESS, CFI_QUERY, amd, intel};
use crate::mmio::{Regs, Regs16};

/// What a chip is.
#[derive(Clone, Debug)]
pub struct Part {
    /// How it is talked to.
    pub command_set: CommandSet,
    /// Bytes of its data bus, 2 or 4.
    pub bus_bytes: usize,
    /// Sectors from offset 0 on.
    pub regions: Vec<Region>,
    /// Sectors are locked at power-up.
    pub locks: bool,
    /// The query lists the sectors from the top, and says so as tables of version 1.1 do.
    pub listed_from_top: bool,
    /// Bytes of its write buffer; 0: none. Intel's set only.
    pub buffer_bytes: usize,
    /// JEDEC codes.
    pub codes: (u32, u32),
}

impl Part {
    /// As QEMU's Malta board: Intel's set, 32 lines, 4 MiB in sectors of 64 KiB, a write buffer of 2 KiB, no codes.
    pub fn malta() -> Self {
        Self {
            command_set: CommandSet::Intel,
            bus_bytes: 4,
            regions: vec![region(64, 0x1_0000)],
            locks: false,
            listed_from_top: false,
            buffer_bytes: 2048,
            codes: (0, 0),
        }
    }

    /// Am29LV320DB: AMD's set, 16 lines, 8 × 8 KiB and 63 × 64 KiB.
    pub fn am29lv320db() -> Self {
        Self {
            command_set: CommandSet::Amd,
            bus_bytes: 2,
            regions: vec![region(8, 0x2000), region(63, 0x1_0000)],
            locks: false,
            listed_from_top: false,
            buffer_bytes: 0,
            codes: (0x01, 0x22f9),
        }
    }

    /// 28F320C3B: Intel's set, 16 lines, 8 × 8 KiB and 63 × 64 KiB, locked at power-up.
    pub fn i28f320c3b() -> Self {
        Self {
            command_set: CommandSet::Intel,
            bus_bytes: 2,
            locks: true,
            codes: (0x89, 0x88c5),
            ..Self::am29lv320db()
        }
    }

    fn bytes(&self) -> usize {
        self.sectors().map(|(_, bytes)| bytes).sum()
    }

    /// Start and length of every sector.
    fn sectors(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let lengths = self.regions.iter().flat_map(|region| {
            std::iter::repeat_n(region.sector_bytes as usize, region.sectors as usize)
        });
        lengths.scan(0, |end, bytes| {
            let start = *end;
            *end += bytes;
            Some((start, bytes))
        })
    }
}

fn region(sectors: u32, sector_bytes: u32) -> Region {
    Region {
        sectors,
        sector_bytes,
    }
}

/// Faults, on until they are put off.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Words programmed in these sectors report a failure, and take half of their bits.
    pub program_fails: Vec<usize>,
    /// Erases of these sectors report a failure and change nothing.
    pub erase_fails: Vec<usize>,
    /// These sectors are worn: operations report success, but one bit in each 64 bytes stays 0.
    pub worn: Vec<usize>,
    /// So many times no write buffer is free.
    pub buffers_taken: u32,
    /// Whatever is started never ends.
    pub stuck_busy: bool,
    /// The query of nothing: no chip on the bus.
    pub absent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Array,
    Id,
    Query,
    /// Intel only.
    Status,
    /// Intel only: no write buffer is free.
    NoBuffer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Program {
        at: usize,
        datum: u32,
    },
    /// What is in the buffer.
    Buffer {
        at: usize,
    },
    Erase {
        sector: usize,
    },
}

/// One chip.
#[derive(Clone, Debug)]
pub struct Chip {
    part: Part,
    sectors: Vec<(usize, usize)>,
    cells: Vec<u8>,
    query: Vec<u8>,
    mode: Mode,
    /// Command bytes of an unfinished sequence, with their word addresses.
    cycles: Vec<(u32, u32)>,
    /// Words on their way into the cells.
    buffer: Vec<u32>,
    busy: Option<(Operation, u32)>,
    /// AMD: the last operation failed, until a reset.
    failed: Option<Operation>,
    toggle: bool,
    status: u32,
    locked: Vec<bool>,
    dead: bool,
    random: u64,
    /// Faults in force.
    pub faults: Faults,
    /// Cut points left: each bus write is one, the middle of each operation another.
    pub cut_after: Option<u64>,
    /// Cut points passed.
    pub points: u64,
    /// Erases of each sector.
    pub erases: Vec<u32>,
    /// Words programmed.
    pub words: u64,
    /// Programming operations: of a word, or of a buffer.
    pub programs: u64,
    /// Writes that no driver should make: to a busy or failed chip, unknown sequences.
    pub misuses: Vec<String>,
}

/// Looks that a word is busy for.
const WORD_LOOKS: u32 = 3;
/// Looks that a write buffer is busy for.
const BUFFER_LOOKS: u32 = 5;
/// Looks that a sector's erase takes.
const ERASE_LOOKS: u32 = 7;

impl Chip {
    /// A chip as it leaves the factory: all ones.
    pub fn new(part: Part) -> Self {
        let sectors: Vec<_> = part.sectors().collect();
        let mut chip = Self {
            cells: vec![0xff; part.bytes()],
            query: query(&part),
            mode: Mode::Array,
            cycles: Vec::new(),
            buffer: Vec::new(),
            busy: None,
            failed: None,
            toggle: false,
            status: intel::SR_READY,
            locked: vec![part.locks; sectors.len()],
            dead: false,
            random: 0x9e37_79b9_7f4a_7c15,
            faults: Faults::default(),
            cut_after: None,
            points: 0,
            erases: vec![0; sectors.len()],
            words: 0,
            programs: 0,
            misuses: Vec::new(),
            part,
            sectors,
        };
        chip.power_on();
        chip
    }

    /// What it is.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// What the cells hold.
    pub fn cells(&mut self) -> &mut [u8] {
        &mut self.cells
    }

    /// Chooses what half-done operations leave behind.
    pub fn seed(&mut self, seed: u64) {
        self.random = seed | 1;
    }

    /// The sector that holds a byte.
    pub fn sector_of(&self, at: usize) -> usize {
        self.sectors
            .iter()
            .take_while(|(start, _)| *start <= at)
            .count()
            - 1
    }

    /// Whether the power was cut.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The power comes (back): array shown, nothing under way, sectors locked.
    pub fn power_on(&mut self) {
        self.mode = Mode::Array;
        self.cycles.clear();
        self.busy = None;
        self.failed = None;
        self.status = intel::SR_READY;
        self.locked.fill(self.part.locks);
        self.dead = false;
        self.cut_after = None;
        self.points = 0;
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Passes a cut point; true when the power ends here.
    fn cut(&mut self) -> bool {
        self.points += 1;
        match &mut self.cut_after {
            Some(0) => {
                self.dead = true;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes[..self.part.bus_bytes].copy_from_slice(&self.cells[at..at + self.part.bus_bytes]);
        u32::from_le_bytes(bytes)
    }

    fn set_word(&mut self, at: usize, value: u32) {
        let bytes = &value.to_le_bytes()[..self.part.bus_bytes];
        self.cells[at..at + self.part.bus_bytes].copy_from_slice(bytes);
    }

    fn ones(&self) -> u32 {
        u32::MAX >> (32 - 8 * self.part.bus_bytes as u32)
    }

    fn read(&mut self, word: u32) -> u32 {
        if self.dead || self.faults.absent {
            return self.ones();
        }
        if let Some((operation, looks)) = &mut self.busy {
            let operation = *operation;
            *looks -= u32::from(!self.faults.stuck_busy && *looks > 0);
            if *looks > 0 {
                return self.busy_word(operation);
            }
            self.busy = None;
            self.finish(operation);
        }
        if let Some(operation) = self.failed {
            return self.busy_word(operation) | amd::DQ5;
        }
        match self.mode {
            Mode::Array => self.word(word as usize * self.part.bus_bytes),
            Mode::Status => self.status,
            Mode::NoBuffer => 0,
            Mode::Query => self.query.get(word as usize).copied().map_or(0, u32::from),
            Mode::Id => match word {
                0 => self.part.codes.0,
                1 => self.part.codes.1,
                _ => 0,
            },
        }
    }

    fn busy_word(&mut self, operation: Operation) -> u32 {
        match self.part.command_set {
            CommandSet::Intel => 0,
            CommandSet::Amd => {
                self.toggle = !self.toggle;
                let complement = match operation {
                    Operation::Program { datum, .. } => !datum & amd::DQ7,
                    Operation::Erase { .. } | Operation::Buffer { .. } => 0,
                };
                complement | if self.toggle { amd::DQ6 } else { 0 }
            }
        }
    }

    fn write(&mut self, word: u32, value: u32) {
        if self.dead || self.faults.absent || self.cut() {
            return;
        }
        if self.busy.is_some() {
            let command = value & 0xff;
            // Asking for the status, or giving up on a stuck chip, is no misuse.
            if !matches!(
                command,
                intel::READ_STATUS | intel::READ_ARRAY | amd::RESET | intel::CLEAR_STATUS
            ) {
                self.misuses
                    .push(format!("{value:#x} to {word:#x} while busy"));
            }
            return;
        }
        self.cycles.push((word, value));
        let used = match self.part.command_set {
            CommandSet::Intel => self.intel(),
            CommandSet::Amd => self.amd(),
        };
        if used {
            self.cycles.clear();
        }
    }

    /// Takes the cycles so far; true when they are used up.
    fn intel(&mut self) -> bool {
        let command = |value: u32| value & 0xff;
        match self.cycles.as_slice() {
            [(_, first)] => match command(*first) {
                intel::READ_ARRAY => self.mode = Mode::Array,
                intel::READ_ID => self.mode = Mode::Id,
                intel::READ_STATUS => self.mode = Mode::Status,
                CFI_QUERY => self.mode = Mode::Query,
                intel::CLEAR_STATUS => self.status = intel::SR_READY,
                intel::PROGRAM | intel::ERASE | intel::LOCK_SETUP => return false,
                intel::WRITE_BUFFER if self.part.buffer_bytes > 0 => {
                    if self.faults.buffers_taken > 0 {
                        self.faults.buffers_taken -= 1;
                        self.mode = Mode::NoBuffer;
                        return true;
                    }
                    self.mode = Mode::Status;
                    return false;
                }
                amd::RESET => {}
                _ => self.misuses.push(format!("unknown command {first:#x}")),
            },
            [(_, first), ..] if command(*first) == intel::WRITE_BUFFER => {
                return self.fill_buffer();
            }
            [(_, first), (word, second)] => {
                let at = *word as usize * self.part.bus_bytes;
                let (first, second) = (command(*first), *second);
                let sector = self.sector_of(at);
                self.mode = Mode::Status;
                match (first, command(second)) {
                    (intel::PROGRAM, _) => self.start(Operation::Program { at, datum: second }),
                    (intel::ERASE, intel::CONFIRM) => self.start(Operation::Erase { sector }),
                    (intel::LOCK_SETUP, intel::CONFIRM) => self.locked[sector] = false,
                    _ => {
                        self.status |= intel::SR_ERASE | intel::SR_PROGRAM;
                        self.misuses.push(format!("{second:#x} after {first:#x}"));
                    }
                }
            }
            other => unreachable!("{other:?}"),
        }
        true
    }

    /// Takes the cycles of a write buffer behind its command: words - 1, the words, the confirmation.
    fn fill_buffer(&mut self) -> bool {
        let (_, count) = self.cycles[1];
        let words = count as usize + 1;
        let data = &self.cycles[2..];
        if data.len() <= words {
            return false;
        }
        let (first, (_, confirmation)) = (data[0].0, data[words]);
        let size = (self.part.buffer_bytes / self.part.bus_bytes) as u32;
        let in_order = (first..)
            .zip(&data[..words])
            .all(|(at, cycle)| cycle.0 == at);
        let one_buffer = first / size == (first + count) / size;
        if !in_order || !one_buffer || confirmation & 0xff != intel::CONFIRM {
            self.status |= intel::SR_ERASE | intel::SR_PROGRAM;
            self.misuses.push(format!(
                "{words} words from {first:#x}, then {confirmation:#x}"
            ));
            return true;
        }
        self.buffer = data[..words].iter().map(|&(_, datum)| datum).collect();
        let at = first as usize * self.part.bus_bytes;
        self.start(Operation::Buffer { at });
        true
    }

    /// As [`intel`](Self::intel).
    fn amd(&mut self) -> bool {
        const COMMAND_BITS: u32 = 0x7ff;
        let expected = [amd::UNLOCK_1, amd::UNLOCK_2];
        let cycles = self.cycles.clone();
        let is = |index: usize, wanted: (u32, u32)| {
            cycles
                .get(index)
                .is_none_or(|&(word, value)| (word & COMMAND_BITS, value & 0xff) == wanted)
        };
        let (word, value) = cycles[0];
        if value & 0xff == amd::RESET {
            self.mode = Mode::Array;
            self.failed = None;
            return true;
        }
        if value & 0xff == CFI_QUERY && word == CFI_ADDRESS {
            self.mode = Mode::Query;
            return true;
        }
        if value & 0xff == intel::READ_ARRAY {
            return true;
        }
        if self.failed.is_some() {
            self.misuses
                .push("a command to a chip that has failed and was not reset".into());
            return true;
        }
        if !is(0, expected[0]) || !is(1, expected[1]) {
            self.misuses.push(format!("no unlock: {cycles:x?}"));
            return true;
        }
        let Some(&(address, command)) = cycles.get(2) else {
            return false;
        };
        if address & COMMAND_BITS != amd::COMMAND {
            self.misuses.push(format!("command at {address:#x}"));
            return true;
        }
        let data = cycles.get(3);
        match (command & 0xff, data) {
            (amd::AUTOSELECT, _) => self.mode = Mode::Id,
            (amd::PROGRAM, None) | (amd::ERASE_SETUP, None) => return false,
            (amd::PROGRAM, Some(&(word, datum))) => {
                let at = word as usize * self.part.bus_bytes;
                self.start(Operation::Program { at, datum });
            }
            (amd::ERASE_SETUP, Some(_)) if cycles.len() < 6 => {
                return !is(3, expected[0]) || !is(4, expected[1]);
            }
            (amd::ERASE_SETUP, Some(_)) => {
                let (word, last) = cycles[5];
                if last & 0xff == amd::SECTOR_ERASE {
                    let sector = self.sector_of(word as usize * self.part.bus_bytes);
                    self.start(Operation::Erase { sector });
                } else {
                    self.misuses.push(format!("{last:#x} ends an erase"));
                }
            }
            (other, _) => self.misuses.push(format!("unknown command {other:#x}")),
        }
        true
    }

    fn start(&mut self, operation: Operation) {
        let looks = match operation {
            Operation::Program { at, .. } | Operation::Buffer { at } => {
                if self.locked[self.sector_of(at)] {
                    self.status |= intel::SR_LOCKED | intel::SR_PROGRAM;
                    return;
                }
                match operation {
                    Operation::Buffer { .. } => BUFFER_LOOKS,
                    Operation::Program { .. } | Operation::Erase { .. } => WORD_LOOKS,
                }
            }
            Operation::Erase { sector } => {
                if self.locked[sector] {
                    self.status |= intel::SR_LOCKED | intel::SR_ERASE;
                    return;
                }
                ERASE_LOOKS
            }
        };
        if self.cut() {
            self.half(operation);
            return;
        }
        self.busy = Some((operation, looks));
    }

    /// What is left of an operation that the power left.
    fn half(&mut self, operation: Operation) {
        match operation {
            Operation::Program { at, datum } => {
                let kept = self.next_random() as u32;
                let word = self.word(at) & (datum | kept);
                self.set_word(at, word);
            }
            Operation::Buffer { at } => {
                // Some words are done, some in part, some not at all.
                for (index, datum) in self.buffer.clone().into_iter().enumerate() {
                    let kept = match self.next_random() % 3 {
                        0 => 0,
                        1 => u32::MAX,
                        _ => self.next_random() as u32,
                    };
                    let at = at + index * self.part.bus_bytes;
                    let word = self.word(at) & (datum | kept);
                    self.set_word(at, word);
                }
            }
            Operation::Erase { sector } => {
                let (start, bytes) = self.sectors[sector];
                let kind = self.next_random() % 4;
                let edge = (self.next_random() as usize) % bytes;
                for at in 0..bytes {
                    let random = self.next_random() as u8;
                    let cell = &mut self.cells[start + at];
                    match kind {
                        0 => *cell = random,
                        1 => *cell |= random,
                        2 if at < edge => *cell = 0xff,
                        3 if at >= edge => *cell = 0xff,
                        _ => {}
                    }
                }
            }
        }
    }

    fn finish(&mut self, operation: Operation) {
        let (sector, failed) = match operation {
            Operation::Program { at, datum } => {
                let sector = self.sector_of(at);
                self.words += 1;
                self.programs += 1;
                let old = self.word(at);
                // A chip of AMD's tries for ever, then says so, when it shall set a bit.
                let sets_bits =
                    self.part.command_set == CommandSet::Amd && old & datum != datum & self.ones();
                let fails = sets_bits || self.faults.program_fails.contains(&sector);
                if fails {
                    self.half(operation);
                } else {
                    self.set_word(at, old & datum);
                }
                (sector, fails)
            }
            Operation::Buffer { at } => {
                let sector = self.sector_of(at);
                self.words += self.buffer.len() as u64;
                self.programs += 1;
                let fails = self.faults.program_fails.contains(&sector);
                if fails {
                    self.half(operation);
                } else {
                    for (index, datum) in self.buffer.clone().into_iter().enumerate() {
                        let at = at + index * self.part.bus_bytes;
                        self.set_word(at, self.word(at) & datum);
                    }
                }
                (sector, fails)
            }
            Operation::Erase { sector } => {
                let fails = self.faults.erase_fails.contains(&sector);
                if !fails {
                    self.erases[sector] += 1;
                    let (start, bytes) = self.sectors[sector];
                    self.cells[start..start + bytes].fill(0xff);
                }
                (sector, fails)
            }
        };
        if self.faults.worn.contains(&sector) {
            let (start, bytes) = self.sectors[sector];
            for at in (start..start + bytes).step_by(64) {
                self.cells[at + 5] &= !0x10;
            }
        }
        if failed {
            match self.part.command_set {
                CommandSet::Intel => {
                    self.status |= match operation {
                        Operation::Program { .. } | Operation::Buffer { .. } => intel::SR_PROGRAM,
                        Operation::Erase { .. } => intel::SR_ERASE,
                    };
                }
                CommandSet::Amd => self.failed = Some(operation),
            }
        }
    }
}

/// The query table of a part, one byte a word.
fn query(part: &Part) -> Vec<u8> {
    const TABLE: usize = 0x40;
    let mut bytes = vec![0; 0x60];
    bytes[0x10..0x13].copy_from_slice(b"QRY");
    bytes[0x13] = match part.command_set {
        CommandSet::Intel => 1,
        CommandSet::Amd => 2,
    };
    bytes[0x15] = TABLE as u8;
    // 16 us a word and 1 s a sector, 2^4 times that at most.
    (bytes[0x1f], bytes[0x21], bytes[0x23], bytes[0x25]) = (4, 10, 4, 4);
    if part.buffer_bytes > 0 {
        // 128 us a buffer, 2^4 times that at most.
        (bytes[0x20], bytes[0x24]) = (7, 4);
        bytes[0x2a] = part.buffer_bytes.trailing_zeros() as u8;
    }
    bytes[0x27] = part.bytes().trailing_zeros() as u8;
    bytes[0x2c] = part.regions.len() as u8;
    let mut regions = part.regions.clone();
    if part.listed_from_top {
        regions.reverse();
    }
    for (index, region) in regions.iter().enumerate() {
        let at = 0x2d + 4 * index;
        bytes[at..at + 2].copy_from_slice(&(region.sectors as u16 - 1).to_le_bytes());
        bytes[at + 2..at + 4].copy_from_slice(&((region.sector_bytes / 256) as u16).to_le_bytes());
    }
    bytes[TABLE..TABLE + 5].copy_from_slice(b"PRI11");
    match part.command_set {
        CommandSet::Intel => bytes[TABLE + 5] = u8::from(part.locks) << 5,
        CommandSet::Amd => bytes[TABLE + 15] = if part.listed_from_top { 3 } else { 2 },
    }
    bytes
}

/// A bus with the chip on it; clones are the same bus.
#[derive(Clone, Debug)]
pub struct ModelRegs(pub Rc<RefCell<Chip>>);

impl ModelRegs {
    /// A bus with a chip from the factory.
    pub fn new(part: Part) -> Self {
        Self(Rc::new(RefCell::new(Chip::new(part))))
    }
}

impl Regs for ModelRegs {
    fn read8(&mut self, offset: usize) -> u8 {
        panic!("a flash is not read bytewise: {offset:#x}")
    }
    fn write8(&mut self, offset: usize, _: u8) {
        panic!("a flash is not written bytewise: {offset:#x}")
    }
    fn read32(&mut self, offset: usize) -> u32 {
        let mut chip = self.0.borrow_mut();
        assert_eq!((chip.part.bus_bytes, offset % 4), (4, 0));
        chip.read(offset as u32 / 4)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        let mut chip = self.0.borrow_mut();
        assert_eq!((chip.part.bus_bytes, offset % 4), (4, 0));
        chip.write(offset as u32 / 4, value);
    }
}

impl Regs16 for ModelRegs {
    fn read16(&mut self, offset: usize) -> u16 {
        let mut chip = self.0.borrow_mut();
        assert_eq!((chip.part.bus_bytes, offset % 2), (2, 0));
        chip.read(offset as u32 / 2) as u16
    }
    fn write16(&mut self, offset: usize, value: u16) {
        let mut chip = self.0.borrow_mut();
        assert_eq!((chip.part.bus_bytes, offset % 2), (2, 0));
        chip.write(offset as u32 / 2, u32::from(value));
    }
}
