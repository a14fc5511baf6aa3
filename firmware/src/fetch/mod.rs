//! (see DESIGN)

pub mod response;
