//! Programs of every day through router A as a plain router: what a household would miss first.

use super::oracle::same_file;
use super::origins::{NGINX, WAN_A};
use super::world::{one_line, until};
use super::{Scenario, Stage, everyday};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For one program, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long the idle connection says nothing. That two hours are no longer is shown in virtual time.
const IDLE: &str = "8";
const MIB: u64 = 1 << 20;
/// What both directions must reach of a line of 8 Mbit/s on a busy machine.
const BITS_MIN: f64 = 3e6;

/// See each name.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "apt updates its lists and downloads packages whole",
        run: apt,
    },
    Scenario {
        name: "iperf3 sends and receives by TCP and UDP",
        run: iperf3,
    },
    Scenario {
        name: "a connection that is silent for a while goes on in both directions",
        run: idle,
    },
    Scenario {
        name: "a file arrives by passive FTP, asked for by EPSV and by PASV",
        run: ftp,
    },
    Scenario {
        name: "ping with a TTL of 1 and traceroute show the router as the first hop",
        run: traceroute,
    },
];

impl Stage {
    /// Waits until somebody on `host` accepts connections on a port.
    pub(super) fn listening(&mut self, host: &str, address: &str, port: u16) -> Result<()> {
        let script = format!(
            "import socket; socket.create_connection((\"{address}\", {port}), timeout=2).close()"
        );
        let what = format!("{host} listens on {address}:{port}");
        until(&what, START_LIMIT, || {
            let ran = self
                .world
                .exec(host, &["python3", "-c", &script], START_LIMIT)?;
            Ok(ran.success)
        })
    }

    /// The client's own address, whoever gave it.
    pub(super) fn client_address(&mut self) -> Result<String> {
        let show = ["ip", "-o", "-4", "addr", "show", "dev", "eth0"];
        let text = self.world.exec("client", &show, LIMIT)?.good()?;
        let address = text.split_whitespace().skip_while(|word| *word != "inet");
        let address = address.skip(1).find_map(|word| word.split_once('/'));
        Ok(address.context("the client has no address")?.0.to_owned())
    }
}

/// A package whose content is `file`, in the repository.
fn package(repository: &Path, name: &str, file: &Path) -> Result<String> {
    let tree = repository.join("tree");
    std::fs::remove_dir_all(&tree).ok();
    std::fs::create_dir_all(tree.join("DEBIAN"))?;
    std::fs::create_dir_all(tree.join("opt"))?;
    let control = format!(
        "Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@origin.test>\n\
         Description: bytes\n"
    );
    std::fs::write(tree.join("DEBIAN/control"), &control)?;
    std::fs::copy(file, tree.join("opt").join(name))?;
    let archive = repository.join(format!("{name}_1.0_all.deb"));
    let output = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group", "-Znone"])
        .arg(&tree)
        .arg(&archive)
        .output()
        .context("dpkg-deb")?;
    ensure!(
        output.status.success(),
        "dpkg-deb: {}",
        one_line(&String::from_utf8_lossy(&output.stderr))
    );
    std::fs::remove_dir_all(&tree)?;
    Ok(format!(
        "{control}Filename: ./{name}_1.0_all.deb\nSize: {}\nSHA256: {}\n",
        std::fs::metadata(&archive)?.len(),
        super::oracle::sha256(&archive)?
    ))
}

/// A directory that is apt's whole world, and a list of one repository.
pub(super) fn apt_world(root: &Path, directory: &str) -> Result<PathBuf> {
    std::fs::remove_dir_all(root).ok();
    for directory in [
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "etc/apt/trusted.gpg.d",
        "etc/apt/sources.list.d",
        "var/lib/apt/lists/partial",
        "var/lib/dpkg",
        "var/cache/apt/archives/partial",
        "out",
    ] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::write(root.join("var/lib/dpkg/status"), "")?;
    let list = format!("deb [trusted=yes] http://origin.test/{directory} ./\n");
    std::fs::write(root.join("etc/apt/sources.list"), list)?;
    // Without `Acquire` lines of ours: it pipelines as it always does.
    let text = format!(
        "Dir \"{0}/\";\nDir::State::status \"{0}/var/lib/dpkg/status\";\nAPT::Sandbox::User \"root\";\n\
         APT::Architecture \"amd64\";\nAcquire::Languages \"none\";\n",
        root.display()
    );
    let configuration = root.join("apt.conf");
    std::fs::write(&configuration, text)?;
    Ok(configuration)
}

