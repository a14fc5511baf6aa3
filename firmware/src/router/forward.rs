//! Packets between LAN and WAN: the flow they belong to, and the rewriting.
//!
//! Follows: RFC 3022, RFC 4787, RFC 5382, RFC 5508 (see `conntrack`); RFC 1812 section 5.3.1 (TTL).
//! Units: frames.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::{Counter, Router, Verdict};
use crate::conntrack::tcp::State;
use crate::conntrack::{
    Direction, Entry, EntryId, FlowKey, Protocol, ReplyKey, SeqShift, Stage, Tcp,
};
use crate::port::{Egress, Port};
use crate::wire::options::Summary;
use crate::wire::packet::{self, Packet, Transport, flags, icmp_type};
use crate::wire::rewrite::{self, End};

/// What is left to do to a packet whose flow has accepted it.
#[derive(Clone, Copy)]
struct Translation {
    end: End,
    address: Ipv4Address,
    port: u16,
    /// Where it goes.
    to: Ipv4Address,
    shift: SeqShift,
    direction: Direction,
    blank_timestamps: bool,
}

impl Translation {
    #[inline]
    fn new(entry: &Entry, direction: Direction, wan: Ipv4Address, control: u8) -> Self {
        let key = entry.key();
        let (end, address, port, to) = match direction {
            Direction::Original => (End::Source, wan, entry.wan_port(), key.remote),
            Direction::Reply => (End::Destination, key.client, key.client_port, key.client),
        };
        // A forged segment could not continue the origin's clock, so none is negotiated.
        let blank_timestamps = direction == Direction::Original
            && control & (flags::SYN | flags::ACK) == flags::SYN
            && key.protocol == Protocol::Tcp
            && entry.tcp.watchable;
        Self {
            end,
            address,
            port,
            to,
            shift: entry.tcp.shift,
            direction,
            blank_timestamps,
        }
    }
}

