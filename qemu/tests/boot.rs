//! The end-to-end scenarios as a test of cargo: `cargo test -p qemu --features end-to-end --test boot [FILTER]`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let results = lab::e2e::run(Path::new(env!("CARGO_BIN_EXE_lab")), filter.as_deref());
    println!("{} passed, {} failed", results.passed, results.failed.len());
    if results.passed == 0 && results.failed.is_empty() {
        println!(
            "no scenario is called {}",
            filter.as_deref().unwrap_or_default()
        );
        ExitCode::FAILURE
    } else if results.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
