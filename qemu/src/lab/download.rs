//! One download by a real client on a host of the lab, watched until it ends.
//!
//! Units: seconds, Mbit/s (10⁶ bit/s) of body bytes.

use crate::lab::control::{LabStatus, Request, ask};
use crate::lab::run;
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A download that gains no byte for so long hangs.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often progress is shown: on a terminal in place, elsewhere a line each.
const SHOW: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// Lines whose load is shown: what they are called, and their names in the lab.
pub type Lines = &'static [(&'static str, &'static str)];

/// A download to be made.
#[derive(Debug)]
pub struct Job<'a> {
    /// The lab.
    pub state: &'a StateDirectory,
    /// Lines to show.
    pub lines: Lines,
    /// The host that downloads.
    pub host: &'a str,
    /// What the download is called.
    pub title: &'a str,
    /// What is downloaded.
    pub url: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// Where it goes; removed when done.
    pub output: PathBuf,
    /// A shell command with `{url}` and `{output}` instead of curl.
    pub client: Option<&'a str>,
}

/// A finished download.
#[derive(Debug, Clone, PartialEq)]
pub struct Download {
    /// From the start of the client, or of curl's own clock, to the last byte.
    pub seconds: f64,
    /// From the same start to the first byte.
    pub ttfb_ms: f64,
    /// Of what was downloaded.
    pub sha256: String,
}

impl Download {
    /// Goodput of `size` bytes.
    pub fn mbit_s(&self, size: u64) -> f64 {
        size as f64 * 8.0 / self.seconds / 1e6
    }
}

/// What was seen of a client from outside.
struct Watched {
    status: ExitStatus,
    seconds: f64,
    ttfb_ms: f64,
}

impl Job<'_> {
    /// Runs the client until it ends, showing progress.
    ///
    /// # Errors
    /// The client cannot be run, fails, or gains no byte for a minute.
    pub fn run(&self) -> Result<Download> {
        let path = self.output.display().to_string();
        let shell;
        let command: Vec<&str> = match self.client {
            None => {
                // Progress and errors are ours to show; the client's own times go to standard output.
                let format = "%{time_total} %{time_starttransfer}";
                vec![
                    "curl",
                    "--silent",
                    "--show-error",
                    "--fail",
                    "--output",
                    &path,
                    "--write-out",
                    format,
                    self.url,
                ]
            }
            Some(client) => {
                shell = client
                    .replace("{url}", self.url)
                    .replace("{output}", &quoted(&path));
                vec!["sh", "-c", &shell]
            }
        };
        // Files, not pipes: nobody reads while the client talks.
        let (said, complained) = (
            self.output.with_extension("out"),
            self.output.with_extension("err"),
        );
        let file = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        let started = Instant::now();
        let child = run::command_on(self.state, self.host, &command)?
            .stdin(Stdio::null())
            .stdout(file(&said)?)
            .stderr(file(&complained)?)
            .spawn()
            .with_context(|| format!("cannot run the client on {}", self.host))?;
        let watched = self.watch(child, started)?;
        let text = |path: &Path| {
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        };
        if !watched.status.success() {
            let errors = text(&complained);
            let last = errors.lines().rev().find(|line| !line.trim().is_empty());
            let last = last.unwrap_or("without a word");
            bail!(
                "{}: the client failed ({}): {last}",
                self.title,
                watched.status
            );
        }
        let mut download = Download {
            seconds: watched.seconds,
            ttfb_ms: watched.ttfb_ms,
            sha256: sha256_of(&self.output)?,
        };
        if self.client.is_none() {
            let said = text(&said);
            let mut numbers = said.split_whitespace().map(str::parse::<f64>);
            if let (Some(Ok(total)), Some(Ok(first))) = (numbers.next(), numbers.next()) {
                download.seconds = total;
                download.ttfb_ms = first * 1e3;
            }
        }
        // The least that curl shows, for a rate that is a number.
        download.seconds = download.seconds.max(1e-6);
        std::fs::remove_file(&self.output).ok();
        Ok(download)
    }

    fn watch(&self, mut child: Child, started: Instant) -> Result<Watched> {
        let mut progress = Progress::new(self.state, self.lines, self.title, self.size);
        let (mut had, mut gained, mut first) = (0, started, None);
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for the client")? {
                break status;
            }
            let have = std::fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
            if have > had {
                first.get_or_insert_with(Instant::now);
                (had, gained) = (have, Instant::now());
            }
            if gained.elapsed() > STALL_TIMEOUT {
                // The program on the host dies with the child.
                child.kill().ok();
                child.wait().ok();
                progress.end();
                let seconds = STALL_TIMEOUT.as_secs();
                bail!(
                    "{}: no byte for {seconds} s at {had} of {}",
                    self.title,
                    self.size
                );
            }
            progress.show(had, started.elapsed());
            std::thread::sleep(TICK);
        };
        let ended = Instant::now();
        progress.end();
        Ok(Watched {
            status,
            seconds: (ended - started).as_secs_f64(),
            ttfb_ms: (first.unwrap_or(ended) - started).as_secs_f64() * 1e3,
        })
    }
}

