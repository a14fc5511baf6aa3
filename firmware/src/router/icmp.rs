//! ICMP: echo for the router itself, errors of our own, and errors of others translated.
//!
//! Follows: RFC 792, RFC 1812 section 4.3 (which errors, how many), RFC 5508 section 4 (errors
//! through a translator), RFC 5927 (which errors to believe), RFC 1191 (MTU), RFC 9293 section
//! 3.10.7.1 (resets).
//! Units: offsets count from the start of the frame, or of the quoted datagram where said so.
//!
//! An error passes when the packet it quotes belongs to a flow and, for TCP, is in flight; it
//! neither ends nor refreshes the flow. Redirects and source quenches never pass. Errors of the
//! router's own go to the LAN only (RFC 5508 REQ-9): on the WAN it is silent.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::{Counter, Router, Verdict};
use crate::budget::{ERRORS_PER_SECOND_MAX, ERRORS_SPAN};
use crate::conntrack::{Direction, Entry, EntryId, FlowKey, Protocol, ReplyKey};
use crate::port::{Egress, Port};
use crate::wire::checksum::{self, Delta};
use crate::wire::packet::{
    self, ETHERNET_BYTES, ETHERTYPE_IPV4, Ethernet, ICMP_BYTES, IPV4_BYTES, PROTOCOL_ICMP,
    PROTOCOL_TCP, PROTOCOL_UDP, Packet, Transport, flags, icmp_type,
};
use crate::wire::rewrite::{self, End};
use crate::wire::segment::{self, SegmentHeader, TTL};

/// Code of "fragmentation needed and DF set".
const CODE_FRAGMENTATION_NEEDED: u8 = 4;
/// The smallest MTU that is believed: every host must take 576 bytes (RFC 791), and nothing in
/// use has less; a smaller value is an attack on the sender's efficiency.
const MTU_MIN: u16 = 576;
/// What an error must quote behind the IP header (RFC 792).
const QUOTED_BYTES: usize = 8;
/// The longest error of our own, without Ethernet: "as much of the original datagram as possible
/// without … exceeding 576 bytes" (RFC 1812 section 4.3.2.3).
const ERROR_BYTES_MAX: usize = 576;

/// Why a LAN host's packet does not go on, as an ICMP error says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Time to live used up: traceroute shows us.
    TimeExceeded,
    /// The line is down or has no gateway.
    NetUnreachable,
    /// Nothing is at that port of ours.
    PortUnreachable,
    /// The flow was refused (RFC 5508 REQ-8).
    Prohibited,
    /// Longer than the line takes, and must not be cut (RFC 1191).
    TooLong {
        /// What it takes, bytes of IP.
        mtu: u16,
    },
}

impl Complaint {
    /// Type and code, and the word behind the checksum.
    const fn header(self) -> (u8, u8, u16) {
        match self {
            Self::TimeExceeded => (icmp_type::TIME_EXCEEDED, 0, 0),
            Self::NetUnreachable => (icmp_type::UNREACHABLE, 0, 0),
            Self::PortUnreachable => (icmp_type::UNREACHABLE, 3, 0),
            Self::Prohibited => (icmp_type::UNREACHABLE, 13, 0),
            Self::TooLong { mtu } => (icmp_type::UNREACHABLE, CODE_FRAGMENTATION_NEEDED, mtu),
        }
    }
}

/// At most [`ERRORS_PER_SECOND_MAX`] errors and resets of our own to one host in each second.
///
/// One for all would let a host that scans take the errors that another one's path MTU discovery needs, and show by what
/// is left of it what others do. Hosts are told apart by the last byte of their address, as the LAN of a home has them; one
/// that invents addresses spends the limits of those, and each error is an answer to a packet of about its own cost.
#[derive(Clone, Debug)]
pub(super) struct Limit {
    since: Instant,
    sent: [u8; 256],
}

const _: () = assert!(ERRORS_PER_SECOND_MAX < u8::MAX);

impl Default for Limit {
    fn default() -> Self {
        Self {
            since: Instant::ZERO,
            sent: [0; 256],
        }
    }
}

