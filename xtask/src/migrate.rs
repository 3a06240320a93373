use anyhow::Result;

use crate::{cargo, hand_over};

/// Hands everything to the migration binary.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../migration/Cargo.toml");
    let run = ["run", "--quiet", "--manifest-path", manifest, "--"];
    hand_over(cargo().args(run).args(arguments))
}
