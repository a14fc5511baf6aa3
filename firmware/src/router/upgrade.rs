//! The router's side of an [upgrade](crate::upgrade): it lends the stitch pool, the LAN and the console's line.
//!
//! Calling order of a board: [`Router::set_boot`] once; then in each turn [`Router::poll_upgrade`] with its flash, which
//! does at most one operation on it, again while it says [`Turn::Busy`] and
//! [`UPGRADE_TURN`](crate::budget::UPGRADE_TURN) is not over; until it says [`Turn::Reboot`].

use smoltcp::time::Instant;

use super::Router;
use super::way::RouterWay;
use crate::events::{Event, Text};
use crate::port::Egress;
use crate::store::Flash;
use crate::udp::Datagram;
use crate::upgrade::{Boot, Outcome, Refusal, Turn};

/// How a new image comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// TFTP from the LAN.
    Tftp,
    /// XMODEM or YMODEM on the console's line.
    Xmodem,
}

impl Router<'_> {
    /// What the board knows of its images; without it there is no upgrade.
    pub fn set_boot(&mut self, now: Instant, boot: Boot) {
        self.touch();
        self.upgrade.set_boot(now, boot);
    }

    /// Takes one image by `transfer`; one older than this firmware only with `force`.
    ///
    /// # Errors
    /// An upgrade is under way, or the loader did not start this image.
    pub fn start_upgrade(&mut self, transfer: Transfer, force: bool) -> Result<(), Refusal> {
        self.touch();
        match transfer {
            Transfer::Tftp => {
                let chance = self.random.next_u16();
                self.upgrade.arm_tftp(self.now, force, chance)
            }
            Transfer::Xmodem => self.upgrade.arm_xmodem(self.now, force),
        }
    }

    /// Goes on with writing an image, or with confirming the one that runs: at most one operation on the flash.
    pub fn poll_upgrade<F: Flash>(&mut self, now: Instant, flash: &mut F) -> Turn {
        let turn = self
            .upgrade
            .poll_flash(now, flash, &mut self.accelerator.pool);
        if turn != Turn::Idle {
            // It may have given blocks back.
            self.touch();
        }
        self.tell_upgrade(now);
        turn
    }

    /// Takes a datagram of a transfer by the LAN.
    pub(super) fn on_upgrade_datagram<E: Egress>(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        out: &mut E,
    ) {
        let mut way = RouterWay {
            ports: &self.addresses,
            neighbors: self.neighbors,
            out,
            ident: &mut self.services.ident,
        };
        let pool = &mut self.accelerator.pool;
        self.upgrade.on_datagram(now, datagram, pool, &mut way);
        self.tell_upgrade(now);
    }

    /// Runs the timers of a transfer by the LAN.
    pub(super) fn poll_upgrade_transfer<E: Egress>(&mut self, now: Instant, out: &mut E) {
        let mut way = RouterWay {
            ports: &self.addresses,
            neighbors: self.neighbors,
            out,
            ident: &mut self.services.ident,
        };
        let free = self.accelerator.pool.blocks_free();
        self.upgrade.poll(now, &mut self.accelerator.pool, &mut way);
        if self.accelerator.pool.blocks_free() != free {
            self.accelerator_duty.touch();
        }
        self.tell_upgrade(now);
    }

    /// Whether a transfer has the console's line: every byte is its own, and nothing else may be written.
    pub const fn upgrade_has_line(&self) -> bool {
        self.upgrade.has_line()
    }

    /// Writes what an upgrade is doing, and why the last one was refused.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_upgrade(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        self.upgrade.write_status(out)
    }

    /// Gives a byte of the console's line to the transfer that has it.
    pub fn on_upgrade_byte(&mut self, byte: u8, out: &mut dyn core::fmt::Write) {
        self.touch();
        let (now, pool) = (self.now, &mut self.accelerator.pool);
        self.upgrade.on_line_byte(now, byte, pool, out);
        self.tell_upgrade(now);
    }

    /// Lets the transfer that has the console's line write what is due.
    pub fn poll_upgrade_line(&mut self, out: &mut dyn core::fmt::Write) {
        self.touch();
        let (now, pool) = (self.now, &mut self.accelerator.pool);
        self.upgrade.poll_line(now, pool, out);
        self.tell_upgrade(now);
    }

    /// An upgrade that ended is an event.
    fn tell_upgrade(&mut self, now: Instant) {
        let event = match self.upgrade.take_outcome() {
            None => return,
            Some(Outcome::Refused(refusal)) => Event::UpgradeRefused(refusal.text()),
            Some(Outcome::Written(version)) => {
                let mut text = heapless::String::<17>::new();
                // Three numbers of at most five digits fit.
                core::fmt::Write::write_fmt(&mut text, format_args!("{version}")).unwrap_or(());
                Event::UpgradeWritten {
                    version: Text::new(text.as_bytes()),
                }
            }
        };
        self.event(now, event);
    }
}
