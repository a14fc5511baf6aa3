//! DMA memory in two copies: what the processor sees through its cache, and what a device sees.
//!
//! A hand-over copies a line from one to the other, as the board's cache does when told; nothing else does. So a
//! forgotten write-back shows as old bytes sent, a forgotten invalidation as old bytes received, and a dirty line left
//! behind as bytes overwritten: after each write of the device the dirty lines of that place are "evicted" over it.

use std::cell::RefCell;
use std::rc::Rc;

use super::bus::Dma;
use crate::arch::cache::{LINE_BYTES, lines};

/// A device's access to memory.
pub trait Memory {
    /// Reads; false when an address is nobody's, which a bus answers with an error.
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool;
    /// Writes; false likewise, and then nothing is written.
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool;
}

/// A driver's error that is made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// Nothing.
    None,
    /// Memory does not get what the processor wrote before a device reads it.
    WriteBack,
    /// Lines stay in the cache, dirty, when a device is given the buffer.
    WriteBackInvalidate,
    /// The processor reads what its cache holds, not what the device wrote.
    Invalidate,
}

struct Region {
    /// The processor's copy.
    start: usize,
    device_address: u32,
    /// The device's copy; reached by address too, as memory past the cache.
    device: &'static mut [u8],
    /// The processor's copy as it last was alike: what differs from it is dirty.
    clean: Vec<u8>,
}

struct Inner {
    regions: Vec<Region>,
    next: u32,
    forgotten: Forgotten,
}

/// Memory of a machine whose devices see no cache; clones are the same memory.
#[derive(Clone)]
pub struct TwoCopies {
    inner: Rc<RefCell<Inner>>,
    /// Added to an address that a device is told.
    offset: u32,
}

/// First address of memory, so that 0 is nobody's.
const FIRST: u32 = 0x0010_0000;

impl TwoCopies {
    /// No memory yet; a device is told addresses from `offset` on.
    pub fn new(offset: u32) -> Self {
        Self {
            inner: Rc::new(RefCell::new(Inner {
                regions: Vec::new(),
                next: FIRST,
                forgotten: Forgotten::None,
            })),
            offset,
        }
    }

    /// From now on the driver forgets something.
    pub fn forget(&self, forgotten: Forgotten) {
        self.inner.borrow_mut().forgotten = forgotten;
    }

    /// Makes memory known of which parts will be lent.
    ///
    /// # Panics
    /// When part of it is known already.
    pub fn add(&self, address: usize, bytes: usize) {
        let mut inner = self.inner.borrow_mut();
        let overlaps = |region: &Region| {
            address < region.start + region.clean.len() && region.start < address + bytes
        };
        assert!(!inner.regions.iter().any(overlaps), "two owners");
        let device_address = inner.next;
        inner.next += bytes.next_multiple_of(4096) as u32 + 4096;
        inner.regions.push(Region {
            start: address,
            device_address,
            device: Box::leak(vec![0xdb; bytes].into_boxed_slice()),
            clean: vec![0xdb; bytes],
        });
    }
}

/// The processor's copy of a line.
fn cached(address: usize, bytes: usize) -> Vec<u8> {
    // SAFETY: the memory was made known by its owner, who takes turns with this in one thread and never frees it.
    unsafe { core::slice::from_raw_parts(address as *const u8, bytes) }.to_vec()
}

fn fill_cache(address: usize, bytes: &[u8]) {
    // SAFETY: as above.
    unsafe { core::ptr::copy(bytes.as_ptr(), address as *mut u8, bytes.len()) };
}

impl Region {
    /// Offsets of the lines that a range touches, cut to the region.
    fn line_ranges(&self, address: usize, bytes: usize) -> Vec<core::ops::Range<usize>> {
        let (first, count) = lines(address, bytes);
        let end = self.start + self.clean.len();
        (0..count)
            .map(|index| first + index * LINE_BYTES)
            .map(|line| {
                line.max(self.start) - self.start..(line + LINE_BYTES).min(end) - self.start
            })
            .collect()
    }

    fn write_back(&mut self, address: usize, bytes: usize) {
        for range in self.line_ranges(address, bytes) {
            let line = cached(self.start + range.start, range.len());
            // Only a dirty line is written.
            if line != self.clean[range.clone()] {
                self.device[range.clone()].copy_from_slice(&line);
                self.clean[range].copy_from_slice(&line);
            }
        }
    }

    fn invalidate(&mut self, address: usize, bytes: usize) {
        for range in self.line_ranges(address, bytes) {
            fill_cache(self.start + range.start, &self.device[range.clone()]);
            self.clean[range.clone()].copy_from_slice(&self.device[range]);
        }
    }
}

impl Inner {
    fn region(&mut self, address: usize, bytes: usize) -> Option<&mut Region> {
        self.regions.iter_mut().find(|region| {
            region.start <= address && address + bytes <= region.start + region.clean.len()
        })
    }

    fn of_device(&mut self, address: u64, bytes: usize) -> Option<(&mut Region, usize)> {
        let address = usize::try_from(address).ok()?;
        self.regions.iter_mut().find_map(|region| {
            let offset = address.checked_sub(region.device_address as usize)?;
            (offset + bytes <= region.clean.len()).then_some((region, offset))
        })
    }
}

