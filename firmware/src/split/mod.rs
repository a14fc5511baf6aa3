//! (see DESIGN)

pub mod validator;
