//! Clients that ask for a range themselves: resumed downloads, update clients, players.

use super::oracle::{same_file, summary};
use super::origins::{Entry, LIGHTTPD, NGINX, WAN_A, WAN_B};
use super::plain::untouched;
use super::world::one_line;
use super::{Scenario, Stage};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 8 * MIB;
/// The least that each line carries of a part that is split, in percent.
const SHARE: u64 = 15;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "q1: curl's own ranges a-b, a- and -n come over both lines, byte for byte",
        run: every_form,
    },
    Scenario {
        name: "q1: curl resumes a download over both lines",
        run: resumed,
    },
    Scenario {
        name: "head probe: a client's own Range request passes untouched",
        run: |stage| {
            stage.set("a", "accel.probe", "head")?;
            let words = untouched(
                stage,
                &["GET /honest/2m.bin HTTP/1.1", "Range: bytes=1000-1500999"],
                b"",
            );
            stage.set("a", "accel.probe", "reply")?;
            words
        },
    },
    Scenario {
        name: "q2: a request for several ranges passes untouched",
        run: |stage| {
            untouched(
                stage,
                &[
                    "GET /honest/2m.bin HTTP/1.1",
                    "Range: bytes=1000-700999,800000-1500999",
                ],
                b"",
            )
        },
    },
];

/// The bytes `first..end` of a file that the origins serve, in a file of their own.
fn piece(stage: &Stage, file: &std::path::Path, first: u64, end: u64) -> Result<PathBuf> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let piece = bytes.get(usize::try_from(first)?..usize::try_from(end)?);
    let path = stage.world.file("piece");
    std::fs::write(&path, piece.context("inside the file")?)?;
    Ok(path)
}

/// The origin's log shows that both lines carried of the part from `first` to `end` what they should, and nobody
/// anything outside of it. Gives the share of line B in percent.
fn both_lines(entries: &[Entry], own: &str, first: u64, end: u64) -> Result<u64> {
    let place = |entry: &Entry| {
        let range = entry.range.strip_prefix("bytes=")?;
        let (from, last) = range.split_once('-')?;
        Some((from.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
    };
    let asked = format!("bytes={own}");
    let is_own = |entry: &&Entry| entry.range == asked && entry.address == WAN_A;
    let others = || entries.iter().filter(|entry| !is_own(entry));
    for entry in others() {
        let (from, last) = place(entry).with_context(|| summary(entries))?;
        ensure!(
            entry.method == "GET" && first <= from && last < end,
            "outside of {first}-{end}: {}",
            summary(entries)
        );
    }
    // The client's own connection ends at the cut; what a server's log counts beyond never left it.
    let cut = others().filter_map(place).map(|(from, _)| from).min();
    let cut = cut.with_context(|| format!("not split: {}", summary(entries)))?;
    let begun = entries.iter().filter(is_own);
    let begun: u64 = begun.map(|entry| entry.bytes.min(cut - first)).sum();
    let from = |address: &str| -> u64 {
        let theirs = others().filter(|entry| entry.address == address);
        theirs.map(|entry| entry.bytes).sum()
    };
    let (a, b) = (begun + from(WAN_A), from(WAN_B));
    let share = |bytes: u64| bytes * 100 / (end - first);
    ensure!(
        share(a) >= SHARE && share(b) >= SHARE && share(a + b) <= 125,
        "{a} bytes to A and {b} to B, of {}; {}",
        end - first,
        summary(entries)
    );
    Ok(share(b))
}

fn every_form(stage: &mut Stage) -> Result<String> {
    let name = format!("{SIZE}.bin");
    let file = stage.serve(&name, SIZE)?;
    let mut shares = Vec::new();
    for origin in [NGINX, LIGHTTPD] {
        let url = format!("http://{origin}/{name}");
        // What scenarios before were told by odd origins is forgotten by a whole download: the lines are measured again.
        same_file(&stage.curl("client", &url, &[])?, &file)?;
        for (range, first, end) in [
            (format!("1000001-{}", 5 * MIB), 1_000_001, 5 * MIB + 1),
            (format!("{}-", 3 * MIB + 7), 3 * MIB + 7, SIZE),
            (format!("-{}", 4 * MIB + 5), 4 * MIB - 5, SIZE),
        ] {
            let mark = stage.origins.mark(origin)?;
            let heads = stage.world.file("heads");
            let heads_text = heads.display().to_string();
            let options = ["--range", &range, "--dump-header", &heads_text];
            let out = stage.curl("client", &url, &options)?;
            same_file(&out, &piece(stage, &file, first, end)?).with_context(|| range.clone())?;
            let heads = std::fs::read_to_string(&heads)?;
            let told = format!("content-range: bytes {first}-{}/{SIZE}\r\n", end - 1);
            ensure!(
                heads.starts_with("HTTP/1.1 206 ") && heads.to_lowercase().contains(&told),
                "{range}: {heads}"
            );
            let entries = stage.origins.since(origin, mark)?;
            let why = stage.world.console("a", "why --kv")?;
            let share = both_lines(&entries, &range, first, end);
            shares.push(share.with_context(|| format!("{range}; {}", one_line(&why)))?);
        }
    }
    Ok(format!("line B carried {shares:?} %"))
}

fn resumed(stage: &mut Stage) -> Result<String> {
    let name = format!("{SIZE}.bin");
    let file = stage.serve(&name, SIZE)?;
    let have = 2 * MIB + 333;
    let begun = piece(stage, &file, 0, have)?;
    let mark = stage.origins.mark(NGINX)?;
    let (out, url) = (
        begun.display().to_string(),
        format!("http://{NGINX}/{name}"),
    );
    let command = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "80",
        "--continue-at",
        "-",
        "--output",
        &out,
        &url,
    ];
    let limit = std::time::Duration::from_secs(90);
    stage.world.exec("client", &command, limit)?.good()?;
    same_file(&begun, &file)?;
    let entries = stage.origins.since(NGINX, mark)?;
    let share = both_lines(&entries, &format!("{have}-"), have, SIZE)?;
    Ok(format!("line B carried {share} % of the rest"))
}
