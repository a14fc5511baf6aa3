//! What must pass as if there were no acceleration, and origins that do not keep their word.

use super::oracle::{plain, same_file, sha256};
use super::origins::{LIGHTTPD, NGINX, PYTHON, RECORDER, WAN_A, WAN_B};
use super::world::one_line;
use super::{Scenario, Stage};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
const MIB: u64 = 1 << 20;
/// Of one download to one origin: the client's, two of A's own, two of B's, and some again after a fault.
const CONNECTIONS_MAX: usize = 8;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a router without acceleration forwards pings and downloads of both clients",
        run: router,
    },
    Scenario {
        name: "a conditional GET passes untouched and gets its 304",
        run: conditional,
    },
    Scenario {
        name: "a POST passes untouched",
        run: |stage| {
            untouched(
                stage,
                &["POST /honest/form HTTP/1.1", "Content-Length: 12"],
                b"twelve bytes",
            )
        },
    },
    Scenario {
        name: "a GET with credentials stays on the own line",
        run: |stage| {
            untouched(
                stage,
                &[
                    "GET /honest/2m.bin HTTP/1.1",
                    "Authorization: Basic dGFuZGVtOg==",
                ],
                b"",
            )
        },
    },
    Scenario {
        name: "a GET with a cookie stays on the own line",
        run: |stage| {
            untouched(
                stage,
                &["GET /honest/2m.bin HTTP/1.1", "Cookie: who=me"],
                b"",
            )
        },
    },
    Scenario {
        name: "a WebSocket upgrade passes untouched",
        run: upgrade,
    },
    Scenario {
        name: "an origin without ranges (http.server) is forwarded plainly",
        run: without_ranges,
    },
    Scenario {
        name: "an HTTP/1.0 request is forwarded plainly",
        run: http_1_0,
    },
    Scenario {
        name: "an honest origin of the same program is asked by both routers",
        run: honest,
    },
    Scenario {
        name: "an origin that ignores ranges gives the whole file",
        run: |stage| manner(stage, "no-range"),
    },
    Scenario {
        name: "an origin that denies ranges gives the whole file",
        run: |stage| manner(stage, "none"),
    },
    Scenario {
        name: "a range with another total is not joined",
        run: |stage| by_ranges(stage, "other-total"),
    },
    Scenario {
        name: "a range with other offsets is not joined",
        run: |stage| by_ranges(stage, "shifted"),
    },
    Scenario {
        name: "a weak validator gives the whole file",
        run: |stage| manner(stage, "weak"),
    },
    Scenario {
        name: "an origin that refuses HEAD gives the whole file",
        run: |stage| manner(stage, "head-405"),
    },
    Scenario {
        name: "an origin that never answers a HEAD gives the whole file",
        run: |stage| manner(stage, "head-hangs"),
    },
    Scenario {
        name: "an origin whose HEAD lies about the length gives the whole file",
        run: |stage| manner(stage, "head-longer"),
    },
    Scenario {
        name: "an origin that answers HEAD with garbage gives the whole file",
        run: |stage| manner(stage, "garbage"),
    },
    Scenario {
        name: "a range that ends early is fetched again",
        run: |stage| by_ranges(stage, "early-close-twice"),
    },
    Scenario {
        name: "an origin whose ranges all end early gives the whole file at last",
        run: |stage| whatever_it_takes(stage, "early-close").map(|(words, _)| words),
    },
    Scenario {
        name: "a reply without length gives the whole file",
        run: |stage| manner(stage, "chunked"),
    },
    Scenario {
        name: "a file that changes during the download is never mixed",
        run: changing,
    },
];

impl Stage {
    /// Sends `request` and later `second` from the client, byte for byte; gives what came back.
    fn raw(&mut self, request: &[u8], second: &[u8]) -> Result<Vec<u8>> {
        let script = self.world.file("raw.py");
        let (sent, reply, rest) = (
            self.world.file("request"),
            self.world.file("reply"),
            self.world.file("second"),
        );
        std::fs::write(&script, include_str!("raw.py"))?;
        std::fs::write(&sent, request)?;
        std::fs::write(&rest, second)?;
        // A reply of an earlier call must not be taken for this one's.
        std::fs::remove_file(&reply).ok();
        let paths = [&script, &sent, &reply, &rest].map(|path| path.display().to_string());
        self.world
            .exec(
                "client",
                &[
                    "python3", &paths[0], RECORDER, "80", &paths[1], &paths[2], &paths[3],
                ],
                LIMIT,
            )?
            .good()?;
        std::fs::read(&reply).context("the reply")
    }

