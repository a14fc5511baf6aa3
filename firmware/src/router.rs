//! The one place where stages meet: a frame and `now` in, a verdict and frames out.

use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

use crate::budget::Memory;
use crate::port::{Egress, Port};

/// What becomes of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Verdict {
    /// The frame was rewritten in place and leaves by this port; the caller moves the buffer.
    Forward(Port),
    /// An exchange took the segment; the buffer is free again.
    Intercept,
    /// The frame was for the router itself and has been handled; the buffer is free again.
    Answer,
    /// The frame ends here (its reason was counted); the buffer is free again.
    Drop,
}

/// What the board must do after a console byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Reset the machine once the console's output has left.
    Reboot,
}

/// A whole router.
pub struct Router<'m> {
    _memory: &'m mut Memory,
}

impl<'m> Router<'m> {
    /// Builds a router over `memory`; `macs` in [`Port::ALL`] order, `seed` from the board's entropy.
    pub fn new(memory: &'m mut Memory, macs: [EthernetAddress; 3], seed: u64) -> Self {
        let _ = (macs, seed);
        Self { _memory: memory }
    }

    /// Takes one received frame.
    pub fn on_frame<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let _ = (now, port, frame, out);
        Verdict::Drop
    }

    /// Runs what is due: timers, fetches, segments that may now be sent. Bounded work a call.
    pub fn poll<E: Egress>(&mut self, now: Instant, out: &mut E) {
        let _ = (now, out);
    }

    /// When `poll` must be called next; `Some(t <= now)` means at once, `None` when only a frame can change anything.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let _ = now;
        None
    }

    /// Takes one byte of the serial console; echo and answers go to `out`.
    pub fn on_console_byte(
        &mut self,
        now: Instant,
        byte: u8,
        out: &mut dyn core::fmt::Write,
    ) -> Action {
        let _ = (now, byte, out);
        Action::None
    }
}
