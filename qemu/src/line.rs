//! One direction of an emulated line.
