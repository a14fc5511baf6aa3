//! Broadcom's 44xx Ethernet core: the BCM4401's on a PCI card, and the same on the routers' own backplane.
//!
//! Follows: what public drivers do, in Broadcom's own order where they differ; no data sheet is public. The registers are in
//! `regs.rs`, the descriptors in `ring.rs`, the PHY in `mii.rs`; `model.rs` is the device as the tests meet it.
//!
//! ```text
//! new ──▶ Up ── error interrupt, transmitter stuck, nonsense in a register ──▶ poll: reset ──▶ Up
//!                                                                          └─ fails ──▶ Down, again each second
//! ```
//! Calling order, each turn: that of [`FrameIo`], then [`B44::poll`], at [`B44::poll_at`] at the latest. Interrupts only
//! wake: everything is found without them too, by `poll` within a second.
//!
//! Units: bytes, µs. Every wait is bounded; the longest reset takes some 60 ms.
//! Invariants: I1 a buffer that the device may touch is held by a ring, in a type that has no bytes; I2 no frame of the pool is
//! lost: what a reset interrupts goes back to it, or is received.
//! Budget: two pages; [`RING_SLOTS`](crate::dma::RING_SLOTS) - 1 frames in each direction, as many that a reset saved.
//! Not done: pause frames, wake-up, VLAN tags, frames longer than a buffer. What only silicon can show is not known: the model
//! is as the drivers of others expect the device.

mod mii;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod recover;
pub mod regs;
mod report;
mod ring;
#[cfg(test)]
mod tests;

use core::convert::Infallible;
use core::sync::atomic::{Ordering, fence};

use crate::arch::time::{Delay, wait_until};
use crate::dma::{Dma, FRAME_BYTES_MAX, FRAME_OFFSET, Frame, FramePool, Piece, RING_SLOTS};
use crate::frame_io::{FrameIo, Full};
use crate::mmio::Regs;

pub use mii::{Link, NO_PHY, SWITCH_PHY};
pub use recover::STUCK_US;
use regs::*;
pub use report::{ConfigError, Counters, Error, Event, Trouble, Wait};
use ring::{ReceiveRing, TransmitRing};

/// Shortest frame, without its check sequence: shorter ones are padded.
const FRAME_BYTES_MIN: usize = 60;
/// Bytes of the check sequence behind a received frame.
const CHECK_BYTES: usize = 4;
/// Shortest frame worth passing on: an Ethernet header.
const HEADER_BYTES: usize = 14;
/// Longest frame with a VLAN tag and its check sequence.
const LENGTH_MAX: u32 = 1522;
const _: () = assert!(LENGTH_MAX as usize <= FRAME_BYTES_MAX);
/// Looks at a header that is not there yet, and the pause between: the device's write may still be under way.
const HEADER_LOOKS: u32 = 5;
const HEADER_LOOK_US: u32 = 2;
/// Addresses of other stations that are taken too.
pub const OTHERS_MAX: usize = 4;
/// Pieces of a frame behind its head.
pub const PIECES_MAX: usize = 4;

/// What the driver has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interface's address.
    pub mac: [u8; 6],
    /// Where its PHY is on MDIO: 0 to 29, or [`SWITCH_PHY`].
    pub phy: u8,
    /// Clock of the backplane, Hz: 100 MHz on the routers, 62.5 MHz on the card.
    pub backplane_hz: u32,
    /// When a received frame interrupts.
    pub moderation: Moderation,
}

/// How long received frames may wait for others before they interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moderation {
    /// So many frames interrupt at once; at least 1.
    pub frames: u8,
    /// A frame interrupts after so many µs at the latest.
    pub timeout_us: u32,
}

impl Moderation {
    /// A frame, an interrupt.
    pub const NONE: Self = Self {
        frames: 1,
        timeout_us: 0,
    };
    /// For a router: a burst as the main loop takes it, and less delay than a hop makes anyway.
    pub const ROUTER: Self = Self {
        frames: 8,
        timeout_us: 100,
    };

    fn word(self, hertz: u32) -> u32 {
        let clocks = u64::from(self.timeout_us) * u64::from(hertz) / 1_000_000;
        u32::from(self.frames.max(1)) << 24 | clocks.min(0xff_ffff) as u32
    }
}

/// Which frames are taken besides broadcasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Addresses besides the interface's own.
    pub others: heapless::Vec<[u8; 6], OTHERS_MAX>,
    /// Every multicast frame.
    pub all_multicast: bool,
    /// Every frame.
    pub promiscuous: bool,
}

/// Whether the device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// The last reset failed.
    Down,
}

