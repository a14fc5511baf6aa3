//! The 8254 timer, as the yardstick for the processor's Count register.
//!
//! Follows: Intel 8254 data sheet 231164: counter 0 in mode 2, latched reads. Its clock is 1.193182 MHz on
//! every PC-like board. Why not a constant: QEMU's own Count runs at 166.67 MHz up to version 8, at
//! 160 MHz later, and a real 4Kc at half its core clock.
//!
//! Units: ticks of either counter; Hz.

use crate::mmio::Regs;

/// Clock of the 8254, Hz.
pub const TIMER_HERTZ: u32 = 1_193_182;

/// Timer ticks measured over: about 20 ms.
const SPAN: u32 = 24_000;
/// Longest accepted gap between two looks, timer ticks: below half of the 16-bit range, or a wrap could hide.
const GAP_MAX: u32 = 12_000;
/// Looks at the timer before giving up; each takes well over 1 us.
const LOOKS_MAX: u32 = 200_000;
const ATTEMPTS: u32 = 4;

const CONTROL: usize = 3;

/// Measures how fast `count` runs, Hz; `None` when the timer stands still or no attempt was undisturbed.
///
/// On a shared host the emulator may be stopped between any two looks; a pair whose gap in `count`
/// is more than 8 times the usual one does not end a measurement, and an attempt with a gap that could hide
/// a wrap is thrown away.
pub fn measure<R: Regs>(regs: &mut R, mut count: impl FnMut() -> u32) -> Option<u32> {
    regs.write8(CONTROL, 0x34); // counter 0, low then high byte, mode 2, binary
    regs.write8(0, 0);
    regs.write8(0, 0); // reload 65536
    (0..ATTEMPTS).find_map(|_| attempt(regs, &mut count))
}

/// Timer value and the Count before and after it was latched.
fn look<R: Regs>(regs: &mut R, count: &mut impl FnMut() -> u32) -> (u16, u32, u32) {
    let before = count();
    regs.write8(CONTROL, 0); // latch counter 0
    let after = count();
    let value = u16::from_le_bytes([regs.read8(0), regs.read8(0)]);
    (value, before, after)
}

fn attempt<R: Regs>(regs: &mut R, count: &mut impl FnMut() -> u32) -> Option<u32> {
    // The usual time a latch takes: the least of a few.
    let usual = (0..8)
        .map(|_| look(regs, count))
        .map(|(_, before, after)| after.wrapping_sub(before))
        .min()?
        .max(16);
    let (mut last, start) = (0..64)
        .map(|_| look(regs, count))
        .find(|(_, before, after)| after.wrapping_sub(*before) <= usual * 8)
        .map(|(value, before, _)| (value, before))?;
    let mut passed = 0u32;
    for _ in 0..LOOKS_MAX {
        let (value, before, after) = look(regs, count);
        let gap = u32::from(last.wrapping_sub(value)); // it counts down
        if gap > GAP_MAX {
            return None;
        }
        passed += gap;
        last = value;
        if passed >= SPAN && after.wrapping_sub(before) <= usual * 8 {
            let hertz =
                u64::from(before.wrapping_sub(start)) * u64::from(TIMER_HERTZ) / u64::from(passed);
            return u32::try_from(hertz)
                .ok()
                .filter(|hertz| (10_000_000..1_000_000_000).contains(hertz));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A timer and a Count of `hertz` that share one clock; each access takes 1 us, stalls come from `stall`.
    struct Model<'a> {
        nanos: &'a Cell<u64>,
        latched: u16,
        high: bool,
        stall: Box<dyn FnMut() -> u64>,
        runs: bool,
    }

    impl Regs for Model<'_> {
        fn read8(&mut self, _: usize) -> u8 {
            self.nanos.set(self.nanos.get() + 1_000 + (self.stall)());
            let byte = self.latched.to_le_bytes()[usize::from(self.high)];
            self.high = !self.high;
            byte
        }
        fn write8(&mut self, offset: usize, value: u8) {
            self.nanos.set(self.nanos.get() + 1_000 + (self.stall)());
            if offset == CONTROL && value == 0 && self.runs {
                let ticks = u128::from(self.nanos.get()) * u128::from(TIMER_HERTZ) / 1_000_000_000;
                self.latched = (ticks as u16).wrapping_neg();
                self.high = false;
            }
        }
        fn read32(&mut self, _: usize) -> u32 {
            0
        }
        fn write32(&mut self, _: usize, _: u32) {}
    }

    fn run(hertz: u64, runs: bool, stall: impl FnMut() -> u64 + 'static) -> Option<u32> {
        let nanos = Cell::new(5_000_000_000);
        let mut model = Model {
            nanos: &nanos,
            latched: 0,
            high: false,
            stall: Box::new(stall),
            runs,
        };
        measure(&mut model, || {
            (u128::from(nanos.get()) * u128::from(hertz) / 1_000_000_000) as u32
        })
    }

    #[test]
    fn the_rate_is_right_to_a_thousandth() {
        for hertz in [100_000_000, 160_000_000, 166_666_667] {
            let found = u64::from(run(hertz, true, || 0).unwrap());
            assert!(found.abs_diff(hertz) < hertz / 1000, "{found} for {hertz}");
        }
    }

    #[test]
    fn stalls_of_the_host_do_not_spoil_it() {
        let mut calls = 0u64;
        let stall = move || {
            calls += 1;
            // a stall of 3 ms now and then, at all phases
            if calls.is_multiple_of(997) {
                3_000_000
            } else {
                0
            }
        };
        let found = u64::from(run(166_666_667, true, stall).unwrap());
        assert!(found.abs_diff(166_666_667) < 200_000, "{found}");
    }

    #[test]
    fn a_timer_that_stands_still_is_told() {
        assert_eq!(run(100_000_000, false, || 0), None);
    }
}
