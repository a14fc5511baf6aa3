//! The LAN's DHCP server.
//!
//! Follows: RFC 2131 (sections 4.1 and 4.3), RFC 2132, RFC 3396, RFC 6842.
//! Units: durations; seconds in messages and in what is stored.
//! Budget: one [`Server`] of about 13 KiB, most of it the lease table.
//!
//! Messages are read and written with smoltcp's `DhcpPacket`, which the image holds anyway for the
//! WAN's client. The policy is ours: `edge-dhcp` 0.8, which was to be used, takes the broadcast flag
//! from the wrong bit, refuses messages with pad options, unsplit host names that are no UTF-8 or a
//! missing end marker, reads the address of DHCPRELEASE and DHCPDECLINE from a field that clients
//! leave zero, knows neither client identifiers nor options in pieces or in `file` and `sname`, takes
//! any request for a lease without an offer bound, and when its table is full of ended leases offers
//! addresses that it then refuses for ever.
//!
//! | message | state of the client | answer |
//! | --- | --- | --- |
//! | DISCOVER | no address | OFFER of [an address](leases::Table::choose), kept for `OFFER_TIMEOUT`; none when none is left |
//! | REQUEST naming us | it took our offer | ACK, or NAK when the address has gone meanwhile |
//! | REQUEST naming another | it took another's offer | none; the offer is withdrawn |
//! | REQUEST with option 50 | it has started again | ACK when the address is its own or free, else NAK |
//! | REQUEST with `ciaddr` | it renews or rebinds | the same |
//! | DECLINE | somebody else uses the address | none; the address is put aside for `DECLINED_TIMEOUT` |
//! | RELEASE | it leaves | none; the address is remembered for it |
//! | INFORM | it has an address from elsewhere | ACK without address and lease |
//!
//! This router is the only server of its net, so it also answers clients that it does not know
//! (RFC 2131 section 4.3.2 would have it "remain silent" beside other servers): after a loss of its
//! memory each client keeps its address at once. A message that came through a relay agent is refused.
//!
//! **Scarce addresses.** An offer costs a client nothing, so offers are few, few for each station,
//! and the oldest goes first; a request is granted without its offer while the address is free. A
//! lease that runs is never taken back. A station has a share of leases. When three quarters of
//! the pool are used, clients that were not seen before get [`LEASE_SCARCE`](crate::budget::LEASE_SCARCE)
//! only, until they renew: what a flood of invented clients has taken returns by itself.
//!
//! **Flash.** The table is stored when [`Server::wants_save`] says so: soon after a change, several at
//! once; how often it may be is for the [store](crate::store) alone, which keeps within the endurance. The
//! time left is stored, not the end, since there is no wall clock: a lease never ends here before it
//! ends at its client.
//!
//! Calling order: [`Server::restore`] once; [`Server::on_datagram`]; [`Server::poll`] when
//! [`Server::poll_at`] says so; [`Server::on_settings`] after each change of the LAN's settings.
//!
//! Not done: asking by ARP or ping before an offer (RFC 2131 section 3.1 has a SHOULD; the neighbor
//! table is looked into instead, and clients ask themselves); relay agents; DHCPFORCERENEW. (Names of
//! hosts are answered by [`dns`](crate::dns), from [`Server::address_of_name`].)

mod leases;
mod message;
mod store;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{DhcpMessageType, EthernetAddress, Ipv4Address};

use crate::budget::{
    DECLINED_MAX, LAN_LEASE_SECONDS_MIN, LEASE_SCARCE, LEASES, LEASES_PER_STATION_MAX,
    LEASES_PER_STATION_MIN, OFFERS_MAX,
};
use crate::console::Escaped;
use crate::counter_stage;
use crate::counters::Counts;
use crate::events::{Event, Text};
use crate::port::{Full, Port};
use crate::settings::{Lan, Net, Reservations};
use crate::udp::{Datagram, Outgoing, SendUdp};

use leases::{Asked, Client, Hold, Identity, NoAddress, Table};
use message::{Message, NetOptions, Refused, Reply};
use store::Saving;

