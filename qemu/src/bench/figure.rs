//! Figures as `bench` prints and writes them, and those of virtual time.

use crate::line::Shape;
use crate::sim::efficiency::{self, Run};
use crate::sim::world::Lines;
use anyhow::{Result, anyhow};
use firmware::budget::{STITCH_BLOCK_BYTES, STITCH_BLOCKS};
use firmware::settings::Probe;
use serde::Serialize;

/// One measured thing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is called, for good.
    pub name: String,
    /// Of the values.
    pub unit: &'static str,
    /// The least value.
    pub min: f64,
    /// The middle value; of an even number of runs the upper one of both.
    pub median: f64,
    /// The greatest value.
    pub max: f64,
    /// How many values there are.
    pub runs: usize,
    /// What the median is to keep.
    pub bound: Option<f64>,
    /// Whether it does; a figure without a bound is always good.
    pub ok: bool,
}

/// On which side of its bound a figure is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// There is none.
    None,
    /// At most so much.
    Most(f64),
    /// At least so much.
    Least(f64),
}

impl Figure {
    /// Of one value or more.
    fn of(name: &str, unit: &'static str, bound: Bound, values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = sorted[sorted.len() / 2];
        let (bound, ok) = match bound {
            Bound::None => (None, true),
            Bound::Most(most) => (Some(most), median <= most),
            Bound::Least(least) => (Some(least), median >= least),
        };
        Some(Self {
            name: name.to_owned(),
            unit,
            min: rounded(min),
            median: rounded(median),
            max: rounded(max),
            runs: sorted.len(),
            bound,
            ok,
        })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// All figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    figures: Vec<Figure>,
    #[serde(skip)]
    filter: String,
}

impl Figures {
    /// None yet; only those with `filter` in their name will be kept.
    pub fn new(filter: &str) -> Self {
        Self {
            figures: Vec::new(),
            filter: filter.to_owned(),
        }
    }

    /// Whether one of that name is wanted.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// The table's head.
    pub fn print_head(&self) {
        println!(
            "{:<34} {:>9} {:>9} {:>9}  {:<13} bound",
            "figure", "min", "median", "max", "unit"
        );
    }

    /// Takes one in, and prints it.
    pub fn add(&mut self, name: &str, unit: &'static str, bound: Bound, values: &[f64]) {
        if !self.wants(name) {
            return;
        }
        let Some(figure) = Figure::of(name, unit, bound, values) else {
            return;
        };
        let judged = match (bound, figure.ok) {
            (Bound::None, _) => String::new(),
            (Bound::Most(most), true) => format!("<= {most}"),
            (Bound::Most(most), false) => format!("<= {most}  MISSED"),
            (Bound::Least(least), true) => format!(">= {least}"),
            (Bound::Least(least), false) => format!(">= {least}  MISSED"),
        };
        println!(
            "{:<34} {:>9} {:>9} {:>9}  {:<13} {judged}",
            figure.name, figure.min, figure.median, figure.max, figure.unit
        );
        self.figures.push(figure);
    }
}

/// A neighbourhood whose efficiency is measured.
struct Worth {
    name: &'static str,
    size: u64,
    least: f64,
    /// Rate and delay one way of each line: bit/s, µs.
    lines: &'static [(u64, u64)],
    /// Of the air, in thousandths.
    loss_permille: u32,
    /// Of each router's stitch pool.
    stitch_blocks: usize,
}

const EIGHT: (u64, u64) = (8_000_000, 25_000);

const WORTH: [Worth; 8] = [
    Worth::equal("efficiency-8+8-1M", 1 << 20, 0.70),
    Worth::equal("efficiency-8+8-10M", 10 << 20, 0.94),
    Worth::equal("efficiency-8+8-100M", 100 << 20, 0.97),
    Worth {
        lines: &[EIGHT, (4_000_000, 40_000)],
        ..Worth::equal("efficiency-8+4-100M", 100 << 20, 0.96)
    },
    Worth {
        lines: &[(20_000_000, 25_000), (5_000_000, 25_000)],
        ..Worth::equal("efficiency-20+5-100M", 100 << 20, 0.95)
    },
    Worth {
        lines: &[(6_000_000, 25_000); 3],
        ..Worth::equal("efficiency-6+6+6-100M", 100 << 20, 0.95)
    },
    Worth {
        loss_permille: 20,
        ..Worth::equal("efficiency-8+8-air-loss-2%", 100 << 20, 0.90)
    },
    Worth {
        stitch_blocks: (1 << 20) / STITCH_BLOCK_BYTES,
        ..Worth::equal("efficiency-8+8-pool-1M-100M", 100 << 20, 0.97)
    },
];

/// Of the time to the first byte with and without the neighbour.
const FIRST_BYTE: &str = "first-byte-later";
/// Runs of it, each by another seed.
const FIRST_BYTE_RUNS: u64 = 20;

impl Worth {
    const fn equal(name: &'static str, size: u64, least: f64) -> Self {
        Self {
            name,
            size,
            least,
            lines: &[EIGHT; 2],
            loss_permille: 0,
            stitch_blocks: STITCH_BLOCKS,
        }
    }

