//! The Ethernet core as drivers meet it: a state machine of registers, memory and time.
//!
//! Registers go in and out by [`Mac::read`] and [`Mac::write`], DMA goes through a [`Memory`], the interrupt is
//! [`Mac::interrupt`], time is an argument (µs, never going back). It serves host tests and whoever puts it on a bus.
//! What is not known of the hardware is as public drivers need it; reset values and FIFO sizes are made up.
//!
//! Calling order: any; [`Mac::advance`] at [`Mac::next_at`] at the latest.

mod engine;
mod phy;

use std::collections::{BTreeMap, VecDeque};

use super::regs::*;
use crate::dma::model::Memory;
use engine::Engine;
pub use phy::Phy;

/// An MDIO transfer: 64 bits at 2.5 MHz, µs.
const MDIO_US: u64 = 26;
/// Until the MAC has stopped, µs.
const DISABLE_US: u64 = 40;

/// What goes wrong, until it is put off.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The address filter stays busy.
    pub cam_sticks: bool,
    /// MDIO transfers do not end.
    pub mdio_sticks: bool,
    /// The MAC does not stop.
    pub disable_sticks: bool,
    /// The transmitter does nothing.
    pub transmit_stalls: bool,
    /// Received headers come so long after everything else, µs; `u64::MAX` for never.
    pub header_late_us: Option<u64>,
    /// The next frame that arrives overruns the FIFO.
    pub overrun: bool,
    /// The next descriptor ends in this error, bits of `ISTAT`.
    pub dma_error: Option<u32>,
    /// DMA status registers show this place, whatever is true.
    pub status_shows: Option<u32>,
    /// The interrupt never comes.
    pub is_mute: bool,
    /// The interrupt comes for nothing.
    pub is_spurious: bool,
    /// There is no address filter.
    pub has_no_cam: bool,
}

/// A frame in the FIFO.
#[derive(Clone, Debug)]
struct Arrived {
    bytes: Vec<u8>,
    flags: u32,
}

/// The core, with its PHY.
pub struct Mac {
    /// What goes wrong.
    pub faults: Faults,
    /// The PHY and the line.
    pub phy: Phy,
    hertz: u32,
    window: u32,
    has_internal_phy: bool,
    plain: BTreeMap<usize, u32>,
    istat: u32,
    emac_istat: u32,
    mdio_at: Option<u64>,
    disabled_at: Option<u64>,
    lazy_at: Option<u64>,
    timer_at: Option<u64>,
    link_at: Option<u64>,
    /// Frames since the last receive interrupt.
    waiting: u32,
    transmit: Engine,
    receive: Engine,
    /// A frame whose end was not posted yet.
    partial: Option<Vec<u8>>,
    late_headers: Vec<(u64, u64, [u8; 4])>,
    cam: [(u32, u32); CAM_ENTRIES as usize],
    mib: BTreeMap<usize, u32>,
    fifo: VecDeque<Arrived>,
    is_wedged: bool,
    sent: VecDeque<Vec<u8>>,
    now_us: u64,
}

impl Mac {
    /// The core of the BCM4401, whose PHY answers at `phy`: seen through PCI, at 62.5 MHz.
    pub fn of_card(phy: u8) -> Self {
        Self::new(phy, 62_500_000, crate::dma::PCI_WINDOW, true)
    }

    /// The core of a SoC at 100 MHz, with a PHY at its pins.
    pub fn of_soc(phy: u8) -> Self {
        Self::new(phy, 100_000_000, 0, false)
    }

    fn new(phy: u8, hertz: u32, window: u32, has_internal_phy: bool) -> Self {
        let mut mac = Self {
            faults: Faults::default(),
            phy: Phy::new(phy),
            hertz,
            window,
            has_internal_phy,
            plain: BTreeMap::new(),
            istat: 0,
            emac_istat: 0,
            mdio_at: None,
            disabled_at: None,
            lazy_at: None,
            timer_at: None,
            link_at: None,
            waiting: 0,
            transmit: Engine::default(),
            receive: Engine::default(),
            partial: None,
            late_headers: Vec::new(),
            cam: [(0, 0); CAM_ENTRIES as usize],
            mib: BTreeMap::new(),
            fifo: VecDeque::new(),
            is_wedged: false,
            sent: VecDeque::new(),
            now_us: 0,
        };
        mac.reset();
        mac
    }

