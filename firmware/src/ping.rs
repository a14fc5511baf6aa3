//! Echo requests of the router's own, as the console asks for them: one at a time.
//!
//! Follows: RFC 792 (echo), RFC 5508 section 3 (identifiers; ours are never those of a flow).
//! Units: [`Instant`]s; times are shown in ms with three places.
//!
//! | state | input | then |
//! | --- | --- | --- |
//! | idle, over | [`Ping::start`] | first request due at once |
//! | due | [`Ping::poll_transmit`] | waits for the answer; not sent: reported, due a second later |
//! | waiting | [`Ping::on_reply`] with its number | reported; next due a second after the last, or over |
//! | waiting | [`PING_TIMEOUT`] passes | reported; next due at once, or over |
//! | any | [`Ping::end`] | over |
//!
//! Calling order: `poll` when `poll_at` is due, then `poll_transmit`; `poll_report` until `None`.
//! Invariants: I1 `received <= sent <= count`.
//! Budget: one [`Ping`] of below 280 bytes.

use core::fmt;
use core::net::Ipv4Addr;

use heapless::Deque;
use smoltcp::time::{Duration, Instant};

use crate::budget::{PING_INTERVAL, PING_REPORTS, PING_TIMEOUT};

/// Payload of a request, bytes: what other programs send.
pub const PAYLOAD_BYTES: usize = 56;

/// Why no echo can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum PingError {
    /// No port leads there, or it has no address.
    NoRoute,
    /// One of the router's own addresses.
    Own,
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PingError::NoRoute => "there is no way to this address",
            PingError::Own => "this is the router itself",
        })
    }
}

/// Something to tell whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// An answer.
    Reply {
        /// Who answered.
        from: Ipv4Addr,
        /// To which request.
        seq: u16,
        /// Hops it had left.
        ttl: u8,
        /// How long it took.
        took: Duration,
    },
    /// No answer in time.
    Silence {
        /// To which request.
        seq: u16,
    },
    /// The request could not be sent: no way, or no room.
    Unsent {
        /// Which request.
        seq: u16,
    },
    /// The end.
    Summary {
        /// Requests that left.
        sent: u32,
        /// Answers in time.
        received: u32,
        /// Shortest, mean and longest time of the answers.
        times: Option<[Duration; 3]>,
    },
}

/// Shows a time in ms.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.total_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Reply {
                from,
                seq,
                ttl,
                took,
            } => write!(f, "{from}: seq={seq} ttl={ttl} time={} ms", Millis(*took)),
            Report::Silence { seq } => {
                write!(f, "seq={seq} no answer within {} s", PING_TIMEOUT.secs())
            }
            Report::Unsent { seq } => write!(f, "seq={seq} not sent: no way, or no room"),
            Report::Summary {
                sent,
                received,
                times,
            } => {
                write!(f, "{sent} sent, {received} received")?;
                match times {
                    None => Ok(()),
                    Some([min, mean, max]) => write!(
                        f,
                        ", min/mean/max {}/{}/{} ms",
                        Millis(*min),
                        Millis(*mean),
                        Millis(*max)
                    ),
                }
            }
        }
    }
}

/// A request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// To whom.
    pub target: Ipv4Addr,
    /// Identifier of the echo.
    pub ident: u16,
    /// Its number, from 1.
    pub seq: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Over,
    /// The next request leaves then.
    Due(Instant),
    /// A request left then.
    Waiting(Instant),
}

/// One series of echo requests.
#[derive(Clone, Debug)]
pub struct Ping {
    state: State,
    target: Ipv4Addr,
    ident: u16,
    /// Number of the last request, also of one that did not leave.
    seq: u16,
    count: u32,
    sent: u32,
    received: u32,
    times: Option<[Duration; 2]>,
    total: Duration,
    /// At most an answer and the summary are made between two looks.
    reports: Deque<Report, PING_REPORTS>,
}