pub use store::STORED_VERSION;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

counter_stage! {
    /// What the server did.
    pub enum Counter {
        /// DHCPDISCOVER received.
        Discover = "discover",
        /// Addresses offered.
        Offer = "offer",
        /// DHCPREQUEST received.
        Request = "request",
        /// Leases given or prolonged.
        Ack = "ack",
        /// Requests refused.
        Nak = "nak",
        /// Addresses that a client found in use.
        Decline = "decline",
        /// Leases given back.
        Release = "release",
        /// DHCPINFORM answered.
        Inform = "inform",
        /// Leases that ended without being prolonged.
        Expired = "expired",
        /// Datagrams that are no client's message, or name impossible addresses.
        Malformed = "malformed",
        /// Messages through a relay agent.
        Relayed = "relayed",
        /// Signs of another server on the LAN.
        OtherServer = "other-server",
        /// DHCPRELEASE and DHCPDECLINE of somebody who does not have the address.
        NotOwner = "not-owner",
        /// Clients without an offer because no address was left.
        Full = "full",
        /// Clients without an offer because their station has its share.
        StationFull = "station-full",
        /// Offers given up early for newer ones.
        OfferRecycled = "offer-recycled",
        /// Replies that found no free transmit slot.
        EgressFull = "egress-full",
    }
}

/// The LAN as the server sees it; made from the settings for each call.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The router's address there: server, gateway and resolver.
    pub net: Net,
    /// First and last address that is given.
    pub pool: (Ipv4Address, Ipv4Address),
    /// How long an address is given.
    pub lease: Duration,
    /// Addresses that belong to one host each; those outside the net are nobody's.
    pub reservations: &'a Reservations,
}

impl<'a> Context<'a> {
    /// The settings' part; `None` when no addresses are given.
    pub fn new(lan: &'a Lan) -> Option<Self> {
        Some(Self {
            net: lan.net?,
            pool: lan.pool()?,
            lease: Duration::from_secs(u64::from(lan.lease_seconds)),
            reservations: &lan.reservations,
        })
    }

    fn reserved_for(&self, mac: EthernetAddress) -> Option<Ipv4Address> {
        self.reservations.address_of(mac)
    }

    fn owner_of(&self, address: Ipv4Address) -> Option<EthernetAddress> {
        let mut all = self.reservations.iter();
        all.find(|reservation| reservation.address == address)
            .map(|reservation| EthernetAddress(reservation.mac))
    }

    /// Whether a host other than the router can have the address here.
    fn is_host(&self, address: Ipv4Address) -> bool {
        self.net.has_host(address) && address != self.net.address
    }

    fn is_in_pool(&self, address: Ipv4Address) -> bool {
        (self.pool.0..=self.pool.1).contains(&address)
    }

    /// Whether the address is given to anybody.
    fn is_given(&self, address: Ipv4Address) -> bool {
        let is_given = self.is_in_pool(address) || self.owner_of(address).is_some();
        self.is_host(address) && is_given
    }

    fn may_have(&self, address: Ipv4Address, mac: EthernetAddress) -> bool {
        self.is_given(address) && self.owner_of(address).is_none_or(|owner| owner == mac)
    }

    /// Addresses that can be in use at once.
    fn pool_count(&self) -> usize {
        let (first, last) = self.pool;
        let count = last.to_bits().saturating_sub(first.to_bits());
        LEASES.min(count as usize + 1)
    }

    /// In a small pool a quarter, so that neither offers nor lies fill it.
    fn offers_max(&self) -> usize {
        (self.pool_count() / 4).clamp(1, OFFERS_MAX)
    }

    fn declined_max(&self) -> usize {
        (self.pool_count() / 4).clamp(1, DECLINED_MAX)
    }

    fn station_leases_max(&self) -> usize {
        (self.pool_count() / 4).clamp(LEASES_PER_STATION_MIN, LEASES_PER_STATION_MAX)
    }

