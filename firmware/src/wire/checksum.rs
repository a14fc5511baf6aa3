//! The internet checksum, a word at a time, and its incremental update.
//!
//! Follows: RFC 1071 (sum, byte order independence), RFC 1624 equation 3 (update),
//! RFC 9293 section 3.1 and RFC 768 (pseudo header).
//! Units: bytes. A partial sum is a one's-complement sum of big-endian 16-bit words that is not
//! yet inverted.

use smoltcp::wire::Ipv4Address;
use zerocopy::FromBytes;

/// Folds a one's-complement sum into 16 bits.
#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xFFFF) + (sum >> 16);
    ((sum & 0xFFFF) + (sum >> 16)) as u16
}

/// Partial sum of `bytes`, as if they began at an even position; at most 0xFFFF.
///
/// Words are read in the machine's own order from the first aligned address on; one swap at the
/// end gives network order (RFC 1071 section 2 (B)).
pub fn sum(bytes: &[u8]) -> u32 {
    let lead = bytes.as_ptr().align_offset(4).min(bytes.len());
    let (head, rest) = bytes.split_at(lead);
    let (body, tail) = rest.split_at(rest.len() & !3);
    // Aligned and whole by construction, so the empty slice is never taken.
    let words = <[u32]>::ref_from_bytes(body).unwrap_or(&[]);

    let after = u32::from(sum_words(words)) + sum_few(tail);
    // "The sum of 16-bit integers can be computed in either byte order": what follows an odd
    // number of bytes was summed with the bytes of each word swapped.
    let after = if lead % 2 == 1 {
        u32::from(fold(after).swap_bytes())
    } else {
        after
    };
    u32::from(u16::from_be(fold(after + sum_few(head))))
}

/// Sum of whole words in machine order.
#[inline]
fn sum_words(words: &[u32]) -> u16 {
    let mut acc = 0u32;
    let mut carries = 0u32;
    let mut take = |word: u32| {
        let (next, carry) = acc.overflowing_add(word);
        acc = next;
        carries += u32::from(carry);
    };
    let (blocks, singles) = words.as_chunks::<8>();
    for block in blocks {
        block.iter().copied().for_each(&mut take);
    }
    singles.iter().copied().for_each(&mut take);
    fold((acc & 0xFFFF) + (acc >> 16) + (carries & 0xFFFF) + (carries >> 16))
}

/// Sum of at most three bytes in machine order, padded with a zero byte.
#[inline]
fn sum_few(bytes: &[u8]) -> u32 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut acc = 0;
    for &pair in pairs {
        acc += u32::from(u16::from_ne_bytes(pair));
    }
    if let &[last] = odd {
        acc += u32::from(u16::from_ne_bytes([last, 0]));
    }
    acc
}

/// Adds two partial sums; the part behind `b` began at an even position.
#[inline]
pub const fn combine(a: u32, b: u32) -> u32 {
    fold(a) as u32 + fold(b) as u32
}

/// Adds the partial sum `b` of bytes that began at an odd position.
#[inline]
pub const fn combine_odd(a: u32, b: u32) -> u32 {
    fold(a) as u32 + fold(b).swap_bytes() as u32
}

/// The checksum field for a partial sum over everything else.
#[inline]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// Whether a partial sum that includes the checksum field says "intact".
#[inline]
pub const fn is_valid(sum: u32) -> bool {
    fold(sum) == 0xFFFF
}

/// Partial sum of the pseudo header; `length` is that of transport header and payload, bytes.
#[inline]
pub const fn pseudo_header(src: Ipv4Address, dst: Ipv4Address, protocol: u8, length: u16) -> u32 {
    let (src, dst) = (src.to_bits(), dst.to_bits());
    (src >> 16) + (src & 0xFFFF) + (dst >> 16) + (dst & 0xFFFF) + protocol as u32 + length as u32
}

