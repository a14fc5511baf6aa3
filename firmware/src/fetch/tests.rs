//! A fetch against an origin that is not kind to receivers.

use std::collections::BTreeSet;
use std::vec::Vec;

use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use super::*;
use crate::budget::FETCH_RX_BYTES;
use crate::port::Full;
use crate::random::Random;
use crate::stack::{Buffers, SendIp};
use crate::wire::options::Summary;
use crate::wire::packet::{ETHERNET_BYTES, Packet, flags};
use crate::wire::segment::{self, SegmentHeader};

const OWN: Ipv4Address = Ipv4Address::new(203, 0, 113, 2);
const ORIGIN: (Ipv4Address, u16) = (Ipv4Address::new(198, 51, 100, 10), 80);
/// First byte of the range, and its length.
const FIRST: u64 = 1 << 20;
const LEN: u64 = 96 * 1024;
/// Smallest segments that anybody sends, bytes.
const PIECE: usize = 48;
/// MSS 48, SACK permitted.
const OPTIONS: [u8; 8] = [2, 4, 0, PIECE as u8, 4, 2, 1, 1];
/// Segments out of order that the stack remembers: `.cargo/config.toml`.
const GAPS_MAX: usize = 32;

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// What the stack sent.
#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl SendIp for Wire {
    fn send_ip(
        &mut self,
        _now: Instant,
        packet: &[u8],
        _hop: Option<Ipv4Address>,
    ) -> Result<(), Full> {
        let mut frame = std::vec![0; ETHERNET_BYTES];
        frame[12] = 8;
        frame.extend(packet);
        self.0.push(frame);
        Ok(())
    }
}

struct Bench {
    stack: Stack<'static>,
    fetch: Fetch,
    wire: Wire,
    now: Instant,
    /// Sequence number of the origin's first byte, the router's port and next byte.
    seq: u32,
    port: u16,
    ack: u32,
    /// First byte that the router has not acknowledged, counted from the reply's first.
    acked: usize,
    /// Segments that the router sent, and the most SACK blocks of one.
    answers: usize,
    sack_most: usize,
    window: usize,
}

impl Bench {
    /// A connection on which a range was asked for.
    fn asked(object: &Object) -> Self {
        let buffers = Box::leak(Box::new(Buffers::new()));
        let (mut stack, fetches, _) = Stack::new(buffers, Random::repeatable(3));
        stack.set_addresses(&[None, Some(Ipv4Cidr::new(OWN, 26)), None]);
        let mut bench = Self {
            fetch: Fetch::new(fetches[0]),
            stack,
            wire: Wire::default(),
            now: Instant::from_secs(1),
            seq: u32::MAX - 40_000,
            port: 0,
            ack: 0,
            acked: 0,
            answers: 0,
            sack_most: 0,
            window: 0,
        };
        bench.fetch.open(bench.now, &mut bench.stack, ORIGIN);
        bench.stack.egress(bench.now, &mut bench.wire);
        let syn = bench.wire.0.remove(0);
        let syn = *Packet::parse(&syn).unwrap().tcp().unwrap();
        (bench.port, bench.ack) = (syn.src_port, syn.seq.wrapping_add(1));
        let seq = bench.seq.wrapping_sub(1);
        bench.sends(flags::SYN | flags::ACK, seq, &OPTIONS, b"");
        assert!(bench.pump(object, &mut Vec::new()).is_none());
        let range = ByteRange {
            first: FIRST,
            last: FIRST + LEN - 1,
        };
        let request = b"GET /a HTTP/1.1\r\n\r\n";
        bench
            .fetch
            .ask_range(bench.now, &mut bench.stack, request, range)
            .unwrap();
        bench.stack.egress(bench.now, &mut bench.wire);
        bench.ack = bench.ack.wrapping_add(request.len() as u32);
        bench.heard();
        bench
    }

    fn sends(&mut self, bits: u8, seq: u32, options: &[u8], payload: &[u8]) {
        let header = SegmentHeader {
            src_mac: EthernetAddress([2; 6]),
            dst_mac: EthernetAddress([2; 6]),
            src: ORIGIN.0,
            dst: OWN,
            src_port: ORIGIN.1,
            dst_port: self.port,
            seq,
            ack: self.ack,
            flags: bits,
            window: 60_000,
            ident: 1,
            options,
        };
        let mut frame = std::vec![0; segment::frame_len(options.len(), payload.len())];
        segment::emit(&mut frame, &header, |room| room.copy_from_slice(payload));
        self.stack
            .ingress(self.now, &frame[ETHERNET_BYTES..], &mut self.wire);
        self.stack.egress(self.now, &mut self.wire);
        self.heard();
    }