const _: () = assert!(core::mem::size_of::<Ping>() < 280);

impl Ping {
    /// Nothing to do.
    pub const fn new() -> Self {
        Self {
            state: State::Over,
            target: Ipv4Addr::UNSPECIFIED,
            ident: 0,
            seq: 0,
            count: 0,
            sent: 0,
            received: 0,
            times: None,
            total: Duration::ZERO,
            reports: Deque::new(),
        }
    }

    /// Begins a series of `count` requests, at least one and at most 65,535; one that runs is forgotten.
    pub fn start(&mut self, now: Instant, target: Ipv4Addr, ident: u16, count: u32) {
        *self = Self {
            state: State::Due(now),
            target,
            ident,
            count: count.clamp(1, u32::from(u16::MAX)),
            ..Self::new()
        };
    }

    /// Ends the series; the summary is the last report.
    pub fn end(&mut self) {
        if self.state != State::Over {
            self.state = State::Over;
            self.summarize();
        }
    }

    /// Whether nothing is to be sent or waited for any more; reports may be left.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether something is to be told.
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }

    /// The next thing to be told.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// Whether `ident` is that of the running series.
    pub fn has_ident(&self, ident: u16) -> bool {
        !self.is_over() && self.ident == ident
    }

    /// Gives up waiting for an answer that is late.
    pub fn poll(&mut self, now: Instant) {
        if let State::Waiting(since) = self.state
            && now >= since + PING_TIMEOUT
        {
            self.report(Report::Silence { seq: self.seq });
            self.go_on(now);
        }
    }

    /// The request that is due, to be sent now; [`Self::unsent`] says when it was not.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Request> {
        let State::Due(at) = self.state else {
            return None;
        };
        // Reports that nobody reads stop the series, not grow.
        if now < at || self.reports.len() > 1 {
            return None;
        }
        self.seq += 1;
        self.sent += 1;
        self.state = State::Waiting(now);
        Some(Request {
            target: self.target,
            ident: self.ident,
            seq: self.seq,
        })
    }

    /// The request just given did not leave.
    pub fn unsent(&mut self, now: Instant) {
        if let State::Waiting(_) = self.state {
            self.sent -= 1;
            self.report(Report::Unsent { seq: self.seq });
            self.go_on(now + PING_INTERVAL);
        }
    }

    /// Takes an intact echo reply with the series' identifier; late and strange ones are ignored.
    pub fn on_reply(&mut self, now: Instant, from: Ipv4Addr, seq: u16, ttl: u8) {
        let State::Waiting(since) = self.state else {
            return;
        };
        if from != self.target || seq != self.seq {
            return;
        }
        let took = now - since;
        self.received += 1;
        self.total += took;
        let [min, max] = self.times.unwrap_or([took; 2]);
        self.times = Some([min.min(took), max.max(took)]);
        self.report(Report::Reply {
            from,
            seq,
            ttl,
            took,
        });
        self.go_on(since + PING_INTERVAL);
    }

    /// When [`Self::poll`] and [`Self::poll_transmit`] must be called.
    pub fn poll_at(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            State::Due(_) if self.reports.len() > 1 => None,
            State::Due(at) => Some(at),
            State::Waiting(since) => Some(since + PING_TIMEOUT),
        }
    }

    fn go_on(&mut self, next: Instant) {
        if u32::from(self.seq) < self.count {
            self.state = State::Due(next);
        } else {
            self.state = State::Over;
            self.summarize();
        }
    }

    fn summarize(&mut self) {
        let times = self.times.map(|[min, max]| {
            let mean = self.total.total_micros() / u64::from(self.received.max(1));
            [min, Duration::from_micros(mean), max]
        });
        self.report(Report::Summary {
            sent: self.sent,
            received: self.received,
            times,
        });
    }

    fn report(&mut self, report: Report) {
        // Nothing is sent while two wait, so an answer and the summary always have their places.
        let _fits = self.reports.push_back(report).is_ok();
        debug_assert!(_fits, "reports are bounded by what is sent");
        debug_assert!(self.received <= self.sent && self.sent <= self.count, "I1");
    }
}