    /// The core's reset by the backplane: all but the line, the PHY and what was sent.
    pub fn reset(&mut self) {
        self.plain.clear();
        let phy = if self.has_internal_phy {
            DEVCTRL_INTERNAL_PHY | DEVCTRL_PHY_RESET
        } else {
            0
        };
        self.plain.insert(DEVCTRL, phy);
        for offset in [RXMAXLEN, TXMAXLEN] {
            self.plain.insert(offset, 1518);
        }
        (self.istat, self.emac_istat, self.waiting) = (0, 0, 0);
        (self.mdio_at, self.disabled_at, self.lazy_at, self.timer_at) = (None, None, None, None);
        (self.transmit, self.receive) = (Engine::default(), Engine::default());
        self.partial = None;
        self.late_headers.clear();
        self.cam = [(0, 0); CAM_ENTRIES as usize];
        self.mib.clear();
        self.fifo.clear();
        self.is_wedged = false;
    }

    /// The interrupt line.
    pub fn interrupt(&self) -> bool {
        !self.faults.is_mute && (self.faults.is_spurious || self.status() & self.plain(IMASK) != 0)
    }

    fn status(&self) -> u32 {
        let emac = self.emac_istat & self.plain(EMAC_IMASK) != 0;
        self.istat | if emac { ISTAT_EMAC } else { 0 }
    }

    /// Reads a register.
    pub fn read(&mut self, offset: usize, now_us: u64, memory: &mut dyn Memory) -> u32 {
        self.advance(now_us, memory);
        let shown = |status: u32| match self.faults.status_shows {
            Some(place) => status & !DMA_CURRENT | place,
            None => status,
        };
        match offset {
            ISTAT => self.status(),
            GPTIMER => self.timer_at.map_or(0, |at| {
                ((at - self.now_us) * u64::from(self.hertz) / 1_000_000) as u32
            }),
            DMATX_CTRL => self.transmit.control,
            DMATX_ADDR => self.transmit.address,
            DMATX_PTR => self.transmit.pointer,
            DMATX_STAT => shown(self.transmit.status()),
            DMARX_CTRL => self.receive.control,
            DMARX_ADDR => self.receive.address,
            DMARX_PTR => self.receive.pointer,
            DMARX_STAT => shown(self.receive.status()),
            RXCONFIG if self.faults.has_no_cam => self.plain(RXCONFIG) | RXCONFIG_NO_CAM,
            EMAC_ISTAT => self.emac_istat,
            CAM_CTRL if self.faults.cam_sticks => self.plain(CAM_CTRL) | CAM_BUSY,
            0x500..0x600 => {
                let value = self.mib.get(&offset).copied().unwrap_or(0);
                if self.plain(MIB_CTRL) & MIB_CLEAR_ON_READ != 0 {
                    self.mib.remove(&offset);
                }
                value
            }
            _ => self.plain(offset),
        }
    }

