//! Two streams of one pool against byte maps: what is read is what was written first, and nobody has more than he may.

use std::collections::{BTreeMap, BTreeSet};

use firmware::budget::{STITCH_BLOCK_BYTES, STITCH_INTERVALS, STITCH_SPAN_BLOCKS};
use firmware::stitch::{Block, Extents, Loan, Pool, Refused, Written};

use crate::input::{Input, Numbers};

/// Operations of one input, at most: a longer one is only slower.
const OPERATIONS_MAX: usize = 64;
const BLOCKS: usize = 24;

/// A stream as plain runs of bytes.
struct Model {
    base: u64,
    /// What is held, by its first position; runs neither overlap nor touch.
    held: BTreeMap<u64, Vec<u8>>,
    /// Numbers of the blocks that the stream has been given.
    blocks: BTreeSet<u64>,
    guarantee: usize,
}

impl Model {
    fn held(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    /// Starts and ends of what is held, by position.
    fn runs(&self) -> Vec<(u64, u64)> {
        let runs = self.held.iter();
        runs.map(|(&start, bytes)| (start, start + bytes.len() as u64))
            .collect()
    }

    fn at(&self, position: u64) -> Option<u8> {
        let (start, bytes) = self.held.range(..=position).next_back()?;
        bytes.get((position - start) as usize).copied()
    }

    /// Takes bytes that lie at or behind the base; those that are held already stay.
    fn write(&mut self, position: u64, bytes: &[u8]) {
        let end = position + bytes.len() as u64;
        let touching: Vec<u64> = self
            .runs()
            .into_iter()
            .filter(|&(from, to)| from <= end && to >= position)
            .map(|(from, _)| from)
            .collect();
        let old: Vec<(u64, Vec<u8>)> = touching
            .into_iter()
            .filter_map(|from| Some((from, self.held.remove(&from)?)))
            .collect();
        let start = old.iter().map(|run| run.0).min();
        let start = start.map_or(position, |start| start.min(position));
        let last = old.iter().map(|(from, run)| from + run.len() as u64).max();
        let mut all = vec![0; (last.map_or(end, |last| last.max(end)) - start) as usize];
        all[(position - start) as usize..(end - start) as usize].copy_from_slice(bytes);
        for (from, run) in old {
            let place = (from - start) as usize;
            all[place..place + run.len()].copy_from_slice(&run);
        }
        self.held.insert(start, all);
    }

    fn release(&mut self, base: u64) {
        self.base = base;
        let behind = self.held.split_off(&base);
        let cut = self.held.pop_last().and_then(|(start, bytes)| {
            let rest = bytes.get((base - start) as usize..)?;
            (!rest.is_empty()).then(|| rest.to_vec())
        });
        self.held = behind;
        if let Some(rest) = cut {
            self.held.insert(base, rest);
        }
    }

    fn owed(&self) -> usize {
        self.guarantee.saturating_sub(self.blocks.len())
    }
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut memory: Vec<Block> = (0..BLOCKS).map(|_| Block::EMPTY).collect();
    let mut world = World {
        pool: Pool::new(&mut memory),
        streams: [0u64, 1].map(|number| {
            let base = match input.byte() % 3 {
                0 => 0,
                1 => u64::from(u32::MAX) - 5000 * number,
                _ => input.u64() >> 4,
            };
            let model = Model {
                base,
                held: BTreeMap::new(),
                blocks: BTreeSet::new(),
                guarantee: 0,
            };
            (Extents::at(base), model)
        }),
        loans: Vec::new(),
    };
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.operate(&mut input);
        world.check();
    }
    world.end();
}

struct World<'m> {
    pool: Pool<'m>,
    streams: [(Extents, Model); 2],
    loans: Vec<(Loan, u8)>,
}

fn block_of(position: u64) -> u64 {
    position / STITCH_BLOCK_BYTES as u64
}

