//! Our own ARP: who has which address on each port, and what waits for the answer.
//!
//! Follows: RFC 826 (ARP), RFC 1122 section 2.3.2 (ageing, one request a second, saved packets),
//! RFC 5227 section 2.4 (defence of the own address is an ordinary reply).
//! Units: bytes; times in the constants' names.
//! Budget: `NEIGHBORS` × 32 bytes, `HELD_FRAMES` × 1.5 KiB.
//!
//! | state | input | next |
//! | --- | --- | --- |
//! | `Empty` | a packet for the address | `Asking`, broadcast |
//! | `Empty` | a request to us from the address | `Known` |
//! | `Asking` | an answer, or a request to us | `Known`, held frames leave |
//! | `Asking` | [`ARP_ASK_INTERVAL`] without answer | `Asking`; after [`ARP_ASKS_MAX`] `Empty`, held frames are dropped |
//! | `Known` | [`NEIGHBOR_REFRESH_AFTER`], and it was used | `Verifying`, still used |
//! | `Known` | [`NEIGHBOR_REFRESH_AFTER`], never used | `Empty` |
//! | `Known` | somebody else claims the address | `Verifying`; the claim is not believed |
//! | `Verifying` | the known neighbor answers | `Known` |
//! | `Verifying` | silence | asked alone [`ARP_UNICAST_ASKS`] times, then all are asked and any answer counts; after [`ARP_ASKS_MAX`] more `Empty` |
//!
//! So an unsolicited answer never replaces an entry while its owner still answers, and a neighbor
//! that changed its hardware is found again within [`NEIGHBOR_REFRESH_AFTER`] and a few seconds.
//!
//! Invariants:
//! - I1 no address stands in two slots of one port.
//! - I2 every slot that is not `Empty` falls due no earlier than `due`.
//! - I3 every held frame waits for a slot in state `Asking`.
//!
//! Calling order: [`next_hop`], [`Neighbors::lookup`], and when that knows nothing
//! [`Neighbors::hold`]; [`Neighbors::on_arp`] for each ARP frame; [`Neighbors::poll`] when
//! [`Neighbors::poll_at`] says so.

use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Address};

use crate::budget::{
    ARP_ASK_INTERVAL, ARP_ASKS_MAX, ARP_NEW_ASKS_PER_INTERVAL, ARP_UNICAST_ASKS, FRAME_BYTES_MAX,
    HELD_FRAMES, HELD_FRAMES_EACH, NEIGHBOR_REFRESH_AFTER, NEIGHBOR_SETS, NEIGHBOR_WAYS,
};
use crate::counter_stage;
use crate::counters::Counts;
use crate::port::{Egress, Port, PortAddress};
use crate::wire::packet::{ETHERNET_BYTES, ETHERTYPE_ARP, Ethernet};

/// Length of an ARP frame for Ethernet and IPv4; the driver pads it.
pub const ARP_FRAME_BYTES: usize = ETHERNET_BYTES + 28;

counter_stage! {
    /// What the neighbor table did.
    pub enum Counter {
        /// Requests sent.
        RequestSent = "request-sent",
        /// Replies sent.
        ReplySent = "reply-sent",
        /// Entries learned or confirmed.
        Learned = "learned",
        /// Frames held until an answer comes.
        Held = "held",
        /// Held frames that left.
        Released = "released",
        /// Frames refused because the store, or this neighbor's share of it, is full.
        HoldFull = "hold-full",
        /// Frames refused because no slot or no question was free for their neighbor.
        TableFull = "table-full",
        /// Held frames dropped because nobody answered.
        Unanswered = "unanswered",
        /// ARP frames that are no ARP for Ethernet and IPv4, or come from impossible addresses.
        Malformed = "malformed",
        /// Answers nobody asked for; ignored.
        Unsolicited = "unsolicited",
        /// Claims of another station on a known address; verified, not believed.
        Claimed = "claimed",
        /// Somebody else uses our own address.
        Conflict = "conflict",
        /// Frames that found no free transmit slot.
        EgressFull = "egress-full",
    }
}

