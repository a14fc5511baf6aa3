//! A router in the simulation: the firmware as it is, with the board's part played here.
//!
//! Invariant: an egress slot is not empty before it is filled (`0xA5`), as on a board.

use std::collections::VecDeque;

use firmware::budget::Memory;
use firmware::port::{Egress, Full, Port};
use firmware::random::Random;
use firmware::router::{Action, Router, Verdict};
use hal_mips::arch::time::{Extender, SLEEP_US_MAX};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

/// Transmit slots of a port; they drain into the line after each call.
const SLOTS: usize = 64;
/// Polls in a row without time passing; a board's loop would go on, but it would also take time.
const POLLS_MAX: usize = 64;

/// The transmit slots of all ports.
#[derive(Debug, Default)]
pub struct Slots {
    frames: VecDeque<(Port, Vec<u8>)>,
    used: [usize; 3],
    /// Frames of earlier calls that are still in the ports' slots.
    waiting: [usize; 3],
    /// Slots are free again when the line has sent their frames, not at once.
    waits: bool,
    /// Frames that found no slot.
    pub refused: u64,
}

impl Slots {
    /// Takes all frames out, in order.
    fn drain(&mut self, out: &mut Vec<(Port, Vec<u8>)>) {
        let used = core::mem::take(&mut self.used);
        if self.waits {
            for (waiting, used) in self.waiting.iter_mut().zip(used) {
                *waiting += used;
            }
        }
        out.extend(self.frames.drain(..));
    }
}

impl Egress for Slots {
    fn transmit<R>(
        &mut self,
        port: Port,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, Full> {
        if self.room(port) == 0 {
            self.refused += 1;
            return Err(Full);
        }
        let mut frame = vec![0xA5; len];
        let result = fill(&mut frame);
        self.used[port.index()] += 1;
        self.frames.push_back((port, frame));
        Ok(result)
    }

    fn room(&self, port: Port) -> usize {
        SLOTS.saturating_sub(self.queued(port))
    }

    fn queued(&self, port: Port) -> usize {
        self.used[port.index()] + self.waiting[port.index()]
    }
}

/// A clock made of a 32-bit counter, as a board's is.
#[derive(Debug)]
struct Count {
    hertz: u32,
    extender: Extender,
}

/// What the counter shows at first: its wrap is a second or two away.
const COUNT_FIRST: u32 = u32::MAX - 200_000_000;

impl Count {
    /// The board's time when `now_us` have passed.
    fn micros(&mut self, now_us: u64) -> u64 {
        let ticks = u128::from(now_us) * u128::from(self.hertz) / 1_000_000;
        self.extender
            .advance(COUNT_FIRST.wrapping_add(ticks as u32))
    }
}

/// A router and its slots.
pub struct Node<'m> {
    router: Router<'m>,
    count: Option<Count>,
    /// What the router's clock shows more than the simulation's, µs.
    uptime_us: u64,
    /// Its clock gains so many µs each second.
    fast_ppm: u64,
    slots: Slots,
    at: Option<u64>,
    polls: u64,
    idle_spins: u64,
}

fn instant(us: u64) -> Instant {
    Instant::from_micros(i64::try_from(us).unwrap_or(i64::MAX))
}

impl Node<'static> {
    /// Boots a router.
    pub fn new(memory: &'static mut Memory, macs: [EthernetAddress; 3], seed: u64) -> Self {
        Self {
            router: Router::new(memory, macs, Random::repeatable(seed)),
            count: None,
            uptime_us: 0,
            fast_ppm: 0,
            slots: Slots::default(),
            at: Some(0),
            polls: 0,
            idle_spins: 0,
        }
    }
}

impl Node<'_> {
    /// Its time is made of a counter of this rate.
    #[must_use]
    pub fn with_count(mut self, hertz: Option<u32>) -> Self {
        self.count = hertz.map(|hertz| Count {
            hertz,
            extender: Extender::new(COUNT_FIRST, hertz),
        });
        self
    }

    /// It has been up for so long before the simulation began.
    #[must_use]
    pub fn up_for(mut self, uptime_us: u64) -> Self {
        self.uptime_us = uptime_us;
        self
    }

    /// Its clock gains so many µs each second.
    #[must_use]
    pub fn gaining(mut self, fast_ppm: u64) -> Self {
        self.fast_ppm = fast_ppm;
        self
    }

    /// The router's own time.
    fn time(&mut self, now_us: u64) -> Instant {
        let own_us = match &mut self.count {
            Some(count) => count.micros(now_us),
            None => now_us + now_us * self.fast_ppm / 1_000_000,
        };
        instant(self.uptime_us + own_us)
    }

    /// When `poll` is due.
    pub fn poll_at(&self) -> Option<u64> {
        self.at
    }

    /// Times that the router asked to be polled at once, many times in a row, and sent nothing.
    pub fn idle_spins(&self) -> u64 {
        self.idle_spins
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.polls
    }

    /// Frames that its ports have not sent yet. Never called where the lines take them at once.
    pub fn set_waiting(&mut self, waiting: [usize; 3]) {
        self.slots.waiting = waiting;
        self.slots.waits = true;
    }

    /// Takes a frame from a line; what leaves appears in `out`.
    pub fn on_frame(
        &mut self,
        now_us: u64,
        port: Port,
        mut frame: Vec<u8>,
        out: &mut Vec<(Port, Vec<u8>)>,
    ) -> Verdict {
        let now = self.time(now_us);
        let verdict = self.router.on_frame(now, port, &mut frame, &mut self.slots);
        self.slots.drain(out);
        match verdict {
            Verdict::Forward(to) => out.push((to, frame)),
            Verdict::Intercept | Verdict::Answer | Verdict::Drop => {}
        }
        verdict
    }

    /// Runs what is due.
    pub fn poll(&mut self, now_us: u64, out: &mut Vec<(Port, Vec<u8>)>) {
        let now = self.time(now_us);
        let before = out.len();
        for _ in 0..POLLS_MAX {
            self.polls += 1;
            self.router.poll(now, &mut self.slots);
            self.slots.drain(out);
            let rate = 1_000_000 + self.fast_ppm as i64;
            let ahead = |at: Instant| {
                let own = at.total_micros() - now.total_micros();
                match self.fast_ppm {
                    0 => own,
                    // Rounded up: a deadline is not met before its time.
                    _ => (own * 1_000_000 + rate - 1) / rate + 1,
                }
            };
            self.at = self
                .router
                .poll_at(now)
                .map(|at| now_us.saturating_add_signed(ahead(at)));
            if self.count.is_some() {
                // A counter's wrap is not missed: the board never sleeps longer.
                let latest = now_us + u64::from(SLEEP_US_MAX);
                self.at = Some(self.at.unwrap_or(latest).min(latest));
            }
            if self.at.is_none_or(|at| at > now_us) {
                return;
            }
        }
        if out.len() == before {
            self.idle_spins += 1;
        }
        self.at = Some(now_us + 1);
    }

    /// Types a line on the console; its echo and answer.
    pub fn console(&mut self, now_us: u64, line: &str) -> (String, bool) {
        let now = self.time(now_us);
        let mut answer = String::new();
        let mut reboot = false;
        for byte in line.bytes().chain([b'\r']) {
            match self.router.on_console_byte(now, byte, &mut answer) {
                // A simulated router does not crash.
                Action::None | Action::Panic | Action::Hang => {}
                Action::Reboot => reboot = true,
            }
        }
        self.at = Some(now_us);
        (answer, reboot)
    }
}
