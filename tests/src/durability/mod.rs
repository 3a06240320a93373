/// What statements a write consists of.
mod statements;

/// From the first call of a store to its closing.
mod lifecycle;

/// What `tracing` sees of calls and statements.
mod spans;

/// SQLite's settings, on every connection.
mod pragmas;

/// Databases that are busy, full, slow or gone.
mod failures;
