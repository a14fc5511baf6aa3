//! What the neighbour is worth, in virtual time: goodput with it over the sum of what both lines reach alone.
//!
//! Units: bytes, µs, bit/s; shares in thousandths. Lines lose nothing here, so a figure is exact and repeats.

use firmware::budget::STITCH_BLOCKS;
use firmware::settings::{Path, Probe};
use smoltcp::wire::Ipv4Address;

use super::client::{Ask, End, FetchPlan, Outcome};
use super::simulate;
use super::world::{Lines, Report, Setup, TraceTo};
use crate::line::Shape;

/// The sizes measured.
pub const SIZES: [u64; 7] = [
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    10 << 20,
    32 << 20,
    100 << 20,
];

/// Figures of one size.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Size of the object.
    pub size: u64,
    /// Time over A's line alone.
    pub a_us: u64,
    /// Time over B's line alone, by B's own client.
    pub b_us: u64,
    /// Time with the neighbour.
    pub with_us: u64,
    /// Body bytes the origin sent to A and to B.
    pub shares: [u64; 2],
    /// Payload bytes that reached the client's LAN twice.
    pub bytes_again: u64,
    /// Segments that the client saw out of order.
    pub out_of_order: u64,
}

impl Figures {
    /// Goodput with the neighbour in thousandths of the sum of both alone (the air is wide enough).
    pub fn efficiency_permille(&self) -> u64 {
        // size/with ÷ (size/a + size/b) = a·b ÷ (with·(a + b))
        self.a_us * self.b_us / self.with_us.max(1) * 1_000 / (self.a_us + self.b_us)
    }

    /// What `with_us` may be for a small file: A alone, two round trips of the HEAD, one segment.
    pub fn bound_us(&self, line: Shape) -> u64 {
        let segment_us = 1_514 * 8 * 1_000_000 / line.rate_bit_s.max(1);
        self.a_us + 2 * 2 * (line.delay_us + 1_000) + segment_us
    }
}

/// Lines as in the lab, with queues that hold all windows: what is measured is the routers, not smoltcp's
/// recovery from a full queue.
pub fn lines() -> Vec<Lines> {
    let mut lines = Lines::default();
    lines.wan_down.queue_bytes = 1 << 20;
    lines.air.queue_bytes = 1 << 20;
    vec![lines; 2]
}

/// A run of one download: who, of what, on which routers.
#[derive(Clone, Debug)]
pub struct Run {
    /// The lines of each router.
    pub lines: Vec<Lines>,
    /// Whose client downloads.
    pub behind: usize,
    /// Splitting, and how; `None`: off.
    pub accel: Option<Probe>,
    /// How ranges come from the neighbours.
    pub path: Path,
    /// Size of the object, bytes.
    pub size: u64,
    /// Seeds lines, stacks and routers.
    pub seed: u64,
    /// When the client connects, µs; routers that have just booted find each other first.
    pub start_us: u64,
    /// How long the routers have been up before, µs.
    pub uptime_us: u64,
    /// Blocks of each router's stitch pool.
    pub stitch_blocks: usize,
}

