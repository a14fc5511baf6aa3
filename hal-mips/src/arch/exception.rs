//! Exception vectors, the one interrupt handler, and what happens in a crash.
//!
//! Follows: MIPS32 volume III (release 1), chapter 6: with `Status.BEV`=0 the vectors are TLB refill
//! 0x80000000, cache error 0xa0000100, everything else 0x80000180.
//!
//! An interrupt inside `hal_sleep` (`cp0.rs`) only wakes: its handler returns behind the `wait` with interrupts off.
//! Elsewhere none but the watchdog's timer can come (`watchdog.rs`), and that is a crash like all the rest: registers
//! to a static frame, a stack of its own (the old one may be what broke), a report on the console, a record in
//! kept memory, reset.
//!
//! Errata of the BMIPS3300: a vector's first instruction must not read coprocessor 0 (the stubs begin with `la`), and two
//! `nop`s stand before `eret`.

use core::arch::global_asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use super::cell::MainCell;
use super::keep::{self, Reason};
use super::{cache, cp0, stack, time};

global_asm!(
    r#"
    .set push
    .set noreorder
    .set noat
    .section .text.hal_vectors, "ax", @progbits
    .balign 16

    .globl hal_stub_general
hal_stub_general:                    # copied to 0x80000180
    la      $k0, hal_general
    jr      $k0
     nop
    .globl hal_stub_crash
hal_stub_crash:                      # copied to 0x80000000 (TLB refill)
    la      $k0, hal_crash
    jr      $k0
     nop
    .globl hal_stub_cache_error
hal_stub_cache_error:                # copied to 0x80000100, fetched uncached: stays uncached
    la      $k0, hal_crash
    lui     $k1, 0x2000
    or      $k0, $k0, $k1
    jr      $k0
     nop
    .globl hal_stub_end
hal_stub_end:

    .section .text.hot.hal_general, "ax", @progbits
    .globl hal_general
hal_general:
    mfc0    $k0, $13
    andi    $k0, $k0, 0x7c
    bnez    $k0, hal_crash           # not an interrupt
     mfc0   $k0, $14
    la      $k1, hal_sleep_begin
    subu    $k0, $k0, $k1
    sltiu   $k0, $k0, hal_sleep_end - hal_sleep_begin + 4
    beqz    $k0, hal_crash           # outside the sleep: the watchdog's, or one that cannot be
     nop
    la      $k1, hal_sleep_end
    mtc0    $k1, $14
    mfc0    $k0, $12
    ori     $k0, $k0, 1
    xori    $k0, $k0, 1
    mtc0    $k0, $12
    ssnop
    ssnop
    ssnop
    nop                              # BMIPS3300: two before each eret
    nop
    eret

    .section .text.hal_crash, "ax", @progbits
hal_crash:
    la      $k0, hal_crash_frame
    sw      $1, 4($k0)
    sw      $2, 8($k0)
    sw      $3, 12($k0)
    sw      $4, 16($k0)
    sw      $5, 20($k0)
    sw      $6, 24($k0)
    sw      $7, 28($k0)
    sw      $8, 32($k0)
    sw      $9, 36($k0)
    sw      $10, 40($k0)
    sw      $11, 44($k0)
    sw      $12, 48($k0)
    sw      $13, 52($k0)
    sw      $14, 56($k0)
    sw      $15, 60($k0)
    sw      $16, 64($k0)
    sw      $17, 68($k0)
    sw      $18, 72($k0)
    sw      $19, 76($k0)
    sw      $20, 80($k0)
    sw      $21, 84($k0)
    sw      $22, 88($k0)
    sw      $23, 92($k0)
    sw      $24, 96($k0)
    sw      $25, 100($k0)
    sw      $28, 112($k0)
    sw      $29, 116($k0)
    sw      $30, 120($k0)
    sw      $31, 124($k0)
    mfhi    $8
    mflo    $9
    sw      $8, 128($k0)
    sw      $9, 132($k0)
    mfc0    $8, $12
    mfc0    $9, $13
    mfc0    $10, $14
    mfc0    $11, $8
    mfc0    $12, $30
    sw      $8, 136($k0)
    sw      $9, 140($k0)
    sw      $10, 144($k0)
    sw      $11, 148($k0)
    sw      $12, 152($k0)
    move    $a0, $k0
    la      $sp, hal_crash_stack + 8192 - 32
    mtc0    $zero, $12               # EXL, ERL off: a second exception comes back here with a true EPC
    ssnop
    ssnop
    ssnop
    la      $t9, hal_exception
    jr      $t9
     nop

    .section .bss.hal_crash_frame, "aw", @nobits
    .balign 16
hal_crash_frame:
    .space 160
hal_crash_stack:
    .space 8192
    .set pop
"#
);

