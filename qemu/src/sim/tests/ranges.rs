//! Clients that ask for ranges themselves: resumed downloads, update clients, seeking players.

use super::*;
use crate::sim::behaviour::asked_range;
use crate::sim::world::{Report, Setup, Wire, wan_address};

const MIB: u64 = 1 << 20;
const REPLY: Ways = Ways {
    plain: false,
    probe: Some(Probe::Reply),
    path: None,
};

fn count(report: &Report, name: &str) -> u64 {
    report.counters[0].get(name).copied().unwrap_or(0)
}

/// One download of `ask` behind the first router, on the lines of the efficiency figures.
fn download(ask: &Ask, accel: Option<Probe>) -> Report {
    let mut setup = Setup::new(42);
    setup.lines = efficiency::lines();
    setup.accel = accel.is_some();
    setup.probe = accel.unwrap_or(Probe::Reply);
    let mut plan = FetchPlan::new(ORIGIN, vec![ask.clone()]);
    // Routers that have just booted find each other first.
    plan.start_us = 3_000_000;
    setup.clients[0].push(plan);
    on_large_stack(move || super::super::simulate(&setup, &TraceTo::default()))
}

/// The outcome of a run without violations.
fn whole(report: &Report) -> &Outcome {
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    let outcome = &report.outcomes[0][0][0];
    assert_eq!(outcome.end, End::Whole, "{outcome:?}");
    outcome
}

fn elapsed_us(outcome: &Outcome) -> u64 {
    outcome.end_us.expect("ended") - outcome.start_us
}

fn ask(size: u64, range: &str) -> Ask {
    Ask::get(9, size, "film.mp4", &format!("Range: {range}\r\n"))
}

#[test]
fn q1_every_form_of_a_clients_own_range_is_split_and_is_exactly_what_was_asked_for() {
    const SIZE: u64 = 9 * MIB + 12_345;
    for range in [
        format!("bytes=1000001-{}", 5 * MIB),
        format!("bytes=3000001-{}", u64::MAX >> 1),
        format!("bytes={}-", 4 * MIB + 7),
        "bytes=0-".to_string(),
        "bytes=-3000001".to_string(),
        format!("bytes=-{}", 2 * SIZE),
    ] {
        let ask = ask(SIZE, &range);
        let (first, end) = ask.interval().expect("inside the object");
        let report = download(&ask, Some(Probe::Reply));
        let outcome = whole(&report);
        assert_eq!(outcome.status, 206, "{range}");
        assert_eq!(outcome.body_bytes, end - first, "{range}");
        assert_eq!(count(&report, "exchange.stitched"), 1, "{range}");
        assert!(
            count(&report, "exchange.bytes-peers") > (end - first) / 4,
            "{range}"
        );
        let alone = download(&ask, None);
        assert_eq!(outcome.head, whole(&alone).head, "{range}");
        assert_eq!(
            outcome.first_byte_us,
            whole(&alone).first_byte_us,
            "{range}"
        );
        assert!(elapsed_us(outcome) < elapsed_us(whole(&alone)) / 4 * 3);
        // Nobody was asked for a byte outside of the client's interval, and nobody repeats the client's field.
        let requests = &report.origin.requests;
        assert!(requests.len() > 1);
        for log in requests.iter().skip(1) {
            let asked = log.request.range.as_deref().expect("a part");
            let (from, to) = asked_range(asked, SIZE).unwrap().unwrap();
            assert!(first <= from && to <= end, "{asked} for {range}");
            let raw = String::from_utf8_lossy(&log.request.raw).to_lowercase();
            assert_eq!(raw.matches("range:").count(), 1, "{raw}");
        }
    }
}

#[test]
fn q1_with_a_head_probe_a_clients_own_range_passes_untouched() {
    let ask = ask(4 * MIB, "bytes=1000-");
    let report = download(&ask, Some(Probe::Head));
    assert_eq!(whole(&report).body_bytes, 4 * MIB - 1000);
    assert_eq!(count(&report, "exchange.stitched"), 0);
    assert_eq!(report.origin.requests.len(), 1);
    assert_eq!(report.origin.requests[0].request.raw, ask.raw);
}

#[test]
fn q2_odd_ranges_pass_untouched() {
    for range in [
        "bytes=0-99999,200000-",
        "bytes=9-5",
        "items=0-",
        "bytes= 0-",
    ] {
        let ask = ask(2 * MIB, range);
        let report = download(&ask, Some(Probe::Reply));
        whole(&report);
        assert_eq!(count(&report, "exchange.stitched"), 0, "{range}");
        assert_eq!(report.origin.requests.len(), 1, "{range}");
        assert_eq!(report.origin.requests[0].request.raw, ask.raw);
        assert_eq!(count(&report, "declined.range"), 1, "{range}");
    }
}

