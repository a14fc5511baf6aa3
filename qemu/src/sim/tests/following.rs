//! Further requests of a connection (FAULTS Q4, Q5, Q6), and what is said of each.

use firmware::settings::Probe;

use super::super::behaviour::{Behaviour, Rule};
use super::super::client::{Ask, End, FetchPlan, Outcome};
use super::super::efficiency;
use super::super::simulate;
use super::super::world::{Act, Report, Setup, TraceTo, wan_address};
use super::{ORIGIN, on_large_stack};

const SECOND: u64 = 1_000_000;
const FILM: u64 = 2 << 20;

fn film(seed: u64, size: u64) -> Ask {
    Ask::get(seed, size, "film.mp4", "")
}

/// One connection by the client of the first router, over the lines of the efficiency table; the run must break no rule.
fn ask(accel: bool, rules: Vec<Rule>, change: impl FnOnce(&mut FetchPlan)) -> Report {
    let mut setup = Setup::new(42);
    setup.lines = efficiency::lines();
    setup.probe = Probe::Reply;
    setup.accel = accel;
    setup.origin.rules = rules;
    let mut plan = FetchPlan::new(ORIGIN, Vec::new());
    // Routers that have just booted find each other first.
    plan.start_us = 3 * SECOND;
    change(&mut plan);
    setup.clients[0].push(plan);
    let report = on_large_stack(move || simulate(&setup, &TraceTo::default()));
    assert_eq!(report.violations, [""; 0]);
    report
}

fn outcomes(report: &Report) -> &[Outcome] {
    &report.outcomes[0][0]
}

fn assert_whole(report: &Report, sizes: &[u64]) {
    let got: Vec<_> = outcomes(report)
        .iter()
        .map(|outcome| (outcome.end.clone(), outcome.body_bytes))
        .collect();
    let expected: Vec<_> = sizes.iter().map(|size| (End::Whole, *size)).collect();
    assert_eq!(got, expected);
}

fn count(report: &Report, name: &str) -> u64 {
    report.counters[0][name]
}

/// The connections on which the client's own requests (those without a range) reached the origin.
fn own_connections(report: &Report) -> Vec<usize> {
    let requests = report.origin.requests.iter();
    requests
        .filter(|log| log.source == wan_address(0) && log.request.range.is_none())
        .map(|log| log.connection)
        .collect()
}

/// Whether the neighbour fetched some of an object of this size.
fn has_help(report: &Report, size: u64) -> bool {
    report.origin.requests.iter().any(|log| {
        log.source == wan_address(1)
            && log
                .request
                .object()
                .is_some_and(|object| object.size == size)
            && log.body_sent > 0
    })
}

#[test]
fn q5_a_large_file_behind_small_ones_and_an_error_is_split_on_the_same_connection() {
    for think_us in [0, 60 * SECOND] {
        let missing = Rule::between(1, 2, Behaviour::GetStatus(404));
        let report = ask(true, vec![missing], |plan| {
            plan.think_us = think_us;
            plan.asks = vec![
                Ask::get(1, 2_000, "index.html", ""),
                film(2, 500_000),
                film(3, 20_000),
                Ask::with_method("HEAD", 4, FILM, "film.mp4", ""),
                Ask::get(5, FILM, "film.mp4", "If-Modified-Since: x\r\n"),
                film(6, FILM + 1),
            ];
        });
        assert_whole(&report, &[2_000, 40, 20_000, 0, FILM, FILM + 1]);
        assert_eq!(own_connections(&report), [0; 6], "one connection");
        assert!(has_help(&report, FILM + 1) && !has_help(&report, FILM));
        let counts = ["exchange.seen", "verdict.accelerated", "verdict.declined"];
        assert_eq!(counts.map(|name| count(&report, name)), [6, 1, 5]);
        assert_eq!(count(&report, "accelerator.followed"), 5);
        assert_eq!(count(&report, "verdict.flow-lost-track"), 0);
    }
}

#[test]
fn q5_a_second_get_behind_a_split_one_is_split_too_at_once_and_after_a_minute() {
    for think_us in [0, 60 * SECOND] {
        let report = ask(true, Vec::new(), |plan| {
            plan.think_us = think_us;
            plan.asks = vec![film(1, FILM), film(2, FILM + 1)];
        });
        assert_whole(&report, &[FILM, FILM + 1]);
        assert_eq!(count(&report, "verdict.accelerated"), 2);
        assert!(has_help(&report, FILM) && has_help(&report, FILM + 1));
        // The router ended the first connection before a byte of the second request was taken.
        let own = own_connections(&report);
        assert!(own.len() == 2 && own[0] != own[1], "{own:?}");
    }
}

