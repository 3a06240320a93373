use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use runtrail_test_servers::succeed;

use crate::{cargo, test};

/// The invariants of ARCHITECTURE.md: packages, and what they must not depend on.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    ("runtrail-audit", &["sea-orm", "sea-query", "sqlx", "tokio"]),
    ("runtrail-migration", &["runtrail-entity"]),
    ("xtask", &["sea-orm", "sqlx", "tokio"]),
];

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
    test::run(&test::Options::default())?;
    let doc = ["doc", "--workspace", "--no-deps"];
    step("docs", cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    for package in ["runtrail-migration", "runtrail-store"] {
        for features in [
            "sqlite",
            "postgres",
            "sqlite,postgres",
            "sqlite,sea-orm-migration",
        ] {
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
    eprintln!("== directions");
    for (package, forbidden) in FORBIDDEN {
        check_direction(package, forbidden)?;
    }
    eprintln!("== crates of a small host");
    crates_of_a_small_host()?;
    licences()
}

/// The most crates that we add to a small host on SQLite beyond those of SeaORM, our own included; as in the README.
const CRATES_OF_A_SMALL_HOST: usize = 17;

/// The dependencies of `runtrail-store` that `sea-orm` with the same features doesn't have.
fn crates_of_a_small_host() -> Result<()> {
    let packages = |package: &str, features: &str| -> Result<BTreeSet<String>> {
        let mut tree = cargo();
        tree.args(["tree", "--package", package, "--no-default-features"])
            .args(["--features", features, "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{p}"]);
        let output = tree.output().context("cargo can't be run")?;
        ensure!(output.status.success(), "{tree:?} failed");
        let text = String::from_utf8(output.stdout)?;
        let names = text.lines().filter_map(|line| line.split(' ').next());
        Ok(names.map(str::to_owned).collect())
    };
    // The entities need SeaORM and nothing else.
    let of_sea_orm = packages("runtrail-entity", "sea-orm/sqlx-sqlite")?;
    let ours = packages("runtrail-store", "sqlite")?;
    let mut added: Vec<&str> = ours.difference(&of_sea_orm).map(String::as_str).collect();
    added.push("runtrail-entity");
    ensure!(
        added.len() <= CRATES_OF_A_SMALL_HOST,
        "a small host gets {} crates from us, more than {CRATES_OF_A_SMALL_HOST}: {}",
        added.len(),
        added.join(", ")
    );
    Ok(())
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("== {name}");
    succeed(command)
}

/// What the dependencies may bring along, where the tool that knows is installed.
fn licences() -> Result<()> {
    let is_installed = Command::new("cargo-deny").arg("--version").output().is_ok();
    if !is_installed {
        eprintln!("NOT RUN: cargo deny check, since cargo-deny is not installed");
        return Ok(());
    }
    step(
        "licences",
        cargo().args(["deny", "check", "licenses", "bans", "sources"]),
    )
}

fn check_direction(package: &str, forbidden: &[&str]) -> Result<()> {
    let tree = [
        "tree",
        "--package",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
    ];
    let output = cargo().args(tree).output().context("cargo can't be run")?;
    ensure!(
        output.status.success(),
        "cargo tree --package {package} failed"
    );
    let tree = String::from_utf8(output.stdout)?;
    let packages = tree.lines().filter_map(|line| line.split(' ').next());
    for package_below in packages {
        ensure!(
            !forbidden.contains(&package_below),
            "{package} depends on {package_below}"
        );
    }
    Ok(())
}
