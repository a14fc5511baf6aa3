//! The container of an image: what `upgrade` takes, what a slot of the flash holds, what the loader starts.
//!
//! ```text
//!  0  magic "TANDEMFW"          20  load address
//!  8  header version            24  entry address
//! 10  board                     28  payload length
//! 12  major, minor, patch       32  CRC-32 of the payload
//! 18  zero                      36  zero
//!                               60  CRC-32 of bytes 0 to 59
//! ```
//! All numbers are little endian; the payload follows at [`HEADER_BYTES`]. It is what stands in RAM from the load
//! address on; memory behind it is cleared by the image's own start code.
//!
//! Not done: a signature. Who can reach the LAN while an upgrade is armed, or the serial line, is trusted.

use core::fmt;

use crate::crc::Crc32;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// First bytes of every image.
pub const MAGIC: [u8; 8] = *b"TANDEMFW";
/// The only header version there is.
pub const HEADER_VERSION: u16 = 1;
/// Where an image may be loaded: kseg0 addresses above the vectors and the kept page.
pub const LOAD_FIRST: u32 = 0x8010_0000;
/// End of what may be loaded: the loader itself begins here.
pub const LOAD_END: u32 = 0x80f8_0000;

const CRC_AT: usize = HEADER_BYTES - 4;

/// What an image is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Board(pub u16);

impl Board {
    /// QEMU's Malta.
    pub const MALTA: Self = Self(1);
    /// Linksys WRT54G with 16 MiB of RAM.
    pub const WRT54G: Self = Self(2);
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MALTA => f.write_str("malta"),
            Self::WRT54G => f.write_str("wrt54g"),
            Self(other) => write!(f, "board {other}"),
        }
    }
}

/// A version of the firmware; the order is that of releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, defmt::Format)]
pub struct Version {
    /// Changes what a user must know.
    pub major: u16,
    /// Adds something.
    pub minor: u16,
    /// Mends something.
    pub patch: u16,
}

impl Version {
    /// The version of this build.
    pub const OWN: Self = Self::parse(env!("CARGO_PKG_VERSION"));

    /// Reads `1.2.3`; what is not understood is zero.
    pub const fn parse(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut parts = [0u16; 3];
        let mut part = 0;
        let mut at = 0;
        while at < bytes.len() && part < 3 {
            match bytes[at] {
                digit @ b'0'..=b'9' => {
                    parts[part] = parts[part]
                        .wrapping_mul(10)
                        .wrapping_add((digit - b'0') as u16);
                }
                b'.' => part += 1,
                _ => break,
            }
            at += 1;
        }
        Self {
            major: parts[0],
            minor: parts[1],
            patch: parts[2],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Fault {
    /// Ends before it is complete.
    TooShort {
        /// Bytes of a whole one.
        expected: u32,
        /// Bytes there are.
        found: u32,
    },
    /// The payload, or what was sent, is larger than a slot or than the header says.
    TooLong {
        /// Bytes at most.
        most: u32,
        /// Bytes there are.
        found: u32,
    },
    /// Does not begin as an image does.
    NotAnImage,
    /// A header that this firmware does not know.
    HeaderVersion(u16),
    /// The header's checksum is wrong.
    HeaderChecksum,
    /// For another board.
    ForeignBoard {
        /// This board.
        expected: Board,
        /// The image's.
        found: Board,
    },
    /// Would be loaded or started where no image can be.
    Address(u32),
    /// The payload's checksum is wrong.
    PayloadChecksum,
    /// Older than what runs, and nobody insisted.
    Older {
        /// What runs.
        running: Version,
        /// The image's.
        found: Version,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { expected, found } => {
                write!(f, "image too short: {found} bytes of {expected}")
            }
            Self::TooLong { most, found } => {
                write!(f, "image too long: {found} bytes, at most {most}")
            }
            Self::NotAnImage => f.write_str("not a Tandem image"),
            Self::HeaderVersion(found) => {
                write!(
                    f,
                    "header version {found} is unknown, only {HEADER_VERSION}"
                )
            }
            Self::HeaderChecksum => f.write_str("checksum of the header is wrong"),
            Self::ForeignBoard { expected, found } => {
                write!(f, "image is for {found}, this is {expected}")
            }
            Self::Address(address) => write!(f, "no image can be at {address:#010x}"),
            Self::PayloadChecksum => f.write_str("checksum of the image is wrong"),
            Self::Older { running, found } => {
                write!(f, "{found} is older than {running}; --force takes it")
            }
        }
    }
}

/// What an image says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is made for.
    pub board: Board,
    /// Which firmware it is.
    pub version: Version,
    /// Where its first byte stands in RAM; a kseg0 address.
    pub load: u32,
    /// Its first instruction; a kseg0 address.
    pub entry: u32,
    /// Bytes of the payload.
    pub length: u32,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
}

/// What an image must be to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// This board.
    pub board: Board,
    /// Bytes of payload that fit.
    pub payload_bytes_max: u32,
    /// The oldest version that is taken; `None` takes any.
    pub not_before: Option<Version>,
}

