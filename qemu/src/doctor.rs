//! What a machine must have, and how to get it.

/// Arguments of `lab doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `lab doctor`.
///
/// # Errors
/// Always, until it is written.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("`lab doctor` is not written yet")
}

/// Gets whatever is missing, as `lab doctor --install` does.
///
/// # Errors
/// What is missing and cannot be got, with the command that would get it.
pub fn ensure() -> anyhow::Result<()> {
    Ok(())
}
