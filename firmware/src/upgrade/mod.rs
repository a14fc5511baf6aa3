//! How a new image comes in: received into RAM, judged, written to the slot that does not run, started by the loader.
//!
//! ```text
//! console ── xmodem ─┐
//!                    ├→ staging (RAM, judged) → writer (flash) → reset → loader → the new image, on trial
//! LAN ────── tftp ───┘                                                              │ runs a minute: confirmed
//! ```
//! - [`image`]: the container, and every reason to refuse one.
//! - [`slot`]: what a slot of the flash holds, and which of two is started.
//! - [`staging`], [`tftp`], [`xmodem`], [`writer`]: the stages of one upgrade.
//! - [`crc`][]: checksums.
//!
//! Nothing is erased before length, checksum, board and version of the whole image are right.
//!
//! Calling order: [`Upgrade::arm_tftp`] or [`Upgrade::arm_xmodem`]; datagrams, bytes and time as they come;
//! [`Upgrade::poll_flash`] by the main loop while [`Upgrade::wants_flash`].
//!
//! Bounds: every wait ends; one upgrade at a time; [`UPGRADE_BLOCKS_MAX`](crate::budget::UPGRADE_BLOCKS_MAX) blocks.
//! Not done: a signature of the image.

pub mod image;
pub mod slot;
pub mod staging;
pub mod tftp;
pub mod writer;
pub mod xmodem;

use core::fmt::{self, Write};

use smoltcp::time::Instant;

use crate::budget::{UPGRADE_CONFIRM_AFTER, UPGRADE_TRANSFER_MAX};
use crate::stitch::Pool;
use crate::store::{Flash, FlashError, Range};
use crate::udp::{Datagram, SendUdp};
use image::{Board, Fault, Version, Wanted};
use slot::{SLOTS, SlotId};
pub use staging::Staging;
use writer::{Progress, Writer};

/// Why there is no upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Refusal {
    /// The image.
    Image(Fault),
    /// Too few blocks that no download holds or was promised.
    Memory {
        /// Blocks of 4 KiB.
        needed: u16,
        /// Those there are.
        free: u16,
    },
    /// An upgrade is under way.
    Busy,
    /// The loader did not start this image, so nobody knows which slot may be written.
    NoLoader,
    /// The slots do not suit the flash's sectors.
    Layout,
    /// The flash fails.
    Flash(FlashError),
    /// The flash reads back other bytes than were written.
    Worn,
    /// The transfer.
    Transfer(Ending),
}

impl Refusal {
    /// Whether the image is too large for something.
    const fn is_lack_of_room(&self) -> bool {
        matches!(
            self,
            Self::Memory { .. } | Self::Image(Fault::TooLong { .. })
        )
    }

    /// The reason without its figures.
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Image(fault) => match fault {
                Fault::TooShort { .. } => "image too short",
                Fault::TooLong { .. } => "image too long",
                Fault::NotAnImage => "not a Tandem image",
                Fault::HeaderVersion(_) => "the image's header version is unknown",
                Fault::HeaderChecksum => "checksum of the header is wrong",
                Fault::ForeignBoard { .. } => "image is for another board",
                Fault::Address(_) => "image has an impossible address",
                Fault::PayloadChecksum => "checksum of the image is wrong",
                Fault::Older { .. } => "image is older than what runs; --force takes it",
            },
            Self::Memory { .. } => "too little free memory; try when no download runs",
            Self::Busy => "an upgrade is under way",
            Self::NoLoader => "this image was not started by the loader",
            Self::Layout => "the slots do not suit the flash",
            Self::Flash(error) => error.text(),
            Self::Worn => "the flash reads back other bytes",
            Self::Transfer(ending) => ending.text(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(fault) => fault.fmt(f),
            Self::Memory { needed, free } => write!(
                f,
                "{needed} blocks of memory are needed, {free} are free; try when no download runs"
            ),
            Self::Busy
            | Self::NoLoader
            | Self::Layout
            | Self::Flash(_)
            | Self::Worn
            | Self::Transfer(_) => f.write_str(self.text()),
        }
    }
}

/// How a transfer ended without a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Ending {
    /// Nobody began to send.
    NobodySent,
    /// The sender gave up.
    BySender,
    /// It was given up at the console.
    Cancelled,
    /// The sender fell silent.
    Silence,
    /// Too many damaged blocks.
    Noise,
    /// The sender does not follow the protocol.
    Protocol,
    /// It took longer than any upgrade takes.
    TooSlow,
}

impl Ending {
    /// One line without its end.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NobodySent => "nobody sent an image",
            Self::BySender => "the sender gave up",
            Self::Cancelled => "given up",
            Self::Silence => "the sender fell silent",
            Self::Noise => "too many damaged blocks",
            Self::Protocol => "the sender does not follow the protocol",
            Self::TooSlow => "the transfer takes too long",
        }
    }
}

