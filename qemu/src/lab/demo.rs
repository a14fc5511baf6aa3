//! The measured download: one file by a real client from a real server, without and with the neighbour.
//!
//! All terms of the efficiency are measured in the same run with the same client and file: line A alone, line B alone
//! (the neighbour's own client behind router B), and a line of the air link's shape with nothing else on it.
//! Units: seconds and Mbit/s (10⁶ bit/s) of body bytes, as a person reads them; bytes as the origin logged them.

use crate::lab::commands::{LabName, watch_signals, write_json};
use crate::lab::control::{LabStatus, Request, ask};
use crate::lab::daemon::Config;
use crate::lab::plan::ORIGIN;
use crate::lab::run::{self, LabOptions};
use crate::lab::shape;
use crate::lab::state::StateDirectory;
use crate::lab::{log, origin};
use crate::line::Rng;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A download that gains no byte for so long hangs.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often progress is shown: on a terminal in place, elsewhere a line each.
const SHOW: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];
/// How long nginx may take to log a request whose last byte the client has.
const LOG_SETTLE: Duration = Duration::from_millis(300);

/// Arguments of `lab demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    lab: LabName,
    #[command(flatten)]
    options: LabOptions,
    /// Size of the file, whose bytes are random.
    #[arg(long, default_value = "32M", value_parser = checked_size, conflicts_with = "file")]
    size: u64,
    /// A file to download instead; its name decides its type.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A client instead of curl, as a shell command; `{url}` and `{output}` are filled in.
    #[arg(long, value_name = "CMD", value_parser = checked_client)]
    client: Option<String>,
    /// Also write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Do not get what is missing.
    #[arg(long)]
    no_install: bool,
}

fn checked_size(text: &str) -> std::result::Result<u64, String> {
    match shape::parse_size(text) {
        Ok(0) => Err("an empty file has no rate".to_owned()),
        Ok(size) => Ok(size),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn checked_client(text: &str) -> std::result::Result<String, String> {
    match text.contains("{url}") && text.contains("{output}") {
        true => Ok(text.to_owned()),
        false => Err(
            "write {url} and {output} where they belong, as in `wget -qO {output} {url}`"
                .to_owned(),
        ),
    }
}

/// A finished download.
#[derive(Debug, Clone, PartialEq)]
struct Download {
    seconds: f64,
    ttfb_ms: f64,
    sha256: String,
}

/// Figures of the download without the neighbour.
#[derive(Debug, Clone, Serialize)]
struct Without {
    seconds: f64,
    mbit_s: f64,
    ttfb_ms: f64,
}

/// Figures of the download with the neighbour.
#[derive(Debug, Clone, Serialize)]
struct With {
    seconds: f64,
    mbit_s: f64,
    ttfb_ms: f64,
    bytes_uplink: u64,
    bytes_peers: Vec<u64>,
}

/// Everything measured, as `--json` writes it.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    size_bytes: u64,
    without: Without,
    with: With,
    line_a_mbit_s: f64,
    line_b_mbit_s: f64,
    air_mbit_s: f64,
    efficiency: f64,
    sha256_equal: bool,
}

/// Downloads one file without and with the neighbour, and compares.
///
/// # Errors
/// A part does not start or hangs, or a download differs from the origin's file. Nothing is left running.
pub fn demo(args: DemoArgs) -> Result<()> {
    let state = args.lab.state()?;
    run::refuse_running(&state)?;
    if !args.no_install {
        crate::doctor::ensure()?;
    }
    let image = args.options.image()?;
    // From here on Ctrl-C takes the lab down, and so does the end of this function.
    watch_signals(state.clone())?;
    let _guard = Down(&state);
    let config = args.options.config(2, false);
    println!("starting two routers, their lines, a client behind each, and nginx");
    run::up(&state, &config, Some(&image), true, |_| {})?;
    let result = Demo::prepare(&args, &state).and_then(|demo| demo.measure(&args));
    let result = match result {
        Ok(figures) => Ok(figures),
        Err(error) => {
            explain(&state);
            Err(error)
        }
    };
    run::down(&state)?;
    let figures = result?;
    if let Some(file) = &args.json {
        write_json(file, &figures)?;
    }
    if !figures.sha256_equal {
        bail!("a download differs from the origin's file");
    }
    Ok(())
}

/// Takes the lab down when dropped.
struct Down<'a>(&'a StateDirectory);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if let Err(error) = run::down(self.0) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// The last words of both routers.
fn explain(state: &StateDirectory) {
    for router in ["a", "b"] {
        for line in log::tail(state, router, 8) {
            eprintln!("router {router}: {line}");
        }
    }
}

