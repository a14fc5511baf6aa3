//! More faults of the simulation, one or more for each row of the matrix that is named in its note, and what is
//! checked besides the outcome.
//!
//! Follows: `qemu/FAULTS.md`, which names them.

use super::behaviour::Behaviour::{self, Bent};
use super::bend::{self, Bend};
use super::client::{Ask, End, Ending, FetchPlan};
use super::oddity::Oddity;
use super::scenario::{
    Allow, Fault, SECOND, first_plan, midway, on_ranges, origin_does, origin_does_to_b, resize,
};
use super::world::{Act, Report, Setup, Wire, wan_address};
use crate::line::Shape;

/// ETags that no strict reader takes for a strong validator.
const ODD_TAGS: [&str; 5] = ["abc-0", "", "\"a-0", "W/\"a-0\"", "\"a\u{7f}-0\""];

/// Lengths that are none; the client reads to the end of the connection, but for the first.
const ODD_LENGTHS: [&str; 7] = [
    "9999999999999999999",
    "99999999999999999999",
    "1234567890123456789012345678901234567890",
    "+5",
    "5, 6",
    "0x5",
    "",
];

/// Fields of replies that are one client's alone.
const PRIVATE: [&str; 5] = [
    "Cache-Control: no-store\r\n",
    "Cache-Control: max-age=60, private\r\n",
    "Set-Cookie: session=1\r\n",
    "Vary: *\r\n",
    "Vary: Cookie\r\n",
];

/// Range fields that a server ignores.
const ODD_RANGES: [&str; 4] = ["bytes=0-9,20-29", "items=0-5", "bytes=9-5", "bytes 0-5"];

/// TCP options, padded: MPTCP, fast open, AO, MD5, an experiment.
const ODD_OPTIONS: [&[u8]; 5] = [
    &[30, 12, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8],
    &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1],
    &[29, 16, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    &[
        19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1,
    ],
    &[253, 4, 0xf9, 0x89],
];

/// The first request with these fields, for an object that is worth splitting.
fn ask_with(setup: &mut Setup, fields: &str) {
    let size = 400_000 + setup.seed % 400_000;
    let ask = Ask::get(setup.seed % 1_000, size, "film.mp4", fields);
    first_plan(setup).asks[0] = ask;
}

fn with_host(plan: &mut FetchPlan, host: &str) {
    for ask in &mut plan.asks {
        let raw = String::from_utf8_lossy(&ask.raw);
        ask.raw = raw.replace("origin.example", host).into_bytes();
    }
}

/// One router more, with the second one's lines.
fn third(setup: &mut Setup) {
    setup.lines.push(setup.lines[1]);
    setup.clients.push(Vec::new());
}

