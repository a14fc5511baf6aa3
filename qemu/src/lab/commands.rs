//! The commands on a lab: their arguments and entry points.

use anyhow::bail;

/// Arguments of `lab up`.
#[derive(Debug, clap::Args)]
pub struct UpArgs {}

/// Starts the neighbourhood and leaves it running in the background.
///
/// # Errors
/// Always, until it is written.
pub fn up(_args: UpArgs) -> anyhow::Result<()> {
    bail!("`lab up` is not written yet")
}

/// Arguments of `lab down`.
#[derive(Debug, clap::Args)]
pub struct DownArgs {}

/// Stops a running lab and leaves nothing behind.
///
/// # Errors
/// Always, until it is written.
pub fn down(_args: DownArgs) -> anyhow::Result<()> {
    bail!("`lab down` is not written yet")
}

/// Arguments of `lab status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {}

/// Lists machines, hosts, and lines with their counters.
///
/// # Errors
/// Always, until it is written.
pub fn status(_args: StatusArgs) -> anyhow::Result<()> {
    bail!("`lab status` is not written yet")
}

/// Arguments of `lab exec`.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {}

/// Runs a program on a host of the running lab.
///
/// # Errors
/// Always, until it is written.
pub fn exec(_args: ExecArgs) -> anyhow::Result<()> {
    bail!("`lab exec` is not written yet")
}

/// Arguments of `lab console`.
#[derive(Debug, clap::Args)]
pub struct ConsoleArgs {}

/// The serial console of a router: interactive, or one command and its answer.
///
/// # Errors
/// Always, until it is written.
pub fn console(_args: ConsoleArgs) -> anyhow::Result<()> {
    bail!("`lab console` is not written yet")
}

/// Arguments of `lab link`.
#[derive(Debug, clap::Args)]
pub struct LinkArgs {}

/// Shows or changes a line while it runs.
///
/// # Errors
/// Always, until it is written.
pub fn link(_args: LinkArgs) -> anyhow::Result<()> {
    bail!("`lab link` is not written yet")
}

/// Arguments of `lab pcap`.
#[derive(Debug, clap::Args)]
pub struct PcapArgs {}

/// Captures a line to a pcap file.
///
/// # Errors
/// Always, until it is written.
pub fn pcap(_args: PcapArgs) -> anyhow::Result<()> {
    bail!("`lab pcap` is not written yet")
}

/// Arguments of `lab log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {}

/// Prints a router's decoded defmt log.
///
/// # Errors
/// Always, until it is written.
pub fn log(_args: LogArgs) -> anyhow::Result<()> {
    bail!("`lab log` is not written yet")
}

/// Arguments of `lab reset`.
#[derive(Debug, clap::Args)]
pub struct ResetArgs {}

/// Resets a router, as its power switch would.
///
/// # Errors
/// Always, until it is written.
pub fn reset(_args: ResetArgs) -> anyhow::Result<()> {
    bail!("`lab reset` is not written yet")
}

/// Arguments of `lab demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Downloads one file without and with the neighbour, and compares.
///
/// # Errors
/// Always, until it is written.
pub fn demo(_args: DemoArgs) -> anyhow::Result<()> {
    bail!("`lab demo` is not written yet")
}
