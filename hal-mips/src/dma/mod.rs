//! Memory that devices read and write: frame buffers that are owned and move, and whole pages for rings.
//!
//! A [`Frame`] is the only handle of its buffer, as a `Box` is of its content. While a device holds the buffer the
//! driver keeps the `Frame`, or what it was turned into, and nobody can reach the bytes:
//!
//! ```text
//! Frame ── lend_to_read ──▶ Reading ── take_back ──▶ Frame
//! Frame ── lend_to_write ─▶ Writing ── device_is_done ──▶ Written (its header) ── take ──▶ Frame (its bytes)
//! Held ──── lend ──▶ Piece ── give_back ──▶ Held                      (parts of frames that stay where they are)
//! ```
//! Each arrow does the cache maintenance that is due there, by the [`Dma`] of the bus, since the D-cache of the boards
//! does not see what a device writes. QEMU has no caches: virtio's frames change hands without these.
//!
//! Layout of a buffer: 30 bytes for a receiving device's header (Linux's driver of the same MAC leaves as much), the last
//! 12 of which serve as virtio's, then the Ethernet frame, so that the IP header behind its 14 bytes lies at a
//! multiple of 4 ([`FRAME_OFFSET`]).
//!
//! Units: bytes. Invariants: I1 the number of frames in a pool and out of it is constant; I2 no line of a cache holds bytes of
//! two owners: buffers begin and end on lines.
//! Budget: [`BUFFER_BYTES`] × [`FRAMES`] + [`PAGE_BYTES`] × [`PAGES`].

mod bus;
mod held;
mod lend;
#[cfg(any(test, feature = "model"))]
pub mod model;

use core::ptr::NonNull;

use crate::arch::cell::{MainCell, TakeCell};

pub use bus::{Bus, Dma, PCI_WINDOW};
pub use held::{Held, PIECE_BLOCKS_MAX, Piece};
pub use lend::{Reading, Writing, Written};

/// Bytes of one buffer, a multiple of every cache line: a frame of 1514, a VLAN tag, the check sequence that a device
/// leaves behind it, and what stands before.
pub const BUFFER_BYTES: usize = 1568;
/// Offset of the Ethernet frame in its buffer: 2 modulo 4, so that the IP header is aligned.
pub const FRAME_OFFSET: usize = 30;
/// Bytes of virtio's header.
pub const HEADER_BYTES: usize = 12;
/// Longest frame a buffer takes.
pub const FRAME_BYTES_MAX: usize = BUFFER_BYTES - FRAME_OFFSET;
/// Slots of a ring in one direction.
pub const RING_SLOTS: usize = 64;
/// Interfaces that the buffers are counted for.
pub const INTERFACES_MAX: usize = 3;
/// Buffers of the board: every slot of every ring filled, and a few in the main loop's hands.
pub const FRAMES: usize = INTERFACES_MAX * 2 * RING_SLOTS + 16;
/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// Pages for rings: what the driver writes and what the device writes, in each direction of each interface.
#[cfg(not(test))]
pub const PAGES: usize = INTERFACES_MAX * 4;
/// Pages for rings; host tests bring up many interfaces in one process.
#[cfg(test)]
pub const PAGES: usize = 256;

/// One buffer.
#[repr(C, align(32))]
pub struct Buffer([u8; BUFFER_BYTES]);

impl Buffer {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; BUFFER_BYTES])
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}

/// The owner of one buffer and of the frame in it.
#[derive(Debug)]
pub struct Frame {
    buffer: NonNull<Buffer>,
    /// Where the frame begins: [`FRAME_OFFSET`] but for one whose front was moved.
    offset: u16,
    length: u16,
}

// SAFETY: a `Frame` is the only handle of its buffer, so it may go where it likes.
unsafe impl Send for Frame {}

impl Frame {
    /// Takes a buffer into ownership, for ever.
    pub fn new(buffer: &'static mut Buffer) -> Self {
        Self {
            buffer: NonNull::from(buffer),
            offset: FRAME_OFFSET as u16,
            length: 0,
        }
    }

    /// Bytes of the frame.
    pub fn length(&self) -> usize {
        usize::from(self.length)
    }

