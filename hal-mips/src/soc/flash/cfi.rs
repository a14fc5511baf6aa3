//! What a chip says of itself: the CFI query, checked.

use super::regs::{CFI_ADDRESS, CFI_QUERY, TOP_BOOT, amd, intel, primary, query};
use super::{Bus, ProbeError};

/// Erase regions of a chip that are understood; boot-sector chips have up to four.
pub const REGIONS_MAX: usize = 4;

/// Write buffers larger than 2^n bytes are none; chips have 32 to 1,024 bytes, and QEMU's 2,048.
const BUFFER_EXPONENT_MAX: u32 = 16;
/// Bounds of the time that a word or a write buffer may take, us; chips tell 200 to 8,000.
const WORD_US: core::ops::RangeInclusive<u64> = 1_000..=100_000;
/// Bounds of the time that a sector may take, us; chips tell 5 to 16 s.
const ERASE_US: core::ops::RangeInclusive<u64> = 1_000_000..=30_000_000;

/// How a chip is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum CommandSet {
    /// Intel/Sharp, 0x0001 and 0x0003.
    Intel,
    /// AMD/Fujitsu, 0x0002.
    Amd,
}

/// Sectors of one size, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Region {
    /// How many.
    pub sectors: u32,
    /// Bytes of each.
    pub sector_bytes: u32,
}

/// A chip as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// How it is talked to.
    pub command_set: CommandSet,
    /// JEDEC code of the maker; 0 where the chip does not tell.
    pub maker: u32,
    /// The maker's code of the chip.
    pub device: u32,
    /// Size, bytes.
    pub bytes: u32,
    /// Sectors from offset 0 on.
    pub regions: heapless::Vec<Region, REGIONS_MAX>,
    /// Longest time of a word, us.
    pub word_us: u64,
    /// Bytes that one write buffer takes, a power of two; 0 where there is none, or none that is used here.
    pub buffer_bytes: u32,
    /// Longest time of a write buffer, us.
    pub buffer_us: u64,
    /// Longest time of a sector's erase, us.
    pub erase_us: u64,
    /// Sectors are locked at power-up and unlocked one by one.
    pub locks: bool,
}

impl Identity {
    /// Start and length of the sector that holds `offset`.
    pub fn sector(&self, offset: u32) -> Option<(u32, u32)> {
        let mut start = 0;
        for region in &self.regions {
            let bytes = region.sectors * region.sector_bytes;
            if offset - start < bytes {
                return Some((
                    offset - (offset - start) % region.sector_bytes,
                    region.sector_bytes,
                ));
            }
            start += bytes;
        }
        None
    }
}

/// Back to showing the array, whatever the command set: each ignores the other's command.
pub(super) fn show_array<B: Bus>(bus: &mut B) {
    bus.write(0, intel::READ_ARRAY);
    bus.write(0, amd::RESET);
}

/// Reads the query, then the codes; leaves the chip showing its array.
pub(super) fn identify<B: Bus>(bus: &mut B, window_bytes: u32) -> Result<Identity, ProbeError> {
    show_array(bus);
    bus.write(CFI_ADDRESS, CFI_QUERY);
    let found = read_query(bus, window_bytes);
    show_array(bus);
    let mut identity = found?;
    // The codes: unlike the query they may be missing (an emulated chip has none), and nothing depends on them
    // but the order of old chips' sectors.
    match identity.command_set {
        CommandSet::Intel => bus.write(0, intel::READ_ID),
        CommandSet::Amd => {
            for (address, data) in [
                amd::UNLOCK_1,
                amd::UNLOCK_2,
                (amd::COMMAND, amd::AUTOSELECT),
            ] {
                bus.write(address, data);
            }
        }
    }
    identity.maker = bus.read(0) & 0xff;
    identity.device = bus.read(1) & 0xffff;
    show_array(bus);
    let small_first = identity.regions.first().map(|region| region.sector_bytes)
        < identity.regions.last().map(|region| region.sector_bytes);
    if TOP_BOOT.contains(&identity.device) && identity.command_set == CommandSet::Amd && small_first
    {
        identity.regions.reverse();
    }
    Ok(identity)
}

