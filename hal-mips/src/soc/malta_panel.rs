//! Malta's bar of eight LEDs and its display of eight characters, in the board's FPGA.
//!
//! Follows: Malta user's manual MD00048, section 3.1: LEDBAR at offset 0x408 of the FPGA, ASCIIPOS0..7 from 0x418
//! (0x410 is ASCIIWORD), eight bytes apart. The switches at 0x200 are DIP switches, no buttons, and QEMU reads them as 0.
//! Units: offsets in bytes from LEDBAR's neighbourhood, physical 0x1f000400.

use crate::mmio::Regs;
use crate::panel::{Led, Leds};

/// LEDBAR.
const BAR: usize = 0x08;
/// ASCIIPOS0.
const CHARACTER: usize = 0x18;
/// From one character's register to the next.
const STEP: usize = 8;

/// Characters of the display.
pub const CHARACTERS: usize = 8;

/// The panel; the bar's lowest bit is [`Led::Power`].
#[derive(Debug)]
pub struct MaltaPanel<R> {
    regs: R,
    lit: u32,
    shown: [u8; CHARACTERS],
}

impl<R: Regs> MaltaPanel<R> {
    /// Takes the registers, and clears bar and display.
    pub fn new(mut regs: R) -> Self {
        regs.write32(BAR, 0);
        let mut panel = Self {
            regs,
            lit: 0,
            shown: [0; CHARACTERS],
        };
        panel.show("");
        panel
    }

    /// Shows the first eight characters, ASCII; what is missing is blank, what is not printable a `?`.
    pub fn show(&mut self, text: &str) {
        let bytes = text.bytes().chain(core::iter::repeat(b' '));
        for (index, (shown, byte)) in self.shown.iter_mut().zip(bytes).enumerate() {
            let byte = if (b' '..0x7f).contains(&byte) {
                byte
            } else {
                b'?'
            };
            if *shown != byte {
                *shown = byte;
                self.regs.write32(CHARACTER + index * STEP, u32::from(byte));
            }
        }
    }
}

impl<R: Regs> Leds for MaltaPanel<R> {
    fn set(&mut self, led: Led, on: bool) {
        let bit = 1 << led.index();
        let lit = if on { self.lit | bit } else { self.lit & !bit };
        if lit != self.lit {
            self.lit = lit;
            self.regs.write32(BAR, lit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Fpga(BTreeMap<usize, u32>, usize);

    impl Regs for &mut Fpga {
        fn read8(&mut self, _offset: usize) -> u8 {
            unreachable!("the FPGA's registers are words")
        }
        fn write8(&mut self, _offset: usize, _value: u8) {
            unreachable!("the FPGA's registers are words")
        }
        fn read32(&mut self, offset: usize) -> u32 {
            self.0.get(&offset).copied().unwrap_or(0)
        }
        fn write32(&mut self, offset: usize, value: u32) {
            self.0.insert(offset, value);
            self.1 += 1;
        }
    }

    fn text(fpga: &Fpga) -> String {
        (0..CHARACTERS)
            .map(|index| fpga.0[&(0x18 + 8 * index)] as u8 as char)
            .collect()
    }

    #[test]
    fn text_is_padded_cut_and_made_printable() {
        let mut fpga = Fpga::default();
        MaltaPanel::new(&mut fpga).show("A 2 PEER and more");
        assert_eq!(text(&fpga), "A 2 PEER");
        MaltaPanel::new(&mut fpga).show("\u{1b}ü");
        assert_eq!(text(&fpga), "???     ");
    }

    #[test]
    fn what_does_not_change_is_not_written() {
        let mut fpga = Fpga::default();
        let mut panel = MaltaPanel::new(&mut fpga);
        panel.show("UP");
        panel.set(Led::Peer, true);
        panel.set(Led::Power, true);
        panel.set(Led::Peer, false);
        let before = panel.regs.1;
        panel.show("UP");
        panel.set(Led::Power, true);
        assert_eq!(panel.regs.1, before);
        assert_eq!(fpga.0[&0x08], 1);
    }
}
