//! Whatever the device does wrong ends in a counter, a reset or an error, in bounded time, and no frame is lost track of.

use super::*;
use crate::soc::backplane::control::Stuck;
use crate::soc::backplane::model as backplane;

/// After whatever happened, frames go both ways.
fn assert_works(bench: &Bench, nic: &mut Nic, pool: &mut FramePool) {
    receive_all(nic, pool);
    bench.sent();
    for number in 0..200 {
        assert!(bench.deliver(&numbered(number)));
        assert_eq!(receive_all(nic, pool), [numbered(number)]);
        nic.transmit(filled(pool, &numbered(number))).unwrap();
        nic.flush(pool);
        assert_eq!(bench.sent(), [numbered(number)]);
    }
    nic.reclaim(pool);
}

#[test]
fn an_overrun_costs_a_reset_and_what_was_received_is_kept() {
    for bench in [Bench::card(), Bench::soc()] {
        let mut pool = pool(4 * RING_SLOTS);
        let total = pool.len();
        let mut nic = bench.nic(&mut pool);
        // More than ring and FIFO take.
        let mut number = 0;
        while bench.deliver(&numbered(number)) {
            number += 1;
        }
        assert!(number >= RING_SLOTS as u32 - 1);
        assert!(!bench.deliver(&numbered(0)), "it stays wedged");
        assert!(bench.interrupt());
        nic.acknowledge();
        let event = nic.poll(bench.now(), &mut pool);
        assert_eq!(event, Some(Event::Reset(Trouble::Overrun)));
        let frames = receive_all(&mut nic, &mut pool);
        assert_eq!(frames.len(), RING_SLOTS - 1);
        assert!(
            frames
                .iter()
                .zip(0..)
                .all(|(frame, number)| *frame == numbered(number))
        );
        assert_works(&bench, &mut nic, &mut pool);
        assert_eq!(nic.counters().overruns, 1);
        assert_eq!(pool.len(), total - (RING_SLOTS - 1));
    }
}

#[test]
fn a_flood_that_overruns_again_and_again_still_gets_frames_through() {
    let bench = Bench::soc();
    let mut pool = pool(4 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    for round in 1..=50 {
        while bench.deliver(&numbered(round)) {}
        nic.acknowledge();
        nic.poll(bench.now(), &mut pool);
        assert_eq!(receive_all(&mut nic, &mut pool).len(), RING_SLOTS - 1);
        assert_eq!(nic.counters().overruns, round);
    }
    assert_works(&bench, &mut nic, &mut pool);
}

#[test]
fn bad_frames_are_dropped_and_counted() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let total = pool.len();
    let mut nic = bench.nic(&mut pool);
    for flag in [
        HEADER_OVERFLOW,
        HEADER_CRC,
        HEADER_SYMBOL,
        HEADER_ODD,
        HEADER_LONG,
    ] {
        assert!(bench.deliver_flagged(&numbered(1), flag));
        assert!(bench.deliver(&numbered(2)));
    }
    assert_eq!(receive_all(&mut nic, &mut pool), vec![numbered(2); 5]);
    assert_eq!(nic.counters().bad, 5);
    // Longer than what was programmed: the device says so.
    assert!(bench.deliver(&[&OWN[..], &[7; 1513]].concat()));
    assert!(bench.deliver(&[&OWN[..], &[7; 1512]].concat()));
    assert_eq!(receive_all(&mut nic, &mut pool).len(), 1);
    assert_eq!(nic.counters().bad, 6);
    // Shorter than a header.
    assert!(bench.deliver(&[&OWN[..], &[7; 7]].concat()));
    assert!(bench.deliver(&[&OWN[..], &[7; 8]].concat()));
    assert_eq!(receive_all(&mut nic, &mut pool).len(), 1);
    assert_eq!(nic.counters().runts, 1);
    assert_eq!(pool.len(), total - (RING_SLOTS - 1));
    bench.pass(SECOND);
    nic.poll(bench.now(), &mut pool);
    assert_eq!(nic.counters().damaged, 1, "as the hardware counts");
}

