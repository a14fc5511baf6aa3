//! Reads and writes captures.
//!
//! Follows: the pcap file format (draft-ietf-opsawg-pcap, sections 4 and 5), version 2.4, link type Ethernet. The
//! writer writes little endian with µs; the reader takes both byte orders, µs and ns.
//! Units: µs since 1970 for time.

use std::io::{self, Read, Write};

/// Most bytes of a frame that are kept; all of it, for any frame that a lab line carries.
pub const SNAP_BYTES: u32 = 65_535;

const MAGIC_US: u32 = 0xa1b2_c3d4;
const MAGIC_NS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;

/// Writes frames to a capture file.
#[derive(Debug)]
pub struct Writer<W: Write> {
    to: W,
    frames: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn new(mut to: W) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend_from_slice(&MAGIC_US.to_le_bytes());
        header.extend_from_slice(&2u16.to_le_bytes());
        header.extend_from_slice(&4u16.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(&SNAP_BYTES.to_le_bytes());
        header.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        to.write_all(&header)?;
        Ok(Self { to, frames: 0 })
    }

    /// Adds a frame seen at `time_us`.
    ///
    /// # Errors
    /// Those of the file.
    pub fn write(&mut self, time_us: u64, frame: &[u8]) -> io::Result<()> {
        let kept = &frame[..frame.len().min(SNAP_BYTES as usize)];
        let mut header = [0; 16];
        // Seconds are 32 bit in the format: 2106.
        header[0..4].copy_from_slice(&((time_us / 1_000_000) as u32).to_le_bytes());
        header[4..8].copy_from_slice(&((time_us % 1_000_000) as u32).to_le_bytes());
        header[8..12].copy_from_slice(&(kept.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        self.to.write_all(&header)?;
        self.to.write_all(kept)?;
        self.frames += 1;
        Ok(())
    }

    /// Frames written so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Passes everything on to the file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// Those of the last flush.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

/// A frame of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was seen, µs since 1970.
    pub time_us: u64,
    /// Its bytes, from the destination address on.
    pub frame: Vec<u8>,
}

/// Reads the frames of a capture file, oldest first.
#[derive(Debug)]
pub struct Reader<R: Read> {
    from: R,
    big_endian: bool,
    nanoseconds: bool,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> Reader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// `InvalidData` for what is not a pcap file of Ethernet frames; those of `from`.
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut header = [0; 24];
        from.read_exact(&mut header)?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let (big_endian, nanoseconds) =
            match (u32::from_le_bytes(word(0)), u32::from_be_bytes(word(0))) {
                (MAGIC_US, _) => (false, false),
                (MAGIC_NS, _) => (false, true),
                (_, MAGIC_US) => (true, false),
                (_, MAGIC_NS) => (true, true),
                (_, _) => return Err(invalid("not a pcap file")),
            };
        let reader = Self {
            from,
            big_endian,
            nanoseconds,
        };
        // The upper bits say whether a checksum follows each frame (section 4); we read none of these.
        if reader.number(word(20)) != LINKTYPE_ETHERNET {
            return Err(invalid("not a capture of Ethernet frames"));
        }
        Ok(reader)
    }

    fn number(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    /// The next frame; `None` at the end. A record cut short by a killed writer counts as the end.
    ///
    /// # Errors
    /// `InvalidData` for a length that no writer makes; those of the file.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        let mut header = [0; 16];
        if !read_whole(&mut self.from, &mut header)? {
            return Ok(None);
        }
        let word =
            |at: usize| self.number([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (seconds, fraction, kept) = (word(0), word(4), word(8));
        if kept > 262_144 {
            return Err(invalid("record longer than any frame"));
        }
        let fraction_us = if self.nanoseconds {
            fraction / 1_000
        } else {
            fraction
        };
        let mut frame = vec![0; kept as usize];
        if !read_whole(&mut self.from, &mut frame)? {
            return Ok(None);
        }
        Ok(Some(Record {
            time_us: u64::from(seconds) * 1_000_000 + u64::from(fraction_us),
            frame,
        }))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// Fills `bytes`; `false` if the input ends before.
fn read_whole(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_frames() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.write(1_700_000_000_123_456, &[0xab; 60]).unwrap();
        writer.write(1_700_000_000_999_999, &[1, 2, 3]).unwrap();
        assert_eq!(writer.frames(), 2);
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let records: Vec<_> = Reader::new(&two_frames()[..])
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            records,
            [
                Record {
                    time_us: 1_700_000_000_123_456,
                    frame: vec![0xab; 60]
                },
                Record {
                    time_us: 1_700_000_000_999_999,
                    frame: vec![1, 2, 3]
                },
            ]
        );
    }

    #[test]
    fn the_header_is_the_one_of_the_specification() {
        let bytes = two_frames();
        assert_eq!(
            &bytes[..24],
            [
                0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0,
                0, 0
            ]
        );
        assert_eq!(bytes[24 + 8..24 + 16], [60, 0, 0, 0, 60, 0, 0, 0]);
    }

    #[test]
    fn big_endian_and_nanoseconds_are_read() {
        let mut bytes = Vec::new();
        for word in [MAGIC_NS, 0x0002_0004, 0, 0, 65_535, 1, 5, 7_000, 2, 2] {
            bytes.extend_from_slice(&u32::to_be_bytes(word));
        }
        bytes.extend_from_slice(&[9, 8]);
        let record = Reader::new(&bytes[..])
            .unwrap()
            .next_record()
            .unwrap()
            .unwrap();
        assert_eq!(
            record,
            Record {
                time_us: 5_000_007,
                frame: vec![9, 8]
            }
        );
    }

    #[test]
    fn a_capture_cut_short_ends_at_the_last_whole_frame() {
        let bytes = two_frames();
        for cut in [1, 4, 18] {
            let records: Vec<_> = Reader::new(&bytes[..bytes.len() - cut])
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(records.len(), 1, "{cut}");
        }
    }

    #[test]
    fn other_files_and_lying_lengths_are_refused() {
        assert!(Reader::new(&[0; 24][..]).is_err());
        assert!(Reader::new(&[0; 3][..]).is_err());
        let mut bytes = two_frames();
        bytes[20] = 101;
        assert!(Reader::new(&bytes[..]).is_err());
        let mut bytes = two_frames();
        bytes[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Reader::new(&bytes[..]).unwrap().next_record().is_err());
    }
}
