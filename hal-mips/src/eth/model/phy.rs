//! The PHY inside the BCM4401, as MDIO shows it.

use crate::eth::regs::phy;

/// Reset of the PHY, µs: within the 100 that drivers wait.
const RESET_US: u64 = 60;
/// Negotiation; real ones take a second or two, µs.
const NEGOTIATION_US: u64 = 20_000;

/// A PHY and the line at its socket.
#[derive(Clone, Debug)]
pub struct Phy {
    /// Where it answers on MDIO.
    pub address: u8,
    registers: [u16; 32],
    reset_until: Option<u64>,
    link_from: Option<u64>,
    /// Something is at the other end.
    is_plugged: bool,
    /// What the other end can, as its register 4 would say.
    partner: u16,
    /// The link was lost since the status was last read.
    was_down: bool,
    /// Its reset never ends.
    pub reset_sticks: bool,
}

impl Phy {
    /// A PHY at `address`, plugged in, whose partner can everything.
    pub fn new(address: u8) -> Self {
        let mut phy = Self {
            address,
            registers: [0; 32],
            reset_until: None,
            link_from: Some(0),
            is_plugged: true,
            partner: phy::ADVERTISE_ALL,
            was_down: true,
            reset_sticks: false,
        };
        phy.clear();
        phy
    }

    fn clear(&mut self) {
        self.registers = [0; 32];
        self.registers[usize::from(phy::BMCR)] = 0x3000;
        self.registers[2] = 0x0020;
        self.registers[3] = 0x6270;
        self.registers[usize::from(phy::ADVERTISE)] = phy::ADVERTISE_ALL;
    }

    /// Plugs the line in or out, with what the other end can; true when the link changes at once.
    pub fn plug(&mut self, is_plugged: bool, partner: u16, now_us: u64) -> bool {
        let had = self.has_link(now_us);
        self.is_plugged = is_plugged;
        self.partner = partner;
        self.link_from = is_plugged.then_some(now_us + NEGOTIATION_US);
        self.was_down |= had;
        had
    }

    /// When the link comes, if one is on its way.
    pub(super) fn link_at(&self, now_us: u64) -> Option<u64> {
        self.link_from.filter(|&from| from > now_us)
    }

    /// Whether there is a link.
    pub fn has_link(&self, now_us: u64) -> bool {
        self.is_plugged && self.link_from.is_some_and(|from| from <= now_us)
    }

    fn finish_reset(&mut self, now_us: u64) {
        if !self.reset_sticks && self.reset_until.is_some_and(|until| until <= now_us) {
            self.reset_until = None;
            self.clear();
        }
    }

    pub(super) fn read(&mut self, address: u8, register: u8, now_us: u64) -> u16 {
        if address != self.address {
            return u16::MAX;
        }
        self.finish_reset(now_us);
        let stored = self.registers[usize::from(register & 31)];
        match register {
            phy::BMCR if self.reset_until.is_some() => stored | phy::BMCR_RESET,
            phy::BMSR => {
                let link = self.has_link(now_us) && !self.was_down;
                self.was_down = !self.has_link(now_us);
                let done = if link { 0x0020 } else { 0 };
                0x7809 | done | if link { phy::BMSR_LINK } else { 0 }
            }
            phy::PARTNER if self.has_link(now_us) => self.partner,
            phy::PARTNER => 0,
            phy::RESULT => self.result(now_us),
            _ => stored,
        }
    }

    /// Speed and duplex in the internal PHY's own register.
    fn result(&self, now_us: u64) -> u16 {
        if !self.has_link(now_us) {
            return 0;
        }
        let common = self.registers[usize::from(phy::ADVERTISE)] & self.partner;
        if common & phy::CAN_100_FULL != 0 {
            phy::RESULT_100 | phy::RESULT_FULL
        } else if common & phy::CAN_100_HALF != 0 {
            phy::RESULT_100
        } else if common & phy::CAN_10_FULL != 0 {
            phy::RESULT_FULL
        } else {
            0
        }
    }

    pub(super) fn write(&mut self, address: u8, register: u8, value: u16, now_us: u64) {
        if address != self.address {
            return;
        }
        self.finish_reset(now_us);
        match register {
            phy::BMCR if value & phy::BMCR_RESET != 0 => {
                self.reset_until = Some(now_us + RESET_US);
                self.restart(now_us);
            }
            phy::BMCR => {
                if value & 1 << 9 != 0 {
                    self.restart(now_us);
                }
                // "Restart" clears itself.
                self.registers[0] = value & !(1 << 9);
            }
            phy::BMSR | 2 | 3 | phy::PARTNER | phy::RESULT => {}
            _ => self.registers[usize::from(register & 31)] = value,
        }
    }

    fn restart(&mut self, now_us: u64) {
        self.was_down = true;
        if self.is_plugged {
            self.link_from = Some(now_us + NEGOTIATION_US);
        }
    }
}