/// What a board knows of its flash's images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// This board.
    pub board: Board,
    /// Its slots.
    pub slots: [Range; SLOTS],
    /// The slot that the loader started; `None` when something else did.
    pub running: Option<SlotId>,
}

/// What became of an upgrade, for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed, or the old image still stands.
    Refused(Refusal),
    /// The next start takes this version.
    Written(Version),
}

/// What the main loop does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do with the flash.
    Idle,
    /// Call again, in this turn too.
    Busy,
    /// The chip is busy: call again in the next turn.
    Waiting,
    /// Reset, once what waits to be stored is.
    Reboot,
}

/// Where an image comes from.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one of these exists, and there is no heap: the block's buffer is wanted in place"
)]
enum Source {
    None,
    Tftp(tftp::Server),
    Xmodem(xmodem::Receiver),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirm {
    /// The image has not run for long enough.
    At(Instant),
    Look,
    Mark,
    Done,
}

/// The upgrade of a router.
#[derive(Debug)]
pub struct Upgrade {
    boot: Option<Boot>,
    source: Source,
    /// When a transfer has lasted too long.
    limit: Instant,
    staging: Option<Staging>,
    writer: Option<Writer>,
    confirm: Confirm,
    written: Option<Version>,
    last: Option<Refusal>,
    outcome: Option<Outcome>,
}

impl Upgrade {
    /// None is under way; the board has not said what it knows yet.
    pub const fn new() -> Self {
        Self {
            boot: None,
            source: Source::None,
            limit: Instant::ZERO,
            staging: None,
            writer: None,
            confirm: Confirm::Done,
            written: None,
            last: None,
            outcome: None,
        }
    }

    /// What the board knows; once, at the start.
    pub fn set_boot(&mut self, now: Instant, boot: Boot) {
        self.boot = Some(boot);
        if boot.running.is_some() {
            self.confirm = Confirm::At(now + UPGRADE_CONFIRM_AFTER);
        }
    }

    /// Takes one image by TFTP from the LAN; an older one too with `force`. `chance` chooses a port.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::NoLoader`].
    pub fn arm_tftp(&mut self, now: Instant, force: bool, chance: u16) -> Result<(), Refusal> {
        self.arm(now, force, false)?;
        self.source = Source::Tftp(tftp::Server::new(now, chance));
        Ok(())
    }

    /// Takes one image by XMODEM or YMODEM from the console's line, which belongs to the transfer from now on.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::NoLoader`].
    pub fn arm_xmodem(&mut self, now: Instant, force: bool) -> Result<(), Refusal> {
        self.arm(now, force, true)?;
        self.source = Source::Xmodem(xmodem::Receiver::new(now));
        Ok(())
    }

    fn arm(&mut self, now: Instant, force: bool, padded: bool) -> Result<(), Refusal> {
        if self.is_busy() {
            return Err(Refusal::Busy);
        }
        let boot = self.boot.ok_or(Refusal::NoLoader)?;
        let running = boot.running.ok_or(Refusal::NoLoader)?;
        let place = boot.slots[running.other().index()];
        let wanted = Wanted {
            board: boot.board,
            payload_bytes_max: slot::payload_bytes_max((place.end - place.start) as usize),
            not_before: (!force).then_some(Version::OWN),
        };
        self.staging = Some(Staging::new(wanted, padded));
        self.limit = now + UPGRADE_TRANSFER_MAX;
        self.last = None;
        Ok(())
    }

    /// Whether a transfer, the writing, or the reset that follows is under way. A refused sender that is still told so
    /// does not count.
    pub const fn is_busy(&self) -> bool {
        self.staging.is_some() || self.written.is_some()
    }

    /// Whether a transfer has the console's line.
    pub const fn has_line(&self) -> bool {
        matches!(self.source, Source::Xmodem(_))
    }

    /// Whether a datagram of the LAN for this port is the transfer's.
    pub const fn listens_on(&self, port: u16) -> bool {
        match &self.source {
            Source::Tftp(server) => server.listens_on(port),
            Source::None | Source::Xmodem(_) => false,
        }
    }

