//! Coprocessor 0 registers, and sleeping until an interrupt.
//!
//! Board interrupts are masked all the time but inside [`sleep`]: they wake, they do not run anything. The timer alone may
//! interrupt elsewhere, and then it is the watchdog's ([`watch`]): it does not return.
//! Hazards are covered by three `ssnop`s, as the 4K cores ask for; release 1 has no `ehb`.

use core::arch::{asm, global_asm};

/// `Status.IM2`: the board's interrupt controller.
pub const IM_BOARD: u32 = 1 << 10;
/// `Status.IM7`: the Count/Compare timer.
pub const IM_TIMER: u32 = 1 << 15;

macro_rules! read {
    ($(#[$doc:meta])* $name:ident, $register:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() -> u32 {
            let value: u32;
            // SAFETY: reads one CP0 register; no memory, no side effect.
            unsafe { asm!(".set noat", concat!("mfc0 {}, $", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    };
}

read!(
    /// Free-running counter, ticks.
    count, "9"
);
read!(
    /// Status register.
    status, "12"
);
read!(
    /// Cause of the last exception, and pending interrupts.
    cause, "13"
);
read!(
    /// Processor identification.
    prid, "15"
);
read!(
    /// Second configuration register: the caches' shapes.
    config1, "16, 1"
);

/// Sets Compare, ticks, which also clears a pending timer interrupt.
#[inline(always)]
pub fn set_compare(ticks: u32) {
    // SAFETY: only moves the next timer interrupt.
    unsafe {
        asm!(".set noat", "mtc0 {}, $11", "ssnop", "ssnop", "ssnop", in(reg) ticks, options(nomem, nostack, preserves_flags))
    };
}

/// Chooses the interrupts that end the next [`sleep`], and takes none before it: `IE` becomes 0.
#[inline(always)]
pub fn set_wake_mask(mask: u32) {
    set_status((status() & !(MASKS | IE)) | (mask & MASKS));
}

/// Lets the timer alone interrupt whatever runs: Compare is the watchdog's deadline from here on.
#[inline(always)]
pub(super) fn watch() {
    set_status((status() & !MASKS) | IM_TIMER | IE);
}

/// Takes no interrupt any more.
pub(super) fn disable_interrupts() {
    set_status(status() & !IE);
}

/// `Status.IE`.
const IE: u32 = 1;
/// `Status.IM`, all of it.
const MASKS: u32 = 0xff00;

#[inline(always)]
fn set_status(value: u32) {
    // SAFETY: the callers change IE and IM alone; no interrupt handler returns to code outside `hal_sleep`.
    unsafe {
        asm!(".set noat", "mtc0 {}, $12", "ssnop", "ssnop", "ssnop", in(reg) value, options(nostack, preserves_flags))
    };
}

/// Clears `Status.BEV`: exceptions go to the vectors in RAM from now on.
pub(super) fn clear_boot_vectors() {
    let value = status() & !(1 << 22);
    // SAFETY: called right after the vectors were written and made visible to fetch.
    unsafe {
        asm!(".set noat", "mtc0 {}, $12", "ssnop", "ssnop", "ssnop", in(reg) value, options(nomem, nostack, preserves_flags))
    };
}

/// Whether an interrupt of `mask` is pending.
#[inline(always)]
pub fn pending(mask: u32) -> bool {
    cause() & mask != 0
}

global_asm!(
    r#"
    .set push
    .set noreorder
    .set noat
    .section .text.hot.hal_sleep, "ax", @progbits
    .globl hal_sleep
    .globl hal_sleep_begin
    .globl hal_sleep_end
    .type hal_sleep, @function
hal_sleep:
    mfc0    $t0, $12
    ori     $t1, $t0, 1
hal_sleep_begin:
    mtc0    $t1, $12
    ssnop
    ssnop
    ssnop
    wait
    nop
    mtc0    $t0, $12
    ssnop
    ssnop
    ssnop
hal_sleep_end:
    jr      $ra
     nop
    .size hal_sleep, . - hal_sleep
    .set pop
"#
);

unsafe extern "C" {
    fn hal_sleep();
}

/// Sleeps until an interrupt of the wake mask is pending; returns at once if one already is.
///
/// No wake-up is lost: a handler that interrupts anywhere between enabling and `wait` returns
/// behind the `wait` (see `exception.rs`), with interrupts disabled again. It neither masks nor
/// acknowledges: the device stays pending for the main loop.
pub fn sleep() {
    // SAFETY: vectors are installed before `main`; the only interrupt handler leaves all state but k0, k1, EPC and IE.
    unsafe { hal_sleep() }
}
