//! A TFTP server that takes one file, once, from the LAN.
//!
//! | state | on | does |
//! | --- | --- | --- |
//! | armed | write request | answers it from a port of its own: receiving |
//! | receiving | the next block | hands it out; its taker says [`Server::accept`] or [`Server::refuse`] |
//! | receiving | the last block again | the last answer again, if that is long enough ago |
//! | receiving | silence | the last answer again, [`TFTP_RETRIES`] times, then given up |
//! | closing | any block | the last answer again: it may have been lost |
//!
//! Follows: RFC 1350; RFC 1123 section 4.2.3 (sorcerer's apprentice); RFC 2347 to 2349 (blksize, timeout, tsize).
//! Units: bytes.
//! Invariants: I1 blocks are handed out in order, each once; I2 one sender is served, told by address and port.
//! Bounds: one answer a datagram; every wait ends.
//! Not done: reading (there is nothing to read), netascii, windowsize (RFC 7440).

use core::fmt::Write;

use heapless::String;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::{Ending, Refusal};
use crate::budget::{
    TFTP_BLOCK_BYTES_MAX, TFTP_DALLY, TFTP_DUPLICATE_GAP, TFTP_OPTIONS_BYTES, TFTP_RETRIES,
    TFTP_TEXT_BYTES, TFTP_TIMEOUT, UPGRADE_ARMED,
};
use crate::port::Port;
use crate::udp::{Datagram, Outgoing, SendUdp};

/// Where a TFTP server listens.
pub const PORT: u16 = 69;
/// First of the 16,384 ports that answers come from.
const TRANSFER_PORT_FIRST: u16 = 49_152;

const WRITE: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

const BLOCK_BYTES: u16 = 512;

/// Error codes of RFC 1350.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// See the text.
    Text = 0,
    /// No room.
    Full = 3,
    /// What TFTP does not know, or this server does not do.
    Illegal = 4,
    /// From another port than the transfer's.
    UnknownTransfer = 5,
}

