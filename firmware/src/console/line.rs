//! The line being edited: its bytes, the cursor, and what the terminal shows of both.
//!
//! | key | does |
//! | --- | --- |
//! | left, ^B; right, ^F | one place |
//! | home, ^A; end, ^E | to either end |
//! | backspace, ^H; delete, ^D | takes the byte before, at the cursor |
//! | ^K, ^U, ^W | takes what follows, what is before, the word before |
//! | up, ^P; down, ^N | lines given before |
//! | ^L | clears the screen |
//! | ^C | drops the line |
//! | tab | completes a word |
//!
//! A byte typed at the end is echoed and nothing else, so that a program that pastes lines reads its
//! own words back. Everything else moves the cursor with ECMA-48 sequences, on lines of [`COLUMNS`].
//!
//! Units: bytes; positions count from the first byte of the prompt.
//! Invariants: I1 nothing but visible ASCII and spaces is echoed or kept; I2 a line that is too
//! long is refused whole, never cut; I3 `cursor <= line.len()`.
//! Bounds: a byte typed writes at most [`EDIT_BYTES_MAX`].

use core::fmt::Write;

use heapless::Vec;

use super::history::History;
use super::{PROMPT, ignore};
use crate::budget::CONSOLE_LINE_BYTES_MAX;

/// Columns of the terminal; on another one lines longer than a row look odd while they are edited.
pub(super) const COLUMNS: usize = 80;
/// Most bytes that one typed byte writes: the prompt, a whole line, and moves.
pub(super) const EDIT_BYTES_MAX: usize = PROMPT.len() + CONSOLE_LINE_BYTES_MAX + 64;

/// What a byte meant that the line alone cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing more.
    None,
    /// The line is given.
    Enter,
    /// The line was dropped.
    Interrupt,
    /// A word is to be completed.
    Tab,
}

/// Where in a terminal's escape sequence the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Outside,
    /// After ESC.
    Begun,
    /// After `ESC [` or `ESC O`, before the final byte; the first number, if one came.
    Sequence(u8),
}

/// A line and its history.
#[derive(Clone, Debug)]
pub(super) struct Editor {
    line: Vec<u8, CONSOLE_LINE_BYTES_MAX>,
    cursor: usize,
    overlong: bool,
    after_cr: bool,
    escape: Escape,
    history: History,
    /// How many lines back the line shown was given; 0 is the one being written.
    back: usize,
    /// The line being written, while another one is shown.
    aside: Vec<u8, CONSOLE_LINE_BYTES_MAX>,
    /// Where the terminal's cursor is.
    at: usize,
    /// The last column was just written: the cursor still stands on it.
    wraps: bool,
}

impl Editor {
    /// An empty line.
    pub(super) const fn new() -> Self {
        Self {
            line: Vec::new(),
            cursor: 0,
            overlong: false,
            after_cr: false,
            escape: Escape::Outside,
            history: History::new(),
            back: 0,
            aside: Vec::new(),
            at: 0,
            wraps: false,
        }
    }

    /// The line; visible ASCII.
    pub(super) fn line(&self) -> &str {
        // I1.
        core::str::from_utf8(&self.line).unwrap_or("")
    }

    /// The line up to the cursor.
    pub(super) fn before_cursor(&self) -> &str {
        self.line().get(..self.cursor).unwrap_or("")
    }

    /// Whether the line has lost bytes.
    pub(super) const fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// Takes a byte.
    pub(super) fn on_byte(&mut self, byte: u8, out: &mut dyn Write) -> Key {
        let after_cr = core::mem::take(&mut self.after_cr);
        if self.is_in_escape(byte, out) {
            return Key::None;
        }
        match byte {
            b'\n' if after_cr => {}
            b'\r' | b'\n' => {
                self.after_cr = byte == b'\r';
                self.move_to(self.line.len(), out);
                ignore(out.write_str("\r\n"));
                // I2: what is left of a line that was too long must not come back as a command.
                if !self.overlong {
                    self.history.add(&self.line);
                }
                return Key::Enter;
            }
            0x03 => {
                self.move_to(self.line.len(), out);
                ignore(out.write_str("^C\r\n"));
                return Key::Interrupt;
            }
            b'\t' => return Key::Tab,
            0x01 => self.move_to(0, out),
            0x02 => self.move_to(self.cursor.saturating_sub(1), out),
            0x04 => self.delete(out),
            0x05 => self.move_to(self.line.len(), out),
            0x06 => self.move_to(self.cursor + 1, out),
            0x08 | 0x7f => self.backspace(out),
            0x0b => {
                self.remove(self.cursor..self.line.len());
                self.redraw(out);
            }
            0x0c => {
                ignore(out.write_str("\x1b[H\x1b[2J"));
                self.show(out);
            }
            0x0e => self.recall(self.back.saturating_sub(1), out),
            0x10 => self.recall(self.back + 1, out),
            0x15 => {
                self.remove(0..self.cursor);
                self.redraw(out);
            }
            0x17 => {
                let first = self.word_start();
                self.remove(first..self.cursor);
                self.redraw(out);
            }
            b' '..=b'~' => {
                self.insert(byte, out);
            }
            0..b' ' | 0x80.. => {}
        }
        Key::None
    }