    /// Writes a register.
    pub fn write(&mut self, offset: usize, value: u32, now_us: u64, memory: &mut dyn Memory) {
        self.advance(now_us, memory);
        match offset {
            ISTAT => self.istat &= !value,
            EMAC_ISTAT => self.emac_istat &= !value,
            GPTIMER => {
                self.timer_at = (value != 0).then(|| self.now_us + self.clocks_us(value));
            }
            DMATX_CTRL => {
                self.transmit.write_control(value);
                self.partial = None;
            }
            DMATX_ADDR => self.transmit.address = value,
            DMATX_PTR => {
                self.transmit.write_pointer(value);
                self.pump_transmit(memory);
            }
            DMARX_CTRL => self.receive.write_control(value),
            DMARX_ADDR => self.receive.address = value,
            DMARX_PTR => {
                self.receive.write_pointer(value);
                self.pump_receive(memory);
            }
            DMATX_STAT | DMARX_STAT | 0x500..0x600 => {}
            DEVCTRL => {
                let fixed = DEVCTRL_INTERNAL_PHY;
                let value = value & !fixed | self.plain(DEVCTRL) & fixed;
                self.plain.insert(DEVCTRL, value);
            }
            RXCONFIG => {
                self.plain.insert(offset, value & !RXCONFIG_NO_CAM);
            }
            MDIO_DATA => self.start_mdio(value),
            CAM_CTRL => self.write_cam(value),
            ENET_CTRL => self.write_enet(value),
            _ => {
                self.plain.insert(offset, value);
            }
        }
        if offset == ENET_CTRL {
            self.pump_transmit(memory);
            self.pump_receive(memory);
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, now_us: u64, memory: &mut dyn Memory) {
        self.now_us = self.now_us.max(now_us);
        let now_us = self.now_us;
        let is_due = |at: &mut Option<u64>| at.take_if(|at| *at <= now_us).is_some();
        if !self.faults.mdio_sticks && is_due(&mut self.mdio_at) {
            self.emac_istat |= EMAC_MDIO;
        }
        if !self.faults.disable_sticks && is_due(&mut self.disabled_at) {
            let control = self.plain(ENET_CTRL) & !(ENET_DISABLE | ENET_ENABLE);
            self.plain.insert(ENET_CTRL, control);
        }
        if is_due(&mut self.timer_at) {
            self.istat |= ISTAT_TIMER;
        }
        if is_due(&mut self.link_at) {
            self.istat |= ISTAT_LINK;
        }
        if is_due(&mut self.lazy_at) {
            self.fire_receive();
        }
        self.late_headers.retain(|(at, address, header)| {
            if *at <= now_us {
                memory.write(*address, header);
            }
            *at > now_us
        });
    }

    /// When [`advance`](Self::advance) has something to do.
    pub fn next_at(&self) -> Option<u64> {
        let headers = self.late_headers.iter().map(|(at, ..)| *at);
        let timers = [
            self.mdio_at,
            self.disabled_at,
            self.timer_at,
            self.link_at,
            self.lazy_at,
        ];
        timers.into_iter().flatten().chain(headers).min()
    }

    /// A frame comes from the line, without its check sequence; false when it gets no further than the FIFO's end.
    pub fn deliver(&mut self, frame: &[u8], now_us: u64, memory: &mut dyn Memory) -> bool {
        self.deliver_flagged(frame, 0, now_us, memory)
    }

    /// The same with flags of the receive header, as for damage.
    pub fn deliver_flagged(
        &mut self,
        frame: &[u8],
        flags: u32,
        now_us: u64,
        memory: &mut dyn Memory,
    ) -> bool {
        self.advance(now_us, memory);
        if !self.phy.has_link(self.now_us) || !self.is_running() {
            return false;
        }
        let Some(kind) = self.filter(frame) else {
            return false;
        };
        self.count_rx(mib_rx::PACKETS);
        if flags & HEADER_CRC != 0 {
            self.count_rx(mib_rx::CRC);
        }
        let arrived = Arrived {
            bytes: frame.to_vec(),
            flags: flags | kind,
        };
        self.arrive(arrived, memory)
    }

    /// A frame that was sent.
    pub fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.sent.pop_front()
    }

    /// Plugs the line in or out; `partner` is what the other end can (`phy::ADVERTISE_ALL` for everything).
    pub fn plug(&mut self, is_plugged: bool, partner: u16, now_us: u64, memory: &mut dyn Memory) {
        self.advance(now_us, memory);
        if self.phy.plug(is_plugged, partner, self.now_us) {
            self.istat |= ISTAT_LINK;
        }
        self.link_at = self.phy.link_at(self.now_us);
    }

