//! The SPROM of a Broadcom PCI card: its MAC addresses and PHY address.
//!
//! Follows: layout 1 as public drivers and the `ssb_sprom` tool have it; 64 words of 16 bits. The check sequence is
//! a CRC-8 of the reflected polynomial 0xab, over all bytes but the last, in the order of memory.
//! Not done: what concerns the radio, layouts 2 to 8, writing.

/// Words.
pub const WORDS: usize = 64;
/// Words of the three addresses and of the PHY addresses.
const WIRELESS_MAC: usize = 0x48 / 2;
const ETHERNET_0_MAC: usize = 0x4e / 2;
const ETHERNET_1_MAC: usize = 0x54 / 2;
const PHYS: usize = 0x5a / 2;
const BOARD: usize = 0x5c / 2;
const BOARD_FLAGS: usize = 0x72 / 2;
const CHECK: usize = 0x7e / 2;

/// Why an SPROM is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Error {
    /// All ones or all zeros: there is none.
    Blank,
    /// The check sequence is wrong.
    Check {
        /// What it should be.
        expected: u8,
        /// What it is.
        found: u8,
    },
    /// The Ethernet address is no station's: multicast, zero or all ones.
    Address {
        /// The address.
        found: [u8; 6],
    },
}

/// What an SPROM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sprom {
    /// Address of the wireless interface; without meaning on a card that has none.
    pub wireless: [u8; 6],
    /// Addresses of the two Ethernet interfaces; the second without meaning on a card with one.
    pub ethernet: [[u8; 6]; 2],
    /// PHY addresses of the two, 0 to 31; 31 means none.
    pub phy: [u8; 2],
    /// Revision of the board.
    pub board_revision: u8,
    /// Flags of the board; 0 when not programmed.
    pub board_flags: u16,
    /// Revision of the layout, as stored.
    pub revision: u8,
}

impl Sprom {
    /// Reads the SPROM of a card of the 44xx family, which has layout 1 whatever it says, and one Ethernet interface.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse_44xx(words: &[u16; WORDS]) -> Result<Self, Error> {
        if words.iter().all(|&word| word == u16::MAX) || words.iter().all(|&word| word == 0) {
            return Err(Error::Blank);
        }
        let [revision, found] = words[CHECK].to_le_bytes();
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        let expected = !crc8(bytes.take(WORDS * 2 - 1), 0xff);
        if found != expected {
            return Err(Error::Check { expected, found });
        }
        let ethernet = mac(words, ETHERNET_0_MAC);
        if ethernet[0] & 1 != 0 || ethernet == [0; 6] {
            return Err(Error::Address { found: ethernet });
        }
        let phys = words[PHYS];
        Ok(Self {
            wireless: mac(words, WIRELESS_MAC),
            ethernet: [ethernet, mac(words, ETHERNET_1_MAC)],
            phy: [(phys & 0x1f) as u8, (phys >> 5 & 0x1f) as u8],
            board_revision: words[BOARD] as u8,
            board_flags: match words[BOARD_FLAGS] {
                u16::MAX => 0,
                flags => flags,
            },
            revision,
        })
    }
}

/// An address: in each word the first byte is the high one.
fn mac(words: &[u16; WORDS], at: usize) -> [u8; 6] {
    let mut mac = [0; 6];
    for (bytes, word) in mac.chunks_exact_mut(2).zip(&words[at..]) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    mac
}

/// CRC-8 of the reflected polynomial 0xab (0xd5), from `start`, not inverted at the end.
pub(crate) fn crc8(bytes: impl Iterator<Item = u8>, start: u8) -> u8 {
    bytes.fold(start, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| {
            (crc >> 1) ^ if crc & 1 != 0 { 0xab } else { 0 }
        })
    })
}

/// Contents made up for models and tests: address, PHY address, and a right check sequence.
#[cfg(any(test, feature = "model"))]
pub fn made_up(mac: [u8; 6], phy: u8) -> [u16; WORDS] {
    let mut words = [0; WORDS];
    for (index, pair) in mac.chunks_exact(2).enumerate() {
        words[ETHERNET_0_MAC + index] = u16::from_be_bytes([pair[0], pair[1]]);
    }
    words[PHYS] = u16::from(phy);
    words[BOARD_FLAGS] = u16::MAX;
    words[CHECK] = 1;
    let check = !crc8(
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .take(WORDS * 2 - 1),
        0xff,
    );
    words[CHECK] |= u16::from(check) << 8;
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x00, 0x10, 0x18, 0xa1, 0xb2, 0xc3];

    #[test]
    fn the_check_sequence_is_that_of_the_test_vector() {
        assert_eq!(crc8(b"123456789".iter().copied(), 0xff), 0x7f);
        let words = made_up(MAC, 1);
        let all = words.iter().flat_map(|word| word.to_le_bytes());
        assert_eq!(crc8(all, 0xff), 0x9f);
    }

    #[test]
    fn a_good_one_tells_its_addresses() {
        let mut words = made_up(MAC, 3);
        assert_eq!(words[0x4e / 2], 0x0010);
        let sprom = Sprom::parse_44xx(&words).unwrap();
        assert_eq!(sprom.ethernet[0], MAC);
        assert_eq!(sprom.phy, [3, 0]);
        assert_eq!(sprom.board_flags, 0, "not programmed is no flag");
        assert_eq!(sprom.revision, 1);
        words = made_up(MAC, 31);
        assert_eq!(Sprom::parse_44xx(&words).unwrap().phy[0], 31);
    }

    #[test]
    fn every_single_wrong_bit_is_seen() {
        let good = made_up(MAC, 1);
        for bit in 0..WORDS * 16 {
            let mut words = good;
            words[bit / 16] ^= 1 << (bit % 16);
            let error = Sprom::parse_44xx(&words).unwrap_err();
            assert!(matches!(error, Error::Check { .. }), "bit {bit}: {error:?}");
        }
    }

    #[test]
    fn an_absent_one_and_addresses_that_are_none_are_told() {
        for word in [0, u16::MAX] {
            assert_eq!(Sprom::parse_44xx(&[word; WORDS]), Err(Error::Blank));
        }
        for found in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            assert_eq!(
                Sprom::parse_44xx(&made_up(found, 1)),
                Err(Error::Address { found })
            );
        }
    }
}