/// A repository of packages, name and size of content each, in a directory of the origin's files; its index is at
/// least `index_bytes` long.
pub(super) fn repository(
    stage: &mut Stage,
    directory: &str,
    packages: &[(&str, u64)],
    index_bytes: usize,
) -> Result<PathBuf> {
    let repository = stage.files.join(directory);
    std::fs::remove_dir_all(&repository).ok();
    std::fs::create_dir_all(&repository)?;
    let mut list = Vec::new();
    for (name, bytes) in packages {
        let file = stage.serve(&format!("{name}.bin"), *bytes)?;
        list.push(package(&repository, name, &file)?);
    }
    let list = list.join("\n") + &everyday::others(index_bytes)?;
    std::fs::write(repository.join("Packages"), &list)?;
    let hash = super::oracle::sha256(&repository.join("Packages"))?;
    let release = format!(
        "Date: Sat, 01 Jan 2022 00:00:00 UTC\nArchitectures: all amd64\nSHA256:\n {hash} {} Packages\n",
        list.len()
    );
    std::fs::write(repository.join("Release"), release)?;
    Ok(repository)
}

fn apt(stage: &mut Stage) -> Result<String> {
    let packages = [
        ("tandem-one", 20_000),
        ("tandem-two", 300_000),
        ("tandem-three", 3 * MIB),
        ("tandem-four", 40_000),
        ("tandem-five", 1_000),
    ];
    let names = packages.map(|(name, _)| name);
    let repository = repository(stage, "apt", &packages, 0)?;
    let root = stage.world.file("apt");
    let configuration = apt_world(&root, "apt")?;
    let command = format!(
        "cd {}/out && unset http_proxy HTTP_PROXY && export APT_CONFIG={} && apt-get -q update && apt-get -q download {}",
        root.display(),
        configuration.display(),
        names.join(" ")
    );
    let mark = stage.origins.mark(NGINX)?;
    stage
        .world
        .exec("client", &["sh", "-c", &command], 2 * LIMIT)?
        .good()?;
    for name in &names {
        let file = format!("{name}_1.0_all.deb");
        same_file(&root.join("out").join(&file), &repository.join(&file))?;
    }
    let requests = stage.origins.since(NGINX, mark)?.len();
    Ok(format!(
        "{} packages, {requests} requests at the origin",
        names.len()
    ))
}

fn iperf3(stage: &mut Stage) -> Result<String> {
    let _server = stage
        .world
        .spawn("origin", &["iperf3", "-s", "-B", NGINX])?;
    stage.listening("origin", NGINX, 5201)?;
    let mut words = Vec::new();
    for (name, options) in [
        ("TCP up", &["-t", "3"][..]),
        ("TCP down", &["-t", "3", "-R"]),
        ("UDP up", &["-t", "3", "-u", "-b", "4M", "-l", "1200"]),
        (
            "UDP down",
            &["-t", "3", "-u", "-b", "4M", "-l", "1200", "-R"],
        ),
    ] {
        let mut command = vec!["iperf3", "-c", NGINX, "-J", "--connect-timeout", "5000"];
        command.extend(options);
        let text = stage.world.exec("client", &command, LIMIT)?.stdout;
        let report: Value = serde_json::from_str(&text).with_context(|| name.to_owned())?;
        if let Some(error) = report.get("error") {
            anyhow::bail!("{name}: {error}");
        }
        let udp = name.starts_with("UDP");
        let sum = &report["end"][if udp { "sum" } else { "sum_received" }];
        let bits = sum["bits_per_second"].as_f64().unwrap_or(0.0);
        ensure!(bits > BITS_MIN, "{name}: {bits:.0} bit/s");
        words.push(format!("{name} {:.1} Mbit/s", bits / 1e6));
        if udp {
            let lost = sum["lost_percent"].as_f64().unwrap_or(100.0);
            ensure!(lost < 10.0, "{name}: {lost:.1} % lost");
        }
    }
    Ok(words.join(", "))
}

