//! The way out of packets that the router makes itself: port, next hop, hardware address, slot.

use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address};

use crate::budget::{BULK_FRAMES_QUEUED_MAX, FRAME_BYTES_MAX};
use crate::dhcp::server::LanSide;
use crate::exchange::{Outgoing, Way};
use crate::neighbor::{Hop, Neighbors, next_hop};
use crate::port::{Egress, Full, Port, PortAddress};
use crate::stack::SendIp;
use crate::udp::{self, SendUdp};
use crate::wire::datagram::{self, DatagramHeader};
use crate::wire::packet::{ETHERNET_BYTES, ETHERTYPE_IPV4, Ethernet};
use crate::wire::segment::{self, SegmentHeader};

/// Borrowed parts of the router that together send a packet.
pub(super) struct RouterWay<'a, E: Egress> {
    pub(super) ports: &'a [PortAddress; 3],
    pub(super) neighbors: &'a mut Neighbors,
    pub(super) out: &'a mut E,
    /// IP identification of the next segment.
    pub(super) ident: &'a mut u16,
}

impl<E: Egress> RouterWay<'_, E> {
    /// The port whose net holds `dst`, else the WAN; and the next hop there.
    fn route(&self, dst: Ipv4Address) -> Option<(Port, Ipv4Address)> {
        let on_link = Port::ALL.into_iter().find(|port| {
            self.ports[port.index()]
                .cidr
                .is_some_and(|cidr| cidr.contains_addr(&dst))
        });
        match on_link {
            Some(port) => Some((port, dst)),
            None => next_hop(&self.ports[Port::Wan.index()], dst).map(|hop| (Port::Wan, hop)),
        }
    }

    /// Writes a frame of `len` bytes to `dst`'s next hop; `write` gets both hardware addresses.
    fn send(
        &mut self,
        now: Instant,
        dst: Ipv4Address,
        len: usize,
        write: impl FnOnce(&mut [u8], EthernetAddress, EthernetAddress),
    ) -> Result<(), Full> {
        let (port, hop) = self.route(dst).ok_or(Full)?;
        self.send_to_hop(now, port, hop, len, write)
    }

    /// The same with the next hop known.
    fn send_to_hop(
        &mut self,
        now: Instant,
        port: Port,
        hop: Ipv4Address,
        len: usize,
        write: impl FnOnce(&mut [u8], EthernetAddress, EthernetAddress),
    ) -> Result<(), Full> {
        let own = &self.ports[port.index()];
        match self.neighbors.lookup(port, hop) {
            Some(mac) => self
                .out
                .transmit(port, len, |frame| write(frame, own.mac, mac)),
            None => {
                let fill = |frame: &mut [u8]| write(frame, own.mac, EthernetAddress([0; 6]));
                let hop = Hop {
                    port,
                    own,
                    address: hop,
                };
                self.neighbors
                    .hold(now, &hop, len, fill, self.out)
                    .map_err(|_| Full)
            }
        }
    }
}

impl<E: Egress> Way for RouterWay<'_, E> {
    fn send_tcp(
        &mut self,
        now: Instant,
        from: (Ipv4Address, u16),
        to: (Ipv4Address, u16),
        outgoing: &Outgoing<'_>,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Full> {
        *self.ident = self.ident.wrapping_add(1);
        let ident = *self.ident;
        let len = segment::frame_len(outgoing.options.len(), outgoing.payload_len);
        self.send(now, to.0, len, |frame, src_mac, dst_mac| {
            let header = SegmentHeader {
                src_mac,
                dst_mac,
                src: from.0,
                dst: to.0,
                src_port: from.1,
                dst_port: to.1,
                seq: outgoing.seq,
                ack: outgoing.ack,
                flags: outgoing.flags,
                window: outgoing.window,
                ident,
                options: outgoing.options,
            };
            segment::emit(frame, &header, fill);
        })
    }

    fn room(&self, to: Ipv4Address) -> usize {
        self.route(to)
            .map_or(0, |(port, _hop)| bulk_room(self.out, port))
    }
}

/// Frames of the router's own streams that a port takes now.
fn bulk_room(out: &impl Egress, port: Port) -> usize {
    let queue = BULK_FRAMES_QUEUED_MAX.saturating_sub(out.queued(port));
    queue.min(out.room(port))
}

/// Whether a port may have refused a frame since it last had slots back.
pub(super) fn is_full(out: &impl Egress, port: Port) -> bool {
    bulk_room(out, port) == 0
}

impl<E: Egress> SendIp for RouterWay<'_, E> {
    fn send_ip(
        &mut self,
        now: Instant,
        packet: &[u8],
        hop: Option<Ipv4Address>,
    ) -> Result<(), Full> {
        let Some(&[a, b, c, d]) = packet.get(16..20).and_then(|dst| dst.first_chunk()) else {
            return Err(Full);
        };
        let (port, hop) = match hop {
            Some(hop) => (Port::Air, hop),
            None => self.route(Ipv4Address::new(a, b, c, d)).ok_or(Full)?,
        };
        let len = ETHERNET_BYTES + packet.len();
        self.send_to_hop(now, port, hop, len, |frame, src, dst| {
            Ethernet {
                dst,
                src,
                ethertype: ETHERTYPE_IPV4,
            }
            .emit(frame);
            frame[ETHERNET_BYTES..].copy_from_slice(packet);
        })
    }
}

impl<E: Egress> LanSide for RouterWay<'_, E> {
    fn who_has(&self, address: Ipv4Address) -> Option<EthernetAddress> {
        self.neighbors.peek(Port::Lan, address)
    }
}

impl<E: Egress> SendUdp for RouterWay<'_, E> {
    fn send_udp(
        &mut self,
        now: Instant,
        to: &udp::Outgoing,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Full> {
        let len = datagram::frame_len(len);
        if len > FRAME_BYTES_MAX {
            return Err(Full);
        }
        *self.ident = self.ident.wrapping_add(1);
        let ident = *self.ident;
        let mut write = |frame: &mut [u8], src_mac, dst_mac| {
            let header = DatagramHeader {
                src_mac,
                dst_mac,
                src: to.src,
                dst: to.dst,
                src_port: to.src_port,
                dst_port: to.dst_port,
                ident,
            };
            datagram::emit(frame, &header, |payload| fill(payload));
        };
        let own = &self.ports[to.port.index()];
        match to.mac {
            Some(mac) => self
                .out
                .transmit(to.port, len, |frame| write(frame, own.mac, mac)),
            None => {
                let hop = next_hop(own, to.dst).ok_or(Full)?;
                self.send_to_hop(now, to.port, hop, len, write)
            }
        }
    }
}
