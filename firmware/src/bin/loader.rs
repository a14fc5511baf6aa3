//! The loader of the Malta board: chooses a slot of the flash, copies its image to RAM and starts it.
//!
//! It plays the part of a board's boot loader: QEMU starts it by `-kernel`, and it starts what `upgrade` wrote. It lies
//! above everything it loads (`firmware/build.rs`); when it has handed over, its memory is the image's. It says on
//! COM1 what it found. What it starts is the copy whose checksum was right, not what it read once before.
//!
//! With nothing to start it says so, waits [`PAUSE_S`] seconds and resets, for ever.
#![no_std]
#![no_main]

use core::fmt::{self, Write};

use firmware::crc::Crc32;
use firmware::store::{Layout, Range};
use firmware::upgrade::image::Board;
use firmware::upgrade::slot::{self, PAYLOAD_AT, SlotFault, SlotId, Standing};
use hal_mips::arch::boot::LoadArea;
use hal_mips::arch::{cp0, exception};
use hal_mips::mmio::{Mmio, Regs, malta};
use hal_mips::soc::uart::Uart;

/// Wait before the next try when there is nothing to start, s.
const PAUSE_S: u32 = 10;
/// Ticks of the processor's counter in a second on this board; only the length of a pause hangs on it.
const COUNT_HZ: u32 = 100_000_000;
/// Puts a flash of the Intel command set back into reading, whatever it was left in.
const READ_ARRAY: u32 = 0xffff_ffff;
/// Programs the next word written (Intel's common flash interface, two 16-bit chips side by side).
const PROGRAM_WORD: u32 = 0x0040_0040;
/// Forgets an error of the last operation.
const CLEAR_STATUS: u32 = 0x0050_0050;
/// Status: both chips are ready.
const READY: u32 = 0x0080_0080;
/// Looks at the status before a word counts as not programmed: a word takes up to 0.2 ms, a look some 0.2 us.
const PROGRAM_LOOKS: u32 = 10_000;

hal_mips::entry!(main);

fn main() -> ! {
    exception::set_crash_hooks(exception::CrashHooks {
        put,
        flush_log: || {},
        reset: malta::reset,
    });
    let mut out = Out;
    say(
        &mut out,
        format_args!("\nTandem loader {}", env!("CARGO_PKG_VERSION")),
    );
    // Both are there once, and this is the only place that takes them.
    if let (Some(area), Some(blocks)) = (LoadArea::take(), malta::Blocks::take()) {
        boot(&mut out, blocks.flash, area);
    }
    say(
        &mut out,
        format_args!("nothing to start; reset in {PAUSE_S} s"),
    );
    for _ in 0..PAUSE_S {
        let start = cp0::count();
        while cp0::count().wrapping_sub(start) < COUNT_HZ {}
    }
    malta::reset()
}

/// Starts the best slot; comes back when none can be.
fn boot(out: &mut Out, mut flash: Mmio, mut area: LoadArea) {
    flash.write32(0, READ_ARRAY);
    let slots = SlotId::ALL.map(|id| {
        let mut start = [0; PAYLOAD_AT];
        let Range { start: first, end } = Layout::MALTA.images[id.index()];
        read(&mut flash, first, &mut start);
        let found = slot::examine(&start, Board::MALTA, (end - first) as usize);
        tell(out, id, &found);
        found.ok()
    });
    for id in slot::order(&slots).into_iter().flatten() {
        let Some(standing) = slots[id.index()] else {
            continue;
        };
        let first = Layout::MALTA.images[id.index()].start;
        let header = standing.header;
        let (load, length) = (header.load as usize, header.length as usize);
        // `examine` saw to it that it fits.
        let Some(bytes) = area.bytes(load, length) else {
            continue;
        };
        read(&mut flash, first + PAYLOAD_AT as u32, bytes);
        if Crc32::of(bytes) != header.payload_crc {
            say(
                out,
                format_args!("slot {id}: checksum of the image is wrong"),
            );
            continue;
        }
        if let Some(mark) = standing.next_trial() {
            clear_word(&mut flash, first as usize + mark);
        }
        say(out, format_args!("starting slot {id}"));
        area = area.start(load, length, header.entry as usize, id.index());
    }
}

/// Clears a word of the flash: marks a trial. One that does not take is a trial too many, and no reason not to start.
fn clear_word(flash: &mut Mmio, at: usize) {
    flash.write32(at, PROGRAM_WORD);
    flash.write32(at, 0);
    let is_ready = |status: u32| status & READY == READY;
    let _in_time = (0..PROGRAM_LOOKS).any(|_| is_ready(flash.read32(at)));
    flash.write32(at, CLEAR_STATUS);
    flash.write32(at, READ_ARRAY);
}

/// Copies from the flash, a word at a time; a last word is cut.
fn read(flash: &mut Mmio, from: u32, out: &mut [u8]) {
    for (index, word) in out.chunks_mut(4).enumerate() {
        let bytes = flash.read32(from as usize + 4 * index).to_le_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
}

fn tell(out: &mut Out, id: SlotId, found: &Result<Standing, SlotFault>) {
    match found {
        Ok(Standing {
            header,
            generation,
            trials_left,
            confirmed,
        }) => {
            let version = header.version;
            if *confirmed {
                say(
                    out,
                    format_args!("slot {id}: {version}, generation {generation}"),
                );
            } else {
                say(
                    out,
                    format_args!(
                        "slot {id}: {version}, generation {generation}, on trial, {trials_left} left"
                    ),
                );
            }
        }
        Err(fault) => say(out, format_args!("slot {id}: {fault}")),
    }
}

/// COM1, one byte at a time.
struct Out;

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

fn say(out: &mut Out, line: fmt::Arguments<'_>) {
    // `Out` takes everything.
    let _written: fmt::Result = writeln!(out, "{line}");
}

fn put(byte: u8) {
    // Without a console that moves there is nobody to tell, and the start goes on.
    let _sent: Result<(), _> = Uart::adopt(malta::crash_uart()).write_byte_blocking(byte);
}
