//! Backplane against its models: enumeration, core switching, reset with every bit stuck, interrupt routing.

use std::cell::RefCell;
use std::rc::Rc;

use super::interrupt::{Line, clear, route};
use super::model::{CardModel, Faults, SocModel, Width, Wrapper};
use super::regs::*;
use super::*;
use crate::arch::time::Delay;
use crate::dma::model::TwoCopies;
use crate::mmio::Regs16;
use crate::pci::Config;
use crate::soc::backplane::control::{Stuck, disable, enable, is_up};
use crate::soc::sprom;

const MAC: [u8; 6] = [0x00, 0x10, 0x18, 0, 0, 1];

struct World {
    card: CardModel,
    soc: SocModel,
    now_us: u64,
    memory: TwoCopies,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<World>>);

/// The card's configuration space.
struct Space(Shared);

impl Shared {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(World {
            card: CardModel::new(MAC),
            soc: SocModel::bcm5352(30),
            now_us: 0,
            memory: TwoCopies::new(0),
        })))
    }

    fn card(&self) -> Card<Space, Self, Self> {
        Card::new(Space(self.clone()), self.clone(), self.clone())
            .ok()
            .unwrap()
    }

    fn soc(&self) -> Soc<SocWindow> {
        Soc::new(core::array::from_fn(|index| SocWindow(self.clone(), index)))
    }

    fn bar(&self, offset: usize, width: Width) -> u32 {
        let world = &mut *self.0.borrow_mut();
        let now = world.now_us;
        world.card.bar_read(offset, width, now, &mut world.memory)
    }

    fn set_bar(&self, offset: usize, width: Width, value: u32) {
        let world = &mut *self.0.borrow_mut();
        let now = world.now_us;
        world
            .card
            .bar_write(offset, width, value, now, &mut world.memory);
    }
}

impl Config for Space {
    fn read32(&mut self, register: u8) -> u32 {
        let world = self.0.0.borrow();
        world.card.config_read(usize::from(register), Width::Word)
    }
    fn write32(&mut self, register: u8, value: u32) {
        let mut world = self.0.0.borrow_mut();
        world
            .card
            .config_write(usize::from(register), Width::Word, value);
    }
}

impl Regs for Shared {
    fn read8(&mut self, offset: usize) -> u8 {
        self.bar(offset, Width::Byte) as u8
    }
    fn write8(&mut self, offset: usize, value: u8) {
        self.set_bar(offset, Width::Byte, u32::from(value));
    }
    fn read32(&mut self, offset: usize) -> u32 {
        self.bar(offset, Width::Word)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.set_bar(offset, Width::Word, value);
    }
}

impl Regs16 for Shared {
    fn read16(&mut self, offset: usize) -> u16 {
        self.bar(offset, Width::Half) as u16
    }
    fn write16(&mut self, offset: usize, value: u16) {
        self.set_bar(offset, Width::Half, u32::from(value));
    }
}

impl Delay for Shared {
    fn us(&mut self, micros: u32) {
        self.0.borrow_mut().now_us += u64::from(micros);
    }
}

struct SocWindow(Shared, usize);

impl Regs for SocWindow {
    fn read8(&mut self, _: usize) -> u8 {
        unreachable!("words only")
    }
    fn write8(&mut self, _: usize, _: u8) {
        unreachable!("words only")
    }
    fn read32(&mut self, offset: usize) -> u32 {
        let world = &mut *self.0.0.borrow_mut();
        let now = world.now_us;
        world
            .soc
            .read(self.1, offset, now, &mut world.memory)
            .expect("a bus error")
    }
    fn write32(&mut self, offset: usize, value: u32) {
        let world = &mut *self.0.0.borrow_mut();
        let now = world.now_us;
        let is_there = world
            .soc
            .write(self.1, offset, value, now, &mut world.memory);
        assert!(is_there, "a bus error");
    }
}

#[test]
fn a_routers_cores_are_found_and_none_beyond_their_count_is_touched() {
    let world = Shared::new();
    let cores = scan(&mut world.soc()).unwrap();
    assert_eq!((cores.chip.id, cores.chip.package), (0x5352, 2));
    assert_eq!(cores.list.len(), 7);
    let ethernet = cores.find(CoreId::ETHERNET).unwrap();
    assert_eq!(
        (ethernet.index, ethernet.revision, ethernet.flag),
        (1, 8, Some(2))
    );
    assert_eq!(
        cores.find(CoreId::ROBO_SWITCH).map(|core| core.index),
        Some(6)
    );
    assert_eq!(cores.find(CoreId::PCI), None);
}

#[test]
fn a_chip_without_chip_common_is_the_4702() {
    let world = Shared::new();
    world.0.borrow_mut().soc = SocModel::bcm4702();
    let cores = scan(&mut world.soc()).unwrap();
    assert_eq!((cores.chip.id, cores.list.len()), (0x4710, 9));
    assert_eq!(cores.find(CoreId::EXTIF).map(|core| core.index), Some(0));
    assert_eq!(cores.find(CoreId::MIPS).and_then(|core| core.flag), None);
}

