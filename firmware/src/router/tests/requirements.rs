//! RFC 4787 (UDP), RFC 5382 (TCP), RFC 5508 (ICMP) and what RFC 7857 changes in them, requirement
//! by requirement. Tests are named after them; several requirements have more tests elsewhere.
//!
//! | requirement | how | test |
//! | --- | --- | --- |
//! | 4787-1 mapping independent of the far end | one mapping for each client port (`conntrack::nat`) | `rfc4787_req_1_…` |
//! | 4787-2 pooled addresses paired | does not apply: one WAN address | |
//! | 4787-3 no port overloading; range kept | a port of ours belongs to one mapping; well-known ports map to such | `rfc4787_req_3_…` |
//! | 4787-4 parity | kept | `rfc4787_req_4_…` |
//! | 4787-5 two minutes, five by default | 2 min unanswered, 5 min answered, 30 s for port 53 (5a) | `rfc4787_req_5_…` |
//! | 4787-6 outbound packets refresh | they do; inbound ones (6a, MAY) once the client has answered | `rfc4787_req_6_…` |
//! | 4787-7 no conflict of inner and outer net | refused by settings, and by the DHCP client | `rfc4787_req_7_…`, `a10_a_net_equal_to_…` |
//! | 4787-8 filtering | address-dependent | `rfc4787_req_8_…` |
//! | 4787-9 hairpinning, external source | `router::hairpin` | `rfc4787_req_9_…` |
//! | 4787-10 ALGs off | does not apply: there is none, payloads are never read but of HTTP requests | |
//! | 4787-11 deterministic | mapping and filter do not depend on order or load | `rfc4787_req_11_…` |
//! | 4787-12 ICMP ends no mapping; its source is not filtered | errors pass from anywhere and touch nothing | `rfc4787_req_12_…` |
//! | 4787-13 too long: told, or cut | `router::fragments` | `rfc4787_req_13_…` |
//! | 4787-14 fragments in any order, flood-proof | `router::fragments` | `rfc4787_req_14_…` |
//! | 5382-1 mapping independent of the far end | as 4787-1 | `rfc5382_req_1_…` |
//! | 5382-2 all valid sequences, simultaneous open | `conntrack::tcp` | `rfc5382_req_2_…` |
//! | 5382-3 filtering | address-dependent | `rfc5382_req_3_…` |
//! | 5382-4 unasked SYN: no answer for 6 s, then an error unless policy forbids | never an answer (4a: the line is silent); a SYN of the client makes it a simultaneous open | `rfc5382_req_4_…` |
//! | 5382-5 2 h 4 min, 4 min | `budget` | `rfc5382_req_5_…` |
//! | 5382-6 ALGs off | does not apply: there is none | |
//! | 5382-7 no port overloading | as 4787-3 | `rfc5382_req_7_…` |
//! | 5382-8 hairpinning | `router::hairpin` | `rfc5382_req_8_…` |
//! | 5382-9 unreachable translated | `router::icmp` | `rfc5382_req_9_…` |
//! | 5382-10 ICMP ends no connection | `router::icmp` | `rfc5382_req_10_…` |
//! | 5508-1 queries; identifier independent of the far end | identifiers are mapped like ports | `rfc5508_req_1_…` |
//! | 5508-2 60 s | `budget` | `rfc5508_req_2_…` |
//! | 5508-3 what of an error is verified | its checksum and the quoted IP header's, never the quoted transport checksum | `rfc5508_req_3_…` |
//! | 5508-4, 5 errors translated in and out | `router::icmp` | `rfc5508_req_4_…`, `rfc5508_req_5_…` |
//! | 5508-6 errors neither refresh nor end a query | they touch no entry | `rfc5508_req_6_…` |
//! | 5508-7 hairpinned errors | an error goes out and comes in like any packet | `rfc5508_req_7_…` |
//! | 5508-8 refused flows are told: code 13 | to the LAN | `rfc5508_req_8_…` |
//! | 5508-9, 10 own errors | to the LAN only (9: policy); no source quench | `rfc5508_req_9_…`, `rfc5508_req_10_…` |
//! | 5508-11 others | dropped: redirects, router advertisements, timestamps | `rfc5508_req_11_…` |
//! | 7857-2.2 RST: 4 minutes | the entry stays, and goes first when the table is full | `rfc7857_section_2_2_…` |
//! | 7857-5 mappings by protocol | each protocol has its own ports | `rfc7857_section_5_…` |
//! | 7857-8 parity MAY be given up | kept where it costs nothing | as 4787-4 |
//! | 7857-9 random ports | keyed, RFC 6056 section 3.3.1 | `conntrack` |
//! | 7857-13 hairpinned queries | does not apply: an address with many hosts behind answers itself | `nat` |

use super::fragments::{cut, feed_all, join, long_udp};
use super::*;
use crate::budget::{FRAGMENTS_HELD, INBOUND_PER_MAPPING_MAX};
use crate::settings::{SettingError, Settings};

const CLIENT_END: (Ipv4Address, u16) = (CLIENT, 40_000);
const WAN_END: (Ipv4Address, u16) = (WAN, 40_000);
const FAR: (Ipv4Address, u16) = (ORIGIN, 9000);
const ELSEWHERE: (Ipv4Address, u16) = (Ipv4Address::new(198, 51, 100, 77), 9000);

