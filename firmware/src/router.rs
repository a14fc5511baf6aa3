//! The one place where stages meet: a frame and `now` in, a verdict and frames out.
//!
//! ```text
//! frame → ours at all? → parsed once ┬→ for the router itself → services, sockets, echo
//!                                    ├→ LAN → flow → (accelerate) → rewritten → WAN
//!                                    ├→ WAN → flow → (accelerate) → rewritten → LAN
//!                                    └→ LAN → our address on the WAN → two flows → LAN (hairpin)
//! ```
//! What comes by the air is for the router itself, of a flow that is lent (`lent.rs`), or is dropped.
//!
//! Follows: RFC 1812 (what a router forwards and what it drops), RFC 3022 (translation), RFC 2827
//! (source addresses of the LAN).
//! Units: frames and bytes.
//!
//! A forwarded frame is rewritten in place and never copied, its payload never read, unless it begins
//! a connection's request that may be accelerated. Copied once are frames that wait for ARP or for the
//! first fragment of their datagram, and the pieces of those that are too long for the line.
//!
//! Not done: "host unreachable" when ARP stays unanswered (what waited is dropped and counted); IGMP;
//! fragments for the router itself (dropped and counted).

mod accelerate;
mod accelerator;
mod addressing;
mod desk;
mod duty;
mod following;
mod forward;
pub mod fragments;
mod hairpin;
mod host;
mod icmp;
mod lent;
mod panel;
mod persist;
mod services;
pub mod upgrade;
mod way;

pub use panel::{Machine, PANEL_CHARACTERS, Panel};

use accelerator::{Accelerator, Lent, Parts};
use duty::Duty;
use fragments::Fragments;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Cidr};

use crate::budget::{ACCEL_PORTS_MAX, LOCAL_PORT_FIRST, Memory, PEER_PORT, WAN_MTU_MAX};
use crate::conntrack::Table;
use crate::counter_stage;
use crate::counters::Counts;
use crate::dhcp;
use crate::events::Log;
use crate::neighbor::{self, Hop, Neighbors};
use crate::port::{Egress, Port, PortAddress};
use crate::random::{Random, Stirring};
use crate::settings::Settings;
use crate::upgrade::Upgrade;
use crate::wire::packet::{
    self, ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV4, Ethernet, Malformed, Packet, Transport,
    icmp_type,
};

/// What becomes of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Verdict {
    /// The frame was rewritten in place and leaves by this port; the caller moves the buffer.
    Forward(Port),
    /// An exchange took the segment, or a copy waits for its neighbor; the buffer is free again.
    Intercept,
    /// The frame was for the router itself and has been handled; the buffer is free again.
    Answer,
    /// The frame ends here (its reason was counted); the buffer is free again.
    Drop,
}

/// What the board must do after a console byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Reset the machine once the console's output has left.
    Reboot,
    /// Panic, to show what becomes of it.
    Panic,
    /// Stop looking at anything, to show that the watchdog does.
    Hang,
}

