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

use smoltcp::time::{Duration, Instant};

use super::control::Control;
pub use super::control::LossResponse;
use super::rtt::Rtt;
use super::scoreboard::Scoreboard;
use super::{at_or_before, before};

/// Window scales above this are taken as this (RFC 7323, 2.3).
const SHIFT_MAX: u8 = 14;
/// Duplicate ACKs, or segments' worth of SACK, that show a loss (RFC 5681).
const DUP_THRESHOLD: u32 = 3;
/// The threshold grows to this on paths that reorder.
const DUP_THRESHOLD_MAX: u32 = 100;
/// Longest an ACK may be withheld (RFC 1122, 4.2.3.2 says 500 ms; RFC 8985 assumes 200 ms).
const ACK_DELAY_MAX: Duration = Duration::from_millis(200);
/// The reordering timer is not finer than the main loop.
const REORDER_WAIT_MIN: Duration = Duration::from_millis(2);
/// Attempts that must fail before the peer is given up, whatever the time.
const ATTEMPTS_MIN: u8 = 3;
/// No more than this is available at once: sequence comparison needs less than 2^31.
const AVAILABLE_MAX: u64 = 1 << 30;

/// The time as the scoreboard keeps it.
fn micros(now: Instant) -> u32 {
    now.total_micros() as u32
}

/// What a sender starts from.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// Sequence number of the first byte to send.
    pub first_seq: u32,
    /// Position of that byte in its stream.
    pub first_position: u64,
    /// Largest payload of a segment, bytes; 0 is taken as 1.
    pub mss: u16,
    /// Window the peer advertised last, scaled, counted from `first_seq`, bytes.
    pub peer_window: u32,
    /// Scale of the windows in its coming segments; above 14 is taken as 14.
    pub peer_shift: u8,
    /// Whether both ends agreed on selective acknowledgement.
    pub sack: bool,
    /// First congestion window, bytes; 0 for RFC 6928's ten segments.
    pub initial_cwnd: u32,
    /// Most bytes ever in flight.
    pub flight_max: u32,
    /// What a loss does to the congestion window.
    pub loss_response: LossResponse,
    /// Least retransmission timeout. RFC 6298 says 1 s; 200 ms is above every delayed ACK in use
    /// (Linux 40 ms, Windows and macOS up to 200 ms) and what other stacks do.
    pub rto_min: Duration,
    /// Largest timeout after backing off; RFC 6298 wants 60 s, one hop to a known neighbour less.
    pub rto_max: Duration,
    /// Round trip known beforehand, from a handshake.
    pub rtt: Option<Duration>,
    /// Without progress for so long the peer is given up (RFC 9293, 3.8.3: R2 of 100 s at least).
    pub give_up: Duration,
}

impl SenderConfig {
    /// Usual values; the caller names what the connection negotiated.
    pub const fn new(
        first_seq: u32,
        mss: u16,
        peer_window: u32,
        peer_shift: u8,
        sack: bool,
    ) -> Self {
        SenderConfig {
            first_seq,
            first_position: 0,
            mss,
            peer_window,
            peer_shift,
            sack,
            initial_cwnd: 0,
            flight_max: 1 << 20,
            loss_response: LossResponse::Measured,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            rtt: None,
            give_up: Duration::from_secs(100),
        }
    }
}

/// What a received segment says to the sender. SYN and RST segments are not given to it.
#[derive(Clone, Copy, Debug)]
pub struct AckInfo<'a> {
    /// Its sequence number.
    pub seq: u32,
    /// Its acknowledgement number.
    pub ack: u32,
    /// Its window field as it came, not scaled.
    pub window: u16,
    /// Its SACK blocks, start and end.
    pub sack: &'a [(u32, u32)],
    /// Its payload, bytes.
    pub payload_len: usize,
    /// Whether it has FIN.
    pub fin: bool,
}

