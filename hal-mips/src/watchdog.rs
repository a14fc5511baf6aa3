//! What resets a machine whose main loop has stopped coming round.

/// A watchdog.
pub trait Watchdog {
    /// Starts it, or starts it anew with another time: a reset follows `timeout_us` after the last [`feed`](Self::feed).
    /// A time longer than the device can count is cut to what it can; the time that holds, µs, is returned, and a main
    /// loop must not sleep longer than half of it.
    fn start(&mut self, timeout_us: u32) -> u32;

    /// Gives it its whole time again; before [`start`](Self::start) nothing. Cheap enough for every turn of a main loop.
    fn feed(&mut self);
}
