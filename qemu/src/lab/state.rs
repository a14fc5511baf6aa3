//! Where a lab lives: `target/lab/NAME`, removed when the lab goes down.
//!
//! Files: `control` (socket), `pid`, `config.json`, `daemon.log`, `image.elf`, `loader.elf`, and of each router `router-X.log`
//! (QEMU's messages), `router-X.defmt` (the second serial line, as it came) and `router-X.flash` (its flash).

use anyhow::{Context, Result, bail};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Name of the control socket in the directory.
pub const CONTROL: &str = "control";

/// Where builds go: `CARGO_TARGET_DIR`, else `target` of this workspace.
pub fn target_directory() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// The directory of a lab.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    name: String,
    path: PathBuf,
}

impl StateDirectory {
    /// The directory of the lab `name`; nothing is created.
    ///
    /// # Errors
    /// Not a name that a directory can have.
    pub fn of(name: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            bail!("`{name}` cannot name a lab; use letters, digits, `-`, `_`");
        }
        let target = target_directory();
        std::fs::create_dir_all(&target)
            .with_context(|| format!("cannot create {}", target.display()))?;
        let target = target.canonicalize().context("the target directory")?;
        Ok(Self {
            name: name.to_owned(),
            path: target.join("lab").join(name),
        })
    }

    /// The lab whose directory is `path`.
    pub fn at(path: &Path) -> Self {
        Self {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            path: path.to_owned(),
        }
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Connects to the daemon, if one runs. A socket's path has about 100 bytes at most, a directory's does not:
    /// the socket is reached through the directory's descriptor.
    ///
    /// # Errors
    /// No lab of this name runs.
    pub fn connect(&self) -> Result<UnixStream> {
        let connect = || -> std::io::Result<UnixStream> {
            let directory = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(nix::libc::O_DIRECTORY)
                .open(&self.path)?;
            UnixStream::connect(format!("/proc/self/fd/{}/{CONTROL}", directory.as_raw_fd()))
        };
        connect().map_err(|_| match self.name.as_str() {
            "default" => anyhow::anyhow!("no lab runs; start one with `cargo lab up`"),
            name => {
                anyhow::anyhow!("no lab `{name}` runs; start it with `cargo lab up --name {name}`")
            }
        })
    }

    /// The daemon's process number, if it wrote one.
    pub fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.file("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Removes the directory, and `target/lab` when it was the last.
    ///
    /// # Errors
    /// A file in it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot remove {}", self.path.display()));
            }
        }
        if let Some(parent) = self.path.parent() {
            // Fails while another lab is in it.
            std::fs::remove_dir(parent).ok();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_inside_the_target_directory() {
        for name in ["", ".", "..", "../x", "a/b", "a b", "\n"] {
            assert!(StateDirectory::of(name).is_err(), "{name:?}");
        }
        let directory = StateDirectory::of("test-1").unwrap();
        assert!(directory.path().ends_with("lab/test-1"));
        assert!(
            format!("{:#}", directory.connect().unwrap_err())
                .contains("cargo lab up --name test-1")
        );
    }
}
