//! What the main loop sees of any network interface: frames that are owned, and move.
//!
//! A received frame belongs to the caller, who sends it on by another interface or gives it back to the pool; nothing is
//! copied. Work is batched: nothing need reach the device before [`FrameIo::flush`].
//!
//! Calling order, each turn of the main loop: `reclaim`, `receive` until it would block, `transmit`, `flush`.

use core::convert::Infallible;

use crate::dma::{Frame, FramePool};

/// No transmit slot is free; the frame comes back.
#[derive(Debug)]
pub struct Full(pub Frame);

/// A network interface.
pub trait FrameIo {
    /// The interface's own MAC address.
    fn mac(&self) -> [u8; 6];

    /// The next received frame; what is too short to be one goes back to the pool.
    ///
    /// # Errors
    /// `WouldBlock` when none is there.
    fn receive(&mut self, pool: &mut FramePool) -> nb::Result<Frame, Infallible>;

    /// Queues a frame for sending.
    ///
    /// # Errors
    /// [`Full`], with the frame, when no slot is free.
    fn transmit(&mut self, frame: Frame) -> Result<(), Full>;

    /// Free transmit slots, as of the last [`reclaim`](Self::reclaim).
    fn room(&self) -> usize;

    /// Takes sent frames back into the pool.
    fn reclaim(&mut self, pool: &mut FramePool);

    /// Gives the device empty buffers from the pool, and tells it of everything queued: at most one notice per direction.
    fn flush(&mut self, pool: &mut FramePool);

    /// Lowers the interface's interrupt line; called before `receive` is asked a last time and the processor sleeps.
    fn acknowledge(&mut self);

    /// Whether an interrupt shall come when a sent frame makes room.
    fn wake_on_room(&mut self, wake: bool);
}
