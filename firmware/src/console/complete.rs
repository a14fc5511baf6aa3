//! Completion of the word before the cursor.
//!
//! One candidate is written out with a space, several as far as they agree; when they agree no
//! further they are listed below the line.
//!
//! Bounds: every candidate is looked at twice.

use core::fmt::Write;

use heapless::{String, Vec};

use super::command::completions;
use super::ignore;
use super::line::{COLUMNS, Editor};
use super::text::Terminal;
use crate::budget::CONSOLE_LINE_BYTES_MAX;

/// Words before the one that is completed; behind more there is nothing to complete.
const BEFORE_MAX: usize = 4;

/// What candidates have in common.
struct Common {
    text: String<32>,
    count: usize,
}

/// Completes the word before the cursor, or lists what it could be.
pub(super) fn complete(editor: &mut Editor, out: &mut dyn Write) {
    // The line changes below.
    let mut copy: String<CONSOLE_LINE_BYTES_MAX> = String::new();
    if copy.push_str(editor.before_cursor()).is_err() {
        return;
    }
    let (words, word) = match copy.rfind(' ') {
        Some(blank) => copy.split_at(blank + 1),
        None => ("", copy.as_str()),
    };
    let mut before: Vec<&str, BEFORE_MAX> = Vec::new();
    for word in words.split_ascii_whitespace() {
        if before.push(word).is_err() {
            return;
        }
    }
    let common = common_of(&before, word);
    let rest = common.text.get(word.len()..).unwrap_or("");
    match common.count {
        0 => {}
        1 => {
            editor.insert_text(rest, out);
            editor.insert_text(" ", out);
        }
        _ if !rest.is_empty() => editor.insert_text(rest, out),
        _ => list(editor, &before, word, out),
    }
}

fn common_of(before: &[&str], word: &str) -> Common {
    let mut common = Common {
        text: String::new(),
        count: 0,
    };
    completions(before, &mut |candidate| {
        if !candidate.starts_with(word) {
            return;
        }
        if common.count == 0 {
            // No name of ours is longer; one that were would not be completed.
            if common.text.push_str(candidate).is_err() {
                return;
            }
        } else {
            let same = common
                .text
                .bytes()
                .zip(candidate.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            common.text.truncate(same);
        }
        common.count += 1;
    });
    common
}

fn list(editor: &mut Editor, before: &[&str], word: &str, out: &mut dyn Write) {
    editor.hide(out);
    let mut terminal = Terminal::new(out);
    let mut column = 0;
    completions(before, &mut |candidate| {
        if !candidate.starts_with(word) {
            return;
        }
        let width = candidate.len() + 2;
        if column + width > COLUMNS {
            ignore(terminal.write_char('\n'));
            column = 0;
        }
        column += width;
        ignore(write!(terminal, "{candidate}  "));
    });
    terminal.end_line();
    editor.show(out);
}
