//! The Tandem router as pure logic: frames and time in, frames out.
//!
//! ```text
//! frame in → router → conntrack → classify → split → fetch (per link) → stitch → router → frame out
//!              ├→ neighbor                                               ARP, on the way in and out
//!              ├→ dhcp, dns, ping, upgrade                               served by the router itself
//!              ├→ stack: sockets of its own, for fetch and links
//! serial line ─┴→ console ─→ settings, events              store ⇄ flash: settings, leases, seed
//! ```
//!
//! | modules | are |
//! | --- | --- |
//! | [`port`], [`router`], [`wire`], [`neighbor`] | frames: in, judged, rewritten, out |
//! | [`conntrack`] | NAT: who talks to whom, and what it stands for on the WAN |
//! | [`classify`], [`exchange`], [`split`], [`fetch`], [`links`], [`stitch`] | a download over several lines |
//! | [`stack`], [`udp`] | the router as a host: TCP by smoltcp, datagrams by hand |
//! | [`dhcp`], [`dns`], [`ping`], [`upgrade`] | its services |
//! | [`console`], [`events`], [`settings`], [`button`] | its owner |
//! | [`store`] | what outlives a reset |
//! | [`budget`], [`counters`], [`random`] | used by all |
//!
//! Nothing here knows a clock, a register or a random source: time is an argument
//! ([`smoltcp::time::Instant`], µs), random numbers come from a generator ([`random`]) that the board starts.
#![cfg_attr(not(any(test, feature = "check")), no_std)]
#![cfg_attr(not(test), forbid(unsafe_code))]
#![cfg_attr(test, deny(unsafe_code))]

pub mod port;
pub mod router;

pub mod wire;

pub mod neighbor;

pub mod conntrack;

pub mod classify;

pub mod exchange;

pub mod split;

pub mod fetch;

pub mod links;

pub mod stitch;

pub mod stack;
pub mod udp;

pub mod dhcp;

pub mod dns;

pub mod console;
pub mod events;
pub mod ping;
pub mod settings;
pub mod store;

pub mod upgrade;

pub mod button;

pub mod budget;
pub mod counters;
pub mod crc;
pub mod random;

#[cfg(test)]
#[allow(unsafe_code)] // the attribute writes an `unsafe impl`; the rest of the library forbids it
mod host_log {
    //! Host tests have no second UART: log frames are encoded and thrown away.
    #[defmt::global_logger]
    struct Discard;

    // SAFETY: nothing is written anywhere, so there is no state that could be shared wrongly.
    unsafe impl defmt::Logger for Discard {
        fn acquire() {}
        unsafe fn flush() {}
        unsafe fn release() {}
        unsafe fn write(_bytes: &[u8]) {}
    }

    defmt::timestamp!("{=u8}", 0);
}