/// What an acknowledgement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum AckOutcome {
    /// So many sequence numbers were acknowledged for the first time.
    Advanced(u32),
    /// Nothing new was acknowledged; window and SACK were taken.
    Unchanged,
    /// It acknowledges less than an earlier one: ignored.
    Old,
    /// It acknowledges what was never sent: ignored, to be answered by an ACK (RFC 9293, 3.10.7.4).
    NeverSent,
}

/// Why a segment is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Kind {
    /// For the first time.
    New,
    /// Again.
    Retransmit,
    /// To make the peer tell its window: no payload, one sequence number below what it wants.
    Probe,
}

/// One segment to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Position of the payload in the stream.
    pub position: u64,
    /// Sequence number of the segment.
    pub seq: u32,
    /// Payload, bytes; at most the MSS.
    pub len: u16,
    /// Whether FIN follows the payload.
    pub fin: bool,
    /// Whether PSH is due: nothing more is available behind it.
    pub push: bool,
    /// Why.
    pub kind: Kind,
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

    /// Takes the acknowledgement of a segment that passed the receiver's checks.
    pub fn on_ack(&mut self, now: Instant, info: &AckInfo<'_>) -> AckOutcome {
        if before(self.nxt, info.ack) {
            return AckOutcome::NeverSent;
        }
        let edge = info.ack.wrapping_add(u32::from(info.window) << self.shift);
        if before(info.ack, self.una) {
            // An ACK overtaken by a later one, or of bytes that came before this sender's first. The
            // edge it advertises was advertised: it may widen the window, never narrow it.
            if self.una.wrapping_sub(info.ack) <= self.window_max && before(self.right, edge) {
                self.right = edge;
                self.on_window(now, true);
            }
            return AckOutcome::Old;
        }

        let advanced = info.ack.wrapping_sub(self.una);
        let old_right = self.right;
        if self
            .window_seq
            .is_none_or(|seq| at_or_before(seq, info.seq))
            || advanced > 0
        {
            self.right = edge;
            self.window_seq = Some(info.seq);
            self.window_max = self.window_max.max(edge.wrapping_sub(info.ack));
        }
        let limited = before(self.una, self.limited_to);
        let delivered_before = self.una.wrapping_add(self.board.sacked());

        if advanced > 0 {
            self.on_advance(now, info.ack);
        } else if info.sack.is_empty()
            && self.flight() > 0
            && info.payload_len == 0
            && !info.fin
            && old_right == self.right
            && self.wait != Wait::Persist
        {
            // RFC 5681, 2: the definition of a duplicate.
            self.dup_acks = self.dup_acks.saturating_add(1).min(1 << 14);
        }
        if self.sack && !info.sack.is_empty() {
            for &(start, end) in info.sack.iter().take(4) {
                self.on_sack_block(now, start, end);
            }
        }
        if !self.board.is_clean() || self.dup_acks > 0 {
            self.find_losses(now);
        } else {
            self.reorder = None;
        }
        if self.timed.is_some() {
            self.measure(now);
        }

        let delivered = self
            .una
            .wrapping_add(self.board.sacked())
            .wrapping_sub(delivered_before);
        let grows = matches!(self.recovery, Recovery::Open | Recovery::Timeout);
        if advanced > 0 && limited && grows && (delivered as i32) > 0 {
            self.control.on_ack(delivered);
        }
        if self.wait == Wait::Persist || old_right != self.right {
            self.on_window(now, old_right != self.right);
        }
        if advanced > 0 {
            self.arm(now);
        }
        self.check();
        if advanced > 0 {
            AckOutcome::Advanced(advanced)
        } else {
            AckOutcome::Unchanged
        }
    }

    fn on_advance(&mut self, now: Instant, ack: u32) {
        let mut bytes = ack.wrapping_sub(self.una);
        if self.fin == Fin::Sent && ack == self.nxt {
            self.fin = Fin::Acked;
            bytes -= 1;
        }
        if !self.board.is_clean() {
            if !self.board.is_partial()
                && let Some(top) = self.board.top()
            {
                let heard = if before(ack, top) { ack } else { top };
                if let Some(late) = self.board.first_unheard(self.una, heard) {
                    self.on_reordering(top.wrapping_sub(late));
                }
            }
            self.board.advance(
                ack,
                micros(now),
                if self.sack {
                    self.rtt.min_us()
                } else {
                    u32::MAX
                },
            );
        }
        if self.recovery == Recovery::Open {
            self.dup_acks = 0;
        } else if before(self.recover, ack) || ack == self.recover {
            self.recovery = Recovery::Open;
            self.dup_acks = 0;
        } else {
            // RFC 6582, 3.2, step 3: a partial ACK deflates by what it acknowledges.
            let segments = ack.wrapping_sub(self.una) / self.mss;
            self.dup_acks = self.dup_acks.saturating_sub(segments);
            if self.recovery == Recovery::NewReno && self.board.lost() == 0 {
                // The next hole begins where the ACK ends.
                let hole_end = ack.wrapping_add(self.mss.min(self.nxt.wrapping_sub(ack)));
                if self.board.first_unheard(ack, hole_end) == Some(ack) {
                    self.board.on_lost(ack, hole_end);
                    self.forced = true;
                }
            }
        }
        self.una = ack;
        self.una_position += u64::from(bytes);
        // Marks that lie behind are drawn along, so that they never seem to lie ahead after 2^31 bytes.
        for mark in [&mut self.limited_to, &mut self.small_end, &mut self.push_to] {
            if before(*mark, ack) {
                *mark = ack;
            }
        }
        if before(self.recover, ack) {
            self.recover = ack.wrapping_sub(1);
        }
        self.backoff = 0;
        self.attempts = 0;
        self.progress_at = now;
        self.tail_probe = false;
        self.tail_probed = false;
    }

    fn on_sack_block(&mut self, now: Instant, start: u32, end: u32) {
        // Blocks below `una` are D-SACKs (RFC 2883) or old; blocks beyond `nxt` or backwards are wrong.
        if !before(start, end) || before(start, self.una) || before(self.nxt, end) {
            return;
        }
        if !self.board.is_partial()
            && let Some(top) = self.board.top()
            && before(start, top)
        {
            let heard = if before(end, top) { end } else { top };
            if let Some(late) = self.board.first_unheard(start, heard) {
                self.on_reordering(top.wrapping_sub(late));
            }
        }
        self.board
            .on_sacked(start, end, micros(now), self.rtt.min_us());
    }

    /// A segment sent once arrived although bytes up to `distance` behind it had come first.
    fn on_reordering(&mut self, distance: u32) {
        let segments = distance / self.mss + 1;
        self.dup_threshold = self.dup_threshold.max(segments).min(DUP_THRESHOLD_MAX);
    }

    fn find_losses(&mut self, now: Instant) {
        if self.board.take_hasty() {
            self.dup_threshold = (2 * self.dup_threshold).min(DUP_THRESHOLD_MAX);
        }
        let margin = (self.dup_threshold - 1) * self.mss;
        if let Some(reached) = self.board.reached()
            && self.board.judge(self.una, reached, margin)
        {
            self.recover_from_loss(Recovery::Fast);
        }
        if self.board.sacked() == 0
            && self.recovery == Recovery::Open
            && self.dup_acks >= self.dup_threshold
            && before(self.recover, self.una)
        {
            // RFC 6582, 3.2, step 2: the first segment in flight is what is missing.
            let hole_end = self.una.wrapping_add(self.mss.min(self.flight()));
            self.board.on_lost(self.una, hole_end);
            self.recover_from_loss(Recovery::NewReno);
        }
        // RFC 8985, 6.2, step 5: what is missing below `reached` may still come, for a quarter of a round trip.
        if self.board.has_doubt(self.una) {
            if self.reorder.is_none()
                && let Some(reached) = self.board.reached()
            {
                let rtt = self.rtt.smoothed().unwrap_or(ACK_DELAY_MAX);
                // On a path that was seen to reorder, the wait is a whole round trip.
                let quarter = if self.dup_threshold > DUP_THRESHOLD {
                    rtt
                } else {
                    rtt / 4
                };
                self.reorder = Some((now + quarter.max(REORDER_WAIT_MIN), reached));
            }
        } else {
            self.reorder = None;
        }
    }

    fn recover_from_loss(&mut self, how: Recovery) {
        if self.recovery == Recovery::Open {
            self.recovery = how;
            self.recover = self.nxt;
            self.control.on_loss(self.flight());
            self.forced = true;
            if self.wait == Wait::TailProbe {
                self.wait = Wait::Retransmit;
                self.deadline = self.last_sent + self.rtt.rto(self.backoff);
            }
        }
    }

    /// Ends the measurement if its segment arrived (by ACK or SACK).
    fn measure(&mut self, now: Instant) {
        let Some(timed) = self.timed else { return };
        if !at_or_before(timed.seq, self.una)
            && (self.board.sacked() == 0 || !self.board.is_sacked_before(timed.seq))
        {
            return;
        }
        self.timed = None;
        let rtt = now - timed.at;
        self.rtt.on_sample(now, rtt);
        let delivered = self
            .una
            .wrapping_add(self.board.sacked())
            .wrapping_sub(timed.delivered);
        if (delivered as i32) > 0 {
            let limited = before(self.una, self.limited_to);
            let rtt_us = rtt.total_micros() as u32;
            self.control
                .on_sample(delivered, rtt_us, self.rtt.min_us(), limited);
        }
    }

    /// The right edge `moved`, or a probe was answered.
    fn on_window(&mut self, now: Instant, moved: bool) {
        if self.wait == Wait::Persist {
            // RFC 9293, 3.8.6.1: as long as probes are answered the connection stays.
            self.attempts = 0;
            self.progress_at = now;
            if moved && before(self.una, self.right) && !self.small_window {
                self.backoff = 0;
                self.arm(now);
            }
        } else if at_or_before(self.right, self.una) && self.flight() > 0 {
            self.arm(now);
        }
    }

    /// Starts the timer that fits the state, from now.
    fn arm(&mut self, now: Instant) {
        let rto = self.rtt.rto(self.backoff);
        if self.una == self.nxt {
            self.wait = Wait::Idle;
            return;
        }
        if at_or_before(self.right, self.una) {
            self.wait = Wait::Persist;
            self.deadline = now + rto;
            return;
        }
        self.wait = Wait::Retransmit;
        self.deadline = now + rto;
        if self.sack
            && self.recovery == Recovery::Open
            && !self.tail_probed
            && self.board.is_clean()
        {
            // RFC 8985, 7.2. Half the least timeout at least: a receiver that is slow to acknowledge a
            // short flight must not be sent a needless segment on a link without loss.
            if let Some(rtt) = self.rtt.smoothed() {
                let mut wait = (rtt * 2).max(self.rtt.rto(0) / 2);
                if self.flight() <= self.mss {
                    wait += ACK_DELAY_MAX;
                }
                if wait < rto {
                    self.wait = Wait::TailProbe;
                    self.deadline = now + wait;
                }
            }
        }
    }

    /// When `poll_transmit` must be called next; `None` when only an input can change anything.
    ///
    /// To be asked after `poll_transmit` gave `None`.
    pub fn poll_at(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let wait = (self.wait != Wait::Idle).then_some(self.deadline);
        match (wait, self.reorder) {
            (Some(wait), Some((reorder, _))) => Some(wait.min(reorder)),
            (None, Some((reorder, _))) => Some(reorder),
            (wait, None) => wait,
        }
    }

    /// Runs the timers that are due. `poll_transmit` does it first.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.dead {
            return;
        }
        if let Some((at, reached)) = self.reorder
            && now >= at
        {
            self.reorder = None;
            if self.board.judge(self.una, reached, 0) {
                self.recover_from_loss(Recovery::Fast);
            }
        }
        if self.wait == Wait::Idle || now < self.deadline {
            return;
        }
        match self.wait {
            Wait::Idle => {}
            Wait::TailProbe => {
                self.tail_probe = true;
                self.tail_probed = true;
                self.wait = Wait::Retransmit;
                self.deadline = now + self.rtt.rto(self.backoff);
            }
            Wait::Retransmit | Wait::Persist => self.on_no_answer(now),
        }
        self.check();
    }

    fn on_no_answer(&mut self, now: Instant) {
        // RFC 9293, 3.8.3: R2.
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts > ATTEMPTS_MIN && now - self.progress_at >= self.give_up {
            self.dead = true;
            return;
        }
        let first = self.backoff == 0;
        self.backoff = (self.backoff + 1).min(20);
        if at_or_before(self.right, self.una) {
            // The window is closed over what is in flight, or over what waits (SHLD-17: not a timeout).
            self.probe = true;
            self.wait = Wait::Persist;
        } else if self.una == self.nxt {
            // RFC 9293, 3.8.6.2.1: the override of silly window avoidance.
            self.small_window = true;
            self.wait = Wait::Persist;
        } else {
            self.control.on_timeout(self.flight(), first);
            self.board.clear();
            self.board.on_lost(self.una, self.nxt);
            self.dup_acks = 0;
            self.reorder = None;
            self.timed = None;
            self.tail_probe = false;
            self.recovery = Recovery::Timeout;
            self.recover = self.nxt;
            self.forced = true;
            self.wait = Wait::Retransmit;
        }
        self.deadline = now + self.rtt.rto(self.backoff);
    }

    /// The next segment to be sent now. The caller sends it: there is no way back.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.wait != Wait::Idle && now >= self.deadline || self.reorder.is_some() {
            self.on_timeout(now);
        }
        if self.dead || self.fin == Fin::Acked {
            return None;
        }
        if self.probe {
            self.probe = false;
            return Some(Transmit {
                position: self.una_position,
                seq: self.una.wrapping_sub(1),
                len: 0,
                fin: false,
                push: false,
                kind: Kind::Probe,
            });
        }
        let sent = if self.board.lost() > 0 {
            self.resend(now)
        } else {
            self.send_new(now)
        };
        self.check();
        sent
    }

    /// Sends the lowest lost bytes again, as far as both windows allow.
    fn resend(&mut self, now: Instant) -> Option<Transmit> {
        let (start, end) = self.board.first_lost()?;
        if !before(start, self.right) {
            return None; // U3: not even again beyond the edge
        }
        let room = self.right.wrapping_sub(start);
        let len = end.wrapping_sub(start).min(self.mss).min(room);
        let pipe = self.pipe();
        if !self.forced && pipe > 0 && pipe + len > self.control.cwnd() {
            self.limited_to = self.nxt;
            return None;
        }
        self.forced = false;
        Some(self.again(now, start, start.wrapping_add(len)))
    }

    /// Sends `start..end`, which was sent before.
    fn again(&mut self, now: Instant, start: u32, mut end: u32) -> Transmit {
        // FIN takes a sequence number but no payload.
        let mut fin = self.fin == Fin::Sent && end == self.nxt;
        let mut len = end.wrapping_sub(start);
        if fin {
            len -= 1;
        } else if self.fin == Fin::Sent
            && end == self.end
            && before(end, self.right)
            && self.nxt.wrapping_sub(start) <= self.mss
        {
            // Payload up to the last byte takes the FIN along.
            fin = true;
            end = self.nxt;
        }
        self.board.on_resent(start, end, self.nxt, micros(now));
        if self.timed.is_some_and(|timed| before(start, timed.seq)) {
            self.timed = None; // Karn
        }
        self.last_sent = now;
        if start == self.una && self.wait == Wait::Retransmit {
            // The oldest bytes are under way again: the timer times them, not their first sending.
            self.deadline = now + self.rtt.rto(self.backoff);
        }
        Transmit {
            position: self.position_of(start),
            seq: start,
            len: len as u16,
            fin,
            push: fin || end == self.end,
            kind: Kind::Retransmit,
        }
    }

    fn send_new(&mut self, now: Instant) -> Option<Transmit> {
        let unsent = self.unsent();
        if unsent == 0 && self.fin != Fin::Wanted {
            return self.send_tail_probe(now);
        }
        let room = if before(self.nxt, self.right) {
            self.right.wrapping_sub(self.nxt)
        } else {
            0
        };
        let flight = self.flight();
        let mut len = unsent.min(self.mss);
        if room < len.max(1) {
            // RFC 9293, 3.8.6.2.1: a part only if it is half the largest window seen, or after a wait.
            if room == 0 || !(room >= self.window_max / 2 || self.small_window) {
                return self.wait_for_window(now);
            }
            len = room;
        } else if len < self.mss && self.fin != Fin::Wanted && self.holds_back(len) {
            return self.send_tail_probe(now);
        }
        if flight == 0 {
            if now - self.last_sent > self.rtt.rto(0) {
                self.control.on_idle();
            }
            self.progress_at = now;
        }
        let pipe = self.pipe();
        if pipe > 0 && pipe + len > self.control.cwnd() && !self.tail_probe {
            self.limited_to = self.nxt;
            return None;
        }
        self.tail_probe = false;
        self.small_window = false;

        let seq = self.nxt;
        self.nxt = seq.wrapping_add(len);
        let fin = self.fin == Fin::Wanted && self.nxt == self.end && room > len;
        if len < self.mss {
            self.small_end = self.nxt;
        }
        if fin {
            self.fin = Fin::Sent;
            self.nxt = self.nxt.wrapping_add(1);
        }
        if self.timed.is_none() && self.recovery != Recovery::Timeout {
            let delivered = self.una.wrapping_add(self.board.sacked());
            self.timed = Some(Timed {
                seq: self.nxt,
                at: now,
                delivered,
            });
        }
        self.last_sent = now;
        if self.wait == Wait::Idle || self.wait == Wait::Persist {
            self.arm(now);
        }
        Some(Transmit {
            position: self.position_of(seq),
            seq,
            len: len as u16,
            fin,
            push: fin || self.nxt == self.end,
            kind: Kind::New,
        })
    }

    /// Whether a segment of `len` bytes waits to be filled: only while an earlier short one is in flight.
    fn holds_back(&self, len: u32) -> bool {
        before(self.una, self.small_end) && !at_or_before(self.nxt.wrapping_add(len), self.push_to)
    }

    /// Nothing fits into the window; with nothing in flight nobody else would ever ask for more.
    fn wait_for_window(&mut self, now: Instant) -> Option<Transmit> {
        if self.wait == Wait::Idle {
            self.wait = Wait::Persist;
            self.progress_at = now;
            self.deadline = now + self.rtt.rto(self.backoff);
        }
        self.send_tail_probe(now)
    }

    /// Sends the last segment again if its probe is due and there was nothing new to send instead.
    fn send_tail_probe(&mut self, now: Instant) -> Option<Transmit> {
        if !core::mem::take(&mut self.tail_probe) || self.flight() == 0 || !self.board.is_clean() {
            return None;
        }
        let start = self.nxt.wrapping_sub(self.flight().min(self.mss));
        before(start, self.right).then(|| {
            let room = self.right.wrapping_sub(start);
            self.again(
                now,
                start,
                start.wrapping_add(self.nxt.wrapping_sub(start).min(room)),
            )
        })
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
