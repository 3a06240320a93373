use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use runtrail_test_servers::succeed;

use crate::{api, cargo, packages, test};

/// The invariants of ARCHITECTURE.md: packages, and what they must not depend on.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    (
        "runtrail-audit",
        &["sea-orm", "sea-query", "sqlx", "tokio", "runtrail-db"],
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
            "axum",
            "hyper",
            "prost",
            "clap",
        ],
    ),
    ("xtask", &["sea-orm", "sqlx", "tokio"]),
];

/// What no file of `runtrail-db` has in it: it knows no table of ours.
const UNKNOWN_TO_DB: [&str; 3] = ["skill_run", "SkillRun", "run_id"];

/// The crates below a host, each of which has to build with either database and with both.
const OF_A_HOST: [&str; 5] = [
    "runtrail-db",
    "runtrail-migration",
    "runtrail-store",
    "runtrail-copy",
    "runtrail",
];
const DATABASES: [&str; 3] = ["sqlite", "postgres", "sqlite,postgres"];

/// Further features.
const WITH_FEATURES: [(&str, &str); 3] = [
    ("runtrail-migration", "sqlite,sea-orm-migration"),
    ("runtrail", "sqlite,sea-orm-migration,serde"),
    ("runtrail", "sqlite,copy"),
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
    let either = OF_A_HOST.map(|package| DATABASES.map(|features| (package, features)));
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
    eprintln!("== directions");
    for (package, forbidden) in FORBIDDEN {
        check_direction(package, forbidden)?;
    }
    check_what_db_knows()?;
    eprintln!("== crates of a small host");
    crates_of_a_small_host()?;
    eprintln!("== public API");
    api::run(&api::Options { check: true })?;
    eprintln!("== packages");
    packages::check()?;
    licences()
}

/// The most crates that we add to a small host on SQLite beyond those of SeaORM, our own included; as in the README.
const CRATES_OF_A_SMALL_HOST: usize = 19;

/// The dependencies of `runtrail` that `sea-orm` with the same features doesn't have.
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
    let ours = packages("runtrail", "sqlite")?;
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

fn check_what_db_knows() -> Result<()> {
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
            for word in UNKNOWN_TO_DB {
                ensure!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
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
