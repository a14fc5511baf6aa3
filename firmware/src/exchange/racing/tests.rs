use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;
use smoltcp::time::Duration;
use smoltcp::wire::Ipv4Address;

use super::*;
use crate::budget::Memory;
use crate::exchange::ExchangeId;
use crate::exchange::flow::{Ends, Flow};
use crate::fetch::response::Object;
use crate::port::Full;
use crate::settings::Accel;
use crate::split::Plan;
use crate::split::validator::Validator;
use crate::stack::SocketId;
use crate::wire::http::ByteRange;

const T0: Instant = Instant::from_micros_const(1_000_000);
const REQUEST: u32 = 1000;
const REPLY: u32 = 0xffff_f000;
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
const GET: &[u8] = b"GET /a.mp4 HTTP/1.1\r\nHost: h\r\n\r\n";
const CUT: u64 = 200_000;
const PEER: LinkId = LinkId::peer(0);

fn ms(millis: u64) -> Instant {
    T0 + Duration::from_millis(millis)
}

/// A way that keeps what leaves: sequence and acknowledgment number, control bits, window.
struct Fake {
    room: usize,
    sent: Vec<(u32, u32, u8, u16)>,
}

impl Way for Fake {
    fn send_tcp(
        &mut self,
        _now: Instant,
        _from: (Ipv4Address, u16),
        _to: (Ipv4Address, u16),
        segment: &Outgoing<'_>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Full> {
        if self.room == 0 {
            return Err(Full);
        }
        fill(&mut std::vec![0; segment.payload_len]);
        self.sent
            .push((segment.seq, segment.ack, segment.flags, segment.window));
        Ok(())
    }

    fn room(&self, _to: Ipv4Address) -> usize {
        self.room
    }
}

struct Bench {
    slot: Exchange,
    pool: Pool<'static>,
    way: Fake,
}

impl Bench {
    /// A request that is whole, its reply awaited; the client's windows count in units of 128.
    fn listening() -> Self {
        let memory = Box::leak(Box::new(Memory::new()));
        let pool = Pool::new(&mut memory.blocks);
        let mut slot = Exchange::free(ExchangeId::from_index(0), SocketId::default());
        let nobody = (Ipv4Address::UNSPECIFIED, 80);
        let flow = Flow {
            ends: Ends {
                client: nobody,
                origin: nobody,
                wan: nobody,
            },
            request_seq: REQUEST,
            reply_seq: REPLY,
            client_mss: Some(1460),
            origin_mss: Some(1460),
            client_window_shift: 7,
            window: 4000,
            edge: 64_000,
            ..Flow::none()
        };
        slot.begin(T0, flow, 0);
        slot.state = State::Listening;
        slot.collect(GET, &Accel::new()).unwrap();
        slot.listen(T0);
        let way = Fake {
            room: 64,
            sent: Vec::new(),
        };
        Self { slot, pool, way }
    }

    /// A race for an object of 1,000,000 bytes, 50 ms away, with the cut at [`CUT`].
    fn racing() -> Self {
        Self::racing_for(1_000_000, 0)
    }

    /// The same for 1,000,000 bytes from `first` on of a larger object.
    fn racing_for(total: u64, first: u64) -> Self {
        let mut bench = Self::listening();
        assert!(bench.slot.overhear(&reply(0, HEAD)).unwrap().is_some());
        bench.pass(0, HEAD.len());
        let slot = &mut bench.slot;
        let object = Object::new(total, Validator::etag(b"\"a\"").unwrap(), None);
        let body = ByteRange::new(first, first + 999_999).unwrap();
        slot.carry(HEAD.len() as u64, object.unwrap(), body);
        slot.race(ms(50), &[1_000_000; LINKS_MAX], 1, &mut bench.pool)
            .unwrap();
        slot.race.cut = CUT;
        slot.plan = Plan::new(ms(50), slot.offset_of(CUT), slot.body_end());
        slot.plan.assume_rates(&[1_000_000; LINKS_MAX]);
        bench
    }

    fn pass(&mut self, at: u32, len: usize) {
        let bytes = std::vec![0; len];
        self.slot.note_passed(&reply(at, &bytes));
    }

