//! S2: stored bytes that are wrong.

use core::net::Ipv4Addr;

use super::*;
use crate::settings::{Net, WanAddress};

const SETTINGS_AT: [usize; 2] = [0x1_8000, 0x1_c000];

/// An image after saves of the settings with these numbers.
fn image_of(numbers: core::ops::Range<u32>) -> std::vec::Vec<u8> {
    let mut image = std::vec![0xff; SMALL_BYTES];
    for number in numbers {
        let mut body = [0; SETTINGS_BYTES_MAX];
        let length = numbered(number).encode(&mut body).unwrap();
        save(&mut image, VERSION, &body[..length]);
    }
    image
}

fn save(image: &mut [u8], version: u16, body: &[u8]) {
    let mut flash = RamFlash::new(image, SMALL_SECTOR);
    let mut store = Store::new(SMALL);
    store.open(Instant::ZERO, &mut flash);
    let saved = store.save_now(
        &mut || Instant::ZERO,
        &mut flash,
        Kind::Settings,
        version,
        body,
    );
    assert_eq!(saved, Ok(Saved::Written));
}

fn boot(image: &[u8]) -> (Boot, Settings) {
    let mut image = image.to_vec();
    let mut flash = RamFlash::new(&mut image, SMALL_SECTOR);
    let mut store = Store::new(SMALL);
    let mut owner = Owner::default();
    store.open(Instant::ZERO, &mut flash);
    let boot = store.load(Instant::ZERO, &mut flash, Kind::Settings, &mut owner);
    (boot, owner.settings)
}

/// Bytes of the sector from its mark to its last byte that is not blank.
fn used(image: &[u8], sector: usize) -> core::ops::Range<usize> {
    let start = SETTINGS_AT[sector];
    let bytes = &image[start..start + SMALL_SECTOR as usize];
    let end = bytes.iter().rposition(|&byte| byte != 0xff).unwrap();
    start..start + end + 1
}

#[test]
fn s2_each_flipped_bit_of_the_only_copy_is_detected() {
    let mut image = image_of(0..1);
    assert_eq!(boot(&image), (Boot::Loaded, numbered(0)));
    let all = used(&image, 0);
    let record = all.start + 64;
    for at in all {
        for bit in 0..8 {
            image[at] ^= 1 << bit;
            let found = boot(&image);
            if at < record {
                // The mark: the record itself is whole.
                assert_eq!(found.1, numbered(0), "byte {at:#x}");
            } else {
                let damaged = Boot::Defaults(Lost::Damaged);
                assert_eq!(found, (damaged, Settings::new()), "byte {at:#x} bit {bit}");
            }
            image[at] ^= 1 << bit;
        }
    }
}

#[test]
fn s2_each_flipped_bit_of_the_newest_copy_leads_to_the_one_before() {
    let mut image = image_of(0..2);
    let second = SETTINGS_AT[0] + 64 + 508;
    assert_eq!(boot(&image), (Boot::Loaded, numbered(1)));
    for at in used(&image, 0) {
        for bit in 0..8 {
            image[at] ^= 1 << bit;
            let found = boot(&image);
            if at < second {
                assert_eq!(found.1, numbered(1), "byte {at:#x}");
            } else {
                let earlier = Boot::Earlier(Lost::Damaged);
                assert_eq!(found, (earlier, numbered(0)), "byte {at:#x} bit {bit}");
            }
            image[at] ^= 1 << bit;
        }
    }
}

#[test]
fn s2_a_whole_block_of_zeros_ones_or_noise_leads_to_the_other_copy_or_to_defaults() {
    let mut random = crate::random::Random::repeatable(2);
    // The second sector holds one record, the newest.
    let image = image_of(0..33);
    let sector = SMALL_SECTOR as usize;
    for round in 0..30 {
        let fill = |block: &mut [u8], random: &mut crate::random::Random| match round {
            0 => block.fill(0x00),
            1 => block.fill(0xff),
            _ => random.fill(block),
        };
        let mut spoilt = image.clone();
        fill(&mut spoilt[SETTINGS_AT[1]..][..sector], &mut random);
        let earlier = Boot::Earlier(Lost::Damaged);
        assert_eq!(boot(&spoilt), (earlier, numbered(31)), "{round}");
        fill(&mut spoilt[SETTINGS_AT[0]..][..sector], &mut random);
        let lost = if round == 1 {
            Lost::Empty
        } else {
            Lost::Damaged
        };
        assert_eq!(
            boot(&spoilt),
            (Boot::Defaults(lost), Settings::new()),
            "{round}"
        );
        let mut spoilt = image.clone();
        fill(&mut spoilt[SETTINGS_AT[0]..][..sector], &mut random);
        assert_eq!(boot(&spoilt), (Boot::Loaded, numbered(32)), "{round}");
        // And it can be saved over.
        let mut body = [0; SETTINGS_BYTES_MAX];
        let length = numbered(99).encode(&mut body).unwrap();
        save(&mut spoilt, VERSION, &body[..length]);
        assert_eq!(boot(&spoilt), (Boot::Loaded, numbered(99)), "{round}");
    }
}

#[test]
fn s2_a_newer_version_is_refused_and_the_copy_before_it_used() {
    let mut image = image_of(0..1);
    for version in [VERSION + 1, VERSION + 2] {
        save(&mut image, version, b"what a later program means by this");
        // The reason told is the newest record's.
        let earlier = Boot::Earlier(Lost::Version(version));
        assert_eq!(boot(&image), (earlier, numbered(0)));
    }
    let mut image = image_of(0..0);
    save(
        &mut image,
        VERSION + 1,
        b"what a later program means by this",
    );
    let defaults = Boot::Defaults(Lost::Version(VERSION + 1));
    assert_eq!(boot(&image), (defaults, Settings::new()));
}

#[test]
fn s2_an_older_version_is_translated() {
    let mut image = image_of(0..1);
    let nothing_set = [0, 0, 0, 0, 1, 0x80, 0x80, 0x10, 80, 0, 0, 0, 15, 0, 0, 0, 0];
    save(&mut image, 0, &nothing_set);
    assert_eq!(boot(&image), (Boot::Migrated(0), Settings::new()));
}

#[test]
fn s2_a_right_checksum_over_values_that_cannot_be_is_refused() {
    let mut image = image_of(0..1);
    save(&mut image, VERSION, &[0xff; 40]);
    let earlier = Boot::Earlier(Lost::Malformed);
    assert_eq!(boot(&image), (earlier, numbered(0)));
    // Well-formed, but no `set` would take it: the line is in the LAN's own net.
    let mut settings = numbered(1);
    settings.lan.net = Some(Net {
        address: Ipv4Addr::new(192, 168, 1, 1),
        prefix: 24,
    });
    settings.wan.address = WanAddress::Static(Net {
        address: Ipv4Addr::new(192, 168, 1, 77),
        prefix: 24,
    });
    let mut bytes = [0; SETTINGS_BYTES_MAX];
    let length = settings.encode(&mut bytes).unwrap();
    let mut image = image_of(0..1);
    save(&mut image, VERSION, &bytes[..length]);
    assert_eq!(boot(&image), (earlier, numbered(0)));
}
