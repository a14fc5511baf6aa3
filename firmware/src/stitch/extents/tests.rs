//! Extents against a plain list of optional bytes.

use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::*;

fn memory(blocks: usize) -> Vec<Block> {
    (0..blocks).map(|_| Block::EMPTY).collect()
}

/// The byte that belongs at a position.
fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn bytes_at(position: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| byte_at(position + i)).collect()
}

#[derive(Clone, Debug)]
enum Op {
    /// Distance from the model's middle, length, whether the bytes differ.
    Write(usize, usize, bool),
    Release(usize),
    Guarantee(usize),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0usize..90_000, 0usize..9_000, prop::bool::weighted(0.1)).prop_map(|(at, len, lie)| Op::Write(at, len, lie)),
        4 => (0usize..30_000).prop_map(Op::Release),
        1 => (0usize..30).prop_map(Op::Guarantee),
        1 => Just(Op::Clear),
    ]
}

/// What is held, byte by byte, from a base on.
struct Model {
    base: u64,
    bytes: std::collections::BTreeMap<u64, u8>,
}

fn run(start: u64, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut memory = memory(16);
    let mut pool = Pool::new(&mut memory);
    let mut extents = Extents::at(start);
    let mut model = Model {
        base: start,
        bytes: Default::default(),
    };
    for op in ops {
        match *op {
            Op::Write(at, len, lie) => {
                let position = (model.base + at as u64).saturating_sub(2_000);
                let mut bytes = bytes_at(position, len);
                if lie {
                    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
                }
                let before = extents.held_bytes();
                match extents.write(&mut pool, position, &bytes) {
                    Ok(written) => {
                        let (mut fresh, mut duplicate, mut conflict) = (0, 0, false);
                        for (i, &byte) in bytes.iter().enumerate() {
                            let place = position + i as u64;
                            if place < model.base {
                                duplicate += 1;
                            } else if let Some(&held) = model.bytes.get(&place) {
                                duplicate += 1;
                                conflict |= held != byte;
                            } else {
                                fresh += 1;
                                model.bytes.insert(place, byte);
                            }
                        }
                        prop_assert_eq!(
                            written,
                            Written {
                                fresh,
                                duplicate,
                                conflict
                            }
                        );
                    }
                    Err(_) => prop_assert_eq!(extents.held_bytes(), before),
                }
            }
            Op::Release(by) => {
                model.base += by as u64;
                let base = model.base;
                model.bytes.retain(|&place, _| place >= base);
                extents.release_to(&mut pool, base);
            }
            Op::Guarantee(blocks) => {
                if extents.guarantee(&mut pool, blocks).is_ok() {
                    prop_assert!(blocks <= pool.blocks_total());
                }
            }
            Op::Clear => {
                extents.clear(&mut pool);
                model.bytes.clear();
                prop_assert_eq!(pool.blocks_free(), pool.blocks_total());
                prop_assert_eq!(pool.blocks_unpromised(), pool.blocks_total());
            }
        }
        prop_assert_eq!(extents.base(), model.base);
        prop_assert_eq!(extents.held_bytes(), model.bytes.len());
        prop_assert_eq!(
            pool.blocks_free() + extents.blocks_held(),
            pool.blocks_total()
        );
        let mut contiguous = model.base;
        while model.bytes.contains_key(&contiguous) {
            contiguous += 1;
        }
        prop_assert_eq!(extents.contiguous_end(), contiguous);
        let next = model
            .bytes
            .range(contiguous..)
            .next()
            .map(|(&place, _)| place);
        prop_assert_eq!(extents.first_gap(model.base), (contiguous, next));
        // Read from every place where something begins to be held.
        let mut place = model.base;
        for (&held, _) in model.bytes.range(model.base..) {
            if held == place && place != model.base {
                place += 1;
                continue;
            }
            let run: Vec<u8> = (held..)
                .map_while(|p| model.bytes.get(&p).copied())
                .collect();
            let mut out = vec![0; run.len() + 1];
            prop_assert_eq!(extents.read(&pool, held, &mut out), run.len());
            prop_assert_eq!(&out[..run.len()], &run[..]);
            place = held + 1;
        }
    }
    extents.clear(&mut pool);
    prop_assert_eq!(pool.blocks_free(), pool.blocks_total());
    prop_assert_eq!(pool.blocks_unpromised(), pool.blocks_total());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn extents_hold_what_a_plain_list_holds(start in prop_oneof![Just(0u64), 0u64..u64::from(u32::MAX) * 8], ops in prop::collection::vec(op(), 1..40)) {
        run(start, &ops)?;
    }
}