    /// The client acknowledges what passed up to `to`.
    fn acknowledge(&mut self, now: Instant, to: u64) -> Result<(), Why> {
        let passed = self.slot.race.passed;
        if to > passed {
            self.pass(passed as u32, (to - passed) as usize);
        }
        let segment = ack(to as u32);
        self.slot.on_racing_client(now, &segment, &mut self.pool)
    }

    /// A neighbour brings so many bytes from the cut on.
    fn bring(&mut self, len: usize) {
        let position = self.slot.race.cut;
        self.slot
            .extents
            .write(&mut self.pool, position, &std::vec![7; len])
            .unwrap();
    }
}

fn reply(at: u32, payload: &[u8]) -> Reply<'_> {
    Reply {
        seq: REPLY.wrapping_add(at),
        ack: REQUEST + GET.len() as u32,
        syn: false,
        fin: false,
        rst: false,
        payload,
    }
}

fn ack(to: u32) -> ClientSegment<'static> {
    ClientSegment {
        seq: REQUEST + GET.len() as u32,
        ack: Some(REPLY.wrapping_add(to)),
        window: 4000,
        fin: false,
        syn: false,
        rst: false,
        urg: false,
        sack: &[],
        payload: &[],
    }
}

fn course(len: u64) -> Course {
    Course {
        edge: 64_000,
        len,
        own: 1_000_000,
        peers: 1_000_000,
        rtt_us: 50_000,
        window: 1 << 20,
    }
}

#[test]
fn equal_lines_share_a_small_object_so_that_both_end_together() {
    // The neighbour begins 100 ms late: 100 kB less for it.
    assert_eq!(course(900_000).cut(), Some(500_000));
    let fast = Course {
        peers: 3_000_000,
        ..course(900_000)
    };
    assert_eq!(fast.cut(), Some(300_000));
}

#[test]
fn what_neighbours_bring_of_a_large_object_fits_the_window() {
    assert_eq!(course(100 << 20).cut(), Some((1 << 20) / 4 * 3));
}

#[test]
fn the_cut_lies_where_neither_the_neighbours_come_late_nor_the_origin_may_send_already() {
    assert_eq!(course(250_000).cut(), Some(175_000));
    assert_eq!(course(180_000).cut(), None, "nothing is left to share");
    let told = Course {
        edge: 700_000,
        ..course(1_000_000)
    };
    assert_eq!(told.cut(), Some(700_000));
    assert_eq!(
        Course {
            edge: RACE_CUT_BYTES_MAX + 1,
            ..course(100 << 20)
        }
        .cut(),
        None
    );
}

#[test]
fn g6_a_reply_head_in_pieces_is_read_in_order_and_once() {
    let mut bench = Bench::listening();
    for (at, byte) in HEAD.iter().enumerate() {
        // Behind a gap, and again: neither counts.
        assert_eq!(bench.slot.overhear(&reply(at as u32 + 1, b"xx")), Ok(None));
        assert_eq!(
            bench.slot.overhear(&reply(0, &HEAD[..at])),
            Ok(None),
            "{at}"
        );
        let got = bench.slot.overhear(&reply(at as u32, &[*byte])).unwrap();
        assert_eq!(got.is_some(), at + 1 == HEAD.len());
    }
    assert_eq!(bench.slot.fetch.head_bytes(), HEAD);
}

#[test]
fn a_reply_before_the_request_is_whole_is_left_alone() {
    let mut bench = Bench::listening();
    bench.slot.request = None;
    assert_eq!(
        bench.slot.overhear(&reply(0, b"HTTP/1.1 400 ")),
        Err(Why::Interrupted)
    );
}

#[test]
fn g7_a_request_that_comes_again_with_other_bytes_is_left_alone() {
    let mut bench = Bench::listening();
    let again = |payload| ClientSegment {
        seq: REQUEST,
        payload,
        ..ack(0)
    };
    let accel = Accel::new();
    let Bench { slot, pool, .. } = &mut bench;
    assert_eq!(slot.hear_client(T0, &again(GET), &accel, pool), Ok(()));
    let other = b"GET /b.mp4 HTTP/1.1\r\n";
    assert_eq!(
        slot.hear_client(T0, &again(other), &accel, pool),
        Err(Why::Interrupted)
    );
}

