//! Packets between LAN and WAN: the flow they belong to, and the rewriting.
//!
//! Follows: RFC 3022, RFC 4787, RFC 5382, RFC 5508 (see `conntrack`); RFC 1812 section 5.3.1 (TTL),
//! RFC 1191 (path MTU), RFC 6691 (what a segment size stands for).
//! Units: frames; bytes.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::icmp::Complaint;
use super::{Counter, Router, Verdict};
use crate::budget::WAN_MTU_MIN;
use crate::conntrack::tcp::State;
use crate::conntrack::{
    Direction, Entry, EntryId, FlowKey, Outside, Protocol, Refused, ReplyKey, SeqShift, Stage, Tcp,
};
use crate::port::{Egress, Port};
use crate::wire::options::Summary;
use crate::wire::packet::{
    self, ETHERNET_BYTES, IPV4_BYTES, Packet, TCP_BYTES, Transport, flags, icmp_type,
};
use crate::wire::rewrite::{self, End};

/// What becomes of one end of a packet.
#[derive(Clone, Copy)]
pub(super) struct Edit {
    pub(super) end: End,
    pub(super) address: Ipv4Address,
    pub(super) port: u16,
}

/// What is left to do to a packet whose flow has accepted it.
#[derive(Clone, Copy)]
pub(super) struct Translation {
    pub(super) edit: Edit,
    /// The other end, if it changes, too: redirected and hairpinned flows.
    pub(super) other: Option<Edit>,
    pub(super) ingress: Port,
    pub(super) egress: Port,
    /// Where it goes.
    pub(super) to: Ipv4Address,
    /// What it counts as.
    pub(super) counter: Counter,
    pub(super) id: EntryId,
    pub(super) direction: Direction,
    pub(super) shift: SeqShift,
    /// It is a SYN.
    pub(super) syn: bool,
    pub(super) blank_timestamps: bool,
}

impl Translation {
    #[inline]
    pub(super) fn new(
        entry: &Entry,
        id: EntryId,
        direction: Direction,
        wan: Ipv4Address,
        control: u8,
    ) -> Self {
        let key = entry.key();
        let (end, address, port, to) = match direction {
            Direction::Original => (End::Source, wan, entry.wan_port(), entry.far().0),
            Direction::Reply => (End::Destination, key.client, key.client_port, key.client),
        };
        let (ingress, egress, counter) = match direction {
            Direction::Original if entry.is_lent() => (Port::Air, Port::Wan, Counter::LentOut),
            Direction::Original => (Port::Lan, Port::Wan, Counter::ForwardedOut),
            Direction::Reply if entry.is_lent() => (Port::Wan, Port::Air, Counter::LentIn),
            Direction::Reply => (Port::Wan, Port::Lan, Counter::ForwardedIn),
        };
        // A forged segment could not continue the origin's clock, so none is negotiated.
        let blank_timestamps = direction == Direction::Original
            && control & (flags::SYN | flags::ACK) == flags::SYN
            && key.protocol == Protocol::Tcp
            && entry.tcp.watchable;
        Self {
            edit: Edit { end, address, port },
            other: entry
                .is_redirected()
                .then(|| Self::redirect(entry, direction)),
            ingress,
            egress,
            to,
            counter,
            id,
            direction,
            shift: entry.tcp.shift,
            syn: control & flags::SYN != 0,
            blank_timestamps,
        }
    }

    /// The client's word for the far end, and the far end's own.
    fn redirect(entry: &Entry, direction: Direction) -> Edit {
        let (end, (address, port)) = match direction {
            Direction::Original => (End::Destination, entry.far()),
            Direction::Reply => {
                let key = entry.key();
                (End::Source, (key.remote, key.remote_port))
            }
        };
        Edit { end, address, port }
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
        self.forward_to(now, packet, None, frame, out)
    }

