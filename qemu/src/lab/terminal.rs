//! An interactive console: the terminal in raw mode, joined to a router's serial line. Ctrl-] leaves.

use crate::lab::control::{Connection, Request};
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::Value;
use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::net::Shutdown;
use std::time::Duration;

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// How long the answer to piped input may be silent before the console is left.
const SILENCE: Duration = Duration::from_secs(1);

/// The terminal's settings, put back when dropped.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> Result<Self> {
        let before = tcgetattr(stdin()).context("the terminal")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        tcsetattr(stdin(), SetArg::TCSANOW, &self.before).ok();
    }
}

/// Joins standard input and output to the console of a router.
///
/// # Errors
/// No such lab or router.
pub fn attach(state: &StateDirectory, router: &str) -> Result<()> {
    let mut connection = Connection::open(state)?;
    let _: Value = connection.ask(&Request::Attach {
        router: router.to_owned(),
    })?;
    let (first, mut stream) = connection.into_stream();
    let interactive = stdin().is_terminal();
    if interactive {
        eprintln!("console of router {router}; Ctrl-] leaves");
    }
    let raw = interactive.then(Raw::enter).transpose()?;
    stdout().write_all(&first)?;
    stdout().flush()?;
    let mut from_router = stream.try_clone().context("the connection to the lab")?;
    let printer = std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok(count) = from_router.read(&mut buffer) {
            let mut out = stdout().lock();
            if count == 0
                || out
                    .write_all(&buffer[..count])
                    .and_then(|()| out.flush())
                    .is_err()
            {
                return;
            }
        }
    });
    let mut buffer = [0; 256];
    while !printer.is_finished() {
        let count = stdin().read(&mut buffer).unwrap_or(0);
        let typed = &buffer[..count];
        let until = typed.iter().position(|byte| interactive && *byte == ESCAPE);
        let bytes = &typed[..until.unwrap_or(count)];
        // A file's lines end as a person's would.
        let bytes: Vec<u8> = if interactive {
            bytes.to_vec()
        } else {
            bytes
                .iter()
                .map(|byte| if *byte == b'\n' { b'\r' } else { *byte })
                .collect()
        };
        if stream.write_all(&bytes).is_err() || until.is_some() || count == 0 {
            break;
        }
    }
    if !interactive {
        std::thread::sleep(SILENCE);
    }
    stream.shutdown(Shutdown::Both).ok();
    printer.join().ok();
    drop(raw);
    if interactive {
        eprintln!();
    }
    Ok(())
}