fn idle(stage: &mut Stage) -> Result<String> {
    let script = stage.world.file("idle.py");
    std::fs::write(&script, include_str!("idle.py"))?;
    let script = script.display().to_string();
    let command = |role| ["python3", script.as_str(), role, NGINX, "2222", IDLE];
    let _server = stage.world.spawn("origin", &command("serve"))?;
    stage.listening("origin", NGINX, 2222)?;
    let said = stage
        .world
        .exec("client", &command("call"), LIMIT)?
        .good()?;
    ensure!(said.trim() == "alive", "{}", one_line(&said));
    Ok(format!("{IDLE} s of silence, twice"))
}

fn ftp(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("2m.bin", 2 * MIB)?;
    let files = stage.files.display().to_string();
    let server = [
        "/usr/bin/python3",
        "-m",
        "pyftpdlib",
        "-i",
        NGINX,
        "-p",
        "21",
        "-d",
        &files,
    ];
    let _server = stage.world.spawn("origin", &server)?;
    stage.listening("origin", NGINX, 21)?;
    let url = format!("ftp://{NGINX}/2m.bin");
    for options in [&[][..], &["--disable-epsv"]] {
        let out = stage.curl("client", &url, options)?;
        same_file(&out, &file)?;
    }
    Ok("from pyftpdlib to curl".to_owned())
}

fn traceroute(stage: &mut Stage) -> Result<String> {
    const LAN: &str = "192.168.1.1";
    let mut ping = |ttl: &str| -> Result<String> {
        let command = [
            "ping", "-n", "-c", "3", "-i", "0.2", "-W", "5", "-t", ttl, NGINX,
        ];
        Ok(stage.world.exec("client", &command, LIMIT)?.stdout)
    };
    let first = ping("1")?;
    ensure!(
        first.contains(&format!("From {LAN} ")) && first.contains("Time to live exceeded"),
        "TTL 1: {}",
        one_line(&first)
    );
    let second = ping("2")?;
    ensure!(
        second.contains(&format!("bytes from {NGINX}")),
        "TTL 2: {}",
        one_line(&second)
    );
    // By UDP: the last hop is told by the origin's port unreachable, translated on its way in.
    let trace = [
        "busybox",
        "traceroute",
        "-n",
        "-q",
        "2",
        "-w",
        "3",
        "-m",
        "4",
        NGINX,
    ];
    let text = stage.world.exec("client", &trace, LIMIT)?.good()?;
    let hops: Vec<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    ensure!(hops == [LAN, NGINX], "traceroute: {}", one_line(&text));
    Ok(format!("{} hops", hops.len()))
}

pub(super) fn forward(stage: &mut Stage) -> Result<String> {
    let file = stage.serve("1m.bin", MIB)?;
    let files = stage.files.display().to_string();
    let address = stage.client_address()?;
    let server = [
        "python3",
        "-m",
        "http.server",
        "8000",
        "--bind",
        &address,
        "--directory",
        &files,
    ];
    let _server = stage.world.spawn("client", &server)?;
    stage.listening("client", &address, 8000)?;
    let url = format!("http://{WAN_A}:8080/1m.bin");
    stage.set("a", "nat.forwards", &format!("tcp:8080={address}:8000"))?;
    let result = ["origin", "client"].iter().try_for_each(|host| {
        let out = stage
            .curl(host, &url, &[])
            .with_context(|| format!("from {host}"))?;
        same_file(&out, &file)
    });
    stage.set("a", "nat.forwards", "none")?;
    result?;
    let closed = [
        "curl",
        "--silent",
        "--max-time",
        "3",
        "--output",
        "/dev/null",
        &url,
    ];
    let ran = stage.world.exec("origin", &closed, LIMIT)?;
    ensure!(!ran.success, "the port still leads in after it was unset");
    Ok(format!("{WAN_A}:8080 leads to {address}:8000"))
}
