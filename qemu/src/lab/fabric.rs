//! The lines: carries frames between the NICs of machines and the TAPs of hosts, each direction through a `Pipe`.
//!
//! Units: µs of the host's monotonic clock.
//! Invariants:
//! - I1: a frame is lost only inside a `Pipe`, or because the end it was for is gone (counted as `undelivered`).
//! - I2: a machine that does not take its frames holds them back in its line; of the lines' memory it takes
//!   at most `HELD_BYTES` besides.
//!
//! A line has two ends, or more, as the air has: then what one sends comes to all others. Each end sends into a pipe of its
//! own, so that ends do not share the line's rate.
//!
//! One thread waits for all ends and for the next frame to arrive, with ns resolution. Captures are taken at one end
//! of a line: what this end receives and what it sends, as its own NIC would see them.

mod endpoint;

pub use endpoint::Port;
use endpoint::{Endpoint, FRAME_BYTES_MAX};

use crate::lab::shape;
use crate::line::{LineCounts, Pipe, Shape};
use crate::pcap;
use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A direction of a line.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// What the router's end sends (of `air`: router a's).
    A,
    /// What the host's end sends (of `air`: router b's).
    B,
    /// What the third end sends (of `air` with three routers: router c's).
    C,
}

impl Side {
    /// Index of the pipe that this end sends into.
    fn index(self) -> usize {
        match self {
            Side::A => 0,
            Side::B => 1,
            Side::C => 2,
        }
    }
}

/// What is known of one direction of a line.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct DirectionStatus {
    /// The shape as [`shape::describe`] writes it.
    pub shape: String,
    /// Frames that arrived.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
    /// Frames lost at random or by a cut.
    pub lost: u64,
    /// Frames refused by the full queue.
    pub dropped_full: u64,
    /// Frames held back.
    pub reordered: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames that arrived with a flipped bit.
    pub corrupted: u64,
    /// Frames for an end that is gone.
    pub undelivered: u64,
}

/// What is known of a line.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LineStatus {
    /// Its name.
    pub name: String,
    /// What end `a` sends.
    pub from_a: DirectionStatus,
    /// What end `b` sends.
    pub from_b: DirectionStatus,
    /// What end `c` sends, of a line that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_c: Option<DirectionStatus>,
    /// Captures that run.
    pub captures: usize,
}

struct Capture {
    id: u64,
    side: Side,
    writer: pcap::Writer<BufWriter<File>>,
    error: Option<io::Error>,
}

impl Capture {
    fn add(&mut self, time_us: u64, frame: &[u8]) {
        if self.error.is_none() {
            self.error = self.writer.write(time_us, frame).err();
        }
    }
}

struct Line {
    name: String,
    /// By the index of the end that sends.
    pipes: Vec<Pipe>,
    /// Index of end `a` among the ends of all lines.
    first_end: usize,
    undelivered: Vec<u64>,
    captures: Vec<Capture>,
}

/// All sides, in order of their indices.
const SIDES: [Side; 3] = [Side::A, Side::B, Side::C];

impl Line {
    /// Whether it has that end.
    fn has(&self, side: Option<Side>) -> Result<()> {
        if side.is_some_and(|side| side.index() >= self.pipes.len()) {
            bail!("line {} has no end c", self.name);
        }
        Ok(())
    }

    fn status(&self) -> LineStatus {
        let direction = |index: usize| {
            let pipe = &self.pipes[index];
            let LineCounts {
                frames,
                bytes,
                lost,
                dropped_full,
                reordered,
                duplicated,
                corrupted,
                queued_max: _,
            } = pipe.counts();
            DirectionStatus {
                shape: shape::describe(&pipe.shape()),
                frames,
                bytes,
                lost,
                dropped_full,
                reordered,
                duplicated,
                corrupted,
                undelivered: self.undelivered[index],
            }
        };
        LineStatus {
            name: self.name.clone(),
            from_a: direction(Side::A.index()),
            from_b: direction(Side::B.index()),
            from_c: (self.pipes.len() > Side::C.index()).then(|| direction(Side::C.index())),
            captures: self.captures.len(),
        }
    }
}