    /// Follows escape sequences and does what those of cursor keys say; true for each byte that belongs to one.
    fn is_in_escape(&mut self, byte: u8, out: &mut dyn Write) -> bool {
        let (next, belongs) = match (self.escape, byte) {
            (Escape::Outside | Escape::Begun | Escape::Sequence(_), 0x1b) => (Escape::Begun, true),
            (Escape::Begun, b'[' | b'O') => (Escape::Sequence(0), true),
            (Escape::Sequence(0), b'0'..=b'9') => (Escape::Sequence(byte), true),
            (Escape::Sequence(number), b' '..=b'?') => (Escape::Sequence(number), true),
            (Escape::Sequence(number), b'@'..=b'~') => {
                self.escape = Escape::Outside;
                self.on_key(number, byte, out);
                (Escape::Outside, true)
            }
            (Escape::Begun, b' '..=b'~') => (Escape::Outside, true),
            // A control byte ends an unfinished sequence and has its own meaning.
            (Escape::Outside | Escape::Begun | Escape::Sequence(_), _) => (Escape::Outside, false),
        };
        self.escape = next;
        belongs
    }

    /// A key that sends `ESC [ number last`, as xterm, VT220 and the Linux console name them.
    fn on_key(&mut self, number: u8, last: u8, out: &mut dyn Write) {
        match (number, last) {
            (_, b'A') => self.recall(self.back + 1, out),
            (_, b'B') => self.recall(self.back.saturating_sub(1), out),
            (_, b'C') => self.move_to(self.cursor + 1, out),
            (_, b'D') => self.move_to(self.cursor.saturating_sub(1), out),
            (_, b'H') | (b'1' | b'7', b'~') => self.move_to(0, out),
            (_, b'F') | (b'4' | b'8', b'~') => self.move_to(self.line.len(), out),
            (b'3', b'~') => self.delete(out),
            // Keys without a meaning here.
            (_, _) => {}
        }
    }

    /// Forgets the line; the terminal's cursor stands at the start of an empty row.
    pub(super) fn clear(&mut self) {
        self.line.clear();
        self.aside.clear();
        self.cursor = 0;
        self.back = 0;
        self.overlong = false;
        self.at = 0;
        self.wraps = false;
    }

    /// Writes prompt and line on an empty row.
    pub(super) fn show(&mut self, out: &mut dyn Write) {
        ignore(out.write_str(PROMPT));
        self.at = PROMPT.len();
        self.wraps = false;
        self.write_tail(0, out);
        self.goto(PROMPT.len() + self.cursor, out);
    }

    /// Takes prompt and line from the screen; what comes next is written in their place.
    pub(super) fn hide(&mut self, out: &mut dyn Write) {
        self.goto(0, out);
        ignore(out.write_str("\x1b[J"));
    }

    /// Inserts text at the cursor as if typed.
    pub(super) fn insert_text(&mut self, text: &str, out: &mut dyn Write) {
        for byte in text.bytes().filter(|byte| matches!(byte, b' '..=b'~')) {
            self.insert(byte, out);
        }
    }

    fn insert(&mut self, byte: u8, out: &mut dyn Write) {
        if self.line.insert(self.cursor, byte).is_err() {
            self.overlong = true;
            return;
        }
        self.cursor += 1;
        self.write_tail(self.cursor - 1, out);
        self.goto(PROMPT.len() + self.cursor, out);
    }