/// Shows how a download gets on, and what the lines carry.
struct Progress<'a> {
    state: &'a StateDirectory,
    lines: Lines,
    title: &'a str,
    size: u64,
    shown: Instant,
    last: (u64, Vec<u64>),
    in_place: bool,
}

impl<'a> Progress<'a> {
    fn new(state: &'a StateDirectory, lines: Lines, title: &'a str, size: u64) -> Self {
        Self {
            state,
            lines,
            title,
            size,
            shown: Instant::now(),
            last: (0, line_bytes(state, lines)),
            in_place: std::io::stdout().is_terminal(),
        }
    }

    fn show(&mut self, have: u64, elapsed: Duration) {
        let since = self.shown.elapsed();
        if since < SHOW[usize::from(!self.in_place)] {
            return;
        }
        let lines = line_bytes(self.state, self.lines);
        let rate = |now: u64, before: u64| {
            now.saturating_sub(before) as f64 * 8.0 / since.as_secs_f64() / 1e6
        };
        let bar = usize::try_from(have * 24 / self.size).unwrap_or(24).min(24);
        let mut text = format!(
            "{:<18} [{:<24}] {:>3} % {:>4} s  {:>6.2} Mbit/s ",
            self.title,
            "#".repeat(bar),
            have * 100 / self.size,
            elapsed.as_secs(),
            rate(have, self.last.0),
        );
        for (((name, _), now), before) in self.lines.iter().zip(&lines).zip(&self.last.1) {
            text.push_str(&format!("  {name} {:>5.2}", rate(*now, *before)));
        }
        if self.in_place {
            print!("\r{text}\x1b[K");
            // Progress that cannot be shown is no reason to stop.
            std::io::stdout().flush().ok();
        } else {
            println!("{text}");
        }
        self.shown = Instant::now();
        self.last = (have, lines);
    }

    /// Clears what was shown in place.
    fn end(&mut self) {
        if self.in_place {
            print!("\r\x1b[K");
            // Progress that cannot be shown is no reason to stop.
            std::io::stdout().flush().ok();
        }
    }
}

/// Bytes that came down each of these lines.
fn line_bytes(state: &StateDirectory, lines: Lines) -> Vec<u64> {
    let status = ask::<LabStatus>(state, &Request::Status);
    let bytes = |name: &str| {
        let status = status.as_ref().ok()?;
        let line = status.lines.iter().find(|line| line.name == name)?;
        Some(line.from_b.bytes)
    };
    lines
        .iter()
        .map(|(_, name)| bytes(name).unwrap_or(0))
        .collect()
}

/// A word for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// It cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut from = BufReader::new(File::open(path)?);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_file_has_the_hash_of_the_standard() {
        let path = std::env::temp_dir().join(format!("lab-download-{}", std::process::id()));
        std::fs::write(&path, b"abc").unwrap();
        let hash = sha256_of(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            hash,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