    /// Reads what the router has answered.
    fn heard(&mut self) {
        for frame in std::mem::take(&mut self.wire.0) {
            let packet = Packet::parse(&frame).unwrap();
            let tcp = packet.tcp().unwrap();
            let options = Summary::of(packet.tcp_options(&frame));
            self.answers += 1;
            self.window = usize::from(tcp.window);
            self.sack_most = self.sack_most.max(options.sack_blocks().len());
            let acked = tcp.ack.wrapping_sub(self.seq);
            if acked < 1 << 31 {
                self.acked = self.acked.max(acked as usize);
            }
        }
    }

    fn pump(&mut self, object: &Object, bytes: &mut Vec<u8>) -> Option<Event> {
        let mut body = |offset: u64, part: &[u8]| {
            assert_eq!(offset, FIRST + bytes.len() as u64);
            bytes.extend(part);
            part.len()
        };
        self.fetch
            .pump(self.now, &mut self.stack, Some(object), &mut body)
    }
}

#[test]
fn a7_a_reply_in_pieces_of_48_bytes_in_the_worst_order_is_right_and_each_piece_costs_one_answer() {
    let tag = parse_reply(
        b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 4194304\r\nETag: \"v\"\r\n\r\n",
    )
    .unwrap()
    .unwrap();
    let validator = tag.validator.clone().unwrap();
    let object = Object::new(4 << 20, validator, Some(b"video/mp4")).unwrap();
    let mut bench = Bench::asked(&object);
    let mut reply = std::format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Type: video/mp4\r\nETag: \"v\"\r\n\
         Content-Range: bytes {FIRST}-{}/4194304\r\nContent-Length: {LEN}\r\n\r\n",
        FIRST + LEN - 1
    )
    .into_bytes();
    reply.extend((FIRST..FIRST + LEN).map(byte_at));
    let pieces = reply.len().div_ceil(PIECE);
    let (mut came, mut sent, mut gaps_most) = (Vec::new(), 0usize, 0);
    let mut done = false;
    let mut rounds = 0;
    while !done {
        rounds += 1;
        assert!(
            rounds < pieces,
            "it does not move: {} of {}",
            bench.acked,
            reply.len()
        );
        let first = bench.acked / PIECE;
        let window = bench.window.max(2 * PIECE) / PIECE;
        // Every second piece of the window from its end, then the first: the most gaps that can be.
        let ahead: BTreeSet<usize> = (first + 1..(first + window).min(pieces))
            .filter(|piece| piece % 2 != first % 2)
            .collect();
        gaps_most = gaps_most.max(ahead.len());
        for piece in ahead.into_iter().rev().chain([first]).collect::<Vec<_>>() {
            let at = piece * PIECE;
            let payload = &reply[at..(at + PIECE).min(reply.len())];
            let seq = bench.seq.wrapping_add(at as u32);
            sent += 1;
            let before = bench.answers;
            bench.sends(flags::ACK, seq, &[], payload);
            assert!(
                bench.answers <= before + 1,
                "a piece has at most one answer"
            );
        }
        // What was refused for want of gaps comes again in order, as a sender does after its time-out.
        for piece in first..(first + 2 * GAPS_MAX).min(pieces) {
            let at = piece * PIECE;
            let payload = &reply[at..(at + PIECE).min(reply.len())];
            let seq = bench.seq.wrapping_add(at as u32);
            sent += 1;
            bench.sends(flags::ACK, seq, &[], payload);
        }
        while let Some(event) = bench.pump(&object, &mut came) {
            match event {
                Event::Begun(granted) => {
                    assert_eq!((granted.first, granted.last), (FIRST, FIRST + LEN - 1))
                }
                Event::Done => done = true,
                Event::Probe(_) | Event::Lost(_) => panic!("{event:?}"),
            }
        }
        bench.stack.egress(bench.now, &mut bench.wire);
        bench.heard();
    }
    assert_eq!(came, (FIRST..FIRST + LEN).map(byte_at).collect::<Vec<_>>());
    assert!(gaps_most > 4 * GAPS_MAX, "more gaps than are remembered");
    assert!(
        bench.answers <= sent + 2 * rounds,
        "{} answers to {sent}",
        bench.answers
    );
    assert!(bench.sack_most <= 3);
    // The ring is the one that was there, whole again.
    let socket = bench.stack.tcp(bench.fetch.socket);
    assert_eq!(
        (socket.recv_capacity(), socket.recv_queue()),
        (FETCH_RX_BYTES, 0)
    );
}
