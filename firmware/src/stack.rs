//! smoltcp behind our frames: sockets of the router itself.
//!
//! One `Medium::Ip` interface carries all three addresses; Ethernet, ARP and routing stay with the
//! router, so a forwarded packet never comes here. Packets for the router are handed in one at a time
//! ([`Stack::ingress`]); what sockets have to say leaves by [`Stack::egress`], which runs only after
//! something moved or a deadline passed, because one pass costs about 200 instructions a socket.
//!
//! A socket may have a *hop* ([`Stack::set_hop`]): a neighbour on the air through whom its connections lead, whatever
//! their far end. They have the router's address on the air, and the neighbour translates it.
//!
//! TCP checksums are verified and filled here, word-wise, not by smoltcp (byte-wise).
//!
//! Budget: [`SOCKETS`](crate::budget::SOCKETS) sockets with their rings, see [`Buffers`].

use heapless::Vec;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::socket::{Socket, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use crate::budget::{
    EGRESS_PASSES_MAX, FETCH_RX_BYTES, FETCH_SOCKETS, FETCH_TX_BYTES, LOCAL_PORT_FIRST,
    LOCAL_PORT_LAST, LOCAL_PORT_STEP_MAX, NAT_RX_BYTES, PEER_RX_BYTES, PEER_TX_BYTES, PEERS_MAX,
    SOCKET_TIMEOUT, SOCKETS, WAN_MTU_MAX, WAN_MTU_MIN,
};
use crate::port::{Full, Port};
use crate::random::Random;
use crate::wire::packet::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, IPV4_BYTES, PROTOCOL_TCP, Packet, TCP_BYTES, flags,
};
use crate::wire::{checksum, rewrite};

crate::counter_stage! {
    /// What happened to packets of the router's own sockets.
    pub enum Counter {
        /// Packets handed to a socket.
        Received = "received",
        /// TCP segments whose checksum is wrong.
        BadChecksum = "bad-checksum",
        /// Packets sockets sent.
        Sent = "sent",
        /// Packets sockets sent that found no room or no way; their sender repeats them.
        NoRoom = "no-room",
    }
}

/// A socket of the stack.
pub type SocketId = SocketHandle;

/// Largest IP packet the stack sends, bytes; on a line that takes less its connections have a smaller MSS.
const MTU: usize = 1500;
/// The longest frame that is a SYN without data: Ethernet, and both headers with all their options.
const SYN_FRAME_BYTES_MAX: usize = ETHERNET_BYTES + 60 + 60;
/// Ports of the router's own sockets.
const LOCAL_PORTS: u32 = (LOCAL_PORT_LAST - LOCAL_PORT_FIRST) as u32 + 1;

/// Rings of the router's own sockets.
pub struct Buffers {
    sockets: Vec<SocketStorage<'static>, SOCKETS>,
    fetch_rx: [[u8; FETCH_RX_BYTES]; FETCH_SOCKETS],
    fetch_tx: [[u8; FETCH_TX_BYTES]; FETCH_SOCKETS],
    peer_rx: [[u8; PEER_RX_BYTES]; PEERS_MAX],
    peer_tx: [[u8; PEER_TX_BYTES]; PEERS_MAX],
    nat_rx: [[u8; NAT_RX_BYTES]; PEERS_MAX],
    nat_tx: [[u8; FETCH_TX_BYTES]; PEERS_MAX],
}

