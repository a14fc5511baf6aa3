//! The serial console: a line editor, and the commands of its owner.
//!
//! Bytes come by [`Console::on_input`] and wait; [`Console::poll`] works on them as far as the output
//! has room, so that nothing is lost however fast lines are pasted, and nothing blocks. A listing or a
//! ping goes on over many polls; what is typed meanwhile waits for its end, and ^C ends it. A command's
//! output ends with the next [`PROMPT`] at the start of a line; an error is one line that begins with
//! `error: `. Events that matter are told by lines that begin with [`NOTICE`], between other lines; prompt
//! and line are written again behind them. What came from the network is shown escaped and cannot
//! move the cursor or end a line.
//!
//! While the host has the line ([`Host::has_line`], an upgrade by XMODEM), every byte goes to it and
//! nothing else is written.
//!
//! | state | ends by |
//! | --- | --- |
//! | no command | a line |
//! | listing | its last row, ^C |
//! | ping | its count, ^C |
//! | saving | the store's word, `SAVE_TIMEOUT`, ^C (the store goes on) |
//! | the host's line | the host, whose waits are bounded |
//!
//! Why no crate does it: the editor must take a byte and return, write nothing that was not asked for
//! (a program may be at the other end), and take its line away and back around a notice.
//! noline 0.5.1 (MPL-2.0) owns the loop around its reader and asks the terminal where its cursor is;
//! embedded-cli 0.2.1 has neither home, end nor delete, and formats by ufmt; ushell 0.4.0 owns the serial
//! port and has no notices; menu 0.6.1 edits with noline or not at all. The first, second and fourth
//! want embedded-io 0.6, the third heapless 0.8, and none has been released for their successors.
//!
//! Units: bytes.
//! Invariants: I1 to I3 of the line (`line.rs`); I4 nothing is written while room is missing for it.
//! Bounds: a poll does at most `CONSOLE_WORK`; a typed byte writes at most a line and a prompt.
//! Budget: one [`Console`] of below 6 KiB.
//! Not done: a password.

mod command;
mod complete;
mod history;
mod line;
mod listing;
mod text;

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use heapless::Deque;
use smoltcp::time::Duration;

use crate::budget::{
    CONSOLE_ANSWER_BYTES, CONSOLE_INPUT_BYTES, CONSOLE_LINE_BYTES_MAX, CONSOLE_ROW_BYTES,
    CONSOLE_ROW_WORK, CONSOLE_WORK,
};
use crate::events::{Event, Log, Stored};
use crate::ping::{PingError, Report};
use crate::router::Action;
use crate::router::upgrade::Transfer;
use crate::settings::Settings;
use crate::upgrade::Refusal;
use command::Done;
use line::{Editor, Key};
use listing::Listing;
use text::{Cut, Metered, Terminal};

pub use listing::Table;
pub use text::{Escaped, Mac};

/// What the console says when it waits for a command; at the start of a line.
pub const PROMPT: &str = "tandem> ";

/// How a line begins that is no part of an answer.
pub const NOTICE: &str = "* ";

/// What the console talks about: the router.
///
/// The writers end each line with `\n`. Text that came from the network is written by [`Escaped`].
pub trait Host {
    /// Name and version of the program, one line without its end.
    fn version(&self) -> &str;

    /// Time since the start.
    fn uptime(&self) -> Duration;

    /// The settings in force.
    fn settings(&self) -> Settings;

    /// Puts settings in force; running exchanges may end on the old ones.
    fn apply(&mut self, settings: &Settings);

    /// Whether the settings in force are those that a reboot would find.
    fn is_saved(&self) -> bool;

    /// Asks the board to store the settings in force; an event tells the outcome.
    fn save(&mut self);

    /// Whether that outcome is still missing.
    fn is_saving(&self) -> bool;

    /// What happened lately.
    fn log(&self) -> &Log;

    /// Calls `each` with stage, name and value of every counter.
    fn counters(&self, each: &mut dyn FnMut(&str, &str, u64));

    /// Writes the router's state, at most 24 lines of 80 columns; with `kv` as `key=value` lines.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_status(&self, out: &mut dyn Write, kv: bool) -> fmt::Result;

    /// Writes row `at` of a table, or the first one behind it, with its line end, and gives the number of the
    /// row after it; `None`, and nothing written, when there is none. Work of a call is bounded.
    ///
    /// Only asked for [`Table::Flows`], [`Table::Leases`], [`Table::Links`], [`Table::Log`], [`Table::Why`] and
    /// [`Table::Saved`].
    fn write_row(&self, table: Table, kv: bool, at: u32, out: &mut dyn Write) -> Option<u32>;

    /// Begins a series of echo requests; what comes of it is told by [`Self::ping_report`].
    ///
    /// # Errors
    /// No way leads there.
    fn ping(&mut self, target: Ipv4Addr, count: u32) -> Result<(), PingError>;

    /// The next thing to tell of the series.
    fn ping_report(&mut self) -> Option<Report>;

    /// Whether there is something to tell.
    fn has_ping_report(&self) -> bool;

    /// Ends the series; its summary is the last report.
    fn end_ping(&mut self);

