//! The serial console: a UART with a ring of text before it, so that writing never waits.
//!
//! Text that does not fit is dropped and counted, and the place is marked once there is room again. Line feeds go
//! out as CR LF. Everything written is also kept over a reset (`arch::keep`), for the report of a crash.
//!
//! Budget: `TX` bytes.

use core::fmt;

use crate::mmio::Regs;
use crate::soc::uart::Uart;

/// Free bytes below which the mark of a loss waits.
const MARK_ROOM: usize = 64;

/// A console with `TX` bytes of output buffer.
pub struct Console<R: Regs, const TX: usize> {
    uart: Uart<R>,
    waiting: heapless::Deque<u8, TX>,
    lost: u32,
    lost_unmarked: u32,
    last: u8,
}

impl<R: Regs, const TX: usize> Console<R, TX> {
    /// A console on `uart`.
    pub const fn new(uart: Uart<R>) -> Self {
        Self {
            uart,
            waiting: heapless::Deque::new(),
            lost: 0,
            lost_unmarked: 0,
            last: 0,
        }
    }

    /// The next byte typed; damaged ones are skipped.
    pub fn read(&mut self) -> Option<u8> {
        self.uart.read_byte().ok()
    }

    /// Sends at most `budget` bytes; true when something is left.
    pub fn drain(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            let Some(&byte) = self.waiting.front() else {
                break;
            };
            if self.uart.write_byte(byte).is_err() {
                break;
            }
            self.waiting.pop_front();
        }
        if self.lost_unmarked != 0 && TX - self.waiting.len() > MARK_ROOM {
            let lost = core::mem::take(&mut self.lost_unmarked);
            // There is room, so this cannot fail.
            let _written: fmt::Result =
                fmt::Write::write_fmt(self, format_args!("\n[{lost} bytes lost]\n"));
        }
        !self.waiting.is_empty()
    }

    /// Bytes that can be written without loss; a line feed alone takes two.
    pub fn room(&self) -> usize {
        TX - self.waiting.len()
    }

    /// Whether output is waiting.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Asks for an interrupt when the UART can take more.
    pub fn wake_when_empty(&mut self, wake: bool) {
        self.uart.wake_when_empty(wake);
    }

    /// Bytes dropped since boot.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    fn push(&mut self, byte: u8) {
        if self.waiting.push_back(byte).is_err() {
            self.lost = self.lost.wrapping_add(1);
            self.lost_unmarked = self.lost_unmarked.wrapping_add(1);
        }
    }
}

impl<R: Regs, const TX: usize> fmt::Write for Console<R, TX> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        #[cfg(target_arch = "mips")]
        crate::arch::keep::push_text(text.as_bytes());
        for byte in text.bytes() {
            if byte == b'\n' && self.last != b'\r' {
                self.push(b'\r');
            }
            self.last = byte;
            self.push(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// A UART that is always ready, or never.
    #[derive(Default)]
    struct Line {
        sent: Vec<u8>,
        busy: bool,
    }

    impl Regs for &mut Line {
        fn read8(&mut self, offset: usize) -> u8 {
            if offset == 5 && !self.busy { 0x60 } else { 0 }
        }
        fn write8(&mut self, offset: usize, value: u8) {
            if offset == 0 {
                self.sent.push(value);
            }
        }
        fn read32(&mut self, _: usize) -> u32 {
            0
        }
        fn write32(&mut self, _: usize, _: u32) {}
    }

    #[test]
    fn line_feeds_become_cr_lf_once() {
        let mut line = Line::default();
        let mut console: Console<_, 64> = Console::new(Uart::adopt(&mut line));
        write!(console, "a\nb\r\n\r").unwrap();
        writeln!(console).unwrap();
        assert!(!console.drain(100));
        assert_eq!(line.sent, b"a\r\nb\r\n\r\n");
    }

    #[test]
    fn writing_never_waits_and_marks_what_it_lost() {
        let mut busy = Line {
            busy: true,
            ..Line::default()
        };
        let mut free = Line::default();
        let mut console: Console<_, 128> = Console::new(Uart::adopt(&mut busy));
        for _ in 0..50 {
            write!(console, "0123").unwrap();
        }
        assert!(console.drain(100));
        assert_eq!(console.lost(), 200 - 128);
        console.uart = Uart::adopt(&mut free);
        assert!((0..20).any(|_| !console.drain(16)));
        assert!(free.sent.ends_with(b"0123\r\n[72 bytes lost]\r\n"));
    }

    #[test]
    fn draining_keeps_to_its_budget() {
        let mut line = Line::default();
        let mut console: Console<_, 64> = Console::new(Uart::adopt(&mut line));
        write!(console, "0123456789").unwrap();
        assert!(console.drain(4));
        assert_eq!(line.sent, b"0123");
    }
}
