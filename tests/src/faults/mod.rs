//! Injects faults into programs and databases, and checks that no acknowledged write is lost.
//!
//! Writers note each acknowledged write in a ledger on disk (`ledger.rs`). After the fault,
//! `sqlite3` or `psql` reads the database (`sql_client.rs`). Every stored row has to match the
//! record that follows from its id (`script.rs`).

// Shared by the cases.

/// How often each fault is injected.
mod counts;
mod ledger;
mod proxy;
mod script;
mod sql_client;
mod writer;

// The faults.

/// Processes that are killed.
mod killed;

/// Owners that are killed, while others sweep.
mod owners;

/// Processes that spend from a budget and are killed, while others sweep.
mod killed_spenders;

/// Callers that spend from one budget at the same time.
mod racing_spenders;

/// Copies that are killed while their source is written to.
mod killed_copies;

/// Receivers of telemetry that are killed while others send.
mod killed_receivers;

/// Futures that are dropped: of the store, and of a host's own transactions.
mod dropped;

/// Concurrent calls about one run: a single order must explain their answers.
mod races;

/// Starts of one run that overtake each other.
mod restarts;

/// Disks that are full, broken or read-only.
mod disks;

/// Many concurrent writers, and locks of other processes.
mod contention;

/// How long a call waits for other calls, and which calls it delays.
mod waiting;

/// A purge alongside writers.
mod purge;

/// Servers that crash, replies that get lost, and failover to a standby.
mod servers;

/// How a store retries transient failures, and how long it waits.
mod retries;

/// Rows that another program has damaged.
mod damage;

/// Hostile values and queries, with equal results on both backends.
mod hostile;

/// Hours of writing, with purges and kills.
mod soak;
