//! A TCP sender over the positions of a stream: says what to send; holds no byte.
//!
//! Follows: RFC 9293 (3.8.4 to 3.8.6: retransmission, windows that shrink, zero-window probes, silly
//! window), RFC 6298 (timeout), RFC 5681 and 6928 (congestion), RFC 6675 and 2018 (SACK), RFC 6582
//! (NewReno without it), RFC 3042 (limited transmit: falls out of counting what left the path),
//! RFC 8985 for the reordering timer and the tail probe.
//!
//! Calling order: `on_ack`, `set_available`, `finish`, `flush` as things happen; then
//! [`Sender::poll_transmit`] until it gives `None` or the caller's burst is used up (the rings of the
//! boards have 64 slots: 16 to 32 a turn); then [`Sender::poll_at`]. Timers are run by `poll_transmit`.
//!
//! Units: bytes, sequence numbers, `Instant`s. `una`, `nxt`, `end`, `right` are sequence numbers.
//!
//! ```text
//!   una_position
//!     una ........ nxt ........ end            end: after the last available byte
//!      └ in flight ┘└ not yet sent ┘
//!      └──────── right edge of the client's window
//! ```
//!
//! | wait | runs while | at its deadline |
//! | --- | --- | --- |
//! | `Idle` | nothing is in flight and nothing blocked | – |
//! | `TailProbe` | bytes are in flight, nothing odd was heard (SACK only) | one segment more, then `Retransmit` (RFC 8985, 7) |
//! | `Retransmit` | bytes are in flight | all in flight is lost; window of one segment (RFC 5681, 3.1; what SACK said is forgotten, RFC 2018, 8) |
//! | `Persist` | the window is closed, or too small to be worth a segment | probe with nothing in it, or the small segment (RFC 9293, 3.8.6.1) |
//!
//! Invariants (`check`): I1 `una <= nxt <= end + fin`; I2 the scoreboard lies in `una..nxt`; I3 what is
//! lost and what arrived are no more than what is in flight; I4 with bytes in flight a timer runs.
//!
//! Budget: about 2.8 KiB, most of it the scoreboard.
//!
//! Not done: pacing; undoing a window reduction that a D-SACK shows to be needless; the reduction for a
//! loss that a tail probe mended unseen (RFC 8985, 7.4); timestamps; ECN.

mod acks;
mod timers;
mod transmit;
mod values;

use crate::budget::{
    SENDER_ACK_DELAY_MAX, SENDER_ATTEMPTS_MIN, SENDER_DUP_THRESHOLD_MAX, SENDER_REORDER_WAIT_MIN,
};
use smoltcp::time::{Duration, Instant};

pub use self::values::{AckInfo, AckOutcome, Kind, SenderConfig, Transmit};

use super::control::Control;
pub use super::control::LossResponse;
use super::rtt::Rtt;
use super::scoreboard::Scoreboard;
use super::{at_or_before, before};

/// Window scales above this are taken as this (RFC 7323, 2.3).
const SHIFT_MAX: u8 = 14;
/// Duplicate ACKs, or segments' worth of SACK, that show a loss (RFC 5681).
const DUP_THRESHOLD: u32 = 3;
/// No more than this is available at once: sequence comparison needs less than 2^31.
const AVAILABLE_MAX: u64 = 1 << 30;

/// The time as the scoreboard keeps it.
fn micros(now: Instant) -> u32 {
    now.total_micros() as u32
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Idle,
    TailProbe,
    Retransmit,
    Persist,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    Open,
    /// Losses up to `recover` are being mended, as SACK tells them.
    Fast,
    /// The same without SACK: one hole a round trip (RFC 6582).
    NewReno,
    /// The same after a timeout.
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    None,
    Wanted,
    Sent,
    Acked,
}

/// One segment under measurement.
#[derive(Clone, Copy)]
struct Timed {
    /// Acknowledged up to here, it arrived.
    seq: u32,
    at: Instant,
    /// What had been delivered when it was sent.
    delivered: u32,
}

/// The sending half of one TCP connection.
pub struct Sender {
    una: u32,
    nxt: u32,
    end: u32,
    right: u32,
    una_position: u64,
    mss: u32,
    fin: Fin,
    shift: u8,
    sack: bool,
    dead: bool,

    wait: Wait,
    recovery: Recovery,
    backoff: u8,
    attempts: u8,
    deadline: Instant,
    /// Last time something was heard that counts as progress.
    progress_at: Instant,
    last_sent: Instant,

    /// Sequence number and acknowledgement of the segment that set `right` (RFC 9293: WL1, WL2).
    window_seq: Option<u32>,
    window_max: u32,
    /// While below it, the congestion window is what limits.
    limited_to: u32,
    /// End of the last segment shorter than the MSS (RFC 896 as modified by Minshall).
    small_end: u32,
    /// Up to here nothing is held back for a fuller segment.
    push_to: u32,
    recover: u32,
    dup_acks: u32,
    dup_threshold: u32,
    /// When reordering no longer explains what is missing below the sequence number.
    reorder: Option<(Instant, u32)>,
    timed: Option<Timed>,

    /// One segment may go whatever the windows say: the first of a recovery.
    forced: bool,
    tail_probe: bool,
    tail_probed: bool,
    probe: bool,
    small_window: bool,

