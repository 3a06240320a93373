use std::env;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::account::ServerAccount;
use crate::programs::{find, install_hint};
use crate::{on_free_port, succeed, variables};

const USER: &str = "runtrail";

/// Linux's file system in memory. There, creating a database takes a quarter of the time.
const MEMORY: &str = "/dev/shm";

/// A PostgreSQL server with its own data folder. Dropping it stops the server and deletes the
/// folder, unless [`keep`](Self::keep) was called.
pub struct Cluster {
    programs: PathBuf,
    account: ServerAccount,
    folder: TempDir,
    password: String,
    settings: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl Cluster {
    /// Creates and starts a new server with these settings (`name=value`).
    ///
    /// With `fsync=off`, its databases needn't survive a power cut, so they are kept in memory if
    /// there is room. Passwords are checked by SCRAM, and with `password_encryption=md5` by MD5.
    ///
    /// # Errors
    ///
    /// If PostgreSQL isn't installed or doesn't start; the latter error contains the server's log.
    pub fn start(settings: &[&str]) -> Result<Self> {
        let programs = match env::var_os(variables::POSTGRES_PROGRAMS) {
            Some(folder) => folder.into(),
            None => installed()?,
        };
        Self::start_from(&programs, settings)
    }

    /// Like [`start`](Self::start), with the programs in this folder.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_from(programs: &Path, settings: &[&str]) -> Result<Self> {
        let password = format!("{:016x}", RandomState::new().hash_one(process::id()));
        let mut cluster = Self::in_new_folder(programs, password, settings)?;
        cluster.initdb()?;
        cluster.serve_on_free_port()?;
        Ok(cluster)
    }

    /// Starts a standby that follows this server by streaming replication. This restarts the
    /// server, which must have no tablespaces.
    ///
    /// The standby starts from a copy of the stopped server's files, because not every build
    /// includes `pg_basebackup`.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), or if the server isn't running.
    pub fn start_standby(&mut self) -> Result<Self> {
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let mut standby = Self::in_new_folder(&self.programs, self.password.clone(), &settings)?;
        self.crash()?;
        let mut copy = self.account.command(Path::new("cp"), self.folder.path());
        succeed(copy.arg("-a").arg(self.data()).arg(standby.data()))?;
        self.start_again()?;
        let primary = format!(
            "primary_conninfo = 'host=127.0.0.1 port={} user={USER} password={}'\n",
            self.port, self.password
        );
        let configuration = standby.data().join("postgresql.auto.conf");
        self.account.write_secret(&configuration, &primary)?;
        let signal = standby.data().join("standby.signal");
        self.account.write_secret(&signal, "")?;
        standby.serve_on_free_port()?;
        Ok(standby)
    }

