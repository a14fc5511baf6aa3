//! What the console may see and change of a router.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};

use super::Router;
use super::upgrade::Transfer;
use crate::budget::{EXCHANGES_MAX, FLOWS};
use crate::conntrack::{Entry, Protocol};
use crate::console::{Escaped, Host, Mac, Table};
use crate::counters::{Counts, Stage};
use crate::dhcp::server;
use crate::events::{self, Event, Log};
use crate::exchange::Declined;
use crate::links::LinkId;
use crate::ping::{PingError, Report};
use crate::port::Port;
use crate::settings::{Settings, WanAddress};
use crate::upgrade::Refusal;

fn each_of<S: Stage, const N: usize>(
    stage: &str,
    counts: &Counts<S, N>,
    each: &mut dyn FnMut(&str, &str, u64),
) {
    for (name, value) in counts.iter() {
        each(stage, name, value);
    }
}

impl Host for Router<'_> {
    fn version(&self) -> &str {
        concat!("Tandem ", env!("CARGO_PKG_VERSION"))
    }

    fn uptime(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.now.total_micros()).unwrap_or(0))
    }

    fn settings(&self) -> Settings {
        self.settings
    }

    fn apply(&mut self, settings: &Settings) {
        self.apply_settings(settings);
    }

    fn is_saved(&self) -> bool {
        self.desk.is_saved(&self.settings)
    }

    fn save(&mut self) {
        Router::save(self);
    }

    fn is_saving(&self) -> bool {
        self.desk.is_saving()
    }

    fn log(&self) -> &Log {
        self.log
    }

    fn ping(&mut self, target: Ipv4Addr, count: u32) -> Result<(), PingError> {
        self.start_ping(target, count)
    }

    fn ping_report(&mut self) -> Option<Report> {
        self.desk.ping.poll_report()
    }

    fn has_ping_report(&self) -> bool {
        self.desk.ping.has_report()
    }

    fn end_ping(&mut self) {
        self.desk.ping.end();
    }

    fn counters(&self, each: &mut dyn FnMut(&str, &str, u64)) {
        each_of("router", &self.counts, each);
        each_of("conntrack", &self.conntrack.counts, each);
        each_of("fragments", self.fragments.counts(), each);
        each_of("neighbor", &self.neighbors.counts, each);
        each_of("accelerator", &self.accelerator.counts, each);
        each_of("exchange", self.accelerator.exchanges.counts(), each);
        each_of("declined", self.accelerator.exchanges.reasons(), each);
        each_of("lender", self.accelerator.lender.counts(), each);
        each_of("stack", self.accelerator.stack.counts(), each);
        each_of("dhcp-client", self.services.dhcp_client.counts(), each);
        each_of("dhcp-server", self.services.dhcp_server.counts(), each);
        each_of("dns", self.services.dns.counts(), each);
        each(
            "pool",
            "blocks-total",
            self.accelerator.pool.blocks_total() as u64,
        );
        each(
            "pool",
            "blocks-free",
            self.accelerator.pool.blocks_free() as u64,
        );
        each(
            "pool",
            "exchanges",
            self.accelerator.exchanges.active() as u64,
        );
        let (sessions, lendings) = self.accelerator.lender.active();
        each("pool", "sessions", sessions as u64);
        each("pool", "lendings", lendings as u64);
        each("pool", "flows", self.conntrack.len() as u64);
        each(
            "machine",
            "stack-deepest",
            self.machine.stack_deepest.into(),
        );
        each("machine", "stack-bytes", self.machine.stack_bytes.into());
        for (i, peer) in self.accelerator.peers.iter().enumerate() {
            const NAMES: [&str; 4] = ["0-bytes", "1-bytes", "2-bytes", "3-bytes"];
            if let (Some(name), Some(_)) = (NAMES.get(i), peer.address()) {
                each("peer", name, peer.bytes());
            }
        }
    }

    fn write_status(&self, out: &mut dyn Write, kv: bool) -> fmt::Result {
        if kv {
            self.write_status_kv(out)
        } else {
            self.write_screen(out)
        }
    }

    fn upgrade(&mut self, transfer: Transfer, force: bool) -> Result<(), Refusal> {
        self.start_upgrade(transfer, force)
    }

    fn write_upgrade(&self, out: &mut dyn Write) -> fmt::Result {
        self.upgrade.write_status(out)
    }

    fn has_line(&self) -> bool {
        self.upgrade_has_line()
    }

    fn on_line_byte(&mut self, byte: u8, out: &mut dyn Write) {
        self.on_upgrade_byte(byte, out);
    }

    fn poll_line(&mut self, out: &mut dyn Write) {
        self.poll_upgrade_line(out);
    }

    fn write_row(&self, table: Table, kv: bool, at: u32, out: &mut dyn Write) -> Option<u32> {
        let index = at as usize;
        let written = match table {
            Table::Flows => {
                let (id, entry) = self.conntrack.iter_from(index).next()?;
                let idle = (self.now - entry.last_seen()).secs();
                return write_flow(out, kv, entry, idle)
                    .ok()
                    .map(|()| id.place() as u32 + 1);
            }
            Table::Links => self.write_link(out, kv, index)?,
            Table::Log => write_entry(out, kv, self.log.iter().nth(index)?),
            Table::Why => {
                let declined = self.accelerator.exchanges.declined().nth(index)?;
                write_declined(out, kv, self.now, declined)
            }
            Table::Leases => {
                let server = &self.services.dhcp_server;
                let lease = server.leases(self.now, None).nth(index)?;
                write_lease(out, kv, &lease)
            }
            // The console has these itself.
            Table::Help | Table::Counters | Table::Settings | Table::Peers => return None,
        };
        written.ok().map(|()| at + 1)
    }
}

