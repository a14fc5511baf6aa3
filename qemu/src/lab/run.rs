//! Starting and stopping a lab, for every command that does.

use crate::lab::control::{Connection, Request, ask};
use crate::lab::daemon::Config;
use crate::lab::host::wait_gone;
use crate::lab::lease;
use crate::lab::plan;
use crate::lab::provider::{self, Provider};
use crate::lab::shape;
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long the daemon may take to start QEMU and the hosts.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first ping may take to come back.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a lab may take to go down in order.
const DOWN_TIMEOUT: Duration = Duration::from_secs(15);

/// How lines and routers of a new lab are to be.
#[derive(Debug, Clone, clap::Args)]
pub struct LabOptions {
    /// Internet line of router a: RATE/DELAY/LOSS.
    #[arg(long, value_name = "LINE", default_value = "8M/25ms/0%", value_parser = checked_shape)]
    pub wan_a: String,
    /// Internet line of router b.
    #[arg(long, value_name = "LINE", default_value = "8M/25ms/0%", value_parser = checked_shape)]
    pub wan_b: String,
    /// Internet line of router c, if there is one.
    #[arg(long, value_name = "LINE", default_value = "8M/25ms/0%", value_parser = checked_shape)]
    pub wan_c: String,
    /// The wireless link between the routers.
    #[arg(long, value_name = "LINE", default_value = "25M/1ms/0%", value_parser = checked_shape)]
    pub air: String,
    /// All local networks.
    #[arg(long, value_name = "LINE", default_value = "100M", value_parser = checked_shape)]
    pub lan: String,
    /// An image to boot instead of building one.
    #[arg(long, value_name = "ELF")]
    pub image: Option<PathBuf>,
    /// What decides all chance on the lines.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

fn checked_shape(text: &str) -> std::result::Result<String, String> {
    match shape::parse_shape(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error:#}")),
    }
}

impl LabOptions {
    /// What the daemon is told.
    pub fn config(&self, routers: usize, accel: bool) -> Config {
        let shapes = [
            ("wan-a", &self.wan_a),
            ("wan-b", &self.wan_b),
            ("wan-c", &self.wan_c),
            ("air", &self.air),
            ("lan-a", &self.lan),
            ("lan-b", &self.lan),
            ("lan-c", &self.lan),
        ];
        Config {
            routers,
            accel,
            shapes: shapes
                .map(|(name, text)| (name.to_owned(), text.clone()))
                .to_vec(),
            seed: self.seed,
            counter: None,
        }
    }