/// The port of ours by which a datagram of this end leaves.
fn mapped(bench: &mut Bench, src: (Ipv4Address, u16), dst: (Ipv4Address, u16)) -> u16 {
    let out = bench.pass(Port::Lan, udp(true, src, dst, b"?"));
    assert_eq!(ends(&out)[1], dst);
    ends(&out)[0].1
}

/// The same for a SYN.
fn mapped_tcp(bench: &mut Bench, src: (Ipv4Address, u16), dst: (Ipv4Address, u16)) -> u16 {
    let out = bench.pass(Port::Lan, segment_of(true, src, dst, flags::SYN, 100, 0));
    ends(&out)[0].1
}

fn is_open(bench: &mut Bench, src: (Ipv4Address, u16), dst: (Ipv4Address, u16)) -> bool {
    !bench.run(Port::Wan, udp(false, src, dst, b"!")).is_empty()
}

#[test]
fn rfc4787_req_1_one_port_of_ours_for_a_client_port_whoever_it_talks_to() {
    let mut bench = Bench::new();
    let taken = mapped(&mut bench, (OTHER, 40_000), FAR);
    let first = mapped(&mut bench, CLIENT_END, FAR);
    assert_ne!(first, taken);
    for dst in [ELSEWHERE, (ELSEWHERE.0, 1), (ORIGIN, 9001), (GATEWAY, 53)] {
        assert_eq!(mapped(&mut bench, CLIENT_END, dst), first);
    }
}

#[test]
fn rfc4787_req_3_no_port_is_shared_and_its_range_is_kept() {
    let mut bench = Bench::new();
    for port in [5, 500, 1023, 1024, 30_000, 60_999, 61_000, 65_535] {
        let (mine, theirs) = (
            mapped(&mut bench, (CLIENT, port), FAR),
            mapped(&mut bench, (OTHER, port), FAR),
        );
        assert_ne!(
            mine, theirs,
            "no overloading, though both talk to the same end"
        );
        for given in [mine, theirs] {
            assert_eq!(given < 1024, port < 1024, "{port} became {given}");
        }
        assert!(mine == port || port >= 61_000, "a free one is preserved");
    }
}

#[test]
fn rfc4787_req_4_an_even_port_stays_even_and_an_odd_one_odd() {
    let mut bench = Bench::new();
    for port in [500, 501, 1024, 1025, 40_000, 40_001, 65_534, 65_535] {
        for host in [CLIENT, OTHER] {
            assert_eq!(mapped(&mut bench, (host, port), FAR) % 2, port % 2);
        }
    }
}

#[test]
fn rfc4787_req_5_a_mapping_lives_for_two_minutes_and_for_five_once_answered() {
    let mut bench = Bench::new();
    mapped(&mut bench, CLIENT_END, FAR);
    bench.wait(119);
    assert!(
        is_open(&mut bench, FAR, WAN_END),
        "not less than two minutes"
    );
    bench.wait(299);
    assert!(is_open(&mut bench, FAR, WAN_END), "five minutes");
    bench.wait(303);
    assert!(!is_open(&mut bench, FAR, WAN_END), "and then it ends");
    // REQ-5 a): less for what is known to be done sooner.
    mapped(&mut bench, CLIENT_END, (ORIGIN, 53));
    bench.wait(33);
    assert!(!is_open(&mut bench, (ORIGIN, 53), WAN_END));
}

#[test]
fn rfc4787_req_6_what_the_client_sends_refreshes_and_what_it_answered_does() {
    let mut bench = Bench::new();
    let port = mapped(&mut bench, CLIENT_END, FAR);
    for _ in 0..10 {
        bench.wait(100);
        assert_eq!(mapped(&mut bench, CLIENT_END, FAR), port);
    }
    assert!(is_open(&mut bench, FAR, WAN_END));
    for _ in 0..5 {
        bench.wait(290);
        assert!(is_open(&mut bench, FAR, WAN_END), "a) inbound");
    }
    // Somebody whom the client never answered cannot keep its port.
    let mut bench = Bench::new();
    mapped(&mut bench, CLIENT_END, FAR);
    for _ in 0..12 {
        assert!(is_open(&mut bench, (ORIGIN, 7), WAN_END));
        bench.wait(10);
    }
    for _ in 0..13 {
        is_open(&mut bench, (ORIGIN, 7), WAN_END);
        bench.wait(10);
    }
    assert!(!is_open(&mut bench, (ORIGIN, 7), WAN_END));
}

#[test]
fn rfc4787_req_7_the_net_outside_is_never_the_net_inside() {
    let mut settings = Settings::new();
    settings.set("lan.address", "192.168.1.1/24").unwrap();
    assert_eq!(
        settings.set("wan.address", "192.168.1.77/24"),
        Err(SettingError::Overlap)
    );
    assert_eq!(
        settings.set("wan.address", "192.168.0.7/16"),
        Err(SettingError::Overlap)
    );
}

