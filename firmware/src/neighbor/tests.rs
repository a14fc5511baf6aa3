use super::*;
use crate::port::Full;
use proptest::prelude::*;
use smoltcp::wire::Ipv4Cidr;

/// Collects what is transmitted.
pub(crate) struct Sent {
    pub(crate) frames: Vec<(Port, Vec<u8>)>,
    pub(crate) room: usize,
}

impl Sent {
    pub(crate) fn new() -> Self {
        Self {
            frames: Vec::new(),
            room: usize::MAX,
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(Port, Vec<u8>)> {
        std::mem::take(&mut self.frames)
    }
}

impl Egress for Sent {
    fn transmit<R>(
        &mut self,
        port: Port,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, Full> {
        self.room = self.room.checked_sub(1).ok_or(Full)?;
        let mut frame = vec![0xA5; len];
        let answer = fill(&mut frame);
        self.frames.push((port, frame));
        Ok(answer)
    }

    fn room(&self, _port: Port) -> usize {
        self.room
    }

    /// The lines take what they get at once.
    fn queued(&self, _port: Port) -> usize {
        0
    }
}

const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OWN_IP: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const GATEWAY: Ipv4Address = Ipv4Address::new(203, 0, 113, 1);
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const FORGED_MAC: [u8; 6] = [2, 0, 0, 0, 0, 66];

fn own() -> PortAddress {
    PortAddress {
        mac: EthernetAddress(OWN_MAC),
        cidr: Some(Ipv4Cidr::new(OWN_IP, 26)),
        gateway: Some(GATEWAY),
    }
}

fn at(ms: i64) -> Instant {
    Instant::from_millis(ms)
}

fn arp(operation: u16, from: [u8; 6], sender: Ipv4Address, target: Ipv4Address) -> Vec<u8> {
    let mut frame = vec![0; ARP_FRAME_BYTES];
    let number = |address: Ipv4Address| u32::from_ne_bytes(address.octets());
    emit(
        &mut frame,
        operation,
        from,
        number(sender),
        OWN_MAC,
        OWN_MAC,
        number(target),
    );
    frame
}

struct Bench {
    table: Box<Neighbors>,
    out: Sent,
}

impl Bench {
    fn new() -> Self {
        Self {
            table: Box::new(Neighbors::new()),
            out: Sent::new(),
        }
    }

    fn hold(&mut self, ms: i64, hop: Ipv4Address, mark: u8) -> Result<(), Refused> {
        let fill = |frame: &mut [u8]| frame.fill(mark);
        self.table.hold(
            at(ms),
            &Hop {
                port: Port::Wan,
                own: &own(),
                address: hop,
            },
            60,
            fill,
            &mut self.out,
        )
    }

    fn hear(&mut self, ms: i64, operation: u16, mac: [u8; 6], sender: Ipv4Address) {
        self.table.on_arp(
            at(ms),
            Port::Wan,
            &own(),
            &arp(operation, mac, sender, OWN_IP),
            &mut self.out,
        );
        self.table.check();
    }

    fn poll(&mut self, ms: i64) {
        self.table.poll(at(ms), &[own(); 3], &mut self.out);
    }

    fn gateway(&mut self) -> Option<[u8; 6]> {
        self.table.lookup(Port::Wan, GATEWAY).map(|mac| mac.0)
    }

    /// A bench that knows the gateway since 0 ms.
    fn knowing() -> Self {
        let mut bench = Self::new();
        bench.hold(0, GATEWAY, 1).unwrap();
        bench.hear(0, REPLY, GATEWAY_MAC, GATEWAY);
        bench.out.take();
        bench
    }
}

#[test]
fn frames_wait_for_the_answer_and_leave_in_order() {
    let mut bench = Bench::new();
    assert_eq!(bench.gateway(), None);
    for mark in 1..=4 {
        bench.hold(0, GATEWAY, mark).unwrap();
    }
    assert_eq!(
        bench.hold(0, GATEWAY, 5),
        Err(Refused),
        "one neighbor may hold half the store"
    );
    let asked = bench.out.take();
    assert_eq!(asked.len(), 1, "one question for all of them");
    assert_eq!(asked[0].1[0..6], BROADCAST);
    assert_eq!(asked[0].1[20..22], [0, 1]);
    bench.hear(20, REPLY, GATEWAY_MAC, GATEWAY);
    let left = bench.out.take();
    assert_eq!(
        left.iter().map(|(_, frame)| frame[20]).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(
        left.iter()
            .all(|(port, frame)| *port == Port::Wan && frame[0..6] == GATEWAY_MAC)
    );
    assert_eq!(bench.gateway(), Some(GATEWAY_MAC));
}

#[test]
fn a_silent_address_is_asked_three_times_and_its_frames_are_dropped() {
    let mut bench = Bench::new();
    bench.hold(0, GATEWAY, 1).unwrap();
    for ms in (0..10_000).step_by(100) {
        bench.poll(ms);
    }
    assert_eq!(bench.out.take().len(), 3);
    assert_eq!(bench.table.counts.get(Counter::Unanswered), 1);
    assert_eq!(bench.table.poll_at(), None);
    bench.hold(10_000, GATEWAY, 1).unwrap();
    assert_eq!(bench.out.take().len(), 1, "a later packet asks again");
}

#[test]
fn an_answer_nobody_asked_for_teaches_nothing() {
    let mut bench = Bench::new();
    bench.hear(0, REPLY, FORGED_MAC, GATEWAY);
    assert_eq!(bench.gateway(), None);
    assert_eq!(bench.table.counts.get(Counter::Unsolicited), 1);
}

#[test]
fn a_forged_claim_does_not_replace_a_neighbor_that_still_answers() {
    let mut bench = Bench::knowing();
    for operation in [REPLY, REQUEST] {
        bench.hear(1000, operation, FORGED_MAC, GATEWAY);
        assert_eq!(bench.gateway(), Some(GATEWAY_MAC));
        let asked: Vec<_> = bench
            .out
            .take()
            .into_iter()
            .filter(|(_, frame)| frame[21] == 1)
            .collect();
        assert_eq!(asked.len(), 1);
        assert_eq!(
            asked[0].1[0..6],
            GATEWAY_MAC,
            "only the known neighbor is asked"
        );
        bench.hear(1001, REPLY, FORGED_MAC, GATEWAY);
        bench.hear(1002, REPLY, GATEWAY_MAC, GATEWAY);
        assert_eq!(bench.gateway(), Some(GATEWAY_MAC));
        assert_eq!(bench.out.take().len(), 0);
    }
}

#[test]
fn a_neighbor_with_new_hardware_is_found_within_seconds_of_its_announcement() {
    let mut bench = Bench::knowing();
    bench.hear(5000, REPLY, FORGED_MAC, GATEWAY);
    let mut ms = 5000;
    while bench.gateway() == Some(GATEWAY_MAC) {
        ms += 100;
        assert!(ms < 9000, "not found in time");
        bench.poll(ms);
        // The old hardware is gone: only questions to all are answered.
        if bench
            .out
            .take()
            .iter()
            .any(|(_, frame)| frame[0..6] == BROADCAST)
        {
            bench.hear(ms, REPLY, FORGED_MAC, GATEWAY);
        }
    }
    assert_eq!(bench.gateway(), Some(FORGED_MAC));
}

#[test]
fn a_used_entry_is_refreshed_before_it_ends_and_traffic_goes_on() {
    let mut bench = Bench::knowing();
    for ms in (0..120_000).step_by(100) {
        bench.poll(ms);
        assert_eq!(bench.gateway(), Some(GATEWAY_MAC), "at {ms} ms");
        if !bench.out.take().is_empty() {
            bench.hear(ms, REPLY, GATEWAY_MAC, GATEWAY);
        }
    }
    assert!(bench.table.counts.get(Counter::RequestSent) <= 5);
}

#[test]
fn an_unused_entry_ends_without_a_question() {
    let mut bench = Bench::knowing();
    bench.poll(30_000);
    assert_eq!(bench.out.take().len(), 0);
    assert_eq!(bench.gateway(), None);
}

#[test]
fn a_request_for_our_address_is_answered_and_its_sender_learned() {
    let mut bench = Bench::new();
    bench.hear(0, REQUEST, GATEWAY_MAC, GATEWAY);
    let (_, answer) = bench.out.take().remove(0);
    assert_eq!(answer[0..6], GATEWAY_MAC);
    assert_eq!(answer[6..12], OWN_MAC);
    assert_eq!(
        answer[14..42],
        [
            &[0, 1, 8, 0, 6, 4, 0, 2][..],
            &OWN_MAC,
            &OWN_IP.octets(),
            &GATEWAY_MAC,
            &GATEWAY.octets()
        ]
        .concat()
    );
    assert_eq!(bench.gateway(), Some(GATEWAY_MAC));
}

#[test]
fn requests_for_others_and_from_impossible_senders_are_ignored() {
    let mut bench = Bench::new();
    let other = Ipv4Address::new(203, 0, 113, 7);
    bench.table.on_arp(
        at(0),
        Port::Wan,
        &own(),
        &arp(REQUEST, GATEWAY_MAC, GATEWAY, other),
        &mut bench.out,
    );
    for sender in [
        Ipv4Address::new(8, 8, 8, 8),
        Ipv4Address::new(203, 0, 113, 63),
        Ipv4Address::new(203, 0, 113, 0),
    ] {
        bench.hear(0, REQUEST, GATEWAY_MAC, sender);
    }
    bench.hear(0, REQUEST, [0xFF; 6], GATEWAY);
    bench.hear(0, REQUEST, FORGED_MAC, OWN_IP);
    assert_eq!(bench.out.take().len(), 0);
    assert_eq!(bench.table.counts.get(Counter::Malformed), 4);
    assert_eq!(bench.table.counts.get(Counter::Conflict), 1);
    assert_eq!(bench.gateway(), None);
}

#[test]
fn an_address_probe_is_answered_but_not_learned() {
    let mut bench = Bench::new();
    bench.hear(0, REQUEST, FORGED_MAC, Ipv4Address::UNSPECIFIED);
    assert_eq!(bench.out.take().len(), 1);
    assert_eq!(
        bench.table.lookup(Port::Wan, Ipv4Address::UNSPECIFIED),
        None
    );
}

#[test]
fn a_scan_of_the_net_asks_a_bounded_number_of_questions() {
    let mut bench = Bench::knowing();
    bench.gateway();
    for n in 3..60 {
        let _refused = bench
            .hold(100, Ipv4Address::new(203, 0, 113, n), 1)
            .is_err();
    }
    assert!(bench.out.take().len() <= usize::from(ARP_NEW_ASKS_PER_INTERVAL));
    bench.table.check();
    assert_eq!(bench.gateway(), Some(GATEWAY_MAC));
}

#[test]
fn the_next_hop_is_the_neighbor_itself_or_the_gateway() {
    let near = Ipv4Address::new(203, 0, 113, 9);
    assert_eq!(next_hop(&own(), near), Some(near));
    assert_eq!(
        next_hop(&own(), Ipv4Address::new(198, 51, 100, 10)),
        Some(GATEWAY)
    );
    assert_eq!(
        next_hop(
            &PortAddress {
                gateway: None,
                ..own()
            },
            Ipv4Address::new(198, 51, 100, 10)
        ),
        None
    );
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_invariants(
        ops in proptest::collection::vec((0u8..6, 1u8..62, 0u8..4, 0i64..2000), 1..300), room in 0usize..300,
    ) {
        let mut bench = Bench::new();
        bench.out.room = room;
        let mut ms = 0;
        for (op, host, mac, wait) in ops {
            ms += wait;
            let address = Ipv4Address::new(203, 0, 113, host);
            let mac = [2, 0, 0, 0, 1, mac];
            match op {
                0 => drop(bench.hold(ms, address, 1)),
                1 => bench.hear(ms, REPLY, mac, address),
                2 => bench.hear(ms, REQUEST, mac, address),
                3 => drop(bench.table.lookup(Port::Wan, address)),
                4 => bench.poll(ms),
                _ => bench.table.on_arp(at(ms), Port::Wan, &own(), &[host; 50], &mut bench.out),
            }
            bench.table.check();
        }
        for _ in 0..200 {
            ms += 1000;
            bench.poll(ms);
        }
        prop_assert_eq!(bench.table.poll_at(), None, "everything comes to rest");
    }
}
