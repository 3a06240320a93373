/// The statements that each method sends.
mod statements;

/// From the first call of a store until it is closed.
mod lifecycle;

/// What `tracing` sees of calls and statements.
mod spans;

/// SQLite's settings, on every connection.
mod pragmas;

/// Databases that are busy, full, slow or gone.
mod failures;
