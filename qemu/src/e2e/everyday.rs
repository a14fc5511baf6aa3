//! Programs whose downloads are not one file by one request: resumed, in pieces at once, sought through, queued by apt.
//!
//! What they get is judged by SHA-256 or by the frames they decode. What the router decided is listed in each scenario's
//! words; that it decided something, for a file of the scenario's own, is asserted, and not what.

use super::oracle::{bytes_to, same_file, summary};
use super::origins::{Entry, NGINX, WAN_A, WAN_B};
use super::world::{one_line, until};
use super::{Scenario, Stage, programs};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// For one program, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "everyday: wget -c resumes a download, and the whole is the origin's",
        run: resume,
    },
    Scenario {
        name: "everyday: aria2c -x4 fetches one file by four connections, and the whole is the origin's",
        run: pieces,
    },
    Scenario {
        name: "everyday: ffmpeg seeks in a film and decodes the same frames as from a local copy",
        run: seeks,
    },
    Scenario {
        name: "everyday: apt-get install --download-only fetches an index and packages whole",
        run: apt,
    },
];

/// What the router had counted before a program ran.
struct Before {
    counters: BTreeMap<String, u64>,
    mark: usize,
}

impl Stage {
    fn verdict_counters(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.world.console("a", "counters")?;
        let counters = text.lines().filter_map(|line| {
            let (name, value) = line.trim().rsplit_once('=')?;
            let counted = ["verdict.", "exchange.stitched", "exchange.bytes-"];
            let counted = counted.iter().any(|stage| name.starts_with(stage));
            Some((name.to_owned(), value.parse().ok().filter(|_| counted)?))
        });
        Ok(counters.collect())
    }

    fn before(&self) -> Result<Before> {
        Ok(Before {
            counters: self.verdict_counters()?,
            mark: self.origins.mark(NGINX)?,
        })
    }

    /// What the router decided since then about `path`, in words, and what the origin was asked.
    fn verdicts(&self, before: &Before, path: &str) -> Result<(String, Vec<Entry>)> {
        let entries = self.origins.since(NGINX, before.mark)?;
        ensure!(!entries.is_empty(), "the origin was not asked at all");
        // It is told when the last answer is through, which the client need not wait for.
        let mut rows = Vec::new();
        until(&format!("a verdict on {path}"), LIMIT, || {
            let told = self.world.console("a", "why --kv")?;
            rows = (told.lines().map(str::trim))
                .filter(|line| line.starts_with("why=") && line.contains(path))
                .map(str::to_owned)
                .collect();
            Ok(!rows.is_empty())
        })
        .with_context(|| summary(&entries))?;
        let counters = self.verdict_counters()?;
        ensure!(!counters.is_empty(), "router a tells no counters");
        let grown = |name: &str| {
            let then = before.counters.get(name).copied().unwrap_or(0);
            counters.get(name).copied().unwrap_or(0) - then
        };
        let counted = counters.keys().filter(|name| grown(name) > 0);
        let counted: Vec<String> = counted
            .map(|name| format!("{name}={}", grown(name)))
            .collect();
        let flows = self.world.console("a", "flows --kv")?;
        let origin = format!("{NGINX}:80");
        let flows = flows.lines().filter(|line| line.contains(&origin)).count();
        let words = format!(
            "{} requests at the origin, {} bytes by A and {} by B; {}; {}; {flows} flows to it remembered",
            entries.len(),
            bytes_to(&entries, WAN_A),
            bytes_to(&entries, WAN_B),
            counted.join(" "),
            rows.join(", "),
        );
        Ok((words, entries))
    }
}

fn resume(stage: &mut Stage) -> Result<String> {
    const SIZE: u64 = 6 * MIB;
    const HELD: usize = 2_000_003;
    let file = stage.serve("resumed.bin", SIZE)?;
    let out = stage.world.file("resumed");
    std::fs::write(&out, &std::fs::read(&file)?[..HELD])?;
    let (text, url) = (
        out.display().to_string(),
        format!("http://{NGINX}/resumed.bin"),
    );
    let before = stage.before()?;
    let command = [
        "wget",
        "--quiet",
        "--tries=1",
        "--timeout=30",
        "--continue",
        &format!("--output-document={text}"),
        &url,
    ];
    stage.world.exec("client", &command, LIMIT)?.good()?;
    same_file(&out, &file)?;
    let (words, entries) = stage.verdicts(&before, "resumed.bin")?;
    ensure!(
        entries.iter().all(|entry| entry.status == 206),
        "not resumed: {}",
        summary(&entries)
    );
    Ok(words)
}

fn pieces(stage: &mut Stage) -> Result<String> {
    const SIZE: u64 = 8 * MIB;
    let file = stage.serve("pieces.bin", SIZE)?;
    let out = stage.world.file("pieces");
    for path in [out.clone(), out.with_extension("aria2")] {
        std::fs::remove_file(path).ok();
    }
    let (text, url) = (
        out.display().to_string(),
        format!("http://{NGINX}/pieces.bin"),
    );
    let before = stage.before()?;
    let command = [
        "aria2c",
        "--quiet",
        "-x4",
        "-s4",
        "--min-split-size=1M",
        "--allow-overwrite=true",
        "--dir=/",
        &format!("--out={text}"),
        &url,
    ];
    stage.world.exec("client", &command, LIMIT)?.good()?;
    same_file(&out, &file)?;
    let (words, entries) = stage.verdicts(&before, "pieces.bin")?;
    let ranges = entries.iter().filter(|entry| entry.status == 206).count();
    ensure!(ranges > 1, "not in pieces: {}", summary(&entries));
    Ok(words)
}