    fn options(&self, lease: Option<Duration>) -> NetOptions {
        let cidr = self.net.cidr();
        NetOptions {
            mask: cidr.netmask(),
            broadcast: cidr.broadcast().unwrap_or(Ipv4Address::BROADCAST),
            lease,
        }
    }
}

/// An address and who has it, for the console.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    /// The address.
    pub address: Ipv4Address,
    /// The MAC address that its host named.
    pub mac: EthernetAddress,
    /// The name that its host gave; empty when none.
    pub name: Escaped<'a>,
    /// How it is held.
    pub state: LeaseState,
    /// How long it is still held; zero when it is not.
    pub remaining: Duration,
    /// Whether the address belongs to this host by the settings.
    pub reserved: bool,
}

/// How an address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Offered, not yet asked for.
    Offered,
    /// Leased.
    Bound,
    /// Free, remembered for the host that had it.
    Ended,
    /// Put aside: a client found somebody else using it.
    Declined,
}

impl LeaseState {
    /// Its word on the console.
    pub const fn name(self) -> &'static str {
        match self {
            LeaseState::Offered => "offered",
            LeaseState::Bound => "bound",
            LeaseState::Ended => "ended",
            LeaseState::Declined => "declined",
        }
    }
}

/// The server.
pub struct Server {
    table: Table,
    saving: Saving,
    counts: Counts<Counter>,
}

/// What the server needs of the router besides time: a way to send, and a look at the LAN.
pub trait LanSide: SendUdp {
    /// The station that answers for an address of the LAN, if known. An address in use is not
    /// offered to somebody else.
    fn who_has(&self, address: Ipv4Address) -> Option<EthernetAddress>;
}

/// A message and what is needed to judge it.
#[derive(Clone, Copy)]
struct Call<'a> {
    asked: Asked<'a>,
    message: &'a Message,
}

/// What comes of a message.
#[derive(Default)]
struct Outcome {
    answer: Option<Answer>,
    event: Option<Event>,
}

/// What is said to the client.
struct Answer {
    kind: DhcpMessageType,
    yiaddr: Ipv4Address,
    lease: Option<Duration>,
}

impl Outcome {
    const NOTHING: Self = Self {
        answer: None,
        event: None,
    };

    fn event(event: Event) -> Self {
        Self {
            answer: None,
            event: Some(event),
        }
    }

    fn answer(kind: DhcpMessageType, yiaddr: Ipv4Address, lease: Option<Duration>) -> Self {
        Self {
            answer: Some(Answer {
                kind,
                yiaddr,
                lease,
            }),
            event: None,
        }
    }
}

