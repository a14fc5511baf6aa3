//! The backplane and the network card, as drivers meet them.
//!
//! [`CardModel`] is a BCM4401 as PCI shows it: configuration space and base address 0, by offset and width; DMA through
//! [`Memory`], only while the card is bus master; [`CardModel::interrupt`] is INTA. It is a pure state machine, for
//! host tests and for whoever puts it on a PCI bus. [`SocModel`] is a router's chip, for host tests.

use std::collections::BTreeMap;

use super::regs::*;
use crate::dma::model::Memory;
use crate::eth::model::Mac;
use crate::soc::sprom;

/// How wide an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

impl Width {
    /// By its bytes: 1, 2 or 4.
    pub const fn of_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            _ => None,
        }
    }

    const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Half => 0xffff,
            Self::Word => u32::MAX,
        }
    }

    /// What a word reads as at `offset`.
    const fn extract(self, word: u32, offset: usize) -> u32 {
        word >> (8 * (offset & 3)) & self.mask()
    }

    /// A word of which the bytes at `offset` are replaced.
    const fn merge(self, word: u32, offset: usize, value: u32) -> u32 {
        let shift = 8 * (offset & 3);
        word & !(self.mask() << shift) | (value & self.mask()) << shift
    }
}

/// What goes wrong on the backplane, until it is put off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The reject bit does not read back.
    pub reject_sticks: bool,
    /// The target stays busy.
    pub busy_sticks: bool,
    /// The initiator stays busy.
    pub initiator_sticks: bool,
    /// The core does not go into reset.
    pub reset_sticks: bool,
    /// The core does not come out of it.
    pub clock_sticks: bool,
}

/// Backplane registers of one core.
#[derive(Clone, Debug)]
pub struct Wrapper {
    /// What goes wrong.
    pub faults: Faults,
    id_low: u32,
    id_high: u32,
    flag: u32,
    low: u32,
    high: u32,
    plain: BTreeMap<usize, u32>,
}

impl Wrapper {
    /// A core of this IDHIGH and flag, in reset, which can be an initiator.
    pub fn new(id_high: u32, flag: u32) -> Self {
        Self {
            faults: Faults::default(),
            id_low: IDLOW_INITIATOR,
            id_high,
            flag,
            low: TMSLOW_RESET | TMSLOW_REJECT,
            high: 0,
            plain: BTreeMap::new(),
        }
    }

    /// Whether the core's own registers answer.
    pub fn is_up(&self) -> bool {
        self.low & (TMSLOW_CLOCK | TMSLOW_RESET) == TMSLOW_CLOCK
    }

    fn read(&self, offset: usize) -> u32 {
        let sticks = |is_stuck: bool, bit: u32| if is_stuck { bit } else { 0 };
        match offset {
            IDLOW => self.id_low,
            IDHIGH => self.id_high,
            TPSFLAG => self.flag,
            TMSLOW => self.low,
            TMSHIGH => self.high | sticks(self.faults.busy_sticks && self.is_up(), TMSHIGH_BUSY),
            IMSTATE => {
                let state = self.plain.get(&IMSTATE).copied().unwrap_or(0);
                state | sticks(self.faults.initiator_sticks, IMSTATE_BUSY)
            }
            _ => self.plain.get(&offset).copied().unwrap_or(0),
        }
    }

    /// Writes a register; true when the core went into reset.
    fn write(&mut self, offset: usize, value: u32) -> bool {
        match offset {
            IDLOW | IDHIGH | TPSFLAG => {}
            TMSHIGH => self.high = value,
            TMSLOW => {
                let mut value = value;
                if self.faults.reject_sticks {
                    value &= !(TMSLOW_REJECT | TMSLOW_REJECT_23);
                }
                if self.faults.reset_sticks {
                    value &= !TMSLOW_RESET;
                }
                if self.faults.clock_sticks {
                    value &= !TMSLOW_CLOCK;
                }
                self.low = value;
                return value & TMSLOW_RESET != 0;
            }
            _ => {
                self.plain.insert(offset, value);
            }
        }
        false
    }
}

