//! Everything of the router that is not forwarding: own sockets, exchanges, peers, lending.
//!
//! The forwarding path shows it segments of flows whose [`Stage`] is not plain, and packets for the
//! router itself; the main loop polls it. It owns no port and no neighbor table: those are lent to
//! each call as a [`RouterWay`].

use smoltcp::time::Instant;
use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

use super::Verdict;
use super::way::RouterWay;
use crate::budget::{EXCHANGES_MAX, Memory, PEER_PORT};
use crate::conntrack::tcp::State;
use crate::conntrack::{self, Direction, EntryId, Follow, Stage, Table};
use crate::counters::Counts;
use crate::exchange::{
    self, ClientSegment, Decision, Ends, ExchangeId, Exchanges, Flow, Outcome, Reply, Shared,
};
use crate::links::LinkId;
use crate::links::lender::{Lender, Terms};
use crate::links::peer::Peer;
use crate::port::{Egress, Port};
use crate::random::Random;
use crate::settings::{Probe, Settings};
use crate::stack::Stack;
use crate::stitch::extents::Pool;
use crate::wire::options::Summary;
use crate::wire::packet::{self, ETHERNET_BYTES, Packet, flags};

crate::counter_stage! {
    /// What the accelerator refused.
    pub(super) enum Counter {
        /// Segments of watched flows whose checksum is wrong.
        BadChecksum = "bad-checksum",
        /// Replies to requests left alone whose end is known: the next request is looked at.
        Followed = "followed",
    }
}

/// Own sockets, exchanges, peers and lending.
pub(super) struct Accelerator<'m> {
    pub(super) stack: Stack<'m>,
    pub(super) pool: Pool<'m>,
    pub(super) peers: &'m mut [Peer],
    pub(super) exchanges: Exchanges<'m>,
    pub(super) lender: Lender<'m>,
    pub(super) counts: Counts<Counter>,
    /// Gives initial sequence numbers of the lender's connections.
    random: Random,
    ident: u16,
    /// The net on the air that sessions of the lender belong to.
    air: Option<Ipv4Cidr>,
}

/// Parts of [`Memory`] that the accelerator borrows.
pub(super) struct AcceleratorParts {
    pub(super) blocks: &'static mut [crate::stitch::Block],
    pub(super) buffers: &'static mut crate::stack::Buffers,
    pub(super) exchanges: &'static mut crate::exchange::Slots,
    pub(super) lender: &'static mut crate::links::lender::Slots,
    pub(super) peers: &'static mut heapless::Vec<Peer, { crate::budget::PEERS_MAX }>,
}

impl Accelerator<'static> {
    pub(super) fn new(parts: AcceleratorParts, mut random: Random) -> Self {
        let boot = random.next_u32();
        let (stack, fetch, peer_sockets) = Stack::new(parts.buffers, random.fork());
        parts.peers.clear();
        for (socket, nat) in peer_sockets {
            // As many sockets as peers.
            let _fits = parts.peers.push(Peer::new(socket, nat, boot)).is_ok();
        }
        let (own, lent) = fetch.split_at(EXCHANGES_MAX);
        Self {
            stack,
            pool: Pool::new(parts.blocks),
            peers: parts.peers.as_mut_slice(),
            exchanges: Exchanges::new(parts.exchanges, own),
            lender: Lender::new(parts.lender, lent, boot),
            counts: Counts::new(),
            ident: random.next_u16(),
            random,
            air: None,
        }
    }
}

/// What each call is lent of the rest of the router.
pub(super) struct Lent<'a, E: Egress> {
    pub(super) table: &'a mut Table,
    pub(super) settings: &'a Settings,
    pub(super) ports: &'a [crate::port::PortAddress; 3],
    pub(super) neighbors: &'a mut crate::neighbor::Neighbors,
    pub(super) out: &'a mut E,
}

impl<E: Egress> Lent<'_, E> {
    fn way<'b>(&'b mut self, ident: &'b mut u16) -> RouterWay<'b, E> {
        RouterWay {
            ports: self.ports,
            neighbors: self.neighbors,
            out: self.out,
            ident,
        }
    }
}