impl Buffers {
    /// Empty rings; all zero, so that a static of them costs no image bytes.
    pub const fn new() -> Self {
        Self {
            sockets: Vec::new(),
            fetch_rx: [[0; FETCH_RX_BYTES]; FETCH_SOCKETS],
            fetch_tx: [[0; FETCH_TX_BYTES]; FETCH_SOCKETS],
            peer_rx: [[0; PEER_RX_BYTES]; PEERS_MAX],
            peer_tx: [[0; PEER_TX_BYTES]; PEERS_MAX],
            nat_rx: [[0; NAT_RX_BYTES]; PEERS_MAX],
            nat_tx: [[0; FETCH_TX_BYTES]; PEERS_MAX],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends an IP packet by the port and to the neighbor its destination asks for, or by the air to a hop.
pub trait SendIp {
    /// Queues one packet; with a `hop` it leaves by the air to that station.
    ///
    /// # Errors
    /// [`Full`] when the port has no slot or the neighbor is unknown; the packet is lost.
    fn send_ip(
        &mut self,
        now: Instant,
        packet: &[u8],
        hop: Option<Ipv4Address>,
    ) -> Result<(), Full>;
}

/// The router's own sockets.
pub struct Stack<'m> {
    interface: Interface,
    sockets: SocketSet<'m>,
    /// Something moved since the last egress pass.
    is_dirty: bool,
    /// When egress is due although nothing moved; recomputed after each pass.
    due: Option<Instant>,
    /// Local port of the last connection.
    last_port: u16,
    random: Random,
    lines: Lines,
    hops: [Hop; PEERS_MAX],
    counts: crate::counters::Counts<Counter>,
}

/// A socket whose connections lead through a neighbour.
#[derive(Clone, Copy, Debug)]
struct Hop {
    socket: SocketId,
    address: Option<Ipv4Address>,
}

impl Stack<'static> {
    /// Builds the sockets over their rings; returns them in order: fetches, then two for each peer: its session's, and
    /// the one whose connections lead through it once it has a hop.
    pub fn new(
        buffers: &'static mut Buffers,
        mut random: Random,
    ) -> (
        Self,
        [SocketId; FETCH_SOCKETS],
        [(SocketId, SocketId); PEERS_MAX],
    ) {
        let interface = interface(&mut random);
        buffers.sockets.clear();
        while buffers.sockets.push(SocketStorage::EMPTY).is_ok() {}
        let mut sockets = SocketSet::new(buffers.sockets.as_mut_slice());
        let fetch_rings = buffers
            .fetch_rx
            .each_mut()
            .into_iter()
            .zip(buffers.fetch_tx.each_mut());
        let mut fetch = [SocketHandle::default(); FETCH_SOCKETS];
        for (handle, (rx, tx)) in fetch.iter_mut().zip(fetch_rings) {
            *handle = sockets.add(socket(rx, tx));
        }
        let peer_rings = buffers
            .peer_rx
            .each_mut()
            .into_iter()
            .zip(buffers.peer_tx.each_mut());
        let mut peers = [(SocketHandle::default(), SocketHandle::default()); PEERS_MAX];
        for ((handle, _), (rx, tx)) in peers.iter_mut().zip(peer_rings) {
            *handle = sockets.add(socket(rx, tx));
        }
        let nat_rings = buffers
            .nat_rx
            .each_mut()
            .into_iter()
            .zip(buffers.nat_tx.each_mut());
        for ((_, handle), (rx, tx)) in peers.iter_mut().zip(nat_rings) {
            *handle = sockets.add(socket(rx, tx));
        }
        let hops = peers.map(|(_, socket)| Hop {
            socket,
            address: None,
        });
        let stack = Self {
            interface,
            sockets,
            is_dirty: false,
            due: None,
            last_port: LOCAL_PORT_FIRST + random.below(LOCAL_PORTS) as u16,
            random,
            lines: Lines::NONE,
            hops,
            counts: crate::counters::Counts::new(),
        };
        (stack, fetch, peers)
    }
}

/// smoltcp's side of the interface, without addresses, its generator started anew.
fn interface(random: &mut Random) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = random.next_u64();
    let mut nobody = Wire {
        packet: None,
        way: &mut Nowhere,
        lines: Lines::NONE,
        hops: [(0, None); PEERS_MAX],
        sent: 0,
        lost: 0,
    };
    Interface::new(config, &mut nobody, Instant::ZERO)
}

fn socket<'m>(rx: &'m mut [u8], tx: &'m mut [u8]) -> tcp::Socket<'m> {
    let mut socket = tcp::Socket::new(tcp::SocketBuffer::new(rx), tcp::SocketBuffer::new(tx));
    socket.set_timeout(Some(SOCKET_TIMEOUT));
    // Every burst is acknowledged at once: the origin's slow start goes by ACKs.
    socket.set_ack_delay(None);
    socket
}

