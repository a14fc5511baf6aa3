//! DHCP: the router as a client of its line and as the server of its LAN.
//!
//! Follows: RFC 2131, RFC 2132.

pub mod client;
pub mod server;
