//! Starts QEMU with the loader and a flash, and gives its NICs, serial lines and switch to the lab.
//!
//! All of these are socket pairs that QEMU inherits: no path, no port, nothing to connect to or to clean up.
//! Machine: Malta, 4Kc, 16 MiB; virtio NICs for LAN, WAN and air at PCI devices 0x12, 0x13 and 0x14 without offloads;
//! serial 0 the console, serial 1 the log. The flash is a file of 4 MiB that QEMU writes to: it outlives resets and QEMU.

use crate::lab::host::die_with_parent;
use crate::lab::signals::inherit_raw;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// QEMU's program for the router's processor.
pub const QEMU: &str = "qemu-system-mipsel";

/// Names and PCI devices of the NICs.
const NICS: [(&str, &str); 3] = [("lan", "0x12"), ("wan", "0x13"), ("air", "0x14")];

/// What QEMU's side would do for a driver that the router does not ask for.
const OFFLOADS_OFF: &str = "csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,\
                            host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,mrg_rxbuf=off";

/// The ends of a machine that the lab joins to its lines.
#[derive(Debug)]
pub struct Sockets {
    /// LAN, WAN, air, each frame behind its length in four bytes, big endian.
    pub nics: [UnixStream; 3],
    /// Serial 0.
    pub console: UnixStream,
    /// Serial 1.
    pub log: UnixStream,
}

/// Where a machine's instructions are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The plugin: package `counter`, built.
    pub plugin: PathBuf,
    /// The file it counts into.
    pub file: PathBuf,
}

/// The file that the plugin counts into, as package `counter` describes it: numbers, and behind them the table of blocks.
const COUNT_NUMBERS: usize = 4;
const COUNT_BYTES: usize = (COUNT_NUMBERS + 2 * (1 << 16)) * 8;

impl Count {
    fn prepare(&self) -> Result<()> {
        std::fs::write(&self.file, vec![0; COUNT_BYTES])
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// What has been counted by now.
    ///
    /// # Errors
    /// There is no such file, or no machine has counted into it.
    pub fn read(&self) -> Result<Counted> {
        let mut bytes = [0; COUNT_NUMBERS * 8];
        File::open(&self.file)
            .and_then(|mut file| file.read_exact(&mut bytes))
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let number = |at: usize| -> Option<u64> {
            let bytes = bytes.get(at * 8..)?.first_chunk()?;
            Some(u64::from_ne_bytes(*bytes))
        };
        match (number(0), number(1), number(2)) {
            (Some(instructions), Some(slept), Some(woke)) if instructions > 0 => Ok(Counted {
                instructions,
                is_asleep: slept > woke,
            }),
            _ => bail!("nothing was counted into {}", self.file.display()),
        }
    }

    /// Instructions executed by now in each translated block, by the address of its first.
    ///
    /// # Errors
    /// There is no such file.
    pub fn blocks(&self) -> Result<BTreeMap<u64, u64>> {
        let bytes = std::fs::read(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))?;
        let (numbers, _) = bytes.as_chunks();
        let numbers: Vec<u64> = numbers.iter().copied().map(u64::from_ne_bytes).collect();
        let (table, _) = numbers.get(COUNT_NUMBERS..).unwrap_or_default().as_chunks();
        let used = table.iter().filter(|[address, _]| *address != 0);
        Ok(used.map(|[address, count]| (*address, *count)).collect())
    }
}

/// What a plugin has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Instructions since the machine's start.
    pub instructions: u64,
    /// The processor waits for an interrupt.
    pub is_asleep: bool,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    child: Mutex<Child>,
    qmp: Mutex<Qmp>,
    /// Process number of QEMU.
    pub pid: u32,
}

impl Machine {
    /// Starts QEMU with `loader`, which starts what it finds in the file `flash`. Its messages go to `messages`. It
    /// ends with the calling thread.
    ///
    /// # Errors
    /// No QEMU, or it does not start.
    pub fn start(
        name: &str,
        macs: &[String; 3],
        loader: &Path,
        flash: &Path,
        messages: File,
    ) -> Result<(Self, Sockets)> {
        Self::start_with(name, macs, loader, flash, messages, None)
    }

