//! Start, stop, and what happens after trouble; what is looked at once a second.

use super::regs::*;
use super::{B44, Counters, Error, Event, RECEIVE_ON, State, Trouble, Wait};
use crate::arch::time::{Delay, wait_until};
use crate::dma::{Dma, FramePool};
use crate::mmio::Regs;
use crate::soc::backplane::control::Stuck;
use crate::soc::backplane::regs::IDHIGH;
use crate::soc::backplane::{CoreId, control};

/// How often link, counters and error bits are looked at, µs.
pub(super) const LOOK_US: u64 = 1_000_000;
/// A transmitter that has not moved for so long is stuck: the longest frame takes 1.2 ms at 10 Mbit/s, a ring full of
/// them 78 ms, pauses and collisions some more, µs.
pub const STUCK_US: u64 = 2_000_000;
/// Looks at the MAC until it has stopped, and the pause between, µs: 2 ms.
const DISABLE_LOOKS: u32 = 200;
/// Looks at the receive engine until it is idle: 1 ms.
const IDLE_LOOKS: u32 = 100;
/// Looks at the address filter: 1 ms.
const CAM_LOOKS: u32 = 100;
const PAUSE_US: u32 = 10;
/// Release of the internal PHY from its reset, µs.
const PHY_RELEASE_US: u32 = 100;
/// The transmitter starts at so much in the FIFO: Linux's and Broadcom's value.
const WATERMARK: u32 = 56;

/// Tells the core's revision.
pub(super) fn identify<R: Regs>(regs: &mut R) -> Result<u8, Error> {
    let found = regs.read32(IDHIGH);
    // Vendor and core; the revision is the rest.
    let expected = 0x4243 << 16 | u32::from(CoreId::ETHERNET.0) << 4;
    if found & 0xffff_8ff0 != expected {
        return Err(Error::NotEthernet { found });
    }
    Ok((found & 0xf | (found & 0x7000) >> 8) as u8)
}

impl<R: Regs, D: Dma, W: Delay> B44<R, D, W> {
    /// Link, counters, errors, a transmitter that is stuck; a reset where it is needed. Cheap when nothing is due.
    pub fn poll(&mut self, now_us: u64, pool: &mut FramePool) -> Option<Event> {
        if self.trouble.is_none() && now_us < self.due_us {
            return None;
        }
        let is_due = now_us >= self.due_us;
        match self.state {
            State::Up => {}
            State::Down if !is_due => return None,
            State::Down => self.trouble = Some(Trouble::Down),
        }
        if is_due && self.state == State::Up {
            self.take_status();
        }
        if is_due && self.state == State::Up && self.trouble.is_none() {
            self.read_counters();
            self.watch_transmit(now_us);
        }
        if is_due {
            self.due_us = now_us + LOOK_US;
        }
        if let Some(trouble) = self.trouble.take() {
            return Some(self.reset(trouble, now_us, pool));
        }
        self.look_at_link()
    }

    /// When [`poll`](Self::poll) has something to do at the latest, µs.
    pub fn poll_at(&self) -> u64 {
        if self.trouble.is_some() && self.state == State::Up {
            0
        } else {
            self.due_us
        }
    }

    /// Reads and clears the interrupt status; keeps what is trouble.
    pub(super) fn take_status(&mut self) {
        let status = self.regs.read32(ISTAT);
        if status == 0 {
            return;
        }
        if status == u32::MAX {
            self.trouble = Some(Trouble::Nonsense);
            return;
        }
        self.regs.write32(ISTAT, status);
        // The line is low when the write has arrived.
        self.regs.read32(ISTAT);
        let errors = status & ISTAT_ERRORS;
        if errors & ISTAT_RX_OVERFLOW != 0 {
            self.trouble = Some(Trouble::Overrun);
        } else if errors != 0 {
            self.trouble = Some(Trouble::Dma { status: errors });
        }
        if status & ISTAT_LINK != 0 {
            self.due_us = 0;
        }
    }

