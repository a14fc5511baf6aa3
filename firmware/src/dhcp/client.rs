//! The address of the line: a DHCP client on the WAN.
//!
//! Follows: RFC 2131 (client), RFC 2132 (options); [`reply`] says which values are believed.
//! Units: [`Instant`]s and [`Duration`]s; frames and bytes.
//!
//! smoltcp's socket is the state machine: it sends, repeats, renews, rebinds and expires. It sees
//! nothing of the line: a server's message is read here, judged, and what is left of it is written
//! anew for the socket. So no odd value reaches its arithmetic, and a refused lease never begins.
//!
//! ```text
//! state        input                            next
//! Stopped      restart                          Discovering
//! Discovering  OFFER of ours, usable            Requesting (REQUEST goes out at once)
//! Discovering  OFFER of ours, not usable        Discovering, event Refused; others may offer
//! Requesting   ACK of that server, usable       Bound, event Leased
//! Requesting   NAK of that server, 5 silences   Discovering (after a NAK with a pause)
//! Bound        T1, T2                           Bound, REQUEST by unicast, by broadcast; `awaiting`
//! Bound        ACK while awaiting, usable       Bound, event Renewed, or Leased when it has changed
//! Bound        NAK while awaiting; expiry       Discovering, event Lost
//! any          restart, stop                    Discovering, Stopped; event Lost if it was Bound
//! ```
//!
//! A renewal's unicast goes to the server's identifier, by the station that brought the lease (the
//! server or its relay); smoltcp's question for that address is answered here and never leaves.
//! Should that station be gone, the broadcast after T2 finds the server again.
//!
//! There is no notion of a carrier: a lease ends by its timers or by [`Client::restart`].
//!
//! Calling order: [`Client::on_frame`] for each UDP datagram from port 67 to port 68 of the WAN, whatever
//! its destination (an offer may be unicast to an address that is not ours yet); [`Client::poll`]
//! when [`Client::poll_at`] has come; after either, [`Client::poll_event`] until it is empty.
//!
//! Budget: [`Storage`], one `Client`.
//!
//! Not done: DECLINE and RELEASE, INIT-REBOOT, RFC 3442 routes, RFC 4361 identifiers.

mod lease;
mod reply;
mod wire;

use heapless::{Deque, Vec};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    DhcpMessageType, EthernetAddress, EthernetFrame, HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr,
};

use crate::budget::{
    DHCP_DISCOVER_DOUBLINGS, DHCP_DISCOVER_SPREAD, DHCP_DISCOVER_TIMEOUT, DHCP_EVENTS,
    DHCP_FRAME_BYTES_MAX, DHCP_FULL_RETRY, DHCP_PASSES_MAX, DHCP_RENEW_RETRY_MAX,
    DHCP_RENEW_RETRY_MIN,
};
use crate::counters::Counts;
use crate::port::Egress;
use crate::wire::packet::{Packet, Transport};
pub use lease::{Event, Lease, Lost, Refusal};
use reply::{Kind, Reply, option};
use wire::{Left, Nowhere, Wire, write_arp, write_reply};

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// What the server is asked to tell.
const ASKED: &[u8] = &[
    option::SUBNET_MASK,
    option::ROUTER,
    option::DNS,
    option::MTU,
    option::LEASE_TIME,
    option::T1,
    option::T2,
];

crate::counter_stage! {
    /// What the client sent and heard.
    pub enum Counter {
        /// Sent to find servers.
        Discover = "discover",
        /// Sent to get or to keep an address.
        Request = "request",
        /// Usable offers taken.
        Offer = "offer",
        /// Acknowledgments taken.
        Ack = "ack",
        /// Refusals by the server in the middle of getting or keeping an address.
        Nak = "nak",
        /// Offers and acknowledgments that are not usable.
        Refused = "refused",
        /// Answers to no question of ours: another transaction, another server, nothing asked.
        Stray = "stray",
        /// Not a server's message to this client, or wrong in its bytes.
        Malformed = "malformed",
        /// Messages that waited for a free transmit slot.
        NoRoom = "no-room",
    }
}

/// Place of smoltcp's socket; in [`Memory`](crate::budget::Memory), because the socket set borrows it.
pub struct Storage {
    sockets: Vec<SocketStorage<'static>, 1>,
}

