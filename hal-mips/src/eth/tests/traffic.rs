//! Bring-up and plain traffic.

use super::*;

#[test]
fn bring_up_programs_the_device_as_the_sheet_says() {
    for (bench, mdio, control, external) in [
        (Bench::card(), 0x8d, 0xe1, 0),
        (Bench::soc(), 0x94, 0x01, ENET_EXTERNAL_PHY),
    ] {
        let mut pool = pool(100);
        let nic = bench.nic(&mut pool);
        assert_eq!(nic.mac(), OWN);
        assert_eq!(nic.link(), Some(FULL));
        assert_eq!(pool.len(), 100 - (RING_SLOTS - 1), "one slot stays empty");
        assert_eq!(bench.read(MDIO_CTRL), mdio);
        assert_eq!(bench.read(MAC_CTRL), control);
        assert_eq!(bench.read(ENET_CTRL), ENET_ENABLE | external);
        assert_eq!(bench.read(RCV_LAZY), 0x0100_0000);
        assert_eq!(bench.read(RXMAXLEN), 1522);
        assert_eq!(bench.read(TX_CTRL), TX_DUPLEX);
        assert_eq!(bench.read(DMARX_CTRL), 0x3d, "the frame at offset 30");
        assert_eq!(bench.read(DMARX_PTR), 63 * 8);
        assert_eq!(bench.read(CAM_CTRL) & (CAM_ENABLE | CAM_BUSY), CAM_ENABLE);
    }
}

#[test]
fn what_is_no_ethernet_core_or_cannot_be_meant_is_refused() {
    let bench = Bench::soc();
    let mut pool = pool(100);
    if let Chip::Soc(soc) = &mut bench.0.borrow_mut().chip {
        soc.cores[1] = soc.cores[5].clone();
    }
    let error = bench.try_nic(bench.config(), &mut pool).err();
    let found = 0x4243_8129;
    assert_eq!(error, Some(Error::NotEthernet { found }));
    let bench = Bench::card();
    let good = bench.config();
    for (config, error) in [
        (
            Config {
                mac: [1, 0, 0, 0, 0, 0],
                ..good
            },
            ConfigError::Mac,
        ),
        (
            Config {
                mac: [0; 6],
                ..good
            },
            ConfigError::Mac,
        ),
        (
            Config {
                phy: NO_PHY,
                ..good
            },
            ConfigError::Phy { found: 31 },
        ),
        (
            Config {
                backplane_hz: 0,
                ..good
            },
            ConfigError::Clock,
        ),
    ] {
        let found = bench.try_nic(config, &mut pool).err();
        assert_eq!(found, Some(Error::Config(error)));
    }
    assert_eq!(pool.len(), 100);
}

#[test]
fn the_rings_wrap_many_times_and_lose_nothing() {
    for bench in [Bench::card(), Bench::soc()] {
        let mut pool = pool(3 * RING_SLOTS);
        let total = pool.len();
        let mut nic = bench.nic(&mut pool);
        let mut number = 0;
        while number < 5_000 {
            let burst = number % 61 + 1;
            for index in number..number + burst {
                assert!(bench.deliver(&numbered(index)));
            }
            nic.reclaim(&mut pool);
            let mut seen = 0;
            while let Ok(frame) = nic.receive(&mut pool) {
                assert_eq!(frame.bytes(), numbered(number + seen));
                assert_eq!(frame.bytes().as_ptr() as usize % 4, 2, "IP is aligned");
                nic.transmit(frame).unwrap();
                seen += 1;
            }
            assert_eq!(seen, burst);
            nic.flush(&mut pool);
            let sent = bench.sent();
            assert_eq!(sent.len(), burst as usize);
            assert!(
                sent.iter()
                    .zip(number..)
                    .all(|(frame, number)| *frame == numbered(number))
            );
            number += burst;
        }
        nic.reclaim(&mut pool);
        assert_eq!(pool.len(), total - (RING_SLOTS - 1));
        let counters = nic.counters();
        assert_eq!((counters.received, counters.sent), (number, number));
    }
}

#[test]
fn a_full_transmit_ring_gives_the_frame_back_as_it_was() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    assert_eq!(nic.room(), RING_SLOTS - 1);
    while nic.room() > 0 {
        nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
    }
    let Err(Full(frame)) = nic.transmit(filled(&mut pool, &[7; 20])) else {
        panic!("the ring took a frame too many")
    };
    assert_eq!(frame.bytes(), [7; 20]);
    assert!(bench.sent().is_empty(), "shown before `flush`");
    assert!(!nic.has_work());
    nic.flush(&mut pool);
    assert_eq!(bench.sent().len(), RING_SLOTS - 1);
    assert!(nic.has_work());
    nic.reclaim(&mut pool);
    assert_eq!(nic.room(), RING_SLOTS - 1);
}

#[test]
fn short_frames_are_padded_with_zeros() {
    let bench = Bench::card();
    let mut pool = pool(RING_SLOTS + 1);
    let mut nic = bench.nic(&mut pool);
    let mut frame = filled(&mut pool, &[0xee; 1500]); // what the buffer held before
    frame.set_length(20);
    nic.transmit(frame).unwrap();
    nic.flush(&mut pool);
    assert_eq!(bench.sent(), [[vec![0xee; 20], vec![0; 40]].concat()]);
    nic.reclaim(&mut pool);
    let frame = filled(&mut pool, &[1; 13]);
    assert!(nic.transmit(frame).is_err(), "not even a header");
}

