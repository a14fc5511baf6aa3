//! What of a router outlives a reset: its side of the [store](crate::store).
//!
//! The board loads what is stored by [`Router::restore_all`] before its main loop, and calls
//! [`Store::poll`] with the router in each turn; the outcome becomes an event.

use smoltcp::time::Instant;

use super::Router;
use crate::dhcp::server;
use crate::events::{Event, Stored};
use crate::settings::{self, Settings};
use crate::store::{
    Boot, Client, Flash, Kind, Lost, Pending, Refused, Restored, SaveError, Saved, Store,
};

/// What waits to be stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Persist {
    settings: bool,
}

impl Router<'_> {
    /// Asks for the settings in force to be stored; the outcome is an event.
    pub fn save(&mut self) {
        self.touch();
        self.desk.save(self.now);
        self.persist.settings = true;
    }

    /// Puts what is stored in force, or says why not. Before the main loop: it reads without pause.
    pub fn restore_all<F: Flash>(
        &mut self,
        now: Instant,
        store: &mut Store,
        flash: &mut F,
    ) -> Boot {
        let boot = store.load(now, flash, Kind::Settings, self);
        self.event(
            now,
            match boot {
                Boot::Loaded => Event::SettingsLoaded,
                Boot::Migrated(from) => Event::SettingsMigrated { from },
                Boot::Earlier(lost) => Event::SettingsEarlier(lost.text()),
                Boot::Defaults(lost) => Event::SettingsDefaults(lost.text()),
            },
        );
        match store.load(now, flash, Kind::Leases, self) {
            // Hosts ask again for what they have.
            Boot::Loaded | Boot::Migrated(_) | Boot::Earlier(_) | Boot::Defaults(Lost::Empty) => {}
            Boot::Defaults(lost) => {
                self.event(now, Event::StoreFailed(Stored::Leases, lost.text()));
            }
        }
        boot
    }
}

const fn stored(kind: Kind) -> Stored {
    match kind {
        Kind::Settings => Stored::Settings,
        Kind::Leases => Stored::Leases,
        Kind::Seed => Stored::Seed,
    }
}

impl Client for Router<'_> {
    fn restore(
        &mut self,
        now: Instant,
        kind: Kind,
        version: u16,
        body: &[u8],
    ) -> Result<Restored, Refused> {
        self.now = now;
        self.touch();
        match kind {
            Kind::Settings => {
                let (settings, restored) = Settings::decode(version, body)?;
                self.apply_settings(&settings);
                Ok(restored)
            }
            Kind::Leases => {
                let Some(lan) = server::Context::new(&self.settings.lan) else {
                    return Err(Refused::Malformed);
                };
                let server = &mut self.services.dhcp_server;
                server.restore(now, &lan, version, body)?;
                Ok(Restored::AsStored)
            }
            // The board's, before there is a router.
            Kind::Seed => Err(Refused::Version),
        }
    }

    fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Settings => self.persist.settings,
            Kind::Leases => self.services.dhcp_server.wants_save(),
            Kind::Seed => false,
        }
    }

    fn pending(&mut self, now: Instant, kind: Kind, out: &mut [u8]) -> Option<Pending> {
        self.touch();
        match kind {
            Kind::Settings => {
                self.persist.settings = false;
                self.desk.on_handed_out(&self.settings);
                let length = self.settings.encode(out)?;
                Some(Pending {
                    version: settings::VERSION,
                    length,
                })
            }
            Kind::Leases => Some(Pending {
                version: server::STORED_VERSION,
                length: self.services.dhcp_server.encode(now, out),
            }),
            Kind::Seed => None,
        }
    }

    fn on_stored(&mut self, now: Instant, kind: Kind, result: Result<Saved, SaveError>) {
        self.touch();
        let what = stored(kind);
        if kind == Kind::Leases && result.is_err() {
            self.services.dhcp_server.on_save_failed(now);
        }
        self.event(
            now,
            match result {
                Ok(Saved::Written | Saved::Unchanged) => Event::Stored(what),
                Err(error) => Event::StoreFailed(what, error.text()),
            },
        );
    }
}
