//! What the console may see and change of a router.

use core::fmt::{self, Write};

use smoltcp::time::Duration;

use super::Router;
use crate::budget::{EXCHANGES_MAX, FLOWS};
use crate::console::Host;
use crate::counters::{Counts, Stage};
use crate::links::LinkId;
use crate::port::Port;
use crate::settings::Settings;

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

    fn counters(&self, each: &mut dyn FnMut(&str, &str, u64)) {
        each_of("router", &self.counts, each);
        each_of("conntrack", &self.conntrack.counts, each);
        each_of("neighbor", &self.neighbors.counts, each);
        each_of("accelerator", &self.accelerator.counts, each);
        each_of("exchange", self.accelerator.exchanges.counts(), each);
        each_of("declined", self.accelerator.exchanges.reasons(), each);
        each_of("lender", self.accelerator.lender.counts(), each);
        each_of("stack", self.accelerator.stack.counts(), each);
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
        for (i, peer) in self.accelerator.peers.iter().enumerate() {
            const NAMES: [&str; 4] = ["0-bytes", "1-bytes", "2-bytes", "3-bytes"];
            if let (Some(name), Some(_)) = (NAMES.get(i), peer.address()) {
                each("peer", name, peer.bytes());
            }
        }
    }

    fn write_status(&self, out: &mut dyn Write, kv: bool) -> fmt::Result {
        let (sessions, lendings) = self.accelerator.lender.active();
        let pool = &self.accelerator.pool;
        let exchanges = self.accelerator.exchanges.active();
        if kv {
            for (name, port) in [("lan", Port::Lan), ("wan", Port::Wan), ("air", Port::Air)] {
                match self.addresses[port.index()].cidr {
                    Some(cidr) => writeln!(out, "{name}.address={cidr}")?,
                    None => writeln!(out, "{name}.address=")?,
                }
            }
            for peer in self.accelerator.peers.iter() {
                if let Some(address) = peer.address() {
                    writeln!(out, "peer.{address}={}", peer.state_name())?;
                }
            }
            writeln!(
                out,
                "accel.enabled={}",
                if self.settings.accel.enabled {
                    "on"
                } else {
                    "off"
                }
            )?;
            writeln!(out, "flows={}", self.conntrack.len())?;
            writeln!(out, "exchanges={exchanges}")?;
            writeln!(out, "lender.sessions={sessions}")?;
            writeln!(out, "lender.lendings={lendings}")?;
            writeln!(out, "blocks_free={}", pool.blocks_free())?;
            return writeln!(out, "blocks_total={}", pool.blocks_total());
        }
        writeln!(out, "{}", self.version())?;
        for (name, port) in [("LAN", Port::Lan), ("WAN", Port::Wan), ("air", Port::Air)] {
            let own = &self.addresses[port.index()];
            match (own.cidr, own.gateway) {
                (Some(cidr), Some(gateway)) => {
                    writeln!(out, "{name}  {cidr} via {gateway}  {}", own.mac)?
                }
                (Some(cidr), None) => writeln!(out, "{name}  {cidr}  {}", own.mac)?,
                (None, _) => writeln!(out, "{name}  no address  {}", own.mac)?,
            }
        }
        for peer in self.accelerator.peers.iter() {
            if let Some(address) = peer.address() {
                writeln!(
                    out,
                    "peer {address}  {}  {} bytes",
                    peer.state_name(),
                    peer.bytes()
                )?;
            }
        }
        writeln!(
            out,
            "acceleration {}",
            if self.settings.accel.enabled {
                "on"
            } else {
                "off"
            }
        )?;
        writeln!(
            out,
            "{} of {FLOWS} flows, {exchanges} of {EXCHANGES_MAX} exchanges",
            self.conntrack.len()
        )?;
        writeln!(out, "lending {lendings} ranges on {sessions} sessions")?;
        writeln!(
            out,
            "{} of {} blocks free",
            pool.blocks_free(),
            pool.blocks_total()
        )
    }

    fn write_flows(&self, out: &mut dyn Write) -> fmt::Result {
        // The newest are at no particular end; a screen of them is what a person can read.
        const SHOWN: usize = 40;
        for (_id, entry) in self.conntrack.iter().take(SHOWN) {
            let key = entry.key();
            let (kind, state) = match key.protocol {
                crate::conntrack::Protocol::Tcp => ("tcp", entry.tcp.state.name()),
                crate::conntrack::Protocol::Udp => ("udp", ""),
                crate::conntrack::Protocol::Icmp => ("icmp", ""),
            };
            writeln!(
                out,
                "{kind} {}:{} > {}:{} {state}",
                key.client, key.client_port, key.remote, key.remote_port
            )?;
        }
        let more = self.conntrack.len().saturating_sub(SHOWN);
        if more > 0 {
            writeln!(out, "and {more} more")
        } else {
            Ok(())
        }
    }

    fn write_links(&self, out: &mut dyn Write) -> fmt::Result {
        let rates = self.accelerator.exchanges.rates();
        let kbit = |rate: u64| rate.saturating_mul(8) / 1000;
        writeln!(out, "uplink {} kbit/s", kbit(rates[LinkId::UPLINK.index()]))?;
        for (i, peer) in self.accelerator.peers.iter().enumerate() {
            if let Some(address) = peer.address() {
                let rate = kbit(rates[LinkId::peer(i).index()]);
                writeln!(out, "peer {address} {} {rate} kbit/s", peer.state_name())?;
            }
        }
        Ok(())
    }

    fn write_why(&self, out: &mut dyn Write) -> fmt::Result {
        for declined in self.accelerator.exchanges.declined() {
            let ago = (self.now - declined.at).secs();
            writeln!(
                out,
                "{ago} s ago {}: {}",
                declined.what,
                declined.why.text()
            )?;
        }
        Ok(())
    }
}
