//! The sender over lossy lines, against an independent receiver, in virtual time.

use std::vec::Vec;

use super::super::testnet::{Ack, Data, Line, LineConfig, Receiver, Rng};
use super::*;

/// One transfer.
struct Case {
    seed: u64,
    bytes: u64,
    first_seq: u32,
    mss: u16,
    sack: bool,
    buffer: u64,
    shift: u8,
    forward: LineConfig,
    back: LineConfig,
    burst: usize,
    /// Bytes become available in steps of up to this; 0: all at once.
    trickle: u64,
    response: LossResponse,
    /// One in so many of the receiver's turns it forgets what it selectively acknowledged.
    renege_ppm: u32,
    ack_every: u32,
    limit: Duration,
}

impl Case {
    fn new(seed: u64, mbit: u64, one_way_us: u64, loss_ppm: u32) -> Self {
        let mut forward = LineConfig::new(mbit, one_way_us);
        forward.loss_ppm = loss_ppm;
        let back = LineConfig::new(mbit, one_way_us);
        Case {
            seed,
            bytes: 4_000_000,
            first_seq: 0xffff_0000u32.wrapping_add(seed as u32),
            mss: 1460,
            sack: true,
            buffer: 1 << 20,
            shift: 7,
            forward,
            back,
            burst: 32,
            trickle: 0,
            response: LossResponse::Measured,
            renege_ppm: 0,
            ack_every: 2,
            limit: Duration::from_secs(600),
        }
    }
}

#[derive(Debug, Default)]
struct Outcome {
    seconds: f64,
    sent: u64,
    again: u64,
    useless: u64,
    dropped: u64,
    timeouts: u64,
    longest_gap_us: u64,
}

impl Outcome {
    /// Payload rate, Mbit/s.
    #[allow(clippy::float_arithmetic)]
    fn mbit(&self, bytes: u64) -> f64 {
        bytes as f64 * 8.0 / self.seconds / 1e6
    }
}