impl<'m> Accelerator<'m> {
    /// Shows a segment of a flow that is not plain; `Some` when it goes no further.
    ///
    /// Conntrack has judged it where [`Self::passes`] says so. Elsewhere it has not yet: in a flow whose response is
    /// stitched the client acknowledges bytes that the origin never sent. The checksum was verified.
    pub(super) fn on_flow_segment<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        packet: &Packet,
        frame: &[u8],
        lent: &mut Lent<'_, E>,
    ) -> Option<Verdict> {
        let tcp = &lent.table.get(id)?.tcp;
        match tcp.stage {
            Stage::Plain => None,
            Stage::Watched => match direction {
                Direction::Original => self.on_watched(now, id, packet, frame, lent),
                Direction::Reply => {
                    // Who speaks first is no HTTP server; but it must be he who speaks.
                    let fits = packet.tcp().is_some_and(|header| {
                        let len = packet.sequence_len();
                        tcp.fits(direction, &tcp.in_origin_view(direction, header, len))
                    });
                    if packet.payload_len() > 0 && fits {
                        self.leave(lent.table, id, exchange::Verdict::NotARequest);
                    }
                    None
                }
            },
            Stage::Asked | Stage::Answered => {
                self.on_followed(now, id, direction, packet, frame, lent)
            }
            Stage::Exchange(exchange) => {
                let decision = self.on_exchange(
                    now,
                    id,
                    ExchangeId::from_index(exchange.0),
                    direction,
                    packet,
                    frame,
                    lent,
                );
                match decision {
                    Decision::Forward => None,
                    Decision::Taken => Some(Verdict::Intercept),
                }
            }
        }
    }

    /// Whether segments of a flow in this stage go on as they are unless something else is decided: conntrack then
    /// judges them before the exchange sees them.
    pub(super) fn passes(&self, stage: Stage, settings: &Settings) -> bool {
        match stage {
            Stage::Plain => false,
            Stage::Watched => settings.accel.probe == Probe::Reply,
            Stage::Asked | Stage::Answered => true,
            Stage::Exchange(exchange) => self.exchanges.passes(ExchangeId::from_index(exchange.0)),
        }
    }

    /// The window field with which a segment of the client goes on, if it is not the client's own.
    ///
    /// An origin that was told of all the room that a client has would send past the place where others go on, and
    /// what was offered cannot be taken back. So until the reply is seen no more is offered than a SYN can say.
    pub(super) fn window_to_origin(
        &self,
        entry: &conntrack::Tcp,
        segment: &packet::Tcp,
        settings: &Settings,
    ) -> Option<u16> {
        if segment.has_any(flags::SYN | flags::RST) {
            return None;
        }
        match entry.stage {
            Stage::Exchange(exchange) => {
                let id = ExchangeId::from_index(exchange.0);
                self.exchanges
                    .window_to_origin(id, segment.ack, segment.window)
            }
            Stage::Asked | Stage::Answered => entry.window_while_followed(segment),
            // The end of the handshake, and what follows it before a request.
            Stage::Plain | Stage::Watched => {
                let is_first = entry.stage == Stage::Watched
                    || (entry.watchable && entry.state == State::SynReceived);
                let shift = entry.window_shift(Direction::Original);
                let wanted = u16::MAX >> shift;
                (is_first && settings.accel.probe == Probe::Reply && segment.window > wanted)
                    .then_some(wanted)
            }
        }
    }

    /// A flow is plain from now on, for another reason than its request's.
    pub(super) fn leave(&mut self, table: &mut Table, id: EntryId, verdict: exchange::Verdict) {
        self.exchanges.note_flow(verdict);
        if let Some(entry) = table.get_mut(id) {
            entry.tcp.stage = Stage::Plain;
            entry.tcp.verdict = verdict;
        }
    }

    /// The client's side of a flow whose next bytes may be a request.
    pub(super) fn on_watched<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        packet: &Packet,
        frame: &[u8],
        lent: &mut Lent<'_, E>,
    ) -> Option<Verdict> {
        let tcp = packet.tcp()?;
        let payload = packet.payload(frame);
        if payload.is_empty() {
            return None;
        }
        let entry = lent.table.get(id)?;
        let key = *entry.key();
        let state = &entry.tcp;
        let seq = tcp.seq.wrapping_sub(state.shift.request_bytes);
        let ack = tcp.ack.wrapping_sub(state.shift.reply_bytes);
        // What a watched flow has had so far is known to its last byte: at first nothing but the handshake.
        let in_order = seq == state.follow.request && ack == state.follow.reply;
        if !in_order
            || !tcp.has(flags::ACK)
            || tcp.has_any(flags::SYN | flags::FIN | flags::RST | flags::URG)
        {
            let verdict = match state.stage {
                Stage::Answered => exchange::Verdict::LostTrack,
                Stage::Plain | Stage::Watched | Stage::Asked | Stage::Exchange(_) => {
                    exchange::Verdict::NotARequest
                }
            };
            self.leave(lent.table, id, verdict);
            return None;
        }
        let wan = lent.ports[Port::Wan.index()].cidr?.address();
        let flow = Flow {
            entry: Some(id),
            ends: Ends {
                client: (key.client, key.client_port),
                origin: (key.remote, key.remote_port),
                wan: (wan, entry.wan_port()),
            },
            request_seq: tcp.seq,
            reply_seq: tcp.ack,
            request_shift: state.shift.request_bytes,
            reply_shift: state.shift.reply_bytes,
            client_mss: state.client.mss,
            origin_mss: state.origin.mss,
            client_window_shift: state.window_shift(Direction::Original),
            origin_window_shift: state.window_shift(Direction::Reply),
            sack: state.sack_permitted(),
            window: tcp.window,
            // What the handshake said, see `window_to_origin`.
            edge: state
                .client
                .limit
                .wrapping_sub(ack)
                .min(u32::from(u16::MAX)),
            verdict: exchange::Verdict::None,
        };
        let peer_is_up = self.peers.iter().any(Peer::is_up);
        let accel = &lent.settings.accel;
        let started = self.exchanges.start(
            now,
            flow,
            payload,
            accel,
            peer_is_up,
            &mut self.stack,
            &mut self.pool,
        );
        let entry = lent.table.get_mut(id)?;
        match started {
            Ok(exchange) => {
                entry.tcp.stage = Stage::Exchange(conntrack::ExchangeId(exchange.index() as u8));
                entry.tcp.verdict = exchange::Verdict::None;
                lent.table.touch(now, id);
                match self.exchanges.passes(exchange) {
                    true => None,
                    false => Some(Verdict::Intercept),
                }
            }
            Err(why) => {
                entry.tcp.verdict = exchange::Verdict::Declined(why);
                Self::follow_request(&mut entry.tcp, payload, why, key.remote_port, accel);
                None
            }
        }
    }

    /// Either side of a flow with an exchange.
    #[expect(clippy::too_many_arguments, reason = "one segment and where it stands")]
    fn on_exchange<E: Egress>(
        &mut self,
        now: Instant,
        id: EntryId,
        exchange: ExchangeId,
        direction: Direction,
        packet: &Packet,
        frame: &[u8],
        lent: &mut Lent<'_, E>,
    ) -> Decision {
        let Some(tcp) = packet.tcp() else {
            return Decision::Forward;
        };
        // What conntrack would refuse of the origin's side must not be believed here (FAULTS A3).
        let fits = lent.table.get(id).is_some_and(|entry| {
            let len = packet.sequence_len();
            let view = entry.tcp.in_origin_view(direction, tcp, len);
            direction == Direction::Original || entry.tcp.fits(direction, &view)
        });
        if !fits {
            return Decision::Forward;
        }
        let Self {
            stack,
            pool,
            peers,
            exchanges,
            ident,
            ..
        } = self;
        let mut shared = Shared { stack, pool, peers };
        let accel = &lent.settings.accel;
        let mut way = RouterWay {
            ports: lent.ports,
            neighbors: lent.neighbors,
            out: lent.out,
            ident,
        };
        let decision = match direction {
            Direction::Original => {
                let options = Summary::of(packet.tcp_options(frame));
                let segment = ClientSegment {
                    seq: tcp.seq,
                    ack: tcp.has(flags::ACK).then_some(tcp.ack),
                    window: tcp.window,
                    fin: tcp.has(flags::FIN),
                    syn: tcp.has(flags::SYN),
                    rst: tcp.has(flags::RST),
                    urg: tcp.has(flags::URG),
                    sack: options.sack_blocks(),
                    payload: packet.payload(frame),
                };
                exchanges.on_client_segment(now, exchange, &segment, accel, &mut shared, &mut way)
            }
            Direction::Reply => {
                let reply = Reply {
                    seq: tcp.seq,
                    ack: tcp.ack,
                    syn: tcp.has(flags::SYN),
                    fin: tcp.has(flags::FIN),
                    rst: tcp.has(flags::RST),
                    payload: packet.payload(frame),
                };
                exchanges.on_origin_segment(now, exchange, reply, accel, &mut shared, &mut way)
            }
        };
        lent.table.touch(now, id);
        self.take_outcomes(now, lent.table);
        decision
    }

    /// Tells conntrack how exchanges ended.
    fn take_outcomes(&mut self, now: Instant, table: &mut Table) {
        while let Some((flow, outcome)) = self.exchanges.poll_outcome() {
            let Some(id) = flow.entry else { continue };
            let Some(entry) = table.get_mut(id) else {
                continue;
            };
            let tcp = &mut entry.tcp;
            tcp.verdict = flow.verdict;
            match outcome {
                Outcome::Passed => tcp.stage = Stage::Plain,
                Outcome::Answered {
                    request_bytes,
                    reply_bytes,
                } => {
                    self.counts.bump(Counter::Followed);
                    let first = flow.request_seq.wrapping_sub(flow.request_shift);
                    let reply = flow.reply_seq.wrapping_sub(flow.reply_shift);
                    tcp.follow = Follow::from(
                        first.wrapping_add(request_bytes),
                        reply.wrapping_add(reply_bytes),
                    );
                    tcp.stage = Stage::Answered;
                }
                Outcome::Plain { request_bytes } => {
                    tcp.client.window = flow.window;
                    // The held bytes have just gone out in the client's name.
                    let first = flow.request_seq.wrapping_sub(flow.request_shift);
                    tcp.client.next = first.wrapping_add(request_bytes);
                    tcp.stage = Stage::Plain;
                }
                Outcome::Resume {
                    request_bytes,
                    reply_bytes,
                } => {
                    tcp.client.window = flow.window;
                    tcp.shift.request_bytes = tcp.shift.request_bytes.wrapping_add(request_bytes);
                    tcp.shift.reply_bytes = tcp.shift.reply_bytes.wrapping_add(reply_bytes);
                    tcp.client.next = flow.request_seq.wrapping_sub(flow.request_shift);
                    tcp.stage = Stage::Watched;
                }
                Outcome::Gone => {
                    tcp.client.window = flow.window;
                    tcp.state = conntrack::tcp::State::Closed;
                    tcp.stage = Stage::Plain;
                }
            }
            table.touch(now, id);
        }
    }

    /// Takes an IP packet for one of the router's own addresses.
    pub(super) fn on_local<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        packet: &Packet,
        frame: &[u8],
        lent: &mut Lent<'_, E>,
    ) {
        let own = lent.ports[Port::Air.index()]
            .cidr
            .map(|cidr| cidr.address());
        let for_lender = port == Port::Air && own == Some(packet.dst);
        if let (Some(tcp), Some(air), true) = (packet.tcp(), own, for_lender)
            && tcp.dst_port == PEER_PORT
        {
            if !packet.transport_checksum_ok(frame) {
                self.counts.bump(Counter::BadChecksum);
                return;
            }
            let isn = self.random.next_u32();
            let terms = terms(lent.settings, lent.ports, air);
            let Self {
                stack,
                pool,
                lender,
                ident,
                ..
            } = self;
            let mut way = RouterWay {
                ports: lent.ports,
                neighbors: lent.neighbors,
                out: lent.out,
                ident,
            };
            let options = packet.tcp_options(frame);
            let payload = packet.payload(frame);
            lender.on_segment(
                now, packet.src, tcp, options, payload, &terms, isn, pool, stack, &mut way,
            );
            return;
        }
        if let Some(bytes) = frame.get(ETHERNET_BYTES..usize::from(packet.ip_end)) {
            self.stack
                .ingress(now, bytes, &mut lent.way(&mut self.ident));
        }
    }

    /// Takes entropy into the numbers that are drawn from now on.
    pub(super) fn absorb(&mut self, bytes: &[u8]) {
        self.random.absorb(bytes);
        self.stack.absorb(bytes);
    }

    /// Drops every exchange, as after a change of address: their flows are gone.
    pub(super) fn forget_all(&mut self, now: Instant) {
        let Self {
            stack,
            pool,
            peers,
            exchanges,
            ..
        } = self;
        exchanges.forget_all(now, &mut Shared { stack, pool, peers });
    }

    /// Takes changed settings over.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        settings: &Settings,
        ports: &[crate::port::PortAddress; 3],
    ) {
        self.stack
            .set_addresses(&ports.each_ref().map(|port| port.cidr));
        let air = ports[Port::Air.index()].cidr;
        if air != self.air {
            // Without an address nobody would run the sessions' timers any more.
            self.air = air;
            self.lender.end_all(&mut self.stack, &mut self.pool);
            for peer in self.peers.iter_mut() {
                peer.end_nat(&mut self.stack);
            }
        }
        for (peer, address) in self.peers.iter_mut().zip(settings.peers) {
            peer.set_address(now, &mut self.stack, address);
            let path = address.map(|address| settings.path_of(address));
            peer.set_path(&mut self.stack, path.unwrap_or_default());
        }
    }

    /// Runs peers, exchanges, lending and sockets.
    pub(super) fn poll<E: Egress>(&mut self, now: Instant, lent: &mut Lent<'_, E>) {
        let Self {
            stack,
            pool,
            peers,
            exchanges,
            lender,
            ident,
            ..
        } = self;
        for index in 0..peers.len() {
            let link = LinkId::peer(index);
            loop {
                let mut body = |id: ExchangeId, offset: u64, bytes: &[u8]| {
                    exchanges.on_body(now, id, link, offset, bytes, pool)
                };
                let Some(event) = peers[index].pump(now, stack, &mut body) else {
                    break;
                };
                exchanges.on_peer_event(now, link, event);
            }
        }
        let mut way = RouterWay {
            ports: lent.ports,
            neighbors: lent.neighbors,
            out: lent.out,
            ident,
        };
        let mut shared = Shared { stack, pool, peers };
        exchanges.poll(now, &lent.settings.accel, &mut shared, &mut way);
        if let Some(cidr) = lent.ports[Port::Air.index()].cidr {
            let terms = terms(lent.settings, lent.ports, cidr.address());
            lender.poll(now, &terms, stack, pool, &mut way);
        }
        stack.egress(now, &mut way);
        self.take_outcomes(now, lent.table);
    }

    /// When [`Self::poll`] must run although nothing came.
    pub(super) fn poll_at(&self, now: Instant) -> Option<Instant> {
        let peers = self.peers.iter().filter_map(Peer::poll_at).min();
        [
            peers,
            self.exchanges.poll_at(now),
            self.lender.poll_at(),
            self.stack.poll_at(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

pub(super) fn terms<'a>(
    settings: &'a Settings,
    ports: &[crate::port::PortAddress; 3],
    air: Ipv4Address,
) -> Terms<'a> {
    Terms {
        peers: &settings.peers,
        accel: &settings.accel,
        own: ports.each_ref().map(|port| port.cidr),
        air,
    }
}

/// What a router borrows of [`Memory`].
pub(super) struct Parts {
    pub(super) accelerator: AcceleratorParts,
    pub(super) conntrack: &'static mut Table,
    pub(super) neighbors: &'static mut crate::neighbor::Neighbors,
    pub(super) log: &'static mut crate::events::Log,
    pub(super) dhcp: &'static mut crate::dhcp::client::Storage,
    pub(super) console: &'static mut crate::console::Console,
    pub(super) dhcp_server: &'static mut crate::dhcp::server::Server,
    pub(super) dns: &'static mut crate::dns::Relay,
    pub(super) fragments: &'static mut super::Fragments,
}

/// Takes [`Memory`] apart.
pub(super) fn parts(memory: &'static mut Memory) -> Parts {
    let Memory {
        blocks,
        blocks_spared,
        buffers,
        exchanges,
        lender,
        peers,
        conntrack,
        neighbors,
        log,
        dhcp,
        console,
        dhcp_server,
        dns,
        fragments,
    } = memory;
    let lent = blocks.len().saturating_sub(*blocks_spared);
    Parts {
        accelerator: AcceleratorParts {
            blocks: &mut blocks[..lent],
            buffers,
            exchanges,
            lender,
            peers,
        },
        conntrack,
        neighbors,
        log,
        dhcp,
        console,
        dhcp_server,
        dns,
        fragments,
    }
}
