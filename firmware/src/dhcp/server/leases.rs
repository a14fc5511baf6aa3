//! The lease table: who has which address, and which address a client gets.
//!
//! Units: absolute times; durations by name.
//! Budget: about 100 bytes × `LEASES`.
//!
//! | hold | input | next |
//! | --- | --- | --- |
//! | none | offered | `Offered` |
//! | none, `Offered`, `Ended` | bound | `Bound` |
//! | `Ended` | offered to its owner, or to another when nothing else is left | `Offered` |
//! | `Offered` | [`OFFER_TIMEOUT`], withdrawn, recycled | `Ended` if the owner had it before, else none |
//! | `Bound` | its time is over, given back, refused | `Ended` |
//! | `Offered`, `Bound` | the owner says that another host uses it | `Aside` |
//! | `Aside` | [`DECLINED_TIMEOUT`], or too many are | none |
//!
//! Invariants:
//! - I1 no address stands in two rows.
//! - I2 no client has two rows that are `Bound` or `Ended`, nor two that are `Offered`.
//! - I3 at most [`OFFERS_MAX`] rows are `Offered`, at most [`DECLINED_MAX`] are `Aside`.

use heapless::Vec;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::Context;
use super::message::{Message, Name};
use crate::budget::{
    DECLINED_MAX, DECLINED_TIMEOUT, LEASES, OFFER_TIMEOUT, OFFERS_MAX, OFFERS_PER_STATION_MAX,
    POOL_PROBES_MAX,
};

/// Who a client is: a hash of its identifier (option 61), else its MAC address.
///
/// RFC 2131 section 4.2: "If the client supplies a 'client identifier', the server MUST use it"
/// as the key. An identifier that merely repeats the MAC address counts as that, so that a machine
/// keeps its address whether or not its boot program sends one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u64);

impl Identity {
    /// Set in hashes; MAC addresses leave it clear.
    const HASHED: u64 = 1 << 63;

    pub(super) fn of(message: &Message) -> Self {
        let mac = message.chaddr;
        match message.client_id.as_slice() {
            [] => Self::of_mac(mac),
            [1, rest @ ..] if rest == mac.as_bytes() => Self::of_mac(mac),
            id => Self(fnv1a(id) | Self::HASHED),
        }
    }

    pub(super) fn of_mac(mac: EthernetAddress) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
}

/// FNV-1a, 64 bits. Who wants to collide with another client can as well copy its identifier.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A client as it shows itself in one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) identity: Identity,
    /// The MAC address that it names as its own.
    pub(super) mac: EthernetAddress,
    /// The station that sent the frame; not the client's own behind some repeaters.
    pub(super) station: EthernetAddress,
}

/// What is known about an address.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) address: Ipv4Address,
    pub(super) identity: Identity,
    pub(super) mac: EthernetAddress,
    pub(super) station: EthernetAddress,
    pub(super) name: Name,
    pub(super) hold: Hold,
    /// This owner had the address before; a lapsed offer does not end that.
    pub(super) known: bool,
    /// This owner gets the full lease time even when addresses are scarce.
    pub(super) settled: bool,
}

/// How an address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Kept for a client that has not yet asked for it.
    Offered {
        until: Instant,
    },
    Bound {
        until: Instant,
    },
    /// Nobody's, remembered for its last owner.
    Ended {
        since: Instant,
    },
    /// Used by a host that has it from elsewhere.
    Aside {
        until: Instant,
    },
}

/// No address could be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// All are in use.
    Full,
    /// This station holds its share.
    StationFull,
}

/// A question about addresses: who asks, when, about which net.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) now: Instant,
    pub(super) client: Client,
    pub(super) lan: &'a Context<'a>,
    /// The neighbor that answers for an address, if known.
    pub(super) who_has: &'a dyn Fn(Ipv4Address) -> Option<EthernetAddress>,
}

/// The rows.
pub(super) struct Table {
    rows: Vec<Row, LEASES>,
}

impl Row {
    fn until(&self) -> Option<Instant> {
        match self.hold {
            Hold::Offered { until } | Hold::Bound { until } | Hold::Aside { until } => Some(until),
            Hold::Ended { .. } => None,
        }
    }