    /// The image to boot: the given one, else a fresh build.
    ///
    /// # Errors
    /// There is none, or it cannot be built.
    pub fn image(&self) -> Result<PathBuf> {
        match &self.image {
            Some(path) if path.is_file() => Ok(path.clone()),
            Some(path) => bail!(
                "no image at {}; build one with `cargo lab build`",
                path.display()
            ),
            None => crate::image::build(),
        }
    }
}

/// Starts a lab and returns when it works: routers booted and configured, the way from client to router open.
/// `tied`: the lab ends when this process does.
///
/// # Errors
/// It runs already, or does not come up; then nothing is left of it.
pub fn up(
    state: &StateDirectory,
    config: &Config,
    image: Option<&PathBuf>,
    tied: bool,
    mut progress: impl FnMut(&str),
) -> Result<()> {
    refuse_running(state)?;
    // A lab that was killed leaves its directory.
    state.remove()?;
    std::fs::create_dir_all(state.path())
        .with_context(|| format!("cannot create {}", state.path().display()))?;
    let result = start(state, config, image, tied, &mut progress);
    if result.is_err() {
        // The first error is the one to tell.
        down(state).ok();
    }
    result
}

/// Refuses a name that is in use.
///
/// # Errors
/// A lab of this name runs.
pub fn refuse_running(state: &StateDirectory) -> Result<()> {
    if state.connect().is_ok() {
        bail!(
            "lab `{}` runs already; stop it with `{}`",
            state.name(),
            down_command(state)
        );
    }
    Ok(())
}

/// The command that stops this lab.
pub fn down_command(state: &StateDirectory) -> String {
    match state.name() {
        "default" => "cargo lab down".to_owned(),
        name => format!("cargo lab down --name {name}"),
    }
}

fn start(
    state: &StateDirectory,
    config: &Config,
    image: Option<&PathBuf>,
    tied: bool,
    progress: &mut impl FnMut(&str),
) -> Result<()> {
    if let Some(image) = image {
        // A copy: the log is decoded with the strings of the image that runs, whatever is built meanwhile.
        std::fs::copy(image, state.file("image.elf"))
            .with_context(|| format!("cannot copy {}", image.display()))?;
        let loader = crate::image::loader_of(image);
        std::fs::copy(&loader, state.file("loader.elf"))
            .with_context(|| format!("cannot copy {}", loader.display()))?;
    }
    std::fs::write(state.file("config.json"), serde_json::to_vec(config)?)
        .context("cannot write config.json")?;
    let mut daemon = spawn_daemon(state, tied)?;
    let pid = daemon.id();
    std::fs::write(state.file("pid"), pid.to_string()).context("cannot write the pid")?;
    let deadline = Instant::now() + START_TIMEOUT;
    let mut connection = loop {
        if let Ok(connection) = Connection::open(state) {
            break connection;
        }
        if daemon
            .try_wait()
            .context("cannot wait for the daemon")?
            .is_some()
        {
            let log = std::fs::read_to_string(state.file("daemon.log")).unwrap_or_default();
            let reason = log
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("without a word");
            bail!(
                "the lab did not start: {}",
                reason.trim_start_matches("lab: ")
            );
        }
        if Instant::now() > deadline {
            bail!("the lab did not start within {} s", START_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let plan = plan::neighbourhood(config.routers, config.accel);
    let clients = &plan.hosts[..plan.clients];
    // Before the routers ask for it.
    provider::start(state, &Provider::default(), clients.len())?;
    connection.send(&Request::Boot)?;
    let Value::Null = connection.answer::<Value>(&mut *progress)? else {
        bail!("the lab was started by another version");
    };
    for client in clients {
        if client.taps.iter().all(|tap| tap.address.is_some()) {
            continue;
        }
        let lease = lease::start(state, &client.name)?;
        progress(&format!(
            "{} has {} by DHCP of {}",
            client.name, lease.address, lease.server
        ));
    }
    for client in clients {
        ping(state, &client.name, plan::ORIGIN)?;
        progress(&format!("{} reaches {}", client.name, plan::ORIGIN));
    }
    Ok(())
}

fn spawn_daemon(state: &StateDirectory, tied: bool) -> Result<Child> {
    let log = File::create(state.file("daemon.log")).context("cannot write daemon.log")?;
    let errors = log.try_clone().context("cannot write daemon.log")?;
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command
        .arg("daemon")
        .arg("--directory")
        .arg(state.path())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    // SAFETY: two system calls that a signal handler may make.
    unsafe {
        command.pre_exec(move || {
            // Out of the terminal's reach: Ctrl-C is for the command, which takes the lab down in order.
            nix::unistd::setsid()?;
            if tied {
                nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            }
            Ok(())
        });
    }
    command.spawn().context("cannot start the daemon")
}

fn ping(state: &StateDirectory, host: &str, address: &str) -> Result<()> {
    let deadline = Instant::now() + PING_TIMEOUT;
    loop {
        let output = output_on(state, host, &["ping", "-n", "-c", "1", "-W", "1", address])?;
        if output.status.success() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{host} gets no answer from {address} within {} s {}",
                PING_TIMEOUT.as_secs(),
                error.trim()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The lab's program, where it is not the one that runs.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Tells where the lab's program is; a test of cargo is another one. The first word counts.
pub fn set_program(program: &Path) {
    PROGRAM.get_or_init(|| program.to_owned());
}

fn program_path() -> Result<PathBuf> {
    match PROGRAM.get() {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe().context("where is this program?"),
    }
}

/// The command that runs a program on a host, as `lab exec` does.
///
/// # Errors
/// Nobody knows where this program is.
pub fn command_on(state: &StateDirectory, host: &str, program: &[&str]) -> Result<Command> {
    let mut command = Command::new(program_path()?);
    command
        .args(["exec", "--name", state.name(), host, "--"])
        .args(program);
    Ok(command)
}

/// Runs a program on a host; its output.
///
/// # Errors
/// It cannot be run. Its own failure is in the output.
pub fn output_on(state: &StateDirectory, host: &str, program: &[&str]) -> Result<Output> {
    command_on(state, host, program)?
        .stdin(Stdio::null())
        .output()
        .with_context(|| {
            format!(
                "cannot run {} on {host}",
                program.first().unwrap_or(&"nothing")
            )
        })
}

/// One console command.
///
/// # Errors
/// No answer in time.
pub fn console(state: &StateDirectory, router: &str, command: &str) -> Result<String> {
    let request = Request::Command {
        router: router.to_owned(),
        command: command.to_owned(),
        timeout_ms: 20_000,
    };
    ask(state, &request)
}

/// Stops a lab and removes its directory; whether there was one.
///
/// # Errors
/// It does not end, or files cannot be removed.
pub fn down(state: &StateDirectory) -> Result<bool> {
    let pid = state.pid();
    let existed = state.path().exists();
    let running = state.connect().is_ok();
    if running {
        // A daemon that does not answer is dealt with below.
        ask::<Value>(state, &Request::Down).ok();
    }
    if let Some(pid) = pid
        && (running || is_daemon_of(pid, state))
    {
        let process = Pid::from_raw(pid);
        if !running {
            // Still starting, or ending. It may end before the signal.
            kill(process, Signal::SIGTERM).ok();
        }
        if !wait_gone(pid, DOWN_TIMEOUT) {
            kill(process, Signal::SIGKILL).ok();
            if !wait_gone(pid, Duration::from_secs(5)) {
                bail!("process {pid} does not end");
            }
        }
    }
    state.remove()?;
    Ok(existed)
}

/// Whether the process is this lab's daemon, and not one that was given its number later.
fn is_daemon_of(pid: i32, state: &StateDirectory) -> bool {
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut words = line.split(|byte| *byte == 0);
    words.nth(1) == Some(b"daemon".as_slice())
        && words.any(|word| word == state.path().as_os_str().as_encoded_bytes())
}
