//! Every count and byte bound of the router, with its reason, asserted against the board's RAM.

/// RAM of the smallest supported board, bytes (WRT54G v1-v4: 16 MiB).
pub const BOARD_RAM: usize = 16 * 1024 * 1024;
/// The largest frame of any port: Ethernet header and 1500 bytes of IP, bytes.
pub const FRAME_BYTES_MAX: usize = 1514;

/// All large tables of a router; placed by the board, borrowed by [`Router`](crate::router::Router).
#[derive(Default)]
pub struct Memory {}

impl Memory {
    /// All empty; usable as a static's initial value.
    pub const fn new() -> Self {
        Self {}
    }
}

const _: () = assert!(core::mem::size_of::<Memory>() < BOARD_RAM * 3 / 4);
