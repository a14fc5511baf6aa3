//! A terminal of 80 columns, as far as the console uses one; whatever else arrives is a fault.

use super::super::line::COLUMNS;

pub(super) struct Screen {
    rows: Vec<Vec<u8>>,
    row: usize,
    column: usize,
    /// The last column was written: the next character goes to the next row.
    wraps: bool,
    escape: Option<Vec<u8>>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            rows: vec![vec![b' '; COLUMNS]],
            row: 0,
            column: 0,
            wraps: false,
            escape: None,
        }
    }

    pub(super) fn write(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        if let Some(mut sequence) = self.escape.take() {
            sequence.push(byte);
            if sequence.len() > 1 && byte.is_ascii_alphabetic() {
                self.sequence(&sequence);
            } else {
                self.escape = Some(sequence);
            }
            return;
        }
        match byte {
            0x1b => self.escape = Some(Vec::new()),
            b'\r' => (self.column, self.wraps) = (0, false),
            b'\n' => {
                self.wraps = false;
                self.down();
            }
            0x08 => {
                self.wraps = false;
                self.column = self
                    .column
                    .checked_sub(1)
                    .expect("a step back from the first column");
            }
            b' '..=b'~' => {
                if core::mem::take(&mut self.wraps) {
                    self.column = 0;
                    self.down();
                }
                self.rows[self.row][self.column] = byte;
                if self.column + 1 == COLUMNS {
                    self.wraps = true;
                } else {
                    self.column += 1;
                }
            }
            _ => panic!("byte {byte:#x} on the terminal"),
        }
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(vec![b' '; COLUMNS]);
        }
    }

    fn sequence(&mut self, sequence: &[u8]) {
        let text = core::str::from_utf8(sequence).unwrap();
        let text = text.strip_prefix('[').expect("ESC [");
        let (number, last) = text.split_at(text.len() - 1);
        let count = number.parse().unwrap_or(1);
        self.wraps = false;
        match last {
            "A" => self.row = self.row.checked_sub(count).expect("above the screen"),
            // Beyond the last row a terminal stays where it is.
            "B" => self.row = (self.row + count).min(self.rows.len() - 1),
            "C" => self.column = (self.column + count).min(COLUMNS - 1),
            "H" => (self.row, self.column) = (0, 0),
            "J" if number == "2" => self.rows = vec![vec![b' '; COLUMNS]],
            "J" => {
                self.rows.truncate(self.row + 1);
                self.rows[self.row][self.column..].fill(b' ');
            }
            _ => panic!("ESC [{text}"),
        }
    }

    /// Everything shown, without trailing blanks.
    pub(super) fn text(&self) -> String {
        let rows = self.rows.iter();
        let all: Vec<_> = rows
            .map(|row| String::from_utf8_lossy(row).trim_end().to_owned())
            .collect();
        all.join("\n").trim_end().to_owned()
    }

    /// The cursor's place, counted from the start of row `first`.
    pub(super) fn cursor(&self, first: usize) -> usize {
        (self.row - first) * COLUMNS + self.column + usize::from(self.wraps)
    }

    /// Everything from row `first` on, as one text.
    pub(super) fn text_from(&self, first: usize) -> String {
        let all: Vec<u8> = self.rows[first..].concat();
        String::from_utf8_lossy(&all).trim_end().to_owned()
    }

    pub(super) fn row(&self) -> usize {
        self.row
    }
}
