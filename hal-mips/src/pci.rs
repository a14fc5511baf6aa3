//! PCI of the Malta board: configuration cycles through the GT-64120, base addresses, interrupt routing in the PIIX4.
//!
//! Follows: GT-64120 data sheet rev 1.4, section "PCI configuration"; PCI 2.2, section 6.2.5; PIIX4 data sheet
//! 290562, section 4.1 (PIRQRC).
//! The loader has set the windows ([`mmio::malta`](crate::mmio::malta)). Only bus 0 exists.
//! Budget: each scan reads 32 devices once; memory is handed out once, upwards.

use core::cell::RefCell;

use virtio_drivers::transport::pci::VIRTIO_VENDOR_ID;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot,
};

use crate::mmio::Regs;

/// GT-64120: PCI_0 configuration address and data registers.
const CONFIG_ADDRESS: usize = 0xcf8;
const CONFIG_DATA: usize = 0xcfc;
/// The PIIX4's ISA bridge, and its four interrupt routing bytes.
const PIIX4: DeviceFunction = DeviceFunction {
    bus: 0,
    device: 10,
    function: 0,
};
const PIIX4_ID: u32 = 0x7110_8086;
const PIRQ_ROUTE: u8 = 0x60;
/// All four PIRQs on IRQ 5: of the first interrupt controller (see `soc::i8259`), and level triggered, so sharing is harmless.
const ROUTES: u32 = 0x0505_0505;
/// The interrupt line that PCI devices use, a bit per IRQ.
pub const IRQ_LINES: u8 = 1 << 5;

/// Why the bus cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// No PIIX4 answers where the board has it: configuration cycles do not work.
    NoBridge {
        /// Vendor and device id read instead.
        found: u32,
    },
}

/// Configuration access through the GT-64120; copies share the registers, one access at a time.
#[derive(Debug)]
pub struct Gt64120<'a, R: Regs>(&'a RefCell<R>);

impl<R: Regs> Clone for Gt64120<'_, R> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<'a, R: Regs> Gt64120<'a, R> {
    /// Configuration access through these registers.
    pub fn new(regs: &'a RefCell<R>) -> Self {
        Self(regs)
    }
}

/// Configuration space of one function.
pub trait Config {
    /// Reads the word at `register`, a multiple of 4.
    fn read32(&mut self, register: u8) -> u32;
    /// Writes the word at `register`, a multiple of 4.
    fn write32(&mut self, register: u8, value: u32);
}

/// A function on a bus.
#[derive(Debug)]
pub struct Slot<C> {
    access: C,
    function: DeviceFunction,
}

impl<C: ConfigurationAccess> Slot<C> {
    /// The configuration space of `function`.
    pub fn new(access: C, function: DeviceFunction) -> Self {
        Self { access, function }
    }
}

impl<C: ConfigurationAccess> Config for Slot<C> {
    fn read32(&mut self, register: u8) -> u32 {
        self.access.read_word(self.function, register)
    }

    fn write32(&mut self, register: u8, value: u32) {
        self.access.write_word(self.function, register, value);
    }
}

fn address(device: DeviceFunction, register: u8) -> u32 {
    1 << 31
        | u32::from(device.bus) << 16
        | u32::from(device.device & 31) << 11
        | u32::from(device.function & 7) << 8
        | u32::from(register & !3)
}

impl<R: Regs> ConfigurationAccess for Gt64120<'_, R> {
    fn read_word(&self, device: DeviceFunction, register: u8) -> u32 {
        let mut regs = self.0.borrow_mut();
        regs.write32(CONFIG_ADDRESS, address(device, register));
        regs.read32(CONFIG_DATA)
    }

    fn write_word(&mut self, device: DeviceFunction, register: u8, data: u32) {
        let mut regs = self.0.borrow_mut();
        regs.write32(CONFIG_ADDRESS, address(device, register));
        regs.write32(CONFIG_DATA, data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        self.clone() // sound in itself: the cell lets one access in at a time
    }
}

/// Whether a device is a virtio device, by the first word of its configuration space.
pub fn is_virtio(id: u32) -> bool {
    id as u16 == VIRTIO_VENDOR_ID
}

