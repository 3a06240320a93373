use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Result, ensure};

use crate::account::is_root;
use crate::succeed;

/// Folders of programs that distributions don't put on the PATH; `*` is a version.
const FOLDERS: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/sbin",
];

/// The programs that the tests start, and their Debian packages.
const PROGRAMS: [(&str, &str); 4] = [
    ("initdb", "postgresql"),
    ("psql", "postgresql-client"),
    ("pgbouncer", "pgbouncer"),
    ("sqlite3", "sqlite3"),
];

/// Installs the programs that the tests start, if they are missing.
///
/// # Errors
///
/// If some are missing and can't be installed; the error says how to install them.
pub fn install_missing_programs() -> Result<()> {
    install(&PROGRAMS, install_hint)
}

/// Installs the Debian packages of these programs, if they are missing.
pub(crate) fn install(programs: &[(&str, &str)], hint: fn() -> String) -> Result<()> {
    let is_missing = |(program, _): &&(&str, &str)| find(program).is_none();
    let packages: Vec<&str> = programs
        .iter()
        .filter(is_missing)
        .map(|(_, package)| *package)
        .collect();
    if packages.is_empty() {
        return Ok(());
    }
    ensure!(
        is_root() && Path::new("/etc/debian_version").exists(),
        hint()
    );
    eprintln!("installing {}", packages.join(", "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    succeed(apt().args(["update", "--quiet"]))?;
    succeed(
        apt()
            .args(["install", "--quiet", "--yes", "--no-install-recommends"])
            .args(packages),
    )
}

pub(crate) fn install_hint() -> String {
    let is_installed = |program: &str| find(program).is_some();
    let command = if cfg!(target_os = "macos") {
        "brew install postgresql pgbouncer sqlite"
    } else if is_installed("dnf") {
        "sudo dnf install postgresql-server pgbouncer sqlite"
    } else {
        "sudo apt-get install postgresql pgbouncer sqlite3"
    };
    format!(
        "the tests need PostgreSQL's server programs, PgBouncer and the sqlite3 command; install \
        them with: {command}"
    )
}

/// Finds a program on the PATH, in the folder that `pg_config` reports, or where distributions put
/// it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path);
    let configured = Command::new("pg_config")
        .arg("--bindir")
        .stderr(Stdio::null())
        .output()
        .ok();
    let configured = configured
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|folder| PathBuf::from(folder.trim()));
    let usual = FOLDERS.iter().flat_map(|pattern| expand(pattern));
    on_path
        .chain(configured)
        .chain(usual)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        // PostgreSQL's programs look for their installation relative to their real path, not to a
        // link.
        .and_then(|file| fs::canonicalize(file).ok())
}

/// Returns the folders that match a pattern with at most one `*`, in descending order.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let mut names: Vec<String> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(start))
        .collect();
    names.sort();
    names
        .iter()
        .rev()
        .map(|name| PathBuf::from(format!("{parent}/{name}{after}")))
        .collect()
}
