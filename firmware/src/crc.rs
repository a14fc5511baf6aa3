//! Checksums of what lies in flash or comes by a serial line, by the `crc` crate: CRC-32 of records and images,
//! CRC-16 of XMODEM blocks.
//!
//! Follows: CRC-32/ISO-HDLC (as zlib computes it) and CRC-16/XMODEM of the catalogue of parametrised CRC algorithms.
//! Budget: one table of 1 KiB for CRC-32: eight times the speed of none, and the loader goes through a whole image at
//! each start; none for CRC-16, of which a block has 1 KiB.

use ::crc::{CRC_16_XMODEM, CRC_32_ISO_HDLC, Crc, NoTable, Table};

static CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);
static CRC16: Crc<u16, NoTable> = Crc::<u16, NoTable>::new(&CRC_16_XMODEM);

/// A CRC-32 over bytes that come in pieces. It holds the checksum so far and not the crate's digest: at rest it is all
/// zero, as everything must be that stands in the board's memory.
#[derive(Clone, Debug, Default)]
pub struct Crc32(u32);

impl Crc32 {
    /// Of no byte yet.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut digest = CRC32.digest_with_initial((!self.0).reverse_bits());
        digest.update(bytes);
        self.0 = digest.finalize();
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        self.0
    }

    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> u32 {
        CRC32.checksum(bytes)
    }
}

/// The CRC-16 of an XMODEM block.
pub fn crc16(bytes: &[u8]) -> u16 {
    CRC16.checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogue_are_met() {
        assert_eq!(Crc32::of(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let mut pieces = Crc32::new();
        for piece in [&b"1234"[..], b"", b"56789"] {
            pieces.update(piece);
        }
        assert_eq!(pieces.value(), 0xcbf4_3926);
    }
}