    /// Takes one new image by `transfer`; one that is older only with `force`.
    ///
    /// # Errors
    /// Why there is no upgrade.
    fn upgrade(&mut self, transfer: Transfer, force: bool) -> Result<(), Refusal>;

    /// Writes what an upgrade is doing, and why the last one was refused.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_upgrade(&self, out: &mut dyn Write) -> fmt::Result;

    /// Whether a transfer has the serial line. The waits of one are bounded.
    fn has_line(&self) -> bool {
        false
    }

    /// Takes a byte of the transfer that has the line; `out` has room for `CONSOLE_ROW_BYTES`.
    fn on_line_byte(&mut self, byte: u8, out: &mut dyn Write) {
        let _ignored = (byte, out);
    }

    /// Lets the transfer that has the line write what is due; `out` has room for `CONSOLE_ROW_BYTES`.
    fn poll_line(&mut self, out: &mut dyn Write) {
        let _nothing = out;
    }
}

/// What the console is busy with.
///
/// `No` is all zero, and so is an empty console: one byte that is not would bring all of the router's memory, of which
/// it is a part, into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Busy {
    /// The person or program at the other end.
    No,
    /// A table of which rows are left.
    Listing(Listing),
    /// A series of echo requests.
    Ping,
    /// The store's word is missing.
    Saving,
    /// A transfer has the line.
    Line,
}

/// What would be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// ^C was typed while busy.
    Interrupt,
    /// Input was dropped.
    Lost,
    /// An event was not told yet.
    Event,
    /// A row, a report, the end of something.
    Work,
    /// A typed byte.
    Byte(u8),
}

/// The console's side of one serial line.
#[derive(Clone, Debug)]
pub struct Console {
    editor: Editor,
    input: Deque<u8, CONSOLE_INPUT_BYTES>,
    /// Typed bytes that found no place, and were not told yet.
    lost: u32,
    interrupted: bool,
    busy: Busy,
    /// Sequence number of the next event to tell.
    told: u32,
}

const _: () = assert!(core::mem::size_of::<Console>() < 6144);
const _: () = assert!(line::EDIT_BYTES_MAX + 2 * line::COLUMNS < CONSOLE_ROW_BYTES);
const _: () = assert!(CONSOLE_ROW_BYTES < CONSOLE_ANSWER_BYTES);

impl Console {
    /// A console with an empty line.
    pub const fn new() -> Self {
        Self {
            editor: Editor::new(),
            input: Deque::new(),
            lost: 0,
            interrupted: false,
            busy: Busy::No,
            told: 0,
        }
    }

    /// Typed bytes that [`Self::on_input`] takes without loss.
    pub fn input_room(&self) -> usize {
        CONSOLE_INPUT_BYTES - self.input.len()
    }

