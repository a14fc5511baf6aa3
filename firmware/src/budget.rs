//! Every count and byte bound of the router, with its reason, asserted against the board's RAM.

use crate::stitch::Block;

/// RAM of the smallest supported board, bytes (WRT54G v1-v4: 16 MiB).
pub const BOARD_RAM: usize = 16 * 1024 * 1024;
/// The largest frame of any port: Ethernet header and 1500 bytes of IP, bytes.
pub const FRAME_BYTES_MAX: usize = 1514;

/// Bytes of one block of held stream bytes: a whole number of segments is not needed, a power of two is.
pub const STITCH_BLOCK_BYTES: usize = 4096;
/// Blocks that all streams share: 4 MiB, a quarter of the smallest board's RAM.
pub const STITCH_BLOCKS: usize = 1024;
/// Blocks from a stream's released position that bytes may lie in: 2 MiB; a power of two.
pub const STITCH_SPAN_BLOCKS: usize = 512;
/// Disjoint intervals of one stream: two ranges in flight on each of several links, and gaps of each.
pub const STITCH_INTERVALS: usize = 24;
/// Runs of one sender's scoreboard: some 30 holes in a window; more are found a round trip later.
pub const STITCH_RUNS: usize = 64;

/// All large tables of a router; placed by the board, borrowed by [`Router`](crate::router::Router).
pub struct Memory {
    /// Bytes held for clients and peers.
    pub blocks: [Block; STITCH_BLOCKS],
}

impl Memory {
    /// All empty; usable as a static's initial value.
    pub const fn new() -> Self {
        Self {
            blocks: [const { Block::EMPTY }; STITCH_BLOCKS],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(core::mem::size_of::<Memory>() < BOARD_RAM * 3 / 4);
