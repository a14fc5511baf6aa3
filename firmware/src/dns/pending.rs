//! Questions that wait for a resolver's answer, and who waits for each.
//!
//! Units: [`Instant`]s.
//! Invariants: I1 no two questions wait at the same port; I2 `held[b]` is the number of questions whose
//! first asker's address ends in the byte `b`.
//! Budget: [`DNS_PENDING`] of [`DNS_QUERY_BYTES_MAX`] bytes and 150.
//!
//! A host's share is counted by the last byte of its address: exact on a LAN of up to 256 addresses, and
//! on a larger one two hosts may share a share.

use heapless::Vec;
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use crate::budget::{
    DNS_PENDING, DNS_PENDING_PER_HOST, DNS_QUERY_BYTES_MAX, DNS_WAITERS, LOCAL_PORT_FIRST,
    LOCAL_PORT_LAST,
};
use crate::random::Random;

/// A client that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) address: Ipv4Address,
    pub(super) port: u16,
    /// As the client numbered its question.
    pub(super) id: u16,
    /// The longest answer it takes, bytes.
    pub(super) limit: u16,
}

/// A question on its way.
pub(super) struct Pending {
    message: [u8; DNS_QUERY_BYTES_MAX],
    len: u16,
    /// Its answer may be given to others who ask the same.
    pub(super) is_shared: bool,
    pub(super) waiters: Vec<Waiter, DNS_WAITERS>,
    /// The resolver asked last; `None` before the first.
    pub(super) server: Option<Ipv4Address>,
    /// Where the answer must come to.
    pub(super) port: u16,
    /// How often a resolver was asked.
    pub(super) tries: u8,
    /// When another resolver is asked.
    pub(super) due: Instant,
    /// When it is given up.
    pub(super) end: Instant,
}

impl Pending {
    /// The question with the id it was sent with.
    pub(super) fn message(&self) -> &[u8] {
        self.message
            .get(..usize::from(self.len))
            .unwrap_or_default()
    }

    /// Numbers the question anew.
    pub(super) fn set_id(&mut self, id: u16) {
        super::message::set_word(&mut self.message, 0, id);
    }
}

/// Why a question does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its client asked it before and still waits.
    Known,
    /// Its client has its share of questions, or nobody has more than it.
    Share,
    /// So many wait for the same answer already.
    Waiters,
}

/// All questions that wait.
pub(super) struct Table {
    entries: Vec<Pending, DNS_PENDING>,
    held: [u8; 256],
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            held: [0; 256],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Pending> {
        self.entries.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Pending> {
        self.entries.get_mut(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.entries.iter()
    }

    /// The question whose answer comes to `port`.
    pub(super) fn at_port(&self, port: u16) -> Option<usize> {
        let is_there = |pending: &Pending| pending.port == port && pending.server.is_some();
        self.entries.iter().position(is_there)
    }

    /// Lets `waiter` wait with those who ask the same already; `None` if nobody does.
    pub(super) fn join(
        &mut self,
        message: &[u8],
        is_shared: bool,
        waiter: Waiter,
    ) -> Option<Result<(), Refused>> {
        // All but the id.
        let same = self
            .entries
            .iter_mut()
            .filter(|pending| pending.message().get(2..) == message.get(2..));
        for pending in same {
            if pending.waiters.contains(&waiter) {
                return Some(Err(Refused::Known));
            }
            if is_shared && pending.is_shared {
                let joined = pending.waiters.push(waiter);
                return Some(joined.map_err(|_waiter| Refused::Waiters));
            }
        }
        None
    }

    /// Lets a question wait, which has to be sent; gives its place, and whether another one had to go.
    ///
    /// # Errors
    /// [`Refused::Share`].
    ///
    /// # Panics
    /// Never: `message` is cut to the longest that is taken.
    pub(super) fn add(
        &mut self,
        message: &[u8],
        is_shared: bool,
        waiter: Waiter,
        (now, end): (Instant, Instant),
    ) -> Result<(usize, bool), Refused> {
        let own = usize::from(waiter.address.octets()[3]);
        if usize::from(self.held[own]) >= DNS_PENDING_PER_HOST {
            return Err(Refused::Share);
        }
        let is_full = self.entries.is_full();
        if is_full {
            let place = self.greediest(self.held[own]).ok_or(Refused::Share)?;
            self.remove(place);
        }
        let mut waiters = Vec::new();
        let mut copy = [0; DNS_QUERY_BYTES_MAX];
        let len = message.len().min(DNS_QUERY_BYTES_MAX);
        copy[..len].copy_from_slice(&message[..len]);
        let has_room = waiters.push(waiter).is_ok();
        debug_assert!(has_room, "the first waiter");
        let pending = Pending {
            message: copy,
            len: len as u16,
            is_shared,
            waiters,
            server: None,
            port: 0,
            tries: 0,
            due: now,
            end,
        };
        match self.entries.push(pending) {
            Ok(()) => {
                self.held[own] += 1;
                Ok((self.entries.len() - 1, is_full))
            }
            Err(_full) => Err(Refused::Share),
        }
    }

    /// The oldest question of the host that has the most, if that is more than one above `least`.
    fn greediest(&self, least: u8) -> Option<usize> {
        let held = |pending: &Pending| self.held[owner(pending)];
        let most = self.entries.iter().map(held).max()?;
        if most <= least.saturating_add(1) {
            return None;
        }
        let of_most = self.entries.iter().enumerate();
        of_most
            .filter(|(_, pending)| held(pending) == most)
            .min_by_key(|(_, pending)| pending.end)
            .map(|(place, _)| place)
    }

    /// Takes a question out; the last one moves to its place.
    pub(super) fn remove(&mut self, index: usize) -> Option<Pending> {
        if index >= self.entries.len() {
            return None;
        }
        let pending = self.entries.swap_remove(index);
        let held = &mut self.held[owner(&pending)];
        *held = held.saturating_sub(1);
        Some(pending)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.held = [0; 256];
    }

    /// A port of the router's own at which nothing waits (RFC 5452 section 9.2: unpredictable, and of
    /// as many as there are).
    pub(super) fn fresh_port(&self, random: &mut Random) -> u16 {
        let span = u32::from(LOCAL_PORT_LAST - LOCAL_PORT_FIRST) + 1;
        let mut port = LOCAL_PORT_FIRST + random.below(span) as u16;
        // Far fewer wait than there are ports: each step is taken rarely, and there is an end.
        for _step in 0..=DNS_PENDING {
            if self.at_port(port).is_none() {
                break;
            }
            port = if port == LOCAL_PORT_LAST {
                LOCAL_PORT_FIRST
            } else {
                port + 1
            };
        }
        port
    }

    /// Checks I1 and I2.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn check(&self) {
        let mut held = [0u8; 256];
        for (index, pending) in self.entries.iter().enumerate() {
            held[owner(pending)] += 1;
            if pending.server.is_some() {
                assert_eq!(self.at_port(pending.port), Some(index), "I1");
            }
        }
        assert_eq!(held, self.held, "I2");
    }
}

fn owner(pending: &Pending) -> usize {
    let first = pending.waiters.first();
    first.map_or(0, |waiter| usize::from(waiter.address.octets()[3]))
}
