//! Plans ranges over links.
//!
//! An exchange's wanted interval is handed out front to back: each link holds at most two asked
//! ranges, sized by its measured rate, so that a request is always under way while the range before
//! it arrives. What a link failed to bring goes back and is handed out first.
//!
//! A link that is late is not waited for: what it was asked for is *hedged*, that is handed out to another as well, and
//! counts as arrived by whoever brings it first. So is the last range of a link that others would bring much sooner.
//!
//! Calling order: [`Plan::next`] while it returns ranges; [`Plan::on_bytes`] as bytes arrive;
//! [`Plan::on_done`] after a range's last byte; [`Plan::on_failed`] when a link lost what it was asked for.
//!
//! Units: offsets and sizes in bytes, rates in bytes/s, times in µs.
//!
//! Invariants:
//! - I1: asked and not hedged, returned and arrived parts together cover `[first, frontier)`.
//! - I2: returned spans are sorted and disjoint, all below `frontier`.
//! - I3: no link holds more than [`ASKS_PER_LINK`] ranges, and one more for which the stream waits.
//!
//! Budget: below 1.5 KiB an exchange (asserted).

pub mod validator;

use crate::budget::{
    ASKS_PER_LINK, HEDGE_ANSWER_ROUND_TRIPS, HEDGE_ANSWER_US, HEDGE_GAPS, HEDGE_ROUND_TRIPS,
    HEDGE_US_MAX, HEDGE_US_MIN, LINK_STALL, RANGE_BYTES_FIRST, RANGE_BYTES_MAX, RANGE_BYTES_MIN,
    RANGE_ROUND_TRIPS, RANGE_TIME_US, RANGE_TIME_US_MIN, RANGES_RETURNED_MAX, RATE_RATIO_MAX,
};
use heapless::{Deque, Vec};
use smoltcp::time::{Duration, Instant};

use crate::links::{LINKS_MAX, LinkId};
use crate::wire::http::ByteRange;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    /// First offset asked for: tells a link's asks apart.
    first: u64,
    /// Next offset expected.
    at: u64,
    end: u64,
    /// The rest was handed out to another link as well: that one must bring it.
    is_hedged: bool,
    /// Somebody was asked for it before.
    is_again: bool,
}

#[derive(Clone, Debug)]
struct Lane {
    asks: Deque<Ask, { ASKS_PER_LINK + 1 }>,
    /// Bytes came since it had nothing to do.
    has_answered: bool,
    /// A range was whole since the link last lost one.
    has_done: bool,
    /// Its connection ends with each reply.
    closes: bool,
    /// The longest time between two arrivals lately, µs.
    gap_us: u64,
    /// Bytes/s; zero until the first range is done.
    rate: u64,
    /// Since when the bytes now counted have been arriving.
    since: Instant,
    counted: u64,
    progress_at: Instant,
    /// How long the link may bring nothing.
    stall: Duration,
}

impl Lane {
    fn outstanding(&self) -> u64 {
        self.asks.iter().map(|ask| ask.end - ask.at).sum()
    }
}

/// The ranges of one exchange, given to links.
#[derive(Clone, Debug)]
pub struct Plan {
    /// First offset never asked of anyone.
    frontier: u64,
    /// End of the wanted interval (exclusive).
    end: u64,
    returned: Vec<Span, RANGES_RETURNED_MAX>,
    lanes: [Lane; LINKS_MAX],
    /// First byte that the stream waits for.
    head: u64,
    /// From a request to its reply, µs; zero while unknown.
    rtt_us: u64,
}

const _: () = assert!(core::mem::size_of::<Plan>() <= 1536);

impl Plan {
    /// Plans `[first, end)`.
    pub fn new(now: Instant, first: u64, end: u64) -> Self {
        Self {
            frontier: first,
            end,
            returned: Vec::new(),
            lanes: core::array::from_fn(|_| Lane {
                asks: Deque::new(),
                has_answered: false,
                has_done: false,
                closes: false,
                gap_us: 0,
                rate: 0,
                since: now,
                counted: 0,
                progress_at: now,
                stall: LINK_STALL,
            }),
            head: first,
            rtt_us: 0,
        }
    }

    /// Tells how long a request takes to be answered, µs; zero while that is unknown.
    pub fn set_round_trip(&mut self, us: u64) {
        self.rtt_us = us;
    }

    /// Tells the first byte that the stream waits for: a link without a free place is asked for it all the same.
    pub fn set_head(&mut self, offset: u64) {
        self.head = offset;
    }