    control: Control,
    rtt: Rtt,
    give_up: Duration,
    board: Scoreboard,
}

impl Sender {
    /// A sender with nothing available yet.
    pub fn new(config: SenderConfig, now: Instant) -> Self {
        let mss = u32::from(config.mss.max(1));
        let seq = config.first_seq;
        let mut rtt = Rtt::new(config.rto_min, config.rto_max, now);
        if let Some(sample) = config.rtt {
            rtt.on_sample(now, sample);
        }
        Sender {
            una: seq,
            nxt: seq,
            end: seq,
            right: seq.wrapping_add(config.peer_window.min(1 << 30)),
            una_position: config.first_position,
            mss,
            fin: Fin::None,
            shift: config.peer_shift.min(SHIFT_MAX),
            sack: config.sack,
            dead: false,
            wait: Wait::Idle,
            recovery: Recovery::Open,
            backoff: 0,
            attempts: 0,
            deadline: now,
            progress_at: now,
            last_sent: now,
            window_seq: None,
            window_max: config.peer_window,
            limited_to: seq,
            small_end: seq,
            push_to: seq,
            recover: seq.wrapping_sub(1),
            dup_acks: 0,
            dup_threshold: DUP_THRESHOLD,
            reorder: None,
            timed: None,
            forced: false,
            tail_probe: false,
            tail_probed: false,
            probe: false,
            small_window: false,
            control: Control::new(
                config.loss_response,
                mss,
                config.initial_cwnd,
                config.flight_max,
            ),
            rtt,
            give_up: config.give_up,
            board: Scoreboard::new(),
        }
    }

    /// Position up to which the peer acknowledged: bytes below may be released.
    pub fn acked_position(&self) -> u64 {
        self.una_position
    }

    /// Position up to which bytes were sent at least once.
    pub fn sent_position(&self) -> u64 {
        let fin = matches!(self.fin, Fin::Sent);
        self.una_position + u64::from(self.flight() - u32::from(fin))
    }

    /// Sequence number of the next new byte (RFC 9293: SND.NXT): what a segment without payload carries.
    pub fn next_seq(&self) -> u32 {
        self.nxt
    }

    /// Lowest sequence number not acknowledged (RFC 9293: SND.UNA).
    pub fn unacked_seq(&self) -> u32 {
        self.una
    }

    /// Whether everything, FIN included, was acknowledged.
    pub fn is_done(&self) -> bool {
        self.fin == Fin::Acked
    }

    /// Whether everything that is available was acknowledged.
    pub fn is_drained(&self) -> bool {
        self.una == self.nxt && self.unsent() == 0 && self.fin != Fin::Wanted
    }

    /// Whether the peer was given up: it answered nothing for the configured time.
    pub fn dead(&self) -> bool {
        self.dead
    }

    /// Bytes that may be in flight by congestion control.
    pub fn cwnd(&self) -> u32 {
        self.control.cwnd()
    }

    /// Smoothed round trip; `None` before the first measurement.
    pub fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// Bytes up to `position` are held and may be sent. Never goes back; without effect after `finish`.
    pub fn set_available(&mut self, position: u64) {
        if self.fin == Fin::None && position > self.una_position {
            let ahead = (position - self.una_position).min(AVAILABLE_MAX) as u32;
            let end = self.una.wrapping_add(ahead);
            if before(self.end, end) {
                self.end = end;
            }
        }
    }

    /// What is available now is sent without waiting for a fuller segment.
    pub fn flush(&mut self) {
        self.push_to = self.end;
    }

    /// FIN follows the last available byte. The end is then fixed.
    pub fn finish(&mut self) {
        if self.fin == Fin::None {
            self.fin = Fin::Wanted;
        }
    }

    fn flight(&self) -> u32 {
        self.nxt.wrapping_sub(self.una)
    }

    fn unsent(&self) -> u32 {
        if before(self.nxt, self.end) {
            self.end.wrapping_sub(self.nxt)
        } else {
            0
        }
    }

    /// Bytes that are taken to be on the path (RFC 6675, 4, SetPipe).
    fn pipe(&self) -> u32 {
        let flight = self.flight();
        if self.board.is_clean() && self.dup_acks == 0 {
            return flight;
        }
        let on_path = self.board.on_path(self.una, self.nxt);
        if self.board.sacked() == 0 {
            on_path.saturating_sub(self.dup_acks * self.mss)
        } else {
            on_path
        }
    }

    fn position_of(&self, seq: u32) -> u64 {
        self.una_position + u64::from(seq.wrapping_sub(self.una))
    }

    /// Asserts the invariants of the header, in debug builds.
    fn check(&self) {
        if cfg!(debug_assertions) {
            let fin = matches!(self.fin, Fin::Sent | Fin::Acked);
            assert!(at_or_before(self.una, self.nxt), "I1");
            assert!(
                at_or_before(self.nxt, self.end.wrapping_add(u32::from(fin))),
                "I1"
            );
            self.board.check(self.una, self.nxt);
            assert!(
                self.board.sacked() + self.board.lost() <= self.flight(),
                "I3"
            );
            assert!(
                self.una == self.nxt || self.wait != Wait::Idle || self.dead,
                "I4"
            );
            assert!(self.control.cwnd() >= self.mss, "I5");
        }
    }
}

#[cfg(test)]
mod tests;