    /// The flags of a frame that the address filter lets through.
    fn filter(&self, frame: &[u8]) -> Option<u32> {
        let config = self.plain(RXCONFIG);
        let to: [u8; 6] = frame.get(..6)?.try_into().ok()?;
        if config & RXCONFIG_LOOPBACK != 0 {
            return None;
        }
        let kind = if to == [0xff; 6] {
            HEADER_BROADCAST
        } else if to[0] & 1 != 0 {
            HEADER_MULTICAST
        } else {
            0
        };
        let is_promiscuous = config & RXCONFIG_PROMISCUOUS != 0;
        let is_wanted = is_promiscuous
            || (kind == HEADER_BROADCAST && config & 1 == 0)
            || (kind == HEADER_MULTICAST && config & RXCONFIG_ALL_MULTICAST != 0)
            || self.is_in_cam(to);
        is_wanted.then_some(kind)
    }

    fn is_in_cam(&self, to: [u8; 6]) -> bool {
        let [a, b, c, d, e, f] = to;
        let low = u32::from_be_bytes([c, d, e, f]);
        let high = u32::from(u16::from_be_bytes([a, b])) | CAM_VALID;
        self.plain(CAM_CTRL) & CAM_ENABLE != 0 && self.cam.contains(&(low, high))
    }

    fn is_running(&self) -> bool {
        self.plain(ENET_CTRL) & (ENET_ENABLE | ENET_DISABLE) == ENET_ENABLE
    }

    fn plain(&self, offset: usize) -> u32 {
        self.plain.get(&offset).copied().unwrap_or(0)
    }

    /// Backplane clocks in µs, rounded up.
    fn clocks_us(&self, clocks: u32) -> u64 {
        (u64::from(clocks) * 1_000_000).div_ceil(u64::from(self.hertz))
    }

    fn count_tx(&mut self, index: usize) {
        self.count(MIB_TX + 4 * index);
    }

    fn count_rx(&mut self, index: usize) {
        self.count(MIB_RX + 4 * index);
    }

    fn count(&mut self, offset: usize) {
        let counter = self.mib.entry(offset).or_insert(0);
        *counter = (*counter + 1) & 0xffff;
    }

    fn write_cam(&mut self, value: u32) {
        self.plain.insert(CAM_CTRL, value & !CAM_BUSY);
        let entry = &mut self.cam[(value >> CAM_INDEX_SHIFT & 0x3f) as usize];
        if self.faults.cam_sticks {
            return;
        }
        if value & CAM_WRITE != 0 {
            *entry = (
                self.plain.get(&CAM_DATA_LO).copied().unwrap_or(0),
                self.plain.get(&CAM_DATA_HI).copied().unwrap_or(0) & 0x1_ffff,
            );
        } else if value & CAM_READ != 0 {
            let (low, high) = *entry;
            self.plain.insert(CAM_DATA_LO, low);
            self.plain.insert(CAM_DATA_HI, high);
        }
    }

    fn write_enet(&mut self, value: u32) {
        self.plain.insert(ENET_CTRL, value);
        if value & ENET_DISABLE != 0 {
            self.disabled_at = Some(self.now_us + DISABLE_US);
        }
    }

    /// Whether anything answers on MDIO: the internal PHY out of reset, or the pins switched through; and a clock.
    fn mdio_answers(&self) -> bool {
        let is_connected = if self.has_internal_phy {
            self.plain(DEVCTRL) & DEVCTRL_PHY_RESET == 0
        } else {
            self.plain(ENET_CTRL) & ENET_EXTERNAL_PHY != 0
        };
        is_connected && self.plain(MDIO_CTRL) & 0x7f != 0
    }

    fn start_mdio(&mut self, value: u32) {
        let address = (value >> MDIO_PHY_SHIFT & 31) as u8;
        let register = (value >> MDIO_REGISTER_SHIFT & 31) as u8;
        let now_us = self.now_us;
        let mut value = value;
        if !self.mdio_answers() {
            value |= 0xffff;
        } else if value & MDIO_WRITE != 0 {
            self.phy.write(address, register, value as u16, now_us);
            self.link_at = self.phy.link_at(now_us);
        } else {
            let read = self.phy.read(address, register, now_us);
            value = value & !0xffff | u32::from(read);
        }
        self.plain.insert(MDIO_DATA, value);
        self.mdio_at = Some(now_us + MDIO_US);
    }
}
