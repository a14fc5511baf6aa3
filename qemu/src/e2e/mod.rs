//! The image among real programs: what a person would try on a finished router, each with an independent judge.
//!
//! All scenarios share one running lab as long as each leaves it as found; after a failure the next gets a fresh one.
//! Every wait has a limit, so that a hanging download is a failed scenario and not a hanging run. A scenario that
//! promises acceleration asks the origin's log for the bytes that line B carried: a download that is silently plain
//! fails. Files, logs and captures of a run stay in `target/e2e`.

mod console;
mod crash;
mod everyday;
mod hostile;
mod keep;
mod numbers;
mod oracle;
mod origins;
mod plain;
mod programs;
mod ranges;
mod router;
mod scenarios;
mod three;
mod upgrade;
mod world;

use crate::image;
use crate::lab::console::is_refusal;
use crate::lab::run;
use anyhow::{Context, Result, anyhow};
use origins::Origins;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use world::{World, until};

/// What each scenario gets: the lab, its origins, and the files they serve.
pub struct Stage {
    world: World,
    origins: Origins,
    files: PathBuf,
    /// When each router started, by its own account.
    started: BTreeMap<&'static str, Instant>,
}

/// A named promise and the function that checks it; the words it gives say what was seen.
pub struct Scenario {
    /// A sentence.
    pub name: &'static str,
    run: fn(&mut Stage) -> Result<String>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Results {
    /// How many scenarios held.
    pub passed: u32,
    /// Name and reason of each that did not.
    pub failed: Vec<String>,
}

/// Options of the lab that all scenarios share: lines as slow as the demo's, so that the router is never the limit.
const LAB: &[&str] = &[];
/// After so many labs that did not start none is started any more: it takes a minute each.
const STARTS_MAX: u32 = 2;
const ROUTERS: [&str; 2] = ["a", "b"];
/// How many of the slowest scenarios are named after a run.
const SLOWEST_SHOWN: usize = 10;
/// How long after a scenario a router may still hold something of it.
const REST_LIMIT: Duration = Duration::from_secs(20);
/// How far apart a router's clock and the host's may run within one lab.
const CLOCK_SLACK: Duration = Duration::from_secs(3);

/// Every scenario, in the order of a run.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    [
        router::SCENARIOS,
        programs::SCENARIOS,
        everyday::SCENARIOS,
        plain::SCENARIOS,
        ranges::SCENARIOS,
        scenarios::SCENARIOS,
        keep::SCENARIOS,
        three::SCENARIOS,
        console::SCENARIOS,
        hostile::SCENARIOS,
        crash::SCENARIOS,
        numbers::SCENARIOS,
        upgrade::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}

/// Runs the scenarios whose name contains `filter`, on labs that the program `lab` starts.
#[must_use]
pub fn run(program: &Path, filter: Option<&str>) -> Results {
    run::set_program(program);
    let mut results = Results::default();
    let mut stage = None;
    let mut starts_failed = 0;
    let mut durations = Vec::new();
    let directory = image::workspace().join("target/e2e");
    let image = match image::build() {
        Ok(image) => image,
        Err(error) => {
            results.failed.push(format!("image: {error:#}"));
            return results;
        }
    };
    for scenario in
        scenarios().filter(|scenario| filter.is_none_or(|part| scenario.name.contains(part)))
    {
        let started = Instant::now();
        let ready = match stage.take() {
            Some(used) => Ok(used),
            None if starts_failed == STARTS_MAX => Err(anyhow!("there is no lab to run it in")),
            None => Stage::open(program, &image, &directory).inspect_err(|_| starts_failed += 1),
        };
        let outcome = ready.and_then(|mut fresh| {
            let words = (scenario.run)(&mut fresh).and_then(|words| {
                fresh.at_rest()?;
                Ok(words)
            })?;
            Ok((fresh, words))
        });
        let seconds = started.elapsed().as_secs();
        durations.push((seconds, scenario.name));
        match outcome {
            Ok((used, words)) => {
                println!("ok      {seconds:>4} s  {}: {words}", scenario.name);
                stage = Some(used);
                results.passed += 1;
            }
            Err(error) => {
                println!("FAILED  {seconds:>4} s  {}: {error:#}", scenario.name);
                results.failed.push(format!("{}: {error:#}", scenario.name));
            }
        }
    }
    print!("{}", slowest(durations));
    results
}

/// The slowest scenarios of a run, slowest last; nothing where all are seen at a glance anyway.
fn slowest(mut durations: Vec<(u64, &str)>) -> String {
    if durations.len() <= SLOWEST_SHOWN {
        return String::new();
    }
    durations.sort();
    let all: u64 = durations.iter().map(|(seconds, _)| seconds).sum();
    let rest = durations.len() - SLOWEST_SHOWN;
    let mut text = format!(
        "the slowest of {} scenarios, {all} s in all\n",
        durations.len()
    );
    for (seconds, name) in &durations[rest..] {
        text.push_str(&format!("{seconds:>12} s  {name}\n"));
    }
    text
}