#[test]
fn a_header_that_comes_late_is_waited_for_but_not_for_ever() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    bench.faults(|faults| faults.header_late_us = Some(5));
    assert!(bench.deliver(&numbered(1)));
    assert_eq!(receive_all(&mut nic, &mut pool), [numbered(1)]);
    bench.faults(|faults| faults.header_late_us = Some(u64::MAX));
    assert!(bench.deliver(&numbered(2)));
    bench.faults(|faults| faults.header_late_us = None);
    assert!(bench.deliver(&numbered(3)));
    let begun = bench.now();
    assert_eq!(receive_all(&mut nic, &mut pool), [numbered(3)]);
    assert!(bench.now() - begun <= 10);
    assert_eq!(nic.counters().headerless, 1);
    assert_works(&bench, &mut nic, &mut pool);
}

#[test]
fn lost_interrupts_lose_no_frame() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    bench.faults(|faults| faults.is_mute = true);
    for number in 0..100 {
        receive_all(&mut nic, &mut pool);
        assert!(!nic.has_work());
        assert!(bench.deliver(&numbered(number)));
        assert!(!bench.interrupt());
        // The main loop wakes for another reason.
        assert_eq!(receive_all(&mut nic, &mut pool), [numbered(number)]);
    }
    // An error that nobody tells is found within a second.
    bench.faults(|faults| faults.overrun = true);
    bench.deliver(&numbered(1));
    bench.pass(SECOND);
    assert!(bench.now() >= nic.poll_at());
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::Reset(Trouble::Overrun)));
}

#[test]
fn frames_that_come_while_the_processor_falls_asleep_are_seen() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    receive_all(&mut nic, &mut pool);
    nic.acknowledge();
    assert!(!nic.has_work());
    bench.deliver(&numbered(1));
    assert!(bench.interrupt(), "it wakes");
    nic.acknowledge();
    assert!(!bench.interrupt());
    assert!(
        nic.has_work(),
        "what came before the acknowledgement is seen"
    );
    assert_eq!(receive_all(&mut nic, &mut pool), [numbered(1)]);
}

#[test]
fn spurious_interrupts_cost_a_look() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    nic.acknowledge();
    bench.faults(|faults| faults.is_spurious = true);
    for _ in 0..1000 {
        assert!(bench.interrupt());
        assert_eq!(bench.accesses(|| nic.acknowledge()), 1);
        assert!(!nic.has_work());
        assert_eq!(nic.poll(bench.now(), &mut pool), None);
    }
    assert_works(&bench, &mut nic, &mut pool);
}

#[test]
fn descriptor_and_bus_errors_end_in_a_reset() {
    let errors = [
        ISTAT_DESCRIPTOR_READ,
        ISTAT_DATA_BUS,
        ISTAT_PROTOCOL,
        ISTAT_TX_UNDERFLOW,
    ];
    for status in errors {
        for is_receive in [true, false] {
            let bench = Bench::card();
            let mut pool = pool(3 * RING_SLOTS);
            let total = pool.len();
            let mut nic = bench.nic(&mut pool);
            nic.acknowledge();
            bench.faults(|faults| faults.dma_error = Some(status));
            if is_receive {
                bench.deliver(&numbered(1));
            } else {
                nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
                nic.flush(&mut pool);
            }
            assert!(bench.interrupt());
            nic.acknowledge();
            let event = nic.poll(bench.now(), &mut pool);
            assert_eq!(event, Some(Event::Reset(Trouble::Dma { status })));
            assert_eq!(nic.counters().discarded, u32::from(!is_receive));
            assert_works(&bench, &mut nic, &mut pool);
            assert_eq!(pool.len(), total - (RING_SLOTS - 1));
        }
    }
}

