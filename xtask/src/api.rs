//! The public API of each library crate as text, which makes API changes visible in a review.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use runtrail_test_servers::succeed;

use crate::cargo;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The library crates.
pub(crate) const CRATES: [&str; 13] = [
    "runtrail-audit",
    "runtrail-conformance",
    "runtrail-db",
    "runtrail-entity",
    "runtrail-migration",
    "runtrail-store",
    "runtrail-copy",
    "runtrail-cost",
    "runtrail-otlp",
    "runtrail-record",
    "runtrail-telemetry",
    "runtrail-web",
    "runtrail",
];

/// The features that expose most of their API.
const FEATURES: &str = "runtrail/sqlite,runtrail/postgres,runtrail/copy,runtrail/genai-prices,\
    runtrail/otlp,runtrail/sea-orm-migration,runtrail/tracing,runtrail/web";

#[derive(Args)]
pub(crate) struct Options {
    /// Fail if the API differs from the files in `api`, without changing them.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Writes `api/*.txt`, or compares them with the API.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = fs::canonicalize(ROOT)?;
    document(&root)?;
    let mut differing = Vec::new();
    for package in CRATES {
        let api = package_api(&root, package)?;
        let file = root.join("api").join(format!("{package}.txt"));
        if fs::read_to_string(&file).is_ok_and(|recorded| recorded == api) {
            continue;
        }
        if options.check {
            let actual = root.join("target").join(format!("{package}.txt"));
            fs::write(&actual, api)?;
            let mut diff = Command::new("diff");
            // diff exits with 1 if the files differ.
            diff.arg("-u").arg(&file).arg(&actual).status()?;
        } else {
            fs::write(&file, api)?;
            eprintln!("wrote api/{package}.txt");
        }
        differing.push(package);
    }
    ensure!(
        !options.check || differing.is_empty(),
        "the API of {} has changed; run `cargo xtask api` to update api/*.txt",
        differing.join(", ")
    );
    Ok(())
}

/// Writes a description of each crate as JSON.
fn document(root: &Path) -> Result<()> {
    let mut doc = cargo();
    doc.current_dir(root)
        .env("RUSTDOC", rustdoc_with_json(root)?)
        .env("RUSTDOCFLAGS", "-Z unstable-options --output-format json")
        .args(["doc", "--quiet", "--lib", "--no-deps", "--target-dir"])
        .arg(root.join("target"))
        .args(["--no-default-features", "--features", FEATURES])
        .args(CRATES.map(|name| format!("--package={name}")));
    succeed(&mut doc)
}

fn package_api(root: &Path, package: &str) -> Result<String> {
    let name = package.replace('-', "_");
    let json = root.join("target/doc").join(format!("{name}.json"));
    let api = public_api::Builder::from_rustdoc_json(&json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build();
    let api = api.with_context(|| {
        format!("{package}: the crate `public-api` must support this version of rustdoc")
    })?;
    let mut lines: Vec<String> = api.items().map(ToString::to_string).collect();
    // The order of some items depends on a hash table.
    lines.sort();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// Creates a script that lets a stable rustdoc write JSON. It sets RUSTC_BOOTSTRAP only for
/// rustdoc: for cargo, the variable would rebuild most dependencies.
fn rustdoc_with_json(root: &Path) -> Result<PathBuf> {
    let script = root.join("target/rustdoc-json");
    fs::create_dir_all(root.join("target"))?;
    fs::write(
        &script,
        "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n",
    )?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    Ok(script)
}
