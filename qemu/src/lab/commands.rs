//! The commands on a lab: their arguments and entry points.

pub use crate::lab::demo::{DemoArgs, demo};

use crate::lab::console::is_refusal;
use crate::lab::control::{Connection, LabStatus, Request, ask};
use crate::lab::fabric::{DirectionStatus, LineStatus, Side};
use crate::lab::plan::{HostPlan, ORIGIN, ORIGIN_NAME, ROUTERS_MAX};
use crate::lab::run::{self, LabOptions};
use crate::lab::signals::Signals;
use crate::lab::state::StateDirectory;
use crate::lab::{daemon, host, log, origin, terminal};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which lab a command is about.
#[derive(Debug, Clone, clap::Args)]
pub struct LabName {
    /// Which lab; several may run at once.
    #[arg(long, default_value = "default")]
    name: String,
}

impl LabName {
    /// Its directory.
    ///
    /// # Errors
    /// Not a name.
    pub fn state(&self) -> Result<StateDirectory> {
        StateDirectory::of(&self.name)
    }
}

/// Writes figures for `--json FILE`.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(file: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Arguments of `lab up`.
#[derive(Debug, clap::Args)]
pub struct UpArgs {
    #[command(flatten)]
    lab: LabName,
    #[command(flatten)]
    options: LabOptions,
    /// Number of routers: 2 or 3; 1 with a stranger on the air instead of a neighbour; 0 puts the clients on the internet lines themselves.
    #[arg(long, default_value_t = 2)]
    routers: usize,
    /// Whether the routers split downloads.
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = ["on", "off"])]
    accel: String,
    /// Serve this directory as http://198.51.100.10/ with nginx.
    #[arg(long, value_name = "DIR")]
    www: Option<PathBuf>,
}

/// Starts the neighbourhood and leaves it running in the background.
///
/// # Errors
/// It does not come up.
pub fn up(args: UpArgs) -> Result<()> {
    if args.routers > ROUTERS_MAX {
        bail!("this lab has addresses for {ROUTERS_MAX} routers; use `--routers {ROUTERS_MAX}`");
    }
    let state = args.lab.state()?;
    run::refuse_running(&state)?;
    let image = match args.routers {
        0 => None,
        _ => Some(args.options.image()?),
    };
    let config = args.options.config(args.routers, args.accel == "on");
    // Until it is up, Ctrl-C takes it down.
    watch_signals(state.clone())?;
    run::up(&state, &config, image.as_ref(), false, |text| {
        eprintln!("{text}")
    })?;
    if let Some(www) = &args.www
        && let Err(error) = origin::start(&state, www)
    {
        // The first error is the one to tell.
        run::down(&state).ok();
        return Err(error);
    }
    print_status(&ask(&state, &Request::Status)?);
    println!(
        "origin is {ORIGIN} ({ORIGIN_NAME}); stop the lab with `{}`",
        run::down_command(&state)
    );
    Ok(())
}

/// On Ctrl-C or termination, takes the lab down and ends this process.
///
/// # Errors
/// Signals cannot be handled.
pub fn watch_signals(state: StateDirectory) -> Result<()> {
    let mut signals = Signals::take()?;
    std::thread::spawn(move || {
        let number = signals.wait();
        eprintln!("\nstopping the lab");
        if let Err(error) = run::down(&state) {
            eprintln!("lab: {error:#}");
        }
        std::process::exit(128 + number);
    });
    Ok(())
}

/// Arguments of `lab down`.
#[derive(Debug, clap::Args)]
pub struct DownArgs {
    #[command(flatten)]
    lab: LabName,
}

/// Stops a running lab and leaves nothing behind.
///
/// # Errors
/// Something does not end.
pub fn down(args: DownArgs) -> Result<()> {
    let state = args.lab.state()?;
    if run::down(&state)? {
        println!("lab `{}` is down", state.name());
    } else {
        println!("no lab `{}` ran", state.name());
    }
    Ok(())
}

/// Arguments of `lab status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    lab: LabName,
    /// Also write it to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Lists machines, hosts, and lines with their counters.
///
/// # Errors
/// No such lab runs.
pub fn status(args: StatusArgs) -> Result<()> {
    let status: LabStatus = ask(&args.lab.state()?, &Request::Status)?;
    print_status(&status);
    match &args.json {
        Some(file) => write_json(file, &status),
        None => Ok(()),
    }
}

