//! The neighbourhood in virtual time: the firmware as it is, on simulated lines, between simulated hosts.
//!
//! `lab sim` draws thousands of short downloads from seeds, puts one fault on each, and checks what must hold in
//! all: the client's bytes, what a strict TCP peer would object to, what the origin saw, and that the
//! same seed gives the same run.
//!
//! Units: µs of virtual time, bytes.

pub mod behaviour;
pub mod bend;
pub mod client;
pub mod content;
pub mod dhcp;
pub mod efficiency;
pub mod ether;
pub mod guest;
mod log;
mod middle;
pub mod node;
pub mod oddity;
pub mod origin;
pub mod rows;
pub mod scenario;
#[cfg(test)]
mod sharing;
pub mod shrink;
pub mod soak;
pub mod syn;
pub mod tap;
pub mod trace;
pub mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use firmware::budget::Memory;
use firmware::settings::{Path, Probe};

use scenario::Fault;
use world::{Report, Setup, TraceTo};

/// Arguments of `lab sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of runs, dealt over the faults in turn.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed; alone (without --seeds) only this one runs.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this fault.
    #[arg(long)]
    fault: Option<String>,
    /// Splitting off: plain forwarding must stand the same faults.
    #[arg(long)]
    plain: bool,
    /// How the routers learn what an origin will answer, `reply` or `head`; the seed's choice if absent.
    #[arg(long, value_parser = parse_probe)]
    probe: Option<Probe>,
    /// How ranges come from the neighbours, `relay` or `nat`; the seed's choice if absent, and `relay` for figures.
    #[arg(long, value_parser = parse_path)]
    path: Option<Path>,
    /// With --efficiency: so many of a thousand frames on the air are lost.
    #[arg(long, value_name = "PERMILLE", default_value_t = 0)]
    air_loss: u32,
    /// Runs each seed with splitting off as well, and fails where on is slower than 1.1 times off plus 1 s (U6).
    #[arg(long)]
    compare: bool,
    /// Lists the faults.
    #[arg(long)]
    list: bool,
    /// Measures instead what the neighbour is worth, for sizes from 64 KiB to 32 MiB; with --trace and --seed,
    /// prints the frames of one accelerated download of that many KiB.
    #[arg(long)]
    efficiency: bool,
    /// Runs instead so many hours with leases, short flows and a download each half an hour.
    #[arg(long, value_name = "HOURS")]
    soak: Option<u64>,
    /// Prints every frame's arrival; for one seed.
    #[arg(long)]
    trace: bool,
    /// Makes a failing seed's run as small as it still fails, and traces that.
    #[arg(long)]
    shrink: bool,
    /// Writes a capture of each line into this folder; for one seed.
    #[arg(long)]
    pcap: Option<PathBuf>,
    /// Threads; default: one a core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Stops after so many failing seeds.
    #[arg(long, default_value_t = 10)]
    failures: usize,
}

impl Args {
    fn ways(&self) -> Ways {
        Ways {
            plain: self.plain,
            probe: self.probe,
            path: self.path,
        }
    }
}

fn parse_path(text: &str) -> Result<Path, String> {
    Path::ALL
        .into_iter()
        .find(|path| path.name() == text)
        .ok_or_else(|| "write `relay` or `nat`".to_string())
}

fn parse_probe(text: &str) -> Result<Probe, String> {
    [Probe::Reply, Probe::Head]
        .into_iter()
        .find(|probe| probe.name() == text)
        .ok_or_else(|| "write `reply` or `head`".to_string())
}

/// How the routers work in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ways {
    /// Splitting is off.
    pub plain: bool,
    /// How they learn what an origin will answer; the seed's choice if absent.
    pub probe: Option<Probe>,
    /// How ranges come from the neighbours; the seed's choice if absent.
    pub path: Option<Path>,
}

impl Ways {
    /// Splitting off.
    pub const PLAIN: Ways = Ways {
        plain: true,
        probe: None,
        path: None,
    };

    fn apply(self, setup: &mut Setup) {
        setup.accel = !self.plain;
        setup.probe = self.probe.unwrap_or(setup.probe);
        setup.path = self.path.unwrap_or(setup.path);
    }
}