#[test]
fn q1_a_range_behind_the_objects_end_gets_the_origins_416() {
    let report = download(&ask(2 * MIB, "bytes=2097152-"), Some(Probe::Reply));
    assert_eq!(whole(&report).status, 416);
    assert_eq!(report.origin.requests.len(), 1);
}

#[test]
fn q1_a_clients_own_range_stands_all_faults_and_the_neighbour_takes_part() {
    for (name, least) in [
        ("own-range", 10),
        ("own-range-cut", 4),
        ("own-range-reset", 4),
        ("own-range-changed", 1),
    ] {
        let (wrong, stitched, brought) = many(name, 1..25);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        assert!(stitched >= least, "{name}: {stitched} of 24 were split");
        assert!(brought > 0, "{name}");
    }
    for name in ["own-range-ignored", "own-range-ignored-b"] {
        // That nothing of a whole reply is joined is checked in each run, byte by byte.
        let (wrong, _, _) = many(name, 1..13);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

/// Runs a fault with several seeds; all that was wrong, how many runs split a download, and what peers brought.
fn many(name: &'static str, seeds: std::ops::Range<u64>) -> (Vec<String>, usize, u64) {
    on_large_stack(move || {
        let fault = scenario::fault(name).expect("in the table");
        let (mut wrong, mut stitched, mut brought) = (Vec::new(), 0, 0);
        for seed in seeds {
            let (report, texts) = super::super::run_seed(fault, seed, REPLY, &TraceTo::default());
            stitched += usize::from(count(&report, "exchange.stitched") > 0);
            brought += count(&report, "exchange.bytes-peers");
            wrong.extend(texts.iter().map(|text| format!("{seed}: {text}")));
        }
        (wrong, stitched, brought)
    })
}

/// Bytes that came over each internet line, headers included.
fn came(report: &Report) -> Vec<u64> {
    let lines = report.lines.iter();
    lines
        .map(|wires| wires[Wire::WanDown as usize].bytes)
        .collect()
}

#[test]
fn q13_a_hundred_seeks_in_ten_seconds_leave_nothing_and_ask_for_no_more_than_is_in_flight() {
    let run = |accel| {
        on_large_stack(move || {
            let fault = scenario::fault("seeks").expect("in the table");
            let mut setup = scenario::setup(fault, 7);
            setup.lines = efficiency::lines();
            setup.accel = accel;
            setup.probe = Probe::Reply;
            super::super::simulate(&setup, &TraceTo::default())
        })
    };
    let (with, alone) = (run(true), run(false));
    for report in [&with, &alone] {
        // Pools at rest is one of the rules.
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        assert_eq!(report.outcomes[0].len(), 101);
        let last = &report.outcomes[0][100][0];
        assert_eq!((&last.end, last.body_bytes), (&End::Whole, 1_200_000));
    }
    assert!(count(&with, "exchange.raced") >= 50);
    assert_eq!(count(&with, "exchange.no-room"), 0);
    // The last one, and more where a seek was left for long.
    assert!(count(&with, "exchange.stitched") >= 1);
    // What the client does not have was in flight when it went away: on each line no more than it carries in a
    // round trip, each time.
    let line = efficiency::lines()[0].wan_down;
    let flight = line.rate_bit_s / 8 * 2 * line.delay_us / 1_000_000;
    let got: u64 = with.outcomes[0]
        .iter()
        .flatten()
        .map(|outcome| outcome.body_bytes)
        .sum();
    let came = came(&with);
    let sum: u64 = came.iter().sum();
    assert!(sum < got + 2 * 101 * flight, "{came:?} for {got}, {flight}");
    assert!(came[1] < 101 * flight, "{came:?}, {flight} in flight");
    // A neighbour is asked for two ranges at once; where it brought one, for another.
    let of_b = with.origin.requests.iter();
    let of_b = of_b.filter(|log| log.source == wan_address(1)).count() as u64;
    let done = with.counters[1]["lender.done"];
    assert!(of_b <= 2 * count(&with, "exchange.raced") + done);
}

#[test]
fn q1_a_range_of_a_larger_object_comes_as_fast_as_an_object_of_its_size() {
    const PART: u64 = 10 * MIB;
    let part = ask(100 * MIB, &format!("bytes={}-{}", 40 * MIB, 50 * MIB - 1));
    let of_part = download(&part, Some(Probe::Reply));
    let of_whole = download(&Ask::get(9, PART, "film.mp4", ""), Some(Probe::Reply));
    let (part, whole) = (whole(&of_part), whole(&of_whole));
    assert_eq!((part.body_bytes, whole.body_bytes), (PART, PART));
    let (part_us, whole_us) = (elapsed_us(part), elapsed_us(whole));
    assert!(
        part_us.abs_diff(whole_us) * 100 <= whole_us,
        "{part_us} and {whole_us} µs"
    );
}
