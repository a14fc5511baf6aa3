use super::*;
use crate::budget::*;
use crate::wire::packet::flags;
use proptest::prelude::*;

const REMOTE: Ipv4Address = Ipv4Address::new(198, 51, 100, 10);

fn at(seconds: i64) -> Instant {
    Instant::from_secs(seconds)
}

fn table() -> Box<Table> {
    let mut table = Box::new(Table::EMPTY);
    table.set_seed(Random::repeatable(7));
    table
}

fn key(protocol: Protocol, host: u8, client_port: u16) -> FlowKey {
    FlowKey {
        client: Ipv4Address::new(192, 168, 1, host),
        remote: REMOTE,
        client_port,
        remote_port: 80,
        protocol,
    }
}

fn key_of(host: u8) -> Ipv4Address {
    Ipv4Address::new(192, 168, 1, host)
}

fn segment(flags: u8, seq: u32, ack: u32) -> packet::Tcp {
    packet::Tcp {
        src_port: 0,
        dst_port: 0,
        seq,
        ack,
        flags,
        window: 60_000,
        payload: 0,
    }
}

fn syn(seq: u32) -> tcp::Segment {
    tcp::Segment {
        seq,
        ack: 0,
        len: 1,
        window: 60_000,
        flags: flags::SYN,
    }
}

fn open_tcp(table: &mut Table, seconds: i64, host: u8, port: u16) -> Result<EntryId, Refused> {
    let state = Tcp::opened(&syn(100), &Summary::default(), false);
    table.open(at(seconds), key(Protocol::Tcp, host, port), Some(state))
}

fn step(
    table: &mut Table,
    seconds: i64,
    id: EntryId,
    direction: Direction,
    bits: u8,
    seq: u32,
    ack: u32,
) {
    let len = u32::from(bits & flags::SYN != 0) + u32::from(bits & flags::FIN != 0);
    table
        .on_tcp(
            at(seconds),
            id,
            direction,
            &segment(bits, seq, ack),
            len,
            Summary::default,
        )
        .unwrap();
}

fn establish(table: &mut Table, seconds: i64, host: u8, port: u16) -> EntryId {
    let id = open_tcp(table, seconds, host, port).unwrap();
    step(
        table,
        seconds,
        id,
        Direction::Reply,
        flags::SYN | flags::ACK,
        500,
        101,
    );
    step(
        table,
        seconds,
        id,
        Direction::Original,
        flags::ACK,
        101,
        501,
    );
    assert_eq!(table.get(id).unwrap().tcp.state, tcp::State::Established);
    id
}

/// Polls every second until the flow is gone; the second at which that was.
fn gone_at(table: &mut Table, id: EntryId, from: i64) -> i64 {
    for seconds in from..from + 10_000 {
        table.poll(at(seconds));
        if table.get(id).is_none() {
            return seconds;
        }
    }
    panic!("the flow never ends");
}

#[test]
fn each_kind_of_flow_ends_within_two_seconds_of_its_timeout() {
    type Case = (Duration, fn(&mut Table) -> EntryId);
    let mut table;
    let cases: [Case; 8] = [
        (UDP_UNANSWERED_TIMEOUT, |table| {
            table
                .open(at(1000), key(Protocol::Udp, 5, 1), None)
                .unwrap()
        }),
        (UDP_TIMEOUT, |table| {
            let id = table
                .open(at(1000), key(Protocol::Udp, 5, 1), None)
                .unwrap();
            table.on_datagram(at(1000), id, Direction::Reply);
            id
        }),
        (DNS_TIMEOUT, |table| {
            table
                .open(
                    at(1000),
                    FlowKey {
                        remote_port: 53,
                        ..key(Protocol::Udp, 5, 1)
                    },
                    None,
                )
                .unwrap()
        }),
        (ICMP_TIMEOUT, |table| {
            table
                .open(at(1000), key(Protocol::Icmp, 5, 1), None)
                .unwrap()
        }),
        (TCP_TRANSITORY_TIMEOUT, |table| {
            open_tcp(table, 1000, 5, 1).unwrap()
        }),
        (TCP_ESTABLISHED_TIMEOUT, |table| {
            establish(table, 1000, 5, 1)
        }),
        (TCP_HALF_CLOSED_TIMEOUT, |table| {
            let id = establish(table, 1000, 5, 1);
            step(
                table,
                1000,
                id,
                Direction::Original,
                flags::FIN | flags::ACK,
                101,
                501,
            );
            id
        }),
        (TCP_RESET_TIMEOUT, |table| {
            let id = establish(table, 1000, 5, 1);
            step(table, 1000, id, Direction::Original, flags::RST, 101, 0);
            id
        }),
    ];
    for (timeout, make) in cases {
        // Each case in a table of its own: time does not run backwards.
        table = self::table();
        table.poll(at(1000));
        let id = make(&mut table);
        table.check();
        let ended = gone_at(&mut table, id, 1000) - 1000;
        let seconds = timeout.secs() as i64;
        assert!(
            (seconds..=seconds + 2).contains(&ended),
            "{ended} s instead of {seconds} s"
        );
        table.check();
        assert_eq!(table.poll_at(), None);
    }
}

