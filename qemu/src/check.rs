//! All checks that CI runs, in order, from fast to slow.
//!
//! A failed stage does not stop the next one: one run tells all there is to tell. Only what a stage needs (an image to
//! boot) fails with it. Every stage has a limit after which its programs are ended, so that a run always ends.
//!
//! Standard output ends with one line, `N passed, M failed`: tests where a stage has tests, else stages.

use crate::{doctor, e2e, fuzz, image};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Arguments of `lab test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the stages whose name contains this; if there is none, only the tests whose name contains it.
    filter: Option<String>,
    /// Only name the stages and the end-to-end scenarios.
    #[arg(long)]
    list: bool,
}

/// The stages in the order of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Everything needed is there, or gets installed.
    Setup,
    /// The source has rustfmt's form.
    Format,
    /// Clippy has nothing to say.
    Lints,
    /// Unit, property and model tests on the host.
    Host,
    /// The fuzz targets: their corpora, and a bounded number of inputs more.
    Fuzz,
    /// The neighbourhood in virtual time.
    Sim,
    /// The image builds without a warning and suits the CPU.
    Image,
    /// The image in QEMU with real programs around it.
    EndToEnd,
}

/// What came of a stage.
#[derive(Debug, Default)]
struct Outcome {
    passed: u32,
    /// Names of what failed.
    failed: Vec<String>,
}

impl Outcome {
    /// A stage that is one check.
    fn single(name: &str, success: bool) -> Self {
        if success {
            Self {
                passed: 1,
                failed: Vec::new(),
            }
        } else {
            Self {
                passed: 0,
                failed: vec![name.to_owned()],
            }
        }
    }
}

/// Neighbourhoods that are simulated: some minutes on two cores.
const SIM_SEEDS: &str = "20000";

const STAGES: [Stage; 8] = [
    Stage::Setup,
    Stage::Format,
    Stage::Lints,
    Stage::Host,
    Stage::Fuzz,
    Stage::Sim,
    Stage::Image,
    Stage::EndToEnd,
];

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Format => "format",
            Self::Lints => "lints",
            Self::Host => "host",
            Self::Fuzz => "fuzz",
            Self::Sim => "sim",
            Self::Image => "image",
            Self::EndToEnd => "e2e",
        }
    }

    /// After this its programs are ended; generous, for a machine that is busy and has compiled nothing yet. (The
    /// scenarios of the last stage have limits of their own.)
    const fn limit(self) -> Duration {
        let minutes = match self {
            Self::Format => 1,
            Self::Setup | Self::Fuzz | Self::Lints | Self::Image => 8,
            Self::Sim | Self::Host | Self::EndToEnd => 20,
        };
        Duration::from_secs(60 * minutes)
    }

    /// Whether a filter that names no stage still runs it, passing the filter on to its tests.
    const fn has_named_tests(self) -> bool {
        match self {
            Self::Host | Self::EndToEnd => true,
            Self::Setup | Self::Format | Self::Lints | Self::Fuzz | Self::Sim | Self::Image => {
                false
            }
        }
    }

    fn run(self, filter: Option<&str>) -> anyhow::Result<Outcome> {
        let success = match self {
            Self::Setup => {
                doctor::ensure_all()?;
                true
            }
            Self::Format => self.cargo(&["fmt", "--all", "--check"])?.0,
            Self::Lints => {
                let lints = [
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--quiet",
                ];
                let mut arguments = lints.to_vec();
                arguments.extend(["--", "--deny", "warnings"]);
                self.cargo(&arguments)?.0
            }
            Self::Host => return self.host_tests(filter),
            Self::Fuzz => {
                let (passed, failed) = fuzz::check()?;
                return Ok(Outcome { passed, failed });
            }
            Self::Sim => {
                let mut lab = Command::new(std::env::current_exe()?);
                lab.args(["sim", "--seeds", SIM_SEEDS]);
                watch(&mut lab, self.limit(), |line| println!("{line}"))?
            }
            Self::Image => {
                check_image()?;
                true
            }
            Self::EndToEnd => {
                let results = e2e::run(&std::env::current_exe()?, filter);
                return Ok(Outcome {
                    passed: results.passed,
                    failed: results.failed,
                });
            }
        };
        Ok(Outcome::single(self.name(), success))
    }

    /// Runs the host's cargo, showing what it prints; gives whether it succeeded, and its lines.
    fn cargo(self, arguments: &[&str]) -> anyhow::Result<(bool, Vec<String>)> {
        let mut cargo = Command::new("cargo");
        image::clean_cargo_environment(&mut cargo);
        cargo.current_dir(image::workspace()).args(arguments);
        let mut lines = Vec::new();
        let success = watch(&mut cargo, self.limit(), |line| {
            println!("{line}");
            lines.push(line.to_owned());
        })?;
        Ok((success, lines))
    }

    fn host_tests(self, filter: Option<&str>) -> anyhow::Result<Outcome> {
        let mut arguments = vec![
            "test",
            "--workspace",
            "--locked",
            "--quiet",
            "--no-fail-fast",
        ];
        arguments.extend(filter);
        let (success, lines) = self.cargo(&arguments)?;
        let mut outcome = count_tests(&lines);
        if !success && outcome.failed.is_empty() {
            outcome
                .failed
                .push("host: the tests did not compile".to_owned());
        }
        Ok(outcome)
    }
}

/// Sums the results that test programs print.
fn count_tests(lines: &[String]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut failed = 0;
    for line in lines {
        if let Some(counts) = line.trim().strip_prefix("test result: ") {
            let number = |word: &str| -> u32 {
                let words: Vec<&str> = counts.split([' ', '.', ';']).collect();
                words
                    .windows(2)
                    .find(|pair| pair[1] == word)
                    .and_then(|pair| pair[0].parse().ok())
                    .unwrap_or(0)
            };
            outcome.passed += number("passed");
            failed += number("failed");
        }
        // The list of failures at the end of a program's output: `    module::tests::name`.
        if let Some(name) = line.strip_prefix("    ")
            && !name.starts_with(' ')
            && name.contains("::")
            && !name.contains(' ')
            && !outcome.failed.iter().any(|known| known == name)
        {
            outcome.failed.push(name.to_owned());
        }
    }
    // The names are for people; the count is what the programs said.
    let failed = usize::try_from(failed).unwrap_or(usize::MAX);
    while outcome.failed.len() < failed {
        outcome.failed.push("a test without a name".to_owned());
    }
    outcome.failed.truncate(failed);
    outcome
}

/// The image builds, our crates give no warning for it, a router takes it, and every instruction of it is the CPU's.
fn check_image() -> anyhow::Result<()> {
    let built = image::build_verbose(false)?;
    image::pack(&std::fs::read(&built.elf)?)?;
    built.check_instructions()?;
    for warning in &built.warnings {
        print!("{warning}");
    }
    if !built.warnings.is_empty() {
        bail!("the image compiles with {} warnings", built.warnings.len());
    }
    Ok(())
}

/// Runs `lab test`.
///
/// # Errors
/// A check failed.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.list {
        for stage in STAGES {
            println!("{}", stage.name());
        }
        for scenario in e2e::scenarios() {
            println!("e2e: {}", scenario.name);
        }
        return Ok(());
    }
    let filter = args.filter.as_deref();
    let started = Instant::now();
    let mut table = Vec::new();
    for (stage, inner) in selected(filter) {
        println!("== {}", stage.name());
        let stage_started = Instant::now();
        let outcome = stage.run(inner).unwrap_or_else(|error| Outcome {
            passed: 0,
            failed: vec![format!("{}: {error:#}", stage.name())],
        });
        table.push((stage, outcome, stage_started.elapsed()));
    }
    println!("\nstage      passed  failed   seconds");
    let mut passed = 0;
    let mut failed = 0;
    for (stage, outcome, elapsed) in &table {
        println!(
            "{:9} {:>7} {:>7} {:>9}",
            stage.name(),
            outcome.passed,
            outcome.failed.len(),
            elapsed.as_secs()
        );
        passed += outcome.passed;
        failed += outcome.failed.len();
    }
    println!("total {:>37}", started.elapsed().as_secs());
    for name in table.iter().flat_map(|(_, outcome, _)| &outcome.failed) {
        println!("failed: {name}");
    }
    if passed == 0 && failed == 0 {
        bail!(
            "no stage and no test is called {}",
            filter.unwrap_or_default()
        );
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        // The line above is the last one, on a terminal and in a log that has both outputs.
        std::process::exit(1);
    }
    Ok(())
}

/// The stages to run, each with the filter for its own tests.
fn selected(filter: Option<&str>) -> Vec<(Stage, Option<&str>)> {
    let Some(filter) = filter else {
        return STAGES.map(|stage| (stage, None)).to_vec();
    };
    let by_name: Vec<_> = STAGES
        .into_iter()
        .filter(|stage| stage.name().contains(filter))
        .map(|stage| (stage, None))
        .collect();
    if !by_name.is_empty() {
        return by_name;
    }
    STAGES
        .into_iter()
        .filter(|stage| stage.has_named_tests())
        .map(|stage| (stage, Some(filter)))
        .collect()
}

/// Runs a program, hands over each line of its standard output, and ends it with all its children at the limit.
///
/// # Errors
/// It did not start, or the limit came first.
fn watch(
    command: &mut Command,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> anyhow::Result<bool> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| name.clone())?;
    let deadline = Instant::now() + limit;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let (sender, lines) = mpsc::channel();
    // Ends when the last program that holds the pipe ends.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => on_line(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(child.wait()?.success()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                end_family(child.id());
                child.wait()?;
                bail!("{name} was ended after {} s", limit.as_secs());
            }
        }
    }
}

/// Ends a process and everything it started.
fn end_family(root: u32) {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // `id (name) state parent …`; the name may hold anything, so read after its last parenthesis.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut family = vec![root];
    let mut index = 0;
    while index < family.len() {
        family.extend(children.get(&family[index]).into_iter().flatten());
        index += 1;
    }
    for id in family {
        if let Ok(id) = i32::try_from(id) {
            let id = nix::unistd::Pid::from_raw(id);
            // Gone already is as good as ended.
            let _gone = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn results_of_several_programs_are_summed() {
        let outcome = count_tests(&lines(
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             failures:\n\n    stitch::tests::a_hole\n    nat::tests::b\n\n\
             test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        ));
        assert_eq!(outcome.passed, 15);
        assert_eq!(outcome.failed, ["stitch::tests::a_hole", "nat::tests::b"]);
    }

    #[test]
    fn a_filter_that_names_a_stage_runs_all_of_it_and_another_goes_to_the_tests() {
        assert_eq!(selected(Some("lint")), [(Stage::Lints, None)]);
        assert_eq!(
            selected(Some("checksum")),
            [
                (Stage::Host, Some("checksum")),
                (Stage::EndToEnd, Some("checksum"))
            ]
        );
        assert_eq!(selected(None).len(), STAGES.len());
    }

    #[test]
    fn a_program_that_does_not_end_is_ended_with_its_children() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo up; sleep 600 & sleep 600"]);
        let mut seen = Vec::new();
        let result = watch(&mut shell, Duration::from_millis(300), |line| {
            seen.push(line.to_owned());
        });
        assert!(result.is_err());
        assert_eq!(seen, ["up"]);
    }

    #[test]
    fn a_programs_failure_is_told_from_its_success() {
        let limit = Duration::from_secs(20);
        assert!(watch(&mut Command::new("true"), limit, |_| ()).is_ok_and(|success| success));
        assert!(watch(&mut Command::new("false"), limit, |_| ()).is_ok_and(|success| !success));
        assert!(watch(&mut Command::new("no-such-program"), limit, |_| ()).is_err());
    }
}
