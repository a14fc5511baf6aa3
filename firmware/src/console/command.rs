//! The commands: their table, words in, lines out.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use heapless::Vec;

use super::listing::{Listing, Table};
use super::{Busy, Host};
use crate::budget::{CONSOLE_WORDS_MAX, PING_COUNT, PING_COUNT_MAX};
use crate::ping::PingError;
use crate::router::Action;
use crate::router::upgrade::Transfer;
use crate::settings::{KEYS, Path, SettingError, Settings, parse_host};
use crate::upgrade::Refusal;

/// What follows a command, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// One of these words, each with what may follow it.
    Words(&'static [&'static str]),
    /// A setting's key.
    Key,
    /// A command's name.
    Command,
}

/// One command.
pub(super) struct Command {
    /// Its first word.
    pub(super) name: &'static str,
    /// How it is written.
    pub(super) usage: &'static str,
    /// What it does; at most 50 columns.
    pub(super) summary: &'static str,
    /// More about it, lines of at most 80 columns; nothing when the summary says all.
    pub(super) more: &'static str,
    /// Its first argument.
    pub(super) follow: Follow,
}

const KV: Follow = Follow::Words(&["--kv"]);

/// Every command, in the order in which `help` lists them.
pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "help",
        usage: "help [COMMAND]",
        summary: "this list, or more about a command",
        more: "\
Listings take --kv: one key=value a line, for programs. The value of a table's
row is its columns, separated by spaces. Lines that begin with `* ` are notices:
they may come at any time between others, but not within a line.
Keys: left, right, home, end, delete, up, down (lines given before), tab
(completes), ^A ^E ^B ^F ^D ^H ^K ^U ^W ^P ^N ^L, ^C (drops the line, ends a
listing or a ping). A line has at most 640 bytes; 1280 bytes may be typed ahead.
",
        follow: Follow::Command,
    },
    Command {
        name: "version",
        usage: "version",
        summary: "name and version of the program",
        more: "",
        follow: Follow::Words(&[]),
    },
    Command {
        name: "status",
        usage: "status [--kv]",
        summary: "state of the router on one screen",
        more: "",
        follow: KV,
    },
    Command {
        name: "flows",
        usage: "flows [--kv]",
        summary: "connections through the router",
        more: "\
Columns: protocol, client, remote, port on the WAN, state, seconds without
traffic. Of an open connection to a port of accel.ports stands in place of the
state what became of its last request: accelerated, under-way, or why not; with
--kv it is one more column. A flow that begins or ends meanwhile may be shown or
not.
",
        follow: KV,
    },
    Command {
        name: "leases",
        usage: "leases [--kv]",
        summary: "hosts of the LAN that got their address here",
        more: "\
Columns: address, hardware address, seconds left, state, name as the host gives
it. With --kv a name may hold blanks: it is all that is left of the line.
",
        follow: KV,
    },
    Command {
        name: "links",
        usage: "links [--kv]",
        summary: "own line and neighbours, with their rates",
        more: "Columns: link, measured kbit/s, state, bytes that came by it.\n",
        follow: KV,
    },
    Command {
        name: "counters",
        usage: "counters [PREFIX] [--kv]",
        summary: "all counters, or those whose name begins so",
        more: "Both forms are the same: stage.name=value.\n",
        follow: KV,
    },
    Command {
        name: "log",
        usage: "log [COUNT] [--kv]",
        summary: "what happened lately, the newest last",
        more: "\
Columns: time since the start (with --kv in ms), event, how often (repeats
within a minute are one entry), text.
",
        follow: KV,
    },
    Command {
        name: "why",
        usage: "why [--kv]",
        summary: "the last downloads: accelerated, or why not",
        more: "\
Seconds ago, the reason or what help there was, what was asked for. Help: time
taken, by the own line, by each neighbour. With --kv: ms taken, ms saved, bytes
by the own line, bytes by each of four neighbours.
",
        follow: KV,
    },
    Command {
        name: "saved",
        usage: "saved [--kv]",
        summary: "what neighbours brought, by client and by neighbour",
        more: "\
Columns: client or peer, address, downloads with help, KiB by the own line, KiB
by neighbours, seconds saved; with --kv bytes and ms. The time is an estimate:
what the own line's measured rate alone would have taken longer.
",
        follow: KV,
    },
    Command {
        name: "ping",
        usage: "ping ADDRESS [COUNT]",
        summary: "asks a host for an echo",
        more: "\
4 times, or COUNT times up to 100, once a second; each answer is waited for 2 s.
ADDRESS is like 198.51.100.10. ^C ends it.
",
        follow: Follow::Words(&[]),
    },
    Command {
        name: "get",
        usage: "get [KEY] [--kv]",
        summary: "all settings, or one",
        more: "",
        follow: Follow::Key,
    },
    Command {
        name: "set",
        usage: "set KEY VALUE",
        summary: "changes a setting at once; `save` keeps it",
        more: "`get` lists keys and values. A change of\nwan.address or lan.address ends all connections.\n",
        follow: Follow::Key,
    },
    Command {
        name: "save",
        usage: "save",
        summary: "keeps the settings over a reboot",
        more: "Says `saved` when they are in flash, or why they are not.\n",
        follow: Follow::Words(&[]),
    },
    Command {
        name: "defaults",
        usage: "defaults yes",
        summary: "puts factory settings in force",
        more: "What is saved stays until `save`.\n",
        follow: Follow::Words(&["yes"]),
    },
    Command {
        name: "peers",
        usage: "peers [--kv]",
        summary: "neighbours that are asked and served",
        more: "",
        follow: KV,
    },
    Command {
        name: "peer",
        usage: "peer list|add ADDRESS [relay|nat]|remove ADDRESS",
        summary: "shows or changes them",
        more: "\
relay: the neighbour fetches ranges and passes them on.
nat: our own connections lead through it, if it has `lend.nat on`.
",
        follow: Follow::Words(&["list", "add", "remove"]),
    },
    Command {
        name: "upgrade",
        usage: "upgrade status|tftp|xmodem [--force]",
        summary: "takes a new image",
        more: "\
tftp: put it to the router's LAN address within two minutes.
xmodem: send it on this line, by XMODEM or YMODEM, within two minutes.
It is checked before anything is erased; the old image stays in its own place.
An image older than this one is taken with --force only.
",
        follow: Follow::Words(&["status", "tftp", "xmodem"]),
    },
    Command {
        name: "reboot",
        usage: "reboot",
        summary: "starts the router anew",
        more: "Settings that are not saved are lost.\n",
        follow: Follow::Words(&[]),
    },
    Command {
        name: "crash",
        usage: "crash panic|hang yes",
        summary: "breaks the program, to see it come back",
        more: "\
panic: a reset, told afterwards. hang: nothing moves until the watchdog resets,
or for ever where there is none.
",
        follow: Follow::Words(&["panic", "hang"]),
    },
];

