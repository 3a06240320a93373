//! Checks what would be published: the package of each crate, and the facade in a host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use runtrail_test_servers::succeed;

use crate::api::CRATES;
use crate::cargo;

/// The crate that has no library.
const COMMAND: &str = "runtrail-cli";

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Dependency settings with which a host may use the facade.
const FEATURES: [&str; 3] = [
    "features = []",
    r#"default-features = false, features = ["postgres"]"#,
    r#"features = ["postgres"]"#,
];

/// Packages every crate, which must cause no warnings, and builds an empty host with the packaged
/// facade.
pub(crate) fn check() -> Result<()> {
    let root = fs::canonicalize(ROOT)?;
    let target = root.join("target");
    let mut package = cargo();
    package
        .current_dir(&root)
        .args(["package", "--no-verify", "--allow-dirty", "--target-dir"])
        .arg(&target)
        .args(published().map(|name| format!("--package={name}")));
    let output = package.output().context("cargo can't be run")?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{package:?} failed:\n{printed}");
    ensure!(!printed.contains("warning:"), "{package:?}:\n{printed}");

    let folder = target.join("packaged");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let host = folder.join("host");
    fs::create_dir_all(host.join("src"))?;
    let unpacked = published()
        .map(|name| unpack(name, &target, &folder))
        .collect::<Result<Vec<_>>>()?;
    let source = "//! A host.\n\
        /// Opens a history.\n\
        pub async fn open(url: &str) -> runtrail::Result<runtrail::AuditStore> {\n    \
            runtrail::AuditStore::connect(url).await\n\
        }\n";
    fs::write(host.join("src/lib.rs"), source)?;
    for features in FEATURES {
        fs::write(host.join("Cargo.toml"), manifest(features, &unpacked))?;
        // Use the versions of the workspace.
        fs::copy(root.join("Cargo.lock"), host.join("Cargo.lock"))?;
        eprintln!("== the packaged facade with {features}");
        let mut check = cargo();
        check
            .current_dir(&host)
            .args(["check", "--quiet", "--target-dir"])
            .arg(&target);
        succeed(&mut check)?;
    }
    Ok(())
}

fn published() -> impl Iterator<Item = &'static str> {
    CRATES.into_iter().chain([COMMAND])
}

fn unpack(name: &'static str, target: &Path, folder: &Path) -> Result<(&'static str, PathBuf)> {
    let package = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
    let mut tar = Command::new("tar");
    tar.arg("-xzf")
        .arg(target.join("package").join(format!("{package}.crate")))
        .arg("-C")
        .arg(folder);
    succeed(&mut tar)?;
    Ok((name, folder.join(package)))
}

fn manifest(features: &str, unpacked: &[(&str, PathBuf)]) -> String {
    let patches: String = unpacked
        .iter()
        .map(|(name, path)| format!("{name} = {{ path = {:?} }}\n", path.display().to_string()))
        .collect();
    format!(
        "[package]\nname = \"host\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nruntrail = {{ version = \"*\", {features} }}\n\n\
         [workspace]\n\n[patch.crates-io]\n{patches}"
    )
}
