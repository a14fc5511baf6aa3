//! The boot loader's variables: `name=value` texts with a check sequence, in the flash's last sector.
//!
//! Follows: the layout as boot loader, vendor firmware and OpenWrt's `nvram` tool have it. Header of 20 bytes, little endian:
//! magic, length, check sequence, version, three words for the memory controller, one more; then the texts, each ended
//! by a zero, the last by two. The check sequence is the SPROM's CRC-8 without inversion, over bytes 9 and up.
//!
//! Units: bytes. Invariants: I1 nothing is read beyond the length that the check sequence vouches for.
//! Not done: writing: the memory controller's words must survive any write, and a wrong one bricks the box.

use super::sprom::crc8;

/// "FLSH".
const MAGIC: u32 = 0x4853_4c46;
const HEADER_BYTES: usize = 20;
/// The area is 32 KiB on all of the boards.
pub const AREA_BYTES: usize = 0x8000;
/// Longest header and texts believed.
const BYTES_MAX: usize = AREA_BYTES;

/// Why an area holds no variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// It does not begin with the magic word.
    Magic {
        /// The word there; 0 too when the area is shorter than a header.
        found: u32,
    },
    /// The length is shorter than the header, or longer than the area.
    Length {
        /// The length.
        found: u32,
    },
    /// The check sequence is wrong.
    Check {
        /// What it should be.
        expected: u8,
        /// What it is.
        found: u8,
    },
}

/// Where a flash chip may keep the variables, best first: before the end of each power of two up to its size, then the
/// defaults inside the boot loader.
pub fn places(flash_bytes: usize) -> impl Iterator<Item = usize> {
    let ends = (17..32)
        .map(|shift| 1usize << shift)
        .take_while(move |end| *end <= flash_bytes);
    // The real end first: a smaller power of two may show an old copy.
    let ends = ends.collect::<heapless::Vec<_, 15>>();
    (0..ends.len())
        .rev()
        .flat_map(move |index| {
            [AREA_BYTES, 0x6000, 0xf000, 0x1_0000].map(|size| ends[index] - size)
        })
        .chain([0x1000, 0x400])
        .filter(move |place| *place + HEADER_BYTES <= flash_bytes)
}

/// Variables whose check sequence is right.
#[derive(Clone, Copy, Debug)]
pub struct Nvram<'a> {
    texts: &'a [u8],
}

impl<'a> Nvram<'a> {
    /// Reads an area from its start.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(area: &'a [u8]) -> Result<Self, Error> {
        let word = |at: usize| {
            area.get(at..at + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        let magic = word(0);
        if magic != MAGIC || area.len() < HEADER_BYTES {
            return Err(Error::Magic { found: magic });
        }
        let length = word(4);
        let texts = usize::try_from(length)
            .ok()
            .filter(|length| *length <= BYTES_MAX)
            .and_then(|length| area.get(HEADER_BYTES..length))
            .ok_or(Error::Length { found: length })?;
        let checked = area[9..HEADER_BYTES].iter().chain(texts).copied();
        let expected = crc8(checked, 0xff);
        let found = area[8];
        if found != expected {
            return Err(Error::Check { expected, found });
        }
        Ok(Self { texts })
    }

    /// Reads the defaults that the boot loader carries as bare texts, without header (at 0x1014 of its flash).
    pub fn defaults(texts: &'a [u8]) -> Self {
        let end = texts.windows(2).position(|pair| pair == [0, 0]);
        let texts = &texts[..end.unwrap_or(0)];
        Self { texts }
    }

    /// Every name and value, in order; texts without `=` are skipped.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.texts
            .split(|byte| *byte == 0)
            .take_while(|text| !text.is_empty())
            .filter_map(|text| {
                let equals = text.iter().position(|byte| *byte == b'=')?;
                Some((&text[..equals], &text[equals + 1..]))
            })
    }

    /// The value of a variable, the first of its name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| *found == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// A number, decimal or with `0x`; `None` when it is none of 32 bits.
    pub fn number(&self, name: &str) -> Option<u32> {
        let text = core::str::from_utf8(self.get(name)?).ok()?;
        let (digits, radix) = match text.strip_prefix("0x") {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        // `from_str_radix` would take a sign.
        if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, radix).ok()
    }

    /// A station's address, `00:11:22:aa:bb:cc`; `None` when it is malformed, multicast or zero.
    pub fn mac(&self, name: &str) -> Option<[u8; 6]> {
        mac(self.get(name)?)
    }
}

