//! What the router serves itself: which datagram goes to which service, and their timers.
//!
//! | came in by | to | service |
//! | --- | --- | --- |
//! | LAN | UDP 67, broadcast or unicast | DHCP server |
//! | LAN | UDP 53 of the router's address | DNS relay |
//! | LAN | UDP 69, and the transfer's port, while an upgrade waits for it | TFTP |
//! | LAN | TCP 53 of the router's address | none: translated to the first resolver |
//! | WAN | UDP 68 from 67, whatever the address | DHCP client |
//! | WAN | UDP of a port from `LOCAL_PORT_FIRST` on | DNS relay, if it asked from there |
//!
//! Nothing else listens, and nothing at all for strangers on the WAN and the air: what comes by
//! those ports is an answer to a question of ours, or is dropped.

use heapless::Vec;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

use super::way::RouterWay;
use super::{Counter, Router, Verdict};
use crate::dhcp::{client, server};
use crate::dns::{self, Around};
use crate::port::{Egress, Port};
use crate::random::Random;
use crate::udp::{Datagram, SendUdp};
use crate::wire::packet::{Ethernet, Packet, Transport, UDP_BYTES};

/// The services and what they share.
pub(super) struct Services<'m> {
    /// The WAN's DHCP client.
    pub(super) dhcp_client: client::Client<'m>,
    /// The LAN's DHCP server.
    pub(super) dhcp_server: &'m mut server::Server,
    /// The LAN's resolver.
    pub(super) dns: &'m mut dns::Relay,
    /// Draws the relay's ids and ports.
    random: Random,
    /// IP identification of the next datagram.
    pub(super) ident: u16,
}

impl Services<'static> {
    pub(super) fn new(
        dhcp: &'static mut client::Storage,
        dhcp_server: &'static mut server::Server,
        dns: &'static mut dns::Relay,
        wan: EthernetAddress,
        random: &mut Random,
    ) -> Self {
        Self {
            dhcp_client: client::Client::new(dhcp, wan, random.next_u64()),
            dhcp_server,
            dns,
            random: random.fork(),
            ident: random.next_u16(),
        }
    }
}

impl Services<'_> {
    /// When a service has something to do.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        let due = [
            self.dhcp_client.poll_at(),
            self.dhcp_server.poll_at(),
            self.dns.poll_at(),
        ];
        due.into_iter().flatten().min()
    }
}

