//! All that touches the machine: the MIPS32 release 1 processor, the Malta board's buses, drivers.
//!
//! Nothing here knows a protocol above the frame. `unsafe` stands only in `mmio`, `dma` and `arch`, and where a
//! dependency's trait is itself unsafe (`log`, `pci`, `virtio`).
//!
//! # Building the image
//! The target's flags are in `.cargo/config.toml`; the command, with Debian's `rustc-web`, `cargo-web`,
//! `rust-web-src` and `lld`, is
//! ```text
//! RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo build --profile image -Z build-std=core \
//!     --target mipsel-unknown-none -p firmware --bin malta --features malta --target-dir target/image
//! ```
//! and the image is `target/image/mipsel-unknown-none/image/malta`. Elsewhere a nightly with `rust-src` does:
//! `cargo +nightly build -Z build-std=core …`, the rest alike.
#![cfg_attr(target_arch = "mips", no_std)]
#![cfg_attr(target_arch = "mips", feature(asm_experimental_arch))]

pub mod mmio;

pub mod arch;

pub mod dma;
pub mod frame_io;

pub mod soc;

pub mod console;
pub mod log;

pub mod panel;
pub mod watchdog;

pub mod eth;
pub mod pci;
pub mod switch;
pub mod virtio;
