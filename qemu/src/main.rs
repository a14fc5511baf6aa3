//! The lab command.

use clap::{Parser, Subcommand};
use lab::lab::commands;
use std::process::ExitCode;

/// Boots a neighbourhood of Tandem routers in QEMU, with emulated lines and real hosts around it.
#[derive(Debug, Parser)]
#[command(
    name = "cargo lab",
    bin_name = "cargo lab",
    version,
    max_term_width = 120
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists what this machine lacks, with the command to get it; `--install` gets it.
    Doctor(lab::doctor::Args),
    /// Builds an image; prints its path, sizes, static RAM, and that its instructions suit the CPU.
    Build(lab::image::Args),
    /// Downloads one file without and with the neighbour, and compares.
    Demo(commands::DemoArgs),
    /// Starts the neighbourhood and leaves it running in the background.
    Up(commands::UpArgs),
    /// Stops a running lab and leaves nothing behind.
    Down(commands::DownArgs),
    /// Lists machines, hosts, and lines with their counters.
    Status(commands::StatusArgs),
    /// Runs a program on a host of the running lab.
    Exec(commands::ExecArgs),
    /// The serial console of a router: interactive, or one command and its answer.
    Console(commands::ConsoleArgs),
    /// Shows or changes a line while it runs.
    Link(commands::LinkArgs),
    /// Captures a line to a pcap file.
    Pcap(commands::PcapArgs),
    /// Prints a router's decoded defmt log.
    Log(commands::LogArgs),
    /// Resets a router, as its power switch would.
    Reset(commands::ResetArgs),
    /// Runs all checks that CI runs, in order.
    Test(lab::check::Args),
    /// Runs the neighbourhood in virtual time on the host.
    Sim(lab::sim::Args),
    /// Feeds the fuzz targets under libFuzzer, for as long as you like.
    ///
    /// Goes on from the committed corpus and from what earlier runs found (target/fuzz/corpus). An input that breaks a
    /// target is kept in target/fuzz/findings; `--input FILE` runs it again. Columns: coverage is the number of edges
    /// of the program that were reached, features are edges by how often.
    Fuzz(lab::fuzz::Args),
    /// Measures what the router costs its processor and what the neighbour is worth.
    Bench(lab::bench::Args),
    #[command(hide = true)]
    Daemon(commands::DaemonArgs),
    #[command(hide = true)]
    Hold(commands::HoldArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Doctor(args) => lab::doctor::run(args),
        Command::Build(args) => lab::image::run(args),
        Command::Demo(args) => commands::demo(args),
        Command::Up(args) => commands::up(args),
        Command::Down(args) => commands::down(args),
        Command::Status(args) => commands::status(args),
        Command::Exec(args) => commands::exec(args),
        Command::Console(args) => commands::console(args),
        Command::Link(args) => commands::link(args),
        Command::Pcap(args) => commands::pcap(args),
        Command::Log(args) => commands::log(args),
        Command::Reset(args) => commands::reset(args),
        Command::Test(args) => lab::check::run(args),
        Command::Sim(args) => lab::sim::run(args),
        Command::Fuzz(args) => lab::fuzz::run(args),
        Command::Bench(args) => lab::bench::run(args),
        Command::Daemon(args) => commands::daemon(args),
        Command::Hold(args) => commands::hold(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
