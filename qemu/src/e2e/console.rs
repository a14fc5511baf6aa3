//! The serial console as a person and as a broken program use it, over the real line of router A.
//!
//! After each rudeness the console answers and a download works; whoever left a session in the middle finds it usable.

use super::oracle::same_file;
use super::origins::NGINX;
use super::world::until;
use super::{Scenario, Stage};
use crate::lab::control::Connection;
use crate::lab::control::Request;
use anyhow::{Context, Result, bail, ensure};
use firmware::budget::CONSOLE_LINE_BYTES_MAX;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const PROMPT: &str = "tandem> ";
/// For what the console says at once; the machine may be busy.
const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "each console command answers in 80 columns",
        run: each_command,
    },
    Scenario {
        name: "each console command refuses a wrong argument in one line",
        run: wrong_arguments,
    },
    Scenario {
        name: "S10: keys, history and completion work over the serial line",
        run: keys,
    },
    Scenario {
        name: "S10: a console line of 4 KiB is refused whole",
        run: long_line,
    },
    Scenario {
        name: "S10: a million characters and binary noise on the console do not touch a download",
        run: noise,
    },
    Scenario {
        name: "S10: lines pasted faster than they are answered are all answered",
        run: pasted,
    },
    Scenario {
        name: "S10: a session left in a ping is found at a prompt",
        run: left,
    },
];

/// Somebody at the serial line.
pub(super) struct Serial {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Serial {
    pub(super) fn attach(stage: &Stage) -> Result<Self> {
        let mut connection = Connection::open(stage.world.state())?;
        connection.ask::<serde_json::Value>(&Request::Attach {
            router: "a".to_owned(),
        })?;
        let (heard, stream) = connection.into_stream();
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        stream.set_write_timeout(Some(SOON))?;
        let mut serial = Self { stream, heard };
        serial.types(b"\x03")?;
        serial.until("^C\r\ntandem> ")?;
        Ok(serial)
    }

    pub(super) fn types(&mut self, bytes: &[u8]) -> Result<()> {
        self.heard.clear();
        self.stream.write_all(bytes).context("the serial line")
    }

    /// What was heard up to the end of `end`; the next call hears what comes behind it.
    pub(super) fn past(&mut self, end: &str) -> Result<String> {
        let text = self.until(end)?;
        let place = self
            .heard
            .windows(end.len())
            .position(|window| window == end.as_bytes());
        if let Some(at) = place {
            self.heard.drain(..at + end.len());
        }
        Ok(text)
    }

    /// What was heard up to the end of `end`.
    fn until(&mut self, end: &str) -> Result<String> {
        let deadline = Instant::now() + SOON;
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.heard).into_owned();
            if let Some(at) = text.find(end) {
                return Ok(text[..at + end.len()].to_owned());
            }
            if Instant::now() >= deadline {
                let last: String = text.chars().rev().take(200).collect();
                let last: String = last.chars().rev().collect();
                bail!(
                    "no `{}` on the console; it ends: {last:?}",
                    end.escape_debug()
                );
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the console is gone"),
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::TimedOut
                            | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("the console"),
            }
        }
    }
}

/// The console answers, and traffic passes.
fn well(stage: &mut Stage) -> Result<()> {
    let answer = stage.world.console("a", "version")?;
    ensure!(answer.starts_with("Tandem "), "{answer}");
    let file = stage.serve("1m.bin", MIB)?;
    let out = stage.curl("client", &format!("http://{NGINX}/1m.bin"), &[])?;
    same_file(&out, &file)
}

fn each_command(stage: &mut Stage) -> Result<String> {
    let commands = [
        "help",
        "version",
        "status",
        "flows",
        "leases",
        "links",
        "counters",
        "log",
        "why",
        "saved",
        "get",
        "peers",
        "peer list",
        "get accel.threshold",
        "counters router",
        "log 3",
        "ping 198.51.100.10 2",
        "set accel.enabled on",
    ];
    let forms = [
        "status", "flows", "leases", "links", "counters", "log", "why", "saved", "get", "peers",
    ];
    let helps = [
        "ping", "save", "defaults", "set", "reboot", "peer", "crash", "flows",
    ];
    let all = commands
        .iter()
        .map(|&command| command.to_owned())
        .chain(forms.iter().map(|form| format!("{form} --kv")))
        .chain(helps.iter().map(|name| format!("help {name}")));
    let (mut count, mut lines) = (0, 0);
    for command in all {
        let answer = stage.world.console("a", &command)?;
        ensure!(!answer.starts_with("error"), "{command}: {answer}");
        for line in answer.lines() {
            // What programs read may be longer than a screen is wide.
            ensure!(
                line.len() <= 80 || command.ends_with("--kv"),
                "{command}: {} columns: {line}",
                line.len()
            );
            let plain = line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            ensure!(plain, "{command}: {line:?}");
            if command.ends_with("--kv") {
                ensure!(line.contains('='), "{command}: {line}");
            }
            lines += 1;
        }
        count += 1;
    }
    let status = stage.world.console("a", "status")?;
    ensure!(status.lines().count() <= 24, "not one screen: {status}");
    let ping = stage.world.console("a", "ping 198.51.100.10 2")?;
    ensure!(ping.contains("2 sent, 2 received"), "{ping}");
    let lan = stage.world.console("a", "ping 192.168.1.250 1")?;
    ensure!(
        lan.contains("1 sent, 0 received") || lan.contains("not sent"),
        "{lan}"
    );
    well(stage)?;
    Ok(format!("{count} commands, {lines} lines"))
}

