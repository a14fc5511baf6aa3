//! What the routers are for: downloads over both lines, and what may happen to them midway.

use super::oracle::{Sender, both_lines, bytes_to, flawless, same_file, summary};
use super::origins::{LIGHTTPD, NGINX, REFUSING, WAN_A, WAN_B};
use super::world::{Running, until};
use super::{Scenario, Stage};
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For any one download; a hang is what takes longer.
const LIMIT: Duration = Duration::from_secs(120);
/// After this a router must have forgotten a fault.
const RECOVERY: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "head probe: the client's capture of a download over both lines is flawless",
        run: |stage| {
            stage.set("a", "accel.probe", "head")?;
            let words = capture(stage, Sender::Router);
            stage.set("a", "accel.probe", "reply")?;
            words
        },
    },
    Scenario {
        name: "reply probe: the client's capture of a download over both lines is flawless",
        run: |stage| capture(stage, Sender::OriginFirst),
    },
    Scenario {
        name: "curl, wget, aria2c and urllib download over both lines from nginx",
        run: |stage| clients(stage, NGINX),
    },
    Scenario {
        name: "curl, wget, aria2c and urllib download over both lines from lighttpd",
        run: |stage| clients(stage, LIGHTTPD),
    },
    Scenario {
        name: "head probe: further GETs on the same connection work after a download over both lines",
        run: |stage| {
            stage.set("a", "accel.probe", "head")?;
            let words = same_connection(stage);
            stage.set("a", "accel.probe", "reply")?;
            let (connects, words) = words?;
            ensure!(
                connects == ["1", "0", "0", "0"],
                "curl opened connections: {connects:?}"
            );
            Ok(words)
        },
    },
    Scenario {
        name: "reply probe: further GETs work after a download over both lines, which ends its connection",
        run: |stage| {
            let (connects, words) = same_connection(stage)?;
            // The file after the shared one needs a connection, small ones end none.
            ensure!(
                connects[..3] == ["1", "1", "0"],
                "curl opened connections: {connects:?}"
            );
            Ok(words)
        },
    },
    Scenario {
        name: "files of 0 and 1 bytes, 64 KiB, 1 MiB and about the threshold arrive whole",
        run: sizes,
    },
    Scenario {
        name: "1 % loss on wan-a: the download is shared and whole",
        run: |stage| loss(stage, "wan-a"),
    },
    Scenario {
        name: "1 % loss on wan-b: the download is shared and whole",
        run: |stage| loss(stage, "wan-b"),
    },
    Scenario {
        name: "1 % loss on air: the download is shared and whole",
        run: |stage| loss(stage, "air"),
    },
    Scenario {
        name: "1 % loss on lan-a: the download is shared and whole",
        run: |stage| loss(stage, "lan-a"),
    },
    Scenario {
        name: "frames doubled, overtaken and damaged on every line: the download is shared and whole",
        run: disorder,
    },
    Scenario {
        name: "the peer's router is reset midway: the download is whole, the next is shared",
        run: |stage| {
            let words = midway(stage, |stage| stage.world.reset("b", true), |_| Ok(()))?;
            stage.restarted("b");
            Ok(words)
        },
    },
    Scenario {
        name: "the air is cut midway: the download is whole, the next is shared",
        run: |stage| {
            midway(
                stage,
                |stage| stage.world.link("air", "down"),
                |stage| stage.world.link("air", "up"),
            )
        },
    },
    Scenario {
        name: "the peer's line is cut midway: the download is whole, the next is shared",
        run: |stage| {
            midway(
                stage,
                |stage| stage.world.link("wan-b", "down"),
                |stage| stage.world.link("wan-b", "up"),
            )
        },
    },
    Scenario {
        name: "nat: a download comes over both lines, line B's part by router a's own connection",
        run: |stage| {
            by_nat(stage, |stage| {
                let before = nat_bytes(stage)?;
                let share = stage.shared_download(CURL, NGINX, 8 * MIB, 30)?;
                let bytes = nat_bytes(stage)? - before;
                ensure!(bytes > MIB, "{bytes} bytes by nat");
                Ok(format!("{share} % by line B, {bytes} bytes by nat"))
            })
        },
    },
    Scenario {
        name: "nat: the air is cut midway: the download is whole, the next is shared",
        run: |stage| {
            by_nat(stage, |stage| {
                midway(
                    stage,
                    |stage| stage.world.link("air", "down"),
                    |stage| stage.world.link("air", "up"),
                )
            })
        },
    },
    Scenario {
        name: "s12: splitting is switched off midway: the download is whole, the next ones plain until it is on",
        run: s12_switched_off,
    },
    Scenario {
        name: "s12: the peer is removed midway: the download is whole, the next is shared once it is back",
        run: s12_peer_removed,
    },
    Scenario {
        name: "an origin that refuses the peer (403) gives the whole file by the own line",
        run: refused,
    },
    Scenario {
        name: "a client that reads slowly gets the whole file",
        run: slow_reader,
    },
    Scenario {
        name: "a client that goes away midway leaves nothing behind",
        run: client_abort,
    },
    Scenario {
        name: "downloads at the same time, of both clients, are whole",
        run: together,
    },
    Scenario {
        name: "the demo reaches three quarters of the sum of two lines",
        run: efficiency,
    },
];

