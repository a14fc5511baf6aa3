//! Three routers on one air: every neighbour's line has a part in a download.

use super::oracle::same_file;
use super::world::until;
use super::{Scenario, Stage};
use crate::lab::origin;
use crate::lab::plan::ORIGIN;
use anyhow::{Result, ensure};
use std::time::Duration;

/// For booting three routers, and for the download, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1 << 20;
/// What each line brings at least, of equal lines: a third less a lot.
const PERCENT: u64 = 10;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "three routers: a download comes over three lines",
    run: three_lines,
}];

fn three_lines(stage: &mut Stage) -> Result<String> {
    const SIZE: u64 = 16 * MIB;
    let file = stage.serve("three.bin", SIZE)?;
    let www = stage.files.display().to_string();
    let options = ["--routers", "3", "--www", &www];
    let mut world = stage.world.another("three", &options)?;
    for router in ["a", "b", "c"] {
        until(
            &format!("router {router} finds both neighbours"),
            LIMIT,
            || {
                let status = world.console(router, "status --kv")?;
                let up = status
                    .lines()
                    .filter_map(|line| line.trim().split_once('='));
                let up = up.filter(|(key, value)| key.starts_with("peer.") && *value == "up");
                Ok(up.count() == 2)
            },
        )?;
    }
    let out = world.file("three");
    let (text, url) = (
        out.display().to_string(),
        format!("http://{ORIGIN}/three.bin"),
    );
    let before = origin::requests(world.state()).len();
    let command = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--output",
        &text,
        &url,
    ];
    world.exec("client", &command, LIMIT)?.good()?;
    same_file(&out, &file)?;
    let mut bytes = [0; 3];
    until("the origin's log has the whole file", LIMIT, || {
        bytes = origin::bytes_by_line(&origin::requests(world.state())[before..]);
        Ok(bytes.iter().sum::<u64>() >= SIZE)
    })?;
    ensure!(
        bytes.iter().all(|line| line * 100 >= SIZE * PERCENT),
        "not over three lines: {bytes:?} of {SIZE} bytes"
    );
    // The third router is a whole router: its console answers, its client reaches the origin.
    let ping = ["ping", "-n", "-c", "2", "-i", "0.3", "-W", "5", ORIGIN];
    world.exec("client-c", &ping, LIMIT)?.good()?;
    let [a, b, c] = bytes;
    Ok(format!("{a} bytes by line A, {b} by B, {c} by C"))
}
