//! What stands around the processor.

pub mod flash;
pub mod i8254;
pub mod i8259;
pub mod uart;
