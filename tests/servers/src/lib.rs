//! The servers that the tests need: found or installed, started on a free port of loopback in a temporary folder,
//! and stopped when they go.
//!
//! It links neither SeaORM nor a runtime: `xtask` builds it too.
#![expect(clippy::print_stderr, reason = "installing takes a while and says so")]

mod account;
mod cluster;
mod pgbouncer;
mod programs;
mod versions;

pub use cluster::Cluster;
pub use pgbouncer::PgBouncer;
pub use programs::install_what_is_missing;
pub use versions::install_postgres;

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The environment variables by which the tests find their servers, and how much of each fault they are to make.
pub mod variables {
    /// The URL of a PostgreSQL on which databases and roles may be created.
    pub const POSTGRES_URL: &str = "RUNTRAIL_TEST_POSTGRES_URL";
    /// The URL of a PgBouncer in front of it.
    pub const PGBOUNCER_URL: &str = "RUNTRAIL_TEST_PGBOUNCER_URL";
    /// The folder of the server programs to use instead of the installed ones.
    pub const POSTGRES_PROGRAMS: &str = "RUNTRAIL_TEST_POSTGRES_PROGRAMS";
    /// `short` or `long`, and single counts behind it: `long,kills=50`.
    pub const FAULTS: &str = "RUNTRAIL_TEST_FAULTS";
}

/// Starts something on a port that is free, until it says that it listens there: another program may take the port
/// between the asking and the starting.
fn on_free_port(mut start: impl FnMut(u16) -> Result<bool>) -> Result<u16> {
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if start(port)? {
            return Ok(port);
        }
    }
    bail!("it ended by itself on five ports")
}

/// Runs a command to its end, with its output going where ours goes.
///
/// # Errors
///
/// If it can't be run, or fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("{program} can't be run"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
