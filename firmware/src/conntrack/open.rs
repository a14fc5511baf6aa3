//! How entries come to be: from the LAN, redirected, or from outside.
//!
//! Follows: RFC 4787 REQ-1, REQ-8 and REQ-9, RFC 5382 REQ-1, REQ-3 and REQ-8.
//! Units: addresses and ports.

use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::nat::{Client, MappingId};
use super::{
    ACCOUNT_LENT, ACCOUNT_OUTSIDE, Class, Counter, Entry, EntryId, FlowKey, Protocol, Refused,
    ReplyKey, Stage, Table, Tcp,
};
use crate::budget::{FLOW_STEPS_MAX, INBOUND_PER_FORWARD_MAX, INBOUND_PER_MAPPING_MAX, PEERS_MAX};

/// A port of ours that is open to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Port of ours; not 0, below [`LOCAL_PORT_FIRST`](crate::budget::LOCAL_PORT_FIRST).
    pub wan_port: u16,
    /// Host on the LAN.
    pub client: Ipv4Address,
    /// Its port.
    pub client_port: u16,
}

/// Who opens a flow towards the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Somebody on the WAN: meets the filter.
    Wan,
    /// This LAN host, through our own address: it could reach the other host without us, so there
    /// is no filter; the flow is on its account.
    Hairpin(Ipv4Address),
}

/// What a new entry is made of.
struct New {
    key: FlowKey,
    far: (Ipv4Address, u16),
    wan_port: u16,
    mapping: MappingId,
    account: u16,
    inbound: bool,
    tcp: Option<Tcp>,
}

impl Table {
    /// Makes the entry for a client's first packet; `tcp` is its state after the SYN.
    ///
    /// # Errors
    /// [`Refused`] when there is no room for it; counted.
    pub fn open(
        &mut self,
        now: Instant,
        key: FlowKey,
        tcp: Option<Tcp>,
    ) -> Result<EntryId, Refused> {
        self.open_redirected(now, key, (key.remote, key.remote_port), tcp)
    }

    /// As [`open`](Self::open), for a client that means `key.remote` but shall talk to `far`: it
    /// sees the address and port that it asked for, and `far` is who is asked.
    ///
    /// # Errors
    /// [`Refused`] when there is no room for it; counted.
    pub fn open_redirected(
        &mut self,
        now: Instant,
        key: FlowKey,
        far: (Ipv4Address, u16),
        tcp: Option<Tcp>,
    ) -> Result<EntryId, Refused> {
        debug_assert_eq!(tcp.is_some(), key.protocol == Protocol::Tcp);
        let account = self.hasher.account(key.client);
        let opened = self.try_open(now, key, far, account, tcp);
        self.count(opened, Counter::Opened)
    }

    /// Makes the entry for a neighbour's SYN; `place` is that of the neighbour in the owner's list, below
    /// [`PEERS_MAX`]. `tcp` is no candidate: a lent flow is never read.
    ///
    /// # Errors
    /// [`Refused`] when the neighbour has its share, or there is no room that the owner's flows can spare; counted.
    pub fn open_lent(
        &mut self,
        now: Instant,
        key: FlowKey,
        place: usize,
        tcp: Tcp,
    ) -> Result<EntryId, Refused> {
        debug_assert!(place < PEERS_MAX && tcp.stage == Stage::Plain);
        let account = ACCOUNT_LENT + place.min(PEERS_MAX - 1) as u16;
        let far = (key.remote, key.remote_port);
        let opened = self.try_open(now, key, far, account, Some(tcp));
        self.count(opened, Counter::Opened)
    }

    /// Ends every lent flow whose neighbour is not at the same place of `peers`.
    pub fn end_lent(&mut self, peers: &[Option<Ipv4Address>]) {
        self.remove_where(|_, entry| {
            let place = entry.account.checked_sub(ACCOUNT_LENT).map(usize::from);
            place.is_some_and(|place| peers.get(place) != Some(&Some(entry.key.client)))
        });
    }

    fn try_open(
        &mut self,
        now: Instant,
        key: FlowKey,
        far: (Ipv4Address, u16),
        account: u16,
        tcp: Option<Tcp>,
    ) -> Result<EntryId, Refused> {
        self.make_room(now, account)?;
        let client = Client {
            protocol: key.protocol,
            address: key.client,
            port: key.client_port,
            is_lent: account >= ACCOUNT_LENT,
        };
        let mapped = self.mappings.acquire(&mut self.hasher, client);
        let (mapping, wan_port) = mapped.ok_or(Refused::Port)?;
        let reply_key = ReplyKey {
            remote: far.0,
            remote_port: far.1,
            wan_port,
            protocol: key.protocol,
        };
        if self.find_reply(&reply_key).is_some() {
            // The client talks to the same far end by another name already (I2).
            self.mappings.release(&self.hasher, mapping, false);
            return Err(Refused::Port);
        }
        Ok(self.insert(
            now,
            New {
                key,
                far,
                wan_port,
                mapping,
                account,
                inbound: false,
                tcp,
            },
        ))
    }

    /// Makes the entry for the first packet of somebody outside; `tcp` is its state after the SYN.
    ///
    /// # Errors
    /// [`Refused::Unasked`] when nobody on the LAN wants it; the others when there is no room for
    /// it, counted.
    pub fn open_inbound(
        &mut self,
        now: Instant,
        key: ReplyKey,
        who: Outside,
        tcp: Option<Tcp>,
    ) -> Result<EntryId, Refused> {
        let opened = self.try_open_inbound(now, key, who, tcp);
        self.count(opened, Counter::OpenedInbound)
    }

