//! Text for a terminal: line ends, room, and bytes that nobody vouches for.

use core::fmt::{self, Write};

use smoltcp::wire::EthernetAddress;

use super::line::COLUMNS;

/// Bytes from the network as visible ASCII on one line: others as `\xNN`, backslashes doubled.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => f.write_char(char::from(byte))?,
                0..b' ' | 0x7f.. => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

/// A hardware address as people write it, and as `set` takes it: with colons.
#[derive(Clone, Copy, Debug)]
pub struct Mac(pub EthernetAddress);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Counts what is written against the room there is.
pub(super) struct Metered<'a> {
    out: &'a mut dyn Write,
    /// Bytes that may still be written without loss.
    pub(super) room: usize,
}

impl<'a> Metered<'a> {
    /// Writes to `out`, which has room for `room` bytes.
    pub(super) fn new(out: &'a mut dyn Write, room: usize) -> Self {
        Self { out, room }
    }
}

impl Write for Metered<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.room = self.room.saturating_sub(text.len());
        self.out.write_str(text)
    }
}

/// Writes `\n` as CR LF, and whatever else is not visible ASCII as an escape.
pub(super) struct Terminal<'a> {
    out: &'a mut dyn Write,
    in_line: bool,
}

impl<'a> Terminal<'a> {
    /// A terminal at the start of a line.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            in_line: false,
        }
    }

    /// Ends the line if anything stands on it.
    pub(super) fn end_line(&mut self) {
        if self.in_line {
            super::ignore(self.write_char('\n'));
        }
    }
}

impl Write for Terminal<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '\n' => self.out.write_str("\r\n")?,
                ' '..='~' => self.out.write_char(char)?,
                _ => write!(self.out, "{}", char.escape_default())?,
            }
            self.in_line = char != '\n';
        }
        Ok(())
    }
}

/// Cuts lines that are wider than a terminal; the last column then shows `~`.
pub(super) struct Cut<'a> {
    out: &'a mut dyn Write,
    column: usize,
    held: Option<char>,
}

impl<'a> Cut<'a> {
    /// Writes to `out`, at the start of a line.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            column: 0,
            held: None,
        }
    }
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if char == '\n' {
                if let Some(last) = self.held.take() {
                    self.out
                        .write_char(if self.column > COLUMNS { '~' } else { last })?;
                }
                self.column = 0;
                self.out.write_char('\n')?;
                continue;
            }
            self.column += 1;
            if self.column < COLUMNS {
                self.out.write_char(char)?;
            } else if self.column == COLUMNS {
                self.held = Some(char);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_80_columns_passes_and_one_of_81_is_cut() {
        for (columns, last) in [(79, 'x'), (80, 'x'), (81, '~'), (300, '~')] {
            let mut out = std::string::String::new();
            writeln!(Cut::new(&mut out), "{:x>columns$}\nnext", "").unwrap();
            let line = out.lines().next().unwrap();
            assert_eq!(line.len(), columns.min(80));
            assert!(line.ends_with(last), "{columns}");
            assert!(out.ends_with("\nnext\n"));
        }
    }
}
