//! The measured download: one file by a real client from a real server, without and with the neighbour.
//!
//! All terms of the efficiency are measured in the same run with the same client and file: line A alone, line B alone
//! (the neighbour's own client behind router B), and a line of the air link's shape with nothing else on it.
//! Units: seconds and Mbit/s (10⁶ bit/s) of body bytes, as a person reads them; bytes as the origin logged them.

use crate::lab::commands::{LabName, watch_signals, write_json};
use crate::lab::daemon::Config;
use crate::lab::download::{Download, Job, Lines, sha256_of};
use crate::lab::plan::ORIGIN;
use crate::lab::run::{self, LabOptions};
use crate::lab::shape;
use crate::lab::state::StateDirectory;
use crate::lab::{log, origin};
use crate::line::Rng;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Lines of the neighbourhood whose load is shown: what they are called, and their names in the lab.
const LINES: Lines = &[("line A", "wan-a"), ("line B", "wan-b")];
/// The same of the lab that has only a line of the air link's shape.
const AIR: Lines = &[("air", "wan-a")];

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
        let without = self.download(self.state, LINES, "client", "without neighbour")?;
        let alone_b = self.download(self.state, LINES, "client-b", "line B alone")?;
        for router in ["a", "b"] {
            run::console(self.state, router, "set accel.enabled on")?;
        }
        let before = origin::requests(self.state).len();
        let with = self.download(self.state, LINES, "client", "with neighbour")?;
        std::thread::sleep(LOG_SETTLE);
        let logged = origin::requests(self.state);
        let [bytes_uplink, bytes_peer, ..] = origin::bytes_by_line(&logged[before..]);
        let why = match bytes_peer {
            0 => run::console(self.state, "a", "why").unwrap_or_default(),
            _ => String::new(),
        };
        let air = self.air_alone(args)?;

        let mbit_s = |download: &Download| download.mbit_s(self.size);
        let (line_a, line_b, air_rate) = (mbit_s(&without), mbit_s(&alone_b), mbit_s(&air));
        let figures = Figures {
            size_bytes: self.size,
            without: Without {
                seconds: rounded(without.seconds),
                mbit_s: rounded(line_a),
                ttfb_ms: rounded(without.ttfb_ms),
            },
            with: With {
                seconds: rounded(with.seconds),
                mbit_s: rounded(mbit_s(&with)),
                ttfb_ms: rounded(with.ttfb_ms),
                bytes_uplink,
                bytes_peers: vec![bytes_peer],
            },
            line_a_mbit_s: rounded(line_a),
            line_b_mbit_s: rounded(line_b),
            air_mbit_s: rounded(air_rate),
            efficiency: rounded(mbit_s(&with) / (line_a + line_b.min(air_rate))),
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
        self.download(&state, AIR, "client", "air link alone")
    }

    fn download(
        &self,
        state: &StateDirectory,
        lines: Lines,
        host: &str,
        title: &str,
    ) -> Result<Download> {
        let job = Job {
            state,
            lines,
            host,
            title,
            url: &self.url,
            size: self.size,
            output: self.directory.join(title.replace(' ', "-")),
            client: self.client,
        };
        let download = job.run()?;
        println!(
            "{title:<18} {:.2} s, {:.2} Mbit/s",
            download.seconds,
            download.mbit_s(self.size)
        );
        Ok(download)
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

/// What is worth writing down of a figure.
fn rounded(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
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
    fn a_random_file_has_its_size_and_no_repeated_block() {
        let path = std::env::temp_dir().join(format!("lab-demo-{}", std::process::id()));
        write_random(&path, 1_001).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes.len(), 1_001);
        assert_ne!(bytes[..8], bytes[8..16]);
    }
}
