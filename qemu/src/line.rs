//! Emulated lines: one direction of a cable, an internet line or a radio link.
//!
//! Units: µs for time on any clock that does not go back (virtual or the host's), bytes, bit/s, parts per million.
//! Invariants: without `reorder_ppm` frames leave in the order they came; a pipe holds at most its queue
//! plus what `delay_us` keeps in flight; same seed and same calls give the same result.
//!
//! A frame waits in a drop-tail queue, is serialised at `rate_bit_s`, and is then in flight for `delay_us`.
//! Serialisation counts the frame's bytes as given, Ethernet header included; preamble, FCS and gap are not
//! added. A frame that the line loses has used the line's time like any other.
//!
//! ```text
//! push → queue (drop-tail) → serialiser (rate) → loss, corruption → flight (delay) → pop
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What a line does to frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Serialisation rate; 0 = unlimited.
    pub rate_bit_s: u64,
    /// Time in flight after serialisation.
    pub delay_us: u64,
    /// Share of frames that are lost.
    pub loss_ppm: u32,
    /// Share of frames that are held back, so that later ones overtake them.
    pub reorder_ppm: u32,
    /// Most that a reordered frame is held back; the time is drawn from `1..=reorder_us`.
    pub reorder_us: u64,
    /// Share of frames that arrive twice.
    pub duplicate_ppm: u32,
    /// Share of frames that arrive with one bit flipped.
    pub corrupt_ppm: u32,
    /// Drop-tail bound of the queue, the frame being serialised included; 0 = [`Shape::queue_bytes_default`].
    pub queue_bytes: usize,
    /// `false`: the line is cut; nothing enters, and what was inside is lost.
    pub up: bool,
}

impl Default for Shape {
    /// Unlimited, without delay or fault.
    fn default() -> Self {
        Self {
            rate_bit_s: 0,
            delay_us: 0,
            loss_ppm: 0,
            reorder_ppm: 0,
            reorder_us: 5_000,
            duplicate_ppm: 0,
            corrupt_ppm: 0,
            queue_bytes: 0,
            up: true,
        }
    }
}

impl Shape {
    /// A line of this rate and one-way delay, without fault.
    pub fn new(rate_bit_s: u64, delay_us: u64) -> Self {
        Self {
            rate_bit_s,
            delay_us,
            ..Self::default()
        }
    }

    /// 100 ms of the rate, at least 64 KiB: what an ordinary modem queues.
    pub fn queue_bytes_default(&self) -> usize {
        usize::try_from(self.rate_bit_s / 8 / 10)
            .unwrap_or(usize::MAX)
            .max(64 * 1024)
    }

    fn queue_bytes_max(&self) -> usize {
        match self.queue_bytes {
            0 => self.queue_bytes_default(),
            bytes => bytes,
        }
    }

    /// Serialisation time of `bytes`, ns.
    fn serialise_ns(&self, bytes: usize) -> u64 {
        match self.rate_bit_s {
            0 => 0,
            rate => {
                let ns = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate);
                u64::try_from(ns).unwrap_or(u64::MAX / 4)
            }
        }
    }
}

/// What happened in one direction of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    /// Frames that arrived, duplicates not counted.
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
    /// Most frames that waited at once, the one being serialised included.
    pub queued_max: usize,
}

/// A small deterministic generator (SplitMix64); not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A generator whose sequence is a function of `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `true` in `ppm` of a million calls.
    pub fn chance(&mut self, ppm: u32) -> bool {
        // No number is drawn for an absent fault, so that adding a fault to a line leaves its others alone.
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }
}

/// A frame in flight; ordered by arrival, then by the order of leaving the serialiser.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at_ns: u64,
    order: u64,
    frame: Vec<u8>,
}

/// One direction of a line.
#[derive(Debug)]
pub struct Pipe {
    shape: Shape,
    rng: Rng,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    /// When the first frame of the queue has been serialised; meaningless while the queue is empty.
    head_done_ns: u64,
    flight: BinaryHeap<Reverse<Flying>>,
    /// Arrival of the last frame that was not held back: later ones come no sooner.
    last_arrival_ns: u64,
    order: u64,
    counts: LineCounts,
}