/// Stack of a thread that builds routers: their memory may pass over it.
const STACK_BYTES: usize = 96 * 1024 * 1024;

/// Runs a set-up in fresh memory.
pub fn simulate(setup: &Setup, trace: &TraceTo) -> Report {
    // A router keeps its memory for ever; this one's ends with the run.
    let raw: Vec<*mut Memory> = (0..setup.memories())
        .map(|_| Box::into_raw(Box::new(Memory::new())))
        .collect();
    // SAFETY: each box was just made and is borrowed once, here; it lives until the end of this function.
    let memories = raw.iter().map(|&memory| unsafe { &mut *memory }).collect();
    let report = world::run(setup, memories, trace);
    for memory in raw {
        // SAFETY: the world, and with it every router that borrowed a box, ended with `run`; a report
        // holds no borrow.
        drop(unsafe { Box::from_raw(memory) });
    }
    report
}

/// One fault and seed: its report and what it shows that must not be.
pub fn run_seed(fault: &Fault, seed: u64, ways: Ways, trace: &TraceTo) -> (Report, Vec<String>) {
    let mut setup = scenario::setup(fault, seed);
    ways.apply(&mut setup);
    let report = simulate(&setup, trace);
    let wrong = scenario::judge(fault, &setup, &report);
    (report, wrong)
}

/// Runs `lab sim`.
///
/// # Errors
/// An unknown fault; a run that shows what must not be.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.list {
        for fault in scenario::faults() {
            println!("{:18} {}", fault.name, fault.note);
        }
        return Ok(());
    }
    if args.efficiency {
        let probe = args.probe.unwrap_or(Probe::Reply);
        let (path, air_loss) = (args.path.unwrap_or_default(), args.air_loss);
        return std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || match args.seed {
                Some(kib) if args.trace => efficiency::trace(probe, kib << 10),
                Some(_) | None => efficiency::print_table(probe, path, air_loss),
            })
            .context("cannot start a thread")?
            .join()
            .map_err(|panic| anyhow!("panic: {}", panic_text(&*panic)))?
            .map_err(anyhow::Error::msg);
    }
    if let Some(hours) = args.soak {
        let seed = args.seed.unwrap_or(1);
        return std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(move || soak::print(hours, seed))
            .context("cannot start a thread")?
            .join()
            .map_err(|panic| anyhow!("panic: {}", panic_text(&*panic)))?
            .map_err(anyhow::Error::msg);
    }
    let faults: Vec<&'static Fault> = match &args.fault {
        Some(name) => {
            vec![scenario::fault(name).with_context(|| format!("no fault {name}; see --list"))?]
        }
        None => scenario::faults().collect(),
    };
    if args.shrink {
        return std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || run_shrunk(&args, &faults))
                .context("cannot start a thread")?
                .join()
                .map_err(|panic| anyhow!("panic: {}", panic_text(&*panic)))?
        });
    }
    let first = args.seed.unwrap_or(1);
    let single = args.trace || args.pcap.is_some();
    let count = match args.seed {
        Some(_) if single || args.seeds == 500 => 1,
        Some(_) | None => args.seeds,
    };
    let trace = TraceTo {
        print: args.trace,
        captures: args.pcap.clone(),
    };
    if let Some(folder) = &args.pcap {
        std::fs::create_dir_all(folder).context("cannot make the folder for captures")?;
    }
    let jobs = match args.jobs {
        _ if single => 1,
        Some(jobs) => jobs.max(1),
        None => std::thread::available_parallelism().map_or(1, |cores| cores.get()),
    };
    let begun = Instant::now();
    let watch = Watch::start(jobs);
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for job in 0..jobs {
            let (args, faults, next) = (&args, &faults, &next);
            let (tally, trace, watch) = (&tally, &trace, &watch);
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || {
                    let seeds = (first, count);
                    work(args, faults, seeds, next, tally, trace, (watch, job));
                })
                .context("cannot start a thread")?;
        }
        Ok(())
    })?;
    let tally = tally
        .into_inner()
        .unwrap_or_else(|broken| broken.into_inner());
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    println!(
        "{} runs ({} stitched), {} failed; {:.0} runs/s, {:.1} M frames, {:.0} s of virtual time",
        tally.runs,
        tally.stitched,
        tally.failed,
        tally.runs as f64 / seconds,
        tally.events as f64 / 1e6,
        tally.virtual_us as f64 / 1e6,
    );
    if tally.failed > 0 {
        bail!("{} of {} runs failed", tally.failed, tally.runs);
    }
    Ok(())
}

