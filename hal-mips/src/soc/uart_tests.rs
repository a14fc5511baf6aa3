//! The UART driver against a model of the chip.

use std::collections::VecDeque;

use embedded_io::{Read, ReadReady, Write};

use super::*;

/// A 16550 whose line the test drives: FIFOs, divisor latch, error bits that a read clears.
#[derive(Default)]
struct Model {
    received: VecDeque<u8>,
    fifo: VecDeque<u8>,
    line: Vec<u8>,
    errors: u8,
    divisor: [u8; 2],
    lcr: u8,
    ier: u8,
    fcr: u8,
    lost: usize,
    /// Looks at the status after which the transmitter sends one byte; 0: it never does.
    looks_a_byte: u32,
    looks: u32,
}

impl Model {
    fn receive(&mut self, byte: u8) {
        if self.received.len() == FIFO_BYTES {
            self.errors |= LSR_OVERRUN;
        } else {
            self.received.push_back(byte);
        }
    }
}

impl Regs for &mut Model {
    fn read8(&mut self, offset: usize) -> u8 {
        match offset {
            DATA => self.received.pop_front().unwrap_or(0),
            LSR => {
                self.looks += 1;
                if self.looks_a_byte != 0 && self.looks.is_multiple_of(self.looks_a_byte) {
                    let sent = self.fifo.pop_front();
                    self.line.extend(sent);
                }
                let errors = std::mem::take(&mut self.errors);
                let empty = if self.fifo.is_empty() {
                    LSR_HOLDING_EMPTY | LSR_ALL_SENT
                } else {
                    0
                };
                errors | empty | u8::from(!self.received.is_empty())
            }
            other => panic!("read of register {other}"),
        }
    }

    fn write8(&mut self, offset: usize, value: u8) {
        match (offset, self.lcr & LCR_DIVISOR != 0) {
            (DATA, true) => self.divisor[0] = value,
            (IER, true) => self.divisor[1] = value,
            (DATA, false) => {
                if self.fcr & 1 != 0 && self.fifo.len() == FIFO_BYTES {
                    self.lost += 1;
                } else {
                    self.fifo.push_back(value);
                }
            }
            (IER, false) => self.ier = value,
            (FCR, _) => self.fcr = value,
            (LCR, _) => self.lcr = value,
            (MCR, _) => {}
            (other, _) => panic!("write of register {other}"),
        }
    }

    fn read32(&mut self, _: usize) -> u32 {
        panic!("registers are bytes")
    }

    fn write32(&mut self, _: usize, _: u32) {
        panic!("registers are bytes")
    }
}

#[test]
fn bring_up_sets_the_line_and_leaves_the_divisor_latch() {
    let mut model = Model::default();
    Uart::new(&mut model, 0x0102);
    assert_eq!(model.divisor, [2, 1]);
    assert_eq!(
        (model.lcr, model.ier, model.fcr),
        (LCR_8N1, IER_RECEIVED, FCR_ON)
    );
}

#[test]
fn the_transmit_fifo_is_filled_but_never_overrun() {
    let mut model = Model {
        looks_a_byte: 3,
        ..Model::default()
    };
    let text: Vec<u8> = (0..100).collect();
    let mut uart = Uart::new(&mut model, 1);
    uart.write_all(&text).unwrap();
    uart.flush().unwrap();
    assert_eq!(model.lost, 0);
    assert_eq!(model.line, text);
}

#[test]
fn s9_a_transmitter_that_stays_full_is_an_error_after_a_bounded_wait() {
    let mut model = Model::default();
    let mut uart = Uart::new(&mut model, 1);
    for byte in 0..FIFO_BYTES as u8 {
        assert_eq!(uart.write_byte(byte), Ok(()));
    }
    assert_eq!(uart.write_byte(0), Err(nb::Error::WouldBlock));
    assert_eq!(uart.write_byte_blocking(0), Err(Error::Timeout));
    assert_eq!(uart.flush(), Err(Error::Timeout));
}

#[test]
fn received_bytes_come_in_order_and_an_overrun_is_told_once() {
    let mut model = Model::default();
    (0..20).for_each(|byte| model.receive(byte));
    let mut uart = Uart::new(&mut model, 1);
    assert_eq!(uart.read_ready(), Ok(true));
    uart.regs.errors = LSR_OVERRUN; // the look above has cleared it
    assert_eq!(uart.read_byte(), Err(nb::Error::Other(Error::Overrun)));
    let mut bytes = [0; 32];
    assert_eq!(uart.read(&mut bytes), Ok(15));
    assert_eq!(
        bytes[..15],
        core::array::from_fn::<u8, 15, _>(|index| index as u8 + 1)
    );
    assert_eq!(uart.read_byte(), Err(nb::Error::WouldBlock));
}

#[test]
fn s9_a_receiver_that_stays_empty_is_an_error_after_a_bounded_wait() {
    let mut model = Model::default();
    let mut uart = Uart::new(&mut model, 1);
    assert_eq!(uart.read(&mut [0; 4]), Err(Error::Timeout));
    assert_eq!(uart.read(&mut []), Ok(0));
}

#[test]
fn the_transmit_interrupt_is_switched_only_when_it_changes() {
    let mut model = Model::default();
    let mut uart = Uart::new(&mut model, 1);
    uart.wake_when_empty(true);
    uart.wake_when_empty(true);
    assert_eq!(uart.regs.ier, IER_RECEIVED | IER_TRANSMIT_EMPTY);
    uart.wake_when_empty(false);
    assert_eq!(uart.regs.ier, IER_RECEIVED);
}
