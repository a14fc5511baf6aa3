//! The store over the flash driver and its model, over a flash in memory, and over faults of both.

mod content;
mod faults;
mod power;

use crate::budget::STORE_CHUNK_BYTES;
use hal_mips::soc::flash::model::{ModelRegs, Part};
use hal_mips::soc::flash::{Bus16, Bus32, Nor, Region};

use super::*;
use crate::budget::SETTINGS_BYTES_MAX;
use crate::settings::{Settings, VERSION};

/// Six sectors of 16 KiB behind two of a boot loader: what takes long with 64 KiB is shown as well.
const SMALL: Layout = Layout {
    images: [Range { start: 0, end: 0 }; 2],
    records: [
        [0x0_8000, 0x0_c000],
        [0x1_0000, 0x1_4000],
        [0x1_8000, 0x1_c000],
    ],
};
const SMALL_BYTES: usize = 0x2_0000;
const SMALL_SECTOR: u32 = 0x4000;

/// Settings number `number`, each different.
fn numbered(number: u32) -> Settings {
    let mut settings = Settings::new();
    settings.lan.lease_seconds = 200 + number;
    settings
        .add_peer(core::net::Ipv4Addr::from_bits(0x0a4d_0100 + number % 200))
        .unwrap();
    settings
}

/// An owner with settings, who notes what he is told.
#[derive(Debug, Default)]
struct Owner {
    settings: Settings,
    wants: bool,
    leases: Option<std::vec::Vec<u8>>,
    results: std::vec::Vec<(Kind, Result<Saved, SaveError>)>,
}

impl Client for Owner {
    fn restore(
        &mut self,
        _: Instant,
        kind: Kind,
        version: u16,
        body: &[u8],
    ) -> Result<Restored, Refused> {
        assert_eq!(kind, Kind::Settings);
        let (settings, restored) = Settings::decode(version, body)?;
        self.settings = settings;
        Ok(restored)
    }

    fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Settings => self.wants,
            Kind::Leases => self.leases.is_some(),
            Kind::Seed => false,
        }
    }

    fn pending(&mut self, _: Instant, kind: Kind, out: &mut [u8]) -> Option<Pending> {
        if kind == Kind::Leases {
            let body = self.leases.take()?;
            out[..body.len()].copy_from_slice(&body);
            let length = body.len();
            return Some(Pending { version: 1, length });
        }
        self.wants = false;
        let length = self.settings.encode(out)?;
        Some(Pending {
            version: VERSION,
            length,
        })
    }

    fn on_stored(&mut self, _: Instant, kind: Kind, result: Result<Saved, SaveError>) {
        self.results.push((kind, result));
    }
}

/// The driver on either bus.
enum Chip {
    Wide(Nor<Bus32<ModelRegs>>),
    Narrow(Nor<Bus16<ModelRegs>>),
}

macro_rules! either {
    ($self:ident, $nor:ident => $call:expr) => {
        match $self {
            Chip::Wide($nor) => $call,
            Chip::Narrow($nor) => $call,
        }
    };
}

impl Flash for Chip {
    fn size(&self) -> u32 {
        either!(self, nor => nor.size())
    }
    fn sector(&self, offset: u32) -> Option<Sector> {
        either!(self, nor => Flash::sector(nor, offset))
    }
    fn read(&mut self, now: Instant, offset: u32, out: &mut [u8]) -> nb::Result<(), FlashError> {
        either!(self, nor => Flash::read(nor, now, offset, out))
    }
    fn erase(&mut self, now: Instant, start: u32) -> nb::Result<(), FlashError> {
        either!(self, nor => Flash::erase(nor, now, start))
    }
    fn program(&mut self, now: Instant, offset: u32, bytes: &[u8]) -> nb::Result<(), FlashError> {
        either!(self, nor => Flash::program(nor, now, offset, bytes))
    }
}

/// A small chip of each kind: Intel's set on 32 lines; AMD's and Intel's with locks on 16.
fn parts() -> [Part; 3] {
    let regions = std::vec![Region {
        sectors: 8,
        sector_bytes: SMALL_SECTOR,
    }];
    [Part::malta(), Part::am29lv320db(), Part::i28f320c3b()].map(|part| Part {
        regions: regions.clone(),
        ..part
    })
}

/// A router's share of a life: from one power-up to the next.
struct Life {
    store: std::boxed::Box<Store>,
    flash: Chip,
    owner: Owner,
    boot: Boot,
    now: Instant,
}