#[allow(clippy::float_arithmetic)]
fn transfer(case: &Case) -> Outcome {
    let mut rng = Rng(case.seed);
    let mut now = Instant::from_millis(1_000);
    let mut config = SenderConfig::new(
        case.first_seq,
        case.mss,
        (case.buffer as u32 >> case.shift).min(65_535) << case.shift,
        case.shift,
        case.sack,
    );
    config.loss_response = case.response;
    config.give_up = Duration::from_secs(100_000);
    let mut sender = Sender::new(config, now);
    let mut receiver = Receiver::new(case.first_seq, case.sack, case.buffer, case.shift);
    receiver.ack_every = case.ack_every;
    let mut forward: Line<Data> = Line::new(case.forward);
    let mut back: Line<Ack> = Line::new(case.back);
    let mut outcome = Outcome::default();
    let begin = now;
    let mut available = 0;
    let mut next_available = now;
    let mut last_progress = now;
    loop {
        if now >= next_available && available < case.bytes {
            available = if case.trickle == 0 {
                case.bytes
            } else {
                (available + 1 + rng.below(case.trickle)).min(case.bytes)
            };
            sender.set_available(available);
            if available == case.bytes {
                sender.finish();
            }
            next_available = now + Duration::from_micros(1 + rng.below(3_000));
        }
        let mut sent = 0;
        while sent < case.burst {
            let Some(t) = sender.poll_transmit(now) else {
                break;
            };
            sent += 1;
            assert!(t.len <= case.mss);
            match t.kind {
                Kind::New => outcome.sent += 1,
                Kind::Retransmit => outcome.again += 1,
                Kind::Probe => {}
            }
            let data = Data {
                seq: t.seq,
                position: t.position,
                len: u32::from(t.len),
                fin: t.fin,
            };
            forward.send(now, &mut rng, usize::from(t.len) + 54, data);
        }
        assert!(!sender.dead(), "given up: seed {}", case.seed);
        if sender.is_done() {
            break;
        }
        let mut next = [
            forward.next_at(),
            back.next_at(),
            receiver.ack_at(),
            sender.poll_at(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now + Duration::from_secs(1));
        if available < case.bytes {
            next = next.min(next_available);
        }
        if sent == case.burst {
            // The ring drains at the rate of the line.
            next = next.min(now + Duration::from_micros(200));
        }
        assert!(
            next > now
                || forward.next_at().is_some_and(|at| at <= now)
                || back.next_at().is_some_and(|at| at <= now)
                || next >= now
        );
        now = next.max(now);
        assert!(
            now - begin < case.limit,
            "does not end: seed {} position {} of {}",
            case.seed,
            receiver.next,
            case.bytes
        );
        while let Some(data) = forward.receive(now) {
            let was = receiver.next;
            if rng.chance(case.renege_ppm) {
                receiver.renege();
            }
            if let Some(ack) = receiver.on_data(now, data) {
                let bytes = 54
                    + if ack.sack.is_empty() {
                        0
                    } else {
                        4 + 8 * ack.sack.len()
                    };
                back.send(now, &mut rng, bytes, ack);
            }
            if receiver.next > was {
                outcome.longest_gap_us = outcome
                    .longest_gap_us
                    .max((now - last_progress).total_micros());
                last_progress = now;
                if receiver.finished {
                    outcome.seconds = (now - begin).total_micros() as f64 / 1e6;
                }
            }
        }
        if receiver.ack_at().is_some_and(|at| at <= now) {
            let ack = receiver.ack(None);
            back.send(now, &mut rng, 54, ack);
        }
        while let Some(ack) = back.receive(now) {
            let info = AckInfo {
                seq: 1,
                ack: ack.ack,
                window: ack.window,
                sack: &ack.sack,
                payload_len: 0,
                fin: false,
            };
            let before = sender.backoff;
            sender.on_ack(now, &info);
            outcome.timeouts += u64::from(before > 0 && sender.backoff == 0);
        }
    }
    assert!(receiver.finished && receiver.next == case.bytes);
    assert_eq!(sender.acked_position(), case.bytes);
    outcome.useless = receiver.useless;
    outcome.dropped = forward.dropped;
    outcome
}

#[allow(clippy::float_arithmetic)]
fn median_mbit(mut cases: Vec<Case>) -> f64 {
    let mut rates: Vec<f64> = cases
        .iter_mut()
        .map(|case| transfer(case).mbit(case.bytes))
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[test]
#[allow(clippy::float_arithmetic)]
fn throughput_by_loss_and_round_trip() {
    let line = 25.0 * 1460.0 / 1538.0;
    std::println!(
        "payload rate as a share of what a 25 Mbit/s line carries; drop-tail queue 200 kB"
    );
    std::println!(
        "{:>8} | {:>7} {:>7} {:>7} {:>7} {:>7}",
        "rtt",
        "0 %",
        "0.1 %",
        "1 %",
        "3 %",
        "5 %"
    );
    for response in [LossResponse::Halve, LossResponse::Measured] {
        std::println!("{response:?}");
        for rtt_us in [1_000, 2_000, 5_000, 20_000, 50_000, 100_000] {
            std::print!("{:>5} ms |", rtt_us / 1000);
            for loss_ppm in [0, 1_000, 10_000, 30_000, 50_000] {
                let cases = (0..5)
                    .map(|seed| Case {
                        response,
                        bytes: 8_000_000,
                        ..Case::new(seed, 25, rtt_us / 2, loss_ppm)
                    })
                    .collect();
                let share = median_mbit(cases) / line;
                std::print!(" {share:>7.3}");
                if response == LossResponse::Measured {
                    let least = match (rtt_us, loss_ppm) {
                        (0..=20_000, 0) => 0.97,
                        (0..=5_000, 1_000) => 0.97,
                        (0..=5_000, 10_000) => 0.9,
                        (0..=5_000, 50_000) => 0.5,
                        _ => 0.0,
                    };
                    assert!(
                        share >= least,
                        "rtt {rtt_us} us, loss {loss_ppm} ppm: {share:.3} < {least}"
                    );
                }
            }
            std::println!();
        }
    }
}

#[test]
fn nothing_is_sent_twice_on_a_line_without_loss() {
    for seed in 0..40 {
        for rtt_us in [300, 2_000, 50_000] {
            let mut case = Case {
                bytes: 1_000_000 + seed * 777,
                ..Case::new(seed, 25, rtt_us, 0)
            };
            case.forward.queue = 1 << 30;
            case.trickle = if seed % 2 == 0 { 0 } else { 3_000 };
            case.ack_every = 1 + (seed % 8) as u32;
            case.sack = seed % 3 != 0;
            let outcome = transfer(&case);
            assert_eq!(outcome.again, 0, "seed {seed} rtt {rtt_us}: {outcome:?}");
        }
    }
}

#[test]
fn every_byte_arrives_over_every_kind_of_bad_line() {
    for seed in 0..2_000u64 {
        let mut rng = Rng(seed ^ 0x5eed);
        let mut case = Case::new(
            seed,
            1 + rng.below(100),
            50 + rng.below(60_000),
            rng.below(200_000) as u32,
        );
        case.bytes = 1 + rng.below(150_000);
        case.first_seq = if rng.chance(500_000) {
            (rng.below(150_000) as u32).wrapping_neg()
        } else {
            rng.next() as u32
        };
        case.mss = [216, 536, 1220, 1460][rng.below(4) as usize];
        case.sack = rng.chance(700_000);
        case.buffer = [2_000, 9_000, 65_535, 300_000][rng.below(4) as usize];
        case.shift = if case.buffer > 65_535 {
            3 + rng.below(5) as u8
        } else {
            rng.below(8) as u8
        };
        case.forward.queue = [6_000, 30_000, 1 << 30][rng.below(3) as usize];
        case.forward.duplicate_ppm = rng.below(50_000) as u32;
        case.forward.reorder_ppm = rng.below(100_000) as u32;
        case.forward.reorder_by = Duration::from_micros(rng.below(40_000));
        case.back.loss_ppm = rng.below(300_000) as u32;
        case.back.duplicate_ppm = if rng.chance(200_000) { 1_000_000 } else { 0 };
        case.back.reorder_ppm = rng.below(50_000) as u32;
        case.back.reorder_by = Duration::from_micros(rng.below(40_000));
        case.trickle = [0, 500, 5_000][rng.below(3) as usize];
        case.response = if rng.chance(500_000) {
            LossResponse::Halve
        } else {
            LossResponse::Measured
        };
        case.renege_ppm = if rng.chance(200_000) { 20_000 } else { 0 };
        case.ack_every = [1, 2, 8, 44][rng.below(4) as usize];
        case.limit = Duration::from_secs(3_600);
        transfer(&case);
    }
}

mod directed;