    /// How long `lane` may bring nothing before others are asked as well.
    fn patience(&self, lane: &Lane) -> Duration {
        let us = if lane.has_answered {
            let usual = self.rtt_us * HEDGE_ROUND_TRIPS + lane.gap_us * HEDGE_GAPS;
            usual.clamp(HEDGE_US_MIN, HEDGE_US_MAX)
        } else if self.rtt_us == 0 {
            HEDGE_ANSWER_US
        } else {
            (self.rtt_us * HEDGE_ANSWER_ROUND_TRIPS).clamp(HEDGE_ANSWER_US / 2, HEDGE_ANSWER_US)
        };
        Duration::from_micros(us)
    }

    /// Whether a link holds ranges and brought nothing for longer than it usually takes: nothing more should be asked of
    /// it meanwhile.
    pub fn is_late(&self, now: Instant, link: LinkId) -> bool {
        let lane = &self.lanes[link.index()];
        !lane.asks.is_empty() && now >= lane.progress_at + self.patience(lane)
    }

    /// Hands out a second time what late links were asked for: at once what the stream waits for, the rest when they
    /// are late twice; and the last ranges of slow links when one of the others, with nothing to do, is much faster.
    ///
    /// `usable` tells which links can take it. The late one goes on and must not be believed to be lost. Returns how many
    /// ranges were hedged.
    pub fn hedge(&mut self, now: Instant, usable: &[bool; LINKS_MAX]) -> u32 {
        let mut hedged = 0;
        let tail = self.tail_of(now, usable);
        for i in 0..LINKS_MAX {
            if !(0..LINKS_MAX).any(|other| other != i && usable[other]) {
                continue;
            }
            let lane = &self.lanes[i];
            let patience = self.patience(lane);
            let silence = now - lane.progress_at;
            let is_tail = tail == Some(i);
            if lane.asks.is_empty() || (silence < patience && !is_tail) {
                continue;
            }
            let head = self.head;
            let mut rests: Vec<Ask, { ASKS_PER_LINK + 1 }> = Vec::new();
            for ask in self.lanes[i].asks.iter_mut() {
                let is_due = ask.at <= head || silence >= patience * 2 || is_tail;
                // What was asked for twice is not asked for a third time but after a failure (FAULTS U4).
                if !ask.is_hedged && !ask.is_again && ask.at < ask.end && is_due {
                    // As many places as asks.
                    let _fits = rests.push(*ask).is_ok();
                    ask.is_hedged = true;
                }
            }
            hedged += rests.len() as u32;
            for rest in rests {
                self.give_back(rest);
            }
        }
        hedged
    }

    /// The link whose last ranges another would bring much sooner, if everything else is asked for.
    fn tail_of(&self, now: Instant, usable: &[bool; LINKS_MAX]) -> Option<usize> {
        if self.unasked() > 0 {
            return None;
        }
        let pace = |i: usize| self.pace(now, LinkId::from_index(i)).max(1);
        let idle = (0..LINKS_MAX).filter(|&i| usable[i] && self.lanes[i].asks.is_empty());
        let best = idle.map(|i| self.lanes[i].rate).max().filter(|&r| r > 0)?;
        let left = |i: usize| {
            let asks = self.lanes[i].asks.iter().filter(|ask| !ask.is_hedged);
            asks.map(|ask| ask.end - ask.at).sum::<u64>()
        };
        (0..LINKS_MAX)
            .filter(|&i| left(i) > 0 && self.lanes[i].has_answered)
            .find(|&i| {
                let us = |rate: u64| left(i).saturating_mul(1_000_000) / rate;
                us(pace(i)) > 2 * (us(best) + self.rtt_us.max(HEDGE_US_MIN))
            })
    }

    /// When a link that is in time now will be late.
    pub fn late_at(&self, now: Instant) -> Option<Instant> {
        let lanes = self.lanes.iter().filter(|lane| !lane.asks.is_empty());
        lanes
            .flat_map(|lane| {
                let patience = self.patience(lane);
                [lane.progress_at + patience, lane.progress_at + patience * 2]
            })
            .filter(|&at| at > now)
            .min()
    }

