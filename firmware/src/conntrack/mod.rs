//! Who talks to whom: the table of flows, what each stands for on the WAN, and when it ends.
//!
//! Follows: RFC 4787 (UDP), RFC 5382 (TCP), RFC 5508 (ICMP), RFC 7857 (updates to all three);
//! figures in [`budget`](crate::budget). Each requirement, how it is met and which test shows it:
//! the header of `router/tests/requirements.rs`.
//! Units: ports, bytes, [`Duration`]s by name.
//! Budget: about 250 bytes × `FLOWS`, 6 bytes × `FLOW_BUCKETS`; see also [`nat`] and the wheel.
//!
//! An entry joins two pairs of ends: what its client on the LAN says ([`FlowKey`]) and what the
//! far end says ([`ReplyKey`]). They come to be in three ways:
//!
//! | opened by | needs | the client's word for the far end |
//! | --- | --- | --- |
//! | [`open`](Table::open): a LAN host | nothing | its address and port |
//! | [`open_redirected`](Table::open_redirected): a LAN host | nothing | another one, such as ours |
//! | [`open_inbound`](Table::open_inbound): the far end | a port forward, or a mapping whose client has sent to that address before ("address-dependent filtering") | its address and port |
//!
//! A packet from one LAN host to another's port of ours (hairpinning) is two entries, each quite
//! ordinary: out by the first, in by the second.
//!
//! A flow that is lent ([`open_lent`](Table::open_lent)) has a neighbour on the air as its client. It is only ever
//! opened by that neighbour, its port of ours is closed to everybody else, and it is on the account of the
//! neighbour's place in the list; it ends when that place is another's ([`end_lent`](Table::end_lent)).
//!
//! A flow is found in one hash step from either side. Ordinary traffic of an established flow
//! writes into its entry only; lists and the wheel move when a flow changes its class:
//!
//! | class | is | full table: goes … |
//! | --- | --- | --- |
//! | `Over` | TCP in TIME-WAIT or reset | 1. at once, oldest first |
//! | `Embryo` | TCP, half open | 2. whichever of these two is more numerous, if its oldest is older than `FRESH_EVICT_IDLE`; |
//! | `Single` | datagrams without an answer | 4. else after the next row |
//! | `Datagram` | datagrams answered | 3. silent for `DATAGRAM_EVICT_IDLE` |
//! | `Established` | TCP | 5. silent for `TCP_EVICT_IDLE`, never while an exchange runs |
//!
//! When nothing may go, the new flow is refused. A host that has `FLOWS_FRESH_PER_HOST_MAX`
//! unanswered flows loses its own oldest one first, so a flood hits the one who floods, and so does
//! one that has `FLOWS_PER_HOST_MAX` in all (or it gives a silent datagram flow, or is refused); in a
//! flood from many addresses a host with few unanswered flows is passed over. What comes from outside
//! has one share for all (`FLOWS_OUTSIDE_MAX`, `FLOWS_FRESH_OUTSIDE_MAX`) and one for each mapping
//! (`INBOUND_PER_MAPPING_MAX`, `INBOUND_PER_FORWARD_MAX`): a flood through an open port meets
//! itself only.
//!
//! Invariants:
//! - I1 each entry in use is in one bucket of each hash, in one wheel slot, and in the list of its class.
//! - I2 no two entries have the same client side or the same WAN side.
//! - I3 the counts of each account are those of its entries.
//! - I4 each entry in use is in the chain of its port of ours and its far address.
//!
//! Calling order: [`Table::find`] or [`Table::find_reply`]; for a first packet one of the three
//! above; then [`Table::on_tcp`] or [`Table::on_datagram`], and [`Table::on_tcp_fragment`] for what
//! follows a segment's first fragment. [`Table::poll`] when due; [`Table::set_forwards`] at each change.
//!
//! Not done: endpoint-independent filtering, helpers that read payloads (FTP PORT, SIP).

#[cfg(any(test, feature = "check"))]
mod check;
mod evict;
pub mod follow;
mod key;
mod list;
mod nat;
mod open;
pub mod tcp;
mod wheel;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::Ipv4Address;

