//! Fuzz targets: the firmware's readers and tables, fed with any bytes and any sequence of operations.
//!
//! A target is a function of bytes that panics when something is wrong. libFuzzer drives it with coverage counters
//! (`cargo lab fuzz`); `tests/replay.rs` runs it over the committed corpus and over inputs mutated from it, without.
//!
//! | target | judges |
//! | --- | --- |
//! | [`http_request`] | `classify`, and the requests written from what it takes, by an independent reader and httparse |
//! | [`http_reply`] | `parse_reply`, `judge_probe` and `judge_part`, by the same two |
//! | [`content_range`] | `Content-Range`, `Content-Length` and `Range` by arithmetic on wider numbers, and there and back |
//! | [`peer`] | the decoder of peer messages: any bytes, in any pieces |
//! | [`conntrack`] | the flow table through operations: its own invariants, and what hosts may rely on |
//! | [`extents`] | two streams of one pool against a byte map |
//! | [`sender`] | the TCP sender against a receiver that loses, reorders, repeats and, if told so, lies |
//!
//! Corpora: `corpus/TARGET/`, each file below 4 KiB, 64 KiB a target. Words: `words/TARGET`, a libFuzzer dictionary.

pub mod conntrack;
pub mod content_range;
pub mod extents;
pub mod http_reply;
pub mod http_request;
pub mod input;
mod log;
pub mod peer;
pub mod reader;
pub mod sender;

/// One target.
#[derive(Debug)]
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    /// Takes any bytes; panics when what is tested is wrong.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "http_request",
        run: http_request::run,
    },
    Target {
        name: "http_reply",
        run: http_reply::run,
    },
    Target {
        name: "content_range",
        run: content_range::run,
    },
    Target {
        name: "peer",
        run: peer::run,
    },
    Target {
        name: "conntrack",
        run: conntrack::run,
    },
    Target {
        name: "extents",
        run: extents::run,
    },
    Target {
        name: "sender",
        run: sender::run,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
