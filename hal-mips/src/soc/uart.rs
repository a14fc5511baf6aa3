//! 16550 UART, polled, with its FIFOs on.
//!
//! The receiver interrupts at half a FIFO, or four character times after the last byte: at 115200 bit/s there is 0.7 ms
//! left then before a byte is lost. An emulated chip takes as many bytes at a time as its trigger level says.
//!
//! Follows: National Semiconductor PC16550D data sheet, section 8. Registers lie 1 byte apart.
//! Non-blocking calls are `nb`; the `embedded-io` traits, which block, wait at most [`WAIT_LOOKS`] looks at
//! the line status and then fail.

use core::convert::Infallible;

use crate::mmio::Regs;

/// Depth of the transmit FIFO, bytes.
pub const FIFO_BYTES: usize = 16;
/// Looks at the status register before a blocking call gives up; each is an uncached read, about 1 us on hardware.
pub const WAIT_LOOKS: u32 = 200_000;

/// Receive buffer (read), transmit holding register (write), divisor low byte (DLAB).
const DATA: usize = 0;
/// Interrupt enable; divisor high byte (DLAB).
const IER: usize = 1;
/// FIFO control (write).
const FCR: usize = 2;
/// Line control.
const LCR: usize = 3;
/// Modem control.
const MCR: usize = 4;
/// Line status; reading clears the error bits.
const LSR: usize = 5;

const IER_RECEIVED: u8 = 1 << 0;
const IER_TRANSMIT_EMPTY: u8 = 1 << 1;
/// FIFOs on, both cleared, receive trigger at 8 bytes.
const FCR_ON: u8 = 0x07 | 0x80;
const LSR_DATA_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_PARITY: u8 = 1 << 2;
const LSR_FRAMING: u8 = 1 << 3;
const LSR_HOLDING_EMPTY: u8 = 1 << 5;
const LSR_ALL_SENT: u8 = 1 << 6;
const LCR_8N1: u8 = 0x03;
const LCR_DIVISOR: u8 = 0x80;

/// What a received byte suffered, or a wait that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// Bytes before this one were lost: the FIFO was full.
    Overrun,
    /// Noise on the line.
    Line,
    /// A blocking call saw no change within [`WAIT_LOOKS`].
    Timeout,
}

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Error::Overrun => "receiver overrun",
            Error::Line => "parity or framing error",
            Error::Timeout => "the UART does not move",
        })
    }
}

impl core::error::Error for Error {}

impl embedded_io::Error for Error {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self {
            Error::Overrun | Error::Line => embedded_io::ErrorKind::InvalidData,
            Error::Timeout => embedded_io::ErrorKind::TimedOut,
        }
    }
}

/// One 16550.
#[derive(Debug)]
pub struct Uart<R: Regs> {
    regs: R,
    ier: u8,
    /// Room left in the transmit FIFO since it was last seen empty.
    room: u8,
}

impl<R: Regs> Uart<R> {
    /// Sets 8N1 at `divisor` (of 115200 bit/s on PC-like boards), FIFOs on and empty, receive interrupt on.
    pub fn new(mut regs: R, divisor: u16) -> Self {
        regs.write8(IER, 0);
        regs.write8(LCR, LCR_8N1 | LCR_DIVISOR);
        let [low, high] = divisor.to_le_bytes();
        regs.write8(DATA, low);
        regs.write8(IER, high);
        regs.write8(LCR, LCR_8N1);
        regs.write8(FCR, FCR_ON);
        regs.write8(MCR, 0x0b); // DTR, RTS, OUT2: the last one gates the interrupt line on PCs
        regs.write8(IER, IER_RECEIVED);
        Self {
            regs,
            ier: IER_RECEIVED,
            room: 0,
        }
    }

    /// Takes over a UART as it is, without programming it: for the crash path.
    pub fn adopt(regs: R) -> Self {
        Self {
            regs,
            ier: 0,
            room: 0,
        }
    }