/// As people say it.
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.secs();
        let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
        let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
        write!(f, "{days} d {hours:02}:{minutes:02}:{seconds:02}")
    }
}

const fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// kbit/s from bytes/s.
const fn kbit(rate: u64) -> u64 {
    rate.saturating_mul(8) / 1000
}

/// Fixes a value's width: `Display` of addresses ignores it.
struct Padded<T>(T, usize);

impl<T: fmt::Display> fmt::Display for Padded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text: heapless::String<48> = heapless::String::new();
        // Longer ones are shown as far as they fit.
        write!(text, "{}", self.0).unwrap_or(());
        write!(f, "{text:<0$}", self.1)
    }
}

fn write_flow(out: &mut dyn Write, kv: bool, entry: &Entry, idle: u64) -> fmt::Result {
    let key = entry.key();
    let (kind, state) = match key.protocol {
        Protocol::Tcp => ("tcp", entry.tcp.state.name()),
        Protocol::Udp => ("udp", "-"),
        Protocol::Icmp => ("icmp", "-"),
    };
    let client = format_args!("{}:{}", key.client, key.client_port);
    let remote = format_args!("{}:{}", key.remote, key.remote_port);
    let port = entry.wan_port();
    if kv {
        writeln!(out, "flow={kind} {client} {remote} {port} {state} {idle}")
    } else {
        let (client, remote) = (Padded(client, 21), Padded(remote, 21));
        writeln!(
            out,
            "{kind:<4} {client} {remote} {port:>5} {state:<11} {idle:>5}"
        )
    }
}

fn write_lease(out: &mut dyn Write, kv: bool, lease: &server::Lease<'_>) -> fmt::Result {
    let (mac, left) = (Mac(lease.mac), lease.remaining.secs());
    let (state, name) = (lease.state.name(), lease.name);
    if kv {
        writeln!(out, "lease={} {mac} {left} {state} {name}", lease.address)
    } else {
        let address = Padded(lease.address, 15);
        writeln!(out, "{address} {mac} {left:>6}  {state:<8}  {name}")
    }
}

fn write_entry(out: &mut dyn Write, kv: bool, entry: &events::Entry) -> fmt::Result {
    let events::Entry { at, times, event } = entry;
    if kv {
        let ms = at.total_millis();
        return writeln!(out, "event={ms} {} {times} {event}", event.name());
    }
    let at = Ago(*at - Instant::ZERO);
    match times {
        1 => writeln!(out, "{at}  {event}"),
        _ => writeln!(out, "{at}  ({times} times) {event}"),
    }
}

fn write_declined(out: &mut dyn Write, kv: bool, now: Instant, declined: &Declined) -> fmt::Result {
    let ago = (now - declined.at).secs();
    let what = Escaped(declined.what.as_bytes());
    let why = declined.why.text();
    if kv {
        writeln!(out, "why={ago} {what} {why}")
    } else {
        // The reason first: what was asked for may be longer than the line.
        writeln!(out, "{ago} s ago: {why}: {what}")
    }
}

