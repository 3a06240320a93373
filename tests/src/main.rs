//! Everything that is tested, as one binary, so that it links once.
//!
//! `cargo xtask test` runs it on SQLite and on a real PostgreSQL. Run by itself it wants
//! `RUNTRAIL_TEST_POSTGRES_URL`; without it the cases that need a PostgreSQL fail, rather than pass unseen.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::print_stderr,
    reason = "a failed test names the database it has kept"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests play the host, who may do all of this"
)]
#![expect(clippy::future_not_send, reason = "tests block on their futures")]

/// Databases made for one test, a clock that stands still, and small assertions.
#[macro_use]
mod fixture;

/// What every implementation of `Storage` does: each case once, run on each backend and door.
mod conformance;

/// The SQL of every method, against a file, and its way through the indexes.
mod queries;

/// Which index each query takes when there is much of one kind and little of another.
mod plans;

/// Random sequences of calls against a small model in memory.
mod model;

/// The schema: up, down, many at once, by hand, composed into a host's migrator.
mod migrations;

/// Living in somebody else's database: transactions, roles, schemas, poolers.
mod coexistence;

/// What a write consists of, and the settings and errors of the databases beneath.
mod durability;

/// Nothing acknowledged is ever lost: kills, crashes, full disks, dropped futures, lost replies.
mod faults;

/// The `runtrail` command, as its users run it.
mod cli;

/// From one database to another, the same to the byte.
mod copying;

/// 200 real agent runs, through the public API and back.
mod real_runs;

/// What the documents say, as far as a program can check it.
mod documents;
