//! All checks that CI runs, in order.

/// Arguments of `lab test`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `lab test`.
///
/// # Errors
/// Always, until it is written.
pub fn run(_args: Args) -> anyhow::Result<()> {
    anyhow::bail!("`lab test` is not written yet")
}
