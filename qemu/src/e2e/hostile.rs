//! Strangers: who looks for open doors, floods, and sends frames that no decent host sends (FAULTS 2.9).

use super::oracle::same_file;
use super::origins::{NGINX, WAN_A};
use super::world::{World, one_line};
use super::{Scenario, Stage};
use crate::lab::plan;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// For one program, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);
/// For all ports of a protocol.
const SCAN_LIMIT: Duration = Duration::from_secs(150);
/// For a flood and what runs beside it.
const FLOOD_LIMIT: Duration = Duration::from_secs(90);
/// The router's address on its own network.
const LAN: &str = "192.168.1.1";
/// UDP ports where routers have had services, and some where this one asks from.
const UDP_PORTS: &str =
    "1-200,500,520,1194,1701,1812,1900,4377,4500,5000,5351,5353,5355,8080,51820,61000-61100,65535";
/// An address behind the origin that nobody has and nobody answers for.
const NOBODY: &str = "198.51.100.200";
const MIB: u64 = 1 << 20;
/// New flows of the flood.
const FLOWS: &str = "100000";
/// How many of them a second.
const FLOWS_A_SECOND: &str = "8000";
/// What an established transfer keeps of its rate, percent, where the machine has time for flood, lines and router.
const KEPT_PERCENT: f64 = 95.0;
/// What it must keep in any case. (That no packet of it is lost, whatever the machine, is a test of the host: `a5_…`.)
const KEPT_PERCENT_BUSY: f64 = 80.0;
/// Pairs of downloads, one alone and one in the flood, until the best in the flood keeps 95 % of the best alone.
const FLOOD_ROUNDS_MAX: u32 = 3;
/// What the best download alone must reach, or the machine is too busy to tell anything, bytes a second: 85 % of the
/// 8 Mbit/s of the line less the headers of full segments.
const ALONE_BYTES_S_MIN: f64 = 0.85 * 1e6 * 1448.0 / 1514.0;
/// UDP ports there are.
const PORTS: u64 = 1 << 16;
/// Datagrams to them a second: a third of what the line carries.
const PORTS_A_SECOND: &str = "6000";
/// Of the datagrams those that the router's own services look at before they drop them: DHCP's client, and what asks.
const PORTS_SERVED_MAX: u64 = 16;
/// Attempts to bring one datagram to every port: a busy machine loses some on the way.
const PORTS_TRIES: u32 = 3;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a1: a scan of all ports from the WAN finds nothing open while a download goes on",
        run: a1_scan_from_wan,
    },
    Scenario {
        name: "a1: a datagram from the WAN to each of the 65,536 UDP ports is dropped without a word",
        run: a1_every_udp_port,
    },
    Scenario {
        name: "a2: a scan from the LAN finds DHCP and DNS only",
        run: a2_scan_from_lan,
    },
    Scenario {
        name: "a2: a scan from the air finds the peer port only, and it is silent to strangers",
        run: a2_scan_from_air,
    },
    Scenario {
        name: "a16: short, long, tagged, lying and PAUSE frames as fast as they go, on LAN and WAN",
        run: a16_odd_frames,
    },
    Scenario {
        name: "a flood of 100,000 new flows leaves an established transfer its rate and the router its memory",
        run: flood,
    },
];

/// A port that nmap calls open: not `open|filtered`, by which it means that nobody answered.
#[derive(Debug, PartialEq, Eq)]
struct Open {
    port: u16,
    protocol: String,
}

