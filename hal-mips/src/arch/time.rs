//! Microseconds since boot, from the 32-bit CP0 Count.
//!
//! [`Extender`] is the arithmetic, pure and tested on the host; [`micros`] applies it to the real register.
//! Units: ticks of Count; µs. Invariants: I1 the result never goes back.
//! The register must be read at least once per wrap (2^32 ticks: 25 s at 167 MHz); the main loop never sleeps longer than
//! [`SLEEP_US_MAX`].

/// Longest sleep that keeps the extension sound up to 400 MHz of Count, µs.
pub const SLEEP_US_MAX: u32 = 4_000_000;

/// Waits for a device that is slow by nature.
pub trait Delay {
    /// Waits at least `micros`.
    fn us(&mut self, micros: u32);
}

/// Looks until `is_done`, `step_us` between two looks, `looks` at most; whether it was.
pub(crate) fn wait_until<W: Delay>(
    delay: &mut W,
    step_us: u32,
    looks: u32,
    mut is_done: impl FnMut() -> bool,
) -> bool {
    for look in 0..looks {
        if look != 0 {
            delay.us(step_us);
        }
        if is_done() {
            return true;
        }
    }
    false
}

/// Extends a wrapping 32-bit tick counter to µs.
#[derive(Clone, Copy, Debug)]
pub struct Extender {
    last: u32,
    /// µs a tick, as a fraction of 2^32.
    scale: u32,
    /// Ticks a µs, in 2^-16, rounded up.
    reverse: u32,
    /// Fraction of a µs not yet counted, in 2^-32 µs.
    fraction: u32,
    micros: u64,
}

impl Extender {
    /// Starts at 0 µs when the counter shows `count`, running at `hertz` (2 MHz to 1 GHz).
    pub const fn new(count: u32, hertz: u32) -> Self {
        Self {
            last: count,
            scale: scale(hertz),
            reverse: reverse(hertz),
            fraction: 0,
            micros: 0,
        }
    }

    /// Changes the rate; what has passed stays as counted.
    pub const fn set_rate(&mut self, hertz: u32) {
        self.scale = scale(hertz);
        self.reverse = reverse(hertz);
    }

    /// µs since the start, given the counter's value now.
    #[inline]
    pub const fn advance(&mut self, count: u32) -> u64 {
        let ticks = count.wrapping_sub(self.last);
        self.last = count;
        let passed = ticks as u64 * self.scale as u64 + self.fraction as u64;
        self.fraction = passed as u32;
        self.micros += passed >> 32;
        self.micros
    }

    /// Ticks that `micros` take, rounded up, for setting a compare register; saturates at `i32::MAX`.
    #[inline]
    pub fn ticks(&self, micros: u32) -> u32 {
        let ticks = ((u64::from(micros) * u64::from(self.reverse)) >> 16) + 1;
        u32::try_from(ticks)
            .unwrap_or(u32::MAX)
            .min(i32::MAX as u32)
    }
}

const fn reverse(hertz: u32) -> u32 {
    // 2^16 ticks a us would be 65 GHz.
    (((hertz as u64) << 16) / 1_000_000) as u32 + 1
}

const fn scale(hertz: u32) -> u32 {
    // Below 1 MHz the fraction would not fit; no such processor is supported.
    let hertz = if hertz < 2_000_000 { 2_000_000 } else { hertz };
    ((1_000_000u64 << 32) / hertz as u64) as u32
}

#[cfg(target_arch = "mips")]
mod clock {
    use super::Extender;
    use crate::arch::cell::MainCell;
    use crate::arch::{cp0, watchdog};

    /// Assumed until [`set_rate`]: Count of a 200 MHz core.
    const HERTZ_ASSUMED: u32 = 100_000_000;

    static CLOCK: MainCell<Extender> = MainCell::new(Extender::new(0, HERTZ_ASSUMED));

    /// Tells the measured rate of Count, in Hz.
    pub fn set_rate(hertz: u32) {
        CLOCK.with(|clock| {
            clock.advance(cp0::count());
            clock.set_rate(hertz);
        });
    }

    /// µs since boot.
    #[inline]
    pub fn micros() -> u64 {
        // `None` only in a crash inside this very function: then 0 is as good as any time.
        CLOCK.with(|clock| clock.advance(cp0::count())).unwrap_or(0)
    }

    /// Waits by counting; for waits much shorter than a watchdog's time.
    #[derive(Clone, Copy, Debug)]
    pub struct Spin;

    impl super::Delay for Spin {
        fn us(&mut self, micros: u32) {
            // `None` only in a crash inside `micros`.
            let ticks = ticks(micros).unwrap_or(0);
            let start = cp0::count();
            while cp0::count().wrapping_sub(start) < ticks {}
        }
    }