#[test]
fn rfc4787_req_8_only_addresses_that_the_client_sent_to_come_in_by_any_port() {
    let mut bench = Bench::new();
    mapped(&mut bench, CLIENT_END, FAR);
    assert!(is_open(&mut bench, FAR, WAN_END));
    let (_, from_other_port) = bench.one(Port::Wan, udp(false, (ORIGIN, 7), WAN_END, b"!"));
    assert_eq!(ends(&from_other_port), [(ORIGIN, 7), CLIENT_END]);
    assert!(!is_open(&mut bench, ELSEWHERE, WAN_END));
    assert!(!is_open(&mut bench, (ELSEWHERE.0, 7), WAN_END));
    assert!(!is_open(&mut bench, FAR, (WAN, 40_001)));
    // Another client of ours has other friends.
    mapped(&mut bench, (OTHER, 50_000), ELSEWHERE);
    assert!(!is_open(&mut bench, ELSEWHERE, WAN_END));
    assert!(!is_open(&mut bench, (ORIGIN, 8), (WAN, 50_000)));
    // The client answers, and the two are a flow as any.
    let answer = bench.pass(Port::Lan, udp(true, CLIENT_END, (ORIGIN, 7), b"!"));
    assert_eq!(ends(&answer), [WAN_END, (ORIGIN, 7)]);
    bench.router.conntrack.check();
}

#[test]
fn rfc4787_req_9_hosts_behind_us_meet_by_our_address_and_see_it() {
    let mut bench = Bench::new();
    let (mine, theirs) = (
        mapped(&mut bench, CLIENT_END, FAR),
        mapped(&mut bench, (OTHER, 50_000), FAR),
    );
    let (port, frame) = bench.one(Port::Lan, udp(true, CLIENT_END, (WAN, theirs), b"hello"));
    assert_eq!(
        (port, ends(&frame)),
        (Port::Lan, [(WAN, mine), (OTHER, 50_000)])
    );
    let (port, frame) = bench.one(Port::Lan, udp(true, (OTHER, 50_000), (WAN, mine), b"hello"));
    assert_eq!(
        (port, ends(&frame)),
        (Port::Lan, [(WAN, theirs), CLIENT_END])
    );
    assert_eq!(bench.router.conntrack.len(), 4);
    bench.router.conntrack.check();
}

#[test]
fn rfc4787_req_11_mapping_and_filter_are_the_same_after_a_conflict_and_under_load() {
    let mut bench = Bench::new();
    for load in 0..3u16 {
        for n in 0..400 {
            bench.run(
                Port::Lan,
                udp(true, (OTHER, 10_000 + load * 400 + n), FAR, b"load"),
            );
        }
        // The first has its own port, the second another's: both are treated alike.
        let (first, second) = (40_000 + load * 2, 40_000 + load * 2);
        for end in [(CLIENT, first), (OTHER, second)] {
            let port = mapped(&mut bench, end, FAR);
            assert_eq!(mapped(&mut bench, end, (ELSEWHERE.0, 1)), port);
            assert!(is_open(&mut bench, (ORIGIN, 7), (WAN, port)));
            assert!(is_open(&mut bench, (ELSEWHERE.0, 7), (WAN, port)));
            assert!(!is_open(&mut bench, (GATEWAY, 7), (WAN, port)));
        }
    }
}

#[test]
fn rfc4787_req_12_icmp_ends_no_mapping_and_may_come_from_anywhere() {
    let mut bench = Bench::new();
    let sent = bench.pass(Port::Lan, udp(true, CLIENT_END, FAR, b"question"));
    for (kind, code) in [
        (3, 0),
        (3, 1),
        (3, 3),
        (3, 4),
        (3, 13),
        (11, 0),
        (12, 0),
        (4, 0),
        (5, 1),
    ] {
        let passed = bench
            .run(Port::Wan, error_about(&sent, kind, code, 1400, 28))
            .len();
        assert_eq!(passed, usize::from(kind != 4 && kind != 5));
    }
    // b) Destination Unreachable, from a router in between: [`error_about`] has the gateway's source.
    assert_eq!(bench.router.counts.get(Counter::IcmpTranslated), 7);
    assert!(is_open(&mut bench, FAR, WAN_END));
}

#[test]
fn rfc4787_req_13_what_is_too_long_for_the_line_is_told_or_cut() {
    let mut bench = Bench::new();
    bench.router.wan_mtu = 1400;
    let fits = bench.pass(Port::Lan, udp(true, CLIENT_END, FAR, &[1; 1372]));
    assert_eq!(fits.len(), 1414);
    let too_long = udp(true, CLIENT_END, FAR, &[1; 1373]);
    assert!(packet(&too_long).dont_fragment());
    let (port, error) = bench.one(Port::Lan, too_long.clone());
    assert_eq!(
        (port, error[34], error[35], &error[40..42]),
        (Port::Lan, 3, 4, &1400u16.to_be_bytes()[..])
    );
    assert_eq!(error.len(), 14 + 576, "as much of the packet as fits");
    assert_eq!(error[42..], too_long[14..14 + 548]);
    bench.connect();
    let (_, error) = bench.one(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], &[1; 1361]));
    assert_eq!((error[34], error[35]), (3, 4));
    // a) "If the packet has DF=0, the NAT MUST fragment the packet and SHOULD send the fragments in order."
    let whole = long_udp(true, CLIENT_END, FAR, 1472);
    let left = feed_all(&mut bench, Port::Lan, Port::Wan, vec![whole.clone()]);
    assert_eq!(
        left.iter().map(Vec::len).collect::<Vec<_>>(),
        [14 + 1396, 14 + 20 + 104]
    );
    assert_eq!(packet(&left[0]).fragment_offset(), 0, "in order");
    let there = join(left);
    assert_eq!((&there[42..], ends(&there)), (&whole[42..], [WAN_END, FAR]));
}

