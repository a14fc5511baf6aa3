//! Datagrams in pieces, and datagrams too long for the line.

use super::super::fragments::FragmentCounter;
use super::*;

/// The whole of a datagram, cut into pieces of at most `piece` bytes behind the IP header.
pub(super) fn cut(whole: &[u8], piece: usize) -> Vec<Vec<u8>> {
    assert_eq!(piece % 8, 0);
    let body = &whole[34..];
    let count = body.len().div_ceil(piece);
    let part = |i: usize| {
        let bytes = &body[i * piece..body.len().min((i + 1) * piece)];
        let mut frame = [&whole[..34], bytes].concat();
        let len = (20 + bytes.len()) as u16;
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        let more = if i + 1 < count { 0x2000 } else { 0 };
        frame[20..22].copy_from_slice(&((i * piece / 8) as u16 | more).to_be_bytes());
        fix_ip(frame)
    };
    (0..count).map(part).collect()
}

/// The datagram of fragments that came in any order; all of one identification.
pub(super) fn join(mut frames: Vec<Vec<u8>>) -> Vec<u8> {
    frames.sort_by_key(|frame| packet(frame).fragment_offset());
    let ident = packet(&frames[0]).ident;
    let mut whole = frames[0][..34].to_vec();
    for frame in &frames {
        let packet = packet(frame);
        assert_eq!(
            (packet.fragment_offset() as usize, packet.ident),
            (whole.len() - 34, ident)
        );
        whole.extend(&frame[34..usize::from(packet.ip_end)]);
    }
    assert!(!packet(frames.last().unwrap()).more_fragments());
    let len = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&len.to_be_bytes());
    whole[20..22].copy_from_slice(&[0, 0]);
    let whole = fix_ip(whole);
    assert!(checksums_hold(&whole));
    whole
}

pub(super) fn long_udp(
    out: bool,
    src: (Ipv4Address, u16),
    dst: (Ipv4Address, u16),
    len: usize,
) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|i| (i * 7 + i / 256) as u8).collect();
    let mut frame = udp(out, src, dst, &payload);
    // May be cut.
    frame[20] = 0;
    fix_ip(frame)
}

fn count(bench: &Bench, counter: FragmentCounter) -> u64 {
    bench.router.fragments.counts().get(counter)
}

/// Feeds frames; gives all that leaves, as frames of `to`.
pub(super) fn feed_all(
    bench: &mut Bench,
    port: Port,
    to: Port,
    frames: Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let left = frames.into_iter().flat_map(|frame| bench.run(port, frame));
    let left: Vec<_> = left.collect();
    assert!(left.iter().all(|(port, _)| *port == to));
    left.into_iter().map(|(_, frame)| frame).collect()
}

const CLIENT_END: (Ipv4Address, u16) = (CLIENT, 40_000);
const ORIGIN_END: (Ipv4Address, u16) = (ORIGIN, 9000);
const WAN_END: (Ipv4Address, u16) = (WAN, 40_000);

#[test]
fn a_datagram_in_pieces_is_translated_in_any_order_both_ways() {
    let pieces = cut(&long_udp(true, CLIENT_END, ORIGIN_END, 4000), 1480);
    let orders: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let mut bench = Bench::new();
        let mixed =
            |pieces: &[Vec<u8>]| order.iter().map(|&i| pieces[i].clone()).collect::<Vec<_>>();
        let left = feed_all(&mut bench, Port::Lan, Port::Wan, mixed(&pieces));
        assert!(
            !packet(&left[0]).is_fragment() || packet(&left[0]).fragment_offset() == 0,
            "the first leaves first"
        );
        let there = join(left);
        assert_eq!(ends(&there), [WAN_END, ORIGIN_END]);
        assert_eq!(
            there[42..],
            long_udp(true, CLIENT_END, ORIGIN_END, 4000)[42..]
        );
        assert_eq!(there[22], 63);
        let answer = cut(&long_udp(false, ORIGIN_END, WAN_END, 4000), 1480);
        let here = join(feed_all(&mut bench, Port::Wan, Port::Lan, mixed(&answer)));
        assert_eq!(ends(&here), [ORIGIN_END, CLIENT_END]);
        let waited = order.iter().position(|&i| i == 0).unwrap() as u64;
        assert_eq!(count(&bench, FragmentCounter::Held), 2 * waited);
        assert_eq!(count(&bench, FragmentCounter::Released), 2 * waited);
        bench.router.conntrack.check();
    }
}

#[test]
fn a_long_ping_comes_through_in_pieces() {
    let mut bench = Bench::new();
    let mut request = icmp(true, CLIENT, ORIGIN, 8, 0, [0xFF, 77, 0, 1], &[5; 3000]);
    request[20] = 0;
    let there = join(feed_all(
        &mut bench,
        Port::Lan,
        Port::Wan,
        cut(&fix_ip(request), 1480),
    ));
    let ident = [there[38], there[39]];
    assert_ne!(ident, [0xFF, 77]);
    let mut answer = icmp(
        false,
        ORIGIN,
        WAN,
        0,
        0,
        [ident[0], ident[1], 0, 1],
        &[5; 3000],
    );
    answer[20] = 0;
    let here = join(feed_all(
        &mut bench,
        Port::Wan,
        Port::Lan,
        cut(&fix_ip(answer), 1480),
    ));
    assert_eq!(
        (packet(&here).dst, &here[38..40]),
        (CLIENT, &[0xFF, 77][..])
    );
}