#[test]
fn q6_a_post_behind_a_split_get_and_behind_a_plain_one_is_answered_once() {
    let post = || {
        let mut post = Ask::with_method("POST", 3, 500, "form", "Content-Length: 5\r\n");
        post.raw.extend(b"hello");
        post
    };
    for (size, accelerated) in [(FILM, 1), (10_000, 0)] {
        let report = ask(true, Vec::new(), |plan| {
            plan.asks = vec![film(1, size), post(), film(2, 300_000)];
        });
        assert_whole(&report, &[size, 40, 300_000]);
        assert_eq!(outcomes(&report)[1].status, 501, "as the origin gives it");
        let posts = report.origin.requests.iter();
        let posts = posts.filter(|log| log.request.method == "POST").count();
        assert_eq!(posts, 1);
        assert_eq!(count(&report, "verdict.accelerated"), accelerated);
    }
}

#[test]
fn q4_ten_pipelined_requests_are_answered_in_order_wherever_the_large_one_stands() {
    for large in [0, 4, 9] {
        for think_us in [0, 30_000] {
            let size = |number: u64| match number == large {
                true => FILM,
                false => 3_000 + number,
            };
            let sizes: Vec<u64> = (0..10).map(size).collect();
            let report = ask(true, Vec::new(), |plan| {
                plan.asks = (0..10).map(|number| film(number, size(number))).collect();
                plan.pipelined = true;
                plan.think_us = think_us;
            });
            assert_whole(&report, &sizes);
            assert_eq!(count(&report, "exchange.cut"), 0);
        }
    }
}

#[test]
fn a_small_file_on_a_kept_connection_comes_as_fast_as_without_the_router_s_looking() {
    let times = |accel| {
        let report = ask(accel, Vec::new(), |plan| {
            plan.asks = (1..13).map(|number| film(number, number * 5_000)).collect();
        });
        let times: Vec<_> = outcomes(&report)
            .iter()
            .map(|outcome| (outcome.first_byte_us, outcome.end_us))
            .collect();
        (times, count(&report, "exchange.seen"))
    };
    let ((with, seen), (alone, _)) = (times(true), times(false));
    assert_eq!(with, alone);
    assert_eq!(seen, 12);
}

#[test]
fn a_file_below_the_threshold_on_a_warm_connection_is_at_most_a_round_trip_later() {
    let time = |accel| {
        let report = ask(accel, Vec::new(), |plan| {
            // The first one opens the origin's congestion window, without help.
            plan.asks = vec![
                Ask::get(1, 1 << 20, "page.html", ""),
                film(2, 240_000),
                film(3, 240_000),
            ];
        });
        assert_whole(&report, &[1 << 20, 240_000, 240_000]);
        let last = outcomes(&report).last().cloned();
        last.and_then(|last| Some(last.end_us? - last.start_us))
            .unwrap_or(u64::MAX)
    };
    let lines = efficiency::lines();
    let round_trip_us = 2 * (lines[0].wan_down.delay_us + lines[0].lan.delay_us);
    let (with, alone) = (time(true), time(false));
    assert!(with <= alone + round_trip_us, "{with} us, alone {alone} us");
}

#[test]
fn bytes_and_time_saved_are_counted_for_the_client_and_the_neighbour() {
    const LARGE: u64 = 8 << 20;
    let mut setup = Setup::new(42);
    setup.lines = efficiency::lines();
    let mut plan = FetchPlan::new(ORIGIN, vec![film(1, 100), film(2, LARGE)]);
    plan.start_us = 3 * SECOND;
    setup.clients[0].push(plan);
    for line in ["saved --kv", "why --kv", "saved"] {
        setup
            .acts
            .push((16 * SECOND, Act::Console(0, line.to_string())));
    }
    let mut alone = setup.clone();
    alone.accel = false;
    let run = |setup: Setup| on_large_stack(move || simulate(&setup, &TraceTo::default()));
    let (report, alone) = (run(setup), run(alone));
    assert_whole(&report, &[100, LARGE]);
    let took_ms = |report: &Report| {
        let last = &outcomes(report)[1];
        (last.end_us.unwrap_or(u64::MAX) - last.start_us) / 1_000
    };
    let really_ms = took_ms(&alone) - took_ms(&report);
    let numbers = |begins: &str| -> Vec<u64> {
        let lines = report.consoles[0].lines();
        let mut found = lines.filter_map(|line| line.split_once(begins));
        let line = found.next_back();
        let words = line.map_or("", |(_, rest)| rest).split_whitespace();
        words
            .skip(1)
            .map(|word| word.parse().unwrap_or(0))
            .collect()
    };
    let [downloads, own, peers, saved_ms] = numbers("saved=client ")[..] else {
        panic!("{}", report.consoles[0]);
    };
    assert_eq!(downloads, 1);
    assert!((LARGE..LARGE * 21 / 20).contains(&(own + peers)));
    assert!(peers > LARGE / 3 && own > LARGE / 3);
    // An estimate, but not a guess.
    assert!(
        (really_ms * 3 / 4..really_ms * 5 / 4).contains(&saved_ms),
        "{saved_ms} of {really_ms} ms"
    );
    assert_eq!(numbers("saved=peer "), [1, 0, peers, saved_ms]);
    assert!(report.consoles[0].contains("/film.mp4 accelerated "));
}