struct Shared {
    lines: Mutex<Vec<Line>>,
    wake: EventFd,
    stop: AtomicBool,
    started: Instant,
    /// `started` in µs since 1970: captures follow the monotonic clock.
    started_us: u64,
    next_capture: std::sync::atomic::AtomicU64,
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        // A thread that panicked leaves whole frames and counters behind.
        self.lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A line to be made.
#[derive(Debug)]
pub struct NewLine {
    /// Its name.
    pub name: String,
    /// Its shape, from every end.
    pub shape: Shape,
    /// Its ends: `a`, `b`, and `c` if there is one.
    pub ports: Vec<Port>,
}

/// All lines of a lab, and the thread that carries their frames.
pub struct Fabric {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fabric {
    /// Starts to carry frames. Chance on each line is a function of `seed`.
    ///
    /// # Errors
    /// The ends are not what they should be, or the system gives no thread.
    pub fn start(lines: Vec<NewLine>, seed: u64) -> Result<Self> {
        let mut state = Vec::new();
        let mut ends = Vec::new();
        for line in lines {
            let first_end = ends.len();
            let count = line.ports.len();
            if !(2..=SIDES.len()).contains(&count) {
                bail!("line {} has {count} ends", line.name);
            }
            state.push(Line {
                name: line.name,
                pipes: (first_end..first_end + count)
                    .map(|end| Pipe::new(line.shape, seed.wrapping_add(end as u64)))
                    .collect(),
                first_end,
                undelivered: vec![0; count],
                captures: Vec::new(),
            });
            for port in line.ports {
                ends.push(Endpoint::new(port).context("a NIC's socket")?);
            }
        }
        let started_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let shared = Arc::new(Shared {
            lines: Mutex::new(state),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
                .context("no eventfd")?,
            stop: AtomicBool::new(false),
            started: Instant::now(),
            started_us: u64::try_from(started_us).unwrap_or(0),
            next_capture: std::sync::atomic::AtomicU64::new(1),
        });
        let thread = std::thread::Builder::new()
            .name("lines".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || carry(&shared, &mut ends)
            })
            .context("no thread for the lines")?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    fn wake(&self) {
        // It fails only when the counter is full: the thread is awake already.
        self.shared.wake.write(1).ok();
    }

    fn with_line<T>(&self, name: &str, work: impl FnOnce(&mut Line) -> Result<T>) -> Result<T> {
        let mut lines = self.shared.lines();
        let names: Vec<_> = lines.iter().map(|line| line.name.clone()).collect();
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => work(line),
            None => bail!("no line `{name}`; this lab has {}", names.join(", ")),
        }
    }

    /// The state of all lines.
    pub fn status(&self) -> Vec<LineStatus> {
        self.shared.lines().iter().map(Line::status).collect()
    }

    /// Changes a line, every way or what one end sends; with no change, its state.
    ///
    /// # Errors
    /// No such line or end, or not a change ([`shape::apply`]): then nothing has changed.
    pub fn change(&self, name: &str, from: Option<Side>, changes: &[String]) -> Result<LineStatus> {
        let now_us = self.shared.now_us();
        let status = self.with_line(name, |line| {
            line.has(from)?;
            let is_meant = |index: usize| from.is_none_or(|side| side.index() == index);
            let mut shapes: Vec<Shape> = line.pipes.iter().map(Pipe::shape).collect();
            for (_, shape) in (shapes.iter_mut().enumerate()).filter(|(index, _)| is_meant(*index))
            {
                for change in changes {
                    shape::apply(shape, change)?;
                }
            }
            if !changes.is_empty() {
                for (index, pipe) in line.pipes.iter_mut().enumerate() {
                    if is_meant(index) {
                        pipe.set(now_us, shapes[index]);
                    }
                }
            }
            Ok(line.status())
        });
        self.wake();
        status
    }

    /// Starts a capture of a line as its end `side` sees it; gives the capture's number.
    ///
    /// # Errors
    /// No such line or end, or the file cannot be written.
    pub fn capture(&self, name: &str, file: &Path, side: Side) -> Result<u64> {
        self.with_line(name, |line| {
            line.has(Some(side))?;
            let file =
                File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
            let id = self.shared.next_capture.fetch_add(1, Ordering::Relaxed);
            line.captures.push(Capture {
                id,
                side,
                writer: pcap::Writer::new(BufWriter::new(file))
                    .context("cannot write the capture")?,
                error: None,
            });
            Ok(id)
        })
    }