#[test]
fn rfc4787_req_14_fragments_come_in_any_order_and_floods_of_them_hurt_no_other() {
    let mut bench = Bench::new();
    mapped(&mut bench, CLIENT_END, FAR);
    let pieces = cut(&long_udp(false, FAR, WAN_END, 3000), 1480);
    let here = join(feed_all(
        &mut bench,
        Port::Wan,
        Port::Lan,
        pieces.iter().rev().cloned().collect(),
    ));
    assert_eq!(ends(&here), [FAR, CLIENT_END]);
    // a) In a flood of pieces without a first, and of firsts without an end, what is in order
    // comes through, and so does what is whole.
    let mut flood = 0u16;
    for round in 0..200u16 {
        let mut storm = |bench: &mut Bench| {
            for _ in 0..4 * FRAGMENTS_HELD {
                flood += 1;
                let mut piece = pieces[usize::from(flood % 2)].clone();
                piece[18..20].copy_from_slice(&(1000 + flood).to_be_bytes());
                bench.run(Port::Wan, fix_ip(piece));
            }
        };
        let mut left = Vec::new();
        for piece in &pieces {
            let mut piece = piece.clone();
            piece[18..20].copy_from_slice(&round.to_be_bytes());
            left.extend(feed_all(
                &mut bench,
                Port::Wan,
                Port::Lan,
                vec![fix_ip(piece)],
            ));
            storm(&mut bench);
        }
        join(left);
        assert!(is_open(&mut bench, FAR, WAN_END));
    }
}

#[test]
fn rfc5382_req_1_one_port_of_ours_for_a_client_port_whoever_it_talks_to() {
    let mut bench = Bench::new();
    let taken = mapped_tcp(&mut bench, (OTHER, 40_000), FAR);
    let first = mapped_tcp(&mut bench, CLIENT_END, FAR);
    assert_ne!(first, taken);
    assert_eq!(mapped_tcp(&mut bench, CLIENT_END, ELSEWHERE), first);
    assert_eq!(mapped_tcp(&mut bench, CLIENT_END, (ORIGIN, 1)), first);
}

#[test]
fn rfc5382_req_2_both_ways_of_opening_and_a_whole_life_from_both_sides() {
    // Simultaneous open: RFC 9293 figure 8.
    let mut bench = Bench::new();
    bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
    bench.pass(Port::Wan, tcp_in(flags::SYN, 5000, 0, &[], b""));
    bench.pass(
        Port::Lan,
        tcp_out(flags::SYN | flags::ACK, 1000, 5001, &[], b""),
    );
    bench.pass(
        Port::Wan,
        tcp_in(flags::SYN | flags::ACK, 5000, 1001, &[], b""),
    );
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], b"data"));
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 1005, &[], b"data"));
    // A half-closed connection goes on in the other direction, and both ends close.
    bench.pass(
        Port::Lan,
        tcp_out(flags::FIN | flags::ACK, 1005, 5005, &[], b""),
    );
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5005, 1006, &[], b"more data"));
    // Longer than one that both have closed: the other side may still be thinking.
    bench.wait(9 * 60);
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1006, 5014, &[], b""));
    bench.pass(
        Port::Wan,
        tcp_in(flags::FIN | flags::ACK, 5014, 1006, &[], b""),
    );
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1006, 5015, &[], b""));
    // The same ports once more.
    bench.pass(Port::Lan, tcp_out(flags::SYN, 9_000_000, 0, &[], b""));
    // Opened from outside, where a forward permits it: the roles are the other way round.
    bench.forward(&[(Protocol::Tcp, 8080, OTHER, 80)]);
    let (far, ours, host) = (ELSEWHERE, (WAN, 8080), (OTHER, 80));
    let ack = flags::ACK;
    for (from_wan, bits, seq, acked) in [
        (true, flags::SYN, 100, 0),
        (false, flags::SYN | ack, 900, 101),
        (true, ack, 101, 901),
        (true, flags::FIN | ack, 101, 901),
        (false, ack, 901, 102),
        (false, flags::FIN | ack, 901, 102),
        (true, ack, 102, 902),
        (true, flags::SYN, 7_000, 0),
        (false, flags::SYN | ack, 90_000, 7_001),
    ] {
        let (port, src, dst) = if from_wan {
            (Port::Wan, far, ours)
        } else {
            (Port::Lan, host, far)
        };
        bench.one(port, segment_of(!from_wan, src, dst, bits, seq, acked));
    }
    bench.router.conntrack.check();
}

#[test]
fn rfc5382_req_3_only_addresses_that_the_client_sent_to_come_in_by_any_port() {
    let mut bench = Bench::new();
    bench.connect();
    let (_, syn) = bench.one(
        Port::Wan,
        segment_of(false, (ORIGIN, 20), WAN_END, flags::SYN, 1, 0),
    );
    assert_eq!(ends(&syn), [(ORIGIN, 20), CLIENT_END]);
    bench.nothing(
        Port::Wan,
        segment_of(false, (ORIGIN, 21), WAN_END, flags::ACK, 1, 1),
    );
    bench.nothing(
        Port::Wan,
        segment_of(false, ELSEWHERE, WAN_END, flags::SYN, 1, 0),
    );
    // Nor does a UDP flow open a TCP port.
    mapped(&mut bench, (CLIENT, 50_000), ELSEWHERE);
    bench.nothing(
        Port::Wan,
        segment_of(false, ELSEWHERE, (WAN, 50_000), flags::SYN, 1, 0),
    );
}

