//! What became of requests: accelerated, or left alone, and why.
//!
//! Each request that is looked at has exactly one verdict: the counter `exchange.seen` is `verdict.accelerated` and
//! `verdict.declined` together, and those declined are the sum of `declined.*` and of the other reasons here.

use crate::budget::{DECLINED_DOWNLOADS_MAX, WHY_TEXT_BYTES};
use smoltcp::time::{Duration, Instant};

use super::hosts::Habit;
use crate::classify::Reason;
use crate::counters::Counts;
use crate::fetch::Failure;

crate::counter_stage! {
    /// What became of requests; of connections without one where it says so.
    pub enum Said {
        /// Requests whose response the router took over.
        Accelerated = "accelerated",
        /// Requests left alone, for any reason.
        Declined = "declined",
        /// No peer was up.
        NoPeer = "no-peer",
        /// The client takes only tiny segments.
        TinySegments = "tiny-segments",
        /// The origin did not answer the probe in time, or nobody asked or answered for long.
        Late = "late",
        /// The own line's probe or first range failed.
        Line = "line",
        /// No free exchange or no free block.
        NoRoom = "no-room",
        /// The client or the origin did something else meanwhile.
        Interrupted = "interrupted",
        /// The client asked for more before the response was through.
        Pipelined = "pipelined",
        /// What is left of the response is not worth help.
        TooLate = "too-late",
        /// No neighbour brought anything in time.
        NoHelp = "no-help",
        /// The router's addresses changed.
        AddressChanged = "address-changed",
        /// The origin host has a habit that makes help useless.
        Host = "host-habit",
        /// Connections whose first bytes were no request, or came from the origin.
        NotARequest = "flow-not-a-request",
        /// Connections that could not be followed behind a request that was left alone.
        LostTrack = "flow-lost-track",
    }
}

/// Why a request was not split, as shown by `why`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Why {
    /// The request or the probe's reply said so.
    Plain(Reason),
    /// No peer is up.
    NoPeer,
    /// The client takes only tiny segments.
    TinySegments,
    /// The own line did not answer the probe in time.
    Late,
    /// The own line's connection failed.
    Line(Failure),
    /// No free exchange or no free block.
    NoRoom,
    /// The client or the origin did something else meanwhile.
    Interrupted,
    /// The client asked for more on the same connection.
    Pipelined,
    /// What is left of the response is not worth a neighbour's connection, or the origin may send it already.
    TooLate,
    /// No neighbour brought anything in time.
    NoHelp,
    /// The router's addresses changed: the connection is gone.
    AddressChanged,
    /// The origin host has a habit that makes help useless.
    Host(Habit),
}

impl Why {
    /// One line for people.
    pub fn text(self) -> &'static str {
        match self {
            Why::Plain(reason) => reason.text(),
            Why::NoPeer => "no peer is up",
            Why::TinySegments => "the client takes only tiny segments",
            Why::Late => "the origin did not answer the probe within 1 s",
            Why::Line(Failure::Connect) => "the origin took no second connection",
            Why::Line(Failure::EarlyEnd) => "the origin closed the probe's connection",
            Why::Line(Failure::Grammar) => "the probe's reply is not strict HTTP/1.1",
            Why::Line(Failure::Unasked) => "the origin sent bytes nobody asked for",
            Why::Line(Failure::Refused(_)) => "the first range's reply may not be joined",
            Why::NoRoom => "all exchanges or blocks are in use",
            Why::Interrupted => "client or origin went on while the request was held",
            Why::Pipelined => "the client asked for more on the same connection",
            Why::TooLate => "the origin had sent too much to share the rest",
            Why::NoHelp => "no peer brought anything in time",
            Why::AddressChanged => "the router's addresses changed",
            Why::Host(habit) => habit.text(),
        }
    }

    /// Its own counter; a reason of the request or the reply has one among [`Reason`]s.
    const fn said(self) -> Option<Said> {
        Some(match self {
            Why::Plain(_) => return None,
            Why::NoPeer => Said::NoPeer,
            Why::TinySegments => Said::TinySegments,
            Why::Late => Said::Late,
            Why::Line(_) => Said::Line,
            Why::NoRoom => Said::NoRoom,
            Why::Interrupted => Said::Interrupted,
            Why::Pipelined => Said::Pipelined,
            Why::TooLate => Said::TooLate,
            Why::NoHelp => Said::NoHelp,
            Why::AddressChanged => Said::AddressChanged,
            Why::Host(_) => Said::Host,
        })
    }

    /// A word for a column.
    pub fn word(self) -> &'static str {
        match (self, self.said()) {
            (Why::Plain(reason), _) => reason.text(),
            (_, Some(said)) => <Said as crate::counters::Stage>::NAMES[said as usize],
            (_, None) => "declined",
        }
    }
}

/// What the router said of the last request of a connection.
///
/// With a tag of its own: in a niche of [`Why`], `None` would not be zero, and every flow's entry would lie in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, defmt::Format)]
#[repr(u8)]
pub enum Verdict {
    /// No request was seen.
    #[default]
    None,
    /// The router took the response over.
    Accelerated,
    /// It was left alone.
    Declined(Why),
    /// The first bytes were no request, or came from the origin.
    NotARequest,
    /// The connection could not be followed behind its last request.
    LostTrack,
}

impl Verdict {
    /// A word for a column.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::None => "no-request",
            Verdict::Accelerated => "accelerated",
            Verdict::Declined(why) => why.word(),
            Verdict::NotARequest => "not-a-request",
            Verdict::LostTrack => "lost-track",
        }
    }
}

