use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cargo, succeed, test};

pub(crate) fn run() -> Result<()> {
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    step("lints", cargo().args(clippy))?;
    eprintln!("== tests");
    test::run(&[])?;
    let doc = ["doc", "--workspace", "--no-deps"];
    step("docs", cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    for package in ["runtrail-migration", "runtrail-store"] {
        for features in ["sqlite", "postgres", "sqlite,postgres"] {
            let clippy = [
                "clippy",
                "--package",
                package,
                "--no-default-features",
                "--features",
                features,
            ];
            let deny = ["--", "-D", "warnings"];
            step(
                &format!("{package} with {features}"),
                cargo().args(clippy).args(deny),
            )?;
        }
    }
    eprintln!("== what the port depends on");
    port_has_no_database()
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("== {name}");
    succeed(command)
}

/// `runtrail-audit` is for implementers who want neither SQL nor a runtime.
fn port_has_no_database() -> Result<()> {
    let output = cargo()
        .args([
            "tree",
            "--package",
            "runtrail-audit",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .output()
        .context("cargo can't be run")?;
    ensure!(output.status.success(), "cargo tree failed");
    let tree = String::from_utf8(output.stdout)?;
    for package in ["sea-orm", "sqlx", "tokio"] {
        ensure!(
            !tree.contains(package),
            "runtrail-audit depends on {package}:\n{tree}"
        );
    }
    Ok(())
}