#[test]
fn a_card_that_is_not_bus_master_reports_errors_and_does_not_hang() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    if let Chip::Card(card) = &mut bench.0.borrow_mut().chip {
        card.config_write(4, Width::Half, 2);
    }
    nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
    nic.flush(&mut pool);
    if let Chip::Card(card) = &mut bench.0.borrow_mut().chip {
        // The test's own way in passes by the card's gate, so transmit it is.
        card.config_write(4, Width::Half, 6);
    }
    nic.acknowledge();
    let status = ISTAT_DESCRIPTOR_READ;
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::Reset(Trouble::Dma { status })));
    assert_works(&bench, &mut nic, &mut pool);
}

#[test]
fn a_transmitter_that_stands_still_is_reset() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    bench.faults(|faults| faults.transmit_stalls = true);
    for _ in 0..3 {
        nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
    }
    nic.flush(&mut pool);
    let begun = bench.now();
    let mut event = None;
    while event.is_none() && bench.now() < begun + 10 * SECOND {
        bench.pass(SECOND / 2);
        event = nic.poll(bench.now(), &mut pool);
    }
    assert_eq!(event, Some(Event::Reset(Trouble::TransmitStuck)));
    assert!((STUCK_US..STUCK_US + 2 * SECOND).contains(&(bench.now() - begun)));
    assert_eq!((nic.counters().stuck, nic.counters().discarded), (1, 3));
    bench.faults(|faults| faults.transmit_stalls = false);
    assert_works(&bench, &mut nic, &mut pool);
}

#[test]
fn a_transmitter_without_a_link_or_without_work_is_not_called_stuck() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    for _ in 0..10 {
        bench.pass(SECOND);
        assert_eq!(nic.poll(bench.now(), &mut pool), None);
    }
    bench.plug(false, 0);
    bench.pass(SECOND);
    assert_eq!(nic.poll(bench.now(), &mut pool), Some(Event::LinkDown));
    bench.faults(|faults| faults.transmit_stalls = true);
    nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
    nic.flush(&mut pool);
    for _ in 0..10 {
        bench.pass(SECOND);
        assert_eq!(nic.poll(bench.now(), &mut pool), None);
    }
}

#[test]
fn every_stuck_bit_at_start_is_an_error_and_no_frame_is_lost() {
    type Set = fn(&mut model::Faults);
    let cases: [(Set, Option<Wait>); 3] = [
        (|faults| faults.cam_sticks = true, Some(Wait::Cam)),
        (|faults| faults.mdio_sticks = true, Some(Wait::Mdio)),
        // The core's reset stops what does not stop by itself.
        (|faults| faults.disable_sticks = true, None),
    ];
    for (set, wait) in cases {
        let bench = Bench::card();
        let mut pool = pool(100);
        bench.faults(set);
        let begun = bench.now();
        let result = bench.try_nic(bench.config(), &mut pool);
        assert!(bench.now() - begun < 100_000, "{wait:?}");
        match wait {
            Some(wait) => {
                assert_eq!(result.err(), Some(Error::Timeout(wait)));
                assert_eq!(pool.len(), 100);
            }
            None => assert!(result.is_ok()),
        }
    }
    let bench = Bench::card();
    let mut pool = pool(100);
    bench.mac(|mac| mac.phy.reset_sticks = true);
    let error = bench.try_nic(bench.config(), &mut pool).err();
    assert_eq!(error, Some(Error::Timeout(Wait::PhyReset)));
}