impl Storage {
    /// Empty; all zero, so that a static of it costs no image bytes.
    pub const fn new() -> Self {
        Self {
            sockets: Vec::new(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

/// Mirrors the socket's state, with what it does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Stopped,
    Discovering,
    Requesting {
        server: Ipv4Address,
    },
    Bound {
        lease: Lease,
        /// When it was acknowledged.
        since: Instant,
        awaiting: bool,
    },
}

/// The client.
pub struct Client<'m> {
    mac: EthernetAddress,
    interface: Interface,
    sockets: SocketSet<'m>,
    socket: SocketHandle,
    state: State,
    /// Transaction of the last message sent.
    xid: Option<u32>,
    /// The station that brought the last message taken: renewals go by it.
    station: EthernetAddress,
    /// DISCOVERs since there was a lease.
    attempts: u32,
    /// NAKs since there was a lease.
    naks: u32,
    /// Nothing is sent before.
    not_before: Instant,
    /// When the socket wants to be run; recomputed after each run.
    due: Option<Instant>,
    /// Spreads the waits.
    seed: u64,
    told: Option<Refusal>,
    events: Deque<Event, DHCP_EVENTS>,
    counts: Counts<Counter, 16>,
}

impl Client<'static> {
    /// A client that is stopped; `mac` is the WAN's, `seed` random.
    pub fn new(storage: &'static mut Storage, mac: EthernetAddress, seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut Wire::new(None, &mut Nowhere), Instant::ZERO);
        storage.sockets.clear();
        // Capacity one, and it is empty.
        let _fits = storage.sockets.push(SocketStorage::EMPTY).is_ok();
        let mut sockets = SocketSet::new(storage.sockets.as_mut_slice());
        let mut socket = dhcpv4::Socket::new();
        socket.set_parameter_request_list(ASKED);
        // With a buffer, if empty, the socket tells each acknowledgment, not only new values.
        socket.set_receive_packet_buffer(&mut []);
        // It begins by telling that there is no lease.
        let _none_yet = socket.poll();
        let socket = sockets.add(socket);
        Self {
            mac,
            interface,
            sockets,
            socket,
            state: State::Stopped,
            xid: None,
            station: EthernetAddress::BROADCAST,
            attempts: 0,
            naks: 0,
            not_before: Instant::ZERO,
            due: None,
            seed,
            told: None,
            events: Deque::new(),
            counts: Counts::new(),
        }
    }
}

impl Client<'_> {
    /// Whether a packet of the WAN is for the client: any UDP datagram from port 67 to port 68.
    pub fn wants(packet: &Packet) -> bool {
        !packet.is_fragment()
            && matches!(&packet.transport, Transport::Udp(udp)
                if udp.src_port == SERVER_PORT && udp.dst_port == CLIENT_PORT)
    }

    /// Begins anew, at once: after the start, a changed setting, or a line that has come back.
    pub fn restart(&mut self, now: Instant) {
        self.leave(Lost::Restarted);
        self.state = State::Discovering;
        self.told = None;
        self.due = Some(now);
    }

    /// Ends the client: nothing is sent and nothing heard until [`Self::restart`].
    pub fn stop(&mut self) {
        self.leave(Lost::Stopped);
        self.state = State::Stopped;
        self.due = None;
    }

