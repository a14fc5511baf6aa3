//! Which functions of the image spent the instructions.

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};
use std::collections::BTreeMap;
use std::path::Path;

/// Functions shown.
const SHOWN: usize = 24;

/// Functions of the image by their address.
pub struct Functions(BTreeMap<u64, String>);

impl Functions {
    /// Those of an ELF.
    ///
    /// # Errors
    /// Not an ELF.
    pub fn of(elf: &Path) -> Result<Self> {
        let bytes = std::fs::read(elf).with_context(|| elf.display().to_string())?;
        let file = object::File::parse(&*bytes).with_context(|| elf.display().to_string())?;
        let functions = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text)
            .filter_map(|symbol| {
                let name = symbol.name().ok()?;
                let name = format!("{:#}", rustc_demangle::demangle(name));
                Some((short(symbol.address()), name))
            })
            .collect();
        Ok(Self(functions))
    }

    fn at(&self, address: u64) -> &str {
        let before = self.0.range(..=short(address)).next_back();
        before.map_or("?", |(_, name)| name)
    }

    /// Prints what was executed between two looks at the blocks, for each of `packets`.
    pub fn print(&self, before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>, packets: usize) {
        let mut spent: BTreeMap<&str, u64> = BTreeMap::new();
        for (address, count) in after {
            let more = count - before.get(address).copied().unwrap_or(0);
            *spent.entry(self.at(*address)).or_default() += more;
        }
        let mut spent: Vec<_> = spent.into_iter().filter(|(_, count)| *count > 0).collect();
        spent.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
        for (name, count) in spent.iter().take(SHOWN) {
            println!("    {:>8.1}  {name}", *count as f64 / packets as f64);
        }
        let rest: u64 = spent.iter().skip(SHOWN).map(|(_, count)| count).sum();
        println!("    {:>8.1}  all others", rest as f64 / packets as f64);
    }
}

/// The plugin tells addresses sign-extended, the ELF does not.
const fn short(address: u64) -> u64 {
    address & 0xffff_ffff
}
