//! The receiver of XMODEM-CRC, XMODEM-1K and YMODEM on the console.
//!
//! | state | on | does |
//! | --- | --- | --- |
//! | asking | 3 s | `C`, until [`UPGRADE_ARMED`] is over |
//! | asking | block 1, or YMODEM's block 0 | hands it out, or skips it and asks again |
//! | between | the next block | hands it out: [`Receiver::accept`] or [`Receiver::cancel`] |
//! | between | the last block again | ACK, the bytes are dropped |
//! | between | another block, noise, silence | NAK once the line is silent; too often: given up |
//! | between | EOT | NAK; the second one ends the file |
//! | any | CAN CAN | given up |
//!
//! Follows: Christensen's protocol with CRC, and Forsberg's "XMODEM/YMODEM Protocol Reference" (1988), chapters 4, 5, 7.
//! A block is SOH (128 bytes) or STX (1024), its number, the number's complement, the bytes, CRC-16 high byte first.
//! Units: bytes.
//! Invariants: I1 blocks are handed out in order, each once.
//! Bounds: at most [`XMODEM_ANSWER_BYTES`] to send a call; every wait ends.
//! Budget: one block, 1029 bytes.
//! Not done: the one-byte checksum of 1977 and YMODEM-g.

use heapless::Vec;
use smoltcp::time::Instant;

use super::Ending;
use crate::budget::{
    UPGRADE_ARMED, XMODEM_ANSWER_BYTES, XMODEM_ASK_INTERVAL, XMODEM_BLOCK_TIMEOUT,
    XMODEM_BYTE_TIMEOUT, XMODEM_RETRIES,
};
use crate::crc::crc16;

const SOH: u8 = 0x01;
const STX: u8 = 0x02;
const EOT: u8 = 0x04;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;
const CAN: u8 = 0x18;
const BACKSPACE: u8 = 0x08;
/// ^C, as long as there is only a person at the other end.
const INTERRUPT: u8 = 0x03;
/// "A CRC is wanted": what a receiver begins with.
const ASK: u8 = b'C';
const SHORT_BYTES: usize = 128;
const LONG_BYTES: usize = 1024;
/// Number, complement, CRC.
const FRAME_BYTES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No block yet.
    Asking {
        until: Instant,
    },
    /// Waits for the next block.
    Between,
    /// Within a block of so many bytes behind its first.
    Block {
        bytes: usize,
    },
    /// Damage: what comes is dropped until the line is silent.
    Purging,
    /// A block is with its taker.
    Handed,
    /// The file is over; YMODEM's empty name is awaited.
    Trailer,
    Done,
}

/// What a byte or the time brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    /// Nothing to act upon.
    Nothing,
    /// The next bytes of the file: `accept` or `cancel`.
    Block(&'a [u8]),
    /// The sender says that this was all.
    Complete,
    /// It is over without a file.
    Ended(Ending),
}

/// One transfer.
#[derive(Clone, Debug)]
pub struct Receiver {
    state: State,
    block: Vec<u8, { LONG_BYTES + FRAME_BYTES }>,
    answer: Vec<u8, XMODEM_ANSWER_BYTES>,
    /// What was said last, to be said again.
    last: u8,
    /// The number of the next block.
    next: u8,
    /// A YMODEM header came: an empty one follows at the end.
    is_ymodem: bool,
    has_begun: bool,
    seen_eot: bool,
    /// The file is here; what comes is YMODEM's empty name.
    is_trailing: bool,
    cans: u8,
    errors: u8,
    due: Instant,
}

