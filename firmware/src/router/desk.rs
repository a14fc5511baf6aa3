//! The router's side of its console: the serial line's bytes, echo requests of its own, and what is saved.
//!
//! Calling order of a board, each turn: [`Router::on_console_input`] for what was typed, no more than
//! [`Router::console_input_room`]; [`Router::poll_console`] with the room of its output; it may sleep only when
//! [`Router::console_is_ready`] says no.

use core::net::Ipv4Addr;

use smoltcp::time::Instant;

use super::{Action, Counter, Router, Unsent, Verdict};
use crate::budget::{
    CONSOLE_POLLS_MAX, LOCAL_PORT_FIRST, LOCAL_PORT_LAST, PEERS_MAX, SAVE_TIMEOUT,
};
use crate::console::Console;
use crate::events::{Event, Log, Stored};
use crate::links::peer::Peer;
use crate::ping::{PAYLOAD_BYTES, Ping, PingError, Request};
use crate::port::{Egress, Port, PortAddress};
use crate::settings::Settings;
use crate::wire::checksum;
use crate::wire::packet::{
    ETHERNET_BYTES, ICMP_BYTES, IPV4_BYTES, PROTOCOL_ICMP, Packet, Transport, icmp_type,
};
use crate::wire::segment;

/// A console and what it is waiting for.
pub(super) struct Desk<'m> {
    /// Taken while it works on the router that it is a part of.
    console: Option<&'m mut Console>,
    pub(super) ping: Ping,
    /// What a reboot would find.
    stored: Settings,
    /// What the store was given last.
    handed_out: Option<Settings>,
    /// When the board was asked to store settings.
    saving: Option<Instant>,
    /// The neighbours that were up at the last look.
    peers_up: [Option<Ipv4Addr>; PEERS_MAX],
    /// How the life before ended.
    reset: Option<Event>,
    /// IP identification of the next echo request.
    ident: u16,
}

impl<'m> Desk<'m> {
    pub(super) fn new(console: &'m mut Console, ident: u16) -> Self {
        Self {
            console: Some(console),
            ping: Ping::new(),
            stored: Settings::new(),
            handed_out: None,
            saving: None,
            peers_up: [None; PEERS_MAX],
            reset: None,
            ident,
        }
    }

    /// How the life before ended, once the board has told.
    pub(super) const fn reset(&self) -> Option<&Event> {
        self.reset.as_ref()
    }

    pub(super) const fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    pub(super) fn is_saved(&self, settings: &Settings) -> bool {
        self.stored == *settings
    }

    /// The board was asked to store the settings.
    pub(super) fn save(&mut self, now: Instant) {
        self.saving = Some(now);
    }

    /// The store was given these settings: what a reboot finds once it says so, whatever is set meanwhile.
    pub(super) fn on_handed_out(&mut self, settings: &Settings) {
        self.handed_out = Some(*settings);
    }

    /// Takes from an event what is kept beyond the log; `settings` are those in force.
    fn on_event(&mut self, event: &Event, settings: &Settings) {
        match event {
            Event::Reset { .. } => self.reset = Some(*event),
            Event::SettingsLoaded | Event::SettingsMigrated { .. } | Event::SettingsEarlier(_) => {
                self.stored = *settings;
            }
            Event::SettingsDefaults(_) => self.stored = Settings::new(),
            Event::Stored(Stored::Settings) => {
                self.saving = None;
                self.stored = self.handed_out.take().unwrap_or(*settings);
            }
            Event::StoreFailed(Stored::Settings, _) => self.saving = None,
            Event::Stored(Stored::Leases | Stored::Seed)
            | Event::StoreFailed(Stored::Leases | Stored::Seed, _)
            | Event::LeaseGot { .. }
            | Event::LeaseRenewed { .. }
            | Event::LeaseLost(_)
            | Event::LeaseRefused(_)
            | Event::HostLeased { .. }
            | Event::AddressConflict { .. }
            | Event::OtherServer { .. }
            | Event::PoolFull { .. }
            | Event::UpgradeRefused(_)
            | Event::UpgradeWritten { .. }
            | Event::PeerUp(_)
            | Event::PeerLost(_) => {}
        }
    }