    /// As [`forward_out`](Self::forward_out), but the far end is `far`, whatever the host says; it
    /// sees the answers come from where it asked.
    pub(super) fn forward_redirected<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        far: (Ipv4Address, u16),
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        self.forward_to(now, packet, Some(far), frame, out)
    }

    #[inline]
    fn forward_to<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        far: Option<(Ipv4Address, u16)>,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let line = &self.addresses[Port::Wan.index()];
        let dst = far.map_or(packet.dst, |(address, _port)| address);
        if line.gateway.is_none() && !self.is_on(Port::Wan, dst) {
            let reason = match line.cidr {
                None => Counter::Unconfigured,
                Some(_) => Counter::NoRoute,
            };
            self.complain(now, Complaint::NetUnreachable, packet, frame, out);
            return self.drop(reason);
        }
        if packet.ttl <= 1 {
            self.complain(now, Complaint::TimeExceeded, packet, frame, out);
            return self.drop(Counter::Expired);
        }
        let (protocol, client_port, remote_port) = match &packet.transport {
            Transport::Tcp(tcp) => (Protocol::Tcp, tcp.src_port, tcp.dst_port),
            Transport::Udp(udp) => (Protocol::Udp, udp.src_port, udp.dst_port),
            Transport::Icmp(icmp) if icmp.kind == icmp_type::ECHO_REQUEST => {
                (Protocol::Icmp, icmp.ident, 0)
            }
            Transport::Icmp(_) => return self.forward_icmp_error_out(now, packet, frame, out),
            Transport::Fragment => {
                return self.on_later_fragment(now, Port::Lan, packet, frame, out);
            }
            Transport::Other => return self.drop(Counter::Protocol),
        };
        let key = FlowKey {
            client: packet.src,
            remote: packet.dst,
            client_port,
            remote_port,
            protocol,
        };
        let id = self.conntrack.find(&key);
        let far = || far.unwrap_or((key.remote, key.remote_port));
        match (&packet.transport, id) {
            (Transport::Tcp(tcp), Some(id)) => {
                self.forward_tcp(now, id, Direction::Original, packet, tcp, frame, out)
            }
            (Transport::Tcp(tcp), None) => self.open_tcp(now, key, far(), packet, tcp, frame, out),
            (_, Some(id)) => {
                self.forward_datagram(now, id, Direction::Original, packet, frame, out)
            }
            (_, None) => match self.conntrack.open_redirected(now, key, far(), None) {
                Ok(id) => self.forward_datagram(now, id, Direction::Original, packet, frame, out),
                Err(_counted_there) => {
                    self.complain(now, Complaint::Prohibited, packet, frame, out);
                    self.drop(Counter::FlowRefused)
                }
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
        let (protocol, wan_port, remote_port) = match &packet.transport {
            Transport::Tcp(tcp) => (Protocol::Tcp, tcp.dst_port, tcp.src_port),
            Transport::Udp(udp) => (Protocol::Udp, udp.dst_port, udp.src_port),
            Transport::Icmp(icmp) if icmp.kind == icmp_type::ECHO_REPLY => {
                (Protocol::Icmp, icmp.ident, 0)
            }
            Transport::Icmp(_) => return self.forward_icmp_error_in(now, packet, frame, out),
            Transport::Fragment => {
                return self.on_later_fragment(now, Port::Wan, packet, frame, out);
            }
            Transport::Other => return self.drop(Counter::Protocol),
        };
        let key = ReplyKey {
            remote: packet.src,
            remote_port,
            wan_port,
            protocol,
        };
        let Some(id) = self.conntrack.find_reply(&key) else {
            return self.open_inbound(now, key, packet, frame, out);
        };
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        if packet.is_fragment() && self.conntrack.get(id).is_some_and(Entry::is_lent) {
            return self.drop(Counter::Fragment);
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

    /// The first packet of somebody on the WAN: for a forwarded port, or from where a LAN host has
    /// sent to. All others are dropped in silence (RFC 5382 REQ-4 a).
    fn open_inbound<E: Egress>(
        &mut self,
        now: Instant,
        key: ReplyKey,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if !self.conntrack.is_mapped(key.protocol, key.wan_port) {
            return self.drop(Counter::NoFlow);
        }
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        let (state, control) = match &packet.transport {
            Transport::Tcp(tcp) => match self.opened(packet, tcp, frame, false) {
                Ok(state) => (Some(state), tcp.flags),
                Err(reason) => return self.drop(reason),
            },
            Transport::Udp(_) | Transport::Icmp(_) | Transport::Fragment | Transport::Other => {
                (None, 0)
            }
        };
        let id = match self.conntrack.open_inbound(now, key, Outside::Wan, state) {
            Ok(id) => id,
            Err(Refused::Unasked) => return self.drop(Counter::NoFlow),
            Err(_counted_there) => return self.drop(Counter::FlowRefused),
        };
        self.translate_for(now, id, Direction::Reply, control, packet, frame, out)
    }

    /// The first segment of a connection.
    #[allow(clippy::too_many_arguments)] // one packet, taken apart once
    fn open_tcp<E: Egress>(
        &mut self,
        now: Instant,
        key: FlowKey,
        far: (Ipv4Address, u16),
        packet: &Packet,
        tcp: &packet::Tcp,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let candidate = self.acceleration.covers(key.remote_port) && far.0 == key.remote;
        let state = match self.opened(packet, tcp, frame, candidate) {
            Ok(state) => state,
            Err(reason) => {
                if reason == Counter::NoFlow {
                    // A flow from before our last start, or one that ended: its client should know.
                    self.send_reset(now, packet, tcp, frame, out);
                }
                return self.drop(reason);
            }
        };
        match self.conntrack.open_redirected(now, key, far, Some(state)) {
            Ok(id) => {
                self.translate_for(now, id, Direction::Original, tcp.flags, packet, frame, out)
            }
            Err(_counted_there) => {
                self.complain(now, Complaint::Prohibited, packet, frame, out);
                self.drop(Counter::FlowRefused)
            }
        }
    }

    /// The state of a connection after its first SYN.
    ///
    /// # Errors
    /// Why the segment opens none.
    pub(super) fn opened(
        &self,
        packet: &Packet,
        tcp: &packet::Tcp,
        frame: &[u8],
        candidate: bool,
    ) -> Result<Tcp, Counter> {
        if packet.is_fragment() {
            return Err(Counter::Fragment);
        }
        if !packet.transport_checksum_ok(frame) {
            return Err(Counter::TransportChecksum);
        }
        if tcp.flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) != flags::SYN {
            return Err(Counter::NoFlow);
        }
        let options = self.options_of(packet, frame);
        let segment = Tcp::NONE.in_origin_view(Direction::Original, tcp, packet.sequence_len());
        Ok(Tcp::opened(&segment, &options, candidate))
    }

    /// The options of a SYN as they leave.
    fn options_of(&self, packet: &Packet, frame: &[u8]) -> Summary {
        let options = Summary::of(packet.tcp_options(frame));
        Summary {
            mss: options.mss.map(|mss| mss.min(self.mss_max())),
            ..options
        }
    }

    /// The longest packet that the line takes, bytes; at least what every host takes.
    pub(super) fn line_mtu(&self) -> u16 {
        self.wan_mtu.max(WAN_MTU_MIN)
    }

    /// The largest segment that the line takes whole.
    fn mss_max(&self) -> u16 {
        self.line_mtu() - (IPV4_BYTES + TCP_BYTES) as u16
    }

    #[inline]
    #[allow(clippy::too_many_arguments)] // one packet, taken apart once
    pub(super) fn forward_tcp<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        tcp: &packet::Tcp,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let Some(entry) = self.conntrack.get_mut(id) else {
            return self.drop(Counter::NoFlow);
        };
        if packet.is_fragment() {
            // A request in pieces is not read.
            self.accelerator
                .exchanges
                .note_flow(entry.tcp.stop_following());
        }
        let stage = entry.tcp.stage;
        let is_between = entry.tcp.passes_between_requests(direction, packet);
        let is_plain = (stage == Stage::Plain || is_between)
            && entry.tcp.state == State::Established
            && tcp.flags & (flags::SYN | flags::FIN | flags::RST) == 0;
        // What changes a state, or is read by the router, must be intact and whole; the rest is
        // the receiver's to verify.
        if !is_plain {
            if packet.is_fragment() {
                return self.drop(Counter::Fragment);
            }
            if !packet.transport_checksum_ok(frame) {
                return self.drop(Counter::TransportChecksum);
            }
        }
        if is_between
            && is_plain
            && direction == Direction::Original
            && let Some(window) = entry.tcp.window_while_followed(tcp)
        {
            rewrite::set_window(frame, packet, window);
        }
        let passes = !is_plain && self.accelerator.passes(stage, &self.settings);
        if !is_plain
            && direction == Direction::Original
            && let Some(window) = self
                .accelerator
                .window_to_origin(&entry.tcp, tcp, &self.settings)
        {
            // Conntrack goes by the client's own word: what the origin is told later may be as much.
            rewrite::set_window(frame, packet, window);
        }
        if passes && !self.judge(now, id, direction, tcp, packet, frame) {
            return self.drop(Counter::Invalid);
        }
        // Elsewhere before conntrack judges it: in an exchange the client acknowledges bytes that the
        // origin never sent, and what is held back has not passed.
        if stage != Stage::Plain
            && !(is_plain && is_between)
            && let Some(verdict) = self.accelerate(now, id, direction, packet, frame, out)
        {
            return verdict;
        }
        if !passes && !self.judge(now, id, direction, tcp, packet, frame) {
            return self.drop(Counter::Invalid);
        }
        self.translate_for(now, id, direction, tcp.flags, packet, frame, out)
    }

    /// Shows a segment to its connection; false when it does not belong there.
    #[inline]
    pub(super) fn judge(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        tcp: &packet::Tcp,
        packet: &Packet,
        frame: &[u8],
    ) -> bool {
        let mss_max = self.mss_max();
        let options = || {
            let options = Summary::of(packet.tcp_options(frame));
            Summary {
                mss: options.mss.map(|mss| mss.min(mss_max)),
                ..options
            }
        };
        let len = packet.sequence_len();
        let accepted = self.conntrack.on_tcp(now, id, direction, tcp, len, options);
        accepted.is_ok()
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
        self.translate_for(now, id, direction, 0, packet, frame, out)
    }

    /// Translates a packet that its flow has accepted.
    #[inline]
    #[allow(clippy::too_many_arguments)] // one packet, taken apart once
    pub(super) fn translate_for<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        control: u8,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let wan = self.wan_address();
        let Some(entry) = self.conntrack.get(id) else {
            return self.drop(Counter::NoFlow);
        };
        let translation = Translation::new(entry, id, direction, wan, control);
        self.translate(now, packet, &translation, frame, out)
    }

    /// Rewrites an accepted packet and sends it on.
    #[inline]
    pub(super) fn translate<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        translation: &Translation,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let is_too_long = self.is_too_long(translation.egress, packet);
        if is_too_long && packet.dont_fragment() {
            let mtu = self.line_mtu();
            self.complain(now, Complaint::TooLong { mtu }, packet, frame, out);
            return self.drop(Counter::TooLong);
        }
        if !translation.shift.is_none() {
            if translation.syn {
                // A SYN that comes again after a stitched response: moved along with the rest, it would
                // claim another initial sequence number.
                return self.drop(Counter::Invalid);
            }
            let (seq_add, ack_add) = translation.shift.additions(translation.direction);
            rewrite::shift_tcp(frame, packet, seq_add, ack_add);
        }
        if translation.syn {
            rewrite::clamp_mss(frame, packet, self.mss_max());
            if translation.blank_timestamps {
                rewrite::blank_timestamps(frame, packet);
            }
        }
        if let Some(Edit { end, address, port }) = translation.other {
            rewrite::endpoint(frame, packet, end, address, port);
        }
        let Edit { end, address, port } = translation.edit;
        rewrite::forward(frame, packet, end, address, port);
        if is_too_long || packet.is_fragment() {
            return self.send_fragment(now, packet, translation, frame, out);
        }
        let verdict = self.egress(now, translation.egress, translation.to, frame, out);
        if verdict == Verdict::Forward(translation.egress) {
            self.counts.bump(translation.counter);
        }
        verdict
    }

    /// Whether a packet is too long for the line.
    #[inline]
    pub(super) fn is_too_long(&self, egress: Port, packet: &Packet) -> bool {
        egress == Port::Wan
            && usize::from(packet.ip_end) - ETHERNET_BYTES > usize::from(self.line_mtu())
    }

    /// Our address on the WAN; packets come here only when there is one.
    #[inline]
    pub(super) fn wan_address(&self) -> Ipv4Address {
        self.addresses[Port::Wan.index()]
            .cidr
            .map_or(Ipv4Address::UNSPECIFIED, |wan| wan.address())
    }
}
