//! Lists of table indices, linked through arrays beside the table: no allocation, O(1) moves.
//!
//! Units: indices below 65,535. Links hold an index plus one, so that all-zero memory is "empty".

/// Links of one index in one family of lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    previous: u16,
    next: u16,
}

impl Links {
    pub(super) const NONE: Self = Self {
        previous: 0,
        next: 0,
    };
}

/// One list; an index is in at most one list of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u16,
    tail: u16,
    len: u16,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: 0,
        tail: 0,
        len: 0,
    };

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// The index that was put in first.
    pub(super) fn front(&self) -> Option<u16> {
        self.head.checked_sub(1)
    }

    /// The index behind `index`.
    pub(super) fn after(links: &[Links], index: u16) -> Option<u16> {
        links[usize::from(index)].next.checked_sub(1)
    }

    pub(super) fn push_back(&mut self, links: &mut [Links], index: u16) {
        links[usize::from(index)] = Links {
            previous: self.tail,
            next: 0,
        };
        match self.tail.checked_sub(1) {
            Some(tail) => links[usize::from(tail)].next = index + 1,
            None => self.head = index + 1,
        }
        self.tail = index + 1;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, links: &mut [Links], index: u16) {
        let Links { previous, next } = links[usize::from(index)];
        match previous.checked_sub(1) {
            Some(previous) => links[usize::from(previous)].next = next,
            None => self.head = next,
        }
        match next.checked_sub(1) {
            Some(next) => links[usize::from(next)].previous = previous,
            None => self.tail = previous,
        }
        links[usize::from(index)] = Links::NONE;
        self.len -= 1;
    }

    /// Asserts that the links lead from head to tail and back; gives the indices.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(&self, links: &[Links]) -> Vec<u16> {
        let mut found = Vec::new();
        let mut previous = 0;
        let mut at = self.head;
        while let Some(index) = at.checked_sub(1) {
            assert_eq!(links[usize::from(index)].previous, previous);
            found.push(index);
            assert!(found.len() <= self.len());
            previous = at;
            at = links[usize::from(index)].next;
        }
        assert_eq!((previous, found.len()), (self.tail, self.len()));
        found
    }
}

/// A list of which only the front matters; the newest is in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain(u16);

impl Chain {
    pub(super) const EMPTY: Self = Self(0);

    /// The index that was put in last.
    pub(super) fn front(self) -> Option<u16> {
        self.0.checked_sub(1)
    }

    pub(super) fn push_front(&mut self, links: &mut [Links], index: u16) {
        links[usize::from(index)] = Links {
            previous: 0,
            next: self.0,
        };
        if let Some(next) = self.front() {
            links[usize::from(next)].previous = index + 1;
        }
        self.0 = index + 1;
    }

    pub(super) fn remove(&mut self, links: &mut [Links], index: u16) {
        let Links { previous, next } = links[usize::from(index)];
        match previous.checked_sub(1) {
            Some(previous) => links[usize::from(previous)].next = next,
            None => self.0 = next,
        }
        if let Some(next) = next.checked_sub(1) {
            links[usize::from(next)].previous = previous;
        }
        links[usize::from(index)] = Links::NONE;
    }

    /// The indices from the front on, having asserted that the links lead back, too.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(self, links: &[Links]) -> Vec<u16> {
        let mut found = Vec::new();
        let (mut previous, mut at) = (0, self.0);
        while let Some(index) = at.checked_sub(1) {
            assert_eq!(links[usize::from(index)].previous, previous);
            found.push(index);
            assert!(found.len() <= links.len());
            previous = at;
            at = links[usize::from(index)].next;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_queue_with_removal(ops in proptest::collection::vec((any::<bool>(), 0u16..16), 0..200)) {
            let mut links = [Links::NONE; 16];
            let mut list = List::EMPTY;
            let mut model: Vec<u16> = Vec::new();
            for (push, index) in ops {
                let inside = model.contains(&index);
                if push && !inside {
                    list.push_back(&mut links, index);
                    model.push(index);
                } else if !push && inside {
                    list.remove(&mut links, index);
                    model.retain(|&other| other != index);
                }
                prop_assert_eq!(list.front(), model.first().copied());
                prop_assert_eq!(list.check(&links), model.clone());
            }
        }

        #[test]
        fn a_chain_behaves_like_a_stack_with_removal(ops in proptest::collection::vec((any::<bool>(), 0u16..16), 0..200)) {
            let mut links = [Links::NONE; 16];
            let mut chain = Chain::EMPTY;
            let mut model: Vec<u16> = Vec::new();
            for (push, index) in ops {
                let inside = model.contains(&index);
                if push && !inside {
                    chain.push_front(&mut links, index);
                    model.insert(0, index);
                } else if !push && inside {
                    chain.remove(&mut links, index);
                    model.retain(|&other| other != index);
                }
                prop_assert_eq!(chain.check(&links), model.clone());
            }
        }
    }
}
