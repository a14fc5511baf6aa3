//! The pair of 8259 interrupt controllers, used as an OR gate with a mask.
//!
//! Follows: Intel 8259A data sheet 231468; PIIX4 data sheet 290562, section 4.2 (ELCR).
//! Every line used is level triggered, and no interrupt acknowledge cycle is ever run: then the output
//! follows the masked inputs, nothing is ever "in service", and no end of interrupt is due. The devices are
//! acknowledged by the main loop, at its pace. Edge mode would lose a line that rises while another is up.

use crate::mmio::Regs;

const MASTER_COMMAND: usize = 0x20;
const MASTER_DATA: usize = 0x21;
const SLAVE_COMMAND: usize = 0xa0;
const SLAVE_DATA: usize = 0xa1;
const MASTER_ELCR: usize = 0x4d0;
const SLAVE_ELCR: usize = 0x4d1;

const CASCADE: u16 = 1 << 2;

/// Lets the lines of `lines` (bit per IRQ; not 0, 1, 2, 8 or 13, which have no level mode) through, level triggered.
pub fn init<R: Regs>(regs: &mut R, lines: u16) {
    // ICW1: edge by default (the ELCR below decides a line), cascaded, ICW4 follows.
    for (command, data, vector, cascade) in [
        (MASTER_COMMAND, MASTER_DATA, 0x08, 1 << 2),
        (SLAVE_COMMAND, SLAVE_DATA, 0x70, 2),
    ] {
        regs.write8(command, 0x11);
        regs.write8(data, vector); // ICW2: unused, no acknowledge cycle asks for it
        regs.write8(data, cascade); // ICW3: the slave hangs on IRQ 2
        regs.write8(data, 0x01); // ICW4: 8086 mode, normal end of interrupt
    }
    let [low, high] = lines.to_le_bytes();
    regs.write8(MASTER_ELCR, low);
    regs.write8(SLAVE_ELCR, high);
    let [low, high] = (!(lines | CASCADE)).to_le_bytes();
    regs.write8(MASTER_DATA, low);
    regs.write8(SLAVE_DATA, high);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writes, in order.
    #[derive(Default)]
    struct Recorder(Vec<(usize, u8)>);

    impl Regs for Recorder {
        fn read8(&mut self, _: usize) -> u8 {
            0
        }
        fn write8(&mut self, offset: usize, value: u8) {
            self.0.push((offset, value));
        }
        fn read32(&mut self, _: usize) -> u32 {
            0
        }
        fn write32(&mut self, _: usize, _: u32) {}
    }

    #[test]
    fn only_the_lines_asked_for_and_the_cascade_are_open_and_they_are_level() {
        let mut regs = Recorder::default();
        init(&mut regs, 1 << 4 | 1 << 10);
        let last = |port| {
            regs.0
                .iter()
                .rev()
                .find(|(offset, _)| *offset == port)
                .map(|(_, value)| *value)
        };
        assert_eq!(last(MASTER_DATA), Some(!(1 << 4 | 1 << 2)));
        assert_eq!(last(SLAVE_DATA), Some(!(1 << 2)));
        assert_eq!(last(MASTER_ELCR), Some(1 << 4));
        assert_eq!(last(SLAVE_ELCR), Some(1 << 2));
    }
}