use crate::budget::{
    DNS_TIMEOUT, FLOW_BUCKETS, FLOW_STEPS_MAX, FLOWS, ICMP_TIMEOUT, LENT_TIMEOUT, PEERS_MAX,
    TCP_ESTABLISHED_TIMEOUT, TCP_HALF_CLOSED_TIMEOUT, TCP_RESET_TIMEOUT, TCP_TRANSITORY_TIMEOUT,
    UDP_TIMEOUT, UDP_UNANSWERED_TIMEOUT,
};
use crate::counter_stage;
use crate::counters::Counts;
use crate::exchange::Verdict;
use crate::random::Random;
use crate::wire::options::Summary;
use crate::wire::packet;

pub use follow::{Follow, Place};
pub use key::{Direction, FlowKey, Protocol, ReplyKey};
pub use open::{Forward, Outside};
pub use tcp::{ExchangeId, Invalid, SeqShift, Side, Stage, Tcp};

use key::Hasher;
use list::{Chain, Links, List};
use nat::{MappingId, Mappings};
use wheel::Wheel;

counter_stage! {
    /// What the flow table did.
    pub enum Counter {
        /// Flows opened.
        Opened = "opened",
        /// Flows that ended by their timeout.
        Expired = "expired",
        /// Ended flows given away in a full table.
        EvictedOver = "evicted-over",
        /// Unanswered flows given away.
        EvictedFresh = "evicted-fresh",
        /// Silent datagram flows given away.
        EvictedDatagram = "evicted-datagram",
        /// Silent connections given away.
        EvictedEstablished = "evicted-established",
        /// New flows refused: table full of active flows.
        RefusedFull = "refused-full",
        /// New flows refused: their host has its share.
        RefusedHost = "refused-host",
        /// New flows refused: no port was free.
        RefusedPort = "refused-port",
        /// New flows from outside refused: their mapping, or the outside as a whole, has its share.
        RefusedInbound = "refused-inbound",
        /// Flows opened from outside.
        OpenedInbound = "opened-inbound",
        /// Segments with impossible control bits.
        InvalidFlags = "invalid-flags",
        /// Segments outside the window.
        InvalidWindow = "invalid-window",
        /// Segments that acknowledge what was not sent.
        InvalidAck = "invalid-ack",
        /// Connections that might have been accelerated and ended without a request.
        EndedUnasked = "ended-without-request",
        /// Connections to a port of `accel.ports` that ended and whose TCP options forbade to look at them.
        EndedUnwatched = "ended-unwatchable",
    }
}

/// Why a new flow was refused; counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Refused {
    /// Every entry belongs to an active flow.
    Full,
    /// The client has its share of the table.
    Host,
    /// No port of ours was free.
    Port,
    /// From outside: the mapping, or the outside as a whole, has its share.
    Inbound,
    /// From outside: nobody asked for it. Not counted here, it is no flow.
    Unasked,
}

/// Names an entry; goes stale when the entry ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, defmt::Format)]
pub struct EntryId {
    index: u16,
    generation: u16,
}

impl EntryId {
    /// The entry's place in the table; below `FLOWS`.
    pub const fn place(self) -> usize {
        self.index as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    Free,
    Over,
    Embryo,
    Single,
    Datagram,
    Established,
}

const CLASSES: usize = 6;

/// One account for each host of a /24, one for all that is outside, and one for each neighbour that borrows. In a larger net two
/// hosts of different /24 may share one; which do is not to be known outside.
const ACCOUNTS: usize = 257 + PEERS_MAX;
/// The account of flows that the far end opened.
const ACCOUNT_OUTSIDE: u16 = 256;
/// The account of the first neighbour's lent flows; those of the others follow.
const ACCOUNT_LENT: u16 = 257;

/// A flow's place in the table.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    key: FlowKey,
    /// The far end as it names itself; the client's word for it is in `key`.
    far: Ipv4Address,
    far_port: u16,
    wan_port: u16,
    /// Next in the bucket by client side, plus one; next free place while free.
    next_flow: u16,
    /// Next in the bucket by WAN side, plus one.
    next_reply: u16,
    generation: u16,
    mapping: MappingId,
    /// Whose share of the table it takes.
    account: u16,
    class: Class,
    /// The far end sent the first packet.
    inbound: bool,
    last_seen: Instant,
    /// State of the connection; meaningful if the protocol is TCP.
    pub tcp: Tcp,
}