fn print_status(status: &LabStatus) {
    println!(
        "lab `{}`, process {}, up {} s",
        status.name, status.pid, status.uptime_s
    );
    for router in &status.routers {
        println!(
            "router {:<8} {}, {} (process {})",
            router.name,
            router.state,
            if router.configured {
                "configured"
            } else {
                "not configured"
            },
            router.pid
        );
    }
    for host in &status.hosts {
        println!("host   {:<8} {}", host.name, host.addresses.join(" "));
    }
    for line in &status.lines {
        print_line(line);
    }
}

fn print_line(line: &LineStatus) {
    let (from_a, from_b) = (&line.from_a, &line.from_b);
    let alike = |other: &DirectionStatus| other.shape == from_a.shape;
    if alike(from_b) && line.from_c.as_ref().is_none_or(alike) {
        println!("line   {:<8} {}", line.name, from_a.shape);
    } else {
        println!("line   {:<8} from a: {}", line.name, from_a.shape);
        println!("                from b: {}", from_b.shape);
        if let Some(from_c) = &line.from_c {
            println!("                from c: {}", from_c.shape);
        }
    }
    println!("                from a: {}", counters(from_a));
    println!("                from b: {}", counters(from_b));
    if let Some(from_c) = &line.from_c {
        println!("                from c: {}", counters(from_c));
    }
    if line.captures > 0 {
        println!("                captures: {}", line.captures);
    }
}

fn counters(direction: &DirectionStatus) -> String {
    let mut text = format!("{} frames, {} bytes", direction.frames, direction.bytes);
    for (name, count) in [
        ("lost", direction.lost),
        ("dropped by the full queue", direction.dropped_full),
        ("reordered", direction.reordered),
        ("duplicated", direction.duplicated),
        ("corrupted", direction.corrupted),
        ("undelivered", direction.undelivered),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {name}"));
        }
    }
    text
}

/// Arguments of `lab exec`.
#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    #[command(flatten)]
    lab: LabName,
    /// client, client-b, stranger or origin.
    host: String,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs a program on a host of the running lab, and ends with its exit code.
///
/// # Errors
/// No such host, or the program cannot be run.
pub fn exec(args: ExecArgs) -> Result<()> {
    let pid: i32 = ask(&args.lab.state()?, &Request::Host { name: args.host })?;
    std::process::exit(host::run_on(pid, &args.command)?)
}

