//! When to look at an entry again: a wheel of one-second slots.
//!
//! An entry is put where its deadline lies, at most one turn ahead; when its slot comes up, the
//! table says whether it is really over or where it belongs now. So traffic of a flow only writes
//! the time of its last packet and never touches the wheel.
//!
//! Units: ticks of one second since the router's start.
//! Budget: 4 bytes an entry, 6 bytes × `TIMER_WHEEL_SLOTS`.

use smoltcp::time::Instant;

use super::list::{Links, List};
use crate::budget::{FLOWS, TIMER_WHEEL_SLOTS};

pub(super) struct Wheel {
    slots: [List; TIMER_WHEEL_SLOTS],
    links: [Links; FLOWS],
    /// Which slots have entries, a bit each.
    occupied: [u32; TIMER_WHEEL_SLOTS / 32],
    /// Slot of each entry; meaningful while it is in the wheel.
    slot_of: [u8; FLOWS],
    /// The last tick whose slot is done.
    tick: u32,
    /// When the tick after it begins, as [`take_due`](Self::take_due) found out last: nothing comes up before.
    quiet_until: Instant,
    /// When the next occupied slot comes up, if that is known: it is as long as no slot becomes occupied or empty.
    /// Two fields, so that an empty wheel is all zero.
    due: Option<Instant>,
    is_due_known: bool,
}

impl Wheel {
    pub(super) const EMPTY: Self = Self {
        slots: [List::EMPTY; TIMER_WHEEL_SLOTS],
        links: [Links::NONE; FLOWS],
        occupied: [0; TIMER_WHEEL_SLOTS / 32],
        slot_of: [0; FLOWS],
        tick: 0,
        quiet_until: Instant::ZERO,
        due: None,
        is_due_known: false,
    };

    /// Puts an index that is not in the wheel where `deadline` lies.
    pub(super) fn insert(&mut self, index: u16, deadline: Instant) {
        // One tick later than the second the deadline lies in, so that it has passed by then.
        let wanted = tick_of(deadline).wrapping_add(1);
        let ahead = wanted.wrapping_sub(self.tick) as i32;
        let ahead = ahead.clamp(1, TIMER_WHEEL_SLOTS as i32 - 1) as u32;
        let slot = self.tick.wrapping_add(ahead) as usize % TIMER_WHEEL_SLOTS;
        self.slots[slot].push_back(&mut self.links, index);
        if self.slots[slot].len() == 1 {
            self.is_due_known = false;
        }
        self.occupied[slot / 32] |= 1 << (slot % 32);
        self.slot_of[usize::from(index)] = slot as u8;
    }

    /// Takes an index out.
    pub(super) fn remove(&mut self, index: u16) {
        let slot = usize::from(self.slot_of[usize::from(index)]);
        self.slots[slot].remove(&mut self.links, index);
        if self.slots[slot].len() == 0 {
            self.occupied[slot / 32] &= !(1 << (slot % 32));
            self.is_due_known = false;
        }
    }

    /// Takes out one index whose slot has come up; `None` when none is left until `now`.
    #[inline]
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u16> {
        match now < self.quiet_until {
            true => None,
            false => self.turn(now),
        }
    }

    // Once a second: kept apart, or its division is done each time.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, now: Instant) -> Option<u16> {
        let now = tick_of(now);
        // After a long silence one turn shows every slot.
        if now.wrapping_sub(self.tick) as i32 > TIMER_WHEEL_SLOTS as i32 {
            self.tick = now.wrapping_sub(TIMER_WHEEL_SLOTS as u32);
            self.is_due_known = false;
        }
        while (now.wrapping_sub(self.tick) as i32) > 0 {
            let slot = self.tick.wrapping_add(1) as usize % TIMER_WHEEL_SLOTS;
            match self.slots[slot].front() {
                Some(index) => {
                    self.remove(index);
                    return Some(index);
                }
                None => self.tick = self.tick.wrapping_add(1),
            }
        }
        self.quiet_until = Instant::from_secs(i64::from(self.tick) + 1);
        None
    }

    /// When the next occupied slot comes up.
    #[inline]
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        if !self.is_due_known {
            self.due = self.search();
            self.is_due_known = true;
        }
        debug_assert_eq!(self.due, self.search());
        self.due
    }

    /// As [`next_due`](Self::next_due), from the slots.
    fn search(&self) -> Option<Instant> {
        let first = self.tick.wrapping_add(1) as usize % TIMER_WHEEL_SLOTS;
        let (word, bit) = (first / 32, first % 32);
        // The first word twice: its upper bits now, its lower bits after a whole turn.
        for turn in 0..=TIMER_WHEEL_SLOTS / 32 {
            let at = (word + turn) % (TIMER_WHEEL_SLOTS / 32);
            let bits = match turn {
                0 => self.occupied[at] & (u32::MAX << bit),
                _ => self.occupied[at],
            };
            if bits != 0 {
                let slot = at * 32 + bits.trailing_zeros() as usize;
                let ahead = (slot + TIMER_WHEEL_SLOTS - first) % TIMER_WHEEL_SLOTS;
                return Some(Instant::from_secs(i64::from(self.tick) + 1 + ahead as i64));
            }
        }
        None
    }

    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(&self) -> Vec<u16> {
        let mut all = Vec::new();
        for (slot, list) in self.slots.iter().enumerate() {
            let found = list.check(&self.links);
            assert_eq!(
                self.occupied[slot / 32] >> (slot % 32) & 1 == 1,
                !found.is_empty()
            );
            assert!(
                found
                    .iter()
                    .all(|&index| usize::from(self.slot_of[usize::from(index)]) == slot)
            );
            all.extend(found);
        }
        all
    }
}

/// The second that an instant lies in; 136 years fit.
fn tick_of(at: Instant) -> u32 {
    at.secs() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_comes_up_after_its_deadline_and_within_two_ticks_or_a_turn(
            deadlines in proptest::collection::vec(0i64..1_000_000, 1..40), step in 1i64..400_000,
        ) {
            let mut wheel = Box::new(Wheel::EMPTY);
            let mut left: Vec<(u16, i64)> = deadlines.iter().enumerate().map(|(i, &ms)| (i as u16, ms)).collect();
            for &(index, ms) in &left {
                wheel.insert(index, Instant::from_millis(ms));
            }
            let mut ms = 0;
            while !left.is_empty() {
                prop_assert!(wheel.next_due().is_some());
                ms += step;
                let now = Instant::from_millis(ms);
                while let Some(index) = wheel.take_due(now) {
                    let deadline = left.iter().find(|entry| entry.0 == index).unwrap().1;
                    if deadline > ms {
                        wheel.insert(index, Instant::from_millis(deadline));
                    } else {
                        prop_assert!(ms - deadline <= 2_000 + 2 * step);
                        left.retain(|entry| entry.0 != index);
                    }
                }
                prop_assert_eq!(wheel.check().len(), left.len());
                if let Some(due) = wheel.next_due() {
                    prop_assert!(due > now);
                    let first = left.iter().map(|entry| entry.1).min().unwrap();
                    prop_assert!(due.total_millis() <= (first + 2_000).max(ms + 1_000));
                }
            }
            prop_assert_eq!(wheel.next_due(), None);
        }
    }
}
