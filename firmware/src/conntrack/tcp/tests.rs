use super::*;
use Direction::{Original, Reply};
use proptest::prelude::*;

const ACK: u8 = flags::ACK;
const SYN: u8 = flags::SYN;
const FIN: u8 = flags::FIN;
const RST: u8 = flags::RST;

fn segment(bits: u8, seq: u32, ack: u32, payload: u32) -> Segment {
    let len = payload + u32::from(bits & SYN != 0) + u32::from(bits & FIN != 0);
    Segment {
        seq,
        ack,
        len,
        window: 1000,
        flags: bits,
    }
}

fn send(
    tcp: &mut Tcp,
    direction: Direction,
    bits: u8,
    seq: u32,
    ack: u32,
    payload: u32,
) -> Result<(), Invalid> {
    let result = tcp.on_segment(direction, &segment(bits, seq, ack, payload), scaled);
    tcp.check();
    result
}

fn scaled() -> Summary {
    Summary {
        mss: Some(1460),
        window_scale: Some(2),
        sack_permitted: true,
        ..Summary::default()
    }
}

/// Client at 1001, origin at 5001, windows of 4,000 bytes once both have sent a plain segment.
fn established() -> Tcp {
    let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &scaled(), true);
    send(&mut tcp, Reply, SYN | ACK, 5000, 1001, 0).unwrap();
    assert_eq!(tcp.state, State::SynReceived);
    send(&mut tcp, Original, ACK, 1001, 5001, 0).unwrap();
    send(&mut tcp, Reply, ACK, 5001, 1001, 0).unwrap();
    tcp
}

#[test]
fn a_handshake_records_what_both_sides_said() {
    let tcp = established();
    assert_eq!((tcp.state, tcp.stage), (State::Established, Stage::Watched));
    assert_eq!((tcp.client_isn(), tcp.origin_isn()), (1000, 5000));
    assert_eq!((tcp.client.mss, tcp.origin.mss), (Some(1460), Some(1460)));
    assert!(tcp.sack_permitted());
    assert_eq!(
        (tcp.window_shift(Original), tcp.window_shift(Reply)),
        (2, 2)
    );
    assert_eq!(
        (tcp.client.next, tcp.client.ack, tcp.client.window),
        (1001, 5001, 1000)
    );
    assert_eq!(
        (tcp.origin.next, tcp.origin.ack, tcp.origin.limit),
        (5001, 1001, 1001 + 4000)
    );
}

#[test]
fn a_scale_of_one_side_alone_counts_for_neither() {
    let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &scaled(), true);
    tcp.on_segment(Reply, &segment(SYN | ACK, 5000, 1001, 0), Summary::default)
        .unwrap();
    assert_eq!(
        (tcp.window_shift(Original), tcp.window_shift(Reply)),
        (0, 0)
    );
    assert!(!tcp.sack_permitted());
}

#[test]
fn options_that_bind_keep_a_flow_plain() {
    for (client, origin) in [
        (
            Summary {
                binding: true,
                ..scaled()
            },
            scaled(),
        ),
        (
            Summary {
                unknown: true,
                ..scaled()
            },
            scaled(),
        ),
        (
            scaled(),
            Summary {
                binding: true,
                ..scaled()
            },
        ),
        (
            scaled(),
            Summary {
                timestamps: Some((1, 1)),
                ..scaled()
            },
        ),
    ] {
        let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &client, true);
        tcp.on_segment(Reply, &segment(SYN | ACK, 5000, 1001, 0), || origin)
            .unwrap();
        send(&mut tcp, Original, ACK, 1001, 5001, 0).unwrap();
        assert_eq!((tcp.state, tcp.stage), (State::Established, Stage::Plain));
    }
    let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &scaled(), false);
    send(&mut tcp, Reply, SYN | ACK, 5000, 1001, 0).unwrap();
    send(&mut tcp, Original, ACK, 1001, 5001, 0).unwrap();
    assert_eq!(tcp.stage, Stage::Plain, "not a port to accelerate");
}

#[test]
fn data_flows_both_ways_and_repeats_itself() {
    let mut tcp = established();
    send(&mut tcp, Original, ACK, 1001, 5001, 100).unwrap();
    send(&mut tcp, Reply, ACK, 5001, 1101, 1400).unwrap();
    send(&mut tcp, Reply, ACK, 6401, 1101, 1400).unwrap();
    send(&mut tcp, Reply, ACK, 5001, 1101, 1400).unwrap();
    send(&mut tcp, Original, ACK, 1101, 7801, 0).unwrap();
    assert_eq!((tcp.origin.next, tcp.client.ack), (7801, 7801));
    send(&mut tcp, Original, ACK, 1100, 7801, 1).expect("a keep-alive probe");
}