/// The faults, as many as there are.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "open-ranges",
        note: "O5: `a-` is honoured, `a-b` answered with the whole",
        apply: |setup, _| on_ranges(setup, Bent(Bend::OpenRangesOnly)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-403",
        note: "O8: HEAD gets 403",
        apply: |setup, _| origin_does(setup, Behaviour::HeadStatus(403)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-404",
        note: "O8: HEAD gets 404",
        apply: |setup, _| origin_does(setup, Behaviour::HeadStatus(404)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-body",
        note: "O8: a body follows the reply to HEAD",
        apply: |setup, _| origin_does(setup, Bent(Bend::HeadBody)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-length",
        note: "O9: HEAD tells another length",
        apply: |setup, _| origin_does(setup, Bent(Bend::HeadLength(700_000))),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-etag",
        note: "O9: HEAD tells another ETag",
        apply: |setup, _| origin_does(setup, Bent(Bend::HeadEtag)),
        allow: Allow::Whole,
    },
    Fault {
        name: "head-type",
        note: "O9: HEAD tells another type",
        apply: |setup, _| origin_does(setup, Bent(Bend::HeadType)),
        allow: Allow::Whole,
    },
    Fault {
        name: "get-401",
        note: "O10: HEAD says 200, GET 401",
        apply: |setup, _| origin_does(setup, Behaviour::GetStatus(401)),
        allow: Allow::Status(401),
    },
    Fault {
        name: "get-403",
        note: "O10: HEAD says 200, GET 403",
        apply: |setup, _| origin_does(setup, Behaviour::GetStatus(403)),
        allow: Allow::Status(403),
    },
    Fault {
        name: "etag-odd",
        note: "O17: ETags that are none, or that join nothing",
        apply: |setup, rng| {
            let tag = ODD_TAGS[rng.below(ODD_TAGS.len() as u64) as usize];
            origin_does(setup, Bent(Bend::Etag(tag)));
        },
        allow: Allow::Plain,
    },
    Fault {
        name: "coded",
        note: "O18: the whole reply has a content coding",
        apply: |setup, _| {
            origin_does(
                setup,
                Bent(Bend::Fields(
                    "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n",
                )),
            )
        },
        allow: Allow::Plain,
    },
    Fault {
        name: "coded-range",
        note: "O19: a 206 has a content coding that the whole has not",
        apply: |setup, _| on_ranges(setup, Bent(Bend::RangeFields("Content-Encoding: gzip\r\n"))),
        allow: Allow::Whole,
    },
    Fault {
        name: "multipart",
        note: "O21: one range as a multipart body",
        apply: |setup, _| on_ranges(setup, Bent(Bend::Multipart)),
        allow: Allow::Whole,
    },
    Fault {
        name: "length-disagrees",
        note: "O25: Content-Length and Content-Range of a 206 disagree",
        apply: |setup, _| on_ranges(setup, Bent(Bend::LengthDisagrees)),
        allow: Allow::Whole,
    },
    Fault {
        name: "trailing",
        note: "O26: garbage behind the body of a 206",
        apply: |setup, _| {
            on_ranges(
                setup,
                Bent(Bend::Trailing(b"garbage that nobody announced")),
            )
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "trailing-reply",
        note: "O26: another reply at once behind the body of a 206",
        apply: |setup, _| {
            on_ranges(
                setup,
                Bent(Bend::Trailing(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                )),
            )
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "length-odd",
        note: "O30: Content-Length that is no plain number below 2^63",
        apply: |setup, rng| {
            let length = ODD_LENGTHS[rng.below(ODD_LENGTHS.len() as u64) as usize];
            origin_does(setup, Bent(Bend::Length(length)));
        },
        allow: Allow::PlainOrCut,
    },
    Fault {
        name: "private",
        note: "O31: no-store, private, cookies, Vary",
        apply: |setup, rng| {
            let lines = PRIVATE[rng.below(PRIVATE.len() as u64) as usize];
            origin_does(setup, Bent(Bend::Fields(lines)));
        },
        allow: Allow::Plain,
    },
    Fault {
        name: "no-transform",
        note: "O31: no-transform alone",
        apply: |setup, _| origin_does(setup, Bent(Bend::Fields("Cache-Control: no-transform\r\n"))),
        allow: Allow::Whole,
    },
    Fault {
        name: "fields-60",
        note: "O32: 60 unknown fields, with bytes of 8 bits",
        apply: |setup, _| origin_does(setup, Bent(Bend::ManyFields(60))),
        allow: Allow::Whole,
    },
    Fault {
        name: "about-threshold",
        note: "O29: 0, 1, and the bytes about the threshold",
        apply: |setup, rng| {
            let sizes = [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1];
            resize(setup, sizes[rng.below(5) as usize]);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "pause-b",
        note: "K5: a fetch of the neighbour stalls for 5 s or 60 s",
        apply: |setup, rng| {
            let us = [5, 60][rng.below(2) as usize] * SECOND;
            origin_does_to_b(setup, Bent(Bend::Pause(rng.below(200_000), us)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "pause-all",
        note: "K5: every reply stalls for 5 s",
        apply: |setup, rng| origin_does(setup, Bent(Bend::Pause(rng.below(200_000), 5 * SECOND))),
        allow: Allow::Whole,
    },
    Fault {
        name: "slow-head-b",
        note: "K7: one byte of head a second for the neighbour",
        apply: |setup, _| origin_does_to_b(setup, Bent(Bend::SlowHead(1))),
        allow: Allow::Whole,
    },
    Fault {
        name: "late-all",
        note: "K8: every reply 30 s late",
        apply: |setup, _| origin_does(setup, Behaviour::Late(30 * SECOND)),
        allow: Allow::Whole,
    },
    Fault {
        name: "one-connection",
        note: "K12: a second connection of an address is refused",
        apply: |setup, _| setup.origin.one_connection = true,
        allow: Allow::Whole,
    },
    Fault {
        name: "forbid-b-401",
        note: "K13: 401 for the neighbour",
        apply: |setup, _| origin_does_to_b(setup, Behaviour::GetStatus(401)),
        allow: Allow::Whole,
    },
    Fault {
        name: "forbid-b-451",
        note: "K13: 451 for the neighbour",
        apply: |setup, _| origin_does_to_b(setup, Behaviour::GetStatus(451)),
        allow: Allow::Whole,
    },
    Fault {
        name: "no-length",
        note: "K16: no length, the connection's end is the body's",
        apply: |setup, _| origin_does(setup, Bent(Bend::NoLength)),
        allow: Allow::PlainOrCut,
    },
    Fault {
        name: "keep-alive-1",
        note: "K17: `Keep-Alive: max=1`, and closes after each reply",
        apply: |setup, _| {
            origin_does(
                setup,
                Bent(Bend::Fields("Keep-Alive: timeout=5, max=1\r\n")),
            );
            origin_does(setup, Behaviour::CloseAfterReply { announce: false });
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "interim",
        note: "K18: 100, 102 or 103 before each reply, up to twenty of them",
        apply: |setup, rng| {
            let status = [100, 102, 103][rng.below(3) as usize];
            let count = 1 + rng.below(20) as u32;
            origin_does(setup, Bent(Bend::Interim(status, count)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "alt-svc",
        note: "K19: another service and trailers are announced",
        apply: |setup, _| {
            origin_does(
                setup,
                Bent(Bend::Fields(
                    "Alt-Svc: h2=\":443\"; ma=60\r\nTrailer: X-Sum\r\n",
                )),
            )
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "reset-at-end",
        note: "K20: the origin answers the last ACK with a reset",
        apply: |setup, _| origin_does(setup, Bent(Bend::ResetAtEnd)),
        allow: Allow::Whole,
    },
    Fault {
        name: "filtered-b",
        note: "K22: the neighbour's packets to the origin are lost",
        apply: |setup, _| setup.origin.unreachable = Some((wan_address(1), false)),
        allow: Allow::Whole,
    },
    Fault {
        name: "unreachable-b",
        note: "K22: the neighbour is told that the origin cannot be reached",
        apply: |setup, _| setup.origin.unreachable = Some((wan_address(1), true)),
        allow: Allow::Whole,
    },
    Fault {
        name: "two-sites",
        note: "K23: two sites on one address, and port 8080",
        apply: |setup, rng| {
            let mut other = first_plan(setup).clone();
            with_host(&mut other, "another.example");
            other.start_us += rng.below(SECOND / 2);
            let mut third = other.clone();
            third.server.1 = 8080;
            with_host(&mut third, "origin.example:8080");
            setup.clients[0].extend([other, third]);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "head-large",
        note: "G5: a request head with a field of 60 KiB",
        apply: |setup, _| {
            let fields = format!("X-Long: {}\r\n", "x".repeat(60 * 1024));
            ask_with(setup, &fields);
        },
        allow: Allow::Plain,
    },
    Fault {
        name: "reply-head-large",
        note: "G5: a reply with 300 fields",
        apply: |setup, _| origin_does(setup, Bent(Bend::ManyFields(300))),
        allow: Allow::Plain,
    },
    Fault {
        name: "pieces-slow",
        note: "G6: the request in pieces a second apart",
        apply: |setup, rng| {
            let plan = first_plan(setup);
            plan.pieces = (0..4).map(|_| 10 + rng.below(60) as usize).collect();
            plan.piece_gap_us = SECOND;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "pieces-disordered",
        note: "G7: the request in pieces that overtake each other and come twice",
        apply: |setup, rng| {
            setup.lines[0].lan.reorder_ppm = 300_000;
            setup.lines[0].lan.reorder_us = 20_000;
            setup.lines[0].lan.duplicate_ppm = 200_000;
            let plan = first_plan(setup);
            plan.pieces = (0..5).map(|_| 1 + rng.below(40) as usize).collect();
            plan.piece_gap_us = 1 + rng.below(3_000);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "host-other",
        note: "G10: Host names another site than the address",
        apply: |setup, _| with_host(first_plan(setup), "elsewhere.example"),
        allow: Allow::Whole,
    },
    Fault {
        name: "range-odd",
        note: "Q2: several ranges, another unit, malformed ones",
        apply: |setup, rng| {
            let range = ODD_RANGES[rng.below(ODD_RANGES.len() as u64) as usize];
            ask_with(setup, &format!("Range: {range}\r\n"));
        },
        allow: Allow::Plain,
    },
    Fault {
        name: "keep-alive-minute",
        note: "Q5: a second GET a minute after the first",
        apply: |setup, rng| {
            let ask = Ask::get(
                setup.seed % 1_000 + 1,
                1 + rng.below(600_000),
                "film.mp4",
                "",
            );
            let plan = first_plan(setup);
            plan.asks.push(ask);
            plan.think_us = 60 * SECOND;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "post-after",
        note: "Q6: a POST on the connection behind a GET",
        apply: |setup, rng| {
            let post = Ask::with_method("POST", 1, 500_000, "film.mp4", "");
            let plan = first_plan(setup);
            plan.asks.push(post);
            plan.think_us = [0, 1_000, 2 * SECOND][rng.below(3) as usize];
        },
        allow: Allow::Answered,
    },
    Fault {
        name: "forty",
        note: "Q7: 40 downloads at once",
        apply: |setup, rng| {
            for number in 1..40 {
                let mut plan = setup.clients[0][0].clone();
                let size = 100_000 + rng.below(200_000);
                plan.asks = vec![Ask::get(setup.seed % 1_000 + number, size, "film.mp4", "")];
                plan.start_us += rng.below(SECOND);
                setup.clients[0].push(plan);
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "twice",
        note: "Q8: the same object twice at the same time",
        apply: |setup, rng| {
            let mut plan = setup.clients[0][0].clone();
            plan.start_us += rng.below(2) * rng.below(SECOND);
            setup.clients[0].push(plan);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "aborts-late",
        note: "Q10: the client resets in the last segment",
        apply: |setup, rng| {
            let size = 300_000 + rng.below(600_000);
            resize(setup, size);
            first_plan(setup).ending = Ending::AbortAfter(size - 1 - rng.below(1_400));
        },
        allow: Allow::Prefix,
    },
    Fault {
        name: "power-off",
        note: "Q14: the client never sends another packet",
        apply: |setup, rng| {
            let at = midway(rng);
            for wire in [Wire::LanUp, Wire::LanDown] {
                let shape = Shape {
                    up: false,
                    ..setup.lines[0].lan
                };
                setup.acts.push((at, Act::Line(0, wire, shape)));
            }
            // Longer than an idle connection keeps its entry.
            setup.limit_us = 3 * 3_600 * SECOND;
        },
        allow: Allow::WholeCutOrStall,
    },
    Fault {
        name: "mss",
        note: "T1: a maximum segment size of 8, 48, 536, 1220, 65535 or none",
        apply: |setup, rng| {
            resize(setup, 20_000 + rng.below(300_000));
            let plan = first_plan(setup);
            match rng.below(6) {
                0 => plan.syn.no_mss = true,
                number => plan.syn.mss = Some([8, 48, 536, 1_220, 65_535][number as usize - 1]),
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "scale",
        note: "T2: a window scale of 0, 1, 7, 14 or 15",
        apply: |setup, rng| {
            let plan = first_plan(setup);
            plan.window_scale = true;
            plan.syn.scale = Some([0, 1, 7, 14, 15][rng.below(5) as usize]);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "scale-unanswered",
        note: "T3: the client offers a window scale, the origin none",
        apply: |setup, _| {
            first_plan(setup).window_scale = true;
            setup.origin.no_scale = true;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "options",
        note: "T6: MPTCP, fast open, AO, MD5 or an unknown option in the SYN",
        apply: |setup, rng| {
            let plan = first_plan(setup);
            // Room for the longest.
            plan.timestamps = false;
            plan.syn.option = ODD_OPTIONS[rng.below(ODD_OPTIONS.len() as u64) as usize];
        },
        allow: Allow::Plain,
    },
    Fault {
        name: "ecn",
        note: "T7: ECN is offered and all is marked",
        apply: |setup, _| setup.oddity = Some(Oddity::Marked),
        allow: Allow::Whole,
    },
    Fault {
        name: "urgent",
        note: "T8: the request is urgent",
        apply: |setup, _| setup.oddity = Some(Oddity::Urgent),
        allow: Allow::Plain,
    },
    Fault {
        name: "acks-divided",
        note: "T14: each ACK in up to ten steps",
        apply: |setup, _| setup.oddity = Some(Oddity::DividesAcks),
        allow: Allow::Whole,
    },
    Fault {
        name: "resets-near",
        note: "T17: resets near the right number and far from it",
        apply: |setup, _| setup.oddity = Some(Oddity::NearResets),
        allow: Allow::WholeCutOrStall, // the origin's stack takes any reset in its window
    },
    Fault {
        name: "syns",
        note: "T18: SYNs and SYN-ACKs in the connection",
        apply: |setup, _| setup.oddity = Some(Oddity::Syns),
        allow: Allow::Whole,
    },
    Fault {
        name: "acks-late",
        note: "T14: every ACK 500 ms late",
        apply: |setup, _| first_plan(setup).ack_delay_us = Some(500_000),
        allow: Allow::Whole,
    },
    Fault {
        name: "port-again",
        note: "T19: the same port again right after a reset",
        apply: |setup, rng| {
            let mut plan = setup.clients[0][0].clone();
            plan.port = Some(40_000);
            let mut again = plan.clone();
            // Before its end: a connection that both sides closed rests in the client's TIME-WAIT.
            let size = plan.asks[0].object.size;
            plan.ending = Ending::AbortAfter(rng.below(size.clamp(1, 100_000)));
            again.start_us += 3 * SECOND + rng.below(SECOND);
            setup.clients[0] = vec![plan, again];
        },
        allow: Allow::Prefix,
    },
    Fault {
        name: "keep-alive-probes",
        note: "T20: keep-alive probes, and a second GET ten minutes later",
        apply: |setup, rng| {
            let ask = Ask::get(
                setup.seed % 1_000 + 1,
                1 + rng.below(600_000),
                "film.mp4",
                "",
            );
            let plan = first_plan(setup);
            plan.asks.push(ask);
            plan.keep_alive_us = Some(20 * SECOND);
            plan.think_us = 600 * SECOND;
            setup.limit_us = 1_800 * SECOND;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "flap-wan-b",
        note: "N4: the neighbour's line goes away and comes back every 2 s",
        apply: |setup, _| {
            for turn in 1..20 {
                for (wire, shape) in [
                    (Wire::WanUp, setup.lines[1].wan_up),
                    (Wire::WanDown, setup.lines[1].wan_down),
                ] {
                    let shape = Shape {
                        up: turn % 2 == 0,
                        ..shape
                    };
                    setup.acts.push((turn * SECOND, Act::Line(1, wire, shape)));
                }
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "air-one-way",
        note: "N5: one direction of the air is cut midway",
        apply: |setup, rng| {
            let index = rng.below(2) as usize;
            let shape = Shape {
                up: false,
                ..setup.lines[index].air
            };
            setup
                .acts
                .push((midway(rng), Act::Line(index, Wire::Air, shape)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "air-poor",
        note: "N5: the air has 1 Mbit/s, or 500 ms",
        apply: |setup, rng| {
            let is_slow = rng.below(2) == 0;
            for lines in &mut setup.lines {
                match is_slow {
                    true => lines.air.rate_bit_s = 1_000_000,
                    false => lines.air.delay_us = 500_000,
                }
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "wan-a-gone",
        note: "N7: the own line is cut for good midway",
        apply: |setup, rng| {
            let at = midway(rng);
            for (wire, shape) in [
                (Wire::WanUp, setup.lines[0].wan_up),
                (Wire::WanDown, setup.lines[0].wan_down),
            ] {
                setup
                    .acts
                    .push((at, Act::Line(0, wire, Shape { up: false, ..shape })));
            }
            setup.limit_us = 300 * SECOND;
        },
        allow: Allow::WholeCutOrStall,
    },
    Fault {
        name: "rates-apart",
        note: "N9: one line has a hundredth of the other's rate, or the rates change ten times",
        apply: |setup, rng| {
            let index = rng.below(2) as usize;
            if rng.below(2) == 0 {
                let lines = &mut setup.lines[1];
                lines.wan_down.rate_bit_s /= 100;
                return;
            }
            let drawn = setup.lines[index].wan_down;
            for turn in 1..11 {
                let rate_bit_s = match turn % 2 {
                    0 => drawn.rate_bit_s,
                    _ => drawn.rate_bit_s / 10,
                };
                let shape = Shape {
                    rate_bit_s,
                    ..drawn
                };
                setup
                    .acts
                    .push((turn * SECOND / 2, Act::Line(index, Wire::WanDown, shape)));
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "far-b",
        note: "N10: the neighbour's line takes 2 s, the own 5 ms",
        apply: |setup, _| {
            for (index, delay_us) in [(0, 5_000), (1, 2 * SECOND)] {
                setup.lines[index].wan_up.delay_us = delay_us;
                setup.lines[index].wan_down.delay_us = delay_us;
            }
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "deep-queue",
        note: "N11: the own line's queue holds 2 s",
        apply: |setup, _| {
            let shape = &mut setup.lines[0].wan_down;
            shape.queue_bytes = (shape.rate_bit_s / 4) as usize;
            setup.origin.reno = false;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "freeze-b",
        note: "P1: the neighbour stands still for up to 10 s, or for good",
        apply: |setup, rng| {
            let us = match rng.below(3) {
                0 => 3_600 * SECOND,
                _ => 100_000 + rng.below(10 * SECOND),
            };
            setup.acts.push((midway(rng), Act::Freeze(1, us)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "address-b",
        note: "P2: the neighbour's WAN address changes midway",
        apply: |setup, rng| {
            let line = "set wan.address 203.0.113.77/26".to_string();
            setup.acts.push((midway(rng), Act::Console(1, line)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "three",
        note: "P8: three routers, each neighbour in turn reset",
        apply: |setup, rng| {
            third(setup);
            let at = midway(rng);
            setup.acts.push((at, Act::Reset(1)));
            setup.acts.push((at + rng.below(2 * SECOND), Act::Reset(2)));
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "three-third-fastest",
        note: "P8: three routers, the third has by far the fastest line",
        apply: |setup, _| {
            third(setup);
            setup.lines[2].wan_down.rate_bit_s = 40_000_000;
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "both-lend",
        note: "P9: both download at once, and each lends to the other",
        apply: |setup, rng| {
            let size = 800_000 + rng.below(1_500_000);
            resize(setup, size);
            let mut plan = setup.clients[0][0].clone();
            plan.asks = vec![Ask::get(setup.seed % 1_000 + 7, size, "film.mp4", "")];
            setup.clients[1].push(plan);
        },
        allow: Allow::Whole,
    },
    Fault {
        name: "clock-fast-b",
        note: "P10: the neighbour's clock is 2 % fast",
        apply: |setup, _| setup.fast_ppm = 20_000,
        allow: Allow::Whole,
    },
    Fault {
        name: "clock-wraps",
        note: "P10: both clocks are counters that wrap in the download",
        apply: |setup, rng| setup.count_hertz = Some(100_000_000 + rng.below(40_000_000) as u32),
        allow: Allow::Whole,
    },
];

/// What one fault's runs must show besides.
pub fn checked(fault: &Fault, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    match fault.name {
        "fields-60" => {
            let fields = bend::unknown_fields(60);
            let outcomes = report.outcomes[0].iter().flatten();
            let without = outcomes.filter(|outcome| !outcome.head.contains(&fields));
            wrong.extend(
                without.map(|outcome| format!("not every field arrived: {}", outcome.head)),
            );
        }
        "post-after" => {
            let requests = report.origin.requests.iter();
            let posts = requests.filter(|log| log.request.method == "POST").count();
            if posts > 1 {
                wrong.push(format!("the POST was asked {posts} times"));
            }
            let statuses: Vec<u16> = report.outcomes[0]
                .iter()
                .flatten()
                .map(|outcome| outcome.status)
                .collect();
            if statuses != [200, 501] {
                wrong.push(format!("statuses {statuses:?}"));
            }
        }
        "port-again" => {
            let last = report.outcomes[0]
                .last()
                .and_then(|outcomes| outcomes.last());
            if last.is_none_or(|outcome| outcome.end != End::Whole) {
                wrong.push(format!("on the port used again: {last:?}"));
            }
        }
        "power-off" => wrong.extend(report.unrest.iter().cloned()),
        _ => {}
    }
    wrong
}

/// U4: the site and the object that the origin is asked for are what some client asked that address for.
pub fn hosts(setup: &Setup, report: &Report) -> Vec<String> {
    let asked = |host: &str, target: &str| {
        let line = format!(" {target} HTTP/1.1\r\nHost: {host}\r\n");
        let plans = setup.clients.iter().flatten().chain(&setup.again);
        plans
            .flat_map(|plan| &plan.asks)
            .any(|ask| String::from_utf8_lossy(&ask.raw).contains(&line))
    };
    let requests = report.origin.requests.iter().map(|log| &log.request);
    requests
        .filter(|request| !asked(request.host.as_deref().unwrap_or(""), &request.target))
        .map(|request| format!("nobody asked {:?} for {}", request.host, request.target))
        .collect()
}

/// Ranges that the origin was asked for by the routers themselves.
pub fn split_all_the_same(setup: &Setup, report: &Report) -> Vec<String> {
    let asks = || setup.clients.iter().flatten().flat_map(|plan| &plan.asks);
    // What is asked after the fault may be split.
    let until = |at: u64| at <= report.end_us;
    let logs = report.origin.requests.iter().filter(|log| until(log.at_us));
    logs.filter(|log| log.request.range.is_some())
        .filter(|log| !asks().any(|ask| ask.raw == log.request.raw))
        .map(|log| {
            format!(
                "{:?} was asked for of {}",
                log.request.range, log.request.target
            )
        })
        .collect()
}

/// U7: the same download without the fault, right after, is whole.
pub fn poisoned(setup: &Setup, report: &Report) -> Vec<String> {
    // On lines that lose frames smoltcp as the origin waits up to a minute for each loss: the run may end before it.
    let is_lossy = setup.any_line(|shape| shape.loss_ppm > 0 || shape.corrupt_ppm > 0)
        || report.lines[0].iter().any(|line| line.dropped_full > 0);
    let may_wait = |end: &End| is_lossy && *end == End::Open;
    let again = report.again.as_ref();
    let bad = again
        .filter(|again| (again.end != End::Whole && !may_wait(&again.end)) || again.status != 200);
    let texts = bad.map(|again| {
        format!(
            "after the fault: {:?}, status {}, {} bytes",
            again.end, again.status, again.body_bytes
        )
    });
    texts.into_iter().collect()
}
