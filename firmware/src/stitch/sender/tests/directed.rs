//! One behaviour each, segment by segment.

use super::*;

const MSS: u32 = 1000;

fn at(ms: i64) -> Instant {
    Instant::from_millis(10_000 + ms)
}

/// Available: 100 segments; the client's window `window`, not scaled.
fn sender(window: u16) -> Sender {
    let mut config = SenderConfig::new(5_000, MSS as u16, u32::from(window), 0, true);
    config.rtt = Some(Duration::from_millis(10));
    let mut sender = Sender::new(config, at(0));
    sender.set_available(100_000);
    sender
}

fn ack(
    sender: &mut Sender,
    ms: i64,
    position: u32,
    window: u16,
    sack: &[(u32, u32)],
) -> AckOutcome {
    let sack: Vec<(u32, u32)> = sack.iter().map(|&(a, b)| (5_000 + a, 5_000 + b)).collect();
    let info = AckInfo {
        seq: 1,
        ack: 5_000 + position,
        window,
        sack: &sack,
        payload_len: 0,
        fin: false,
    };
    sender.on_ack(at(ms), &info)
}

/// Everything that may go now: position, length, kind.
fn drain(sender: &mut Sender, ms: i64) -> Vec<(u64, u16, Kind)> {
    core::iter::from_fn(|| sender.poll_transmit(at(ms)))
        .map(|t| (t.position, t.len, t.kind))
        .collect()
}

#[test]
fn t15_an_ack_of_what_was_never_sent_moves_nothing() {
    let mut sender = sender(60_000);
    assert_eq!(drain(&mut sender, 0).len(), 10);
    assert_eq!(
        ack(&mut sender, 10, 10_001, 60_000, &[]),
        AckOutcome::NeverSent
    );
    assert_eq!(sender.acked_position(), 0);
    assert_eq!(
        ack(
            &mut sender,
            10,
            0,
            60_000,
            &[(20_000, 30_000), (9_000, 8_000)]
        ),
        AckOutcome::Unchanged
    );
    assert_eq!(drain(&mut sender, 10), []);
}

#[test]
fn t10_a_closed_window_is_probed_with_back_off_for_as_long_as_probes_are_answered() {
    let mut sender = sender(2_000);
    assert_eq!(drain(&mut sender, 0).len(), 2);
    ack(&mut sender, 10, 2_000, 0, &[]);
    let mut probes = Vec::new();
    let mut ms = 10;
    while ms < 600_000 {
        if let Some(probe) = sender.poll_transmit(at(ms)) {
            assert_eq!(
                (probe.kind, probe.len, probe.seq),
                (Kind::Probe, 0, 5_000 + 1_999)
            );
            probes.push(ms);
            ack(&mut sender, ms + 5, 2_000, 0, &[]);
        }
        assert!(!sender.dead());
        let next = sender
            .poll_at()
            .expect("a timer runs while the window is closed");
        ms = next.total_millis() - 10_000;
    }
    assert!(probes.len() > 8 && probes.len() < 30, "{probes:?}");
    assert!(
        probes.windows(3).all(|w| w[2] - w[1] >= w[1] - w[0]),
        "{probes:?}"
    );
    ack(&mut sender, ms, 2_000, 2_000, &[]);
    assert_eq!(
        drain(&mut sender, ms),
        [(2_000, 1_000, Kind::New), (3_000, 1_000, Kind::New)]
    );
}

#[test]
fn a_closed_window_whose_probes_nobody_answers_is_given_up() {
    let mut sender = sender(2_000);
    drain(&mut sender, 0);
    ack(&mut sender, 10, 2_000, 0, &[]);
    let mut turns = 0;
    while let (Some(next), true) = (
        {
            let _ = sender.poll_transmit(at(10));
            sender.poll_at()
        },
        turns < 100,
    ) {
        turns += 1;
        while sender.poll_transmit(next).is_some() {}
    }
    assert!(sender.dead() && turns < 20);
}

#[test]
fn t11_a_window_that_shrinks_over_what_is_in_flight_stops_retransmission_beyond_it() {
    let mut sender = sender(20_000);
    assert_eq!(drain(&mut sender, 0).len(), 10);
    // The edge moves from 20000 back to 3500.
    ack(&mut sender, 10, 2_000, 1_500, &[]);
    assert_eq!(drain(&mut sender, 10), []);
    let timeout = sender.poll_at().unwrap();
    let sent: Vec<_> = core::iter::from_fn(|| sender.poll_transmit(timeout)).collect();
    assert!(
        sent.iter().all(|t| t.position + u64::from(t.len) <= 3_500),
        "{sent:?}"
    );
    // To nothing at all: probes, nothing else, and no crash.
    ack(&mut sender, 5_000, 2_000, 0, &[]);
    for ms in [6_000, 8_000, 20_000, 60_000] {
        assert!(
            drain(&mut sender, ms)
                .iter()
                .all(|sent| sent.2 == Kind::Probe)
        );
    }
    ack(&mut sender, 60_010, 10_000, 20_000, &[]);
    assert!(
        drain(&mut sender, 60_010)
            .iter()
            .all(|sent| sent.2 == Kind::New)
    );
}

