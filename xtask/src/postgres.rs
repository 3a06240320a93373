//! A PostgreSQL server for one run of the tests.

use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::succeed;

/// Where distributions put what is not on everybody's PATH; `*` is a version.
const FOLDERS: [&str; 6] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/sbin",
];

const PACKAGES: [&str; 2] = ["postgresql", "pgbouncer"];

/// A running server, stopped when this goes.
pub(crate) struct Postgres {
    server: Child,
    url: String,
    folder: Option<TempDir>,
    programs: PathBuf,
}

impl Postgres {
    pub(crate) fn start() -> Result<Self> {
        let programs = folder_of("initdb").context(how_to_install())?;
        let account = Account::for_servers()?;
        let folder = tempfile::Builder::new()
            .prefix("runtrail-postgres-")
            .tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        account.own(folder.path())?;

        let password = format!("{:016x}", RandomState::new().hash_one(process::id()));
        initdb(&programs, &account, folder.path(), &password)?;

        // Another program may take the port between the asking and the starting.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut server = serve(&programs, &account, folder.path(), port)?;
            if is_ready(&mut server, folder.path())? {
                let url = format!("postgres://runtrail:{password}@127.0.0.1:{port}/postgres");
                return Ok(Self {
                    server,
                    url,
                    folder: Some(folder),
                    programs,
                });
            }
        }
        bail!("PostgreSQL did not start:\n{}", log(folder.path()))
    }

    /// With the password: for the environment of the tests, not for the screen.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Keeps the databases, and says how to look at them.
    pub(crate) fn keep(mut self) -> Result<String> {
        let folder = self.folder.take().context("it was kept already")?.keep();
        let start = self.programs.join("postgres");
        Ok(format!(
            "PostgreSQL's databases were kept in {}; to start it again, as the owner of that folder: {} -D {}",
            folder.display(),
            start.display(),
            folder.join("data").display(),
        ))
    }
}

impl Drop for Postgres {
    /// SIGINT asks for a fast shutdown; SIGKILL would leave shared memory behind.
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-INT", &self.server.id().to_string()])
            .status();
        let _ = self.server.wait();
    }
}

/// Makes sure that the programs which the tests start are there.
pub(crate) fn install_what_is_missing(needs_server: bool) -> Result<()> {
    let is_there =
        folder_of("pgbouncer").is_some() && (!needs_server || folder_of("initdb").is_some());
    if is_there {
        return Ok(());
    }
    ensure!(
        is_root() && Path::new("/etc/debian_version").exists(),
        how_to_install()
    );
    eprintln!("installing {}", PACKAGES.join(" and "));
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    succeed(apt().args(["update", "--quiet"]))?;
    succeed(
        apt()
            .args(["install", "--quiet", "--yes", "--no-install-recommends"])
            .args(PACKAGES),
    )
}

fn how_to_install() -> String {
    let is_there = |program: &str| folder_of(program).is_some();
    let command = if cfg!(target_os = "macos") {
        "brew install postgresql pgbouncer"
    } else if is_there("dnf") {
        "sudo dnf install postgresql-server pgbouncer"
    } else {
        "sudo apt-get install postgresql pgbouncer"
    };
    format!("the tests need the server programs of PostgreSQL, and PgBouncer: {command}")
}

/// The folder of a program: on PATH, where `pg_config` says, or where distributions put it.
pub(crate) fn folder_of(program: &str) -> Option<PathBuf> {
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
        // Programs look for the rest of their installation beside their real selves.
        .and_then(|file| fs::canonicalize(file).ok()?.parent().map(Path::to_owned))
}

/// The folders that a pattern with one `*` stands for, the latest version first.
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

/// The account that servers run as: they refuse to run as root.
struct Account(Option<(u32, u32)>);

impl Account {
    fn for_servers() -> Result<Self> {
        if !is_root() {
            return Ok(Self(None));
        }
        let id = |name: &str, flag: &str| -> Option<u32> {
            let output = Command::new("id")
                .args([flag, name])
                .stderr(Stdio::null())
                .output()
                .ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Some((id(name, "-u")?, id(name, "-g")?)))
            .map(|ids| Self(Some(ids)))
            .context("there is neither an account `postgres` nor `nobody` to run PostgreSQL as")
    }

    fn own(&self, path: &Path) -> Result<()> {
        if let Self(Some((user, group))) = self {
            chown(path, Some(*user), Some(*group))?;
        }
        Ok(())
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        // The current folder may be closed to that account.
        command.current_dir(folder).env("LC_ALL", "C");
        if let Self(Some((user, group))) = self {
            command.uid(*user).gid(*group);
        }
        command
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn initdb(programs: &Path, account: &Account, folder: &Path, password: &str) -> Result<()> {
    let password_file = folder.join("password");
    fs::write(&password_file, password)?;
    fs::set_permissions(&password_file, Permissions::from_mode(0o600))?;
    account.own(&password_file)?;

    let data = folder.join("data");
    let make = |locale: &[&str]| -> Result<()> {
        let mut initdb = account.command(&programs.join("initdb"), folder);
        initdb
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(&password_file)
            .args([
                "--username=runtrail",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-sync",
            ])
            .args(locale)
            .stdout(Stdio::null());
        succeed(&mut initdb)
    };
    // Sorting by the rules of a language shows whether a query minds it; not every build can.
    if make(&["--locale-provider=icu", "--icu-locale=en"]).is_err() {
        eprintln!("this PostgreSQL has no ICU: its databases get the locale C instead of English");
        let _ = fs::remove_dir_all(&data);
        make(&["--locale=C"])?;
    }
    fs::remove_file(&password_file)?;
    Ok(())
}

fn serve(programs: &Path, account: &Account, folder: &Path, port: u16) -> Result<Child> {
    let log = File::create(folder.join("log"))?;
    account
        .command(&programs.join("postgres"), folder)
        .arg("-D")
        .arg(folder.join("data"))
        .args([
            "-c",
            &format!("port={port}"),
            "-c",
            "listen_addresses=127.0.0.1",
        ])
        .args(["-c", "unix_socket_directories="])
        // No test cuts the power: what a killed process leaves is safe without waiting for the disk.
        .args(["-c", "fsync=off", "-c", "max_connections=200"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("postgres can't be run")
}

fn is_ready(server: &mut Child, folder: &Path) -> Result<bool> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if server.try_wait()?.is_some() {
            return Ok(false);
        }
        if log(folder).contains("database system is ready to accept connections") {
            return Ok(true);
        }
        sleep(Duration::from_millis(50));
    }
    server.kill()?;
    Ok(false)
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
