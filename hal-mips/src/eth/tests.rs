//! The driver against the model, on the card and on the SoC: bring-up, traffic for longer than the rings last, every way in
//! which the device can fail, and drivers that forget the cache.

mod cache;
mod faults;
mod gather;
mod link;
mod traffic;

use std::cell::RefCell;
use std::rc::Rc;

use super::model::Mac;
use super::*;
use crate::dma::model::TwoCopies;
use crate::dma::tests::pool;
use crate::dma::{FramePool, PCI_WINDOW};
use crate::soc::backplane::model::{CardModel, SocModel, Width};
use crate::soc::backplane::regs::CONFIG_INTERRUPT_MASK;

const OWN: [u8; 6] = [0x00, 0x10, 0x18, 0xaa, 0xbb, 0x01];
const SECOND: u64 = 1_000_000;

/// The chip that the core is in.
enum Chip {
    Card(Box<CardModel>),
    Soc(Box<SocModel>),
}

struct World {
    chip: Chip,
    memory: TwoCopies,
    now_us: u64,
    /// Register accesses since the count was taken.
    accesses: u32,
}

impl World {
    fn mac(&mut self) -> &mut Mac {
        match &mut self.chip {
            Chip::Card(card) => &mut card.mac,
            Chip::Soc(soc) => &mut soc.mac,
        }
    }
}

/// The driver's and the test's view of one world.
#[derive(Clone)]
struct Bench(Rc<RefCell<World>>);

type Nic = B44<Bench, TwoCopies, Bench>;

impl Bench {
    fn of(chip: Chip, offset: u32) -> Self {
        Self(Rc::new(RefCell::new(World {
            chip,
            memory: TwoCopies::new(offset),
            now_us: 5_000,
            accesses: 0,
        })))
    }

    /// A card that PCI has set up: bus master, its core's interrupt let through.
    fn card() -> Self {
        let mut card = CardModel::new(OWN);
        card.config_write(4, Width::Half, 6);
        card.config_write(usize::from(CONFIG_INTERRUPT_MASK), Width::Word, 1 << 8);
        Self::of(Chip::Card(Box::new(card)), PCI_WINDOW)
    }

    fn soc() -> Self {
        Self::of(Chip::Soc(Box::new(SocModel::bcm5352(7))), 0)
    }

    fn config(&self) -> Config {
        let (phy, backplane_hz) = match self.0.borrow().chip {
            Chip::Card(_) => (1, 62_500_000),
            Chip::Soc(_) => (7, 100_000_000),
        };
        Config {
            mac: OWN,
            phy,
            backplane_hz,
            moderation: Moderation::NONE,
        }
    }

    fn try_nic(&self, config: Config, pool: &mut FramePool) -> Result<Nic, Error> {
        let memory = self.0.borrow().memory.clone();
        B44::new(self.clone(), memory, self.clone(), config, pool)
    }

    /// A driver that has found its link.
    fn nic(&self, pool: &mut FramePool) -> Nic {
        let mut nic = self.try_nic(self.config(), pool).unwrap();
        self.link_up(&mut nic, pool);
        nic
    }

    fn link_up(&self, nic: &mut Nic, pool: &mut FramePool) {
        for _ in 0..3 {
            self.pass(SECOND);
            if nic.poll(self.now(), pool) == Some(Event::LinkUp(FULL)) {
                return;
            }
        }
        panic!("no link");
    }

    fn now(&self) -> u64 {
        self.0.borrow().now_us
    }

    fn mac<T>(&self, f: impl FnOnce(&mut Mac) -> T) -> T {
        f(self.0.borrow_mut().mac())
    }

    fn faults(&self, set: impl FnOnce(&mut model::Faults)) {
        self.mac(|mac| set(&mut mac.faults));
    }

    fn pass(&self, micros: u64) {
        let world = &mut *self.0.borrow_mut();
        world.now_us += micros;
        let (now, mut memory) = (world.now_us, world.memory.clone());
        world.mac().advance(now, &mut memory);
    }

    fn deliver(&self, frame: &[u8]) -> bool {
        self.deliver_flagged(frame, 0)
    }

    fn deliver_flagged(&self, frame: &[u8], flags: u32) -> bool {
        let world = &mut *self.0.borrow_mut();
        let (now, mut memory) = (world.now_us, world.memory.clone());
        let mac = world.mac();
        mac.deliver_flagged(frame, flags, now, &mut memory)
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.mac(|mac| std::iter::from_fn(|| mac.take_sent()).collect())
    }

    fn plug(&self, is_plugged: bool, partner: u16) {
        let world = &mut *self.0.borrow_mut();
        let (now, mut memory) = (world.now_us, world.memory.clone());
        world.mac().plug(is_plugged, partner, now, &mut memory);
    }

    fn interrupt(&self) -> bool {
        match &self.0.borrow().chip {
            Chip::Card(card) => card.interrupt(),
            Chip::Soc(soc) => soc.mac.interrupt(),
        }
    }

    fn read(&self, offset: usize) -> u32 {
        let world = &mut *self.0.borrow_mut();
        world.accesses += 1;
        let (now, memory) = (world.now_us, &mut world.memory);
        match &mut world.chip {
            Chip::Card(card) => card.bar_read(offset, Width::Word, now, memory),
            Chip::Soc(soc) => soc.read(1, offset, now, memory).expect("a bus error"),
        }
    }

    fn write(&self, offset: usize, value: u32) {
        let world = &mut *self.0.borrow_mut();
        world.accesses += 1;
        let (now, memory) = (world.now_us, &mut world.memory);
        match &mut world.chip {
            Chip::Card(card) => card.bar_write(offset, Width::Word, value, now, memory),
            Chip::Soc(soc) => assert!(soc.write(1, offset, value, now, memory)),
        }
    }

    /// Register accesses that `f` makes.
    fn accesses(&self, f: impl FnOnce()) -> u32 {
        let before = self.0.borrow().accesses;
        f();
        self.0.borrow().accesses - before
    }
}

impl Regs for Bench {
    fn read8(&mut self, _: usize) -> u8 {
        unreachable!("words only")
    }
    fn write8(&mut self, _: usize, _: u8) {
        unreachable!("words only")
    }
    fn read32(&mut self, offset: usize) -> u32 {
        self.read(offset)
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.write(offset, value);
    }
}

impl Delay for Bench {
    fn us(&mut self, micros: u32) {
        self.pass(u64::from(micros));
    }
}

const FULL: Link = Link {
    is_fast: true,
    is_full_duplex: true,
};

/// A frame for us, with a number in it; 60 to 1514 bytes.
fn numbered(number: u32) -> Vec<u8> {
    let mut frame = vec![number as u8; 60 + (number as usize * 37) % 1455];
    frame[..6].copy_from_slice(&OWN);
    frame[12..16].copy_from_slice(&number.to_le_bytes());
    frame
}

fn filled(pool: &mut FramePool, bytes: &[u8]) -> Frame {
    let mut frame = pool.get().unwrap();
    frame.set_length(bytes.len());
    frame.bytes_mut().copy_from_slice(bytes);
    frame
}

/// Everything received.
fn receive_all(nic: &mut Nic, pool: &mut FramePool) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    nic.reclaim(pool);
    while let Ok(frame) = nic.receive(pool) {
        frames.push(frame.bytes().to_vec());
        pool.put(frame);
    }
    nic.flush(pool);
    frames
}
