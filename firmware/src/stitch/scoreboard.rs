//! What the receiver told about the bytes in flight, as runs of sequence space.
//!
//! Follows: RFC 2018, RFC 6675 (what counts as lost), RFC 6937 is not needed: the caller paces.
//! Only exceptions are kept: bytes in flight that no run covers were sent once, and nothing was heard
//! of them. On a link without loss the list is empty and costs nothing.
//!
//! Loss is judged by order of sending (as RFC 8985 does by time). The mark of a first sending is its
//! own end; the mark of a retransmission is the end of what had been sent by then. What arrived, with
//! whatever mark, shows that everything of a lower mark was sent earlier and should have arrived:
//! `reached` is the highest mark that is known to have arrived.
//!
//! Invariants (`check`): I1 runs are sorted, not empty, do not overlap, lie in `una..nxt`; I2 `sacked`
//! and `lost` are the sums of their runs; I3 `top` is the end of the last
//! selectively acknowledged run, and `reached` is not below it.
//!
//! Budget: [`STITCH_RUNS`] runs of 20 bytes. A run that does not fit is not recorded, and the bytes are
//! taken for lost: they are sent again, needlessly at worst.

use heapless::Vec;

use super::{at_or_before, before};
use crate::budget::STITCH_RUNS;

/// What is known of a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The receiver holds it.
    Sacked,
    /// Taken for lost, to be sent again.
    Lost,
    /// Sent again; `mark` was the end of all that had been sent by then.
    Resent {
        /// See above.
        mark: u32,
        /// When, µs modulo 2^32.
        at_us: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Run {
    start: u32,
    end: u32,
    fate: Fate,
}

/// The exceptions among the bytes in flight.
pub(super) struct Scoreboard {
    runs: Vec<Run, STITCH_RUNS>,
    sacked: u32,
    lost: u32,
    /// End of the highest bytes selectively acknowledged; meaningful while `sacked > 0`.
    top: u32,
    /// Highest mark known to have arrived, while above what is acknowledged.
    reached: Option<u32>,
    /// Bytes sent again and not heard of.
    resent: u32,
    /// A retransmission was answered sooner than any round trip.
    was_hasty: bool,
    /// A run did not fit: gaps below `reached` are not all recorded.
    is_partial: bool,
}

impl Scoreboard {
    pub(super) const fn new() -> Self {
        Scoreboard {
            runs: Vec::new(),
            sacked: 0,
            lost: 0,
            top: 0,
            reached: None,
            resent: 0,
            was_hasty: false,
            is_partial: false,
        }
    }

    /// Whether nothing is recorded.
    #[inline]
    pub(super) fn is_clean(&self) -> bool {
        self.runs.is_empty() && self.reached.is_none()
    }

    /// Whether, since it was asked last, bytes were sent again that were only late.
    pub(super) fn take_hasty(&mut self) -> bool {
        core::mem::take(&mut self.was_hasty)
    }

    /// Whether some of what was heard did not fit.
    pub(super) fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Bytes the receiver holds beyond a gap.
    #[inline]
    pub(super) fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Bytes to be sent again.
    #[inline]
    pub(super) fn lost(&self) -> u32 {
        self.lost
    }

    /// Bytes of `una..nxt` that are taken to be on the path (RFC 6675, 4, SetPipe).
    pub(super) fn on_path(&self, una: u32, nxt: u32) -> u32 {
        match self.reached {
            // What is not recorded below `reached` arrived or is lost; either way it left the path.
            Some(reached) if self.is_partial => nxt.wrapping_sub(reached) + self.resent,
            Some(_) | None => nxt.wrapping_sub(una) - self.sacked - self.lost,
        }
    }

    /// End of the highest bytes selectively acknowledged, if any.
    pub(super) fn top(&self) -> Option<u32> {
        (self.sacked > 0).then_some(self.top)
    }

    /// Whether the receiver told that it holds the byte before `seq`.
    pub(super) fn is_sacked_before(&self, seq: u32) -> bool {
        self.runs.iter().any(|run| {
            run.fate == Fate::Sacked && before(run.start, seq) && at_or_before(seq, run.end)
        })
    }

    /// Highest mark known to have arrived, if something below it may be missing.
    pub(super) fn reached(&self) -> Option<u32> {
        self.reached
    }

    /// Everything below `una` was acknowledged. See `on_sacked` for the other two.
    pub(super) fn advance(&mut self, una: u32, now_us: u32, rtt_us_min: u32) {
        self.reach(una, una, now_us, rtt_us_min);
        if self
            .reached
            .is_some_and(|reached| at_or_before(reached, una))
        {
            self.reached = None;
            self.is_partial = false;
        }
        let gone = self
            .runs
            .iter()
            .take_while(|run| at_or_before(run.end, una))
            .count();
        self.runs.copy_within(gone.., 0);
        self.runs.truncate(self.runs.len() - gone);
        if let Some(first) = self.runs.first_mut()
            && before(first.start, una)
        {
            first.start = una;
        }
        self.recount();
    }

    /// Retransmissions in runs below `end` that reach beyond `start` arrived: raises `reached` to their marks.
    ///
    /// One that "arrived" sooner than any round trip is the first sending, late: it shows nothing.
    fn reach(&mut self, start: u32, end: u32, now_us: u32, rtt_us_min: u32) {
        for run in &self.runs {
            if !before(run.start, end) {
                break;
            }
            match run.fate {
                Fate::Resent { mark, at_us } => {
                    if !before(start, run.end) && start != end {
                        continue;
                    }
                    if now_us.wrapping_sub(at_us) < rtt_us_min {
                        self.was_hasty |= rtt_us_min != u32::MAX;
                    } else if self.reached.is_none_or(|reached| before(reached, mark)) {
                        self.reached = Some(mark);
                    }
                }
                Fate::Sacked | Fate::Lost => {}
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.reached = None;
        self.is_partial = false;
        self.recount();
    }

    /// Records that the receiver holds `start..end`.
    ///
    /// `rtt_us_min` is the shortest round trip, by which a retransmission is told from a late first sending.
    pub(super) fn on_sacked(&mut self, start: u32, end: u32, now_us: u32, rtt_us_min: u32) {
        self.reach(start, end, now_us, rtt_us_min);
        if self.reached.is_none_or(|reached| before(reached, end)) {
            self.reached = Some(end);
        }
        self.is_partial |= !self.overlay(start, end, Fate::Sacked);
    }

    /// Marks `start..end` as lost whatever was known of it.
    pub(super) fn on_lost(&mut self, start: u32, end: u32) {
        self.overlay(start, end, Fate::Lost);
    }

    /// Records that `start..end` was sent again when everything below `mark` had been sent.
    pub(super) fn on_resent(&mut self, start: u32, end: u32, mark: u32, at_us: u32) {
        let fate = Fate::Resent { mark, at_us };
        if !self.overlay(start, end, fate) {
            // No room for two more runs: give the whole lost run this fate, to be found by the timeout.
            let run = self
                .runs
                .iter_mut()
                .find(|run| run.fate == Fate::Lost && run.start == start);
            if let Some(run) = run {
                run.fate = fate;
                self.recount();
            }
        }
    }

    /// The lowest run to be sent again.
    pub(super) fn first_lost(&self) -> Option<(u32, u32)> {
        if self.lost == 0 {
            return None;
        }
        self.runs
            .iter()
            .find(|run| run.fate == Fate::Lost)
            .map(|run| (run.start, run.end))
    }

    /// First byte of `start..end` that was sent once and never heard of.
    pub(super) fn first_unheard(&self, start: u32, end: u32) -> Option<u32> {
        let mut cursor = start;
        for run in &self.runs {
            if before(cursor, run.start) {
                break;
            }
            if before(cursor, run.end) {
                cursor = run.end;
            }
        }
        before(cursor, end).then_some(cursor)
    }

    /// Whether bytes of a lower mark than `reached` are neither held by the receiver nor taken for lost.
    pub(super) fn has_doubt(&self, una: u32) -> bool {
        let Some(reached) = self.reached else {
            return false;
        };
        self.first_unheard(una, reached).is_some()
            || self.runs.iter().any(|run| match run.fate {
                Fate::Resent { mark, .. } => before(mark, reached),
                Fate::Sacked | Fate::Lost => false,
            })
    }

    /// Takes for lost what was sent so long before what arrived; returns whether there was any.
    ///
    /// `margin` is how many bytes must lie between its mark and `reached` (RFC 6675, 4, IsLost).
    pub(super) fn judge(&mut self, una: u32, reached: u32, margin: u32) -> bool {
        let lost_before = self.lost;
        let is_late = |mark: u32| (reached.wrapping_sub(mark) as i32) > margin as i32;
        // Resent runs first: in place, the list keeps its length.
        let mut changed = false;
        for run in &mut self.runs {
            match run.fate {
                Fate::Resent { mark, .. } if is_late(mark) => {
                    run.fate = Fate::Lost;
                    changed = true;
                }
                Fate::Resent { .. } | Fate::Sacked | Fate::Lost => {}
            }
        }
        if changed {
            self.recount();
        }
        // Then the gaps, from the lowest; each grows the list by one at most.
        let mut failed = false;
        let mut cursor = una;
        while let Some(start) = self.first_unheard(cursor, reached) {
            let end = self
                .runs
                .iter()
                .map(|run| run.start)
                .find(|&next| before(start, next));
            let end = match end {
                Some(next) if at_or_before(next, reached) => {
                    if !is_late(next) {
                        break;
                    }
                    next
                }
                // Nothing is known above: as far as the margin allows.
                Some(_) | None => reached.wrapping_sub(margin),
            };
            if !before(start, end) {
                break;
            }
            if !self.overlay(start, end, Fate::Lost) {
                failed = true;
                break;
            }
            cursor = end;
        }
        self.is_partial = failed || self.is_partial && self.reached != Some(reached);
        self.lost > lost_before
    }

    /// Gives `start..end` one fate; `false`, and nothing changed, if the list has no room.
    fn overlay(&mut self, start: u32, end: u32, fate: Fate) -> bool {
        let count = self.runs.len();
        // Fast path: the topmost run grows, as with most duplicate ACKs.
        if let Some(last) = self.runs.last_mut()
            && last.fate == fate
            && at_or_before(last.start, start)
            && at_or_before(start, last.end)
        {
            if before(last.end, end) {
                last.end = end;
            }
            self.recount();
            return true;
        }
        let mut first = 0;
        while first < count && before(self.runs[first].end, start) {
            first += 1;
        }
        let mut new = Run { start, end, fate };
        let mut left = None;
        if first < count {
            let run = self.runs[first];
            if run.fate == fate {
                if before(run.start, start) {
                    new.start = run.start;
                }
            } else if at_or_before(run.end, start) {
                first += 1; // only touches
            } else if before(run.start, start) {
                left = Some(Run { end: start, ..run });
            }
        }
        let mut last = first;
        let mut right = None;
        while last < count && at_or_before(self.runs[last].start, end) {
            let run = self.runs[last];
            if run.fate == fate {
                if before(new.end, run.end) {
                    new.end = run.end;
                }
            } else if run.start == end {
                break; // only touches
            } else if before(end, run.end) {
                right = Some(Run { start: end, ..run });
            }
            last += 1;
        }
        let pieces = 1 + usize::from(left.is_some()) + usize::from(right.is_some());
        let old = last - first;
        if count - old + pieces > STITCH_RUNS {
            return false;
        }
        if pieces > old {
            let resized = self.runs.resize(count + pieces - old, new);
            debug_assert!(resized.is_ok(), "room was checked");
            self.runs.copy_within(last..count, first + pieces);
        } else {
            self.runs.copy_within(last..count, first + pieces);
            self.runs.truncate(count + pieces - old);
        }
        for (place, run) in [left, Some(new), right].into_iter().flatten().enumerate() {
            self.runs[first + place] = run;
        }
        self.recount();
        true
    }

    fn recount(&mut self) {
        let (mut sacked, mut lost, mut resent) = (0u32, 0u32, 0u32);
        for run in &self.runs {
            let size = run.end.wrapping_sub(run.start);
            match run.fate {
                Fate::Sacked => {
                    sacked += size;
                    self.top = run.end;
                }
                Fate::Lost => lost += size,
                Fate::Resent { .. } => resent += size,
            }
        }
        self.resent = resent;
        self.sacked = sacked;
        self.lost = lost;
    }

    /// Asserts the invariants of the header, in debug builds.
    pub(super) fn check(&self, una: u32, nxt: u32) {
        if cfg!(debug_assertions) {
            let mut cursor = una;
            for run in &self.runs {
                assert!(
                    at_or_before(cursor, run.start) && before(run.start, run.end),
                    "I1"
                );
                cursor = run.end;
            }
            assert!(at_or_before(cursor, nxt), "I1");
        }
    }
}

#[cfg(test)]
mod tests;
