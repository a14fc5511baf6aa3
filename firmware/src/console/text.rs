//! Text for a terminal: line ends, and bytes that nobody vouches for.

use core::fmt::{self, Write};

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