counter_stage! {
    /// What the router did with frames; reasons of other stages are counted there.
    pub enum Counter {
        /// Frames forwarded from the LAN to the WAN.
        ForwardedOut = "forwarded-out",
        /// Frames forwarded from the WAN to the LAN.
        ForwardedIn = "forwarded-in",
        /// Segments of a neighbour that borrows the line, sent on.
        LentOut = "lent-out",
        /// Segments of origins sent on to a neighbour that borrows the line.
        LentIn = "lent-in",
        /// Segments of neighbours to an address or port that is not lent.
        LentAddress = "lent-address",
        /// SYNs of neighbours beyond their rate.
        LentRate = "lent-rate",
        /// Frames for the router itself.
        Local = "local",
        /// For another station, or multicast.
        NotForUs = "not-for-us",
        /// Neither IPv4 nor ARP.
        Ethertype = "ethertype",
        /// The port has no address yet.
        Unconfigured = "unconfigured",
        /// Source address that cannot be on this port.
        Source = "source",
        /// Destination that is not forwarded: multicast, loopback, broadcast, a net of ours.
        Destination = "destination",
        /// Fragments.
        Fragment = "fragment",
        /// Longer than the line takes, and not to be cut.
        TooLong = "too-long",
        /// From one LAN host to another by our address on the WAN.
        Hairpinned = "hairpinned",
        /// Time to live used up.
        Expired = "ttl-expired",
        /// No way to the destination.
        NoRoute = "no-route",
        /// From the WAN or in mid-connection, and of no known flow.
        NoFlow = "no-flow",
        /// New flow refused.
        FlowRefused = "flow-refused",
        /// Segment that does not belong to its connection.
        Invalid = "invalid",
        /// Protocol that cannot be translated.
        Protocol = "protocol",
        /// Transport checksum wrong where it was looked at.
        TransportChecksum = "transport-checksum",
        /// ICMP errors translated.
        IcmpTranslated = "icmp-translated",
        /// ICMP errors that quote no segment in flight of a known flow, or are absurd.
        IcmpIgnored = "icmp-ignored",
        /// ICMP errors and resets of our own to the LAN.
        IcmpSent = "icmp-sent",
        /// ICMP errors and resets left out to keep the rate.
        IcmpLimited = "icmp-limited",
        /// For the router itself, but nothing listens.
        LocalUnwanted = "local-unwanted",
        /// Waits for ARP.
        Held = "held",
        /// Could not wait for ARP.
        Unheld = "unheld",
        /// Own frame found no free transmit slot.
        EgressFull = "egress-full",
    }
}

/// Which flows are candidates for acceleration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acceleration {
    /// Off: every flow is plain translation.
    pub enabled: bool,
    /// Origin ports; 0 is an unused place.
    pub ports: [u16; ACCEL_PORTS_MAX],
}

impl Acceleration {
    fn covers(&self, port: u16) -> bool {
        self.enabled && port != 0 && self.ports.contains(&port)
    }
}

/// The frame was not sent: no way, no room to wait, or no free slot; counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Unsent;

/// A whole router.
pub struct Router<'m> {
    conntrack: &'m mut Table,
    fragments: &'m mut Fragments,
    neighbors: &'m mut Neighbors,
    accelerator: Accelerator<'m>,
    desk: desk::Desk<'m>,
    /// When the accelerator is to be polled.
    accelerator_duty: Duty,
    /// When services, upgrade and desk are.
    house_duty: Duty,
    log: &'m mut Log,
    /// Identifiers and ports of the router's own services.
    random: Random,
    stirring: Stirring,
    machine: Machine,
    settings: Settings,
    persist: persist::Persist,
    /// The time of the last call, for the console's ages.
    now: Instant,
    addresses: [PortAddress; 3],
    acceleration: Acceleration,
    services: services::Services<'m>,
    upgrade: Upgrade,
    /// Largest packet of the WAN, bytes.
    wan_mtu: u16,
    limit: icmp::Limit,
    lent: lent::Opens,
    counts: Counts<Counter>,
    malformed: Counts<Malformed>,
}

impl Router<'static> {
    /// Builds a router over `memory`; `macs` in [`Port::ALL`] order, `random` from the board's entropy.
    pub fn new(
        memory: &'static mut Memory,
        macs: [EthernetAddress; 3],
        mut random: Random,
    ) -> Self {
        let Parts {
            accelerator: parts,
            conntrack,
            neighbors,
            log,
            dhcp,
            console,
            dhcp_server,
            dns,
            fragments,
        } = accelerator::parts(memory);
        conntrack.set_seed(random.fork());
        fragments.set_ident(random.next_u16());
        Port::ALL
            .into_iter()
            .for_each(|port| neighbors.forget(port));
        let services =
            services::Services::new(dhcp, dhcp_server, dns, macs[Port::Wan.index()], &mut random);
        let mut router = Self {
            conntrack,
            fragments,
            neighbors,
            accelerator: Accelerator::new(parts, random.fork()),
            desk: desk::Desk::new(console, random.next_u16()),
            accelerator_duty: Duty::new(),
            house_duty: Duty::new(),
            log,
            random,
            stirring: Stirring::default(),
            machine: Machine::default(),
            settings: Settings::new(),
            persist: persist::Persist::default(),
            now: Instant::ZERO,
            addresses: macs.map(|mac| PortAddress {
                mac,
                cidr: None,
                gateway: None,
            }),
            acceleration: Acceleration::default(),
            services,
            upgrade: Upgrade::new(),
            wan_mtu: WAN_MTU_MAX,
            limit: icmp::Limit::default(),
            lent: lent::Opens::default(),
            counts: Counts::new(),
            malformed: Counts::new(),
        };
        router.apply_settings(&Settings::new());
        router
    }
}