impl Entry {
    const FREE: Self = Self {
        key: FlowKey {
            client: Ipv4Address::UNSPECIFIED,
            remote: Ipv4Address::UNSPECIFIED,
            client_port: 0,
            remote_port: 0,
            protocol: Protocol::Tcp,
        },
        far: Ipv4Address::UNSPECIFIED,
        far_port: 0,
        wan_port: 0,
        next_flow: 0,
        next_reply: 0,
        generation: 0,
        mapping: MappingId::NONE,
        account: 0,
        class: Class::Free,
        inbound: false,
        last_seen: Instant::ZERO,
        tcp: Tcp::NONE,
    };

    /// The flow as its client names it.
    #[inline]
    pub const fn key(&self) -> &FlowKey {
        &self.key
    }

    /// Port of ours, or identifier, that stands for the client's.
    #[inline]
    pub const fn wan_port(&self) -> u16 {
        self.wan_port
    }

    /// When its last packet passed.
    pub const fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// The far end's own address and port.
    #[inline]
    pub const fn far(&self) -> (Ipv4Address, u16) {
        (self.far, self.far_port)
    }

    /// The client knows the far end by another address or port than its own.
    #[inline]
    pub fn is_redirected(&self) -> bool {
        self.far_port != self.key.remote_port || self.far != self.key.remote
    }

    /// The far end sent the first packet.
    pub const fn is_inbound(&self) -> bool {
        self.inbound
    }

    /// How [`tcp`](Self::tcp) names this direction: its `client` is who opened the connection.
    #[inline]
    pub const fn tracked(&self, direction: Direction) -> Direction {
        if self.inbound {
            direction.opposite()
        } else {
            direction
        }
    }

    /// Its client is a neighbour on the air that borrows the line.
    #[inline]
    pub const fn is_lent(&self) -> bool {
        self.account >= ACCOUNT_LENT
    }

    /// Nobody has answered yet.
    const fn is_fresh(&self) -> bool {
        matches!(self.class, Class::Embryo | Class::Single)
    }

    const fn reply_key(&self) -> ReplyKey {
        ReplyKey {
            remote: self.far,
            remote_port: self.far_port,
            wan_port: self.wan_port,
            protocol: self.key.protocol,
        }
    }

    /// How long the flow may stay silent.
    fn timeout(&self) -> Duration {
        let timeout = self.timeout_of_class();
        if self.is_lent() {
            timeout.min(LENT_TIMEOUT)
        } else {
            timeout
        }
    }

    fn timeout_of_class(&self) -> Duration {
        match (self.class, self.key.protocol) {
            (Class::Single | Class::Datagram, Protocol::Icmp) => ICMP_TIMEOUT,
            (Class::Single | Class::Datagram, _) if self.far_port == DNS_PORT && !self.inbound => {
                DNS_TIMEOUT
            }
            (Class::Single, _) => UDP_UNANSWERED_TIMEOUT,
            (Class::Datagram, _) => UDP_TIMEOUT,
            (Class::Over | Class::Embryo | Class::Established | Class::Free, _) => {
                match self.tcp.state {
                    tcp::State::SynSent
                    | tcp::State::SynReceived
                    | tcp::State::Closing
                    | tcp::State::TimeWait => TCP_TRANSITORY_TIMEOUT,
                    tcp::State::Established => TCP_ESTABLISHED_TIMEOUT,
                    tcp::State::HalfClosed => TCP_HALF_CLOSED_TIMEOUT,
                    tcp::State::Closed => TCP_RESET_TIMEOUT,
                }
            }
        }
    }

    fn is_pinned(&self) -> bool {
        self.key.protocol == Protocol::Tcp && matches!(self.tcp.stage, Stage::Exchange(_))
    }
}

const DNS_PORT: u16 = 53;