impl Limit {
    fn take(&mut self, now: Instant, host: Ipv4Address) -> bool {
        if now >= self.since + ERRORS_SPAN {
            *self = Self {
                since: now,
                ..Self::default()
            };
        }
        let [.., last] = host.octets();
        let sent = &mut self.sent[usize::from(last)];
        let free = *sent < ERRORS_PER_SECOND_MAX;
        *sent += u8::from(free);
        free
    }
}

/// Turns an intact echo request in place into its answer, back to where it came from.
pub(super) fn turn_into_echo_reply(frame: &mut [u8], packet: &Packet) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        let (dst, src) = macs.split_at_mut(6);
        dst.swap_with_slice(src);
    }
    let outer = Packet {
        transport: Transport::Other,
        ..*packet
    };
    rewrite::endpoint(frame, &outer, End::Source, packet.dst, 0);
    rewrite::endpoint(frame, &outer, End::Destination, packet.src, 0);
    rewrite::set_ttl(frame, TTL);
    if let Some(icmp) = frame
        .get_mut(usize::from(packet.l4)..)
        .and_then(|icmp| icmp.first_chunk_mut::<4>())
    {
        let [kind, code, high, low] = *icmp;
        let delta = Delta::new().word([kind, code], [icmp_type::ECHO_REPLY, code]);
        let [high, low] = delta.apply([high, low]);
        *icmp = [icmp_type::ECHO_REPLY, code, high, low];
    }
}

/// The beginning of the datagram that an error quotes.
struct Quoted {
    src: Ipv4Address,
    dst: Ipv4Address,
    src_port: u16,
    dst_port: u16,
    protocol: Protocol,
    /// Sequence number, if TCP.
    seq: u32,
    /// Offset of its transport header in it.
    l4: usize,
}

impl Quoted {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let ip = bytes.first_chunk::<IPV4_BYTES>()?;
        let l4 = usize::from(ip[0] & 0x0F) * 4;
        let fragment_offset = u16::from_be_bytes([ip[6], ip[7]]) & 0x1FFF;
        if ip[0] >> 4 != 4 || l4 < IPV4_BYTES || fragment_offset != 0 {
            return None;
        }
        // RFC 5508 REQ-3 a): "If the IP checksum of the embedded packet fails to validate, the NAT
        // SHOULD silently drop the Error packet."
        if !checksum::is_valid(checksum::sum(bytes.get(..l4)?)) {
            return None;
        }
        let [p0, p1, p2, p3, s0, s1, s2, s3] = *bytes.get(l4..)?.first_chunk::<QUOTED_BYTES>()?;
        let (first, second) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([p2, p3]));
        let ident = u16::from_be_bytes([s0, s1]);
        let (protocol, src_port, dst_port) = match (ip[9], p0) {
            (PROTOCOL_TCP, _) => (Protocol::Tcp, first, second),
            (PROTOCOL_UDP, _) => (Protocol::Udp, first, second),
            (PROTOCOL_ICMP, icmp_type::ECHO_REQUEST) => (Protocol::Icmp, ident, 0),
            (PROTOCOL_ICMP, icmp_type::ECHO_REPLY) => (Protocol::Icmp, 0, ident),
            _ => return None,
        };
        Some(Self {
            src: Ipv4Address::new(ip[12], ip[13], ip[14], ip[15]),
            dst: Ipv4Address::new(ip[16], ip[17], ip[18], ip[19]),
            src_port,
            dst_port,
            protocol,
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            l4,
        })
    }
}