impl Pipe {
    /// An empty pipe; all chance comes from `seed`.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            rng: Rng::new(seed),
            queue: VecDeque::new(),
            queued_bytes: 0,
            head_done_ns: 0,
            flight: BinaryHeap::new(),
            last_arrival_ns: 0,
            order: 0,
            counts: LineCounts::default(),
        }
    }

    /// What the line does now.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What happened so far.
    pub fn counts(&self) -> LineCounts {
        self.counts
    }

    /// Bytes that wait to be serialised, the frame being serialised included, as of the last call with a time.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Frames that wait at a time, the one being serialised included.
    pub fn queued_frames(&mut self, now_us: u64) -> usize {
        self.serialise_until(now_us.saturating_mul(1_000));
        self.queue.len()
    }

    /// Puts a frame on the line; a full queue or a cut line loses it (counted).
    pub fn push(&mut self, now_us: u64, frame: Vec<u8>) {
        let now_ns = now_us.saturating_mul(1_000);
        self.serialise_until(now_ns);
        if !self.shape.up {
            self.counts.lost += 1;
            return;
        }
        // An empty queue takes any frame: a bound below one frame would cut the line.
        if !self.queue.is_empty() && self.queued_bytes + frame.len() > self.shape.queue_bytes_max()
        {
            self.counts.dropped_full += 1;
            return;
        }
        if self.queue.is_empty() {
            self.head_done_ns = now_ns.saturating_add(self.shape.serialise_ns(frame.len()));
        }
        self.queued_bytes += frame.len();
        self.queue.push_back(frame);
        self.counts.queued_max = self.counts.queued_max.max(self.queue.len());
    }

    /// Takes the next frame that has arrived by `now_us`; call until `None`.
    pub fn pop(&mut self, now_us: u64) -> Option<Vec<u8>> {
        let now_ns = now_us.saturating_mul(1_000);
        self.serialise_until(now_ns);
        if self.flight.peek()?.0.at_ns > now_ns {
            return None;
        }
        self.flight.pop().map(|Reverse(flying)| flying.frame)
    }

    /// When to call `pop` again; nothing arrives before, though a loss may make the call find nothing.
    ///
    /// `None` while the line is empty.
    pub fn next_at(&self) -> Option<u64> {
        let flying = self.flight.peek().map(|flying| flying.0.at_ns);
        let waiting = (!self.queue.is_empty()).then(|| {
            self.head_done_ns
                .saturating_add(self.shape.delay_us.saturating_mul(1_000))
                .max(self.last_arrival_ns)
        });
        let ns = match (flying, waiting) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) => a,
            (None, b) => b?,
        };
        Some(ns.div_ceil(1_000))
    }

    /// Changes the line for every frame whose serialisation has not begun; delay and chance already for the
    /// one being serialised. A cut (`up: false`) loses all frames inside.
    pub fn set(&mut self, now_us: u64, shape: Shape) {
        self.serialise_until(now_us.saturating_mul(1_000));
        self.shape = shape;
        if !shape.up {
            self.counts.lost += (self.queue.len() + self.flight.len()) as u64;
            self.queue.clear();
            self.queued_bytes = 0;
            self.flight.clear();
        }
    }

    /// Moves every frame whose serialisation has ended by `now_ns` into flight.
    fn serialise_until(&mut self, now_ns: u64) {
        while self.head_done_ns <= now_ns {
            let Some(frame) = self.queue.pop_front() else {
                return;
            };
            self.queued_bytes -= frame.len();
            let done_ns = self.head_done_ns;
            if let Some(next) = self.queue.front() {
                self.head_done_ns = done_ns.saturating_add(self.shape.serialise_ns(next.len()));
            }
            self.launch(done_ns, frame);
        }
    }

    /// Applies chance to a serialised frame and puts it in flight.
    fn launch(&mut self, done_ns: u64, mut frame: Vec<u8>) {
        let shape = self.shape;
        if self.rng.chance(shape.loss_ppm) {
            self.counts.lost += 1;
            return;
        }
        if self.rng.chance(shape.corrupt_ppm) && !frame.is_empty() {
            let bit = self.rng.below(frame.len() as u64 * 8) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
            self.counts.corrupted += 1;
        }
        let mut at_ns = done_ns
            .saturating_add(shape.delay_us.saturating_mul(1_000))
            .max(self.last_arrival_ns);
        if self.rng.chance(shape.reorder_ppm) {
            let held_us = 1 + self.rng.below(shape.reorder_us.max(1));
            at_ns = at_ns.saturating_add(held_us.saturating_mul(1_000));
            self.counts.reordered += 1;
        } else {
            self.last_arrival_ns = at_ns;
        }
        self.counts.frames += 1;
        self.counts.bytes += frame.len() as u64;
        let copy = self.rng.chance(shape.duplicate_ppm).then(|| frame.clone());
        self.fly(at_ns, frame);
        if let Some(frame) = copy {
            self.counts.duplicated += 1;
            self.fly(at_ns, frame);
        }
    }

    fn fly(&mut self, at_ns: u64, frame: Vec<u8>) {
        let order = self.order;
        self.order += 1;
        self.flight.push(Reverse(Flying {
            at_ns,
            order,
            frame,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `len` bytes that starts with its number.
    fn numbered(number: u16, len: usize) -> Vec<u8> {
        let mut frame = vec![0; len.max(2)];
        frame[..2].copy_from_slice(&number.to_be_bytes());
        frame
    }

    fn number(frame: &[u8]) -> u16 {
        u16::from_be_bytes([frame[0], frame[1]])
    }

    /// Everything that arrives from now on, with its time, following `next_at`.
    fn drain(pipe: &mut Pipe) -> Vec<(u64, Vec<u8>)> {
        let mut arrived = Vec::new();
        while let Some(at) = pipe.next_at() {
            while let Some(frame) = pipe.pop(at) {
                arrived.push((at, frame));
            }
        }
        arrived
    }

    #[test]
    fn a_frame_takes_its_serialisation_and_the_delay() {
        let mut pipe = Pipe::new(Shape::new(8_000_000, 25_000), 1);
        pipe.push(100, numbered(0, 1_000));
        pipe.push(100, numbered(1, 500));
        assert_eq!(pipe.next_at(), Some(100 + 1_000 + 25_000));
        assert_eq!(pipe.pop(26_099), None);
        let times: Vec<u64> = drain(&mut pipe).iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [26_100, 26_600]);
    }

    #[test]
    fn a_rate_that_is_no_whole_number_of_microseconds_does_not_drift() {
        // 1,514 bytes at 100 Mbit/s are 121.12 µs.
        let mut shape = Shape::new(100_000_000, 0);
        shape.queue_bytes = usize::MAX;
        let mut pipe = Pipe::new(shape, 1);
        for i in 0..1_000 {
            pipe.push(0, numbered(i, 1_514));
        }
        assert_eq!(drain(&mut pipe).last().map(|(at, _)| *at), Some(121_120));
    }

    #[test]
    fn an_unlimited_line_keeps_nothing_back() {
        let mut pipe = Pipe::new(Shape::default(), 1);
        for i in 0..1_000 {
            pipe.push(5, numbered(i, 1_514));
        }
        assert_eq!(drain(&mut pipe).len(), 1_000);
        assert_eq!(pipe.counts().dropped_full, 0);
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_keeps_order() {
        let mut shape = Shape::new(1_000_000, 0);
        shape.queue_bytes = 10_000;
        let mut pipe = Pipe::new(shape, 1);
        for i in 0..20 {
            pipe.push(0, numbered(i, 1_000));
        }
        let got: Vec<u16> = drain(&mut pipe)
            .iter()
            .map(|(_, frame)| number(frame))
            .collect();
        assert_eq!(got, (0..10).collect::<Vec<u16>>());
        assert_eq!(pipe.counts().dropped_full, 10);
    }

    #[test]
    fn the_default_queue_is_a_tenth_of_a_second_but_never_tiny() {
        assert_eq!(
            Shape::new(100_000_000, 0).queue_bytes_default(),
            100_000_000 / 80
        );
        assert_eq!(Shape::new(1_000_000, 0).queue_bytes_default(), 64 * 1024);
    }

    #[test]
    fn chance_happens_about_as_often_as_asked_and_the_seed_repeats_it() {
        let mut shape = Shape::new(0, 1_000);
        shape.loss_ppm = 100_000;
        shape.reorder_ppm = 100_000;
        shape.duplicate_ppm = 100_000;
        shape.corrupt_ppm = 100_000;
        let run = |seed| {
            let mut pipe = Pipe::new(shape, seed);
            for i in 0..10_000 {
                pipe.push(u64::from(i) * 10, numbered(i, 100));
            }
            (drain(&mut pipe), pipe.counts())
        };
        let (frames, counts) = run(7);
        assert_eq!(
            counts.frames + counts.lost,
            10_000,
            "each frame arrives or is lost"
        );
        assert_eq!(frames.len() as u64, counts.frames + counts.duplicated);
        for seen in [
            counts.lost,
            counts.reordered,
            counts.duplicated,
            counts.corrupted,
        ] {
            assert!((700..1_300).contains(&seen), "{counts:?}");
        }
        assert_eq!(run(7), (frames, counts));
        assert_ne!(run(8).1, counts);
    }

    #[test]
    fn order_is_kept_without_reorder_even_when_the_delay_shrinks() {
        let mut pipe = Pipe::new(Shape::new(10_000_000, 50_000), 3);
        for i in 0..10 {
            pipe.push(0, numbered(i, 1_000));
        }
        pipe.set(4_000, Shape::new(10_000_000, 1_000));
        pipe.push(4_000, numbered(10, 1_000));
        let got: Vec<u16> = drain(&mut pipe)
            .iter()
            .map(|(_, frame)| number(frame))
            .collect();
        assert_eq!(got, (0..11).collect::<Vec<u16>>());
    }

    #[test]
    fn a_reordered_frame_is_overtaken() {
        let mut shape = Shape::new(0, 1_000);
        shape.reorder_ppm = 1_000_000;
        let mut pipe = Pipe::new(shape, 3);
        pipe.push(0, numbered(0, 100));
        shape.reorder_ppm = 0;
        pipe.serialise_until(0);
        pipe.set(0, shape);
        pipe.push(0, numbered(1, 100));
        let got: Vec<u16> = drain(&mut pipe)
            .iter()
            .map(|(_, frame)| number(frame))
            .collect();
        assert_eq!(got, [1, 0]);
    }

    #[test]
    fn a_cut_loses_what_is_inside_and_what_comes_until_it_is_mended() {
        let shape = Shape::new(8_000_000, 25_000);
        let mut pipe = Pipe::new(shape, 1);
        for i in 0..10 {
            pipe.push(0, numbered(i, 1_000));
        }
        pipe.set(5_000, Shape { up: false, ..shape });
        assert_eq!(pipe.next_at(), None);
        pipe.push(6_000, numbered(10, 1_000));
        pipe.set(7_000, shape);
        pipe.push(8_000, numbered(11, 1_000));
        let got = drain(&mut pipe);
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].0, number(&got[0].1)), (34_000, 11));
        assert_eq!(pipe.counts().lost, 11);
    }

    #[test]
    fn a_corrupted_frame_differs_in_one_bit() {
        let shape = Shape {
            corrupt_ppm: 1_000_000,
            ..Shape::default()
        };
        let mut pipe = Pipe::new(shape, 1);
        let frame = numbered(1, 60);
        pipe.push(0, frame.clone());
        let got = pipe.pop(0).expect("the frame arrives");
        let bits: u32 = got
            .iter()
            .zip(&frame)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!(bits, 1);
    }
}
