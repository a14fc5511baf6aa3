//! The commands: words in, lines out.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use heapless::{String, Vec};

use super::Host;
use crate::router::Action;
use crate::settings::{KEYS, SettingError, Settings, parse_host};

/// The most words of a command.
const WORDS_MAX: usize = 4;

const HELP: &str = "\
help                     this list
version                  name and version of the program
status [--kv]            state of the router; as key=value lines
counters [PREFIX]        all counters, or those whose name begins so
flows                    connections through the router
links                    own line and neighbours, with their rates
why                      downloads that were left alone, and why
get [KEY]                all settings, or one
set KEY VALUE            changes a setting
peers                    neighbours that are asked and served
peer add|remove ADDRESS  changes them
reboot                   starts the router anew
";

/// Why a command was not done; shown after `error: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandError {
    /// No such command.
    Unknown,
    /// Arguments missing, too many or not understood; how it is written.
    Usage(&'static str),
    /// A setting refused its value.
    Setting(SettingError),
    /// The output failed.
    Output,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Unknown => f.write_str("no such command; `help` lists them"),
            CommandError::Usage(usage) => write!(f, "write `{usage}`"),
            CommandError::Setting(error) => error.fmt(f),
            CommandError::Output => f.write_str("the output failed"),
        }
    }
}

impl From<SettingError> for CommandError {
    fn from(error: SettingError) -> Self {
        CommandError::Setting(error)
    }
}

impl From<fmt::Error> for CommandError {
    fn from(_: fmt::Error) -> Self {
        CommandError::Output
    }
}

/// Runs one line; an empty one does nothing.
///
/// # Errors
/// Why it was not done; nothing was changed.
pub(super) fn run(
    line: &str,
    host: &mut dyn Host,
    out: &mut dyn Write,
) -> Result<Action, CommandError> {
    let mut words: Vec<&str, WORDS_MAX> = Vec::new();
    let mut too_many = false;
    for word in line.split_ascii_whitespace() {
        too_many |= words.push(word).is_err();
    }
    let Some((&name, arguments)) = words.split_first() else {
        return Ok(Action::None);
    };
    let usage = usage_of(name).ok_or(CommandError::Unknown)?;
    let wrong = CommandError::Usage(usage);
    if too_many {
        return Err(wrong);
    }
    match (name, arguments) {
        ("help", []) => out.write_str(HELP)?,
        ("version", []) => writeln!(out, "{}", host.version())?,
        ("status", []) => {
            write_uptime(host, out)?;
            host.write_status(out, false)?;
        }
        ("status", ["--kv"]) => {
            writeln!(out, "uptime_ms={}", host.uptime().total_millis())?;
            host.write_status(out, true)?;
        }
        ("counters", []) => write_counters(host, "", out)?,
        ("counters", [prefix]) => write_counters(host, prefix, out)?,
        ("flows", []) => host.write_flows(out)?,
        ("links", []) => host.write_links(out)?,
        ("why", []) => host.write_why(out)?,
        ("get" | "set", []) => {
            for key in KEYS {
                write_setting(&host.settings(), key, out)?;
            }
        }
        ("get", [key]) => {
            host.settings().get(key, out)?;
            writeln!(out)?;
        }
        ("set", [key, value]) => {
            let mut settings = host.settings();
            settings.set(key, value)?;
            host.apply(&settings);
            write_setting(&settings, key, out)?;
        }
        ("peers", []) | ("peer", ["list"]) => write_peers(&host.settings(), out)?,
        ("peer", ["add", address]) => {
            let address = parse_host(address)?;
            change_peers(host, |settings| settings.add_peer(address), out)?;
        }
        ("peer", ["remove", address]) => {
            // Whatever is listed can be removed.
            let address: Ipv4Addr = address.parse().map_err(|_| SettingError::NotAnAddress)?;
            change_peers(host, |settings| settings.remove_peer(address), out)?;
        }
        ("reboot", []) => {
            writeln!(out, "rebooting")?;
            return Ok(Action::Reboot);
        }
        _ => return Err(wrong),
    }
    Ok(Action::None)
}

/// How a command is written; `None` when there is none of that name.
fn usage_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "help" => "help",
        "version" => "version",
        "status" => "status [--kv]",
        "counters" => "counters [PREFIX]",
        "flows" => "flows",
        "links" => "links",
        "why" => "why",
        "get" => "get [KEY]",
        "set" => "set KEY VALUE",
        "peers" => "peers",
        "peer" => "peer add|remove ADDRESS",
        "reboot" => "reboot",
        _ => return None,
    })
}

fn write_uptime(host: &dyn Host, out: &mut dyn Write) -> fmt::Result {
    let seconds = host.uptime().secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    writeln!(out, "up {days} d {hours:02}:{minutes:02}:{seconds:02}")
}

fn write_counters(host: &dyn Host, prefix: &str, out: &mut dyn Write) -> fmt::Result {
    let mut result = Ok(());
    host.counters(&mut |stage, name, value| {
        let mut full: String<64> = String::new();
        // A name that does not fit is cut; it only decides what is shown.
        write!(full, "{stage}.{name}").unwrap_or(());
        if result.is_ok() && full.starts_with(prefix) {
            result = writeln!(out, "{stage}.{name}={value}");
        }
    });
    result
}

fn write_setting(settings: &Settings, key: &str, out: &mut dyn Write) -> Result<(), CommandError> {
    write!(out, "{key}=")?;
    settings.get(key, out)?;
    writeln!(out)?;
    Ok(())
}

fn write_peers(settings: &Settings, out: &mut dyn Write) -> fmt::Result {
    for peer in settings.peers.iter().flatten() {
        writeln!(out, "{peer}")?;
    }
    Ok(())
}

fn change_peers(
    host: &mut dyn Host,
    change: impl FnOnce(&mut Settings) -> Result<(), SettingError>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let mut settings = host.settings();
    change(&mut settings)?;
    host.apply(&settings);
    write_setting(&settings, "peers", out)
}
