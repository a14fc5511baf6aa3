//! Bytes to values and back: only what `smoltcp::wire` lacks or is too slow at.
//!
//! ```text
//! frame → packet (parsed once) → … → rewrite (in place) → frame
//!                                  → segment (made new)  → frame
//! ```

pub mod checksum;
pub mod datagram;
pub mod options;
pub mod packet;
pub mod rewrite;
pub mod segment;
pub mod seq;

pub mod http;
pub mod peer;
