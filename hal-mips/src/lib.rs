//! All that touches the machine.
#![cfg_attr(target_arch = "mips", no_std)]