/// All flows.
pub struct Table {
    entries: [Entry; FLOWS],
    by_flow: [u16; FLOW_BUCKETS],
    by_reply: [u16; FLOW_BUCKETS],
    /// Entries by port of ours and far address: whom has the client of a port sent to?
    by_address: [Chain; FLOW_BUCKETS],
    address_links: [Links; FLOWS],
    mappings: Mappings,
    wheel: Wheel,
    classes: [List; CLASSES],
    class_links: [Links; FLOWS],
    /// Entries of each account that are not over.
    live: [u16; ACCOUNTS],
    /// Those of them without an answer yet.
    fresh: [u16; ACCOUNTS],
    hasher: Hasher,
    /// First place that was given back, plus one.
    free: u16,
    /// Places that were ever used.
    used: u16,
    len: u16,
    /// What happened so far.
    pub counts: Counts<Counter>,
}

impl Table {
    /// No flow; all bytes zero. Call [`set_seed`](Self::set_seed) before use.
    pub const EMPTY: Self = Self {
        entries: [Entry::FREE; FLOWS],
        by_flow: [0; FLOW_BUCKETS],
        by_reply: [0; FLOW_BUCKETS],
        by_address: [Chain::EMPTY; FLOW_BUCKETS],
        address_links: [Links::NONE; FLOWS],
        mappings: Mappings::EMPTY,
        wheel: Wheel::EMPTY,
        classes: [List::EMPTY; CLASSES],
        class_links: [Links::NONE; FLOWS],
        live: [0; ACCOUNTS],
        fresh: [0; ACCOUNTS],
        hasher: Hasher::ZERO,
        free: 0,
        used: 0,
        len: 0,
        counts: Counts::new(),
    };

    /// Keys the hashes and the choice of ports; forgets all flows and forwards.
    pub fn set_seed(&mut self, random: Random) {
        self.clear();
        self.set_forwards(core::iter::empty());
        self.hasher = Hasher::new(random);
    }

    /// Takes entropy into the choice of ports; the hashes keep their keys.
    pub fn absorb(&mut self, bytes: &[u8]) {
        self.hasher.random().absorb(bytes);
    }

    /// Flows in the table.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// There is no flow.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry, unless it has ended.
    #[inline]
    pub fn get(&self, id: EntryId) -> Option<&Entry> {
        let entry = self.entries.get(usize::from(id.index))?;
        (entry.generation == id.generation && entry.class != Class::Free).then_some(entry)
    }