    /// The neighbour in a place of the settings' list is up, or none is there; what is to be told of it.
    pub(super) fn on_peer(&mut self, index: usize, up: Option<Ipv4Addr>) -> [Option<Event>; 2] {
        let Some(place) = self.peers_up.get_mut(index) else {
            return [None; 2];
        };
        let before = core::mem::replace(place, up);
        if before == up {
            return [None; 2];
        }
        [before.map(Event::PeerLost), up.map(Event::PeerUp)]
    }

    pub(super) fn poll_at(&self) -> Option<Instant> {
        let saving = self.saving.map(|since| since + SAVE_TIMEOUT);
        [self.ping.poll_at(), saving].into_iter().flatten().min()
    }
}

impl<'m> Router<'m> {
    /// Remembers what happened, for `log`; what matters is printed on the console at once.
    pub fn event(&mut self, now: Instant, event: Event) {
        self.house_duty.touch();
        self.desk.on_event(&event, &self.settings);
        self.log.add(now, event);
    }

    /// What happened lately.
    pub const fn log(&self) -> &Log {
        self.log
    }

    /// Takes one byte of the serial console and does all that follows from it; echo and answers go to `out`, which has
    /// room for everything.
    pub fn on_console_byte(
        &mut self,
        now: Instant,
        byte: u8,
        out: &mut dyn core::fmt::Write,
    ) -> Action {
        self.on_console_input(byte);
        for _ in 0..CONSOLE_POLLS_MAX {
            let action = self.poll_console(now, usize::MAX, out);
            if action != Action::None || !self.console_is_ready(usize::MAX) {
                return action;
            }
        }
        Action::None
    }

    /// Takes one typed byte; [`Self::poll_console`] works on it.
    pub fn on_console_input(&mut self, byte: u8) {
        if let Some(console) = &mut self.desk.console {
            console.on_input(byte);
        }
    }

    /// Typed bytes that may be handed over without loss.
    pub fn console_input_room(&self) -> usize {
        self.desk
            .console
            .as_ref()
            .map_or(0, |console| console.input_room())
    }

    /// Whether [`Self::poll_console`] would do something with that much room.
    pub fn console_is_ready(&self, room: usize) -> bool {
        let console = self.desk.console.as_ref();
        console.is_some_and(|console| console.is_ready(self, room))
    }

    /// Goes on with what is typed, listed and told; `out` has room for `room` bytes. Bounded work a call.
    pub fn poll_console(
        &mut self,
        now: Instant,
        room: usize,
        out: &mut dyn core::fmt::Write,
    ) -> Action {
        self.now = now;
        let is_idle = match &self.desk.console {
            Some(console) => console.is_idle(self, room),
            None => true,
        };
        if is_idle {
            return Action::None;
        }
        // What it does may concern every part.
        self.touch();
        // The console works on the router it is a part of.
        let Some(console) = self.desk.console.take() else {
            return Action::None;
        };
        let action = console.poll(self, room, out);
        self.desk.console = Some(console);
        action
    }

    /// Begins a series of echo requests.
    ///
    /// # Errors
    /// No port leads to `target`, or it is ours.
    pub(super) fn start_ping(&mut self, target: Ipv4Addr, count: u32) -> Result<(), PingError> {
        let port = self.port_to(target).ok_or(PingError::NoRoute)?;
        let own = |port: &PortAddress| port.cidr.is_some_and(|own| own.address() == target);
        if self.addresses.iter().any(own) {
            return Err(PingError::Own);
        }
        if crate::neighbor::next_hop(&self.addresses[port.index()], target).is_none() {
            return Err(PingError::NoRoute);
        }
        // Never a flow's, and another one than the last series', whose late answers may still come.
        let ident = LOCAL_PORT_FIRST + self.desk.ident % (LOCAL_PORT_LAST - LOCAL_PORT_FIRST);
        self.desk.ident = self.desk.ident.wrapping_add(1);
        self.desk.ping.start(self.now, target, ident, count);
        Ok(())
    }