    /// Takes one received byte.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; [`Error::Overrun`] and [`Error::Line`] once for what the line suffered (the byte is gone).
    pub fn read_byte(&mut self) -> nb::Result<u8, Error> {
        let status = self.regs.read8(LSR);
        if status & LSR_DATA_READY == 0 {
            return Err(nb::Error::WouldBlock);
        }
        let byte = self.regs.read8(DATA);
        if status & LSR_OVERRUN != 0 {
            Err(nb::Error::Other(Error::Overrun))
        } else if status & (LSR_PARITY | LSR_FRAMING) != 0 {
            Err(nb::Error::Other(Error::Line))
        } else {
            Ok(byte)
        }
    }

    /// Puts one byte into the transmit FIFO.
    ///
    /// # Errors
    /// `WouldBlock` when the FIFO is full.
    pub fn write_byte(&mut self, byte: u8) -> nb::Result<(), Infallible> {
        if self.room == 0 {
            if self.regs.read8(LSR) & LSR_HOLDING_EMPTY == 0 {
                return Err(nb::Error::WouldBlock);
            }
            self.room = FIFO_BYTES as u8; // "holding register empty" means the whole FIFO is, once FIFOs are on
        }
        self.room -= 1;
        self.regs.write8(DATA, byte);
        Ok(())
    }

    /// Whether every byte has left the shift register.
    ///
    /// # Errors
    /// `WouldBlock` while one has not.
    pub fn sent(&mut self) -> nb::Result<(), Infallible> {
        if self.regs.read8(LSR) & LSR_ALL_SENT == 0 {
            Err(nb::Error::WouldBlock)
        } else {
            Ok(())
        }
    }

    /// Asks for an interrupt when the transmit FIFO is empty, or no more.
    pub fn wake_when_empty(&mut self, wake: bool) {
        let ier = if wake {
            self.ier | IER_TRANSMIT_EMPTY
        } else {
            self.ier & !IER_TRANSMIT_EMPTY
        };
        if ier != self.ier {
            self.ier = ier;
            self.regs.write8(IER, ier);
        }
    }

    /// Writes one byte, waiting for room.
    ///
    /// # Errors
    /// [`Error::Timeout`] after [`WAIT_LOOKS`] looks.
    pub fn write_byte_blocking(&mut self, byte: u8) -> Result<(), Error> {
        for _ in 0..WAIT_LOOKS {
            match self.write_byte(byte) {
                Ok(()) => return Ok(()),
                Err(nb::Error::WouldBlock) => {}
                Err(nb::Error::Other(never)) => match never {},
            }
        }
        Err(Error::Timeout)
    }
}

impl<R: Regs> embedded_io::ErrorType for Uart<R> {
    type Error = Error;
}

impl<R: Regs> embedded_io::Read for Uart<R> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut count = 0;
        let mut looks = 0;
        while count < buf.len() {
            match self.read_byte() {
                Ok(byte) => {
                    buf[count] = byte;
                    count += 1;
                }
                Err(nb::Error::WouldBlock) if count > 0 => break,
                Err(nb::Error::WouldBlock) => {
                    looks += 1;
                    if looks == WAIT_LOOKS {
                        return Err(Error::Timeout);
                    }
                }
                Err(nb::Error::Other(error)) => return Err(error),
            }
        }
        Ok(count)
    }
}

impl<R: Regs> embedded_io::ReadReady for Uart<R> {
    fn read_ready(&mut self) -> Result<bool, Error> {
        Ok(self.regs.read8(LSR) & LSR_DATA_READY != 0)
    }
}

impl<R: Regs> embedded_io::Write for Uart<R> {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Error> {
        let Some((&first, rest)) = buf.split_first() else {
            return Ok(0);
        };
        self.write_byte_blocking(first)?;
        Ok(1 + rest
            .iter()
            .take_while(|&&byte| self.write_byte(byte).is_ok())
            .count())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if (0..WAIT_LOOKS).any(|_| self.sent().is_ok()) {
            Ok(())
        } else {
            Err(Error::Timeout)
        }
    }
}

#[cfg(test)]
#[path = "uart_tests.rs"]
mod tests;
