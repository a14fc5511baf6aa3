//! Link down and up, and what was negotiated.

use super::phy::{ADVERTISE_ALL, CAN_10_FULL, CAN_100_HALF};
use super::*;

#[test]
fn the_link_goes_and_comes_and_traffic_with_it() {
    for bench in [Bench::card(), Bench::soc()] {
        let mut pool = pool(2 * RING_SLOTS);
        let mut nic = bench.nic(&mut pool);
        for _ in 0..5 {
            bench.plug(false, 0);
            bench.pass(SECOND);
            assert_eq!(nic.poll(bench.now(), &mut pool), Some(Event::LinkDown));
            assert_eq!(nic.link(), None);
            assert!(!bench.deliver(&numbered(1)));
            bench.plug(true, ADVERTISE_ALL);
            bench.pass(SECOND);
            let event = nic.poll(bench.now(), &mut pool);
            assert_eq!(event, Some(Event::LinkUp(FULL)));
            bench.deliver(&numbered(2));
            assert_eq!(receive_all(&mut nic, &mut pool), [numbered(2)]);
        }
    }
}

#[test]
fn a_change_of_link_interrupts_and_is_looked_at_at_once() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    nic.acknowledge();
    assert_eq!(nic.poll(bench.now(), &mut pool), None);
    bench.plug(false, 0);
    assert!(bench.interrupt());
    nic.acknowledge();
    assert!(!bench.interrupt());
    assert_eq!(nic.poll(bench.now() + 1, &mut pool), Some(Event::LinkDown));
}

#[test]
fn duplex_follows_what_was_negotiated() {
    for bench in [Bench::card(), Bench::soc()] {
        let mut pool = pool(2 * RING_SLOTS);
        let mut nic = bench.nic(&mut pool);
        for (partner, is_fast, is_full_duplex) in [
            (CAN_100_HALF, true, false),
            (CAN_10_FULL, false, true),
            (0x20, false, false),
            (ADVERTISE_ALL, true, true),
        ] {
            bench.plug(true, partner);
            bench.pass(SECOND);
            let link = Link {
                is_fast,
                is_full_duplex,
            };
            let event = nic.poll(bench.now(), &mut pool);
            assert_eq!(event, Some(Event::LinkUp(link)), "{partner:#x}");
            assert_eq!(bench.read(TX_CTRL) & TX_DUPLEX != 0, is_full_duplex);
        }
    }
}

#[test]
fn a_reset_keeps_the_link_and_its_duplex() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    bench.plug(true, CAN_100_HALF);
    bench.pass(SECOND);
    nic.poll(bench.now(), &mut pool);
    bench.faults(|faults| faults.overrun = true);
    bench.deliver(&numbered(1));
    nic.acknowledge();
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::Reset(Trouble::Overrun)));
    assert_eq!(bench.read(TX_CTRL) & TX_DUPLEX, 0);
    bench.pass(SECOND);
    assert_eq!(nic.poll(bench.now(), &mut pool), None, "no new link");
    bench.deliver(&numbered(2));
    assert_eq!(receive_all(&mut nic, &mut pool), [numbered(2)]);
}

#[test]
fn behind_a_switch_the_link_is_always_there() {
    let bench = Bench::soc();
    let mut pool = pool(2 * RING_SLOTS);
    let config = Config {
        phy: SWITCH_PHY,
        ..bench.config()
    };
    let mut nic = bench.try_nic(config, &mut pool).unwrap();
    bench.pass(SECOND);
    let event = nic.poll(bench.now(), &mut pool);
    assert_eq!(event, Some(Event::LinkUp(FULL)));
    // MDIO reaches any PHY all the same.
    assert_eq!(nic.mdio_read(7, 2), Ok(0x0020));
    assert_eq!(nic.mdio_read(9, 2), Ok(0xffff));
    nic.mdio_write(7, 27, 0x1234).unwrap();
    assert_eq!(nic.mdio_read(7, 27), Ok(0x1234));
}

#[test]
fn an_mdio_bus_that_sticks_leaves_the_link_as_it_was() {
    let bench = Bench::card();
    let mut pool = pool(2 * RING_SLOTS);
    let mut nic = bench.nic(&mut pool);
    bench.faults(|faults| faults.mdio_sticks = true);
    bench.pass(SECOND);
    let begun = bench.now();
    assert_eq!(nic.poll(bench.now(), &mut pool), None);
    assert!(bench.now() - begun < 3_000);
    assert_eq!(nic.link(), Some(FULL));
    assert_eq!(nic.counters().mdio_timeouts, 1);
    bench.deliver(&numbered(2));
    assert_eq!(receive_all(&mut nic, &mut pool), [numbered(2)]);
}
