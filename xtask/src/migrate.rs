use anyhow::Result;

use crate::{cargo, run_or_exit};

/// Runs the migration binary with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../migration/Cargo.toml");
    let run = ["run", "--quiet", "--manifest-path", manifest, "--"];
    run_or_exit(cargo().args(run).args(arguments))
}
