//! A router's log: defmt frames of the second serial line, with the strings of the image that runs.
//!
//! Follows: defmt 1 (rzcobs frames; a broken frame is skipped to the next end of frame).

use crate::lab::state::StateDirectory;
use anyhow::{Context, Result};
use defmt_decoder::{DecodeError, Table};
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

/// Prints the log of a router; with `follow`, until the lab ends.
///
/// # Errors
/// No such lab or router, or its image has no log strings.
pub fn print(state: &StateDirectory, router: &str, follow: bool) -> Result<()> {
    state.connect()?;
    let elf = std::fs::read(state.file("image.elf")).context("the lab has no image")?;
    let table = Table::parse(&elf)
        .context("cannot read the log strings of the image")?
        .context("the image has no log strings")?;
    let path = state.file(&format!("router-{router}.defmt"));
    let mut file = File::open(&path).with_context(|| format!("no router `{router}`"))?;
    let mut out = std::io::stdout().lock();
    decode(&table, &mut file, &mut out, || {
        follow && state.path().exists() && {
            std::thread::sleep(Duration::from_millis(100));
            true
        }
    })
}

/// Decodes until the end of `from`, and on while `more` says so.
fn decode(
    table: &Table,
    from: &mut impl Read,
    out: &mut impl Write,
    mut more: impl FnMut() -> bool,
) -> Result<()> {
    let mut decoder = table.new_stream_decoder();
    let mut buffer = [0; 16 * 1_024];
    loop {
        let count = from.read(&mut buffer).context("cannot read the log")?;
        if count == 0 {
            if !more() {
                return Ok(());
            }
            continue;
        }
        decoder.received(&buffer[..count]);
        loop {
            let written = match decoder.decode() {
                Ok(frame) => writeln!(out, "{}", frame.display(false)),
                Err(DecodeError::UnexpectedEof) => break,
                // A reset in the middle of a frame; the decoder goes on behind it.
                Err(DecodeError::Malformed) if table.encoding().can_recover() => {
                    writeln!(out, "(a broken frame)")
                }
                Err(DecodeError::Malformed) => break,
            };
            if written.is_err() {
                // The reader has enough, as `head` has.
                return Ok(());
            }
        }
    }
}

/// The last lines of a router's log, for an error report; empty if there is none.
pub fn tail(state: &StateDirectory, router: &str, lines: usize) -> Vec<String> {
    let read = || -> Result<Vec<String>> {
        let elf = std::fs::read(state.file("image.elf"))?;
        let table = Table::parse(&elf)?.context("no strings")?;
        let mut text = Vec::new();
        let mut file = File::open(state.file(&format!("router-{router}.defmt")))?;
        decode(&table, &mut file, &mut text, || false)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let all: Vec<_> = text.lines().map(str::to_owned).collect();
        Ok(all[all.len().saturating_sub(lines)..].to_vec())
    };
    read().unwrap_or_default()
}
