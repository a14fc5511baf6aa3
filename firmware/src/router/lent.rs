//! The own line lent packet by packet: a neighbour's TCP goes out by NAT and comes back to it alone.
//!
//! Follows: RFC 3022 (translation); FAULTS D5, D6, M10, M12.
//! Units: frames.
//!
//! Off unless the owner says `set lend.nat on`: what a neighbour writes leaves by this line as it is.
//!
//! | a packet from the air, not for the router | goes |
//! | --- | --- |
//! | lending by NAT is off, or the sender is no neighbour of the settings | nowhere |
//! | no TCP, or a fragment | nowhere |
//! | to an address or a port that may not be fetched from either | nowhere |
//! | of a lent flow of the sender, and conntrack accepts it | out by the WAN |
//! | a SYN, within the sender's rate and its share of flows | out by the WAN, and opens a flow |
//! | anything else | nowhere |
//!
//! Nowhere means dropped in silence and counted: neither an ICMP error nor a reset goes to the air. The answers of a
//! lent flow go to the neighbour that opened it; its ICMP errors and fragments go nowhere. A lent flow is never read
//! as HTTP, nobody outside can open one, and it never leads to the LAN.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::accelerator::terms;
use super::{Counter, Router, Verdict};
use crate::budget::{LENT_OPENS_PER_SECOND_MAX, LENT_OPENS_SPAN, PEERS_MAX};
use crate::conntrack::{Direction, FlowKey, Protocol};
use crate::links::lender::may_fetch_from;
use crate::port::{Egress, Port};
use crate::wire::packet::{Packet, Transport};

/// How many flows each neighbour has opened in this span.
#[derive(Clone, Debug)]
pub(super) struct Opens {
    since: Instant,
    opened: [u8; PEERS_MAX],
}

const _: () = assert!(LENT_OPENS_PER_SECOND_MAX < u8::MAX);

impl Default for Opens {
    fn default() -> Self {
        Self {
            since: Instant::ZERO,
            opened: [0; PEERS_MAX],
        }
    }
}

impl Opens {
    fn take(&mut self, now: Instant, place: usize) -> bool {
        if now >= self.since + LENT_OPENS_SPAN {
            self.since = now;
            self.opened = [0; PEERS_MAX];
        }
        let Some(opened) = self.opened.get_mut(place) else {
            return false;
        };
        let is_free = *opened < LENT_OPENS_PER_SECOND_MAX;
        *opened += u8::from(is_free);
        is_free
    }
}

impl Router<'_> {
    /// A packet from the air for somebody else than the router.
    pub(super) fn lend<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let is_sender = |peer: &Option<Ipv4Address>| *peer == Some(packet.src);
        let place = self.settings.peers.iter().position(is_sender);
        let Some(place) = place.filter(|_| self.settings.lend_nat) else {
            return self.drop(Counter::Destination);
        };
        let tcp = match &packet.transport {
            Transport::Tcp(tcp) if !packet.is_fragment() => *tcp,
            Transport::Tcp(_) | Transport::Fragment => return self.drop(Counter::Fragment),
            Transport::Udp(_) | Transport::Icmp(_) | Transport::Other => {
                return self.drop(Counter::Protocol);
            }
        };
        let line = &self.addresses[Port::Wan.index()];
        if line.cidr.is_none() || line.gateway.is_none() {
            return self.drop(Counter::NoRoute);
        }
        if packet.ttl <= 1 {
            return self.drop(Counter::Expired);
        }
        if self.is_too_long(Port::Wan, packet) {
            return self.drop(Counter::TooLong);
        }
        let key = FlowKey {
            client: packet.src,
            remote: packet.dst,
            client_port: tcp.src_port,
            remote_port: tcp.dst_port,
            protocol: Protocol::Tcp,
        };
        if let Some(id) = self.conntrack.find(&key) {
            return self.forward_tcp(now, id, Direction::Original, packet, &tcp, frame, out);
        }
        let Some(air) = self.addresses[Port::Air.index()].cidr else {
            return self.drop(Counter::Unconfigured);
        };
        let terms = terms(&self.settings, &self.addresses, air.address());
        if !may_fetch_from(packet.dst, tcp.dst_port, &terms) {
            return self.drop(Counter::LentAddress);
        }
        let state = match self.opened(packet, &tcp, frame, false) {
            Ok(state) => state,
            Err(reason) => return self.drop(reason),
        };
        if !self.lent.take(now, place) {
            return self.drop(Counter::LentRate);
        }
        match self.conntrack.open_lent(now, key, place, state) {
            Ok(id) => {
                self.translate_for(now, id, Direction::Original, tcp.flags, packet, frame, out)
            }
            Err(_counted_there) => self.drop(Counter::FlowRefused),
        }
    }

    /// Ends what is not lent any more.
    pub(super) fn apply_lent(&mut self) {
        let peers: &[_] = match self.settings.lend_nat {
            true => &self.settings.peers,
            false => &[],
        };
        self.conntrack.end_lent(peers);
    }
}
