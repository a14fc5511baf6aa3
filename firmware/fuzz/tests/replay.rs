//! The committed corpora, and inputs mutated from them by repeatable numbers: every target without libFuzzer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fuzz::input::Numbers;
use fuzz::{TARGETS, target};

/// A corpus is small: it is committed.
const FILE_BYTES_MAX: usize = 4096;
const TARGET_BYTES_MAX: usize = 64 * 1024;
/// Mutated inputs a target; the long runs are libFuzzer's.
const MUTATED: usize = 100;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The names in a directory, with the bytes of what is a file.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into();
            (name, std::fs::read(&path).unwrap_or_default())
        })
        .collect()
}

fn mutated(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let some = |numbers: &mut Numbers| corpus[numbers.below(corpus.len())].clone();
    let mut bytes = some(numbers);
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, numbers.next_u64() as u8),
            2 => {
                let other = some(numbers);
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            3 => {
                let to = (at + 1 + numbers.below(16)).min(bytes.len());
                bytes.drain(at.min(to)..to);
            }
            4 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = numbers.next_u64() as u8;
                }
            }
        }
    }
    bytes.truncate(FILE_BYTES_MAX);
    bytes
}

fn replay(name: &str) {
    let target = target(name).expect("a target of this name");
    let corpus: Vec<_> = files(&directory("corpus").join(name))
        .into_values()
        .collect();
    assert!(!corpus.is_empty());
    (target.run)(&[]);
    for input in &corpus {
        (target.run)(input);
    }
    let mut numbers = Numbers::of(name.as_bytes());
    for _ in 0..MUTATED {
        (target.run)(&mutated(&mut numbers, &corpus));
    }
}

#[test]
fn g18_any_request_has_one_verdict_and_what_is_taken_every_reader_reads_alike() {
    replay("http_request");
}

#[test]
fn g18_any_reply_has_one_reading_and_what_is_joined_every_reader_reads_alike() {
    replay("http_reply");
}

#[test]
fn lengths_and_places_are_taken_exactly_when_they_are_some() {
    replay("content_range");
}

#[test]
fn m8_any_bytes_in_any_pieces_are_messages_or_end_the_session() {
    replay("peer");
}

#[test]
fn d18_any_operations_leave_the_flow_table_whole() {
    replay("conntrack");
}

#[test]
fn d18_any_writes_and_releases_give_back_what_was_written_first() {
    replay("extents");
}

#[test]
fn d18_any_acknowledgements_leave_the_sender_whole() {
    replay("sender");
}

/// The targets that a test here replays, in their order.
const REPLAYED: [&str; 7] = [
    "http_request",
    "http_reply",
    "content_range",
    "peer",
    "conntrack",
    "extents",
    "sender",
];

#[test]
fn every_target_is_replayed_and_has_a_small_corpus() {
    assert!(TARGETS.iter().map(|target| target.name).eq(REPLAYED));
    let corpora = files(&directory("corpus"));
    assert!(corpora.keys().all(|name| target(name).is_some()));
    assert!(
        files(&directory("words"))
            .keys()
            .all(|name| target(name).is_some())
    );
    for name in REPLAYED {
        let files = files(&directory("corpus").join(name));
        for (file, bytes) in &files {
            assert!(bytes.len() < FILE_BYTES_MAX, "{name}/{file}");
        }
        assert!(
            files.values().map(Vec::len).sum::<usize>() < TARGET_BYTES_MAX,
            "{name}"
        );
    }
}
