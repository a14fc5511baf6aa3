//! The faults of the simulation: what each does to a random neighbourhood, and which outcomes it allows.
//!
//! Each run draws lines, sizes, buffers and the client's ways from its seed, then one fault is put on top. Beside
//! it, in every second run, all lines lose, reorder and double frames at random.

use firmware::settings::{Path, Probe};
use smoltcp::wire::Ipv4Address;

use super::behaviour::{Behaviour, Rule};
use super::client::{Ask, End, Ending, FetchPlan, Outcome};
use super::oddity::Oddity;
use super::rows;
use super::world::{Act, Report, Setup, Wire, wan_address};
use crate::line::{Rng, Shape};

/// Seconds in µs.
pub(super) const SECOND: u64 = 1_000_000;
/// The first origin.
pub(super) const ORIGIN: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);

/// Frames of one run; the longest have some hundred thousand.
const EVENTS_MAX: u64 = 10_000_000;

/// Ways in which an exchange may end; see FAULT outcomes in [`allowed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Complete, status 200 or 206.
    Whole,
    /// Complete with this status, as the origin gave it.
    Status(u16),
    /// Complete, or an exact prefix and then RST or FIN.
    WholeOrCut,
    /// Complete, an exact prefix and then RST or FIN, or no end at all.
    WholeCutOrStall,
    /// An exact prefix, however it ends.
    Prefix,
    /// Complete, and no range is asked for that the client did not ask for.
    Plain,
    /// As `Plain`, and an exact prefix and then FIN will do too.
    PlainOrCut,
    /// Complete, with whatever statuses.
    Answered,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does.
    pub note: &'static str,
    /// Puts it into a drawn set-up.
    pub apply: fn(&mut Setup, &mut Rng),
    /// What may come of it.
    pub allow: Allow,
}

/// Applies a behaviour of the origin always.
pub(super) fn origin_does(setup: &mut Setup, behaviour: Behaviour) {
    setup.origin.rules.push(Rule::always(behaviour));
}

/// Applies a behaviour of the origin towards router B only.
pub(super) fn origin_does_to_b(setup: &mut Setup, behaviour: Behaviour) {
    setup
        .origin
        .rules
        .push(Rule::towards(wan_address(1), behaviour));
}

/// Applies a behaviour of the origin to ranges only.
pub(super) fn on_ranges(setup: &mut Setup, behaviour: Behaviour) {
    setup.origin.rules.push(Rule::always(behaviour).on_ranges());
}

/// The origin does this to whole objects, not to ranges, and all its objects are worth splitting.
fn own_connection(setup: &mut Setup, behaviour: Behaviour) {
    let size = 600_000 + setup.seed % 600_000;
    resize(setup, size);
    setup.origin.rules.push(Rule::always(behaviour).on_wholes());
}

/// A time in the middle of a download.
pub(super) fn midway(rng: &mut Rng) -> u64 {
    100_000 + rng.below(2 * SECOND)
}

fn lossy(shape: &mut Shape, rng: &mut Rng) {
    shape.loss_ppm = 1_000 + rng.below(30_000) as u32;
}

/// The size of the main object.
pub(super) fn resize(setup: &mut Setup, size: u64) {
    if let Some(plan) = setup.clients[0].first_mut() {
        plan.asks[0] = Ask::get(setup.seed % 1_000, size, "film.mp4", "");
    }
}

/// How often a client seeks.
const SEEKS: u64 = 100;

/// The client asks for a range of its own: three of four times one that is worth splitting, else any.
fn own_range(setup: &mut Setup, rng: &mut Rng) {
    let size = 600_000 + rng.below(1_400_000);
    let len = match rng.below(4) {
        0 => 1 + rng.below(size),
        _ => 500_000 + rng.below(size - 500_000),
    };
    let from = rng.below(size - len + 1);
    let fields = match rng.below(4) {
        0 => format!("Range: bytes={from}-{}\r\n", from + len - 1),
        // Past the object's end: clipped.
        1 => format!("Range: bytes={}-{}\r\n", size - len, 2 * size),
        2 => format!("Range: bytes={}-\r\n", size - len),
        _ => format!("Range: bytes=-{len}\r\n"),
    };
    let ask = Ask::get(setup.seed % 1_000, size, "film.mp4", &fields);
    first_plan(setup).asks[0] = ask;
}

pub(super) fn first_plan(setup: &mut Setup) -> &mut FetchPlan {
    &mut setup.clients[0][0]
}