/// Where a function's base address 0 lies; `None` when it is no memory.
pub fn base_0<C: Config>(config: &mut C) -> Option<u32> {
    let bar = config.read32(0x10);
    // Bit 0: I/O space; the other low bits say how wide and whether prefetchable.
    (bar & 1 == 0 && bar & !0xf != 0).then_some(bar & !0xf)
}

/// Routes PCI interrupts, and gives every device that `is_wanted` by the first word of its configuration space (at most
/// `N`, in slot order) its memory.
///
/// Other devices stay as the loader left them; I/O space is not used.
///
/// # Errors
/// [`Error::NoBridge`] when configuration cycles do not reach the board's own bridge.
pub fn bring_up<C: ConfigurationAccess, const N: usize>(
    root: &mut PciRoot<C>,
    access: &mut C,
    memory: core::ops::Range<u32>,
    is_wanted: impl Fn(u32) -> bool,
) -> Result<heapless::Vec<DeviceFunction, N>, Error> {
    let found = access.read_word(PIIX4, 0);
    if found != PIIX4_ID {
        return Err(Error::NoBridge { found });
    }
    access.write_word(PIIX4, PIRQ_ROUTE, ROUTES);
    let mut devices = heapless::Vec::new();
    let mut next = memory.start;
    for device in 0..32 {
        let function = DeviceFunction {
            bus: 0,
            device,
            function: 0,
        };
        if is_wanted(access.read_word(function, 0))
            && assign(root, function, &mut next, memory.end).is_some()
            && devices.push(function).is_err()
        {
            break; // more than the caller has use for
        }
    }
    Ok(devices)
}