impl Stage {
    /// Starts the lab and the origins, and writes the files.
    fn open(program: &Path, image: &Path, directory: &Path) -> Result<Self> {
        let files = directory.join("files");
        std::fs::create_dir_all(&files).with_context(|| directory.display().to_string())?;
        let mut world = World::up(program, image, directory, world::NAME, LAB)?;
        let origins = Origins::start(&mut world, &files)?;
        let stage = Self {
            world,
            origins,
            files,
            started: BTreeMap::new(),
        };
        until("the routers find each other", REST_LIMIT, || {
            let status = stage.status("a")?;
            Ok(status
                .iter()
                .any(|(key, value)| key.starts_with("peer.") && value == "up"))
        })?;
        Ok(stage)
    }

    /// Both routers are where they were: the same boot, no exchange, nothing lent, every block free.
    fn at_rest(&mut self) -> Result<()> {
        for router in ROUTERS {
            until(&format!("router {router} is at rest"), REST_LIMIT, || {
                let status = self.status(router)?;
                let value = |key: &str| status.get(key).map_or("", String::as_str);
                Ok(value("exchanges") == "0"
                    && value("lender.lendings") == "0"
                    && value("blocks_free") == value("blocks_total"))
            })
            .with_context(|| {
                let counters = self
                    .world
                    .console(router, "status --kv")
                    .unwrap_or_default();
                world::one_line(&counters)
            })?;
            self.stack_has_room(router)?;
            self.same_boot(router)?;
        }
        Ok(())
    }

    /// Since its start a router has never used more than half of its stack (FAULTS S8).
    fn stack_has_room(&self, router: &str) -> Result<()> {
        let counters = self.world.console(router, "counters machine")?;
        let bytes = |name: &str| -> Result<u64> {
            let value = counters
                .lines()
                .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
            let value = value.with_context(|| format!("no {name}: {counters}"))?;
            value.parse().with_context(|| counters.clone())
        };
        let (deepest, all) = (
            bytes("machine.stack-deepest")?,
            bytes("machine.stack-bytes")?,
        );
        anyhow::ensure!(
            deepest > 0 && 2 * deepest <= all,
            "router {router} has used {deepest} of its {all} bytes of stack"
        );
        Ok(())
    }

    /// The router has not started again since it was looked at last; `restarted` forgets what it said then.
    fn same_boot(&mut self, router: &'static str) -> Result<()> {
        let status = self.status(router)?;
        let uptime = status.get("uptime_ms").and_then(|ms| ms.parse().ok());
        let uptime = Duration::from_millis(uptime.context("no uptime in the status")?);
        let started = Instant::now()
            .checked_sub(uptime)
            .context("an uptime before time")?;
        let before = *self.started.entry(router).or_insert(started);
        anyhow::ensure!(
            started < before + CLOCK_SLACK,
            "router {router} has restarted by itself"
        );
        Ok(())
    }

    /// A router was switched off and on by the test.
    fn restarted(&mut self, router: &str) {
        self.started.remove(router);
    }

    /// Sets a router's setting.
    fn set(&self, router: &str, key: &str, value: &str) -> Result<()> {
        let command = format!("set {key} {value}");
        let answer = self.world.console(router, &command)?;
        anyhow::ensure!(!answer.lines().any(is_refusal), "`{command}`: {answer}");
        Ok(())
    }

    /// What a router says of its state, by key.
    fn status(&self, router: &str) -> Result<BTreeMap<String, String>> {
        let answer = self.world.console(router, "status --kv")?;
        Ok(answer
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }

    /// The path of a file of `size` bytes that the origins serve under its name; the same bytes in every run.
    fn serve(&self, name: &str, size: u64) -> Result<PathBuf> {
        let path = self.files.join(name);
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            return Ok(path);
        }
        let mut bytes = Vec::new();
        // xorshift64: no two blocks alike, so that a moved block is a wrong one.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size;
        while (bytes.len() as u64) < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(usize::try_from(size)?);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_run_the_slowest_scenarios_are_named_slowest_last() {
        let few = [(70, "a"), (3, "b")];
        assert_eq!(slowest(few.to_vec()), "");
        let many = (0..SLOWEST_SHOWN as u64 + 2).map(|seconds| (100 - seconds, "x"));
        let said = slowest(many.chain([(1, "quick")]).collect());
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), SLOWEST_SHOWN + 1);
        assert_eq!(lines[0], "the slowest of 13 scenarios, 1135 s in all");
        assert_eq!(lines[SLOWEST_SHOWN].trim(), "100 s  x");
        assert!(!said.contains("quick"));
    }
}
