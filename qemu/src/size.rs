//! Sections, largest symbols, RAM against the boards.
//!
//! Units: bytes.

use anyhow::Context;
use object::read::elf::ElfFile32;
use object::{
    Endianness, Object, ObjectSection, ObjectSegment, ObjectSymbol, SectionFlags, SymbolKind, elf,
};
use std::fmt;

/// RAM of the boards the image must fit: WRT54G v5 and later, v1 to v4.
const BOARDS: [(&str, u64); 2] = [("8 MiB", 8 << 20), ("16 MiB", 16 << 20)];
/// How many of the largest symbols are shown.
const SYMBOLS_SHOWN: usize = 12;
/// Initialised data beyond this is a mistake: what the router remembers is all zero at start and takes no byte of the image.
/// (The store, with 8 KiB of room, is not: it knows its places from the start.)
const INITIALISED_BYTES_MAX: u64 = 12 << 10;
/// A flat file larger than this is a linker script gone wrong, not an image.
const FLAT_BYTES_MAX: u64 = 64 << 20;

/// A section that is there when the image runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
    /// The program writes to it.
    pub writable: bool,
    /// Its bytes are in the file; zeroed by the start code otherwise.
    pub in_file: bool,
}

impl Section {
    /// Written by the program, its first value in the file.
    const fn is_initialised(&self) -> bool {
        self.writable && self.in_file
    }
}

/// What an image consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Sections by address.
    pub sections: Vec<Section>,
    /// The largest symbols, largest first: bytes, name.
    pub symbols: Vec<(u64, String)>,
    /// Bytes that the linker script set aside for the stack outside any section.
    pub stack: u64,
    /// The largest symbols that are written and whose first value is in the file, largest first: bytes, name.
    pub initialised: Vec<(u64, String)>,
    /// The bytes that are loaded, gaps filled with zeros.
    pub flat: Vec<u8>,
}

impl Report {
    /// Reads an ELF.
    ///
    /// # Errors
    /// The file is no 32-bit ELF, or its segments lie absurdly far apart.
    pub fn read(file: &[u8]) -> anyhow::Result<Self> {
        let elf = ElfFile32::<Endianness>::parse(file).context("not a 32-bit ELF")?;
        let mut report = Self::default();
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
                continue;
            };
            let has = |flag| sh_flags & flag == flag;
            if has(elf::SHF_ALLOC) && section.size() > 0 {
                report.sections.push(Section {
                    name: section.name().unwrap_or("?").to_owned(),
                    address: section.address(),
                    size: section.size(),
                    writable: has(elf::SHF_WRITE),
                    in_file: section.file_range().is_some(),
                });
            }
        }
        report.sections.sort_by_key(|section| section.address);
        report.symbols = largest(&elf, |_| true);
        report.initialised = largest(&elf, |address| {
            let mut places = report
                .sections
                .iter()
                .filter(|place| place.is_initialised());
            places.any(|place| (place.address..place.address + place.size).contains(&address))
        });
        report.stack = report.stack_outside(&elf);
        report.flat = flat(&elf)?.1;
        Ok(report)
    }

    /// The stack as the linker script names it (`_stack_bottom`, `_stack_top`), unless it is a section of its own.
    fn stack_outside(&self, elf: &ElfFile32<'_, Endianness>) -> u64 {
        let address = |wanted: &[&str]| {
            elf.symbols()
                .find(|symbol| symbol.name().is_ok_and(|name| wanted.contains(&name)))
                .map(|symbol| symbol.address())
        };
        let bottom = address(&["_stack_bottom", "__stack_bottom", "_stack_end"]);
        let top = address(&["_stack_top", "__stack_top", "_stack_start"]);
        let (Some(bottom), Some(top)) = (bottom, top) else {
            return 0;
        };
        let inside = self
            .sections
            .iter()
            .any(|section| section.address <= bottom && top <= section.address + section.size);
        if inside {
            0
        } else {
            top.saturating_sub(bottom)
        }
    }

    /// Bytes of code and constants.
    #[must_use]
    pub fn constant_bytes(&self) -> u64 {
        let constant = self.sections.iter().filter(|section| !section.writable);
        constant.map(|section| section.size).sum()
    }

    /// Whether the image is free of large initialised data.
    ///
    /// # Errors
    /// It is not: which symbol is the largest of it, and what to look for.
    pub fn check_initialised(&self) -> anyhow::Result<()> {
        let initialised = self
            .sections
            .iter()
            .filter(|section| section.is_initialised());
        let bytes: u64 = initialised.map(|section| section.size).sum();
        if bytes <= INITIALISED_BYTES_MAX {
            return Ok(());
        }
        let (size, name) = match self.initialised.first() {
            Some((size, name)) => (*size, name.as_str()),
            None => (0, "without a name"),
        };
        anyhow::bail!(
            "the image carries {bytes} bytes of initialised data, at most {INITIALISED_BYTES_MAX} are expected; the \
             largest is `{name}` with {size} bytes. A static is kept out of the image only if every byte of its first \
             value is zero: look in what its `new` or `EMPTY` builds, and in what was added to it lately, for a number that \
             is not 0, a `true`, a reference, an `Option` whose `None` or an enum whose first state is not 0 in memory; \
             reorder the variants, or give the value at start"
        )
    }

    /// Bytes of RAM that the program writes to: data, zeroed data, stack.
    #[must_use]
    pub fn static_bytes(&self) -> u64 {
        let writable = self.sections.iter().filter(|section| section.writable);
        writable.map(|section| section.size).sum::<u64>() + self.stack
    }
}

