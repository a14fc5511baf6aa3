//! TCP options: read one by one or summed up, and written into a small buffer.
//!
//! Follows: RFC 9293 section 3.2 (format, MSS), RFC 7323 (window scale, timestamps),
//! RFC 2018 (SACK), RFC 2385 (MD5), RFC 5925 (AO), RFC 7413 (Fast Open), RFC 8684 (MPTCP),
//! RFC 6994 (experiments).
//! Units: bytes; offsets count from the first option byte.

/// Most bytes of options that a TCP header can hold.
pub const OPTIONS_BYTES_MAX: usize = 40;
/// Most SACK blocks that fit a header.
pub const SACK_BLOCKS_MAX: usize = 4;
/// Largest shift count that is used (RFC 7323 section 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;

/// Option kinds (IANA, TCP parameters).
pub mod kind {
    /// End of option list.
    pub const END: u8 = 0;
    /// No-operation.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW_SCALE: u8 = 3;
    /// SACK permitted.
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK blocks.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature.
    pub const MD5: u8 = 19;
    /// Authentication option.
    pub const AUTHENTICATION: u8 = 29;
    /// Multipath TCP.
    pub const MPTCP: u8 = 30;
    /// Fast Open cookie.
    pub const FAST_OPEN: u8 = 34;
    /// Experiment 1; was used for multipath and others.
    pub const EXPERIMENT_1: u8 = 253;
    /// Experiment 2; was used for Fast Open.
    pub const EXPERIMENT_2: u8 = 254;
}

/// A run of bytes that the receiver holds: from `left` up to but not including `right`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub left: u32,
    /// Sequence number behind the block.
    pub right: u32,
}

/// One option as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawOption<'o> {
    /// Kind octet.
    pub kind: u8,
    /// Offset of the kind octet.
    pub at: usize,
    /// Bytes behind kind and length.
    pub value: &'o [u8],
}

/// Walks over options, without padding; ends at the first that is malformed.
#[derive(Clone, Debug)]
pub struct Options<'o> {
    bytes: &'o [u8],
    at: usize,
    malformed: bool,
}

/// Walks over the option bytes of a header.
pub const fn iter(bytes: &[u8]) -> Options<'_> {
    Options {
        bytes,
        at: 0,
        malformed: false,
    }
}

impl Options<'_> {
    /// The walk ended at a length that lies.
    pub const fn is_malformed(&self) -> bool {
        self.malformed
    }
}

impl<'o> Iterator for Options<'o> {
    type Item = RawOption<'o>;

    fn next(&mut self) -> Option<RawOption<'o>> {
        // Each turn takes at least one of at most 40 bytes.
        while let Some(&kind) = self.bytes.get(self.at) {
            let at = self.at;
            match kind {
                kind::END => {
                    self.at = self.bytes.len();
                }
                kind::NOP => self.at += 1,
                _ => {
                    let len = self.bytes.get(at + 1).map_or(0, |&len| usize::from(len));
                    let value = if len < 2 {
                        None
                    } else {
                        self.bytes.get(at + 2..at + len)
                    };
                    return match value {
                        Some(value) => {
                            self.at += len;
                            Some(RawOption { kind, at, value })
                        }
                        None => {
                            self.malformed = true;
                            self.at = self.bytes.len();
                            None
                        }
                    };
                }
            }
        }
        None
    }
}

/// All that the router wants to know of a header's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Maximum segment size, bytes.
    pub mss: Option<u16>,
    /// Shift count, at most [`WINDOW_SCALE_MAX`].
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// SACK blocks; the first `sack_count` are meant.
    pub sack: [SackBlock; SACK_BLOCKS_MAX],
    /// Number of SACK blocks, at most [`SACK_BLOCKS_MAX`].
    pub sack_count: u8,
    /// Timestamp value and echo reply.
    pub timestamps: Option<(u32, u32)>,
    /// An option is there with which a forged segment could not go on: MPTCP, Fast Open, MD5,
    /// AO, an experiment.
    pub binding: bool,
    /// An option is there that the router does not know.
    pub unknown: bool,
    /// A length lies.
    pub malformed: bool,
}

impl Summary {
    /// Sums up the option bytes of a header.
    pub fn of(bytes: &[u8]) -> Self {
        let mut summary = Self::default();
        let mut options = iter(bytes);
        for option in options.by_ref() {
            summary.take(option);
        }
        summary.malformed |= options.is_malformed();
        summary
    }

    /// The SACK blocks that were there.
    pub fn sack_blocks(&self) -> &[SackBlock] {
        self.sack
            .get(..usize::from(self.sack_count))
            .unwrap_or(&self.sack)
    }