#[test]
fn rfc5382_req_4_an_unasked_syn_is_never_answered_and_harms_no_simultaneous_open() {
    let mut bench = Bench::new();
    bench.nothing(Port::Wan, tcp_in(flags::SYN, 5000, 0, &[], b""));
    bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
    bench.now += smoltcp::time::Duration::from_secs(3);
    bench.pass(Port::Wan, tcp_in(flags::SYN, 5000, 0, &[], b""));
    // Neither at a port that nobody has, nor at one that a client has for somebody else.
    for port in [4, 40_000] {
        bench.nothing(
            Port::Wan,
            segment_of(false, ELSEWHERE, (WAN, port), flags::SYN, 5000, 0),
        );
    }
    for _ in 0..20 {
        bench.now += smoltcp::time::Duration::from_secs(1);
        bench.router.poll(bench.now, &mut bench.out);
        let left = bench.out.take();
        assert!(
            left.iter().all(|(_, frame)| frame[12..14] == [8, 6]),
            "not later either"
        );
    }
}

#[test]
fn rfc5382_req_5_connections_live_for_two_hours_and_four_minutes_and_half_open_ones_for_four() {
    let mut bench = Bench::new();
    bench.connect();
    bench.wait(2 * 3600 + 4 * 60 - 1);
    bench.pass(
        Port::Wan,
        tcp_in(flags::ACK, 5001, 1001, &[], b"still there"),
    );
    let mut bench = Bench::new();
    bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
    bench.wait(239);
    bench.pass(
        Port::Wan,
        tcp_in(flags::SYN | flags::ACK, 5000, 1001, &[], b""),
    );
    bench.wait(239);
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], b""));
    // Closing is transitory as well: a lost last ACK may be asked for again.
    let fin = flags::FIN | flags::ACK;
    bench.pass(Port::Lan, tcp_out(fin, 1001, 5001, &[], b""));
    bench.wait(239);
    bench.pass(Port::Wan, tcp_in(fin, 5001, 1002, &[], b""));
    bench.wait(239);
    bench.pass(Port::Wan, tcp_in(fin, 5001, 1002, &[], b""));
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1002, 5002, &[], b""));
    bench.wait(239);
    bench.pass(Port::Wan, tcp_in(fin, 5001, 1002, &[], b""));
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1002, 5002, &[], b""));
}

#[test]
fn rfc5382_req_7_no_port_is_shared() {
    let mut bench = Bench::new();
    let mut given = std::collections::HashSet::new();
    for host in [CLIENT, OTHER] {
        for port in 2000..2200 {
            assert!(given.insert(mapped_tcp(&mut bench, (host, port), FAR)));
        }
    }
}

#[test]
fn rfc5382_req_8_hosts_behind_us_connect_by_our_address_and_see_it() {
    let mut bench = Bench::new();
    // Both have a mapping, by a connection to a third party, as when hole-punching.
    let theirs = mapped_tcp(&mut bench, (OTHER, 50_000), FAR);
    let mine = mapped_tcp(&mut bench, CLIENT_END, FAR);
    let (port, syn) = bench.one(
        Port::Lan,
        segment_of(true, CLIENT_END, (WAN, theirs), flags::SYN, 100, 0),
    );
    assert_eq!(
        (port, ends(&syn)),
        (Port::Lan, [(WAN, mine), (OTHER, 50_000)])
    );
    // Its answer, or its own SYN at the same time.
    let (_, syn) = bench.one(
        Port::Lan,
        segment_of(true, (OTHER, 50_000), (WAN, mine), flags::SYN, 900, 0),
    );
    assert_eq!(ends(&syn), [(WAN, theirs), CLIENT_END]);
    let both = flags::SYN | flags::ACK;
    bench.one(
        Port::Lan,
        segment_of(true, CLIENT_END, (WAN, theirs), both, 100, 901),
    );
    bench.one(
        Port::Lan,
        segment_of(true, (OTHER, 50_000), (WAN, mine), both, 900, 101),
    );
    bench.one(
        Port::Lan,
        segment_of(true, CLIENT_END, (WAN, theirs), flags::ACK, 101, 901),
    );
    bench.nothing(
        Port::Lan,
        segment_of(true, CLIENT_END, (WAN, theirs), flags::ACK, 900_000, 901),
    );
    bench.router.conntrack.check();
}

#[test]
fn rfc5382_req_9_an_unreachable_about_a_segment_reaches_the_client() {
    let mut bench = Bench::new();
    let syn = bench.pass(Port::Lan, tcp_out(flags::SYN, 1000, 0, &[], b""));
    for code in [0, 1, 3, 10, 13] {
        let (port, error) = bench.one(Port::Wan, error_about(&syn, 3, code, 0, 28));
        assert_eq!(
            (port, packet(&error).dst, error[34], error[35]),
            (Port::Lan, CLIENT, 3, code)
        );
        assert_eq!(&error[54..58], &CLIENT.octets());
    }
}