    /// Sets the frame's length, cut to [`FRAME_BYTES_MAX`] and what its front leaves; the content stays as it is.
    #[inline]
    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(BUFFER_BYTES - usize::from(self.offset)) as u16;
    }

    /// Takes bytes off the frame's front, all of them at most.
    pub fn cut_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.length()) as u16;
        self.offset += bytes;
        self.length -= bytes;
    }

    /// Adds bytes of unspecified content to the frame's front; false, and nothing is added, when there is no room. There
    /// is for 8 at least in a frame that has just been received.
    pub fn grow_front(&mut self, bytes: usize) -> bool {
        let room = usize::from(self.offset) - HEADER_BYTES;
        let fits = bytes <= room;
        if fits {
            self.offset -= bytes as u16;
            self.length += bytes as u16;
        }
        fits
    }

    /// The Ethernet frame.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `self` owns the buffer, no device has it (drivers hold on to the `Frame` meanwhile), and
        // offset + length is within it: `set_length`, `cut_front` and `grow_front` keep it so.
        unsafe { core::slice::from_raw_parts(self.frame_start(), self.length()) }
    }

    /// The Ethernet frame, to be changed.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.frame_start(), self.length()) }
    }

    /// Clears virtio's header, before the frame.
    #[inline]
    pub(crate) fn clear_header(&mut self) {
        // SAFETY: HEADER_BYTES before the frame lie in the buffer (`grow_front` leaves as much), which `self` owns; whole
        // words would want an even place of the frame, which only `cut_front` can spoil, hence the unaligned writes.
        unsafe {
            let header = self.frame_start().sub(HEADER_BYTES);
            header.cast::<u16>().write_unaligned(0);
            header.add(2).cast::<u32>().write_unaligned(0);
            header.add(6).cast::<u32>().write_unaligned(0);
            header.add(10).cast::<u16>().write_unaligned(0);
        }
    }

    /// Where virtio finds its header, and behind it the frame.
    #[inline]
    pub(crate) fn bus_address(&self) -> u64 {
        bus_address(self.frame_start() as usize - HEADER_BYTES)
    }

    /// The first byte of the frame.
    #[inline]
    fn frame_start(&self) -> *mut u8 {
        // SAFETY: the offset is within the buffer.
        unsafe { self.start().add(usize::from(self.offset)) }
    }

    /// Puts the front back where a device expects it.
    #[inline]
    fn reset_front(&mut self) {
        self.offset = FRAME_OFFSET as u16;
        self.length = 0;
    }

    fn start(&self) -> *mut u8 {
        self.buffer.as_ptr().cast()
    }
}

/// Frames in nobody's hands.
#[derive(Debug, Default)]
pub struct FramePool {
    free: heapless::Vec<Frame, FRAMES>,
}

impl FramePool {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            free: heapless::Vec::new(),
        }
    }

    /// The board's buffers; empty after the first call.
    pub fn take_all() -> Self {
        static BUFFERS: TakeCell<[Buffer; FRAMES]> =
            TakeCell::new([const { Buffer::new() }; FRAMES]);
        let mut pool = Self::new();
        if let Some(buffers) = BUFFERS.take() {
            buffers
                .iter_mut()
                .for_each(|buffer| pool.put(Frame::new(buffer)));
        }
        pool
    }

    /// A frame of unspecified content and length.
    #[inline]
    pub fn get(&mut self) -> Option<Frame> {
        self.free.pop()
    }

    /// Takes a frame back.
    #[inline]
    pub fn put(&mut self, mut frame: Frame) {
        frame.reset_front();
        // There is room for all frames of the board (I1); a frame more than that would be forgotten, not freed.
        let refused = self.free.push(frame);
        debug_assert!(refused.is_ok(), "more frames than buffers");
    }

    /// Frames available.
    pub fn len(&self) -> usize {
        self.free.len()
    }

    /// Whether no frame is available.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

/// One page.
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

struct Arena {
    pages: [Page; PAGES],
    used: usize,
}

static ARENA: MainCell<Arena> = MainCell::new(Arena {
    pages: [const { Page([0; PAGE_BYTES]) }; PAGES],
    used: 0,
});

/// A zeroed page that a device and its driver both read and write; never given back.
///
/// Accesses are volatile and in program order; what a device must see in order is the driver's to fence.
#[derive(Debug)]
pub(crate) struct Shared(NonNull<Page>);

impl Shared {
    /// The next page; `None` when none are left.
    pub(crate) fn new() -> Option<Self> {
        #[cfg(test)]
        let _guard = tests::serial();
        ARENA
            .with(|arena| {
                let page = arena.pages.get_mut(arena.used)?;
                arena.used += 1;
                Some(Self(NonNull::from(page)))
            })
            .flatten()
    }

    /// The page for a device that does not see the cache: its address there, and the page reached past the cache from
    /// here on. `None` when none is left, or the device cannot reach it.
    pub(crate) fn uncached<D: Dma>(dma: &D) -> Option<(Self, u32)> {
        let page = Self::new()?;
        let address = page.0.as_ptr() as usize;
        let device = dma.device_address(address, PAGE_BYTES)?;
        // It was zeroed through the cache.
        dma.write_back_invalidate(address, PAGE_BYTES);
        let past = NonNull::new(dma.uncached(address) as *mut Page)?;
        Some((Self(past), device))
    }

    /// Where a device finds byte `offset`.
    pub(crate) fn bus_address(&self, offset: usize) -> u64 {
        bus_address(self.0.as_ptr() as usize + offset)
    }