    /// Notices a transmitter that stands still with something to send, while there is a link.
    fn watch_transmit(&mut self, now_us: u64) {
        let sent = self.counters.sent;
        self.collect_sent();
        let moves = self.counters.sent != sent || self.moved_sent != sent;
        let waits_for_us = self.transmit.has_done();
        if moves || waits_for_us || !self.transmit.is_busy() || self.link.is_none() {
            self.moved_us = now_us;
            self.moved_sent = self.counters.sent;
        } else if now_us.saturating_sub(self.moved_us) >= STUCK_US {
            self.trouble = Some(Trouble::TransmitStuck);
        }
    }

    /// Adds the hardware's counters to ours, which clears them; all are 16 bits wide.
    fn read_counters(&mut self) {
        let mut tx = |index: usize| self.regs.read32(MIB_TX + 4 * index) & 0xffff;
        let unsent = tx(mib_tx::UNDERRUN) + tx(mib_tx::EXCESSIVE) + tx(mib_tx::LATE);
        let mut rx = |index: usize| self.regs.read32(MIB_RX + 4 * index) & 0xffff;
        let missed = rx(mib_rx::MISSED);
        let damaged = rx(mib_rx::CRC) + rx(mib_rx::ALIGN) + rx(mib_rx::SYMBOL);
        let short = rx(mib_rx::UNDERSIZE) + rx(mib_rx::FRAGMENT);
        let long = rx(mib_rx::OVERSIZE) + rx(mib_rx::JABBER);
        let add = |counter: &mut u32, more: u32| *counter = counter.wrapping_add(more);
        let Counters {
            missed: ours_missed,
            damaged: ours_damaged,
            wrong_length,
            unsent: ours_unsent,
            ..
        } = &mut self.counters;
        add(ours_missed, missed);
        add(ours_damaged, damaged);
        add(wrong_length, short + long);
        add(ours_unsent, unsent);
    }

    /// Asks the PHY; a transfer that fails leaves the link as it was.
    fn look_at_link(&mut self) -> Option<Event> {
        let link = self.read_link().ok()?;
        if link == self.link {
            return None;
        }
        self.link = link;
        match link {
            Some(link) => {
                self.apply_link(link);
                Some(Event::LinkUp(link))
            }
            None => Some(Event::LinkDown),
        }
    }

    /// Ends trouble by a reset, saves what was received, gives back what was to be sent.
    fn reset(&mut self, trouble: Trouble, now_us: u64, pool: &mut FramePool) -> Event {
        let counter = match trouble {
            Trouble::Overrun => Some(&mut self.counters.overruns),
            Trouble::Dma { .. } => Some(&mut self.counters.dma_errors),
            Trouble::TransmitStuck => Some(&mut self.counters.stuck),
            Trouble::Nonsense => Some(&mut self.counters.nonsense),
            Trouble::Down => None,
        };
        if let Some(counter) = counter {
            *counter = counter.wrapping_add(1);
        }
        self.save_received(pool);
        self.moved_us = now_us;
        self.due_us = now_us + LOOK_US;
        match self.start(pool, false) {
            Ok(()) => Event::Reset(trouble),
            Err(error) => {
                self.counters.failed = self.counters.failed.wrapping_add(1);
                self.hold_in_reset(pool);
                Event::Failed(error)
            }
        }
    }

    /// Takes the good frames that the device has finished out of the ring.
    fn save_received(&mut self, pool: &mut FramePool) {
        self.is_fresh = false;
        self.look_at_receive();
        self.trouble = None; // a nonsensical status has no frames, and the reset is on its way
        while !self.saved.is_full() {
            let Some(written) = self.receive.take(&self.dma) else {
                break;
            };
            if let Some(frame) = self.unpack(written, pool) {
                // There is room.
                let _room = self.saved.push_back(frame);
            }
        }
    }

    /// Leaves a device that does not work in reset, and takes back what it held. From a device that does not go into
    /// reset nothing is taken: it might still write to the buffers.
    pub(super) fn hold_in_reset(&mut self, pool: &mut FramePool) {
        self.state = State::Down;
        match control::disable(&mut self.regs, &mut self.delay, 0) {
            Err(Stuck::Reset) => {}
            Ok(()) | Err(Stuck::Reject | Stuck::Busy | Stuck::Initiator | Stuck::Up { .. }) => {
                self.empty_rings(pool)
            }
        }
    }