/// Why a command was not done; shown after `error: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandError {
    /// No such command.
    Unknown,
    /// Arguments missing, too many or not understood; how it is written.
    Usage(&'static str),
    /// A setting refused its value.
    Setting(SettingError),
    /// No echo could be asked for.
    Ping(PingError),
    /// The settings are being stored already.
    Saving,
    /// There is no upgrade.
    Upgrade(Refusal),
    /// The output failed.
    Output,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Unknown => f.write_str("no such command; `help` lists them"),
            CommandError::Usage(usage) => write!(f, "write `{usage}`"),
            CommandError::Setting(error) => error.fmt(f),
            CommandError::Ping(error) => error.fmt(f),
            CommandError::Saving => f.write_str("the settings are being stored already"),
            CommandError::Upgrade(refusal) => refusal.fmt(f),
            CommandError::Output => f.write_str("the output failed"),
        }
    }
}

impl From<SettingError> for CommandError {
    fn from(error: SettingError) -> Self {
        CommandError::Setting(error)
    }
}

impl From<PingError> for CommandError {
    fn from(error: PingError) -> Self {
        CommandError::Ping(error)
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        CommandError::Upgrade(refusal)
    }
}

impl From<fmt::Error> for CommandError {
    fn from(_: fmt::Error) -> Self {
        CommandError::Output
    }
}