    /// Carries rates over from earlier exchanges, bytes/s; zero leaves one unknown.
    ///
    /// A link that was too slow then is not left out now: it is measured again.
    pub fn assume_rates(&mut self, rates: &[u64; LINKS_MAX]) {
        let least = rates.iter().copied().max().unwrap_or(0) / (RATE_RATIO_MAX / 2);
        for (lane, &rate) in self.lanes.iter_mut().zip(rates) {
            lane.rate = if rate == 0 { 0 } else { rate.max(least) };
        }
    }

    /// Takes `rate` for a link that was not measured here, bytes/s.
    pub fn assume_rate(&mut self, link: LinkId, rate: u64) {
        let lane = &mut self.lanes[link.index()];
        if lane.rate == 0 {
            lane.rate = rate;
        }
    }

    /// Bytes nobody was asked for yet, or that somebody failed to bring.
    pub fn unasked(&self) -> u64 {
        let returned = self.returned.iter().map(|span| span.end - span.start);
        self.end - self.frontier + returned.sum::<u64>()
    }

    /// What a link brings as far as is known now: its measured rate, or that of the range that arrives,
    /// bytes/s; zero before its first byte.
    pub fn pace(&self, now: Instant, link: LinkId) -> u64 {
        let lane = &self.lanes[link.index()];
        let elapsed_us = (now - lane.since).total_micros();
        match lane.rate {
            0 if elapsed_us > 0 => lane.counted.saturating_mul(1_000_000) / elapsed_us,
            rate => rate,
        }
    }

    /// The first place at or after `offset` from which bytes will come: where a link was asked to begin, or the
    /// first byte never asked for.
    pub fn beginning_after(&self, offset: u64) -> u64 {
        let asks = self.lanes.iter().flat_map(|lane| lane.asks.iter());
        let begin = asks.map(|ask| ask.first).filter(|&first| first >= offset);
        begin.min().unwrap_or(self.frontier).max(offset)
    }

    /// Nothing below `offset` is wanted any more. What is under way comes all the same.
    pub fn forget_below(&mut self, offset: u64) {
        self.frontier = self.frontier.max(offset.min(self.end));
        self.returned.retain(|span| span.end > offset);
        if let Some(first) = self.returned.first_mut() {
            first.start = first.start.max(offset);
        }
    }

    /// Wants `start..end`, below all that is planned so far, as well.
    pub fn want_before(&mut self, start: u64, end: u64) {
        self.give_back(Ask {
            first: start,
            at: start,
            end,
            is_hedged: false,
            is_again: false,
        });
    }

    /// The measured rate of a link, bytes/s; zero while unknown.
    pub fn rate(&self, link: LinkId) -> u64 {
        self.lanes[link.index()].rate
    }

    /// Gives `link` its next range, none of it at or past `limit` (the end of the reorder window).
    ///
    /// `usable` tells which links can fetch at all; the tail is shared among those by rate.
    /// `None` when the link has enough to do, is too slow, or nothing is left for it.
    pub fn next(
        &mut self,
        now: Instant,
        link: LinkId,
        limit: u64,
        usable: &[bool; LINKS_MAX],
    ) -> Option<ByteRange> {
        let lane = &self.lanes[link.index()];
        let is_due = |span: &Span| span.start <= self.head;
        let is_urgent = self.returned.first().is_some_and(is_due);
        // One place more for what the stream waits for, on a link that works.
        let places = match lane.closes {
            true => 1,
            false => ASKS_PER_LINK + usize::from(is_urgent && lane.has_answered),
        };
        if lane.asks.len() >= places || !usable[link.index()] {
            return None;
        }
        let best = (0..LINKS_MAX)
            .filter(|&i| usable[i])
            .map(|i| self.lanes[i].rate)
            .max()
            .unwrap_or(0);
        if lane.rate != 0 && lane.rate.saturating_mul(RATE_RATIO_MAX) < best {
            return None;
        }
        let wanted = match lane.rate {
            _ if lane.closes => RANGE_BYTES_MAX,
            0 => RANGE_BYTES_FIRST,
            rate => (rate.saturating_mul(self.range_time_us()) / 1_000_000)
                .clamp(RANGE_BYTES_FIRST / 2, RANGE_BYTES_MAX),
        };
        let share = self.share(link, usable, best);
        if share < RANGE_BYTES_MIN && !lane.asks.is_empty() && !is_urgent {
            return None;
        }
        let wanted = match is_urgent {
            true => wanted,
            false => wanted.min(share.max(RANGE_BYTES_MIN)),
        };

        let is_again = !self.returned.is_empty();
        let span = match self.returned.first().copied() {
            Some(span) => Span {
                start: span.start,
                end: span.end.min(span.start + wanted),
            },
            None => Span {
                start: self.frontier,
                end: self.end.min(self.frontier + wanted),
            },
        };
        // The window's end may cut a range short, but not into crumbs.
        let span = Span {
            start: span.start,
            end: span.end.min(limit),
        };
        // What it is late with, others are asked for.
        let has_it = |ask: &Ask| ask.is_hedged && ask.at < span.end && span.start < ask.end;
        if lane.asks.iter().any(has_it) {
            return None;
        }
        let cut_by_window = span.end == limit && span.end < self.end;
        if span.start >= span.end || (cut_by_window && span.end - span.start < RANGE_BYTES_MIN) {
            return None;
        }

        match self.returned.first_mut() {
            Some(first) if span.end < first.end => first.start = span.end,
            Some(_) => {
                self.returned.remove(0);
            }
            None => self.frontier = span.end,
        }
        let lane = &mut self.lanes[link.index()];
        if lane.asks.is_empty() {
            lane.since = now;
            lane.counted = 0;
            lane.progress_at = now;
            lane.has_answered = false;
        }
        if lane
            .asks
            .push_back(Ask {
                first: span.start,
                at: span.start,
                end: span.end,
                is_hedged: false,
                is_again,
            })
            .is_err()
        {
            unreachable!("fullness was checked above");
        }
        Some(ByteRange {
            first: span.start,
            last: span.end - 1,
        })
    }

