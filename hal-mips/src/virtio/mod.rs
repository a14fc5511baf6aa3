//! virtio-net, over `virtio-drivers`' PCI transport.
//!
//! Follows: virtio 1.1, section 5.1, without any offload: one header of zeros before each frame.
//! The crate's own `VirtIONetRaw` notifies the device for each packet and its `VirtIONet` wants a heap; here frames
//! move between interfaces by handle, and the device is told once a burst. So the transport, negotiation and
//! configuration are the crate's, and the queues are our own (`queue.rs` says why).
//!
//! Units: bytes. Budget: [`RING_SLOTS`](crate::dma::RING_SLOTS) frames in each direction.

mod queue;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use core::convert::Infallible;

use virtio_drivers::transport::{DeviceType, Transport};

pub use self::queue::Memory;
use self::queue::{Direction, FrameQueue};
use crate::dma::{Frame, FramePool};
use crate::frame_io::{FrameIo, Full};

/// Shortest frame worth passing on: an Ethernet header.
const FRAME_BYTES_MIN: usize = 14;
/// Feature bits: the device tells its MAC address; the modern interface.
const FEATURE_MAC: u64 = 1 << 5;
const FEATURE_VERSION_1: u64 = 1 << 32;
const QUEUE_RECEIVE: u16 = 0;
const QUEUE_TRANSMIT: u16 = 1;

bitflags::bitflags! {
    /// The features that this driver knows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const MAC = FEATURE_MAC;
        const VERSION_1 = FEATURE_VERSION_1;
    }
}

/// Why an interface did not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// Not a network device.
    NotNetwork,
    /// It lacks a feature that this driver needs: a MAC address of its own, or the modern interface.
    Feature {
        /// What it has of them, as feature bits.
        found: u64,
    },
    /// No page is left for its rings.
    Memory,
    /// Its queues or registers are not as the standard says.
    Device,
}

impl From<virtio_drivers::Error> for Error {
    fn from(_: virtio_drivers::Error) -> Self {
        Self::Device
    }
}

/// Frames that never reached the main loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, defmt::Format)]
pub struct Losses {
    /// Shorter than an Ethernet header.
    pub runts: u32,
}

/// One virtio network interface.
pub struct VirtioNet<T: Transport> {
    transport: T,
    mac: [u8; 6],
    receive: FrameQueue,
    transmit: FrameQueue,
    /// The device was asked to interrupt for sent frames.
    wakes_on_room: bool,
    losses: Losses,
}

impl<T: Transport> VirtioNet<T> {
    /// Resets the device, negotiates, and fills the receive ring from `pool`.
    ///
    /// # Errors
    /// See [`Error`]; the device is left reset or failed, and no frame is lost.
    pub fn new(mut transport: T, pool: &mut FramePool) -> Result<Self, Error> {
        if transport.device_type() != DeviceType::Network {
            return Err(Error::NotNetwork);
        }
        let features = transport.begin_init(Features::all());
        if features != Features::all() {
            return Err(Error::Feature {
                found: features.bits(),
            });
        }
        let mut mac = [0; 6];
        for (offset, byte) in mac.iter_mut().enumerate() {
            *byte = transport.read_config_space(offset)?;
        }
        let receive = FrameQueue::new(&mut transport, QUEUE_RECEIVE, Direction::Receive)?;
        let mut transmit = FrameQueue::new(&mut transport, QUEUE_TRANSMIT, Direction::Transmit)?;
        transmit.interrupt_when_done(false);
        transport.finish_init();
        let mut nic = Self {
            transport,
            mac,
            receive,
            transmit,
            wakes_on_room: false,
            losses: Losses::default(),
        };
        nic.flush(pool);
        Ok(nic)
    }

    /// What was lost before the main loop saw it.
    pub fn losses(&self) -> Losses {
        self.losses
    }
}

impl<T: Transport> FrameIo for VirtioNet<T> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    #[inline]
    fn receive(&mut self, pool: &mut FramePool) -> nb::Result<Frame, Infallible> {
        // At most a ring full of runts, since none goes back to the device here.
        while let Some(frame) = self.receive.take() {
            if frame.length() >= FRAME_BYTES_MIN {
                return Ok(frame);
            }
            self.losses.runts = self.losses.runts.wrapping_add(1);
            pool.put(frame);
        }
        Err(nb::Error::WouldBlock)
    }

    #[inline]
    fn transmit(&mut self, mut frame: Frame) -> Result<(), Full> {
        frame.clear_header();
        self.transmit.offer(frame).map_err(Full)
    }

    fn room(&self) -> usize {
        self.transmit.room()
    }

    #[inline]
    fn reclaim(&mut self, pool: &mut FramePool) {
        while let Some(frame) = self.transmit.take() {
            pool.put(frame);
        }
    }

    #[inline]
    fn flush(&mut self, pool: &mut FramePool) {
        while self.receive.room() > 0 {
            let Some(frame) = pool.get() else { break };
            if let Err(frame) = self.receive.offer(frame) {
                pool.put(frame);
                break;
            }
        }
        self.receive.publish(&mut self.transport);
        self.transmit.publish(&mut self.transport);
    }

    fn acknowledge(&mut self) {
        // Reading the status lowers the line. What it says does not matter: the rings are looked at anyway.
        self.transport.ack_interrupt();
    }

    fn wake_on_room(&mut self, wake: bool) {
        if wake != self.wakes_on_room {
            self.wakes_on_room = wake;
            self.transmit.interrupt_when_done(wake);
        }
    }
}

impl<T: Transport> VirtioNet<T> {
    /// Whether a received frame waits, or a sent one whose slot is needed.
    pub fn has_work(&self) -> bool {
        self.receive.has_done() || (self.transmit.room() == 0 && self.transmit.has_done())
    }
}