    pub(super) fn accelerate(&self, on: bool) -> Result<()> {
        self.set("a", "accel.enabled", if on { "on" } else { "off" })
    }

    /// curl on a host, to a file.
    pub(super) fn curl(&mut self, host: &str, url: &str, options: &[&str]) -> Result<PathBuf> {
        let out = self.world.file(&format!("{host}.download"));
        std::fs::remove_file(&out).ok();
        let text = out.display().to_string();
        let mut command = vec![
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "80",
            "--output",
            &text,
        ];
        command.extend(options);
        command.push(url);
        self.world
            .exec(host, &command, LIMIT)?
            .good()
            .with_context(|| format!("curl {url}"))?;
        Ok(out)
    }
}

fn router(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("1m.bin", MIB)?;
    for host in ["client", "client-b"] {
        let ping = ["ping", "-c", "3", "-i", "0.3", "-W", "5", NGINX];
        stage
            .world
            .exec(host, &ping, LIMIT)?
            .good()
            .with_context(|| format!("ping on {host}"))?;
    }
    stage.accelerate(false)?;
    let mark = stage.origins.mark(NGINX)?;
    let url = format!("http://{NGINX}/1m.bin");
    let result = stage.curl("client", &url, &[]);
    stage.accelerate(true)?;
    same_file(&result?, &file)?;
    plain(&stage.origins.since(NGINX, mark)?)?;
    let small = stage.serve("small.html", 5000)?;
    let out = stage.curl("client-b", &format!("http://{NGINX}/small.html"), &[])?;
    same_file(&out, &small)?;
    Ok("pings and files arrive".to_owned())
}

/// One exchange with acceleration off and on: the origin receives the client's bytes and nothing else on one
/// connection of A's, and the client the same reply.
pub(super) fn untouched(stage: &mut Stage, head: &[&str], body: &[u8]) -> Result<String> {
    stage.serve("2m.bin", 2 * MIB)?;
    let host = format!("Host: {RECORDER}");
    let mut lines = head.to_vec();
    lines.extend([host.as_str(), "User-Agent: tester", "Connection: close"]);
    let mut request = (lines.join("\r\n") + "\r\n\r\n").into_bytes();
    request.extend_from_slice(body);
    same_exchange(stage, &request, b"")
}

fn same_exchange(stage: &mut Stage, request: &[u8], second: &[u8]) -> Result<String> {
    let mut replies = Vec::new();
    for on in [false, true] {
        stage.accelerate(on)?;
        let before = stage.origins.recorded()?.len();
        let reply = stage.raw(request, second);
        stage.accelerate(true)?;
        replies.push(
            reply.with_context(|| format!("acceleration {}", if on { "on" } else { "off" }))?,
        );
        // A probe or a fetch would come about the same time.
        std::thread::sleep(Duration::from_millis(300));
        let seen = stage.origins.recorded()?.split_off(before);
        ensure!(
            seen.len() == 1 && seen[0].0 == WAN_A,
            "{} connections from {:?}, not one from A",
            seen.len(),
            seen.iter().map(|(peer, _)| peer).collect::<Vec<_>>()
        );
        let wanted = [request, second].concat();
        ensure!(
            seen[0].1 == wanted,
            "the origin received other bytes: {}",
            one_line(&String::from_utf8_lossy(&seen[0].1))
        );
    }
    ensure!(
        replies[0] == replies[1],
        "the replies differ: {} and {} bytes",
        replies[0].len(),
        replies[1].len()
    );
    let line = String::from_utf8_lossy(&replies[1]);
    let status = line.lines().next().unwrap_or_default();
    Ok(format!(
        "{status}, {} bytes, the same with and without",
        replies[1].len()
    ))
}

fn conditional(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("2m.bin", 2 * MIB)?;
    let condition = format!("If-None-Match: \"{}\"", &sha256(&file)?[..16]);
    let words = untouched(stage, &["GET /honest/2m.bin HTTP/1.1", &condition], b"")?;
    ensure!(words.contains(" 304 "), "{words}");
    Ok(words)
}

