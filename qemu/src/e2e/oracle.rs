//! Judges of a download that know nothing of the router: the file, the origins' logs, and tshark.

use crate::e2e::origins::{Entry, WAN_A, WAN_B};
use crate::e2e::world::one_line;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What tshark's expert may not say about a download over lines without loss. (A window update or a full window is no
/// fault: the sender is faster than the program that reads.)
const FAULTS: [&str; 12] = [
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.reused_ports",
    "tcp.segment.overlap.conflict",
    "tcp.checksum.status==0",
    "ip.checksum.status==0",
    "_ws.malformed",
];

/// Time to live of segments that the router makes itself; one that it forwards has lost a hop.
const ROUTER_TTL: u8 = 64;

/// Who sends what the client receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The router alone.
    Router,
    /// The origin up to the cut, whose losses where its line's queue is full are seen as in plain forwarding; then the
    /// router.
    OriginFirst,
}

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// It cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let hash = Sha256::digest(&bytes);
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The downloaded file is the origin's file.
///
/// # Errors
/// It is not; where the first difference is.
pub fn same_file(downloaded: &Path, original: &Path) -> Result<()> {
    if sha256(downloaded)? == sha256(original)? {
        return Ok(());
    }
    let (got, wanted) = (std::fs::read(downloaded)?, std::fs::read(original)?);
    let first = got
        .iter()
        .zip(&wanted)
        .position(|(got, wanted)| got != wanted);
    let length = format!("{} of {} bytes", got.len(), wanted.len());
    match first {
        // A wrong byte, which nothing ever allows.
        Some(offset) => bail!("WRONG BYTE at offset {offset} ({length})"),
        None => bail!("the download has {length}, all of them right"),
    }
}

/// Bytes of body that the origin sent to an address.
#[must_use]
pub fn bytes_to(entries: &[Entry], address: &str) -> u64 {
    let theirs = entries.iter().filter(|entry| entry.address == address);
    theirs.map(|entry| entry.bytes).sum()
}

/// What the log counts of A's own connection although it never left the server.
///
/// With the reply probe the client's own GET is answered up to the first byte that others were asked for: its window ends
/// there. A server's log counts as sent what then waits in its socket, up to megabytes, and what a reset throws away.
fn never_sent(entries: &[Entry]) -> u64 {
    let first = |entry: &Entry| {
        let range = entry.range.strip_prefix("bytes=")?;
        range.split('-').next()?.parse::<u64>().ok()
    };
    let Some(cut) = entries.iter().filter_map(first).min() else {
        return 0;
    };
    let own = entries
        .iter()
        .filter(|entry| entry.address == WAN_A && entry.method == "GET" && entry.range.is_empty());
    own.map(|entry| entry.bytes.saturating_sub(cut)).sum()
}

/// The origin's log shows that each line carried at least `percent` of a download of `size` bytes, and both hardly more
/// than all of it. Gives the share of line B in percent.
///
/// # Errors
/// One line carried less, or both together over a quarter too much, or something else than GET and HEAD was asked.
pub fn both_lines(entries: &[Entry], size: u64, percent: u64) -> Result<u64> {
    let (a, b) = (
        bytes_to(entries, WAN_A) - never_sent(entries),
        bytes_to(entries, WAN_B),
    );
    let share = |bytes: u64| bytes * 100 / size.max(1);
    ensure!(
        share(a) >= percent && share(b) >= percent,
        "not shared: the origin sent {a} bytes to A and {b} to B, of {size}; {}",
        summary(entries)
    );
    ensure!(
        share(a + b) <= 125,
        "the origin sent {a} + {b} bytes for {size}; {}",
        summary(entries)
    );
    for entry in entries {
        ensure!(
            entry.method == "GET" || entry.method == "HEAD",
            "the origin was asked {} {}",
            entry.method,
            entry.path
        );
    }
    Ok(share(b))
}

/// The origin's log shows plain forwarding: nothing from B, no HEAD, no Range.
///
/// # Errors
/// It shows something else, or nothing.
pub fn plain(entries: &[Entry]) -> Result<()> {
    ensure!(!entries.is_empty(), "the origin was not asked at all");
    for entry in entries {
        ensure!(
            entry.address == WAN_A && entry.method == "GET" && entry.range.is_empty(),
            "not plain: {}",
            summary(entries)
        );
    }
    Ok(())
}

/// The first entries of a log, for a message.
#[must_use]
pub fn summary(entries: &[Entry]) -> String {
    let words: Vec<String> = entries
        .iter()
        .take(8)
        .map(|entry| {
            format!(
                "{} {} {} {} {} B",
                entry.address, entry.method, entry.range, entry.status, entry.bytes
            )
        })
        .collect();
    format!("log of {} requests: {}", entries.len(), words.join("; "))
}

