//! The serial console of a router: what it said lately, and commands with their answers.
//!
//! Units: offsets in bytes since the lab started.
//! Invariants: the scrollback holds the last `SCROLLBACK_BYTES` at most; one command at a time.

use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the console prints when it waits for a command.
pub const PROMPT: &[u8] = b"tandem> ";

/// Kept of what the console said.
const SCROLLBACK_BYTES: usize = 256 * 1024;

/// How long a console that shows no prompt is left alone before a new line is asked for.
const NUDGE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Scrollback {
    bytes: VecDeque<u8>,
    /// Offset of the first byte held.
    start: u64,
    closed: bool,
}

impl Scrollback {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(SCROLLBACK_BYTES);
        self.bytes.drain(..surplus);
        self.start += surplus as u64;
    }

    fn since(&self, offset: u64) -> Vec<u8> {
        let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.iter().skip(skip).copied().collect()
    }
}

/// A console.
#[derive(Debug)]
pub struct Console {
    scrollback: Mutex<Scrollback>,
    grown: Condvar,
    writer: Mutex<UnixStream>,
    commands: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the next prompt begins: at the start of a line, with the line end before it.
pub fn find_prompt(bytes: &[u8]) -> Option<usize> {
    let mut line_start = true;
    for (index, byte) in bytes.iter().enumerate() {
        if line_start && bytes[index..].starts_with(PROMPT) {
            return Some(index);
        }
        line_start = matches!(byte, b'\n' | b'\r');
    }
    None
}

/// How a line begins that the console tells by itself; it is no part of an answer.
const NOTICE: &str = "* ";

/// Where a command's answer begins: behind its echo, which stands where the command was typed or, written anew
/// below a notice, behind a prompt.
pub fn find_answer(bytes: &[u8], command: &str) -> Option<usize> {
    let echo = [command.as_bytes(), b"\r\n"].concat();
    (0..bytes.len()).find_map(|at| {
        let here = bytes[at..].starts_with(&echo) && (at == 0 || bytes[..at].ends_with(PROMPT));
        here.then_some(at + echo.len())
    })
}

/// Whether a line of an answer says that the command was refused.
pub fn is_refusal(line: &str) -> bool {
    line.starts_with("error: ")
}

/// The answer in what came between a command and the next prompt: without the echo and notices, with plain line ends.
pub fn answer(bytes: &[u8], command: &str) -> String {
    let text = String::from_utf8_lossy(bytes)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let mut lines = text.split('\n').peekable();
    if lines
        .peek()
        .is_some_and(|first| first.trim() == command.trim())
    {
        lines.next();
    }
    let text = lines
        .filter(|line| !line.starts_with(NOTICE))
        .collect::<Vec<_>>()
        .join("\n");
    text.trim_matches('\n').to_owned()
}

impl Console {
    /// A console on the serial line `stream`; [`Console::listen`] must be called on another thread.
    ///
    /// # Errors
    /// The socket cannot be shared.
    pub fn new(stream: &UnixStream) -> Result<Self> {
        Ok(Self {
            scrollback: Mutex::default(),
            grown: Condvar::new(),
            writer: Mutex::new(stream.try_clone().context("cannot share a serial line")?),
            commands: Mutex::new(()),
        })
    }

    /// Reads the serial line until it closes.
    pub fn listen(&self, mut stream: UnixStream) {
        let mut buffer = [0; 4_096];
        loop {
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => lock(&self.scrollback).add(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    lock(&self.scrollback).closed = true;
                    self.grown.notify_all();
                    return;
                }
            }
            self.grown.notify_all();
        }
    }

    /// The offset behind all that was said.
    pub fn end(&self) -> u64 {
        lock(&self.scrollback).end()
    }

    /// What was said since `offset`, as far as it is held.
    pub fn since(&self, offset: u64) -> Vec<u8> {
        lock(&self.scrollback).since(offset)
    }