struct Demo<'a> {
    state: &'a StateDirectory,
    /// Where the clients write.
    directory: PathBuf,
    url: String,
    size: u64,
    sha256: String,
    client: Option<&'a str>,
}

impl<'a> Demo<'a> {
    /// Makes the file and starts nginx.
    fn prepare(args: &'a DemoArgs, state: &'a StateDirectory) -> Result<Self> {
        let www = state.file("www");
        let directory = state.file("downloads");
        for directory in [&www, &directory] {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        let (path, name) = match &args.file {
            Some(file) => {
                let file = file
                    .canonicalize()
                    .with_context(|| format!("no file {}", file.display()))?;
                // Under a name that needs no escaping in a URL; the extension decides the type.
                let name = match file.extension().and_then(|extension| extension.to_str()) {
                    Some(extension)
                        if extension.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
                    {
                        format!("file.{extension}")
                    }
                    Some(_) | None => "file".to_owned(),
                };
                std::os::unix::fs::symlink(&file, www.join(&name))
                    .context("cannot link the file")?;
                (file, name)
            }
            None => {
                let path = www.join("random.bin");
                write_random(&path, args.size)?;
                (path, "random.bin".to_owned())
            }
        };
        let size = std::fs::metadata(&path).context("the file")?.len();
        if size == 0 {
            bail!("{} is empty; an empty file has no rate", path.display());
        }
        let sha256 = sha256_of(&path)?;
        origin::start(state, &www)?;
        Ok(Self {
            state,
            directory,
            url: format!("http://{ORIGIN}/{name}"),
            size,
            sha256,
            client: args.client.as_deref(),
        })
    }

    fn measure(&self, args: &DemoArgs) -> Result<Figures> {
        println!(
            "downloading {} from nginx, {}",
            bytes_text(self.size),
            self.url
        );
        let without = self.download(self.state, "client", "without neighbour")?;
        let alone_b = self.download(self.state, "client-b", "line B alone")?;
        for router in ["a", "b"] {
            run::console(self.state, router, "set accel.enabled on")?;
        }
        let before = origin::bytes_by_line(&origin::requests(self.state));
        let with = self.download(self.state, "client", "with neighbour")?;
        std::thread::sleep(LOG_SETTLE);
        let after = origin::bytes_by_line(&origin::requests(self.state));
        let [bytes_uplink, bytes_peer] = [after[0] - before[0], after[1] - before[1]];
        let why = match bytes_peer {
            0 => run::console(self.state, "a", "why").unwrap_or_default(),
            _ => String::new(),
        };
        let air = self.air_alone(args)?;

        let mbit_s = |download: &Download| self.size as f64 * 8.0 / download.seconds / 1e6;
        let (line_a, line_b, air_rate) = (mbit_s(&without), mbit_s(&alone_b), mbit_s(&air));
        let figures = Figures {
            size_bytes: self.size,
            without: Without {
                seconds: without.seconds,
                mbit_s: line_a,
                ttfb_ms: without.ttfb_ms,
            },
            with: With {
                seconds: with.seconds,
                mbit_s: mbit_s(&with),
                ttfb_ms: with.ttfb_ms,
                bytes_uplink,
                bytes_peers: vec![bytes_peer],
            },
            line_a_mbit_s: line_a,
            line_b_mbit_s: line_b,
            air_mbit_s: air_rate,
            efficiency: mbit_s(&with) / (line_a + line_b.min(air_rate)),
            sha256_equal: [&without, &alone_b, &with, &air]
                .iter()
                .all(|download| download.sha256 == self.sha256),
        };
        self.print(&figures, [&without, &with]);
        if bytes_peer == 0 {
            println!("The neighbour carried nothing. The router's reason:\n{why}");
        }
        Ok(figures)
    }

    /// The same file by the same client over a line of the air's shape, in a lab without routers.
    fn air_alone(&self, args: &DemoArgs) -> Result<Download> {
        let state = StateDirectory::of(&format!("{}-air", self.state.name()))?;
        let _guard = Down(&state);
        let options = LabOptions {
            wan_a: args.options.air.clone(),
            ..args.options.clone()
        };
        let config: Config = options.config(0, false);
        run::up(&state, &config, None, true, |_| {})?;
        origin::start(&state, &self.state.file("www"))?;
        self.download(&state, "client", "air link alone")
    }

    /// Runs the client on a host until it ends, showing progress.
    fn download(&self, state: &StateDirectory, host: &str, title: &str) -> Result<Download> {
        let output = self.directory.join(title.replace(' ', "-"));
        let path = output.display().to_string();
        let shell;
        let command: Vec<&str> = match self.client {
            None => {
                // Progress and errors are ours to show; the client's own times go to standard output.
                let format = "%{time_total} %{time_starttransfer}";
                vec![
                    "curl",
                    "--silent",
                    "--show-error",
                    "--fail",
                    "--output",
                    &path,
                    "--write-out",
                    format,
                    &self.url,
                ]
            }
            Some(client) => {
                shell = client
                    .replace("{url}", &self.url)
                    .replace("{output}", &quoted(&path));
                vec!["sh", "-c", &shell]
            }
        };
        let started = Instant::now();
        let child = run::command_on(state, host, &command)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run the client on {host}"))?;
        let watched = self.watch(state, child, &output, title, started)?;
        let mut download = Download {
            seconds: watched.seconds,
            ttfb_ms: watched.ttfb_ms,
            sha256: sha256_of(&output)?,
        };
        if self.client.is_none() {
            let mut numbers = watched.said.split_whitespace().map(str::parse::<f64>);
            if let (Some(Ok(total)), Some(Ok(first))) = (numbers.next(), numbers.next()) {
                download.seconds = total;
                download.ttfb_ms = first * 1e3;
            }
        }
        // A download of no measurable time is of the smallest that curl shows.
        download.seconds = download.seconds.max(1e-6);
        std::fs::remove_file(&output).ok();
        Ok(download)
    }

    /// Waits for the client; an error if it fails or hangs.
    fn watch(
        &self,
        state: &StateDirectory,
        mut child: Child,
        output: &Path,
        title: &str,
        started: Instant,
    ) -> Result<Watched> {
        let mut progress = Progress::new(state, title, self.size);
        let (mut had, mut gained, mut first) = (0, started, None);
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for the client")? {
                break status;
            }
            let have = std::fs::metadata(output).map_or(0, |metadata| metadata.len());
            if have > had {
                first.get_or_insert_with(Instant::now);
                (had, gained) = (have, Instant::now());
            }
            if gained.elapsed() > STALL_TIMEOUT {
                // The program on the host dies with the child.
                child.kill().ok();
                child.wait().ok();
                bail!(
                    "{title}: no byte for {} s at {had} of {}",
                    STALL_TIMEOUT.as_secs(),
                    self.size
                );
            }
            progress.show(had, started.elapsed());
            std::thread::sleep(TICK);
        };
        let ended = Instant::now();
        progress.end();
        let read = |stream: Option<&mut dyn Read>| {
            let mut text = String::new();
            if let Some(stream) = stream {
                // Not text: nothing to show.
                stream.read_to_string(&mut text).ok();
            }
            text
        };
        let said = read(child.stdout.as_mut().map(|stream| stream as &mut dyn Read));
        if !status.success() {
            let errors = read(child.stderr.as_mut().map(|stream| stream as &mut dyn Read));
            let last = errors.lines().rev().find(|line| !line.trim().is_empty());
            bail!(
                "{title}: the client failed ({status}): {}",
                last.unwrap_or("without a word")
            );
        }
        Ok(Watched {
            seconds: (ended - started).as_secs_f64(),
            ttfb_ms: (first.unwrap_or(ended) - started).as_secs_f64() * 1e3,
            said,
        })
    }

    fn print(&self, figures: &Figures, [without, with]: [&Download; 2]) {
        let total =
            (figures.with.bytes_uplink + figures.with.bytes_peers.iter().sum::<u64>()).max(1);
        let share = |bytes: u64| {
            format!(
                "{} ({:.0} %)",
                bytes_text(bytes),
                bytes as f64 * 100.0 / total as f64
            )
        };
        let yes = |download: &Download| {
            if download.sha256 == self.sha256 {
                "equal"
            } else {
                "DIFFERENT"
            }
        };
        let (plain, joined) = (&figures.without, &figures.with);
        println!();
        println!(
            "{:<22}{:>20}{:>20}",
            "", "without neighbour", "with neighbour"
        );
        let row =
            |name: &str, left: String, right: String| println!("{name:<22}{left:>20}{right:>20}");
        row(
            "time",
            format!("{:.2} s", plain.seconds),
            format!("{:.2} s", joined.seconds),
        );
        row(
            "goodput",
            format!("{:.2} Mbit/s", plain.mbit_s),
            format!("{:.2} Mbit/s", joined.mbit_s),
        );
        row(
            "first byte after",
            format!("{:.0} ms", plain.ttfb_ms),
            format!("{:.0} ms", joined.ttfb_ms),
        );
        row(
            "by own line A",
            bytes_text(self.size),
            share(joined.bytes_uplink),
        );
        for bytes in &joined.bytes_peers {
            row("by neighbour's line B", "-".to_owned(), share(*bytes));
        }
        row(
            "SHA-256 as origin's",
            yes(without).to_owned(),
            yes(with).to_owned(),
        );
        println!();
        println!(
            "alone: line A {:.2}, line B {:.2}, air link {:.2} Mbit/s",
            figures.line_a_mbit_s, figures.line_b_mbit_s, figures.air_mbit_s
        );
        println!(
            "efficiency: {:.3} of line A + {}; {:.2} times as fast as without",
            figures.efficiency,
            if figures.line_b_mbit_s <= figures.air_mbit_s {
                "line B"
            } else {
                "air link"
            },
            plain.seconds / joined.seconds
        );
        println!("SHA-256 {}", self.sha256);
    }
}

