//! What commands and daemon say to each other: a JSON object per line over the control socket.
//!
//! A request is answered by any number of `Progress` and one `Done` or `Failed`. After `Attach` has been answered the
//! connection carries the console's bytes; a `Capture` with `hold` ends when the connection does.

use crate::lab::fabric::{LineStatus, Side};
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// What a command asks of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Wait until all routers have booted and configure them.
    Boot,
    /// All there is to know: [`LabStatus`].
    Status,
    /// The number of process 1 of a host.
    Host {
        /// Its name.
        name: String,
    },
    /// One console command: its answer.
    Command {
        /// The router's name.
        router: String,
        /// A line.
        command: String,
        /// How long to wait for the answer, ms.
        timeout_ms: u64,
    },
    /// The console itself.
    Attach {
        /// The router's name.
        router: String,
    },
    /// Change a line, or only show it: [`LineStatus`].
    Link {
        /// The line's name.
        line: String,
        /// One direction only.
        from: Option<Side>,
        /// As `lab::shape::apply` reads them.
        changes: Vec<String>,
    },
    /// Start a capture.
    Capture {
        /// The line's name.
        line: String,
        /// Absolute.
        file: PathBuf,
        /// Where.
        side: Side,
        /// Whether it ends with the connection or with a line on it, and then says how many frames it has.
        hold: bool,
    },
    /// Stop all captures of a line: how many frames they have.
    CaptureStop {
        /// The line's name.
        line: String,
    },
    /// Switch a router off and on.
    Reset {
        /// The router's name.
        router: String,
        /// Whether to wait for its prompt and configure it again.
        configure: bool,
    },
    /// Stop everything.
    Down,
}

/// What the daemon answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// It is getting on; one line for a person.
    Progress(String),
    /// Done; what was asked for.
    Done(Value),
    /// Not done, and why.
    Failed(String),
}

/// What is known of a router.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RouterStatus {
    /// `a` or `b`.
    pub name: String,
    /// Process number of QEMU.
    pub pid: u32,
    /// Whether QEMU runs.
    pub state: String,
    /// Whether the console has shown a prompt and taken its configuration since it was last switched on.
    pub configured: bool,
}

/// What is known of a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    /// `client`, `client-b`, `stranger` or `origin`.
    pub name: String,
    /// Its process 1.
    pub pid: i32,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<String>,
}

/// What is known of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// Process number of the daemon.
    pub pid: u32,
    /// Since when, s.
    pub uptime_s: u64,
    /// The routers.
    pub routers: Vec<RouterStatus>,
    /// The hosts.
    pub hosts: Vec<HostStatus>,
    /// The lines.
    pub lines: Vec<LineStatus>,
}

/// Writes a message as one line.
///
/// # Errors
/// The other side is gone.
pub fn write_message(stream: &mut UnixStream, message: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    stream
        .write_all(line.as_bytes())
        .context("the other side is gone")
}

/// Reads a message; `None` at the end of the connection.
///
/// # Errors
/// Not a message of this kind: daemon and command are of different versions.
pub fn read_message<T: DeserializeOwned>(reader: &mut impl BufRead) -> Result<Option<T>> {
    let mut line = String::new();
    if reader
        .read_line(&mut line)
        .context("the connection to the lab")?
        == 0
    {
        return Ok(None);
    }
    let message = serde_json::from_str(&line).context(
        "the lab was started by another version; `cargo lab down` it and start it again",
    )?;
    Ok(Some(message))
}

/// A connection to a running lab.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// No such lab runs.
    pub fn open(state: &StateDirectory) -> Result<Self> {
        let writer = state.connect()?;
        Ok(Self {
            reader: BufReader::new(writer.try_clone().context("the connection to the lab")?),
            writer,
        })
    }

    /// Sends a request without waiting for its answer.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn send(&mut self, request: &impl Serialize) -> Result<()> {
        write_message(&mut self.writer, request)
    }

    /// Waits for the first progress of a request.
    ///
    /// # Errors
    /// The daemon's own instead, or it is gone.
    pub fn progress(&mut self) -> Result<()> {
        match read_message::<Reply>(&mut self.reader)? {
            Some(Reply::Progress(_)) => Ok(()),
            Some(Reply::Failed(text)) => bail!(text),
            None | Some(Reply::Done(_)) => bail!("the lab ended"),
        }
    }

    /// Waits for the answer of a request; `progress` sees what comes before.
    ///
    /// # Errors
    /// The daemon's own, or it is gone.
    pub fn answer<T: DeserializeOwned>(&mut self, mut progress: impl FnMut(&str)) -> Result<T> {
        loop {
            match read_message::<Reply>(&mut self.reader)? {
                None => bail!("the lab ended"),
                Some(Reply::Progress(text)) => progress(&text),
                Some(Reply::Failed(text)) => bail!(text),
                Some(Reply::Done(value)) => {
                    return serde_json::from_value(value)
                        .context("the lab was started by another version");
                }
            }
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T> {
        self.send(request)?;
        self.answer(|_| {})
    }

    /// The socket itself, after `Attach`; bytes that came behind the answer first.
    pub fn into_stream(self) -> (Vec<u8>, UnixStream) {
        (self.reader.buffer().to_vec(), self.writer)
    }
}

/// Asks the lab one thing.
///
/// # Errors
/// No such lab runs; the daemon's own.
pub fn ask<T: DeserializeOwned>(state: &StateDirectory, request: &Request) -> Result<T> {
    Connection::open(state)?.ask(request)
}
