use anyhow::Result;

use crate::{cargo, run_or_exit};

/// Runs the benchmarks with these arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--peers") {
        let build = ["build", "--quiet", "--release", "--package", "runtrail-cli"];
        run_or_exit(cargo().args(build))?;
    }
    let run = [
        "run",
        "--quiet",
        "--release",
        "--package",
        "runtrail-bench",
        "--",
    ];
    run_or_exit(cargo().args(run).args(arguments))
}
