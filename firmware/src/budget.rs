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

/// The longest request head that is read; longer ones are plain (the client's head is held whole), bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8192;
/// Field lines of a request head; browsers send about 12, a head with more is plain.
pub const REQUEST_FIELDS_MAX: usize = 32;
/// The longest reply head that is read; longer ones are refused, bytes.
pub const REPLY_HEAD_BYTES_MAX: usize = 4096;
/// Field lines of a reply head (an origin may well add 60 that nobody knows).
pub const REPLY_FIELDS_MAX: usize = 96;
/// The longest ETag or Last-Modified that may join ranges, bytes; the servers known use below 64.
pub const VALIDATOR_BYTES_MAX: usize = 128;
/// The longest media type with parameters that is compared; the longest registered one in use has 73, bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 96;
/// Neighbours a router is paired with.
pub const PEERS_MAX: usize = 4;
/// Origin ports that may be accelerated.
pub const ACCEL_PORTS_MAX: usize = 4;
/// The largest postcard body of a peer message: a whole request head's values and the validator, bytes.
pub const PEER_MESSAGE_BYTES_MAX: usize = REQUEST_HEAD_BYTES_MAX + 512;
/// Raw bytes that one peer `Data` message announces, at most.
pub const PEER_DATA_BYTES_MAX: u16 = 16 * 1024;
/// A console line; longer ones are refused whole, bytes.
pub const CONSOLE_LINE_BYTES_MAX: usize = 256;

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