/// What was seen of a client from outside.
struct Watched {
    seconds: f64,
    ttfb_ms: f64,
    said: String,
}

/// Shows how a download gets on, and what each internet line carries.
struct Progress<'a> {
    state: &'a StateDirectory,
    title: &'a str,
    size: u64,
    shown: Instant,
    last: (u64, [u64; 2]),
    in_place: bool,
}

impl<'a> Progress<'a> {
    fn new(state: &'a StateDirectory, title: &'a str, size: u64) -> Self {
        Self {
            state,
            title,
            size,
            shown: Instant::now(),
            last: (0, line_bytes(state)),
            in_place: std::io::stdout().is_terminal(),
        }
    }

    fn show(&mut self, have: u64, elapsed: Duration) {
        let since = self.shown.elapsed();
        if since < SHOW[usize::from(!self.in_place)] {
            return;
        }
        let lines = line_bytes(self.state);
        let rate = |now: u64, before: u64| {
            now.saturating_sub(before) as f64 * 8.0 / since.as_secs_f64() / 1e6
        };
        let bar = usize::try_from(have * 24 / self.size).unwrap_or(24).min(24);
        let text = format!(
            "{:<18} [{:<24}] {:>3} % {:>4} s  {:>6.2} Mbit/s  line A {:>5.2}  line B {:>5.2}",
            self.title,
            "#".repeat(bar),
            have * 100 / self.size,
            elapsed.as_secs(),
            rate(have, self.last.0),
            rate(lines[0], self.last.1[0]),
            rate(lines[1], self.last.1[1]),
        );
        if self.in_place {
            print!("\r{text}\x1b[K");
            // Progress that cannot be shown is no reason to stop.
            std::io::stdout().flush().ok();
        } else {
            println!("{text}");
        }
        self.shown = Instant::now();
        self.last = (have, lines);
    }