impl Stage {
    /// A download with a client's own command, in which `{url}` and `{out}` stand for what they say; gives the share
    /// of line B.
    fn shared_download(
        &mut self,
        client: &[&str],
        origin: &str,
        size: u64,
        percent: u64,
    ) -> Result<u64> {
        let name = format!("{size}.bin");
        let file = self.serve(&name, size)?;
        let mark = self.origins.mark(origin)?;
        let (out, url) = (
            self.world.file("download"),
            format!("http://{origin}/{name}"),
        );
        std::fs::remove_file(&out).ok();
        let out_text = out.display().to_string();
        let words: Vec<String> = client
            .iter()
            .map(|word| word.replace("{url}", &url).replace("{out}", &out_text))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.world
            .exec("client", &words, LIMIT)?
            .good()
            .with_context(|| client[0].to_owned())?;
        same_file(&out, &file).with_context(|| client[0].to_owned())?;
        both_lines(&self.origins.since(origin, mark)?, size, percent)
            .with_context(|| client[0].to_owned())
    }

    /// Starts curl and waits until it has a quarter of the file.
    pub(super) fn begin(
        &mut self,
        origin: &str,
        size: u64,
        options: &[&str],
    ) -> Result<(Running, PathBuf, PathBuf)> {
        let name = format!("{size}.bin");
        let file = self.serve(&name, size)?;
        let (out, url) = (
            self.world.file("download"),
            format!("http://{origin}/{name}"),
        );
        std::fs::remove_file(&out).ok();
        let out_text = out.display().to_string();
        let mut command = CURL.to_vec();
        command.truncate(command.len() - 3);
        command.extend(["--output", &out_text]);
        command.extend(options);
        command.push(&url);
        let curl = self.world.spawn("client", &command)?;
        until("a quarter of the file", LIMIT, || {
            Ok(std::fs::metadata(&out).is_ok_and(|now| now.len() >= size / 4))
        })?;
        Ok((curl, out, file))
    }

    /// Downloads small files until one is shared: the routers have forgotten whatever was before.
    fn shared_again(&mut self) -> Result<Duration> {
        let started = Instant::now();
        until("downloads are shared again", RECOVERY, || {
            match self.shared_download(CURL, NGINX, 2 * MIB, 10) {
                Ok(_) => Ok(true),
                Err(error) if format!("{error:#}").contains("not shared") => Ok(false),
                Err(error) => Err(error),
            }
        })?;
        Ok(started.elapsed())
    }
}

const CURL: &[&str] = &[
    "curl",
    "--silent",
    "--show-error",
    "--fail",
    "--output",
    "{out}",
    "{url}",
];
const WGET: &[&str] = &[
    "wget",
    "--quiet",
    "--tries=1",
    "--timeout=30",
    "--output-document={out}",
    "{url}",
];
const ARIA: &[&str] = &[
    "aria2c",
    "--quiet",
    "-x1",
    "--allow-overwrite=true",
    "--dir=/",
    "--out={out}",
    "{url}",
];
const URLLIB: &[&str] = &[
    "python3",
    "-c",
    "import shutil, urllib.request\n\
     with urllib.request.urlopen('{url}', timeout=30) as reply, open('{out}', 'wb') as out:\n    \
     shutil.copyfileobj(reply, out)",
];