impl Header {
    /// Reads the header at the beginning of `bytes`: its integrity, not yet whether it suits.
    ///
    /// # Errors
    /// Too short, no image, unknown header version, or a wrong checksum, in this order.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Fault::TooShort {
                expected: HEADER_BYTES as u32,
                found: bytes.len() as u32,
            });
        };
        if header[..8] != MAGIC {
            return Err(Fault::NotAnImage);
        }
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
        if half(8) != HEADER_VERSION {
            return Err(Fault::HeaderVersion(half(8)));
        }
        if word(CRC_AT) != Crc32::of(&header[..CRC_AT]) {
            return Err(Fault::HeaderChecksum);
        }
        Ok(Self {
            board: Board(half(10)),
            version: Version {
                major: half(12),
                minor: half(14),
                patch: half(16),
            },
            load: word(20),
            entry: word(24),
            length: word(28),
            payload_crc: word(32),
        })
    }

    /// The header as bytes, its checksum in place.
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(8, &HEADER_VERSION.to_le_bytes());
        put(10, &self.board.0.to_le_bytes());
        put(12, &self.version.major.to_le_bytes());
        put(14, &self.version.minor.to_le_bytes());
        put(16, &self.version.patch.to_le_bytes());
        put(20, &self.load.to_le_bytes());
        put(24, &self.entry.to_le_bytes());
        put(28, &self.length.to_le_bytes());
        put(32, &self.payload_crc.to_le_bytes());
        let crc = Crc32::of(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether an image of this header may be taken here.
    ///
    /// # Errors
    /// Foreign board, no payload or too much of it, impossible addresses, older than wanted, in this order.
    pub fn check(&self, wanted: &Wanted) -> Result<(), Fault> {
        if self.board != wanted.board {
            return Err(Fault::ForeignBoard {
                expected: wanted.board,
                found: self.board,
            });
        }
        if self.length == 0 {
            return Err(Fault::TooShort {
                expected: HEADER_BYTES as u32 + 1,
                found: HEADER_BYTES as u32,
            });
        }
        if self.length > wanted.payload_bytes_max {
            return Err(Fault::TooLong {
                most: wanted.payload_bytes_max,
                found: self.length,
            });
        }
        let Some(end) = self.load.checked_add(self.length) else {
            return Err(Fault::Address(self.load));
        };
        if self.load < LOAD_FIRST || end > LOAD_END || !self.load.is_multiple_of(4) {
            return Err(Fault::Address(self.load));
        }
        if !(self.load..end).contains(&self.entry) || !self.entry.is_multiple_of(4) {
            return Err(Fault::Address(self.entry));
        }
        match wanted.not_before {
            Some(running) if self.version < running => Err(Fault::Older {
                running,
                found: self.version,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Judges a whole image, header and payload.
///
/// # Errors
/// As [`Header::parse`] and [`Header::check`]; then length and checksum of the payload.
pub fn check(image: &[u8], wanted: &Wanted) -> Result<Header, Fault> {
    let header = Header::parse(image)?;
    header.check(wanted)?;
    let payload = &image[HEADER_BYTES..];
    let whole = header.length + HEADER_BYTES as u32;
    if payload.len() < header.length as usize {
        return Err(Fault::TooShort {
            expected: whole,
            found: image.len() as u32,
        });
    }
    if payload.len() > header.length as usize {
        return Err(Fault::TooLong {
            most: whole,
            found: image.len() as u32,
        });
    }
    if Crc32::of(payload) != header.payload_crc {
        return Err(Fault::PayloadChecksum);
    }
    Ok(header)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::upgrade) const WANTED: Wanted = Wanted {
        board: Board::MALTA,
        payload_bytes_max: 0x1c_0000 - 0x100,
        not_before: Some(Version {
            major: 0,
            minor: 2,
            patch: 0,
        }),
    };

    /// A good image whose payload is `length` bytes that are all different from their neighbours.
    pub(in crate::upgrade) fn image(length: usize) -> Vec<u8> {
        let payload: Vec<u8> = (0..length)
            .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        pack(
            &Header {
                board: Board::MALTA,
                version: Version::parse("0.2.0"),
                load: LOAD_FIRST,
                entry: LOAD_FIRST,
                length: length as u32,
                payload_crc: Crc32::of(&payload),
            },
            &payload,
        )
    }

    pub(in crate::upgrade) fn pack(header: &Header, payload: &[u8]) -> Vec<u8> {
        [&header.emit()[..], payload].concat()
    }

    fn changed(change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let good = image(100);
        let mut header = Header::parse(&good).unwrap();
        change(&mut header);
        pack(&header, &good[HEADER_BYTES..])
    }

    #[test]
    fn a_good_image_is_taken_and_its_header_reads_back() {
        let header = check(&image(100), &WANTED).unwrap();
        assert_eq!(header.length, 100);
        assert_eq!(Header::parse(&header.emit()), Ok(header));
    }

    #[test]
    fn each_fault_is_refused_with_its_own_reason() {
        let fault = |bytes: &[u8]| check(bytes, &WANTED).unwrap_err();
        let good = image(100);
        assert_eq!(
            fault(&good[..63]),
            Fault::TooShort {
                expected: 64,
                found: 63
            }
        );
        assert_eq!(fault(&[0xff; 200]), Fault::NotAnImage);
        assert_eq!(
            fault(&good[..163]),
            Fault::TooShort {
                expected: 164,
                found: 163
            }
        );
        assert_eq!(
            fault(&[&good[..], &[0x1a]].concat()),
            Fault::TooLong {
                most: 164,
                found: 165
            }
        );
        let mut newer = good.clone();
        newer[8] = 2;
        assert_eq!(fault(&newer), Fault::HeaderVersion(2));
        assert_eq!(
            fault(&changed(|header| header.board = Board::WRT54G)),
            Fault::ForeignBoard {
                expected: Board::MALTA,
                found: Board::WRT54G
            }
        );
        assert_eq!(
            fault(&changed(|header| header.length = 0x1c_0000)),
            Fault::TooLong {
                most: 0x1b_ff00,
                found: 0x1c_0000
            }
        );
        assert!(matches!(
            fault(&changed(|header| header.length = 0)),
            Fault::TooShort { .. }
        ));
        assert_eq!(
            fault(&changed(|header| header.version = Version::parse("0.1.9"))),
            Fault::Older {
                running: Version::parse("0.2.0"),
                found: Version::parse("0.1.9")
            }
        );
    }

    #[test]
    fn an_image_that_would_overwrite_vectors_kept_page_or_loader_is_refused() {
        for load in [
            0,
            0x8000_0000,
            0x8000_1000,
            LOAD_FIRST - 4,
            LOAD_FIRST + 1,
            LOAD_END - 96,
            LOAD_END,
            u32::MAX - 3,
        ] {
            let bytes = changed(|header| {
                header.load = load;
                header.entry = load;
            });
            assert_eq!(check(&bytes, &WANTED), Err(Fault::Address(load)));
        }
        for entry in [LOAD_FIRST - 4, LOAD_FIRST + 2, LOAD_FIRST + 100] {
            let bytes = changed(|header| header.entry = entry);
            assert_eq!(check(&bytes, &WANTED), Err(Fault::Address(entry)));
        }
    }

    #[test]
    fn an_older_version_is_taken_when_somebody_insists_and_the_same_one_always() {
        let older = changed(|header| header.version = Version::parse("0.1.9"));
        let insisting = Wanted {
            not_before: None,
            ..WANTED
        };
        assert!(check(&older, &insisting).is_ok());
        assert!(check(&image(1), &WANTED).is_ok());
    }

    #[test]
    fn versions_order_as_releases_do() {
        let mut last = Version::parse("0.0.0");
        for text in ["0.0.9", "0.0.10", "0.9.1", "0.10.0", "1.0.0", "1.0.1-rc1"] {
            let version = Version::parse(text);
            assert!(version > last, "{text}");
            last = version;
        }
        assert_eq!(last.to_string(), "1.0.1");
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_found(at in 0usize..164 * 8) {
            let mut bytes = image(100);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(check(&bytes, &WANTED).is_err());
        }

        #[test]
        fn noise_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check(&bytes, &WANTED).is_err());
        }
    }
}