fn tshark(capture: &Path, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(capture)
        .args([
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
        ])
        .args([
            "-o",
            "tcp.relative_sequence_numbers:FALSE",
            "-Y",
            filter,
            "-T",
            "fields",
        ]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().context("tshark")?;
    ensure!(
        output.status.success(),
        "tshark: {}",
        one_line(&String::from_utf8_lossy(&output.stderr))
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect())
}

/// A capture of the client's line shows one flawless TCP connection to `origin`. Gives the number of its segments.
///
/// # Errors
/// tshark's expert, or our own look at the window, finds a fault; or there are more connections than one.
pub fn flawless(capture: &Path, origin: &str, whose: Sender) -> Result<usize> {
    let opened = tshark(
        capture,
        &format!("ip.dst=={origin} && tcp.flags.syn==1 && tcp.flags.ack==0"),
        &["tcp.srcport"],
    )?;
    ensure!(
        opened.len() == 1,
        "{} SYNs to {origin}, not one",
        opened.len()
    );
    // One pass says whether there is anything; a second one per fault only if there is.
    let seen = |filter: &str| {
        let fields = ["frame.number", "tcp.seq", "tcp.len"];
        tshark(capture, &format!("tcp && ({filter})"), &fields)
    };
    let filters = FAULTS.map(|fault| match whose {
        Sender::Router => fault.to_owned(),
        Sender::OriginFirst if fault.starts_with("tcp.analysis.") => {
            format!("({fault} && ip.ttl == {ROUTER_TTL} && ip.src == {origin})")
        }
        Sender::OriginFirst => fault.to_owned(),
    });
    if !seen(&filters.join(" || "))?.is_empty() {
        for fault in &filters {
            let frames = seen(fault)?;
            ensure!(
                frames.is_empty(),
                "{fault}: {} frames, the first is {:?}; {}",
                frames.len(),
                frames[0],
                capture.display()
            );
        }
    }
    within_window(capture, origin)
}

/// No segment of the origin's ends behind the right edge that the client has shown (RFC 9293, 3.8.6).
fn within_window(capture: &Path, origin: &str) -> Result<usize> {
    let fields = [
        "frame.number",
        "ip.src",
        "tcp.stream",
        "tcp.seq",
        "tcp.len",
        "tcp.ack",
        "tcp.window_size",
        "tcp.flags.syn",
    ];
    let rows = tshark(capture, &format!("tcp && ip.addr=={origin}"), &fields)?;
    ensure!(
        !rows.is_empty(),
        "no segment of {origin} in {}",
        capture.display()
    );
    let mut edges: BTreeMap<String, u32> = BTreeMap::new();
    let mut judged = 0_usize;
    for row in &rows {
        let number = |index: usize| -> u32 {
            let text = row.get(index).map_or("", String::as_str);
            text.parse().unwrap_or(0)
        };
        let stream = row.get(2).cloned().unwrap_or_default();
        if row.get(1).is_none_or(|source| source != origin) {
            let edge = number(5).wrapping_add(number(6));
            // The client's first SYN acknowledges nothing.
            if number(5) != 0 {
                let old = edges.entry(stream).or_insert(edge);
                if (edge.wrapping_sub(*old) as i32) > 0 {
                    *old = edge;
                }
            }
        } else if let Some(edge) = edges.get(&stream) {
            let end = number(3).wrapping_add(number(4));
            judged += usize::from(number(4) > 0);
            ensure!(
                (end.wrapping_sub(*edge) as i32) <= 0,
                "frame {} ends {} bytes behind the client's window",
                row[0],
                end.wrapping_sub(*edge)
            );
        }
    }
    ensure!(judged > 0, "no data that the client's window bounds");
    Ok(rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: &str, method: &str, range: &str, bytes: u64) -> Entry {
        Entry {
            address: address.to_owned(),
            method: method.to_owned(),
            path: "/x".to_owned(),
            range: range.to_owned(),
            status: 200,
            bytes,
        }
    }

    #[test]
    fn a_silently_plain_download_is_not_taken_for_a_shared_one() {
        assert!(both_lines(&[entry(WAN_A, "GET", "", 1000)], 1000, 1).is_err());
        let shared = [entry(WAN_A, "GET", "r", 520), entry(WAN_B, "GET", "r", 480)];
        assert_eq!(both_lines(&shared, 1000, 20).ok(), Some(48));
        let twice = [
            entry(WAN_A, "GET", "r", 1000),
            entry(WAN_B, "GET", "r", 480),
        ];
        assert!(both_lines(&twice, 1000, 20).is_err());
    }

    #[test]
    fn what_waits_in_a_server_at_the_cut_was_not_sent_and_what_is_asked_twice_was() {
        let own = entry(WAN_A, "GET", "", 990);
        let peer = entry(WAN_B, "GET", "bytes=500-999", 500);
        assert_eq!(
            both_lines(&[own.clone(), peer.clone()], 1000, 20).ok(),
            Some(50)
        );
        let again = entry(WAN_A, "GET", "bytes=500-999", 500);
        assert!(both_lines(&[own, peer, again], 1000, 20).is_err());
    }

    #[test]
    fn a_probe_or_a_range_is_not_plain() {
        assert!(plain(&[entry(WAN_A, "GET", "", 9)]).is_ok());
        assert!(plain(&[]).is_err());
        assert!(plain(&[entry(WAN_A, "HEAD", "", 0)]).is_err());
        assert!(plain(&[entry(WAN_A, "GET", "bytes=0-1", 2)]).is_err());
        assert!(plain(&[entry(WAN_B, "GET", "", 2)]).is_err());
    }

    #[test]
    fn a_wrong_byte_is_told_from_a_short_file() {
        let directory = std::env::temp_dir();
        let id = std::process::id();
        let (original, got) = (
            directory.join(format!("o-{id}")),
            directory.join(format!("g-{id}")),
        );
        std::fs::write(&original, b"abcdef").expect("a file");
        for (bytes, words) in [
            (&b"abcxef"[..], "WRONG BYTE at offset 3"),
            (&b"abc"[..], "3 of 6 bytes, all of them right"),
        ] {
            std::fs::write(&got, bytes).expect("a file");
            let error = same_file(&got, &original).expect_err("a difference");
            assert!(error.to_string().contains(words), "{error}");
        }
        std::fs::write(&got, b"abcdef").expect("a file");
        assert!(same_file(&got, &original).is_ok());
        for path in [original, got] {
            std::fs::remove_file(path).expect("was written");
        }
    }
}