impl Server {
    /// Knows no client; usable as a static's initial value.
    pub const fn new() -> Self {
        Self {
            table: Table::new(),
            saving: Saving::new(),
            counts: Counts::new(),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts<Counter> {
        &self.counts
    }

    /// Takes a datagram that came in on the LAN for [`SERVER_PORT`]; others are ignored. What the
    /// owner may want to know is returned.
    pub fn on_datagram(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        lan: &Context<'_>,
        side: &mut dyn LanSide,
    ) -> Option<Event> {
        if datagram.port != Port::Lan || datagram.dst_port != SERVER_PORT {
            return None;
        }
        self.poll(now);
        let message = match Message::parse(datagram.payload) {
            Ok(message) => message,
            Err(Refused::Malformed) => return self.count(Counter::Malformed).event,
            Err(Refused::Relayed) => return self.count(Counter::Relayed).event,
            Err(Refused::Reply) => {
                return self.on_other_server(datagram.src, datagram.src_mac).event;
            }
        };
        let asked = Asked {
            now,
            client: Client {
                identity: Identity::of(&message),
                mac: message.chaddr,
                station: datagram.src_mac,
            },
            lan,
            who_has: &|address| side.who_has(address),
        };
        let outcome = self.on_message(Call {
            asked,
            message: &message,
        });
        if cfg!(debug_assertions) {
            self.check();
        }
        if let Some(answer) = outcome.answer
            && send(now, &answer, &message, lan, side).is_err()
        {
            // The client asks again.
            self.counts.bump(Counter::EgressFull);
        }
        outcome.event
    }

    /// Takes changed settings of the LAN: leases that are outside of them go. `None` means that no
    /// addresses are given at present, which ends no lease.
    pub fn on_settings(&mut self, now: Instant, lan: Option<&Context<'_>>) {
        if let Some(lan) = lan
            && self.table.retain(lan)
        {
            self.saving.on_change(now);
        }
    }

    /// Ends what is over.
    pub fn poll(&mut self, now: Instant) {
        let expired = self.table.expire(now);
        self.counts.add(Counter::Expired, u64::from(expired));
        if expired > 0 {
            self.saving.on_change(now);
        }
        self.saving.poll(now);
    }

    /// When something ends, or is to be stored.
    pub fn poll_at(&self) -> Option<Instant> {
        let times = [self.table.poll_at(), self.saving.poll_at()];
        times.into_iter().flatten().min()
    }

    /// The address of the client that calls itself so; letters of either case are the same.
    pub fn address_of_name(&self, name: &[u8]) -> Option<Ipv4Address> {
        let mut rows = self.table.rows().iter();
        rows.find(|row| {
            matches!(row.hold, Hold::Bound { .. })
                && !name.is_empty()
                && row.name.eq_ignore_ascii_case(name)
        })
        .map(|row| row.address)
    }

    /// Who has which address, in the order of addresses.
    pub fn leases<'a>(
        &'a self,
        now: Instant,
        lan: Option<&'a Context<'a>>,
    ) -> impl Iterator<Item = Lease<'a>> {
        let mut after = None;
        core::iter::from_fn(move || {
            let rows = self.table.rows().iter();
            let row = rows
                .filter(|row| after.is_none_or(|after| row.address > after))
                .min_by_key(|row| row.address)?;
            after = Some(row.address);
            let (state, until) = match row.hold {
                Hold::Offered { until } => (LeaseState::Offered, until),
                Hold::Bound { until } => (LeaseState::Bound, until),
                Hold::Ended { .. } => (LeaseState::Ended, now),
                Hold::Aside { until } => (LeaseState::Declined, until),
            };
            Some(Lease {
                address: row.address,
                mac: row.mac,
                name: Escaped(&row.name),
                state,
                remaining: leases::left(now, until),
                reserved: lan.is_some_and(|lan| lan.owner_of(row.address) == Some(row.mac)),
            })
        })
    }

    /// Asserts the invariants of the table.
    pub fn check(&self) {
        self.table.check();
    }

    fn on_message(&mut self, call: Call<'_>) -> Outcome {
        match call.message.kind {
            DhcpMessageType::Discover => self.on_discover(call),
            DhcpMessageType::Request => self.on_request(call),
            DhcpMessageType::Decline => self.on_decline(call),
            DhcpMessageType::Release => self.on_release(call),
            DhcpMessageType::Inform => self.on_inform(call),
            DhcpMessageType::Offer
            | DhcpMessageType::Ack
            | DhcpMessageType::Nak
            | DhcpMessageType::Unknown(_) => self.count(Counter::Malformed),
        }
    }

    fn on_discover(&mut self, call: Call<'_>) -> Outcome {
        self.counts.bump(Counter::Discover);
        let Call { asked, message } = call;
        let chosen = self.table.choose(&asked, message.requested);
        let offered = chosen.and_then(|address| {
            let recycled = self.table.offer(&asked, address, &message.name)?;
            Ok((address, recycled))
        });
        match offered {
            Ok((address, recycled)) => {
                self.counts.add(Counter::OfferRecycled, u64::from(recycled));
                self.counts.bump(Counter::Offer);
                let lease = lease_for(&call, self.is_settled(&asked, address));
                Outcome::answer(DhcpMessageType::Offer, address, Some(lease))
            }
            Err(NoAddress::Full) => self.on_full(&asked),
            Err(NoAddress::StationFull) => self.count(Counter::StationFull),
        }
    }

