//! Keeps every bound of the firmware in its `budget.rs`: a test that reads the source.

use std::path::{Path, PathBuf};

/// Programs and drivers that cannot have theirs from the firmware's budget, and what is only there for tests.
const EXEMPT: [&str; 4] = [
    "budget.rs",
    "bin/loader.rs",
    "stitch/testnet.rs",
    "stitch/smoltcp_peer.rs",
];
/// Ends of the names of bounds. Counts that follow from another name, and lengths that a format fixes, are none.
const BOUND_NAMES: [&str; 9] = [
    "TIMEOUT",
    "INTERVAL",
    "RETRY",
    "RETRIES",
    "TRIES",
    "BURST",
    "BURST_MAX",
    "ATTEMPTS",
    "SLOTS_MAX",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "rs")
            && path.file_name().is_none_or(|name| name != "tests.rs")
        {
            found.push(path);
        }
    }
}

/// The code before a file's tests, without comments: number and text of each line.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_code = |line: &str| !line.trim_start().starts_with("//");
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("mod tests {"))
        .filter(move |(_, line)| is_code(line))
        .map(|(index, line)| (index + 1, line))
}

/// Whether a line makes a span of time of a literal, or names a bound that is a literal.
fn is_bound(line: &str) -> bool {
    let literal = |rest: &str| rest.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let spans = ["from_secs(", "from_millis(", "from_micros("];
    let is_span = spans.iter().any(|call| {
        let call = format!("Duration::{call}");
        line.split(call.as_str()).skip(1).any(literal)
    });
    let named = line.split_once("const ").is_some_and(|(_, rest)| {
        let value = rest
            .split_once(" = ")
            .is_some_and(|(_, value)| literal(value));
        rest.split_once(':')
            .is_some_and(|(name, _)| BOUND_NAMES.iter().any(|end| name.ends_with(end)) && value)
    });
    let vec = ["Vec<", "Deque<"].iter().any(|kind| {
        let mut parts = line.split(kind).skip(1);
        parts.any(|rest| {
            let inside = rest.split('>').next().unwrap_or_default();
            inside
                .rsplit_once(", ")
                .is_some_and(|(_, size)| literal(size))
        })
    });
    is_span || named || vec
}

#[test]
fn capacities_and_timeouts_of_the_firmware_are_in_its_budget() {
    let root = crate::image::workspace().join("firmware/src");
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    sources(&root, &mut files);
    assert!(files.len() > 80, "{} files", files.len());
    for path in files {
        let name = path
            .strip_prefix(&root)
            .expect("below it")
            .display()
            .to_string();
        if EXEMPT.contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        let lines = code(&text).filter(|(_, line)| is_bound(line));
        wrong.extend(lines.map(|(number, line)| format!("{name}:{number}: {}", line.trim())));
    }
    assert!(wrong.is_empty(), "not in budget.rs: {wrong:#?}");
}

#[test]
fn a_bound_beside_the_code_is_seen() {
    for line in [
        "    let due = now + Duration::from_secs(2);",
        "const RETRY: Duration = budget::RETRY; let x = Duration::from_millis( 1_000);",
        "pub(super) const SLOT_TRIES: u8 = 2;",
        "    reports: Deque<Report, 4>,",
    ] {
        assert!(is_bound(line), "{line}");
    }
    for line in [
        "    let due = now + PING_TIMEOUT;",
        "    Duration::from_secs(u64::from(lease.seconds))",
        "const HEADER_BYTES: usize = 12;",
        "    reports: Deque<Report, PING_REPORTS>,",
    ] {
        assert!(!is_bound(line), "{line}");
    }
}

/// Every bound has a reason: a doc comment of its own.
#[test]
fn every_bound_in_the_budget_has_its_reason() {
    let path = crate::image::workspace().join("firmware/src/budget.rs");
    let text = std::fs::read_to_string(path).expect("the budget");
    let lines: Vec<&str> = text.lines().collect();
    let bounds = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("pub const "));
    let mut count = 0;
    for (index, line) in bounds {
        count += 1;
        let above = lines[..index].iter().rev();
        let reason = above.take_while(|above| above.starts_with("/// "));
        let reason: usize = reason.map(|above| above.len()).sum();
        assert!(reason > 20, "no reason: {line}");
    }
    assert!(count > 200, "{count} bounds");
}
