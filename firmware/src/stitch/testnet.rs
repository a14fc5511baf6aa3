//! A network of virtual time for the tests of this module: two lines, and an independent receiver.

use std::collections::{BTreeMap, BinaryHeap};
use std::vec::Vec;

use smoltcp::time::{Duration, Instant};

/// Small seeded generator (SplitMix64).
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }
}

/// What one direction of a link does to frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineConfig {
    pub(super) bits_per_second: u64,
    pub(super) delay: Duration,
    /// Drop-tail queue, bytes.
    pub(super) queue: u64,
    pub(super) loss_ppm: u32,
    pub(super) duplicate_ppm: u32,
    /// Share of frames with which a burst of losses begins, and its length.
    pub(super) burst_ppm: u32,
    pub(super) burst: u32,
    /// Share of frames that are held up, and by how much at most.
    pub(super) reorder_ppm: u32,
    pub(super) reorder_by: Duration,
}

impl LineConfig {
    pub(super) fn new(mbit: u64, delay_us: u64) -> Self {
        LineConfig {
            bits_per_second: mbit * 1_000_000,
            delay: Duration::from_micros(delay_us),
            queue: 200_000,
            loss_ppm: 0,
            duplicate_ppm: 0,
            burst_ppm: 0,
            burst: 0,
            reorder_ppm: 0,
            reorder_by: Duration::ZERO,
        }
    }
}

struct InFlight<T> {
    at: Instant,
    order: u64,
    item: T,
}

impl<T> PartialEq for InFlight<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<T> Eq for InFlight<T> {}
impl<T> PartialOrd for InFlight<T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for InFlight<T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// One direction of a link.
pub(super) struct Line<T> {
    config: LineConfig,
    busy_until: Instant,
    order: u64,
    heap: BinaryHeap<InFlight<T>>,
    burst_left: u32,
    pub(super) dropped: u64,
}

impl<T: Clone> Line<T> {
    pub(super) fn new(config: LineConfig) -> Self {
        Line {
            config,
            busy_until: Instant::ZERO,
            order: 0,
            heap: BinaryHeap::new(),
            burst_left: 0,
            dropped: 0,
        }
    }

    pub(super) fn send(&mut self, now: Instant, rng: &mut Rng, bytes: usize, item: T) {
        let start = self.busy_until.max(now);
        let backlog = (start - now).total_micros() * self.config.bits_per_second / 8_000_000;
        if self.burst_left == 0 && self.config.burst_ppm > 0 && rng.chance(self.config.burst_ppm) {
            self.burst_left = self.config.burst;
        }
        let in_burst = self.burst_left > 0;
        self.burst_left = self.burst_left.saturating_sub(1);
        if in_burst || backlog > self.config.queue || rng.chance(self.config.loss_ppm) {
            self.dropped += 1;
            return;
        }
        // 24 bytes of preamble, FCS and gap, as on Ethernet.
        let wire =
            Duration::from_micros((bytes as u64 + 24) * 8_000_000 / self.config.bits_per_second);
        self.busy_until = start + wire;
        let copies = 1 + usize::from(rng.chance(self.config.duplicate_ppm));
        for _ in 0..copies {
            let mut at = self.busy_until + self.config.delay;
            if rng.chance(self.config.reorder_ppm) {
                at += Duration::from_micros(rng.below(self.config.reorder_by.total_micros() + 1));
            }
            self.order += 1;
            self.heap.push(InFlight {
                at,
                order: self.order,
                item: item.clone(),
            });
        }
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|first| first.at)
    }

    pub(super) fn receive(&mut self, now: Instant) -> Option<T> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|first| first.item)
    }
}

/// A data segment of the sender under test; its bytes are a function of the position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    pub(super) seq: u32,
    pub(super) position: u64,
    pub(super) len: u32,
    pub(super) fin: bool,
}

/// An acknowledgement.
#[derive(Clone, Debug)]
pub(super) struct Ack {
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) sack: Vec<(u32, u32)>,
}

/// A receiver written from the RFCs, sharing nothing with the code under test.
pub(super) struct Receiver {
    first_seq: u32,
    /// Position wanted next.
    pub(super) next: u64,
    /// Out of order: start and end by position.
    beyond: BTreeMap<u64, u64>,
    /// Starts of blocks, the latest first.
    recent: Vec<u64>,
    pub(super) sack: bool,
    pub(super) dsack: bool,
    pub(super) shift: u8,
    pub(super) buffer: u64,
    /// Bytes the application has read.
    pub(super) read: u64,
    pub(super) reads: bool,
    /// Highest position ever advertised.
    edge: u64,
    fin_at: Option<u64>,
    pub(super) finished: bool,
    ack_at: Option<Instant>,
    pub(super) ack_delay: Duration,
    unacked: u32,
    pub(super) ack_every: u32,
    /// Data segments that brought nothing new.
    pub(super) useless: u64,
    pub(super) probes: u64,
}

