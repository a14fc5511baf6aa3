//! What a machine must have, and how to get it.
//!
//! One table, [`NEEDS`]: a program, why it is needed, how its version is found, and the command that gets it.
//! `lab doctor` prints it, `lab doctor --install` and the commands that set themselves up run those commands.
//!
//! Not done: package managers other than apt and rustup; elsewhere the table says what to look for.

use crate::image;
use anyhow::{Context, bail};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Arguments of `lab doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Get what is missing, with apt-get (as root) and rustup.
    #[arg(long)]
    install: bool,
}

/// Which commands of the lab need a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Building and booting: `build`, `demo`, `up`.
    Boot,
    /// Only `test`.
    Test,
}

/// How a thing is obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Get {
    /// Debian packages.
    Apt(&'static [&'static str]),
    /// Components of the host's Rust toolchain.
    RustupComponent(&'static str),
    /// The compiler for the image: Debian packages, or a nightly where there are none.
    ImageCompiler,
    /// Nothing that a package manager could bring.
    ByHand(&'static str),
}

/// One line of the table.
struct Need {
    name: &'static str,
    why: &'static str,
    scope: Scope,
    /// The version found, or why it does not count.
    probe: fn() -> Result<String, String>,
    get: Get,
}

const IMAGE_COMPILER_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
const NIGHTLY: &[&str] = &[
    "toolchain",
    "install",
    "nightly",
    "--profile",
    "minimal",
    "--component",
    "rust-src",
];
/// Services that would start at boot because their Debian package was installed for the lab.
const SERVICES: &[&str] = &["nginx", "lighttpd", "iperf3"];

const NEEDS: &[Need] = &[
    Need {
        name: "image compiler",
        why: "compiles the firmware for MIPS32, with the source of `core`",
        scope: Scope::Boot,
        probe: || {
            image::toolchain()
                .map(|found| found.to_string())
                .map_err(|error| format!("{error:#}"))
        },
        get: Get::ImageCompiler,
    },
    Need {
        name: "ld.lld",
        why: "links the image",
        scope: Scope::Boot,
        probe: || version("ld.lld", &["--version"]),
        get: Get::Apt(&["lld"]),
    },
    Need {
        name: "qemu-system-mipsel",
        why: "is the board",
        scope: Scope::Boot,
        probe: || version("qemu-system-mipsel", &["--version"]),
        get: Get::Apt(&["qemu-system-mips"]),
    },
    Need {
        name: "ip",
        why: "makes the hosts of the lab",
        scope: Scope::Boot,
        probe: || version("ip", &["-V"]),
        get: Get::Apt(&["iproute2"]),
    },
    Need {
        name: "network namespaces",
        why: "are the hosts of the lab",
        scope: Scope::Boot,
        probe: namespaces,
        get: Get::ByHand(
            "run as root, or allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1",
        ),
    },
    Need {
        name: "nginx",
        why: "is the origin",
        scope: Scope::Boot,
        probe: || version("nginx", &["-v"]),
        get: Get::Apt(&["nginx"]),
    },
    Need {
        name: "curl",
        why: "is the client",
        scope: Scope::Boot,
        probe: || version("curl", &["--version"]),
        get: Get::Apt(&["curl"]),
    },
    Need {
        name: "dnsmasq",
        why: "is the lines' DHCP and DNS",
        scope: Scope::Boot,
        probe: || version("dnsmasq", &["--version"]),
        get: Get::Apt(&["dnsmasq-base"]),
    },
    Need {
        name: "busybox udhcpc",
        why: "is the clients' DHCP",
        scope: Scope::Boot,
        probe: udhcpc,
        get: Get::Apt(&["busybox"]),
    },
    Need {
        name: "ping",
        why: "shows that a line is up",
        scope: Scope::Test,
        probe: || version("ping", &["-V"]),
        get: Get::Apt(&["iputils-ping"]),
    },
    Need {
        name: "wget",
        why: "is another client",
        scope: Scope::Test,
        probe: || version("wget", &["--version"]),
        get: Get::Apt(&["wget"]),
    },
    Need {
        name: "aria2c",
        why: "is another client",
        scope: Scope::Test,
        probe: || version("aria2c", &["--version"]),
        get: Get::Apt(&["aria2"]),
    },
    Need {
        name: "ffmpeg",
        why: "seeks in a film",
        scope: Scope::Test,
        probe: || version("ffmpeg", &["-version"]),
        get: Get::Apt(&["ffmpeg"]),
    },
    Need {
        name: "python3",
        why: "is another client, and origins with manners of their own",
        scope: Scope::Test,
        probe: || version("python3", &["--version"]),
        get: Get::Apt(&["python3"]),
    },
    Need {
        name: "lighttpd",
        why: "is another origin",
        scope: Scope::Test,
        probe: || version("lighttpd", &["-v"]),
        get: Get::Apt(&["lighttpd"]),
    },
    Need {
        name: "tshark",
        why: "judges the client's TCP connection",
        scope: Scope::Test,
        probe: || version("tshark", &["--version"]),
        get: Get::Apt(&["tshark"]),
    },
    Need {
        name: "dig",
        why: "asks the router for names",
        scope: Scope::Test,
        probe: || version("dig", &["-v"]),
        get: Get::Apt(&["bind9-dnsutils"]),
    },
    Need {
        name: "iperf3",
        why: "is bulk by TCP and UDP, both ways",
        scope: Scope::Test,
        probe: || version("iperf3", &["--version"]),
        get: Get::Apt(&["iperf3"]),
    },
    Need {
        name: "nmap",
        why: "looks for open ports",
        scope: Scope::Test,
        probe: || version("nmap", &["--version"]),
        get: Get::Apt(&["nmap"]),
    },
    Need {
        name: "pyftpdlib",
        why: "is an FTP server",
        scope: Scope::Test,
        probe: pyftpdlib,
        get: Get::Apt(&["python3-pyftpdlib"]),
    },
    Need {
        name: "sx",
        why: "sends an image by XMODEM",
        scope: Scope::Test,
        probe: || version("sx", &["--version"]),
        get: Get::Apt(&["lrzsz"]),
    },
    Need {
        name: "dpkg-deb",
        why: "packs what apt downloads",
        scope: Scope::Test,
        probe: || version("dpkg-deb", &["--version"]),
        get: Get::Apt(&["dpkg"]),
    },
    Need {
        name: "c++",
        why: "compiles libFuzzer",
        scope: Scope::Test,
        probe: || version("c++", &["--version"]),
        get: Get::Apt(&["g++"]),
    },
    Need {
        name: "rustfmt",
        why: "checks the format of the source",
        scope: Scope::Test,
        probe: || version("cargo", &["fmt", "--version"]),
        get: Get::RustupComponent("rustfmt"),
    },
    Need {
        name: "clippy",
        why: "is the lints",
        scope: Scope::Test,
        probe: || version("cargo", &["clippy", "--version"]),
        get: Get::RustupComponent("clippy"),
    },
];

/// Runs `lab doctor`.
///
/// # Errors
/// Something is missing, or could not be installed.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut missing = examine(&[Scope::Boot, Scope::Test], true);
    if args.install && !missing.is_empty() {
        install(&missing)?;
        println!();
        missing = examine(&[Scope::Boot, Scope::Test], true);
    }
    match missing.len() {
        0 => {
            println!("Everything is there.");
            Ok(())
        }
        _ if args.install => bail!("still missing: {}", names(&missing)),
        _ => bail!(
            "missing: {}; `cargo lab doctor --install` gets it",
            names(&missing)
        ),
    }
}

/// Gets whatever building and booting a lab needs and this machine lacks; silent if nothing is missing.
///
/// # Errors
/// What is missing and cannot be got, with the command that would get it.
pub fn ensure() -> anyhow::Result<()> {
    ensure_scopes(&[Scope::Boot])
}

/// Gets whatever any command of the lab needs and this machine lacks; silent if nothing is missing.
///
/// # Errors
/// What is missing and cannot be got, with the command that would get it.
pub fn ensure_all() -> anyhow::Result<()> {
    ensure_scopes(&[Scope::Boot, Scope::Test])
}

fn ensure_scopes(scopes: &[Scope]) -> anyhow::Result<()> {
    let missing = examine(scopes, false);
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)?;
    let missing = examine(scopes, false);
    if !missing.is_empty() {
        bail!("still missing: {}", names(&missing));
    }
    Ok(())
}

/// Looks at every need of `scopes`, prints the table if asked, and gives what is missing.
fn examine(scopes: &[Scope], print: bool) -> Vec<&'static Need> {
    let mut missing = Vec::new();
    let needs = NEEDS.iter().filter(|need| scopes.contains(&need.scope));
    for need in needs {
        let found = (need.probe)();
        if print {
            let state = match &found {
                Ok(version) => format!("ok       {version:28} {}", need.why),
                Err(reason) => format!(
                    "MISSING  {reason:28} {}\n{:31}get it: {}",
                    need.why, "", need.get
                ),
            };
            println!("{:20}  {state}", need.name);
        }
        if found.is_err() {
            missing.push(need);
        }
    }
    missing
}

fn names(needs: &[&Need]) -> String {
    let names: Vec<&str> = needs.iter().map(|need| need.name).collect();
    names.join(", ")
}

impl std::fmt::Display for Get {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Apt(packages) => f.write_str(&apt_command(packages)),
            Self::RustupComponent(component) => write!(f, "rustup component add {component}"),
            Self::ImageCompiler if apt_has(IMAGE_COMPILER_PACKAGES) => {
                f.write_str(&apt_command(IMAGE_COMPILER_PACKAGES))
            }
            Self::ImageCompiler => write!(f, "rustup {}", NIGHTLY.join(" ")),
            Self::ByHand(advice) => f.write_str(advice),
        }
    }
}

/// The command as a person would type it.
fn apt_command(packages: &[&str]) -> String {
    let mut command = String::new();
    if !is_root() {
        command.push_str("sudo ");
    }
    let _infallible = write!(
        command,
        "apt-get install --no-install-recommends {}",
        packages.join(" ")
    );
    command
}

/// Whether apt knows all of `packages`, or knows nothing yet and could after an update.
fn apt_has(packages: &[&str]) -> bool {
    find("apt-get").is_some()
        && (lists_age().is_none()
            || Command::new("apt-cache")
                .arg("show")
                .args(packages)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Installs what `needs` lack.
fn install(needs: &[&Need]) -> anyhow::Result<()> {
    let mut packages: Vec<&str> = Vec::new();
    let mut components: Vec<&str> = Vec::new();
    let mut nightly = false;
    let mut by_hand = String::new();
    if is_root() && find("apt-get").is_some() {
        // Lists that are young may still lack the security suite, where the compiler is.
        println!("apt-get update");
        if let Err(error) = apt(&["update"]) {
            println!("going on with the package lists there are: {error:#}");
        }
    }
    for need in needs {
        match need.get {
            Get::Apt(wanted) => packages.extend(wanted),
            Get::RustupComponent(component) => components.push(component),
            Get::ImageCompiler if apt_has(IMAGE_COMPILER_PACKAGES) => {
                packages.extend(IMAGE_COMPILER_PACKAGES);
            }
            Get::ImageCompiler => nightly = true,
            Get::ByHand(advice) => {
                let _infallible = write!(by_hand, "{}: {advice}; ", need.name);
            }
        }
    }
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    if nightly {
        rustup(NIGHTLY)?;
    }
    if !components.is_empty() {
        let mut arguments = vec!["component", "add"];
        arguments.extend(components);
        rustup(&arguments)?;
    }
    if !by_hand.is_empty() {
        bail!("{}", by_hand.trim_end_matches("; "));
    }
    Ok(())
}

fn install_packages(packages: &[&str]) -> anyhow::Result<()> {
    if find("apt-get").is_none() {
        bail!(
            "there is no apt-get here; install the equivalents of: {}",
            packages.join(" ")
        );
    }
    if !is_root() {
        bail!("missing packages; run: {}", apt_command(packages));
    }
    println!("Installing: {}", packages.join(" "));
    let new_services: Vec<&str> = SERVICES
        .iter()
        .copied()
        .filter(|service| packages.contains(service))
        .collect();
    let quiet = NoServices::new();
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(packages);
    let result = apt(&arguments);
    drop(quiet);
    // The lab runs its own copies: port 80 of this machine is none of its business, not after a reboot either.
    if find("systemctl").is_some() {
        for service in new_services {
            let disabled = Command::new("systemctl")
                .args(["disable", "--quiet", service])
                .stderr(Stdio::null())
                .status();
            if !disabled.is_ok_and(|status| status.success()) {
                println!("Note: the service {service} could not be disabled.");
            }
        }
    }
    result
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args([
            "-o",
            "DPkg::Lock::Timeout=300",
            "-o",
            "Acquire::Retries=3",
            "-o",
            "Dpkg::Use-Pty=0",
        ])
        .args(arguments)
        // Questions take their defaults; tshark's (may users capture?) is no.
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed", arguments.join(" "));
    }
    Ok(())
}

fn rustup(arguments: &[&str]) -> anyhow::Result<()> {
    if find("rustup").is_none() {
        bail!(
            "there is no rustup here; what is wanted: rustup {}",
            arguments.join(" ")
        );
    }
    println!("rustup {}", arguments.join(" "));
    let status = Command::new("rustup").args(arguments).status()?;
    if !status.success() {
        bail!("rustup {} failed", arguments.join(" "));
    }
    Ok(())
}

/// While this lives, Debian's packages do not start their services.
///
/// The means is the policy layer of `invoke-rc.d`. A policy that is there already stays: it is the owner's.
struct NoServices {
    written: Option<PathBuf>,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Self {
        let path = Path::new(Self::POLICY);
        if path.exists() {
            return Self { written: None };
        }
        // If this process is killed, the file forbids nothing any more and removes itself at its first use.
        let script = format!(
            "#!/bin/sh\n[ -d /proc/{} ] && exit 101\nrm -f \"$0\"\nexit 0\n",
            std::process::id()
        );
        let written = std::fs::write(path, script).is_ok() && make_executable(path);
        Self {
            written: written.then(|| path.to_path_buf()),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = &self.written
            && let Err(error) = std::fs::remove_file(path)
        {
            println!("Note: {} stays behind: {error}", path.display());
        }
    }
}

fn make_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).is_ok()
}

/// Age of apt's newest package list; none if there is no list.
fn lists_age() -> Option<Duration> {
    let lists = std::fs::read_dir("/var/lib/apt/lists").ok()?;
    lists
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
        .filter_map(|entry| entry.metadata().ok()?.modified().ok())
        .max()
        .map(|newest| {
            SystemTime::now()
                .duration_since(newest)
                .unwrap_or(Duration::ZERO)
        })
}

/// Path of a program: like a shell's search, and also where Debian keeps programs of the administrator.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// The version a program says it has: the first word with a digit and a dot in its output.
fn version(program: &str, arguments: &[&str]) -> Result<String, String> {
    let path = find(program).ok_or("not found")?;
    let output = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let line = words.lines().find(|line| !line.trim().is_empty());
        return Err(line.unwrap_or("does not run").trim().to_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    Ok(version_in(&String::from_utf8_lossy(&text)).unwrap_or_else(|| "present".to_owned()))
}

fn version_in(text: &str) -> Option<String> {
    text.split(|c: char| {
        c.is_whitespace() || c == '/' || c == '-' || c == '(' || c == ')' || c == ','
    })
    .map(|word| word.trim_start_matches(|c: char| !c.is_ascii_digit()))
    .find(|word| {
        word.split_once('.')
            .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
    .map(str::to_owned)
}

/// Debian's busybox has this applet, others' may not.
fn udhcpc() -> Result<String, String> {
    let path = find("busybox").ok_or("not found")?;
    let output = Command::new(path)
        .arg("--list")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let list = String::from_utf8_lossy(&output.stdout);
    match list.lines().any(|applet| applet == "udhcpc") {
        true => version("busybox", &["--help"]),
        false => Err("without udhcpc".to_owned()),
    }
}

/// The Python of Debian's package, whatever other Python stands first in the path.
fn pyftpdlib() -> Result<String, String> {
    const SAY: &str = "import pyftpdlib; print(pyftpdlib.__ver__)";
    version("/usr/bin/python3", &["-c", SAY]).map_err(|_| "not found".to_owned())
}

fn namespaces() -> Result<String, String> {
    let as_root: &[&str] = &["--net", "--mount", "true"];
    let as_user: &[&str] = &["--user", "--map-root-user", "--net", "--mount", "true"];
    let output = Command::new("unshare")
        .args(if is_root() { as_root } else { as_user })
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() {
        Ok("allowed".to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, found) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)",
                Some("7.2.22"),
            ),
            ("nginx version: nginx/1.22.1", Some("1.22.1")),
            ("ip utility, iproute2-6.1.0, libbpf 1.1.2", Some("6.1.0")),
            ("Debian LLD 14.0.6 (compatible)", Some("14.0.6")),
            ("no number. here", None),
        ] {
            assert_eq!(version_in(said).as_deref(), found, "{said}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_missing() {
        assert_eq!(version("no-such-program", &[]), Err("not found".to_owned()));
    }
}