#[test]
fn two_hosts_with_one_identification_do_not_mix() {
    let mut bench = Bench::new();
    let mine = cut(&long_udp(true, CLIENT_END, ORIGIN_END, 2000), 1480);
    let theirs = cut(&long_udp(true, (OTHER, 40_000), ORIGIN_END, 2000), 1480);
    let mixed = vec![
        mine[0].clone(),
        theirs[0].clone(),
        mine[1].clone(),
        theirs[1].clone(),
    ];
    let left = feed_all(&mut bench, Port::Lan, Port::Wan, mixed);
    assert_ne!(packet(&left[0]).ident, packet(&left[1]).ident);
    let (a, b) = (
        join(vec![left[0].clone(), left[2].clone()]),
        join(vec![left[1].clone(), left[3].clone()]),
    );
    assert_ne!(ends(&a)[0], ends(&b)[0]);
}

#[test]
fn pieces_of_no_flow_wait_and_are_gone() {
    let mut bench = Bench::new();
    let pieces = cut(&long_udp(false, ORIGIN_END, WAN_END, 2000), 1480);
    bench.nothing(Port::Wan, pieces[1].clone());
    bench.nothing(Port::Wan, pieces[0].clone());
    assert_eq!(bench.router.counts.get(Counter::NoFlow), 1);
    // Two seconds later the piece that waited does not count any more.
    bench.pass(Port::Lan, udp(true, CLIENT_END, ORIGIN_END, b"?"));
    bench.wait(3);
    assert_eq!(bench.run(Port::Wan, pieces[0].clone()).len(), 1);
    assert_eq!(count(&bench, FragmentCounter::Released), 0);
    // And half a minute later its first is forgotten, too.
    bench.wait(31);
    bench.nothing(Port::Wan, pieces[1].clone());
}

#[test]
fn a_segment_in_pieces_keeps_its_connection_in_step() {
    let mut bench = Bench::new();
    bench.connect();
    let payload: Vec<u8> = (0..3000).map(|i| i as u8).collect();
    let mut whole = tcp_in(flags::ACK, 5001, 1001, &[], &payload);
    whole[20] = 0;
    let left = feed_all(&mut bench, Port::Wan, Port::Lan, cut(&fix_ip(whole), 1480));
    let here = join(left);
    assert_eq!((&here[54..], ends(&here)[1]), (&payload[..], CLIENT_END));
    // All of it may be acknowledged.
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, 8001, &[], b""));
    assert_eq!(bench.entry().tcp.stage, Stage::Plain, "pieces are not read");
}

#[test]
fn segments_in_pieces_that_hide_something_are_refused() {
    let mut bench = Bench::new();
    let piece_of = |bits, seq, payload: &[u8]| {
        let mut whole = tcp_in(bits, seq, 1001, &[], payload);
        whole[20] = 0;
        cut(&fix_ip(whole), 1480)
    };
    let mut syn = tcp_out(flags::SYN, 1000, 0, &[], &[1; 1600]);
    syn[20] = 0;
    bench.nothing(Port::Lan, cut(&fix_ip(syn), 1480)[0].clone());
    bench.connect();
    bench.nothing(
        Port::Wan,
        piece_of(flags::FIN | flags::ACK, 5001, &[1; 1600])[0].clone(),
    );
    bench.nothing(Port::Wan, piece_of(flags::RST, 5001, &[1; 1600])[0].clone());
    // A second piece over the control bits of the first (RFC 3128).
    let pieces = piece_of(flags::ACK, 5001, &[1; 1600]);
    assert_eq!(bench.run(Port::Wan, pieces[0].clone()).len(), 1);
    let mut over = pieces[1].clone();
    over[20..22].copy_from_slice(&[0x20, 1]);
    bench.nothing(Port::Wan, fix_ip(over));
    // A piece beyond the window.
    let mut beyond = pieces[1].clone();
    beyond[20..22].copy_from_slice(&[0x1F, 0]);
    bench.nothing(Port::Wan, fix_ip(beyond));
    assert_eq!(count(&bench, FragmentCounter::Refused), 2);
    assert_eq!(bench.run(Port::Wan, pieces[1].clone()).len(), 1);
}

#[test]
fn a_piece_that_is_too_long_for_the_line_is_cut_again() {
    let mut bench = Bench::new();
    bench.router.wan_mtu = 1000;
    let whole = long_udp(true, CLIENT_END, ORIGIN_END, 4000);
    for order in [[0, 1, 2], [2, 1, 0]] {
        let pieces = cut(&whole, 1480);
        let left = feed_all(
            &mut bench,
            Port::Lan,
            Port::Wan,
            order.map(|i| pieces[i].clone()).to_vec(),
        );
        assert!(left.iter().all(|frame| frame.len() <= 1014));
        assert_eq!(join(left)[42..], whole[42..]);
    }
}

#[test]
fn hosts_of_the_lan_exchange_pieces_by_our_address() {
    let mut bench = Bench::new();
    bench.forward(&[(Protocol::Udp, 8080, OTHER, 80)]);
    for order in [[0, 1], [1, 0]] {
        let pieces = cut(&long_udp(true, CLIENT_END, (WAN, 8080), 2000), 1480);
        let left = feed_all(
            &mut bench,
            Port::Lan,
            Port::Lan,
            order.map(|i| pieces[i].clone()).to_vec(),
        );
        assert_eq!(ends(&join(left)), [WAN_END, (OTHER, 80)]);
    }
}

#[test]
fn a_fragmented_error_is_not_believed() {
    let mut bench = Bench::new();
    let sent = bench.pass(Port::Lan, udp(true, CLIENT_END, ORIGIN_END, b"question"));
    let mut error = error_about(&sent, 3, 1, 0, 28);
    error[20..22].copy_from_slice(&[0x20, 0]);
    bench.dropped(Port::Wan, fix_ip(error), Counter::IcmpIgnored);
}