/// What is answered; kept to be sent again.
#[derive(Clone, Debug)]
enum Answer {
    Ack(u16),
    Options(String<TFTP_OPTIONS_BYTES>),
    Error(Code, String<TFTP_TEXT_BYTES>),
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sender {
    address: Ipv4Address,
    mac: EthernetAddress,
    port: u16,
    /// The router's own address that was asked.
    own: Ipv4Address,
}

/// A transfer's values.
#[derive(Clone, Debug)]
struct Transfer {
    sender: Sender,
    answer: Answer,
    answered: Instant,
    /// When something is due: the answer again, or the end.
    due: Instant,
    timeout: Duration,
    tries: u8,
    /// The block that comes next.
    next: u16,
    block_bytes: u16,
    /// The last block, shorter than the others, is with its taker.
    is_last: bool,
}

#[derive(Clone, Debug)]
enum State {
    Armed {
        until: Instant,
    },
    Receiving(Transfer),
    /// Over; still answers.
    Closing(Transfer),
    Done,
}

/// What a datagram or the time brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    /// Nothing to act upon.
    Nothing,
    /// The length of the file, told beforehand: `accept` or `refuse`.
    Announced(u64),
    /// The next bytes: `accept` or `refuse`.
    Block(&'a [u8]),
    /// As `Block`, and the file ends with it.
    Last(&'a [u8]),
    /// It is over without a file.
    Ended(Ending),
}

/// The server, armed for one write.
#[derive(Clone, Debug)]
pub struct Server {
    state: State,
    port: u16,
}

impl Server {
    /// Waits for a write request from now on; `chance` chooses the port of the transfer.
    pub fn new(now: Instant, chance: u16) -> Self {
        Self {
            state: State::Armed {
                until: now + UPGRADE_ARMED,
            },
            port: TRANSFER_PORT_FIRST + chance % 16_384,
        }
    }

    /// Whether a datagram of the LAN for this port is the server's.
    pub const fn listens_on(&self, port: u16) -> bool {
        match &self.state {
            State::Armed { .. } => port == PORT,
            State::Receiving(_) | State::Closing(_) => port == PORT || port == self.port,
            State::Done => false,
        }
    }

    /// Whether nothing will be answered any more.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// When `poll` has something to do.
    pub const fn poll_at(&self) -> Option<Instant> {
        match &self.state {
            State::Armed { until } => Some(*until),
            State::Receiving(transfer) | State::Closing(transfer) => Some(transfer.due),
            State::Done => None,
        }
    }

    /// Takes a datagram of the LAN on a port it listens on.
    pub fn on_datagram<'d>(
        &mut self,
        now: Instant,
        datagram: &Datagram<'d>,
        out: &mut dyn SendUdp,
    ) -> Taken<'d> {
        let sender = Sender {
            address: datagram.src,
            mac: datagram.src_mac,
            port: datagram.src_port,
            own: datagram.dst,
        };
        let opcode = datagram
            .payload
            .first_chunk()
            .map(|&bytes| u16::from_be_bytes(bytes));
        let body = datagram.payload.get(2..).unwrap_or_default();
        if datagram.dst_port == PORT {
            return self.on_request(now, sender, opcode, body, out);
        }
        match &mut self.state {
            State::Armed { .. } | State::Done => Taken::Nothing,
            State::Receiving(transfer) | State::Closing(transfer)
                if transfer.sender.address != sender.address
                    || transfer.sender.port != sender.port =>
            {
                // RFC 1350, 4: "… should be sent to the originator of the incorrect packet, and no disturbance".
                if opcode != Some(ERROR) {
                    let answer = error(Code::UnknownTransfer, "another transfer's port");
                    send(now, self.port, &sender, &answer, out);
                }
                Taken::Nothing
            }
            State::Receiving(transfer) => match opcode {
                Some(DATA) => transfer.on_data(now, self.port, body, out),
                // "An error packet is not acknowledged": it ends the transfer.
                Some(ERROR) => {
                    self.state = State::Done;
                    Taken::Ended(Ending::BySender)
                }
                Some(_) | None => {
                    let answer = error(Code::Illegal, "not a block of data");
                    send(now, self.port, &sender, &answer, out);
                    self.state = State::Done;
                    Taken::Ended(Ending::Protocol)
                }
            },
            State::Closing(transfer) => {
                if opcode == Some(DATA) {
                    transfer.answer_again(now, self.port, out);
                }
                Taken::Nothing
            }
        }
    }

