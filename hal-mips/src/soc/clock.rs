//! Clocks of the BCM47xx: read, never set, since the boot loader has set them from its variables.
//!
//! Follows: the registers as public drivers decode them, checked against the vendor's tables (the tests' values).
//! Which PLL a chip has is told by ChipCommon's capabilities.
//! Units: Hz. Not done: chips with a power management unit (the BCM5354), which have fixed clocks.

use crate::mmio::Regs;

const CORE_CONTROL: usize = 0x008;
const CAPABILITIES: usize = 0x004;
const CLOCK_N: usize = 0x090;
const CLOCK_SB: usize = 0x094;
const CLOCK_M2: usize = 0x09c;
const CLOCK_M3: usize = 0x0a0;
const CLOCK_DIVIDERS: usize = 0x0a4;

/// What makes the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Pll {
    /// 48 MHz, three dividers: BCM4702.
    Type1,
    /// 48 MHz, four dividers: BCM4704.
    Type2,
    /// 25 MHz, two dividers: BCM5350, 5365.
    Type3,
    /// 48 MHz, four dividers: BCM4712.
    Type4,
    /// Fixed.
    Type5,
    /// Two rates, by one bit.
    Type6,
    /// 25 MHz, four dividers: BCM5352.
    Type7,
}

impl Pll {
    /// By ChipCommon's capabilities; `None` for a chip without one of these.
    pub const fn of(capabilities: u32) -> Option<Self> {
        match capabilities & 0x3_8000 {
            0x1_0000 => Some(Self::Type1),
            0x2_0000 => Some(Self::Type2),
            0x3_0000 => Some(Self::Type3),
            0x0_8000 => Some(Self::Type4),
            0x1_8000 => Some(Self::Type5),
            0x2_8000 => Some(Self::Type6),
            0x3_8000 => Some(Self::Type7),
            _ => None,
        }
    }

    /// The rate that the two registers' values make; `None` for values without meaning.
    pub fn rate(self, n: u32, m: u32) -> Option<u32> {
        let (n1, n2) = (n & 0x3f, n >> 8 & 0x3f);
        let (m1, m2, m3) = (m & 0x3f, m >> 8 & 0x3f, m >> 16 & 0x3f);
        let base = match self {
            Self::Type1 | Self::Type2 | Self::Type4 => 24_000_000u64,
            Self::Type3 | Self::Type7 => 12_500_000,
            Self::Type5 => return Some(100_000_000),
            Self::Type6 => return Some(if m & 1 != 0 { 100_000_000 } else { 120_000_000 }),
        };
        if self == Self::Type2 {
            let vco = base * u64::from(n1 + 2) * u64::from(n2 + 2);
            let skip = m >> 24;
            let divide = |by: u32, bit: u32| if skip & bit != 0 { 1 } else { u64::from(by) };
            return divided(
                vco,
                divide(m1 + 2, 1) * divide(m2 + 3, 2) * divide(m3 + 2, 4),
            );
        }
        let vco = base * factor(n1)? * u64::from(n2 + 5);
        let m2 = match self {
            Self::Type1 | Self::Type3 => Some(u64::from(m2 + 5)),
            Self::Type2 | Self::Type4 | Self::Type5 | Self::Type6 | Self::Type7 => factor(m2),
        };
        match m >> 24 & 0x1f {
            0x08 => divided(vco, 1),
            0x04 => divided(vco, factor(m1)?),
            0x02 => divided(vco, factor(m1)? * m2?),
            0x01 => divided(vco, factor(m1)? * m2? * factor(m3)?),
            0x11 => divided(vco, factor(m1)? * factor(m3)?),
            _ => None,
        }
    }
}

fn divided(vco: u64, by: u64) -> Option<u32> {
    u32::try_from(vco.checked_div(by)?).ok()
}

/// What a six-bit field stands for.
const fn factor(field: u32) -> Option<u64> {
    match field {
        0x02 => Some(2),
        0x03 => Some(3),
        0x05 => Some(4),
        0x09 => Some(5),
        0x11 => Some(6),
        0x21 => Some(7),
        _ => None,
    }
}

/// The clocks of a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Clocks {
    /// The processor's; Count runs at half of it.
    pub processor_hz: u32,
    /// The backplane's.
    pub backplane_hz: u32,
}

impl Clocks {
    /// Reads ChipCommon's registers; `None` when they mean nothing.
    pub fn read<R: Regs>(chip_common: &mut R) -> Option<Self> {
        let pll = Pll::of(chip_common.read32(CAPABILITIES))?;
        let n = chip_common.read32(CLOCK_N);
        let (processor, backplane) = match pll {
            Pll::Type5 => {
                return Some(Self {
                    processor_hz: 200_000_000,
                    backplane_hz: 100_000_000,
                });
            }
            Pll::Type6 => {
                let backplane_hz = pll.rate(n, chip_common.read32(CLOCK_M3))?;
                return Some(Self {
                    processor_hz: 2 * backplane_hz,
                    backplane_hz,
                });
            }
            Pll::Type3 => (CLOCK_M2, CLOCK_M2),
            Pll::Type2 | Pll::Type4 | Pll::Type7 => (CLOCK_M3, CLOCK_SB),
            Pll::Type1 => (CLOCK_SB, CLOCK_SB),
        };
        let processor_hz = pll.rate(n, chip_common.read32(processor))?;
        let backplane_hz = pll.rate(n, chip_common.read32(backplane))?;
        Some(Self {
            processor_hz,
            backplane_hz: if pll == Pll::Type3 {
                backplane_hz / 2
            } else {
                backplane_hz
            },
        })
    }
}

