//! The defmt log: frames in a ring, sent by the second UART when the main loop has time.
//!
//! A frame that does not fit is dropped whole and counted; what is sent is always whole frames, so the host's
//! decoder never loses its place. Time stamps are µs since boot.
//!
//! Budget: [`RING_BYTES`].

/// Bytes of log that wait to be sent.
pub const RING_BYTES: usize = 8192;

/// Whole frames, oldest first.
///
/// Invariants: I1 `sent <= committed <= written <= sent + N`, counted modulo 2^32.
#[derive(Debug)]
pub struct FrameRing<const N: usize> {
    bytes: [u8; N],
    sent: u32,
    committed: u32,
    written: u32,
    overflow: bool,
    lost: u32,
}

impl<const N: usize> FrameRing<N> {
    /// Empty.
    pub const fn new() -> Self {
        assert!(N.is_power_of_two(), "positions are taken modulo the size");
        Self {
            bytes: [0; N],
            sent: 0,
            committed: 0,
            written: 0,
            overflow: false,
            lost: 0,
        }
    }

    /// Appends to the frame being written.
    pub fn write(&mut self, bytes: &[u8]) {
        let free = N - self.written.wrapping_sub(self.sent) as usize;
        if self.overflow || bytes.len() > free {
            self.overflow = true;
            return;
        }
        for &byte in bytes {
            self.bytes[self.written as usize % N] = byte;
            self.written = self.written.wrapping_add(1);
        }
    }

    /// Ends the frame: it is there whole, or dropped and counted.
    pub fn commit(&mut self) {
        if self.overflow {
            self.overflow = false;
            self.written = self.committed;
            self.lost = self.lost.wrapping_add(1);
        } else {
            self.committed = self.written;
        }
    }

    /// The oldest byte not yet sent.
    pub fn peek(&self) -> Option<u8> {
        (self.sent != self.committed).then(|| self.bytes[self.sent as usize % N])
    }

    /// Drops the byte that `peek` gave.
    pub fn advance(&mut self) {
        if self.sent != self.committed {
            self.sent = self.sent.wrapping_add(1);
        }
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.sent == self.committed
    }

    /// Frames dropped since the start.
    pub fn lost(&self) -> u32 {
        self.lost
    }
}

impl<const N: usize> Default for FrameRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(target_arch = "mips")]
mod logger {
    use super::{FrameRing, RING_BYTES};
    use crate::arch::cell::MainCell;
    use crate::arch::time;
    use crate::mmio::Regs;
    use crate::soc::uart::Uart;

    struct State {
        encoder: defmt::Encoder,
        ring: FrameRing<RING_BYTES>,
    }

    static STATE: MainCell<State> = MainCell::new(State {
        encoder: defmt::Encoder::new(),
        ring: FrameRing::new(),
    });

    #[defmt::global_logger]
    struct Logger;

    // SAFETY: one core, and only the main loop logs, so acquire and release pair up without any lock; `MainCell`
    // turns away a crash that would write inside a write.
    unsafe impl defmt::Logger for Logger {
        fn acquire() {
            STATE.with(|state| state.encoder.start_frame(|bytes| state.ring.write(bytes)));
        }

        unsafe fn flush() {}

        unsafe fn release() {
            STATE.with(|state| {
                state.encoder.end_frame(|bytes| state.ring.write(bytes));
                state.ring.commit();
            });
        }

        unsafe fn write(bytes: &[u8]) {
            STATE.with(|state| state.encoder.write(bytes, |bytes| state.ring.write(bytes)));
        }
    }

    defmt::timestamp!("{=u64:us}", time::micros());

    /// Sends at most `budget` bytes; true when something is left.
    pub fn drain<R: Regs>(uart: &mut Uart<R>, budget: usize) -> bool {
        STATE
            .with(|state| {
                for _ in 0..budget {
                    let Some(byte) = state.ring.peek() else {
                        return false;
                    };
                    if uart.write_byte(byte).is_err() {
                        break;
                    }
                    state.ring.advance();
                }
                !state.ring.is_empty()
            })
            .unwrap_or(false)
    }

    /// Frames dropped since boot because the ring was full.
    pub fn lost() -> u32 {
        STATE.with(|state| state.ring.lost()).unwrap_or(0)
    }
}

#[cfg(target_arch = "mips")]
pub use logger::{drain, lost};

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all<const N: usize>(ring: &mut FrameRing<N>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(byte) = ring.peek() {
            bytes.push(byte);
            ring.advance();
        }
        bytes
    }

    #[test]
    fn a_frame_is_seen_only_when_it_is_whole() {
        let mut ring = FrameRing::<8>::new();
        ring.write(b"ab");
        assert!(ring.is_empty());
        ring.write(b"c");
        ring.commit();
        assert_eq!(read_all(&mut ring), b"abc");
    }

    #[test]
    fn a_frame_too_many_is_dropped_whole_and_counted() {
        let mut ring = FrameRing::<8>::new();
        ring.write(b"abcde");
        ring.commit();
        ring.write(b"fg");
        ring.write(b"hi"); // one byte too many
        ring.write(b"j"); // would fit, but its frame is lost
        ring.commit();
        ring.write(b"klm");
        ring.commit();
        assert_eq!(ring.lost(), 1);
        assert_eq!(read_all(&mut ring), b"abcdeklm");
    }

    #[test]
    fn the_ring_goes_round_and_keeps_order() {
        let mut ring = FrameRing::<16>::new();
        for round in 0..100_000u32 {
            let frame = round.to_le_bytes();
            ring.write(&frame[..1 + round as usize % 4]);
            ring.commit();
            assert_eq!(read_all(&mut ring), frame[..1 + round as usize % 4]);
        }
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn a_frame_longer_than_the_ring_is_lost_and_the_next_is_not() {
        let mut ring = FrameRing::<8>::new();
        ring.write(&[1; 9]);
        ring.commit();
        ring.write(&[2; 8]);
        ring.commit();
        assert_eq!((ring.lost(), read_all(&mut ring)), (1, vec![2; 8]));
    }
}
