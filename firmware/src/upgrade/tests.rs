//! A whole upgrade over a flash in memory: what arrives is written and started, and what is refused changes no byte.

use super::image::tests::{WANTED, image, pack};
use super::image::{HEADER_BYTES, Header};
use super::slot::{PAYLOAD_AT, SlotFault, Standing};
use super::*;
use crate::budget::UPGRADE_TRIALS;
use crate::port::{Full, Port};
use crate::stitch::Block;
use crate::store::RamFlash;
use crate::udp::Outgoing;
use smoltcp::time::Duration;
use smoltcp::wire::{EthernetAddress, Ipv4Address};
use std::string::String;
use std::vec::Vec;

const SLOTS_HERE: [Range; SLOTS] = [
    Range {
        start: 0x1000,
        end: 0x9000,
    },
    Range {
        start: 0x9000,
        end: 0x1_1000,
    },
];
const FLASH_BYTES: usize = 0x1_2000;
const SECTOR_BYTES: u32 = 0x1000;

struct Bench {
    upgrade: Upgrade,
    flash: Vec<u8>,
    memory: Vec<Block>,
    now: Instant,
}

struct Last(Option<Vec<u8>>);

impl SendUdp for Last {
    fn send_udp(
        &mut self,
        _: Instant,
        _: &Outgoing,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Full> {
        let mut bytes = std::vec![0; len];
        fill(&mut bytes);
        self.0 = Some(bytes);
        Ok(())
    }
}

/// An image of this build's version, or of another.
fn image_of(version: Version, length: usize) -> Vec<u8> {
    let bytes = image(length);
    let header = Header {
        version,
        ..Header::parse(&bytes).unwrap()
    };
    pack(&header, &bytes[HEADER_BYTES..])
}

fn version(patch: u16) -> Version {
    Version {
        patch,
        ..Version::OWN
    }
}

impl Bench {
    /// Runs from a confirmed image in slot A.
    fn new() -> Self {
        let mut flash = std::vec![0xff; FLASH_BYTES];
        let running = image_of(Version::OWN, 3000);
        let header = Header::parse(&running).unwrap();
        flash[0x1000..0x1000 + PAYLOAD_AT].copy_from_slice(&slot::factory_start(&header, 1));
        let at = 0x1000 + PAYLOAD_AT;
        flash[at..at + 3000].copy_from_slice(&running[HEADER_BYTES..]);
        let mut upgrade = Upgrade::new();
        upgrade.set_boot(
            Instant::ZERO,
            Boot {
                board: Board::MALTA,
                slots: SLOTS_HERE,
                running: Some(SlotId::A),
            },
        );
        Self {
            upgrade,
            flash,
            memory: (0..16).map(|_| Block::EMPTY).collect(),
            now: Instant::ZERO,
        }
    }

    fn standing(&self, id: SlotId) -> Result<Standing, SlotFault> {
        let place = SLOTS_HERE[id.index()];
        let start = self.flash[place.start as usize..].first_chunk().unwrap();
        slot::examine(start, Board::MALTA, (place.end - place.start) as usize)
    }

    /// Sends `bytes` by TFTP; the last answer.
    fn tftp(&mut self, pool: &mut Pool<'_>, bytes: &[u8]) -> Vec<u8> {
        let mut out = Last(None);
        let mut wrq = std::vec![0, 2];
        wrq.extend(std::format!("x\0octet\0tsize\0{}\0", bytes.len()).bytes());
        let mut give = |upgrade: &mut Upgrade, pool: &mut Pool<'_>, port: u16, payload: &[u8]| {
            if !upgrade.listens_on(port) {
                return;
            }
            let datagram = Datagram {
                port: Port::Lan,
                src_mac: EthernetAddress([2; 6]),
                src: Ipv4Address::new(192, 168, 1, 9),
                src_port: 3000,
                dst: Ipv4Address::new(192, 168, 1, 1),
                dst_port: port,
                payload,
            };
            upgrade.on_datagram(self.now, &datagram, pool, &mut out);
        };
        give(&mut self.upgrade, pool, tftp::PORT, &wrq);
        let empty: &[u8] = &[];
        let tail = bytes.len().is_multiple_of(512).then_some(empty);
        for (index, block) in bytes.chunks(512).chain(tail).enumerate() {
            let number = (index as u16 + 1).to_be_bytes();
            give(
                &mut self.upgrade,
                pool,
                49_152,
                &[&[0, 3], &number[..], block].concat(),
            );
        }
        out.0.unwrap_or_default()
    }

    /// The main loop until nothing is left to do.
    fn run(&mut self, pool: &mut Pool<'_>) -> (Turn, Option<Outcome>) {
        let mut outcome = None;
        for _ in 0..2000 {
            let mut flash = RamFlash::new(&mut self.flash, SECTOR_BYTES);
            self.upgrade.poll(self.now, pool, &mut Last(None));
            let turn = self.upgrade.poll_flash(self.now, &mut flash, pool);
            outcome = outcome.or(self.upgrade.take_outcome());
            if turn == Turn::Reboot {
                return (turn, outcome);
            }
            if turn == Turn::Idle {
                match self.upgrade.poll_at(self.now) {
                    Some(at) if self.upgrade.is_busy() => self.now = at.max(self.now),
                    Some(_) | None => return (turn, outcome),
                }
            }
        }
        panic!("it does not end");
    }
}

