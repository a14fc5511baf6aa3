//! Upgrades of the real image: by TFTP from the client, by XMODEM on the serial line, refused ones, and a power cut.
//!
//! The senders are curl and lrzsz, which know nothing of this firmware. A new image differs from the old one in its
//! version alone, so that what the router says of itself tells which one runs.

use super::world::until;
use super::{Scenario, Stage};
use crate::image;
use crate::machine::{Machine, Sockets};
use anyhow::{Context, Result, bail, ensure};
use firmware::crc::Crc32;
use firmware::store::Layout;
use firmware::upgrade::image::{Board, HEADER_BYTES, Header, Version};
use firmware::upgrade::slot::{PAYLOAD_AT, RECORD_AT, RECORD_BYTES, SlotId};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
/// Attempts to cut the power while a slot is written, which takes a fraction of a second.
const CUTS_MAX: u32 = 4;
/// Between two looks at a flash that is being written.
const LOOK: Duration = Duration::from_millis(2);
const ROUTER: &str = "192.168.1.1";

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "an image by XMODEM is started, and a power cut while it is written leaves the old one",
        run: xmodem,
    },
    Scenario {
        name: "a broken, a cut, a foreign and no image by TFTP are refused with a reason and erase nothing",
        run: refused,
    },
    Scenario {
        name: "an image by TFTP is written, started, and says its version",
        run: tftp,
    },
];

/// The image that the routers run, and one that differs in its version alone.
struct Images {
    old: Vec<u8>,
    new: Vec<u8>,
    version: String,
}

impl Images {
    /// Of what the lab of the stage runs.
    fn make(stage: &Stage) -> Result<Self> {
        let elf = std::fs::read(stage.world.state().file("image.elf"));
        let old = image::pack(&elf.context("the lab has no image")?)?;
        let mut header = header_of(&old)?;
        let name = |version: Version| format!("Tandem {version}").into_bytes();
        // As long as the old one, so that nothing moves.
        let patch = if header.version.patch == 9 { 8 } else { 9 };
        let from = name(header.version);
        header.version.patch = patch;
        let to = name(header.version);
        ensure!(from.len() == to.len(), "versions of different length");
        let mut payload = old[HEADER_BYTES..].to_vec();
        let mut found = 0;
        let mut at = 0;
        while let Some(next) = payload[at..]
            .windows(from.len())
            .position(|window| window == from)
        {
            at += next;
            payload[at..at + to.len()].copy_from_slice(&to);
            found += 1;
        }
        ensure!(found > 0, "the image does not name its version");
        header.payload_crc = Crc32::of(&payload);
        Ok(Self {
            new: [&header.emit()[..], &payload].concat(),
            version: header.version.to_string(),
            old,
        })
    }
}

fn header_of(image: &[u8]) -> Result<Header> {
    Header::parse(image).map_err(|fault| anyhow::anyhow!("{fault}"))
}

impl Stage {
    /// Arms router a and sends it a file by curl: whether curl was content, and what it said.
    fn send(&mut self, file: &str, bytes: &[u8]) -> Result<(bool, String)> {
        let path = self.world.file(file);
        std::fs::write(&path, bytes)?;
        let answer = self.world.console("a", "upgrade tftp")?;
        ensure!(!answer.contains("error"), "{answer}");
        let url = format!("tftp://{ROUTER}/{file}");
        let text = path.display().to_string();
        let command = ["curl", "-sS", "--max-time", "60", "-T", &text, &url];
        let ran = self.world.exec("client", &command, LIMIT)?;
        Ok((ran.success, ran.stderr))
    }
}

fn refused(stage: &mut Stage) -> Result<String> {
    let images = Images::make(stage)?;
    let before = stage.world.console("a", "version")?;
    let flash = std::fs::read(stage.world.flash("a"))?;
    let mut broken = images.new.clone();
    broken[HEADER_BYTES + 100_000] ^= 0x08;
    let mut header = header_of(&images.new)?;
    header.board = Board::WRT54G;
    let foreign = [&header.emit()[..], &images.new[HEADER_BYTES..]].concat();
    let cut = &images.new[..images.new.len() - 1000];
    let mut reasons = Vec::new();
    for (file, bytes, reason) in [
        ("broken.img", &broken[..], "checksum of the image is wrong"),
        ("cut.img", cut, "image too short"),
        ("foreign.img", &foreign, "image is for wrt54g"),
        ("none.img", &[0x7f; 5000][..], "not a Tandem image"),
    ] {
        let (content, said) = stage.send(file, bytes)?;
        ensure!(!content, "{file} was taken");
        let status = stage.world.console("a", "upgrade status")?;
        ensure!(status.contains(reason), "{file}: {status} {said}");
        reasons.push(reason);
    }
    let images = Layout::MALTA.images[0].start as usize..Layout::MALTA.images[1].end as usize;
    ensure!(
        std::fs::read(stage.world.flash("a"))?[images.clone()] == flash[images],
        "the flash has changed"
    );
    stage.world.reset("a", true)?;
    stage.restarted("a");
    let after = stage.world.console("a", "version")?;
    ensure!(after == before, "another image runs: {after}");
    Ok(format!("{}; the old one boots", reasons.join(", ")))
}