/// Where a packet to `dst` goes next on this port: itself when on the port's net, else the
/// gateway. `None` when there is no way.
#[inline]
pub fn next_hop(address: &PortAddress, dst: Ipv4Address) -> Option<Ipv4Address> {
    match &address.cidr {
        Some(cidr) if cidr.contains_addr(&dst) => Some(dst),
        Some(_) | None => address.gateway,
    }
}

/// A next hop: the port, how it is addressed, and the neighbor there.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The port by which the frame leaves.
    pub port: Port,
    /// The port's own address.
    pub own: &'a PortAddress,
    /// The neighbor that takes the frame, see [`next_hop`].
    pub address: Ipv4Address,
}

/// The frame could not be held; it is dropped, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub struct Refused;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    /// Nothing is known; so many broadcasts left.
    Asking {
        asked: u8,
    },
    Known {
        used: bool,
    },
    /// The known address is used while its owner is asked again.
    Verifying {
        asked: u8,
    },
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    due: Instant,
    address: u32,
    mac: [u8; 6],
    port: Port,
    state: State,
}

impl Slot {
    const EMPTY: Self = Self {
        due: Instant::ZERO,
        address: 0,
        mac: [0; 6],
        port: Port::Lan,
        state: State::Empty,
    };

    fn is(&self, port: Port, address: u32) -> bool {
        self.address == address && self.port == port && self.state != State::Empty
    }
}

#[derive(Clone, Copy)]
struct Held {
    frame: [u8; FRAME_BYTES_MAX],
    /// 0 when the place is free.
    len: u16,
    /// Order of arrival, wrapping.
    serial: u16,
    hop: u32,
    port: Port,
}

/// The neighbor table of all ports and the store of frames that wait.
pub struct Neighbors {
    sets: [[Slot; NEIGHBOR_WAYS]; NEIGHBOR_SETS],
    held: [Held; HELD_FRAMES],
    serial: u16,
    /// Earliest moment at which a slot may be due.
    due: Instant,
    active: bool,
    /// Questions for new addresses since `asks_since`.
    new_asks: u8,
    asks_since: Instant,
    /// What happened so far.
    pub counts: Counts<Counter>,
}

impl Default for Neighbors {
    fn default() -> Self {
        Self::new()
    }
}

impl Neighbors {
    /// Knows nobody; all bytes zero.
    pub const fn new() -> Self {
        const FREE: Held = Held {
            frame: [0; FRAME_BYTES_MAX],
            len: 0,
            serial: 0,
            hop: 0,
            port: Port::Lan,
        };
        Self {
            sets: [[Slot::EMPTY; NEIGHBOR_WAYS]; NEIGHBOR_SETS],
            held: [FREE; HELD_FRAMES],
            serial: 0,
            due: Instant::ZERO,
            active: false,
            new_asks: 0,
            asks_since: Instant::ZERO,
            counts: Counts::new(),
        }
    }

    /// Forgets all neighbors of a port and what waits for them, as after a change of its address.
    pub fn forget(&mut self, port: Port) {
        for slot in self.sets.iter_mut().flatten() {
            if slot.port == port {
                slot.state = State::Empty;
            }
        }
        for held in self.held.iter_mut().filter(|held| held.port == port) {
            held.len = 0;
        }
    }

    /// The hardware address of a neighbor, if known.
    #[inline]
    pub fn lookup(&mut self, port: Port, hop: Ipv4Address) -> Option<EthernetAddress> {
        let address = u32::from_ne_bytes(hop.octets());
        let slot = self.sets[set_of(address)]
            .iter_mut()
            .find(|slot| slot.is(port, address))?;
        match &mut slot.state {
            State::Known { used } => *used = true,
            State::Verifying { .. } => {}
            State::Empty | State::Asking { .. } => return None,
        }
        Some(EthernetAddress(slot.mac))
    }

    /// The hardware address of a neighbor, if known; unlike [`lookup`](Self::lookup) it does not
    /// count as a use.
    pub fn peek(&self, port: Port, address: Ipv4Address) -> Option<EthernetAddress> {
        let address = u32::from_ne_bytes(address.octets());
        let mut set = self.sets[set_of(address)].iter();
        let slot = set.find(|slot| slot.is(port, address))?;
        match slot.state {
            State::Known { .. } | State::Verifying { .. } => Some(EthernetAddress(slot.mac)),
            State::Empty | State::Asking { .. } => None,
        }
    }