/// Cores of the card, by index.
const ETHERNET: usize = 0;
const PCI: usize = 2;
/// Bytes of base address 0.
pub const BAR_BYTES: usize = 0x2000;
const CONFIG_BYTES: usize = 0x100;

/// Memory as the card reaches it.
struct Master<'a> {
    memory: &'a mut dyn Memory,
    is_master: bool,
}

impl Memory for Master<'_> {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        self.is_master && self.memory.read(address, bytes)
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        self.is_master && self.memory.write(address, bytes)
    }
}

/// A BCM4401-B0 on a PCI card.
pub struct CardModel {
    /// The Ethernet core.
    pub mac: Mac,
    /// Backplane registers of the cores: Ethernet, V90, PCI.
    pub cores: [Wrapper; 3],
    /// The SPROM's words.
    pub sprom: [u16; sprom::WORDS],
    /// The window does not move any more.
    pub window_sticks: bool,
    /// The card does not answer: all ones.
    pub is_gone: bool,
    config: [u8; CONFIG_BYTES],
    /// Registers of the PCI and V90 cores that only store, by core and offset.
    plain: BTreeMap<(usize, usize), u32>,
}

impl CardModel {
    /// A card of this address, its PHY at 1.
    pub fn new(mac: [u8; 6]) -> Self {
        let mut card = Self {
            mac: Mac::of_card(1),
            cores: [
                Wrapper::new(0x4243_8067, 1),
                Wrapper::new(0x4243_8073, 2),
                Wrapper::new(0x4243_804a, 3),
            ],
            sprom: sprom::made_up(mac, 1),
            window_sticks: false,
            is_gone: false,
            config: [0; CONFIG_BYTES],
            plain: BTreeMap::new(),
        };
        card.clear_config();
        card
    }

