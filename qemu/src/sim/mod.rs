//! The neighbourhood in virtual time.

/// Arguments of `lab sim`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `lab sim`.
///
/// # Errors
/// Always, until it is written.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("`lab sim` is not written yet")
}
