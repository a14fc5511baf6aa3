//! Several downloads at once, and both neighbours at once: who gets how much of the lines.
//!
//! Units: µs of virtual time, bytes. All of it repeats exactly.

use firmware::budget::BULK_FRAMES_QUEUED_MAX;
use smoltcp::wire::Ipv4Address;

use super::client::{Ask, End, FetchPlan, Outcome};
use super::world::{Report, Setup, TraceTo, Wire};
use super::{efficiency, simulate};

const ORIGIN: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);
/// Routers that have just booted find each other first.
const START_US: u64 = 3_000_000;

/// `counts[i]` downloads of `size` bytes at once by the client behind router `i`; what became of each.
fn downloads(counts: [usize; 2], size: u64, accel: bool) -> (Vec<Vec<Outcome>>, Report) {
    let mut setup = Setup::new(42);
    setup.lines = efficiency::lines();
    setup.accel = accel;
    for (behind, &count) in counts.iter().enumerate() {
        for number in 0..count {
            let ask = Ask::get(9 + number as u64, size, "film.mp4", "");
            let mut plan = FetchPlan::new(ORIGIN, vec![ask]);
            // Nobody clicks twice in the same microsecond.
            plan.start_us = START_US + 10_000 * number as u64;
            setup.clients[behind].push(plan);
        }
    }
    let report = simulate(&setup, &TraceTo::default());
    assert_eq!(report.violations, Vec::<String>::new());
    let outcomes: Vec<Vec<Outcome>> = report
        .outcomes
        .iter()
        .map(|connections| connections.iter().map(|asks| asks[0].clone()).collect())
        .collect();
    for outcome in outcomes.iter().flatten() {
        assert_eq!((&outcome.end, outcome.body_bytes), (&End::Whole, size));
    }
    (outcomes, report)
}

fn time_us(outcome: &Outcome) -> u64 {
    outcome.end_us.expect("it is whole") - outcome.start_us
}

/// Time of the slowest and of the fastest.
fn span(outcomes: &[Outcome]) -> (u64, u64) {
    let times = outcomes.iter().map(time_us);
    (
        times.clone().max().expect("there are some"),
        times.min().expect("there are some"),
    )
}

#[test]
fn downloads_of_one_household_at_once_share_both_lines_fairly() {
    for count in [2, 4] {
        let size = 6 << 20;
        let (outcomes, report) = downloads([count, 0], size, true);
        let stitched = report.counters[0]["exchange.stitched"];
        assert_eq!(stitched, count as u64, "every one is split");
        let (slowest, fastest) = span(&outcomes[0]);
        assert!(
            fastest * 100 >= slowest * 75,
            "{count} at once: {fastest} us and {slowest} us"
        );
        // Two lines of 8 Mbit/s: a line's rate alone would take twice as long.
        let (alone, _) = downloads([count, 0], size, false);
        let (alone_us, _) = span(&alone[0]);
        assert!(
            slowest * 100 <= alone_us * 60,
            "{count} at once: {slowest} us with the neighbour, {alone_us} us without"
        );
    }
}

/// A download over an air that is the narrow place; most frames that waited on it, and how long it took.
fn over_a_narrow_air(slots_wait: bool) -> (usize, u64) {
    let mut setup = Setup::new(42);
    setup.lines = efficiency::lines();
    for lines in &mut setup.lines {
        lines.air.rate_bit_s = 4_000_000;
    }
    setup.slots_wait = slots_wait;
    let ask = Ask::get(9, 10 << 20, "film.mp4", "");
    let mut plan = FetchPlan::new(ORIGIN, vec![ask]);
    plan.start_us = START_US;
    setup.clients[0].push(plan);
    let report = simulate(&setup, &TraceTo::default());
    assert_eq!(report.violations, Vec::<String>::new());
    let outcome = &report.outcomes[0][0][0];
    assert_eq!(outcome.end, End::Whole);
    assert!(report.counters[1]["lender.bytes"] > 2 << 20);
    (
        report.lines[1][Wire::Air as usize].queued_max,
        time_us(outcome),
    )
}

#[test]
fn what_the_router_itself_sends_leaves_a_short_queue_on_the_air() {
    // A line that takes all at once holds what the sender's window holds.
    let (deep, deep_us) = over_a_narrow_air(false);
    assert!(deep > 2 * BULK_FRAMES_QUEUED_MAX, "{deep} frames");
    let (short, short_us) = over_a_narrow_air(true);
    // Besides streams there are a few frames of control: acknowledgments, ARP, answers of the session.
    assert!(
        short <= BULK_FRAMES_QUEUED_MAX + 4,
        "{short} frames wait on the air"
    );
    assert!(
        short_us * 100 <= deep_us * 102,
        "{short_us} us with a short queue, {deep_us} us with a deep one"
    );
}

#[test]
fn p9_both_neighbours_borrow_from_each_other_and_neither_loses() {
    let size = 10 << 20;
    let (with, report) = downloads([1, 1], size, true);
    let (without, _) = downloads([1, 1], size, false);
    for router in 0..2 {
        assert!(
            report.counters[router]["lender.bytes"] > 0,
            "{router} lends"
        );
        let (on, off) = (time_us(&with[router][0]), time_us(&without[router][0]));
        assert!(
            on * 100 <= off * 110,
            "behind {router}: {on} us with, {off} us without the neighbour"
        );
    }
}