    /// How long a range should last: with two of them a link never idles, and the less is asked, the sooner something
    /// else can be.
    fn range_time_us(&self) -> u64 {
        match self.rtt_us {
            0 => RANGE_TIME_US,
            us => (us * RANGE_ROUND_TRIPS).clamp(RANGE_TIME_US_MIN, RANGE_TIME_US),
        }
    }

    /// The link's fair part of what is not yet asked for, so that all links end together, bytes.
    fn share(&self, link: LinkId, usable: &[bool; LINKS_MAX], best: u64) -> u64 {
        let unasked = self.end - self.frontier
            + self
                .returned
                .iter()
                .map(|span| span.end - span.start)
                .sum::<u64>();
        let rate_of = |i: usize| match self.lanes[i].rate {
            0 => best.max(1),
            rate => rate,
        };
        let rates: u64 = (0..LINKS_MAX).filter(|&i| usable[i]).map(rate_of).sum();
        let outstanding: u64 = (0..LINKS_MAX)
            .filter(|&i| usable[i])
            .map(|i| self.lanes[i].outstanding())
            .sum();
        let whole = u128::from(unasked + outstanding) * u128::from(rate_of(link.index()))
            / u128::from(rates.max(1));
        u64::try_from(whole)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.lanes[link.index()].outstanding())
    }

    /// Whether anything below `limit` waits to be asked for.
    pub fn has_work(&self, limit: u64) -> bool {
        match self.returned.first() {
            Some(span) => span.start < limit,
            None => self.frontier < self.end.min(limit),
        }
    }

    /// Counts `len` bytes from `offset` that a link brought; without effect if it is not what one of
    /// its ranges waits for, so that a range never counts as arrived by another one's bytes.
    pub fn on_bytes(&mut self, now: Instant, link: LinkId, offset: u64, len: u64) {
        let lane = &mut self.lanes[link.index()];
        let Some(ask) = lane.asks.iter_mut().find(|ask| ask.at == offset) else {
            return;
        };
        ask.at = ask.end.min(ask.at + len);
        if lane.has_answered {
            let gap_us = (now - lane.progress_at).total_micros();
            // Forgotten by half every 44 arrivals.
            lane.gap_us = gap_us.max(lane.gap_us - lane.gap_us / 64);
        }
        lane.has_answered = true;
        lane.progress_at = now;
        lane.counted += len;
        // What was hedged and is not asked of another yet need not be.
        let end = offset + len;
        for span in &mut self.returned {
            if span.start >= offset && span.start < end {
                span.start = span.end.min(end);
            }
        }
        self.returned.retain(|span| span.start < span.end);
    }

    /// First offset of a link's oldest range, by which [`Self::on_done`] knows it.
    pub fn oldest(&self, link: LinkId) -> Option<u64> {
        self.lanes[link.index()].asks.front().map(|ask| ask.first)
    }

    /// Whether the range of a link that starts at `first` is not whole.
    pub fn lacks(&self, link: LinkId, first: u64) -> bool {
        let mut asks = self.lanes[link.index()].asks.iter();
        asks.any(|ask| ask.first == first && ask.at < ask.end)
    }

    /// Whether a link brought a whole range and nothing of the next one.
    pub fn is_between_ranges(&self, link: LinkId) -> bool {
        let lane = &self.lanes[link.index()];
        let front = lane.asks.front();
        lane.has_done && front.is_none_or(|ask| ask.at == ask.first)
    }

    /// The link's connection ends with each reply: it is asked for one range at a time, the largest. What it was asked for
    /// behind the last one goes back.
    pub fn on_closed(&mut self, link: LinkId) {
        self.on_failed(link);
        let lane = &mut self.lanes[link.index()];
        lane.closes = true;
        lane.has_done = false;
    }

    /// Ends the range of a link that starts at `first`; what it did not bring of it is handed out again.
    pub fn on_done(&mut self, now: Instant, link: LinkId, first: u64) {
        let lane = &mut self.lanes[link.index()];
        let mut done = None;
        for _ in 0..lane.asks.len() {
            let Some(ask) = lane.asks.pop_front() else {
                break;
            };
            if done.is_none() && ask.first == first {
                done = Some(ask);
            } else if lane.asks.push_back(ask).is_err() {
                unreachable!("one was taken out");
            }
        }
        let Some(ask) = done else { return };
        lane.has_done = true;
        let elapsed = (now - lane.since).total_micros().max(1);
        // Windows shorter than this say more about bursts than about the line.
        if elapsed >= 20_000 {
            let sample = lane.counted.saturating_mul(1_000_000) / elapsed;
            lane.rate = if lane.rate == 0 {
                sample
            } else {
                (lane.rate * 3 + sample) / 4
            }
            .max(1);
            lane.since = now;
            lane.counted = 0;
        }
        lane.progress_at = now;
        if !ask.is_hedged {
            self.give_back(ask);
        }
    }

    /// Takes everything back that a link was asked for.
    pub fn on_failed(&mut self, link: LinkId) {
        while let Some(ask) = self.lanes[link.index()].asks.pop_front() {
            if !ask.is_hedged {
                self.give_back(ask);
            }
        }
    }

    fn give_back(&mut self, ask: Ask) {
        if ask.at >= ask.end {
            return;
        }
        let mut span = Span {
            start: ask.at,
            end: ask.end,
        };
        let mut at = self
            .returned
            .iter()
            .position(|held| held.start > span.start)
            .unwrap_or(self.returned.len());
        // Merge with neighbours that touch, or with the nearest one when the table is full:
        // asking for a byte twice is allowed, forgetting one is not.
        if at > 0 && (self.returned[at - 1].end >= span.start || self.returned.is_full()) {
            at -= 1;
            let before = self.returned.remove(at);
            span = Span {
                start: before.start,
                end: before.end.max(span.end),
            };
        }
        while let Some(after) = self.returned.get(at).copied() {
            if after.start > span.end && !self.returned.is_full() {
                break;
            }
            self.returned.remove(at);
            span.end = span.end.max(after.end);
        }
        if self.returned.insert(at, span).is_err() {
            unreachable!("a full table was merged above");
        }
    }

    /// The oldest range of a link: next offset and exclusive end.
    pub fn current(&self, link: LinkId) -> Option<(u64, u64)> {
        self.lanes[link.index()]
            .asks
            .front()
            .map(|ask| (ask.at, ask.end))
    }

    /// Sets how long a link may bring nothing; [`LINK_STALL`] unless told otherwise.
    pub fn set_stall(&mut self, link: LinkId, stall: Duration) {
        self.lanes[link.index()].stall = stall;
    }

    /// Whether a link holds ranges but brought nothing for too long, or so little while a `usable` one
    /// is more than [`RATE_RATIO_MAX`] times as fast (FAULTS M5: it drips, or keeps the last byte).
    pub fn is_stalled(&self, now: Instant, link: LinkId, usable: &[bool; LINKS_MAX]) -> bool {
        let lane = &self.lanes[link.index()];
        if lane.asks.is_empty() {
            return false;
        }
        if now >= lane.progress_at + lane.stall {
            return true;
        }
        let best = (0..LINKS_MAX)
            .filter(|&i| usable[i] && i != link.index())
            .map(|i| self.lanes[i].rate)
            .max()
            .unwrap_or(0);
        let elapsed_us = (now - lane.since).total_micros();
        let brought = lane.counted.saturating_mul(1_000_000 * RATE_RATIO_MAX);
        elapsed_us >= LINK_STALL.total_micros() && brought / elapsed_us.max(1) < best
    }

    /// When the next link may count as stalled.
    pub fn poll_at(&self) -> Option<Instant> {
        self.lanes
            .iter()
            .filter(|lane| !lane.asks.is_empty())
            .map(|lane| lane.progress_at + lane.stall)
            .min()
    }

    /// Whether every byte of the interval has been asked for and has arrived.
    pub fn is_done(&self) -> bool {
        self.frontier == self.end
            && self.returned.is_empty()
            && self.lanes.iter().all(|lane| lane.asks.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const T0: Instant = Instant::from_micros_const(1_000_000);
    const BOTH: [bool; LINKS_MAX] = {
        let mut usable = [false; LINKS_MAX];
        usable[0] = true;
        usable[1] = true;
        usable
    };

    fn link(i: usize) -> LinkId {
        LinkId::from_index(i)
    }

    #[test]
    fn ranges_follow_each_other_without_gap_or_overlap() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        let a = plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        let b = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        assert_eq!(a.first, 0);
        assert_eq!(b.first, a.last + 1);
    }

    #[test]
    fn a_link_holds_two_ranges_at_most() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        assert!(plan.next(T0, link(0), u64::MAX, &BOTH).is_some());
        assert!(plan.next(T0, link(0), u64::MAX, &BOTH).is_some());
        assert!(plan.next(T0, link(0), u64::MAX, &BOTH).is_none());
    }

    #[test]
    fn no_range_reaches_past_the_window() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        let a = plan.next(T0, link(0), 40_000, &BOTH).unwrap();
        assert_eq!(a.last, 39_999);
        assert!(plan.next(T0, link(1), 40_000, &BOTH).is_none());
    }

    #[test]
    fn what_a_link_lost_is_handed_out_first_and_only_the_missing_part() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        let a = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        plan.on_bytes(T0, link(1), a.first, 1000);
        plan.on_failed(link(1));
        let again = plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!((again.first, again.last), (1000, a.last));
    }

    #[test]
    fn a_silent_link_stalls_after_its_bound() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        assert!(!plan.is_stalled(T0 + LINK_STALL - Duration::from_micros(1), link(0), &BOTH));
        assert!(plan.is_stalled(T0 + LINK_STALL, link(0), &BOTH));
        assert!(!plan.is_stalled(T0 + LINK_STALL, link(1), &BOTH));
    }

    #[test]
    fn bytes_of_another_range_do_not_make_one_count_as_arrived() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        let a = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        let b = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        // The second range comes first, whole; then the link is lost.
        plan.on_bytes(T0, link(1), b.first, b.len_bytes());
        plan.on_done(T0, link(1), b.first);
        plan.on_failed(link(1));
        let again = plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!(again.first, a.first, "nothing of the first range has come");
    }

    #[test]
    fn late_bytes_of_a_range_taken_back_leave_the_next_one_missing() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        let lost = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        plan.on_failed(link(1));
        plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        let asked = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        assert_ne!(asked.first, lost.first);
        plan.on_bytes(T0, link(1), lost.first, lost.len_bytes());
        plan.on_done(T0, link(1), lost.first);
        assert_eq!(plan.current(link(1)), Some((asked.first, asked.last + 1)));
    }

    #[test]
    fn a_link_that_drips_beside_a_fast_one_loses_its_range() {
        let mut plan = Plan::new(T0, 0, 1 << 30);
        plan.assume_rates(&{
            let mut rates = [0; LINKS_MAX];
            rates[0] = 1_000_000;
            rates
        });
        let a = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        let mut now = T0;
        for byte in 0..30 {
            now += Duration::from_millis(100);
            plan.on_bytes(now, link(1), a.first + byte, 1);
        }
        assert!(plan.is_stalled(now, link(1), &BOTH));
        let mut alone = BOTH;
        alone[0] = false;
        assert!(!plan.is_stalled(now, link(1), &alone), "nobody is faster");
    }

    #[test]
    fn a_line_that_was_slow_in_an_earlier_exchange_is_asked_all_the_same() {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        let mut rates = [0; LINKS_MAX];
        (rates[0], rates[1]) = (1_000, 2_000_000);
        plan.assume_rates(&rates);
        assert!(plan.next(T0, link(0), u64::MAX, &BOTH).is_some());
    }

    /// Plays links of given rates (bytes/ms) to the end; returns bytes by link and the idle time at the end, ms.
    fn play(total: u64, rates: [u64; 2]) -> ([u64; 2], u64) {
        let mut plan = Plan::new(T0, 0, total);
        let mut got = [0; 2];
        let mut busy_until = [0u64; 2];
        for ms in 0..1_000_000 {
            let now = T0 + Duration::from_millis(ms);
            for i in 0..2 {
                while plan.next(now, link(i), u64::MAX, &BOTH).is_some() {}
                let mut credit = rates[i];
                while credit > 0 {
                    let Some((at, end)) = plan.current(link(i)) else {
                        break;
                    };
                    busy_until[i] = ms;
                    let n = credit.min(end - at);
                    plan.on_bytes(now, link(i), at, n);
                    got[i] += n;
                    credit -= n;
                    if at + n == end {
                        let first = plan.oldest(link(i)).unwrap();
                        plan.on_done(now, link(i), first);
                    }
                }
            }
            if plan.is_done() {
                return (got, busy_until[0].abs_diff(busy_until[1]));
            }
        }
        panic!("the plan never ends");
    }

    #[test]
    fn links_end_together_and_share_by_rate() {
        for rates in [[1000, 1000], [1000, 500], [2500, 600], [600, 2500]] {
            let (got, idle_ms) = play(8 << 20, rates);
            assert_eq!(got[0] + got[1], 8 << 20);
            assert!(
                idle_ms <= 100,
                "{rates:?}: one link idles {idle_ms} ms at the end"
            );
            let expected = (8 << 20) * rates[0] / (rates[0] + rates[1]);
            assert!(
                got[0].abs_diff(expected) < 200_000,
                "{rates:?}: {got:?}, expected {expected}"
            );
        }
    }

    /// A plan whose second link has two ranges and brings the first one's beginning, and when that was.
    fn under_way() -> (Plan, ByteRange, ByteRange, Instant) {
        let mut plan = Plan::new(T0, 0, 1 << 20);
        plan.set_round_trip(50_000);
        let a = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        let b = plan.next(T0, link(1), u64::MAX, &BOTH).unwrap();
        let mut now = T0;
        for part in 0..20 {
            now += Duration::from_millis(5);
            plan.on_bytes(now, link(1), part * 1_000, 1_000);
        }
        plan.set_head(20_000);
        (plan, a, b, now)
    }

    #[test]
    fn k5_n5_what_a_late_link_was_asked_for_is_asked_of_another_at_once_if_the_stream_waits_for_it()
    {
        let (mut plan, a, b, last) = under_way();
        let late = plan.late_at(last).unwrap();
        assert!(late <= last + Duration::from_micros(HEDGE_US_MAX));
        let before = late - Duration::from_micros(1);
        assert!(!plan.is_late(before, link(1)));
        assert_eq!(plan.hedge(before, &BOTH), 0);
        assert!(plan.is_late(late, link(1)));
        let mut alone = [false; LINKS_MAX];
        assert_eq!(plan.hedge(late, &alone), 0, "nobody else is there");
        alone[0] = true;
        assert_eq!(plan.hedge(late, &alone), 1);
        assert_eq!(plan.hedge(late, &alone), 0, "once is enough");
        let again = plan.next(late, link(0), u64::MAX, &alone).unwrap();
        assert_eq!((again.first, again.last), (20_000, a.last));
        // Late twice: the rest as well.
        let later = last + Duration::from_micros(2 * HEDGE_US_MAX);
        assert_eq!(plan.hedge(later, &alone), 1);
        let rest = plan.next(later, link(0), u64::MAX, &alone).unwrap();
        assert_eq!(rest.first, b.first);
    }

    #[test]
    fn a_late_link_that_comes_back_is_not_late_and_what_it_brings_need_not_be_asked_for() {
        let (mut plan, a, _, last) = under_way();
        let late = plan.late_at(last).unwrap();
        assert_eq!(plan.hedge(late, &BOTH), 1);
        plan.on_bytes(late, link(1), 20_000, 10_000);
        assert!(!plan.is_late(late, link(1)));
        let again = plan.next(late, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!((again.first, again.last), (30_000, a.last));
    }

    #[test]
    fn what_was_hedged_is_not_asked_a_third_time_when_the_late_link_fails() {
        let (mut plan, a, b, last) = under_way();
        let late = plan.late_at(last).unwrap();
        assert_eq!(plan.hedge(late, &BOTH), 1);
        let hedge = plan.next(late, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!(hedge.first, 20_000);
        plan.on_failed(link(1));
        let next = plan.next(late, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!(next.first, b.first, "not {}", a.first);
        // The hedge's own link fails too: then it is asked again.
        plan.on_failed(link(0));
        assert_eq!(
            plan.next(late, link(1), u64::MAX, &BOTH).unwrap().first,
            20_000
        );
    }

    #[test]
    fn a_slow_links_last_range_is_taken_over_by_a_faster_one_with_nothing_to_do() {
        let mut plan = Plan::new(T0, 0, 64 * 1024);
        plan.set_round_trip(50_000);
        plan.assume_rates(&{
            let mut rates = [0; LINKS_MAX];
            (rates[0], rates[1]) = (1_000_000, 60_000);
            rates
        });
        let mut alone = [false; LINKS_MAX];
        alone[1] = true;
        let slow = plan.next(T0, link(1), u64::MAX, &alone).unwrap();
        while let Some(range) = plan.next(T0, link(0), u64::MAX, &BOTH) {
            plan.on_bytes(T0, link(0), range.first, range.len_bytes());
            plan.on_done(T0, link(0), range.first);
        }
        let mut now = T0;
        for byte in 0..2 {
            now += Duration::from_millis(20);
            plan.on_bytes(now, link(1), slow.first + byte * 1_200, 1_200);
        }
        assert!(plan.hedge(now, &BOTH) > 0);
        let taken = plan.next(now, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!(taken.first, slow.first + 2_400);
    }

    #[test]
    fn k17_a_link_whose_origin_closes_is_asked_for_one_large_range_at_a_time() {
        let mut plan = Plan::new(T0, 0, 4 << 20);
        let a = plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        let b = plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        assert!(!plan.is_between_ranges(link(0)), "nothing has come at all");
        plan.on_bytes(T0, link(0), a.first, a.len_bytes());
        assert!(!plan.lacks(link(0), a.first));
        plan.on_done(T0, link(0), a.first);
        assert!(plan.is_between_ranges(link(0)));
        plan.on_closed(link(0));
        let again = plan.next(T0, link(0), u64::MAX, &BOTH).unwrap();
        assert_eq!(again.first, b.first);
        assert!(plan.next(T0, link(0), u64::MAX, &BOTH).is_none());
        assert!(!plan.is_between_ranges(link(0)), "not twice for the same");
    }

    proptest! {
        #[test]
        fn every_byte_is_asked_until_it_has_arrived(
            total in 1u64..600_000,
            steps in prop::collection::vec((0usize..2, 0u8..5, 1u64..40_000), 0..400),
        ) {
            let mut plan = Plan::new(T0, 0, total);
            let mut arrived = vec![false; total as usize];
            let mut now = T0;
            for (i, what, n) in steps {
                now += Duration::from_millis(10);
                match what {
                    0 => { plan.next(now, link(i), u64::MAX, &BOTH); }
                    1 | 2 => if let Some((at, end)) = plan.current(link(i)) {
                        let n = n.min(end - at);
                        arrived[at as usize..(at + n) as usize].fill(true);
                        plan.on_bytes(now, link(i), at, n);
                        if at + n == end {
                            let first = plan.oldest(link(i)).expect("one is asked");
                            plan.on_done(now, link(i), first);
                        }
                    },
                    3 => {
                        let missing = arrived.iter().position(|&byte| !byte);
                        plan.set_head(missing.unwrap_or(arrived.len()) as u64);
                        now += Duration::from_millis(n / 64);
                        plan.hedge(now, &BOTH);
                    }
                    _ => plan.on_failed(link(i)),
                }
            }
            // The uplink alone always finishes.
            plan.on_failed(link(1));
            let mut alone = BOTH;
            alone[1] = false;
            let mut rounds = 0;
            while !plan.is_done() {
                now += Duration::from_millis(10);
                while plan.next(now, link(0), u64::MAX, &alone).is_some() {}
                let (at, end) = plan.current(link(0)).expect("something is asked while not done");
                arrived[at as usize..end as usize].fill(true);
                plan.on_bytes(now, link(0), at, end - at);
                let first = plan.oldest(link(0)).expect("one is asked");
                plan.on_done(now, link(0), first);
                rounds += 1;
                prop_assert!(rounds < 1000);
            }
            prop_assert!(arrived.iter().all(|&byte| byte));
        }
    }
}