impl<'m> Router<'m> {
    /// Sets which new flows are candidates for acceleration.
    pub fn set_acceleration(&mut self, acceleration: Acceleration) {
        self.touch();
        self.acceleration = acceleration;
    }

    /// What became of frames.
    pub const fn counts(&self) -> &Counts<Counter> {
        &self.counts
    }

    /// What was wrong with frames' bytes.
    pub const fn malformed(&self) -> &Counts<Malformed> {
        &self.malformed
    }

    /// Takes the arrival of a frame in as entropy: `reading` is that of the fastest counter there is. Cheap; to be
    /// called once a turn in which something arrived.
    pub fn on_arrival(&mut self, now: Instant, reading: u32) {
        if self.stirring.is_due(now) {
            self.random.absorb(&reading.to_le_bytes());
            let mut bytes = [0; crate::random::SEED_BYTES];
            self.random.fill(&mut bytes);
            self.conntrack.absorb(&bytes);
            self.accelerator.absorb(&bytes);
        }
    }

    /// Takes one received frame.
    pub fn on_frame<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        self.now = now;
        let ethernet = match Ethernet::parse(frame) {
            Ok(ethernet) => ethernet,
            Err(fault) => return self.fault(fault),
        };
        let to_all = ethernet.dst == EthernetAddress::BROADCAST;
        if !to_all && ethernet.dst != self.addresses[port.index()].mac {
            return self.drop(Counter::NotForUs);
        }
        match ethernet.ethertype {
            ETHERTYPE_IPV4 => {
                let packet = match Packet::parse(frame) {
                    Ok(packet) => packet,
                    Err(fault) => return self.fault(fault),
                };
                match port {
                    Port::Lan => self.on_lan(now, &packet, to_all, frame, out),
                    Port::Wan => self.on_wan(now, &packet, to_all, frame, out),
                    Port::Air => self.on_air(now, &packet, to_all, frame, out),
                }
            }
            ETHERTYPE_ARP => {
                let own = &self.addresses[port.index()];
                self.neighbors.on_arp(now, port, own, frame, out);
                // What could not be sent to this neighbor may be now.
                self.touch();
                Verdict::Answer
            }
            _ => self.drop(Counter::Ethertype),
        }
    }

    /// Runs what is due: timers, fetches, segments that may now be sent. Bounded work a call, and next to none when
    /// frames were forwarded and nothing else happened.
    #[inline]
    pub fn poll<E: Egress>(&mut self, now: Instant, out: &mut E) {
        self.now = now;
        self.neighbors.poll(now, &self.addresses, out);
        self.conntrack.poll(now);
        if self.is_house_due(now) || self.is_accelerator_due(now) {
            self.poll_parts(now, out);
        }
    }

    /// Polls those parts that are due.
    #[inline(never)]
    fn poll_parts<E: Egress>(&mut self, now: Instant, out: &mut E) {
        let is_house_due = self.is_house_due(now);
        if is_house_due {
            self.poll_services(now, out);
        }
        // A service may have touched it.
        let is_accelerator_due = self.is_accelerator_due(now);
        if is_accelerator_due {
            let (accelerator, mut lent) = self.split(out);
            accelerator.poll(now, &mut lent);
        }
        // It tells which of the accelerator's peers have come and gone.
        self.poll_desk(now, out);
        // Slots come back outside of a call: what was refused one is seen by the port that is full now.
        let is_blocked = Port::ALL.into_iter().any(|port| way::is_full(out, port));
        if is_house_due {
            self.house_duty.polled(is_blocked);
        }
        if is_accelerator_due {
            self.accelerator_duty.polled(is_blocked);
        }
    }

    /// When `poll` must be called next; `Some(t <= now)` means at once, `None` when only a frame can change anything.
    #[inline]
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let accelerator = &self.accelerator;
        let at = self.accelerator_duty.poll_at(|| accelerator.poll_at(now));
        let (services, upgrade, desk) = (&self.services, &self.upgrade, &self.desk);
        let house = self
            .house_duty
            .poll_at(|| house_poll_at(services, upgrade, desk, now));
        let tables = duty::earlier(self.neighbors.poll_at(), self.conntrack.poll_at());
        duty::earlier(duty::earlier(at, house), tables)
    }

    #[inline]
    fn is_accelerator_due(&mut self, now: Instant) -> bool {
        let accelerator = &self.accelerator;
        self.accelerator_duty
            .is_due(now, || accelerator.poll_at(now))
    }

    #[inline]
    fn is_house_due(&mut self, now: Instant) -> bool {
        let (services, upgrade, desk) = (&self.services, &self.upgrade, &self.desk);
        self.house_duty
            .is_due(now, || house_poll_at(services, upgrade, desk, now))
    }

    /// Something other than a forwarded frame came: whatever it was, all parts are looked at again.
    #[inline]
    const fn touch(&mut self) {
        self.accelerator_duty.touch();
        self.house_duty.touch();
    }

    /// The accelerator, and what it is lent of the rest.
    fn split<'a, E: Egress>(
        &'a mut self,
        out: &'a mut E,
    ) -> (&'a mut Accelerator<'m>, Lent<'a, E>) {
        let lent = Lent {
            table: self.conntrack,
            settings: &self.settings,
            ports: &self.addresses,
            neighbors: self.neighbors,
            out,
        };
        (&mut self.accelerator, lent)
    }

    /// Sends an IPv4 datagram of the router's own, `len` bytes of frame: `fill` writes everything
    /// behind the Ethernet header.
    ///
    /// # Errors
    /// [`Unsent`] when `dst` cannot be reached from `port`, or there is no room; counted.
    pub fn send_ip<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        dst: Ipv4Address,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
        out: &mut E,
    ) -> Result<(), Unsent> {
        let own = &self.addresses[port.index()];
        let Some(address) = neighbor::next_hop(own, dst) else {
            self.counts.bump(Counter::NoRoute);
            return Err(Unsent);
        };
        let src = own.mac;
        let known = self.neighbors.lookup(port, address);
        let write = |frame: &mut [u8]| {
            let dst = known.unwrap_or(EthernetAddress::BROADCAST);
            Ethernet {
                dst,
                src,
                ethertype: ETHERTYPE_IPV4,
            }
            .emit(frame);
            fill(&mut frame[ETHERNET_BYTES..]);
        };
        let failed = if known.is_some() {
            out.transmit(port, len, write)
                .is_err()
                .then_some(Counter::EgressFull)
        } else {
            let hop = Hop { port, own, address };
            self.neighbors
                .hold(now, &hop, len, write, out)
                .is_err()
                .then_some(Counter::Unheld)
        };
        match failed {
            None => Ok(()),
            Some(reason) => {
                self.counts.bump(reason);
                Err(Unsent)
            }
        }
    }

    /// The hardware address of the next hop to `dst` on `port`, if it is known.
    pub fn next_hop_mac(&mut self, port: Port, dst: Ipv4Address) -> Option<EthernetAddress> {
        let hop = neighbor::next_hop(&self.addresses[port.index()], dst)?;
        self.neighbors.lookup(port, hop)
    }

    /// A packet from the LAN: for the router, for the WAN, or nothing.
    fn on_lan<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        to_all: bool,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let Some(lan) = self.addresses[Port::Lan.index()].cidr else {
            return self.drop(Counter::Unconfigured);
        };
        if Self::is_dhcp_request(packet)
            && (packet.dst.is_broadcast() || packet.dst == lan.address())
        {
            return self.serve(now, Port::Lan, packet, frame, out);
        }
        if !lan.contains_addr(&packet.src) || !is_host_of(&lan, packet.src) {
            return self.drop(Counter::Source);
        }
        if packet.dst == lan.address() && !to_all {
            return self.deliver_local(now, Port::Lan, packet, frame, out);
        }
        let wan = self.addresses[Port::Wan.index()].cidr;
        if let Some(wan) = wan.filter(|wan| wan.address() == packet.dst && !to_all) {
            return self.hairpin(now, wan.address(), packet, frame, out);
        }
        if to_all || lan.contains_addr(&packet.dst) || self.is_unforwardable(packet.dst) {
            return self.drop(Counter::Destination);
        }
        self.forward_out(now, packet, frame, out)
    }

    /// A packet from the WAN: for the router's own sockets, of a flow, or nothing.
    fn on_wan<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        to_all: bool,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        if dhcp::client::Client::wants(packet) {
            return self.on_dhcp_reply(now, packet, frame, out);
        }
        let Some(wan) = self.addresses[Port::Wan.index()].cidr else {
            return self.drop(Counter::Unconfigured);
        };
        if packet.dst != wan.address() || to_all {
            return self.drop(Counter::Destination);
        }
        if packet.src == wan.address()
            || is_martian(packet.src)
            || self.is_on(Port::Lan, packet.src)
        {
            return self.drop(Counter::Source);
        }
        let local_port = match &packet.transport {
            Transport::Tcp(tcp) => tcp.dst_port,
            Transport::Udp(udp) => udp.dst_port,
            // The answer to an echo request of ours; flows have other identifiers.
            Transport::Icmp(_) if self.is_own_echo_reply(packet) => LOCAL_PORT_FIRST,
            Transport::Icmp(_) | Transport::Fragment | Transport::Other => 0,
        };
        if local_port >= LOCAL_PORT_FIRST {
            // Nobody is told whether there is a port: smoltcp would answer strangers with a reset.
            let stack = &self.accelerator.stack;
            if let Transport::Tcp(tcp) = &packet.transport
                && !stack.has_connection((packet.src, tcp.src_port), (packet.dst, tcp.dst_port))
            {
                return self.drop(Counter::LocalUnwanted);
            }
            return self.deliver_local(now, Port::Wan, packet, frame, out);
        }
        self.forward_in(now, packet, frame, out)
    }

    /// A packet from the air: for the router itself, for an origin if the line is lent so, or nothing. Who is no neighbour of the settings
    /// gets no answer of any kind: no echo, and no reset that would show who is here and what listens.
    fn on_air<E: Egress>(
        &mut self,
        now: Instant,
        packet: &Packet,
        to_all: bool,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let Some(air) = self.addresses[Port::Air.index()].cidr else {
            return self.drop(Counter::Unconfigured);
        };
        // A connection of ours that leads through a neighbour: its far end is anywhere.
        let is_borrowed = |tcp: &packet::Tcp| {
            let (remote, local) = ((packet.src, tcp.src_port), (packet.dst, tcp.dst_port));
            self.accelerator.stack.has_connection(remote, local)
        };
        if !air.contains_addr(&packet.src)
            && packet.dst == air.address()
            && !to_all
            && packet.tcp().is_some_and(is_borrowed)
        {
            return self.deliver_local(now, Port::Air, packet, frame, out);
        }
        if !air.contains_addr(&packet.src) || !is_host_of(&air, packet.src) {
            return self.drop(Counter::Source);
        }
        if to_all {
            return self.drop(Counter::Destination);
        }
        if packet.dst != air.address() {
            return self.lend(now, packet, frame, out);
        }
        // The lender is silent itself, and counts who knocks.
        let is_knock = packet.tcp().is_some_and(|tcp| tcp.dst_port == PEER_PORT);
        if !is_knock && !self.settings.peers.contains(&Some(packet.src)) {
            return self.drop(Counter::LocalUnwanted);
        }
        self.deliver_local(now, Port::Air, packet, frame, out)
    }

    /// A packet for the router itself: its sockets, its services, echo requests on LAN and air.
    fn deliver_local<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        packet: &Packet,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        self.counts.bump(Counter::Local);
        self.touch();
        let is_echo = matches!(&packet.transport, Transport::Icmp(icmp) if icmp.kind == icmp_type::ECHO_REQUEST);
        if matches!(&packet.transport, Transport::Tcp(_))
            && !packet.is_fragment()
            && port != Port::Lan
        {
            let (accelerator, mut lent) = self.split(out);
            accelerator.on_local(now, port, packet, frame, &mut lent);
            return Verdict::Answer;
        }
        if matches!(&packet.transport, Transport::Udp(_)) {
            return self.serve(now, port, packet, frame, out);
        }
        if self.is_own_echo_reply(packet) {
            return self.on_echo_reply(now, packet, frame);
        }
        if is_echo && port != Port::Wan {
            return self.answer_echo(port, packet, frame);
        }
        if port == Port::Lan {
            if let Some(resolver) = self.tcp_resolver(packet) {
                let far = (resolver, crate::dns::PORT);
                return self.forward_redirected(now, packet, far, frame, out);
            }
            return self.refuse(now, packet, frame, out);
        }
        self.drop(Counter::LocalUnwanted)
    }

    /// Gives a rewritten frame its Ethernet header and sends it on its way to `dst`.
    #[inline]
    fn egress<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        dst: Ipv4Address,
        frame: &mut [u8],
        out: &mut E,
    ) -> Verdict {
        let own = &self.addresses[port.index()];
        let Some(address) = neighbor::next_hop(own, dst) else {
            return self.drop(Counter::NoRoute);
        };
        if let Some(mac) = self.neighbors.lookup(port, address) {
            Ethernet {
                dst: mac,
                src: own.mac,
                ethertype: ETHERTYPE_IPV4,
            }
            .emit(frame);
            return Verdict::Forward(port);
        }
        Ethernet {
            dst: EthernetAddress::BROADCAST,
            src: own.mac,
            ethertype: ETHERTYPE_IPV4,
        }
        .emit(frame);
        let hop = Hop { port, own, address };
        let held = self.neighbors.hold(
            now,
            &hop,
            frame.len(),
            |copy| copy.copy_from_slice(frame),
            out,
        );
        match held {
            Ok(()) => {
                self.counts.bump(Counter::Held);
                Verdict::Intercept
            }
            Err(_counted_there) => self.drop(Counter::Unheld),
        }
    }

    /// Whether a destination must not leave by the WAN: no host's address, or one of ours.
    fn is_unforwardable(&self, dst: Ipv4Address) -> bool {
        is_martian(dst) || self.is_on(Port::Air, dst) || self.is_wan_broadcast(dst)
    }

    fn is_on(&self, port: Port, address: Ipv4Address) -> bool {
        self.addresses[port.index()]
            .cidr
            .is_some_and(|cidr| cidr.contains_addr(&address))
    }

    fn is_wan_broadcast(&self, dst: Ipv4Address) -> bool {
        self.addresses[Port::Wan.index()]
            .cidr
            .is_some_and(|wan| wan.contains_addr(&dst) && !is_host_of(&wan, dst))
    }

    fn drop(&mut self, reason: Counter) -> Verdict {
        self.counts.bump(reason);
        Verdict::Drop
    }

    fn fault(&mut self, fault: Malformed) -> Verdict {
        self.malformed.bump(fault);
        Verdict::Drop
    }
}

/// When services, upgrade or desk are due.
#[inline(never)]
fn house_poll_at(
    services: &services::Services<'_>,
    upgrade: &Upgrade,
    desk: &desk::Desk<'_>,
    now: Instant,
) -> Option<Instant> {
    let due = [services.poll_at(), upgrade.poll_at(now), desk.poll_at()];
    due.into_iter().flatten().min()
}

/// No host can have this address: "this net", loopback, link-local, multicast, reserved, broadcast
/// (RFC 1812 section 5.3.7, RFC 6890).
#[inline]
fn is_martian(address: Ipv4Address) -> bool {
    let [first, second, ..] = address.octets();
    first == 0 || first == 127 || first >= 224 || (first == 169 && second == 254)
}

/// Another station of the net: neither its own address nor its broadcast, nor the router itself.
#[inline]
fn is_host_of(net: &Ipv4Cidr, address: Ipv4Address) -> bool {
    address != net.address()
        && (net.prefix_len() >= 31
            || (address != net.network().address() && Some(address) != net.broadcast()))
}

#[cfg(test)]
mod tests;