    /// Ends a capture, or all captures of the line; gives the number of frames in their files.
    ///
    /// # Errors
    /// No such line or capture, or the file could not be written.
    pub fn capture_stop(&self, name: &str, id: Option<u64>) -> Result<u64> {
        let ended = self.with_line(name, |line| {
            let (ended, kept): (Vec<_>, Vec<_>) = line
                .captures
                .drain(..)
                .partition(|capture| id.is_none_or(|id| id == capture.id));
            line.captures = kept;
            if ended.is_empty() {
                bail!("no capture runs on {name}; start one with `cargo lab pcap {name} FILE`");
            }
            Ok(ended)
        })?;
        let mut frames = 0;
        for capture in ended {
            frames += capture.writer.frames();
            if let Some(error) = capture.error {
                return Err(error).context("cannot write the capture");
            }
            capture
                .writer
                .finish()
                .context("cannot write the capture")?;
        }
        Ok(frames)
    }

    /// Stops carrying frames; captures are completed.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // A panic there was printed; the lab is going down anyway.
            thread.join().ok();
        }
        for line in self.shared.lines().iter_mut() {
            for capture in line.captures.drain(..) {
                // The lab is going down: nobody is left to tell.
                capture.writer.finish().ok();
            }
        }
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Best effort: the lines keep their time even while everything else computes.
fn be_precise() {
    // SAFETY: both calls take plain numbers, and 0 means the calling thread. A refusal (no right) is harmless.
    unsafe {
        nix::libc::prctl(nix::libc::PR_SET_TIMERSLACK, 1_000);
        nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, -10);
    }
}

fn carry(shared: &Shared, ends: &mut [Endpoint]) {
    be_precise();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut flushed = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let next_at = deliver(shared, ends, &mut flushed);
        let timeout = next_at.map_or(Duration::from_secs(1), |at| {
            Duration::from_micros(at.saturating_sub(shared.now_us())).min(Duration::from_secs(1))
        });
        let mut fds: Vec<_> = vec![PollFd::new(shared.wake.as_fd(), PollFlags::POLLIN)];
        let mut polled = Vec::with_capacity(ends.len());
        for (index, end) in ends.iter().enumerate().filter(|(_, end)| end.is_open()) {
            let mut flags = PollFlags::POLLIN;
            if end.is_holding() {
                flags |= PollFlags::POLLOUT;
            }
            fds.push(PollFd::new(end.fd(), flags));
            polled.push(index);
        }
        match ppoll(
            &mut fds,
            Some(TimeSpec::from_duration(timeout)),
            None::<SigSet>,
        ) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => {
                eprintln!("lines: cannot wait: {error}");
                return;
            }
        }
        let readable = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
        if readable(&fds[0]) {
            // Only resets the counter.
            shared.wake.read().ok();
        }
        let ready: Vec<_> = polled
            .into_iter()
            .zip(&fds[1..])
            .filter(|(_, fd)| readable(fd))
            .map(|(index, _)| index)
            .collect();
        for index in ready {
            accept(shared, index, &mut ends[index], &mut buffer);
        }
    }
}

/// Puts what an end has sent on its line.
fn accept(shared: &Shared, index: usize, end: &mut Endpoint, buffer: &mut [u8]) {
    let now_us = shared.now_us();
    let mut lines = shared.lines();
    let Some(line) = (lines.iter_mut().rev()).find(|line| line.first_end <= index) else {
        return;
    };
    let side = index - line.first_end;
    let Line {
        pipes, captures, ..
    } = line;
    end.receive(buffer, |frame| {
        for capture in captures
            .iter_mut()
            .filter(|capture| capture.side.index() == side)
        {
            capture.add(shared.started_us + now_us, frame);
        }
        pipes[side].push(now_us, frame.to_vec());
    });
}