    /// Keeps a frame of `len` bytes, written by `fill` except for its Ethernet destination, until
    /// the hop is known, and asks for it. Source address and ethertype are the caller's.
    ///
    /// # Errors
    /// [`Refused`] when there is no room; `fill` was not called, the reason is counted.
    pub fn hold<E: Egress>(
        &mut self,
        now: Instant,
        hop: &Hop<'_>,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
        out: &mut E,
    ) -> Result<(), Refused> {
        let Hop { port, own, address } = *hop;
        let address = u32::from_ne_bytes(address.octets());
        let waiting = self
            .held
            .iter()
            .filter(|held| held.len != 0 && held.hop == address && held.port == port)
            .count();
        let place = self.held.iter().position(|held| held.len == 0);
        let (Some(place), true) = (
            place,
            waiting < HELD_FRAMES_EACH && len <= FRAME_BYTES_MAX && len > ETHERNET_BYTES,
        ) else {
            self.counts.bump(Counter::HoldFull);
            return Err(Refused);
        };
        if !self.ask_for(now, port, own, address, out) {
            self.counts.bump(Counter::TableFull);
            return Err(Refused);
        }
        self.serial = self.serial.wrapping_add(1);
        let held = &mut self.held[place];
        fill(&mut held.frame[..len]);
        held.len = len as u16;
        held.serial = self.serial;
        held.hop = address;
        held.port = port;
        self.counts.bump(Counter::Held);
        Ok(())
    }