impl World<'_> {
    fn operate(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let index = usize::from(op & 1);
        match op / 2 % 8 {
            0..4 => self.write(index, input),
            4 | 5 => self.release(index, input),
            6 => {
                let blocks = usize::from(input.byte() % 32);
                self.guarantee(index, blocks);
            }
            _ => match input.byte() % 4 {
                0 | 1 => self.borrow(input.byte()),
                2 => {
                    if let Some((loan, _)) = self.loans.pop() {
                        self.pool.give_back(loan);
                    }
                }
                _ => {
                    let (extents, model) = &mut self.streams[index];
                    extents.clear(&mut self.pool);
                    model.held.clear();
                    model.blocks.clear();
                    model.guarantee = 0;
                }
            },
        }
    }

    fn free(&self) -> usize {
        let held: usize = self
            .streams
            .iter()
            .map(|(_, model)| model.blocks.len())
            .sum();
        BLOCKS - held - self.loans.len()
    }

    fn promised(&self) -> usize {
        self.streams.iter().map(|(_, model)| model.owed()).sum()
    }

    fn write(&mut self, index: usize, input: &mut Input<'_>) {
        let (kind, at, len, salt) = (input.byte(), input.u16(), input.u16(), input.byte());
        let model = &self.streams[index].1;
        // Near the front, behind what is held, at a block's edge, or at the far end of the window.
        let window_end =
            (block_of(model.base) + STITCH_SPAN_BLOCKS as u64) * STITCH_BLOCK_BYTES as u64;
        let position = match kind % 8 {
            0..3 => (model.base + u64::from(at % 32_768)).saturating_sub(1024),
            3 => model.base + u64::from(at % 256),
            4 => model.runs().last().map_or(model.base, |run| run.1) + u64::from(at % 8),
            5 => (block_of(model.base) + u64::from(at % 16)) * STITCH_BLOCK_BYTES as u64,
            6 => model.base,
            _ => window_end - u64::from(at % 4096),
        };
        let len = usize::from(match kind / 8 % 4 {
            0 | 1 => len % 8,
            2 => len % 2000,
            _ => len % 9000,
        });
        let mut numbers = Numbers(u64::from(salt % 4));
        let bytes: Vec<u8> = (0..len).map(|_| numbers.next_u64() as u8).collect();
        let end = position + len as u64;
        let unpromised = self.free() - self.promised();
        let model = &self.streams[index].1;
        let start = position.max(model.base);
        let runs = model.runs();
        let is_new = start < end;
        let touches = |&(from, to): &(u64, u64)| from <= end && to >= start;
        let joins = runs.iter().any(touches);
        let places = STITCH_INTERVALS - usize::from(start != model.base);
        let missing = if is_new {
            (block_of(start)..=block_of(end - 1))
                .filter(|block| !model.blocks.contains(block))
                .count()
        } else {
            0
        };
        let expected = if is_new && end > window_end {
            Err(Refused::Span)
        } else if is_new && !joins && runs.len() >= places {
            Err(Refused::Intervals)
        } else if missing > unpromised + model.owed() {
            Err(Refused::Blocks)
        } else {
            let mut written = Written {
                fresh: 0,
                duplicate: (start.min(end) - position.min(end)) as usize,
                conflict: false,
            };
            for at in start..end.max(start) {
                match model.at(at) {
                    Some(held) => {
                        written.duplicate += 1;
                        written.conflict |= held != bytes[(at - position) as usize];
                    }
                    None => written.fresh += 1,
                }
            }
            Ok(written)
        };
        let (extents, model) = &mut self.streams[index];
        let found = extents.write(&mut self.pool, position, &bytes);
        assert_eq!(found, expected, "{len} bytes at {position}");
        if found.is_ok() && is_new {
            model.write(start, &bytes[(start - position) as usize..]);
            model.blocks.extend(block_of(start)..=block_of(end - 1));
        }
        // Lent in two parts at most, and short only at a gap or the second block's end.
        let model = &self.streams[index].1;
        let (head, tail) = self.streams[index].0.slices(&self.pool, position, 1460);
        let held = model
            .runs()
            .into_iter()
            .find(|&(from, to)| from <= position && position < to);
        let most = held.map_or(0, |(_, to)| (to - position).min(1460) as usize);
        assert_eq!(head.len() + tail.len(), most);
    }

    fn release(&mut self, index: usize, input: &mut Input<'_>) {
        let by = match input.byte() {
            small @ 0..128 => u64::from(small),
            128.. => u64::from(input.u16() % 20_000),
        };
        let (extents, model) = &mut self.streams[index];
        let base = model.base + by;
        extents.release_to(&mut self.pool, base);
        extents.release_to(&mut self.pool, base.saturating_sub(3));
        if by == 0 {
            return;
        }
        model.release(base);
        let first_kept = block_of(base) + u64::from(model.held() == 0);
        model.blocks.retain(|&block| block >= first_kept);
    }

    fn guarantee(&mut self, index: usize, blocks: usize) {
        let others = self.promised() - self.streams[index].1.owed();
        let room = self.free() - others;
        let (extents, model) = &mut self.streams[index];
        let more = blocks.saturating_sub(model.blocks.len());
        let found = extents.guarantee(&mut self.pool, blocks);
        let is_possible = more <= model.owed() || more <= room;
        assert_eq!(found.is_ok(), is_possible, "{blocks} blocks");
        if found.is_ok() {
            model.guarantee = blocks;
        }
    }

    fn borrow(&mut self, mark: u8) {
        let is_possible = self.free() > self.promised();
        let loan = self.pool.borrow_block();
        assert_eq!(loan.is_some(), is_possible);
        if let Some(loan) = loan {
            self.pool.lent_mut(&loan).fill(mark);
            self.loans.push((loan, mark));
        }
    }

    fn check(&self) {
        assert_eq!(self.pool.blocks_free(), self.free());
        assert_eq!(self.pool.blocks_unpromised(), self.free() - self.promised());
        for (extents, model) in &self.streams {
            assert_eq!(extents.base(), model.base);
            assert_eq!(extents.held_bytes(), model.held());
            assert_eq!(extents.blocks_held(), model.blocks.len());
            let runs = model.runs();
            assert!(runs.len() <= STITCH_INTERVALS);
            assert_eq!(extents.end(), runs.last().map_or(model.base, |run| run.1));
            let front = runs.first().filter(|run| run.0 == model.base);
            let contiguous = front.map_or(model.base, |run| run.1);
            assert_eq!(extents.contiguous_end(), contiguous);
            let mut gap = model.base;
            for &(from, to) in &runs {
                if gap < from {
                    assert_eq!(extents.first_gap(gap), (gap, Some(from)));
                }
                let mut out = vec![0; (to - from) as usize + 1];
                assert_eq!(
                    extents.read(&self.pool, from, &mut out),
                    (to - from) as usize
                );
                assert!(
                    out[..(to - from) as usize] == model.held[&from],
                    "other bytes than were written first"
                );
                gap = to;
            }
            assert_eq!(extents.first_gap(gap), (gap, None));
        }
        for (loan, mark) in &self.loans {
            assert!(self.pool.lent(loan).iter().all(|byte| byte == mark));
        }
    }

    fn end(mut self) {
        for (extents, _) in &mut self.streams {
            extents.clear(&mut self.pool);
        }
        for (loan, _) in self.loans.drain(..) {
            self.pool.give_back(loan);
        }
        assert_eq!(self.pool.blocks_free(), BLOCKS);
        assert_eq!(self.pool.blocks_unpromised(), BLOCKS);
    }
}