unsafe extern "C" {
    static hal_stub_general: u8;
    static hal_stub_crash: u8;
    static hal_stub_cache_error: u8;
    static hal_stub_end: u8;
}

const TLB_REFILL: usize = 0x8000_0000;
const CACHE_ERROR: usize = 0x8000_0100;
const GENERAL: usize = 0x8000_0180;

/// Copies the vector stubs to where the processor looks for them, and clears `Status.BEV`.
pub(super) fn install_vectors() {
    cache::init();
    let copy = |stub: usize, next: usize, vector: usize| {
        for offset in (0..next - stub).step_by(4) {
            // SAFETY: stubs are words of text; the page from 0x80000000 is RAM that link.x gives to vectors alone.
            unsafe {
                ((vector + offset) as *mut u32)
                    .write_volatile(((stub + offset) as *const u32).read())
            };
        }
        cache::synchronise_code(vector, next - stub);
    };
    let [general, crash, cache_error, end] = [
        &raw const hal_stub_general,
        &raw const hal_stub_crash,
        &raw const hal_stub_cache_error,
        &raw const hal_stub_end,
    ]
    .map(|symbol| symbol as usize);
    copy(general, crash, GENERAL);
    copy(crash, cache_error, TLB_REFILL);
    copy(cache_error, end, CACHE_ERROR);
    cp0::clear_boot_vectors();
}

/// What the board gives to the crash path.
#[derive(Clone, Copy)]
pub struct CrashHooks {
    /// Writes one byte on the console and waits, bounded, until there is room for the next.
    pub put: fn(u8),
    /// Sends what the log still holds; bounded.
    pub flush_log: fn(),
    /// Resets the machine.
    pub reset: fn() -> !,
}

static HOOKS: MainCell<Option<CrashHooks>> = MainCell::new(None);
static CRASHING: MainCell<u32> = MainCell::new(0);

/// Sets the board's hooks; before this call a crash is silent and stops the processor.
pub fn set_crash_hooks(hooks: CrashHooks) {
    // `with` cannot fail here: only the crash path could be inside, and it does not return.
    HOOKS.with(|slot| *slot = Some(hooks));
}

/// Resets by request, saying so in kept memory.
pub fn reset(reason: Reason) -> ! {
    let mut record = keep::current();
    record.set_reason(reason);
    keep::store(&mut record);
    finish()
}

fn finish() -> ! {
    if let Some(Some(hooks)) = HOOKS.with(|slot| *slot) {
        (hooks.flush_log)();
        (hooks.reset)()
    }
    loop {
        core::hint::spin_loop();
    }
}

/// Registers at the moment of an exception; the layout is that of the assembler above.
#[repr(C)]
struct Frame {
    general: [u32; 32],
    hi: u32,
    lo: u32,
    status: u32,
    cause: u32,
    epc: u32,
    bad_address: u32,
    error_epc: u32,
}

const REGISTERS: [&str; 32] = [
    "zero", "at", "v0", "v1", "a0", "a1", "a2", "a3", "t0", "t1", "t2", "t3", "t4", "t5", "t6",
    "t7", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "t8", "t9", "k0", "k1", "gp", "sp", "fp",
    "ra",
];

fn cause_text(code: u32) -> &'static str {
    match code {
        0 => "interrupt outside sleep",
        1 => "TLB modified",
        2 => "TLB miss on load or fetch",
        3 => "TLB miss on store",
        4 => "address error on load or fetch",
        5 => "address error on store",
        6 => "bus error on fetch",
        7 => "bus error on data",
        8 => "syscall",
        9 => "breakpoint",
        10 => "reserved instruction",
        11 => "coprocessor unusable",
        12 => "overflow",
        13 => "trap",
        23 => "watchpoint",
        24 => "machine check",
        30 => "cache error",
        _ => "unknown cause",
    }
}

/// Writes straight to the console's registers.
struct Raw(fn(u8));

impl fmt::Write for Raw {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                (self.0)(b'\r');
            }
            (self.0)(byte);
        }
        Ok(())
    }
}

