//! The driver against chips of both command sets and widths.

use std::vec::Vec;

use super::model::{Chip, ModelRegs, Part};
use super::*;

/// Runs `test` with a driver and its chip, for every part.
fn each(test: impl Fn(&str, &mut dyn Driver, &ModelRegs)) {
    let malta = ModelRegs::new(Part::malta());
    let mut nor = Nor::probe(Bus32(malta.clone()), 4 << 20, 0x2_0000).unwrap();
    test("malta", &mut nor, &malta);
    for part in [Part::am29lv320db(), Part::i28f320c3b()] {
        let name = format!("{:x?}", part.codes);
        let regs = ModelRegs::new(part);
        let mut nor = Nor::probe(Bus16(regs.clone()), 4 << 20, 0x2_0000).unwrap();
        test(&name, &mut nor, &regs);
        assert_eq!(
            regs.0.borrow().misuses,
            Vec::<std::string::String>::new(),
            "{name}"
        );
    }
}

/// A driver of any bus.
trait Driver {
    fn read(&mut self, now: u64, offset: u32, out: &mut [u8]) -> nb::Result<(), Error>;
    fn erase(&mut self, now: u64, start: u32) -> nb::Result<(), Error>;
    fn program(&mut self, now: u64, offset: u32, bytes: &[u8]) -> nb::Result<(), Error>;
    fn identity(&self) -> &Identity;
}

impl<B: Bus> Driver for Nor<B> {
    fn read(&mut self, now: u64, offset: u32, out: &mut [u8]) -> nb::Result<(), Error> {
        Nor::read(self, now, offset, out)
    }
    fn erase(&mut self, now: u64, start: u32) -> nb::Result<(), Error> {
        Nor::erase(self, now, start)
    }
    fn program(&mut self, now: u64, offset: u32, bytes: &[u8]) -> nb::Result<(), Error> {
        Nor::program(self, now, offset, bytes)
    }
    fn identity(&self) -> &Identity {
        Nor::identity(self)
    }
}

/// Calls until it is done; the clock moves 10 us a call.
fn finish(mut call: impl FnMut(u64) -> nb::Result<(), Error>) -> Result<(), Error> {
    for turn in 0..1_000_000 {
        match call(turn * 10) {
            Ok(()) => return Ok(()),
            Err(nb::Error::Other(error)) => return Err(error),
            Err(nb::Error::WouldBlock) => {}
        }
    }
    panic!("never done");
}

const AT: u32 = 0x3e_0000;

#[test]
fn a_chip_tells_its_size_and_sectors() {
    each(|name, nor, _| {
        let identity = nor.identity();
        assert_eq!(identity.bytes, 4 << 20, "{name}");
        assert_eq!(identity.sector(AT), Some((AT, 0x1_0000)), "{name}");
        assert_eq!(identity.sector(AT + 0xffff), Some((AT, 0x1_0000)), "{name}");
        assert_eq!(identity.sector(4 << 20), None, "{name}");
        if identity.regions.len() == 2 {
            assert_eq!(identity.sector(0x2001), Some((0x2000, 0x2000)), "{name}");
            assert_eq!(
                identity.sector(0x1_0000),
                Some((0x1_0000, 0x1_0000)),
                "{name}"
            );
        }
    });
}

#[test]
fn what_is_programmed_is_read_until_it_is_erased() {
    each(|name, nor, regs| {
        let bytes: Vec<u8> = (0..1024u32).map(|i| (i * 7) as u8).collect();
        let mut read = std::vec![0; 1024];
        for round in 0..2 {
            assert_eq!(
                finish(|now| nor.program(now, AT + 64, &bytes)),
                Ok(()),
                "{name} {round}"
            );
            nor.read(0, AT + 64, &mut read).unwrap();
            assert_eq!(read, bytes, "{name}");
            assert_eq!(finish(|now| nor.erase(now, AT)), Ok(()), "{name}");
            nor.read(0, AT + 64, &mut read).unwrap();
            assert!(read.iter().all(|&byte| byte == 0xff), "{name}");
        }
        let sector = regs.0.borrow().sector_of(AT as usize);
        assert_eq!(regs.0.borrow().erases[sector], 2, "{name}");
    });
}

