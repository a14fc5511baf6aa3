//! ChipCommon of the BCM47xx: its watchdog, and the GPIO pins behind lights and buttons.
//!
//! Follows: the registers as public drivers use them: GPIO input, output, output enable and control at 0x60 to 0x6c, the
//! watchdog at 0x80, 28 bits wide before the chips with a power management unit (the BCM5354 is one and is not served).
//! Units: offsets in bytes from the core's base; the watchdog counts cycles of the backplane clock.
//!
//! A pin is driven in this order: taken from whatever core owns it, its level set, then its output enabled. An output
//! pin's level cannot be read back, so the levels are kept here.
//!
//! Invariants: I1 only pins of the [`Wiring`] are ever touched: others hold the switch in reset or are its bus.
//!
//! Not done: nothing here has met a real board. Sources disagree whether the watchdog runs from the backplane clock or
//! from 48 MHz: if the latter, a timeout is up to twice as long. The boards with a BCM4702 have their lights elsewhere.

use crate::mmio::Regs;
use crate::panel::{Button, Buttons, Led, Leds};
use crate::watchdog::Watchdog;

const GPIO_IN: usize = 0x60;
const GPIO_OUT: usize = 0x64;
const GPIO_OUT_ENABLE: usize = 0x68;
/// A set bit gives the pin to another core.
const GPIO_CONTROL: usize = 0x6c;
const WATCHDOG: usize = 0x80;

/// The longest count of the watchdog: 2.7 s at 100 MHz.
const TICKS_MAX: u64 = (1 << 28) - 1;

/// A pin and the level at which it means "lit" or "pressed".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Number of the GPIO, 0 to 15.
    pub gpio: u8,
    /// Active when the level is low.
    pub active_low: bool,
}

impl Pin {
    const fn low(gpio: u8) -> Self {
        Self {
            gpio,
            active_low: true,
        }
    }

    const fn high(gpio: u8) -> Self {
        Self {
            gpio,
            active_low: false,
        }
    }

    const fn bit(self) -> u32 {
        1 << (self.gpio & 15)
    }
}

/// What a board's pins are wired to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// Lights in [`Led::ALL`] order.
    pub leds: [Option<Pin>; Led::ALL.len()],
    /// The reset button.
    pub reset: Option<Pin>,
}

impl Wiring {
    /// WRT54G v4, WRT54GL, WRT54GS v3 and v4 (boardtype 0x0467), and WRT54G v2.2 and v3 (0x0708): power, white
    /// front light, wireless light, DMZ light. GPIO 5 of the latter holds the switch in reset and is left alone.
    pub const WRT54GL: Self = Self {
        leds: [
            Some(Pin::high(1)),
            Some(Pin::low(2)),
            None,
            Some(Pin::low(0)),
            Some(Pin::low(7)),
        ],
        reset: Some(Pin::low(6)),
    };

    /// WRT54G v2.0, WRT54GS v1.0 (boardtype 0x0101): pins 2 to 4 are the switch's bus.
    pub const WRT54GV2: Self = Self {
        leds: [
            Some(Pin::high(1)),
            None,
            None,
            Some(Pin::low(0)),
            Some(Pin::low(7)),
        ],
        reset: Some(Pin::low(6)),
    };

    /// The wiring of a board by its nvram `boardtype`; `None` when it is not known.
    pub const fn of(boardtype: u32) -> Option<Self> {
        match boardtype {
            0x0467 | 0x0708 => Some(Self::WRT54GL),
            0x0101 => Some(Self::WRT54GV2),
            _ => None,
        }
    }

    /// Every pin named, with whether it is an output.
    fn pins(&self) -> impl Iterator<Item = (Pin, bool)> + '_ {
        let leds = self.leds.iter().flatten().map(|&pin| (pin, true));
        leds.chain(self.reset.iter().map(|&pin| (pin, false)))
    }
}

/// The core.
#[derive(Debug)]
pub struct ChipCommon<R> {
    regs: R,
    wiring: Wiring,
    /// Levels of the output pins.
    levels: u32,
    /// Backplane clock, Hz.
    hertz: u32,
    /// What feeding writes; 0 while the watchdog is off.
    ticks: u32,
}