    fn end(&mut self) {
        if self.in_place {
            print!("\r\x1b[K");
            std::io::stdout().flush().ok();
        }
        println!("{:<18} done", self.title);
    }
}

/// Bytes that came down each internet line.
fn line_bytes(state: &StateDirectory) -> [u64; 2] {
    let Ok(status) = ask::<LabStatus>(state, &Request::Status) else {
        return [0; 2];
    };
    ["wan-a", "wan-b"].map(|name| {
        let line = status.lines.iter().find(|line| line.name == name);
        line.map_or(0, |line| line.from_b.bytes)
    })
}

/// A word for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn bytes_text(bytes: u64) -> String {
    if bytes >= 10 << 20 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else if bytes >= 10 << 10 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else {
        format!("{bytes} bytes")
    }
}

fn write_random(path: &Path, size: u64) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut to = BufWriter::new(File::create(path)?);
        let mut random = Rng::new(size);
        let mut left = size;
        while left > 0 {
            let bytes = random.next_u64().to_le_bytes();
            let count = left.min(8) as usize;
            to.write_all(&bytes[..count])?;
            left -= count as u64;
        }
        to.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn sha256_of(path: &Path) -> Result<String> {
    let read = || -> std::io::Result<String> {
        let mut from = BufReader::new(File::open(path)?);
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match from.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_names_that_others_read() {
        let figures = Figures {
            size_bytes: 1,
            without: Without {
                seconds: 1.0,
                mbit_s: 2.0,
                ttfb_ms: 3.0,
            },
            with: With {
                seconds: 1.0,
                mbit_s: 2.0,
                ttfb_ms: 3.0,
                bytes_uplink: 4,
                bytes_peers: vec![5],
            },
            line_a_mbit_s: 6.0,
            line_b_mbit_s: 7.0,
            air_mbit_s: 8.0,
            efficiency: 0.5,
            sha256_equal: true,
        };
        assert_eq!(
            serde_json::to_string(&figures).unwrap(),
            "{\"size_bytes\":1,\"without\":{\"seconds\":1.0,\"mbit_s\":2.0,\"ttfb_ms\":3.0},\
             \"with\":{\"seconds\":1.0,\"mbit_s\":2.0,\"ttfb_ms\":3.0,\"bytes_uplink\":4,\"bytes_peers\":[5]},\
             \"line_a_mbit_s\":6.0,\"line_b_mbit_s\":7.0,\"air_mbit_s\":8.0,\"efficiency\":0.5,\"sha256_equal\":true}"
        );
    }

    #[test]
    fn a_client_must_say_where_url_and_output_go() {
        assert!(checked_client("wget -qO {output} {url}").is_ok());
        assert!(checked_client("wget {url}").is_err());
        assert!(checked_size("0").is_err());
    }

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_random_file_has_its_size_and_its_hash() {
        let path = std::env::temp_dir().join(format!("lab-demo-{}", std::process::id()));
        write_random(&path, 1_001).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, b"abc").unwrap();
        let hash = sha256_of(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len(), 1_001);
        assert_ne!(bytes[..8], bytes[8..16]);
        assert_eq!(
            hash,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