/// A film of half a minute and some 10 MB, its index in front.
fn film(path: &Path) -> Result<()> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=640x360:rate=25:duration=30,noise=alls=30:allf=t")
        // One thread and exact arithmetic: the same film in every run.
        .args(["-c:v", "mpeg4", "-b:v", "2500k", "-g", "25"])
        .args(["-threads", "1", "-flags", "+bitexact", "-fflags"])
        .args(["+bitexact", "-movflags", "+faststart", "-f", "mp4"])
        .arg(path)
        .output()
        .context("ffmpeg")?;
    ensure!(
        output.status.success(),
        "ffmpeg: {}",
        one_line(&String::from_utf8_lossy(&output.stderr))
    );
    Ok(())
}

/// Ten frames after each of some places, as ffmpeg's hashes of them.
fn frames(stage: &mut Stage, host: &str, input: &str) -> Result<String> {
    // Forward, back, to the end and to the start: as a viewer does who looks for a scene.
    const PLACES: [&str; 5] = ["20", "5", "28", "12.5", "0"];
    let mut all = String::new();
    for place in PLACES {
        let command = [
            "ffmpeg",
            "-nostdin",
            "-v",
            "error",
            "-ss",
            place,
            "-i",
            input,
            "-frames:v",
            "10",
            "-threads",
            "1",
            "-f",
            "framemd5",
            "-",
        ];
        let said = stage.world.exec(host, &command, LIMIT)?.good()?;
        let hashes = said.lines().filter(|line| !line.starts_with('#'));
        let hashes: Vec<&str> = hashes.collect();
        ensure!(
            hashes.len() == 10,
            "{} frames after {place} s of {input}: {}",
            hashes.len(),
            one_line(&said)
        );
        all.push_str(&hashes.join("\n"));
        all.push('\n');
    }
    Ok(all)
}

fn seeks(stage: &mut Stage) -> Result<String> {
    let file = stage.files.join("sought.mp4");
    film(&file)?;
    let size = std::fs::metadata(&file)?.len();
    ensure!(size > 4 * MIB, "a film of only {size} bytes");
    let local = frames(stage, "origin", &file.display().to_string())?;
    let before = stage.before()?;
    let through = frames(stage, "client", &format!("http://{NGINX}/sought.mp4"))?;
    ensure!(local == through, "other frames than from the local copy");
    let distinct: std::collections::BTreeSet<&str> = local.lines().collect();
    ensure!(
        distinct.len() > 40,
        "frames that do not differ show nothing"
    );
    let (words, entries) = stage.verdicts(&before, "sought.mp4")?;
    // What a player asks has no end; what routers ask has one.
    let sought = |entry: &&Entry| {
        let open = entry.range.strip_prefix("bytes=");
        let open = open.and_then(|range| range.strip_suffix('-'));
        let first = open.and_then(|first| first.parse::<u64>().ok());
        entry.address == WAN_A && first.is_some_and(|first| first > MIB)
    };
    let sought = entries.iter().filter(sought).count();
    ensure!(sought >= 3, "it did not seek: {}", summary(&entries));
    Ok(words)
}

fn apt(stage: &mut Stage) -> Result<String> {
    let packages = [
        ("tandem-small", 30_000),
        ("tandem-large", 4 * MIB),
        ("tandem-middle", 700_000),
        ("tandem-tiny", 900),
    ];
    // An index large enough to be worth a neighbour, as Debian's is.
    let index = 600_000;
    let repository = programs::repository(stage, "apt-install", &packages, index)?;
    let root = stage.world.file("apt-install");
    let configuration = programs::apt_world(&root, "apt-install")?;
    let names: Vec<&str> = packages.iter().map(|(name, _)| *name).collect();
    let command = format!(
        "unset http_proxy HTTP_PROXY && export APT_CONFIG={} && apt-get -q update && \
         apt-get -q -y install --download-only {}",
        configuration.display(),
        names.join(" ")
    );
    let before = stage.before()?;
    let command = ["sh", "-c", &command];
    stage.world.exec("client", &command, LIMIT)?.good()?;
    let archives = root.join("var/cache/apt/archives");
    for name in names {
        let file = format!("{name}_1.0_all.deb");
        same_file(&archives.join(&file), &repository.join(&file))?;
    }
    let (words, _) = stage.verdicts(&before, "apt-install/")?;
    Ok(words)
}

/// Text that an index may end with, of about so many bytes: other packages, which nobody wants.
pub(super) fn others(bytes: usize) -> Result<String> {
    let mut text = Vec::new();
    for number in 0_u64.. {
        if text.len() >= bytes {
            break;
        }
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        write!(
            text,
            "\nPackage: other-{number}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@origin.test>\n\
             Description: {hash:016x}\nFilename: ./other-{number}_1.0_all.deb\nSize: 1\nSHA256: {hash:064x}\n"
        )?;
    }
    Ok(String::from_utf8(text)?)
}
