//! What happened lately: a ring of typed events with their times, for `log` and for notices.
//!
//! Stages tell the router ([`Router::event`](crate::router::Router::event)); the console prints
//! those that matter at once ([`Event::is_notice`]), `log` shows the rest too.
//!
//! Events that strangers can cause at will ([`Event::is_cheap`]) do not push others out: one of a
//! kind that came within [`EVENT_REPEAT`] of the last one takes its place and is counted there.
//! An event is one line; text that came from the network is [`Text`], shown escaped and nothing else.
//!
//! Units: [`Instant`]s.
//! Invariants: I1 sequence numbers of the entries held are consecutive, the newest is `next - 1`.
//! Budget: [`EVENTS`] entries of at most 88 bytes.

use core::fmt;
use core::net::Ipv4Addr;

use heapless::Deque;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, Ipv4Cidr};

use crate::budget::{EVENT_REPEAT, EVENT_TEXT_BYTES_MAX, EVENTS};
use crate::console::{Escaped, Mac};

/// A short text from outside, cut to [`EVENT_TEXT_BYTES_MAX`]; shown by [`Escaped`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    bytes: [u8; EVENT_TEXT_BYTES_MAX],
    len: u8,
}

impl Text {
    /// Nothing.
    pub const EMPTY: Text = Text {
        bytes: [0; EVENT_TEXT_BYTES_MAX],
        len: 0,
    };

    /// The beginning of `text`.
    pub fn new(text: &[u8]) -> Self {
        let mut cut = Self::EMPTY;
        cut.push(text);
        cut
    }

    /// Of a panic's `MESSAGE at FILE:LINE` the place, then as much of the message as there is room for: of a panic the
    /// place is what one needs. Of a place that is too long, its end.
    pub fn of_panic(text: &str) -> Self {
        let Some((message, place)) = text.rsplit_once(" at ") else {
            return Self::new(text.as_bytes());
        };
        let place = place.as_bytes();
        let surplus = place.len().saturating_sub(EVENT_TEXT_BYTES_MAX);
        let mut cut = Self::new(place.get(surplus..).unwrap_or_default());
        cut.push(b": ");
        cut.push(message.as_bytes());
        cut
    }

    /// Adds what there is room for.
    fn push(&mut self, text: &[u8]) {
        let free = self.bytes.iter_mut().skip(usize::from(self.len));
        for (to, &from) in free.zip(text) {
            *to = from;
            self.len += 1;
        }
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Takes what there is room for; never an error.
impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.bytes()).fmt(f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What is kept in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The settings.
    Settings,
    /// The leases given to hosts of the LAN.
    Leases,
    /// The seed of the random numbers.
    Seed,
}

impl Stored {
    /// As it begins a line.
    pub const fn name(self) -> &'static str {
        match self {
            Stored::Settings => "settings",
            Stored::Leases => "leases",
            Stored::Seed => "seed",
        }
    }
}