    fn clear_config(&mut self) {
        self.config = [0; CONFIG_BYTES];
        let mut put = |at: usize, value: u32| {
            self.config[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(0x00, 0x170c_14e4);
        put(0x04, 0x0010_0000); // has capabilities
        put(0x08, 0x0200_0002); // Ethernet controller, revision 2
        put(0x2c, 0x0001_14e4);
        put(0x34, 0x40);
        put(0x3c, 0x0000_0100); // INTA
        put(0x40, 0x7e02_0001); // power management, the last capability
        put(usize::from(CONFIG_WINDOW), FIRST_CORE);
        // GPIO and interrupt mask are 0.
    }

    /// Reset of the PCI bus: as after power-up, but for the line and the SPROM.
    pub fn reset(&mut self) {
        self.clear_config();
        self.plain.clear();
        self.mac.reset();
        for core in &mut self.cores {
            core.low = TMSLOW_RESET | TMSLOW_REJECT;
            core.plain.clear();
        }
    }

    fn config_word(&self, offset: usize) -> u32 {
        let at = offset & 0xfc;
        let bytes = [0, 1, 2, 3].map(|byte| self.config[at + byte]);
        u32::from_le_bytes(bytes)
    }

    /// INTA: true while it is asserted.
    pub fn interrupt(&self) -> bool {
        // Command bit 10: "interrupt disable".
        let is_off = self.config_word(4) & 1 << 10 != 0;
        let mask = self.config_word(usize::from(CONFIG_INTERRUPT_MASK));
        !self.is_gone && !is_off && mask & 1 << (8 + ETHERNET) != 0 && self.mac.interrupt()
    }

    /// Reads configuration space.
    pub fn config_read(&self, offset: usize, width: Width) -> u32 {
        if self.is_gone {
            return width.mask();
        }
        let mut word = self.config_word(offset);
        if offset & 0xfc == usize::from(CONFIG_GPIO_IN) {
            // What is driven out is seen.
            word = self.config_word(usize::from(CONFIG_GPIO_OUT))
                & self.config_word(usize::from(CONFIG_GPIO_ENABLE));
        }
        width.extract(word, offset)
    }

    /// Writes configuration space; what cannot be written stays.
    pub fn config_write(&mut self, offset: usize, width: Width, value: u32) {
        let old = self.config_word(offset);
        let new = width.merge(old, offset, value);
        let at = offset & 0xfc;
        let new = match at {
            // Command is written; status bits are cleared by ones that were really written.
            0x04 => {
                let written = width.merge(0, offset, value) & 0xf900_0000;
                (old & 0xffff_0000 & !written) | new & 0x0547
            }
            0x0c | 0x3c => old & 0xffff_ff00 | new & 0xff,
            0x10 => new & !(BAR_BYTES as u32 - 1),
            0x44 => new & 0x0103,
            0x80 if self.window_sticks => old,
            0x40 | 0x80 | 0x84 | 0x88 | 0x8c | 0x90 | 0x94 | 0x98 | 0xb4 | 0xb8 => new,
            _ => old,
        };
        self.config[at..at + 4].copy_from_slice(&new.to_le_bytes());
    }

    /// The core and the register that an offset in base address 0 means; `None` for the SPROM.
    fn locate(&self, offset: usize) -> Option<(usize, usize)> {
        match offset & (BAR_BYTES - 1) & !3 {
            register @ 0..WINDOW_BYTES => {
                let window = self.config_word(usize::from(CONFIG_WINDOW));
                let core = window.wrapping_sub(FIRST_CORE) as usize / WINDOW_BYTES;
                Some((core, register))
            }
            BAR_SPROM..0x1800 => None,
            register => Some((PCI, register - 0x1800)),
        }
    }

    /// Reads base address 0.
    pub fn bar_read(
        &mut self,
        offset: usize,
        width: Width,
        now_us: u64,
        memory: &mut dyn Memory,
    ) -> u32 {
        if self.is_gone {
            return width.mask();
        }
        let word = match self.locate(offset) {
            None => self.sprom_word(offset),
            Some((core, register @ 0xe00..)) => self
                .cores
                .get(core)
                .map_or(u32::MAX, |core| core.read(register)),
            Some((core, _)) if !self.cores.get(core).is_some_and(Wrapper::is_up) && core != PCI => {
                u32::MAX // a core in reset does not answer
            }
            Some((ETHERNET, register)) => {
                let is_master = self.is_master();
                let mut memory = Master { memory, is_master };
                self.mac.read(register, now_us, &mut memory)
            }
            Some(place) => self.plain.get(&place).copied().unwrap_or(0),
        };
        width.extract(word, offset)
    }

    /// Writes base address 0.
    pub fn bar_write(
        &mut self,
        offset: usize,
        width: Width,
        value: u32,
        now_us: u64,
        memory: &mut dyn Memory,
    ) {
        if self.is_gone {
            return;
        }
        let is_master = self.is_master();
        match self.locate(offset) {
            None => {} // the SPROM is not written
            Some((core, register @ 0xe00..)) => {
                let Some(wrapper) = self.cores.get_mut(core) else {
                    return;
                };
                let value = width.merge(wrapper.read(register), offset, value);
                if wrapper.write(register, value) && core == ETHERNET {
                    self.mac.reset();
                }
            }
            // The core's registers take words only.
            Some((ETHERNET, register)) if width == Width::Word && self.cores[ETHERNET].is_up() => {
                let mut memory = Master { memory, is_master };
                self.mac.write(register, value, now_us, &mut memory);
            }
            Some((ETHERNET, _)) => {}
            Some(place) => {
                let old = self.plain.get(&place).copied().unwrap_or(0);
                self.plain.insert(place, width.merge(old, offset, value));
            }
        }
    }

    fn sprom_word(&self, offset: usize) -> u32 {
        let at = (offset & (BAR_BYTES - 1) & !3) - BAR_SPROM;
        let word = |index: usize| u32::from(self.sprom.get(index).copied().unwrap_or(u16::MAX));
        word(at / 2) | word(at / 2 + 1) << 16
    }

    fn is_master(&self) -> bool {
        self.config_word(4) & 1 << 2 != 0
    }

    /// A frame comes from the line.
    pub fn deliver(&mut self, frame: &[u8], now_us: u64, memory: &mut dyn Memory) -> bool {
        let is_master = self.is_master();
        self.mac
            .deliver(frame, now_us, &mut Master { memory, is_master })
    }

    /// A frame that was sent.
    pub fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.mac.take_sent()
    }

    /// Plugs the line in or out: see [`Mac::plug`].
    pub fn plug(&mut self, is_plugged: bool, partner: u16, now_us: u64, memory: &mut dyn Memory) {
        let is_master = self.is_master();
        let mut memory = Master { memory, is_master };
        self.mac.plug(is_plugged, partner, now_us, &mut memory);
    }

    /// When [`advance`](Self::advance) has something to do.
    pub fn next_at(&self) -> Option<u64> {
        self.mac.next_at()
    }

    /// Lets time pass.
    pub fn advance(&mut self, now_us: u64, memory: &mut dyn Memory) {
        let is_master = self.is_master();
        self.mac.advance(now_us, &mut Master { memory, is_master });
    }
}

/// A router's chip: cores that store, the Ethernet core among them.
pub struct SocModel {
    /// The Ethernet core.
    pub mac: Mac,
    /// Backplane registers, by index.
    pub cores: Vec<Wrapper>,
    /// Place of the Ethernet core.
    pub ethernet: usize,
    plain: BTreeMap<(usize, usize), u32>,
}

impl SocModel {
    /// A BCM5352, with the cores that are known of it and, between, those of its successor.
    pub fn bcm5352(phy: u8) -> Self {
        let ids = [
            0x4243_800e, // ChipCommon
            0x4243_8068, // Ethernet
            0x4243_8166, // processor
            0x4243_8192, // USB
            0x4243_80f4, // memory
            0x4243_8129, // 802.11
            0x4243_81c1, // switch
        ];
        let mut flag = 0;
        let cores = ids.map(|id| {
            flag += 1;
            Wrapper::new(id, flag)
        });
        let mut model = Self {
            mac: Mac::of_soc(phy),
            cores: cores.to_vec(),
            ethernet: 1,
            plain: BTreeMap::new(),
        };
        model.plain.insert((0, CHIP_ID), 0x0720_5352);
        model
    }