/// What comes of a command.
pub(super) enum Done {
    /// All was said.
    All,
    /// The rest comes as there is room and news.
    Begun(Busy),
    /// The board has to do it.
    Board(Action),
}

/// The command of that name.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Runs one line; an empty one does nothing.
///
/// # Errors
/// Why it was not done; nothing was changed.
pub(super) fn run(
    line: &str,
    host: &mut dyn Host,
    out: &mut dyn Write,
) -> Result<Done, CommandError> {
    let mut words: Vec<&str, CONSOLE_WORDS_MAX> = Vec::new();
    let mut too_many = false;
    let mut kv = false;
    for word in line.split_ascii_whitespace() {
        if word == "--kv" {
            too_many |= kv;
            kv = true;
        } else {
            too_many |= words.push(word).is_err();
        }
    }
    let Some((&name, arguments)) = words.split_first() else {
        return if kv {
            Err(CommandError::Unknown)
        } else {
            Ok(Done::All)
        };
    };
    let command = find(name).ok_or(CommandError::Unknown)?;
    let wrong = CommandError::Usage(command.usage);
    if too_many || (kv && !command.usage.contains("--kv")) {
        return Err(wrong);
    }
    let list = |table| Ok(Done::Begun(Busy::Listing(Listing::new(table, kv))));
    match (name, arguments) {
        ("help", []) => list(Table::Help),
        ("help", [name]) => help(name, out),
        ("version", []) => {
            writeln!(out, "{}", host.version())?;
            Ok(Done::All)
        }
        ("status", []) => {
            host.write_status(out, kv)?;
            Ok(Done::All)
        }
        ("counters", []) => list(Table::Counters),
        ("counters", [prefix]) => Ok(Done::Begun(Busy::Listing(
            Listing::new(Table::Counters, kv)
                .with_prefix(prefix)
                .ok_or(wrong)?,
        ))),
        ("flows", []) => list(Table::Flows),
        ("leases", []) => list(Table::Leases),
        ("links", []) => list(Table::Links),
        ("why", []) => list(Table::Why),
        ("saved", []) => list(Table::Saved),
        ("log", []) => list(Table::Log),
        ("log", [count]) => {
            let count = parse_count(count, u32::MAX).ok_or(wrong)?;
            let skip = (host.log().iter().count() as u32).saturating_sub(count);
            Ok(Done::Begun(Busy::Listing(
                Listing::new(Table::Log, kv).starting_at(skip),
            )))
        }
        ("peers", []) | ("peer", ["list"]) => list(Table::Peers),
        ("ping", [address]) => ping(host, address, PING_COUNT),
        ("ping", [address, count]) => {
            let count = parse_count(count, PING_COUNT_MAX).ok_or(wrong)?;
            ping(host, address, count)
        }
        ("get" | "set", []) => list(Table::Settings),
        ("get", [key]) => {
            host.settings().get(key, out)?;
            writeln!(out)?;
            Ok(Done::All)
        }
        ("set", [key, value]) => change(host, |settings| settings.set(key, value), key, out),
        ("save", []) => {
            if host.is_saving() {
                return Err(CommandError::Saving);
            }
            host.save();
            Ok(Done::Begun(Busy::Saving))
        }
        ("defaults", ["yes"]) => {
            host.apply(&Settings::new());
            writeln!(out, "factory settings are in force; `save` keeps them")?;
            Ok(Done::All)
        }
        ("peer", ["add", address]) => {
            let address = parse_host(address)?;
            change(host, |settings| settings.add_peer(address), "peers", out)
        }
        ("peer", ["add", address, path]) => {
            let address = parse_host(address)?;
            let path = Path::ALL.into_iter().find(|known| known.name() == *path);
            let path = path.ok_or(wrong)?;
            let add = |settings: &mut Settings| {
                // One that is listed changes its path only.
                match settings.add_peer(address) {
                    Ok(()) | Err(SettingError::PeerListed) => settings.set_path(address, path),
                    Err(refused) => Err(refused),
                }
            };
            change(host, add, "peers", out)
        }
        ("peer", ["remove", address]) => {
            // Whatever is listed can be removed.
            let address: Ipv4Addr = address.parse().map_err(|_| SettingError::NotAnAddress)?;
            change(host, |settings| settings.remove_peer(address), "peers", out)
        }
        ("upgrade", ["status"]) => {
            host.write_upgrade(out)?;
            Ok(Done::All)
        }
        ("upgrade", ["tftp"]) => upgrade(host, Transfer::Tftp, false, out),
        ("upgrade", ["tftp", "--force"]) => upgrade(host, Transfer::Tftp, true, out),
        ("upgrade", ["xmodem"]) => upgrade(host, Transfer::Xmodem, false, out),
        ("upgrade", ["xmodem", "--force"]) => upgrade(host, Transfer::Xmodem, true, out),
        ("reboot", []) => {
            writeln!(out, "rebooting")?;
            Ok(Done::Board(Action::Reboot))
        }
        ("crash", ["panic", "yes"]) => Ok(Done::Board(Action::Panic)),
        ("crash", ["hang", "yes"]) => Ok(Done::Board(Action::Hang)),
        _ => Err(wrong),
    }
}

