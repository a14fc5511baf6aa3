//! From one program in RAM to the next: the loader's side, and what the image learns from it.
//!
//! The loader hands over in `a0` a magic word and in `a1` the slot that it started; the start code leaves both alone. An
//! image that was started otherwise (QEMU's `-kernel`: `a0` is the count of its words) finds no magic.
//!
//! The loader's own place is above [`LOAD_END`], out of the way of what it loads (link.x).

use super::{cache, cell::MainCell};

/// First address that an image may be loaded to; kseg0.
pub const LOAD_FIRST: usize = 0x8010_0000;
/// End of what may be loaded.
pub const LOAD_END: usize = 0x80f8_0000;

const MAGIC: usize = 0x544d_4c44;

unsafe extern "C" {
    static __image_start: u8;
}

static SLOT: MainCell<Option<usize>> = MainCell::new(None);

/// Keeps what the loader handed over.
pub(super) fn remember(magic: usize, slot: usize) {
    // Nothing else can be inside at this point of the start.
    SLOT.with(|kept| *kept = (magic == MAGIC).then_some(slot));
}

/// The slot that the loader started this image from; `None` when it was started otherwise.
pub fn slot() -> Option<usize> {
    SLOT.with(|kept| *kept).flatten()
}

/// RAM that an image can be loaded to, for the loader alone.
pub struct LoadArea(());

static AREA: MainCell<Option<LoadArea>> = MainCell::new(Some(LoadArea(())));

impl LoadArea {
    /// The area, on the first call only, and only for a program that does not lie in it itself.
    pub fn take() -> Option<Self> {
        // The address of a linker symbol; nothing is read.
        if (&raw const __image_start as usize) < LOAD_END {
            return None;
        }
        AREA.with(Option::take).flatten()
    }

    /// `length` bytes at `address`; `None` when they do not lie in the area.
    pub fn bytes(&mut self, address: usize, length: usize) -> Option<&mut [u8]> {
        let end = address.checked_add(length)?;
        if address < LOAD_FIRST || end > LOAD_END {
            return None;
        }
        // SAFETY: RAM that nothing of this program lies in (`take`), and that only this value gives out.
        Some(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length) })
    }

    /// Starts the program of which `length` bytes were written at `address`, and tells it its slot.
    ///
    /// Where the range or the entry does not lie in the area, or the entry is no instruction's address, nothing is
    /// started and the area comes back.
    pub fn start(mut self, address: usize, length: usize, entry: usize, slot: usize) -> Self {
        let lies_in = self.bytes(address, length).is_some();
        if !lies_in || !entry.is_multiple_of(4) || !(address..address + length).contains(&entry) {
            return self;
        }
        cache::synchronise_code(address, length);
        // SAFETY: the caller wrote a program there, caches are in step, interrupts are off; nothing of this program is
        // used again.
        unsafe {
            core::arch::asm!(
                ".set noreorder",
                "jr {entry}",
                " nop",
                entry = in(reg) entry,
                in("$4") MAGIC,
                in("$5") slot,
                options(noreturn)
            )
        }
    }
}
