//! Addresses and names: what everybody behind a router takes for granted, by real DHCP and DNS on both sides of it.

use super::origins::{NGINX, WAN_A};
use super::world::{one_line, until};
use super::{REST_LIMIT, Scenario, Stage};
use crate::lab::lease::{self, Lease};
use crate::lab::provider::{self, MANY, Provider};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// For one program, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);
/// For a renewal, and for what a provider's new mind takes.
const LEASE_LIMIT: Duration = Duration::from_secs(45);
/// Router A's address on its own network, where its DHCP server and its resolver are.
const LAN: &str = "192.168.1.1";
/// The client's Ethernet address.
const CLIENT_MAC: &str = "02:00:00:00:01:01";
/// What the provider gives router A when it has changed its mind.
const OTHER_WAN_A: &str = "203.0.113.5";
const RENEW_SECONDS: u32 = 8;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a client gets an address, a route and a resolver by DHCP, renews, and keeps them over the router's reset",
        run: leases,
    },
    Scenario {
        name: "a reserved address is its host's, and the old one when the reservation is gone",
        run: reservation,
    },
    Scenario {
        name: "dig gets addresses, aliases, long answers and denials from the router, and the second time from its cache",
        run: names,
    },
    Scenario {
        name: "s6: the provider gives another address midway: old flows end, new ones work at once",
        run: s6_other_address,
    },
    Scenario {
        name: "a forwarded port leads to a client's server, from the WAN and from the LAN itself, until it is unset",
        run: super::programs::forward,
    },
];

impl Stage {
    fn lease(&self) -> Result<Lease> {
        lease::last(self.world.state(), "client").context("the client has no lease")
    }

    /// Has the client's DHCP client do something, and waits for what comes of it.
    fn dhcp_after(&self, signal: &str) -> Result<Lease> {
        let state = self.world.state();
        let before = lease::all(state, "client").len();
        lease::signal(state, "client", signal)?;
        until("the client's DHCP", LEASE_LIMIT, || {
            Ok(lease::all(state, "client").len() > before)
        })?;
        self.lease()
    }

    /// The client's DHCP client ends and is started again, as after the client's own reset.
    fn dhcp_anew(&mut self) -> Result<Lease> {
        let state = self.world.state();
        lease::signal(state, "client", "TERM")?;
        until("the client's DHCP client ends", REST_LIMIT, || {
            Ok(lease::signal(state, "client", "0").is_err())
        })?;
        lease::start(state, "client")
    }

    pub(super) fn reaches_origin(&mut self) -> Result<()> {
        until("the client reaches the origin", LEASE_LIMIT, || {
            let ping = ["ping", "-n", "-c", "1", "-W", "1", NGINX];
            Ok(self.world.exec("client", &ping, LIMIT)?.success)
        })
    }
}

fn leases(stage: &mut Stage) -> Result<String> {
    let first = stage.lease()?;
    let pool = first.address.strip_prefix("192.168.1.");
    let pool = pool.and_then(|last| last.parse::<u8>().ok());
    ensure!(
        pool.is_some_and(|last| (100..200).contains(&last)) && first.prefix == 24,
        "not of the pool: {first:?}"
    );
    ensure!(
        first.router == LAN && first.dns == LAN && first.server == LAN,
        "{first:?}"
    );
    let renewed = stage.dhcp_after("USR1")?;
    ensure!(
        renewed.event == "renew" && renewed.address == first.address,
        "after the renewal: {renewed:?}"
    );
    // What the table keeps over a reset needs a moment to be written.
    std::thread::sleep(Duration::from_secs(2));
    stage.world.reset("a", true)?;
    stage.restarted("a");
    let renewed = stage.dhcp_after("USR1")?;
    ensure!(
        renewed.event == "renew" && renewed.address == first.address,
        "after the router's reset: {renewed:?}"
    );
    let anew = stage.dhcp_anew()?;
    ensure!(anew.address == first.address, "after its own: {anew:?}");
    stage.reaches_origin()?;
    Ok(format!(
        "{}/{} for {} s",
        first.address, first.prefix, first.seconds
    ))
}

fn reservation(stage: &mut Stage) -> Result<String> {
    let before = stage.lease()?;
    stage.set(
        "a",
        "lan.reservations",
        &format!("{CLIENT_MAC}=192.168.1.50"),
    )?;
    let reserved = stage.dhcp_anew();
    stage.set("a", "lan.reservations", "none")?;
    let reserved = reserved?;
    ensure!(reserved.address == "192.168.1.50", "{reserved:?}");
    let after = stage.dhcp_anew()?;
    ensure!(
        after.address != reserved.address,
        "the reserved address is kept: {after:?}"
    );
    stage.reaches_origin()?;
    Ok(format!(
        "{}, {}, {}",
        before.address, reserved.address, after.address
    ))
}

impl Stage {
    /// What the client's dig says; the resolver is the one DHCP told of unless `options` name one.
    fn dig(&mut self, options: &[&str]) -> Result<String> {
        let mut command = vec!["dig", "+tries=2", "+time=3"];
        command.extend(options);
        let text = self.world.exec("client", &command, LIMIT)?.good()?;
        ensure!(
            text.contains(&format!("SERVER: {LAN}#53")),
            "another resolver: {}",
            one_line(&text)
        );
        Ok(text)
    }

