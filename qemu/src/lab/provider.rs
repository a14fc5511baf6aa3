//! The provider of both internet lines: a real dnsmasq on the host `origin`, as their DHCP server and resolver.
//!
//! | resolver | answers |
//! | --- | --- |
//! | 198.51.100.10 | `origin.test`, its alias `www.origin.test`, `many.test` (60 addresses), `text.test` (three strings of 250 bytes); whoever asks for anything else in `test` is told there is no such name |
//! | 198.51.100.15 | the zone `zone.test` as its master: what is not in it is denied with the zone's SOA record (RFC 2308) |
//!
//! The first asks the second for its zone. Both write down every question. Each router gets the address of the plan,
//! by the Ethernet address of its WAN port. They end with the host. Their files are in the lab's directory:
//! `dnsmasq.conf`, `dnsmasq.log`, `dnsmasq.leases`, `zone.conf`, `zone.log`.

use crate::lab::plan::{self, ORIGIN, ORIGIN_NAME, ROUTERS_MAX};
use crate::lab::run;
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// The address of the zone's master.
pub const ZONE_MASTER: &str = "198.51.100.15";
/// How many addresses the name `many.test` has: too many for 512 bytes, few enough for an answer of 1,232.
pub const MANY: u8 = 60;
/// How long a dnsmasq may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What the provider says to the routers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The address of each router, on the line of the same index.
    pub addresses: [String; ROUTERS_MAX],
    /// How long it is theirs, seconds; dnsmasq gives no less than 120.
    pub lease_seconds: u32,
    /// When they are to ask again (T1, RFC 2132 section 9.11), seconds; without it at half the time.
    pub renew_seconds: Option<u32>,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            addresses: std::array::from_fn(plan::wan_address),
            lease_seconds: 3_600,
            renew_seconds: None,
        }
    }
}

/// What both of them are told alike. No user to become and no group: a user namespace has only one.
fn common(directory: &Path, name: &str) -> String {
    let at = directory.display();
    format!(
        "user=root\ngroup=\nno-resolv\nno-hosts\nno-poll\nlocal-ttl=300\nbind-interfaces\n\
         pid-file={at}/{name}.pid\nlog-facility={at}/{name}.log\nlog-queries\n"
    )
}

impl Provider {
    fn configuration(&self, directory: &Path, lines: usize) -> String {
        let mut text = common(directory, "dnsmasq");
        let at = directory.display();
        text.push_str(&format!(
            "listen-address={ORIGIN}\ndhcp-authoritative\nno-ping\nlog-dhcp\ndhcp-leasefile={at}/dnsmasq.leases\n\
             dhcp-option=option:dns-server,{ORIGIN}\n"
        ));
        if let Some(seconds) = self.renew_seconds {
            text.push_str(&format!("dhcp-option-force=option:T1,{seconds}\n"));
        }
        for (index, line) in ["wan-a", "wan-b", "wan-c"].iter().enumerate().take(lines) {
            text.push_str(&format!(
                "listen-address={}\n\
                 dhcp-range=set:{line},{},static,255.255.255.192,{}\n\
                 dhcp-option=tag:{line},option:router,{}\n\
                 dhcp-host={},{}\n",
                plan::wan_gateway(index),
                plan::wan_network(index),
                self.lease_seconds,
                plan::wan_gateway(index),
                plan::router_macs(index)[1],
                self.addresses[index],
            ));
        }
        text.push_str(&format!(
            "local=/test/\nserver=/zone.test/{ZONE_MASTER}\n\
             host-record={ORIGIN_NAME},{ORIGIN}\ncname=www.{ORIGIN_NAME},{ORIGIN_NAME}\n"
        ));
        for last in 0..MANY {
            text.push_str(&format!("host-record=many.test,203.0.113.{}\n", 128 + last));
        }
        let string = "tandem ".repeat(36);
        let string = &string[..250];
        text.push_str(&format!(
            "txt-record=text.test,{string},{string},{string}\n"
        ));
        text
    }
}

fn zone(directory: &Path) -> String {
    format!(
        "{}listen-address={ZONE_MASTER}\nauth-server=ns.zone.test,{ZONE_MASTER}\nauth-zone=zone.test\n\
         auth-soa=2026,owner.zone.test,1200,120,86400\nauth-ttl=300\nhost-record=here.zone.test,{ORIGIN}\n",
        common(directory, "zone")
    )
}