    /// As [`Self::start`]; a plugin counts the processor's instructions.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        name: &str,
        macs: &[String; 3],
        loader: &Path,
        flash: &Path,
        messages: File,
        count: Option<&Count>,
    ) -> Result<(Self, Sockets)> {
        let mut theirs = Vec::new();
        let mut pair = || -> Result<(UnixStream, RawFd)> {
            let (our, their) = UnixStream::pair().context("no socket pair")?;
            let number = their.as_raw_fd();
            theirs.push(their);
            Ok((our, number))
        };
        let (console, console_fd) = pair()?;
        let (log, log_fd) = pair()?;
        let (qmp, qmp_fd) = pair()?;
        let nics = [pair()?, pair()?, pair()?];

        let mut command = Command::new(QEMU);
        command
            .args(["-name", &format!("router-{name}")])
            .args([
                "-M",
                "malta",
                "-cpu",
                "4Kc",
                "-m",
                "16",
                "-nodefaults",
                "-vga",
                "none",
                "-display",
                "none",
            ])
            .arg("-kernel")
            .arg(loader)
            .arg("-drive")
            .arg(format!(
                "if=pflash,format=raw,file={}",
                // A comma in a value is doubled.
                flash.display().to_string().replace(',', ",,")
            ))
            .args([
                "-chardev",
                &format!("socket,id=console,fd={console_fd}"),
                "-serial",
                "chardev:console",
            ])
            .args([
                "-chardev",
                &format!("socket,id=log,fd={log_fd}"),
                "-serial",
                "chardev:log",
            ])
            .args([
                "-chardev",
                &format!("socket,id=qmp,fd={qmp_fd}"),
                "-mon",
                "chardev=qmp,mode=control",
            ]);
        if let Some(count) = count {
            count.prepare()?;
            let doubled = |path: &Path| path.display().to_string().replace(',', ",,");
            let (plugin, file) = (doubled(&count.plugin), doubled(&count.file));
            command.args(["-plugin", &format!("{plugin},out={file}")]);
        }
        for (((nic, device), mac), (_, fd)) in NICS.iter().zip(macs).zip(&nics) {
            command
                .args([
                    "-netdev",
                    &format!("stream,id={nic},server=off,addr.type=fd,addr.str={fd}"),
                ])
                .arg("-device")
                .arg(format!(
                    "virtio-net-pci,addr={device},netdev={nic},mac={mac},romfile=,{OFFLOADS_OFF}"
                ));
        }
        let errors = messages
            .try_clone()
            .context("cannot share the message file")?;
        command.stdin(Stdio::null()).stdout(messages).stderr(errors);
        die_with_parent(&mut command);
        let inherited: Vec<RawFd> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: only fcntl is called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for fd in &inherited {
                    inherit_raw(*fd)?;
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| {
            format!("cannot run {QEMU}; get it with `cargo lab doctor --install`")
        })?;
        drop(theirs);
        let pid = child.id();
        let qmp = Qmp::new(qmp)
            .with_context(|| format!("{QEMU} did not start; see router-{name}.log"))?;
        let machine = Self {
            child: Mutex::new(child),
            qmp: Mutex::new(qmp),
            pid,
        };
        let [lan, wan, air] = nics;
        let sockets = Sockets {
            nics: [lan.0, wan.0, air.0],
            console,
            log,
        };
        Ok((machine, sockets))
    }

    /// Switches the machine off and on.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn reset(&self) -> Result<()> {
        self.execute("system_reset").map(drop)
    }

    /// Gives QEMU a command of its control protocol (QMP) without arguments.
    ///
    /// # Errors
    /// The machine is gone, or refuses.
    pub fn execute(&self, command: &str) -> Result<Value> {
        let mut qmp = self
            .qmp
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        qmp.execute(command)
    }

    /// Whether QEMU runs, as a word or sentence.
    pub fn state(&self) -> String {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => format!("QEMU ended: {status}"),
            Err(error) => format!("unknown: {error}"),
        }
    }

    /// Ends the machine.
    pub fn stop(&self) {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // There is nothing in it to save. Both fail only when it has ended.
        child.kill().ok();
        child.wait().ok();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// QEMU's control protocol: a JSON object per line.
#[derive(Debug)]
struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    fn new(stream: UnixStream) -> Result<Self> {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .context("QMP")?;
        let mut qmp = Self {
            reader: BufReader::new(stream.try_clone().context("QMP")?),
            writer: stream,
        };
        let greeting = qmp.read()?;
        if greeting.get("QMP").is_none() {
            bail!("not QMP: {greeting}");
        }
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self
            .reader
            .read_line(&mut line)
            .context("QEMU does not answer")?;
        if count == 0 {
            bail!("QEMU has ended");
        }
        serde_json::from_str(&line).context("not an answer of QEMU")
    }

    fn execute(&mut self, command: &str) -> Result<Value> {
        let request = json!({ "execute": command });
        self.writer
            .write_all(format!("{request}\n").as_bytes())
            .context("QEMU has ended")?;
        loop {
            let answer = self.read()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses `{command}`: {error}");
            }
            // Else an event, which nobody waits for.
        }
    }
}
