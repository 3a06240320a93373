//! The servers that the tests need: found or installed, started on a free port of loopback in a temporary folder,
//! and stopped when they go.
//!
//! It links neither SeaORM nor a runtime: `xtask` builds it too.
#![expect(clippy::print_stderr, reason = "installing takes a while and says so")]

mod account;
mod cluster;
mod pgbouncer;
mod programs;

pub use cluster::Cluster;
pub use pgbouncer::PgBouncer;
pub use programs::{folder_of, install_what_is_missing};

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A port that nobody uses just now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("{program} can't be run"))?;
    ensure!(status.success(), "{program} failed: {status}");
    Ok(())
}
