use anyhow::Result;

use crate::{cargo, hand_over};

/// Hands everything to the benchmarks.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let run = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "runtrail-bench",
        "--",
    ];
    hand_over(cargo().args(run).args(arguments))
}
