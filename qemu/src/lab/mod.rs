//! The running lab: hosts, lines, consoles, captures, and the commands on them.
//!
//! ```text
//! lab up ──starts──> lab daemon ──┬── QEMU ×2          machine.rs
//! lab exec, link, …  ──control──> ├── lab hold ×3      host.rs (a namespace each)
//!                                 └── lines (thread)   fabric.rs, line.rs
//! ```

/// Arguments and entry points of the commands.
pub mod commands;
/// Console: scrollback, prompt, commands.
pub mod console;
/// Messages between commands and daemon.
pub mod control;
/// The process that owns a running lab.
pub mod daemon;
/// The measured download.
pub mod demo;
/// One watched download.
pub mod download;
/// The lines' forwarding.
pub mod fabric;
/// Namespaces with real programs in them.
pub mod host;
/// The clients' addresses.
pub mod lease;
/// A router's log, decoded.
pub mod log;
/// The real server.
pub mod origin;
/// Who is where.
pub mod plan;
/// The internet lines' DHCP and names.
pub mod provider;
/// Starting and stopping a lab from a command.
pub mod run;
/// Line shapes as text.
pub mod shape;
/// Ctrl-C and termination.
pub mod signals;
/// Where a lab lives.
pub mod state;
/// TAP devices.
pub mod tap;
/// An interactive console.
pub mod terminal;
