//! One direction of a virtio-net interface: a split virtqueue that owns the frames in it.
//!
//! Follows: virtio 1.1, section 2.6. Each frame is one descriptor, so chains, indirect descriptors and the crate's
//! shadow table fall away: its `VirtQueue` takes some 210 instructions to add and to pop, this some 60, and it publishes
//! each buffer by itself, where this publishes a burst. Event indices are not negotiated: the plain flags are
//! enough for "no notice while busy".
//!
//! Invariants: I1 a slot holds a frame exactly while the device may touch its buffer; I2 a slot is either free or holds
//! a frame. A device that names a slot which holds none gets nothing: the queue stands still.
//! Budget: two pages, [`RING_SLOTS`] handles.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::transport::Transport;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::dma::{FRAME_BYTES_MAX, Frame, HEADER_BYTES, RING_SLOTS, Shared};
use crate::mmio;

use super::Error;

/// The Malta board as the crate's PCI transport needs it: only device registers.
#[derive(Debug)]
pub enum Memory {}

// SAFETY: device registers are looked up in the board's fixed, uncached PCI window; no memory is given out at all.
unsafe impl Hal for Memory {
    fn dma_alloc(_: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        (0, NonNull::dangling()) // the crate takes address 0 as "none left"
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        // BARs were assigned inside the window by `pci`, so this holds.
        let address = mmio::malta::pci_memory(address, size).expect("a BAR lies in the PCI window");
        NonNull::new(address as *mut u8).expect("the PCI window does not start at 0")
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        0 // only the crate's queues share memory, and none is made
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receive,
    Transmit,
}

const SLOTS: usize = RING_SLOTS;
const _: () = assert!(SLOTS.is_power_of_two() && SLOTS <= 128);

// The driver's page: descriptor table, then available ring.
const DESCRIPTOR_BYTES: usize = 16;
const DESCRIPTOR_ADDRESS: usize = 0;
const DESCRIPTOR_LENGTH: usize = 8;
const DESCRIPTOR_FLAGS: usize = 12;
/// The device writes to the buffer.
const DESCRIPTOR_WRITE: u16 = 2;
const AVAILABLE: usize = SLOTS * DESCRIPTOR_BYTES;
const AVAILABLE_FLAGS: usize = AVAILABLE;
/// No interrupt for used buffers, please.
const NO_INTERRUPT: u16 = 1;
const AVAILABLE_INDEX: usize = AVAILABLE + 2;
const AVAILABLE_RING: usize = AVAILABLE + 4;
// The device's page: used ring.
const USED_FLAGS: usize = 0;
/// No notice for available buffers, please.
const NO_NOTICE: u16 = 1;
const USED_INDEX: usize = 2;
const USED_RING: usize = 4;

/// A virtqueue and the frames it holds.
pub(super) struct FrameQueue {
    driver: Shared,
    device: Shared,
    index: u16,
    direction: Direction,
    held: [Option<Frame>; SLOTS],
    free: heapless::Vec<u8, SLOTS>,
    /// Available index with everything offered, and as last published.
    offered: u16,
    published: u16,
    /// Used index up to which frames were taken.
    taken: u16,
}

impl FrameQueue {
    /// Sets the queue up on the device.
    pub(super) fn new<T: Transport>(
        transport: &mut T,
        index: u16,
        direction: Direction,
    ) -> Result<Self, Error> {
        if transport.queue_used(index) || transport.max_queue_size(index) < SLOTS as u32 {
            return Err(Error::Device);
        }
        let (Some(mut driver), Some(device)) = (Shared::new(), Shared::new()) else {
            return Err(Error::Memory);
        };
        if direction == Direction::Receive {
            for slot in 0..SLOTS {
                let descriptor = slot * DESCRIPTOR_BYTES;
                driver.write32(
                    descriptor + DESCRIPTOR_LENGTH,
                    (HEADER_BYTES + FRAME_BYTES_MAX) as u32,
                );
                driver.write16(descriptor + DESCRIPTOR_FLAGS, DESCRIPTOR_WRITE);
            }
        }
        transport.queue_set(
            index,
            SLOTS as u32,
            driver.bus_address(0),
            driver.bus_address(AVAILABLE),
            device.bus_address(0),
        );
        Ok(Self {
            driver,
            device,
            index,
            direction,
            held: [const { None }; SLOTS],
            free: (0..SLOTS as u8).rev().collect(),
            offered: 0,
            published: 0,
            taken: 0,
        })
    }

    /// Free slots.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.free.len()
    }

    /// Takes a frame for the device, which sees it at the next [`publish`](Self::publish); it comes back when no slot is free.
    #[inline]
    pub(super) fn offer(&mut self, frame: Frame) -> Result<(), Frame> {
        let Some(slot) = self.free.pop() else {
            return Err(frame);
        };
        let slot = usize::from(slot) % SLOTS;
        let descriptor = slot * DESCRIPTOR_BYTES;
        let address = frame.bus_address();
        self.driver
            .write32(descriptor + DESCRIPTOR_ADDRESS, address as u32);
        self.driver
            .write32(descriptor + DESCRIPTOR_ADDRESS + 4, (address >> 32) as u32);
        if self.direction == Direction::Transmit {
            self.driver.write32(
                descriptor + DESCRIPTOR_LENGTH,
                (HEADER_BYTES + frame.length()) as u32,
            );
        }
        self.held[slot] = Some(frame);
        let position = usize::from(self.offered) % SLOTS;
        self.driver
            .write16(AVAILABLE_RING + position * 2, slot as u16);
        self.offered = self.offered.wrapping_add(1);
        Ok(())
    }

    /// Takes the next frame that the device has done with; a received one has its length set.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Frame> {
        if !self.has_done() {
            return None;
        }
        // "The driver must not read the element before the index": virtio 1.1, 2.6.14.
        fence(Ordering::Acquire);
        let element = USED_RING + usize::from(self.taken) % SLOTS * 8;
        let slot = self.device.read32(element) as usize;
        let mut frame = self.held.get_mut(slot)?.take()?;
        // By I2 there is room for the slot.
        self.free.push(slot as u8).ok()?;
        self.taken = self.taken.wrapping_add(1);
        if self.direction == Direction::Receive {
            let written = self.device.read32(element + 4) as usize;
            frame.set_length(written.saturating_sub(HEADER_BYTES));
        }
        Some(frame)
    }

    /// Whether `take` would give a frame.
    #[inline]
    pub(super) fn has_done(&self) -> bool {
        self.device.read16(USED_INDEX) != self.taken
    }

    /// Shows the device what was offered, and tells it if it listens.
    #[inline]
    pub(super) fn publish<T: Transport>(&mut self, transport: &mut T) {
        if self.published == self.offered {
            return;
        }
        self.published = self.offered;
        // Descriptors before the index that shows them: 2.6.13.3; the index before the flags are read: 2.6.13.4.
        fence(Ordering::SeqCst);
        self.driver.write16(AVAILABLE_INDEX, self.offered);
        fence(Ordering::SeqCst);
        if self.device.read16(USED_FLAGS) & NO_NOTICE == 0 {
            transport.notify(self.index);
        }
    }

    /// Whether the device shall interrupt when it is done with a frame.
    pub(super) fn interrupt_when_done(&mut self, interrupt: bool) {
        let flags = if interrupt { 0 } else { NO_INTERRUPT };
        self.driver.write16(AVAILABLE_FLAGS, flags);
        fence(Ordering::SeqCst); // before the caller looks a last time
    }
}
