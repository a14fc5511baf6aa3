//! The pair of 8259 interrupt controllers, used as an OR gate with a mask.
//!
//! Follows: Intel 8259A data sheet 231468; PIIX4 data sheet 290562, section 4.2 (ELCR).
//! Every line used is level triggered, and no interrupt acknowledge cycle is ever run: then the output
//! follows the masked inputs, nothing is ever "in service", and no end of interrupt is due. The devices are
//! acknowledged by the main loop, at its pace.
//!
//! So only the master's lines 3 to 7 serve. A line in edge mode, and the cascade from the slave is one, stays latched
//! until an acknowledge cycle: the processor would never sleep again after the first interrupt of the slave.

use crate::mmio::Regs;

const MASTER_COMMAND: usize = 0x20;
const MASTER_DATA: usize = 0x21;
const SLAVE_COMMAND: usize = 0xa0;
const SLAVE_DATA: usize = 0xa1;
const MASTER_ELCR: usize = 0x4d0;
const SLAVE_ELCR: usize = 0x4d1;

/// The master's lines that have a level mode.
const LEVEL_LINES: u8 = 0xf8;

/// Lets the lines of `lines` (a bit per IRQ, only 3 to 7) through, level triggered, and nothing else.
pub fn init<R: Regs>(regs: &mut R, lines: u8) {
    let lines = lines & LEVEL_LINES;
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
    regs.write8(MASTER_ELCR, lines);
    regs.write8(SLAVE_ELCR, 0);
    regs.write8(SLAVE_DATA, 0xff);
    regs.write8(MASTER_DATA, !lines);
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
    fn only_the_lines_asked_for_are_open_and_they_are_level() {
        let mut regs = Recorder::default();
        init(&mut regs, 1 << 4 | 1 << 5 | 1 << 2);
        let last = |port| {
            let writes = regs.0.iter().rev();
            writes
                .clone()
                .find(|(offset, _)| *offset == port)
                .map(|(_, value)| *value)
        };
        assert_eq!(
            last(MASTER_DATA),
            Some(!(1 << 4 | 1 << 5)),
            "the cascade stays shut"
        );
        assert_eq!(last(SLAVE_DATA), Some(0xff));
        assert_eq!(last(MASTER_ELCR), Some(1 << 4 | 1 << 5));
        assert_eq!(last(SLAVE_ELCR), Some(0));
    }
}
