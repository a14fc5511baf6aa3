//! The running lab: one process that owns machines, hosts and lines, and answers the commands.
//!
//! Invariants:
//! - I1: children are started by the main thread and die with it (a death signal follows the thread that forked).
//! - I2: however the daemon ends, nothing of the lab runs on; when it ends in order, its directory is gone too.

use crate::lab::console::Console;
use crate::lab::control::{
    HostStatus, LabStatus, Reply, Request, RouterStatus, read_message, write_message,
};
use crate::lab::fabric::{Fabric, NewLine, Port};
use crate::lab::host::Host;
use crate::lab::lease;
use crate::lab::plan::{self, End, HostPlan, Plan, RouterPlan, TapPlan};
use crate::lab::shape;
use crate::lab::signals::{self, Signals};
use crate::lab::state::{CONTROL, StateDirectory};
use crate::machine::{Count, Machine};
use anyhow::{Context, Result, bail};
use firmware::store::provision;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a router may take from its switch to the first prompt. It takes a second on an idle machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest log of a router that is kept; a router that says more has gone mad.
const LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What `lab up` hands down in `config.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Number of routers.
    pub routers: usize,
    /// Whether they split downloads at first.
    pub accel: bool,
    /// Shapes by line name, as `lab::shape::parse_shape` reads them.
    pub shapes: Vec<(String, String)>,
    /// Of the chance on all lines.
    pub seed: u64,
    /// The plugin that counts the routers' instructions into `router-X.count`, if they are to be counted.
    pub counter: Option<PathBuf>,
}

struct Router {
    plan: RouterPlan,
    machine: Machine,
    console: Console,
    configured: AtomicBool,
}

struct Lab {
    name: String,
    routers: Vec<Arc<Router>>,
    hosts: Vec<Host>,
    fabric: Fabric,
    started: Instant,
}

/// Runs `lab daemon`: the lab in `directory`, until a signal or `lab down`.
///
/// # Errors
/// A part does not start; nothing is left then either.
pub fn run(directory: &Path) -> Result<()> {
    let state = StateDirectory::at(directory);
    let mut signals = Signals::take()?;
    std::env::set_current_dir(state.path()).context("the lab's directory")?;
    let config: Config =
        serde_json::from_slice(&std::fs::read("config.json").context("config.json")?)?;
    let plan = plan::neighbourhood(config.routers, config.accel);
    let lab = Arc::new(start(&state, &config, &plan)?);

    // Relative: a socket's path has about 100 bytes at most.
    let listener = UnixListener::bind(CONTROL).context("cannot listen for commands")?;
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn({
            let lab = Arc::clone(&lab);
            move || listen(&lab, &listener)
        })
        .context("no thread for commands")?;
    signals.wait();

    std::fs::remove_file(CONTROL).ok();
    for router in &lab.routers {
        router.machine.stop();
    }
    // The lines end with the process; their captures are completed first. Hosts end by the closing of their sockets,
    // the wait for which is theirs.
    for line in lab.fabric.status() {
        if line.captures > 0 {
            lab.fabric.capture_stop(&line.name, None).ok();
        }
    }
    let holders: Vec<i32> = lab.hosts.iter().map(|host| host.pid).collect();
    for host in &lab.hosts {
        host.hang_up();
    }
    for pid in holders {
        if !crate::lab::host::wait_gone(pid, Duration::from_secs(3)) {
            eprintln!("host process {pid} does not end");
        }
    }
    state.remove()
}

fn start(state: &StateDirectory, config: &Config, plan: &Plan) -> Result<Lab> {
    let mut hosts = Vec::new();
    let mut taps: Vec<Vec<Option<File>>> = Vec::new();
    for plan in &plan.hosts {
        let (host, files) = Host::start(plan, state.path())?;
        hosts.push(host);
        taps.push(files.into_iter().map(Some).collect());
    }
    let loader = state.file("loader.elf");
    let mut routers = Vec::new();
    let mut nics: Vec<[Option<UnixStream>; 3]> = Vec::new();
    for plan in &plan.routers {
        let messages =
            File::create(format!("router-{}.log", plan.name)).context("cannot write a log")?;
        let flash = flash_of(state, plan)?;
        let count = config.counter.as_ref().map(|plugin| Count {
            plugin: plugin.clone(),
            file: state.file(&format!("router-{}.count", plan.name)),
        });
        let (name, macs) = (&plan.name, &plan.macs);
        let (machine, sockets) =
            Machine::start_with(name, macs, &loader, &flash, messages, count.as_ref())?;
        let router = Arc::new(Router {
            plan: plan.clone(),
            machine,
            console: Console::new(&sockets.console)?,
            configured: AtomicBool::new(false),
        });
        let console = sockets.console;
        spawn("console", {
            let router = Arc::clone(&router);
            move || router.console.listen(console)
        })?;
        let log = sockets.log;
        let path = state.file(&format!("router-{}.defmt", plan.name));
        let mut file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        spawn("log", move || keep_log(log, &mut file))?;
        routers.push(router);
        nics.push(sockets.nics.map(Some));
    }
    let mut port = |end: End| -> Result<Port> {
        let port = match end {
            End::Nic { router, port } => nics[router][port].take().map(Port::Nic),
            End::Tap { host, tap } => taps[host][tap].take().map(Port::Tap),
        };
        port.context("two lines at one end")
    };
    let mut lines = Vec::new();
    for line in &plan.lines {
        let text = config.shapes.iter().find(|(name, _)| *name == line.name);
        lines.push(NewLine {
            name: line.name.clone(),
            shape: shape::parse_shape(text.map_or("0", |(_, text)| text))?,
            ports: (line.ends.iter().map(|end| port(*end))).collect::<Result<_>>()?,
        });
    }
    Ok(Lab {
        name: state.name().to_owned(),
        routers,
        hosts,
        fabric: Fabric::start(lines, config.seed)?,
        started: Instant::now(),
    })
}

/// The file of a router's flash; a new one holds the image, and the settings as if its owner had saved them.
fn flash_of(state: &StateDirectory, plan: &RouterPlan) -> Result<PathBuf> {
    let path = state.file(&format!("router-{}.flash", plan.name));
    if !path.is_file() {
        let elf = std::fs::read(state.file("image.elf")).context("the lab has no image")?;
        let mut flash = crate::image::flash_image(&crate::image::pack(&elf)?)?;
        let settings = plan.stored()?;
        if let Err(error) = provision(&mut flash, &settings) {
            bail!(
                "the settings of router {} cannot be stored: {error:?}",
                plan.name
            );
        }
        std::fs::write(&path, flash).with_context(|| path.display().to_string())?;
    }
    Ok(path)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("no thread for the {name}"))
        .map(drop)
}

/// Appends a router's log to its file; reads on when the file is full, or the router would wait.
fn keep_log(mut log: UnixStream, file: &mut File) {
    let (mut buffer, mut kept) = ([0; 4_096], 0);
    loop {
        match log.read(&mut buffer) {
            Ok(count) if count > 0 => {
                if kept < LOG_BYTES_MAX && file.write_all(&buffer[..count]).is_ok() {
                    kept += count as u64;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn listen(lab: &Arc<Lab>, listener: &UnixListener) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let lab = Arc::clone(lab);
        // Without a thread the command sees its connection end.
        spawn("command", move || {
            if let Err(error) = serve(&lab, stream) {
                eprintln!("command: {error:#}");
            }
        })
        .ok();
    }
}

fn serve(lab: &Lab, mut stream: UnixStream) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone().context("a command's connection")?);
    while let Some(request) = read_message::<Request>(&mut reader)? {
        let last = matches!(request, Request::Down);
        if let Request::Attach { router } = &request {
            return match lab.router(router) {
                Ok(router) => attach(&router.console, stream, reader),
                Err(error) => write_message(&mut stream, &Reply::Failed(format!("{error:#}"))),
            };
        }
        let result = answer(lab, request, &mut stream, &mut reader);
        let reply = match result {
            Ok(value) => Reply::Done(value),
            Err(error) => Reply::Failed(format!("{error:#}")),
        };
        write_message(&mut stream, &reply)?;
        if last {
            signals::raise();
        }
    }
    Ok(())
}

fn answer(
    lab: &Lab,
    request: Request,
    stream: &mut UnixStream,
    reader: &mut BufReader<UnixStream>,
) -> Result<Value> {
    match request {
        Request::Boot => {
            for router in &lab.routers {
                router.come_up(0, |text| write_message(stream, &Reply::Progress(text)))?;
            }
            Ok(Value::Null)
        }
        Request::Status => Ok(serde_json::to_value(lab.status())?),
        Request::Host { name } => match lab.hosts.iter().find(|host| host.plan.name == name) {
            Some(host) => Ok(json!(host.pid)),
            None => {
                let names: Vec<_> = lab
                    .hosts
                    .iter()
                    .map(|host| host.plan.name.as_str())
                    .collect();
                bail!("no host `{name}`; this lab has {}", names.join(", "))
            }
        },
        Request::Command {
            router,
            command,
            timeout_ms,
        } => {
            let router = lab.router(&router)?;
            Ok(json!(
                router
                    .console
                    .command(&command, Duration::from_millis(timeout_ms))?
            ))
        }
        // Served before.
        Request::Attach { router } => bail!("router {router} cannot be attached to here"),
        Request::Link {
            line,
            from,
            changes,
        } => Ok(serde_json::to_value(
            lab.fabric.change(&line, from, &changes)?,
        )?),
        Request::Capture {
            line,
            file,
            side,
            hold,
        } => capture(lab, &line, &file, side, hold, stream, reader),
        Request::CaptureStop { line } => Ok(json!(lab.fabric.capture_stop(&line, None)?)),
        Request::Reset { router, configure } => {
            let router = lab.router(&router)?;
            let from = router.console.end();
            router.configured.store(false, Ordering::Relaxed);
            router.machine.reset()?;
            if configure {
                router.come_up(from, |text| write_message(stream, &Reply::Progress(text)))?;
            }
            Ok(Value::Null)
        }
        Request::Down => Ok(Value::Null),
    }
}

fn capture(
    lab: &Lab,
    line: &str,
    file: &Path,
    side: crate::lab::fabric::Side,
    hold: bool,
    stream: &mut UnixStream,
    reader: &mut BufReader<UnixStream>,
) -> Result<Value> {
    let id = lab.fabric.capture(line, file, side)?;
    if !hold {
        return Ok(json!(0));
    }
    if write_message(stream, &Reply::Progress("capturing".to_owned())).is_ok() {
        // A line or the end: either way the capture is over.
        reader.skip_until(b'\n').ok();
    }
    Ok(json!(lab.fabric.capture_stop(line, Some(id))?))
}

/// Joins a command's connection and a console until either ends.
fn attach(
    console: &Console,
    mut stream: UnixStream,
    mut reader: BufReader<UnixStream>,
) -> Result<()> {
    write_message(&mut stream, &Reply::Done(Value::Null))?;
    // Show where the person is: the line that the console is on.
    let end = console.end();
    let recent = console.since(end.saturating_sub(200));
    let line = recent
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut offset = end;
            let mut sent = stream.write_all(&recent[line..]);
            while sent.is_ok() && !gone.load(Ordering::Relaxed) {
                let Some((bytes, next)) = console.wait(offset, Duration::from_millis(200)) else {
                    break;
                };
                sent = stream.write_all(&bytes);
                offset = next;
            }
            // Ends the reading below too.
            stream.shutdown(std::net::Shutdown::Both).ok();
        });
        let mut buffer = [0; 256];
        while let Ok(count) = reader.read(&mut buffer) {
            if count == 0 || console.write(&buffer[..count]).is_err() {
                break;
            }
        }
        gone.store(true, Ordering::Relaxed);
    });
    Ok(())
}

impl Router {
    /// Waits for the prompt after `from` and gives the router its configuration.
    fn come_up(&self, from: u64, mut progress: impl FnMut(String) -> Result<()>) -> Result<()> {
        let name = &self.plan.name;
        let what = || match self.machine.state().as_str() {
            "running" => format!("router {name} did not boot"),
            ended => format!("router {name} did not boot ({ended})"),
        };
        self.console
            .wait_prompt(from, BOOT_TIMEOUT)
            .with_context(what)?;
        progress(format!("router {name} has booted"))?;
        self.configured.store(true, Ordering::Relaxed);
        progress(format!("router {name} is configured"))
    }
}

impl Lab {
    fn router(&self, name: &str) -> Result<&Arc<Router>> {
        match self.routers.iter().find(|router| router.plan.name == name) {
            Some(router) => Ok(router),
            None => {
                let names: Vec<_> = self
                    .routers
                    .iter()
                    .map(|router| router.plan.name.as_str())
                    .collect();
                bail!("no router `{name}`; this lab has: {}", names.join(", "))
            }
        }
    }

    fn status(&self) -> LabStatus {
        LabStatus {
            name: self.name.clone(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            routers: self
                .routers
                .iter()
                .map(|router| RouterStatus {
                    name: router.plan.name.clone(),
                    pid: router.machine.pid,
                    state: router.machine.state(),
                    configured: router.configured.load(Ordering::Relaxed),
                })
                .collect(),
            hosts: self
                .hosts
                .iter()
                .map(|host| HostStatus {
                    name: host.plan.name.clone(),
                    pid: host.pid,
                    addresses: addresses(&host.plan),
                })
                .collect(),
            lines: self.fabric.status(),
        }
    }
}

/// The addresses of a host with their prefix lengths: those of its plan, and what DHCP gave it last.
fn addresses(plan: &HostPlan) -> Vec<String> {
    let leased = |tap: &TapPlan| {
        let lease = lease::last(&StateDirectory::at(Path::new(".")), &plan.name);
        let address = lease.map(|lease| format!("{}/{}", lease.address, lease.prefix));
        address.unwrap_or_else(|| format!("{} without an address", tap.name))
    };
    let taps = plan.taps.iter();
    let mut addresses: Vec<_> = taps
        .map(|tap| tap.address.clone().unwrap_or_else(|| leased(tap)))
        .collect();
    addresses.extend(plan.loopback.iter().cloned());
    addresses
}