/// One interface.
pub struct B44<R, D, W> {
    regs: R,
    dma: D,
    delay: W,
    config: Config,
    filter: Filter,
    /// The core's revision.
    revision: u8,
    has_internal_phy: bool,
    state: State,
    receive: ReceiveRing,
    transmit: TransmitRing,
    /// Received frames that a reset found in the ring.
    saved: heapless::Deque<Frame, RING_SLOTS>,
    /// Sent pieces that nobody has fetched.
    pieces: heapless::Deque<Piece, { 2 * RING_SLOTS }>,
    /// Frames of sent slots that `reclaim` has not put back.
    sent: heapless::Deque<Frame, RING_SLOTS>,
    /// `DMARX_STAT` was read since the last `flush`.
    is_fresh: bool,
    interrupt_mask: u32,
    trouble: Option<Trouble>,
    link: Option<Link>,
    /// When the link, the counters and the error bits are looked at again.
    due_us: u64,
    /// When the transmitter was last seen to move, and how much it had sent then.
    moved_us: u64,
    moved_sent: u32,
    counters: Counters,
}

impl<R: Regs, D: Dma, W: Delay> B44<R, D, W> {
    /// Resets and starts the interface, and fills its receive ring from `pool`.
    ///
    /// # Errors
    /// [`Error`]; the device is left in reset if it can be, and no frame is lost.
    pub fn new(
        mut regs: R,
        dma: D,
        delay: W,
        config: Config,
        pool: &mut FramePool,
    ) -> Result<Self, Error> {
        let revision = recover::identify(&mut regs)?;
        config.check().map_err(Error::Config)?;
        let (Some(receive), Some(transmit)) = (ReceiveRing::new(&dma), TransmitRing::new(&dma))
        else {
            return Err(Error::Memory);
        };
        let mut nic = Self {
            regs,
            dma,
            delay,
            config,
            filter: Filter::default(),
            revision,
            has_internal_phy: false,
            state: State::Down,
            receive,
            transmit,
            saved: heapless::Deque::new(),
            pieces: heapless::Deque::new(),
            sent: heapless::Deque::new(),
            is_fresh: false,
            interrupt_mask: ISTAT_ERRORS | ISTAT_RX,
            trouble: None,
            link: None,
            due_us: 0,
            moved_us: 0,
            moved_sent: 0,
            counters: Counters::default(),
        };
        nic.start(pool, true)
            .inspect_err(|_| nic.hold_in_reset(pool))?;
        Ok(nic)
    }

    /// The link; `None` while there is none, or nobody has looked yet.
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// What happened since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The core's revision.
    pub fn revision(&self) -> u8 {
        self.revision
    }

    /// Chooses the frames that are taken.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the hardware's filter does not take it; the next reset tries again.
    pub fn set_filter(&mut self, filter: Filter) -> Result<(), Error> {
        self.filter = filter;
        match self.state {
            State::Up => self.write_filter(),
            State::Down => Ok(()),
        }
    }

    /// Whether a received frame waits, or a sent one whose slot is needed.
    pub fn has_work(&mut self) -> bool {
        self.look_at_receive();
        let waits = self.receive.has_done() || !self.saved.is_empty() || self.trouble.is_some();
        waits || (self.transmit.room() == 0 && self.look_at_transmit())
    }

    /// Queues a frame whose bytes after `head` are `pieces`, sent from where they lie. They are drained, and come back by
    /// [`take_sent_piece`](Self::take_sent_piece).
    ///
    /// # Errors
    /// [`Full`], with the head, and `pieces` as they were: too few slots, or a frame too short or too long to be one.
    pub fn transmit_parts(
        &mut self,
        head: Frame,
        pieces: &mut heapless::Vec<Piece, PIECES_MAX>,
    ) -> Result<(), Full> {
        let length = pieces
            .iter()
            .fold(head.length(), |sum, piece| sum + piece.length());
        let is_frame = head.length() >= HEADER_BYTES && length <= LENGTH_MAX as usize - CHECK_BYTES;
        if !is_frame || (!pieces.is_empty() && length < FRAME_BYTES_MIN) || self.state != State::Up
        {
            return Err(Full(head));
        }
        self.transmit.post(head, pieces, &self.dma).map_err(Full)
    }