    fn backspace(&mut self, out: &mut dyn Write) {
        if self.cursor > 0 {
            self.move_to(self.cursor - 1, out);
            self.delete(out);
        }
    }

    fn delete(&mut self, out: &mut dyn Write) {
        if self.cursor == self.line.len() {
            return;
        }
        self.remove(self.cursor..self.cursor + 1);
        self.write_tail(self.cursor, out);
        self.put(b' ', out);
        self.goto(PROMPT.len() + self.cursor, out);
    }

    /// Takes bytes out of the line; the cursor stays where it stands in the text.
    fn remove(&mut self, range: core::ops::Range<usize>) {
        self.line.copy_within(range.end.., range.start);
        self.line.truncate(self.line.len() - range.len());
        self.cursor -= self.cursor.saturating_sub(range.start).min(range.len());
        // What was lost is not missed in an empty line.
        self.overlong &= !self.line.is_empty();
    }

    /// Where the word before the cursor begins.
    fn word_start(&self) -> usize {
        let before = &self.line[..self.cursor];
        let word_end = before.iter().rposition(|&byte| byte != b' ');
        let blank = before[..word_end.unwrap_or(0)]
            .iter()
            .rposition(|&byte| byte == b' ');
        match (word_end, blank) {
            (Some(_), Some(blank)) => blank + 1,
            (Some(_), None) | (None, _) => 0,
        }
    }

    /// Shows the line given `back` lines ago, or the one being written.
    fn recall(&mut self, back: usize, out: &mut dyn Write) {
        if back == self.back {
            return;
        }
        if back > 0 && self.history.get(back).is_none() {
            return;
        }
        // What is left of a line that was too long is not kept aside (I2).
        let is_cut = core::mem::take(&mut self.overlong);
        if self.back == 0 && is_cut {
            self.aside.clear();
        } else if self.back == 0 {
            self.aside.clone_from(&self.line);
        }
        let line = match back {
            0 => self.aside.as_slice(),
            _ => self.history.get(back).unwrap_or_default(),
        };
        self.line.clear();
        // No line is longer than a line.
        let _fits = self.line.extend_from_slice(line).is_ok();
        self.back = back;
        self.cursor = self.line.len();
        self.redraw(out);
    }

    fn redraw(&mut self, out: &mut dyn Write) {
        self.hide(out);
        self.show(out);
    }

    fn move_to(&mut self, cursor: usize, out: &mut dyn Write) {
        let cursor = cursor.min(self.line.len());
        if cursor != self.cursor {
            self.cursor = cursor;
            self.goto(PROMPT.len() + cursor, out);
        }
    }

    fn end(&self) -> usize {
        PROMPT.len() + self.line.len()
    }

    /// Writes the line from `first` on; the terminal's cursor stands there.
    fn write_tail(&mut self, first: usize, out: &mut dyn Write) {
        for index in first..self.line.len() {
            self.put(self.line[index], out);
        }
    }

    /// Writes one byte where the terminal's cursor stands.
    fn put(&mut self, byte: u8, out: &mut dyn Write) {
        ignore(out.write_char(char::from(byte)));
        self.at += 1;
        self.wraps = self.at.is_multiple_of(COLUMNS);
    }

    /// Moves the terminal's cursor; nothing when it is there.
    fn goto(&mut self, to: usize, out: &mut dyn Write) {
        if to == self.at {
            return;
        }
        // A row that ends exactly at the last column has no next row until something is written.
        if to == self.end() && to.is_multiple_of(COLUMNS) && to > PROMPT.len() {
            self.goto(to - 1, out);
            self.put(self.line[self.line.len() - 1], out);
            return;
        }
        let row = if self.wraps {
            self.at / COLUMNS - 1
        } else {
            self.at / COLUMNS
        };
        let (to_row, to_column) = (to / COLUMNS, to % COLUMNS);
        if row == to_row && to + 1 == self.at && !self.wraps {
            ignore(out.write_char('\x08'));
        } else {
            if row > to_row {
                ignore(write!(out, "\x1b[{}A", row - to_row));
            } else if row < to_row {
                ignore(write!(out, "\x1b[{}B", to_row - row));
            }
            ignore(out.write_char('\r'));
            if to_column > 0 {
                ignore(write!(out, "\x1b[{to_column}C"));
            }
        }
        self.at = to;
        self.wraps = false;
    }
}
