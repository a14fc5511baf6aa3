//! Lines given before: a byte ring, the oldest of which go when a new one needs their place.
//!
//! Units: bytes.
//! Invariants: I1 lines stand oldest first, each ended by a line feed; no line is empty.
//! Budget: [`CONSOLE_HISTORY_BYTES`].

use heapless::Vec;

use crate::budget::{CONSOLE_HISTORY_BYTES, CONSOLE_LINE_BYTES_MAX};

const _: () = assert!(CONSOLE_LINE_BYTES_MAX < CONSOLE_HISTORY_BYTES);

const END: u8 = b'\n';

/// The lines.
#[derive(Clone, Debug)]
pub(super) struct History {
    bytes: Vec<u8, CONSOLE_HISTORY_BYTES>,
}

impl History {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Remembers a line, unless it is empty or the last one again.
    pub(super) fn add(&mut self, line: &[u8]) {
        if line.is_empty() || line.contains(&END) || self.get(1) == Some(line) {
            return;
        }
        let room = CONSOLE_HISTORY_BYTES - self.bytes.len();
        let missing = (line.len() + 1).saturating_sub(room);
        if missing > 0 {
            let ends = self.bytes.iter().enumerate().skip(missing - 1);
            let goes = ends
                .filter(|&(_, &byte)| byte == END)
                .map(|(index, _)| index + 1)
                .next()
                .unwrap_or(self.bytes.len());
            self.bytes.copy_within(goes.., 0);
            self.bytes.truncate(self.bytes.len() - goes);
        }
        // Room was made above; a line longer than all of it is not remembered.
        let _fits = self.bytes.extend_from_slice(line).is_ok() && self.bytes.push(END).is_ok();
    }

    /// The line given `back` lines ago; 1 is the last one.
    pub(super) fn get(&self, back: usize) -> Option<&[u8]> {
        let lines = self.bytes.strip_suffix(&[END])?;
        lines.rsplit(|&byte| byte == END).nth(back.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_come_back_newest_first_and_repeats_once() {
        let mut history = History::new();
        assert_eq!(history.get(1), None);
        for line in ["one", "two", "two", "", "three"] {
            history.add(line.as_bytes());
        }
        let lines: Vec<_, 8> = (1..).map_while(|back| history.get(back)).collect();
        assert_eq!(lines, [&b"three"[..], b"two", b"one"]);
        assert_eq!(history.get(0), None);
    }

    proptest! {
        #[test]
        fn the_newest_lines_that_fit_are_held_whole(
            lines in prop::collection::vec("[a-z ]{1,256}", 1..40),
        ) {
            let mut history = History::new();
            let mut all: std::vec::Vec<&str> = std::vec::Vec::new();
            for line in &lines {
                history.add(line.as_bytes());
                if all.last() != Some(&line.as_str()) {
                    all.push(line);
                }
            }
            let held: std::vec::Vec<_> = (1..).map_while(|back| history.get(back)).collect();
            prop_assert!(!held.is_empty());
            for (held, line) in held.iter().zip(all.iter().rev()) {
                prop_assert_eq!(*held, line.as_bytes());
            }
            // One more would not have fitted.
            let bytes: usize = held.iter().map(|line| line.len() + 1).sum();
            if let Some(next) = all.iter().rev().nth(held.len()) {
                prop_assert!(bytes + next.len() + 1 > CONSOLE_HISTORY_BYTES);
            }
        }
    }
}