#[test]
fn revisions_have_seven_bits() {
    assert_eq!(decode(0x4243_8067), (CoreId::ETHERNET, 7));
    // BCM5354's ChipCommon is of revision 0x14.
    assert_eq!(decode(0x4243_9004), (CoreId::CHIP_COMMON, 0x14));
}

#[test]
fn a_bus_of_another_maker_or_none_is_told() {
    let world = Shared::new();
    world.0.borrow_mut().soc.cores[0] = Wrapper::new(0xffff_ffff, 0);
    let error = scan(&mut world.soc()).unwrap_err();
    assert_eq!(error, Error::NotBroadcom { found: u32::MAX });
    // A ChipCommon too old to count, of a chip that is not known.
    world.0.borrow_mut().soc = SocModel::bcm5352(30);
    let mut bus = world.soc();
    bus.core(0).unwrap().write32(CHIP_ID, 0x9999);
    assert_eq!(scan(&mut bus), Err(Error::UnknownChip { id: 0x9999 }));
    assert_eq!(bus.core(16).err(), Some(Error::NoCore { index: 16 }));
    assert!(bus.take(3).is_some());
    assert_eq!(bus.core(3).err(), Some(Error::NoCore { index: 3 }));
}

#[test]
fn a_card_comes_up_with_its_cores_address_and_phy() {
    let world = Shared::new();
    let (cores, sprom) = world.card().bring_up().unwrap();
    let ids: Vec<_> = cores.list.iter().map(|core| core.id).collect();
    assert_eq!(ids, [CoreId::ETHERNET, CoreId::V90, CoreId::PCI]);
    assert_eq!(
        (cores.chip.id, sprom.ethernet[0], sprom.phy[0]),
        (0x4401, MAC, 1)
    );
    // The crystal is on, the PLL too; the PCI core bursts and knows its place.
    let out = Space(world.clone()).read32(CONFIG_GPIO_OUT);
    assert_eq!(out & 0xc0, 0x40);
    let mut card = world.card();
    let pci = card.core(2).unwrap();
    assert_eq!(pci.read32(SBTOPCI2), SBTOPCI_PREFETCH | SBTOPCI_BURST);
    assert_eq!(pci.read16(PCI_SHADOW), 0x2000);
}

#[test]
fn a_card_that_is_not_known_or_has_no_identity_is_refused() {
    let world = Shared::new();
    world.0.borrow_mut().card.sprom[5] ^= 4;
    let error = world.card().bring_up().unwrap_err();
    assert!(matches!(
        error,
        CardError::Sprom(sprom::Error::Check { .. })
    ));
    world.0.borrow_mut().card.is_gone = true;
    let error = Card::new(Space(world.clone()), world.clone(), world.clone()).err();
    assert_eq!(error, Some(CardError::Device { found: u32::MAX }));
}

#[test]
fn a_window_that_does_not_move_is_an_error_in_bounded_time() {
    let world = Shared::new();
    let mut card = world.card();
    card.core(0).unwrap();
    world.0.borrow_mut().card.window_sticks = true;
    let error = card.core(2).err();
    assert_eq!(error, Some(Error::Window { found: FIRST_CORE }));
    assert!(world.0.borrow().now_us < 1000);
    // And the core that it showed before is not taken for granted.
    world.0.borrow_mut().card.window_sticks = false;
    assert_eq!(card.core(2).unwrap().read32(IDHIGH), 0x4243_804a);
    assert_eq!(card.core(0).unwrap().read32(IDHIGH), 0x4243_8067);
}

#[test]
fn a_cards_interrupt_is_let_through_by_its_core() {
    let world = Shared::new();
    let mut card = world.card();
    let (cores, _) = card.bring_up().unwrap();
    world.0.borrow_mut().card.mac.faults.is_spurious = true;
    assert!(!world.0.borrow().card.interrupt());
    let ethernet = cores.find(CoreId::ETHERNET).unwrap();
    card.enable_interrupt(&cores, ethernet).unwrap();
    assert!(world.0.borrow().card.interrupt());
    // An old PCI core has the mask in itself, by flag.
    let mut old = cores.clone();
    old.list[2].revision = 5;
    card.enable_interrupt(&old, ethernet).unwrap();
    assert_eq!(card.core(2).unwrap().read32(INTVEC), 1 << 1);
    let nameless = Core {
        flag: None,
        ..ethernet
    };
    assert!(card.enable_interrupt(&old, nameless).is_err());
}