fn capture(stage: &mut Stage, whose: Sender) -> Result<String> {
    // What was learnt before (a neighbour's address, a connection to the peer) is not part of the picture.
    stage.shared_again()?;
    let capture = stage.world.capture("lan-a", "flawless.pcap")?;
    let shared = stage.shared_download(CURL, NGINX, 8 * MIB, 30);
    let file = capture.stop()?;
    let share = shared?;
    let segments = flawless(&file, NGINX, whose)?;
    Ok(format!("{share} % by line B, {segments} segments"))
}

/// What is done while router a borrows line B by NAT.
fn by_nat(stage: &mut Stage, run: impl FnOnce(&mut Stage) -> Result<String>) -> Result<String> {
    let peers = stage.world.console("a", "get peers")?;
    let mut words = peers.split(|c: char| c.is_whitespace() || c == '=');
    let peer = words
        .find(|word| word.parse::<Ipv4Addr>().is_ok())
        .with_context(|| format!("no peer: {peers}"))?
        .to_owned();
    stage.set("b", "lend.nat", "on")?;
    stage.set("a", "borrow.nat", &peer)?;
    let words = run(stage);
    stage.set("a", "borrow.nat", "none")?;
    stage.set("b", "lend.nat", "off")?;
    words
}

/// Body bytes that came to router a by NAT.
fn nat_bytes(stage: &Stage) -> Result<u64> {
    let answer = stage.world.console("a", "counters peer-nat")?;
    answer
        .split_whitespace()
        .filter_map(|word| word.rsplit('=').next())
        .filter_map(|word| word.parse().ok())
        .next_back()
        .with_context(|| format!("no number in the answer: {answer}"))
}

fn clients(stage: &mut Stage, origin: &str) -> Result<String> {
    let mut shares = Vec::new();
    for client in [CURL, WGET, ARIA, URLLIB] {
        shares.push(
            stage
                .shared_download(client, origin, 4 * MIB, 20)?
                .to_string(),
        );
    }
    Ok(format!("{} % by line B", shares.join(", ")))
}

/// Four files by one curl; how many connections it opened for each.
fn same_connection(stage: &mut Stage) -> Result<(Vec<String>, String)> {
    let sizes = [4 * MIB, 3000, 2 * MIB, 70_000];
    let mut command: Vec<String> = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--write-out",
        "%{num_connects}\\n",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut files = Vec::new();
    for size in sizes {
        let file = stage.serve(&format!("{size}.bin"), size)?;
        let out = stage.world.file(&format!("download-{size}"));
        std::fs::remove_file(&out).ok();
        command.extend([
            "--output".to_owned(),
            out.display().to_string(),
            format!("http://{NGINX}/{size}.bin"),
        ]);
        files.push((out, file));
    }
    let mark = stage.origins.mark(NGINX)?;
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let said = stage.world.exec("client", &words, LIMIT)?.good()?;
    for ((out, file), size) in files.iter().zip(sizes) {
        same_file(out, file).with_context(|| format!("the file of {size} bytes"))?;
    }
    let connects: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
    ensure!(connects.len() == sizes.len(), "curl said {said}");
    let entries = stage.origins.since(NGINX, mark)?;
    let b = bytes_to(&entries, WAN_B);
    ensure!(b > MIB, "line B carried {b} bytes; {}", summary(&entries));
    let words = format!("four files, {b} bytes by line B");
    Ok((connects, words))
}

