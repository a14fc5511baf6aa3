//! DHCP: the router as a client of its line.
//!
//! Follows: RFC 2131, RFC 2132.

pub mod client;
