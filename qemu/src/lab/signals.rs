//! Ctrl-C and termination as a file descriptor to wait on, so that a lab is taken down in the ordinary way.
//!
//! Invariants: the handler only writes a byte to a pipe; programs started later have the default handlers again.

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(number: i32) {
    let byte = [number as u8];
    // SAFETY: `byte` outlives the call, and write(2) may be called from a signal handler. A full pipe loses nothing
    // that matters: a signal is already waiting in it.
    unsafe { nix::libc::write(PIPE.load(Ordering::Relaxed), byte.as_ptr().cast(), 1) };
}

/// The read end of the pipe into which SIGINT, SIGTERM and SIGHUP go.
#[derive(Debug)]
pub struct Signals {
    pipe: File,
}

impl Signals {
    /// Takes the three signals over; once per process.
    ///
    /// # Errors
    /// No pipe to be had.
    pub fn take() -> Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        PIPE.store(write.into_raw_fd(), Ordering::Relaxed);
        let action = SigAction::new(
            SigHandler::Handler(on_signal),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            // SAFETY: the handler calls nothing but write(2), and the pipe is never closed.
            unsafe { sigaction(signal, &action) }.context("cannot handle signals")?;
        }
        Ok(Self { pipe: read.into() })
    }

    /// Waits for one of the signals and gives its number.
    pub fn wait(&mut self) -> i32 {
        let mut byte = [0];
        match self.pipe.read_exact(&mut byte) {
            Ok(()) => i32::from(byte[0]),
            // The write end is never closed: what is left is an error to stop on as well.
            Err(_) => Signal::SIGTERM as i32,
        }
    }

    /// Waits at most `timeout` for one of the signals.
    pub fn wait_timeout(&mut self, timeout: std::time::Duration) -> Option<i32> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let deadline = std::time::Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            let ms =
                PollTimeout::try_from(left.as_millis().min(1 << 30)).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, ms) {
                Ok(0) if std::time::Instant::now() >= deadline => return None,
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) | Err(_) => return Some(self.wait()),
            }
        }
    }
}

/// Ends the waiting of [`Signals::wait`] from another thread, as SIGTERM would.
pub fn raise() {
    on_signal(Signal::SIGTERM as i32);
}

/// Gives a descriptor to the program that is about to be executed.
///
/// # Errors
/// Not an open descriptor.
pub fn inherit(fd: &OwnedFd) -> nix::Result<()> {
    inherit_raw(fd.as_raw_fd())
}

/// As [`inherit`], by number: for the time between fork and exec.
///
/// # Errors
/// Not an open descriptor.
pub fn inherit_raw(fd: i32) -> nix::Result<()> {
    // SAFETY: fcntl with these arguments touches no memory.
    match unsafe { nix::libc::fcntl(fd, nix::libc::F_SETFD, 0) } {
        -1 => Err(nix::errno::Errno::last()),
        _ => Ok(()),
    }
}