    /// A packet to port 69.
    fn on_request<'d>(
        &mut self,
        now: Instant,
        sender: Sender,
        opcode: Option<u16>,
        body: &'d [u8],
        out: &mut dyn SendUdp,
    ) -> Taken<'d> {
        if opcode == Some(ERROR) {
            return Taken::Nothing; // never answered
        }
        match &mut self.state {
            State::Done => return Taken::Nothing,
            State::Receiving(transfer)
                if transfer.sender.address == sender.address
                    && transfer.sender.port == sender.port =>
            {
                // The request again: our answer is lost or late.
                if transfer.next == 1 && opcode == Some(WRITE) {
                    transfer.answer_again(now, self.port, out);
                }
                return Taken::Nothing;
            }
            State::Receiving(_) | State::Closing(_) => {
                let answer = error(Code::Text, "another transfer is under way");
                send(now, PORT, &sender, &answer, out);
                return Taken::Nothing;
            }
            State::Armed { .. } => {}
        }
        let request = match (opcode, Request::parse(body)) {
            (Some(WRITE), Some(request)) if request.is_octet => request,
            (Some(WRITE), Some(_)) => {
                let answer = error(Code::Illegal, "only mode octet is taken");
                send(now, PORT, &sender, &answer, out);
                return Taken::Nothing;
            }
            (Some(_) | None, _) => {
                let answer = error(Code::Illegal, "only a write request is taken");
                send(now, PORT, &sender, &answer, out);
                return Taken::Nothing;
            }
        };
        let timeout = request.timeout.unwrap_or(TFTP_TIMEOUT);
        self.state = State::Receiving(Transfer {
            sender,
            answer: request.answer(),
            answered: now,
            due: now + timeout,
            timeout,
            tries: 0,
            next: 1,
            block_bytes: request.block_bytes.unwrap_or(BLOCK_BYTES),
            is_last: false,
        });
        if let Some(bytes) = request.file_bytes {
            return Taken::Announced(bytes); // answered by `accept` or `refuse`
        }
        self.answer_now(now, out);
        Taken::Nothing
    }

    /// The bytes, or the announced length, were taken.
    pub fn accept(&mut self, now: Instant, out: &mut dyn SendUdp) {
        self.answer_now(now, out);
        self.state = match core::mem::replace(&mut self.state, State::Done) {
            State::Receiving(mut transfer) if transfer.is_last => {
                transfer.due = now + TFTP_DALLY;
                State::Closing(transfer)
            }
            other @ (State::Armed { .. }
            | State::Receiving(_)
            | State::Closing(_)
            | State::Done) => other,
        };
    }

    /// The bytes were not taken: the sender is told why, and the transfer is over.
    pub fn refuse(&mut self, now: Instant, refusal: &Refusal, out: &mut dyn SendUdp) {
        if let State::Receiving(mut transfer) = core::mem::replace(&mut self.state, State::Done) {
            let code = if refusal.is_lack_of_room() {
                Code::Full
            } else {
                Code::Text
            };
            let mut text = String::new();
            // What does not fit is cut; the console has it all.
            write!(text, "{refusal}").unwrap_or(());
            transfer.answer = Answer::Error(code, text);
            transfer.due = now + TFTP_DALLY;
            self.state = State::Closing(transfer);
            self.answer_now(now, out);
        }
    }

    fn answer_now(&mut self, now: Instant, out: &mut dyn SendUdp) {
        match &mut self.state {
            State::Receiving(transfer) | State::Closing(transfer) => {
                transfer.answered = now;
                send(now, self.port, &transfer.sender, &transfer.answer, out);
            }
            State::Armed { .. } | State::Done => {}
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Instant, out: &mut dyn SendUdp) -> Taken<'static> {
        match &mut self.state {
            State::Armed { until } if now >= *until => {
                self.state = State::Done;
                Taken::Ended(Ending::NobodySent)
            }
            State::Closing(transfer) if now >= transfer.due => {
                self.state = State::Done;
                Taken::Nothing
            }
            State::Receiving(transfer) if now >= transfer.due => {
                if transfer.tries == TFTP_RETRIES {
                    let answer = error(Code::Text, "no block came for too long");
                    send(now, self.port, &transfer.sender, &answer, out);
                    self.state = State::Done;
                    return Taken::Ended(Ending::Silence);
                }
                transfer.tries += 1;
                transfer.due = now + transfer.timeout;
                self.answer_now(now, out);
                Taken::Nothing
            }
            State::Armed { .. } | State::Receiving(_) | State::Closing(_) | State::Done => {
                Taken::Nothing
            }
        }
    }
}

impl Transfer {
    fn on_data<'d>(
        &mut self,
        now: Instant,
        port: u16,
        body: &'d [u8],
        out: &mut dyn SendUdp,
    ) -> Taken<'d> {
        let Some((number, bytes)) = body.split_first_chunk() else {
            return Taken::Nothing;
        };
        let number = u16::from_be_bytes(*number);
        if number.wrapping_add(1) == self.next && number != 0 {
            self.answer_again(now, port, out);
            return Taken::Nothing;
        }
        // A block out of order, or longer than agreed, is as good as lost.
        if number != self.next || bytes.len() > usize::from(self.block_bytes) {
            return Taken::Nothing;
        }
        self.answer = Answer::Ack(number);
        self.next = self.next.wrapping_add(1);
        self.tries = 0;
        self.due = now + self.timeout;
        self.is_last = bytes.len() < usize::from(self.block_bytes);
        if self.is_last {
            Taken::Last(bytes)
        } else {
            Taken::Block(bytes)
        }
    }

    fn answer_again(&mut self, now: Instant, port: u16, out: &mut dyn SendUdp) {
        if now >= self.answered + TFTP_DUPLICATE_GAP {
            self.answered = now;
            send(now, port, &self.sender, &self.answer, out);
        }
    }
}