/// A station's address as text.
pub fn mac(text: &[u8]) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(|byte| *byte == b':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        let digit = |at: usize| (part[at] as char).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    let is_station = mac[0] & 1 == 0 && mac != [0; 6];
    (parts.next().is_none() && is_station).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An area of the given texts.
    fn area(texts: &[u8]) -> Vec<u8> {
        let mut area = vec![0; HEADER_BYTES];
        area[..4].copy_from_slice(b"FLSH");
        area.extend_from_slice(texts);
        area.resize(area.len().next_multiple_of(4), 0);
        let length = area.len() as u32;
        area[4..8].copy_from_slice(&length.to_le_bytes());
        area[9] = 1;
        area[10..16].copy_from_slice(&[0x0b, 0, 0x62, 0, 0, 0]);
        area[8] = crc8(area[9..].iter().copied(), 0xff);
        area.resize(AREA_BYTES, 0xff);
        area
    }

    const TEXTS: &[u8] = b"boardtype=0x0467\0boardnum=42\0et0macaddr=00:0F:66:12:34:56\0\
        et0phyaddr=30\0vlan1ports=4 5\0empty=\0odd\0boardnum=43\0equation=a=b\0\0";

    #[test]
    fn variables_are_found_by_name() {
        let area = area(TEXTS);
        let nvram = Nvram::parse(&area).unwrap();
        assert_eq!(nvram.number("boardtype"), Some(0x467));
        assert_eq!(nvram.number("boardnum"), Some(42), "the first of its name");
        assert_eq!(nvram.number("et0phyaddr"), Some(30));
        assert_eq!(
            nvram.mac("et0macaddr"),
            Some([0, 0x0f, 0x66, 0x12, 0x34, 0x56])
        );
        assert_eq!(nvram.get("vlan1ports"), Some(&b"4 5"[..]));
        assert_eq!(nvram.get("empty"), Some(&b""[..]));
        assert_eq!(nvram.get("equation"), Some(&b"a=b"[..]));
        for absent in ["odd", "board", "boardtype2", ""] {
            assert_eq!(nvram.get(absent), None, "{absent}");
        }
        assert_eq!(nvram.iter().count(), 8);
    }

    #[test]
    fn every_single_wrong_bit_is_seen() {
        let good = area(TEXTS);
        let length = u32::from_le_bytes(good[4..8].try_into().unwrap()) as usize;
        for bit in 0..length * 8 {
            let mut area = good.clone();
            area[bit / 8] ^= 1 << (bit % 8);
            assert!(Nvram::parse(&area).is_err(), "bit {bit}");
        }
        let mut behind = good;
        behind[length] ^= 1;
        assert!(
            Nvram::parse(&behind).is_ok(),
            "what lies behind is not looked at"
        );
    }

    #[test]
    fn areas_that_are_cut_or_lie_about_their_length_are_refused() {
        let good = area(TEXTS);
        let length = u32::from_le_bytes(good[4..8].try_into().unwrap()) as usize;
        for bytes in 0..length {
            assert!(Nvram::parse(&good[..bytes]).is_err(), "{bytes}");
        }
        for length in [0, 19, AREA_BYTES as u32 + 1, u32::MAX] {
            let mut area = good.clone();
            area[4..8].copy_from_slice(&length.to_le_bytes());
            assert_eq!(
                Nvram::parse(&area).unwrap_err(),
                Error::Length { found: length }
            );
        }
        let erased = vec![0xff; AREA_BYTES];
        assert_eq!(
            Nvram::parse(&erased).unwrap_err(),
            Error::Magic { found: u32::MAX }
        );
    }

    #[test]
    fn a_header_without_texts_has_no_variables() {
        let area = area(b"");
        assert_eq!(Nvram::parse(&area).unwrap().iter().count(), 0);
    }

    #[test]
    fn malformed_values_are_none() {
        let area = area(
            b"a=0x\0b=-1\0c=+1\0d=4294967296\0e=0xg\0f=\xff\0g=00:11:22:33:44\0h=00:11:22:33:44:55:66\0\
              i=01:11:22:33:44:55\0j=00:00:00:00:00:00\0k=0:11:22:33:44:55\0l=0x+1\0\0",
        );
        let nvram = Nvram::parse(&area).unwrap();
        for (name, _) in nvram.iter() {
            let name = core::str::from_utf8(name).unwrap();
            assert_eq!(nvram.number(name), None, "{name}");
            assert_eq!(nvram.mac(name), None, "{name}");
        }
    }

    #[test]
    fn the_loaders_defaults_end_at_two_zeros() {
        let nvram = Nvram::defaults(b"a=1\0b=2\0\0c=3\0");
        assert_eq!(nvram.number("b"), Some(2));
        assert_eq!(nvram.get("c"), None);
        assert_eq!(Nvram::defaults(&[0xff; 64]).iter().count(), 0);
        assert_eq!(Nvram::defaults(&[]).iter().count(), 0);
    }

    #[test]
    fn the_last_32_kib_of_the_flash_are_looked_at_first() {
        assert_eq!(places(0x40_0000).next(), Some(0x3f_8000));
        assert_eq!(places(0x80_0000).next(), Some(0x7f_8000));
        assert!(places(0x40_0000).any(|place| place == 0x1000));
        assert!(places(0x40_0000).all(|place| place + HEADER_BYTES <= 0x40_0000));
        assert_eq!(places(0).count(), 0);
    }
}