/// Gives a device's memory BARs addresses from `next` on; `None` when they do not fit or a BAR is malformed.
fn assign<C: ConfigurationAccess>(
    root: &mut PciRoot<C>,
    device: DeviceFunction,
    next: &mut u32,
    end: u32,
) -> Option<()> {
    root.set_command(device, Command::empty());
    let bars = root.bars(device).ok()?;
    for (index, bar) in bars.iter().enumerate() {
        let Some(BarInfo::Memory { size, .. }) = bar else {
            continue;
        };
        let size = u32::try_from(*size)
            .ok()
            .filter(|size| size.is_power_of_two())?;
        // "The address is aligned to the size": PCI 2.2, 6.2.5.1.
        let base = next.checked_add(size - 1)? & !(size - 1);
        let after = base.checked_add(size).filter(|after| *after <= end)?;
        if bar.as_ref().is_some_and(BarInfo::takes_two_entries) {
            root.set_bar_64(device, index as u8, u64::from(base));
        } else {
            root.set_bar_32(device, index as u8, base);
        }
        *next = after;
    }
    root.set_command(device, Command::MEMORY_SPACE | Command::BUS_MASTER);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// A bus with a PIIX4 and virtio cards of one 4 KiB and one 16 KiB 64-bit BAR each.
    #[derive(Default)]
    struct Bus {
        config: HashMap<(u8, u8), u32>,
        selected: u32,
    }

    impl Bus {
        fn with_cards(slots: &[u8]) -> RefCell<Self> {
            let mut bus = Self::default();
            bus.config.insert((10, 0), PIIX4_ID);
            for &slot in slots {
                bus.config.insert((slot, 0), 0x1000_1af4);
                bus.config.insert((slot, 0x20), 0xc); // BAR 4: 64 bits, prefetchable
            }
            RefCell::new(bus)
        }

        fn key(&self) -> (u8, u8) {
            ((self.selected >> 11 & 31) as u8, self.selected as u8 & 0xfc)
        }
    }

    impl Regs for Bus {
        fn read8(&mut self, _: usize) -> u8 {
            0
        }
        fn write8(&mut self, _: usize, _: u8) {}
        fn read32(&mut self, offset: usize) -> u32 {
            assert_eq!(offset, CONFIG_DATA);
            let (slot, _) = self.key();
            let absent = if self.config.contains_key(&(slot, 0)) {
                0
            } else {
                u32::MAX
            };
            self.config.get(&self.key()).copied().unwrap_or(absent)
        }
        fn write32(&mut self, offset: usize, value: u32) {
            if offset == CONFIG_ADDRESS {
                self.selected = value;
                return;
            }
            let (slot, register) = self.key();
            let value = match (slot, register) {
                (10, _) | (_, 4) => value,
                (_, 0x14) => value & !0xfff,        // BAR 1: 4 KiB
                (_, 0x20) => value & !0x3fff | 0xc, // BAR 4: 16 KiB
                (_, 0x24) => value,                 // its upper half
                (_, _) => 0,
            };
            self.config.insert((slot, register), value);
        }
    }

    fn up<const N: usize>(
        bus: &RefCell<Bus>,
        memory: core::ops::Range<u32>,
    ) -> Result<Vec<u8>, Error> {
        let mut access = Gt64120::new(bus);
        let mut root = PciRoot::new(access.clone());
        let found: heapless::Vec<_, N> = bring_up(&mut root, &mut access, memory, is_virtio)?;
        Ok(found.iter().map(|function| function.device).collect())
    }

    #[test]
    fn cards_are_found_in_slot_order_with_aligned_disjoint_memory() {
        let bus = Bus::with_cards(&[0x14, 0x12, 0x13]);
        assert_eq!(
            up::<3>(&bus, 0x1000_0000..0x1100_0000),
            Ok(vec![0x12, 0x13, 0x14])
        );
        let bus = bus.into_inner();
        let mut ranges = Vec::new();
        for slot in [0x12, 0x13, 0x14] {
            for (register, size) in [(0x14, 0x1000), (0x20, 0x4000)] {
                let base = bus.config[&(slot, register)] & !0xf;
                assert_eq!(base % size, 0);
                ranges.push((base, base + size));
            }
            assert_eq!(bus.config[&(slot, 0x24)], 0);
            assert_eq!(bus.config[&(slot, 4)], 6);
        }
        ranges.sort_unstable();
        assert!(
            ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "{ranges:x?}"
        );
        assert_eq!(bus.config[&(10, PIRQ_ROUTE)], ROUTES);
    }

    #[test]
    fn only_devices_that_are_wanted_get_memory() {
        let bus = Bus::with_cards(&[0x12, 0x13]);
        bus.borrow_mut().config.insert((0x13, 0), 0x170c_14e4);
        let mut access = Gt64120::new(&bus);
        let mut root = PciRoot::new(access.clone());
        let memory = 0x1000_0000..0x1100_0000;
        let is_wanted = |id| id == 0x170c_14e4;
        let found: heapless::Vec<_, 3> =
            bring_up(&mut root, &mut access, memory, is_wanted).unwrap();
        assert_eq!(found.len(), 1);
        let mut slot = Slot::new(access, found[0]);
        assert_eq!(slot.read32(0), 0x170c_14e4);
        slot.write32(0x10, 0x1234_5008);
        assert_eq!(base_0(&mut slot), None, "the model has no BAR 0");
        bus.borrow_mut().config.insert((0x13, 0x10), 0x1000_2008);
        let function = DeviceFunction {
            bus: 0,
            device: 0x13,
            function: 0,
        };
        let mut slot = Slot::new(Gt64120::new(&bus), function);
        assert_eq!(base_0(&mut slot), Some(0x1000_2000));
        bus.borrow_mut().config.insert((0x13, 0x10), 0x1000_2001);
        assert_eq!(base_0(&mut slot), None, "I/O space");
    }

    #[test]
    fn a_card_that_does_not_fit_stays_off() {
        let bus = Bus::with_cards(&[0x12, 0x13]);
        assert_eq!(up::<3>(&bus, 0x1000_0000..0x1000_8000), Ok(vec![0x12]));
        assert_eq!(bus.into_inner().config[&(0x13, 4)], 0);
    }

    #[test]
    fn more_cards_than_wanted_are_left() {
        assert_eq!(
            up::<1>(&Bus::with_cards(&[0x12, 0x13]), 0x1000_0000..0x1100_0000),
            Ok(vec![0x12])
        );
    }

    #[test]
    fn a_silent_bus_is_told() {
        let bus = RefCell::new(Bus::default());
        assert_eq!(
            up::<3>(&bus, 0..0),
            Err(Error::NoBridge { found: u32::MAX })
        );
    }
}