#[test]
fn t2_the_origin_is_told_no_room_past_the_cut_rounded_up_to_the_clients_unit() {
    let bench = Bench::racing();
    let told = |at: u64| {
        bench
            .slot
            .window_to_origin(REPLY.wrapping_add(at as u32), 4000)
    };
    assert_eq!(told(0), Some((CUT.div_ceil(128)) as u16));
    assert_eq!(told(CUT - 129), Some(2));
    assert_eq!(told(CUT - 1), Some(1));
    assert_eq!(told(CUT), Some(0));
    assert_eq!(told(CUT + 50), Some(0));
    // The client's own word where it says less.
    let small = bench.slot.window_to_origin(REPLY, 100);
    assert_eq!(small, None);
}

#[test]
fn before_the_reply_no_more_is_told_than_a_handshake_can_say() {
    let bench = Bench::listening();
    assert_eq!(bench.slot.window_to_origin(REPLY, 4000), Some(512));
    assert_eq!(bench.slot.window_to_origin(REPLY, 512), None);
}

#[test]
fn the_router_takes_over_once_all_that_passed_is_acknowledged_and_more_is_held() {
    let mut bench = Bench::racing();
    bench.bring(20_000);
    bench.pass(0, CUT as usize);
    bench.acknowledge(ms(200), CUT - 1).unwrap();
    assert_eq!(bench.slot.step(ms(200), true), Step::Wait);
    // The last unit of the window may have brought a little more than the cut.
    bench.pass(CUT as u32, 100);
    bench.acknowledge(ms(201), CUT).unwrap();
    assert_eq!(bench.slot.step(ms(201), true), Step::Wait);
    bench.acknowledge(ms(202), CUT + 100).unwrap();
    assert_eq!(bench.slot.step(ms(202), true), Step::TakeOver);
    let Bench { slot, pool, way } = &mut bench;
    slot.take_over(ms(202), pool, way);
    assert_eq!(slot.state, State::Stitching);
    assert_eq!(slot.sender.acked_position(), CUT + 100);
    let at = REPLY.wrapping_add(CUT as u32 + 100);
    assert_eq!(slot.sender.next_seq(), at);
    let end = REQUEST + GET.len() as u32;
    assert_eq!(way.sent, [(end, at, flags::RST | flags::ACK, 0)]);
    assert!(slot.closes && slot.origin_gone);
}

#[test]
fn k5_a_silent_origin_is_replaced_only_by_a_link_that_has_proven_itself() {
    let mut bench = Bench::racing();
    bench.acknowledge(ms(100), 60_000).unwrap();
    let silent = ms(100) + LINK_STALL;
    assert_eq!(bench.slot.step(silent, true), Step::Wait);
    bench.bring(20_000);
    assert_eq!(bench.slot.step(ms(200), true), Step::Wait);
    assert_eq!(bench.slot.step(silent, true), Step::TakeOver);
    let Bench { slot, pool, way } = &mut bench;
    slot.take_over(silent, pool, way);
    // What is missing before the cut is wanted first.
    let mut both = [false; LINKS_MAX];
    (both[0], both[1]) = (true, true);
    let range = slot.plan.next(silent, LinkId::UPLINK, u64::MAX, &both);
    assert_eq!(range.unwrap().first, 60_000 - HEAD.len() as u64);
}

#[test]
fn n10_neighbours_that_are_late_move_the_cut_and_then_are_left() {
    let mut bench = Bench::racing();
    let mut both = [false; LINKS_MAX];
    (both[0], both[1]) = (true, true);
    bench.slot.stream_len += 4_000_000;
    bench.slot.plan = Plan::new(ms(50), bench.slot.offset_of(CUT), bench.slot.body_end());
    let limit = bench.slot.plan_limit();
    let asked: Vec<_> = (0..2)
        .filter_map(|_| bench.slot.plan.next(ms(50), PEER, limit, &both))
        .collect();
    bench.acknowledge(ms(200), CUT - 40_000).unwrap();
    assert_eq!(bench.slot.step(ms(200), true), Step::Raise);
    assert!(bench.slot.raise(ms(200)));
    // To where the neighbour was asked to begin next: not a byte more is fetched twice.
    assert_eq!(bench.slot.offset_of(bench.slot.race.cut), asked[1].first);
    assert_eq!(bench.slot.step(ms(200), true), Step::Wait);
    let mut raises = 1;
    loop {
        let near = bench.slot.race.cut - 1_000;
        bench.acknowledge(ms(300), near).unwrap();
        match bench.slot.step(ms(300), true) {
            Step::Raise => assert!(bench.slot.raise(ms(300))),
            step => {
                assert_eq!(step, Step::Leave(Why::NoHelp));
                break;
            }
        }
        raises += 1;
    }
    assert_eq!(raises, RACE_RAISES_MAX);
}