/// Arguments of `lab console`.
#[derive(Debug, clap::Args)]
pub struct ConsoleArgs {
    #[command(flatten)]
    lab: LabName,
    /// a or b.
    router: String,
    /// How long to wait for the answer of a command, s.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
    /// One command; without it the console is interactive.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The serial console of a router: interactive, or one command and its answer.
///
/// # Errors
/// No such router, no answer in time, or the router refuses.
pub fn console(args: ConsoleArgs) -> Result<()> {
    let state = args.lab.state()?;
    if args.command.is_empty() {
        return terminal::attach(&state, &args.router);
    }
    let answer: String = ask(
        &state,
        &Request::Command {
            router: args.router,
            command: args.command.join(" "),
            timeout_ms: args.timeout.saturating_mul(1_000),
        },
    )?;
    if answer.lines().any(is_refusal) {
        bail!(answer);
    }
    if !answer.is_empty() {
        println!("{answer}");
    }
    Ok(())
}

/// Arguments of `lab link`.
#[derive(Debug, clap::Args)]
pub struct LinkArgs {
    #[command(flatten)]
    lab: LabName,
    /// wan-a, wan-b, air, lan-a or lan-b.
    line: String,
    /// What this end sends only: a is the router (of `air`: router a), b the host (of `air`: router b).
    #[arg(long, value_enum)]
    from: Option<Side>,
    /// up, down, rate=8M, delay=25ms, loss=1%, reorder=1%, reorder-delay=5ms, duplicate=1%, corrupt=1%, queue=64K.
    #[arg(value_name = "CHANGE")]
    changes: Vec<String>,
    /// Also write the line's state to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Shows or changes a line while it runs.
///
/// # Errors
/// No such line or change.
pub fn link(args: LinkArgs) -> Result<()> {
    let status: LineStatus = ask(
        &args.lab.state()?,
        &Request::Link {
            line: args.line,
            from: args.from,
            changes: args.changes,
        },
    )?;
    print_line(&status);
    match &args.json {
        Some(file) => write_json(file, &status),
        None => Ok(()),
    }
}

/// Arguments of `lab pcap`.
#[derive(Debug, clap::Args)]
pub struct PcapArgs {
    #[command(flatten)]
    lab: LabName,
    /// wan-a, wan-b, air, lan-a or lan-b.
    line: String,
    /// The file to write.
    #[arg(required_unless_present = "stop", conflicts_with = "stop")]
    file: Option<PathBuf>,
    /// Which end sees the frames: b is the host (of `air`: router b), a the router.
    #[arg(long, value_enum, default_value = "b")]
    end: Side,
    /// Stop after so many seconds; without it, on Ctrl-C.
    #[arg(long = "for", value_name = "SECONDS", conflicts_with_all = ["background", "stop"])]
    seconds: Option<u64>,
    /// Return at once; the capture goes on until `--stop` or `lab down`.
    #[arg(long, conflicts_with = "stop")]
    background: bool,
    /// Stop the captures of this line.
    #[arg(long)]
    stop: bool,
}

/// Captures a line to a pcap file.
///
/// # Errors
/// No such line, or the file cannot be written.
pub fn pcap(args: PcapArgs) -> Result<()> {
    let state = args.lab.state()?;
    let Some(file) = args.file else {
        let frames: u64 = ask(&state, &Request::CaptureStop { line: args.line })?;
        println!("{frames} frames");
        return Ok(());
    };
    let file = std::path::absolute(&file)
        .with_context(|| format!("no such path as {}", file.display()))?;
    let request = Request::Capture {
        line: args.line,
        file: file.clone(),
        side: args.end,
        hold: !args.background,
    };
    let mut connection = Connection::open(&state)?;
    if args.background {
        return connection.ask::<u64>(&request).map(drop);
    }
    let mut signals = Signals::take()?;
    connection.send(&request)?;
    connection.progress()?;
    eprintln!("capturing to {}; Ctrl-C stops", file.display());
    match args.seconds {
        Some(seconds) => drop(signals.wait_timeout(Duration::from_secs(seconds))),
        None => drop(signals.wait()),
    }
    connection.send(&Value::Null)?;
    let frames: u64 = connection.answer(|_| {})?;
    println!("{frames} frames in {}", file.display());
    Ok(())
}

/// Arguments of `lab log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    #[command(flatten)]
    lab: LabName,
    /// a or b.
    router: String,
    /// Go on while the lab runs.
    #[arg(short, long)]
    follow: bool,
}

/// Prints a router's decoded defmt log.
///
/// # Errors
/// No such router.
pub fn log(args: LogArgs) -> Result<()> {
    log::print(&args.lab.state()?, &args.router, args.follow)
}

/// Arguments of `lab reset`.
#[derive(Debug, clap::Args)]
pub struct ResetArgs {
    #[command(flatten)]
    lab: LabName,
    /// a or b.
    router: String,
    /// Return at once, and leave the router as it comes up.
    #[arg(long)]
    no_config: bool,
}

/// Resets a router, as its power switch would, and configures it as `up` did.
///
/// # Errors
/// No such router, or it does not come up again.
pub fn reset(args: ResetArgs) -> Result<()> {
    let mut connection = Connection::open(&args.lab.state()?)?;
    connection.send(&Request::Reset {
        router: args.router,
        configure: !args.no_config,
    })?;
    connection
        .answer::<Value>(|text| eprintln!("{text}"))
        .map(drop)
}

/// Arguments of the hidden `lab daemon`.
#[derive(Debug, clap::Args)]
pub struct DaemonArgs {
    #[arg(long)]
    directory: PathBuf,
}

/// The process that a running lab is.
///
/// # Errors
/// The lab does not start.
pub fn daemon(args: DaemonArgs) -> Result<()> {
    daemon::run(&args.directory)
}

/// Arguments of the hidden `lab hold`.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    plan: String,
}

/// The process that holds a host's namespaces.
///
/// # Errors
/// The daemon is gone.
pub fn hold(args: HoldArgs) -> Result<()> {
    let plan: HostPlan = serde_json::from_str(&args.plan).context("a host's plan")?;
    host::hold(&plan, &args.directory)
}