#[test]
fn a_held_byte_is_never_overwritten() {
    let mut memory = memory(4);
    let mut pool = Pool::new(&mut memory);
    let mut extents = Extents::new();
    extents.write(&mut pool, 2, b"cd").unwrap();
    let written = extents.write(&mut pool, 0, b"abXXef").unwrap();
    assert_eq!(
        written,
        Written {
            fresh: 4,
            duplicate: 2,
            conflict: true
        }
    );
    let mut out = [0; 6];
    assert_eq!(extents.read(&pool, 0, &mut out), 6);
    assert_eq!(&out, b"abcdef");
}

#[test]
fn a_refused_write_takes_nothing() {
    let mut memory = memory(2);
    let mut pool = Pool::new(&mut memory);
    let mut extents = Extents::new();
    let three_blocks = vec![1; 2 * STITCH_BLOCK_BYTES + 1];
    assert_eq!(
        extents.write(&mut pool, 0, &three_blocks),
        Err(Refused::Blocks)
    );
    let limit = extents.limit();
    assert_eq!(
        extents.write(&mut pool, limit - 1, b"ab"),
        Err(Refused::Span)
    );
    assert_eq!(
        extents.write(&mut pool, u64::MAX, b"ab"),
        Err(Refused::Span)
    );
    let places = STITCH_INTERVALS as u64 - 1;
    for i in 0..places {
        extents.write(&mut pool, 2 * i + 1, b"x").unwrap();
    }
    assert_eq!(
        extents.write(&mut pool, 2 * places + 1, b"x"),
        Err(Refused::Intervals)
    );
    assert_eq!(extents.held_bytes(), STITCH_INTERVALS - 1);
    assert_eq!(extents.write(&mut pool, 0, b"x").unwrap().fresh, 1);
}

#[test]
fn a7_the_bytes_that_are_due_have_a_place_however_many_gaps_there_are() {
    let mut memory = memory(4);
    let mut pool = Pool::new(&mut memory);
    let mut extents = Extents::new();
    // None of them touches the first byte.
    for i in 1..200 {
        let _full = extents.write(&mut pool, 10 * i, b"x");
    }
    for i in 0..1000 {
        assert_eq!(extents.base(), i);
        extents
            .write(&mut pool, i, b"d")
            .expect("what is due is taken");
        let _full = extents.write(&mut pool, i + 5, b"x");
        extents.release_to(&mut pool, i + 1);
    }
}

#[test]
fn a_guarantee_holds_against_another_stream_that_takes_all_it_can() {
    let mut memory = memory(8);
    let mut pool = Pool::new(&mut memory);
    let (mut quiet, mut greedy) = (Extents::new(), Extents::new());
    quiet.guarantee(&mut pool, 3).unwrap();
    assert_eq!(greedy.guarantee(&mut pool, 6), Err(Refused::Blocks));
    let block = [7; STITCH_BLOCK_BYTES];
    let mut position = 0;
    while greedy.write(&mut pool, position, &block).is_ok() {
        position += STITCH_BLOCK_BYTES as u64;
    }
    assert_eq!(greedy.blocks_held(), 5);
    for i in 0..3 {
        quiet
            .write(&mut pool, i * STITCH_BLOCK_BYTES as u64, &block)
            .unwrap();
    }
    quiet.release_to(&mut pool, STITCH_BLOCK_BYTES as u64);
    assert_eq!(
        greedy.write(&mut pool, position, &block),
        Err(Refused::Blocks)
    );
    quiet
        .write(&mut pool, 3 * STITCH_BLOCK_BYTES as u64, &block)
        .unwrap();
    quiet.clear(&mut pool);
    greedy.clear(&mut pool);
    assert_eq!(pool.blocks_unpromised(), 8);
}