impl Router<'_> {
    /// An error from the WAN about a packet of ours.
    pub(super) fn forward_icmp_error_in<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let Some(quoted) = believable_error(packet, frame) else {
            return self.drop(Counter::IcmpIgnored);
        };
        let key = ReplyKey {
            remote: quoted.dst,
            remote_port: quoted.dst_port,
            wan_port: quoted.src_port,
            protocol: quoted.protocol,
        };
        let found = self
            .conntrack
            .find_reply(&key)
            .filter(|_| quoted.src == self.wan_address());
        let Some((id, entry)) = self.flow_of(found, Direction::Original, quoted.seq) else {
            return self.drop(Counter::IcmpIgnored);
        };
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        if entry.is_lent() {
            // Nothing but segments goes to a neighbour: its sockets believe no errors, and its plan does not wait.
            return self.drop(Counter::IcmpIgnored);
        }
        let (key, far, is_redirected) = (*entry.key(), entry.far(), entry.is_redirected());
        // The client knows the quoted packet by its own address and numbers.
        let seq = quoted.seq.wrapping_add(self.shift_of(id).0);
        let (client, port) = (key.client, key.client_port);
        quote_as(frame, packet, &quoted, End::Source, (client, port), seq);
        let outer = Packet {
            transport: Transport::Other,
            ..*packet
        };
        if is_redirected {
            // Nor does it know the far end by its own name.
            let there = (key.remote, key.remote_port);
            quote_as(frame, packet, &quoted, End::Destination, there, seq);
            if packet.src == far.0 {
                rewrite::endpoint(frame, &outer, End::Source, key.remote, 0);
            }
        }
        rewrite::forward(frame, &outer, End::Destination, client, 0);
        self.counts.bump(Counter::IcmpTranslated);
        self.egress(now, Port::Lan, client, frame, out)
    }

    /// An error from the LAN about a packet that a host there got. Whoever sent it, a host or a
    /// router in the LAN, it leaves with our address (RFC 5508 REQ-5 c).
    pub(super) fn forward_icmp_error_out<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let quoted = believable_error(packet, frame).filter(|quoted| quoted.src == packet.dst);
        let Some(quoted) = quoted else {
            return self.drop(Counter::IcmpIgnored);
        };
        let key = FlowKey {
            client: quoted.dst,
            remote: quoted.src,
            client_port: quoted.dst_port,
            remote_port: quoted.src_port,
            protocol: quoted.protocol,
        };
        let found = self.conntrack.find(&key);
        // The reply that the client quotes has the client's numbers.
        let reply_bytes = found.map_or(0, |id| self.shift_of(id).1);
        let seq = quoted.seq.wrapping_sub(reply_bytes);
        let Some((_id, entry)) = self.flow_of(found, Direction::Reply, seq) else {
            return self.drop(Counter::IcmpIgnored);
        };
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        let (wan_port, far, is_redirected) = (entry.wan_port(), entry.far(), entry.is_redirected());
        let wan = self.wan_address();
        quote_as(
            frame,
            packet,
            &quoted,
            End::Destination,
            (wan, wan_port),
            seq,
        );
        let outer = Packet {
            transport: Transport::Other,
            ..*packet
        };
        if is_redirected {
            quote_as(frame, packet, &quoted, End::Source, far, seq);
            rewrite::endpoint(frame, &outer, End::Destination, far.0, 0);
        }
        if far.0 == wan {
            // To another LAN host by our own address (RFC 5508 REQ-7): now it comes in.
            rewrite::endpoint(frame, &outer, End::Source, wan, 0);
            return match Packet::parse(frame) {
                Ok(packet) => self.forward_icmp_error_in(now, &packet, frame, out),
                Err(fault) => self.fault(fault),
            };
        }
        rewrite::forward(frame, &outer, End::Source, wan, 0);
        self.counts.bump(Counter::IcmpTranslated);
        self.egress(now, Port::Wan, far.0, frame, out)
    }

    /// The flow that is meant, if a packet in this direction with `seq` is in flight.
    fn flow_of(
        &self,
        found: Option<EntryId>,
        direction: Direction,
        seq: u32,
    ) -> Option<(EntryId, &Entry)> {
        let id = found?;
        let entry = self.conntrack.get(id)?;
        let in_flight = match entry.key().protocol {
            Protocol::Tcp => entry.tcp.is_in_flight(entry.tracked(direction), seq),
            Protocol::Udp | Protocol::Icmp => true,
        };
        in_flight.then_some((id, entry))
    }

    /// Bytes of requests and replies by which a flow's two ends have come apart.
    fn shift_of(&self, id: EntryId) -> (u32, u32) {
        match self.conntrack.get(id) {
            Some(entry) if entry.key().protocol == Protocol::Tcp => {
                (entry.tcp.shift.request_bytes, entry.tcp.shift.reply_bytes)
            }
            Some(_) | None => (0, 0),
        }
    }

    /// Tells a LAN host why its packet goes no further; `frame` is still as it came.
    pub(super) fn complain<E: Egress>(
        &mut self,
        now: Instant,
        complaint: Complaint,
        packet: &Packet,
        frame: &[u8],
        out: &mut E,
    ) {
        // "An ICMP error message MUST NOT be sent as the result of receiving an ICMP error
        // message", a fragment that is not the first, or what went to many (RFC 1812 section
        // 4.3.2.7).
        let is_about_error = matches!(&packet.transport, Transport::Icmp(icmp) if icmp.kind != icmp_type::ECHO_REQUEST);
        let is_fragment = packet.transport == Transport::Fragment;
        let own = self.addresses[Port::Lan.index()];
        let (Some(lan), Ok(ethernet), false) = (
            own.cidr,
            Ethernet::parse(frame),
            is_about_error || is_fragment,
        ) else {
            return;
        };
        let quoted_max = ETHERNET_BYTES + ERROR_BYTES_MAX - IPV4_BYTES - ICMP_BYTES;
        let quoted_end = usize::from(packet.ip_end).min(quoted_max);
        let Some(quoted) = frame.get(ETHERNET_BYTES..quoted_end) else {
            return;
        };
        if !self.limit.take(now, packet.src) {
            self.counts.bump(Counter::IcmpLimited);
            return;
        }
        let (kind, code, word) = complaint.header();
        let [high, low] = word.to_be_bytes();
        let len = ETHERNET_BYTES + IPV4_BYTES + ICMP_BYTES + quoted.len();
        let sent = out.transmit(Port::Lan, len, |error| {
            Ethernet {
                dst: ethernet.src,
                src: own.mac,
                ethertype: ETHERTYPE_IPV4,
            }
            .emit(error);
            segment::emit_ipv4(
                error,
                PROTOCOL_ICMP,
                lan.address(),
                packet.src,
                packet.ident,
            );
            let icmp = &mut error[ETHERNET_BYTES + IPV4_BYTES..];
            icmp[..ICMP_BYTES].copy_from_slice(&[kind, code, 0, 0, 0, 0, high, low]);
            icmp[ICMP_BYTES..].copy_from_slice(quoted);
            let field = checksum::finish(checksum::sum(icmp));
            icmp[2..4].copy_from_slice(&field.to_be_bytes());
        });
        self.counts.bump(if sent.is_ok() {
            Counter::IcmpSent
        } else {
            Counter::EgressFull
        });
    }

    /// Resets a LAN host's connection that we know nothing of, as its origin would if it knew
    /// nothing: otherwise the host waits until it gives up.
    pub(super) fn send_reset<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        tcp: &packet::Tcp,
        frame: &[u8],
        out: &mut E,
    ) {
        let Ok(ethernet) = Ethernet::parse(frame) else {
            return;
        };
        if tcp.has_any(flags::RST) {
            return;
        }
        if !self.limit.take(now, packet.src) {
            self.counts.bump(Counter::IcmpLimited);
            return;
        }
        // "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN>
        // <CTL=RST,ACK>. If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>."
        let (seq, ack, control) = if tcp.has(flags::ACK) {
            (tcp.ack, 0, flags::RST)
        } else {
            (
                0,
                tcp.seq.wrapping_add(packet.sequence_len()),
                flags::RST | flags::ACK,
            )
        };
        let header = SegmentHeader {
            src_mac: self.addresses[Port::Lan.index()].mac,
            dst_mac: ethernet.src,
            src: packet.dst,
            dst: packet.src,
            src_port: tcp.dst_port,
            dst_port: tcp.src_port,
            seq,
            ack,
            flags: control,
            window: 0,
            ident: 0,
            options: &[],
        };
        let sent = out.transmit(Port::Lan, segment::frame_len(0, 0), |reset| {
            segment::emit(reset, &header, |_| {})
        });
        self.counts.bump(if sent.is_ok() {
            Counter::IcmpSent
        } else {
            Counter::EgressFull
        });
    }
}

