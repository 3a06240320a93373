//! What may happen to a program and its database, and that nothing acknowledged is lost by it.
//!
//! Writers write down on the disk what was acknowledged (`ledger.rs`), the fault comes, and then `sqlite3` or `psql`
//! say what is stored (`outside.rs`). Everything that is stored has to be what its id says (`script.rs`).

// What the cases work with.

/// How much of each fault.
mod counts;
mod ledger;
mod outside;
mod proxy;
mod script;
mod writer;

// The faults.

/// Processes that are killed.
mod killed;

/// Copies that are killed while their source is written to.
mod copied;

/// Futures that are dropped: of the store, and of a host's own transactions.
mod dropped;

/// Concurrent calls about one run: one order must explain their answers.
mod races;

/// Starts of one run that overtake each other.
mod restarts;

/// Disks that are full, broken or read-only.
mod disks;

/// Many writers at once, and locks that others hold.
mod contention;

/// How long a call waits for others, and which calls it delays.
mod waiting;

/// A purge beside writers.
mod purge;

/// Servers that crash, replies that are lost, standbys that take over.
mod servers;

/// What a store does about failures that pass, and how long it waits.
mod retries;

/// Rows that somebody else has damaged.
mod damage;

/// Values and queries that nobody means well with, the same on both backends.
mod hostile;

/// Hours of writing, with a bit of everything.
mod soak;