#[test]
fn slices_of_a_segment_span_two_blocks() {
    let mut memory = memory(4);
    let mut pool = Pool::new(&mut memory);
    let mut extents = Extents::at(4000);
    extents
        .write(&mut pool, 4000, &bytes_at(4000, 5000))
        .unwrap();
    let (head, tail) = extents.slices(&pool, 4000, 1460);
    assert_eq!((head.len(), tail.len()), (96, 1364));
    let both: Vec<u8> = head.iter().chain(tail).copied().collect();
    assert_eq!(both, bytes_at(4000, 1460));
    assert_eq!(extents.slices(&pool, 9000, 10).0.len(), 0);
}

#[test]
fn a7_pieces_of_48_bytes_in_the_worst_order_keep_within_blocks_intervals_and_work() {
    const PIECE: u64 = 48;
    const PIECES: u64 = 20_000;
    let mut memory = memory(STITCH_SPAN_BLOCKS + 8);
    let mut pool = Pool::new(&mut memory);
    let mut extents = Extents::new();
    let window = 64;
    extents.guarantee(&mut pool, window).unwrap();
    let mut missing: std::collections::BTreeSet<u64> = (0..PIECES).collect();
    let (mut looks, mut writes, mut refused, mut taken, mut rounds) = (0, 0, 0, 0, 0);
    let mut whole: Vec<u8> = Vec::new();
    while let Some(&first) = missing.first() {
        rounds += 1;
        assert!(rounds < PIECES, "what is due is taken in each round");
        // Every second piece from the back of the window to its front, each three times; then what is first.
        let ahead: Vec<u64> = missing
            .range(first..)
            .take_while(|&&piece| piece < first + window as u64 * STITCH_BLOCK_BYTES as u64 / PIECE)
            .copied()
            .filter(|piece| piece % 2 == 1)
            .collect();
        for piece in ahead.into_iter().rev().take(64).chain([first]) {
            for _again in 0..3 {
                let before = extents.intervals.len();
                let held = extents.held_bytes();
                let written = extents.write(
                    &mut pool,
                    piece * PIECE,
                    &bytes_at(piece * PIECE, PIECE as usize),
                );
                // One walk over the list, and at most the list moved once.
                looks += 2 * before + 1;
                writes += 1;
                match written {
                    Ok(written) => {
                        assert!(!written.conflict);
                        taken += written.fresh;
                        missing.remove(&piece);
                    }
                    Err(Refused::Intervals) => {
                        refused += 1;
                        assert_eq!(extents.held_bytes(), held, "a refused piece costs nothing");
                    }
                    Err(why @ (Refused::Span | Refused::Blocks)) => panic!("{why:?}"),
                }
                assert!(extents.intervals.len() <= STITCH_INTERVALS);
                assert!(extents.blocks_held() <= window + 1);
            }
        }
        let mut out = vec![0; 64 * 1024];
        let from = extents.base();
        let len = extents.read(&pool, from, &mut out);
        whole.extend(&out[..len]);
        extents.release_to(&mut pool, from + len as u64);
    }
    assert_eq!(whole, bytes_at(0, (PIECES * PIECE) as usize));
    assert_eq!(taken as u64, PIECES * PIECE, "each byte was taken once");
    assert!(refused > rounds, "the list was full: {refused} of {writes}");
    // The work goes with the pieces that came, not with their square: the list is what each may look at.
    assert!(looks <= writes * (2 * STITCH_INTERVALS + 1));
    extents.clear(&mut pool);
    assert_eq!(pool.blocks_unpromised(), pool.blocks_total());
}