impl Router<'_> {
    /// Whether a packet from the LAN is for the DHCP server, which hears hosts without an address. By the port it is
    /// sent to alone (RFC 2131 section 4.1): relay agents send from 67 or any other (RFC 8357), and the server is who
    /// counts and refuses what came through one.
    pub(super) fn is_dhcp_request(packet: &Packet) -> bool {
        matches!(&packet.transport, Transport::Udp(udp) if udp.dst_port == server::SERVER_PORT)
            && !packet.is_fragment()
    }

    /// Who answers a question to the router by TCP, as hosts ask when an answer was cut (RFC 7766
    /// section 5): the first resolver, to whom the connection is translated.
    pub(super) fn tcp_resolver(&self, packet: &Packet) -> Option<Ipv4Address> {
        packet.tcp().filter(|tcp| tcp.dst_port == dns::PORT)?;
        let first = self.resolvers().into_iter().flatten().next()?;
        let own = [Port::Lan, Port::Air].map(|port| self.addresses[port.index()].cidr);
        let is_inside = own.iter().flatten().any(|net| net.contains_addr(&first));
        (!is_inside).then_some(first)
    }

    /// A message of a DHCP server on the WAN.
    pub(super) fn on_dhcp_reply<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &[u8],
        out: &mut E,
    ) -> Verdict {
        const OTHERS: [Port; 2] = [Port::Lan, Port::Air];
        if !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        self.counts.bump(Counter::Local);
        self.touch();
        let taken: Vec<Ipv4Cidr, { OTHERS.len() }> = OTHERS
            .into_iter()
            .filter_map(|port| self.addresses[port.index()].cidr)
            .collect();
        let client = &mut self.services.dhcp_client;
        client.on_frame(now, frame, &taken, out);
        self.follow_lease();
        Verdict::Answer
    }

    /// Runs what is due of the services.
    pub(super) fn poll_services<E: Egress>(&mut self, now: Instant, out: &mut E) {
        self.services.dhcp_client.poll(now, out);
        self.follow_lease();
        self.poll_upgrade_transfer(now, out);
        self.services.dhcp_server.poll(now);
        if self.services.dns.poll_at().is_some_and(|at| at <= now) {
            self.with_dns(out, |dns, way, around| dns.poll(now, way, around));
        }
    }

    /// A datagram for the router itself.
    pub(super) fn serve<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        packet: &Packet,
        frame: &[u8],
        out: &mut E,
    ) -> Verdict {
        if packet.is_fragment() {
            return self.drop(Counter::Fragment);
        }
        if !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        let Some(datagram) = datagram(port, packet, frame) else {
            return self.drop(Counter::LocalUnwanted);
        };
        self.touch();
        if port == Port::Lan && self.upgrade.listens_on(datagram.dst_port) {
            self.on_upgrade_datagram(now, &datagram, out);
            return Verdict::Answer;
        }
        match (port, datagram.dst_port) {
            (Port::Lan, server::SERVER_PORT) => {
                let mut way = RouterWay {
                    ports: &self.addresses,
                    neighbors: self.neighbors,
                    out,
                    ident: &mut self.services.ident,
                };
                let Some(lan) = server::Context::new(&self.settings.lan) else {
                    return self.drop(Counter::LocalUnwanted);
                };
                let server = &mut self.services.dhcp_server;
                if let Some(event) = server.on_datagram(now, &datagram, &lan, &mut way) {
                    self.event(now, event);
                }
            }
            (Port::Lan, dns::PORT) => {
                self.with_dns(out, |dns, way, around| {
                    dns.on_datagram(now, &datagram, way, around);
                });
            }
            (Port::Wan, asked_from) if self.services.dns.owns_port(asked_from) => {
                self.with_dns(out, |dns, way, around| {
                    dns.on_datagram(now, &datagram, way, around);
                });
            }
            (Port::Wan | Port::Air, _) => return self.drop(Counter::LocalUnwanted),
            (Port::Lan, _) => return self.refuse(now, packet, frame, out),
        }
        Verdict::Answer
    }

    /// Lends the relay what it needs to know; nothing happens without a LAN.
    fn with_dns<E: Egress>(
        &mut self,
        out: &mut E,
        work: impl FnOnce(&mut dns::Relay, &mut dyn SendUdp, &mut Around<'_>),
    ) {
        let Some(lan) = self.addresses[Port::Lan.index()].cidr else {
            return;
        };
        let resolvers = self.resolvers();
        let Services {
            dhcp_server,
            dns,
            random,
            ident,
            ..
        } = &mut self.services;
        let mut way = RouterWay {
            ports: &self.addresses,
            neighbors: self.neighbors,
            out,
            ident,
        };
        let hosts = |name: &[u8]| dhcp_server.address_of_name(name);
        let mut around = Around {
            lan,
            wan: self.addresses[Port::Wan.index()]
                .cidr
                .map(|wan| wan.address()),
            resolvers,
            hosts: &hosts,
            random,
        };
        work(dns, &mut way, &mut around);
    }
}

/// The datagram in a packet; `None` if it is none.
fn datagram<'f>(port: Port, packet: &Packet, frame: &'f [u8]) -> Option<Datagram<'f>> {
    let Transport::Udp(udp) = &packet.transport else {
        return None;
    };
    let header = usize::from(packet.l4);
    let length = frame.get(header + 4..header + 6)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    // What follows the UDP length is not the sender's message.
    let payload = packet.payload(frame);
    let payload = payload
        .get(..length.checked_sub(UDP_BYTES)?)
        .unwrap_or(payload);
    Some(Datagram {
        port,
        src_mac: Ethernet::parse(frame).ok()?.src,
        src: packet.src,
        src_port: udp.src_port,
        dst: packet.dst,
        dst_port: udp.dst_port,
        payload,
    })
}