#[test]
fn a_core_is_enabled_from_reset_and_again_while_it_runs() {
    let world = Shared::new();
    let mut bus = world.soc();
    let mut delay = world.clone();
    let core = bus.core(5).unwrap();
    assert!(!is_up(core));
    for _ in 0..2 {
        enable(core, &mut delay, 0x4_0000).unwrap();
        assert!(is_up(core));
        assert_eq!(core.read32(TMSLOW), TMSLOW_CLOCK | 0x4_0000);
    }
    disable(core, &mut delay, 0).unwrap();
    assert!(!is_up(core));
    disable(core, &mut delay, 0).unwrap();
}

#[test]
fn old_errors_are_cleared_when_a_core_starts() {
    let world = Shared::new();
    let mut bus = world.soc();
    let core = bus.core(5).unwrap();
    core.write32(TMSHIGH, TMSHIGH_SERR);
    core.write32(IMSTATE, IMSTATE_TIMEOUT | 5);
    enable(core, &mut world.clone(), 0).unwrap();
    assert_eq!(core.read32(TMSHIGH), 0);
    assert_eq!(core.read32(IMSTATE), 5);
}

#[test]
fn every_stuck_bit_ends_in_its_error_and_is_got_over_when_it_comes_loose() {
    type Set = fn(&mut Faults);
    let cases: [(Set, Stuck); 5] = [
        (|faults| faults.reject_sticks = true, Stuck::Reject),
        (|faults| faults.busy_sticks = true, Stuck::Busy),
        (|faults| faults.initiator_sticks = true, Stuck::Initiator),
        (|faults| faults.reset_sticks = true, Stuck::Reset),
        (|faults| faults.clock_sticks = true, Stuck::Up { found: 0 }),
    ];
    for (set, stuck) in cases {
        let world = Shared::new();
        let mut bus = world.soc();
        let core = bus.core(5).unwrap();
        enable(core, &mut world.clone(), 0).unwrap();
        set(&mut world.0.borrow_mut().soc.cores[5].faults);
        let begun = world.0.borrow().now_us;
        assert_eq!(enable(core, &mut world.clone(), 0), Err(stuck));
        assert!(world.0.borrow().now_us - begun < 30_000, "{stuck:?}");
        world.0.borrow_mut().soc.cores[5].faults = Faults::default();
        assert_eq!(enable(core, &mut world.clone(), 0), Ok(()), "{stuck:?}");
    }
}

#[test]
fn the_reject_bit_is_where_the_backplanes_revision_has_it() {
    struct Old(u32, u32);
    impl Regs for Old {
        fn read8(&mut self, _: usize) -> u8 {
            0
        }
        fn write8(&mut self, _: usize, _: u8) {}
        fn read32(&mut self, offset: usize) -> u32 {
            match offset {
                IDLOW => self.0 << 28,
                TMSLOW => self.1,
                _ => 0,
            }
        }
        fn write32(&mut self, offset: usize, value: u32) {
            if offset == TMSLOW {
                self.1 = value;
            }
        }
    }
    for (revision, bit) in [
        (0, TMSLOW_REJECT),
        (1, TMSLOW_REJECT_23),
        (4, TMSLOW_REJECT),
    ] {
        let mut core = Old(revision, TMSLOW_CLOCK);
        disable(&mut core, &mut Shared::new(), 0).unwrap();
        assert_eq!(core.1, TMSLOW_RESET | bit);
    }
}

#[test]
fn flags_go_to_one_line_each() {
    let world = Shared::new();
    let mut bus = world.soc();
    let mips = bus.core(2).unwrap();
    // As a boot loader leaves it: flag 2 on line 2 and on the shared one.
    mips.write32(IPSFLAG, 0x3f3f_023f);
    mips.write32(INTVEC, 1 << 2 | 1 << 7);
    route(mips, 2, Line::One);
    assert_eq!(mips.read32(IPSFLAG), 0x3f3f_3f02);
    assert_eq!(mips.read32(INTVEC), 1 << 7, "another core's stays");
    route(mips, 2, Line::Shared);
    assert_eq!(mips.read32(IPSFLAG), 0x3f3f_3f3f);
    assert_eq!(mips.read32(INTVEC), 1 << 7 | 1 << 2);
    route(mips, 5, Line::Four);
    route(mips, 6, Line::Four);
    assert_eq!(mips.read32(IPSFLAG), 0x063f_3f3f);
    route(mips, 6, Line::Off);
    assert_eq!(mips.read32(IPSFLAG), 0x3f3f_3f3f);
    route(mips, 40, Line::Shared);
    assert_eq!(mips.read32(INTVEC), 1 << 7 | 1 << 2, "it has 32 bits");
    clear(mips);
    assert_eq!(
        (mips.read32(IPSFLAG), mips.read32(INTVEC)),
        (0x3f3f_3f3f, 0)
    );
    let masks = [Line::Shared, Line::One, Line::Two, Line::Three, Line::Four].map(Line::mask);
    assert_eq!(masks, [1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14]);
    assert_eq!(Line::Off.mask(), 0);
}