#[test]
fn a_write_buffer_takes_many_words_at_once_and_none_across_its_border() {
    let regs = ModelRegs::new(Part::malta());
    let mut nor = Nor::probe(Bus32(regs.clone()), 4 << 20, 0x2_0000).unwrap();
    assert_eq!(nor.identity().buffer_bytes, 2048);
    // From the middle of a buffer to the middle of the next but one, with words of all ones here and there.
    let mut bytes: Vec<u8> = (0..4096u32).map(|i| (i % 251) as u8).collect();
    for at in [0, 400, 404, 2044, 4092] {
        bytes[at..at + 4].fill(0xff);
    }
    finish(|now| nor.program(now, AT + 1020, &bytes)).unwrap();
    let mut read = std::vec![0; 4096];
    nor.read(0, AT + 1020, &mut read).unwrap();
    assert_eq!(read, bytes);
    let chip = regs.0.borrow();
    assert_eq!(chip.words, 1024 - 5);
    assert!(chip.programs <= 10, "{} operations", chip.programs);
    assert_eq!(chip.misuses, Vec::<std::string::String>::new());
}

#[test]
fn a_word_of_all_ones_within_others_leaves_what_is_there() {
    each(|name, nor, _| {
        finish(|now| nor.program(now, AT + 4, &[0x12, 0x34, 0x56, 0x78])).unwrap();
        let mut bytes = [0x5a; 12];
        bytes[4..8].fill(0xff);
        finish(|now| nor.program(now, AT, &bytes)).unwrap();
        let mut read = [0; 12];
        nor.read(0, AT, &mut read).unwrap();
        assert_eq!(read[..4], [0x5a; 4], "{name}");
        assert_eq!(read[4..8], [0x12, 0x34, 0x56, 0x78], "{name}");
        assert_eq!(read[8..], [0x5a; 4], "{name}");
    });
}

#[test]
fn a_write_buffer_that_is_not_free_is_waited_for_and_not_for_ever() {
    let regs = ModelRegs::new(Part::malta());
    let mut nor = Nor::probe(Bus32(regs.clone()), 4 << 20, 0x2_0000).unwrap();
    regs.0.borrow_mut().faults.buffers_taken = 5;
    finish(|now| nor.program(now, AT, &[0x5a; 64])).unwrap();
    let mut read = [0; 64];
    nor.read(0, AT, &mut read).unwrap();
    assert_eq!(read, [0x5a; 64]);
    regs.0.borrow_mut().faults.buffers_taken = u32::MAX;
    assert_eq!(
        finish(|now| nor.program(now, AT + 64, &[0x5a; 64])),
        Err(Error::Timeout)
    );
    regs.0.borrow_mut().faults.buffers_taken = 0;
    let back = (0..20).find_map(|_| nor.read(0, AT + 64, &mut read).ok());
    assert_eq!((back, read), (Some(()), [0xff; 64]));
    assert_eq!(regs.0.borrow().misuses, Vec::<std::string::String>::new());
}

#[test]
fn a_call_does_a_bounded_number_of_bus_cycles_and_others_wait() {
    each(|name, nor, _| {
        assert_eq!(nor.erase(0, AT), Err(nb::Error::WouldBlock), "{name}");
        assert_eq!(
            nor.read(0, 0, &mut [0; 4]),
            Err(nb::Error::WouldBlock),
            "{name}"
        );
        assert_eq!(
            nor.erase(0, AT + 0x1_0000),
            Err(nb::Error::WouldBlock),
            "{name}"
        );
        assert_eq!(finish(|now| nor.erase(now, AT)), Ok(()), "{name}");
        let bytes = [0x5a; 4096];
        assert_eq!(
            nor.program(0, AT, &bytes),
            Err(nb::Error::WouldBlock),
            "{name}"
        );
        assert_eq!(
            nor.program(0, AT + 8192, &bytes),
            Err(nb::Error::WouldBlock),
            "{name}"
        );
        assert_eq!(finish(|now| nor.program(now, AT, &bytes)), Ok(()), "{name}");
    });
}

