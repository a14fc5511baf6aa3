//! What stands around the processor.

pub mod backplane;
pub mod chipcommon;
pub mod clock;
pub mod flash;
pub mod i8254;
pub mod i8259;
pub mod malta_panel;
pub mod nvram;
pub mod sprom;
pub mod uart;
