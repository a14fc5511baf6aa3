//! Faults of our own: a main loop that hangs and a panic, each forced on the console (FAULTS S9, S11).
//!
//! What a reset leaves is read where its owner would: on the console at the next start, in the status, and in the log.

use super::console::Serial;
use super::oracle::same_file;
use super::origins::NGINX;
use super::world::{one_line, until};
use super::{REST_LIMIT, Scenario, Stage};
use crate::{image, isa};
use anyhow::{Context, Result, ensure};

const MIB: u64 = 1 << 20;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "s9: a main loop that hangs is reset by the watchdog, which says where",
        run: s9_hang,
    },
    Scenario {
        name: "s11: a panic resets the router, and its message and place outlive it",
        run: s11_panic,
    },
];

impl Stage {
    /// How often router a has crashed since its power came on.
    fn crashes(&self) -> Result<u32> {
        let status = self.status("a")?;
        let crashes = status.get("crashes").context("no crashes in the status")?;
        crashes.parse().context("crashes")
    }

    /// Has router a crash, and waits for the prompt of its next start; the reason that it gives there behind `start`.
    fn crash(&mut self, command: &str, start: &str) -> Result<String> {
        let mut serial = Serial::attach(self)?;
        serial.types(format!("{command}\r").as_bytes())?;
        serial.past(start).context("the next start")?;
        let reason = serial.past("\r\n")?;
        serial.past("\r\ntandem> ")?;
        self.restarted("a");
        Ok(reason.trim().to_owned())
    }

    /// Router a tells of its last crash, and works as before it.
    fn is_back(&mut self, reason: &str, crashes: u32, place: &str) -> Result<()> {
        let status = self.status("a")?;
        let value = |key: &str| status.get(key).map_or("", String::as_str);
        ensure!(
            value("reset") == reason && value("crashes") == crashes.to_string(),
            "the status says reset={} crashes={}",
            value("reset"),
            value("crashes")
        );
        // As a person reads it, in 80 columns.
        let log = self.world.console("a", "log")?;
        let told = |line: &str| line.contains(reason) && line.contains(place);
        ensure!(
            log.lines().any(told),
            "no {place} in the log: {}",
            one_line(&log)
        );
        self.reaches_origin()?;
        let file = self.serve("1m.bin", MIB)?;
        let out = self.curl("client", &format!("http://{NGINX}/1m.bin"), &[])?;
        same_file(&out, &file)?;
        until("the routers find each other", REST_LIMIT, || {
            let status = self.status("a")?;
            Ok(status
                .iter()
                .any(|(key, value)| key.starts_with("peer.") && value == "up"))
        })
    }
}

fn s9_hang(stage: &mut Stage) -> Result<String> {
    let crashes = stage.crashes()? + 1;
    let reason = stage.crash("crash hang yes", "start: after the watchdog: ")?;
    let place = reason.split_once("stuck at ");
    let place = place.and_then(|(_, rest)| rest.get(..8));
    let place = place.with_context(|| format!("no place: {reason}"))?;
    let address = u64::from_str_radix(place, 16).context("not an address")?;
    let elf = std::fs::read(stage.world.state().file("image.elf"))?;
    let function = isa::function_of(&elf, address)?;
    let function = function.with_context(|| format!("{place} is in no function"))?;
    ensure!(function.ends_with("hang"), "{place} is in {function}");
    stage.is_back("watchdog", crashes, &format!("stuck at {place}"))?;
    Ok(format!("{reason}: {function}"))
}

fn s11_panic(stage: &mut Stage) -> Result<String> {
    let crashes = stage.crashes()? + 1;
    let reason = stage.crash("crash panic yes", "start: after a panic: ")?;
    let message = "asked for on the console at ";
    let place = reason.strip_prefix(message);
    let place = place.and_then(|rest| rest.split(' ').next());
    let place = place.with_context(|| format!("no message or no place: {reason}"))?;
    // The line of the source is the one that panics.
    let (file, line) = place.rsplit_once(':').context("no line")?;
    let line: usize = line.parse().context("line")?;
    let path = image::workspace().join(file);
    let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let source = source.lines().nth(line.saturating_sub(1));
    ensure!(
        source.is_some_and(|source| source.contains("panic!")),
        "{place} is not where it panics: {source:?}"
    );
    stage.is_back("panic", crashes, place)?;
    Ok(reason)
}