/// Something that happened. A `&'static str` is the text of the telling module's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The machine started; why the life before ended.
    Reset {
        /// The kind of end.
        why: &'static str,
        /// Place and message of a crash.
        place: Text,
        /// Crashes since power-up.
        crashes: u32,
    },
    /// Stored settings were put in force.
    SettingsLoaded,
    /// Settings of an older version were taken over.
    SettingsMigrated {
        /// The version found.
        from: u16,
    },
    /// The newest stored settings could not be used: those before them are in force.
    SettingsEarlier(&'static str),
    /// Nothing usable was stored: factory settings are in force.
    SettingsDefaults(&'static str),
    /// Written to flash and read back.
    Stored(Stored),
    /// Not written: what was stored before is still there.
    StoreFailed(Stored, &'static str),
    /// The WAN has an address.
    LeaseGot {
        /// The address and its net.
        address: Ipv4Cidr,
        /// The next hop.
        gateway: Option<Ipv4Addr>,
        /// How long, seconds.
        seconds: u32,
    },
    /// The WAN keeps its address.
    LeaseRenewed {
        /// How long from now, seconds.
        seconds: u32,
    },
    /// The WAN has no address any more.
    LeaseLost(&'static str),
    /// An offer for the WAN was not taken.
    LeaseRefused(&'static str),
    /// A host of the LAN has an address of the pool.
    HostLeased {
        /// The address.
        address: Ipv4Addr,
        /// Whose.
        mac: EthernetAddress,
        /// What the host calls itself.
        name: Text,
    },
    /// A host found its address of the pool in use by another (DHCPDECLINE).
    AddressConflict {
        /// The address.
        address: Ipv4Addr,
        /// Who said so.
        mac: EthernetAddress,
    },
    /// Another DHCP server answers on the LAN.
    OtherServer {
        /// As it names itself.
        address: Ipv4Addr,
        /// Whence it came.
        mac: EthernetAddress,
    },
    /// No address was left for a host.
    PoolFull {
        /// Who asked.
        mac: EthernetAddress,
    },
    /// A new image was not taken; the old one stays.
    UpgradeRefused(&'static str),
    /// A new image is in flash and will boot next.
    UpgradeWritten {
        /// Its version as its header names it.
        version: Text,
    },
    /// A neighbour can be asked.
    PeerUp(Ipv4Addr),
    /// A neighbour cannot be asked any more.
    PeerLost(Ipv4Addr),
}

impl Event {
    /// Whether it is printed on the console at once.
    pub const fn is_notice(&self) -> bool {
        match self {
            Event::Reset { crashes, .. } => *crashes > 0,
            Event::SettingsMigrated { .. }
            | Event::SettingsEarlier(_)
            | Event::SettingsDefaults(_)
            | Event::Stored(Stored::Settings)
            | Event::StoreFailed(..)
            | Event::LeaseLost(_)
            | Event::LeaseRefused(_)
            | Event::AddressConflict { .. }
            | Event::OtherServer { .. }
            | Event::PoolFull { .. }
            | Event::UpgradeRefused(_)
            | Event::UpgradeWritten { .. }
            | Event::PeerLost(_) => true,
            Event::SettingsLoaded
            | Event::Stored(Stored::Leases | Stored::Seed)
            | Event::LeaseGot { .. }
            | Event::LeaseRenewed { .. }
            | Event::HostLeased { .. }
            | Event::PeerUp(_) => false,
        }
    }

    /// Whether a stranger on a line can cause it as often as he likes.
    pub const fn is_cheap(&self) -> bool {
        match self {
            Event::LeaseRefused(_)
            | Event::LeaseRenewed { .. }
            | Event::HostLeased { .. }
            | Event::AddressConflict { .. }
            | Event::OtherServer { .. }
            | Event::PoolFull { .. }
            | Event::PeerUp(_)
            | Event::PeerLost(_)
            | Event::Stored(Stored::Leases | Stored::Seed) => true,
            Event::Reset { .. }
            | Event::SettingsLoaded
            | Event::SettingsMigrated { .. }
            | Event::SettingsEarlier(_)
            | Event::SettingsDefaults(_)
            | Event::Stored(Stored::Settings)
            | Event::StoreFailed(..)
            | Event::LeaseGot { .. }
            | Event::LeaseLost(_)
            | Event::UpgradeRefused(_)
            | Event::UpgradeWritten { .. } => false,
        }
    }

    /// Whether it is the same kind of event, about the same neighbour if it is about one.
    fn is_like(&self, other: &Event) -> bool {
        let peer = |event: &Event| {
            if let Event::PeerUp(address) | Event::PeerLost(address) = event {
                Some(*address)
            } else {
                None
            }
        };
        core::mem::discriminant(self) == core::mem::discriminant(other) && peer(self) == peer(other)
    }

    /// The event's word in `log --kv`.
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Reset { .. } => "reset",
            Event::SettingsLoaded => "settings-loaded",
            Event::SettingsMigrated { .. } => "settings-migrated",
            Event::SettingsEarlier(_) => "settings-earlier",
            Event::SettingsDefaults(_) => "settings-defaults",
            Event::Stored(_) => "stored",
            Event::StoreFailed(..) => "store-failed",
            Event::LeaseGot { .. } => "lease-got",
            Event::LeaseRenewed { .. } => "lease-renewed",
            Event::LeaseLost(_) => "lease-lost",
            Event::LeaseRefused(_) => "lease-refused",
            Event::HostLeased { .. } => "host-leased",
            Event::AddressConflict { .. } => "address-conflict",
            Event::OtherServer { .. } => "other-server",
            Event::PoolFull { .. } => "pool-full",
            Event::UpgradeRefused(_) => "upgrade-refused",
            Event::UpgradeWritten { .. } => "upgrade-written",
            Event::PeerUp(_) => "peer-up",
            Event::PeerLost(_) => "peer-lost",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Reset {
                why,
                place,
                crashes: 0,
            } if place.bytes().is_empty() => write!(f, "start after: {why}"),
            Event::Reset {
                why,
                place,
                crashes,
            } => write!(f, "start after: {why} ({crashes} crashes) {place}"),
            Event::SettingsLoaded => f.write_str("stored settings are in force"),
            Event::SettingsMigrated { from } => {
                write!(f, "settings of version {from} were taken over")
            }
            Event::SettingsEarlier(why) => {
                write!(f, "the settings saved before are in force: {why}")
            }
            Event::SettingsDefaults(why) => write!(f, "factory settings are in force: {why}"),
            Event::Stored(Stored::Settings) => f.write_str("saved"),
            Event::Stored(what) => write!(f, "{} stored", what.name()),
            Event::StoreFailed(what, why) => write!(f, "{} NOT stored: {why}", what.name()),
            Event::LeaseGot {
                address,
                gateway: Some(gateway),
                seconds,
            } => write!(f, "WAN address {address} via {gateway} for {seconds} s"),
            Event::LeaseGot {
                address,
                gateway: None,
                seconds,
            } => write!(f, "WAN address {address} without gateway for {seconds} s"),
            Event::LeaseRenewed { seconds } => write!(f, "WAN address kept for {seconds} s"),
            Event::LeaseLost(why) => write!(f, "WAN address lost: {why}"),
            Event::LeaseRefused(why) => write!(f, "WAN address refused: {why}"),
            Event::HostLeased { address, mac, name } => {
                write!(f, "{address} leased to {} {name}", Mac(*mac))
            }
            Event::AddressConflict { address, mac } => {
                write!(f, "{} says that another host uses {address}", Mac(*mac))
            }
            Event::OtherServer { address, mac } => {
                write!(f, "another DHCP server on the LAN: {address} {}", Mac(*mac))
            }
            Event::PoolFull { mac } => write!(f, "no address left for {}", Mac(*mac)),
            Event::UpgradeRefused(why) => write!(f, "upgrade refused: {why}"),
            Event::UpgradeWritten { version } => {
                write!(f, "upgrade written: {version}; it starts now")
            }
            Event::PeerUp(address) => write!(f, "peer {address} is up"),
            Event::PeerLost(address) => write!(f, "peer {address} is lost"),
        }
    }
}

/// One event of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it happened, the last time.
    pub at: Instant,
    /// How often; more than 1 only if [`Event::is_cheap`].
    pub times: u32,
    /// What, the last time.
    pub event: Event,
}

const _: () = assert!(core::mem::size_of::<Entry>() <= 88);

/// The ring; the oldest goes when it is full.
#[derive(Clone, Debug)]
pub struct Log {
    entries: Deque<Entry, EVENTS>,
    /// Sequence number of the next event.
    next: u32,
}

impl Log {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            entries: Deque::new(),
            next: 0,
        }
    }

    /// Remembers an event.
    pub fn add(&mut self, now: Instant, event: Event) {
        let mut earlier = self.entries.iter_mut().rev();
        let same = earlier.find(|entry| event.is_like(&entry.event));
        if let Some(last) = same
            && event.is_cheap()
            && last.event.is_cheap()
            && now <= last.at + EVENT_REPEAT
        {
            *last = Entry {
                at: now,
                times: last.times.saturating_add(1),
                event,
            };
            return;
        }
        if self.entries.is_full() {
            self.entries.pop_front();
        }
        let entry = Entry {
            at: now,
            times: 1,
            event,
        };
        // A place was made above.
        let _fits = self.entries.push_back(entry).is_ok();
        self.next = self.next.wrapping_add(1);
    }

    /// Sequence number that the next event will have; they count from 0.
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Sequence number of the oldest event held.
    pub fn first(&self) -> u32 {
        self.next.wrapping_sub(self.entries.len() as u32)
    }

    /// The event with a sequence number, while it is held.
    pub fn get(&self, sequence: u32) -> Option<&Entry> {
        let index = sequence.wrapping_sub(self.first()) as usize;
        self.entries.iter().nth(index)
    }

    /// Events from the oldest to the newest.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 9, 1]);

    #[test]
    fn s11_of_a_panic_the_place_is_told_first_and_of_a_long_place_its_end() {
        let told = |text| Text::of_panic(text).bytes().to_vec();
        let text = "asked for at once at src/bin/malta.rs:184";
        assert_eq!(told(text), b"src/bin/malta.rs:184: asked for at once");
        assert_eq!(told("no place"), b"no place");
        let long = format!("out of range at {}/mod.rs:1234", "d/".repeat(40));
        assert!(told(&long).ends_with(b"/d//mod.rs:1234"));
        assert_eq!(told(&long).len(), EVENT_TEXT_BYTES_MAX);
    }

    #[test]
    fn a_text_takes_what_it_has_room_for() {
        use fmt::Write;
        let mut text = Text::EMPTY;
        for _ in 0..10 {
            assert_eq!(write!(text, "{:08x}, ", 0x8000_1234_u32), Ok(()));
        }
        assert_eq!(text.bytes(), b"80001234, ".repeat(4));
    }

    #[test]
    fn the_ring_keeps_the_newest_under_their_numbers() {
        let mut log = Log::new();
        for i in 0..EVENTS as i64 + 10 {
            log.add(Instant::from_secs(i), Event::SettingsLoaded);
        }
        assert_eq!(log.iter().count(), EVENTS);
        assert_eq!(log.first(), 10);
        assert_eq!(log.get(9), None);
        assert_eq!(
            log.get(10).map(|entry| entry.at),
            Some(Instant::from_secs(10))
        );
        assert_eq!(log.get(log.next()), None);
        assert_eq!(
            log.iter().next_back().unwrap().at,
            Instant::from_secs(EVENTS as i64 + 9)
        );
    }

    #[test]
    fn a_flood_of_one_kind_takes_one_place() {
        let mut log = Log::new();
        log.add(Instant::ZERO, Event::LeaseLost("expired"));
        for i in 0..10_000_i64 {
            let mac = EthernetAddress([2, 0, 0, 0, (i >> 8) as u8, i as u8]);
            log.add(Instant::from_millis(i), Event::PoolFull { mac });
            log.add(
                Instant::from_millis(i),
                Event::LeaseRefused("net is the LAN's"),
            );
        }
        assert_eq!(log.iter().count(), 3);
        assert_eq!(log.iter().nth(1).unwrap().times, 10_000);
        let later = Instant::from_millis(9_999) + EVENT_REPEAT;
        log.add(
            later + smoltcp::time::Duration::from_micros(1),
            Event::PoolFull { mac: MAC },
        );
        assert_eq!(log.iter().count(), 4, "later is another event");
    }

    #[test]
    fn a_neighbour_that_comes_and_goes_takes_two_places_and_no_other_neighbours() {
        let mut log = Log::new();
        let [one, other] = [1, 2].map(|last| Ipv4Addr::new(10, 77, 0, last));
        log.add(Instant::ZERO, Event::PeerUp(other));
        for i in 0..100 {
            let at = Instant::from_millis(i * 200);
            log.add(at, Event::PeerUp(one));
            log.add(at, Event::PeerLost(one));
        }
        let told: Vec<_> = log.iter().map(|entry| (entry.times, entry.event)).collect();
        assert_eq!(
            told,
            [
                (1, Event::PeerUp(other)),
                (100, Event::PeerUp(one)),
                (100, Event::PeerLost(one))
            ]
        );
    }

    #[test]
    fn what_the_owner_must_not_miss_is_never_merged() {
        let mut log = Log::new();
        for _ in 0..3 {
            log.add(
                Instant::ZERO,
                Event::StoreFailed(Stored::Settings, "erase failed"),
            );
        }
        assert_eq!(log.iter().count(), 3);
    }

    #[test]
    fn a15_text_of_an_event_is_cut_and_escaped() {
        let name = Text::new(b"a\x1b[2J\r\n\xff\\");
        let event = Event::HostLeased {
            address: Ipv4Addr::new(192, 168, 1, 100),
            mac: MAC,
            name,
        };
        assert_eq!(
            event.to_string(),
            "192.168.1.100 leased to 02:00:00:00:09:01 a\\x1b[2J\\x0d\\x0a\\xff\\\\"
        );
        assert_eq!(Text::new(&[b'x'; 100]).bytes().len(), EVENT_TEXT_BYTES_MAX);
    }
}
