//! What neighbours brought and what time that saved, by client and by neighbour.
//!
//! Time saved is an estimate: what the response would have taken at the rate that was measured of the own line, less
//! what it took; never below nothing. The share of each neighbour is that of its bytes among all neighbours'.
//!
//! Units: bytes, µs.
//! Invariants: I1 the sums over clients grow with each response alike those over neighbours, until a client or a
//! neighbour is forgotten.
//! Budget: some 48 bytes × [`SAVED_CLIENTS_MAX`].

use heapless::Vec;
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Address;

use super::Exchange;
use super::why::Help;
use crate::budget::{PEERS_MAX, SAVED_CLIENTS_MAX};
use crate::links::LinkId;
use smoltcp::time::Duration;

/// What one client got, or one neighbour brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The client's address on the LAN, or the neighbour's on the air.
    pub address: Ipv4Address,
    /// Responses with help.
    pub downloads: u64,
    /// Bytes of them by the own line; of a neighbour's account always 0.
    pub own_bytes: u64,
    /// Bytes of them that neighbours brought.
    pub peer_bytes: u64,
    /// Time saved, µs: an estimate.
    pub saved_us: u64,
    /// When the last one ended.
    pub last: Instant,
}

impl Account {
    const fn new(address: Ipv4Address) -> Self {
        Self {
            address,
            downloads: 0,
            own_bytes: 0,
            peer_bytes: 0,
            saved_us: 0,
            last: Instant::ZERO,
        }
    }

    fn add(&mut self, now: Instant, own_bytes: u64, peer_bytes: u64, saved_us: u64) {
        self.downloads += 1;
        self.own_bytes = self.own_bytes.saturating_add(own_bytes);
        self.peer_bytes = self.peer_bytes.saturating_add(peer_bytes);
        self.saved_us = self.saved_us.saturating_add(saved_us);
        self.last = now;
    }
}

/// All accounts.
#[derive(Debug)]
pub struct Saved {
    clients: Vec<Account, SAVED_CLIENTS_MAX>,
    peers: [Option<Account>; PEERS_MAX],
}

impl Saved {
    /// Nothing saved yet.
    pub(super) const fn new() -> Self {
        Self {
            clients: Vec::new(),
            peers: [None; PEERS_MAX],
        }
    }

    /// By client, in no order.
    pub fn clients(&self) -> impl Iterator<Item = &Account> {
        self.clients.iter()
    }

    /// By neighbour, in the order of the settings.
    pub fn peers(&self) -> impl Iterator<Item = &Account> {
        self.peers.iter().flatten()
    }

    /// A response to `client` has ended; `peers` are the neighbours' addresses by their place.
    pub(super) fn add(
        &mut self,
        now: Instant,
        client: Ipv4Address,
        peers: [Option<Ipv4Address>; PEERS_MAX],
        help: &Help,
    ) {
        let brought: u64 = help.peer_bytes.iter().sum();
        let saved_us = help.saved.total_micros();
        if let Some(account) = self.client(client) {
            account.add(now, help.own_bytes, brought, saved_us);
        }
        for ((place, address), bytes) in self.peers.iter_mut().zip(peers).zip(help.peer_bytes) {
            let Some(address) = address.filter(|_| bytes > 0) else {
                continue;
            };
            let account = place.get_or_insert(Account::new(address));
            if account.address != address {
                *account = Account::new(address);
            }
            let share = u128::from(saved_us) * u128::from(bytes) / u128::from(brought.max(1));
            // No more than `saved_us`.
            account.add(now, 0, bytes, share as u64);
        }
    }

    /// The client's account; the one that was idle longest gives way.
    fn client(&mut self, address: Ipv4Address) -> Option<&mut Account> {
        let known = self.clients.iter().position(|one| one.address == address);
        let at = match known {
            Some(at) => at,
            None => match self.clients.push(Account::new(address)) {
                Ok(()) => self.clients.len() - 1,
                Err(account) => {
                    let idle = self.clients.iter().enumerate();
                    let at = idle.min_by_key(|(_, one)| one.last).map(|(at, _)| at)?;
                    self.clients[at] = account;
                    at
                }
            },
        };
        self.clients.get_mut(at)
    }
}

/// How much longer `bytes` would have taken at `rate` bytes/s than they did; nothing where the rate is unknown.
fn saved(bytes: u64, rate: u64, took: Duration) -> Duration {
    let alone_us = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    let alone_us = u64::try_from(alone_us).unwrap_or(u64::MAX);
    match rate {
        0 => Duration::ZERO,
        _ => Duration::from_micros(alone_us.saturating_sub(took.total_micros())),
    }
}

