//! One direction of a virtio-net interface: a virtqueue that owns the frames in it.
//!
//! Invariants: I1 a slot holds a frame exactly while the device may touch its buffer.
//! Event indices are not negotiated: the crate's test for them compares without wrapping, and the plain flags
//! are enough for "no notice while busy".

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use crate::dma::{self, Frame, HEADER_BYTES, RING_SLOTS};
use crate::mmio;

/// Memory of the Malta board as virtio needs it.
#[derive(Debug)]
pub enum Memory {}

// SAFETY: pages come from a static arena, page-aligned, zeroed and given out once; device registers are looked up in
// the board's fixed PCI window; sharing is address arithmetic, since every buffer is directly mapped memory.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        match dma::pages(pages) {
            Some(memory) => (dma::bus_address(memory), memory),
            None => (0, NonNull::dangling()), // the crate takes address 0 as "none left"
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0 // only an interface that failed to come up gives pages back; they stay lost until reset
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, size: usize) -> NonNull<u8> {
        // BARs were assigned inside the window by `pci`, so this holds.
        let address = mmio::malta::pci_memory(address, size).expect("a BAR lies in the PCI window");
        NonNull::new(address as *mut u8).expect("the PCI window does not start at 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        dma::bus_address(buffer.cast())
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Receive,
    Transmit,
}

/// A virtqueue and the frames it holds.
pub(super) struct FrameQueue {
    queue: VirtQueue<Memory, RING_SLOTS>,
    index: u16,
    direction: Direction,
    held: [Option<Frame>; RING_SLOTS],
    /// Something was added since the device was last told.
    news: bool,
}

impl FrameQueue {
    pub(super) fn new<T: Transport>(
        transport: &mut T,
        index: u16,
        direction: Direction,
    ) -> virtio_drivers::Result<Self> {
        let queue = VirtQueue::new(transport, index, false, false)?;
        Ok(Self {
            queue,
            index,
            direction,
            held: [const { None }; RING_SLOTS],
            news: false,
        })
    }

    /// Free slots.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.queue.available_desc()
    }

    /// Gives a frame to the device; it comes back when no slot is free.
    #[inline]
    pub(super) fn offer(&mut self, frame: Frame) -> Result<(), Frame> {
        // SAFETY: the buffer lives for ever, and `held` keeps its only handle until the device has returned it (I1).
        let token = unsafe {
            match self.direction {
                Direction::Receive => self.queue.add(&[], &mut [frame.room()]),
                Direction::Transmit => self.queue.add(&[frame.sent()], &mut []),
            }
        };
        match token
            .ok()
            .and_then(|token| self.held.get_mut(usize::from(token)))
        {
            Some(slot) => {
                *slot = Some(frame);
                self.news = true;
                Ok(())
            }
            None => Err(frame),
        }
    }

    /// Takes the next frame that the device has done with; a received one has its length set.
    ///
    /// A device that names a slot it does not have gets nothing out of us: the entry is never popped, and the
    /// interface stands still.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Frame> {
        let token = self.queue.peek_used()?;
        let slot = self.held.get_mut(usize::from(token))?;
        let mut frame = slot.take()?;
        // SAFETY: the same slices as `offer` passed for this token: the frame was in this slot, its length unchanged.
        let used = unsafe {
            match self.direction {
                Direction::Receive => self.queue.pop_used(token, &[], &mut [frame.room()]),
                Direction::Transmit => self.queue.pop_used(token, &[frame.sent()], &mut []),
            }
        };
        match used {
            Ok(used) => {
                if self.direction == Direction::Receive {
                    frame.set_length((used as usize).saturating_sub(HEADER_BYTES));
                }
                Some(frame)
            }
            Err(_) => {
                *slot = Some(frame);
                None
            }
        }
    }

    /// Whether `take` would give a frame.
    pub(super) fn has_done(&self) -> bool {
        self.queue.can_pop()
    }

    /// Tells the device of what was offered, if it listens.
    #[inline]
    pub(super) fn notify<T: Transport>(&mut self, transport: &mut T) {
        if self.news {
            self.news = false;
            // "The driver performs a suitable memory barrier before reading flags": virtio 1.1, 2.6.13.4.
            fence(Ordering::SeqCst);
            if self.queue.should_notify() {
                transport.notify(self.index);
            }
        }
    }

    /// Whether the device shall interrupt when it is done with a frame.
    pub(super) fn interrupt_when_done(&mut self, interrupt: bool) {
        self.queue.set_dev_notify(interrupt);
        fence(Ordering::SeqCst); // before the caller looks a last time
    }
}