/// Every fault; `none` first.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "none",
        note: "nothing but the drawn lines",
        apply: |_, _| {},
        allow: Allow::Whole,
    },
    Fault {
        name: "clean",
        note: "no line loses, reorders or doubles anything",
        apply: |setup, _| {
            for lines in &mut setup.lines {
                for shape in [
                    &mut lines.lan,
                    &mut lines.wan_up,
                    &mut lines.wan_down,
                    &mut lines.air,
                ] {
                    *shape = Shape::new(shape.rate_bit_s, shape.delay_us);
                    shape.queue_bytes = 1 << 20;
                }
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "loss-wan-a",
        note: "the own line loses up to 3 %",
        apply: |setup, rng| {
            lossy(&mut setup.lines[0].wan_down, rng);
            lossy(&mut setup.lines[0].wan_up, rng);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "loss-wan-b",
        note: "the neighbour's line loses up to 3 %",
        apply: |setup, rng| {
            lossy(&mut setup.lines[1].wan_down, rng);
            lossy(&mut setup.lines[1].wan_up, rng);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "loss-air",
        note: "the air loses up to 3 % either way",
        apply: |setup, rng| {
            lossy(&mut setup.lines[0].air, rng);
            lossy(&mut setup.lines[1].air, rng);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "loss-lan",
        note: "the LAN loses up to 3 % either way",
        apply: |setup, rng| lossy(&mut setup.lines[0].lan, rng),
        allow: Allow::Whole,
    },
    Fault {
        name: "corrupt",
        note: "every line flips bits",
        apply: |setup, rng| {
            for lines in &mut setup.lines {
                let ppm = rng.below(5_000) as u32;
                lines.wan_down.corrupt_ppm = ppm;
                lines.wan_up.corrupt_ppm = ppm;
                lines.air.corrupt_ppm = ppm;
                lines.lan.corrupt_ppm = ppm;
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "cut-air",
        note: "the air is cut midway for good",
        apply: |setup, rng| {
            let at = midway(rng);
            for index in 0..2 {
                let shape = Shape {
                    up: false,
                    ..setup.lines[index].air
                };
                setup.acts.push((at, Act::Line(index, Wire::Air, shape)));
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "flap-air",
        note: "the air goes away and comes back, ten times",
        apply: |setup, rng| {
            let mut at = midway(rng) / 4;
            for turn in 0..20 {
                for index in 0..2 {
                    let shape = Shape {
                        up: turn % 2 == 1,
                        ..setup.lines[index].air
                    };
                    setup.acts.push((at, Act::Line(index, Wire::Air, shape)));
                }
                at += 20_000 + rng.below(SECOND);
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "cut-wan-b",
        note: "the neighbour's line is cut midway",
        apply: |setup, rng| {
            let at = midway(rng);
            for wire in [Wire::WanUp, Wire::WanDown] {
                let shape = Shape {
                    up: false,
                    ..setup.lines[1].wan_up
                };
                setup.acts.push((at, Act::Line(1, wire, shape)));
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "cut-wan-a",
        note: "the own line is cut for 5 s midway",
        apply: |setup, rng| {
            let at = midway(rng);
            let (up, down) = (setup.lines[0].wan_up, setup.lines[0].wan_down);
            for (wire, shape) in [(Wire::WanUp, up), (Wire::WanDown, down)] {
                let cut = Shape { up: false, ..shape };
                setup.acts.push((at, Act::Line(0, wire, cut)));
                setup
                    .acts
                    .push((at + 5 * SECOND, Act::Line(0, wire, shape)));
            }
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "slow-air",
        note: "the air has a tenth of the lines' rate",
        apply: |setup, _| {
            for lines in &mut setup.lines {
                lines.air.rate_bit_s = lines.wan_down.rate_bit_s / 10;
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "reset-b",
        note: "the neighbour is reset midway",
        apply: |setup, rng| setup.acts.push((midway(rng), Act::Reset(1))),
        allow: Allow::Whole,
    },
    Fault {
        name: "reset-a",
        note: "the own router is reset midway: its flows end",
        apply: |setup, rng| setup.acts.push((midway(rng), Act::Reset(0))),
        allow: Allow::WholeCutOrStall,
    },
    Fault {
        name: "accel-off",
        note: "splitting is switched off midway",
        apply: |setup, rng| {
            let line = "set accel.enabled off".to_string();
            setup.acts.push((midway(rng), Act::Console(0, line)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "settings",
        note: "S12: the peer is removed and put back, and other settings change, midway",
        apply: |setup, rng| {
            let at = midway(rng);
            let lines = [
                "peer remove 10.77.0.2",
                "set accel.threshold 512K",
                "set accel.types none",
                "peer add 10.77.0.2",
                "set accel.ports 8080",
            ];
            for (number, line) in lines.iter().enumerate() {
                let act = Act::Console(0, (*line).to_string());
                setup.acts.push((at + number as u64 * SECOND / 4, act));
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "blind",
        note: "A3: resets, SYNs and data with random numbers into every connection of the own line",
        apply: |setup, _| setup.blind = true,
        allow: Allow::Whole,
    },
    Fault {
        name: "storm",
        note: "A13: 30 connections at once, requests for many ranges, a Host of the neighbour's LAN",
        apply: |setup, rng| {
            let first = first_plan(setup).clone();
            for number in 0..30 {
                let mut plan = first.clone();
                let fields = match number % 3 {
                    0 => "",
                    1 => "Range: bytes=0-\r\n",
                    _ => "Range: bytes=100-40000\r\n",
                };
                let mut ask = Ask::get(number, 270_000, "film.mp4", fields);
                let raw = String::from_utf8_lossy(&ask.raw);
                ask.raw = raw.replace("origin.example", "192.168.2.1").into_bytes();
                plan.asks = vec![ask];
                plan.start_us += rng.below(SECOND / 2);
                setup.clients[0].push(plan);
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "no-ranges",
        note: "O1: the origin ignores Range and does not announce it",
        apply: |setup, _| origin_does(setup, Behaviour::IgnoreRange { announce: false }),
        allow: Allow::Whole,
    },
    Fault {
        name: "ranges-lie",
        note: "O2: the origin announces ranges and ignores them",
        apply: |setup, _| origin_does(setup, Behaviour::IgnoreRange { announce: true }),
        allow: Allow::Whole,
    },
    Fault {
        name: "ranges-none",
        note: "O3: Accept-Ranges: none",
        apply: |setup, _| origin_does(setup, Behaviour::RangesNone),
        allow: Allow::Whole,
    },
    Fault {
        name: "ranges-stop",
        note: "O4: one range in the middle is answered with 200",
        apply: |setup, rng| {
            let from = 1 + rng.below(8) as u32;
            let act = Behaviour::IgnoreRange { announce: true };
            setup.origin.rules.push(Rule::between(from, from + 1, act));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "ranges-end",
        note: "ranges are ignored from some request on, for ever",
        apply: |setup, rng| {
            let from = 1 + rng.below(8) as u32;
            let act = Behaviour::IgnoreRange { announce: true };
            setup.origin.rules.push(Rule::between(from, u32::MAX, act));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "if-range-ignored",
        note: "O6: 206 whatever If-Range says, and the object changes",
        apply: |setup, rng| {
            let from = 1 + rng.below(6) as u32;
            origin_does(setup, Behaviour::IgnoreIfRange);
            let act = Behaviour::NewVersion;
            setup.origin.rules.push(Rule::between(from, u32::MAX, act));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "if-range-refused",
        note: "O7: 200 to every If-Range",
        apply: |setup, _| origin_does(setup, Behaviour::RefuseIfRange),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-405",
        note: "O8: HEAD gets 405",
        apply: |setup, _| origin_does(setup, Behaviour::HeadStatus(405)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-501",
        note: "O8: HEAD gets 501",
        apply: |setup, _| origin_does(setup, Behaviour::HeadStatus(501)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-silent",
        note: "O8: HEAD gets no answer",
        apply: |setup, _| origin_does(setup, Behaviour::HeadSilent),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-close",
        note: "O8: HEAD makes the origin close",
        apply: |setup, _| origin_does(setup, Behaviour::HeadClose),
        allow: Allow::Whole,
    },
    Fault {
        name: "get-404",
        note: "O10: HEAD says 200, GET 404",
        apply: |setup, _| origin_does(setup, Behaviour::GetStatus(404)),
        allow: Allow::Status(404),
    },
    Fault {
        name: "get-302",
        note: "K9: GET is redirected",
        apply: |setup, _| origin_does(setup, Behaviour::GetStatus(302)),
        allow: Allow::Status(302),
    },
    Fault {
        name: "changed",
        note: "O11: the object is replaced after some requests",
        apply: |setup, rng| {
            let from = 1 + rng.below(6) as u32;
            let act = Behaviour::NewVersion;
            setup.origin.rules.push(Rule::between(from, u32::MAX, act));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "other-total",
        note: "O12: Content-Range tells another total",
        apply: |setup, rng| {
            let from = 1 + rng.below(6) as u32;
            let act = Behaviour::OtherTotal;
            setup.origin.rules.push(Rule::between(from, u32::MAX, act));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "weak-etag",
        note: "O13: only a weak ETag",
        apply: |setup, _| origin_does(setup, Behaviour::WeakEtag),
        allow: Allow::Whole,
    },
    Fault {
        name: "dates-strong",
        note: "O14: Last-Modified long before Date, no ETag",
        apply: |setup, _| origin_does(setup, Behaviour::LastModifiedOnly { strong: true }),
        allow: Allow::Whole,
    },
    Fault {
        name: "dates-weak",
        note: "O15: Last-Modified equal to Date, no ETag",
        apply: |setup, _| origin_does(setup, Behaviour::LastModifiedOnly { strong: false }),
        allow: Allow::Whole,
    },
    Fault {
        name: "no-validator",
        note: "O16: neither ETag nor Last-Modified",
        apply: |setup, _| origin_does(setup, Behaviour::NoValidator),
        allow: Allow::Whole,
    },
    Fault {
        name: "chunked",
        note: "O20: chunked, no length",
        apply: |setup, _| origin_does(setup, Behaviour::Chunked),
        allow: Allow::Whole,
    },
    Fault {
        name: "no-content-range",
        note: "O22: 206 without Content-Range",
        apply: |setup, _| origin_does(setup, Behaviour::NoContentRange),
        allow: Allow::Whole,
    },
    Fault {
        name: "shifted-range",
        note: "O22: 206 one byte further on, and says so",
        apply: |setup, _| origin_does(setup, Behaviour::ShiftedRange),
        allow: Allow::Whole,
    },
    Fault {
        name: "short-range",
        note: "O24: 206 of half of what was asked, honestly",
        apply: |setup, _| origin_does(setup, Behaviour::ShortRange),
        allow: Allow::Whole,
    },
    Fault {
        name: "range-416",
        note: "O27: 416 for a range inside the object",
        apply: |setup, _| on_ranges(setup, Behaviour::RangeStatus(416)),
        allow: Allow::Whole,
    },
    Fault {
        name: "range-302",
        note: "K10: ranges are redirected",
        apply: |setup, _| on_ranges(setup, Behaviour::RangeStatus(302)),
        allow: Allow::Whole,
    },
    Fault {
        name: "range-503",
        note: "K11: ranges get 503",
        apply: |setup, _| on_ranges(setup, Behaviour::RangeStatus(503)),
        allow: Allow::Whole,
    },
    Fault {
        name: "forbid-b",
        note: "K13: 403 for the neighbour",
        apply: |setup, _| origin_does_to_b(setup, Behaviour::GetStatus(403)),
        allow: Allow::Whole,
    },
    Fault {
        name: "version-b",
        note: "K14: another version for the neighbour",
        apply: |setup, _| origin_does_to_b(setup, Behaviour::NewVersion),
        allow: Allow::Whole,
    },
    Fault {
        name: "rst-b",
        note: "K1: RST in the neighbour's fetches",
        apply: |setup, rng| origin_does_to_b(setup, Behaviour::RstAfter(rng.below(200_000))),
        allow: Allow::Whole,
    },
    Fault {
        name: "rst-a-once",
        note: "K2: RST in some of A's fetches",
        apply: |setup, rng| {
            let from = 1 + rng.below(6) as u32;
            let act = Behaviour::RstAfter(rng.below(100_000));
            let rule = Rule::between(from, from + 2, act).on_ranges();
            setup.origin.rules.push(rule);
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "rst-all",
        note: "K3: RST on every connection after some bytes",
        apply: |setup, rng| {
            origin_does(setup, Behaviour::RstAfter(rng.below(300_000)));
        },
        // A reset that is lost ends nothing: the client waits.
        allow: Allow::WholeCutOrStall,
    },
    Fault {
        name: "fin-b",
        note: "K4: FIN in the neighbour's fetches",
        apply: |setup, rng| origin_does_to_b(setup, Behaviour::FinAfter(rng.below(200_000))),
        allow: Allow::Whole,
    },
    Fault {
        name: "fin-all",
        note: "K4: FIN on every connection after some bytes",
        apply: |setup, rng| {
            origin_does(setup, Behaviour::FinAfter(rng.below(300_000)));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "stall-b",
        note: "K5: the neighbour's fetches stall for ever",
        apply: |setup, rng| origin_does_to_b(setup, Behaviour::StallAfter(rng.below(200_000))),
        allow: Allow::Whole,
    },
    Fault {
        name: "stall-all",
        note: "K6: everything stalls for ever",
        apply: |setup, rng| {
            origin_does(setup, Behaviour::StallAfter(rng.below(300_000)));
            setup.limit_us = 60 * SECOND;
        },
        allow: Allow::WholeCutOrStall,
    },
    Fault {
        name: "slow-b",
        note: "K7: 2 kB/s for the neighbour",
        apply: |setup, _| origin_does_to_b(setup, Behaviour::Slow(2_000)),
        allow: Allow::Whole,
    },
    Fault {
        name: "late",
        note: "K8: every reply 3 s late",
        apply: |setup, _| origin_does(setup, Behaviour::Late(3 * SECOND)),
        allow: Allow::Whole,
    },
    Fault {
        name: "late-b",
        note: "K8: replies to the neighbour 30 s late",
        apply: |setup, _| origin_does_to_b(setup, Behaviour::Late(30 * SECOND)),
        allow: Allow::Whole,
    },
    Fault {
        name: "http-1.0",
        note: "K16: replies of HTTP/1.0",
        apply: |setup, _| origin_does(setup, Behaviour::Version10),
        allow: Allow::Whole,
    },
    Fault {
        name: "close-announced",
        note: "K17: Connection: close after each reply",
        apply: |setup, _| {
            origin_does(setup, Behaviour::CloseAfterReply { announce: true });
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "close-silent",
        note: "K17: closes after each reply without saying so",
        apply: |setup, _| {
            origin_does(setup, Behaviour::CloseAfterReply { announce: false });
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "client-slow",
        note: "the client reads slowly, with a small buffer",
        apply: |setup, rng| {
            resize(setup, 200_000 + rng.below(200_000));
            let plan = first_plan(setup);
            plan.rx_bytes = (8 * 1024) << rng.below(5);
            plan.pace = Some((1 + rng.below(8_000) as usize, 20_000));
            plan.pace = plan.pace.map(|(bytes, us)| (bytes.max(500), us));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "client-sleeps",
        note: "the client reads nothing for 20 s: its window closes",
        apply: |setup, rng| {
            let from = midway(rng) / 2;
            first_plan(setup).sleep = Some((from, from + 20 * SECOND));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "client-aborts",
        note: "the client resets midway",
        apply: |setup, rng| {
            first_plan(setup).ending = Ending::AbortAfter(rng.below(500_000));
        },
        allow: Allow::Prefix,
    },
    Fault {
        name: "client-closes",
        note: "the client closes midway and reads no more",
        apply: |setup, rng| {
            first_plan(setup).ending = Ending::CloseAfter(rng.below(500_000));
        },
        allow: Allow::Prefix,
    },
    Fault {
        name: "half-close",
        note: "the client closes its side after the request",
        apply: |setup, _| first_plan(setup).ending = Ending::HalfClose,
        allow: Allow::Whole,
    },
    Fault {
        name: "keep-alive",
        note: "Q5: more GETs and HEADs follow on the connection",
        apply: |setup, rng| {
            let seed = setup.seed % 1_000;
            for number in 1..2 + rng.below(4) {
                let size = rng.below(400_000);
                let ask = match rng.below(4) {
                    0 => Ask::get(seed + number, size, "page.html", ""),
                    1 => Ask::with_method("HEAD", seed + number, size, "film.mp4", ""),
                    _ => Ask::get(seed + number, size, "film.mp4", ""),
                };
                first_plan(setup).asks.push(ask);
            }
            first_plan(setup).think_us = [0, 1_000, 2 * SECOND][rng.below(3) as usize];
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "pipelined",
        note: "Q4: several GETs at once",
        apply: |setup, rng| {
            let seed = setup.seed % 1_000;
            for number in 1..2 + rng.below(4) {
                let size = rng.below(400_000);
                let ask = Ask::get(seed + number, size, "film.mp4", "");
                first_plan(setup).asks.push(ask);
            }
            first_plan(setup).pipelined = true;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "pipelined-late",
        note: "Q4: a second GET while the first one's response comes",
        apply: |setup, rng| {
            let size = 300_000 + rng.below(1_000_000);
            resize(setup, size);
            let ask = Ask::get(
                setup.seed % 1_000 + 1,
                1 + rng.below(400_000),
                "film.mp4",
                "",
            );
            let think_us = rng.below(2 * SECOND);
            let plan = first_plan(setup);
            plan.asks.push(ask);
            plan.pipelined = true;
            plan.think_us = think_us;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "own-reset",
        note: "K2: the origin resets the client's own connection midway",
        apply: |setup, rng| own_connection(setup, Behaviour::RstAfter(rng.below(500_000))),
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "own-closed",
        note: "K4: the origin closes the client's own connection midway",
        apply: |setup, rng| own_connection(setup, Behaviour::FinAfter(rng.below(500_000))),
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "own-stalls",
        note: "K5: the origin falls silent on the client's own connection",
        apply: |setup, rng| {
            own_connection(setup, Behaviour::StallAfter(rng.below(500_000)));
            setup.limit_us = 120 * SECOND;
        },
        allow: Allow::WholeCutOrStall,
    },
    Fault {
        name: "pieces",
        note: "G6: the request in tiny segments",
        apply: |setup, rng| {
            let plan = first_plan(setup);
            plan.pieces = (0..5).map(|_| 1 + rng.below(40) as usize).collect();
            plan.piece_gap_us = 1 + rng.below(30_000);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "own-range",
        note: "Q1: the client asks for a range itself, in every form",
        apply: own_range,
        allow: Allow::Whole,
    },
    Fault {
        name: "own-range-ignored",
        note: "Q1: the origin answers the client's range with the whole",
        apply: |setup, rng| {
            own_range(setup, rng);
            origin_does(setup, Behaviour::IgnoreRange { announce: true });
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "own-range-ignored-b",
        note: "Q1: the client's range, and the neighbour's ranges are ignored",
        apply: |setup, rng| {
            own_range(setup, rng);
            origin_does_to_b(setup, Behaviour::IgnoreRange { announce: true });
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "own-range-cut",
        note: "Q1: the client's range, and the air or the neighbour's line is cut midway",
        apply: |setup, rng| {
            own_range(setup, rng);
            let at = 200_000 + rng.below(SECOND);
            let cuts = match rng.below(2) {
                0 => [(0, Wire::Air), (1, Wire::Air)],
                _ => [(1, Wire::WanUp), (1, Wire::WanDown)],
            };
            for (index, wire) in cuts {
                let shape = Shape {
                    up: false,
                    ..setup.lines[index].air
                };
                setup.acts.push((at, Act::Line(index, wire, shape)));
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "own-range-changed",
        note: "Q1, O11: the client's range, and the object is replaced after some requests",
        apply: |setup, rng| {
            own_range(setup, rng);
            let from = 1 + rng.below(6) as u32;
            let act = Behaviour::NewVersion;
            setup.origin.rules.push(Rule::between(from, u32::MAX, act));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "own-range-reset",
        note: "Q1, K2: the origin resets the connection on which the client asked for a range",
        apply: |setup, rng| {
            own_range(setup, rng);
            let act = Behaviour::RstAfter(rng.below(400_000));
            setup.origin.rules.push(Rule::between(0, 1, act));
        },
        allow: Allow::WholeOrCut,
    },
    Fault {
        name: "seeks",
        note: "Q13: 100 times in 10 s the client aborts and asks for another range of the same film",
        apply: |setup, rng| {
            let size = 20_000_000;
            let first = first_plan(setup).clone();
            setup.clients[0].clear();
            for number in 0..SEEKS {
                let len = 300_000 + rng.below(1_200_000);
                let from = rng.below(size - len);
                let fields = match number % 2 {
                    0 => format!("Range: bytes={from}-\r\n"),
                    _ => format!("Range: bytes={from}-{}\r\n", from + len - 1),
                };
                let mut plan = first.clone();
                plan.start_us += number * 10 * SECOND / SEEKS;
                plan.asks = vec![Ask::get(setup.seed % 1_000, size, "film.mp4", &fields)];
                // Now before the reply, now long after it.
                plan.ending = Ending::AbortAt(20_000 + rng.below(SECOND / 2));
                setup.clients[0].push(plan);
            }
            let fields = "Range: bytes=-1200000\r\n";
            let mut plan = first;
            plan.start_us += 10 * SECOND;
            plan.asks = vec![Ask::get(setup.seed % 1_000, size, "film.mp4", fields)];
            setup.clients[0].push(plan);
        },
        allow: Allow::Prefix,
    },
    Fault {
        name: "post",
        note: "G12: a POST passes untouched (501 here)",
        apply: |setup, _| {
            let ask = Ask::with_method("POST", 1, 500_000, "film.mp4", "");
            first_plan(setup).asks[0] = ask;
        },
        allow: Allow::Status(501),
    },
    Fault {
        name: "plain-client",
        note: "no SACK, no window scaling, small MSS",
        apply: |setup, rng| {
            setup.client_mtu = 576 + rng.below(800) as usize;
            let plan = first_plan(setup);
            plan.sack = false;
            plan.window_scale = false;
            plan.timestamps = false;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "six",
        note: "Q7: six connections at once",
        apply: |setup, rng| {
            for number in 1..6 {
                let size = 100_000 + rng.below(500_000);
                let ask = Ask::get(setup.seed % 1_000 + number, size, "film.mp4", "");
                let mut plan = setup.clients[0][0].clone();
                plan.asks = vec![ask];
                plan.start_us = rng.below(SECOND);
                setup.clients[0].push(plan);
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "window-shrinks",
        note: "the client moves its right edge back",
        apply: |setup, _| setup.oddity = Some(Oddity::ShrinksWindow),
        allow: Allow::Whole,
    },
    Fault {
        name: "window-closes",
        note: "the client closes its window now and then",
        apply: |setup, _| setup.oddity = Some(Oddity::ClosesWindow),
        allow: Allow::Whole,
    },
    Fault {
        name: "acks-repeated",
        note: "the client repeats its ACKs up to four times",
        apply: |setup, _| setup.oddity = Some(Oddity::RepeatsAcks),
        allow: Allow::Whole,
    },
    Fault {
        name: "acks-thinned",
        note: "every other ACK is missing",
        apply: |setup, _| setup.oddity = Some(Oddity::ThinsAcks),
        allow: Allow::Whole,
    },
    Fault {
        name: "acks-future",
        note: "the client acknowledges what was never sent",
        apply: |setup, _| setup.oddity = Some(Oddity::AcksFuture),
        allow: Allow::Whole,
    },
    Fault {
        name: "sack-wild",
        note: "SACK blocks that name anything",
        apply: |setup, _| setup.oddity = Some(Oddity::WildSack),
        allow: Allow::Whole,
    },
    Fault {
        name: "acks-past",
        note: "old ACKs come again",
        apply: |setup, _| setup.oddity = Some(Oddity::AcksPast),
        allow: Allow::Whole,
    },
    Fault {
        name: "ancient",
        note: "frames that come again, or for the first time, seconds later",
        apply: |setup, _| {
            for lines in &mut setup.lines {
                for shape in [
                    &mut lines.lan,
                    &mut lines.wan_up,
                    &mut lines.wan_down,
                    &mut lines.air,
                ] {
                    shape.reorder_ppm = 3_000;
                    shape.reorder_us = 4 * SECOND;
                    shape.duplicate_ppm = 50_000;
                }
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "lender-busy",
        note: "the neighbour's own client downloads too",
        apply: |setup, rng| {
            let size = 200_000 + rng.below(800_000);
            let ask = Ask::get(setup.seed % 1_000 + 7, size, "film.mp4", "");
            setup.clients[1].push(FetchPlan::new(ORIGIN, vec![ask]));
        },
        allow: Allow::Whole,
    },
];

/// The fault of this name.
pub fn fault(name: &str) -> Option<&'static Fault> {
    faults().find(|fault| fault.name == name)
}

/// All faults, in the order in which seeds are dealt to them.
pub fn faults() -> impl Iterator<Item = &'static Fault> {
    FAULTS.iter().chain(rows::FAULTS)
}

/// Draws a run from its seed.
pub fn setup(fault: &Fault, seed: u64) -> Setup {
    let mut rng = Rng::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x7a5e);
    let mut setup = Setup::new(seed);
    // Not drawn: the same seed is the same neighbourhood with either path, and either probe.
    setup.path = Path::ALL[(seed.wrapping_mul(0xd1b5_4a32_d192_ed03) >> 63) as usize];
    setup.probe = match seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 {
        0 => Probe::Reply,
        _ => Probe::Head,
    };
    let impaired = rng.below(2) == 0;
    for lines in &mut setup.lines {
        let rate = 2_000_000 + rng.below(18_000_000);
        let delay = 2_000 + rng.below(60_000);
        lines.wan_down = Shape::new(rate, delay);
        lines.wan_up = Shape::new(rate / (1 + rng.below(8)), delay);
        lines.air = Shape::new(10_000_000 + rng.below(30_000_000), 500 + rng.below(4_000));
        if !impaired {
            continue;
        }
        for shape in [
            &mut lines.lan,
            &mut lines.wan_up,
            &mut lines.wan_down,
            &mut lines.air,
        ] {
            shape.loss_ppm = rng.below(8_000) as u32;
            shape.reorder_ppm = rng.below(20_000) as u32;
            shape.reorder_us = 100 + rng.below(30_000);
            shape.duplicate_ppm = rng.below(10_000) as u32;
        }
    }
    let size = match rng.below(10) {
        0 => rng.below(3_000),
        1 => 60_000 + rng.below(10_000),
        2..8 => 100_000 + rng.below(900_000),
        _ => 1_000_000 + rng.below(3_000_000),
    };
    let ask = Ask::get(seed % 1_000, size, "film.mp4", "");
    let mut plan = FetchPlan::new(ORIGIN, vec![ask]);
    plan.rx_bytes = (16 * 1024) << rng.below(6);
    plan.sack = rng.below(4) > 0;
    plan.window_scale = rng.below(4) > 0;
    plan.timestamps = rng.below(2) == 0;
    plan.start_us = 50_000 + rng.below(100_000);
    setup.clients[0].push(plan);
    setup.origin.tx_bytes = (64 * 1024) << rng.below(3);
    setup.origin.reno = rng.below(4) > 0;
    // In every fourth run a direction's sequence numbers wrap in its middle.
    let (wrap, client, server) = (rng.below(4), rng.below(200), rng.below(size + 1_000));
    let before = |bytes: u64| 0_u32.wrapping_sub(bytes as u32);
    setup.first_isns = match wrap {
        0 => (Some(before(client)), Some(before(server))),
        _ => (None, None),
    };
    let again = setup.clients[0][0].clone();
    (fault.apply)(&mut setup, &mut rng);
    setup.again = Some(again);
    setup.events_max = EVENTS_MAX;
    setup.acts.sort_by_key(|(at, _)| *at);
    setup
}

/// What a report shows that its fault does not allow.
pub fn judge(fault: &Fault, setup: &Setup, report: &Report) -> Vec<String> {
    let mut wrong = report.violations.clone();
    for (router, connections) in report.outcomes.iter().enumerate() {
        for (number, outcomes) in connections.iter().enumerate() {
            let asks = setup.clients[router][number].asks.len();
            // The fault is the first router's; the neighbour's own client must not notice.
            let allow = if router == 0 {
                fault.allow
            } else {
                Allow::Whole
            };
            for (index, outcome) in outcomes.iter().enumerate() {
                if !allowed(allow, outcome) {
                    wrong.push(format!(
                        "client {router}, connection {number}, exchange {index}: {:?}, status {}, {} bytes",
                        outcome.end, outcome.status, outcome.body_bytes
                    ));
                }
            }
            if outcomes.len() < asks
                && matches!(
                    allow,
                    Allow::Whole | Allow::Status(_) | Allow::Plain | Allow::Answered
                )
            {
                wrong.push(format!(
                    "client {router}, connection {number}: {} of {asks} exchanges",
                    outcomes.len()
                ));
            }
        }
    }
    wrong.extend(origin_rules(fault, setup, report));
    wrong.extend(rows::hosts(setup, report));
    wrong.extend(rows::poisoned(setup, report));
    wrong.extend(rows::checked(fault, report));
    if matches!(fault.allow, Allow::Plain | Allow::PlainOrCut) {
        wrong.extend(rows::split_all_the_same(setup, report));
    }
    if setup.probe == Probe::Reply {
        wrong.extend(heads(setup, report));
    }
    wrong
}

fn allowed(allow: Allow, outcome: &Outcome) -> bool {
    match &outcome.end {
        End::Wrong(_) | End::Malformed(_) => false,
        End::Whole => match allow {
            Allow::Status(status) => outcome.status == status,
            Allow::Whole
            | Allow::WholeOrCut
            | Allow::WholeCutOrStall
            | Allow::Plain
            | Allow::PlainOrCut => {
                matches!(outcome.status, 200 | 206)
            }
            Allow::Prefix | Allow::Answered => true,
        },
        End::Rst | End::Fin => {
            matches!(
                allow,
                Allow::WholeOrCut | Allow::WholeCutOrStall | Allow::Prefix | Allow::PlainOrCut
            )
        }
        End::Open | End::Refused => matches!(allow, Allow::WholeCutOrStall),
        End::Left => matches!(allow, Allow::Prefix),
    }
}

/// HEADs that no client has asked for.
fn heads(setup: &Setup, report: &Report) -> Vec<String> {
    let asks = || setup.clients.iter().flatten().flat_map(|plan| &plan.asks);
    let requests = report.origin.requests.iter().map(|log| &log.request);
    requests
        .filter(|request| request.method == "HEAD")
        .filter(|request| !asks().any(|ask| ask.head_only && ask.raw == request.raw))
        .map(|request| format!("HEAD {} of the router's own", request.target))
        .collect()
}

/// U4: what the origin may see.
fn origin_rules(fault: &Fault, setup: &Setup, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    for garbage in &report.origin.garbage {
        wrong.push(format!("the origin got no HTTP request: {garbage:?}"));
    }
    let mut counts: Vec<(&str, &str, usize)> = Vec::new();
    // What is asked after the fault is another download.
    let requests = report.origin.requests.iter();
    for log in requests.filter(|log| log.at_us <= report.end_us) {
        let Some(range) = log.request.range.as_deref() else {
            continue;
        };
        let target = &log.request.target[..];
        match counts
            .iter_mut()
            .find(|(known, of, _)| *known == range && *of == target)
        {
            Some((_, _, count)) => *count += 1,
            None => counts.push((range, target, 1)),
        }
    }
    for (range, target, count) in counts {
        // Each download has its own exchange, which shares nothing with others (FAULTS Q8).
        let asks = setup.clients.iter().flatten().flat_map(|plan| &plan.asks);
        let of_it = |ask: &&Ask| String::from_utf8_lossy(&ask.raw).contains(&format!(" {target} "));
        // Not met yet where the object has changed: the own line asks twice, and so may two links that hedge.
        let each = 3 + usize::from(fault.name.ends_with("changed"));
        let most = each * asks.filter(of_it).count().max(1);
        if count > most {
            wrong.push(format!("{range} of {target} was asked {count} times"));
        }
    }
    wrong
}
