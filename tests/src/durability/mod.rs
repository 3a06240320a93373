/// The statements that each method sends.
mod statements;

/// From the first call of a store until it is closed.
mod lifecycle;

/// What `tracing` sees of calls and statements.
mod spans;

/// Reads of a SQLite file by the store's own connections.
mod direct_reads;

/// Writes to a SQLite file by the store's own connection.
mod direct_writes;

/// How long a test occupies its thread.
mod stalls;

/// SQLite's settings, on every connection.
mod pragmas;

/// Databases that are busy, full, slow or gone.
mod failures;
