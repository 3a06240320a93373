use std::process::exit;

use anyhow::{Context, Result};

/// Hands everything to the migration binary, and on its exit code.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../migration/Cargo.toml");
    let status = super::cargo()
        .args(["run", "--quiet", "--manifest-path", manifest, "--"])
        .args(arguments)
        .status()
        .context("cargo can't be run")?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said itself what was wrong.
        code => exit(code.unwrap_or(1)),
    }
}