    /// Ticks of Count that `micros` take, rounded up.
    pub(in crate::arch) fn ticks(micros: u32) -> Option<u32> {
        CLOCK.with(|clock| clock.ticks(micros))
    }

    /// Sleeps until an interrupt of the board, or `micros` have passed; at most [`SLEEP_US_MAX`](super::SLEEP_US_MAX).
    ///
    /// A watchdog that runs goes on counting and may end the sleep early, but never resets the machine in it: its
    /// deadline is put back in force, unchanged, before this returns.
    pub fn sleep(micros: u32) {
        let Some(ticks) = ticks(micros.min(super::SLEEP_US_MAX)) else {
            return;
        };
        // From here to the watchdog's return the timer is the sleep's; nothing in between waits for anything else.
        cp0::set_wake_mask(cp0::IM_BOARD | cp0::IM_TIMER);
        let now = cp0::count();
        let target = now.wrapping_add(watchdog::earlier(now, ticks));
        cp0::set_compare(target);
        // Compare matches on equality: if Count has run past it meanwhile, the interrupt is a whole wrap away.
        if (target.wrapping_sub(cp0::count()) as i32) > 0 {
            cp0::sleep();
        }
        // A pending timer interrupt must not cut the next sleep short.
        cp0::set_compare(cp0::count().wrapping_sub(1));
        watchdog::resume();
    }
}

#[cfg(target_arch = "mips")]
pub(super) use clock::ticks;
#[cfg(target_arch = "mips")]
pub use clock::{Spin, micros, set_rate, sleep};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_over_the_wrap_of_the_counter() {
        let mut clock = Extender::new(u32::MAX - 99, 100_000_000);
        assert_eq!(clock.advance(u32::MAX - 99), 0);
        // 200 ticks at 100 MHz are 2 us, half of them behind the wrap; the scale is rounded down by at most 2^-32.
        assert_eq!(clock.advance(101), 2);
    }

    #[test]
    fn short_steps_lose_nothing() {
        let mut fine = Extender::new(0, 166_666_667);
        let mut coarse = fine;
        let mut count = 0u32;
        let mut last = 0;
        for _ in 0..1_000_000 {
            count = count.wrapping_add(7);
            last = fine.advance(count);
        }
        assert_eq!(last, coarse.advance(count));
        assert_eq!(last, 7_000_000_000 / 166_667);
    }

    #[test]
    fn a_day_of_polling_is_right_to_four_milliseconds() {
        let mut clock = Extender::new(0, 200_000_000);
        let mut count = 0u32;
        for _ in 0..86_400 / 10 {
            count = count.wrapping_add(2_000_000_000);
            clock.advance(count);
        }
        let micros = clock.advance(count);
        assert!(micros.abs_diff(86_400_000_000) < 4_000, "{micros}");
    }

    #[test]
    fn s14_time_goes_on_evenly_over_2_31_and_2_32_ticks_at_every_phase() {
        // A step that is a whole number of us, read at the longest interval the main loop allows and across both marks.
        const STEP: u32 = 400_000_000; // 4 s at 100 MHz
        for start in [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX - STEP, u32::MAX] {
            let mut clock = Extender::new(start, 100_000_000);
            let mut count = start;
            let mut last = 0;
            for _ in 0..25 {
                count = count.wrapping_add(STEP);
                let now = clock.advance(count);
                let step = now - last;
                assert!((3_999_999..=4_000_000).contains(&step), "{start} {step}");
                last = now;
            }
        }
    }

    #[test]
    fn s14_a_year_of_wraps_passes_49_days_and_is_right_to_two_seconds() {
        // 4 s a reading; the scale is rounded by less than 2^-32 us a tick.
        const STEP: u32 = 800_000_000;
        let mut clock = Extender::new(0x8000_0000, 200_000_000);
        let mut count = 0x8000_0000u32;
        let mut last = 0;
        let readings = 365 * 86_400 / 4;
        for reading in 1..=readings as u64 {
            count = count.wrapping_add(STEP);
            let now = clock.advance(count);
            assert!(now > last, "reading {reading} went back");
            assert!(now.abs_diff(reading * 4_000_000) < 2_000_000, "{now}");
            last = now;
        }
        assert!(last > 1 << 44);
        assert!(i64::try_from(last).is_ok());
    }

    #[test]
    fn a_deadline_is_never_early_and_hardly_late() {
        for hertz in [100_000_000, 125_000_000, 160_000_000, 166_666_667] {
            for micros in [0, 1, 999, 10_000, SLEEP_US_MAX] {
                let mut clock = Extender::new(0, hertz);
                let late = clock
                    .advance(clock.ticks(micros))
                    .checked_sub(u64::from(micros));
                assert!(late.is_some_and(|late| late <= 2), "{hertz} {micros}");
            }
        }
    }
}