/// The largest symbols at addresses that `wanted` takes, largest first.
fn largest(elf: &ElfFile32<'_, Endianness>, wanted: impl Fn(u64) -> bool) -> Vec<(u64, String)> {
    let mut symbols: Vec<_> = elf
        .symbols()
        .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data))
        .filter(|symbol| symbol.size() > 0 && wanted(symbol.address()))
        .filter_map(|symbol| {
            let name = rustc_demangle::demangle(symbol.name().ok()?);
            Some((symbol.size(), format!("{name:#}")))
        })
        .collect();
    symbols.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    symbols.truncate(SYMBOLS_SHOWN);
    symbols
}

/// Where the loadable bytes of an ELF begin, and those bytes, gaps filled with zeros.
///
/// # Errors
/// As [`Report::read`].
pub fn loadable(file: &[u8]) -> anyhow::Result<(u64, Vec<u8>)> {
    flat(&ElfFile32::<Endianness>::parse(file).context("not a 32-bit ELF")?)
}

/// The first address and the bytes of all loadable segments, gaps filled with zeros.
fn flat(elf: &ElfFile32<'_, Endianness>) -> anyhow::Result<(u64, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut start = None;
    let mut segments: Vec<_> = elf
        .segments()
        .filter_map(|segment| Some((segment.address(), segment.data().ok()?)))
        .filter(|(_, data)| !data.is_empty())
        .collect();
    segments.sort_by_key(|(address, _)| *address);
    for (address, data) in segments {
        let start = *start.get_or_insert(address);
        let offset = address - start;
        anyhow::ensure!(
            offset < FLAT_BYTES_MAX,
            "a segment at {address:#x} lies {offset} bytes after the first"
        );
        let offset = usize::try_from(offset)?;
        bytes.resize(bytes.len().max(offset + data.len()), 0);
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }
    Ok((start.unwrap_or(0), bytes))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "section             address       bytes")?;
        for section in &self.sections {
            let kind = match (section.writable, section.in_file) {
                (false, _) => "constant",
                (true, true) => "written, in the file",
                (true, false) => "written, zero at start",
            };
            writeln!(
                f,
                "{:18} {:#010x} {:>10}  {kind}",
                section.name, section.address, section.size
            )?;
        }
        if self.stack > 0 {
            writeln!(f, "{:29} {:>10}  written", "stack", self.stack)?;
        }
        writeln!(f, "largest symbols     bytes")?;
        for (size, name) in &self.symbols {
            writeln!(f, "{size:>25}  {name}")?;
        }
        writeln!(f, "code, constants {} bytes", self.constant_bytes())?;
        writeln!(f, "static RAM      {} bytes", self.static_bytes())?;
        let all = self.constant_bytes() + self.static_bytes();
        for (name, ram) in BOARDS {
            // Tenths of a percent, in integers.
            let share = all * 1000 / ram;
            let word = if all <= ram { "fits" } else { "DOES NOT FIT" };
            writeln!(
                f,
                "of {name:7}      {}.{} % with the code in RAM: {word}",
                share / 10,
                share % 10
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, size: u64, writable: bool) -> Section {
        Section {
            name: name.to_owned(),
            address: 0x8000_0000,
            size,
            writable,
            in_file: !writable,
        }
    }

    #[test]
    fn static_ram_is_what_is_written_and_the_stack() {
        let report = Report {
            sections: vec![
                section(".text", 1000, false),
                section(".data", 20, true),
                section(".bss", 300, true),
            ],
            stack: 4000,
            ..Report::default()
        };
        assert_eq!(report.constant_bytes(), 1000);
        assert_eq!(report.static_bytes(), 4320);
    }

    #[test]
    fn an_image_larger_than_a_board_is_said_so() {
        let report = Report {
            sections: vec![section(".bss", 9 << 20, true)],
            ..Report::default()
        };
        let text = report.to_string();
        assert!(
            text.contains("of 8 MiB        112.5 % with the code in RAM: DOES NOT FIT"),
            "{text}"
        );
        assert!(
            text.contains("of 16 MiB       56.2 % with the code in RAM: fits"),
            "{text}"
        );
    }

    #[test]
    fn a_static_that_is_not_all_zero_fails_the_build_by_its_name() {
        let image = |size| Report {
            sections: vec![
                section(".text", 600_000, false),
                Section {
                    in_file: true,
                    ..section(".data", size, true)
                },
                section(".bss", 8 << 20, true),
            ],
            symbols: vec![(600_000, "main".to_owned())],
            initialised: vec![(size - 10, "malta::MEMORY".to_owned())],
            ..Report::default()
        };
        assert!(image(INITIALISED_BYTES_MAX).check_initialised().is_ok());
        let said = image(7 << 20).check_initialised().unwrap_err().to_string();
        assert!(
            said.contains("`malta::MEMORY` with 7340022 bytes"),
            "{said}"
        );
        assert!(
            said.contains("every byte of its first value is zero"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        assert!(Report::read(b"MZ").is_err());
    }
}