#[test]
fn an_empty_pool_starves_the_device_and_nothing_else() {
    let bench = Bench::card();
    let mut pool = pool(RING_SLOTS - 1);
    let mut nic = bench.nic(&mut pool);
    assert!(pool.is_empty());
    let mut kept = Vec::new();
    for number in 0..RING_SLOTS as u32 - 1 {
        assert!(bench.deliver(&numbered(number)));
        nic.reclaim(&mut pool);
        kept.push(nic.receive(&mut pool).unwrap());
        nic.flush(&mut pool);
    }
    // One waits in the FIFO: no error, until it runs over.
    assert!(bench.deliver(&numbered(99)));
    assert!(receive_all(&mut nic, &mut pool).is_empty());
    assert_eq!(nic.poll(bench.now() + 2 * SECOND, &mut pool), None);
    kept.drain(..).for_each(|frame| pool.put(frame));
    nic.flush(&mut pool);
    assert_eq!(receive_all(&mut nic, &mut pool), [numbered(99)]);
}

#[test]
fn the_filter_takes_what_it_is_told() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    let wan = [0x00, 0x10, 0x18, 0xaa, 0xbb, 0x02];
    let stranger = [0x02, 0, 0, 0, 0, 9];
    let group = [0x01, 0x00, 0x5e, 0, 0, 1];
    let taken = |nic: &mut Nic, pool: &mut FramePool| {
        [OWN, [0xff; 6], wan, stranger, group].map(|to| {
            let mut frame = numbered(3);
            frame[..6].copy_from_slice(&to);
            bench.deliver(&frame);
            receive_all(nic, pool).len() == 1
        })
    };
    let (yes, no) = (true, false);
    assert_eq!(taken(&mut nic, &mut pool), [yes, yes, no, no, no]);
    let mut filter = Filter::default();
    filter.others.push(wan).unwrap();
    nic.set_filter(filter.clone()).unwrap();
    assert_eq!(taken(&mut nic, &mut pool), [yes, yes, yes, no, no]);
    filter.all_multicast = true;
    nic.set_filter(filter.clone()).unwrap();
    assert_eq!(taken(&mut nic, &mut pool), [yes, yes, yes, no, yes]);
    filter.promiscuous = true;
    nic.set_filter(filter).unwrap();
    assert_eq!(taken(&mut nic, &mut pool), [yes; 5]);
    nic.set_filter(Filter::default()).unwrap();
    assert_eq!(taken(&mut nic, &mut pool), [yes, yes, no, no, no]);
    // A core without a filter takes everything.
    bench.faults(|faults| faults.has_no_cam = true);
    nic.set_filter(Filter::default()).unwrap();
    assert_eq!(taken(&mut nic, &mut pool), [yes; 5]);
}

#[test]
fn received_frames_interrupt_by_number_or_by_time() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let config = Config {
        moderation: Moderation::ROUTER,
        ..bench.config()
    };
    let mut nic = bench.try_nic(config, &mut pool).unwrap();
    bench.link_up(&mut nic, &mut pool);
    nic.acknowledge();
    for _ in 0..7 {
        assert!(bench.deliver(&numbered(1)));
        assert!(!bench.interrupt());
    }
    assert!(bench.deliver(&numbered(1)));
    assert!(bench.interrupt(), "the eighth");
    nic.acknowledge();
    assert!(!bench.interrupt());
    assert_eq!(receive_all(&mut nic, &mut pool).len(), 8);
    assert!(bench.deliver(&numbered(1)));
    bench.pass(99);
    assert!(!bench.interrupt());
    bench.pass(1);
    assert!(bench.interrupt(), "in 100 us at the latest");
}

#[test]
fn sent_frames_interrupt_only_when_asked_and_often_enough() {
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    nic.acknowledge();
    for (wake, want) in [(false, false), (true, true), (false, false)] {
        nic.wake_on_room(wake);
        while nic.room() > 0 {
            nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
        }
        nic.flush(&mut pool);
        assert_eq!(bench.interrupt(), want);
        nic.acknowledge();
        assert!(!bench.interrupt());
        nic.reclaim(&mut pool);
    }
    // In any eight in a row one asks.
    nic.wake_on_room(true);
    for _ in 0..30 {
        for _ in 0..8 {
            nic.transmit(filled(&mut pool, &numbered(1))).unwrap();
        }
        nic.flush(&mut pool);
        assert!(bench.interrupt());
        nic.acknowledge();
        nic.reclaim(&mut pool);
    }
}

#[test]
fn a_turn_costs_few_register_accesses() {
    // Each costs some 25 us behind vfio-user, and a bus cycle on the boards.
    let bench = Bench::card();
    let mut pool = pool(3 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    for number in 0..16 {
        bench.deliver(&numbered(number));
    }
    let accesses = bench.accesses(|| {
        nic.reclaim(&mut pool);
        while let Ok(frame) = nic.receive(&mut pool) {
            nic.transmit(frame).unwrap();
        }
        assert_eq!(nic.poll(bench.now(), &mut pool), None);
        nic.flush(&mut pool);
    });
    assert_eq!(accesses, 3, "DMARX_STAT, DMARX_PTR, DMATX_PTR");
    let accesses = bench.accesses(|| nic.reclaim(&mut pool));
    assert_eq!(accesses, 1, "DMATX_STAT");
    let accesses = bench.accesses(|| nic.reclaim(&mut pool));
    assert_eq!(accesses, 0, "nothing is on its way");
}
