//! What a press of the reset button asks for.
//!
//! | down for | asks for |
//! | --- | --- |
//! | less than [`BUTTON_LONG`] | a reboot, when it is let go |
//! | [`BUTTON_LONG`] | the factory's settings, at once; letting go then means nothing |
//!
//! A button that is down when the router starts counts from then on only after it was up: a stuck one must not erase
//! the settings at every boot.
//!
//! Calling order: [`ResetButton::sample`] at least as often as [`ResetButton::poll_at`] says, and at any other time.

use smoltcp::time::Instant;

use crate::budget::{BUTTON_DEBOUNCE, BUTTON_LONG, BUTTON_LOOK};

/// What a press asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Press {
    /// Start the router anew.
    Reboot,
    /// Forget the settings, then start anew.
    Defaults,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not seen up yet, or what it asked for is done: waits until it is up.
    Spent,
    Up,
    Down {
        since: Instant,
    },
}

/// The reset button, debounced.
#[derive(Clone, Copy, Debug)]
pub struct ResetButton {
    state: State,
    /// The last raw reading, and since when it is so.
    raw: (bool, Instant),
}

impl ResetButton {
    /// A button of a router that starts now.
    pub const fn new(now: Instant) -> Self {
        Self {
            state: State::Spent,
            raw: (true, now),
        }
    }

    /// Takes a reading.
    #[inline]
    pub fn sample(&mut self, now: Instant, is_pressed: bool) -> Option<Press> {
        if self.state == State::Up && !is_pressed && !self.raw.0 {
            return None;
        }
        if self.raw.0 != is_pressed {
            self.raw = (is_pressed, now);
        }
        let is_steady = now - self.raw.1 >= BUTTON_DEBOUNCE;
        match (self.state, is_pressed) {
            (State::Spent | State::Up, false) if is_steady => {
                self.state = State::Up;
                None
            }
            (State::Up, true) if is_steady => {
                self.state = State::Down { since: self.raw.1 };
                None
            }
            (State::Down { since }, true) if now - since >= BUTTON_LONG => {
                self.state = State::Spent;
                Some(Press::Defaults)
            }
            (State::Down { .. }, false) if is_steady => {
                self.state = State::Up;
                Some(Press::Reboot)
            }
            (State::Spent | State::Up | State::Down { .. }, true | false) => None,
        }
    }

    /// When it must be looked at again, whatever else happens.
    pub fn poll_at(&self, now: Instant) -> Instant {
        now + BUTTON_LOOK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::time::Duration;

    /// Feeds readings 10 ms apart, each run `(pressed, ms)`; what it asked for, with the time.
    fn run(runs: &[(bool, u64)]) -> Vec<(u64, Press)> {
        let mut button = ResetButton::new(Instant::ZERO);
        let mut ms = 0;
        let mut asked = Vec::new();
        for &(pressed, length) in runs {
            for _ in 0..length / 10 {
                let now = Instant::ZERO + Duration::from_millis(ms);
                asked.extend(button.sample(now, pressed).map(|press| (ms, press)));
                ms += 10;
            }
        }
        asked
    }

    #[test]
    fn a_short_press_reboots_when_let_go() {
        let asked = run(&[(false, 1000), (true, 300), (false, 500)]);
        assert_eq!(asked, [(1350, Press::Reboot)]);
    }

    #[test]
    fn a_press_of_five_seconds_asks_for_the_factorys_settings_once() {
        let asked = run(&[(false, 1000), (true, 20_000), (false, 500)]);
        assert_eq!(asked, [(6000, Press::Defaults)]);
        let asked = run(&[(false, 1000), (true, 4990), (false, 500)]);
        assert_eq!(asked, [(6040, Press::Reboot)]);
    }

    #[test]
    fn contacts_that_bounce_are_one_press() {
        let bounce = [(true, 10), (false, 10), (true, 20), (false, 10)];
        let mut runs = vec![(false, 1000)];
        runs.extend(bounce);
        runs.push((true, 500));
        runs.extend(bounce);
        runs.push((false, 500));
        assert_eq!(run(&runs).len(), 1);
        assert_eq!(run(&runs)[0].1, Press::Reboot);
    }

    #[test]
    fn bouncing_alone_is_no_press() {
        assert!(run(&[(false, 1000), (true, 40), (false, 1000)]).is_empty());
    }

    #[test]
    fn a_button_stuck_since_the_start_asks_for_nothing_until_it_was_up() {
        assert!(run(&[(true, 60_000)]).is_empty());
        let asked = run(&[(true, 60_000), (false, 100), (true, 200), (false, 100)]);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].1, Press::Reboot);
    }
}