    /// Takes an ARP frame; answers a request for the port's own address.
    pub fn on_arp<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        own: &PortAddress,
        frame: &[u8],
        out: &mut E,
    ) {
        let (Some(arp), Some(cidr)) = (Arp::parse(frame), own.cidr) else {
            self.counts.bump(Counter::Malformed);
            return;
        };
        let sender = Ipv4Address::from(arp.sender.to_ne_bytes());
        let own_address = u32::from_ne_bytes(cidr.address().octets());
        if arp.sender_mac[0] & 1 != 0 || arp.sender_mac == [0; 6] || arp.sender_mac == own.mac.0 {
            self.counts.bump(Counter::Malformed);
            return;
        }
        if arp.sender == own_address {
            self.counts.bump(Counter::Conflict);
            return;
        }
        let to_us = arp.target == own_address;
        let is_probe = sender.is_unspecified();
        // A gateway outside the net is a host on the link all the same (leases of /32 have one).
        let is_possible = is_probe
            || own.gateway == Some(sender)
            || (cidr.contains_addr(&sender) && is_host(&cidr, sender));
        if !is_possible {
            self.counts.bump(Counter::Malformed);
            return;
        }
        if !is_probe {
            self.hear(now, port, own, &arp, to_us, out);
        }
        if to_us && arp.operation == REQUEST {
            let sent = out.transmit(port, ARP_FRAME_BYTES, |frame| {
                emit(
                    frame,
                    REPLY,
                    own.mac.0,
                    own_address,
                    arp.sender_mac,
                    arp.sender_mac,
                    arp.sender,
                )
            });
            self.counts.bump(if sent.is_ok() {
                Counter::ReplySent
            } else {
                Counter::EgressFull
            });
        }
    }

    /// Asks again where it is due, and gives up where nobody answered.
    pub fn poll<E: Egress>(&mut self, now: Instant, own: &[PortAddress; 3], out: &mut E) {
        if !self.active || now < self.due {
            return;
        }
        let mut due = None;
        for set in 0..NEIGHBOR_SETS {
            for way in 0..NEIGHBOR_WAYS {
                if self.sets[set][way].state != State::Empty && self.sets[set][way].due <= now {
                    self.on_due(now, set, way, own, out);
                }
                let slot = &self.sets[set][way];
                if slot.state != State::Empty {
                    due = Some(due.map_or(slot.due, |due: Instant| due.min(slot.due)));
                }
            }
        }
        self.active = due.is_some();
        self.due = due.unwrap_or(Instant::ZERO);
        self.check();
    }

    /// When [`poll`](Self::poll) has something to do.
    pub fn poll_at(&self) -> Option<Instant> {
        self.active.then_some(self.due)
    }

    /// Asserts the invariants of the module header; in debug builds only.
    pub fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        for (index, set) in self.sets.iter().enumerate() {
            for (way, slot) in set.iter().enumerate() {
                if slot.state == State::Empty {
                    continue;
                }
                assert_eq!(set_of(slot.address), index);
                assert!(
                    !set[..way]
                        .iter()
                        .any(|other| other.is(slot.port, slot.address)),
                    "I1"
                );
                assert!(self.active && slot.due >= self.due, "I2");
            }
        }
        for held in self.held.iter().filter(|held| held.len != 0) {
            let slot = self.sets[set_of(held.hop)]
                .iter()
                .find(|slot| slot.is(held.port, held.hop));
            assert!(
                matches!(slot.map(|slot| slot.state), Some(State::Asking { .. })),
                "I3"
            );
        }
    }

    /// Lets `slot.due` be noticed.
    fn wake(&mut self, at: Instant) {
        self.due = if self.active { self.due.min(at) } else { at };
        self.active = true;
    }

    /// Makes sure that `address` is being asked for; false when there is no slot or no question left.
    fn ask_for<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        own: &PortAddress,
        address: u32,
        out: &mut E,
    ) -> bool {
        let set = set_of(address);
        if let Some(slot) = self.sets[set].iter().find(|slot| slot.is(port, address)) {
            return matches!(slot.state, State::Asking { .. });
        }
        if now >= self.asks_since + ARP_ASK_INTERVAL {
            self.asks_since = now;
            self.new_asks = 0;
        }
        if self.new_asks >= ARP_NEW_ASKS_PER_INTERVAL {
            return false;
        }
        let Some(way) = self.victim(set) else {
            return false;
        };
        self.new_asks += 1;
        self.release_failed(
            self.sets[set][way].port,
            self.sets[set][way].address,
            self.sets[set][way].state,
        );
        let due = now + ARP_ASK_INTERVAL;
        self.sets[set][way] = Slot {
            due,
            address,
            mac: [0; 6],
            port,
            state: State::Asking { asked: 1 },
        };
        self.wake(due);
        self.request(port, own, address, BROADCAST, out);
        true
    }

    /// The slot of a set that may be given away: empty, else unused, else asking; oldest first.
    fn victim(&self, set: usize) -> Option<usize> {
        let rank = |slot: &Slot| match slot.state {
            State::Empty => Some(0u8),
            State::Known { used: false } => Some(1),
            State::Asking { .. } => Some(2),
            State::Known { used: true } | State::Verifying { .. } => None,
        };
        let candidates = self.sets[set].iter().enumerate();
        candidates
            .filter_map(|(way, slot)| Some((rank(slot)?, slot.due, way)))
            .min()
            .map(|(_, _, way)| way)
    }

    /// Learns from the sender of an ARP frame, as far as it may.
    fn hear<E: Egress>(
        &mut self,
        now: Instant,
        port: Port,
        own: &PortAddress,
        arp: &Arp,
        to_us: bool,
        out: &mut E,
    ) {
        let set = set_of(arp.sender);
        let Some(way) = self.sets[set]
            .iter()
            .position(|slot| slot.is(port, arp.sender))
        else {
            // "If it does not have an entry and is the target": a request to us announces traffic.
            if to_us && arp.operation == REQUEST {
                if let Some(way) = self.victim(set) {
                    let old = self.sets[set][way];
                    self.release_failed(old.port, old.address, old.state);
                    self.learn(now, set, way, port, arp);
                } else {
                    self.counts.bump(Counter::TableFull);
                }
            } else {
                self.counts.bump(Counter::Unsolicited);
            }
            return;
        };
        let slot = self.sets[set][way];
        let same = slot.mac == arp.sender_mac;
        match slot.state {
            State::Asking { .. } if to_us => {
                self.learn(now, set, way, port, arp);
                self.release(port, arp.sender, arp.sender_mac, out);
            }
            State::Known { used } if same => {
                if to_us && arp.operation == REQUEST {
                    self.learn(now, set, way, port, arp);
                    self.sets[set][way].state = State::Known { used };
                }
            }
            State::Verifying { .. } if same && to_us => self.learn(now, set, way, port, arp),
            State::Verifying { asked }
                if asked > ARP_UNICAST_ASKS && to_us && arp.operation == REPLY =>
            {
                self.learn(now, set, way, port, arp);
            }
            State::Known { .. } => {
                self.counts.bump(Counter::Claimed);
                self.verify(now, set, way, own, out);
            }
            State::Verifying { .. } if same => {}
            State::Verifying { .. } => self.counts.bump(Counter::Claimed),
            State::Asking { .. } | State::Empty => self.counts.bump(Counter::Unsolicited),
        }
    }

    fn learn(&mut self, now: Instant, set: usize, way: usize, port: Port, arp: &Arp) {
        let due = now + NEIGHBOR_REFRESH_AFTER;
        self.sets[set][way] = Slot {
            due,
            address: arp.sender,
            mac: arp.sender_mac,
            port,
            state: State::Known { used: false },
        };
        self.wake(due);
        self.counts.bump(Counter::Learned);
    }

    /// Asks the known neighbor whether it is still there.
    fn verify<E: Egress>(
        &mut self,
        now: Instant,
        set: usize,
        way: usize,
        own: &PortAddress,
        out: &mut E,
    ) {
        let slot = &mut self.sets[set][way];
        slot.state = State::Verifying { asked: 1 };
        slot.due = now + ARP_ASK_INTERVAL;
        let (port, address, mac, due) = (slot.port, slot.address, slot.mac, slot.due);
        self.wake(due);
        self.request(port, own, address, mac, out);
    }

    fn on_due<E: Egress>(
        &mut self,
        now: Instant,
        set: usize,
        way: usize,
        own: &[PortAddress; 3],
        out: &mut E,
    ) {
        let slot = self.sets[set][way];
        let own = &own[slot.port.index()];
        let again = |asked: u8, state: State| {
            (
                Slot {
                    due: now + ARP_ASK_INTERVAL,
                    state,
                    ..slot
                },
                if asked < ARP_UNICAST_ASKS {
                    slot.mac
                } else {
                    BROADCAST
                },
            )
        };
        let (next, to) = match slot.state {
            State::Empty => return,
            State::Known { used: true } => return self.verify(now, set, way, own, out),
            State::Known { used: false } => {
                self.sets[set][way].state = State::Empty;
                return;
            }
            State::Asking { asked } if asked < ARP_ASKS_MAX => {
                again(u8::MAX, State::Asking { asked: asked + 1 })
            }
            State::Verifying { asked } if asked < ARP_UNICAST_ASKS + ARP_ASKS_MAX => {
                again(asked, State::Verifying { asked: asked + 1 })
            }
            State::Asking { .. } | State::Verifying { .. } => {
                self.sets[set][way].state = State::Empty;
                return self.release_failed(slot.port, slot.address, slot.state);
            }
        };
        self.sets[set][way] = next;
        self.request(slot.port, own, slot.address, to, out);
    }

    fn request<E: Egress>(
        &mut self,
        port: Port,
        own: &PortAddress,
        address: u32,
        to: [u8; 6],
        out: &mut E,
    ) {
        let Some(cidr) = own.cidr else { return };
        let sender = u32::from_ne_bytes(cidr.address().octets());
        let target_mac = if to == BROADCAST { [0; 6] } else { to };
        let sent = out.transmit(port, ARP_FRAME_BYTES, |frame| {
            emit(frame, REQUEST, own.mac.0, sender, to, target_mac, address)
        });
        self.counts.bump(if sent.is_ok() {
            Counter::RequestSent
        } else {
            Counter::EgressFull
        });
    }

    /// Sends what waited for `address`, in the order in which it came.
    fn release<E: Egress>(&mut self, port: Port, address: u32, mac: [u8; 6], out: &mut E) {
        for _ in 0..HELD_FRAMES {
            let newest = self.serial;
            let waiting = self
                .held
                .iter_mut()
                .filter(|held| held.len != 0 && held.hop == address && held.port == port);
            let Some(held) = waiting.max_by_key(|held| newest.wrapping_sub(held.serial)) else {
                return;
            };
            let frame = &mut held.frame[..usize::from(held.len)];
            frame[0..6].copy_from_slice(&mac);
            let sent = out.transmit(port, frame.len(), |slot| slot.copy_from_slice(frame));
            held.len = 0;
            self.counts.bump(if sent.is_ok() {
                Counter::Released
            } else {
                Counter::EgressFull
            });
        }
    }

    /// Drops what waited for an address that was being asked for.
    fn release_failed(&mut self, port: Port, address: u32, state: State) {
        if !matches!(state, State::Asking { .. }) {
            return;
        }
        for held in self
            .held
            .iter_mut()
            .filter(|held| held.len != 0 && held.hop == address && held.port == port)
        {
            held.len = 0;
            self.counts.bump(Counter::Unanswered);
        }
    }
}

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const BROADCAST: [u8; 6] = [0xFF; 6];

