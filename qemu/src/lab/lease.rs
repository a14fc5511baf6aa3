//! The clients' DHCP: a real client (busybox's udhcpc) on each host that has no address of its own.
//!
//! What it is told goes to the host's device, routes and resolver, and as a line to `HOST.leases` in the lab's directory.
//! It asks again by itself and ends with the host. Follows: RFC 2131; udhcpc's script interface.

use crate::lab::run;
use crate::lab::state::StateDirectory;
use anyhow::{Context, Result, bail};
use std::time::{Duration, Instant};

/// How long the first lease may take.
const LEASE_TIMEOUT: Duration = Duration::from_secs(30);

/// What udhcpc calls with what has happened as its argument, and what it was told as variables. The resolver's file is
/// mounted over the host's, so it must stay the same file.
const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
deconfig)
    ip addr flush dev "$interface"
    ip link set "$interface" up
    ;;
bound|renew)
    ip -o addr show dev "$interface" | grep -qF " $ip/$mask " || ip addr flush dev "$interface"
    ip addr replace "$ip/$mask" dev "$interface"
    for gateway in $router; do ip route replace default via "$gateway"; break; done
    for address in $dns; do echo "nameserver $address"; done > "$LAB_DIRECTORY/$LAB_HOST.resolv.conf"
    ;;
esac
echo "$1 ${ip:--} ${mask:--} $(echo ${router:--} | tr ' ' ,) $(echo ${dns:--} | tr ' ' ,) ${lease:--} ${serverid:--}" \
    >> "$LAB_DIRECTORY/$LAB_HOST.leases"
"#;

/// What a DHCP client was told, or what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `bound`, `renew`.
    pub event: String,
    /// The address.
    pub address: String,
    /// Length of its net's prefix.
    pub prefix: u8,
    /// The default route.
    pub router: String,
    /// The resolvers, a comma between them.
    pub dns: String,
    /// How long, seconds.
    pub seconds: u32,
    /// Who gave it.
    pub server: String,
}

/// Starts the client of a host and waits for its address.
///
/// # Errors
/// There is none within the time.
pub fn start(state: &StateDirectory, host: &str) -> Result<Lease> {
    let script = state.file("udhcpc.sh");
    std::fs::write(&script, SCRIPT).context("cannot write udhcpc.sh")?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .context("cannot make udhcpc.sh a program")?;
    let deadline = Instant::now() + LEASE_TIMEOUT;
    // Its output in a file: it goes on in the background, and would hold a pipe open.
    let command = "cd \"$1\" && LAB_DIRECTORY=\"$1\" LAB_HOST=\"$2\" exec busybox udhcpc -i eth0 -s \"$1/udhcpc.sh\" \
                   -p \"$1/$2.udhcpc.pid\" -b -t 3 -T 1 -A 2 >> \"$1/$2.udhcpc.log\" 2>&1";
    let directory = state.path().display().to_string();
    let output = run::output_on(
        state,
        host,
        &["sh", "-c", command, "udhcpc", &directory, host],
    )?;
    if !output.status.success() {
        let text = std::fs::read_to_string(state.file(&format!("{host}.udhcpc.log")));
        let text = text.unwrap_or_default();
        bail!(
            "udhcpc on {host} does not start: {}; get it with `cargo lab doctor --install`",
            text.lines().last().unwrap_or("without a word")
        );
    }
    loop {
        if let Some(lease) = last(state, host) {
            return Ok(lease);
        }
        if Instant::now() > deadline {
            bail!(
                "{host} gets no address by DHCP within {} s",
                LEASE_TIMEOUT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Tells the client of a host to do what a signal means to it: `USR1` renews, `USR2` gives the address back.
///
/// # Errors
/// There is none.
pub fn signal(state: &StateDirectory, host: &str, name: &str) -> Result<()> {
    let file = state.file(&format!("{host}.udhcpc.pid"));
    let pid = std::fs::read_to_string(file).with_context(|| format!("no DHCP client on {host}"))?;
    let command = format!("kill -{name} {}", pid.trim());
    match run::output_on(state, host, &["sh", "-c", &command])?
        .status
        .success()
    {
        true => Ok(()),
        false => bail!("the DHCP client on {host} has ended"),
    }
}

/// All that a host was told, in order.
pub fn all(state: &StateDirectory, host: &str) -> Vec<Lease> {
    let text = std::fs::read_to_string(state.file(&format!("{host}.leases"))).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// The newest.
pub fn last(state: &StateDirectory, host: &str) -> Option<Lease> {
    all(state, host).pop()
}

/// A line of the script's; none if it is of something else than a lease.
fn parse(line: &str) -> Option<Lease> {
    let mut words = line.split(' ').map(str::to_owned);
    let mut word = || words.next();
    Some(Lease {
        event: word().filter(|event| ["bound", "renew"].contains(&event.as_str()))?,
        address: word()?,
        prefix: word()?.parse().ok()?,
        router: word()?,
        dns: word()?,
        seconds: word()?.parse().ok()?,
        server: word()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_writes_is_a_lease() {
        let line = "bound 192.168.1.100 24 192.168.1.1 192.168.1.1 86400 192.168.1.1";
        let lease = parse(line).unwrap();
        assert_eq!((lease.prefix, lease.seconds), (24, 86_400));
        assert_eq!(lease.server, "192.168.1.1");
        assert_eq!(parse("deconfig - - - - - -"), None);
    }
}
