//! The lease table over a reboot: its bytes, and when they are worth a write.
//!
//! Units: seconds in the bytes.
//! Budget: at most [`LEASES_BYTES_MAX`] bytes, whatever the clients call themselves.

use serde::{Deserialize, Serialize};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, Ipv4Address};

use super::leases::{Hold, Identity, Row, left};
use super::message::Name;
use super::{Context, Server};
use crate::budget::{
    LEASE_SAVE_SOON, LEASES, LEASES_BYTES_MAX, STORE_BODY_BYTES_MAX, STORED_NAME_BYTES_MAX,
};
use crate::store::Refused;

/// Version of the stored form.
pub const STORED_VERSION: u16 = 1;
/// A row's bytes at most: address, MAC address, identity, a flag, a number of seconds, a short name.
const ROW_BYTES_MAX: usize = 4 + 6 + 8 + 1 + 5 + 1 + STORED_NAME_BYTES_MAX;
/// Longest time that is believed when read back: some 34 years.
const SECONDS_MAX: u32 = 1 << 30;

/// One lease or memory of one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Stored<'a> {
    address: [u8; 4],
    mac: [u8; 6],
    identity: [u8; 8],
    /// A lease that runs; else the memory of one.
    bound: bool,
    /// Still left, or since the end.
    seconds: u32,
    name: &'a [u8],
}

/// When the table is to be written. How often it may be is the store's care.
pub(super) struct Saving {
    due: Option<Instant>,
    wanted: bool,
}

impl Saving {
    pub(super) const fn new() -> Self {
        Self {
            due: None,
            wanted: false,
        }
    }

    /// Something changed: several changes at once are one write.
    pub(super) fn on_change(&mut self, now: Instant) {
        self.due.get_or_insert(now + LEASE_SAVE_SOON);
    }

    pub(super) fn poll(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.wanted = true;
        }
    }

    /// When [`poll`](Self::poll) has something to do.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        self.due
    }
}

impl Server {
    /// Whether the table waits to be written to flash.
    pub fn wants_save(&self) -> bool {
        self.saving.wanted
    }

    /// The write of what was encoded last failed. It is tried again as if something had changed.
    pub fn on_save_failed(&mut self, now: Instant) {
        self.saving.on_change(now);
    }

    /// Writes leases and memories of leases to the beginning of `out`, in the form of
    /// [`STORED_VERSION`]; how many bytes they take. Nothing waits to be written from then on,
    /// until something changes. Rows that find no room are left out; [`LEASES_BYTES_MAX`] is
    /// room for all.
    pub fn encode(&mut self, now: Instant, out: &mut [u8]) -> usize {
        self.saving = Saving::new();
        let mut len = 0;
        for row in self.table.rows() {
            let (bound, time) = match row.hold {
                Hold::Bound { until } => (true, left(now, until)),
                Hold::Ended { since } => (false, left(since, now)),
                Hold::Offered { .. } if row.known => (false, Duration::ZERO),
                Hold::Offered { .. } | Hold::Aside { .. } => continue,
            };
            let stored = Stored {
                address: row.address.octets(),
                mac: row.mac.0,
                identity: row.identity.0.to_be_bytes(),
                bound,
                seconds: u32::try_from(time.secs()).unwrap_or(SECONDS_MAX),
                name: &row.name[..row.name.len().min(STORED_NAME_BYTES_MAX)],
            };
            if let Ok(bytes) = postcard::to_slice(&stored, &mut out[len..]) {
                len += bytes.len();
            }
        }
        len
    }

    /// Puts back what [`encode`](Self::encode) wrote; how many leases run. To be called before the
    /// first datagram. Rows that the settings do not allow are left out.
    ///
    /// # Errors
    /// Why nothing was put back; the table is as before.
    pub fn restore(
        &mut self,
        now: Instant,
        lan: &Context<'_>,
        version: u16,
        bytes: &[u8],
    ) -> Result<usize, Refused> {
        if version != STORED_VERSION {
            return Err(Refused::Version);
        }
        let is_whole = |mut rest: &[u8]| {
            while !rest.is_empty() {
                rest = postcard::take_from_bytes::<Stored<'_>>(rest).ok()?.1;
            }
            Some(())
        };
        is_whole(bytes).ok_or(Refused::Malformed)?;
        let mut rest = bytes;
        while let Ok((stored, behind)) = postcard::take_from_bytes::<Stored<'_>>(rest) {
            rest = behind;
            self.table.restore(row_of(now, &stored));
        }
        self.table.retain(lan);
        let bound = self.table.rows().iter();
        Ok(bound
            .filter(|row| matches!(row.hold, Hold::Bound { .. }))
            .count())
    }
}

fn row_of(now: Instant, stored: &Stored<'_>) -> Row {
    let time = Duration::from_secs(u64::from(stored.seconds.min(SECONDS_MAX)));
    let mac = EthernetAddress(stored.mac);
    let mut name = Name::new();
    let kept = stored.name.len().min(name.capacity());
    name.extend_from_slice(&stored.name[..kept])
        .expect("cut to the name's capacity");
    Row {
        address: Ipv4Address::from_octets(stored.address),
        identity: Identity(u64::from_be_bytes(stored.identity)),
        mac,
        station: mac,
        name,
        hold: if stored.bound {
            Hold::Bound { until: now + time }
        } else {
            Hold::Ended { since: now - time }
        },
        known: true,
        settled: true,
    }
}

const _: () = assert!(LEASES * ROW_BYTES_MAX <= LEASES_BYTES_MAX);
const _: () = assert!(LEASES_BYTES_MAX <= STORE_BODY_BYTES_MAX);