    fn on_request(&mut self, call: Call<'_>) -> Outcome {
        self.counts.bump(Counter::Request);
        let Call { asked, message } = call;
        if let Some(server) = message.server
            && server != asked.lan.net.address
        {
            self.table.withdraw(&asked);
            return self.on_other_server(server, asked.client.station);
        }
        let selecting = message.server.is_some();
        let ciaddr = Some(message.ciaddr).filter(|address| !address.is_unspecified());
        // RFC 2131 section 4.3.2: the address is 'ciaddr' when renewing, option 50 otherwise.
        let address = if selecting {
            message.requested.or(ciaddr)
        } else {
            ciaddr.or(message.requested)
        };
        let Some(address) = address else {
            return self.count(Counter::Malformed);
        };
        if !self.may_bind(&asked, address, selecting) {
            return self.refuse(&call, address);
        }
        let renewing = ciaddr.is_some() && self.is_bound(&asked, address);
        let settled = renewing || self.is_settled(&asked, address);
        let lease = lease_for(&call, settled);
        let until = asked.now + lease;
        match self
            .table
            .bind(&asked, address, until, settled, &message.name)
        {
            Ok(is_news) => {
                self.counts.bump(Counter::Ack);
                self.saving.on_change(asked.now);
                Outcome {
                    event: is_news.then(|| Event::HostLeased {
                        address,
                        mac: asked.client.mac,
                        name: Text::new(&message.name),
                    }),
                    ..Outcome::answer(DhcpMessageType::Ack, address, Some(lease))
                }
            }
            Err(NoAddress::Full | NoAddress::StationFull) => Outcome {
                event: self.on_full(&asked).event,
                ..self.refuse(&call, address)
            },
        }
    }

    /// Whether the client has the lease of the address.
    fn is_bound(&self, asked: &Asked<'_>, address: Ipv4Address) -> bool {
        self.table.row(address).is_some_and(|row| {
            row.is_of(&asked.client, asked.lan) && matches!(row.hold, Hold::Bound { .. })
        })
    }

    /// Whether the client gets the full time: one that had it before, or addresses are plenty.
    fn is_settled(&self, asked: &Asked<'_>, address: Ipv4Address) -> bool {
        let row = self.table.row(address);
        row.is_some_and(|row| row.settled && row.is_of(&asked.client, asked.lan))
            || !self.table.is_scarce(asked.lan)
    }

    /// Whether a client gets the address that it asks for.
    fn may_bind(&self, asked: &Asked<'_>, address: Ipv4Address, selecting: bool) -> bool {
        let table = &self.table;
        // Its owner has a reserved address waiting: it asks again and gets that.
        let is_awaited = asked
            .lan
            .reserved_for(asked.client.mac)
            .is_some_and(|reserved| {
                reserved != address && table.is_free_for(asked, reserved, false)
            });
        let is_own = table
            .row(address)
            .is_some_and(|row| row.is_of(&asked.client, asked.lan));
        !is_awaited
            && table.is_free_for(asked, address, selecting)
            && (is_own || !table.is_station_full(&asked.client, asked.lan))
    }

    fn refuse(&mut self, call: &Call<'_>, address: Ipv4Address) -> Outcome {
        self.counts.bump(Counter::Nak);
        // A lease on an address that the settings have since given to another host ends here.
        let may_have = call.asked.lan.may_have(address, call.asked.client.mac);
        if !may_have && self.is_owner(call, address) {
            self.table.release(call.asked.now, address);
            self.saving.on_change(call.asked.now);
        }
        Outcome::answer(DhcpMessageType::Nak, Ipv4Address::UNSPECIFIED, None)
    }

    fn on_full(&mut self, asked: &Asked<'_>) -> Outcome {
        self.counts.bump(Counter::Full);
        Outcome::event(Event::PoolFull {
            mac: asked.client.mac,
        })
    }

    fn on_decline(&mut self, call: Call<'_>) -> Outcome {
        let Call { asked, message } = call;
        let Some(address) = message.requested else {
            return self.count(Counter::Malformed);
        };
        if !self.is_owner(&call, address) {
            return self.count(Counter::NotOwner);
        }
        self.counts.bump(Counter::Decline);
        self.table.decline(asked.now, address, asked.lan);
        self.saving.on_change(asked.now);
        Outcome::event(Event::AddressConflict {
            address,
            mac: message.chaddr,
        })
    }