impl<R: Regs> ChipCommon<R> {
    /// Stops the watchdog that the boot loader may have left running, takes the pins, and switches all lights off.
    pub fn new(mut regs: R, wiring: Wiring, hertz: u32) -> Self {
        regs.write32(WATCHDOG, 0);
        let (mut outputs, mut inputs, mut levels) = (0, 0, 0);
        for (pin, is_output) in wiring.pins() {
            if is_output {
                outputs |= pin.bit();
                levels |= if pin.active_low { pin.bit() } else { 0 };
            } else {
                inputs |= pin.bit();
            }
        }
        let mut change = |offset, clear: u32, set: u32| {
            let value = regs.read32(offset);
            regs.write32(offset, (value & !clear) | set);
        };
        change(GPIO_CONTROL, outputs | inputs, 0);
        change(GPIO_OUT, outputs, levels);
        change(GPIO_OUT_ENABLE, inputs, outputs);
        Self {
            regs,
            wiring,
            levels,
            hertz,
            ticks: 0,
        }
    }

    /// Resets the board; interrupts should be off.
    pub fn reset(&mut self) -> ! {
        loop {
            self.regs.write32(WATCHDOG, 1);
        }
    }
}

impl<R: Regs> Watchdog for ChipCommon<R> {
    fn start(&mut self, timeout_us: u32) -> u32 {
        let ticks = u64::from(timeout_us) * u64::from(self.hertz) / 1_000_000;
        let ticks = ticks.clamp(1, TICKS_MAX);
        self.ticks = ticks as u32;
        self.regs.write32(WATCHDOG, self.ticks);
        // At most `timeout_us`, but for a clock so slow that one tick is longer.
        (ticks * 1_000_000 / u64::from(self.hertz.max(1))) as u32
    }

    fn feed(&mut self) {
        if self.ticks != 0 {
            self.regs.write32(WATCHDOG, self.ticks);
        }
    }
}

impl<R: Regs> Leds for ChipCommon<R> {
    fn set(&mut self, led: Led, on: bool) {
        let Some(pin) = self.wiring.leds[led.index()] else {
            return;
        };
        let level = on != pin.active_low;
        let levels = (self.levels & !pin.bit()) | if level { pin.bit() } else { 0 };
        if levels != self.levels {
            self.levels = levels;
            let others = self.regs.read32(GPIO_OUT) & !pin.bit();
            self.regs.write32(GPIO_OUT, others | (levels & pin.bit()));
        }
    }
}