fn wrong_arguments(stage: &mut Stage) -> Result<String> {
    let before = stage.world.console("a", "get --kv")?;
    let commands = [
        "hlep",
        "help me",
        "version x",
        "status -x",
        "flows x",
        "leases x",
        "links x",
        "counters a b",
        "log 0",
        "why x",
        "ping",
        "ping nobody",
        "ping 198.51.100.10 0",
        "get nothing",
        "set lan.address 1.2.3.4",
        "set nothing 1",
        "save x",
        "defaults",
        "defaults no",
        "peers x",
        "peer",
        "peer add x",
        "peer remove 1.2.3.4",
        "reboot now",
        "crash",
        "crash panic",
    ];
    for command in commands {
        let answer = stage.world.console("a", command)?;
        ensure!(
            answer.starts_with("error: ") && answer.lines().count() == 1,
            "{command}: {answer}"
        );
    }
    ensure!(
        stage.world.console("a", "get --kv")? == before,
        "something changed"
    );
    Ok(format!("{} refusals", commands.len()))
}

fn keys(stage: &mut Stage) -> Result<String> {
    let mut serial = Serial::attach(stage)?;
    // Left, insert, home, delete, end, backspace.
    serial.types(b"xvesion\x1b[D\x1b[D\x1b[D\x1b[Dr\x01\x1b[3~\x05z\x7f\r")?;
    let said = serial.until("\r\ntandem> ")?;
    ensure!(said.contains("\r\nTandem "), "{said:?}");
    serial.types(b"get accel.en\t\r")?;
    let said = serial.until("\r\ntandem> ")?;
    ensure!(said.contains("get accel.enabled \r\non\r\n"), "{said:?}");
    serial.types(b"\x1b[A\x1b[A\r")?;
    let said = serial.until("\r\ntandem> ")?;
    ensure!(
        said.contains("\r\nTandem "),
        "the line before the last: {said:?}"
    );
    serial.types(b"l\t")?;
    let said = serial.until(PROMPT)?;
    ensure!(said.contains("leases  links  log  "), "{said:?}");
    serial.types(b"\x03")?;
    serial.until("^C\r\ntandem> ")?;
    Ok("edited, completed, recalled".to_owned())
}

fn long_line(stage: &mut Stage) -> Result<String> {
    let mut serial = Serial::attach(stage)?;
    serial.types(&[&b"reboot "[..], &[b'x'; 4096], b"\r"].concat())?;
    let said = serial.until("\r\ntandem> ")?;
    ensure!(
        said.contains("\r\nerror: a line has at most 640 bytes\r\n"),
        "{said:?}"
    );
    // The line's own bytes are echoed, the rest is not.
    ensure!(
        said.len() < CONSOLE_LINE_BYTES_MAX + 100,
        "{} bytes of echo",
        said.len()
    );
    drop(serial);
    well(stage)?;
    Ok("refused".to_owned())
}

fn noise(stage: &mut Stage) -> Result<String> {
    let mut serial = Serial::attach(stage)?;
    let (curl, out, file) = stage.begin(NGINX, 4 * MIB, &[])?;
    serial.types(&vec![b'x'; 1_000_000])?;
    // xorshift32: all bytes, without the line ends that would make commands of them.
    let mut state = 0x2545_f491_u32;
    let bytes: Vec<u8> = (0..100_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as u8
        })
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    serial.types(&bytes)?;
    serial.types(b"\x03\x03version\r")?;
    serial.until("Tandem 0")?;
    for command in ["counters\r", "flows\r", "status\r", "log\r"] {
        serial.types(command.as_bytes())?;
        serial.until("\r\ntandem> ")?;
    }
    curl.wait(Duration::from_secs(120))?
        .good()
        .context("curl")?;
    same_file(&out, &file)?;
    drop(serial);
    well(stage)?;
    Ok(format!("{} bytes of noise", 1_000_000 + bytes.len()))
}

fn pasted(stage: &mut Stage) -> Result<String> {
    const LINES: usize = 200;
    let mut serial = Serial::attach(stage)?;
    let mut script = String::new();
    for index in 0..LINES {
        script.push_str(&format!("status --kv\rget nothing-{index}\r"));
    }
    script.push_str("the end\r");
    serial.types(script.as_bytes())?;
    let said =
        serial.until("> the end\r\nerror: no such command; `help` lists them\r\ntandem> ")?;
    let refused = said.matches("error: no such setting").count();
    ensure!(refused == LINES, "{refused} of {LINES} lines were answered");
    let screens = said.matches("\r\nsaved=").count();
    ensure!(screens == LINES, "{screens} of {LINES} screens came");
    ensure!(!said.contains("lost"), "the console lost input or output");
    drop(serial);
    well(stage)?;
    Ok(format!("{} lines", 2 * LINES))
}

fn left(stage: &mut Stage) -> Result<String> {
    let mut serial = Serial::attach(stage)?;
    // Nobody has this address; 3 requests of 2 s each.
    serial.types(b"ping 198.51.100.250 3\r")?;
    serial.until("\r\n")?;
    drop(serial);
    // The lab's own console waits, or ends it.
    well(stage)?;
    let mut serial = Serial::attach(stage)?;
    serial.types(b"ping 198.51.100.250 100\r")?;
    serial.until("seq=1 no answer within 2 s")?;
    serial.types(b"\x03")?;
    let said = serial.until("received\r\ntandem> ")?;
    drop(serial);
    until("router a answers", SOON, || {
        Ok(stage.world.console("a", "version")?.starts_with("Tandem"))
    })?;
    Ok(said.trim().replace(['\r', '\n'], " "))
}
