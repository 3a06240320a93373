//! The servers that the tests need, a browser, and the packages of the agents that they run. This
//! crate finds or installs them, starts each server in a temporary folder on a free loopback port,
//! and stops it when its handle is dropped.
//!
//! The crate links neither SeaORM nor an async runtime, because `xtask` depends on it.
#![expect(
    clippy::print_stderr,
    reason = "it reports installations, which take a while"
)]

mod account;
mod chromedriver;
mod cluster;
mod emitters;
mod pgbouncer;
mod programs;
mod versions;

pub use chromedriver::{ChromeDriver, has_sandbox, install_browser};
pub use cluster::Cluster;
pub use emitters::{EMITTERS, install_emitter};
pub use pgbouncer::PgBouncer;
pub use programs::install_missing_programs;
pub use versions::install_postgres;

use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Environment variables that configure the tests.
pub mod variables {
    /// The URL of a PostgreSQL server, for a role that may create databases and roles.
    pub const POSTGRES_URL: &str = "RUNTRAIL_TEST_POSTGRES_URL";
    /// The URL of a PgBouncer in front of that server.
    pub const PGBOUNCER_URL: &str = "RUNTRAIL_TEST_PGBOUNCER_URL";
    /// The folder with the PostgreSQL programs to use instead of the installed ones.
    pub const POSTGRES_PROGRAMS: &str = "RUNTRAIL_TEST_POSTGRES_PROGRAMS";
    /// The URL of a ChromeDriver.
    pub const CHROMEDRIVER_URL: &str = "RUNTRAIL_TEST_CHROMEDRIVER_URL";
    /// `short` or `long`, optionally followed by single counts: `long,kills=50`.
    pub const FAULTS: &str = "RUNTRAIL_TEST_FAULTS";
}

/// The ports that servers of tests listen on. They are below those that systems give to clients
/// and to listeners without a fixed port: one of those could take the port of a stopped server
/// that is to start again.
const PORTS: Range<u16> = 15_000..32_000;

/// Calls `start` with a free port until it returns true. It retries because another program may
/// take the port before the server binds it.
fn on_free_port(mut start: impl FnMut(u16) -> Result<bool>) -> Result<u16> {
    let random = RandomState::new();
    let free = (0..1_000_u16)
        .map(|attempt| PORTS.start + (random.hash_one(attempt) % PORTS.len() as u64) as u16)
        .filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    for port in free.take(5) {
        if start(port)? {
            return Ok(port);
        }
    }
    bail!("the server started on none of five free ports")
}

/// Waits until a process accepts connections. Returns false if it has exited.
fn wait_until_listening(process: &mut Child, port: u16) -> Result<bool> {
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        ensure!(
            started.elapsed() < Duration::from_secs(20),
            "the server did not listen within 20 s"
        );
        sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// Runs a command that must succeed. It inherits stdout and stderr unless they are redirected.
///
/// # Errors
///
/// If the command can't be run, or fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("{program} can't be run"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