    fn on_release(&mut self, call: Call<'_>) -> Outcome {
        let Call { asked, message } = call;
        if !self.is_owner(&call, message.ciaddr) {
            return self.count(Counter::NotOwner);
        }
        self.counts.bump(Counter::Release);
        self.table.release(asked.now, message.ciaddr);
        self.saving.on_change(asked.now);
        Outcome::NOTHING
    }

    /// Whether the sender gives up an address of its own. Who merely knows the identity of
    /// another host is betrayed by the station that sent the frame.
    fn is_owner(&self, call: &Call<'_>, address: Ipv4Address) -> bool {
        let Call { asked, message } = call;
        let is_for_us = message
            .server
            .is_none_or(|server| server == asked.lan.net.address);
        let row = self.table.row(address);
        is_for_us
            && row.is_some_and(|row| {
                row.is_of(&asked.client, asked.lan)
                    && row.station == asked.client.station
                    && !matches!(row.hold, Hold::Ended { .. })
            })
    }

    fn on_inform(&mut self, call: Call<'_>) -> Outcome {
        // RFC 2131 section 4.3.5: the reply goes to 'ciaddr', which must be one of this net.
        if !call.asked.lan.is_host(call.message.ciaddr) {
            return self.count(Counter::Malformed);
        }
        self.counts.bump(Counter::Inform);
        Outcome::answer(DhcpMessageType::Ack, Ipv4Address::UNSPECIFIED, None)
    }

    fn on_other_server(&mut self, address: Ipv4Address, mac: EthernetAddress) -> Outcome {
        self.counts.bump(Counter::OtherServer);
        Outcome::event(Event::OtherServer { address, mac })
    }

    fn count(&mut self, counter: Counter) -> Outcome {
        self.counts.bump(counter);
        Outcome::NOTHING
    }
}

/// Sends an answer where RFC 2131 section 4.1 has it go.
fn send(
    now: Instant,
    answer: &Answer,
    message: &Message,
    lan: &Context<'_>,
    side: &mut dyn LanSide,
) -> Result<(), Full> {
    let is_nak = answer.kind == DhcpMessageType::Nak;
    let is_inform = message.kind == DhcpMessageType::Inform;
    let (dst, mac) = if !is_nak && (is_inform || message.ciaddr == answer.yiaddr) {
        // It answers ARP at 'ciaddr'. Any other 'ciaddr' is not believed.
        (message.ciaddr, None)
    } else if is_nak || message.broadcast {
        // "In all cases, when 'giaddr' is zero, the server broadcasts any DHCPNAK messages"
        (Ipv4Address::BROADCAST, Some(EthernetAddress::BROADCAST))
    } else {
        (answer.yiaddr, Some(message.chaddr))
    };
    let reply = Reply {
        kind: answer.kind,
        to: message,
        router: lan.net.address,
        yiaddr: answer.yiaddr,
        net: (!is_nak).then(|| lan.options(answer.lease)),
    };
    let options = reply.options();
    let to = Outgoing {
        port: Port::Lan,
        src: lan.net.address,
        src_port: SERVER_PORT,
        dst,
        dst_port: CLIENT_PORT,
        mac,
    };
    side.send_udp(now, &to, options.payload_bytes(), &mut |payload| {
        reply.write(&options, payload);
    })
}

/// How long the client gets an address: what it asks for, at most what is set.
fn lease_for(call: &Call<'_>, settled: bool) -> Duration {
    let longest = if settled {
        call.asked.lan.lease
    } else {
        call.asked.lan.lease.min(LEASE_SCARCE)
    };
    call.message.lease_seconds.map_or(longest, |seconds| {
        let seconds = seconds.max(LAN_LEASE_SECONDS_MIN);
        Duration::from_secs(u64::from(seconds)).min(longest)
    })
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
