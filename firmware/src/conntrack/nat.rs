//! The translation held by entries: which port of ours stands for which client and port.
//!
//! Follows: RFC 4787 REQ-1 (endpoint-independent mapping: all flows of one client port share one
//! port of ours), REQ-3 and REQ-4 (port preservation by range, parity), RFC 5382 REQ-1 and REQ-7,
//! RFC 5508 REQ-1 (ICMP identifiers are mapped like ports), RFC 6056 (random choice).
//! Units: ports, or identifiers for ICMP echo.
//! Budget: 24 bytes × (`FLOWS` + `FORWARDS_MAX`) and 4 bytes × `FLOW_BUCKETS`.
//!
//! A port forward is a mapping that is there before any flow and stays after the last.
//!
//! Invariants:
//! - I1 no two mappings of a protocol have the same port of ours; but for forwards no two have the
//!   same client and port.
//! - I2 `users` of a mapping is the number of entries that name it, `inbound` the number of those
//!   that were opened from outside; a mapping without users that is no forward is free.

use smoltcp::wire::Ipv4Address;

use super::Forward;
use super::key::{Hasher, Protocol};
use crate::budget::{FLOW_BUCKETS, FLOWS, FORWARDS_MAX, LOCAL_PORT_FIRST, PORT_TRIES};

/// First port that is not well known.
const USER_PORT_FIRST: u16 = 1024;
/// Mappings at once.
const PLACES: usize = FLOWS + FORWARDS_MAX;
/// The router's own UDP port below [`LOCAL_PORT_FIRST`]: the DHCP client's (RFC 2131 section 4.1).
const DHCP_CLIENT_PORT: u16 = 68;

#[derive(Clone, Copy, Debug)]
struct Mapping {
    client: Ipv4Address,
    client_port: u16,
    wan_port: u16,
    /// Entries that share the mapping.
    users: u16,
    /// Those of them that were opened from outside.
    inbound: u16,
    /// Next in the same bucket by client, plus one.
    next_client: u16,
    /// Next in the same bucket by port of ours, plus one; next free place while unused.
    next_port: u16,
    protocol: Protocol,
    /// Anybody outside may open flows to it.
    forward: bool,
    /// Was a forward before the last change of them, and is none any more.
    closed: bool,
    /// The client is a neighbour that borrows the line: nobody outside may open flows to it.
    lent: bool,
}

/// Whose port is mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) protocol: Protocol,
    pub(super) address: Ipv4Address,
    pub(super) port: u16,
    /// A neighbour that borrows the line.
    pub(super) is_lent: bool,
}

impl Mapping {
    const FREE: Self = Self {
        client: Ipv4Address::UNSPECIFIED,
        client_port: 0,
        wan_port: 0,
        users: 0,
        inbound: 0,
        next_client: 0,
        next_port: 0,
        protocol: Protocol::Tcp,
        forward: false,
        closed: false,
        lent: false,
    };
}

/// What somebody outside meets at a port of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    pub(super) mapping: MappingId,
    pub(super) client: Ipv4Address,
    pub(super) client_port: u16,
    /// Flows that were opened from outside.
    pub(super) inbound: u16,
    /// It is open to everybody.
    pub(super) forward: bool,
    /// It is a neighbour's, and closed.
    pub(super) lent: bool,
}

/// A mapping in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappingId(u16);

impl MappingId {
    pub(super) const NONE: Self = Self(0);
}

/// All mappings.
pub(super) struct Mappings {
    mappings: [Mapping; PLACES],
    by_client: [u16; FLOW_BUCKETS],
    by_port: [u16; FLOW_BUCKETS],
    /// First place that was given back, plus one.
    free: u16,
    /// Places that were ever used.
    used: u16,
}

impl Mappings {
    pub(super) const EMPTY: Self = Self {
        mappings: [Mapping::FREE; PLACES],
        by_client: [0; FLOW_BUCKETS],
        by_port: [0; FLOW_BUCKETS],
        free: 0,
        used: 0,
    };

    /// The mapping of a client's port, made if there is none, with one user more; and our port.
    /// `None` when no port or no place is free.
    pub(super) fn acquire(
        &mut self,
        hasher: &mut Hasher,
        client: Client,
    ) -> Option<(MappingId, u16)> {
        let Client {
            protocol,
            address: client,
            port: client_port,
            is_lent: lent,
        } = client;
        let bucket = hasher.client_port(protocol, client, client_port);
        let mut at = self.by_client[bucket];
        while let Some(index) = at.checked_sub(1) {
            let mapping = &mut self.mappings[usize::from(index)];
            if mapping.client == client
                && mapping.client_port == client_port
                && mapping.protocol == protocol
                && mapping.lent == lent
            {
                mapping.users += 1;
                return Some((MappingId(index), mapping.wan_port));
            }
            at = mapping.next_client;
        }
        let wan_port = self.choose(hasher, protocol, client_port)?;
        let index = self.place()?;
        let mapping = Mapping {
            client,
            client_port,
            wan_port,
            users: 1,
            protocol,
            lent,
            ..Mapping::FREE
        };
        self.link(hasher, index, mapping);
        Some((MappingId(index), wan_port))
    }