impl Router<'_> {
    fn write_link(&self, out: &mut dyn Write, kv: bool, index: usize) -> Option<fmt::Result> {
        let rates = self.accelerator.exchanges.rates();
        if index == 0 {
            let rate = kbit(rates[LinkId::UPLINK.index()]);
            let state = match self.addresses[Port::Wan.index()].cidr {
                Some(_) => "up",
                None => "no-address",
            };
            return Some(if kv {
                writeln!(out, "link=uplink {rate} {state} -")
            } else {
                writeln!(out, "{:<15} {rate:>6}  {state:<10}", "uplink")
            });
        }
        // Settings list peers from the front.
        let peer = self.accelerator.peers.get(index - 1)?;
        let address = peer.address()?;
        let rate = kbit(rates[LinkId::peer(index - 1).index()]);
        let (state, bytes) = (peer.state_name(), peer.bytes());
        Some(if kv {
            writeln!(out, "link={address} {rate} {state} {bytes}")
        } else {
            let address = Padded(address, 15);
            writeln!(out, "{address} {rate:>6}  {state:<10} {bytes:>20}")
        })
    }

    fn write_status_kv(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "uptime_ms={}", self.uptime().total_millis())?;
        writeln!(out, "version={}", env!("CARGO_PKG_VERSION"))?;
        if let Some(Event::Reset { why, crashes, .. }) = self.desk.reset() {
            writeln!(out, "reset={why}\ncrashes={crashes}")?;
        }
        for (name, port) in [("lan", Port::Lan), ("wan", Port::Wan), ("air", Port::Air)] {
            match self.addresses[port.index()].cidr {
                Some(cidr) => writeln!(out, "{name}.address={cidr}")?,
                None => writeln!(out, "{name}.address=")?,
            }
        }
        if let Some(left) = self.lease_left() {
            writeln!(out, "wan.lease_s={}", left.secs())?;
        }
        for resolver in self.resolvers().into_iter().flatten() {
            writeln!(out, "dns={resolver}")?;
        }
        for peer in self.accelerator.peers.iter() {
            if let Some(address) = peer.address() {
                writeln!(out, "peer.{address}={}", peer.state_name())?;
            }
        }
        let (sessions, lendings) = self.accelerator.lender.active();
        let pool = &self.accelerator.pool;
        let exchanges = self.accelerator.exchanges.active();
        writeln!(out, "accel.enabled={}", on_off(self.settings.accel.enabled))?;
        writeln!(out, "flows={}", self.conntrack.len())?;
        writeln!(out, "exchanges={exchanges}")?;
        writeln!(out, "lender.sessions={sessions}")?;
        writeln!(out, "lender.lendings={lendings}")?;
        writeln!(out, "blocks_free={}", pool.blocks_free())?;
        writeln!(out, "blocks_total={}", pool.blocks_total())?;
        writeln!(out, "saved={}", yes_no(self.is_saved()))
    }

    /// How long the provider's lease still runs; `None` without one, or when it never ends.
    fn lease_left(&self) -> Option<Duration> {
        self.services.dhcp_client.lease_left(self.now)
    }

    /// The state on one screen: at most 12 lines, and one a peer.
    fn write_screen(&self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{}, up {}", self.version(), Ago(self.uptime()))?;
        if let Some(reset) = self.desk.reset() {
            let mut line: heapless::String<78> = heapless::String::new();
            // The rest of a long place is in the log.
            write!(line, "{reset}").unwrap_or(());
            writeln!(out, "{line}")?;
        }
        let rates = self.accelerator.exchanges.rates();
        for (name, port) in [("WAN", Port::Wan), ("LAN", Port::Lan), ("air", Port::Air)] {
            let own = &self.addresses[port.index()];
            write!(out, "{name}  ")?;
            match (own.cidr, own.gateway) {
                (Some(cidr), Some(gateway)) => write!(out, "{cidr} via {gateway}")?,
                (Some(cidr), None) => write!(out, "{cidr}")?,
                (None, _) => write!(out, "no address")?,
            }
            match port {
                Port::Wan => {
                    let rate = kbit(rates[LinkId::UPLINK.index()]);
                    let source = match self.settings.wan.address {
                        WanAddress::Dhcp if own.cidr.is_some() => ", by DHCP",
                        WanAddress::Dhcp => ", asks by DHCP",
                        WanAddress::Static(_) | WanAddress::None => "",
                    };
                    writeln!(out, "{source}, {rate} kbit/s")?;
                    if let Some(left) = self.lease_left() {
                        writeln!(out, "     leased for another {}", Ago(left))?;
                    }
                }
                Port::Lan | Port::Air => writeln!(out, ", {}", Mac(own.mac))?,
            }
        }
        out.write_str("DNS ")?;
        for resolver in self.resolvers().into_iter().flatten() {
            write!(out, " {resolver}")?;
        }
        writeln!(out)?;
        for (index, peer) in self.accelerator.peers.iter().enumerate() {
            if let Some(address) = peer.address() {
                let rate = kbit(rates[LinkId::peer(index).index()]);
                let (state, bytes) = (peer.state_name(), peer.bytes());
                writeln!(out, "peer {address}  {state}, {rate} kbit/s, {bytes} bytes")?;
            }
        }
        let (sessions, lendings) = self.accelerator.lender.active();
        let exchanges = self.accelerator.exchanges.active();
        writeln!(
            out,
            "acceleration {}, {exchanges} of {EXCHANGES_MAX} exchanges",
            on_off(self.settings.accel.enabled)
        )?;
        writeln!(out, "lending {lendings} ranges on {sessions} sessions")?;
        writeln!(out, "flows  {} of {FLOWS}", self.conntrack.len())?;
        let pool = &self.accelerator.pool;
        let (free, total) = (pool.blocks_free(), pool.blocks_total());
        writeln!(out, "memory  {free} of {total} blocks free")?;
        out.write_str(if self.is_saved() {
            "settings  saved\n"
        } else {
            "settings  NOT saved; `save` keeps them over a reboot\n"
        })
    }
}