#[test]
fn an_operation_whose_caller_stays_away_does_not_hold_others_for_ever() {
    each(|name, nor, _| {
        assert_eq!(nor.erase(0, AT), Err(nb::Error::WouldBlock), "{name}");
        let mut word = [0; 4];
        assert_eq!(
            nor.read(ABANDONED_US - 1, 0, &mut word),
            Err(nb::Error::WouldBlock),
            "{name}"
        );
        let read = (0..20).find_map(|_| nor.read(ABANDONED_US, AT, &mut word).ok());
        assert_eq!((read, word), (Some(()), [0xff; 4]), "{name}");
    });
}

#[test]
fn the_boot_loader_and_what_is_not_there_are_refused() {
    each(|name, nor, regs| {
        for start in [0, 0x1_0000, AT + 4, 4 << 20, u32::MAX] {
            assert_eq!(
                nor.erase(0, start),
                Err(nb::Error::Other(Error::Bounds)),
                "{name} {start:#x}"
            );
        }
        for (offset, error) in [
            (0x1_fffc, Error::Bounds),
            (4 << 20, Error::Bounds),
            (u32::MAX - 3, Error::Bounds),
            (AT + 1, Error::Unaligned),
        ] {
            let refused = nor.program(0, offset, &[0; 4]);
            assert_eq!(refused, Err(nb::Error::Other(error)), "{name} {offset:#x}");
        }
        assert!(
            regs.0.borrow_mut().cells().iter().all(|&cell| cell == 0xff),
            "{name}"
        );
    });
}

#[test]
fn failures_are_told_and_the_chip_works_on() {
    each(|name, nor, regs| {
        let sector = regs.0.borrow().sector_of(AT as usize);
        regs.0.borrow_mut().faults.program_fails = std::vec![sector];
        regs.0.borrow_mut().faults.erase_fails = std::vec![sector];
        assert_eq!(
            finish(|now| nor.program(now, AT, &[0; 8])),
            Err(Error::Program),
            "{name}"
        );
        assert_eq!(
            finish(|now| nor.erase(now, AT)),
            Err(Error::Erase),
            "{name}"
        );
        assert_eq!(nor.read(0, AT, &mut [0; 4]), Ok(()), "{name}");
        regs.0.borrow_mut().faults = Default::default();
        assert_eq!(finish(|now| nor.erase(now, AT)), Ok(()), "{name}");
        assert_eq!(
            finish(|now| nor.program(now, AT, &[0; 8])),
            Ok(()),
            "{name}"
        );
    });
}

#[test]
fn s9_a_chip_that_stays_busy_is_given_up_and_taken_back() {
    each(|name, nor, regs| {
        regs.0.borrow_mut().faults.stuck_busy = true;
        assert_eq!(
            finish(|now| nor.program(now, AT, &[0; 8])),
            Err(Error::Timeout),
            "{name}"
        );
        assert_eq!(
            finish(|now| nor.erase(now, AT)),
            Err(Error::Timeout),
            "{name}"
        );
        assert_eq!(
            nor.read(0, AT, &mut [0; 4]),
            Err(nb::Error::Other(Error::Timeout)),
            "{name}"
        );
        regs.0.borrow_mut().faults.stuck_busy = false;
        let back = (0..20).find_map(|_| nor.read(0, AT, &mut [0; 4]).ok());
        assert_eq!(back, Some(()), "{name}");
        assert_eq!(finish(|now| nor.erase(now, AT)), Ok(()), "{name}");
    });
}

#[test]
fn an_erase_may_take_its_longest_time_and_no_longer() {
    each(|name, nor, regs| {
        regs.0.borrow_mut().faults.stuck_busy = true;
        let longest = nor.identity().erase_us;
        assert_eq!(longest, 16_384_000, "{name}");
        assert_eq!(nor.erase(0, AT), Err(nb::Error::WouldBlock), "{name}");
        // The caller comes often enough not to have gone away.
        assert_eq!(nor.erase(longest, AT), Err(nb::Error::WouldBlock), "{name}");
        assert_eq!(
            nor.erase(longest + 1, AT),
            Err(nb::Error::Other(Error::Timeout)),
            "{name}"
        );
    });
}