fn upgrade(stage: &mut Stage) -> Result<String> {
    let lines = [
        "GET /honest/2m.bin HTTP/1.1",
        "Host: 198.51.100.11",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let request = lines.join("\r\n") + "\r\n\r\n";
    let words = same_exchange(stage, request.as_bytes(), b"\x81\x05hello and bye")?;
    ensure!(words.contains(" 101 "), "{words}");
    Ok(words)
}

fn without_ranges(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("2m.bin", 2 * MIB)?;
    for options in [&[][..], &["--http1.0"]] {
        let mark = stage.origins.mark(PYTHON)?;
        let out = stage.curl("client", &format!("http://{PYTHON}/2m.bin"), options)?;
        same_file(&out, &file)?;
        let entries = stage.origins.since(PYTHON, mark)?;
        let gets = entries.iter().filter(|entry| entry.method == "GET").count();
        ensure!(
            gets == 1 && entries.iter().all(|entry| entry.address == WAN_A),
            "not plain: {}",
            super::oracle::summary(&entries)
        );
    }
    Ok("one GET of A's each time".to_owned())
}

fn http_1_0(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("2m.bin", 2 * MIB)?;
    for origin in [NGINX, LIGHTTPD] {
        let mark = stage.origins.mark(origin)?;
        let out = stage.curl("client", &format!("http://{origin}/2m.bin"), &["--http1.0"])?;
        same_file(&out, &file)?;
        plain(&stage.origins.since(origin, mark)?)?;
    }
    Ok("from nginx and lighttpd".to_owned())
}

/// The file arrives whole whatever the origin says about ranges, for a handful of connections.
fn manner(stage: &mut Stage, manner: &str) -> Result<String> {
    let (words, connections) = whatever_it_takes(stage, manner)?;
    ensure!(connections <= CONNECTIONS_MAX, "{words}");
    Ok(words)
}

/// The scenarios around it mean something only if this origin's files would be split.
fn honest(stage: &mut Stage) -> Result<String> {
    let (words, _) = whatever_it_takes(stage, "honest")?;
    ensure!(!words.contains(" 0 from B"), "not shared: {words}");
    Ok(words)
}

/// The file arrives whole, and ranges were asked for on connections besides the client's.
fn by_ranges(stage: &mut Stage, manner_name: &str) -> Result<String> {
    let before = stage.origins.recorded()?.len();
    let words = manner(stage, manner_name)?;
    let seen = stage.origins.recorded()?.split_off(before);
    let asked = |(_, bytes): &(String, Vec<u8>)| {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        text.contains("\r\nrange: bytes=")
    };
    ensure!(seen.iter().any(asked), "no range was asked for: {words}");
    Ok(words)
}

/// The file arrives whole; how many connections the origin saw for it.
fn whatever_it_takes(stage: &mut Stage, manner: &str) -> Result<(String, usize)> {
    let file = stage.serve("2m.bin", 2 * MIB)?;
    let before = stage.origins.recorded()?.len();
    // A host of its own: the router remembers what hosts do.
    let host = format!("Host: {manner}.example");
    let url = format!("http://{RECORDER}/{manner}/2m.bin");
    let out = stage.curl("client", &url, &["--header", &host])?;
    same_file(&out, &file)?;
    let seen = stage.origins.recorded()?.split_off(before);
    let from = |address: &str| seen.iter().filter(|(peer, _)| peer == address).count();
    let words = format!(
        "whole; {} connections from A, {} from B",
        from(WAN_A),
        from(WAN_B)
    );
    Ok((words, seen.len()))
}

/// Every 64 KiB the file shows its version; only one may be seen, in a download that may end early.
fn changing(stage: &mut Stage) -> Result<String> {
    const MARK: usize = 65536;
    let file = std::fs::read(stage.serve("2m.bin", 2 * MIB)?)?;
    let whole = stage
        .curl("client", &format!("http://{RECORDER}/changing/2m.bin"), &[])
        .is_ok();
    let got = std::fs::read(stage.world.file("client.download")).unwrap_or_default();
    let versions: std::collections::BTreeSet<u8> = got.iter().step_by(MARK).copied().collect();
    ensure!(
        !got.is_empty(),
        "nothing arrived, so nothing could be mixed"
    );
    ensure!(
        versions.len() <= 1,
        "MIXED: the download has bytes of versions {versions:?}"
    );
    let wrong = got
        .iter()
        .zip(&file)
        .enumerate()
        .find(|(offset, (got, wanted))| offset % MARK != 0 && got != wanted);
    ensure!(
        wrong.is_none(),
        "WRONG BYTE at offset {:?}",
        wrong.map(|(offset, _)| offset)
    );
    ensure!(
        !whole || got.len() == file.len(),
        "curl takes {} bytes for the whole",
        got.len()
    );
    Ok(format!(
        "one version, {} of {} bytes",
        got.len(),
        file.len()
    ))
}
