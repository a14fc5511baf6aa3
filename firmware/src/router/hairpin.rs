//! A LAN host that reaches another by our address on the WAN.
//!
//! Follows: RFC 4787 REQ-9 and RFC 5382 REQ-8 ("External source IP address and port"), RFC 5508
//! REQ-7 (errors; they compose in the `icmp` module).
//! Units: frames.
//!
//! The packet goes out and comes in again without touching the line: out by the entry of the host
//! that sent it, in by the entry of the host that gets it. Both are ordinary entries, and each host
//! sees the other as somebody on the WAN at our address.
//!
//! The filter for strangers does not apply: the two can talk without us. Nothing here is ever
//! accelerated.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::forward::{Edit, Translation};
use super::icmp::{self, Complaint};
use super::{Counter, Router, Verdict};
use crate::conntrack::{
    Direction, EntryId, FlowKey, Outside, Protocol, Refused, ReplyKey, SeqShift, Tcp,
};
use crate::port::{Egress, Port};
use crate::wire::packet::{self, Packet, Transport, icmp_type};
use crate::wire::rewrite::End;

impl Router<'_> {
    /// A packet of a LAN host to `wan`, our own address on the line.
    pub(super) fn hairpin<E: Egress>(
        &mut self,
        now: Instant,
        wan: Ipv4Address,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let (protocol, client_port, wan_port) = match &packet.transport {
            Transport::Tcp(tcp) => (Protocol::Tcp, tcp.src_port, tcp.dst_port),
            Transport::Udp(udp) => (Protocol::Udp, udp.src_port, udp.dst_port),
            Transport::Icmp(icmp) if icmp.kind == icmp_type::ECHO_REQUEST => {
                return self.answer_echo(Port::Lan, packet, frame);
            }
            Transport::Icmp(_) => return self.forward_icmp_error_out(now, packet, frame, out),
            Transport::Fragment => {
                return self.on_later_fragment(now, Port::Lan, packet, frame, out);
            }
            Transport::Other => return self.drop(Counter::Protocol),
        };
        if packet.ttl <= 1 {
            self.complain(now, Complaint::TimeExceeded, packet, frame, out);
            return self.drop(Counter::Expired);
        }
        if !self.conntrack.is_mapped(protocol, wan_port) {
            return self.refuse(now, packet, frame, out);
        }
        let key = FlowKey {
            client: packet.src,
            remote: wan,
            client_port,
            remote_port: wan_port,
            protocol,
        };
        let tcp = packet.tcp();
        if tcp.is_some() && !packet.is_fragment() && !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        let legs = self.legs(now, &key, packet, tcp, frame);
        let (going_out, coming_in) = match legs {
            Ok(legs) => legs,
            Err(reason) => {
                if let (Some(tcp), Counter::NoFlow) = (tcp, reason) {
                    self.send_reset(now, packet, tcp, frame, out);
                }
                return self.drop(reason);
            }
        };
        let (Some(sender), Some(receiver)) =
            (self.conntrack.get(going_out), self.conntrack.get(coming_in))
        else {
            return self.drop(Counter::FlowRefused);
        };
        let to = *receiver.key();
        let translation = Translation {
            edit: Edit {
                end: End::Destination,
                address: to.client,
                port: to.client_port,
            },
            other: Some(Edit {
                end: End::Source,
                address: wan,
                port: sender.wan_port(),
            }),
            ingress: Port::Lan,
            egress: Port::Lan,
            to: to.client,
            counter: Counter::Hairpinned,
            id: coming_in,
            direction: Direction::Reply,
            shift: SeqShift::default(),
            syn: false,
            blank_timestamps: false,
        };
        self.translate(now, packet, &translation, frame, out)
    }

    /// The entries by which the packet goes out and comes in, which have accepted it.
    fn legs(
        &mut self,
        now: Instant,
        key: &FlowKey,
        packet: &Packet,
        tcp: Option<&packet::Tcp>,
        frame: &[u8],
    ) -> Result<(EntryId, EntryId), Counter> {
        let (going_out, is_new) = match self.conntrack.find(key) {
            Some(id) => {
                self.accept(now, id, Direction::Original, packet, tcp, frame)?;
                (id, false)
            }
            None => {
                let state = self.first_state(packet, tcp, frame)?;
                let opened = self.conntrack.open(now, *key, state);
                (opened.map_err(|_| Counter::FlowRefused)?, true)
            }
        };
        let Some(sender) = self.conntrack.get(going_out) else {
            return Err(Counter::NoFlow);
        };
        let reply_key = ReplyKey {
            remote: key.remote,
            remote_port: sender.wan_port(),
            wan_port: key.remote_port,
            protocol: key.protocol,
        };
        let coming_in = match self.conntrack.find_reply(&reply_key) {
            Some(id) => {
                self.accept(now, id, Direction::Reply, packet, tcp, frame)?;
                id
            }
            None => {
                let state = self.first_state(packet, tcp, frame)?;
                let who = Outside::Hairpin(key.client);
                match self.conntrack.open_inbound(now, reply_key, who, state) {
                    Ok(id) => id,
                    Err(refused) => {
                        if is_new {
                            self.conntrack.remove(going_out);
                        }
                        return Err(match refused {
                            Refused::Unasked => Counter::NoFlow,
                            Refused::Full | Refused::Host | Refused::Port | Refused::Inbound => {
                                Counter::FlowRefused
                            }
                        });
                    }
                }
            }
        };
        Ok((going_out, coming_in))
    }

    fn first_state(
        &self,
        packet: &Packet,
        tcp: Option<&packet::Tcp>,
        frame: &[u8],
    ) -> Result<Option<Tcp>, Counter> {
        tcp.map(|tcp| self.opened(packet, tcp, frame, false))
            .transpose()
    }

    fn accept(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        tcp: Option<&packet::Tcp>,
        frame: &[u8],
    ) -> Result<(), Counter> {
        match tcp {
            Some(tcp)
                if packet.is_fragment()
                    && tcp.has_any(!(packet::flags::ACK | packet::flags::PSH)) =>
            {
                Err(Counter::Fragment)
            }
            Some(tcp) => {
                let accepted = self.judge(now, id, direction, tcp, packet, frame);
                accepted.then_some(()).ok_or(Counter::Invalid)
            }
            None => {
                self.conntrack.on_datagram(now, id, direction);
                Ok(())
            }
        }
    }

    /// Nothing is at this port of ours: says so to the LAN host, as any host would.
    pub(super) fn refuse<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &[u8],
        out: &mut E,
    ) -> Verdict {
        match &packet.transport {
            Transport::Tcp(tcp) if !packet.is_fragment() => {
                self.send_reset(now, packet, tcp, frame, out);
            }
            Transport::Udp(_) => {
                self.complain(now, Complaint::PortUnreachable, packet, frame, out);
            }
            Transport::Tcp(_) | Transport::Icmp(_) | Transport::Fragment | Transport::Other => {}
        }
        self.drop(Counter::LocalUnwanted)
    }

    /// Turns an echo request for the router itself into its answer.
    pub(super) fn answer_echo(&mut self, port: Port, packet: &Packet, frame: &mut [u8]) -> Verdict {
        if packet.is_fragment() {
            return self.drop(Counter::Fragment);
        }
        if !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        icmp::turn_into_echo_reply(frame, packet);
        Verdict::Forward(port)
    }
}