    /// The entry, unless it has ended.
    #[inline]
    pub fn get_mut(&mut self, id: EntryId) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(usize::from(id.index))?;
        (entry.generation == id.generation && entry.class != Class::Free).then_some(entry)
    }

    /// All flows, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (EntryId, &Entry)> + '_ {
        self.iter_from(0)
    }

    /// Flows whose place is `first` or behind it, in the order of their places.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = (EntryId, &Entry)> + '_ {
        let used = self.entries.iter().take(usize::from(self.used)).enumerate();
        used.skip(first)
            .filter(|(_, entry)| entry.class != Class::Free)
            .map(|(index, entry)| {
                (
                    EntryId {
                        index: index as u16,
                        generation: entry.generation,
                    },
                    entry,
                )
            })
    }

    /// Finds a flow by what its client sends.
    #[inline]
    pub fn find(&self, key: &FlowKey) -> Option<EntryId> {
        let mut at = self.by_flow[self.hasher.flow(key)];
        while let Some(index) = at.checked_sub(1) {
            let entry = &self.entries[usize::from(index)];
            if entry.key == *key {
                return Some(EntryId {
                    index,
                    generation: entry.generation,
                });
            }
            at = entry.next_flow;
        }
        None
    }

    /// Finds a flow by what its origin sends.
    #[inline]
    pub fn find_reply(&self, key: &ReplyKey) -> Option<EntryId> {
        let mut at = self.by_reply[self.hasher.reply(key)];
        while let Some(index) = at.checked_sub(1) {
            let entry = &self.entries[usize::from(index)];
            if entry.reply_key() == *key {
                return Some(EntryId {
                    index,
                    generation: entry.generation,
                });
            }
            at = entry.next_reply;
        }
        None
    }

    /// Takes a segment of a flow; `len` is its length in sequence space, `options` is called for
    /// SYNs only. Gives the entry as it is afterwards.
    ///
    /// # Errors
    /// [`Invalid`] when it does not belong to the connection (counted) or the entry has ended.
    #[inline]
    pub fn on_tcp(
        &mut self,
        now: Instant,
        id: EntryId,
        direction: Direction,
        tcp: &packet::Tcp,
        len: u32,
        options: impl FnOnce() -> Summary,
    ) -> Result<&Entry, Invalid> {
        let Some(entry) = self.get_mut(id) else {
            return Err(Invalid::Window);
        };
        let before = entry.tcp.state;
        let direction = entry.tracked(direction);
        let segment = entry.tcp.in_origin_view(direction, tcp, len);
        match entry.tcp.on_segment(direction, &segment, options) {
            Ok(()) => {
                entry.last_seen = now;
                entry.tcp.check();
                if entry.tcp.state != before {
                    self.reclassify(now, id.index);
                }
                Ok(&self.entries[usize::from(id.index)])
            }
            Err(invalid) => {
                self.counts.bump(match invalid {
                    Invalid::Flags => Counter::InvalidFlags,
                    Invalid::Window => Counter::InvalidWindow,
                    Invalid::Ack => Counter::InvalidAck,
                });
                Err(invalid)
            }
        }
    }

    /// Takes a later fragment of a segment that was accepted; `end` is the sequence number behind
    /// its last byte, as on the wire.
    ///
    /// # Errors
    /// [`Invalid`] when it lies beyond the window (counted) or the entry has ended.
    pub fn on_tcp_fragment(
        &mut self,
        id: EntryId,
        direction: Direction,
        end: u32,
    ) -> Result<(), Invalid> {
        let entry = self.get_mut(id).ok_or(Invalid::Window)?;
        let (seq_add, _) = match direction {
            Direction::Original => entry.tcp.shift.additions(direction),
            Direction::Reply => (0, 0),
        };
        let taken = entry
            .tcp
            .on_fragment(entry.tracked(direction), end.wrapping_add(seq_add));
        if taken.is_err() {
            self.counts.bump(Counter::InvalidWindow);
        }
        taken
    }

    /// Whether a port of ours stands for a LAN host's.
    pub fn is_mapped(&self, protocol: Protocol, wan_port: u16) -> bool {
        self.mappings
            .door(&self.hasher, protocol, wan_port)
            .is_some()
    }

    /// Takes a datagram or an ICMP echo of a flow.
    #[inline]
    pub fn on_datagram(&mut self, now: Instant, id: EntryId, direction: Direction) {
        let Some(entry) = self.get_mut(id) else {
            return;
        };
        let answered = entry.tracked(direction) == Direction::Reply;
        // RFC 4787 REQ-6: outbound packets refresh, inbound ones may; those of somebody whom the
        // client never answered do not, or he could keep its port for ever.
        if !entry.inbound || answered || entry.class != Class::Single {
            entry.last_seen = now;
        }
        if entry.class == Class::Single && answered {
            self.set_class(now, id.index, Class::Datagram);
        }
    }

    /// Keeps a flow alive that the router answers itself, and takes over a state that was changed
    /// through [`get_mut`](Self::get_mut).
    pub fn touch(&mut self, now: Instant, id: EntryId) {
        if let Some(entry) = self.get_mut(id) {
            entry.last_seen = now;
            if entry.key.protocol == Protocol::Tcp {
                self.reclassify(now, id.index);
            }
        }
    }

    /// Ends flows that were silent for too long; at most [`FLOW_STEPS_MAX`] are looked at.
    pub fn poll(&mut self, now: Instant) {
        for _ in 0..FLOW_STEPS_MAX {
            let Some(index) = self.wheel.take_due(now) else {
                return;
            };
            let entry = &self.entries[usize::from(index)];
            let last_seen = if entry.is_pinned() {
                now
            } else {
                entry.last_seen
            };
            let deadline = last_seen + entry.timeout();
            self.wheel.insert(index, deadline);
            if deadline <= now {
                self.counts.bump(Counter::Expired);
                self.remove_index(index);
            }
        }
    }

    /// When [`poll`](Self::poll) may have something to do.
    #[inline]
    pub fn poll_at(&mut self) -> Option<Instant> {
        self.wheel.next_due()
    }

    /// Ends a flow.
    pub fn remove(&mut self, id: EntryId) {
        if self.get(id).is_some() {
            self.remove_index(id.index);
        }
    }

    /// Ends all flows, as after a change of the WAN address.
    pub fn clear(&mut self) {
        for index in 0..self.used {
            if self.entries[usize::from(index)].class != Class::Free {
                self.remove_index(index);
            }
        }
    }

    fn remove_index(&mut self, index: u16) {
        let entry = self.entries[usize::from(index)];
        if entry.tcp.candidate && entry.tcp.verdict == Verdict::None {
            match entry.tcp.stage {
                Stage::Watched => self.counts.bump(Counter::EndedUnasked),
                Stage::Plain if !entry.tcp.watchable => self.counts.bump(Counter::EndedUnwatched),
                // Never opened, or an address that changed took it away.
                Stage::Plain | Stage::Asked | Stage::Answered | Stage::Exchange(_) => {}
            }
        }
        self.delist(index);
        self.wheel.remove(index);
        let bucket = self.hasher.flow(&entry.key);
        nat::unlink(
            &mut self.by_flow[bucket],
            &mut self.entries,
            index,
            |entry| &mut entry.next_flow,
        );
        let bucket = self.hasher.reply(&entry.reply_key());
        nat::unlink(
            &mut self.by_reply[bucket],
            &mut self.entries,
            index,
            |entry| &mut entry.next_reply,
        );
        let bucket = self.hasher.address(&entry.reply_key());
        self.by_address[bucket].remove(&mut self.address_links, index);
        self.mappings
            .release(&self.hasher, entry.mapping, entry.inbound);
        self.entries[usize::from(index)] = Entry {
            generation: entry.generation.wrapping_add(1),
            next_flow: self.free,
            ..Entry::FREE
        };
        self.free = index + 1;
        self.len -= 1;
    }

    /// A free place; [`make_room`](Self::make_room) saw to it that there is one.
    fn place(&mut self) -> u16 {
        match self.free.checked_sub(1) {
            Some(index) => {
                self.free = self.entries[usize::from(index)].next_flow;
                index
            }
            None => {
                self.used += 1;
                self.used - 1
            }
        }
    }

    /// Moves a connection to the class of its state and sets its deadline anew.
    fn reclassify(&mut self, now: Instant, index: u16) {
        let class = match self.entries[usize::from(index)].tcp.state {
            tcp::State::SynSent | tcp::State::SynReceived => Class::Embryo,
            tcp::State::Established | tcp::State::HalfClosed | tcp::State::Closing => {
                Class::Established
            }
            tcp::State::TimeWait | tcp::State::Closed => Class::Over,
        };
        self.set_class(now, index, class);
    }

    fn set_class(&mut self, now: Instant, index: u16, class: Class) {
        if self.entries[usize::from(index)].class != class {
            self.delist(index);
            self.entries[usize::from(index)].class = class;
            self.enlist(index);
        }
        let deadline = now + self.entries[usize::from(index)].timeout();
        self.wheel.remove(index);
        self.wheel.insert(index, deadline);
    }

    fn enlist(&mut self, index: u16) {
        let (class, account) = self.class_and_account(index);
        self.classes[class as usize].push_back(&mut self.class_links, index);
        self.live[account] += u16::from(class != Class::Over);
        self.fresh[account] += u16::from(matches!(class, Class::Embryo | Class::Single));
    }

    fn delist(&mut self, index: u16) {
        let (class, account) = self.class_and_account(index);
        self.classes[class as usize].remove(&mut self.class_links, index);
        self.live[account] -= u16::from(class != Class::Over);
        self.fresh[account] -= u16::from(matches!(class, Class::Embryo | Class::Single));
    }

    fn class_and_account(&self, index: u16) -> (Class, usize) {
        let entry = &self.entries[usize::from(index)];
        (entry.class, usize::from(entry.account))
    }
}

#[cfg(test)]
mod tests;