#[test]
fn p5_a_race_without_neighbours_is_left_unless_they_brought_all() {
    let mut bench = Bench::racing();
    assert_eq!(bench.slot.step(ms(60), false), Step::Leave(Why::NoHelp));
    bench.bring(20_000);
    assert_eq!(bench.slot.step(ms(60), false), Step::Leave(Why::NoHelp));
    bench.bring((bench.slot.stream_len - CUT) as usize);
    assert_eq!(bench.slot.step(ms(60), false), Step::Wait);
}

#[test]
fn t10_a_client_that_reads_nothing_keeps_its_race_for_a_while_only() {
    let mut bench = Bench::racing();
    bench.bring(20_000);
    let closed = ClientSegment {
        window: 0,
        ..ack(HEAD.len() as u32)
    };
    let Bench { slot, pool, .. } = &mut bench;
    slot.on_racing_client(ms(60), &closed, pool).unwrap();
    assert_eq!(slot.step(ms(60) + LINK_STALL, true), Step::Wait);
    assert_eq!(
        slot.step(ms(60) + RACE_IDLE_TIMEOUT, true),
        Step::Leave(Why::NoHelp)
    );
}

#[test]
fn an_origin_that_waits_at_the_cut_is_told_when_it_moves() {
    let mut bench = Bench::racing();
    bench.acknowledge(ms(200), CUT - 1_000).unwrap();
    assert!(bench.slot.raise(ms(200)));
    bench.way.room = 0;
    let Bench { slot, way, .. } = &mut bench;
    assert!(!slot.tell_window(ms(200), way));
    assert!(slot.racing_poll_at(ms(200)) <= Some(ms(201)));
    way.room = 1;
    assert!(slot.tell_window(ms(201), way));
    let end = REQUEST + GET.len() as u32;
    let at = CUT - 1_000;
    let field = (slot.race.cut - at).div_ceil(128).min(4000) as u16;
    let told = (end, REPLY.wrapping_add(at as u32), flags::ACK, field);
    assert_eq!(way.sent, [told]);
    assert!(slot.tell_window(ms(202), way), "once is enough");
    assert_eq!(way.sent.len(), 1);
}

#[test]
fn a_race_that_is_left_opens_the_whole_window_again() {
    let mut bench = Bench::racing();
    bench.acknowledge(ms(200), CUT).unwrap();
    bench.slot.owe_window(ms(200));
    bench.slot.state = State::Leaving;
    assert!(bench.slot.tell_window(ms(200), &mut bench.way));
    assert_eq!(bench.way.sent[0].3, 4000);
}

#[test]
fn q4_a_second_request_before_the_cut_leaves_the_connection_to_the_origin() {
    let mut bench = Bench::racing();
    let second = ClientSegment {
        payload: GET,
        ..ack(0)
    };
    let Bench { slot, pool, .. } = &mut bench;
    assert_eq!(
        slot.on_racing_client(ms(60), &second, pool),
        Err(Why::Pipelined)
    );
}

#[test]
fn t15_an_ack_of_what_never_passed_moves_nothing() {
    let mut bench = Bench::racing();
    let Bench { slot, pool, .. } = &mut bench;
    slot.on_racing_client(ms(60), &ack(CUT as u32), pool)
        .unwrap();
    assert_eq!(slot.race.acked, 0);
    slot.on_racing_client(ms(60), &ack(HEAD.len() as u32), pool)
        .unwrap();
    assert_eq!(slot.race.acked, HEAD.len() as u64);
    slot.on_racing_client(ms(60), &ack(3), pool).unwrap();
    assert_eq!(slot.race.acked, HEAD.len() as u64);
}