/// The clock of ChipCommon's UARTs, by the core's revision, Hz; `None` when it cannot be told. Nothing is programmed: the
/// boot loader leaves them at 115200, and that divisor is best left alone.
pub fn uart_hz<R: Regs>(chip_common: &mut R, revision: u8, clocks: &Clocks) -> Option<u32> {
    const UART_CLOCK_IS_INTERNAL: u32 = 1 << 3;
    const CLOCK_IS_UNDIVIDED: u32 = 1 << 0;
    let capabilities = chip_common.read32(CAPABILITIES);
    let undivided = chip_common.read32(CORE_CONTROL) & CLOCK_IS_UNDIVIDED != 0;
    if !undivided && capabilities & 0x18 != UART_CLOCK_IS_INTERNAL {
        return Some(1_843_200); // a crystal of its own
    }
    if Pll::of(capabilities) == Some(Pll::Type1) {
        let (n, m) = (chip_common.read32(CLOCK_N), chip_common.read32(CLOCK_M2));
        return Pll::Type1.rate(n, m);
    }
    match revision {
        20 => Some(25_000_000),
        3..=10 | 15 => {
            let divider = chip_common.read32(CLOCK_DIVIDERS) & 0xff;
            clocks.backplane_hz.checked_div(divider)
        }
        0..=2 => Some(88_000_000 / 48),
        11.. => Some(20_000_000),
    }
}

/// The divisor of a 16550 for 115200 bit/s from its clock, rounded; 1 at least.
pub const fn uart_divisor(hz: u32) -> u16 {
    let divisor = (hz + 8 * 115_200) / (16 * 115_200);
    if divisor == 0 {
        1
    } else if divisor > u16::MAX as u32 {
        u16::MAX
    } else {
        divisor as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Chip(Vec<(usize, u32)>);

    impl Regs for Chip {
        fn read8(&mut self, _: usize) -> u8 {
            unreachable!("words only")
        }
        fn write8(&mut self, _: usize, _: u8) {
            unreachable!("read only")
        }
        fn read32(&mut self, offset: usize) -> u32 {
            self.0
                .iter()
                .find(|(at, _)| *at == offset)
                .map_or(0, |(_, value)| *value)
        }
        fn write32(&mut self, _: usize, _: u32) {
            unreachable!("read only")
        }
    }

    fn clocks(capabilities: u32, registers: &[(usize, u32)]) -> Option<(u32, u32)> {
        let mut chip = Chip([&[(CAPABILITIES, capabilities)], registers].concat());
        let clocks = Clocks::read(&mut chip)?;
        Some((
            clocks.processor_hz / 1_000_000,
            clocks.backplane_hz / 1_000_000,
        ))
    }

    #[test]
    fn rates_are_those_of_the_vendors_tables() {
        // BCM5352 at 200 MHz.
        let registers = [
            (CLOCK_N, 0x0311),
            (CLOCK_SB, 0x0400_0011),
            (CLOCK_M3, 0x0400_0003),
        ];
        assert_eq!(clocks(0x3_8000, &registers), Some((200, 100)));
        // BCM4712 at 200 MHz.
        let registers = [
            (CLOCK_N, 0x0009),
            (CLOCK_SB, 0x0402_0011),
            (CLOCK_M3, 0x0402_0003),
        ];
        assert_eq!(clocks(0x0_8000, &registers), Some((200, 100)));
        // BCM5350 at 200 MHz; 0x04020009, which a public header has there, would make 120 MHz.
        let registers = [(CLOCK_N, 0x0311), (CLOCK_M2, 0x0402_0003)];
        assert_eq!(clocks(0x3_0000, &registers), Some((200, 100)));
        assert_eq!(Pll::Type3.rate(0x0311, 0x0402_0009), Some(120_000_000));
        assert_eq!(clocks(0x1_8000, &[]), Some((200, 100)));
        assert_eq!(clocks(0x2_8000, &[(CLOCK_M3, 1)]), Some((200, 100)));
        assert_eq!(clocks(0x2_8000, &[]), Some((240, 120)));
    }

    #[test]
    fn registers_without_meaning_are_none() {
        assert_eq!(clocks(0, &[]), None);
        assert_eq!(clocks(0x3_8000, &[]), None);
        for pll in [Pll::Type1, Pll::Type2, Pll::Type3, Pll::Type4, Pll::Type7] {
            for value in [0, 0x1f00_0000, u32::MAX, 0x2121_2121] {
                // Whatever it is, it ends without a panic.
                let _ = (pll.rate(value, value), pll.rate(0x0311, value));
            }
        }
    }

    #[test]
    fn the_uarts_divisor_fits_every_chip() {
        let clocks = Clocks {
            processor_hz: 200_000_000,
            backplane_hz: 100_000_000,
        };
        let mut bcm4712 = Chip(vec![(CAPABILITIES, 0x0_8008), (CLOCK_DIVIDERS, 2)]);
        assert_eq!(uart_hz(&mut bcm4712, 3, &clocks), Some(50_000_000));
        let mut bcm5352 = Chip(vec![(CAPABILITIES, 0x3_8008), (CORE_CONTROL, 1)]);
        assert_eq!(uart_hz(&mut bcm5352, 11, &clocks), Some(20_000_000));
        let mut external = Chip(vec![(CAPABILITIES, 0x3_8000)]);
        assert_eq!(uart_hz(&mut external, 11, &clocks), Some(1_843_200));
        bcm4712.0[1].1 = 0;
        assert_eq!(uart_hz(&mut bcm4712, 3, &clocks), None);
        for (hz, divisor) in [
            (20_000_000, 11),
            (50_000_000, 27),
            (25_000_000, 14),
            (1_843_200, 1),
            (0, 1),
        ] {
            assert_eq!(uart_divisor(hz), divisor);
        }
    }
}
