//! Reset, enable and disable of a core, by the registers that every core has.
//!
//! Follows: the sequences of public drivers; where those of Linux and of Broadcom differ, the longer wait is taken.
//! Each write of TMSLOW is read back and followed by 1 µs: without that a machine check is possible.

use super::regs::{
    IDLOW, IDLOW_INITIATOR, IMSTATE, IMSTATE_BUSY, IMSTATE_IN_BAND_ERROR, IMSTATE_REJECT,
    IMSTATE_TIMEOUT, TMSHIGH, TMSHIGH_BUSY, TMSHIGH_SERR, TMSLOW, TMSLOW_CLOCK, TMSLOW_FORCE_CLOCK,
    TMSLOW_REJECT, TMSLOW_REJECT_23, TMSLOW_RESET,
};
use crate::arch::time::{Delay, wait_until};
use crate::mmio::Regs;

/// Pause between two looks at a bit, µs.
const LOOK_US: u32 = 10;
/// Looks at a bit: 10 ms in all.
const LOOKS: u32 = 1000;

/// Which bit of a core did not move in its time. Whatever it is, the core was left in reset if it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Stuck {
    /// It does not reject requests.
    Reject,
    /// Requests to it do not end.
    Busy,
    /// Its own requests do not end.
    Initiator,
    /// It does not go into reset.
    Reset,
    /// It does not come out of reset.
    Up {
        /// TMSLOW as read.
        found: u32,
    },
}

/// Whether the core runs: clock on, neither in reset nor rejecting.
pub fn is_up<R: Regs>(regs: &mut R) -> bool {
    let reject = reject_bit(regs);
    let mask = TMSLOW_CLOCK | TMSLOW_RESET | reject;
    regs.read32(TMSLOW) & mask == TMSLOW_CLOCK
}

/// Stops the core and leaves it in reset.
///
/// # Errors
/// [`Stuck`]; the core is put into reset all the same, so that another try begins from there.
pub fn disable<R: Regs, W: Delay>(regs: &mut R, delay: &mut W, flags: u32) -> Result<(), Stuck> {
    let low = regs.read32(TMSLOW);
    if low & TMSLOW_RESET != 0 && low != u32::MAX {
        return Ok(());
    }
    let reject = reject_bit(regs);
    let mut result = Ok(());
    if low & TMSLOW_CLOCK != 0 {
        write_low(regs, delay, reject | TMSLOW_CLOCK);
        result = quiesce(regs, delay, reject);
        let is_initiator = regs.read32(IDLOW) & IDLOW_INITIATOR != 0;
        if is_initiator {
            let state = regs.read32(IMSTATE);
            regs.write32(IMSTATE, state | IMSTATE_REJECT);
            let quiet = wait_until(delay, LOOK_US, LOOKS, || {
                regs.read32(IMSTATE) & IMSTATE_BUSY == 0
            });
            result = result.and(if quiet { Ok(()) } else { Err(Stuck::Initiator) });
        }
        let stop = TMSLOW_FORCE_CLOCK | TMSLOW_CLOCK | reject | TMSLOW_RESET | flags;
        write_low(regs, delay, stop);
        delay.us(LOOK_US);
        if is_initiator {
            let state = regs.read32(IMSTATE);
            regs.write32(IMSTATE, state & !IMSTATE_REJECT);
        }
    }
    write_low(regs, delay, reject | TMSLOW_RESET | flags);
    let low = regs.read32(TMSLOW);
    if low & TMSLOW_RESET == 0 || low == u32::MAX {
        return Err(Stuck::Reset);
    }
    result
}

/// Waits until nothing is under way to the core.
fn quiesce<R: Regs, W: Delay>(regs: &mut R, delay: &mut W, reject: u32) -> Result<(), Stuck> {
    if !wait_until(delay, LOOK_US, LOOKS, || regs.read32(TMSLOW) & reject != 0) {
        return Err(Stuck::Reject);
    }
    if !wait_until(delay, LOOK_US, LOOKS, || {
        regs.read32(TMSHIGH) & TMSHIGH_BUSY == 0
    }) {
        return Err(Stuck::Busy);
    }
    Ok(())
}

/// Resets the core and starts it, with its own `flags` of TMSLOW.
///
/// # Errors
/// [`Stuck`]; when it was only slow to stop, another call finds it in reset and goes on from there.
pub fn enable<R: Regs, W: Delay>(regs: &mut R, delay: &mut W, flags: u32) -> Result<(), Stuck> {
    disable(regs, delay, flags)?;
    let clock = TMSLOW_CLOCK | TMSLOW_FORCE_CLOCK;
    write_low(regs, delay, TMSLOW_RESET | clock | flags);
    // Errors of the past would be reported as if they were new.
    if regs.read32(TMSHIGH) & TMSHIGH_SERR != 0 {
        regs.write32(TMSHIGH, 0);
    }
    let errors = IMSTATE_IN_BAND_ERROR | IMSTATE_TIMEOUT;
    let state = regs.read32(IMSTATE);
    if state & errors != 0 {
        regs.write32(IMSTATE, state & !errors);
    }
    write_low(regs, delay, clock | flags);
    write_low(regs, delay, TMSLOW_CLOCK | flags);
    if is_up(regs) {
        Ok(())
    } else {
        let found = regs.read32(TMSLOW);
        Err(Stuck::Up { found })
    }
}

fn write_low<R: Regs, W: Delay>(regs: &mut R, delay: &mut W, value: u32) {
    regs.write32(TMSLOW, value);
    regs.read32(TMSLOW);
    delay.us(1);
}

/// The bit that makes a core reject requests: it moved in backplane 2.3 and moved back.
fn reject_bit<R: Regs>(regs: &mut R) -> u32 {
    match regs.read32(IDLOW) >> 28 {
        1 => TMSLOW_REJECT_23,
        // 5 and 7 are a guess of Linux's; Broadcom's own code takes bit 2 for all but 0.
        _ => TMSLOW_REJECT,
    }
}