#[test]
fn rfc5382_req_10_no_icmp_message_ends_a_connection() {
    let mut bench = Bench::new();
    bench.connect();
    let sent = bench.pass(Port::Lan, tcp_out(flags::ACK, 1001, 5001, &[], b"GOT"));
    for kind in 0..=255u8 {
        for code in 0..16 {
            bench.run(Port::Wan, error_about(&sent, kind, code, 1400, 28));
        }
    }
    let got = bench.pass(Port::Wan, tcp_in(flags::ACK, 5001, 1004, &[], b"HELLO"));
    // Nor one of the client's side, about what it got.
    for kind in 0..=255u8 {
        for code in 0..16 {
            let error = icmp(true, CLIENT, ORIGIN, kind, code, [0; 4], &got[14..]);
            bench.run(Port::Lan, error);
        }
    }
    let state = crate::conntrack::tcp::State::Established;
    assert_eq!(bench.entry().tcp.state, state);
    bench.pass(Port::Lan, tcp_out(flags::ACK, 1004, 5006, &[], b"GOT MORE"));
    bench.pass(Port::Wan, tcp_in(flags::ACK, 5006, 1012, &[], b"HELLO"));
}

#[test]
fn rfc5508_req_1_queries_pass_and_their_identifier_is_the_same_towards_all() {
    let mut bench = Bench::new();
    let ident_of = |bench: &mut Bench, host, dst| {
        let out = bench.pass(
            Port::Lan,
            icmp(true, host, dst, 8, 0, [0x12, 0x34, 0, 1], b"x"),
        );
        [out[38], out[39]]
    };
    let (mine, theirs) = (
        ident_of(&mut bench, CLIENT, ORIGIN),
        ident_of(&mut bench, OTHER, ORIGIN),
    );
    assert_ne!(mine, theirs);
    assert_eq!(ident_of(&mut bench, OTHER, GATEWAY), theirs);
    let answer = icmp(false, ORIGIN, WAN, 0, 0, [theirs[0], theirs[1], 0, 1], b"x");
    let (_, back) = bench.one(Port::Wan, answer);
    assert_eq!(
        (packet(&back).dst, &back[38..40]),
        (OTHER, &[0x12, 0x34][..])
    );
    // Not from outside.
    bench.nothing(
        Port::Wan,
        icmp(false, ORIGIN, WAN, 8, 0, [theirs[0], theirs[1], 0, 1], b"x"),
    );
    bench.nothing(
        Port::Wan,
        icmp(
            false,
            ELSEWHERE.0,
            WAN,
            0,
            0,
            [theirs[0], theirs[1], 0, 1],
            b"x",
        ),
    );
}

#[test]
fn rfc5508_req_2_a_query_may_be_answered_for_a_minute() {
    let mut bench = Bench::new();
    bench.pass(
        Port::Lan,
        icmp(true, CLIENT, ORIGIN, 8, 0, [0x12, 0x34, 0, 1], b"x"),
    );
    bench.wait(59);
    let answer = icmp(false, ORIGIN, WAN, 0, 0, [0x12, 0x34, 0, 1], b"x");
    bench.one(Port::Wan, answer.clone());
    bench.wait(63);
    bench.nothing(Port::Wan, answer);
}

#[test]
fn rfc5508_req_3_an_error_must_be_intact_and_quote_an_intact_ip_header() {
    let mut bench = Bench::new();
    let sent = bench.pass(Port::Lan, udp(true, CLIENT_END, FAR, b"question"));
    let mut corrupt = error_about(&sent, 3, 1, 0, 28);
    corrupt[37] ^= 1;
    bench.dropped(Port::Wan, corrupt, Counter::IcmpIgnored);
    // a)
    let mut bad_header = sent.clone();
    bad_header[25] ^= 1;
    bench.dropped(
        Port::Wan,
        error_about(&bad_header, 3, 1, 0, 28),
        Counter::IcmpIgnored,
    );
    // b) Options of the quoted header are passed over.
    let mut with_options = [&sent[..34], &[7, 3, 4, 0], &sent[34..]].concat();
    with_options[14] = 0x46;
    with_options[24..26].fill(0);
    let sum = checksum::finish(checksum::sum(&with_options[14..38]));
    with_options[24..26].copy_from_slice(&sum.to_be_bytes());
    let (_, error) = bench.one(Port::Wan, error_about(&with_options, 3, 1, 0, 32));
    assert_eq!(&error[42 + 24..42 + 26], &40_000u16.to_be_bytes());
    // c) The quoted transport checksum is not looked at.
    let mut bad_transport = sent.clone();
    bad_transport[40] ^= 0x55;
    bench.one(Port::Wan, error_about(&bad_transport, 3, 1, 0, 100));
    // All the same in the other direction.
    let got = bench.pass(Port::Wan, udp(false, FAR, WAN_END, b"answer"));
    let error = |quoted: &[u8]| icmp(true, CLIENT, ORIGIN, 3, 3, [0; 4], quoted);
    let mut corrupt = error(&got[14..]);
    corrupt[37] ^= 1;
    bench.dropped(Port::Lan, corrupt, Counter::IcmpIgnored);
    let mut bad_header = got.clone();
    bad_header[25] ^= 1;
    bench.dropped(Port::Lan, error(&bad_header[14..]), Counter::IcmpIgnored);
    let mut bad_transport = got.clone();
    bad_transport[40] ^= 0x55;
    bench.one(Port::Lan, error(&bad_transport[14..]));
}

