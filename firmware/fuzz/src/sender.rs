//! The sender against a receiver written from the RFCs, over a line that loses, repeats and reorders as the input says.
//!
//! Every segment lies in what is available and in a window that was advertised, and a position has one sequence number.
//! When the line is good at last, all bytes and the FIN arrive, unless the receiver has lied.

use std::collections::{BTreeMap, VecDeque};

use firmware::stitch::{AckInfo, AckOutcome, Kind, Sender, SenderConfig, Transmit};
use smoltcp::time::{Duration, Instant};

use crate::input::Input;

/// Operations of one input, at most: a longer one is only slower.
const OPERATIONS_MAX: usize = 160;
/// Bytes that become available at once, at most.
const STEP_BYTES_MAX: u64 = 12_000;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let first_seq = input.u32();
    let mss = [1, 536, 1460, 100][usize::from(setup % 4)];
    let shift = setup / 4 % 4;
    let sack = setup & 16 == 0;
    let mut world = World {
        sender: Sender::new(
            {
                let window = u32::from(input.u16()) << shift;
                let mut config = SenderConfig::new(first_seq, mss, window, shift, sack);
                config.first_position = u64::from(input.byte()) << 28;
                config.give_up = Duration::from_secs(1_000_000);
                config
            },
            Instant::from_secs(1),
        ),
        now: Instant::from_secs(1),
        first_seq,
        first_position: 0,
        mss,
        available: 0,
        finished: false,
        edge: 0,
        window: 0,
        shift,
        sack,
        next: 0,
        beyond: BTreeMap::new(),
        fin_at: None,
        fin_arrived: false,
        line: VecDeque::new(),
        is_honest: true,
    };
    world.first_position = world.sender.acked_position();
    world.edge = {
        // What `new` was told: the first window counts from the first byte.
        let mut again = Input::new(data);
        again.byte();
        again.u32();
        u64::from(again.u16()) << shift
    };
    world.window = (world.edge >> shift) as u16;
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operate(&mut input);
    }
    world.end();
}

/// Offsets count from the sender's first byte.
struct World {
    sender: Sender,
    now: Instant,
    first_seq: u32,
    first_position: u64,
    mss: u16,
    available: u64,
    finished: bool,
    /// Highest offset that was ever advertised.
    edge: u64,
    window: u16,
    shift: u8,
    sack: bool,
    /// The receiver's next offset.
    next: u64,
    /// What came ahead: starts and ends; they neither overlap nor touch.
    beyond: BTreeMap<u64, u64>,
    fin_at: Option<u64>,
    fin_arrived: bool,
    /// Segments under way.
    line: VecDeque<Transmit>,
    /// The receiver has told nothing but the truth.
    is_honest: bool,
}

