//! Further requests of a connection, and what the console says of each.

use super::oracle::{both_lines, same_file, summary};
use super::origins::{Entry, NGINX};
use super::{Scenario, Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
const MIB: u64 = 1 << 20;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "reply probe: a large file is shared on the connection that brought a small one and a 404 before",
    run: kept,
}];

fn kept(stage: &mut Stage) -> Result<String> {
    let small = stage.serve("3000.bin", 3000)?;
    let large = stage.serve("8m.bin", 8 * MIB)?;
    let before = stage.world.console("a", "counters verdict. --kv")?;
    let mark = stage.origins.mark(NGINX)?;
    let mut command: Vec<String> = ["curl", "--silent", "--show-error", "--write-out"]
        .map(str::to_owned)
        .to_vec();
    command.push("%{http_code} %{num_connects}\\n".to_owned());
    let mut outs = Vec::new();
    for path in ["3000.bin", "no-such.bin", "8m.bin"] {
        let out = stage.world.file(&format!("kept-{path}"));
        std::fs::remove_file(&out).ok();
        let url = format!("http://{NGINX}/{path}");
        command.extend(["--output".to_owned(), out.display().to_string(), url]);
        outs.push(out);
    }
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let said = stage.world.exec("client", &words, LIMIT)?.good()?;
    ensure!(
        said.lines().eq(["200 1", "404 0", "200 0"]),
        "status and connections opened: {said}"
    );
    same_file(&outs[0], &small)?;
    same_file(&outs[2], &large).context("the large file")?;
    let entries: Vec<Entry> = stage.origins.since(NGINX, mark)?;
    let of_large: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| entry.path.ends_with("8m.bin"))
        .collect();
    let share = both_lines(&of_large, 8 * MIB, 20)?;
    let after = stage.world.console("a", "counters verdict. --kv")?;
    for (name, more) in [("accelerated", 1), ("declined", 2)] {
        let counted = value(&after, name)? - value(&before, name)?;
        ensure!(counted == more, "{name}: {counted} more; {after}");
    }
    let why = stage.world.console("a", "why --kv")?;
    let last: Vec<&str> = why.lines().rev().take(3).collect();
    ensure!(
        last.len() == 3
            && last[0].contains("/8m.bin accelerated ")
            && last[1].contains("/no-such.bin reply-status")
            && last[2].contains("/3000.bin reply-small"),
        "why says {why}"
    );
    let saved = stage.world.console("a", "saved --kv")?;
    for kind in ["saved=client 192.168.1.", "saved=peer 10.77."] {
        ensure!(saved.contains(kind), "saved says {saved}");
    }
    Ok(format!("line B carried {share} %; {}", summary(&of_large)))
}

/// The value of `verdict.NAME` in a listing.
fn value(listing: &str, name: &str) -> Result<u64> {
    let name = format!("verdict.{name}=");
    let line = listing.lines().find_map(|line| line.strip_prefix(&name));
    let value = line.with_context(|| format!("no {name} in {listing}"))?;
    Ok(value.trim().parse()?)
}