fn sizes(stage: &mut Stage) -> Result<String> {
    let answer = stage.world.console("a", "get accel.threshold")?;
    let threshold: u64 = answer
        .split(|c: char| !c.is_ascii_digit())
        .find(|digits| !digits.is_empty())
        .and_then(|digits| digits.parse().ok())
        .with_context(|| format!("no number in the answer: {answer}"))?;
    let sizes = [0, 1, 65_536, threshold - 1, threshold, threshold + 1, MIB];
    for size in sizes {
        let file = stage.serve(&format!("{size}.bin"), size)?;
        let mark = stage.origins.mark(NGINX)?;
        let out = stage.curl("client", &format!("http://{NGINX}/{size}.bin"), &[])?;
        if size > 0 {
            same_file(&out, &file).with_context(|| format!("{size} bytes"))?;
        } else {
            // curl makes no file for nothing.
            ensure!(
                !out.exists() || out.metadata()?.len() == 0,
                "an empty file has bytes"
            );
        }
        let entries = stage.origins.since(NGINX, mark)?;
        if size < threshold {
            ensure!(
                bytes_to(&entries, WAN_B) == 0,
                "{size} bytes were shared; {}",
                summary(&entries)
            );
        }
        if size == MIB {
            both_lines(&entries, size, 10)?;
        }
    }
    Ok(format!("the threshold is {threshold}"))
}

fn loss(stage: &mut Stage, line: &str) -> Result<String> {
    stage.world.link(line, "loss=1%")?;
    let result = stage.shared_download(CURL, NGINX, 4 * MIB, 5);
    stage.world.link(line, "loss=0%")?;
    Ok(format!("{} % by line B", result?))
}

fn disorder(stage: &mut Stage) -> Result<String> {
    // A damaged frame of ARP would be believed: Ethernet's own checksum, which would catch it, is not emulated. So
    // damage is where nearly all frames carry TCP.
    let faults = [
        ("wan-a", "corrupt"),
        ("wan-b", "corrupt"),
        ("air", "duplicate"),
        ("air", "reorder"),
        ("wan-a", "duplicate"),
        ("wan-b", "reorder"),
        ("lan-a", "duplicate"),
        ("lan-a", "reorder"),
    ];
    for (line, fault) in faults {
        stage.world.link(line, &format!("{fault}=0.5%"))?;
    }
    let result = stage.shared_download(CURL, NGINX, 4 * MIB, 5);
    for (line, fault) in faults {
        stage.world.link(line, &format!("{fault}=0%"))?;
    }
    Ok(format!("{} % by line B", result?))
}

/// Something happens to the peer when a quarter is there: no byte is lost, and afterwards the peer helps again.
fn midway(
    stage: &mut Stage,
    event: impl Fn(&Stage) -> Result<()>,
    repair: impl Fn(&Stage) -> Result<()>,
) -> Result<String> {
    stage.shared_again()?;
    let mark = stage.origins.mark(NGINX)?;
    let (curl, out, file) = stage.begin(NGINX, 8 * MIB, &[])?;
    let happened = event(stage);
    let ran = curl.wait(LIMIT);
    repair(stage)?;
    happened?;
    ran?.good().context("curl")?;
    same_file(&out, &file)?;
    let entries = stage.origins.since(NGINX, mark)?;
    let (a, b) = (bytes_to(&entries, WAN_A), bytes_to(&entries, WAN_B));
    ensure!(
        b > 0,
        "line B carried nothing before; {}",
        summary(&entries)
    );
    let recovered = stage.shared_again()?;
    Ok(format!(
        "{a} bytes by A, {b} by B; shared again after {} s",
        recovered.as_secs()
    ))
}

fn s12_switched_off(stage: &mut Stage) -> Result<String> {
    let words = midway(
        stage,
        |stage| stage.set("a", "accel.enabled", "off"),
        |stage| stage.set("a", "accel.enabled", "on"),
    )?;
    // What begins while it is off is plain.
    stage.set("a", "accel.enabled", "off")?;
    let file = stage.serve("2m.bin", 2 * MIB)?;
    let mark = stage.origins.mark(NGINX)?;
    let out = stage.curl("client", &format!("http://{NGINX}/2m.bin"), &[]);
    stage.set("a", "accel.enabled", "on")?;
    same_file(&out?, &file)?;
    let entries = stage.origins.since(NGINX, mark)?;
    ensure!(
        bytes_to(&entries, WAN_B) == 0,
        "line B helped a router without acceleration; {}",
        summary(&entries)
    );
    Ok(words)
}