#[test]
fn what_lies_beyond_the_offered_window_is_refused_but_a_probe_byte_is_not() {
    let mut tcp = established();
    let before = tcp;
    assert_eq!(
        send(&mut tcp, Reply, ACK, 5001, 1001, 4002),
        Err(Invalid::Window)
    );
    assert_eq!(
        send(&mut tcp, Reply, ACK, 5001 + 0x4000_0000, 1001, 1),
        Err(Invalid::Window)
    );
    assert_eq!(
        send(&mut tcp, Reply, ACK, 5001u32.wrapping_sub(100_000), 1001, 1),
        Err(Invalid::Window)
    );
    assert_eq!(
        send(&mut tcp, Reply, FIN | ACK, 5001 + 100_000, 1001, 1),
        Err(Invalid::Window)
    );
    assert_eq!(tcp, before, "a refused segment leaves no trace");
    send(&mut tcp, Reply, ACK, 5001, 1001, 4001).unwrap();
}

#[test]
fn acknowledging_what_was_never_sent_is_refused() {
    let mut tcp = established();
    assert_eq!(
        send(&mut tcp, Original, ACK, 1001, 5002, 0),
        Err(Invalid::Ack)
    );
    assert_eq!(
        send(
            &mut tcp,
            Original,
            ACK,
            1001,
            5001u32.wrapping_sub(1_000_000),
            0
        ),
        Err(Invalid::Ack)
    );
    assert_eq!(send(&mut tcp, Reply, ACK, 5001, 1002, 0), Err(Invalid::Ack));
}

#[test]
fn a_connection_closes_step_by_step() {
    let mut tcp = established();
    send(&mut tcp, Original, FIN | ACK, 1001, 5001, 0).unwrap();
    assert_eq!(tcp.state, State::HalfClosed);
    send(&mut tcp, Reply, ACK, 5001, 1002, 500).expect("data still comes");
    send(&mut tcp, Reply, FIN | ACK, 5501, 1002, 0).unwrap();
    assert_eq!(tcp.state, State::Closing);
    send(&mut tcp, Original, ACK, 1002, 5501, 0).unwrap();
    assert_eq!(
        tcp.state,
        State::Closing,
        "the last byte but not the FIN is acknowledged"
    );
    send(&mut tcp, Original, ACK, 1002, 5502, 0).unwrap();
    assert_eq!(tcp.state, State::TimeWait);
    send(&mut tcp, Reply, FIN | ACK, 5501, 1002, 0).expect("a repeated FIN");
    send(&mut tcp, Original, SYN, 77_000, 0, 0).expect("the port is used again");
    assert_eq!(
        (tcp.state, tcp.client.isn, tcp.stage),
        (State::SynSent, 77_000, Stage::Plain)
    );
    assert!(!tcp.origin.open && tcp.watchable);
}

#[test]
fn only_an_exact_reset_ends_the_connection() {
    for direction in [Original, Reply] {
        let (next, far) = if direction == Original {
            (1001, 200_000)
        } else {
            (5001, 200_000)
        };
        let mut tcp = established();
        send(&mut tcp, direction, RST, next + 7, 0, 0)
            .expect("in the window: for the receiver to challenge");
        assert_eq!(tcp.state, State::Established);
        assert_eq!(
            send(&mut tcp, direction, RST, next + far, 0, 0),
            Err(Invalid::Window)
        );
        send(&mut tcp, direction, RST, next, 0, 0).unwrap();
        assert_eq!(tcp.state, State::Closed);
    }
}

#[test]
fn a3_what_comes_after_a_reset_must_fit_the_connection_too() {
    let mut tcp = established();
    send(&mut tcp, Reply, RST, 5001, 0, 0).unwrap();
    assert_eq!(tcp.state, State::Closed);
    send(&mut tcp, Original, ACK, 1001, 5001, 100).expect("was on the way");
    send(&mut tcp, Original, RST, 1001, 0, 0).expect("was on the way");
    let far = 5001 + (1 << 24);
    assert_eq!(
        send(&mut tcp, Reply, ACK, far, 1001, 6),
        Err(Invalid::Window)
    );
    assert_eq!(
        send(&mut tcp, Reply, ACK, 5001, 900_000_000, 6),
        Err(Invalid::Ack)
    );
    assert_eq!(send(&mut tcp, Reply, RST, far, 0, 0), Err(Invalid::Window));
    assert_eq!(tcp.state, State::Closed);
}

#[test]
fn a_refused_connection_ends_only_by_a_reset_that_acknowledges_the_syn() {
    let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &scaled(), true);
    assert_eq!(
        send(&mut tcp, Reply, RST | ACK, 0, 1002, 0),
        Err(Invalid::Ack)
    );
    assert_eq!(send(&mut tcp, Reply, RST, 0, 0, 0), Err(Invalid::Ack));
    assert_eq!(tcp.state, State::SynSent);
    send(&mut tcp, Reply, RST | ACK, 0, 1001, 0).unwrap();
    assert_eq!(tcp.state, State::Closed);
}