#[test]
fn programming_over_a_zero_is_told_by_amd_chips() {
    let regs = ModelRegs::new(Part::am29lv320db());
    let mut nor = Nor::probe(Bus16(regs.clone()), 4 << 20, 0x2_0000).unwrap();
    finish(|now| nor.program(now, AT, &[0x00, 0x00])).unwrap();
    assert_eq!(
        finish(|now| nor.program(now, AT, &[0xf0, 0x0f])),
        Err(Error::Program)
    );
}

#[test]
fn top_boot_chips_have_their_small_sectors_at_the_end() {
    let top = std::vec![
        Region {
            sectors: 63,
            sector_bytes: 0x1_0000
        },
        Region {
            sectors: 8,
            sector_bytes: 0x2000
        },
    ];
    for listed_from_top in [true, false] {
        let part = Part {
            regions: top.clone(),
            listed_from_top,
            codes: (0x01, 0x22f6),
            ..Part::am29lv320db()
        };
        let nor = Nor::probe(Bus16(ModelRegs::new(part)), 4 << 20, 0).unwrap();
        assert_eq!(nor.identity().sector(0x3f_2000), Some((0x3f_2000, 0x2000)));
        assert_eq!(nor.identity().sector(0x2000), Some((0, 0x1_0000)));
    }
}

#[test]
fn what_is_no_chip_or_none_we_know_is_refused() {
    let regs = ModelRegs::new(Part::malta());
    regs.0.borrow_mut().faults.absent = true;
    assert_eq!(
        Nor::probe(Bus32(regs), 4 << 20, 0).unwrap_err(),
        ProbeError::NoChip
    );
    let regs = ModelRegs::new(Part::malta());
    assert_eq!(
        Nor::probe(Bus32(regs), 2 << 20, 0).unwrap_err(),
        ProbeError::Size { exponent: 22 }
    );
    for (value, error) in [
        (0x0051_0051, ProbeError::Interleaved),
        (0x5151, ProbeError::Interleaved),
        (0x5100, ProbeError::NoChip),
        (0, ProbeError::NoChip),
    ] {
        assert_eq!(
            Nor::probe(Constant(value), 4 << 20, 0).unwrap_err(),
            error,
            "{value:#x}"
        );
    }
}

/// A bus on which "QRY" reads as multiples of one pattern.
#[derive(Debug)]
struct Constant(u32);

impl Bus for Constant {
    const BYTES: u32 = 4;
    fn read(&mut self, word: u32) -> u32 {
        match word {
            0x10 => self.0,
            0x11 => self.0 / 0x51 * 0x52,
            _ => self.0 / 0x51 * 0x59,
        }
    }
    fn write(&mut self, _: u32, _: u32) {}
}

#[test]
fn every_cut_of_the_power_leaves_a_chip_that_answers_again() {
    let cut_points = |chip: &Chip| chip.points;
    for point in 0.. {
        let regs = ModelRegs::new(Part::am29lv320db());
        let mut nor = Nor::probe(Bus16(regs.clone()), 4 << 20, 0x2_0000).unwrap();
        regs.0.borrow_mut().power_on();
        regs.0.borrow_mut().cut_after = Some(point);
        let _erased = finish(|now| nor.erase(now, AT));
        let _programmed = finish(|now| nor.program(now, AT, &[0x12, 0x34, 0x56, 0x78]));
        if !regs.0.borrow().is_dead() {
            assert_eq!(cut_points(&regs.0.borrow()), point, "every point was cut");
            break;
        }
        regs.0.borrow_mut().power_on();
        let mut nor = Nor::probe(Bus16(regs.clone()), 4 << 20, 0x2_0000).unwrap();
        assert_eq!(finish(|now| nor.erase(now, AT)), Ok(()));
    }
}