/// `lab sim --shrink`: one failing seed, made small, then traced.
fn run_shrunk(args: &Args, faults: &[&'static Fault]) -> anyhow::Result<()> {
    let seed = args.seed.context("--shrink needs --seed")?;
    let fault = faults[(seed % faults.len() as u64) as usize];
    let wrong = |setup: &Setup, trace: &TraceTo| {
        let run = std::panic::AssertUnwindSafe(|| {
            let report = simulate(setup, trace);
            (scenario::judge(fault, setup, &report), Some(report))
        });
        std::panic::catch_unwind(run)
            .unwrap_or_else(|panic| (vec![format!("panic: {}", panic_text(&*panic))], None))
    };
    let mut setup = scenario::setup(fault, seed);
    args.ways().apply(&mut setup);
    let (small, taken) = shrink::shrink(&setup, |setup| {
        !wrong(setup, &TraceTo::default()).0.is_empty()
    });
    let trace = TraceTo {
        print: true,
        captures: args.pcap.clone(),
    };
    let (texts, report) = wrong(&small, &trace);
    if let Some(report) = report {
        print_report(&report);
    }
    println!("--- taken away: {}", taken.join(", "));
    println!("--- left: {small:?}");
    println!("--- fault {} seed {seed}", fault.name);
    match texts.first() {
        Some(_) => bail!("{}", texts.join("; ")),
        None => Ok(()),
    }
}

#[derive(Default)]
struct Tally {
    runs: u64,
    failed: usize,
    events: u64,
    virtual_us: u64,
    /// Runs in which the first router stitched a response.
    stitched: u64,
}

/// A run that takes longer than this in real time hangs; the longest take seconds.
const HANG: Duration = Duration::from_secs(300);

/// What each worker does and since when.
type Running = Vec<Option<(&'static str, u64, Instant)>>;

/// Ends the program, with the seed's name, when a run hangs: whoever spins inside a router cannot be asked to stop.
#[derive(Clone)]
struct Watch {
    running: Arc<Mutex<Running>>,
}

impl Watch {
    /// Watches so many workers until the program ends.
    fn start(jobs: usize) -> Self {
        let watch = Self {
            running: Arc::new(Mutex::new(vec![None; jobs])),
        };
        let running = Arc::clone(&watch.running);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let running = running.lock().unwrap_or_else(|broken| broken.into_inner());
                if let Some((fault, seed, since)) = hanging(&running, HANG) {
                    let seconds = since.elapsed().as_secs();
                    println!("FAIL fault {fault} seed {seed}: hangs since {seconds} s");
                    println!("    again: cargo lab sim --fault {fault} --seed {seed} --trace");
                    std::process::exit(1);
                }
            }
        });
        watch
    }

    fn set(&self, job: usize, run: Option<(&'static str, u64)>) {
        let mut running = self
            .running
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        running[job] = run.map(|(fault, seed)| (fault, seed, Instant::now()));
    }
}

/// A run that has taken longer than `limit`.
fn hanging(running: &Running, limit: Duration) -> Option<(&'static str, u64, Instant)> {
    let mut under_way = running.iter().flatten();
    under_way
        .find(|(_, _, since)| since.elapsed() > limit)
        .copied()
}