#[test]
fn bytes_that_passed_before_the_router_took_over_may_be_acknowledged_later() {
    let mut bench = Bench::racing();
    bench.bring(20_000);
    bench.acknowledge(ms(100), 60_000).unwrap();
    bench.pass(60_000, 5_000);
    let Bench { slot, pool, way } = &mut bench;
    slot.take_over(ms(100), pool, way);
    slot.skip_to(ms(110), REPLY.wrapping_add(65_001));
    assert_eq!(slot.sender.acked_position(), 60_000, "nothing passed there");
    slot.skip_to(ms(110), REPLY.wrapping_add(65_000));
    assert_eq!(slot.sender.acked_position(), 65_000);
    assert_eq!(slot.sender.next_seq(), REPLY.wrapping_add(65_000));
}

/// An interval far inside an object of more bytes than 32 bits count.
const FIRST: u64 = (5 << 30) + 12_345;

#[test]
fn q1_inside_a_clients_range_links_are_asked_for_the_objects_offsets_and_not_past_its_end() {
    let mut bench = Bench::racing_for(8 << 30, FIRST);
    let both = [true; LINKS_MAX];
    let behind_cut = CUT - HEAD.len() as u64;
    let slot = &mut bench.slot;
    assert_eq!(slot.stream_len, HEAD.len() as u64 + 1_000_000);
    assert_eq!(slot.body_end(), FIRST + 1_000_000);
    let limit = slot.plan_limit();
    let mut at = FIRST + behind_cut;
    // To the end: what was asked for arrives at once.
    while let Some(range) = slot
        .plan
        .next(ms(50), PEER, limit.max(FIRST + 2_000_000), &both)
    {
        assert_eq!(range.first, at);
        assert!(range.last < FIRST + 1_000_000);
        let wanted = slot.request.and_then(|request| {
            let wanted = slot.wanted(ExchangeId::from_index(0), range, &request)?;
            let of = wanted.message;
            Some((of.first, of.last, of.total))
        });
        // The complete length, not the interval's.
        assert_eq!(wanted, Some((range.first, range.last, 8 << 30)));
        slot.plan.on_bytes(ms(60), PEER, at, range.len_bytes());
        slot.plan.on_done(ms(60), PEER, range.first);
        at = range.last + 1;
    }
    assert_eq!(at, FIRST + 1_000_000);
    assert!(slot.plan.is_done());
}

#[test]
fn q1_k5_what_a_dead_origin_owes_of_a_clients_range_is_wanted_from_where_the_client_is() {
    for acked in [0, 10, HEAD.len() as u64, 60_000] {
        let mut bench = Bench::racing_for(8 << 30, FIRST);
        bench.bring(20_000);
        if acked > 0 {
            bench.acknowledge(ms(100), acked).unwrap();
        }
        let Bench { slot, pool, way } = &mut bench;
        slot.take_over(ms(400), pool, way);
        let range = slot
            .plan
            .next(ms(400), LinkId::UPLINK, u64::MAX, &[true; LINKS_MAX]);
        let body = acked.saturating_sub(HEAD.len() as u64);
        assert_eq!(range.unwrap().first, FIRST + body, "{acked}");
    }
}

#[test]
fn q1_n10_the_cut_moves_inside_a_clients_range_as_in_a_whole_object() {
    let mut bench = Bench::racing_for(8 << 30, FIRST);
    let mut whole = Bench::racing();
    for bench in [&mut bench, &mut whole] {
        bench.acknowledge(ms(200), CUT - 10_000).unwrap();
        assert_eq!(bench.slot.step(ms(200), true), Step::Raise);
        assert!(bench.slot.raise(ms(200)));
    }
    assert_eq!(bench.slot.race.cut, whole.slot.race.cut);
    let next = |slot: &mut Exchange| {
        let limit = slot.plan_limit();
        let range = slot.plan.next(ms(200), PEER, limit, &[true; LINKS_MAX]);
        range.map(|range| range.first)
    };
    let (of_range, of_whole) = (next(&mut bench.slot), next(&mut whole.slot));
    assert!(of_whole.is_some());
    assert_eq!(of_range, of_whole.map(|first| FIRST + first));
}

