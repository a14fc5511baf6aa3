//! Reads and writes captures.
