//! A received image in RAM, until it is written: header first, payload in blocks lent by the stitch pool.
//!
//! The header is judged as soon as it is there, so that a foreign image is refused by its first block; then all blocks
//! are borrowed at once, so that a transfer that begins can end. Only blocks that no exchange was guaranteed are taken.
//!
//! Calling order: [`Staging::push`] for the bytes in order, [`Staging::finish`], [`Staging::read`], and at every end
//! [`Staging::release`].
//!
//! Units: bytes; offsets count from the payload's start.

use heapless::Vec;

use super::Refusal;
use super::image::{Fault, HEADER_BYTES, Header, Wanted};
use crate::budget::{STITCH_BLOCK_BYTES, UPGRADE_BLOCKS_MAX};
use crate::crc::Crc32;
use crate::stitch::{Loan, Pool};

/// Bytes behind the image that a transfer in whole blocks may bring: less than one block.
const PADDING_BYTES_MAX: u32 = 1023;

/// What came of an image so far.
#[derive(Debug)]
pub struct Staging {
    wanted: Wanted,
    /// Whether the transfer pads its last block.
    padded: bool,
    head: [u8; HEADER_BYTES],
    header: Option<Header>,
    blocks: Vec<Loan, UPGRADE_BLOCKS_MAX>,
    /// Bytes taken, header and padding included.
    received: u32,
    crc: Crc32,
}

impl Staging {
    /// Nothing yet; `padded` when the transfer fills its last block up.
    pub const fn new(wanted: Wanted, padded: bool) -> Self {
        Self {
            wanted,
            padded,
            head: [0; HEADER_BYTES],
            header: None,
            blocks: Vec::new(),
            received: 0,
            crc: Crc32::new(),
        }
    }

    /// Bytes taken so far.
    pub const fn received(&self) -> u32 {
        self.received
    }