impl<R: Regs> Buttons for ChipCommon<R> {
    fn is_pressed(&mut self, button: Button) -> bool {
        let pin = match button {
            Button::Reset => self.wiring.reset,
        };
        pin.is_some_and(|pin| (self.regs.read32(GPIO_IN) & pin.bit() == 0) == pin.active_low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The core as a board would behave.
    struct Model {
        /// Levels from outside on input pins.
        outside: u32,
        out: u32,
        enable: u32,
        control: u32,
        watchdog: u32,
        resets: u32,
        /// Bits of output or enable that ever changed.
        touched: u32,
    }

    impl Model {
        /// As the boot loader leaves it: watchdog armed, all pins another core's, buttons up.
        fn new() -> Self {
            Self {
                outside: 0xffff,
                out: 1 << 5,
                enable: 1 << 5,
                control: 0xffff & !(1 << 5),
                watchdog: 5_000_000,
                resets: 0,
                touched: 0,
            }
        }

        fn run(&mut self, ticks: u32) {
            if self.watchdog != 0 {
                self.watchdog = self.watchdog.saturating_sub(ticks);
                if self.watchdog == 0 {
                    self.resets += 1;
                }
            }
        }

        /// What a pin shows outside; `None` while nobody of ours drives it.
        fn level(&self, gpio: u8) -> Option<bool> {
            let bit = 1 << gpio;
            (self.enable & bit != 0 && self.control & bit == 0).then_some(self.out & bit != 0)
        }
    }

    impl Regs for &mut Model {
        fn read8(&mut self, _offset: usize) -> u8 {
            unreachable!("words only")
        }
        fn write8(&mut self, _offset: usize, _value: u8) {
            unreachable!("words only")
        }
        fn read32(&mut self, offset: usize) -> u32 {
            match offset {
                // An output pin does not read back.
                GPIO_IN => self.outside & !self.enable,
                GPIO_OUT => self.out,
                GPIO_OUT_ENABLE => self.enable,
                GPIO_CONTROL => self.control,
                WATCHDOG => self.watchdog,
                _ => unreachable!("{offset:#x}"),
            }
        }
        fn write32(&mut self, offset: usize, value: u32) {
            match offset {
                GPIO_OUT => {
                    self.touched |= self.out ^ value;
                    self.out = value;
                }
                GPIO_OUT_ENABLE => {
                    self.touched |= self.enable ^ value;
                    self.enable = value;
                }
                GPIO_CONTROL => self.control = value,
                WATCHDOG => self.watchdog = value & TICKS_MAX as u32,
                _ => unreachable!("{offset:#x}"),
            }
        }
    }

    const HERTZ: u32 = 100_000_000;

    #[test]
    fn the_loaders_watchdog_is_stopped_and_ours_resets_unless_fed() {
        let mut model = Model::new();
        let mut chip = ChipCommon::new(&mut model, Wiring::WRT54GL, HERTZ);
        chip.regs.run(100_000_000);
        assert_eq!(chip.regs.resets, 0);
        chip.feed();
        assert_eq!(chip.regs.watchdog, 0, "feeding does not start it");
        assert_eq!(chip.start(2_000_000), 2_000_000);
        for _ in 0..10 {
            chip.regs.run(199_999_999);
            chip.feed();
        }
        assert_eq!(chip.regs.resets, 0);
        chip.regs.run(200_000_000);
        assert_eq!(chip.regs.resets, 1);
    }

    #[test]
    fn a_time_beyond_28_bits_is_cut_and_told() {
        let mut model = Model::new();
        let mut chip = ChipCommon::new(&mut model, Wiring::WRT54GL, HERTZ);
        assert_eq!(chip.start(8_000_000), 2_684_354);
        assert_eq!(chip.regs.watchdog, (1 << 28) - 1);
        assert_eq!(chip.start(0), 0);
        assert_eq!(chip.regs.watchdog, 1, "0 would switch it off");
    }

    #[test]
    fn lights_go_by_the_level_that_lights_them() {
        let mut model = Model::new();
        let mut chip = ChipCommon::new(&mut model, Wiring::WRT54GL, HERTZ);
        // Dark at first: power is lit by a high level, the others by a low one.
        assert_eq!(chip.regs.level(1), Some(false));
        for gpio in [0, 2, 7] {
            assert_eq!(chip.regs.level(gpio), Some(true), "{gpio}");
        }
        Led::ALL.into_iter().for_each(|led| chip.set(led, true));
        assert_eq!(chip.regs.level(1), Some(true));
        for gpio in [0, 2, 7] {
            assert_eq!(chip.regs.level(gpio), Some(false), "{gpio}");
        }
        chip.set(Led::Peer, false);
        assert_eq!(chip.regs.level(7), Some(true));
        assert_eq!(chip.regs.level(0), Some(false));
    }

    #[test]
    fn pins_that_are_not_ours_are_never_touched() {
        for (wiring, ours) in [
            (Wiring::WRT54GL, 0b1100_0111),
            (Wiring::WRT54GV2, 0b1100_0011),
        ] {
            let mut model = Model::new();
            let mut chip = ChipCommon::new(&mut model, wiring, HERTZ);
            for led in Led::ALL {
                chip.set(led, true);
                chip.set(led, false);
            }
            assert_eq!(model.touched & !ours, 0);
            assert_eq!(model.level(5), Some(true), "the switch stays out of reset");
        }
    }

    #[test]
    fn the_button_is_pressed_when_its_pin_is_low() {
        let mut model = Model::new();
        let mut chip = ChipCommon::new(&mut model, Wiring::WRT54GL, HERTZ);
        assert!(!chip.is_pressed(Button::Reset));
        chip.regs.outside &= !(1 << 6);
        assert!(chip.is_pressed(Button::Reset));
        let mut none = ChipCommon::new(
            &mut model,
            Wiring {
                leds: [None; 5],
                reset: None,
            },
            HERTZ,
        );
        assert!(!none.is_pressed(Button::Reset));
    }

    #[test]
    fn only_known_boards_have_a_wiring() {
        assert_eq!(Wiring::of(0x0467), Some(Wiring::WRT54GL));
        assert_eq!(Wiring::of(0x0101), Some(Wiring::WRT54GV2));
        assert_eq!(Wiring::of(0x042f), None);
    }
}