impl Exchange {
    /// What help the response has had, once it has ended; `own_rate`: the own line's rate in earlier ones, bytes/s.
    pub(super) fn help(&self, own_rate: u64) -> Help {
        // The client's own close may come late.
        let took = self.progress_at.max(self.held_at) - self.held_at;
        let rate = match self.plan.rate(LinkId::UPLINK) {
            0 => own_rate,
            rate => rate,
        };
        let bytes = self.sender.acked_position().min(self.stream_len);
        let mut peer_bytes = [0; PEERS_MAX];
        for (to, from) in peer_bytes.iter_mut().zip(&self.bytes[1..]) {
            *to = *from;
        }
        Help {
            own_bytes: self.bytes[LinkId::UPLINK.index()] + self.race.passed,
            peer_bytes,
            took,
            saved: saved(bytes, rate, took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: [Option<Ipv4Address>; PEERS_MAX] = {
        let mut peers = [None; PEERS_MAX];
        peers[0] = Some(Ipv4Address::new(10, 77, 0, 2));
        peers[1] = Some(Ipv4Address::new(10, 77, 0, 3));
        peers
    };

    fn help(own_bytes: u64, first: u64, second: u64, saved_us: u64) -> Help {
        let mut peer_bytes = [0; PEERS_MAX];
        peer_bytes[..2].copy_from_slice(&[first, second]);
        Help {
            own_bytes,
            peer_bytes,
            took: Duration::from_secs(1),
            saved: Duration::from_micros(saved_us),
        }
    }

    fn client(number: usize) -> Ipv4Address {
        Ipv4Address::new(192, 168, 1, number as u8)
    }

    #[test]
    fn bytes_and_time_add_up_by_client_and_by_neighbour() {
        let mut saved = Saved::new();
        saved.add(
            Instant::from_secs(1),
            client(5),
            PEERS,
            &help(10, 30, 10, 400),
        );
        saved.add(Instant::from_secs(2), client(6), PEERS, &help(1, 2, 0, 100));
        saved.add(Instant::from_secs(3), client(5), PEERS, &help(5, 0, 0, 0));
        let five = saved.clients().find(|one| one.address == client(5));
        let expected = Account {
            address: client(5),
            downloads: 2,
            own_bytes: 15,
            peer_bytes: 40,
            saved_us: 400,
            last: Instant::from_secs(3),
        };
        assert_eq!(five, Some(&expected));
        let peers: std::vec::Vec<_> = saved
            .peers()
            .map(|one| (one.downloads, one.peer_bytes, one.saved_us))
            .collect();
        assert_eq!(peers, [(2, 32, 400), (1, 10, 100)]);
    }

    #[test]
    fn time_saved_is_never_below_nothing() {
        let second = Duration::from_secs(1);
        assert_eq!(saved(3_000_000, 1_000_000, second), second * 2);
        assert_eq!(saved(1_000_000, 1_000_000, second), Duration::ZERO);
        assert_eq!(saved(1, 1_000_000, second), Duration::ZERO);
        assert_eq!(saved(3_000_000, 0, second), Duration::ZERO);
        let most = Duration::from_micros(u64::MAX);
        assert_eq!(saved(u64::MAX, 1, Duration::ZERO), most);
    }

    #[test]
    fn the_client_that_was_idle_longest_gives_way() {
        let mut saved = Saved::new();
        for number in 0..SAVED_CLIENTS_MAX {
            let at = Instant::from_secs(1 + number as i64);
            saved.add(at, client(number), PEERS, &help(1, 1, 0, 1));
        }
        let later = Instant::from_secs(1000);
        saved.add(later, client(0), PEERS, &help(1, 1, 0, 1));
        saved.add(later, client(200), PEERS, &help(1, 1, 0, 1));
        assert_eq!(saved.clients().count(), SAVED_CLIENTS_MAX);
        let has = |number| saved.clients().any(|one| one.address == client(number));
        assert!(has(0) && has(200) && !has(1) && has(2));
    }

    #[test]
    fn another_neighbour_in_the_same_place_begins_anew() {
        let mut saved = Saved::new();
        saved.add(Instant::ZERO, client(1), PEERS, &help(1, 50, 0, 9));
        let mut others = PEERS;
        others[0] = Some(Ipv4Address::new(10, 77, 0, 9));
        saved.add(Instant::ZERO, client(1), others, &help(1, 4, 0, 2));
        let first = saved.peers().next().unwrap();
        assert_eq!((Some(first.address), first.peer_bytes), (others[0], 4));
    }
}