    /// What is behind a port of ours.
    pub(super) fn door(&self, hasher: &Hasher, protocol: Protocol, wan_port: u16) -> Option<Door> {
        let index = self.find_port(hasher, protocol, wan_port)?;
        let mapping = &self.mappings[usize::from(index)];
        Some(Door {
            mapping: MappingId(index),
            client: mapping.client,
            client_port: mapping.client_port,
            inbound: mapping.inbound,
            forward: mapping.forward,
            lent: mapping.lent,
        })
    }

    /// One user more, who comes from outside.
    pub(super) fn enter(&mut self, id: MappingId) {
        let mapping = &mut self.mappings[usize::from(id.0)];
        mapping.users += 1;
        mapping.inbound += 1;
    }

    /// One user less; the last one frees the port if it is no forward.
    pub(super) fn release(&mut self, hasher: &Hasher, id: MappingId, inbound: bool) {
        let mapping = &mut self.mappings[usize::from(id.0)];
        mapping.users -= 1;
        mapping.inbound -= u16::from(inbound);
        if mapping.users == 0 && !mapping.forward {
            self.unlink(hasher, id.0);
        }
    }

    /// No port is a forward any more; those that were are `closed` until
    /// [`forget_closed`](Self::forget_closed).
    pub(super) fn close_all(&mut self, hasher: &Hasher) {
        for index in 0..self.used {
            let mapping = &mut self.mappings[usize::from(index)];
            if mapping.forward {
                mapping.forward = false;
                mapping.closed = true;
                if mapping.users == 0 {
                    self.unlink(hasher, index);
                }
            }
        }
    }

    /// Makes a port a forward; false when it cannot be one or belongs to another mapping.
    pub(super) fn forward(&mut self, hasher: &Hasher, forward: &Forward) -> bool {
        let Forward {
            protocol, wan_port, ..
        } = *forward;
        if wan_port == 0 || wan_port >= LOCAL_PORT_FIRST || is_own(protocol, wan_port) {
            return false;
        }
        if let Some(index) = self.find_port(hasher, protocol, wan_port) {
            let mapping = &mut self.mappings[usize::from(index)];
            if (mapping.client, mapping.client_port) != (forward.client, forward.client_port) {
                return false;
            }
            mapping.forward = true;
            mapping.closed = false;
            return true;
        }
        let Some(index) = self.place() else {
            return false;
        };
        let mapping = Mapping {
            client: forward.client,
            client_port: forward.client_port,
            wan_port,
            protocol,
            forward: true,
            ..Mapping::FREE
        };
        self.link(hasher, index, mapping);
        true
    }

    /// Whether the mapping was a forward before the last change and is none now.
    pub(super) fn is_closed(&self, id: MappingId) -> bool {
        self.mappings[usize::from(id.0)].closed
    }

    /// The change of forwards is over.
    pub(super) fn forget_closed(&mut self) {
        let used = self.mappings.iter_mut().take(usize::from(self.used));
        used.for_each(|mapping| mapping.closed = false);
    }

    /// Puts a mapping into a free place and in its buckets.
    fn link(&mut self, hasher: &Hasher, index: u16, mapping: Mapping) {
        let client = hasher.client_port(mapping.protocol, mapping.client, mapping.client_port);
        let port = hasher.wan_port(mapping.protocol, mapping.wan_port);
        self.mappings[usize::from(index)] = Mapping {
            next_client: core::mem::replace(&mut self.by_client[client], index + 1),
            next_port: core::mem::replace(&mut self.by_port[port], index + 1),
            ..mapping
        };
    }

    /// Takes a mapping out of its buckets; its place is free.
    fn unlink(&mut self, hasher: &Hasher, index: u16) {
        let mapping = self.mappings[usize::from(index)];
        let bucket = hasher.client_port(mapping.protocol, mapping.client, mapping.client_port);
        unlink(
            &mut self.by_client[bucket],
            &mut self.mappings,
            index,
            |mapping| &mut mapping.next_client,
        );
        let bucket = hasher.wan_port(mapping.protocol, mapping.wan_port);
        unlink(
            &mut self.by_port[bucket],
            &mut self.mappings,
            index,
            |mapping| &mut mapping.next_port,
        );
        self.mappings[usize::from(index)].next_port = self.free;
        self.free = index + 1;
    }

