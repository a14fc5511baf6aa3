//! The `Range` field of a client's request.
//!
//! Follows: RFC 9110 sections 14.1.1 and 14.1.2 (`ranges-specifier` with exactly one `int-range` or `suffix-range` of
//! unit `bytes`). Stricter: the unit in lower case only, no blank, no empty list element, numbers below 2^63.
//! Units: bytes.

use super::{ByteRange, parse_length};

/// One interval as a client asks for it, before the object's length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum AskedRange {
    /// `first-last`: what the object has of it.
    Between(ByteRange),
    /// `first-`: from this offset to the object's end.
    From(u64),
    /// `-length`: the last bytes of the object, so many, at least 1; all where it has fewer.
    Last(u64),
}

impl AskedRange {
    /// Reads a `Range` field's value; `None` for several intervals, another unit, an empty interval and every form
    /// that two readers could take differently.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.strip_prefix(b"bytes=")?;
        let dash = value.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&value[..dash], &value[dash + 1..]);
        if first.is_empty() {
            return parse_length(last)
                .filter(|&length| length > 0)
                .map(Self::Last);
        }
        let first = parse_length(first)?;
        if last.is_empty() {
            return Some(Self::From(first));
        }
        ByteRange::new(first, parse_length(last)?).map(Self::Between)
    }

    /// The interval that this is of an object of `total` bytes; `None` when the object has no byte of it.
    pub fn of(self, total: u64) -> Option<ByteRange> {
        let end = total.checked_sub(1)?;
        match self {
            Self::Between(range) => ByteRange::new(range.first, range.last.min(end)),
            Self::From(first) => ByteRange::new(first, end),
            Self::Last(length) => ByteRange::new(total.saturating_sub(length), end),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn between(first: u64, last: u64) -> AskedRange {
        AskedRange::Between(ByteRange::new(first, last).unwrap())
    }

    #[test]
    fn q1_the_three_forms_of_one_interval_are_read() {
        for (value, asked) in [
            ("bytes=0-0", between(0, 0)),
            ("bytes=100-40000", between(100, 40_000)),
            ("bytes=0100-0200", between(100, 200)),
            ("bytes=0-", AskedRange::From(0)),
            ("bytes=4294967296-", AskedRange::From(1 << 32)),
            ("bytes=-1", AskedRange::Last(1)),
            ("bytes=-500000", AskedRange::Last(500_000)),
            (
                "bytes=0-9223372036854775807",
                between(0, i64::MAX.unsigned_abs()),
            ),
        ] {
            assert_eq!(AskedRange::parse(value.as_bytes()), Some(asked), "{value}");
        }
    }

    #[test]
    fn q2_several_intervals_other_units_and_bent_forms_are_none() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=--1",
            "bytes=-0",
            "bytes=5",
            "bytes=9-5",
            "bytes=0-1,5-6",
            "bytes=0-,-5",
            "bytes=0-1,",
            "bytes=,0-1",
            "bytes= 0-1",
            "bytes =0-1",
            "bytes=0 -1",
            "bytes=0- 1",
            "bytes=0-1 ",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=0x1-2",
            "bytes=1-2-3",
            "bytes=-1-",
            "bytes=1.5-2",
            "bytes=0-*",
            "bytes=*",
            "bytes:0-1",
            "Bytes=0-1",
            "BYTES=0-1",
            "items=0-1",
            "byte=0-1",
            "bytess=0-1",
            "0-1",
            "bytes=0-9223372036854775808",
            "bytes=9223372036854775808-",
            "bytes=-18446744073709551616",
        ] {
            assert_eq!(AskedRange::parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn q1_an_interval_is_clipped_to_the_object() {
        for (asked, total, range) in [
            (between(10, 19), 100, Some((10, 19))),
            (between(10, 99), 100, Some((10, 99))),
            (between(10, 100), 100, Some((10, 99))),
            (between(99, 1000), 100, Some((99, 99))),
            (between(100, 1000), 100, None),
            (AskedRange::From(0), 100, Some((0, 99))),
            (AskedRange::From(99), 100, Some((99, 99))),
            (AskedRange::From(100), 100, None),
            (AskedRange::Last(1), 100, Some((99, 99))),
            (AskedRange::Last(100), 100, Some((0, 99))),
            (AskedRange::Last(101), 100, Some((0, 99))),
            (between(0, 0), 0, None),
            (AskedRange::From(0), 0, None),
            (AskedRange::Last(1), 0, None),
        ] {
            let found = asked.of(total).map(|range| (range.first, range.last));
            assert_eq!(found, range, "{asked:?} of {total}");
        }
    }

    proptest! {
        /// The interval is exactly the bytes that a filter over all offsets of the object leaves.
        #[test]
        fn q1_the_interval_is_what_a_filter_over_all_offsets_leaves(
            total in 0u64..300,
            a in 0u64..400,
            b in 0u64..400,
            form in 0u8..3,
        ) {
            let (value, wanted): (_, std::vec::Vec<u64>) = match form {
                0 if a > b => (std::format!("bytes={a}-{b}"), std::vec![]),
                0 => (
                    std::format!("bytes={a}-{b}"),
                    (0..total).filter(|at| (a..=b).contains(at)).collect(),
                ),
                1 => (std::format!("bytes={a}-"), (0..total).filter(|&at| at >= a).collect()),
                _ => (std::format!("bytes=-{a}"), (0..total).filter(|at| at + a >= total).collect()),
            };
            let range = AskedRange::parse(value.as_bytes()).and_then(|asked| asked.of(total));
            let found = range.map(|range| (range.first, range.last));
            prop_assert_eq!(found, wanted.first().copied().zip(wanted.last().copied()));
            prop_assert_eq!(range.map_or(0, ByteRange::len_bytes), wanted.len() as u64);
        }

        #[test]
        fn g18_random_ranges_never_panic(value in prop::collection::vec(any::<u8>(), 0..40), total: u64) {
            let _may_be_none = AskedRange::parse(&value).and_then(|asked| asked.of(total));
            let near = [b"bytes=", value.as_slice()].concat();
            if let Some(range) = AskedRange::parse(&near).and_then(|asked| asked.of(total)) {
                prop_assert!(range.first <= range.last && range.last < total);
            }
        }
    }
}