#[test]
fn traffic_in_either_direction_keeps_a_flow() {
    let mut table = table();
    let id = table.open(at(0), key(Protocol::Udp, 5, 1), None).unwrap();
    for seconds in 0..2000 {
        if seconds % 250 == 0 {
            let direction = if seconds % 500 == 0 {
                Direction::Reply
            } else {
                Direction::Original
            };
            table.on_datagram(at(seconds), id, direction);
        }
        table.poll(at(seconds));
        assert!(table.get(id).is_some(), "gone after {seconds} s");
    }
}

#[test]
fn one_client_port_has_one_port_of_ours_towards_everybody() {
    let mut table = table();
    let first = table
        .open(at(0), key(Protocol::Udp, 5, 5000), None)
        .unwrap();
    let other = FlowKey {
        remote: Ipv4Address::new(9, 9, 9, 9),
        remote_port: 7,
        ..key(Protocol::Udp, 5, 5000)
    };
    let second = table.open(at(0), other, None).unwrap();
    assert_eq!(
        table.get(first).unwrap().wan_port(),
        5000,
        "the client's own port is kept"
    );
    assert_eq!(table.get(second).unwrap().wan_port(), 5000);
    let third = table
        .open(at(0), key(Protocol::Udp, 6, 5000), None)
        .unwrap();
    let port = table.get(third).unwrap().wan_port();
    assert!(
        port != 5000 && port.is_multiple_of(2),
        "taken, so another of the same parity: {port}"
    );
    let tcp = open_tcp(&mut table, 0, 6, 5000).unwrap();
    assert_eq!(
        table.get(tcp).unwrap().wan_port(),
        5000,
        "each protocol has its own ports"
    );
    table.remove(first);
    table.check();
    assert_eq!(
        table.get(second).unwrap().wan_port(),
        5000,
        "kept while a flow uses it"
    );
}

#[test]
fn ports_of_the_router_itself_are_never_given_out() {
    let mut table = table();
    for port in [61_000, 61_001, 65_535, 68] {
        let id = table
            .open(at(0), key(Protocol::Udp, 5, port), None)
            .unwrap();
        let given = table.get(id).unwrap().wan_port();
        assert!((1..61_000).contains(&given) && given != 68, "{given}");
    }
}

#[test]
fn a_stale_name_finds_nothing() {
    let mut table = table();
    let id = table.open(at(0), key(Protocol::Udp, 5, 1), None).unwrap();
    table.remove(id);
    let next = table.open(at(0), key(Protocol::Udp, 5, 2), None).unwrap();
    assert_eq!(id.index, next.index, "the place is used again");
    assert!(table.get(id).is_none() && table.get(next).is_some());
}

#[test]
fn a_flood_of_one_host_costs_its_own_half_open_flows_only() {
    let mut table = table();
    let victims: Vec<_> = (0..50)
        .map(|n| establish(&mut table, 0, 9, 2000 + n))
        .collect();
    let young = open_tcp(&mut table, 0, 9, 3000).unwrap();
    for n in 0..20_000u16 {
        open_tcp(&mut table, 0, 66, n).unwrap();
    }
    table.check();
    assert!(victims.iter().all(|&id| table.get(id).is_some()));
    assert!(
        table.get(young).is_some(),
        "the half-open flow of another host lives"
    );
    let account = table.hasher.account(Ipv4Address::new(192, 168, 1, 66));
    assert_eq!(
        usize::from(table.fresh[usize::from(account)]),
        FLOWS_FRESH_PER_HOST_MAX
    );
}

#[test]
fn a_flood_from_all_addresses_spares_connections_and_admits_newcomers() {
    let mut table = table();
    let connections: Vec<_> = (0..500)
        .map(|n| establish(&mut table, 0, 9, 2000 + n))
        .collect();
    for n in 0..30_000u32 {
        let udp = FlowKey {
            remote_port: 9,
            ..key(Protocol::Udp, (n % 250) as u8, (n % 60_000) as u16)
        };
        if n % 2 == 0 {
            let _refused = table.open(at(1), udp, None);
        } else {
            let _refused = open_tcp(&mut table, 1, (n % 250) as u8, (n / 250) as u16 + 10_000);
        }
    }
    assert_eq!(table.len(), FLOWS);
    table.check();
    assert!(connections.iter().all(|&id| table.get(id).is_some()));
    for n in 0..200 {
        let id = establish(&mut table, 1, 8, 4000 + n);
        assert!(table.get(id).is_some());
    }
}

#[test]
fn a_table_full_of_active_connections_refuses_the_newest() {
    let mut table = table();
    let mut all = Vec::new();
    for n in 0..FLOWS as u16 {
        all.push(establish(&mut table, 0, (n % 4) as u8 + 1, 2000 + n));
    }
    assert_eq!(open_tcp(&mut table, 1, 77, 5), Err(Refused::Full));
    assert_eq!(table.counts.get(Counter::RefusedFull), 1);
    assert!(all.iter().all(|&id| table.get(id).is_some()));
    // All but one go on; the silent one is given away when it no longer counts as active.
    let later = TCP_EVICT_IDLE.secs() as i64;
    for &id in &all[1..] {
        step(
            &mut table,
            later,
            id,
            Direction::Original,
            flags::ACK,
            101,
            501,
        );
    }
    // A search is bounded and the next one starts behind it.
    let tries = (0..=FLOWS / FLOW_STEPS_MAX).find(|_| open_tcp(&mut table, later, 77, 5).is_ok());
    assert!(tries.is_some());
    assert!(table.get(all[0]).is_none());
    table.check();
}

