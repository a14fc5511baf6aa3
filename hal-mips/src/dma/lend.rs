//! Frames in a device's hands.
//!
//! The types have no way to the bytes: a driver that gives a frame away and reads it all the same does not compile.

use super::{BUFFER_BYTES, Dma, FRAME_OFFSET, Frame};

/// Bytes at the start of a buffer that are looked at before its length is known: one pair of lines.
const HEADER_LINES: usize = 32;

/// A frame that a device reads.
#[derive(Debug)]
#[must_use = "the frame is lost unless it is taken back"]
pub struct Reading(Frame);

/// A buffer that a device writes a frame to.
#[derive(Debug)]
#[must_use = "the frame is lost unless it is taken back"]
pub struct Writing(Frame);

/// A buffer that a device has done with, of which only the header can be seen.
#[derive(Debug)]
#[must_use = "the frame is lost unless it is taken"]
pub struct Written(Frame);

impl Frame {
    /// Lends the frame to a device that sends it; also where that device finds it.
    ///
    /// # Errors
    /// The frame, when the device cannot reach it.
    #[inline]
    pub fn lend_to_read<D: Dma>(self, dma: &D) -> Result<(Reading, u32), Self> {
        let start = self.start() as usize;
        let Some(address) = dma.device_address(start, BUFFER_BYTES) else {
            return Err(self);
        };
        let offset = self.offset;
        dma.write_back(start + usize::from(offset), self.length());
        Ok((Reading(self), address + u32::from(offset)))
    }

    /// Lends the buffer to a device that receives; also where that device finds its start.
    /// The first four bytes, where the device's header comes, are zero.
    ///
    /// # Errors
    /// The frame, when the device cannot reach it.
    #[inline]
    pub fn lend_to_write<D: Dma>(mut self, dma: &D) -> Result<(Writing, u32), Self> {
        self.reset_front();
        let start = self.start();
        let Some(address) = dma.device_address(start as usize, BUFFER_BYTES) else {
            return Err(self);
        };
        // SAFETY: the buffer is `self`'s, and aligned.
        unsafe { start.cast::<u32>().write(0) };
        // A dirty line that stays would sooner or later be written over what the device wrote.
        dma.write_back_invalidate(start as usize, BUFFER_BYTES);
        Ok((Writing(self), address))
    }
}

impl Reading {
    /// Takes the frame back from a device that has sent it, or was stopped.
    #[inline]
    pub fn take_back(self) -> Frame {
        self.0
    }
}

impl Writing {
    /// Takes the buffer from a device that says it has filled it.
    #[inline]
    pub fn device_is_done<D: Dma>(self, dma: &D) -> Written {
        let written = Written(self.0);
        written.look_again(dma);
        written
    }

    /// Takes the buffer back from a device that was stopped. Its content is unspecified, so the cache may show what it
    /// likes: whoever uses the buffer next writes it first.
    pub fn take_back(self) -> Frame {
        let mut frame = self.0;
        frame.set_length(0);
        frame
    }
}

impl Written {
    /// The first four bytes, a word of little endian.
    #[inline]
    pub fn header(&self) -> u32 {
        // SAFETY: the buffer is `self`'s, aligned, and the device has done with it; should it write late all the same,
        // a volatile read gives one word or the other.
        u32::from_le(unsafe { self.0.start().cast::<u32>().read_volatile() })
    }

    /// Fetches the header anew, for a device whose header comes late.
    #[inline]
    pub fn look_again<D: Dma>(&self, dma: &D) {
        dma.invalidate(self.0.start() as usize, HEADER_LINES);
    }

    /// The frame, of which the device has written `length` bytes from [`FRAME_OFFSET`] on; cut to what a buffer holds.
    #[inline]
    pub fn take<D: Dma>(self, length: usize, dma: &D) -> Frame {
        let mut frame = self.0;
        frame.set_length(length);
        let end = FRAME_OFFSET + frame.length();
        if end > HEADER_LINES {
            let rest = frame.start() as usize + HEADER_LINES;
            dma.invalidate(rest, end - HEADER_LINES);
        }
        frame
    }
}