impl<'m> Stack<'m> {
    /// Sets the addresses that are the router's own.
    pub fn set_addresses(&mut self, addresses: &[Option<Ipv4Cidr>; 3]) {
        self.lines.addresses = *addresses;
        self.interface.update_ip_addrs(|own| {
            own.clear();
            for cidr in addresses.iter().flatten() {
                // Three ports, capacity four (`.cargo/config.toml`).
                let _fits = own.push(IpCidr::Ipv4(*cidr)).is_ok();
            }
        });
    }

    /// Sets the largest IP packet of the internet line, bytes: connections that begin from then on keep to it.
    pub fn set_wan_mtu(&mut self, mtu: u16) {
        self.lines.wan_mtu = mtu;
    }

    /// A socket, to be used; call [`Self::touch`] after a change.
    pub fn tcp(&mut self, id: SocketId) -> &mut tcp::Socket<'m> {
        self.sockets.get_mut(id)
    }

    /// A socket, to be looked at.
    pub fn tcp_ref(&self, id: SocketId) -> &tcp::Socket<'m> {
        self.sockets.get(id)
    }

    /// Sets the neighbour on the air through whom later connections of a socket lead; `None`: the way of their far end.
    /// Only a socket that [`new`](Self::new) gave for it has one.
    pub fn set_hop(&mut self, id: SocketId, address: Option<Ipv4Address>) {
        if let Some(hop) = self.hops.iter_mut().find(|hop| hop.socket == id) {
            hop.address = address;
        }
    }

    /// The hop of the socket that has this local end.
    fn hop_of(&self, id: SocketId) -> Option<Ipv4Address> {
        let hop = self.hops.iter().find(|hop| hop.socket == id);
        hop.and_then(|hop| hop.address)
    }

    /// Hops by the local ports of their connections; those of other sockets are in no packet of theirs.
    fn hops_by_port(&self) -> HopsByPort {
        self.hops.map(|hop| {
            let local = self.tcp_ref(hop.socket).local_endpoint();
            (local.map_or(0, |local| local.port), hop.address)
        })
    }

    /// Whether a segment from `remote` to a local end belongs to a socket of ours.
    pub fn has_connection(&self, remote: (Ipv4Address, u16), local: (Ipv4Address, u16)) -> bool {
        self.sockets.iter().any(|(_id, socket)| {
            let Socket::Tcp(tcp) = socket else {
                return false;
            };
            tcp.remote_endpoint() == Some(remote.into())
                && tcp.local_endpoint() == Some(local.into())
        })
    }

    /// Tells that a socket was written, read or closed: egress has work.
    pub fn touch(&mut self) {
        self.is_dirty = true;
    }

    /// Opens a connection from a fresh local port.
    ///
    /// # Errors
    /// The socket is still in use, or its last reset has not been sent yet.
    pub fn connect(
        &mut self,
        id: SocketId,
        remote: (Ipv4Address, u16),
    ) -> Result<(), tcp::ConnectError> {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(id);
        if socket.state() == tcp::State::Closed && socket.remote_endpoint().is_some() {
            self.is_dirty = true;
            return Err(tcp::ConnectError::InvalidState);
        }
        // smoltcp would take its first address, the LAN's, for whatever is on no net of ours.
        let port = match self.hop_of(id) {
            Some(_) => Port::Air,
            None => self.lines.port_to(remote.0),
        };
        let Some(local) = self.lines.addresses[port.index()].map(|cidr| cidr.address()) else {
            return Err(tcp::ConnectError::Unaddressable);
        };
        let step = self.last_port - LOCAL_PORT_FIRST;
        let step = u32::from(step) + 1 + self.random.below(LOCAL_PORT_STEP_MAX);
        let port = LOCAL_PORT_FIRST + (step % LOCAL_PORTS) as u16;
        self.last_port = port;
        // smoltcp's generator gives its whole state away in a few sequence numbers, so each connection gets a fresh
        // one. Nothing else is lost: addresses are set again, and the medium has no neighbors.
        self.interface = interface(&mut self.random);
        self.set_addresses(&{ self.lines.addresses });
        self.is_dirty = true;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(id);
        socket.connect(self.interface.context(), remote, (local, port))
    }

    /// Takes entropy into the ports and sequence numbers of later connections.
    pub fn absorb(&mut self, bytes: &[u8]) {
        self.random.absorb(bytes);
    }

    /// Hands in one IP packet that is addressed to the router.
    pub fn ingress(&mut self, now: Instant, packet: &[u8], way: &mut impl SendIp) {
        if !tcp_checksum_is_right(packet) {
            self.counts.bump(Counter::BadChecksum);
            return;
        }
        self.counts.bump(Counter::Received);
        let mut copy = [0; SYN_FRAME_BYTES_MAX];
        let packet = self.lines.clamped(packet, &mut copy).unwrap_or(packet);
        let mut wire = Wire {
            packet: Some(packet),
            way,
            lines: self.lines,
            hops: self.hops_by_port(),
            sent: 0,
            lost: 0,
        };
        self.interface
            .poll_ingress_single(now, &mut wire, &mut self.sockets);
        let (sent, lost) = (wire.sent, wire.lost);
        self.count_sent(sent, lost);
        self.is_dirty = true;
    }

    /// Sends what sockets have to say, if anything moved or is due.
    pub fn egress(&mut self, now: Instant, way: &mut impl SendIp) {
        let is_due = self.due.is_some_and(|due| due <= now);
        if !self.is_dirty && !is_due {
            return;
        }
        self.is_dirty = false;
        for _pass in 0..EGRESS_PASSES_MAX {
            let mut wire = Wire {
                packet: None,
                way,
                lines: self.lines,
                hops: self.hops_by_port(),
                sent: 0,
                lost: 0,
            };
            self.interface
                .poll_egress(now, &mut wire, &mut self.sockets);
            let (sent, lost) = (wire.sent, wire.lost);
            self.count_sent(sent, lost);
            if sent == 0 || lost > 0 {
                break;
            }
        }
        self.due = self.interface.poll_at(now, &self.sockets);
    }

    fn count_sent(&mut self, sent: u64, lost: u64) {
        self.counts.add(Counter::Sent, sent);
        self.counts.add(Counter::NoRoom, lost);
    }

    /// When [`Self::egress`] must run although nothing moves.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        if self.is_dirty { Some(now) } else { self.due }
    }

    /// What was counted.
    pub fn counts(&self) -> &crate::counters::Counts<Counter> {
        &self.counts
    }
}