    fn take(&mut self, option: RawOption<'_>) {
        match (option.kind, option.value) {
            (kind::MSS, &[high, low]) => self.mss = Some(u16::from_be_bytes([high, low])),
            // "If a Window Scale option is received with a shift.cnt value larger than 14, the
            // TCP SHOULD log the error but MUST use 14" (RFC 7323 section 2.3).
            (kind::WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift.min(WINDOW_SCALE_MAX)),
            (kind::SACK_PERMITTED, []) => self.sack_permitted = true,
            (kind::SACK, value) => {
                let (blocks, rest) = value.as_chunks::<8>();
                self.malformed |= !rest.is_empty() || blocks.is_empty();
                for (slot, block) in self.sack.iter_mut().zip(blocks) {
                    let [l0, l1, l2, l3, r0, r1, r2, r3] = *block;
                    *slot = SackBlock {
                        left: u32::from_be_bytes([l0, l1, l2, l3]),
                        right: u32::from_be_bytes([r0, r1, r2, r3]),
                    };
                }
                self.sack_count = blocks.len().min(SACK_BLOCKS_MAX) as u8;
            }
            (kind::TIMESTAMPS, &[v0, v1, v2, v3, e0, e1, e2, e3]) => {
                self.timestamps = Some((
                    u32::from_be_bytes([v0, v1, v2, v3]),
                    u32::from_be_bytes([e0, e1, e2, e3]),
                ));
            }
            (
                kind::MD5
                | kind::AUTHENTICATION
                | kind::MPTCP
                | kind::FAST_OPEN
                | kind::EXPERIMENT_1
                | kind::EXPERIMENT_2,
                _,
            ) => self.binding = true,
            (kind::MSS | kind::WINDOW_SCALE | kind::SACK_PERMITTED | kind::TIMESTAMPS, _) => {
                self.malformed = true
            }
            _ => self.unknown = true,
        }
    }
}

/// Options being written; what does not fit is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionsBuf {
    bytes: Bytes,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Bytes([u8; OPTIONS_BYTES_MAX]);

impl Default for Bytes {
    fn default() -> Self {
        Self([kind::NOP; OPTIONS_BYTES_MAX])
    }
}

impl OptionsBuf {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a maximum segment size, bytes.
    #[must_use]
    pub fn mss(self, mss: u16) -> Self {
        let [high, low] = mss.to_be_bytes();
        self.put(&[kind::MSS, 4, high, low])
    }

    /// Adds a window scale, padded in front.
    #[must_use]
    pub fn window_scale(self, shift: u8) -> Self {
        self.put(&[kind::NOP, kind::WINDOW_SCALE, 3, shift])
    }

    /// Adds SACK permitted, padded in front.
    #[must_use]
    pub fn sack_permitted(self) -> Self {
        self.put(&[kind::NOP, kind::NOP, kind::SACK_PERMITTED, 2])
    }

    /// Adds as many SACK blocks as fit, most important first, padded in front.
    #[must_use]
    pub fn sack(self, blocks: &[SackBlock]) -> Self {
        let room = (OPTIONS_BYTES_MAX - self.len).saturating_sub(4) / 8;
        let blocks = &blocks[..blocks.len().min(room).min(SACK_BLOCKS_MAX)];
        if blocks.is_empty() {
            return self;
        }
        let mut buf = self.put(&[kind::NOP, kind::NOP, kind::SACK, 2 + 8 * blocks.len() as u8]);
        for block in blocks {
            buf = buf
                .put(&block.left.to_be_bytes())
                .put(&block.right.to_be_bytes());
        }
        buf
    }

    /// The options, a multiple of four bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.0.get(..self.len).unwrap_or(&[])
    }

    fn put(mut self, option: &[u8]) -> Self {
        if let Some(room) = self.bytes.0.get_mut(self.len..self.len + option.len()) {
            room.copy_from_slice(option);
            self.len += option.len();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_options_of_a_linux_syn_are_read() {
        let syn = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        let summary = Summary::of(&syn);
        assert_eq!(summary.mss, Some(1460));
        assert_eq!(summary.window_scale, Some(7));
        assert!(
            summary.sack_permitted && !summary.binding && !summary.unknown && !summary.malformed
        );
        assert_eq!(summary.timestamps, Some((7, 0)));
    }

    #[test]
    fn options_that_bind_are_told_apart_from_unknown_ones() {
        for kind in [19, 29, 30, 34, 253, 254] {
            assert!(Summary::of(&[kind, 4, 0, 0]).binding, "kind {kind}");
        }
        let strange = Summary::of(&[77, 4, 0, 0]);
        assert!(strange.unknown && !strange.binding);
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        for bytes in [
            &[2u8, 4, 5][..],
            &[8, 0],
            &[8, 1, 1, 1],
            &[8],
            &[5, 3, 0],
            &[2, 3, 0],
        ] {
            assert!(Summary::of(bytes).malformed, "{bytes:?}");
        }
        assert!(
            !Summary::of(&[0, 2, 77, 255]).malformed,
            "what follows the end is not read"
        );
    }

    #[test]
    fn a_shift_above_14_counts_as_14() {
        assert_eq!(Summary::of(&[3, 3, 255]).window_scale, Some(14));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let blocks = [1, 2, 3, 4, 5].map(|n| SackBlock {
            left: n * 1000,
            right: n * 1000 + 500,
        });
        let buf = OptionsBuf::new().sack(&blocks);
        assert_eq!(buf.as_bytes().len(), 36);
        assert_eq!(Summary::of(buf.as_bytes()).sack_blocks(), &blocks[..4]);

        let buf = OptionsBuf::new().mss(1400).window_scale(3).sack_permitted();
        let summary = Summary::of(buf.as_bytes());
        assert_eq!(
            (summary.mss, summary.window_scale, summary.sack_permitted),
            (Some(1400), Some(3), true)
        );
        assert_eq!(buf.as_bytes().len() % 4, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..=40)) {
            let summary = Summary::of(&bytes);
            prop_assert!(usize::from(summary.sack_count) <= SACK_BLOCKS_MAX);
            prop_assert!(iter(&bytes).count() <= 20);
        }
    }
}