    /// A free port of ours: the client's own if possible, else a random one of its range (well
    /// known or not) and parity, else any of the parity.
    fn choose(&self, hasher: &mut Hasher, protocol: Protocol, client_port: u16) -> Option<u16> {
        let is_free = |hasher: &Hasher, port: u16| {
            !is_own(protocol, port) && self.find_port(hasher, protocol, port).is_none()
        };
        if (1..LOCAL_PORT_FIRST).contains(&client_port) && is_free(hasher, client_port) {
            return Some(client_port);
        }
        // Ends of a range are even, so that parity does not leave it.
        let user_ports = USER_PORT_FIRST..LOCAL_PORT_FIRST;
        let well_known = (1..USER_PORT_FIRST).contains(&client_port);
        let first_choice = if well_known {
            2..USER_PORT_FIRST
        } else {
            user_ports.clone()
        };
        for range in [first_choice, user_ports] {
            for _ in 0..PORT_TRIES {
                let span = u32::from(range.end - range.start);
                let drawn = range.start + hasher.random().below(span) as u16;
                let port = (drawn & !1) | (client_port & 1);
                if is_free(hasher, port) {
                    return Some(port);
                }
            }
        }
        None
    }

    fn find_port(&self, hasher: &Hasher, protocol: Protocol, port: u16) -> Option<u16> {
        let mut at = self.by_port[hasher.wan_port(protocol, port)];
        while let Some(index) = at.checked_sub(1) {
            let mapping = &self.mappings[usize::from(index)];
            if mapping.wan_port == port && mapping.protocol == protocol {
                return Some(index);
            }
            at = mapping.next_port;
        }
        None
    }

    fn place(&mut self) -> Option<u16> {
        if let Some(index) = self.free.checked_sub(1) {
            self.free = self.mappings[usize::from(index)].next_port;
            return Some(index);
        }
        let index = self.used;
        (usize::from(index) < PLACES).then(|| {
            self.used += 1;
            index
        })
    }

    /// Asserts I1 and I2 for the mappings that `users` lists, one for each entry, and whether it
    /// was opened from outside.
    #[cfg(any(test, feature = "check"))]
    pub(super) fn check(&self, users: &[(MappingId, bool)]) {
        use std::collections::{HashMap, HashSet};
        let mut count: HashMap<u16, (u16, u16)> = HashMap::new();
        for (id, inbound) in users {
            let (all, from_outside) = count.entry(id.0).or_default();
            *all += 1;
            *from_outside += u16::from(*inbound);
        }
        let (mut ports, mut clients, mut total) = (HashSet::new(), HashSet::new(), 0);
        for (index, mapping) in self.mappings.iter().enumerate() {
            let counted = count.get(&(index as u16)).copied().unwrap_or_default();
            if mapping.users == 0 && !mapping.forward {
                assert_eq!(counted, (0, 0), "I2");
                continue;
            }
            total += 1;
            assert_eq!((mapping.users, mapping.inbound), counted, "I2");
            assert!(
                ports.insert((mapping.protocol as u8, mapping.wan_port)),
                "I1"
            );
            let client = (mapping.protocol as u8, mapping.client, mapping.client_port);
            assert!(mapping.forward || clients.insert(client), "I1");
            assert!((1..LOCAL_PORT_FIRST).contains(&mapping.wan_port));
        }
        let chained = |heads: &[u16], next: fn(&Mapping) -> u16| {
            let mut total = 0;
            for &head in heads {
                let mut at = head;
                while let Some(index) = at.checked_sub(1) {
                    total += 1;
                    assert!(total <= PLACES, "a chain has a loop");
                    at = next(&self.mappings[usize::from(index)]);
                }
            }
            total
        };
        assert_eq!(
            chained(&self.by_client, |mapping| mapping.next_client),
            total
        );
        assert_eq!(chained(&self.by_port, |mapping| mapping.next_port), total);
    }
}

/// A port below [`LOCAL_PORT_FIRST`] that the router uses itself.
const fn is_own(protocol: Protocol, port: u16) -> bool {
    matches!(protocol, Protocol::Udp) && port == DHCP_CLIENT_PORT
}

/// Takes `index` out of the singly linked chain that starts at `head`.
pub(super) fn unlink<T>(
    head: &mut u16,
    places: &mut [T],
    index: u16,
    next: impl Fn(&mut T) -> &mut u16,
) {
    let behind = *next(&mut places[usize::from(index)]);
    if *head == index + 1 {
        *head = behind;
        return;
    }
    let mut at = *head;
    while let Some(here) = at.checked_sub(1) {
        let link = next(&mut places[usize::from(here)]);
        if *link == index + 1 {
            *link = behind;
            return;
        }
        at = *link;
    }
}