fn read_query<B: Bus>(bus: &mut B, window_bytes: u32) -> Result<Identity, ProbeError> {
    let mut signature = [0; 3];
    for (at, character) in (query::SIGNATURE..).zip(&mut signature) {
        *character = bus.read(at);
    }
    let expected = b"QRY".map(u32::from);
    if signature != expected {
        let doubled = signature.iter().zip(expected).all(|(found, one)| {
            found & 0xff == one && (*found == one | one << 16 || *found == one | one << 8)
        });
        return Err(if doubled {
            ProbeError::Interleaved
        } else {
            ProbeError::NoChip
        });
    }
    let mut byte = |at: u32| bus.read(at) & 0xff;
    let command_set = byte(query::COMMAND_SET) | byte(query::COMMAND_SET + 1) << 8;
    let command_set = match command_set {
        1 | 3 => CommandSet::Intel,
        2 => CommandSet::Amd,
        found => return Err(ProbeError::CommandSet { found }),
    };
    let time = |typical: u32, max: u32, unit_us: u64| {
        // Exponents beyond these are no times.
        (1u64 << typical.min(20)).saturating_mul(unit_us) << max.min(20)
    };
    let word_us = time(byte(query::WORD_TYPICAL), byte(query::WORD_MAX), 1);
    let buffer_us = time(byte(query::BUFFER_TYPICAL), byte(query::BUFFER_MAX), 1);
    let buffer_bytes = match (command_set, byte(query::BUFFER_SIZE)) {
        (CommandSet::Intel, exponent @ 1..=BUFFER_EXPONENT_MAX) => 1 << exponent,
        (CommandSet::Intel | CommandSet::Amd, _) => 0,
    };
    let erase_us = match byte(query::ERASE_TYPICAL) {
        0 => *ERASE_US.end(),
        typical => time(typical, byte(query::ERASE_MAX), 1_000),
    };
    let exponent = byte(query::SIZE);
    let bytes = 1u32
        .checked_shl(exponent)
        .filter(|&bytes| bytes <= window_bytes)
        .ok_or(ProbeError::Size { exponent })?;
    let mut regions = heapless::Vec::new();
    let count = byte(query::REGIONS);
    for region in 0..count {
        let at = query::REGIONS + 1 + 4 * region;
        let sectors = (byte(at) | byte(at + 1) << 8) + 1;
        let sector_bytes = match byte(at + 2) | byte(at + 3) << 8 {
            0 => 128,
            pages => pages * 256,
        };
        let region = Region {
            sectors,
            sector_bytes,
        };
        regions.push(region).map_err(|_| ProbeError::Regions)?;
    }
    let total = regions.iter().try_fold(0u32, |sum, region| {
        sum.checked_add(region.sectors.checked_mul(region.sector_bytes)?)
    });
    if total != Some(bytes) {
        return Err(ProbeError::Regions);
    }
    let table = byte(query::PRIMARY_TABLE) | byte(query::PRIMARY_TABLE + 1) << 8;
    let mut locks = false;
    let told = table != 0 && [0, 1, 2].map(|at| byte(table + at)) == b"PRI".map(u32::from);
    if told {
        match command_set {
            CommandSet::Intel => {
                locks = byte(table + primary::INTEL_FEATURES) & primary::INTEL_INSTANT_LOCK != 0;
            }
            CommandSet::Amd => {
                let version = [0, 1].map(|at| byte(table + primary::VERSION + at));
                let small_first = regions.first() != regions.last()
                    && regions.first().map(|region: &Region| region.sector_bytes)
                        < regions.last().map(|region| region.sector_bytes);
                // Tables of top-boot chips list their sectors as if they were bottom-boot.
                if version >= b"11".map(u32::from)
                    && byte(table + primary::AMD_BOOT) == primary::AMD_BOOT_TOP
                    && small_first
                {
                    regions.reverse();
                }
            }
        }
    }
    Ok(Identity {
        command_set,
        maker: 0,
        device: 0,
        bytes,
        regions,
        word_us: word_us.clamp(*WORD_US.start(), *WORD_US.end()),
        buffer_bytes,
        buffer_us: buffer_us.clamp(*WORD_US.start(), *WORD_US.end()),
        erase_us: erase_us.clamp(*ERASE_US.start(), *ERASE_US.end()),
        locks,
    })
}