/// The open ports in nmap's greppable output: `Host: … Ports: 53/open/udp//domain///, …`.
fn open_ports(text: &str) -> Vec<Open> {
    let mut found = Vec::new();
    let lists = text
        .lines()
        .filter_map(|line| Some(line.split_once("Ports: ")?.1));
    for list in lists {
        let list = list.split('\t').next().unwrap_or_default();
        for entry in list.split(", ") {
            let mut parts = entry.trim().split('/');
            let (Some(port), Some(state), Some(protocol)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if let (Ok(port), "open") = (port.parse(), state) {
                found.push(Open {
                    port,
                    protocol: protocol.to_owned(),
                });
            }
        }
    }
    found
}

fn scan<'a>(kind: &'a [&str], rate: &'a str, target: &'a str) -> Vec<&'a str> {
    let mut command = vec![
        "nmap",
        "-n",
        "-Pn",
        "-T4",
        "--max-retries",
        "1",
        "--host-timeout",
        "140s",
        "--min-rate",
        rate,
        "--max-rate",
        rate,
        "-oG",
        "-",
    ];
    command.extend(kind);
    command.push(target);
    command
}

/// The open ports of a scan that went through.
fn scanned(world: &mut World, host: &str, command: &[&str]) -> Result<Vec<Open>> {
    let text = world.exec(host, command, SCAN_LIMIT)?.good()?;
    ensure!(
        text.contains("1 host up") && !text.contains("Timeout"),
        "nmap: {}",
        one_line(&text)
    );
    Ok(open_ports(&text))
}

fn a1_scan_from_wan(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("8m.bin", 8 * MIB)?;
    let out = stage.world.file("during.download");
    std::fs::remove_file(&out).ok();
    let text = out.display().to_string();
    let url = format!("http://{NGINX}/8m.bin");
    let tcp = scan(&["-sS", "-p-"], "3000", WAN_A);
    let scanner = stage.world.spawn("origin", &tcp)?;
    let download = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "80",
        "--output",
        &text,
        &url,
    ];
    let ran = stage.world.exec("client", &download, SCAN_LIMIT)?;
    ran.good().context("the download during the scan")?;
    same_file(&out, &file)?;
    let text = scanner.wait(SCAN_LIMIT)?.good()?;
    ensure!(text.contains("1 host up"), "nmap: {}", one_line(&text));
    let open = open_ports(&text);
    ensure!(open.is_empty(), "open to the WAN: {open:?}");
    let udp = scan(&["-sU", "-p", UDP_PORTS], "300", WAN_A);
    let open = scanned(&mut stage.world, "origin", &udp)?;
    ensure!(open.is_empty(), "open to the WAN: {open:?}");
    stage.same_boot("a")?;
    Ok("nothing; 8 MiB arrived meanwhile".to_owned())
}

/// The router's own count says that the datagrams came to it; nmap would take hours for this.
fn a1_every_udp_port(stage: &mut Stage) -> Result<String> {
    let [_lan, wan, _air] = plan::router_macs(0);
    let count = PORTS.to_string();
    let rest = ["ports", "60", &count, PORTS_A_SECOND, WAN_A, NOBODY];
    let command = stage.blast("wan-a", &wan, &rest)?;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut seen = 0;
    for _ in 0..PORTS_TRIES {
        let before = stage.dropped_from_wan()?;
        let said = stage.world.exec("origin", &command, FLOOD_LIMIT)?.good()?;
        ensure!(
            said.trim() == format!("{count} 0"),
            "sent and came back: {}",
            said.trim()
        );
        seen = stage.dropped_from_wan()? - before;
        if seen + PORTS_SERVED_MAX >= PORTS {
            stage.same_boot("a")?;
            return Ok(format!("{seen} dropped, nothing came back"));
        }
    }
    anyhow::bail!("of {count} datagrams only {seen} came to be dropped")
}

fn a2_scan_from_lan(stage: &mut Stage) -> Result<String> {
    let tcp = scan(&["-sS", "-p-"], "4000", LAN);
    let mut open = scanned(&mut stage.world, "client", &tcp)?;
    let udp = scan(&["-sU", "-p", UDP_PORTS], "300", LAN);
    open.extend(scanned(&mut stage.world, "client", &udp)?);
    let known = |open: &Open| {
        matches!(
            (open.protocol.as_str(), open.port),
            ("udp", 53 | 67) | ("tcp", 53)
        )
    };
    ensure!(open.iter().all(known), "open to the LAN: {open:?}");
    stage.same_boot("a")?;
    Ok(format!("open: {open:?}"))
}

