//! What the console may see and change of a router.

use core::fmt::{self, Write};
use core::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};

use super::Router;
use super::upgrade::Transfer;
use crate::budget::{EXCHANGES_MAX, FLOWS};
use crate::conntrack::tcp::State;
use crate::conntrack::{Entry, Protocol, Stage};
use crate::console::{Escaped, Host, Mac, Table};
use crate::counters::{self, Counts};
use crate::dhcp::server;
use crate::events::{self, Event, Log};
use crate::exchange::{Account, Download};
use crate::links::LinkId;
use crate::ping::{PingError, Report};
use crate::port::Port;
use crate::settings::{Settings, WanAddress};
use crate::upgrade::Refusal;

fn each_of<S: counters::Stage, const N: usize>(
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
        let verdicts = self.accelerator.exchanges.verdicts();
        each_of("verdict", verdicts.counts(), each);
        each_of("declined", verdicts.reasons(), each);
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
                each("peer-nat", name, peer.bytes_by_nat());
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
                let verdicts = self.accelerator.exchanges.verdicts();
                write_download(out, kv, self.now, verdicts.downloads().nth(index)?)
            }
            Table::Leases => {
                let server = &self.services.dhcp_server;
                let lease = server.leases(self.now, None).nth(index)?;
                write_lease(out, kv, &lease)
            }
            Table::Saved => {
                let saved = self.accelerator.exchanges.saved();
                let clients = saved.clients().map(|account| ("client", account));
                let peers = saved.peers().map(|account| ("peer", account));
                let (kind, account) = clients.chain(peers).nth(index)?;
                write_account(out, kv, kind, account)
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
    // What was said of its last request, where requests are looked at.
    let verdict = match (entry.tcp.candidate, entry.tcp.stage) {
        (false, _) => "-",
        (true, Stage::Plain) if !entry.tcp.watchable => "tcp-options",
        (true, Stage::Exchange(_)) => "under-way",
        (true, Stage::Plain | Stage::Watched | Stage::Asked | Stage::Answered) => {
            entry.tcp.verdict.word()
        }
    };
    if kv {
        writeln!(
            out,
            "flow={kind} {client} {remote} {port} {state} {idle} {verdict}"
        )
    } else {
        let (client, remote) = (Padded(client, 21), Padded(remote, 21));
        // Both do not fit a line: of an open connection what was said of its request is what is asked for.
        let is_open = entry.tcp.candidate && entry.tcp.state == State::Established;
        let state = if is_open { verdict } else { state };
        writeln!(
            out,
            "{kind:<4} {client} {remote} {port:>5} {state:<18} {idle:>5}"
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

fn write_download(out: &mut dyn Write, kv: bool, now: Instant, download: &Download) -> fmt::Result {
    let ago = (now - download.at).secs();
    let what = Escaped(download.what.as_bytes());
    let help = match download.end {
        Ok(help) => help,
        Err(why) if kv => return writeln!(out, "why={ago} {what} {}", why.text()),
        // The reason first: what was asked for may be longer than the line.
        Err(why) => return writeln!(out, "{ago} s ago: {}: {what}", why.text()),
    };
    let own = help.own_bytes;
    let (took_ms, saved_ms) = (help.took.total_millis(), help.saved.total_millis());
    if kv {
        write!(
            out,
            "why={ago} {what} accelerated {took_ms} {saved_ms} {own}"
        )?;
        for bytes in help.peer_bytes {
            write!(out, " {bytes}")?;
        }
        return writeln!(out);
    }
    let kib = |bytes: u64| bytes / 1024;
    let tenths = took_ms / 100;
    write!(
        out,
        "{ago} s ago: accelerated, {}.{} s, ",
        tenths / 10,
        tenths % 10
    )?;
    write!(out, "{} KiB own", kib(own))?;
    for bytes in help.peer_bytes.iter().filter(|&&bytes| bytes > 0) {
        write!(out, " + {}", kib(*bytes))?;
    }
    writeln!(out, ": {what}")
}

/// A row of `saved`; `kind` says whose account it is.
fn write_account(out: &mut dyn Write, kv: bool, kind: &str, account: &Account) -> fmt::Result {
    let Account {
        address,
        downloads,
        own_bytes,
        peer_bytes,
        saved_us,
        last: _,
    } = account;
    if kv {
        let saved_ms = saved_us / 1000;
        return writeln!(
            out,
            "saved={kind} {address} {downloads} {own_bytes} {peer_bytes} {saved_ms}"
        );
    }
    let (address, seconds) = (Padded(address, 15), saved_us / 1_000_000);
    let (own, peers) = (own_bytes / 1024, peer_bytes / 1024);
    writeln!(
        out,
        "{kind:<6} {address} {downloads:>9} {own:>11} {peers:>14} {seconds:>8}"
    )
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