#[test]
fn rfc5508_req_4_an_error_from_outside_comes_in_with_the_client_in_it_or_not_at_all() {
    let mut bench = Bench::new();
    let sent = bench.pass(Port::Lan, udp(true, (CLIENT, 61_500), FAR, b"question"));
    assert_ne!(ends(&sent)[0].1, 61_500);
    let (port, error) = bench.one(Port::Wan, error_about(&sent, 3, 10, 0, 100));
    assert_eq!(
        (port, packet(&error).src, packet(&error).dst),
        (Port::Lan, GATEWAY, CLIENT)
    );
    assert_eq!(
        (error[34], error[35]),
        (3, 10),
        "b) type and code unchanged"
    );
    let mut quoted = [&sent[..14], &error[42..]].concat();
    assert!(
        checksums_hold(&quoted),
        "a) the quoted datagram is whole again"
    );
    quoted[22] = 64;
    assert_eq!(ends(&fix_ip(quoted)), [(CLIENT, 61_500), FAR]);
    let mut of_nobody = sent.clone();
    of_nobody[35] ^= 1;
    bench.dropped(
        Port::Wan,
        error_about(&of_nobody, 3, 1, 0, 28),
        Counter::IcmpIgnored,
    );
}

#[test]
fn rfc5508_req_5_an_error_from_inside_leaves_with_our_address_whoever_sent_it() {
    let mut bench = Bench::new();
    mapped(&mut bench, CLIENT_END, FAR);
    let got = bench.pass(Port::Wan, udp(false, FAR, WAN_END, b"answer"));
    for reporter in [CLIENT, OTHER] {
        let (port, error) = bench.one(
            Port::Lan,
            icmp(true, reporter, ORIGIN, 3, 3, [0; 4], &got[14..]),
        );
        assert_eq!(
            (port, packet(&error).src, packet(&error).dst),
            (Port::Wan, WAN, ORIGIN)
        );
        assert_eq!((error[34], error[35]), (3, 3));
        let quoted = [&got[..14], &error[42..]].concat();
        assert!(checksums_hold(&quoted));
        assert_eq!(ends(&quoted), [FAR, WAN_END]);
    }
    let of_nobody = udp(false, ELSEWHERE, CLIENT_END, b"answer");
    bench.dropped(
        Port::Lan,
        icmp(true, CLIENT, ELSEWHERE.0, 3, 3, [0; 4], &of_nobody[14..]),
        Counter::IcmpIgnored,
    );
    // And it goes to who sent the packet, not to anybody else.
    bench.dropped(
        Port::Lan,
        icmp(true, CLIENT, GATEWAY, 3, 3, [0; 4], &got[14..]),
        Counter::IcmpIgnored,
    );
}

#[test]
fn rfc5508_req_6_an_error_neither_refreshes_nor_ends_a_query() {
    let mut bench = Bench::new();
    let sent = bench.pass(
        Port::Lan,
        icmp(true, CLIENT, ORIGIN, 8, 0, [0x12, 0x34, 0, 1], b"x"),
    );
    let error = error_about(&sent, 11, 0, 0, 28);
    for _ in 0..5 {
        bench.wait(11);
        let (_, back) = bench.one(Port::Wan, error.clone());
        assert_eq!(&back[54..58], &CLIENT.octets());
    }
    bench.wait(8);
    bench.nothing(Port::Wan, error);
}

#[test]
fn rfc5508_req_7_errors_between_hosts_behind_us_are_translated_twice() {
    let mut bench = Bench::new();
    let (mine, theirs) = (
        mapped(&mut bench, CLIENT_END, FAR),
        mapped(&mut bench, (OTHER, 61_500), FAR),
    );
    let asked = (WAN, theirs);
    let (_, got) = bench.one(Port::Lan, udp(true, CLIENT_END, asked, b"question"));
    assert_eq!(ends(&got), [(WAN, mine), (OTHER, 61_500)]);
    let (port, error) = bench.one(Port::Lan, icmp(true, OTHER, WAN, 3, 3, [0; 4], &got[14..]));
    assert_eq!(
        (port, packet(&error).src, packet(&error).dst),
        (Port::Lan, WAN, CLIENT)
    );
    let quoted = [&got[..14], &error[42..]].concat();
    assert!(checksums_hold(&quoted));
    assert_eq!(
        ends(&quoted),
        [CLIENT_END, asked],
        "a) what the client sent"
    );
    assert_eq!(error[22], 63, "one hop");
    // The same for a connection.
    bench.forward(&[(Protocol::Tcp, 8080, OTHER, 80)]);
    let (_, syn) = bench.one(
        Port::Lan,
        segment_of(true, CLIENT_END, (WAN, 8080), flags::SYN, 100, 0),
    );
    let (_, error) = bench.one(Port::Lan, icmp(true, OTHER, WAN, 3, 3, [0; 4], &syn[14..]));
    let quoted = [&syn[..14], &error[42..]].concat();
    assert_eq!(ends(&quoted), [CLIENT_END, (WAN, 8080)]);
    let mut forged = syn.clone();
    forged[41] ^= 1;
    bench.nothing(
        Port::Lan,
        icmp(true, OTHER, WAN, 3, 3, [0; 4], &forged[14..]),
    );
}