/// Starts both on a lab of so many internet lines; one that runs is replaced and remembers its leases.
///
/// # Errors
/// No dnsmasq, or it refuses.
pub fn start(state: &StateDirectory, provider: &Provider, lines: usize) -> Result<()> {
    stop(state, "dnsmasq")?;
    stop(state, "zone")?;
    launch(state, "zone", &zone(state.path()))?;
    launch(
        state,
        "dnsmasq",
        &provider.configuration(state.path(), lines),
    )
}

fn launch(state: &StateDirectory, name: &str, configuration: &str) -> Result<()> {
    let file = state.file(&format!("{name}.conf"));
    std::fs::write(&file, configuration).with_context(|| format!("cannot write {name}.conf"))?;
    let argument = format!("--conf-file={}", file.display());
    let output = run::output_on(state, "origin", &["dnsmasq", &argument])?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let reason = text.lines().find(|line| !line.trim().is_empty());
        bail!(
            "dnsmasq does not start: {}",
            reason.unwrap_or("without a word").trim()
        );
    }
    Ok(())
}

/// Ends one of them and waits for its end; `name` is that of its files.
///
/// # Errors
/// It goes on.
pub fn stop(state: &StateDirectory, name: &str) -> Result<()> {
    let file = state.file(&format!("{name}.pid"));
    let Ok(pid) = std::fs::read_to_string(&file) else {
        return Ok(());
    };
    let pid = pid.trim();
    let deadline = Instant::now() + STOP_TIMEOUT;
    // Its number is one of the host's own.
    while run::output_on(state, "origin", &["sh", "-c", &format!("kill {pid}")])?
        .status
        .success()
    {
        if Instant::now() > deadline {
            bail!("dnsmasq does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    match std::fs::remove_file(&file) {
        // It may have done so itself.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// A question that the resolver wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `A`, `TXT`, …
    pub kind: String,
    /// The name asked for.
    pub name: String,
    /// Who asked.
    pub from: String,
}

/// The questions written down so far.
pub fn questions(state: &StateDirectory) -> Vec<Question> {
    let text = std::fs::read_to_string(state.file("dnsmasq.log")).unwrap_or_default();
    text.lines().filter_map(parse_question).collect()
}

/// `DATE dnsmasq[PID]: query[KIND] NAME from ADDRESS`.
fn parse_question(line: &str) -> Option<Question> {
    let (_, rest) = line.split_once(": query[")?;
    let (kind, rest) = rest.split_once("] ")?;
    let (name, from) = rest.split_once(" from ")?;
    Some(Question {
        kind: kind.to_owned(),
        name: name.to_owned(),
        from: from.trim().to_owned(),
    })
}

/// How often the DHCP server has said no (DHCPNAK) so far.
pub fn refusals(state: &StateDirectory) -> usize {
    let text = std::fs::read_to_string(state.file("dnsmasq.log")).unwrap_or_default();
    text.matches("DHCPNAK(").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gives_its_router_the_address_of_the_plan() {
        let text = Provider::default().configuration(Path::new("/lab"), 2);
        for line in [
            "dhcp-host=52:54:00:0a:00:02,203.0.113.2",
            "dhcp-host=52:54:00:0b:00:02,203.0.113.66",
            "dhcp-option=tag:wan-b,option:router,203.0.113.65",
            "dhcp-range=set:wan-a,203.0.113.0,static,255.255.255.192,3600",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("wan-c"));
        let three = Provider::default().configuration(Path::new("/lab"), 3);
        let third = "dhcp-host=52:54:00:1c:00:02,203.0.113.130";
        assert!(three.lines().any(|found| found == third), "{three}");
        let one = Provider::default().configuration(Path::new("/lab"), 1);
        assert!(!one.contains("wan-b"));
    }

    #[test]
    fn questions_are_found_in_the_log() {
        let line = "Nov 22 17:41:59 dnsmasq[7]: query[A] origin.test from 203.0.113.2";
        assert_eq!(
            parse_question(line),
            Some(Question {
                kind: "A".to_owned(),
                name: "origin.test".to_owned(),
                from: "203.0.113.2".to_owned(),
            })
        );
        assert_eq!(
            parse_question("Nov 22 17:41:59 dnsmasq[7]: config origin.test is 1"),
            None
        );
    }
}