    /// A BCM4702, whose first core is not ChipCommon.
    pub fn bcm4702() -> Self {
        let mut model = Self::bcm5352(30);
        model.cores = (0..9)
            .map(|index| match index {
                0 => Wrapper::new(0x4243_8110, 6),
                1 => Wrapper::new(0x4243_8062, 2),
                2 => Wrapper::new(0x4243_8050, 0),
                _ => Wrapper::new(0x4243_8030, 0),
            })
            .collect();
        model
    }

    /// Reads a register; `None` is a bus error.
    pub fn read(
        &mut self,
        core: usize,
        offset: usize,
        now_us: u64,
        memory: &mut dyn Memory,
    ) -> Option<u32> {
        let wrapper = self.cores.get(core)?;
        Some(if offset >= 0xe00 {
            wrapper.read(offset)
        } else if core == self.ethernet && wrapper.is_up() {
            self.mac.read(offset, now_us, memory)
        } else {
            self.plain.get(&(core, offset)).copied().unwrap_or(0)
        })
    }

    /// Writes a register; false is a bus error.
    pub fn write(
        &mut self,
        core: usize,
        offset: usize,
        value: u32,
        now_us: u64,
        memory: &mut dyn Memory,
    ) -> bool {
        let Some(wrapper) = self.cores.get_mut(core) else {
            return false;
        };
        if offset >= 0xe00 {
            if wrapper.write(offset, value) && core == self.ethernet {
                self.mac.reset();
            }
        } else if core == self.ethernet && wrapper.is_up() {
            self.mac.write(offset, value, now_us, memory);
        } else {
            self.plain.insert((core, offset), value);
        }
        true
    }
}