    fn leave(&mut self, why: Lost) {
        if let State::Bound { .. } = self.state {
            self.tell(Event::Lost(why));
        }
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.socket);
        socket.reset();
        // Told above already, with its reason.
        let _known = socket.poll();
        self.interface.update_ip_addrs(|own| own.clear());
        self.xid = None;
        self.attempts = 0;
        self.naks = 0;
        self.not_before = Instant::ZERO;
    }

    /// Takes a frame of the WAN for which [`Self::wants`] holds. `taken` are the nets of the other ports,
    /// which the line's net must not overlap.
    pub fn on_frame<E: Egress>(
        &mut self,
        now: Instant,
        frame: &[u8],
        taken: &[Ipv4Cidr],
        out: &mut E,
    ) {
        if self.state == State::Stopped {
            return;
        }
        let Some((reply, station)) = self.read(frame) else {
            self.counts.bump(Counter::Malformed);
            return;
        };
        if self.xid != Some(reply.xid) || !self.is_expected(&reply) {
            self.counts.bump(Counter::Stray);
            return;
        }
        let judged = match reply.kind {
            Kind::Offer | Kind::Ack => reply.judge(taken).map(Some),
            // A NAK holds nothing but the server.
            Kind::Nak => reply.server().map(|_server| None),
        };
        let lease = match judged {
            Ok(lease) => lease,
            Err(why) => return self.refuse(why, reply.address),
        };
        self.station = station;
        match (reply.kind, lease) {
            (Kind::Offer, Some(lease)) => {
                self.counts.bump(Counter::Offer);
                self.state = State::Requesting {
                    server: lease.server,
                };
            }
            (Kind::Ack, Some(lease)) => {
                self.counts.bump(Counter::Ack);
                self.set_renewal_retry(&lease);
            }
            (Kind::Offer | Kind::Ack | Kind::Nak, _) => self.counts.bump(Counter::Nak),
        }
        let mut clean = [0; DHCP_FRAME_BYTES_MAX];
        let len = write_reply((self.mac, station), &reply, lease.as_ref(), &mut clean);
        let mut wire = Wire::new(clean.get(..len), out);
        self.interface
            .poll_ingress_single(now, &mut wire, &mut self.sockets);
        self.follow(now, reply.kind, lease);
        self.run(now, out);
    }

    fn read(&self, frame: &[u8]) -> Option<(Reply, EthernetAddress)> {
        let packet = Packet::parse(frame).ok()?;
        let station = EthernetFrame::new_checked(frame).ok()?.src_addr();
        if !Self::wants(&packet) || !station.is_unicast() || !packet.transport_checksum_ok(frame) {
            return None;
        }
        Some((Reply::parse(packet.payload(frame), self.mac)?, station))
    }

    /// Whether a message of this kind is waited for (RFC 2131 figure 5); others are discarded.
    fn is_expected(&self, reply: &Reply) -> bool {
        match (self.state, reply.kind) {
            (State::Discovering, kind) => kind == Kind::Offer,
            (State::Requesting { server }, Kind::Ack | Kind::Nak) => reply.server == Some(server),
            (State::Bound { awaiting, .. }, Kind::Ack | Kind::Nak) => awaiting,
            (State::Requesting { .. } | State::Bound { .. }, Kind::Offer) => false,
            (State::Stopped, Kind::Offer | Kind::Ack | Kind::Nak) => false,
        }
    }

    fn refuse(&mut self, why: Refusal, address: Ipv4Address) {
        self.counts.bump(Counter::Refused);
        if self.told != Some(why) {
            self.told = Some(why);
            self.tell(Event::Refused { why, address });
        }
    }

    /// A quarter of the time between T1 and T2, so that a short lease too is asked for more than once.
    fn set_renewal_retry(&mut self, lease: &Lease) {
        let least = ((lease.t2 - lease.t1) / 4).clamp(DHCP_RENEW_RETRY_MIN, DHCP_RENEW_RETRY_MAX);
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.socket);
        let mut retry = socket.get_retry_config();
        retry.min_renew_timeout = least;
        socket.set_retry_config(retry);
    }

    /// Runs what is due.
    pub fn poll<E: Egress>(&mut self, now: Instant, out: &mut E) {
        if self.poll_at().is_some_and(|at| at <= now) {
            self.run(now, out);
        }
    }

    /// When [`Self::poll`] has something to do; `None` while stopped.
    pub fn poll_at(&self) -> Option<Instant> {
        self.due.map(|due| due.max(self.not_before))
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether no address is wanted.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// The lease in force.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            State::Stopped | State::Discovering | State::Requesting { .. } => None,
        }
    }

    /// How long the lease in force still runs; `None` without one, or when it never ends.
    pub fn lease_left(&self, now: Instant) -> Option<Duration> {
        let State::Bound { lease, since, .. } = &self.state else {
            return None;
        };
        let end = *since + lease.duration;
        let left = if end > now { end - now } else { Duration::ZERO };
        (!lease.is_infinite()).then_some(left)
    }

    /// What was sent and heard.
    pub const fn counts(&self) -> &Counts<Counter, 16> {
        &self.counts
    }

    /// Lets the socket send, and follows it.
    fn run<E: Egress>(&mut self, now: Instant, out: &mut E) {
        if self.state == State::Stopped {
            return;
        }
        for _pass in 0..DHCP_PASSES_MAX {
            if now < self.not_before {
                break;
            }
            self.set_discover_timeout();
            let mut wire = Wire::new(None, out);
            self.interface
                .poll_egress(now, &mut wire, &mut self.sockets);
            let (left, asked) = (wire.left, wire.asked);
            let is_over = self.has_expired();
            match left {
                Left::Nothing if asked.is_none() && !is_over => break,
                Left::Nothing => self.answer(now, asked, out),
                Left::NoRoom => {
                    self.counts.bump(Counter::NoRoom);
                    self.not_before = now + DHCP_FULL_RETRY;
                }
                Left::Message { kind, xid } => self.on_sent(kind, xid),
            }
        }
        self.due = self.interface.poll_at(now, &self.sockets);
    }

    /// RFC 2131 section 4.1: 4 s, doubled each time, "randomized by the value of a uniform random number
    /// chosen from the range -1 to +1".
    fn set_discover_timeout(&mut self) {
        let doublings = self.attempts.min(DHCP_DISCOVER_DOUBLINGS);
        let spread_us = self.seed.rotate_left(self.attempts.wrapping_mul(13) % 64)
            % DHCP_DISCOVER_SPREAD.total_micros();
        let timeout = DHCP_DISCOVER_TIMEOUT * (1 << doublings) + Duration::from_micros(spread_us)
            - DHCP_DISCOVER_SPREAD / 2;
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.socket);
        let mut retry = socket.get_retry_config();
        if retry.discover_timeout != timeout {
            retry.discover_timeout = timeout;
            socket.set_retry_config(retry);
        }
    }

    fn on_sent(&mut self, kind: DhcpMessageType, xid: u32) {
        self.xid = Some(xid);
        if kind == DhcpMessageType::Discover {
            self.counts.bump(Counter::Discover);
            self.attempts = self.attempts.saturating_add(1);
            // Also after five requests without an answer.
            self.state = State::Discovering;
            return;
        }
        self.counts.bump(Counter::Request);
        if let State::Bound { awaiting, .. } = &mut self.state {
            *awaiting = true;
        }
    }

    /// Answers the socket's question for the server's hardware address.
    fn answer<E: Egress>(&mut self, now: Instant, asked: Option<Ipv4Address>, out: &mut E) {
        let (Some(server), State::Bound { lease, .. }) = (asked, self.state) else {
            return;
        };
        let frame = write_arp((self.mac, self.station), (lease.address.address(), server));
        let mut wire = Wire::new(Some(&frame), out);
        self.interface
            .poll_ingress_single(now, &mut wire, &mut self.sockets);
    }

    /// Takes over what a server's message has made of the socket.
    fn follow(&mut self, now: Instant, kind: Kind, lease: Option<Lease>) {
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.socket);
        let is_configured = matches!(socket.poll(), Some(dhcpv4::Event::Configured(_)));
        match (kind, lease) {
            (Kind::Ack, Some(lease)) if is_configured => self.bind(now, lease),
            (Kind::Nak, _) => {
                if let State::Bound { .. } = self.state {
                    self.unbind(Lost::Nak);
                } else {
                    // A server that offers and refuses in turn must not keep the line busy.
                    let doublings = self.naks.min(DHCP_DISCOVER_DOUBLINGS);
                    self.not_before = now + DHCP_DISCOVER_TIMEOUT * (1 << doublings);
                    self.naks = self.naks.saturating_add(1);
                }
                self.state = State::Discovering;
                self.xid = None;
            }
            (Kind::Offer | Kind::Ack, _) => {}
        }
    }

    fn bind(&mut self, now: Instant, lease: Lease) {
        let is_same = self
            .lease()
            .is_some_and(|old| (old.address, old.gateway) == (lease.address, lease.gateway));
        if !is_same {
            self.interface.update_ip_addrs(|own| {
                own.clear();
                // With the whole world on the link the socket asks for the server itself, see `answer`.
                let own_address = Ipv4Cidr::new(lease.address.address(), 0);
                // Capacity four (`.cargo/config.toml`).
                let _fits = own.push(IpCidr::Ipv4(own_address)).is_ok();
            });
        }
        self.state = State::Bound {
            lease,
            since: now,
            awaiting: false,
        };
        self.attempts = 0;
        self.naks = 0;
        self.told = None;
        self.tell(if is_same {
            Event::Renewed(lease)
        } else {
            Event::Leased(lease)
        });
    }

    fn unbind(&mut self, why: Lost) {
        self.interface.update_ip_addrs(|own| own.clear());
        self.tell(Event::Lost(why));
    }

    /// Whether the socket has just given its lease up.
    fn has_expired(&mut self) -> bool {
        let socket = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.socket);
        let is_over = matches!(socket.poll(), Some(dhcpv4::Event::Deconfigured));
        if is_over {
            self.unbind(Lost::Expired);
            self.state = State::Discovering;
            self.xid = None;
        }
        is_over
    }

    fn tell(&mut self, event: Event) {
        if self.events.is_full() {
            // Nobody has listened for four events: the newest counts.
            let _oldest = self.events.pop_front();
        }
        let is_kept = self.events.push_back(event).is_ok();
        debug_assert!(is_kept, "room was made");
    }
}

#[cfg(test)]
mod tests;