fn help(name: &str, out: &mut dyn Write) -> Result<Done, CommandError> {
    let command = find(name).ok_or(CommandError::Unknown)?;
    writeln!(out, "{}", command.usage)?;
    writeln!(out, "{}", command.summary)?;
    out.write_str(command.more)?;
    Ok(Done::All)
}

fn ping(host: &mut dyn Host, address: &str, count: u32) -> Result<Done, CommandError> {
    host.ping(parse_host(address)?, count)?;
    Ok(Done::Begun(Busy::Ping))
}

fn upgrade(
    host: &mut dyn Host,
    transfer: Transfer,
    force: bool,
    out: &mut dyn Write,
) -> Result<Done, CommandError> {
    host.upgrade(transfer, force)?;
    writeln!(out, "send the image within two minutes")?;
    Ok(match transfer {
        Transfer::Tftp => Done::All,
        Transfer::Xmodem => Done::Begun(Busy::Line),
    })
}

/// A number from 1 to `most`, of digits only.
fn parse_count(text: &str, most: u32) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = digits.then(|| text.parse().ok()).flatten()?;
    (1..=most).contains(&count).then_some(count)
}

fn change(
    host: &mut dyn Host,
    change: impl FnOnce(&mut Settings) -> Result<(), SettingError>,
    key: &str,
    out: &mut dyn Write,
) -> Result<Done, CommandError> {
    let mut settings = host.settings();
    change(&mut settings)?;
    host.apply(&settings);
    write_setting(&settings, key, out)?;
    Ok(Done::All)
}

/// `key=value` and a line end.
///
/// # Errors
/// No such key, or those of `out`.
pub(super) fn write_setting(
    settings: &Settings,
    key: &str,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    write!(out, "{key}=")?;
    settings.get(key, out)?;
    writeln!(out)?;
    Ok(())
}

/// Calls `each` with every word that may stand where the word after `before` stands.
pub(super) fn completions(before: &[&str], each: &mut dyn FnMut(&str)) {
    let names = COMMANDS.iter().map(|command| command.name);
    match before {
        [] => names.for_each(each),
        [name] => match find(name).map(|command| command.follow) {
            Some(Follow::Words(words)) => words.iter().copied().for_each(each),
            Some(Follow::Key) => KEYS.into_iter().for_each(each),
            Some(Follow::Command) => names.for_each(each),
            None => {}
        },
        ["crash", "panic" | "hang"] => each("yes"),
        ["set", "accel.enabled" | "lan.dhcp"] => ["on", "off"].into_iter().for_each(each),
        ["set", "wan.address"] => each("dhcp"),
        ["set", "wan.dns" | "air.address"] => each("auto"),
        _ => {}
    }
}