#[test]
fn t10_a_window_that_opens_by_a_byte_is_not_used_byte_by_byte() {
    let mut sender = sender(4_000);
    drain(&mut sender, 0);
    ack(&mut sender, 10, 4_000, 0, &[]);
    ack(&mut sender, 20, 4_000, 1, &[]);
    assert_eq!(drain(&mut sender, 20), []);
    ack(&mut sender, 30, 4_000, 999, &[]);
    assert_eq!(drain(&mut sender, 30), []);
    // RFC 9293, 3.8.6.2.1: in the end it is, or the connection would stand still.
    let later = sender.poll_at().unwrap();
    let sent = sender.poll_transmit(later).unwrap();
    assert_eq!(
        (sent.position, sent.len, sent.kind),
        (4_000, 999, Kind::New)
    );
}

#[test]
fn three_segments_above_a_hole_mend_it_in_one_round_trip_and_halve_at_most() {
    let mut sender = sender(60_000);
    drain(&mut sender, 0);
    ack(&mut sender, 10, 0, 60_000, &[(1_000, 2_000)]);
    ack(&mut sender, 10, 0, 60_000, &[(1_000, 3_000)]);
    // Limited transmit (RFC 3042): what left the path makes room for new bytes.
    assert_eq!(
        drain(&mut sender, 10),
        [(10_000, 1_000, Kind::New), (11_000, 1_000, Kind::New)]
    );
    ack(&mut sender, 11, 0, 60_000, &[(1_000, 4_000)]);
    let sent = drain(&mut sender, 11);
    assert_eq!(sent[0], (0, 1_000, Kind::Retransmit));
    assert!(sender.cwnd() >= 5_000);
    ack(&mut sender, 20, 12_000, 60_000, &[]);
    assert!(
        drain(&mut sender, 20)
            .iter()
            .all(|sent| sent.2 == Kind::New)
    );
}

#[test]
fn without_sack_three_duplicates_mend_the_first_hole_and_a_partial_ack_the_next() {
    let mut config = SenderConfig::new(5_000, MSS as u16, 60_000, 0, false);
    config.rtt = Some(Duration::from_millis(10));
    let mut sender = Sender::new(config, at(0));
    sender.set_available(10_000);
    drain(&mut sender, 0);
    for _ in 0..2 {
        ack(&mut sender, 10, 0, 60_000, &[]);
    }
    assert_eq!(drain(&mut sender, 10), []);
    ack(&mut sender, 10, 0, 60_000, &[]);
    assert_eq!(drain(&mut sender, 10), [(0, 1_000, Kind::Retransmit)]);
    ack(&mut sender, 20, 4_000, 60_000, &[]);
    assert_eq!(drain(&mut sender, 20), [(4_000, 1_000, Kind::Retransmit)]);
    ack(&mut sender, 30, 10_000, 60_000, &[]);
    assert_eq!(drain(&mut sender, 30), []);
    assert!(sender.is_drained());
}

#[test]
fn a_lost_last_segment_is_probed_before_the_timeout() {
    let mut config = SenderConfig::new(5_000, MSS as u16, 60_000, 0, true);
    config.rtt = Some(Duration::from_millis(10));
    let mut sender = Sender::new(config, at(0));
    sender.set_available(10_000);
    drain(&mut sender, 0);
    ack(&mut sender, 10, 7_000, 60_000, &[]);
    let probe_at = sender.poll_at().unwrap();
    assert!(probe_at < at(10 + 200));
    let probe = sender.poll_transmit(probe_at).unwrap();
    assert_eq!((probe.position, probe.kind), (9_000, Kind::Retransmit));
    // It arrives: the two before it are lost after a quarter of a round trip.
    let ms = probe_at.total_millis() - 10_000 + 11;
    ack(&mut sender, ms, 7_000, 60_000, &[(9_000, 10_000)]);
    assert_eq!(drain(&mut sender, ms), []);
    assert_eq!(
        drain(&mut sender, ms + 3),
        [
            (7_000, 1_000, Kind::Retransmit),
            (8_000, 1_000, Kind::Retransmit)
        ]
    );
}