impl Life {
    fn begin(regs: &ModelRegs) -> Self {
        regs.0.borrow_mut().power_on();
        let window = SMALL_BYTES as u32;
        let wide = regs.0.borrow().part().bus_bytes == 4;
        let mut flash = if wide {
            Chip::Wide(Nor::probe(Bus32(regs.clone()), window, 0x8000).unwrap())
        } else {
            Chip::Narrow(Nor::probe(Bus16(regs.clone()), window, 0x8000).unwrap())
        };
        let mut store = std::boxed::Box::new(Store::new(SMALL));
        let mut owner = Owner::default();
        store.open(Instant::ZERO, &mut flash);
        let boot = store.load(Instant::ZERO, &mut flash, Kind::Settings, &mut owner);
        // Finding the chip took bus cycles; cuts are counted from here on.
        regs.0.borrow_mut().points = 0;
        Self {
            store,
            flash,
            owner,
            boot,
            now: Instant::ZERO,
        }
    }

    fn save(&mut self, settings: Settings) -> Result<Saved, SaveError> {
        self.owner.settings = settings;
        self.owner.wants = true;
        for _ in 0..1_000_000 {
            self.now += smoltcp::time::Duration::from_micros(50);
            self.store.poll(self.now, &mut self.flash, &mut self.owner);
            if let Some((kind, result)) = self.owner.results.pop() {
                assert_eq!(kind, Kind::Settings);
                return result;
            }
        }
        panic!("the save never ends");
    }
}

fn stored(image: &mut [u8]) -> Option<Settings> {
    let mut flash = RamFlash::new(image, 0x1_0000);
    let mut store = Store::new(Layout::MALTA);
    store.open(Instant::ZERO, &mut flash);
    let (version, body) = store.newest(Instant::ZERO, &mut flash, Kind::Settings)?;
    Settings::decode(version, body)
        .ok()
        .map(|(settings, _)| settings)
}

#[test]
fn a_provisioned_image_holds_the_settings() {
    let mut image = std::vec![0xff; 4 << 20];
    let mut settings = Settings::new();
    for address in ["192.168.2.1/24", "192.168.3.1/24"] {
        settings.set("lan.address", address).unwrap();
        assert_eq!(provision(&mut image, &settings), Ok(Saved::Written));
        assert_eq!(provision(&mut image, &settings), Ok(Saved::Unchanged));
        assert_eq!(stored(&mut image), Some(settings));
    }
    assert!(
        image[..0x3e_0000].iter().all(|&byte| byte == 0xff),
        "nothing else is touched"
    );
}

#[test]
fn a_hundred_saves_on_every_chip_are_all_there_after_a_boot() {
    for part in parts() {
        let regs = ModelRegs::new(part);
        assert_eq!(Life::begin(&regs).boot, Boot::Defaults(Lost::Empty));
        for number in 0..100 {
            let mut life = Life::begin(&regs);
            if number > 0 {
                assert_eq!(life.boot, Boot::Loaded, "{number}");
                assert_eq!(life.owner.settings, numbered(number - 1));
            }
            assert_eq!(life.save(numbered(number)), Ok(Saved::Written));
            assert_eq!(life.save(numbered(number)), Ok(Saved::Unchanged));
        }
        let chip = regs.0.borrow();
        assert_eq!(chip.misuses, std::vec::Vec::<std::string::String>::new());
        // 32 slots a sector: both erased for save 1, and one for 33, 65 and 97.
        assert_eq!(chip.erases, [0, 0, 0, 0, 0, 0, 2, 3]);
    }
}

#[test]
fn without_a_chip_everything_says_so() {
    let mut none: Option<Chip> = None;
    let mut store = Store::new(Layout::MALTA);
    let mut owner = Owner {
        wants: true,
        leases: Some(std::vec![1]),
        ..Owner::default()
    };
    store.open(Instant::ZERO, &mut none);
    let missing = FlashError::Missing;
    assert_eq!(
        store.load(Instant::ZERO, &mut none, Kind::Settings, &mut owner),
        Boot::Defaults(Lost::Flash(missing))
    );
    assert_eq!(store.poll(Instant::ZERO, &mut none, &mut owner), None);
    let failed = Err(SaveError::Flash(missing));
    assert_eq!(
        owner.results,
        [(Kind::Settings, failed), (Kind::Leases, failed)]
    );
}

#[test]
fn a_poll_reads_and_writes_a_bounded_number_of_bytes() {
    let mut image = std::vec![0xff; SMALL_BYTES];
    let mut flash = faults::Counted::new(&mut image, SMALL_SECTOR);
    let mut store = Store::new(SMALL);
    store.open(Instant::ZERO, &mut flash);
    let mut owner = Owner {
        wants: true,
        ..Owner::default()
    };
    while owner.results.is_empty() {
        let before = flash.bytes;
        store.poll(Instant::ZERO, &mut flash, &mut owner);
        assert!(flash.bytes - before <= 20 + STORE_CHUNK_BYTES as u64);
    }
}