fn work(
    args: &Args,
    faults: &[&'static Fault],
    (first, count): (u64, u64),
    next: &AtomicU64,
    tally: &Mutex<Tally>,
    trace: &TraceTo,
    (watch, job): (&Watch, usize),
) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            watch.set(job, None);
            return;
        }
        let seed = first + number;
        let fault = faults[(seed % faults.len() as u64) as usize];
        watch.set(job, Some((fault.name, seed)));
        let caught = std::panic::catch_unwind(|| {
            let (report, mut wrong) = run_seed(fault, seed, args.ways(), trace);
            // One run in sixteen is done twice: the same seed must give the same run.
            if seed.is_multiple_of(16) && !trace.print {
                let (again, _) = run_seed(fault, seed, args.ways(), &TraceTo::default());
                if again.hash != report.hash {
                    wrong.push("the same seed gave another run".to_string());
                }
            }
            if args.compare {
                let (alone, _) = run_seed(fault, seed, Ways::PLAIN, &TraceTo::default());
                wrong.extend(slower(&report, &alone));
            }
            (report, wrong)
        });
        let (report, wrong) = match caught {
            Ok((report, wrong)) => {
                if trace.print {
                    print_report(&report);
                }
                (Some(report), wrong)
            }
            Err(panic) => (None, vec![format!("panic: {}", panic_text(&*panic))]),
        };
        let mut tally = tally.lock().unwrap_or_else(|broken| broken.into_inner());
        tally.runs += 1;
        if let Some(report) = report {
            tally.events += report.events;
            tally.virtual_us += report.end_us;
            let stitched = report.counters[0].get("exchange.stitched");
            tally.stitched += u64::from(stitched.is_some_and(|count| *count > 0));
        }
        if !wrong.is_empty() {
            tally.failed += 1;
            println!("FAIL fault {} seed {seed}", fault.name);
            for text in wrong.iter().take(6) {
                println!("    {text}");
            }
            let plain = if args.plain { " --plain" } else { "" };
            let probe = args
                .probe
                .map_or(String::new(), |probe| format!(" --probe {}", probe.name()));
            println!(
                "    again: cargo lab sim --fault {} --seed {seed}{plain}{probe} --trace",
                fault.name
            );
            if tally.failed >= args.failures {
                next.store(count, Ordering::Relaxed);
            }
        }
    }
}

/// U6: exchanges that were whole either way and took longer with splitting.
fn slower(with: &Report, alone: &Report) -> Vec<String> {
    let outcomes = |report: &Report| -> Vec<client::Outcome> {
        report
            .outcomes
            .iter()
            .flatten()
            .flatten()
            .cloned()
            .collect()
    };
    let pairs = outcomes(with).into_iter().zip(outcomes(alone));
    pairs
        .filter(|(with, alone)| with.end == client::End::Whole && alone.end == client::End::Whole)
        .filter_map(|(with, alone)| {
            let with_us = with.end_us? - with.start_us;
            let alone_us = alone.end_us? - alone.start_us;
            (with_us > alone_us / 10 * 11 + 1_000_000).then(|| {
                format!(
                    "{} bytes took {} ms, alone {} ms",
                    with.body_bytes,
                    with_us / 1_000,
                    alone_us / 1_000
                )
            })
        })
        .collect()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text.clone();
    }
    panic
        .downcast_ref::<&str>()
        .map_or("without text".to_string(), |text| (*text).to_string())
}

fn print_report(report: &Report) {
    for (index, console) in report.consoles.iter().enumerate() {
        println!("--- console {index}\n{console}");
        for (name, value) in report.counters[index]
            .iter()
            .filter(|(_, value)| **value > 0)
        {
            println!("    {name} {value}");
        }
    }
    println!("--- outcomes");
    for outcome in report.outcomes.iter().flatten().flatten() {
        println!("{outcome:?}");
    }
    println!("--- origin");
    for log in &report.origin.requests {
        println!(
            "{:>12} {} conn {} {} {} {:?} {:?} -> {} {} bytes",
            log.at_us,
            log.source,
            log.connection,
            log.request.method,
            log.request.target,
            log.request.range,
            log.request.if_range,
            log.status,
            log.body_sent
        );
    }
    println!("--- taps\n{:?}", report.taps);
    println!("--- lines\n{:?}", report.lines);
}

#[cfg(test)]
mod tests;
