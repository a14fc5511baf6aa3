//! What a strict TCP peer would object to, seen at a router's LAN port.
//!
//! Units: bytes; sequence numbers relative to the first data byte of their direction (`u32`, so a flow may carry
//! 2 GiB). The tap sees a client's segments as the router receives them and the router's as it sends them, so a
//! right edge that the router could not know is never held against it.
//!
//! Follows: RFC 9293 (window, acceptability), RFC 7323 section 2 (scaling), RFC 2018 (SACK).
//! Checks: U2 (one value for each sequence number) and U3 (right edge, acknowledgements, SACK, FIN, checksums).

use std::collections::BTreeMap;

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, TcpOption,
    TcpPacket,
};

/// Violations kept; a broken run would fill memory with the same line.
const VIOLATIONS_MAX: usize = 20;

/// A flow as its client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    client: (Ipv4Address, u16),
    server: (Ipv4Address, u16),
}

/// The least MSS that smoltcp, as the origin, goes by.
const MSS_LEAST: usize = 48;

/// A connection whose client was silent for so long is no router's any more, µs: RFC 5382 REQ-5 has 2 h 4 min.
const FORGOTTEN_US: u64 = 124 * 60 * 1_000_000;

#[derive(Debug, Default)]
struct Flow {
    /// When the client was heard last.
    seen_us: u64,
    client_first: Option<u32>,
    client_sent: u32,
    client_scale: Option<u8>,
    client_sack: bool,
    client_mss: usize,
    right_edge: u32,
    window: u32,
    acked: u32,
    server_first: Option<u32>,
    server_scale: Option<u8>,
    server_sack: bool,
    bytes: Vec<u8>,
    /// Intervals of `bytes` that were sent, sorted, apart.
    sent: Vec<(u32, u32)>,
    fin: Option<u32>,
    reset: bool,
    /// The client has ended it by a reset.
    client_reset: bool,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct TapReport {
    /// What a strict peer objects to.
    pub violations: Vec<String>,
    /// Data segments sent to clients.
    pub segments: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Payload bytes that had been sent before.
    pub bytes_again: u64,
    /// Segments that began above a gap or below the highest byte sent.
    pub out_of_order: u64,
    /// Window probes beyond the right edge of a closed window.
    pub probes: u64,
    /// Frames with a bad checksum towards clients.
    pub bad_checksums: u64,
    /// RSTs towards clients.
    pub resets: u64,
    /// Connections that were opened.
    pub connections: u64,
}

/// The observer of one LAN.
#[derive(Debug, Default)]
pub struct Tap {
    flows: BTreeMap<Key, Flow>,
    report: TapReport,
    corruption: bool,
    reordering: bool,
}

/// The fields of a TCP segment that matter here.
struct Seen {
    key: Key,
    seq: u32,
    ack: Option<u32>,
    window: u16,
    syn: bool,
    fin: bool,
    rst: bool,
    payload: (usize, usize),
    mss: usize,
    scale: Option<u8>,
    sack_permitted: bool,
    sack: Vec<(u32, u32)>,
}

impl Tap {
    /// An observer; with `corruption`, a bad checksum may come through from the lines, with `reordering` an old
    /// segment behind a reset.
    pub fn new(corruption: bool, reordering: bool) -> Self {
        Self {
            corruption,
            reordering,
            ..Self::default()
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> &TapReport {
        &self.report
    }

    fn violation(&mut self, now_us: u64, text: String) {
        if self.report.violations.len() < VIOLATIONS_MAX {
            self.report.violations.push(format!("{now_us} µs: {text}"));
        }
    }

    /// A frame from the client, as the router receives it.
    pub fn on_client_frame(&mut self, now_us: u64, frame: &[u8]) {
        let Some(Ok(seen)) = read(frame, true) else {
            return;
        };
        if seen.syn && seen.ack.is_none() {
            let flow = self.flows.entry(seen.key).or_default();
            // A SYN in the middle of a connection opens none (RFC 9293 section 3.10.7.4).
            let is_free = flow.server_first.is_none() || flow.reset || flow.client_reset;
            let is_forgotten = now_us >= flow.seen_us + FORGOTTEN_US;
            let is_other = flow.client_first != Some(seen.seq.wrapping_add(1));
            flow.seen_us = now_us;
            if (is_other && is_free) || is_forgotten {
                self.report.connections += 1;
                *flow = Flow {
                    client_first: Some(seen.seq.wrapping_add(1)),
                    seen_us: now_us,
                    client_scale: seen.scale,
                    client_sack: seen.sack_permitted,
                    client_mss: seen.mss,
                    ..Flow::default()
                };
            }
            return;
        }
        let Some(flow) = self.flows.get_mut(&seen.key) else {
            return;
        };
        flow.seen_us = now_us;
        let Some(client_first) = flow.client_first else {
            return;
        };
        // A SYN-ACK or a reset says nothing of what was sent.
        if seen.syn {
            return;
        }
        if seen.rst {
            let expected = flow.client_sent.wrapping_add(client_first);
            flow.client_reset |= seen.seq == expected;
            return;
        }
        let len = (seen.payload.1 - seen.payload.0) as u32 + u32::from(seen.fin);
        let end = seen.seq.wrapping_sub(client_first).wrapping_add(len);
        if before(flow.client_sent, end) {
            flow.client_sent = end;
        }
        if let (Some(ack), Some(server_first)) = (seen.ack, flow.server_first) {
            let acked = ack.wrapping_sub(server_first);
            let shift = match (flow.client_scale, flow.server_scale) {
                (Some(shift), Some(_)) => shift.min(14),
                (None, _) | (_, None) => 0,
            };
            let window = u32::from(seen.window) << shift;
            let edge = acked.wrapping_add(window);
            if before(flow.right_edge, edge) {
                flow.right_edge = edge;
            }
            if !before(acked, flow.acked) {
                flow.acked = acked;
                flow.window = window;
            }
        }
    }

    /// A frame that the router sends to the client.
    pub fn on_router_frame(&mut self, now_us: u64, frame: &[u8]) {
        let seen = match read(frame, false) {
            None => return,
            Some(Ok(seen)) => seen,
            Some(Err(text)) => {
                self.report.bad_checksums += 1;
                if !self.corruption {
                    self.violation(now_us, text);
                }
                return;
            }
        };
        let Some(mut flow) = self.flows.remove(&seen.key) else {
            if !seen.rst {
                self.violation(now_us, format!("segment of no connection: {:?}", seen.key));
            }
            return;
        };
        let payload = &frame[seen.payload.0..seen.payload.1];
        for text in self.judge(&mut flow, &seen, payload) {
            self.violation(now_us, format!("port {}: {text}", seen.key.client.1));
        }
        self.flows.insert(seen.key, flow);
    }

    fn judge(&mut self, flow: &mut Flow, seen: &Seen, payload: &[u8]) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(client_first) = flow.client_first else {
            return wrong;
        };
        if let Some(ack) = seen.ack.filter(|_| !seen.rst) {
            let acked = ack.wrapping_sub(client_first);
            if before(flow.client_sent, acked) {
                wrong.push(format!(
                    "ACK {acked}, the client sent only {}",
                    flow.client_sent
                ));
            }
            for (from, to) in &seen.sack {
                let (from, to) = (
                    from.wrapping_sub(client_first),
                    to.wrapping_sub(client_first),
                );
                // RFC 2883: a first block below the ACK reports a duplicate.
                if before(flow.client_sent, to) || !before(from, to) {
                    wrong.push(format!("SACK {from}-{to} outside of what the client sent"));
                }
            }
            let negotiated = flow.client_sack && flow.server_sack;
            if !seen.sack.is_empty() && !negotiated {
                wrong.push("SACK without being negotiated".to_string());
            }
        }
        if seen.rst {
            self.report.resets += 1;
            // Only the number that the client expects resets it (RFC 5961 section 3.2).
            let at = flow.server_first.map(|first| seen.seq.wrapping_sub(first));
            flow.reset |= at.is_none_or(|at| !before(at, flow.acked));
            return wrong;
        }
        if seen.syn {
            let first = seen.seq.wrapping_add(1);
            match flow.server_first {
                Some(known) if known != first => {
                    wrong.push("SYN with another sequence number".to_string());
                }
                Some(_) => {}
                None => {
                    flow.server_first = Some(first);
                    flow.server_scale = seen.scale;
                    flow.server_sack = seen.sack_permitted;
                }
            }
            return wrong;
        }
        let Some(server_first) = flow.server_first else {
            wrong.push("segment before the SYN".to_string());
            return wrong;
        };
        let from = seen.seq.wrapping_sub(server_first);
        let to = from.wrapping_add(payload.len() as u32);
        if flow.reset && !payload.is_empty() && !self.reordering {
            wrong.push("data after RST".to_string());
        }
        if let Some(fin) = flow.fin {
            // A bare ACK after the FIN stands one further on; it carries nothing.
            if before(fin, to) && !payload.is_empty() {
                wrong.push(format!("data to {to} beyond the FIN at {fin}"));
            }
            if seen.fin && fin != to {
                wrong.push(format!("FIN at {to}, before at {fin}"));
            }
        }
        if seen.fin {
            flow.fin = flow.fin.or(Some(to));
        }
        if payload.is_empty() || to > 0x8000_0000 {
            // A keep-alive stands one below the stream: its number wraps, and it has nothing to compare.
            return wrong;
        }
        // Below 48 bytes an origin sends what its own stack takes for the least.
        if payload.len() > flow.client_mss.max(MSS_LEAST) {
            wrong.push(format!(
                "{} bytes, the client's MSS is {}",
                payload.len(),
                flow.client_mss
            ));
        }
        if before(flow.right_edge, to) {
            let probe = flow.window == 0 && payload.len() == 1 && from == flow.right_edge;
            if probe {
                self.report.probes += 1;
            } else {
                let edge = flow.right_edge;
                wrong.push(format!("bytes {from}-{to} beyond the right edge {edge}"));
            }
        }
        self.report.segments += 1;
        self.report.bytes += payload.len() as u64;
        let (again, conflict, in_order) = flow.record(from, payload);
        self.report.bytes_again += again;
        self.report.out_of_order += u64::from(!in_order);
        if let Some(at) = conflict {
            wrong.push(format!("byte {at} sent before with another value"));
        }
        wrong
    }
}

impl Flow {
    /// Keeps the payload; bytes seen before, the first of them that differs, and whether it continues the stream.
    fn record(&mut self, from: u32, payload: &[u8]) -> (u64, Option<u32>, bool) {
        let to = from + payload.len() as u32;
        let highest = self.sent.last().map_or(0, |last| last.1);
        let in_order = from == highest;
        if self.bytes.len() < to as usize {
            self.bytes.resize(to as usize, 0);
        }
        let (mut again, mut conflict) = (0, None);
        for &(a, b) in &self.sent {
            let (a, b) = (a.max(from), b.min(to));
            if a < b {
                again += u64::from(b - a);
                let old = &self.bytes[a as usize..b as usize];
                let new = &payload[(a - from) as usize..(b - from) as usize];
                if let Some(at) = old.iter().zip(new).position(|(old, new)| old != new) {
                    conflict = conflict.or(Some(a + at as u32));
                }
            }
        }
        if conflict.is_none() {
            self.bytes[from as usize..to as usize].copy_from_slice(payload);
        }
        let (mut from, mut to) = (from, to);
        self.sent.retain(|&(a, b)| {
            let apart = b < from || to < a;
            if !apart {
                from = from.min(a);
                to = to.max(b);
            }
            apart
        });
        let at = self.sent.partition_point(|&(a, _)| a < from);
        self.sent.insert(at, (from, to));
        (again, conflict, in_order)
    }
}

/// `a` stands before `b` in sequence space.
fn before(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) > 0
}

/// Reads a TCP segment: `None` when it is something else, `Err` when a checksum or length is wrong.
fn read(frame: &[u8], from_client: bool) -> Option<Result<Seen, String>> {
    let ether = EthernetFrame::new_checked(frame).ok()?;
    if ether.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let Ok(ip) = Ipv4Packet::new_checked(ether.payload()) else {
        return Some(Err("a packet shorter than its header says".to_string()));
    };
    if !ip.verify_checksum() {
        return Some(Err("bad IP header checksum".to_string()));
    }
    if ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
        return Some(Err("a segment shorter than its header says".to_string()));
    };
    let (source, target) = (ip.src_addr(), ip.dst_addr());
    if !tcp.verify_checksum(&IpAddress::Ipv4(source), &IpAddress::Ipv4(target)) {
        return Some(Err("bad TCP checksum".to_string()));
    }
    let (here, there) = ((source, tcp.src_port()), (target, tcp.dst_port()));
    let key = match from_client {
        true => Key {
            client: here,
            server: there,
        },
        false => Key {
            client: there,
            server: here,
        },
    };
    let payload_from = 14 + usize::from(ip.header_len()) + usize::from(tcp.header_len());
    let mut seen = Seen {
        key,
        seq: tcp.seq_number().0 as u32,
        ack: tcp.ack().then(|| tcp.ack_number().0 as u32),
        window: tcp.window_len(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: (payload_from, payload_from + tcp.payload().len()),
        mss: 536,
        scale: None,
        sack_permitted: false,
        sack: Vec::new(),
    };
    let mut options = tcp.options();
    while !options.is_empty() {
        let Ok((rest, option)) = TcpOption::parse(options) else {
            return Some(Err("malformed TCP options".to_string()));
        };
        match option {
            TcpOption::EndOfList => break,
            TcpOption::MaxSegmentSize(mss) => seen.mss = usize::from(mss),
            TcpOption::WindowScale(shift) => seen.scale = Some(shift),
            TcpOption::SackPermitted => seen.sack_permitted = true,
            TcpOption::SackRange(ranges) => seen.sack.extend(ranges.into_iter().flatten()),
            TcpOption::NoOperation | TcpOption::TimeStamp { .. } | TcpOption::Unknown { .. } => {}
        }
        options = rest;
    }
    Some(Ok(seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_sent_twice_alike_are_counted_and_bytes_that_differ_are_found() {
        let mut flow = Flow::default();
        assert_eq!(flow.record(0, b"abcdef"), (0, None, true));
        assert_eq!(flow.record(10, b"klm"), (0, None, false));
        assert_eq!(flow.record(4, b"efghijkl"), (4, None, false));
        assert_eq!(flow.sent, [(0, 13)]);
        assert_eq!(flow.record(2, b"cXe"), (3, Some(3), false));
        assert_eq!(flow.record(13, b"n"), (0, None, true));
    }

    #[test]
    fn sequence_order_wraps() {
        assert!(before(0xffff_fff0, 5));
        assert!(!before(5, 0xffff_fff0));
        assert!(!before(5, 5));
    }
}
