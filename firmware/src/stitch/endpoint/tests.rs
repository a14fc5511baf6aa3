//! The endpoint against a smoltcp client over lossy lines, in virtual time.

use smoltcp::time::Duration;
use std::vec;
use std::vec::Vec;

use smoltcp::iface::SocketStorage;
use smoltcp::socket::tcp;

use super::super::extents::{Block, Extents, Pool};
use super::super::smoltcp_peer::{Client, server_frame};
use super::super::testnet::{Line, LineConfig, Rng};
use super::*;
use crate::wire::packet::Packet;

/// Who ends the connection, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    ClientFirst,
    ServerFirst,
    Both,
    ClientAborts,
    ServerAborts,
    ClientVanishes,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    up: u64,
    down: u64,
    end: End,
    line: LineConfig,
    back: LineConfig,
    client_buffer: usize,
}

fn byte_at(position: u64, salt: u8) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ salt
}

struct Outcome {
    seconds: f64,
    again: u64,
    sent: u64,
}

const UP: u8 = 0x11;
const DOWN: u8 = 0x77;

#[allow(clippy::float_arithmetic)]
fn run(case: &Case) -> Outcome {
    let mut rng = Rng(case.seed);
    let mut now = Instant::from_millis(5_000);
    let begin = now;
    let mut storage = [SocketStorage::EMPTY; 1];
    let (mut rx, mut tx) = (vec![0; case.client_buffer], vec![0; 4096]);
    let mut client = Client::new(&mut storage, &mut rx, &mut tx, case.seed | 1, now);
    client.connect();
    let mut memory: Vec<Block> = (0..64).map(|_| Block::EMPTY).collect();
    let mut pool = Pool::new(&mut memory);
    let mut stream = Extents::new();
    let mut stream_end = 0;
    let mut endpoint: Endpoint = Endpoint::new();
    endpoint.listen((case.seed as u32).wrapping_mul(0x9e37_79b9));
    let mut down: Line<Vec<u8>> = Line::new(case.line);
    let mut up: Line<Vec<u8>> = Line::new(case.back);

    let (mut sent_up, mut got_up, mut got_down) = (0u64, 0u64, 0u64);
    let mut outcome = Outcome {
        seconds: 0.0,
        again: 0,
        sent: 0,
    };
    let stop_at = if matches!(
        case.end,
        End::ClientAborts | End::ServerAborts | End::ClientVanishes
    ) {
        1 + rng.below(case.down.max(1))
    } else {
        u64::MAX
    };
    let mut stopped = false;
    let mut gone = false;
    let mut idle_turns = 0;
    loop {
        // The client's program.
        if !gone {
            let socket = client.socket();
            while socket.can_send() && sent_up < case.up {
                let len = (case.up - sent_up).min(1 + rng.below(600));
                let bytes: Vec<u8> = (sent_up..sent_up + len).map(|p| byte_at(p, UP)).collect();
                sent_up += socket.send_slice(&bytes).unwrap() as u64;
            }
            while socket.can_recv() {
                socket
                    .recv(|bytes| {
                        for (i, &byte) in bytes.iter().enumerate() {
                            assert_eq!(
                                byte,
                                byte_at(got_down + i as u64, DOWN),
                                "seed {}",
                                case.seed
                            );
                        }
                        got_down += bytes.len() as u64;
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            if got_down == case.down && outcome.seconds == 0.0 {
                outcome.seconds = (now - begin).total_micros() as f64 / 1e6;
            }
            let all_sent = sent_up == case.up;
            let remote_done = !socket.may_recv() && socket.state() != tcp::State::SynSent;
            let closes = match case.end {
                End::ClientFirst => all_sent && got_down == case.down,
                End::ServerFirst => all_sent && remote_done,
                End::Both => all_sent && socket.state() != tcp::State::SynSent,
                End::ClientAborts | End::ServerAborts | End::ClientVanishes => false,
            };
            if closes && socket.may_send() {
                socket.close();
            }
            if got_down >= stop_at && !stopped {
                match case.end {
                    End::ClientAborts => {
                        stopped = true;
                        socket.abort();
                    }
                    End::ClientVanishes => {
                        stopped = true;
                        gone = true;
                    }
                    End::ServerAborts => {
                        stopped = true;
                        endpoint.abort();
                    }
                    End::ClientFirst | End::ServerFirst | End::Both => {}
                }
            }
        }
        // The server's program.
        while endpoint.recv(|bytes| {
            let take = bytes.len().min(1 + rng.below(3_000) as usize);
            for (i, &byte) in bytes[..take].iter().enumerate() {
                assert_eq!(byte, byte_at(got_up + i as u64, UP), "seed {}", case.seed);
            }
            got_up += take as u64;
            take
        }) > 0
        {}
        while stream_end < case.down && stream_end - stream.base() < 180_000 && endpoint.is_open() {
            let len = (case.down - stream_end).min(1 + rng.below(4_000));
            let bytes: Vec<u8> = (stream_end..stream_end + len)
                .map(|p| byte_at(p, DOWN))
                .collect();
            stream.write(&mut pool, stream_end, &bytes).unwrap();
            stream_end += len;
        }
        endpoint.set_available(stream_end);
        let server_closes = match case.end {
            End::ClientFirst => endpoint.is_remote_closed(),
            End::ServerFirst => got_up == case.up,
            End::Both => endpoint.is_open(),
            End::ClientAborts | End::ServerAborts | End::ClientVanishes => {
                endpoint.is_remote_closed()
            }
        };
        if server_closes && stream_end == case.down && endpoint.is_open() {
            endpoint.close();
        }
        let mut burst = 0;
        while burst < 32
            && let Some(out) = endpoint.poll_transmit(now)
        {
            burst += 1;
            let mut payload = vec![0; usize::from(out.len)];
            assert_eq!(
                stream.read(&pool, out.position, &mut payload),
                payload.len()
            );
            outcome.sent += u64::from(out.len > 0);
            outcome.again += u64::from(out.is_again);
            let frame = server_frame(
                out.seq,
                out.ack,
                out.flags,
                out.window,
                out.options.as_bytes(),
                &payload,
            );
            down.send(now, &mut rng, frame.len(), frame);
        }
        if !gone {
            client.poll(now);
            while let Some(frame) = client.transmit() {
                up.send(now, &mut rng, frame.len(), frame);
            }
        }
        let client_over = gone
            || matches!(
                client.socket().state(),
                tcp::State::Closed | tcp::State::TimeWait
            );
        if endpoint.is_closed() && client_over {
            break;
        }

        let client_at = if gone {
            None
        } else if client.socket().can_recv() || client.socket().can_send() && sent_up < case.up {
            Some(now) // its program runs before time goes on
        } else {
            client.poll_at(now)
        };
        let next = [down.next_at(), up.next_at(), client_at, endpoint.poll_at()]
            .into_iter()
            .flatten()
            .min();
        let next = if burst == 32 {
            Some(now + Duration::from_micros(200))
        } else {
            next
        };
        let next = next.unwrap_or(now + Duration::from_millis(500)).max(now);
        idle_turns = if next == now { idle_turns + 1 } else { 0 };
        assert!(idle_turns < 200, "does not rest: {case:?}");
        now = next;
        assert!(
            now - begin < Duration::from_secs(900),
            "does not end: {case:?} up {got_up} down {got_down} {:?} {:?}",
            endpoint.state,
            client.socket().state()
        );
        while let Some(frame) = up.receive(now) {
            let packet = Packet::parse(&frame).unwrap();
            let header = packet.tcp().unwrap();
            let options = Summary::of(packet.tcp_options(&frame));
            let received = Received {
                seq: header.seq,
                ack: header.ack,
                flags: header.flags,
                window: header.window,
                options: &options,
                payload: packet.payload(&frame),
            };
            endpoint.on_segment(now, &received);
            stream.release_to(&mut pool, endpoint.acked_position());
        }
        while let Some(frame) = down.receive(now) {
            if !gone {
                client.receive(&frame);
            }
        }
    }
    if matches!(case.end, End::ClientFirst | End::ServerFirst | End::Both) {
        assert_eq!((got_up, got_down), (case.up, case.down), "{case:?}");
        assert_eq!(stream.base(), case.down);
        assert_eq!(pool.blocks_free(), pool.blocks_total());
    }
    outcome
}

#[test]
fn every_byte_arrives_both_ways_and_every_end_is_an_end() {
    let only = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in 0..1_500u64 {
        if only.is_some_and(|only: u64| only != seed) {
            continue;
        }
        let mut rng = Rng(seed ^ 0xe4d);
        let lossless = rng.chance(200_000);
        let mut line = LineConfig::new(2 + rng.below(50), 200 + rng.below(20_000));
        let mut back = line;
        for one in [&mut line, &mut back] {
            if !lossless {
                one.loss_ppm = rng.below(60_000) as u32;
                one.duplicate_ppm = rng.below(30_000) as u32;
                one.reorder_ppm = rng.below(50_000) as u32;
                one.reorder_by = Duration::from_micros(rng.below(10_000));
            }
        }
        let end = [
            End::ClientFirst,
            End::ServerFirst,
            End::Both,
            End::ClientAborts,
            End::ServerAborts,
            End::ClientVanishes,
        ][rng.below(6) as usize];
        run(&Case {
            seed,
            up: rng.below(20_000),
            down: rng.below(120_000),
            end,
            line,
            back,
            client_buffer: [2_000, 16_384, 65_536, 262_144][rng.below(4) as usize],
        });
    }
}

#[test]
#[allow(clippy::float_arithmetic)]
fn smoltcp_receives_at_most_of_the_rate_of_a_lossy_air() {
    std::println!("payload rate of the peer hop (smoltcp receives), share of what 25 Mbit/s carry");
    for rtt_us in [2_000, 5_000, 20_000] {
        std::print!("{:>3} ms |", rtt_us / 1000);
        for loss_ppm in [0, 1_000, 10_000, 30_000, 50_000] {
            let mut shares: Vec<f64> = (0..5)
                .map(|seed| {
                    let mut line = LineConfig::new(25, rtt_us / 2);
                    line.loss_ppm = loss_ppm;
                    let case = Case {
                        seed,
                        up: 100,
                        down: 6_000_000,
                        end: End::ClientFirst,
                        line,
                        back: LineConfig::new(25, rtt_us / 2),
                        client_buffer: 131_072,
                    };
                    let outcome = run(&case);
                    if loss_ppm == 0 {
                        assert_eq!(outcome.again, 0, "of {} segments", outcome.sent);
                    }
                    case.down as f64 * 8.0 / outcome.seconds / 1e6 / (25.0 * 1460.0 / 1538.0)
                })
                .collect();
            shares.sort_by(f64::total_cmp);
            std::print!(" {:>6.3}", shares[2]);
            let least = match (rtt_us, loss_ppm) {
                (_, 0) => 0.95,
                (..=5_000, 10_000) => 0.8,
                _ => 0.0,
            };
            assert!(
                shares[2] >= least,
                "rtt {rtt_us} us, loss {loss_ppm} ppm: {:.3} < {least}",
                shares[2]
            );
        }
        std::println!();
    }
}