impl World {
    fn operate(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 | 1 => {
                for _ in 0..=input.byte() % 16 {
                    self.transmit();
                }
            }
            2 | 3 => {
                for _ in 0..=input.byte() % 8 {
                    self.deliver(0);
                }
            }
            4 => {
                let place = usize::from(input.byte());
                self.deliver(place);
            }
            5 => {
                let place = usize::from(input.byte()) % self.line.len().max(1);
                let _lost = self.line.remove(place);
            }
            6 => {
                let place = usize::from(input.byte()) % self.line.len().max(1);
                if let Some(&segment) = self.line.get(place)
                    && self.line.len() < 256
                {
                    self.line.push_back(segment);
                }
            }
            7 => self.acknowledge(),
            8 => self.now += Duration::from_micros(u64::from(input.u16()) * 64),
            9 => {
                let by = u64::from(input.u16()) % STEP_BYTES_MAX;
                if !self.finished && self.available < 1 << 17 {
                    self.available += if self.mss == 1 { by % 64 } else { by };
                    let position = self.first_position + self.available;
                    self.sender.set_available(position);
                }
                match input.byte() {
                    0..16 => self.sender.flush(),
                    16..24 => {
                        self.sender.finish();
                        self.finished = true;
                    }
                    24.. => {}
                }
            }
            10 => {
                // The window changes; it may close, and a rude receiver takes it back.
                self.window = input.u16() >> (input.byte() % 16);
                self.acknowledge();
            }
            _ => self.lie(input),
        }
        assert!(self.sender.acked_position() <= self.sender.sent_position());
        assert!(self.sender.sent_position() <= self.first_position + self.available);
    }

    fn transmit(&mut self) -> bool {
        let Some(segment) = self.sender.poll_transmit(self.now) else {
            // Asked again at the same time it has nothing either: else a caller would turn for ever.
            return false;
        };
        if segment.kind == Kind::Probe {
            assert_eq!((segment.len, segment.fin), (0, false));
            assert_eq!(segment.seq, self.sender.unacked_seq().wrapping_sub(1));
        } else {
            let offset = segment.position - self.first_position;
            assert_eq!(self.first_seq.wrapping_add(offset as u32), segment.seq);
            assert!(segment.len <= self.mss && (segment.len > 0 || segment.fin));
            let end = offset + u64::from(segment.len);
            assert!(end <= self.available, "bytes that are not there");
            assert!(
                segment.position >= self.sender.acked_position(),
                "bytes that may be released"
            );
            assert!(!segment.fin || self.finished && end == self.available);
            assert!(
                !self.is_honest || end + u64::from(segment.fin) <= self.edge,
                "beyond every window that was advertised"
            );
        }
        if self.line.len() < 256 {
            self.line.push_back(segment);
        }
        true
    }

    /// The segment at `place` of the line arrives.
    fn deliver(&mut self, place: usize) {
        let place = place % self.line.len().max(1);
        let Some(segment) = self.line.remove(place) else {
            return;
        };
        if segment.kind != Kind::Probe {
            let offset = segment.position - self.first_position;
            let end = offset + u64::from(segment.len);
            self.take(offset.max(self.next), end);
            if segment.fin {
                assert!(self.fin_at.is_none_or(|at| at == end), "the FIN moved");
                self.fin_at = Some(end);
            }
            self.fin_arrived |= self.fin_at == Some(self.next);
        }
        self.acknowledge();
    }

    /// The receiver takes these offsets.
    fn take(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut low, mut high) = (start, end);
        self.beyond.retain(|&from, to| {
            let joins = from <= end && *to >= start;
            if joins {
                low = low.min(from);
                high = high.max(*to);
            }
            !joins
        });
        if low == self.next {
            self.next = high;
        } else {
            self.beyond.insert(low, high);
        }
    }

    fn acknowledge(&mut self) {
        let next = self.next + u64::from(self.fin_arrived);
        self.edge = self.edge.max(next + (u64::from(self.window) << self.shift));
        let seq = |offset: u64| self.first_seq.wrapping_add(offset as u32);
        let blocks = self.beyond.iter().take(4);
        let sack: Vec<_> = blocks
            .map(|(&start, &end)| (seq(start), seq(end)))
            .collect();
        let info = AckInfo {
            seq: 1,
            ack: seq(next),
            window: self.window,
            sack: if self.sack { &sack } else { &[] },
            payload_len: 0,
            fin: false,
        };
        let outcome = self.sender.on_ack(self.now, &info);
        assert!(!self.is_honest || outcome != AckOutcome::NeverSent);
    }

    /// Any numbers around those that count.
    fn lie(&mut self, input: &mut Input<'_>) {
        self.is_honest = false;
        let kind = input.byte();
        let mut near = || match kind % 4 {
            0 => input.u32(),
            1 => self
                .sender
                .next_seq()
                .wrapping_add_signed(i32::from(input.byte() as i8)),
            2 => self
                .sender
                .unacked_seq()
                .wrapping_add(u32::from(input.u16())),
            _ => self
                .sender
                .unacked_seq()
                .wrapping_add_signed(i32::from(input.byte() as i8)),
        };
        let ack = near();
        let sack = [(near(), near()), (near(), near())];
        let info = AckInfo {
            seq: u32::from(kind),
            ack,
            window: input.u16(),
            sack: &sack[..usize::from(kind / 4 % 3)],
            payload_len: usize::from(kind & 64),
            fin: kind & 128 != 0,
        };
        let nxt = self.sender.next_seq();
        let outcome = self.sender.on_ack(self.now, &info);
        if (nxt.wrapping_sub(ack) as i32) < 0 {
            assert_eq!(outcome, AckOutcome::NeverSent);
        }
    }

    /// Nothing is lost any more and time goes on: it ends.
    fn end(mut self) {
        self.sender.finish();
        self.finished = true;
        self.line.clear();
        self.window = self.window.max(20_000);
        self.acknowledge();
        let mut turns = 0;
        while !self.sender.is_done() {
            turns += 1;
            let mut burst = 0;
            while self.transmit() {
                burst += 1;
                assert!(burst < 100_000, "it never stops sending");
                if self.line.len() >= 64 {
                    break;
                }
            }
            if !self.is_honest {
                // Who was lied to need not end well; he has to be asked no more than he says.
                if turns > 64 {
                    return;
                }
            }
            assert!(turns < 20_000, "it never ends");
            if self.line.is_empty() {
                if self.sender.is_done() || self.sender.dead() {
                    return;
                }
                match self.sender.poll_at() {
                    Some(at) => self.now = at.max(self.now + Duration::from_micros(1)),
                    None => {
                        assert!(!self.is_honest, "it waits for nothing");
                        return;
                    }
                }
            }
            self.now += Duration::from_millis(10);
            while !self.line.is_empty() {
                self.deliver(0);
            }
        }
        if self.is_honest {
            assert!(self.fin_arrived && self.next == self.available);
            assert_eq!(
                self.sender.acked_position(),
                self.first_position + self.available
            );
        }
    }
}