impl Receiver {
    /// Asks from now on.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Asking {
                until: now + UPGRADE_ARMED,
            },
            block: Vec::new(),
            answer: Vec::new(),
            last: ASK,
            next: 1,
            is_ymodem: false,
            has_begun: false,
            seen_eot: false,
            is_trailing: false,
            cans: 0,
            errors: 0,
            due: now + XMODEM_ASK_INTERVAL,
        }
    }

    /// Whether the line is free again.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// When `poll` has something to do.
    pub fn poll_at(&self) -> Option<Instant> {
        (!matches!(self.state, State::Done | State::Handed)).then_some(self.due)
    }

    /// What is to be sent; once.
    pub fn take_answer(&mut self) -> Vec<u8, XMODEM_ANSWER_BYTES> {
        core::mem::take(&mut self.answer)
    }

    /// Takes a byte of the line. None is lost while a block is with its taker only if that answers first.
    pub fn on_byte(&mut self, now: Instant, byte: u8) -> Taken<'_> {
        match self.state {
            State::Asking { .. } | State::Between | State::Trailer => self.on_first_byte(now, byte),
            State::Block { bytes } => {
                self.due = now + XMODEM_BYTE_TIMEOUT;
                // There is room for the longest block.
                self.block.push(byte).unwrap_or(());
                if self.block.len() < bytes + FRAME_BYTES {
                    return Taken::Nothing;
                }
                self.on_block(now, bytes)
            }
            State::Purging => {
                self.due = now + XMODEM_BYTE_TIMEOUT;
                Taken::Nothing
            }
            State::Handed | State::Done => Taken::Nothing,
        }
    }

    /// A byte where a block may begin.
    fn on_first_byte(&mut self, now: Instant, byte: u8) -> Taken<'_> {
        if byte == CAN {
            self.cans += 1;
            if self.cans < 2 {
                return Taken::Nothing;
            }
            self.state = State::Done;
            self.say(ACK);
            return Taken::Ended(Ending::BySender);
        }
        self.cans = 0;
        match byte {
            INTERRUPT if matches!(self.state, State::Asking { .. }) => {
                self.give_up(Ending::Cancelled)
            }
            SOH | STX => {
                self.block.clear();
                self.due = now + XMODEM_BYTE_TIMEOUT;
                self.state = State::Block {
                    bytes: if byte == SOH { SHORT_BYTES } else { LONG_BYTES },
                };
                Taken::Nothing
            }
            EOT => self.on_end(now),
            _ if matches!(self.state, State::Asking { .. } | State::Trailer) => Taken::Nothing,
            _ => {
                self.state = State::Purging;
                self.due = now + XMODEM_BYTE_TIMEOUT;
                Taken::Nothing
            }
        }
    }

    /// EOT: one may be noise, so it is asked for again.
    fn on_end(&mut self, now: Instant) -> Taken<'_> {
        if self.is_trailing {
            // Our answer was lost.
            self.say(ACK);
            self.say(ASK);
            return Taken::Nothing;
        }
        if !self.seen_eot {
            self.seen_eot = true;
            self.say(NAK);
            self.due = now + XMODEM_BLOCK_TIMEOUT;
            return Taken::Nothing;
        }
        self.say(ACK);
        if self.is_ymodem {
            self.say(ASK);
            self.is_trailing = true;
            self.state = State::Trailer;
            self.due = now + XMODEM_ASK_INTERVAL;
        } else {
            self.state = State::Done;
        }
        Taken::Complete
    }

    /// A block of `bytes` is all here.
    fn on_block(&mut self, now: Instant, bytes: usize) -> Taken<'_> {
        let (number, complement) = (self.block[0], self.block[1]);
        let sum = u16::from_be_bytes([self.block[2 + bytes], self.block[3 + bytes]]);
        if number != !complement || crc16(&self.block[2..2 + bytes]) != sum {
            return self.damaged(now);
        }
        self.seen_eot = false;
        if self.is_trailing {
            // The empty name, or another file of a batch; either way there is no more.
            self.state = State::Done;
            self.say(ACK);
            return Taken::Nothing;
        }
        if !self.has_begun && number == 0 {
            // YMODEM's name and length: the image has a length of its own.
            self.is_ymodem = true;
            self.between(now, ACK);
            self.say(ASK);
            self.last = ASK;
            return Taken::Nothing;
        }
        if number == self.next {
            self.has_begun = true;
            self.state = State::Handed;
            return Taken::Block(&self.block[2..2 + bytes]);
        }
        if number == self.next.wrapping_sub(1) && self.has_begun {
            self.errors += 1;
            if self.errors > XMODEM_RETRIES {
                return self.give_up(Ending::Noise);
            }
            self.between(now, ACK);
            return Taken::Nothing;
        }
        // "If the sender and receiver are out of sync, the transfer is cancelled."
        self.give_up(Ending::Protocol)
    }

    fn damaged(&mut self, now: Instant) -> Taken<'_> {
        self.state = State::Purging;
        self.due = now + XMODEM_BYTE_TIMEOUT;
        Taken::Nothing
    }

    fn between(&mut self, now: Instant, answer: u8) {
        self.state = State::Between;
        self.due = now + XMODEM_BLOCK_TIMEOUT;
        self.last = answer;
        self.say(answer);
    }

    fn say(&mut self, byte: u8) {
        // More than one call ever says fits.
        self.answer.push(byte).unwrap_or(());
    }

    fn give_up(&mut self, ending: Ending) -> Taken<'static> {
        self.cancel();
        Taken::Ended(ending)
    }

    /// The block was taken.
    pub fn accept(&mut self, now: Instant) {
        if self.state == State::Handed {
            self.next = self.next.wrapping_add(1);
            self.errors = 0;
            self.between(now, ACK);
        }
    }

    /// No more of it: tells the sender and ends.
    pub fn cancel(&mut self) {
        if self.state != State::Done {
            self.state = State::Done;
            // Forsberg, 7.3: CANs end a transfer, backspaces rub them out on a terminal.
            for byte in [
                CAN, CAN, CAN, CAN, CAN, BACKSPACE, BACKSPACE, BACKSPACE, BACKSPACE, BACKSPACE,
            ] {
                self.say(byte);
            }
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Instant) -> Taken<'static> {
        if now < self.due {
            return Taken::Nothing;
        }
        match self.state {
            State::Handed | State::Done => Taken::Nothing,
            State::Asking { until } if now >= until => self.give_up(Ending::NobodySent),
            State::Asking { .. } => {
                self.due = now + XMODEM_ASK_INTERVAL;
                self.say(ASK);
                Taken::Nothing
            }
            // The file is here; a sender that says no more of the next one has gone.
            State::Trailer => {
                self.state = State::Done;
                Taken::Nothing
            }
            State::Between | State::Block { .. } | State::Purging if self.is_trailing => {
                self.state = State::Done;
                Taken::Nothing
            }
            State::Between | State::Block { .. } | State::Purging => {
                self.errors += 1;
                if self.errors > XMODEM_RETRIES {
                    return self.give_up(if self.state == State::Between {
                        Ending::Silence
                    } else {
                        Ending::Noise
                    });
                }
                let again = if self.has_begun { NAK } else { self.last };
                self.state = State::Between;
                self.due = now + XMODEM_BLOCK_TIMEOUT;
                self.say(again);
                Taken::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests;