impl Default for Ping {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

    fn at(ms: i64) -> Instant {
        Instant::from_millis(ms)
    }

    fn said(ping: &mut Ping) -> std::vec::Vec<std::string::String> {
        core::iter::from_fn(|| ping.poll_report())
            .map(|report| report.to_string())
            .collect()
    }

    #[test]
    fn answers_are_told_as_they_come_and_summed_up() {
        let mut ping = Ping::new();
        ping.start(at(0), HOST, 61_000, 2);
        let first = ping.poll_transmit(at(0)).unwrap();
        assert_eq!((first.target, first.ident, first.seq), (HOST, 61_000, 1));
        assert_eq!(ping.poll_transmit(at(0)), None, "one at a time");
        ping.on_reply(at(12), HOST, 1, 57);
        assert_eq!(
            said(&mut ping),
            ["198.51.100.10: seq=1 ttl=57 time=12.000 ms"]
        );
        assert_eq!(ping.poll_at(), Some(at(1000)));
        assert_eq!(ping.poll_transmit(at(999)), None);
        assert_eq!(ping.poll_transmit(at(1000)).unwrap().seq, 2);
        ping.on_reply(at(1030), HOST, 2, 57);
        assert!(ping.is_over());
        assert_eq!(
            said(&mut ping)[1],
            "2 sent, 2 received, min/mean/max 12.000/21.000/30.000 ms"
        );
        assert_eq!(ping.poll_at(), None);
    }

    #[test]
    fn silence_is_told_after_two_seconds() {
        let mut ping = Ping::new();
        ping.start(at(0), HOST, 61_000, 1);
        assert!(ping.poll_transmit(at(0)).is_some());
        assert_eq!(ping.poll_at(), Some(at(2000)));
        ping.poll(at(1999));
        assert_eq!(said(&mut ping).len(), 0);
        ping.poll(at(2000));
        assert_eq!(
            said(&mut ping),
            ["seq=1 no answer within 2 s", "1 sent, 0 received"]
        );
    }

    #[test]
    fn strange_late_and_second_answers_change_nothing() {
        let mut ping = Ping::new();
        ping.on_reply(at(0), HOST, 0, 1);
        ping.start(at(0), HOST, 61_000, 2);
        assert!(ping.poll_transmit(at(0)).is_some());
        ping.on_reply(at(1), Ipv4Addr::new(1, 2, 3, 4), 1, 1);
        ping.on_reply(at(1), HOST, 2, 1);
        assert_eq!(said(&mut ping).len(), 0);
        ping.on_reply(at(1), HOST, 1, 1);
        ping.on_reply(at(2), HOST, 1, 1);
        assert_eq!(said(&mut ping).len(), 1);
    }

    #[test]
    fn what_cannot_be_sent_is_told_and_does_not_count() {
        let mut ping = Ping::new();
        ping.start(at(0), HOST, 61_000, 1);
        assert!(ping.poll_transmit(at(0)).is_some());
        ping.unsent(at(0));
        assert_eq!(
            said(&mut ping),
            ["seq=1 not sent: no way, or no room", "0 sent, 0 received"]
        );
    }

    #[test]
    fn s10_a_series_that_nobody_reads_stops_and_does_not_grow() {
        let mut ping = Ping::new();
        ping.start(at(0), HOST, 61_000, 100);
        let mut sent = 0;
        for second in 0..1000 {
            ping.poll(at(second * 1000));
            sent += u32::from(ping.poll_transmit(at(second * 1000)).is_some());
        }
        assert!(sent < 4);
        assert_eq!(ping.poll_at(), None);
        ping.end();
        let said = said(&mut ping);
        assert!(said.last().unwrap().contains("sent, 0 received"));
    }
}