fn header_len(packet: &[u8]) -> usize {
    packet
        .first()
        .map_or(0, |first| usize::from(first & 0x0f) * 4)
}

/// Pseudo header and segment of a TCP packet, summed; zero when right (RFC 9293 section 3.1).
fn tcp_sum(packet: &[u8]) -> Option<u16> {
    let header = header_len(packet);
    if packet.len() < 20 || header < 20 || packet.get(9) != Some(&6) {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let segment = packet.get(header..total)?;
    let source = Ipv4Address::new(packet[12], packet[13], packet[14], packet[15]);
    let destination = Ipv4Address::new(packet[16], packet[17], packet[18], packet[19]);
    let length = u16::try_from(segment.len()).ok()?;
    let pseudo = checksum::pseudo_header(source, destination, 6, length);
    Some(checksum::finish(checksum::combine(
        pseudo,
        checksum::sum(segment),
    )))
}

fn tcp_checksum_is_right(packet: &[u8]) -> bool {
    match tcp_sum(packet) {
        Some(sum) => sum == 0,
        // Not TCP: smoltcp checks those itself. Malformed: it refuses them.
        None => true,
    }
}

/// The lines by which packets leave.
#[derive(Clone, Copy, Debug)]
struct Lines {
    /// Own addresses in `Port::ALL` order.
    addresses: [Option<Ipv4Cidr>; 3],
    /// Largest IP packet of the internet line, bytes; the others take [`MTU`].
    wan_mtu: u16,
}

impl Lines {
    const NONE: Self = Self {
        addresses: [None; 3],
        wan_mtu: WAN_MTU_MAX,
    };

    /// The port that leads to an address: that of its net, else the internet line.
    fn port_to(&self, remote: Ipv4Address) -> Port {
        let holds = |port: &Port| {
            let net = self.addresses[port.index()];
            net.is_some_and(|net| net.contains_addr(&remote))
        };
        Port::ALL.into_iter().find(holds).unwrap_or(Port::Wan)
    }

    /// A SYN with an MSS that the line takes whole, in either direction, as forwarded ones have it: written to `copy`.
    /// `None`: the packet may pass as it is.
    fn clamped<'c>(
        &self,
        packet: &[u8],
        copy: &'c mut [u8; SYN_FRAME_BYTES_MAX],
    ) -> Option<&'c [u8]> {
        let flags_at = header_len(packet) + 13;
        if packet.get(9) != Some(&PROTOCOL_TCP) || packet.get(flags_at)? & flags::SYN == 0 {
            return None;
        }
        let frame = copy.get_mut(..ETHERNET_BYTES + packet.len())?;
        frame[12..ETHERNET_BYTES].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes());
        frame[ETHERNET_BYTES..].copy_from_slice(packet);
        let parsed = Packet::parse(frame).ok()?;
        let is_by_air = self.addresses[Port::Air.index()]
            .is_some_and(|own| [parsed.src, parsed.dst].contains(&own.address()));
        if is_by_air {
            // The air takes all; who translates what goes further lowers it to the line there.
            return None;
        }
        let is_ours = |own: &Ipv4Cidr| own.address() == parsed.src;
        let remote = if self.addresses.iter().flatten().any(is_ours) {
            parsed.dst
        } else {
            parsed.src
        };
        let mtu = match self.port_to(remote) {
            Port::Wan => self.wan_mtu.max(WAN_MTU_MIN),
            Port::Lan | Port::Air => return None,
        };
        let mss = mtu - (IPV4_BYTES + TCP_BYTES) as u16;
        let is_longer = rewrite::clamp_mss(frame, &parsed, mss);
        is_longer.then(|| &frame[ETHERNET_BYTES..])
    }
}

