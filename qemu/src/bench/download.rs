//! What a byte of a download costs: the lab's neighbourhood, a real client and a real server.
//!
//! Instructions of a router during one download, without those of an idle one, for each byte of body that the client
//! got (router a), or that the neighbour's line brought (router b). The rate of the lines belongs to such a figure: the
//! slower they are, the fewer packets share one awakening.

use crate::bench::figure::{Bound, Figures};
use crate::lab::commands::watch_signals;
use crate::lab::daemon::Config;
use crate::lab::download::{Job, sha256_of};
use crate::lab::origin;
use crate::lab::plan::ORIGIN;
use crate::lab::run;
use crate::lab::state::StateDirectory;
use crate::line::Rng;
use crate::machine::Count;
use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PLAIN: &str = "download-plain-a";
const STITCHED: &str = "download-split-a";
const LENT: &str = "download-split-b";
const LENT_NAT: &str = "download-split-b-nat";
const RATIO: &str = "download-split-goodput";

/// Bytes of the file.
const SIZE: u64 = 16 << 20;
/// Downloads of each kind.
const RUNS: usize = 3;
/// How long idle routers are looked at, and how long nginx may take to log a request.
const IDLE: Duration = Duration::from_secs(2);

/// Names of the figures.
pub fn names() -> Vec<String> {
    [PLAIN, STITCHED, LENT, RATIO, LENT_NAT]
        .map(str::to_owned)
        .to_vec()
}

/// Measures them.
///
/// # Errors
/// A part does not start, a download is not whole, or the neighbour brought nothing.
pub fn measure(elf: &Path, plugin: &Path, figures: &mut Figures) -> Result<()> {
    let state = StateDirectory::of("bench-download")?;
    run::refuse_running(&state)?;
    watch_signals(state.clone())?;
    let shape = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let config = Config {
        routers: 2,
        accel: false,
        shapes: vec![
            shape("wan-a", "8M/25ms/0%"),
            shape("wan-b", "8M/25ms/0%"),
            shape("air", "25M/1ms/0%"),
            shape("lan-a", "100M"),
            shape("lan-b", "100M"),
        ],
        seed: 1,
        counter: Some(plugin.canonicalize()?),
    };
    run::up(&state, &config, Some(&elf.to_path_buf()), true, |_| {})?;
    let result = Bench::new(&state).and_then(|bench| bench.run(figures));
    run::down(&state)?;
    result
}

struct Bench<'a> {
    state: &'a StateDirectory,
    output: PathBuf,
    sha256: String,
    counts: [Count; 2],
}

impl<'a> Bench<'a> {
    fn new(state: &'a StateDirectory) -> Result<Self> {
        let www = state.file("www");
        std::fs::create_dir_all(&www)?;
        let mut rng = Rng::new(1);
        let words = std::iter::repeat_with(|| rng.next_u64().to_ne_bytes());
        let bytes: Vec<u8> = words.flatten().take(SIZE as usize).collect();
        let path = www.join("random.bin");
        std::fs::write(&path, bytes)?;
        origin::start(state, &www)?;
        let count = |name: &str| Count {
            plugin: PathBuf::new(),
            file: state.file(&format!("router-{name}.count")),
        };
        Ok(Self {
            state,
            output: state.file("download"),
            sha256: sha256_of(&path)?,
            counts: ["a", "b"].map(count),
        })
    }

    fn read(&self) -> Result<[u64; 2]> {
        let [a, b] = &self.counts;
        Ok([a.read()?.instructions, b.read()?.instructions])
    }

    fn run(&self, figures: &mut Figures) -> Result<()> {
        let before = self.read()?;
        std::thread::sleep(IDLE);
        let after = self.read()?;
        let idle: [f64; 2] =
            core::array::from_fn(|at| (after[at] - before[at]) as f64 / IDLE.as_secs_f64());
        let plain = self.downloads("without neighbour", idle)?;
        for router in ["a", "b"] {
            run::console(self.state, router, "set accel.enabled on")?;
        }
        let split = self.downloads("with neighbour", idle)?;
        let per_byte = |runs: &[Run]| -> Vec<f64> {
            runs.iter()
                .map(|run| run.instructions[0] / SIZE as f64)
                .collect()
        };
        figures.add(PLAIN, "insn/byte", Bound::None, &per_byte(&plain));
        figures.add(STITCHED, "insn/byte", Bound::None, &per_byte(&split));
        let mut lent = Vec::new();
        for run in &split {
            ensure!(run.bytes_peer > 0, "the neighbour brought nothing");
            lent.push(run.instructions[1] / run.bytes_peer as f64);
        }
        figures.add(LENT, "insn/byte", Bound::None, &lent);
        let peer = crate::lab::plan::air_address(1);
        run::console(self.state, "b", "set lend.nat on")?;
        run::console(self.state, "a", &format!("set borrow.nat {peer}"))?;
        let mut lent = Vec::new();
        for run in &self.downloads("with neighbour by nat", idle)? {
            ensure!(run.bytes_peer > 0, "the neighbour's line brought nothing");
            lent.push(run.instructions[1] / run.bytes_peer as f64);
        }
        figures.add(LENT_NAT, "insn/byte", Bound::None, &lent);
        let ratios: Vec<f64> = plain
            .iter()
            .zip(&split)
            .map(|(plain, split)| plain.seconds / split.seconds)
            .collect();
        figures.add(RATIO, "of one line", Bound::None, &ratios);
        Ok(())
    }

    fn downloads(&self, title: &str, idle: [f64; 2]) -> Result<Vec<Run>> {
        (0..RUNS).map(|_| self.download(title, idle)).collect()
    }

    fn download(&self, title: &str, idle: [f64; 2]) -> Result<Run> {
        let url = format!("http://{ORIGIN}/random.bin");
        let job = Job {
            state: self.state,
            lines: &[],
            host: "client",
            title,
            url: &url,
            size: SIZE,
            output: self.output.clone(),
            client: None,
        };
        let by_line = || origin::bytes_by_line(&origin::requests(self.state));
        let (bytes, before, start) = (by_line(), self.read()?, Instant::now());
        let download = job.run()?;
        let (after, seconds) = (self.read()?, start.elapsed().as_secs_f64());
        ensure!(
            download.sha256 == self.sha256,
            "a download differs from the origin's file"
        );
        std::thread::sleep(Duration::from_millis(500));
        Ok(Run {
            seconds: download.seconds,
            instructions: core::array::from_fn(|at| {
                (after[at] - before[at]) as f64 - idle[at] * seconds
            }),
            bytes_peer: by_line()[1] - bytes[1],
        })
    }
}

/// One download.
struct Run {
    seconds: f64,
    /// Of router a and b.
    instructions: [f64; 2],
    bytes_peer: u64,
}