/// The quoted datagram of an intact error of a kind that passes.
fn believable_error(packet: &Packet, frame: &[u8]) -> Option<Quoted> {
    let Transport::Icmp(icmp) = &packet.transport else {
        return None;
    };
    let passes = match (icmp.kind, icmp.code) {
        (icmp_type::UNREACHABLE, CODE_FRAGMENTATION_NEEDED) => {
            let mtu = frame
                .get(usize::from(packet.l4) + 6..)?
                .first_chunk::<2>()?;
            u16::from_be_bytes(*mtu) >= MTU_MIN
        }
        (icmp_type::UNREACHABLE | icmp_type::TIME_EXCEEDED | icmp_type::PARAMETER_PROBLEM, _) => {
            true
        }
        _ => false,
    };
    if !passes || packet.is_fragment() || !packet.transport_checksum_ok(frame) {
        return None;
    }
    Quoted::parse(packet.payload(frame))
}

/// Edits the datagram that an intact error quotes, with its checksums as far as they are quoted,
/// and computes the error's own anew.
fn quote_as(
    frame: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    end: End,
    (address, port): (Ipv4Address, u16),
    seq: u32,
) {
    let Some(icmp) = frame.get_mut(usize::from(packet.l4)..usize::from(packet.ip_end)) else {
        return;
    };
    let inner = &mut icmp[ICMP_BYTES..];
    let (address_at, port_at) = match end {
        End::Source => (12, quoted.l4),
        End::Destination => (16, quoted.l4 + 2),
    };
    let addresses = replace(inner, address_at, address.octets(), Delta::new());
    adjust(inner, 10, addresses, false);
    match quoted.protocol {
        Protocol::Tcp => {
            let delta = replace(inner, port_at, port.to_be_bytes(), addresses);
            let delta = replace(inner, quoted.l4 + 4, seq.to_be_bytes(), delta);
            adjust(inner, quoted.l4 + 16, delta, false);
        }
        Protocol::Udp => {
            let delta = replace(inner, port_at, port.to_be_bytes(), addresses);
            adjust(inner, quoted.l4 + 6, delta, true);
        }
        // An echo has one identifier, which is the client's end.
        Protocol::Icmp
            if quoted.dst_port == 0 && end == End::Destination
                || quoted.src_port == 0 && end == End::Source => {}
        Protocol::Icmp => {
            let delta = replace(inner, quoted.l4 + 4, port.to_be_bytes(), Delta::new());
            adjust(inner, quoted.l4 + 2, delta, false);
        }
    }
    icmp[2..4].fill(0);
    let field = checksum::finish(checksum::sum(icmp));
    icmp[2..4].copy_from_slice(&field.to_be_bytes());
}