#[test]
fn a_reset_that_sticks_takes_the_interface_down_until_it_succeeds() {
    type Set = fn(&mut backplane::Faults);
    let cases: [(Set, Stuck); 5] = [
        (|faults| faults.reject_sticks = true, Stuck::Reject),
        (|faults| faults.busy_sticks = true, Stuck::Busy),
        (|faults| faults.initiator_sticks = true, Stuck::Initiator),
        (|faults| faults.reset_sticks = true, Stuck::Reset),
        (|faults| faults.clock_sticks = true, Stuck::Up { found: 0 }),
    ];
    for (set, stuck) in cases {
        let bench = Bench::soc();
        let mut pool = pool(3 * RING_SLOTS);
        let total = pool.len();
        let mut nic = bench.nic(&mut pool);
        let set_faults = |set: Set| {
            if let Chip::Soc(soc) = &mut bench.0.borrow_mut().chip {
                set(&mut soc.cores[1].faults);
            }
        };
        set_faults(set);
        bench.faults(|faults| faults.overrun = true);
        bench.deliver(&numbered(1));
        nic.acknowledge();
        let begun = bench.now();
        let event = nic.poll(bench.now(), &mut pool);
        assert_eq!(event, Some(Event::Failed(Error::Core(stuck))));
        assert!(bench.now() - begun < 100_000, "{stuck:?}");
        // Down: nothing is taken, nothing is lost; buffers of a device that may still write stay where they are.
        assert_eq!(nic.room(), 0);
        assert!(
            nic.transmit(filled(&mut pool, &numbered(1)))
                .is_err_and(|full| {
                    pool.put(full.0);
                    true
                })
        );
        assert!(receive_all(&mut nic, &mut pool).is_empty());
        let held = if stuck == Stuck::Reset {
            RING_SLOTS - 1
        } else {
            0
        };
        assert_eq!(pool.len(), total - held, "{stuck:?}");
        // It is tried again each second, not more often.
        let failed = nic.counters().failed;
        for _ in 0..100 {
            nic.poll(bench.now() + 1, &mut pool);
        }
        assert_eq!(nic.counters().failed, failed);
        set_faults(|faults| *faults = backplane::Faults::default());
        bench.pass(SECOND);
        let event = nic.poll(bench.now(), &mut pool);
        assert_eq!(event, Some(Event::Reset(Trouble::Down)), "{stuck:?}");
        assert_works(&bench, &mut nic, &mut pool);
        assert_eq!(pool.len(), total - (RING_SLOTS - 1));
    }
}

#[test]
fn nonsense_in_a_status_register_is_not_followed() {
    // A slot that the ring does not have; one that was never shown.
    for place in [0xff8, 40 * 8] {
        let bench = Bench::card();
        // Buffers for ten receive slots.
        let mut pool = pool(10);
        let mut nic = bench.nic(&mut pool);
        bench.faults(|faults| faults.status_shows = Some(place));
        assert!(receive_all(&mut nic, &mut pool).is_empty());
        bench.faults(|faults| faults.status_shows = None);
        let event = nic.poll(bench.now(), &mut pool);
        assert_eq!(event, Some(Event::Reset(Trouble::Nonsense)), "{place}");
        (0..50).for_each(|_| pool.put(self::pool(1).get().unwrap()));
        bench.faults(|faults| faults.transmit_stalls = true);
        nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
        nic.flush(&mut pool);
        bench.faults(|faults| faults.status_shows = Some(place));
        nic.reclaim(&mut pool);
        bench.faults(|faults| *faults = model::Faults::default());
        let event = nic.poll(bench.now(), &mut pool);
        assert_eq!(event, Some(Event::Reset(Trouble::Nonsense)), "{place}");
        (0..50).for_each(|_| pool.put(self::pool(1).get().unwrap()));
        assert_works(&bench, &mut nic, &mut pool);
    }
}

#[test]
fn a_card_that_goes_away_takes_the_interface_down_in_bounded_time() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let set = |is_gone| {
        if let Chip::Card(card) = &mut bench.0.borrow_mut().chip {
            card.is_gone = is_gone;
        }
    };
    set(true);
    assert!(receive_all(&mut nic, &mut pool).is_empty());
    let begun = bench.now();
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::Failed(Error::Core(Stuck::Reset))));
    assert!(bench.now() - begun < 100_000);
    // And if it comes back, all goes on.
    set(false);
    bench.pass(SECOND);
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::Reset(Trouble::Down)));
    assert_works(&bench, &mut nic, &mut pool);
}