/// What smoltcp takes for a network device: one packet in, any number out.
struct Wire<'a, W: SendIp> {
    packet: Option<&'a [u8]>,
    way: &'a mut W,
    lines: Lines,
    hops: HopsByPort,
    sent: u64,
    lost: u64,
}

struct Incoming<'a>(&'a [u8]);

struct Outgoing<'a, W: SendIp> {
    now: Instant,
    way: &'a mut W,
    lines: Lines,
    hops: HopsByPort,
    sent: &'a mut u64,
    lost: &'a mut u64,
}

/// Local ports of connections that lead through a neighbour, and who that is; port 0 is none's.
type HopsByPort = [(u16, Option<Ipv4Address>); PEERS_MAX];

/// A packet's neighbour is none any more.
struct NoHop;

impl<W: SendIp> Outgoing<'_, W> {
    /// The neighbour through whom a packet of ours leads: a TCP segment from the port of such a connection.
    ///
    /// # Errors
    /// There is no such neighbour, or no address on the air, any more.
    fn hop_of(&self, packet: &[u8]) -> Result<Option<Ipv4Address>, NoHop> {
        let at = header_len(packet);
        let (Some(&[a, b, c, d, e, f, g, h]), Some(&[high, low])) = (
            packet.get(12..20).and_then(|ends| ends.first_chunk()),
            packet.get(at..at + 2).and_then(|port| port.first_chunk()),
        ) else {
            return Ok(None);
        };
        let (src, dst) = (Ipv4Address::new(a, b, c, d), Ipv4Address::new(e, f, g, h));
        let port = u16::from_be_bytes([high, low]);
        let own = |cidr: &Ipv4Cidr| cidr.address() == src;
        let air = self.lines.addresses[Port::Air.index()];
        let is_by_air = match air.filter(own) {
            Some(air) => !air.contains_addr(&dst),
            // An address that was ours on the air.
            None => {
                !self.lines.addresses.iter().flatten().any(own)
                    && self.hops.iter().any(|(local, _)| *local == port)
            }
        };
        if packet.get(9) != Some(&PROTOCOL_TCP) || !is_by_air {
            return Ok(None);
        }
        let hop = self.hops.iter().find(|(local, _)| *local == port);
        let hop = hop
            .and_then(|&(_, hop)| hop)
            .filter(|_| air.is_some_and(|air| own(&air)));
        hop.map(Some).ok_or(NoHop)
    }
}

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl<W: SendIp> phy::TxToken for Outgoing<'_, W> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // Requests and acknowledgements only: bulk bytes never leave through smoltcp.
        let mut packet = [0; MTU];
        let packet = &mut packet[..len.min(MTU)];
        let result = f(packet);
        if packet.get(9) == Some(&6) {
            let at = header_len(packet) + 16;
            if let Some(field) = packet.get_mut(at..at + 2) {
                field.fill(0);
            }
            if let (Some(sum), Some(field)) = (tcp_sum(packet), packet.get_mut(at..at + 2)) {
                field.copy_from_slice(&sum.to_be_bytes());
            }
        }
        let mut copy = [0; SYN_FRAME_BYTES_MAX];
        let packet = self.lines.clamped(packet, &mut copy).unwrap_or(packet);
        *self.sent += 1;
        let Ok(hop) = self.hop_of(packet) else {
            // Its neighbour is none any more: by the own line it would have an address that is not of there.
            return result;
        };
        if self.way.send_ip(self.now, packet, hop).is_err() {
            *self.lost += 1;
        }
        result
    }
}