// SAFETY: the copies are as large as the memory they copy, and never freed. That they differ is what this is for: the
// processor reads old bytes, never others' memory.
unsafe impl Dma for TwoCopies {
    fn device_address(&self, address: usize, bytes: usize) -> Option<u32> {
        if self.inner.borrow_mut().region(address, bytes).is_none() {
            self.add(address, bytes);
        }
        let mut inner = self.inner.borrow_mut();
        let region = inner.region(address, bytes)?;
        Some(region.device_address + (address - region.start) as u32 + self.offset)
    }

    fn write_back(&self, address: usize, bytes: usize) {
        let mut inner = self.inner.borrow_mut();
        if inner.forgotten != Forgotten::WriteBack
            && let Some(region) = inner.region(address, bytes)
        {
            region.write_back(address, bytes);
        }
    }

    fn write_back_invalidate(&self, address: usize, bytes: usize) {
        let mut inner = self.inner.borrow_mut();
        if inner.forgotten != Forgotten::WriteBackInvalidate
            && let Some(region) = inner.region(address, bytes)
        {
            region.write_back(address, bytes);
            region.invalidate(address, bytes);
        }
    }

    fn invalidate(&self, address: usize, bytes: usize) {
        let mut inner = self.inner.borrow_mut();
        if inner.forgotten != Forgotten::Invalidate
            && let Some(region) = inner.region(address, bytes)
        {
            region.invalidate(address, bytes);
        }
    }

    fn uncached(&self, address: usize) -> usize {
        let mut inner = self.inner.borrow_mut();
        let Some(region) = inner.region(address, 1) else {
            return 0;
        };
        region.device.as_mut_ptr() as usize + (address - region.start)
    }
}

impl Memory for TwoCopies {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Some((region, offset)) = inner.of_device(address, bytes.len()) else {
            return false;
        };
        bytes.copy_from_slice(&region.device[offset..offset + bytes.len()]);
        true
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let mut inner = self.inner.borrow_mut();
        let Some((region, offset)) = inner.of_device(address, bytes.len()) else {
            return false;
        };
        region.device[offset..offset + bytes.len()].copy_from_slice(bytes);
        // The worst moment for a dirty line to leave the cache.
        let start = region.start + offset;
        region.write_back(start, bytes.len());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::tests::pool;
    use crate::dma::{FRAME_OFFSET, Frame, Shared};

    fn frame(content: &[u8]) -> Frame {
        let mut frame = pool(1).get().unwrap();
        frame.set_length(content.len());
        frame.bytes_mut().copy_from_slice(content);
        frame
    }

    /// A frame as a device sees it that is lent it to read.
    fn sent(forgotten: Forgotten) -> Vec<u8> {
        let mut memory = TwoCopies::new(0x4000_0000);
        memory.forget(forgotten);
        let (lent, address) = frame(&[0x5a; 100]).lend_to_read(&memory).unwrap();
        let mut seen = vec![0; 100];
        assert!(memory.read(u64::from(address - 0x4000_0000), &mut seen));
        let _frame = lent.take_back();
        seen
    }

    /// A frame as the processor sees it that a device has written 0xa5 to, and whether its header came through.
    fn received(forgotten: Forgotten) -> (u32, Vec<u8>) {
        let mut memory = TwoCopies::new(0);
        memory.forget(forgotten);
        let (lent, address) = frame(&[0x11; 1500]).lend_to_write(&memory).unwrap();
        assert!(memory.write(u64::from(address), &[1, 2, 3, 4]));
        assert!(memory.write(u64::from(address) + FRAME_OFFSET as u64, &[0xa5; 1500]));
        let written = lent.device_is_done(&memory);
        let header = written.header();
        (header, written.take(1500, &memory).bytes().to_vec())
    }

    #[test]
    fn bytes_reach_the_device_and_come_back() {
        assert_eq!(sent(Forgotten::None), [0x5a; 100]);
        assert_eq!(received(Forgotten::None), (0x0403_0201, vec![0xa5; 1500]));
    }

    #[test]
    fn a_forgotten_cache_operation_shows() {
        assert_ne!(sent(Forgotten::WriteBack), [0x5a; 100]);
        for forgotten in [Forgotten::WriteBackInvalidate, Forgotten::Invalidate] {
            let (header, bytes) = received(forgotten);
            assert_ne!(header, 0x0403_0201, "{forgotten:?}");
            assert_ne!(bytes, [0xa5; 1500], "{forgotten:?}");
        }
    }

    #[test]
    fn a_ring_past_the_cache_is_seen_at_once() {
        let mut memory = TwoCopies::new(0);
        let (mut page, address) = Shared::uncached(&memory).unwrap();
        let mut seen = [0xff; 4];
        assert!(memory.read(u64::from(address) + 4092, &mut seen));
        assert_eq!(seen, [0; 4], "zeroed");
        page.write32(4092, 0x0403_0201);
        assert!(memory.read(u64::from(address) + 4092, &mut seen));
        assert_eq!(seen, [1, 2, 3, 4]);
        assert!(memory.write(u64::from(address), &[9; 4]));
        assert_eq!(page.read32(0), 0x0909_0909);
    }

    #[test]
    fn memory_that_is_nobodys_is_a_bus_error() {
        let mut memory = TwoCopies::new(0);
        assert!(!memory.read(0, &mut [0; 4]));
        assert!(!memory.write(u64::MAX, &[0; 4]));
    }
}
