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

/// Timer ticks of one measurement: about 10 ms.
const SPAN: u32 = 12_000;
/// Looks at the timer in one measurement before it is given up; each takes well over 1 us.
const LOOKS_MAX: u32 = 50_000;
/// Measurements made before giving up: under a second in all.
const MEASUREMENTS_MAX: usize = 64;
/// Two measurements agree when they differ by less than this part.
const AGREEMENT: u32 = 2_000;

const CONTROL: usize = 3;

/// Measures how fast `count` runs, Hz; `None` when the timer stands still or no two measurements agree.
///
/// On a shared host the emulator may be stopped at any place, so one measurement proves nothing: a stop within a look
/// shifts the two counters against each other, and a stop of 55 ms hides a whole turn of the timer. Both are
/// irregular; the first two measurements that agree are believed.
pub fn measure<R: Regs>(regs: &mut R, mut count: impl FnMut() -> u32) -> Option<u32> {
    regs.write8(CONTROL, 0x34); // counter 0, low then high byte, mode 2, binary
    regs.write8(0, 0);
    regs.write8(0, 0); // reload 65536
    let mut found: heapless::Vec<u32, MEASUREMENTS_MAX> = heapless::Vec::new();
    while !found.is_full() {
        let hertz = once(regs, &mut count)?;
        let like = |other: &&u32| other.abs_diff(hertz) < hertz / AGREEMENT;
        if let Some(other) = found.iter().find(like) {
            return Some(hertz.midpoint(*other))
                .filter(|hertz| (10_000_000..1_000_000_000).contains(hertz));
        }
        found.push(hertz).ok()?;
    }
    None
}

/// Fills `out` with readings of `count` between accesses to this slow device, each mixed with the timer's own phase:
/// two clocks of different origin drift against each other, and no access takes twice the same time.
pub fn jitter<R: Regs>(regs: &mut R, mut count: impl FnMut() -> u32, out: &mut [u32]) {
    for reading in out {
        let (value, before) = look(regs, &mut count);
        *reading = before ^ u32::from(value) << 16;
    }
}

/// Timer value, and Count when it was latched.
fn look<R: Regs>(regs: &mut R, count: &mut impl FnMut() -> u32) -> (u16, u32) {
    let before = count();
    regs.write8(CONTROL, 0); // latch counter 0
    (u16::from_le_bytes([regs.read8(0), regs.read8(0)]), before)
}

/// One measurement; `None` when the timer does not move.
fn once<R: Regs>(regs: &mut R, count: &mut impl FnMut() -> u32) -> Option<u32> {
    let (mut last, start) = look(regs, count);
    let mut passed = 0u32;
    for _ in 0..LOOKS_MAX {
        let (value, now) = look(regs, count);
        passed += u32::from(last.wrapping_sub(value)); // it counts down
        last = value;
        if passed >= SPAN {
            let hertz =
                u64::from(now.wrapping_sub(start)) * u64::from(TIMER_HERTZ) / u64::from(passed);
            return Some(u32::try_from(hertz).unwrap_or(u32::MAX));
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
            // at all phases, 3 ms now and then, and sometimes longer than the timer's turn
            match calls {
                calls if calls.is_multiple_of(9_973) => 70_000_000,
                calls if calls.is_multiple_of(997) => 3_000_000,
                _ => 0,
            }
        };
        let found = u64::from(run(166_666_667, true, stall).unwrap());
        assert!(found.abs_diff(166_666_667) < 200_000, "{found}");
    }

    #[test]
    fn s9_a_timer_that_stands_still_is_told_and_not_waited_for() {
        assert_eq!(run(100_000_000, false, || 0), None);
    }
}