    /// What became of the last upgrade; once.
    pub const fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Takes a datagram for a port it listens on.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        pool: &mut Pool<'_>,
        out: &mut dyn SendUdp,
    ) {
        let Source::Tftp(server) = &mut self.source else {
            return;
        };
        let taken = server.on_datagram(now, datagram, out);
        let Some(staging) = &mut self.staging else {
            return;
        };
        let result = match taken {
            tftp::Taken::Nothing => return,
            tftp::Taken::Announced(bytes) => staging.announce(bytes).map(|()| None),
            tftp::Taken::Block(bytes) => staging.push(pool, bytes).map(|()| None),
            tftp::Taken::Last(bytes) => staging
                .push(pool, bytes)
                .and_then(|()| staging.finish())
                .map(Some),
            tftp::Taken::Ended(ending) => Err(Refusal::Transfer(ending)),
        };
        match result {
            Ok(header) => {
                server.accept(now, out);
                self.begin_writing(header);
            }
            Err(refusal) => {
                server.refuse(now, &refusal, out);
                self.give_up(refusal, pool);
            }
        }
    }

    /// Takes a byte of the console's line while [`Self::has_line`]; what is to be sent goes to `out`.
    pub fn on_line_byte(
        &mut self,
        now: Instant,
        byte: u8,
        pool: &mut Pool<'_>,
        out: &mut dyn Write,
    ) {
        let Source::Xmodem(receiver) = &mut self.source else {
            return;
        };
        let result = match (receiver.on_byte(now, byte), &mut self.staging) {
            (xmodem::Taken::Nothing, _) | (_, None) => Ok(None),
            (xmodem::Taken::Block(bytes), Some(staging)) => {
                let pushed = staging.push(pool, bytes);
                receiver.accept(now);
                pushed.map(|()| None)
            }
            (xmodem::Taken::Complete, Some(staging)) => staging.finish().map(Some),
            (xmodem::Taken::Ended(ending), Some(_)) => Err(Refusal::Transfer(ending)),
        };
        self.end_line_turn(result, pool, out);
    }

    /// Does what is due on the console's line while [`Self::has_line`].
    pub fn poll_line(&mut self, now: Instant, pool: &mut Pool<'_>, out: &mut dyn Write) {
        let Source::Xmodem(receiver) = &mut self.source else {
            return;
        };
        let late = now >= self.limit && self.staging.is_some() && self.writer.is_none();
        let result = match receiver.poll(now) {
            xmodem::Taken::Ended(ending) => Err(Refusal::Transfer(ending)),
            _ if late => Err(Refusal::Transfer(Ending::TooSlow)),
            xmodem::Taken::Nothing | xmodem::Taken::Block(_) | xmodem::Taken::Complete => Ok(None),
        };
        self.end_line_turn(result, pool, out);
    }

    /// What follows from a byte or a timer of the line.
    fn end_line_turn(
        &mut self,
        result: Result<Option<image::Header>, Refusal>,
        pool: &mut Pool<'_>,
        out: &mut dyn Write,
    ) {
        let Source::Xmodem(receiver) = &mut self.source else {
            return;
        };
        if result.is_err() {
            receiver.cancel();
        }
        for byte in receiver.take_answer() {
            // The console's buffer counts what it drops; the sender asks again.
            out.write_char(char::from(byte)).unwrap_or(());
        }
        if receiver.is_done() {
            self.source = Source::None;
        }
        match result {
            Ok(header) => self.begin_writing(header),
            Err(refusal) => self.give_up(refusal, pool),
        }
    }

    /// Runs the transfer's timers by the LAN.
    pub fn poll(&mut self, now: Instant, pool: &mut Pool<'_>, out: &mut dyn SendUdp) {
        let Source::Tftp(server) = &mut self.source else {
            return;
        };
        let late = now >= self.limit && self.staging.is_some() && self.writer.is_none();
        let refusal = match server.poll(now, out) {
            tftp::Taken::Ended(ending) => Some(Refusal::Transfer(ending)),
            _ if late => Some(Refusal::Transfer(Ending::TooSlow)),
            tftp::Taken::Nothing
            | tftp::Taken::Announced(_)
            | tftp::Taken::Block(_)
            | tftp::Taken::Last(_) => None,
        };
        if let Some(refusal) = refusal {
            server.refuse(now, &refusal, out);
            if self.staging.is_some() {
                self.give_up(refusal, pool);
            }
        }
        if let Source::Tftp(server) = &self.source
            && server.is_done()
        {
            self.source = Source::None;
        }
    }

