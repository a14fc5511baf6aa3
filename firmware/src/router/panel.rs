//! What the lights and the display on the case show.
//!
//! | display | means |
//! | --- | --- |
//! | `NO WAN` | the internet line has no address |
//! | `UP` | a router like any other |
//! | `UP 2PEER` | two neighbours are there |
//! | `SPLIT 3X` | three downloads go over several lines right now |

use core::fmt::Write;

use heapless::String;

use super::{Action, Router};
use crate::button::Press;
use crate::port::Port;
use crate::settings::Settings;

/// Characters of the display.
pub const PANEL_CHARACTERS: usize = 8;

/// What to show. Power is lit as long as the firmware runs, so it is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panel {
    /// The internet line has an address.
    pub wan: bool,
    /// The LAN has an address.
    pub lan: bool,
    /// The air has an address.
    pub air: bool,
    /// A neighbour is there.
    pub peer: bool,
    /// In words.
    pub text: String<PANEL_CHARACTERS>,
}

/// What the board knows of itself and the console tells; all bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Deepest use of the stack since boot.
    pub stack_deepest: u32,
    /// The whole stack.
    pub stack_bytes: u32,
}

impl Router<'_> {
    /// Takes over what the board knows of itself; to be called before a console line is handed in.
    pub fn set_machine(&mut self, machine: Machine) {
        self.machine = machine;
    }

    /// Does what the reset button asked for; what the board does then. Factory settings wait to be stored as after a
    /// `save`, and a board stores what waits before it reboots.
    pub fn on_press(&mut self, press: Press) -> Action {
        match press {
            Press::Reboot => {}
            Press::Defaults => {
                self.apply_settings(&Settings::new());
                self.save();
            }
        }
        Action::Reboot
    }

    /// What to show now; cheap, but nothing for every turn.
    pub fn panel(&self) -> Panel {
        let has_address = |port: Port| self.addresses[port.index()].cidr.is_some();
        let accelerator = &self.accelerator;
        let peers = accelerator.peers.iter().filter(|peer| peer.is_up()).count();
        let mut panel = Panel {
            wan: has_address(Port::Wan),
            lan: has_address(Port::Lan),
            air: has_address(Port::Air),
            peer: peers > 0,
            text: String::new(),
        };
        // Both numbers have one digit (`budget.rs`); more would be cut, not lost.
        let _fits: core::fmt::Result = match accelerator.exchanges.active() {
            _ if !panel.wan => panel.text.write_str("NO WAN"),
            0 if peers == 0 => panel.text.write_str("UP"),
            0 => write!(panel.text, "UP {peers}PEER"),
            split => write!(panel.text, "SPLIT {split}X"),
        };
        panel
    }
}

const _: () = assert!(crate::budget::PEERS_MAX < 10 && crate::budget::EXCHANGES_MAX < 10);
