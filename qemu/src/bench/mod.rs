//! The benchmarks: what the router costs its processor, and what the neighbour is worth.
//!
//! Costs are instructions of the guest, counted by a plugin of QEMU: they hardly depend on the machine that QEMU runs on.
//! Worth is measured in virtual time and repeats exactly. Where a bound stands beside a figure, `ok` says whether the
//! figure keeps it; a figure without a bound is there to be compared with an earlier one.
//!
//! Method of the packet costs: a harness that is both neighbours of one router sends frames in lockstep: the next burst
//! when all frames of the last one have come out, translated as they must be. What the idle router executes in the same
//! time is subtracted. `isolated`: one frame a burst, and the processor has gone back to sleep; `batched`: 16 frames.

mod download;
mod figure;
mod lockstep;
mod profile;

use crate::lab::commands::write_json;
use crate::{doctor, image};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use figure::{Figure, Figures};

/// Arguments of `lab bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the figures whose name contains this.
    filter: Option<String>,
    /// Only name the figures.
    #[arg(long)]
    list: bool,
    /// Also say in which functions the instructions of each packet cost are.
    #[arg(long)]
    profile: bool,
    /// An image to measure instead of building one.
    #[arg(long, value_name = "ELF")]
    image: Option<PathBuf>,
    /// Also write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do not get what is missing.
    #[arg(long)]
    no_install: bool,
}

/// Measures, and prints each figure as it is known.
///
/// # Errors
/// Something does not start, a frame is lost or wrong, a download is not whole, or no figure has the word in its name.
pub fn run(args: Args) -> Result<()> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let mut figures = Figures::new(filter);
    let (packets, downloads) = (lockstep::names(), download::names());
    let worth = figure::worth_names();
    if args.list {
        for name in packets.iter().chain(&downloads).chain(&worth) {
            println!("{name}");
        }
        return Ok(());
    }
    let wants = |names: &[String]| names.iter().any(|name| name.contains(filter));
    if !wants(&packets) && !wants(&downloads) && !wants(&worth) {
        bail!("no figure has `{filter}` in its name; `cargo lab bench --list` names them");
    }
    if wants(&packets) || wants(&downloads) {
        if !args.no_install {
            doctor::ensure()?;
        }
        let elf = match &args.image {
            Some(path) if path.is_file() => path.clone(),
            Some(path) => bail!("no image at {}", path.display()),
            None => image::build()?,
        };
        let plugin = build_plugin()?;
        figures.print_head();
        if wants(&packets) {
            lockstep::measure(&elf, &plugin, args.profile, &mut figures)?;
        }
        if wants(&downloads) {
            download::measure(&elf, &plugin, &mut figures)?;
        }
    } else {
        figures.print_head();
    }
    if wants(&worth) {
        figure::measure_worth(&mut figures)?;
    }
    if let Some(file) = &args.json {
        write_json(file, &figures)?;
    }
    Ok(())
}

/// Builds the counting plugin with the host's compiler; gives its path.
fn build_plugin() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    image::clean_cargo_environment(&mut cargo);
    let status = cargo
        .current_dir(image::workspace())
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "counter",
        ])
        .stdin(Stdio::null())
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("the counting plugin did not compile");
    }
    let path: PathBuf = crate::lab::state::target_directory().join("release/libcounter.so");
    is_there(&path)?;
    Ok(path)
}

fn is_there(path: &Path) -> Result<()> {
    match path.is_file() {
        true => Ok(()),
        false => bail!("cargo built no {}", path.display()),
    }
}
