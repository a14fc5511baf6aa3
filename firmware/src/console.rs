//! The serial console: a line editor, and the commands of its owner.
//!
//! Bytes come one at a time by [`Console::on_byte`]; echo and answers go out as text with CR LF.
//! A command's output ends with the next [`PROMPT`] at the start of a line; an error is one line
//! that begins with `error: `. What came from the network is shown escaped and cannot move the
//! cursor or end a line.
//!
//! Units: bytes.
//! Invariants: I1 nothing but visible ASCII and spaces is echoed or kept; I2 a line that is too
//! long is refused whole, never cut.
//! Budget: one [`Console`] of below 300 bytes.
//! Not done: history, completion, a password.

mod command;
mod text;

use core::fmt::{self, Write};

use heapless::String;
use smoltcp::time::Duration;

use crate::budget::CONSOLE_LINE_BYTES_MAX;
use crate::router::Action;
use crate::settings::Settings;
use text::Terminal;

pub use text::Escaped;

/// What the console says when it waits for a command; at the start of a line.
pub const PROMPT: &str = "tandem> ";

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

    /// Calls `each` with stage, name and value of every counter.
    fn counters(&self, each: &mut dyn FnMut(&str, &str, u64));

    /// Writes the router's state; with `kv` as `key=value` lines for programs.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_status(&self, out: &mut dyn Write, kv: bool) -> fmt::Result;

    /// Writes the flows, one a line.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_flows(&self, out: &mut dyn Write) -> fmt::Result;

    /// Writes the links with their rates, one a line.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_links(&self, out: &mut dyn Write) -> fmt::Result;

    /// Writes the last downloads that were left alone, each with its reason, one a line.
    ///
    /// # Errors
    /// Only those of `out`.
    fn write_why(&self, out: &mut dyn Write) -> fmt::Result;
}

/// The console's side of one serial line.
#[derive(Clone, Debug)]
pub struct Console {
    line: String<CONSOLE_LINE_BYTES_MAX>,
    overlong: bool,
    after_cr: bool,
    escape: Escape,
}

const _: () = assert!(core::mem::size_of::<Console>() < 300);

/// Where in a terminal's escape sequence the input is; such sequences mean nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Outside,
    /// After ESC.
    Begun,
    /// After `ESC [` or `ESC O`, before the final byte.
    Sequence,
}

impl Console {
    /// A console with an empty line.
    pub const fn new() -> Self {
        Self {
            line: String::new(),
            overlong: false,
            after_cr: false,
            escape: Escape::Outside,
        }
    }

    /// Writes the first lines after the start, and the first prompt.
    pub fn greet(&mut self, host: &dyn Host, out: &mut dyn Write) {
        let mut terminal = Terminal::new(out);
        ignore(writeln!(
            terminal,
            "\n{}\n`help` lists the commands",
            host.version()
        ));
        ignore(out.write_str(PROMPT));
    }

    /// Takes one byte of the line; echo and answers go to `out`.
    pub fn on_byte(&mut self, byte: u8, host: &mut dyn Host, out: &mut dyn Write) -> Action {
        let after_cr = core::mem::take(&mut self.after_cr);
        if self.is_in_escape(byte) {
            return Action::None;
        }
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => {
                self.after_cr = byte == b'\r';
                return self.on_line_end(host, out);
            }
            0x03 => {
                self.clear();
                ignore(write!(out, "^C\r\n{PROMPT}"));
            }
            0x15 => {
                for _ in 0..self.line.len() {
                    ignore(out.write_str("\x08 \x08"));
                }
                self.clear();
            }
            0x08 | 0x7f => {
                if self.line.pop().is_some() {
                    ignore(out.write_str("\x08 \x08"));
                }
            }
            b' '..=b'~' => match self.line.push(char::from(byte)) {
                Ok(()) => ignore(out.write_char(char::from(byte))),
                Err(_) => self.overlong = true,
            },
            0..b' ' | 0x80.. => {}
        }
        Action::None
    }

    /// Follows escape sequences; true for each byte that belongs to one.
    fn is_in_escape(&mut self, byte: u8) -> bool {
        let (next, belongs) = match (self.escape, byte) {
            (Escape::Outside | Escape::Begun | Escape::Sequence, 0x1b) => (Escape::Begun, true),
            (Escape::Begun, b'[' | b'O') => (Escape::Sequence, true),
            (Escape::Sequence, b' '..=b'?') => (Escape::Sequence, true),
            (Escape::Sequence, b'@'..=b'~') => (Escape::Outside, true),
            (Escape::Begun, b' '..=b'~') => (Escape::Outside, true),
            // A control byte ends an unfinished sequence and has its own meaning.
            (Escape::Outside | Escape::Begun | Escape::Sequence, _) => (Escape::Outside, false),
        };
        self.escape = next;
        belongs
    }

    fn on_line_end(&mut self, host: &mut dyn Host, out: &mut dyn Write) -> Action {
        ignore(out.write_str("\r\n"));
        let mut terminal = Terminal::new(out);
        let mut action = Action::None;
        if self.overlong {
            let most = CONSOLE_LINE_BYTES_MAX;
            ignore(writeln!(terminal, "error: a line has at most {most} bytes"));
        } else {
            match command::run(&self.line, host, &mut terminal) {
                Ok(done) => action = done,
                Err(error) => ignore(writeln!(terminal, "error: {error}")),
            }
        }
        terminal.end_line();
        self.clear();
        match action {
            Action::None => ignore(out.write_str(PROMPT)),
            Action::Reboot => {}
        }
        action
    }

    fn clear(&mut self) {
        self.line.clear();
        self.overlong = false;
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
