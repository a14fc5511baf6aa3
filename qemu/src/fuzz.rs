//! `lab fuzz`: the fuzz targets of `firmware/fuzz` under libFuzzer, and their bounded run in `lab test`.
//!
//! The program is built here, with the host's own toolchain: the coverage counters are a pass of LLVM's that stable
//! rustc passes on, and libFuzzer itself is C++ that its crate compiles. It has a build directory of its own, so that
//! nothing else is ever compiled with counters.
//!
//! A bounded run (`lab test`) starts from the committed corpus and a fixed seed, counts runs and not seconds, and keeps
//! nothing. A long run (`lab fuzz`) goes on from what earlier long runs found, in `target/fuzz/corpus`. An input that
//! breaks a target is kept in `target/fuzz/findings`.

use crate::image;
use anyhow::{Context, bail};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Arguments of `lab fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the targets whose name contains this.
    target: Option<String>,
    /// Inputs to run a target, the corpus included.
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u64>,
    /// How long to run a target instead.
    #[arg(long)]
    seconds: Option<u64>,
    /// Where libFuzzer's random numbers start; from the clock unless given.
    #[arg(long)]
    seed: Option<u32>,
    /// Run this one input and say what it does; needs a target's whole name.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "seconds", "seed"])]
    input: Option<PathBuf>,
    /// Afterwards replace the committed corpus by the smallest that reaches as much.
    #[arg(long)]
    keep: bool,
    /// Only name the targets.
    #[arg(long)]
    list: bool,
}

/// A target as it is run.
struct Target {
    name: &'static str,
    /// Inputs in `lab test`: some ten seconds of one core.
    runs: u64,
    /// Longest input, bytes.
    len_max: u64,
}

const TARGETS: [Target; 7] = [
    Target {
        name: "http_request",
        runs: 60_000,
        len_max: 1024,
    },
    Target {
        name: "http_reply",
        runs: 60_000,
        len_max: 1024,
    },
    Target {
        name: "content_range",
        runs: 200_000,
        len_max: 96,
    },
    Target {
        name: "peer",
        runs: 60_000,
        len_max: 1024,
    },
    Target {
        name: "conntrack",
        runs: 600,
        len_max: 512,
    },
    Target {
        name: "extents",
        runs: 2_500,
        len_max: 512,
    },
    Target {
        name: "sender",
        runs: 20_000,
        len_max: 512,
    },
];

/// Inputs of a long run if nothing else is asked for.
const RUNS_LONG: u64 = 10_000_000;
/// A committed corpus is small: bytes of a file, and of all files of a target.
const FILE_BYTES_MAX: u64 = 4096;
const TARGET_BYTES_MAX: u64 = 60 * 1024;
/// An input that takes longer hangs, seconds: thousands of times what any takes.
const INPUT_SECONDS_MAX: u32 = 20;
/// Memory of one program, MiB.
const MEMORY_MIB_MAX: u32 = 1024;
/// Lines of a failed run that are shown.
const LINES_SHOWN: usize = 40;

/// What makes LLVM count: edges, by a byte each in the code's own section, and operands of comparisons.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

fn source(name: &str) -> PathBuf {
    image::workspace().join("firmware/fuzz").join(name)
}

fn work(name: &str) -> PathBuf {
    image::workspace().join("target/fuzz").join(name)
}

/// What is run of each target.
#[derive(Debug, Clone, Copy)]
enum Amount {
    /// The target's own number, from the committed corpus and a fixed seed; nothing is kept.
    Bounded,
    Runs(u64),
    Seconds(u64),
}

/// What came of one target.
struct Ran {
    name: &'static str,
    /// The figures on a line, or why it failed.
    result: Result<String, String>,
}

/// Runs `lab fuzz`.
///
/// # Errors
/// The targets do not build, or one was broken.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.list {
        for target in &TARGETS {
            println!("{}", target.name);
        }
        return Ok(());
    }
    let filter = args.target.as_deref().unwrap_or_default();
    let targets: Vec<&Target> = match TARGETS.iter().find(|target| target.name == filter) {
        Some(target) => vec![target],
        None => TARGETS
            .iter()
            .filter(|target| target.name.contains(filter))
            .collect(),
    };
    if targets.is_empty() {
        bail!("no target is called {filter}; `cargo lab fuzz --list` names them");
    }
    let program = build()?;
    if let Some(input) = &args.input {
        let [target] = targets[..] else {
            bail!("--input needs a target");
        };
        let mut fuzz = command(&program, target)?;
        if !fuzz.arg(input).status()?.success() {
            bail!("{} is broken by {}", target.name, input.display());
        }
        return Ok(());
    }
    let amount = match (args.runs, args.seconds) {
        (Some(runs), _) => Amount::Runs(runs),
        (None, Some(seconds)) => Amount::Seconds(seconds),
        (None, None) => Amount::Runs(RUNS_LONG),
    };
    let ran = run_targets(&program, &targets, amount, args.seed)?;
    if args.keep {
        for (target, ran) in targets.iter().zip(&ran) {
            if ran.result.is_ok() {
                keep(&program, target)?;
            }
        }
    }
    let broken: Vec<&str> = ran
        .iter()
        .filter(|ran| ran.result.is_err())
        .map(|ran| ran.name)
        .collect();
    if !broken.is_empty() {
        bail!("broken: {}", broken.join(", "));
    }
    Ok(())
}

/// The stage of `lab test`: the committed corpus and a bounded number of inputs for each target. Gives how many targets
/// held, and the names of the others.
///
/// # Errors
/// The targets do not build.
pub(crate) fn check() -> anyhow::Result<(u32, Vec<String>)> {
    let program = build()?;
    let targets: Vec<&Target> = TARGETS.iter().collect();
    let ran = run_targets(&program, &targets, Amount::Bounded, None)?;
    let failed: Vec<String> = ran
        .iter()
        .filter(|ran| ran.result.is_err())
        .map(|ran| format!("fuzz: {}", ran.name))
        .collect();
    Ok(((ran.len() - failed.len()) as u32, failed))
}

/// Builds the program of all targets with coverage counters; its path.
fn build() -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    image::clean_cargo_environment(&mut cargo);
    // A target that is named keeps the flags from build scripts.
    let host = host_triple()?;
    let directory = work("build");
    cargo
        .current_dir(image::workspace())
        .args(["build", "--quiet", "--locked", "--package", "fuzz"])
        .args(["--bin", "fuzz", "--features", "libfuzzer"])
        .args(["--profile", "fuzz", "--target", &host])
        .arg("--target-dir")
        .arg(&directory)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"))
        .stdin(Stdio::null());
    if !cargo.status().context("cargo")?.success() {
        bail!("the fuzz targets did not build");
    }
    Ok(directory.join(host).join("fuzz/fuzz"))
}

fn host_triple() -> anyhow::Result<String> {
    let mut rustc = Command::new("rustc");
    image::clean_cargo_environment(&mut rustc);
    let output = rustc.current_dir(image::workspace()).arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names a host")
}

fn command(program: &Path, target: &Target) -> anyhow::Result<Command> {
    let findings = work("findings");
    std::fs::create_dir_all(&findings)?;
    let mut fuzz = Command::new(program);
    fuzz.env("FUZZ_TARGET", target.name)
        .arg(format!(
            "-artifact_prefix={}/{}-",
            findings.display(),
            target.name
        ))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg(format!("-max_len={}", target.len_max))
        .stdin(Stdio::null());
    Ok(fuzz)
}

/// Runs targets, as many at once as there are processors, and prints a line for each.
fn run_targets(
    program: &Path,
    targets: &[&Target],
    amount: Amount,
    seed: Option<u32>,
) -> anyhow::Result<Vec<Ran>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let waiting: Mutex<VecDeque<&Target>> = Mutex::new(targets.iter().copied().collect());
    let done: Mutex<Vec<Ran>> = Mutex::new(Vec::new());
    println!("target          inputs  coverage  features  corpus  inputs/s  memory MiB");
    std::thread::scope(|scope| {
        for _ in 0..workers.min(targets.len()) {
            scope.spawn(|| {
                while let Some(target) = waiting.lock().ok().and_then(|mut all| all.pop_front()) {
                    let result = run_target(program, target, amount, seed)
                        .unwrap_or_else(|error| Err(format!("{error:#}")));
                    match &result {
                        Ok(figures) => println!("{:13} {figures}", target.name),
                        Err(why) => println!("{:13} BROKEN\n{why}", target.name),
                    }
                    if let Ok(mut done) = done.lock() {
                        done.push(Ran {
                            name: target.name,
                            result,
                        });
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    let place = |ran: &Ran| targets.iter().position(|target| target.name == ran.name);
    done.sort_by_key(place);
    if done.len() != targets.len() {
        bail!("not every target was run");
    }
    Ok(done)
}

fn run_target(
    program: &Path,
    target: &Target,
    amount: Amount,
    seed: Option<u32>,
) -> anyhow::Result<Result<String, String>> {
    let mut fuzz = command(program, target)?;
    fuzz.arg("-print_final_stats=1");
    let words = source("words").join(target.name);
    if words.exists() {
        fuzz.arg(format!("-dict={}", words.display()));
    }
    match amount {
        Amount::Bounded => fuzz
            .arg(format!("-runs={}", target.runs))
            .arg(format!("-seed={}", seed.unwrap_or(1))),
        Amount::Runs(runs) => fuzz.arg(format!("-runs={runs}")),
        Amount::Seconds(seconds) => fuzz.arg(format!("-max_total_time={seconds}")),
    };
    if let (Some(seed), Amount::Runs(_) | Amount::Seconds(_)) = (seed, amount) {
        fuzz.arg(format!("-seed={seed}"));
    }
    let found = match amount {
        Amount::Bounded => work("bounded").join(target.name),
        Amount::Runs(_) | Amount::Seconds(_) => work("corpus").join(target.name),
    };
    if matches!(amount, Amount::Bounded) && found.exists() {
        std::fs::remove_dir_all(&found)?;
    }
    std::fs::create_dir_all(&found)?;
    // What is found goes into the first directory; the committed one is only read.
    fuzz.arg(&found).arg(source("corpus").join(target.name));
    let mut child = fuzz
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("the fuzz targets")?;
    let mut tail: VecDeque<String> = VecDeque::new();
    let mut figures = Figures::default();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            figures.read(&line);
            tail.push_back(line);
            if tail.len() > LINES_SHOWN {
                tail.pop_front();
            }
        }
    }
    if child.wait()?.success() {
        return Ok(Ok(figures.line()));
    }
    let lines: Vec<String> = tail.into();
    Ok(Err(lines.join("\n")))
}

/// What libFuzzer says of itself at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    inputs: u64,
    coverage: u64,
    features: u64,
    corpus: u64,
    speed: u64,
    memory_mib: u64,
}

impl Figures {
    /// Takes what a line of libFuzzer's tells: `#N DONE cov: C ft: F corp: N/…`, or `stat::NAME: N`.
    fn read(&mut self, line: &str) {
        let number = |text: &str| -> u64 {
            let digits = text.trim().split(|c: char| !c.is_ascii_digit()).next();
            digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
        };
        if let Some((name, value)) = line
            .strip_prefix("stat::")
            .and_then(|stat| stat.split_once(':'))
        {
            match name {
                "number_of_executed_units" => self.inputs = number(value),
                "average_exec_per_sec" => self.speed = number(value),
                "peak_rss_mb" => self.memory_mib = number(value),
                _ => {}
            }
        } else if line.starts_with('#') && line.contains(" cov: ") {
            let after = |word: &str| line.split_once(word).map_or(0, |(_, rest)| number(rest));
            self.coverage = after(" cov: ");
            self.features = after(" ft: ");
            self.corpus = after(" corp: ");
        }
    }

    fn line(&self) -> String {
        format!(
            "{:>8}  {:>8}  {:>8}  {:>6}  {:>8}  {:>10}",
            self.inputs, self.coverage, self.features, self.corpus, self.speed, self.memory_mib
        )
    }
}