/// The set of an address: its four bytes added up, so that neighbors of one net, which differ in
/// the last bytes, spread over all sets. Whoever fills a set on purpose is a neighbor already.
#[inline]
fn set_of(address: u32) -> usize {
    let folded = address ^ (address >> 16);
    ((folded ^ (folded >> 8)) & (NEIGHBOR_SETS as u32 - 1)) as usize
}

const _: () = assert!(NEIGHBOR_SETS.is_power_of_two() && NEIGHBOR_SETS <= 256);

/// Neither the net's own address nor its broadcast (nets of 31 and 32 bits have neither).
fn is_host(cidr: &smoltcp::wire::Ipv4Cidr, address: Ipv4Address) -> bool {
    cidr.prefix_len() >= 31
        || (address != cidr.network().address() && Some(address) != cidr.broadcast())
}

/// An ARP packet for Ethernet and IPv4; addresses in the machine's order.
struct Arp {
    operation: u16,
    sender_mac: [u8; 6],
    sender: u32,
    target: u32,
}

impl Arp {
    fn parse(frame: &[u8]) -> Option<Self> {
        let arp = frame.get(ETHERNET_BYTES..)?.first_chunk::<28>()?;
        // Hardware Ethernet, protocol IPv4, lengths 6 and 4.
        let [
            0,
            1,
            8,
            0,
            6,
            4,
            o0,
            o1,
            m0,
            m1,
            m2,
            m3,
            m4,
            m5,
            s0,
            s1,
            s2,
            s3,
            _,
            _,
            _,
            _,
            _,
            _,
            t0,
            t1,
            t2,
            t3,
        ] = *arp
        else {
            return None;
        };
        let operation = u16::from_be_bytes([o0, o1]);
        (operation == REQUEST || operation == REPLY).then_some(Self {
            operation,
            sender_mac: [m0, m1, m2, m3, m4, m5],
            sender: u32::from_ne_bytes([s0, s1, s2, s3]),
            target: u32::from_ne_bytes([t0, t1, t2, t3]),
        })
    }
}

fn emit(
    frame: &mut [u8],
    operation: u16,
    own_mac: [u8; 6],
    own: u32,
    to: [u8; 6],
    target_mac: [u8; 6],
    target: u32,
) {
    Ethernet {
        dst: EthernetAddress(to),
        src: EthernetAddress(own_mac),
        ethertype: ETHERTYPE_ARP,
    }
    .emit(frame);
    let Some(arp) = frame
        .get_mut(ETHERNET_BYTES..)
        .and_then(|arp| arp.first_chunk_mut::<28>())
    else {
        return;
    };
    arp[0..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    arp[6..8].copy_from_slice(&operation.to_be_bytes());
    arp[8..14].copy_from_slice(&own_mac);
    arp[14..18].copy_from_slice(&own.to_ne_bytes());
    arp[18..24].copy_from_slice(&target_mac);
    arp[24..28].copy_from_slice(&target.to_ne_bytes());
}

#[cfg(test)]
pub(crate) mod tests;