/// In a lab of one router, on whose air sits a stranger instead of a neighbour.
fn a2_scan_from_air(stage: &mut Stage) -> Result<String> {
    let mut world = stage.world.another("stranger", &["--routers", "1"])?;
    let target = plan::air_address(0);
    let mut words = Vec::new();
    for kind in [&["-sS", "-p-"][..], &["-sU", "-p", UDP_PORTS]] {
        let rate = if kind[0] == "-sS" { "4000" } else { "300" };
        let open = scanned(&mut world, "stranger", &scan(kind, rate, &target))?;
        let known = |open: &Open| (open.protocol.as_str(), open.port) == ("tcp", 4377);
        ensure!(open.iter().all(known), "open to the air: {open:?}");
        words.extend(open);
    }
    // Nor does it carry a stranger's packets: to the internet, or to its own network.
    for address in [NGINX, "192.168.1.100"] {
        let route = ["ip", "route", "replace", address, "via", &target];
        world.exec("stranger", &route, LIMIT)?.good()?;
        let ping = ["ping", "-n", "-c", "2", "-i", "0.3", "-W", "1", address];
        let ran = world.exec("stranger", &ping, LIMIT)?;
        ensure!(!ran.success, "the stranger reaches {address}");
    }
    let ping = ["ping", "-n", "-c", "2", "-i", "0.3", "-W", "5", NGINX];
    world.exec("client", &ping, LIMIT)?.good()?;
    Ok(format!("open: {words:?}"))
}

impl Stage {
    /// How many packets router a has dropped that no flow and no service of its own wanted.
    fn dropped_from_wan(&self) -> Result<u64> {
        let counters = self.world.console("a", "counters router")?;
        let value = |name: &str| {
            counters.lines().find_map(|line| {
                let (key, value) = line.trim().split_once('=')?;
                (key == format!("router.{name}")).then(|| value.parse().unwrap_or(0))
            })
        };
        // A counter that is 0 is not shown.
        Ok(value("no-flow").unwrap_or(0) + value("local-unwanted").unwrap_or(0))
    }

    /// The script of frames, as a command for a host.
    fn blast(&self, device: &str, mac: &str, rest: &[&str]) -> Result<Vec<String>> {
        let script = self.world.file("blast.py");
        std::fs::write(&script, include_str!("blast.py"))?;
        let script = script.display().to_string();
        let mut command = vec![
            "python3".to_owned(),
            script,
            device.to_owned(),
            mac.to_owned(),
        ];
        command.extend(rest.iter().map(|word| (*word).to_owned()));
        Ok(command)
    }
}

fn a16_odd_frames(stage: &mut Stage) -> Result<String> {
    let [lan, wan, _air] = plan::router_macs(0);
    // As fast as Ethernet of the box.
    stage.world.link("wan-a", "rate=100M")?;
    let mut words = Vec::new();
    for (host, device, mac, target) in [
        ("client", "eth0", &lan, LAN),
        ("origin", "wan-a", &wan, NGINX),
    ] {
        let command = stage.blast(device, mac, &["odd", "4"])?;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let sent = stage.world.exec(host, &command, FLOOD_LIMIT)?.good()?;
        // One packet, one second to answer it. A busy machine may sleep through the first.
        let ping = ["ping", "-n", "-c", "1", "-W", "1", target];
        let mut tries = 0;
        loop {
            tries += 1;
            if stage.world.exec("client", &ping, LIMIT)?.success {
                break;
            }
            ensure!(
                tries < 3,
                "no answer from {target} after frames to {device}"
            );
        }
        stage.same_boot("a")?;
        words.push(format!(
            "{} frames on {device}, answer at ping {tries}",
            sent.trim()
        ));
    }
    stage.world.link("wan-a", "rate=8M")?;
    Ok(words.join("; "))
}