/// Replaces the committed corpus by the smallest that reaches as much, as far as it stays small.
fn keep(program: &Path, target: &Target) -> anyhow::Result<()> {
    let merged = work("merged").join(target.name);
    if merged.exists() {
        std::fs::remove_dir_all(&merged)?;
    }
    std::fs::create_dir_all(&merged)?;
    let committed = source("corpus").join(target.name);
    let mut fuzz = command(program, target)?;
    let merge = fuzz
        .args(["-merge=1"])
        .arg(&merged)
        .arg(work("corpus").join(target.name))
        .arg(&committed)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !merge.status()?.success() {
        bail!("{} did not merge", target.name);
    }
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(&merged)? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    // Small ones first: the more of them there is room for.
    files.sort();
    let mut bytes = 0;
    let mut kept = Vec::new();
    for (len, path) in &files {
        if *len < FILE_BYTES_MAX && bytes + len <= TARGET_BYTES_MAX {
            bytes += len;
            kept.push(path);
        }
    }
    for entry in std::fs::read_dir(&committed)? {
        std::fs::remove_file(entry?.path())?;
    }
    for path in &kept {
        let name = path.file_name().context("a file has a name")?;
        std::fs::copy(path, committed.join(name))?;
    }
    println!(
        "{:13} {} of {} inputs kept, {bytes} bytes",
        target.name,
        kept.len(),
        files.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_those_that_have_a_corpus() {
        let mut corpora: Vec<String> = std::fs::read_dir(source("corpus"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        corpora.sort();
        let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        names.sort_unstable();
        assert_eq!(corpora, names);
    }

    #[test]
    fn figures_are_read_from_what_libfuzzer_says() {
        let mut figures = Figures::default();
        for line in [
            "INFO: seed corpus: files: 3 min: 1b max: 9b total: 12b rss: 30Mb",
            "#512\tNEW    cov: 90 ft: 101 corp: 7/60b lim: 4 exec/s: 0 rss: 31Mb",
            "#4000\tDONE   cov: 123 ft: 456 corp: 78/9010b lim: 96 exec/s: 2000 rss: 40Mb",
            "Done 4000 runs in 2 second(s)",
            "stat::number_of_executed_units: 4000",
            "stat::average_exec_per_sec:     2000",
            "stat::new_units_added:          71",
            "stat::peak_rss_mb:              41",
        ] {
            figures.read(line);
        }
        let expected = Figures {
            inputs: 4000,
            coverage: 123,
            features: 456,
            corpus: 78,
            speed: 2000,
            memory_mib: 41,
        };
        assert_eq!(figures, expected);
    }
}
