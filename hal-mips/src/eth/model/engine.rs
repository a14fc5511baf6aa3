//! The two DMA engines: descriptors from memory, frames to and from buffers.
//!
//! Every walk is bounded by the ring's size, since a driver's nonsense must not hang who runs the model.

use super::{Arrived, Mac};
use crate::dma::model::Memory;
use crate::eth::regs::*;

/// Bytes that the receive FIFO takes; made up.
const FIFO_BYTES: usize = 8192;
/// Frames that wait to be fetched by who plays the line.
const SENT_MAX: usize = 4096;

/// One direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Engine {
    pub(super) control: u32,
    pub(super) address: u32,
    pub(super) pointer: u32,
    /// Current descriptor.
    pub(super) current: usize,
    pub(super) error: u32,
    /// There is a descriptor to go on with.
    pub(super) is_live: bool,
    /// It has moved since it was switched on.
    has_run: bool,
}

impl Engine {
    pub(super) fn write_control(&mut self, value: u32) {
        let was = self.control & DMA_ENABLE;
        self.control = value;
        if value & DMA_ENABLE != was {
            (self.current, self.error, self.pointer) = (0, 0, 0);
            (self.is_live, self.has_run) = (false, false);
        }
    }

    /// The pointer is compared when the engine moves, and when it starts from rest: a driver that has emptied the ring
    /// writes the engine's own place and means "go on".
    pub(super) fn write_pointer(&mut self, value: u32) {
        self.pointer = value & DMA_CURRENT;
        self.is_live = self.has_run || self.target() != self.current;
    }

    fn target(&self) -> usize {
        self.pointer as usize / DESCRIPTOR_BYTES
    }

    pub(super) fn is_on(&self) -> bool {
        self.control & DMA_ENABLE != 0 && self.error == 0
    }

    pub(super) fn status(&self) -> u32 {
        let state = if self.control & DMA_ENABLE == 0 {
            0
        } else if self.error != 0 {
            3
        } else {
            2
        };
        (self.current * DESCRIPTOR_BYTES) as u32 | state << 12 | self.error << 16
    }

    fn advance(&mut self, control: u32) {
        self.has_run = true;
        self.current = if control & DESCRIPTOR_END_OF_TABLE != 0 {
            0
        } else {
            (self.current + 1) % DESCRIPTORS_MAX
        };
        self.is_live = self.current != self.target();
    }
}

impl Mac {
    /// An address of the device's as memory has it.
    fn translate(&self, address: u32) -> Option<u64> {
        let physical = address.checked_sub(self.window)?;
        // Behind PCI the window is 1 GiB.
        (self.window == 0 || physical < self.window).then_some(u64::from(physical))
    }

    fn descriptor(&self, engine: &Engine, memory: &mut dyn Memory) -> Option<(u32, u32)> {
        let at = engine.address & !0xfff;
        let mut bytes = [0; DESCRIPTOR_BYTES];
        let at = self.translate(at)? + (engine.current * DESCRIPTOR_BYTES) as u64;
        memory.read(at, &mut bytes).then(|| {
            let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
            (word(0), word(4))
        })
    }

    /// A fault that was asked for.
    fn injected(&mut self) -> Option<u32> {
        let status = self.faults.dma_error.take()?;
        self.istat |= status;
        Some(match status {
            ISTAT_DESCRIPTOR_READ => 4,
            ISTAT_DATA_BUS => 3,
            ISTAT_TX_UNDERFLOW | ISTAT_RX_OVERFLOW => 2,
            _ => 1,
        })
    }

    /// Sends what is posted.
    pub(super) fn pump_transmit(&mut self, memory: &mut dyn Memory) {
        if self.faults.transmit_stalls || !self.is_running() {
            return;
        }
        for _ in 0..DESCRIPTORS_MAX {
            if !self.transmit.is_on() || !self.transmit.is_live {
                break;
            }
            if let Some(error) = self.injected() {
                self.transmit.error = error;
                break;
            }
            if let Err((error, status)) = self.send_part(memory) {
                self.transmit.error = error;
                self.istat |= status;
            }
        }
    }

    fn send_part(&mut self, memory: &mut dyn Memory) -> Result<(), (u32, u32)> {
        let (control, address) = self
            .descriptor(&self.transmit, memory)
            .ok_or((4, ISTAT_DESCRIPTOR_READ))?;
        let length = (control & DESCRIPTOR_LENGTH) as usize;
        let is_first = control & DESCRIPTOR_START_OF_FRAME != 0;
        // A frame begins once, and only after the one before has ended.
        if length == 0 || is_first != self.partial.is_none() {
            return Err((1, ISTAT_PROTOCOL));
        }
        let mut part = vec![0; length];
        let is_read = self
            .translate(address)
            .is_some_and(|address| memory.read(address, &mut part));
        if !is_read {
            return Err((3, ISTAT_DATA_BUS));
        }
        let mut frame = self.partial.take().unwrap_or_default();
        frame.extend(part);
        if control & DESCRIPTOR_END_OF_FRAME != 0 {
            self.leave(frame);
        } else {
            self.partial = Some(frame);
        }
        if control & DESCRIPTOR_INTERRUPT != 0 {
            self.istat |= ISTAT_TX;
        }
        self.transmit.advance(control);
        Ok(())
    }

