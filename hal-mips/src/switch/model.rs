//! A RoboSwitch: its registers behind MDIO, and which frame goes where by them.
//!
//! What is not known of the hardware is left out: learning (each frame goes to all members), counters, the PHYs.

use std::collections::BTreeMap;

use super::Mdio;
use super::regs::*;
use crate::eth;

/// What goes wrong, until it is put off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Accesses do not end.
    pub is_busy: bool,
    /// It does not answer: held in reset.
    pub is_absent: bool,
    /// MDIO transfers do not end.
    pub bus_sticks: bool,
    /// A register that ignores writes, by page and number.
    pub ignores: Option<(u8, u8)>,
}

/// The switch.
pub struct RoboModel {
    /// What goes wrong.
    pub faults: Faults,
    /// Links of the jacks.
    pub links: u16,
    registers: BTreeMap<(u8, u8), u64>,
    table: [u32; VLANS as usize],
    page: u8,
    data: [u16; 4],
    revision: u8,
    /// Times that a VLAN or a tag was changed while it forwarded.
    pub changed_while_forwarding: u32,
}

/// Port of the processor.
pub const PROCESSOR: u8 = 5;

impl RoboModel {
    /// As a boot loader leaves it: forwarding, all in VLAN 0, the processor untagged.
    pub fn new(revision: u8) -> Self {
        let mut model = Self {
            faults: Faults::default(),
            links: 0b1_1111,
            registers: BTreeMap::new(),
            table: [0; VLANS as usize],
            page: 0,
            data: [0; 4],
            revision,
            changed_while_forwarding: 0,
        };
        model.table[0] = 1 << 20 | 0xfff;
        model.registers.insert((PAGE_CONTROL, MODE), 3);
        model.registers.insert((PAGE_VLAN, VLAN_CONTROL_0), 0xe0);
        model
    }

    fn register(&self, page: u8, register: u8) -> u64 {
        match (page, register) {
            (PAGE_STATUS, LINKS) => u64::from(self.links),
            (PAGE_STATUS, REVISION) => u64::from(self.revision),
            place => self.registers.get(&place).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, page: u8, register: u8, value: u64) {
        if self.faults.ignores == Some((page, register)) {
            return;
        }
        if page == PAGE_VLAN && self.is_forwarding() {
            self.changed_while_forwarding += 1;
        }
        self.registers.insert((page, register), value);
        if (page, register) == (PAGE_VLAN, VLAN_ACCESS) && value & 0x3000 == 0x3000 {
            let data = self.register(PAGE_VLAN, VLAN_DATA) as u32;
            self.table[(value & 0xf) as usize] = data;
        }
    }

    fn is_forwarding(&self) -> bool {
        self.register(PAGE_CONTROL, MODE) & u64::from(MODE_FORWARD) != 0
    }

    /// Members, and those whose frames leave untagged, of a VLAN; `None` when it is not valid.
    fn vlan(&self, vlan: u16) -> Option<(u8, u8)> {
        let entry = self.table[usize::from(vlan) & 0xf];
        let valid = if self.revision >= 3 { 1 << 24 } else { 1 << 20 };
        (entry & valid != 0).then_some(((entry & 0x3f) as u8, (entry >> 6 & 0x3f) as u8))
    }

    /// Where a frame goes that comes in at `port`: each port, with the frame as it leaves there.
    pub fn forward(&self, port: u8, frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
        if !self.is_forwarding() {
            return Vec::new();
        }
        let tagged = frame.get(12..14) == Some(&[0x81, 0x00]);
        let (vlan, plain) = if tagged {
            let vlan = u16::from_be_bytes([frame[14], frame[15]]) & 0xfff;
            (vlan, [&frame[..12], &frame[16..]].concat())
        } else {
            let register = if port == PROCESSOR {
                DEFAULT_TAG_MII
            } else {
                DEFAULT_TAG + 2 * port
            };
            let vlan = self.register(PAGE_VLAN, register) as u16 & 0xfff;
            (vlan, frame.to_vec())
        };
        let Some((members, untagged)) = self.vlan(vlan) else {
            return Vec::new();
        };
        if members & 1 << port == 0 {
            return Vec::new();
        }
        let tag = [&[0x81, 0x00], &vlan.to_be_bytes()[..]].concat();
        (0..=PROCESSOR)
            .filter(|out| *out != port && members & 1 << out != 0)
            .map(|out| {
                let frame = if untagged & 1 << out != 0 {
                    plain.clone()
                } else {
                    [&plain[..12], &tag, &plain[12..]].concat()
                };
                (out, frame)
            })
            .collect()
    }
}

impl Mdio for RoboModel {
    fn read(&mut self, phy: u8, register: u8) -> Result<u16, eth::Error> {
        if self.faults.bus_sticks {
            return Err(eth::Error::Timeout(eth::Wait::Mdio));
        }
        if phy != PSEUDO_PHY || self.faults.is_absent {
            return Ok(u16::MAX);
        }
        Ok(match register {
            MII_ADDRESS if self.faults.is_busy => MII_BUSY,
            MII_DATA..0x1c => self.data[usize::from(register - MII_DATA)],
            _ => 0,
        })
    }

    fn write(&mut self, phy: u8, register: u8, value: u16) -> Result<(), eth::Error> {
        if self.faults.bus_sticks {
            return Err(eth::Error::Timeout(eth::Wait::Mdio));
        }
        if phy != PSEUDO_PHY || self.faults.is_absent {
            return Ok(());
        }
        match register {
            MII_PAGE => self.page = (value >> 8) as u8,
            MII_DATA..0x1c => self.data[usize::from(register - MII_DATA)] = value,
            MII_ADDRESS => {
                let (page, register) = (self.page, (value >> 8) as u8);
                let words = self.data.map(u64::from);
                if value & MII_BUSY == MII_WRITE {
                    let value = words[0] | words[1] << 16;
                    self.set(page, register, value);
                } else if value & MII_BUSY == MII_READ {
                    let value = self.register(page, register);
                    for (index, word) in self.data.iter_mut().enumerate() {
                        *word = (value >> (16 * index)) as u16;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