/// The report's common frame: guards against a crash inside a crash, then writes `body`, the last lines, and resets.
fn report(title: &str, body: impl FnOnce(&mut Raw) -> fmt::Result) -> ! {
    // SAFETY: whoever was inside the cell has crashed and never runs again.
    let nested = unsafe {
        CRASHING.seize(|depth| {
            *depth += 1;
            *depth
        })
    };
    if nested > 1 {
        finish();
    }
    // SAFETY: as above.
    if let Some(hooks) = unsafe { HOOKS.seize(|slot| *slot) } {
        let mut out = Raw(hooks.put);
        let now = time::micros();
        // The console is all there is to report to: an error of it has no second place to go.
        let _written: fmt::Result = writeln!(
            out,
            "\n*** {title}, {}.{:06} s after boot",
            now / 1_000_000,
            now % 1_000_000
        )
        .and_then(|()| body(&mut out))
        .and_then(|()| writeln!(out, "    last lines:"));
        let mut line_start = true;
        keep::each_text(768, |byte| {
            if line_start && byte != b'\n' {
                (hooks.put)(b'|');
            }
            line_start = byte == b'\n';
            (hooks.put)(byte);
        });
        let _written: fmt::Result = writeln!(out, "\n*** resetting");
    }
    finish()
}

fn record(reason: Reason, epc: u32, cause: u32, bad_address: u32, message: fmt::Arguments<'_>) {
    let mut record = keep::current();
    record.set_reason(reason);
    record.crashes = record.crashes.wrapping_add(1);
    record.epc = epc;
    record.cause = cause;
    record.bad_address = bad_address;
    // Writing into the record cannot fail; what does not fit is cut.
    let _written: fmt::Result = record.write_fmt(message);
    keep::store(&mut record);
}

/// The main loop did not come round: where it was is all there is to tell.
fn watchdog_expired(frame: &Frame) -> ! {
    let caller = frame.general[31];
    record(
        Reason::Watchdog,
        frame.epc,
        frame.cause,
        0,
        // Short: the log keeps little of it.
        format_args!("stuck at {:08x}, called from {caller:08x}", frame.epc),
    );
    report("watchdog", |out| {
        writeln!(
            out,
            "    the main loop is stuck at {:08x}, called from {caller:08x}, stack {:08x}",
            frame.epc, frame.general[29]
        )
    })
}

#[unsafe(no_mangle)]
extern "C" fn hal_exception(frame: &Frame) -> ! {
    let code = frame.cause >> 2 & 31;
    if code == 0 && frame.cause & frame.status & cp0::IM_TIMER != 0 {
        watchdog_expired(frame)
    }
    let text = if (2..=3).contains(&code) && stack::is_guard(frame.bad_address as usize) {
        "the stack ran over"
    } else {
        cause_text(code)
    };
    record(
        Reason::Exception,
        frame.epc,
        frame.cause,
        frame.bad_address,
        format_args!("{text}"),
    );
    report("exception", |out| {
        writeln!(out, "    {text} (code {code})")?;
        writeln!(
            out,
            "    epc {:08x}  badvaddr {:08x}  status {:08x}  cause {:08x}",
            frame.epc, frame.bad_address, frame.status, frame.cause
        )?;
        writeln!(
            out,
            "    errorepc {:08x}  hi {:08x}  lo {:08x}",
            frame.error_epc, frame.hi, frame.lo
        )?;
        for (row, names) in REGISTERS.chunks(4).enumerate() {
            write!(out, "   ")?;
            for (column, name) in names.iter().enumerate() {
                write!(out, " {name:>4} {:08x}", frame.general[row * 4 + column])?;
            }
            writeln!(out)?;
        }
        Ok(())
    })
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // The report has its own bounds; a watchdog that expires in it would tell of itself instead.
    cp0::disable_interrupts();
    match info.location() {
        Some(place) => {
            record(
                Reason::Panic,
                0,
                0,
                0,
                format_args!("{} at {}:{}", info.message(), place.file(), place.line()),
            );
        }
        None => record(Reason::Panic, 0, 0, 0, format_args!("{}", info.message())),
    }
    report("panic", |out| match info.location() {
        Some(place) => writeln!(
            out,
            "    {} at {}:{}:{}",
            info.message(),
            place.file(),
            place.line(),
            place.column()
        ),
        None => writeln!(out, "    {}", info.message()),
    })
}