#[test]
fn an_old_connections_challenge_reaches_the_client_and_its_reset_the_origin() {
    let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &scaled(), true);
    send(&mut tcp, Reply, ACK, 9000, 77, 0).unwrap();
    send(&mut tcp, Original, RST, 77, 0, 0).unwrap();
    assert_eq!(tcp.state, State::SynSent);
    send(&mut tcp, Original, SYN, 1000, 0, 0).unwrap();
    send(&mut tcp, Reply, SYN | ACK, 5000, 1001, 0).unwrap();
    assert_eq!(tcp.state, State::SynReceived);
}

#[test]
fn a_forged_syn_or_an_absurd_segment_changes_nothing() {
    let mut tcp = established();
    let before = tcp;
    assert_eq!(
        send(&mut tcp, Reply, SYN, 900_000_000, 0, 0),
        Err(Invalid::Window)
    );
    send(&mut tcp, Reply, SYN, 5002, 0, 0).expect("in the window: for the receiver to challenge");
    send(&mut tcp, Original, SYN, 5002, 0, 0).unwrap();
    assert_eq!(send(&mut tcp, Reply, 0, 5001, 0, 5), Err(Invalid::Flags));
    assert_eq!(
        send(&mut tcp, Reply, SYN | FIN, 5001, 0, 0),
        Err(Invalid::Flags)
    );
    assert_eq!(
        send(&mut tcp, Reply, SYN | RST, 5001, 0, 0),
        Err(Invalid::Flags)
    );
    assert_eq!(tcp, before);
}

#[test]
fn both_ends_may_open_at_once() {
    let mut tcp = Tcp::opened(&segment(SYN, 1000, 0, 0), &scaled(), true);
    send(&mut tcp, Reply, SYN, 5000, 0, 0).unwrap();
    send(&mut tcp, Original, SYN | ACK, 1000, 5001, 0).unwrap();
    send(&mut tcp, Reply, SYN | ACK, 5000, 1001, 0).unwrap();
    send(&mut tcp, Original, ACK, 1001, 5001, 10).unwrap();
    assert_eq!(tcp.state, State::Established);
    send(&mut tcp, Reply, ACK, 5001, 1011, 10).unwrap();
}

#[test]
fn after_an_exchange_both_ends_go_on_in_their_own_numbers() {
    let mut tcp = established();
    // The request of 200 bytes passed the tracker and was absorbed; the router answered 3,000 bytes.
    send(&mut tcp, Original, ACK, 1001, 5001, 200).unwrap();
    tcp.absorb(200, 3000, 1000);
    assert_eq!(
        tcp.shift.additions(Original),
        (200u32.wrapping_neg(), 3000u32.wrapping_neg())
    );
    assert_eq!(tcp.shift.additions(Reply), (3000, 200));
    let wire = |seq, ack| crate::wire::packet::Tcp {
        src_port: 0,
        dst_port: 0,
        seq,
        ack,
        flags: ACK,
        window: 1000,
        payload: 0,
    };
    // The client goes on behind its request and acknowledges the router's reply.
    let next = tcp.in_origin_view(Original, &wire(1201, 8001), 100);
    assert_eq!((next.seq, next.ack), (1001, 5001));
    tcp.on_segment(Original, &next, scaled).unwrap();
    let reply = tcp.in_origin_view(Reply, &wire(5001, 1101), 100);
    assert_eq!((reply.seq, reply.ack), (5001, 1101));
    tcp.on_segment(Reply, &reply, scaled).unwrap();
    tcp.check();
    assert!(
        tcp.is_in_flight(Reply, 5050)
            && !tcp.is_in_flight(Reply, 5101)
            && !tcp.is_in_flight(Original, 1050)
    );
}

proptest! {
    #[test]
    fn any_segments_keep_the_invariants(
        segments in proptest::collection::vec(
            (any::<bool>(), any::<u8>(), -300i32..300, -300i32..300, 0u32..200, any::<u16>()), 0..60),
    ) {
        let mut tcp = established();
        for (original, bits, seq, ack, payload, window) in segments {
            let direction = if original { Original } else { Reply };
            let seq = tcp.side(direction).next.wrapping_add_signed(seq);
            let ack = tcp.side(direction.opposite()).next.wrapping_add_signed(ack);
            let segment = Segment { window, ..segment(bits, seq, ack, payload) };
            let before = tcp;
            if tcp.on_segment(direction, &segment, scaled).is_err() {
                prop_assert_eq!(tcp, before);
            }
            tcp.check();
        }
    }

    #[test]
    fn blind_segments_never_end_a_connection(guesses in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u8>()), 100)) {
        let mut tcp = established();
        for (seq, ack, bits) in guesses {
            // One of two numbers out of 2^32 would be right.
            prop_assume!(seq != 5001);
            let _refused = tcp.on_segment(Reply, &segment(bits & !FIN | RST, seq, ack, 0), scaled);
            let _passed = tcp.on_segment(Reply, &segment(SYN, seq, ack, 0), scaled);
        }
        prop_assert_eq!(tcp.state, State::Established);
    }
}