    /// A whole frame goes to the line.
    fn leave(&mut self, mut frame: Vec<u8>) {
        if frame.len() + 4 > self.plain(TXMAXLEN) as usize {
            self.count_tx(13); // oversize
            return;
        }
        frame.resize(frame.len().max(60), 0);
        for counter in [mib_tx::PACKETS, 1] {
            self.count_tx(counter);
        }
        if self.phy.has_link(self.now_us) && self.sent.len() < SENT_MAX {
            self.sent.push_back(frame);
        }
    }

    /// A frame that the filter has let through goes into the FIFO.
    pub(super) fn arrive(&mut self, arrived: Arrived, memory: &mut dyn Memory) -> bool {
        if self.is_wedged {
            self.count_rx(mib_rx::MISSED);
            return false;
        }
        let waiting: usize = self.fifo.iter().map(|frame| frame.bytes.len()).sum();
        if waiting + arrived.bytes.len() > FIFO_BYTES || self.faults.overrun {
            self.faults.overrun = false;
            self.istat |= ISTAT_RX_OVERFLOW;
            self.is_wedged = true;
            self.count_rx(mib_rx::MISSED);
            return false;
        }
        self.fifo.push_back(arrived);
        self.pump_receive(memory);
        true
    }

    /// Moves frames from the FIFO to memory.
    pub(super) fn pump_receive(&mut self, memory: &mut dyn Memory) {
        for _ in 0..DESCRIPTORS_MAX {
            if self.fifo.is_empty() || self.is_wedged || !self.is_running() {
                return;
            }
            if !self.receive.is_on() {
                return;
            }
            if !self.receive.is_live {
                self.istat |= ISTAT_RX_UNDERFLOW;
                return;
            }
            if let Some(error) = self.injected() {
                self.receive.error = error;
                return;
            }
            let Some(frame) = self.fifo.pop_front() else {
                return;
            };
            if let Err((error, status)) = self.store(&frame, memory) {
                self.receive.error = error;
                self.istat |= status;
                return;
            }
        }
    }

    fn store(&mut self, frame: &Arrived, memory: &mut dyn Memory) -> Result<(), (u32, u32)> {
        let (control, address) = self
            .descriptor(&self.receive, memory)
            .ok_or((4, ISTAT_DESCRIPTOR_READ))?;
        let room = (control & DESCRIPTOR_LENGTH) as usize;
        let offset = (self.receive.control >> DMARX_OFFSET_SHIFT & 0x7f) as usize;
        if room <= offset {
            return Err((1, ISTAT_PROTOCOL));
        }
        let mut bytes = frame.bytes.clone();
        bytes.extend([0xfc; 4]); // in place of the check sequence
        let mut flags = frame.flags | HEADER_LAST;
        if bytes.len() > self.plain(RXMAXLEN) as usize || bytes.len() > room - offset {
            // Real ones would go on in the next buffer; no driver here has a use for that.
            flags |= HEADER_LONG;
            bytes.truncate(room - offset);
        }
        let start = self.translate(address).ok_or((3, ISTAT_DATA_BUS))?;
        let word = flags | bytes.len() as u32;
        // Eight bytes are documented; what lies between them and the frame is anything.
        let mut before = vec![0xee; offset];
        let header = word.to_le_bytes();
        for (to, from) in before.iter_mut().zip(header.into_iter().chain([0; 4])) {
            *to = from;
        }
        let late = self.faults.header_late_us;
        if late.is_some() {
            before.iter_mut().take(4).for_each(|byte| *byte = 0);
        }
        let is_written =
            memory.write(start, &before) && memory.write(start + offset as u64, &bytes);
        if !is_written {
            return Err((3, ISTAT_DATA_BUS));
        }
        if let Some(late) = late {
            self.late_headers
                .push((self.now_us.saturating_add(late), start, header));
        }
        self.receive.advance(control);
        self.count_lazily();
        Ok(())
    }

    /// Interrupt moderation: so many frames, or so long after the first.
    fn count_lazily(&mut self) {
        let lazy = self.plain(RCV_LAZY);
        self.waiting += 1;
        if lazy >> 24 != 0 && self.waiting >= lazy >> 24 {
            self.fire_receive();
        } else if lazy & 0xff_ffff != 0 && self.lazy_at.is_none() {
            self.lazy_at = Some(self.now_us + self.clocks_us(lazy & 0xff_ffff));
        }
    }

    pub(super) fn fire_receive(&mut self) {
        self.istat |= ISTAT_RX;
        self.waiting = 0;
        self.lazy_at = None;
    }
}
