//! All tests in one binary, which links only once.
//!
//! `cargo xtask test` runs it on SQLite and on a real PostgreSQL. Run directly, it needs
//! `RUNTRAIL_TEST_POSTGRES_URL`: without it, the cases on PostgreSQL fail; they are never skipped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![expect(
    clippy::print_stderr,
    reason = "a failed test prints the name of its database, which is not dropped"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests act as the host, which may call all of these"
)]
#![expect(clippy::future_not_send, reason = "tests block on their futures")]

/// A database for each test, a manual clock, and small assertions.
#[macro_use]
mod fixture;

/// The contract of `Storage`. Each case is written once and runs on each backend and kind of store.
mod conformance;

/// The SQL of every method against a golden file, and whether it uses an index.
mod queries;

/// Which index each query uses for common and for rare values.
mod plans;

/// Random sequences of calls, compared with a small in-memory model.
mod model;

/// Statistics, compared with a small in-memory model.
mod statistics;

/// What model calls cost.
mod cost;

/// The schema: up, down, concurrently, by script, composed into a host's migrator.
mod migrations;

/// Sharing a host's database: transactions, roles, schemas, poolers.
mod coexistence;

/// The statements of a write, and the settings and errors of the databases.
mod durability;

/// Nothing acknowledged is ever lost: kills, crashes, full disks, dropped futures, lost replies.
mod faults;

/// The `runtrail` command, as its users run it.
mod cli;

/// Agents of other projects, recorded by `runtrail exec --otel`.
mod emitters;

/// Copies from one database to another, equal to the byte.
mod copying;

/// Recording through handles: totals, drops, panics, an unavailable store.
mod recording;

/// Recording the spans of agents.
mod layer;

/// Receiving the spans and logs of agents.
mod telemetry;

/// What the page responds with.
mod web;

/// The page in Chromium.
mod browser;

/// Streams of what others write: other stores and processes, lost servers, kills.
mod watching;

/// 200 real agent runs, written and read back through the public API.
mod real_runs;

/// The names, links, tables and commands in the documents.
mod documents;