#[test]
fn fin_is_sent_once_at_one_place_and_acknowledged() {
    let mut sender = sender(60_000);
    sender.set_available(1_500);
    drain(&mut sender, 0);
    ack(&mut sender, 1, 10_000, 60_000, &[]);
    let mut config = SenderConfig::new(u32::MAX - 500, MSS as u16, 60_000, 0, true);
    config.rtt = Some(Duration::from_millis(10));
    let mut sender = Sender::new(config, at(0));
    sender.set_available(1_500);
    sender.finish();
    sender.set_available(9_999);
    let sent: Vec<_> = core::iter::from_fn(|| sender.poll_transmit(at(0))).collect();
    assert_eq!(
        sent.iter().map(|t| (t.len, t.fin)).collect::<Vec<_>>(),
        [(1_000, false), (500, true)]
    );
    // Lost: the timeout sends the same again, FIN at the same place.
    let timeout = sender.poll_at().unwrap();
    let again = sender.poll_transmit(timeout + Duration::from_secs(5));
    assert!(again.is_some());
    let info = |ack| AckInfo {
        seq: 1,
        ack,
        window: 60_000,
        sack: &[],
        payload_len: 0,
        fin: false,
    };
    let first_seq = u32::MAX - 500;
    sender.on_ack(at(9_000), &info(first_seq.wrapping_add(1_500)));
    assert!(!sender.is_done());
    assert_eq!(sender.acked_position(), 1_500);
    let fin: Vec<_> = core::iter::from_fn(|| sender.poll_transmit(at(20_000))).collect();
    assert_eq!(
        fin.iter()
            .map(|t| (t.position, t.len, t.fin))
            .collect::<Vec<_>>(),
        [(1_500, 0, true)]
    );
    sender.on_ack(at(20_010), &info(first_seq.wrapping_add(1_501)));
    assert!(sender.is_done());
    assert_eq!(sender.acked_position(), 1_500);
    assert_eq!(sender.poll_at(), None);
}

#[test]
fn a_part_of_a_segment_waits_only_while_an_earlier_part_is_in_flight() {
    let mut config = SenderConfig::new(5_000, MSS as u16, 60_000, 0, true);
    config.rtt = Some(Duration::from_millis(10));
    let mut sender = Sender::new(config, at(0));
    sender.set_available(300);
    assert_eq!(drain(&mut sender, 0), [(0, 300, Kind::New)]);
    sender.set_available(600);
    assert_eq!(drain(&mut sender, 1), []);
    sender.set_available(1_400);
    assert_eq!(drain(&mut sender, 2), [(300, 1_000, Kind::New)]);
    sender.flush();
    assert_eq!(drain(&mut sender, 3), [(1_300, 100, Kind::New)]);
}

#[test]
fn an_ack_of_bytes_before_the_first_widens_the_window_and_moves_nothing_else() {
    let mut sender = sender(1_000);
    assert_eq!(drain(&mut sender, 0).len(), 1);
    // The client still acknowledges what the origin sent itself.
    let info = AckInfo {
        seq: 1,
        ack: 4_500,
        window: 2_500,
        sack: &[],
        payload_len: 0,
        fin: false,
    };
    assert_eq!(sender.on_ack(at(1), &info), AckOutcome::Old);
    assert_eq!(drain(&mut sender, 1), [(1_000, 1_000, Kind::New)]);
}

#[test]
fn a_path_that_reorders_by_ten_segments_is_not_taken_for_one_that_loses() {
    let mut case = Case {
        bytes: 4_000_000,
        ..Case::new(3, 25, 5_000, 0)
    };
    case.forward.queue = 1 << 30;
    case.forward.reorder_ppm = 50_000;
    case.forward.reorder_by = Duration::from_millis(4);
    let outcome = transfer(&case);
    assert!(outcome.again * 100 < outcome.sent, "{outcome:?}");
}

#[test]
fn t13_bursts_of_losses_are_survived() {
    for seed in 0..20 {
        for burst in [20, 50] {
            let mut case = Case::new(seed, 25, 2_500, 0);
            case.forward.burst_ppm = 300;
            case.forward.burst = burst;
            let outcome = transfer(&case);
            // A burst longer than the window swallows the timeouts' retransmissions as well.
            let longest = if burst == 20 { 1_000_000 } else { 20_000_000 };
            assert!(outcome.longest_gap_us < longest, "seed {seed} {outcome:?}");
        }
    }
}
