//! Commands and status bits of parallel NOR chips, as their data sheets name them.
//!
//! Follows: JEDEC JESD68.01 and JEP137 (CFI); Intel 28F320C3 data sheet 290645 (command set 3; 1 is the same as far as
//! it is used here, but for the write buffer: Intel 28F320J3, data sheet 290667); AMD Am29LV320D data sheet 23579 (command set 2).
//! Units: word addresses: the bus's width apart.

/// Word address at which [`CFI_QUERY`] is written.
pub(super) const CFI_ADDRESS: u32 = 0x55;
/// Shows the CFI query.
pub(super) const CFI_QUERY: u32 = 0x98;

/// Words of the CFI query, from the start of the chip.
pub(super) mod query {
    /// "QRY", one character a word.
    pub(in super::super) const SIGNATURE: u32 = 0x10;
    /// Primary command set, low byte; high byte behind it.
    pub(in super::super) const COMMAND_SET: u32 = 0x13;
    /// Address of the primary command set's own table, low and high byte.
    pub(in super::super) const PRIMARY_TABLE: u32 = 0x15;
    /// Typical time to program a word, 2^n us; 0: not told.
    pub(in super::super) const WORD_TYPICAL: u32 = 0x1f;
    /// Typical time to program a full write buffer, 2^n us; 0: not told.
    pub(in super::super) const BUFFER_TYPICAL: u32 = 0x20;
    /// Typical time to erase a sector, 2^n ms; 0: not told.
    pub(in super::super) const ERASE_TYPICAL: u32 = 0x21;
    /// Longest time to program a word, 2^n times the typical one.
    pub(in super::super) const WORD_MAX: u32 = 0x23;
    /// Longest time to program a full write buffer, 2^n times the typical one.
    pub(in super::super) const BUFFER_MAX: u32 = 0x24;
    /// Longest time to erase a sector, 2^n times the typical one.
    pub(in super::super) const ERASE_MAX: u32 = 0x25;
    /// Size of the chip, 2^n bytes.
    pub(in super::super) const SIZE: u32 = 0x27;
    /// Size of the write buffer, 2^n bytes; 0: there is none.
    pub(in super::super) const BUFFER_SIZE: u32 = 0x2a;
    /// Number of erase regions; four bytes of each follow: sectors - 1, and sector bytes / 256 (0: 128 bytes).
    pub(in super::super) const REGIONS: u32 = 0x2c;
}

/// Words of the primary table, from its start.
pub(super) mod primary {
    /// Major and minor version, as digits.
    pub(in super::super) const VERSION: u32 = 3;
    /// Intel: features, low byte.
    pub(in super::super) const INTEL_FEATURES: u32 = 5;
    /// Intel features: blocks are locked and unlocked one by one, at once (and are locked at power-up).
    pub(in super::super) const INTEL_INSTANT_LOCK: u32 = 1 << 5;
    /// AMD, from version 1.1 on: where the small sectors are.
    pub(in super::super) const AMD_BOOT: u32 = 0xf;
    /// At the top.
    pub(in super::super) const AMD_BOOT_TOP: u32 = 3;
}

/// Intel commands.
pub(super) mod intel {
    pub(in super::super) const READ_ARRAY: u32 = 0xff;
    pub(in super::super) const READ_ID: u32 = 0x90;
    pub(in super::super) const READ_STATUS: u32 = 0x70;
    pub(in super::super) const CLEAR_STATUS: u32 = 0x50;
    pub(in super::super) const PROGRAM: u32 = 0x40;
    /// Begins a write buffer: a look tells whether one is free; then words - 1, the words, [`CONFIRM`].
    pub(in super::super) const WRITE_BUFFER: u32 = 0xe8;
    pub(in super::super) const ERASE: u32 = 0x20;
    pub(in super::super) const LOCK_SETUP: u32 = 0x60;
    /// Confirms an erase or a write buffer; unlocks after [`LOCK_SETUP`].
    pub(in super::super) const CONFIRM: u32 = 0xd0;

    /// Ready.
    pub(in super::super) const SR_READY: u32 = 1 << 7;
    /// Erase failed.
    pub(in super::super) const SR_ERASE: u32 = 1 << 5;
    /// Program failed.
    pub(in super::super) const SR_PROGRAM: u32 = 1 << 4;
    /// Programming voltage too low.
    pub(in super::super) const SR_VPP: u32 = 1 << 3;
    /// The block is locked.
    pub(in super::super) const SR_LOCKED: u32 = 1 << 1;
}

/// AMD commands.
pub(super) mod amd {
    pub(in super::super) const RESET: u32 = 0xf0;
    /// First unlock cycle: address, data.
    pub(in super::super) const UNLOCK_1: (u32, u32) = (0x555, 0xaa);
    /// Second unlock cycle.
    pub(in super::super) const UNLOCK_2: (u32, u32) = (0x2aa, 0x55);
    /// Where a command goes after the unlock cycles.
    pub(in super::super) const COMMAND: u32 = 0x555;
    pub(in super::super) const AUTOSELECT: u32 = 0x90;
    pub(in super::super) const PROGRAM: u32 = 0xa0;
    pub(in super::super) const ERASE_SETUP: u32 = 0x80;
    pub(in super::super) const SECTOR_ERASE: u32 = 0x30;

    /// The complement of the datum's bit 7 while busy; 0 in an erase.
    pub(in super::super) const DQ7: u32 = 1 << 7;
    /// Toggles with each read while busy.
    pub(in super::super) const DQ6: u32 = 1 << 6;
    /// The chip has given up.
    pub(in super::super) const DQ5: u32 = 1 << 5;
}

/// Device codes of chips whose small sectors are at the top and whose tables (before version 1.1) do not tell:
/// Am29LV320DT, MX29LV320T, 29LV160T, M29W320DT.
pub(super) const TOP_BOOT: [u32; 4] = [0x22f6, 0x22a7, 0x22c4, 0x22ca];
