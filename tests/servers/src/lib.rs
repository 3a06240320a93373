//! The servers that the tests need. This crate finds or installs them, starts each in a temporary
//! folder on a free loopback port, and stops it when its handle is dropped.
//!
//! The crate links neither SeaORM nor an async runtime, because `xtask` depends on it.
#![expect(
    clippy::print_stderr,
    reason = "it reports installations, which take a while"
)]

mod account;
mod cluster;
mod pgbouncer;
mod programs;
mod versions;

pub use cluster::Cluster;
pub use pgbouncer::PgBouncer;
pub use programs::install_missing_programs;
pub use versions::install_postgres;

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Environment variables that configure the tests.
pub mod variables {
    /// The URL of a PostgreSQL server, for a role that may create databases and roles.
    pub const POSTGRES_URL: &str = "RUNTRAIL_TEST_POSTGRES_URL";
    /// The URL of a PgBouncer in front of that server.
    pub const PGBOUNCER_URL: &str = "RUNTRAIL_TEST_PGBOUNCER_URL";
    /// The folder with the PostgreSQL programs to use instead of the installed ones.
    pub const POSTGRES_PROGRAMS: &str = "RUNTRAIL_TEST_POSTGRES_PROGRAMS";
    /// `short` or `long`, optionally followed by single counts: `long,kills=50`.
    pub const FAULTS: &str = "RUNTRAIL_TEST_FAULTS";
}

/// Calls `start` with a free port until it returns true. It retries because another program may
/// take the port before the server binds it.
fn on_free_port(mut start: impl FnMut(u16) -> Result<bool>) -> Result<u16> {
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if start(port)? {
            return Ok(port);
        }
    }
    bail!("the server exited on each of five ports")
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
