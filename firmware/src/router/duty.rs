//! When a part of the router must be polled again: its deadline, looked up once, and whether it was touched since.
//!
//! Looking up the deadlines of all sockets, exchanges and services costs more than forwarding a packet. A frame that is
//! merely forwarded touches none of them, so a turn in which nothing else came asks two numbers instead.
//!
//! | state | input | next |
//! | --- | --- | --- |
//! | any | a frame for the part, a setting, the console | `Touched` |
//! | `Touched`, or due | polled | `Polled` |
//! | `Polled` | its deadline is asked for | `Waiting` |
//!
//! Invariants:
//! - I1 a deadline that is remembered lies no later than the part's own: it may wake the router early, never late.
//!   Checked against the part at each use in debug builds, so in every test and every run of the simulation.
//!
//! Calling order: [`Duty::touch`] whenever something of the part may have changed; [`Duty::is_due`] before the part is
//! polled, [`Duty::polled`] after it; [`Duty::poll_at`].

use smoltcp::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Something changed: it is to be polled, and its deadline is not known.
    Touched,
    /// Polled; its deadline was not looked up since.
    Polled,
    /// Untouched since its deadline was looked up.
    Waiting(Option<Instant>),
}

/// The cached deadline of one part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Duty {
    state: State,
    /// It found a port without a free slot: it is tried again whenever the router is polled.
    is_blocked: bool,
}

impl Duty {
    /// A part that was never polled.
    pub(super) const fn new() -> Self {
        Self {
            state: State::Touched,
            is_blocked: false,
        }
    }

    /// Something of the part may have changed.
    #[inline]
    pub(super) const fn touch(&mut self) {
        self.state = State::Touched;
    }

    /// The part was polled; `is_blocked` when it may lack a transmit slot.
    #[inline]
    pub(super) const fn polled(&mut self, is_blocked: bool) {
        self.state = State::Polled;
        self.is_blocked = is_blocked;
    }

    /// Whether the part is to be polled; `due` looks its deadline up.
    #[inline]
    pub(super) fn is_due(&mut self, now: Instant, due: impl FnOnce() -> Option<Instant>) -> bool {
        if self.is_blocked || self.state == State::Touched {
            return true;
        }
        self.poll_at(due).is_some_and(|at| at <= now)
    }

    /// When the part is due; `due` looks its deadline up.
    #[inline]
    pub(super) fn poll_at(&mut self, due: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        match self.state {
            State::Touched => due(),
            State::Polled => {
                let at = due();
                self.state = State::Waiting(at);
                at
            }
            State::Waiting(at) => {
                if cfg!(debug_assertions) {
                    check(at, due());
                }
                at
            }
        }
    }
}

/// The earlier of two deadlines, either of which may not be.
#[inline]
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other < one { other } else { one }),
        (Some(at), None) | (None, Some(at)) => Some(at),
        (None, None) => None,
    }
}

/// Asserts I1.
fn check(remembered: Option<Instant>, own: Option<Instant>) {
    let is_late = match (remembered, own) {
        (Some(remembered), Some(own)) => remembered > own,
        (None, Some(_)) => true,
        (Some(_) | None, None) => false,
    };
    assert!(
        !is_late,
        "I1: {own:?} was not told, {remembered:?} is remembered"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Instant = Instant::from_micros_const(5);
    const LATER: Instant = Instant::from_micros_const(9);

    fn never() -> Option<Instant> {
        panic!("the deadline was looked up");
    }

    #[test]
    fn the_earlier_of_two_deadlines_is_the_one_that_is() {
        assert_eq!(earlier(Some(SOON), Some(LATER)), Some(SOON));
        assert_eq!(earlier(Some(LATER), Some(SOON)), Some(SOON));
        assert_eq!(earlier(None, Some(LATER)), Some(LATER));
        assert_eq!(earlier(Some(LATER), None), Some(LATER));
        assert_eq!(earlier(None, None), None);
    }

    #[test]
    fn a_part_is_polled_when_it_was_touched_and_when_it_is_due() {
        let mut duty = Duty::new();
        assert!(duty.is_due(Instant::ZERO, never));
        assert_eq!(duty.poll_at(|| Some(LATER)), Some(LATER));
        assert!(duty.is_due(Instant::ZERO, never), "asking is not polling");
        duty.polled(false);
        assert!(!duty.is_due(SOON, || Some(LATER)));
        assert!(duty.is_due(LATER, || Some(LATER)));
        duty.touch();
        assert!(duty.is_due(Instant::ZERO, never));
    }

    #[test]
    fn the_deadline_is_looked_up_anew_after_each_poll_and_each_touch() {
        let mut duty = Duty::new();
        duty.polled(false);
        assert_eq!(duty.poll_at(|| Some(LATER)), Some(LATER));
        duty.touch();
        assert_eq!(duty.poll_at(|| Some(SOON)), Some(SOON));
        duty.polled(false);
        assert_eq!(duty.poll_at(|| None), None);
        assert!(!duty.is_due(LATER, || None));
    }

    #[test]
    fn a_part_without_a_slot_is_tried_each_time_but_asks_for_no_poll() {
        let mut duty = Duty::new();
        duty.polled(true);
        assert!(duty.is_due(Instant::ZERO, || None));
        assert_eq!(duty.poll_at(|| None), None);
        duty.polled(false);
        assert!(!duty.is_due(Instant::ZERO, || None));
    }

    #[test]
    #[should_panic(expected = "I1")]
    fn a_deadline_that_moved_without_a_touch_is_found() {
        let mut duty = Duty::new();
        duty.polled(false);
        assert_eq!(duty.poll_at(|| Some(LATER)), Some(LATER));
        duty.poll_at(|| Some(SOON));
    }

    #[test]
    fn a_deadline_that_moved_away_wakes_too_early_once() {
        let mut duty = Duty::new();
        duty.polled(false);
        assert_eq!(duty.poll_at(|| Some(SOON)), Some(SOON));
        assert!(duty.is_due(SOON, || Some(LATER)));
        duty.polled(false);
        assert!(!duty.is_due(SOON, || Some(LATER)));
    }
}