    fn try_open_inbound(
        &mut self,
        now: Instant,
        key: ReplyKey,
        who: Outside,
        tcp: Option<Tcp>,
    ) -> Result<EntryId, Refused> {
        // An ICMP query from outside is for nobody (RFC 5508 REQ-1 has them from inside only).
        if key.protocol == Protocol::Icmp {
            return Err(Refused::Unasked);
        }
        let door = self
            .mappings
            .door(&self.hasher, key.protocol, key.wan_port)
            .filter(|door| !door.lent)
            .ok_or(Refused::Unasked)?;
        let account = match who {
            Outside::Hairpin(client) => self.hasher.account(client),
            Outside::Wan if door.forward || self.has_sent_to(&key) => ACCOUNT_OUTSIDE,
            Outside::Wan => return Err(Refused::Unasked),
        };
        let flow = FlowKey {
            client: door.client,
            remote: key.remote,
            client_port: door.client_port,
            remote_port: key.remote_port,
            protocol: key.protocol,
        };
        // The same two ends by another port of ours: the client could not tell them apart.
        if self.find(&flow).is_some() {
            return Err(Refused::Inbound);
        }
        let most = if door.forward {
            INBOUND_PER_FORWARD_MAX
        } else {
            INBOUND_PER_MAPPING_MAX
        };
        if door.inbound >= most {
            return Err(Refused::Inbound);
        }
        self.mappings.enter(door.mapping);
        if let Err(refused) = self.make_room(now, account) {
            self.mappings.release(&self.hasher, door.mapping, true);
            return Err(refused);
        }
        Ok(self.insert(
            now,
            New {
                key: flow,
                far: (key.remote, key.remote_port),
                wan_port: key.wan_port,
                mapping: door.mapping,
                account,
                inbound: true,
                tcp,
            },
        ))
    }

    /// Sets the ports that are open to everybody. Flows by a port that is none any more end, and so
    /// do those of a LAN host that had one of the new ports.
    pub fn set_forwards(&mut self, forwards: impl Iterator<Item = Forward>) {
        self.mappings.close_all(&self.hasher);
        for forward in forwards {
            if self.mappings.forward(&self.hasher, &forward) {
                continue;
            }
            let taken = self
                .mappings
                .door(&self.hasher, forward.protocol, forward.wan_port);
            if let Some(taken) = taken.filter(|taken| !taken.forward) {
                self.remove_where(|_, entry| entry.mapping == taken.mapping);
                self.mappings.forward(&self.hasher, &forward);
            }
        }
        self.remove_where(|table, entry| table.mappings.is_closed(entry.mapping));
        self.mappings.forget_closed();
    }

    fn remove_where(&mut self, is_meant: impl Fn(&Self, &Entry) -> bool) {
        for index in 0..self.used {
            let entry = &self.entries[usize::from(index)];
            if entry.class != Class::Free && is_meant(self, entry) {
                self.remove_index(index);
            }
        }
    }

    /// Whether the client behind a port of ours has sent anything from it to this address.
    fn has_sent_to(&self, key: &ReplyKey) -> bool {
        let mut at = self.by_address[self.hasher.address(key)].front();
        for _ in 0..FLOW_STEPS_MAX {
            let Some(index) = at else { return false };
            let entry = &self.entries[usize::from(index)];
            let is_meant = entry.far == key.remote
                && entry.wan_port == key.wan_port
                && entry.key.protocol == key.protocol;
            if is_meant && !(entry.inbound && entry.is_fresh()) {
                return true;
            }
            at = super::List::after(&self.address_links, index);
        }
        false
    }

    fn insert(&mut self, now: Instant, new: New) -> EntryId {
        let index = self.place();
        let entry = &mut self.entries[usize::from(index)];
        let generation = entry.generation;
        *entry = Entry {
            key: new.key,
            far: new.far.0,
            far_port: new.far.1,
            wan_port: new.wan_port,
            mapping: new.mapping,
            account: new.account,
            class: if new.tcp.is_some() {
                Class::Embryo
            } else {
                Class::Single
            },
            inbound: new.inbound,
            last_seen: now,
            tcp: new.tcp.unwrap_or(Tcp::NONE),
            generation,
            ..Entry::FREE
        };
        let (reply_key, deadline) = (entry.reply_key(), now + entry.timeout());
        let (flow, reply) = (self.hasher.flow(&new.key), self.hasher.reply(&reply_key));
        let address = self.hasher.address(&reply_key);
        let entry = &mut self.entries[usize::from(index)];
        entry.next_flow = core::mem::replace(&mut self.by_flow[flow], index + 1);
        entry.next_reply = core::mem::replace(&mut self.by_reply[reply], index + 1);
        self.by_address[address].push_front(&mut self.address_links, index);
        self.wheel.insert(index, deadline);
        self.enlist(index);
        self.len += 1;
        EntryId { index, generation }
    }

    fn count(
        &mut self,
        opened: Result<EntryId, Refused>,
        success: Counter,
    ) -> Result<EntryId, Refused> {
        match opened {
            Ok(_) => self.counts.bump(success),
            Err(Refused::Full) => self.counts.bump(Counter::RefusedFull),
            Err(Refused::Host) => self.counts.bump(Counter::RefusedHost),
            Err(Refused::Port) => self.counts.bump(Counter::RefusedPort),
            Err(Refused::Inbound) => self.counts.bump(Counter::RefusedInbound),
            Err(Refused::Unasked) => {}
        }
        opened
    }
}