fn s12_peer_removed(stage: &mut Stage) -> Result<String> {
    let peers = stage.world.console("a", "get peers")?;
    let mut words = peers.split(|c: char| c.is_whitespace() || c == '=');
    let peer = words.find(|word| word.parse::<Ipv4Addr>().is_ok());
    let peer = peer
        .with_context(|| format!("no peer: {peers}"))?
        .to_owned();
    midway(
        stage,
        |stage| stage.set("a", "peers", "none"),
        |stage| stage.set("a", "peers", &peer),
    )
}

fn refused(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("4m.bin", 4 * MIB)?;
    let mark = stage.origins.mark(REFUSING)?;
    let out = stage.curl("client", &format!("http://{REFUSING}/4m.bin"), &[])?;
    same_file(&out, &file)?;
    let entries = stage.origins.since(REFUSING, mark)?;
    let of_b: Vec<_> = entries
        .iter()
        .filter(|entry| entry.address == WAN_B)
        .collect();
    ensure!(!of_b.is_empty(), "B was never asked; {}", summary(&entries));
    ensure!(
        of_b.iter().all(|entry| entry.status == 403),
        "{}",
        summary(&entries)
    );
    stage.shared_again()?;
    Ok(format!("B was refused {} times", of_b.len()))
}

fn slow_reader(stage: &mut Stage) -> Result<String> {
    // Four times slower than the lines: what the origin sends meanwhile must wait there, not in the router.
    let share = stage.shared_download(
        &[
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--limit-rate",
            "500k",
            "--output",
            "{out}",
            "{url}",
        ],
        NGINX,
        6 * MIB,
        5,
    )?;
    Ok(format!("{share} % by line B"))
}

fn client_abort(stage: &mut Stage) -> Result<String> {
    let size = 8 * MIB;
    let mark = stage.origins.mark(NGINX)?;
    let (curl, out, file) = stage.begin(NGINX, size, &[])?;
    curl.kill();
    let (got, wanted) = (std::fs::read(&out)?, std::fs::read(&file)?);
    ensure!(
        wanted.starts_with(&got),
        "WRONG BYTE in the part that arrived"
    );
    // Whoever fetched for the client stops: the origin is not read to the end.
    std::thread::sleep(Duration::from_secs(2));
    let entries = stage.origins.since(NGINX, mark)?;
    let sent = bytes_to(&entries, WAN_A) + bytes_to(&entries, WAN_B);
    ensure!(
        sent < size,
        "the origin sent {sent} of {size} bytes to nobody"
    );
    stage.shared_again()?;
    Ok(format!(
        "{} of {size} bytes arrived, the origin sent {sent}",
        got.len()
    ))
}

fn together(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("2m.bin", 2 * MIB)?;
    let mut running = Vec::new();
    for (index, host) in ["client", "client", "client-b", "client-b"]
        .into_iter()
        .enumerate()
    {
        let out = stage.world.file(&format!("together-{index}"));
        std::fs::remove_file(&out).ok();
        let (text, url) = (out.display().to_string(), format!("http://{NGINX}/2m.bin"));
        let curl = stage.world.spawn(
            host,
            &[
                "curl",
                "--silent",
                "--show-error",
                "--fail",
                "--output",
                &text,
                &url,
            ],
        )?;
        running.push((curl, out, host));
    }
    for (curl, out, host) in running {
        curl.wait(LIMIT)?.good().with_context(|| host.to_owned())?;
        same_file(&out, &file).with_context(|| host.to_owned())?;
    }
    Ok("four downloads".to_owned())
}

fn efficiency(stage: &mut Stage) -> Result<String> {
    let figures = stage.world.demo(&["--size", "16M"])?;
    let number = |name: &str| figures[name].as_f64().unwrap_or(0.0);
    ensure!(
        figures["sha256_equal"] == true,
        "the hashes differ: {figures}"
    );
    let efficiency = number("efficiency");
    ensure!(efficiency >= 0.75, "{efficiency} of the sum: {figures}");
    Ok(format!("{efficiency:.3} of the sum"))
}