/// What help a download had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Help {
    /// Bytes of the response by the own line, that is its first connection and its ranges.
    pub own_bytes: u64,
    /// Bytes that each neighbour brought.
    pub peer_bytes: [u64; crate::budget::PEERS_MAX],
    /// From the request to the last acknowledged byte.
    pub took: Duration,
    /// What it would have taken longer by the own line's measured rate alone: an estimate.
    pub saved: Duration,
}

/// A download of which something is remembered.
#[derive(Clone, Debug)]
pub struct Download {
    /// When it ended, or was left alone.
    pub at: Instant,
    /// The beginning of the target.
    pub what: heapless::String<WHY_TEXT_BYTES>,
    /// Why it was left alone, or what help it had.
    pub end: Result<Help, Why>,
}

impl Download {
    fn new(at: Instant, head: &[u8], end: Result<Help, Why>) -> Self {
        let mut what = heapless::String::new();
        let target = head.get(4..).unwrap_or_default();
        let target = target
            .split(|&byte| byte == b' ' || byte == b'\r')
            .next()
            .unwrap_or_default();
        for &byte in target.iter().take(what.capacity()) {
            let char = if byte.is_ascii_graphic() {
                byte as char
            } else {
                '?'
            };
            let _fits = what.push(char).is_ok();
        }
        Self { at, what, end }
    }
}

/// All verdicts so far: how many of each, and the last downloads.
#[derive(Debug)]
pub struct Verdicts {
    counts: Counts<Said>,
    reasons: Counts<Reason, { crate::classify::REASONS }>,
    downloads: heapless::Deque<Download, DECLINED_DOWNLOADS_MAX>,
}

impl Verdicts {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            counts: Counts::new(),
            reasons: Counts::new(),
            downloads: heapless::Deque::new(),
        }
    }

    /// How many of each.
    pub const fn counts(&self) -> &Counts<Said> {
        &self.counts
    }

    /// How often each reason of a request or its reply left it alone.
    pub const fn reasons(&self) -> &Counts<Reason, { crate::classify::REASONS }> {
        &self.reasons
    }

    /// The last downloads, oldest first.
    pub fn downloads(&self) -> impl Iterator<Item = &Download> {
        self.downloads.iter()
    }

    /// A request was left alone; `head` is its beginning.
    pub(super) fn decline(&mut self, now: Instant, head: &[u8], why: Why) {
        self.counts.bump(Said::Declined);
        match (why, why.said()) {
            (Why::Plain(reason), _) => self.reasons.bump(reason),
            (_, Some(said)) => self.counts.bump(said),
            (_, None) => {}
        }
        defmt::debug!("declined: {}", why);
        // Requests that are no GET are not worth a line.
        if head.starts_with(b"GET ") {
            self.remember(Download::new(now, head, Err(why)));
        }
    }

    /// A request's response was taken over, and has ended.
    pub(super) fn accelerate(&mut self, now: Instant, head: &[u8], help: Help) {
        self.counts.bump(Said::Accelerated);
        defmt::debug!(
            "accelerated: {=u64} ms, {=u64} ms saved",
            help.took.total_millis(),
            help.saved.total_millis()
        );
        self.remember(Download::new(now, head, Ok(help)));
    }

    /// A connection is not looked at any more, without a request.
    pub fn note_flow(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::NotARequest => self.counts.bump(Said::NotARequest),
            Verdict::LostTrack => self.counts.bump(Said::LostTrack),
            Verdict::None | Verdict::Accelerated | Verdict::Declined(_) => return,
        }
        defmt::debug!("a connection is plain from here on: {}", verdict);
    }

    fn remember(&mut self, download: Download) {
        if self.downloads.is_full() {
            self.downloads.pop_front();
        }
        let _fits = self.downloads.push_back(download).is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::PEERS_MAX;

    #[test]
    fn every_request_counts_once_and_under_one_reason() {
        let mut verdicts = Verdicts::new();
        let whys = [
            Why::Plain(Reason::ReplySmall),
            Why::NoPeer,
            Why::TinySegments,
            Why::Late,
            Why::Line(Failure::Connect),
            Why::NoRoom,
            Why::Interrupted,
            Why::Pipelined,
            Why::TooLate,
            Why::NoHelp,
            Why::AddressChanged,
        ];
        for why in whys {
            verdicts.decline(Instant::ZERO, b"POST / HTTP/1.1\r\n", why);
        }
        let parts: u64 = verdicts
            .counts()
            .iter()
            .filter(|(name, _)| !["accelerated", "declined"].contains(name))
            .chain(verdicts.reasons().iter())
            .map(|(_, value)| value)
            .sum();
        assert_eq!(parts, whys.len() as u64);
        assert_eq!(verdicts.counts().get(Said::Declined), parts);
        assert_eq!(verdicts.downloads().count(), 0, "no GET among them");
        // Each has a word of its own.
        for (index, why) in whys.iter().enumerate() {
            assert!(whys[..index].iter().all(|other| other.word() != why.word()));
        }
    }

    #[test]
    fn the_last_downloads_are_remembered_helped_or_not() {
        let mut verdicts = Verdicts::new();
        for number in 0..DECLINED_DOWNLOADS_MAX {
            let at = Instant::from_secs(number as i64);
            verdicts.decline(at, b"GET /a HTTP/1.1\r\n", Why::NoPeer);
        }
        let help = Help {
            own_bytes: 7,
            peer_bytes: [1; PEERS_MAX],
            ..Help::default()
        };
        verdicts.accelerate(Instant::from_secs(99), b"GET /b\x7f HTTP/1.1\r\n", help);
        assert_eq!(verdicts.downloads().count(), DECLINED_DOWNLOADS_MAX);
        let last = verdicts.downloads().last().unwrap();
        assert_eq!((last.what.as_str(), last.end), ("/b?", Ok(help)));
        assert_eq!(verdicts.downloads().next().unwrap().at.secs(), 1);
    }
}
