//! The translation held by entries: which port of ours stands for which client and port.
//!
//! Follows: RFC 4787 REQ-1 (endpoint-independent mapping: all flows of one client port share one
//! port of ours), REQ-3 and REQ-4 (port preservation by range, parity), RFC 5382 REQ-1 and REQ-7,
//! RFC 5508 REQ-1 (ICMP identifiers are mapped like ports), RFC 6056 (random choice).
//! Units: ports, or identifiers for ICMP echo.
//! Budget: 28 bytes × `FLOWS` and 4 bytes × `FLOW_BUCKETS`.
//!
//! Invariants:
//! - I1 no two mappings of a protocol have the same port of ours, or the same client and port.
//! - I2 `users` of a mapping is the number of entries that name it; 0 means free.

use smoltcp::wire::Ipv4Address;

use super::key::{Hasher, Protocol};
use crate::budget::{FLOW_BUCKETS, FLOWS, LOCAL_PORT_FIRST};

/// Tries for a free port. At most `FLOWS` of some 60,000 are taken, so each try fails with less
/// than 4 %.
const PORT_TRIES: usize = 16;
/// First port that is not well known.
const USER_PORT_FIRST: u16 = 1024;

#[derive(Clone, Copy, Debug)]
struct Mapping {
    client: Ipv4Address,
    client_port: u16,
    wan_port: u16,
    /// Entries that share the mapping.
    users: u16,
    /// Next in the same bucket by client, plus one.
    next_client: u16,
    /// Next in the same bucket by port of ours, plus one; next free place while unused.
    next_port: u16,
    protocol: Protocol,
}

/// A mapping in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappingId(u16);

impl MappingId {
    pub(super) const NONE: Self = Self(0);
}

/// All mappings.
pub(super) struct Mappings {
    mappings: [Mapping; FLOWS],
    by_client: [u16; FLOW_BUCKETS],
    by_port: [u16; FLOW_BUCKETS],
    /// First place that was given back, plus one.
    free: u16,
    /// Places that were ever used.
    used: u16,
}

impl Mappings {
    pub(super) const EMPTY: Self = Self {
        mappings: [Mapping {
            client: Ipv4Address::UNSPECIFIED,
            client_port: 0,
            wan_port: 0,
            users: 0,
            next_client: 0,
            next_port: 0,
            protocol: Protocol::Tcp,
        }; FLOWS],
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
        protocol: Protocol,
        client: Ipv4Address,
        client_port: u16,
    ) -> Option<(MappingId, u16)> {
        let bucket = hasher.client_port(protocol, client, client_port);
        let mut at = self.by_client[bucket];
        while let Some(index) = at.checked_sub(1) {
            let mapping = &mut self.mappings[usize::from(index)];
            if mapping.client == client
                && mapping.client_port == client_port
                && mapping.protocol == protocol
            {
                mapping.users += 1;
                return Some((MappingId(index), mapping.wan_port));
            }
            at = mapping.next_client;
        }
        let wan_port = self.choose(hasher, protocol, client_port)?;
        let index = self.place()?;
        let port_bucket = hasher.wan_port(protocol, wan_port);
        self.mappings[usize::from(index)] = Mapping {
            client,
            client_port,
            wan_port,
            users: 1,
            next_client: self.by_client[bucket],
            next_port: self.by_port[port_bucket],
            protocol,
        };
        self.by_client[bucket] = index + 1;
        self.by_port[port_bucket] = index + 1;
        Some((MappingId(index), wan_port))
    }

    /// One user less; the last one frees the port.
    pub(super) fn release(&mut self, hasher: &Hasher, id: MappingId) {
        let index = id.0;
        let mapping = &mut self.mappings[usize::from(index)];
        mapping.users -= 1;
        if mapping.users != 0 {
            return;
        }
        let mapping = *mapping;
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

    /// A free port of ours: the client's own if possible, else a random one of the same parity.
    fn choose(&self, hasher: &mut Hasher, protocol: Protocol, client_port: u16) -> Option<u16> {
        let preserved = (USER_PORT_FIRST..LOCAL_PORT_FIRST).contains(&client_port);
        if preserved && !self.is_taken(hasher, protocol, client_port) {
            return Some(client_port);
        }
        for _ in 0..PORT_TRIES {
            let span = u32::from(LOCAL_PORT_FIRST - USER_PORT_FIRST);
            let drawn = USER_PORT_FIRST + hasher.random().below(span) as u16;
            let port = (drawn & !1) | (client_port & 1);
            if !self.is_taken(hasher, protocol, port) {
                return Some(port);
            }
        }
        None
    }

    fn is_taken(&self, hasher: &Hasher, protocol: Protocol, port: u16) -> bool {
        let mut at = self.by_port[hasher.wan_port(protocol, port)];
        while let Some(index) = at.checked_sub(1) {
            let mapping = &self.mappings[usize::from(index)];
            if mapping.wan_port == port && mapping.protocol == protocol {
                return true;
            }
            at = mapping.next_port;
        }
        false
    }

    fn place(&mut self) -> Option<u16> {
        if let Some(index) = self.free.checked_sub(1) {
            self.free = self.mappings[usize::from(index)].next_port;
            return Some(index);
        }
        let index = self.used;
        (usize::from(index) < FLOWS).then(|| {
            self.used += 1;
            index
        })
    }

    /// Asserts I1 and I2 for the mappings that `users` lists, one for each entry.
    #[cfg(test)]
    pub(super) fn check(&self, users: &[MappingId]) {
        use std::collections::{HashMap, HashSet};
        let mut count: HashMap<u16, u16> = HashMap::new();
        users
            .iter()
            .for_each(|id| *count.entry(id.0).or_default() += 1);
        let (mut ports, mut clients) = (HashSet::new(), HashSet::new());
        for (index, mapping) in self.mappings.iter().enumerate() {
            assert_eq!(
                mapping.users,
                count.get(&(index as u16)).copied().unwrap_or(0),
                "I2"
            );
            if mapping.users > 0 {
                assert!(
                    ports.insert((mapping.protocol as u8, mapping.wan_port)),
                    "I1"
                );
                assert!(
                    clients.insert((mapping.protocol as u8, mapping.client, mapping.client_port)),
                    "I1"
                );
                assert!((USER_PORT_FIRST..LOCAL_PORT_FIRST).contains(&mapping.wan_port));
            }
        }
        let chained = |heads: &[u16], next: fn(&Mapping) -> u16| {
            let mut total = 0;
            for &head in heads {
                let mut at = head;
                while let Some(index) = at.checked_sub(1) {
                    total += 1;
                    assert!(total <= FLOWS, "a chain has a loop");
                    at = next(&self.mappings[usize::from(index)]);
                }
            }
            total
        };
        assert_eq!(
            chained(&self.by_client, |mapping| mapping.next_client),
            count.len()
        );
        assert_eq!(
            chained(&self.by_port, |mapping| mapping.next_port),
            count.len()
        );
    }
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