    /// What the image says of itself, once that is here.
    pub const fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Judges a length told before the first byte.
    ///
    /// # Errors
    /// More than a slot holds.
    pub const fn announce(&self, bytes: u64) -> Result<(), Refusal> {
        let most = self.wanted.payload_bytes_max + HEADER_BYTES as u32;
        if bytes > most as u64 {
            let found = if bytes > u32::MAX as u64 {
                u32::MAX
            } else {
                bytes as u32
            };
            return Err(Refusal::Image(Fault::TooLong { most, found }));
        }
        Ok(())
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// What is wrong with the image, or too little memory; the transfer is over.
    pub fn push(&mut self, pool: &mut Pool<'_>, bytes: &[u8]) -> Result<(), Refusal> {
        let mut rest = bytes;
        if self.header.is_none() {
            let have = self.received as usize;
            let (now, later) = rest.split_at(rest.len().min(HEADER_BYTES - have));
            self.head[have..have + now.len()].copy_from_slice(now);
            self.received += now.len() as u32;
            rest = later;
            if self.received as usize == HEADER_BYTES {
                self.on_header(pool)?;
            }
        }
        let Some(header) = self.header else {
            return Ok(());
        };
        let at = self.received - HEADER_BYTES as u32;
        let (payload, extra) =
            rest.split_at(rest.len().min(header.length.saturating_sub(at) as usize));
        self.store(pool, at as usize, payload);
        self.crc.update(payload);
        self.received = self
            .received
            .saturating_add((payload.len() + extra.len()) as u32);
        let whole = header.length + HEADER_BYTES as u32;
        let padding = if self.padded { PADDING_BYTES_MAX } else { 0 };
        if self.received > whole + padding {
            return Err(Refusal::Image(Fault::TooLong {
                most: whole,
                found: self.received,
            }));
        }
        Ok(())
    }

    /// The header is complete: is it wanted, and is there room?
    fn on_header(&mut self, pool: &mut Pool<'_>) -> Result<(), Refusal> {
        let header = Header::parse(&self.head).map_err(Refusal::Image)?;
        header.check(&self.wanted).map_err(Refusal::Image)?;
        let needed = (header.length as usize).div_ceil(STITCH_BLOCK_BYTES);
        let free = pool.blocks_unpromised();
        let short = Refusal::Memory {
            needed: needed as u16,
            free: free as u16,
        };
        if needed > free {
            return Err(short);
        }
        for _ in 0..needed {
            let loan = pool.borrow_block().ok_or(short)?;
            if let Err(loan) = self.blocks.push(loan) {
                // A slot larger than the budget says.
                pool.give_back(loan);
                return Err(short);
            }
        }
        self.header = Some(header);
        Ok(())
    }

    fn store(&mut self, pool: &mut Pool<'_>, mut at: usize, mut bytes: &[u8]) {
        while let Some(loan) = self
            .blocks
            .get(at / STITCH_BLOCK_BYTES)
            .filter(|_| !bytes.is_empty())
        {
            let inside = at % STITCH_BLOCK_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(STITCH_BLOCK_BYTES - inside));
            pool.lent_mut(loan)[inside..inside + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = later;
        }
    }

    /// Whether every byte of the image is here.
    pub fn is_complete(&self) -> bool {
        self.header
            .is_some_and(|header| self.received >= header.length + HEADER_BYTES as u32)
    }

    /// Judges the whole, once the sender says that it was that.
    ///
    /// # Errors
    /// Too short, or a wrong checksum.
    pub fn finish(&self) -> Result<Header, Refusal> {
        let Some(header) = self.header.filter(|_| self.is_complete()) else {
            let payload = self.header.map_or(1, |header| header.length);
            return Err(Refusal::Image(Fault::TooShort {
                expected: payload + HEADER_BYTES as u32,
                found: self.received,
            }));
        };
        if self.crc.value() != header.payload_crc {
            return Err(Refusal::Image(Fault::PayloadChecksum));
        }
        Ok(header)
    }

    /// Copies payload from `at` to `out`; what lies behind its end becomes 0xFF, as erased flash is.
    pub fn read(&self, pool: &Pool<'_>, at: u32, out: &mut [u8]) {
        let length = self.header.map_or(0, |header| header.length as usize);
        for (offset, byte) in (at as usize..).zip(out.iter_mut()) {
            let loan = self.blocks.get(offset / STITCH_BLOCK_BYTES);
            *byte = match loan.filter(|_| offset < length) {
                Some(loan) => pool.lent(loan)[offset % STITCH_BLOCK_BYTES],
                None => 0xff,
            };
        }
    }

    /// Gives all memory back.
    pub fn release(&mut self, pool: &mut Pool<'_>) {
        while let Some(loan) = self.blocks.pop() {
            pool.give_back(loan);
        }
        self.header = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::tests::{WANTED, image};
    use super::*;
    use crate::stitch::{Block, Extents};
    use proptest::prelude::*;

    fn memory(blocks: usize) -> Vec2 {
        (0..blocks).map(|_| Block::EMPTY).collect()
    }

    type Vec2 = std::vec::Vec<Block>;

    proptest! {
        #[test]
        fn an_image_in_any_pieces_reads_back_and_gives_its_memory_back(
            length in 1usize..20_000, pieces in proptest::collection::vec(1usize..1500, 1..60)
        ) {
            let mut memory = memory(8);
            let mut pool = Pool::new(&mut memory);
            let bytes = image(length);
            let mut staging = Staging::new(WANTED, false);
            let (mut rest, mut sizes) = (&bytes[..], pieces.iter().cycle());
            while !rest.is_empty() {
                prop_assert!(!staging.is_complete());
                let (now, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                staging.push(&mut pool, now).unwrap();
                rest = later;
            }
            prop_assert_eq!(staging.finish().unwrap().length as usize, length);
            let mut out = std::vec![0; length + 3];
            staging.read(&pool, 0, &mut out);
            prop_assert_eq!(&out[..length], &bytes[HEADER_BYTES..]);
            prop_assert_eq!(&out[length..], &[0xff; 3]);
            staging.release(&mut pool);
            prop_assert_eq!(pool.blocks_free(), 8);
        }
    }

    #[test]
    fn a_foreign_image_is_refused_by_its_header_before_any_memory_is_taken() {
        let mut memory = memory(8);
        let mut pool = Pool::new(&mut memory);
        let mut bytes = image(5000);
        bytes[0] ^= 1;
        let mut staging = Staging::new(WANTED, false);
        assert_eq!(
            staging.push(&mut pool, &bytes[..128]),
            Err(Refusal::Image(Fault::NotAnImage))
        );
        assert_eq!(pool.blocks_free(), 8);
    }

    #[test]
    fn what_exchanges_were_guaranteed_is_not_taken() {
        let mut memory = memory(8);
        let mut pool = Pool::new(&mut memory);
        let mut stream = Extents::new();
        stream.guarantee(&mut pool, 4).unwrap();
        let mut staging = Staging::new(WANTED, false);
        assert_eq!(
            staging.push(&mut pool, &image(5 * STITCH_BLOCK_BYTES)),
            Err(Refusal::Memory { needed: 5, free: 4 })
        );
        staging.release(&mut pool);
        assert_eq!(pool.blocks_unpromised(), 4);
        let mut staging = Staging::new(WANTED, false);
        staging
            .push(&mut pool, &image(4 * STITCH_BLOCK_BYTES))
            .unwrap();
        assert_eq!(pool.blocks_unpromised(), 0);
        // The guarantee holds.
        for at in 0..4u64 {
            stream
                .write(
                    &mut pool,
                    at * STITCH_BLOCK_BYTES as u64,
                    &[1; STITCH_BLOCK_BYTES],
                )
                .unwrap();
        }
        staging.release(&mut pool);
    }

    #[test]
    fn padding_is_taken_from_a_transfer_in_blocks_only_and_only_so_much() {
        let mut memory = memory(8);
        let mut pool = Pool::new(&mut memory);
        let padded = |extra: usize| [image(1000), std::vec![0x1a; extra]].concat();
        for (is_padded, extra, taken) in [
            (false, 0, true),
            (false, 1, false),
            (true, 1023, true),
            (true, 1024, false),
        ] {
            let mut staging = Staging::new(WANTED, is_padded);
            assert_eq!(
                staging.push(&mut pool, &padded(extra)).is_ok(),
                taken,
                "{is_padded} {extra}"
            );
            assert_eq!(taken, staging.finish().is_ok() && taken);
            staging.release(&mut pool);
        }
    }

    #[test]
    fn a_flipped_bit_and_a_missing_end_are_found() {
        let mut memory = memory(8);
        let mut pool = Pool::new(&mut memory);
        let mut bytes = image(1000);
        let mut staging = Staging::new(WANTED, false);
        staging.push(&mut pool, &bytes[..1063]).unwrap();
        assert_eq!(
            staging.finish(),
            Err(Refusal::Image(Fault::TooShort {
                expected: 1064,
                found: 1063
            }))
        );
        staging.release(&mut pool);
        bytes[700] ^= 0x40;
        let mut staging = Staging::new(WANTED, false);
        staging.push(&mut pool, &bytes).unwrap();
        assert_eq!(
            staging.finish(),
            Err(Refusal::Image(Fault::PayloadChecksum))
        );
        staging.release(&mut pool);
        assert!(staging.announce(0x1c_0000 - 0x100 + 64).is_ok());
        assert!(staging.announce(0x1c_0000 - 0x100 + 65).is_err());
        assert!(staging.announce(u64::MAX).is_err());
    }
}
