//! Drivers that forget the cache: each omission shows on the host as it would on the board.

use super::*;
use crate::dma::model::Forgotten;

/// Sends and receives over the same buffers for some time; whether all went as it should.
fn is_right(forgotten: Forgotten) -> bool {
    let bench = Bench::soc();
    let mut pool = pool(RING_SLOTS + 4);
    let mut nic = bench.nic(&mut pool);
    bench.0.borrow().memory.forget(forgotten);
    for number in 0..300 {
        bench.deliver(&numbered(number));
        if receive_all(&mut nic, &mut pool) != [numbered(number)] {
            return false;
        }
        let frame = filled(&mut pool, &numbered(number + 1_000));
        nic.transmit(frame).unwrap();
        nic.flush(&mut pool);
        if bench.sent() != [numbered(number + 1_000)] {
            return false;
        }
        nic.reclaim(&mut pool);
    }
    true
}

#[test]
fn a_hand_over_that_forgets_the_cache_does_not_get_through() {
    assert!(is_right(Forgotten::None));
    for forgotten in [
        Forgotten::WriteBack,
        Forgotten::WriteBackInvalidate,
        Forgotten::Invalidate,
    ] {
        assert!(!is_right(forgotten), "{forgotten:?} went unnoticed");
    }
}

#[test]
fn a_reset_in_the_middle_leaves_no_stale_line() {
    let bench = Bench::soc();
    let mut pool = pool(RING_SLOTS + 4);
    let mut nic = bench.nic(&mut pool);
    for number in 0..100 {
        // The device writes to a buffer that a reset takes back, and the processor to the same one.
        bench.deliver(&numbered(number));
        bench.faults(|faults| faults.overrun = true);
        assert!(!bench.deliver(&numbered(number)));
        nic.acknowledge();
        let event = nic.poll(bench.now(), &mut pool);
        assert_eq!(event, Some(Event::Reset(Trouble::Overrun)));
        assert_eq!(receive_all(&mut nic, &mut pool), [numbered(number)]);
        nic.transmit(filled(&mut pool, &numbered(number + 7)))
            .unwrap();
        nic.flush(&mut pool);
        assert_eq!(bench.sent(), [numbered(number + 7)]);
        nic.reclaim(&mut pool);
    }
}