impl<W: SendIp> phy::Device for Wire<'_, W> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, W>
    where
        Self: 'b;

    fn receive(&mut self, now: Instant) -> Option<(Incoming<'_>, Outgoing<'_, W>)> {
        let packet = self.packet.take()?;
        let out = Outgoing {
            now,
            way: self.way,
            lines: self.lines,
            hops: self.hops,
            sent: &mut self.sent,
            lost: &mut self.lost,
        };
        Some((Incoming(packet), out))
    }

    fn transmit(&mut self, now: Instant) -> Option<Outgoing<'_, W>> {
        (self.lost == 0).then_some(Outgoing {
            now,
            way: self.way,
            lines: self.lines,
            hops: self.hops,
            sent: &mut self.sent,
            lost: &mut self.lost,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

/// The way of packets before there is one.
struct Nowhere;

impl SendIp for Nowhere {
    fn send_ip(
        &mut self,
        _now: Instant,
        _packet: &[u8],
        _hop: Option<Ipv4Address>,
    ) -> Result<(), Full> {
        Err(Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: (Ipv4Address, u16) = (Ipv4Address::new(198, 51, 100, 10), 80);

    /// Packets that sockets sent, as frames without addresses.
    #[derive(Default)]
    struct Sent(std::vec::Vec<std::vec::Vec<u8>>);

    impl SendIp for Sent {
        fn send_ip(
            &mut self,
            _now: Instant,
            packet: &[u8],
            _hop: Option<Ipv4Address>,
        ) -> Result<(), Full> {
            let mut frame = std::vec![0; 12];
            frame.extend(ETHERTYPE_IPV4.to_be_bytes());
            frame.extend_from_slice(packet);
            self.0.push(frame);
            Ok(())
        }
    }

    /// The MSS that the last packet names, which is intact.
    fn mss_of(sent: &Sent) -> Option<u16> {
        let frame = sent.0.last().unwrap();
        let packet = Packet::parse(frame).unwrap();
        assert!(packet.transport_checksum_ok(frame));
        crate::wire::options::Summary::of(packet.tcp_options(frame)).mss
    }

    /// A connection to `remote` on a WAN of 1400 bytes: what it sends when the far end takes segments of 1460.
    fn longest_to(remote: (Ipv4Address, u16), wan_mtu: u16) -> (Option<u16>, usize) {
        let buffers = Box::leak(Box::new(Buffers::new()));
        let (mut stack, fetches, _) = Stack::new(buffers, Random::repeatable(3));
        let net = |address, prefix| Some(Ipv4Cidr::new(address, prefix));
        stack.set_addresses(&[
            None,
            net(Ipv4Address::new(203, 0, 113, 2), 26),
            net(Ipv4Address::new(10, 77, 0, 1), 16),
        ]);
        stack.set_wan_mtu(wan_mtu);
        let mut way = Sent::default();
        stack.connect(fetches[0], remote).unwrap();
        stack.egress(Instant::ZERO, &mut way);
        let offered = mss_of(&way);
        let syn_frame = way.0.pop().unwrap();
        let syn = Packet::parse(&syn_frame).unwrap();
        let tcp = *syn.tcp().unwrap();
        let mut answer = [0; crate::wire::segment::frame_len(4, 0)];
        let header = crate::wire::segment::SegmentHeader {
            src_mac: smoltcp::wire::EthernetAddress([0; 6]),
            dst_mac: smoltcp::wire::EthernetAddress([0; 6]),
            src: remote.0,
            dst: syn.src,
            src_port: remote.1,
            dst_port: tcp.src_port,
            seq: 7000,
            ack: tcp.seq.wrapping_add(1),
            flags: flags::SYN | flags::ACK,
            window: 65535,
            ident: 1,
            options: &[2, 4, 0x05, 0xB4],
        };
        crate::wire::segment::emit(&mut answer, &header, |_| {});
        let now = Instant::from_millis(10);
        stack.ingress(now, &answer[ETHERNET_BYTES..], &mut way);
        let socket = stack.tcp(fetches[0]);
        assert_eq!(socket.state(), tcp::State::Established);
        socket.send_slice(&[b'x'; 4000]).unwrap();
        stack.touch();
        stack.egress(now, &mut way);
        let longest = way.0.iter().map(|frame| frame.len() - ETHERNET_BYTES).max();
        (offered, longest.unwrap())
    }

    #[test]
    fn a_connection_by_a_small_line_neither_asks_for_nor_sends_more_than_it_takes() {
        assert_eq!(longest_to(ORIGIN, 1500), (Some(1460), 1500));
        assert_eq!(longest_to(ORIGIN, 1400), (Some(1360), 1400));
        assert_eq!(longest_to(ORIGIN, 576), (Some(536), 576));
        // The air is another line.
        let neighbour = (Ipv4Address::new(10, 77, 0, 2), 4377);
        assert_eq!(longest_to(neighbour, 1400), (Some(1460), 1500));
    }

    /// Hops, sources and destinations of the packets sent.
    #[derive(Default)]
    struct Hops(std::vec::Vec<(Option<Ipv4Address>, Ipv4Address, Ipv4Address)>);

    impl SendIp for Hops {
        fn send_ip(
            &mut self,
            _now: Instant,
            packet: &[u8],
            hop: Option<Ipv4Address>,
        ) -> Result<(), Full> {
            let at = |at: usize| Ipv4Address::from_octets(*packet[at..].first_chunk().unwrap());
            self.0.push((hop, at(12), at(16)));
            Ok(())
        }
    }

    #[test]
    fn a_connection_through_a_neighbour_leaves_by_it_alone_and_else_not_at_all() {
        let buffers = Box::leak(Box::new(Buffers::new()));
        let (mut stack, fetches, peers) = Stack::new(buffers, Random::repeatable(4));
        let (wan, air) = (
            Ipv4Address::new(203, 0, 113, 2),
            Ipv4Address::new(10, 77, 0, 1),
        );
        let nets = |air: Option<Ipv4Address>| {
            let air = air.map(|air| Ipv4Cidr::new(air, 16));
            [None, Some(Ipv4Cidr::new(wan, 26)), air]
        };
        stack.set_addresses(&nets(Some(air)));
        let neighbour = Ipv4Address::new(10, 77, 0, 2);
        let nat = peers[0].1;
        stack.set_hop(nat, Some(neighbour));
        stack.connect(nat, ORIGIN).unwrap();
        stack.connect(fetches[0], ORIGIN).unwrap();
        stack.connect(peers[0].0, (neighbour, 4377)).unwrap();
        let mut way = Hops::default();
        stack.egress(Instant::ZERO, &mut way);
        way.0.sort();
        let expected = [
            (None, air, neighbour),
            (None, wan, ORIGIN.0),
            (Some(neighbour), air, ORIGIN.0),
        ];
        assert_eq!(way.0, expected);
        let port = stack.tcp(nat).local_endpoint().unwrap().port;
        assert!(stack.has_connection(ORIGIN, (air, port)));
        assert!(!stack.has_connection(ORIGIN, (wan, port)));
        // The neighbour is taken from the list, then the air has another address: nothing goes by the own line.
        let later = |stack: &mut Stack<'static>, seconds| {
            let mut way = Hops::default();
            stack.egress(Instant::from_secs(seconds), &mut way);
            way.0
                .iter()
                .filter(|sent| sent.1 == air && sent.2 == ORIGIN.0)
                .count()
        };
        assert_eq!(later(&mut stack, 2), 1);
        stack.set_hop(nat, None);
        assert_eq!(later(&mut stack, 5), 0);
        stack.set_hop(nat, Some(neighbour));
        stack.set_addresses(&nets(Some(Ipv4Address::new(10, 77, 0, 9))));
        assert_eq!(later(&mut stack, 10), 0);
    }

    /// Ports and sequence numbers of the SYNs sent.
    #[derive(Default)]
    struct Syns(std::vec::Vec<(u16, u32)>);

    impl SendIp for Syns {
        fn send_ip(
            &mut self,
            _now: Instant,
            packet: &[u8],
            _hop: Option<Ipv4Address>,
        ) -> Result<(), Full> {
            let port = u16::from_be_bytes([packet[20], packet[21]]);
            let seq = u32::from_be_bytes([packet[24], packet[25], packet[26], packet[27]]);
            self.0.push((port, seq));
            Ok(())
        }
    }

    /// SYNs of all fetch sockets; `between` is called after the first.
    fn syns(random: Random, between: impl Fn(&mut Stack<'static>)) -> std::vec::Vec<(u16, u32)> {
        let buffers = Box::leak(Box::new(Buffers::new()));
        let (mut stack, fetches, _) = Stack::new(buffers, random);
        let wan = Ipv4Cidr::new(Ipv4Address::new(203, 0, 113, 2), 26);
        stack.set_addresses(&[None, Some(wan), None]);
        let mut way = Syns::default();
        for (index, fetch) in fetches.into_iter().enumerate() {
            stack.connect(fetch, ORIGIN).unwrap();
            stack.egress(Instant::from_millis(index as i64), &mut way);
            if index == 0 {
                between(&mut stack);
            }
        }
        assert_eq!(way.0.len(), FETCH_SOCKETS);
        way.0
    }

    #[test]
    fn a8_a_connections_numbers_follow_from_no_earlier_ones() {
        let usual = syns(Random::repeatable(1), |_| {});
        assert_eq!(usual, syns(Random::repeatable(1), |_| {}));
        let stirred = syns(Random::repeatable(1), |stack| stack.absorb(b"a frame came"));
        // All that a stranger has seen is equal, and yet what comes next is not.
        assert_eq!(usual[0], stirred[0]);
        assert!(
            usual[1..]
                .iter()
                .zip(&stirred[1..])
                .all(|(a, b)| a.1 != b.1)
        );
    }

    #[test]
    fn a8_local_ports_go_on_by_random_steps() {
        let mut ports: std::vec::Vec<u16> = syns(Random::repeatable(2), |_| {})
            .iter()
            .map(|syn| syn.0)
            .collect();
        assert!(ports.iter().all(|&port| port >= LOCAL_PORT_FIRST));
        let steps: std::collections::HashSet<u16> = ports
            .windows(2)
            .map(|two| two[1].wrapping_sub(two[0]))
            .collect();
        assert!(steps.len() > FETCH_SOCKETS / 2, "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), FETCH_SOCKETS);
    }
}
