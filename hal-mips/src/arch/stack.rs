//! The stack's bounds: painted at boot, so that its deepest use can be told.
//!
//! Below its bottom nothing is mapped (`start.rs`): running over it is an exception, not silent damage.

const PAINT: u32 = 0x5354_434b;

/// Where the unmapped pages below the stack begin.
const GUARD: usize = 0xc000_0000;

unsafe extern "C" {
    static __stack_bottom: u8;
    static __stack_top: u8;
}

fn bottom() -> usize {
    // The address of a linker symbol; nothing is read.
    &raw const __stack_bottom as usize
}

/// Fills the unused part with the pattern; called once, at boot.
pub(super) fn paint() {
    let marker = 0u32;
    let end = (&raw const marker as usize - 256) & !3;
    let mut word = bottom();
    while word < end {
        // SAFETY: between the stack's bottom and 256 bytes below this frame nothing lives yet.
        unsafe { (word as *mut u32).write_volatile(PAINT) };
        word += 4;
    }
}

/// Size of the stack, bytes.
pub fn size() -> usize {
    &raw const __stack_top as usize - bottom()
}

/// Deepest use since boot, bytes.
pub fn deepest() -> usize {
    let top = &raw const __stack_top as usize;
    let mut word = bottom();
    // SAFETY: the range is the stack, always mapped RAM; volatile since the words may be live.
    while word < top && unsafe { (word as *const u32).read_volatile() } == PAINT {
        word += 4;
    }
    top - word
}

/// Whether an address lies where a stack that runs over first faults.
pub(super) fn is_guard(address: usize) -> bool {
    (GUARD..bottom()).contains(&address)
}