#[test]
fn rfc5508_req_8_a_flow_that_is_refused_is_told_so() {
    let mut bench = Bench::new();
    // All ports of one parity are the hardest thing to run out of; a table of connections is not.
    let hosts = (30..34u8).map(|last| Ipv4Address::new(192, 168, 1, last));
    for host in hosts {
        for port in 0..crate::budget::FLOWS as u16 / 4 {
            let key = FlowKey {
                client: host,
                remote: ORIGIN,
                client_port: 2000 + port,
                remote_port: 80,
                protocol: Protocol::Tcp,
            };
            let mut state = crate::conntrack::Tcp::NONE;
            state.state = crate::conntrack::tcp::State::Established;
            let id = bench
                .router
                .conntrack
                .open(bench.now, key, Some(state))
                .unwrap();
            bench.router.conntrack.touch(bench.now, id);
        }
    }
    let syn = segment_of(true, CLIENT_END, FAR, flags::SYN, 1, 0);
    for refused in [
        syn,
        udp(true, CLIENT_END, FAR, b"?"),
        icmp(true, CLIENT, ORIGIN, 8, 0, [0; 4], b"?"),
    ] {
        let (port, error) = bench.one(Port::Lan, refused);
        assert_eq!(
            (port, packet(&error).dst, error[34], error[35]),
            (Port::Lan, CLIENT, 3, 13)
        );
    }
    assert_eq!(bench.router.counts.get(Counter::FlowRefused), 3);
}

#[test]
fn rfc5508_req_9_the_router_says_nothing_of_its_own_to_the_wan() {
    let mut bench = Bench::new();
    bench.forward(&[(Protocol::Udp, 8080, OTHER, 80)]);
    mapped(&mut bench, CLIENT_END, FAR);
    for dst in [WAN_END, (WAN, 8080), (WAN, 1), (WAN, 61_000), (WAN, 65_535)] {
        for ttl in [1, 2, 64] {
            for mut frame in [
                udp(false, FAR, dst, b"x"),
                segment_of(false, FAR, dst, flags::SYN, 1, 0),
                segment_of(false, FAR, dst, flags::ACK, 1, 1),
            ] {
                frame[22] = ttl;
                let left = bench.run(Port::Wan, fix_ip(frame));
                assert!(left.iter().all(|(port, _)| *port == Port::Lan));
            }
        }
    }
    // What went to the LAN is what came, and no error that lost its way.
    let counts = &bench.router.counts;
    assert_eq!(counts.get(Counter::IcmpSent), 0);
    assert_eq!(counts.get(Counter::IcmpLimited), 0);
    assert!(counts.get(Counter::ForwardedIn) > 0);
}

#[test]
fn rfc5508_req_10_time_exceeded_unreachable_and_echo_are_the_routers_own_and_source_quench_is_not()
{
    let mut bench = Bench::new();
    let mut dying = udp(true, CLIENT_END, FAR, b"trace");
    dying[22] = 1;
    let (_, error) = bench.one(Port::Lan, fix_ip(dying));
    assert_eq!((packet(&error).src, error[34], error[35]), (ROUTER, 11, 0));
    let (_, error) = bench.one(Port::Lan, udp(true, CLIENT_END, (ROUTER, 7), b"?"));
    assert_eq!((packet(&error).src, error[34], error[35]), (ROUTER, 3, 3));
    let (_, answer) = bench.one(Port::Lan, icmp(true, CLIENT, ROUTER, 8, 0, [0; 4], b"?"));
    assert_eq!(answer[34], 0);
    let sent = bench.pass(Port::Lan, udp(true, CLIENT_END, FAR, b"question"));
    bench.nothing(Port::Wan, error_about(&sent, 4, 0, 0, 28));
    // No error about an error.
    let mut dying = icmp(true, CLIENT, ORIGIN, 3, 3, [0; 4], &sent[14..]);
    dying[22] = 1;
    bench.nothing(Port::Lan, fix_ip(dying));
}

#[test]
fn rfc5508_req_11_messages_that_are_neither_query_nor_error_are_dropped() {
    let mut bench = Bench::new();
    let sent = bench.pass(Port::Lan, udp(true, CLIENT_END, FAR, b"question"));
    for kind in [5, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 41, 255] {
        bench.nothing(Port::Wan, error_about(&sent, kind, 0, 0, 28));
        bench.nothing(
            Port::Lan,
            icmp(true, CLIENT, ORIGIN, kind, 0, [0; 4], &sent[14..]),
        );
    }
}

#[test]
fn rfc7857_section_2_2_a_reset_connection_is_kept_for_four_minutes() {
    let mut bench = Bench::new();
    bench.connect();
    bench.pass(Port::Wan, tcp_in(flags::RST, 5001, 0, &[], b""));
    bench.wait(239);
    bench.pass(Port::Lan, tcp_out(flags::RST, 1001, 0, &[], b""));
    bench.wait(243);
    assert!(bench.router.conntrack.is_empty());
}

#[test]
fn rfc7857_section_5_each_protocol_has_mappings_of_its_own() {
    let mut bench = Bench::new();
    assert_eq!(mapped(&mut bench, CLIENT_END, FAR), 40_000);
    assert_eq!(mapped_tcp(&mut bench, (OTHER, 40_000), FAR), 40_000);
    assert_eq!(INBOUND_PER_MAPPING_MAX, 16);
}
