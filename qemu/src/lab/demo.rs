//! The measured download.

use anyhow::{Result, bail};

/// Arguments of `lab demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Downloads one file without and with the neighbour, and compares.
///
/// # Errors
/// Always, until it is written.
pub fn demo(_args: DemoArgs) -> Result<()> {
    bail!("`lab demo` is not written yet")
}
