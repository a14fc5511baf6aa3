//! Tables on the console, row by row, so that none has to fit a buffer.

use core::fmt::Write;

use heapless::String;

use super::command::{COMMANDS, write_setting};
use super::text::Cut;
use super::{Host, ignore};
use crate::settings::KEYS;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The commands.
    Help,
    /// Connections through the router.
    Flows,
    /// Hosts of the LAN.
    Leases,
    /// Own line and neighbours.
    Links,
    /// Counters.
    Counters,
    /// Events.
    Log,
    /// The last downloads: accelerated, or why not.
    Why,
    /// What neighbours brought, by client and by neighbour.
    Saved,
    /// Settings.
    Settings,
    /// Neighbours of the settings.
    Peers,
}

impl Table {
    /// The first line, for people.
    const fn header(self) -> Option<&'static str> {
        match self {
            Table::Flows => Some(
                "     client                remote                WAN   state       idle verdict",
            ),
            Table::Leases => Some("address         hardware address    left s  state     name"),
            Table::Links => Some("link            kbit/s  state        bytes"),
            Table::Saved => {
                Some("       address         downloads     own KiB  neighbour KiB  s saved")
            }
            Table::Help
            | Table::Counters
            | Table::Log
            | Table::Why
            | Table::Settings
            | Table::Peers => None,
        }
    }
}

/// A table of which a part has been shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    table: Table,
    kv: bool,
    begun: bool,
    /// A row has been shown.
    any: bool,
    /// The next row.
    at: u32,
    /// Names of counters begin so.
    prefix: String<32>,
}

impl Listing {
    /// A whole table.
    pub(super) const fn new(table: Table, kv: bool) -> Self {
        Self {
            table,
            kv,
            begun: false,
            any: false,
            at: 0,
            prefix: String::new(),
        }
    }

    /// The same without the rows before `at`.
    pub(super) fn starting_at(mut self, at: u32) -> Self {
        self.at = at;
        self
    }

    /// Only names that begin so; `None` if none is so long.
    pub(super) fn with_prefix(mut self, prefix: &str) -> Option<Self> {
        self.prefix.push_str(prefix).ok()?;
        Some(self)
    }

    /// Writes the next row; false when there is none.
    pub(super) fn step(&mut self, host: &dyn Host, out: &mut dyn Write) -> bool {
        if !self.begun && !self.kv {
            self.begun = true;
            if let Some(header) = self.table.header() {
                ignore(writeln!(out, "{header}"));
                return true;
            }
        }
        let (at, kv) = (self.at, self.kv);
        let next = match self.table {
            Table::Help => write_command(at, out),
            Table::Settings => write_key(host, at, kv, out),
            Table::Counters => self.write_counter(host, out),
            Table::Peers => write_peer(host, at, kv, out),
            Table::Flows
            | Table::Leases
            | Table::Links
            | Table::Log
            | Table::Why
            | Table::Saved => match kv {
                true => host.write_row(self.table, true, at, out),
                false => host.write_row(self.table, false, at, &mut Cut::new(out)),
            },
        };
        match next {
            Some(next) => {
                debug_assert!(next > at, "a listing goes on");
                self.at = next;
                self.any = true;
                true
            }
            None => {
                if !self.any && !self.kv {
                    ignore(writeln!(out, "none"));
                }
                false
            }
        }
    }

    fn write_counter(&self, host: &dyn Host, out: &mut dyn Write) -> Option<u32> {
        let mut index = 0;
        let mut next = None;
        host.counters(&mut |stage, name, value| {
            let wanted = index >= self.at && next.is_none();
            index += 1;
            if wanted && begins(stage, name, &self.prefix) {
                ignore(writeln!(out, "{stage}.{name}={value}"));
                next = Some(index);
            }
        });
        next
    }
}

/// Whether `stage.name` begins with `prefix`.
fn begins(stage: &str, name: &str, prefix: &str) -> bool {
    match prefix.strip_prefix(stage) {
        None => stage.starts_with(prefix),
        Some("") => true,
        Some(rest) => rest
            .strip_prefix('.')
            .is_some_and(|rest| name.starts_with(rest)),
    }
}

fn write_command(at: u32, out: &mut dyn Write) -> Option<u32> {
    let command = COMMANDS.get(at as usize)?;
    ignore(writeln!(out, "{:<26} {}", command.usage, command.summary));
    Some(at + 1)
}

fn write_key(host: &dyn Host, at: u32, kv: bool, out: &mut dyn Write) -> Option<u32> {
    let settings = host.settings();
    match KEYS.get(at as usize) {
        // The key is one of the list, and the output tells of its own failure.
        Some(key) => write_setting(&settings, key, out).unwrap_or(()),
        None if at as usize == KEYS.len() && !kv && !host.is_saved() => {
            ignore(writeln!(
                out,
                "# not saved; `save` keeps them over a reboot"
            ));
        }
        None => return None,
    }
    Some(at + 1)
}

fn write_peer(host: &dyn Host, at: u32, kv: bool, out: &mut dyn Write) -> Option<u32> {
    let peer = *host.settings().peers.iter().flatten().nth(at as usize)?;
    ignore(writeln!(out, "{}{peer}", if kv { "peer=" } else { "" }));
    Some(at + 1)
}