    /// When [`Self::poll`], [`Self::poll_line`] or [`Self::poll_flash`] is due.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let transfer = match &self.source {
            Source::None => None,
            Source::Tftp(server) => server.poll_at(),
            Source::Xmodem(receiver) => receiver.poll_at(),
        };
        let limit = (self.staging.is_some() && self.writer.is_none()).then_some(self.limit);
        let flash = if self.wants_flash(now) {
            Some(now)
        } else {
            match self.confirm {
                Confirm::At(at) => Some(at),
                Confirm::Look | Confirm::Mark | Confirm::Done => None,
            }
        };
        [transfer, limit, flash].into_iter().flatten().min()
    }

    fn begin_writing(&mut self, header: Option<image::Header>) {
        let running = self.boot.and_then(|boot| Some((boot, boot.running?)));
        if let (Some(header), Some((boot, running))) = (header, running) {
            self.writer = Some(Writer::new(boot.board, boot.slots, running, header));
        }
    }

    fn give_up(&mut self, refusal: Refusal, pool: &mut Pool<'_>) {
        self.writer = None;
        if let Some(mut staging) = self.staging.take() {
            staging.release(pool);
            self.last = Some(refusal);
            self.outcome = Some(Outcome::Refused(refusal));
        }
    }

    /// Whether [`Self::poll_flash`] has something to do.
    pub fn wants_flash(&self, now: Instant) -> bool {
        let confirm = match self.confirm {
            Confirm::At(at) => now >= at,
            Confirm::Look | Confirm::Mark => true,
            Confirm::Done => false,
        };
        confirm || self.writer.is_some() || self.is_ready_to_reboot()
    }

    /// Written, and the sender's last question answered.
    const fn is_ready_to_reboot(&self) -> bool {
        self.written.is_some() && matches!(self.source, Source::None)
    }

    /// Goes on with the writing, or with the confirmation of the image that runs, by one operation.
    pub fn poll_flash<F: Flash>(
        &mut self,
        now: Instant,
        flash: &mut F,
        pool: &mut Pool<'_>,
    ) -> Turn {
        if let (Some(writer), Some(staging)) = (&mut self.writer, &mut self.staging) {
            match writer.poll(now, flash, staging, pool) {
                Ok(Progress::Working) => {}
                Ok(Progress::Waiting) => return Turn::Waiting,
                Ok(Progress::Written) => {
                    let version = staging.header().map(|header| header.version);
                    staging.release(pool);
                    self.staging = None;
                    self.writer = None;
                    self.written = version;
                    self.outcome = version.map(Outcome::Written);
                }
                Err(refusal) => self.give_up(refusal, pool),
            }
            return Turn::Busy;
        }
        if self.is_ready_to_reboot() {
            return Turn::Reboot;
        }
        if self.wants_flash(now) {
            self.confirm_running(now, flash);
            return Turn::Waiting;
        }
        Turn::Idle
    }

    /// The image has run for a while: its slot is marked so, unless it is already.
    fn confirm_running<F: Flash>(&mut self, now: Instant, flash: &mut F) {
        let Some((boot, running)) = self.boot.and_then(|boot| Some((boot, boot.running?))) else {
            self.confirm = Confirm::Done;
            return;
        };
        let place = boot.slots[running.index()];
        self.confirm = match self.confirm {
            Confirm::At(_) | Confirm::Look => {
                match writer::examine(now, flash, boot.board, place) {
                    Ok(Ok(standing)) if !standing.confirmed => Confirm::Mark,
                    Err(nb::Error::WouldBlock) => Confirm::Look,
                    Ok(Ok(_) | Err(_)) | Err(nb::Error::Other(_)) => Confirm::Done,
                }
            }
            Confirm::Mark => {
                let at = place.start + slot::CONFIRMED_AT as u32;
                match flash.program(now, at, &[0; slot::MARK_BYTES]) {
                    Err(nb::Error::WouldBlock) => Confirm::Mark,
                    // A mark that does not take costs trials; the next start tries again.
                    Ok(()) | Err(nb::Error::Other(_)) => Confirm::Done,
                }
            }
            Confirm::Done => Confirm::Done,
        };
    }

    /// Writes what is under way, and what became of the last one: lines for `upgrade status`.
    ///
    /// # Errors
    /// Only those of `out`.
    pub fn write_status(&self, out: &mut dyn Write) -> fmt::Result {
        match self.boot.and_then(|boot| boot.running) {
            Some(slot) => writeln!(out, "running {} from slot {slot}", Version::OWN)?,
            None => writeln!(out, "running {}, not started by the loader", Version::OWN)?,
        }
        let received = self.staging.as_ref().map_or(0, Staging::received);
        match (&self.writer, &self.source) {
            (Some(writer), _) => writeln!(
                out,
                "writing slot {}: {} %",
                writer.target(),
                writer.percent()
            )?,
            (None, _) if self.written.is_some() => writeln!(out, "written; about to restart")?,
            (None, Source::Tftp(_)) if self.staging.is_some() => {
                writeln!(out, "TFTP: {received} bytes received")?;
            }
            (None, Source::Xmodem(_)) => writeln!(out, "XMODEM: {received} bytes received")?,
            (None, Source::None | Source::Tftp(_)) => writeln!(out, "no upgrade is under way")?,
        }
        if let Some(refusal) = &self.last {
            writeln!(out, "the last one was refused: {refusal}")?;
        }
        Ok(())
    }
}

impl Default for Upgrade {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
