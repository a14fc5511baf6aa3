//! What stands around the processor.

pub mod chipcommon;
pub mod flash;
pub mod i8254;
pub mod i8259;
pub mod malta_panel;
pub mod uart;