impl Router<'_> {
    /// A packet of a LAN host for somebody beyond the WAN.
    pub(super) fn forward_out<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if self.addresses[Port::Wan.index()].cidr.is_none() {
            return self.drop(Counter::Unconfigured);
        }
        if packet.is_fragment() {
            return self.drop(Counter::Fragment);
        }
        if packet.ttl <= 1 {
            self.send_time_exceeded(now, packet, frame, out);
            return self.drop(Counter::Expired);
        }
        let (protocol, client_port, remote_port) = match &packet.transport {
            Transport::Tcp(tcp) => (Protocol::Tcp, tcp.src_port, tcp.dst_port),
            Transport::Udp(udp) => (Protocol::Udp, udp.src_port, udp.dst_port),
            Transport::Icmp(icmp) if icmp.kind == icmp_type::ECHO_REQUEST => {
                (Protocol::Icmp, icmp.ident, 0)
            }
            Transport::Icmp(_) => return self.forward_icmp_error_out(now, packet, frame, out),
            Transport::Fragment | Transport::Other => return self.drop(Counter::Protocol),
        };
        let key = FlowKey {
            client: packet.src,
            remote: packet.dst,
            client_port,
            remote_port,
            protocol,
        };
        let id = self.conntrack.find(&key);
        match (&packet.transport, id) {
            (Transport::Tcp(tcp), Some(id)) => {
                self.forward_tcp(now, id, Direction::Original, packet, tcp, frame, out)
            }
            (Transport::Tcp(tcp), None) => self.open_tcp(now, key, packet, tcp, frame, out),
            (_, Some(id)) => {
                self.forward_datagram(now, id, Direction::Original, packet, frame, out)
            }
            (_, None) => match self.conntrack.open(now, key, None) {
                Ok(id) => self.forward_datagram(now, id, Direction::Original, packet, frame, out),
                Err(_counted_there) => self.drop(Counter::FlowRefused),
            },
        }
    }

    /// A packet from the WAN to our address there.
    pub(super) fn forward_in<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if packet.is_fragment() {
            return self.drop(Counter::Fragment);
        }
        let (protocol, wan_port, remote_port) = match &packet.transport {
            Transport::Tcp(tcp) => (Protocol::Tcp, tcp.dst_port, tcp.src_port),
            Transport::Udp(udp) => (Protocol::Udp, udp.dst_port, udp.src_port),
            Transport::Icmp(icmp) if icmp.kind == icmp_type::ECHO_REPLY => {
                (Protocol::Icmp, icmp.ident, 0)
            }
            Transport::Icmp(_) => return self.forward_icmp_error_in(now, packet, frame, out),
            Transport::Fragment | Transport::Other => return self.drop(Counter::Protocol),
        };
        let key = ReplyKey {
            remote: packet.src,
            remote_port,
            wan_port,
            protocol,
        };
        let Some(id) = self.conntrack.find_reply(&key) else {
            return self.drop(Counter::NoFlow);
        };
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        match &packet.transport {
            Transport::Tcp(tcp) => {
                self.forward_tcp(now, id, Direction::Reply, packet, tcp, frame, out)
            }
            Transport::Udp(_) | Transport::Icmp(_) | Transport::Fragment | Transport::Other => {
                self.forward_datagram(now, id, Direction::Reply, packet, frame, out)
            }
        }
    }

    /// The first segment of a connection.
    fn open_tcp<E: Egress>(
        &mut self,
        now: Instant,
        key: FlowKey,
        packet: &Packet,
        tcp: &packet::Tcp,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        if tcp.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) != flags::SYN {
            // A flow from before our last start, or one that ended: its client should know.
            self.send_reset(now, packet, tcp, frame, out);
            return self.drop(Counter::NoFlow);
        }
        let options = Summary::of(packet.tcp_options(frame));
        let candidate = self.acceleration.covers(key.remote_port);
        let segment = Tcp::NONE.in_origin_view(Direction::Original, tcp, packet.sequence_len());
        let state = Tcp::opened(&segment, &options, candidate);
        let opened = self.conntrack.open(now, key, Some(state));
        let wan = self.wan_address();
        match opened.ok().and_then(|id| self.conntrack.get(id)) {
            Some(entry) => {
                let translation = Translation::new(entry, Direction::Original, wan, tcp.flags);
                self.translate(now, packet, &translation, frame, out)
            }
            None => self.drop(Counter::FlowRefused),
        }
    }

    #[inline]
    #[allow(clippy::too_many_arguments)] // one packet, taken apart once
    fn forward_tcp<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        tcp: &packet::Tcp,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let wan = self.wan_address();
        let Some(entry) = self.conntrack.get(id) else {
            return self.drop(Counter::NoFlow);
        };
        let stage = entry.tcp.stage;
        let is_plain = stage == Stage::Plain
            && entry.tcp.state == State::Established
            && tcp.flags & (flags::SYN | flags::FIN | flags::RST) == 0;
        // What changes a state, or is read by the router, must be intact; the rest is the
        // receiver's to verify.
        if !is_plain && !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        // Before conntrack judges it: in an exchange the client acknowledges bytes that the origin
        // never sent, and what is held back has not passed.
        if stage != Stage::Plain
            && let Some(verdict) = self.accelerate(now, id, direction, packet, frame, out)
        {
            return verdict;
        }
        let options = || Summary::of(packet.tcp_options(frame));
        let Ok(entry) =
            self.conntrack
                .on_tcp(now, id, direction, tcp, packet.sequence_len(), options)
        else {
            return self.drop(Counter::Invalid);
        };
        let translation = Translation::new(entry, direction, wan, tcp.flags);
        self.translate(now, packet, &translation, frame, out)
    }

    fn forward_datagram<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        self.conntrack.on_datagram(now, id, direction);
        let Some(entry) = self.conntrack.get(id) else {
            return self.drop(Counter::NoFlow);
        };
        let translation = Translation::new(entry, direction, self.wan_address(), 0);
        self.translate(now, packet, &translation, frame, out)
    }

    /// Rewrites an accepted packet and sends it on.
    #[inline]
    fn translate<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        translation: &Translation,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if !translation.shift.is_none() {
            if packet.tcp().is_some_and(|tcp| tcp.has(flags::SYN)) {
                // A SYN that comes again after a stitched response: moved along with the rest, it would
                // claim another initial sequence number.
                return self.drop(Counter::Invalid);
            }
            let (seq_add, ack_add) = translation.shift.additions(translation.direction);
            rewrite::shift_tcp(frame, packet, seq_add, ack_add);
        }
        if translation.blank_timestamps {
            rewrite::blank_timestamps(frame, packet);
        }
        rewrite::forward(
            frame,
            packet,
            translation.end,
            translation.address,
            translation.port,
        );
        let (egress, counter) = match translation.direction {
            Direction::Original => (Port::Wan, Counter::ForwardedOut),
            Direction::Reply => (Port::Lan, Counter::ForwardedIn),
        };
        let verdict = self.egress(now, egress, translation.to, frame, out);
        if verdict == Verdict::Forward(egress) {
            self.counts.bump(counter);
        }
        verdict
    }

    /// Our address on the WAN; packets come here only when there is one.
    #[inline]
    pub(super) fn wan_address(&self) -> Ipv4Address {
        self.addresses[Port::Wan.index()]
            .cidr
            .map_or(Ipv4Address::UNSPECIFIED, |wan| wan.address())
    }
}