/// Gives every frame that has arrived to its end; when the next one will.
fn deliver(shared: &Shared, ends: &mut [Endpoint], flushed: &mut Instant) -> Option<u64> {
    let mut lines = shared.lines();
    let now_us = shared.now_us();
    let mut next_at: Option<u64> = None;
    for line in lines.iter_mut() {
        let count = line.pipes.len();
        let ends = &mut ends[line.first_end..line.first_end + count];
        for from in 0..count {
            // An end without room keeps the frame from all: it is lost for none (I1).
            let has_room =
                |ends: &[Endpoint]| (0..count).all(|to| to == from || ends[to].has_room());
            while has_room(ends) {
                let Some(frame) = line.pipes[from].pop(now_us) else {
                    break;
                };
                for capture in
                    (line.captures.iter_mut()).filter(|capture| capture.side.index() != from)
                {
                    capture.add(shared.started_us + now_us, &frame);
                }
                let others = (ends.iter_mut().enumerate()).filter(|(to, _)| *to != from);
                for (_, end) in others {
                    if !end.send(&frame) {
                        line.undelivered[from] += 1;
                    }
                }
            }
            for (_, end) in ends.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                end.flush();
            }
            // Without room the end's readiness wakes us, not the clock.
            if has_room(ends)
                && let Some(at) = line.pipes[from].next_at()
            {
                next_at = Some(next_at.map_or(at, |earliest| earliest.min(at)));
            }
        }
    }
    if flushed.elapsed() > Duration::from_secs(1) {
        *flushed = Instant::now();
        for capture in lines.iter_mut().flat_map(|line| &mut line.captures) {
            if let Err(error) = capture.writer.flush() {
                capture.error.get_or_insert(error);
            }
        }
    }
    next_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn framed(frame: &[u8]) -> Vec<u8> {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        bytes
    }

    /// A lab of one line between two sockets.
    fn one_line(shape: Shape) -> (Fabric, UnixStream, UnixStream) {
        let (a, line_a) = UnixStream::pair().unwrap();
        let (b, line_b) = UnixStream::pair().unwrap();
        for end in [&a, &b] {
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let line = NewLine {
            name: "air".to_owned(),
            shape,
            ports: vec![Port::Nic(line_a), Port::Nic(line_b)],
        };
        (Fabric::start(vec![line], 1).unwrap(), a, b)
    }

    fn next_frame(end: &mut UnixStream) -> Vec<u8> {
        let mut header = [0; 4];
        end.read_exact(&mut header).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(header) as usize];
        end.read_exact(&mut frame).unwrap();
        frame
    }

    #[test]
    fn a_line_carries_frames_both_ways_and_counts_them() {
        let (fabric, mut a, mut b) = one_line(Shape::new(0, 1_000));
        a.write_all(&framed(b"to b")).unwrap();
        b.write_all(&framed(b"to a, longer")).unwrap();
        assert_eq!(next_frame(&mut b), b"to b");
        assert_eq!(next_frame(&mut a), b"to a, longer");
        let status = fabric.change("air", None, &[]).unwrap();
        assert_eq!((status.from_a.frames, status.from_a.bytes), (1, 4));
        assert_eq!((status.from_b.frames, status.from_b.bytes), (1, 12));
        assert!(fabric.change("air-b", None, &[]).is_err());
    }

    #[test]
    fn what_one_of_three_ends_sends_comes_to_both_others_and_is_counted_as_its_own() {
        let (mut ends, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (end, port) = UnixStream::pair().unwrap();
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            ends.push(end);
            ports.push(Port::Nic(port));
        }
        let (x, y) = UnixStream::pair().unwrap();
        let (mut last, line_x) = UnixStream::pair().unwrap();
        last.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let line = |name: &str, ports| NewLine {
            name: name.to_owned(),
            shape: Shape::default(),
            ports,
        };
        // A line after one of three ends has its own.
        let after = line("after", vec![Port::Nic(line_x), Port::Nic(y)]);
        let fabric = Fabric::start(vec![line("air", ports), after], 1).unwrap();
        for (from, words) in ["from a", "from b", "from c, longer"]
            .into_iter()
            .enumerate()
        {
            ends[from].write_all(&framed(words.as_bytes())).unwrap();
            for (to, end) in ends.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                assert_eq!(next_frame(end), words.as_bytes(), "{from} to {to}");
            }
        }
        (&x).write_all(&framed(b"another line")).unwrap();
        assert_eq!(next_frame(&mut last), b"another line");
        let status = fabric
            .change("air", Some(Side::C), &["down".to_owned()])
            .unwrap();
        let from_c = status.from_c.unwrap();
        assert_eq!(
            (from_c.frames, from_c.bytes, status.from_a.bytes),
            (1, 14, 6)
        );
        assert!(from_c.shape.starts_with("down") && status.from_b.shape.starts_with("up"));
        assert!(fabric.change("after", Some(Side::C), &[]).is_err());
    }

    #[test]
    fn an_end_that_does_not_read_loses_nothing() {
        let (fabric, mut a, mut b) = one_line(Shape {
            queue_bytes: 64 << 20,
            ..Shape::default()
        });
        // More than the sockets and the held bytes together take.
        let frames = 2_000u32;
        for number in 0..frames {
            let mut frame = vec![0; 1_514];
            frame[..4].copy_from_slice(&number.to_be_bytes());
            a.write_all(&framed(&frame)).unwrap();
        }
        for number in 0..frames {
            assert_eq!(next_frame(&mut b)[..4], number.to_be_bytes());
        }
        assert_eq!(fabric.status()[0].from_a.dropped_full, 0);
    }

    #[test]
    fn one_direction_can_be_cut_while_the_other_works() {
        let (fabric, mut a, mut b) = one_line(Shape::default());
        let status = fabric
            .change("air", Some(Side::A), &["down".to_owned()])
            .unwrap();
        assert!(status.from_a.shape.starts_with("down") && status.from_b.shape.starts_with("up"));
        a.write_all(&framed(b"lost")).unwrap();
        b.write_all(&framed(b"arrives")).unwrap();
        assert_eq!(next_frame(&mut a), b"arrives");
        // A frame is on the line once it is counted: wait for that, not for a time.
        while fabric.status()[0].from_a.lost == 0 {
            std::thread::yield_now();
        }
        fabric
            .change("air", Some(Side::A), &["up".to_owned()])
            .unwrap();
        a.write_all(&framed(b"arrives too")).unwrap();
        assert_eq!(next_frame(&mut b), b"arrives too");
    }

    #[test]
    fn a_wrong_change_leaves_the_line_as_it_was() {
        let (fabric, _a, _b) = one_line(Shape::new(8_000_000, 25_000));
        let before = fabric.status()[0].from_a.shape.clone();
        let changes = ["rate=1M".to_owned(), "loss=200%".to_owned()];
        assert!(fabric.change("air", None, &changes).is_err());
        assert_eq!(fabric.status()[0].from_a.shape, before);
    }

    #[test]
    fn a_capture_holds_what_its_end_sends_and_receives() {
        let (fabric, mut a, mut b) = one_line(Shape::default());
        let path = std::env::temp_dir().join(format!("lab-fabric-{}.pcap", std::process::id()));
        let id = fabric.capture("air", &path, Side::A).unwrap();
        a.write_all(&framed(b"from a")).unwrap();
        assert_eq!(next_frame(&mut b), b"from a");
        b.write_all(&framed(b"from b")).unwrap();
        assert_eq!(next_frame(&mut a), b"from b");
        assert_eq!(fabric.capture_stop("air", Some(id)).unwrap(), 2);
        assert!(fabric.capture_stop("air", Some(id)).is_err());
        let frames: Vec<_> = pcap::Reader::new(File::open(&path).unwrap())
            .unwrap()
            .map(|record| record.unwrap().frame)
            .collect();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(frames, [b"from a".to_vec(), b"from b".to_vec()]);
    }

    #[test]
    fn frames_for_a_machine_that_is_gone_are_counted() {
        let (fabric, mut a, b) = one_line(Shape::default());
        drop(b);
        // The line notices by the closed socket or by a refused frame: offer frames until it has.
        while fabric.status()[0].from_a.undelivered == 0 {
            a.write_all(&framed(b"nobody home")).unwrap();
            std::thread::yield_now();
        }
    }
}