    /// How often the router has asked the provider's resolver for a name.
    fn asked(&self, name: &str) -> usize {
        let questions = provider::questions(self.world.state());
        let theirs = questions
            .iter()
            .filter(|question| question.name == name && question.from == WAN_A);
        theirs.count()
    }
}

fn names(stage: &mut Stage) -> Result<String> {
    let address = format!("A\t{NGINX}");
    let text = stage.dig(&["origin.test"])?;
    ensure!(text.contains(&address), "{}", one_line(&text));
    let text = stage.dig(&["www.origin.test"])?;
    ensure!(
        text.contains("CNAME\torigin.test.") && text.contains(&address),
        "{}",
        one_line(&text)
    );
    // 60 addresses fill more than 512 bytes and fewer than the 1,232 that dig offers by EDNS (RFC 6891).
    let text = stage.dig(&["many.test"])?;
    let many = text.matches("\tA\t203.0.113.").count();
    ensure!(
        many == usize::from(MANY),
        "{many} addresses: {}",
        one_line(&text)
    );
    let text = stage.dig(&["TXT", "text.test"])?;
    ensure!(
        text.matches("\"tandem ").count() >= 3,
        "{}",
        one_line(&text)
    );
    // Without EDNS the answer is cut and says so (RFC 1035 section 4.1.1).
    let text = stage.dig(&["+noedns", "+ignore", "many.test"])?;
    let flags = text.lines().find(|line| line.contains("flags:"));
    ensure!(
        flags.is_some_and(|flags| flags.contains(" tc")),
        "not cut: {}",
        one_line(&text)
    );
    // Denied with the zone's SOA record, which says for how long (RFC 2308 section 3).
    let text = stage.dig(&["nobody.zone.test"])?;
    ensure!(
        text.contains("status: NXDOMAIN") && text.contains("SOA\tns.zone.test."),
        "{}",
        one_line(&text)
    );
    let asked = stage.asked("here.zone.test");
    for _ in 0..3 {
        let text = stage.dig(&["here.zone.test"])?;
        ensure!(text.contains(&address), "{}", one_line(&text));
    }
    let before = asked;
    let asked = stage.asked("here.zone.test") - before;
    ensure!(
        asked <= 1 && before + asked > 0,
        "the provider was asked {asked} times for three answers, {before} times before"
    );
    let file = stage.serve("small.html", 5000)?;
    let out = stage.curl("client", "http://www.origin.test/small.html", &[])?;
    super::oracle::same_file(&out, &file)?;
    Ok(format!(
        "{many} addresses at once; {asked} question for three answers"
    ))
}

fn s6_other_address(stage: &mut Stage) -> Result<String> {
    let state = stage.world.state().clone();
    let lines = 2;
    let soon = Provider {
        lease_seconds: 120,
        renew_seconds: Some(RENEW_SECONDS),
        ..Provider::default()
    };
    provider::start(&state, &soon, lines)?;
    stage.world.reset("a", true)?;
    stage.restarted("a");
    stage.reaches_origin()?;
    let result = change(stage, &soon);
    provider::start(&state, &Provider::default(), lines)?;
    stage.world.reset("a", true)?;
    stage.restarted("a");
    stage.reaches_origin()?;
    until("the routers find each other", REST_LIMIT, || {
        let status = stage.status("a")?;
        Ok(status
            .iter()
            .any(|(key, value)| key.starts_with("peer.") && value == "up"))
    })?;
    result
}

fn change(stage: &mut Stage, soon: &Provider) -> Result<String> {
    let state = stage.world.state().clone();
    stage.serve("12m.bin", 12 << 20)?;
    stage.set("a", "accel.enabled", "off")?;
    let url = format!("http://{NGINX}/12m.bin");
    let limits = [
        "--limit-rate",
        "100k",
        "--max-time",
        "50",
        "--output",
        "/dev/null",
    ];
    let mut command = vec!["curl", "--silent", "--show-error"];
    command.extend(limits);
    command.push(&url);
    let old = stage.world.spawn("client", &command)?;
    let mut other = soon.clone();
    OTHER_WAN_A.clone_into(&mut other.addresses[0]);
    provider::start(&state, &other, 2)?;
    until("router A takes the new address", LEASE_LIMIT, || {
        let status = stage.status("a")?;
        let address = status.get("wan.address").cloned().unwrap_or_default();
        Ok(address.starts_with(OTHER_WAN_A))
    })?;
    let file = stage.serve("1m.bin", 1 << 20)?;
    let mark = stage.origins.mark(NGINX)?;
    let out = stage.curl("client", &format!("http://{NGINX}/1m.bin"), &[])?;
    super::oracle::same_file(&out, &file)?;
    let entries = stage.origins.since(NGINX, mark)?;
    ensure!(
        !entries.is_empty() && entries.iter().all(|entry| entry.address == OTHER_WAN_A),
        "{}",
        super::oracle::summary(&entries)
    );
    let ran = old.wait(LIMIT)?;
    ensure!(!ran.success, "a flow of the old address went on");
    let refused = provider::refusals(&state);
    ensure!(refused > 0, "the provider never said no");
    stage.accelerate(true)?;
    Ok(format!(
        "{WAN_A}, then {OTHER_WAN_A}; old: {}",
        one_line(&ran.stderr)
    ))
}
