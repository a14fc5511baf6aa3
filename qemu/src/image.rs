//! Builds the image and its loader, and packs what a router takes.
//!
//! The firmware's loadable bytes behind a header are an image as `upgrade` takes it (`firmware::upgrade::image`); such an
//! image in the first slot of an otherwise empty flash is what a router leaves the factory with.
//!
//! The compiler for the target is not the host's: Debian's `rustc-web` with the library source beside it, or a
//! nightly with `rust-src` (DESIGN.md, section 5). Cargo and rustup hand down variables to the programs they run; what
//! belongs to the host's toolchain is removed before the image is built.
//!
//! Not done: the image of the WRT54G.

use crate::{isa, size};
use anyhow::{Context, bail};
use firmware::crc::Crc32;
use firmware::store::Layout;
use firmware::upgrade::image::{Board as Target, Header, Version, Wanted, check};
use firmware::upgrade::slot::{self, SlotId};
use object::read::elf::ElfFile32;
use object::{Endianness, Object as _};
use sha2::Digest as _;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Arguments of `lab build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The board to build for.
    #[arg(long, value_enum, default_value_t = Board::Malta)]
    board: Board,
    /// Also write the loadable bytes alone, as a flash would hold them, and their SHA-256.
    #[arg(long)]
    release: bool,
}

/// A product, or its stand-in in the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Board {
    /// QEMU's `-M malta -cpu 4Kc`.
    Malta,
    /// Linksys WRT54G.
    Wrt54g,
}

/// A compiler that can build the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// Debian's packages `rustc-web`, `cargo-web`, `rust-web-src`.
    Debian {
        /// As `rustc --version` says it.
        version: String,
    },
    /// rustup's `nightly` with the component `rust-src`.
    Nightly {
        /// As `rustc --version` says it.
        version: String,
    },
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { version } => write!(f, "{version} in /usr/bin"),
            Self::Nightly { version } => write!(f, "{version} by rustup"),
        }
    }
}

/// A built image and what the compiler said about our own crates.
#[derive(Debug)]
pub struct Built {
    /// Path of the ELF.
    pub elf: PathBuf,
    /// Path of the loader's ELF.
    pub loader: PathBuf,
    /// Warnings, as the compiler printed them.
    pub warnings: Vec<String>,
}

const TARGET: &str = "mipsel-unknown-none";
/// Bytes of Malta's flash.
const FLASH_BYTES: usize = 4 << 20;
/// The oldest compiler that knows the language used (`rust-version` of the workspace).
const RUST_MINOR_MIN: u32 = 91;

/// Runs `lab build`.
///
/// # Errors
/// The build failed, the image does not fit the CPU, or the board has no image yet.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.board {
        Board::Malta => {}
        Board::Wrt54g => bail!(
            "no image for the WRT54G yet; `cargo lab build --board malta` builds one for QEMU"
        ),
    }
    let built = build_verbose(true)?;
    for warning in &built.warnings {
        eprint!("{warning}");
    }
    println!("image           {}", built.elf.display());
    let bytes = std::fs::read(&built.elf)?;
    let report = size::Report::read(&bytes)?;
    print!("{report}");
    let image = pack(&bytes)?;
    let path = built.elf.with_extension("img");
    std::fs::write(&path, &image).with_context(|| path.display().to_string())?;
    println!(
        "for upgrade     {} ({} of {} bytes)",
        path.display(),
        image.len(),
        slot_bytes(SlotId::A)
    );
    println!("loader          {}", built.loader.display());
    if args.release {
        let (flat, hash) = write_flat(&built.elf, &report.flat)?;
        println!(
            "flat file       {} ({} bytes)",
            flat.display(),
            report.flat.len()
        );
        println!("SHA-256         {hash}");
    }
    built.check_instructions()
}

impl Built {
    /// Judges every instruction of image and loader.
    ///
    /// # Errors
    /// The CPU does not have one of them; they are on standard output.
    pub fn check_instructions(&self) -> anyhow::Result<()> {
        for (name, path) in [("image", &self.elf), ("loader", &self.loader)] {
            let verdict = isa::examine(&std::fs::read(path)?)?;
            print!("{name}: {verdict}");
            if !verdict.offenders.is_empty() {
                bail!("the {name} has instructions that the CPU does not have");
            }
        }
        Ok(())
    }
}

/// The image of a firmware's ELF as `upgrade` takes it: header and loadable bytes.
///
/// # Errors
/// Not an ELF, large initialised data (which would make it too long, and is the reason to be told then), or nothing
/// that a router would take.
pub fn pack(elf: &[u8]) -> anyhow::Result<Vec<u8>> {
    size::Report::read(elf)?.check_initialised()?;
    let (load, payload) = size::loadable(elf)?;
    let entry = ElfFile32::<Endianness>::parse(elf)?.entry();
    let header = Header {
        board: Target::MALTA,
        version: Version::OWN,
        load: u32::try_from(load)?,
        entry: u32::try_from(entry)?,
        length: u32::try_from(payload.len())?,
        payload_crc: Crc32::of(&payload),
    };
    let image = [&header.emit()[..], &payload].concat();
    judge(&image)?;
    Ok(image)
}

/// The content of a router's flash as it leaves the factory: `image` in slot A, confirmed, all else erased.
///
/// # Errors
/// Not an image that a router would take.
pub fn flash_image(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    let header = judge(image)?;
    let mut flash = vec![0xff; FLASH_BYTES];
    let place = Layout::MALTA.images[SlotId::A.index()];
    let place = &mut flash[place.start as usize..place.end as usize];
    place[..slot::PAYLOAD_AT].copy_from_slice(&slot::factory_start(&header, 1));
    let payload = &image[firmware::upgrade::image::HEADER_BYTES..];
    place[slot::PAYLOAD_AT..slot::PAYLOAD_AT + payload.len()].copy_from_slice(payload);
    Ok(flash)
}

/// The loader that is built together with a firmware: it lies beside it.
#[must_use]
pub fn loader_of(elf: &Path) -> PathBuf {
    elf.with_file_name("loader")
}

fn judge(image: &[u8]) -> anyhow::Result<Header> {
    let wanted = Wanted {
        board: Target::MALTA,
        payload_bytes_max: slot::payload_bytes_max(slot_bytes(SlotId::A)),
        not_before: None,
    };
    check(image, &wanted).map_err(|fault| anyhow::anyhow!("{fault}"))
}

fn slot_bytes(id: SlotId) -> usize {
    let place = Layout::MALTA.images[id.index()];
    (place.end - place.start) as usize
}

/// Builds the Malta image unless it is up to date, and gives the path of its ELF.
///
/// # Errors
/// The build failed.
pub fn build() -> anyhow::Result<PathBuf> {
    Ok(build_verbose(false)?.elf)
}

/// Builds the Malta image unless it is up to date; `progress` lets cargo's own progress through.
///
/// # Errors
/// There is no compiler for it, or the build failed; the compiler's words are on standard error then.
pub fn build_verbose(progress: bool) -> anyhow::Result<Built> {
    let toolchain =
        toolchain().context("cargo lab doctor --install gets a compiler for the image")?;
    let mut cargo = match toolchain {
        Toolchain::Debian { .. } => {
            let mut cargo = Command::new("/usr/bin/cargo");
            clean_environment(&mut cargo);
            // Debian's is a stable compiler; `-Z build-std` is all that is used of the unstable.
            cargo
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
        Toolchain::Nightly { .. } => {
            let mut cargo = Command::new("cargo");
            clean_environment(&mut cargo);
            cargo.arg("+nightly");
            cargo
        }
    };
    cargo
        .current_dir(workspace())
        .args([
            "build",
            "--locked",
            "--package",
            "firmware",
            "--bin",
            "malta",
            "--bin",
            "loader",
            "--features",
            "malta",
        ])
        .args([
            "--profile",
            "image",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
        ])
        .args(["--message-format", "json"])
        .stdin(Stdio::null());
    if !progress {
        cargo.arg("--quiet");
    }
    let output = cargo
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{}", cargo.get_program().to_string_lossy()))?;
    let messages = Messages::read(&String::from_utf8_lossy(&output.stdout));
    for text in &messages.errors {
        eprint!("{text}");
    }
    if !output.status.success() {
        bail!("the image did not compile");
    }
    Ok(Built {
        elf: messages.elf.context("cargo built no executable")?,
        loader: messages.loader.context("cargo built no loader")?,
        warnings: messages.warnings,
    })
}

/// What cargo's messages, one JSON object a line, say.
#[derive(Debug, Default)]
struct Messages {
    elf: Option<PathBuf>,
    loader: Option<PathBuf>,
    errors: Vec<String>,
    /// Those about the workspace's own packages.
    warnings: Vec<String>,
}

impl Messages {
    fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            if let Some(path) = message["executable"].as_str() {
                let place = match message["target"]["name"].as_str() {
                    Some("loader") => &mut found.loader,
                    Some(_) | None => &mut found.elf,
                };
                *place = Some(PathBuf::from(path));
            }
            let diagnostic = &message["message"];
            let rendered = diagnostic["rendered"].as_str().unwrap_or_default();
            // Without a place in the source it is about the compiler's options, which release 1 forces on us.
            let placed = diagnostic["spans"]
                .as_array()
                .is_some_and(|spans| !spans.is_empty());
            let ours = placed
                && message["package_id"]
                    .as_str()
                    .is_some_and(|id| id.starts_with("path+"));
            match diagnostic["level"].as_str() {
                Some("error" | "error: internal compiler error") => {
                    found.errors.push(rendered.to_owned());
                }
                Some("warning") if ours => found.warnings.push(rendered.to_owned()),
                Some(_) | None => {}
            }
        }
        found
    }
}

/// Writes `flat` beside the ELF; gives its path and SHA-256.
fn write_flat(elf: &Path, flat: &[u8]) -> anyhow::Result<(PathBuf, String)> {
    let path = elf.with_extension("bin");
    std::fs::write(&path, flat).with_context(|| path.display().to_string())?;
    let hash = sha2::Sha256::digest(flat);
    let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((path, hex))
}

/// The root of the workspace: where the lab was compiled, or the nearest one above the current directory.
#[must_use]
pub fn workspace() -> PathBuf {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let here = std::env::current_dir().unwrap_or_default();
    compiled
        .filter(|root| root.join("Cargo.lock").is_file())
        .or_else(|| {
            here.ancestors()
                .find(|root| root.join("firmware/Cargo.toml").is_file())
        })
        .unwrap_or(&here)
        .to_path_buf()
}

/// Finds a compiler that can build the image.
///
/// # Errors
/// None is there, or it lacks the library source, or it is too old.
pub fn toolchain() -> anyhow::Result<Toolchain> {
    let debian = compiler(Command::new("/usr/bin/rustc"), "package rust-web-src");
    if let Ok(version) = debian
        && Path::new("/usr/bin/cargo").is_file()
    {
        return Ok(Toolchain::Debian { version });
    }
    let mut nightly = Command::new("rustc");
    nightly.arg("+nightly");
    let version = compiler(nightly, "rustup component rust-src")?;
    Ok(Toolchain::Nightly { version })
}

/// The version of a compiler that has the source of `core`.
fn compiler(mut rustc: Command, source: &str) -> anyhow::Result<String> {
    clean_environment(&mut rustc);
    let sysroot = line_of(rustc.args(["--print", "sysroot"]))?;
    // A later option wins over an earlier one, so both may be there.
    let version = line_of(rustc.arg("--version"))?;
    let core = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !core.is_file() {
        bail!("{version} lacks the library source ({source})");
    }
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0);
    if minor < RUST_MINOR_MIN {
        bail!("{version} is too old: 1.{RUST_MINOR_MIN} is wanted");
    }
    let words: Vec<&str> = version.split_whitespace().take(2).collect();
    Ok(words.join(" "))
}

/// What a compiler prints when asked for one thing.
fn line_of(rustc: &mut Command) -> anyhow::Result<String> {
    let output = rustc.output().context("no compiler for the image")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.to_owned()),
        Some(_) | None => bail!("no compiler for the image"),
    }
}

/// Removes from a command what an outer `cargo run` and rustup hand down and a cargo of another toolchain must not see.
pub fn clean_environment(command: &mut Command) {
    clean_cargo_environment(command);
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        command.env_remove(name);
    }
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
}

/// Removes from a command what an outer `cargo run` sets about the package it runs; an inner cargo of the same
/// toolchain would take it for a change and build again.
pub fn clean_cargo_environment(command: &mut Command) {
    // `cargo run` puts the host toolchain's libraries in front of everybody's.
    command.env_remove("LD_LIBRARY_PATH");
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let of_the_run = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_CFG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
            || [
                "CARGO",
                "CARGO_CRATE_NAME",
                "CARGO_PRIMARY_PACKAGE",
                "OUT_DIR",
            ]
            .contains(&text);
        if of_the_run || text.starts_with("SMOLTCP_") {
            command.env_remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_and_our_own_warnings_are_read_from_cargos_messages() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "not json\n",
            "{\"package_id\":\"path+file:///w#a@1\",\"message\":{\"level\":\"warning\",\"spans\":[{}],\"rendered\":\"ours\"}}\n",
            "{\"package_id\":\"path+file:///w#a@1\",\"message\":{\"level\":\"warning\",\"spans\":[],\"rendered\":\"option\"}}\n",
            "{\"package_id\":\"registry+x\",\"message\":{\"level\":\"warning\",\"rendered\":\"theirs\"}}\n",
            "{\"package_id\":\"registry+x\",\"message\":{\"level\":\"error\",\"rendered\":\"wrong\"}}\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"malta\"},\"executable\":\"/t/malta\"}\n",
            "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"loader\"},\"executable\":\"/t/loader\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        let found = Messages::read(messages);
        assert_eq!(found.elf, Some(PathBuf::from("/t/malta")));
        assert_eq!(found.loader, Some(PathBuf::from("/t/loader")));
        assert_eq!(found.warnings, ["ours"]);
        assert_eq!(found.errors, ["wrong"]);
    }

    #[test]
    fn variables_of_the_outer_cargo_do_not_reach_the_image_build() {
        let mut command = Command::new("true");
        clean_environment(&mut command);
        let removed: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .collect();
        for name in [
            "RUSTUP_TOOLCHAIN",
            "RUSTFLAGS",
            "LD_LIBRARY_PATH",
            "CARGO_MANIFEST_DIR",
        ] {
            assert!(
                removed.iter().any(|(removed, _)| *removed == name),
                "{name}"
            );
        }
    }
}