    /// Reads the 16 bits at `offset`, a multiple of 2.
    ///
    /// # Panics
    /// When `offset` is not in the page or not aligned; so in the other three.
    #[inline(always)]
    pub(crate) fn read16(&self, offset: usize) -> u16 {
        assert!(offset <= PAGE_BYTES - 2 && offset.is_multiple_of(2));
        // SAFETY: in the page and aligned (just checked); the page is never freed, and every bit pattern is a number.
        unsafe { self.0.cast::<u16>().byte_add(offset).read_volatile() }
    }

    /// Reads the 32 bits at `offset`, a multiple of 4.
    #[inline(always)]
    pub(crate) fn read32(&self, offset: usize) -> u32 {
        assert!(offset <= PAGE_BYTES - 4 && offset.is_multiple_of(4));
        // SAFETY: as above.
        unsafe { self.0.cast::<u32>().byte_add(offset).read_volatile() }
    }

    /// Writes 16 bits at `offset`, a multiple of 2.
    #[inline(always)]
    pub(crate) fn write16(&mut self, offset: usize, value: u16) {
        assert!(offset <= PAGE_BYTES - 2 && offset.is_multiple_of(2));
        // SAFETY: as above; the page has no other driver, and the device expects it to change.
        unsafe { self.0.cast::<u16>().byte_add(offset).write_volatile(value) }
    }

    /// Writes 32 bits at `offset`, a multiple of 4.
    #[inline(always)]
    pub(crate) fn write32(&mut self, offset: usize, value: u32) {
        assert!(offset <= PAGE_BYTES - 4 && offset.is_multiple_of(4));
        // SAFETY: as above.
        unsafe { self.0.cast::<u32>().byte_add(offset).write_volatile(value) }
    }
}

/// Address at which a device sees memory: physical, which is kseg0's less a constant. On the host devices are models, and
/// both are alike.
#[inline]
fn bus_address(address: usize) -> u64 {
    if cfg!(target_arch = "mips") {
        (address & 0x1fff_ffff) as u64
    } else {
        address as u64
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Host tests run in threads, which the statics of a one-core machine know nothing of.
    pub(crate) fn serial() -> MutexGuard<'static, ()> {
        static LOCK: Mutex<()> = Mutex::new(());
        LOCK.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pool of its own for a test.
    pub(crate) fn pool(frames: usize) -> FramePool {
        let mut pool = FramePool::new();
        for _ in 0..frames {
            pool.put(Frame::new(Box::leak(Box::new(Buffer::new()))));
        }
        pool
    }

    #[test]
    fn the_ip_header_of_a_frame_is_aligned() {
        let mut frame = pool(1).get().unwrap();
        frame.set_length(1514);
        assert_eq!((frame.bytes().as_ptr() as usize + 14) % 4, 0);
        assert_eq!(frame.bytes().len(), 1514);
    }

    #[test]
    fn a_length_beyond_the_buffer_is_cut() {
        let mut frame = pool(1).get().unwrap();
        frame.set_length(usize::MAX);
        assert_eq!(frame.length(), FRAME_BYTES_MAX);
        assert_eq!(frame.bytes().len(), BUFFER_BYTES - FRAME_OFFSET);
    }

    #[test]
    fn clearing_the_header_touches_nothing_else() {
        let buffer = Box::leak(Box::new(Buffer([0xff; BUFFER_BYTES])));
        let mut frame = Frame::new(buffer);
        frame.clear_header();
        // SAFETY: the frame is not used while its buffer is looked at.
        let bytes = unsafe { &frame.buffer.as_ref().0 };
        let header = FRAME_OFFSET - HEADER_BYTES;
        assert_eq!(bytes[..header], [0xff; FRAME_OFFSET - HEADER_BYTES]);
        assert_eq!(bytes[header..FRAME_OFFSET], [0; HEADER_BYTES]);
        assert!(bytes[FRAME_OFFSET..].iter().all(|byte| *byte == 0xff));
    }

    #[test]
    fn pages_are_aligned_distinct_and_hold_what_is_written() {
        let (mut one, mut two) = (Shared::new().unwrap(), Shared::new().unwrap());
        assert!(one.bus_address(0).is_multiple_of(PAGE_BYTES as u64));
        one.write32(PAGE_BYTES - 4, 0x0403_0201);
        two.write16(PAGE_BYTES - 2, 0xffff);
        assert_eq!(one.read16(PAGE_BYTES - 2), 0x0403);
        assert_eq!(two.read32(PAGE_BYTES - 4), 0xffff_0000);
    }

    #[test]
    #[should_panic]
    fn nothing_is_read_behind_a_page() {
        Shared::new().unwrap().read32(PAGE_BYTES - 2);
    }
}