    /// The URL of the database `postgres`, with the password, for a superuser.
    pub fn url(&self) -> String {
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/postgres",
            self.password, self.port
        )
    }

    /// Stops the server immediately, like a crash: it must recover at the next start.
    ///
    /// # Errors
    ///
    /// If the server isn't running.
    pub fn crash(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server isn't running")?;
        // An immediate shutdown. SIGKILL would leave its children and shared memory behind.
        stop(&mut server, "QUIT")
    }

    /// Starts the stopped server on the same port, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it doesn't start.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server is already running");
        ensure!(self.serve()?, "PostgreSQL did not start:\n{}", self.log());
        Ok(())
    }

    /// Suspends all processes of the server, like a host that has run out of memory: connections
    /// stay open, the kernel accepts new ones, and nothing answers.
    ///
    /// # Errors
    ///
    /// If it isn't running.
    pub fn freeze(&self) -> Result<()> {
        // Suspend the main process first, so it starts no others.
        self.signal_all("STOP")
    }

    /// Resumes a frozen server.
    ///
    /// # Errors
    ///
    /// If it isn't running.
    pub fn thaw(&self) -> Result<()> {
        self.signal_all("CONT")
    }

    fn signal_all(&self, signal: &str) -> Result<()> {
        let server = self
            .server
            .as_ref()
            .context("the server isn't running")?
            .id();
        let signal = format!("-{signal}");
        succeed(Command::new("kill").args([&signal, &server.to_string()]))?;
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children"))?;
        let mut kill = Command::new("kill");
        // A process may have ended in the meantime.
        kill.arg(&signal)
            .args(children.split_whitespace())
            .stderr(Stdio::null())
            .status()?;
        Ok(())
    }

    /// Promotes a standby to primary, and waits until it is promoted.
    ///
    /// # Errors
    ///
    /// If it can't be promoted.
    pub fn promote(&self) -> Result<()> {
        let mut promote = self.command("pg_ctl")?;
        promote
            .args(["promote", "--silent", "--wait", "--pgdata"])
            .arg(self.data());
        succeed(&mut promote)
    }

    /// Stops the server but keeps its databases. Returns instructions to start it again.
    pub fn keep(mut self) -> String {
        self.folder.disable_cleanup(true);
        format!(
            "PostgreSQL's databases were kept in {}; to start it again, run as the owner of that \
            folder: {} -D {}",
            self.folder.path().display(),
            self.programs.join("postgres").display(),
            self.data().display(),
        )
    }

    fn in_new_folder(programs: &Path, password: String, settings: &[&str]) -> Result<Self> {
        let account = ServerAccount::choose()?;
        let parent = match settings.contains(&"fsync=off") && has_room(MEMORY) {
            true => MEMORY.into(),
            false => env::temp_dir(),
        };
        Ok(Self {
            programs: programs.to_owned(),
            folder: account.new_folder(&parent, "runtrail-postgres-")?,
            account,
            password,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            port: 0,
            server: None,
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut path = self.programs.join(program);
        if !path.exists() {
            path = find(program).with_context(install_hint)?;
        }
        Ok(self.account.command(&path, self.folder.path()))
    }

    fn initdb(&self) -> Result<()> {
        let password_file = self.folder.path().join("password");
        self.account.write_secret(&password_file, &self.password)?;
        let mut settings = self.settings.iter();
        let authentication = match settings.any(|setting| setting == "password_encryption=md5") {
            true => "md5",
            false => "scram-sha-256",
        };
        let run_initdb = |locale: &[&str]| -> Result<()> {
            let mut initdb = self.command("initdb")?;
            initdb
                .arg("--pgdata")
                .arg(self.data())
                .arg("--pwfile")
                .arg(&password_file)
                .arg(format!("--username={USER}"))
                .arg(format!("--auth={authentication}"))
                .args(["--encoding=UTF8", "--no-sync"])
                .args(locale)
                .stdout(Stdio::null());
            succeed(&mut initdb)
        };
        // A linguistic sort order reveals queries that depend on byte order; not every build has
        // ICU.
        if run_initdb(&["--locale-provider=icu", "--icu-locale=en"]).is_err() {
            eprintln!(
                "this PostgreSQL has no ICU: its databases use the locale C instead of English"
            );
            let _ = fs::remove_dir_all(self.data());
            run_initdb(&["--locale=C"])?;
        }
        fs::remove_file(&password_file)?;
        Ok(())
    }

    fn serve_on_free_port(&mut self) -> Result<()> {
        let started = on_free_port(|port| {
            self.port = port;
            self.serve()
        });
        started.with_context(|| format!("PostgreSQL did not start:\n{}", self.log()))?;
        Ok(())
    }

    /// Starts the server. Returns true once it accepts connections, and false if it has exited.
    fn serve(&mut self) -> Result<bool> {
        let log = File::create(self.folder.path().join("log"))?;
        let mut command = self.command("postgres")?;
        command
            .arg("-D")
            .arg(self.data())
            .args(["-c", &format!("port={}", self.port)])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut server = command.spawn().context("postgres can't be run")?;

        let begun = Instant::now();
        // A standby logs "... accept read-only connections".
        while !self.log().contains("database system is ready to accept") {
            if server.try_wait()?.is_some() {
                return Ok(false);
            }
            if begun.elapsed() > Duration::from_secs(60) {
                stop(&mut server, "QUIT")?;
                bail!("PostgreSQL was not ready within 60 s:\n{}", self.log());
            }
            sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
        Ok(true)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A case that has failed may leave processes suspended, which would never stop.
        let _ = self.thaw();
        if let Some(server) = &mut self.server {
            // A fast shutdown.
            let _ = stop(server, "INT");
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Whether a file system has room for the databases of a whole run of the tests.
fn has_room(folder: &str) -> bool {
    const MIN_KIBIBYTES: u64 = 4 << 20;

    let df = Command::new("df")
        .args(["-P", "-k", folder])
        .stderr(Stdio::null())
        .output();
    let text = df.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let available = text.ok().and_then(|text| {
        let file_system = text.lines().nth(1)?;
        file_system.split_whitespace().nth(3)?.parse().ok()
    });
    available.is_some_and(|available: u64| available >= MIN_KIBIBYTES)
}

/// Returns the folder of the installed server programs.
fn installed() -> Result<PathBuf> {
    let initdb = find("initdb").with_context(install_hint)?;
    let programs = initdb.parent().context("initdb is not in a folder")?;
    Ok(programs.to_owned())
}

/// Stops a server by a signal, and waits until it has ended. Kills it after a minute.
fn stop(server: &mut Child, signal: &str) -> Result<()> {
    succeed(Command::new("kill").args([&format!("-{signal}"), &server.id().to_string()]))?;
    let begun = Instant::now();
    while server.try_wait()?.is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            server.kill()?;
            server.wait()?;
            bail!("PostgreSQL did not stop within 60 s");
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