    fn empty_rings(&mut self, pool: &mut FramePool) {
        self.receive.empty(|frame| pool.put(frame));
        let discarded = &mut self.counters.discarded;
        let pieces = &mut self.pieces;
        self.transmit.empty(
            |frame| {
                *discarded = discarded.wrapping_add(1);
                pool.put(frame);
            },
            |piece| {
                let refused = pieces.push_back(piece);
                debug_assert!(refused.is_ok(), "pieces in the ring and behind it fit");
            },
        );
    }

    /// Resets the core, programs it and starts it; the PHY is reset only `with_phy`.
    pub(super) fn start(&mut self, pool: &mut FramePool, with_phy: bool) -> Result<(), Error> {
        self.state = State::Down;
        // In Broadcom's order: the MAC stops before its core is reset, so that no frame is cut in memory.
        if control::is_up(&mut self.regs) {
            self.stop_mac();
        }
        control::enable(&mut self.regs, &mut self.delay, 0)?;
        self.empty_rings(pool);
        self.trouble = None;
        self.regs.write32(MIB_CTRL, MIB_CLEAR_ON_READ);
        // Counters survive a core's reset, or do not: either way they begin at 0.
        for index in 0..MIB_TX_COUNT {
            self.regs.read32(MIB_TX + 4 * index);
        }
        for index in 0..MIB_RX_COUNT {
            self.regs.read32(MIB_RX + 4 * index);
        }
        self.connect_phy();
        if with_phy {
            self.start_phy()?;
        }
        self.program()?;
        self.run(pool);
        self.state = State::Up;
        Ok(())
    }

    /// Brings the MAC to rest; what does not come to rest is left to the core's reset.
    fn stop_mac(&mut self) {
        self.regs.write32(IMASK, 0);
        self.regs.write32(RCV_LAZY, 0);
        self.regs.write32(ENET_CTRL, ENET_DISABLE);
        let (regs, delay) = (&mut self.regs, &mut self.delay);
        let _stopped = wait_until(delay, PAUSE_US, DISABLE_LOOKS, || {
            regs.read32(ENET_CTRL) & ENET_DISABLE == 0
        });
        regs.write32(DMATX_CTRL, 0);
        // No frame of the line may be on its way into memory.
        regs.write32(RXCONFIG, RXCONFIG_LOOPBACK);
        delay.us(1);
        if regs.read32(DMARX_STAT) & DMA_ERROR != 0 {
            let _idle = wait_until(delay, PAUSE_US, IDLE_LOOKS, || {
                regs.read32(DMARX_STAT) & DMA_IDLE != 0
            });
        }
        regs.write32(DMARX_CTRL, 0);
    }

    /// Starts MDIO and chooses the PHY: without it nothing answers.
    fn connect_phy(&mut self) {
        // `Config::check` has seen to the divider.
        let divider = super::mii::divider(self.config.backplane_hz).unwrap_or(0x7f);
        self.regs.write32(MDIO_CTRL, MDIO_PREAMBLE | divider);
        self.regs.read32(MDIO_CTRL);
        let control = self.regs.read32(DEVCTRL);
        self.has_internal_phy = control & DEVCTRL_INTERNAL_PHY != 0;
        if !self.has_internal_phy {
            self.regs.write32(ENET_CTRL, ENET_EXTERNAL_PHY);
            self.regs.read32(ENET_CTRL);
        } else if control & DEVCTRL_PHY_RESET != 0 {
            self.regs.write32(DEVCTRL, control & !DEVCTRL_PHY_RESET);
            self.regs.read32(DEVCTRL);
            self.delay.us(PHY_RELEASE_US);
        }
    }

