use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use runtrail_test_servers::succeed;

use crate::{api, cargo, packages, test};

/// Invariants of ARCHITECTURE.md: packages, and the dependencies that they must not have.
const FORBIDDEN_DEPENDENCIES: [(&str, &[&str]); 12] = [
    (
        "runtrail-audit",
        &["sea-orm", "sea-query", "sqlx", "tokio", "runtrail-db"],
    ),
    (
        "runtrail-conformance",
        &["sea-orm", "sea-query", "sqlx", "tokio", "runtrail-db"],
    ),
    (
        "runtrail-record",
        &["sea-orm", "sea-query", "sqlx", "runtrail-db"],
    ),
    (
        "runtrail-telemetry",
        &["sea-orm", "sea-query", "sqlx", "tokio", "runtrail-db"],
    ),
    (
        "runtrail-cost",
        &["sea-orm", "sea-query", "sqlx", "tokio", "runtrail-db"],
    ),
    (
        "runtrail-otlp",
        &[
            "sea-orm",
            "sea-query",
            "sqlx",
            "runtrail-db",
            "runtrail-record",
        ],
    ),
    (
        "runtrail-web",
        &[
            "sea-orm",
            "sea-query",
            "sqlx",
            "runtrail-db",
            "runtrail-otlp",
            "runtrail-record",
        ],
    ),
    (
        "runtrail-db",
        &["runtrail-entity", "runtrail-migration", "runtrail-store"],
    ),
    ("runtrail-migration", &["runtrail-entity", "runtrail-store"]),
    ("runtrail-store", &["runtrail-copy", "runtrail"]),
    // With its default features.
    (
        "runtrail",
        &[
            "sqlx-postgres",
            "runtrail-copy",
            "runtrail-cost",
            "axum",
            "hyper",
            "prost",
            "clap",
        ],
    ),
    ("xtask", &["sea-orm", "sqlx", "tokio"]),
];

/// Words that must not occur in `runtrail-db`, which is independent of Runtrail's tables.
const FORBIDDEN_IN_DB: [&str; 3] = ["skill_run", "SkillRun", "run_id"];

/// The crates that a host builds. Each must build with either database and with both.
const HOST_CRATES: [&str; 5] = [
    "runtrail-db",
    "runtrail-migration",
    "runtrail-store",
    "runtrail-copy",
    "runtrail",
];
const DATABASES: [&str; 3] = ["sqlite", "postgres", "sqlite,postgres"];

/// Other combinations of features that must build.
const WITH_FEATURES: [(&str, &str); 3] = [
    ("runtrail-migration", "sqlite,sea-orm-migration"),
    ("runtrail", "sqlite,sea-orm-migration,serde"),
    ("runtrail", "sqlite,copy,cost,otlp,tracing,web"),
];

pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    let announce = |name: &str| eprintln!("== {name} (after {} s)", started.elapsed().as_secs());
    let step = |name: &str, command: &mut Command| {
        announce(name);
        succeed(command)
    };
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
    announce("tests");
    test::run(&test::Options::default())?;
    let doc = ["doc", "--workspace", "--no-deps"];
    step("docs", cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    let either = HOST_CRATES.map(|package| DATABASES.map(|features| (package, features)));
    for (package, features) in either.into_iter().flatten().chain(WITH_FEATURES) {
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
    announce("dependencies between packages");
    for (package, forbidden) in FORBIDDEN_DEPENDENCIES {
        check_dependencies(package, forbidden)?;
    }
    check_db_names_no_table()?;
    announce("crates added to a small host");
    check_added_crates()?;
    announce("public API");
    api::run(&api::Options { check: true })?;
    announce("packages");
    packages::check()?;
    check_licences()?;
    announce("done");
    Ok(())
}

/// How many crates Runtrail may add to a small SQLite host that already uses SeaORM, including its
/// own. The README states this number.
const MAX_ADDED_CRATES: usize = 23;

/// Counts the dependencies of `runtrail` that `sea-orm` with the same features doesn't have.
fn check_added_crates() -> Result<()> {
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
    // The entities depend on nothing but SeaORM.
    let of_sea_orm = packages("runtrail-entity", "sea-orm/sqlx-sqlite")?;
    let ours = packages("runtrail", "sqlite")?;
    let mut added: Vec<&str> = ours.difference(&of_sea_orm).map(String::as_str).collect();
    added.push("runtrail-entity");
    ensure!(
        added.len() <= MAX_ADDED_CRATES,
        "Runtrail adds {} crates to a small host, more than {MAX_ADDED_CRATES}: {}",
        added.len(),
        added.join(", ")
    );
    Ok(())
}

fn check_db_names_no_table() -> Result<()> {
    const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/db/src");

    let mut folders = vec![PathBuf::from(SOURCE)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path)?;
            for word in FORBIDDEN_IN_DB {
                ensure!(
                    !text.contains(word),
                    "{} must not contain {word}: runtrail-db knows none of Runtrail's tables",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

/// Checks the licences, bans and sources of the dependencies if cargo-deny is installed.
fn check_licences() -> Result<()> {
    let is_installed = Command::new("cargo-deny").arg("--version").output().is_ok();
    if !is_installed {
        eprintln!("NOT RUN: cargo deny check, because cargo-deny is not installed");
        return Ok(());
    }
    succeed(cargo().args(["deny", "check", "licenses", "bans", "sources"]))
}

fn check_dependencies(package: &str, forbidden: &[&str]) -> Result<()> {
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
            "{package} must not depend on {package_below}: see ARCHITECTURE.md"
        );
    }
    Ok(())
}
