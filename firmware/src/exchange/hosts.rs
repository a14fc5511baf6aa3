//! What was learnt about origin hosts, so that what failed is not tried with every download.
//!
//! A host is an address, a port and the name that the client asked for. What is known of it is forgotten by time, or when
//! others were heard of since: the table is small. Nothing here ever changes a byte; it only decides whether help is worth it.
//!
//! Follows: FAULTS.md O1, O2, K11 to K14, K17, U7.
//! Budget: 32 bytes a fact, [`HOST_FACTS_MAX`] of them.

use heapless::Vec;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::Ipv4Address;

use crate::budget::{HOST_BUSY, HOST_FACTS_MAX, HOST_MEMORY};
use crate::crc::Crc32;
use crate::links::LinkId;

/// What a host does that makes help useless, or harmful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Habit {
    /// It answers a range with the whole object.
    NoRanges,
    /// It sends less than the range asked for.
    ShortRanges,
    /// It wants fewer requests at once.
    Busy,
    /// It ends the first connection when a second one comes.
    OneConnection,
    /// It closes after each reply: every range costs a handshake.
    ClosesEach,
    /// It denies this link what it gives others, or gives it another version.
    Denies(LinkId),
}

impl Habit {
    /// One line for people.
    pub fn text(self) -> &'static str {
        match self {
            Habit::NoRanges => "the host does not serve ranges",
            Habit::ShortRanges => "the host sends less than the ranges asked for",
            Habit::Busy => "the host wants fewer requests at once",
            Habit::OneConnection => "the host allows one connection",
            Habit::ClosesEach => "the host closes after each reply",
            Habit::Denies(_) => "the host denies a neighbour",
        }
    }

    /// How long it is believed.
    fn memory(self) -> Duration {
        match self {
            Habit::Busy => HOST_BUSY,
            Habit::NoRanges
            | Habit::ShortRanges
            | Habit::OneConnection
            | Habit::ClosesEach
            | Habit::Denies(_) => HOST_MEMORY,
        }
    }
}

/// A host, as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    origin: (Ipv4Address, u16),
    name: u32,
}

impl Key {
    /// The host `name` at an address and port; case does not matter.
    pub(super) fn new(origin: (Ipv4Address, u16), name: &[u8]) -> Self {
        let mut lower = Crc32::new();
        for byte in name {
            lower.update(&[byte.to_ascii_lowercase()]);
        }
        Self {
            origin,
            name: lower.value(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Fact {
    key: Key,
    habit: Habit,
    until: Instant,
}

/// Facts about hosts, the latest last.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    facts: Vec<Fact, HOST_FACTS_MAX>,
}

impl Hosts {
    /// Nothing known.
    pub(super) const fn new() -> Self {
        Self { facts: Vec::new() }
    }

    /// Remembers a habit, from now on for its time.
    pub(super) fn note(&mut self, now: Instant, key: Key, habit: Habit) {
        self.facts
            .retain(|fact| fact.until > now && !(fact.key == key && fact.habit == habit));
        if self.facts.is_full() {
            self.facts.remove(0);
        }
        let until = now + habit.memory();
        // Room was made.
        let _fits = self.facts.push(Fact { key, habit, until }).is_ok();
    }

    /// The habit of a host that makes every help useless, if one is known.
    pub(super) fn bars(&mut self, now: Instant, key: Key) -> Option<Habit> {
        let at = self.facts.iter().position(|fact| {
            fact.key == key && fact.until > now && !matches!(fact.habit, Habit::Denies(_))
        })?;
        // What was of use stays longest.
        let fact = self.facts.remove(at);
        let _fits = self.facts.push(fact).is_ok();
        Some(fact.habit)
    }

    /// Whether the host is known to deny `link`.
    pub(super) fn denies(&self, now: Instant, key: Key, link: LinkId) -> bool {
        self.facts
            .iter()
            .any(|fact| fact.key == key && fact.until > now && fact.habit == Habit::Denies(link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_micros_const(1_000_000);
    const ORIGIN: (Ipv4Address, u16) = (Ipv4Address::new(198, 51, 100, 10), 80);

    #[test]
    fn o1_o2_k11_a_habit_is_known_for_its_time_and_of_its_host_alone() {
        let mut hosts = Hosts::new();
        let key = Key::new(ORIGIN, b"Origin.example");
        hosts.note(T0, key, Habit::NoRanges);
        let same = Key::new(ORIGIN, b"origin.EXAMPLE");
        assert_eq!(hosts.bars(T0, same), Some(Habit::NoRanges));
        assert_eq!(hosts.bars(T0, Key::new(ORIGIN, b"other.example")), None);
        let port = (ORIGIN.0, 8080);
        assert_eq!(hosts.bars(T0, Key::new(port, b"origin.example")), None);
        let last = T0 + HOST_MEMORY - Duration::from_micros(1);
        assert_eq!(hosts.bars(last, key), Some(Habit::NoRanges));
        assert_eq!(hosts.bars(T0 + HOST_MEMORY, key), None);
        hosts.note(last, key, Habit::Busy);
        assert_eq!(hosts.bars(last + HOST_BUSY, key), None);
    }

    #[test]
    fn k13_k14_a_denied_neighbour_bars_only_itself() {
        let mut hosts = Hosts::new();
        let key = Key::new(ORIGIN, b"origin.example");
        hosts.note(T0, key, Habit::Denies(LinkId::peer(0)));
        assert_eq!(hosts.bars(T0, key), None);
        assert!(hosts.denies(T0, key, LinkId::peer(0)));
        assert!(!hosts.denies(T0, key, LinkId::UPLINK));
        assert!(!hosts.denies(T0 + HOST_MEMORY, key, LinkId::peer(0)));
    }

    #[test]
    fn a_full_table_forgets_what_was_of_no_use_for_longest() {
        let mut hosts = Hosts::new();
        let key = |n: usize| Key::new((ORIGIN.0, n as u16), b"h");
        for n in 0..HOST_FACTS_MAX {
            hosts.note(T0, key(n), Habit::NoRanges);
        }
        assert!(hosts.bars(T0, key(0)).is_some());
        hosts.note(T0, key(HOST_FACTS_MAX), Habit::NoRanges);
        assert!(hosts.bars(T0, key(0)).is_some());
        assert!(hosts.bars(T0, key(1)).is_none());
        assert!(hosts.bars(T0, key(HOST_FACTS_MAX)).is_some());
    }
}