/// Overwrites whole words at an even offset, if they are there.
fn replace<const LEN: usize>(
    bytes: &mut [u8],
    at: usize,
    new: [u8; LEN],
    mut delta: Delta,
) -> Delta {
    let Some(field) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<LEN>())
    else {
        return delta;
    };
    for (old, new) in field.as_chunks::<2>().0.iter().zip(new.as_chunks::<2>().0) {
        delta = delta.word(*old, *new);
    }
    *field = new;
    delta
}

/// Updates a checksum field, if it is there.
fn adjust(bytes: &mut [u8], at: usize, delta: Delta, udp: bool) {
    if let Some(field) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.first_chunk_mut::<2>())
    {
        *field = if udp {
            delta.apply_udp(*field)
        } else {
            delta.apply(*field)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::time::Duration;

    #[test]
    fn d12_a_host_that_provokes_errors_takes_none_of_anothers() {
        let mut limit = Limit::default();
        let [scanner, other] = [7, 8].map(|last| Ipv4Address::new(192, 168, 1, last));
        let start = Instant::from_secs(100);
        let sent = (0..1000)
            .filter(|&i| limit.take(start + Duration::from_micros(i * 999), scanner))
            .count();
        assert_eq!(sent, usize::from(ERRORS_PER_SECOND_MAX));
        let later = start + Duration::from_millis(999);
        assert!(limit.take(later, other));
        assert!(!limit.take(later, scanner));
        assert!(limit.take(start + Duration::from_secs(1), scanner));
    }
}