fn error(code: Code, text: &str) -> Answer {
    let mut kept = String::new();
    // The texts of this module fit.
    kept.push_str(text).unwrap_or(());
    Answer::Error(code, kept)
}

/// Sends an answer; one that finds no room is as good as lost on the way.
fn send(now: Instant, port: u16, to: &Sender, answer: &Answer, out: &mut dyn SendUdp) {
    let (opcode, number, text, end): (u16, Option<u16>, &[u8], &[u8]) = match answer {
        Answer::Ack(block) => (ACK, Some(*block), &[], &[]),
        Answer::Options(options) => (OACK, None, options.as_bytes(), &[]),
        Answer::Error(code, text) => (ERROR, Some(*code as u16), text.as_bytes(), &[0]),
    };
    let number = number.map(u16::to_be_bytes);
    let parts = [
        &opcode.to_be_bytes()[..],
        number.as_ref().map_or(&[], |bytes| &bytes[..]),
        text,
        end,
    ];
    let length = parts.iter().map(|part| part.len()).sum();
    let outgoing = Outgoing {
        port: Port::Lan,
        src: to.own,
        src_port: port,
        dst: to.address,
        dst_port: to.port,
        mac: Some(to.mac),
    };
    let mut fill = |bytes: &mut [u8]| {
        for (to, from) in bytes.iter_mut().zip(parts.iter().copied().flatten()) {
            *to = *from;
        }
    };
    let _lost = out.send_udp(now, &outgoing, length, &mut fill).is_err();
}

/// A write request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Request {
    is_octet: bool,
    block_bytes: Option<u16>,
    timeout: Option<Duration>,
    file_bytes: Option<u64>,
}

impl Request {
    /// Reads file name, mode and options; the name is of no interest. Options that are unknown, or not agreed to, are
    /// left out of the answer, as RFC 2347 says.
    fn parse(body: &[u8]) -> Option<Self> {
        // "filename" 0 "mode" 0 ["option" 0 "value" 0 …]
        let body = body.strip_suffix(&[0])?;
        let mut words = body.split(|&byte| byte == 0);
        let _name = words.next()?;
        let mut request = Self {
            is_octet: words.next()?.eq_ignore_ascii_case(b"octet"),
            ..Self::default()
        };
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            let Some(value) = number(value) else { continue };
            if name.eq_ignore_ascii_case(b"blksize") && (8..=65_464).contains(&value) {
                let agreed = value.min(u64::from(TFTP_BLOCK_BYTES_MAX));
                request.block_bytes = Some(agreed as u16);
            } else if name.eq_ignore_ascii_case(b"timeout") && (1..=10).contains(&value) {
                request.timeout = Some(Duration::from_secs(value));
            } else if name.eq_ignore_ascii_case(b"tsize") {
                request.file_bytes = Some(value);
            }
        }
        Some(request)
    }

    /// What is answered to it: the options agreed to, or block 0.
    fn answer(&self) -> Answer {
        let mut options = String::new();
        let block_bytes = self.block_bytes.map(u64::from);
        let timeout = self.timeout.map(|timeout| timeout.secs());
        for (name, value) in [
            ("blksize", block_bytes),
            ("timeout", timeout),
            ("tsize", self.file_bytes),
        ] {
            if let Some(value) = value {
                // Three such pairs fit.
                write!(options, "{name}\0{value}\0").unwrap_or(());
            }
        }
        if options.is_empty() {
            Answer::Ack(0)
        } else {
            Answer::Options(options)
        }
    }
}

/// A decimal number of at most ten digits.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    text.iter().try_fold(0, |value, &digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests;