fn with_pool<R>(bench: &mut Bench, f: impl FnOnce(&mut Bench, &mut Pool<'_>) -> R) -> R {
    let mut memory = core::mem::take(&mut bench.memory);
    let mut pool = Pool::new(&mut memory);
    let result = f(bench, &mut pool);
    assert_eq!(pool.blocks_free(), 16, "all memory is back");
    result
}

#[test]
fn an_image_by_tftp_is_written_beside_the_running_one_and_started_on_trial() {
    let mut bench = Bench::new();
    with_pool(&mut bench, |bench, pool| {
        bench.upgrade.arm_tftp(bench.now, false, 0).unwrap();
        assert_eq!(
            bench.upgrade.arm_xmodem(bench.now, false),
            Err(Refusal::Busy)
        );
        let newer = image_of(version(Version::OWN.patch + 1), 5000);
        assert_eq!(bench.tftp(pool, &newer)[..2], [0, 4]);
        let (turn, outcome) = bench.run(pool);
        assert_eq!(turn, Turn::Reboot);
        assert_eq!(
            outcome,
            Some(Outcome::Written(version(Version::OWN.patch + 1)))
        );
    });
    let (old, new) = (
        bench.standing(SlotId::A).unwrap(),
        bench.standing(SlotId::B).unwrap(),
    );
    assert_eq!(slot::order(&[Some(old), Some(new)])[0], Some(SlotId::B));
    assert!(!new.confirmed && usize::from(new.trials_left) == UPGRADE_TRIALS);
}

#[test]
fn what_is_refused_changes_no_byte_of_the_flash_and_is_told_to_the_sender() {
    let good = image_of(Version::OWN, 5000);
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let foreign = {
        let header = Header {
            board: Board::WRT54G,
            ..Header::parse(&good).unwrap()
        };
        pack(&header, &good[HEADER_BYTES..])
    };
    let mut older = Version::OWN;
    older.minor -= 1;
    for (bytes, reason) in [
        (flip(3000), "checksum of the image is wrong"),
        (flip(30), "checksum of the header is wrong"),
        (flip(0), "not a Tandem image"),
        (good[..4000].to_vec(), "image too short: 4000 bytes of 5064"),
        (
            [&good[..], b"x"].concat(),
            "image too long: 5065 bytes, at most 5064",
        ),
        (foreign, "image is for wrt54g, this is malta"),
        (
            std::vec![0; 40_000],
            "image too long: 40000 bytes, at most 32576",
        ),
        (image_of(older, 100), "is older than"),
        (Vec::new(), "image too short: 0 bytes of 65"),
    ] {
        let mut bench = Bench::new();
        let before = bench.flash.clone();
        with_pool(&mut bench, |bench, pool| {
            bench.upgrade.arm_tftp(bench.now, false, 0).unwrap();
            let answer = bench.tftp(pool, &bytes);
            assert_eq!(answer[..2], [0, 5], "{reason}");
            let text = String::from_utf8_lossy(&answer[4..]).into_owned();
            assert!(text.contains(reason), "{text}: {reason}");
            let (turn, outcome) = bench.run(pool);
            assert_eq!(turn, Turn::Idle);
            assert!(matches!(outcome, Some(Outcome::Refused(_))));
            let mut status = String::new();
            bench.upgrade.write_status(&mut status).unwrap();
            assert!(status.contains(reason), "{status}");
            // And the next one is taken.
            bench.upgrade.arm_tftp(bench.now, false, 0).unwrap();
            assert_eq!(bench.tftp(pool, &good)[..2], [0, 4]);
            bench
                .upgrade
                .give_up(Refusal::Transfer(Ending::Cancelled), pool);
        });
        assert_eq!(bench.flash, before, "{reason}");
    }
}

#[test]
fn an_older_image_is_taken_by_force() {
    let mut bench = Bench::new();
    let mut older = Version::OWN;
    older.minor -= 1;
    with_pool(&mut bench, |bench, pool| {
        bench.upgrade.arm_tftp(bench.now, true, 0).unwrap();
        bench.tftp(pool, &image_of(older, 100));
        assert_eq!(
            bench.run(pool),
            (Turn::Reboot, Some(Outcome::Written(older)))
        );
    });
}

#[test]
fn too_little_memory_is_a_reason() {
    let mut bench = Bench::new();
    let mut memory: Vec<Block> = (0..1).map(|_| Block::EMPTY).collect();
    let mut pool = Pool::new(&mut memory);
    bench.upgrade.arm_tftp(bench.now, false, 0).unwrap();
    let answer = bench.tftp(&mut pool, &image_of(Version::OWN, 5000));
    assert_eq!(answer[..4], [0, 5, 0, 3]);
    assert!(String::from_utf8_lossy(&answer).contains("2 blocks of memory are needed, 1 are free"));
    assert_eq!(pool.blocks_free(), 1);
}

#[test]
fn an_image_by_xmodem_is_written_and_its_padding_is_not() {
    let mut bench = Bench::new();
    with_pool(&mut bench, |bench, pool| {
        bench.upgrade.arm_xmodem(bench.now, false).unwrap();
        assert!(bench.upgrade.has_line());
        let mut bytes = image_of(Version::OWN, 5001);
        bytes.resize(bytes.len().next_multiple_of(1024), 0x1a);
        let mut said = String::new();
        for (index, block) in bytes.chunks(1024).enumerate() {
            let number = index as u8 + 1;
            let crc = crate::crc::crc16(block).to_be_bytes();
            for byte in [&[2, number, !number], block, &crc].concat() {
                bench.upgrade.on_line_byte(bench.now, byte, pool, &mut said);
            }
        }
        for _ in 0..2 {
            bench.upgrade.on_line_byte(bench.now, 4, pool, &mut said);
        }
        assert_eq!(said.as_bytes(), [6, 6, 6, 6, 6, 0x15, 6]);
        assert!(!bench.upgrade.has_line());
        assert_eq!(
            bench.run(pool),
            (Turn::Reboot, Some(Outcome::Written(Version::OWN)))
        );
    });
    let standing = bench.standing(SlotId::B).unwrap();
    let at = 0x9000 + PAYLOAD_AT;
    let written = [&standing.header.emit()[..], &bench.flash[at..at + 5001]].concat();
    let wanted = Wanted {
        not_before: None,
        ..WANTED
    };
    assert!(image::check(&written, &wanted).is_ok());
    assert!(
        bench.flash[at + 5001..0x1_1000]
            .iter()
            .all(|&byte| byte == 0xff)
    );
}

#[test]
fn a_foreign_image_by_xmodem_is_cancelled_at_its_first_block() {
    let mut bench = Bench::new();
    with_pool(&mut bench, |bench, pool| {
        bench.upgrade.arm_xmodem(bench.now, false).unwrap();
        let block = [0x55; 128];
        let mut said = String::new();
        for byte in [
            &[1, 1, !1],
            &block[..],
            &crate::crc::crc16(&block).to_be_bytes(),
        ]
        .concat()
        {
            bench.upgrade.on_line_byte(bench.now, byte, pool, &mut said);
        }
        assert!(said.contains("\x18\x18\x18"));
        assert!(!bench.upgrade.has_line() && !bench.upgrade.is_busy());
        assert_eq!(
            bench.upgrade.take_outcome(),
            Some(Outcome::Refused(Refusal::Image(Fault::NotAnImage)))
        );
    });
}

#[test]
fn nobody_sends_and_the_next_one_can_be_armed() {
    let mut bench = Bench::new();
    with_pool(&mut bench, |bench, pool| {
        bench.upgrade.arm_tftp(bench.now, false, 0).unwrap();
        let (_, outcome) = bench.run(pool);
        assert_eq!(
            outcome,
            Some(Outcome::Refused(Refusal::Transfer(Ending::NobodySent)))
        );
        assert!(!bench.upgrade.is_busy());
        bench.upgrade.arm_xmodem(bench.now, false).unwrap();
        let mut said = String::new();
        for _ in 0..130 {
            bench.now += Duration::from_secs(1);
            bench.upgrade.poll_line(bench.now, pool, &mut said);
        }
        assert!(!bench.upgrade.is_busy() && said.starts_with('C'));
    });
}

#[test]
fn an_image_that_has_run_for_a_minute_is_confirmed_once() {
    let mut bench = Bench::new();
    with_pool(&mut bench, |bench, pool| {
        // As it is after an upgrade.
        let at = 0x1000 + slot::CONFIRMED_AT;
        bench.flash[at..at + slot::MARK_BYTES].fill(0xff);
        bench.now = Instant::ZERO + UPGRADE_CONFIRM_AFTER - Duration::from_millis(1);
        assert_eq!(bench.run(pool).0, Turn::Idle);
        assert!(!bench.standing(SlotId::A).unwrap().confirmed);
        assert_eq!(
            bench.upgrade.poll_at(bench.now),
            Some(Instant::ZERO + UPGRADE_CONFIRM_AFTER)
        );
        bench.now = Instant::ZERO + UPGRADE_CONFIRM_AFTER;
        assert_eq!(bench.run(pool).0, Turn::Idle);
        assert!(bench.standing(SlotId::A).unwrap().confirmed);
        assert_eq!(bench.upgrade.poll_at(bench.now), None);
    });
}

#[test]
fn without_the_loader_there_is_no_upgrade() {
    let mut upgrade = Upgrade::new();
    assert_eq!(
        upgrade.arm_tftp(Instant::ZERO, true, 0),
        Err(Refusal::NoLoader)
    );
    upgrade.set_boot(
        Instant::ZERO,
        Boot {
            board: Board::MALTA,
            slots: SLOTS_HERE,
            running: None,
        },
    );
    assert_eq!(
        upgrade.arm_xmodem(Instant::ZERO, true),
        Err(Refusal::NoLoader)
    );
    assert_eq!(upgrade.poll_at(Instant::ZERO), None);
}