fn flood(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("12m.bin", 12 * MIB)?;
    let blackhole = ["ip", "route", "replace", "blackhole", "198.51.100.128/25"];
    stage.world.exec("origin", &blackhole, LIMIT)?.good()?;
    let [lan, _wan, _air] = plan::router_macs(0);
    let command = stage.blast(
        "eth0",
        &lan,
        &["flows", "60", FLOWS, FLOWS_A_SECOND, NOBODY],
    )?;
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let memory = |stage: &Stage| -> Result<Vec<String>> {
        let status = stage.status("a")?;
        let keys = [
            "blocks_free",
            "blocks_total",
            "exchanges",
            "lender.lendings",
        ];
        Ok(keys
            .map(|key| status.get(key).cloned().unwrap_or_default())
            .to_vec())
    };
    let out = stage.world.file("flood.download").display().to_string();
    let url = format!("http://{NGINX}/12m.bin");
    let curl = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "80",
        "--output",
        &out,
        "--write-out",
        "%{speed_download}",
        &url,
    ];
    let download = |stage: &mut Stage| -> Result<f64> {
        let speed = stage.world.exec("client", &curl, FLOOD_LIMIT)?.good()?;
        same_file(std::path::Path::new(&out), &file)?;
        speed.trim().parse().context("curl's speed")
    };
    // Plain forwarding: the entry of a flow is what the flood is after.
    stage.accelerate(false)?;
    let before = memory(stage)?;
    let (mut alone, mut flooded) = (0.0_f64, 0.0_f64);
    let mut rounds = || -> Result<f64> {
        for round in 1.. {
            // Another program can only take from a rate: the best of each kind is the nearest to the router's own.
            alone = alone.max(download(stage)?);
            let flooding = stage.world.spawn("client", &command)?;
            let speed = download(stage)?;
            let sent = flooding.wait(FLOOD_LIMIT)?.good()?;
            if sent.trim() == FLOWS {
                flooded = flooded.max(speed);
            }
            let kept = 100.0 * flooded / alone;
            if kept >= KEPT_PERCENT && alone >= ALONE_BYTES_S_MIN {
                return Ok(kept);
            }
            if round < FLOOD_ROUNDS_MAX {
                continue;
            }
            ensure!(
                kept >= KEPT_PERCENT_BUSY && alone >= ALONE_BYTES_S_MIN,
                "of {alone:.0} bytes a second alone {kept:.0} % were kept; of the last flood {} SYNs went out",
                sent.trim()
            );
            return Ok(kept);
        }
        Ok(0.0)
    };
    let result = rounds();
    stage.accelerate(true)?;
    let kept = result?;
    stage.same_boot("a")?;
    ensure!(
        memory(stage)? == before,
        "memory: {:?} before, {:?} after",
        before,
        memory(stage)?
    );
    // The next flow is opened at once.
    let small = stage.serve("small.html", 5000)?;
    let out = stage.curl("client", &format!("http://{NGINX}/small.html"), &[])?;
    same_file(&out, &small)?;
    Ok(format!("{kept:.0} % of the rate kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ports_are_found_in_what_nmap_says() {
        let text = "# Nmap 7.93\nHost: 192.168.1.1 ()\tStatus: Up\n\
            Host: 192.168.1.1 ()\tPorts: 53/open/udp//domain///, 67/open|filtered/udp//dhcps///, 80/closed/tcp//http///\tIgnored State: closed (3)\n";
        let open = open_ports(text);
        assert_eq!(open.len(), 1);
        assert_eq!((open[0].port, open[0].protocol.as_str()), (53, "udp"));
        assert!(open_ports("Host: 203.0.113.2 ()\tStatus: Up\n").is_empty());
    }
}
