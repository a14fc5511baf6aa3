//! The table's invariants, asserted: for tests and the fuzz targets.
//!
//! Not part of the image: it needs a heap.

use std::collections::{HashMap, HashSet};

use super::{ACCOUNTS, Class, Table};

impl Table {
    /// Asserts the invariants of the module header.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        let mut in_use: Vec<u16> = self.iter().map(|(id, _)| id.index).collect();
        assert_eq!(in_use.len(), self.len());
        let (mut flows, mut replies) = (HashSet::new(), HashSet::new());
        let (mut live, mut fresh) = (HashMap::<usize, u16>::new(), HashMap::<usize, u16>::new());
        for (id, entry) in self.iter() {
            assert_eq!(self.find(&entry.key), Some(id), "I1");
            assert_eq!(self.find_reply(&entry.reply_key()), Some(id), "I1");
            assert!(flows.insert(format!("{:?}", entry.key)), "I2");
            assert!(replies.insert(format!("{:?}", entry.reply_key())), "I2");
            let account = usize::from(entry.account);
            *live.entry(account).or_default() += u16::from(entry.class != Class::Over);
            *fresh.entry(account).or_default() +=
                u16::from(matches!(entry.class, Class::Embryo | Class::Single));
            let bucket = self.hasher.address(&entry.reply_key());
            let chain = self.by_address[bucket].check(&self.address_links);
            assert!(chain.contains(&id.index), "I4");
        }
        for host in 0..ACCOUNTS {
            assert_eq!(self.live[host], live.get(&host).copied().unwrap_or(0), "I3");
            assert_eq!(
                self.fresh[host],
                fresh.get(&host).copied().unwrap_or(0),
                "I3"
            );
        }
        let mut wheel = self.wheel.check();
        wheel.sort_unstable();
        let mut listed = Vec::new();
        for (class, list) in self.classes.iter().enumerate() {
            let found = list.check(&self.class_links);
            assert!(
                found
                    .iter()
                    .all(|&index| self.entries[usize::from(index)].class as usize == class),
                "I1"
            );
            listed.extend(found);
        }
        listed.sort_unstable();
        in_use.sort_unstable();
        assert_eq!(wheel, in_use, "I1");
        assert_eq!(listed, in_use, "I1");
        self.mappings.check(
            &self
                .iter()
                .map(|(_, entry)| (entry.mapping, entry.inbound))
                .collect::<Vec<_>>(),
        );
    }
}