    fn is_offered(&self) -> bool {
        matches!(self.hold, Hold::Offered { .. })
    }

    fn is_aside(&self) -> bool {
        matches!(self.hold, Hold::Aside { .. })
    }

    /// Whether the address may not be given to anybody but its owner.
    fn is_held(&self) -> bool {
        self.until().is_some()
    }

    /// Whether the address is the client's. One that is reserved for a MAC address is that
    /// host's, whichever identifier its present system sends.
    pub(super) fn is_of(&self, client: &Client, lan: &Context<'_>) -> bool {
        let is_reserved = || self.mac == client.mac && lan.owner_of(self.address) == Some(self.mac);
        !self.is_aside() && (self.identity == client.identity || is_reserved())
    }

    /// How firmly a client has the address, to choose among its rows.
    fn rank(&self) -> u8 {
        match self.hold {
            Hold::Bound { .. } => 3,
            Hold::Offered { .. } => 2,
            Hold::Ended { .. } => 1,
            Hold::Aside { .. } => 0,
        }
    }
}

impl Table {
    /// Knows nobody.
    pub(super) const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn row(&self, address: Ipv4Address) -> Option<&Row> {
        self.rows.iter().find(|row| row.address == address)
    }

    fn place(&self, address: Ipv4Address) -> Option<usize> {
        self.rows.iter().position(|row| row.address == address)
    }

    /// The client's own row, the firmest.
    pub(super) fn own(&self, client: &Client, lan: &Context<'_>) -> Option<&Row> {
        self.rows
            .iter()
            .filter(|row| row.is_of(client, lan))
            .max_by_key(|row| row.rank())
    }