    /// The port by which the router's own packets to `target` leave, if that has an address.
    fn port_to(&self, target: Ipv4Addr) -> Option<Port> {
        let port = [Port::Lan, Port::Air]
            .into_iter()
            .find(|&port| self.is_on(port, target))
            .unwrap_or(Port::Wan);
        self.addresses[port.index()].cidr.map(|_| port)
    }

    /// Runs the timers of echo requests and of saving, and tells which neighbours have come and gone.
    pub(super) fn poll_desk<E: Egress>(&mut self, now: Instant, out: &mut E) {
        self.tell_peers(now);
        if let Some(since) = self.desk.saving
            && now >= since + SAVE_TIMEOUT
        {
            self.event(
                now,
                Event::StoreFailed(Stored::Settings, "the store does not answer"),
            );
        }
        self.desk.ping.poll(now);
        if let Some(request) = self.desk.ping.poll_transmit(now)
            && self.send_echo(now, &request, out).is_err()
        {
            self.desk.ping.unsent(now);
        }
    }

    fn tell_peers(&mut self, now: Instant) {
        for index in 0..PEERS_MAX {
            let peer = self.accelerator.peers.get(index);
            let is = peer.filter(|peer| peer.is_up()).and_then(Peer::address);
            for event in self.desk.on_peer(index, is).into_iter().flatten() {
                self.event(now, event);
            }
        }
    }

    fn send_echo<E: Egress>(
        &mut self,
        now: Instant,
        request: &Request,
        out: &mut E,
    ) -> Result<(), Unsent> {
        let port = self.port_to(request.target).ok_or(Unsent)?;
        let own = self.addresses[port.index()].cidr.ok_or(Unsent)?;
        self.desk.ident = self.desk.ident.wrapping_add(1);
        let mut frame = [0; ETHERNET_BYTES + IPV4_BYTES + ICMP_BYTES + PAYLOAD_BYTES];
        let (src, dst) = (own.address(), request.target);
        segment::emit_ipv4(&mut frame, PROTOCOL_ICMP, src, dst, self.desk.ident);
        let icmp = &mut frame[ETHERNET_BYTES + IPV4_BYTES..];
        icmp[0] = icmp_type::ECHO_REQUEST;
        icmp[4..6].copy_from_slice(&request.ident.to_be_bytes());
        icmp[6..8].copy_from_slice(&request.seq.to_be_bytes());
        for (index, byte) in icmp[ICMP_BYTES..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        let field = checksum::finish(checksum::sum(icmp));
        icmp[2..4].copy_from_slice(&field.to_be_bytes());
        let fill = |packet: &mut [u8]| packet.copy_from_slice(&frame[ETHERNET_BYTES..]);
        self.send_ip(now, port, dst, frame.len(), fill, out)
    }

    /// Whether a packet for the router answers an echo request of its own.
    pub(super) fn is_own_echo_reply(&self, packet: &Packet) -> bool {
        matches!(&packet.transport, Transport::Icmp(icmp)
            if icmp.kind == icmp_type::ECHO_REPLY && self.desk.ping.has_ident(icmp.ident))
    }

    /// Takes the answer to an echo request of our own.
    pub(super) fn on_echo_reply(&mut self, now: Instant, packet: &Packet, frame: &[u8]) -> Verdict {
        if !packet.transport_checksum_ok(frame) {
            return self.drop(Counter::TransportChecksum);
        }
        let sequence = frame
            .get(usize::from(packet.l4) + 6..)
            .and_then(|rest| rest.first_chunk());
        if let Some(&sequence) = sequence {
            let sequence = u16::from_be_bytes(sequence);
            self.desk
                .ping
                .on_reply(now, packet.src, sequence, packet.ttl);
        }
        Verdict::Answer
    }
}
