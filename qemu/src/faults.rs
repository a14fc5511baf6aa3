//! `qemu/FAULTS.md`, the table of which test shows which row of the fault matrix, against the source tree.
//!
//! Only tests: a table that nobody checks is wrong after a month.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use crate::{e2e, image, sim};

    const TABLE: &str = include_str!("../FAULTS.md");

    /// Rows of each family, as many as the matrix has.
    const FAMILIES: [(char, usize); 10] = [
        ('O', 33),
        ('K', 23),
        ('G', 18),
        ('Q', 14),
        ('T', 23),
        ('N', 12),
        ('P', 10),
        ('M', 14),
        ('A', 16),
        ('S', 14),
    ];

    /// Identifier, what shows it, what is not shown.
    fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
        let cells = TABLE.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let id = cells.next()?;
            let (_fault, shown, rest) = (cells.next()?, cells.next()?, cells.next()?);
            let is_row = id.ends_with(|last: char| last.is_ascii_digit());
            is_row.then(|| (id, shown.trim(), rest.trim_end_matches('|').trim()))
        });
        cells.collect()
    }

    /// What stands between two of `mark`.
    fn between(text: &'static str, mark: char) -> impl Iterator<Item = &'static str> {
        text.split(mark).skip(1).step_by(2)
    }

    /// Names of all functions behind `#[test]`, of all properties, and of the scenarios' functions.
    fn functions() -> BTreeSet<String> {
        fn read(folder: &Path, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(folder).expect("a folder of the source tree") {
                let path = entry.expect("its entry").path();
                if path.is_dir() {
                    read(&path, found);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).expect("a source file");
                    let starts = text
                        .lines()
                        .filter_map(|line| line.trim_start().strip_prefix("fn "));
                    found
                        .extend(starts.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
                }
            }
        }
        let mut found = BTreeSet::new();
        for package in ["firmware/src", "firmware/fuzz", "hal-mips/src", "qemu/src"] {
            read(&image::workspace().join(package), &mut found);
        }
        found
    }

    /// The rows that a function is named after: `k16_k17_versions` after two.
    fn named_after(function: &str) -> impl Iterator<Item = String> + '_ {
        let is_id = |word: &&str| {
            let mut letters = word.chars();
            letters
                .next()
                .is_some_and(|family| family.is_ascii_lowercase())
                && word.len() > 1
                && letters.all(|digit| digit.is_ascii_digit())
        };
        function.split('_').take_while(is_id).map(str::to_uppercase)
    }

    #[test]
    fn every_row_of_the_matrix_is_in_the_table_once_and_in_order() {
        let found: Vec<_> = rows().iter().map(|row| row.0.to_owned()).collect();
        let wanted: Vec<_> = FAMILIES
            .iter()
            .flat_map(|(family, count)| (1..=*count).map(move |number| format!("{family}{number}")))
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn every_test_in_the_table_exists() {
        let functions = functions();
        let scenarios: Vec<_> = e2e::scenarios().map(|scenario| scenario.name).collect();
        let mut missing = Vec::new();
        for (id, shown, _) in rows() {
            for name in between(shown, '`') {
                let exists = match name.strip_prefix("sim ") {
                    Some(fault) => sim::scenario::fault(fault).is_some(),
                    None => functions.contains(name),
                };
                if !exists {
                    missing.push(format!("{id}: {name}"));
                }
            }
            // Names of the simulation and of functions have no quotation marks.
            for name in between(shown, '"') {
                if !scenarios.contains(&name) {
                    missing.push(format!("{id}: \"{name}\""));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn a_row_without_a_test_says_why_and_none_is_named_after_it() {
        let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for function in functions() {
            for id in named_after(&function) {
                named.entry(id).or_default().push(function.clone());
            }
        }
        for (id, shown, rest) in rows() {
            assert!(!shown.is_empty() || !rest.is_empty(), "{id} says nothing");
            let tests = named.get(id).map_or(&[][..], Vec::as_slice);
            assert!(
                !shown.is_empty() || tests.is_empty(),
                "{id} has no test in the table, and there is {tests:?}"
            );
        }
    }
}
