//! Frames of several parts, sent from where they lie.

use super::*;
use crate::dma::Held;

type Store = Held<64, 1024>;

/// Held bytes, known to the memory.
fn store(bench: &Bench) -> Store {
    let memory = Box::leak(Box::new([[0; 1024]; 64]));
    let (address, bytes) = (memory.as_ptr() as usize, 64 * 1024);
    let mut store = Store::new(memory);
    for offset in (0..bytes).step_by(1024) {
        let part = store.write(offset, 1024).unwrap();
        part.iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = ((offset + at) / 7) as u8);
    }
    bench.0.borrow().memory.add(address, bytes);
    store
}

fn head(pool: &mut FramePool) -> Frame {
    filled(pool, &[0x40; 54])
}

#[test]
fn held_bytes_go_out_behind_their_head_and_come_back() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let mut store = store(&bench);
    // Long enough for the ring to wrap, from odd places, over block borders.
    for round in 0..200 {
        let (first, second) = (round * 131, 1000 + round * 17);
        let mut pieces = heapless::Vec::new();
        for (offset, length) in [(first, 700), (second, 33)] {
            pieces.push(store.lend(offset, length).unwrap()).unwrap();
        }
        nic.transmit_parts(head(&mut pool), &mut pieces).unwrap();
        assert!(pieces.is_empty());
        nic.flush(&mut pool);
        let held = store.bytes();
        let want = [
            &[0x40; 54][..],
            &held[first..first + 700],
            &held[second..second + 33],
        ]
        .concat();
        assert_eq!(bench.sent(), [want]);
        assert!(store.write(first, 1).is_none(), "not before it is back");
        nic.reclaim(&mut pool);
        while let Some(piece) = nic.take_sent_piece() {
            store.give_back(piece).unwrap();
        }
        assert!(store.write(first, 700).is_some());
    }
    assert_eq!(nic.counters().sent, 200, "a frame counts once");
    assert_eq!(pool.len(), 2 * RING_SLOTS - (RING_SLOTS - 1));
}

#[test]
fn a_retransmission_is_a_second_loan() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let mut store = store(&bench);
    for _ in 0..2 {
        let mut pieces = heapless::Vec::new();
        pieces.push(store.lend(64, 640).unwrap()).unwrap();
        nic.transmit_parts(head(&mut pool), &mut pieces).unwrap();
    }
    nic.flush(&mut pool);
    let sent = bench.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0], sent[1]);
    nic.reclaim(&mut pool);
    for _ in 0..2 {
        assert!(store.write(64, 1).is_none());
        store.give_back(nic.take_sent_piece().unwrap()).unwrap();
    }
    assert!(store.write(64, 1).is_some());
}

#[test]
fn what_finds_no_room_or_is_no_frame_comes_back_whole() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let mut store = store(&bench);
    let mut refused = |nic: &mut Nic, head: Frame, lengths: &[usize]| {
        let mut pieces = heapless::Vec::new();
        for &length in lengths {
            pieces.push(store.lend(0, length).unwrap()).unwrap();
        }
        let length = head.length();
        let Err(Full(head)) = nic.transmit_parts(head, &mut pieces) else {
            panic!("taken")
        };
        assert_eq!((head.length(), pieces.len()), (length, lengths.len()));
        for piece in pieces {
            store.give_back(piece).unwrap();
        }
        head
    };
    // Too long, too short, no header.
    let frame = head(&mut pool);
    let frame = refused(&mut nic, frame, &[1464, 1]);
    let mut frame = refused(&mut nic, frame, &[5]);
    frame.set_length(13);
    let mut frame = refused(&mut nic, frame, &[100]);
    frame.set_length(54);
    while nic.room() > 2 {
        nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
    }
    refused(&mut nic, frame, &[100, 100]);
    assert_eq!(nic.room(), 2);
    nic.flush(&mut pool);
    assert_eq!(bench.sent().len(), RING_SLOTS - 3);
}

#[test]
fn pieces_that_a_reset_takes_back_are_given_back_once() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let mut store = store(&bench);
    bench.faults(|faults| faults.transmit_stalls = true);
    for _ in 0..10 {
        let mut pieces = heapless::Vec::new();
        pieces.push(store.lend(64, 640).unwrap()).unwrap();
        nic.transmit_parts(head(&mut pool), &mut pieces).unwrap();
    }
    nic.flush(&mut pool);
    bench.faults(|faults| {
        faults.transmit_stalls = false;
        faults.overrun = true;
    });
    assert!(!bench.deliver(&numbered(1)));
    nic.acknowledge();
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::Reset(Trouble::Overrun)));
    assert_eq!(nic.counters().discarded, 10);
    for _ in 0..10 {
        store.give_back(nic.take_sent_piece().unwrap()).unwrap();
    }
    assert!(nic.take_sent_piece().is_none());
    assert!(store.write(64, 640).is_some());
    assert_eq!(pool.len(), 3 * RING_SLOTS - (RING_SLOTS - 1));
}

#[test]
fn pieces_that_nobody_fetches_hold_the_ring_up_and_break_nothing() {
    let bench = Bench::card();
    let mut pool = pool(4 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let mut store = store(&bench);
    let mut taken = 0;
    for _ in 0..4 * RING_SLOTS {
        let mut pieces = heapless::Vec::new();
        pieces.push(store.lend(64, 640).unwrap()).unwrap();
        match nic.transmit_parts(head(&mut pool), &mut pieces) {
            Ok(()) => taken += 1,
            Err(Full(frame)) => pool.put(frame),
        }
        for piece in pieces {
            store.give_back(piece).unwrap();
        }
        nic.flush(&mut pool);
        nic.reclaim(&mut pool);
    }
    // It waits for us, so it is not called stuck.
    assert_eq!(nic.poll(bench.now() + 10 * SECOND, &mut pool), None);
    assert_eq!(nic.poll(bench.now() + 20 * SECOND, &mut pool), None);
    assert!(nic.room() < 2);
    let mut back = 0;
    while back < taken {
        let piece = nic.take_sent_piece().expect("all of them");
        store.give_back(piece).unwrap();
        back += 1;
        nic.reclaim(&mut pool);
    }
    assert!(store.write(64, 640).is_some());
}
