//! The processor: MIPS32 release 1, little endian, no FPU.
//!
//! What is arithmetic or plain data compiles, and is tested, on the host too.

pub mod cache;
pub mod cell;
pub mod keep;
pub mod time;
pub mod watchdog;

#[cfg(target_arch = "mips")]
pub mod boot;
#[cfg(target_arch = "mips")]
pub mod cp0;
#[cfg(target_arch = "mips")]
pub mod exception;
#[cfg(target_arch = "mips")]
mod mem;
#[cfg(target_arch = "mips")]
pub mod stack;
#[cfg(target_arch = "mips")]
mod start;

/// Names the board's `main`, a `fn() -> !`, as what runs after the start code.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn hal_main() -> ! {
            let main: fn() -> ! = $main;
            main()
        }
    };
}