    /// Waits for something said since `offset`; empty after `timeout`, `None` once the line is closed.
    pub fn wait(&self, offset: u64, timeout: Duration) -> Option<(Vec<u8>, u64)> {
        let scrollback = lock(&self.scrollback);
        let (scrollback, _) = self
            .grown
            .wait_timeout_while(scrollback, timeout, |state| {
                state.end() <= offset && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        if scrollback.end() <= offset && scrollback.closed {
            return None;
        }
        Some((scrollback.since(offset), scrollback.end()))
    }

    /// Types bytes.
    ///
    /// # Errors
    /// The machine is gone, or takes nothing for 5 s.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut writer = lock(&self.writer);
        writer
            .set_write_timeout(Some(Duration::from_secs(5)))
            .context("the serial line")?;
        writer
            .write_all(bytes)
            .context("the console takes no input: the machine hangs or is gone")
    }

    /// Waits for a prompt after `offset`; gives what was said before it.
    ///
    /// # Errors
    /// None came in time, with the last line that was said; or the machine is gone.
    pub fn wait_prompt(&self, offset: u64, timeout: Duration) -> Result<Vec<u8>> {
        self.wait_for(offset, timeout, |said| {
            find_prompt(said).map(|at| said[..at].to_vec())
        })
    }

    /// Waits for the answer to a command typed at `offset`; a prompt before its echo belongs to a notice.
    fn wait_answer(&self, offset: u64, command: &str, timeout: Duration) -> Result<Vec<u8>> {
        self.wait_for(offset, timeout, |said| {
            let said = &said[find_answer(said, command)?..];
            find_prompt(said).map(|at| said[..at].to_vec())
        })
    }

    /// Waits until `find` finds something in what was said since `offset`.
    fn wait_for(
        &self,
        offset: u64,
        timeout: Duration,
        find: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let deadline = Instant::now() + timeout;
        let mut seen = offset;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((_, end)) = self.wait(seen, left) else {
                bail!("the machine is gone; see `cargo lab status`");
            };
            seen = end;
            let said = self.since(offset);
            if let Some(found) = find(&said) {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let text = String::from_utf8_lossy(&said).into_owned();
                let last = text.lines().rev().find(|line| !line.trim().is_empty());
                bail!(
                    "no prompt within {} s; the console's last line: {}",
                    timeout.as_secs(),
                    last.unwrap_or("(nothing)")
                );
            }
        }
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// No prompt in time, before or after; the machine is gone.
    pub fn command(&self, command: &str, timeout: Duration) -> Result<String> {
        if command.contains(['\r', '\n']) {
            bail!("a console command is one line");
        }
        let _one_at_a_time = lock(&self.commands);
        let end = self.end();
        let recent = self.since(end.saturating_sub(PROMPT.len() as u64 + 1));
        if !recent.ends_with(PROMPT) && self.wait_prompt(end, NUDGE).is_err() {
            // Somebody has left half a line: Ctrl-C drops it.
            let from = self.end();
            self.write(b"\x03")?;
            self.wait_prompt(from, timeout)?;
        }
        let from = self.end();
        self.write(format!("{command}\r").as_bytes())?;
        let said = self.wait_answer(from, command, timeout)?;
        Ok(answer(&said, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_prompt_is_one_at_the_start_of_a_line_only() {
        assert_eq!(find_prompt(b"tandem> "), Some(0));
        assert_eq!(find_prompt(b"boot\r\ntandem> "), Some(6));
        assert_eq!(find_prompt(b"say tandem> \r\ntandem> "), Some(14));
        assert_eq!(find_prompt(b"say tandem> "), None);
        assert_eq!(find_prompt(b"\r\ntandem>"), None);
        assert_eq!(find_prompt(b""), None);
    }

    #[test]
    fn an_answer_is_without_echo_and_carriage_returns() {
        assert_eq!(
            answer(
                b"show links\r\nuplink 8 Mbit/s\r\npeer 8 Mbit/s\r\n",
                "show links"
            ),
            "uplink 8 Mbit/s\npeer 8 Mbit/s"
        );
        assert_eq!(answer(b"set x 1\r\n", "set x 1"), "");
        assert_eq!(answer(b"ok\r\n", "set x 1"), "ok");
        assert_eq!(answer(b"\r\nset x 1\r\nok\r\n", ""), "set x 1\nok");
        assert_eq!(answer(b"", "set x 1"), "");
    }

    #[test]
    fn an_answer_begins_behind_the_echo_also_when_a_notice_came_between() {
        let find = |bytes: &[u8]| find_answer(bytes, "version");
        assert_eq!(find(b"version\r\nTandem"), Some(9));
        assert_eq!(find(b"vers"), None);
        assert_eq!(find(b"\r\x1b[J* saved\r\ntandem> version\r\n"), Some(30));
        assert_eq!(find(b"ver\r\x1b[J* saved\r\ntandem> version\r\n"), Some(33));
        assert_eq!(find(b"no version\r\n"), None);
        assert_eq!(answer(b"* lost\r\nTandem 0.1.0\r\n", ""), "Tandem 0.1.0");
    }

    #[test]
    fn the_scrollback_keeps_the_last_bytes_and_their_offsets() {
        let mut scrollback = Scrollback::default();
        for _ in 0..3 {
            scrollback.add(&[b'.'; SCROLLBACK_BYTES / 2]);
        }
        scrollback.add(b"end");
        assert_eq!(scrollback.bytes.len(), SCROLLBACK_BYTES);
        assert_eq!(scrollback.end(), 3 * (SCROLLBACK_BYTES as u64 / 2) + 3);
        assert_eq!(scrollback.since(scrollback.end() - 3), b"end");
        assert_eq!(scrollback.since(0).len(), SCROLLBACK_BYTES);
    }

    /// A console whose machine echoes, drops its line at Ctrl-C, answers each line with `you said LINE`, and is silent
    /// after `hang`.
    fn with_machine() -> Arc<Console> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let console = Arc::new(Console::new(&ours).unwrap());
        std::thread::spawn({
            let console = Arc::clone(&console);
            move || console.listen(ours)
        });
        std::thread::spawn(move || {
            theirs.write_all(b"boot\r\ntandem> ").unwrap();
            let (mut line, mut byte) = (Vec::new(), [0]);
            while theirs.read_exact(&mut byte).is_ok() {
                theirs
                    .write_all(if byte == *b"\r" { b"\r\n" } else { &byte })
                    .unwrap();
                if byte == *b"\x03" {
                    line.clear();
                    theirs.write_all(b"^C\r\ntandem> ").unwrap();
                    continue;
                }
                if byte != *b"\r" {
                    line.push(byte[0]);
                    continue;
                }
                let said = String::from_utf8(std::mem::take(&mut line)).unwrap();
                if said == "hang" {
                    continue;
                }
                theirs
                    .write_all(format!("you said {said}\r\ntandem> ").as_bytes())
                    .unwrap();
            }
        });
        console
    }

    #[test]
    fn a_command_gives_its_answer_and_the_next_one_its_own() {
        let console = with_machine();
        console.wait_prompt(0, Duration::from_secs(10)).unwrap();
        let timeout = Duration::from_secs(10);
        assert_eq!(console.command("first", timeout).unwrap(), "you said first");
        assert_eq!(
            console.command("second", timeout).unwrap(),
            "you said second"
        );
        assert!(console.command("two\rlines", timeout).is_err());
    }

    #[test]
    fn half_a_line_of_somebody_else_does_not_spoil_a_command() {
        let console = with_machine();
        console.wait_prompt(0, Duration::from_secs(10)).unwrap();
        let from = console.end();
        console.write(b"half").unwrap();
        while console.since(from) != b"half" {
            std::thread::yield_now();
        }
        assert_eq!(
            console.command("whole", Duration::from_secs(10)).unwrap(),
            "you said whole"
        );
    }

    #[test]
    fn a_hanging_console_is_an_error_that_shows_its_last_line() {
        let console = with_machine();
        console.wait_prompt(0, Duration::from_secs(10)).unwrap();
        let error = console
            .command("hang", Duration::from_millis(50))
            .unwrap_err();
        assert!(
            format!("{error:#}").contains("last line: hang"),
            "{error:#}"
        );
    }
}
