//! The running lab: hosts, lines, consoles, captures, and the commands on them.

pub mod commands;