    /// Takes one typed byte. One that finds no place is dropped, and that is told.
    pub fn on_input(&mut self, byte: u8) {
        let interruptible = match self.busy {
            Busy::Listing(_) | Busy::Ping | Busy::Saving => true,
            Busy::No | Busy::Line => false,
        };
        if byte == 0x03 && interruptible {
            self.input.clear();
            self.interrupted = true;
        } else if self.input.push_back(byte).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Whether [`Self::poll`] would do something now.
    pub fn is_ready(&self, host: &dyn Host, room: usize) -> bool {
        self.next(host, room) != Step::Nothing
    }

    /// Whether [`Self::poll`] is sure to do nothing. Unlike [`Self::is_ready`] this counts the line of a transfer, whose
    /// timers only a poll runs.
    pub fn is_idle(&self, host: &dyn Host, room: usize) -> bool {
        self.busy != Busy::Line && !self.is_ready(host, room)
    }

    /// Goes on with what is typed, listed and told while `out` has room; `room` is how many bytes it takes.
    pub fn poll(&mut self, host: &mut dyn Host, room: usize, out: &mut dyn Write) -> Action {
        let out = &mut Metered::new(out, room);
        if self.busy == Busy::Line && out.room >= CONSOLE_ROW_BYTES {
            host.poll_line(out);
        }
        let mut work = 0;
        while work < CONSOLE_WORK {
            match self.next(host, out.room) {
                Step::Nothing => break,
                Step::Interrupt => self.interrupt(host, out),
                Step::Lost => {
                    let lost = core::mem::take(&mut self.lost);
                    let most = CONSOLE_INPUT_BYTES;
                    let row = format_args!(
                        "{NOTICE}{lost} typed bytes were lost: no more than {most} may wait"
                    );
                    self.notice(row, out);
                }
                Step::Event => self.tell(host, out),
                Step::Work => self.work(host, out),
                Step::Byte(byte) => {
                    self.input.pop_front();
                    let action = self.on_byte(byte, host, out);
                    if action != Action::None {
                        return action;
                    }
                    work += 1;
                    continue;
                }
            }
            work += CONSOLE_ROW_WORK;
        }
        Action::None
    }

    fn next(&self, host: &dyn Host, room: usize) -> Step {
        if room < CONSOLE_ROW_BYTES {
            return Step::Nothing;
        }
        if self.interrupted {
            return Step::Interrupt;
        }
        let has_line = self.busy == Busy::Line;
        if self.lost > 0 && !has_line {
            return Step::Lost;
        }
        if self.told != host.log().next() && !has_line {
            return Step::Event;
        }
        let due = match self.busy {
            Busy::No => {
                return match self.input.front() {
                    None => Step::Nothing,
                    // These may have a long answer.
                    Some(b'\r' | b'\n' | b'\t') if room < CONSOLE_ANSWER_BYTES => Step::Nothing,
                    Some(&byte) => Step::Byte(byte),
                };
            }
            Busy::Listing(_) => true,
            Busy::Ping => host.has_ping_report(),
            Busy::Saving => !host.is_saving(),
            Busy::Line => match self.input.front() {
                Some(&byte) if host.has_line() => return Step::Byte(byte),
                Some(_) | None => !host.has_line(),
            },
        };
        if due { Step::Work } else { Step::Nothing }
    }

    fn interrupt(&mut self, host: &mut dyn Host, out: &mut dyn Write) {
        self.interrupted = false;
        ignore(out.write_str("^C\r\n"));
        match self.busy {
            // Its summary follows.
            Busy::Ping => host.end_ping(),
            Busy::No | Busy::Listing(_) | Busy::Saving | Busy::Line => self.done(out),
        }
    }

    /// Tells the next event if it matters.
    fn tell(&mut self, host: &dyn Host, out: &mut dyn Write) {
        let log = host.log();
        let held = log.next().wrapping_sub(log.first());
        if log.next().wrapping_sub(self.told) > held {
            self.told = log.first();
        }
        let entry = log.get(self.told);
        self.told = self.told.wrapping_add(1);
        let Some(event) = entry
            .map(|entry| entry.event)
            .filter(|event| event.is_notice())
        else {
            return;
        };
        match (&self.busy, event) {
            // This is what `save` waits for.
            (Busy::Saving, Event::Stored(Stored::Settings)) => {
                self.notice(format_args!("{event}"), out)
            }
            (Busy::Saving, Event::StoreFailed(Stored::Settings, _)) => {
                self.notice(format_args!("error: {event}"), out)
            }
            _ => self.notice(format_args!("{NOTICE}{event}"), out),
        }
    }

    /// Writes a row of its own; prompt and line stay below it.
    fn notice(&mut self, row: fmt::Arguments<'_>, out: &mut dyn Write) {
        let idle = self.busy == Busy::No;
        if idle {
            self.editor.hide(out);
        }
        ignore(writeln!(Cut::new(&mut Terminal::new(out)), "{row}"));
        if idle {
            self.editor.show(out);
        }
    }

    /// A row of a listing, a report of a ping, or the end of what the console was busy with.
    fn work(&mut self, host: &mut dyn Host, out: &mut dyn Write) {
        let mut terminal = Terminal::new(out);
        let goes_on = match &mut self.busy {
            Busy::No => return,
            Busy::Listing(listing) => listing.step(host, &mut terminal),
            Busy::Ping => match host.ping_report() {
                Some(report) => {
                    ignore(writeln!(terminal, "{report}"));
                    !matches!(report, Report::Summary { .. })
                }
                None => true,
            },
            Busy::Saving | Busy::Line => false,
        };
        terminal.end_line();
        if !goes_on {
            self.done(out);
        }
    }

    fn on_byte(&mut self, byte: u8, host: &mut dyn Host, out: &mut dyn Write) -> Action {
        if self.busy == Busy::Line {
            host.on_line_byte(byte, out);
            return Action::None;
        }
        match self.editor.on_byte(byte, out) {
            Key::None => Action::None,
            Key::Enter => self.on_line_end(host, out),
            Key::Interrupt => {
                self.done(out);
                Action::None
            }
            Key::Tab => {
                complete::complete(&mut self.editor, out);
                Action::None
            }
        }
    }

    fn on_line_end(&mut self, host: &mut dyn Host, out: &mut dyn Write) -> Action {
        let mut terminal = Terminal::new(out);
        let mut done = Ok(Done::All);
        if self.editor.is_overlong() {
            let most = CONSOLE_LINE_BYTES_MAX;
            ignore(writeln!(terminal, "error: a line has at most {most} bytes"));
        } else {
            done = command::run(self.editor.line(), host, &mut terminal);
        }
        if let Err(error) = &done {
            ignore(writeln!(terminal, "error: {error}"));
        }
        terminal.end_line();
        match done {
            Ok(Done::Begun(busy)) => {
                self.editor.clear();
                self.busy = busy;
            }
            Ok(Done::Board(action)) => {
                self.editor.clear();
                return action;
            }
            Ok(Done::All) | Err(_) => self.done(out),
        }
        Action::None
    }

    /// The command is over: a new prompt, unless a transfer has taken the line.
    fn done(&mut self, out: &mut dyn Write) {
        self.busy = Busy::No;
        self.editor.clear();
        self.editor.show(out);
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

/// The output is all there is to tell of its own failure; the UART's never fails.
fn ignore(result: fmt::Result) {
    result.unwrap_or(());
}

#[cfg(test)]
mod tests;
