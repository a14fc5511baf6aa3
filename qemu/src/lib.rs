//! The lab: everything that surrounds the router, on the host.
//!
//! One program, `lab`, sets a machine up, builds the image, boots the routers, gives them lines and neighbours, and
//! measures. The modules in the order in which a new machine meets them:

/// What a machine must have, and how to get it.
pub mod doctor;

/// Builds the image.
pub mod image;

/// Sections, largest symbols, RAM against the budget.
pub mod size;

/// Which instructions the image has, and whether the CPU has them.
pub mod isa;

/// Keeps every bound of the firmware in its budget.
#[cfg(test)]
mod bounds;

/// All checks that CI runs.
pub mod check;

/// Fuzz targets under libFuzzer.
pub mod fuzz;

/// Reads and writes captures.
pub mod pcap;

/// One direction of an emulated line: rate, delay, loss and the rest.
pub mod line;

/// The neighbourhood in virtual time.
pub mod sim;

/// Starts QEMU and joins its NICs and serial lines to the lab.
pub mod machine;

/// The running lab: hosts, lines, consoles, captures, and the commands on them.
pub mod lab;

/// The image among real programs.
pub mod e2e;

/// Figures: what the router costs, and what the neighbour is worth.
pub mod bench;

/// Which test shows which row of the fault matrix.
mod faults;