    /// A piece that was sent, or that a reset took back.
    pub fn take_sent_piece(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    /// Reads `DMARX_STAT` unless that was done this turn.
    fn look_at_receive(&mut self) {
        if self.state == State::Up && !self.is_fresh && !self.receive.has_done() {
            self.is_fresh = true;
            let status = self.regs.read32(DMARX_STAT);
            if !self.receive.advance(status) {
                self.trouble = Some(Trouble::Nonsense);
            }
        }
    }

    /// Reads `DMATX_STAT`; whether a sent slot waits.
    fn look_at_transmit(&mut self) -> bool {
        if self.state == State::Up && self.transmit.is_busy() && !self.transmit.has_done() {
            let status = self.regs.read32(DMATX_STAT);
            if !self.transmit.advance(status) {
                self.trouble = Some(Trouble::Nonsense);
            }
        }
        self.transmit.has_done()
    }

    /// The frame in a filled buffer; a bad one goes back to the pool.
    fn unpack(&mut self, written: crate::dma::Written, pool: &mut FramePool) -> Option<Frame> {
        // "If the length reads 0 the header is still under way."
        wait_until(&mut self.delay, HEADER_LOOK_US, HEADER_LOOKS, || {
            if written.header() & HEADER_LENGTH == 0 {
                written.look_again(&self.dma);
            }
            written.header() & HEADER_LENGTH != 0
        });
        let header = written.header();
        let length = (header & HEADER_LENGTH) as usize;
        let counter = if length == 0 {
            &mut self.counters.headerless
        } else if header & HEADER_BAD != 0 {
            &mut self.counters.bad
        } else if !(HEADER_BYTES + CHECK_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            &mut self.counters.runts
        } else {
            self.counters.received = self.counters.received.wrapping_add(1);
            return Some(written.take(length - CHECK_BYTES, &self.dma));
        };
        *counter = counter.wrapping_add(1);
        pool.put(written.take(0, &self.dma));
        None
    }

    /// Takes sent slots, as far as there is room for what they held.
    fn collect_sent(&mut self) {
        while self.look_at_transmit() {
            let has_room = if self.transmit.next_is_piece() {
                // Half of it is left to what a reset takes out of the ring.
                self.pieces.len() < RING_SLOTS
            } else {
                !self.sent.is_full()
            };
            if !has_room {
                break;
            }
            let (sent, pieces) = (&mut self.sent, &mut self.pieces);
            let count = &mut self.counters.sent;
            self.transmit.take(
                |frame| {
                    *count = count.wrapping_add(1);
                    // There was room.
                    let _room = sent.push_back(frame);
                },
                |piece| {
                    let _room = pieces.push_back(piece);
                },
            );
        }
    }
}

impl Config {
    fn check(&self) -> Result<(), ConfigError> {
        if self.mac[0] & 1 != 0 || self.mac == [0; 6] {
            return Err(ConfigError::Mac);
        }
        if self.phy >= NO_PHY {
            return Err(ConfigError::Phy { found: self.phy });
        }
        mii::divider(self.backplane_hz)
            .map(|_| ())
            .ok_or(ConfigError::Clock)
    }
}

impl<R: Regs, D: Dma, W: Delay> FrameIo for B44<R, D, W> {
    fn mac(&self) -> [u8; 6] {
        self.config.mac
    }

    fn receive(&mut self, pool: &mut FramePool) -> nb::Result<Frame, Infallible> {
        if let Some(frame) = self.saved.pop_front() {
            return Ok(frame);
        }
        self.look_at_receive();
        // At most a ring full of bad ones, since none goes back to the device here.
        while let Some(written) = self.receive.take(&self.dma) {
            if let Some(frame) = self.unpack(written, pool) {
                return Ok(frame);
            }
        }
        Err(nb::Error::WouldBlock)
    }

    fn transmit(&mut self, mut frame: Frame) -> Result<(), Full> {
        let length = frame.length();
        if length < HEADER_BYTES || self.room() == 0 {
            return Err(Full(frame));
        }
        if length < FRAME_BYTES_MIN {
            // Not with what the buffer held before.
            frame.set_length(FRAME_BYTES_MIN);
            frame.bytes_mut()[length..].fill(0);
        }
        self.transmit_parts(frame, &mut heapless::Vec::new())
    }

    fn room(&self) -> usize {
        match self.state {
            State::Up => self.transmit.room(),
            State::Down => 0,
        }
    }

    fn reclaim(&mut self, pool: &mut FramePool) {
        self.is_fresh = false;
        self.collect_sent();
        while let Some(frame) = self.sent.pop_front() {
            pool.put(frame);
        }
    }

    fn flush(&mut self, pool: &mut FramePool) {
        if self.state != State::Up {
            return;
        }
        self.refill(pool);
        let (receive, transmit) = (self.receive.show(), self.transmit.show());
        if receive.is_some() || transmit.is_some() {
            // Descriptors before the registers that show them.
            fence(Ordering::SeqCst);
        }
        if let Some(pointer) = receive {
            self.regs.write32(DMARX_PTR, pointer);
        }
        if let Some(pointer) = transmit {
            self.regs.write32(DMATX_PTR, pointer);
        }
    }

    fn acknowledge(&mut self) {
        self.is_fresh = false;
        if self.state == State::Up {
            self.take_status();
        }
    }

    fn wake_on_room(&mut self, wake: bool) {
        let mask = if wake {
            self.interrupt_mask | ISTAT_TX
        } else {
            self.interrupt_mask & !ISTAT_TX
        };
        if mask != self.interrupt_mask {
            self.interrupt_mask = mask;
            if self.state == State::Up {
                self.regs.write32(IMASK, mask);
            }
        }
    }
}

/// Receive control: on, the frame at its offset.
const RECEIVE_ON: u32 = DMA_ENABLE | (FRAME_OFFSET as u32) << DMARX_OFFSET_SHIFT;
const _: () = assert!(FRAME_OFFSET <= 127);