#[test]
fn ended_connections_go_first_in_a_full_table() {
    let mut table = table();
    let over = establish(&mut table, 0, 9, 1999);
    for n in 0..FLOWS as u16 - 1 {
        let id = table
            .open(at(0), key(Protocol::Udp, (n % 5) as u8, 2000 + n), None)
            .unwrap();
        table.on_datagram(at(0), id, Direction::Reply);
    }
    step(&mut table, 0, over, Direction::Original, flags::RST, 101, 0);
    assert!(open_tcp(&mut table, 0, 77, 5).is_ok());
    assert!(table.get(over).is_none());
    assert_eq!(table.counts.get(Counter::EvictedOver), 1);
}

#[test]
fn one_host_cannot_take_the_whole_table() {
    let mut table = table();
    for n in 0..FLOWS as u16 {
        let Ok(id) = open_tcp(&mut table, 0, 66, n) else {
            continue;
        };
        step(
            &mut table,
            0,
            id,
            Direction::Reply,
            flags::SYN | flags::ACK,
            500,
            101,
        );
        step(&mut table, 0, id, Direction::Original, flags::ACK, 101, 501);
    }
    assert_eq!(table.len(), FLOWS_PER_HOST_MAX);
    assert!(table.counts.get(Counter::RefusedHost) > 0);
    assert!(open_tcp(&mut table, 0, 9, 1).is_ok());
}

#[test]
fn a_flow_in_an_exchange_neither_expires_nor_is_given_away() {
    let mut table = table();
    let id = establish(&mut table, 0, 9, 1);
    table.get_mut(id).unwrap().tcp.stage = Stage::Exchange(ExchangeId(0));
    for seconds in 0..9000 {
        table.poll(at(seconds));
    }
    for n in 0..FLOWS as u16 {
        establish(&mut table, 9000 + i64::from(n), (n % 4) as u8, 2000 + n);
    }
    assert!(table.get(id).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_order_of_operations_keeps_the_invariants(
        ops in proptest::collection::vec((0u8..11, 0u8..3, 0u16..40, any::<u8>(), any::<(u32, u32)>(), 0i64..100), 1..200),
        seed: u64,
    ) {
        let mut table = table();
        table.set_seed(Random::repeatable(seed));
        let mut seconds = 0;
        for (op, host, port, bits, (seq, ack), wait) in ops {
            seconds += wait;
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][usize::from(port % 3)];
            let key = key(protocol, host, port);
            let found = table.find(&key);
            match (op, found) {
                (0 | 1, None) if protocol == Protocol::Tcp => {
                    open_tcp(&mut table, seconds, host, port).unwrap();
                }
                (0 | 1, None) => {
                    let _refused_if_redirected_to = table.open(at(seconds), key, None);
                }
                (2, Some(id)) => table.on_datagram(at(seconds), id, Direction::Reply),
                (3 | 4, Some(id)) if protocol == Protocol::Tcp => {
                    let direction = if op == 3 { Direction::Original } else { Direction::Reply };
                    let tcp = segment(bits, 100 + seq % 4, 100 + ack % 4);
                    let _invalid = table.on_tcp(at(seconds), id, direction, &tcp, seq % 3, Summary::default);
                }
                (5, Some(id)) => table.remove(id),
                (6, _) => table.poll(at(seconds)),
                (7 | 8, _) => {
                    let key = ReplyKey { remote: REMOTE, remote_port: u16::from(bits % 4), wan_port: port, protocol };
                    let who = if op == 7 { Outside::Wan } else { Outside::Hairpin(key_of(host)) };
                    if table.find_reply(&key).is_none() {
                        let state = (protocol == Protocol::Tcp).then(|| Tcp::opened(&syn(seq), &Summary::default(), false));
                        let _refused = table.open_inbound(at(seconds), key, who, state);
                    }
                }
                (9, _) => {
                    let forward = |n: u16| Forward { protocol, wan_port: port + n, client: key_of(host), client_port: 1 + n };
                    table.set_forwards((0..u16::from(bits % 4)).map(forward));
                }
                (10, None) if protocol != Protocol::Tcp => {
                    let far = (Ipv4Address::new(9, 9, 9, bits), 53);
                    let _refused = table.open_redirected(at(seconds), key, far, None);
                }
                _ => {}
            }
            table.check();
        }
        for _ in 0..500 {
            seconds += 60;
            table.poll(at(seconds));
        }
        table.set_forwards(core::iter::empty());
        table.check();
        prop_assert!(table.is_empty(), "everything ends");
        prop_assert_eq!(table.poll_at(), None);
    }
}