#[test]
fn q1_a_range_that_is_held_for_a_head_probe_is_plain_although_the_setting_has_changed_meanwhile() {
    const RANGE: &[u8] = b"GET /a.mp4 HTTP/1.1\r\nHost: h\r\nRange: bytes=5-\r\n\r\n";
    for (state, verdict) in [
        (
            State::Collecting,
            Err(Why::Plain(crate::classify::Reason::Range)),
        ),
        (State::Listening, Ok(())),
    ] {
        let mut slot = Exchange::free(ExchangeId::from_index(0), SocketId::default());
        slot.begin(T0, Flow::none(), 0);
        slot.flow.ends.origin.1 = 80;
        slot.state = state;
        assert_eq!(slot.collect(RANGE, &Accel::new()), verdict);
        assert_eq!(slot.request.is_some(), verdict.is_ok());
    }
}

proptest! {
    /// Whatever the client asks for of whatever object, places in the stream and offsets of the object name the same
    /// bytes, and what is planned ends where the interval does.
    #[test]
    fn q1_positions_and_offsets_of_a_clients_range_name_the_same_bytes(
        total in 1u64..1 << 62,
        ends in (any::<u64>(), any::<u64>()),
        head_len in 20u64..4096,
        inside in any::<u64>(),
    ) {
        let (one, other) = (ends.0 % total, ends.1 % total);
        let body = ByteRange::new(one.min(other), one.max(other)).unwrap();
        let mut slot = Exchange::free(ExchangeId::from_index(0), SocketId::default());
        let object = Object::new(total, Validator::etag(b"\"a\"").unwrap(), None);
        slot.carry(head_len, object.unwrap(), body);
        prop_assert_eq!(slot.stream_len - head_len, body.len_bytes());
        prop_assert_eq!(slot.position_of(body.first), head_len);
        prop_assert_eq!(slot.position_of(body.last), slot.stream_len - 1);
        prop_assert_eq!(slot.body_end(), body.last + 1);
        let offset = body.first + inside % body.len_bytes();
        let position = slot.position_of(offset);
        prop_assert!((head_len..slot.stream_len).contains(&position));
        prop_assert_eq!(slot.offset_of(position), offset);
        prop_assert_eq!(position - head_len, offset - body.first);
        let mut plan = Plan::new(T0, offset, slot.body_end());
        let range = plan.next(T0, LinkId::UPLINK, u64::MAX, &[true; LINKS_MAX]).unwrap();
        prop_assert!(range.first == offset && range.last <= body.last);
        prop_assert!(slot.position_of(range.last) < slot.stream_len);
    }
}

#[test]
fn the_own_line_joins_shortly_before_the_cut_and_only_for_enough() {
    let mut bench = Bench::racing();
    let mut both = [false; LINKS_MAX];
    (both[0], both[1]) = (true, true);
    // 300 kB are left and the neighbour brings them in 300 ms: as long as a connection takes.
    bench.slot.race.cut = 700_000;
    bench.slot.plan.forget_below(500_000);
    assert!(!bench.slot.own_line_is_worth_it(ms(60), &both));
    bench.acknowledge(ms(400), 600_000).unwrap();
    assert!(bench.slot.own_line_is_worth_it(ms(400), &both));
    bench.slot.plan.forget_below(800_000);
    assert!(!bench.slot.own_line_is_worth_it(ms(400), &both));
    // Alone it is never too late.
    bench.slot.state = State::Stitching;
    assert!(
        bench
            .slot
            .own_line_is_worth_it(ms(400), &[false; LINKS_MAX])
    );
}

#[test]
fn who_leaves_with_the_end_known_tells_of_this_reply_and_64_kib_more() {
    let window = |bytes: Option<u32>, at: u32| {
        let mut bench = Bench::racing();
        bench.slot.state = State::Leaving;
        bench.slot.reply_bytes = bytes;
        bench
            .slot
            .window_to_origin(REPLY.wrapping_add(at), u16::MAX)
    };
    assert_eq!(window(None, 0), None);
    // Windows count in units of 128.
    let units = |bytes: u64| Some(bytes.div_ceil(128) as u16);
    assert_eq!(
        window(Some(300_000), 100_000),
        units(200_000 + HANDSHAKE_WINDOW_MAX)
    );
    assert_eq!(window(Some(20_000_000), 0), None, "the client's own");
}
