//! A watchdog made of the processor's own timer, for boards that have none.
//!
//! Outside of `sleep` Compare holds the deadline and the timer's interrupt is enabled: when it comes, the main loop has
//! not fed the watchdog in its time, whatever it is stuck in, and the exception path records where and resets. In a sleep
//! Compare is the earlier of the sleep's end and the deadline, and the interrupt only wakes; a loop that only ever
//! sleeps without feeding is caught right after the sleep that reaches the deadline.
//!
//! ```text
//! feed ──▶ Compare = deadline, timer enabled ──▶ sleep: Compare = min(end, deadline), wakes only ──▶ Compare = deadline
//! ```
//!
//! Units: ticks of Count. A deadline is less than 2^31 ticks away.
//! Not done: it cannot catch what runs with interrupts disabled, that is the start code and the crash path (whose
//! waits are bounded), and it cannot help a processor that has stopped. A board with a watchdog of its own uses that one,
//! alone or beside this.

/// Deadline of a watchdog over a wrapping counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: u32,
    timeout: u32,
}

impl Deadline {
    /// `timeout` ticks from `now`; at most 2^31 - 1.
    pub const fn new(now: u32, timeout: u32) -> Self {
        let most = i32::MAX as u32;
        let timeout = if timeout < most { timeout } else { most };
        Self {
            at: now.wrapping_add(timeout),
            timeout,
        }
    }

    /// When it is over.
    pub const fn at(&self) -> u32 {
        self.at
    }

    /// Ticks left; `None` once it has passed.
    pub const fn left(&self, now: u32) -> Option<u32> {
        let left = self.at.wrapping_sub(now) as i32;
        if left > 0 { Some(left as u32) } else { None }
    }

    /// Whether so much has passed since the last feeding that it is worth doing again: an eighth.
    pub const fn wants_food(&self, now: u32) -> bool {
        match self.left(now) {
            Some(left) => left < self.timeout - self.timeout / 8,
            None => true,
        }
    }

    /// The same timeout, from `now` on.
    pub const fn fed(&self, now: u32) -> Self {
        Self::new(now, self.timeout)
    }
}

/// Ticks after which a deadline that has passed in a sleep is let expire: enough to set Compare before Count is there.
#[cfg(target_arch = "mips")]
const SOON: u32 = 10_000;

#[cfg(target_arch = "mips")]
mod machine {
    use super::{Deadline, SOON};
    use crate::arch::cell::MainCell;
    use crate::arch::{cp0, time};
    use crate::watchdog::Watchdog;

    /// 2^31 ticks are not reached at any rate up to 200 MHz of Count, µs.
    const TIMEOUT_US_MAX: u32 = 10_000_000;
    /// What the timer watches; `None` while no watchdog runs.
    static DEADLINE: MainCell<Option<Deadline>> = MainCell::new(None);

    /// The processor's timer as a watchdog; there is one.
    #[derive(Debug)]
    pub struct CountWatchdog(());

    impl CountWatchdog {
        /// The watchdog; stopped until [`start`](Watchdog::start).
        pub const fn new() -> Self {
            Self(())
        }
    }

    impl Default for CountWatchdog {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Watchdog for CountWatchdog {
        fn start(&mut self, timeout_us: u32) -> u32 {
            let timeout_us = timeout_us.min(TIMEOUT_US_MAX);
            // `None` only inside the clock itself, which nothing calls from there.
            let Some(ticks) = time::ticks(timeout_us) else {
                return 0;
            };
            let deadline = Deadline::new(cp0::count(), ticks);
            DEADLINE.with(|slot| *slot = Some(deadline));
            cp0::set_compare(deadline.at());
            cp0::watch();
            timeout_us
        }

        #[inline]
        fn feed(&mut self) {
            let now = cp0::count();
            let fed = DEADLINE.with(|slot| {
                let deadline = slot.as_mut().filter(|deadline| deadline.wants_food(now))?;
                *deadline = deadline.fed(now);
                Some(deadline.at())
            });
            if let Some(Some(at)) = fed {
                cp0::set_compare(at);
            }
        }
    }

    /// The smaller of `ticks` and what the watchdog leaves.
    pub(in crate::arch) fn earlier(now: u32, ticks: u32) -> u32 {
        let deadline = DEADLINE.with(|slot| *slot).flatten();
        match deadline.map(|deadline| deadline.left(now)) {
            None => ticks,
            Some(None) => 0,
            Some(Some(left)) => ticks.min(left),
        }
    }

    /// Puts the deadline back in force after a sleep.
    pub(in crate::arch) fn resume() {
        let Some(deadline) = DEADLINE.with(|slot| *slot).flatten() else {
            return;
        };
        let now = cp0::count();
        // Compare matches on equality: one that has passed, or passes right now, must still come.
        let left = deadline.left(now).unwrap_or(0).max(SOON);
        cp0::set_compare(now.wrapping_add(left));
        cp0::watch();
    }
}

#[cfg(target_arch = "mips")]
pub use machine::CountWatchdog;
#[cfg(target_arch = "mips")]
pub(super) use machine::{earlier, resume};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_after_its_ticks_and_not_before() {
        let deadline = Deadline::new(100, 50);
        assert_eq!(deadline.left(100), Some(50));
        assert_eq!(deadline.left(149), Some(1));
        assert_eq!(deadline.left(150), None);
        assert_eq!(deadline.left(1000), None);
    }

    #[test]
    fn s14_a_deadline_behind_the_wrap_of_the_counter_is_as_far_as_any() {
        for start in [0, i32::MAX as u32 - 10, 1 << 31, u32::MAX - 10, u32::MAX] {
            let deadline = Deadline::new(start, 1000);
            assert_eq!(deadline.left(start), Some(1000), "{start}");
            assert_eq!(deadline.left(start.wrapping_add(999)), Some(1));
            assert_eq!(deadline.left(start.wrapping_add(1000)), None);
            let fed = deadline.fed(start.wrapping_add(999));
            assert_eq!(fed.left(start.wrapping_add(1000)), Some(999));
        }
    }

    #[test]
    fn a_timeout_too_long_for_the_counter_is_cut() {
        let deadline = Deadline::new(7, u32::MAX);
        assert_eq!(deadline.left(7), Some(i32::MAX as u32));
    }

    #[test]
    fn feeding_waits_until_an_eighth_has_passed() {
        let deadline = Deadline::new(0, 800);
        assert!(!deadline.wants_food(0));
        assert!(!deadline.wants_food(100));
        assert!(deadline.wants_food(101));
        assert!(deadline.wants_food(900));
    }
}
