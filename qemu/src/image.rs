//! Builds the image.

/// Arguments of `lab build`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `lab build`.
///
/// # Errors
/// Always, until it is written.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("`lab build` is not written yet")
}

/// Builds the Malta image unless it is up to date, and gives the path of its ELF.
///
/// # Errors
/// The build failed.
pub fn build() -> anyhow::Result<std::path::PathBuf> {
    anyhow::bail!("`lab build` is not written yet")
}