impl Receiver {
    pub(super) fn new(first_seq: u32, sack: bool, buffer: u64, shift: u8) -> Self {
        Receiver {
            first_seq,
            next: 0,
            beyond: BTreeMap::new(),
            recent: Vec::new(),
            sack,
            dsack: sack,
            shift,
            buffer,
            read: 0,
            reads: true,
            edge: buffer,
            fin_at: None,
            finished: false,
            ack_at: None,
            ack_delay: Duration::from_millis(40),
            unacked: 0,
            ack_every: 2,
            useless: 0,
            probes: 0,
        }
    }

    fn seq_of(&self, position: u64) -> u32 {
        self.first_seq.wrapping_add(position as u32)
    }

    pub(super) fn ack(&mut self, duplicate: Option<(u64, u64)>) -> Ack {
        self.ack_at = None;
        self.unacked = 0;
        if self.reads {
            self.read = self.next;
        }
        let free = self.buffer.saturating_sub(self.next - self.read);
        let window = (free >> self.shift).min(65_535) as u16;
        let ack_position = self.next + u64::from(self.finished);
        self.edge = self
            .edge
            .max(ack_position + (u64::from(window) << self.shift));
        let mut sack = Vec::new();
        if self.sack {
            if let (true, Some((start, end))) = (self.dsack, duplicate) {
                sack.push((self.seq_of(start), self.seq_of(end)));
            }
            for start in &self.recent {
                if sack.len() < 3
                    && let Some(&end) = self.beyond.get(start)
                {
                    sack.push((self.seq_of(*start), self.seq_of(end)));
                }
            }
        }
        Ack {
            ack: self.seq_of(ack_position),
            window,
            sack,
        }
    }

    pub(super) fn on_data(&mut self, now: Instant, data: Data) -> Option<Ack> {
        if data.len == 0 && !data.fin {
            self.probes += 1;
            return Some(self.ack(None));
        }
        assert_eq!(
            self.seq_of(data.position),
            data.seq,
            "a sequence number and its position"
        );
        let (start, end) = (data.position, data.position + u64::from(data.len));
        assert!(
            end + u64::from(data.fin) <= self.edge,
            "beyond the right edge: {end} > {}",
            self.edge
        );
        if data.fin {
            assert!(self.fin_at.is_none_or(|at| at == end), "FIN moved");
            self.fin_at = Some(end);
        }
        assert!(self.fin_at.is_none_or(|at| end <= at), "bytes after FIN");
        let old = (self.next, self.held());
        if end <= self.next {
            let fin_new = data.fin && !self.finished;
            if !fin_new {
                self.useless += 1;
                return Some(self.ack(Some((start, end))));
            }
        } else if start <= self.next {
            self.next = end;
        } else {
            // Merge with what is there.
            let (mut low, mut high) = (start, end);
            let keys: Vec<u64> = self.beyond.keys().copied().collect();
            for key in keys {
                let key_end = self.beyond[&key];
                if key <= high && key_end >= low {
                    low = low.min(key);
                    high = high.max(key_end);
                    self.beyond.remove(&key);
                }
            }
            self.beyond.insert(low, high);
            self.recent
                .retain(|start| *start != low && self.beyond.contains_key(start));
            self.recent.insert(0, low);
        }
        while let Some((&key, &key_end)) = self.beyond.first_key_value() {
            if key > self.next {
                break;
            }
            self.next = self.next.max(key_end);
            self.beyond.remove(&key);
        }
        if self.fin_at == Some(self.next) {
            self.finished = true;
        }
        if old == (self.next, self.held()) && !self.finished {
            self.useless += 1;
            return Some(self.ack(Some((start, end))));
        }
        let in_order = old.1 == 0 && self.beyond.is_empty();
        self.unacked += 1;
        if !in_order || self.finished || self.unacked >= self.ack_every {
            return Some(self.ack(None));
        }
        self.ack_at.get_or_insert(now + self.ack_delay);
        None
    }

    fn held(&self) -> u64 {
        self.beyond.iter().map(|(start, end)| end - start).sum()
    }

    pub(super) fn ack_at(&self) -> Option<Instant> {
        self.ack_at
    }

    /// Forgets what came out of order, against its own SACK (RFC 2018, 8).
    pub(super) fn renege(&mut self) {
        self.beyond.clear();
        self.recent.clear();
    }
}