    /// MAC, filter, limits.
    fn program(&mut self) -> Result<(), Error> {
        let leds = if self.has_internal_phy {
            MAC_CTRL_LEDS
        } else {
            0
        };
        let control = self.regs.read32(MAC_CTRL);
        self.regs.write32(MAC_CTRL, control | MAC_CTRL_CRC | leds);
        let lazy = self.config.moderation.word(self.config.backplane_hz);
        self.regs.write32(RCV_LAZY, lazy);
        self.write_filter()?;
        let duplex = self.link.is_none_or(|link| link.is_full_duplex);
        self.regs
            .write32(TX_CTRL, if duplex { TX_DUPLEX } else { 0 });
        self.regs.write32(RXMAXLEN, super::LENGTH_MAX);
        self.regs.write32(TXMAXLEN, super::LENGTH_MAX);
        self.regs.write32(TX_WMARK, WATERMARK);
        Ok(())
    }

    /// Rings, then the MAC, then interrupts.
    fn run(&mut self, pool: &mut FramePool) {
        self.regs.write32(DMATX_CTRL, DMA_ENABLE);
        self.regs.write32(DMATX_ADDR, self.transmit.address());
        self.regs.write32(DMARX_CTRL, RECEIVE_ON);
        self.regs.write32(DMARX_ADDR, self.receive.address());
        self.refill(pool);
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        if let Some(pointer) = self.receive.show() {
            self.regs.write32(DMARX_PTR, pointer);
        }
        self.regs.write32(MIB_CTRL, MIB_CLEAR_ON_READ);
        let control = self.regs.read32(ENET_CTRL);
        self.regs.write32(ENET_CTRL, control | ENET_ENABLE);
        // The link's interrupt is there from revision 7 on.
        if self.revision >= 7 {
            self.interrupt_mask |= ISTAT_LINK;
        }
        self.regs.write32(IMASK, self.interrupt_mask);
    }

    /// Posts empty buffers as long as there are any.
    pub(super) fn refill(&mut self, pool: &mut FramePool) {
        while self.receive.room() > 0 {
            let Some(frame) = pool.get() else { break };
            if let Err(frame) = self.receive.post(frame, &self.dma) {
                pool.put(frame);
                break;
            }
        }
    }

    /// Programs the address filter, or takes everything where there is none.
    pub(super) fn write_filter(&mut self) -> Result<(), Error> {
        let config = self.regs.read32(RXCONFIG);
        let mut wanted = 0;
        self.regs.write32(CAM_CTRL, 0);
        if self.filter.promiscuous || config & RXCONFIG_NO_CAM != 0 {
            self.regs.write32(RXCONFIG, RXCONFIG_PROMISCUOUS);
            return Ok(());
        }
        if self.filter.all_multicast {
            wanted |= RXCONFIG_ALL_MULTICAST;
        }
        let own = self.config.mac;
        let others = self.filter.others.clone();
        let entries = core::iter::once(own).chain(others);
        let none = core::iter::repeat([0; 6]);
        // Entries are valid one and all: Linux writes unused ones as zero, which is nobody's address.
        for (index, mac) in (0..CAM_ENTRIES).zip(entries.chain(none)) {
            self.write_cam(index, mac)?;
        }
        self.regs.write32(CAM_CTRL, CAM_ENABLE);
        self.regs.write32(RXCONFIG, wanted);
        Ok(())
    }

    fn write_cam(&mut self, index: u32, mac: [u8; 6]) -> Result<(), Error> {
        let [a, b, c, d, e, f] = mac;
        self.regs
            .write32(CAM_DATA_LO, u32::from_be_bytes([c, d, e, f]));
        let high = u32::from(u16::from_be_bytes([a, b]));
        self.regs.write32(CAM_DATA_HI, high | CAM_VALID);
        self.regs
            .write32(CAM_CTRL, CAM_WRITE | index << CAM_INDEX_SHIFT);
        let regs = &mut self.regs;
        let is_done = wait_until(&mut self.delay, PAUSE_US, CAM_LOOKS, || {
            regs.read32(CAM_CTRL) & CAM_BUSY == 0
        });
        is_done.then_some(()).ok_or(Error::Timeout(Wait::Cam))
    }
}