fn tftp(stage: &mut Stage) -> Result<String> {
    let images = Images::make(stage)?;
    let (content, said) = stage.send("new.img", &images.new)?;
    ensure!(content, "curl: {said}");
    until("the new image runs", LIMIT, || {
        // It does not answer while it restarts.
        let version = stage.world.console("a", "version").unwrap_or_default();
        Ok(version.contains(&images.version))
    })?;
    // Its settings are in the flash; the lab waits for the prompt.
    stage.world.reset("a", true)?;
    stage.restarted("a");
    let status = stage.world.console("a", "upgrade status")?;
    ensure!(status.contains("from slot B"), "{status}");
    Ok(format!(
        "{} bytes, then version {}",
        images.new.len(),
        images.version
    ))
}

/// A router alone: its console and its flash.
struct Lone {
    machine: Machine,
    sockets: Sockets,
    heard: Vec<u8>,
}

impl Lone {
    fn start(directory: &Path, loader: &Path, flash: &Path) -> Result<Self> {
        let macs = [1, 2, 3].map(|nic| format!("02:00:00:00:00:0{nic}"));
        let messages = File::create(directory.join("lone.log"))?;
        let (machine, sockets) = Machine::start("lone", &macs, loader, flash, messages)?;
        sockets
            .console
            .set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(Self {
            machine,
            sockets,
            heard: Vec::new(),
        })
    }

    /// Reads the console until `text` comes; all that came since the last call.
    fn wait_for(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        loop {
            let said = String::from_utf8_lossy(&self.heard).into_owned();
            if said.contains(text) {
                self.heard.clear();
                return Ok(said);
            }
            if Instant::now() > deadline {
                bail!("no `{text}` on the console, but: {said}");
            }
            match self.sockets.console.read(&mut buffer) {
                Ok(count) if count > 0 => self.heard.extend(&buffer[..count]),
                Ok(_) => bail!("the machine has ended"),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock
                            | std::io::ErrorKind::TimedOut
                            | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("console"),
            }
        }
    }

    fn type_line(&mut self, line: &str) -> Result<()> {
        self.sockets
            .console
            .write_all(format!("{line}\n").as_bytes())?;
        Ok(())
    }

    /// Sends a file with lrzsz, which has the line meanwhile.
    fn xmodem(&mut self, program: &str, file: &Path) -> Result<()> {
        self.type_line("upgrade xmodem")?;
        self.wait_for("upgrade xmodem")?;
        self.sockets.console.set_read_timeout(None)?;
        let line = || -> Result<Stdio> {
            Ok(Stdio::from(OwnedFd::from(
                self.sockets.console.try_clone()?,
            )))
        };
        let status = Command::new(program)
            .args(["-k", "-q"])
            .arg(file)
            .stdin(line()?)
            .stdout(line()?)
            .status()
            .with_context(|| format!("{program}; `cargo lab doctor --install` gets it"))?;
        // The program may leave its end of the line, which is ours too, not blocking.
        self.sockets.console.set_nonblocking(false)?;
        self.sockets
            .console
            .set_read_timeout(Some(Duration::from_millis(100)))?;
        ensure!(status.success(), "{program} ends with {status}");
        Ok(())
    }
}

fn xmodem(stage: &mut Stage) -> Result<String> {
    let images = Images::make(stage)?;
    let directory = stage.world.directory().to_path_buf();
    let (flash, file) = (directory.join("lone.flash"), directory.join("lone.img"));
    let loader = stage.world.state().file("loader.elf");
    std::fs::write(&file, &images.new)?;
    let mut cuts = 0;
    let mut router = loop {
        ensure!(cuts < CUTS_MAX, "the power always went too late");
        cuts += 1;
        std::fs::write(&flash, image::flash_image(&images.old)?)?;
        let mut router = Lone::start(&directory, &loader, &flash)?;
        router.wait_for("tandem> ")?;
        router.xmodem("sx", &file)?;
        // Programming has begun, the record is not there: the power goes.
        let place = Layout::MALTA.images[SlotId::B.index()].start as usize;
        let content = File::open(&flash)?;
        let is_erased = |at: usize, count: usize| -> Result<bool> {
            let mut bytes = vec![0; count];
            content.read_exact_at(&mut bytes, (place + at) as u64)?;
            Ok(bytes.iter().all(|&byte| byte == 0xff))
        };
        let deadline = Instant::now() + LIMIT;
        while is_erased(PAYLOAD_AT, 64)? {
            ensure!(Instant::now() < deadline, "nothing is written");
            std::thread::sleep(LOOK);
        }
        router.machine.stop();
        if is_erased(RECORD_AT, RECORD_BYTES)? {
            break Lone::start(&directory, &loader, &flash)?;
        }
        // A busy machine slept through the writing: from the start.
    };
    let said = router.wait_for("tandem> ")?;
    ensure!(said.contains("starting slot A"), "{said}");
    router.xmodem("sx", &file)?;
    router.wait_for("starting slot B")?;
    router.wait_for("tandem> ")?;
    router.type_line("version")?;
    router.wait_for(&format!("Tandem {}", images.version))?;
    Ok(format!(
        "cut at try {cuts}: slot A; then version {} from slot B",
        images.version
    ))
}