/// What a set of replaced header words does to a checksum that covers them.
///
/// "HC' = ~(~HC + ~m + m')" (RFC 1624 equation 3). A checksum that was wrong stays wrong by the
/// same amount. The words are taken as bytes: their order in the machine cancels out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    /// Nothing replaced.
    pub const fn new() -> Self {
        Self(0)
    }

    /// One aligned 16-bit word was replaced.
    #[inline]
    #[must_use]
    pub const fn word(self, old: [u8; 2], new: [u8; 2]) -> Self {
        let (old, new) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
        Self(self.0 + !old as u32 + new as u32).folded()
    }

    /// Two aligned 16-bit words in a row (an address, a sequence number) were replaced.
    #[inline]
    #[must_use]
    pub const fn double(self, old: [u8; 4], new: [u8; 4]) -> Self {
        let (old, new) = (!u32::from_ne_bytes(old), u32::from_ne_bytes(new));
        Self(self.0 + (old & 0xFFFF) + (old >> 16) + (new & 0xFFFF) + (new >> 16)).folded()
    }

    /// Both sets of words were replaced.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0).folded()
    }

    /// Keeps the sum far from overflow: below 0x2_0000 after every step.
    #[inline]
    const fn folded(self) -> Self {
        Self((self.0 & 0xFFFF) + (self.0 >> 16))
    }

    /// The new checksum field for the old one.
    #[inline]
    #[must_use]
    pub const fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        (!fold(self.0 + !u16::from_ne_bytes(checksum) as u32)).to_ne_bytes()
    }

    /// As [`apply`](Self::apply) for UDP, where a field of zero means "no checksum" and stays,
    /// and a computed zero "is transmitted as all ones" (RFC 768).
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        match checksum {
            [0, 0] => checksum,
            [_, _] => match self.apply(checksum) {
                [0, 0] => [0xFF, 0xFF],
                [high, low] => [high, low],
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, a byte pair at a time; other modules' tests check against it too.
    pub(crate) fn naive_sum(bytes: &[u8]) -> u16 {
        let mut acc: u64 = 0;
        for pair in bytes.chunks(2) {
            acc += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
        while acc > 0xFFFF {
            acc = (acc & 0xFFFF) + (acc >> 16);
        }
        acc as u16
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2);
        assert_eq!(finish(sum(&bytes)), !0xddf2);
    }

    #[test]
    fn the_longest_packet_of_ones_does_not_overflow() {
        let bytes = [0xFF; 65_535];
        assert_eq!(sum(&bytes), u32::from(naive_sum(&bytes)));
    }

    #[test]
    fn the_example_of_rfc_1624_gives_zero_and_not_minus_zero() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285, HC' = 0x0000.
        let delta = Delta::new().word(0x5555u16.to_be_bytes(), 0x3285u16.to_be_bytes());
        assert_eq!(delta.apply(0xDD2Fu16.to_be_bytes()), [0, 0]);
    }

    #[test]
    fn a_udp_packet_without_checksum_keeps_none_and_a_zero_becomes_ones() {
        let delta = Delta::new().word(0x5555u16.to_be_bytes(), 0x3285u16.to_be_bytes());
        assert_eq!(delta.apply_udp([0, 0]), [0, 0]);
        assert_eq!(delta.apply_udp(0xDD2Fu16.to_be_bytes()), [0xFF, 0xFF]);
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum_at_any_alignment_and_length(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), skip in 0usize..8,
        ) {
            let part = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(sum(part), u32::from(naive_sum(part)));
        }

        #[test]
        fn parts_combine_to_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200,
        ) {
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            let whole = if front.len() % 2 == 0 {
                combine(sum(front), sum(back))
            } else {
                combine_odd(sum(front), sum(back))
            };
            prop_assert_eq!(finish(whole), finish(sum(&bytes)));
        }

        #[test]
        fn an_update_equals_a_new_computation(
            mut bytes in proptest::collection::vec(any::<u8>(), 8..64),
            word: [u8; 2], double: [u8; 4], error: u16,
        ) {
            bytes.truncate(bytes.len() & !1);
            // Never all zero before or after, as with every real header.
            bytes[6] |= 0x40;
            let before = finish(sum(&bytes)) ^ error;
            let was_valid = is_valid(sum(&bytes) + u32::from(before));
            let mut delta = Delta::new().word([bytes[0], bytes[1]], word);
            bytes[0..2].copy_from_slice(&word);
            delta = delta.double([bytes[2], bytes[3], bytes[4], bytes[5]], double);
            bytes[2..6].copy_from_slice(&double);
            let after = u16::from_be_bytes(delta.apply(before.to_be_bytes()));
            if error == 0 {
                prop_assert_eq!(after, finish(sum(&bytes)));
            }
            prop_assert_eq!(is_valid(sum(&bytes) + u32::from(after)), was_valid);
        }
    }
}