    fn run(&self) -> Run {
        let usual = efficiency::lines()[0];
        let lines = self.lines.iter().map(|&(rate_bit_s, delay_us)| {
            let mut lines = usual;
            for line in [&mut lines.wan_down, &mut lines.wan_up] {
                *line = Shape {
                    rate_bit_s,
                    delay_us,
                    ..*line
                };
            }
            lines.air.loss_ppm = self.loss_permille * 1_000;
            lines
        });
        let lines: Vec<Lines> = lines.collect();
        Run {
            stitch_blocks: self.stitch_blocks,
            ..Run::new(&lines, Some(Probe::Reply), self.size)
        }
    }
}

/// Names of the figures of virtual time.
pub fn worth_names() -> Vec<String> {
    let worth = WORTH.iter().map(|worth| worth.name);
    worth.chain([FIRST_BYTE]).map(str::to_owned).collect()
}

/// Measures them: some seconds each.
///
/// # Errors
/// A download is not whole.
pub fn measure_worth(figures: &mut Figures) -> Result<()> {
    for worth in &WORTH {
        if !figures.wants(worth.name) {
            continue;
        }
        let permille = efficiency::share_of_the_sum_permille(&worth.run())
            .map_err(|error| anyhow!("{}: {error}", worth.name))?;
        let efficiency = permille as f64 / 1e3;
        figures.add(
            worth.name,
            "of the sum",
            Bound::Least(worth.least),
            &[efficiency],
        );
    }
    if figures.wants(FIRST_BYTE) {
        let [with, without] = efficiency::first_bytes_us(FIRST_BYTE_RUNS)
            .map_err(|error| anyhow!("{FIRST_BYTE}: {error}"))?;
        // The difference of both medians: a median of differences would hide that a few are much later.
        let later = with[with.len() / 2] as f64 - without[without.len() / 2] as f64;
        figures.add(FIRST_BYTE, "ms", Bound::Most(2.0), &[later / 1e3]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A router's memory passes over the stack while it is made.
    const STACK_BYTES: usize = 96 << 20;

    #[test]
    fn every_neighbourhood_of_two_routers_keeps_its_bound() {
        // Three routers, and less memory, are asserted beside the simulation.
        let two = |worth: &&Worth| worth.lines.len() == 2 && worth.stitch_blocks == STITCH_BLOCKS;
        let mut measured = 0;
        for worth in WORTH.iter().filter(two) {
            let permille = std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(|| efficiency::share_of_the_sum_permille(&worth.run()))
                .unwrap()
                .join()
                .unwrap();
            let permille = permille.unwrap_or_else(|fault| panic!("{}: {fault}", worth.name));
            let efficiency = permille as f64 / 1e3;
            assert!(efficiency >= worth.least, "{}: {efficiency}", worth.name);
            measured += 1;
        }
        assert_eq!(measured, 6);
    }

    #[test]
    fn a_bound_is_kept_by_the_middle_value() {
        let figure = Figure::of("x", "y", Bound::Most(5.0), &[9.0, 5.0, 1.0]).unwrap();
        assert_eq!((figure.min, figure.median, figure.max), (1.0, 5.0, 9.0));
        assert!(figure.ok);
        assert!(!Figure::of("x", "y", Bound::Most(4.9), &[5.0]).unwrap().ok);
        assert!(!Figure::of("x", "y", Bound::Least(5.1), &[5.0]).unwrap().ok);
        assert!(Figure::of("x", "y", Bound::None, &[]).is_none());
    }
}