impl Run {
    /// A download behind the first router, by routers that have just booted.
    pub fn new(lines: &[Lines], accel: Option<Probe>, size: u64) -> Self {
        Self {
            lines: lines.to_vec(),
            behind: 0,
            accel,
            path: Path::Relay,
            size,
            seed: 42,
            start_us: 3_000_000,
            uptime_us: 0,
            stitch_blocks: STITCH_BLOCKS,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// A text when the download was not whole or broke a rule.
    pub fn go(&self, trace: &TraceTo) -> Result<(Outcome, Report), String> {
        let mut setup = Setup::new(self.seed);
        setup.uptime_us = self.uptime_us;
        setup.stitch_blocks = self.stitch_blocks;
        setup.lines = self.lines.clone();
        setup.clients = vec![Vec::new(); self.lines.len()];
        setup.accel = self.accel.is_some();
        setup.path = self.path;
        setup.probe = self.accel.unwrap_or(Probe::Reply);
        setup.limit_us = 3_600_000_000;
        let ask = Ask::get(9, self.size, "film.mp4", "");
        let mut plan = FetchPlan::new(Ipv4Address::new(198, 51, 100, 10), vec![ask]);
        plan.start_us = self.start_us;
        setup.clients[self.behind].push(plan);
        let report = simulate(&setup, trace);
        let outcome = report.outcomes[self.behind][0][0].clone();
        if outcome.end != End::Whole || outcome.body_bytes != self.size {
            return Err(format!(
                "{:?} after {} bytes",
                outcome.end, outcome.body_bytes
            ));
        }
        match report.violations.first() {
            Some(violation) => Err(violation.clone()),
            None => Ok((outcome, report)),
        }
    }
}

/// [`lines`] on whose air so many of a thousand frames are lost, either way.
pub fn lossy_air(permille: u32) -> Vec<Lines> {
    let mut lines = lines();
    for line in &mut lines {
        line.air.loss_ppm = permille * 1_000;
    }
    lines
}

/// One download by the client behind router `behind`.
///
/// # Errors
/// A text when it was not whole or broke a rule.
pub fn download(
    lines: &[Lines],
    behind: usize,
    accel: Option<Probe>,
    size: u64,
    trace: &TraceTo,
) -> Result<(Outcome, Report), String> {
    download_after(0, lines, behind, accel, size, trace)
}

/// As [`download`], by routers that have been up for `uptime_us`.
///
/// # Errors
/// A text when it was not whole or broke a rule.
pub fn download_after(
    uptime_us: u64,
    lines: &[Lines],
    behind: usize,
    accel: Option<Probe>,
    size: u64,
    trace: &TraceTo,
) -> Result<(Outcome, Report), String> {
    let run = Run {
        behind,
        uptime_us,
        ..Run::new(lines, accel, size)
    };
    run.go(trace)
}

fn time_us(outcome: &Outcome) -> u64 {
    outcome
        .end_us
        .map_or(u64::MAX, |end| end - outcome.start_us)
}

/// Measures one size: alone, alone at the neighbour's, together.
///
/// # Errors
/// A text when a download was not whole or broke a rule.
pub fn measure(lines: &[Lines], probe: Probe, size: u64) -> Result<Figures, String> {
    measure_by(lines, probe, Path::Relay, size)
}

/// As [`measure`], by either path.
///
/// # Errors
/// A text when a download was not whole or broke a rule.
pub fn measure_by(lines: &[Lines], probe: Probe, path: Path, size: u64) -> Result<Figures, String> {
    let trace = TraceTo::default();
    let (a, _) = download(lines, 0, None, size, &trace)?;
    let (b, _) = download(lines, 1, None, size, &trace)?;
    let with = Run {
        path,
        ..Run::new(lines, Some(probe), size)
    };
    let (with, report) = with.go(&trace)?;
    let mut shares = [0; 2];
    for log in &report.origin.requests {
        shares[usize::from(log.source != super::world::wan_address(0))] += log.body_sent;
    }
    Ok(Figures {
        size,
        a_us: time_us(&a),
        b_us: time_us(&b),
        with_us: time_us(&with),
        shares,
        bytes_again: report.taps[0].bytes_again,
        out_of_order: report.taps[0].out_of_order,
    })
}

/// Goodput of the first router's client with all neighbours, in thousandths of the sum of what each line (over the
/// air, where that is narrower) reaches alone.
///
/// # Errors
/// A text when a download was not whole or broke a rule.
pub fn share_of_the_sum_permille(run: &Run) -> Result<u64, String> {
    let trace = TraceTo::default();
    let (with, _) = run.go(&trace)?;
    let mut sum = 0;
    for behind in 0..run.lines.len() {
        let alone = Run {
            behind,
            accel: None,
            ..run.clone()
        };
        let (outcome, _) = alone.go(&trace)?;
        let mut rate = run.size * 8 * 1_000_000 / time_us(&outcome);
        if behind != 0 {
            rate = rate.min(run.lines[behind].air.rate_bit_s);
        }
        sum += rate;
    }
    Ok(run.size * 8 * 1_000_000 / time_us(&with) * 1_000 / sum)
}

/// Times to the first byte of a download, µs: with the neighbour and without, each of `runs` runs by another seed and
/// at another moment.
///
/// # Errors
/// A text when a download was not whole or broke a rule.
pub fn first_bytes_us(runs: u64) -> Result<[Vec<u64>; 2], String> {
    let trace = TraceTo::default();
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..runs {
        for (accel, times) in [Some(Probe::Reply), None].into_iter().zip(&mut times) {
            let mut lines = lines();
            for line in &mut lines {
                // Frames are held back now and then, as on any real line.
                (line.wan_down.reorder_ppm, line.wan_down.reorder_us) = (50_000, 20_000);
            }
            let mut run = Run::new(&lines, accel, 1 << 20);
            run.seed = 1_000 + number;
            run.start_us += number * 37_123;
            let (outcome, _) = run.go(&trace)?;
            let first = outcome.first_byte_us.unwrap_or(u64::MAX);
            times.push(first - outcome.start_us);
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    Ok(times)
}

/// Prints the frames of one download with the neighbour.
///
/// # Errors
/// A text when the download was not whole or broke a rule.
pub fn trace(probe: Probe, size: u64) -> Result<(), String> {
    let trace = TraceTo {
        print: true,
        captures: None,
    };
    let (_, report) = download(&lines(), 0, Some(probe), size, &trace)?;
    super::print_report(&report);
    Ok(())
}

/// Prints the table of all sizes.
///
/// # Errors
/// A text when a download was not whole or broke a rule.
pub fn print_table(probe: Probe, path: Path, air_loss_permille: u32) -> Result<(), String> {
    let lines = lossy_air(air_loss_permille);
    println!("    KiB   A alone   B alone      with    E     from A     from B  again  disorder");
    for size in SIZES {
        let figures = measure_by(&lines, probe, path, size)?;
        println!(
            "{:>7} {:>6} ms {:>6} ms {:>6} ms  {:.3} {:>9} {:>9} {:>6} {:>9}",
            size >> 10,
            figures.a_us / 1_000,
            figures.b_us / 1_000,
            figures.with_us / 1_000,
            figures.efficiency_permille() as f64 / 1_000.0,
            figures.shares[0],
            figures.shares[1],
            figures.bytes_again,
            figures.out_of_order,
        );
    }
    Ok(())
}