    /// When the next row ends.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        self.rows.iter().filter_map(Row::until).min()
    }

    /// Ends what is over; how many leases did.
    pub(super) fn expire(&mut self, now: Instant) -> u32 {
        let mut ended = 0;
        for place in (0..self.rows.len()).rev() {
            let row = &self.rows[place];
            if let Some(until) = row.until().filter(|&until| until <= now) {
                ended += u32::from(matches!(row.hold, Hold::Bound { .. }));
                self.end(until, place);
            }
        }
        ended
    }

    /// Ends one row: a lease and a known owner are remembered, else the row goes.
    fn end(&mut self, now: Instant, place: usize) {
        let row = &self.rows[place];
        let has_lease = |other: &Row| {
            other.address != row.address
                && other.identity == row.identity
                && matches!(other.hold, Hold::Bound { .. } | Hold::Ended { .. })
        };
        // I2: beside a lease, a lapsed offer is nothing to remember.
        if row.known && !row.is_aside() && !self.rows.iter().any(has_lease) {
            self.rows[place].hold = Hold::Ended { since: now };
        } else {
            self.rows.swap_remove(place);
        }
    }

    /// The address for a client that asks for any, without taking it.
    ///
    /// In this order: the one reserved for it; the one it has or had; the one it wishes; one that
    /// nobody had, beginning at a place that depends on the client only; the one that is nobody's
    /// for the longest time; the one that was offered to somebody else the longest time ago. The
    /// last two change places while there are as many offers as may be, so that a flood of
    /// questions wears out its own offers and not the memory of clients that are away.
    pub(super) fn choose(
        &self,
        asked: &Asked<'_>,
        wished: Option<Ipv4Address>,
    ) -> Result<Ipv4Address, NoAddress> {
        let Asked { client, lan, .. } = asked;
        let own = self.own(client, lan).map(|row| row.address);
        let is_free = |&address: &Ipv4Address| self.is_free_for(asked, address, false);
        let mut known = [lan.reserved_for(client.mac), own].into_iter().flatten();
        if let Some(address) = known.find(is_free) {
            return Ok(address);
        }
        if self.is_station_full(client, lan) {
            return Err(NoAddress::StationFull);
        }
        let fresh = wished.filter(is_free).or_else(|| self.untouched(asked));
        let offers = self.rows.iter().filter(|row| row.is_offered()).count();
        let used = || {
            if offers >= lan.offers_max() {
                self.oldest_offer(asked)
                    .or_else(|| self.longest_ended(asked))
            } else {
                self.longest_ended(asked)
                    .or_else(|| self.oldest_offer(asked))
            }
        };
        fresh.or_else(used).ok_or(NoAddress::Full)
    }

    /// Whether the client may have the address now. The memory of somebody else who had it is
    /// respected; an offer to somebody else too, except by a client that was offered it as well
    /// and is the first to take it (`selecting`).
    pub(super) fn is_free_for(
        &self,
        asked: &Asked<'_>,
        address: Ipv4Address,
        selecting: bool,
    ) -> bool {
        let Asked { client, lan, .. } = asked;
        if !lan.may_have(address, client.mac) {
            return false;
        }
        let is_reserved = lan.owner_of(address).is_some();
        match self.row(address) {
            // Its owner finds out by itself whether somebody else uses it (RFC 2131 section 3.1).
            Some(row) if row.is_of(client, lan) && row.is_held() => true,
            Some(row) if row.is_of(client, lan) => !asked.is_used_by_another(address),
            Some(row) => match row.hold {
                Hold::Bound { .. } | Hold::Aside { .. } => false,
                Hold::Offered { .. } => selecting || is_reserved,
                Hold::Ended { .. } => is_reserved && !asked.is_used_by_another(address),
            },
            None => !asked.is_used_by_another(address),
        }
    }

    /// Whether the client's station holds its share of addresses.
    pub(super) fn is_station_full(&self, client: &Client, lan: &Context<'_>) -> bool {
        // Offers are not counted: a station has few of them, and they are recycled.
        let held = self.rows.iter();
        let held = held.filter(|row| row.is_held() && !row.is_offered());
        // The station itself has a place, whoever speaks through it.
        let is_itself =
            client.mac == client.station && held.clone().all(|row| row.mac != client.mac);
        let others = held
            .filter(|row| row.station == client.station && row.identity != client.identity)
            .count();
        others >= lan.station_leases_max() && !is_itself
    }

    /// An address without a row.
    fn untouched(&self, asked: &Asked<'_>) -> Option<Ipv4Address> {
        const WORDS: usize = POOL_PROBES_MAX / 32;
        let (first, last) = asked.lan.pool;
        let count = last
            .to_bits()
            .checked_sub(first.to_bits())?
            .checked_add(1)?;
        // Fibonacci hashing of the identity; the high bits are the mixed ones.
        let mixed = asked.client.identity.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let start = u32::try_from(mixed % u64::from(count)).ok()?;
        let mut taken = [0u32; WORDS];
        for row in &self.rows {
            if asked.lan.is_in_pool(row.address) {
                let index = row.address.to_bits() - first.to_bits();
                // As far behind the start as it will be looked at.
                let step = if index >= start {
                    index - start
                } else {
                    index + (count - start)
                };
                if let Some(word) = taken.get_mut(step as usize / 32) {
                    *word |= 1 << (step % 32);
                }
            }
        }
        let steps = count.min(POOL_PROBES_MAX as u32);
        (0..steps)
            .filter(|&step| taken[step as usize / 32] & (1 << (step % 32)) == 0)
            .map(|step| {
                let to_end = count - start;
                let index = if step < to_end {
                    start + step
                } else {
                    step - to_end
                };
                Ipv4Address::from_bits(first.to_bits() + index)
            })
            .find(|&address| {
                asked.lan.may_have(address, asked.client.mac) && !asked.is_used_by_another(address)
            })
    }

    fn longest_ended(&self, asked: &Asked<'_>) -> Option<Ipv4Address> {
        let ended = self.rows.iter().filter_map(|row| match row.hold {
            Hold::Ended { since } => Some((since, row.address)),
            Hold::Offered { .. } | Hold::Bound { .. } | Hold::Aside { .. } => None,
        });
        ended
            .filter(|&(_, address)| {
                asked.lan.may_have(address, asked.client.mac) && !asked.is_used_by_another(address)
            })
            .min()
            .map(|(_, address)| address)
    }

    fn oldest_offer(&self, asked: &Asked<'_>) -> Option<Ipv4Address> {
        let offers = self.rows.iter().filter(|row| row.is_offered());
        offers
            .filter(|row| asked.lan.may_have(row.address, asked.client.mac))
            .min_by_key(|row| (row.known, row.until()))
            .map(|row| row.address)
    }

    /// Keeps a chosen address for the client until it asks for it. How many other offers were
    /// given up for it.
    ///
    /// # Errors
    /// There is no row for it.
    pub(super) fn offer(
        &mut self,
        asked: &Asked<'_>,
        address: Ipv4Address,
        name: &Name,
    ) -> Result<u32, NoAddress> {
        let now = asked.now;
        let mut recycled = 0;
        if let Some(row) = self.row(address) {
            match row.hold {
                // The client has it and has forgotten; the lease goes on.
                Hold::Bound { .. } => return Ok(0),
                Hold::Offered { .. } => {
                    recycled += u32::from(!row.is_of(&asked.client, asked.lan));
                }
                Hold::Ended { .. } | Hold::Aside { .. } => {}
            }
        }
        while let Some(place) = self.offer_to_give_up(asked, address) {
            self.end(now, place);
            recycled += 1;
        }
        let until = now + OFFER_TIMEOUT;
        let row = self.take(asked, address).ok_or(NoAddress::Full)?;
        row.hold = Hold::Offered { until };
        if !name.is_empty() {
            row.name = name.clone();
        }
        Ok(recycled)
    }

    /// The offer that must go before another is made: the client's own one of another address,
    /// the oldest of its station, the oldest of all.
    fn offer_to_give_up(&self, asked: &Asked<'_>, address: Ipv4Address) -> Option<usize> {
        let others = || {
            let rows = self.rows.iter().enumerate();
            rows.filter(|(_, row)| row.is_offered() && row.address != address)
        };
        let own = others().find(|(_, row)| row.identity == asked.client.identity);
        if let Some((place, _)) = own {
            return Some(place);
        }
        let of_station = || others().filter(|(_, row)| row.station == asked.client.station);
        let oldest = if of_station().count() >= OFFERS_PER_STATION_MAX {
            of_station().min_by_key(|(_, row)| row.until())
        } else if others().count() >= asked.lan.offers_max() {
            others().min_by_key(|(_, row)| row.until())
        } else {
            None
        };
        oldest.map(|(place, _)| place)
    }

    /// Gives the client an address that is [free for it](Self::is_free_for), or
    /// [chosen](Self::choose), until a moment. Whether that is news: not a mere prolongation.
    /// `settled`: it gets the full time also next time.
    ///
    /// # Errors
    /// There is no row for it.
    pub(super) fn bind(
        &mut self,
        asked: &Asked<'_>,
        address: Ipv4Address,
        until: Instant,
        settled: bool,
        name: &Name,
    ) -> Result<bool, NoAddress> {
        let row = self.take(asked, address).ok_or(NoAddress::Full)?;
        let is_news = !matches!(row.hold, Hold::Bound { .. });
        row.hold = Hold::Bound { until };
        row.known = true;
        row.settled = settled;
        if !name.is_empty() {
            row.name = name.clone();
        }
        // A client has one lease (RFC 2131 section 2.2 speaks of "the" address of a client).
        for place in (0..self.rows.len()).rev() {
            let row = &self.rows[place];
            let is_other = row.identity == asked.client.identity && row.address != address;
            if is_other && !row.is_aside() {
                self.rows.swap_remove(place);
            }
        }
        Ok(is_news)
    }

    /// The row of an address, made the client's.
    fn take(&mut self, asked: &Asked<'_>, address: Ipv4Address) -> Option<&mut Row> {
        let client = asked.client;
        let place = match self.place(address) {
            Some(place) => place,
            None => {
                if self.rows.is_full() {
                    let place = self.row_to_give_up()?;
                    self.rows.swap_remove(place);
                }
                let row = Row {
                    address,
                    identity: client.identity,
                    mac: client.mac,
                    station: client.station,
                    name: Name::new(),
                    hold: Hold::Ended { since: asked.now },
                    known: false,
                    settled: false,
                };
                self.rows.push(row).ok()?;
                self.rows.len() - 1
            }
        };
        let row = &mut self.rows[place];
        if !row.is_of(&client, asked.lan) {
            row.name.clear();
            row.known = false;
            row.settled = false;
        }
        row.identity = client.identity;
        row.mac = client.mac;
        row.station = client.station;
        Some(row)
    }

    /// In a full table: the longest ended row, else the oldest offer.
    fn row_to_give_up(&self) -> Option<usize> {
        let rank = |row: &Row| match row.hold {
            Hold::Ended { since } => Some((0, since)),
            Hold::Offered { until } => Some((1, until)),
            Hold::Bound { .. } | Hold::Aside { .. } => None,
        };
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(place, row)| rank(row).map(|rank| (rank, place)))
            .min()
            .map(|(_, place)| place)
    }

    /// Takes back what was offered to the client: it took another server's offer.
    pub(super) fn withdraw(&mut self, asked: &Asked<'_>) {
        let is_own = |row: &Row| row.is_offered() && row.identity == asked.client.identity;
        if let Some(place) = self.rows.iter().position(is_own) {
            self.end(asked.now, place);
        }
    }

    /// Ends the lease of an address.
    pub(super) fn release(&mut self, now: Instant, address: Ipv4Address) {
        if let Some(place) = self.place(address) {
            self.end(now, place);
        }
    }

    /// Puts an address aside that somebody uses without having it from here.
    pub(super) fn decline(&mut self, now: Instant, address: Ipv4Address, lan: &Context<'_>) {
        let aside = || {
            self.rows
                .iter()
                .enumerate()
                .filter(|(_, row)| row.is_aside())
        };
        let place = if aside().count() >= lan.declined_max() {
            aside()
                .min_by_key(|(_, row)| row.until())
                .map(|(place, _)| place)
        } else {
            None
        };
        if let Some(place) = place {
            self.rows.swap_remove(place);
        }
        if let Some(place) = self.place(address) {
            self.rows[place].hold = Hold::Aside {
                until: now + DECLINED_TIMEOUT,
            };
        }
    }

    /// Whether so many addresses are in use that strangers get a short lease only.
    pub(super) fn is_scarce(&self, lan: &Context<'_>) -> bool {
        let in_pool = |row: &&Row| row.is_held() && lan.is_in_pool(row.address);
        self.rows.iter().filter(in_pool).count() * 4 >= lan.pool_count() * 3
    }

    /// Forgets what the net's new shape does not allow; whether anything was.
    ///
    /// A lease on an address that is now reserved for another host stays until its owner renews
    /// it, so that nobody else gets it while it is used.
    pub(super) fn retain(&mut self, lan: &Context<'_>) -> bool {
        let before = self.rows.len();
        self.rows.retain(|row| match row.hold {
            Hold::Bound { .. } => lan.is_given(row.address),
            Hold::Offered { .. } | Hold::Ended { .. } => lan.may_have(row.address, row.mac),
            Hold::Aside { .. } => lan.is_host(row.address),
        });
        self.rows.len() != before
    }

    /// Puts back a row that was stored; rows that contradict others are left out.
    pub(super) fn restore(&mut self, row: Row) {
        let is_other = |other: &Row| other.address != row.address && other.identity != row.identity;
        if self.rows.iter().all(is_other) && !self.rows.is_full() {
            self.rows.push(row).unwrap_or(()); // not full, as just seen
        }
    }

    /// Asserts the invariants.
    pub(super) fn check(&self) {
        for (place, row) in self.rows.iter().enumerate() {
            for other in &self.rows[place + 1..] {
                assert!(row.address != other.address, "I1");
                let alike = row.is_offered() == other.is_offered();
                let aside = row.is_aside() || other.is_aside();
                assert!(aside || !alike || row.identity != other.identity, "I2");
            }
        }
        let offers = self.rows.iter().filter(|row| row.is_offered());
        assert!(offers.count() <= OFFERS_MAX, "I3");
        let aside = self.rows.iter().filter(|row| row.is_aside());
        assert!(aside.count() <= DECLINED_MAX, "I3");
    }
}

/// How long it is until a moment; zero when it is over.
pub(super) fn left(now: Instant, until: Instant) -> Duration {
    if until > now {
        until - now
    } else {
        Duration::ZERO
    }
}

impl Asked<'_> {
    fn is_used_by_another(&self, address: Ipv4Address) -> bool {
        (self.who_has)(address)
            .is_some_and(|mac| mac != self.client.mac && mac != self.client.station)
    }
}
